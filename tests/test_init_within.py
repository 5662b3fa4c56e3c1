"""init --within: how long after what was shown a click counts, and what else came of it, in one table or in two."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from worlds import dmtl

from dmtl_cli.guess.columns.sql import Aggregate, with_aggregates

DAYS = [dt.date(2026, 3, 2) + dt.timedelta(days=k) for k in range(3)]
HALF, DAY = 30 * 60, 24 * 3600  # seconds


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    """Cards on three days, and what came of them: plays of which a fifth come too late for a click, previews, saves up
    to two days later, some without a play."""
    rng, rows = np.random.default_rng(5), list[dict[str, Any]]()

    def row(kind: str, at: float, of: str | None, user: str, item: str, ms: int | None = None) -> None:
        own = {"id": f"{kind}-{len(rows)}", "of": of, "kind": kind, "user_id": user, "item_id": item, "read_ms": ms}
        rows.append(own | {"at": dt.datetime.combine(DAYS[0], dt.time()) + dt.timedelta(seconds=int(at))})

    for k in range(len(DAYS)):
        for _ in range(150):
            user, begun = f"u{rng.integers(60)}", k * DAY + int(rng.integers(DAY - 60))
            for item in rng.choice(40, 6, replace=False):
                shown = f"impression-{len(rows)}"
                row("impression", begun, None, user, f"i{item}")
                if rng.random() < 0.3:  # muted, and as long as a play
                    row("preview", begun + 3, shown, user, f"i{item}", int(rng.integers(60_000)))
                if played := rng.random() < 0.3:
                    for _ in range(int(rng.integers(1, 3))):
                        wait = rng.integers(5, HALF - 60) if rng.random() < 0.8 else rng.integers(HALF + 60, 3 * HALF)
                        row("play", begun + wait, shown, user, f"i{item}", int(rng.integers(60_000)))
                if rng.random() < (0.5 if played else 0.05):
                    row("save", begun + rng.integers(60, 2 * DAY), shown, user, f"i{item}")
    return pl.DataFrame(rows, schema_overrides={"of": pl.String, "read_ms": pl.Int64})


def came(events: pl.DataFrame, kind: str, within: int, after: int = 0) -> pl.DataFrame:
    """Rows of a kind within so many seconds of what was shown, by its id, in files of its day and so many after it."""
    shown = events.filter(pl.col("kind") == "impression").select(of="id", begun="at")
    mine = events.filter(pl.col("kind") == kind).join(shown, on="of")
    mine = mine.filter(pl.col("at") - pl.col("begun") <= pl.duration(seconds=within))
    return mine.filter(pl.col("at").dt.date() - pl.col("begun").dt.date() <= pl.duration(days=after))


def told(events: pl.DataFrame, clicked: pl.DataFrame, good: pl.DataFrame, waits: int = 0) -> str:
    """What `check` says of the labels of the last day that need not wait, but for its wording."""
    mine = cards(events).filter(pl.col("at").dt.date() == DAYS[-1 - waits])["id"]
    click = mine.is_in(clicked["of"].unique().implode())
    both = click & mine.is_in(good["of"].unique().implode())
    assert 0 < both.sum() < click.sum() < len(mine)
    return (
        f"labels: {click.mean():.1%} of rows are clicks ({click.sum():,}); "
        f"{both.sum() / click.sum():.1%} of clicks are good ({both.sum():,})"
    )


def cards(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("kind") == "impression")


def stream(home: Path, events: pl.DataFrame, *, whole: bool) -> None:
    """All rows in the order of their times: a file a day, or one."""
    home.mkdir(parents=True)
    events = events.filter(pl.col("at").dt.date() <= DAYS[-1])
    days = [("all", events)] if whole else [(str(d), events.filter(pl.col("at").dt.date() == d)) for d in DAYS]
    for name, rows in days:
        lines = (
            json.dumps({k: v for k, v in row.items() if v is not None}, default=str)
            for row in rows.sort("at").to_dicts()
        )
        (home / f"events-{name}.jsonl").write_text("\n".join(lines) + "\n")


def tables(home: Path, events: pl.DataFrame, *names: str) -> None:
    """A folder a table; what came in one of its own each, or all in `actions`."""
    own = {name: [name] for name in names} if names else {"actions": ["preview", "play", "save", "like"]}
    for name, mine in {"cards": ["impression"], **own}.items():
        rows = events.filter(pl.col("kind").is_in(mine)).sort("at")
        rows = (
            rows.drop("of", "read_ms")
            if name == "cards"
            else rows.drop("user_id", "item_id").rename({"id": "own", "of": "id"})
        )
        rows = rows.drop("kind") if len(mine) == 1 else rows
        rows = rows if "orders" in name else rows.drop("state", strict=False)
        for day in DAYS:
            (home / name).mkdir(parents=True, exist_ok=True)
            rows.filter(pl.col("at").dt.date() == day).write_csv(home / name / f"{day}.csv", datetime_format="%F %T")


def made(home: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """What `init` prints, and the tables of what came."""
    ended = dmtl("init", home, "-o", home.parent / "mine.yaml", "--timezone", "UTC", *options)
    assert ended.code == 0, ended.err
    config = yaml.safe_load((home.parent / "mine.yaml").read_text())
    joined: dict[str, Any] = config["data"]["events"]["joined"]
    return ended.out, joined


# -- two windows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["a file a day", "one file"])
@pytest.mark.parametrize("click", ["play", "kind = 'play'"])
def test_of_a_stream_clicks_are_read_by_a_table_of_their_own(
    tmp_path: Path, events: pl.DataFrame, whole: bool, click: str
) -> None:
    stream(tmp_path / "log", events, whole=whole)
    out, joined = made(tmp_path / "log", "--click", click, "--conversion", "save", "--within", "30m, 24h")
    assert {name: one["within"] for name, one in joined.items()} == {"later": "24h", "clicks": "30m"}
    assert [*joined["clicks"]["columns"].values()] == ["COUNT(CASE WHEN kind = 'play' THEN 1 END) > 0"]
    assert "save" in joined["later"]["columns"]
    assert (joined["later"]["days_after"], joined["clicks"]["days_after"]) == (1, 1), "both files are there then"
    assert told(events, came(events, "play", HALF, 1), came(events, "save", DAY, 1), 1) in out


def test_tables_that_tell_a_click_alone_have_its_window_themselves(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events, "play", "save")
    out, joined = made(tmp_path / "log", "--click", "play", "--conversion", "save", "--within", "30m,24h")
    assert joined["save"]["within"] == "24h" and "30m" in {one["within"] for one in joined.values()}
    assert (joined["save"]["days_after"], "days_after" in joined["play"]) == (1, False)
    assert told(events, came(events, "play", HALF), came(events, "save", DAY, 1), 1) in out


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--click", "play", "--conversion", "play AND save"), "play tells a click and a good one: it has one window"),
        (
            ("--click", "rank", "--conversion", "save"),
            "what tells a click is not read within a time of what was shown",
        ),
    ],
)
def test_a_click_that_has_no_window_of_its_own_is_refused(
    tmp_path: Path, events: pl.DataFrame, options: tuple[str, ...], what: str
) -> None:
    tables(tmp_path / "log", events.with_columns(rank=pl.col("at").dt.second() % 2))
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--within", "30m,24h", *options)
    assert (ended.code, ended.out) == (2, "") and what in ended.err
    assert "give one length of time, and edit within in the config" in ended.err
    assert not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize("lengths", ["30m,", ",24h", "30m,24h,2d", "30m,60d"])
def test_what_is_no_pair_of_lengths_is_refused(tmp_path: Path, lengths: str) -> None:
    ended = dmtl("init", tmp_path, "-o", tmp_path / "mine.yaml", "--within", lengths)
    assert ended.code == 2 and "--within: " in ended.err and "30m,24h of clicks and of all else" in ended.err


# -- what a rule asks of the rows that came ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["MAX", "SUM", "MIN", "AVG", "COUNT"])
def test_a_rule_asks_one_value_of_the_rows_of_a_kind(tmp_path: Path, events: pl.DataFrame, word: str) -> None:
    tables(tmp_path / "log", events)
    least, of = (2, "1") if word == "COUNT" else (20_000, "read_ms")
    rule = f"{word}(CASE WHEN kind = 'play' THEN {of} END) >= {least}"
    out, joined = made(tmp_path / "log", "--click", "play", "--conversion", rule, "--within", "30m")
    assert f"{word}(CASE WHEN kind = 'play' THEN {of} END)" in joined["actions"]["columns"].values()
    plays = came(events, "play", HALF)
    by = {"MAX": "max", "SUM": "sum", "MIN": "min", "AVG": "mean", "COUNT": "len"}[word]
    values = plays.group_by("of").agg(getattr(pl.col("read_ms"), by)())
    assert told(events, plays, values.filter(pl.col("read_ms") >= least)) in out


@pytest.mark.parametrize("several", [0.0, 0.004, 0.5], ids=["one", "seldom several", "several"])
@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ("buys AND state <> 'void'", ["paid", "sent", "lost"]),
        ("orders.state IN ('paid', 'sent') AND play", ["paid", "sent"]),
        ("state NOT IN ('paid', 'void', 'x AND state = 1')", ["sent", "lost"]),
        ("state LIKE '%t' OR MAX(CASE WHEN state = 'lost' THEN 1 ELSE 0 END) = 1", ["sent", "lost"]),
    ],
)
def test_a_state_is_asked_of_each_row(
    tmp_path: Path, events: pl.DataFrame, several: float, rule: str, good: list[str]
) -> None:
    """Of the rows of an exposure any: one that is paid counts beside one that was sent later, and is void."""
    rng, plays = np.random.default_rng(3), events.filter(pl.col("kind") == "play").unique("of", maintain_order=True)
    again = plays.sample(fraction=several, seed=1).with_columns(id="b" + pl.col("id")) if several else plays.clear()
    rows = pl.concat([plays, again]).with_columns(kind=pl.lit("buys/orders"))
    state = pl.Series("state", rng.choice(["paid", "void", "sent", "lost"], len(rows)))
    rows = rows.with_columns(state, read_ms=pl.lit(0, pl.Int64), at=pl.col("at").dt.truncate("1d"))
    click = events.filter(pl.col("kind") == "play")
    tables(tmp_path / "log", pl.concat([cards(events), click, rows], how="diagonal"), "play", "buys/orders")
    out, _ = made(tmp_path / "log", "--click", "play", "--conversion", rule)
    clicked = click.filter(pl.col("at").dt.date() == DAYS[-1])
    assert told(events, clicked, rows.filter(pl.col("state").is_in(good), pl.col("at").dt.date() == DAYS[-1])) in out


def test_a_click_may_be_such_a_value(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events)
    rule = "SUM(CASE WHEN kind = 'play' THEN read_ms END) >= 20000"
    out, _ = made(tmp_path / "log", "--click", rule, "--conversion", "save", "--within", "30m")
    sums = came(events, "play", HALF).group_by("of").agg(pl.col("read_ms").sum())
    assert told(events, sums.filter(pl.col("read_ms") >= 20_000), came(events, "save", HALF)) in out


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("SUM(read_m) >= 9", "no row that came of what was shown has read_m, of SUM(read_m), did you mean read_ms?"),
        ("COUNT(*) >= 2", "COUNT(*) names no column"),
        ("MAX(CASE WHEN n > 1 THEN read_ms END) > 9", "names columns of several tables: n of save, read_ms of play"),
        ("SUM(read_ms + ) >= 9", "expected an SQL expression"),
    ],
)
@pytest.mark.parametrize("option", ["--click", "--conversion"])
def test_a_value_of_rows_that_no_table_has_is_refused(
    tmp_path: Path, events: pl.DataFrame, option: str, rule: str, what: str
) -> None:
    tables(tmp_path / "log", events, "play", "save")
    for file in (tmp_path / "log/save").iterdir():
        pl.read_csv(file).drop("read_ms").with_columns(n=1).write_csv(file)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", option, rule)
    assert ended.code == 2 and f"{option}: " in ended.err and what in ended.err, ended.err
    assert "SUM(ms) >= 60000" in ended.err or "of the columns of one table: play, save" in ended.err


def test_a_sum_of_several_kinds_of_rows_says_so(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events)
    out, _ = made(tmp_path / "log", "--click", "play", "--conversion", "read_ms >= 20000", "--within", "30m")
    said = " ".join(out.split())
    assert "read_ms is the sum of an exposure's rows, of play and preview alike, MAX(read_ms) the greatest" in said


def test_days_are_waited_for_by_the_last_row_of_an_exposure(tmp_path: Path, events: pl.DataFrame) -> None:
    """All are played at once, and a tenth again on the next day: that one may be what makes it good."""
    plays = events.filter(pl.col("kind") == "play").unique("of", keep="first", maintain_order=True)
    shown = cards(events).select(of="id", begun="at")
    plays = plays.join(shown, on="of").with_columns(at=pl.col("begun") + pl.duration(seconds=1)).drop("begun")
    again = plays.gather_every(10).with_columns(
        pl.col("at").dt.offset_by("1d").dt.truncate("1d"), id="b" + pl.col("id")
    )
    tables(tmp_path / "log", pl.concat([cards(events), plays, again]), "play")
    _, joined = made(tmp_path / "log", "--conversion", "SUM(read_ms) >= 30000", "--within", "24h")
    assert joined["play"]["days_after"] == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SUM(ms) >= 1", [("SUM", "ms")]),
        ("a OR max ( b.c ) > (2 + x)", [("MAX", " b.c ")]),
        ("MAX(CASE WHEN k = 'a)' THEN ms END) > MIN(ms)", [("MAX", "CASE WHEN k = 'a)' THEN ms END"), ("MIN", "ms")]),
        ("ARRAY_SUM(ms) > 1 OR x.sum(ms) > 2 OR 'SUM(ms)' = a OR \"AVG(b)\" > 1", []),
        ("(COUNT(DISTINCT (a)) > 1)", [("COUNT", "DISTINCT (a)")]),
        ("SUM(ABS(MAX(a))) > 1 AND (SUM", [("SUM", "ABS(MAX(a))")]),
        ("SUM(ms", []),
    ],
)  # fmt: skip
def test_values_of_several_rows_in_a_rule(text: str, found: list[tuple[str, str]]) -> None:
    assert [(one.word, one.of) for one in Aggregate.all_in(text)] == found
    bare = with_aggregates(text, lambda one: f"<{one.word}>")
    assert bare.count("<") - text.count("<") == len(found)
    assert with_aggregates(text, lambda _: None) == text


# -- what a name means -------------------------------------------------------------------------------------------------


def kinds(home: Path, events: pl.DataFrame, **names: list[str]) -> None:
    """Tables of rows of several kinds each, beside the cards."""
    tables(home, events)
    every = pl.concat([pl.read_csv(file) for file in (home / "actions").iterdir()])
    for file in (home / "actions").iterdir():
        file.unlink()
    (home / "actions").rmdir()
    for name, mine in names.items():
        (home / name).mkdir()
        rows = every.filter(pl.col("kind").is_in(mine))
        for day in DAYS:
            rows.filter(pl.col("at").str.starts_with(str(day))).write_csv(home / name / f"{day}.csv")


def test_a_kind_goes_before_its_tables_name(tmp_path: Path, events: pl.DataFrame) -> None:
    kinds(tmp_path / "log", events, play=["preview", "play", "save"])
    out, _ = made(tmp_path / "log", "--click", "play", "--conversion", "save", "--within", "30m,24h")
    assert told(events, came(events, "play", HALF, 1), came(events, "save", DAY, 1), 1) in out


def test_a_column_goes_before_its_tables_name(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events, "play")
    (tmp_path / "log/play").rename(tmp_path / "log/read_ms")
    out, joined = made(tmp_path / "log", "--conversion", "read_ms > 70000", "--within", "30m")
    sums = came(events, "play", HALF).group_by("of").agg(pl.col("read_ms").sum()).filter(pl.col("read_ms") > 70_000)
    assert len(joined) == 1 and told(events, came(events, "play", HALF), sums) in out


@pytest.mark.parametrize("rule", ["MAX(CASE WHEN kind = 'save' THEN 1 END) = 1", "COUNT(social.kind) > 0", "save"])
def test_of_two_tables_with_a_column_the_one_that_has_the_value(
    tmp_path: Path, events: pl.DataFrame, rule: str
) -> None:
    liked = (
        events.filter(pl.col("kind") == "save").gather_every(2).with_columns(kind=pl.lit("like"), id="l" + pl.col("id"))
    )
    kinds(tmp_path / "log", pl.concat([events, liked]), actions=["preview", "play"], social=["save", "like"])
    out, _ = made(tmp_path / "log", "--click", "kind = 'play'", "--conversion", rule, "--within", "30m")
    assert told(events, came(events, "play", HALF), came(events, "save", HALF)) in out


def test_values_of_two_tables_have_two_names(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events.with_columns(read_ms=pl.col("read_ms").fill_null(7)), "play", "preview")
    rule = "MAX(play.read_ms + 0) > 9000 AND MAX(preview.read_ms + 0) > 9000"
    out, joined = made(tmp_path / "log", "--click", "play", "--conversion", rule, "--within", "30m")
    assert {*joined["play"]["columns"]}.isdisjoint(joined["preview"]["columns"])
    most = [came(events, kind, HALF).group_by("of").agg(pl.col("read_ms").max()) for kind in ("play", "preview")]
    good = [one.filter(pl.col("read_ms") > 9_000) for one in most]
    assert told(events, came(events, "play", HALF), good[0].join(good[1], on="of")) in out


def test_a_rule_of_the_click_takes_no_column_from_others(tmp_path: Path, events: pl.DataFrame) -> None:
    tables(tmp_path / "log", events, "play")
    out, _ = made(tmp_path / "log", "--click", "MAX(read_ms) > 9000 AND read_ms > 50000", "--duration", "read_ms")
    rows = (
        came(events, "play", 10 * DAY).group_by("of").agg(most=pl.col("read_ms").max(), total=pl.col("read_ms").sum())
    )
    clicked = rows.filter((pl.col("most") > 9_000) & (pl.col("total") > 50_000))["of"]
    mine = cards(events).filter(pl.col("at").dt.date() == DAYS[-1])["id"].is_in(clicked.implode())
    assert f"are clicks ({mine.sum()})" in out


@pytest.mark.parametrize("option", ["--click", "--conversion"])
@pytest.mark.parametrize(
    "rule",
    [
        "SUM(kind) > 3",
        "MAX(CASE WHEN kind = 5 THEN read_ms END) > 3",
        "AVG(at) > 3",
        'MAX("a"."read_ms") > 3',
        "MAX(read_ms) > 3 -- x",
    ],
)
def test_what_does_not_fit_the_rows_is_refused(tmp_path: Path, events: pl.DataFrame, option: str, rule: str) -> None:
    tables(tmp_path / "log", events)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", option, rule)
    assert ended.code == 2 and f"error: {option}: " in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "mine.yaml").exists()
