"""What a person reads and edits between a raw log and a served top K: how short it is, and what is asked of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
import yaml
from initiated import config_of, daily, features, frame, made
from worlds import dmtl

from dmtl_cli.config.automatic import automatic
from dmtl_cli.config.reading import load_config
from dmtl_cli.guess.feature_lines import _as_given


@pytest.mark.parametrize("more", [{}, {"hue": unseen.drawn(0)["item"] % 7}])
def test_auto_stands_for_the_features_that_every_log_gives(tmp_path: Path, more: dict[str, Any]) -> None:
    """The same features as where each of them is a line, also where the ids lie in objects."""
    renamed = frame(**more).rename({"user_id": "who.user_id", "item_id": "what.item_id"})
    ended, raw, text = made(tmp_path, daily(renamed))
    assert ended.code == 0, ended.err
    config = config_of(tmp_path)
    events = config.data.events
    lines = [_as_given(f, getattr(events, f.side)) for f in automatic(events)]
    own = [f for f in raw["features"] if f != "auto"] if more else []
    assert len(own) == len(more) and len(lines) == 21 and "half_life_days" not in text
    full = tmp_path / "full.yaml"
    full.write_text(yaml.safe_dump(raw | {"features": [*lines, *own]}, allow_unicode=True))
    by_name = [{f.name: f for f in c.features} for c in (config, load_config(full))]
    assert by_name[0] == by_name[1] and len(by_name[0]) == 21 + len(own)


# -- who is the user and who the item, where no name says so -----------------------------------------------------------

USERS, ITEMS, LISTS, LONG = 60, 90, 400, 6


def lessons(home: Path, *, shuffled: bool = False, names: tuple[str, str] = ("p", "q"), tables: int = 2) -> None:
    """Lists of six lessons for one pupil at one time, and a table of each; nothing is named in a way that is known."""
    rng = np.random.default_rng(4)
    user, at = (
        np.repeat(rng.integers(0, USERS, LISTS), LONG),
        np.repeat(np.sort(rng.integers(0, 3 * 86_400, LISTS)), LONG),
    )
    item = np.concatenate([rng.permutation(ITEMS)[:LONG] for _ in range(LISTS)])
    seconds = np.where(rng.random(len(user)) < 0.3, np.round(rng.exponential(60.0, len(user)) + 1, 1), 0.0)
    log = pl.DataFrame(
        {
            "alumno": [f"al{k}" for k in user],
            "leccion": [f"le{k}" for k in item],
            "cuando": pl.Series(at * 1_000 + 1_767_225_600_000).cast(pl.Datetime("ms")),
            "tocada": (seconds > 0).astype(int),
            "seg": seconds,
        }
    )
    for d, part in log.group_by(pl.col("cuando").dt.date().alias("d"), maintain_order=True):
        place = home / f"imp/day={d[0]}"
        place.mkdir(parents=True)
        if shuffled:  # of a day nothing tells any more which rows were one list
            part = part.sample(fraction=1, shuffle=True, seed=1).with_columns(pl.col("cuando").dt.date())
        part.write_parquet(place / "0.parquet")
    pupils = pl.DataFrame({"alumno": [f"al{k}" for k in range(USERS)], "pais": ["a", "b"] * (USERS // 2)})
    stock = pl.DataFrame({"leccion": [f"le{k}" for k in range(ITEMS)], "dura_s": rng.integers(30, 200, ITEMS)})
    for name, frame_ in list(zip(names, (pupils, stock), strict=True))[:tables]:
        frame_.write_parquet(home / f"{name}.parquet")


def test_lists_and_tables_tell_user_and_item(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, lessons)
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["user"], events["item"]) == ("alumno", "leccion"), ended.err
    assert raw["data"]["users"]["key"] == "alumno" and raw["data"]["items"]["key"] == "leccion"
    assert (
        "100% of its 60 ids are in p.parquet; rows of one follow each other" in text
        and "rows of one hardly follow" in text
    )


@pytest.mark.parametrize(
    ("names", "told"), [(("fichas", "x"), False), (("user_export", "x"), True), (("x", "movies"), True)]
)
def test_a_table_that_is_named_so_decides_the_other(tmp_path: Path, names: tuple[str, str], told: bool) -> None:
    """Where the rows of a list are no longer together nothing tells but a table's name."""
    ended, raw, text = made(tmp_path, lambda home: lessons(home, shuffled=True, names=names))
    assert (ended.code == 0) is told, ended.err
    events = raw["data"]["events"]
    assert (events.get("user"), events.get("item")) == (("alumno", "leccion") if told else (None, None))
    assert any(f"; {c} is the {role}" in text for c, role in (("alumno", "user"), ("leccion", "item"))) is told
    if not told:
        assert "# users or items: {path: fichas.parquet, key: alumno}  # a table of one of them? 100% of the" in text
        assert "# users or items: {path: x.parquet, key: leccion}" in text and raw["features"] == "auto"
        assert "or give init --user COLUMN: leccion, alumno\n" in text and "context features" not in ended.out


@pytest.mark.parametrize("more", [{}, {"ciudad": 7, "aparato": 3}])
def test_without_names_and_tables_the_order_of_rows_tells_both(tmp_path: Path, more: dict[str, int]) -> None:
    """Also where what belongs to a user follows as they do."""

    def write(home: Path) -> None:
        lessons(home, tables=0)
        for file in sorted(home.rglob("*.parquet")):
            rows = pl.read_parquet(file)
            of = rows["alumno"].str.slice(2).cast(pl.Int64)
            rows.with_columns((of % n + 100 * n).cast(pl.String).alias(c) for c, n in more.items()).write_parquet(file)

    ended, raw, text = made(tmp_path, write)
    events = raw["data"]["events"]
    assert ended.code == 0 and (events["user"], events["item"]) == ("alumno", "leccion"), ended.err
    assert "60 texts; rows of one follow each other, on several days" in text
    assert {name: features(raw)[name]["side"] for name in more} == dict.fromkeys(more, "user")


def test_phrases_are_no_items(tmp_path: Path) -> None:
    """What was searched comes again too, and is of no user; without another id the item is asked for."""

    def write(home: Path) -> None:
        lessons(home, tables=0)
        for file in sorted(home.rglob("*.parquet")):
            rows = pl.read_parquet(file)
            said = "how to " + rows["leccion"].str.slice(2)
            rows.drop("leccion").with_columns(busqueda=said).write_parquet(file)

    ended, raw, _ = made(tmp_path, write)
    assert ended.code == 78 and raw["data"]["events"]["user"] == "alumno", ended.out
    assert "item" not in raw["data"]["events"]


def of_one_day(home: Path) -> None:
    """Nothing tells whether an id comes again."""
    lessons(home, tables=0)
    for day in sorted((home / "imp").iterdir())[1:]:
        shutil.rmtree(day)


def test_the_first_step_is_the_command_that_names_them(tmp_path: Path) -> None:
    """Of one day without tables: the label is not asked for, and the command as it is printed guesses the rest."""
    ended, _, text = made(tmp_path, of_one_day)
    assert ended.code == 78 and "the user, the item could not be guessed" in ended.err
    first = ended.out.splitlines()[-1]
    mine = tmp_path / "mine.yaml"
    again = f"dmtl init {tmp_path / 'log'} -o {mine} --user alumno --item leccion"
    assert first == f"first: {again}" and text.count("# EDIT: ") == 2
    ended = dmtl(*again.split()[1:])
    assert ended.code == 0, ended.err
    events = yaml.safe_load(mine.read_text())["data"]["events"]
    assert (events["click"], events["duration"]) == ("tocada", "seg")


# -- a good click that other columns make ------------------------------------------------------------------------------


def outcomes(home: Path) -> None:
    """Dwell, how far somebody scrolled, and a word where it was kept."""
    x, rng = unseen.drawn(5), np.random.default_rng(5)
    clicked = x["click"] == 1
    scrolled = np.where(clicked, np.round(100 * rng.beta(2, 1, len(clicked))), 0)
    kept = np.where(clicked & (rng.random(len(clicked)) < 0.2), "J", None)
    daily(frame(5, scroll_pct=scrolled, in_akte=kept.tolist()).rename({"watch_seconds": "dwell_seconds"}))(home)


def goal_lines(text: str) -> list[str]:
    """Expressions of the config's lines that are ready to be uncommented."""
    lines = [line.strip().removeprefix("#") for line in text.splitlines() if line.strip().startswith("#   computed: ")]
    return [yaml.safe_load(line)["computed"]["good"] for line in lines]


def test_other_outcomes_are_ready_lines(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, outcomes)
    assert ended.code == 0 and raw["data"]["events"]["duration"] == "dwell_seconds", ended.err
    assert goal_lines(text) == ["scroll_pct >= 75", "dwell_seconds >= 30 OR in_akte = 'J'"]
    lines = text.splitlines()
    at = next(k for k, line in enumerate(lines) if line.strip() == "#   conversion: good")
    duration = next(k for k, line in enumerate(lines) if line.strip().startswith("duration: "))
    lines[at], lines[at + 1] = (line.replace("#   ", "") for line in lines[at : at + 2])
    mine = tmp_path / "mine.yaml"
    mine.write_text("\n".join(line for k, line in enumerate(lines) if k != duration))
    day = unseen.days_of(unseen.drawn(5))[0]
    checked = dmtl("check", "--config", mine, "--day", day, "--json")
    assert checked.code == 0 and 0.2 < checked.json["labels"]["conversion_rate"] < 0.7, checked.err


@pytest.mark.parametrize("name", ["porcentaje_visto", "Anteil gelesen", "pourcentage_lu"])
def test_a_share_of_an_item_is_a_goal_with_its_scale(tmp_path: Path, name: str) -> None:
    """Of 1, as 70% is .7 there."""
    log = frame()
    share = pl.Series(np.random.default_rng(3).random(len(log)).round(3)).set(log["clicked"] == 0, None)
    ended, _, text = made(tmp_path, daily(log.with_columns(share.alias(name))))
    named = name if " " not in name else f'"{name}"'
    assert ended.code == 0 and f"{named} >= 0.5" in goal_lines(text), text


def test_a_number_below_0_in_a_rule_is_told(tmp_path: Path) -> None:
    """-1 of a length stands for an unknown one, and is no bad click, unless the rule says so itself."""
    log = frame()
    hidden = pl.Series([k % 50 == 3 for k in range(len(log))]) & (log["clicked"] == 1)
    log = log.with_columns(log["watch_seconds"].set(hidden, -1.0))
    part = f"{hidden.sum() / log['clicked'].sum():.0%}"
    ended, _, _ = made(tmp_path, daily(log), "--conversion", "watch_seconds >= 30")
    known = "if it means unknown, --conversion 'CASE WHEN watch_seconds >= 0 THEN watch_seconds >= 30 END'"
    line = f"watch_seconds: {part} of clicks have -1, which makes them no good ones: {known}"
    assert ended.code == 0 and f"WARNING: {line}" in ended.out, ended.out
    for k, rule in enumerate(
        (
            "CASE WHEN watch_seconds >= 0 THEN watch_seconds >= 30 END",
            "NULLIF(watch_seconds, -1) >= 30",
            "watch_seconds < 90",
            "watch_seconds >= 30 OR clicked = 0",
        )
    ):
        again = dmtl("init", tmp_path / "log", "-o", tmp_path / f"{k}.yaml", "--conversion", rule)
        assert again.code == 0 and "means unknown" not in again.out, rule


def test_the_length_of_an_item_in_its_table_is_a_goal(tmp_path: Path) -> None:
    """Seconds of the items beside seconds of the events; half of an item is a good read."""
    ended, _, text = made(tmp_path, lambda home: lessons(home, names=("p", "q")))
    assert ended.code == 0 and goal_lines(text) == [], "a name that says no length"
    log = tmp_path / "log"
    stock = pl.read_parquet(log / "q.parquet").rename({"dura_s": "duration_s"})
    stock.write_parquet(log / "q.parquet")
    ended = dmtl("init", log, "-o", tmp_path / "mine.yaml", "--force")
    assert ended.code == 0
    assert goal_lines((tmp_path / "mine.yaml").read_text()) == ["seg >= items.duration_s * 0.5"]


@pytest.mark.parametrize("given", ["scroll_pct >= 75", "dwell_seconds >= 30 OR in_akte = 'J'"])
def test_an_expression_is_the_conversion(tmp_path: Path, given: str) -> None:
    ended, raw, text = made(tmp_path, outcomes, "--conversion", given)
    events = raw["data"]["events"]
    assert ended.code == 0 and events["conversion"] == "good" and events["computed"] == {"good": given}, ended.err
    assert {"scroll_pct", "in_akte", "dwell_seconds"} <= {*events["outcomes"]} and "duration" not in events
    assert goal_lines(text) == [] and " of clicks are good" in ended.out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("scroll_pct", "give an expression: --conversion 'scroll_pct >= 75'"),
        ("in_akte", "give an expression: --conversion \"in_akte = 'J'\""),
        ("scroll >= 75", "events has no column scroll; it has "),
        ("scroll_pct >=", "--conversion: expected an SQL expression, got 'scroll_pct >='"),
        ("1 = 1", "1 = 1 names no column; it has "),
    ],
)
def test_a_conversion_that_needs_an_expression(tmp_path: Path, given: str, said: str) -> None:
    outcomes(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", given)
    assert ended.code == 2 and said in ended.err and not (tmp_path / "mine.yaml").exists(), ended.err


_UNQUOTED = "a column of data.items is named without quotes around both: items.dura_s"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("seg >= items.dura * 0.5", "q.parquet has no column dura, did you mean dura_s?; it has leccion, dura_s"),
        ("seg >= 5 AND users.nope = 'a'", "p.parquet has no column nope; it has alumno, pais"),
        ("seg >= items.dura_s * users.nope", "p.parquet has no column nope; it has alumno, pais"),
        ('seg >= "items.dura_s" * 0.5', f"imp has no column items.dura_s; {_UNQUOTED}"),
    ],
)
def test_what_is_looked_up_is_in_its_table(tmp_path: Path, given: str, said: str) -> None:
    lessons(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", given)
    assert ended.code == 2 and ended.err == f"dmtl: error: --conversion: {said}\n"
    assert not (tmp_path / "mine.yaml").exists()
    right = given.replace("items.dura ", "items.dura_s ").replace("users.nope", "users.pais")
    right = right.replace("* users.pais", "* 0.5").replace('"', "")
    assert dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", right).code == 0
    text = (tmp_path / "mine.yaml").read_text()
    if given != right and '"' in given:  # and `check` says the same
        raw = yaml.safe_load(text)
        raw["data"]["events"]["computed"]["good"] = given
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True))
        ended = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", "2026-01-02")
        assert ended.code == 65 and _UNQUOTED in ended.err, ended.err


def test_a_column_that_one_table_beside_the_events_has_needs_no_name_of_it(tmp_path: Path) -> None:
    """As in --where. Of two tables that have it neither is meant."""
    lessons(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", "seg >= dura_s * 0.5")
    assert ended.code == 0, ended.err
    computed = yaml.safe_load((tmp_path / "mine.yaml").read_text())["data"]["events"]["computed"]
    assert computed == {"good": "seg >= items.dura_s * 0.5"}


@pytest.mark.parametrize("given", ["seg >= dura_s * 0.5 AND dura_s(leccion) > 0", 'seg >= "dura s" * 0.5'])
def test_a_rule_that_cannot_be_understood_is_refused(tmp_path: Path, given: str) -> None:
    """One in which a column beside the events is a function too, and one of a name that no table has."""
    lessons(tmp_path / "log")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", "--conversion", given)
    assert ended.code == 2 and ended.err.startswith("dmtl: error: --conversion: ") and "bug" not in ended.err


def test_what_is_looked_up_needs_a_table(tmp_path: Path) -> None:
    lessons(tmp_path / "log", tables=1)
    given = ("--user", "alumno", "--item", "leccion", "--conversion", "seg >= items.dura_s * 0.5")
    ended = dmtl("init", tmp_path / "log", "-o", tmp_path / "mine.yaml", *given)
    what = "--conversion: items.dura_s: no table of items was found beside the events"
    assert ended.code == 2 and what in ended.err and "alumno, leccion, cuando" in ended.err


# -- columns of text and whole numbers, and what is printed ------------------------------------------------------------


def described_items(home: Path) -> None:
    """Items with sentences that have commas, lists of short words, places in a list and minutes."""
    x, rng = unseen.drawn(6), np.random.default_rng(6)
    words = np.array([f"w{k}" for k in range(12)])
    texts = [", ".join(" ".join(rng.choice(words, 5)) for _ in range(2)) for _ in range(200)]
    tags = [", ".join(rng.choice(words, 3)) for _ in range(200)]
    grades = ["a1", "A1", "b1", "B1", "c1"]
    of = x["item"] % 200
    columns = {
        "story": [texts[k] for k in of],
        "tags": [tags[k] for k in of],
        "grade": [grades[k % 5] for k in of],
        "streak_days": rng.integers(0, 40, len(of)),
        "hour": rng.integers(0, 24, len(of)),
        "position": np.arange(len(of)) % 12 + 1,
        "slot": np.arange(len(of)) % 12,
    }
    daily(frame(6, **columns))(home)
    pl.DataFrame({"colour": ["red", "blue"], "n": [1, 2]}).write_parquet(home / "colours.parquet")


def test_sentences_are_no_lists_and_measures_no_codes(tmp_path: Path) -> None:
    ended, raw, text = made(tmp_path, described_items)
    kinds = {f["name"]: f["kind"] for f in raw["features"] if f != "auto"}
    assert ended.code == 0 and "# story: not used: sentences, 10 words each, which no kind" in text, ended.err
    assert kinds == {
        "tags": "sequence", "grade": "categorical", "streak_days": "numeric", "hour": "categorical",
        "position": "categorical", "slot": "categorical",
    }  # fmt: skip
    assert re.search(r"# 5 texts \([^()]+\); 2 of them differ from another in letter case alone", text)


def test_what_is_printed_is_short_and_ends_with_the_next_commands(tmp_path: Path) -> None:
    ended, _, _ = made(tmp_path, described_items)
    lines = ended.out.splitlines()
    assert [line.split()[1] for line in lines[-3:]] == ["backfill", "recommend", "serve"] and lines[-4] == "next:"
    (unused,) = (line for line in lines if line.startswith("not used: "))
    assert unused == "not used: colours.parquet: no column has the users or items of the events"
    assert [line.split()[0] for line in lines if line.startswith(("day ", "labels: ", "feature "))] == [
        "day",
        "labels:",
    ]
    assert len(lines) == len(set(lines) - {""}) + lines.count("") and len(ended.out.split()) < 250


@pytest.mark.parametrize("name", ["my config", "it's $HOME", 'a "b" & c', "plain"])
def test_printed_commands_are_what_a_shell_reads(tmp_path: Path, name: str) -> None:
    """Of a log, a config and a user with spaces and quotes in their names."""
    log, config = tmp_path / f"log of {name}", tmp_path / f"{name}.yaml"
    daily(frame().with_columns(user_id=pl.format("o'r {} $x", "user_id")))(log)
    ended = dmtl("init", log, "-o", config, "--json")
    assert ended.code == 0, ended.err
    words = [shlex.split(line, comments=True) for line in ended.json["next"]]
    assert [w[:2] for w in words] == [["dmtl", "backfill"], ["dmtl", "recommend"], ["dmtl", "serve"]]
    assert {w[w.index("--config") + 1] for w in words[:2]} == {str(config)} and words[2][2:] == [f"work/{name}"]
    *_, sent = shlex.split(ended.json["next"][-1].partition("  # ")[2])
    assert json.loads(sent) == {"user": words[1][-1]}
    assert words[1][-1].startswith("o'r ") and words[1][-1].endswith(" $x")
    about = config.read_text().splitlines()
    check = shlex.split(about[2].removeprefix("# After an edit: "))
    assert check[:2] == ["dmtl", "check"] and dmtl(*check[1:]).code == 0
    assert shlex.split(about[0].partition(": guesses")[0])[-3:] == ["dmtl", "init", str(log)]
    assert shlex.split(about[3].removeprefix("# Then: ")) == words[0]


@pytest.mark.parametrize("of_guests", ["Guest", "anonym", "trial"])
def test_a_guest_is_one_where_a_value_says_so(tmp_path: Path, of_guests: str) -> None:
    """Of any feature, and of as many users as any value has."""
    x = unseen.drawn(0)
    account = [of_guests if u % 5 == 1 else "member" for u in x["user"]]
    city = ["guest" if u == 3 else f"c{u % 4}" for u in x["user"]]
    ended, _, _ = made(tmp_path, daily(frame(a_city=city, account=account)))
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "--feature" in line]
    told = shlex.split(line, comments=True)[-1]
    assert told.startswith("a_city=c") if of_guests == "trial" else told == f"account={of_guests}"


def test_a_guest_is_answered_by_the_printed_command(tmp_path: Path) -> None:
    """By a value that many users have, of the feature under the name that the config gives it."""
    x = unseen.drawn(0)
    who = np.arange(unseen.USERS)
    users = pl.DataFrame({"user_id": who, "token": [f"t{k}" for k in who], "Χώρα μου": np.where(who % 3, "le o'", "x")})

    def write(home: Path) -> None:
        daily(frame(lang=["da" if u % 4 else "en" for u in x["user"]]))(home)
        (home / "users").mkdir()
        users.write_parquet(home / "users/all.parquet")

    ended, _, _ = made(tmp_path, write)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "--feature" in line]
    words = shlex.split(line, comments=True)
    assert line == ended.out.splitlines()[-2] and line.endswith("  # a guest, by what is known")
    assert words[1:2] + words[-2:] == ["recommend", "--feature", "user_feature=le o'"]
    config = tmp_path / "mine.yaml"
    days = sorted({*unseen.days_of(x)})
    assert dmtl("backfill", "--config", config, "--from", days[0], "--to", days[1], "--set", "auto.budget=0").code == 0
    answered = dmtl(*words[1:])
    assert (answered.code, answered.err) == (0, "") and len(answered.out.splitlines()) == 10


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"lang": ["da", "da", "en"]}, "lang=da"),
        ({"plan": [7, 7, 9]}, "plan=7"),
        ({"vip": [True, True, False]}, "vip=true"),
        ({"likes": [["a", "b"], ["a"], ["c"]]}, 'likes=["a"]'),
        ({"likes": ["a|b", "a", "c|a"]}, 'likes=["a"]'),
        ({"likes": [["a"], ["b"]], "lang": ["en", "da", "da"]}, "lang=da"),
        ({}, None),
        ({"lang": [f"l{k}" for k in range(20)]}, None),
    ],
)
def test_a_guest_has_what_many_users_have(tmp_path: Path, values: dict[str, list[Any]], told: str | None) -> None:
    """Three users of sixty are no crowd; nor is an attribute of a request, or of an item."""
    x = unseen.drawn(0)
    more = {name: [some[u % len(some)] for u in x["user"]] for name, some in values.items()}
    other = {"hue": (x["item"] % 7).tolist(), "weather": ["wet", "dry"] * 600}
    ended, _, _ = made(tmp_path, daily(frame(**more, **other)))
    lines = [line for line in ended.out.splitlines() if "--feature" in line]
    assert ended.code == 0 and len(lines) == (told is not None)
    assert [shlex.split(line, comments=True)[-1] for line in lines] == ([told] if told else [])


@pytest.mark.parametrize("name", ["two\nlines", "it's\ta 'tab\\", "red\x1b[31m", "c1\x85 日本語", "a\u2028b"])
def test_a_name_that_is_not_printable_is_one_word_and_one_line(tmp_path: Path, name: str) -> None:
    """As bash reads it; and the config that has it in its comments is YAML."""
    log, config = tmp_path / f"log of {name}", tmp_path / f"{name}.yaml"
    daily(frame())(log)
    ended = dmtl("init", log, "-o", config, "--json")
    assert ended.code == 0, ended.err
    for line in ended.json["next"]:
        assert line.isprintable()
        read = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
        words = read.split("\0")
        assert words[0] == "dmtl" and (words[1] == "serve" or words[words.index("--config") + 1] == str(config))
    assert dmtl("check", "--config", config, "--day", ended.json["day"]).code == 0


def test_a_name_that_is_no_utf8_is_one_line(tmp_path: Path) -> None:
    daily(frame())(tmp_path / "log")
    log = (tmp_path / "log").rename(os.fsdecode(os.fsencode(tmp_path) + b"/log\xff"))
    ended = dmtl("init", log, "-o", tmp_path / "c.yaml")
    assert ended.code == 2 and "log\\udcff: the name is no UTF-8, which a config is; rename it" in ended.err
    assert len(ended.err.splitlines()) == 1 and not (tmp_path / "c.yaml").exists()


def test_the_first_command_quotes_names_too(tmp_path: Path) -> None:
    """Where user and item are to be named: columns with spaces and quotes."""
    log, config = tmp_path / "a log", tmp_path / "it's.yaml"
    of_one_day(log)
    for file in sorted(log.rglob("*.parquet")):
        pl.read_parquet(file).rename({"alumno": "al umno", "leccion": "d'leccion"}).write_parquet(file)
    ended = dmtl("init", log, "-o", config)
    assert ended.code == 78, ended.out
    words = shlex.split(ended.out.splitlines()[-1].removeprefix("first: "))
    named = ["--user", "al umno", "--item", "d'leccion"]
    assert words == ["dmtl", "init", str(log), "-o", str(config), *named]
    assert dmtl(*words[1:]).code == 0
