"""What is converted, a file each: text with its settings, what has objects in texts; `lake` and `avro` have others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import polars as pl

from dmtl_cli.config.table import OBJECT, Csv
from dmtl_cli.data.log.formats.objects import as_written, retyped, with_fields
from dmtl_cli.data.log.formats.source import OfFile
from dmtl_cli.data.log.formats.text_rows import Invalid, Rows, csv_rows, json_rows
from dmtl_cli.data.log.values.types import typed, without


class Source(Protocol):
    """Something to be converted by itself: a text or Avro file, or a data file of a table."""

    @property
    def path(self) -> str:
        """below data.root"""

    @property
    def where(self) -> str:
        """for messages"""

    @property
    def stamp(self) -> list[Any]:
        """changes where the source does, and is told without reading it"""

    def rows(self) -> Iterator[Rows]: ...


@dataclass(frozen=True)
class TextFile(OfFile):
    """A CSV or JSON file with its settings."""

    csv: Csv | None
    """None: JSON lines"""
    types: dict[str, Any]
    remedies: dict[str, str]
    finished: bool
    """whether its writer marks what is finished: it may be empty then"""
    nulls: tuple[str, ...] = ()
    """texts that stand for null, of a CSV beside those of its settings"""
    invalid: Invalid = None
    """what becomes of a line that does not parse"""
    zoneless: set[str] = field(default_factory=set, compare=False)
    """columns of type datetime in which a text names no zone, of the rows that were read"""

    @property
    def stamp(self) -> list[Any]:
        form = self.csv.model_dump(mode="json") if self.csv else "json"
        drop = [{"invalid": self.invalid}] if self.invalid == "drop" else []
        return [*super().stamp, form, self.types, *([self.nulls] if self.nulls else []), *drop]

    @property
    def first_row(self) -> int | None:
        """Number of its first row, for messages; None where blank lines between rows have numbers too."""
        return None if self.csv is None else 1 if self.csv.columns else 2

    def rows(self) -> Iterator[Rows]:
        nulls = (*(self.csv.null_values if self.csv else ()), *self.nulls)
        signs = (self.csv.decimal, self.csv.thousands) if self.csv else (".", None)
        objects = [c for c, kind in self.types.items() if kind == OBJECT]
        fit = partial(
            typed, types={c: kind for c, kind in self.types.items() if kind != OBJECT}, nulls=nulls, where=self.where,
            remedies=self.remedies, signs=signs, zoneless=self.zoneless,
        )  # fmt: skip

        def opened(rows: pl.DataFrame, numbers: Sequence[int]) -> pl.DataFrame:
            return fit(without(with_fields(rows, objects, numbers, self.where, nulls), nulls), numbers)

        if not self.csv:
            return json_rows(self.file, opened, finished=self.finished, invalid=self.invalid)
        options = self.csv.model_copy(update={"null_values": nulls})
        read = csv_rows(
            self.file, options, fit if not objects else as_written, finished=self.finished, invalid=self.invalid
        )
        return retyped(read, opened) if objects else read


@dataclass(frozen=True)
class Opened:
    """What has columns whose texts are JSON objects, with their fields as columns."""

    source: Source
    objects: list[str]

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def where(self) -> str:
        return self.source.where

    @property
    def stamp(self) -> list[Any]:
        return [*self.source.stamp, {OBJECT: self.objects}]

    def rows(self) -> Iterator[Rows]:
        return retyped(self.source.rows(), lambda rows, at: with_fields(rows, self.objects, at, self.where))
