"""Checkpoints of training: a stage that was killed goes on, and ends with the bytes of one that was not.

A stage trains one or more courses, each of them passes over batches that are made anew from a generator. A checkpoint
is one file: what each course keeps (weights, optimizer state, means so far), where its generator stood when the pass
began and how many batches are done. Who goes on makes the same batches, passes over those done, and only then takes
over what was kept. The file replaces the one before by rename and has a digest; one that cannot be read is ignored.

Several ranks write none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.disk import sync_dir
from dmtl_cli.runs.progress import Progress, RunLog
from dmtl_cli.runs.run import Run

FORMAT = "1"
B = TypeVar("B")


class Kept(Protocol):
    """What training changes and a checkpoint keeps."""

    def state(self) -> dict[str, Tensor]:
        """All of it by name; the tensors may go on changing."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave. The tensors are on the CPU and are not its own."""


@dataclass(frozen=True)
class _Place:
    """Where a course stands."""

    training: int
    """of those that follow one another, from 1"""
    passes: int
    """of this training begun, this one included"""
    batches: int
    """of this pass that are done"""
    over: bool
    """whether this pass has ended"""
    rows: int
    """on the bar of its progress"""
    begin: dict[str, Any]
    """state of the generator when the pass began"""
    now: dict[str, Any]
    """state of the generator"""


@dataclass(frozen=True)
class _Stored:
    """What a file holds: the places of courses, and their tensors as `<course>/<part>/<name>`."""

    places: dict[str, _Place]
    tensors: dict[str, Tensor]

    def part(self, *folders: str) -> dict[str, Tensor]:
        prefix = "".join(f"{x}/" for x in folders)
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


class Checkpoints:
    """The checkpoints of a stage that is at work, and the one that an earlier process of the same key left.

    Args:
        apart: of a training beside the others, on a thread of its own: the end of its file's name.
    """

    def __init__(self, run: Run, publication: Publication, apart: str = "") -> None:
        alone = run.ranks.size == 1 and run.config.checkpoint_minutes > 0
        self._every = 60 * run.config.checkpoint_minutes if alone else math.inf
        file = publication.checkpoint
        self._file = file.with_stem(f"{file.stem}-{apart}") if apart else file
        self._log, self._device = run.log, run.device
        self._courses: list[Course] = []
        self._stored = _read(self._file, run.log) if alone else None
        self._due = time.monotonic() + self._every

    def course(self, name: str, kept: Mapping[str, Kept], rng: np.random.Generator) -> Course:
        """A training that begins, or goes on where it was left; courses follow one another in the same order always.

        Args:
            kept: by name, what its steps change.
            rng: what its batches are drawn from, and nothing else meanwhile.
        """
        stored = self._stored
        if stored and name in stored.places:
            made = {f"{part}/{k}": v for part, each in kept.items() for k, v in each.state().items()}
            there = stored.part(name)
            if any(k not in there or there[k].shape != v.shape for k, v in made.items()):
                self._log.say(f"{self._file} is of another model: ignored")
                self._stored = stored = None
        course = Course(self, name, dict(kept), rng, stored)
        self._courses.append(course)
        return course

    def step(self) -> None:
        """Writes a checkpoint if one is due. A disk that is full or broken is noted in the log, no more."""
        if time.monotonic() < self._due:
            return
        draft = self._file.with_suffix(".draft")
        try:
            self._write(draft)
        except (OSError, SafetensorError) as e:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            with contextlib.suppress(UserError):  # the log may lie on the same disk
                self._log.say(f"no checkpoint was written: {e}".splitlines()[0])
        self._due = time.monotonic() + self._every

    def _write(self, draft: Path) -> None:
        begun = [c for c in self._courses if c.passes]
        tensors = {f"{c.name}/{k}": v.detach().cpu().contiguous() for c in begun for k, v in c.state().items()}
        tensors["rng/cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self._device)
        places = json.dumps({c.name: asdict(c.place()) for c in begun})
        about = {"format": FORMAT, "places": places, "sha256": _digest(places, tensors)}
        save_file(tensors, draft, about)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self._file)
        sync_dir(self._file.parent)

    def gone_on(self, stored: _Stored) -> None:
        """Takes over torch's generators: all that was drawn since the process began is forgotten."""
        torch.set_rng_state(stored.tensors["rng/cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(stored.tensors["rng/cuda"], self._device)
        self._stored = None
        self._log.say(f"goes on from the checkpoint {self._file.name}")

    def refuse_other_batches(self) -> None:
        """Raises UserError 65, and removes the checkpoint: the key is the same, yet the batches are not."""
        self._file.unlink(missing_ok=True)
        what = f"{self._file.name}: the batches before it cannot be made again: the log changed under the same digests"
        raise UserError(what, "run the stage again, it begins anew; data.digest: full sees every change")


class Course:
    """Trainings of a stage, one after the other, by one generator: each some passes over batches, one `remaining`
    each."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        name: str,
        kept: dict[str, Kept],
        rng: np.random.Generator,
        stored: _Stored | None,
    ) -> None:
        self.name, self.passes, self._training = name, 0, 0
        self._checkpoints, self._kept, self._rng = checkpoints, kept, rng
        self._stored = stored if stored and name in stored.places else None
        self._batches, self._over = 0, False
        self._begin: Mapping[str, Any] = {}

    def begin(self, kept: Mapping[str, Kept]) -> None:
        """Begins a training, which keeps something more, empty before its first pass.

        A checkpoint of a later training has nothing to say of how many passes an earlier one has: that must follow from
        what is known before it.
        """
        self._training, self.passes = self._training + 1, 0
        self._kept |= kept

    def remaining(self, batches: Iterator[B], means: Kept, progress: Progress) -> Iterator[B]:
        """The batches of the next pass that are not done: all, those after a checkpoint, or none of an earlier pass.

        Args:
            batches: of the whole pass. Nothing is drawn for them before the first is taken.
            means: what this pass keeps beside what the course does.

        Raises:
            UserError: 65 the batches that are done differ from those of the checkpoint.
        """
        self.passes, self._batches, self._over = self.passes + 1, 0, False
        self._kept["means"], self._progress = means, progress
        self._begin = self._rng.bit_generator.state
        stored = self._stored
        if stored is None:
            return batches
        place = stored.places[self.name]
        if (self._training, self.passes) < (place.training, place.passes):
            return iter(())
        self._stored = None
        self._begin, self._batches, self._over = place.begin, place.batches, place.over
        if not place.over:
            self._pass_over(batches, place)
        self._rng.bit_generator.state = place.now
        for part, each in self._kept.items():
            each.restore(stored.part(self.name, part))
        if place.over:
            return iter(())
        self._checkpoints.gone_on(stored)
        return batches

    def _pass_over(self, batches: Iterator[B], place: _Place) -> None:
        """Makes the batches that are done, as their making moves the generator."""
        self._rng.bit_generator.state = place.begin
        done = sum(1 for _, _ in zip(range(place.batches), batches, strict=False))
        if done < place.batches or self._rng.bit_generator.state != place.now:
            self._checkpoints.refuse_other_batches()
        self._progress.step(place.rows)

    @property
    def goes_on(self) -> bool:
        """Whether a checkpoint is of a later pass of this training."""
        return self._stored is not None and self._stored.places[self.name].training == self._training

    def step(self) -> None:
        """Counts a batch that is done."""
        self._batches += 1
        self._checkpoints.step()

    def end(self) -> None:
        """Ends a pass."""
        self._over = True

    def state(self) -> dict[str, Tensor]:
        """All that it keeps, as `<part>/<name>`."""
        return {f"{part}/{k}": v for part, each in self._kept.items() for k, v in each.state().items()}

    def place(self) -> _Place:
        now = self._rng.bit_generator.state
        rows = self._progress.rows
        return _Place(self._training, self.passes, self._batches, self._over, rows, dict(self._begin), dict(now))


def _read(file: Path, log: RunLog) -> _Stored | None:
    """What a checkpoint holds; None where there is none, or it is damaged."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 it is no dictionary
        if about["format"] != FORMAT or about["sha256"] != _digest(about["places"], tensors):
            raise ValueError("its bytes are not those that were written")
        return _Stored({name: _Place(**place) for name, place in json.loads(about["places"]).items()}, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as e:
        log.say(f"{file} is damaged and ignored: {e}".splitlines()[0])
        return None


def _digest(places: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(places.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
