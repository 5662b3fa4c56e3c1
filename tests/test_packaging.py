"""The wheel and the sdist: what is in them, and that what serves needs no torch."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from worlds import DAYS, Project

from dmtl_cli.synth.generate import generate

ROOT = Path(__file__).parent.parent
_WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from dmtl_cli.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    made = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return out


def test_the_wheel(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as inside:
        names = inside.namelist()
        metadata = Parser().parsestr(inside.read(next(n for n in names if n.endswith("METADATA"))).decode())
    assert "dmtl_cli/py.typed" in names and not any(n.startswith(("tests/", "data/")) for n in names)
    configs = {Path(n).name for n in names if "/share/dmtl/configs/" in n}
    assert {p.name for p in (ROOT / "configs").glob("*.yaml")} <= configs
    modules = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "dmtl_cli").rglob("*") if p.suffix in (".py", ".css", ".js")
    }
    assert modules <= set(names)
    needed = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert needed and not any(r.startswith(("torch", "onnx>", "onnx=")) for r in needed), "serving is light"
    assert metadata["Author"] and metadata["Project-URL"] and metadata.get_all("Classifier")


def test_the_sdist(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as inside:
        top = {name.split("/")[1] for name in inside.getnames()}
    assert {"configs", "docs", "scripts", "tests", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"} <= top


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    log = tmp_path / "world"
    generate(log, 2, start=dt.date(2026, 1, 1), users=20, items=15, events_per_day=100, seed=1)
    return Project.create(tmp_path, log / "log")


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _WITHOUT, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_without_torch_what_trains_says_so_in_a_line(fresh: Project) -> None:
    config = ("--config", str(fresh.home / "config.yaml"))
    for command in ("train-teacher", "run"):
        ended = without_torch(command, *config, "--day", str(DAYS[0]))
        said = "dmtl: error: torch is not installed; in dmtl's clone, pip install -e '.[train]'\n"
        assert (ended.returncode, ended.stderr) == (69, said), command


def test_without_torch_what_looks_works(fresh: Project) -> None:
    config = ("--config", str(fresh.home / "config.yaml"))
    assert without_torch("--help").returncode == without_torch("--version").returncode == 0
    ended = without_torch("status", *config)
    assert ended.returncode == 0, ended.stderr
    ended = without_torch("recommend", *config, "--user", "1")
    assert ended.returncode == 66, ended.stderr
