"""How a CSV is written, as lines of the config with their reasons."""

from __future__ import annotations

from dmtl_cli.data.log.formats.text_rows import separator_of
from dmtl_cli.guess.columns.sql import comment, quoted, scalar
from dmtl_cli.guess.reading.files import CSV
from dmtl_cli.guess.reading.tables import Table
from dmtl_cli.guess.reading.texts import Text

_LONE = "a value begins with a quote that does not end it, yet all lines have as many values: quotes are text"


def csv_lines(table: Table) -> list[str]:
    """`data.csv` of a table; nothing where it is none, or is as any CSV."""
    if table.files.form != CSV:
        return []
    separator, *more = csv_keys(table)
    keys = more if table.written.separator == separator_of(table.files.files[0][0]) else [separator, *more]
    return ["csv:", *(f"  {key}{why and f'  # {why}'}" for key, why in keys)] if keys else []


def csv_keys(table: Table) -> list[tuple[str, str]]:
    """(key and value, reason) of how a CSV is written; the separator first."""
    text = table.written
    keys = [(f"separator: {quoted(text.separator)}", "")]
    if text.encoding != "utf-8":
        keys.append((f"encoding: {text.encoding}", encoded(text)))
    if not text.quoted:
        keys.append(("quote_char: null", "" if text.separator < "\t" or len(text.separator) > 1 else _LONE))
    if text.decimal != ".":
        keys.append((f"decimal: {quoted(text.decimal)}", "numbers such as 49,8"))
    if text.thousands is not None:
        keys.append((f"thousands: {quoted(text.thousands)}", f"numbers such as 1{text.thousands}494{text.decimal}90"))
    keys += [('escape_char: "\\\\"', "it stands before a separator that is of a value")] * text.escaped
    if not text.header:
        names = ", ".join(map(scalar, table.names or ()))
        by = f"those of {comment(text.source)}" if text.source else "names by place and values, check them"
        keys.append((f"columns: [{names}]", f"the files have no header: {by}"))
    if text.nulls:
        why = f"beside numbers, in every column{alone(text)}"
        keys.append((f"null_values: [{', '.join(map(quoted, text.nulls))}]", why))
    return keys


def encoded(text: Text) -> str:
    """Why a text is in another encoding than UTF-8."""
    if text.encoding == "utf-8":
        return ""
    look = f"does {comment(text.piece)!r} look right? or cp1250, cp1254 (central Europe, Turkey)"
    return f"not UTF-8; {look}" if text.piece else "not UTF-8, by its first bytes"


def alone(text: Text) -> str:
    """Why words that no list has stand for null."""
    told = sorted(text.alone.items())
    return "".join(f"; {word!r} is the one text among the numbers of {comment(c)}" for word, c in told)
