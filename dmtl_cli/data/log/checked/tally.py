"""What a day's events add up to: counts by user and item, facts, clicked pairs, and clicks that repeat one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import Spool
from dmtl_cli.runs.ranks import Ranks

Ints = npt.NDArray[np.int64]


class Tally:
    """Counts over blocks; a click that repeats one of its pair and request can be taken out again."""

    def __init__(self, users: int, items: int) -> None:
        self.user_events, self.item_events = np.zeros(users, np.int64), np.zeros(items, np.int64)
        self.item_clicks = np.zeros(items, np.int64)
        self.rows = self.clicks = self.known = self.unknown = 0
        self.seconds: list[float] = []  # block by block, to be added in one order whichever rank counted them
        self.dropped: dict[int, float] = {}  # seconds of repeated clicks, by bucket
        self.pairs = Distinct()

    @staticmethod
    def sum(parts: list[Tally]) -> Tally:
        """The tallies of all ranks as one."""
        if len(parts) == 1:
            return parts[0]
        whole = Tally(len(parts[0].user_events), len(parts[0].item_events))
        for part in parts:
            for name in ("user_events", "item_events", "item_clicks", "rows", "clicks", "known", "unknown"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            whole.seconds += part.seconds
            whole.dropped |= part.dropped
            whole.pairs.add(part.pairs.merged())
        return whole

    def facts(self, repeated: int, durations: bool) -> dict[str, float]:
        """What `Day.facts` says of the events. `durations`: whether the log has them."""
        return {
            "rows": self.rows,
            "clicks": self.clicks,
            "clicks_without_duration": self.unknown if durations else 0,
            "repeated_clicks": repeated,
            "duration_sum": self._total_seconds(),
            "duration_rows": float(self.known),
        }

    def _total_seconds(self) -> float:
        total = 0.0
        for seconds in (*self.seconds, *(-self.dropped[k] for k in sorted(self.dropped))):
            total += seconds
        return total

    def add(self, block: pl.DataFrame) -> None:
        """Counts rows as the spool has them."""
        self._count(block, +1)
        clicks = block.filter(pl.col("click") == 1)
        self.seconds.append(self._count_clicks(clicks, +1))
        self.pairs.add(self._pairs(clicks))

    def _pairs(self, frame: pl.DataFrame) -> Ints:
        user, item = (frame[side].to_numpy().astype(np.int64) for side in ("user", "item"))
        return user * len(self.item_clicks) + item

    def _count(self, block: pl.DataFrame, sign: int) -> None:
        self.rows += sign * len(block)
        np.add.at(self.user_events, block["user"].to_numpy(), np.int64(sign))
        np.add.at(self.item_events, block["item"].to_numpy(), np.int64(sign))

    def _count_clicks(self, clicks: pl.DataFrame, sign: int) -> float:
        """Counts clicks and returns their seconds."""
        seconds = clicks["duration"].to_numpy()
        known = ~np.isnan(seconds)
        self.clicks += sign * len(clicks)
        np.add.at(self.item_clicks, clicks["item"].to_numpy(), np.int64(sign))
        self.known += sign * int(known.sum())
        self.unknown += sign * int((~known).sum())
        return float(seconds[known].sum(dtype=np.float64))

    def drop_repeated(self, spool: Spool, ranks: Ranks) -> Ints:
        """Takes the repeated clicks of this rank's buckets out of the counts and returns their positions.

        All clicks of a pair are in one bucket.
        """
        dropped = [np.zeros(0, np.int64)]
        for k in filter(ranks.mine, range(len(spool))):
            frame = spool.bucket(k, ["position", "user", "item", "click", "duration", "request"])
            if frame is not None:
                clicks = frame.filter(pl.col("click") == 1)
                pair, request = self._pairs(clicks), clicks["request"].to_numpy()
                order = np.lexsort((request, pair))  # stable: of equal ones the log's first comes first
                pair, request = pair[order], request[order]
                again = clicks[order[1:][(pair[1:] == pair[:-1]) & (request[1:] == request[:-1])]]
                self._count(again, -1)
                self.dropped[k] = self._count_clicks(again, -1)
                dropped.append(again["position"].to_numpy())
        return np.concatenate(dropped)


class Distinct:
    """Distinct values of a stream, merged now and then: memory is about twice that of the distinct ones."""

    def __init__(self) -> None:
        self._parts: list[Ints] = [np.zeros(0, np.int64)]
        self._rows = 0

    def add(self, values: Ints) -> None:
        self._parts.append(values)
        self._rows += len(values)
        if self._rows > max(sizes.MERGE, len(self._parts[0])):
            self.merged()

    def merged(self) -> Ints:
        """The values so far, sorted."""
        whole = np.concatenate(self._parts)
        self._parts, self._rows = [], 0
        whole.sort()
        self._parts = [whole[np.append(True, whole[1:] != whole[:-1])] if len(whole) else whole]
        return self._parts[0]
