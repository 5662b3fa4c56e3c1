"""The commands that publish, one for each stage, and the chains of them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmtl_cli.cli.command import Call, publishes
from dmtl_cli.cli.fitted import for_terminal
from dmtl_cli.cli.options import DAILY, STEPS, STUDYING, Day, listed, names_of, seconds
from dmtl_cli.config.days import between, parse_day, parse_moment
from dmtl_cli.config.errors import Exit, UserError

if TYPE_CHECKING:
    from dmtl_cli.runs.run import Result

commands = typer.Typer()
TeacherDay = Annotated[
    str | None, typer.Option(metavar="DAY", help="Score with the teacher of this day.", show_default=False)
]
ScoresDay = Annotated[
    str | None, typer.Option(metavar="DAY", help="Learn from the scores of this day's teacher.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option(metavar="DAY", help="Means over the days from this one on; default --day alone.", show_default=False),
]
Settings = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A YAML of settings to try: name: {dotted.key: value}.", show_default=False),
]
Seeds = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Such as 1,2,3; default the config's seed.", show_default=False)
]
Baselines = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        help="What to have beside the student and the settings: all, none, or some of click_only, long_read_only, "
        "duration_weighted, joint, ease, ials.",
    ),
]
First = Annotated[str, typer.Option("--from", metavar="DAY", help="First day.", show_default=False)]
LastDay = Annotated[
    str | None, typer.Option("--day", metavar="DAY", help="The last day that what is served knows; default the newest.")
]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Serve what is there later, by the times of side tables: now, or 2026-01-31T10:00 in data.timezone.",
        show_default=False,
    ),
]
Write = Annotated[bool, typer.Option("--write", metavar="", help="Write what was chosen into the config.")]
Last = Annotated[str, typer.Option("--to", metavar="DAY", help="Last day.", show_default=False)]
Wait = Annotated[
    str, typer.Option("--wait", metavar="DURATION", help="Wait so long for the day to be there: 30s, 10m, 2h.")
]
AllowGap = Annotated[bool, typer.Option("--allow-gap", metavar="", help="Go on though the day before was never run.")]


@listed(commands, "build-profile", STEPS, "--config mylog.yaml --day 2026-01-02")
@publishes("build-profile")
def build_profile(call: Call, day: Day) -> list[Result]:
    """Store what is known of users and items when a day ends, from the profile before it."""
    from dmtl_cli.stages.build_profile import build_profile

    return build_profile(call.run, parse_day(day))


@listed(commands, "tune", STUDYING, "--config mylog.yaml --day 2026-01-02 --write")
@publishes("tune")
def tune(call: Call, day: Day, write: Write = False) -> list[Result]:
    """Let the log decide again what the config does not write: trials on the window that ends with a day."""
    from dmtl_cli.config.writing import write_keys
    from dmtl_cli.runs.manifest import MANIFEST, Manifest
    from dmtl_cli.stages.tune import tune
    from dmtl_cli.tune.table import by_hand, keys_of, table

    result = tune(call.run, parse_day(day))
    facts = Manifest.read(Path(result.path) / MANIFEST).facts
    lines = [table(facts)]
    if write:
        file, keys = call.options.config, keys_of(facts)
        found = call.run.ranks.on_first(lambda: write_keys(file, keys, call.options.overrides()))
        lines += ["", *(f"written to {file}: {each}" for each in found or ["nothing"]), *by_hand(facts)]
    if not call.options.as_json:
        print("\n".join(lines))
    return [result]


@listed(commands, "train-teacher", STEPS, "--config mylog.yaml --day 2026-01-02")
@publishes("train-teacher")
def train_teacher(call: Call, day: Day, allow_gap: AllowGap = False) -> list[Result]:
    """Train the teacher on a day, warm from the teacher before it."""
    from dmtl_cli.stages.train_teacher import train_teacher

    _refuse_gap(call, parse_day(day), allow_gap)
    return [train_teacher(call.run, parse_day(day))]


def _refuse_gap(call: Call, day: dt.date, allowed: bool) -> None:
    """Raises UserError 65 where a day before `day` was forgotten, unless that is allowed."""
    from dmtl_cli.data.gap import refuse_gap

    if not allowed:
        call.run.ranks.on_first(lambda: refuse_gap(call.run, day))


@listed(commands, "dump-logits", STEPS, "--config mylog.yaml --day 2026-01-02 --teacher-day 2026-01-01")
@publishes("dump-logits")
def dump_logits(call: Call, day: Day, teacher_day: TeacherDay = None) -> list[Result]:
    """Store a teacher's scores of a day's pairs as Parquet."""
    from dmtl_cli.stages.dump_logits import dump_logits

    return [dump_logits(call.run, parse_day(day), parse_day(teacher_day, "--teacher-day") if teacher_day else None)]


@listed(commands, "train-student", STEPS, "--config mylog.yaml --day 2026-01-02")
@publishes("train-student", summary=0)
def train_student(call: Call, day: Day, scores_day: ScoresDay = None) -> list[Result]:
    """Train the two-tower student of a day against stored scores, then export it."""
    from dmtl_cli.stages.train_student import train_student

    taught = parse_day(scores_day, "--scores-day") if scores_day else None
    return [*train_student(call.run, parse_day(day), taught)]


@listed(commands, "export", STEPS, "--config mylog.yaml --day 2026-01-02 --set student.exposure.kappa=0.5")
@publishes("export")
def export(call: Call, day: Day) -> list[Result]:
    """Write the export of a stored student again."""
    from dmtl_cli.stages.export import export

    return [export(call.run, parse_day(day))]


@listed(commands, "evaluate", STEPS, "--config mylog.yaml --day 2026-01-03")
@publishes("evaluate")
def evaluate(call: Call, day: Day) -> list[Result]:
    """Measure on a day's log what was ready before that day."""
    from dmtl_cli.stages.evaluate import evaluate

    return [evaluate(call.run, parse_day(day))]


@listed(commands, "train-joint", STUDYING, "--config mylog.yaml --day 2026-01-02")
@publishes("train-joint")
def train_joint(call: Call, day: Day) -> list[Result]:
    """Train teacher and student in one loop on a day, the reference of the offline form; never served."""
    from dmtl_cli.stages.train_joint import train_joint

    return [train_joint(call.run, parse_day(day))]


@listed(commands, "compare", STUDYING, "--config mylog.yaml --since 2026-01-05 --day 2026-01-07 --seeds 1,2,3")
@publishes("compare", holds=False)
def compare(
    call: Call,
    day: Day,
    since: Since = None,
    settings: Settings = None,
    seeds: Seeds = None,
    baselines: Baselines = "all",
) -> list[Result]:
    """Measure the student beside baselines, the joint reference and other settings, as one Markdown table."""
    from dmtl_cli.evaluate.settings import BESIDE, read_settings
    from dmtl_cli.stages.compare import compare

    last, first = parse_day(day), parse_day(since, "--since") if since else None
    if first and first > last:
        raise UserError(f"--since {first} is after --day {last}", code=Exit.USAGE)
    tried = read_settings(settings) if settings else {}
    beside = names_of(baselines, BESIDE, "--baselines")
    result, table = compare(
        call.run,
        last,
        call.options.load,
        call.holding,
        since=first,
        settings=tried,
        seeds=_seeds(seeds),
        beside=beside,
    )
    if not call.options.as_json:
        print(for_terminal(table.markdown()))
    return [result]


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    seeds = [int(p) if re.fullmatch(r"\d{1,9}", p) else -1 for p in text.split(",")]
    if -1 in seeds or len({*seeds}) < len(seeds):
        raise UserError(f"--seeds {text}: expected different numbers such as 1,2,3", code=Exit.USAGE)
    return seeds


@listed(commands, "run", DAILY, "--config mylog.yaml --day 2026-01-02 --wait 3h")
@publishes("run", summary=None, holds=False)
def run(call: Call, day: Day, wait: Wait = "0", allow_gap: AllowGap = False) -> list[Result]:
    """The whole day: build its profile, evaluate what was ready, train teacher and student, export."""
    from dmtl_cli.stages.run import await_day, run_day

    wanted = parse_day(day)
    await_day(call.run, wanted, seconds(wait, "--wait"))
    with call.holding():
        _refuse_gap(call, wanted, allow_gap)
        return run_day(call.run, wanted)


@listed(commands, "backfill", DAILY, "--config mylog.yaml --from 2026-01-01 --to 2026-01-07")
@publishes("backfill", dated=("first", "--from"), summary=None)
def backfill(call: Call, first: First, last: Last, allow_gap: AllowGap = False) -> list[Result]:
    """`run` for each day in order, a line a day on stdout and one of all that are measured. A refused day (80) does not
    stop it; the exit code is the first failure's."""
    from dmtl_cli.cli.said import Earlier, day_line, days_line, repeats_line
    from dmtl_cli.stages.run import backfill

    earlier: Earlier = {}

    def ended(day: dt.date, made: list[Result] | UserError) -> None:
        if not call.options.as_json:
            print(day_line(day, made, call.options.config, earlier), flush=True)

    a, b = parse_day(first, "--from"), parse_day(last, "--to")
    if a > b:
        raise UserError(f"--from {a} is after --to {b}", code=Exit.USAGE)
    _refuse_gap(call, a, allow_gap)
    results = backfill(call.run, between(a, b), ended)
    if not call.options.as_json:
        repeats = repeats_line(results, call.run.config.export.seen_days)
        for line in filter(None, (days_line(results), repeats)):
            print(line)
    return results


@listed(commands, "refresh", DAILY, "--config mylog.yaml")
@publishes("refresh")
def refresh(call: Call, day: LastDay = None, as_of: AsOf = None) -> list[Result]:
    """Export the newest student again, for a newer profile or newer side tables, without training."""
    from dmtl_cli.stages.refresh import refresh

    at = None if as_of is None else parse_moment(as_of, call.run.config.data.timezone, "--as-of")
    return [refresh(call.run, parse_day(day) if day else None, at)]
