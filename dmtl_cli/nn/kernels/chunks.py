"""Computes chunks of rows side by side on Python threads of one torch thread each.

Two small products at once beat one product on two threads, and the data of a chunk stays in a core's cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Spans = list[tuple[int, int]]
"""first row and end of each chunk"""
X = TypeVar("X")


def side_by_side(rows: int, size: int, work: Callable[[Spans], X], device: torch.device) -> list[X]:
    """Runs `work` without gradients on each thread's chunks of at most `size` rows, on as many threads as torch has.

    Which thread gets which chunks depends only on the numbers of rows and threads. A device other than a CPU has its
    own parallelism, and gets all chunks from one thread.

    Returns:
        What `work` returned, in the order of the rows: at least one result.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    chunks = -(-rows // size)
    chunks = -(-chunks // threads) * threads  # the same number for each thread
    size = max(1, -(-rows // max(1, chunks)))
    spans = [(a, min(a + size, rows)) for a in range(0, rows, size)]
    each = max(1, -(-len(spans) // threads))
    shares = [spans[k : k + each] for k in range(0, len(spans), each)] or [[]]

    def in_thread(share: Spans) -> X:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):  # both are set per thread
            return work(share)

    if len(shares) == 1:
        return [in_thread(shares[0])]
    with one_thread():
        return list(_pool(threads).map(in_thread, shares))


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
