"""`profile`: what is known of users and items when a day ends, and how a feature reads it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dmtl_cli.config.section import Name, Positive, Rate, Section, Weight

EXPOSURE, CLICK, READ = "exposure", "click", "read"
"""events of every log, beside its further conversions"""


class FromProfile(Section):
    """One value of a user or an item, as it was when the day before ended. Give one of history, count, rate and age.

    An event is exposure (a row of the log), click, read (a click and a long read, or a click and the conversion), or
    the name of a further conversion (with a click).
    """

    history: Name | None = None
    """an event: a user's last items with it, the last one last; the feature's max_length says how many"""
    count: Name | None = None
    """an event: how often it happened"""
    rate: Name | None = None
    """an event: how often it happened per event of `of`, smoothed: (count + strength * mean) / (count of + strength)"""
    of: Name | None = None
    """rate: the event to divide by"""
    age: Literal["first_seen", "last_seen"] | None = None
    """days since the first or the last event"""
    half_life_days: Weight | None = None
    """count, rate: an event counts half after so many days; 0: the last day alone; absent: all count the same"""
    prior_strength: Rate | None = None
    """rate: how many events the mean counts for; absent: fitted each day to all users or items (empirical Bayes)"""

    @model_validator(mode="after")
    def _one_value(self) -> FromProfile:
        words = ("history", "count", "rate", "age")
        given = [word for word in words if getattr(self, word) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(words)}, got {' and '.join(given) or 'none'}")
        if (self.rate is None) != (self.of is None):
            raise ValueError("rate and of belong together: {rate: read, of: click}")
        if self.half_life_days is not None and not (self.count or self.rate):
            raise ValueError(f"half_life_days has no effect on {given[0]} (it is for count and rate)")
        if self.prior_strength is not None and not self.rate:
            raise ValueError(f"prior_strength has no effect on {given[0]} (it is for rate)")
        return self

    @property
    def word(self) -> str:
        """Which of the four it is."""
        return next(word for word in ("history", "count", "rate", "age") if getattr(self, word) is not None)

    @property
    def events(self) -> tuple[str, ...]:
        """The events that it is made of."""
        return tuple(event for event in (self.history, self.count, self.rate, self.of) if event is not None)


class Profile(Section):
    keep_days: Positive = 60
    """a user or an item without an event for so many days is dropped"""
    warm_days: Annotated[int, Field(ge=0)] = 7
    """days before the chain's first window that its first profile knows, as far as the log has them"""
