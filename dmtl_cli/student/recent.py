"""The batches that a student learned last, by which it is judged when training ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor


class Recent:
    """Named tensors [B] of the last batches.

    Args:
        rows: the oldest batch is forgotten as soon as the others have so many.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.steps, self._remembered = rows, 0, 0
        self._batches: deque[dict[str, Tensor]] = deque()

    def add(self, batch: dict[str, Tensor]) -> None:
        """Remembers a batch, whose tensors have one length. They may be on any device: a step does not wait for it."""
        self._batches.append(batch)
        self.steps += 1
        self._remembered += _rows(batch)
        while self._remembered - _rows(self._batches[0]) >= self.rows:
            self._remembered -= _rows(self._batches.popleft())

    def whole(self) -> dict[str, Tensor]:
        """[N] each, on the CPU; nothing before the first batch."""
        if not self._batches:
            return {}
        return {name: torch.cat([batch[name].cpu() for batch in self._batches]) for name in self._batches[0]}

    def sizes(self) -> list[int]:
        """Rows of each batch."""
        return [_rows(batch) for batch in self._batches]

    def state(self) -> dict[str, Tensor]:
        """`whole`, the rows of each batch, and how many batches there were; nothing before the first."""
        whole = self.whole()
        return whole | {"rows": torch.tensor(self.sizes()), "steps": torch.tensor(self.steps)} if whole else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        if not state:
            return
        sizes, self.steps = state["rows"].tolist(), int(state["steps"])
        parts = {k: torch.split(v.clone(), sizes) for k, v in state.items() if k not in ("rows", "steps")}
        self._batches = deque({name: each[k] for name, each in parts.items()} for k in range(len(sizes)))
        self._remembered = sum(sizes)


def _rows(batch: dict[str, Tensor]) -> int:
    return len(next(iter(batch.values())))
