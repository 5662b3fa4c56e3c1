"""What was found of the columns of a frame is found once, for as long as the frame is there."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

P = ParamSpec("P")
T = TypeVar("T")


def remembered(of: Callable[Concatenate[pl.DataFrame, P], T]) -> Callable[Concatenate[pl.DataFrame, P], T]:
    """A function of a frame, which nobody changes, and of hashable values, that is asked for the same ones many times
    and gives what nobody changes. Nothing keeps the frame: what is known of it goes as it goes."""
    known: dict[int, tuple[weakref.ref[pl.DataFrame], dict[Hashable, T]]] = {}

    @functools.wraps(of)
    def asked(frame: pl.DataFrame, /, *args: P.args, **named: P.kwargs) -> T:
        place, key = id(frame), (args, tuple(sorted(named.items())))
        if place not in known:
            known[place] = weakref.ref(frame, lambda _: known.pop(place, None)), {}
        answers = known[place][1]
        if key not in answers:
            answers[key] = of(frame, *args, **named)
        return answers[key]

    return asked


@remembered
def codes(frame: pl.DataFrame, column: str) -> npt.NDArray[np.int64]:
    """[n] the same number, from 0 on, for rows of one value (by its 64-bit hash); -1 for rows without one, as where
    text is empty."""
    v = pl.col("v")  # a column may be called *, which pl.col takes for all of them
    there = v.is_not_null() & (v != "") if frame.schema[column] == pl.String else v.is_not_null()
    ranked = pl.when(there).then(v.hash()).rank("dense").cast(pl.Int64).fill_null(0) - 1
    return np.asarray(frame[column].to_frame("v").select(ranked).to_series().to_numpy(), np.int64)
