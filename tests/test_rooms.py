"""Who may import whom, from the syntax tree: a floor imports from lower floors only; light rooms stay light; only the
command line prints."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dmtl_cli

ROOT = Path(dmtl_cli.__file__).parent
DESIGN = Path(__file__).parent.parent / "docs" / "design.md"

# from the top; rooms of one floor do not import each other
FLOORS = [
    ["cli"],
    ["stages", "synth"],
    ["evaluate", "tune", "report"],
    ["teacher", "student"],
    ["guess", "nn", "scores", "serving"],
    ["data"],
    ["data.profile", "data.features"],
    ["data.log"],
    ["data.log.files"],
    ["data.log.checked"],
    ["data.log.formats"],
    ["data.log.values"],
    ["runs"],
    ["config"],
]
COMPOSED = {  # stages that are made of others
    "stages.run": {
        "stages.build_profile",
        "stages.dump_logits",
        "stages.evaluate",
        "stages.report",
        "stages.train_student",
        "stages.train_teacher",
    },
    "stages.compare": {"stages.run", "stages.evaluate", "stages.train_joint"},
    "stages.train_teacher": {"stages.tune"},
    "stages.train_student": {"stages.export"},
    "stages.refresh": {"stages.export"},
}
LIGHT = (
    "config.reading",
    "config.tasks",
    "config.days",
    "config.errors",
    "runs.workspace",
    "runs.artifact",
    "runs.progress",
    "cli.main",
)
PURE = ("nn.kernels", "teacher.networks", "student.distillation", "scores.calibration", "evaluate.metrics")
HEAVY = {"torch", "polars", "pyarrow", "onnx", "onnxruntime", "sklearn"}


def modules(tree: ast.AST) -> Iterator[str]:
    """Full names of all imported modules and of what is imported from them, at whatever level."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{a.name}" for a in node.names)


def found() -> dict[str, Path]:
    """The file of every module, by its name below dmtl_cli."""
    out = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("", "__main__"):  # the program's door, which calls the command line
            out[name] = file
    return out


MODULES = found()


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Parsed by the first test that asks: collecting tests takes no parsing of all of dmtl."""
    return ast.parse(MODULES[module].read_text())


def trees() -> dict[str, ast.Module]:
    return {name: tree_of(name) for name in MODULES}


@functools.cache
def imported(tree: ast.AST) -> set[str]:
    """Modules among the imports."""
    names = {m.removeprefix("dmtl_cli.") for m in modules(tree) if m.startswith("dmtl_cli.")}
    return names & MODULES.keys()


def room(module: str) -> str:
    """The folder that FLOORS name."""
    names = [name for rooms in FLOORS for name in rooms if module == name or module.startswith(name + ".")]
    return max(names, key=len)


def floor(module: str) -> int:
    """Counted from the top."""
    return next(k for k, names in enumerate(FLOORS) if room(module) in names)


def test_the_top_is_fifteen_folders() -> None:
    entries = {p.name for p in ROOT.iterdir() if not p.name.startswith(("__", ".")) and p.name != "py.typed"}
    assert len(entries) <= 15
    assert entries == {name.split(".")[0] for names in FLOORS for name in names}


def test_every_folder_says_what_it_is_for() -> None:
    for name, tree in trees().items():
        if (ROOT / name.replace(".", "/")).is_dir():
            said = " ".join((ast.get_docstring(tree) or "").split())
            named = re.search(r"Imports? (.+)\.$", said)
            assert named, name
            inside = {m: t for m, t in trees().items() if m.startswith(name + ".") or m == name}
            rooms = {room(m).split(".")[0] for t in inside.values() for m in imported(t)} - {name.split(".")[0]}
            if not re.search("below|everything", named[1]):
                assert rooms <= set(re.findall(r"[a-z]+", named[1])), name


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_room_and_lower_floors(module: str) -> None:
    others = {m for m in imported(tree_of(module)) if room(m) != room(module)}
    assert not {m for m in others if floor(m) <= floor(module)}
    if module.startswith("stages."):
        stages = {m for m in imported(tree_of(module)) if m.startswith("stages.")} - {module}
        assert stages <= COMPOSED.get(module, set())


def section(title: str) -> list[list[str]]:
    """The rows of the table in a section of the design, cell by cell."""
    lines = DESIGN.read_text().split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


def test_the_design_names_the_floors() -> None:
    rows = section("The house")
    assert [folder.strip("`/").replace("/", ".") for _, folder, _ in rows] == [
        name for names in FLOORS for name in names
    ]
    assert [int(number) for number, *_ in rows] == [len(FLOORS) - floor(name) for names in FLOORS for name in names]


QUESTIONS = {
    "a distillation loss",
    "a hard loss",
    "a teacher network",
    "a kind of feature",
    "an input format",
    "a label",
    "a metric",
    "a score column",
    "a gate",
    "a command",
    "a config key",
}


def test_the_design_says_where_one_changes_what() -> None:
    rows = section("Where one changes what")
    assert {what for what, *_ in rows} >= QUESTIONS
    for what, place, read in rows:
        where = ROOT / re.findall(r"`([\w/.]+)`", place)[0]
        file, *names = re.findall(r"`([\w.]+)`", read)
        if not file.endswith(".py"):
            names, file = [file, *names], ""
        module = where / file if file else where
        assert module.is_file(), what
        defined = {d.name for d in ast.parse(module.read_text()).body if isinstance(d, ast.FunctionDef | ast.ClassDef)}
        assert names and set(names) <= defined, what


def test_guesses_are_read_from_above() -> None:
    """Each module of guess/ imports those that the design names before it, and no private name of another."""
    text = DESIGN.read_text().split("**A log becomes a config**")[1].split("\n\nRows of text")[0]
    order, folder = [], ""
    for line in text.splitlines():
        if head := re.match(r"\| \*\*`(?:guess/|(\w+)/)`", line):
            folder = f"{head[1]}." if head[1] else ""
        elif line.startswith("| `"):
            order += [folder + name for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    mine = {name.removeprefix("guess."): tree for name, tree in trees().items() if name.startswith("guess.")}
    folders = {name for name in mine if (ROOT / "guess" / name).is_dir()}
    assert sorted(order) == sorted(mine.keys() - folders)
    for name, tree in mine.items():
        others = {m.removeprefix("guess.") for m in imported(tree) if m.startswith("guess.")} - folders
        assert name in folders or others <= set(order[: order.index(name)]), name
        private = [m for m in modules(tree) if m.startswith("dmtl_cli.guess.") and m.rsplit(".", 1)[1].startswith("_")]
        assert not private, name


def test_no_modules_import_each_other() -> None:
    graph = {name: imported(tree) - {name} for name, tree in trees().items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_walk_sees_imports() -> None:
    source = (
        "from dmtl_cli.nn import fit\nif x:\n import dmtl_cli.data.log.reader\n from dmtl_cli.config.days import window"
    )
    assert imported(ast.parse(source)) == {"nn", "nn.fit", "data.log.reader", "config.days"}
    assert {"runs.run", "stages.train_student"} <= MODULES.keys()
    assert room("data.log.values.spool") == "data.log.values"
    assert room("data.negatives") == "data" and floor("cli.main") == 0


@pytest.mark.parametrize("module", [m for m in MODULES if any(m == p or m.startswith(p + ".") for p in PURE)])
def test_pure_modules_know_numbers_only(module: str) -> None:
    tops = {m.split(".")[0] for m in modules(tree_of(module))}
    assert not tops & {"polars", "pyarrow", "pathlib", "os", "json", "onnx", "tqdm"}


def test_light_rooms_start_without_heavy_libraries() -> None:
    names = ", ".join(f"dmtl_cli.{r}" for r in LIGHT)
    code = f"import sys\nimport {names}\nprint(*sorted({HEAVY} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "", "")


def test_serving_starts_without_torch() -> None:
    code = "import sys\nimport dmtl_cli.serving\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (out.returncode, out.stdout.strip(), out.stderr) == (0, "False", "")


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) != "cli"])
def test_only_the_command_line_prints_and_exits(module: str) -> None:
    for node in ast.walk(tree_of(module)):
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
        "import sys, torch; from dmtl_cli.config.reading import load_config; from dmtl_cli.runs.progress import RunLog;"
        "from dmtl_cli.runs.run import Run; Run.start(load_config(sys.argv[1], ['device=cpu']), RunLog());"
        "assert torch.are_deterministic_algorithms_enabled();"
        "print([m for m in ('torch._dynamo', 'torch._inductor') if m in sys.modules])"
    )
    config = DESIGN.parent.parent / "configs" / "demo.yaml"
    done = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
