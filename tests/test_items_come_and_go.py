"""Items that come and go within a log: what `init` writes of the times since which and until which they are there."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import made
from pydantic import ValidationError
from shelf import CAME, DAYS, ITEMS, LAST, WENT, ZONE, day, put, shown
from test_log import put as put_day
from worlds import dmtl

from dmtl_cli.config.data import Data, Events, SideTable
from dmtl_cli.config.days import parse_moment
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.reading import load_config
from dmtl_cli.data.log.reader import Log
from dmtl_cli.guess.columns.ends import ends_of

NAMES = ("beschikbaar_vanaf", "kolom_7")
FROM = day(0) or dt.date.min


def version(home: Path, **columns: list[Any]) -> str | None:
    ended, raw, _ = made(home, lambda log: put(log, **columns), "--user", "lid_id")
    assert ended.code == 0, ended.err
    found = raw["data"]["items"].get("version")
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["date", "text", "yyyymmdd"])
def test_a_day_since_which_items_are_there_is_their_version(tmp_path: Path, name: str, kind: str) -> None:
    """No item is shown before it, and those that came within the log are from then on, whatever it is called."""
    came = [FROM + dt.timedelta(days=c) for c in CAME]
    write = {"date": lambda d: d, "text": str, "yyyymmdd": lambda d: int(f"{d:%Y%m%d}")}[kind]
    assert version(tmp_path, **{name: [write(d) for d in came]}) == name


def test_a_day_that_says_something_else_is_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    changed = [FROM + dt.timedelta(days=int(d)) for d in rng.integers(-30, DAYS, ITEMS)]  # on any day
    loaded = [FROM + dt.timedelta(days=k % 2) for k in range(ITEMS)]  # as the log begins, which shows nothing before it
    printed = [FROM + dt.timedelta(days=c - 40) for c in CAME]
    later = [FROM + dt.timedelta(days=c - 4 if c >= 0 else c) for c in CAME]  # shown, but days after it
    columns = {"kolom_1": changed, "kolom_2": loaded, "kolom_3": printed, "kolom_4": later}
    assert version(tmp_path, **columns) is None


def test_a_name_is_a_help_and_no_more(tmp_path: Path) -> None:
    """Of several that fit, the one that is named so; one that is named so and does not fit is none."""
    came = [FROM + dt.timedelta(days=c) for c in CAME]
    wrong = [FROM + dt.timedelta(days=3)] * ITEMS
    assert version(tmp_path / "both", kolom_7=came, beschikbaar_vanaf=came) == "beschikbaar_vanaf"
    assert version(tmp_path / "wrong", published_on=wrong, kolom_7=came) == "kolom_7"


def test_of_few_that_came_another_name_tells_nothing(tmp_path: Path) -> None:
    came = [c if k < 36 else -9 for k, c in enumerate(CAME)]
    assert sum(c >= 2 for c in came) == 5
    at = [FROM + dt.timedelta(days=c) for c in came]
    assert version(tmp_path / "other", kolom_7=at) is None
    assert version(tmp_path / "named", beschikbaar_vanaf=at) == "beschikbaar_vanaf"


# -- until when they are there -----------------------------------------------------------------------------------------

GONE = [k for k in range(ITEMS) if WENT[k] is not None]
LAST_DAYS = [day(e) for e in WENT]
AFTER = [None if e is None else day(e + 1) for e in WENT]


def ms(d: dt.date) -> int:
    return round(dt.datetime.combine(d, dt.time(), ZONE).timestamp() * 1_000)


def midnight(d: dt.date | None) -> dt.datetime | None:
    return None if d is None else dt.datetime.combine(d, dt.time(), ZONE)


def naive(d: dt.date | None) -> dt.datetime | None:
    return None if d is None else dt.datetime.combine(d, dt.time())


def until(home: Path, **columns: list[Any]) -> tuple[dict[str, Any], str]:
    ended, raw, text = made(home, lambda log: put(log, **columns), "--user", "lid_id")
    assert ended.code == 0, ended.err
    return raw["data"]["items"], text


def test_the_day_on_which_an_item_is_there_last(tmp_path: Path) -> None:
    items, text = until(tmp_path, beschikbaar_tot=LAST_DAYS)
    assert items["until"] == "beschikbaar_tot" and items["until_is_last_day"] is True
    assert f"{len(GONE)} of {ITEMS} have ended by {LAST}, none was shown after it" in text
    assert "# beschikbaar_tot: " not in text, "no feature, nor one that is left out"


def test_a_state_of_what_has_ended_is_no_condition(tmp_path: Path) -> None:
    """It is of the end of the log: with it the days before would be measured with what outlived them."""
    state = ["weg" if k in GONE else "te koop" for k in range(ITEMS)]
    columns = {"beschikbaar_tot": LAST_DAYS, "status": state}
    ended, raw, _ = made(tmp_path / "guessed", lambda log: put(log, **columns), "--user", "lid_id")
    said = " ".join(ended.out.split())
    assert ended.code == 0 and "export" not in raw, ended.err
    assert f"served by items.until beschikbaar_tot: the last day on which an item is there: {len(GONE)} of" in said
    rule = ("--export-items", "status = 'te koop'")
    ended, raw, _ = made(tmp_path / "asked", lambda log: put(log, **columns), "--user", "lid_id", *rule)
    told = "WARNING: --export-items: all that it leaves out has ended (beschikbaar_tot) and is not served anyway: "
    assert raw["export"]["items"] == rule[1] and told in " ".join(ended.out.split())
    state[next(k for k in range(ITEMS) if k not in GONE)] = "weg"
    ended, raw, _ = made(tmp_path / "more", lambda log: put(log, **columns), "--user", "lid_id", *rule)
    assert raw["export"]["items"] == rule[1] and "WARNING: --export-items" not in ended.out


def test_a_rule_of_the_end_alone_is_a_comment(tmp_path: Path) -> None:
    """`until` says the same of each day; as a condition, days before would be measured with what outlived them."""
    gone = [d if d is not None and d <= LAST else None for d in AFTER]
    everything = ("--user", "lid_id", "--export-items", "weg_op IS NULL OR weg_op IS NOT NULL")
    ended, raw, _ = made(tmp_path / "all", lambda log: put(log, weg_op=gone), *everything)
    assert ended.code == 0 and "WARNING: --export" not in ended.out, "it leaves nothing out: who knows what it is for"
    assert raw["export"]["items"] == f"({everything[-1]})"
    rule = ("--user", "lid_id", "--export-items", "weg_op IS NULL")
    ended, raw, text = made(tmp_path, lambda log: put(log, weg_op=gone), *rule)
    assert ended.code == 0 and raw["data"]["items"]["until"] == "weg_op" and "export" not in raw, ended.err
    assert (
        '# export: {items: "weg_op IS NULL"}  # as --export-items says, and until: weg_op of each day as it was' in text
    )
    said = " ".join(ended.out.split())
    assert "--export-items says no more: a comment in the config" in said and "WARNING: --export" not in said


@pytest.mark.parametrize("write", [lambda d: d, lambda d: d and str(d), naive, midnight, lambda d: ms(d) if d else 0])
def test_the_day_from_which_on_it_is_not(tmp_path: Path, write: Any) -> None:
    items, _ = until(tmp_path, kolom_7=[write(d) for d in AFTER])
    assert items["until"] == "kolom_7" and "until_is_last_day" not in items


@pytest.mark.parametrize(
    "write",
    [str, lambda d: f"{d:%d-%m-%Y}", ms, lambda d: f"{d} 00:00:00", lambda d: f"{d}T00:00:00+02:00"],
    ids=["iso", "dutch", "ms", "naive", "offset"],
)
def test_ends_of_a_csv_have_a_type_that_reads_them(tmp_path: Path, write: Any) -> None:
    column = {"offline_datum": [write(d) if d else None for d in AFTER]}
    ended, raw, text = made(tmp_path, lambda log: put(log, "csv", **column), "--user", "lid_id")
    assert ended.code == 0 and raw["data"]["items"]["until"] == "offline_datum", text
    raw["workspace"] = str(tmp_path / "work")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day(DAYS - 2), "--json")
    assert found.code == 0, found.err
    gone = sum(e is not None and e <= DAYS - 2 for e in WENT)
    assert found.json["ended"] == f"{gone} of {ITEMS} items have ended by offline_datum: they are not served"


@pytest.mark.parametrize(
    ("write", "never"), [(str, "9999-12-31"), (str, ""), (lambda d: ms(d) // 1_000, 4_102_444_800)]
)
def test_one_end_of_all_that_never_end(tmp_path: Path, write: Any, never: Any) -> None:
    """As databases write it: the end of the calendar, a quoted text without a letter, the year 2100."""
    column = {"offline_datum": [write(d) if d else never for d in AFTER]}
    ended, raw, text = made(tmp_path, lambda log: put(log, "csv", **column), "--user", "lid_id")
    assert ended.code == 0 and raw["data"]["items"]["until"] == "offline_datum", ended.err or text


def test_what_is_no_end_is_none(tmp_path: Path) -> None:
    assert "until" not in until(tmp_path / "zeros", sold=[0] * ITEMS)[0]
    rng = np.random.default_rng(2)
    any_day = [day(int(d)) if k % 3 else None for k, d in enumerate(rng.integers(0, DAYS, ITEMS))]
    seen = dict(shown().group_by("ppn").agg(pl.col("day").max()).iter_rows())
    last_seen = [seen.get(f"p{k}") for k in range(ITEMS)]  # all that are shown have it
    few = [d if k in GONE[:4] else None for k, d in enumerate(LAST_DAYS)]
    later = [dt.date(2026, 3, 1 + k % 20) if k % 3 else None for k in range(ITEMS)]
    for name, column in {"offline_at": any_day, "kolom_1": last_seen, "kolom_2": few, "expires_on": later}.items():
        assert "until" not in until(tmp_path / name, **{name: column})[0], name
    assert until(tmp_path / "few", offline_at=few)[0]["until"] == "offline_at"


def test_of_a_long_tail_what_is_shown_after_it_is_no_end() -> None:
    """40 of 1,000 items are shown each day; of 300 whose promotion is over 12, as many as of the others."""
    days = [day(d) for d in range(DAYS) for _ in range(40)]
    over = [dt.date(2025, 5, 1) if k < 12 or 100 <= k < 388 else None for k in range(1_000)]
    items = pl.DataFrame({"item": range(1_000), "promo_end": over})
    ids = pl.Series("item", [*range(40)] * DAYS)
    assert not [*ends_of(items, "item", ids, pl.Series(days))]
    kept = pl.Series([k >= 12 for k in ids])
    (found,) = ends_of(items, "item", ids.filter(kept), pl.Series(days).filter(kept))
    assert found.column == "promo_end"


def test_a_second_end_is_a_condition_of_each_day_as_it_was(tmp_path: Path) -> None:
    """Of two columns that end an item the first that is named so is `until`; a state that says the same is none."""
    early = [k % 3 == 0 and (w := WENT[k]) is not None and w > 2 for k in range(ITEMS)]
    ends = [day(w) if w is not None and not e else None for w, e in zip(WENT, early, strict=True)]
    stops = [day(w) if e and w is not None else None for w, e in zip(WENT, early, strict=True)]
    state = ["weg" if a or b else "er" for a, b in zip(ends, stops, strict=True)]
    assert sum(x is not None for x in stops) >= 3
    columns = {"offline_datum": ends, "einddatum": stops, "toestand": state}
    ended, raw, text = made(tmp_path, lambda log: put(log, **columns), "--user", "lid_id")
    assert ended.code == 0, ended.err
    first, second = sorted(("offline_datum", "einddatum"), key=lambda c: c != raw["data"]["items"]["until"])
    assert raw["export"]["items"] == f"({second} IS NULL OR {second} >= CURRENT_DATE)", raw.get("export")
    assert "timezone" in raw["data"] and "tells what has ended: " in text and first not in raw["export"]["items"]
    raw["workspace"] = str(tmp_path / "work")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    for d in (DAYS - 3, DAYS - 2):
        found = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", day(d), "--json")
        of = {"offline_datum": ends, "einddatum": stops}
        there = [first_ is None or first_ > day(d) for first_ in of[first]]
        kept = [t and (s is None or s > day(d)) for t, s in zip(there, of[second], strict=True)]
        born = sum(there)
        assert found.code == 0 and f"holds for {sum(kept)} of {born} items" in found.json["served"], found.json[
            "served"
        ]


# -- what a day and an export know -------------------------------------------------------------------------------------

MORNING = dt.date(2026, 1, 31)
HALF = Feature(name="half", side="item", kind="categorical")
ENDS = {"before": -1, "midnight": 0, "noon": 12, "tomorrow": 24, "never": None}
"""hours from the beginning of the day at which items end"""


def log(root: Path, written: Any, kind: Any = None, **more: Any) -> Log:
    """Items that end, of which one that has ended already is shown all the same."""
    ids = [*ENDS, "shown"]
    put_day(root, {"user_id": ["u"] * 2, "item_id": ["never", "shown"], "click": [1, 0], "seconds": [9.0, None]})
    begin = dt.datetime.combine(MORNING, dt.time(), ZoneInfo("Asia/Kolkata"))
    at = [None if h is None else written(begin + dt.timedelta(hours=h)) for h in (*ENDS.values(), -30)]
    pl.DataFrame({"item_id": ids, "half": ids, "gone": pl.Series(at, dtype=kind)}).write_parquet(root / "items.parquet")
    items = SideTable(path="items.parquet", key="item_id", until="gone", **more)
    events = Events(click="click", duration="seconds")
    return Log(Data(root=str(root), timezone="Asia/Kolkata", events=events, items=items), (HALF,))


@pytest.mark.parametrize(
    "written",
    [
        lambda t: t,
        lambda t: t.astimezone(dt.UTC),
        lambda t: t.replace(tzinfo=None),
        lambda t: t.isoformat(),
        lambda t: int(t.timestamp()),
        lambda t: int(t.timestamp() * 1_000),
    ],
    ids=["zone", "utc", "naive", "text", "seconds", "ms"],
)
def test_what_has_ended_as_a_day_begins_is_not_of_it_unless_it_is_shown(tmp_path: Path, written: Any) -> None:
    made = log(tmp_path, written)
    assert {*made.read(MORNING, tmp_path).items[":id"]} == {"noon", "tomorrow", "never", "shown"}
    assert dict(made.read(MORNING, tmp_path).items.iter_rows())["shown"] == "shown", "with its features"
    listed = made.listed("item", MORNING)
    assert listed is not None and {*listed} == {"noon", "tomorrow", "never"}
    over = made.ended(MORNING, MORNING + dt.timedelta(days=1))
    assert over is not None and {*over[0]} == {"before", "midnight", "noon", "tomorrow", "shown"} and over[1] == 6
    assert made.told_of_ended(MORNING) == "5 of 6 items have ended by gone: they are not served"


@pytest.mark.parametrize("written", [lambda t: t.date(), lambda t: str(t.date()), lambda t: int(f"{t:%Y%m%d}")])
def test_a_date_is_the_day_without_it_or_the_last_day(tmp_path: Path, written: Any) -> None:
    first = log(tmp_path / "first", written).listed("item", MORNING)
    last = log(tmp_path / "last", written, until_is_last_day=True).listed("item", MORNING)
    assert first is not None and {*first} == {"tomorrow", "never"}, "noon is of the day itself"
    assert last is not None and {*last} == {"midnight", "noon", "tomorrow", "never"}


def test_zero_is_no_end(tmp_path: Path) -> None:
    made = log(tmp_path, lambda t: int(t.timestamp()) if t.hour else 0).listed("item", MORNING)
    assert made is not None and {*made} == {"midnight", "noon", "tomorrow", "never"}, "these have 0, or null, or noon"


@pytest.mark.parametrize(
    ("written", "never"),
    [
        (lambda t: int(t.timestamp()), 253_402_300_799),
        (lambda t: int(t.timestamp() * 1_000), 253_402_300_799_999),
        (lambda t: int(f"{t:%Y%m%d}"), 99_991_231),
        (lambda t: f"{t:%Y-%m-%d %H:%M:%S}", "9999-12-31 23:59:59"),
        (lambda t: t.isoformat(), ""),
    ],
)
def test_the_end_of_the_calendar_is_no_end(tmp_path: Path, written: Any, never: Any) -> None:
    """9999-12-31 in seconds is 1978 in milliseconds: nothing that has it has ended."""
    made = log(tmp_path, lambda t: written(t) if t.day < 31 else never).listed("item", MORNING)
    assert made is not None and {*made} == {"midnight", "noon", "tomorrow", "never"}


def test_times_of_another_zone(tmp_path: Path) -> None:
    """Naive times of UTC: those of Kolkata are 5.5 hours ahead."""
    utc = log(tmp_path, lambda t: t.astimezone(dt.UTC).replace(tzinfo=None), version_timezone="UTC")
    listed = utc.listed("item", MORNING)
    assert listed is not None and {*listed} == {"noon", "tomorrow", "never"}


def test_what_is_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column gone: expected a date, a time") as found:
        log(tmp_path / "flag", lambda t: t.hour > 3).listed("item", MORNING)
    assert "items.parquet" in found.value.message
    with pytest.raises(UserError, match="column gone, row 0: expected a day as YYYY-MM-DD"):
        log(tmp_path / "text", lambda _: "soon").listed("item", MORNING)
    with pytest.raises(UserError, match=r"data.items.until expects column gone"):
        made = log(tmp_path / "lost", lambda t: t)
        pl.read_parquet(tmp_path / "lost/items.parquet").drop("gone").write_parquet(tmp_path / "lost/items.parquet")
        made.read(MORNING, tmp_path)


@pytest.mark.parametrize(
    ("side", "more", "says"),
    [
        ("items", {"until_is_last_day": True}, "until_is_last_day has no effect without until"),
        ("items", {"until": "id"}, "until: id is the key"),
        ("items", {"until": "v", "version": "v"}, "until: v is the version"),
        ("users", {"until": "gone"}, "users.until has no effect: it is of items"),
    ],
)
def test_a_key_without_effect_is_refused(side: str, more: dict[str, Any], says: str) -> None:
    events = {"click": "click", "duration": "seconds"}
    with pytest.raises(ValidationError, match=says):
        Data.model_validate({"root": "log", "events": events, side: {"path": "x", "key": "id"} | more})


def test_a_config_without_an_end_keeps_its_runs() -> None:
    assert not {"until", "until_is_last_day"} & SideTable(path="x", key="id").model_dump().keys()


# -- what is served ----------------------------------------------------------------------------------------------------


def test_what_has_ended_is_not_served_nor_measured(tmp_path: Path) -> None:
    ended, raw, _ = made(tmp_path, lambda log: put(log, beschikbaar_tot=LAST_DAYS), "--user", "lid_id")
    assert ended.code == 0, ended.err
    raw |= {"workspace": str(tmp_path / "work"), "auto": {"budget": 0}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    days = [str(day(k)) for k in range(DAYS)]
    ended = dmtl("backfill", "--config", tmp_path / "mine.yaml", "--from", days[2], "--to", days[4])
    assert ended.code == 0, ended.err
    gone = {f"p{k}" for k, e in enumerate(WENT) if e is not None and e <= 3}
    config, over = tmp_path / "mine.yaml", days[3]
    folder = Path(dmtl("path", "export", "--config", config, "--day", over).out.strip())
    served = {*pl.read_parquet(folder / "items.parquet")["item_id"]}
    assert len(gone) > 5 and served == {f"p{k}" for k in range(ITEMS)} - gone
    said = f"{len(gone)} of {ITEMS} items have ended by beschikbaar_tot: they are not served"
    found = dmtl("check", "--config", config, "--day", over)
    assert found.code == 0 and found.out.splitlines().count(said) == 1
    logs = [path.read_text() for path in (tmp_path / "work/logs").rglob("*.jsonl")]
    assert any(said in text for text in logs)
    measured = Log(load_config(config).data, ()).read(dt.date.fromisoformat(days[4]), tmp_path)
    assert {*measured.items[":id"]} == served, "what is measured the day after is what could be served"


# -- what comes and goes after the day has ended ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose chain ends with day 4; items of day 5 come within it."""
    home = tmp_path_factory.mktemp("exported")
    put(
        home / "log",
        beschikbaar_vanaf=[at.replace(tzinfo=ZONE).astimezone(dt.UTC) for at in CAME_AT],
        beschikbaar_tot=LAST_DAYS,
    )
    config, options = home / "mine.yaml", ("--user", "lid_id", "--timezone", ZONE.key)
    ended = dmtl("init", home / "log", "-o", config, *options)
    assert ended.code == 0, ended.err
    raw = yaml.safe_load(config.read_text())
    assert (raw["data"]["items"]["version"], raw["data"]["items"]["until"]) == ("beschikbaar_vanaf", "beschikbaar_tot")
    config.write_text(yaml.safe_dump(raw | {"workspace": str(home / "work"), "auto": {"budget": 0}}))
    ended = dmtl("backfill", "--config", config, "--from", str(day(2)), "--to", str(day(4)))
    assert ended.code == 0, ended.err
    return config


HOURS = {20: 3, 44: 9, 68: 12, 92: 15, 116: 21}
"""at which the items of day 5 come"""
CAME_AT = [dt.datetime.combine(FROM + dt.timedelta(days=c), dt.time(HOURS.get(k, 0))) for k, c in enumerate(CAME)]


def there(moment: dt.datetime) -> set[str]:
    """The items that have come and not gone, by the clock of Amsterdam."""
    last = [dt.date.max if e is None else e for e in LAST_DAYS]
    return {f"p{k}" for k in range(ITEMS) if CAME_AT[k] <= moment and moment.date() <= last[k]}


def refreshed(config: Path, *more: str) -> dict[str, Any]:
    ended = dmtl("refresh", "--config", config, "--json", *more)
    assert ended.code == 0, ended.err
    return ended.json


def of(folder: Path) -> set[str]:
    return {*pl.read_parquet(folder / "items.parquet")["item_id"]}


def served(config: Path) -> Path:
    """What LATEST names."""
    return Path(dmtl("path", "export", "--config", config).out.strip())


def current(config: Path) -> Path:
    return Path(dmtl("path", "export", "--config", config, "--day", str(day(4))).out.strip())


def runs(config: Path) -> int:
    return len([*current(config).parent.glob("run-*")])


def at(hour: int, minute: int = 0, days: int = 5) -> dt.datetime:
    return dt.datetime.combine(day(days) or FROM, dt.time(hour, minute))


@pytest.fixture
def chain(exported: Path, tmp_path: Path) -> Path:
    """A config with a workspace of its own, as the chain left it."""
    raw = yaml.safe_load(exported.read_text())
    shutil.copytree(raw["workspace"], tmp_path / "work")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw | {"workspace": str(tmp_path / "work")}))
    return tmp_path / "mine.yaml"


def test_a_refresh_as_of_a_later_moment_serves_what_has_come_until_then(chain: Path) -> None:
    """Which LATEST names alone; what is measured is what was served in the morning. Of a moment at which nothing else
    was there nothing is made."""
    morning = current(chain)
    assert served(chain) == morning and of(morning) == there(at(0))
    told = [refreshed(chain, "--as-of", text) for text in (f"{at(12):%Y-%m-%dT%H:%M}", f"{at(12):%Y-%m-%dT10:05Z}")]
    assert [one["up_to_date"] for one in told] == [False, True], "12:05 in Amsterdam"
    assert Path(told[0]["path"]) == Path(told[1]["path"]) == served(chain)
    assert of(served(chain)) == there(at(12)) and {"p20", "p44", "p68"} == of(served(chain)) - of(morning)
    assert dmtl("verify", "--config", chain).code == 0 and current(chain) == morning
    refreshed(chain, "--as-of", f"{at(12, days=6):%Y-%m-%dT%H:%M}")
    assert of(served(chain)) == there(at(12, days=6)) != there(at(12)), "some have gone since"
    ended = dmtl("evaluate", "--config", chain, "--day", str(day(5)), "--json")
    parents = json.loads((Path(ended.json["path"]) / "manifest.json").read_text())["parents"]
    assert [p["run_id"] for p in parents if p["stage"] == "export"] == [morning.name.removeprefix("run-")]


@pytest.mark.parametrize("back", [("refresh",), ("refresh", "--as-of", f"{at(2, 30):%Y-%m-%dT%H:%M}"), ("export",)])
def test_the_last_command_says_what_is_served(chain: Path, back: tuple[str, ...]) -> None:
    """Also where what it asks for is there already, as at a moment until which nothing had come."""
    refreshed(chain, "--as-of", f"{at(16):%Y-%m-%dT%H:%M}")
    assert of(served(chain)) == there(at(16)) != there(at(0))
    more = ("--day", str(day(4))) if back == ("export",) else ()
    ended = dmtl(*back, "--config", chain, "--json", *more)
    made = ended.json if isinstance(ended.json, dict) else ended.json[0]
    assert (ended.code, made["up_to_date"]) == (0, True)
    assert served(chain) == current(chain) and of(served(chain)) == there(at(0))
    refreshed(chain, "--as-of", f"{at(16):%Y-%m-%dT%H:%M}")
    assert of(served(chain)) == there(at(16)) and runs(chain) == 2, "which was there too"


def test_while_latest_is_held_an_export_is_made_once(chain: Path) -> None:
    held = dmtl("rollback", "--config", chain, "--to", str(day(3)))
    assert held.code == 0, held.err
    before = served(chain)
    told = [refreshed(chain, "--as-of", f"{at(12, minute):%Y-%m-%dT%H:%M}")["up_to_date"] for minute in range(3)]
    assert told == [False, True, True] and served(chain) == before and runs(chain) == 2
    assert dmtl("rollback", "--config", chain, "--unpin").code == 0 and served(chain) == current(chain)


def test_a_damaged_export_is_made_again(chain: Path) -> None:
    refreshed(chain, "--as-of", f"{at(12):%Y-%m-%dT%H:%M}")
    file = served(chain) / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert dmtl("verify", "--config", chain).code == 65
    assert not refreshed(chain, "--as-of", f"{at(12):%Y-%m-%dT%H:%M}")["up_to_date"]
    assert dmtl("verify", "--config", chain).code == 0 and of(served(chain)) == there(at(12))


def test_a_day_without_an_export_has_that_of_its_end_first(chain: Path) -> None:
    shutil.rmtree(current(chain).parent)
    (chain.parent / "work/export/LATEST").unlink()
    refreshed(chain, "--as-of", f"{at(12):%Y-%m-%dT%H:%M}")
    assert of(current(chain)) == there(at(0)) and of(served(chain)) == there(at(12))
    pointer = current(chain).parent / "CURRENT"
    pointer.write_text("run-000000000000\n")
    refreshed(chain, "--as-of", f"{at(12):%Y-%m-%dT%H:%M}")
    assert of(current(chain)) == there(at(0)) and of(served(chain)) == there(at(12)), "a pointer to nothing too"


def test_the_export_of_the_days_end_has_the_tables_of_what_is_served(chain: Path) -> None:
    """What is measured the day after is of the same rows."""
    raw = yaml.safe_load(chain.read_text())
    shutil.copytree(raw["data"]["root"], chain.parent / "log")
    raw["data"]["root"] = str(chain.parent / "log")
    chain.write_text(yaml.safe_dump(raw))
    titles, before = chain.parent / "log/titels.parquet", current(chain)
    pl.read_parquet(titles).with_columns(pl.lit("new").alias("genre")).write_parquet(titles)
    refreshed(chain, "--as-of", f"{at(12):%Y-%m-%dT%H:%M}")
    assert before != current(chain) != served(chain) and of(current(chain)) == there(at(0))
    for run in (current(chain), served(chain)):
        assert {*pl.read_parquet(run / "items.parquet")["feature.genre"]} == {"new"}


def test_what_a_gate_refuses_is_no_refusal_of_the_day(chain: Path) -> None:
    """And what was published in spite of it is said."""
    floor = ("--as-of", f"{at(12):%Y-%m-%dT%H:%M}", "--set", "gates.limits={export.over_popularity: {least: 50.0}}")
    refused = dmtl("refresh", "--config", chain, *floor)
    assert refused.code == 80 and "refused" not in dmtl("status", "--config", chain).out
    assert dmtl("refresh", "--config", chain, *floor, "--force-publish", "a test").code == 0
    assert "a test" in dmtl("status", "--config", chain).out and of(served(chain)) == there(at(12))


def test_users_are_forgotten_of_what_is_served_alone(chain: Path, tmp_path: Path) -> None:
    """LATEST names an export that is no day's CURRENT, and is written again without them."""
    refreshed(chain, "--as-of", f"{at(16):%Y-%m-%dT%H:%M}")
    (tmp_path / "gone.txt").write_text("u7\n")
    before = served(chain)
    assert "u7" in {*pl.read_parquet(before / "users.parquet")["user_id"]}
    ended = dmtl("forget", "--config", chain, "--users", tmp_path / "gone.txt")
    assert ended.code == 0, ended.err
    assert served(chain) != before and not before.exists()
    assert "u7" not in {*pl.read_parquet(served(chain) / "users.parquet")["user_id"]}
    assert of(served(chain)) == there(at(16))


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        (f"{day(4)}T23:59", f"--as-of: expected a moment after day {day(4)}, got {day(4)} 23:59"),
        *(
            (text, f"--as-of: expected now, or a time until now as 2026-01-31T10:00, from 1900-01-01 on, got {text!r}")
            for text in (
                str(day(5)),
                "noon",
                "",
                "9998-01-31T10:00",
                "9999-12-31T23:59-05:00",
                "0001-01-01T00:00+05:00",
            )
        ),
    ],
)
def test_no_other_moment_is_taken(exported: Path, moment: str, says: str) -> None:
    ended = dmtl("refresh", "--config", exported, "--as-of", moment)
    assert ended.code == 2 and says in ended.err


def test_a_time_that_a_clock_passes_over_is_the_instant_after_it() -> None:
    moment = parse_moment("2025-03-30T02:30", ZONE.key, "--as-of")
    assert (moment.clock, moment.instant.hour) == (dt.datetime(2025, 3, 30, 3, 30), 1)


def test_where_no_time_tells_what_is_there_it_is_refused(exported: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load(exported.read_text())
    for key in ("version", "until", "until_is_last_day", "version_timezone"):
        raw["data"]["items"].pop(key, None)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    ended = dmtl("refresh", "--config", tmp_path / "mine.yaml", "--as-of", "now")
    assert ended.code == 2 and "--as-of: no time tells what is there: the config has no version or until" in ended.err


def test_what_comes_later_is_said(chain: Path) -> None:
    """Of the items that no event has: p0 is shown, and its row was written anew."""
    raw = yaml.safe_load(chain.read_text())
    shutil.copytree(raw["data"]["root"], chain.parent / "log")
    titles, moment = chain.parent / "log/titels.parquet", pl.lit(at(12, days=6)).dt.replace_time_zone("UTC")
    anew = pl.when(pl.col("ppn") == "p0").then(moment).otherwise("beschikbaar_vanaf")
    pl.read_parquet(titles).with_columns(anew.alias("beschikbaar_vanaf")).write_parquet(titles)
    shutil.rmtree(chain.parent / f"log/vertoningen/datum={day(5)}")  # of an earlier day it is nothing to know
    raw["data"]["root"] = str(chain.parent / "log")
    chain.write_text(yaml.safe_dump(raw))
    found = dmtl("check", "--config", chain, "--day", str(day(4)))
    said = f"5 of {ITEMS} items come after {day(5)} 00:00, by beschikbaar_vanaf"
    assert found.code == 0 and found.out.count(said) == 1, found.out
    earlier = dmtl("check", "--config", chain, "--day", str(day(3)))
    assert earlier.code == 0 and "items come after" not in earlier.out
