"""dmtl verify through the command line: a flip anywhere is found, and told with its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from chains import Chain, day

from dmtl_cli.runs.manifest import Manifest, verify
from dmtl_cli.runs.workspace import Workspace


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path, 4)


def flip(run: Path) -> Path:
    file = run / "file"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    return file


def test_a_whole_workspace(chain: Chain) -> None:
    runs = len(list(chain.project.ws.rglob("manifest.json")))
    found = chain.called("verify", "--all")
    assert (found["runs"], found["files"], found["gone"]) == (runs, runs, [])
    assert found["bytes"] == sum(f.stat().st_size for f in chain.project.ws.rglob("run-*/file"))
    assert chain.called("verify", "--day", day(3))["runs"] == 7
    ended = chain.project.call("verify")
    assert ended.code == 0 and ended.err == "" and "all as published" in ended.out


def test_all_that_what_is_served_was_made_from_is_hashed(chain: Chain) -> None:
    """Through all generations, and no more than that."""
    first = chain.ws.current("profile", day(1))
    assert first is not None
    file = flip(first)
    ended = chain.project.call("verify")
    assert ended.code == 65 and f"{file}: its sha256 is not that of the manifest" in ended.err and ended.out == ""
    assert chain.project.call("verify", "--day", day(4)).code == 0, "of one day alone"
    assert chain.project.call("verify", "--day", day(1)).code == 65


def test_a_superseded_run_is_hashed_by_all_alone(chain: Chain) -> None:
    old = chain.export(4)
    chain.make("export", day(4), ("student", "profile"), "again")
    flip(old)
    assert chain.project.call("verify").code == 0
    assert chain.project.call("verify", "--all").code == 65
    chain.called("rollback", "--to", day(3))
    assert chain.project.call("verify").code == 0


def test_comparisons_are_hashed_by_all(chain: Chain) -> None:
    below = Chain(chain.project.home / "other", 2)
    shutil.copytree(below.project.ws, chain.project.ws / "compare/one-abcdef")
    inner = Workspace(chain.project.ws / "compare/one-abcdef").current("student", day(2))
    assert inner is not None
    whole = chain.called("verify", "--all")["runs"]
    assert whole > chain.called("verify")["runs"]
    file = flip(inner)
    assert str(file) in chain.project.call("verify", "--all").err


def test_parents_that_are_gone_are_counted(chain: Chain) -> None:
    shutil.rmtree(chain.ws.stage_dir("teacher", day(1)))
    found = chain.called("verify")
    assert found["gone"] and all(each.startswith(f"teacher {day(1)} run-") for each in found["gone"])
    assert f"{len(found['gone'])} runs that these were made from are gone" in chain.project.call("verify").out


@pytest.mark.parametrize("name", ["LATEST", "PINNED"])
def test_a_pointer_to_nothing(chain: Chain, name: str) -> None:
    (chain.project.ws / "export" / name).write_text("day=2026-01-04/run-0123456789ab\n")
    ended = chain.project.call("verify")
    assert ended.code == 65 and name in ended.err and "rollback --unpin" in ended.err


def test_a_run_in_a_folder_of_another_day(chain: Chain) -> None:
    shutil.copytree(chain.export(4), chain.ws.stage_dir("export", day(3)) / chain.export(4).name)
    ended = chain.project.call("verify", "--all")
    assert ended.code == 65 and f"expected export of {day(3)}, found export of {day(4)}" in ended.err


def test_names_of_a_hostile_manifest_do_not_reach_the_terminal(chain: Chain) -> None:
    (chain.export(4) / "evil\x1b[2J").write_text("x")
    ended = chain.project.call("verify")
    assert ended.code == 65 and "evil\\x1b[2J is not listed" in ended.err and "\x1b" not in ended.err


def test_a_run_that_is_removed_meanwhile_is_no_damage(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `gc` does, which does not wait for it."""
    victim, runs = chain.ws.current("profile", day(1)), chain.called("verify", "--all")["runs"]
    assert victim is not None

    def removed(run: Path) -> Manifest:
        if run == victim:
            shutil.rmtree(run)
        return verify(run)

    monkeypatch.setattr("dmtl_cli.stages.verify.verify", removed)
    assert chain.called("verify", "--all")["runs"] == runs - 1


def test_usage(chain: Chain) -> None:
    assert chain.project.call("verify", "--day", day(1), "--all").code == 2
    ended = chain.project.call("verify", "--day", "2026-02-01")
    assert ended.code == 66 and "nothing of 2026-02-01 is published" in ended.err
