"""`init` on files whose values stand between several signs, as those of MovieLens: ratings and a catalogue without a
header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from worlds import dmtl

from dmtl_cli.guess.reading.rows import dialect

USERS, ITEMS, DAYS = 200, 120, 4


def ratings(home: Path, signs: str) -> None:
    rng, start = np.random.default_rng(0), 1_767_225_600
    lines = [
        signs.join(map(str, (rng.integers(1, USERS), rng.integers(1, ITEMS), rng.integers(1, 6), start + 60 * k)))
        for k in range(DAYS * 24 * 60)
    ]
    home.mkdir(parents=True)
    (home / "ratings.dat").write_text("\n".join(lines) + "\n")
    genres = ["Drama|Crime", "Comedy", "Action|Drama|War", "War|Comedy"]
    films = [signs.join((f"{k}", f"Amélie: {k} ({1950 + k % 70})", genres[k % 4])) for k in range(1, ITEMS)]
    (home / "movies.dat").write_text("\n".join(films) + "\n", encoding="latin-1")
    people = [
        signs.join((f"{k}", "MF"[k % 2], f"{18 + k % 5 * 7}", f"{k % 21}", f"{10_000 + 37 * k}"))
        for k in range(1, USERS)
    ]
    (home / "users.dat").write_text("\n".join(people) + "\n")


@pytest.mark.parametrize("signs", ["::", "|~|"])
def test_ratings_and_films(tmp_path: Path, signs: str) -> None:
    ratings(tmp_path / "log", signs)
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "m.yaml")
    assert ended.code == 0, ended.err
    data = yaml.safe_load((tmp_path / "m.yaml").read_text())["data"]
    assert data["csv"] == {
        "separator": signs, "quote_char": None, "columns": ["user_id", "item_id", "rating", "time"]
    }  # fmt: skip
    assert data["events"]["duration"] == "rating"
    assert (data["items"]["key"], data["users"]["key"]) == ("movies_1", "users_1")
    assert "rows of" in ended.out and "1,440" not in ended.err
    assert f"day 2026-01-0{DAYS}: 1,440 rows" in ended.out


@pytest.mark.parametrize(
    ("line", "signs"),
    [
        ("1::2::3::4", "::"), ("1||2||3", "||"), ("1|2||3", "|"), ("a,b::c,d,e", ","), ("a;b;12:00::5", ";"),
        ("1\t2::3\t4\t5", "\t"), ("1|~|2|~|3", "|~|"),
    ],
)  # fmt: skip
def test_signs_are_told_from_values(line: str, signs: str) -> None:
    content = "".join(f"{line}\n" for _ in range(20)).encode()
    assert dialect(content).separator == signs and dialect(content).quoted == (len(signs) == 1)


def test_a_number_with_zeros_is_no_name_of_a_column() -> None:
    """Nor is it one for YAML."""
    assert not dialect(b"0002844::Fantomas::Crime\n0004936::The Bank::Comedy\n").header
