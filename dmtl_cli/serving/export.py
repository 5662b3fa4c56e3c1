"""Using an export: onnxruntime, the item vectors and the vocabularies; no torch, no config, no workspace."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded, Layout

Floats = npt.NDArray[np.float32]
_BLOCK = 8_192
_PRODUCTS = 1 << 24  # of users and items held at a time: 64 MB


def input_names(layout: Layout) -> tuple[str, ...]:
    """Inputs of a tower: ids [N, C], sequence_k [N, L_k], floats [N, F]; those that the side has."""
    names = ["ids"] if layout.ids else []
    names += [f"sequence_{k}" for k in range(len(layout.sequences))]
    return tuple(names + (["floats"] if layout.floats else []))


def top_k(users: Floats, items: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Exact search: for vectors [U, d] and [I, d] the k largest dot products of each user, best first.

    Returns:
        item rows [U, k] and dot products [U, k]; ties go to the smaller row.
    """
    k = min(k, len(items))
    rows, dots = [], []
    step = max(1, _PRODUCTS // max(1, len(items)))
    for start in range(0, len(users), step):
        dot = users[start : start + step] @ items.T
        best = best_k(dot, k)
        rows.append(best)
        dots.append(np.take_along_axis(dot, best, 1))
    return np.concatenate(rows), np.concatenate(dots)


def best_k(scores: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Columns of the k largest values of each row [U, I], best first; ties go to the smaller column."""
    k = min(k, scores.shape[1])
    if not k:
        return np.zeros((len(scores), 0), np.int64)
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(scores, part[:, k - 1 :], 1)
    for row in np.flatnonzero((scores >= least).sum(1) > k):  # equal to the last kept, but left out
        part[row] = np.argsort(-scores[row], kind="stable")[:k]
    part = np.sort(part, 1)
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
    return np.take_along_axis(part, order, 1).astype(np.int64)


class Export:
    """A published export directory."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.folder = folder
        self.encoder = Encoder.read(folder)
        self.described: dict[str, Any] = json.loads((folder / "features.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the same sums in the same order on every machine
        options.log_severity_level = 3
        self.sessions = {
            side: onnxruntime.InferenceSession(
                folder / f"{side}_tower.onnx", options, providers=["CPUExecutionProvider"]
            )
            for side in ("user", "item")
        }

    @cached_property
    def items(self) -> tuple[pl.Series, Floats]:
        """(item ids [I], vectors [I, d]) as served."""
        frame = pl.read_parquet(self.folder / "item_vectors.parquet", use_pyarrow=False)
        return frame["item_id"], np.ascontiguousarray(frame["vector"].to_numpy())

    @cached_property
    def users(self) -> pl.DataFrame:
        """user_id, seen_items, and served raw features as `feature.<name>`."""
        return pl.read_parquet(self.folder / "users.parquet")

    @property
    def clicks(self) -> pl.DataFrame:
        """Users who clicked each item on the export's day: `item_id`, `clicks`, of the items that were clicked."""
        seen = self.users["seen_items"].drop_nulls().explode()
        return seen.value_counts(sort=False, name="clicks").rename({"seen_items": "item_id"}).sort("item_id")

    @property
    def user_features(self) -> pl.DataFrame:
        """Raw features of the served users by feature name, in the order of `users`."""
        return _features(self.users)

    def vectors(self, frame: pl.DataFrame, side: str) -> Floats:
        """Raw features (columns by feature name) -> [N, d] through the ONNX tower.

        Raises:
            UserError: 65 a feature of the side has no column; a null is what says that a value is not known.
        """
        missing = [f.name for f in self.encoder.features_of_side(side) if f.name not in frame.columns]
        if missing:
            what = f"vectors of {side}s: no column {', '.join(missing)} among {', '.join(frame.columns[:12])}"
            raise UserError(what, "give every feature a column by its name; null where it is not known")
        return self._run(self.encoder.encode(frame, side), side)

    def _run(self, encoded: Encoded, side: str) -> Floats:
        names = input_names(self.encoder.layout(side))
        session = self.sessions[side]
        out = []
        for start in range(0, len(encoded), _BLOCK):
            part = encoded.take(np.arange(start, min(start + _BLOCK, len(encoded))))
            every = {"ids": part.ids.astype(np.int64), "floats": part.floats}
            every |= {f"sequence_{k}": s.astype(np.int64) for k, s in enumerate(part.sequences)}
            out.append(session.run(None, {n: every[n] for n in names})[0])
        return np.concatenate(out) if out else np.zeros((0, 1), np.float32)

    def score(self, dot: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Logits of dot products."""
        return self.described["scale"] * dot + self.described["bias"]  # type: ignore[no-any-return]

    def recommend(self, user: str, k: int, *, exclude_seen: bool = False) -> pl.DataFrame:
        """Top k items of one served user: item_id and score (the student's logit), best first.

        Raises:
            UserError: this export does not know the user (66), or the id is not of the log's type (2).
        """
        users = self.users
        if users["user_id"].dtype == pl.Int64:
            try:
                wanted: int | str = int(user)
            except ValueError:
                raise UserError(f"--user: expected an integer id, got {user!r}", code=Exit.USAGE) from None
        else:
            wanted = user
        mine = users.filter(pl.col("user_id").cast(pl.String) == str(wanted))  # as text: an integer may not fit 64 bits
        if not len(mine):
            example = users["user_id"][0]
            hint = f"users.parquet holds {len(users)} users, e.g. {example}"
            raise UserError(f"user {user} is not in the export {self.folder}", hint, Exit.NO_INPUT)
        vector = self.vectors(_features(mine), "user")
        ids, vectors = self.items
        if exclude_seen and mine["seen_items"][0] is not None:
            keep = ~ids.is_in(mine["seen_items"][0].implode())
            ids, vectors = ids.filter(keep), vectors[keep.to_numpy()]
        rows, dots = top_k(vector, vectors, k)
        return pl.DataFrame({"item_id": ids.gather(rows[0]), "score": self.score(dots[0])})


def _features(users: pl.DataFrame) -> pl.DataFrame:
    named = {c: c.removeprefix("feature.") for c in users.columns if c.startswith("feature.")}
    return users.select(named.keys()).rename(named)
