"""What one export answers: requests of the server as plain Python, without HTTP.

An `Answers` never changes but for what it remembers, so that threads share one and a request keeps to the one that it
began with.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.serving.attributes import Attributes
from dmtl_cli.serving.export import Export, raw_features
from dmtl_cli.serving.given import frame_of, of_somebody_new
from dmtl_cli.serving.ids import typed_ids
from dmtl_cli.serving.places import Places
from dmtl_cli.serving.requests import Recommend, Row, Vectors
from dmtl_cli.serving.search import Floats, Ints

Answer = dict[str, Any]
_ENCODED = 1 << 14  # users whose encoded features are kept: some KB each


class Refused(Exception):
    """A request that cannot be answered, in one line, with the status of HTTP that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Users:
    """The users of an export, with the vectors of those who were asked for before."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._stored = export.users
        self._raw = raw_features(self._stored)
        self._places = Places(self._stored["user_id"])
        width = export.items[1].shape[1]
        self._vectors: Floats = np.zeros((len(self._stored), width), np.float32)  # memory is taken when it is written
        self._made = np.zeros(len(self._stored), np.bool_)
        self.encoded = lru_cache(_ENCODED)(partial(_encoded, export, self._raw))
        """[1] the features of the user of a row, -1 of one who is not known, before those of a request"""

    def __len__(self) -> int:
        return len(self._stored)

    def rows(self, users: list[str]) -> Ints:
        """[n] the row of each user, -1 of one who is not known. Raises Refused 400: no id of the export's type."""
        return self._places.rows(_ids(users, self._export.user_ids, "user"))

    def vectors(self, rows: Ints) -> Floats:
        """[n, d] of known users, computed once."""
        if len(missing := rows[~self._made[rows]]):
            self._vectors[missing] = self._export.vectors(_some(self._raw, missing), "user")
            self._made[missing] = True
        return self._vectors[rows]

    def seen(self, rows: Ints) -> pl.Series:
        """[n] ids of items that each user has seen, as the export says; null of row -1."""
        return self._stored["seen_items"].gather(pl.Series(rows).set(pl.Series(rows < 0), None))


@dataclass(frozen=True)
class Answers:
    """An export that is served."""

    export: Export
    day: dt.date
    run_id: str
    users: Users
    attributes: Attributes
    since: float = field(default_factory=time.monotonic)

    @property
    def identity(self) -> Answer:
        return {"day": str(self.day), "run_id": self.run_id, "key": self.export.key}

    def recommend(self, asked: Recommend) -> Answer:
        """As `Recommended`. Raises Refused: 400, 404 a user who is not known, and no features."""
        names: list[str | None] = [*asked.users] if asked.users else [asked.user]
        known = np.full(1, -1) if names == [None] else self.users.rows([n for n in names if n is not None])
        if asked.user is not None and known[0] < 0 and asked.features is None:
            raise Refused(404, f"user {asked.user!r} is not in the export of {self.day}, and no features are given")
        if asked.features is None:
            answered = np.flatnonzero(known >= 0)
            vectors = self.users.vectors(known[answered])
        else:
            answered = np.zeros(1, np.int64)
            vectors = self._of_features(asked.user, int(known[0]), asked.features)
        lists = self._lists(asked, vectors, known[answered]) if len(answered) else []
        found = dict(zip(answered.tolist(), lists, strict=True))
        results = [
            {"user": name, "known": bool(row >= 0), "items": found.get(n, [])}
            for n, (name, row) in enumerate(zip(names, known, strict=True))
        ]
        return {"export": self.identity, "results": results}

    def vectors(self, asked: Vectors) -> Answer:
        """As `Made`. Raises Refused 400."""
        rows: list[Row] = [{**self.export.unseen(asked.side), **row} for row in asked.rows]
        return {"export": self.identity, "vectors": self._of_values(rows, asked.side).tolist()}

    def _lists(self, asked: Recommend, vectors: Floats, known: Ints) -> list[list[Answer]]:
        """The items of each of some users [n], who are at rows `known` of the users."""
        if asked.kappa is not None:
            try:
                vectors = self.export.with_kappa(vectors, asked.kappa)
            except UserError as e:
                raise Refused(400, f"kappa: {_said(e)}") from None
        among = self._among(asked) if asked.filter else None
        seen = self.users.seen(known) if asked.exclude_seen else None
        rows, dots = self.export.search(vectors, asked.k, exclude=seen, without=self._excluded(asked), among=among)
        owner, place = np.nonzero(rows >= 0)
        found = rows[owner, place]
        columns: dict[str, list[Any]] = {
            "item_id": self.export.items[0].gather(found).cast(pl.String).to_list(),
            "score": self.export.score(dots[owner, place]).tolist(),
            **{name: part.tolist() for name, part in self.export.parts(vectors[owner], found).items()},
        }
        items = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        ends = np.cumsum((rows >= 0).sum(1))
        return [items[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _among(self, asked: Recommend) -> Any:
        try:
            return self.attributes.mask(asked.filter)
        except UserError as e:
            raise Refused(400, _said(e)) from None

    def _excluded(self, asked: Recommend) -> Ints:
        """Rows of items that nobody gets."""
        rows = self.export.item_rows(_ids(asked.exclude, self.export.items[0].dtype, "exclude"))
        return np.unique(rows[rows >= 0])

    def _of_features(self, user: str | None, row: int, values: Row) -> Floats:
        """[1, d] of the values of a request, in place of those of who is at a row; -1: of somebody new."""
        encoder = self.export.encoder
        values = values if row >= 0 else of_somebody_new(encoder, user, values, {})
        try:
            given = frame_of(encoder, [values], "user", whole=False)
            return self.export.vectors_of(self.users.encoded(row), "user", given)
        except UserError as e:
            raise Refused(400, _said(e)) from None

    def _of_values(self, rows: list[Row], side: str) -> Floats:
        """Vectors of raw values as they were sent; what is not named is null."""
        try:
            return self.export.vectors(frame_of(self.export.encoder, rows, side), side)
        except UserError as e:
            raise Refused(400, _said(e)) from None


def _encoded(export: Export, users: pl.DataFrame, row: int) -> Encoded:
    """No method: an export that is not served any more would wait for garbage to be collected."""
    raw = users[row : row + 1] if row >= 0 else frame_of(export.encoder, [export.unseen("user")], "user")
    return export.encoder.encode(raw, "user")


def _some(frame: pl.DataFrame, rows: Ints) -> pl.DataFrame:
    """Rows of a frame; one is sliced, as a gather of a million lists takes 50 ms."""
    return frame[int(rows[0]) : int(rows[0]) + 1] if len(rows) == 1 else frame[rows]


def _ids(ids: list[str], kind: pl.DataType, where: str) -> pl.Series:
    """As `typed_ids`. Raises Refused 400."""
    try:
        return typed_ids(ids, kind)
    except ValueError as e:
        raise Refused(400, f"{where}: {e}") from None


def _said(e: UserError) -> str:
    return f"{e.message}; {e.hint}" if e.hint else e.message
