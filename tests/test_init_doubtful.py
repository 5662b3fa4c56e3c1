"""What strangers' logs have now and then: zero dates of any order, the stamp of an export, a day without a click."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import daily, features, frame, made
from test_init_served import DAY, ITEMS, STATES, N
from unseen import days_of, drawn
from worlds import dmtl

from dmtl_cli.config.expressions import with_quotes
from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.exposures.doubts import unfit
from dmtl_cli.guess.exposures.labels import roles_of
from dmtl_cli.guess.features import measures
from dmtl_cli.guess.findings.joined import joined_lines
from dmtl_cli.guess.given import below_zero
from dmtl_cli.guess.outcomes import state_lines

X = drawn(0)


# -- times -------------------------------------------------------------------------------------------------------------


def clocked(home: Path, zero: str, form: str) -> None:
    """A CSV a day with a clock, some of whose times are not known, and the stamp of the export."""
    at = [dt.datetime.fromtimestamp(int(t), dt.UTC).strftime(form) for t in X["at"]]
    texts = [zero if k % 211 == 5 else t for k, t in enumerate(at)]
    rows = frame(drop=("ts",)).with_columns(data_ora=pl.Series(texts), estratto_il=pl.lit("05/03/2026 04:10"))
    for day in sorted({*days_of(X)}):
        mine = rows.filter(pl.Series([d == day for d in days_of(X)]))
        mine.write_csv(home / f"listati_{day.replace('-', '')}.csv", separator=";")


@pytest.mark.parametrize(
    ("zero", "form"),
    [
        ("00/00/0000 00:00:00", "%d/%m/%Y %H:%M:%S"),
        ("00.00.0000 00:00", "%d.%m.%Y %H:%M"),
        ("0000/00/00 00:00:00", "%Y/%m/%d %H:%M:%S"),
        ("0000-00-00 00:00:00", "%Y-%m-%d %H:%M:%S"),
    ],
)
def test_a_zero_date_of_any_order_is_none(zero: str, form: str, tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda home: clocked(home, zero, form))
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["time"] == "data_ora" and events["invalid_rows"] == "drop"
    assert zero in raw["data"]["csv"]["null_values"]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAY, "--json").json
    on = [k for k, d in enumerate(days_of(X)) if d == DAY]
    assert found["rows"] + found["labels"]["repeated_clicks"] == sum(k % 211 != 5 for k in on)


def test_the_stamp_of_an_export_is_no_time_of_rows() -> None:
    rows = pl.DataFrame({
        "user_id": [f"u{k % 90}" for k in range(3_000)], "item_id": [f"i{k % 71}" for k in range(3_000)],
        "estratto_il": [dt.datetime(2026, 3, 5, 4, 10)] * 3_000, "click": [k % 3 == 0 for k in range(3_000)],
    })  # fmt: skip
    assert roles_of(rows, {}).time is None
    with_none = rows.with_columns(pl.when(pl.col("click") | (pl.col("user_id") > "u1")).then("estratto_il"))
    assert roles_of(with_none, {}).time is None
    day = pl.col("estratto_il").dt.truncate("1d")
    for other in (rows.head(500), rows.with_columns(day), rows.with_columns(day - pl.duration(minutes=330))):
        time = roles_of(other, {}).time
        assert time is not None and time.column == "estratto_il", "a few rows may be of one moment, and many of one day"


def test_a_refused_time_names_what_is_none() -> None:
    texts = pl.Series("ora", [f"19/11/2025 00:{k % 60:02}:58" for k in range(80)] + ["n.d."])
    what, hint = unfit("time", texts)
    assert what == "--time: expected a column of times, ora is String, such as n.d."
    assert hint == "name another, or write a time in its place, or none"
    what, _ = unfit("time", pl.Series("ora", ["red", "blue", "red"]))
    assert what.endswith("such as red")


# -- what came of exposures --------------------------------------------------------------------------------------------


def stream(home: Path, *, last: bool) -> None:
    """JSON lines a day of cards that were shown and of their clicks; the last day has cards alone, or clicks too."""
    rng = np.random.default_rng(4)
    days = [dt.date(2026, 3, 1) + dt.timedelta(k) for k in range(4)]
    for k, day in enumerate(days):
        lines, n = [], 40 if k == 3 else 900
        for row in range(n):
            at = dt.datetime.combine(day, dt.time(0), dt.UTC) + dt.timedelta(seconds=80 * row)
            base = {"event": "shown", "event_id": f"e{k}-{row}", "ts": at.isoformat()}
            who = {"user": {"id": f"u{rng.integers(60)}"}, "item": {"id": f"i{rng.integers(40)}"}}
            lines.append(base | who)
            if rng.random() < 0.3 and (k < 3 or last):
                came = {"event": "clicked", "event_id": f"c{k}-{row}", "ts": at.isoformat()}
                of = {"click": {"of": f"e{k}-{row}", "seconds": float(np.round(rng.exponential(40), 1))}}
                lines.append(came | {"user": who["user"]} | of)
        (home / f"events-{day}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("last", [True, False], ids=["clicks", "no clicks"])
def test_a_day_on_which_nothing_was_clicked_is_read(tmp_path: Path, last: bool) -> None:
    """JSON writes no column of what no row has: neither the key of clicks nor their seconds."""
    ended, raw, _ = made(tmp_path, lambda home: stream(home, last=last))
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]
    (one,) = joined.values()
    assert one["key"] == "click.of" and raw["data"]["types"]["click.of"] == "text"
    found = {}
    for day in ("2026-03-03", "2026-03-04"):
        ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
        assert ended.code == 0, ended.err
        found[day] = ended.json["labels"]["click_rate"]
    assert found["2026-03-03"] > 0.2 and (found["2026-03-04"] > 0) is last


@pytest.mark.parametrize("form", ["renamed", "flat"])
def test_a_key_that_has_another_name_is_missed(tmp_path: Path, form: str) -> None:
    """Other fields of its object are there, or what is read beside it."""
    made(tmp_path, lambda home: stream(home, last=True))
    last = tmp_path / "log/events-2026-03-04.jsonl"
    rows = last.read_text().replace('"of"', '"parent"')
    last.write_text(rows if form == "renamed" else rows.replace('"seconds"', '"secs"'))
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-04")
    assert ended.code == 65 and "key expects column click.of" in ended.err, ended.out


def test_a_key_that_the_config_gives_no_type_is_missed(tmp_path: Path) -> None:
    _, _, text = made(tmp_path, lambda home: stream(home, last=False))
    (tmp_path / "mine.yaml").write_text(text.replace("    click.of: text\n", ""))
    ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-04")
    assert ended.code == 65 and "key expects column click.of" in ended.err, "it may be misspelt"


def test_rows_of_the_days_after_are_no_doubt() -> None:
    said = {"rows": 1_048, "unmatched": 731, "within": "48h", "days_after": 2, "shared": 0}
    (line,) = joined_lines({"joined": {"plays": said}})
    told = "317 of its 1,048 rows, of 3 days, came within 48h of this day's exposures"
    assert line == f"data.events.joined.plays: {told}"
    (line, *_) = joined_lines({"joined": {"plays": said | {"without_id": 7, "timeless": 10}}})
    assert "300 of its 1,048 rows, of 3 days, came within 48h" in " ".join([line, *_])
    (line,) = joined_lines({"joined": {"plays": said | {"unmatched": 1_040}}})
    assert line.startswith("WARNING: ") and line.endswith(": are time, data.timezone and within right?")
    (line,) = joined_lines({"joined": {"plays": said | {"days_after": 0, "unmatched": 1_000}}})
    assert line.startswith("WARNING: ") and "1,000 of its 1,048 rows came within 48h of no exposure: left out" in line


def test_a_draft_is_not_offered_as_good() -> None:
    sent, draft, gone = ["inviata"] * 40, ["bozza"] * 30, ["ritirata"] * 10
    (line,) = state_lines._state_line(pl.Series("its_stato", [*sent, *draft, *gone, *[None] * 20]), "clicks")
    assert line.startswith("# its_stato of clicks: 'inviata' 40.0%, 'bozza' 30.0%, 'ritirata' 10.0%; ")
    assert line.endswith("--conversion \"its_stato IN ('inviata', 'ritirata')\"")
    (line,) = state_lines._state_line(pl.Series("its_stato", draft), "clicks")
    assert line.endswith("IN ('bozza')\""), "where there is nothing else"


# -- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numero_rayon", "n_categoria"])
def test_a_number_by_its_name_may_be_a_code(name: str) -> None:
    x = pl.Series(name, np.random.default_rng(1).permutation(9_000)[:3_000] * 17).cast(pl.Float64)
    assert measures.of_numbers(name, x, whole=True, codes=True)[0] == "categorical"


@pytest.mark.parametrize("name", ["jml_suka", "jumlah_tayang", "jml_tonton_lama", "anzahl_aufrufe", "số_lượt_xem"])
def test_a_count_by_its_name_is_a_number(name: str) -> None:
    x = pl.Series(name, np.random.default_rng(1).zipf(1.4, 3_000).clip(0, 90_000)).cast(pl.Float64)
    kind, options, _ = measures.of_numbers(name, x, whole=True, codes=True)
    assert (kind, options) == ("numeric", {"transform": "log1p"})
    assert words.says(name, languages.HOW_MANY)


def test_whole_numbers_beside_totals_in_one_object_are_held(tmp_path: Path) -> None:
    clicks = np.bincount(X["item"][X["click"] == 1], minlength=ITEMS)
    totals = [{"views_total": int(9 * clicks[k] + k % 3), "likes_total": int(clicks[k])} for k in N]
    stats = [one | {"zz": int(k * 7 % 13)} for k, one in zip(N, totals, strict=True)]
    rows = [{"item_id": int(k), "genre": f"g{k % 5}", "stats": s} for k, s in zip(N, stats, strict=True)]

    def write(home: Path) -> None:
        daily(frame())(home)
        (home / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert not {"stats_zz", "stats_likes_total", "stats_views_total"} & features(raw).keys()
    assert "  # beside running totals in one object" in text


def test_codes_beside_totals_in_one_object_stay_features(tmp_path: Path) -> None:
    """An object that has all of an item, as a search engine writes them."""

    def row(k: int) -> dict[str, object]:
        totals = {"views_total": int(90 * k % 77), "likes_total": int(k % 9)}
        return {"item_id": k, "_source": totals | {"category_id": k % 5, "author_id": k % 11, "season": k % 4}}

    def write(home: Path) -> None:
        daily(frame())(home)
        (home / "items.jsonl").write_text("".join(json.dumps(row(int(k))) + "\n" for k in N))

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    named = {f.get("column", name) for name, f in features(raw).items()}
    assert {"_source.category_id", "_source.author_id", "_source.season"} <= named


def test_lengths_below_zero_are_told() -> None:
    rng = np.random.default_rng(2)
    ms = np.where(np.arange(900) % 50 == 7, -rng.integers(1, 999, 900), rng.integers(1, 90_000, 900))
    rows = pl.DataFrame({"user_id": np.arange(900) % 40, "item_id": np.arange(900) % 31, "clicked": True,
                         "watch_ms": ms, "elo": ms})  # fmt: skip
    roles = roles_of(rows, {})
    (line,) = below_zero("watch_ms >= 20000", rows, roles)
    assert line.startswith("watch_ms: 2% of clicks have less than 0, which makes them no good ones")
    assert list(below_zero("elo >= 20", rows, roles)) == [], "of what is no length it may be meant"
    for rule in ("watch_ms >= 20 XOR clicked", "watch_ms > 20 IS TRUE", "watch_ms >= 0.0", "watch_ms >= 0 "):
        assert list(below_zero(rule, rows, roles)) == [], rule


# -- what a person types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("user.type <> 'staff'", "\"user.type\" <> 'staff'"),
        ("user.type <> 'user.type' AND tile.kind = 1", "\"user.type\" <> 'user.type' AND tile.kind = 1"),
        ('"user.type" = 1', '"user.type" = 1'),
        ("items.length > 3", "items.length > 3"),
        ("user.type <>", "user.type <>"),
        ("ประเภท <> 'ของแถม' AND a.วันที่ > 3", '"ประเภท" <> \'ของแถม\' AND "a.วันที่" > 3'),
        ("स्थिति = 'a' OR (NOT ok)", "\"स्थिति\" = 'a' OR (NOT ok)"),
        ("状態 = '済' AND n > 1", "状態 = '済' AND n > 1"),
        ("ประเภท <>", "ประเภท <>"),
    ],
)
def test_a_name_of_words_of_sql_or_of_other_scripts_needs_no_quotes(typed: str, read: str) -> None:
    assert with_quotes(typed) == read


@pytest.mark.parametrize("rule", ["stock > 3 -- few", "stock > 3 few", "stock > 3 AS few"])
def test_a_rule_that_cannot_stand_beside_others_is_refused(rule: str, tmp_path: Path) -> None:
    for option in ("--where", "--export-items"):
        ended = dmtl("init", tmp_path / "nowhere", option, rule)
        assert ended.code == 2 and f"{option}: expected" in ended.err, ended.err


def test_no_expression_is_refused_before_a_log_is_read(tmp_path: Path) -> None:
    ended = dmtl("init", tmp_path / "nowhere", "--where", "plan <>")
    assert ended.code == 2 and "--where: expected an SQL expression" in ended.err


def test_a_click_that_is_given_as_what_is_good_is_told(tmp_path: Path) -> None:
    ended, _, _ = made(tmp_path, daily(frame(drop=("watch_seconds",))), "--conversion", "clicked")
    (line,) = (line for line in ended.out.splitlines() if "every row counts as a click" in line and "WARN" in line)
    assert line.endswith(", and clicked is what a good one is: if clicked is the click, leave --conversion clicked out")


@pytest.mark.parametrize("rule", ["status <> 'deleted'", "stock > 3"])
def test_what_may_be_served_of_a_table_a_day_is_told_of_its_newest_rows(tmp_path: Path, rule: str) -> None:
    def write(home: Path) -> None:
        daily(frame())(home)
        for day in ("2026-03-01", "2026-03-02", DAY):
            (home / f"items/day={day}").mkdir(parents=True)
            STATES.drop("aktiv").write_parquet(home / f"items/day={day}/0.parquet")

    ended, raw, _ = made(tmp_path, write, "--export-items", rule)
    assert ended.code == 0, ended.err
    guessed = "status IN ('live', 'new') AND " * ("status" not in rule)  # what is said of it is in place of the guess
    assert raw["export"]["items"] == f"{guessed}{rule}"
