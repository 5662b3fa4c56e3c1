"""Changes a published run as a valid one: its files, the manifest with their hashes, its id and the pointer to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmtl_cli.runs.manifest import MANIFEST, canonical, identity


def current(folder: Path) -> Path:
    """The run that a stage's day points to."""
    return folder / (folder / "CURRENT").read_text().strip()


def forge(folder: Path, change: Callable[[Path, dict[str, Any]], None]) -> Path:
    """Lets `change` have its way with the current run and its manifest, and makes them agree again.

    Args:
        folder: of a stage's day.
    """
    run = current(folder)
    document = json.loads((run / MANIFEST).read_text())
    change(run, document)
    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != MANIFEST)
    document["files"] = [
        {
            "path": p.relative_to(run).as_posix(),
            "bytes": p.stat().st_size,
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
        }
        for p in files
    ]
    document["run_id"] = identity(document)
    (run / MANIFEST).write_text(canonical(document) + "\n")
    forged = run.rename(run.with_name(f"run-{document['run_id']}"))
    (folder / "CURRENT").write_text(forged.name + "\n")
    return forged
