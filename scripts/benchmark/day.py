"""The work `day`: `dmtl run` of a day of a chain, beside a script that does a day's work with another library."""

from __future__ import annotations

import datetime as dt
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmark.log import config_of, whole_day
from benchmark.peers import contenders, measure
from benchmark.processes import Bench, Result, in_turn
from benchmark.sizes import FIRST_DAY
from benchmark.tables import Entry, entry

FIRST, BEFORE, TIMED, AFTER = (FIRST_DAY + dt.timedelta(k) for k in range(4))
"""a chain's first day has no student yet, the second has all that the third finds; the last is held out"""


def day(bench: Bench) -> list[Entry]:
    """A day in steady state from Parquet to the published export: evaluation of what was ready before, profile,
    teacher, both dumps, student, export."""
    log = chain(bench)

    def run(k: int) -> Result:
        where, sets = f"round-{k}", [f"seed={k + 1}"]
        root = log / "work" / where
        shutil.copytree(log / "work" / "before", root)
        places = {"config": str(log / "bench.yaml"), "day": str(TIMED)}
        made = bench.inside("day", f"workspace={root}", *sets, **places)
        auc = bench.auc(where, *sets, day=AFTER, log=log)
        shutil.rmtree(root)
        return made | {"rate": bench.rows / made["seconds"], "auc": auc}

    peers = {p.title: p for p in contenders(bench, "dssm") if p.has_vectors}
    others = {title: partial(measure, bench, p, "day", log=log) for title, p in peers.items()}
    done = in_turn(bench, {"dmtl run": run}, others)
    known: dict[str, Any] = {"work": "whole day", "ours": done["dmtl run"]}
    found = [entry(bench, peer=done[title], against=p.name, workers=p.workers, **known) for title, p in peers.items()]
    return found or [entry(bench, **known)]


def chain(bench: Bench) -> Path:
    """A log of three days of the bench's rows each, and a workspace `before` that has run the first two; made once."""
    log = bench.folder / f"days-{bench.rows}"
    if not (log / "bench.yaml").exists():
        bench.say(f"three days of {bench.rows:,} rows")
        size = {"held_out": bench.held_out, "activity": bench.activity, "users": bench.users}
        bench.inside("make_log", at=str(log), **size | {"rows": 3 * bench.rows, "days": 3})
        config = whole_day(config_of(log, 1, bench.threads))
        (log / "bench.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for each in (FIRST, BEFORE):
            bench.say(f"dmtl run of {each}")
            bench.dmtl("run", "before", day=each, log=log)
    return log
