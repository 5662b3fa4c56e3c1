"""Users and items of the click-bait world (docs/method.md section 13): their tastes, births and deaths.

Clicks and reading follow different interests, and bait draws clicks but not reading, so a model of clicks alone is
measurably wrong. Vectors have 8 dimensions; U users, I items, n rows.

The same parameters give the same world on any machine (one version of numpy): everything is drawn from generators
seeded by (seed, what, day), and a day never depends on how many days are asked for.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dmtl_cli.evaluate.truth import DIM, FORMAT, Law

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_KINDS = ("world", "users", "items", "deaths", "events")


@dataclass(frozen=True)
class Users:
    """Users [U]: id, interests z (clicking) and d (reading) [U, 8]; activity sums to 1; clusters as features."""

    id: Ints
    z: Floats
    d: Floats
    activity: Floats
    click_cluster: Ints
    read_cluster: Ints


@dataclass(frozen=True)
class Items:
    """Items [I] ever born, by birth: id, t (clicking) and e (reading) [I, 8], bait and quality; features."""

    id: Ints
    t: Floats
    e: Floats
    bait: Floats
    quality: Floats
    click_cluster: Ints
    read_cluster: Ints
    author: Ints
    category: Ints


@dataclass(frozen=True)
class World:
    """A world as a function of its parameters; nothing is read or written here."""

    start: dt.date
    users_count: int
    items_count: int
    events_per_day: int
    churn: float
    seed: int
    days: int
    law: Law = field(default_factory=Law)

    def record(self) -> dict[str, Any]:
        """The contents of world.json."""
        sizes = {"users": self.users_count, "items": self.items_count, "events_per_day": self.events_per_day}
        run = {"start": str(self.start), "days": self.days, "churn": self.churn, "seed": self.seed}
        return {"format": FORMAT, "dimensions": DIM, **run, **sizes, "law": dataclasses.asdict(self.law)}

    def day(self, k: int) -> dt.date:
        return self.start + dt.timedelta(days=k)

    def rng(self, kind: str, day: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_KINDS.index(kind), day)))

    @cached_property
    def _directions(self) -> dict[str, Floats]:
        """Unit vectors [clusters, 8]: a cluster is the direction that a vector points to most."""
        rng, law, out = self.rng("world"), self.law, {}
        for name in ("z", "d", "t", "e", "category"):
            v = rng.standard_normal((law.categories if name == "category" else law.clusters, DIM))
            out[name] = v / np.sqrt((v * v).sum(1, keepdims=True))
        return out

    @cached_property
    def _authors(self) -> tuple[Floats, Ints]:
        """(quality of each author's items, sorted [authors]; the author's number in that order)."""
        rng = self.rng("world", 1)
        return np.sort(rng.standard_normal(self.law.authors)), rng.permutation(self.law.authors)

    def _cluster(self, rng: np.random.Generator, vectors: Floats, name: str) -> Ints:
        noisy = vectors + self.law.feature_noise * rng.standard_normal(vectors.shape)
        return np.asarray(np.einsum("nd,cd->nc", noisy, self._directions[name]).argmax(1), np.int64)

    @cached_property
    def users(self) -> Users:
        rng, n = self.rng("users"), self.users_count
        z, d, activity = _normal(rng, n, DIM), _normal(rng, n, DIM), rng.gamma(self.law.activity_shape, size=n)
        clusters = self._cluster(rng, z, "z"), self._cluster(rng, d, "d")
        return Users(distinct_ids(np.arange(n), 1), z, d, activity / activity.sum(), *clusters)

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
        columns = [f.name for f in dataclasses.fields(Items)]
        return Items(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))

    def _born(self, k: int, first: int, n: int) -> Items:
        """The n items born before day k, of which the first is item number `first`."""
        rng = self.rng("items", k)
        t, e, bait, quality = _normal(rng, n, DIM), _normal(rng, n, DIM), _normal(rng, n), _normal(rng, n)
        clusters = self._cluster(rng, t, "t"), self._cluster(rng, e, "e")
        levels, author = self._authors
        seen = quality + self.law.feature_noise * rng.standard_normal(n)
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, seen)
        category = self._cluster(rng, t, "category")
        return Items(
            distinct_ids(np.arange(first, first + n), 2), t, e, bait, quality, *clusters, author[nearest], category
        )

    @cached_property
    def alive(self) -> list[Ints]:
        """Per day the rows of `items` alive, sorted; the number is constant."""
        out, born = [np.arange(self.items_count)], self.items_count
        for k, n in enumerate(self._births[1:], start=1):
            kept = np.delete(out[-1], self.rng("deaths", k).choice(self.items_count, n, replace=False))
            out.append(np.concatenate([kept, np.arange(born, born + n)]))
            born += n
        return out


def _normal(rng: np.random.Generator, *shape: int) -> Floats:
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
