"""Small exports of every kind, as a chain publishes them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
from test_models import ITEM, USER, a_student, encoder_of, raw_items, raw_users

from dmtl_cli.config.export import Export as Settings
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.runs.artifact import publish
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.student.build import Blocks
from dmtl_cli.student.export import files, kept
from dmtl_cli.student.export.towers import Shown, towers_of, vectors, write_towers

FULL = encoder_of(*USER, *ITEM)
USERS, ITEMS = raw_users(40).drop("device"), raw_items(60)
SEEN = pl.DataFrame({ID: [2, 4, 6], "seen_items": [[5, 7], [13], list(range(5, 14))]})
KEY_A, KEY_B = "a1" * 32, "b2" * 32
SETTINGS = {
    "float32": Settings(index="exact"),
    "float16": Settings(vectors="float16", index="exact"),
    "int8": Settings(vectors="int8", index="exact"),
    "hnsw": Settings(index="hnsw"),
    "ivf": Settings(index="ivf"),
}


def write(folder: Path, settings: Settings, key: str) -> kept.Kept:
    """All files of an export, as `write_export` writes them."""
    student = Blocks(a_student(FULL).eval())
    towers = towers_of(student, FULL, Shown(0.0))
    write_towers(folder, towers, key)
    made = vectors(towers["item"], FULL.encode(ITEMS, "item"))
    served = files.write_items(folder, ITEMS[ID], made, settings.vectors, key)
    files.write_item_features(folder, ITEMS, FULL, key)
    files.write_users(folder, USERS, SEEN, key)
    FULL.write(folder, files.score_facts(student, Shown(0.0)), key)
    users = vectors(towers["user"], FULL.encode(USERS, "user"))
    return kept.write_index(folder, settings, users, made, served, key)


def published(home: Path, settings: Settings, key: str = KEY_A) -> Path:
    with publish(Workspace(home), "export", dt.date(2026, 1, 1), latest=True, key=key) as pub:
        assert pub.key == key
        write(pub.path, settings, key)
        run, _ = pub.seal({"key": key, "config": {}, "seed": 1, "versions": {}, "threads": 1})
    return run
