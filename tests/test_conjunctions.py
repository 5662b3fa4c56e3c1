"""Conjunctions of a user's and an item's feature: their cells, the test that chooses them, and what they learn."""

import dataclasses
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from test_log import put, read
from test_regression import newton

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.profile import FromProfile
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.evaluate import metrics
from dmtl_cli.nn.batches import Tables
from dmtl_cli.teacher import posterior, regression
from dmtl_cli.teacher.conjunctions import (
    CELLS,
    PRECISION,
    Conjunction,
    Paired,
    Values,
    chosen,
    values_of,
)
from dmtl_cli.teacher.excess import Residuals, excesses, sure
from dmtl_cli.teacher.hashed import BIAS, SLOTS, Design, first_slots
from dmtl_cli.teacher.labels import TeacherRows, labelled
from dmtl_cli.teacher.regression import MEMORY, PRIOR, OnDay, Regression

Array = npt.NDArray[Any]
FEATURES = (
    Feature(name="user_id", side="user", kind="categorical"),
    Feature(name="age", side="user", kind="categorical"),
    Feature(name="interests", side="user", kind="sequence", max_length=3),
    Feature(name="mood", side="user", kind="categorical", level="event"),
    Feature(name="item_id", side="item", kind="categorical"),
    Feature(name="genres", side="item", kind="sequence", max_length=2),
    Feature(name="price", side="item", kind="numeric"),
)
GENRES = 4


def write_log(root: Path, n: int, seed: int, taste: float, users: int = 120, items: int = 40) -> tuple[Day, Array]:
    """Users with interests, items of genres. A click is likelier by `taste` where an item is of a genre the user likes.

    Returns:
        The day, and the true logits [users, items].
    """
    world = np.random.default_rng(7)  # the same users and items on every day
    likes = world.integers(GENRES, size=users)
    genre = np.arange(items) % GENRES
    truth = -1.5 + taste * (likes[:, None] == genre) + 0.5 * world.normal(size=items)
    rng = np.random.default_rng(seed)
    user, item = rng.integers(users, size=n), rng.integers(items, size=n)
    age, other = world.integers(5, size=users), world.integers(6, size=users)
    further, price = world.integers(6, size=items), world.random(items)
    put(
        root,
        {
            "user_id": user,
            "item_id": item,
            "click": (rng.random(n) < 1 / (1 + np.exp(-truth[user, item]))).astype(int),
            "seconds": 60.0,
            "mood": rng.integers(3, size=n),
            "age": age[user],
            "interests": [[f"g{likes[u]}", f"z{other[u]}"][: 1 + u % 2] for u in user],
            "genres": [[f"g{genre[i]}", f"y{further[i]}"][: 1 + i % 2] for i in item],
            "price": price[item],
        },
    )
    return read(root, FEATURES), truth


def tables_of(encoder: Encoder, day: Day) -> Tables:
    return Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))


def all_rows(day: Day) -> TeacherRows:
    return Rows.concat([labelled(block, 30.0) for block in day.blocks()])


def learned(day: Day, encoder: Encoder, model: Regression | None = None) -> Regression:
    model = model or Regression.new(Tasks())
    regression.learn([model], encoder, tables_of(encoder, day), [all_rows(day)])
    return model


def by_id(day: Day) -> tuple[Array, Array]:
    """Ids of the day's users and items: places in `truth`."""
    return day.users[":id"].to_numpy(), day.items[":id"].to_numpy()


# -- cells -------------------------------------------------------------------------------------------------------------


def test_slots_are_frozen() -> None:
    found = Conjunction("user_id", "tag", 20).slots(np.array([1, 1, 2, 900_000]), np.array([1, 2, 1, 7]))
    assert found.tolist() == [737494, 578562, 237862, 783643]
    assert (Conjunction("user_id", "tag", 8).slots(np.arange(2_000), np.arange(2_000)) < 256).all()
    other = Conjunction("user_id", "brand", 20).slots(np.array([1, 1, 2, 900_000]), np.array([1, 2, 1, 7]))
    assert not (found == other).any()


def test_cells_are_all_pairs_of_known_values() -> None:
    users = {"a": Values.of(np.array([[3, 5, 0], [0, 0, 0], [2, 0, 0]]))}
    items = {"b": Values.of(np.array([[1, 4], [6, 0]]))}
    paired = Paired(users, items, np.array([0, 1, 2, 0]), np.array([0, 0, 1, 1]))
    of = Conjunction("a", "b", 16)
    row, slot, x = paired.cells(of, first=100)
    expected = [
        (n, int(of.slots(np.array([u]), np.array([i]))[0]) + 100, 1 / math.sqrt(size))
        for n, mine, theirs, size in ((0, (3, 5), (1, 4), 4), (2, (2,), (6,), 1), (3, (3, 5), (6,), 2))
        for u in mine
        for i in theirs
    ]
    assert list(zip(row.tolist(), slot.tolist(), strict=True)) == [(n, s) for n, s, _ in expected]
    np.testing.assert_allclose(x, [each for _, _, each in expected])
    assert paired.number(of) == len(expected) / 4


def test_what_may_be_conjoined(tmp_path: Path) -> None:
    """Ids, buckets and lists; no histories, which are items, no plain numbers, and nothing that the event tells."""
    day, _ = write_log(tmp_path, 500, 1, 1.0)
    history = Feature(
        name="seen", side="user", kind="sequence", profile=FromProfile(history="click"), embedding_name="item_id"
    )
    bucket = Feature(name="price", side="item", kind="numeric", num_buckets=3)
    seen = pl.Series("seen", [[1, 2]] * len(day.users))
    day = dataclasses.replace(day, users=day.users.with_columns(seen))
    encoder = Encoder((*FEATURES[:-1], history, bucket)).grow([day])
    assert set(values_of(encoder, encoder.entities(day, "user"), "user")) == {"user_id", "age", "interests"}
    assert set(values_of(encoder, encoder.entities(day, "item"), "item")) == {"item_id", "genres", "price"}
    assert set(values_of(encoder, encoder.entities(day, "item"), "item", ["genres"])) == {"genres"}


def names_chosen(paired: Paired, residuals: list[Residuals], items: int) -> list[tuple[str, str]]:
    found = excesses(paired, {str(k): each for k, each in enumerate(residuals)}, items)
    return [(c.user, c.item) for c in chosen(paired, sure(paired, found))]


# -- learning ----------------------------------------------------------------------------------------------------------


def test_taste_is_found_and_noise_is_not(tmp_path: Path) -> None:
    day, truth = write_log(tmp_path, 30_000, 3, 2.0, users=600)
    encoder = Encoder(FEATURES).grow([day])
    model = learned(day, encoder)
    found = [(c.user, c.item) for c in model.conjunctions]
    assert found[0] == ("interests", "genres") and ("user_id", "genres") in found
    assert not {user for user, _ in found} & {"age", "mood"} and {item for _, item in found} == {"genres"}
    other, _ = write_log(tmp_path / "b", 12_000, 4, 2.0, users=600)
    users, items = by_id(other)
    rows = all_rows(other)
    best = metrics.auc(rows.labels.click, truth[users[rows.user], items[rows.item]])
    mine = metrics.auc(rows.labels.click, OnDay(model, encoder, tables_of(encoder, other)).logits(rows)["ctr"])
    assert best and mine and 0 < best - mine < 0.03


def test_what_names_the_item_is_no_attribute_of_it(tmp_path: Path) -> None:
    """Also in the stacked tables of several days, which have an item as often as there are days."""
    rng = np.random.default_rng(0)
    n = 20_000
    user, item = rng.integers(1, 5, n), rng.integers(1, 31, n)
    taste = rng.normal(size=(5, 31))
    p = 1 / (1 + np.exp(1 - taste[user, item]))
    residuals = [Residuals(rng.random(n) < p, np.full(n, 0.3), np.ones(n))]
    three_days = np.tile(np.arange(1, 31), 3)[:, None]
    paired = Paired(
        {"age": Values.of(np.arange(1, 5)[:, None])},
        {"item_id": Values.of(three_days), "brand": Values.of(1 + three_days % 10)},
        user - 1,
        item - 1 + 30 * rng.integers(3, size=n),
    )
    assert names_chosen(paired, residuals, 30) == [("age", "brand")]
    assert ("age", "item_id") in names_chosen(paired, residuals, 90)


def test_noise_chooses_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        day, _ = write_log(tmp_path / str(seed), 6_000, seed, 0.0)
        assert learned(day, Encoder(FEATURES).grow([day])).conjunctions == ()


def test_weights_are_those_of_dense_newton_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rows choose, and are learned anew with what they chose: from nothing, by the priors that they gave."""
    monkeypatch.setattr(posterior, "_NEAR", 1e-7)
    monkeypatch.setattr(posterior, "_STEPS", 1000)
    monkeypatch.setattr(Regression, "weigh", lambda self: None)
    day, _ = write_log(tmp_path, 1_500, 5, 3.0, users=30, items=40)
    encoder = Encoder(FEATURES).grow([day])
    model, rows = learned(day, encoder), all_rows(day)
    assert model.conjunctions
    x = Design.of(encoder, tables_of(encoder, day), rows, conjunctions=model.conjunctions)
    used, small = x.compact(first_slots(model.conjunctions)[-1])
    dense = np.stack([small.times(unit) for unit in np.eye(len(used))], 1)
    y = rows.labels.click
    mean, precision = np.zeros(len(used)), model.prior("ctr")[used].astype(np.float64)
    mean[used == BIAS] = math.log((y.sum() + 0.5) / ((~y).sum() + 0.5))
    weights, sure = newton(dense, y, rows.labels.weight.astype(np.float64), mean, precision)
    np.testing.assert_allclose(model.weights["ctr"][used], weights, atol=2e-4)
    np.testing.assert_allclose(model.precision["ctr"][used], sure, rtol=2e-3)


def test_a_day_more_forgets_towards_the_prior_of_each_conjunction(tmp_path: Path) -> None:
    day, _ = write_log(tmp_path, 8_000, 6, 2.0)
    model = learned(day, Encoder(FEATURES).grow([day]))
    (start, end), label = first_slots(model.conjunctions)[:2], "ctr"
    prior, before = model.priors[label][0], model.precision[label].copy()
    assert PRECISION[0] < prior < 30 and prior != PRIOR
    untouched = (model.weights[label][start:end] == 0) & (before[start:end] == np.float32(prior))
    assert 0.5 < untouched.mean() < 1, "four to eight slots for each pair of values"
    model.forget()
    np.testing.assert_allclose(model.precision[label][start:end], prior + MEMORY * (before[start:end] - prior), 1e-5)
    np.testing.assert_allclose(model.precision[label][BIAS], PRIOR + MEMORY * (before[BIAS] - PRIOR), 1e-5)


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    day, _ = write_log(tmp_path, 8_000, 7, 2.0)
    encoder = Encoder(FEATURES).grow([day])
    model = learned(day, encoder)
    model.write(tmp_path / "r")
    back = Regression.read(tmp_path / "r", Tasks())
    assert back.conjunctions == model.conjunctions and back.priors == model.priors
    for label in model.weights:
        assert np.array_equal(back.weights[label], model.weights[label])
        assert np.array_equal(back.precision[label], model.precision[label])
    learned(day, encoder, back)
    assert back.conjunctions == model.conjunctions, "a chain's first rows choose once"
    file = tmp_path / "r" / "weights.safetensors"
    file.write_bytes(file.read_bytes().replace(b"conjunctions", b"conjunctionz", 1))
    with pytest.raises(UserError):
        Regression.read(tmp_path / "r", Tasks())


def test_what_is_stored_is_of_slots_that_rows_have(tmp_path: Path) -> None:
    """However the prior of a conjunction is weighed anew, day after day: one of 2 ** 22 slots has 34 MB else."""
    day, _ = write_log(tmp_path / "a", 6_000, 4, 2.0)
    encoder = Encoder(FEATURES).grow([day])
    model = learned(day, encoder)
    for _ in range(3):
        learned(day, encoder, model)
    assert len(set(model.priors["ctr"])) == len(model.conjunctions) > 0
    rows = Design.of(encoder, tables_of(encoder, day), all_rows(day), conjunctions=model.conjunctions)
    used, _ = rows.compact(first_slots(model.conjunctions)[-1])
    assert len(used) < len(model.weights["ctr"]) - SLOTS
    model.write(tmp_path / "r")
    np.testing.assert_array_equal(load_file(tmp_path / "r" / "weights.safetensors")["slot"], used)


def test_a_catalogue_is_ordered_as_its_pairs_are(tmp_path: Path) -> None:
    day, truth = write_log(tmp_path, 12_000, 8, 2.0)
    encoder = Encoder(FEATURES).grow([day])
    on_day = OnDay(learned(day, encoder), encoder, tables_of(encoder, day))
    some, items = np.array([5, 0, 77]), len(day.items)
    rows = pairs(np.repeat(some, items), np.tile(np.arange(items), len(some)))
    logits = on_day.logits(rows)["ctcvr"].reshape(len(some), items)
    found = on_day.catalogue("ctcvr", some)
    np.testing.assert_allclose(logits - found, np.broadcast_to((logits - found)[:, :1], found.shape), atol=1e-5)
    users, ids = by_id(day)
    for each, row in zip(some, found, strict=True):
        assert np.corrcoef(row, truth[users[each]][ids])[0, 1] > 0.8


def test_a_catalogue_costs_what_its_items_have_and_no_vocabulary() -> None:
    """Codes are rows of a vocabulary that grows for ever."""
    of = Conjunction("interests", "genres", 12)
    weights = np.random.default_rng(0).normal(size=1 << of.bits)
    users = Values.of(np.array([[3, 9_000_000], [7, 0]]))
    items = Values.of(np.array([[9_999_999, 5], [5, 0], [0, 0]]))
    out = np.zeros((2, 3))
    tracemalloc.start()
    of.add_products(out, weights, users, items)
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()

    def told(user: list[int], item: list[int]) -> float:
        both = [weights[of.slots(np.array([u]), np.array([i]))[0]] for u in user for i in item]
        return sum(both) / math.sqrt(len(both) or 1)

    expected = [[told(u, i) for i in ([9_999_999, 5], [5], [])] for u in ([3, 9_000_000], [7])]
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_many_cells_are_left_out() -> None:
    """A pair of long lists would cost more than all the rest."""
    rng = np.random.default_rng(0)
    n, size = 3_000, 8
    likes, genre = (np.argsort(rng.random((k, 12)), axis=1)[:, :size] + 1 for k in (200, 60))
    user, item = rng.integers(200, size=n), rng.integers(60, size=n)
    same = (likes[user] == genre[item]).mean(1)
    p = np.full(n, 0.3)
    residuals = [Residuals(rng.random(n) < np.clip(0.1 + 4 * (same - 0.05), 0.01, 0.99), p, np.ones(n))]
    users, items = ({"long": Values.of(x), "short": Values.of(x[:, :2])} for x in (likes, genre))
    paired = Paired(users, items, user, item)
    found = excesses(paired, {"ctr": residuals[0]}, 60)
    assert set(found) == {("long", "short"), ("short", "long"), ("short", "short")}
    assert sum(paired.number(c) for c in chosen(paired, dict.fromkeys(found, 9.0))) <= CELLS
    assert paired.number(Conjunction("long", "long", 9)) > CELLS


def test_slots_lie_one_after_the_other() -> None:
    both = (Conjunction("a", "b", 9), Conjunction("a", "c", 11))
    assert first_slots(both) == [SLOTS, SLOTS + 512, SLOTS + 512 + 2048] and first_slots(()) == [SLOTS]
    made = Regression.new(Tasks(), conjunctions=both, priors={"ctr": (2.0, 3.0), "ctcvr": (4.0, 5.0)})
    assert set(made.precision["ctr"][SLOTS : SLOTS + 512]) == {2.0}
    assert set(made.precision["ctcvr"][SLOTS + 512 :]) == {5.0} and len(made.weights["ctr"]) == SLOTS + 2560


def test_a_design_with_conjunctions_is_what_its_compact_form_is(tmp_path: Path) -> None:
    day, _ = write_log(tmp_path, 2_000, 9, 2.0)
    encoder, rows = Encoder(FEATURES).grow([day]), all_rows(day)
    both = (Conjunction("interests", "genres", 8), Conjunction("user_id", "genres", 12))
    slots = first_slots(both)[-1]
    x = Design.of(encoder, tables_of(encoder, day), rows, conjunctions=both)
    without = Design.of(encoder, tables_of(encoder, day), rows)
    weights = np.random.default_rng(0).normal(size=slots)
    used, small = x.compact(slots)
    np.testing.assert_allclose(small.times(weights[used]), x.times(weights), rtol=1e-12)
    alone = np.zeros(slots)
    alone[:SLOTS] = weights[:SLOTS]
    np.testing.assert_allclose(x.times(alone), without.times(alone))
    per_row = np.random.default_rng(1).normal(size=len(rows))
    np.testing.assert_allclose(x.summed(per_row, slots) @ weights, per_row @ x.times(weights), rtol=1e-9)
    np.testing.assert_allclose(x.squared().summed(per_row, slots)[SLOTS:].sum(), _squares(x, per_row), rtol=1e-9)


def _squares(x: Design, per_row: Array) -> float:
    return float(sum((per_row[row] * value**2).sum() for row, _, value in x.pair.lists))


def test_a_later_day_chooses_and_is_learned_anew(tmp_path: Path) -> None:
    """What the first day is too small to tell. The days before keep what they said of single values."""
    small, _ = write_log(tmp_path / "a", 400, 20, 0.0)
    large, _ = write_log(tmp_path / "b", 12_000, 21, 2.0)
    encoder = Encoder(FEATURES).grow([small, large])
    model = learned(small, encoder)
    assert model.conjunctions == () and model.excesses
    model.write(tmp_path / "r")
    again = Regression.read(tmp_path / "r", Tasks())
    assert again.excesses == model.excesses
    for each in (model, again):
        learned(large, encoder, each)
    assert model.conjunctions and again.conjunctions == model.conjunctions
    assert ("interests", "genres") not in model.excesses, "what there is need not be found again"
    assert len(model.weights["ctr"]) == first_slots(model.conjunctions)[-1] == len(model.precision["ctcvr"])
    rows = all_rows(large).labels
    learned_rows = model.precision["ctr"][BIAS] - PRIOR - MEMORY * (_after(small, encoder)[BIAS] - PRIOR)
    p = rows.click.mean()
    assert learned_rows < 1.1 * p * (1 - p) * len(rows.click), "the day's rows count once"


def test_threads_learn_what_one_does(tmp_path: Path) -> None:
    """Labels side by side, and the tests of conjunctions: to the byte, excesses and their order too."""
    days = [write_log(tmp_path / str(k), n, 20 + k, 2.0 * k)[0] for k, n in enumerate((400, 12_000))]
    encoder, before = Encoder(FEATURES).grow(days), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            model = learned(days[1], encoder, learned(days[0], encoder))
            model.write(tmp_path / f"{threads} threads")
            found.append((tmp_path / f"{threads} threads" / "weights.safetensors").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert model.conjunctions and model.excesses and found[0] == found[1]


def _after(day: Day, encoder: Encoder) -> Array:
    return learned(day, encoder).precision["ctr"]


def test_reads_begin_at_what_clicks_say(tmp_path: Path) -> None:
    """A user whose clicks show a taste is expected to read what they like before they have read any of it."""
    day, truth = write_log(tmp_path, 12_000, 22, 2.0)
    encoder = Encoder(FEATURES).grow([day])
    rows = all_rows(day)
    rng = np.random.default_rng(0)
    few = rows.labels._replace(converted=rows.labels.converted & (rng.random(len(rows)) < 0.01)[:, None])
    model = Regression.new(Tasks())
    regression.learn([model], encoder, tables_of(encoder, day), [dataclasses.replace(rows, labels=few)])
    assert 5 < few.converted.sum() < 60
    users, items = by_id(day)
    on_day = OnDay(model, encoder, tables_of(encoder, day))
    taste = truth - truth.mean(0)
    liked = [
        np.corrcoef(row, taste[users[k]][items])[0, 1] for k, row in enumerate(on_day.catalogue("ctcvr", np.arange(30)))
    ]
    assert np.mean(liked) > 0.6


def test_reads_have_tastes_that_clicks_do_not_have(tmp_path: Path) -> None:
    """Who reads what, where everybody clicks alike: known by the evening of the first day."""
    day, flat = write_log(tmp_path / "a", 12_000, 22, 0.0)
    _, truth = write_log(tmp_path / "b", 10, 22, 2.0)
    users, items = by_id(day)
    encoder, rows = Encoder(FEATURES).grow([day]), all_rows(day)
    taste = (truth - flat)[users][:, items]
    chance = 1 / (1 + np.exp(1.5 - 1.5 * taste[rows.user, rows.item]))
    read = rows.labels.converted & (np.random.default_rng(1).random(len(rows)) < chance)[:, None]
    model = Regression.new(Tasks())
    labels = rows.labels._replace(converted=read)
    regression.learn([model], encoder, tables_of(encoder, day), [dataclasses.replace(rows, labels=labels)])
    at = [(c.user, c.item) for c in model.conjunctions].index(("interests", "genres"))
    assert model.priors["ctr"][at] > 100 > model.priors["ctcvr"][at]
    on_day, some = OnDay(model, encoder, tables_of(encoder, day)), np.arange(30)
    own = (taste - taste.mean(0))[some]
    liked = [np.corrcoef(row, own[k])[0, 1] for k, row in enumerate(on_day.catalogue("ctcvr", some)) if own[k].any()]
    assert np.mean(liked) > 0.6
