"""Where rows end in a CSV, as Arrow reads its quotes: one that begins a value holds newlines until the one that ends
it, one within a value is a character of it. What follows an escape is of the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def row_of(separator: str, quote: str | None, escape: str | None) -> re.Pattern[bytes]:
    """A whole row, its newline included."""
    s, e = (re.escape((sign or "").encode()) for sign in (separator, escape))
    one = rb"|%b(?s:.)" % e if e else b""  # that is escaped
    plain = rb"(?:[^%b%b\n]++%b)*+" % (s, e, one)
    if quote is None:
        return re.compile(rb"(?:%b%b)*+%b\n" % (plain, s, plain) if e else rb"[^\n]*+\n")
    q = re.escape(quote.encode())
    quoted = rb"%b(?:[^%b%b]++|%b%b%b)*+%b%b" % (q, q, e, q, q, one, q, plain)
    value = rb"(?:%b|(?!%b)%b)" % (quoted, q, plain)
    return re.compile(rb"(?:%b%b)*+%b\n" % (value, s, value))


def end_of_rows(row: re.Pattern[bytes], signs: Sequence[str | None]) -> Callable[[bytes], int]:
    """Where the last whole row of a text ends.

    Args:
        signs: the quote and the escape: a text without them has a row a line.
    """
    rows = re.compile(rb"(?:%b)*+" % row.pattern)
    special = [sign.encode() for sign in signs if sign]

    def end(text: bytes) -> int:
        if not any(sign in text for sign in special):
            return text.rfind(b"\n") + 1
        found = rows.match(text)
        return found.end() if found else 0

    return end
