"""Logs as others write them, each a few thousand rows: what `init` has to make a config of."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROWS, USERS, ITEMS = 1200, 60, 40
DAYS = 3
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
Columns = dict[str, Any]


def drawn(seed: int = 0, rows: int = ROWS) -> Columns:
    """user, item, at (seconds since 1970), click, seconds (0 without a click), bought, request, position."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, USERS, rows // 10).repeat(10)
    click = (rng.random(rows) < 0.3).astype(np.int64)
    begin = int(START.timestamp())
    at = np.sort(rng.integers(begin, begin + DAYS * 86_400, rows))
    return {
        "user": user,
        "item": rng.integers(0, ITEMS, rows),
        "at": at,
        "click": click,
        "seconds": np.round(rng.exponential(40, rows), 2) * click,
        "bought": ((rng.random(rows) < 0.3) & (click == 1)).astype(np.int64),
        "request": np.arange(rows) // 10,
        "position": np.arange(rows) % 10,
    }


def days_of(x: Columns) -> list[str]:
    return [dt.datetime.fromtimestamp(int(t), dt.UTC).strftime("%Y-%m-%d") for t in x["at"]]


def by_day(folder: Path, frame: pl.DataFrame, x: Columns) -> None:
    """Parquet, a folder day=... each."""
    for (day,), part in frame.with_columns(pl.Series(":d", days_of(x))).group_by(":d", maintain_order=True):
        (folder / f"day={day}").mkdir(parents=True)
        part.drop(":d").write_parquet(folder / f"day={day}" / "part-0.parquet")


def in_place(home: Path, pattern: str) -> None:
    """Days directly in the place: %Y, %m and %d in the path of each day's file."""
    x = drawn(12)
    frame = pl.DataFrame(
        {
            "user_id": x["user"],
            "item_id": x["item"],
            "ts": x["at"],
            "is_click": x["click"],
            "play_seconds": x["seconds"],
        }
    )
    for (day,), part in frame.with_columns(pl.Series(":d", days_of(x))).group_by(":d", maintain_order=True):
        path = home / dt.date.fromisoformat(str(day)).strftime(pattern)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.drop(":d").write_parquet(path)


def visits(home: Path, name: str) -> None:
    """Visits of several rows with an id under a name; a device of each user; a flag that no name tells a click by, and
    that is true too where a read is too short to be counted."""
    x = drawn(14)
    at = int(START.timestamp()) + (x["request"] * 2000) + x["position"] * 30
    frame = {
        "user_id": x["user"],
        "item_id": x["item"],
        "ts": at,
        "act": x["click"],
        "watch_time": x["seconds"] // 10 * 10,
    }
    frame |= {"gadget": x["user"] * 7 + 3, name: x["request"] + 90_000, "promo": x["position"] % 2}
    by_day(home / "events", pl.DataFrame(frame), {"at": at})


def abbreviated(home: Path) -> None:
    """Names that say nothing: mbr_no, cntnt_no, act_yn, stay; tables of both beside the events."""
    x = drawn(13)
    frame = pl.DataFrame(
        {
            "mbr_no": x["user"] + 10**6,
            "cntnt_no": x["item"] + 500,
            "ts": x["at"],
            "act": x["click"],
            "len": x["seconds"],
        }
    )
    by_day(home / "events", frame.with_columns(place=pl.Series(x["position"]), word=pl.lit("yes")), x)
    (home / "members").mkdir()
    (home / "contents").mkdir()
    members = {"mbr_no": np.arange(USERS) + 10**6, "city": ["a", "b", "c"] * (USERS // 3)}
    pl.DataFrame(members).write_parquet(home / "members/all.parquet")
    pl.DataFrame({"cntnt_no": np.arange(ITEMS) + 500, "kind": ["x", "y"] * (ITEMS // 2)}).write_parquet(
        home / "contents/all.parquet"
    )


def unicode_and_lists(home: Path) -> None:
    """Text ids in any script, nested lists, milliseconds of reading, timestamps, no user table."""
    x, rng = drawn(1), np.random.default_rng(1)
    names = [f"Zoë-{k}-読者" for k in range(USERS)]
    items = [f"artículo/{k}" for k in range(ITEMS)]
    frame = pl.DataFrame(
        {
            "memberKey": [names[u] for u in x["user"]],
            "articleId": [items[i] for i in x["item"]],
            "eventTime": pl.Series(x["at"] * 1000).cast(pl.Datetime("ms", "UTC")),
            "wasClicked": x["click"] == 1,
            "dwellTime": (x["seconds"] * 1000).astype(np.int64),
            "recentArticles": [[items[k] for k in rng.integers(0, ITEMS, 3)] for _ in range(ROWS)],
        }
    )
    by_day(home / "clicks", frame, x)
    topics = [[["a", "b"], ["b"], ["c", "a"]][k % 3] for k in range(ITEMS)]
    (home / "articles").mkdir()
    embedding = rng.normal(size=(ITEMS, 4)).astype(np.float32).tolist()
    pl.DataFrame({"articleId": items, "topics": topics, "embedding": embedding}).write_parquet(
        home / "articles" / "all.parquet"
    )


def csv_without_header(home: Path) -> None:
    """user, item, rating, seconds since 1970, as MovieLens' u.data is, with tabs."""
    x, rng = drawn(2), np.random.default_rng(2)
    rating = rng.choice([1, 2, 3, 4, 5], ROWS, p=[0.1, 0.1, 0.2, 0.35, 0.25])
    lines = zip(x["user"] + 1, x["item"] + 1, rating, x["at"], strict=True)
    (home / "u.data.csv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))


def json_nested(home: Path) -> None:
    """JSON lines in files named by their day, the outcomes in an object, ISO times with a zone."""
    x = drawn(3)
    by: dict[str, list[str]] = {}
    for k, day in enumerate(days_of(x)):
        at = dt.datetime.fromtimestamp(int(x["at"][k]), dt.timezone(dt.timedelta(hours=8))).isoformat()
        click = {"clicked": bool(x["click"][k]), "dwell_ms": int(1000 * x["seconds"][k])}
        row = {
            "uid": f"u{x['user'][k]}",
            "sku": f"0{x['item'][k]:03d}",
            "ts": at,
            "result": click,
            "slot": int(x["position"][k]),
        }
        by.setdefault(day, []).append(json.dumps(row))
    for day, lines in by.items():
        (home / f"impressions-{day}.jsonl").write_text("\n".join(lines) + "\n")


def chinese(home: Path) -> None:
    """Chinese column names, one CSV of all days, epoch milliseconds, a table of users and one of goods beside it."""
    x = drawn(4)
    frame = pl.DataFrame(
        {
            "用户编号": [f"{u:05d}" for u in x["user"]],
            "商品编号": x["item"] + 10**6,
            "时间戳": x["at"] * 1000,
            "是否点击": x["click"],
            "播放时长": x["seconds"],
            "位置": x["position"],
        }
    )
    frame.write_csv(home / "日志.csv")
    pl.DataFrame(
        {"用户编号": [f"{u:05d}" for u in range(USERS)], "城市": ["北京", "上海", "广州"] * (USERS // 3)}
    ).write_csv(home / "用户.csv")
    goods = pl.DataFrame(
        {"商品编号": np.arange(ITEMS) + 10**6, "价格": np.linspace(1, 99, ITEMS), "类目": np.arange(ITEMS) % 5}
    )
    goods.write_csv(home / "商品.csv")


def positives(home: Path) -> None:
    """No click column: every row is one; bought or not; days as folders without a key."""
    x = drawn(5)
    frame = pl.DataFrame({"customer_id": x["user"], "product_id": x["item"], "ts": x["at"], "purchased": x["bought"]})
    for (day,), part in frame.with_columns(pl.Series(":d", days_of(x))).group_by(":d", maintain_order=True):
        (home / "views" / str(day)).mkdir(parents=True)
        part.drop(":d").write_parquet(home / "views" / str(day) / "x.parquet")


def purchases(home: Path) -> None:
    """Impressions with a click and an order, no duration; one Parquet file of all days, naive timestamps."""
    x = drawn(6)
    frame = pl.DataFrame(
        {
            "impression_id": x["request"], "visitor_id": x["user"], "item_id": x["item"],
            "event_timestamp": pl.Series(x["at"] * 1000).cast(pl.Datetime("ms")),
            "clicked": x["click"], "ordered": x["bought"], "revenue": x["bought"] * 9.9,
            "rank": x["position"], "platform": ["ios", "android", "web"] * (ROWS // 3),
        }
    )  # fmt: skip
    frame.write_parquet(home / "log.parquet")


def recbole(home: Path) -> None:
    """Atomic files of RecBole: names with types, tabs."""
    x = drawn(7)
    rows = {"user_id:token": x["user"], "item_id:token": x["item"], "rating:float": 1.0 + x["position"] % 5}
    pl.DataFrame(rows | {"timestamp:float": x["at"]}).write_csv(home / "toy.inter", separator="\t")
    kinds = pl.DataFrame({"item_id:token": range(ITEMS), "class:token_seq": ["Comedy Drama", "Drama"] * (ITEMS // 2)})
    kinds.write_csv(home / "toy.item", separator="\t")


def movielens(home: Path) -> None:
    """ratings.csv beside movies.csv."""
    x = drawn(8)
    rating = 0.5 + x["position"] % 10 / 2
    frame = pl.DataFrame({"userId": x["user"], "movieId": x["item"], "rating": rating, "timestamp": x["at"]})
    frame.write_csv(home / "ratings.csv")
    titles = [f"Film {k} (199{k % 10})" for k in range(ITEMS)]
    genres = ["Comedy|Drama", "Drama", "Action|Comedy", "War|Drama"] * (ITEMS // 4)
    pl.DataFrame({"movieId": range(ITEMS), "title": titles, "genres": genres}).write_csv(home / "movies.csv")


def criteo(home: Path) -> None:
    """Anonymous columns: a label, numbers I1.., hashes C1..."""
    x, rng = drawn(9), np.random.default_rng(9)
    numbers = {f"I{k}": rng.integers(0, 50, ROWS) for k in range(1, 4)}
    hashes = {f"C{k}": [f"{v:08x}" for v in rng.integers(0, 2**31, 40)[rng.integers(0, 40, ROWS)]] for k in range(1, 5)}
    pl.DataFrame({"label": x["click"], **numbers, **hashes}).write_csv(home / "train.csv")


def behaviours(home: Path) -> None:
    """Taobao's UserBehavior: no header, one row a behaviour."""
    x, rng = drawn(10), np.random.default_rng(10)
    kinds = rng.choice(["pv", "cart", "fav", "buy"], ROWS, p=[0.88, 0.06, 0.03, 0.03])
    lines = zip(x["user"] + 100, x["item"] + 2000, x["item"] % 7 + 50, kinds, x["at"], strict=True)
    (home / "UserBehavior.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
