"""`init` on logs with a row an action: what was shown, and what a user did with it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import made
from worlds import dmtl

from dmtl_cli.config.errors import Exit
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.reading.rewrites import values_of

PAGES, WIDE = 300, 6
IDS = ("page", "mark")
"""what clicks name, and what comes later does not"""
LANGUAGES = {
    "spanish": ("vista", "clic", "carrito", "compra"),
    "portuguese": ("visualização", "clique", "carrinho", "comprou"),
    "german": ("Anzeige", "Klick", "Warenkorb", "gekauft"),
    "french": ("affichage", "clic", "panier", "achat"),
    "turkish": ("görüntüleme", "tıklama", "sepete_ekleme", "satın_alma"),
    "russian": ("показ", "клик", "корзина", "покупка"),
    "italian": ("visualizzazione", "clic", "carrello", "acquisto"),
    "dutch": ("weergave", "klik", "winkelwagen", "aankoop"),
    "korean": ("노출", "클릭", "장바구니", "구매"),
    "chinese": ("曝光", "点击", "加购", "购买"),
    "japanese": ("表示", "クリック", "カート追加", "購入"),
    "english": ("ITEM_IMPRESSION", "itemClick", "add_to_cart", "PURCHASE"),
    "none": ("q1", "q2", "q3", "q4"),
}


def drawn(language: str, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of actions, one row an exposure as it was). A list of six has one moment; a click is seconds after, a cart
    and a purchase minutes to hours after, of users who come from a search too; some users see an item twice."""
    rng = np.random.default_rng(seed)
    shown, clicked, cart, bought = LANGUAGES[language]
    start = int(unseen.START.timestamp())
    actions: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for page in range(PAGES):
        user, at = f"u{page % 50}", start + page * 800
        for item in rng.choice(60, WIDE, replace=False):
            base = {"who": user, "prod": f"p{item}", "page": f"g{page}", "arm": page % 2, "mark": f"m{len(truth)}"}
            c = rng.random() < 0.4
            k = c and rng.random() < 0.5
            b = k and rng.random() < 0.6
            actions.append(base | {"ts": at, "what": shown})
            actions += [base | {"ts": at + 5, "what": clicked}] * (2 if rng.random() < 0.1 else 1) if c else []
            later = base | {"page": None, "mark": None}
            actions += [later | {"ts": at + 60, "what": cart}] if k else []
            actions += [later | {"ts": at + 20_000, "what": bought}] if b else []
            truth.append({"who": user, "prod": f"p{item}", "ts": at, "click": int(c), "cart": int(k), "buy": int(b)})
        stray = {"who": user, "prod": f"p{page % 60}", "page": None, "arm": page % 2, "mark": None}
        before = stray | {"ts": start - 90, "what": clicked}  # anything was shown: they came from a search
        actions += [before] if page % 5 == 0 else []
    return pl.DataFrame(actions).sample(fraction=1, shuffle=True, seed=seed), pl.DataFrame(truth)


def by_pair(log: pl.DataFrame, language: str) -> pl.DataFrame:
    """A row a user, item and UTC day on which it was shown: whether they did the rest of it that day."""
    shown, *others = LANGUAGES[language]
    day = pl.from_epoch("ts", "s").dt.date().alias("day")
    done = [(pl.col("what") == v).any().cast(pl.Int8).alias(name) for v, name in zip(others, NAMES, strict=True)]
    pairs = log.group_by("who", "prod", day).agg((pl.col("what") == shown).any().alias("shown"), *done)
    return pairs.filter("shown").with_columns(click=pl.max_horizontal("click", "cart", "buy"))


NAMES = ("click", "cart", "buy")


def read_of(tmp_path: Path, day: str) -> dict[str, Any]:
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert ended.code == 0, ended.err
    return ended.json


def agrees(found: dict[str, Any], truth: pl.DataFrame, good: pl.Expr) -> None:
    of_day = truth.filter(pl.col("day").cast(pl.String) == found["day"])
    assert found["rows"] == len(of_day)
    assert found["labels"]["click_rate"] == pytest.approx(of_day["click"].mean(), abs=1e-4)
    told = of_day.filter(pl.col("click") == 1).select(good.mean()).item()
    assert found["labels"]["conversion_rate"] == pytest.approx(told, abs=1e-4)


@pytest.mark.parametrize("language", [x for x in LANGUAGES if x != "none"])
def test_a_row_an_action_is_read_as_an_exposure(tmp_path: Path, language: str) -> None:
    """What follows names no exposure: a user and item have one a day, and all that came of it."""
    log, _ = drawn(language)
    log = log.drop(IDS)
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, raw, text = made(tmp_path, write, "--user", "who", "--item", "prod")
    shown = LANGUAGES[language][0]
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    pair = "who || '/' || prod"
    assert events["where"] == f"what = '{shown}'" and events["computed"] == {"exposure": pair}
    assert (events["unique"], events["click"]) == ("exposure", "clicked")
    later = events["joined"]["later"]
    assert (later["key"], later["computed"]) == ("exposure", {"exposure": pair})
    assert events["conversion"] == {*later["columns"]}.intersection([events["conversion"]]).pop()
    bought = later["columns"][events["conversion"]]
    assert LANGUAGES[language][3] in bought and "EDIT" not in text
    agrees(read_of(tmp_path, "2026-03-02"), by_pair(log, language), pl.col("buy"))
    assert "what" not in {f["name"] for f in raw["features"] if f != "auto"}


@pytest.mark.parametrize(("named", "key"), [("mark", "mark"), ("page", "page || '/' || prod")])
def test_clicks_alone_name_what_was_shown(tmp_path: Path, named: str, key: str) -> None:
    """By an id of its own, or by the page and the item; some clicks came from a search. What was bought is of what was
    shown to its user within some time before it."""
    log, truth = drawn("german")
    log = log.drop({*IDS} - {named})
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, raw, _ = made(tmp_path, write, "--user", "who", "--item", "prod", "--conversion", "Warenkorb")
    assert ended.code == 0, ended.err
    later, beside = (raw["data"]["events"]["joined"][name] for name in ("later", "beside"))
    assert later["columns"] == {"clicked": "COUNT(CASE WHEN what = 'Klick' THEN 1 END) > 0"}
    assert later.get("computed", {"": later["key"]}).popitem()[1] == key
    assert (beside["where"], beside["time"], beside["within"]) == ("what IN ('Warenkorb', 'gekauft')", "ts", "6h")
    found, of_day = read_of(tmp_path, "2026-03-02"), truth.filter(pl.col("ts") >= unseen.START.timestamp() + 86_400)
    of_day = of_day.filter(pl.col("ts") < unseen.START.timestamp() + 2 * 86_400)
    assert found["rows"] == len(of_day)
    assert found["labels"]["click_rate"] == pytest.approx(of_day["click"].mean(), abs=1e-4)
    told = of_day.filter(pl.col("click") == 1)["cart"].mean()
    assert told == pytest.approx(found["labels"]["conversion_rate"], abs=0.03)  # some were shown an item twice


def test_an_order_tells_where_no_word_does(tmp_path: Path) -> None:
    log, _ = drawn("none")
    log = log.drop(IDS)
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, raw, _ = made(tmp_path, write, "--user", "who", "--item", "prod")
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["where"], events["conversion"]) == ("what = 'q1'", "q3"), ended.err
    agrees(read_of(tmp_path, "2026-03-02"), by_pair(log, "none"), pl.col("cart"))


@pytest.mark.parametrize("when", ["iso", "iso with a zone", "ms", "timestamp", "day", "yyyymmdd", "none"])
@pytest.mark.parametrize("files", ["a folder a day", "one file"])
def test_times_as_the_log_has_them(tmp_path: Path, when: str, files: str) -> None:
    """In an object too; of one file of all days the time tells the day of what followed too."""
    log, _ = drawn("spanish", 1)
    log = log.sort("ts")
    at = pl.from_epoch(log["ts"], "s")
    made_of = {
        "iso": at.dt.strftime("%Y-%m-%d %H:%M:%S"), "iso with a zone": at.dt.strftime("%Y-%m-%dT%H:%M:%S.250+00:00"),
        "ms": log["ts"] * 1000, "timestamp": at, "day": at.dt.strftime("%Y-%m-%d"),
        "yyyymmdd": at.dt.strftime("%Y%m%d").cast(pl.Int64), "none": None,
    }[when]  # fmt: skip
    if made_of is None and files == "one file":
        pytest.skip("nothing tells a day")
    rows = log.drop("ts", *IDS)
    rows = rows if made_of is None else rows.with_columns(made_of.alias("moment"))
    rows = rows.with_columns(pl.struct(pl.col("prod").alias("code"), "arm").alias("thing")).drop("prod", "arm")

    def write(home: Path) -> None:
        if files == "one file":
            (home / "log").mkdir()
            rows.write_parquet(home / "log/all.parquet")
        else:
            unseen.by_day(home / "log", rows, {"at": log["ts"].to_numpy()})

    ended, raw, _ = made(tmp_path, write, "--user", "who", "--item", "thing.code")
    events = raw["data"]["events"]
    assert ended.code == 0 and events["computed"] == {"exposure": "who || '/' || \"thing.code\""}, ended.err
    dated = "moment" if files == "one file" else None
    assert events.get("date_column") == events["joined"]["later"].get("date_column") == dated
    agrees(read_of(tmp_path, "2026-03-02"), by_pair(log, "spanish"), pl.col("buy"))


def test_a_view_is_the_click_where_nothing_else_is(tmp_path: Path) -> None:
    """Page views, carts and orders: each view is of somebody who opened the item."""
    log, _ = drawn("english")
    kinds = {"itemClick": "view", "add_to_cart": "addtocart", "PURCHASE": "transaction"}
    rows = log.filter(pl.col("what") != "ITEM_IMPRESSION").with_columns(pl.col("what").replace_strict(kinds))
    write = lambda home: unseen.by_day(home / "log", rows, {"at": rows["ts"].to_numpy()})  # noqa: E731
    ended, raw, _ = made(tmp_path, write, "--user", "who", "--item", "prod")
    events = raw["data"]["events"]
    assert ended.code == 0 and "click" not in events and events["where"] == "what = 'view'", ended.err
    assert events["conversion"] == "transaction"
    found = read_of(tmp_path, "2026-03-02")
    assert not found["labels"]["exposures"] and 0 < found["labels"]["conversion_rate"] < 1


def test_what_followed_of_items_that_were_not_shown(tmp_path: Path) -> None:
    log, _ = drawn("english")
    other = pl.when(pl.col("what") == "ITEM_IMPRESSION").then("prod").otherwise(pl.lit("z") + pl.col("prod"))
    rows = log.with_columns(other.alias("prod")).rename({"what": "action"}).drop(IDS)
    write = lambda home: unseen.by_day(home / "log", rows, {"at": rows["ts"].to_numpy()})  # noqa: E731
    ended, _, _ = made(tmp_path, write, "--user", "who", "--item", "prod")
    assert ended.code == Exit.CONFIG and "few of the others are of a user and item that were shown" in ended.err


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("ordered", ["a product", "a list of products"])
def test_lists_of_what_was_shown_and_what_followed_in_one_stream(tmp_path: Path, ordered: str, few: bool) -> None:
    """As an analytics client sends them: a list of products viewed, then an event a product, or a list of them; where
    clicks are few, most rows have no product of their own."""
    log, _ = drawn("english")
    log = log.filter((pl.col("what") == "ITEM_IMPRESSION") | ~pl.col("prod").str.contains("[1-9]$")) if few else log
    log = log.sort("ts", "page", maintain_order=True)
    rows: list[dict[str, Any]] = []
    base = lambda r: {"anon": f"a{r['who']}", "userId": r["who"]}  # noqa: E731
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for r in log.iter_rows(named=True):
        if r["what"] == "ITEM_IMPRESSION":
            seen.setdefault((r["page"], r["ts"]), []).append(r)
    for (page, _), shown in seen.items():
        products = [{"product_id": r["prod"], "position": k} for k, r in enumerate(shown)]
        rows.append(
            base(shown[0]) | {"at": shown[0]["ts"], "event": "Product List Viewed", "page": page, "list": products}
        )
    names = {"itemClick": "Product Clicked", "add_to_cart": "Product Added", "PURCHASE": "Order Completed"}
    for r in log.filter(pl.col("what") != "ITEM_IMPRESSION").iter_rows(named=True):
        many = r["what"] == "PURCHASE" and ordered != "a product"
        product = {"list": [{"product_id": r["prod"], "position": 0}]} if many else {"product_id": r["prod"]}
        rows.append(base(r) | {"at": r["ts"], "event": names[r["what"]], **product})
    rows.sort(key=lambda row: row["at"])

    def write(home: Path) -> None:
        for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
            start = int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
            mine = [row for row in rows if start <= row["at"] < start + 86_400]
            text = "".join(json.dumps({**r, "at": stamp(r["at"])}) + "\n" for r in mine)
            (home / "log").mkdir(exist_ok=True)
            (home / f"log/{day}.jsonl").write_text(text)

    ended, raw, _ = made(tmp_path, write)
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    assert (events["explode"], events["item"], events["user"]) == ("list", "list.product_id", "userId")
    assert events["where"] == "event = 'Product List Viewed'" and events["request"] == "page"
    truth = by_pair(log if ordered == "a product" else log.filter(pl.col("what") != "PURCHASE"), "english")
    bought = by_pair(log, "english").select("who", "prod", "day", pl.col("buy").alias("bought"))
    truth = truth.join(bought, on=["who", "prod", "day"])  # an order is no click of its own
    agrees(read_of(tmp_path, "2026-03-02"), truth, pl.col("bought"))


def stamp(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat()


def test_a_stream_whose_columns_no_name_tells_is_read_too(tmp_path: Path) -> None:
    log, _ = drawn("german")
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, raw, _ = made(tmp_path, write)
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["user"], events["item"]) == ("who", "prod"), ended.err
    assert events["where"] == "what = 'Anzeige'" and events["conversion"] == "gekauft"


def test_without_a_user_it_says_what_is_needed_first(tmp_path: Path) -> None:
    """Of one day nothing tells whether an id comes again."""
    log, _ = drawn("german")
    write = lambda home: unseen.by_day(home / "log", of_a_day(log), {"at": of_a_day(log)["ts"].to_numpy()})  # noqa: E731
    ended, _, _ = made(tmp_path, write)
    assert (
        ended.code == Exit.CONFIG and "what looks like one row a behaviour: exposure Anzeige; click Klick;" in ended.err
    )
    assert "name the user and the item (init --user COLUMN --item COLUMN)" in ended.err


def of_a_day(log: pl.DataFrame) -> pl.DataFrame:
    days = pl.from_epoch("ts", "s").dt.date()
    return log.filter(days == log.select(days.mode().sort().first()).item())


def test_which_values_are_what() -> None:
    def of(*values: str) -> tuple[Any, ...]:
        found = values_of(pl.DataFrame({"v": [v for k, v in enumerate(values) for _ in range(9 - k)]}), "v", Roles())
        return () if found is None else (found.exposure, found.click, found.good, found.left)

    assert of("view", "VIEW", "remove_from_cart", "addToCart") == (
        ("view", "VIEW"), (), {"cart": ("addToCart",)}, ("remove_from_cart",),
    )  # fmt: skip
    assert of("click", "fav", "buy") == (("click",), (), {"buy": ("buy",), "like": ("fav",)}, ()), "a click is seen"
    assert of("vista", "quitar_carrito") == (), "nothing follows"
    assert of("a") == () and of("a", "b")[:2] == (("a",), ("b",))


# -- what is no behaviour ----------------------------------------------------------------------------------------------


def test_what_became_of_an_exposure_is_no_row_an_action() -> None:
    """A text of how far each exposure came: rows are exposures as they are."""
    _, truth = drawn("spanish")
    state = truth.select(
        pl.when(pl.col("buy") == 1).then(pl.lit("compra")).when(pl.col("click") == 1).then(pl.lit("clic"))
        .otherwise(pl.lit("vista")).alias("embudo")
    )["embudo"]  # fmt: skip
    given = {"user": "who", "item": "prod"}
    assert roles_of(truth.select("who", "prod", "ts").with_columns(state), given).behaviour is None
    log, _ = drawn("spanish")
    both = log.with_columns(embudo=pl.col("arm").replace_strict({0: "vista", 1: "clic"}, return_dtype=pl.String))
    found = roles_of(both, given).behaviour
    assert found is not None and found.column == "what"


def test_a_device_is_none() -> None:
    log, _ = drawn("none")
    rng = np.random.default_rng(3)
    devices = pl.Series("what", np.array(["tv", "web", "app"])[rng.choice(3, len(log), p=[0.6, 0.3, 0.1])])
    given = {"user": "who", "item": "prod"}
    assert roles_of(log.drop("mark").with_columns(devices), given).behaviour is None
    few = log.with_columns(prod=pl.lit("p1") + pl.col("prod").str.slice(1, 1), what=devices)
    assert roles_of(few, given).behaviour is None, "pairs with many rows have all devices, in any order"


def test_a_click_column_tells_more() -> None:
    log, _ = drawn("english")
    given = {"user": "who", "item": "prod"}
    assert roles_of(log, given).behaviour is not None
    assert roles_of(log.with_columns(is_click=pl.col("ts") % 3 // 2), given).behaviour is None
    assert roles_of(log, given | {"click": "arm"}).behaviour is None


def a_shop(home: Path, days: int = 3, *, mixed: bool = False) -> dict[str, int]:
    """Feeds of cards with an object of the tap, as a document store exports them, and orders with lines that name the
    feed and the product; and what the truth is of the last day.

    Args:
        mixed: whether products are numbers in feeds, and in orders the same as text.
    """
    rng = np.random.default_rng(5)
    feeds, orders, truth = [], [], {"rows": 0, "clicks": 0, "good": 0}
    for k in range(900):
        day, user = 1 + k * days // 900, f"m{rng.integers(80)}"
        at = f"2026-03-{day:02}T{k % 24:02}:00:00Z"
        cards = []
        for n, item in enumerate(rng.choice(70, 6, replace=False)):
            card: dict[str, Any] = {"sku": 5_000 + int(item) if mixed else f"P{item}", "n": n}
            if rng.random() < 0.3:
                card["tap"] = {"at": {"$date": at.replace(":00:00Z", ":00:09Z")}, "stay": float(rng.integers(1, 90))}
                truth["clicks"] += day == days
                if rng.random() < 0.5:
                    state = ("PAID", "SENT", "CANCELLED")[rng.integers(3)]
                    line = {
                        "sku": str(card["sku"]),
                        "qty": int(rng.integers(1, 4)),
                        "from": {"feed": {"$oid": f"f{k}"}},
                    }
                    orders.append({"_id": {"$oid": f"o{len(orders)}"}, "buyer": user, "state": state, "lines": [line]})
                    truth["good"] += day == days and state != "CANCELLED"
            cards.append(card)
        truth["rows"] += 6 * (day == days)
        feeds.append({"_id": {"$oid": f"f{k}"}, "at": {"$date": at}, "member": user, "cards": cards})
    (home / "log").mkdir()
    members = [{"_id": {"$oid": f"m{k}"}, "since": f"2025-01-{1 + k % 28:02}", "city": f"c{k % 5}"} for k in range(80)]
    for name, rows in (("feeds", feeds), ("orders", orders), ("members", members)):
        (home / f"log/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return truth


@pytest.mark.parametrize("mixed", [False, True], ids=["texts", "numbers and texts"])
def test_orders_with_lines_that_name_the_list(tmp_path: Path, mixed: bool) -> None:
    found: dict[str, int] = {}
    good = "its_state <> 'CANCELLED'"
    ended, raw, _ = made(tmp_path, lambda home: found.update(a_shop(home, mixed=mixed)), "--conversion", good)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    (orders,) = events["joined"].values()
    assert (events["explode"], orders["explode"], orders["key"]) == ("cards", "lines", "exposure")
    assert events["computed"]["exposure"] == '"_id.$oid" || \'/\' || "cards.sku"' and "unique" not in events
    assert orders["computed"]["exposure"] == '"lines.from.feed.$oid" || \'/\' || "lines.sku"'
    assert events["computed"]["good"] == "COALESCE(its_state <> 'CANCELLED', FALSE)"
    assert events["click"] == "cards.tap.at.$date" and raw["data"]["users"] == {
        "path": "log/members.jsonl",
        "key": "_id.$oid",
    }
    read = read_of(tmp_path, "2026-03-03")
    assert read["rows"] == found["rows"]
    assert read["labels"]["click_rate"] == pytest.approx(found["clicks"] / found["rows"], abs=1e-4)
    assert read["labels"]["conversion_rate"] == pytest.approx(found["good"] / found["clicks"], abs=1e-4)
