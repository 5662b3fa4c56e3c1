"""Uses a published export: onnxruntime, the item vectors and the vocabularies; no torch, no config, no workspace."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.runs.contents import decoding, read_json
from dmtl_cli.serving.files import check_described, input_names, open_tower, read_users, read_vectors
from dmtl_cli.serving.search import Floats, top_k

_BLOCK = 8_192  # rows computed at a time


class Export:
    """A published export directory."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder = Path(folder)
        self.encoder = Encoder.read(folder)
        self.described = read_json(folder / "features.json")
        with decoding(folder / "features.json"):
            check_described(self.described)
        self.sessions = {side: open_tower(folder, side, self.encoder.layout(side)) for side in ("user", "item")}

    @property
    def blocks(self) -> dict[str, slice]:
        """Where in a vector each block is: `preference` and, where it is served, `exposure`: what is shown to whom."""
        stored: dict[str, list[int]] = self.described.get("blocks", {"preference": [0, None]})
        return {name: slice(*span) for name, span in stored.items()}

    @property
    def kappa(self) -> float:
        """By what the exposure block counts in the score beside the preference; 0 where it is not served."""
        return float(self.described.get("kappa", 0.0))

    @cached_property
    def items(self) -> tuple[pl.Series, Floats]:
        """(item ids [I], vectors [I, d]) as served."""
        return read_vectors(self.folder, self._ids("item"))

    @cached_property
    def users(self) -> pl.DataFrame:
        """user_id, seen_items, and served raw features as `feature.<name>`."""
        named = [f.name for f in self.encoder.features_of_side("user", per_event=False)]
        return read_users(self.folder, self._ids("user"), self._ids("item"), named)

    def _ids(self, side: str) -> pl.DataType:
        return pl.String() if self.encoder.id_kinds[side] == "string" else pl.Int64()

    @property
    def clicks(self) -> pl.DataFrame:
        """How many users clicked each item on the export's day: `item_id`, `clicks`; only items that were clicked."""
        seen = self.users["seen_items"].drop_nulls().explode()
        return seen.value_counts(sort=False, name="clicks").rename({"seen_items": "item_id"}).sort("item_id")

    @property
    def user_features(self) -> pl.DataFrame:
        """Raw features of the served users by feature name, in the order of `users`."""
        return _features(self.users)

    def vectors(self, frame: pl.DataFrame, side: str) -> Floats:
        """Raw features of N users or items (columns by feature name) -> [N, d] through the ONNX tower.

        They need not have been there when the student learned: an unknown id is out of vocabulary, and the other
        features tell what is known. So an item gets the vector it is retrieved by before anybody has seen it.

        Args:
            side: user or item.

        Raises:
            UserError: 65 a feature of the side has no column; the column of an unknown value has a null.
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
        for start in range(0, max(1, len(encoded)), _BLOCK):  # runs once without rows too, for the length of vectors
            part = encoded.take(np.arange(start, min(start + _BLOCK, len(encoded))))
            every = {"ids": part.ids.astype(np.int64), "floats": part.floats}
            every |= {f"sequence_{k}": s.astype(np.int64) for k, s in enumerate(part.sequences)}
            with decoding(self.folder / f"{side}_tower.onnx"):
                vectors = session.run(None, {n: every[n] for n in names})[0]
                if not np.isfinite(vectors).all():
                    raise ValueError("its vectors are not finite")
            out.append(vectors)
        return np.concatenate(out)

    def part(self, vectors: Floats, block: str) -> Floats:
        """One block of vectors [N, d]. `score` of the preference's dot products is the preference's logit; those of
        `exposure` are, over kappa, log P(shown) up to a number of the user.

        Raises:
            UserError: 65 the export has no such block.
        """
        if block not in self.blocks:
            what = f"export {self.folder}: expected a block, {' or '.join(self.blocks)}, got {block!r}"
            raise UserError(what, "exposure needs student.exposure.kappa above 0 and dmtl export")
        return vectors[:, self.blocks[block]]

    def with_kappa(self, users: Floats, kappa: float) -> Floats:
        """Vectors of users [N, d] as they would be served with another kappa.

        Args:
            users: as `vectors` gives them, by the export's own kappa.

        Raises:
            UserError: 65 kappa is above 0 and the export has no exposure block.
        """
        if kappa == self.kappa:
            return users
        if "exposure" not in self.blocks:
            what = f"export {self.folder}: kappa {kappa} needs an exposure block, it has {', '.join(self.blocks)}"
            raise UserError(what, "set student.exposure.kappa above 0 and run dmtl export")
        out = users.copy()
        out[:, self.blocks["exposure"]] *= np.float32(kappa / self.kappa)
        return out

    def score(self, dot: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The student's logits of dot products, of any shape."""
        return self.described["scale"] * dot + self.described["bias"]  # type: ignore[no-any-return]

    def recommend(self, user: str, k: int, *, exclude_seen: bool = False) -> pl.DataFrame:
        """The k best items of one served user: item_id and score, best first; with an exposure block also the two
        parts that a score is the sum of, `exposure` and `preference` (a logit).

        Args:
            user: a user id as text, whatever its type in the log.
            exclude_seen: leave out the items that the user clicked on the export's day.

        Raises:
            UserError: 66 the export does not know the user; 2 the id is not of the log's type.
        """
        mine = self._served(user)
        vector = self.vectors(_features(mine), "user")
        ids, vectors = self.items
        if exclude_seen and mine["seen_items"][0] is not None:
            keep = ~ids.is_in(mine["seen_items"][0].implode())
            ids, vectors = ids.filter(keep), vectors[keep.to_numpy()]
        rows, dots = top_k(vector, vectors, k)
        found = {"item_id": ids.gather(rows[0]), "score": self.score(dots[0])}
        if "exposure" in self.blocks:
            part = {name: (vector[0, at] * vectors[rows[0], at]).sum(1) for name, at in self.blocks.items()}
            found |= {"exposure": part["exposure"], "preference": self.score(part["preference"])}
        return pl.DataFrame(found)

    def _served(self, user: str) -> pl.DataFrame:
        """The one row of `users` of a user. Raises UserError as `recommend` does."""
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
        return mine


def _features(users: pl.DataFrame) -> pl.DataFrame:
    """Raw features by feature name, of rows of users.parquet."""
    named = {c: c.removeprefix("feature.") for c in users.columns if c.startswith("feature.")}
    return users.select(named.keys()).rename(named)
