"""The bench's log as Parquet, and the config with which dmtl reads it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.sizes import (
    BATCH,
    DIM,
    EXPERT_UNITS,
    EXPERTS,
    FIRST_DAY,
    HISTORY,
    ITEMS,
    LONG_READ,
    OF_ITEM,
    OF_USER,
    TOWER_UNITS,
    USERS,
    VECTOR_UNITS,
)

Array = npt.NDArray[Any]
PART = 131_072  # rows made at once


class World:
    """Users and items, what they are and what they like.

    Clicks and durations follow from features, ids and taste, so that there is something to learn. A user's features,
    history and first number are those of their day; the second number is a row's own.

    Args:
        activity: users' rates are log-normal with this sigma; 0: all alike.
    """

    def __init__(self, users: int, items: int, activity: float, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.popular = np.cumsum(1 / np.arange(1, items + 1) ** 1.05)
        self.active = np.cumsum(rng.lognormal(0, activity, users))
        self.order = rng.permutation(items)
        self.user_ids, self.item_ids = (rng.integers(2**40, 2**60, n) for n in (users, items))
        self.of_user = {name: rng.integers(0, n, users, dtype=np.int32) for name, n in OF_USER.items()}
        self.of_item = {name: rng.integers(0, n, items, dtype=np.int32) for name, n in OF_ITEM.items()}
        self.taste_U8, self.kind_I8 = (rng.normal(size=(n, 8)).astype(np.float32) for n in (users, items))
        self.liking_U = 0.3 * np.sum([rng.normal(size=n)[self.of_user[name]] for name, n in OF_USER.items()], 0)
        self.appeal_I = 0.4 * np.sum([rng.normal(size=n)[self.of_item[name]] for name, n in OF_ITEM.items()], 0)

    def items(self, n: int) -> Array:
        """Places of n items, the popular ones more often."""
        chosen: Array = self.order[np.searchsorted(self.popular, self.rng.random(n) * self.popular[-1])]
        return chosen

    def day(self, n: int) -> Iterator[pa.Table]:
        """n rows of a day, a part at a time."""
        users = len(self.user_ids)
        lengths = np.clip(self.rng.poisson(20, users), 0, HISTORY)
        starts = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        history = pa.ListArray.from_arrays(starts, pa.array(self.item_ids[self.items(int(lengths.sum()))]))
        mood_U = self.rng.normal(size=users).astype(np.float32)
        for start in range(0, n, PART):
            yield self.rows(min(PART, n - start), history, mood_U)

    def rows(self, n: int, history: pa.ListArray, mood_U: Array) -> pa.Table:
        rng = self.rng
        u, i = np.searchsorted(self.active, rng.random(n) * self.active[-1]), self.items(n)
        place = rng.random(n, dtype=np.float32)
        liked = 0.2 * (self.taste_U8[u] * self.kind_I8[i]).sum(1) + self.liking_U[u] + self.appeal_I[i]
        click = rng.random(n) < 1 / (1 + np.exp(-(liked + 0.3 * mood_U[u] - place - 1.4)))
        seconds = rng.exponential(LONG_READ, n) * np.exp(0.3 * self.kind_I8[i, 0])
        columns = {"user_id": self.user_ids[u], "item_id": self.item_ids[i]}
        columns |= {name: of[u] for name, of in self.of_user.items()} | {
            name: of[i] for name, of in self.of_item.items()
        }
        columns |= {"d0": mood_U[u], "d1": place, "hist": history.take(pa.array(u))}
        columns |= {"click": click.astype(np.int8), "duration": np.where(click, seconds, 0).astype(np.float32)}
        return pa.table(columns)


def make_log(
    folder: Path,
    rows: int,
    days: int,
    held_out: int,
    activity: float,
    users: int = USERS,
    items: int = ITEMS,
    seed: int = 0,
) -> None:
    """`folder`/train/day=.../part-0.parquet, `rows` rows over so many days, and the day after them in `folder`/test."""
    world = World(users, items, activity, seed)
    for k in range(days + 1):
        part, n = ("train", rows // days) if k < days else ("test", held_out)
        file = folder / part / f"day={FIRST_DAY + dt.timedelta(k)}" / "part-0.parquet"
        file.parent.mkdir(parents=True)
        tables = world.day(n)
        first = next(tables)
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)


def config_of(folder: Path, days: int, threads: int) -> dict[str, Any]:
    """The config of the log in `folder`: the peers' architecture, and no step that they do not take."""

    def categorical(side: str, names: Iterable[str]) -> list[dict[str, Any]]:
        return [{"name": name, "side": side, "kind": "categorical"} for name in names]

    history = {"name": "hist", "side": "user", "kind": "sequence", "embedding_name": "item_id", "max_length": HISTORY}
    numbers = [{"name": n, "side": side, "kind": "numeric"} for n, side in (("d0", "user"), ("d1", "context"))]
    same = {"batch_size": BATCH, "embedding_dim": DIM, "unknown_share": 0.0}
    return {
        "workspace": str(folder / "work"),
        "threads": threads,
        "device": "cpu",
        "auto": {"budget": 0},
        "data": {"root": str(folder), "events": {"path": "train", "click": "click", "duration": "duration"}},
        "features": [
            *categorical("user", ("user_id", *OF_USER)),
            *categorical("item", ("item_id", *OF_ITEM)),
            history,
            *numbers,
        ],
        "labels": {"long_read": LONG_READ},
        "teacher": {
            **same,
            "first_window_days": days,
            "num_experts": EXPERTS,
            "expert_hidden_units": list(EXPERT_UNITS),
            "tower_hidden_units": list(TOWER_UNITS),
            "factor_dim": 0,
            "task_weights": {"cvr": 0.0},
            "calibration_share": 0.0,
        },
        "student": {
            **same,
            "hidden_units": list(VECTOR_UNITS),
            "towers": "deep",
            "vectors": "unit",
            "distill": {"min_age_days": 0},
            "hard": {"w_hard": 1.0},
        },
        "evaluate": {"max_users": 1},
    }


def whole_day(config: dict[str, Any]) -> dict[str, Any]:
    """A config of `config_of` with its sizes and batches alone: all else is as shipped, with calibration, the
    regression beside the teacher, dropped ids and contexts, the exposure block and evaluation. Only trials are left
    out, which a chain makes on its first day."""
    sizes = {
        "teacher": ("batch_size", "embedding_dim", "num_experts", "expert_hidden_units", "tower_hidden_units"),
        "student": ("batch_size", "embedding_dim", "hidden_units"),
    }
    kept = {name: {key: config[name][key] for key in keys} for name, keys in sizes.items()}
    return {name: part for name, part in config.items() if name != "evaluate"} | kept
