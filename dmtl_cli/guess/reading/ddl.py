"""Names of the columns of files without a header, from a file beside them that declares their tables: CREATE TABLE, or
the manifest that Redshift's UNLOAD writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.source import Store

_DDL, _LONG = (".sql", ".hql", ".ddl"), 1 << 20  # endings of names; bytes that are read
_PART = re.compile(r"(?P<prefix>.*?)\d{4}_part_\d+\b.*")
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|''|\\.)*'|\"[^\"]*\"|`[^`]*`|\[\w[^\]]*\]|\w[\w$]*|\S", re.DOTALL
)  # a comment, a text, a name in quotes, a word, a sign
_NO_COLUMN = {"constraint", "primary", "foreign", "unique", "exclude", "like", "fulltext"}
_OR_COLUMN = {"key", "index", "check"}
_NO_NAME = {"as", "select", "like", "clone", ";"}
_SIGNS = {"t": "\t", "n": "\n", "r": "\r"}


@dataclass(frozen=True)
class Declared:
    """A table as CREATE TABLE declares it."""

    name: str
    """without that of its schema"""
    columns: tuple[str, ...]
    """in the files: those of PARTITIONED BY are in names of folders"""
    separator: str | None = None
    """of FIELDS TERMINATED BY, or DELIMITER"""
    source: str = ""
    """the file that declares it"""


def declared(text: str, source: str = "") -> list[Declared]:
    """The tables that a text declares, in any dialect that writes (name type, ...).

    Args:
        source: the name of its file.
    """
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith(("--", "/*"))]
    lower = [token.lower() for token in tokens]
    begins = [k for k, token in enumerate(lower) if token == "create" and "table" in lower[k + 1 : k + 5]]
    found = []
    for begin, end in zip(begins, [*begins[1:], len(tokens)], strict=True):
        one = _declared(tokens[lower.index("table", begin) + 1 : end])
        if one is not None:
            found.append(replace(one, source=source))
    return found


def declared_in(store: Store, paths: Iterable[str]) -> list[Declared]:
    """The tables that files of SQL declare, and those of the manifests beside files that UNLOAD wrote (MANIFEST
    VERBOSE: https://docs.aws.amazon.com/redshift/latest/dg/r_UNLOAD.html)."""
    found: list[Declared] = []
    manifests: dict[str, str] = {}
    for path in paths:
        if path.lower().endswith(_DDL):
            found += declared(_text(store, path), path)
        elif (part := _PART.fullmatch(PurePosixPath(path).name)) is not None:
            folder, prefix = PurePosixPath(path).parent, part["prefix"]
            manifests[str(folder / f"{prefix}manifest")] = prefix.rstrip("_-.") or folder.name
    for path, name in manifests.items():
        try:
            text = _text(store, path)
        except UserError:  # without one
            continue
        if columns := _elements(text):
            found.append(Declared(name, columns, source=path))
    return found


def _text(store: Store, path: str) -> str:
    with store.file(path).text() as read:
        return read(_LONG).decode("utf-8", "replace")


def _elements(manifest: str) -> tuple[str, ...]:
    """Names of the columns that a manifest tells, none where it tells none."""
    try:
        return tuple(str(one["name"]) for one in json.loads(manifest)["schema"]["elements"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _declared(tokens: Sequence[str]) -> Declared | None:
    """The table whose name these begin with; None where no columns follow it."""
    if "(" not in tokens:
        return None
    at = tokens.index("(")
    named = [token for token in tokens[:at] if token != "."]
    parts, end = _parts(tokens[at + 1 :])
    columns = [_bare(part[0]) for part in parts if part and not _is_rule(part)]
    if not named or {*map(str.lower, named)} & _NO_NAME or not columns or len({*columns}) < len(columns):
        return None
    return Declared(_bare(named[-1]), tuple(columns), _separator(tokens[at + 1 + end :]))


def _is_rule(part: Sequence[str]) -> bool:
    """Whether a part declares no column: the bracket of KEY (a) or KEY k (a) has no number, as that of key CHAR (3)."""
    first = part[0].lower()
    if first not in _OR_COLUMN:
        return first in _NO_COLUMN
    return part[1:2] == ["("] or (part[2:3] == ["("] and not "".join(part[3:4]).isdigit())


def _parts(tokens: Sequence[str]) -> tuple[list[list[str]], int]:
    """What commas cut up to the bracket that ends a list, and where it is."""
    parts: list[list[str]] = [[]]
    deep = 0
    for k, token in enumerate(tokens):
        if token == ")" and not deep:
            return parts, k
        deep += (token in "(<") - (token in ")>")
        if token == "," and not deep:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, len(tokens)


def _bare(name: str) -> str:
    """A name without what stands around it, and in quotes without that of its schema."""
    return re.sub(r'^[`"\[]|[`"\]]$', "", name).rpartition(".")[2]


def _separator(tokens: Sequence[str]) -> str | None:
    said = " ".join(tokens)
    found = re.search(r"(?i)\b(?:FIELDS TERMINATED BY|DELIMITER(?: AS)?) '(\\[0-7]{1,3}|\\?.)'", said, re.DOTALL)
    if found is None:
        return None
    sign = found[1]
    if len(sign) > 1 and sign[1].isdigit():
        return chr(int(sign[1:], 8))
    return _SIGNS.get(sign[-1], sign[-1]) if len(sign) > 1 else sign


def likeliest(tables: Sequence[Declared], path: str) -> list[Declared]:
    """The tables that the files of a path may be, the likeliest first: by names of its folders and file, of several the
    longest; any, where none is so named."""
    parts = [part.lower() for part in PurePosixPath(path).parts]

    def is_named(name: str) -> bool:
        return any(re.match(rf"{re.escape(name.lower())}(?![^\W_])", part) for part in parts)

    mine = sorted((one for one in tables if is_named(one.name)), key=lambda one: -len(one.name))
    return mine or list(tables)
