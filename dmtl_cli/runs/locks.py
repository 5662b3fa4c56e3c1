"""The lock that a writer of a workspace holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dmtl_cli.runs.disk import locked
from dmtl_cli.runs.workspace import Workspace


@contextmanager
def holding(ws: Workspace, wait: float, command: str) -> Iterator[None]:
    """Holds locks/chain.lock of a workspace. Raises UserError: 75 another writer holds it."""
    with locked(ws.root / "locks" / "chain.lock"):
        yield
