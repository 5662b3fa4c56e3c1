"""Reads a config: YAML in which every value has a line, `--set`, and every mistake at once.

Numbers such as `1e-3`, which YAML 1.1 reads as text, are accepted as numbers; `yes`/`no` and dates stay the text that
the user typed; a key given twice is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.messages import Mistake, Place, mistakes, shown
from dmtl_cli.config.schema import Config

Overrides = list[str] | tuple[str, ...]
Marks = dict[Place, int]
"""the line of every value, from 1"""
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
    raw, marks, found = parse(_text(name), name)
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


def _text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such config file", "give --config FILE", Exit.CONFIG) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{name}: cannot be read as text: {e}", code=Exit.CONFIG) from None


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
                return COMMAND_LINE, f"--set {entry}: {mistake.text}"
            break
    return line, f"{file}:{line}: {mistake.text}"


def _override(raw: dict[str, Any], entry: str, marks: Marks) -> list[str]:
    """Puts one `a.b=c` in place; returns the keys that c gives twice."""
    key, equals, value = entry.partition("=")
    parts: Place = tuple(int(p) if p.isdigit() else p for p in key.split("."))
    if not equals or "" in parts:
        raise UserError(f"--set {entry}: expected dotted.key=value", code=Exit.USAGE)
    parsed, inner, found = parse(value, f"--set {entry}", parts)
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


# -- YAML with marks ---------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: only true/false are booleans, 1e-3 is a number, a date is text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|false|False)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, file: str, place: Place = ()) -> tuple[Any, Marks, list[str]]:
    """(contents of a YAML, the line of every value, keys given twice).

    Args:
        text: the YAML.
        file: its name in messages.
        place: its place in the config.

    Raises:
        UserError: 78 it is not YAML.
    """
    marks: Marks = {}
    found: list[str] = []
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _plain(node, loader, place, marks, found, file)), marks, found
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise UserError(f"{file}:{line}: not YAML: {e.problem}", "check indentation and quotes", Exit.CONFIG) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise UserError(f"{file}:{line}: not YAML: {e.reason}", code=Exit.CONFIG) from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a tag such as !!int on other text
        line = marks[next(reversed(marks))] if marks else 1
        raise UserError(f"{file}:{line}: not YAML: {e}", code=Exit.CONFIG) from None
    except RecursionError:
        raise UserError(f"{file}:1: not YAML that ends: an anchor contains itself", code=Exit.CONFIG) from None
    finally:
        if loader is not None:
            loader.dispose()


def _plain(node: yaml.Node, loader: _Loader, place: Place, marks: Marks, found: list[str], file: str) -> Any:
    """A composed node as plain Python, noting the line of every key and refusing a key given twice."""
    marks.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in out:
                found.append(f"{file}:{key.start_mark.line + 1}: {name} appears twice in one mapping")
            marks[(*place, name)] = key.start_mark.line + 1
            out[name] = _plain(value, loader, (*place, name), marks, found, file)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_plain(v, loader, (*place, k), marks, found, file) for k, v in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:float":
        return float(node.value)
    return loader.construct_object(node)
