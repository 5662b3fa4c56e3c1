"""The commands that change nothing: they show a day of the log, what is published."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from dmtl_cli.cli import colours
from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import BEGIN, LOOKING, ConfigFile, Day, Json, Sets, listed, load_config, show, workspace
from dmtl_cli.config.commands import command, of_config
from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.workspace import STAGES, Workspace

commands = typer.Typer()
_STAGES = f"{', '.join(STAGES[:-1])} or {STAGES[-1]}"
Plan = Annotated[bool, typer.Option("--plan", metavar="", help="Tell what a run of the day would learn and choose.")]
AsOf = Annotated[str | None, typer.Option(metavar="DAY", help="Judge freshness as of this day.", show_default=False)]
Inputs = Annotated[
    bool, typer.Option("--inputs", metavar="", help="Compare the log's files with what was made of them.")
]
MaxAge = Annotated[
    int | None, typer.Option(metavar="DAYS", min=0, help="Exit 81 when the served day is older.", show_default=False)
]
Stage = Annotated[str, typer.Argument(help=f"{_STAGES}.")]
StageDay = Annotated[
    str | None,
    typer.Option("--day", metavar="DAY", help="Default the newest; for export the served one.", show_default=False),
]
TeacherDay = Annotated[
    str | None, typer.Option(metavar="DAY", help="For scores: the day of their teacher.", show_default=False)
]


@listed(commands, "check", BEGIN, "--config mylog.yaml --day 2026-01-02")
@guarded
def check(
    config: ConfigFile,
    day: Day,
    plan: Plan = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Validate the config and a day's log without training; show features, labels, join rates and estimates."""
    from dmtl_cli.cli.checked import described
    from dmtl_cli.stages.check import check

    found = check(load_config(config, sets), parse_day(day), planned=plan)
    if (first := found.pop("first_day", None)) is not None:
        found["next"] = _begun(config, sets, first, day)
    show(found, as_json, described)


def _begun(config: Path, sets: list[str], first: str, day: str) -> str:
    """The command that begins the chain of a config that has none yet: from the second day on a student is there."""
    named = ["--config", config, *(word for one in sets for word in ("--set", one))]
    if first == day:
        return command("run", *named, "--day", day) + "  # a student needs a second day"
    return command("backfill", *named, "--from", first, "--to", day)


@listed(commands, "status", LOOKING, "--config mylog.yaml --max-age 1")
@guarded
def status(
    config: ConfigFile,
    sets: Sets = [],  # noqa: B006
    day: AsOf = None,
    max_age: MaxAge = None,
    inputs: Inputs = False,
    as_json: Json = False,
) -> None:
    """Days by stages: what is published, what is missing, what is served."""
    from dmtl_cli.cli.said import newest
    from dmtl_cli.stages.status import described, status

    gc.disable()  # no manifest is in a cycle; to look for one among hundreds takes as long as to read them
    whole = load_config(config, sets)
    ws = Workspace(Path(whole.workspace))
    found = status(ws, whole.data, whole.student.distill, parse_day(day) if day else None, inputs=inputs)
    found |= {"newest": newest(ws)}
    show(found, as_json, lambda found: colours.painted(of_config(described(found), config), sys.stdout))
    ws.latest()  # 65 where it names no run: the table says so too
    if max_age is not None:
        _refuse_old(found["served_day"], found["served_age_days"], max_age, ws)


def _refuse_old(served: str | None, age: int | None, most: int, ws: Workspace) -> None:
    """Raises UserError 81. A day to come is no young one: LATEST stays there, whatever is published."""
    if age is None or not 0 <= age <= most:
        told = "no export is served" if age is None else f"{served} is served, {age} days old"
        hint = f"dmtl status shows why, {ws.root / 'logs'} which stage failed"
        raise UserError(f"{told}: expected 0 to {most} days", hint, Exit.STALE)


@listed(commands, "path", LOOKING, "export --config mylog.yaml")
@guarded
def path(
    stage: Stage,
    config: ConfigFile,
    day: StageDay = None,
    teacher_day: TeacherDay = None,
    sets: Sets = [],  # noqa: B006
) -> None:
    """Print the published directory of a stage."""
    ws = workspace(config, sets)
    if stage not in STAGES:
        raise UserError(f"stage {stage!r}: expected one of {', '.join(STAGES)}", code=Exit.USAGE)
    days = ws.days(stage)
    wanted = parse_day(day) if day else (days[-1] if days else None)
    sub = None
    if stage == "scores":
        sub = f"teacher={parse_day(teacher_day, '--teacher-day') if teacher_day else wanted}"
    found = ws.latest() if stage == "export" and day is None else None
    found = found or (ws.current(stage, wanted, sub) if wanted else None)
    if found is None:
        what = f"no published {stage}{f' of {wanted}' if wanted else ''}{f', {sub}' if sub and wanted else ''}"
        raise UserError(f"{what} in {ws.root}", "dmtl status shows what there is", Exit.NO_INPUT)
    print(found)
