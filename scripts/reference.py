"""Writes what docs/ takes from the code: config.md, config.schema.json, cli.md and exit_codes.md.

    python scripts/reference.py

`tests/test_site.py` fails when one of them is out of date.
"""

from __future__ import annotations

import json
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from config_reference import inner_models, meanings
from config_reference import reference as config
from pydantic import BaseModel

from dmtl_cli.cli.main import app
from dmtl_cli.config.errors import Exit
from dmtl_cli.config.schema import Config

DOCS = Path(__file__).parents[1] / "docs"
MADE = "Made by `scripts/reference.py` from {}; `tests/test_site.py` fails when it is out of date."


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section of the config and those below it."""
    yield model
    for hint in typing.get_type_hints(model, include_extras=True).values():
        for inner in inner_models(hint):
            yield from models(inner)


def pleasant(part: dict[str, Any], said: dict[str, str]) -> None:
    """Makes a model's part of the schema one that an editor can show: a description for each key in place of a title,
    no default that is a whole section."""
    part.pop("title", None)
    for name, of in part.get("properties", {}).items():
        of.pop("title", None)
        if of.get("default") is None or isinstance(of["default"], dict):
            of.pop("default", None)
        if said.get(name):
            of["description"] = said[name]


def schema() -> str:
    """The config as JSON Schema. Checks between keys are dmtl's own: `dmtl check` tells of them."""
    made = Config.model_json_schema()
    for model in models(Config):
        pleasant(made if model is Config else made["$defs"][model.__name__], meanings(model))
    keys = made["properties"]
    size = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?B)?$"}
    keys["max_memory"]["anyOf"] = [{"type": "integer", "minimum": 1_000_000}, size, {"type": "null"}]
    features = {key: keys["features"].pop(key) for key in ("type", "items", "minItems")}
    features["items"] = {"anyOf": [{"const": "auto"}, features["items"]]}
    keys["features"]["anyOf"] = [{"const": "auto"}, features]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "dmtl config"}
    return json.dumps(head | made, indent=1, ensure_ascii=False) + "\n"


def command(name: str, of: Any, context: Any) -> str:
    """A command: what it does, how it is called, a line an option."""
    usage = " ".join(["dmtl", name, *of.collect_usage_pieces(context)])
    lines = [f"## {name}", "", " ".join((of.help or "").split("\f")[0].split()), "", "```text", usage, "```", ""]
    lines += ["| option | meaning |", "|---|---|"]
    for parameter in of.params:
        if record := parameter.get_help_record(context):
            cells = (f"`{record[0].replace('<list[str]>', '<str> ...')}`", " ".join(record[1].split()))
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines)


def commands() -> str:
    """Every command with its options, in the order of `dmtl --help`."""
    group: Any = typer.main.get_command(app)
    top = group.make_context("dmtl", ["--version"], resilient_parsing=True)
    parts = [f"# Commands\n\n{MADE.format('the command line')} [contract.md](contract.md) says what each publishes."]
    for name, of in group.commands.items():
        parts.append(command(name, of, of.make_context(name, [], parent=top, resilient_parsing=True)))
    return "\n\n".join(parts) + "\n"


def rows_of(page: str) -> dict[int, list[str]]:
    """The rows of a page's section "Exit codes", by their code."""
    section = (DOCS / page).read_text(encoding="utf-8").split("## Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section, re.M)
    return {int(code): rest.split(" | ") for code, rest in rows}


def exit_codes() -> str:
    """What each code means (contract.md) and what to do about it (operations.md)."""
    meaning, advice = rows_of("contract.md"), rows_of("operations.md")
    lines = [f"# Exit codes\n\n{MADE.format('`dmtl_cli/config/errors.py`, contract.md and operations.md')}", ""]
    lines += ["| code | name | meaning | what to do |", "|---|---|---|---|"]
    for code, name in {0: "", **{int(e): f"`{e.name}`" for e in Exit}}.items():
        todo = advice[code][1].replace(" (below)", "").replace("below", "in [operations.md](operations.md)")
        lines.append(f"| {code} | {name} | {meaning[code][0]} | {todo} |")
    lines += ["| 128 + n | | stopped by signal n | run again: it goes on from the last checkpoint |"]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config,
    "config.schema.json": schema,
    "cli.md": commands,
    "exit_codes.md": exit_codes,
}

if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(f"usage: python {sys.argv[0]}")
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
