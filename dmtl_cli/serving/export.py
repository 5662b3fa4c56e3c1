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
from dmtl_cli.serving.files import StoredUsers, clicked_of, input_names, open_tower, read_items, read_users
from dmtl_cli.serving.given import Values, frame_of, of_somebody_new
from dmtl_cli.serving.ids import typed_ids
from dmtl_cli.serving.index import Index
from dmtl_cli.serving.opening import UNSEEN, check_described, check_files, find, key_of
from dmtl_cli.serving.places import Places
from dmtl_cli.serving.search import Floats, Ints, Pairs, top_k
from dmtl_cli.serving.vectors import MAPPED, MappedVectors, read_ids

_BLOCK = 8_192  # rows computed at a time


class Export:
    """A published export directory.

    Args:
        folder: of one run, whose files are taken as they are but for their keys.
        lazily: whether a file is read when it is needed first, and of vocabularies and users a few rows at a time.

    Raises:
        UserError: 65 files of two runs; a file that is missing or makes no sense.
    """

    def __init__(self, folder: Path | str, *, lazily: bool = False) -> None:
        self.folder = folder = Path(folder)
        self.key = key_of(folder)
        """of the run that all files are of; None of an export of an earlier version"""
        self.encoder = Encoder.read(folder, lazily=lazily)
        self.described = read_json(folder / "features.json")
        with decoding(folder / "features.json"):
            check_described(self.described, self.encoder)
        self._mapped = MappedVectors(folder)
        self._sessions: dict[str, Any] = {}
        for side in () if lazily else ("user", "item"):
            self._session(side)

    @staticmethod
    def open(root: Path | str, verify: bool = True) -> Export:
        """The export that a server serves.

        Args:
            root: a workspace, its export/, or the folder of one export. LATEST is followed once.
            verify: whether every byte is hashed against the manifest, and towers and vocabularies are read; else sizes
                and keys are compared, and the rest is read when it is needed.

        Raises:
            UserError: 66 there is none; 65 it is not whole, of two runs, or makes no sense; 74.
        """
        folder = find(Path(root))
        check_files(folder, hashes=verify)
        return Export(folder, lazily=not verify)

    def load(self) -> Export:
        """Reads whatever requests need: towers, vectors, index, users and vocabularies. Returns itself."""
        for side in ("user", "item"):
            self._session(side)
        for vocabulary in self.encoder.vocabularies.values():
            _ = vocabulary.rows
        _ = self.items, self.users, self._index, self._places
        return self

    def _session(self, side: str) -> Any:
        if side not in self._sessions:
            rows, width = self.described["embedding_rows"], self._mapped.width
            self._sessions[side] = open_tower(self.folder, side, self.encoder.layout(side), rows, width)
        return self._sessions[side]

    @property
    def blocks(self) -> dict[str, slice]:
        """Where in a vector each block is: `preference` and, where it is served, `exposure`: what is shown to whom."""
        stored: dict[str, list[int]] = self.described.get("blocks", {"preference": [0, None]})
        return {name: slice(*span) for name, span in stored.items()}

    @property
    def kappa(self) -> float:
        """By what the exposure block counts in the score beside the preference; 0 where it is not served."""
        return float(self.described.get("kappa", 0.0))

    def unseen(self, side: str) -> dict[str, float]:
        """By feature of a side what it is of who has no event yet, as in training: 0 of a count, its prior of a rate;
        others are null. Empty in an export of an earlier version."""
        known: dict[str, float] = self.described.get(UNSEEN, {})
        return {f.name: known[f.name] for f in self.encoder.features_of_side(side) if f.name in known}

    # -- items and users -----------------------------------------------------------------------------------------------

    @cached_property
    def items(self) -> tuple[pl.Series, Floats]:
        """(item ids [I], vectors [I, d]) as served; float32 vectors are mapped, others become float32."""
        ids = read_ids(self.folder, self._ids("item"), self._mapped.rows)
        return ids, self._mapped.read().floats()

    @cached_property
    def _index(self) -> Index | None:
        ids, found = self.items
        return Index(self.folder, len(ids), found.shape[1]) if Index.usable(self.folder) else None

    @cached_property
    def _places(self) -> Places:
        return Places(self.items[0])

    @cached_property
    def item_features(self) -> pl.DataFrame:
        """[I] raw features of `items` by feature name, but for those of kind vector."""
        return raw_features(read_items(self.folder, self.items[0]))

    @cached_property
    def users(self) -> pl.DataFrame:
        """user_id, seen_items, where these are of several days clicked_items, those of the export's own, and served raw
        features as `feature.<name>`."""
        return read_users(self.folder, self._ids("user"), self._ids("item"), self._named)

    @cached_property
    def stored_users(self) -> StoredUsers:
        """The same, read a few users at a time."""
        return StoredUsers(self.folder, self._ids("user"), self._ids("item"), self._named)

    @property
    def _named(self) -> list[str]:
        return [f.name for f in self.encoder.features_of_side("user", per_event=False)]

    def _ids(self, side: str) -> pl.DataType:
        return pl.String() if self.encoder.id_kinds[side] == "string" else pl.Int64()

    @property
    def user_ids(self) -> pl.DataType:
        """Int64 or String."""
        return self._ids("user")

    @property
    def clicks(self) -> pl.DataFrame:
        """How many users clicked each item on the export's day: `item_id`, `clicks`; only items that were clicked."""
        ids = clicked_of(self.users).drop_nulls().explode()
        return ids.alias("item_id").value_counts(sort=False, name="clicks").sort("item_id")

    @property
    def user_features(self) -> pl.DataFrame:
        """Raw features of the served users by feature name, in the order of `users`."""
        return raw_features(self.users)

    def vectors(self, frame: pl.DataFrame, side: str, given: pl.DataFrame | None = None) -> Floats:
        """Raw features of N users or items (columns by feature name) -> [N, d] through the ONNX tower.

        They need not have been there when the student learned: an unknown id is out of vocabulary, and the other
        features tell what is known. So an item gets the vector it is retrieved by before anybody has seen it.

        Args:
            side: user or item.
            given: [N] values in place of those of `frame`, where they are not null.

        Raises:
            UserError: 65 a feature of the side has no column; the column of an unknown value has a null; a vector
                is not finite.
        """
        missing = [f.name for f in self.encoder.features_of_side(side) if f.name not in frame.columns]
        if missing:
            what = f"vectors of {side}s: no column {', '.join(missing)} among {', '.join(frame.columns[:12])}"
            raise UserError(what, "give every feature a column by its name; null where it is not known")
        encoded = self.encoder.encode(frame, side)
        return self._run(encoded if given is None else self.encoder.replaced(encoded, side, given, nulls=False), side)

    def vectors_of(self, encoded: Encoded, side: str, given: pl.DataFrame) -> Floats:
        """`vectors` [N, d] of users or items who are encoded already, with values [N] of some features in place of
        theirs; null: unknown. Raises UserError 65: a value is of another kind; a vector is not finite."""
        return self._run(self.encoder.replaced(encoded, side, given, nulls=True), side)

    def _run(self, encoded: Encoded, side: str) -> Floats:
        names = input_names(self.encoder.layout(side))
        session = self._session(side)
        out = []
        for start in range(0, max(1, len(encoded)), _BLOCK):  # runs once without rows too, for the length of vectors
            part = encoded.take(np.arange(start, min(start + _BLOCK, len(encoded))))
            every = {"ids": part.ids.astype(np.int64), "floats": part.floats}
            every |= {f"sequence_{k}": s.astype(np.int64) for k, s in enumerate(part.sequences)}
            with decoding(self.folder / f"{side}_tower.onnx"):
                vectors = session.run(None, {n: every[n] for n in names})[0]
            if not np.isfinite(vectors).all():
                what = f"vectors of {side}s: not finite, of finite numbers"
                raise UserError(what, "give numbers of the size that they have in the log; is the export verified?")
            out.append(vectors)
        return np.concatenate(out)

    def part(self, vectors: Floats, block: str) -> Floats:
        """One block of vectors [N, d]. `score` of the preference's dot products is the preference's logit; those of
        `exposure` are, over kappa, how likely the item is shown, in logarithms and up to a number of the user, weighed
        by what was read (`student.exposure.weights`).

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

    # -- retrieval -----------------------------------------------------------------------------------------------------

    def recommend_rows(
        self,
        frame: pl.DataFrame,
        k: int,
        *,
        given: pl.DataFrame | None = None,
        exclude: pl.Series | None = None,
        among: npt.NDArray[np.bool_] | None = None,
        kappa: float | None = None,
    ) -> pl.DataFrame:
        """The k best items of users given by their raw features, known or not: what one user, a batch and a server get.

        Args:
            frame, given: [n] raw features, columns by feature name, as `vectors` takes them.
            exclude: [n] lists of item ids that a user must not get, or null.
            among: [I] whether an item of `items` may be given at all.
            kappa: how much of what is shown counts, in place of the export's.

        Returns:
            `row` (of `frame`), `rank` (from 1), `item_id` and `score`, best first; with an exposure block also the two
            parts that a score is the sum of, `exposure` and `preference` (a logit). Fewer than k where no more are
            left.

        Raises:
            UserError: 65 as `vectors` and `with_kappa`; the files make no sense.
        """
        users = self.vectors(frame, "user", given)
        users = users if kappa is None else self.with_kappa(users, kappa)
        rows, dots = self.search(users, k, exclude=exclude, among=among)
        ids = self.items[0]
        owner, place = np.nonzero(rows >= 0)
        found_rows = rows[owner, place]
        found = {
            "row": owner.astype(np.int64),
            "rank": (place + 1).astype(np.int32),
            "item_id": ids.gather(found_rows),
            "score": self.score(dots[owner, place]),
        }
        return pl.DataFrame(found | self.parts(users[owner], found_rows))

    def parts(self, users: Floats, rows: Ints) -> dict[str, npt.NDArray[Any]]:
        """What the scores of vectors of users [n, d] and rows of `items` [n] are the sum of: `exposure` [n] and
        `preference` [n], a logit; nothing where the export has one block.
        """
        if "exposure" not in self.blocks:
            return {}
        items = self.items[1]
        part = {name: (users[:, at] * items[rows, at]).sum(1) for name, at in self.blocks.items()}
        return {"exposure": part["exposure"], "preference": self.score(part["preference"])}

    def search(
        self,
        users: Floats,
        k: int,
        *,
        exclude: pl.Series | None = None,
        without: Ints | None = None,
        among: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Ints, Floats]:
        """Rows of `items` [n, k] and dot products [n, k] of vectors of users [n, d], best first, ties by row; -1 and
        -inf behind the last where fewer are left.

        By the export's index, where it has one and faiss is installed: it is asked for as many more as a user excludes,
        and looks deeper for them. All items are compared with `among`, for a user who excludes many, and for one who
        would get fewer than k of it. Nothing of a user's list depends on who else is asked for.

        Args:
            exclude: as of `recommend_rows`.
            without: rows of `items` that no user must get.
            among: as of `recommend_rows`.
        """
        items = self.items[1]
        k = min(k, len(items))
        without = np.zeros(0, np.int64) if without is None else without
        barred = self._barred(exclude) if exclude is not None else Pairs(without[:0], without[:0])
        rows, dots = np.full((len(users), k), -1), np.full((len(users), k), -np.inf, np.float32)
        if self._index is not None and among is None:
            reach = self._index.reach(k + len(without) + np.bincount(barred.user, minlength=len(users)))
            taken = barred.user * len(items) + barred.item
            for each in {*reach.tolist()} - {0}:
                some = np.flatnonzero(reach == each)
                found, scores = self._index.search(users[some], each)
                if len(taken):
                    found, scores = _allowed(found, scores, np.isin(some[:, None] * len(items) + found, taken))
                if len(without):
                    found, scores = _allowed(found, scores, np.isin(found, without))
                rows[some], dots[some] = found[:, :k], scores[:, :k]
        short = np.flatnonzero((rows < 0).any(1))
        if len(short):
            if len(without):
                among = np.ones(len(items), np.bool_) if among is None else among.copy()
                among[without] = False
            mine = barred if len(short) == len(users) else barred.among(short)
            with decoding(self.folder / MAPPED):
                rows[short], dots[short] = top_k(users[short], items, k, mine, among)
        return rows, dots

    def _barred(self, exclude: pl.Series) -> Pairs:
        """Users' rows and the rows of the items that they exclude; ids that are no item are left out."""
        lists = exclude.cast(pl.List(self._ids("item")))
        lengths = lists.list.len().fill_null(0)
        found = self.item_rows(lists.filter(lengths > 0).explode())
        users = np.repeat(np.arange(len(lists)), lengths.to_numpy())
        return Pairs(users[found >= 0], found[found >= 0])

    def item_rows(self, ids: pl.Series) -> Ints:
        """[n] where in `items` some ids are; -1 where they are not."""
        return self._places.rows(ids)

    def recommend(
        self,
        user: str | None,
        k: int,
        *,
        exclude_seen: bool = False,
        values: Values | None = None,
        among: npt.NDArray[np.bool_] | None = None,
        kappa: float | None = None,
    ) -> pl.DataFrame:
        """The k best items of one user: item_id and score, best first; with an exposure block also the two parts that a
        score is the sum of, `exposure` and `preference` (a logit).

        Args:
            user: a user id as text, whatever its type in the log; None: a guest, with `values`.
            exclude_seen: leave out what the user has seen, as `export.seen` and `seen_days` say.
            values: raw values by feature name as JSON has them, in place of what is stored of the user, or of somebody
                who is not served.
            among, kappa: as of `recommend_rows`.

        Raises:
            UserError: 66 the export does not know the user, and there are no values; 2 the id is not of the log's type;
                65 a value that the export does not take.
        """
        mine = pl.DataFrame() if user is None else self.served(user)
        stored = raw_features(mine) if len(mine) else None
        if stored is None and values is None:
            users = self.stored_users
            hint = f"users.parquet holds {len(users)} users, e.g. {users.example}; somebody new by --feature NAME=VALUE"
            raise UserError(f"user {user} is not in the export {self.folder}", hint, Exit.NO_INPUT)
        if stored is None:
            values = of_somebody_new(self.encoder, user, values or {}, self.unseen("user"))
        given = frame_of(self.encoder, [values or {}], "user", whole=stored is None)
        rows = given if stored is None else stored.with_columns(given.get_columns())
        seen = mine["seen_items"] if exclude_seen and stored is not None else None
        return self.recommend_rows(rows, k, exclude=seen, among=among, kappa=kappa).drop("row", "rank")

    def served(self, user: str) -> pl.DataFrame:
        """The row of `users` of a user, none of who is not there. Raises UserError 2: the id is not of the log's
        type."""
        try:
            ids = typed_ids([user], self.user_ids)
        except ValueError as e:
            raise UserError(f"--user: {e}", code=Exit.USAGE) from None
        return self.stored_users.among(ids)


def _allowed(rows: Ints, dots: Floats, out: npt.NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Without those that are out, what is left [n, K] in its order; -1 and -inf behind the last."""
    rows, dots = np.where(out, -1, rows), np.where(out, np.float32(-np.inf), dots)
    order = np.argsort(rows < 0, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1), np.take_along_axis(dots, order, 1)


def raw_features(users: pl.DataFrame) -> pl.DataFrame:
    """Raw features by feature name, of rows of users.parquet or items.parquet."""
    named = {c: c.removeprefix("feature.") for c in users.columns if c.startswith("feature.")}
    return users.select(named.keys()).rename(named)
