"""Exports to serve, and a server in this process that a real client talks to over a socket."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import polars as pl
import uvicorn
from test_models import ITEM, USER, a_student, encoder_of, raw_items, raw_users

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.serving.api import Guard, application
from dmtl_cli.serving.metrics import Metrics
from dmtl_cli.serving.server import _listening
from dmtl_cli.serving.swapping import Served
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import files
from dmtl_cli.student.export.towers import Shown, towers_of, vectors, write_towers

FULL = encoder_of(*USER, *ITEM)
USERS, ITEMS = raw_users(40).drop("device"), raw_items(60)
SEEN = pl.DataFrame({ID: [2, 4, 6], "seen_items": [[5, 7], [13], list(range(5, 14))]})
FIRST = dt.date(2026, 1, 1)


def publish_export(home: Path, number: int, items: pl.DataFrame = ITEMS, encoder: Encoder = FULL) -> Path:
    """The export of a day, counted from 0, of a student of its own; LATEST names it."""
    key = f"{number:02x}" * 32
    with publish(Workspace(home), "export", FIRST + dt.timedelta(days=number), latest=True, key=key) as pub:
        student = Blocks(a_student(encoder, number).eval())
        towers = towers_of(student, encoder, Shown(0.0))
        write_towers(pub.path, towers, key)
        files.write_items(pub.path, items[ID], vectors(towers["item"], encoder.encode(items, "item")), key=key)
        files.write_item_features(pub.path, items, encoder, key)
        files.write_users(pub.path, USERS, SEEN, key)
        encoder.write(pub.path, files.score_facts(student, Shown(0.0)), key)
        run, _ = pub.seal({"key": key, "config": {}, "seed": 1, "versions": {}, "threads": 1})
    return run


def point(home: Path, run: Path) -> None:
    """Lets LATEST name a run, by rename."""
    draft = home / "export" / "LATEST.next"
    draft.write_text(f"{run.parent.name}/{run.name}\n")
    draft.replace(home / "export" / "LATEST")


def publish_two(home: Path) -> Path:
    """A workspace of two exports, the second without the first one's items; LATEST names the first."""
    first = publish_export(home, 0)
    publish_export(home, 1, ITEMS[30:])
    point(home, first)
    return home


@dataclass
class Running:
    """A server and what it said."""

    served: Served
    client: httpx.Client
    guard: Guard
    said: list[str] = field(default_factory=list)

    def metric(self, line: str) -> float:
        """The number of a line of /metrics that begins with these words."""
        found = [row for row in self.client.get("/metrics").text.splitlines() if row.startswith(line + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


@contextlib.contextmanager
def running(root: Path, items: Path | None = None, *, load: bool = True) -> Iterator[Running]:
    said: list[str] = []
    metrics = Metrics()
    served = Served(root, items, metrics, said.append)
    if load:
        served.load()
    with ThreadPoolExecutor(2) as pool, _listening("127.0.0.1", 0) as door:
        app = application(served, metrics, pool, said.append)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}", timeout=30) as client:
                yield Running(served, client, app, said)
        finally:
            server.should_exit = True
            thread.join()
