"""What is served is weighed by what was read on days that nothing had learned: the estimate, and a chain's exports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import LAYOUTS, arguments
from test_exposure import a_log, a_project, exported
from test_exposure_export import KAPPA, a_pair, expected
from test_kappa_auto import facts
from test_models import random_side
from worlds import DAYS, Project

from dmtl_cli.config.features import Feature
from dmtl_cli.config.profile import FromProfile
from dmtl_cli.config.student import Exposure
from dmtl_cli.student import stacking
from dmtl_cli.student.doubts import spread
from dmtl_cli.student.export.towers import Shown, towers_of, write_towers
from dmtl_cli.student.stacking import Choices, Weights, listed

NAMES = ("reads", "age")


def choices(seed: int, weights: list[float], *, users: int = 40, items: int = 30, reads: int = 200) -> Choices:
    """What users read by a logit of known weights (a, b, w)."""
    rng = np.random.default_rng(seed)
    exposure = rng.normal(size=(users, 3)).astype(np.float32), rng.normal(size=(items, 3)).astype(np.float32)
    preference = rng.normal(size=(users, 2)).astype(np.float32), rng.normal(size=(items, 2)).astype(np.float32)
    numbers = rng.normal(size=(items, len(weights) - 2)).astype(np.float32)
    score = weights[0] * exposure[0] @ exposure[1].T + weights[1] * preference[0] @ preference[1].T
    score = score + numbers @ np.array(weights[2:])
    user = rng.integers(users, size=reads)
    item = (score[user] + rng.gumbel(size=(reads, items))).argmax(1)
    return Choices(exposure, preference, numbers, user, item)


def log_likelihood(of: Choices, mean: Any) -> float:
    """In float64, a read at a time."""
    x = of.exposure[0].astype(np.float64) @ of.exposure[1].T
    t = of.preference[0].astype(np.float64) @ of.preference[1].T
    score = mean[0] * x + mean[1] * t + of.numbers.astype(np.float64) @ mean[2:]
    return float(sum(score[u, i] - np.log(np.exp(score[u]).sum()) for u, i in zip(of.user, of.item, strict=True)))


# -- the estimate ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(-1, 1), min_size=2, max_size=5))
def test_slope_and_curvature_are_those_of_the_likelihood(seed: int, weights: list[float]) -> None:
    of = choices(seed, weights, users=6, items=5, reads=9)
    mean = np.array(weights) / 2 + 0.1
    value, slope, curvature = stacking._likelihood(of, mean)
    assert value == pytest.approx(log_likelihood(of, mean))
    step = 1e-4
    each = np.eye(len(mean)) * step
    by_hand = [(log_likelihood(of, mean + e) - log_likelihood(of, mean - e)) / (2 * step) for e in each]
    np.testing.assert_allclose(slope, by_hand, atol=1e-4, rtol=1e-4)
    of_slope = [(stacking._likelihood(of, mean - e)[1] - stacking._likelihood(of, mean + e)[1]) for e in each]
    np.testing.assert_allclose(curvature, np.array(of_slope) / (2 * step), atol=1e-4, rtol=1e-4)


def test_it_finds_the_weights_that_made_the_reads() -> None:
    true, prior = [0.4, 0.8, 0.5, -0.3], Weights.unmeasured(NAMES)
    found = prior.after(prior, choices(1, true, users=200, items=60, reads=20_000))
    np.testing.assert_allclose(found.mean, true, atol=0.04)
    assert found.share == pytest.approx(found.mean[0] / found.mean[1]) and found.reads == 20_000
    over = found.over({"reads": 2, "age": 0}, 4)
    assert over is not None
    np.testing.assert_allclose(over, [found.mean[3] / found.mean[1], 0, found.mean[2] / found.mean[1], 0], rtol=1e-6)


def test_it_is_where_the_prior_and_the_reads_agree() -> None:
    """The slope of the logarithm of the posterior is 0 there, and a few reads move it little."""
    prior = Weights.unmeasured(NAMES)
    of = choices(2, [0.0, 2.0, 1.0, 1.0], reads=60)
    found = prior.after(prior, of)
    pull = prior.precision @ (found.mean - prior.mean)
    np.testing.assert_allclose(stacking._likelihood(of, found.mean)[1], pull, atol=0.01)
    few = prior.after(prior, choices(2, [0.0, 2.0, 1.0, 1.0], reads=1))
    assert np.abs(few.mean - prior.mean).max() < 0.15 < np.abs(found.mean - prior.mean).max()


def count(name: str, event: str, half_life: float | None, **other: Any) -> Feature:
    of = FromProfile(count=event, half_life_days=half_life)
    return Feature(**{"name": name, "side": "item", "kind": "numeric", "transform": "log1p", "profile": of} | other)


def test_before_any_day_items_are_read_by_what_a_list_goes_by() -> None:
    """By the counts nearest to a day of exposures and a week of reads; by nothing that is not on their scale."""
    counts = [count(f"{event}s_{days}d", event, days) for event in ("exposure", "read", "click") for days in (0, 1, 7)]
    assert listed(counts) == ["exposures_1d", "reads_7d"]
    assert listed([count("b", "read", None), count("a", "read", 60), count("c", "exposure", None)]) == ["c", "a"]
    clicks = [f for f in counts if f.name.startswith("click")]
    users, raw = count("u", "read", 7, side="user"), count("r", "read", 7, transform=None)
    rate = FromProfile(rate="read", of="exposure", half_life_days=7)
    assert listed([*clicks, users, raw, count("x", "read", 7, profile=rate)]) == []
    prior = Weights.unmeasured(["age", "exposures_1d", "reads_1d", "reads_7d"], listed(counts))
    assert prior.mean.tolist() == [1, 1, 0, 0.25, 0, 0.25] and prior.reads == 0
    assert np.array_equal(prior.precision, np.diag([5, 5, 80, 80, 80, 80])), "as docs/method.md says"


def test_days_add_up_and_fade() -> None:
    """Two days tell more than one; days without a read lead back to where nothing is known."""
    true = [0.3, 1.2, 0.6, -0.2]
    prior = Weights.unmeasured(NAMES, ["reads"])
    one = prior.after(prior, choices(3, true, reads=300))
    two = one.after(prior, choices(4, true, reads=300))
    assert (np.diag(two.precision) > np.diag(one.precision)).all() and two.reads == 600
    assert np.abs(two.mean - true).sum() < np.abs(prior.mean - true).sum() / 2
    none = choices(5, true, reads=0)
    gone = two
    for _ in range(200):
        gone = gone.after(prior, none)
    np.testing.assert_allclose(gone.mean, prior.mean, atol=1e-4)
    np.testing.assert_allclose(gone.precision, prior.precision, atol=1e-2)


def test_blocks_of_users_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    of, mean = choices(6, [0.5, 1.0, 0.2]), np.array([0.7, 1.0, 0.1])
    whole = stacking._likelihood(of, mean)
    monkeypatch.setattr(stacking, "_PAIRS", 70)
    for one, other in zip(whole, stacking._likelihood(of, mean), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


def test_weights_that_are_no_numbers_are_not_taken_over() -> None:
    prior = Weights.unmeasured(NAMES)
    of = choices(7, [1.0, 1.0, 0.0, 0.0])
    broken = of._replace(numbers=np.full_like(of.numbers, np.inf))
    with np.errstate(all="ignore"):
        assert np.array_equal(prior.after(prior, broken).mean, prior.mean)


def test_no_part_counts_for_nothing_or_less() -> None:
    """A served score is the exposure's by a over b: neither is 0 or negative, however the reads lie."""
    prior = Weights.unmeasured(())
    found = prior.after(prior, choices(8, [-3.0, -3.0], reads=3000))
    assert found.mean.max() < 0 and found.share == 1.0 and found.over({}, 0) is None


def test_weights_are_stored_as_they_are() -> None:
    prior = Weights.unmeasured(NAMES)
    found = prior.after(prior, choices(9, [1.0, 1.0, 0.3, 0.0]))
    again = Weights.of(json.loads(json.dumps(found.described())))
    assert again.features == found.features and again.reads == found.reads
    assert np.array_equal(again.mean, found.mean) and np.array_equal(again.precision, found.precision)


def test_newton_climbs_however_far_the_numbers_lie() -> None:
    """Correlated heavy tails, as counts have: where whole steps overshoot, the estimate is the optimum all the same."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        of = choices(seed, [0.5, 1.0, 0.3, 0.2], users=30, items=50, reads=400)
        tails = np.clip(rng.standard_t(1.2, (50, 1)) + 0.1 * rng.normal(size=(50, 2)), -10, 10).astype(np.float32)
        of = of._replace(numbers=tails, item=rng.choice(50, 400, p=np.exp(tails[:, 0]) / np.exp(tails[:, 0]).sum()))
        prior = Weights.unmeasured(NAMES)
        found = prior.after(prior, of)
        pull = prior.precision @ (found.mean - prior.mean)
        np.testing.assert_allclose(stacking._likelihood(of, found.mean)[1], pull, atol=0.05)
        assert (np.linalg.eigvalsh(found.precision) > 0).all()


def test_an_estimate_does_not_depend_on_threads() -> None:
    """Its digits are those that sums in another order leave as they are."""
    of = choices(11, [0.5, 1.0, 0.2, 0.1], users=100, items=300, reads=3_000)
    again = of._replace(numbers=of.numbers[::-1].copy(), item=299 - of.item)
    again = again._replace(
        exposure=(of.exposure[0], of.exposure[1][::-1].copy()), preference=(of.preference[0], of.preference[1][::-1])
    )
    prior = Weights.unmeasured(NAMES)
    one, other = prior.after(prior, of), prior.after(prior, again)
    assert np.array_equal(one.mean, other.mean) and np.abs(one.precision - other.precision).max() <= 2e-6


# -- what is served ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("popularity", [1, 0.25, 0])
@pytest.mark.parametrize("name", ["everything", "ids and floats, floats"])
def test_items_numbers_are_a_column_of_both_formats(name: str, popularity: float, tmp_path: Path) -> None:
    """And what is the same for all users counts for as much as is said, in that column and in the block."""
    encoder, unit = LAYOUTS[name]
    student = a_pair(encoder, unit=unit)
    numbers = np.linspace(-1, 1, encoder.layout("item").floats, dtype=np.float32)
    users = np.arange(6, dtype=np.float32).reshape(2, 3)
    shown = Shown(KAPPA, 0.4, numbers, popularity).over(users)
    assert (shown.mean is None) == (popularity == 1)
    assert shown.size == pytest.approx(2 * np.linalg.norm(numbers))
    write_towers(tmp_path, towers_of(student, encoder, shown))
    for of in ("user", "item"):
        session = onnxruntime.InferenceSession(tmp_path / f"{of}_tower.onnx", providers=["CPUExecutionProvider"])
        program = torch.export.load(tmp_path / f"{of}_tower.pt2").module()
        for n in (0, 1, 2, 300):
            side = random_side(encoder, of, n, n)
            given_ = arguments(encoder, of, side)
            alike = np.full(n, KAPPA * shown.size * popularity)
            column = side.floats.numpy() @ numbers / shown.size if of == "item" else alike
            without = expected(student, of, n, encoder, KAPPA * 0.4)
            if of == "user":
                without[:, :3] -= KAPPA * 0.4 * (1 - popularity) * np.array([1.5, 2.5, 3.5])
            wanted = np.insert(without, 3, column, axis=1)
            served = session.run(None, {k: v.numpy() for k, v in given_.items()})[0]
            np.testing.assert_allclose(served, wanted, atol=1e-5, rtol=1e-5)
            with torch.no_grad():
                np.testing.assert_allclose(program(*given_.values()).numpy(), wanted, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days; what is clicked is of kind 2, whatever is shown, and more of it what a user's group likes."""
    out = a_log(tmp_path_factory.mktemp("log"), 4)
    rng = np.random.default_rng(1)
    for file in sorted(out.glob("events/*/a.parquet")):
        frame = pl.read_parquet(file, hive_partitioning=False)
        chance = np.where(frame["item_id"] % 3 == 2, 0.4, 0.02)
        chance = np.where(frame["item_id"] % 2 == frame["user_id"] % 2, chance, chance / 4)
        click = (rng.random(len(frame)) < chance).astype(np.int64)
        frame.with_columns(click=pl.Series(click)).write_parquet(file)
    return out


def a_chain(home: Path, log: Path, **exposure: Any) -> Project:
    project = a_project(home, log, exposure=exposure)
    project.config["features"].append({"name": "kind", "side": "item", "kind": "numeric"})
    project.write()
    return project


@pytest.fixture(scope="module")
def chain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = a_chain(tmp_path_factory.mktemp("chain"), log)
    for day in (1, 2, 3):
        project.done("train-student", day)
    return project


def test_a_chain_learns_its_weights_day_by_day(chain: Project, log: Path) -> None:
    """Each from the export of the morning and what was clicked on its day; the first has nothing to learn from."""
    first = facts(chain, 1)["fitted"]
    assert first["reads"] == 0 and first["mean"] == [1.0, 1.0, 0.0]
    weights, prior = Weights.of(first), Weights.unmeasured(["kind"])
    for day in (2, 3):
        before, found = exported(chain, day - 1), facts(chain, day)["fitted"]
        rows = pl.read_parquet(log / f"events/day={DAYS[day - 1]}/a.parquet", hive_partitioning=False)
        pairs = rows.filter(pl.col("click") == 1).select("user_id", "item_id").unique()
        ids, vectors = before.items
        users = before.vectors(pl.DataFrame({"group": np.arange(USERS_OF_LOG) % 2}), "user")
        wide = before.blocks["exposure"].stop
        by_id = {int(i): k for k, i in enumerate(ids)}
        of = Choices(
            (users[:, : wide - 1] / np.float32(before.kappa * weights.share), vectors[:, : wide - 1]),
            (users[:, wide:], vectors[:, wide:]),
            before.encoder.encode(before.item_features, "item").floats,
            pairs["user_id"].to_numpy(),
            np.array([by_id[i] for i in pairs["item_id"]]),
        )
        weights = weights.after(prior, of)
        assert found["features"] == ["kind"] and found["reads"] == weights.reads > 100
        np.testing.assert_allclose(found["mean"], weights.mean, rtol=1e-3, atol=1e-3)
        weights = Weights.of(found)
    assert found["mean"][2] > 0.3, "kind 2 is clicked more than what it is shown tells"


USERS_OF_LOG = 80
"""of the third day"""


def test_what_is_served_has_the_weights(chain: Project) -> None:
    """What is shown is a / b of the exposure block and w / b of the items' numbers, whatever kappa is."""
    export, found = exported(chain, 3), Weights.of(facts(chain, 3)["fitted"])
    first = exported(chain, 1)
    assert export.kappa == facts(chain, 3)["kappa"] == Exposure().kappa
    assert export.blocks == first.blocks, "a vector is as long on all days"
    _, b, w = found.mean
    users, items = export.vectors(pl.DataFrame({"group": [0, 1]}), "user"), export.items[1]
    block = export.blocks["exposure"]
    learned = slice(block.start, block.stop - 1)
    number = export.encoder.encode(export.item_features, "item").floats[:, 0]
    for kappa in (export.kappa, 0.3, 2.0):
        served = export.with_kappa(users, kappa)
        np.testing.assert_allclose(served[:, block.stop - 1], kappa * 2 * abs(w) / b, rtol=1e-5)
        dot = served[:, block] @ items[:, block].T
        plain = served[:, learned] @ items[:, learned].T
        np.testing.assert_allclose(dot - plain, np.tile(kappa * w / b * number, (2, 1)), rtol=1e-4, atol=1e-5)
    assert np.abs(items[:, block.stop - 1]).max() <= np.abs(number).max() / 2 + 1e-6, "about as long as the others"


def spreads(project: Project, day: int) -> dict[str, float]:
    """What gates judge of the vectors of an export."""
    path = Path(project.call("path", "export", "--day", DAYS[day - 1]).out.strip())
    gates = json.loads((path / "manifest.json").read_text())["gates"]
    return {g["name"]: g["value"] for g in gates if g["name"].startswith(("export.norm.", "export.spread."))}


def test_what_all_are_shown_counts_for_less_without_training(chain: Project, log: Path, tmp_path: Path) -> None:
    """The mean user gets that part of it and no more; the weights of the day after are those of a chain that serves
    all of it, as they explain reads by what was learned."""
    project = a_chain(tmp_path, log)
    for day in (1, 2):
        project.done("train-student", day)
    whole, spread = exported(project, 2), spreads(project, 2)
    for popularity in (0.25, 0):
        changed = {"student__exposure": f"{{popularity: {popularity}}}"}
        project.done("train-student", 2, **changed)
        assert len([*project.ws.glob(f"student/day={DAYS[1]}/run-*")]) == 1, "it is not trained again"
        part = exported(project, 2)
        assert part.blocks == whole.blocks and part.described["popularity"] == popularity
        groups, block = pl.DataFrame({"group": [0, 1]}), part.blocks["exposure"]
        own, every = (x.vectors(groups, "user")[:, block] @ x.items[1][:, block].T for x in (part, whole))
        mean = np.bincount(np.arange(USERS_OF_LOG) % 2, minlength=2) / USERS_OF_LOG @ every
        np.testing.assert_allclose(own, every - (1 - popularity) * mean, atol=1e-4)
        assert np.abs(own - every).max() > 0.1
        assert spreads(project, 2) == pytest.approx(spread, rel=1e-4), "of what was learned"
        rest = slice(block.stop, None)
        assert np.array_equal(part.vectors(groups, "user")[:, rest], whole.vectors(groups, "user")[:, rest])
        project.done("train-student", 3, **changed)
        found, plain = facts(project, 3)["fitted"], facts(chain, 3)["fitted"]
        np.testing.assert_allclose(found["mean"], plain["mean"], atol=2e-4)
    assert "popularity" not in whole.described


def test_only_an_export_depends_on_it(log: Path, tmp_path: Path) -> None:
    """So that a chain of before there was such a key goes on without trials or training; what it serves is made anew,
    as it had all of what all are shown."""
    project = a_chain(tmp_path, log)
    project.done("train-student", 1)
    made = {file: json.loads(file.read_text()) for file in project.ws.rglob("manifest.json")}
    student = {manifest["stage"]: manifest["config"].get("student") for manifest in made.values()}
    assert {stage for stage, found in student.items() if found} == {"student", "export"}
    assert student["export"]["exposure"]["popularity"] == 1 and "popularity" not in student["student"]["exposure"]
    del project.config["student"]["exposure"]["popularity"]
    project.write()
    project.done("train-student", 1)
    assert len([*project.ws.glob("student/*/run-*")]) == 1 and len([*project.ws.glob("export/*/run-*")]) == 2
    assert exported(project, 1).described["popularity"] == Exposure().popularity == 0.7


def test_weights_that_are_learned_are_the_block_alone(chain: Project, log: Path, tmp_path: Path) -> None:
    project = a_chain(tmp_path, log, weights="learned")
    for day in (1, 2):
        project.done("train-student", day)
        assert "fitted" not in facts(project, day)
    one, other = exported(project, 2), exported(chain, 2)
    assert one.blocks["exposure"].stop + 1 == other.blocks["exposure"].stop
    fitted = project.done("export", 2, student__exposure="{weights: fitted}")
    assert not fitted["up_to_date"] and facts(project, 2)["fitted"]["reads"] > 100, "without training"


def test_a_chain_made_again_is_the_same(chain: Project, log: Path, tmp_path: Path) -> None:
    project = a_chain(tmp_path, log)
    made = [project.done("train-student", day) for day in (1, 2)]
    assert not any(m["up_to_date"] for m in made)
    assert facts(project, 2)["fitted"] == facts(chain, 2)["fitted"]


def test_an_export_of_one_block_before_tells_nothing(log: Path, tmp_path: Path) -> None:
    a_chain(tmp_path, log, kappa=0).done("train-student", 1)
    project = a_chain(tmp_path, log)
    project.done("train-student", 2)
    assert facts(project, 2)["fitted"]["reads"] == 0


def test_another_export_before_is_another_key_and_no_parent(log: Path, tmp_path: Path) -> None:
    """It is named in the key, so that what is served follows from it, and needs no export before it to be kept."""
    project = a_chain(tmp_path, log)
    first, second = (project.done("train-student", day) for day in (1, 2))
    path = Path(project.call("path", "export", "--day", DAYS[1]).out.strip())
    manifest = json.loads((path / "manifest.json").read_text())
    assert (
        manifest["config"]["weighed"] == manifest["facts"]["weighed"] and manifest["facts"]["weighed"]["day"] == DAYS[0]
    )
    assert "export" not in {p["stage"] for p in manifest["parents"]}
    assert project.done("export", 2)["up_to_date"]
    project.done("export", 1, student__exposure="{kappa: 0.5}")
    states = project.call("status", "--json")
    assert '"export": "stale"' in states.out
    again = project.done("export", 2)
    assert '"export": "stale"' not in project.call("status", "--json").out
    assert not again["up_to_date"] and first["run_id"] != second["run_id"]


def test_the_export_before_a_kept_day_is_kept(log: Path, tmp_path: Path) -> None:
    """So that what is kept can be made again: without it an export would begin anew."""
    project = a_chain(tmp_path, log)
    for day in (1, 2, 3, 4):
        project.done("train-student", day)
    for path in project.ws.glob("export/day=*/run-*/**/*"):  # of another day, as gc keeps the young ones
        os.utime(path, (0, 0))
    for path in project.ws.glob("export/day=*/run-*"):
        os.utime(path, (0, 0))
    ended = project.call("gc", "--keep-days", 1, "--delete")
    assert ended.code == 0, ended.err
    assert [len([*project.ws.glob(f"export/day={day}/run-*")]) for day in DAYS[:4]] == [0, 1, 1, 1]
    assert all(project.done("export", day)["up_to_date"] for day in (3, 4))


def test_spread_and_length_are_of_what_was_learned(chain: Project) -> None:
    """A column that is the same for all users would make them look alike, and weights that fall or rise from one day to
    the next would look as if the student had diverged."""
    for day in (1, 3):
        export = exported(chain, day)
        manifest = json.loads((export.folder / "manifest.json").read_text())
        users = export.part(export.vectors(export.user_features, "user"), "exposure")
        wanted = {
            "user.exposure": spread(users[:, :-1]),
            "item.exposure": spread(export.items[1][:, : users.shape[1] - 1]),
        }
        assert {k: manifest["metrics"][f"spread.{k}"] for k in wanted} == pytest.approx(wanted, rel=1e-3)
        weight = export.kappa * Weights.of(manifest["facts"]["fitted"]).share
        liked = export.part(export.vectors(export.user_features, "user"), "preference")
        length = np.linalg.norm(np.concatenate([users[:, :-1] / weight, liked], 1), axis=1).mean()
        (found,) = (gate["value"] for gate in manifest["gates"] if gate["name"] == "export.norm.user")
        assert found == pytest.approx(length, rel=1e-3) and (day == 1 or abs(weight - export.kappa) > 0.1)
        assert spread(users) < wanted["user.exposure"]


def test_a_chain_begins_with_what_a_list_goes_by(tmp_path: Path) -> None:
    """What its first export serves orders items by their count too, before the next day tells more."""
    log = a_log(tmp_path / "log", 3)
    for file in log.glob("events/*/a.parquet"):
        frame = pl.read_parquet(file, hive_partitioning=False)
        frame.with_columns(read_seconds=1.0 + pl.int_range(pl.len()) % 7).write_parquet(file)
    project = a_project(tmp_path / "chain", log)
    of = {"count": "exposure", "half_life_days": 1}
    project.config["features"].append(
        {"name": "shown", "side": "item", "kind": "numeric", "profile": of, "transform": "log1p"}
    )
    project.write()
    for day in (1, 2, 3):
        project.done("build-profile", day)
        if day > 1:  # nothing is known before the first
            project.done("train-student", day)
    export, first, second = exported(project, 2), facts(project, 2)["fitted"], facts(project, 3)["fitted"]
    assert (first["features"], first["mean"], first["reads"]) == (["shown"], [1.0, 1.0, 0.25], 0)
    user = export.vectors(pl.DataFrame({"group": [0]}), "user")
    block, items = export.blocks["exposure"], export.items[1]
    shown = export.encoder.encode(export.item_features, "item").floats[:, 0]
    added = user[0, block.stop - 1] * items[:, block.stop - 1]
    np.testing.assert_allclose(added, export.kappa * 0.25 * shown, rtol=1e-4, atol=1e-5)
    assert np.ptp(shown) > 0.5 and second["reads"] > 100 and second["mean"][2] != 0.25


def test_numbers_need_not_be_there(log: Path, tmp_path: Path) -> None:
    """Of items without any a and b are fitted all the same."""
    project = a_project(tmp_path, log)
    for day in (1, 2):
        project.done("train-student", day)
    found = facts(project, 2)["fitted"]
    assert found["features"] == [] and found["reads"] > 100 and found["mean"] != [1.0, 1.0]
    assert exported(project, 2).blocks == exported(project, 1).blocks
