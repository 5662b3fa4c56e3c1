"""A sample of `loop.py`; all of it, which takes hours, with `DMTL_FAULTS=all`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOOP = Path(__file__).with_name("loop.py")
SAMPLE = ["--stages", "4", "--sample", "4", "--seconds", "30"]


def test_published_days_survive_a_fault_at_any_operation() -> None:
    """In a process of its own: this one has threads, which a fork would lose. `DMTL_FAULTS=N` draws others."""
    chosen = os.environ.get("DMTL_FAULTS", "0")
    options = [] if chosen == "all" else [*SAMPLE, "--seed", chosen]
    done = subprocess.run([sys.executable, LOOP, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
