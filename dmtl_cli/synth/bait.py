"""The click-bait world (docs/method.md section 13): the most clicked items are read the least."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from dmtl_cli.evaluate.laws import BAIT, DIM, BaitLaw, Floats, Ints
from dmtl_cli.synth.world import DAY_MS, DayTables, History, Items, Users, World, distinct_ids, normal


class BaitWorld(World):
    """All users may come every day; items are shown by their bait, whoever the user."""

    name, law, default_items = BAIT, BaitLaw(), 2_000

    @cached_property
    def _users(self) -> tuple[Users, Floats]:
        """The users, and what share of the requests is each one's."""
        rng, n = self.rng("users"), self.users_count
        z, d, activity = normal(rng, n, DIM), normal(rng, n, DIM), rng.gamma(self.law.activity_shape, size=n)
        click, read = self.cluster(rng, z, "z"), self.cluster(rng, d, "d")
        clusters = {"user_click_cluster": click, "user_read_cluster": read}
        return Users(distinct_ids(np.arange(n), 1), z, d, clusters), activity / activity.sum()

    @property
    def users(self) -> Users:
        return self._users[0]

    @cached_property
    def _authors(self) -> tuple[Floats, Ints]:
        return self.makers(self.law.authors)

    def _born(self, k: int, first: int, n: int) -> Items:
        rng = self.rng("items", k)
        t, e, bait, quality = normal(rng, n, DIM), normal(rng, n, DIM), normal(rng, n), normal(rng, n)
        click, read = self.cluster(rng, t, "t"), self.cluster(rng, e, "e")
        author, category = self.maker(rng, quality, self._authors), self.cluster(rng, t, "category")
        clusters = {"item_click_cluster": click, "item_read_cluster": read}
        features = clusters | {"author": author, "category": category}
        return Items(distinct_ids(np.arange(first, first + n), 2), t, e, bait, quality, features)

    def tables(self, k: int, history: History) -> tuple[DayTables, History]:
        """Day k. Exposures are drawn one by one, so a request can show an item twice (rarely, at the default size)."""
        rng = self.rng("events", k)
        user, request, time = self._requests(rng)
        alive = self.alive[k]
        item = alive[rng.choice(len(alive), len(user), p=self._shares(alive))]
        click, seconds = self.reactions(rng, user, item)
        since = self.since_epoch(k)
        events = pa.table(
            {
                "user_id": self.users.id[user],
                "item_id": self.items.id[item],
                "time": since * DAY_MS + time,
                "request_id": (since << 40) + request,
                "click": click.astype(np.int8),
                "read_seconds": seconds,
            }
        )
        after = history.with_later(user[click], item[click], self.law.recent)
        return DayTables(self._user_table(history), self.item_table(k), events), after

    def _requests(self, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """(user row, number of the request, milliseconds since midnight) of exposures [n], sorted by time."""
        law, n = self.law, self.events_per_day
        requests = max(1, round(n / law.request_size))
        who = rng.choice(self.users_count, requests, p=self._users[1])
        begin = np.sort(rng.integers(0, DAY_MS - law.request_ms, requests))
        request = rng.integers(requests, size=n)
        time = begin[request] + rng.integers(law.request_ms, size=n)
        order = np.argsort(time, kind="stable")
        return who[request[order]], request[order], time[order]

    def _shares(self, alive: Ints) -> Floats:
        """Share of the exposures that each living item gets."""
        law = self.law
        popular = np.exp(law.exposure_bait * self.items.bait[alive])
        shares = law.exposure_popular * popular / popular.sum() + (1 - law.exposure_popular) / len(alive)
        return np.asarray(shares, np.float64)

    def _user_table(self, history: History) -> pa.Table:
        """All users with what a model may know of them.

        `recent_clicks` (oldest first) stops at the start of the day. "The recent clicks up to the event" is
        approximated by that on purpose: a table of one row per user and day can then never contain what happened later
        that day.
        """
        recent = history.lists(np.arange(self.users_count), self.items.id)
        return pa.table({"user_id": self.users.id} | self.users.features | {"recent_clicks": recent})
