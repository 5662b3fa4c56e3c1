"""The click-bait world: the log agrees with the stored truth, and the same parameters give the same bytes."""

import datetime as dt
import fcntl
import hashlib
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.synth import generate as writing
from dmtl_cli.synth.generate import generate
from dmtl_cli.synth.world import distinct_ids

SMALL: dict[str, Any] = {"users": 40, "items": 30, "events_per_day": 3_000, "churn": 0.1, "seed": 3}
LARGE: dict[str, Any] = {"users": 300, "items": 200, "events_per_day": 400_000, "seed": 5}
DAYS = [dt.date(2026, 1, 1) + dt.timedelta(days=k) for k in range(5)]


def table(out: Path, name: str, day: int) -> pa.Table:
    return pq.ParquetFile(out / "log" / name / f"day={DAYS[day]}" / "part-0.parquet").read()


def array(of: pa.Table, column: str) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = of[column].to_numpy()
    return found


def contents(out: Path) -> dict[str, str]:
    files = (f for f in sorted(out.rglob("*")) if f.is_file())
    return {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def refusal(code: Exit, out: Path, days: int = 1, **parameters: Any) -> UserError:
    with pytest.raises(UserError) as e:
        generate(out, days, **(SMALL | parameters))
    assert e.value.code == code
    return e.value


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "world"
    generate(out, 3, **SMALL)
    return out


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few users and items with many events, so that rates can be measured."""
    out = tmp_path_factory.mktemp("large")
    generate(out, 1, **LARGE)
    return out


@pytest.fixture(scope="module")
def pairs(large: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The events of the large world with what the truth says of each."""
    events, truth = table(large, "events", 0), Truth.load(large / "truth")
    user, item = array(events, "user_id"), array(events, "item_id")
    u, i = truth.users["id"], truth.items["id"]
    at = np.searchsorted(u, user), np.searchsorted(i, item)
    return {
        "user": at[0],
        "item": at[1],
        "click": array(events, "click"),
        "seconds": array(events, "read_seconds"),
        "rate": truth.click_rate(u, i)[at],
        "worth": truth.read_seconds(u, i)[at],
        "long": truth.long_read_rate(u, i, 40.0)[at],
        "bait": truth.items["bait"][at[1]],
    }


# -- the truth ---------------------------------------------------------------------------------------------------------


def test_one_pair_by_hand(small: Path) -> None:
    users = pq.read_table(small / "truth" / "users.parquet").to_pylist()
    items = pq.read_table(small / "truth" / "items.parquet").to_pylist()
    truth = Truth.load(small / "truth")
    for u, i in ((users[7], items[11]), (users[39], items[-1])):
        zt = sum(a * b for a, b in zip(u["z"], i["t"], strict=True))
        de = sum(a * b for a, b in zip(u["d"], i["e"], strict=True))
        click = 1 / (1 + math.exp(-(-2 + 1.2 * zt / math.sqrt(8) + i["bait"])))
        mu = math.log(35) + 0.7 * de / math.sqrt(8) - 0.7 * i["bait"] + 0.4 * i["quality"]
        long = 0.5 * math.erfc((math.log(20.0) - mu) / 0.8 / math.sqrt(2))
        ids = np.array([u["user_id"]]), np.array([i["item_id"]])
        assert truth.click_rate(*ids) == pytest.approx(np.array([[click]]), rel=1e-12)
        assert truth.read_seconds(*ids) == pytest.approx(np.array([[click * math.exp(mu + 0.32)]]), rel=1e-12)
        assert truth.long_read_rate(*ids, 20.0) == pytest.approx(np.array([[click * long]]), abs=1e-7)


def test_results_are_users_by_items_in_the_order_asked(small: Path) -> None:
    truth = Truth.load(small / "truth")
    u, i = truth.users["id"][[5, 0]], truth.items["id"][[2, 9, 2]]
    whole = truth.read_seconds(truth.users["id"], truth.items["id"])
    part = truth.read_seconds(u, i)
    assert part.dtype == np.float64
    np.testing.assert_allclose(part, whole[np.ix_([5, 0], [2, 9, 2])], rtol=1e-12)
    assert truth.click_rate(u, i[:0]).shape == (2, 0)


def test_a_long_read_of_no_length_is_a_click_and_an_endless_one_never_happens(small: Path) -> None:
    truth = Truth.load(small / "truth")
    ids = truth.users["id"], truth.items["id"]
    np.testing.assert_array_equal(truth.long_read_rate(*ids, 0.0), truth.click_rate(*ids))
    np.testing.assert_allclose(truth.long_read_rate(*ids, 1e-9), truth.click_rate(*ids), rtol=1e-12)
    assert truth.long_read_rate(*ids, 1e9).max() < 1e-12


def test_unknown_id_is_named(small: Path) -> None:
    truth = Truth.load(small / "truth")
    known = truth.items["id"]
    for ids, named in ((known[:1] + 1, str(known[0] + 1)), (known[:1].astype(np.float64), "float64")):
        with pytest.raises(UserError, match=named) as e:
            truth.click_rate(truth.users["id"], ids)
        assert e.value.code == Exit.DATA


def test_missing_and_damaged_truth(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"world\.json") as e:
        Truth.load(tmp_path)
    assert e.value.code == Exit.NO_INPUT
    generate(tmp_path, 1, **SMALL)
    file = tmp_path / "truth" / "items.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged") as e:
        Truth.load(tmp_path / "truth")
    assert e.value.code == Exit.DATA
    world = tmp_path / "truth" / "world.json"
    world.write_text(json.dumps(json.loads(world.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match="format 1, got 99"):
        Truth.load(tmp_path / "truth")


# -- the log agrees with it --------------------------------------------------------------------------------------------


def test_click_rates_and_seconds_agree_with_the_truth(pairs: dict[str, np.ndarray[Any, Any]]) -> None:
    n = len(pairs["click"])
    seconds = np.nan_to_num(pairs["seconds"])
    for seen, expected in (
        (pairs["click"], pairs["rate"]),
        (seconds, pairs["worth"]),
        (seconds > 40.0, pairs["long"]),
    ):
        residual = seen - expected
        assert abs(residual.mean()) < 4 * residual.std() / math.sqrt(n)
    for group in ("item", "user"):  # and within each item and each user: sums of squared z scores
        some = np.bincount(pairs[group]) > 0
        miss = np.bincount(pairs[group], pairs["click"] - pairs["rate"])
        spread = np.bincount(pairs[group], pairs["rate"] * (1 - pairs["rate"]))
        assert (miss[some] ** 2 / spread[some]).mean() == pytest.approx(1, abs=0.35)


def test_bait_is_shown_and_clicked_more_and_read_less(pairs: dict[str, np.ndarray[Any, Any]], large: Path) -> None:
    bait = Truth.load(large / "truth").items["bait"]
    expected = 0.6 * np.exp(0.8 * bait) / np.exp(0.8 * bait).sum() + 0.4 / len(bait)
    shown = np.bincount(pairs["item"], minlength=len(bait))
    chi2 = ((shown - expected * shown.sum()) ** 2 / (expected * shown.sum())).sum() / (len(bait) - 1)
    assert chi2 == pytest.approx(1, abs=0.35)
    high, low = pairs["bait"] > 1, pairs["bait"] < -1
    assert pairs["click"][high].mean() > 2 * pairs["click"][low].mean()
    assert np.nanmean(pairs["seconds"][high]) < 0.5 * np.nanmean(pairs["seconds"][low])


def test_clicks_lead_to_another_top_than_reading(large: Path) -> None:
    truth = Truth.load(large / "truth")
    ids = truth.users["id"], truth.items["id"]
    worth, rate = truth.read_seconds(*ids), truth.click_rate(*ids)

    def of_top(scores: np.ndarray[Any, Any]) -> float:
        return float(np.take_along_axis(worth, np.argsort(-scores, axis=1)[:, :10], 1).mean())

    assert of_top(worth) > 2 * of_top(rate)


def test_features_tell_something_but_not_all(tmp_path: Path) -> None:
    generate(tmp_path, 1, users=4_000, items=4_000, events_per_day=1)
    truth = Truth.load(tmp_path / "truth")
    users, items = table(tmp_path, "users", 0), table(tmp_path, "items", 0)
    for side, known, key, feature, value, least, most in (
        (users, truth.users, "user_id", "user_click_cluster", "z", 0.2, 0.6),
        (users, truth.users, "user_id", "user_read_cluster", "d", 0.2, 0.6),
        (items, truth.items, "item_id", "item_click_cluster", "t", 0.2, 0.6),
        (items, truth.items, "item_id", "item_read_cluster", "e", 0.2, 0.6),
        (items, truth.items, "item_id", "category", "t", 0.1, 0.5),
        (items, truth.items, "item_id", "author", "quality", 0.6, 0.9),
    ):
        vectors = known[value][np.searchsorted(known["id"], array(side, key))].reshape(4_000, -1)
        group = array(side, feature)
        size = np.maximum(np.bincount(group), 1)[:, None]
        means = np.stack([np.bincount(group, column) for column in vectors.T], 1) / size
        explained = means[group].var(0).sum() / vectors.var(0).sum()
        assert least < explained < most, feature


# -- its shape ---------------------------------------------------------------------------------------------------------


def test_events(small: Path, large: Path) -> None:
    seen: set[int] = set()
    for k in range(3):
        events = table(small, "events", k)
        types = {"user_id": "int64", "item_id": "int64", "time": "int64", "request_id": "int64"}
        types |= {"click": "int8", "read_seconds": "float"}
        assert {f.name: str(f.type) for f in events.schema} == types
        assert len(events) == SMALL["events_per_day"]
        midnight = int(dt.datetime.combine(DAYS[k], dt.time(), dt.UTC).timestamp() * 1000)
        time, click, seconds = array(events, "time"), array(events, "click"), events["read_seconds"]
        assert (np.diff(time) >= 0).all() and midnight <= time[0] and time[-1] < midnight + 86_400_000
        np.testing.assert_array_equal(seconds.is_valid().to_numpy(), click == 1)
        assert seconds.drop_null().to_numpy().min() > 0
        assert set(array(events, "item_id")) <= set(array(table(small, "items", k), "item_id"))
        assert set(array(events, "user_id")) <= set(array(table(small, "users", k), "user_id"))
        by_request = defaultdict(list)
        for request, user, at in zip(array(events, "request_id"), array(events, "user_id"), time, strict=True):
            by_request[int(request)].append((user, at))
        assert not seen & set(by_request)
        seen |= set(by_request)
        assert 9 < len(events) / len(by_request) < 11
        for rows in by_request.values():
            assert len({user for user, _ in rows}) == 1 and rows[-1][1] - rows[0][1] < 60_000
    file = pq.ParquetFile(large / "log" / "events" / f"day={DAYS[0]}" / "part-0.parquet")
    groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
    assert [g.num_rows for g in groups[:-1]] == [65_536] * 6
    assert groups[0].column(0).compression == "ZSTD"


def test_ids_do_not_fit_a_float(small: Path) -> None:
    for name, key in (("users", "user_id"), ("items", "item_id")):
        ids = array(pq.read_table(small / "truth" / f"{name}.parquet"), key)
        assert ids.dtype == np.int64 and ids.min() > 2**53 and len(np.unique(ids)) == len(ids)
        assert (ids.astype(np.float64).astype(np.int64) != ids).mean() > 0.9
        assert (np.diff(ids) > 0).mean() == pytest.approx(0.5, abs=0.25)
    assert array(table(small, "events", 0), "request_id").min() > 2**53


def test_ids_are_distinct() -> None:
    both = np.concatenate([distinct_ids(np.arange(300_000), salt) for salt in (1, 2)])
    assert len(np.unique(both)) == 600_000


def test_items_are_born_and_die(small: Path) -> None:
    alive = [set(array(table(small, "items", k), "item_id")) for k in range(3)]
    assert [len(a) for a in alive] == [30, 30, 30]
    assert [len(alive[k] - alive[k - 1]) for k in (1, 2)] == [3, 3]
    assert not (alive[2] - alive[1]) & alive[0]
    assert alive[0] | alive[1] | alive[2] == set(array(pq.read_table(small / "truth" / "items.parquet"), "item_id"))


def test_recent_clicks_are_the_last_ones_of_earlier_days(small: Path) -> None:
    clicked: dict[int, list[int]] = defaultdict(list)
    for k in range(3):
        for row in table(small, "users", k).to_pylist():
            assert row["recent_clicks"] == clicked[row["user_id"]][-20:]
        for event in table(small, "events", k).to_pylist():
            if event["click"]:
                clicked[event["user_id"]].append(event["item_id"])
    assert max(len(c) for c in clicked.values()) > 20


# -- the same again ----------------------------------------------------------------------------------------------------


def test_the_world_of_a_seed_is_pinned(small: Path) -> None:
    """By what its log says, not by its bytes, which are Parquet's; another numpy may draw another world."""
    whole = hashlib.sha256()
    for name in ("events", "users", "items"):
        for k in range(3):
            whole.update(json.dumps(table(small, name, k).to_pydict()).encode())
    assert whole.hexdigest()[:16] == "c9925f2f69241381", np.__version__


def test_a_day_does_not_depend_on_how_many_follow(small: Path, tmp_path: Path) -> None:
    generate(tmp_path / "five", 5, **SMALL)
    five = contents(tmp_path / "five")
    for name, digest in contents(small).items():
        assert name.startswith("truth/") or five[name] == digest
    generate(tmp_path / "grown", 3, **SMALL)
    assert contents(tmp_path / "grown") == contents(small)
    generate(tmp_path / "grown", 5, **SMALL)
    assert contents(tmp_path / "grown") == five
    for days in (5, 2):
        generate(tmp_path / "grown", days, **SMALL)
        assert contents(tmp_path / "grown") == five
    assert sorted(p.name for p in (tmp_path / "grown").iterdir()) == ["log", "truth"]


def test_what_is_lost_comes_back(small: Path, tmp_path: Path) -> None:
    generate(tmp_path, 3, **SMALL)
    lost = ("log/users/day=2026-01-03", "log/events/day=2026-01-02", "truth/items"), ("truth/users",)
    for group in lost:
        for name in group:
            (tmp_path / name / "part-0.parquet" if "log" in name else tmp_path / f"{name}.parquet").unlink()
        generate(tmp_path, 3, **SMALL)
        assert contents(tmp_path) == contents(small)


def test_seeds_differ(small: Path, tmp_path: Path) -> None:
    generate(tmp_path, 1, **(SMALL | {"seed": 4}))
    assert not table(tmp_path, "events", 0).equals(table(small, "events", 0))


def test_nothing_is_seen_of_a_world_that_failed(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = writing._write

    def broken(file: Path, content: pa.Table) -> None:
        if "day=2026-01-03" in str(file):
            raise OSError(28, "No space left on device")
        write(file, content)

    monkeypatch.setattr(writing, "_write", broken)
    with pytest.raises(OSError, match="space"):
        generate(tmp_path, 3, **SMALL)
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    (tmp_path / ".synth-scratch" / "log").mkdir(parents=True)  # what a killed run leaves behind
    generate(tmp_path, 3, **SMALL)
    assert contents(tmp_path) == contents(small)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("seed", 4), ("users", 41), ("items", 31), ("events_per_day", 9), ("churn", 0.2), ("start", DAYS[1])],
)
def test_another_world_is_not_overwritten(small: Path, parameter: str, value: object) -> None:
    before = contents(small)
    error = refusal(Exit.CANNOT_CREATE, small, 4, **{parameter: value})
    assert f"{parameter} " in error.message and str(value) in error.message
    assert "another OUT" in error.hint and "remove" in error.hint
    assert contents(small) == before


def test_a_log_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "log" / "events").mkdir(parents=True)
    refusal(Exit.CANNOT_CREATE, tmp_path)
    assert contents(tmp_path) == {} and not (tmp_path / "truth").exists()
    (tmp_path / "file").touch()
    refusal(Exit.CANNOT_CREATE, tmp_path / "file")


def test_a_world_that_would_be_drawn_otherwise_is_not_extended(tmp_path: Path) -> None:
    generate(tmp_path, 1, **SMALL)
    file = tmp_path / "truth" / "items.parquet"
    items = pq.read_table(file)
    pq.write_table(items.set_column(3, "bait", pa.array(np.zeros(len(items), np.float32))), file)
    before = contents(tmp_path)
    assert "numpy" in refusal(Exit.CANNOT_CREATE, tmp_path, 2).hint
    assert contents(tmp_path) == before


def test_only_one_writes(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        refusal(Exit.LOCKED, tmp_path)
    finally:
        os.close(handle)
    generate(tmp_path, 1, **SMALL)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("users", 0), ("items", 0), ("events_per_day", 0), ("seed", -1), ("churn", -0.1), ("churn", 1.1), ("days", 0)],
)
def test_numbers_out_of_range(tmp_path: Path, parameter: str, value: Any) -> None:
    assert parameter in refusal(Exit.USAGE, tmp_path / "w", **({"days": 1} | {parameter: value})).message
    assert not (tmp_path / "w").exists()


def test_days_end_with_the_calendar(tmp_path: Path) -> None:
    refusal(Exit.USAGE, tmp_path, 2, start=dt.date.max)


@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_smallest_world(tmp_path: Path, churn: float) -> None:
    generate(tmp_path, 2, users=1, items=1, events_per_day=1, churn=churn)
    assert len(pq.read_table(tmp_path / "truth" / "items.parquet")) == 1 + int(churn)
    assert len(table(tmp_path, "events", 1)) == 1
