"""What trials blend a candidate's network with: a regression of the same users' rows, learned once."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import BASE, DAYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.data.days import Days
from dmtl_cli.data.rows import Rows
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.teacher.blend import Blend
from dmtl_cli.teacher.factors import Factors
from dmtl_cli.teacher.labels import HeldOut, TeacherRows
from dmtl_cli.teacher.regression import OnDay, Regression, learn
from dmtl_cli.teacher.rows import teacher_rows
from dmtl_cli.tune import regressions
from dmtl_cli.tune.cut import Cut
from dmtl_cli.tune.encodings import Encodings
from dmtl_cli.tune.regressions import Regressions
from dmtl_cli.tune.shares import shares_of

THRESHOLD = 20.0
Array = np.ndarray[Any, np.dtype[Any]]


TASKS = ("ctr", "cvr")


@dataclasses.dataclass
class Window:
    """Two days, the first of which is learned, with what is measured of the second."""

    run: Run
    cut: Cut
    encodings: Encodings
    measured: TeacherRows

    @staticmethod
    def of(home: Path, *, taste: float = 0.0, hour: bool = False) -> Window:
        """Users click what their taste is for, more at even hours where these are known."""
        rng = np.random.default_rng(3)
        kind = np.arange(40) % 2
        likes = np.arange(200) // 2 % 2
        for day in DAYS[:2]:
            user, item, at = rng.integers(0, 200, 4_000), rng.integers(0, 40, 4_000), rng.integers(0, 24, 4_000)
            logit = -0.5 + 0.8 * kind[item] + taste * np.where(likes[user] == kind[item], 1, -1) + (at % 2 - 0.5) * hour
            click = rng.random(4_000) < 1 / (1 + np.exp(-logit))
            seconds = np.where(click, rng.exponential(30, 4_000), 0)
            columns = {"user_id": user, "item_id": item, "likes": likes[user], "kind": kind[item], "hour": at}
            folder = home / f"log/events/day={day}"
            folder.mkdir(parents=True)
            pl.DataFrame(columns | {"click": click, "read_seconds": seconds}).write_parquet(folder / "0.parquet")
        config = copy.deepcopy(BASE)
        names = ("path", "partition", "user", "item", "click", "duration")
        config["data"] = {"events": {k: v for k, v in BASE["data"]["events"].items() if k in names}}
        sides = {"user_id": "user", "likes": "user", "item_id": "item", "kind": "item"}
        sides |= {"hour": "context"} if hour else {}
        config["features"] = [{"name": n, "side": s, "kind": "categorical"} for n, s in sides.items()]
        run = Run.start(load_config(Project.create(home, home / "log", config=config).file), RunLog())
        log = Days(run, run.config.features)
        scratch = home / "scratch"
        scratch.mkdir()
        days = [log.read(dt.date.fromisoformat(day), scratch) for day in DAYS[:2]]
        cut = Cut.of(days)
        rows = teacher_rows(days, THRESHOLD, run.config.teacher, cut.measure(), run.rng("test"))
        return Window(run, cut, Encodings(days, cut.learned, event_features=False), Rows.concat(list(rows)))

    def blended(self, network: Array, share: float = 1.0) -> Array:
        config = self.run.config
        told = Regressions(self.run, self.cut, THRESHOLD, self.measured)
        return told.blended(network, config, *self.encodings.of(config.features_of("teacher")), share)

    def regression(self, share: float) -> tuple[dict[str, Array], dict[str, Array] | None]:
        """Of the measured rows, as a dump scores them."""
        encoder, tables = self.encodings.of(self.run.config.features_of("teacher"))
        model = Regression.new(self.run.config.tasks)
        rng = self.run.rng("tune", "regression")
        rows = teacher_rows(self.cut.learned, THRESHOLD, self.run.config.teacher, self.cut.learn(share), rng)
        learn([model], encoder, tables, rows, 40)
        return OnDay(model, encoder, tables).with_and_without_pairs(self.measured)

    def held_out(self, by_task: dict[str, Array]) -> dict[str, HeldOut]:
        labels = self.measured.labels
        rated = {"ctr": (labels.click, labels.click | True), "cvr": (labels.converted[:, 0], labels.click)}
        return {
            task: HeldOut(by_task[task][at], label[at], labels.weight[at], self.measured.user[at])
            for task, (label, at) in rated.items()
        }


@pytest.mark.parametrize(("taste", "hour", "share"), [(0.0, False, 1.0), (1.5, False, 1.0), (1.5, True, 0.5)])
def test_a_candidate_is_blended_as_its_teacher_would_be(tmp_path: Path, taste: float, hour: bool, share: float) -> None:
    """With a regression of the learned rows of the same users, and what is given back to its conjunctions."""
    window = Window.of(tmp_path, taste=taste, hour=hour)
    network = np.random.default_rng(0).normal(size=(len(window.measured), 2)).astype(np.float32)
    whole, alone = window.regression(share)
    assert (alone is not None) == (taste > 0)
    mine = dict(zip(TASKS, network.astype(np.float64).T, strict=True))
    blend = Blend.fit(*map(window.held_out, (mine, whole)), None, window.held_out(alone) if alone else None)
    assert blend.share("ctr") > 0.5, "a network of noise tells nothing"
    expected = [blend.apply(t, mine[t], whole[t], alone[t] if alone else None) for t in TASKS]
    np.testing.assert_allclose(window.blended(network, share), np.stack(expected, 1), rtol=1e-9, atol=1e-9)


def test_what_the_regression_knows_gives_factors_no_share(tmp_path: Path) -> None:
    """Factors that say what it says, beside a network of noise: alone they have nearly all of the logit."""
    window = Window.of(tmp_path, taste=1.5)
    whole, _ = window.regression(1.0)
    noise = np.random.default_rng(0).normal(size=(len(window.measured), 2))
    heads = np.concatenate([noise, np.stack([whole[t] for t in TASKS], 1)], 1).astype(np.float32)
    config, measured = window.run.config, window.measured
    told = Regressions(window.run, window.cut, THRESHOLD, measured)
    beside = told.factors(heads, config, *window.encodings.of(config.features_of("teacher")), 1.0)
    mine = [window.held_out(dict(zip(TASKS, x.T, strict=True))) for x in (heads[:, :2], heads[:, 2:])]
    assert beside == Factors.fit(*mine, window.held_out(whole), None)
    alone = shares_of(config, heads, measured)
    assert alone == Factors.fit(*mine, None, None)
    assert alone and beside and alone.share("ctr") > 0.7 and beside.share("ctr") == 0
    assert told.factors(heads[:, :2], config, *window.encodings.of(config.features_of("teacher")), 1.0) is None
    held_out_nothing = config.model_copy(
        update={"teacher": config.teacher.model_copy(update={"calibration_share": 0.0})}
    )
    assert shares_of(held_out_nothing, heads, measured) is None, "they have learned for the sum"


def test_a_regression_is_learned_once_for_all_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[int] = []
    monkeypatch.setattr(regressions, "learn", lambda *x: learned.append(1) or learn(*x))
    window = Window.of(tmp_path)
    config, n = window.run.config, len(window.measured)
    told = Regressions(window.run, window.cut, THRESHOLD, window.measured)
    for share in (0.5, 0.5, 1.0, 0.5):
        told.blended(np.zeros((n, 2), np.float32), config, *window.encodings.of(config.features), share)
    assert len(learned) == 2
