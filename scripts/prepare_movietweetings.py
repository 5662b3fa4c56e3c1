"""Turns a folder of MovieTweetings files into a log that configs/movietweetings.yaml reads.

    python scripts/prepare_movietweetings.py RAW [OUT=data/movietweetings] [--days N]

RAW holds `ratings.dat` (user::film::rating::seconds) and `movies.dat` (film::title (year)::genre|genre), as in the
snapshots of the data set; other files are not read. A row of the log is a rating: users tweet about films they saw, so
every row is a click, and `liked` is a rating of 8 or more out of 10. There are no exposures.

A day is a calendar day (UTC) of some 500 ratings: too few to learn from alone, enough to go on from. So the first
teacher of a chain learns a long window (`teacher.first_window_days`). With --days only the last N days are written;
profiles know no others.

OUT appears whole (a scratch folder, then a rename) and replaces the log of an earlier run:

    events/day=D/part-0.parquet  ratings of day D, in order of time, user, film
    items/day=D/part-0.parquet   films rated BEFORE day D: title, year, genres

Users declare nothing, so there is no table of users. What users and films did before a day (histories, counts, rates)
is not here either: the pipeline's profiles make it of the events.

A film joins the catalogue the day after its first rating, and the ratings of that first day are left out of the events.
In a log of clicks alone such a film would be in the day's catalogue only because it is about to be clicked: a model
would learn `unseen, so clicked`, and be measured on it. `movies.dat` is not the catalogue either: it lists the films
that will have been rated by the end. What is left out is unknown to profiles too: on its first day in the catalogue a
film has no counts, and its first raters' histories lack it.

Ids are text: users unchanged, films as IMDb writes them (0114508 is tt0114508). Exact duplicates are dropped.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from dmtl_cli.config.errors import Exit, UserError

LIKED = 8

RATING = re.compile(r"([^:\s]+)::([0-9]+)::(10|[0-9])::([0-9]{1,11})")
FILM = re.compile(r"([0-9]+)::(.*)::([^:]*)")
YEAR = re.compile(r"\(([0-9]{4})\)\s*$")


class Counts(NamedTuple):
    """A day of the log."""

    day: dt.date
    rows: int
    users: int
    films: int
    left_out: int
    """ratings of films that were new that day"""


def fields(file: Path, pattern: re.Pattern[str], layout: str) -> Iterator[tuple[str, ...]]:
    """The fields of each line. Raises UserError for a line of another layout, with its number."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        hint = "RAW is the folder with ratings.dat and movies.dat"
        raise UserError(f"{file}: no such file", hint, Exit.NO_INPUT) from None
    except UnicodeDecodeError as e:
        raise UserError(f"{file}: not UTF-8 text: {e}") from None
    if not lines[-1]:
        lines.pop()
    for k, line in enumerate(lines):
        found = pattern.fullmatch(line.rstrip("\r"))
        if found is None:
            raise UserError(f"{file}: line {k + 1}: expected {layout}, got {line[:80]!r}")
        yield found.groups()


def read_ratings(raw: Path) -> pl.DataFrame:
    """Every rating once, in order."""
    layout = "user::film::rating::time with digits for a film, 0 .. 10 and seconds"
    rows = list(fields(raw / "ratings.dat", RATING, layout))
    if not rows:
        raise UserError(f"{raw / 'ratings.dat'}: no rows", code=Exit.NO_INPUT)
    text = pl.DataFrame(rows, schema=["user_id", "movie_id", "rating", "time"], orient="row").unique()
    log = text.select(
        pl.from_epoch(pl.col("time").cast(pl.Int64)).dt.date().alias("day"),
        "user_id",
        ("tt" + pl.col("movie_id")).alias("movie_id"),
        pl.col("time").cast(pl.Int64),
        pl.col("rating").cast(pl.Int8),
        (pl.col("rating").cast(pl.Int8) >= LIKED).alias("liked"),
    ).sort("time", "user_id", "movie_id", "rating")
    return log.with_columns(pl.col("day").min().over("movie_id").alias("first_day"))


def read_films(raw: Path) -> pl.DataFrame:
    """The films of movies.dat by id; genres and year are null where a film has none."""
    rows = []
    for film, title, genres in fields(raw / "movies.dat", FILM, "film::title (year)::genre|genre"):
        year = YEAR.search(title)
        rows.append((f"tt{film}", title.strip(), int(year[1]) if year else None, genres.strip() or None))
    schema = {"movie_id": pl.String, "title": pl.String, "year": pl.Int32, "genres": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").unique("movie_id", keep="first", maintain_order=True)


def items_of(log: pl.DataFrame, day: dt.date, films: pl.DataFrame) -> pl.DataFrame:
    """Every film that was rated before the day."""
    before = log.filter(pl.col("day") < day).select(pl.col("movie_id").unique().sort())
    return before.join(films, on="movie_id", how="left", maintain_order="left")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write(table: pl.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True)
    table.write_parquet(folder / "part-0.parquet")


def prepare(raw: Path, out: Path, days: int | None = None) -> list[Counts]:
    """Writes the last `days` days of the log, or all; returns the counts of each.

    Raises:
        UserError: a file is missing, a line is not what it should be, no row is left, or OUT is not a log to replace.
    """
    if days is not None and days < 1:
        raise UserError(f"--days: expected 1 or more, got {days}", code=Exit.USAGE)
    if not raw.is_dir():
        hint = "RAW is the folder with ratings.dat and movies.dat"
        raise UserError(f"{raw}: no such folder", hint, Exit.NO_INPUT)
    kept = {p.name for p in out.iterdir()} - {"events", "users", "items"} if out.is_dir() else set()
    if kept or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: is not an earlier log, it will not be replaced", "give another OUT")
    log, films = read_ratings(raw), read_films(raw)
    chosen = log if days is None else log.filter((pl.col("day").max() - pl.col("day")).dt.total_days() < days)
    known = pl.col("first_day") < pl.col("day")

    table = []
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for day in chosen.filter(known)["day"].unique().sort():
            of_day = chosen.filter(pl.col("day") == day)
            events = of_day.filter(known).drop("day", "first_day")
            write(events, scratch / f"events/day={day}")
            write(items_of(log, day, films), scratch / f"items/day={day}")
            counts = (len(events), events["user_id"].n_unique(), events["movie_id"].n_unique())
            table.append(Counts(day, *counts, len(of_day) - len(events)))
        if not table:
            raise UserError(f"{raw / 'ratings.dat'}: no film is rated again on a later day")
        if out.exists():
            out.rename(old := out.with_name(f"{scratch.name}.old"))
            scratch.rename(out)
            shutil.rmtree(old)
        else:
            scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="MovieTweetings files -> a log for configs/movietweetings.yaml")
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder with ratings.dat and movies.dat")
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?", default=Path("data/movietweetings"))
    parser.add_argument("--days", type=int, metavar="N", help="how many days, the last ones (default: all)")
    args = parser.parse_args(argv)
    try:
        days = prepare(args.raw, args.out, args.days)
    except UserError as e:
        print(e.line(), file=sys.stderr)
        return int(e.code)
    except OSError as e:
        print(UserError(f"cannot read or write: {e}").line(), file=sys.stderr)
        return int(Exit.IO)
    print(f"{'day':10}  {'rows':>8}  {'users':>8}  {'films':>8}  {'left out':>8}")
    for day, *counts in days:
        print(f"{day}  " + "  ".join(f"{n:8d}" for n in counts))
    rows, left_out = sum(d.rows for d in days), sum(d.left_out for d in days)
    print(f"{len(days)} days, {rows} rows ({left_out} of films that were new that day left out) -> {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
