"""A `check` that was killed leaves folders; the next one removes them, and none of one that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from worlds import DAYS, Project

from dmtl_cli.runs.scratch import remove_dead, scratch_folder

READING = """
import sys, time
from dmtl_cli.data.log.formats import sources
from dmtl_cli.cli import main as cli

def waiting(*_, **__):
    print("reading", flush=True)
    time.sleep(60)

sources.csv_rows = waiting
sys.exit(cli.execute(sys.argv[1:]))
"""


@contextmanager
def checking(made: Project, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A `check` in a process of its own, stopped as it begins to read the log."""
    command = [sys.executable, "-c", READING, "check", "--config", str(made.home / "config.yaml"), "--day", DAYS[0]]
    environment = os.environ | {"TMPDIR": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "reading\n"
        try:
            yield process
        finally:
            process.kill()


def left(*folders: Path) -> list[str]:
    return sorted(path.name for folder in folders for path in folder.iterdir() if "-check-" in path.name)


@pytest.mark.parametrize("workspace", ["none", "there"])
def test_what_a_killed_check_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: str) -> None:
    home, temporary = tmp_path / "project", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (home / "e.csv").write_text(f"user_id,item_id,d,click,secs\nu,i,{DAYS[0]},1,5\nu,j,{DAYS[0]},0,\n")
    made = Project.create(home, home)
    made.config["data"] = {
        "root": str(home), "format": "csv", "types": {"d": "date"},
        "events": {"path": "e.csv", "date_column": "d", "click": "click", "duration": "secs"},
    }  # fmt: skip
    made.config["features"] = "auto"
    made.write()
    with checking(made, temporary) as living:
        mine = left(home, temporary)
        assert len(mine) == 2, "beside the workspace to be, and for the rows of the day"
        with pytest.raises(KeyboardInterrupt), scratch_folder(".ws-check-", home), scratch_folder("dmtl-check-"):
            assert len(left(home, temporary)) == 4
            raise KeyboardInterrupt
        assert left(home, temporary) == mine, "another one that ends takes its own alone"
        living.kill()
        living.wait()
    assert left(home, temporary) == mine
    if workspace == "there":
        made.ws.mkdir()
    ended = made.call("check", "--day", DAYS[0])
    assert ended.code == 0, ended.err
    assert left(home, temporary) == []


def test_nothing_else_is_taken_for_a_leaving(tmp_path: Path) -> None:
    """Folders without a lock, files, links to a folder, and those of other names."""
    for name in ("x-check-1", "y-check-2", "x[1]-check-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").touch()
    for name in ("y-check-2", "x[1]-check-3"):
        (tmp_path / name / ".lock").touch()
    (tmp_path / "x-check-link").symlink_to(tmp_path / "y-check-2")
    (tmp_path / "x-check-file").touch()
    remove_dead("x-check-", tmp_path)
    assert len(list(tmp_path.iterdir())) == 5 and (tmp_path / "y-check-2/kept").exists()
    remove_dead("x[1]-check-", tmp_path)
    assert not (tmp_path / "x[1]-check-3").exists()
