"""Pairs without a context: what training hides, what teacher and regression make of it, what a dump stores."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.stats import spearmanr
from test_models import CONTEXT, CPU, ITEM, USER, a_day, a_teacher, encoder_of, raw_items, raw_users
from worlds import BASE, DAYS, Project

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import Tasks
from dmtl_cli.data.days import Days
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.nn.batches import Batcher, Tables, hidden_context, with_known
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.ranks import Ranks
from dmtl_cli.runs.run import Run
from dmtl_cli.scores.calibration import log_sigmoid
from dmtl_cli.teacher.calibrate import Trained, held_out_logits
from dmtl_cli.teacher.factors import Factors
from dmtl_cli.teacher.frozen import FrozenTeacher, Scorer
from dmtl_cli.teacher.hashed import BIAS, slots_of
from dmtl_cli.teacher.labels import labelled
from dmtl_cli.teacher.regression import MOST, Regression
from dmtl_cli.teacher.rows import HoldOut, Window

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# -- batches -----------------------------------------------------------------------------------------------------------


def rows_of(n: int, seed: int = 0) -> Rows[None]:
    rng = np.random.default_rng(seed)
    features = pl.DataFrame({"hour": rng.integers(0, 10, n), "age": rng.random(n) * 30})
    return pairs(rng.integers(5, size=n), rng.integers(8, size=n), features)


def batcher(share: float, *features: Any, ranks: Ranks | None = None, seed: int = 3) -> Batcher:
    encoder = encoder_of(*USER, *ITEM, *features)
    day = a_day(raw_users(), raw_items())
    tables = Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
    more = {"ranks": ranks} if ranks else {}
    return Batcher(encoder, tables, CPU, context_dropout=share, rng=np.random.default_rng(seed), **more)  # type: ignore[arg-type]


def test_as_many_contexts_are_hidden_as_asked_and_the_same_each_time() -> None:
    rows = rows_of(5_000)
    one, again, none = (batcher(share, *CONTEXT).batch(rows).context for share in (0.2, 0.2, 0.0))
    assert one.floats.shape[1] == 1 and one.ids.shape[1] == 2
    known = one.floats[:, -1].bool()
    assert 0.78 < known.float().mean() < 0.82, "of 5,000 within 3.5 standard errors"
    assert one.ids.equal(again.ids) and one.floats.equal(again.floats)
    assert none.floats.eq(1).all() and one.ids[known].equal(none.ids[known]), "what is not hidden is as it was"
    assert one.ids[~known].eq(0).all() and none.ids[~known].ne(0).any()


def test_a_hidden_context_is_the_one_of_rows_without_features() -> None:
    some = batcher(1.0, *CONTEXT)
    dropped = some.batch(rows_of(50)).context
    hidden, given = hidden_context(some.encoder, 50), some.batch(pairs(np.zeros(50), np.zeros(50))).context
    for context in (dropped, given):
        assert np.array_equal(context.ids, hidden.ids) and np.array_equal(context.floats, hidden.floats)
    assert not hidden.floats.any() and not hidden.ids.any()


def test_without_a_context_nothing_is_drawn_and_nothing_is_added() -> None:
    some = batcher(0.5)
    before = some.rng.bit_generator.state if some.rng else None
    context = some.batch(rows_of(40)).context
    assert context.floats.shape == (40, 0) == hidden_context(some.encoder, 40).floats.shape
    assert some.rng and some.rng.bit_generator.state == before


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 40), size=st.integers(1, 5))
def test_the_same_rows_are_hidden_whatever_the_ranks(n: int, size: int) -> None:
    rows = rows_of(n, seed=n)
    alone = [b.context for b in batcher(0.4, *CONTEXT).batches(iter([rows, rows]), n + 1)]
    shared = [
        [b.context for b in batcher(0.4, *CONTEXT, ranks=Ranks(k, size)).batches(iter([rows, rows]), n + 1)]
        for k in range(size)
    ]
    for k, whole in enumerate(alone):
        parts = [part[k] for part in shared]
        assert np.array_equal(np.concatenate([p.floats for p in parts]), whole.floats)
        assert np.array_equal(np.concatenate([p.ids for p in parts]), whole.ids)


def test_every_part_of_a_hidden_context_is_row_0_or_nothing() -> None:
    whole = Encoded(
        np.array([[3], [4]], np.int32), (np.array([[5, 6], [7, 0]], np.int32),), np.array([[0.5], [2.0]], np.float32)
    )
    found = with_known(whole, np.array([True, False]))
    assert found.ids.tolist() == [[3], [0]] and found.sequences[0].tolist() == [[5, 6], [0, 0]]
    assert found.floats.tolist() == [[0.5, 1.0], [0.0, 0.0]] and found.floats.dtype == np.float32
    assert found.ids.dtype == found.sequences[0].dtype == np.int32


# -- a log whose items have a price of their own and one of the moment -------------------------------------------------
# log-odds of a click: quality + 3 (base price - price of the moment), which is around the base price. So without the
# moment's price the base price says nothing, while a model that always sees both learns a weight of 3 for it.

ITEMS, N = 60, 20_000
FEATURES = [
    {"name": "user_id", "side": "user", "kind": "categorical"},
    {"name": "base", "side": "item", "kind": "numeric"},
    {"name": "quality", "side": "item", "kind": "numeric"},
    {"name": "price", "side": "context", "kind": "numeric"},
]


def write_prices(root: Path, days: int = 2) -> Path:
    world = np.random.default_rng(0)
    base, quality = world.normal(size=ITEMS), world.normal(size=ITEMS)
    for k, day in enumerate(DAYS[:days]):
        rng = np.random.default_rng(k + 1)
        item = rng.integers(ITEMS, size=N)
        price = base[item] + 0.5 * rng.normal(size=N)
        click = rng.random(N) < 1 / (1 + np.exp(0.5 - quality[item] - 3 * (base[item] - price)))
        frame = {
            "user_id": rng.integers(30, size=N),
            "item_id": item,
            "request_id": np.arange(N) // 4,
            "click": click.astype(int),
            "read_seconds": np.where(rng.random(N) < 0.4, 60.0, 5.0),
            "base": base[item],
            "quality": quality[item],
            "price": price,
        }
        (folder := root / "events" / f"day={day}").mkdir(parents=True)
        pl.DataFrame(frame).write_parquet(folder / "a.parquet")
    return root


class Opened(NamedTuple):
    run: Run
    day: Day
    folder: Path
    facts: dict[str, Any]
    teacher: FrozenTeacher


def opened(project: Project, scratch: Path, *, day: int, of: int = 1) -> Opened:
    """A day of the log with the teacher of day `of`."""
    run = Run.start(load_config(project.file), RunLog())
    read = Days(run, run.config.features).read(dt.date.fromisoformat(DAYS[day - 1]), scratch, run.ranks)
    folder = Path(project.call("path", "teacher", "--day", DAYS[of - 1]).out.strip())
    manifest = Manifest.read(folder / "manifest.json")
    return Opened(run, read, folder, manifest.facts, FrozenTeacher(folder, manifest, run.device, run.config))


def prices(home: Path, log: Path, features: list[dict[str, Any]] = FEATURES, **teacher: Any) -> Project:
    data = {"events": {k: v for k, v in BASE["data"]["events"].items() if k != "time"}}
    config = BASE | {"data": data, "features": features, "labels": {"long_read": 20}}
    return Project.create(
        home, log, config=config | {"teacher": BASE["teacher"] | {"epochs": 3, "learning_rate": 0.01} | teacher}
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prices(tmp_path_factory.mktemp("prices"))


@pytest.fixture(scope="module")
def project(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The defaults: some contexts hidden, the regression blended in; two teachers and a dump of each day's pairs."""
    made = prices(tmp_path_factory.mktemp("default"), log)
    for day in (1, 2):
        made.done("train-teacher", day)
    made.done("dump-logits", 1)
    return made


def order(scorer: Scorer) -> tuple[float, float]:
    """Spearman's rho of a user's catalogue with the items' quality, and with their base price."""
    (logits,) = scorer.catalogue(np.array([3]))
    items = scorer.day.items
    return tuple(float(spearmanr(logits[:, 0], items[name].to_numpy()).statistic) for name in ("quality", "base"))  # type: ignore[return-value]


def test_a_catalogue_is_in_the_right_order_only_if_contexts_were_hidden(
    project: Project, log: Path, tmp_path: Path
) -> None:
    at = opened(project, tmp_path, day=2)
    network = Scorer(at.teacher.encoder, at.teacher.model, at.day, at.run.device)
    for scorer in (network, at.teacher.on(at.day)):
        quality, base = order(scorer)
        assert quality > 0.9 and abs(base) < 0.4
    seeing = prices(tmp_path / "seeing", log, context_dropout=0.0, blend_regression=False)
    seeing.done("train-teacher", 1)
    quality, base = order(opened(seeing, tmp_path / "seeing", day=2).teacher.on(at.day))
    assert quality < 0.6 and base > 0.7, "it takes the base price for a bargain"


# -- the regression ----------------------------------------------------------------------------------------------------


def test_a_regression_without_context_is_a_plain_one_of_users_and_items(project: Project, tmp_path: Path) -> None:
    """Beside Newton steps on dense rows of user, base price and quality."""
    at = opened(project, tmp_path, day=1)
    hold_out = HoldOut.of(at.run.config, len(at.day))
    (block,) = at.day.blocks()
    kept = np.flatnonzero(hold_out.kept(at.day, block))
    encoder = at.teacher.encoder
    users, items = encoder.entities(at.day, "user"), encoder.entities(at.day, "item")
    one_hot = np.eye(users.ids.max() + 1)[users.ids[block.user[kept], 0]]
    x = np.concatenate([np.ones((len(kept), 1)), one_hot, items.floats[block.item[kept]]], 1)
    y = block.click[kept].astype(float)
    w = np.zeros(x.shape[1])
    w[0] = math.log(y.mean() / (1 - y.mean()))
    start = w.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (p - y) + 10 * (w - start)
        w -= np.linalg.solve((x.T * (p * (1 - p))) @ x + 10 * np.eye(len(w)), gradient)
    found = Regression.read(at.folder / "regression", Tasks(), context=False)
    slots = [BIAS, *slots_of("user_id", np.arange(one_hot.shape[1])), *slots_of("base", np.zeros(1))]
    slots += [*slots_of("quality", np.zeros(1))]
    np.testing.assert_allclose(x @ found.weights["ctr"][slots], x @ w, atol=0.02)
    np.testing.assert_allclose(found.weights["ctr"][slots], w, atol=0.03)
    assert abs(w[-2]) < 0.1 and 0.5 < w[-1] < 1, "the base price says nothing, quality much"
    seeing = Regression.read(at.folder / "regression", Tasks())
    assert seeing.weights["ctr"][slots[-2]] > 1.5, "where it is held against a price it says much"


def test_each_regression_has_a_file_and_goes_on_from_its_own(project: Project, log: Path, tmp_path: Path) -> None:
    runs = [opened(project, tmp_path, day=1, of=k).folder for k in (1, 2)]
    price = int(slots_of("price", np.zeros(1))[0])
    stored = {
        name: [load_file(run / "regression" / f"{name}.safetensors") for run in runs]
        for name in ("weights", "no_context")
    }
    for name, (one, two) in stored.items():
        assert {f"{x}.weight" for x in ("ctr", "ctcvr")} < set(one)
        assert (price in one["slot"]) == (price in two["slot"]) == (name == "weights")
        sure = [x["ctr.precision"][x["slot"] == BIAS][0] for x in (one, two)]
        assert 1.5 * sure[0] < sure[1] < 2.1 * sure[0], "warm from the day before"
    plain = prices(tmp_path / "plain", log, FEATURES[:3])
    plain.done("train-teacher", 1)
    at = opened(plain, tmp_path, day=1)
    assert [f.name for f in (at.folder / "regression").iterdir()] == ["weights.safetensors"]
    assert at.facts["no_context"] == {k: at.facts[k] for k in ("factors", "blend", "calibration")}
    assert at.teacher.no_context.calibration == at.teacher.in_context.calibration
    scorer, some = at.teacher.on(at.day), pairs(np.arange(20), np.arange(20))
    assert np.array_equal(scorer.pairs(some), scorer.lists(some))
    beside = at.teacher.no_context.beside
    assert beside and beside[0].context and np.abs(beside[0].weights["ctr"]).sum() > 1


# -- the last steps ----------------------------------------------------------------------------------------------------


def test_facts_of_both_kinds_and_what_is_scored_is_probable(project: Project, tmp_path: Path) -> None:
    facts = opened(project, tmp_path, day=1).facts
    for kind in (facts, facts["no_context"]):
        assert set(kind["blend"]) == set(kind["calibration"]) == {"ctr", "cvr"}
        assert all(0 <= x["share"] <= 1 and len(x["losses"]) == 11 for x in kind["blend"].values())
    assert facts["no_context"]["calibration"] != facts["calibration"]
    assert facts["no_context"]["blend"] != facts["blend"]
    for day in (1, 2):  # the held-out rows, and those of the next day
        at = opened(project, tmp_path, day=day)
        (block,) = at.day.blocks()
        rows = labelled(block, 20.0)
        if day == 1:
            rows = rows.take(np.flatnonzero(HoldOut.of(at.run.config, len(at.day)).held(at.day, block)))
        click, converted = rows.labels.click, rows.labels.converted[:, 0]
        scorer = at.teacher.on(at.day)
        for kind, logits in (("in_context", scorer.pairs(rows)), ("no_context", scorer.lists(rows))):
            calibration = getattr(at.teacher, kind).calibration
            p = [np.exp(calibration[task].log_prob(logits[:, k])) for k, task in enumerate(("ctr", "cvr"))]
            assert p[0].sum() / click.sum() == pytest.approx(1, abs=0.08), (day, kind)
            assert p[1][click].sum() / converted[click].sum() == pytest.approx(1, abs=0.15), (day, kind)


def test_the_second_day_goes_on_from_the_first_ones_facts(project: Project, tmp_path: Path) -> None:
    one, two = (opened(project, tmp_path, day=2, of=k) for k in (1, 2))
    hold_out = HoldOut.of(two.run.config, len(two.day))
    encoder = two.teacher.encoder
    tables = Tables(encoder.entities(two.day, "user"), encoder.entities(two.day, "item"))
    window = Window([two.day], 20.0, hold_out)
    trained = Trained(encoder, two.teacher.model, window, tables, None)
    for context, before, after in ((True, one.facts, two.facts), (False, *(x.facts["no_context"] for x in (one, two)))):
        heads = held_out_logits(two.run, trained, context=context)
        learned = Regression.read(two.folder / "regression", Tasks(), context=context)
        beside, _ = learned.held_out(encoder, tables, window)
        factors = Factors.from_dict(after["factors"])
        network = {task: factors.of_rows(task, *(x[task] for x in heads)) for task in ("ctr", "cvr")}
        for task in ("ctr", "cvr"):
            assert np.array_equal(network[task].label, beside[task].label), "the same rows in the same order"
            mixed = [plain_loss(network[task], beside[task], s / 10) for s in range(11)]
            expected = 0.8 * np.array(before["blend"][task]["losses"]) + np.array(mixed) - min(mixed)
            np.testing.assert_allclose(after["blend"][task]["losses"], expected, atol=0.3)


def plain_loss(network: Any, regression: Any, share: float) -> float:
    """The log loss after the intercept and slope of least loss plus their prior's part, by Newton steps."""
    x = (1 - share) * network.logit.astype(np.float64) + share * regression.logit
    x = np.stack([x, np.ones(len(x))], 1)
    prior, theta = np.diag([0.3**-2, 10.0**-2]), np.array([1.0, 0.0])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ theta))
        gradient = x.T @ (p - regression.label) + prior @ (theta - [1, 0])
        theta = theta - np.linalg.solve((x.T * (p * (1 - p))) @ x + prior, gradient)
    p = 1 / (1 + np.exp(-x @ theta))
    return float(-np.log(np.where(regression.label, p, 1 - p)).sum())


def test_stored_scores_are_blended_and_calibrated_by_hand(project: Project, tmp_path: Path) -> None:
    at = opened(project, tmp_path, day=1)
    folder = Path(project.call("path", "scores", "--day", DAYS[0]).out.strip())
    dump = pl.concat([pl.read_parquet(p, hive_partitioning=False) for p in sorted(folder.glob("part-*.parquet"))])
    assert set(dump["pair_source"]) == {"exposed", "negative"}
    users, items = (dict(zip(x[ID].to_list(), range(len(x)), strict=True)) for x in (at.day.users, at.day.items))
    u = np.array([users[x] for x in dump["user_id"]])
    i = np.array([items[x] for x in dump["item_id"]])
    heads = Scorer(at.teacher.encoder, at.teacher.model, at.day, at.run.device).lists(pairs(u, i))
    stored = load_file(at.folder / "regression" / "no_context.safetensors")
    encoder, no_context = at.teacher.encoder, at.facts["no_context"]
    e_user, e_item = encoder.entities(at.day, "user"), encoder.entities(at.day, "item")
    p, labels = {}, {}
    for task in ("ctr", "ctcvr"):
        weight = dict(zip(stored["slot"].tolist(), stored[f"{task}.weight"].tolist(), strict=True))
        of_user = [weight.get(int(s), 0.0) for s in slots_of("user_id", e_user.ids[:, 0])]
        of_base, of_quality = (weight[int(slots_of(name, np.zeros(1))[0])] for name in ("base", "quality"))
        of_item = weight[BIAS] + e_item.floats @ np.array([of_base, of_quality])
        labels[task] = np.array(of_user)[u] + of_item[i]
    chance = np.minimum(np.exp(log_sigmoid(labels["ctcvr"]) - log_sigmoid(labels["ctr"])), MOST)
    implied = {"ctr": labels["ctr"], "cvr": np.log(chance / (1 - chance))}
    for k, (task, regression) in enumerate(implied.items()):
        share = no_context["blend"][task]["share"]
        s = no_context["factors"][task]["share"]
        logit = (1 - share) * ((1 - s) * heads[:, k] + s * heads[:, 2 + k]) + share * regression
        np.testing.assert_allclose(dump[f"{task}_logit"], logit, atol=1e-4)
        line = no_context["calibration"][task]
        p[task] = 1 / (1 + np.exp(-(line["slope"] * logit + line["intercept"])))
        np.testing.assert_allclose(dump[f"p{task}"], p[task], rtol=1e-3)
    np.testing.assert_allclose(dump["pctcvr"], p["ctr"] * p["cvr"], rtol=2e-3)
    assert 0 < no_context["blend"]["ctr"]["share"] < 1 or no_context["blend"]["cvr"]["share"] > 0
    facts = Manifest.read(folder / "manifest.json").facts
    assert facts["calibration"] == no_context["calibration"]
    of_pair = dump.group_by("user_id", "item_id").agg(pl.col("pctcvr").max() - pl.col("pctcvr").min())
    assert of_pair["pctcvr"].max() < 1e-5, "a pair has one score, whatever its price was"  # type: ignore[operator]


def test_the_chain_through_the_command_line(project: Project) -> None:
    """A student of these scores orders by quality too, and evaluation measures teacher and regression."""
    project.done("dump-logits", 2)
    project.done("train-student", 2, student__distill__min_age_days=0)
    found = project.done("evaluate", 2)["metrics"]
    assert found["teacher.ctr.auc"] > 0.8, "the price of the moment tells most"
    assert abs(found["teacher.ctr.auc"] - found["regression.ctr.auc"]) < 0.02
    assert found["teacher.ctr.pcoc"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("teacher", [{"blend_regression": False}, {"calibration_share": 0.0}], ids=str)
def test_the_network_alone(log: Path, tmp_path: Path, teacher: dict[str, Any]) -> None:
    """Where it is wished, and where no held-out row could choose a share; factors have learned for the sum then."""
    alone = prices(tmp_path, log, **teacher)
    metrics = alone.done("train-teacher", 1)["metrics"]
    at = opened(alone, tmp_path, day=1)
    held_out = "calibration_share" not in teacher
    assert ({"loss.factors.ctr", "loss.factors.cvr"} <= metrics.keys()) == held_out
    parts = [v for k, v in metrics.items() if k.startswith("loss.")]
    assert metrics["loss"] == pytest.approx(sum(parts), rel=1e-2), "of the sum, or of each"
    assert "blend" not in at.facts
    assert set(at.facts["no_context"]) == ({"calibration", "factors"} if held_out else {"calibration"})
    some = pairs(np.arange(20), np.arange(20))
    heads = Scorer(at.teacher.encoder, at.teacher.model, at.day, at.run.device).lists(some)
    s = [at.facts["no_context"]["factors"][t]["share"] for t in ("ctr", "cvr")] if held_out else []
    expected = (
        (1 - np.array(s)) * heads[:, :2] + np.array(s) * heads[:, 2:] if held_out else heads[:, :2] + heads[:, 2:]
    )
    np.testing.assert_allclose(at.teacher.on(at.day).lists(some), expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_context_columns_is_as_wide_as_its_sides() -> None:
    widths = [a_teacher(encoder_of(*USER, *ITEM, *context)).net.first.weights[2].shape[1] for context in ((), CONTEXT)]
    assert widths == [0, 2 * 4 + 1], "two embeddings, and whether they are known"


def test_a_tiny_log_may_be_held_out_whole(tmp_path: Path) -> None:
    """One request, nine tenths of the requests held out, and a seed that takes it: there is no loss to compare with."""
    (folder := tmp_path / "log" / "events" / f"day={DAYS[0]}").mkdir(parents=True)
    rows = np.arange(40)
    columns = {"user_id": rows * 0, "item_id": rows, "request_id": rows * 0, "click": (rows % 3 == 0).astype(int)}
    numbers = {"read_seconds": rows * 1.0, "base": rows / 40, "quality": rows / 40}
    pl.DataFrame(columns | numbers).write_parquet(folder / "a.parquet")
    made = prices(tmp_path, tmp_path / "log", FEATURES[:3], calibration_share=0.9).done("train-teacher", 1, seed=2)
    assert made["rows"] == {"log": 40, "learned": 0, "held_out": 40}
