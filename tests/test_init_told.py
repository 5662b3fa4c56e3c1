"""init: what a firm's logs tell in words of their own, or not at all: ids with their sign first, times that are none,
parts of a chapter, orders of a shop, states of a series, items that only the events know."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import features, made
from test_init_by_day import DAYS, IDS, world
from test_init_by_day import init as of_tables
from test_init_windows import init as of_bookings
from test_init_windows import world as bookings
from worlds import dmtl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.formats import formats_of
from dmtl_cli.guess.outcomes.aggregates import aggregate_of
from dmtl_cli.guess.reading.rows import dialect
from dmtl_cli.guess.sides import states

# -- names and values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "user", "item"),
    [
        ("id_usuario", 2, 0),
        ("idUsuario", 2, 0),
        ("id_visitante", 2, 0),
        ("cod_cliente", 2, 0),
        ("id_articulo", 0, 2),
        ("codice_prodotto", 0, 2),
        ("evento.id_utente", 2, 0),
        ("id_busqueda", 0, 0),
        ("id", 0, 0),
    ],
)
def test_an_id_whose_sign_comes_first(name: str, user: int, item: int) -> None:
    assert (words.by_name(name, words.USER), words.by_name(name, words.ITEM)) == (user, item)


@pytest.mark.parametrize(
    ("name", "is_click"),
    [
        ("klikk_tid", True),
        ("klick_zeit", True),
        ("fecha_clic", True),
        ("hora_del_clic", True),
        ("data_clique", True),
        ("kattintas_ido", True),
        ("click_at", True),
        ("klik_pct", False),
        ("clic_autor", False),
        ("vist_tid", False),
    ],
)
def test_the_time_of_a_click(name: str, is_click: bool) -> None:
    assert words.says_all(name, words.CLICK_TIME) == is_click


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        (["2024.10.22. 00:15:50", "2024.10.23. 13:00:01"], ["datetime:%Y.%m.%d. %H:%M:%S"]),
        (["2024.10.22.", "2024.10.23."], ["date:%Y.%m.%d."]),
        (["22.10.2024", "23.10.2024"], ["date:%d.%m.%Y"]),
        (["2024-10-22.", "2024-10-23."], []),
    ],
)
def test_days_that_end_on_a_point(texts: list[str], read: list[str]) -> None:
    """As Hungarian ones do."""
    assert formats_of(pl.Series("ido", texts)) == read


@pytest.mark.parametrize("state", ["vázlat", "kladd", "utkast", "luonnos", "taslak", "черновик"])
def test_a_draft_is_not_served(state: str) -> None:
    assert words.says(state, words.NOT_YET) and words.says(state, words.DRAFT)


def test_ids_of_a_spanish_log(tmp_path: Path) -> None:
    """Two tables a day, of what was shown and of what was on offer, whose ids nothing but their names tells."""
    x = unseen.drawn(5)
    at = [dt.datetime.fromtimestamp(int(t), dt.UTC).replace(tzinfo=None) for t in x["at"]]
    shown = pl.DataFrame(
        {
            "id_expo": np.arange(unseen.ROWS),
            "fecha_hora": at,
            "id_visitante": [f"v{u:03}" for u in x["user"]],
            "id_aviso": x["item"] + 5_000,
            "fecha_click": [t + dt.timedelta(seconds=4) if c else None for t, c in zip(at, x["click"], strict=True)],
            "seg_en_ficha": [int(s) if c else None for s, c in zip(x["seconds"], x["click"], strict=True)],
            "day": unseen.days_of(x),
        }
    )

    def write(log: Path) -> None:
        for (day,), rows in shown.group_by("day"):
            folder = log / str(day).replace("-", "")
            folder.mkdir()
            rows.drop("day").write_parquet(folder / "exposiciones.parquet")
            offers = {"id_aviso": np.arange(unseen.ITEMS) + 5_000, "barrio": [f"b{k % 4}" for k in range(unseen.ITEMS)]}
            taken = pl.DataFrame(offers).with_columns(fecha_foto=pl.lit(f"{day} 00:05:00").str.to_datetime())
            taken.write_parquet(folder / "avisos.parquet")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["user"], events["item"], events["click"]) == ("id_visitante", "id_aviso", "fecha_click")
    assert raw["data"]["items"]["key"] == "id_aviso"


def test_of_parts_the_greatest_and_of_seconds_the_sum() -> None:
    """`read_pct` of two chapters is no 190%."""
    assert aggregate_of(pl.Series("read_pct", [95.0, 95.0, 20.0])) == "MAX(read_pct)"
    assert aggregate_of(pl.Series("read_seconds", [95.0, 95.0, 20.0])) == "SUM(read_seconds)"


def test_a_series_that_is_complete_is_served() -> None:
    """What has ended elsewhere, as an auction, is not."""
    of_series = states.withdrawn(pl.Series("status", ["ongoing"] * 9 + ["completed", "hiatus", "removed", "draft"]))
    assert of_series is not None and {*of_series.still} == {"ongoing", "completed", "hiatus"}
    others = states.withdrawn(pl.Series("status", ["active"] * 9 + ["completed", "removed"]))
    assert others is not None and others.still == ("active",)


def test_the_separator_of_lines_of_which_many_have_more_values() -> None:
    """A program's name with `;` in it, which nobody put in quotes, is no reason to cut at decimal commas."""
    lines = ["id;price;agent"] + ["1;1,5;app"] * 30 + ["2;2,5;Mozilla (a; b; c)"] * 15
    assert dialect("\n".join(lines).encode()).separator == ";"


# -- times that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["Invalid date", "N/A", "0000-00-00 00:00:00"])
def test_a_word_for_no_time_is_null_and_its_row_left_out(tmp_path: Path, word: str) -> None:
    x = unseen.drawn(2)

    def write(log: Path) -> None:
        at = [dt.datetime.fromtimestamp(int(t), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") for t in x["at"]]
        rows = zip(x["user"], x["item"], at, x["click"], x["seconds"], unseen.days_of(x), strict=True)
        days: dict[str, list[str]] = {}
        for k, (u, i, t, c, s, day) in enumerate(rows):
            said = {"user_id": f"u{u}", "item_id": f"i{i}", "shown_at": word if k % 190 == 7 else t}
            days.setdefault(day, []).append(json.dumps({**said, "clicked": bool(c), "seconds": float(s)}))
        for day, lines in days.items():
            (log / f"{day}.jsonl").write_text("\n".join(lines) + "\n")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["null_values"] == [word] and raw["data"]["events"]["invalid_rows"] == "drop"
    assert "with no time" in ended.out


def test_a_word_that_is_a_value_elsewhere_is_none_for_no_time(tmp_path: Path) -> None:
    """`check` says what to do with it: in every column it would be null."""
    x = unseen.drawn(2)

    def write(log: Path) -> None:
        at = [dt.datetime.fromtimestamp(int(t), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") for t in x["at"]]
        for day in dict.fromkeys(unseen.days_of(x)):
            mine = [k for k, of in enumerate(unseen.days_of(x)) if of == day]
            said = [
                {"user_id": f"u{x['user'][k]}", "item_id": f"i{x['item'][k]}", "clicked": bool(x["click"][k])}
                | {"shown_at": "unknown" if k % 190 == 7 else at[k], "country": ("DE", "unknown")[k % 3 == 0]}
                | {"seconds": float(x["seconds"][k])}
                for k in mine
            ]
            (log / f"{day}.jsonl").write_text("\n".join(map(json.dumps, said)) + "\n")

    ended, raw, _ = made(tmp_path, write)
    assert "null_values" not in raw["data"]
    assert ended.code == 65 and "column shown_at: expected a time" in ended.err and "data.null_values" in ended.err


# -- orders, most of which nothing that was shown led to ---------------------------------------------------------------


def of_a_shop(seed: int, by: str) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Tables of what was shown, with its click, and of orders: a sixth of these are of what was clicked, some minutes
    later; the others, or by chance all, of any of the users and of items of which half were shown."""
    rng, tables = np.random.default_rng(seed), world(seed)
    shown = tables["shown"].with_columns(clicked=pl.Series((rng.random(len(tables["shown"])) < 0.2).astype(int)))
    mine = shown.filter(pl.col("clicked") == 1).gather_every(4).drop("clicked")
    mine = mine.with_columns(pl.col("ts") + pl.duration(minutes=7))
    rest = shown.drop("clicked").sample(5 * len(mine), seed=seed).with_columns(
        pl.Series("user_id", [f"u{k}" for k in rng.integers(0, 240, 5 * len(mine))]),
        pl.Series("item_id", [f"i{k}" for k in rng.integers(0, 160, 5 * len(mine))]),
    )  # fmt: skip
    return {"shown": shown, "orders": pl.concat([mine, rest] if by == "search" else [rest]).sort("ts")}, mine


@pytest.mark.parametrize(("by", "found"), [("search", True), ("chance", False)])
def test_orders_of_which_few_name_what_was_shown(tmp_path: Path, by: str, found: bool) -> None:
    """A sixth of them do, and hardly any with the items of others; orders by chance are of nothing that was shown."""
    tables, mine = of_a_shop(1, by)
    for (day,), rows in tables["shown"].group_by("day"):
        (tmp_path / f"log/shown/dt={day}").mkdir(parents=True)
        rows.select(*IDS, "clicked").write_parquet(tmp_path / f"log/shown/dt={day}/0.parquet")
    tables["orders"].select(IDS).write_csv(tmp_path / "log/orders.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    code, events, said = of_tables(tmp_path / "log", *(("--conversion", "orders") if found else ()))
    assert (code == 0, "joined" in events) == (found, found), said
    if found:
        shown = tables["shown"].filter((pl.col("day") == DAYS[-1]) & (pl.col("clicked") == 1))
        day = mine.filter(pl.col("day") == DAYS[-1]).rename({"ts": "came"})
        met = shown.with_row_index().join(day, on=["user_id", "item_id"]).filter(pl.col("came") > pl.col("ts"))
        assert f"{met['index'].n_unique() / len(shown):.1%} of clicks are good" in said, said


# -- how long after ----------------------------------------------------------------------------------------------------


def test_a_person_says_how_long_after_what_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what comes on a later day a day waits for it, where a fiftieth does."""
    minutes = 24 * 60
    shown, came = bookings(12, 0.93, (1, 600), (minutes + 1, 2 * minutes - 10))
    one, line, _ = of_bookings(tmp_path / "two", shown, came, True, "--within", "48h")
    assert (one["within"], one["days_after"]) == ("48h", 2), line
    assert "lies in later days' files: so a day waits for 2 days, and the served model is then as much behind" in line
    assert "of which those at most 48h after ts count, as --within says" in (tmp_path / "two/mine.yaml").read_text()
    _, minute, _ = of_bookings(tmp_path / "short", shown, came, True, "--within", "30m")
    assert "within: 30m  #" in minute and "days_after" not in minute


@pytest.mark.parametrize("within", ["60d", "1000h"])
def test_no_day_waits_for_more_than_a_month(tmp_path: Path, within: str) -> None:
    shown, came = bookings(4, 1.0, (1, 90), (1, 2))
    for name, table in (("shown", shown), ("bookings", came)):
        for (day,), rows in table.group_by(pl.col("ts").dt.date()):
            (tmp_path / f"log/{name}/dt={day}").mkdir(parents=True)
            rows.write_parquet(tmp_path / f"log/{name}/dt={day}/0.parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", within)
    assert ended.code == 2 and f"--within: {within} is longer than 31 days" in ended.err


def test_of_a_long_window_as_many_days_are_waited_for_as_have_rows(tmp_path: Path) -> None:
    """Though a person says a month: nearly all come on the next day."""
    shown, came = bookings(12, 0.5, (1, 300), (600, 1_400))
    one, line, _ = of_bookings(tmp_path, shown, came, True, "--within", "31d")
    assert (one["within"], one["days_after"]) == ("31d", 1) and "so a day waits for 1 day" in line


@pytest.mark.parametrize("folders", [True, False])
def test_days_of_which_the_format_is_not_told(tmp_path: Path, folders: bool) -> None:
    """05/05/2026 is of two formats: that of the other days is its own."""
    shown, came = bookings(4, 1.0, (1, 90), (1, 2))
    move = dt.datetime(2026, 5, 3) - dt.datetime(2026, 1, 1)
    for name, table in (("shown", shown), ("bookings", came)):
        moved = table.with_columns(pl.col("ts") + move)
        days = moved.group_by(pl.col("ts").dt.date())
        for (day,), rows in days if folders or name == "shown" else (((dt.date(2026, 5, 3),), moved),):
            (tmp_path / f"log/{name}").mkdir(parents=True, exist_ok=True)
            rows.write_csv(tmp_path / f"log/{name}/{day}.csv", datetime_format="%d/%m/%Y %H:%M:%S")
    code, events, said = of_tables(tmp_path / "log", "--conversion", "bookings", "--within", "24h")
    assert code == 0 and events["joined"]["bookings"]["within"] == "24h", said


# -- items that only the events know -----------------------------------------------------------------------------------


def denormalized(log: Path) -> None:
    """Exposures with the columns of their items, whose state is that of the day on which the log was written."""
    x = unseen.drawn(8)
    state = np.where(x["item"] % 8 == 3, "withdrawn", "live")
    frame = {"user_id": x["user"], "asset_id": x["item"], "ts": x["at"], "clicked": x["click"]}
    frame |= {"seconds": x["seconds"], "asset_status": state, "style": x["item"] % 5}
    unseen.by_day(log, pl.DataFrame(frame), x)


def test_a_state_of_items_among_the_events(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, denormalized)
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "asset_status = 'live'" and "asset_status" not in features(raw)
    live = sum(k % 8 != 3 for k in range(unseen.ITEMS))
    assert f"{live / unseen.ITEMS:.0%} of the sample's items are served" in ended.out
    held = f"holds for {live} of {unseen.ITEMS} items of the events of 3 days: no other is served"
    assert f"export.items: asset_status = 'live': {held}" in ended.out


def test_the_share_that_is_served_is_of_the_newest_rows(tmp_path: Path) -> None:
    """An item that was there in the morning is sold by the evening."""
    x = unseen.drawn(8)
    sold = (x["item"] % 4 == 1) & (x["at"] > unseen.START.timestamp() + 2.5 * 86_400)
    frame = {"user_id": x["user"], "item_id": x["item"], "ts": x["at"], "clicked": x["click"]}
    frame |= {"seconds": x["seconds"], "in_stock": np.where(sold, 0, 1)}
    ended, _, _ = made(
        tmp_path, lambda log: unseen.by_day(log, pl.DataFrame(frame), x), "--export-items", "in_stock = 1"
    )
    newest = pl.DataFrame(frame).sort("ts").unique("item_id", keep="last")["in_stock"]
    assert ended.code == 0, ended.err
    assert f"{newest.mean():.0%} of the sample's items are served" in ended.out
    assert f"holds for {newest.sum()} of {len(newest)} items" in ended.out


def test_a_rule_over_items_among_the_events(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, denormalized, "--export-items", "style <> 2")
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "asset_status = 'live' AND style <> 2"


# -- which column, which table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lecture_id", "shohin_cd"])
def test_an_id_for_each_title_is_the_item(tmp_path: Path, name: str) -> None:
    """Also under a name that says nothing, where each title has one, and of several with one title each is its own."""
    x = unseen.drawn(4)
    shared = unseen.ITEMS if name == "shohin_cd" else 24  # parts of one lecture have one title
    frame = {"user_id": x["user"], "title": [f"On patience, {i % shared}" for i in x["item"]]}
    frame |= {name: [f"x{i * 7:04}" for i in x["item"]], "ts": x["at"], "clicked": x["click"], "seconds": x["seconds"]}
    ended, raw, _ = made(tmp_path, lambda log: unseen.by_day(log, pl.DataFrame(frame), x))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["item"] == name
    assert f"{len({*x['item']})} texts, each with a title" in ended.out


def test_a_visit_of_each_title_is_no_item(tmp_path: Path) -> None:
    x = unseen.drawn(4)
    rows = pl.DataFrame({"user_id": x["user"], "title": [f"On patience, {i}" for i in x["item"]], "ts": x["at"]})
    visits = rows.select("user_id", "title").with_row_index().group_by("user_id", "title").agg(pl.col("index"))
    of = {k: f"v{n}-{j // 2}" for n, ids in enumerate(visits["index"]) for j, k in enumerate(ids)}
    rows = rows.with_columns(visit_ref=pl.Series([of[k] for k in range(len(rows))]), clicked=x["click"])
    frame = rows.with_columns(seconds=pl.Series(x["seconds"]))
    ended, raw, _ = made(tmp_path, lambda log: unseen.by_day(log, frame, x))
    assert ended.code == 0 and raw["data"]["events"]["item"] == "title", ended.err


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_a_visit_that_shows_items_again_is_no_request(tmp_path: Path, again: bool, own: bool) -> None:
    """Where each exposure has an id of its own, of which copies lie there: of a list a click on an item counts once."""
    x = unseen.drawn(6)
    user = np.repeat(x["user"][::20], 20)
    item = np.arange(unseen.ROWS) % (5 if again else 20)
    frame = {"user_id": user, "item_id": item, "ts": x["at"], "session_id": [f"s{k // 20}" for k in range(len(user))]}
    frame |= {"clicked": x["click"], "seconds": x["seconds"]}
    shown = pl.DataFrame(frame | ({"imp_id": [f"e{k}" for k in range(len(user))]} if own else {}))
    shown = pl.concat([shown, shown[::100]]) if own else shown
    days = x | {"at": np.concatenate([x["at"], x["at"][::100]]) if own else x["at"]}
    ended, raw, _ = made(tmp_path, lambda log: unseen.by_day(log, shown, days))
    assert ended.code == 0, ended.err
    assert raw["data"]["events"].get("request") == (None if again and own else "session_id")
    assert raw["data"]["events"].get("unique") == ("imp_id" if own else None)


def test_a_catalogue_of_each_day_is_no_log_of_events(tmp_path: Path) -> None:
    """Two ids a row, `produkt_id` and `ean`, and a time: it is the table of what was shown, by names that nobody
    knows."""
    x = unseen.drawn(7)
    shown = pl.DataFrame(
        {
            "id_navstevnika": [f"n{u:03}" for u in x["user"]],
            "id_produktu": x["item"] + 100,
            "cas": [dt.datetime.fromtimestamp(int(t), dt.UTC).strftime("%Y-%m-%d %H:%M:%S") for t in x["at"]],
            "klik": x["click"],
            "trvanie_s": x["seconds"],
            "day": unseen.days_of(x),
        }
    )
    number = np.arange(unseen.ITEMS)
    goods = pl.DataFrame({"id_produktu": number + 100, "ean": [f"85{n:011}" for n in number], "cena": number % 9 + 0.5})

    def write(log: Path) -> None:
        for (day,), rows in shown.group_by("day"):
            (log / str(day)).mkdir()
            rows.drop("day").write_csv(log / str(day) / "zobrazenia.csv")
            goods.with_columns(cas_exportu=pl.lit(f"{day} 23:58:00")).write_csv(log / str(day) / "produkty.csv")

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["path"], events["item"], events["click"]) == ("{day}/zobrazenia.csv", "id_produktu", "klik")


def test_flags_in_text_among_the_events(tmp_path: Path) -> None:
    def write(log: Path) -> None:
        x = unseen.drawn(9)
        frame = {"user_id": x["user"], "game_id": x["item"], "ts": x["at"], "clicked": x["click"]}
        frame |= {"seconds": x["seconds"], "active_flg": np.where(x["item"] % 7 == 2, "N", "Y")}
        unseen.by_day(log, pl.DataFrame(frame), x)

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["export"]["items"] == "active_flg = 'Y'"


# -- what is told of a user at the end of the log ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "side", "told"),
    [
        ("total_minutes", "user", "named like how long users were there"),
        ("streak_days", "user", "named like how long users were there"),
        ("total_minutes", "item", None),
        ("commute_minutes", "user", None),
        ("weekly_work_hours", "user", None),
        ("numero_letti", "item", None),
        ("terrazas_vistas", "item", None),
        ("con_vistas", "item", None),
        ("daily_goal_minutes", "user", None),
        ("notas_leidas", "user", "named like a running total"),
        ("comentarios", "item", "named like a running total"),
        ("SolgtDenneUge", "item", "named like a running total"),
        ("varausjono_nyt", "item", "named like a number of that moment"),
        ("apothema", "item", "named like what is left in stock"),
        ("redeemRate", "item", "named like a rate of what users do"),
        ("taux_completion", "item", "named like a rate of what users do"),
        ("tasa_de_conversion", "item", "named like a rate of what users do"),
        ("taux_tva", "item", None),
    ],
)
def test_numbers_of_the_end_by_their_names(column: str, side: str, told: str | None) -> None:
    s = pl.Series(column, [(k * 37) % 83 + (0.5 if column == "redeemRate" else 0) for k in range(200)])
    s = s if column == "redeemRate" else s.cast(pl.Int64)
    why = states.total(s, lambda _: 0.0, of_users=side == "user")
    assert (why is None) == (told is None) and (told is None or (why or "").startswith(told)), why


@pytest.mark.parametrize("rule", ["seconds >= 0.5 * items.length", "seconds >= 12", None])
def test_a_rate_of_what_a_person_calls_good(tmp_path: Path, rule: str | None) -> None:
    """Under a name that says nothing: it follows the rate of good clicks, whatever tables their rule reads."""
    rng, rows = np.random.default_rng(1), 24_000
    x = unseen.drawn(1, rows)
    item, length = rng.integers(0, 160, rows), np.repeat([20.0, 24.0, 28.0, 32.0], 40)
    click, taste = (rng.random(rows) < 0.4).astype(int), rng.random(160)
    seconds = np.where(click == 1, length[item] * np.where(rng.random(rows) < taste[item], 0.9, 0.1), 0.0)
    good = (seconds >= 0.5 * length[item]) & (click == 1)
    rate = np.bincount(item[good], minlength=160) / np.maximum(1, np.bincount(item[click == 1], minlength=160))

    def write(log: Path) -> None:
        frame = {"user_id": x["user"], "item_id": item, "ts": x["at"], "clicked": click, "seconds": seconds}
        unseen.by_day(log / "events", pl.DataFrame(frame), x)
        table = {"item_id": np.arange(160), "length": length, "xq": rate, "zw": rng.random(160)}
        pl.DataFrame(table).write_parquet(log / "items.parquet")

    ended, raw, text = made(tmp_path, write, *(("--conversion", rule) if rule else ()))
    assert ended.code == 0, ended.err
    assert ("xq" in features(raw)) == (rule is None) and "zw" in features(raw), text


# -- clocks, copies, and numbers of a day ------------------------------------------------------------------------------


def test_a_clock_that_was_never_set_is_of_no_other_day(tmp_path: Path) -> None:
    """Rows of 1970 are left out, and are no rows that came late to their folder."""
    x = unseen.drawn(3, 4_800)
    at = np.where(np.arange(4_800) % 150 == 7, 0, x["at"])
    frame = {
        "user_id": x["user"],
        "item_id": x["item"],
        "ts": at * 1000,
        "clicked": x["click"],
        "seconds": x["seconds"],
    }
    ended, raw, _ = made(tmp_path, lambda log: unseen.by_day(log, pl.DataFrame(frame), x))
    assert ended.code == 0 and raw["data"]["events"]["invalid_rows"] == "drop", ended.err
    assert "with a time of 1970" in ended.out and "of another day than" not in ended.out


def test_numbers_of_a_daily_table_that_change_are_no_codes(tmp_path: Path) -> None:
    """What is left of an item, each day; `shelf` stays what it is."""
    x = unseen.drawn(3)
    rng = np.random.default_rng(0)

    def write(log: Path) -> None:
        frame = {"user_id": x["user"], "item_id": x["item"], "ts": x["at"], "clicked": x["click"]}
        unseen.by_day(log / "events", pl.DataFrame(frame | {"seconds": x["seconds"]}), x)
        number = np.arange(unseen.ITEMS)
        for day in dict.fromkeys(unseen.days_of(x)):
            (log / f"goods/day={day}").mkdir(parents=True)
            goods = {"item_id": number, "shelf": number * 7 % 31, "hlutir": rng.integers(0, 30, unseen.ITEMS)}
            pl.DataFrame(goods).write_parquet(log / f"goods/day={day}/0.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    found = features(raw)
    assert found["hlutir"]["kind"] == "numeric" and "the numbers of ids change by day" in text
    assert found["shelf"]["kind"] == "categorical"


@pytest.mark.parametrize("later", [0.05, 0.01])
def test_what_comes_in_later_files_is_printed_where_it_is_not_waited_for(tmp_path: Path, later: float) -> None:
    """Of the rows that name what was shown 5% are of the next day; 1% is no WARNING."""
    rng, rows = np.random.default_rng(2), 4_000
    for k, day in enumerate(DAYS):
        start = dt.datetime.combine(day, dt.time())
        at = [start + dt.timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 86_000, rows))]
        ids = [f"e{k}-{n}" for n in range(rows)]
        who = {"user_id": rng.integers(0, 200, rows), "item_id": rng.integers(0, 80, rows)}
        click = (rng.random(rows) < 0.3).astype(int)
        shown = pl.DataFrame({"imp_id": ids, "ts": at, **who, "clicked": click})
        orders = shown.filter((pl.col("clicked") == 1) & pl.Series(rng.random(rows) < 0.4)).select("imp_id", paid=1)
        late = pl.Series(rng.random(len(orders)) < later)
        for name, of, table in (
            ("shown", day, shown),
            ("orders", day, orders.filter(~late)),
            ("late", day + dt.timedelta(days=1), orders.filter(late)),
        ):
            folder = tmp_path / f"log/{name.replace('late', 'orders')}/day={of}"
            folder.mkdir(parents=True, exist_ok=True)
            table.write_parquet(folder / f"{name}.parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", "orders")
    assert ended.code == 0, ended.err
    printed, lies = " ".join(ended.out.split()), "% of what came of a day's exposures lies in later days' files"
    if later > 0.02:
        assert re.search(rf"WARNING: joined\.orders: [456]{lies}", printed)
    else:
        assert re.search(
            r"joined orders .* [01]\.[0-9]% of it in later days' files, which days_after: 1 would read", printed
        ), printed
        assert "WARNING: joined" not in printed


def test_copies_of_an_exposure_share_no_id(tmp_path: Path) -> None:
    """`unique` reads one of them, and `check` counts as it reads."""
    rng, rows = np.random.default_rng(2), 1_500
    for k, day in enumerate(DAYS):
        start = dt.datetime.combine(day, dt.time())
        at = [start + dt.timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 86_000, rows))]
        ids = {"imp_id": [f"e{k}-{n}" for n in range(rows)], "event_id": [f"v{k}-{n}" for n in range(rows)], "ts": at}
        shown = pl.DataFrame(ids | {"user_id": rng.integers(0, 200, rows), "item_id": rng.integers(0, 80, rows)})
        taps = shown.filter(pl.Series(rng.random(rows) < 0.3)).select("imp_id", seconds=7.5)
        for name, table in (("shown", pl.concat([shown, shown[::50]])), ("taps", taps)):
            (tmp_path / f"log/{name}/day={day}").mkdir(parents=True)
            table.write_parquet(tmp_path / f"log/{name}/day={day}/0.parquet")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", "seconds > 5")
    assert ended.code == 0 and "by data.events.unique" in ended.out, ended.err
    assert "share their id" not in ended.out
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[-1], "--json").json
    assert found["joined"]["taps"]["shared"] == 0
