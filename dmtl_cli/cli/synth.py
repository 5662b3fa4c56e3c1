"""The command that makes a world to try dmtl on; nothing of a user's day needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import BEGIN, listed
from dmtl_cli.config.days import parse_day
from dmtl_cli.runs.progress import RunLog

commands = typer.Typer()


@listed(commands, "synth", BEGIN, "data/demo --days 4")
@guarded
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/demo"),
    days: Annotated[int, typer.Option(metavar="N", min=1, help="How many days.")] = 3,
    world: Annotated[
        str,
        typer.Option(
            metavar="WORLD",
            help="bait: clicks and reading differ; positions: large, sparse, with position and context.",
        ),
    ] = "bait",
    start: Annotated[str, typer.Option(metavar="DAY", help="First day.")] = "2026-01-01",
    users: Annotated[int, typer.Option(metavar="N", min=1, help="bait: all; positions: of a day.")] = 5_000,
    items: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Alive a day; bait: 2000, positions: 100000.")
    ] = None,
    events_per_day: Annotated[int, typer.Option(metavar="N", min=1, help="Exposures of a day.")] = 300_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed is another world.")] = 1,
) -> None:
    """Generate a world whose right answer is known: OUT/log and OUT/truth."""
    from dmtl_cli.synth.generate import generate

    first = parse_day(start, "--start")
    generate(
        out,
        days,
        world=world,
        start=first,
        users=users,
        items=items,
        events_per_day=events_per_day,
        seed=seed,
        log=RunLog(),
    )
