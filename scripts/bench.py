"""Measures dmtl beside other implementations of the same models, on one log, in interleaved rounds of one run.

    python scripts/bench.py --quick
    python scripts/bench.py --peers PEERS --make-env ENV --json bench.json --figure bench.png
    python scripts/bench.py --markdown bench.json

Makes a log of its own and prints a table; docs/performance.md says what is measured and how. Without --peers it
measures dmtl and a plain PyTorch reference that stands in this file. Each measurement has a process of its own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.evaluate import metrics
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.nn.precision import autocast, has_bf16
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.scores.matching import Matcher
from dmtl_cli.scores.reader import Reader
from dmtl_cli.student.build import build_student
from dmtl_cli.student.dssm import INIT_SCALE
from dmtl_cli.student.hard import hard_rows
from dmtl_cli.student.labels import StudentBatch, StudentRows
from dmtl_cli.student.loss import StudentLoss
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.frozen import FrozenTeacher
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.loss import teacher_loss
from dmtl_cli.teacher.model import batch_logits
from dmtl_cli.teacher.rows import HoldOut, teacher_rows

Entry = dict[str, Any]
Result = dict[str, Any]

FIRST_DAY = dt.date(2026, 1, 1)
USERS, ITEMS = 200_000, 50_000
OF_USER = {"u0": 7, "u1": 50, "u2": 300, "u3": 1_000, "u4": 5_000, "u5": 24}
OF_ITEM = {"i0": 20, "i1": 200, "i2": 2_000, "i3": 5_000, "i4": 10_000, "i5": 12}
LONG_READ = 50.0  # seconds
BATCH, DIM, EXPERTS, EXPERT_UNITS, TOWER_UNITS, VECTOR_UNITS = 4096, 16, 8, (256, 128), (64,), (128, 64)
MORE_ROWS = 5_000_000  # of a table that grows
LIST = 200  # candidates of a user
WIDTH = (2 + len(OF_USER) + len(OF_ITEM) + 1) * DIM + 2  # ids, features, history and two numbers
FLOP = 6 * (EXPERTS * (WIDTH * 256 + 256 * 128) + 2 * (WIDTH * EXPERTS + 128 * 64 + 64))
"""of a row of the teacher, forward and backward, products only, with nothing shared: 4.67 million"""

PLAIN = "plain reference"
PRECISIONS = ("fp32", "bf16") if has_bf16(torch.device("cpu")) else ("fp32",)
HELD_OUT = "teacher.calibration_share=0.1"
"""as shipped: what is scored is then blended with the regression; the teacher that is beside a plain one learns all"""
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "fp32": ("fp32", []),
    "bf16": ("bf16", ["teacher.precision=bf16"]),
    "fp32, whole users": ("fp32", ["teacher.user_rows=50"]),
    "bf16, whole users": ("bf16", ["teacher.precision=bf16", "teacher.user_rows=50"]),
    "fp32, dense Adam": ("fp32", ["teacher.embedding_optimizer=adam"]),
}
"""ways to train the teacher: their precision, and what they change in the config"""
VARIANTS = {name: way for name, way in VARIANTS.items() if way[0] in PRECISIONS}


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    workers: int

    @property
    def title(self) -> str:
        return f"{self.name}, {self.workers} workers"


PEERS = (
    Peer("torch-rechub", "peer_rechub.py", 0),
    Peer("torch-rechub", "peer_rechub.py", 2),
    Peer("deepctr-torch", "peer_deepctr.py", 0),
    Peer("plain", "peer_plain.py", 0),
    Peer("plain", "peer_plain.py", 2),
)
NEEDS = ("torch", "polars", "pyarrow", "numpy", "torch-rechub", "deepctr-torch", "requests")


# ---------------------------------------------------------------------------------------------------------------------
# The log


def make_log(
    folder: Path, rows: int, days: int, held_out: int, activity: float, users: int = USERS, seed: int = 0
) -> None:
    """`folder`/train/day=.../part-0.parquet, `rows` rows over so many days, and the day after them in `folder`/test.

    Clicks and durations follow from features, ids and taste, so that there is something to learn. A user's features,
    history and first number are those of their day; the second number is a row's own.

    Args:
        activity: users' rates are log-normal with this sigma; 0: all alike.
    """
    rng = np.random.default_rng(seed)
    popular = np.cumsum(1 / np.arange(1, ITEMS + 1) ** 1.05)
    active = np.cumsum(rng.lognormal(0, activity, users))
    order, user_ids, item_ids = rng.permutation(ITEMS), *(rng.integers(2**40, 2**60, n) for n in (users, ITEMS))
    of_user = {name: rng.integers(0, n, users, dtype=np.int32) for name, n in OF_USER.items()}
    of_item = {name: rng.integers(0, n, ITEMS, dtype=np.int32) for name, n in OF_ITEM.items()}
    taste_U8, kind_I8 = (rng.normal(size=(n, 8)).astype(np.float32) for n in (users, ITEMS))
    liking_U = 0.3 * np.sum([rng.normal(size=n)[of_user[name]] for name, n in OF_USER.items()], 0)
    appeal_I = 0.4 * np.sum([rng.normal(size=n)[of_item[name]] for name, n in OF_ITEM.items()], 0)

    def items(n: int) -> np.ndarray[Any, Any]:
        chosen: np.ndarray[Any, Any] = order[np.searchsorted(popular, rng.random(n) * popular[-1])]
        return chosen

    for k in range(days + 1):
        part, n = ("train", rows // days) if k < days else ("test", held_out)
        lengths = np.clip(rng.poisson(20, users), 0, 50)
        starts = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        history = pa.ListArray.from_arrays(starts, pa.array(item_ids[items(int(lengths.sum()))]))
        mood_U = rng.normal(size=users).astype(np.float32)
        file = folder / part / f"day={FIRST_DAY + dt.timedelta(k)}" / "part-0.parquet"
        file.parent.mkdir(parents=True)
        writer = None
        for start in range(0, n, 131_072):
            m = min(131_072, n - start)
            u, i = np.searchsorted(active, rng.random(m) * active[-1]), items(m)
            place = rng.random(m, dtype=np.float32)
            z = 0.2 * (taste_U8[u] * kind_I8[i]).sum(1) + liking_U[u] + appeal_I[i] + 0.3 * mood_U[u] - place - 1.4
            click = rng.random(m) < 1 / (1 + np.exp(-z))
            seconds = rng.exponential(LONG_READ, m) * np.exp(0.3 * kind_I8[i, 0])
            columns = {"user_id": user_ids[u], "item_id": item_ids[i]}
            columns |= {name: of[u] for name, of in of_user.items()} | {name: of[i] for name, of in of_item.items()}
            columns |= {"d0": mood_U[u], "d1": place, "hist": history.take(pa.array(u))}
            columns |= {"click": click.astype(np.int8), "duration": np.where(click, seconds, 0).astype(np.float32)}
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()


def config_of(folder: Path, days: int, threads: int) -> dict[str, Any]:
    """The config of the log in `folder`: the peers' architecture, and no step that they do not take."""

    def categorical(side: str, names: Iterable[str]) -> list[dict[str, Any]]:
        return [{"name": name, "side": side, "kind": "categorical"} for name in names]

    history = {"name": "hist", "side": "user", "kind": "sequence", "embedding_name": "item_id", "max_length": 50}
    numbers = [{"name": n, "side": side, "kind": "numeric"} for n, side in (("d0", "user"), ("d1", "context"))]
    same = {"batch_size": BATCH, "embedding_dim": DIM, "unknown_share": 0.0}
    return {
        "workspace": str(folder / "work"),
        "threads": threads,
        "device": "cpu",
        "auto": {"budget": 0},
        "data": {"root": str(folder), "events": {"path": "train", "click": "click", "duration": "duration"}},
        "features": [
            *categorical("user", ("user_id", *OF_USER)),
            *categorical("item", ("item_id", *OF_ITEM)),
            history,
            *numbers,
        ],
        "labels": {"long_read": LONG_READ},
        "teacher": {
            **same,
            "first_window_days": days,
            "num_experts": EXPERTS,
            "expert_hidden_units": list(EXPERT_UNITS),
            "tower_hidden_units": list(TOWER_UNITS),
            "factor_dim": 0,
            "task_weights": {"cvr": 0.0},
            "calibration_share": 0.0,
        },
        "student": {
            **same,
            "hidden_units": list(VECTOR_UNITS),
            "towers": "deep",
            "vectors": "unit",
            "distill": {"min_age_days": 0},
            "hard": {"w_hard": 1.0},
        },
        "evaluate": {"max_users": 1},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Processes


class Failed(Exception):
    """A process that ended badly; the message holds the end of what it said."""


def run(command: list[str], timeout: float, **environment: str) -> tuple[str, int]:
    """(stdout, peak MB of the process) of a command; raises Failed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | environment)
        alarm = threading.Timer(timeout, process.kill)
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            why = f"exit code {process.returncode}" + (f", after {timeout:.0f} s" if process.returncode == -9 else "")
            raise Failed(f"{' '.join(command)}\n{why}\n{err.read()[-4000:]}")
        return out.read(), usage.ru_maxrss // 1024


@dataclass
class Bench:
    """One run: what is asked for, where it works, and how its processes are started."""

    folder: Path
    rows: int
    rounds: int
    days: int
    held_out: int
    activity: float
    users: int
    threads: int
    sets: list[str]
    timeout: float
    quick: bool
    peers: Path | None = None
    python: Path | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.log_of(self.rows)

    @property
    def day(self) -> dt.date:
        """The last day of training."""
        return FIRST_DAY + dt.timedelta(self.days - 1)

    @property
    def environment(self) -> dict[str, str]:
        n = str(self.threads)
        return {"OMP_NUM_THREADS": n, "POLARS_MAX_THREADS": n, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def log_of(self, rows: int) -> Path:
        """A log of so many rows and its config, made once."""
        folder = self.folder / f"log-{rows}"
        if not (folder / "bench.yaml").exists():
            self.say(f"a log of {rows:,} rows")
            size = {"rows": rows, "held_out": self.held_out, "activity": self.activity, "users": self.users}
            self.inside("make_log", at=str(folder), **size)
            config = yaml.safe_dump(config_of(folder, self.days, self.threads), sort_keys=False)
            (folder / "bench.yaml").write_text(config)
        return folder

    def attempt(self, what: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What `work` returns; None after a failure, which is shown at once and makes the whole run fail at its end."""
        self.say(what)
        try:
            return work(*args, **options)
        except Failed as e:
            self.failures.append(what)
            print(f"{what} failed: {e}", file=sys.stderr, flush=True)
            return None

    def dmtl(
        self, command: str, workspace: str, *sets: str, day: dt.date | None = None, log: Path | None = None
    ) -> Result:
        """A stage in a fresh process: its published result, `seconds`, `rate` (rows/s of its loop) and `rss_mb`."""
        log, day = log or self.log, day or self.day
        root = log / "work" / workspace
        chosen = [f"workspace={root}", *self.sets, *sets]
        arguments = ["--config", str(log / "bench.yaml"), "--day", str(day), "--json"]
        arguments += [x for s in chosen for x in ("--set", s)]
        start = [sys.executable, "-m", "dmtl_cli.cli", command]
        out, rss = run([*start, *arguments], self.timeout, **self.environment)
        said = (root / "logs" / f"{command}-{day}.jsonl").read_text().splitlines()
        events = {e["event"]: e for e in map(json.loads, said)}
        published: dict[str, Any] = json.loads(out.splitlines()[-1])
        rate = events.get("done", {}).get("rows_per_second")
        seconds = events["published"]["seconds"]
        whole = {"seconds": seconds, "end_to_end": published["rows"].get("log", 0) / seconds}
        return published | whole | {"rate": rate, "rss_mb": rss}

    def inside(self, name: str, *sets: str, **options: Any) -> Result:
        """A function of this file in a fresh process: what it returns, and `rss_mb`."""
        given: dict[str, Any] = {"rounds": self.rounds, "days": self.days}
        given |= {"config": str(self.folder / f"log-{self.rows}" / "bench.yaml"), "sets": [*self.sets, *sets]}
        command = [sys.executable, __file__, "--inside", name, json.dumps(given | options)]
        out, rss = run(command, self.timeout, **self.environment)
        return {**json.loads(out.splitlines()[-1]), "rss_mb": rss}

    def contenders(self, model: str = "mmoe", workers: tuple[int, ...] = (0, 2)) -> list[Peer]:
        """The peers that are there; only some have a two-tower model."""
        there = [p for p in PEERS if self.peers and (self.peers / p.script).exists() and p.workers in workers]
        return [p for p in there if model == "mmoe" or p.name != "deepctr-torch"]

    def peer(
        self,
        peer: Peer,
        model: str,
        seed: int = 0,
        *,
        log: Path | None = None,
        epochs: int = 1,
        scored: bool = False,
        options: tuple[str, ...] = (),
    ) -> Result:
        """A peer's script in a fresh process: the line that it prints, its rates under our names, and `auc` of the
        held-out day."""
        assert self.peers and self.python
        log, scores = log or self.log, self.folder / "scores.npy"
        command = [str(self.python), str(Path(__file__).with_name("bench_peer.py")), str(self.peers / peer.script)]
        command += [str(log / "test"), str(scores) if scored else "-", str(seed)]
        command += [str(log / "train"), model, str(BATCH), str(epochs), "--threads", str(self.threads)]
        command += ["--workers", str(peer.workers), *options]
        out, _ = run(command, self.timeout, **self.environment, PYTHONDONTWRITEBYTECODE="1")
        line: Result = json.loads([x for x in out.splitlines() if x.startswith("{")][-1])
        line |= {"rate": line["rows_per_s"], "end_to_end": line["e2e_rows_per_s"]}
        return line | ({"auc": auc_of(np.load(scores), log / "test")} if scored else {})


def auc_of(scores: np.ndarray[Any, Any], folder: Path) -> dict[str, float | None]:
    """AUC of a click and of a click with a long read, of scores [rows, 2] of a folder's rows in order."""
    log = pl.concat([pl.read_parquet(f, columns=["click", "duration"]) for f in sorted(folder.glob("*/*.parquet"))])
    click = log["click"].to_numpy() == 1
    labels = {"click": click, "click_read": click & (log["duration"].to_numpy() > LONG_READ)}
    return {name: metrics.auc(y, scores[:, k]) for k, (name, y) in enumerate(labels.items())}


# ---------------------------------------------------------------------------------------------------------------------
# Works: each measures ours and others in rounds and gives entries of the table


def in_turn(bench: Bench, *works: Mapping[str, Callable[[int], Result]]) -> dict[str, list[Result | None]]:
    """Results of all works by name and round; in a round ours, a peer, ours, a peer. None where one failed."""
    order = [item for some in itertools.zip_longest(*(w.items() for w in works)) for item in some if item]
    done: dict[str, list[Result | None]] = {name: [] for name, _ in order}
    for k in range(bench.rounds):
        for name, work in order:
            done[name].append(bench.attempt(f"round {k + 1}: {name}", work, k))
    return done


def entry(
    bench: Bench,
    work: str,
    ours: Sequence[Result | None],
    peer: Sequence[Result | None] = (),
    *,
    rate: str = "rate",
    variant: str = "",
    against: str = "",
    workers: int | None = None,
    precision: str | None = "fp32",
    unit: str = "rows/s",
    peak: float | None = None,
    rows: int | None = None,
) -> Entry:
    """Results of rounds as one entry of the table: medians, and ratios within a round.

    Args:
        rate: name of the rate in the results.
        peak: GFLOP/s of products, of which the entry tells the share that the teacher reaches.
    """
    paired = [a[rate] / b[rate] for a, b in zip(ours, peer, strict=False) if a and b and rate in b]
    rates, others = ([r[rate] for r in results if r and rate in r] for results in (ours, peer))
    auc, peer_auc = mean_auc(ours) or {}, mean_auc(peer) or {}
    return {
        "work": work,
        "ours": variant,
        "peer": against or None,
        "workers": workers,
        "precision": precision,
        "ratio_median": median(paired) if paired else None,
        "ratio_min": min(paired, default=None),
        "ratio_max": max(paired, default=None),
        "gemm_share": median(rates) * FLOP / 1e9 / peak if peak and rates else None,
        "rss_mb": middle(ours, "rss_mb"),
        "peer_rss_mb": middle(peer, "rss_mb"),
        "auc": auc.get("click"),
        "peer_auc": peer_auc.get("click"),
        "auc_click_read": auc.get("click_read"),
        "peer_auc_click_read": peer_auc.get("click_read"),
        "rate": median(rates) if rates else None,
        "peer_rate": median(others) if others else None,
        "unit": unit,
        "rows": rows or bench.rows,
        "rounds": len(rates),
        "machine": machine(bench.threads),
    }


def middle(results: Sequence[Result | None], name: str) -> float | None:
    found = [r[name] for r in results if r and name in r]
    return median(found) if found else None


def mean_auc(results: Sequence[Result | None]) -> dict[str, float] | None:
    found = [r["auc"] for r in results if r and "auc" in r]
    return {label: sum(a[label] for a in found) / len(found) for label in found[0]} if found else None


def rates(values: list[float]) -> list[Result | None]:
    """Rates that one process measured in rounds of its own."""
    return [{"rate": x} for x in values]


def machine(threads: int) -> str:
    cpu = Path("/proc/cpuinfo")
    names = [x.split(":")[1].strip() for x in cpu.read_text().splitlines() if "model name" in x] if cpu.exists() else []
    name, kernels = names[0] if names else platform.processor(), torch.backends.cpu.get_cpu_capability()
    return f"{name} with {kernels}, {threads} threads, torch {torch.__version__}"


def teacher(bench: Bench) -> list[Entry]:
    """Training the MMoE: the loop alone, and end to end from Parquet; held-out AUC after the same rows."""

    def train(name: str, k: int) -> Result:
        where, sets = f"teacher-{list(VARIANTS).index(name)}-{k}", [*VARIANTS[name][1], f"seed={k + 1}"]
        made = bench.dmtl("train-teacher", where, *sets)
        after = bench.day + dt.timedelta(1)
        found = bench.dmtl("evaluate", where, *sets, "data.events.path=test", day=after)["metrics"]
        return made | {"auc": {"click": found["teacher.ctr.auc"], "click_read": found["teacher.ctcvr.auc"]}}

    peers = {p.title: p for p in bench.contenders()}
    done = in_turn(
        bench,
        {name: partial(train, name) for name in VARIANTS},
        {PLAIN: lambda k: bench.inside("plain_teacher", seed=k), "products": lambda k: bench.inside("products")}
        | {title: partial(bench.peer, p, "mmoe", scored=True) for title, p in peers.items()},
    )
    peaks = {p: middle(done["products"], p) for p in PRECISIONS}
    out = [
        entry(bench, "products", done["products"], rate=p, variant=p, precision=p, unit="GFLOP/s") for p in PRECISIONS
    ]
    for work, rate in (("teacher, training", "rate"), ("teacher, end to end", "end_to_end")):
        for name, (precision, _) in VARIANTS.items():
            known: dict[str, Any] = {"variant": name, "precision": precision, "rate": rate}
            if rate == "rate":
                known["peak"] = peaks[precision]
                out.append(entry(bench, work, done[name], done[PLAIN], against=PLAIN, **known))
            for title, p in peers.items():
                out.append(entry(bench, work, done[name], done[title], against=p.name, workers=p.workers, **known))
            if not peers and rate != "rate":
                out.append(entry(bench, work, done[name], **known))
    return out


def profile(bench: Bench) -> list[Entry]:
    """A day's profile with all that `features: auto` reads, beside the training of its teacher; both from Parquet."""

    def stage(command: str, *sets: str) -> Callable[[int], Result]:
        def measured(k: int) -> Result:
            made = bench.dmtl(command, f"{command}-{k}", f"seed={k + 1}", *sets)
            return made | {"rate": (made["rows"].get("log") or made["rows"]["events"]) / made["seconds"]}

        return measured

    done = in_turn(bench, {"profile": stage("build-profile", "features=auto"), "teacher": stage("train-teacher")})
    return [entry(bench, "profile", done["profile"], done["teacher"], against="the day's teacher", precision=None)]


def dump(bench: Bench) -> list[Entry]:
    """Scoring pairs into a dump, beside the rate of training on them."""

    def stage(command: str, k: int) -> Result:
        return bench.dmtl(command, "dump", f"seed={k + 1}", HELD_OUT)

    done = in_turn(bench, {c: partial(stage, c) for c in ("train-teacher", "dump-logits")})
    return [entry(bench, "dump of scores", done["dump-logits"], done["train-teacher"], against="dmtl's training")]


def student(bench: Bench) -> list[Entry]:
    """The DSSM with in-batch softmax: steps beside the plain reference, and the loop from rows on beside peers."""
    out = []
    for precision in PRECISIONS:
        bench.say(f"student: steps, {precision}")
        steps = bench.inside("student_steps", f"student.precision={precision}")
        how: dict[str, Any] = {"variant": precision, "precision": precision}
        out.append(entry(bench, "student, steps", rates(steps["ours"]), rates(steps["plain"]), against=PLAIN, **how))

    def loop(precision: str, k: int) -> Result:
        return bench.inside("student_loop", f"student.precision={precision}", seed=k)

    few = ("--inbatch", "1", "--rows", str(min(bench.rows, 200_000)))
    peers = {p.title: p for p in bench.contenders("dssm")}
    done = in_turn(
        bench,
        {precision: partial(loop, precision) for precision in PRECISIONS},
        {title: partial(bench.peer, p, "dssm", options=few) for title, p in peers.items()},
    )
    for precision in PRECISIONS:
        known: dict[str, Any] = {"work": "student, training", "ours": done[precision]}
        known |= {"variant": precision, "precision": precision}
        for title, p in peers.items():
            out.append(entry(bench, peer=done[title], against=p.name, workers=p.workers, **known))
        out += [] if peers else [entry(bench, **known)]
    return out


def reading(bench: Bench) -> list[Entry]:
    """From Parquet to batches with no model; peers: from Parquet to arrays."""
    arrays = {p.title: partial(bench.peer, p, "mmoe", epochs=0) for p in bench.contenders(workers=(0,))[-1:]}
    done = in_turn(bench, {"dmtl": lambda k: bench.inside("reading_alone", seed=k)}, arrays)
    theirs = [r and r | {"rate": r["rows"] / r["prep_s"]} for title in arrays for r in done[title]]
    against = "peers: arrays" if arrays else ""
    return [entry(bench, "reading", done["dmtl"], theirs, against=against, precision=None)]


def join(bench: Bench) -> list[Entry]:
    """`match`: a day's stored scores looked up by the pairs of the next day."""
    scored(bench)
    return [entry(bench, "join", rates(bench.inside("join_scores")["rate"]), precision=None)]


def export(bench: Bench) -> list[Entry]:
    """Towers, vectors, users and vocabularies as files."""
    scored(bench)
    bench.dmtl("train-student", "scored")

    def again(k: int) -> Result:
        shutil.rmtree(bench.log / "work" / "scored" / "export")
        return bench.dmtl("export", "scored")

    return [
        entry(bench, "export", in_turn(bench, {"export": again})["export"], rate="seconds", precision=None, unit="s")
    ]


def catalogue(bench: Bench) -> list[Entry]:
    """A teacher over users and the whole catalogue, and over lists of candidates, user by user."""
    scored(bench)
    sizes = {"users": 4, "lists": 50} if bench.quick else {"users": 20, "lists": 500}
    found = {k: rates(v) for k, v in bench.inside("score_catalogue", **sizes).items() if k != "rss_mb"}
    row_by_row: dict[str, Any] = {"peer": found["plain"], "against": f"{PLAIN}, row by row", "unit": "pairs/s"}
    return [
        entry(bench, "whole catalogue", found["catalogue"], **row_by_row),
        entry(bench, "candidates", found["lists"], **row_by_row),
    ]


def growth(bench: Bench) -> list[Entry]:
    """Steps of the teacher with a table of 5,000,000 more rows."""
    bench.say("growth of the table")
    found = bench.inside("table_growth")
    small, large, plain_small, plain_large = (rates(found[n]) for n in ("small", "large", "plain_small", "plain_large"))
    before, after = (f"{n:,} rows" for n in (found["small_rows"], found["large_rows"]))
    return [
        entry(bench, "table growth", large, small, variant=after, against=f"dmtl, {before}"),
        entry(bench, "table growth", large, plain_large, variant=after, against=f"{PLAIN}, {after}"),
        entry(
            bench, "table growth", plain_large, plain_small, variant=f"{PLAIN}, {after}", against=f"{PLAIN}, {before}"
        ),
    ]


def memory(bench: Bench) -> list[Entry]:
    """Peak memory of training on the log, and (not --quick) on one of five times its rows. Peers hold their arrays and
    model before the first step, which is all that is measured of them: training only adds to it."""
    out = []
    for rows in (bench.rows,) if bench.quick else (bench.rows, 5 * bench.rows):
        log, size = bench.log_of(rows), f"{rows:,} rows"
        mine = [bench.attempt(f"memory: dmtl, {size}", bench.dmtl, "train-teacher", f"memory-{rows}", log=log)]
        known: dict[str, Any] = {"work": "memory", "ours": mine, "variant": size, "rows": rows}
        peers = bench.contenders(workers=(0,))
        for p in peers:
            theirs = [bench.attempt(f"memory: {p.name}, {size}", bench.peer, p, "mmoe", log=log, epochs=0)]
            peaks = [r and {"rss_mb": r["rss_mb"]} for r in theirs]
            out.append(entry(bench, peer=peaks, against=p.name, workers=0, **known))
        out += [] if peers else [entry(bench, **known)]
    return out


def scored(bench: Bench) -> None:
    """A teacher of the log and its dump, in the workspace `scored`; made once."""
    if not (bench.log / "work" / "scored" / "scores").exists():
        bench.say("a teacher and its scores")
        bench.dmtl("train-teacher", "scored", HELD_OUT)
        bench.dmtl("dump-logits", "scored")


WORKS: dict[str, Callable[[Bench], list[Entry]]] = {
    w.__name__: w for w in (teacher, profile, dump, student, reading, join, export, catalogue, growth, memory)
}


# ---------------------------------------------------------------------------------------------------------------------
# The plain reference: an embedding a feature, autograd, dense Adam, every row computed on its own


class Plain(nn.Module):
    """What both models share: separate embeddings, and rows of one side as one vector.

    Shapes: B rows, C ids of a side, L length of a history.
    """

    def __init__(self, rows: dict[str, int], more_rows: int = 0) -> None:
        super().__init__()
        more = {"user_id": more_rows}
        self.e = nn.ModuleDict({n: nn.Embedding(k + more.get(n, 0), DIM) for n, k in rows.items()})

    def side(self, names: Iterable[str], ids: Tensor, history: Tensor | None, numbers: Tensor | None) -> Tensor:
        """ids [B, C], history [B, L] (0: padding), numbers [B, n] -> [B, C DIM + DIM + n]"""
        parts = [self.e[name](column) for name, column in zip(names, ids.unbind(1), strict=True)]
        if history is not None:
            known = (history > 0).float().unsqueeze(2)
            parts.append((self.e["item_id"](history) * known).sum(1) / known.sum(1).clamp_min(1))
        return torch.cat([*parts, *([] if numbers is None else [numbers])], 1)


@dataclass(frozen=True)
class Flat:
    """A batch with nothing shared: each row with all that belongs to its user, its item and itself."""

    user: Tensor
    history: Tensor
    user_numbers: Tensor
    item: Tensor
    context: Tensor
    labels: Tensor
    """[B, 2] click, click with a long read"""

    @staticmethod
    def from_batch(batch: Batch[Any]) -> Flat:
        """A teacher's batch with its labels; another one's labels are zeros."""
        u, i, y = batch.user_index, batch.item_index, batch.labels
        of_user = (batch.user.ids[u], batch.user.sequences[0][u], batch.user.floats[u])
        labels = [y.click.float(), y.converted[:, 0].float()] if isinstance(y, TeacherLabels) else [torch.zeros(len(u))]
        number = batch.context.floats[:, :1]  # and that it is known, which it is in every row
        return Flat(*of_user, batch.item.ids[i], number, torch.stack(labels, 1))


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())])


class PlainTeacher(Plain):
    """The MMoE as tutorials write it."""

    def __init__(self, rows: dict[str, int], more_rows: int = 0) -> None:
        super().__init__(rows, more_rows)
        self.experts = nn.ModuleList(layers(WIDTH, *EXPERT_UNITS) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(WIDTH, EXPERTS) for _ in range(2))
        self.towers = nn.ModuleList(
            nn.Sequential(layers(EXPERT_UNITS[-1], *TOWER_UNITS), nn.Linear(TOWER_UNITS[-1], 1)) for _ in range(2)
        )

    def forward(self, b: Flat) -> Tensor:
        """Logits [B, 2] of a click, and of a long read given one."""
        user = self.side(("user_id", *OF_USER), b.user, b.history, b.user_numbers)
        x = torch.cat([user, self.side(("item_id", *OF_ITEM), b.item, None, None), b.context], 1)
        h_BEH = torch.stack([expert(x) for expert in self.experts], 1)
        mixed = [(torch.softmax(g(x), 1).unsqueeze(2) * h_BEH).sum(1) for g in self.gates]
        return torch.cat([tower(h) for tower, h in zip(self.towers, mixed, strict=True)], 1)

    def loss(self, b: Flat) -> Tensor:
        """ESMM's: BCE of a click and of a click with a long read."""
        a, c = self(b).unbind(1)
        both = -torch.logsumexp(torch.stack([-a, -c, -a - c]), 0)
        return F.binary_cross_entropy_with_logits(a, b.labels[:, 0]) + F.binary_cross_entropy_with_logits(
            both, b.labels[:, 1]
        )


class PlainStudent(Plain):
    """The DSSM, its in-batch softmax as a B x B cross entropy."""

    def __init__(self, rows: dict[str, int]) -> None:
        super().__init__(rows)
        width, last = (len(OF_USER) + 2) * DIM + 1, VECTOR_UNITS[-1]
        self.user = nn.Sequential(layers(width, VECTOR_UNITS[0]), nn.Linear(VECTOR_UNITS[0], last))
        self.item = nn.Sequential(layers((len(OF_ITEM) + 1) * DIM, VECTOR_UNITS[0]), nn.Linear(VECTOR_UNITS[0], last))
        self.log_scale, self.bias = nn.Parameter(torch.tensor(INIT_SCALE).log()), nn.Parameter(torch.zeros(()))

    def loss(self, b: Flat, target: Tensor, log_q: Tensor, item_row: Tensor) -> Tensor:
        """KL to the teacher's probability, and softmax over the batch's items with logQ, less accidental hits."""
        u = F.normalize(self.user(self.side(("user_id", *OF_USER), b.user, b.history, b.user_numbers)), dim=1)
        v = F.normalize(self.item(self.side(("item_id", *OF_ITEM), b.item, None, None)), dim=1)
        scale, p = self.log_scale.exp(), torch.sigmoid(target)
        s = scale * (u * v).sum(1) + self.bias
        kl = (F.binary_cross_entropy_with_logits(s, p) - F.binary_cross_entropy_with_logits(target, p)).mean()
        same = (item_row[:, None] == item_row) & ~torch.eye(len(item_row), dtype=torch.bool)
        logits = (scale * u @ v.T - log_q).masked_fill(same, -torch.inf)
        return kl + F.cross_entropy(logits, torch.arange(len(u)))


# ---------------------------------------------------------------------------------------------------------------------
# Measured inside a process of its own


@dataclass
class Opened:
    """The log's last day of training, read and encoded."""

    run: Run
    day: Day
    encoder: Encoder
    batcher: Batcher
    rng: np.random.Generator

    @staticmethod
    def open(o: dict[str, Any], who: str, scratch: Path) -> Opened:
        config = load_config(Path(o["config"]), o["sets"])
        features = config.features_of(who)
        day = Log(config.data, features).read(FIRST_DAY + dt.timedelta(o["days"] - 1), scratch)
        encoder = Encoder(features).grow([day])
        run = Run.start(config, RunLog())
        run.seed_torch(o.get("seed", 0))
        tables = Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
        return Opened(run, day, encoder, Batcher(encoder, tables, run.device), run.rng(o.get("seed", 0)))

    def teacher_batches(self) -> Iterator[Batch[TeacherLabels[Tensor]]]:
        config = self.run.config
        rows = teacher_rows([self.day], LONG_READ, config.teacher, HoldOut(0.0, config.seed).kept, self.rng)
        return self.batcher.batches(rows, BATCH)

    def student_batches(self, config: Config) -> Iterator[StudentBatch]:
        """Clicks, each with a teacher's logit to learn (random ones: a rate does not depend on them)."""

        def taught(rows: StudentRows) -> StudentRows:
            targets = self.rng.normal(-1, 1, rows.labels.targets.shape)
            labels = rows.labels._replace(targets=targets, kd_weight=np.ones(len(rows), np.float32))
            return Rows(rows.user, rows.item, labels)

        rows = hard_rows(self.day, LONG_READ, config.student, 0, 0, self.rng)
        return self.batcher.batches(map(taught, rows), BATCH)

    @property
    def log_q(self) -> Tensor:
        counts = np.maximum(self.day.item_clicks, 1)
        return torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))


def in_rounds(rounds: int, batches: list[Any], *steps: Callable[[Any], Any]) -> list[list[float]]:
    """Rows/s of each step on the same batches, the steps one after the other in every round; once before unmeasured."""
    rates: list[list[float]] = [[] for _ in steps]
    rows = sum(len(b) for b in batches)
    for k in range(rounds + 1):
        for step, found in zip(steps, rates, strict=True):
            start = time.perf_counter()
            for b in batches[: 1 if k == 0 else None]:
                step(b)
            found.extend([rows / (time.perf_counter() - start)] if k else [])
    return rates


def plainly(step: Callable[[], Tensor], adam: torch.optim.Adam) -> None:
    """A step of a plain model, without the deterministic mode that dmtl runs in."""
    torch.use_deterministic_algorithms(False)
    adam.zero_grad()
    step().backward()  # type: ignore[no-untyped-call]
    adam.step()
    torch.use_deterministic_algorithms(True)


def inside_make_log(o: dict[str, Any], scratch: Path) -> Result:
    make_log(Path(o["at"]), o["rows"], o["days"], o["held_out"], o["activity"], o["users"])
    return {}


def inside_products(o: dict[str, Any], scratch: Path) -> Result:
    """The most GFLOP/s of a product of two matrices in fp32 and bf16, of several sizes, on all threads."""
    torch.set_num_threads(load_config(Path(o["config"]), o["sets"]).threads)
    best = {}
    for name, kind in zip(PRECISIONS, (torch.float32, torch.bfloat16), strict=False):
        found = []
        for n, k, m in ((2048, 2048, 2048), (4096, 256, 2048), (1024, 1024, 1024)):
            a, b = torch.randn(n, k).to(kind), torch.randn(k, m).to(kind)
            for _ in range(6):
                start = time.perf_counter()
                a @ b
                found.append(2e-9 * n * k * m / (time.perf_counter() - start))
        best[name] = max(found)
    return best


def inside_plain_teacher(o: dict[str, Any], scratch: Path) -> Result:
    """The plain MMoE over arrays in memory, one epoch: rows/s of its loop and AUC of the held-out day."""
    at = Opened.open(o, "teacher", scratch)
    flats = [Flat.from_batch(b) for b in at.teacher_batches()]
    torch.use_deterministic_algorithms(False)
    model = PlainTeacher(at.encoder.embedding_rows())
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    start = time.perf_counter()
    for b in flats:
        adam.zero_grad()
        model.loss(b).backward()  # type: ignore[no-untyped-call]
        adam.step()
    rate = len(at.day) / (time.perf_counter() - start)
    held_out = at.run.config.data.model_copy(
        update={"events": at.run.config.data.events.model_copy(update={"path": "test"})}
    )
    day = Log(held_out, at.encoder.features).read(FIRST_DAY + dt.timedelta(o["days"]), scratch)
    batcher = Batcher(at.encoder, Tables(*(at.encoder.entities(day, s) for s in ("user", "item"))), at.run.device)
    rows = (pairs(b.user, b.item, b.features) for b in day.blocks())
    with torch.no_grad():
        logits = torch.cat([model(Flat.from_batch(b)) for b in batcher.batches(rows, BATCH)])
    a, c = logits.unbind(1)
    scores = torch.stack([a, F.logsigmoid(a) + F.logsigmoid(c)], 1).numpy()
    return {"rate": rate, "auc": auc_of(scores, Path(o["config"]).parent / "test")}


def inside_reading_alone(o: dict[str, Any], scratch: Path) -> Result:
    start = time.perf_counter()
    at = Opened.open(o, "teacher", scratch)
    rows = sum(len(b) for b in at.teacher_batches())
    return {"rate": rows / (time.perf_counter() - start)}


def inside_student_steps(o: dict[str, Any], scratch: Path) -> Result:
    """The same batches through dmtl's student and the plain one."""
    at = Opened.open(o, "student", scratch)
    config = at.run.config.student
    batches = list(itertools.islice((b for b in at.student_batches(at.run.config) if len(b) == BATCH), 12))
    batches = batches or list(at.student_batches(at.run.config))
    model, plain = build_student(at.encoder, config), PlainStudent(at.encoder.embedding_rows())
    optimizers, adam = Optimizers.build(model, model.table, config), torch.optim.Adam(plain.parameters(), 1e-3)
    loss = StudentLoss(model, config, 1.0, at.log_q, {})
    flats = {
        id(b): (Flat.from_batch(b), b.labels.targets[:, 0].float(), at.log_q[b.item_row], b.item_row) for b in batches
    }

    def ours(b: StudentBatch) -> None:
        loss(b, False)[0].backward()  # type: ignore[no-untyped-call]
        optimizers.step()

    mine, theirs = in_rounds(
        o["rounds"], batches, ours, lambda b: plainly(lambda: plain.loss(*flats[id(b)]), adam)
    )  # fmt: skip
    return {"ours": mine, "plain": theirs, "positives": sum(len(b) for b in batches)}


def inside_student_loop(o: dict[str, Any], scratch: Path) -> Result:
    """dmtl's student from the spool on: blocks, rows, batches, steps."""
    at = Opened.open(o, "student", scratch)
    config = at.run.config.student
    model = build_student(at.encoder, config)
    optimizers = Optimizers.build(model, model.table, config)
    loss = StudentLoss(model, config, 1.0, at.log_q, {})
    start, rows = time.perf_counter(), 0
    for b in at.student_batches(at.run.config):
        loss(b, False)[0].backward()  # type: ignore[no-untyped-call]
        optimizers.step()
        rows += len(b)
    return {"rate": rows / (time.perf_counter() - start)}


def inside_join_scores(o: dict[str, Any], scratch: Path) -> Result:
    workspace = Path(o["config"]).parent / "work" / "scored"
    config = load_config(Path(o["config"]), [*o["sets"], f"workspace={workspace}", "data.events.path=test"])
    run, taught = Run.start(config, RunLog()), FIRST_DAY + dt.timedelta(o["days"] - 1)
    day = Log(config.data, config.features_of("student")).read(taught + dt.timedelta(1), scratch)
    path, manifest = run.parent("scores", taught, f"teacher={taught}")
    rates = []
    for _ in range(o["rounds"]):
        start = time.perf_counter()
        reader = Reader(path, manifest.facts)
        Matcher(reader, day, config.student.distill.targets, scratch).covered()
        rates.append((reader.rows + len(day)) / (time.perf_counter() - start))
    return {"rate": rates}


def inside_score_catalogue(o: dict[str, Any], scratch: Path) -> Result:
    """Pairs/s of a published teacher: users by catalogue; lists of candidates; the same pairs in random order through
    the plain model, whose weights are random."""
    workspace = Path(o["config"]).parent / "work" / "scored"
    at = Opened.open(o | {"sets": [*o["sets"], f"workspace={workspace}"]}, "teacher", scratch)
    parent = at.run.parent("teacher", at.day.day)
    frozen = FrozenTeacher(*parent, at.run.device, at.run.config)
    scorer = frozen.on(at.day)
    n = len(at.day.users)
    users, asked = (at.rng.choice(n, min(o[k], n), replace=False) for k in ("users", "lists"))
    lists = pairs(np.repeat(asked, LIST), at.rng.integers(0, len(at.day.items), LIST * len(asked)))
    mixed = lists.shuffled(at.rng)
    plain = PlainTeacher(at.encoder.embedding_rows()).eval()

    def row_by_row() -> None:
        with torch.no_grad():
            for b in at.batcher.batches([mixed], BATCH):
                plain(Flat.from_batch(b))

    works: dict[str, tuple[int, Callable[[], Any]]] = {
        "catalogue": (len(users) * len(at.day.items), lambda: sum(len(x) for x in scorer.catalogue(users))),
        "lists": (len(lists), lambda: scorer.lists(lists)),
        "plain": (len(lists), row_by_row),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for k in range(o["rounds"] + 1):
        for name, (n, work) in works.items():
            start = time.perf_counter()
            work()
            found[name].extend([n / (time.perf_counter() - start)] if k else [])  # the first time warms up
    return found


def inside_table_growth(o: dict[str, Any], scratch: Path) -> Result:
    """Steps of the teacher and of the plain one, with the log's own embedding rows and with 5,000,000 more."""
    at = Opened.open(o, "teacher", scratch)
    config, rows = at.run.config, at.encoder.embedding_rows()
    batches = list(itertools.islice(at.teacher_batches(), 6))
    flats = {id(b): Flat.from_batch(b) for b in batches}

    def ours(more: dict[str, int]) -> Callable[[Batch[TeacherLabels[Tensor]]], None]:
        model = build_teacher(at.encoder, config.teacher, len(config.tasks.names))
        model.table = EmbeddingTable(model.table.rows | more, model.table.dim)
        optimizers = Optimizers.build(model, model.table, config.teacher)

        def step(b: Batch[TeacherLabels[Tensor]]) -> None:
            with autocast(config.teacher.precision, at.run.device):
                logits, _ = batch_logits(model, b)
            teacher_loss(config, logits, b.labels)[0].backward()  # type: ignore[no-untyped-call]
            optimizers.step()

        return step

    def plain(more: int) -> Callable[[Batch[Any]], None]:
        model = PlainTeacher(rows, more)
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        return lambda b: plainly(lambda: model.loss(flats[id(b)]), adam)

    steps = [ours({}), plain(0), ours({"more": MORE_ROWS}), plain(MORE_ROWS)]
    names = ("small", "plain_small", "large", "plain_large")
    n = sum(rows.values())
    rates = in_rounds(o["rounds"], batches, *steps)
    return {**dict(zip(names, rates, strict=True)), "small_rows": n, "large_rows": n + MORE_ROWS}


INSIDE = {name.removeprefix("inside_"): f for name, f in list(globals().items()) if name.startswith("inside_")}


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


def markdown(entries: list[Entry]) -> str:
    """A Markdown table for each work; columns without a word are left out."""
    parts = [f"{entries[0]['machine']}; {entries[0]['rows']:,} rows, {max(e['rounds'] for e in entries)} rounds."]
    for work, some in itertools.groupby(entries, lambda e: e["work"]):
        cells = [cells_of(e) for e in some]
        columns = [c for c in cells[0] if any(row[c] for row in cells)]
        lines = [columns, ["---"] * len(columns), *([row[c] for c in columns] for row in cells)]
        parts.append(f"### {work}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def against(e: Entry) -> str:
    return (e["peer"] or "") + (f", {e['workers']} workers" if e["workers"] is not None else "")


def cells_of(e: Entry) -> dict[str, str]:
    """An entry as text by column; of two numbers the first is dmtl's."""

    def both(name: str, form: str) -> str:
        return " / ".join(format(x, form) for x in (e[name], e[f"peer_{name}"]) if x is not None)

    ratio, rate = e["ratio_median"], e["rate"]
    return {
        "dmtl": e["ours"] or e["precision"] or "",
        "against": against(e),
        e["unit"]: both("rate", ",.0f" if rate and rate >= 100 else ",.2f"),
        "ratio": f"**{ratio:.2f}** ({e['ratio_min']:.2f} to {e['ratio_max']:.2f})" if ratio else "",
        "share of the peak": f"{e['gemm_share']:.0%}" if e["gemm_share"] else "",
        "peak MB": both("rss_mb", ",.0f"),
        "AUC click": both("auc", ".4f"),
        "AUC click and read": both("auc_click_read", ".4f"),
    }


def figure(entries: list[Entry], file: Path) -> None:
    """The ratios, a panel a work and a line an opponent: the median round, and a bar from the least to the greatest."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    shown = [e for e in entries if e["ratio_median"] and e["work"] != "memory" and not e["ours"].startswith(PLAIN)]
    works = {work: [e for e in shown if e["work"] == work] for work in dict.fromkeys(e["work"] for e in shown)}
    lines = {work: list(dict.fromkeys(map(against, some))) for work, some in works.items()}
    colors = {name: f"C{k}" for k, name in enumerate(VARIANTS)}
    heights = [len(names) + 1 for names in lines.values()]
    fig, axes = plt.subplots(
        len(works), 1, sharex=True, squeeze=False, height_ratios=heights, layout="constrained",
        figsize=(8, 1.2 + 0.3 * sum(heights)),
    )  # fmt: skip
    for ax, (work, some) in zip(axes[:, 0], works.items(), strict=True):
        for e in some:
            color = colors.get(e["ours"], "0.3")
            same = [x["ours"] for x in some if against(x) == against(e)]
            k = lines[work].index(against(e)) + 0.14 * (same.index(e["ours"]) - (len(same) - 1) / 2)
            ax.plot([e["ratio_min"], e["ratio_max"]], [k, k], color=color, linewidth=2, alpha=0.5)
            ax.plot(e["ratio_median"], k, "o", color=color, markersize=4)
        ax.set_title(work, loc="left", fontsize=9, fontweight="bold")
        ax.set_yticks(range(len(lines[work])), lines[work], fontsize=8)
        ax.set_ylim(len(lines[work]) - 0.5, -0.5)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.grid(axis="x", which="both", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.set_xlabel("rate of dmtl / rate of the other")
    used = [name for name in colors if any(e["ours"] == name for e in shown)]
    marks = [Line2D([], [], marker="o", linewidth=3, color=colors[name], label=name) for name in used]
    fig.legend(handles=marks, loc="outside upper right", ncols=5, fontsize=8, frameon=False)
    fig.savefig(file, dpi=150)
    plt.close(fig)


def make_env(folder: Path, timeout: float) -> Path:
    """An environment for the peers, made once; its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(NEEDS)} into {folder}", file=sys.stderr, flush=True)
        run([sys.executable, "-m", "venv", str(folder)], timeout)
        run([str(python), "-m", "pip", "install", "--quiet", *NEEDS], timeout)
    return python


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="dmtl beside other implementations, in interleaved rounds")
    parser.add_argument("--folder", type=Path, default=Path("work/bench"), help="logs and workspaces; may be deleted")
    parser.add_argument("--peers", type=Path, help="folder of peer_*.py; default none: dmtl and the plain reference")
    parser.add_argument("--peer-python", type=Path, help="Python that has what the peers import")
    parser.add_argument("--make-env", type=Path, metavar="FOLDER", help="make such an environment there")
    parser.add_argument("--rows", type=int, help="of the log; default 1,000,000, with --quick 50,000")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 2")
    parser.add_argument("--days", type=int, default=1, help="that the rows are spread over")
    parser.add_argument("--activity", type=float, default=1.5, help="sigma of users' log-normal rates; 0: all alike")
    parser.add_argument("--users", type=int, default=USERS, help="of the log")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over dmtl's config, everywhere"
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds of one process")
    parser.add_argument("--quick", action="store_true", help="few rows and rounds: minutes")
    parser.add_argument("--only", help=f"some of {','.join(WORKS)}")
    parser.add_argument("--json", type=Path, help="write the entries; rewritten after every work")
    parser.add_argument("--figure", type=Path, help="write a figure of the ratios (needs matplotlib)")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="only print the table of an earlier run")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.inside:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(INSIDE[args.inside[0]](json.loads(args.inside[1]), Path(scratch))))
        return 0
    if args.markdown:
        print(markdown(json.loads(args.markdown.read_text())))
        return 0
    works = args.only.split(",") if args.only else list(WORKS)
    if unknown := [w for w in works if w not in WORKS]:
        parser.error(f"--only: {unknown[0]} is none of {', '.join(WORKS)}")
    if args.peers and not (args.peer_python or args.make_env):
        parser.error("--peers needs --peer-python PYTHON, or --make-env FOLDER to make one")
    if args.peers and not any((args.peers / p.script).exists() for p in PEERS):
        parser.error(f"--peers {args.peers}: no {', '.join(dict.fromkeys(p.script for p in PEERS))} there")

    rows = args.rows or (50_000 if args.quick else 1_000_000)
    args.folder.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(
            folder=Path(folder).resolve(),
            rows=rows,
            rounds=args.rounds or (2 if args.quick else 3),
            days=args.days,
            held_out=max(100, min(rows // 4, 200_000)),
            activity=args.activity,
            users=args.users,
            threads=args.threads,
            sets=args.set,
            timeout=args.timeout,
            quick=args.quick,
            peers=args.peers,
        )
        if args.peers:
            bench.python = make_env(args.make_env, args.timeout) if args.make_env else args.peer_python
        else:
            bench.say("no --peers: dmtl and the plain reference of this file only")
        if "bf16" not in PRECISIONS:
            bench.say("this CPU has no bfloat16 products: fp32 only")
        bench.log_of(rows)
        for name in works:
            entries += bench.attempt(name, WORKS[name], bench) or []
            if args.json:
                args.json.write_text(json.dumps(entries, indent=1) + "\n")
    if entries:
        print(markdown(entries))
    if args.figure and entries:
        figure(entries, args.figure)
    for what in bench.failures:
        print(f"failed: {what}", file=sys.stderr)
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
