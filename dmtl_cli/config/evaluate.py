"""`evaluate`: how much of a day is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dmtl_cli.config.section import Positive, Section


class Evaluate(Section):
    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """of a day's work that is its evaluation, at most: of a day for which the other keys would allow more, fewer users
    and rows are measured; 1: no bound but the other keys"""
    max_users: Positive = 20_000
    """users of a day whose retrieval is measured, at most; of more, a sample by the hash of id and day"""
    teacher_users: Positive = 500
    """of these, users for whom a teacher's retrieval is measured, at most: it scores the whole catalogue for each"""
    max_rows: Positive = 2_000_000
    """events of a day that are scored and ranked, at most; for a larger day those of a sample of its users"""
