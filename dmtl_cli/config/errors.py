"""How a stage that cannot go on ends: a user's mistake in one line, with an exit code; or nothing to do yet."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes a cron job can rely on (sysexits.h where one fits)."""

    USAGE = 2
    DATA = 65  # schema, labels, checksum, wrong or stale parent
    NO_INPUT = 66  # not there or empty: retry later
    NO_DEVICE = 69
    BUG = 70
    CANNOT_CREATE = 73
    IO = 74  # disk full, read error, storage away: retry
    LOCKED = 75  # another run holds the lock: retry
    CONFIG = 78
    REFUSED = 80  # a gate or floor was not met: yesterday's artifact stays served
    STALE = 81


class UserError(Exception):
    """A mistake in the input, said in one line: what was expected, what came, where; then what to do.

    Args:
        message: what is wrong and where (file, column, row or config line).
        hint: what to do about it.
        code: the documented exit code.
        others: further mistakes of the same kind, for the log.
    """

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.DATA, others: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.code, self.others = message, hint, code, others

    def __reduce__(self) -> tuple[type[UserError], tuple[object, ...]]:
        return type(self), (self.message, self.hint, self.code, self.others)

    def line(self) -> str:
        """One line of at most 400 characters, whatever the message contains."""
        more = f" (and {len(self.others)} more, see the log)" if self.others else ""
        text = " ".join(f"dmtl: error: {self.message}{more}{'; ' + self.hint if self.hint else ''}".split())
        text = printable(text)
        return text if len(text) <= 400 else text[:397] + "..."


def printable(text: str) -> str:
    """A text as a terminal may show it: control and format characters, as of a hostile id or file, are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class NotDue(Exception):
    """A stage has nothing to do yet (`not due`): exit 0, nothing published."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the known word nearest to a mistyped one; "" where none is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""
