"""One rank of a stage, with its collectives counted and timed: `python -m benchmark.rank OUT COMMAND ...`, the same
under torchrun. Writes OUT.RANK.json. Without a command it measures the collectives themselves.

Seconds are of the processor, of all threads of the process: ranks that share cores wait for each other, so time on the
clock says nothing of what a rank does. gloo waits without a processor.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmark.simulated import KINDS

_REPEATED, _SMALL, _LARGE = 200, 64, 1 << 20  # times, and float32 of a message
_KIND_OF = {
    "all_reduce": "all_reduce",
    "all_gather_single": "all_gather",
    "all_gather_into_tensor": "all_gather",
    "all_to_all_single": "all_to_all",
    "all_gather_object": "objects",
    "broadcast_object_list": "objects",
}


class Timed:
    """What a rank does, by phase: seconds beside its collectives, and of these calls, bytes and seconds by kind."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.collectives: dict[str, dict[str, list[float]]] = defaultdict(lambda: {k: [0, 0, 0.0, 0.0] for k in KINDS})
        self.steps: list[float] = []
        self._phases, self._last, self._step = ["rest"], time.process_time(), 0.0
        self._inside = False

    def _mark(self) -> float:
        now = time.process_time()
        passed, self._last = now - self._last, now
        return passed

    def _book(self) -> None:
        passed = self._mark()
        self.cpu[self._phases[-1]] += passed
        self._step += passed

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._book()
        self._phases.append(name)
        try:
            yield
        finally:
            self._book()
            self._phases.pop()

    def step(self) -> None:
        """The end of a step of training."""
        self._book()
        self.steps.append(self._step)
        self._step = 0.0

    @contextmanager
    def collective(self, kind: str, size: int) -> Iterator[None]:
        """Of a call, and of a wait for one (no bytes, no call: size below 0)."""
        if self._inside:  # one that torch makes of others
            yield
            return
        self._book()
        self._inside, clock = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            found = self.collectives[self._phases[-1]][kind]
            found[0] += size >= 0
            found[1] += max(0, size)
            found[2] += self._mark()
            found[3] += time.perf_counter() - clock


def size_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes of a message: of a gathering all that is gathered, of an exchange what this rank gives."""
    given = [*args, *kwargs.values()]
    if _KIND_OF[name] == "objects":  # the second of a gathering is this rank's, the first is filled
        return len(pickle.dumps(given[1] if name == "all_gather_object" else given[0]))
    tensor: torch.Tensor = given[1] if name == "all_to_all_single" else given[0]
    return tensor.numel() * tensor.element_size()


def watch(timed: Timed) -> None:
    """Puts a clock around each collective of torch.distributed, as it is called by its name there, and around waiting
    for one that goes on meanwhile."""
    begun: dict[int, str] = {}

    def watched(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        kind = _KIND_OF[name]

        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            with timed.collective(kind, size_of(name, args, kwargs)):
                out = f(*args, **kwargs)
            if isinstance(out, dist.Work):
                begun[id(out)] = kind
            return out

        return call

    wait = dist.Work.wait

    def waited(work: Any, *args: Any) -> Any:
        with timed.collective(begun.pop(id(work), "all_to_all"), -1):
            return wait(work, *args)

    dist.Work.wait = waited  # type: ignore[method-assign,assignment]

    for name in _KIND_OF:
        if hasattr(dist, name):
            setattr(dist, name, watched(name, getattr(dist, name)))


def name_phases(timed: Timed) -> None:
    """Reading of days, training, what a teacher's is finished by (its regression, which the first rank learns) and
    scoring of pairs are phases; the end of a step is where gradients are averaged."""
    import dmtl_cli.stages.train_student as student
    import dmtl_cli.stages.train_teacher as teacher
    from dmtl_cli.data.log.reader import Log
    from dmtl_cli.runs.ranks import Ranks
    from dmtl_cli.teacher.frozen import Scorer

    for owner, name, phase in (
        (Log, "read", "reading"),
        (teacher, "train", "training"),
        (student, "train", "training"),
        (teacher, "finish", "finishing"),
        (Scorer, "lists", "scoring"),
    ):
        inner = getattr(owner, name)

        def called(*args: Any, _inner: Any = inner, _phase: str = phase, **kwargs: Any) -> Any:
            with timed.phase(_phase):
                return _inner(*args, **kwargs)

        setattr(owner, name, called)
    mean = Ranks.mean_gradients

    def averaged(self: Ranks, model: Any) -> None:
        mean(self, model)
        timed.step()

    Ranks.mean_gradients = averaged  # type: ignore[method-assign]


def links() -> dict[str, list[list[float]]]:
    """By kind [bytes, processor seconds a call, seconds a call on the clock] of a small message and a large one."""
    dist.init_process_group("gloo")
    out: dict[str, list[list[float]]] = {}
    for kind in KINDS:
        for n in (_SMALL, _LARGE):
            times = _REPEATED if n == _SMALL else _REPEATED // 8
            x = torch.zeros(n * dist.get_world_size())
            y, data = torch.zeros_like(x), os.urandom(4 * n)
            calls: dict[str, Callable[[], Any]] = {
                "all_reduce": partial(dist.all_reduce, x),
                "all_gather": partial(dist.all_gather_single, x, torch.ones(n)),
                "all_to_all": partial(dist.all_to_all_single, y, x),
                "objects": partial(dist.all_gather_object, [None] * dist.get_world_size(), data),
            }
            call = calls[kind]
            call()
            dist.barrier()
            cpu, clock = time.process_time(), time.perf_counter()
            for _ in range(times):
                call()
            passed = (time.process_time() - cpu) / times, (time.perf_counter() - clock) / times
            out.setdefault(kind, []).append([4 * n if kind == "objects" else 4 * x.numel(), *passed])
    dist.destroy_process_group()
    return out


def main(out: str, *command: str) -> int:
    file = Path(f"{out}.{os.environ.get('RANK', '0')}.json")
    if not command:
        file.write_text(json.dumps(links()))
        return 0
    from dmtl_cli.cli.main import execute

    timed = Timed()
    timed.cpu["rest"] = time.process_time()  # modules that were imported until here
    name_phases(timed)
    watch(timed)
    clock = time.perf_counter()
    code = execute(list(command))
    timed._book()
    found = {"cpu": timed.cpu, "collectives": timed.collectives, "steps": timed.steps}
    file.write_text(json.dumps(found | {"seconds": time.perf_counter() - clock}))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
