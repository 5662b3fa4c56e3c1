"""The command line. Nothing heavy is imported before a command's work: `dmtl --help` must answer at once."""

from __future__ import annotations

import gc
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from dmtl_cli import __version__
from dmtl_cli.cli import colours, ending, init, inspecting, keeping, publishing, report, serving, signals, synth
from dmtl_cli.cli.options import PANELS
from dmtl_cli.config.errors import Exit, UserError

app = typer.Typer(
    name="dmtl",
    help="Offline logit distillation for recommendation retrieval: train a teacher, store its scores, train a student.",
    epilog="Begin with:  dmtl init PLACE_OF_YOUR_LOG -o mylog.yaml",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for group in (init, publishing, inspecting, report, serving, keeping, synth):
    app.registered_commands += group.commands.registered_commands
app.registered_commands.sort(key=lambda command: PANELS.index(str(command.rich_help_panel)))  # the order of --help


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", metavar="", help="Show the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


_program = cache(typer.main.get_command)
"""the commands, made of their signatures once a process"""


def execute(arguments: list[str]) -> int:
    """Runs one command; its exit code. A mistake in the arguments is one line too."""
    try:
        return int(_program(app).main(arguments, prog_name="dmtl", standalone_mode=False) or 0)
    except OSError as e:  # what prints help; a command's work ends in `ending.outcome`
        return ending.not_printed(e)
    except SystemExit as e:  # typer's: completion is over (0), or the reader of its help is gone
        return 128 + signal.SIGPIPE if e.code else 0
    except Exception as e:
        if not hasattr(e, "format_message"):  # typer's own: click, or typer's copy of it
            raise
        if type(e).__name__ == "NoArgsIsHelpError":
            print(e.format_message())
            return int(Exit.USAGE)
        text = str(e.format_message()).rstrip(".?").replace("Value error, ", "").replace("Input should", "it should")
        text = text.replace(". Did you mean", ", did you mean")
        command = getattr(getattr(e, "ctx", None), "command_path", "dmtl")
        signals.tell(UserError(text[:1].lower() + text[1:], f"see {command} --help").line())
        return int(Exit.USAGE)


def collect_garbage_rarely() -> None:
    """Imports make objects that stay: to look at them after each 700 new ones is 5% of a small day."""
    gc.set_threshold(50_000, 20, 50)


def main() -> None:
    """The program `dmtl`, also one of many that torchrun started."""
    # on a machine that does other work too, OpenMP's spinning threads wait for each other: 22 s in place of 4 seen;
    # a tenth of a ms of it is safe, and longer than what lies between two operators of a step
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    collect_garbage_rarely()
    signals.install()
    colours.follow_clicolor()
    if ending.rank() or sys.stdout is None:  # None: closed, as by `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (until the end)
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    ending.end(execute(sys.argv[1:]))
