"""Freed memory is kept: counted in page faults, in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from dmtl_cli.runs.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def block():
    torch.empty(20 * 2**18).fill_(1.0)  # 20 MiB, above what glibc keeps by itself at first
block(), block()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    rows = [torch.empty(20 * 2**18).fill_(1.0) for _ in range(3)]
    del rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=120, env=os.environ, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_freed_memory_serves_the_next_allocation() -> None:
    a_block = 20 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults("kept") < 4 * a_block, "three blocks are faulted in once"
    assert faults("as it comes") > 8 * a_block, "else each time"
