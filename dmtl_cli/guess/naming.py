"""Columns' names as names of features, which are ASCII."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set

from dmtl_cli.guess import words

_WHOLE = str.maketrans({
    "ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i", "đ": "d", "Đ": "D", "æ": "ae", "œ": "oe",
})  # fmt: skip
"""letters that are no letter and a mark"""


def feature_name(column: str, side: str, taken: Set[str]) -> str:
    """A column's name as a feature's: `posição` is posicao; one in another script is called by its side.

    Args:
        taken: names of other features; an id is named before there are any.
    """
    bare = words.bare(column)
    parts = unicodedata.normalize("NFKD", bare.translate(_WHOLE))
    letters = "".join(c for c in parts if not unicodedata.combining(c))
    if any(c.isalpha() and not c.isascii() for c in letters):
        return f"{side}_id" if not taken else f"{side}_feature"
    name = re.sub(r"[^A-Za-z0-9_]", "_", letters)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def unique(name: str, names: Set[str], side: str) -> str:
    """A name that none of the others is."""
    if name in names and not name.startswith(f"{side}_"):
        name = f"{side}_{name}"
    k, first = 2, name
    while name in names:
        name, k = f"{first}_{k}", k + 1
    return name
