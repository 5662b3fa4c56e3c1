"""The commands that keep a workspace: go back to an earlier export, hash what is published, remove what is old, or of
users who are to be forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import (
    HOUSEKEEPING,
    SERVING,
    ConfigFile,
    Json,
    LockWait,
    Quiet,
    Sets,
    listed,
    load_config,
    seconds,
    show,
    workspace,
)
from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.workspace import Workspace

commands = typer.Typer()
To = Annotated[
    str | None, typer.Option(metavar="DAY|RUN", help="Default the export before the served one.", show_default=False)
]
Unpin = Annotated[bool, typer.Option("--unpin", metavar="", help="Serve the newest export, and follow it again.")]
OfDay = Annotated[
    str | None, typer.Option("--day", metavar="DAY", help="What is published of this day.", show_default=False)
]
All = Annotated[
    bool, typer.Option("--all", metavar="", help="Every run, also superseded ones and those of comparisons.")
]
KeepDays = Annotated[
    int, typer.Option(metavar="DAYS", min=1, help="Days before the newest to keep.", show_default=False)
]
UsersFile = Annotated[
    Path, typer.Option("--users", metavar="FILE", help="A file with a user id a line.", show_default=False)
]
Delete = Annotated[bool, typer.Option("--delete", metavar="", help="Remove it; else only tell what would go.")]


@listed(commands, "rollback", SERVING, "--config mylog.yaml --to 2026-01-02")
@guarded
def rollback(
    config: ConfigFile,
    to: To = None,
    unpin: Unpin = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    lock_wait: LockWait = "0",
) -> None:
    """Serve an earlier export and hold LATEST there until --unpin."""
    from dmtl_cli.runs.locks import holding
    from dmtl_cli.stages.rollback import described, release, rollback

    if to is not None and unpin:
        raise UserError("--to and --unpin: expected one of them", code=Exit.USAGE)
    ws = workspace(config, sets)
    with holding(ws, seconds(lock_wait, "--lock-wait"), "dmtl rollback"):
        found = release(ws) if unpin else rollback(ws, to)
    show(found, as_json, described)


@listed(commands, "verify", HOUSEKEEPING, "--config mylog.yaml --all")
@guarded
def verify(
    config: ConfigFile,
    day: OfDay = None,
    every: All = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hash what is served and newest with all that it was made from; exit 65 at the first flip."""
    from dmtl_cli.stages.verify import described, verify_runs

    if day is not None and every:
        raise UserError("--day and --all: expected one of them", code=Exit.USAGE)
    wanted = parse_day(day) if day else None
    found = verify_runs(workspace(config, sets), RunLog(quiet=quiet), day=wanted, every=every)
    show(found, as_json, described)


@listed(commands, "gc", HOUSEKEEPING, "--config mylog.yaml --keep-days 30 --delete")
@guarded
def gc(
    config: ConfigFile,
    keep_days: KeepDays,
    delete: Delete = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    lock_wait: LockWait = "0",
) -> None:
    """Remove superseded runs, old days, and what dead runs left. Without --delete only tell what would go."""
    from dmtl_cli.stages.gc import described, gc

    whole = load_config(config, sets)
    ws, ages = Workspace(Path(whole.workspace)), whole.student.distill.max_age_days
    wait = seconds(lock_wait, "--lock-wait")
    show(gc(ws, keep_days, ages, wait=wait, delete=delete), as_json, described)


@listed(commands, "forget", HOUSEKEEPING, "--config mylog.yaml --users leaving.txt")
@guarded
def forget(
    config: ConfigFile,
    users: UsersFile,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
    lock_wait: LockWait = "0",
) -> None:
    """Publish everything again without some users; remove the runs that held them."""
    from dmtl_cli.stages.forget import described, forget

    show(forget(workspace(config, sets), users, seconds(lock_wait, "--lock-wait")), as_json, described)
