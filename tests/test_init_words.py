"""init: what names and states say, in the words of many languages, and what values say where no word does."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.outcomes.state_lines import _is_stage
from dmtl_cli.guess.reading.rewrites import is_click, is_no_more
from dmtl_cli.guess.reading.texts import Text, as_typed
from dmtl_cli.guess.sides.states import is_measure, still, withdrawn


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("views_30d", 1),
        ("clicks_last_7_days", 1),
        ("son_7g_rezervasyon", 1),
        ("contatos_30d", 1),
        ("kcal_100g", 0),
        ("is_5g", 0),
        ("is_3d", 0),
        ("network_4g", 0),
        ("days", 0),
    ],
)
def test_a_count_of_some_days_says_so(name: str, says: int) -> None:
    assert words.says(name, words.WINDOW) == bool(says)


@pytest.mark.parametrize(
    ("name", "says"), [("minutesListened", 1), ("minutos_consumidos", 1), ("duration_min", 1), ("admin", 0), ("sec", 0)]
)
def test_a_length_in_minutes_says_so(name: str, says: int) -> None:
    assert words.says(name, languages.MINUTES) == bool(says)


@pytest.mark.parametrize(
    ("states", "served"),
    [
        ("aktiv aktiv aktiv trukket kladd utgått slettet", ["aktiv"]),
        ("beschikbaar beschikbaar verhuurd ingetrokken onder_optie", ["beschikbaar"]),
        ("ATIVO ATIVO ALUGADO VENDIDO", ["ATIVO"]),
        ("live live new deleted", ["live", "new"]),
        ("hit hit rare deleted", ["hit", "rare"]),  # no word says that it is there: what is gone is left out
    ],
)
def test_states_that_say_what_is_there_are_served(states: str, served: list[str]) -> None:
    assert list(still(pl.Series("status", [x.replace("_", " ") for x in states.split()])) or ()) == served


@pytest.mark.parametrize("states", ["new new used", "live live vod", "paperback ebook"])
def test_kinds_of_things_are_no_states(states: str) -> None:
    assert still(pl.Series("state", states.split())) is None


def test_a_state_that_nobody_knows_and_that_is_shown_on_is_served() -> None:
    """`promoted` is shown on the last day as `active` is, `frozen` is not any more."""
    s = pl.Series("status", ["active"] * 60 + ["promoted"] * 20 + ["frozen"] * 20 + ["deleted"] * 5)
    before = np.full(len(s), 10)
    last = np.array([3] * 60 + [3] * 20 + [0] * 25)
    found = withdrawn(s, lambda: (before, last))
    assert found is not None and found.still == ("active", "promoted")


def test_a_time_is_no_state() -> None:
    """When a card was changed last, as most were on one day and those that are shown no more before it."""
    times = ["2024-11-17 00:00:00+01"] * 80 + ["2024-10-02 00:00:00+01"] * 40
    before, last = np.full(120, 10), np.array([3] * 80 + [0] * 40)
    assert withdrawn(pl.Series("changed", times), lambda: (before, last)) is None
    found = withdrawn(pl.Series("kind", ["a"] * 80 + ["b"] * 40), lambda: (before, last))
    assert found is not None and found.still == ("a",)


@pytest.mark.parametrize("value", ["click", "card_tap", "Klick", "点击", "clk"])
def test_a_click_by_its_word(value: str) -> None:
    assert is_click(value) and is_no_more(value)


@pytest.mark.parametrize("value", ["app_open", "hint_opened", "room_enter"])
def test_what_was_opened_is_a_click_less_surely(value: str) -> None:
    assert not is_click(value) and is_no_more(value)


@pytest.mark.parametrize(("last", "found"), [("save", True), ("print", False)])
def test_a_stage_that_only_clicks_have(last: str, found: bool) -> None:
    """How far each click came, null without one; kinds of clicks of which none is good are none."""
    clicked = pl.Series([True] * 60 + [False] * 40)
    stages = pl.Series("result", ["open"] * 30 + ["bounce"] * 20 + [last] * 10 + [None] * 40)
    assert _is_stage(stages, clicked) == found


@pytest.mark.parametrize(
    "name",
    ["cancelled", "order_cancellations", "uninstall", "unfollowed", "art_geschenk_storno", "chargeback", "refunded"],
)
def test_the_contrary_of_a_good_click_is_none(name: str) -> None:
    assert words.says(name, words.NOT_GOOD)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("min_order_value", True),
        ("mindestumsatz", True),
        ("valor_minimo", True),
        ("minimum_spend", True),
        ("orders", False),
    ],
)
def test_what_somebody_asks_for_at_least_is_no_running_total(name: str, asked: bool) -> None:
    assert is_measure(name) == asked


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), ("\t", ".")])
def test_a_version_is_no_decimal_point_behind_semicolons(separator: str, decimal: str) -> None:
    rows = pl.DataFrame({"price": ["6,59", "12,5", "3,0", "0,99"], "app": ["7.1", "7.2", "7.1", "7.3"]})
    frame, text = as_typed(rows, Text(separator=separator))
    assert text.decimal == decimal and (frame["price"].dtype == pl.Float64) == (decimal == ",")


def test_ids_of_cookies_are_no_floats() -> None:
    texts = ["288006717.396867054", "584556741.692223473"]
    frame, _ = as_typed(pl.DataFrame({"visitor_id": texts, "seconds": texts, "mood_id": ["1.5", "2.5"]}), Text())
    assert frame["visitor_id"].to_list() == texts
    assert {frame[c].dtype for c in ("seconds", "mood_id")} == {pl.Float64}
