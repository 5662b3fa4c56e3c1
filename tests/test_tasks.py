"""The names of tasks, losses and scores, as published tables and manifests hold them."""

from __future__ import annotations

from dmtl_cli.config.tasks import Tasks, is_reserved
from dmtl_cli.scores.columns import column_names

ONE, TWO = Tasks(), Tasks(("like",))


def test_names_are_those_of_published_models() -> None:
    assert ONE.names == ("ctr", "cvr") and TWO.names == ("ctr", "cvr", "like")
    assert TWO.losses == ("ctr", "ctcvr", "cvr", "ctlike", "like")
    assert TWO.labels == ("ctr", "cvr", "ctcvr", "like", "ctlike")
    assert Tasks.named(["ctr", "cvr", "like"]) == TWO


def test_score_columns_are_those_of_published_tables() -> None:
    five = ("ctr_logit", "cvr_logit", "pctr", "pcvr", "pctcvr")
    assert column_names(ONE, fused=False) == five
    assert column_names(TWO, fused=True) == (*five, "like_logit", "plike", "pctlike", "pfused")


def test_a_score_is_a_product_of_tasks() -> None:
    assert TWO.factors({}) == {
        "pctr": {"ctr": 1.0},
        "pcvr": {"cvr": 1.0},
        "plike": {"like": 1.0},
        "pctcvr": {"ctr": 1.0, "cvr": 1.0},
        "pctlike": {"ctr": 1.0, "like": 1.0},
    }
    fused = ONE.factors({"pcvr": 0.5, "pctr": 2.0})["pfused"]
    assert fused == {"ctr": 2.0, "cvr": 0.5}


def test_a_further_conversion_may_not_be_taken_for_another_name() -> None:
    assert all(map(is_reserved, ("r", "cvr", "ctr", "fused", "ctcvr", "ctlike")))
    assert not any(map(is_reserved, ("like", "buy", "c", "rate")))
