"""init: tables of outcomes that name exposures by a column of any name, what is made of their rows, and which table is
then the events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from formats import write
from worlds import dmtl

DAY, ROWS, USERS, SHOPS = "2026-03-02", 4_000, 300, 120
STATES = ("done", "gone", "sent", "void")


def shown(first: int = 70_000_000, key: str = "id") -> pl.DataFrame:
    """Exposures of ten a request, with an opened flag of their own."""
    rng = np.random.default_rng(0)
    minutes = np.sort(rng.integers(0, 1_440, ROWS // 10)).repeat(10)
    opened = rng.random(ROWS) < 0.3
    return pl.DataFrame(
        {
            key: np.arange(ROWS) + first,
            "request_id": [f"r{k}" for k in np.arange(ROWS) // 10],
            "user_id": rng.integers(1, USERS + 1, ROWS // 10).repeat(10),
            "shop_id": np.concatenate([rng.choice(SHOPS, 10, replace=False) + 1 for _ in range(ROWS // 10)]),
            "shown_at": [f"{DAY} {m // 60:02}:{m % 60:02}:00" for m in minutes],
            "is_opened": opened.astype(int),
        }
    )


def acts(
    frame: pl.DataFrame, named: str, key: str, share: float = 0.4, *, first: int = 1, seed: int = 1
) -> pl.DataFrame:
    """What users did with what they opened, some of it from elsewhere: an id of its own before the one it names."""
    rng = np.random.default_rng(seed)
    opened = frame.filter(pl.col("is_opened") == 1)
    some = opened.filter(pl.Series(rng.random(len(opened)) < share)).select(
        pl.col(key).alias(named), "user_id", "shop_id"
    )
    other = pl.DataFrame(
        {
            named: pl.Series([None] * 600, dtype=some.schema[named]),
            "user_id": rng.integers(1, USERS + 1, 600),
            "shop_id": rng.integers(1, SHOPS + 1, 600),
        }
    )
    made = pl.concat([some, other]).sample(fraction=1, shuffle=True, seed=0)
    states = pl.Series("state", rng.choice(STATES, len(made)))
    at = pl.Series("made_at", [f"{DAY} 12:{k % 60:02}:{k // 60 % 60:02}" for k in range(len(made))])
    return made.select(pl.Series("id", np.arange(len(made)) + first), pl.all(), states, at)


def shops(key: str = "id") -> pl.DataFrame:
    rng = np.random.default_rng(3)
    kinds, cities = rng.choice(["pizza", "soup", "cake"], SHOPS), rng.choice(["a", "b"], SHOPS)
    return pl.DataFrame({key: np.arange(1, SHOPS + 1), "kind": kinds, "city": cities})


def written(home: Path, **tables: pl.DataFrame) -> Path:
    for name, table in tables.items():
        write(table, home / "log", name, "csv")
    return home / "log"


def made(root: Path, *more: str) -> tuple[dict[str, Any], str, str]:
    """What init wrote, as values and as text, and what it said, whether it is done or a line is left to a person."""
    out = root.parent / "made.yaml"
    ended = dmtl("init", root, "-o", out, "--force", *more)
    assert ended.code in (0, 78), ended.err
    return yaml.safe_load(out.read_text()), out.read_text(), ended.out


def labels(root: Path) -> dict[str, Any]:
    ended = dmtl("check", "--config", root.parent / "made.yaml", "--day", DAY, "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.json["labels"]
    return found


@pytest.mark.parametrize("named", ["impression_id", "source_ref", "reco"])
@pytest.mark.parametrize("first", [1, 70_000_000])
def test_orders_name_exposures_by_any_column(tmp_path: Path, named: str, first: int) -> None:
    """Whatever its name and place, with rows that name none; keys of all tables may be the same first numbers."""
    frame = shown(first)
    orders = acts(frame, named, "id")
    root = written(tmp_path, showings=frame, orders=orders, shops=shops())
    raw, _, said = made(root, "--conversion", "its_state IN ('done', 'sent')")
    data, table = raw["data"], raw["data"]["events"]["joined"]["orders"]
    assert (table["path"], table["key"], table["event_key"]) == ("orders.csv", named, "id")
    assert table["columns"] == {"orders": "COUNT(*) > 0", "its_state": "MAX(state)"}
    assert data["items"] == {"path": "shops.csv", "key": "id"} and "not used: " not in said
    good = orders.filter(pl.col("state").is_in(["done", "sent"]))[named].drop_nulls().n_unique()
    assert labels(root)["conversion_rate"] == round(good / frame["is_opened"].sum(), 4)


def test_a_table_that_names_other_things_is_joined_by_none_of_them(tmp_path: Path) -> None:
    """Running numbers of orders, and the shelves that they name, are numbers of exposures too: by chance. Their users
    and shops are those of the day's."""
    frame = shown(1)
    orders = acts(frame, "shelf_id", "id").with_columns(shelf_id=pl.int_range(pl.len()) % 900 + 1)
    raw, text, _ = made(written(tmp_path, showings=frame, orders=orders, shops=shops()))
    (orders_read,) = raw["data"]["events"]["joined"].values()
    assert orders_read["computed"] == {"exposure": "user_id || '/' || shop_id"}
    assert raw["data"]["items"]["path"] == "shops.csv", "a catalogue comes before what users did"
    assert "keep one row of each" not in text


def test_a_catalogue_is_the_table_of_items_before_one_of_several_rows_each(tmp_path: Path) -> None:
    """Whatever their names: prices that change have the item's id under the events' name and a time, and more rows."""
    prices = pl.concat(
        [shops("shop_id").with_columns(price=pl.lit(k), at=pl.lit(f"2026-02-0{k} 10:00:00")) for k in (1, 2, 3)]
    )
    raw, text, _ = made(written(tmp_path, showings=shown(), changes=prices, master=shops("no")))
    assert raw["data"]["items"]["path"] == "master.csv"
    assert "changes.csv: not used: a second table of items, beside master.csv" in text


def test_files_of_one_table_that_lack_columns_keep_its_folder(tmp_path: Path) -> None:
    """JSON lines without fields that are null: files of two sets of columns in one folder, named by codes."""
    frame = shown(key="slot_id")
    for k, name in enumerate(("7f3a91c2", "0b9d2271", "c17cb665", "5f0c3a9e")):
        part = frame.gather_every(4, k).with_columns(note=pl.lit("x"))
        write(part if k < 2 else part.drop("note"), tmp_path / "log/seen", name, "json")
    write(shops("shop_id"), tmp_path / "log/shops", "shops", "json")
    raw, _, _ = made(tmp_path / "log")
    assert raw["data"]["events"]["path"] == "seen"


def test_without_user_and_item_numbers_must_not_be_the_first_ones(tmp_path: Path) -> None:
    ids = {"showings": shown(1), "notes": acts(shown(1), "showing_id", "id").select("id", "showing_id", "state")}
    raw, _, _ = made(written(tmp_path / "a", **ids))
    assert raw["data"]["events"]["joined"]["notes"]["key"] == "showing_id", "and not id, which runs from 1 too"
    ids["notes"] = ids["notes"].rename({"showing_id": "weight"})
    raw, _, _ = made(written(tmp_path / "b", **ids))
    assert "weight" not in str(raw["data"]["events"].get("joined")), "a number that is named like no id"


@pytest.mark.parametrize("names", [("clicks", "deals"), ("taps", "deals"), ("a", "b")])
def test_one_table_is_the_click_and_each_other_has_its_name(tmp_path: Path, names: tuple[str, str]) -> None:
    """The one that says clicks, however few, else that which most exposures have; none is called clicked_."""
    frame = shown(key="slot_id")
    few, many = acts(frame, "slot_id", "slot_id", 0.3), acts(frame, "slot_id", "slot_id", 0.9, seed=2)
    of = dict(zip(names, (few, many) if names[0] == "clicks" else (many, few), strict=True))
    tables = {name: table.select("id", "slot_id").drop_nulls() for name, table in of.items()}
    raw, _, _ = made(written(tmp_path, showings=frame.drop("is_opened"), **tables))
    joined = raw["data"]["events"]["joined"]
    assert raw["data"]["events"]["click"] == "clicked"
    assert {c for one in joined.values() for c in one["columns"]} == {"clicked", names[1]}
    assert list(joined[names[0]]["columns"]) == ["clicked"]


def test_states_and_their_shares_of_clicks_are_told(tmp_path: Path) -> None:
    frame = shown(key="slot_id")
    deals = acts(frame, "slot_id", "slot_id").drop_nulls()
    _, text, _ = made(written(tmp_path, showings=frame, deals=deals))
    line = next(line for line in text.splitlines() if "its_state of clicks" in line)
    for state in STATES:
        rate = len(deals.filter(pl.col("state") == state)) / frame["is_opened"].sum()
        assert f"'{state}' {rate:.1%}" in line
    assert '--conversion "its_state IN (' in line


def test_of_several_states_of_an_exposure_each_is_a_column(tmp_path: Path) -> None:
    """Whether any row has it: the greatest text of several says nothing; a sentence is no state."""
    frame = shown(key="slot_id")
    first = acts(frame, "slot_id", "slot_id").drop_nulls()
    again = first.with_columns(state=pl.col("state").reverse(), id=pl.col("id") + 10_000)
    steps = pl.concat([first, again]).with_columns(body=pl.lit("Hello, is it there?"), op=pl.lit("c"))
    steps = steps.with_columns(body=pl.when(pl.col("id") % 3 == 0).then(pl.lit("Yes, it is.")).otherwise("body"))
    root = written(tmp_path, showings=frame, steps=steps)
    raw, text, _ = made(root, "--conversion", "state_done OR state_sent")
    columns = raw["data"]["events"]["joined"]["steps"]["columns"]
    assert {*columns} == {"steps", *(f"state_{s}" for s in STATES)} and "its_state" not in text
    good = steps.filter(pl.col("state").is_in(["done", "sent"]))["slot_id"].n_unique()
    assert labels(root)["conversion_rate"] == round(good / frame["is_opened"].sum(), 4)
    _, text, _ = made(root)
    assert "state of clicks, each a column: state_" in text


def test_a_kind_that_says_click_is_the_click(tmp_path: Path) -> None:
    """Of a table of actions, in which other rows come without one."""
    frame = shown(key="slot_id")
    looks = frame.filter(pl.col("user_id") % 2 == 0).select("slot_id", action=pl.lit("hover"))
    clicks = frame.filter(pl.col("is_opened") == 1).select("slot_id", action=pl.lit("click"))
    root = written(tmp_path, showings=frame.drop("is_opened"), actions=pl.concat([looks, clicks]))
    raw, _, _ = made(root)
    events = raw["data"]["events"]
    assert events["click"] == "clicked" and "'click'" in events["joined"]["actions"]["columns"]["clicked"]


def test_a_number_that_grows_is_not_summed(tmp_path: Path) -> None:
    """A play that is written again as it goes on; plays of their own add up. `ms_played` is a duration."""
    frame, rng = shown(key="slot_id"), np.random.default_rng(5)
    plays = frame.filter(pl.col("is_opened") == 1).select("slot_id")
    parts = [plays.with_columns(ms_played=pl.Series(rng.integers(1_000, 90_000, len(plays)))) for _ in range(3)]
    running = pl.concat(parts).sort("slot_id", "ms_played").with_columns(begun=pl.lit(1))
    for rows, expected in (
        (running, "COALESCE(MAX(ms_played), 0)"),
        (running.sample(fraction=1, shuffle=True, seed=1), "COALESCE(SUM(ms_played), 0)"),
    ):
        raw, text, _ = made(written(tmp_path, showings=frame, plays=rows))
        events = raw["data"]["events"]
        assert "OR begun" not in text, "each click has it: it tells no good one"
        assert events["joined"]["plays"]["columns"]["ms_played"] == expected
        assert (events["duration"], events["duration_unit"]) == ("ms_played", "ms")


def feed(frame: pl.DataFrame, home: Path) -> None:
    """A request a row with its list, and a change stream of what was played of it, which is the larger file."""
    items = pl.struct(imp=pl.format("i-{}", "id"), shop_id="shop_id", place=pl.int_range(pl.len()).over("request_id"))
    requests = frame.group_by("request_id", maintain_order=True).agg(
        pl.col("user_id").first(), pl.col("shown_at").first(), items.alias("shelf")
    )
    write(requests, home / "log/feed", "feed", "json")
    plays = frame.filter(pl.col("is_opened") == 1)
    rows = []
    for k, (own, user, shop) in enumerate(plays.select("id", "user_id", "shop_id").iter_rows()):
        before = None
        for n, state in enumerate(["begun", "paused", "done"][: 1 + own % 3]):
            after = {"id": k + 1, "imp": f"i-{own}", "user_id": user, "shop_id": shop, "state": state, "sec": 10 * n}
            rows.append({"before": before, "after": after, "op": "u" if before else "c", "note": "x" * 400})
            before = after
    write(pl.DataFrame(rows, infer_schema_length=None), home / "log/plays", "plays", "json")
    changed = [
        {"before": None, "after": row, "op": "r", "ts_ms": 1_772_409_600_000 + k}
        for k, row in enumerate(shops().rows(named=True))
    ]
    write(
        pl.DataFrame(changed, schema_overrides={"before": pl.Struct({"id": pl.Int64})}),
        home / "log/shops",
        "shops",
        "json",
    )


def test_what_names_elements_of_lists_is_what_came_of_them(tmp_path: Path) -> None:
    """However large it is, and a stream by itself; a change stream's row before says nothing more."""
    frame = shown()
    feed(frame, tmp_path)
    raw, _, _ = made(tmp_path / "log", "--conversion", "state_done")
    data, events = raw["data"], raw["data"]["events"]
    assert (events["path"], events["explode"], events["user"]) == ("feed", "shelf", "user_id")
    table = events["joined"]["plays"]
    assert (table["path"], table["key"], table["event_key"]) == ("plays", "after.imp", "shelf.imp")
    assert not [c for c in table["columns"].values() if "before." in c]
    assert events["click"] == "clicked" and (data["items"]["path"], data["items"]["key"]) == ("shops", "after.id")
    assert not [f for f in raw["features"] if f != "auto" and f.get("column", "").startswith(("op", "before"))]
    clicks = int(frame["is_opened"].sum())
    good = frame.filter((pl.col("is_opened") == 1) & (pl.col("id") % 3 == 2))
    assert labels(tmp_path / "log")["conversion_rate"] == round(len(good) / clicks, 4)


def test_ids_that_no_name_tells_are_known_by_tables_before_outcomes_are_sought(tmp_path: Path) -> None:
    words = {"id": "baoguang", "user_id": "ren", "shop_id": "dian", "request_id": "qing"}
    frame = shown().rename(words)
    opened = frame.filter(pl.col("is_opened") == 1)
    clicks = opened.select(
        pl.format("c{}", "baoguang").alias("own"), "baoguang", "ren", "dian", depth=pl.int_range(pl.len()) % 100
    )
    users = pl.DataFrame({"ren": np.arange(1, USERS + 1), "grade": np.arange(USERS) % 3})
    tables = {"a": frame.drop("is_opened"), "b": clicks, "ren_all": users, "dian_all": shops("dian")}
    raw, _, _ = made(written(tmp_path, **tables))
    events = raw["data"]["events"]
    assert (events["user"], events["item"], events["click"]) == ("ren", "dian", "clicked")
    assert events["joined"]["b"]["key"] == "baoguang"


def test_files_among_those_of_other_tables_are_told(tmp_path: Path) -> None:
    """No path means them alone, so they can be read as no table: it says what to do."""
    frame = shown(key="slot_id")
    clicks = frame.filter(pl.col("is_opened") == 1).select("slot_id")
    half = len(clicks) // 2
    tables = {
        "act-1": clicks.head(half),
        "act-2": clicks.tail(-half),
        "act-2_map": shops(),
        "seen": frame.drop("is_opened"),
    }
    raw, text, said = made(written(tmp_path, **tables))
    assert "joined" not in raw["data"]["events"] and "path: ." not in text
    assert raw["data"]["events"]["path"] == "seen.csv"
    assert "WARNING: act-1.csv and 1 more: not used: its files lie among those of other tables" in said


def test_a_list_of_what_was_shown_and_events_that_name_it_and_an_element(tmp_path: Path) -> None:
    """In one stream, by no word that says so: kinds are in another language, ids of lists and of elements are pairs."""
    rng, rows = np.random.default_rng(6), list[dict[str, Any]]()
    clicks = cooked = 0
    for k in range(500):
        at = f"{DAY}T{k * 2 // 60:02}:{k * 2 % 60:02}"
        base = {"who": f"p{rng.integers(90)}", "at": f"{at}:00Z"}
        items = [f"s{i}" for i in rng.choice(SHOPS, 6, replace=False)]
        rows.append(base | {"kind": "Lista Mostrada", "lista": f"L{k}", "dishes": items, "dish": None})
        for item in items:
            if rng.random() < 0.3:
                clicks += 1
                more = {"lista": f"L{k}", "dishes": None, "dish": item}
                rows.append(base | more | {"kind": "Receita Vista", "at": f"{at}:20Z"})
                if rng.random() < 0.4:
                    cooked += 1
                    rows.append(base | more | {"kind": "Panela Ligada", "at": f"{at}:50Z"})
    log = pl.DataFrame(rows, infer_schema_length=None)
    write(log, tmp_path / "log", "stream", "json")
    table = pl.DataFrame({"dish": [f"s{i}" for i in range(SHOPS)], "oven": np.arange(SHOPS) % 4})
    write(table, tmp_path / "log", "dishes", "csv")
    raw, _, _ = made(tmp_path / "log", "--user", "who", "--conversion", "Panela_Ligada")
    events = raw["data"]["events"]
    assert (events["explode"], events["item"], events["click"]) == ("dishes", "dishes", "clicked")
    assert events["joined"]["later"]["computed"]["exposure"] == "lista || '/' || dish"
    found = labels(tmp_path / "log")
    assert found["click_rate"] == round(clicks / 3_000, 4) and found["conversion_rate"] == round(cooked / clicks, 4)
