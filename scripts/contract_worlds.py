"""The worlds of the frozen exports, and the raw values that their clients are asked about.

`shown` has an exposure block, integer users, items of text, and every kind of feature. `plain` has one block of unit
vectors, users of text, and items from one end of int64 to the other. `coarse` is the same with item vectors of int8.
`half` has item vectors of float16, ids whose order by UTF-16 is another than by UTF-8, and columns of many types.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
USERS, ITEMS = 24, 30
BIG = 2**53 + 1  # the first integer that a double does not hold
LEAST, MOST = -(2**63), 2**63 - 1
NAN, INF = float("nan"), float("inf")
E_ACUTE, E_AND_ACUTE = "\u00e9", "e\u0301"  # look the same, are not
HALF = "\ud800"  # of a surrogate pair: JSON can write it, UTF-8 cannot
WIDE, BEYOND = "\uff5e", "\U0001f600"  # in this order as code points and as UTF-8, the other way round as UTF-16

_MODELS: dict[str, Any] = {
    "seed": 1,
    "auto": {"budget": 0},
    "threads": 1,
    "gates": {"quality": False},
    "teacher": {
        "num_experts": 2,
        "expert_hidden_units": [8],
        "tower_hidden_units": [4],
        "embedding_dim": 4,
        "batch_size": 64,
        "epochs": 2,
        "learning_rate": 0.003,
        "embedding_learning_rate": 0.1,
    },
    "scores": {"negatives": 2},
    "evaluate": {"max_users": 20},
}
_STUDENT: dict[str, Any] = {
    "hidden_units": [8, 4],
    "embedding_dim": 4,
    "batch_size": 64,
    "learning_rate": 0.01,
    "embedding_learning_rate": 0.3,
}
_EVENTS = {
    "path": "events",
    "partition": "day",
    "user": "user_id",
    "item": "item_id",
    "time": "time",
    "click": "click",
    "duration": "read_seconds",
}
_DATA: dict[str, Any] = {
    "events": _EVENTS,
    "users": {"path": "users", "key": "user_id", "partition": "day"},
    "items": {"path": "items", "key": "item_id", "partition": "day"},
}


def _feature(side: str, kind: str, name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "side": side, "kind": kind, **options}


SHOWN = [
    _feature("user", "categorical", "hour", level="event"),  # before the others here, after them in a tower
    _feature("user", "numeric", "battery", level="event", boundaries=[20.0, 80.0]),
    _feature("user", "categorical", "user_id"),
    _feature("user", "categorical", "premium"),
    _feature("user", "categorical", "country", min_count=100),
    _feature("user", "categorical", "device", hash_bucket_size=40),
    _feature("user", "categorical", "cohort", hash_bucket_size=40),
    _feature("user", "categorical", "silent", hash_bucket_size=40),
    _feature("user", "sequence", "history", embedding_name="item_id", max_length=4),
    _feature("user", "sequence", "topics", separator="|", max_length=3),
    _feature("user", "sequence", "queries", separator=", ", max_length=3, hash_bucket_size=50),
    _feature("user", "sequence", "lots", max_length=3, hash_bucket_size=50),
    _feature("user", "numeric", "age", boundaries=[0.0, 18.0, 65.0]),
    _feature("user", "numeric", "visits"),
    _feature("user", "numeric", "spend", transform="log1p"),
    _feature("user", "numeric", "level", num_buckets=4),
    _feature("user", "numeric", "dormant"),
    _feature("user", "numeric", "asleep", num_buckets=4),
    _feature("user", "vector", "taste", dim=3),
    _feature("user", "sequence", "clicked", embedding_name="item_id", profile={"history": "click"}, max_length=4),
    _feature("user", "numeric", "clicks", profile={"count": "click", "half_life_days": 7}, transform="log1p"),
    _feature("user", "numeric", "since", profile={"age": "last_seen"}),
    _feature("item", "categorical", "item_id"),
    _feature("item", "categorical", "publisher", hash_bucket_size=20),
    _feature("item", "sequence", "tags", max_length=3),
    _feature("item", "numeric", "price", transform="log1p"),
    _feature("item", "vector", "look", dim=2),
    _feature("item", "numeric", "ctr", profile={"rate": "click", "of": "exposure"}),
]
PLAIN = [
    _feature("user", "categorical", "user_id"),
    _feature("user", "sequence", "watched", embedding_name="item_id", max_length=5),
    _feature("item", "categorical", "item_id"),
    _feature("item", "categorical", "genre"),
]
HALVES = [
    _feature("user", "categorical", "user_id"),
    _feature("user", "sequence", "watched", embedding_name="item_id", max_length=5),
    _feature("user", "categorical", "city"),
    _feature("user", "categorical", "account", hash_bucket_size=40),
    _feature("user", "numeric", "height"),
    _feature("user", "numeric", "points", num_buckets=4),
    _feature("user", "numeric", "ratio", boundaries=[0.2, 0.7]),
    _feature("item", "categorical", "item_id"),
    _feature("item", "categorical", "genre"),
]
CONFIGS: dict[str, dict[str, Any]] = {
    "shown": {**_MODELS, "data": {**_DATA}, "features": SHOWN, "student": _STUDENT},
    "plain": {
        **_MODELS,
        "data": {**_DATA},
        "features": PLAIN,
        "student": {**_STUDENT, "vectors": "unit", "exposure": {"kappa": 0}},
    },
    "coarse": {
        **_MODELS,
        "data": {**_DATA},
        "features": PLAIN,
        "student": {**_STUDENT, "exposure": {"kappa": 0}},
        "export": {"vectors": "int8", "index": "exact"},
    },
    "half": {
        **_MODELS,
        "data": {**_DATA},
        "features": HALVES,
        "student": _STUDENT,
        "export": {"vectors": "float16", "index": "exact"},
    },
}
FORGOTTEN = {"plain": "user-05"}
GONE = "user-22"


def user_id(name: str, k: int) -> Any:
    if name == "half" and k < 2:
        return [WIDE, BEYOND][k]
    return [BIG, LEAST, MOST, 0, -1][k] if name == "shown" and k < 5 else k if name == "shown" else f"user-{k:02d}"


def item_id(name: str, k: int) -> Any:
    if name == "shown":
        return [E_ACUTE, E_AND_ACUTE, "日本語", BEYOND, "a b"][k] if k < 5 else f"item-{k:02d}"
    if name == "half":
        return [WIDE, BEYOND][k] if k < 2 else f"item-{k:02d}"
    return [LEAST, MOST, BIG, -1, 0][k] if k < 5 else 100 + k


def tables_of(name: str, day: str) -> dict[str, pl.DataFrame]:
    """A day's events, users and items. Even users like even items."""
    rng = np.random.default_rng([DAYS.index(day), len(name)])
    user = np.repeat(np.arange(USERS), 20)
    item = rng.integers(0, ITEMS - 4, len(user))  # the last four have no events
    click = rng.random(len(user)) < np.where(user % 2 == item % 2, 0.8, 0.2)
    events = pl.DataFrame(
        {
            "user_id": [user_id(name, k) for k in user.tolist()],
            "item_id": [item_id(name, k) for k in item.tolist()],
            "time": [f"{day}T{6 + k % 12:02d}:00:00Z" for k in range(len(user))],
            "click": click,
            "read_seconds": np.where(click, np.round(rng.exponential(60, len(user))), 0.0),
            "hour": [f"{6 + k % 12:02d}" for k in range(len(user))],
            "battery": [float(k % 101) for k in range(len(user))],
        }
    ).with_columns(pl.col("time").str.to_datetime(time_zone="UTC"))
    users, items = {"shown": _shown, "half": _half}.get(name, _plain)()
    if name == "half" and day == DAYS[-1]:  # a user who has a row in the vocabulary, and none in users.parquet
        users, events = users.filter(pl.col("user_id") != GONE), events.filter(pl.col("user_id") != GONE)
    return {"events": events, "users": users, "items": items}


def _shown() -> tuple[pl.DataFrame, pl.DataFrame]:
    k = range(USERS)
    items = [item_id("shown", i) for i in range(ITEMS)]
    users = pl.DataFrame(
        {
            "user_id": [user_id("shown", u) for u in k],
            "premium": [[True, False, None][u % 3] for u in k],
            "country": ["rare" if u == 9 else [E_ACUTE, E_AND_ACUTE, "", "DE", None][u % 5] for u in k],
            "device": [[E_ACUTE, "5", "", None][u % 4] for u in k],
            "cohort": [[5.0, LEAST * 1.0 / 2**11, None, -1.0][u % 4] for u in k],
            "silent": pl.Series([None] * USERS, dtype=pl.String),
            "history": [[items[(2 * h + u) % 26] for h in range(u % 6)] if u % 5 else None for u in k],
            "topics": [["a||b", "|", "", None, "a|b|c|d", "c"][u % 6] for u in k],
            "queries": [["new york, 5", ", ", None, "5"][u % 4] for u in k],
            "lots": [[[5, None, MOST], [], None, [LEAST, -1, 0, 5]][u % 4] for u in k],
            "age": [[NAN, 17.0, 18.0, 70.0, -1.0, None][u % 6] for u in k],
            "visits": [None if u == 3 else u * u for u in k],
            "spend": [[0.0, 1.5, -20.0, INF, None, 1e6][u % 6] for u in k],
            "level": [float(u % 7) for u in k],
            "dormant": pl.Series([None] * USERS, dtype=pl.Float64),
            "asleep": pl.Series([None] * USERS, dtype=pl.Float64),
            "taste": [None if u == 4 else [u / 24, None if u % 7 == 0 else 0.5, -1.0] for u in k],
        }
    )
    i = range(ITEMS)
    table = pl.DataFrame(
        {
            "item_id": items,
            "publisher": [n % 7 for n in i],
            "tags": [[["x", "", "y"], [], None, ["y", "x", "x", "z"]][n % 4] if n < ITEMS - 4 else ["x"] for n in i],
            "price": [None if n >= ITEMS - 4 else float(n) for n in i],
            "look": [[float(n % 3), 1.0] if n < ITEMS - 4 else [0.0, 1.0] for n in i],
        }
    ).with_columns(publisher=pl.when(pl.col("price").is_null()).then(3).otherwise("publisher"))
    return users, table


def _plain() -> tuple[pl.DataFrame, pl.DataFrame]:
    items = [item_id("plain", i) for i in range(ITEMS)]
    users = pl.DataFrame(
        {
            "user_id": [user_id("plain", u) for u in range(USERS)],
            "watched": [[items[(3 * h + u) % 26] for h in range(u % 8)] for u in range(USERS)],
        }
    )
    genre = ["x" if i >= ITEMS - 4 else "abc"[i % 3] for i in range(ITEMS)]
    return users, pl.DataFrame({"item_id": items, "genre": genre})


def _half() -> tuple[pl.DataFrame, pl.DataFrame]:
    k = range(USERS)
    items = [item_id("half", i) for i in range(ITEMS)]
    users = pl.DataFrame(
        {
            "user_id": [user_id("half", u) for u in k],
            "watched": [[items[(3 * h + u) % 26] for h in range(u % 8)] for u in k],
            "city": pl.Series([["ab", "c", None][u % 3] for u in k], dtype=pl.Categorical),
            "account": [[BIG, None, BIG - 2][u % 3] for u in k],  # with a null, which pandas reads as doubles
            "height": pl.Series([None if u == 3 else Decimal(150 + u) / 100 for u in k], dtype=pl.Decimal(5, 2)),
            "points": pl.Series([None if u == 4 else u * u for u in k], dtype=pl.Int32),
            "ratio": pl.Series([[0.7, 0.2, 0.5, None][u % 4] for u in k], dtype=pl.Float32),  # .7 is less as a single
        }
    )
    genre = ["x" if i >= ITEMS - 4 else "abc"[i % 3] for i in range(ITEMS)]
    return users, pl.DataFrame({"item_id": items, "genre": genre})


def _each(name: str, side: str, *values: Any) -> list[tuple[str, dict[str, Any]]]:
    """A case for each raw value of one feature, the others absent."""
    return [(f"{name} is {value!r}", {"side": side, "raw": {name: value}}) for value in values]


_IDS = [
    "",
    None,
    NAN,
    5.0,
    -0.0,
    5.5,
    INF,
    2.0**53 - 1,
    2.0**53,
    -(2.0**53),
    2.0**54,
    True,
    "5",
    "+5",
    "-0",
    "005",
    " 5",
    "5.0",
    "５",
]
# of the towers that are frozen: along a number, two items change places, and these stand just behind that place. A test
# says so where towers are made anew; then look for others, by bisection
_CLOSE = "two items are 8e-6 apart, the later one the better"
HUGE = 10**400  # more than any double
CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "shown": [
        *((f"a served user, {k}", {"user": str(user_id("shown", k)), "k": ITEMS}) for k in range(8)),
        ("what they clicked is left out", {"user": str(BIG), "k": ITEMS, "exclude_seen": True}),
        ("k of those that are left", {"user": str(BIG), "k": 5, "exclude_seen": True}),
        ("nothing is known", {"side": "user", "raw": {}, "k": 99}),
        ("a guest", {"side": "user", "raw": {"hour": "08", "battery": 50.0, "country": "DE", "clicks": 0.0}, "k": 9}),
        ("a user who is not there", {"user": "777", "raw": {"hour": "08"}, "k": 9, "exclude_seen": True}),
        ("a served user at another hour", {"user": "7", "raw": {"hour": "06"}, "k": 9}),
        ("a served user, of whom nothing is known now", {"user": "7", "raw": {"hour": None, "battery": None}, "k": 9}),
        *((f"kappa {kappa}", {"user": "7", "kappa": kappa, "k": ITEMS}) for kappa in (0, 0.35, 0.7, 2)),
        ("kappa of a guest", {"side": "user", "raw": {"hour": "08"}, "kappa": 1.5, "k": ITEMS}),
        *((_CLOSE, {"side": "user", "raw": {"taste": [x, 0.5, -1.0]}, "k": ITEMS}) for x in (-0.7293, -0.54954)),
        (_CLOSE, {"side": "user", "raw": {"spend": 31.617}, "k": ITEMS}),
        ("a name that is no feature", {"side": "user", "raw": {"no_such": 5, "price": 3.0}}),
        ("nothing is known of an item", {"side": "item", "raw": {}}),
        *_each("user_id", "user", *_IDS, str(BIG), str(LEAST), str(MOST), str(MOST + 1), 999, "unknown", "5\n", []),
        *_each("user_id", "user", f"{5:031}", "9" * 30, 2**53 - 1, HUGE, -HUGE),
        ("user_id is 5,000 digits", {"side": "user", "raw": {"user_id": "9" * 5_000}}),
        ("user_id is 5 after 5,000 zeros", {"side": "user", "raw": {"user_id": "0" * 5_000 + "5"}}),
        *_each("premium", "user", True, False, None, 1, 0, "1", 2),
        *_each("country", "user", E_ACUTE, E_AND_ACUTE, "DE", "de", "rare", "", None, " DE", ["DE"]),
        *_each("device", "user", *_IDS, E_ACUTE, E_AND_ACUTE, "日本語", "😀", " "),
        *_each("cohort", "user", *_IDS, str(LEAST), str(MOST), str(MOST + 1), "unknown"),
        *_each("silent", "user", "a", "", None, 5, 5.5),
        *(
            (f"half of a surrogate pair in {n}", {"side": "user", "raw": {n: HALF}})
            for n in ("user_id", "country", "device")
        ),
        *_each("silent", "user", HALF, f"{HALF}a"),
        *_each("topics", "user", f"a|{HALF}", ["a", HALF], ["a", 5, None]),
        *_each("lots", "user", [5, "5", 5.0], [True, 5], [None, 5.0, 7], [5.5, 1, 2, 3, 4], [NAN, 7, ""]),
        *_each(
            "lots", "user", [1, 2, 3, str(MOST + 1)], [NAN, MOST + 1], [MOST + 1, 1, 2, 3], ["", 5.5], [LEAST * 1.0]
        ),
        *_each(
            "taste", "user", [1, 0.5, 2], [True, 0.5, None], [None, NAN, INF], [None], [NAN, "1", 2.0], ["", 1.0, 2.0]
        ),
        *_each("taste", "user", NAN, [HUGE, 1, 2], [2**200, 0.5, -HUGE]),
        *_each("lots", "user", [HUGE]),
        *_each("history", "user", NAN),
        *_each("topics", "user", NAN),
        *_each("taste", "user", [0.1, 1e-46, 16777217], [3.4028235677973366e38, 3.4028235e38, -3.5e38]),
        *_each("history", "user", [], None, [None], [""], ["item-07", "no", None, "item-07", "日本語", E_ACUTE]),
        *_each(
            "history", "user", [f"item-{k:02d}" for k in range(5, 20)], ["item-05"] * 9, "item-05", [E_AND_ACUTE], ""
        ),
        *_each(
            "topics",
            "user",
            "a||b",
            "|",
            "",
            None,
            "|a|",
            "a|b|c|d|e",
            "d|c|b|a",
            "a| b",
            "c|c",
            ["a", "", "b"],
            ["a|b"],
        ),
        *_each("queries", "user", "new york, 5", ",", ", ", "5,5", "a, b, c, d", "x, , x", E_ACUTE, 5),
        *_each("lots", "user", [5, None, 5], ["5", str(MOST), str(LEAST)], [1, 2, 3, 4], [5.0, NAN], [5.5], ["x", "7"]),
        *_each("age", "user", 17.999999999, 64.99999999999, HUGE, -HUGE, 2**200),
        *_each("age", "user", NAN, INF, -INF, None, -0.0, 0, 17.999, 18, 18.0, 65, -1e308, True, "18", [18], ""),
        *_each(
            "visits",
            "user",
            NAN,
            INF,
            -INF,
            None,
            -0.0,
            0,
            100,
            1e300,
            -1e300,
            2**63 - 1,
            True,
            "7",
            HUGE,
            -HUGE,
            2**200,
        ),
        *_each("spend", "user", NAN, INF, -INF, None, -0.0, 0, 1.5, -20, 1e300, -1e300, 5e-324),
        *_each("level", "user", NAN, INF, None, 0, 1, 1.5, 3, 6, 99, -99),
        *_each("dormant", "user", 1.0, None, "1"),
        *_each("asleep", "user", 1.0, None, NAN),
        *_each(
            "taste",
            "user",
            None,
            [1, 2, 3],
            [NAN, INF, -0.0],
            [1e300, None, 0.1],
            [1.0, 2.0],
            [],
            [True, False, True],
            ["1", "2", "3"],
            "",
            "1",
            1.0,
        ),
        *_each("clicked", "user", ["item-07", "item-08"], None),
        *_each("clicks", "user", 0.0, 3.5, None),
        *_each("since", "user", 0, 5, None),
        *_each("hour", "user", "06", "6", None, ""),
        *_each("battery", "user", 19.9, 20.0, 80.0, 100.0, None),
        *_each("item_id", "item", *(item_id("shown", k) for k in range(6)), "item-29", "", None, 5),
        *_each("publisher", "item", 3, 3.0, "3", -3, None),
        *_each("tags", "item", ["x", "", "y"], ["y", "x", "x", "z"], ["q"], []),
        *_each("price", "item", 0.0, 3.0, NAN, -3.0, None),
        *_each("look", "item", [0.5, 1.0], None, [0.5, None]),
        *_each("ctr", "item", 0.5, 0.0, None),
    ],
    "plain": [
        *((f"a served user, {k}", {"user": str(user_id("plain", k)), "k": 9}) for k in range(4)),
        ("what they clicked is left out", {"user": "user-03", "k": ITEMS, "exclude_seen": True}),
        ("kappa without blocks", {"user": "user-03", "kappa": 0.5, "k": 9}),
        ("kappa 0 without blocks", {"user": "user-03", "kappa": 0, "k": 9}),
        *_each("user_id", "user", "user-01", "user-05", "User-01", "", None, 5),
        *_each("watched", "user", [str(LEAST), str(MOST), str(BIG)], [105.0, 106.0, None], ["105", "x", ""], [105] * 9),
        *_each("watched", "user", [105.0, 105.5], [True], list(range(105, 115))),
        *_each("item_id", "item", str(LEAST), str(MOST), str(BIG), -1, 0, 105, str(BIG - 1)),
        *_each("genre", "item", "a", "x", "", None),
    ],
    "coarse": [
        *((f"a served user, {k}", {"user": str(user_id("coarse", k)), "k": ITEMS}) for k in range(6)),
        ("more are asked for than are left", {"user": "user-03", "k": 99, "exclude_seen": True}),
        ("k of those that are left", {"user": "user-04", "k": 7, "exclude_seen": True}),
        *_each("watched", "user", [105, "106", 107.0, None], ["105", HALF]),
    ],
    "half": [
        *((f"a served user, {k}", {"user": str(user_id("half", k)), "k": ITEMS}) for k in range(8)),
        ("what they clicked is left out", {"user": BEYOND, "k": ITEMS, "exclude_seen": True}),
        ("a user of an earlier day", {"user": GONE, "k": ITEMS, "exclude_seen": True}),
        ("the same, and what they say", {"user": GONE, "raw": {"city": "ab", "points": 3}, "k": ITEMS}),
        ("a user of no day", {"user": "nobody", "k": ITEMS}),
        ("a guest", {"side": "user", "raw": {"city": "ab", "points": 3}, "k": ITEMS}),
        ("kappa 2", {"user": WIDE, "kappa": 2, "k": ITEMS}),
        *((_CLOSE, {"side": "user", "raw": {"height": x}, "k": ITEMS}) for x in (1.57664, 1.62547)),
        *_each("user_id", "user", WIDE, BEYOND, GONE, "\U0001f601", "\ue000"),
        *_each("watched", "user", [WIDE, BEYOND, "\ue000", "item-07"]),
        *_each("account", "user", str(BIG), str(BIG - 1), str(BIG - 2), 2**53 - 1),
        *_each("ratio", "user", 0.7, 0.6999999999, 0.2),
        *_each("item_id", "item", WIDE, BEYOND),
    ],
}
