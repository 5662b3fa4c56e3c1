"""One thread: on tiny data threads only wait for each other, and results do not depend on the machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from storage import Server

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")

# Tests start hundreds of programs, and each would compile all of dmtl, as pytest would all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("no deadline", deadline=None)  # speed is measured in a benchmark, not in tests
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a crash writes down, and what torch leaves of its processes, lie where pytest removes old files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """S3 with credentials in the environment. Tests share its bucket: each has a prefix of its own."""
    from storage import serving  # pyarrow looks at the threads when it is imported

    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with serving() as server:
            yield server


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of each of the settings in `exported`; read alone, as tests share them."""
    from exported import SETTINGS, published

    return {name: published(tmp_path_factory.mktemp(name), s) for name, s in SETTINGS.items()}


def _found(export: Path, canaries: Path) -> dict[str, float] | str:
    from dmtl_cli.serving import canary

    try:
        return canary.look(export, canaries)
    except Exception as e:
        return f"{type(e).__name__}: {e}"


@pytest.fixture(scope="session", autouse=True)
def _read_back_here() -> Iterator[Callable[..., object]]:
    """An export is read back in the test's own process: another one takes a second, and there are hundreds of exports.
    `test_canary` has that process, and so have commands that a test starts as a program."""
    from dmtl_cli.serving import canary

    in_a_process = canary.read_back
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canary, "read_back", _found)
        yield in_a_process


@pytest.fixture(autouse=True)
def _read_back_in_a_process(
    request: pytest.FixtureRequest, _read_back_here: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.path.name == "test_canary.py":
        monkeypatch.setattr("dmtl_cli.serving.canary.read_back", _read_back_here)


def _must_be_open(handle: int) -> None:
    os.fstat(handle)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What is synced must be open, but nobody waits for a disk, thousands of times: no test takes the power away. That
    every name and byte is synced, and when, is what `test_artifact` looks at; commands that a test starts as a program
    sync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _must_be_open)
        yield


@pytest.fixture(autouse=True)
def _working_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` names a workspace in the working folder, which tests at once would share."""
    used = {getattr(value, "__module__", None) for value in vars(request.module).values()}
    if request.path.name.startswith("test_init") or "initiated" in used:
        monkeypatch.chdir(tmp_path)
