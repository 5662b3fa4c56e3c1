"""`init` on CSV files that are not in UTF-8."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import unseen
from initiated import config_of, daily, features, frame, made
from worlds import dmtl

from dmtl_cli.data.days import columns
from dmtl_cli.data.log.files.converted import provisional
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.reading.encodings import encoding_of

GERMAN = ("für Größe", "Bürgschaft § 7", "Überfall", "„hält“ an", "Straße – 5 €")


def items(texts: tuple[str, ...]) -> bytes:
    lines = [f"{i};{texts[i % len(texts)]};{i % 3}" for i in range(unseen.ITEMS)]
    return "\r\n".join(["item_id;genre;age_class", *lines, ""]).encode()


def beside(encoding: str, texts: tuple[str, ...]) -> Callable[[Path], None]:
    def write(home: Path) -> None:
        daily(frame())(home)
        (home / "items.csv").write_bytes(items(texts).decode().encode(encoding))

    return write


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_in_another_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    ended, raw, text = made(tmp_path, beside(encoding, GERMAN))
    assert ended.code == 0, ended.err
    assert raw["data"]["items"]["csv"] == {"separator": ";", "encoding": encoding}
    assert ("does 'für' look right?" in text) == (encoding == "cp1252") and "genre" in features(raw)
    (tmp_path / "scratch").mkdir()
    config = config_of(tmp_path)
    with provisional(config.workspace) as place:
        log = Log(config.data, columns(config.features), timed=True, converted=place)
        found = log.read(dt.date(2026, 3, 3), tmp_path / "scratch").items
    assert set(found["genre"]) == {*GERMAN}


def test_events_and_items_in_one_encoding_name_it_once(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        beside("cp1252", GERMAN)(home)
        for k, file in enumerate(sorted((home / "events").rglob("*.parquet"))):
            rows = pl.read_parquet(file).with_columns(
                place=pl.when(pl.col("user_id") % 2 == 0).then(pl.lit("Köln")).otherwise(pl.lit("Bonn"))
            )
            text = rows.write_csv(separator=";").encode("cp1252")
            (home / f"log_2026-03-0{k + 1}.csv").write_bytes(text)
            file.unlink()

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    assert raw["data"]["csv"]["encoding"] == "cp1252" and "csv" not in raw["data"]["items"]


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        ("cp1251", ("Привет", "драма", "комедия")),
        ("shift_jis", ("日本語", "漫画", "小説")),
        ("gb18030", ("中文内容", "小说")),
        ("euc_kr", ("한국어", "만화")),
    ],
)
def test_other_encodings_are_named_and_not_guessed(tmp_path: Path, encoding: str, texts: tuple[str, ...]) -> None:
    ended, raw, text = made(tmp_path, beside(encoding, texts))
    (line,) = (line for line in ended.out.splitlines() if line.startswith("WARNING: items.csv: not used:"))
    assert "items" not in raw["data"] and f"{encoding} ({texts[0]})" in line and "not UTF-8" in line
    assert "# items.csv: not used:" in text


def test_a_log_in_none_of_them_is_refused_in_a_line(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        x = unseen.drawn(1)
        rows = pl.DataFrame(
            {"user_id": x["user"], "item_id": x["item"], "clicked": x["click"], "seconds": x["seconds"]}
        )
        text = rows.with_columns(at=x["at"], city=pl.lit("Москва")).write_csv()
        (home / "log.csv").write_bytes(text.encode("cp1251"))

    home = tmp_path / "log"
    home.mkdir()
    write(home)
    ended = dmtl("init", home, "-o", tmp_path / "x.yaml")
    assert ended.code == 65 and len(ended.err.splitlines()) == 1 and "cp1251 (Москва)" in ended.err


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("naïve café déjà vu", "cp1252", "cp1252"),
        ("Größe", "latin-1", "cp1252"),
        ("łódź jest żółta i wąska", "cp1250", "cp1250"),
        ("łódź jest żółta i wąska, pół książki i część gęsi", "iso8859_2", "iso8859_2"),
        ("příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250", "cp1250"),
        ("čaša, žena, mačka, riječ, viši", "cp1250", "cp1250"),
        (
            "läks šokolaadi ostma, õun, küsimus, söömine, jõgi, öö, ülikool, käsi, hääl, põder",
            "cp1252",
            "cp1252",
        ),
        ("für Größe", "cp850", None),
        ("5 €, 7 €", "cp1252", None),
        ("Привет мир", "cp1251", None),
        ("für Größe", "utf-8", "utf-8"),
        ("plain", "ascii", "utf-8"),
        ("für Größe", "utf-16", "utf-16"),
    ],
)
def test_known_answers(text: str, encoding: str, expected: str | None) -> None:
    assert encoding_of(text.encode(encoding)) == expected


def test_damaged_utf8_is_no_other_encoding() -> None:
    """So that it is refused as before, with its line."""
    assert encoding_of("für Größe, Bürgschaft".encode() + b" x\xfcy ") == "utf-8"
    assert encoding_of("Größe".encode()[:4]) == "utf-8", "cut within a character"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["Miller", "Müller"])
def test_utf_16_without_a_mark(encoding: str, name: str) -> None:
    text = f"user;item;name\n1;2;{name}\n" * 9
    assert encoding_of(text.encode(encoding)) == encoding and encoding_of(text.encode()) == "utf-8"
