"""What the documents say exists: keys, commands, options, files, codes, columns; and the repository stands alone."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import typer

from dmtl_cli.cli.main import app
from dmtl_cli.config.errors import Exit
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.scores.columns import column_names

ROOT = Path(__file__).parent.parent
DOCS = [f for f in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data/README.md") if f.is_file()]
CONTRACT = ROOT / "docs" / "contract.md"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
GENERATED = ("data/demo", "data/positions", "data/kuairand", "data/movietweetings")
"""folders that commands make"""
PLACEHOLDERS = {"COMMAND", "<command>"}


def options_of() -> dict[str, set[str]]:
    """Options of each command, as the command line knows them; "" is dmtl itself."""
    group: Any = typer.main.get_command(app)
    found = {n: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for n, c in group.commands.items()}
    found[""] = {o for p in group.params for o in p.opts}
    return {n: {o for o in names if o.startswith("-")} | {"--help"} for n, names in found.items()}


OPTIONS = options_of()


def code(text: str) -> list[str]:
    """Fenced blocks line by line (a line that ends in a backslash goes on), and inline code."""
    text = re.sub(r"\\\n", " ", text)
    fenced = re.compile(r"^ *```.*?\n(.*?)^ *```", re.M | re.S)
    lines = [line for block in fenced.findall(text) for line in block.splitlines()]
    return lines + [" ".join(c.split()) for c in re.findall(r"`([^`]+)`", fenced.sub("", text))]


def calls(snippets: list[str]) -> list[tuple[str, list[str]]]:
    """(command, options) of every `dmtl ...`."""
    found = []
    for part in (p for s in snippets for p in re.split(r"&&|;|\|(?!\w)|\$\(|\s#", s)):
        if match := re.search(r"(?:^|[\s/])dmtl\"?\s+(\S+)(.*)", part):
            command, rest = match[1], match[2]
            if command.startswith("-"):
                command, rest = "", match[1] + rest
            found.append((command.rstrip(")"), re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z](?![\w-]))", rest)))
    return found


def mistakes(found: list[tuple[str, list[str]]]) -> list[str]:
    """What the command line does not know of these calls."""
    wrong = []
    for command, options in found:
        known = OPTIONS.get(command, set().union(*OPTIONS.values()) if command in PLACEHOLDERS else None)
        if known is None:
            wrong.append(f"dmtl {command}")
        else:
            wrong += [f"dmtl {command} {o}" for o in options if o not in known]
    return wrong


def paths(text: str) -> list[str]:
    """Files and folders of the repository that are named in code, and targets of links."""
    tops = "docs|scripts|tests|configs|dmtl_cli|data"
    named = [p for c in code(text) for p in re.findall(rf"(?:^|[\s=(])(?:\./)?((?:{tops})/[\w.*/-]*)", c)]
    return [p.rstrip(".") for p in named if not p.startswith(GENERATED) and "*" not in p]


def test_the_readers_see_what_is_wrong() -> None:
    text = "`dmtl gone` and `dmtl run --nope -z`, prose dmtl says\n"
    text += "```sh\n$ dmtl check --config a \\\n --jsn && dmtl bad\n```"
    found = calls(code(text))
    assert mistakes(found) == ["dmtl check --jsn", "dmtl bad", "dmtl gone", "dmtl run --nope", "dmtl run -z"]
    assert mistakes(calls(["dmtl --version", "dmtl recommend -k 5 --exclude-seen", "dmtl: error: x"])) == []
    assert paths("`scripts/no.py` `sh scripts/a.sh`, `data/demo/log`, scripts/prose") == [
        "scripts/no.py",
        "scripts/a.sh",
    ]


def test_config_reference_is_current() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "config_reference.py"))["reference"]()
    again = "run: python scripts/config_reference.py > docs/config.md"
    assert (ROOT / "docs" / "config.md").read_text() == made, again
    keys = [line for line in made.splitlines() if line.startswith("| `")]
    assert len(keys) > 80
    assert [k for k in keys if k.endswith("|  |")] == [], "a key without a meaning: write it under the field"


@pytest.mark.parametrize("file", [*DOCS, *CONFIGS], ids=lambda f: f.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(file: Path) -> None:
    text = file.read_text()
    snippets = code(text) if file.suffix == ".md" else [x for x in text.splitlines() if x.startswith("#")]
    assert mistakes(calls(snippets)) == []


@pytest.mark.parametrize("file", [f for f in DOCS if f.parent.name == "docs"], ids=lambda f: f.name)
def test_options_named_alone_exist(file: Path) -> None:
    every = set().union(*OPTIONS.values())
    named = [c.split()[0].partition("=")[0] for c in code(file.read_text()) if c.startswith("--")]
    assert [n for n in named if n not in every] == []


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_shipped_configs_load(file: Path) -> None:
    load_config(file)


@pytest.mark.parametrize("file", [*DOCS, ROOT / "CHANGELOG.md"], ids=lambda f: f.relative_to(ROOT).as_posix())
def test_named_files_exist(file: Path) -> None:
    text = file.read_text()
    links = [x for x in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", x)]
    gone = [p for p in paths(text) if not (ROOT / p).exists() and not (ROOT / "dmtl_cli" / p).exists()]
    assert gone + [x for x in links if not (file.parent / x).exists()] == []


def test_contract_is_whole() -> None:
    text = CONTRACT.read_text()
    said = calls(code(text))
    assert {c for c, _ in said} >= OPTIONS.keys()
    assert [
        o for o in set().union(*OPTIONS.values()) - {"--help"} if not re.search(rf"(?<![\w-]){o}(?![\w-])", text)
    ] == []
    codes = text.split("## Exit codes")[1].split("\n## ")[0]
    assert {int(c) for c in re.findall(r"^\| (\d+) \|", codes, re.M)} == {0, *map(int, Exit)}
    manifest = text.split("### manifest.json")[1].split("\n### ")[0]
    fields = {n for line in re.findall(r"^\| (`.*?) \|", manifest, re.M) for n in re.findall(r"`(\w+)`", line)}
    assert fields == {f.name for f in dataclasses.fields(Manifest)}
    scores = text.split("### Score table")[1].split("\n## ")[0]
    assert [n for line in re.findall(r"^\| (`.*?) \|", scores, re.M) for n in re.findall(r"`(\w+)`", line)] == [
        *("user_id", "item_id", "day", "pair_source", "group", "rank"),
        *column_names(Tasks(("X",)), fused=True),
    ]


def texts() -> list[Path]:
    """Text files of the repository; what commands generate and hidden folders are not."""
    out = []
    for top in sorted(ROOT.iterdir()):
        if top.is_dir() and (top.name.startswith(".") or top.name in ("work", "dist", "build", "tests")):
            continue
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            inside = file.relative_to(ROOT).as_posix()
            if (
                file.is_file()
                and "__pycache__" not in file.parts
                and (top.name != "data" or inside == "data/README.md")
            ):
                out.append(file)
    return [f for f in out if b"\0" not in f.read_bytes()[:8192]]


def test_the_repository_stands_alone() -> None:
    files = texts()
    assert {ROOT / "README.md", ROOT / "dmtl_cli" / "cli" / "main.py"} <= set(files)
    outside = re.compile(r"(?<!\w)shared/|/work/(?:shared|main)")
    assert [str(f) for f in files if outside.search(f.read_text("utf-8", "replace"))] == []
