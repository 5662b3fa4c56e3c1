"""Names and texts as SQL, YAML and polars write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import yaml

from dmtl_cli.config.expressions import TABLES, sources_of
from dmtl_cli.data.log.values.types import YES_OR_NO
from dmtl_cli.guess.columns.values import Kinds

_CALL = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<sign>[()])|(?<![\w.])(?P<word>SUM|MAX|MIN|AVG|COUNT)\s*(?=\()""",
    re.IGNORECASE,
)
_ALONE = re.compile(r'\s*("?)([\w.]+)\1\s*')


@dataclass(frozen=True)
class Aggregate:
    """One value of several rows in a person's rule, as `SUM(ms)` or `MAX(CASE WHEN kind = 'play' THEN ms END)`."""

    begin: int
    end: int
    word: str
    of: str
    """what stands in its brackets"""

    @property
    def column(self) -> str | None:
        """The column that stands there alone."""
        found = _ALONE.fullmatch(self.of)
        return found[2] if found else None

    @staticmethod
    def all_in(text: str) -> list[Aggregate]:
        """Those of a text from left to right; of one within another the outer."""
        found, depth, opened = list[Aggregate](), 0, None
        for sign in _CALL.finditer(text):
            if sign["word"] and opened is None:
                opened = sign.start(), sign["word"].upper(), sign.end(), depth
            elif sign["sign"] == "(":
                depth += 1
            elif sign["sign"] == ")":
                depth -= 1
                if opened is not None and depth == opened[3]:
                    found.append(Aggregate(opened[0], sign.end(), opened[1], text[opened[2] + 1 : sign.start()]))
                    opened = None
        return found


def with_aggregates(text: str, column: Callable[[Aggregate], str | None]) -> str:
    """A rule with a column in place of each value of several rows, but where there is none."""
    for one in reversed(Aggregate.all_in(text)):
        name = column(one)
        text = text if name is None else text[: one.begin] + name + text[one.end :]
    return text


def polars_column(c: str) -> str:
    """A column, or a field of an object, as a line of polars names it."""
    outer, *fields = c.split(".")
    return f"pl.col({quoted(outer)})" + "".join(f".struct.field({quoted(f)})" for f in fields)


def sql_column(name: str) -> str:
    """A column in an SQL expression, in quotes where it has other signs or is a word of SQL, as user and order."""
    plain = re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and all(_names(text, name) for text in (name, f"MAX({name})"))
    return name if plain and _names(f"{name} = 1", name) else '"' + name.replace('"', '""') + '"'


def _names(text: str, name: str) -> bool:
    """Whether this is an expression of the column alone."""
    try:
        return pl.sql_expr(text).meta.root_names() == [name]
    except pl.exceptions.PolarsError:
        return False


def sql_name(c: str) -> str:
    """A column in an SQL expression, a field of an object as `a.b` where no part of it is a word of SQL, and the object
    has not the name of a side table, whose column it would be."""
    parts = c.split(".") if "." in c and c.partition(".")[0] not in TABLES else []
    plain = ".".join(part if part.isidentifier() and part.isascii() else sql_column(part) for part in parts)
    try:
        return plain if parts and re.fullmatch(r"[\w.]+", c) and sources_of(plain) == [c] else sql_column(c)
    except ValueError:
        return sql_column(c)


def sql_value(value: str | float | bool) -> str:
    """A text, a number, or yes or no in an SQL expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def sql_values(values: Sequence[str | float | bool]) -> str:
    """What compares a column with one of these values, or several, in an SQL expression."""
    each = [sql_value(v) for v in values]
    return f"= {each[0]}" if len(each) == 1 else f"IN ({', '.join(each)})"


def in_brackets(condition: str) -> str:
    """A condition as it stands beside others by AND."""
    return f"({condition})" if re.search(r"\bOR\b", condition, re.IGNORECASE) else condition


def where_of(kinds: Kinds) -> str:
    """The SQL condition of the rows of some kinds."""
    return f"{'' if kinds.among else 'NOT '}{sql_column(kinds.column)} {sql_values(kinds.values)}"


def with_ones(text: str, columns: Collection[str]) -> str:
    """An expression in which these columns, of 0 and 1, are compared with 1 where they stand as a condition does:
    `saved = 1 OR seconds > 9` of `saved OR seconds > 9`; as it is where it has BETWEEN, whose AND is another."""
    if not columns or re.search(r"\bBETWEEN\b", text, re.I):
        return text
    alone = rf"((?:^|\b(?:AND|OR|NOT)\b)[\s(]*{_any_of(columns)})(?=[\s)]*(?:$|\b(?:AND|OR)\b))"
    parts = re.split(r"('(?:[^']|'')*')", text)  # texts are at odd places
    return "".join(part if k % 2 else re.sub(alone, r"\1 = 1", part, flags=re.I) for k, part in enumerate(parts))


def _any_of(columns: Collection[str]) -> str:
    """A pattern of one of some columns in an expression."""
    names = "|".join(re.escape(c) for c in sorted(columns, key=len, reverse=True))
    return rf"""(?:(?<![\w."])(?:{names})(?![\w."])|"(?:{names})")"""


def with_booleans(text: str, columns: Collection[str]) -> str:
    """An expression with true and false in place of texts of yes and no which these columns are compared with."""
    column = _any_of(columns)
    equal, word = r"\s*(?:==?|<>|!=|\bIS\s+(?:NOT\s+)?DISTINCT\s+FROM\b)\s*", r"'(?:[^']|'')*'"
    among = rf"\s+(?:NOT\s+)?IN\s*\(\s*{word}(?:\s*,\s*{word})*\s*\)"
    compared = rf"{column}{equal}{word}|{word}{equal}{column}|{column}{among}"

    def told(found: re.Match[str]) -> str:
        value = YES_OR_NO.get(found[0][1:-1].lower())
        return found[0] if value is None else str(value).lower()

    return re.sub(compared, lambda found: re.sub(word, told, found[0]), text, flags=re.I) if columns else text


def comment(text: str) -> str:
    """Text that stays on its line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def quoted(text: str) -> str:
    """Text as Python, JSON and YAML write it, whatever it says."""
    return json.dumps(text, ensure_ascii=False)


def scalar(value: Any) -> str:
    """A value that is itself in a block and in a flow of YAML."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value in ("|", ";", ",", "\t") or (isinstance(value, str) and _is_number(value)):
        return quoted(value)
    style = '"' if isinstance(value, str) and not value.isprintable() else None  # else a name of two lines has two here
    text = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=10**9)
    return text.strip()[1:-1]


def _is_number(text: str) -> bool:
    """Whether a reader of YAML may take it for one: 1e3, 1_0, .5, nan."""
    try:
        float(text)
    except ValueError:
        return re.fullmatch("[0-9][0-9_.]*", text) is not None
    return True


def flow(keys: dict[str, Any]) -> str:
    """A flow mapping, with those in it."""
    inner = ", ".join(f"{k}: {flow(v) if isinstance(v, dict) else scalar(v)}" for k, v in keys.items())
    return f"{{{inner}}}"
