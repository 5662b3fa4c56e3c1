"""Looks up the pairs of a later day among the stored scores of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.checked.day import Block, Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.spool import SpoolWriter
from dmtl_cli.scores.groups import list_keys, pair_groups, user_groups
from dmtl_cli.scores.reader import Reader, ScoredPairs, day_rows

Ints = npt.NDArray[np.int64]


class Matcher:
    """Finds the exposed scores of an earlier day by the pairs of a later day, bucket by bucket of the later day's
    spool: memory is the events and scored pairs of one bucket."""

    def __init__(self, reader: Reader, day: Day, targets: Sequence[str], scratch: Path) -> None:
        """Writes the scored pairs whose user and item the later day knows into a file in `scratch`, by bucket."""
        self.day, self.targets = day, targets
        writer = SpoolWriter(scratch / f"scored-{day.day}.arrow", len(day.spool), sizes.BLOCK)
        for frame in reader.frames(["user_id", "item_id", "pair_source", *reader.logits]):
            shown = frame.filter(pl.col("pair_source") == "exposed")
            user, item = day_rows(day, shown)
            found = reader.targets(shown, targets)
            columns = {str(k): found[:, k] for k in range(len(targets))}
            here = (user >= 0) & (item >= 0)
            stored = pl.DataFrame({"pair": user * len(day.items) + item, **columns})
            writer.add(stored.filter(here), day.bucket_of(user[here]))
        self.scored = writer.done()

    def covered(self) -> int:
        """Events of the day whose pair was scored."""
        return sum(len(p.user) for k in range(len(self.scored)) for p in self._bucket(k, None, None))

    def pairs(self, *, lists: bool, rng: np.random.Generator) -> Iterator[ScoredPairs]:
        """The day's events that were scored before; with lists a bucket at once, as a list may be all over it."""
        users = user_groups(self.day) if lists else None
        for k in rng.permutation(len(self.scored)):
            blocks = self._bucket(k, users, rng)
            if not lists:
                yield from blocks
            elif parts := list(blocks):
                yield ScoredPairs(*(np.concatenate(x) for x in zip(*parts, strict=True)))

    def _bucket(self, k: int, users: Ints | None, rng: np.random.Generator | None) -> Iterator[ScoredPairs]:
        stored = self.scored.bucket(k)
        if stored is None:
            stored = pl.DataFrame(
                schema={"pair": pl.Int64} | {str(column): pl.Float64 for column in range(len(self.targets))}
            )
        known, first = np.unique(stored["pair"].to_numpy(), return_index=True)
        targets = stored.drop("pair").to_numpy()[first]
        for block in self.day.bucket(k, rng):
            yield self._matched(block, known, targets, users)

    def _matched(self, block: Block, known: Ints, targets: npt.NDArray[np.float64], users: Ints | None) -> ScoredPairs:
        user, item = block.user.astype(np.int64), block.item.astype(np.int64)
        pair = user * len(self.day.items) + item
        at = np.searchsorted(known, pair)
        here = np.flatnonzero(np.append(known, -1)[at] == pair)
        user, item = user[here], item[here]
        key = user if users is None else list_keys(pair_groups(users, user, block.request[here]), user)
        return ScoredPairs(user, item, targets[at[here]], np.zeros(len(here), np.int8), block.weight[here], key)
