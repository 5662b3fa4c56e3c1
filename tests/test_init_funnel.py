"""`dmtl init` tells the click by what follows it, and outcomes and states of a table by words of many languages."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.outcomes.state_lines import state_lines
from dmtl_cli.guess.sides.states import total

ROWS = 4_000
X = unseen.drawn(51, ROWS)
RNG = np.random.default_rng(5)
CLICK = X["click"] == 1
BASKET = CLICK & (RNG.random(ROWS) < 0.4)
ORDER = BASKET & (RNG.random(ROWS) < 0.5)
AMOUNT = np.round(RNG.lognormal(3, 1, ROWS), 2)


def log(**more: Any) -> pl.DataFrame:
    ids = {"user_id": X["user"], "item_id": X["item"], "ts": X["at"], "gift": RNG.integers(0, 2, ROWS)}
    return pl.DataFrame(ids | {"req": X["request"] + 10**6} | more)


def clicked(frame: pl.DataFrame) -> str | None:
    roles = roles_of(frame, {})
    return roles.click and roles.click.column


def soon(after: Any, there: Any) -> list[int | None]:
    return [int(t + s) if k else None for t, s, k in zip(X["at"], after, there, strict=True)]


STEPS = {"q1": CLICK, "q2": BASKET, "q3": np.where(ORDER, AMOUNT, 0)}
DELAY = RNG.integers(2, 40, ROWS)


# -- the click ---------------------------------------------------------------------------------------------------------


def test_the_flag_that_all_steps_are_within_is_the_click(tmp_path: Path) -> None:
    frame = log(**{c: pl.Series(x).cast(pl.Float64 if c == "q3" else pl.Int8) for c, x in STEPS.items()})
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    assert ended.code == 78 and "the label could not be guessed" in ended.err
    (line,) = (x for x in text.splitlines() if x.strip().startswith("click: "))
    assert "click: q1  # 0/1, " in line and line.endswith("q2, q3 only where it is 1")
    assert raw["data"]["events"]["outcomes"] == ["q2", "q3"]
    goals = [x.split('good: "')[1].split('"')[0] for x in text.splitlines() if 'good: "' in x]
    assert goals == ["q2 = 1", "q3 > 0"] and "one of the lines below may be it" in ended.out + text
    later = made(tmp_path / "b", lambda home: unseen.by_day(home / "events", frame, X), "--conversion", "q3 > 0")
    assert later[0].code == 0 and not {"q1", "q2", "q3"} & {*features(later[1])}, later[0].err


STAGE = np.where(ORDER, "Z", np.where(BASKET, "K", np.where(CLICK, "M", "A")))


def test_a_state_of_the_exposure_and_times_of_what_came_later_are_offered(tmp_path: Path) -> None:
    """A rare late number is no command of its own where the states and the stage before it are there too."""
    late = {"t1": soon(DELAY, CLICK), "t2": soon(3 * DELAY, BASKET), "t3": soon(9 * DELAY, ORDER)}
    frame = log(stage=STAGE, **late, sum=[x if k else None for x, k in zip(AMOUNT, ORDER, strict=True)])
    frame = frame.with_columns(pl.from_epoch(c, "s") for c in ("ts", *late))
    home = tmp_path / "log"
    ended, _, text = made(tmp_path, lambda place: frame.write_csv(place / "log.csv"), "--timezone", "UTC")
    assert ended.code == 78 and text.count("click: t1  # a time in ") == 1, ended.err
    some, few = ORDER.sum() / CLICK.sum(), BASKET.sum() / CLICK.sum()
    rules = [f"  --conversion 't2 IS NOT NULL'  # {BASKET.mean():.1%} of rows, {few:.0%} of clicks"]
    rules.append(f"  --conversion 't3 IS NOT NULL'  # {ORDER.mean():.1%} of rows, {some:.0%} of clicks")
    states = f"stage of clicks: 'M' {1 - few:.1%}, 'Z' {some:.1%}, 'K' {few - some:.1%}; name those that are good: "
    rules.append(f"""  {states}--conversion "stage IN ('Z', 'K')\"""")
    said = ended.out.splitlines()
    assert "or init --duration COLUMN; one of the lines below may be it" in " ".join(ended.out.split())
    assert [line for line in said if "--conversion" in line][-4:-1] == rules
    assert said[-1].endswith("--conversion 'RULE'") and f"# {states}" in text
    again = dmtl("init", home, "-o", tmp_path / "b.yaml", "--timezone", "UTC", "--conversion", "t2 IS NOT NULL")
    found = re.search(r"; ([0-9.]+)% of clicks are good", again.out)
    assert again.code == 0 and found is not None and abs(float(found[1]) / 100 - few) < 0.1, again.err


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ({"stage": STAGE}, True),
        ({"stage": [x if k else None for x, k in zip(STAGE, CLICK, strict=True)]}, False),
        ({"status": [x if k else None for x, k in zip(STAGE, CLICK, strict=True)]}, True),
        ({"stage": np.where(CLICK, "M", STAGE)}, False),
        ({"stage": np.where(RNG.random(ROWS) < 0.1, "M", STAGE)}, False),
    ],
    ids=["states", "kinds of clicks", "named", "one of clicks", "of both"],
)
def test_what_is_a_state_of_the_exposure(column: dict[str, Any], line: bool) -> None:
    frame = log(clicked=CLICK.astype(int), **column)
    roles = roles_of(frame, {})
    roles.outcomes = [Guess(c, "") for c in column]
    assert bool(state_lines(frame, roles, [])) == line


def test_a_rule_of_a_number_is_of_what_is_above_0(tmp_path: Path) -> None:
    """Every click has points, most of them 0."""
    points = [int(x) if k else None for x, k in zip(np.where(BASKET, 5 + X["item"] % 7, 0), CLICK, strict=True)]
    ended, _, _ = made(tmp_path, lambda home: unseen.by_day(home / "events", log(clicked=CLICK, points=points), X))
    rule = "'COALESCE(points, 0) > 0'"
    assert f"--conversion {rule}  # {BASKET.mean():.1%} of rows" in ended.out, ended.out
    assert ended.out.splitlines()[-1].endswith(f"--conversion {rule}")


def test_the_flag_with_a_time_of_its_own_is_the_click() -> None:
    assert clicked(log(q1=CLICK.astype(int), q4=soon(DELAY, CLICK))) == "q1"
    late = soon(DELAY + 30 * 86_400, CLICK)
    assert clicked(log(q1=CLICK.astype(int), q4=late)) is None, "as a subscription ends"
    early = soon(-DELAY, CLICK)
    assert clicked(log(q1=CLICK.astype(int), q4=early)) is None, "as an item was seen before"
    ends = [1_772_700_000 if k else None for k in CLICK]
    assert clicked(log(q1=CLICK.astype(int), q4=ends)) is None, "as a promotion ends for all"
    half = soon(DELAY, CLICK & (np.arange(ROWS) % 2 == 0))
    assert clicked(log(q1=CLICK.astype(int), q4=half)) is None, "not wherever it is set"


def test_a_time_soon_after_the_rows_own_is_the_click() -> None:
    """Without a flag; one that passes at once for all, or hours before or after, is none."""
    at = soon(DELAY, CLICK)
    assert clicked(log(q1=at)) == "q1" and clicked(log(q1=at, q2=BASKET, q3=soon(DELAY + 60, BASKET))) == "q1"
    assert clicked(log(q1=soon(DELAY - 100, CLICK))) is None and clicked(log(q1=soon(DELAY + 80_000, CLICK))) is None
    assert clicked(log(q1=[int(X["at"].max()) if k else None for k in CLICK])) is None


def test_one_step_within_a_flag_says_nothing_without_a_name() -> None:
    """A reduction, and a large one: both of the page."""
    assert clicked(log(q1=CLICK.astype(int), q2=BASKET.astype(int))) is None
    assert clicked(log(q1=CLICK.astype(int), purchased=ORDER.astype(int))) == "q1"


def test_flags_side_by_side_say_nothing() -> None:
    other = (RNG.random(ROWS) < 0.3).astype(int)
    frame = log(q1=CLICK.astype(int), q4=soon(DELAY, CLICK), z1=other, z4=soon(DELAY + 1, other == 1))
    assert clicked(frame) is None and clicked(frame.drop("z1")) == "q1"


@pytest.mark.parametrize("of", ["user", "item", "request"])
def test_attributes_that_are_within_each_other_are_no_steps(of: str) -> None:
    key = X[of]
    wide, narrow = (key % 3 == 0).astype(int), (key % 9 == 0).astype(int)
    assert clicked(log(w1=wide, w2=narrow, w3=(key % 18 == 0).astype(int), purchased=narrow)) is None


# -- words -------------------------------------------------------------------------------------------------------------

CLICKS = (
    "tıklandı tiklandi kliknięto kliknuto kattintás geklikt klikket klickad klikattu diklik คลิก نقر הקלקה क्लिक клікнув"
    " κλικ クリック 클릭 클릭여부 clicou cliqué angeklickt"
)
GOOD = {
    4: "siparis sipariş_verildi zamówiono objednano megrendelte cumpărat gekocht bestilt ostettu pesanan สั่งซื้อ شراء"
    " רכישה खरीद замовлено παραγγελία 購入 구매 pedido",
    3: "begenildi polubiono oblíbeno kedvelte leuk gillat tykätty disukai ถูกใจ إعجاب לייק लाइक вподобано αρέσει"
    " いいね 좋아요",
    2: "sepete_eklendi koszyk košík kosárba winkelwagen kurv varukorg ostoskori keranjang ตะกร้า سلة עגלה кошик"
    " καλάθι カート",
}
FRIENDS = "indirimli pesan_id beli cosine_sim colour_order_by kargo_bedava klikbaar_ad curve basis satici sip basketbol"


@pytest.mark.parametrize("name", CLICKS.split())
def test_words_for_a_click(name: str) -> None:
    assert words.by_name(name, words.CLICK) >= 2
    assert clicked(log(**{"gratis": RNG.integers(0, 2, ROWS), name: CLICK.astype(int)})) == name


@pytest.mark.parametrize(("sure", "name"), [(sure, name) for sure, some in GOOD.items() for name in some.split()])
def test_words_for_what_a_click_led_to(sure: int, name: str) -> None:
    assert words.by_name(name, words.CONVERSION) == sure and not words.by_name(name, words.CLICK)


@pytest.mark.parametrize("name", FRIENDS.replace("colour_order_by", "").split())
def test_words_that_only_look_alike(name: str) -> None:
    assert not words.by_name(name, words.CLICK) and not words.by_name(name, words.CONVERSION)


TOTALS = (
    "toplam_satis satış_adedi yorum_sayisi liczba_opinii počet_prodejů eladások_száma număr_recenzii aantal_verkocht"
    " antal_visninger myyty jumlah_terjual 販売数 レビュー件数 조회수 количество_продаж anzahl_bewertungen num_ventas"
    " total_de_vendas nb_avis numero_recensioni puan ocena 평점 評価 stok stok_adedi bestand"
    " estoque 在庫 재고 запас readers"
)


@pytest.mark.parametrize("name", TOTALS.split())
def test_words_for_what_is_of_the_end_of_the_log(name: str) -> None:
    values = pl.Series(name, np.round(RNG.lognormal(3, 1, 300), 1))
    why = total(values, lambda _: 0.0)
    assert why is not None and why.startswith("named like "), name


@pytest.mark.parametrize(
    "name", ["sayfa_sayisi", "anzahl_seiten", "numero_de_paginas", "puntos", "satici_no", "stocking"]
)
def test_a_length_or_a_code_is_none(name: str) -> None:
    assert total(pl.Series(name, RNG.integers(1, 900, 300)), lambda _: 0.0) is None


def test_what_follows_good_clicks_is_a_total_too(tmp_path: Path) -> None:
    """Clicks go to other items than sales do: the number that counts sales is in the order of those alone."""
    rng, rows, items = np.random.default_rng(2), 12_000, 200
    bait = rng.random(items)
    item = rng.integers(0, items, rows)
    click = rng.random(rows) < 0.1 + 0.6 * bait[item]
    good = click & (rng.random(rows) < 0.6 * (1 - bait[item]) ** 3)
    at = np.sort(unseen.drawn(3, rows)["at"])
    sold = np.exp(np.bincount(item[good], minlength=items) / 2 + rng.normal(2, 0.7, items)).astype(int)
    events = {"user_id": rng.integers(0, 300, rows), "item_id": item, "ts": at, "clicked": click.astype(int)}

    def write(home: Path) -> None:
        unseen.by_day(home / "events", pl.DataFrame(events | {"purchased": good.astype(int)}), {"at": at})
        pl.DataFrame({"item_id": range(items), "xq": sold}).write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and "xq" not in features(raw), ended.err
    (line,) = (line for line in text.splitlines() if "name: xq" in line)
    assert "it follows the log's own counts" in line


def test_what_grows_with_age_is_a_total_too(tmp_path: Path) -> None:
    """Sales of a year say little of a week's clicks, and all of how long an item is sold."""
    rng, items = np.random.default_rng(4), 300
    x = unseen.drawn(5, ROWS)
    age = rng.integers(1, 400, items)
    events = {"user_id": x["user"], "item_id": rng.integers(0, items, ROWS), "ts": x["at"], "clicked": x["click"]}
    sold = rng.poisson(age * rng.lognormal(-2, 1.2, items)) + rng.integers(0, 3, items)
    day = [(unseen.START - dt.timedelta(int(a))).date() for a in age]
    table = {"item_id": range(items), "published_on": day, "xq": sold, "xr": rng.permutation(sold)}

    def write(home: Path) -> None:
        unseen.by_day(home / "events", pl.DataFrame(events | {"watch_seconds": x["seconds"]}), {"at": x["at"]})
        pl.DataFrame(table).write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and "xq" not in features(raw) and "xr" in features(raw), ended.err
    (line,) = (line for line in text.splitlines() if "name: xq" in line)
    assert "the longer an id is there the larger it is (rank correlation ." in line
