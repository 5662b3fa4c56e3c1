"""What `init` and `check` say of values that are not what they seem: words for none, prices as text, names in other
scripts."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
import yaml
from initiated import features, made
from worlds import dmtl

from dmtl_cli.data.log.values.computed import Computed
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.exposures.doubts import Ids, null_ids
from dmtl_cli.guess.feature_lines import feature_name
from dmtl_cli.guess.features.units import as_number, with_units
from dmtl_cli.guess.reading.texts import Text, as_named, one_words, typed


def frame(**more: Any) -> pl.DataFrame:
    x = unseen.drawn(0)
    seen = {"user_id": "user", "item_id": "item", "ts": "at", "clicked": "click", "watch_seconds": "seconds"}
    return pl.DataFrame({name: x[key] for name, key in seen.items()} | more)


def parquet(rows: pl.DataFrame, home: Path) -> None:
    unseen.by_day(home / "events", rows, unseen.drawn(0))


def lines(rows: pl.DataFrame, home: Path) -> None:
    """JSON lines, a file a day, each value as Python has it."""
    for (day,), part in rows.with_columns(pl.Series(":d", unseen.days_of(unseen.drawn(0)))).group_by(":d"):
        text = "".join(json.dumps(row) + "\n" for row in part.drop(":d").rows(named=True))
        (home / f"log_{day}.json").write_text(text)


# -- words for none ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [True, False], ids=["a file a day", "one file"])
def test_null_as_a_word_of_json_is_no_user(tmp_path: Path, day: bool) -> None:
    user = ["NULL" if u % 5 == 0 else f"u{u}" for u in unseen.drawn(0)["user"]]
    write = frame(brand=["-", "b1", "b2", "b3"] * 300, country=["TR", "NA", "DE"] * 400)
    write = write.with_columns(user_id=pl.Series(user))

    def one(home: Path) -> None:
        write.write_ndjson(home / "log.json")

    ended, raw, text = made(tmp_path, (lambda home: lines(write, home)) if day else one)
    assert ended.code == 0 and raw["data"]["null_values"] == ["-", "NULL"], ended.err
    assert raw["data"]["events"]["invalid_rows"] == "drop" and "NULL" not in text.split("user:")[1].split("item:")[0]
    assert "--user NULL" not in ended.out and features(raw)["country"]["kind"] == "categorical"
    said = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    assert said["left_out"]["user"] == sum(
        d == "2026-03-02" and u == "NULL" for d, u in zip(unseen.days_of(unseen.drawn(0)), user, strict=True)
    )
    assert next(f for f in said["features"] if f["name"] == "brand")["unknown_share"] == pytest.approx(0.25, abs=0.2)


def test_words_for_none_stand_beside_others() -> None:
    rows = pl.DataFrame({
        "id": ["007", "N/A", "8", "9"], "number": ["1", "2", "-", ""], "sign": ["+", "-", "+", "-"],
        "list": ["[1]", "[2, 3]", "null", "[]"], "none": ["None", "a", "b", "c"],
    })  # fmt: skip
    out, text = as_named(rows, Text())
    found = text.nulls
    assert found == ("", "-", "N/A", "None", "null")
    assert out["id"].to_list() == ["007", None, "8", "9"] and out["number"].to_list() == [1, 2, None, None]
    assert out["sign"].to_list() == rows["sign"].to_list(), "a sign is a value where nothing else is"
    assert out["list"].to_list() == [[1], [2, 3], None, []] and out["none"].null_count() == 1
    assert typed(rows)["sign"].null_count() == 0
    same = rows.select("sign")
    assert as_named(same, Text())[0].equals(same) and as_named(same, Text())[1] == Text()


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("day", [True, False], ids=["a file a day", "one file"])
def test_the_one_word_among_numbers_is_none(tmp_path: Path, form: str, day: bool) -> None:
    """Of a word that no list has, as other values are many numbers; a text of another column stays a text."""
    users = unseen.drawn(0)["user"]
    age = pl.Series([("weiß nicht" if u % 7 == 0 else str(18 + u % 50)) for u in users])
    speed = pl.Series(["auto" if k % 3 == 0 else str(k % 90) for k in range(len(users))])
    write = frame(alter=age, speed=speed, mode=["auto", "hand", "auto"] * 400)

    def put(home: Path) -> None:
        of = pl.Series(":d", unseen.days_of(unseen.drawn(0)) if day else ["all"] * len(users))
        for (name,), part in write.with_columns(of).group_by(":d"):
            file = home / f"log_{name}.{form}"
            part.drop(":d").write_csv(file) if form == "csv" else part.drop(":d").write_ndjson(file)

    ended, raw, text = made(tmp_path, put)
    assert ended.code == 0, ended.err
    assert (raw["data"]["csv"] if form == "csv" else raw["data"])["null_values"] == ["weiß nicht"]
    assert "'weiß nicht' is the one text among the numbers of alter" in text
    assert raw["data"]["types"]["alter"] == "int64" and "alter" in features(raw)
    assert raw["data"]["types"].get("speed", "text") == "text" and features(raw)["speed"]["kind"] == "categorical"
    said = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    unknown = {f["name"]: f["unknown_share"] for f in said["features"]}
    here = {u for u, d in zip(users, unseen.days_of(unseen.drawn(0)), strict=True) if d == "2026-03-02"}
    assert unknown["alter"] == pytest.approx(sum(u % 7 == 0 for u in here) / len(here), abs=1e-3)
    assert unknown["mode"] == 0


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([*map(str, range(30)), *["unb."] * 21], {"n": "unb."}), ([*map(str, range(30)), *["?"] * 21], {"n": "?"}),
        ([*map(str, range(30)), *["unb."] * 19], {}), ([*map(str, range(9)), *["X"] * 30], {}),
        ([*map(str, range(30)), *["a", "b"] * 21], {}), ([*[f"0{k}" for k in range(30)], *["X"] * 30], {}),
        ([*[f"a{k}" for k in range(30)], *["X"] * 30], {}), ([*map(str, range(30)), *["n1"] * 30], {}),
    ],
)  # fmt: skip
def test_which_word_is_alone(values: list[str], found: dict[str, str]) -> None:
    assert one_words(pl.DataFrame({"n": values})) == found


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("word", words.NONE[1:])
def test_a_word_that_is_doubted_as_an_id_is_none_beside_numbers(tmp_path: Path, form: str, word: str) -> None:
    """One list for both: what `init` takes for null in a number is what it doubts in an id."""
    age = pl.Series([word if k % 7 == 0 else str(18 + k % 50) for k in unseen.drawn(0)["user"]])
    write = frame(user_age=age).with_columns(user_id=pl.Series([f"u{u}" for u in unseen.drawn(0)["user"]]))

    def put(home: Path) -> None:
        write.write_csv(home / "log.csv") if form == "csv" else write.write_ndjson(home / "log.json")

    ended, raw, _ = made(tmp_path, put)
    assert ended.code == 0, ended.err
    assert raw["data"]["types"]["user_age"] == "int64" and "user_age" in features(raw)
    assert (raw["data"]["csv"] if form == "csv" else raw["data"])["null_values"] == [word]
    (told,) = null_ids(Ids("user_id", pl.Series(["u1", word, "NULLO"]), pl.Series([5, 2, 1])), text=True)
    assert told.startswith(f"user_id: {word!r}, in 2 rows, is an id")


def test_a_word_for_none_in_parquet_is_told(tmp_path: Path) -> None:
    user = ["NULL" if u % 5 == 0 else f"u{u}" for u in unseen.drawn(0)["user"]]
    ended, _, text = made(tmp_path, lambda home: parquet(frame().with_columns(user_id=pl.Series(user)), home))
    fix = (
        "is an id: if it means none, write null in its place; data.events.invalid_rows: drop leaves rows without an id"
    )
    assert f"WARNING: user_id: 'NULL', in {user.count('NULL'):,} rows, {fix} out" in ended.out
    assert f"# WARNING: user_id: 'NULL', in {user.count('NULL'):,} rows, {fix} out" in text
    said = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json["warnings"]
    assert sum(f"rows, {fix}" in line for line in said) == 1


def test_check_names_the_key_for_json(tmp_path: Path) -> None:
    user = ["NULL" if u % 5 == 0 else f"u{u}" for u in unseen.drawn(0)["user"]]
    made(tmp_path, lambda home: lines(frame().with_columns(user_id=pl.Series(user)), home))
    config = tmp_path / "mine.yaml"
    config.write_text("".join(x for x in config.read_text().splitlines(True) if not x.startswith("  null_values")))
    ended = dmtl("check", "--config", config, "--day", "2026-03-02")
    assert ended.code == 0 and "is an id: if it means none, name it in data.null_values;" in ended.out


UNKNOWN = "correct it, or where it means unknown name it in data.{}null_values"
NO_CLICK = "correct it, or where it means no click name it in data.{}null_values and set data.events.null_click: "


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize(
    ("column", "word", "hint"),
    [
        ("weight_kg", "n/a", UNKNOWN), ("weight_kg", "unknown", UNKNOWN), ("watch_seconds", "n/a", UNKNOWN),
        ("clicked", "n/a", NO_CLICK), ("weight_kg", "12,5", "correct it, or set data.types.weight_kg: text"),
        ("clicked", "2026-01-31", "or set data.types.clicked: datetime"), ("ts", "n/a", "or leave the row out"),
    ],
)  # fmt: skip
def test_a_word_among_numbers_is_refused_with_the_key_that_takes_it(
    tmp_path: Path, form: str, column: str, word: str, hint: str
) -> None:
    """The first such word comes after `init`; where the hint names a key, that key mends it."""
    write = frame(weight_kg=[k % 90 + 0.5 for k in range(unseen.ROWS)])

    def put(home: Path, rows: pl.DataFrame = write) -> None:
        rows.write_csv(home / "log.csv") if form == "csv" else rows.write_ndjson(home / "log.json")

    made(tmp_path, put)
    config = tmp_path / "mine.yaml"
    as_text = [word if k == 20 else str(v) for k, v in enumerate(write[column])]
    rows = [row | {column: word} if k == 20 else row for k, row in enumerate(write.rows(named=True))]
    put(tmp_path / "log", write.with_columns(pl.Series(column, as_text)))
    if form == "json":
        (tmp_path / "log/log.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = dmtl("check", "--config", config, "--day", "2026-03-02")
    key = "csv." if form == "csv" else ""
    assert ended.code == 65 and f"column {column}: expected " in ended.err and hint.format(key) in ended.err
    if "null_values" in hint:
        told = "  csv: {null_values: [WORD]}\n" if form == "csv" else "  null_values: [WORD]\n"
        config.write_text(config.read_text().replace("data:\n", f"data:\n{told.replace('WORD', word)}", 1))
        config.write_text(config.read_text().replace("events:\n", "events:\n    null_click: no_click\n", 1))
        assert dmtl("check", "--config", config, "--day", "2026-03-02").code == 0


def test_null_values_need_text(tmp_path: Path) -> None:
    made(tmp_path, lambda home: parquet(frame(), home))
    config = tmp_path / "mine.yaml"
    config.write_text(config.read_text().replace("data:\n", "data:\n  null_values: ['NULL']\n"))
    ended = dmtl("check", "--config", config, "--day", "2026-03-02")
    assert ended.code == 78 and "null_values has no effect: no table is of format csv or json" in ended.err


# -- lists of items ----------------------------------------------------------------------------------------------------


def requests(home: Path, clicked: str = "clicked") -> pl.DataFrame:
    """A row a request, with what it showed and, under a name, what was clicked of it."""
    x = unseen.drawn(0)
    rows = frame(request_id=x["request"]).with_columns(pl.format("v{}", "item_id").alias("item_id"))
    one = rows.group_by("request_id", "user_id", maintain_order=True).agg(
        pl.col("ts").first(),
        pl.col("item_id").alias("shown"),
        pl.col("item_id").filter(pl.col("clicked") == 1).alias(clicked),
    )
    unseen.by_day(home / "events", one, {"at": one["ts"].to_numpy()})
    return one


def test_a_list_of_items_a_request_and_of_what_was_clicked_of_it(tmp_path: Path) -> None:
    """An element is a row, and a click where the other list has it; the other list is no feature."""
    written: list[pl.DataFrame] = []
    ended, raw, text = made(tmp_path, lambda home: written.append(requests(home)), "--conversion", "mod(ts, 2) = 0")
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["explode"], events["item"]) == ("shown", "shown"), ended.err
    assert events["click"] == "clicked_" and "clicked" in events["outcomes"] and "clicked" not in features(raw)
    assert "click: clicked_  # clicked has it, a list of what was clicked of those shown: 0/1, " in text
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json
    day = dt.date(2026, 3, 2)
    rows = written[0].filter(pl.from_epoch(pl.col("ts")).dt.date() == day)
    assert checked["rows"] == rows["shown"].list.unique().list.len().sum(), "an item that is shown twice in a list"
    of_each = rows.select(pl.col("shown").list.set_intersection("clicked").list.len().sum()).item()
    assert checked["labels"]["clicks"] == of_each


def test_a_list_of_items_without_what_was_clicked(tmp_path: Path) -> None:
    """Its columns are named in a command, with which an element is a row."""
    ended, raw, text = made(tmp_path, lambda home: requests(home, "sponsored"))
    assert ended.code == 78 and "item" not in raw["data"]["events"], ended.err
    assert "shown has lists of 10, each of whose elements is a row then" in text
    again = next(line for line in ended.out.splitlines() if line.startswith("first: dmtl init"))
    assert again.endswith("--item shown"), again
    named = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml", "--item", "shown", "--conversion", "ts > 0")
    other = yaml.safe_load((tmp_path / "other.yaml").read_text())["data"]["events"]
    assert named.code == 0 and (other["explode"], other["item"]) == ("shown", "shown"), named.err


def test_lists_of_few_codes_are_no_items(tmp_path: Path) -> None:
    write = frame(tags=[["a", "b"], ["c"]] * 600, score=[[0.5]] * 1200).drop("item_id")
    ended, _, _ = made(tmp_path, lambda home: parquet(write, home))
    assert ended.code == 78 and "each of whose elements" not in ended.err
    named = dmtl("init", tmp_path / "log", "-o", tmp_path / "other.yaml", "--item", "score")
    assert named.code == 2 and "expected a column of ids, score is List(Float64), such as [0.5]" in named.err


@pytest.mark.parametrize("name", ["tags", "shown"])
def test_tags_of_an_item_without_a_name_are_not_what_was_shown(tmp_path: Path, name: str) -> None:
    x = unseen.drawn(0)
    tags = {name: [[f"t{i}", f"t{i + 1}"] for i in x["item"]]}
    write = frame(matter=x["item"] + 7_000, seen=[[f"t{k % 50}", f"t{k % 31}"] for k in range(1200)], **tags)
    ended, raw, _ = made(tmp_path, lambda home: parquet(write.drop("item_id"), home))
    events = raw["data"]["events"]
    assert ended.code == 0 and events["item"] == "matter" and "explode" not in events, ended.err


# -- numbers with a unit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["€ {}.62", "${}", "1.{:03d},50 kr", "{},99 €", "EUR {}.00", "{} kg", "{}kg", "1 {:03d},00 zł", "{}.5%"]
)
def test_numbers_with_a_unit_are_told(tmp_path: Path, form: str) -> None:
    price = [form.format(int(i) + 100) for i in unseen.drawn(0)["item"]]
    ended, raw, text = made(tmp_path, lambda home: parquet(frame(price=price, sale=price[::-1]), home))
    said = f"40 texts such as {price[-1]!r}"
    assert ended.code == 0 and features(raw)["price"] == {"name": "price", "side": "item", "kind": "categorical"}
    told = [x for x in text.splitlines() if "name: price" in x or "name: sale" in x]
    assert len(told) == 2 and all(
        "are read as text, each a class of its own: write the number alone" in x for x in told
    ), told
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json["suggestions"]
    found = [x for x in found if "write the number alone and set kind: numeric" in x]
    assert [x.partition(":")[0] for x in found] == ["price", "sale"] and said.split("such")[0] in found[0]


@pytest.mark.parametrize(
    "form", ["b{}", "cat-{}", "{}.3.2", "Pixel {}", "{}", "K{:04d}", "{}a", "{} by Abba and others"]
)
def test_codes_are_no_numbers_with_a_unit(form: str) -> None:
    assert with_units(pl.Series("c", [form.format(k) for k in range(100)])) is None
    assert with_units(pl.Series("c", ["1 kg", "500 g"] * 100)) is None, "two classes"


WORDS = {
    "greek": ("{}ω {}λ", "λ", "ω"),
    "german": ("{} Std. {} Min.", "Min", "Std"),
    "japanese": ("{}時間{}分", "分", "時間"),
    "letters": ("{}h {}m", "m", "h"),
}


@pytest.mark.parametrize("language", WORDS)
def test_lengths_in_words_of_any_language_are_told(tmp_path: Path, language: str) -> None:
    """As text in Parquet: what they are, and the computed column that makes minutes of them, which does so."""
    form, small, large = WORDS[language]
    minutes = [7 * int(i) % 60 + 60 * (int(i) % 4) for i in unseen.drawn(0)["item"]]
    texts = [form.format(*divmod(m, 60)) for m in minutes]
    ended, raw, text = made(tmp_path, lambda home: parquet(frame(τάξη=texts), home))
    assert ended.code == 0, ended.err
    (line,) = [x for x in text.splitlines() if "look like numbers with units and are read as text" in x]
    assert f"(60 {small} to 1 {large}), kind: numeric" in line
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-02", "--json").json["suggestions"]
    (said,) = [x for x in found if "look like numbers with units" in x]
    (computed,) = re.findall(r"table's computed: (\{.*\}) \(60 ", said)
    assert computed in line
    raw["data"]["events"]["computed"] = yaml.safe_load(computed)
    feature = {"name": "length", "side": "item", "kind": "numeric", "column": next(iter(yaml.safe_load(computed)))}
    raw["features"] = ["auto", feature]
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True))
    assert dmtl("check", "--config", tmp_path / "made.yaml", "--day", "2026-03-02").code == 0
    name, expression = next(iter(yaml.safe_load(computed).items()))
    rows = pl.DataFrame({"τάξη": texts}).to_arrow()
    (column,) = Computed("data.events.computed", {name: expression}).of(rows, [name], "log").columns
    assert column.to_pylist() == minutes


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_lengths_in_words_are_numbers(tmp_path: Path, kind: str) -> None:
    x = unseen.drawn(0)
    texts = [f"{int(i) // 4}h {15 * (int(i) % 4)} min" for i in x["item"]]

    def write(home: Path) -> None:
        rows = frame(prep=texts)
        rows.write_csv(home / "log.csv") if kind == "csv" else rows.write_ndjson(home / "log.jsonl")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0 and raw["data"]["types"]["prep"] == "clock", ended.err
    assert features(raw)["prep"] == {"name": "prep", "side": "item", "kind": "numeric", "num_buckets": 20}
    assert "lengths of time, from 0 to 35,100 seconds" in text


def test_which_computed_columns_make_numbers_of_words() -> None:
    def texts(form: str, most: int) -> pl.Series:
        return pl.Series("a b", [None, *(form.format(k // most, k % most) for k in range(4 * most))])

    made = as_number(texts("{}ω {}λ", 60))
    assert made is not None and made.startswith('computed: {"a b_λ": ')
    assert as_number(texts("{} days {} hours", 24)) is None, "24 hours to a day"
    assert as_number(texts("{} kg {} g", 1000)) is None
    assert as_number(texts("{}ω {}λ", 60).extend(pl.Series(["soon"]))) is None
    assert as_number(pl.Series("c", [f"{k} λ" for k in range(60)])) is None, "one number"
    assert with_units(pl.Series("seat", [f"{k}{row}" for k in range(30) for row in "ABCDEF"])) is None


# -- names in other scripts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("posição", "posicao"),
        ("Größe", "Grosse"),
        ("şehir", "sehir"),
        ("位置", "context_feature"),
        ("prix (€)", "prix____"),
    ],
)
def test_a_name_in_another_alphabet(column: str, name: str) -> None:
    assert feature_name(column, "context", {"user_id"}) == name


def test_names_stay_apart(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    own = {"posição": x["position"], "posicao": 9 - x["position"], "usuário": x["user"]}
    write = frame(**own).drop("user_id")
    ended, raw, _ = made(tmp_path, lambda home: parquet(write, home), "--user", "usuário")
    found = {f.get("column", f["name"]): f["name"] for f in raw["features"] if "profile" not in f}
    assert ended.code == 0 and found["posição"] == "posicao" and found["posicao"] == "context_posicao", ended.err
    assert len({f["name"] for f in raw["features"]}) == len(raw["features"])
