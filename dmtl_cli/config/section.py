"""The base of every section of a config, strict and frozen, and the types of its values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

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


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
