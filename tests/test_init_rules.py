"""What a person says to `init` beside columns: `--where`, which rows count; `--export-items`, what may be served;
`--within`, how long after what was shown what came of it comes."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import config_of, daily, features, frame, made
from test_init_flow import of_one_day
from test_init_served import DAY, ITEMS, STATES, N, shop
from unseen import USERS, by_day, days_of, drawn
from worlds import dmtl

PLANS = ["free", "staff", None, "paid"]


def with_plans(home: Path) -> None:
    """A plan of each user, that of every fourth unknown, and a table of items with states."""
    shop(STATES, "csv")(home)
    for file in home.glob("events_*.csv"):
        rows = pl.read_csv(file)
        plan = pl.Series("plan", [PLANS[u % 4] for u in rows["user_id"]])
        rows.with_columns(plan, level=pl.col("user_id") % 7).write_csv(file)


def refused(home: Path, *more: str) -> str:
    home.mkdir(exist_ok=True)
    if not (home / "log").exists():
        (home / "log").mkdir()
        with_plans(home / "log")
    ended = dmtl("init", home / "log", "-o", home / "mine.yaml", *more)
    assert ended.code == 2 and not (home / "mine.yaml").exists(), (ended.out, ended.err)
    (line,) = ended.err.splitlines()
    return line


def test_rows_that_do_not_count_are_left_out_and_told(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, with_plans, "--where", "plan <> 'staff' OR level = 9")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "(plan <> 'staff' OR level = 9)"
    assert raw["data"]["types"]["level"] == "int64", "else it would be compared as text"
    x = drawn(0)
    gone, unknown = np.isin(x["user"] % 4, [1, 2]).mean(), (x["user"] % 4 == 2).mean()
    lost = f"{unknown:.1%} have no value there, and are left out too: OR ... IS NULL keeps them"
    said = f"what --where leaves out ({gone:.1%} of rows; {lost})"
    assert f"left out by where {said}" in " ".join(ended.out.split())
    assert f"# without {said}\n" in text
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json").json
    mine = (np.array([d == DAY for d in _days()]) & ~np.isin(x["user"] % 4, [1, 2])).sum()
    assert found["rows"] + found["labels"]["repeated_clicks"] == mine


def _days() -> list[str]:
    return days_of(drawn(0))


def test_it_stands_beside_what_is_left_out_by_itself(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        with_plans(home)
        for file in home.glob("events_*.csv"):
            rows = pl.read_csv(file)
            rows.with_columns(is_test=(pl.col("user_id") % 11 == 0).cast(pl.Int8)).write_csv(file)

    ended, raw, _ = made(tmp_path, write, "--where", "COALESCE(plan, '') <> 'staff'")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "COALESCE(is_test, 0) = 0 AND COALESCE(plan, '') <> 'staff'"
    share = (drawn(0)["user"] % 4 == 1).mean()
    assert f"; what --where leaves out ({share:.1%} of rows)" in " ".join(ended.out.split())


@pytest.mark.parametrize("of_items", [True, False])
def test_a_column_of_one_value_takes_nothing_else_with_it(tmp_path: Path, of_items: bool) -> None:
    """Not the embedding that a list of the users shares with it, nor a table's column of its name."""
    x = drawn(0)
    topic = pl.Series([f"topic{k % 6}" for k in range(300)]).gather(x["item"])
    lang = pl.Series(["de" if u % 2 else "en" for u in x["user"]])

    def write(home: Path) -> None:
        daily(frame(category=topic) if of_items else frame(lang=lang))(home)
        likes = [[f"topic{k % 6}", f"topic{(k + 1) % 6}"] for k in range(USERS)]
        pl.DataFrame({"user_id": range(USERS), "likes": likes}).write_parquet(home / "users.parquet")
        if not of_items:
            kinds = {"lang": ["de", "en", "fr"] * 100, "genre": [f"g{k % 9}" for k in range(300)]}
            pl.DataFrame({"item_id": range(300)} | kinds).write_parquet(home / "items.parquet")

    rule = "category = 'topic1'" if of_items else "lang = 'de'"
    ended, raw, text = made(tmp_path, write, "--where", rule)
    assert ended.code == 0, ended.err
    mine = features(raw)
    if of_items:
        assert "category" not in mine and "embedding_name" not in mine["likes"], text
    else:
        assert [f["side"] for f in mine.values() if f.get("column", f["name"]) == "lang"] == ["item"], text


def test_what_is_printed_is_of_the_rows_that_count(tmp_path: Path) -> None:
    """The user of the printed command is one of them, and so is the guest; a mark that is told keeps the rule."""

    def write(home: Path) -> None:
        with_plans(home)
        for file in home.glob("events_*.csv"):
            rows = pl.read_csv(file)
            rows.with_columns(is_test=(pl.col("user_id") % 3 == 0).cast(pl.Int8)).write_csv(file)

    ended, raw, text = made(tmp_path, write, "--where", "plan = 'paid'")
    assert ended.code == 0 and raw["data"]["events"]["where"] == "plan = 'paid'", ended.err
    asked = shlex.split(next(line for line in ended.out.splitlines() if "recommend --" in line))
    assert int(asked[asked.index("--user") + 1]) % 4 == 3
    assert "--feature plan=free" not in ended.out and "--feature plan=staff" not in ended.out
    assert "data.events.where: \"plan = 'paid' AND COALESCE(is_test, 0) = 0\"" in text
    assert "# plan: not used: one value of all rows that count\n" in text and "plan" not in features(raw)
    assert "level" in features(raw)


def test_a_side_tables_column_is_looked_up(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, with_plans, "--where", "items.aktiv = 1")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "items.aktiv = 1" and raw["data"]["types"]["aktiv"] == "int64"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json").json
    x = drawn(0)
    mine = (np.array([d == DAY for d in _days()]) & (x["item"] % 8 != 3)).sum()
    assert found["rows"] + found["labels"]["repeated_clicks"] == mine


@pytest.mark.parametrize(
    ("rule", "written"),
    [
        ("stock > 30", "aktiv = 1 AND status IN ('live', 'new') AND stock > 30"),
        ("stock > 30 OR stock = 1", "aktiv = 1 AND status IN ('live', 'new') AND (stock > 30 OR stock = 1)"),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_may_be_served_is_beside_what_was_withdrawn(tmp_path: Path, form: str, rule: str, written: str) -> None:
    ended, raw, text = made(tmp_path, shop(STATES, form), "--export-items", rule)
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == written
    stock = STATES["stock"].to_numpy()
    there = (N % 8 != 3) & (N % 10 != 1) & ((stock > 30) | ("OR" in rule) & (stock == 1))
    row = " ".join(ended.out.partition("\nserved  ")[2].split())
    assert row.startswith(f"by export.items {written}: {there.sum() / ITEMS:.0%} of the table's items are served")
    assert "tell what was withdrawn, as --export-items says: " in text
    assert config_of(tmp_path).export.items == written
    check = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY)
    assert check.code == 0 and f"holds for {there.sum()} of {ITEMS} items" in check.out, check.err


def test_it_is_written_where_nothing_tells_what_was_withdrawn(tmp_path: Path) -> None:
    table = STATES.drop("status", "aktiv", "stock").with_columns(sponsored=pl.Series(N % 5 == 0))
    ended, raw, text = made(tmp_path, shop(table, "csv"), "--export-items", "NOT sponsored")
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "NOT sponsored" and raw["data"]["types"]["sponsored"] == "bool"
    assert "# as --export-items says: 80% of the table's items are served; or items: all" in text


def test_one_that_no_item_fulfils_is_refused_by_the_check(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, shop(STATES, "csv"), "--export-items", "stock > 1000000")
    assert ended.code == 65 and "holds for none of the" in ended.err
    assert raw["export"]["items"].endswith(" AND stock > 1000000"), "the config is there to be corrected"


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "no column": (["--where", "plam <> 'staff'"], ["--where: ", "has no column plam", "plan"]),
    "no length": (["--within", "2 days"], ["--within: 2 days is no length of time", "such as 30m, 24h or 2d"]),
    "no pairs": (["--within", "2h"], ["--within: no table was found whose rows come of what was shown"]),
    "no side table": (["--where", "users.age > 3"], ["no table of users was found beside the events"]),
    "no column of it": (["--where", "items.stok > 3"], ["has no column stok", "stock"]),
    "no expression": (["--where", "plan <>"], ["--where: expected an SQL expression"]),
    "no condition": (["--where", "level + 1"], ["--where: expected true or false of each row, got"]),
    "nothing named": (["--where", "1 = 1"], ["--where: 1 = 1 names no column"]),
    "types": (["--where", "ts > 'a'"], ["--where: "]),
    "an outcome": (["--where", "watch_seconds > 3"], ["--where: watch_seconds is known only after the item is shown"]),
    "what a rule makes of it": (
        ["--click", "clicked = 1", "--where", "clicked_ = true"],
        ["--where: clicked_ is known only"],
    ),
    "good: no condition": (["--conversion", "watch_seconds * 2"], ["--conversion: expected true or false of each row"]),
    "good: of a table": (
        ["--conversion", "items.stock + 1"],
        ["--conversion: expected true or false of each row, got"],
    ),
    "good: types": (["--conversion", "plan > 3"], ["--conversion: cannot compare string with numeric type"]),
    "served: no column": (["--export-items", "stok > 3"], ["--export-items: ", "has no column stok", "stock"]),
    "served: no condition": (["--export-items", "stock"], ["--export-items: expected true or false of each row"]),
    "served: a column called today": (["--export-items", "today = 1"], ["names no column", "in double quotes"]),
    "served: a time of day": (["--export-items", "inlagd > CURRENT_TIME"], ["--export-items: expected an expression"]),
    "a moment": (["--where", "ts > now()"], ["--where: expected an expression of a row alone, which now is not"]),
    "served: no expression": (["--export-items", "stock >"], ["--export-items: expected an SQL expression"]),
}


def test_a_column_that_is_guessed_to_be_an_outcome_may_be_none(tmp_path: Path) -> None:
    line = refused(tmp_path, "--where", "level > 3", "--outcomes", "level")
    assert "--where: level is known only after the item is shown" in line and "write where by hand" in line
    assert "by hand" not in refused(tmp_path, "--where", "watch_seconds > 3")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    options, expected = REFUSED[name]
    line = refused(tmp_path, *options)
    assert all(part in line for part in expected), line


def test_a_column_that_a_table_beside_alone_has_is_meant(tmp_path: Path) -> None:
    """Also beside one of the events, which goes before."""
    ended, raw, _ = made(tmp_path, with_plans, "--where", "stock > 3 AND plan <> 'staff'")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "items.stock > 3 AND plan <> 'staff'"
    x = drawn(0)
    stock = np.array(STATES["stock"].to_list())[x["item"]]
    unknown = (stock > 3) & (x["user"] % 4 == 2)
    gone = ~((stock > 3) & np.isin(x["user"] % 4, [0, 3]))
    said = f"({gone.mean():.1%} of rows; {unknown.mean():.1%} have no value there, and are left out too: OR ... IS"
    assert f"what --where leaves out {said}" in ended.out


def test_without_a_table_of_items_the_events_tell_what_may_be_served(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        with_plans(home)
        (home / "items.csv").unlink()

    (tmp_path / "log").mkdir()
    write(tmp_path / "log")
    assert "no table of items was found, and events_{day}.csv has no column stock" in refused(
        tmp_path, "--export-items", "stock > 3"
    )


def test_what_is_served_of_events_alone_is_counted_by_item(tmp_path: Path) -> None:
    """A person's rule and a guess hold for the same items, in whatever order the rows name these."""
    price, gone = np.random.default_rng(3).integers(0, 100, ITEMS), np.arange(ITEMS) % 7 == 0
    item = drawn(0)["item"]
    state = pl.Series(["deleted" if gone[k] else "live" for k in item])
    ended, raw, text = made(
        tmp_path, daily(frame(status=state, price=pl.Series(price[item]))), "--export-items", "price > 50"
    )
    assert ended.code == 0 and raw["export"]["items"] == "status = 'live' AND price > 50", ended.err
    there = (~gone & (price > 50)).sum()
    assert f"{there / ITEMS:.0%} of the sample's items are served" in text
    assert f"holds for {there} of {ITEMS} items" in ended.out


def test_of_a_single_day_too_the_sample_is_no_table(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        price = pl.Series(drawn(0)["item"] % 7)
        frame(price=price).filter(pl.Series(_days()) == DAY).write_csv(home / f"events_{DAY}.csv")

    ended, _, text = made(tmp_path, write, "--export-items", "price > 2")
    assert ended.code == 0 and "of the sample's items are served" in text, ended.err


@pytest.mark.parametrize("rule", ["--where", "--click", "--conversion"])
def test_a_column_of_a_type_that_nothing_reads_is_called_so(tmp_path: Path, rule: str) -> None:
    home = tmp_path / "log"
    home.mkdir()
    daily(frame(took=pl.Series([dt.timedelta(seconds=3)] * len(frame()))))(home)
    ended = dmtl("init", home, "-o", tmp_path / "mine.yaml", rule, "took > 3")
    assert ended.code == 2 and f"{rule}: took is of type Duration(time_unit='us'), which nothing reads" in ended.err


def test_a_field_of_an_object_of_the_events_is_no_table_beside_them(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        x = drawn(0)
        frame = pl.DataFrame({"user_id": x["user"], "item_id": x["item"], "ts": x["at"], "clicked": x["click"]})
        plan = pl.struct(plan=pl.Series([PLANS[u % 4] for u in x["user"]])).alias("users")
        by_day(home / "events", frame.with_columns(plan, seconds=pl.Series(x["seconds"])), x)

    ended, raw, _ = made(tmp_path, write, "--where", "users.plan <> 'staff'")
    assert ended.code == 0, ended.err
    gone = np.isin(drawn(0)["user"] % 4, [1, 2]).mean()
    assert "users.plan" in raw["data"]["events"]["where"] and f"what --where leaves out ({gone:.1%} of" in ended.out


def test_a_column_of_a_type_that_no_sample_has(tmp_path: Path) -> None:
    """How many rows it leaves out is for `check` to say."""

    def write(home: Path) -> None:
        shop(STATES)(home)
        file = next(home.glob("items*.parquet"))
        blob = pl.Series("blob", [None if k % 5 else b"x" for k in range(len(STATES))])
        pl.read_parquet(file).with_columns(blob).write_parquet(file)

    ended, raw, _ = made(tmp_path, write, "--where", "items.blob IS NULL")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["where"] == "items.blob IS NULL" and "by data.events.where" in ended.out


def test_what_a_person_says_of_a_column_is_in_place_of_the_guess(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, shop(STATES), "--export-items", "status <> 'sold'")
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "aktiv = 1 AND status <> 'sold'" and "as --export-items says" in text


@pytest.mark.parametrize(
    ("rule", "written"),
    [
        ("shown_since > now() - INTERVAL '3 days'", "shown_since > NOW() - INTERVAL '3 days'"),
        ("shown_since > NOW - INTERVAL '3 days'", "shown_since > NOW() - INTERVAL '3 days'"),
        ("shown_since >= today() - INTERVAL '3 days'", "shown_since >= CURRENT_DATE - INTERVAL '3 days'"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_age_is_of_each_day_as_it_was(tmp_path: Path, rule: str, written: str, form: str) -> None:
    """As people write it; past days are measured with what was young then, and no WARNING says otherwise."""
    days = ["2026-02-20", "2026-02-26", "2026-02-27", "2026-02-28", "2026-03-02"]
    since = pl.Series("shown_since", [f"{days[k % 5]} 12:00:00" for k in N])
    plain = STATES.drop("status", "aktiv", "stock").with_columns(since)
    ended, raw, text = made(tmp_path, shop(plain, form), "--export-items", rule)
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == written and "--export-items: " not in ended.out
    for day, young in {"2026-03-03": 1, "2026-03-02": 2}.items():
        found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
        mine = sum(k % 5 >= 5 - young for k in N)
        assert f"holds for {mine:,} of" in found["served"]
    assert "as --export-items says: 20% of the table's items are served; or items: all" in text


def test_a_guess_that_a_person_s_rule_says_too_is_not_written(tmp_path: Path) -> None:
    """A state as of the log's end would leave out of past days what a rule with times has there."""
    few = seldom()
    gone = [f"2026-03-0{k % 3 + 1} 09:00:00" if k in few else None for k in N]
    states_ = ["sold" if g else "active" for g in gone]
    plain = STATES.drop("status", "aktiv", "stock").with_columns(
        pl.Series("status", states_), pl.Series("sold_on", gone, dtype=pl.String)
    )
    rule = "sold_on IS NULL OR sold_on > NOW()"
    ended, raw, _ = made(tmp_path, shop(plain), "--export-items", rule)
    assert ended.code == 0 and "status" not in raw.get("export", {}).get("items", ""), (ended.err, raw.get("export"))
    ended, raw, _ = made(tmp_path / "other", shop(plain), "--export-items", "item_id % 7 > 0")
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "(sold_on IS NULL OR sold_on > NOW()) AND item_id % 7 > 0"


def seldom() -> set[int]:
    """20 items that have less than half of the last day's rows."""
    last = np.array(_days()) == DAY
    return {*np.argsort(np.bincount(drawn(0)["item"][last], minlength=ITEMS))[:20].tolist()}


def test_a_rule_without_times_replaces_no_state(tmp_path: Path) -> None:
    """That it leaves out the same items today says nothing of those that are withdrawn tomorrow."""
    gone = seldom()
    states = ["deleted" if k in gone else "live" for k in N]
    plain = STATES.drop("aktiv").with_columns(
        pl.Series("status", states), pl.Series("stock", [0 if k in gone else 3 for k in N])
    )
    ended, raw, _ = made(tmp_path, shop(plain), "--export-items", "stock >= 1")
    assert ended.code == 0 and raw["export"]["items"] == "status = 'live' AND stock >= 1", ended.err


def test_columns_that_a_person_calls_outcomes_are_no_features(tmp_path: Path) -> None:
    """Of the events and of a table beside them, as one that is of the end of the log."""

    def write(home: Path) -> None:
        with_plans(home)
        items = pl.read_csv(home / "items.csv")
        items.with_columns(stars=pl.col("item_id") * 7 % 11, hue=pl.col("item_id") % 3).write_csv(home / "items.csv")

    ended, raw, text = made(tmp_path, write, "--outcomes", "level, stars")
    assert ended.code == 0, ended.err
    assert "level" in raw["data"]["events"]["outcomes"] and "- level  # as --outcomes says" in text
    assert not {"level", "stars"} & features(raw).keys() and {"hue", "plan"} <= features(raw).keys()
    assert "# stars: not used: as --outcomes says" in text


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("levle", "--outcomes: no table has a column levle, did you mean level?"),
        ("level,user_id", "--outcomes: user_id is the user"),
    ],
)
def test_outcomes_that_cannot_be(tmp_path: Path, columns: str, said: str) -> None:
    assert said in refused(tmp_path, "--outcomes", columns)


def test_what_one_value_of_all_that_is_served_says_is_no_feature(tmp_path: Path) -> None:
    """The state that the rule names; what it names beside it, and what differs among what is served, is one."""

    def write(home: Path) -> None:
        with_plans(home)
        items = pl.read_csv(home / "items.csv").drop("aktiv", "status", "stock")
        shown = pl.Series("shape", ["a" if k % 9 else "z" for k in items["item_id"]])
        items.with_columns(shown, hue=pl.col("item_id") % 3).write_csv(home / "items.csv")

    rule = "shape = 'a' AND hue <> 7"
    ended, raw, text = made(tmp_path, write, "--export-items", rule)
    assert ended.code == 0 and raw["export"]["items"] == rule, ended.err
    assert "hue" in features(raw) and "shape" not in features(raw)
    assert "# shape: not used: one value of all items that are served" in text


@pytest.mark.parametrize(
    "rule",
    ["{} <> 'N'", "NOT {} = 'N'", "{} = 'S'", "\"{}\" != 'N'", "'N' <> {}", "{} IN ('S')", "{} not in ('N', 'n')"],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_yes_and_no_are_compared_as_they_are_written(tmp_path: Path, rule: str, form: str) -> None:
    """Whether the config reads them as true and false, or files have texts: who is left out and what is served."""
    users = pl.DataFrame({"user_id": range(USERS), "ativo": ["N" if k % 5 == 0 else "S" for k in range(USERS)]})
    items = pl.DataFrame({"item_id": range(ITEMS), "visivel": ["N" if k % 4 == 0 else "S" for k in range(ITEMS)]})
    items = items.with_columns(tone=pl.Series([f"tone {k % 7}" for k in range(ITEMS)]))

    def write(home: Path) -> None:
        daily(frame())(home)
        for name, table in {"users": users, "items": items}.items():
            getattr(table, f"write_{form}")(home / f"{name}.{form}")

    more = ("--where", rule.format("ativo"), "--export-items", rule.format("visivel"))
    ended, raw, _ = made(tmp_path, write, *more)
    assert ended.code == 0, ended.err
    gone = (drawn(0)["user"] % 5 == 0).mean()
    assert f"what --where leaves out ({gone:.1%} of rows)" in " ".join(ended.out.split())
    assert "75% of the table's items are served" in " ".join(ended.out.split())
    assert ("true" in raw["export"]["items"] or "false" in raw["export"]["items"]) == (form == "csv")
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json")
    assert found.code == 0, found.err
    mine = (np.array([d == DAY for d in _days()]) & (drawn(0)["user"] % 5 != 0)).sum()
    assert found.json["rows"] + found.json["labels"]["repeated_clicks"] == mine


def test_the_printed_command_has_what_was_given(tmp_path: Path) -> None:
    """Where the user and the item have to be named, the command that does it has the conditions too."""
    ended, _, _ = made(tmp_path, of_one_day, "--where", "alumno <> 'x'")
    assert ended.code == 78 and "the user, the item could not be guessed" in ended.err
    first = shlex.split(ended.out.splitlines()[-1].removeprefix("first: "))
    assert first[first.index("--where") + 1] == "alumno <> 'x'"
    assert dmtl(*first[1:]).code == 0
    assert config_of(tmp_path).data.events.where == "alumno <> 'x'"


def test_days_whose_clicks_do_not_come_again(tmp_path: Path) -> None:
    """Beside a condition and without one; the printed commands leave them out."""
    ended, raw, text = made(tmp_path / "a", with_plans, "--seen-days", "30", "--export-items", "stock > 30")
    assert ended.code == 0 and raw["export"]["seen_days"] == 30 and raw["export"]["items"].endswith("stock > 30")
    assert "as --seen-days says: exclude_seen leaves out what a user clicked in so many days" in text
    shown = [line.split("  # ")[0] for line in ended.out.splitlines() if " recommend " in line]
    assert shown and all(line.endswith("--exclude-seen") for line in shown)
    assert '"exclude_seen": true' in ended.out.splitlines()[-1]
    ended, raw, _ = made(tmp_path / "b", daily(frame()), "--seen-days", "2")
    assert ended.code == 0 and raw["export"] == {"seen_days": 2}, ended.err
    assert raw["evaluate"] == {"exclude_seen": True}, "what is measured is what is served so"
    assert config_of(tmp_path / "b").export.seen_days == 2
    assert "--seen-days" in refused(tmp_path / "c", "--seen-days", "0")


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        with_plans(home)
        items = pl.read_csv(home / "items.csv")
        items.with_columns(hue=pl.col("item_id") * 7 % 11, same=pl.lit("x")).write_csv(home / "items.csv")

    ended, _, _ = made(tmp_path, write, "--outcomes", "hue")
    named = re.search(r"; not used: ([^:]*):", " ".join(ended.out.split()))
    assert named is not None and "same" in named[1].split(", ") and "hue" not in named[1], ended.out
    assert re.search(r"\noutcomes +\d+ +[^\n]*hue", ended.out), "with the others that a person names"
