"""What every pair of a synthetic world is worth, from the truth folder that `dmtl synth` writes beside its log.

Units: seconds. Vectors have 8 dimensions; U users, I items.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.evaluate.laws import BAIT, LAWS, Floats, Ints, Law

FORMAT = 1
"""version of a world's files"""
_CDF_X = np.linspace(-8.0, 8.0, 16_001)
_CDF_Y = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _CDF_X])


@dataclass(frozen=True)
class Truth:
    """What every pair of a synthetic world is worth. Results are [U, I] for ids [U] and [I], and [U, K] for ids [U] and
    [U, K]: K items of each user's own.

    Where a law has a context, a pair's worth is the law at the first position, at the base price, and with hour and
    device at their mean effect, which is 0: all that a tower, which cannot read the context, could know.
    """

    law: Law
    users: dict[str, npt.NDArray[Any]]
    """id [N] sorted, z and d [N, 8]"""
    items: dict[str, npt.NDArray[Any]]
    """id [M] sorted, t and e [M, 8], bait and quality [M]"""

    @classmethod
    def load(cls, path: Path) -> Truth:
        """From OUT/truth. Raises UserError: 66 it is not there, 65 it cannot be read."""
        names = "world.json", "users.parquet", "items.parquet"
        for name in names:
            if not (path / name).is_file():
                hint = "set data.truth to the truth folder that `dmtl synth` made, or leave it out"
                raise UserError(f"data.truth: no file {path / name}", hint, Exit.NO_INPUT)
        try:
            world = json.loads((path / names[0]).read_text("utf-8"))
            if world["format"] != FORMAT:
                raise UserError(f"{path}: expected a world of format {FORMAT}, got {world['format']}", "make it again")
            users, items = (_columns(path / name) for name in names[1:])
            return cls(LAWS[world.get("world", BAIT)](**world["law"]), users, items)
        except (ValueError, KeyError, TypeError, OSError, pa.ArrowException, pl.exceptions.PolarsError) as e:
            raise UserError(f"{path}: damaged truth of a synthetic world: {e}", "make it again with synth") from e

    def click_rate(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        """P(click) of an exposure."""
        user, item = _rows(self.users, user_ids, "user"), _rows(self.items, item_ids, "item")
        return self.law.click_rate(_dots(self.users["z"][user], self.items["t"][item]), self.items["bait"][item])

    def read_seconds(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        """Expected read seconds of an exposure: P(click) times the mean of the lognormal seconds of a click."""
        mean = np.exp(self._log_seconds(user_ids, item_ids) + self.law.read_spread**2 / 2)
        return np.asarray(self.click_rate(user_ids, item_ids) * mean, np.float64)

    def long_read_rate(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any], threshold: float) -> Floats:
        """P(click and more than `threshold` read seconds) of an exposure, to 1e-7."""
        clicked = self.click_rate(user_ids, item_ids)
        if threshold <= 0:
            return clicked
        above = (self._log_seconds(user_ids, item_ids) - math.log(threshold)) / self.law.read_spread
        return np.asarray(clicked * np.interp(above, _CDF_X, _CDF_Y), np.float64)

    def _log_seconds(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        user, item = _rows(self.users, user_ids, "user"), _rows(self.items, item_ids, "item")
        i = self.items
        return self.law.log_seconds(_dots(self.users["d"][user], i["e"][item]), i["bait"][item], i["quality"][item])


def load_truth(folder: str | None) -> tuple[Truth | None, list[dict[str, Any]]]:
    """The truth in a folder and the files it was read from, as a manifest names its inputs; nothing for no folder."""
    if folder is None:
        return None, []
    truth = Truth.load(Path(folder))
    inputs = []
    for file in sorted(f for f in Path(folder).iterdir() if f.is_file()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        inputs.append({"path": f"truth/{file.name}", "rows": 0, "bytes": file.stat().st_size, "digest": digest})
    return truth, inputs


def _columns(file: Path) -> dict[str, npt.NDArray[Any]]:
    """A truth table sorted by its id: `id` int64 [n], else float64 [n] or [n, 8]."""
    with pq.ParquetFile(file) as parquet:  # pq.read_table, and to_numpy of Arrow's, import pandas where it is installed
        frame = pl.DataFrame(parquet.read())
    out: dict[str, npt.NDArray[Any]] = {}
    for name, column in frame.to_dict().items():
        if name in ("user_id", "item_id"):
            out["id"] = column.to_numpy()
        else:  # vectors have an array's two dimensions already
            out[name] = column.to_numpy().astype(np.float64)
    order = np.argsort(out["id"])
    return {name: values[order] for name, values in out.items()}


def _dots(users: Floats, items: Floats) -> Floats:
    """Dot products of vectors: [U, 8] with [I, 8] gives [U, I], with [U, K, 8] gives [U, K]."""
    return users @ items.T if items.ndim == 2 else np.einsum("ud,ukd->uk", users, items)


def _rows(table: dict[str, npt.NDArray[Any]], ids: npt.NDArray[Any], side: str) -> Ints:
    """Row of each id, of any shape. Raises UserError 65 for one that the world does not have."""
    known, hint = table["id"], "is data.root the log of this world?"
    if len(ids) and ids.dtype.kind != "i":
        raise UserError(f"data.truth: expected int64 {side} ids, got {ids.dtype} ({ids.flat[0]})", hint)
    wanted = ids.astype(np.int64)
    rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    strange = np.flatnonzero(known[rows] != wanted)
    if len(strange):
        raise UserError(f"data.truth: the world has no {side} {wanted.flat[strange[0]]}", hint)
    return rows.astype(np.int64)
