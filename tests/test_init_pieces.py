"""`init` on texts made of pieces: tags with spaces between them are lists, names and values by name are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from initiated import features, made
from unseen import by_day, drawn
from worlds import dmtl

from dmtl_cli.guess.columns.pieces import are_tags, values_by_name

RNG = np.random.default_rng(8)
N = 600
WORDS = [f"{a}{b}" for a in ("kot", "pes", "dom", "las", "woda") for b in ("ek", "or", "in", "arz")]
TAGS = [" ".join(RNG.choice(WORDS, int(n), replace=False)) for n in RNG.integers(1, 7, N)]
TITLES = [f"{RNG.choice(WORDS)} {RNG.choice(WORDS)} {k}" if k % 6 else "bez nazwy" for k in range(N)]


def log(home: Path, items: pl.DataFrame) -> None:
    x = drawn(0, 6_000)
    rows = {"user_id": x["user"], "item_id": RNG.integers(0, N, 6_000), "ts": x["at"], "clicked": x["click"]}
    trace = [f"src={'a' if k % 3 else 'b'};ms={k % 7}0;score={v:.4f}" for k, v in enumerate(RNG.random(6_000))]
    by_day(home / "events", pl.DataFrame({**rows, "watch_seconds": x["seconds"], "trace": trace}), x)
    items.write_parquet(home / "items.parquet")


def test_titles_that_few_editions_share_are_names(tmp_path: Path) -> None:
    """Each of two items; jobs of 60 titles stay classes, and titles of one word."""
    two = [f"{WORDS[k % 20]} {WORDS[k // 20 % 15]}" for k in range(N)]
    names = {"titel": two, "titel_kort": [text.split()[0] for text in two]}
    jobs = {"job_title": [f"{WORDS[k % 20]} {WORDS[k // 20 % 3]}" for k in range(N)]}
    ended, raw, text = made(tmp_path, lambda home: log(home, pl.DataFrame({"item_id": range(N), **names, **jobs})))
    assert ended.code == 0 and {"titel_kort", "job_title"} <= {*features(raw)}, ended.err
    assert "titel" not in features(raw) and "# titel: not used: 300 titles of 600 ids: names, and no classes" in text


@pytest.mark.parametrize("sign", ["#", ""])
def test_tags_with_spaces_between_them_are_a_list(tmp_path: Path, sign: str) -> None:
    tags = [" ".join(sign + word for word in text.split()) for text in TAGS]
    items = pl.DataFrame({"item_id": range(N), "etykiety": tags, "nazwa": TITLES})
    ended, raw, text = made(tmp_path, lambda home: log(home, items))
    assert ended.code == 0, ended.err
    found = features(raw)["etykiety"]
    assert (found["kind"], found["separator"]) == ("sequence", " ") and 5 <= found["max_length"] <= 6
    assert "nazwa" not in features(raw) and "# nazwa: not used: nearly a value of its own for every id" in text
    assert "trace" not in features(raw) and "# trace: not used: values by name (name=value)" in text
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json")
    assert checked.code == 0, checked.err
    assert f"lists of {len(WORDS)} values, " in text


def test_names_that_several_items_share_are_classes(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": range(N), "maker": [f"Firma {k}" for k in RNG.integers(0, 300, N)]})
    _, raw, _ = made(tmp_path, lambda home: log(home, items))
    assert features(raw)["maker"]["kind"] == "categorical"


def test_sentences_and_classes_of_several_words_are_no_tags() -> None:
    rank = 1 / np.arange(1, 3000)
    language = [f"w{k}" for k in range(2999)]
    draw = [" ".join(RNG.choice(language, 6, p=rank / rank.sum())) for _ in range(2000)]
    classes = [f"{a} {b}" for a in ("dark", "light", "pale") for b in WORDS]
    assert not are_tags(pl.Series(draw)), "half of a language's words stand in one text"
    assert not are_tags(pl.Series(RNG.choice(classes, 2000))), "as many texts as words"
    assert not are_tags(pl.Series([text.title() for text in TAGS])), "names begin with a capital"
    arabic = {word: f"كلمة{chr(0x0628 + k)}" for k, word in enumerate(WORDS)}
    assert not are_tags(pl.Series([" ".join(arabic[w] for w in text.split()) for text in TAGS])), "nor have all a case"
    assert are_tags(pl.Series([" ".join("#" + arabic[w] for w in text.split()) for text in TAGS]))
    assert are_tags(pl.Series(TAGS))


def test_attributes_by_name_have_a_few_values() -> None:
    few = [f"size={RNG.choice(['S', 'M', 'L'])};colour={RNG.choice(WORDS)}" for _ in range(500)]
    assert values_by_name(pl.Series(few)) is None
    assert values_by_name(pl.Series([f"{text};n={k}" for k, text in enumerate(few)])) is not None
    assert values_by_name(pl.Series(TAGS)) is None
