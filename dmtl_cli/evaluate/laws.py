"""How users of the synthetic worlds behave: the numbers of docs/method.md sections 13 and 14.

A law is kept with every world, in world.json. Units: seconds. Arguments are of any broadcastable shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DIM = 8
"""dimensions of interests and of items"""


@dataclass(frozen=True)
class Law:
    """What a click and its reading depend on in every world."""

    click_bias: float = -2.0
    click_interest: float = 1.2
    click_bait: float = 1.0
    read_bias: float = math.log(35.0)
    """log seconds"""
    read_interest: float = 0.7
    read_bait: float = -0.7
    read_quality: float = 0.4
    read_spread: float = 0.8
    """standard deviation of log seconds"""

    def click_rate(self, dots: Floats, bait: Floats, more: Floats | float = 0.0) -> Floats:
        """P(click) of an item that is examined, from z.t, bait and what the context adds to the logit."""
        logit = self.click_bias + self.click_interest / math.sqrt(DIM) * dots + self.click_bait * bait + more
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float64)

    def log_seconds(self, dots: Floats, bait: Floats, quality: Floats, more: Floats | float = 0.0) -> Floats:
        """Mean of log read seconds of a clicked row, from d.e, bait, quality and what the context adds."""
        taste = self.read_interest / math.sqrt(DIM) * dots
        mean = self.read_bias + taste + self.read_bait * bait + self.read_quality * quality + more
        return np.asarray(mean, np.float64)


@dataclass(frozen=True)
class BaitLaw(Law):
    """The click-bait world."""

    exposure_bait: float = 0.8
    exposure_popular: float = 0.6
    """share of exposures in proportion to exp(exposure_bait * bait); the rest is uniform"""
    request_size: int = 10
    """mean exposures of a request"""
    request_ms: int = 30_000
    """time within which a request's exposures happen"""
    activity_shape: float = 1.0
    """shape of the gamma distribution of a user's requests"""
    recent: int = 20
    """longest list of recent clicks"""
    feature_noise: float = 0.5
    """standard deviation of what is added to a vector, or to quality, before its cluster, category or author"""
    clusters: int = 24
    categories: int = 12
    authors: int = 100


@dataclass(frozen=True)
class PositionsLaw(Law):
    """The world of positions: what a click and its reading depend on beside the pair, and what is shown."""

    click_bias: float = -2.8
    read_interest: float = 0.8
    read_bait: float = -0.3
    examine_power: float = 0.5
    click_discount: float = 1.25
    """on the log of base price / price"""
    click_hour: float = 0.3
    """at 15 h, minus that at 3 h"""
    click_phone: float = -0.2
    click_desktop: float = 0.4
    read_discount: float = 0.4
    """on the log of base price / price"""
    read_phone: float = -0.1
    read_desktop: float = 0.2
    phones: float = 0.6
    """share of requests; the mean of an effect of the device is 0"""
    desktops: float = 0.3
    busy: float = 0.6
    """how much more than the mean hour has 21 h, and 9 h less; so the mean effect of the hour is 0"""
    discounted: float = 0.5
    """share of exposures below the base price"""
    least_discount: float = 0.1
    most_discount: float = 0.6
    price: float = 20.0
    """median base price"""
    price_spread: float = 0.4
    """standard deviation of a log base price"""
    price_bait: float = 0.5
    """correlation of bait with minus the log base price"""
    popular_bait: float = 0.5
    """correlation of bait with what items are ranked by, from the most to the least shown"""
    popular_power: float = 0.8
    popular_offset: float = 50.0
    """popularity is (rank + popular_offset) ** -popular_power, rank from 1 (Zipf-Mandelbrot)"""
    exposure_popular: float = 0.4
    """share of exposures in proportion to popularity; the rest is matched to the user"""
    exposure_interest: float = 1.0
    """matched: in proportion to popularity * exp(exposure_interest * z.v), v the direction of a click cluster"""
    order_interest: float = 0.3
    """positions: by order_interest * z.t / sqrt(8) plus standard normal noise, the largest first"""
    request_size: int = 40
    """mean exposures of a request"""
    request_spread: float = 0.8
    """standard deviation of the log of a request's expected size"""
    returning: float = 0.1
    """share of a day's users who had been there before"""
    landing_views: int = 5
    """mean length of a new user's session_items"""
    other_views: int = 30
    """mean items viewed outside of the log's requests by a user of the day"""
    recent: int = 50
    """longest session_items"""
    feature_noise: float = 0.4
    """standard deviation of what is added to a vector, or to quality, before its cluster, category, brand or age"""
    clusters: int = 48
    categories: int = 50
    brands: int = 5_000

    def examined(self, position: Ints) -> Floats:
        """P(examined) at a position from 0."""
        return np.asarray((1.0 + position) ** -self.examine_power, np.float64)

    def hour_shares(self) -> Floats:
        """Share of requests in each hour [24]."""
        return np.asarray((1.0 + self.busy * np.cos((np.arange(24) - 21) * np.pi / 12)) / 24, np.float64)

    def device_shares(self) -> Floats:
        """Share of requests on a phone, a desktop, a tablet."""
        return np.array([self.phones, self.desktops, 1.0 - self.phones - self.desktops])

    def click_context(self, discount: Floats, hour: Ints, device: Ints) -> Floats:
        """What the log of base price / price, the hour and the device (as above) add to the logit of a click."""
        of_device = np.array([self.click_phone, self.click_desktop, 0.0])[device]
        of_hour = self.click_hour * np.cos((hour - 15) * np.pi / 12)
        return np.asarray(self.click_discount * discount + of_hour + of_device, np.float64)

    def read_context(self, discount: Floats, device: Ints) -> Floats:
        """What they add to the mean of log seconds."""
        of_device = np.array([self.read_phone, self.read_desktop, 0.0])[device]
        return np.asarray(self.read_discount * discount + of_device, np.float64)


BAIT, POSITIONS = "bait", "positions"
LAWS: dict[str, type[Law]] = {BAIT: BaitLaw, POSITIONS: PositionsLaw}
"""the law of a world of each name"""
