"""Columns of the events that lie in a table of their own: what came of exposures, a row a click, by the exposure's id.

The rows of one id are one value a column, by SQL expressions (`data.events.joined`). A day's table is read and
aggregated once; each block of events then looks its ids up. Columns that the config computes are made of these too.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dmtl_cli.config.days import Calendar
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.expressions import aggregated_roots_of, sources_of
from dmtl_cli.config.table import WHERE
from dmtl_cli.config.table import Joined as Section
from dmtl_cli.data.log.files.rows import REPEATED, TableRows
from dmtl_cli.data.log.files.shares import share_groups
from dmtl_cli.data.log.files.table import Table, require_condition
from dmtl_cli.data.log.formats.clocks import Came, Clock, aware, rows_of
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values.column_types import in_words, words_of
from dmtl_cli.data.log.values.computed import of_types, plain, struct_of
from dmtl_cli.data.log.values.dictionary import Rows, Texts, places
from dmtl_cli.runs.ranks import ALONE

Ints = npt.NDArray[np.int64]


class Outcomes:
    """A day's table of what came of exposures, a row an id. It is read when it is first asked for.

    Args:
        name: in `data.events.joined`.
        files: at least one.
        groups: of their row groups those that may have rows of these days; of a file not named all.
        days: the first and the last one that are read, where the section's column tells the day.
        check: raises UserError 65 where these columns of the table take too much memory.
        declared: columns that are null where no file of the day has them.
        through: the table of which its rows name rows in place of exposures.
        clocks: of the events and of its own rows, where `within` asks when these are.
        item: the events' column of the item, where the section has one.
    """

    def __init__(
        self,
        name: str,
        section: Section,
        files: Sequence[File],
        groups: dict[File, range],
        days: tuple[dt.date, dt.date],
        calendar: Calendar,
        check: Callable[[Table, Collection[str], dict[File, range]], object],
        declared: Collection[str] = (),
        through: Outcomes | None = None,
        clocks: tuple[Clock, Clock] | None = None,
        item: str | None = None,
    ) -> None:
        self.clocks, self._item = clocks, item if section.item else None
        self.name, self.section, self._files, self._groups = f"data.events.joined.{name}", section, files, groups
        self._days, self._calendar, self._check, self._declared = days, calendar, check, declared
        self._through, self._left_out, self._nameless = through, Counter[str](), 0

    def values(self, exposures: pl.DataFrame, columns: Sequence[str], file: File) -> pl.DataFrame:
        """[n] rows of the columns: what came of each exposure.

        Args:
            exposures: their `event_columns`.

        Raises:
            UserError: 65 ids are integers in one of the tables and text in the other, or what reading the table raises.
        """
        if self.clocks is None:
            at = self.places(self._ids_in(exposures), file)
            return self._columns.select(columns)[np.where(at < 0, len(self.keys), at)]
        begin, end = self.spans(exposures, file)
        texts, found = {c: self.section.columns[c] for c in columns}, list[pl.DataFrame]()
        for of in _parts(end - begin):  # of an exposure as many rows as came in time: of few exposures at once
            which, row = rows_of(begin[of], end[of])
            rows = self._rows[row].with_columns(pl.Series(_ID, which))
            made = pl.DataFrame([self._aggregated(rows, c, text) for c, text in texts.items()])
            at = np.full(len(begin[of]), len(made) - 1)  # what the expressions give of no rows
            at[end[of] > begin[of]] = np.arange(len(made) - 1)
            found.append(made[at])
        return pl.concat(found)

    def spans(self, exposures: pl.DataFrame, file: File) -> tuple[Ints, Ints]:
        """([n] begin, [n] end) of the `units` that are of each exposure, as `values` takes and raises."""
        at = self.places(self._ids_in(exposures), file).astype(np.int64)
        if self.clocks is None or self.section.window is None:
            return np.where(at < 0, 0, at), np.where(at < 0, 0, at + 1)
        shown = self.clocks[0].of(exposures, file, f"{self.name}.within")
        is_naive = shown.dtype == self._rows[_AT].dtype == pl.Datetime("us")
        came = self._as_they_stand if is_naive else self._as_instants
        shown = shown if is_naive else aware(shown, self.clocks[0].timezone)
        return came.within(at, shown.to_physical(), self.section.window // dt.timedelta(microseconds=1))

    @property
    def event_columns(self) -> list[str]:
        """The events' columns that tell what came of an exposure: of its id, its item where that is asked, and when it
        was shown."""
        beside = (self._item, self.clocks[0].column if self.clocks else None)
        return list(dict.fromkeys([self.section.id_column, *(c for c in beside if c)]))

    def _ids_in(self, exposures: pl.DataFrame) -> pl.Series:
        """[n] the id by which each is known here."""
        ids = exposures[self.section.id_column]
        return ids if self._item is None else _with_items(ids, exposures[self._item])

    @cached_property
    def _as_they_stand(self) -> Came:
        return Came(self._rows[_PLACE].cast(pl.Int64).to_numpy(), self._rows[_AT].to_physical().to_numpy())

    @cached_property
    def _as_instants(self) -> Came:
        """Beside exposures whose times name a zone, or where the rows' do."""
        assert self.clocks is not None
        came = aware(self._rows[_AT], self.clocks[1].timezone)
        return Came(self._rows[_PLACE].cast(pl.Int64).to_numpy(), came.to_physical().to_numpy())

    @property
    def units(self) -> Ints:
        """Rows of what exposures have: of each of the `keys`, or 1 of each row that has a time."""
        return self.rows.to_numpy().astype(np.int64) if self.clocks is None else np.ones(len(self._rows), np.int64)

    @property
    def timeless(self) -> int:
        """Rows with an id and without a time, where one is asked for."""
        return int(self.rows.sum()) - len(self._rows) if self.clocks is not None else 0

    def places(self, ids: pl.Series, file: object) -> Rows:
        """[n] the place of each exposure's id among `keys`; -1 where the table has no row of it. Raises as `values`."""
        given, ids = ids.dtype, _ids(ids.alias(self.section.id_column), file, named=True)
        if ids.null_count() == len(ids) or not len(self.keys):
            return np.full(len(ids), -1, np.int32)
        if ids.dtype != self.keys.dtype:
            mine, others = _kind(given), _kind(self._type(self.section.key))
            what = f"{file}: {self.section.id_column} are {mine}, but {self.section.key} of {self.where} {others}"
            raise UserError(what, _AS_BOTH)
        return places(self.keys, ids) if self._texts is None else self._texts.places(ids)

    def exposures(self, column: str, ids: pl.Series, by: Outcomes) -> pl.DataFrame:
        """[m] `row`, the place of an id, and the id of an exposure whose row it names by a column: of several, as of a
        basket's, one each; null where none has it.

        Args:
            by: the table that names it, for messages.
        """
        frame = self._frame([column], f"{by.name}.through expects")
        Table(self._files).require_ids(column)
        row, own = self._of_exposures(frame)
        named = _ids(frame[column], self.where, named=True).alias("id")
        known = pl.DataFrame([named.gather(row), own]).drop_nulls().unique()
        many = known["id"].value_counts(name="n").filter(pl.col("n") > BASKET)["id"]  # 'none' is nobody's basket
        known = known.filter(~known["id"].is_in(many.implode()))
        if ids.dtype != known["id"].dtype:
            if len(known) and ids.null_count() < len(ids):
                mine, others = _kind(by._type(by.section.key)), _kind(self._type(column))
                what = f"{by.section.key} of {by.where} are {mine}, but {column} of {self.where} {others}"
                raise UserError(what, _AS_BOTH)
            known = known.clear().cast({"id": ids.dtype})  # one side has no id at all
        asked = pl.DataFrame([ids.alias("id")]).with_row_index("row")
        return asked.join(known, on="id", how="left", maintain_order="left").drop("id")

    def _type(self, column: str) -> pa.DataType:
        return Table(self._files).type(column)

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self._files[0]}{f' and {len(self._files) - 1} more' if len(self._files) > 1 else ''}"

    @property
    def keys(self) -> pl.Series:
        """The distinct ids, sorted: int64 or text."""
        return self._read[0]

    @property
    def rows(self) -> pl.Series:
        """Rows of each of the `keys`."""
        return self._read[1]

    @property
    def read_rows(self) -> int:
        """Rows of the table, those without an id too."""
        return self._read[3]

    @cached_property
    def without_id(self) -> int:
        """Rows without an id, less those of kinds that never have one: a kind is what the one column of a condition
        says, as in a stream of which everything but the exposures is read."""
        if not (self._read and self._nameless):
            return 0
        table, section = Table(self._files), self.section
        kinds = sources_of(section.where) if section.where else []
        kinds = kinds if len(kinds) == 1 and table.has(kinds[0]) else []
        rows = TableRows(table, section, {}, self._days, self._calendar)
        found = [b.frame for b in rows.held([section.key, *kinds], share_groups(table, self._groups, ALONE))]
        parts = [pl.DataFrame([f[section.key].is_null().alias(_ID), *(plain(f[c]) for c in kinds)]) for f in found]
        every = pl.concat(parts, how="vertical_relaxed")
        return int(every.filter(~pl.col(_ID).all().over(kinds))[_ID].sum()) if kinds else int(every[_ID].sum())

    def met(self, times: Ints) -> int:
        """Rows of which one of these exposures, at least, has an id.

        Args:
            times: [units] exposures that have each.
        """
        if self._through is None:
            return int(self.units[times > 0].sum())
        ids = self.keys.filter(pl.Series(times > 0)).implode()
        return int(self._named.filter(self._named[_ID].is_in(ids))["row"].n_unique())

    def unmatched(self, times: Ints) -> int:
        """Rows with an id that are of none of these exposures, as `met` takes them."""
        rows = int(self.units.sum()) if self._through is None else self.read_rows - self._nameless
        return rows - self.met(times)

    @cached_property
    def _named(self) -> pl.DataFrame:
        """The row, and the id of each exposure that it is of, where `through` tells it: read again, as `check` alone
        asks for it."""
        row, ids = self._of_exposures(self._frame([self.section.item] if self.section.item else []))
        return pl.DataFrame([row, ids])

    @property
    def repeated(self) -> int:
        """Rows of a table that was read, without those that `unique` reads in their place."""
        return self._left_out[REPEATED]

    @property
    def _columns(self) -> pl.DataFrame:
        """[keys + 1] the columns of each id, and of one without a row."""
        return self._read[2]

    @cached_property
    def _texts(self) -> Texts | None:
        return Texts(self.keys) if self.keys.dtype == pl.String else None

    @property
    def schema(self) -> pa.Schema:
        """Of the columns."""
        return self._columns.clear().to_arrow(compat_level=pl.CompatLevel.oldest()).schema

    @property
    def _rows(self) -> pl.DataFrame:
        """Of a table with a clock those with an id and a time, in the order of both, and the id's place in `keys`."""
        return self._read[4]

    @cached_property
    def _read(self) -> tuple[pl.Series, pl.Series, pl.DataFrame, int, pl.DataFrame]:
        section = self.section
        frame = self._frame(sorted(section.read_columns - {section.key}))
        read, (row, ids) = len(frame), self._of_exposures(frame)
        frame = frame if self._through is None else frame[row]
        roots = [root for text in section.columns.values() for root in aggregated_roots_of(text).items()]
        named: dict[str, set[str]] = {}
        for root, fields in roots:
            named.setdefault(root, set()).update(fields)
        structs = [
            frame.select(struct_of(r, sorted(fields)).alias(r)).to_series() for r, fields in named.items() if fields
        ]
        whole = [plain(frame[r]) for r, fields in named.items() if not fields]
        rows = pl.DataFrame([ids, *structs, *whole]).with_columns(self._came(frame)).drop_nulls(_ID)
        by_id = rows.group_by(_ID, maintain_order=True)
        counted = by_id.agg(pl.len()).sort(_ID)
        one = (
            rows if self.clocks is None else rows.head(1)
        )  # those of an exposure are made as it asks; this has their types
        columns = [self._aggregated(one, column, text) for column, text in section.columns.items()]
        timed = rows.clear()
        if self.clocks is not None:
            place = pl.DataFrame([counted[_ID]]).with_row_index(_PLACE)
            timed = rows.drop_nulls(_AT).join(place, on=_ID, maintain_order="left")
            timed = timed.sort(_PLACE, _AT, maintain_order=True)
        return counted[_ID], counted["len"], pl.DataFrame(columns), read, timed

    def _came(self, frame: pl.DataFrame) -> list[pl.Series]:
        """When each row came, where that is asked."""
        return [self.clocks[1].of(frame, self._files[0], f"{self.name}.time").alias(_AT)] if self.clocks else []

    def _aggregated(self, rows: pl.DataFrame, column: str, text: str) -> pl.Series:
        """[keys + 1]: see `_columns`; the same of other ids, each with the rows that have it."""
        expression = pl.sql_expr(text).alias(column)
        try:
            some = rows.group_by(_ID, maintain_order=True).agg(expression).sort(_ID)[column]
            none = rows.clear().select(expression)[column].cast(some.dtype)
        except pl.exceptions.PolarsError as e:
            if any(dtype == pl.Null for dtype in rows.schema.values()):  # without a value, nor a type
                return pl.Series(column, [None] * (rows[_ID].n_unique() + 1))
            what = f"{self.where}: {self.name}.columns.{column}: {str(e).strip().splitlines()[0]}"
            raise UserError(what, of_types(self.where)) from None
        return some.append(none)

    def _of_exposures(self, frame: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """([m] the place of a row of the table, [m] the id of an exposure that it is of): a row that names several is
        there for each."""
        ids = _ids(frame[self.section.key], self.where).alias(_ID)
        self._nameless = ids.null_count()
        if self._through is None or self.section.way is None:
            return pl.int_range(len(ids), dtype=pl.UInt32, eager=True).alias("row"), ids
        found = self._through.exposures(self.section.way[1], ids, self)
        row, ids = found["row"], found[_ID]
        if self._item is not None:
            ids = _with_items(ids, frame[str(self.section.item)].gather(row)).alias(_ID)
        return row, ids

    def _frame(self, columns: Sequence[str], asked: str = "") -> pl.DataFrame:
        """The key and these columns, of the rows that are asked for; `asked` as of `Table.require`."""
        table, section = Table(self._files), self.section
        self._require(table, columns, asked or f"{self.name}.columns expects")
        beside = [c for c in (WHERE if section.where else None, section.unique, section.date_column) if c]
        self._check(table, [section.key, *columns, *beside], self._groups)
        rows = TableRows(table, section, {c: table.type(c) for c in columns}, self._days, self._calendar)
        groups = share_groups(table, self._groups, ALONE)
        found = [block.frame for block in rows.held([section.key, *columns], groups)]
        self._left_out = rows.selection.left_out
        named = [frame.select(_ids(frame[section.key], self.where), *columns) for frame in found]
        return pl.concat(named, how="vertical_relaxed")  # a file may lack the key, where `where` leaves out its rows

    def _require(self, table: Table, columns: Sequence[str], asked: str) -> None:
        """Raises UserError 65 where the key, or one of the columns, is not there: see `declared` of these.

        Rows that a condition asks for have a key, others of the same files may have none: so a file without any of the
        former lacks it, and a day without any of them too."""
        section = self.section
        require = table.require if section.where else table.require_everywhere
        if not self._has_none(table, columns):
            require(section.key, f"{self.name}.key expects")
            table.require_ids(section.key)
        for column in columns:
            if table.has(column) or column not in self._declared:
                table.require(column, f"{self.name}.time expects" if column == section.time else asked)
        require_condition(table, section, self.name.removeprefix("data."), self._declared)
        if section.date_column:
            table.require_everywhere(section.date_column, f"{self.name}.date_column expects")
        if section.unique:
            require(section.unique, f"{self.name}.unique expects")
            table.require_ids(section.unique)

    def _has_none(self, table: Table, columns: Sequence[str]) -> bool:
        """Whether a day of a stream has no row that a condition asks for, as JSON then has none of their columns: the
        config says the key's type, and neither the key nor what is read beside it is there, of a key within an object
        no other field of it. Else the key is missed: it may be misspelt, or have another name since."""
        section = self.section
        if not section.where or table.has(section.key) or section.key not in self._declared:
            return False
        names = {name for footer in table.footers.values() for name in footer.schema.names}
        if of := section.key.rpartition(".")[0]:
            return not any(name == of or name.startswith(f"{of}.") for name in names)
        beside = {*columns} - {*sources_of(section.where)}
        return bool(beside) and not beside & names


_ID, _AT, _PLACE = ":id", ":at", ":place"
_ROWS = 2_000_000  # of what came of exposures that are aggregated at once


def _parts(n: Ints) -> Iterator[slice]:
    """Exposures one after the other that have some million rows together, or one that has more."""
    begin, total = 0, np.cumsum(n)
    while begin < len(n) or begin == 0:
        before = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + _ROWS, "right")))
        yield slice(begin, end)
        begin = end


BASKET = 1_000
"""exposures of one id of another table, above which it is none"""
_AS_BOTH = "write both as integers, or both as text"


def _ids(s: pl.Series, where: object, *, named: bool = False) -> pl.Series:
    """Integers as int64, anything else as text; nulls without a type as they are.

    Args:
        named: whether rows of another table name these ids: one beyond int64, which is null here, would lose its rows.

    Raises:
        UserError: 65 values are no ids.
    """
    if s.dtype == pl.Null:
        return s
    made = s.cast(pl.Int64, strict=False) if s.dtype.is_integer() else None
    if named and made is not None and made.null_count() > s.null_count():
        what = f"{where}: column {s.name}: the id {s.filter(made.is_null() & s.is_not_null())[0]} is beyond int64"
        raise UserError(what, f"set data.types.{s.name}: text, or write ids as text in both tables")
    try:
        return s.cast(pl.String) if made is None else made
    except pl.exceptions.PolarsError:
        raise UserError(f"{where}: column {s.name}: expected ids, got {words_of(s)}", _AS_BOTH) from None


def _with_items(ids: pl.Series, items: pl.Series) -> pl.Series:
    """[n] ids of exposures with their items as one; null where either is."""
    return ids.cast(pl.String) + "/" + items.cast(pl.String)


def _kind(kind: pa.DataType | pl.DataType) -> str:
    """The type of ids for messages."""
    kind = kind if isinstance(kind, pa.DataType) else pl.Series(dtype=kind).to_arrow().type
    return "integers" if pa.types.is_integer(kind) else in_words(kind)
