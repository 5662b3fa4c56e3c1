"""How much memory a whole run of a day takes at its peak, from what each stage holds at once."""

from __future__ import annotations

from dataclasses import dataclass

from dmtl_cli.data.log.values import sizes
from dmtl_cli.scores.writer import AT_ONCE, SORTED
from dmtl_cli.student.export.files import SPREAD
from dmtl_cli.student.export.towers import BLOCK
from dmtl_cli.teacher.frozen import KEPT_BYTES
from dmtl_cli.teacher.regression import BATCH

IMPORTS = 560_000_000
"""of a run of next to nothing: Python with torch, Polars, pyarrow, onnx and onnxruntime, and what these allocate"""
_FLOAT, _ID, _ROW = 4, 4, 60  # bytes of a number, of an encoded id, of an event in the spool
_CELL = 80  # bytes of each of their features: slot and value, squared and compact, as they are sorted and learned
_RATED = 300  # bytes of a row that an evaluation measures
_HELD = 1.1  # what an allocator holds of what was given back


@dataclass(frozen=True)
class Side:
    """The users or the items of a day, as they are encoded."""

    rows: int
    places: int
    """of each in an embedding: one a categorical feature, as many as its length a sequence"""
    columns: int
    """vectors that a tower's input is made of: one a feature"""
    floats: int
    table: int
    """bytes of the raw table"""

    @property
    def held(self) -> int:
        """Bytes of memory: the raw table as it is made of parts, and once as numbers that are put together; those of a
        larger side lie in mapped files."""
        numbers = self.rows * (self.places + self.floats)
        return 2 * self.table + 2 * numbers * _ID if self.rows <= sizes.HELD else 0


@dataclass(frozen=True)
class Sizes:
    """What decides the memory of a run; numbers of a day but for `days`."""

    rows: int
    user: Side
    item: Side
    days: int
    """that the chain's first teacher learns"""
    embeddings: int
    """rows of a table"""
    wide: int
    """columns of the teacher's table"""
    outputs: int
    """of the teacher's first layer, for each user and each item"""
    expert: int
    """those of one expert"""
    batch: int
    """rows of a step"""
    scored: int
    """rows of a batch of a dump"""
    scores: int
    """pairs of a dump"""
    preference: int
    """columns of the preference's table"""
    exposure: int
    """columns of the exposure block's table; 0: none"""
    hidden: int
    """outputs of a served tower's layers, all together"""
    vector: int
    """length of a served vector"""
    threads: int
    adam: bool = False


def peak(s: Sizes) -> int:
    """Bytes that a process which runs a day takes at most: the largest stage, above what every stage has."""
    largest = max(_teacher(s), _dump(s), _evaluation(s), _student(s), _export(s))
    return IMPORTS + round((_day(s) + largest) * _HELD)


def _day(s: Sizes) -> int:
    """A day as it is read, and its users and items as numbers."""
    pool = min(s.rows, sizes.POOL * sizes.BLOCK) * _ROW * 3
    return s.user.held + s.item.held + pool


def _table(s: Sizes, columns: int) -> int:
    """A table in training: weights and their optimizer's state, and once more what is drawn first, is a student's
    average while it trains, and is written last."""
    return s.embeddings * (columns * (4 if s.adam else 2) + 1) * _FLOAT


def _teacher(s: Sizes) -> int:
    """A step, in which each thread has an expert of its own; after it the regression, beside the trained table."""
    step = s.batch * s.outputs * _FLOAT * 4 + s.threads * 2 * s.batch * s.expert * _FLOAT
    return _table(s, s.wide) + max(step, _regression(s)) + (s.days - 1) * _day(s)


def _regression(s: Sizes) -> int:
    """A batch of rows as the cells of its users and items."""
    rows = min(s.rows, BATCH)
    return sum(min(rows, side.rows) * (side.places + side.floats) for side in (s.user, s.item)) * _CELL


def _scorer(s: Sizes) -> int:
    """A published teacher and the outputs of the day's items."""
    items = s.item.rows * s.outputs * _FLOAT
    return s.embeddings * s.wide * _FLOAT + (items if items <= KEPT_BYTES else 0)


def _dump(s: Sizes) -> int:
    """Pairs with their scores, and a batch of them in the teacher; or scores as they are sorted."""
    pairs = min(s.scores, AT_ONCE)
    batch = min(pairs, s.scored) * s.outputs * _FLOAT * 3
    return _scorer(s) + max(pairs * 120 + batch, min(s.scores, SORTED) * 150)


def _evaluation(s: Sizes) -> int:
    """Two teachers, of which each scores the whole catalogue, beside the student's vectors of all users and items as
    they are made, put in their places, and with another kappa; and what each model says of each row, with its order."""
    items = s.item.rows * s.outputs * _FLOAT
    teachers = 2 * s.embeddings * s.wide * _FLOAT + (2 * items if items <= KEPT_BYTES else items)
    return teachers + (s.user.rows + s.item.rows) * s.vector * _FLOAT * 3 + s.rows * _RATED


def _student(s: Sizes) -> int:
    """The preference, and then the exposure block beside it, whose batch has a logit for each of its items."""
    logits = s.batch * min(s.item.rows, s.batch + 1024) * _FLOAT * 4 if s.exposure else 0
    return _table(s, s.preference) + (_table(s, s.exposure) if s.exposure else 0) + logits


def _export(s: Sizes) -> int:
    """The student, its towers' copies, a tower as it is written (a message, and its bytes), a block of vectors, and the
    users' table as it is joined and sorted."""
    served = s.embeddings * (s.preference + s.exposure) * _FLOAT
    vectors = (min(s.user.rows, SPREAD) + s.item.rows) * s.vector * _FLOAT * 2
    tables = 2 * (s.user.table + s.item.table)
    return 2 * served + 3 * served // 2 + vectors + tables + max(_block(s, side) for side in (s.user, s.item))


def _block(s: Sizes, side: Side) -> int:
    """Rows of a tower: their places as int64, what these fetch, its input (joined, then normal), and its layers."""
    width = max(s.preference, s.exposure)
    row = side.places * (width * _FLOAT + 16) + side.columns * width * _FLOAT * 2 + s.hidden * _FLOAT * 2
    return min(side.rows, BLOCK) * row
