"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST = 2**25
"""bytes up to which glibc lets a block be kept"""


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation; does nothing with another C library.

    It gives a large block back to the system when it is freed, and the next step faults every page of it in again: a
    tenth of a training step's time. The peak of a process stays what it was within a few MB.
    """
    if sys.platform != "linux" or not (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)  # the heaps of threads are of 64 MiB at most, and given back when they are empty
