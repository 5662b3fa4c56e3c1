"""SQL expressions over the columns of a row."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_FIELD = r'(?<![\w"]){}\s*\.\s*("(?:[^"]|"")+"|\w+)'


def roots_of(text: str) -> dict[str, list[str]]:
    """The names that an expression reads, each with the fields of it that it names: `a.b > 1 OR c` gives a: [b], c: [].

    Raises:
        ValueError: it is no SQL expression.
    """
    import polars as pl  # here: most configs have no expression, and their commands need not wait for it

    try:
        roots = pl.sql_expr(text).meta.root_names()
    except pl.exceptions.PolarsError as e:
        raise ValueError(f"expected an SQL expression, got {text!r}: {str(e).splitlines()[0]}") from None
    found = {root: re.findall(_FIELD.format(re.escape(root)), text) for root in sorted({*roots})}
    return {root: list(dict.fromkeys(map(_name, fields))) for root, fields in found.items()}


def sources_of(text: str) -> list[str]:
    """The columns that an expression reads, fields of objects as `a.b`. Raises as `roots_of`."""
    return [name for root, fields in roots_of(text).items() for name in ([f"{root}.{f}" for f in fields] or [root])]


def _name(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _of_columns(text: str) -> str:
    if not roots_of(text):
        raise ValueError(f"expected an SQL expression of columns, got {text!r}")
    return text


Expression = Annotated[str, AfterValidator(_of_columns)]
