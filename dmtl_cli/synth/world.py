"""What the synthetic worlds share: tastes, births and deaths, and how a user reacts to an exposure.

Clicks and reading follow different interests, and bait draws clicks but not reading, so a model of clicks alone is
measurably wrong. Vectors have 8 dimensions; U users, I items, n rows. Units: seconds, epoch milliseconds (UTC).

The same parameters give the same world on any machine (one version of numpy): everything is drawn from generators
seeded by (seed, what, day), and a day never depends on how many days are asked for.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dmtl_cli.evaluate.laws import BAIT, DIM, BaitLaw, Floats, Ints, PositionsLaw
from dmtl_cli.evaluate.truth import FORMAT

DAY_MS = 86_400_000
BLOCK = 65_536
"""rows of a Parquet row group, and of a step of the computation"""

_KINDS = ("world", "users", "items", "deaths", "events", "visits", "views", "popularity")


@dataclass(frozen=True)
class Users:
    """Users [U]: id, interests z (clicking) and d (reading) [U, 8], and by column what a model may know of them."""

    id: Ints
    z: Floats
    d: Floats
    features: dict[str, Ints]


@dataclass(frozen=True)
class Items:
    """Items [I] ever born, by birth: id, t (clicking) and e (reading) [I, 8], bait and quality, and by column what a
    model may know of them."""

    id: Ints
    t: Floats
    e: Floats
    bait: Floats
    quality: Floats
    features: dict[str, npt.NDArray[Any]]


Some = TypeVar("Some", Users, Items)


class History(NamedTuple):
    """The last items of each user, oldest first: rows of users, sorted, and of items."""

    user: Ints
    item: Ints

    def with_later(self, user: Ints, item: Ints, most: int) -> History:
        """The history after (user, item), in the order of time: at most `most` items a user."""
        user, item = np.concatenate([self.user, user]), np.concatenate([self.item, item])
        order = np.argsort(user, kind="stable")
        user, item = user[order], item[order]
        kept = np.searchsorted(user, user, side="right") - np.arange(len(user)) <= most
        return History(user[kept], item[kept])

    def lists(self, users: Ints, ids: Ints) -> pa.Array:
        """The ids of the items of each of these users, rows sorted: a list each."""
        kept = np.isin(self.user, users)
        offsets = np.append(np.searchsorted(self.user[kept], users), kept.sum()).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids[self.item[kept]]))


NO_HISTORY = History(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Context(NamedTuple):
    """What beside the pair decides on n exposures: P(examined), and what is added to the logit of a click and to the
    mean of log seconds."""

    examined: Floats
    click: Floats
    read: Floats


@dataclass(frozen=True)
class DayTables:
    """A day of the log: its users and items with their features as of its start, and its exposures sorted by time."""

    users: pa.Table
    items: pa.Table
    events: pa.Table


@dataclass(frozen=True)
class World(ABC):
    """A world as a function of its parameters; nothing is read or written here."""

    name: ClassVar[str]
    law: ClassVar[BaitLaw | PositionsLaw]
    default_items: ClassVar[int]

    start: dt.date
    users_count: int
    items_count: int
    events_per_day: int
    churn: float
    seed: int
    days: int

    @property
    @abstractmethod
    def users(self) -> Users:
        """All users of the world's days; with more days the same first."""

    @abstractmethod
    def _born(self, k: int, first: int, n: int) -> Items:
        """The n items born before day k, of which the first is item number `first`."""

    @abstractmethod
    def tables(self, k: int, history: History) -> tuple[DayTables, History]:
        """Day k after the history of the days before, and the history after it."""

    def record(self) -> dict[str, Any]:
        """The contents of world.json."""
        named = {} if self.name == BAIT else {"world": self.name}
        sizes = {"users": self.users_count, "items": self.items_count, "events_per_day": self.events_per_day}
        run = {"start": str(self.start), "days": self.days, "churn": self.churn, "seed": self.seed}
        return {"format": FORMAT, **named, "dimensions": DIM, **run, **sizes, "law": dataclasses.asdict(self.law)}

    def day(self, k: int) -> dt.date:
        return self.start + dt.timedelta(days=k)

    def since_epoch(self, k: int) -> int:
        """Days from 1970-01-01 to day k."""
        return self.day(k).toordinal() - dt.date(1970, 1, 1).toordinal()

    def rng(self, kind: str, day: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_KINDS.index(kind), day)))

    @cached_property
    def directions(self) -> dict[str, Floats]:
        """Unit vectors [clusters, 8]: a cluster is the direction that a vector points to most."""
        rng, law, out = self.rng("world"), self.law, {}
        for name in ("z", "d", "t", "e", "category"):
            v = rng.standard_normal((law.categories if name == "category" else law.clusters, DIM))
            out[name] = v / np.sqrt((v * v).sum(1, keepdims=True))
        return out

    def cluster(self, rng: np.random.Generator, vectors: Floats, name: str) -> Ints:
        noisy = vectors + self.law.feature_noise * rng.standard_normal(vectors.shape)
        return np.asarray(np.einsum("nd,cd->nc", noisy, self.directions[name]).argmax(1), np.int64)

    def makers(self, count: int) -> tuple[Floats, Ints]:
        """(quality of each maker's items, sorted [count]; the maker's number in that order)."""
        rng = self.rng("world", 1)
        return np.sort(rng.standard_normal(count)), rng.permutation(count)

    def maker(self, rng: np.random.Generator, quality: Floats, makers: tuple[Floats, Ints]) -> Ints:
        """The maker of each item: the nearest to its quality, with noise."""
        levels, number = makers
        seen = quality + self.law.feature_noise * rng.standard_normal(len(quality))
        return number[np.searchsorted((levels[1:] + levels[:-1]) / 2, seen)]

    @cached_property
    def _births(self) -> list[int]:
        """Items born before each day begins."""
        return [self.items_count] + [round(self.items_count * self.churn)] * (self.days - 1)

    @cached_property
    def items(self) -> Items:
        parts, first = [], 0
        for k, n in enumerate(self._births):
            parts.append(self._born(k, first, n))
            first += n
        return joined(parts)

    @cached_property
    def alive(self) -> list[Ints]:
        """Per day the rows of `items` alive, sorted; the number is constant."""
        out, born = [np.arange(self.items_count)], self.items_count
        for k, n in enumerate(self._births[1:], start=1):
            kept = np.delete(out[-1], self.rng("deaths", k).choice(self.items_count, n, replace=False))
            out.append(np.concatenate([kept, np.arange(born, born + n)]))
            born += n
        return out

    def reactions(
        self, rng: np.random.Generator, user: Ints, item: Ints, context: Context | None = None
    ) -> tuple[npt.NDArray[np.bool_], pa.Array]:
        """(clicked [n], read seconds [n] to the millisecond, null where unclicked) of exposures of rows [n]."""
        u, i, law = self.users, self.items, self.law
        click, seconds = np.empty(len(user), np.bool_), np.zeros(len(user), np.float32)
        for rows in blocks(len(user)):
            who, what = user[rows], item[rows]
            examined, more, longer = (1.0, 0.0, 0.0) if context is None else (part[rows] for part in context)
            rate = examined * law.click_rate(np.einsum("nd,nd->n", u.z[who], i.t[what]), i.bait[what], more)
            click[rows] = rng.random(len(who)) < rate
            noise = law.read_spread * rng.standard_normal(len(who))
            taste = np.einsum("nd,nd->n", u.d[who], i.e[what])
            mean = law.log_seconds(taste, i.bait[what], i.quality[what], longer)
            seconds[rows] = np.where(click[rows], np.round(np.exp(mean + noise), 3), 0.0)
        return click, pa.array(seconds, mask=~click)

    def item_table(self, k: int) -> pa.Table:
        """The items alive on day k with what a model may know of them."""
        i, rows = self.items, self.alive[k]
        return pa.table({"item_id": i.id[rows]} | {name: values[rows] for name, values in i.features.items()})

    def truth_tables(self) -> dict[str, pa.Table]:
        """The tables that `evaluate.truth` reads, by name."""
        u, i = self.users, self.items
        items = {"item_id": i.id, "t": _vectors(i.t), "e": _vectors(i.e), "bait": _float32(i.bait)}
        return {
            "users": pa.table({"user_id": u.id, "z": _vectors(u.z), "d": _vectors(u.d)}),
            "items": pa.table(items | {"quality": _float32(i.quality)}),
        }


def joined(parts: list[Some]) -> Some:
    """Users, or items, one after the other."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in dataclasses.fields(parts[0])}
    features = columns.pop("features")
    named = {name: np.concatenate([part[name] for part in features]) for name in features[0]}
    whole = {name: np.concatenate(values) for name, values in columns.items()}
    return type(parts[0])(**whole, features=named)


def blocks(n: int) -> list[slice]:
    """n rows in blocks."""
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Normal numbers that float32 represents exactly, so that the stored truth is the truth."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def distinct_ids(count: Ints, salt: int) -> Ints:
    """Distinct counts (< 2**40) -> distinct random-looking ids in [2**62, 2**63): a float64 would lose them."""
    low = np.uint64(2**62 - 1)
    x = count.astype(np.uint64) + (np.uint64(salt) << np.uint64(40))
    for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):  # splitmix64's multipliers: each step is a bijection
        x = (x * np.uint64(odd)) & low
        x ^= x >> np.uint64(31)
    return (x + np.uint64(2**62)).astype(np.int64)


def _float32(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float32))


def _vectors(values: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(_float32(values.reshape(-1)), DIM)
