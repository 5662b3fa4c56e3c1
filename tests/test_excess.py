"""The test of conjunctions: known answers, noise, and the words of its formula done slowly."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dmtl_cli.teacher import conjunctions, excess
from dmtl_cli.teacher.conjunctions import CELLS, LEAST_Z, PRECISION, Conjunction, Paired, Values, chosen, evidence
from dmtl_cli.teacher.excess import Excess, Residuals, Sums, excesses, sure, with_earlier
from dmtl_cli.teacher.regression import MEMORY

Array = npt.NDArray[Any]


def simulated(rng: np.random.Generator, cells: int, n: int, deviation: float) -> tuple[conjunctions.Cells, Residuals]:
    cell = rng.integers(cells, size=n)
    p = rng.uniform(0.05, 0.4, n)
    weights = deviation * rng.normal(size=cells)
    true = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + weights[cell])))
    x = np.ones(n)
    return (np.arange(n), cell, x), Residuals(rng.random(n) < true, p, rng.choice([0.5, 1.0, 2.0], n))


def sums(cells: conjunctions.Cells, of: Residuals) -> Sums:
    """`Sums` as its words say it: over all pairs of two rows of a cell."""
    row, slot, x = cells
    c, p, y = of.weight[row], of.probable[row], of.label[row]
    out = []
    for each in (c * x * (y - p), c**2 * x**2 * p * (1 - p), c * x**2 * p * (1 - p)):
        by_cell = [each[slot == cell] for cell in np.unique(slot)]
        out.append(sum(float((np.outer(some, some) * (1 - np.eye(len(some)))).sum()) for some in by_cell))
    return Sums(*out)


def of_cells(cells: conjunctions.Cells, of: Residuals) -> Excess:
    """Of cells that are alone: no other rows share one value alone."""
    moments = excess._Moments.of(of)
    found = moments.sums(excess._Cells(*cells))
    return Excess(found.products, 2 * found.variance, found.known, float((moments.pull**2).max()))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_summed_by_cell_is_that_of_all_pairs_of_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (row, slot, _), of = simulated(rng, 40, 300, 0.5)
    cells = rng.permutation(row)[:200], slot[:200], rng.uniform(0.3, 1.0, 200)
    if seed % 2:
        of = of._replace(weight=np.ones(300))
    found = excess._Moments.of(of).sums(excess._Cells(*cells), tastes=True)
    np.testing.assert_allclose(found, sums(cells, of), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("cells", "n"), [(20, 4_000), (3_000, 4_000)])
def test_z_of_nothing_is_standard_and_of_something_is_large(cells: int, n: int) -> None:
    """Also where a cell has a row or two."""
    rng = np.random.default_rng(0)
    found = [of_cells(*simulated(rng, cells, n, 0.0)) for _ in range(300)]
    plain = np.array([each.products / math.sqrt(each.variance) for each in found])
    assert abs(plain.mean()) < 0.15 and abs(plain.std() - 1) < 0.2
    assert all(-10 < each.z <= max(z, 0) for each, z in zip(found, plain, strict=True))
    assert max(each.z for each in found) < LEAST_Z
    assert of_cells(*simulated(rng, 20, n, 0.5)).z > LEAST_Z


def test_a_few_rare_positives_that_meet_are_no_sign() -> None:
    """Two reads of one cell where .02 of a pair were to be expected: of hundreds of conjunctions one has it."""
    n, p = 400, np.full(400, 0.01)
    label = np.arange(n) < 2
    cells = np.arange(n), np.repeat(np.arange(n // 2), 2), np.ones(n)
    found = of_cells(cells, Residuals(label, p, np.ones(n)))
    assert found.products / math.sqrt(found.variance) > LEAST_Z > 2 > found.z > 1


def test_rows_that_were_learned_do_not_hide_what_varies() -> None:
    """A regression that learned the rows leaves smaller residuals than chance: a test of their squares, in cells of few
    rows, sees that alone."""
    rng = np.random.default_rng(3)
    cells, of = simulated(rng, 2_000, 6_000, 0.7)
    near = of._replace(probable=of.probable + 0.05 * (of.label - of.probable))
    assert of_cells(cells, near).z > LEAST_Z


def test_the_precision_is_that_of_the_weights() -> None:
    rng = np.random.default_rng(1)
    for deviation in (0.2, 0.4):
        found = [of_cells(*simulated(rng, 400, 60_000, deviation)).precision for _ in range(5)]
        assert np.median(found) == pytest.approx(deviation**-2, rel=0.2)
    cells, of = simulated(rng, 50, 500, 0.0)
    nothing = of_cells(cells, of._replace(weight=np.zeros(500)))
    assert (nothing.z, nothing.precision) == (0.0, PRECISION[1])


@pytest.mark.parametrize(
    ("own", "clicks", "sure", "found"),
    [
        (16.0, 10_000.0, True, 16.0),
        (16.0, 30.0, False, 30.0),  # no looser than clicks' weights vary, for all that is known
        (50.0, 30.0, True, 50.0),
        (50.0, 30.0, False, 50.0),
    ],
)
def test_the_precision_of_reads_around_clicks(own: float, clicks: float, sure: bool, found: float) -> None:
    def varying(precision: float, z: float) -> Excess:
        return Excess(products=9.0, variance=81 / z**2, known=9.0 * precision, most=0.0)

    mine = varying(own, LEAST_Z + 0.1 if sure else LEAST_Z - 0.1)
    assert mine.precision == pytest.approx(own)
    assert mine.around(varying(clicks, 1.0)) == pytest.approx(found)


def crossed(rng: np.random.Generator, n: int, effects: tuple[float, float, float]) -> Excess:
    """Of rows of 300 users and of 240 items of 12 genres, with effects of the user, of the genre, of both, that a
    regression knows nothing of."""
    user, item = rng.integers(300, size=n), rng.integers(240, size=n)
    genre = item % 12
    of_user, of_genre, of_both = (d * rng.normal(size=k) for d, k in zip(effects, (300, 12, 3_600), strict=True))
    logit = -1 + of_user[user] + of_genre[genre] + of_both[user * 12 + genre]
    label = rng.random(n) < 1 / (1 + np.exp(-logit))
    residuals = {"ctr": Residuals(label, np.full(n, label.mean()), np.ones(n))}
    users, items = {"a": Values.of(np.arange(1, 301)[:, None])}, {"b": Values.of(1 + np.arange(240)[:, None] % 12)}
    (found,) = excesses(Paired(users, items, user, item), residuals, 240).values()
    return found["ctr"]


def test_who_clicks_more_whatever_it_is_is_no_taste() -> None:
    """Rows of one user are alike where a regression has not learned yet how much they click, and so are those of a
    genre; rows of both are more alike only where the two say something together."""
    rng = np.random.default_rng(11)
    alone = np.array(
        [x.products / math.sqrt(x.variance) for x in (crossed(rng, 4_000, (0.5, 0.5, 0)) for _ in range(60))]
    )
    assert abs(alone.mean()) < 0.6 and alone.max() < LEAST_Z
    both = [crossed(rng, 20_000, (0.5, 0.5, 0.6)) for _ in range(5)]
    assert all(x.z > 2 * LEAST_Z for x in both)
    assert np.median([x.precision for x in both]) == pytest.approx(0.6**-2, rel=0.35)


def test_days_add_up() -> None:
    """What no day shows by itself, five do; of noise they show nothing."""
    rng = np.random.default_rng(5)

    def after(deviation: float) -> tuple[float, float]:
        days = [of_cells(*simulated(rng, 800, 3_000, deviation)) for _ in range(5)]
        whole = days[0]
        for each in days[1:]:
            whole = each.after(whole, MEMORY)
        return max(each.z for each in days), whole.z

    some = [after(0.5) for _ in range(20)]
    assert np.mean([whole for _, whole in some]) > LEAST_Z > np.mean([alone for alone, _ in some])
    assert max(whole for _, whole in [after(0.0) for _ in range(40)]) < LEAST_Z


def test_evidence_finds_the_variance_of_weights() -> None:
    """Of weights with observations of known precision, shrunk as a posterior is."""
    rng = np.random.default_rng(2)
    true, noise, prior = 0.5 * rng.normal(size=4_000), 3.0, 40.0
    for _ in range(30):
        precision = np.full(4_000, prior + noise)
        seen = true + rng.normal(size=4_000) / math.sqrt(noise)
        prior = evidence(noise * seen / precision, precision, prior)
    assert prior == pytest.approx(4.0, rel=0.25)
    assert evidence(np.zeros(9), np.full(9, 7.0), 7.0) == 7.0, "no rows say nothing"
    assert evidence(np.zeros(900), np.full(900, 70.0), 7.0) == PRECISION[1]


def slowly(paired: Paired, residuals: list[Residuals], items: int) -> dict[tuple[str, str], list[float]]:
    """z of each conjunction that may be one and of each label, from the cells of both values and of each alone."""
    found = {}
    owner = paired.users["id"].codes[paired.user_index]
    pair = owner * 1_000 + paired.item_index
    for item in paired.items:
        if 1 < len(np.unique(paired.items[item].codes)) <= items / 2:
            for user in paired.users:
                lists = max(values.count.max() for values in (paired.users[user], paired.items[item])) > 1
                of = Conjunction(user, item, 22 if lists else 40)  # slots of lists may be shared
                if paired.number(of) <= CELLS:
                    cells = [paired.cells(of), alone(paired.users[user], paired.user_index)]
                    cells.append(alone(paired.items[item], paired.item_index))
                    of_user = paired.users[user].scale[paired.user_index][cells[0][0]]
                    of_item = paired.items[item].scale[paired.item_index][cells[0][0]]
                    whose = pair if user == "id" else owner
                    found[user, item] = [slow_z(cells, each, whose, of_user, of_item) for each in residuals]
    return found


def alone(values: Values, index: Array) -> conjunctions.Cells:
    mine = [values.codes[s : s + k] for s, k in zip(values.start[index], values.count[index], strict=True)]
    row = np.repeat(np.arange(len(index)), values.count[index])
    return row, np.concatenate(mine).astype(np.int64), 1 / np.sqrt(values.count[index][row])


def slow_z(cells: list[conjunctions.Cells], of: Residuals, owner: Array, of_user: Array, of_item: Array) -> float:
    """`Excess` as its words say it, of pairs of rows of two owners: effects of the user's, or item's, values give 0.

    Args:
        cells: of both values, of the user's, of the item's.
        of_user, of_item: the two parts of the value of each cell of both.
    """
    c, p = of.weight, of.probable
    known, pull = c * p * (1 - p), c * (of.label - p)

    def pairs(each: conjunctions.Cells, value: Array) -> float:
        parts = each[1], each[1] * 1_000_000 + owner[each[0]]
        whole, own = (np.bincount(np.unique(part, return_inverse=True)[1], value) for part in parts)
        return float((whole**2).sum() - (own**2).sum())

    both = cells[0]
    s, s_u, s_i = (pairs(each, pull[each[0]] * each[2]) for each in cells)
    k, k_u, k_i = (pairs(each, known[each[0]] * each[2] ** 2) for each in cells)
    v, v_u, v_i = (pairs(each, (c * known)[each[0]] * each[2] ** 2) for each in cells)
    of_row = known[both[0]] * both[2]
    b_u, b_i, d = (pairs(both, of_row * x) for x in (of_user, of_item, 1.0))
    system = np.array([[k_u, d], [d, k_i]])
    if k <= 0 or np.linalg.det(system) <= 1e-9 * k_u * k_i:
        return 0.0
    a, b = np.linalg.solve(system, [b_u, b_i])
    variance = 2 * ((1 - a - b) ** 2 * v + a**2 * (v_u - v) + b**2 * (v_i - v))
    mine, part = pull[both[0]] * both[2], np.unique(both[1] * 1_000_000 + owner[both[0]], return_inverse=True)[1]
    alike = mine * (np.bincount(part, mine)[part] - mine)  # with the owner's other rows of the cell
    taste, whole = (pairs(both, alike + chance) for chance in (0.0, (c * known)[both[0]] * both[2] ** 2))
    variance *= (max(whole - taste, v) + max(taste, 0.0)) / v
    products = s - a * s_u - b * s_i
    spread = variance + 2 * float((pull**2).max()) * max(products, 0.0) / 3
    return float(products / math.sqrt(spread)) if spread > 0 else 0.0


def values(rng: np.random.Generator, n: int, of: int, most: int, unknown: float) -> Values:
    """Up to `most` of so many values each; a share of them is unknown."""
    codes = rng.integers(1, of + 1, (n, most)) * (np.arange(most) < rng.integers(1, most + 1, n)[:, None])
    return Values.of(np.where(rng.random((n, most)) < unknown, 0, codes))


@pytest.mark.parametrize("seed", range(6))
def test_all_that_may_be_conjoined_is_tested_as_told(seed: int) -> None:
    """Of single values with few pairs and with many, of lists, and of values that some rows lack."""
    rng = np.random.default_rng(seed)
    n, of_users, of_items = 20_000, 700, 300
    shapes = {"id": (700, 1, 0.0), "few": (6, 1, 0.0), "some": (9, 1, 0.3), "long": (9, 4, 0.0), "none": (5, 1, 1.0)}
    users = {name: values(rng, of_users, *shape) for name, shape in shapes.items()}
    shapes = {"item": (300, 1, 0.0), "brand": (12, 1, 0.0), "tag": (30, 1, 0.2), "tags": (12, 3, 0.1), "one": (1, 1, 0)}
    items = {name: values(rng, of_items, *shape) for name, shape in shapes.items()}
    user, item = rng.integers(of_users, size=n), rng.integers(of_items, size=n)
    paired = Paired(users, items, user, item)
    p, logit = rng.uniform(0.05, 0.6, n), np.zeros(n)
    for a, b in (("few", "brand"), ("some", "tag"), ("long", "tags"), ("id", "brand")):
        row, slot, x = paired.cells(Conjunction(a, b, 18))
        weight = (seed % 3) * 0.25 * rng.normal(size=1 << 18)
        logit += np.bincount(row, weight[slot] * x, minlength=n)
    clicked = rng.random(n) < 1 / (1 + np.exp(-np.log(p / (1 - p)) - logit))
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], n)
    residuals = [Residuals(clicked, p, weights), Residuals(clicked & (rng.random(n) < 0.5), p / 2, np.ones(n))]
    by_label = {str(k): each for k, each in enumerate(residuals)}
    found = excesses(paired, by_label, of_items)
    slow = slowly(paired, residuals, of_items)
    assert found.keys() == slow.keys()
    for name, each in found.items():
        np.testing.assert_allclose([x.z for x in each.values()], slow[name], atol=1e-6, err_msg=str(name))
    names = [(c.user, c.item) for c in chosen(paired, sure(paired, found))]
    expected = {name for name, z in slow.items() if max(z) > LEAST_Z}
    assert set(names) <= expected
    assert bool(names) == bool(seed % 3), "noise chooses nothing"


def test_a_value_that_nearly_all_users_have_is_no_taste_for_many_items() -> None:
    """A handful of rows tells what a brand does to other users, and two brands in one slot would be as many."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, users, brands = 12_000, 8_000, 3_000
        group = np.where(rng.random(users) < 0.995, 1, rng.integers(2, 18, users))
        user, item = rng.integers(users, size=n), rng.integers(brands, size=n)
        paired = Paired(
            {"id": Values.of(np.arange(1, users + 1)[:, None]), "group": Values.of(group[:, None])},
            {"brand": Values.of(np.arange(1, brands + 1)[:, None])},
            user,
            item,
        )
        label = rng.random(n) < 1 / (1 + np.exp(1 - 0.7 * rng.normal(size=brands)[item]))
        by_label = excesses(paired, {"ctr": Residuals(label, np.full(n, label.mean()), np.ones(n))}, 2 * brands)
        found.append(by_label["group", "brand"]["ctr"])
    assert min(each.known for each in found) > 0
    assert max(each.z for each in found) < LEAST_Z and abs(np.mean([each.z for each in found])) < 1


def test_slots_that_cells_share_leave_nothing_to_tell() -> None:
    """More pairs of rows seem to share both values than share the item's: what was once taken for a z of 4."""
    both, user, item = (Sums(p, k, k, k, k, k) for p, k in ((-129.7, 1068.6), (-699.5, 612_981.0), (-138.7, 1053.7)))
    found = Excess.of(both, user, item, 0.98)
    assert (found.z, found.precision) == (0.0, PRECISION[1])


def ridge(x: Array, label: Array, precision: float) -> Array:
    """Probabilities of a logistic regression [n] of x [n, k], by Newton's steps."""
    w = np.zeros(x.shape[1])
    for _ in range(15):
        p = 1 / (1 + np.exp(-x @ w))
        slope = x.T @ (p - label) + precision * w
        w -= np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + precision * np.eye(len(w)), slope)
    return np.asarray(1 / (1 + np.exp(-x @ w)))


@pytest.mark.parametrize("genres", [1, 3])
def test_users_who_click_more_have_no_taste_for_lists_either(genres: int) -> None:
    """Of items with several genres each cell has a part of a row; who clicks much still does so whatever the genre."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n, users, items = 4_000, 300, 200
        of_item = np.argsort(rng.random((items, 12)), axis=1)[:, :genres] + 1
        user, item = rng.integers(users, size=n), rng.integers(items, size=n)
        label = rng.random(n) < 1 / (1 + np.exp(1.5 - rng.normal(size=users)[user]))
        x = np.zeros((n, 1 + users + 12))
        x[:, 0] = x[np.arange(n), 1 + user] = 1
        np.add.at(x, (np.arange(n)[:, None], users + of_item[item]), 1 / genres)
        residuals = {"ctr": Residuals(label, ridge(x, label, 10.0), np.ones(n))}
        paired = Paired({"id": Values.of(np.arange(1, users + 1)[:, None])}, {"genres": Values.of(of_item)}, user, item)
        (by_label,) = excesses(paired, residuals, items).values()
        found.append(by_label["ctr"].products / math.sqrt(by_label["ctr"].variance))
    assert abs(np.mean(found)) < 1.5 and max(found) < LEAST_Z


def by_age(unknown: float, rng: np.random.Generator, effect: float) -> Excess:
    """Of ages and genres, with so many users whose id is unknown."""
    n, users = 20_000, 2_000
    age, genre = rng.integers(1, 6, users), rng.integers(1, 9, 100)
    ids = np.where(rng.random(users) < unknown, 0, np.arange(1, users + 1))
    user, item = rng.integers(users, size=n), rng.integers(100, size=n)
    likes = effect * rng.normal(size=(6, 9))
    label = rng.random(n) < 1 / (1 + np.exp(1 - likes[age[user], genre[item]]))
    paired = Paired(
        {"id": Values.of(ids[:, None]), "age": Values.of(age[:, None])},
        {"genre": Values.of(genre[:, None])},
        user,
        item,
    )
    residuals = {"ctr": Residuals(label, np.full(n, label.mean()), np.ones(n))}
    return excesses(paired, residuals, 100)["age", "genre"]["ctr"]


def test_users_without_an_id_are_users_each() -> None:
    z = [by_age(unknown, np.random.default_rng(0), 0.5).z for unknown in (0.0, 0.4, 0.9, 1.0)]
    assert min(z) > 0.8 * max(z) > LEAST_Z


def test_tastes_of_a_few_users_are_not_their_ages() -> None:
    rng = np.random.default_rng(4)
    n, users = 30_000, 60
    age, genre = rng.integers(1, 4, users), rng.integers(1, 9, 100)
    likes = 1.5 * rng.normal(size=(users, 9))
    user, item = rng.integers(users, size=n), rng.integers(100, size=n)
    label = rng.random(n) < 1 / (1 + np.exp(1 - likes[user, genre[item]]))
    ids = {"id": Values.of(np.arange(1, users + 1)[:, None]), "age": Values.of(age[:, None])}
    residuals = {"ctr": Residuals(label, np.full(n, label.mean()), np.ones(n))}
    found = excesses(Paired(ids, {"genre": Values.of(genre[:, None])}, user, item), residuals, 100)
    assert found["id", "genre"]["ctr"].z > 10 * LEAST_Z
    assert found["age", "genre"]["ctr"].z < LEAST_Z


def of_days(rng: np.random.Generator, shape: tuple[int, int], days: int, *, effect: float, taste: float) -> Excess:
    """Of the ages and genres of so many users with so many rows a day, who have tastes of their own.

    Args:
        effect: deviation of what an age and a genre say together, of logits.
        taste: of what a user and a genre do, whatever the age.
    """
    users, genres, age = np.arange(shape[0]), np.arange(240) % 8, rng.integers(1, 6, shape[0])
    likes = (effect * rng.normal(size=(6, 8)))[age] + taste * rng.normal(size=(len(users), 8))
    values = {"id": Values.of(1 + users[:, None]), "age": Values.of(age[:, None])}
    whole = None
    for _ in range(days):
        user, item = rng.permutation(np.repeat(users, shape[1])), rng.integers(240, size=shape[0] * shape[1])
        label = rng.random(len(user)) < 1 / (1 + np.exp(1.5 - likes[user, genres[item]]))
        residuals = {"ctr": Residuals(label, np.full(len(user), label.mean()), np.ones(len(user)))}
        paired = Paired(values, {"genre": Values.of(1 + genres[:, None])}, user, item)
        x = excesses(paired, residuals, 240)["age", "genre"]["ctr"]
        whole = x.after(whole, MEMORY) if whole else x
    assert whole
    return whole


@pytest.mark.parametrize(("shape", "days"), [((150, 160), 1), ((150, 60), 8), ((150, 10), 8)])
def test_z_is_standard_where_users_have_tastes_of_their_own(shape: tuple[int, int], days: int) -> None:
    """Rows of a user are alike for the user's own tastes, on each day again: they are no independent rows."""
    rng = np.random.default_rng(0)
    z = np.array([of_days(rng, shape, days, effect=0.0, taste=0.7).z for _ in range(40)])
    assert 0.6 < z.std() < 1.2 and z.max() < LEAST_Z


def test_what_an_age_likes_is_found_beside_what_its_users_do() -> None:
    rng = np.random.default_rng(1)
    z = [[of_days(rng, (300, 30), days, effect=0.3, taste=0.5).z for days in (1, 5)] for _ in range(8)]
    one, five = np.median(z, axis=0)
    assert five > 1.5 * one > 1.5 * LEAST_Z


def test_an_item_that_a_user_likes_is_no_taste_for_its_genre() -> None:
    """Nor is it counted again and again where it is shown again and again."""
    rng = np.random.default_rng(6)
    users, items, n = 300, 60, 12_000
    genre = rng.integers(1, 6, items)
    likes = 1.5 * rng.normal(size=(users, items))
    user, item = rng.integers(users, size=n), rng.integers(items, size=n)
    label = rng.random(n) < 1 / (1 + np.exp(1 - likes[user, item]))
    paired = Paired(
        {"id": Values.of(np.arange(1, users + 1)[:, None])}, {"genre": Values.of(genre[:, None])}, user, item
    )
    (found,) = excesses(paired, {"ctr": Residuals(label, np.full(n, label.mean()), np.ones(n))}, items).values()
    assert abs(found["ctr"].z) < LEAST_Z


def test_rows_that_share_several_cells_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of three of sixteen values on both sides: nothing is there, and z of it is standard."""
    z = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = 3_000
        users, items = (Values.of(np.argsort(rng.random((k, 16)), axis=1)[:, :3] + 1) for k in (400, 60))
        user, item = rng.integers(400, size=n), rng.integers(60, size=n)
        paired = Paired({"likes": users}, {"tags": items}, user, item)
        p = rng.uniform(0.1, 0.5, n)
        found = excesses(paired, {"ctr": Residuals(rng.random(n) < p, p, np.ones(n))}, 60)
        x = found["likes", "tags"]["ctr"]
        z.append(x.products / math.sqrt(x.variance * excess._overlap(paired, ("likes", "tags"))))
    assert np.std(z) < 1.3 and max(map(abs, z)) < 3
    whole = excess._overlap(paired, ("likes", "tags"))
    monkeypatch.setattr(excess, "_OVERLAPS", 81 * 1_000)
    part = excess._overlap(paired, ("likes", "tags"))
    assert whole > 1.2 and part == pytest.approx(whole, rel=0.05) and part != whole, "a part of the rows will do"


def test_a_day_without_a_candidate_keeps_what_is_known() -> None:
    values = {"a": Values.of(np.array([[1], [2]])), "b": Values.of(np.array([[1], [2]]))}
    paired = Paired(values, values, np.zeros(0, np.int64), np.zeros(0, np.int64))
    one, two = Excess(8.0, 4.0, 2.0, 1.0), Excess(1.0, 1.0, 1.0, 0.5)
    earlier = {("a", "b"): {"ctr": one}, ("b", "a"): {"ctr": one}, ("gone", "b"): {"ctr": one}}
    found = with_earlier({("a", "b"): {"ctr": two}}, earlier, paired, 0.5)
    assert found == {("a", "b"): {"ctr": Excess(5.0, 2.0, 2.0, 1.0)}, ("b", "a"): {"ctr": Excess(4.0, 1.0, 1.0, 1.0)}}
