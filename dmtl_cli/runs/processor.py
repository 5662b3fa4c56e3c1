"""Whose processor this is, and what it can do."""

from __future__ import annotations

import platform
from pathlib import Path


def is_intel() -> bool:
    """Whether the processor is one of Intel's, as far as the system says."""
    return "GenuineIntel" in _told()


def has_avx512() -> bool:
    """Whether it has AVX-512, as far as the system says: only Linux does."""
    return "avx512f" in _told().split()


def _told() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor()
