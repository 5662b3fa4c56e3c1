"""Work that goes on beside a training, on a thread of its own.

A step of a training has parts that one thread does while the others wait. What the training does not need until it is
over, and shares nothing with it, is done meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import torch

from dmtl_cli.runs.ranks import Ranks

B = TypeVar("B")
X = TypeVar("X")


class Unwanted(Exception):
    """The work is of no use any more: what it was beside has failed, or the process is to end."""


class Beside(Generic[X]):
    """Some work, on a thread of one torch thread beside the `with` that it is entered by, or in `result`.

    Whatever ends the `with` early ends the work too, at its next call of `wanted` or its next batch of `while_wanted`,
    and waits for that. What the work raises is raised to the caller as it is: at their next batch of `while_well`, or
    by `result`.

    Args:
        work: is given this, for `wanted` and `while_wanted`. It draws nothing from torch's generator, which all
            threads share.
        now: whether it begins with the `with`; else it is done by the caller, in `result`.
    """

    def __init__(self, work: Callable[[Beside[X]], X], *, now: bool) -> None:
        self._work, self._now = work, now
        self._unwanted, self._over = threading.Event(), threading.Event()
        self._found: list[X] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Beside[X]:
        if self._now:
            # a daemon, as the process must end also where the wait for it was cut short
            threading.Thread(target=self._in_thread, name="beside", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._unwanted.set()
        if self._now:
            self._over.wait()

    def _in_thread(self) -> None:
        try:
            torch.get_num_threads()  # a thread's first look sets it to what another thread has at that moment
            torch.set_num_threads(1)
            self._found.append(self._work(self))
        except BaseException as error:  # raised again in the caller's thread
            self._error = error
        finally:
            self._over.set()

    # -- in the work ---------------------------------------------------------------------------------------------------

    def wanted(self) -> None:
        """Raises Unwanted: nobody waits for the result any more."""
        if self._unwanted.is_set():
            raise Unwanted

    def while_wanted(self, batches: Iterable[B]) -> Iterator[B]:
        """The batches; `wanted` before each."""
        for batch in batches:
            self.wanted()
            yield batch

    # -- in the caller -------------------------------------------------------------------------------------------------

    def while_well(self, batches: Iterable[B]) -> Iterator[B]:
        """The batches; before each is raised what the work has raised."""
        for batch in batches:
            self._raise()
            yield batch

    def result(self) -> X:
        """What the work returns, once it is done. Raises what it raises."""
        if not self._now:
            return self._work(self)
        self._over.wait()
        self._raise()
        return self._found[0]

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def thread_is_free(ranks: Ranks, device: torch.device) -> bool:
    """Whether another training may go on beside one: on a CPU, by a process that is alone and may use two threads or
    more. Other devices have one queue, in which both would wait for each other."""
    return ranks.size == 1 and device.type == "cpu" and torch.get_num_threads() > 1
