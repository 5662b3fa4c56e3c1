"""The command that makes a config of a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import BEGIN, Json, listed, load_config
from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import Exit, UserError

commands = typer.Typer()


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


def _column(what: str, expression: str = "") -> Any:
    made = f", or an SQL expression: {expression}" if expression else ""
    return _option("COLUMN", f"The column of {what}, where no name says it{made}.")


_GOOD = "The column of a good click, 0 and 1, in place of a duration, or an SQL expression: 'scroll >= 75'."
_WHERE = "Rows that count, an SQL expression beside what init leaves out: \"plan <> 'staff'\"."
_ITEMS = (
    "Items that may be served, an SQL expression over their table, else over the events: 'sponsored = 0', or of NOW()."
)
_OUTCOMES = "Columns that were not known when the item was shown, or are as of the log's end: no features: a,b."
_SEEN = "Days whose clicks `recommend --exclude-seen` leaves out, as what was read is not to come again: 30."
_WITHIN = "How long after what was shown counts what has a row of its own: 24h; 30m,24h: clicks, and all else."
_BY_TIME = "Folders are days of arrival: a row is of the day of its time."
_LIVES = "Where the users live, such as Asia/Shanghai: days end at their midnight."


@listed(commands, "init", BEGIN, "clicks/ -o mylog.yaml")
@guarded
def init(
    log: Annotated[
        str, typer.Argument(metavar="PLACE", help="The log: a folder or a file, local or s3://.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The config to write.")] = Path("mylog.yaml"),
    user: Annotated[str | None, _column("the users' ids")] = None,
    item: Annotated[str | None, _column("the items' ids")] = None,
    time: Annotated[str | None, _column("when a row's item was shown")] = None,
    click: Annotated[str | None, _column("clicks, 0 and 1, or of their times", "'dwell_ms > 2000 OR opened'")] = None,
    duration: Annotated[str | None, _column("how long an item was read")] = None,
    conversion: Annotated[str | None, _option("COLUMN", _GOOD)] = None,
    timezone: Annotated[str | None, _option("ZONE", _LIVES)] = None,
    where: Annotated[str | None, _option("RULE", _WHERE)] = None,
    export_items: Annotated[str | None, _option("RULE", _ITEMS)] = None,
    within: Annotated[str | None, _option("TIME", _WITHIN)] = None,
    outcomes: Annotated[str | None, _option("COLUMNS", _OUTCOMES)] = None,
    seen_days: Annotated[int | None, typer.Option(metavar="N", min=1, help=_SEEN, show_default=False)] = None,
    by_time: Annotated[bool, typer.Option("--days-by-time", metavar="", help=_BY_TIME)] = False,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Write over a file that somebody edited.")] = False,
    as_json: Json = False,
) -> None:
    """Guess a config from a log that is new, with a reason for each guess, and check its newest complete day."""
    from dmtl_cli.guess.printed import described
    from dmtl_cli.guess.rules import Rules
    from dmtl_cli.guess.steps import refuse_check, refuse_incomplete
    from dmtl_cli.stages.init import init

    given = {"user": user, "item": item, "time": time, "click": click, "duration": duration, "conversion": conversion}
    named = {role: column for role, column in given.items() if column is not None}
    lives = _zone(timezone)
    rules = Rules.of(where, export_items, within, outcomes, by_time=by_time, seen_days=seen_days, lives=lives)
    found = init(log, out, named, rules=rules, force=force)
    complete = found["day"] is not None and not found["edits"]
    found["check"], refused = _checked(out, found["day"], lives=timezone is not None) if complete else (None, None)
    if refused is not None:
        refuse_check(found)
    if as_json:
        print(json.dumps(found, sort_keys=True))
    else:
        print(described(found))
    refuse_incomplete(found)
    if refused is not None:
        raise refused


def _zone(name: str | None) -> str | None:
    from dmtl_cli.config.data import known_zone

    try:
        return None if name is None else known_zone(name)
    except ValueError as e:
        raise UserError(f"--timezone: {e}", code=Exit.USAGE) from None


def _checked(config: Path, day: str, *, lives: bool) -> tuple[str | None, UserError | None]:
    """What `check` says of a day, or how it refuses it: the command then ends as `check` would, the config is there.

    Args:
        lives: whether a person says where the users live.
    """
    from dmtl_cli.cli.checked import to_decide
    from dmtl_cli.stages.check import check

    try:
        found: dict[str, Any] = check(load_config(config), parse_day(day), lives=lives)
    except UserError as e:
        return f"check of {day}: {e.line()}", e
    return to_decide(found), None
