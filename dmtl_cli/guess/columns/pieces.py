"""Texts that are made of pieces: which sign cuts them into values that repeat, and which are values by their names."""

from __future__ import annotations

import re

import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.values import FEW, share, within

SEPARATORS = ("\x02", " | ", "|", "; ", ";", ", ", ",")
ITEMS = 0.2
"""share of the values of lists that are items, where they are histories"""
_ROWS = 10_000  # that are looked at
_CUT = 0.2  # of the texts have the sign
_ALONE = 0.95  # of the pieces of texts are whole texts elsewhere
_THERE = 0.5  # of the pieces of texts are ids that are still there
_TAGS, _TEXTS, _TIMES = 0.9, 30, 5  # pieces that begin with #; distinct texts, and as many as there are words
_ONCE, _EACH = 0.1, 5  # of the words of tags stand in one text alone, as half of those of a language do; texts a word
_LENGTHS = 3  # different numbers of tags
_NAMED = r"^\s*[\w.-]+=[^=;&|]*([;&|]\s*[\w.-]+=[^=;&|]*)+[;&|]?\s*$"
_MANY = 100  # values of a name, which are measured or each of its own then


def separator_in(c: str, s: pl.Series, items: pl.Series | None = None) -> str | None:
    """What cuts texts into pieces that repeat, or that are items; None where they are not lists."""
    if c.endswith(":token_seq"):  # RecBole's
        return " "
    if words.says(c, words.TITLE):
        return None
    if items is not None and (separator := cut_into(s, items)) is not None:
        return separator
    for separator in SEPARATORS:
        if share(s.str.contains(separator, literal=True)) >= _CUT:
            pieces = s.head(_ROWS).str.split(separator).explode()
            plain = re.sub(r"\W", "", "".join(pieces.head(100).drop_nulls()))
            repeat = pieces.n_unique() <= min(0.5 * len(pieces), s.head(_ROWS).n_unique())
            if plain and repeat and share(pieces.str.contains(r"^ |^[(\[]|[)\]]$")) < 0.2:
                return separator
        if _are_alone_elsewhere(s, separator):
            return separator
    return " " if are_tags(s) else None


def cut_into(s: pl.Series, ids: pl.Series) -> str | None:
    """What cuts texts into these ids; None where they are no lists of them. Of texts of several lengths some ids may
    not be there any more; any numbers are among ids that are numbers."""
    known = ids.cast(pl.String)
    for separator in SEPARATORS:
        if share(s.str.contains(separator, literal=True)) < _CUT:
            continue
        lists = s.head(_ROWS).str.split(separator)
        vary = lists.list.len().n_unique() >= _LENGTHS and not known.str.contains(r"^\d+$").all()
        if within(lists.explode(), known) >= (_THERE if vary else _ALONE):
            return separator
    return None


def are_lists(s: pl.Series) -> bool:
    """Whether texts are lists of pieces that repeat, of several lengths, as parts of an id are not."""
    separator = separator_in(s.name, s) if s.dtype == pl.String else None
    return separator is not None and s.head(_ROWS).str.split(separator).list.len().n_unique() >= _LENGTHS


def _are_alone_elsewhere(s: pl.Series, separator: str) -> bool:
    """Whether the pieces of the few texts that a separator cuts are whole texts of other rows, as those of
    `phone|desktop` are, and those of `Paris, France` are not."""
    cut = s.str.contains(separator, literal=True).fill_null(False)
    pieces = s.filter(cut).str.split(separator).explode()
    if cut.sum() < FEW or pieces.n_unique() < 2:
        return False
    return share(pieces.is_in(s.filter(~cut).unique().implode())) >= _ALONE


def are_tags(s: pl.Series) -> bool:
    """Whether texts are words of a small vocabulary with spaces between them: #a #b, or such words without a sign that
    no text has twice, several of them or one, nearly all in several texts, as those of a language are not. In a script
    without capitals names are words too: there only the sign tells them."""
    known = s.head(_ROWS)
    if share(known.str.contains(r"\S\s+\S")) < 0.2 or known.n_unique() <= _TEXTS:
        return False
    words = known.str.strip_chars().str.split(" ").explode(empty_as_null=False, keep_nulls=False)
    words = words.filter(words != "")
    if share(words.str.starts_with("#")) >= _TAGS:
        return words.n_unique() <= 0.5 * len(words)
    plain = words.str.contains(r"^[\w+&.-]+$").all() and (words == words.str.to_lowercase()).all()
    if not plain or share(words != words.str.to_uppercase()) < _TAGS:
        return False
    counts = words.value_counts(name=":n")[":n"]
    lists = known.str.strip_chars().str.split(" ")
    if lists.list.len().n_unique() < _LENGTHS:  # dark blue, light blue
        return False
    twice = lists.list.eval(pl.element().is_duplicated().any()).list.first()
    closed = share(counts == 1) <= _ONCE and len(words) >= _EACH * len(counts)
    return closed and known.n_unique() >= _TIMES * len(counts) and share(twice) <= _ONCE


def values_by_name(known: pl.Series) -> str | None:
    """What texts such as src=a;ms=70 are, of which a name has numbers or values of their own; None where they are none,
    or every name has a few values, as attributes have."""
    seen = known.head(_ROWS)
    if share(seen.str.contains(_NAMED)) < _ALONE:
        return None
    pairs = seen.str.replace_all("[&|]", ";").str.split(";").explode(empty_as_null=False, keep_nulls=False)
    pairs = pairs.str.strip_chars()
    pairs = pairs.str.split_exact("=", 1).struct.rename_fields(["name", "value"])
    by = pairs.struct.unnest().drop_nulls().group_by("name").agg(pl.col("value").n_unique().alias("n"))
    several = by.filter(pl.col("n") > _MANY)["name"].sort().to_list()
    if not several:
        return None
    named = ", ".join(several[:3])
    return f"values by name (name=value) with hardly two alike of {named}: make a column of what is to be a feature"
