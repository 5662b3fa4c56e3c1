"""A section of the config as a manifest stores it: every key is there, the defaults too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel

S = TypeVar("S", bound=BaseModel)


def from_stored(section: type[S], raw: Mapping[str, Any]) -> S:
    """The section whose `model_dump(mode="json")` is `raw`.

    A key at its default counts as not given, as some are refused where they have no effect.
    """
    given = {}
    for name, value in raw.items():
        field = section.model_fields[name]
        if not field.is_required() and value == _dumped(field.default):
            continue
        inner = _section(field.annotation)
        if inner and isinstance(value, dict):
            value = from_stored(inner, value)
        elif isinstance(value, list):
            value = tuple(from_stored(inner, v) if inner else v for v in value)
        given[name] = value
    return section.model_validate(given)


def _dumped(default: Any) -> Any:
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json")
    return [_dumped(v) for v in default] if isinstance(default, tuple) else default


def _section(annotation: Any) -> type[BaseModel] | None:
    """The type of section of a field, or of its elements."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _section(a))), None)
