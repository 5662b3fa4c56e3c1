"""The command line: one command a stage; the only place that prints, catches and exits.

Nothing heavy is imported here: `dmtl --help` must answer at once, so torch and polars are imported inside commands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from dmtl_cli import __version__
from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import Exit, NotDue, UserError
from dmtl_cli.config.schema import Config, load_config
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.workspace import Workspace

if TYPE_CHECKING:
    from dmtl_cli.runs.ranks import Ranks
    from dmtl_cli.runs.run import Result, Run

app = typer.Typer(
    name="dmtl",
    help="Offline logit distillation for recommendation retrieval: train a teacher, store its scores, train a student.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Option("--config", help="The YAML of the log.", show_default=False)]
Day = Annotated[str, typer.Option("--day", help="YYYY-MM-DD.", show_default=False)]
Sets = Annotated[list[str], typer.Option("--set", help="dotted.key=value, over the config.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="The result as one line of JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, even on a terminal.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Over the config's threads.", show_default=False)]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option("--device", help="Over the config's device.", show_default=False),
]
Metrics = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="Write the result's metrics as a Prometheus textfile.", show_default=False),
]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


# ---------------------------------------------------------------------------------------------------------------------
# Stages


@app.command("train-teacher")
def train_teacher(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006 (typer reads it, nobody writes it)
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Train the MMoE teacher on a day, warm from the teacher before it."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.train_teacher import train_teacher

        return [train_teacher(run, parse_day(day))]

    _stage("train-teacher", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


@app.command("dump-logits")
def dump_logits(
    config: ConfigFile,
    day: Day,
    teacher_day: Annotated[
        str | None, typer.Option(help="Score with the teacher of this day.", show_default=False)
    ] = None,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Store a teacher's scores of a day's pairs as Parquet."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.dump_logits import dump_logits

        return [dump_logits(run, parse_day(day), parse_day(teacher_day, "--teacher-day") if teacher_day else None)]

    _stage("dump-logits", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


@app.command("train-student")
def train_student(
    config: ConfigFile,
    day: Day,
    scores_day: Annotated[
        str | None, typer.Option(help="Learn from the scores of this day's teacher.", show_default=False)
    ] = None,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Train the two-tower student of a day against stored scores, then export it."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.train_student import train_student

        student, export = train_student(
            run, parse_day(day), parse_day(scores_day, "--scores-day") if scores_day else None
        )
        return [student, export]

    _stage("train-student", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file, summary=0)


@app.command()
def export(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Write the export of a stored student again."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.export import export

        return [export(run, parse_day(day))]

    _stage("export", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


@app.command()
def evaluate(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Measure on a day's log what was ready before that day."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.evaluate import evaluate

        return [evaluate(run, parse_day(day))]

    _stage("evaluate", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


@app.command("train-joint")
def train_joint(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Train teacher and student in one loop on a day, the reference of the offline form; never served."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.train_joint import train_joint

        return [train_joint(run, parse_day(day))]

    _stage("train-joint", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


@app.command()
def compare(
    config: ConfigFile,
    day: Day,
    since: Annotated[
        str | None, typer.Option(help="Means over the days from this one on; default --day alone.", show_default=False)
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A YAML of settings to try: name: {dotted.key: value}.", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Such as 1,2,3; default the config's seed.", show_default=False)
    ] = None,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """Measure the student beside baselines, the joint reference and other settings, as one Markdown table."""

    def load(more: list[str]) -> Config:
        return _load(config, [*sets, *more], threads, device).read()

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.compare import compare, read_settings

        last, first = parse_day(day), parse_day(since, "--since") if since else None
        if first and first > last:
            raise UserError(f"--since {first} is after --day {last}", code=Exit.USAGE)
        tried = read_settings(settings) if settings else {}
        result, table = compare(run, last, load, since=first, settings=tried, seeds=_seeds(seeds))
        if not as_json:
            print(table.markdown())
        return [result]

    _stage("compare", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    seeds = [int(p) if re.fullmatch(r"\d{1,9}", p) else -1 for p in text.split(",")]
    if -1 in seeds or len({*seeds}) < len(seeds):
        raise UserError(f"--seeds {text}: expected different numbers such as 1,2,3", code=Exit.USAGE)
    return seeds


@app.command()
def run(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """The whole day: evaluate what was ready, train the teacher, dump its scores, train and export the student."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.stages.run import run_day

        return run_day(run, parse_day(day))

    _stage("run", day, work, _load(config, sets, threads, device), as_json, quiet, metrics_file, summary=None)


@app.command()
def backfill(
    config: ConfigFile,
    first: Annotated[str, typer.Option("--from", help="First day.", show_default=False)],
    last: Annotated[str, typer.Option("--to", help="Last day.", show_default=False)],
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = None,
    metrics_file: Metrics = None,
) -> None:
    """`run` for each day in order. A refused day (80) does not stop it; the exit code is the first failure's."""

    def work(run: Run) -> list[Result]:
        from dmtl_cli.config.days import between
        from dmtl_cli.stages.run import backfill

        a, b = parse_day(first, "--from"), parse_day(last, "--to")
        if a > b:
            raise UserError(f"--from {a} is after --to {b}", code=Exit.USAGE)
        return backfill(run, between(a, b))

    _stage("backfill", first, work, _load(config, sets, threads, device), as_json, quiet, metrics_file, summary=None)


# ---------------------------------------------------------------------------------------------------------------------
# Looking


@app.command()
def check(
    config: ConfigFile,
    day: Day,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Validate the config and a day's log without training; show features, labels, join rates and estimates."""

    def work() -> None:
        from dmtl_cli.stages.check import check, described

        found = check(load_config(config, sets), parse_day(day))
        print(json.dumps(found, sort_keys=True, default=str) if as_json else described(found))

    _guarded(work, RunLog())


@app.command()
def status(
    config: ConfigFile,
    sets: Sets = [],  # noqa: B006
    day: Annotated[str | None, typer.Option(help="Judge freshness as of this day.", show_default=False)] = None,
    max_age: Annotated[
        int | None, typer.Option(min=0, help="Exit 81 when the served day is older.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Days by stages: what is published, what is missing, what is served."""

    def work() -> None:
        from dmtl_cli.stages.status import described, status

        loaded = load_config(config, sets)
        found = status(Workspace(Path(loaded.workspace)), parse_day(day) if day else None)
        print(json.dumps(found, sort_keys=True, default=str) if as_json else described(found))
        if max_age is not None and (found["served_age_days"] is None or found["served_age_days"] > max_age):
            age = f"{found['served_day']} is served, {found['served_age_days']} days old"
            raise UserError(
                f"{age if found['served_day'] else 'no export is served'}: expected at most {max_age} days",
                f"see which stage failed in {Path(loaded.workspace) / 'logs'}",
                Exit.STALE,
            )

    _guarded(work, RunLog())


@app.command()
def recommend(
    config: ConfigFile,
    user: Annotated[str, typer.Option(help="A user id of the export.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 20,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Leave out what the user clicked lately.")
    ] = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """The top items of a user, from the export that is served."""

    def work() -> None:
        from dmtl_cli.runs.artifact import verify
        from dmtl_cli.serving.export import Export

        folder = Workspace(Path(load_config(config, sets).workspace)).latest()
        if folder is None:
            raise UserError("no export is served yet", "run dmtl train-student first", Exit.NO_INPUT)
        verify(folder)
        top = Export(folder).recommend(user, k, exclude_seen=exclude_seen)
        rows = top.rows(named=True)
        if as_json:
            print(json.dumps({"user": user, "export": str(folder), "items": rows}))
        else:
            print("\n".join(f"{row['item_id']}\t{row['score']:.4f}" for row in rows))

    _guarded(work, RunLog())


@app.command()
def path(
    stage: Annotated[str, typer.Argument(help="teacher, scores, student, export, joint, evaluation or compare.")],
    config: ConfigFile,
    day: Annotated[
        str | None, typer.Option(help="Default the newest; for export the served one.", show_default=False)
    ] = None,
    teacher_day: Annotated[str | None, typer.Option(help="scores: of this teacher.", show_default=False)] = None,
    sets: Sets = [],  # noqa: B006
) -> None:
    """Print the published directory of a stage."""

    def work() -> None:
        ws = Workspace(Path(load_config(config, sets).workspace))
        stages = ("teacher", "scores", "student", "export", "joint", "evaluation", "compare")
        if stage not in stages:
            raise UserError(f"stage {stage!r}: expected one of {', '.join(stages)}", code=Exit.USAGE)
        days = ws.days(stage)
        wanted = parse_day(day) if day else (days[-1] if days else None)
        sub = (
            f"teacher={parse_day(teacher_day, '--teacher-day') if teacher_day else wanted}"
            if stage == "scores"
            else None
        )
        found = ws.latest() if stage == "export" and day is None else None
        found = found or (ws.current(stage, wanted, sub) if wanted else None)
        if found is None:
            what = f"no published {stage}{f' of {wanted}' if wanted else ''}{f', {sub}' if sub and wanted else ''}"
            raise UserError(f"{what} in {ws.root}", "dmtl status shows what there is", Exit.NO_INPUT)
        print(found)

    _guarded(work, RunLog())


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/demo"),
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 3,
    start: Annotated[str, typer.Option(help="First day.")] = "2026-01-01",
    users: Annotated[int, typer.Option(min=1)] = 5_000,
    items: Annotated[int, typer.Option(min=1)] = 2_000,
    events_per_day: Annotated[int, typer.Option(min=1)] = 300_000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Generate a click-bait world whose right answer is known: OUT/log and OUT/truth."""

    def work() -> None:
        from dmtl_cli.synth.world import generate

        generate(
            out,
            days,
            start=parse_day(start, "--start"),
            users=users,
            items=items,
            events_per_day=events_per_day,
            seed=seed,
        )

    _guarded(work, RunLog())


# ---------------------------------------------------------------------------------------------------------------------
# How a command ends


@dataclass(frozen=True)
class _Source:
    """A config that is still to be read."""

    file: Path
    sets: list[str]

    def read(self) -> Config:
        return load_config(self.file, self.sets)

    def workspace(self) -> Path | None:
        """The workspace that a broken config names, if it does, so that all its mistakes can be logged there."""
        import yaml

        try:
            named = yaml.safe_load(self.file.read_text())["workspace"]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            named = None
        named = next((s.partition("=")[2] for s in reversed(self.sets) if s.startswith("workspace=")), named)
        return Path(named) if isinstance(named, str) and named else None


def _load(file: Path, sets: list[str], threads: int | None, device: str | None) -> _Source:
    flags = [*([f"threads={threads}"] if threads else []), *([f"device={device}"] if device else [])]
    return _Source(file, [*sets, *flags])


def _stage(
    name: str,
    day: str,
    work: Callable[[Run], list[Result]],
    source: _Source,
    as_json: bool,
    quiet: bool,
    metrics_file: Path | None,
    summary: int | None = -1,
) -> None:
    """Runs a stage and prints what `--json` asks for: the result numbered `summary`, or (None) a line for each."""
    rank = _rank()
    log = RunLog(quiet=quiet or rank > 0)
    done: list[list[Result]] = []
    ranks: list[Ranks] = []

    def log_of(root: Path) -> Path:
        path = Workspace(root).log_path(name, parse_day(day))
        return path.with_suffix(f".{rank}.jsonl") if rank else path

    def guarded() -> None:
        parse_day(day)
        if _many():
            from dmtl_cli.runs.ranks import Ranks

            ranks.append(Ranks.join())
        try:
            config = source.read()
        except UserError:
            if (root := source.workspace()) is not None and root.is_dir():
                log.path = log_of(root)
            raise
        log.path = log_of(Path(config.workspace))
        log.write("started", command=name, config=str(source.file), sets=source.sets)
        from dmtl_cli.runs.run import Run

        run = Run.of(config, log, *ranks)
        done.append(run.done)
        with run.ranks.together():
            results = work(run)
        run.ranks.leave()
        if as_json:
            shown = [r.to_dict() for r in results]
            if summary is not None:  # a command is up to date only if all that it publishes is
                shown = [shown[summary] | {"up_to_date": all(r.up_to_date for r in results)}]
            for each in shown:
                print(json.dumps(each, sort_keys=True))

    def after(code: int) -> None:
        published = [r for each in done for r in each]
        if code and as_json:  # what was published before the failure is there all the same
            for each in published:
                print(json.dumps(each.to_dict(), sort_keys=True))
        if metrics_file is not None and not rank:
            _write_metrics(metrics_file, name, code, published)

    _guarded(guarded, log, after, lambda code: ranks[0].failed(code) if ranks else (code, True))


def _many() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _rank() -> int:
    """This process's number among those that torchrun started; 0 speaks."""
    return int(os.environ.get("RANK", "0")) if _many() else 0


def _write_metrics(file: Path, name: str, code: int, results: list[Result]) -> None:
    """A textfile for node_exporter, whole or not at all, on failure too."""
    lines = [f'dmtl_exit_code{{command="{name}"}} {code}']
    for r in results:
        lines += [
            f'dmtl_metric{{stage="{r.stage}",day="{r.day}",name="{k}"}} {v}' for k, v in sorted(r.metrics.items())
        ]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    if not file.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no such folder", str(file.parent))
    try:
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _guarded(
    work: Callable[[], None],
    log: RunLog,
    after: Callable[[int], None] = lambda code: None,
    first: Callable[[int], tuple[int, bool]] = lambda code: (code, True),
) -> None:
    """Every way a command can end, with its documented exit code; a failure is one line on stderr.

    Args:
        first: of a failure's code the run's own code, and whether this process tells of it.
    """
    code, message = _ended(work, log)
    try:
        after(code)
    except OSError as e:
        if not code:
            code = int(Exit.CANNOT_CREATE)
            where = e.filename2 or e.filename
            what = f"the work is done, but --metrics-file cannot be written: {where}: {e.strerror or e}"
            message = UserError(what, "name a file in a folder that exists and can be written").line()
    told = True
    if code:
        code, told = first(code)
    if message and told:
        print(message, file=sys.stderr)
    if code:
        raise typer.Exit(code)


def _ended(work: Callable[[], None], log: RunLog) -> tuple[int, str]:
    """(exit code, the line to say) of some work."""
    try:
        try:
            with _last_word():
                work()
        except NotDue as e:
            log.say(f"not due: {e}")
        sys.stdout.flush()
    except UserError as e:
        where = _note(log, "refused", message=e.message, hint=e.hint, others=e.others)
        if e.others and where:
            e = UserError(f"{e.message} (and {len(e.others)} more, in {where})", e.hint, e.code)
        return int(e.code), e.line()
    except KeyboardInterrupt as e:
        number = e.number if isinstance(e, _Stopped) else signal.SIGINT
        by = "terminated, by hand or as another rank is gone" if _many() else "terminated"
        message = f"{by if number == signal.SIGTERM else 'interrupted'}; what was running is not published"
        _note(log, "stopped", signal=int(number))
        return 128 + number, UserError(message, "run it again").line()
    except typer.Exit:
        raise
    except BrokenPipeError:
        _drop_stdout()
        return 128 + signal.SIGPIPE, ""
    except OSError as e:
        _note(log, "io", traceback=traceback.format_exc())
        _drop_stdout()
        what = f"cannot read or write {e.filename or 'stdout or a file'}: {e.strerror or e}"
        return int(Exit.IO), UserError(what, "check the disk, run it again").line()
    except Exception as e:
        where = _note(log, "bug", traceback=traceback.format_exc())
        hint = f"the traceback is in {where}, report it" if where else "report it"
        return int(Exit.BUG), UserError(f"bug: {type(e).__name__}: {_short(str(e))}", hint).line()
    return 0, ""


@contextlib.contextmanager
def _last_word() -> Iterator[None]:
    """A rank that fails is not interrupted while it says so: torchrun ends all with a signal once one is gone."""
    try:
        yield
    except BaseException:
        if _many():
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        raise


def _short(text: str) -> str:
    """The first line, cut so that what follows it still fits."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= 200 else first[:197] + "..."


def _drop_stdout() -> None:
    """What could not be written must not fail once more when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _note(log: RunLog, event: str, **fields: Any) -> Path | None:
    """Writes to the log, a bug of a command that has none to a file of its own; returns where. A log that cannot be
    written must not hide the failure it was about."""
    try:
        if log.path is None and (event == "bug" or fields.get("others")):
            handle, name = tempfile.mkstemp(prefix=f"dmtl-{event}-", suffix=".jsonl")
            os.close(handle)
            log.path = Path(name)
        log.write(event, **fields)
    except (OSError, UserError):
        log.path = None
    return log.path


class _Stopped(KeyboardInterrupt):
    """A signal that asks to end, as an exception: scratch is cleared and locks are let go on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _stop(number: int, frame: object) -> NoReturn:
    raise _Stopped(number)


def execute(arguments: list[str]) -> int:
    """Runs one command; its exit code. A mistake in the arguments is one line too."""
    try:
        return int(app(arguments, prog_name="dmtl", standalone_mode=False) or 0)
    except Exception as e:
        if not hasattr(e, "format_message"):  # typer's own: click, or typer's copy of it
            raise
        if type(e).__name__ == "NoArgsIsHelpError":
            print(e.format_message())
            return int(Exit.USAGE)
        said = str(e.format_message()).rstrip(".").replace("Value error, ", "").replace("Input should", "it should")
        command = getattr(getattr(e, "ctx", None), "command_path", "dmtl")
        print(UserError(said[:1].lower() + said[1:], f"see {command} --help").line(), file=sys.stderr)
        return int(Exit.USAGE)


def main() -> None:
    # on a machine that does other work too, OpenMP's spinning threads wait for each other: 22 s in place of 4 seen
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    if _rank():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (until the end)
    sys.exit(execute(sys.argv[1:]))
