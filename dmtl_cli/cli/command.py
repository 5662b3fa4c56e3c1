"""A command that publishes: its options from its function's signature, and what is done around its work."""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmtl_cli.cli import colours, ending
from dmtl_cli.cli.options import Shared, seconds
from dmtl_cli.cli.textfile import check_writable, write_metrics
from dmtl_cli.config.commands import of_config
from dmtl_cli.config.days import parse_day
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.secrets import masked_override
from dmtl_cli.runs.locks import holding
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.workspace import Workspace

if TYPE_CHECKING:
    from dmtl_cli.config.schema import Config
    from dmtl_cli.runs.run import Result, Run

Work = Callable[..., "list[Result]"]


@dataclass(frozen=True)
class Call:
    """What the function of a command starts from."""

    run: Run
    options: Shared
    named: str
    """the command and its day, for who finds the chain locked"""

    def holding(self, ws: Workspace | None = None) -> AbstractContextManager[None]:
        """Holds the chain of a workspace, by default the config's: see `locks.holding`."""
        wait = seconds(self.options.lock_wait, "--lock-wait")
        return holding(ws or self.run.ws, wait, self.named, self.run.ranks)


def publishes(
    name: str, *, dated: tuple[str, str] = ("day", "--day"), summary: int | None = -1, holds: bool = True
) -> Callable[[Work], Callable[..., None]]:
    """Makes a command of a function (call: Call, own options) -> results.

    The command's options are `config`, the function's own ones, then the rest of `Shared`.

    Args:
        dated: the parameter that names the day of the log file, and its option.
        summary: which result `--json` prints; None prints a line for each.
        holds: whether the chain is held around the function; else the function does this itself.
    """

    def decorate(work: Work) -> Callable[..., None]:
        def command(**options: Any) -> None:
            shared = Shared(**{f.name: options.pop(f.name) for f in fields(Shared)})
            _Process(name, dated[1], options[dated[0]], shared, summary, holds, lambda c: work(c, **options)).run()

        command.__doc__ = work.__doc__
        command.__signature__ = _signature(work)  # type: ignore[attr-defined]
        return command

    return decorate


def _signature(work: Work) -> inspect.Signature:
    # Result is imported for type checking only: its module imports torch
    own = inspect.signature(work, eval_str=True, locals={"Result": object})
    config, *rest = inspect.signature(Shared, eval_str=True).parameters.values()
    named = [config, *list(own.parameters.values())[1:], *rest]
    return inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in named])


@dataclass
class _Process:
    """One command in this process, from its options to its end."""

    name: str
    dated: str  # the option that gives its day
    given: str | None
    shared: Shared
    summary: int | None
    holds: bool
    work: Callable[[Call], list[Result]]
    log: RunLog = field(default_factory=RunLog)
    ranks: Ranks = ALONE
    workspace: Path = Path()
    done: list[Result] = field(default_factory=list)

    def run(self) -> None:
        self.log.quiet = self.shared.quiet or ending.rank() > 0
        self.log.paint = lambda line: colours.painted(of_config(line, self.shared.config), sys.stderr)
        code, message = ending.outcome(self._work, self.log)
        try:
            self._report(code)
        except UserError as e:
            if not code:  # else the failure itself is what counts
                code, message = int(e.code), e.line()
        if code:
            code, noted = self.ranks.failed(code)
            message = message if noted else ""
        ending.leave(code, message)

    def _work(self) -> None:
        self._day()
        seconds(self.shared.lock_wait, "--lock-wait")
        self.ranks = Ranks.join()
        if (file := self.shared.metrics_file) is not None:
            self.ranks.on_first(lambda: check_writable(file))
        config = self._config()
        self.workspace = Path(config.workspace)
        self.log.path = self._log_path(self.workspace)
        self.log.write(
            "started",
            command=self.name,
            config=str(self.shared.config),
            sets=[masked_override(one) for one in self.shared.overrides()],
        )
        self._listen(config)
        from dmtl_cli.runs.run import Run

        run = Run.start(config, self.log, self.ranks, self.shared.force_publish)
        self.done = run.done
        call = Call(run, self.shared, f"dmtl {self.name}{f' {self.dated} {self.given}' if self.given else ''}")
        with run.ranks.together(), call.holding() if self.holds else contextlib.nullcontext():
            results = self.work(call)
        run.ranks.leave()
        if self.shared.as_json:
            self._print(results)

    def _listen(self, config: Config) -> None:
        """What hears of each result: the terminal, and on the rank that publishes the trackers."""
        from dmtl_cli.cli.said import telling
        from dmtl_cli.cli.trackers.tracking import listen

        self.log.listeners.append(telling(self.log))
        if not ending.rank():
            listen(config.tracking, self.workspace, self.log)

    def _config(self) -> Config:
        """The config; its mistakes go to the log of the workspace that it names, where there is one."""
        try:
            return self.shared.load()
        except UserError:
            if (root := self.shared.named_workspace()) is not None and root.is_dir():
                self.log.path = self._log_path(root)
            raise

    def _day(self) -> dt.date:
        """The day of the log file: without a given one that of the call."""
        return parse_day(self.given, self.dated) if self.given else dt.date.today()

    def _log_path(self, root: Path) -> Path:
        path = Workspace(root).log_path(self.name, self._day())
        return path.with_suffix(f".{ending.rank()}.jsonl") if ending.rank() else path

    def _print(self, results: list[Result]) -> None:
        shown = [r.to_dict() for r in results]
        if self.summary is not None:  # what is true of the command, not of this result alone
            pinned = next(({"pinned": r.pinned} for r in results if r.pinned), {})
            shown = [shown[self.summary] | pinned | {"up_to_date": all(r.up_to_date for r in results)}]
        for each in shown:
            print(json.dumps(each, sort_keys=True))

    def _report(self, code: int) -> None:
        """Tells what was published before a failure, and writes the metrics file, after a failure too."""
        if code and self.shared.as_json:
            with contextlib.suppress(OSError):  # stdout may be closed: the failure itself is what counts
                for each in self.done:
                    print(json.dumps(each.to_dict(), sort_keys=True))
        if self.shared.metrics_file is not None and not ending.rank():
            chain = [result for result in self.done if self._is_chain(result)]
            write_metrics(self.shared.metrics_file, self.name, code, chain, self.log)

    def _is_chain(self, result: Result) -> bool:
        """Whether a result is of the chain, or a comparison as a whole; not of one of its cells."""
        cells = self.workspace / "compare"
        return result.stage == "compare" or not Path(result.path).is_relative_to(cells)
