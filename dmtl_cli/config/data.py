"""`data`: where the log is, what its columns are called, and its side tables."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from dmtl_cli.config.days import Calendar
from dmtl_cli.config.expressions import roots_of, sources_of
from dmtl_cli.config.secrets import has_credentials
from dmtl_cli.config.section import Column, Folder, Grown, Name
from dmtl_cli.config.table import DEEP, OBJECT, TEXT, Beside, Csv, Format, Joined, Table, Type, as_tuple, names_no_zone
from dmtl_cli.config.tasks import is_reserved

NO_CREDENTIALS = "credentials belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"


def known_zone(zone: str) -> str:
    """A time zone's name as it is. Raises ValueError where there is none of it."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        hours = re.fullmatch(r"(?:UTC|GMT) ?([+-])0?([0-9]{1,2})(?::00)?", zone)
        ahead = "-" if hours and hours[1] == "+" else "+"  # Etc has signs the other way round
        etc = f"Etc/GMT{ahead}{hours[2]}" if hours else ""
        named = f"the place of your users, or {etc}" if etc in available_timezones() else "Asia/Shanghai or UTC"
        raise ValueError(f"unknown time zone {zone!r}, expected a name such as {named}") from None
    return zone


Zone = Annotated[str, AfterValidator(known_zone)]


class Events(Table):
    """Where the click log is and what its columns are called."""

    new = (*Table.new, "null_click", "max_duration", "invalid_rows", "joined", "explode", "explode_position", "unique")

    path: str = "events"
    """folder or file below data.root, with the day in it where `{day}` stands: see `path` of data.users; with
    date_column also several, `*` for any text of a name: events-*.jsonl.gz"""
    date_column: Column | None = None
    """a column that gives the day instead: a date, a timestamp, text in ISO 8601 or integers (yyyymmdd; seconds,
    milliseconds, micro- or nanoseconds since 1970); what is no date needs data.timezone, in which days are cut"""
    explode: Annotated[tuple[Column, ...], BeforeValidator(as_tuple)] = ()
    """lists whose elements are the events, in rows that are requests with what was shown: a list of objects, `results`,
    an object of lists that run in parallel, `shown`, or such lists by name, [shown.item, shown.click]. All columns are
    named as before (`results.click` is then the element's), those beside the lists are repeated, an empty list or null
    is no event"""
    explode_position: Column | None = None
    """name of a further column: the element's place in its list, from 1"""
    user: Column = "user_id"
    item: Column = "item_id"
    time: Column | None = None
    """orders the rows of a day (first value of a user, recency); any sortable column. Beside `version` of a side table
    it must be when an item was shown, not when the row was written"""
    click: Column | None = None
    """boolean, 0/1 or text such as yes and no or J and N (see data.types); or the time of the click, a date or
    timestamp (or integers, seconds or milliseconds since 1970): a row with one is a click. Absent: every row is a click
    (a log of positives only, no exposures)"""
    null_click: Literal["refuse", "no_click"] = "refuse"
    """what a null in click is where it is no date or timestamp: no_click, for writers that leave it empty"""
    duration: Column | None = None
    """how long a clicked item was read: a number, or text such as 3:45 or 1h 20m (in csv data.types.COLUMN: clock)"""
    duration_unit: Literal["s", "ms"] = "s"
    """of a number"""
    max_duration: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """seconds: a longer duration counts as this many (a page left open); absent: as it is written"""
    conversion: Column | None = None
    """a boolean column (like, purchase) instead of duration; null: unknown"""
    weight: Column | None = None
    request: Column | None = None
    """the request (one served list) an exposure belongs to: an integer or a string"""
    unique: Column | None = None
    """the id of an exposure, or of the list that it is in (a request, a page), of which a log that is delivered at
    least once may have several rows on a day: of those of an id and an item one is read, the last with a click, else
    the last. Rows without an id are all read. Absent: each row counts, a click once a request"""
    conversions: dict[Name, Column] = Field(default={})
    """further conversion tasks by name, each a boolean column counted with a click (like: is_like); null: unknown"""
    outcomes: tuple[Column, ...] = ()
    """further columns known only after the exposure: never features"""
    joined: dict[Name, Joined] = Field(default={})
    """by a name for messages, tables of what came of exposures (a table of clicks beside one of impressions), whose
    rows name the exposure by an id"""
    invalid_rows: Literal["refuse", "drop"] = "refuse"
    """drop: rows without a user, item or time, with an id that cannot be one (empty, above 1 MiB, beyond int64), or
    with a negative or infinite duration of a click are left out and counted by reason (of a row without a click such a
    duration is unknown); so are lines of a csv with another number of values than the columns and lines of a json that
    are no object, but no lines that a quote holds together. A day that would lose more than half of its rows is
    refused all the same. Lines that do not parse are left out and counted in tables of joined, users and items too, and
    one that would lose more than half of its lines is refused"""

    @model_validator(mode="after")
    def _one_of_each(self) -> Events:
        if (self.duration is None) == (self.conversion is None):
            raise ValueError("give exactly one of duration and conversion: it defines the second label")
        if self.click is None and self.null_click != "refuse":
            raise ValueError("null_click has no effect without click")
        if self.duration is None and self.max_duration is not None:
            raise ValueError("max_duration has no effect without duration")
        if self.explode_position is not None and not self.explode:
            raise ValueError("explode_position has no effect without explode")
        if self.unique in (self.user, self.item):
            raise ValueError(f"unique: {self.unique} has a row for each of its exposures: name the exposure's own id")
        if self.date_column in self.computed:
            raise ValueError("date_column is read before columns are computed: name one of the files")
        if self.date_column and (self.partition or self.is_dated):
            raise ValueError(f"give {'partition' if self.partition else '{day} in path'} or date_column, not both")
        if self.is_glob and self.date_column is None:
            raise ValueError(f"path: `*` stands beside {{day}}, or with date_column, got {self.path!r}")
        if self.is_glob and "**" in self.path:
            raise ValueError(DEEP.format(self.path))
        if taken := sorted(n for n in self.conversions if is_reserved(n)):
            raise ValueError(f"conversions: {taken[0]} would be taken for another task or score, choose another name")
        return self

    @model_validator(mode="after")
    def _joined_are_outcomes(self) -> Events:
        for name, table in self.joined.items():
            for column in table.columns:
                where = f"joined.{name}.columns.{column}"
                own = (self.user, self.item, self.time, self.request, self.date_column, self.unique)
                if column in (*own, table.id_column):
                    raise ValueError(f"{where}: it is known as the item is shown: read it of the events themselves")
                if (made := self.computed.get(table.id_column)) and column in sources_of(made):
                    raise ValueError(f"{where}: it cannot be joined by {table.id_column}, which is made of it")
                others = [n for n, other in self.joined.items() if column in other.columns and n != name]
                if column in self.computed or others:
                    taken = f"joined.{others[0]}" if others else "computed"
                    raise ValueError(f"{where}: {taken} has a column of that name: give it another")
        return self

    @model_validator(mode="after")
    def _joined_in_order(self) -> Events:
        for k, (name, table) in enumerate(self.joined.items()):
            if table.within and self.time is None:
                raise ValueError(f"joined.{name}.within: it needs data.events.time, at which an exposure was shown")
            if table.way is None:
                continue
            before = dict([*self.joined.items()][:k])
            if (other := before.get(table.way[0])) is None:
                there = f": {', '.join(before)}" if before else ", and there is none"
                raise ValueError(
                    f"joined.{name}.through: expected a table that is named before it{there}, got {table.way[0]}"
                )
            if other.within:
                raise ValueError(
                    f"joined.{name}.through: {table.way[0]} has no single exposure of a row: it has within"
                )
            if other.item:
                raise ValueError(
                    f"joined.{name}.through: {table.way[0]} has item: name a table whose rows name exposures"
                )
            if table.id_column != other.id_column:
                raise ValueError(f"joined.{name}.event_key: expected {other.id_column}, as joined.{table.way[0]} has")
        return self

    @model_validator(mode="after")
    def _where_is_known_before(self) -> Events:
        named = sources_of(self.where) if self.where else []
        late = sorted(self.outcome_columns.intersection(named))
        if late and (self.click is not None or self.joined_columns.intersection(named)):  # else it says what a click is
            what = f"where: it names {late[0]}, which is known only after the item is shown: a morning cannot tell"
            raise ValueError(f"{what} such rows from others")
        if made := sorted(self.computed.keys() & {*named}):
            raise ValueError(f"where: {made[0]} is computed itself: write out what it is made of")
        return self

    def has_files_of(self, table: Joined) -> bool:
        """Whether another table is of the same files, whose days are told in the same way."""
        alike = ("path", "partition", "date_column", "success_file", "format", "csv", "types")
        daily = self.is_dated or self.partition is not None or self.date_column is not None
        return daily and all(getattr(self, k) == getattr(table, k) for k in alike)

    @property
    def joined_columns(self) -> set[str]:
        return {column for table in self.joined.values() for column in table.columns}

    @property
    def hive_key(self) -> str | None:
        """Key of the day folders; None where a column, or the path, gives the day."""
        return None if self.date_column or self.is_dated else self.partition or "day"

    @property
    def read_columns(self) -> set[str]:
        """All that are named here but for outcomes, which nothing reads, and what computed ones are made of."""
        named = (self.user, self.item, self.time, self.click, self.duration, self.conversion, self.weight, self.request)
        keys = {table.id_column for table in self.joined.values()}
        return (
            {c for c in (*named, self.date_column, self.unique) if c}
            | set(self.conversions.values())
            | self.sources
            | keys
        )

    @property
    def outcome_columns(self) -> set[str]:
        named = (self.click, self.duration, self.conversion, self.weight)
        known = {c for c in named if c} | set(self.outcomes) | set(self.conversions.values()) | self.joined_columns
        return known | {c for c, text in self.computed.items() if known.intersection(sources_of(text))}


_OF_ITEMS = ("until", "until_is_last_day")
_OF_VERSION = ("version_only_orders", "version_timezone")


class SideTable(Beside):
    """Attributes of users or items as of a day's start: one table a day where partition or path tell it, else one for
    all days."""

    new = (*Table.new, "version", *_OF_VERSION, "lag_days", *_OF_ITEMS)

    key: Column
    version: Column | None = None
    """tells the rows of one id apart, of which the one with the greatest value is read: a number, or a date or time
    since which the row holds. Of dates and times (of data.timezone where they name no zone) a day knows those up to its
    beginning, and an id whose first is later is not there yet; where a time within the day comes before the id's first
    event of it (data.events.time, where that is when an item was shown), these events know that first row. Null is
    before all. Absent: an id has one row"""
    version_only_orders: bool = False
    """times of `version` say which row of an id is the newest, and nothing of days: each day reads it, also one of a
    later day. For a table that is one state for all days, in which a few ids have several rows"""
    version_timezone: Zone | None = None
    """of the times of `version` and `until` that name no zone, where it is another than data.timezone: UTC, as many
    databases write them, beside days that are cut in a local zone"""
    until: Column | None = None
    """of items: when each ends, as it goes offline or is withdrawn: a time (of data.timezone where it names no zone) or
    a date, as whose day begins it is gone. An item that has ended as a day begins is not of the day, unless it is shown
    all the same, and what has ended when a day has is not in its export. Null, an empty text, a number that is not
    above 0 or a day such as 9999-12-31: it is still there. Absent: none ends"""
    until_is_last_day: bool = False
    """the day of `until` is the last one on which the item is there: it is gone as the next begins"""
    lag_days: Annotated[int, Field(ge=0, le=366)] = 0
    """how many days older than the day its table is. 1: each table is a snapshot of the end of its day, when it knows
    that day's clicks, so day D reads that of D-1, and an export of D that of D; the table's own first day has none
    before it and cannot be run (66)"""

    @property
    def read_columns(self) -> set[str]:
        """All that are named here, and what computed ones are made of."""
        return {self.key, *self.sources, *(c for c in (self.version, self.until) if c)}

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> SideTable:
        if self.lag_days and not self.is_daily:
            raise ValueError("lag_days has no effect on one table for all days: give {day} in path, or partition")
        if self.version_timezone and self.version is None and self.until is None:
            raise ValueError("version_timezone has no effect without version or until")
        if self.version_only_orders and self.version is None:
            raise ValueError("version_only_orders has no effect without version")
        if self.until_is_last_day and self.until is None:
            raise ValueError("until_is_last_day has no effect without until")
        if self.until == self.key or (self.until and self.until == self.version):
            raise ValueError(f"until: {self.until} is the {'key' if self.until == self.key else 'version'}")
        return self


_TAKE = {"csv": ("csv",), "null_values": ("csv", "json"), "types": ("csv", "json")}
"""formats by the options that they take"""
_OF_TYPED = frozenset({OBJECT, TEXT})
"""what `types` says of columns whose format has types"""


def _has_effect(option: str, form: str, given: Any) -> bool:
    """Whether an option of a table or the log says something of a format."""
    return form in _TAKE[option] or (option == "types" and {*given.values()} <= _OF_TYPED)


class Data(Grown):
    new = ("format", "csv", "null_values", "types", "naive_times")
    root: str
    """folder of the log; or s3://BUCKET/PREFIX, with options as in ?region=us-east-1&endpoint_override=http://HOST:PORT
    (`scheme`: http or https). Credentials come from where AWS tools look: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, a profile, the machine's role; without options, the endpoint from AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL and the region from AWS_REGION"""
    timezone: Zone | None = None
    naive_times: Literal["utc", "local"] = "utc"
    """of which clock events' times are that name no zone, and those that give the day of what came of them: `utc`, or
    `local`, that of `timezone`. Those of version and until are local in any case, or of version_timezone. Texts of one
    column with a type in `types` name a zone all or none"""
    truth: Folder | None = None
    """folder of a synthetic world's truth: adds expected read seconds to an evaluation"""
    digest: Literal["auto", "footer", "full"] = "auto"
    """what identifies an input file: `full`: the sha256 of all its bytes; `footer`: size, rows and Parquet footer,
    which a flipped bit of its values leaves alone; `auto`: full up to 256 MiB, footer above"""
    format: Format = "parquet"
    """of all tables that name no other: `csv` (*.csv, *.tsv), `json` (a JSON object a line: *.json, *.jsonl, *.ndjson),
    both also compressed (.gz, .zst); `avro` (*.avro, an extra); `delta` and `iceberg`: tables, of which the newest
    version is read (extras). What is not Parquet, and one Parquet file of all days, is converted into
    workspace/converted/"""
    csv: Csv = Csv()
    null_values: tuple[str, ...] = ()
    """texts of csv and json that stand for null, in every column: NULL, "-" (of csv beside data.csv.null_values)"""
    types: dict[Column, Type] = Field(default={})
    """of columns in csv and json, of whatever table (see `types` of each): text, int64, float64 (a % behind it is left
    out), bool (true or false, yes or no, y or n, t or f, 1 or 0, in any case; or one pair of another language, as J and
    N, oui and non, + and -), date, datetime (ISO 8601, UTC where it names no zone; or seconds or milliseconds since
    1970), both also in a format of strptime (datetime:%d.%m.%Y %H:%M:%S, date:%m/%d/%Y; %EY: a year of the Buddhist
    era), clock (a length of time in seconds: 3:45, 1:02:03, 1.00:23:33 with days, 1h 20m, 90 min, 45s, or ISO 8601,
    PT1H20M; one below 0 is null); list<text>, list<int64> or list<float64> of a text that is a JSON array (or a
    Python list or numpy array, as pandas writes them); json of a text that is a JSON object or a list of objects,
    in parquet too: its fields are columns, `b` of the object in `a` is `a.b`. In parquet text is also what integers
    are read as, for ids beyond int64, as hashes are. Absent: labels (click, conversions: bool; duration, weight:
    float64) have their own, other columns of a csv are text, those of json as they are written"""
    events: Events
    users: SideTable | None = None
    items: SideTable | None = None

    @field_validator("root")
    @classmethod
    def _place(cls, root: str) -> str:
        if "://" in root:
            uri = urlsplit(root)
            options = dict(parse_qsl(uri.query, keep_blank_values=True))
            if "@" in uri.netloc or has_credentials(root):
                raise ValueError(NO_CREDENTIALS)
            if uri.scheme != "s3" or not uri.netloc or uri.fragment:
                raise ValueError(f"expected a local folder or s3://bucket/prefix, got {root!r}")
            if unknown := sorted(options.keys() - {"region", "scheme", "endpoint_override"}):
                named = f" {unknown[0]}" if re.fullmatch("[a-z_]{1,30}", unknown[0]) else ""
                raise ValueError(f"unknown option{named}, expected region, scheme or endpoint_override")
            if "" in options.values() or options.get("scheme", "http") not in ("http", "https"):
                raise ValueError("expected a value of each option, and http or https of scheme")
        return root

    @property
    def not_looked_up(self) -> list[str]:
        """Of `users` and `items` those in which no expression of the events looks something up."""
        named = {root for text in self.events.made.values() for root in roots_of(text)}
        return [side for side in ("users", "items") if side not in named]

    def format_of(self, table: Table) -> Format:
        return table.format or self.format

    def objects_of(self, table: Table) -> list[str]:
        """The columns of a table whose texts are JSON objects."""
        return [c for c, kind in (self.types | table.types).items() if kind == OBJECT]

    def texts_of(self, table: Table) -> frozenset[str]:
        """The columns of a table whose integers are read as text; those of csv and json were converted so."""
        if self.format_of(table) in _TAKE["types"]:
            return frozenset()
        return frozenset(c for c, kind in (self.types | table.types).items() if kind == TEXT)

    def is_converted(self, table: Table) -> bool:
        """Whether a table is read from what is made of its files in the workspace, wherever these lie."""
        return self.format_of(table) != "parquet" or bool(self.objects_of(table))

    def is_zoneless(self, table: Table, column: str | None) -> bool | None:
        """Whether a column's type is a format of times without a zone; None where its texts may name one or not."""
        kind = (self.types | table.types).get(column or "", "") if self.format_of(table) in ("csv", "json") else ""
        return None if kind == "datetime" else names_no_zone(kind)

    @property
    def calendar(self) -> Calendar:
        """Which day the instants of a `date_column` are of."""
        return Calendar(self.timezone, is_local=self.naive_times == "local")

    @property
    def clocks_of_events(self) -> tuple[str, ...]:
        """The zone of which events' times are that name none; both where nobody says it, as nothing of days in names
        asks for it."""
        local = self.timezone or "UTC"
        if self.naive_times == "local" or local == "UTC":
            return (local,)
        return ("UTC",) if self.events.date_column else ("UTC", local)

    @model_validator(mode="after")
    def _clock_is_of_a_zone(self) -> Data:
        if self.naive_times == "local" and self.timezone is None:
            raise ValueError("naive_times: local has no effect without timezone, the zone of that clock")
        return self

    @model_validator(mode="after")
    def _items_end(self) -> Data:
        for name in _OF_ITEMS:
            if self.users is not None and name in self.users.model_fields_set:
                raise ValueError(f"users.{name} has no effect: it is of items, which are served until then")
        return self

    @model_validator(mode="after")
    def _formats_fit(self) -> Data:
        """No option is given that no table's format takes, and a Delta or Iceberg table has its day in a column."""
        tables = {n: t for n in ("events", "users", "items") if (t := getattr(self, n)) is not None}
        tables |= {f"events.joined.{name}": table for name, table in self.events.joined.items()}
        formats = {name: self.format_of(table) for name, table in tables.items()}
        for option, takes in _TAKE.items():
            given = getattr(self, option)
            if option in self.model_fields_set and not any(_has_effect(option, f, given) for f in formats.values()):
                raise ValueError(f"{option} has no effect: no table is of format {' or '.join(takes)}")
            for name, table in tables.items():
                of = option in table.model_fields_set
                if of and not _has_effect(option, formats[name], getattr(table, option)):
                    raise ValueError(f"{name}.{option} has no effect on format: {formats[name]}")
        for name, table in tables.items():
            zoned = isinstance(table, SideTable) and table.version_timezone is not None
            if zoned and self.is_zoneless(table, table.version) is None:
                what = f"{name}.version_timezone has no effect: data.types reads times that name no zone as UTC"
                raise ValueError(f"{what}; name a format, as datetime:%Y-%m-%d %H:%M:%S")
        clock = (self.types | self.events.types).get(self.events.duration or "") == "clock"
        if clock and self.events.duration_unit == "ms":
            raise ValueError(f"events.duration_unit: ms has no effect: {self.events.duration} is a clock, of seconds")
        for name, table in tables.items():
            lake = formats[name] in ("delta", "iceberg")
            if lake and (table.is_dated or table.is_glob or table.success_file):
                option = "path: {day}" if table.is_dated else "path: *" if table.is_glob else "success_file"
                raise ValueError(f"{name}.{option} has no effect on format: {formats[name]}: a table knows its files")
        return self
