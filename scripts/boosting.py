"""What gradient boosting would have made of the columns that a chain's teacher reads, beside the chain's own numbers.

    python scripts/boosting.py --config mylog.yaml --from 2026-01-04 --to 2026-01-07

For people who ask whether trees would do. On each day scikit-learn's HistGradientBoostingClassifier learns all days of
the chain before it, from nothing, and orders the day's exposed rows; the chain's AUCs are of its newest teacher, of the
same rows where it evaluated all (`evaluate.share: 1`). Trees read numbers as they are, a list by its length, and
categories of at most 254 values; ids of more they leave out, as they cannot read them. All rows are held in memory.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs
from sklearn.ensemble import HistGradientBoostingClassifier

from dmtl_cli.config.days import between
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.tasks import CLICK, with_click
from dmtl_cli.data.days import Days
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.evaluate import metrics
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Run
from dmtl_cli.teacher.labels import labelled

MOST_VALUES = 254
"""of a category: scikit-learn takes 255, one of which is unknown here"""
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 200,
    "max_leaf_nodes": 15,
    "l2_regularization": 1.0,
    "early_stopping": True,
    "random_state": 0,
}
Labels = dict[str, npt.NDArray[np.bool_]]


class Rows(NamedTuple):
    """The exposed rows of a day [n]."""

    columns: pl.DataFrame
    true: Labels
    """by label"""
    weight: dict[str, npt.NDArray[np.float32]]
    """by label, 0 where it is not known"""


def rows_of(day: Day, threshold: float | None, conversion: str) -> Rows:
    """Args: conversion: the first one."""
    frames, of_blocks = [], []
    for block in day.blocks():
        parts = [day.users[block.user.astype(np.int64)].drop(":id"), day.items[block.item.astype(np.int64)].drop(":id")]
        parts += [] if block.features is None else [block.features]
        frames.append(pl.concat(parts, how="horizontal"))
        click, converted, known, weight = labelled(block, threshold).labels
        of_blocks.append((click, click & converted[:, 0], weight, weight * known[:, 0]))
    clicked, read, weight, of_known = map(np.concatenate, zip(*of_blocks, strict=True))
    both = with_click(conversion)
    columns = pl.concat(frames).with_columns(cs.list().list.len())
    return Rows(columns, {CLICK: clicked, both: read}, {CLICK: weight, both: of_known})


def encoded(days: list[Rows], ids: set[str]) -> tuple[npt.NDArray[np.float32], list[bool], list[str]]:
    """All rows as numbers [n, columns], which columns are categories, and the names of those left out.

    Args:
        ids: names of the columns of ids.
    """
    whole = pl.concat([day.columns for day in days], how="diagonal_relaxed")
    out, categories, left = [], [], []
    for name, column in whole.to_dict().items():
        if name in ids and column.n_unique() > MOST_VALUES:
            left.append(name)
            continue
        categories.append(name in ids)
        out.append((column.rank("dense") - 1 if name in ids else column).cast(pl.Float32).to_numpy())
    return np.stack(out, 1), categories, left


def auc_by_label(
    x: npt.NDArray[np.float32], categories: list[bool], days: list[Rows], last: int
) -> dict[str, float | None]:
    """By label the AUC on the day at a place of `days`, learned from those before it."""
    ends = np.cumsum([0, *(len(day.columns) for day in days)])
    learned, measured = slice(0, ends[last]), slice(ends[last], ends[last + 1])
    out = {}
    for label, truth in days[last].true.items():
        true, weight = (
            np.concatenate([of[label] for of in each]) for each in zip(*(d[1:] for d in days[:last]), strict=True)
        )
        trees = HistGradientBoostingClassifier(categorical_features=categories, **SETTINGS)
        trees.fit(x[learned], true, sample_weight=weight)
        out[label] = metrics.auc(truth, trees.decision_function(x[measured]), days[last].weight[label])
    return out


def measured_by_chain(run: Run, day: dt.date) -> dict[str, float]:
    """What the chain's evaluation of a day found."""
    return run.parent("evaluation", day, hint=f"run dmtl evaluate --day {day}")[1].metrics


def read_days(run: Run, first: dt.date, last: dt.date) -> Iterator[tuple[dt.date, Rows]]:
    """From the first day that the chain learned to the last one asked for."""
    teachers = run.ws.days("teacher")
    if not teachers or teachers[0] >= first:
        raise SystemExit(f"no teacher before {first}: run dmtl backfill first")
    facts = run.parent("teacher", teachers[0])[1].facts
    threshold, conversion = facts["threshold_seconds"], run.config.tasks.conversions[0]
    log = Days(run, run.config.features_of("teacher"))
    for day in between(dt.date.fromisoformat(facts["days"][0]), last):
        if log.has(day):
            with tempfile.TemporaryDirectory() as scratch:
                yield day, rows_of(log.read(day, Path(scratch)), threshold, conversion)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--from", dest="first", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--to", dest="last", type=dt.date.fromisoformat, required=True)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    if args.first > args.last:
        parser.error(f"--from {args.first} is after --to {args.last}")
    run = Run.start(load_config(args.config, args.sets), RunLog())
    if run.config.data.events.click is None:
        raise SystemExit("a log of clicks alone has no exposed rows to order")
    ids = {f.source for f in run.config.features_of("teacher") if f.kind == "categorical"}
    dates, days = zip(*read_days(run, args.first, args.last), strict=True)
    chain = {day: measured_by_chain(run, day) for day in dates if day >= args.first}
    x, categories, left = encoded([*days], ids)
    print(f"columns {len(categories)}, left out {', '.join(left) or 'none'}")
    print(f"{'day':10}  {'label':8} boosting teacher regression")
    means: dict[str, list[float]] = {}
    for day, found in chain.items():
        for label, auc in auc_by_label(x, categories, [*days], dates.index(day)).items():
            beside = " ".join(f"{found.get(f'{who}.{label}.auc', np.nan):7.4f}" for who in ("teacher", "regression"))
            print(f"{day}  {label:8} {np.nan if auc is None else auc:8.4f} {beside}", flush=True)
            means.setdefault(label, []).extend([] if auc is None else [auc])
    for label, aucs in means.items():
        print(f"{'mean':10}  {label:8} {np.mean(aucs):8.4f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        raise SystemExit(f"{e.message}; {e.hint}") from None
