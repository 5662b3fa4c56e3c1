"""What becomes of memory that is freed, and how much is kept for later."""

from __future__ import annotations

import ctypes
import os
import sys

import pyarrow as pa

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST = 2**25
"""bytes up to which glibc lets a block be kept"""


SHAPES = "64"
"""of matrix products, whose compiled code is kept"""


def keep_few_products() -> None:
    """Makes oneDNN, and torch above it, keep the code of fewer shapes; to be called before the first product.

    A shape's is some .4 MB, each step has other shapes (its distinct users and items), and by default either keeps
    1,024: a fifth of a day's peak, and more in a process of several days. To compile anew costs as much as to keep
    them (docs/experiments.md).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, SHAPES)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation, Arrow's too; does nothing with another C library.

    It gives a large block back to the system when it is freed, and the next step faults every page of it in again: a
    tenth of a training step's time. The peak of a process stays what it was within a few MB. Arrow has an allocator of
    its own, whose memory nothing else could use.
    """
    if sys.platform != "linux" or not (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)  # the heaps of threads are of 64 MiB at most, and given back when they are empty
    pa.set_memory_pool(pa.system_memory_pool())
