"""What is measured in a process of its own: `python -m benchmark.inside NAME OPTIONS` prints one line of JSON."""

from __future__ import annotations

import datetime as dt
import importlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.limits import Shape, decoding, peaks
from benchmark.log import make_log
from benchmark.operators import by_kind
from benchmark.plain import Flat, PlainStudent, PlainTeacher
from benchmark.sizes import BATCH, FIRST_DAY, LONG_READ
from dmtl_cli.cli.main import collect_garbage_rarely, execute
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.evaluate import metrics
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.nn.precision import autocast
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.scores.matching import Matcher
from dmtl_cli.scores.reader import Reader
from dmtl_cli.student.build import build_student
from dmtl_cli.student.hard import hard_rows
from dmtl_cli.student.labels import StudentBatch, StudentRows
from dmtl_cli.student.loss import StudentLoss
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.frozen import FrozenTeacher
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.loss import teacher_loss
from dmtl_cli.teacher.model import batch_logits
from dmtl_cli.teacher.rows import HoldOut, teacher_rows

Result = dict[str, Any]
MORE_ROWS = 5_000_000  # of a table that grows
LIST = 200  # candidates of a user


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
        run = Run.start(config, RunLog())  # before it reads, as a stage does: it says what becomes of freed memory
        features = config.features_of(who)
        day = Log(config.data, features).read(FIRST_DAY + dt.timedelta(o["days"] - 1), scratch)
        encoder = Encoder(features).grow([day])
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


def auc_of(scores: np.ndarray[Any, Any], folder: Path) -> dict[str, float | None]:
    """AUC of a click and of a click with a long read, of scores [rows, 2] of a folder's rows in order."""
    log = pl.concat([pl.read_parquet(f, columns=["click", "duration"]) for f in sorted(folder.glob("*/*.parquet"))])
    click = log["click"].to_numpy() == 1
    labels = {"click": click, "click_read": click & (log["duration"].to_numpy() > LONG_READ)}
    return {name: metrics.auc(y, scores[:, k]) for k, (name, y) in enumerate(labels.items())}


def inside_make_log(o: dict[str, Any], scratch: Path) -> Result:
    make_log(Path(o["at"]), o["rows"], o["days"], o["held_out"], o["activity"], o["users"])
    return {}


def inside_peaks(o: dict[str, Any], scratch: Path) -> Result:
    return peaks(load_config(Path(o["config"]), o["sets"]).threads)


def inside_decoding(o: dict[str, Any], scratch: Path) -> Result:
    config = load_config(Path(o["config"]), o["sets"])
    return {"rate": decoding(Path(o["config"]).parent / config.data.events.path, config.threads)}


def inside_shape(o: dict[str, Any], scratch: Path) -> Result:
    """What batches of the teacher or the student have on average (`limits.Shape`)."""
    at = Opened.open(o, o["who"], scratch)
    batches = at.teacher_batches() if o["who"] == "teacher" else at.student_batches(at.run.config)
    found = []
    for b in batches:
        columns = [*b.user.ids.T, *b.item.ids.T[1:], torch.cat([b.item.ids[:, 0], *map(torch.ravel, b.user.sequences)])]
        found.append((len(b), *b.distinct, sum(len(torch.unique(c)) for c in columns)))
    return asdict(Shape(*np.mean(found, 0).tolist()))


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
    batches = list(itertools.islice((b for b in at.student_batches(at.run.config) if len(b) == BATCH), 12))
    batches = batches or list(at.student_batches(at.run.config))
    ours, plain = student_step(at), PlainStudent(at.encoder.embedding_rows())
    adam = torch.optim.Adam(plain.parameters(), 1e-3)
    flats = {
        id(b): (Flat.from_batch(b), b.labels.targets[:, 0].float(), at.log_q[b.item_row], b.item_row) for b in batches
    }

    mine, theirs = in_rounds(
        o["rounds"], batches, ours, lambda b: plainly(lambda: plain.loss(*flats[id(b)]), adam)
    )  # fmt: skip
    return {"ours": mine, "plain": theirs, "positives": sum(len(b) for b in batches)}


def inside_student_loop(o: dict[str, Any], scratch: Path) -> Result:
    """dmtl's student from the spool on: blocks, rows, batches, steps."""
    at = Opened.open(o, "student", scratch)
    step = student_step(at)
    start, rows = time.perf_counter(), 0
    for b in at.student_batches(at.run.config):
        step(b)
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


def teacher_step(at: Opened, more: dict[str, int] | None = None) -> Callable[[Batch[TeacherLabels[Tensor]]], None]:
    """A step of an untrained teacher on a batch.

    Args:
        more: rows of its table beside those of the log, by name.
    """
    config = at.run.config
    model = build_teacher(at.encoder, config.teacher, len(config.tasks.names))
    if more:
        model.table = EmbeddingTable(model.table.rows | more, model.table.dim, model.table.parts)
    optimizers = Optimizers.build(model, model.table, config.teacher)

    def step(b: Batch[TeacherLabels[Tensor]]) -> None:
        with autocast(config.teacher.precision, at.run.device):
            logits, _ = batch_logits(model, b)
        teacher_loss(config, logits, b.labels)[0].backward()  # type: ignore[no-untyped-call]
        optimizers.step()

    return step


def student_step(at: Opened) -> Callable[[StudentBatch], None]:
    """A step of an untrained student on a batch."""
    config = at.run.config.student
    model = build_student(at.encoder, config)
    optimizers = Optimizers.build(model, model.table, config)
    loss = StudentLoss(model, config, 1.0, at.log_q, {})

    def step(b: StudentBatch) -> None:
        loss(b, False)[0].backward()  # type: ignore[no-untyped-call]
        optimizers.step()

    return step


def inside_operators(o: dict[str, Any], scratch: Path) -> Result:
    """Milliseconds of a step by kind of operator."""
    torch.set_num_threads(1)
    at = Opened.open(o, o["who"], scratch)
    torch.set_num_threads(1)
    if o["who"] == "teacher":
        steps = by_kind(teacher_step(at), itertools.islice(at.teacher_batches(), 12))
    else:
        steps = by_kind(student_step(at), itertools.islice(at.student_batches(at.run.config), 12))
    return {"steps": steps, "rate": sum(steps.values())}


def inside_table_growth(o: dict[str, Any], scratch: Path) -> Result:
    """Steps of the teacher and of the plain one, with the log's own embedding rows and with 5,000,000 more."""
    at = Opened.open(o, "teacher", scratch)
    rows = at.encoder.embedding_rows()
    batches = list(itertools.islice(at.teacher_batches(), 6))
    flats = {id(b): Flat.from_batch(b) for b in batches}

    def ours(more: dict[str, int]) -> Callable[[Batch[TeacherLabels[Tensor]]], None]:
        return teacher_step(at, more)

    def plain(more: int) -> Callable[[Batch[Any]], None]:
        model = PlainTeacher(rows, more)
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        return lambda b: plainly(lambda: model.loss(flats[id(b)]), adam)

    steps = [ours({}), plain(0), ours({"more": MORE_ROWS}), plain(MORE_ROWS)]
    names = ("small", "plain_small", "large", "plain_large")
    n = sum(rows.values())
    rates = in_rounds(o["rounds"], batches, *steps)
    return {**dict(zip(names, rates, strict=True)), "small_rows": n, "large_rows": n + MORE_ROWS}


def inside_day(o: dict[str, Any], scratch: Path) -> Result:
    """`dmtl run` of a day in this process, after its stages were imported: its seconds by stage, as its log has them,
    and the rest of the time until the command ended (finding parents, hashing, the day's page, imports made late)."""
    for module in ("dmtl_cli.stages.run", "dmtl_cli.student.export.onnx_file"):
        importlib.import_module(module)
    arguments = ["run", "--config", o["config"], "--day", o["day"], "--quiet"]
    start = time.perf_counter()
    code = execute([*arguments, *(x for s in o["sets"] for x in ("--set", s))])
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(code)
    ws = Workspace(Path(load_config(Path(o["config"]), o["sets"]).workspace))
    lines = map(json.loads, ws.log_path("run", dt.date.fromisoformat(o["day"])).read_text().splitlines())
    published = [line for line in lines if line["event"] == "published"]
    steps = {stage_of(line["stage"], line["path"], o["day"]): line["seconds"] for line in published}
    return {"seconds": seconds, "steps": steps | {"between": seconds - sum(steps.values())}}


def stage_of(stage: str, path: str, day: str) -> str:
    """A stage's name, that of the two dumps with the teacher that scored."""
    return stage if stage != "scores" else f"scores, {'own' if f'teacher={day}' in path else 'old'} teacher"


INSIDE = {name.removeprefix("inside_"): f for name, f in list(globals().items()) if name.startswith("inside_")}


if __name__ == "__main__":
    collect_garbage_rarely()  # as the program does
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(INSIDE[sys.argv[1]](json.loads(sys.argv[2]), Path(folder))))
