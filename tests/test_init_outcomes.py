"""`dmtl init` tells what came of an exposure from what was known before it, by structs and by the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import features, frame, made
from worlds import dmtl

from dmtl_cli.guess.exposures.labels import roles_of


def nested(home: Path, started: str = "played", struct: str = "outcome") -> None:
    """Events whose outcomes are a struct: a start that no name tells as a click does, and what followed it, less the
    durations of the shortest."""
    x = unseen.drawn(21, 3_000)
    played = x["click"] == 1
    outcome = {
        started: played,
        "watched_s": [float(s) if c and s > 3 else None for s, c in zip(x["seconds"], played, strict=True)],
        "finished": [bool(b) if c else None for b, c in zip(x["bought"], played, strict=True)],
        "noise": np.random.default_rng(0).integers(0, 5, len(played)),
    }
    frame = pl.DataFrame(
        {
            "meta": pl.DataFrame({"req": x["request"], "at": pl.Series(x["at"]).cast(pl.Int64) * 1000}).to_struct(),
            "viewer": pl.DataFrame({"id": x["user"] + 5_000}).to_struct(),
            "clip": pl.DataFrame({"ref": [f"c{i}" for i in x["item"]], "slot": x["position"]}).to_struct(),
            struct: pl.DataFrame(outcome).to_struct(),
        }
    )
    unseen.by_day(home / "impressions", frame, x)


@pytest.mark.parametrize("started", ["played", "flag_7"])
def test_a_start_in_the_struct_of_the_label_is_the_click(tmp_path: Path, started: str) -> None:
    ended, raw, text = made(tmp_path, lambda home: nested(home, started), "--item", "clip.ref")
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    assert (events["click"], events["duration"]) == (f"outcome.{started}", "outcome.watched_s")
    assert "where it is 0 there is no outcome.watched_s" in text
    assert not [f for f in features(raw).values() if str(f.get("column", "")).startswith("outcome.")]
    assert set(events["outcomes"]) == {"outcome.finished", "outcome.noise"} and "clip_slot" in features(raw)
    assert "in outcome, as a label is" in text and "every row counts as a click" not in ended.out


def test_a_struct_of_the_whole_row_is_no_struct_of_outcomes() -> None:
    x = unseen.drawn(22, 3_000)
    noise = np.random.default_rng(0).integers(0, 5, len(x["user"]))
    frame = pl.DataFrame({"e.user": x["user"], "e.item": x["item"], "e.click": x["click"]})
    frame = frame.with_columns(pl.Series("e.dwell_time", x["seconds"]), pl.Series("e.place", noise))
    roles = roles_of(frame, {})
    assert {role: g.column for role, g in roles.named.items()} == {
        "user": "e.user",
        "item": "e.item",
        "click": "e.click",
        "duration": "e.dwell_time",
    }
    assert roles.outcomes == []


@pytest.mark.parametrize("form", ["parquet", "json"])
@pytest.mark.parametrize("path", ["event", "payload.event", "a.b.c"])
@pytest.mark.parametrize("names", [("user_id", "item_id", "request_id"), ("userId", "videoId", "reqId")])
def test_ids_in_an_object_of_any_name(tmp_path: Path, form: str, path: str, names: tuple[str, ...]) -> None:
    """One object around the whole row, as a bus of events writes it, is no reason to ask for its columns."""
    x = unseen.drawn(25, 3_000)
    values = (x["user"], x["item"], x["request"] + 10**6)
    inner = pl.DataFrame(dict(zip(names, values, strict=True)) | {"is_click": x["click"], "dwell_time": x["seconds"]})
    whole = inner.with_columns(ts=x["at"], place=x["position"]).to_struct()
    for name in reversed(path.split(".")[1:]):
        whole = pl.DataFrame({name: whole}).to_struct()
    frame = pl.DataFrame({path.split(".")[0]: whole})

    def write(home: Path) -> None:
        frame.write_ndjson(home / "log.json") if form == "json" else unseen.by_day(home / "events", frame, x)

    ended, raw, _ = made(tmp_path, write)
    events = raw["data"]["events"]
    assert ended.code == 0, ended.err
    assert [events[k] for k in ("user", "item", "request")] == [f"{path}.{name}" for name in names]
    assert (events["click"], events["time"]) == (f"{path}.is_click", f"{path}.ts")


@pytest.mark.parametrize("other", ["item.user_id", "e.video.author.user_id", "e.post.uid"])
def test_the_user_of_an_item_is_not_the_one_who_saw_it(other: str) -> None:
    """Whichever column comes first, and however many there are of each."""
    x = unseen.drawn(26, 3_000)
    values = {"user": x["user"] * 40 + x["item"], "own": x["user"] + 900, "item": x["item"], "mine": x["item"] % 30}
    frame = pl.DataFrame({other: values["user"], "e.user.item_id": values["mine"]})
    frame = frame.with_columns(pl.Series("e.user_id", values["own"]), pl.Series("e.item_id", values["item"]))
    roles = roles_of(frame, {})
    assert roles.user is not None and roles.item is not None
    assert (roles.user.column, roles.item.column) == ("e.user_id", "e.item_id")
    alone = roles_of(frame.drop("e.user_id"), {})
    assert alone.user is not None and alone.user.column == other, "there is no other"


def test_what_tells_a_conversion_is_an_outcome_where_every_row_is_a_click() -> None:
    x, rng = unseen.drawn(23, 3_000), np.random.default_rng(0)
    bought = x["click"] == 1
    frame = pl.DataFrame({"user_id": x["user"], "item_id": x["item"], "bought": bought})
    frame = frame.with_columns(
        amt=pl.Series([str(n) if b else None for n, b in zip(rng.integers(0, 9, len(bought)), bought, strict=True)]),
        rush=pl.Series(bought + rng.normal(0, 0.3, len(bought))),
        place=pl.Series(rng.integers(0, 5, len(bought))),
    )
    roles = roles_of(frame, {})
    assert roles.click is None and roles.conversion is not None and roles.conversion.column == "bought"
    why = {g.column: g.why for g in roles.outcomes}
    assert why.keys() == {"amt", "rush"}
    assert why["amt"] == "0 or empty wherever there was no bought"
    assert why["rush"].startswith("alone it tells bought with an AUC of 0.9")


def bare(home: Path) -> None:
    """No name tells a label, and what is no feature is known by one alone."""
    x = unseen.drawn(24, 3_000)
    frame = pl.DataFrame({"user_id": x["user"], "item_id": x["item"], "ts": x["at"], "begun": x["click"]})
    frame = frame.with_columns(
        well=pl.Series(x["bought"]),
        spell=pl.Series((x["seconds"] > 20) * 3 + (x["seconds"] > 0) * 2),
        place=pl.Series(x["position"]),
        phone=pl.Series([f"phone {k % 3}" for k in x["user"]]),
    )
    unseen.by_day(home / "events", frame, x)


def test_features_are_told_when_they_are_written(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path / "bare", bare)
    assert ended.code == 78 and raw["features"] == "auto" and "init --conversion 'RULE', in SQL" in text
    assert "context features" not in ended.out and "user features" not in ended.out
    assert "no features yet  5 " in ended.out and "begun, well, spell, place, phone" in ended.out
    assert "run init again with the options that EDIT names: it tells which of these are features: begun, " in text
    ended, raw, _ = made(tmp_path / "told", bare, "--click", "begun", "--conversion", "well")
    assert ended.code == 0 and raw["data"]["events"]["conversion"] == "well", ended.err
    assert raw["data"]["events"]["click"] == "begun" and raw["data"]["events"]["outcomes"] == ["spell"]
    assert features(raw).keys() == {"user_id", "item_id", "place", "phone"}
    assert "columns that no feature reads" not in ended.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--conversion", "spell"), "(J and N, oui and non), spell is Int64, such as "),
        (("--conversion", "well", "--duration", "spell"), "--conversion: --duration is given too"),
    ],
)
def test_a_conversion_that_cannot_be(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    bare(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", *options)
    assert ended.code == 2 and said in ended.err and not (tmp_path / "mine.yaml").exists()


def test_check_names_what_nothing_reads(tmp_path: Path) -> None:
    """The label named by hand, the features left as they were."""
    _, _, text = made(tmp_path, bare)
    key = next(line for line in text.splitlines() if "# duration: COLUMN" in line)
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace(key, "    conversion: well"))
    ended = dmtl("check", "--config", mine, "--day", "2026-03-03")
    assert ended.code == 0 and "columns that no feature reads: begun, phone, place, spell\n" in ended.out, ended.err
    assert dmtl("check", "--config", mine, "--day", "2026-03-03", "--json").json["unread"] == [
        "begun",
        "phone",
        "place",
        "spell",
    ]


# -- how much of an item was read --------------------------------------------------------------------------------------

X = unseen.drawn(31, 3_000)
LENGTH = np.random.default_rng(5).integers(20, 200, unseen.ITEMS)[X["item"]]
PART = np.where(X["click"] == 1, np.random.default_rng(6).beta(1.2, 1.2, 3_000), 0.0)
SEEN = pl.DataFrame({"user_id": X["user"], "item_id": X["item"], "ts": X["at"], "is_click": X["click"]})


@pytest.mark.parametrize("of", [1, 100])
@pytest.mark.parametrize(
    ("name", "given"), [("watched_pct", ()), ("play_ratio", ()), ("watched_pct", ("--duration", "watched_pct"))]
)
def test_a_share_of_an_item_is_a_label_with_a_threshold(tmp_path: Path, of: int, name: str, given: tuple[str]) -> None:
    frame = SEEN.with_columns(pl.Series(name, PART * of).round(4 if of == 1 else 1))
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X), *given)
    assert ended.code == 0 and raw["data"]["events"]["duration"] == name, ended.err
    clicked = frame.filter(pl.col("is_click") == 1)[name]
    levels = [level * of for level in (0.9, 0.75, 0.5, 0.25) if (clicked > level * of).mean() >= 0.3]
    assert raw["labels"] == {"long_read": max(levels)} and f"of an item was read, of {of};" in text
    day = unseen.days_of(X)[0]
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day, "--json")
    assert found.code == 0, found.err
    assert found.json["labels"]["duration_seconds"]["p50"] == pytest.approx(of / 2, abs=0.1 * of)


@pytest.mark.parametrize("kind", ["an item's own", "one of few values"])
def test_a_share_that_no_reader_makes_is_no_label(tmp_path: Path, kind: str) -> None:
    own = LENGTH / 250 if kind == "an item's own" else X["bought"]
    frame = SEEN.with_columns(pl.Series("play_ratio", own))
    ended, raw, _ = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    assert ended.code == 78 and "labels" not in raw and "duration" not in raw["data"]["events"]


@pytest.mark.parametrize(
    ("read", "length", "by", "name"),
    [
        (1000, 1000, "", "video_length"), (1, 1000, " * 1000", "video_length"), (1000, 1, " * 0.001", "video_length"),
        (1, 1, "", 'video "full" length'),
    ],
)  # fmt: skip
def test_the_share_of_an_item_is_an_expression(tmp_path: Path, read: int, length: int, by: str, name: str) -> None:
    """Where an item's length is beside the duration, in whichever unit; the comment's lines are a config's."""
    frame = SEEN.with_columns(play_time=pl.Series(PART * LENGTH * read).round(3), **{name: LENGTH * length})
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    assert ended.code == 0 and raw["data"]["events"].pop("duration") == "play_time", text
    lines = [line.removeprefix("#").strip() for line in text.splitlines()]
    begin = lines.index("duration: watched_share")
    said = yaml.safe_load("\n".join(lines[begin : begin + 2]))
    column = name if name == "video_length" else '"video ""full"" length"'
    assert said["computed"]["watched_share"] == f"CAST(play_time AS DOUBLE) / NULLIF({column}, 0){by}"
    raw["data"]["events"].pop("duration_unit", None)
    raw["data"]["events"] |= said
    raw["labels"] = yaml.safe_load(lines[begin + 2].removeprefix("with labels:").removesuffix(", half of it"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", unseen.days_of(X)[0], "--json")
    assert found.code == 0, found.err
    assert found.json["labels"]["duration_seconds"]["p50"] == pytest.approx(0.5, abs=0.1)


def test_no_share_of_what_is_no_length(tmp_path: Path) -> None:
    frame = SEEN.with_columns(play_time=pl.Series(PART * LENGTH).round(3), runtime=pl.Series(LENGTH * 10**6))
    ended, _, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    assert ended.code == 0 and "watched_share" not in text


def test_minus_one_where_there_was_no_click_is_no_duration(tmp_path: Path) -> None:
    """Beside a count that only clicks have; such rows stay."""
    ms = np.where(X["click"] == 1, 1000 * np.round(PART * LENGTH, 2), -1).astype(np.int64)
    ads = np.where(X["click"] == 1, 1 + np.arange(3_000) % 5, 0)
    frame = SEEN.with_columns(play_ms=pl.Series(ms), ads_shown=pl.Series(ads))
    ended, raw, text = made(tmp_path, lambda home: unseen.by_day(home / "events", frame, X))
    events = raw["data"]["events"]
    assert ended.code == 0 and events["duration"] == "play_ms" and events["invalid_rows"] == "drop", ended.err
    assert "ads_shown" in events["outcomes"] and "none of them a click, which stay" in text
    assert "left out" not in ended.out


def test_a_column_that_an_earlier_table_has_too_is_named_as_left_out(tmp_path: Path) -> None:
    """Of reads and shares with `ms` each: a rule that says ms means that of reads, and the config says so."""
    shown = frame(drop=("watch_seconds",)).with_row_index("event_id")
    came = shown.filter(pl.col("clicked") == 1)

    def write(home: Path) -> None:
        shown.write_parquet(home / "events.parquet")
        for name, rows in {"reads": came, "shares": came[::2]}.items():
            ms = pl.Series("ms", range(0, 1_000 * len(rows), 1_000))
            rows.select("event_id", ms).write_parquet(home / f"{name}.parquet")

    ended, raw, text = made(tmp_path, write, "--conversion", "ms > 30000")
    assert ended.code == 0, ended.err
    joined = raw["data"]["events"]["joined"]
    assert "ms" in joined["reads"]["columns"] and "ms" not in joined["shares"]["columns"]
    assert text.count("# not used: ms\n") == 1 and text.index("# not used: ms\n") > text.index("path: shares.parquet")
