"""status: days by stages, what is served, and what a person should know or do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmtl_cli.config.data import Data
from dmtl_cli.config.days import before, between, parse_day
from dmtl_cli.config.errors import Exit, UserError, printable
from dmtl_cli.config.student import Distill
from dmtl_cli.data.log.files.places import days_of, is_local
from dmtl_cli.runs.contents import there
from dmtl_cli.runs.latest import newest_export
from dmtl_cli.runs.locks import holder
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.reachable import Runs, parents
from dmtl_cli.runs.workspace import STAGES, Workspace

if TYPE_CHECKING:
    from dmtl_cli.data.log.now import Now

COLUMNS = ("evaluation", "profile", "teacher", "scores", "rescores", "student", "export")
_AHEAD = 31  # days shown after the last one where the log cannot say which it has
_HEAL = "run dmtl rollback --unpin: it serves the newest published export"


def status(
    ws: Workspace, data: Data, distill: Distill, today: dt.date | None = None, *, inputs: bool = False
) -> dict[str, Any]:
    """For each day the state of each stage; `rescores` are the day's scores by an earlier teacher, the newest one.

    `published`; `refused`: a floor was not met, rejected/ says why; `changed`: the log's files are others than those
    that it was made of; `stale`: what it was made from was published again since, or that of its parents, ...;
    `damaged`: it cannot be read; `not due`: a run of the day makes none; `missing`. Days are those of the workspace,
    those that the log has between two of its teachers and after them, up to `today`.

    Args:
        data: where the log is; its days are listed where it is a local folder with a folder a day.
        distill: which teachers a student learns from.
        today: the day to judge freshness by; default the clock's.
        inputs: whether to compare every day's files with what was made of them (their sizes and digests are read),
            and to list the days of a log in a remote storage.
    """
    runs = Runs(ws)
    log = days_of(data) if inputs or is_local(data) else None
    refusals = _refusals(ws)
    gaps, taught = _gaps(runs, log), runs.days("teacher")
    days = _days(runs, log, {*gaps, *(dt.date.fromisoformat(day) for _, day in refusals)}, today)
    now = _now(ws, data, days) if inputs else None
    table = {str(day): _day(runs, day, _due(day, taught, distill), refusals, now) for day in days}
    served, problems = _served(ws)
    named = ws.latest_day() if served is None else dt.date.fromisoformat(served.parent.name.removeprefix("day="))
    return {
        "days": table,
        "served": str(served) if served else None,
        "served_day": str(named) if served else None,
        "served_age_days": ((today or dt.date.today()) - named).days if served and named else None,
        "running": holder(ws),
        "pinned": str(pinned) if (pinned := there(ws.pinned)) else None,
        "gaps": [str(day) for day in gaps],
        "refused": [r for r in refusals.values() if r["day"] in table],
        "problems": problems + [f"inputs of {line}" for line in (now.unreadable if now else [])],
        "ungated": list(_ungated(runs)),
        "forced": list(_forced(runs)),
        "warnings": list(_warnings(runs)),
    }


def _now(ws: Workspace, data: Data, days: list[dt.date]) -> Now:
    """The log's files. What reads logs is imported now: without --inputs no file of the log is opened."""
    from dmtl_cli.data.log.files.converted import conversions
    from dmtl_cli.data.log.now import Now

    return Now(data, days, conversions(str(ws.root)))


# -- which days --------------------------------------------------------------------------------------------------------


def _days(runs: Runs, log: set[dt.date] | None, lacking: set[dt.date], today: dt.date | None) -> list[dt.date]:
    """Days with something published, those `lacking` it since, and what the log has after the last teacher."""
    every = {day for stage in COLUMNS if stage in STAGES for day in runs.days(stage)}
    if not every:
        return []
    taught = runs.days("teacher")
    start, last = taught[-1] if taught else min(every), max([*every, *([today] if today else [])])
    if log is None:
        ahead = between(start, last) if (last - start).days <= _AHEAD else []
    else:
        ahead = [day for day in log if start < day <= last]
    return sorted({*every, *ahead, *(day for day in lacking if day >= min(every))})


def _gaps(runs: Runs, log: set[dt.date] | None) -> list[dt.date]:
    """Days that the log has between a teacher and the one that it goes on from, and that were not refused."""
    taught, found = runs.days("teacher"), set()
    for day in taught if log else ():
        try:
            run = runs.current("teacher", day)[None]
            before = max((p.day for p in parents(runs.manifest(run), run) if p.stage == "teacher"), default=day)
        except (UserError, KeyError):  # damaged, as the table says, or removed meanwhile
            continue
        if (day - before).days > 1:
            found |= {gap for gap in log or () if before < gap < day}
    return sorted(gap for gap in found - {*taught} if not runs.ws.refused(gap))


# -- a day's states ----------------------------------------------------------------------------------------------------


def _due(day: dt.date, taught: Sequence[dt.date], distill: Distill) -> set[str]:
    """What a run of the day makes.

    Args:
        taught: days that have a teacher; what they had when another day is run is not known.
    """
    if taught and day < taught[0]:
        return {"profile"}
    if taught and day not in taught:
        return {*COLUMNS}
    due, teachers = {"profile", "teacher", "scores"}, distill.teachers(day, sorted({*taught, day}))
    if teachers or not distill.w_kd:
        due |= {"student", "export"}
    if teachers and teachers[-1] != day:
        due.add("rescores")
    return due | {"evaluation"} if taught and day > taught[0] else due


def _day(
    runs: Runs, day: dt.date, due: set[str], refusals: dict[tuple[str, str], dict[str, str]], now: Now | None
) -> dict[str, str]:
    """The state of each column."""
    cells = {}
    for column in COLUMNS:
        state = _state(runs, column, day, now)
        if state == "missing" and ("scores" if column == "rescores" else column, str(day)) in refusals:
            state = "refused"
        if state == "missing" and column not in due:
            state = "not due"
        cells[column] = state
    return cells


def _state(runs: Runs, column: str, day: dt.date, now: Now | None) -> str:
    try:
        run = _run(runs, column, day)
        if run is None:
            return "missing"
        manifest, stale = runs.manifest(run), runs.stale(run)
    except UserError:
        return "damaged"
    if now is not None and now.changed(manifest.inputs):
        return "changed"
    return "stale" if stale else "published"


def _run(runs: Runs, column: str, day: dt.date) -> Path | None:
    if column not in ("scores", "rescores"):
        return runs.current(column, day).get(None)
    scored = runs.current("scores", day)
    if column == "scores":
        return scored.get(f"teacher={day}")
    return scored.get(max((sub for sub in scored if sub and sub < f"teacher={day}"), default=None))


# -- what a person should know -----------------------------------------------------------------------------------------


def _served(ws: Workspace) -> tuple[Path | None, list[str]]:
    """What is served, and what is wrong with it, a line each with the command that heals it."""
    problems = []
    for named in (ws.latest, ws.pinned):
        try:
            named()
        except UserError as e:
            if e.code != Exit.DATA:
                raise
            problems.append(f"{e.message}; {e.hint}")
    served, pinned = there(ws.latest), there(ws.pinned)
    if served is None and not problems and newest_export(ws):
        problems.append(f"there is no {ws.latest_path}; {_HEAL}")
    if served and served.parent.name > f"day={dt.date.today()}":
        problems.append(f"LATEST names {served.parent.name}, a day to come, so earlier days are not served; {_HEAL}")
    if pinned and served and pinned != served:
        problems.append(f"PINNED names {pinned.name}, LATEST {served.name}; run dmtl rollback --to {pinned.name}")
    return served, problems


def _refusals(ws: Workspace) -> dict[tuple[str, str], dict[str, str]]:
    """The first line of why a stage last refused a day, by stage and day."""
    found = {}
    for file in ws.refusals():
        name = file.stem.partition(".teacher=")[0]
        stage, day = name[:-11], name[-10:]
        try:
            parse_day(day)
            reason = next(iter(file.read_text(encoding="utf-8", errors="replace").splitlines()), "")
        except (OSError, UserError):
            continue
        found[stage, day] = {"stage": stage, "day": day, "reason": reason.removeprefix("dmtl: error: ")}
    return found


def _newest(runs: Runs) -> Iterator[Manifest]:
    """Those of the newest day of each stage that can be read, and of what is served; of a damaged one the table says
    so."""
    for stage in STAGES:
        for day in runs.days(stage)[-1:]:
            with suppress(UserError):
                yield from [runs.manifest(run) for run in runs.current(stage, day).values()]
    for run in runs.served():
        with suppress(UserError):
            yield runs.manifest(run)


def _ungated(runs: Runs) -> Iterator[dict[str, str]]:
    """The newest published day of each stage, where its gates were off, once."""
    found = dict.fromkeys((m.stage, str(m.day)) for m in _newest(runs) if m.facts.get("ungated"))
    return ({"stage": stage, "day": day} for stage, day in found)


def _forced(runs: Runs) -> Iterator[dict[str, str]]:
    """The newest published day of each stage, where it was published in spite of a gate, with the reason."""
    found = dict.fromkeys((m.stage, str(m.day), str(m.facts["forced"])) for m in _newest(runs) if "forced" in m.facts)
    return ({"stage": stage, "day": day, "reason": reason} for stage, day, reason in found)


def _warnings(runs: Runs) -> Iterator[dict[str, str]]:
    """The doubts of the newest published day of each stage about what it made, each once."""
    told: dict[tuple[str, str, str], None] = {}
    for m in _newest(runs):
        told |= dict.fromkeys((m.stage, str(m.day), str(warning)) for warning in m.facts.get("warnings", ()))
    return ({"stage": stage, "day": day, "warning": warning} for stage, day, warning in told)


# -- as text -----------------------------------------------------------------------------------------------------------


def _together(days: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Days that follow each other and have the same cells as one row, where these are several."""
    out, first = dict[str, dict[str, str]](), ""
    rows = [*days.items()]
    for k, (day, cells) in enumerate(rows):
        first = first or day
        after = str(before(dt.date.fromisoformat(day), -1))
        if k + 1 == len(rows) or rows[k + 1] != (after, cells):
            out[day if day == first else f"{first} .. {day}"], first = cells, ""
    return out


def described(found: dict[str, Any]) -> str:
    """The table of days by columns, what the runs of the newest day said and the evaluations of those before it, the
    line about what is served, and a line for each thing to know."""
    days = _together(found["days"])
    wide = 2 + max([10, *map(len, days)])
    lines = [f"{'day':{wide}}" + "".join(f"{column:>12}" for column in COLUMNS)]
    lines += [f"{day:{wide}}" + "".join(f"{cells[c]:>12}" for c in COLUMNS) for day, cells in days.items()]
    newest = found.get("newest") or []
    last = max((each["day"] for each in newest), default="")
    told = [each["line"] for each in newest if each["day"] == last or each["stage"] == "evaluation"]
    lines += ["", *told, ""] if told else []
    served = found["served"]
    lines.append(f"served: {served or 'nothing yet'}" + (f" (age {found['served_age_days']} days)" if served else ""))
    if found["running"]:
        lines.append(f"running: {found['running']}; the newest file of the workspace's logs/ has its progress")
    if found["pinned"]:
        lines.append(f"pinned: {found['pinned']}; newer days are published and not served until dmtl rollback --unpin")
    lines += [f"problem: {problem}" for problem in found["problems"]]
    heal = f"run dmtl backfill --from {{}} --to {max(found['days'], default='')}"
    chain = {day: {*cells.values()} for day, cells in found["days"].items() if cells["teacher"] != "not due"}
    old = [day for day, states in chain.items() if {"stale", "changed"} & states]
    lines += [f"stale: {d} and what follows was made of what has changed since; {heal.format(d)}" for d in old[:1]]
    lines += [f"gap: the log has {day}, the chain has not; {heal.format(day)}" for day in found["gaps"]]
    lines += ["{stage} {day}: refused: {reason}".format(**each) for each in found["refused"]]
    lines += ["{stage} {day}: ungated: its gates were off".format(**each) for each in found["ungated"]]
    lines += ["{stage} {day}: forced: {reason}".format(**each) for each in found["forced"]]
    lines += ["{stage} {day}: warning: {warning}".format(**warning) for warning in found["warnings"]]
    return "\n".join(map(printable, lines))
