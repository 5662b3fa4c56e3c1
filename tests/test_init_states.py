"""`init` and `check` on tables that are one state for all days, and on columns that say nothing of a user or item: what
is known at the end of a log alone, since when an item is there, groups of a test, second names, the same words."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from initiated import features, made
from scipy.stats import spearmanr
from worlds import Ended, dmtl

from dmtl_cli.guess.columns import alike
from dmtl_cli.guess.features.kinds import refusal
from dmtl_cli.guess.sides import states
from dmtl_cli.guess.sides.served import told
from dmtl_cli.guess.sides.versions import birth

USERS, ITEMS, ROWS = 150, 160, 6_000
FIRST = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LAST = "2026-03-03"
TOPICS = [f"topic {k}" for k in range(12)]


def drawn(**more: Any) -> pl.DataFrame:
    """Three days of exposures; some items are shown far more often than others."""
    rng = np.random.default_rng(5)
    weight = 1 / np.arange(2, ITEMS + 2) ** 0.6
    click = rng.random(ROWS) < 0.35
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, USERS, ROWS // 10).repeat(10),
            "item_id": rng.choice(ITEMS, ROWS, p=weight / weight.sum()),
            "ts": [FIRST + dt.timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 3 * 86_400, ROWS))],
            "clicked": click.astype(int),
            "watch_seconds": np.where(click, rng.exponential(40.0, ROWS), 0.0),
        }
        | more
    )


def write(home: Path, log: pl.DataFrame, **tables: pl.DataFrame) -> None:
    for (day,), rows in log.group_by(pl.col("ts").dt.date(), maintain_order=True):
        (home / f"events/day={day}").mkdir(parents=True)
        rows.write_parquet(home / f"events/day={day}/0.parquet")
    for name, table in tables.items():
        table.write_parquet(home / f"{name}.parquet")


def initiated(home: Path, log: pl.DataFrame, **tables: pl.DataFrame) -> tuple[Ended, dict[str, Any], str]:
    ended, raw, text = made(home, lambda place: write(place, log, **tables))
    assert ended.code == 0, ended.err
    return ended, raw, text


def clicks(log: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(log["item_id"].to_numpy(), weights=log["clicked"].to_numpy(), minlength=ITEMS).astype(np.int64)


def states_of(log: pl.DataFrame) -> pl.DataFrame:
    """Items as they are when the log has ended: what was withdrawn, what was counted, and what was always so."""
    rng, n = np.random.default_rng(7), np.arange(ITEMS)
    gone = n % 9 == 0
    karma = np.exp(0.9 * np.log1p(clicks(log)) + rng.normal(0, 0.9, ITEMS) + 3).astype(np.int64)
    assert 0.4 < spearmanr(karma, clicks(log)).statistic < 0.8
    return pl.DataFrame(
        {
            "item_id": n,
            "active": (~gone).astype(int),
            "is_removed": gone,
            "sold_at": [FIRST + dt.timedelta(days=2) if g else None for g in gone],
            "status": ["deleted" if g else "live" for g in gone],
            "saves": rng.integers(0, 400, ITEMS),
            "play_count": rng.integers(0, 400, ITEMS),
            "rating": np.round(rng.uniform(1, 5, ITEMS), 1),
            "karma": karma,
            "ctr_7d": np.round(rng.uniform(0, 0.3, ITEMS), 3),
            "budget": np.exp(rng.normal(6, 1.2, ITEMS)).astype(np.int64) // 100 * 100,
            "stars": rng.integers(1, 6, ITEMS),
            "age_rating": rng.choice([6.5, 12.5, 16.5], ITEMS),
            "page_count": rng.integers(50, 400, ITEMS),
            "activity": rng.choice(["run", "swim", "ride"], ITEMS),
        }
    )


WITHDRAWN = {
    "active": "active = 1",
    "is_removed": "is_removed = false",
    "sold_at": "(sold_at IS NULL OR sold_at > NOW())",
    "status": "status = 'live'",
}
COUNTED = {"saves", "play_count", "rating", "karma", "ctr_7d"}


def test_what_is_known_at_the_end_of_the_log_is_no_feature(tmp_path: Path) -> None:
    log = drawn()
    ended, raw, text = initiated(tmp_path, log, items=states_of(log))
    mine = {name for name, f in features(raw).items() if f["side"] == "item"} - {"item_id"}
    assert mine == {"budget", "stars", "age_rating", "page_count", "activity"}
    for c, condition in WITHDRAWN.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"# {c}: not used: it tells what was"))
        assert line.endswith(f"(export.items: {condition} leaves it out of what is served)")
    assert raw["export"] == {"items": " AND ".join(WITHDRAWN.values())}
    held = [line for line in text.splitlines() if line.startswith("  # - {name: ")]
    assert {line.split(",")[0].split()[-1] for line in held} == COUNTED
    (karma,) = (line for line in held if "karma" in line)
    assert "follows the log's own counts (rank correlation ." in karma
    told = " ".join(ended.out.split())
    assert "of items budget, stars, age_rating, page_count, activity; " in told
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace("  # - {name: ", "  - {name: "))
    assert {*features(yaml.safe_load(config.read_text()))} > COUNTED, "a person may decide otherwise"
    told = suggested(config)
    assert {line.split(":")[0] for line in told if "one for all days" in line} == COUNTED


def suggested(config: Path) -> list[str]:
    ended = dmtl("check", "--config", config, "--day", LAST, "--json")
    assert ended.code == 0, ended.err
    found: list[str] = ended.json["suggestions"]
    return found


def test_check_says_so_of_features_that_a_person_wrote(tmp_path: Path) -> None:
    log = drawn()
    _, raw, _ = initiated(tmp_path, log, items=states_of(log))
    lines = [{"name": c, "side": "item", "kind": "categorical"} for c in ("active", "is_removed", "status")]
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(raw | {"features": [*raw["features"], *lines]}))
    told = [line for line in suggested(config) if "one for all days" in line]
    assert [line.split(":")[0] for line in told] == ["active", "is_removed", "status"]
    assert all("which earlier days did not know" in line and line.endswith("(data.items.partition)") for line in told)
    for day in ("2026-03-01", "2026-03-02", LAST):  # as it was on each day
        (tmp_path / f"log/daily/day={day}").mkdir(parents=True)
        states_of(log).write_parquet(tmp_path / f"log/daily/day={day}/0.parquet")
    raw["data"]["items"] = {"path": "daily", "partition": "day", "key": "item_id"}
    config.write_text(yaml.safe_dump(raw | {"features": [*raw["features"], *lines]}))
    assert not [line for line in suggested(config) if "withdrawn" in line]


def test_a_list_of_items_in_one_state_of_users_is_held(tmp_path: Path) -> None:
    """What a user bought up to the end of the log has what came of the exposures that are to be predicted."""
    log = drawn()
    bought = log.filter(pl.col("clicked") == 1).group_by("user_id", maintain_order=True).agg(pl.col("item_id").head(20))
    users = bought.rename({"item_id": "my_things"}).with_columns(
        interests=pl.Series([[TOPICS[k % 12], TOPICS[(k + 5) % 12]] for k in range(len(bought))])
    )
    ended, raw, text = initiated(tmp_path, log, users=users)
    assert {name for name, f in features(raw).items() if f["side"] == "user"} == {"user_id", "interests"}
    (line,) = (line for line in text.splitlines() if line.startswith("  # - {name: my_things, "))
    assert "may have what came of its own exposures" in line and "kind: sequence" in line
    assert not [line for line in suggested(tmp_path / "mine.yaml") if "my_things" in line], "init holds it back"
    daily = tmp_path / "daily"
    daily.mkdir()
    (daily / "log").mkdir()
    write(daily / "log", log)
    for n, day in enumerate(("2026-03-01", "2026-03-02", LAST)):
        (daily / f"log/users/day={day}").mkdir(parents=True)
        users.with_columns(n=n).write_parquet(daily / f"log/users/day={day}/0.parquet")
    ended = dmtl("init", daily / "log", "-o", daily / "mine.yaml")
    assert ended.code == 0, ended.err
    raw = yaml.safe_load((daily / "mine.yaml").read_text())
    assert features(raw)["my_things"]["kind"] == "sequence", "as it was on each day it is a history"


def test_flags_and_totals_by_their_names_and_values() -> None:
    flag = [0, 1] * 50
    assert states.withdrawn(pl.Series("in_stock", flag))
    gone = states.withdrawn(pl.Series("is_active", flag))
    assert gone is not None and told(gone, "user") == gone.why
    assert told(gone, "item").endswith("(export.items: is_active = 1 leaves it out of what is served)")
    for other in ("active_days", "interactive", "is_deletable", "sold_out_shows_of_artist"):
        assert states.still(pl.Series(other, flag)) is None, other
    for name in ("removido_em", "gelöscht am", "supprime_le", "usunieto_dnia", "data_wycofania", "silinme_tarihi"):
        assert states.still(pl.Series(name, [None, dt.datetime(2026, 1, 1)])) == (None,), name
        assert states.still(pl.Series(name, [None, None], dtype=pl.Datetime)) is None, name
    for name in ("yayindaMi", "aktif", "disponible", "dostępny", "ativo"):
        assert states.still(pl.Series(name, [True, False])) == (True,), name
    for name in ("publicado_em", "publié le", "veroeffentlicht_am", "opublikowano_dnia", "data_wydania"):
        assert states.still(pl.Series(name, [None, dt.datetime(2026, 1, 1)])) is None, "what has none is a draft"
    for name in ("data_wydania", "fecha_publicacion", "data_de_nascimento", "silinme_sayisi", "data_remocao"):
        assert states.still(pl.Series(name, [1, 0])) is None, name
    assert states.still(pl.Series("active", [1, 2, 3])) is None
    assert states.still(pl.Series("status", ["new", "used"])) is None
    several = pl.Series("status", ["live", "live", "paused", "geo_blocked", "removed", "ongoing"])
    assert states.still(several) == ("live", "ongoing"), "what is not to be had for now is not served either"
    for name, words in {
        "estado": ["publicado", "publicado", "retirado", "oculto"],
        "Zustand": ["sichtbar", "sichtbar", "gelöscht", "Entwurf"],
        "article_statut": ["publié", "publié", "archivé", "masqué"],
        "статус": ["активен", "активен", "снято", "архив"],
    }.items():
        assert states.still(pl.Series(name, words)) == (words[0],), name
    assert states.still(pl.Series("status", ["active", "active", "已删除"])) == ("active",)
    assert states.still(pl.Series("estado", ["Oaxaca", "Jalisco"])) is None, "a state of a country"
    many = pl.Series([*range(100)])
    for name in ("views_total", "totalPlays", "num_likes", "download_cnt", "reviews", "popularity", "vues",
                 "vistas_totales", "guardados_totales", "num_calificaciones"):  # fmt: skip
        assert states.total(many.alias(name), lambda _: 0.0), name
    for name, means in (("calificacion_promedio", True), ("ocena_srednia", True), ("promedio_precio", False)):
        assert bool(states.total(pl.Series(name, [4.5, 3.25, 5.0] * 30), lambda _: 0.0)) == means, name
    even = pl.Series("editorial_priority", [*range(40, 140)])
    assert not states.total(even, lambda: 0.65), "what causes exposures goes with them too"
    for name in (
        "page_count",
        "viewing_angle",
        "share_price",
        "word_count",
        "read_minutes",
        "order_id",
        "listeners_age",
    ):
        assert not states.total(many.alias(name), lambda _: 0.0), name


def test_a_rank_correlation_needs_many_ids() -> None:
    x, n = pl.Series([*range(200)]), pl.Series([*range(1, 201)])
    assert states.rank_correlation(x, n) == pytest.approx(1) and states.rank_correlation(x[:60], n[:60]) == 0
    noisy = pl.Series(np.random.default_rng(0).permutation(200))
    assert states.rank_correlation(noisy, n) == pytest.approx(spearmanr(noisy, n).statistic)


# -- since when an item is there ---------------------------------------------------------------------------------------


def published(at: list[Any], name: str = "published_on") -> pl.DataFrame:
    return pl.DataFrame({"item_id": range(ITEMS), name: at, "genre": ["a", "b", "c", "d"] * (ITEMS // 4)})


@pytest.mark.parametrize("kind", ["date", "instant", "text"])
def test_items_that_come_within_the_log_have_a_version(tmp_path: Path, kind: str) -> None:
    log = drawn()
    first = dict(log.group_by("item_id").agg(pl.col("ts").min()).iter_rows())
    born: list[dt.datetime | None] = [
        first.get(k, FIRST) - dt.timedelta(days=0 if k % 4 else 30, hours=1) for k in range(ITEMS)
    ]
    born[8], born[40] = None, None
    at: list[Any] = {
        "date": [t and t.date() for t in born], "instant": born, "text": [t and t.isoformat() for t in born],
    }[kind]  # fmt: skip
    ended, raw, text = initiated(tmp_path, log, items=published(at))
    assert raw["data"]["items"]["version"] == "published_on" and "which is 78" not in ended.out
    assert raw["data"].get("timezone") == (None if kind == "date" else "UTC")
    assert "one state for all days" in text and "since when an item is there" in text


def test_of_several_times_the_latest_is_since_when_an_item_is_there(tmp_path: Path) -> None:
    """A song is shown from when it was added, however long ago it was released."""
    log = drawn()
    first = dict(log.group_by("item_id").agg(pl.col("ts").min()).iter_rows())
    added = [first.get(k, FIRST) - dt.timedelta(days=0 if k % 4 else 30, hours=1) for k in range(ITEMS)]
    songs = published([(t - dt.timedelta(days=k % 3)).date() for k, t in enumerate(added)], "released")
    ended, raw, _ = initiated(tmp_path, log, items=songs.with_columns(added_at=pl.Series(added)))
    assert ended.code == 0 and raw["data"]["items"]["version"] == "added_at", ended.err


def test_the_latest_is_that_of_items_that_have_both() -> None:
    """The oldest items lack the earlier time, which is later on average for it."""
    days = [dt.date(2026, 2, 1) + dt.timedelta(days=k % 28) for k in range(200)]
    created = [None if k < 16 else d - dt.timedelta(days=5) for k, d in enumerate(days)]
    days = [dt.date(2020, 1, 1) if k < 16 else d for k, d in enumerate(days)]
    table = pl.DataFrame({"id": range(200), "created_at": created, "published_at": days})
    found = birth(table, "id", pl.Series(range(200)), pl.Series([d + dt.timedelta(days=1) for d in days]))
    assert found is not None and found.column == "published_at"


def test_a_time_of_loading_or_of_long_ago_is_no_version(tmp_path: Path) -> None:
    log, end = drawn(), FIRST + dt.timedelta(days=4)
    for name, at in {"loaded": end, "old": FIRST - dt.timedelta(days=99)}.items():
        _, raw, _ = initiated(tmp_path / name, log, items=published([at] * ITEMS, "created_at"))
        assert "version" not in raw["data"]["items"], name


def test_check_tells_items_that_a_version_hides_from_those_that_are_not_listed(tmp_path: Path) -> None:
    log = drawn()
    seen = log.filter(pl.col("ts").dt.date() == dt.date(2026, 3, 3))["item_id"].n_unique()
    at = [FIRST.date() + dt.timedelta(days=k % 2) for k in range(ITEMS)]
    at[:3] = [dt.date(2026, 3, 9)] * 3
    _, raw, _ = initiated(tmp_path, log, items=published(at))
    config = tmp_path / "mine.yaml"
    raw["data"]["items"]["version"] = "published_on"
    config.write_text(yaml.safe_dump(raw))
    hidden = f"3 of the day's {seen} items are in the table of items, with a later published_on (data.items.version)"
    (line,) = (line for line in suggested(config) if "of the day's" in line)
    assert line.startswith(f"item_id: {hidden}")
    published(at)[5:].write_parquet(tmp_path / "log/items.parquet")
    lines = [line for line in suggested(config) if "of the day's" in line]
    assert len(lines) == 1 and f"5 of the day's {seen} items are not in the table of items" in lines[0]


# -- what says nothing, and what says the same -------------------------------------------------------------------------


def test_groups_of_tests_programs_and_second_ids_are_no_features(tmp_path: Path) -> None:
    log = drawn()
    user = log["user_id"].to_list()
    more = {
        "ab_group": [f"g{u % 3}" for u in user],
        "experiment_bucket": [u % 10 for u in user],
        "Testgruppe": [f"t{u % 4}" for u in user],
        "user_agent": [f"Web/{u % 6}.1" for u in user],
        "cookie_id": [f"c{u * 7919}" for u in user],
        "cohort": [f"y{u % 5}" for u in user],
    }
    sellers = pl.DataFrame({"item_id": range(ITEMS), "seller_nick": [f"n{k % 30 * 7}" for k in range(ITEMS)]})
    sellers = sellers.with_columns(pl.Series("seller_id", [900 + k % 30 for k in range(ITEMS)]))
    sellers = sellers.with_columns(pl.Series("city", [f"town {k % 30 % 6}" for k in range(ITEMS)]))
    _, raw, text = initiated(tmp_path, log.with_columns(pl.Series(c, v) for c, v in more.items()), items=sellers)
    assert {*features(raw)} == {"user_id", "item_id", "cohort", "seller_id", "city"}
    assert "# cookie_id: not used: nearly a value of its own for every user: a second id" in text
    assert "# seller_nick: not used: a second name of seller_id" in text
    assert (
        "# ab_group, experiment_bucket, Testgruppe: not used: named like a test's group" in text
        and "# user_agent: not used: a program's name" in text
    )


def test_a_machine_that_wrote_rows_is_no_feature(tmp_path: Path) -> None:
    """By a name that no column of the exposure has; of `host` and `node` only where values are numbered, as a site's
    or a menu's are not."""
    log, n = drawn(), np.arange(ROWS) % 7 % 3
    more = {
        "SzerverNev": [f"web-0{k}" for k in n],
        "pod": [["api-7d-x", "api-7d-y", "api-9c-z"][k] for k in n],
        "host": [f"h{k}.dc" for k in n],
        "worker_node": [f"10.0.0.{k}" for k in n],
        "request.host": [["shop.example", "m.shop.example", "b2b.example"][k] for k in n],
        "menu_node": [["toys", "home", "garden"][k] for k in n],
        "server_region": [f"eu-{k}" for k in n],
    }
    _, raw, text = initiated(tmp_path, log.with_columns(pl.Series(c, v) for c, v in more.items()))
    context = {f["name"] for f in features(raw).values() if f["side"] == "context"}
    assert context == {"request_host", "menu_node", "server_region"}
    told = [line for line in text.splitlines() if "which machine wrote the row" in line]
    assert all(any(c in line for line in told) for c in ("SzerverNev", "pod", "host", "worker_node"))


def test_a_second_name_has_one_of_each() -> None:
    n = np.arange(90)
    frame = pl.DataFrame(
        {"nick": n % 9, "id": 100 + n % 9, "same_sizes": (n // 10), "few": n % 2, "also_few": 1 - n % 2}
    )
    told = alike.second_names(frame, {"nick": False, "id": True, "same_sizes": False, "few": False, "also_few": False})
    assert told == {"nick": "id"}


ARABIC = dict(zip(TOPICS, (f"موضوع {k}" for k in range(len(TOPICS))), strict=True))


@pytest.mark.parametrize("written", ["objects", "lists", "texts"])
def test_of_lists_that_are_translations_one_is_a_feature(tmp_path: Path, written: str) -> None:
    """Element by element; lists of as many that say something else stay."""
    rng = np.random.default_rng(5)
    slugs = [rng.choice(TOPICS, rng.integers(0, 4), replace=False).tolist() for _ in range(ITEMS)]
    other = [rng.choice(TOPICS, len(some)).tolist() for some in slugs]
    names = [[ARABIC[slug] for slug in some] for some in slugs]
    items = pl.DataFrame({"item_id": range(ITEMS)})
    if written == "objects":
        rows = [
            [{"slug": a, "ar": b, "kin": c} for a, b, c in zip(*of, strict=True)]
            for of in zip(slugs, names, other, strict=True)
        ]
        kind = pl.List(pl.Struct({"slug": pl.String, "ar": pl.String, "kin": pl.String}))
        items = items.with_columns(pl.Series("topics", rows, dtype=kind))
        told, kept = "# topics.ar: not used: a second name of topics.slug", {"topics_slug", "topics_kin"}
    else:
        more = [
            pl.Series(c, some, dtype=pl.List(pl.String)) for c, some in zip("abc", (slugs, names, other), strict=True)
        ]
        items = items.with_columns(more if written == "lists" else (s.list.join("|") for s in more))
        told, kept = "# b: not used: a second name of a: each has one of the other", {"a", "c"}
    _, raw, text = initiated(tmp_path, drawn(), items=items)
    assert told in text and {*features(raw)} == {"user_id", "item_id", *kept}


@pytest.mark.parametrize("side", ["users", "items"])
def test_of_translations_that_is_a_feature_which_the_other_side_has(tmp_path: Path, side: str) -> None:
    """Whether the one table or the other has both languages, the second of them shared."""
    rng = np.random.default_rng(6)
    tables = {"users": (USERS, "likes"), "items": (ITEMS, "tags")}
    frames = {}
    for name, (n, column) in tables.items():
        slugs = [rng.choice(TOPICS, 2, replace=False).tolist() for _ in range(n)]
        names = pl.Series(f"{column}_ar", [[ARABIC[slug] for slug in some] for some in slugs])
        frames[name] = pl.DataFrame({f"{name.removesuffix('s')}_id": range(n)})
        both = [pl.Series(f"{column}_en", slugs), names] if name == side else [names]
        frames[name] = frames[name].with_columns(both)
    _, raw, text = initiated(tmp_path, drawn(), **frames)
    own = tables[side][1]
    assert features(raw)["likes_ar"]["embedding_name"] == "tags_ar" and f"{own}_en" not in features(raw)
    assert f"# {own}_en: not used: a second name of {own}_ar: each has one of the other" in text
    assert text.count("a second name of") == 1 and "{crosses: [{user: likes_ar, item: tags_ar}]}" in text


def test_lists_are_second_names_by_each_element() -> None:
    n = np.arange(90)
    lists = [[f"a{k % 9}", f"a{k % 7}"] if k % 5 else [] for k in n]
    columns = {
        "a": lists,
        "same": [[x.replace("a", "b") for x in some] for some in lists],
        "turned": [some[::-1] for some in lists],
        "longer": [[*some, "a1"] for some in lists],
        "null": [some or None for some in lists],
        "bag": [sorted(some) for some in lists],
    }
    told = alike.second_names(pl.DataFrame(columns), dict.fromkeys(columns, False))
    assert told == {"same": "a", "null": "a"}


def test_interests_and_categories_of_the_same_words_read_one_embedding(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    users = pl.DataFrame({"user_id": range(USERS), "likes": [", ".join(rng.choice(TOPICS, 2)) for _ in range(USERS)]})
    users = users.with_columns(pl.Series("lives_in", [f"town {k % 7}" for k in range(USERS)]))
    tags = [[TOPICS[k] for k in rng.choice(12, 2, replace=False)] for _ in range(ITEMS)]
    also = [TOPICS[k % 12] if k % 3 else None for k in range(ITEMS)]
    items = pl.DataFrame({"item_id": range(ITEMS), "see_also": also, "tags": tags})
    _, raw, text = initiated(tmp_path, drawn(), users=users, items=items)
    found = features(raw)
    assert found["likes"]["embedding_name"] == "tags", "which more items have than see_also"
    assert "embedding_name" not in found["lives_in"] and "embedding_name" not in found["tags"]
    (line,) = (line for line in text.splitlines() if line.startswith("# teacher:"))
    assert "{crosses: [{user: likes, item: tags}]}" in line
    (tmp_path / "mine.yaml").write_text(text.replace("# teacher:", "teacher:"))
    described = dmtl("check", "--config", tmp_path / "mine.yaml", "--day", LAST, "--json")
    assert described.code == 0, described.err
    assert {f["embedding"] for f in described.json["features"] if f["name"] in ("likes", "tags")} == {"tags"}


def test_the_price_of_the_moment_is_read_and_that_of_the_end_is_not(tmp_path: Path) -> None:
    log = drawn()
    rng = np.random.default_rng(3)
    base = np.exp(rng.normal(6, 1, ITEMS)).astype(np.int64)
    shown = base[log["item_id"].to_numpy()] + (log["ts"].dt.day().to_numpy() == 1) * 40
    items = pl.DataFrame({"item_id": range(ITEMS), "price_now": base, "genre": ["a", "b", "c", "d"] * (ITEMS // 4)})
    _, raw, text = initiated(tmp_path, log.with_columns(pl.Series("price_shown", shown)), items=items)
    assert "price_shown" in features(raw) and "price_now" not in features(raw)
    assert "price_shown of the events is that of the moment" in text
    assert not [line for line in suggested(tmp_path / "mine.yaml") if line.startswith("price_now")]
    without = [f for f in raw["features"] if f == "auto" or f["name"] != "price_shown"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw | {"features": without}))
    told = [line for line in suggested(tmp_path / "mine.yaml") if "named like a price" in line]
    assert [line.split(":")[0] for line in told] == ["price_shown"]


# -- a label of one value ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gaps", "why"), [(0, "one value alone"), (2, "one value alone, which a few lack"), (9, None)])
def test_a_value_that_all_have_is_no_feature(gaps: int, why: str | None) -> None:
    """But one that many lack is a mark."""
    s = pl.Series("language", [None] * gaps + ["te"] * (40 - gaps))
    assert refusal(s, own=True, is_time=False) == why


def test_a_label_of_one_value_is_told_by_check_and_by_the_teacher(tmp_path: Path) -> None:
    log = drawn()
    bought = [True if c and k % 4 else None for k, c in enumerate(log["clicked"])]
    _, raw, _ = initiated(tmp_path, log.with_columns(pl.Series("bought", bought, dtype=pl.Boolean)))
    events = {k: v for k, v in raw["data"]["events"].items() if k not in ("duration", "outcomes")}
    raw["data"]["events"] = events | {"conversion": "bought", "outcomes": ["watch_seconds"]}
    raw |= {"workspace": str(tmp_path / "ws"), "auto": {"budget": 0}, "features": ["auto"]}
    raw.pop("labels", None)
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(raw))
    (line,) = (line for line in suggested(config) if line.startswith("bought"))
    assert "bought: every click of the " in line and "(not null)" in line and "write 0 for a no" in line
    for day in ("2026-03-01", "2026-03-02"):
        assert dmtl("build-profile", "--config", config, "--day", day).code == 0
    ended = dmtl("train-teacher", "--config", config, "--day", "2026-03-02", "--json")
    assert ended.code == 0, ended.err
    told = json.loads((Path(ended.json["path"]) / "manifest.json").read_text())["facts"]["warnings"]
    assert any("the label of cvr is 1 in all of " in line for line in told), told


def test_a_rate_of_the_end_of_the_log_is_no_feature(tmp_path: Path) -> None:
    """Under whatever name: the share of an item's clicks that are good, as the table's writer counted it. What it is
    may have to do with it."""
    rng = np.random.default_rng(8)
    log = drawn(item_id=rng.integers(0, ITEMS, ROWS))
    p = rng.beta(1.5, 1.5, ITEMS)
    good = (log["clicked"].to_numpy() == 1) & (rng.random(ROWS) < p[log["item_id"].to_numpy()])
    n = clicks(log)
    of = np.bincount(log["item_id"].to_numpy(), weights=good, minlength=ITEMS) / np.maximum(n, 1)
    items = pl.DataFrame({"item_id": range(ITEMS), "zz": of + rng.normal(0, 0.03, ITEMS)})
    items = items.with_columns(pl.Series("yy", p + rng.normal(0, 0.5, ITEMS)), pl.Series("xx", -of))
    assert spearmanr(items["yy"], of).statistic > 0.2
    _, raw, text = initiated(tmp_path, log.with_columns(pl.Series("done", good.astype(int))), items=items)
    assert {"yy", "xx"} <= features(raw).keys() and "zz" not in features(raw)
    assert re.search(r"# - \{name: zz, .*it follows the log's own rates \(rank correlation \.[89]\d*\)", text), text
