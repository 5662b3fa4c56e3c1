"""A table of the log as the config describes it: where it is, how it is written, what its columns are."""

from __future__ import annotations

import codecs
import datetime as dt
import re
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from dmtl_cli.config.expressions import Aggregate, Expression, aggregated_roots_of, sources_of
from dmtl_cli.config.pattern import DayPattern
from dmtl_cli.config.section import Column, FileName, Grown, Name


def as_tuple(value: object) -> object:
    """One name as a list of names."""
    return (value,) if isinstance(value, str) else value


Format = Literal["parquet", "csv", "json", "avro", "delta", "iceberg"]
OBJECT, TEXT = "json", "text"
"""the types of texts that are JSON objects, whose fields are columns, and of what is text itself"""
_LISTS = ("list<text>", "list<int64>", "list<float64>")
TYPES = (TEXT, "int64", "float64", "bool", "date", "datetime", "clock", *_LISTS, OBJECT)
_FORM = "^(date|datetime):.+"
WHERE = ":where"
"""the column that `where` makes: no file has one of that name, and nothing but the reading of rows sees it"""
SERVED = ":served"
"""the same of the condition of `export.items`, which an export alone sees"""
DEEP = "path: `*` is any text of one name, for folders in folders write */*, got {!r}"
_DIRECTIVES = {*"admbBYyHIMSpz%", ".f", "3f", "EY"}


def _one_character(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n":
        raise ValueError(f"expected one ASCII character, got {text!r}")
    return text


def _separator(text: str) -> str:
    if len(text) == 1:
        return _one_character(text)
    if not 2 <= len(text) <= 4 or not text.isascii() or any(c.isalnum() or c in "\r\n\"'\\" for c in text):
        raise ValueError(f"expected one ASCII character, or up to four signs such as :: and |~|, got {text!r}")
    return text


def _type(text: str) -> str:
    """A type, checked: of a format whether it tells a day, and for a datetime when in it."""
    kind, _, form = text.partition(":")
    if text in TYPES:
        return text
    if re.fullmatch(_FORM, text) is None:
        raise ValueError(f"expected {', '.join(TYPES)}, or a format such as datetime:%d.%m.%Y %H:%M, got {text!r}")
    there = set(re.findall(r"%(\.f|3f|EY|.?)", form))
    if unknown := there - _DIRECTIVES:
        raise ValueError(
            f"expected %a, %d, %m, %b, %B, %Y, %EY, %y, %H, %I, %M, %S, %.f, %3f, %p and %z, got %{min(unknown)}"
        )
    if re.search(r"%(\w|3f)%EY|%EY%\w", form):
        raise ValueError(f"expected a sign that is no number on both sides of %EY, as in %d/%m/%EY, got {form!r}")
    day = "d" in there and there & {*"mbB"} and there & {*"Yy", "EY"}
    clock = bool(there & {*"HI"}) and "M" in there and ("I" in there) == ("p" in there)
    if not day or (not clock if kind == "datetime" else bool(there & {*"HIMSpz", ".f", "3f"})):
        needed = "day, month and year" + (", %M, and %H or %I with %p" if kind == "datetime" else " alone")
        raise ValueError(f"expected {needed} in a format of {kind}, got {form!r}")
    return text


Type = Annotated[
    str, AfterValidator(_type), WithJsonSchema({"anyOf": [{"enum": list(TYPES)}, {"type": "string", "pattern": _FORM}]})
]
Character = Annotated[str, AfterValidator(_one_character)]


def names_no_zone(kind: Type) -> bool:
    """Whether a type is a format of times without a zone."""
    return kind.startswith("datetime:") and not ("%z" in kind or kind.endswith(("UTC", "GMT", "Z")))


def _encoding(name: str) -> str:
    try:
        "a".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise ValueError(f"unknown encoding {name!r}, expected one of Python's such as cp1252 or utf-16") from None
    return name


class Csv(Grown):
    """How CSV files are written: a row a line, the first line naming the columns."""

    new = ("encoding", "escape_char", "decimal", "thousands")

    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    """of the bytes, by Python's name: cp1252 of Windows in western Europe, latin-1, utf-16, shift_jis, gb18030"""

    separator: Annotated[str, AfterValidator(_separator)] | None = None
    """between two values: one character, or several signs such as :: (with quote_char: null); absent: a tab in *.tsv, a
    comma elsewhere"""
    quote_char: Character | None = '"'
    """around a value that contains a separator, a newline or (doubled) itself; null: no value is quoted"""
    escape_char: Character | None = None
    """before a character that stands for itself, a separator or a newline, as \\ in what UNLOAD ... ESCAPE of Redshift
    and MySQL's INTO OUTFILE write (\\N alone is null then); absent: there is none"""
    columns: tuple[Column, ...] | None = None
    """names of the columns where files have no line that names them"""
    null_values: tuple[str, ...] = ()
    """what stands for null beside nothing at all, e.g. NULL or \\N"""
    decimal: Literal[".", ","] = "."
    """before the decimals of numbers (float64), as 49,8 has a comma; a number with the other one of the two, which may
    stand between thousands, is refused, unless `thousands` names it"""
    thousands: Literal[".", ",", " ", "'"] | None = None
    """between groups of three digits of numbers (float64, int64), as 1.494,90 has a point, 1'494.90 an apostrophe and
    1 494,90 a space (any, also one that does not break); numbers without it are read too. Absent: there is none"""

    @model_validator(mode="after")
    def _is_readable(self) -> Csv:
        if self.separator is not None and self.separator == self.quote_char:
            raise ValueError("separator: expected another character than quote_char")
        if self.escape_char is not None and self.escape_char in (self.separator, self.quote_char):
            raise ValueError("escape_char: expected another character than separator and quote_char")
        if len(self.separator or "") > 1 and (self.quote_char or self.escape_char):
            raise ValueError("separator: one of several signs goes with quote_char: null, and without escape_char")
        if self.thousands == self.decimal:
            raise ValueError("thousands: expected another character than decimal")
        if twice := sorted({c for c in self.columns or () if (self.columns or ()).count(c) > 1}):
            raise ValueError(f"columns: {twice[0]} appears twice")
        return self


class Table(Grown):
    """Files below data.root."""

    new: ClassVar[tuple[str, ...]] = ("format", "csv", "types", "computed", "where")

    path: str
    """folder or file below data.root. `{day}` in it stands for the day, as 2026-01-31 or 20260131, `{day:%Y/%m/%d}`
    writes it in another way, `*` for any text of a name: events/{day}, events_{day:%Y%m%d}.csv,
    {day:%Y-%m-%d}T*.json.gz; without a day in it `*` means all files that fit: users_*.json.gz beside other tables"""
    partition: Name | None = None
    """hive key of the day folders, e.g. `day` for day=2026-01-31 (or =20260131); of a Delta or Iceberg table, its
    column of the day"""
    success_file: FileName | None = None
    """the file that a finished day's folder has (path itself, where a column tells the day), e.g. _SUCCESS of Spark; a
    day without it is not read (66); beside dated file names, with `{day}` in it; absent: whatever is there is read"""
    format: Format | None = None
    """absent: data.format"""
    csv: Csv | None = None
    """absent: data.csv"""
    types: dict[Column, Type] = Field(default={})
    """of this table's columns, each in place of what data.types says of its name: two tables may have columns of one
    name and of other types"""
    computed: dict[Column, Expression] = Field(default={})
    """further columns by name, each made of others of its row by an SQL expression of Polars (docs/expressions.md has
    its functions): read_through: "scroll >= 75 OR saved = 'J'", person: "firm || '/' || desk"; of events also of what a
    side table says of the row's item or user on that day: share: played / items.length. One of an outcome is an
    outcome"""
    where: Expression | None = None
    """which rows are read: an SQL condition over columns of the files, as computed ones are made of: event =
    'impression' AND NOT is_bot. A row of which it is false or null is left out before anything else of it is looked
    at. Of events it names no outcome, as no morning knows it, but in a log of clicks alone, where it says what one is:
    rating >= 4"""

    @property
    def made(self) -> dict[str, str]:
        """What is computed of each row: columns by name, and under WHERE whether the row is read."""
        return self.computed | ({WHERE: self.where} if self.where else {})

    @property
    def sources(self) -> set[str]:
        """The columns that computed ones and the condition are made of."""
        return {c for text in self.made.values() for c in sources_of(text)}

    @property
    def is_dated(self) -> bool:
        """Whether the path has the day in it."""
        return "{day" in self.path

    @property
    def is_glob(self) -> bool:
        """Whether the path stands for several folders or files that no day in it tells apart."""
        return "*" in self.path and not self.is_dated

    @field_validator("path", "success_file")
    @classmethod
    def _pattern(cls, path: str | None) -> str | None:
        if path is not None and ("{" in path or "}" in path):
            DayPattern(path)
        return path

    @model_validator(mode="after")
    def _one_day(self) -> Table:
        if self.is_dated and self.partition:
            raise ValueError("give {day} in path or partition, not both")
        return self


class Beside(Table):
    """A table beside the events: one a day where partition or path tell it, else one for all days."""

    @property
    def hive_key(self) -> str | None:
        return self.partition

    @property
    def is_daily(self) -> bool:
        return self.is_dated or self.partition is not None

    @model_validator(mode="after")
    def _is_one_place(self) -> Beside:
        if self.is_glob and self.partition:
            raise ValueError(f"path: `*` stands beside {{day}}, or without partition, got {self.path!r}")
        if self.is_glob and "**" in self.path:
            raise ValueError(DEEP.format(self.path))
        return self


class Joined(Beside):
    """A table of what came of exposures, its rows joined to the events by an id that both have."""

    new = (*Table.new, "date_column", "unique", "explode", "through", "item", "time", "within")

    key: Column
    """its column of the exposure's id, which several rows may have; a row whose id no exposure has is left out"""
    event_key: Column | None = None
    """the column of these ids in the events; absent: the name of `key`"""
    through: Annotated[str, Field(pattern=r"^[^.]+\..+$")] | None = None
    """another table of `joined`, named before this one, and its column of the ids that `key` has, where rows name a row
    of that table in place of an exposure: clicks.click_id of orders that name the click. They are of that row's
    exposure, or of each of several that have the id, as of what lies in a basket; so `event_key` is that of the other
    table"""
    item: Column | None = None
    """its column of the item, beside `through`: of the exposures that a row names it is of those of this item
    (data.events.item), as a line of an order of one product of the basket"""
    time: Column | None = None
    """when each row came, for `within`: a time, or seconds or milliseconds since 1970. Where neither this nor
    data.events.time names a zone both are of one clock; beside one that does, this is of data.timezone and that of
    UTC, or with data.naive_times: local of data.timezone too"""
    within: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smhd]$")] | None = None
    """how long after an exposure its rows come, as 90s, 30m, 24h or 7d: a row is of each exposure of its id that was
    shown at most so long before it (data.events.time), as where ids are those of a user and an item, and of none that
    was shown later. Absent: of each that has its id"""
    columns: Annotated[dict[Column, Aggregate], Field(min_length=1)]
    """columns of the events by name, each an SQL expression of Polars over all rows of one id: seconds: SUM(seconds),
    cooked: MAX(cook_mode) = 1, clicked: COUNT(*) > 0. An exposure without a row has what the expression gives of no
    rows: 0 of COUNT, null of SUM, MIN, MAX and AVG. All are outcomes, never features; click, duration, conversion,
    conversions, weight and computed may name them"""
    days_after: Annotated[int, Field(ge=0, le=31)] = 0
    """how many days' files after its own a day reads too: 1 for what comes of an exposure after midnight. A day then
    waits until these are there (66)"""
    date_column: Column | None = None
    """a column that gives the day of a row, where files have several days, as data.events.date_column does"""
    explode: Annotated[tuple[Column, ...], BeforeValidator(as_tuple)] = ()
    """lists whose elements are the rows, as data.events.explode"""
    unique: Column | None = None
    """the id of a row, of which a table that is delivered at least once may have several rows: the last of them is
    read, so that SUM and COUNT take it once. Rows without an id are all read. Absent: each row counts"""

    @property
    def way(self) -> tuple[str, str] | None:
        """The table and the column of `through`."""
        table, _, column = (self.through or "").partition(".")
        return (table, column) if self.through else None

    @property
    def window(self) -> dt.timedelta | None:
        """Of `within`."""
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        return dt.timedelta(**{units[self.within[-1]]: int(self.within[:-1])}) if self.within else None

    @property
    def is_daily(self) -> bool:
        return super().is_daily or self.date_column is not None

    @property
    def id_column(self) -> str:
        """The events' column of the ids."""
        return self.event_key or self.key

    @property
    def read_columns(self) -> set[str]:
        """The table's columns that are read."""
        roots = [aggregated_roots_of(text) for text in self.columns.values()]
        named = {n for one in roots for r, fields in one.items() for n in ([f"{r}.{f}" for f in fields] or [r])}
        return {self.key, *named, *(c for c in (self.time, self.item) if c)}

    @model_validator(mode="after")
    def _is_of_days(self) -> Joined:
        if (self.time is None) != (self.within is None):
            given, lacks = ("within", "time") if self.time is None else ("time", "within")
            raise ValueError(f"{given} has no effect without {lacks}")
        if self.item and not self.through:
            raise ValueError("item has no effect without through: key names one exposure, which has one item")
        if self.within and self.through:
            raise ValueError("within has no effect beside through: rows of the other table name their exposures")
        if self.date_column and (self.partition or self.is_dated):
            raise ValueError(f"give {'partition' if self.partition else '{day} in path'} or date_column, not both")
        if self.date_column in self.computed:
            raise ValueError("date_column is read before columns are computed: name one of the files")
        if self.days_after and not self.is_daily:
            what = "days_after has no effect on one table for all days"
            raise ValueError(f"{what}: give {{day}} in path, partition or date_column")
        if self.unique == self.key:
            raise ValueError(f"unique: {self.key} may have several rows of an exposure: name the row's own id")
        return self
