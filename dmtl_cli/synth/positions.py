"""The world of positions (docs/method.md section 14): a large sparse log whose context only a teacher may read."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from dmtl_cli.evaluate.laws import DIM, POSITIONS, Floats, Ints, PositionsLaw
from dmtl_cli.synth.world import (
    DAY_MS,
    Context,
    DayTables,
    History,
    Items,
    Users,
    World,
    blocks,
    distinct_ids,
    joined,
    normal,
)

_HOUR_MS = DAY_MS // 24
_DEVICES = np.array(["phone", "desktop", "tablet"])
"""in the order of the law"""
_AGES = np.array([-1.0, -0.3, 0.3, 1.0])  # edges of the bands


class PositionsWorld(World):
    """`users_count` users come a day, most of them for the first time; requests are long, and their order matters."""

    name, law, default_items = POSITIONS, PositionsLaw(), 100_000

    # -- users ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _requests_a_day(self) -> int:
        return max(1, round(self.events_per_day / self.law.request_size))

    @cached_property
    def _arrivals(self) -> list[int]:
        """Users who come for the first time, each day."""
        active = min(self.users_count, self._requests_a_day)
        return [active] + [active - round(self.law.returning * active)] * (self.days - 1)

    @cached_property
    def users(self) -> Users:
        first = np.cumsum([0, *self._arrivals])
        return joined([self._arriving(k, int(first[k]), n) for k, n in enumerate(self._arrivals)])

    def _arriving(self, k: int, first: int, n: int) -> Users:
        """The n users who come first on day k, of whom the first is user number `first`."""
        rng = self.rng("users", k)
        z, d = normal(rng, n, DIM), normal(rng, n, DIM)
        click, read = self.cluster(rng, z, "z"), self.cluster(rng, d, "d")
        age = np.searchsorted(_AGES, z[:, 0] + self.law.feature_noise * rng.standard_normal(n))
        features = {"user_click_cluster": click, "user_read_cluster": read, "age_band": age.astype(np.int64)}
        return Users(distinct_ids(np.arange(first, first + n), 1), z, d, features)

    def _visitors(self, k: int) -> tuple[Ints, int]:
        """Rows of the users of day k, sorted, and the row of the first who is new: a returning one came any day
        before."""
        before, new = sum(self._arrivals[:k]), self._arrivals[k]
        old = self.rng("visits", k).choice(before, self._arrivals[0] - new, replace=False) if k else np.zeros(0, int)
        return np.concatenate([np.sort(old), np.arange(before, before + new)]).astype(np.int64), before

    # -- items ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _brands(self) -> tuple[Floats, Ints]:
        return self.makers(self.law.brands)

    def _born(self, k: int, first: int, n: int) -> Items:
        rng, law = self.rng("items", k), self.law
        t, e, bait, quality = normal(rng, n, DIM), normal(rng, n, DIM), normal(rng, n), normal(rng, n)
        click, read = self.cluster(rng, t, "t"), self.cluster(rng, e, "e")
        brand, category = self.maker(rng, quality, self._brands), self.cluster(rng, t, "category")
        cheap = law.price_bait * bait + np.sqrt(1 - law.price_bait**2) * rng.standard_normal(n)
        price = np.maximum(0.01, np.round(law.price * np.exp(-law.price_spread * cheap), 2))
        clusters = {"item_click_cluster": click, "item_read_cluster": read}
        features = clusters | {"category": category, "brand": brand, "base_price": price}
        return Items(distinct_ids(np.arange(first, first + n), 2), t, e, bait, quality, features)

    @cached_property
    def popularity(self) -> Floats:
        """What items are ranked by, from the most to the least shown [I]."""
        noise = [self.rng("popularity", k).standard_normal(n) for k, n in enumerate(self._births)]
        share = self.law.popular_bait
        return np.asarray(share * self.items.bait + np.sqrt(1 - share**2) * np.concatenate(noise), np.float64)

    # -- a day ---------------------------------------------------------------------------------------------------------

    def tables(self, k: int, history: History) -> tuple[DayTables, History]:
        """Day k. A request can show an item twice (rarely, at the default size)."""
        (visitors, first_new), catalogue = self._visitors(k), _Catalogue(self, k)
        views = self.rng("views", k)
        before = self._views(history, catalogue, views, visitors[visitors >= first_new], self.law.landing_views)
        events, user, item = self._events(k, visitors, catalogue)
        users = {name: values[visitors] for name, values in self.users.features.items()}
        session = before.lists(visitors, self.items.id)
        table = pa.table({"user_id": self.users.id[visitors]} | users | {"session_items": session})
        after = before.with_later(user, item, self.law.recent)
        after = self._views(after, catalogue, views, visitors, self.law.other_views)
        return DayTables(table, self.item_table(k), events), after

    def _views(
        self, history: History, catalogue: _Catalogue, rng: np.random.Generator, users: Ints, mean: int
    ) -> History:
        """The history after these users viewed items that match them, geometrically many of them."""
        user = np.repeat(users, rng.geometric(1 / mean, len(users)))
        return history.with_later(user, catalogue.matched(rng, user), self.law.recent)

    def _events(self, k: int, visitors: Ints, catalogue: _Catalogue) -> tuple[pa.Table, Ints, Ints]:
        """The exposures of day k, and its clicks in the order of time: rows of users and of items."""
        rng, since = self.rng("events", k), self.since_epoch(k)
        request, position, (user, begin, device) = self._requests(rng, visitors)
        item = self._in_order(rng, user, catalogue.shown(rng, user), request)
        base, hour = self.items.features["base_price"][item], begin // _HOUR_MS
        price = self._prices(rng, base)
        click, seconds = self.reactions(rng, user, item, self._context(position, hour, device, np.log(base / price)))
        table = pa.table(
            {
                "user_id": self.users.id[user],
                "item_id": self.items.id[item],
                "time": since * DAY_MS + begin,
                "request_id": (since << 40) + request,
                "position": position,
                "hour": hour,
                "device": _DEVICES[device],
                "price": price,
                "click": click.astype(np.int8),
                "read_seconds": seconds,
            }
        )
        return table, user[click], item[click]

    def _requests(self, rng: np.random.Generator, visitors: Ints) -> tuple[Ints, Ints, list[Ints]]:
        """(request, position, [user row, milliseconds since midnight, device]) of each exposure [n], sorted by time.
        Each visitor has a request or more, and all requests together the exposures of the day."""
        law, requests = self.law, self._requests_a_day
        who = rng.permutation(np.concatenate([visitors, rng.choice(visitors, requests - len(visitors))]))
        hour = rng.choice(24, requests, p=law.hour_shares())
        begin = np.sort(hour * _HOUR_MS + rng.integers(_HOUR_MS, size=requests))
        device = rng.choice(len(_DEVICES), requests, p=law.device_shares())
        weight = rng.lognormal(0.0, law.request_spread, requests)
        size = 1 + rng.multinomial(self.events_per_day - requests, weight / weight.sum())
        request = np.repeat(np.arange(requests), size)
        position = np.arange(len(request)) - np.repeat(np.cumsum(size) - size, size)
        return request, position, [values[request] for values in (who, begin, device)]

    def _context(self, position: Ints, hour: Ints, device: Ints, discount: Floats) -> Context:
        law = self.law
        click, read = law.click_context(discount, hour, device), law.read_context(discount, device)
        return Context(law.examined(position), click, read)

    def _in_order(self, rng: np.random.Generator, user: Ints, item: Ints, request: Ints) -> Ints:
        """The items of each request in the order of what was guessed of the user's interest."""
        guess = rng.standard_normal(len(item))
        for rows in blocks(len(item)):
            dots = np.einsum("nd,nd->n", self.users.z[user[rows]], self.items.t[item[rows]])
            guess[rows] += self.law.order_interest / np.sqrt(DIM) * dots
        return item[np.lexsort((-guess, request))]

    def _prices(self, rng: np.random.Generator, base: Floats) -> Floats:
        """What exposures [n] of items of these base prices cost, to the cent."""
        law, n = self.law, len(base)
        share = np.where(rng.random(n) < law.discounted, rng.uniform(law.least_discount, law.most_discount, n), 0.0)
        return np.asarray(np.maximum(0.01, np.round(base * (1 - share), 2)), np.float64)


class _Catalogue:
    """The items alive on a day by their click cluster, and how often they are shown to whom."""

    def __init__(self, world: PositionsWorld, k: int) -> None:
        law, alive = world.law, world.alive[k]
        rank = np.empty(len(alive), np.int64)
        rank[np.argsort(-world.popularity[alive], kind="stable")] = np.arange(1, len(alive) + 1)
        cluster = world.items.features["item_click_cluster"][alive]
        order = np.argsort(cluster, kind="stable")
        self.world, self.item = world, alive[order]
        self.upto = np.cumsum((rank[order] + law.popular_offset) ** -law.popular_power)
        """popularity of the items up to each one"""
        ends = np.searchsorted(cluster[order], np.arange(law.clusters + 1))
        self.edge = np.append(0.0, self.upto)[ends]
        """popularity before each cluster, and of all"""

    def shown(self, rng: np.random.Generator, user: Ints) -> Ints:
        """An item for each user row [n]: a popular one, or one that matches them."""
        anyone = rng.random(len(user)) < self.world.law.exposure_popular
        popular = self._between(rng, np.zeros(len(user)), np.full(len(user), self.edge[-1]))
        return np.where(anyone, popular, self.matched(rng, user))

    def matched(self, rng: np.random.Generator, user: Ints) -> Ints:
        """An item for each user row [n] in proportion to popularity * exp(exposure_interest * z.v)."""
        cluster = np.empty(len(user), np.int64)
        for rows in blocks(len(user)):
            fit = self.world.users.z[user[rows]] @ self.world.directions["t"].T
            upto = np.cumsum(np.diff(self.edge) * np.exp(self.world.law.exposure_interest * fit), axis=1)
            cluster[rows] = (upto <= rng.random((len(fit), 1)) * upto[:, -1:]).sum(1)
        return self._between(rng, self.edge[cluster], self.edge[cluster + 1])

    def _between(self, rng: np.random.Generator, low: Floats, high: Floats) -> Ints:
        """Items [n] in proportion to popularity, of those up to which popularity is above `low` and up to `high`."""
        at = np.searchsorted(self.upto, rng.uniform(low, high), side="right")
        return self.item[np.minimum(at, len(self.item) - 1)]
