"""Towers, users and items of an export, read back: what does not fit the others is 65, no server may start with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dmtl_cli.data.features.layout import Layout
from dmtl_cli.data.features.row_groups import RowGroups
from dmtl_cli.runs.contents import decoding
from dmtl_cli.serving.opening import check_weights
from dmtl_cli.serving.vectors import check_ids

USERS, ITEMS = "users.parquet", "items.parquet"


def input_names(layout: Layout) -> tuple[str, ...]:
    """Inputs of a tower: ids [N, C], sequence_k [N, L_k], floats [N, F]; only those that the side has."""
    return tuple(_widths(layout))


def _widths(layout: Layout) -> dict[str, int]:
    """Columns of each input."""
    widths = {"ids": len(layout.ids)} if layout.ids else {}
    widths |= {f"sequence_{k}": length for k, (_, length) in enumerate(layout.sequences)}
    return widths | ({"floats": layout.floats} if layout.floats else {})


def open_tower(folder: Path, side: str, layout: Layout, rows: Mapping[str, int], width: int | None) -> Any:
    """A session of onnxruntime.

    Args:
        rows: of each embedding.
        width: of the stored item vectors; None: not known.

    Raises:
        UserError: 65 it is damaged; its inputs are not the layout's; its table has other rows; its vectors another
            length.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same sums in the same order on every machine
    options.log_severity_level = 4  # what is wrong with a file is raised, not printed
    path = folder / f"{side}_tower.onnx"
    with decoding(path):
        check_weights(path, layout, rows)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs, expected = {given.name: given.shape[1] for given in session.get_inputs()}, _widths(layout)
        if inputs != expected:
            raise ValueError(f"expected the inputs {_said(expected)}, got {_said(inputs)}")
        made = session.get_outputs()[0].shape[1]
        if width is not None and made != width:
            raise ValueError(f"expected vectors of {width} numbers, as the items have, got {made}")
        return session


def _said(widths: Mapping[str, object]) -> str:
    return ", ".join(f"{name} [n, {width}]" for name, width in sorted(widths.items()))


def read_users(folder: Path, ids: pl.DataType, items: pl.DataType, features: Sequence[str]) -> pl.DataFrame:
    """users.parquet. Raises UserError 65: a column is missing or of another type, no user, or one twice."""
    path = folder / USERS
    with decoding(path):
        frame = pl.read_parquet(path, glob=False).rechunk()  # else rows of some users are gathered slowly
        _check_users(frame, ids, items, features)
        if not len(frame):
            raise ValueError("it has no user")
        return frame


def clicked_of(users: pl.DataFrame) -> pl.Series:
    """[n] the list of items that each user of an export clicked on its day."""
    return users["clicked_items" if "clicked_items" in users.columns else "seen_items"]


def read_items(folder: Path, ids: pl.Series) -> pl.DataFrame:
    """items.parquet. Raises UserError 65: its items are not those of the vectors, one by one."""
    path = folder / ITEMS
    with decoding(path):
        frame = pl.read_parquet(path, glob=False)
        if not frame["item_id"].equals(ids):
            raise ValueError("expected the items of item_vectors.parquet in their order")
        return frame


class StoredUsers:
    """users.parquet, of which only the row groups are read that may hold the users looked for."""

    def __init__(self, folder: Path, ids: pl.DataType, items: pl.DataType, features: Sequence[str]) -> None:
        self.path, self._expected = folder / USERS, (ids, items, features)
        with decoding(self.path):
            self._groups = RowGroups(self.path, "user_id")
            if not self._groups.rows:
                raise ValueError("it has no user")
            self.example: int | str = self.read(self._groups.first())["user_id"][0]

    def __len__(self) -> int:
        return self._groups.rows

    def among(self, ids: pl.Series) -> pl.DataFrame:
        """The rows of some users, in the order of the file; who is not there has none. Raises UserError 65."""
        with decoding(self.path):
            return self.read(self._groups.among(ids.drop_nulls()))

    def seen(self, ids: pl.Series) -> pl.DataFrame:
        """Of the same rows `user_id` and `seen_items` alone; ids of another type are nobody's. Raises UserError 65."""
        ids = ids if ids.dtype == self._expected[0] else ids.clear().cast(self._expected[0])
        with decoding(self.path):
            return self._groups.among(ids.drop_nulls(), ["user_id", "seen_items"])

    def read(self, frame: pl.DataFrame) -> pl.DataFrame:
        _check_users(frame, *self._expected)
        return frame


def _check_users(frame: pl.DataFrame, ids: pl.DataType, items: pl.DataType, features: Sequence[str]) -> None:
    check_ids(frame, "user_id", ids)
    if frame.schema["seen_items"] != pl.List(items):
        raise ValueError(f"seen_items: expected lists of {items}, got {frame.schema['seen_items']}")
    if missing := [name for name in features if f"feature.{name}" not in frame.columns]:
        raise ValueError(f"no column feature.{missing[0]}")
