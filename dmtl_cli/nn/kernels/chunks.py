"""Computes chunks of rows side by side on Python threads of one torch thread each.

Two small products at once beat one product on two threads, and the data of a chunk stays in a core's cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Spans = list[tuple[int, int]]
"""first row and end of each chunk"""
S = TypeVar("S")
X = TypeVar("X")


def side_by_side(rows: int, size: int, work: Callable[[Spans], X], device: torch.device) -> list[X]:
    """Runs `work` without gradients on each thread's chunks of at most `size` rows, on as many threads as torch has.

    Which thread gets which chunks depends only on the numbers of rows and threads.

    Returns:
        What `work` returned, in the order of the rows: at least one result.
    """
    threads = threads_of(device)
    chunks = spans(0, rows, size, threads)
    each = max(1, -(-len(chunks) // threads))
    shares = [chunks[k : k + each] for k in range(0, len(chunks), each)] or [[]]
    return on_threads(shares, work, device)


def on_threads(shares: Sequence[S], work: Callable[[S], X], device: torch.device) -> list[X]:
    """What `work` returns for each share, computed without gradients, as many at once as torch has threads."""

    def in_thread(share: S) -> X:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):  # both are set per thread
            return work(share)

    threads = threads_of(device)
    if threads == 1 or len(shares) == 1:
        return [in_thread(share) for share in shares]
    with one_thread():
        return list(_pool(threads).map(in_thread, shares))


def threads_of(device: torch.device) -> int:
    """torch's threads on a CPU; another device has its own parallelism, and gets all its work from one thread."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def spans(start: int, end: int, size: int, multiple: int = 1) -> Spans:
    """Rows from `start` to `end` in chunks of one length, at most `size`, but for the last ones; of no rows none.

    Args:
        multiple: of which the number of chunks is one, where there are rows enough.
    """
    rows = end - start
    chunks = -(-rows // (size * multiple)) * multiple
    size = max(1, -(-rows // max(1, chunks)))
    return [(a, min(a + size, end)) for a in range(start, end, size)]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: for many small operations, each of which costs less than to wake the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "chunks", torch.set_num_threads, (1,))
