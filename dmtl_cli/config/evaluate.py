"""`evaluate`: how much of a day is measured."""

from __future__ import annotations

from dmtl_cli.config.section import Positive, Section


class Evaluate(Section):
    max_users: Positive = 500
    """users of a day whose retrieval is measured (a seeded sample); a teacher scores the catalogue for each of them"""
    max_rows: Positive = 2_000_000
    """events of a day that are scored and ranked; for a larger day those of a seeded sample of its users"""
