"""Rooms import only from rooms below them (docs/design.md); light rooms stay light; only the command line speaks."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dmtl_cli

ROOT = Path(dmtl_cli.__file__).parent
DESIGN = Path(__file__).parent.parent / "docs" / "design.md"

# from the top; rooms of one floor do not know each other
FLOORS = [
    ["cli"],
    ["comparison"],
    ["pipeline"],
    ["stages.train_joint"],  # the one stage that is made of another's parts
    ["stages.*"],
    ["measure"],
    ["export", "scoring"],
    ["serving", "synth"],
    ["checkpoint"],
    ["fit"],
    ["models"],
    ["models.dssm"],
    ["models.teacher"],
    ["models.mmoe", "models.ple", "models.shared_bottom"],
    ["models.mixture", "models.sharded"],
    ["models.layers"],
    ["optim"],
    ["data.batches"],
    ["data.scores"],
    ["data.samples"],
    ["data.negatives"],
    ["data.encode"],
    ["data.log"],
    ["data.spool"],
    ["data.files"],
    ["data.hashing"],
    ["run"],
    ["ranks"],
    ["artifact", "progress"],
    ["workspace"],
    ["calibrate", "distill"],
    ["losses", "metrics"],
    ["chunks"],
    ["config"],
    ["days"],
    ["errors"],
]
LIGHT = ("config", "workspace", "artifact", "cli", "days", "errors", "progress")
PURE = (
    "losses",
    "distill",
    "metrics",
    "calibrate",
    "models",
    *(n for names in FLOORS for n in names if n[:7] == "models."),
)
KNOWN = {  # the encoder's layout; names of the losses; threads; the processes that hold a table, and how they update it
    "models": {"data.encode"},
    "models.mixture": {"chunks"},
    "models.sharded": {"ranks", "optim"},
    "distill": {"config"},
    "losses": {"chunks"},
}
HEAVY = {"torch", "polars", "pyarrow", "onnx", "onnxruntime", "sklearn"}


def rooms() -> dict[str, ast.Module]:
    """Every module that holds more than a docstring, by its name below dmtl_cli."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(file.read_text())
        if name and len(tree.body) > 1:
            found[name] = tree
    return found


ROOMS = rooms()


def modules(tree: ast.AST) -> Iterator[str]:
    """Full names of all imported modules and of what is imported from them, at whatever level."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{a.name}" for a in node.names)


def imported(tree: ast.AST) -> set[str]:
    """Rooms among the imports."""
    names = {m.removeprefix("dmtl_cli.") for m in modules(tree) if m.startswith("dmtl_cli.")}
    return names & ROOMS.keys()


def named(room: str) -> str:
    """As FLOORS name it."""
    own = any(room in names for names in FLOORS)
    return "stages.*" if room.startswith("stages.") and not own else room


def floor(room: str) -> int:
    """Counted from the top."""
    return next(k for k, names in enumerate(FLOORS) if named(room) in names)


def test_every_room_has_a_floor() -> None:
    held = [name for names in FLOORS for name in names]
    assert len(held) == len(set(held))
    assert {named(r) for r in ROOMS} == set(held), (
        "a room is new or gone: give it a place in FLOORS and in docs/design.md"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_below_only(room: str) -> None:
    wrong = {other for other in imported(ROOMS[room]) if other != room and floor(other) <= floor(room)}
    assert not wrong  # for stages this also says: none but train_joint imports another


def test_the_walk_sees_imports() -> None:
    source = (
        "from dmtl_cli import checkpoint\nif x:\n import dmtl_cli.data.log\n from dmtl_cli.models import mmoe, build"
    )
    assert imported(ast.parse(source)) == {"checkpoint", "data.log", "models", "models.mmoe"}
    assert {"fit", "run", "stages.train_student"} <= ROOMS.keys() and "data.log" in imported(ROOMS["data.encode"])


def test_floors_are_those_of_the_design() -> None:
    section = DESIGN.read_text().split("## Rooms")[1].split("\n## ")[0]
    rows = [re.findall(r"`([\w.]+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) > 8
    held = [[floor(r) for r in ROOMS if any(r == n or r.startswith(n + ".") for n in row)] for row in rows]
    assert all(held)
    for lower, upper in itertools.pairwise(held):
        assert max(upper) < min(lower)  # the table goes up, FLOORS goes down


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_know_numbers_only(room: str) -> None:
    tops = {m.split(".")[0] for m in modules(ROOMS[room])}
    assert not tops & {"polars", "pyarrow", "pathlib", "os", "json", "onnx", "tqdm"}
    allowed = {*PURE, "errors", *KNOWN.get(room, ())}
    assert imported(ROOMS[room]) <= allowed


def test_light_rooms_start_without_heavy_libraries() -> None:
    names = ", ".join(f"dmtl_cli.{r}" for r in LIGHT)
    code = f"import sys\nimport {names}\nprint(*sorted({HEAVY} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "", "")


def test_serving_starts_without_torch() -> None:
    code = "import sys\nimport dmtl_cli.serving\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "False", "")


@pytest.mark.parametrize("room", [r for r in ROOMS if r != "cli"])
def test_only_the_command_line_prints_and_exits(room: str) -> None:
    for node in ast.walk(ROOMS[room]):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {
                "print",
                "exit",
                "quit",
                "sys.exit",
                "os._exit",
                "SystemExit",
                "sys.stdout.write",
                "sys.stderr.write",
            }, node.lineno
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert ast.unparse(node.exc) != "SystemExit", node.lineno


def test_a_run_is_deterministic_without_torchs_compiler() -> None:
    """Its import takes half a second and 70 MB, in every command."""
    code = (
        "import sys, torch; from dmtl_cli.config import load_config; from dmtl_cli.progress import RunLog;"
        "from dmtl_cli.run import Run; Run.of(load_config(sys.argv[1], ['device=cpu']), RunLog());"
        "assert torch.are_deterministic_algorithms_enabled();"
        "print([m for m in ('torch._dynamo', 'torch._inductor') if m in sys.modules])"
    )
    config = DESIGN.parent.parent / "configs" / "demo.yaml"
    done = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
