"""The log of the click-bait world: what is shown to users each day and what they do, as tables.

Units: seconds, epoch milliseconds (UTC). n rows.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dmtl_cli.evaluate.truth import DIM
from dmtl_cli.synth.world import Floats, Ints, World

DAY_MS = 86_400_000
BLOCK = 65_536
"""rows of a Parquet row group, and of a step of the computation"""
History = tuple[Ints, Ints]
"""the last clicks of each user before a day: (user rows sorted, item rows)"""


def no_history() -> History:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def events(world: World, k: int) -> tuple[pa.Table, Ints, Ints]:
    """Day k's exposures sorted by time, and its clicks in that order: rows of users and of items.

    Exposures are drawn one by one, so a request can show an item twice (rarely, at the default size).
    """
    rng, n = world.rng("events", k), world.events_per_day
    user, request, time = _requests(world, rng)
    alive = world.alive[k]
    item = alive[rng.choice(len(alive), n, p=_shares(world, alive))]
    click = np.empty(n, np.bool_)
    seconds = np.zeros(n, np.float32)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        click[rows], seconds[rows] = _reactions(world, rng, user[rows], item[rows])
    since = world.day(k).toordinal() - dt.date(1970, 1, 1).toordinal()
    table = pa.table(
        {
            "user_id": world.users.id[user],
            "item_id": world.items.id[item],
            "time": since * DAY_MS + time,
            "request_id": (since << 40) + request,
            "click": click.astype(np.int8),
            "read_seconds": pa.array(seconds, mask=~click),
        }
    )
    return table, user[click], item[click]


def _requests(world: World, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """(user row, number of the request, milliseconds since midnight) of a day's exposures [n], sorted by time."""
    law, n = world.law, world.events_per_day
    requests = max(1, round(n / law.request_size))
    who = rng.choice(world.users_count, requests, p=world.users.activity)
    begin = np.sort(rng.integers(0, DAY_MS - law.request_ms, requests))
    request = rng.integers(requests, size=n)
    time = begin[request] + rng.integers(law.request_ms, size=n)
    order = np.argsort(time, kind="stable")
    return who[request[order]], request[order], time[order]


def _shares(world: World, alive: Ints) -> Floats:
    """Share of the exposures that each living item gets."""
    law = world.law
    popular = np.exp(law.exposure_bait * world.items.bait[alive])
    shares = law.exposure_popular * popular / popular.sum() + (1 - law.exposure_popular) / len(alive)
    return np.asarray(shares, np.float64)


def _reactions(
    world: World, rng: np.random.Generator, user: Ints, item: Ints
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """(clicked [n], read seconds [n] to the millisecond, 0 where unclicked)."""
    u, i, law = world.users, world.items, world.law
    rate = law.click_rate(np.einsum("nd,nd->n", u.z[user], i.t[item]), i.bait[item])
    click = rng.random(len(user)) < rate
    noise = law.read_spread * rng.standard_normal(len(user))
    mean = law.log_seconds(np.einsum("nd,nd->n", u.d[user], i.e[item]), i.bait[item], i.quality[item])
    return click, np.where(click, np.round(np.exp(mean + noise), 3), 0.0).astype(np.float32)


def last_clicks(world: World, history: History, user: Ints, item: Ints) -> History:
    """The history after the clicks (user, item), in time order: at most `law.recent` per user."""
    user, item = np.concatenate([history[0], user]), np.concatenate([history[1], item])
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    kept = np.searchsorted(user, user, side="right") - np.arange(len(user)) <= world.law.recent
    return user[kept], item[kept]


def user_table(world: World, history: History) -> pa.Table:
    """All users with what a model may know of them.

    `recent_clicks` (oldest first) stops at the start of the day. "The recent clicks up to the event" is approximated
    by that on purpose: a table of one row per user and day can then never contain what happened later that day.
    """
    u, (user, item) = world.users, history
    offsets = np.searchsorted(user, np.arange(world.users_count + 1)).astype(np.int32)
    clusters = {"user_click_cluster": u.click_cluster, "user_read_cluster": u.read_cluster}
    recent = pa.ListArray.from_arrays(pa.array(offsets), pa.array(world.items.id[item]))
    return pa.table({"user_id": u.id, **clusters, "recent_clicks": recent})


def item_table(world: World, k: int) -> pa.Table:
    """The items alive on day k with what a model may know of them."""
    i, rows = world.items, world.alive[k]
    clusters = {"item_click_cluster": i.click_cluster[rows], "item_read_cluster": i.read_cluster[rows]}
    return pa.table({"item_id": i.id[rows], **clusters, "author": i.author[rows], "category": i.category[rows]})


def truth_tables(world: World) -> dict[str, pa.Table]:
    """The tables that `evaluate.truth` reads, by name."""
    u, i = world.users, world.items
    items = {"item_id": i.id, "t": _vectors(i.t), "e": _vectors(i.e), "bait": _float32(i.bait)}
    return {
        "users": pa.table({"user_id": u.id, "z": _vectors(u.z), "d": _vectors(u.d)}),
        "items": pa.table(items | {"quality": _float32(i.quality)}),
    }


def _float32(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float32))


def _vectors(values: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(_float32(values.reshape(-1)), DIM)
