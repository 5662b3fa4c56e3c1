"""What more ranks would take, from what one and two of them did.

A rank's processor seconds in a phase are of three parts: what is divided among ranks, what each does alike, and what
the first does alone. One rank has all three, two ranks tell them apart. What each of several takes beside that, as a
sharded table does, shows only where two take more than twice what one did. A collective takes a latency for each
message that follows another in it, and a time for each byte that a rank sends (Hockney's model; rings as in Thakur,
Rabenseifner and Gropp, IJHPCA 2005).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

KINDS = ("all_reduce", "all_gather", "all_to_all", "objects")


def messages(kind: str, n: int) -> float:
    """That follow one another in a collective of n ranks: a ring around once, or twice where sums come back; of objects
    their sizes go around first."""
    return {"all_reduce": 2.0, "all_gather": 1.0, "all_to_all": 1.0, "objects": 2.0}[kind] * (n - 1)


def sent(kind: str, n: int) -> float:
    """Bytes that each of n ranks sends for a byte of the message, as two ranks have it: a tensor that is summed or put
    together is as large for any number of ranks, what a rank exchanges is its share of a batch, an object its own."""
    if kind == "objects":
        return n - 1.0
    return {"all_reduce": 2.0, "all_gather": 1.0, "all_to_all": 2.0 / n}[kind] * (n - 1) / n


@dataclass(frozen=True)
class Link:
    """Seconds of one kind of collective."""

    latency: float
    """of a message"""
    byte: float
    """of a byte that a rank sends"""

    @staticmethod
    def of(kind: str, small: tuple[float, float], large: tuple[float, float], n: int = 2) -> Link:
        """From (bytes, seconds) of a small and of a large message among n ranks."""
        byte = max(0.0, (large[1] - small[1]) / ((large[0] - small[0]) * sent(kind, n)))
        return Link(max(0.0, small[1] - byte * small[0] * sent(kind, n)) / messages(kind, n), byte)


@dataclass(frozen=True)
class Phase:
    """Processor seconds of a phase, and its collectives as two ranks make them."""

    divided: float
    alike: float
    first: float
    calls: Mapping[str, float]
    """by kind, of a rank"""
    bytes: Mapping[str, float]
    """by kind, of a rank's messages"""
    further: float = 0.0
    """of each of several ranks, more than one alone takes for the same"""
    steps: Sequence[float] = (1.0,)
    """how long steps were, as shares of their mean, at the end of which ranks wait for each other"""

    @staticmethod
    def of(
        one: float, two: Sequence[float], calls: Mapping[str, float], size: Mapping[str, float], steps: Sequence[float]
    ) -> Phase:
        """From the seconds of one rank alone and of each of two, without their collectives.

        What the first of two takes longer, it does alone. What two take beside what one did of the rest, each does
        alike: between nothing and all of it.
        """
        first = min(max(0.0, two[0] - two[1]), one)
        rest, each = one - first, (sum(two) - first) / 2
        alike = min(max(0.0, 2 * each - rest), rest)
        further = max(0.0, each - rest)
        mean = sum(steps) / len(steps) if steps else 0.0
        shares = [x / mean for x in steps] if mean else (1.0,)
        return Phase(rest - alike, alike, first, calls, size, further, shares)

    def refined(self, several: Mapping[int, Sequence[float]]) -> Phase:
        """The phase by what each rank of several groups took, by their number of ranks: two do not tell what is divided
        from what is dearer for several, so the least squares of D / n + E over all do."""
        rest = self.divided + self.alike
        each = np.array([(sum(x) - self.first) / n for n, x in several.items()])
        share = 1 / np.array(list(several), np.float64)
        spread = float(np.square(share - share.mean()).sum())
        slope = float(((share - share.mean()) * each).sum()) / spread if spread else self.divided
        divided = min(max(0.0, slope), rest)
        further = max(0.0, float((each - divided * share).mean()) - (rest - divided))
        return replace(self, divided=divided, alike=rest - divided, further=further)

    def times(self, factor: float, *, steps: bool) -> Phase:
        """The phase of so many times as many rows of as many users and items.

        Args:
            steps: whether its collectives are those of steps, of which there are as many times as many.
        """
        calls, size = ({k: x * (factor if steps else 1) for k, x in each.items()} for each in (self.calls, self.bytes))
        divided, alike, first, further = (x * factor for x in (self.divided, self.alike, self.first, self.further))
        return Phase(divided, alike, first, calls, size, further, self.steps)

    def communication(self, links: Mapping[str, Link], n: int) -> float:
        """Seconds of one of n ranks."""
        if n == 1:
            return 0.0
        return sum(
            self.calls[kind] * messages(kind, n) * link.latency + self.bytes[kind] * sent(kind, n) * link.byte
            for kind, link in links.items()
        )

    def cpu(self, links: Mapping[str, Link], n: int) -> float:
        """Processor seconds of all n ranks."""
        return self.divided + self.first + n * (self._of_each(n) + self.communication(links, n))

    def _of_each(self, n: int) -> float:
        return self.alike + (self.further if n > 1 else 0.0)

    def elapsed(self, links: Mapping[str, Link], n: int, rng: np.random.Generator, rounds: int = 256) -> float:
        """Seconds until the last of n ranks with a core each is done: in each step they wait for the slowest, whose
        length is drawn from the measured ones."""
        drawn = rng.choice(np.asarray(self.steps, np.float64), (rounds, n)) if n > 1 else np.ones((1, 1))
        slowest = float(drawn.max(1).mean())
        return self.first + self._of_each(n) + self.divided / n * slowest + self.communication(links, n)
