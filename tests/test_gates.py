"""Gates: judged measures by hand, and what becomes of a run that they refuse."""

from __future__ import annotations

import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmtl_cli.config.gates import Gates, Limit
from dmtl_cli.runs.gates import Measure, exactly, judge

LIMITED = Gates(limits={"inputs.rows": Limit(least=10, ratio=2), "inputs.null_share": Limit(shift=0.1)}, errors=3)


@pytest.mark.parametrize(
    ("value", "past", "error", "passed"),
    [
        (10.0, [], 0.0, True),
        (9.9, [], 0.0, False),
        (9.9, [], 0.1, True),  # 10 - 3 x .1
        (101.0, [50.0, 1000.0, 40.0], 0.0, False),  # median 50
        (100.0, [50.0, 1000.0, 40.0], 0.0, True),
        (24.9, [50.0], 0.0, False),
        (24.9, [50.0], 0.1, True),
        (math.nan, [], 0.0, False),
        (math.inf, [], 0.0, False),
    ],
)
def test_floors_and_ratios(value: float, past: list[float], error: float, passed: bool) -> None:
    [gate] = judge([Measure("inputs.rows", value, error)], LIMITED, {"inputs.rows": past})
    assert gate.passed is passed
    assert gate.baseline == (statistics.median(past) if past else None)
    json.dumps(gate.to_json(), allow_nan=False)


@pytest.mark.parametrize(("before", "kept", "passed"), [(1, 7, True), (2, 7, True), (3, 7, False), (2, 2, False)])
def test_a_loss_that_varies_is_compared_with_several_days(before: int, kept: int, passed: bool) -> None:
    """As many as are kept, where these are fewer."""
    (gate,) = judge([Measure("teacher.ne.cvr", 1.6)], Gates(days=kept), {"teacher.ne.cvr": [1.3] * before})
    assert gate.passed is passed and (gate.baseline is None) is passed


def test_of_two_days_either_may_be_the_one_that_was_forced() -> None:
    for past in ([20.0, 20_000.0], [20_000.0, 20.0]):
        judged = [judge([Measure("inputs.rows", v)], LIMITED, {"inputs.rows": past}) for v in (9, 20, 41e3)]
        assert [gate.passed for [gate] in judged] == [False, True, False]


def test_a_recall_may_rise_as_far_as_it_can() -> None:
    for value, passed in ((1.0, True), (0.01, False)):
        [gate] = judge([Measure("export.recall.click", value)], Gates(), {"export.recall.click": [0.05]})
        assert gate.passed is passed


def test_a_limit_is_that_of_the_longest_name() -> None:
    share, longest = Measure("inputs.null_share.user.age", 0.31), Measure("inputs.duration.max", 1e15)
    gates = judge([share, longest], LIMITED, {"inputs.null_share.user.age": [0.2]})
    assert [(g.name, g.passed) for g in gates] == [
        ("inputs.duration.max", False),
        ("inputs.null_share.user.age", False),
    ]
    assert gates[1].limit == pytest.approx((0.1, 0.3))
    with pytest.raises(KeyError):
        judge([Measure("nothing", 1.0)], LIMITED, {})


@pytest.mark.parametrize(
    ("name", "value", "past", "error", "limit"),
    [
        ("inputs.users", 50.0, 50.0, 20.0, (None, 480.0)),  # 50 / 8 - 4 x 20 is below 0
        ("inputs.click_rate", 0.5, 0.6, 0.0, (0.24, 0.98)),
        ("inputs.conversion_rate.cvr", 0.5, 0.6, 0.0, (0.24, None)),
        ("inputs.users", 500.0, 50.0, 20.0, (None, 480.0)),
        ("scores.p50.pctr", 0.5, 0.6, 0.0, (-3.4, 4.6)),
    ],
)
def test_a_limit_that_nothing_could_fail_is_none(
    name: str, value: float, past: float, error: float, limit: tuple[float | None, float | None]
) -> None:
    [gate] = judge([Measure(name, value, error)], Gates(), {name: [past]})
    assert gate.passed == (value < 500) and gate.limit == (
        limit[0] and pytest.approx(limit[0]),
        limit[1] and pytest.approx(limit[1]),
    )


def test_how_far_a_value_is_beyond_its_limit() -> None:
    past = {"inputs.duration.mean": [32.6], "inputs.conversion_rate.cvr": [0.4], "inputs.rows": [1000.0]}
    measures = [Measure("inputs.duration.mean", 28_825.0), Measure("inputs.conversion_rate.cvr", 0.01)]
    gates = {g.name: g.beyond for g in judge([*measures, Measure("inputs.rows", 1000.0)], Gates(), past)}
    assert gates["inputs.duration.mean"] == pytest.approx(28_825 / 163 - 1)
    assert gates["inputs.conversion_rate.cvr"] == pytest.approx(1 - 0.01 / 0.16) and gates["inputs.rows"] == 0
    [broken] = judge([Measure("inputs.rows", math.nan)], Gates(), past)
    assert broken.beyond == math.inf


def test_integrity_is_judged_whatever_the_config_says() -> None:
    off = Gates(quality=False)
    gates = judge([exactly("rows", 9, 10), Measure("inputs.rows", 0.0)], off, {})
    assert [(g.name, g.passed, g.integrity) for g in gates] == [("rows", False, True)]
    assert gates[0].line() == "rows is 9, expected 10"


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=7), st.floats(0.5, 2.0), st.floats(0, 10))
def test_a_value_within_the_ratio_of_the_median_passes(past: list[float], times: float, error: float) -> None:
    value = statistics.median(past) * times * (1 - 1e-9 * math.copysign(1, times - 1))
    [gate] = judge(
        [Measure("inputs.rows", value, error)], Gates(limits={"inputs.rows": Limit(ratio=2)}), {"inputs.rows": past}
    )
    assert gate.passed
