"""The score table: what every row of it promises, and what a student takes from it."""

import datetime as dt
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import put, read

from dmtl_cli.calibrate import Calibration
from dmtl_cli.config import SourceWeights
from dmtl_cli.data import scores as scores_module
from dmtl_cli.data.log import ID, NO_REQUEST, Day
from dmtl_cli.data.samples import Rows
from dmtl_cli.data.scores import COLUMNS, SCORES, Matcher, Reader, Writer, age, probabilities
from dmtl_cli.errors import UserError

CALIBRATION = {"ctr": Calibration(0.9, -1.0), "cvr": Calibration(1.2, 0.3)}
FACTS = {"calibration": {k: v.to_dict() for k, v in CALIBRATION.items()}}
IDENTITY = {"ctr": Calibration(), "cvr": Calibration()}
Floats32 = npt.NDArray[np.float32]


@pytest.fixture
def day(tmp_path: Path) -> Day:
    users, items = np.meshgrid(np.arange(4) * 10, [f"i{k}" for k in range(6)], indexing="ij")
    put(tmp_path, {"user_id": users.ravel(), "item_id": items.ravel(), "click": [0, 1] * 12, "seconds": [9.0] * 24})
    return read(tmp_path)


def pairs(user: list[int], item: list[int], request: list[int] | None = None) -> Rows:
    return Rows(np.array(user), np.array(item), {"request": np.array(request if request else [NO_REQUEST] * len(user))})


def write(folder: Path, day: Day, parts: list[tuple[Rows, str, Any]], calibration: Any = CALIBRATION) -> Reader:
    (folder / "scratch").mkdir(parents=True)
    writer = Writer(folder / "scratch", day)
    for rows, source, logits in parts:
        writer.add(rows, source, probabilities(np.array(logits, np.float32).reshape(-1, 2), calibration))
    writer.finish(folder)
    facts = {"calibration": {k: v.to_dict() for k, v in calibration.items()}}
    return Reader(folder, facts)


def table(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(p) for p in sorted(folder.glob("part-*.parquet"))])


def random_parts(day: Day, n: int = 400, requests: bool = True) -> list[tuple[Rows, str, Floats32]]:
    rng = np.random.default_rng(0)
    out = []
    for k in range(6):
        user, item = rng.integers(0, 4, n // 6), rng.integers(0, 6, n // 6)
        request = rng.integers(0, 9, n // 6) if requests else np.full(n // 6, NO_REQUEST)
        rows = Rows(user, item, {"request": request})
        logits = (np.round(rng.normal(0, 1, (n // 6, 2))) + 0.0).astype(np.float32)  # rounded: some are equal
        out.append((rows, "exposed" if k % 2 else "negative", logits))
    return out


# -- the table ---------------------------------------------------------------------------------------------------------


def test_schema_and_values(tmp_path: Path, day: Day) -> None:
    rows = pairs([0, 0, 3], [1, 2, 5], [7, 7, 8])
    reader = write(tmp_path / "s", day, [(rows, "exposed", [[0, 1], [2, 3], [-1, 0.5]])])
    frame = table(tmp_path / "s")
    kinds = [pl.Int64, pl.String, pl.Date, pl.String, pl.Int64, pl.Int32, *[pl.Float32] * 5]
    assert frame.schema == pl.Schema(dict(zip(COLUMNS, kinds, strict=True)))
    assert frame.select(COLUMNS[:6]).rows() == [
        (0, "i2", dt.date(2026, 1, 31), "exposed", 7, 1),
        (0, "i1", dt.date(2026, 1, 31), "exposed", 7, 2),
        (30, "i5", dt.date(2026, 1, 31), "exposed", 8, 1),
    ]
    assert frame["ctr_logit"].to_list() == [2, 0, -1] and frame["cvr_logit"].to_list() == [3, 1, 0.5]
    assert frame["pctr"][0] == pytest.approx(1 / (1 + math.exp(-(0.9 * 2 - 1))), rel=1e-6)
    assert frame["pcvr"][0] == pytest.approx(1 / (1 + math.exp(-(1.2 * 3 + 0.3))), rel=1e-6)
    assert reader.rows == 3


def test_groups_and_sources(tmp_path: Path, day: Day) -> None:
    none = NO_REQUEST
    shown = pairs([0, 2, 2, 1], [0, 1, 2, 0], [5, none, none, -7])
    drawn = pairs([0, 0, 2], [3, 4, 5], [5, 5, none])
    write(tmp_path / "s", day, [(shown, "exposed", [[0, 0]] * 4), (drawn, "negative", [[1, 0], [2, 0], [0, 0]])])
    held = table(tmp_path / "s").select("group", "pair_source", "rank", "user_id", "item_id").rows()
    of = scores_module.user_groups(day).tolist()
    assert len(set(of)) == len(day.users) and max(of) < 0, "one negative number a user"
    later = scores_module.user_groups(replace(day, day=day.day + dt.timedelta(days=1)))
    assert not set(of) & set(later.tolist()), "and another one a day later"
    assert sorted(held) == sorted(
        [
            (of[2], "exposed", 1, 20, "i1"),
            (of[2], "exposed", 2, 20, "i2"),
            (of[2], "negative", 1, 20, "i5"),
            (of[0], "negative", 1, 0, "i4"),
            (of[0], "negative", 2, 0, "i3"),
            (5, "exposed", 1, 0, "i0"),
            (-7, "exposed", 1, day.users[ID][1], "i0"),
        ]
    )
    assert held == sorted(held, key=lambda row: row[:3])


def test_sorted_and_ranked_with_ties_by_item(tmp_path: Path, day: Day) -> None:
    write(tmp_path / "s", day, random_parts(day))
    frame = table(tmp_path / "s")
    assert frame.select("group", "pair_source", "rank").equals(
        frame.select("group", "pair_source", "rank").sort(pl.all())
    )
    ties = 0
    for (_, _), group in frame.group_by("group", "pair_source"):
        group = group.sort("rank")
        assert group["rank"].to_list() == list(range(1, len(group) + 1))
        by = list(zip((-group["pctcvr"]).to_list(), group["item_id"].to_list(), strict=True))
        assert by == sorted(by), "the best first, ties by item"
        ties += len(group) - group["pctcvr"].n_unique()
    assert ties > 0


def test_the_order_of_arrival_does_not_matter(tmp_path: Path, day: Day) -> None:
    parts = random_parts(day)
    write(tmp_path / "a", day, parts)
    write(tmp_path / "b", day, parts[::-1])
    assert (tmp_path / "a/part-00000.parquet").read_bytes() == (tmp_path / "b/part-00000.parquet").read_bytes()


@pytest.mark.parametrize("requests", [True, False])
def test_parts_out_of_core_are_one_table(
    tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch, requests: bool
) -> None:
    one = write(tmp_path / "one", day, random_parts(day, requests=requests))
    monkeypatch.setattr(scores_module, "_PART", 30)
    monkeypatch.setattr(scores_module, "BLOCK", 16)
    many = write(tmp_path / "many", day, random_parts(day, requests=requests))
    assert len(many.parts) > 3 and len(one.parts) == 1 and many.rows == one.rows == 396
    assert table(tmp_path / "many").equals(table(tmp_path / "one"))
    mixed = pl.concat(many.frames(list(COLUMNS), np.random.default_rng(0)))
    plain = pl.concat(many.frames(list(COLUMNS)))
    assert plain.equals(table(tmp_path / "one")) and not mixed.equals(plain)
    assert mixed.sort(pl.all()).equals(plain.sort(pl.all()))
    groups = [set(pl.read_parquet(p)["group"]) for p in many.parts]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no group is torn between parts"


def test_a_day_without_pairs(tmp_path: Path, day: Day) -> None:
    reader = write(tmp_path / "s", day, [])
    assert reader.rows == 0 and table(tmp_path / "s").columns == list(COLUMNS)
    rows = reader.distilled(day, "pctcvr", SourceWeights(), 0, 0, np.random.default_rng(0))
    assert sum(map(len, rows)) == 0 and reader.known(day) == 0
    assert Matcher(reader, day, "pctcvr").matched() == 0


def test_a_part_without_a_score_is_refused(tmp_path: Path, day: Day) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    pq.write_table(pq.read_table(reader.parts[0]).drop_columns(["pctr"]), reader.parts[0])
    with pytest.raises(UserError, match=r"part-00000\.parquet: expected score column pctr"):
        Reader(tmp_path / "s", FACTS)


LOGITS = st.one_of(st.sampled_from([-80.0, 80.0, -1000.0, 1000.0, 0.0]), st.floats(-100, 100, width=32))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=20), st.booleans())
def test_probabilities_are_inside_and_multiply(logits: list[tuple[float, float]], calibrated: bool) -> None:
    given_ = np.array(logits, np.float32)
    out = probabilities(given_, CALIBRATION if calibrated else IDENTITY)
    assert set(out) == set(SCORES)
    for name in ("pctr", "pcvr", "pctcvr"):
        assert out[name].dtype == np.float32 and ((out[name] > 0) & (out[name] < 1)).all(), name
    assert np.array_equal(out["pctcvr"], out["pctr"] * out["pcvr"])
    assert np.array_equal(out["ctr_logit"], given_[:, 0]) and np.array_equal(out["cvr_logit"], given_[:, 1])


# -- what a student takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["pctcvr", "pctr", "pcvr"])
def test_targets_are_the_logit_of_the_probability_in_float64(tmp_path: Path, day: Day, target: str) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    frame = table(tmp_path / "s")
    p = {
        "pctr": 1 / (1 + np.exp(-(0.9 * frame["ctr_logit"].cast(pl.Float64).to_numpy() - 1.0))),
        "pcvr": 1 / (1 + np.exp(-(1.2 * frame["cvr_logit"].cast(pl.Float64).to_numpy() + 0.3))),
    }
    p["pctcvr"] = p["pctr"] * p["pcvr"]
    assert reader.targets(frame, target) == pytest.approx(np.log(p[target] / (1 - p[target])), rel=1e-9, abs=1e-12)
    assert np.exp(-np.logaddexp(0, -reader.targets(frame, target))) == pytest.approx(frame[target].to_numpy(), rel=1e-6)


def test_targets_stay_finite_where_probabilities_saturate(tmp_path: Path, day: Day) -> None:
    logits = [[80, 80], [80, -80], [-80, -80], [0, 80]]
    reader = write(tmp_path / "s", day, [(pairs([0] * 4, [0, 1, 2, 3]), "exposed", logits)], IDENTITY)
    frame = table(tmp_path / "s").sort("item_id")
    expected = [80 - math.log(2), -80.0, -160.0, 0.0]
    assert reader.targets(frame, "pctcvr") == pytest.approx(expected, abs=1e-9)


def later_day(root: Path) -> Day:
    """Users 10 and 99, items i2, i3 and new: other rows than the scored day's."""
    put(root, {"user_id": [99, 10, 10, 10], "item_id": ["i2", "i3", "new", "i3"], "click": [1, 1, 0, 1],
               "seconds": [1.0] * 4, "w": [1.0, 2.0, 3.0, 4.0]})  # fmt: skip
    return read(root, weight="w")


def test_distilled_rows_take_the_rows_of_the_given_day(tmp_path: Path, day: Day) -> None:
    user, item = np.divmod(np.arange(24), 6)
    shown = Rows(user, item, {"request": np.full(24, NO_REQUEST)})
    logits = np.stack([np.arange(24) / 10, np.zeros(24)], 1).astype(np.float32)
    reader = write(
        tmp_path / "s", day, [(shown, "exposed", logits), (shown.take(slice(0, 12)), "negative", logits[:12])]
    )
    later = later_day(tmp_path / "later")
    rows = Rows.concat(
        list(reader.distilled(later, "pctr", SourceWeights(negative=0.5), 100, 1000, np.random.default_rng(0)))
    )
    items = later.items[ID].to_list()
    held = Counter(
        (later.users[ID][u - 100], items[i - 1000], round(t, 6), w)
        for u, i, t, w in zip(
            rows.user.tolist(), rows.item.tolist(), rows.columns["target"].tolist(), rows.columns["kd_weight"].tolist(),
            strict=True,
        )
    )  # fmt: skip
    targets = {i: 0.9 * float(np.float32((6 + k) / 10)) - 1 for k, i in ((2, "i2"), (3, "i3"))}
    assert held == Counter((10, i, round(t, 6), w) for i, t in targets.items() for w in (1.0, 0.5))
    assert not rows.columns["hard_weight"].any()
    assert reader.known(later) == 4 and reader.known(day) == 36, "coverage counts the pairs with rows on both sides"
    own = list(reader.distilled(day, "pctr", SourceWeights(negative=0.0), 0, 0, np.random.default_rng(0)))
    assert sum(map(len, own)) == 24, "a source of weight 0 is not learned"


def test_a_matcher_finds_exposed_pairs(tmp_path: Path, day: Day) -> None:
    logits = np.stack([np.arange(24) / 10, np.zeros(24)], 1).astype(np.float32)
    user, item = np.divmod(np.arange(24), 6)
    whole = Rows(user, item, {"request": np.full(24, NO_REQUEST)})
    only = item != 4
    parts = [(whole.take(np.flatnonzero(only)), "exposed", logits[only]), (whole, "negative", logits + 5)]
    matcher = Matcher(write(tmp_path / "s", day, parts), day, "pctr")
    found = matcher.lookup(user.astype(np.int32), item.astype(np.int32))
    assert np.isnan(found[~only]).all(), "a drawn pair is no match"
    assert found[only] == pytest.approx(0.9 * logits[only, 0].astype(np.float64) - 1, rel=1e-12)

    later = later_day(tmp_path / "later")
    other = Matcher(Reader(tmp_path / "s", FACTS), later, "pctr")
    assert other.matched() == 2, "user 10 sees i3 twice; user 99 and the new item were not scored"
    rows = Rows.concat(list(other.rows(100, 1000, np.random.default_rng(0))))
    assert set(rows.user.tolist()) == {100} and set(rows.item.tolist()) == {
        1000 + later.items[ID].to_list().index("i3")
    }
    assert rows.columns["target"] == pytest.approx([0.9 * float(np.float32(0.9)) - 1] * 2)
    assert sorted(rows.columns["kd_weight"].tolist()) == [2, 4]


def test_ids_of_another_type_match_nothing(tmp_path: Path, day: Day) -> None:
    reader = write(tmp_path / "s", day, random_parts(day))
    put(tmp_path / "x", {"user_id": [10], "item_id": [2], "click": [1], "seconds": [1.0]})
    other = read(tmp_path / "x")
    assert reader.known(other) == 0 and Matcher(reader, other, "pctr").matched() == 0


def test_age() -> None:
    assert age(dt.date(2026, 1, 31), dt.date(2026, 2, 1)) == 1
