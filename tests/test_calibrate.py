"""Calibration: recovers what it should, leans on its prior, and never loses digits."""

import json
import math
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from dmtl_cli.config.tasks import Tasks
from dmtl_cli.scores.calibration import LEVEL, MIN_SLOPE, WEAK, Calibration, fit, log1mexp, log_sigmoid, target_logit

Floats = npt.NDArray[np.float64]
EXTREMES = np.array([-1000.0, -80, -1, 0, 1, 80, 1000])


def simulated(n: int, slope: float, intercept: float, seed: int = 0) -> tuple[Floats, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(-2, 1.5, n)
    return x, rng.random(n) < 1 / (1 + np.exp(-(slope * x + intercept)))


def test_log_sigmoid_and_log1mexp_keep_their_digits() -> None:
    x = np.array([-3.0, -0.5, 0.0, 2.0])
    assert log_sigmoid(x) == pytest.approx(np.log(1 / (1 + np.exp(-x))), rel=1e-14)
    assert np.isfinite(log_sigmoid(EXTREMES)).all()
    assert log_sigmoid(np.array([80.0]))[0] == pytest.approx(-math.exp(-80), rel=1e-12)
    x = np.array([-5.0, -1.0, -math.log(2), -0.3])
    assert log1mexp(x) == pytest.approx(np.log(1 - np.exp(x)), rel=1e-13)
    assert log1mexp(np.array([-1e-30, -800.0, 0.0])).tolist() == pytest.approx([-30 * math.log(10), 0, -math.inf])
    with pytest.raises(ValueError, match="<= 0"):
        log1mexp(np.array([0.1]))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.7, -1.5), (1.6, 2.0)])
def test_recovers_slope_and_intercept(slope: float, intercept: float) -> None:
    c = fit(*simulated(200_000, slope, intercept))
    assert c.slope == pytest.approx(slope, abs=0.03) and c.intercept == pytest.approx(intercept, abs=0.06)
    assert c.rows == 200_000
    sd = math.sqrt(np.linalg.inv(np.array(c.precision))[0, 0])
    assert abs(c.slope - slope) < 4 * sd < 0.06


def test_is_scikit_learns_logistic_regression_and_calibrated_in_sum() -> None:
    x, y = simulated(50_000, 0.8, -1.0)
    w = np.random.default_rng(1).integers(0, 3, len(x))
    c = fit(x, y, w)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y, w)
    assert c.slope == pytest.approx(theirs.coef_[0, 0], abs=1e-3)
    assert c.intercept == pytest.approx(theirs.intercept_[0], abs=2e-3)
    assert (w * np.exp(c.log_prob(x))).sum() == pytest.approx((w * y).sum(), rel=1e-3)
    again = fit(np.repeat(x, w), np.repeat(y, w))
    assert (again.slope, again.intercept) == pytest.approx((c.slope, c.intercept)), "a weight is a repeated row"


def test_is_the_stationary_point_of_the_posterior() -> None:
    x, y = simulated(40, 1.2, 0.5, seed=3)
    prior = Calibration(0.8, 0.3, ((30.0, 4.0), (4.0, 9.0)))
    c = fit(x, y, None, prior)
    precision = (np.array(prior.precision) + np.array(WEAK)) / 2
    p = np.exp(c.log_prob(x))
    gradient = np.array([((p - y) * x).sum(), (p - y).sum()])
    gradient += precision @ np.array([c.slope - prior.slope, c.intercept - prior.intercept])
    assert gradient == pytest.approx([0, 0], abs=1e-8)
    v = p * (1 - p)
    hessian = precision + np.array([[(v * x * x).sum(), (v * x).sum()], [(v * x).sum(), v.sum()]])
    assert np.array(c.precision) == pytest.approx(hessian)


def test_a_small_day_leans_on_yesterday_and_a_large_day_overrides_it() -> None:
    yesterday = fit(*simulated(50_000, 0.7, -1.5))
    small = fit(*simulated(30, 1.5, 1.0, seed=1), None, yesterday)
    assert (small.slope, small.intercept) == pytest.approx((yesterday.slope, yesterday.intercept), abs=0.1)
    large = fit(*simulated(500_000, 1.5, 1.0, seed=1), None, yesterday)
    assert (large.slope, large.intercept) == pytest.approx((1.5, 1.0), abs=0.15)
    alone = fit(*simulated(30, 1.5, 1.0, seed=1))
    assert alone.slope == pytest.approx(1, abs=0.6), "without a yesterday the slope stays near 1"


def test_old_evidence_decays_but_never_below_a_first_fit() -> None:
    x, y = simulated(20_000, 1.0, 0.0)
    chain: Calibration | None = None
    known = []
    for _ in range(8):
        chain = fit(x, y, None, chain)
        known.append(chain.precision[1][1])
    assert known[-1] == pytest.approx(2 * known[0], rel=0.02), "half of it a day: twice one day's in the end"
    tiny = np.array([0.0, 1.0]), np.array([0, 1])
    for _ in range(200):
        chain = fit(*tiny, None, chain)
    assert chain is not None
    assert np.linalg.eigvalsh(np.array(chain.precision) - np.array(WEAK)).min() > -1e-9
    assert 0.5 < chain.slope < 5


@pytest.mark.parametrize("prior", [None, Calibration(0.6, -2.0, ((9.0, 1.0), (1.0, 4.0)), 77)])
def test_nothing_to_fit_is_the_prior(prior: Calibration | None) -> None:
    before = prior or Calibration()
    x = np.array([0.5, 1.0])
    for y, w in ((np.zeros(2), None), (np.ones(2), None), (np.array([0, 1]), np.zeros(2)), (np.array([0, 1]), [1, 0])):
        c = fit(x, y, w if w is None else np.array(w), prior)
        assert (c.slope, c.intercept, c.precision, c.rows) == (before.slope, before.intercept, before.precision, 0)
    assert fit(np.zeros(0), np.zeros(0), None, prior).slope == before.slope


def test_a_reversed_teacher_keeps_a_positive_slope_and_the_right_mean() -> None:
    x, y = simulated(20_000, -1.0, 0.0)
    c = fit(x, y)
    assert c.slope == MIN_SLOPE
    assert np.exp(c.log_prob(x)).mean() == pytest.approx(y.mean(), rel=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-80, 80), st.booleans()), max_size=30), st.booleans())
def test_any_rows_give_a_finite_rising_map(rows: list[tuple[float, bool]], chained: bool) -> None:
    x, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.bool_)
    c = fit(x, y, None, fit(*simulated(500, 1, 0)) if chained else None)
    assert MIN_SLOPE <= c.slope < 50 and math.isfinite(c.intercept)
    assert np.isfinite(np.array(c.precision)).all()
    at = np.sort(x)
    assert (np.diff(c.apply(at)) >= 0).all(), "order is kept"
    assert (np.diff(np.exp(c.log_prob(at))) >= 0).all()
    assert fit(x, y, None, None) == fit(x, y, None, None)


def test_separable_rows_and_wide_logits_converge() -> None:
    x = np.repeat([-80.0, 80.0], 1000)
    c = fit(x, x > 0)
    assert np.exp(c.log_prob(np.array([-80.0, 80.0]))).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_bad_input_is_an_error() -> None:
    x, y = np.zeros(2), np.array([0, 1])
    for bad in (
        (np.array([0, np.nan]), y),
        (np.array([0, np.inf]), y),
        (x, np.array([0, 2])),
        (x, y[:1]),
        (x, y, np.array([1.0, -1.0])),
        (x, y, np.array([1.0, np.nan])),
    ):
        with pytest.raises(ValueError, match=r"expected|lengths"):
            fit(*bad)


def test_survives_json_bit_for_bit() -> None:
    c = fit(*simulated(100, 0.9, 0.1))
    assert Calibration.from_dict(json.loads(json.dumps(c.to_dict()))) == c
    assert Calibration.from_dict(Calibration().to_dict()) == Calibration()


# -- the teacher's logit -----------------------------------------------------------------------------------------------

CALIBRATION = {"ctr": Calibration(0.8, -1.0), "cvr": Calibration(1.1, 0.4), "like": Calibration(0.5, -2.0)}
IDENTITY = dict.fromkeys(("ctr", "cvr", "like"), Calibration())
FUSION = {"pctr": 1.0, "pcvr": 0.5, "plike": 2.0}


def exact(logits: dict[str, float], of: dict[str, float]) -> float:
    """log p - log(1 - p) of p = product of sigmoid(x) ** a, in 600 digits."""
    with localcontext() as context:
        context.prec = 600
        log_p = sum((Decimal(a) * -(1 + (-Decimal(logits[k])).exp()).ln() for k, a in of.items()), Decimal(0))
        return float(log_p - (1 - log_p.exp()).ln())


@pytest.mark.parametrize(
    ("score", "factors"),
    [
        ("pctr", {"ctr": 1}),
        ("pcvr", {"cvr": 1}),
        ("pctcvr", {"ctr": 1, "cvr": 1}),
        ("plike", {"like": 1}),
        ("pctlike", {"ctr": 1, "like": 1}),
        ("pfused", {"ctr": 1, "cvr": 0.5, "like": 2}),
    ],
)
def test_factors_of_a_score(score: str, factors: dict[str, float]) -> None:
    tasks = Tasks(("like",))
    assert tasks.factors(FUSION)[score] == factors
    assert (tasks.factors({}).get(score) == factors) == (score != "pfused")


def test_target_logit_is_log_p_less_log1mexp() -> None:
    a, c = np.random.default_rng(0).normal(0, 5, (2, 500)).astype(np.float32)
    ctr, cvr = (CALIBRATION[k].log_prob(v) for k, v in (("ctr", a), ("cvr", c)))
    factors = Tasks().factors({"pctr": 0.3, "pcvr": 1.7})
    for target, log_p in (("pctr", ctr), ("pcvr", cvr), ("pctcvr", ctr + cvr), ("pfused", 0.3 * ctr + 1.7 * cvr)):
        t = target_logit({"ctr": a, "cvr": c}, CALIBRATION, factors[target])
        assert t.dtype == np.float64
        assert t == pytest.approx(log_p - log1mexp(log_p), rel=1e-9, abs=1e-12)
        assert log_sigmoid(t) == pytest.approx(log_p, rel=1e-12)


POWERS = [{"ctr": 1.0}, {"ctr": 0.3}, {"cvr": 2.0}, {"ctr": 1.0, "cvr": 1.0}, {"ctr": 1.0, "cvr": 0.5},
          {"ctr": 1.0, "cvr": 1.0, "like": 1.0}, {"ctr": 0.01, "cvr": 7.0, "like": 1.0}]  # fmt: skip


@pytest.mark.parametrize("of", POWERS, ids=str)
def test_a_fusion_is_exact_wherever_float64_can_say_it(of: dict[str, float]) -> None:
    values = np.array([-500.0, -80, -20, -1, 0, 0.5, 20, 80, 500])
    grid = dict(zip(of, (v.ravel() for v in np.meshgrid(*[values] * len(of))), strict=True))
    chosen = np.random.default_rng(0).choice(len(grid["ctr" if "ctr" in of else "cvr"]), min(40, 9 ** len(of)), False)
    logits = {k: v[chosen] for k, v in grid.items()}
    expected = [exact({k: float(v[n]) for k, v in logits.items()}, of) for n in range(len(chosen))]
    assert target_logit(logits, IDENTITY, of) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    moved = {k: (v - CALIBRATION[k].intercept) / CALIBRATION[k].slope for k, v in logits.items()}
    assert target_logit(moved, CALIBRATION, of) == pytest.approx(expected, rel=1e-9, abs=1e-9), "calibrated first"


@pytest.mark.parametrize("of", POWERS, ids=str)
def test_a_fusion_stays_finite_and_in_order_beyond(of: dict[str, float]) -> None:
    x = np.array([-1e30, -1e5, -1000.0, -800, -700, 0, 700, 800, 1000, 1e5, 1e30])
    t = target_logit(dict.fromkeys(of, x), IDENTITY, of)
    assert np.isfinite(t).all() and (np.diff(t) >= 0).all()
    assert t[2] == pytest.approx(-1000 * sum(of.values())) and (t[7:] > 690).all()


def test_target_logit_keeps_the_digits_a_float32_probability_loses() -> None:
    a, c = (v.ravel() for v in np.meshgrid(EXTREMES, EXTREMES))
    both = {"ctr": 1.0, "cvr": 1.0}
    t = target_logit({"ctr": a, "cvr": c}, IDENTITY, both)
    assert np.isfinite(t).all()
    assert (t <= np.minimum(a, c) + 1e-12).all(), "a product is below either factor"
    sure = target_logit({"ctr": np.array([20.0]), "cvr": np.array([1000.0])}, IDENTITY, both)
    assert sure[0] == pytest.approx(20, rel=1e-12)
    with np.errstate(divide="ignore"):
        p = np.float32(1 / (1 + math.exp(-20)))
        assert abs(np.log(p) - np.log1p(-p)) > 1e3, "the logit of the rounded float32 is infinite"


def test_a_first_day_of_one_class_leaves_its_own_weak_prior() -> None:
    """A teacher of exposed rows knows its level well (LEVEL): a quiet first day must not make the second forget it."""
    quiet = fit(np.zeros(3), np.zeros(3), weak=LEVEL)
    assert (quiet.slope, quiet.intercept, quiet.precision, quiet.rows) == (1.0, 0.0, LEVEL, 0)
    day = simulated(500, 1.0, -0.5)
    assert fit(*day, prior=quiet, weak=LEVEL) == fit(*day, weak=LEVEL)
