"""What a profile stores: what the config's features read, and the counters of items that lists are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from dmtl_cli.config.automatic import HALF_LIVES
from dmtl_cli.config.profile import CLICK, EXPOSURE, READ
from dmtl_cli.config.schema import Config
from dmtl_cli.data.profile.columns import FIRST, ID, LAST, Dtype, count_column, history_column, time_column

Count = tuple[str, float | None]
"""an event and a half-life in days"""


@dataclass(frozen=True, order=True)
class Rate:
    """A rate whose mean and spread are fitted: `event` per event of `of`."""

    side: str
    event: str
    of: str
    half_life_days: float | None

    @property
    def base(self) -> str:
        """The events it divides by: those of `of` that tell whether `event` happened. Of a click without a duration
        nobody knows whether it was a long read."""
        return self.of if self.event in (CLICK, EXPOSURE) else f"{self.of}.{self.event}"

    @property
    def counts(self) -> set[Count]:
        """The counters it is made of."""
        return {(self.event, self.half_life_days), (self.base, self.half_life_days), (self.base, self.squares)}

    @property
    def squares(self) -> float | None:
        """Half-life of the counter that adds up squared weights of events: (0.5 ** (days / h)) ** 2."""
        return None if self.half_life_days is None else self.half_life_days / 2


@dataclass(frozen=True)
class Plan:
    """Everything in an order that does not depend on the order of the config's features."""

    counts: dict[str, tuple[Count, ...]]
    """by side"""
    histories: dict[str, int]
    """items kept of a user, by event"""
    rates: tuple[Rate, ...]

    @staticmethod
    def of(config: Config) -> Plan:
        events = config.data.events
        known = [*([EXPOSURE] if events.click else []), CLICK, READ, *events.conversions]
        counts: dict[str, set[Count]] = {"user": set(), "item": {(e, float(h)) for e in known for h in HALF_LIVES}}
        histories: dict[str, int] = {}
        rates = set()
        for f in config.features:
            if (p := f.profile) is None:
                continue
            if p.history is not None:
                histories[p.history] = max(f.max_length, histories.get(p.history, 0))
            elif p.count is not None:
                counts[f.side].add((p.count, p.half_life_days))
            elif p.rate is not None and p.of is not None:
                rates.add(rate := Rate(f.side, p.rate, p.of, p.half_life_days))
                counts[f.side] |= rate.counts
        return Plan(
            {side: _in_order(some) for side, some in counts.items()},
            dict(sorted(histories.items())),
            tuple(sorted(rates, key=lambda r: (r.side, *_key((r.event, r.half_life_days)), r.of))),
        )

    def to_json(self) -> dict[str, Any]:
        """What a profile's key has of it."""
        counts = {side: [count_column(*one) for one in some] for side, some in self.counts.items()}
        return {"counts": counts, "histories": self.histories, "rates": [vars(rate) for rate in self.rates]}

    def counted(self, side: str) -> list[str]:
        """The events that a side counts."""
        return sorted({event for event, _ in self.counts[side]})

    @property
    def bases(self) -> set[tuple[str, str, str]]:
        """(base, of, event) of every rate whose base is not an event by itself."""
        return {(r.base, r.of, r.event) for r in self.rates if r.base != r.of}

    def kept(self, side: str) -> dict[str, int]:
        """The histories of a side: none of items."""
        return self.histories if side == "user" else {}

    def schema(self, side: str, ids: dict[str, Dtype]) -> dict[str, Dtype]:
        """Columns and types of a stored side. `ids`: the type of ids by side."""
        columns: dict[str, Dtype] = {ID: ids[side], FIRST: pl.Date, LAST: pl.Date}
        columns |= {count_column(*one): pl.Float32 for one in self.counts[side]}
        for event in self.kept(side):
            columns |= {history_column(event): pl.List(ids["item"]), time_column(event): pl.List(pl.Datetime("us"))}
        return columns


def _in_order(counts: Iterable[Count]) -> tuple[Count, ...]:
    return tuple(sorted(counts, key=_key))


def _key(count: Count) -> tuple[str, float]:
    return count[0], -1.0 if count[1] is None else count[1]
