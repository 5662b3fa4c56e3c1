"""init: names that nobody knows, where tables beside the log tell what is what."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from initiated import daily, features, frame, made
from unseen import ITEMS, days_of, drawn
from worlds import dmtl

from dmtl_cli.guess.columns.pieces import are_lists, cut_into
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import with_ones
from dmtl_cli.guess.exposures.guests import guests_of
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.reading.rewrites import values_of
from dmtl_cli.guess.sides.versions import birth

NAMES = {"user_id": "zuwqe", "item_id": "vlork", "clicked": "plim", "watch_seconds": "drun"}


def catalogue(**more: Any) -> pl.DataFrame:
    told = {"vlork_id": [f"v{k}" for k in range(ITEMS)], "name": [f"One of many, number {k}" for k in range(ITEMS)]}
    return pl.DataFrame(told | more)


def shown(**more: Any) -> pl.DataFrame:
    """Rows of users, each row with the last words that its user searched, and what of it was opened in a table of its
    own."""
    x = drawn(0)
    last = [[{"word": f"w{(u * 7 + k) % 30}", "times": k} for k in range(4)] for u in x["user"]]
    rows = frame(search=pl.Series(last), request=x["request"], **more).rename(NAMES)
    return rows.with_columns(
        pl.format("u{}", "zuwqe").alias("zuwqe"), pl.format("v{}", "vlork").alias("vlork"), xid=pl.int_range(pl.len())
    )


def test_a_list_that_no_table_lists_is_not_what_was_shown(tmp_path: Path) -> None:
    """Its elements are words; each row has an item, which a table lists."""
    rows = shown()
    opened = rows.filter(pl.col("plim") == 1).select("xid", "drun")

    def write(home: Path) -> None:
        rows.drop("plim", "drun").with_columns(pl.Series("day", days_of(drawn(0)))).write_parquet(home / "seen.parquet")
        opened.write_parquet(home / "opened.parquet")
        catalogue().write_parquet(home / "vlorks.parquet")

    ended, raw, _ = made(tmp_path, write, "--conversion", "drun >= 30")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["user"], events["item"], "explode" in events) == ("zuwqe", "vlork", False), events
    assert events["click"] == "clicked" and raw["data"]["items"]["path"] == "vlorks.parquet"


def test_what_tells_those_that_have_ended_is_no_feature(tmp_path: Path) -> None:
    """By its values: each day before the last did not know them."""
    x = drawn(0)
    gone, first = np.arange(ITEMS) % 4 == 0, days_of(x)[0]
    keep = ~gone[x["item"]] | (np.array(days_of(x)) == first)
    ends = pl.Series("gone_at", np.where(gone, f"{first}T23:59:59", None).tolist()).str.to_datetime()
    rare = np.where(np.arange(ITEMS) == 4, "yes", "no")
    several = [f"{'g' if k % 4 == 0 else 's'}{k // 4 % 2}" for k in range(ITEMS)]  # two of each
    kinds = {"rare": rare, "qxz": np.where(gone, "pf", "ok"), "kind": [f"k{k % 3}" for k in range(ITEMS)]}
    kinds |= {"vtr": several, "code": [f"c{k}" for k in range(ITEMS)]}
    items = pl.DataFrame({"item_id": range(ITEMS), "gone_at": ends, **kinds})

    def write(home: Path) -> None:
        frame().filter(pl.Series(keep)).write_parquet(home / "shown.parquet")
        items.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["items"]["until"] == "gone_at", text
    assert {"kind", "rare"} <= {*features(raw)} and not {"qxz", "vtr"} & features(raw).keys()
    assert "# qxz, vtr: not used: most items that have ended have a value of their own (gone_at)" in text


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_flag_of_0_and_1_is_a_condition(form: str, tmp_path: Path) -> None:
    x = drawn(0)
    kept = ((x["user"] % 3 == 0) & (x["click"] == 1)).astype(int)
    rows = frame(kept=kept)

    def write(home: Path) -> None:
        rows.write_csv(home / "shown.csv") if form == "csv" else rows.write_parquet(home / "shown.parquet")

    ended, raw, _ = made(tmp_path, write, "--conversion", "watch_seconds >= 30 OR kept")
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["computed"]["good"] == "watch_seconds >= 30 OR kept = 1"
    last = days_of(x)[-1]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", last, "--json").json
    mine = np.array(days_of(x)) == last
    good = (x["seconds"] >= 30) | (kept == 1)
    assert found["labels"]["conversion_rate"] == pytest.approx(good[mine & (x["click"] == 1)].mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a = 1"),
        ("a AND b > 2", "a = 1 AND b > 2"),
        ("b > 2 or NOT a", "b > 2 or NOT a = 1"),
        ('(a OR "c d") AND a', '(a = 1 OR "c d" = 1) AND a = 1'),
        ("a = 1 OR a <> 0", "a = 1 OR a <> 0"),
        ("COALESCE(a, 0) = 1", "COALESCE(a, 0) = 1"),
        ("SUM(a) > 1 AND x.a", "SUM(a) > 1 AND x.a"),
        ("ab OR b IN (a)", "ab OR b IN (a)"),
        ("b = 'x OR a OR y' OR a", "b = 'x OR a OR y' OR a = 1"),
        ("(a) = 1", "(a) = 1"),
        ("NOT (a) AND b > 1", "NOT (a = 1) AND b > 1"),
        ("b BETWEEN 0 AND a", "b BETWEEN 0 AND a"),
        ("MAX (a) > 0", "MAX (a) > 0"),
    ],
)
def test_columns_that_stand_as_conditions(text: str, expected: str) -> None:
    assert with_ones(text, {"a", "c d"}) == expected
    assert with_ones(text, set()) == text


def test_texts_of_items_of_which_some_are_gone() -> None:
    items = pl.Series([f"m{k}" for k in range(60)])
    texts = pl.Series(["|".join(f"m{k + 9 * n}" for n in range(1 + k % 4)) for k in range(60)])  # some are not there
    assert cut_into(texts, items) == "|"
    assert cut_into(texts.str.replace_all("m", "tag"), items) is None
    numbers = pl.Series([str(k) for k in range(60)])
    assert cut_into(texts.str.replace_all("m", ""), numbers) is None, "any numbers are among others"
    assert cut_into(pl.Series([f"m{k}|n{k}" for k in range(60)]), items) is None, "two parts of one id"
    genres = pl.Series(["|".join(f"g{(k + 3 * n) % 8}" for n in range(1 + k % 4)) for k in range(400)])
    assert are_lists(genres) and not are_lists(pl.Series([f"SE|{k % 50}" for k in range(400)]))


def test_a_rule_of_a_table_whose_rows_name_nothing(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "shown.parquet")
    pl.DataFrame({"row": [f"z{k}" for k in range(50)], "kept": [True] * 50}).write_parquet(tmp_path / "apart.parquet")
    ended = dmtl("init", tmp_path, "-o", tmp_path / "mine.yaml", "--conversion", "kept = true")
    assert ended.code == 2 and not (tmp_path / "mine.yaml").exists()
    assert "apart.parquet has it, and its rows name nothing that the others do" in ended.err
    assert "is the user user_id, and the item item_id? Else give --user COLUMN and --item COLUMN too" in ended.err


def screens(share: float = 0.3) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Screens with a list of dishes, each opened or not, and orders of a screen with a list of what was bought."""
    rng, x = np.random.default_rng(3), drawn(0)
    seen = pl.DataFrame({"screen": x["request"], "client": x["user"], "at": x["at"], "dish": x["item"]})
    seen = seen.unique(["screen", "dish"], keep="first", maintain_order=True)
    seen = seen.with_columns(abierto=pl.Series(rng.random(len(seen)) < share), dish=pl.format("d{}", "dish"))
    bought = seen.filter(pl.col("abierto") & pl.Series(rng.random(len(seen)) < 0.5))
    orders = bought.group_by("screen", maintain_order=True).agg(pl.col("at").max() + 60, dishes="dish")
    told = pl.struct("dish", "abierto").alias("shown")
    return seen.group_by("screen", "client", maintain_order=True).agg(pl.col("at").first(), told), orders


@pytest.mark.parametrize("asked", [(), ("--click", "abierto")])
def test_what_was_opened_is_the_click_and_not_what_was_bought(asked: tuple[str, ...], tmp_path: Path) -> None:
    """Its name is of another language; a person gives it as it is called within the list."""
    lists, orders = screens()
    names = [f"Dish {k} of the house" for k in range(ITEMS)]
    dishes = pl.DataFrame({"dish": [f"d{k}" for k in range(ITEMS)], "name": names})

    def write(home: Path) -> None:
        lists.write_parquet(home / "screens.parquet")
        orders.write_parquet(home / "orders.parquet")
        dishes.write_parquet(home / "dishes.parquet")

    ended, raw, _ = made(tmp_path, write, *asked)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["click"], events["conversion"]) == ("shown.abierto", "orders"), events


def test_what_is_open_is_no_click() -> None:
    """Of an element of a list alone the name says what was opened."""
    given = {"user": "client", "item": "shown.dish"}
    for share, found in ((0.2, "shown.abierto"), (0.8, None)):
        rows = screens(share)[0].explode("shown").unnest("shown")
        rows = rows.rename({"dish": "shown.dish", "abierto": "shown.abierto"})
        click = roles_of(rows, given).click
        assert (click and click.column) == found
    own = rows.with_columns(pl.Series("shown.abierto", rows["shown.dish"].hash() % 4 == 0))
    assert roles_of(own, given).click is None, "each item's own"
    shop = rows.with_columns(abierto=pl.Series(np.random.default_rng(1).random(len(rows)) < 0.2))
    assert roles_of(shop.drop("shown.abierto"), given).click is None, "a shop may be open"


def test_lists_of_what_was_looked_for_are_not_what_was_shown() -> None:
    """Nothing that the other rows have names their elements, however many there are."""
    kinds = ["hjul"] * 900 + ["brum"] * 180
    rows = pl.DataFrame({
        "kind": kinds, "user": [f"u{k % 60}" for k in range(1080)], "item": [f"i{k % 90}" for k in range(1080)],
        "tags": pl.Series([None] * 900 + [[f"t{k}" for k in range(9)]] * 180, dtype=pl.List(pl.String)),
    })  # fmt: skip
    values = values_of(rows, "kind", Roles(user=Guess("user", ""), item=Guess("item", "")))
    assert values is not None and (values.exposure, values.click) == (("hjul",), ("brum",)), values


@pytest.mark.parametrize("asked", [(), ("--item", "shown")])
def test_lists_with_clicks_are_what_was_shown(asked: tuple[str, ...], tmp_path: Path) -> None:
    """Though each row has a surface, which a table lists."""
    x = drawn(0)
    rows = pl.DataFrame(
        {"user_id": x["user"], "at": x["at"], "request": x["request"], "shown": x["item"], "clicked": x["click"]}
    )
    lists = rows.group_by("request", "user_id", maintain_order=True).agg(pl.col("at").first(), "shown", "clicked")
    surfaces = [f"s{k}" for k in range(30)]

    def write(home: Path) -> None:
        lists.with_columns(surface=pl.Series([surfaces[k % 30] for k in range(len(lists))])).write_parquet(
            home / "seen.parquet"
        )
        pl.DataFrame({"surface": surfaces, "label": [f"Surface {k}" for k in range(30)]}).write_parquet(
            home / "surfaces.parquet"
        )

    _, raw, _ = made(tmp_path, write, *asked)
    events = raw["data"]["events"]
    assert (events["item"], events["click"]) == ("shown", "clicked"), events


# -- rules over what came ----------------------------------------------------------------------------------------------


def sessions(home: Path, name: str = "heard.parquet") -> tuple[np.ndarray, np.ndarray]:
    """Shown items, clicked or not in another language, and several sessions of some of them, by user and item. And the
    sum and the greatest of each clicked row's."""
    rng, x = np.random.default_rng(8), drawn(0)
    rows = frame(drop=("watch_seconds", "clicked"), kuunneltu=np.where(x["click"], "K", "E"))
    rows = rows.with_columns(row=pl.int_range(pl.len())).unique(
        ["user_id", "item_id"], keep="first", maintain_order=True
    )
    rows = rows.rename({"kuunneltu": "klikattu"})
    clicked = rows.filter(pl.col("klikattu") == "K")
    parts = [
        clicked.with_columns(ms=pl.Series(rng.integers(1_000, 60_000, len(clicked))), ts=pl.col("ts") + 60 * k)
        for k in (1, 2)
    ]
    heard = pl.concat([parts[0], parts[1].gather_every(3)])
    rows.drop("row").write_parquet(home / "shown.parquet")
    heard.select("user_id", "item_id", "ts", "ms").write_parquet(home / name)
    each = clicked.join(heard.group_by("row").agg(total=pl.col("ms").sum(), most=pl.col("ms").max()), on="row")
    return each["total"].to_numpy(), each["most"].to_numpy()


@pytest.mark.parametrize("word", ["SUM", "max"])
def test_a_rule_says_what_is_made_of_several_rows(word: str, tmp_path: Path) -> None:
    told: list[np.ndarray] = []
    rule = f"{word}(ms) >= 50000"
    ended, raw, _ = made(tmp_path, lambda home: told.extend(sessions(home)), "--conversion", rule, "--within", "2h")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    name = {"SUM": "total_ms", "max": "most_ms"}[word]
    assert events["joined"]["heard"]["columns"][name] == f"{word.upper()}(ms)", events
    assert events["click"] == "klikattu" and events["computed"]["good"] == f"COALESCE({name} >= 50000, FALSE)"
    rates = [
        dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json").json
        for day in sorted({*days_of(drawn(0))})
    ]
    clicks = sum(round(found["labels"]["click_rate"] * found["rows"]) for found in rates)
    good = sum(found["labels"]["conversion_rate"] * found["labels"]["click_rate"] * found["rows"] for found in rates)
    assert clicks == len(told[0]) and good == pytest.approx((told[word == "max"] >= 50_000).sum(), abs=2)


@pytest.mark.parametrize("days", ["_2026-03-01_2026-03-03", "_2026-03-01_03", "_20260301-0303", "_2026w09", ".2026-03"])
def test_a_file_of_several_days_is_called_without_them(days: str, tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda home: sessions(home, f"heard{days}.parquet") and None)
    assert [*raw["data"]["events"]["joined"]] == ["heard"], ended.err


def test_a_table_of_videos_is_no_log_of_its_creators(tmp_path: Path) -> None:
    """Though nearly each has a length of its own, which the log has too."""
    x = drawn(0)
    length = 10_000 + 37 * np.arange(ITEMS)
    made_by = [f"c{k % 9}" for k in range(ITEMS)]
    videos = {"video_id": [f"v{k}" for k in range(ITEMS)], "creator_id": made_by, "duration_ms": length}
    told = pl.DataFrame(
        videos
        | {"uploaded_at": ["2026-02-01T10:00:00+05:30"] * ITEMS, "title": [f"A title, {k}" for k in range(ITEMS)]}
    )
    rows = pl.DataFrame({
        "user": [{"user_id": f"u{u}", "acct": "staff" if u == 3 else "regular"} for u in x["user"]],
        "video": [{"video_id": f"v{i}", "duration_ms": int(length[i])} for i in x["item"]],
        "event_ts_ms": 1000 * x["at"], "seen": [{"watch_ms": int(1000 * s)} for s in x["seconds"]],
    })  # fmt: skip

    def write(home: Path) -> None:
        rows.write_ndjson(home / "feed.jsonl")
        told.write_ndjson(home / "videos.jsonl")
        pl.DataFrame({"creator_id": sorted({*made_by}), "name": [f"C {k}" for k in range(9)]}).write_ndjson(
            home / "creators.jsonl"
        )

    rules = "--where", "acct = 'regular'", "--conversion", "watch_ms >= 30000", "--outcomes", "acct,name"
    ended, raw, _ = made(tmp_path, write, *rules)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["path"], events["user"], events["item"]) == ("feed.jsonl", "user.user_id", "video.video_id"), events
    assert events["where"] == "\"user.acct\" = 'regular'" and raw["data"]["items"]["path"] == "videos.jsonl"
    assert "user.acct" in events["outcomes"], "and `name` is of a table that nothing reads"


def test_lists_that_some_lack_are_no_second_id() -> None:
    x, rng = drawn(0), np.random.default_rng(5)
    follows = ["|".join(f"g{k}" for k in sorted(rng.choice(20, 4, replace=False))) for _ in range(80)]
    rows = frame(follows=[None if u % 3 == 0 else follows[u % 80] for u in x["user"]])
    roles = roles_of(rows, {"user": "user_id", "item": "item_id"})
    assert guests_of(rows, roles) is None


def test_a_rule_over_what_only_clicks_have_tells_the_click(tmp_path: Path) -> None:
    """Of flags named like a start the one without which there is none of it."""
    x = drawn(0)
    rows = frame(drop=("clicked",), played=x["click"].astype(bool), watched=pl.Series(x["click"]).shuffle(2).cast(bool))
    ended, raw, _ = made(tmp_path, daily(rows), "--conversion", "watch_seconds >= 30")
    assert ended.code == 0 and raw["data"]["events"]["click"] == "played", ended.out
    unlike = rows.with_columns(watch_seconds=pl.col("watch_seconds") + 1)
    _, raw, _ = made(tmp_path / "unlike", daily(unlike), "--conversion", "watch_seconds >= 30")
    assert "click" not in raw["data"]["events"], "each row has it"


@pytest.mark.parametrize(
    "name", ["gepubliceerd_op", "publicado_en", "mis_en_ligne_le", "dimosiefthike", "ngày_phát_hành"]
)
def test_since_when_an_item_is_there_in_other_languages(name: str) -> None:
    """Few came within the log: without a name nothing would tell it."""
    days = pl.Series([dt.date(2026, 3, 1 + k % 4) for k in range(400)])
    ids = pl.Series([f"i{k % 40}" for k in range(400)])
    at = [dt.datetime(2026, 3, 2, 9) if k in (3, 7) else dt.datetime(2025, 1, 1 + k % 28) for k in range(40)]
    rows = pl.DataFrame({"id": [f"i{k}" for k in range(40)], name: at})
    late = (ids.is_in(["i3", "i7"])) & (days < dt.date(2026, 3, 2))
    found = birth(rows, "id", ids.filter(~late), days.filter(~late))
    assert found is not None and found.column == name
    assert birth(rows.rename({name: "geprüft_am"}), "id", ids.filter(~late), days.filter(~late)) is None


def test_a_rule_may_name_a_column_and_what_several_rows_add_up_to(tmp_path: Path) -> None:
    rule = "SUM(ms) >= 50000 AND MAX(ms) >= 20000"
    ended, raw, _ = made(tmp_path, lambda home: sessions(home) and None, "--conversion", rule, "--within", "2h")
    assert ended.code == 0, ended.err
    columns = raw["data"]["events"]["joined"]["heard"]["columns"]
    assert (columns["total_ms"], columns["most_ms"]) == ("SUM(ms)", "MAX(ms)")
    assert "total_ms >= 50000 AND most_ms >= 20000" in raw["data"]["events"]["computed"]["good"]


def test_a_price_that_changes_by_day_is_not_the_item(tmp_path: Path) -> None:
    """A catalogue a day, in which hardly two items have one price and some have another on the next day; the events
    have the price of the moment too."""
    x = drawn(0)
    at, days = pl.Series(days_of(x)), sorted({*days_of(x)})
    price = {(day, k): 10_000 + k * 977 + d * 131 * (k % 3 == 0) for d, day in enumerate(days) for k in range(ITEMS)}
    of = [price[day, int(k)] for day, k in zip(at, x["item"], strict=True)]
    price[days[-1], 1] = price[days[-1], 0]  # two cost the same
    rows = frame(price=pl.Series(of)).rename({**NAMES, "price": "wert"})
    rows = rows.with_columns(pl.format("u{}", "zuwqe").alias("zuwqe"), pl.col("vlork") * 13 + 500_000)

    def write(home: Path) -> None:
        daily(rows)(home)
        for day in days:
            (home / f"cat/day={day}").mkdir(parents=True)
            of_day = {"wert": [price[day, k] for k in range(ITEMS)], "vlork": [k * 13 + 500_000 for k in range(ITEMS)]}
            pl.DataFrame(of_day).write_parquet(home / f"cat/day={day}/part.parquet")

    ended, raw, text = made(tmp_path, write, "--user", "zuwqe", "--conversion", "drun >= 30")
    assert raw["data"]["events"]["item"] == "vlork", (ended.err, text)
    assert raw["data"]["items"] == {"path": "cat", "partition": "day", "key": "vlork"}, text
