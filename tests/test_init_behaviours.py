"""`init` on logs with a row an action: it says what each row is, and its lines of polars make one row an exposure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import made
from worlds import dmtl

from dmtl_cli.config.errors import Exit
from dmtl_cli.guess.labels import roles_of
from dmtl_cli.guess.rewrites import values_of
from dmtl_cli.guess.roles import Roles

PAGES, WIDE = 300, 6
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


def lines_of(text: str) -> str:
    rows = text.splitlines()
    at = next(k for k, line in enumerate(rows) if line.startswith("# One row an exposure: log is a frame"))
    return "\n".join(line[4:] for line in rows[at + 1 :] if line.startswith("#   "))


def run_lines(text: str, log: pl.DataFrame, home: Path) -> pl.DataFrame:
    home.mkdir()
    before, names = Path.cwd(), {"log": log}
    os.chdir(home)
    try:
        exec(lines_of(text), names)
    finally:
        os.chdir(before)
    return names["table"]


def by_page(truth: pl.DataFrame, language: str) -> pl.DataFrame:
    """What the lines make of it: a purchase is of the last exposure before it."""
    if language == "none":
        return truth.with_columns(good=pl.max_horizontal("cart", "buy")).drop("cart", "buy")
    return truth


def agrees(table: pl.DataFrame, truth: pl.DataFrame, *, exact: list[str], nearly: list[str]) -> None:
    both = table.join(truth, on=["who", "prod", "ts"], suffix="_was")
    assert len(table) == len(both) == len(truth)
    for c in exact:
        assert both[c].to_list() == both[f"{c}_was"].to_list(), c
    for c in nearly:  # a second exposure within hours takes the purchase
        assert (both[c] == both[f"{c}_was"]).mean() > 0.97 and abs(both[c].sum() - truth[c].sum()) <= 0.03 * len(
            truth
        ), c


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("language", [x for x in LANGUAGES if x != "none"])
def test_a_row_an_action_becomes_a_row_an_exposure(tmp_path: Path, language: str, mark: bool) -> None:
    log, truth = drawn(language)
    log = log if mark else log.drop("mark")
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, raw, text = made(tmp_path, write, "--user", "who", "--item", "prod")
    shown, clicked, cart, bought = LANGUAGES[language]
    good = f"{cart} (cart), {bought} (buy)"
    said = f"what looks like one row a behaviour: exposure {shown}; click {clicked}; conversion {good}"
    assert ended.code == Exit.CONFIG and said in ended.err and "then init again" in ended.err, ended.err
    assert "arm (0/1" not in ended.out and "# click: COLUMN\n" in text and "click" not in raw["data"]["events"]
    table = run_lines(text, log, tmp_path / "out")
    assert ("by=[" in lines_of(text)) and ('.drop_nulls(["mark"])' in lines_of(text)) == mark
    agrees(table, truth, exact=["click", "cart"], nearly=["buy"])
    assert "what" not in table.columns
    again = dmtl("init", tmp_path / "out", "-o", tmp_path / "again.yaml", "--user", "who", "--item", "prod")
    events = yaml.safe_load((tmp_path / "again.yaml").read_text())["data"]["events"]
    assert again.code == 0 and (events["click"], events["conversion"]) == ("click", "buy"), again.err


def test_an_order_tells_where_no_word_does(tmp_path: Path) -> None:
    log, truth = drawn("none")
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, _, text = made(tmp_path, write, "--user", "who", "--item", "prod")
    said = "what looks like one row a behaviour: exposure q1; click q2; conversion q3, q4 (good)"
    assert ended.code == Exit.CONFIG and said in ended.err, ended.err
    table = run_lines(text, log, tmp_path / "out")
    agrees(table, by_page(truth, "none"), exact=["click"], nearly=["good"])


@pytest.mark.parametrize("when", ["iso", "iso with a zone", "ms", "timestamp", "day", "yyyymmdd", "none"])
def test_the_lines_read_times_as_the_log_has_them(tmp_path: Path, when: str) -> None:
    """In an object too; without a clock, or a time, an action is of the day's or the rows' last exposure before it."""
    log, truth = drawn("spanish", 1)
    log = log.sort("ts")
    at = pl.from_epoch(log["ts"], "s")
    made_of = {
        "iso": at.dt.strftime("%Y-%m-%d %H:%M:%S"), "iso with a zone": at.dt.strftime("%Y-%m-%dT%H:%M:%S.250+00:00"),
        "ms": log["ts"] * 1000, "timestamp": at, "day": at.dt.strftime("%Y-%m-%d"),
        "yyyymmdd": at.dt.strftime("%Y%m%d").cast(pl.Int64), "none": None,
    }[when]  # fmt: skip
    rows = log.drop("ts", "mark")
    rows = rows if made_of is None else rows.with_columns(made_of.alias("moment"))
    rows = rows.with_columns(pl.struct(pl.col("prod").alias("code"), "arm").alias("thing"), row=pl.lit(1)).drop(
        "prod", "arm"
    )

    write = lambda home: unseen.by_day(home / "log", rows, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, _, text = made(tmp_path, write, "--user", "who", "--item", "thing.code")
    assert ended.code == Exit.CONFIG and "what looks like one row a behaviour" in ended.err, ended.err
    table = run_lines(text, rows, tmp_path / "out")
    assert {"thing_code", "row", "click", "cart", "buy"} <= {*table.columns}
    twice = 0.01 * len(truth) if when in ("day", "yyyymmdd") else 0  # shown twice on a day
    assert len(table) == len(truth) and abs(table["click"].sum() - truth["click"].sum()) <= twice
    assert abs(table["buy"].sum() - truth["buy"].sum()) <= 0.03 * len(truth)


def test_without_a_user_it_says_what_is_needed_first(tmp_path: Path) -> None:
    log, _ = drawn("german")
    write = lambda home: unseen.by_day(home / "log", log, {"at": log["ts"].to_numpy()})  # noqa: E731
    ended, _, text = made(tmp_path, write)
    assert (
        ended.code == Exit.CONFIG and "what looks like one row a behaviour: exposure Anzeige; click Klick;" in ended.err
    )
    assert "name the user and the item (init --user COLUMN --item COLUMN)" in ended.err and "join_asof" not in text


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
