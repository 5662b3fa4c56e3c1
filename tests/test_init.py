"""`init` makes a config of logs as others write them: each with other names, formats, types and gaps."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import unseen
import yaml
from initiated import config_of, features, made
from worlds import dmtl

from dmtl_cli.guess.reading.rows import dialect
from dmtl_cli.stages import init as init_stage
from dmtl_cli.synth.generate import generate


def test_unicode_lists_and_milliseconds(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, unseen.unicode_and_lists)
    assert ended.code == 0, ended.err
    events = raw["data"]["events"]
    assert events == {
        "path": "clicks", "partition": "day", "user": "memberKey", "item": "articleId", "time": "eventTime",
        "click": "wasClicked", "duration": "dwellTime", "duration_unit": "ms",
    }  # fmt: skip
    assert "users" not in raw["data"] and raw["data"]["items"] == {"path": "articles", "key": "articleId"}
    read = features(raw)
    history = {"side": "user", "kind": "sequence", "level": "event", "embedding_name": "articleId", "max_length": 3}
    assert read["recentArticles"] == {"name": "recentArticles"} | history
    assert read["topics"]["kind"] == "sequence" and read["embedding"] == {
        "name": "embedding", "side": "item", "kind": "vector", "dim": 4,
    }  # fmt: skip
    made_of = {f.name for f in config_of(tmp_path).features}
    assert {"user_click_history", "item_clicks_1d", "item_age"} <= made_of, "profiles"
    line = next(x for x in text.splitlines() if "dwellTime" in x)
    assert "named like a duration" in line and "as seconds that would be" in line
    assert "day 2026-03-03:" in ended.out and "milliseconds" not in ended.err, "check was run, and had no doubt"
    config_of(tmp_path)


def test_a_csv_without_a_header(tmp_path: Path) -> None:
    _, raw, _ = made(tmp_path, unseen.csv_without_header)
    data = raw["data"]
    assert data["csv"] == {"separator": "\t", "columns": ["user_id", "item_id", "rating", "time"]}
    assert data["types"] == {"user_id": "int64", "item_id": "int64", "rating": "float64", "time": "int64"}
    assert (data["events"]["path"], data["events"]["date_column"]) == ("u.data.csv", "time")
    assert data["events"]["duration"] == "rating" and raw["labels"] == {"long_read": 3}, "4 and 5 are good: 60%"
    assert raw["features"] == "auto"
    assert config_of(tmp_path).data.events.click is None


def test_a_csv_with_an_index_as_pandas_writes_it(tmp_path: Path) -> None:
    """The first column has no name: the same is found as without it."""

    def indexed(home: Path) -> None:
        unseen.chinese(home)
        for file in home.glob("*.csv"):
            head, *lines = file.read_text().splitlines()
            file.write_text("".join(f"{line}\n" for line in [f",{head}", *(f"{k},{x}" for k, x in enumerate(lines))]))

    (_, plain, _), (_, found, _) = made(tmp_path / "plain", unseen.chinese), made(tmp_path / "indexed", indexed)
    for raw in (plain, found):
        del raw["data"]["root"], raw["workspace"]
    assert found == plain


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0"])
def test_an_index_that_pandas_has_named_is_no_feature(tmp_path: Path, name: str) -> None:
    def indexed(home: Path) -> None:
        unseen.chinese(home)
        for file in home.glob("*.csv"):
            pl.read_csv(file, infer_schema=False).with_row_index(name).write_csv(file)

    _, raw, text = made(tmp_path, indexed)
    assert f"# {name}: not used: an index of rows, as pandas writes it" in text
    assert name not in {one.get("column", of) for of, one in features(raw).items()}


def test_the_first_line_of_a_csv_without_a_header_may_begin_with_nothing() -> None:
    assert not dialect(b",i3,u\nu1,i1,v\nu2,i2,w\n").header
    assert dialect(b",item,user\n0,i1,v\n1,i2,w\n").header and not dialect(b"x,,user\n0,i1,v\n1,i2,w\n").header


def test_nested_json_lines_in_dated_files(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, unseen.json_nested)
    data, events = raw["data"], raw["data"]["events"]
    assert data["format"] == "json" and events["path"] == "impressions-{day}.jsonl" and "date_column" not in events
    assert (events["user"], events["item"], events["time"]) == ("uid", "sku", "ts")
    assert (events["click"], events["duration"]) == ("result.clicked", "result.dwell_ms")
    assert events["duration_unit"] == "ms" and "EDIT" not in text and ended.code == 0
    assert data["types"]["ts"] == "datetime" and "types:  # what is not here keeps the type that it has" in text
    assert "sku" not in data["types"], "text in JSON is text: 0012 keeps its zero"
    assert features(raw)["slot"]["side"] == "context"


def test_chinese_columns_of_one_csv(tmp_path: Path) -> None:
    _, raw, _ = made(tmp_path, unseen.chinese)
    data, events = raw["data"], raw["data"]["events"]
    assert (events["path"], events["date_column"]) == ("日志.csv", "时间戳")
    assert (events["user"], events["item"]) == ("用户编号", "商品编号")
    assert (events["click"], events["duration"]) == ("是否点击", "播放时长") and "duration_unit" not in events
    assert data["users"] == {"path": "用户.csv", "key": "用户编号"}
    assert data["items"] == {"path": "商品.csv", "key": "商品编号"}
    assert data["types"].get("用户编号", "text") == "text", "00012 is no number"
    read = features(raw)
    assert {f.get("column") for f in read.values()} == {"用户编号", "城市", "商品编号", "价格", "类目", "位置"}
    price = next(f for f in read.values() if f["column"] == "价格")
    assert "transform" not in price and price["num_buckets"] == 20, "uniform prices have no long tail"
    config_of(tmp_path)


def test_positives_alone_in_folders_named_by_the_day(tmp_path: Path) -> None:
    _, raw, text = made(tmp_path, unseen.positives)
    events = raw["data"]["events"]
    assert events["path"] == "views/{day}" and events["conversion"] == "purchased"
    assert "click" not in events and "every row counts as one" in text
    assert config_of(tmp_path).teacher.samples == "sampled"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("day=%Y-%m-%d/x.parquet", "day={day}"), ("dt=%Y%m%d/x.parquet", "dt={day}"),
        ("%Y-%m-%d/x.parquet", "{day}"), ("%Y%m%d/x.parquet", "{day}"), ("%Y-%m-%d.parquet", "{day}.parquet"),
        ("clicks_%Y%m%d.parquet", "clicks_{day}.parquet"), ("a/day=%Y-%m-%d/x.parquet", "a"),
        ("%Y/%m/%d/x.parquet", "{day:%Y/%m/%d}"),
    ],
)  # fmt: skip
def test_days_directly_in_the_place(tmp_path: Path, pattern: str, path: str) -> None:
    ended, raw, _ = made(tmp_path, lambda home: unseen.in_place(home, pattern))
    assert raw["data"]["events"]["path"] == path and ended.code == 0
    assert "day 2026-03-03: " in ended.out and "check of" not in ended.out, "check read it"


@pytest.mark.parametrize("name", ["session_id", "sess_no", "sid", "vst"])
def test_a_visit_is_a_request(tmp_path: Path, name: str) -> None:
    ended, raw, text = made(tmp_path, lambda home: unseen.visits(home, name))
    assert raw["data"]["events"]["request"] == name and "10.0 rows each, all of one user" in text
    assert "gadget" in features(raw) and ended.code == 0


def test_a_flag_that_may_be_the_click(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, lambda home: unseen.visits(home, "sid"))
    assert "click" not in raw["data"]["events"] and ended.code == 0
    (line,) = (x for x in text.splitlines() if "# click: COLUMN" in x)
    explained = "act (0/1, 30% ones; where it is 0 there is no watch_time), promo (0/1, 50% ones)"
    assert line.endswith(f"every row counts as one; it may be (init --click COLUMN, or 'EXPRESSION'): {explained}")
    assert "click            every row                 or --click with one of: act (0/1, " in ended.out
    assert "act: it is 1 in" in ended.out, "check says it too"


def test_texts_that_are_lists_and_a_long_tail(tmp_path: Path) -> None:
    def write(home: Path) -> None:
        unseen.visits(home, "sid")
        goods = {
            "item_id": range(unseen.ITEMS),
            "embedding": [f"[{k / 7}, -1e-3, {k}]" for k in range(unseen.ITEMS)],
            "price": [1.5**k for k in range(unseen.ITEMS)],
            "discount_price": [10.0 + k for k in range(unseen.ITEMS)],
        }
        pl.DataFrame(goods).write_parquet(home / "goods.parquet")

    _, raw, text = made(tmp_path, write)
    assert "# embedding: not used: lists of 3 numbers as text; write them as lists, in polars log.with_" in text
    assert features(raw)["price"]["transform"] == "log1p" and "with a long tail" in text
    assert features(raw)["discount_price"]["num_buckets"] == 20


def test_the_first_chain_has_a_day_of_history_before_it(tmp_path: Path) -> None:
    ended, _, text = made(tmp_path / "three", unseen.positives)
    assert "--from 2026-03-02 --to 2026-03-03" in ended.out and "second day" not in ended.out
    assert "  # 3 days, 2026-03-01 .. 2026-03-03" in text

    def one(home: Path) -> None:
        unseen.positives(home)
        for day in ("2026-03-01", "2026-03-02"):
            shutil.rmtree(home / "views" / day)

    ended, _, text = made(tmp_path / "one", one)
    assert "--day 2026-03-03  # a student needs a second day (or student.distill.min_age_days: 0)" in ended.out
    assert "parquet, 1 day\n" in ended.out and "# 1 day, 2026-03-03\n" in text


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"x")
    ended = dmtl("init", tmp_path / "x.xlsx", "-o", tmp_path / "mine.yaml")
    assert ended.code == 66 and f"{tmp_path}/x.xlsx: no Parquet, CSV, JSON lines, Avro, Delta or Iceberg;" in ended.err


def test_a_ragged_row_is_told(tmp_path: Path) -> None:
    """A few are left out, as the file says; where a tenth are, it is no table."""
    lines = ["user_id,item_id,ts,click,seconds", *(f"{k % 7},{k % 5},{1772323200 + k},{k % 2},9" for k in range(50))]
    lines[20] += ",2"
    (tmp_path / "x.csv").write_text("\n".join(lines))
    ended = dmtl("init", tmp_path / "x.csv", "-o", tmp_path / "mine.yaml", "--duration", "seconds")
    (line,) = (x for x in (tmp_path / "mine.yaml").read_text().splitlines() if "invalid_rows: drop" in x)
    assert ended.code == 0, ended.err
    assert "1 line does not parse of 50 in 1 file, such as " in line and "x.csv: row 21: expected 5 values" in line
    assert "left out: 1 line that does not parse" in ended.out
    (tmp_path / "x.csv").write_text("\n".join([lines[0], *["1,2"] * 6, *lines[1:], ""]))
    ended = dmtl("init", tmp_path / "x.csv", "-o", tmp_path / "other.yaml")
    assert ended.code == 65 and "x.csv: row 2: expected 5 values, got 2; 7 of 56 lines do not parse" in ended.err


def test_names_that_say_nothing_are_options(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path / "bare", unseen.abbreviated)
    assert ended.code == 0 and (raw["data"]["events"]["user"], raw["data"]["events"]["item"]) == ("mbr_no", "cntnt_no")
    assert "are in members/all.parquet, which is named like a table of users" in text, "their tables say so"
    assert (
        "context features" in ended.out
        and "\nfeatures  " in ended.out
        and not {"mbr_no", "cntnt_no"} & {f["name"] for f in raw["features"][1:]}
    )
    roles = ("--user", "mbr_no", "--item", "cntnt_no", "--click", "act", "--duration", "len")
    ended, raw, text = made(tmp_path / "told", unseen.abbreviated, *roles)
    events = raw["data"]["events"]
    assert ended.code == 0 and [events[k[2:]] for k in roles[::2]] == [*roles[1::2]], ended.err
    assert raw["data"]["users"] == {"path": "members", "key": "mbr_no"} and raw["data"]["items"]["key"] == "cntnt_no"
    assert {"city", "kind", "place"} <= features(raw).keys() and "as --user says: " in text
    assert {"mbr_no", "cntnt_no"} <= {f.name for f in config_of(tmp_path / "told").features}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--user", "nobody"), "--user: events has no column nobody; it has mbr_no, cntnt_no, ts, act"),
        (("--user", "ts", "--item", "ts"), "--user: ts is given twice"),
        (
            ("--click", "word"),
            "or of times, word is String, such as yes; it has only yes: write 0 and 1 in their place, or name another",
        ),
        (
            ("--duration", "word"),
            "--duration: expected a column of numbers, or 3:45, or 1h 20m, word is String, such as yes; it has only",
        ),
    ],
)
def test_a_given_column_that_is_not_there(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    unseen.abbreviated(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", *options)
    assert ended.code == 2 and said in ended.err and not (tmp_path / "mine.yaml").exists()


def test_purchases_in_one_parquet_file(tmp_path: Path) -> None:
    _, raw, text = made(tmp_path, unseen.purchases)
    events = raw["data"]["events"]
    assert (events["click"], events["conversion"], events["request"]) == ("clicked", "ordered", "impression_id")
    assert events["outcomes"] == ["revenue"] and "0 or empty wherever there was no click" in text
    assert (events["path"], events["date_column"], raw["data"]["timezone"]) == ("log.parquet", "event_timestamp", "UTC")
    assert "own times, which name no zone" in text
    assert {n: f["side"] for n, f in features(raw).items() if n in ("rank", "platform")} == {
        "rank": "context", "platform": "context",
    }  # fmt: skip


def test_recbole_and_movielens(tmp_path: Path) -> None:
    _, raw, _ = made(tmp_path / "recbole", unseen.recbole)
    events = raw["data"]["events"]
    assert (events["user"], events["item"], events["path"]) == ("user_id:token", "item_id:token", "toy.inter")
    assert raw["data"]["items"]["path"] == "toy.item" and features(raw)["class"]["separator"] == " "
    config_of(tmp_path / "recbole")
    _, raw, text = made(tmp_path / "movielens", unseen.movielens)
    events = raw["data"]["events"]
    assert (events["user"], events["item"], events["path"]) == ("userId", "movieId", "ratings.csv")
    assert raw["data"]["items"] == {"path": "movies.csv", "key": "movieId"} and raw["labels"] == {"long_read": 3.5}
    assert features(raw)["genres"]["separator"] == "|" and "# title: not used" in text
    config_of(tmp_path / "movielens")


def test_what_lies_beside_a_log(tmp_path: Path) -> None:
    def write(log: Path) -> None:
        unseen.movielens(log)
        (log / "about.txt").write_text("Ratings\n=======\n\nThey are of films, by people, and free, as (see below).\n")
        (log / "about.json").write_text('{\n "version": 1\n}\n')

    _, raw, text = made(tmp_path, write)
    assert raw["data"]["events"]["path"] == "ratings.csv"
    for name, why in (("about.txt", "expected 1 values, got"), ("about.json", "line 1: expected a JSON object")):
        (line,) = (x for x in text.splitlines() if f"# {name}: not used: " in x)
        assert why in line


def test_a_folder_of_one_file(tmp_path: Path) -> None:
    """Whatever a format's file may be called, the folder is read by it."""

    def write(log: Path) -> None:
        (log / "toy").mkdir()
        unseen.recbole(log / "toy")
        (log / "toy/toy.item").unlink()

    ended, raw, _ = made(tmp_path, write)
    assert raw["data"]["events"]["path"] == "toy" and "contains no" not in ended.out, ended.out


def test_anonymous_columns_are_said_and_the_file_is_there(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, unseen.criteo)
    assert ended.code == 78 and "the day, the user, the item could not be guessed" in ended.err
    assert raw["data"]["events"]["click"] == "label"
    lines = [k for k, line in enumerate(text.splitlines(), 1) if "# EDIT: " in line]
    assert f"edit lines {', '.join(map(str, lines))}" in ended.err and len(lines) == 3
    todo = " and ".join(f"line {n} ({key})" for n, key in zip(lines, ("date_column", "user", "item"), strict=True))
    check = f"dmtl check --config {tmp_path / 'mine.yaml'} --day YYYY-MM-DD"
    assert ended.out.endswith(f"\nfirst: edit {todo} of {tmp_path / 'mine.yaml'}, then {check}\n"), ended.out
    assert "backfill" not in ended.out and "next:" not in ended.out


def test_one_row_a_behaviour_is_read(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, unseen.behaviours)
    events = raw["data"]["events"]
    assert ended.code == 0 and "EDIT" not in text, ended.err
    assert events["where"] == "behavior = 'pv'" and "click" not in events, "a view is a click, where no kind is one"
    assert events["conversion"] == "buy" and {"cart", "fav"} <= events["joined"]["later"]["columns"].keys()
    assert events["date_column"] == events["joined"]["later"]["date_column"] == "time"
    assert raw["data"]["csv"]["columns"] == ["user_id", "item_id", "column_3", "behavior", "time"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    made(tmp_path, unseen.positives)
    first = (tmp_path / "mine.yaml").read_bytes()
    (tmp_path / "mine.yaml").write_text("mine: 1\n")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    assert ended.code == 73 and "mine.yaml exists" in ended.err
    assert (tmp_path / "mine.yaml").read_text() == "mine: 1\n"
    dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--force")
    assert (tmp_path / "mine.yaml").read_bytes() == first, "the same log gives the same bytes"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_its_own_file_is_written_over_until_somebody_edits_it(tmp_path: Path) -> None:
    made(tmp_path, unseen.positives)
    config = tmp_path / "mine.yaml"
    first = config.read_text()
    again = dmtl("init", tmp_path / "log", "-o", config, "--conversion", "ts > 5")
    assert again.code == 0 and config.read_text() != first, again.err
    other = first.replace("/log: guesses", "/other: guesses")
    for edited in (first.replace("seed: 1", "seed: 2"), first + "\n", first.partition("\n")[2], other):
        config.write_text(edited)
        ended = dmtl("init", tmp_path / "log", "-o", config)
        assert ended.code == 73 and ended.err.endswith("mine.yaml exists; name another with -o, or give --force\n")
        assert config.read_text() == edited


@pytest.mark.parametrize("links", [True, False])
def test_of_two_at_once_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """The other one writes while this one guesses; a file system may have no links."""
    log, out = tmp_path / "log", tmp_path / "mine.yaml"
    log.mkdir()
    unseen.positives(log)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda self, target: os.link(tmp_path / "no", self))
    read, alone = init_stage.understood, tmp_path / "alone.yaml"
    assert dmtl("init", log, "-o", alone).code == 0 and "data:" in alone.read_text()

    def meanwhile(*of: Any) -> Any:
        out.write_text("other: 1\n")
        return read(*of)

    monkeypatch.setattr(init_stage, "understood", meanwhile)
    ended = dmtl("init", log, "-o", out)
    assert ended.code == 73 and ended.err.endswith("mine.yaml exists; name another with -o, or give --force\n")
    assert out.read_text() == "other: 1\n"
    assert dmtl("init", log, "-o", out, "--force").code == 0 and "data:" in out.read_text()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["{}", "-{}", "it's {}", "a;b {}", "\n{}"])
@pytest.mark.parametrize("cut", ["folders", "times"])
def test_the_example_is_a_user_of_the_day(tmp_path: Path, name: str, cut: str) -> None:
    """Who clicked on the newest day, quoted for a shell; not the one with most rows, and nobody whose id cannot be
    typed."""
    rows = 600
    at = [1_767_225_600 + 432 * k for k in range(rows)]  # 2026-01-01 and the two days after it, 200 rows each
    of_last = [
        7 if k % 3 == 0 else 8 if k % 6 == 1 else k % 150 for k in range(rows)
    ]  # one is not the crowd that a guest is
    users = [name.format(1000 + (k if k < 400 else of_last[k])) for k in range(rows)]
    frame = {"user_id": users, "item_id": [f"i{k % 31}" for k in range(rows)], "ts": at}
    frame |= {"clicked": [k % 2 for k in range(rows)], "read_seconds": [(k % 2) * (k % 40) * 1.5 for k in range(rows)]}
    whole = pl.DataFrame(frame)
    whole = whole.with_columns(pl.col("user_id").cast(pl.Int64)) if name in ("{}", "-{}") else whole

    def write(home: Path) -> None:
        for day, part in enumerate(whole.iter_slices(200)) if cut == "folders" else [(None, whole)]:
            folder = home / ("events" if day is None else f"events/day=2026-01-0{day + 1}")
            folder.mkdir(parents=True)
            part.write_parquet(folder / "a.parquet")

    ended, _, text = made(tmp_path, write)
    (line,) = (x for x in ended.out.splitlines() if "dmtl recommend" in x)
    told = shlex.split(line)[-1]
    assert f"# Then: dmtl backfill --config {tmp_path}/mine.yaml --from " in text and told not in text.replace("ID", "")
    clicked = {name.format(1000 + of_last[k]) for k in range(400, rows) if k % 2} - {name.format(1007)}
    assert told == "ID" if name == "\n{}" else told in clicked


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("nothing", None, 66), ("notes.md", b"# words", 66), ("bad.parquet", b"PAR1nonsense", 65),
        ("bad.json", b"{", 65),
        ("numbers.json", b"5\n6\n", 65), ("empty.csv", b"", 66),
        ("metadata/v1.metadata.json", b"{}", 65), ("_delta_log/0.json", b"nonsense", 66),
    ],
)  # fmt: skip
def test_what_is_no_log(tmp_path: Path, name: str, content: bytes | None, code: int) -> None:
    where = tmp_path / "log"
    if content is not None:
        (where / name).parent.mkdir(parents=True)
        (where / name).write_bytes(content)
    ended = dmtl("init", where, "-o", tmp_path / "mine.yaml")
    assert ended.code == code and not (tmp_path / "mine.yaml").exists()


def test_json_says_the_same(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, unseen.unicode_and_lists, "--json")
    found = ended.json
    roles = {r["role"]: r["column"] for r in found["roles"]}
    assert roles["user"] == raw["data"]["events"]["user"] and found["day"] == "2026-03-03" and found["edits"] == []
    assert found["check"].startswith("day 2026-03-03: ")


def test_delta_and_iceberg(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    x = unseen.drawn(11)
    at = pl.Series(x["at"] * 1000).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {"user_id": x["user"], "item_id": x["item"], "ts": at, "is_click": x["click"], "play_seconds": x["seconds"]}
    )
    (tmp_path / "log").mkdir()
    deltalake.write_deltalake(str(tmp_path / "log" / "clicks"), frame.to_arrow())
    dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml")
    data = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]
    assert (data["format"], data["events"]["path"], data["events"]["date_column"]) == ("delta", "clicks", "ts")
    config_of(tmp_path)


def test_a_generated_world(tmp_path: Path) -> None:
    generate(tmp_path / "world", 3, users=100, items=60, events_per_day=1000)
    ended = dmtl("init", tmp_path / "world" / "log", "-o", tmp_path / "mine.yaml", "--json")
    raw = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["user"], events["item"], events["request"]) == (
        "user_id",
        "item_id",
        "request_id",
    )
    assert {"author", "category", "recent_clicks"} <= features(raw).keys()
    assert features(raw)["recent_clicks"]["embedding_name"] == "item_id"
    assert set(raw["data"]) == {"root", "events", "users", "items"}
