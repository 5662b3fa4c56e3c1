"""`data`: where the log is, what its columns are called, and its side tables."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from dmtl_cli.config.secrets import has_credentials
from dmtl_cli.config.section import Column, FileName, Folder, Name, Section
from dmtl_cli.config.tasks import is_reserved

NO_CREDENTIALS = "credentials belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"


class Events(Section):
    """Where the click log is and what its columns are called."""

    path: str = "events"
    """folder below data.root"""
    partition: Name | None = None
    """hive key of the day folders, e.g. `day` for day=2026-01-31 (or =20260131); default `day` without date_column"""
    date_column: Column | None = None
    """a date or timestamp column that gives the day instead; a timestamp needs data.timezone"""
    success_file: FileName | None = None
    """the file that a finished day's folder has (path itself, with date_column), e.g. _SUCCESS of Spark; a day without
    it is not read (66); absent: whatever is there is read"""
    user: Column = "user_id"
    item: Column = "item_id"
    time: Column | None = None
    """orders the rows of a day (first value of a user, recency); any sortable column"""
    click: Column | None = None
    """boolean or 0/1; absent: every row is a click (a log of positives only, no exposures)"""
    duration: Column | None = None
    """how long a clicked item was read"""
    duration_unit: Literal["s", "ms"] = "s"
    conversion: Column | None = None
    """a boolean column (like, purchase) instead of duration"""
    weight: Column | None = None
    request: Column | None = None
    """the request (one served list) an exposure belongs to: an integer or a string"""
    conversions: dict[Name, Column] = Field(default={})
    """further conversion tasks by name, each a boolean column counted with a click (like: is_like); null: unknown"""
    outcomes: tuple[Column, ...] = ()
    """further columns known only after the exposure: never features"""

    @model_validator(mode="after")
    def _one_of_each(self) -> Events:
        if (self.duration is None) == (self.conversion is None):
            raise ValueError("give exactly one of duration and conversion: it defines the second label")
        if self.partition and self.date_column:
            raise ValueError("give partition or date_column, not both")
        if taken := sorted(n for n in self.conversions if is_reserved(n)):
            raise ValueError(f"conversions: {taken[0]} would be taken for another task or score, choose another name")
        return self

    @property
    def hive_key(self) -> str | None:
        """Key of the day folders; None where a column gives the day."""
        return None if self.date_column else self.partition or "day"

    @property
    def read_columns(self) -> set[str]:
        """All that are named here but for outcomes, which nothing reads."""
        named = (self.user, self.item, self.time, self.click, self.duration, self.conversion, self.weight, self.request)
        return {c for c in (*named, self.date_column) if c} | set(self.conversions.values())

    @property
    def outcome_columns(self) -> set[str]:
        named = (self.click, self.duration, self.conversion, self.weight)
        return {c for c in named if c} | set(self.outcomes) | set(self.conversions.values())


class SideTable(Section):
    """Attributes of users or items as of a day's start."""

    path: str
    key: Column
    partition: Name | None = None
    """hive key where there is one table per day; absent: one static table"""
    success_file: FileName | None = None
    """as of the events, in the folder of a day's table"""


class Data(Section):
    root: str
    """folder of the log; or s3://BUCKET/PREFIX, with options as in ?region=us-east-1&endpoint_override=http://HOST:PORT
    (`scheme`: http or https). Credentials come from where AWS tools look: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, a profile, the machine's role; without options, the endpoint from AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL and the region from AWS_REGION"""
    timezone: str | None = None
    truth: Folder | None = None
    """folder of a synthetic world's truth: adds expected read seconds to an evaluation"""
    digest: Literal["auto", "footer", "full"] = "auto"
    """what identifies an input file: `full`: the sha256 of all its bytes; `footer`: size, rows and Parquet footer,
    which a flipped bit of its values leaves alone; `auto`: full up to 256 MiB, footer above"""
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

    @field_validator("timezone")
    @classmethod
    def _zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (KeyError, ValueError, OSError):
                raise ValueError(f"unknown time zone {zone!r}, expected a name such as Asia/Shanghai or UTC") from None
        return zone
