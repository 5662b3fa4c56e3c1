"""The memory that `check` tells is that of a whole run, run for real."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from worlds import DAYS, Project

from dmtl_cli.data.log.values import sizes
from dmtl_cli.tune import memory
from dmtl_cli.tune.memory import Side, Sizes

_BETWEEN = """
import os, subprocess, sys
running = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(running.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
"""a small process that starts the command: to a process Linux counts who started it, and tests are large"""


def log(home: Path, *, rows: int, users: int, items: int, features: int) -> Project:
    """Two days of events; users and items have so many features of their own, each with a value of its own an id."""
    rng = np.random.default_rng(rows)
    for day in DAYS[:2]:
        click = (rng.random(rows) < 0.3).astype(np.int8)
        frame = pl.DataFrame(
            {
                "user_id": rng.integers(0, users, rows),
                "item_id": rng.integers(0, items, rows),
                "click": click,
                "read_seconds": rng.exponential(40, rows),
            }
        )
        (home / f"log/events/day={day}").mkdir(parents=True)
        frame.write_parquet(home / f"log/events/day={day}/a.parquet")
    config: dict[str, Any] = {
        "seed": 1,
        "auto": {"budget": 0},
        "data": {
            "events": {"click": "click", "duration": "read_seconds"},
            "users": {"path": "users", "key": "user_id"},
            "items": {"path": "items", "key": "item_id"},
        },
        "features": [],
        "gates": {"quality": False},
        "evaluate": {"max_users": 20, "teacher_users": 1},
    }
    for side, n in (("user", users), ("item", items)):
        names = [f"{side}_{k}" for k in range(features)]
        (home / f"log/{side}s").mkdir()
        table = {f"{side}_id": np.arange(n)} | {name: rng.permutation(n) for name in names}
        pl.DataFrame(table).write_parquet(home / f"log/{side}s/a.parquet")
        config["features"] += [{"name": x, "side": side, "kind": "categorical"} for x in (f"{side}_id", *names)]
    return Project.create(home, home / "log", config=config)


def test_the_memory_of_a_run(tmp_path: Path) -> None:
    """Within 20%, where 30% are promised: the same is measured on larger logs."""
    made = log(tmp_path, rows=2_000, users=12_000, items=12_000, features=8)
    told = made.done("check", 2)["estimates"]["memory_mb"]
    command = ["backfill", "--config", str(made.file), "--from", DAYS[0], "--to", DAYS[1], "--quiet"]
    started = [sys.executable, "-c", _BETWEEN, sys.executable, "-m", "dmtl_cli.cli", *command]
    code, used = map(int, subprocess.run(started, capture_output=True, check=True).stdout.split())
    assert code == 0
    assert abs(told / (used * 1024 / 1e6) - 1) < 0.2, (told, used)


LARGE = Sizes(
    rows=3_000_000, user=Side(762_611, 27, 8, 1, 160_802_836), item=Side(49_839, 7, 7, 0, 2_800_000), days=1,
    embeddings=836_169, wide=50, outputs=68, expert=32, batch=4096, scored=16_384, scores=15_000_000, preference=32,
    exposure=16, hidden=192, vector=128, threads=1,
)  # fmt: skip
"""as `check` found the bench's log of 3 million rows, a million users and lists of 20"""


def test_the_memory_that_was_measured_of_a_large_day() -> None:
    """docs/experiments.md has how: bytes of processes that did one stage each, which takes too long for a test."""
    begins = memory.IMPORTS + round(memory._day(LARGE) * memory._HELD)
    for stage, used in ((memory._evaluation, 4.386e9), (memory._teacher, 2.182e9), (memory._dump, 1.594e9)):
        told = begins + round(stage(LARGE) * memory._HELD)
        assert abs(told / used - 1) < 0.2, (stage.__name__, told, used)
    assert abs(memory.peak(LARGE) / 4.386e9 - 1) < 0.2
    exported = begins + round(memory._export(LARGE) * memory._HELD)
    assert abs(exported / 3.126e9 - 1) < 0.2, "of a whole run of a chain's first day, which has no evaluation"
    four = dataclasses.replace(LARGE, threads=4)
    assert 0 <= memory.peak(four) - memory.peak(LARGE) < 20e6, "a thread has an expert of its own, no more"
    many = dataclasses.replace(LARGE, user=dataclasses.replace(LARGE.user, rows=sizes.HELD + 1))
    assert memory._day(many) < memory._day(LARGE) / 2, "such a side lies in mapped files"
