"""`evaluate`: how much of a day is measured."""

from __future__ import annotations

from dmtl_cli.config.section import Positive, Section


class Evaluate(Section):
    max_users: Positive = 20_000
    """users of a day whose retrieval is measured; of more, a seeded sample"""
    teacher_users: Positive = 500
    """of these, users for whom a teacher's retrieval is measured: it scores the whole catalogue for each"""
    max_rows: Positive = 2_000_000
    """events of a day that are scored and ranked; for a larger day those of a seeded sample of its users"""
