"""SQL expressions over the columns of a row, or of all rows of one id."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

_SEVERAL = {"Agg", "Over", "Rolling", "SubPlan", "Len", "Filter", "Sort", "Slice", "Explode"}
"""nodes of an expression that look at more than one row"""
_NAMED = {"Column", "FieldByName", "Literal"}
"""nodes below which are names and values alone, whatever they say"""
_WITHIN = {"Over", "Rolling", "SubPlan", "Implode"}
"""nodes of an aggregate that give more than one value, or look at other rows"""
_LOGIC = {"And", "Or", "LogicalAnd", "LogicalOr", "Xor"}
"""operators between conditions"""
_CLOCK = re.compile(r"\b(NOW|CURRENT_(?:DATE|TIME|TIMESTAMP)|LOCALTIME(?:STAMP)?)\b", re.I)
_ESCAPED = re.compile(r"\bI?LIKE\s*\(?\s*('(?:[^']|'')*\\[%_](?:[^']|'')*')", re.I)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_MOMENT = re.compile(
    rf"{_QUOTED.pattern}|\b(?:(?P<day>CURRENT_DATE)|(?P<at>CURRENT_TIMESTAMP|LOCALTIMESTAMP|NOW(?=\s*\()))\b(?:\s*\(\s*\))?",
    re.I,
)
_TODAY = re.compile(rf"{_QUOTED.pattern}|(?<![\w.])(?P<word>now|today)(?![\w.])(?:\s*\(\s*\))?", re.I)
_LETTERS = re.compile(rf"""{_QUOTED.pattern}|[^\s'"()<>=!,;+*/|%-]+""")
_ANY_TIME = dt.datetime(2000, 1, 1)
_WORDED = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|(?<![\w.])(?i:user)(?![\w.]|\s*\()")
"""dotted names, and the one that many logs have and SQL takes for a function"""
TABLES = ("users", "items")
"""of which an expression of the events may name columns, as items.length"""
_OF_NULL: list[Any] = [{"Boolean": "IsNull"}, {"Boolean": "IsNotNull"}, "Coalesce"]
Paths = dict[str, list[str]]
"""the names that an expression reads, each with the fields of it that it names, as `b` or `b.c`; none: itself"""


@functools.cache
def roots_of(text: str) -> Paths:
    """What an expression reads: `a.b > 1 OR c` gives a: [b], c: [].

    Raises:
        ValueError: it is no SQL expression, or one of several rows or of the clock.
    """
    expression, tree = _parsed(text)
    if _SEVERAL & {*_nodes(tree)} or not _by_rows(expression):
        what = (
            "expected an expression of a row alone, without functions over several rows such as SUM, AVG, LAG or OVER"
        )
        raise ValueError(f"{what}, got {text!r}")
    if found := _CLOCK.search(_QUOTED.sub("", text)):
        raise ValueError(f"expected an expression of a row alone, which {found[0]} is not, got {text!r}")
    return _collected(text, _columns(tree))


@functools.cache
def aggregated_roots_of(text: str) -> Paths:
    """What an expression of several rows reads, as `roots_of`: of `SUM(a.b) > 1` a: [b], of `COUNT(*)` nothing.

    Raises:
        ValueError: it is no SQL expression, or gives no one value of the rows, or reads the clock.
    """
    _, tree = _parsed(text)
    if not _is_aggregate(tree) or _WITHIN & {*_nodes(tree)}:
        what = "expected an expression of one value for all rows of a key, as SUM(x), MAX(x) = 1 or COUNT(*) > 0"
        raise ValueError(f"{what}, got {text!r}")
    if found := _CLOCK.search(_QUOTED.sub("", text)):
        raise ValueError(f"expected an expression of rows alone, which {found[0]} is not, got {text!r}")
    return _collected(text, _columns(tree))


def reads_clock(text: str) -> bool:
    """Whether an expression asks which moment it is: `NOW()`, CURRENT_TIMESTAMP, LOCALTIMESTAMP or CURRENT_DATE."""
    return at_any_time(text) != text


def with_clock(text: str) -> str:
    """An expression with SQL's names of the moment for what people write: `NOW()` of now, CURRENT_DATE of today."""

    def named(found: re.Match[str]) -> str:
        word = (found["word"] or "").lower()
        return {"now": "NOW()", "today": "CURRENT_DATE"}.get(word, found[0])

    return _TODAY.sub(named, text)


def at_any_time(text: str) -> str:
    """As `as_of` gives it of some day, where it does not matter of which."""
    return as_of(text, _ANY_TIME)


def as_of(text: str, clock: dt.datetime) -> str:
    """An expression with what a clock says in place of `NOW()` and the like, or of CURRENT_DATE its day."""

    def then(found: re.Match[str]) -> str:
        if found["day"]:
            return f"DATE '{clock.date()}'"
        return f"TIMESTAMP '{clock:%Y-%m-%d %H:%M:%S}'" if found["at"] else found[0]

    return _MOMENT.sub(then, text)


def _parsed(text: str) -> tuple[Any, Any]:
    """The expression, and the tree of its nodes."""
    import polars as pl  # here: most configs have no expression, and their commands need not wait for it

    if found := _ESCAPED.search(text):
        what = f"LIKE has no escape, a backslash is a letter of {found[1]}: _ is any letter and % any text"
        raise ValueError(f"{what}; write STARTS_WITH(column, 'a_') or column ~ '^a_', got {text!r}")
    try:
        expression = pl.sql_expr(text)
    except pl.exceptions.PolarsError as e:
        why = str(e).splitlines()[0]
        for name in _worded(text):
            why = f'{name} {"begins with" if "." in name else "is"} a word of SQL: write "{name}"'
        raise ValueError(f"expected an SQL expression, got {text!r}: {why}") from None
    return expression, json.loads(expression.meta.serialize(format="json"))


@functools.cache
def texts_beside(text: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Which columns an expression compares with which texts: of `a = 'x' AND 'y' <> b.c` (a,) with x, (b, c) with y."""
    return tuple(_compared(_parsed(text)[1]))


def _compared(tree: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(tree, dict) and isinstance(both := tree.get("BinaryExpr"), dict):
        for one, other in (("left", "right"), ("right", "left")):
            path, scalar = _path(both[one]), both[other].get("Literal") if isinstance(both[other], dict) else None
            told = scalar.get("Scalar") if isinstance(scalar, dict) else None
            if path is not None and isinstance(told, dict) and isinstance(value := told.get("String"), str):
                yield path, value
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _compared(part)


def with_quotes(text: str) -> str:
    """An expression with double quotes around names that are a word of SQL or begin with one, as `user.type = 'x'`, and
    around names of signs that SQL does not take for letters, as vowels of Thai and Hindi are: SQL asks for them, and
    whoever reads the name elsewhere does not expect it. As it is where that does not help."""
    if _parses(text):
        return text
    quoted = _LETTERS.sub(_in_quotes, renamed(text, {name: f'"{name}"' for name in _worded(text)}))
    return quoted if _parses(quoted) else text


def _in_quotes(found: re.Match[str]) -> str:
    """A name in quotes where it is none that has them, nor a text, nor of ASCII alone."""
    return found[0] if found[0][0] in "'\"" or found[0].isascii() else f'"{found[0]}"'


def is_closed(text: str) -> bool:
    """Whether an expression is one within brackets too: without a comment at its end, or another name for it."""
    return _parses(f"({text}) AND TRUE")


def _worded(text: str) -> list[str]:
    """The names of a text, those in quotes aside, that are no expressions: they are a word of SQL or begin with one."""
    return sorted(name for name in {*_WORDED.findall(_QUOTED.sub(" ", text))} if not _parses(name))


def _parses(text: str) -> bool:
    import polars as pl

    try:
        pl.sql_expr(text)
    except pl.exceptions.PolarsError:
        return False
    return True


def _is_aggregate(tree: Any) -> bool:
    """Whether a value of several rows is in the tree, and each column is below one."""
    bare, several = False, False
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if part == "Len" or (isinstance(part, dict) and "Agg" in part):
            several = True
        elif isinstance(part, dict):
            bare |= "Column" in part
            waiting += _below(part)
        elif isinstance(part, list):
            waiting += part
    return several and not bare


def sources_of(text: str) -> list[str]:
    """The columns that an expression reads, fields of objects as `a.b`. Raises as `roots_of`."""
    return [name for root, fields in roots_of(text).items() for name in _names(root, fields)]


def _names(root: str, fields: list[str]) -> list[str]:
    return [f"{root}.{field}" for field in fields] or [root]


def sources_with_clock(text: str) -> list[str]:
    """As `sources_of`, of an expression that may ask which moment it is."""
    return sources_of(at_any_time(text))


def null_told_of(text: str) -> list[str]:
    """The columns of which an expression says what null is, as `sources_of` names them: of
    `a IS NULL OR COALESCE(b.c, 1) = 1` a and b.c."""
    return sorted({".".join(path) for path in _null_told(_parsed(text)[1])})


def _null_told(tree: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict) and isinstance(call := tree.get("Function"), dict) and call["function"] in _OF_NULL:
        yield from filter(None, map(_path, call["input"]))
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _null_told(part)


def timed_of(text: str) -> list[str]:
    """The columns of an expression that are compared with the clock, or with another moment, as `sources_of` names
    them: of `ends > NOW() OR id = 3` ends."""
    return sorted({".".join(path) for path in _timed(_parsed(at_any_time(text))[1])})


def _timed(tree: Any) -> Iterator[tuple[str, ...]]:
    parts = _joined_by_logic(tree)
    if parts is not None:
        for part in parts:
            yield from _timed(part)
    elif _has_moment(tree):
        yield from _columns(tree)


def _joined_by_logic(tree: Any) -> list[Any] | None:
    """The conditions that a node joins, or gives one of; None where it is one itself."""
    if not isinstance(tree, dict):
        return tree if isinstance(tree, list) else None
    ((name, node),) = tree.items() if len(tree) == 1 else (("", tree),)
    if name == "BinaryExpr" and node["op"] in _LOGIC:
        return [node["left"], node["right"]]
    if name == "Ternary":
        return [node["predicate"], node["truthy"], node["falsy"]]
    if name == "Cast" and node["dtype"] == {"Literal": "Boolean"}:
        return [node["expr"]]
    return node["input"] if name == "Function" and node["function"] == {"Boolean": "Not"} else None


def _has_moment(tree: Any) -> bool:
    """Whether a time or a day stands in it."""
    if isinstance(tree, dict):
        value = tree.get("Scalar")
        return (isinstance(value, dict) and bool({"Datetime", "Date"} & value.keys())) or any(
            map(_has_moment, tree.values())
        )
    return isinstance(tree, list) and any(map(_has_moment, tree))


def aggregated_of(text: str) -> list[str]:
    """The columns that an expression of several rows reads, as `sources_of`. Raises as `aggregated_roots_of`."""
    return [name for root, fields in aggregated_roots_of(text).items() for name in _names(root, fields)]


def looked_up(text: str) -> list[tuple[str, str]]:
    """(users or items, column) that an expression of the events looks up there; "items.length" in quotes is a column of
    the events themselves. Raises as `roots_of`."""
    return [(root, field) for root, fields in roots_of(text).items() if root in TABLES for field in fields]


def as_own(text: str, columns: Collection[str]) -> str:
    """An expression that names some columns of the events, which it would look up in a side table, in quotes: of
    `items.read.ms > 9` and that column `"items.read.ms" > 9`."""
    return renamed(text, {c: f'"{c}"' for c in columns})


def renamed(text: str, names: Mapping[str, str]) -> str:
    """An expression with other columns in place of some, each as SQL has it: of `read.ms > 9` and {read.ms: total_ms}
    `total_ms > 9`."""
    paths = [r"\s*\.\s*".join(map(re.escape, c.split("."))) for c in sorted(names, key=len, reverse=True)]
    plain = re.compile(rf"""{_QUOTED.pattern}|(?<![\w.])(?P<c>{"|".join(paths)})(?![\w.])""")

    def other(found: re.Match[str]) -> str:
        whole = found[0]
        name = re.sub(r"\s", "", found["c"]) if found["c"] else whole[1:-1] if whole[0] == '"' else ""
        return names.get(name, whole)

    return plain.sub(other, text) if names else text


def unquoted(column: str) -> str:
    """What to write where a column of the events that is not there has the name of one of a side table; "" where it has
    another name."""
    table, _, rest = column.partition(".")
    return f"a column of data.{table} is named without quotes around both: {column}" if rest and table in TABLES else ""


def _by_rows(expression: Any) -> bool:
    import polars as pl

    try:
        return bool(expression.meta.is_row_separable())
    except pl.exceptions.ColumnNotFoundError:  # it cannot tell of IN without the columns' types
        return True


def _nodes(tree: Any) -> Iterator[str]:
    """The names of the nodes of an expression that have parts, and Len, that of COUNT(*), which has none."""
    if tree == "Len":
        yield "Len"
    elif isinstance(tree, dict):
        yield from tree
    for part in _below(tree):
        yield from _nodes(part)


def _below(tree: Any) -> list[Any]:
    """The parts of a node, without names and values."""
    if isinstance(tree, dict):
        return [part for name, part in tree.items() if name not in _NAMED]
    return tree if isinstance(tree, list) else []


def _columns(tree: Any) -> Iterator[tuple[str, ...]]:
    """Each column that an expression names, with the fields of it."""
    if (path := _path(tree)) is not None:
        yield path
        return
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _columns(part)


def _path(tree: Any) -> tuple[str, ...] | None:
    """(column, field, ...) where a node is a column or a field of one."""
    if not isinstance(tree, dict):
        return None
    if isinstance(name := tree.get("Column"), str):
        return (name,)
    try:
        field = tree["Function"]["function"]["StructExpr"]["FieldByName"]
    except (KeyError, TypeError):
        return None
    above = _path(tree["Function"]["input"][0])
    return None if above is None else (*above, field)


def _collected(text: str, paths: Iterator[tuple[str, ...]]) -> Paths:
    found: dict[str, set[str]] = {}
    for root, *fields in paths:
        found.setdefault(root, set()).add(".".join(fields))
    if both := sorted(root for root, fields in found.items() if "" in fields and len(fields) > 1):
        raise ValueError(f"expected {both[0]} or fields of it, got both in {text!r}")
    return {root: sorted(found[root] - {""}) for root in sorted(found)}


def of_columns(text: str) -> str:
    """The text itself, an expression of a row's columns. Raises ValueError where it is none."""
    if not roots_of(text):
        raise ValueError(f"expected an SQL expression of columns, got {text!r}")
    return text


def _of_rows(text: str) -> str:
    aggregated_roots_of(text)
    return text


Expression = Annotated[str, AfterValidator(of_columns)]
Aggregate = Annotated[str, AfterValidator(_of_rows)]
"""one value for all rows of a key"""
