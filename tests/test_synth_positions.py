"""The world of positions: its log follows the law as docs/method.md states it, written here again in plain numpy."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq
import pytest
from worlds import DAYS, dmtl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.evaluate.laws import PositionsLaw
from dmtl_cli.evaluate.truth import Truth
from dmtl_cli.synth.generate import generate

Floats = npt.NDArray[np.float64]

SMALL: dict[str, Any] = {"world": "positions", "users": 100, "items": 300, "events_per_day": 6_000, "seed": 3}
LARGE: dict[str, Any] = {"world": "positions", "users": 500, "items": 400, "events_per_day": 200_000, "seed": 5}


def read(out: Path, table: str, day: int) -> pl.DataFrame:
    return pl.read_parquet(out / "log" / table / f"day={DAYS[day]}" / "part-0.parquet", hive_partitioning=False)


def contents(out: Path) -> dict[str, str]:
    files = (f for f in sorted(out.rglob("*")) if f.is_file())
    return {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


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
def exposures(large: Path) -> dict[str, Any]:
    """The columns of the large log, and of each exposure by the law: z.t, bait, P(click), the mean of log seconds."""
    log = read(large, "events", 0).join(read(large, "items", 0), on="item_id", how="left", maintain_order="left")
    of = {name: log[name].to_numpy() for name in log.columns}
    truth = Truth.load(large / "truth")
    u, i = truth.users, truth.items
    user, item = np.searchsorted(u["id"], of["user_id"]), np.searchsorted(i["id"], of["item_id"])
    zt, de = (u["z"][user] * i["t"][item]).sum(1), (u["d"][user] * i["e"][item]).sum(1)
    saved = np.log(of["base_price"] / of["price"])
    phone, desktop = ((of["device"] == name).astype(float) for name in ("phone", "desktop"))
    logit = -2.8 + 1.2 * zt / math.sqrt(8) + i["bait"][item] + 1.25 * saved
    daytime = np.cos((of["hour"] - 15) * math.pi / 12)
    logit += 0.3 * daytime - 0.2 * phone + 0.4 * desktop
    of["rate"] = (1.0 + of["position"]) ** -0.5 / (1 + np.exp(-logit))
    of["mean"] = math.log(35) + 0.8 * de / math.sqrt(8) - 0.3 * i["bait"][item] + 0.4 * i["quality"][item]
    of["mean"] += 0.4 * saved - 0.1 * phone + 0.2 * desktop
    of |= {"user": user, "item": item, "zt": zt, "bait": i["bait"][item]}
    return of | {"saved": saved, "daytime": daytime, "phone": phone, "desktop": desktop}


# -- the truth ---------------------------------------------------------------------------------------------------------


def test_one_pair_by_hand_is_at_the_first_position_at_the_base_price(small: Path) -> None:
    users, items = (pq.read_table(small / "truth" / f"{name}.parquet").to_pylist() for name in ("users", "items"))
    truth = Truth.load(small / "truth")
    for u, i in ((users[7], items[11]), (users[-1], items[-1])):
        zt = sum(a * b for a, b in zip(u["z"], i["t"], strict=True))
        de = sum(a * b for a, b in zip(u["d"], i["e"], strict=True))
        click = 1 / (1 + math.exp(-(-2.8 + 1.2 * zt / math.sqrt(8) + i["bait"])))
        mu = math.log(35) + 0.8 * de / math.sqrt(8) - 0.3 * i["bait"] + 0.4 * i["quality"]
        long = 0.5 * math.erfc((math.log(20.0) - mu) / 0.8 / math.sqrt(2))
        ids = np.array([u["user_id"]]), np.array([i["item_id"]])
        assert truth.click_rate(*ids) == pytest.approx(np.array([[click]]), rel=1e-12)
        assert truth.read_seconds(*ids) == pytest.approx(np.array([[click * math.exp(mu + 0.32)]]), rel=1e-12)
        assert truth.long_read_rate(*ids, 20.0) == pytest.approx(np.array([[click * long]]), abs=1e-7)


def test_hour_and_device_are_zero_in_the_mean() -> None:
    law = PositionsLaw()
    hours, devices = law.hour_shares(), law.device_shares()
    assert hours.sum() == pytest.approx(1) and devices.sum() == pytest.approx(1)
    click = law.click_context(np.zeros((24, 3)), np.arange(24)[:, None], np.arange(3)[None])
    assert np.ptp(click) > 1 and hours @ click @ devices == pytest.approx(0, abs=1e-12)
    assert law.read_context(np.zeros(3), np.arange(3)) @ devices == pytest.approx(0, abs=1e-12)


# -- the log follows the law -------------------------------------------------------------------------------------------


def test_clicks_and_seconds_follow_the_law(exposures: dict[str, Any]) -> None:
    click, rate = exposures["click"], exposures["rate"]
    for group in ("position", "item", "user", "hour"):  # sums of squared z scores, of groups with enough clicks
        place = np.unique(exposures[group], return_inverse=True)[1]
        miss, spread = np.bincount(place, click - rate), np.bincount(place, rate * (1 - rate))
        some = spread > 5
        assert some.sum() > 20
        assert (miss[some] ** 2 / spread[some]).mean() == pytest.approx(1, abs=6 * math.sqrt(2 / some.sum()))
    for x in (exposures[name] for name in ("saved", "daytime", "phone", "desktop", "zt", "bait")):  # a score test each
        assert abs(((click - rate) * x).sum()) < 4 * math.sqrt((rate * (1 - rate) * x**2).sum())
    clicked = click == 1
    z = (np.log(exposures["read_seconds"][clicked]) - exposures["mean"][clicked]) / 0.8
    assert abs(z.mean()) < 4 / math.sqrt(len(z)) and z.std() == pytest.approx(1, abs=0.03)
    for x in (exposures[name][clicked] for name in ("saved", "phone", "desktop")):
        assert abs((z * x).sum()) < 4 * math.sqrt((x**2).sum())
    assert np.isnan(exposures["read_seconds"][~clicked]).all()


def test_examination_falls_as_the_root_of_the_position(exposures: dict[str, Any]) -> None:
    """P(examined) of a position as the log gives it: clicks / what would be clicked if all were examined."""
    position = exposures["position"]
    of_item = exposures["rate"] * np.sqrt(1.0 + position)
    for k in (0, 1, 3, 8, 20):
        here = position == k
        assert exposures["click"][here].sum() > 100
        error = 4 / math.sqrt(exposures["click"][here].sum())
        assert exposures["click"][here].sum() / of_item[here].sum() == pytest.approx((1 + k) ** -0.5, rel=error)


def test_positions_follow_interest_and_exposures_popularity(exposures: dict[str, Any]) -> None:
    first, late = exposures["position"] < 3, exposures["position"] > 20
    assert exposures["zt"][first].mean() > exposures["zt"][late].mean() + 0.3
    assert exposures["zt"].mean() > 0.5  # matched to the user
    shown = np.sort(np.bincount(exposures["item"]))[::-1]
    assert 2 < shown[:10].sum() / shown[200:210].sum() < 20
    assert exposures["bait"].mean() > 0.1  # popular items draw clicks


def test_prices_are_the_base_price_or_less(exposures: dict[str, Any]) -> None:
    share = 1 - exposures["price"] / exposures["base_price"]
    assert (share == 0).mean() == pytest.approx(0.5, abs=0.005)
    assert share[share > 0].min() > 0.09 and share.max() < 0.61
    low = exposures["base_price"] < 15
    assert exposures["bait"][low].mean() > exposures["bait"][~low].mean() + 0.3


# -- requests and users ------------------------------------------------------------------------------------------------


def test_requests_are_long_and_whole(small: Path) -> None:
    for k in range(3):
        log = read(small, "events", k)
        assert len(log) == 6_000 and log["time"].is_sorted()
        assert set(log["item_id"]) <= set(read(small, "items", k)["item_id"])
        assert set(log["user_id"]) == set(read(small, "users", k)["user_id"])
        by = log.group_by("request_id", maintain_order=True)
        requests = by.agg(pl.col("user_id", "hour", "device", "time").n_unique(), "position", size=pl.len())
        assert len(requests) == 150 and requests["size"].mean() == 40
        assert requests["size"].max() > 4 * requests["size"].median()  # type: ignore[operator]
        assert all(requests[name].max() == 1 for name in ("user_id", "hour", "device", "time"))
        assert all(p == list(range(len(p))) for p in requests["position"].to_list())
        assert (log["time"] // 3_600_000 % 24 == log["hour"]).all()


def test_nine_in_ten_users_are_new_and_the_others_came_before(small: Path) -> None:
    before: set[int] = set()
    for k in range(3):
        users = set(read(small, "users", k)["user_id"])
        assert len(users) == 100 and len(users & before) == (10 if k else 0)
        before |= users
    assert before == set(pq.read_table(small / "truth" / "users.parquet")["user_id"].to_pylist())


def test_session_items_are_of_earlier_days(small: Path) -> None:
    clicked: dict[int, list[int]] = {}
    length: dict[bool, list[int]] = {True: [], False: []}
    for k in range(3):
        for row in read(small, "users", k).iter_rows(named=True):
            session, old = row["session_items"], clicked.get(row["user_id"])
            assert 1 <= len(session) <= 50
            length[old is not None].append(len(session))
            if old and len(session) < 50:
                rest = iter(session)
                assert all(item in rest for item in old)  # in their order, other views among them
        for user, item, click in read(small, "events", k).select("user_id", "item_id", "click").iter_rows():
            clicked.setdefault(user, []).extend([item] if click else [])
    assert np.mean(length[True]) > 3 * np.mean(length[False]) > 9


def test_few_requests_have_a_user_each(tmp_path: Path) -> None:
    generate(tmp_path, 2, **(SMALL | {"events_per_day": 90, "churn": 1.0}))
    assert len(read(tmp_path, "users", 1)) == 2
    generate(tmp_path / "one", 2, world="positions", users=1, items=1, events_per_day=1)
    assert read(tmp_path / "one", "events", 1)["position"].to_list() == [0]


# -- the same again ----------------------------------------------------------------------------------------------------


def test_the_world_of_a_seed_is_pinned(small: Path) -> None:
    """By what its log says, not by its bytes, which are Parquet's; another numpy may draw another world."""
    whole = hashlib.sha256()
    for name in ("events", "users", "items"):
        for k in range(3):
            whole.update(json.dumps(read(small, name, k).to_dict(as_series=False)).encode())
    assert whole.hexdigest()[:16] == "c8c41c608804f867", np.__version__


def test_a_day_does_not_depend_on_how_many_follow(small: Path, tmp_path: Path) -> None:
    generate(tmp_path, 1, **SMALL)
    generate(tmp_path, 3, **SMALL)
    assert contents(tmp_path) == contents(small)
    (tmp_path / "log/users" / f"day={DAYS[1]}" / "part-0.parquet").unlink()
    generate(tmp_path, 2, **SMALL)
    assert contents(tmp_path) == contents(small)


def test_worlds_do_not_mix(small: Path) -> None:
    before = contents(small)
    with pytest.raises(UserError, match=r"contains another world \(positions, not bait\)") as e:
        generate(small, 3, **(SMALL | {"world": "bait"}))
    assert e.value.code == Exit.CANNOT_CREATE and contents(small) == before


def test_the_command_makes_it_and_refuses_a_world_it_does_not_have(small: Path, tmp_path: Path) -> None:
    sizes = ("--days", 3, "--users", 100, "--items", 300, "--events-per-day", 6_000, "--seed", 3)
    assert dmtl("synth", tmp_path / "w", "--world", "positions", *sizes).code == 0
    assert contents(tmp_path / "w") == contents(small)
    wrong = dmtl("synth", tmp_path / "x", "--world", "flat", *sizes)
    assert wrong.code == Exit.USAGE and "world must be bait or positions, got flat" in wrong.err
    assert not (tmp_path / "x").exists()
