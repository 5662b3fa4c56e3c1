"""Which items may be served: what `init` writes as `export.items` of what was withdrawn, and that no answer has it."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import daily, features, frame, made
from serving_over_http import running
from unseen import ITEMS, days_of, drawn
from worlds import Ended, dmtl

from dmtl_cli.config.expressions import as_of
from dmtl_cli.data.log.values.computed import SERVED, Computed
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.served import Served, condition_of, live, part, stock_of, unborn
from dmtl_cli.guess.sides.states import Withdrawn

DAY = "2026-03-03"
N = np.arange(ITEMS)


# -- a column ----------------------------------------------------------------------------------------------------------

FLAG = [0, 1, 1, 1, 1]
CASES: dict[str, tuple[str, list[Any], str, list[int]]] = {
    "flag": ("aktiv", FLAG, "aktiv = 1", [1, 2, 3, 4]),
    "gone": ("is_deleted", FLAG, "is_deleted = 0", [0]),
    "bool": ("is_deleted", [True, False, None, False], "is_deleted = false", [1, 3]),
    "mark": ("is_deleted", [True, None, None], "is_deleted IS NULL", [1, 2]),
    "floats": ("in_stock", [1.0, 0.0, None, 1.0], "in_stock = 1", [0, 3]),
    "time": ("removed_at", ["2026-01-01", None, "2026-02-01"], "(removed_at IS NULL OR removed_at > NOW())", [1]),
    "status": ("status", ["active", "sold", "new", "active"], "status IN ('active', 'new')", [0, 2, 3]),
    "draft": ("status", ["active", "deleted", "draft", None], "status = 'active'", [0]),
    "quotes": ("order.status", ["it's", "sold", "it's"], "\"order.status\" = 'it''s'", [0, 2]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_words_tell_is_a_condition(name: str) -> None:
    """That holds, as an export evaluates it, for the items of which the guess says so."""
    column, values, condition, kept = CASES[name]
    s = pl.Series(column, values)
    gone = states.withdrawn(s)
    assert gone is not None and (found := live(s, gone, None)) is not None and found.condition == condition
    assert found.holds.arg_true().to_list() == kept
    rows = s.to_frame() if "NOW()" not in condition else s.str.to_datetime().to_frame()
    text = as_of(condition, dt.datetime(2026, 3, 4))
    made = Computed("export", {SERVED: text}).of(rows.to_arrow(), [SERVED], "items")
    assert pl.Series(made.column(SERVED)).arg_true().to_list() == kept


def test_what_has_no_time_of_its_own_and_is_never_shown_is_a_draft() -> None:
    """Of few, which might not be shown by chance, or where one of them is, nothing is said."""
    since = pl.Series("live_from", ["2026-02-01"] * 40 + [None] * 4)
    before, last = np.full(44, 5), np.full(44, 2)
    before[:20] = last[:20] = 0  # half of the others are not shown either
    before[40:] = last[40:] = 0
    found = unborn(since, (before, last))
    assert found is None, "the half that is not shown is no sign"
    before[5:20] = 1
    found = unborn(since, (before, last))
    assert found is not None and found.condition == "live_from IS NOT NULL" and found.holds.sum() == 40
    assert unborn(since.head(41), (before[:41], last[:41])) is None, "one might not be shown by chance"
    assert unborn(since, None) is None
    last[42] = 1
    assert unborn(since, (before, last)) is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("available_at", ["2026-01-01", None, "2026-02-01"]),  # since when it is there, or will be
        ("deleted_at", ["2026-01-01", "2026-02-01"]),
        ("active", [0, 0, None]),
    ],
)
def test_what_leaves_nothing_or_is_not_certain_is_no_condition(column: str, values: list[Any]) -> None:
    s = pl.Series(column, values)
    gone = states.withdrawn(s)
    assert gone is not None and live(s, gone, None) is None


def test_values_that_go_on_are_all_served() -> None:
    """Of a state in unknown words: two values whose items are shown on, and one whose items stop."""
    rng = np.random.default_rng(1)
    values = rng.choice(["offen", "neu", "weg"], 600, p=[0.5, 0.25, 0.25])
    before = np.full(600, 8)
    last = np.where(values == "weg", 0, 8)
    s = pl.Series("lage", values)
    gone = states.withdrawn(s, lambda: (before, last))
    assert gone is not None and (found := live(s, gone, (before, last))) is not None
    assert found.condition == "lage IN ('offen', 'neu')" and found.left == f"'weg': {part((values == 'weg').mean())}"
    assert found.shown == 1 and found.is_sure


def test_shares_as_people_read_them() -> None:
    assert [part(x) for x in (0, 1, 0.5, 0.004, 0.9996, 0.99999)] == ["0%", "100%", "50%", "0.40%", "99.96%", "99.99%"]


def test_stock_is_a_comment_where_few_have_none() -> None:
    few = pl.Series("stock", [0, 3, 5, 9])
    found = stock_of(few)
    assert found is not None and (found.condition, found.none) == ("stock >= 1", 0.25)
    others = (few.rename("price"), pl.Series("stock", [0, 0, 0, 1]), pl.Series("stock", [1, 2]), few.cast(pl.String))
    assert not any(map(stock_of, others))


def test_a_column_that_most_of_what_is_shown_contradicts_is_not_written() -> None:
    s = pl.Series("sold", [0, 1, 1, 1])
    shown = np.ones(4, np.int64), np.array([1, 5, 5, 0])
    served = Served()
    served.add(s, states.withdrawn(s), shown)
    seen = "91% of what was shown last would be left out (sold: 1: 75%)"
    assert served.condition is None
    assert served.lines == [f'# export: {{items: "sold = 0"}}  # not written: {seen}']
    few = Served(listed=0.3)
    few.add(s, states.withdrawn(s), None)
    lacks = "70% of the sample's items are not in the table, and would not be served"
    assert few.condition is None and few.lines == [f'# export: {{items: "sold = 0"}}  # not written: {lacks}']


# -- a log -------------------------------------------------------------------------------------------------------------


def items(**more: Any) -> pl.DataFrame:
    return pl.DataFrame({"item_id": N, "genre": [f"g{k % 5}" for k in N]} | more)


def shop(table: pl.DataFrame, form: str = "parquet") -> Callable[[Path], None]:
    def write(home: Path) -> None:
        if form == "parquet":
            daily(frame())(home)
            table.write_parquet(home / "items.parquet")
        else:
            days = pl.Series(days_of(drawn(0)))
            for day in sorted({*days}):
                rows = frame().filter(days == day)
                (rows.write_csv if form == "csv" else rows.write_ndjson)(home / f"events_{day}.{form}")
            if form == "csv":
                table.write_csv(home / "items.csv")
            else:
                rows = [{k: v for k, v in row.items() if v is not None} for row in table.to_dicts()]
                (home / "items.json").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def initiated(home: Path, table: pl.DataFrame, form: str = "parquet") -> tuple[Ended, dict[str, Any], str]:
    ended, raw, text = made(home, shop(table, form))
    assert ended.code == 0, ended.err
    return ended, raw, text


STATES = items(
    aktiv=[int(k % 8 != 3) for k in N],
    status=["deleted" if k % 10 == 1 else "new" if k % 4 == 0 else "live" for k in N],
    stock=[0 if k % 9 == 2 else int(k) for k in N],
)
LIVE = "aktiv = 1 AND status IN ('live', 'new')"


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_was_withdrawn_is_never_recommended(tmp_path: Path, form: str) -> None:
    ended, raw, text = initiated(tmp_path, STATES, form)
    assert raw["export"] == {"items": LIVE} and "--filter" not in ended.out
    row = " ".join(ended.out.partition("\nserved  ")[2].split())
    there = [int(k) for k in N if k % 8 != 3 and k % 10 != 1]
    share = f"{len(there) / ITEMS:.0%} of the table's items"
    assert row.startswith(f"by export.items {LIVE}: {share} are served ")
    (line,) = (line for line in text.splitlines() if line.startswith('  items: "'))
    told = "aktiv (0: 12%), status ('deleted': 10%) tell what was withdrawn"
    assert line == f'  items: "{LIVE}"  # {told}: {share} are served; or items: all, as to measure past days'
    none = f"of {part((STATES['stock'] == 0).mean())} none is left (stock), which some sell on order"
    assert f'\n  # items: "{LIVE} AND stock >= 1"  # {none}\n' in text
    printed = [line for line in ended.out.splitlines() if line.startswith("  dmtl ")]
    days, recommend, _ = (shlex.split(line, comments=True) for line in printed)
    assert dmtl(*days[1:], "--set", "auto.budget=0").code == 0
    answered = dmtl(*recommend[1:], "-k", 1000, "--json").json
    assert sorted(int(one["item_id"]) for one in answered["items"]) == there
    with running(Path(raw["workspace"])) as server:
        found = server.client.post("/recommend", json={"user": answered["user"], "k": 1000}).json()
    assert sorted(int(one["item_id"]) for one in found["results"][0]["items"]) == there
    stricter = tmp_path / "stricter.yaml"
    stricter.write_text(text.replace('  items: "', '  # it was: "').replace("  # items: ", "  items: "))
    asked = dmtl("export", "--config", stricter, "--day", DAY, "--json")
    assert asked.code == 0 and asked.json["rows"]["items"] == sum(STATES["stock"][k] > 0 for k in there), asked.err


def test_again_it_is_as_before(tmp_path: Path) -> None:
    initiated(tmp_path, STATES)
    out = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--timezone", "UTC").out
    (again,) = (line for line in out.splitlines() if line.startswith("as before"))
    assert ", served" in again and "\nserved " not in out
    STATES.with_columns(aktiv=pl.lit(1)).write_parquet(tmp_path / "log/items.parquet")
    out = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--timezone", "UTC").out
    assert "\nserved " in out


def test_of_a_table_a_day_the_state_is_a_feature_and_served_all_the_same(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        daily(frame())(home)
        for k, day in enumerate(("2026-03-01", "2026-03-02", DAY)):
            folder = home / f"items/day={day}"
            folder.mkdir(parents=True)
            STATES.drop("aktiv").with_columns(n=pl.Series(N + k)).write_parquet(folder / "0.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "status IN ('live', 'new')" and "status" in features(raw)
    share = "('deleted': 10%) tells what was withdrawn: 90% of the table's items are served"
    assert f"{share}; or items: all\n" in text, "each day knows its own"
    assert "  # items: \"status IN ('live', 'new') AND stock >= 1\"" in text.replace('\\"', '"')


def test_a_log_without_such_columns_has_no_section(tmp_path: Path) -> None:
    ended, raw, text = initiated(tmp_path, items())
    assert "export" not in raw and "export:" not in text and "\nserved " not in ended.out
    _, raw, text = initiated(tmp_path / "stock", items(stock=STATES["stock"]))
    assert "export" not in raw and '# export: {items: "stock >= 1"}  # of 15% none is left (stock), which some' in text
    mine = tmp_path / "mine2.yaml"
    mine.write_text(text.replace("# export: ", "export: "))
    assert yaml.safe_load(mine.read_text())["export"] == {"items": "stock >= 1"}
    assert dmtl("check", "--config", mine, "--day", DAY).code == 0


def test_a_person_is_told_what_may_be_written(tmp_path: Path) -> None:
    """The table lists fewer than half of what was shown: a condition would serve these alone."""
    _, raw, text = initiated(tmp_path, STATES[::3])
    assert "export" not in raw
    said = [line for line in text.splitlines() if line.startswith("# export: {items: ")]
    assert f'# export: {{items: "{LIVE}"}}  # not written: 65% of the sample\'s items are not in the table' in said[0]


def test_texts_that_stand_for_yes_are_what_a_condition_names() -> None:
    """A Parquet table has Y and N as they stand, and no booleans: null is neither."""
    gone, there = (Withdrawn(c, "", (still,), ("Y", "yes")) for c, still in (("deleted", False), ("active", True)))
    assert condition_of(gone) == "NOT deleted IN ('Y', 'yes')" and condition_of(there) == "active IN ('Y', 'yes')"
    rows = pl.DataFrame({"deleted": ["Y", "N", None], "active": ["yes", "N", None]})
    assert rows.select(pl.sql_expr(condition_of(gone) or "")).to_series().to_list() == [False, True, None]
    assert rows.select(pl.sql_expr(condition_of(there) or "")).to_series().to_list() == [True, False, None]
