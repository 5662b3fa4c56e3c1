"""What refuses a run before it is published: today the floors of a student's coverage."""

from __future__ import annotations

from dmtl_cli.config.errors import Exit, UserError


def refuse_below(value: float, floor: float, what: str, hint: str) -> None:
    """Raises UserError 80: `value` is below its floor."""
    if value < floor:
        raise UserError(what, hint, Exit.REFUSED)
