"""The works: each measures dmtl and others in rounds and gives entries of the table."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmark.day import day
from benchmark.limits import PRECISIONS, Need, Shape, scored_pair, student_step, teacher_step
from benchmark.peers import contenders, measure
from benchmark.processes import Bench, Result, in_turn
from benchmark.tables import PLAIN, Entry, entry, middle, rates

HELD_OUT = "teacher.calibration_share=0.1"
"""as shipped: a tenth is kept from training, and what is scored is blended with the regression in the shares that it
chooses. Without it a teacher learns all rows, as its peers do, and its regression, which is trained beside it, counts
for nothing"""
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "fp32": ("fp32", []),
    "bf16": ("bf16", ["teacher.precision=bf16"]),
    "fp32, whole users": ("fp32", ["teacher.user_rows=50"]),
    "bf16, whole users": ("bf16", ["teacher.precision=bf16", "teacher.user_rows=50"]),
    "fp32, blended": ("fp32", [HELD_OUT]),
    "fp32, dense Adam": ("fp32", ["teacher.embedding_optimizer=adam"]),
}
"""ways to train the teacher: their precision, and what they change in the config"""
VARIANTS = {name: way for name, way in VARIANTS.items() if way[0] in PRECISIONS}


PEAKS = "peaks of the machine"


def shape_of(bench: Bench, who: str, *sets: str) -> Shape:
    """What a batch of the log has on average."""
    found = bench.inside("shape", *sets, who=who)
    return Shape(**{name: found[name] for name in Shape.__dataclass_fields__})


def limit_of(need: Need, peaks: Sequence[Result | None], precision: str) -> float | None:
    """The rate that the machine allows at most, of the medians of its peaks."""
    gflops, gigabytes = middle(peaks, precision), middle(peaks, "memory")
    return need.limit(gflops, gigabytes) if gflops and gigabytes else None


def teacher(bench: Bench) -> list[Entry]:
    """Training the MMoE: the loop alone, and end to end from Parquet; held-out AUC after the same rows."""

    def train(name: str, k: int) -> Result:
        where, sets = f"teacher-{list(VARIANTS).index(name)}-{k}", [*VARIANTS[name][1], f"seed={k + 1}"]
        made = bench.dmtl("train-teacher", where, *sets)
        return made | {"auc": bench.auc(where, *sets, day=bench.day + dt.timedelta(1))}

    peers = {p.title: p for p in contenders(bench)}
    done = in_turn(
        bench,
        {name: partial(train, name) for name in VARIANTS},
        {PLAIN: lambda k: bench.inside("plain_teacher", seed=k), PEAKS: lambda k: bench.inside("peaks")}
        | {title: partial(measure, bench, p, "mmoe") for title, p in peers.items()},
    )
    out = [
        entry(bench, PEAKS, done[PEAKS], rate=p, variant=p, precision=None, unit="GB/s" if p == "memory" else "GFLOP/s")
        for p in (*PRECISIONS, "memory")
    ]
    needs = {
        order: teacher_step(shape_of(bench, "teacher", f"teacher.user_rows={n}"))
        for order, n in (("random order", 1), ("whole users", 50))
    }
    for work, rate in (("teacher, training", "rate"), ("teacher, end to end", "end_to_end")):
        for name, (precision, _) in VARIANTS.items():
            known: dict[str, Any] = {"variant": name, "precision": precision, "rate": rate}
            need = needs["whole users" if "whole users" in name else "random order"]
            known["limit"] = limit_of(need, done[PEAKS], precision)
            if rate == "rate":
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

    done = in_turn(
        bench,
        {c: partial(stage, c) for c in ("train-teacher", "dump-logits")},
        {PEAKS: lambda k: bench.inside("peaks")},
    )
    limit = limit_of(scored_pair(), done[PEAKS], "fp32")
    known: dict[str, Any] = {"against": "dmtl's training", "limit": limit}
    return [entry(bench, "dump of scores", done["dump-logits"], done["train-teacher"], **known)]


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

    few = ("--rows", str(min(bench.rows, 200_000)))
    peers = {p.title: p for p in contenders(bench, "dssm")}
    done = in_turn(
        bench,
        {precision: partial(loop, precision) for precision in PRECISIONS},
        {PEAKS: lambda k: bench.inside("peaks")}
        | {title: partial(measure, bench, p, "dssm", options=few) for title, p in peers.items()},
    )
    need = student_step(shape_of(bench, "student"))
    for e in out:
        limit = limit_of(need, done[PEAKS], e["precision"])
        e |= {"limit": limit, "limit_share": e["rate"] / limit if limit else None}
    for precision in PRECISIONS:
        known: dict[str, Any] = {"work": "student, training", "ours": done[precision]}
        known |= {"variant": precision, "precision": precision, "limit": limit_of(need, done[PEAKS], precision)}
        for title, p in peers.items():
            out.append(entry(bench, peer=done[title], against=p.name, workers=p.workers, **known))
        out += [] if peers else [entry(bench, **known)]
    return out


def reading(bench: Bench) -> list[Entry]:
    """From Parquet to batches with no model; peers: from Parquet to arrays."""
    arrays = {
        p.title: partial(measure, bench, p, "mmoe", options=("--prepare",)) for p in contenders(bench, workers=0)[-1:]
    }
    decoded = {"decoding": lambda k: bench.inside("decoding")}
    done = in_turn(bench, {"dmtl": lambda k: bench.inside("reading_alone", seed=k)}, decoded | arrays)
    theirs = [r and r | {"rate": r["rows"] / r["read_s"]} for title in arrays for r in done[title]]
    against = "peers: arrays" if arrays else ""
    limit = middle(done["decoding"], "rate")
    return [entry(bench, "reading", done["dmtl"], theirs, against=against, precision=None, limit=limit)]


def operators(bench: Bench) -> list[Entry]:
    """What a training step's processor time is spent on, on one thread, by torch's profiler."""
    works: dict[str, tuple[str, list[str]]] = {
        "teacher, random order": ("teacher", []),
        "teacher, whole users": ("teacher", ["teacher.user_rows=50"]),
        "student": ("student", []),
    }
    out = []
    for name, (who, sets) in works.items():
        found = [bench.inside("operators", *sets, who=who)]
        known: dict[str, Any] = {"variant": name, "unit": "ms a step", "precision": None}
        out.append(entry(bench, "a step by kind of operator", found, **known))
    return out


def join(bench: Bench) -> list[Entry]:
    """`match`: a day's stored scores looked up by the pairs of the next day."""
    scored(bench)
    return [entry(bench, "join", rates(bench.inside("join_scores")["rate"]), precision=None)]


def export(bench: Bench) -> list[Entry]:
    """Towers, vectors, users and vocabularies as files."""
    scored(bench)
    bench.dmtl(
        "train-student", "scored", "student.hard.w_hard=0"
    )  # in few steps it would not learn the scores beside it

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
    limit = limit_of(scored_pair(), [bench.inside("peaks")], "fp32")
    row_by_row: dict[str, Any] = {"peer": found["plain"], "against": f"{PLAIN}, row by row", "unit": "pairs/s"}
    row_by_row |= {"limit": limit}
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
        peers = contenders(bench, workers=0)
        for p in peers:
            theirs = [
                bench.attempt(f"memory: {p.name}, {size}", measure, bench, p, "mmoe", log=log, options=("--prepare",))
            ]
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
    w.__name__: w
    for w in (
        teacher,
        profile,
        dump,
        student,
        operators,
        day,
        reading,
        join,
        export,
        catalogue,
        growth,
        memory,
    )
}
WITH_PEERS = {"teacher", "student", "day", "reading", "memory"}
