"""build-profile: what is known of users and items when day N ends, from the profile before it and the log of N."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

from dmtl_cli.config.days import before, between, window
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.first_window import first_window
from dmtl_cli.data.gates import day_measures, window_measures
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.checked.invalid import left_out
from dmtl_cli.data.log.files.converted import conversions
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.profile.plan import Plan
from dmtl_cli.data.profile.stored import Profile
from dmtl_cli.data.profile.update import update
from dmtl_cli.data.threshold import carried_threshold, heavy_tail, long_read_threshold
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.manifest import MANIFEST, Manifest
from dmtl_cli.runs.run import Draft, Parent, Result, Run

STAGE = "profile"


def build_profile(run: Run, day: dt.date) -> list[Result]:
    """Publishes the profile of `day`; where it begins a chain, those of the warm days and the first window before it;
    else those of the days since the newest profile that the log has, so that no event is left out.

    The chain's first profile names the whole first window in its key, as it measures the threshold of a long read
    there. Each later one is made of the one before it, and of its own day.

    Raises:
        UserError: 66 a day of the log is not there; 65 a parent is damaged, ids have changed their type, there is no
            threshold to be measured, or the config asks for another one than the chain's; 80 the day is refused. An
            earlier one that is refused, or has no rows, is left out.
    """
    plan = Plan.of(run.config)
    place, memory = conversions(run.config.workspace), run.config.max_memory
    timed = bool(plan.histories)
    log = Log(run.config.data, (), timed=timed, max_memory=memory, converted=place, events_only=True)
    days, measured = run.ranks.on_first(lambda: _days(run, day, log))  # before a rank publishes one of them
    found: list[Result] = []
    unforced = replace(run, forced=None)  # the reason is of `day` alone
    for d in days:
        try:
            found.append(_publish(run if d == day else unforced, plan, log, d, measured))
        except UserError as e:
            if d == day or not (e.code == Exit.REFUSED or _is_empty(log, d, e)):
                raise
            run.log.say(f"{e.line()}; day {d} is left out")
    return found


def _is_empty(log: Log, day: dt.date, why: UserError) -> bool:
    """Whether a day was not read as it has no rows, and not as its files are not finished, or change."""
    return why.code == Exit.NO_INPUT and log.rows(day) == 0


def _days(run: Run, day: dt.date, log: Log) -> tuple[list[dt.date], list[dt.date]]:
    """Days to publish, in order, and the chain's first window, where its first profile measures the threshold."""
    newest = run.ws.newest(STAGE, day)
    if newest is not None:
        log.find(day)  # 66 for a day that is not there, however many lie between
        return [*filter(log.has, between(before(newest, -1), before(day))), day], []
    there = run.ws.current(STAGE, day)
    if there is not None and not (manifest := Manifest.read(there / MANIFEST)).parents:  # the first of a chain, again
        start, end = map(dt.date.fromisoformat, manifest.facts["window"])
        given = run.config.teacher.first_window_days
        return [day], window(end, given) if given else between(start, end)
    first = first_window(run.config, log, day)
    warm = takewhile(log.has, reversed(window(before(first[0]), run.config.profile.warm_days)))
    return [*sorted(warm), *first], first


def _publish(run: Run, plan: Plan, log: Log, day: dt.date, measured: list[dt.date]) -> Result:
    parent = run.newest(STAGE, day)
    sections = run.sections(STAGE)
    data = {k: v for k, v in sections["data"].items() if k not in ("users", "items")}
    config: dict[str, Any] = {"data": data, "labels": sections["labels"], "profile": sections[STAGE]}
    config["plan"] = plan.to_json()
    if parent is None:
        config["teacher"] = {"first_window_days": len(measured)}
    read = [day] if parent else sorted({*measured, day})
    inputs = [one for d in read for one in log.inputs(d)]
    work = partial(_build, run, plan, log, day, parent, measured)
    return run.publish(STAGE, day, config, inputs, [parent] if parent else [], work, shared=False)


def _build(
    run: Run,
    plan: Plan,
    log: Log,
    day: dt.date,
    parent: Parent | None,
    measured: list[dt.date],
    publication: Publication,
) -> Draft:
    read: dict[dt.date, Day] = {}
    doubted: list[str] = []
    if parent is not None:
        threshold = carried_threshold(parent, run.config)
        facts = {"window": parent[1].facts["window"]}
    else:
        read = {d: log.read(d, publication.tmp) for d in measured}
        threshold = long_read_threshold(run.config, list(read.values()), None)
        facts = {"window": [str(measured[0]), str(measured[-1])]}
        doubted = heavy_tail(run.config, list(read.values()))
    today = read.get(day) or log.read(day, publication.tmp)
    known = Profile.open(parent[0]) if parent else None
    keep = run.config.profile.keep_days
    with run.log.progress(f"profile {day}"):
        done = update(known, today, plan, threshold, keep, publication.tmp, publication.path)
    exposures = run.config.data.events.click is not None
    measures = day_measures(today, threshold, exposures, None if known is None else done)
    measures += window_measures(d for d in read.values() if d is not today)
    metrics: dict[str, float] = {}
    for side, of in done.items():
        metrics[f"{side}s.known_share"] = of.known / (of.known + of.new)
        metrics[f"{side}s.dropped"] = of.dropped
    rows = {"events": len(today), **{f"{side}s": of.rows for side, of in done.items()}}
    facts |= {"threshold_seconds": threshold, **left_out([today])}
    return Draft(rows=rows, metrics=metrics, facts=facts, measures=measures, warnings=doubted)
