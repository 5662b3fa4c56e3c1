"""Pydantic's errors in the words of YAML, each with the place of its value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dmtl_cli.config.errors import did_you_mean
from dmtl_cli.config.parsing import Place
from dmtl_cli.config.schema import Config

WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "string_too_short": "text of at least {min_length} character",
    "string_pattern_mismatch": "a name of letters, digits and _ that does not begin with a digit",
}
"""what was expected, by pydantic's type of error; `Name` is the only pattern"""


@dataclass(frozen=True)
class Mistake:
    place: Place
    """the deepest one that the config has"""
    text: str


def mistakes(error: ValidationError, raw: dict[str, Any]) -> list[Mistake]:
    """Everything that is wrong with `raw`, the mapping that did not validate; its lists are tuples."""
    errors = [(_existing(raw, e["loc"]), e) for e in error.errors(include_url=False)]
    found: list[Mistake] = []
    above = {place[:k] for place, _ in errors for k in range(len(place))}
    wrong: dict[Place, list[Any]] = {}
    for place, e in errors:
        match e["type"]:
            case "extra_forbidden":
                near = did_you_mean(str(place[-1]), _keys_at(place[:-1]))
                found.append(Mistake(place, f"unknown key {dotted(place)}{near}"))
            case "missing":
                found.append(Mistake(place, f"{dotted((*place, e['loc'][-1]))} is required"))
            case "value_error":
                said = str(e["ctx"]["error"])
                found.append(Mistake(_named(raw, place, said), f"{dotted(place)}: {said}" if place else said))
            case _ if place not in above:
                wrong.setdefault(place, []).append(e)  # unless what is below it says more
    return list(dict.fromkeys(found + [Mistake(p, _unexpected(raw, p, es)) for p, es in wrong.items()]))


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


def shown(value: Any) -> str:
    """A value in the words of YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "keys and values"
        case tuple() | list():
            return "a list" if value else "an empty list"
    return repr(value)


def _unexpected(raw: Any, place: Place, errors: list[Any]) -> str:
    """One value's message: a union has an error for each of its types."""
    expected = dict.fromkeys(_expected(e) for e in errors)
    got = errors[0]["input"]
    text = f"{dotted(place)}: expected {' or '.join(expected)}, got {shown(got)}"
    if errors[0]["type"] != "string_pattern_mismatch":
        return text
    legal = re.sub(r"^(?=\d)", "_", re.sub(r"\W+", "_", got, flags=re.ASCII).strip("_")) or "NAME"
    if place[0] != "features" or place[-1] != "name":
        return f"{text}; write e.g. {legal}"
    has_column = "column" in raw["features"][place[1]]
    return f"{text}; write name: {legal}" + ("" if has_column else f", column: {got!r}, if the log calls it so")


def _expected(error: Any) -> str:
    limits = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in error.get("ctx", {}).items()}
    return WORDS[error["type"]].format(**limits) if error["type"] in WORDS else str(error["msg"])


def _existing(raw: Any, location: Iterable[str | int]) -> Place:
    """The place of an error's location, in which pydantic also writes a union's branch and what is missing."""
    at = raw
    place: Place = ()
    for part in location:
        if part in at if isinstance(at, dict) else isinstance(at, tuple) and part in range(len(at)):
            at, place = at[part], (*place, part)
    return place


def _named(raw: Any, place: Place, said: str) -> Place:
    """The place of the key that a message begins with, where the config has it: `min_count has no effect ...`."""
    words = re.match(r"[\w.]*", said)
    for word in words[0].split(".") if words else ():
        deeper = _existing(raw, (*place, int(word) if word.isdigit() else word))
        if deeper == place:
            break
        place = deeper
    return place


def _keys_at(place: Place) -> list[str]:
    """The keys that a section has."""
    model: type[BaseModel] = Config
    for part in place:
        if isinstance(part, str):
            inner = _models(model.model_fields[part].annotation) if part in model.model_fields else []
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]
