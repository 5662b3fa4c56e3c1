"""The base of every section of a config, strict and frozen, and the types of its values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

Column = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Units = Annotated[tuple[Positive, ...], Field(min_length=1)]


def _local(folder: str) -> str:
    if "://" in folder:
        raise ValueError(f"expected a local folder, got {folder!r}: only data.root may be elsewhere")
    return folder


Folder = Annotated[str, AfterValidator(_local)]


def _file_name(name: str) -> str:
    if "/" in name or name.strip(".") == "" or "\0" in name:
        raise ValueError(f"expected a file's name such as _SUCCESS, got {name!r}")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]

_UNITS = {"": 1} | {
    f"{letter}{i}B": (1024 if i else 1000) ** k for k, letter in enumerate("KMGT", 1) for i in ("", "i")
}


def _bytes(given: object) -> object:
    """8GB -> 8,000,000,000; 8GiB -> 8 * 2 ** 30; a whole number as it is."""
    if not isinstance(given, str):
        return given
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([KMGT]i?B|)", given)
    if found is None:
        raise ValueError(f"expected bytes, or text such as 8GB or 8GiB, got {given!r}")
    return int(float(found[1]) * _UNITS[found[2]])


Size = Annotated[int, BeforeValidator(_bytes), Field(ge=1_000_000)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Grown(Section):
    """A section with keys that the first configs did not have: at their defaults they are not stored, so that the runs
    of a config without them keep their keys."""

    new: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {k: v for k, v in dump(self).items() if k not in self.new or getattr(self, k) != fields[k].default}


Word = TypeVar("Word", bound=str)


def without_effect(
    options: Mapping[Word, tuple[str, ...]], chosen: Word, given: Collection[str]
) -> tuple[str, str] | None:
    """The first given option that the chosen word does not take, with the words that take it; None where there is none.

    Args:
        options: what each word takes, e.g. `{"vector": ("dim",)}`.
        chosen: one of these words.
        given: keys that the user wrote.
    """
    for option in dict.fromkeys(name for names in options.values() for name in names):
        if option in given and option not in options[chosen]:
            *most, last = (word for word, names in options.items() if option in names)
            return option, f"{', '.join(most)} and {last}" if most else last
    return None
