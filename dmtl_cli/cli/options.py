"""The options that several commands have, each written once, and what is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.runs.workspace import Workspace

if TYPE_CHECKING:
    from dmtl_cli.config.schema import Config

ConfigFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The config, a YAML file.", show_default=False)
]
Day = Annotated[str, typer.Option("--day", metavar="DAY", help="YYYY-MM-DD.", show_default=False)]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Overrides a dotted key of the config; may be repeated.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="The result as one line of JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", metavar="", help="No progress, even on a terminal.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Overrides the config's threads.", show_default=False),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option("--device", help="Overrides the config's device.", show_default=False),
]
Metrics = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        metavar="FILE",
        help="Write the result's metrics as a Prometheus textfile.",
        show_default=False,
    ),
]
Force = Annotated[
    str | None,
    typer.Option(
        "--force-publish",
        metavar="REASON",
        help="Publish in spite of quality gates, for this reason.",
        show_default=False,
    ),
]
LockWait = Annotated[
    str, typer.Option("--lock-wait", metavar="DURATION", help="Wait so long for another run: 30s, 10m, 2h.")
]
BEGIN, DAILY, LOOKING = "To begin", "Every day", "To look at what there is"
STEPS, STUDYING = "One stage of a day (run does them all)", "To study what works"
SERVING, HOUSEKEEPING = "To serve", "To keep a workspace"
PANELS = (BEGIN, DAILY, LOOKING, STUDYING, SERVING, STEPS, HOUSEKEEPING)
"""the groups of commands, in the order of --help"""
Work = TypeVar("Work", bound=Callable[..., Any])
_DURATION = re.compile(r"0|(\d{1,6})([smh])")


def listed(commands: typer.Typer, name: str, panel: str, example: str) -> Callable[[Work], Work]:
    """Makes a command of a function, in a group of --help, with an example of its options that can be copied."""
    return commands.command(name, rich_help_panel=panel, epilog=f"Example:  dmtl {name} {example}")


def seconds(text: str, where: str) -> float:
    """`30s`, `10m`, `2h` or `0` -> seconds. Raises UserError (usage) for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UserError(f"{where}: expected a duration such as 30s, 10m or 2h, got {text!r}", code=Exit.USAGE)
    return float(found[1] or 0) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def names_of(text: str, known: Sequence[str], where: str) -> tuple[str, ...]:
    """`all`, `none` or `a,b` -> names, in the order of the known ones. Raises UserError (usage) for anything else."""
    if text in ("all", "none"):
        return tuple(known) if text == "all" else ()
    given = text.split(",")
    if unknown := [name for name in given if name not in known]:
        what = f"{where}: expected all, none or some of {', '.join(known)}, got {unknown[0]!r}"
        raise UserError(what, code=Exit.USAGE)
    return tuple(name for name in known if name in given)


def load_config(file: Path, overrides: Sequence[str] = ()) -> Config:
    """The config, its schema imported now: `--help` does without. Raises UserError 78."""
    from dmtl_cli.config.reading import load_config

    return load_config(file, tuple(overrides))


def workspace(config: Path, sets: list[str]) -> Workspace:
    """The workspace of a config. Raises UserError 78."""
    return Workspace(Path(load_config(config, sets).workspace))


def show(found: dict[str, Any], as_json: bool, described: Callable[[dict[str, Any]], str]) -> None:
    """Prints a result as `--json` says, else as `described` does."""
    print(json.dumps(found, sort_keys=True, default=str) if as_json else described(found))


@dataclass(frozen=True)
class Shared:
    """The options of every command that publishes, in the order in which `--help` shows them.

    A command's own options come after `config`.
    """

    config: ConfigFile
    sets: Sets = ()  # type: ignore[assignment]  # typer reads it, and gives a list
    as_json: Json = False
    quiet: Quiet = False
    threads: Threads = None
    device: Device = None
    metrics_file: Metrics = None
    force_publish: Force = None
    lock_wait: LockWait = "0"

    def overrides(self, more: Iterable[str] = ()) -> list[str]:
        """What `--set`, `more`, `--threads` and `--device` ask for, as `--set` writes it."""
        named = {"threads": self.threads, "device": self.device}
        return [*self.sets, *more, *(f"{key}={value}" for key, value in named.items() if value)]

    def load(self, more: Iterable[str] = ()) -> Config:
        """The config with all overrides. Raises UserError 78."""
        return load_config(self.config, self.overrides(more))

    def named_workspace(self) -> Path | None:
        """The workspace that a broken config names, if it does, so that all its mistakes can be logged there."""
        from dmtl_cli.config.reading import named_workspace

        return named_workspace(self.config, self.sets)
