"""Which of the drawn pairs a dump keeps: the strata of a row's scores."""

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from worlds import BASE, DAYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.scores import Scores
from dmtl_cli.data.days import Days
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.data.negatives import Negatives
from dmtl_cli.data.rows import pairs
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.scores.strata import spread
from dmtl_cli.stages.dump_logits import _events
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.frozen import FrozenTeacher

Array = npt.NDArray[Any]


def one_by_one(score: list[float], keep: int) -> set[int]:
    """The kept places of one row's scores, by a loop."""
    order = sorted(range(len(score)), key=lambda k: (score[k], k))
    if len(order) <= keep:
        return set(order)
    return {order[round(k * (len(order) - 1) / (keep - 1))] for k in range(keep)}


def test_the_kept_are_at_the_quantiles() -> None:
    """Of 0 .. 30 in any order the quarters; of a second row, which has fewer, all."""
    rng = np.random.default_rng(0)
    score, row = np.append(np.arange(31.0), [5.0, 1.0, 3.0]), np.append(np.full(31, 4), [9, 9, 9])
    order = rng.permutation(len(score))
    kept = spread(score[order], row[order], 5)
    found = {r: sorted(score[order][kept][row[order][kept] == r].tolist()) for r in (4, 9)}
    assert found == {4: [0, 8, 15, 22, 30], 9: [1, 3, 5]}
    assert (np.diff(kept) > 0).all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), max_size=60),
    st.integers(2, 7),
)
def test_every_row_is_cut_as_a_loop_cuts_it(drawn: list[tuple[int, int]], keep: int) -> None:
    row, score = (np.array([pair[k] for pair in drawn], np.int64) for k in (0, 1))
    expected: set[int] = set()
    for r in set(row.tolist()):
        at = np.flatnonzero(row == r)
        expected |= {int(at[k]) for k in one_by_one(score[at].tolist(), keep)}
    assert spread(score.astype(np.float64), row, keep).tolist() == sorted(expected)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A teacher of day 1, whose negatives are 3 of 12 drawn a row."""
    home = tmp_path_factory.mktemp("strata")
    generate(home, 1, start=dt.date(2026, 1, 1), users=40, items=60, events_per_day=600, seed=1)
    made = Project.create(home, home / "log", config=BASE | {"scores": {"negatives": 3, "stratify": 4}})
    made.done("build-profile", 1)
    made.done("train-teacher", 1)
    made.done("dump-logits", 1)
    return made


def published(project: Project, *, stage: str) -> Path:
    return Path(project.call("path", stage, "--day", DAYS[0]).out.strip())


def dumped(project: Project) -> pl.DataFrame:
    parts = sorted(published(project, stage="scores").glob("part-*.parquet"))
    return pl.concat([pl.read_parquet(p, hive_partitioning=False) for p in parts])


def test_a_dump_has_the_strata_of_what_was_drawn(project: Project, tmp_path: Path) -> None:
    """The same draws, scored pair by pair and cut by a loop."""
    run = Run.start(load_config(project.file), RunLog())
    day = Days(run, run.config.features).read(dt.date.fromisoformat(DAYS[0]), tmp_path, run.ranks)
    folder = published(project, stage="teacher")
    teacher = FrozenTeacher(folder, Manifest.read(folder / "manifest.json"), run.device, run.config)
    scorer, rng = teacher.on(day), run.rng("scores", day.day, day.day)
    (block,) = day.blocks()
    draws = [Negatives(day, 0.0).draw(block.user.astype(np.int64), rng) for _ in range(12)]
    logits = [scorer.lists(pairs(block.user, item, block.features)) for item, _ in draws]
    ids = {side: getattr(day, f"{side}s")[ID].to_list() for side in ("user", "item")}
    expected: Counter[tuple[Any, Any]] = Counter()
    for n in range(len(block)):
        drawn = [k for k in range(12) if draws[k][1][n]]
        mine = [{"ctr": logits[k][n, 0], "cvr": logits[k][n, 1]} for k in drawn]
        p = [sum(teacher.no_context.calibration[t].log_prob(x) for t, x in logit.items()) for logit in mine]
        items = (draws[drawn[k]][0][n] for k in one_by_one([float(x) for x in p], 3))
        expected.update((ids["user"][block.user[n]], ids["item"][i]) for i in items)
    drawn_rows = dumped(project).filter(pl.col("pair_source") == "negative")
    # scores in other batches differ by rounding, which may swap two draws whose scores are all but equal
    found = Counter(drawn_rows.select("user_id", "item_id").iter_rows())
    assert found.total() == expected.total() == 3 * len(day)
    assert (found & expected).total() >= 0.99 * found.total()
    facts = Manifest.read(published(project, stage="scores") / "manifest.json").facts
    assert facts["draws"] == {"negatives": 3, "stratify": 4, "alpha": 0.0, "candidates": 0}


def test_the_top_of_what_is_drawn_is_kept(project: Project) -> None:
    """Against as many drawn at random: the same exposed rows, and negatives of a wider range."""
    wide = dumped(project)
    project.done("dump-logits", 1, scores__stratify=1)
    plain = dumped(project)
    project.done("dump-logits", 1)
    assert dumped(project).equals(wide), "the same draws again"
    exposed, drawn = (
        [frame.filter(pl.col("pair_source") == source) for frame in (wide, plain)] for source in ("exposed", "negative")
    )
    assert exposed[0].drop("pctr", "pcvr", "pctcvr").shape == exposed[1].drop("pctr", "pcvr", "pctcvr").shape
    keys = ["user_id", "item_id", "group"]
    assert exposed[0].select(keys).sort(keys).equals(exposed[1].select(keys).sort(keys))
    assert drawn[0].height == drawn[1].height
    spreads = [frame["pctcvr"].log().std() for frame in drawn]
    assert spreads[0] > 1.1 * spreads[1]


@pytest.mark.parametrize("stratify", [1, 4])
def test_blocks_scored_together_are_those_scored_one_by_one(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stratify: int
) -> None:
    monkeypatch.setattr("dmtl_cli.data.log.values.sizes.BLOCK", 128)
    scores = Scores(negatives=3, stratify=stratify)
    run = Run.start(load_config(project.file).model_copy(update={"scores": scores}), RunLog())
    day = Days(run, run.config.features).read(dt.date.fromisoformat(DAYS[0]), tmp_path, run.ranks)
    assert len(list(day.blocks())) > 3
    folder = published(project, stage="teacher")
    teacher = FrozenTeacher(folder, Manifest.read(folder / "manifest.json"), run.device, run.config)
    found: list[pl.DataFrame] = []
    for most in (1, 1_000, 1 << 20):
        monkeypatch.setattr("dmtl_cli.stages.dump_logits.AT_ONCE", most)
        parts = _events(run, day, teacher, teacher.on(day), run.rng("scores", day.day, day.day))
        rows = [
            {"source": [source] * len(x), "user": x.user, "item": x.item, "a": logits[:, 0], "b": logits[:, 1]}
            for source, x, _, logits in parts
        ]
        every = pl.concat([pl.DataFrame(row) for row in rows])
        found.append(every.sort("source", "user", "item"))
        assert every.filter(pl.col("source") == "exposed").height == len(day)
    for other in found[1:]:
        assert_frame_equal(found[0], other, rel_tol=0, abs_tol=1e-4)


def test_one_negative_has_no_strata(project: Project) -> None:
    ended = project.stage("dump-logits", 1, scores__negatives=1)
    assert ended.code == 78 and "scores: stratify needs negatives of 2 or more" in ended.err
