"""Reads an export in a process of its own, as a server would, and scores some pairs whose scores are known.

`python -m dmtl_cli.serving.canary EXPORT CANARIES` takes what `write` left in the folder CANARIES, and leaves there
what it found. The process that made an export has everything in memory that the files may lack.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.serving.export import Export

_PAIRS, _ITEMS, _FOUND = "pairs.parquet", "items.parquet", "found.json"
_BLOCK = 65_536  # rows in memory at a time
Floats = npt.NDArray[np.float64]


def write(folder: Path, pairs: pl.DataFrame, items: pl.DataFrame) -> None:
    """Writes the pairs to score.

    Args:
        pairs: `user_id`, `item_id`, `score` and `size`, which errors are divided by.
        items: the raw features of each pair's item, row by row; users' are in the export itself.
    """
    folder.mkdir()
    for name, frame in ((_PAIRS, pairs), (_ITEMS, items)):
        pq.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), folder / name)


def read_back(export: Path, canaries: Path) -> dict[str, float] | str:
    """What a fresh process finds in an export (see `look`), or the last line of why it could not read it."""
    path = os.pathsep.join(map(os.path.abspath, sys.path))  # it imports what this process does
    command = [sys.executable, "-P", "-m", __name__, str(export), str(canaries)]
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "POLARS_MAX_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ended.returncode == 0 and (canaries / _FOUND).is_file():
        found: dict[str, float] = json.loads((canaries / _FOUND).read_text())
        return found
    said = ended.stderr.strip().splitlines()
    return said[-1] if said else f"its reader ended with {ended.returncode}"


def look(folder: Path, canaries: Path) -> dict[str, float]:
    """Loads every file but the torch programs.

    Returns:
        onnx, stored, mapped: the largest error of a pair's score over its size, by ONNX towers, and with the vector of
        its item that the table, or the mapped file, has in place of the tower's. items, users: rows. repeated: ids that
        a row before has. unknown: canaries whose user or item is not there. not_finite: stored vectors with a number
        that is not.
    """
    export = Export(folder)
    pairs, raw = (pl.read_parquet(canaries / name, glob=False) for name in (_PAIRS, _ITEMS))
    users = _Table.read(folder / "users.parquet", "user_id", pairs["user_id"])
    items = _Table.read(folder / "item_vectors.parquet", "item_id", pairs["item_id"])
    out: dict[str, float] = {
        "items": items.rows,
        "users": users.rows,
        "repeated": items.repeated + users.repeated,
        "not_finite": items.not_finite,
        "unknown": int(((users.at < 0) | (items.at < 0)).sum()),
    }
    if not len(pairs) or out["unknown"]:
        return out
    named = {c: c.removeprefix("feature.") for c in users.kept.columns if c.startswith("feature.")}
    u = export.vectors(users.kept.select(named.keys()).rename(named), "user")[users.at].astype(np.float64)
    v, stored = export.vectors(raw, "item"), _floats(items.kept)[items.at]
    ids, mapped = export.items
    place = ids.to_frame("item_id").with_row_index("at").filter(ids.is_in(pairs["item_id"].implode()))
    at = pairs.select("item_id").join(place, on="item_id", how="left", maintain_order="left")["at"].to_numpy()
    for name, other in (("onnx", v), ("stored", stored), ("mapped", mapped[at])):
        off = np.abs(export.score((u * other).sum(1)) - pairs["score"].to_numpy())
        out[name] = float((off / pairs["size"].to_numpy()).max())
    return out


class _Table:
    """What one pass over a file of ids finds: the rows of some ids, and what is said of all."""

    def __init__(self) -> None:
        self.rows = self.repeated = self.not_finite = 0
        self.kept = pl.DataFrame()
        self.at = np.zeros(0, np.int64)

    @staticmethod
    def read(file: Path, key: str, wanted: pl.Series) -> _Table:
        """`kept` are the rows of wanted ids, and `at` the row there of each; -1 where there is none."""
        out, ids, kept = _Table(), [], []
        for frame in _batches(file):
            out.rows += len(frame)
            ids.append(frame[key])
            kept.append(frame.filter(pl.col(key).is_in(wanted.implode())))
            if "vector" in frame.columns and len(frame):
                out.not_finite += int((~np.isfinite(_floats(frame)).all(1)).sum())
        whole = pl.concat(ids)
        out.repeated = len(whole) - whole.n_unique() + whole.null_count()
        out.kept = pl.concat(kept).unique(key, keep="first", maintain_order=True)
        place = out.kept.select(pl.col(key), at=pl.int_range(pl.len(), dtype=pl.Int64))
        joined = wanted.to_frame(key).join(place, on=key, how="left", maintain_order="left")
        out.at = joined["at"].fill_null(-1).to_numpy()
        return out


def _floats(frame: pl.DataFrame) -> Floats:
    """The vectors that rows of item_vectors.parquet stand for."""
    found = frame["vector"].to_numpy().astype(np.float64)
    return found * frame["scale"].to_numpy()[:, None] if "scale" in frame.columns else found


def _batches(file: Path) -> Iterator[pl.DataFrame]:
    """The rows of a file, at least one frame."""
    with pq.ParquetFile(file) as parquet:
        yield frame_of(parquet.read_row_groups([]))  # schema.empty_table() imports pandas, where it is installed
        for batch in parquet.iter_batches(_BLOCK, use_threads=False):
            yield frame_of(pa.Table.from_batches([batch]))


if __name__ == "__main__":
    there, given = map(Path, sys.argv[1:])
    (given / _FOUND).write_text(json.dumps(look(there, given)))
