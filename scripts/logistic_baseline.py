"""A hashed logistic regression on a prepared log: what a simple model reaches on the same rows and features.

    python scripts/logistic_baseline.py data/kuairand --train 2022-04-08..2022-04-14 --test 2022-04-15
    python scripts/logistic_baseline.py data/kuairand --days 2022-04-16..2022-04-21

Reads the features that the config names, buckets and ids included, each as of its event's day. Those of profiles are
computed here from all earlier days of the log; a rate without prior_strength is smoothed by `STRENGTH`. Prints a line
of JSON a test day: the AUC of `click`, and of `clicked and read longer than the mean of the first window's clicks`,
over all exposures (no drawn negatives). With --days each day is predicted after fitting all days before it, and a line
with the mean follows. Edges, means and the threshold come from the first window only; C = .1 was chosen on days up to
2022-04-15.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dmtl_cli.config.days import between, folder_day, parse_day
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config

Numbers = npt.NDArray[np.float64]
STRENGTH = 8
"""events that the mean of a rate counts for"""


def span(text: str, where: str) -> list[dt.date]:
    """`A..B` -> every day from A to B; `A` -> that day."""
    first, _, last = text.partition("..")
    days = between(parse_day(first, where), parse_day(last or first, where))
    if not days:
        raise UserError(f"{where}: {text} ends before it begins", code=Exit.USAGE)
    return days


def read(root: Path, path: str, day: dt.date | None) -> pl.DataFrame:
    """The table of a day, or the one of all days."""
    folder = root / path / (f"day={day}" if day else "")
    if not (files := sorted(folder.glob("*.parquet"))):
        raise UserError(f"{folder}: nothing there", "run scripts/prepare_kuairand.py first", Exit.NO_INPUT)
    return pl.read_parquet(files, hive_partitioning=False)


def read_events(root: Path, days: list[dt.date], window: list[dt.date], config: Config) -> tuple[pl.DataFrame, float]:
    """(exposures of the days with day, exposure, click and read; the seconds above which a read is long)."""
    names = config.data.events
    if names.click is None or names.duration is None:
        raise UserError("the baseline needs a click and a duration in the config", code=Exit.CONFIG)
    parts = [read(root, names.path, d).with_columns(day=d, exposure=True) for d in days]
    log = pl.concat(parts, how="diagonal_relaxed")
    click, seconds = pl.col(names.click) == 1, pl.col(names.duration)
    threshold = log.filter(click & pl.col("day").is_in(window)).select(seconds.mean()).item() or 0.0
    further = {name: click & (pl.col(column) == 1) for name, column in names.conversions.items()}
    return log.with_columns(click=click, read=click & (seconds > threshold), **further), threshold


def of_profile(f: Feature, past: pl.DataFrame, age: pl.Expr, item: str) -> pl.Expr:
    """Value of a feature in a group of earlier events. `age` of an event: 0 on the last day before."""
    p = f.profile
    assert p is not None

    def count(event: str) -> pl.Expr:
        h = p.half_life_days
        weight = pl.lit(1.0) if h is None else pl.lit(0.5).pow(age / h) if h else age == 0
        return (pl.col(event).cast(pl.Float64) * weight).sum()

    if p.history:
        return pl.col(item).filter(pl.col(p.history)).tail(f.max_length)
    if p.age:
        return age.max() if p.age == "first_seen" else age.min()
    counts = [count(event) for event in p.events]
    if p.count:
        return counts[0]
    happened, of = counts
    mean: float = past.select(happened / of).item()
    strength = STRENGTH if p.prior_strength is None else p.prior_strength
    return (happened + strength * mean) / (of + strength)


def rows_of(root: Path, day: dt.date, log: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Exposures of a day beside its users and items, and what earlier days say of them."""
    data, past, rows = config.data, log.filter(pl.col("day") < day), log.filter(pl.col("day") == day)
    past = past.sort("day", *([data.events.time] if data.events.time else []), maintain_order=True)
    age = (pl.lit(day) - pl.col("day")).dt.total_days() - 1
    for side, key, table in (("user", data.events.user, data.users), ("item", data.events.item, data.items)):
        if table:
            known = read(root, table.path, day if table.partition else None).rename({table.key: key})
            rows = rows.join(known, on=key, how="left", maintain_order="left")
        profiles = [f for f in config.features if f.profile and f.side == side]
        values = [of_profile(f, past, age, data.events.item).alias(f.name) for f in profiles]
        known = past.group_by(key, maintain_order=True).agg(values)
        rows = rows.join(known, on=key, how="left", maintain_order="left")
    return rows


def hashed(f: Feature, values: pl.Series, window: npt.NDArray[np.bool_]) -> Iterator[list[tuple[str, float]]]:
    """A feature of each row as (text to hash, weight); a missing value is a value of its own."""
    if f.kind == "vector":
        raise UserError(f"feature {f.name}: the baseline reads no vectors", code=Exit.CONFIG)
    if f.kind == "sequence":
        lists = values.str.split(f.separator) if f.separator else values
        for given in lists.to_list():
            last = (given or [])[-f.max_length :]
            yield [(f"{f.name}={v}", 1 / len(last)) for v in last] or [(f"{f.name}=?", 1.0)]
    elif f.kind == "categorical":
        for v in values.to_list():
            yield [(f"{f.name}={'?' if v is None else v}", 1.0)]
    else:
        x: Numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        if f.transform == "log1p":
            x = np.sign(x) * np.log1p(np.abs(x))
        known = x[window & ~np.isnan(x)]
        if f.num_buckets or f.boundaries:
            shares = np.arange(1, f.num_buckets or 1) / (f.num_buckets or 1)
            edges = np.asarray(f.boundaries or (np.unique(np.quantile(known, shares)) if len(known) else ()))
            for v, k in zip(x, np.searchsorted(edges, x, side="right"), strict=True):
                yield [(f"{f.name}={'?' if np.isnan(v) else k}", 1.0)]
        else:
            mean, std = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
            for v in (x - mean) / std:
                yield [(f"{f.name}=?", 1.0) if np.isnan(v) else (f.name, float(v))]


def design(rows: pl.DataFrame, features: tuple[Feature, ...], window: npt.NDArray[np.bool_]) -> Any:
    """[rows, 2**18] sparse; a feature's hash depends neither on the process nor on another feature."""
    if missing := [f.source for f in features if f.source not in rows.columns]:
        raise UserError(f"the log has no column {missing[0]}", "prepare it again, or name another config")
    hasher = FeatureHasher(2**18, input_type="pair", alternate_sign=False)
    columns = (hashed(f, rows[f.source], window) for f in features)
    return hasher.transform([pair for cell in row for pair in cell] for row in zip(*columns, strict=True))


def score(x: Any, labels: dict[str, Numbers], train: Any, test: Any, c: float) -> dict[str, dict[str, float]]:
    """AUC of each label; rows where a label is not known (nan) are left out."""
    out = {}
    for name, y in labels.items():
        fit, judge = train & ~np.isnan(y), test & ~np.isnan(y)
        model = LogisticRegression(C=c, max_iter=500).fit(x[fit], y[fit])
        auc = roc_auc_score(y[judge], model.decision_function(x[judge]))
        out[name] = {"auc": round(float(auc), 5), "rate": round(float(y[judge].mean()), 5)}
    return out


def days_to_fit(args: argparse.Namespace, there: list[dt.date]) -> dict[dt.date, list[dt.date]]:
    """By test day the days to fit before it."""
    if args.days:
        fits = {test: [d for d in there if d < test] for test in span(args.days, "--days")}
    elif args.train and args.test:
        fits = {test: span(args.train, "--train") for test in span(args.test, "--test")}
    else:
        raise UserError("give --train and --test, or --days", code=Exit.USAGE)
    for test, days in fits.items():
        if not days or days[-1] >= test:
            raise UserError(f"{test}: no day before it to fit, or a day to fit that is not before it", code=Exit.USAGE)
    return fits


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    config = load_config(args.config)
    first = span(args.window, "--window")
    folders = sorted((args.root / config.data.events.path).glob("day=*"))
    there = [d for p in folders if (d := folder_day(p.name.removeprefix("day=")))]
    fits = days_to_fit(args, there)
    needed = sorted({*first, *fits, *(d for days in fits.values() for d in days)})
    log, threshold = read_events(args.root, sorted({*there, *needed}), first, config)
    rows = pl.concat([rows_of(args.root, d, log, config) for d in needed], how="diagonal_relaxed")
    day = rows["day"].to_numpy()
    window = np.isin(day, np.array(first, dtype=day.dtype))
    y = {
        n: rows[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for n, c in (("ctr", "click"), ("ctcvr", "read"))
    }
    x = design(rows, config.features, window)
    results = []
    for test, days in fits.items():
        train = np.isin(day, np.array(days, dtype=day.dtype))
        results.append(score(x, y, train, day == np.datetime64(test), args.c))
        fitted = f"{days[0]}..{days[-1]}"
        yield {"day": str(test), "fitted": fitted, "long_read_above": round(threshold, 3), **results[-1]}
    if args.days:
        mean = {n: {"auc": round(float(np.mean([r[n]["auc"] for r in results])), 5)} for n in y}
        yield {"day": "mean", "days": len(results), **mean}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="hashed logistic regression on a prepared log, AUC a day as JSON")
    parser.add_argument("root", type=Path, metavar="LOG_ROOT")
    parser.add_argument("--config", default=str(Path(__file__).parents[1] / "configs/kuairand.yaml"))
    parser.add_argument("--window", default="2022-04-08..2022-04-14", help="edges and threshold are measured here")
    parser.add_argument("--train", metavar="A..B")
    parser.add_argument("--test", metavar="D")
    parser.add_argument("--days", metavar="A..B", help="each day after fitting all days before it, then the mean")
    parser.add_argument("--c", type=float, default=0.1, help="inverse of the L2 penalty")
    try:
        for line in run(parser.parse_args(argv)):
            print(json.dumps(line), flush=True)
    except UserError as e:
        print(e.line(), file=sys.stderr)
        return int(e.code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
