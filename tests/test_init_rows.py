"""`init` on logs whose users, times and clicks are unlike what a column of that role mostly has: each trap is one that
a log had."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made
from worlds import dmtl

from dmtl_cli.config.errors import Exit
from dmtl_cli.guess.exposures.ids import times_of
from dmtl_cli.guess.exposures.labels import roles_of


def roles_in(text: str) -> str:
    """The lines of data.events."""
    return text[text.index("  events:") : text.index("\nfeatures:")]


# -- users -------------------------------------------------------------------------------------------------------------


def test_ids_in_the_range_of_seconds_since_1970(tmp_path: Path) -> None:
    x, begin = unseen.drawn(0), 1_600_000_000
    write = frame(drop=("user_id",), user_id=begin + x["user"] * 86_411, device=x["user"] % 4)
    ended, raw, text = made(tmp_path, daily(write))
    assert raw["data"]["events"]["user"] == "user_id" and "named like a user" in text and ended.code == 0
    assert features(raw)["device"]["side"] == "user"


def test_what_comes_back_by_another_clock_is_no_time() -> None:
    x, begin = unseen.drawn(0), 1_600_000_000
    slates = x["at"].repeat(1) - x["position"]
    t = pl.DataFrame({"ts": x["at"], "holder": begin + x["user"] * 86_411, "other": slates})
    assert times_of(t) == {"ts": "s", "other": "s"}
    assert times_of(t.drop("ts")) == {"holder": "s", "other": "s"}, "without another clock it may be one"
    assert times_of(t.rename({"holder": "published_at"}))["published_at"] == "s", "an item's time comes back too"
    assert times_of(t.rename({"holder": "user_id"}).drop("ts")) == {"other": "s"}


def test_guests_without_an_id(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    user = [None if u % 5 == 0 else int(u) for u in x["user"]]
    write = frame(drop=("user_id",), uid=user, device=np.array(["tv", "web", "app"])[x["user"] % 3])
    ended, raw, text = made(tmp_path, daily(write))
    empty = sum(u is None for u in user) / len(user)
    assert raw["data"]["events"]["user"] == "uid" and raw["data"]["events"]["invalid_rows"] == "drop"
    assert f"invalid_rows: drop  # {empty:.0%} of rows have no uid: such rows are left out" in text
    assert ended.code == 0 and "left out: " in ended.out, ended.err


def test_a_device_of_three_values_is_no_user(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    write = frame(drop=("user_id",), device=np.array(["tv", "web", "app"])[x["user"] % 3])
    ended, raw, _ = made(tmp_path, daily(write))
    assert ended.code == Exit.CONFIG and "the user could not be guessed" in ended.err
    assert "user" not in raw["data"]["events"]


def test_few_users_and_no_click_are_said_aloud(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    write = frame(drop=("clicked", "user_id"), user_id=x["user"] % 7)
    ended, _, text = made(tmp_path, daily(write))
    few = "WARNING: user_id: 7 users in 1,200 rows of 40 items: is it the user?"
    none = "WARNING: no column of clicks (data.events.click): every row counts as a click"
    assert few in ended.out and none in ended.out and f"# {few}" in text and f"# {none}" in text
    assert ended.out.count("WARNING: user_id: 7 users in ") == 1, "check says it too, in the same words but for numbers"
    assert ended.out.count(none) == 1
    checked = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-03-03", "--json")
    assert len(checked.json["warnings"]) == 2


def test_enough_users_are_not_doubted(tmp_path: Path) -> None:
    n = 3000
    rng = np.random.default_rng(1)
    click = rng.random(n) < 0.3
    log = pl.DataFrame({
        "user_id": rng.integers(0, 300, n), "item_id": rng.integers(0, 400, n), "clicked": click,
        "watch_seconds": click * rng.exponential(30, n),
    })  # fmt: skip
    log.write_parquet(tmp_path / "events_2026-03-01.parquet")
    ended = dmtl("init", tmp_path / "events_2026-03-01.parquet", "-o", tmp_path / "m.yaml", "--json")
    assert ended.code == 0 and ended.json["warnings"] == [] and "WARNING" not in ended.json["check"]


# -- clicks ------------------------------------------------------------------------------------------------------------


def opened(x: dict[str, Any]) -> list[dt.datetime | None]:
    at = [dt.datetime.fromtimestamp(int(t) + 9, dt.UTC) for t in x["at"]]
    return [t if c else None for t, c in zip(at, x["click"], strict=True)]


def test_a_flag_beside_the_time_of_the_click(tmp_path: Path) -> None:
    """Set in the same rows, it is the click, whatever it is called."""
    x = unseen.drawn(0)
    rows = frame(drop=("clicked",), clicked_at=opened(x), hit=x["click"].astype(bool))
    ended, raw, text = made(tmp_path, daily(rows))
    assert ended.code == 0 and raw["data"]["events"]["click"] == "hit", ended.err
    assert "set just where there is clicked_at; or clicked_at" in text
    other = rows.with_columns(hit=pl.col("hit").shuffle(1))
    _, raw, _ = made(tmp_path / "other", daily(other))
    assert raw["data"]["events"]["click"] == "clicked_at"


def test_a_click_as_a_timestamp(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, daily(frame(drop=("clicked",), clicked_at=opened(unseen.drawn(0)))))
    events = raw["data"]["events"]
    assert ended.code == 0 and events["click"] == "clicked_at" and events["time"] == "ts", ended.err
    share = unseen.drawn(0)["click"].mean()
    assert "null_click" not in events and f"a time in {share:.0%} of rows, empty in the others" in text
    assert "% of rows are clicks" in ended.out


@pytest.mark.parametrize("given", [(), ("--click", "clicked_at")])
def test_a_click_as_milliseconds_in_json(tmp_path: Path, given: tuple[str, ...]) -> None:
    def write(home: Path) -> None:
        x = unseen.drawn(0)
        for day in sorted(set(unseen.days_of(x))):
            rows = [
                json.dumps({
                    "user": {"id": int(u)}, "item": {"id": int(i)}, "ts": int(t) * 1000,
                    "clicked_at": int(t) * 1000 + 9 if c else None, "dwell_s": float(s) if c else None,
                })
                for d, u, i, t, c, s in zip(
                    unseen.days_of(x), x["user"], x["item"], x["at"], x["click"], x["seconds"], strict=True
                )
                if d == day
            ]  # fmt: skip
            (home / f"{day}.json").write_text("\n".join(rows) + "\n")

    ended, raw, _ = made(tmp_path, write, *given)
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["click"], events["null_click"]) == ("clicked_at", "no_click"), ended.err
    assert raw["data"]["types"]["clicked_at"] == "int64" and (events["user"], events["item"]) == ("user.id", "item.id")


def test_a_click_as_text_of_a_csv(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    iso = [None if t is None else t.isoformat() for t in opened(x)]
    write = frame(drop=("clicked", "ts"), opened_at=iso, ts=x["at"])
    ended, raw, _ = made(tmp_path, lambda home: write.write_csv(home / "log.csv"))
    assert ended.code == 0 and raw["data"]["types"]["opened_at"] == "datetime", ended.err
    assert raw["data"]["events"]["click"] == "opened_at" and raw["data"]["events"]["date_column"] == "ts"


@pytest.mark.parametrize("words", [("Y", "N"), ("yes", "no"), ("T", "F")])
def test_a_click_as_a_word_of_a_csv(tmp_path: Path, words: tuple[str, str]) -> None:
    x = unseen.drawn(0)
    said = [words[0] if c else words[1] for c in x["click"]]
    write = frame(drop=("clicked",), clicked=said, ts=x["at"])
    ended, raw, _ = made(tmp_path, lambda home: write.write_csv(home / "log.csv"))
    assert ended.code == 0, ended.err
    assert (raw["data"]["events"]["click"], raw["data"]["types"]["clicked"]) == ("clicked", "bool")


@pytest.mark.parametrize(
    ("words", "name", "given", "days"),
    [
        (("Y", "N"), "opened", (), True),
        (("yes", "no"), "opened", (), False),
        (("T", "F"), "begun", ("--click", "begun"), True),
        (("true", "false"), "begun", ("--click", "begun"), False),
    ],
)
def test_a_click_as_a_word_of_json(
    tmp_path: Path, words: tuple[str, str], name: str, given: tuple[str, ...], days: bool
) -> None:
    """The config reads it as the booleans that it says: `check`, which init runs, counts them."""
    x = unseen.drawn(0)
    said, stock = ([words[0] if k else words[1] for k in v] for v in (x["click"], x["position"] % 3))
    write = frame(drop=("clicked",))
    write = write.with_columns(pl.Series(name, said), pl.Series("in_stock", stock))

    def put(home: Path) -> None:
        for (day,), part in write.with_columns(pl.Series(":d", unseen.days_of(x))).group_by(":d", maintain_order=True):
            with (home / (f"log-{day}.json" if days else "log.json")).open("a") as f:
                f.write(part.drop(":d").write_ndjson())

    ended, raw, _ = made(tmp_path, put, *given)
    assert ended.code == 0, ended.err
    assert raw["data"]["events"]["click"] == name
    assert raw["data"]["types"][name] == raw["data"]["types"]["in_stock"] == "bool"
    assert features(raw)["in_stock"]["kind"] == "categorical"


def test_a_word_that_may_be_the_click_is_listed(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    write = frame(drop=("clicked",), ts=x["at"]).with_columns(begun=pl.Series(["Y" if c else "N" for c in x["click"]]))
    write = write.with_columns(pl.when(pl.col("watch_seconds") > 5).then("watch_seconds"))
    ended, _, text = made(tmp_path, lambda home: write.write_ndjson(home / "log.json"))
    (line,) = (x for x in text.splitlines() if "# click: COLUMN" in x)
    assert "it may be (init --click COLUMN, or 'EXPRESSION'): begun (0/1, " in line and ended.code == 0, ended.err


def test_a_click_that_old_clients_leave_empty(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    tapped = [True if c else None if u % 3 == 0 else False for c, u in zip(x["click"], x["user"], strict=True)]
    ended, raw, text = made(tmp_path, daily(frame(drop=("clicked",), tapped=tapped)))
    assert raw["data"]["events"]["null_click"] == "no_click" and ended.code == 0, ended.err
    assert f"null_click: no_click  # {tapped.count(None) / len(tapped):.0%} of tapped is empty: no clicks?" in text


@pytest.mark.parametrize("word", ["NULL", "\\N", "NA"])
def test_words_for_null_in_a_csv(tmp_path: Path, word: str) -> None:
    x = unseen.drawn(0)
    seconds = [f"{s}" if c else word for s, c in zip(x["seconds"], x["click"], strict=True)]
    country = ["TR", "NA", "DE"] * 400
    write = frame(drop=("watch_seconds",), watch_seconds=seconds, country=country)
    ended, raw, _ = made(tmp_path, lambda home: write.write_csv(home / "log.csv"))
    assert raw["data"]["csv"] == {"null_values": [word]} and raw["data"]["events"]["duration"] == "watch_seconds"
    assert ended.code == 0 and features(raw)["country"]["kind"] == "categorical", ended.err


def test_null_as_a_word_is_no_user(tmp_path: Path) -> None:
    x = unseen.drawn(0)
    user = ["NULL" if u % 5 == 0 else f"u{u}" for u in x["user"]]
    write = frame(drop=("user_id",), user_id=user, country=["TR", "NA", "DE"] * 400)
    ended, raw, text = made(tmp_path, lambda home: write.write_csv(home / "log.csv"))
    assert raw["data"]["csv"] == {"null_values": ["NULL"]}, "NA is a country"
    assert f"user: user_id  # {len({*user} - {'NULL'})} texts, named like a user" in text
    assert raw["data"]["events"]["invalid_rows"] == "drop" and ended.code == 0, ended.err


def test_a_request_that_few_rows_have_is_none() -> None:
    x = unseen.drawn(0)
    some = [int(r) if r % 3 else None for r in x["request"]]
    assert roles_of(frame(request_id=some), {}).request is None
    assert roles_of(frame(request_id=x["request"]), {}).request is not None
