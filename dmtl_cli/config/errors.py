"""How a stage that cannot go on ends: a user's mistake in one line, with an exit code; or nothing to do yet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from itertools import islice

from dmtl_cli.config.secrets import masked

ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""what ends a process, and is no Exception. A library's panic, as of polars over damaged bytes, is none either, but an
error as any other"""
_MOST = 10_000
"""characters of a message that are kept, for the log"""
_SOME = 2
"""ids that are named where there are many"""
_SEPARATORS = re.compile("[._-]")
"""between the words of a name"""


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

    Whatever it quotes: credentials are masked, and of a very long text the beginning is kept.

    Args:
        message: what is wrong and where (file, column, row or config line).
        hint: what to do about it.
        code: the documented exit code.
        others: further mistakes of the same kind, for the log.
    """

    def __init__(self, message: str, hint: str = "", code: Exit = Exit.DATA, others: tuple[str, ...] = ()) -> None:
        self.message, self.hint, self.code = masked(message[:_MOST]), masked(hint[:_MOST]), code
        self.others = tuple(masked(other[:_MOST]) for other in others)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[type[UserError], tuple[object, ...]]:
        return type(self), (self.message, self.hint, self.code, self.others)

    def line(self) -> str:
        """One line of at most 400 printable characters, whatever the message contains."""
        more = f" (and {len(self.others)} more, see the log)" if self.others else ""
        said = f"dmtl: error: {self.message}{more}{'; ' + self.hint if self.hint else ''}"
        text = printable(" ".join(said.split()))
        return short(text, 400)


def such_as(ids: Iterable[object]) -> str:
    """` (such as a, b)`: two of some ids, which a person can look up; nothing of none."""
    some = [printable(str(one)) for one in islice(ids, _SOME)]
    return f" (such as {', '.join(some)})" if some else ""


JOINERS = "\u200c\u200d"
"""have two letters stand apart or together within a word, or signs make one"""


def short(text: str, most: int) -> str:
    """A text of at most so many characters; of a longer one the beginning and three dots."""
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    """The text with an escape in place of what a terminal would obey or hide: control characters, marks that turn the
    direction of writing, half of a surrogate pair. Joiners stay, with which Persian and Hindi are spelt."""
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text)


class NotDue(Exception):
    """A stage has nothing to do yet (`not due`): exit 0, nothing published."""


def folded(text: str) -> str:
    """A text without what people write in several ways: case, accents and spaces."""
    import unicodedata

    if text.isascii():
        return "".join(text.lower().split())
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join("".join(c for c in parts if not unicodedata.combining(c)).split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the known word nearest to a mistyped one; "" where none is near.

    One is near that differs by case, accents, spaces and `.`, `_` or `-` alone, or by few letters. Of words with dots,
    such as context.experiment.arm, the last parts are to be near too then: the others are the same for many."""
    import difflib

    names = {folded(other): other for other in reversed([*known])}
    joined = {_SEPARATORS.sub("", plain): other for plain, other in names.items()}
    if (same := joined.get(_SEPARATORS.sub("", folded(word)))) is not None:
        return f", did you mean {same}?"
    last = folded(word).rsplit(".", 1)[-1]
    near = [plain for plain in names if difflib.get_close_matches(last, [plain.rsplit(".", 1)[-1]], 1)]
    close = difflib.get_close_matches(folded(word), near, 1)
    return f", did you mean {names[close[0]]}?" if close else ""
