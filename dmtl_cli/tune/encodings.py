"""The days of trials as numbers: encoded once, however many candidates learn them."""

from __future__ import annotations

from collections.abc import Sequence

from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import Day
from dmtl_cli.nn.batches import Tables, stacked


class Encodings:
    """Encoders that know the early part of a window, and the users and items of all of it.

    Args:
        days: of the window.
        learned: those whose events teach an encoder.
        event_features: whether a user's event-level features are part of the user, as in a tower.
    """

    def __init__(self, days: Sequence[Day], learned: Sequence[Day], *, event_features: bool) -> None:
        self.days, self.learned, self.event_features = days, learned, event_features
        self._known: dict[tuple[int, ...], tuple[Encoder, Tables]] = {}

    def of(self, features: tuple[Feature, ...]) -> tuple[Encoder, Tables]:
        """Of a candidate's features, which differ from another's in their min_count alone."""
        key = tuple(f.min_count for f in features)
        if key not in self._known:
            encoder = Encoder(features).grow(list(self.learned))
            self._known[key] = encoder, stacked(encoder, self.days, event_features=self.event_features)
        return self._known[key]
