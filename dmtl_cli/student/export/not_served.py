"""Which items of a catalogue an export leaves out, and what is said of them."""

from __future__ import annotations

import datetime as dt

import polars as pl

from dmtl_cli.config.errors import UserError, such_as
from dmtl_cli.data.days import Days
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.served import Chosen
from dmtl_cli.runs.run import Run


def not_served(
    run: Run, log: Days, day: dt.date, read: Day, chosen: Chosen | None
) -> tuple[pl.Series | None, list[str], dict[str, int] | None]:
    """Items that are not served, None where all are; a line about those that the catalogue lacks and that are; and
    beside a condition how many it leaves out by reason.

    Raises:
        UserError: 65 the catalogue has none of the items, and it alone is to be served.
    """
    retired, options = log.retired(day), run.config.export
    if chosen is not None:
        return _not_chosen(run, chosen, read.items[ID], retired)
    unlisted = log.unlisted(day, read.items[ID])
    if options.items == "listed":
        if len(unlisted) == len(read.items):
            what = f"export.items: listed: the table of items has none of the {len(unlisted):,} items of the log"
            raise UserError(what, "is data.items.key the id that the events have?")
        return unlisted if retired is None else pl.concat([unlisted, retired]), [], None
    kept = unlisted if retired is None else unlisted.filter(~unlisted.is_in(retired.implode()))
    if not len(kept) or "items" in options.model_fields_set:
        return retired, [], None
    seen = f"{len(kept):,} of {len(read.items):,} items are not in the table of items{such_as(kept.sort())}"
    seen = f"{seen}, and are served all the same"
    return retired, [f"{seen}: set export.items: listed if the table is the whole catalogue, or all if it is not"], None


def _not_chosen(
    run: Run, chosen: Chosen, items: pl.Series, retired: pl.Series | None
) -> tuple[pl.Series, list[str], dict[str, int]]:
    """All items but those for which a condition holds; says how many these are. What is retired is counted among
    neither."""
    left = items.filter(~items.is_in(chosen.ids.implode()))
    there = left if retired is None else left.filter(~left.is_in(retired.implode()))
    unlisted = int((~there.is_in(chosen.listed.implode())).sum())
    counts = {"condition": len(there) - unlisted, "unlisted": unlisted}
    why = [f"export.items: {chosen.condition} is not true of {counts['condition']:,}"]
    why += [f"{unlisted:,} are not in {chosen.place}"] if unlisted else []
    if len(there):
        run.log.say(f"{len(there):,} of {len(items):,} items are not served: {', '.join(why)}")
    return left, [], counts
