"""init: a stream of which one kind of event has lists of what was shown, and others name a list and an element of it,
in columns of other names; and lists of what was done with one item, as an outcome."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import features, made
from worlds import dmtl

from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.reading.rewrites import values_of

DAYS = ("2026-03-01", "2026-03-02")
USERS, TITLES = 60, 90


def stream(home: Path, *, mixed: bool = True) -> dict[str, int]:
    """Shelves of titles; clicks with the shelf's id and the title; what was read and kept, by the user and the title
    alone; each event with the id of a device, which is a user's own. And what the truth is of the last day.

    Args:
        mixed: whether a phone writes some titles as text.
    """
    rng = np.random.default_rng(4)
    truth = {"exposures": 0, "clicks": 0, "good": 0}
    for day in DAYS:
        lines, start = list[str](), dt.datetime.fromisoformat(f"{day}T00:30:00+00:00")
        for k in range(400):
            user = int(rng.integers(USERS))
            at = int((start + dt.timedelta(minutes=3 * k)).timestamp() * 1000)

            def event(name: str, own: str, seconds: int, user: int = user, at: int = at, **props: Any) -> str:
                dev = {"adid": f"d-{user:04}", "os": ("ios", "android")[user % 2]}
                told = {"eid": own, "event": name, "ts": at + 1000 * seconds, "uid": f"u{user:03}", "dev": dev}
                return json.dumps(told | {"props": props})

            shown = [int(t) for t in 7000 + rng.choice(TITLES, 8, replace=False)]
            shelf = event("home_imp", f"{day}-{k}", 0, items=[{"t": t, "p": p} for p, t in enumerate(shown)])
            lines += [shelf] * (2 if k % 40 == 0 else 1)  # a client sends it again
            truth["exposures"] += 8 * (day == DAYS[-1])
            for t in shown:
                if rng.random() >= 0.25:
                    continue
                named = str(t) if mixed and user % 2 else t
                lines.append(event("title_click", f"{day}-{k}-{t}", 4, imp=f"{day}-{k}", t=named))
                truth["clicks"] += day == DAYS[-1]
                if rng.random() < 0.4:
                    lines.append(event("fav_add", f"{day}-{k}-{t}-f", 50, t=named))
                    truth["good"] += day == DAYS[-1]
            if k % 7 == 0:
                lines.append(event("app_open", f"{day}-{k}-o", -20))
        (home / day).mkdir()
        (home / day / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    titles = [{"titleNo": 7000 + n, "name": f"Title {n} of many", "genre": f"g{n % 9}"} for n in range(TITLES)]
    (home / "titles.jsonl").write_text("".join(json.dumps(one) + "\n" for one in titles))
    return truth


@pytest.mark.parametrize("given", [(), ("--item", "props.items.t")], ids=["guessed", "named"])
def test_what_follows_names_the_list_and_the_element_in_columns_of_other_names(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    truth: dict[str, int] = {}
    ended, raw, _ = made(tmp_path, lambda home: truth.update(stream(home)), "--user", "uid", *given)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert (events["item"], events["explode"], events["unique"]) == ("props.items.t", "props.items", "exposure")
    later, beside = events["joined"].values()
    assert later["computed"] == {"exposure": '"props.imp" || \'/\' || "props.t"'}
    assert beside["computed"] == {"exposure_": "uid || '/' || \"props.t\""} and beside["within"]
    assert events["conversion"] == "fav_add"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[-1], "--json").json
    assert found["rows"] == truth["exposures"], "a shelf that came twice is read once"
    assert found["labels"]["click_rate"] == pytest.approx(truth["clicks"] / truth["exposures"], abs=1e-4)
    assert found["labels"]["conversion_rate"] == pytest.approx(truth["good"] / truth["clicks"], abs=0.02)


def in_words_nobody_knows(home: Path, lists: bool = True) -> dict[str, int]:
    """Pages of articles; what was opened of them, more often than pages are shown; and how long it was read. Without
    `lists` the pages are a row an article. And what the truth is of the last day."""
    rng = np.random.default_rng(9)
    truth = {"exposures": 0, "clicks": 0, "good": 0}
    for day in DAYS:
        lines, start = list[str](), dt.datetime.fromisoformat(f"{day}T00:30:00+00:00")
        for k in range(300):
            user, last = f"u{int(rng.integers(USERS)):03}", day == DAYS[-1]
            at = int((start + dt.timedelta(minutes=3 * k)).timestamp() * 1000)

            def event(
                kind: str, after: int, user: str = user, at: int = at, list_: str = f"{day}-{k}", **more: Any
            ) -> str:
                told = {"typ": kind, "ts": at + 1000 * after, "user_id": user, "request": list_}
                return json.dumps(told | more)

            shown = [f"a{int(t)}" for t in rng.choice(TITLES, 8, replace=False)]
            whole = [event("zzyzx", 0, seen=[{"art": t, "pos": p} for p, t in enumerate(shown)])]
            lines += whole if lists else [event("zzyzx", 0, article=t) for t in shown]
            truth["exposures"] += 8 * last
            for t in shown:
                if rng.random() < 0.3:
                    seconds = float(rng.exponential(60))
                    lines += [event("qwrt", 5, article=t), event("mnbv", 200, article=t, read_ms=round(1e3 * seconds))]
                    truth["clicks"] += last
                    truth["good"] += last and seconds >= 45
        (home / f"events_{day}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return truth


def test_what_alone_has_lists_is_what_was_shown(tmp_path: Path) -> None:
    """In words that nobody knows, however many rows the others have."""
    truth: dict[str, int] = {}
    write = lambda home: truth.update(in_words_nobody_knows(home))  # noqa: E731
    ended, raw, _ = made(tmp_path, write, "--conversion", "read_ms >= 45000")
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events["where"] == "typ = 'zzyzx'" and events["item"] == "seen.art", events
    assert events["explode"] == "seen" and features(raw)["seen_pos"]["kind"] == "categorical"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[-1], "--json").json
    assert found["rows"] == truth["exposures"]
    assert found["labels"]["click_rate"] == round(truth["clicks"] / truth["exposures"], 4)
    assert found["labels"]["conversion_rate"] == round(truth["good"] / truth["clicks"], 4)
    (tmp_path / "once.yaml").write_text(
        yaml.safe_dump(raw | {"data": raw["data"] | {"events": events | {"unique": "request"}}})
    )
    again = dmtl("check", "--config", tmp_path / "once.yaml", "--day", DAYS[-1], "--json").json
    assert again["rows"] == found["rows"] and again["joined"] == found["joined"], "of a list each item counts"


def test_lists_of_what_was_bought_are_not_what_was_shown() -> None:
    kinds = ["a"] * 60 + ["b"] * 20 + ["c"] * 5
    items = [None] * 80 + [[f"i{k}", "i0", "i1"] for k in range(5)]
    rows = pl.DataFrame({"kind": kinds, "items": pl.Series(items, dtype=pl.List(pl.String))})
    values = values_of(rows, "kind", Roles())
    assert values is not None and values.exposure == ("a",), values
    shown = pl.Series([[f"x{(k + n) % 40}" for n in range(9)] for k in range(85)])
    of = pl.Series([f"x{k % 40}" for k in range(85)])
    lists = rows.with_columns(
        items=pl.when(pl.col("kind") == "b").then(shown), of=pl.when(pl.col("kind") == "a").then(of)
    )
    values = values_of(lists, "kind", Roles())
    assert values is not None and (values.exposure, values.click) == (("b",), ("a",)), values


def test_rows_that_are_nearly_all_clicks_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n = 2_000
    at = np.sort(rng.integers(1_772_323_200, 1_772_323_200 + 2 * 86_400, n))
    rows = {"user_id": rng.integers(0, 150, n), "item_id": rng.integers(0, 300, n), "ts": at}
    for share, told in ((0.96, True), (0.6, False)):
        (home := tmp_path / str(share)).mkdir()
        log = pl.DataFrame(rows | {"clicked": rng.random(n) < share, "read_seconds": rng.exponential(40, n)})
        ended, _, _ = made(home, lambda to, log=log: log.write_parquet(to / "log.parquet"))  # type: ignore[misc]
        assert ("% of rows are clicks: where what was shown" in ended.out) == told, ended.out


def test_a_device_of_one_user_is_no_item(tmp_path: Path) -> None:
    """`dev.adid` is named like an ad; each is of one user, in hundreds of rows."""
    _, raw, text = made(tmp_path, lambda home: stream(home, mixed=False) and None, "--user", "uid")
    assert raw["data"]["events"]["item"] == "props.items.t"
    assert "dev.adid" in text, "it is said what it is"


def acts(home: Path) -> dict[str, float]:
    """Exposures with a list of what was done once an item was clicked, null where nothing was; and the share of good
    clicks of the last day."""
    rng = np.random.default_rng(6)
    share = 0.0
    for day in DAYS:
        n = 2_000
        clicked = rng.random(n) < 0.3
        kept, undone = rng.random(n) < 0.35, rng.random(n) < 0.1
        lists = [
            (["kept", "undone"] if u else ["kept"]) if c and k else None
            for c, k, u in zip(clicked, kept, undone, strict=True)
        ]
        start = dt.datetime.fromisoformat(day)
        rows = pl.DataFrame(
            {
                "user_id": [f"u{u}" for u in rng.integers(0, USERS, n)],
                "item_id": [f"i{i}" for i in rng.integers(0, TITLES, n)],
                "ts": [start + dt.timedelta(seconds=40 * k) for k in range(n)],
                "click": clicked,
                "acts": pl.Series(lists, dtype=pl.List(pl.String)),
            }
        )
        (home / f"day={day}").mkdir()
        rows.write_parquet(home / f"day={day}" / "a.parquet")
        share = float((clicked & kept & ~undone).sum() / clicked.sum())
    return {"share": share}


def test_a_rule_over_a_list_of_what_was_done(tmp_path: Path) -> None:
    truth: dict[str, float] = {}
    ended, raw, text = made(tmp_path, lambda home: truth.update(acts(home)))
    offered = "lists of acts of clicks: 'kept' "
    assert offered in ended.out and "--conversion \"ARRAY_CONTAINS(acts, 'kept')\"" in ended.out + text, ended.out
    rule = "ARRAY_CONTAINS(acts, 'kept') AND NOT ARRAY_CONTAINS(acts, 'undone')"
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", rule)
    raw = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert raw["data"]["events"]["computed"] == {"good": f"COALESCE({rule}, FALSE)"}, "no list: nothing was done"
    assert f"{truth['share']:.1%} of clicks are good" in ended.out, ended.out


def test_a_rule_is_of_the_table_that_has_its_columns(tmp_path: Path) -> None:
    """A table of photos has an owner and an id as events have; a rule of a good click names what came of the others."""

    def write(home: Path) -> None:
        stream(home, mixed=False)
        rows = [json.loads(line) for line in (home / "titles.jsonl").read_text().splitlines()]
        owned = [one | {"author": {"user_id": f"w{n % 30}"}, "photo_id": one["titleNo"]} for n, one in enumerate(rows)]
        (home / "titles.jsonl").write_text("".join(json.dumps(one) + "\n" for one in owned))

    (tmp_path / "log").mkdir()
    write(tmp_path / "log")
    init = ("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion")
    ended = dmtl(*init, "fav_add OR most_props_none > 3")
    assert ended.code == 2 and "has no column most_props_none" in ended.err and "photo_id" not in ended.err, ended.err
    ended = dmtl(*init, "fav_add AND clicked")
    events = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["events"]
    assert ended.code == 0 and "titles" not in events["path"], ended.err


def test_an_escape_of_like_is_refused(tmp_path: Path) -> None:
    """Polars takes a backslash for a letter, so that no text would fit, and nobody be left out."""
    ended, _, _ = made(tmp_path, lambda home: stream(home) and None, "--user", "uid")
    assert ended.code == 0
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--where", r"uid NOT LIKE 'qa\_%'")
    assert ended.code == 2 and r"LIKE has no escape, a backslash is a letter of 'qa\_%'" in ended.err, ended.err
    assert "STARTS_WITH" in ended.err


def test_days_by_time_needs_a_time_and_a_folder(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        stream(home)
        for day in DAYS:
            frame = pl.DataFrame({"user_id": ["a", "b"] * 50, "item_id": ["x", "y"] * 50, "click": [0, 1] * 50})
            (home / f"events_{day}.csv").write_text(frame.write_csv())

    (tmp_path / "log").mkdir()
    write(tmp_path / "log")
    for day in DAYS:
        (tmp_path / "log" / day / "events.jsonl").unlink()
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--days-by-time")
    assert ended.code == 2 and "--days-by-time: expected a column of times with a clock" in ended.err, ended.err


def mails(home: Path) -> dict[str, int]:
    """Mails with lists of offers, each opened once or never; a list of those that were clicked in it, and how many; the
    visits that a click led to. And what the truth is of the last day."""
    rng = np.random.default_rng(8)
    truth = {"shown": 0, "clicks": 0}
    visits: list[dict[str, Any]] = []
    for day in DAYS:
        rows = []
        for k in range(300):
            user, sent = f"u{rng.integers(USERS)}", dt.datetime.fromisoformat(f"{day}T06:00:00")
            opened = sent + dt.timedelta(minutes=2 * k) if rng.random() < 0.4 else None
            offers = [f"i{i}" for i in rng.choice(TITLES, 6, replace=False)]
            clicked = [o for o in offers if opened and rng.random() < 0.3]
            mail = f"{day}-{k}"
            for o in clicked:
                visits.append({"mail": mail, "offer": o, "seconds": float(rng.integers(3, 200))})
            row = {"mail": mail, "user_id": user, "sent_at": sent, "opened_at": opened, "n_clicks": len(clicked)}
            row |= {"offers": [{"offer": o, "rank": n} for n, o in enumerate(offers)]}
            row |= {"clicks": [{"offer": o, "agent": "web"} for o in clicked] or None}
            rows += [row] * (2 if k % 50 == 0 else 1)
            truth["shown"] += 6 * bool(opened) * (day == DAYS[-1])
            truth["clicks"] += len(clicked) * (day == DAYS[-1])
        (home / "mails" / f"day={day}").mkdir(parents=True)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(home / "mails" / f"day={day}" / "a.parquet")
    pl.DataFrame(visits).write_parquet(home / "visits.parquet")
    return truth


def test_a_time_that_most_rows_lack_says_what_was_shown(tmp_path: Path) -> None:
    """Of mails those that were opened: the request, what repeats and what tells the clicks are told of these."""
    good = ("--duration", "its_seconds")
    truth: dict[str, int] = {}
    ended, raw, _ = made(tmp_path, lambda home: truth.update(mails(home)), "--time", "opened_at", *good)
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    assert (events["where"], events["request"], events["unique"]) == ("opened_at IS NOT NULL", "mail", "exposure")
    assert "n_clicks" not in [f.get("column", f["name"]) for f in raw["features"] if f != "auto"]
    assert "n_clicks" in events["outcomes"]
    assert "ARRAY_CONTAINS" not in ended.out, "a mail's list of clicks is of no offer alone"
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", DAYS[-1], "--json").json
    assert found["rows"] == truth["shown"]
    assert found["labels"]["click_rate"] == pytest.approx(truth["clicks"] / truth["shown"], abs=1e-4)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "b.yaml", "--time", "opened_at", *good, "--days-by-time")
    data = yaml.safe_load((tmp_path / "b.yaml").read_text())["data"]
    assert (data["events"]["path"], data["events"]["date_column"]) == ("mails", "opened_at"), "no table beside itself"


def pages(home: Path, acts: tuple[str, ...]) -> None:
    """Items on pages with a click, and in a file of their own what was done there, of each page and item."""
    rng = np.random.default_rng(3)
    came: list[dict[str, Any]] = []
    for day in DAYS:
        shown = []
        for k in range(400):
            base = {"user_id": f"u{rng.integers(USERS)}", "ts": f"{day} {8 + k // 60:02}:{k % 60:02}:00"}
            for item in rng.choice(TITLES, 5, replace=False).tolist():
                own, click = {"page": f"{day}-{k}", "item_id": f"i{item}"}, int(rng.random() < 0.4)
                shown.append(base | own | {"click": click, "place": ("home", "list")[k % 2]})
                did = [act for act in acts if click and rng.random() < 0.4]
                came += [own | {"user_id": base["user_id"], "did": act, "at": base["ts"]} for act in did]
        pl.DataFrame(shown).write_csv(home / f"shown_{day}.csv")
    pl.DataFrame(came).write_csv(home / "acts.csv")


def test_a_rule_names_values_of_what_came_of_exposures(tmp_path: Path) -> None:
    """`saved OR printed`, as people say it, of a column in which these are values: as `did IN ('saved', 'printed')`."""
    log = partial(pages, acts=("saved", "printed", "rated"))
    ended, raw, _ = made(tmp_path, log, "--conversion", "saved OR printed")
    good = raw["data"]["events"]["computed"]["good"]
    assert ended.code == 0 and good == "did_saved OR did_printed", (ended.err, good)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "b.yaml", "--conversion", "did IN ('saved', 'printed')")
    same = yaml.safe_load((tmp_path / "b.yaml").read_text())["data"]["events"]["computed"]["good"]
    assert same.strip("()") == good
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "b.yaml", "--conversion", "saved OR lost")
    assert ended.code == 2 and "has no column lost" in ended.err


def test_a_rule_over_a_table_beside_the_events_is_of_the_events(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        stream(home, mixed=False)
        rows = [json.loads(line) for line in (home / "titles.jsonl").read_text().splitlines()]
        priced = [one | {"price": n % 50} for n, one in enumerate(rows)]
        (home / "titles.jsonl").write_text("".join(json.dumps(one) + "\n" for one in priced))

    (tmp_path / "log").mkdir()
    write(tmp_path / "log")
    for rule in ("items.price > 30", "price > 30"):
        ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--user", "uid", "--conversion", rule)
        events = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["events"]
        assert ended.code == 0 and "items.price > 30" in events["computed"]["good"], ended.err


def test_words_of_sql_are_no_values_of_a_rule(tmp_path: Path) -> None:
    """`like` and `and` are words of SQL, and values of what was done."""
    log = partial(pages, acts=("like", "share", "and"))
    ended, raw, _ = made(tmp_path, log, "--conversion", "place like 'h%' and share")
    assert ended.code == 0 and raw["data"]["events"]["computed"]["good"] == "place like 'h%' and did_share", ended.err


def test_a_photo_that_is_shown_to_one_user_alone_is_an_item(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        rng = np.random.default_rng(2)
        for day in DAYS:
            users = rng.integers(0, 60, 1500)
            rows = pl.DataFrame(
                {
                    "user_id": [f"u{u}" for u in users],
                    "photo_id": [f"p{u}-{n}" for u, n in zip(users, rng.integers(0, 8, 1500), strict=True)],
                    "ts": [f"{day}T{k % 24:02}:00:00Z" for k in range(1500)],
                    "click": (rng.random(1500) < 0.3).astype(int),
                    "seconds": rng.exponential(30, 1500).round(1),
                }
            )
            rows.write_csv(home / f"shown_{day}.csv")

    ended, raw, _ = made(tmp_path, write)
    assert raw["data"]["events"]["item"] == "photo_id", ended.err


def test_a_time_of_what_was_shown_leaves_clicks_of_a_stream(tmp_path: Path) -> None:
    """Of a stream in which clicks have another column of times, and of a table of items that has one of that name."""

    def write(home: Path) -> None:
        rng = np.random.default_rng(5)
        for day in DAYS:
            rows: list[dict[str, Any]] = []
            for k in range(1200):
                own, at = f"{day}-{k}", f"{day}T{k % 24:02}:{k % 60:02}:00Z"
                base = {"user_id": f"u{rng.integers(USERS)}", "item_id": f"i{rng.integers(TITLES)}"}
                rows.append(base | {"event": "impression", "id": own, "imp_id": None, "shown_at": at, "t": None})
                if rng.random() < 0.3:
                    rows.append(base | {"event": "click", "id": f"c{own}", "imp_id": own, "shown_at": None, "t": at})
            (home / f"events_{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        dates = [f"2026-02-{n % 27 + 1:02}T00:00:00Z" if n % 4 == 0 else None for n in range(TITLES)]
        items = [{"item_id": f"i{n}", "shown_at": at, "kind": f"k{n % 7}"} for n, at in enumerate(dates)]
        (home / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))

    ended, raw, _ = made(tmp_path, write, "--time", "shown_at", "--conversion", "clicked")
    events = raw["data"]["events"]
    assert ended.code == 0 and events["where"] == "event = 'impression'", (ended.err, events)
    assert events["joined"] and "100% of the sample's items are in it" in ended.out
