"""Reads a config: a YAML, `--set`, and every mistake at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dmtl_cli.config.data import NO_CREDENTIALS
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.messages import Mistake, dotted, mistakes, shown
from dmtl_cli.config.parsing import DEEPEST, Marks, Place, parse, text_of
from dmtl_cli.config.schema import Config
from dmtl_cli.config.secrets import has_credentials, masked_override

Overrides = list[str] | tuple[str, ...]
COMMAND_LINE = 0
"""the mark of a value that --set gives"""


def load_config(file: str | Path, overrides: Overrides = ()) -> Config:
    """Reads and checks a config.

    Args:
        file: the YAML.
        overrides: `a.b=c` as given to --set; c is read as YAML, a number in the path is a place in a list.

    Raises:
        UserError: with every mistake found; the first is its message.
    """
    name = str(file)
    raw, marks, found = parse(text_of(name), name)
    _refuse_credentials(raw, marks, name)
    if not isinstance(raw, dict):
        raise UserError(f"{name}:1: expected keys and values, got {shown(raw)}", code=Exit.CONFIG)
    states = [_tuples(raw)]
    for entry in overrides:
        found += _override(raw, entry, marks)
        states.append(_tuples(raw))
    config, wrong = _validate(states[-1])
    if wrong:
        known = [set(_validate(state)[1]) for state in states]
        told = sorted(_located(m, name, overrides, marks, known) for m in wrong)
        # a misspelt key explains the required one that is missing
        found += [text for _, text in sorted(told, key=lambda mistake: mistake[1].endswith(" is required"))]
    if found or config is None:
        raise UserError(found[0], code=Exit.CONFIG, others=tuple(found[1:]))
    return config


def named_workspace(file: Path, overrides: Overrides = ()) -> Path | None:
    """The workspace that a broken config names, if it does, so that its mistakes can be logged there."""
    try:
        raw = parse(text_of(file), str(file))[0]
    except UserError:
        raw = None
    named = raw.get("workspace") if isinstance(raw, dict) else None
    named = next((s.partition("=")[2] for s in reversed(overrides) if s.startswith("workspace=")), named)
    return Path(named) if isinstance(named, str) and named and "\0" not in named else None


def _refuse_credentials(raw: Any, marks: Marks, file: str, place: Place = ()) -> None:
    """Raises UserError 78 where a value contains some, without a word of it."""
    for at in _credentials(raw, place):
        where = f"{file}:{marks.get(at, 1)}" if file else "--set"
        raise UserError(f"{where}: {dotted(at)}: {NO_CREDENTIALS}", "they are not shown here", Exit.CONFIG)


def _credentials(value: Any, place: Place) -> Iterator[Place]:
    """Places of values, and of what is below a key, that contain credentials."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if has_credentials(key):
                yield place
            yield from _credentials(inner, (*place, key))
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield from _credentials(inner, (*place, k))
    elif isinstance(value, str) and has_credentials(value):
        yield place


def _tuples(value: Any) -> Any:
    """Lists as tuples, as a frozen config has them (strict types convert nothing)."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _validate(raw: dict[str, Any]) -> tuple[Config | None, list[Mistake]]:
    try:
        return Config.model_validate(raw), []
    except ValidationError as e:
        return None, mistakes(e, raw)


def _located(
    mistake: Mistake, file: str, overrides: Overrides, marks: Marks, known: list[set[Mistake]]
) -> tuple[int, str]:
    """A mistake's line (0: --set) and message.

    Args:
        known: what was wrong before the first override, and after each.
    """
    line = marks[mistake.place]
    if line == COMMAND_LINE:
        return line, f"--set {mistake.text}"
    for entry, before, after in reversed(list(zip(overrides, known, known[1:], strict=False))):
        if mistake not in before:
            if before <= after:  # else the mistake may have been there, hidden by one that this override fixes
                return COMMAND_LINE, f"--set {masked_override(entry)}: {mistake.text}"
            break
    return line, f"{file}:{line}: {mistake.text}"


def _override(raw: dict[str, Any], entry: str, marks: Marks) -> list[str]:
    """Puts one `a.b=c` in place; returns the keys that c gives twice."""
    key, equals, value = entry.partition("=")
    entry = masked_override(entry)
    parts: Place = tuple(int(p) if re.fullmatch("[0-9]{1,9}", p) else p for p in key.split("."))
    if not equals or "" in parts or len(parts) > DEEPEST:
        raise UserError(f"--set {entry}: expected dotted.key=value", code=Exit.USAGE)
    parsed, inner, found = parse(value, f"--set {entry}", parts)
    _refuse_credentials(parsed, {}, "", parts)
    at: Any = raw
    for k, part in enumerate(parts):
        if at is None:
            empty = ".".join(map(str, parts[:k]))
            raise UserError(
                f"--set {entry}: {empty} is empty in the config", f"give {empty} keys, or leave it out", Exit.CONFIG
            )
        try:
            if k == len(parts) - 1:
                at[part] = parsed
            elif isinstance(at, dict):
                at = at.setdefault(part, [] if isinstance(parts[k + 1], int) else {})
            else:
                at = at[part]
        except (KeyError, IndexError, TypeError):
            hint = "give the whole list, e.g. a.b=[{c: 1}]" if isinstance(part, int) else ""
            raise UserError(f"--set {entry}: there is nothing at {part} in the config", hint, Exit.CONFIG) from None
    for old in [place for place in marks if place[: len(parts)] == parts]:
        del marks[old]
    marks.update(dict.fromkeys((*inner, parts), COMMAND_LINE))
    for k in range(1, len(parts)):
        marks.setdefault(parts[:k], COMMAND_LINE)
    return found
