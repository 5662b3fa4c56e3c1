"""The site builds without a warning and loads nothing from elsewhere; its reference is that of the code; what its pages
show runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from dmtl_cli.cli.main import execute
from dmtl_cli.config.reading import load_config
from dmtl_cli.evaluate.settings import read_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = ROOT / "scripts/site/mkdocs.yml"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text()
    return [code for name, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if name == language]


def dmtl(command: str) -> str:
    """What a command of a page prints; it must succeed and tell of no mistake."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = execute(shlex.split(command)[1:])
    assert (code, err.getvalue()) == (0, ""), f"{command}: {err.getvalue()}"
    return out.getvalue()


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        import reference

        return reference


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(SITE), "-d", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    loaded = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//|<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="?(?:https?:)?//|url\(["']?(?:https?:)?//"""
    )
    pages = [*built.rglob("*.html"), *built.rglob("*.css")]
    assert len([p for p in pages if p.name == "index.html"]) >= 18
    assert [str(p) for p in pages if loaded.search(p.read_text())] == []


def test_every_page_is_in_the_navigation(built: Path) -> None:
    named = set(re.findall(r": (\w+\.md)$", SITE.read_text(), re.M))
    assert {p.name for p in DOCS.glob("*.md")} == named


def test_lists_tables_and_links_are_those_of_the_code_host(built: Path) -> None:
    page = (built / "operations/index.html").read_text()
    assert "<li>Is the log wrong" in page, "a list that follows a paragraph at once"
    assert "<code>scripts/cron</code>" in page and 'href="../scripts' not in page, "what is no page is no link"
    assert (built / "quickstart.ipynb").is_file() and (built / "config.schema.json").is_file()


def test_a_link_to_a_file_that_is_gone_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE.parent)
        import hooks
    assert hooks.without_outside_links("[a](../README.md), [b](method.md)") == "`README.md`, [b](method.md)"
    with pytest.raises(FileNotFoundError):
        hooks.without_outside_links("[a](../gone.md)")
    assert hooks.separated("text\n- a\n- b\n```\nx\n- y\n```") == "text\n\n- a\n- b\n```\nx\n- y\n```\n"


# -- the reference -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["config.md", "config.schema.json", "cli.md", "exit_codes.md"])
def test_the_reference_is_that_of_the_code(page: str, reference: ModuleType) -> None:
    assert (DOCS / page).read_text() == reference.PAGES[page](), "run: python scripts/reference.py"


def test_the_schema_takes_what_dmtl_takes_and_little_else(reference: ModuleType) -> None:
    schema = json.loads((DOCS / "config.schema.json").read_text())
    valid = jsonschema.Draft202012Validator(schema)
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        config: dict[str, Any] = yaml.safe_load(file.read_text())
        assert [e.message for e in valid.iter_errors(config)] == [], file
        for wrong in ({"seeed": 1}, {"seed": -1}, {"features": "all"}, {"teacher": {"model": "moe"}}, {"data": {}}):
            assert not valid.is_valid(config | wrong), wrong
        assert valid.is_valid(config | {"features": "auto", "max_memory": "8GiB"})
    keys = [key for part in (schema, *schema["$defs"].values()) for key in part["properties"].values()]
    assert len(keys) > 100 and [key for key in keys if not key.get("description")] == []


# -- what pages show ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands of Get started have run."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "tiny.yaml").write_text(blocks("index.md", "yaml")[0])
    with contextlib.chdir(folder):
        said = [dmtl(line) for block in blocks("index.md", "sh") for line in block.splitlines()]
    _, check, *_, status, best = said
    assert re.search(r"1,\d\d\d rows of \d+ users and \d+ items", check), check
    assert "served: work/tiny/export/day=2026-01-02" in status and len(best.splitlines()) == 5
    return folder


def test_profiles_and_exposure(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    build, path, export = (line for block in blocks("profiles.md", "sh") for line in block.splitlines())
    dmtl(build)
    assert (Path(dmtl(path).strip()) / "users.parquet").is_file()
    dmtl(export)
    made = Path(dmtl("dmtl path export --config tiny.yaml").strip())
    assert json.loads((made / "features.json").read_text())["kappa"] == 0.3
    features = yaml.safe_load(blocks("profiles.md", "yaml")[0])["features"]
    (tiny / "own.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(Path("tiny.yaml").read_text()) | {"features": features})
    )
    assert "recent_reads" in dmtl("dmtl check --config own.yaml --day 2026-01-02")


def test_metrics_are_there(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    kinds = (DOCS / "metrics.md").read_text().split("| question | metric of a stage |")
    assert len(kinds) == 2
    measured, *stages = (
        json.loads((Path(dmtl(f"dmtl path {stage} --config tiny.yaml").strip()) / "manifest.json").read_text())[
            "metrics"
        ]
        for stage in ("evaluation", "teacher", "student", "export")
    )
    made = {name for of in stages for name in of}
    for text, known in ((kinds[0], measured.keys()), (kinds[1], made)):
        named = [
            n for row in re.findall(r"^\| [^|]*\? \|(.*)\|.*\|$", text, re.M) for n in re.findall(r"`([^`]+)`", row)
        ]
        assert len(named) > 5 and [n for n in named if n not in known] == []


def test_settings_to_choose_from_are_configs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    Path("try.yaml").write_text(blocks("choose.md", "yaml")[0])
    settings = read_settings(Path("try.yaml"))
    assert {f"`{name}`" for name in settings} == set(re.findall(r"\| (`\w+`) \|", (DOCS / "choose.md").read_text()))
    for overrides in settings.values():
        load_config("tiny.yaml", overrides)


def atomic(folder: Path) -> None:
    """RecBole's atomic files of a tiny log."""
    day = 978_220_800  # 2000-12-31
    rows = [f"u{k % 7}\ti{k % 5}\t{k % 5 + 1}.0\t{day + 60 * k}" for k in range(60)]
    (folder / "ml.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]))
    users = [f"u{k}\t{20 + k}\tF" for k in range(7)]
    (folder / "ml.user").write_text("\n".join(["user_id:token\tage:token\tgender:token", *users]))
    items = [f'i{k}\tA "Story" {k}\t1995\tComedy Drama' for k in range(5)]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq"
    (folder / "ml.item").write_text("\n".join([header, *items]))


def ratings(folder: Path) -> None:
    """A CSV as torch-rechub's sample of MovieLens has it."""
    day = 978_220_800
    rows = [f"{k % 7},{k % 5},{k % 5 + 1},{day + 60 * k},F,{k % 7},3,48067,Comedy|Drama" for k in range(60)]
    header = "user_id,movie_id,rating,timestamp,gender,age,occupation,zip,genres"
    (folder / "ml-1m_sample.csv").write_text("\n".join([header, *rows]))


@pytest.mark.parametrize(("page", "log"), [("from_recbole", atomic), ("from_torch_rechub", ratings)])
def test_a_log_of_another_library_is_read(
    page: str, log: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log(tmp_path)
    exec(compile(blocks(f"{page}.md", "python")[0], page, "exec"), {})
    (command,) = blocks(f"{page}.md", "sh")
    (tmp_path / shlex.split(command)[3]).write_text(blocks(f"{page}.md", "yaml")[0])
    said = dmtl(command)
    assert "60 rows of 7 users and 5 items" in said
    assert re.search(r"(genre|cate_id) +item .* 0\.0%", said), said


@pytest.mark.parametrize("page", ["from_easyrec", "from_torcheasyrec", "from_torch_rechub", "from_recbole"])
def test_what_a_migration_page_maps_to_is_a_config(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text()
    assert text.split("\n## ")[-1].startswith("What does not map")
    (config,) = blocks(f"{page}.md", "yaml")
    (tmp_path / "mapped.yaml").write_text(config)
    load_config(tmp_path / "mapped.yaml")
    cells = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|[^|]*\|([^|]*)\|", text, re.M)))
    keys = [c for c in cells if re.match(r"(?:teacher|student|data|auto|scores)\.[a-z_.]+(?::|$)", c)]
    for key, _, value in (k.partition(": ") for k in keys if ": " in k):
        if "..." not in value:
            load_config(tmp_path / "mapped.yaml", [f"{key}={value}"])
    schema = json.loads((DOCS / "config.schema.json").read_text())
    known = {name for part in (schema, *schema["$defs"].values()) for name in part["properties"]}
    assert len(keys) > 3 and [k for k in keys if not set(k.partition(":")[0].split(".")) <= known] == []


def test_contributing_names_commands_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (commands,) = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    assert [line.split("#")[0].split()[:2] for line in commands.splitlines()] == [
        ["sh", "scripts/test.sh"],
        ["sh", "scripts/test.sh"],
        [".venv-test/bin/python", "-m"],
    ]
    for file in re.findall(r"(?:scripts|docs|tests)/[\w/.]+\w", text):
        assert (ROOT / file).exists(), file
