"""build-profile: what is known of users and items when day N ends, from the profile before it and the log of N."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

from dmtl_cli.config.days import before, between, window
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.profile.plan import Plan
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.data.profile.update import update
from dmtl_cli.data.threshold import carried_threshold, long_read_threshold
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.run import Draft, Parent, Result, Run

STAGE = "profile"
Days = list[dt.date]


def build_profile(run: Run, day: dt.date) -> list[Result]:
    """Publishes the profile of `day`; where it begins a chain, those of the warm days and the first window before it.

    The chain's first profile names the whole first window in its key, as it measures the threshold of a long read
    there. Each later one is made of the one before it, and of its own day.

    Raises:
        UserError: 66 a day of the log is not there; 65 a parent is damaged, ids have changed their type, there is no
            threshold to be measured, or the config asks for another one than the chain's.
    """
    plan = Plan.of(run.config)
    alone = run.config.data.model_copy(update={"users": None, "items": None})  # ids of events: no side table is read
    log = Log(alone, (), timed=bool(plan.histories))
    days, measured = _days(run, day, log)
    return [_publish(run, plan, log, d, measured) for d in days]


def _days(run: Run, day: dt.date, log: Log) -> tuple[Days, Days]:
    """Days to publish, in order, and the chain's first window, where its first profile measures the threshold."""
    newest = run.ws.newest(STAGE, day)
    if newest is None:
        there = _manifest(run, day)
        if there is not None and not there.parents:  # the first of a chain, again
            return [day], window(_window_end(there), run.config.teacher.first_window_days)
        first = window(day, run.config.teacher.first_window_days)
        return [*_warm_days(run, first[0], log), *first], first
    there = _manifest(run, newest)
    end = _window_end(there) if there is not None else newest
    # Where the command that began the chain did not end, days of its window are missing.
    return sorted({*between(before(newest, -1), min(day, end)), day}), []


def _warm_days(run: Run, start: dt.date, log: Log) -> Days:
    """The days before `start` that the log has, without a gap, at most profile.warm_days."""
    found: Days = []
    try:
        for k in range(1, run.config.profile.warm_days + 1):
            log.find(before(start, k))
            found.insert(0, before(start, k))
    except UserError as e:
        if e.code != Exit.NO_INPUT:
            raise
    return found


def _manifest(run: Run, day: dt.date) -> Manifest | None:
    path = run.ws.current(STAGE, day)
    return None if path is None else Manifest.read(path / MANIFEST)


def _window_end(manifest: Manifest) -> dt.date:
    return dt.date.fromisoformat(manifest.facts["window"][1])


def _publish(run: Run, plan: Plan, log: Log, day: dt.date, measured: Days) -> Result:
    parent = run.newest(STAGE, day)
    sections = run.sections(STAGE)
    data = {k: v for k, v in sections["data"].items() if k not in ("users", "items")}
    config: dict[str, Any] = {"data": data, "labels": sections["labels"], "profile": sections[STAGE]}
    config["plan"] = plan.to_json()
    if parent is None:
        config["teacher"] = {"first_window_days": run.config.teacher.first_window_days}
    read = [day] if parent else sorted({*measured, day})
    inputs = [one for d in read for one in log.inputs(d)]
    work = partial(_build, run, plan, log, day, parent, measured)
    return run.publish(STAGE, day, config, inputs, [parent] if parent else [], work, shared=False)


def _build(
    run: Run, plan: Plan, log: Log, day: dt.date, parent: Parent | None, measured: Days, publication: Publication
) -> Draft:
    read: dict[dt.date, Day] = {}
    if parent is not None:
        threshold = carried_threshold(parent, run.config)
        facts = {"window": parent[1].facts["window"]}
    else:
        read = {d: log.read(d, publication.tmp) for d in measured}
        threshold = long_read_threshold(run.config, list(read.values()), None)
        facts = {"window": [str(measured[0]), str(measured[-1])]}
    today = read.get(day) or log.read(day, publication.tmp)
    known = Profile.open(parent[0]) if parent else None
    keep = run.config.profile.keep_days
    done = update(known, today, plan, threshold, keep, publication.tmp, publication.path)
    metrics: dict[str, float] = {}
    for side, of in done.items():
        metrics[f"{side}s.known_share"] = of.known / (of.known + of.new)
        metrics[f"{side}s.dropped"] = of.dropped
    rows = {"events": len(today), **{f"{side}s": of.rows for side, of in done.items()}}
    return Draft(rows=rows, metrics=metrics, facts={"threshold_seconds": threshold, **facts})
