"""Columns of items beside a list of them, to be read and to filter by: those of the export, of a file, and of the
log's table of items."""

from __future__ import annotations

import json
import math
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter, ValidationError

from dmtl_cli.config.days import before
from dmtl_cli.config.errors import Exit, UserError, did_you_mean, printable
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.log.files.converted import provisional
from dmtl_cli.data.log.reader import Log
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.serving.attributes import Attributes, Wanted, in_pieces, of_items, read_more
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.requests import Range, Scalar

_WANTED: TypeAdapter[Range | list[Scalar] | Scalar] = TypeAdapter(Range | list[Scalar] | Scalar)
_ID = "item_id"


def filter_of(given: list[str]) -> dict[str, Range | list[Scalar] | Scalar]:
    """`--filter COLUMN=VALUE` as a request of the server has them: a value as JSON, or as it stands where it is none.

    Raises:
        UserError: 2 no `=`, a column twice, or a value that no filter has.
    """
    found: dict[str, Range | list[Scalar] | Scalar] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"--filter: expected COLUMN=VALUE, got {text!r}", code=Exit.USAGE)
        if name in found:
            raise UserError(f"--filter: {name} is given twice", "give its values as a list", Exit.USAGE)
        parsed: Any = value
        try:
            with suppress(ValueError):
                parsed = json.loads(value)
            found[name] = _WANTED.validate_python(parsed)
        except (ValidationError, RecursionError):
            what = f'--filter: {name}: expected a value, a list of values or {{"min": .., "max": ..}}, got {value[:60]}'
            raise UserError(what, code=Exit.USAGE) from None
    return found


def attributes_of(export: Export, items: Path | None, asked: set[str], config: Config) -> Attributes:
    """What is known of the export's items: its own columns and those of a file, which replace others of their names;
    of the log's table of items those that are asked for and that neither has.

    Args:
        items: Parquet or CSV with `item_id`.
        asked: names of columns.

    Raises:
        UserError: as `read_more`; 65, 66 a column is asked for, and the table cannot be read.
    """
    ids = export.items[0]
    frames = [in_pieces(export.item_features, export.encoder.features_of_side("item"))]
    frames += [] if items is None else [of_items(ids, read_more(items, ids.dtype))]
    there = {_ID, *(c for frame in frames for c in frame.columns)}
    if (more := sorted(asked - there)) and config.data.items is not None:
        frames.append(_of_table(export, config, more))
    return Attributes(ids, *frames)


def _of_table(export: Export, config: Config, names: list[str]) -> pl.DataFrame:
    """[I] columns of the log's table of items, as the export of its day read it: those that are there."""
    ids, day = export.items[0], Manifest.read(export.folder / MANIFEST).day
    mine = tuple(Feature(name=f"c{k}", column=c, side="item", kind="categorical") for k, c in enumerate(names))
    with provisional(config.workspace) as place:
        log = Log(config.data, mine, max_memory=config.max_memory, converted=place)
        table = log.attributes("item", day, before(day, -1))
    if table is None or table.schema[ID] != ids.dtype:
        return pl.DataFrame(height=len(ids))
    called = {f.name: f.source for f in mine if f.name in table.columns}
    found = ids.alias(ID).to_frame().join(table, on=ID, how="left", maintain_order="left")
    return found.select(called.keys()).rename(called)


@dataclass(frozen=True)
class Known:
    """What a list of items is to be of, and to say of them."""

    among: npt.NDArray[np.bool_] | None
    """[I] which items a filter leaves; None without one"""
    attributes: Attributes | None
    names: tuple[str, ...] | None
    """columns to show"""
    unknown: tuple[str, ...] = ()
    """a line for each column of a filter with values that no item has"""

    @classmethod
    def of(cls, export: Export, config: Config, wanted: Wanted, columns: str | None, items: Path | None) -> Known:
        """Of `--filter` and `--columns a,b`.

        Args:
            items: a file of further columns.

        Raises:
            UserError: 2 a column that is not there, a value of another type; and as `attributes_of`.
        """
        names = None if columns is None else tuple(filter(None, (c.strip() for c in columns.split(","))))
        if not (wanted or names or items):
            return cls(None, None, names)
        known = attributes_of(export, items, {*wanted, *(names or ())}, config)
        there = known.frame.columns
        if absent := [c for c in names or () if c not in there]:
            near = did_you_mean(absent[0], there)
            what = f"--columns: no column {absent[0]!r}{near}"
            raise UserError(what, f"expected some of {', '.join(there)}, or of data.items", Exit.USAGE)
        try:
            among = known.mask(wanted) if wanted else None
            return cls(among, known, names, tuple(f"--{line}" for line in known.unknown(wanted)))
        except UserError as e:
            raise UserError(f"--{e.message}", e.hint, Exit.USAGE) from None

    def columns_of(self, items: pl.Series) -> list[dict[str, Any]] | None:
        """What is shown of some items, in their order; None where nothing is asked for."""
        if not self.names or self.attributes is None:
            return None
        known = self.attributes.frame
        frame = pl.DataFrame([known[_ID].alias(":id"), *(known[name] for name in self.names)])
        mine = items.alias(":id").to_frame().join(frame, on=":id", how="left", maintain_order="left")
        return mine.drop(":id").rows(named=True)


def json_of(value: Any) -> Any:
    """A value as JSON has it: a number that is not finite is null there, in a list or an object too."""
    if isinstance(value, list):
        return [json_of(each) for each in value]
    if isinstance(value, dict):
        return {name: json_of(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_of(value: Any) -> str:
    """A value in a line of tabs as people read it: lists joined by commas, null as nothing, a decimal as a number, a
    day or time without quotes, any space as a plain one."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(text_of, value))
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str):
        value = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in value)
    if isinstance(value, bool | int | float | dict):
        return printable(json.dumps(value, default=str, ensure_ascii=False))
    return printable(str(value))
