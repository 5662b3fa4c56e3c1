"""What the server counts, as Prometheus reads it. No label grows with days, users or items."""

from __future__ import annotations

import datetime as dt

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Those of one server."""

    def __init__(self) -> None:
        mine = self._registry = CollectorRegistry()
        self.requests = Counter(
            "dmtl_serve_requests", "Requests that were answered or refused.", ["path", "code"], registry=mine
        )
        self.seconds = Histogram(
            "dmtl_serve_seconds", "Of a request, from its last byte on.", ["path"], buckets=_SECONDS, registry=mine
        )
        self.users = Counter("dmtl_serve_users", "Users who got a list.", registry=mine)
        self.day = Gauge("dmtl_serve_day_timestamp_seconds", "Begin of the served export's day, UTC.", registry=mine)
        self.rows = Gauge("dmtl_serve_rows", "Of the served export.", ["kind"], registry=mine)
        self.swaps = Counter("dmtl_serve_swaps", "Exports that took another's place.", registry=mine)
        self.failed_swaps = Counter(
            "dmtl_serve_failed_swaps", "Tries to read what LATEST names, or the items file.", registry=mine
        )

    def serves(self, day: dt.date, users: int, items: int) -> None:
        self.day.set(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())
        self.rows.labels("users").set(users)
        self.rows.labels("items").set(items)

    def text(self) -> bytes:
        return generate_latest(self._registry)
