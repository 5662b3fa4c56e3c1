"""Every path a stage reads or writes, and the pointers that say what is published."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dmtl_cli.config.days import folder_day
from dmtl_cli.config.errors import Exit, UserError

CHAIN = ("profile", "tune", "teacher", "scores", "student", "export")  # what a day publishes, in order
STAGES = (*CHAIN, "joint", "evaluation", "compare")
CHECKPOINT = "checkpoint-"  # in scratch/: what a training that was stopped goes on from
_RUN = re.compile(r"run-[0-9a-f]{12}")
_LATEST = re.compile(r"(day=\d{4}-\d\d-\d\d)/(run-[0-9a-f]{12})")


def day_of(folder: Path) -> dt.date | None:
    """The day a folder `day=YYYY-MM-DD` names; None for any other name."""
    day = folder_day(folder.name.removeprefix("day="))
    return day if day is not None and folder.name == f"day={day}" else None


def _flat(stage: str) -> str:
    return stage.replace("/", ".")


def _read_pointer(pointer: Path) -> str | None:
    """The line in a pointer file, None if there is no file. Raises UserError if it cannot be read."""
    try:
        return pointer.read_bytes().decode("utf-8", "replace").removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {pointer}: {error.strerror}", code=Exit.IO) from error


def _named(pointer: Path) -> Path | None:
    """The run that LATEST or PINNED names. Raises UserError (data) if it names none that exists."""
    text = _read_pointer(pointer)
    if text is None:
        return None
    hint = "run dmtl rollback --unpin: it serves the newest published export"
    run = pointer.parent / text
    if not _LATEST.fullmatch(text) or day_of(run.parent) is None:
        raise UserError(f"{pointer}: expected one line day=YYYY-MM-DD/run-<12 hex>, got {text[:40]!r}", hint)
    if not run.is_dir():
        raise UserError(f"{pointer} names {text}, which does not exist", hint)
    return run


@dataclass(frozen=True)
class Workspace:
    """The folder all stages share.

    Args:
        shared: stages that are read from another workspace, `base`, and not written here. A setting of `compare` has a
            workspace of its own and shares the stages that it does not change.
    """

    root: Path
    base: Workspace | None = None
    shared: frozenset[str] = frozenset()

    def maker(self, stage: str) -> Workspace:
        """The workspace that makes a stage: of one that is shared not this one."""
        return self.base.maker(stage) if self.base is not None and stage in self.shared else self

    def home(self, stage: str) -> Path:
        """The folder of all days of a stage."""
        return self.maker(stage).root / stage

    def stage_dir(self, stage: str, day: dt.date, sub: str | None = None) -> Path:
        """`<root>/<stage>/day=YYYY-MM-DD[/<sub>]`"""
        folder = self.home(stage) / f"day={day}"
        return folder / sub if sub else folder

    def current_path(self, stage: str, day: dt.date, sub: str | None = None) -> Path:
        return self.stage_dir(stage, day, sub) / "CURRENT"

    def current(self, stage: str, day: dt.date, sub: str | None = None) -> Path | None:
        """The published run, None if there is none. Raises UserError (data) if CURRENT names no run that exists."""
        pointer = self.current_path(stage, day, sub)
        text = _read_pointer(pointer)
        if text is None:
            return None
        if not _RUN.fullmatch(text):
            raise UserError(f"{pointer}: expected one line run-<12 hex>, got {text[:40]!r}", "run the stage again")
        run = pointer.parent / text
        if not run.is_dir():
            raise UserError(f"{pointer} names {text}, which does not exist", "run the stage again")
        return run

    def subs(self, stage: str, day: dt.date) -> list[str]:
        """Folders of a day that have a CURRENT, sorted (`teacher=YYYY-MM-DD` for scores)."""
        found = self.stage_dir(stage, day).glob("*/CURRENT")
        # A payload may have a file of this name too.
        return sorted(path.parent.name for path in found if not path.parent.name.startswith("run-"))

    def days(self, stage: str) -> list[dt.date]:
        """Days with a CURRENT, in the day's folder or in any sub folder of it, sorted."""
        days = [day for folder in self.home(stage).glob("day=*") if (day := day_of(folder)) is not None]
        return sorted(day for day in days if self.current_path(stage, day).exists() or self.subs(stage, day))

    def newest(self, stage: str, before: dt.date) -> dt.date | None:
        """The last published day before `before`, None if there is none."""
        return max((day for day in self.days(stage) if day < before), default=None)

    @property
    def latest_path(self) -> Path:
        return self.root / "export" / "LATEST"

    @property
    def pin_path(self) -> Path:
        """There while LATEST is held by hand; one line as in LATEST."""
        return self.root / "export" / "PINNED"

    def latest(self) -> Path | None:
        """The served export run, None if there is none. Raises UserError (data) if LATEST names no run that exists."""
        return _named(self.latest_path)

    def pinned(self) -> Path | None:
        """The export run that LATEST is held at, None if none is. Raises UserError (data) if PINNED names no run."""
        return _named(self.pin_path)

    def latest_day(self) -> dt.date | None:
        """The day LATEST names, whether or not its run exists; None if LATEST is absent or names no day."""
        found = _LATEST.fullmatch(_read_pointer(self.latest_path) or "")
        return day_of(Path(found[1])) if found else None

    @property
    def chain_lock(self) -> Path:
        """What a writer holds: see `locks.holding`."""
        return self.root / "locks" / "chain.lock"

    def log_path(self, stage: str, day: dt.date) -> Path:
        return self.root / "logs" / f"{_flat(stage)}-{day}.jsonl"

    def scratch(self) -> Path:
        return self.root / "scratch"

    def checkpoint_path(self, stage: str, day: dt.date, key: str) -> Path:
        """Where the training of a run of this key stood last, until the run is published."""
        return self.scratch() / f"checkpoint-{_flat(stage)}-{day}-{key[:12]}.safetensors"

    def clear_checkpoints(self, stage: str, day: dt.date, keep: Path | None = None) -> None:
        """Removes what a stage's trainings left of a day, as far as the disk lets it: all but `keep` and those whose
        names begin as its does."""
        for file in self.scratch().glob(f"checkpoint-{_flat(stage)}-{day}-*"):
            if keep is None or not (file.name.startswith(keep.stem) and file.suffix == keep.suffix):
                with suppress(OSError):
                    file.unlink()

    def scratch_of(self, stage: str, day: dt.date, sub: str | None = None) -> Path:
        """Where a run of a stage's day is made."""
        return self.scratch() / f"{_flat(stage)}-{day}{'-' + sub if sub else ''}"

    def refusal_path(self, stage: str, day: dt.date, sub: str | None = None) -> Path:
        """Why a stage last refused to publish a day, until it publishes it; of scores, one text a teacher."""
        return self.rejected() / f"{_flat(stage)}-{day}{'.' + sub if sub else ''}.txt"

    def refusals(self, stage: str = "*", day: object = "????-??-??") -> list[Path]:
        """The texts of refusals, sorted."""
        texts = (f"{_flat(stage)}-{day}{end}.txt" for end in ("", ".teacher=*"))
        return sorted(path for text in texts for path in self.rejected().glob(text))

    def refused(self, day: dt.date, stages: tuple[str, ...] = CHAIN) -> bool:
        """Whether one of some stages refused the day, which the chain then goes on without."""
        return any(self.maker(stage).refusals(stage, day) for stage in stages)

    def rejected(self) -> Path:
        return self.root / "rejected"
