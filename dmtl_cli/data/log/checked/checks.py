"""The checked columns of one block of raw rows: a value that does not fit is refused with its file, column and row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.days import Calendar, Moment
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.formats.source import File
from dmtl_cli.data.log.values.column_types import words_of
from dmtl_cli.data.log.values.hashing import blake2b64
from dmtl_cli.data.log.values.lengths import LENGTHS, clock_seconds, not_negative
from dmtl_cli.data.log.values.types import WORDS, booleans, days, instants, iso_times, localized

_NEVER = 253_370_764_800, 253_402_387_199
"""the year 9999, seconds since 1970, in any zone"""
INSTANT = 1_000_000_000
"""from here on (2001) an integer in the place of a flag is the time of the click"""


LONGEST = 1 << 20
"""bytes of an id"""
LARGEST = 2**63 - 1  # of int64
_DAYS = 19_000_101, 21_001_231  # of numbers as yyyymmdd
_TEXT = (pl.String, pl.Categorical, pl.Enum)
NOTHING: Mapping[str, str] = MappingProxyType({})


class Checked:
    """Columns of one block, each as the type the rest relies on. Every method raises UserError 65.

    Args:
        frame: raw rows of a file.
        file: where they were read.
        first_row: number of the block's first row in its file, for messages.
        remedies: what to do with a value that does not fit, by column; by `COLUMN?` with a null.
        places: of the rows in the block, from 0, where some were left out of it.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        file: File | str,
        first_row: int,
        remedies: Mapping[str, str] = NOTHING,
        places: pl.Series | None = None,
    ) -> None:
        self.frame, self.file, self.first_row, self.remedies = frame, file, first_row, remedies
        self._places = places

    def of(self, frame: pl.DataFrame) -> Checked:
        """Other columns of the same rows."""
        other = copy(self)
        other.frame = frame
        return other

    def only(self, mask: pl.Series) -> Checked:
        """The rows that are true in the mask; messages still name their places in the file."""
        if mask.all():
            return self
        other = self.of(self.frame.filter(mask))
        places = pl.int_range(len(mask), eager=True) if self._places is None else self._places
        other._places = places.filter(mask)
        return other

    def mask(self, rows: int) -> npt.NDArray[np.bool_]:
        """[rows] which rows of the block, before some were left out of it, these are."""
        if self._places is None:
            return np.ones(rows, np.bool_)
        mask = np.zeros(rows, np.bool_)
        mask[self._places.to_numpy()] = True
        return mask

    def _values(self, column: str) -> pl.Series:
        """Under a plain name: Polars takes `*` and `^a$` for patterns."""
        return self.frame[column].alias("values")

    def _refuse(self, column: str, bad: pl.Series, expected: str) -> None:
        at = bad.arg_true()
        if len(at):
            k = int(at[0])
            got = self.frame[column][k]
            raise UserError(f"{self._where(column, k)}: expected {expected}, got {got!r}", self._remedy(column, got))

    def _remedy(self, column: str, got: object) -> str:
        return (self.remedies.get(f"{column}?") if got is None else None) or self.remedies.get(column, "")

    def _where(self, column: str, k: int) -> str:
        """The place of row k of the block, for messages."""
        row = self.first_row + (k if self._places is None else int(self._places[k]))
        return f"{self.file}: column {column}, {self.file.row(row) if isinstance(self.file, File) else f'row {row}'}"

    def _wrong_type(self, column: str, expected: str, hint: str = "", named: str = "") -> UserError:
        """`named`: the type of the config that serves in place of a text file's text."""
        values = self.frame[column]
        if named and isinstance(self.file, File) and self.file.origin and values.dtype == pl.String:
            hint = f"set data.types.{column}: {named}"
        return UserError(f"{self.file}: column {column}: expected {expected}, got {words_of(values)}", hint)

    def ids(self, column: str) -> pl.Series:
        """int64 or text, exact, never null: a float cannot represent a large id."""
        s = self._values(column)
        if s.dtype.is_integer() or s.dtype == pl.Null:
            self._refuse(column, s.is_null(), "an id within int64, never null")
            if s.dtype == pl.UInt64 and len(large := (s > LARGEST).arg_true()):
                at = int(large[0])
                what = f"{self._where(column, at)}: expected an id within int64, got {s[at]}"
                raise UserError(what, f"set data.types.{column}: text, and so in each table that has these ids")
            return s.cast(pl.Int64)
        if s.dtype in (pl.String, pl.Categorical, pl.Enum):
            text = s.cast(pl.String)
            self._refuse(column, text.is_null() | (text == ""), "an id, never null or empty")
            if len(long := (text.str.len_bytes() > LONGEST).arg_true()):
                got = text.str.len_bytes()[int(long[0])]
                raise UserError(
                    f"{self._where(column, int(long[0]))}: expected an id of at most {LONGEST:,} bytes, got {got:,}",
                    self.remedies.get(column, ""),
                )
            return text
        raise self._wrong_type(column, "ids as integers or text", "a float loses ids above 2**53")

    def has_id(self, column: str) -> pl.Series:
        """[n] whether `ids` would take the value; all true where it refuses the column's type."""
        s = self._values(column)
        if s.dtype.is_integer() or s.dtype == pl.Null:
            return s.is_not_null()  # one beyond int64 is an id too, which `ids` refuses
        if s.dtype in (pl.String, pl.Categorical, pl.Enum):
            return s.cast(pl.String).str.len_bytes().is_between(1, LONGEST).fill_null(False)
        return s.is_not_null() | True

    def click(self, column: str, nulls: bool) -> pl.Series:
        """int8 1 or 0: a boolean, 0/1, or the time of a click, which is 1 where there is one.

        Args:
            nulls: whether a null of what is no date or timestamp is 0; else it is refused.
        """
        s = self._values(column)
        if s.dtype.is_temporal():
            return s.is_not_null().cast(pl.Int8)
        if s.dtype in _TEXT:
            said = "a boolean, 0/1, yes and no, or the time of a click"
            s = self._yes_or_no(column, said, named="bool, or datetime")
        if s.dtype.is_numeric() and float(s.max() or 0) >= INSTANT:  # type: ignore[arg-type]
            s = s.cast(pl.Float64).fill_nan(None)  # a time as a float is one still
            bad = ~((s == 0) | (s == 1) | s.is_between(INSTANT, float("inf"), closed="left"))
            self._refuse(column, bad.fill_null(False), "0, 1, or the time of a click")
            s = s.clip(upper_bound=1)
        return self.of(pl.DataFrame([s.alias(column)])).flag(column, nulls).clip(lower_bound=0)

    def flag(self, column: str, nulls: bool) -> pl.Series:
        """int8: 1, 0, and -1 for a null, which is refused unless `nulls`."""
        s = self._values(column)
        if s.dtype in _TEXT:
            s = self._yes_or_no(column, "a boolean, 0/1, or yes and no", named="bool")
        if not (s.dtype in (pl.Boolean, pl.Null) or s.dtype.is_numeric()):
            raise self._wrong_type(column, "a boolean, 0/1, or yes and no", named="bool")
        if s.dtype.is_float():
            s = s.fill_nan(None)
        bad = ~s.cast(pl.Float64).is_in([0.0, 1.0])
        self._refuse(column, bad.fill_null(not nulls), "0 or 1")
        return s.cast(pl.Int8).fill_null(-1)

    def _yes_or_no(self, column: str, expected: str, named: str) -> pl.Series:
        """Texts of one of `types.PAIRS` as booleans, an empty text as null."""
        text = self._values(column).cast(pl.String)
        text = text.set(text == "", None)
        out = booleans(text)
        if text.count() and not text.str.to_lowercase().is_in(WORDS).any():
            raise self._wrong_type(column, expected, named=named)
        self._refuse(column, out.is_null() & text.is_not_null(), "yes and no as one pair of words, such as J and N")
        return out

    def is_text(self, column: str) -> bool:
        return self.frame.schema[column] in _TEXT

    def clock(self, column: str) -> pl.Series:
        """float64 seconds of text that is a length of time, null where it is null, empty or below 0."""
        text = self._values(column).cast(pl.String)
        text = not_negative(text.set(text == "", None))
        out = clock_seconds(text)
        if out.null_count() == len(out) > text.null_count():
            raise self._wrong_type(column, f"a number, or a length of time as {LENGTHS}", named="float64, or clock")
        self._refuse(column, out.is_null() & text.is_not_null(), f"a length of time as {LENGTHS}")
        return out

    def number(self, column: str, nulls: bool = True) -> pl.Series:
        """float64, finite, not negative; null, or NaN, as null, which is refused unless `nulls`."""
        s = self._values(column)
        if not (s.dtype == pl.Null or s.dtype.is_numeric()):
            raise self._wrong_type(column, "a number", named="float64")
        s = s.cast(pl.Float64).fill_nan(None)
        self._refuse(column, ((s < 0) | s.is_infinite()).fill_null(not nulls), "a finite number, not negative")
        return s

    def is_number(self, column: str) -> pl.Series:
        """[n] whether `number` would take the value, or a null; all true where it refuses the column's type."""
        s = self._values(column)
        if not s.dtype.is_numeric():
            return s.is_null() | True
        s = s.cast(pl.Float64).fill_nan(None)
        return ~((s < 0) | s.is_infinite()).fill_null(False)

    def request(self, column: str) -> pl.Series:
        """int64: the integer, or the first 63 bits of a text's hash."""
        s = self._values(column)
        if s.dtype == pl.UInt64:
            self._refuse(column, s.is_null(), "an id, never null")
            return s.reinterpret(signed=True)
        s = self.ids(column)
        if s.dtype == pl.Int64:
            return s
        distinct = s.unique()
        hashed = [blake2b64(v) >> 1 for v in distinct]
        return s.replace_strict(distinct, pl.Series(hashed, dtype=pl.Int64), return_dtype=pl.Int64)

    def time(self, column: str) -> pl.Series:
        """Anything that sorts, never null: integers of a timestamp, a number, text."""
        s = self._values(column)
        if s.dtype.is_temporal() or s.dtype.is_numeric() or s.dtype == pl.Null:
            self._refuse(column, s.is_null(), "a time, never null")
            return s.to_physical() if s.dtype.is_temporal() else s
        if s.dtype == pl.String:
            self._refuse(column, s.is_null(), "a time, never null")
            return s
        raise self._wrong_type(column, "a time: timestamp, number or text that sorts")

    def date(self, column: str, calendar: Calendar, nulls: bool = False, *, zoneless: bool | None = None) -> pl.Series:
        """The local day of each row: a date, yyyymmdd, YYYY-MM-DD text, or, by a calendar, an instant: a timestamp, a
        number since 1970 (see `types.SECONDS`) or text in ISO 8601.

        Args:
            nulls: whether a null is null; else it is refused.
            zoneless: whether the texts that the times were read of name no zone; None: as the file says.

        Raises:
            UserError: 78 an instant, and the calendar has no time zone.
        """
        zone = calendar.timezone or "UTC"
        found = self._moment(column, calendar.timezone, nulls, zone if calendar.is_local else "UTC")
        if found.dtype == pl.Date:
            return found
        if zoneless is None:
            zoneless = isinstance(self.file, File) and column in self.file.zoneless
        is_naive = zoneless or getattr(self._values(column).dtype, "time_zone", zone) is None
        return (found if calendar.is_local and is_naive else found.dt.convert_time_zone(zone)).dt.date()

    def version(
        self, column: str, timezone: str | None, at: Moment, *, zoneless: bool = False, zone: str | None = None
    ) -> tuple[pl.Series, pl.Series]:
        """What orders the versions of a row, a later one above, and whether each was there at a moment: the times of
        `local` up to it, dates up to its day; other numbers always. Null is before all, and so is what
        is before 1900 in a column of days as yyyymmdd. What most numbers are tells what they are.

        Args:
            zoneless, zone: as `local` takes them.

        Raises:
            UserError: as `local`.
        """
        s = self._values(column)
        if s.dtype == pl.String and s.drop_nulls().str.contains(r"^[0-9]{1,7}$").all():
            s = s.cast(pl.Int64)  # as a CSV without types has them
        if s.dtype.is_numeric():
            s = s.fill_nan(None) if s.dtype.is_float() else s
            known = s.drop_nulls().cast(pl.Float64)
            if float(known.is_between(*_DAYS).mean() or 0) > 0.5:  # type: ignore[arg-type]
                s = s.cast(pl.Int64, strict=False)
                s = s.set(s < _DAYS[0], None)
            elif float((known >= INSTANT).mean() or 0) <= 0.5:  # type: ignore[arg-type]
                return s, pl.repeat(True, len(s), eager=True)
        moment = self.of(s.alias(column).to_frame()).local(column, timezone, zoneless=zoneless, zone=zone)
        if moment.dtype == pl.Date:
            return moment, (moment <= at.day).fill_null(True)
        return moment, (moment <= at.instant).fill_null(True)

    def ended(
        self,
        column: str,
        timezone: str | None,
        at: Moment,
        *,
        is_last_day: bool = False,
        zoneless: bool = False,
        zone: str | None = None,
    ) -> pl.Series:
        """[n] whether what lasts until a date, or an instant, is gone at a moment of data.timezone. Null is never,
        and so is what `ends` takes for it.

        Args:
            is_last_day: whether it lasts to the end of that day.
            zoneless, zone: as `local` takes them.

        Raises:
            UserError: as `date`.
        """
        s = ends(self._values(column))
        if s.null_count() == len(s):
            return pl.repeat(False, len(s), dtype=pl.Boolean, eager=True)
        moment = self.of(s.alias(column).to_frame()).local(column, timezone, zoneless=zoneless, zone=zone)
        if moment.dtype != pl.Date:
            if not is_last_day:
                return (moment <= at.instant).fill_null(False)
            moment = moment.dt.convert_time_zone(timezone or "UTC").dt.date()
        return (moment < at.day if is_last_day else moment <= at.day).fill_null(False)

    def local(self, column: str, timezone: str | None, *, zoneless: bool = False, zone: str | None = None) -> pl.Series:
        """A date, or an instant in UTC, as `date` takes them, but for times that name no zone: those are of
        data.timezone, or of another zone. Null is null.

        Args:
            zoneless: whether the texts that the times were read of name none.
            zone: the other one.

        Raises:
            UserError: as `date`.
        """
        s, zone = self._values(column), zone or timezone or "UTC"
        if isinstance(s.dtype, pl.Datetime) and timezone is not None and (zoneless or s.dtype.time_zone is None):
            return localized(s.dt.replace_time_zone(None), zone)
        return self._moment(column, timezone, nulls=True, zone=zone)

    def on_clock(
        self, column: str, timezone: str | None, *, zoneless: bool = False, zone: str | None = None
    ) -> pl.Series:
        """Dates, or times without a zone as the clock of data.timezone shows them, of what `local` takes and gives, to
        be compared with it. What says that it never comes, as `ends` knows it, is of the end of the year 9999; a number
        that is not above 0 stays that number, of days or microseconds of 1970; an empty text is null.

        Raises:
            UserError: as `local`, and 65 they are no times.
        """
        s = self.frame[column]
        s = s.fill_nan(None) if s.dtype.is_float() else s
        s = s.set(s.str.contains(r"^\s*$").fill_null(False), None) if s.dtype == pl.String else s
        known = ends(s)
        if not known.count():
            found = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, len(s))
        elif is_time(known):
            found = self.of(known.alias(column).to_frame()).local(column, timezone, zoneless=zoneless, zone=zone)
        else:
            what = f"column {column} is compared with a time, and has values such as {known.drop_nulls()[0]!r}"
            fix = f"name its type in data.types, such as {column}: datetime, or leave the comparison out"
            raise UserError(f"{self.file}: {what}, which are none", fix)
        if getattr(found.dtype, "time_zone", None):
            found = found.dt.convert_time_zone(timezone or "UTC").dt.replace_time_zone(None).dt.cast_time_unit("us")
        never = pl.lit(dt.datetime(9999, 12, 31)).cast(found.dtype)
        if s.dtype.is_numeric():
            small = pl.col("s").cast(pl.Int64, strict=False).cast(found.dtype, strict=False)
            never = pl.when(pl.col("s") <= 0).then(small).otherwise(never)
        made = pl.when(pl.col("x").is_null() & pl.col("s").is_not_null()).then(never).otherwise(pl.col("x"))
        return pl.DataFrame({"s": s, "x": found}).select(made.alias(column)).to_series()

    def _moment(self, column: str, timezone: str | None, nulls: bool, zone: str = "UTC") -> pl.Series:
        """A date, or an instant in UTC: see `date`. `zone`: of texts that name none."""
        s = self._values(column)
        if s.dtype.is_float() and s.fill_nan(None).drop_nulls().is_between(*_DAYS).all():
            s = s.fill_nan(None).cast(pl.Int64)  # yyyymmdd beside nulls, as pandas writes it
        free = s.is_null() & nulls
        if s.dtype == pl.Date:
            self._refuse(column, s.is_null() & ~free, "a day, never null")
            return s
        if s.dtype == pl.String:
            out = days(s)
            if out.null_count() == s.null_count() or (times := iso_times(s, zone)).null_count() == len(s):
                self._refuse(column, out.is_null() & ~free, "a day as YYYY-MM-DD or YYYYMMDD, or a time in ISO 8601")
                return out
            self._refuse(column, times.is_null() & s.is_not_null(), "a time in ISO 8601")
            return self._instant(column, times, timezone, free)
        if s.dtype.is_integer() and len(s) and int(s.max() or 0) < 100_000_000:  # type: ignore[arg-type]
            out = days(s)
            self._refuse(column, out.is_null() & ~free, "a day as YYYYMMDD")
            return out
        if s.dtype.is_numeric():
            s = s.fill_nan(None) if s.dtype.is_float() else s
            free = s.is_null() & nulls
            s = instants(s, least=None)  # 0 is of 1970, another day
        return self._instant(column, s, timezone, free)

    def _instant(self, column: str, instants: pl.Series, timezone: str | None, free: pl.Series) -> pl.Series:
        if not isinstance(instants.dtype, pl.Datetime):
            raise self._wrong_type(column, "a date, a time, yyyymmdd or seconds or milliseconds since 1970")
        if timezone is None:
            hint = "set data.timezone, e.g. Asia/Shanghai: it decides the day"
            raise UserError(f"{self.file}: column {column} is an instant", hint, Exit.CONFIG)
        self._refuse(column, instants.is_null() & ~free, "an instant, never null")
        aware = instants.dt.replace_time_zone("UTC") if instants.dtype.time_zone is None else instants
        return aware.dt.convert_time_zone("UTC")


def is_time(values: pl.Series) -> bool:
    """Whether values are times or days, as `Checked.local` reads them: of that type, texts that all are, or numbers of
    which most are."""
    known = values.drop_nulls()
    if values.dtype.is_numeric():
        x = known.cast(pl.Float64)
        return float((x.is_between(*_DAYS) | (x >= INSTANT)).mean() or 0) > 0.5  # type: ignore[arg-type]
    if values.dtype != pl.String:
        return isinstance(values.dtype, (pl.Date, pl.Datetime))
    return bool(len(known)) and not (days(known).null_count() and iso_times(known).null_count())


def ends(values: pl.Series) -> pl.Series:
    """Times at which something ends, null where one says that it never does: an empty text, a number that is not above
    0, and a day of the year 3000 or later, as 9999-12-31, whose seconds are as large as milliseconds of 1978."""
    if values.dtype == pl.String:
        return values.set(values.str.contains(r"^\s*$|^\s*[3-9][0-9]{3}-").fill_null(False), None)
    if not values.dtype.is_numeric():
        return values
    x = pl.col("x")
    never = x.is_between(30_000_101, 99_991_231) | (x <= 0)
    for unit in (1, 10**3, 10**6):
        never |= x.is_between(_NEVER[0] * unit, _NEVER[1] * unit)
    said = values.cast(pl.Float64).alias("x").to_frame().select(never)
    return values.set(said.to_series().fill_null(False), None)


class Together(Checked):
    """Columns of several blocks one after the other, which are judged as one; messages name the file of a row.

    Args:
        frame: rows of all blocks.
        blocks: at least one.
    """

    def __init__(self, frame: pl.DataFrame, blocks: Sequence[Checked]) -> None:
        super().__init__(frame, blocks[0].file, 0)
        self._blocks = blocks

    def _where(self, column: str, k: int) -> str:
        for block in self._blocks:
            if k < len(block.frame):
                return block._where(column, k)
            k -= len(block.frame)
        raise AssertionError("no block has the row")
