"""The command that writes pages for people."""

from __future__ import annotations

from typing import Annotated

import typer

from dmtl_cli.cli.ending import guarded
from dmtl_cli.cli.options import LOOKING, ConfigFile, Json, Sets, listed, load_config, show
from dmtl_cli.config.days import parse_day

commands = typer.Typer()
OfDay = Annotated[str | None, typer.Option("--day", metavar="DAY", help="Default the newest.", show_default=False)]
Index = Annotated[
    bool, typer.Option("--index", metavar="", help="The index of all days, and pages that are not there yet.")
]


@listed(commands, "report", LOOKING, "--config mylog.yaml --day 2026-01-02")
@guarded
def report(
    config: ConfigFile,
    day: OfDay = None,
    index: Index = False,
    sets: Sets = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Write a day's page as one HTML file: what flowed, metrics, gates, models, lists, what is served."""
    from dmtl_cli.stages.report import described, report

    show(report(load_config(config, sets), parse_day(day) if day else None, index=index), as_json, described)
