"""A JSON file that is one array of objects is read as lines of an object each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.arrays import as_lines
from dmtl_cli.data.log.formats.source import File, Store
from dmtl_cli.data.log.formats.text_rows import json_rows

ROWS = [{"id": 1, "tags": ["a"], "of": {"x": 1.5}, "name": "Ο [τίτλος], {x}"}, {"id": 2, "tags": [], "name": "b\nc"}]


def file_of(tmp_path: Path, text: str) -> File:
    (tmp_path / "t.json").write_text(text)
    return Store(str(tmp_path)).file("t.json")


def read(file: File) -> pl.DataFrame:
    parts = [rows.frame for rows in json_rows(file, lambda frame, numbers: frame)]
    return pl.concat(parts) if parts else pl.DataFrame()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", ["", "\n ", "\ufeff"])
def test_an_array_is_what_its_lines_are(tmp_path: Path, indent: int | None, before: str) -> None:
    lines = read(file_of(tmp_path, "".join(json.dumps(row) + "\n" for row in ROWS)))
    found = read(file_of(tmp_path, before + json.dumps(ROWS, indent=indent, ensure_ascii=False)))
    assert found.equals(lines) and found["name"].to_list() == [row["name"] for row in ROWS]


def test_an_array_of_nothing_has_no_row(tmp_path: Path) -> None:
    assert not len(read(file_of(tmp_path, "[]\n")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"id": 1}, null]', "expected an array of JSON objects, element 2 is null"),
        ('[\n{"id": 1},\n{"id": ', "expected an array of JSON objects: Expecting value"),
        ("[1, 2]\n[3, 4]\n", "line 1: expected a JSON object: got b'[1, 2]'"),
    ],
)
def test_what_is_no_array_of_objects(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read(file_of(tmp_path, text))


def test_an_array_is_of_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmtl_cli.data.log.formats.arrays.MOST", 1 << 20)
    file = file_of(tmp_path, "[]")
    parts = iter([b"[\n", b" " * (1 << 20), b"]"])
    with pytest.raises(UserError, match="an array of more than 1 MiB"):
        list(as_lines(file, parts))
