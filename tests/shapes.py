"""Logs in the shapes of docs/bring_your_own_log.md, as small as `init` can tell them apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")
USERS, ITEMS, REQUESTS, SHOWN = 150, 60, 160, 8


def drawn(day: int) -> pl.DataFrame:
    """One row an exposure: bait (even items) is clicked, gems (odd) are read."""
    rng = np.random.default_rng(day)
    n = REQUESTS * SHOWN
    user = np.repeat(rng.integers(0, USERS, REQUESTS), SHOWN)
    item = np.concatenate([rng.choice(ITEMS, SHOWN, replace=False) for _ in range(REQUESTS)])
    gem = item % 2 == 1
    click = rng.random(n) < np.where(gem, 0.15, 0.3)
    return pl.DataFrame(
        {
            "request": np.repeat([f"r{day}-{k:03}" for k in range(REQUESTS)], SHOWN),
            "minute": np.repeat(np.sort(rng.integers(0, 1440, REQUESTS)), SHOWN),
            "user": user,
            "item": item,
            "place": np.tile(np.arange(1, SHOWN + 1), REQUESTS),
            "click": click,
            "seconds": np.round(np.where(gem, 90, 12) * rng.lognormal(0, 0.8, n), 1),
            "saved": click & (rng.random(n) < np.where(gem, 0.3, 0.02)),
        }
    )


def times(day: str, minutes: pl.Series) -> list[str]:
    return [f"{day}T{m // 60:02}:{m % 60:02}:00Z" for m in minutes.to_list()]


def catalogue(name: str) -> pl.DataFrame:
    topics = ("sports", "política", "science", "音楽")
    return pl.DataFrame(
        {
            name: [f"a{k:03}" for k in range(ITEMS)],
            "title": [f"Title, {k}" for k in range(ITEMS)],
            "topic": [topics[k % 4] for k in range(ITEMS)],
        }
    )


def exposures(home: Path) -> None:
    """news/: a CSV a day, one row an exposure, durations in milliseconds, and a table of articles."""
    (home / "news").mkdir()
    for k, day in enumerate(DAYS):
        x = drawn(k)
        table = pl.DataFrame(
            {
                "shown_at": times(day, x["minute"]),
                "reader": [f"R-{u:04}" for u in x["user"].to_list()],
                "article": [f"a{i:03}" for i in x["item"].to_list()],
                "slot": x["place"],
                "clicked": x["click"].cast(pl.Int8),
                "dwell_ms": pl.Series(
                    [int(1000 * s) if c else None for s, c in zip(x["seconds"], x["click"], strict=True)]
                ),
            }
        )
        table.write_csv(home / f"news/exposures_{day}.csv")
    catalogue("article").write_csv(home / "news/articles.csv")


def two_tables(home: Path) -> None:
    """shop/: impressions in one table, what came of them in another."""
    for name in ("impressions", "clicks"):
        (home / "shop" / name).mkdir(parents=True)
    for k, day in enumerate(DAYS):
        x = drawn(k).with_columns(
            impression_id=pl.format("{}-{}", "request", "place"),
            at=pl.Series(times(day, pl.Series(drawn(k)["minute"]))),
        )
        shown = x.select(
            "impression_id",
            "at",
            pl.format("c{}", "user").alias("customer_id"),
            pl.format("p{}", "item").alias("product_id"),
        )
        came = x.filter("click").select(
            "impression_id", seconds_on_page="seconds", bought=pl.col("saved").cast(pl.Int8)
        )
        shown.write_parquet(home / f"shop/impressions/{day}.parquet")
        came.write_parquet(home / f"shop/clicks/{day}.parquet")


def requests(home: Path) -> None:
    """feed/: JSON lines, one line a request with a list of what was shown."""
    (home / "feed").mkdir()
    for k, day in enumerate(DAYS):
        lines = []
        for (request, minute), rows in drawn(k).group_by(["request", "minute"], maintain_order=True):
            shown = [
                {"video": r["item"], "opened": r["click"], "watch_ms": int(1000 * r["seconds"]) if r["click"] else None}
                for r in rows.iter_rows(named=True)
            ]
            at = times(day, pl.Series([minute]))[0]
            user = {"id": f"u{rows['user'][0]}", "lang": ("pt", "es", "hi")[rows["user"][0] % 3]}
            lines.append(json.dumps({"request_id": request, "at": at, "user": user, "results": shown}))
        (home / f"feed/requests_{day}.jsonl").write_text("\n".join(lines) + "\n")


def stream(home: Path) -> None:
    """app/: JSON lines, a line an event of any kind, what follows with the id of what was shown."""
    (home / "app").mkdir()
    for k, day in enumerate(DAYS):
        lines = []
        for n, r in enumerate(drawn(k).iter_rows(named=True)):
            base = {"ts": times(day, pl.Series([r["minute"]]))[0], "user": f"u{r['user']}", "track": f"t{r['item']}"}
            of = {"impression_id": f"e{k}{n}"}
            lines.append({"event_id": f"e{k}{n}", "type": "impression"} | base)
            if r["click"]:
                lines.append({"event_id": f"c{k}{n}", "type": "click"} | of | base)
                played = {"played_ms": int(1000 * r["seconds"])}
                lines.append({"event_id": f"p{k}{n}", "type": "play_end"} | of | played | base)
        (home / f"app/events_{day}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def clicks_alone(home: Path) -> None:
    """ratings.csv: one file of all days, a row is what somebody did, with a rating."""
    tables = []
    for k, day in enumerate(DAYS):
        x = drawn(k).filter("click")
        rated = pl.when(pl.col("saved")).then(5).otherwise(pl.col("seconds").clip(10, 90) // 20 + 1).cast(pl.Int64)
        tables.append(
            x.select(user_id="user", movie_id="item", rating=rated, timestamp=pl.Series(times(day, x["minute"])))
        )
    pl.concat(tables).write_csv(home / "ratings.csv")


SHAPES: dict[str, Callable[[Path], None]] = {
    "news": exposures,
    "shop": two_tables,
    "feed": requests,
    "app": stream,
    "ratings.csv": clicks_alone,
}
"""what a log is called in the document, and who writes it"""
