"""Keys written into a config's YAML: every other character stays, or nothing is changed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import BASE, Project

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.parsing import parse
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.writing import Keys, with_keys, write_keys

KEYS: Keys = {"teacher": {"embedding_learning_rate": 0.02, "epochs": 3}, "student": {"epochs": 2}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "a: 1\nteacher:   # mine\n  # why\n  model: ple  # it is\nb: 2\n",
            "a: 1\nteacher:   # mine\n  embedding_learning_rate: 0.02\n  epochs: 3\n"
            "  # why\n  model: ple  # it is\nb: 2\nstudent:\n  epochs: 2\n",
            id="below its line, or at the end",
        ),
        pytest.param(
            "student:\n    epochs: 7\nteacher:\n    epochs: 1",
            "student:\n    epochs: 7\nteacher:\n    embedding_learning_rate: 0.02\n    epochs: 1",
            id="what is written stays, indents are the section's",
        ),
        pytest.param(
            "teacher: {}\nstudent: {dim: 3}  # c\n",
            "teacher: {embedding_learning_rate: 0.02, epochs: 3}\nstudent: {epochs: 2, dim: 3}  # c\n",
            id="braces",
        ),
        pytest.param(
            "a: 1\r\nstudent:\r\n  x: [1,\r\n  2]\r\nteacher: {epochs: 1, embedding_learning_rate: 1}",
            "a: 1\r\nstudent:\r\n  epochs: 2\r\n  x: [1,\r\n  2]\r\nteacher: {epochs: 1, embedding_learning_rate: 1}",
            id="line ends",
        ),
        pytest.param(
            " a: 1\n teacher:\n  epochs: 1",
            " a: 1\n teacher:\n  embedding_learning_rate: 0.02\n  epochs: 1\n student:\n   epochs: 2\n",
            id="no line end, indented",
        ),
        pytest.param(
            "teacher:\nb: é\n",
            "teacher:\n  embedding_learning_rate: 0.02\n  epochs: 3\nb: é\nstudent:\n  epochs: 2\n",
            id="an empty section",
        ),
    ],
)
def test_where_keys_are_put(before: str, after: str) -> None:
    found, written = with_keys(before, KEYS)
    assert found == after
    assert with_keys(found, KEYS) == (found, []), "again, nothing"
    raw: Any = parse(before, "")[0]
    new = [f"{s}.{k}: {v}" for s, some in KEYS.items() for k, v in some.items() if k not in (raw.get(s) or {})]
    assert written == new


@pytest.mark.parametrize(
    "text",
    ["t: &t\n  x: 1\nteacher: *t\n", "{a: 1}\n", "a: 1\n...\n", "teacher: &t {a: 1}\nstudent: *t\n"],
)
def test_where_they_cannot_be_put_a_person_is_told(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.yaml: its keys cannot be written") as e:
        with_keys(text, KEYS, "a.yaml")
    assert e.value.code == Exit.CONFIG
    assert e.value.hint == "write by hand: teacher: {embedding_learning_rate: 0.02, epochs: 3}; student: {epochs: 2}"
    with pytest.raises(UserError, match="expected keys and values"):
        with_keys("- a\n", KEYS)


names = st.text("abcxyz_", min_size=1, max_size=4)
numbers = st.integers(0, 99) | st.floats(1e-9, 1e9, allow_nan=False)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)  # a NUL is refused
scalars = numbers | st.booleans() | st.none() | texts
sections = st.dictionaries(names, scalars | st.lists(scalars, max_size=3), max_size=4)
configs = st.dictionaries(st.sampled_from(["teacher", "student", "data", "x"]), sections, min_size=1)


@settings(deadline=None)
@given(config=configs, keys=st.dictionaries(st.sampled_from(["teacher", "student"]), st.dictionaries(names, numbers)),
       flow=st.sampled_from([None, False]), indent=st.integers(2, 5), comment=st.booleans())  # fmt: skip
def test_what_is_read_is_what_was_there_and_what_was_written(
    config: dict[str, Any], keys: Keys, flow: bool | None, indent: int, comment: bool
) -> None:
    text = yaml.safe_dump(config, default_flow_style=flow, indent=indent, allow_unicode=True)
    if comment:
        text = f"# head\n{text}# tail: 1\n"
    before = parse(text, "")[0]
    if flow is None and text.lstrip("# head\n").startswith("{"):
        return
    found, written = with_keys(text, keys)
    expected = {s: keys.get(s, {}) | before.get(s, {}) for s in before | {s: 0 for s, some in keys.items() if some}}
    assert parse(found, "")[0] == expected
    left = iter(found)
    assert all(character in left for character in text), "nothing is taken away"
    assert bool(written) == (found != text)
    assert with_keys(found, keys) == (found, [])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path, tmp_path, config=BASE)


def test_a_file_is_replaced_whole_and_stays_what_it_was(project: Project) -> None:
    project.file.chmod(0o640)
    link = project.home / "link.yaml"
    link.symlink_to(project.file)
    written = write_keys(link, {"teacher": {"epochs": 9, "unknown_share": 0.2}})
    assert written == ["teacher.unknown_share: 0.2"], "what is written stays"
    assert link.is_symlink() and stat.S_IMODE(project.file.stat().st_mode) == 0o640
    config = load_config(link)
    assert (config.teacher.unknown_share, config.teacher.epochs) == (0.2, BASE["teacher"]["epochs"])
    before = project.file.stat()
    assert write_keys(link, {"teacher": {"epochs": 9}}) == [] and project.file.stat() == before
    assert sorted(p.name for p in project.home.iterdir()) == ["config.yaml", "link.yaml"]


def test_nothing_changes_where_the_result_is_no_config(project: Project) -> None:
    before = project.file.read_bytes()
    with pytest.raises(UserError, match=r"config\.yaml:\d+: teacher\.unknown_share") as e:
        write_keys(project.file, {"teacher": {"unknown_share": 7}})
    assert e.value.code == Exit.CONFIG and f"{project.file}:" in e.value.message
    assert project.file.read_bytes() == before and len(list(project.home.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match="Permission denied") as e:
        write_keys(project.file, {"teacher": {"unknown_share": 0.2}})
    assert e.value.code == Exit.IO and len(list(project.home.iterdir())) == 1
