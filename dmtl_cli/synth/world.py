"""The click-bait world (METHOD section 10): a generated log whose right answer is known.

Clicks and reading follow different interests, and bait draws clicks but not reading, so a model of clicks alone is
measurably wrong. Units: seconds, epoch milliseconds (UTC). Vectors have 8 dimensions; U users, I items, n rows.

The same parameters give the same world on any machine (one version of numpy): everything is drawn from generators
seeded by (seed, what, day), and a day never depends on how many days are asked for.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FORMAT = 1
DIM = 8
DAY_MS = 86_400_000
BLOCK = 65_536  # rows of a Parquet row group, and of a step of the computation
_KINDS = ("world", "users", "items", "deaths", "events")
_PLACING = ("truth", "log", "users", "items", "events")  # a day's events appear last
_CDF_X = np.linspace(-8.0, 8.0, 16_001)
_CDF_Y = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _CDF_X])


@dataclass(frozen=True)
class Law:
    """How users behave: the numbers of METHOD 10, kept with every world in world.json."""

    click_bias: float = -2.0
    click_interest: float = 1.2
    click_bait: float = 1.0
    read_bias: float = math.log(35.0)
    """log seconds"""
    read_interest: float = 0.7
    read_bait: float = -0.7
    read_quality: float = 0.4
    read_spread: float = 0.8
    """standard deviation of log seconds"""
    exposure_bait: float = 0.8
    exposure_popular: float = 0.6
    """share of exposures in proportion to exp(exposure_bait * bait); the rest is uniform"""
    request_size: int = 10
    """mean exposures of a request"""
    request_ms: int = 30_000
    """time within which a request's exposures happen"""
    activity_shape: float = 1.0
    """of the gamma distribution of a user's requests"""
    recent: int = 20
    """longest list of recent clicks"""
    feature_noise: float = 0.5
    """standard deviation of what is added to a vector, or to quality, before its cluster, category or author"""
    clusters: int = 24
    categories: int = 12
    authors: int = 100

    def click_rate(self, dots: Floats, bait: Floats) -> Floats:
        """P(click) from z.t and bait, any broadcastable shapes."""
        logit = self.click_bias + self.click_interest / math.sqrt(DIM) * dots + self.click_bait * bait
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float64)

    def log_seconds(self, dots: Floats, bait: Floats, quality: Floats) -> Floats:
        """Mean of log read seconds of a clicked row from d.e, bait and quality, any broadcastable shapes."""
        taste = self.read_interest / math.sqrt(DIM) * dots
        return np.asarray(self.read_bias + taste + self.read_bait * bait + self.read_quality * quality, np.float64)


@dataclass(frozen=True)
class Users:
    """Users [U]: id, interests z (clicking) and d (reading) [U, 8]; activity sums to 1; clusters as features."""

    id: Ints
    z: Floats
    d: Floats
    activity: Floats
    click_cluster: Ints
    read_cluster: Ints


@dataclass(frozen=True)
class Items:
    """Items [I] ever born, by birth: id, t (clicking) and e (reading) [I, 8], bait and quality; features."""

    id: Ints
    t: Floats
    e: Floats
    bait: Floats
    quality: Floats
    click_cluster: Ints
    read_cluster: Ints
    author: Ints
    category: Ints


@dataclass(frozen=True)
class World:
    """All that happens, as a function of its parameters; nothing is read or written here."""

    start: dt.date
    users_count: int
    items_count: int
    events_per_day: int
    churn: float
    seed: int
    days: int
    law: Law = Law()

    def record(self) -> dict[str, Any]:
        """What world.json holds."""
        mine = {"users": self.users_count, "items": self.items_count, "events_per_day": self.events_per_day}
        run = {"start": str(self.start), "days": self.days, "churn": self.churn, "seed": self.seed}
        return {"format": FORMAT, "dimensions": DIM, **run, **mine, "law": dataclasses.asdict(self.law)}

    def day(self, k: int) -> dt.date:
        return self.start + dt.timedelta(days=k)

    def _rng(self, kind: str, day: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_KINDS.index(kind), day)))

    @cached_property
    def _directions(self) -> dict[str, Floats]:
        """Unit vectors [clusters, 8]: a cluster is the direction that a vector points to most."""
        rng, law, out = self._rng("world"), self.law, {}
        for name in ("z", "d", "t", "e", "category"):
            v = rng.standard_normal((law.categories if name == "category" else law.clusters, DIM))
            out[name] = v / np.sqrt((v * v).sum(1, keepdims=True))
        return out

    @cached_property
    def _authors(self) -> tuple[Floats, Ints]:
        """(quality of each author's items, sorted [authors]; the author's number in that order)."""
        rng = self._rng("world", 1)
        return np.sort(rng.standard_normal(self.law.authors)), rng.permutation(self.law.authors)

    def _cluster(self, rng: np.random.Generator, vectors: Floats, name: str) -> Ints:
        noisy = vectors + self.law.feature_noise * rng.standard_normal(vectors.shape)
        return np.asarray(np.einsum("nd,cd->nc", noisy, self._directions[name]).argmax(1), np.int64)

    @cached_property
    def users(self) -> Users:
        rng, n = self._rng("users"), self.users_count
        z, d, activity = _normal(rng, n, DIM), _normal(rng, n, DIM), rng.gamma(self.law.activity_shape, size=n)
        clusters = self._cluster(rng, z, "z"), self._cluster(rng, d, "d")
        return Users(_ids(np.arange(n), 1), z, d, activity / activity.sum(), *clusters)

    @cached_property
    def _births(self) -> list[int]:
        """Items born before each day begins."""
        return [self.items_count] + [round(self.items_count * self.churn)] * (self.days - 1)

    @cached_property
    def items(self) -> Items:
        parts, first = [], 0
        for k, n in enumerate(self._births):
            rng = self._rng("items", k)
            t, e, bait, quality = _normal(rng, n, DIM), _normal(rng, n, DIM), _normal(rng, n), _normal(rng, n)
            clusters = self._cluster(rng, t, "t"), self._cluster(rng, e, "e")
            levels, author = self._authors
            seen = quality + self.law.feature_noise * rng.standard_normal(n)
            nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, seen)
            category = self._cluster(rng, t, "category")
            ids = _ids(np.arange(first, first + n), 2)
            parts.append((ids, t, e, bait, quality, *clusters, author[nearest], category))
            first += n
        return Items(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @cached_property
    def alive(self) -> list[Ints]:
        """Per day the rows of `items` alive, sorted; the number is constant."""
        out, born = [np.arange(self.items_count)], self.items_count
        for k, n in enumerate(self._births[1:], start=1):
            kept = np.delete(out[-1], self._rng("deaths", k).choice(self.items_count, n, replace=False))
            out.append(np.concatenate([kept, np.arange(born, born + n)]))
            born += n
        return out

    def events(self, k: int) -> tuple[pa.Table, Ints, Ints]:
        """Day k's exposures sorted by time, and its clicks in that order: rows of users and of items.

        Exposures are drawn one by one, so a request can show an item twice (rarely, at the default size).
        """
        rng, law, n = self._rng("events", k), self.law, self.events_per_day
        requests = max(1, round(n / law.request_size))
        who = rng.choice(self.users_count, requests, p=self.users.activity)
        begin = np.sort(rng.integers(0, DAY_MS - law.request_ms, requests))
        request = rng.integers(requests, size=n)
        time = begin[request] + rng.integers(law.request_ms, size=n)
        order = np.argsort(time, kind="stable")
        time, request = time[order], request[order]
        user = who[request]

        alive = self.alive[k]
        popular = np.exp(law.exposure_bait * self.items.bait[alive])
        shown = law.exposure_popular * popular / popular.sum() + (1 - law.exposure_popular) / len(alive)
        item = alive[rng.choice(len(alive), n, p=shown)]

        click = np.empty(n, np.bool_)
        seconds = np.zeros(n, np.float32)
        for begin_row in range(0, n, BLOCK):
            rows = slice(begin_row, begin_row + BLOCK)
            click[rows], seconds[rows] = self._reactions(rng, user[rows], item[rows])
        since = self.day(k).toordinal() - dt.date(1970, 1, 1).toordinal()
        table = pa.table(
            {
                "user_id": self.users.id[user],
                "item_id": self.items.id[item],
                "time": since * DAY_MS + time,
                "request_id": (since << 40) + request,
                "click": click.astype(np.int8),
                "read_seconds": pa.array(seconds, mask=~click),
            }
        )
        return table, user[click], item[click]

    def _reactions(
        self, rng: np.random.Generator, user: Ints, item: Ints
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """(clicked [n], read seconds [n] to the millisecond, 0 where unclicked)."""
        u, i = self.users, self.items
        rate = self.law.click_rate(np.einsum("nd,nd->n", u.z[user], i.t[item]), i.bait[item])
        click = rng.random(len(user)) < rate
        noise = self.law.read_spread * rng.standard_normal(len(user))
        mean = self.law.log_seconds(np.einsum("nd,nd->n", u.d[user], i.e[item]), i.bait[item], i.quality[item])
        return click, np.where(click, np.round(np.exp(mean + noise), 3), 0.0).astype(np.float32)

    def truth_tables(self) -> dict[str, pa.Table]:
        u, i = self.users, self.items
        items = {"item_id": i.id, "t": _vectors(i.t), "e": _vectors(i.e), "bait": _float32(i.bait)}
        return {
            "users": pa.table({"user_id": u.id, "z": _vectors(u.z), "d": _vectors(u.d)}),
            "items": pa.table(items | {"quality": _float32(i.quality)}),
        }

    def item_table(self, k: int) -> pa.Table:
        """The items alive on day k with what a model may know of them."""
        i, rows = self.items, self.alive[k]
        clusters = {"item_click_cluster": i.click_cluster[rows], "item_read_cluster": i.read_cluster[rows]}
        return pa.table({"item_id": i.id[rows], **clusters, "author": i.author[rows], "category": i.category[rows]})

    def user_table(self, history: tuple[Ints, Ints]) -> pa.Table:
        """All users with what a model may know of them.

        `recent_clicks` (oldest first) stops at the start of the day. "The recent clicks up to the event" is
        approximated by that on purpose: a table of one row a user and day can then never tell what happened later
        on that day.

        Args:
            history: the last clicks of each user before the day, (user rows sorted, item rows).
        """
        u, (user, item) = self.users, history
        offsets = np.searchsorted(user, np.arange(self.users_count + 1)).astype(np.int32)
        clusters = {"user_click_cluster": u.click_cluster, "user_read_cluster": u.read_cluster}
        recent = pa.ListArray.from_arrays(pa.array(offsets), pa.array(self.items.id[item]))
        return pa.table({"user_id": u.id, **clusters, "recent_clicks": recent})

    def last_clicks(self, history: tuple[Ints, Ints], user: Ints, item: Ints) -> tuple[Ints, Ints]:
        """The history after the clicks (user, item), in time order: at most `law.recent` a user."""
        user, item = np.concatenate([history[0], user]), np.concatenate([history[1], item])
        order = np.argsort(user, kind="stable")
        user, item = user[order], item[order]
        kept = np.searchsorted(user, user, side="right") - np.arange(len(user)) <= self.law.recent
        return user[kept], item[kept]


def _normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Normal numbers that float32 holds exactly, so that the stored truth is the truth."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def _ids(count: Ints, salt: int) -> Ints:
    """Distinct counts (< 2**40) -> distinct random-looking ids in [2**62, 2**63): a float64 would lose them."""
    low = np.uint64(2**62 - 1)
    x = count.astype(np.uint64) + (np.uint64(salt) << np.uint64(40))
    for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):  # splitmix64's multipliers: each step is a bijection
        x = (x * np.uint64(odd)) & low
        x ^= x >> np.uint64(31)
    return (x + np.uint64(2**62)).astype(np.int64)


def _float32(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float32))


def _vectors(values: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(_float32(values.reshape(-1)), DIM)


# -- writing -----------------------------------------------------------------------------------------------------------


def generate(
    out: Path,
    days: int,
    *,
    start: dt.date = dt.date(2026, 1, 1),
    users: int = 5_000,
    items: int = 2_000,
    events_per_day: int = 300_000,
    churn: float = 0.05,
    seed: int = 1,
) -> None:
    """Writes OUT/log and OUT/truth, or adds the days that a world of the same parameters lacks.

    Files are written in a folder beside them and renamed: truth first, a day's events last.

    Args:
        out: folder of the world; made if it is not there.
        churn: share of the items that die, and are replaced, before each day after the first (to a whole number).

    Raises:
        UserError: 2 a number is out of range; 73 OUT holds another world or something else, or cannot be made;
            75 another run is writing there.
    """
    for name, value, least in (
        ("days", days, 1),
        ("users", users, 1),
        ("items", items, 1),
        ("events_per_day", events_per_day, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"synth: {name} must be at least {least}, got {value}", code=Exit.USAGE)
    if not 0 <= churn <= 1:
        raise UserError(f"synth: churn must be a share between 0 and 1, got {churn}", code=Exit.USAGE)
    if days > dt.date.max.toordinal() - start.toordinal() + 1:
        raise UserError(f"synth: {days} days from {start} end after {dt.date.max}", code=Exit.USAGE)
    world = World(start, users, items, events_per_day, float(churn), seed, days)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot create {out}: {e.strerror}", "give another OUT", Exit.CANNOT_CREATE) from e
    with _alone(out):
        world = dataclasses.replace(world, days=max(days, _days_there(out, world)))
        missing = [k for k in range(days) if not all(f.is_file() for f in _files(out, world.day(k)))]
        if not missing and all((out / "truth" / f"{name}.parquet").is_file() for name in ("users", "items")):
            return
        truth = world.truth_tables()
        _same_draws(out, truth)
        scratch = out / ".synth-scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _write_truth(scratch, world, truth)
            _write_days(scratch, world, missing)
            for part in ("truth", "log") if missing else ("truth",):
                _place(scratch / part, out / part)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold a lock on the folder itself; it dies with this process and leaves no file."""
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing {out}", "retry later", Exit.LOCKED) from None
        yield
    finally:
        os.close(handle)


def _files(out: Path, day: dt.date) -> list[Path]:
    return [out / "log" / table / f"day={day}" / "part-0.parquet" for table in ("users", "items", "events")]


def _days_there(out: Path, world: World) -> int:
    """Days of the world already in OUT, 0 if there is none. Raises UserError if it is another one."""
    if not (out / "truth").exists() and not (out / "log").exists():
        return 0
    hint = f"give another OUT, or remove {out}/log and {out}/truth"
    try:
        there = json.loads((out / "truth" / "world.json").read_text("utf-8"))
        days = int(there["days"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{out} holds a log that synth did not make", hint, Exit.CANNOT_CREATE) from None
    mine = world.record()
    other = [k for k in sorted(mine | there) if k != "days" and mine.get(k) != there.get(k)]
    if other:
        differs = ", ".join(f"{k} {there.get(k)}, not {mine.get(k)}" for k in other)
        raise UserError(f"{out} holds another world ({differs})", hint, Exit.CANNOT_CREATE)
    return days


def _same_draws(out: Path, truth: dict[str, pa.Table]) -> None:
    """Refuses to extend a world whose users and items this version of numpy would not draw again."""
    for name, table in truth.items():
        file = out / "truth" / f"{name}.parquet"
        if file.is_file():
            try:
                old = pq.read_table(file)
            except pa.ArrowException:
                old = None
            if old is None or not (n := min(len(old), len(table))) or not old.slice(0, n).equals(table.slice(0, n)):
                hint = f"remove {out}/log and {out}/truth, or use the numpy that made it (this is {np.__version__})"
                raise UserError(f"{file} does not hold the {name} drawn here", hint, Exit.CANNOT_CREATE)


def _write_truth(out: Path, world: World, truth: dict[str, pa.Table]) -> None:
    for name, table in truth.items():
        _write(out / "truth" / f"{name}.parquet", table)
    with (out / "truth" / "world.json").open("w", encoding="utf-8") as f:
        f.write(json.dumps(world.record(), indent=1) + "\n")
        f.flush()
        os.fsync(f.fileno())


def _write_days(out: Path, world: World, days: Sequence[int]) -> None:
    """Writes these days; those before them are drawn again, as recent clicks come from them."""
    history = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for k in range(max(days, default=-1) + 1):
        events, user, item = world.events(k)
        if k in days:
            tables = world.user_table(history), world.item_table(k), events
            for file, table in zip(_files(out, world.day(k)), tables, strict=True):
                _write(file, table)
        history = world.last_clicks(history, user, item)


def _write(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as f:
        pq.write_table(table, f, compression="zstd", row_group_size=BLOCK)
        f.flush()
        os.fsync(f.fileno())


def _place(source: Path, target: Path) -> None:
    """Renames `source` to `target`; where both are folders, what is in it, one by one."""
    if not (source.is_dir() and target.is_dir()):
        source.replace(target)
        return
    for part in sorted(source.iterdir(), key=lambda p: (_PLACING.index(p.name) if p.name in _PLACING else 0, p.name)):
        _place(part, target / part.name)


# -- the truth ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """What every pair of a synthetic world is worth. Results are [U, I] for ids [U] and [I]."""

    law: Law
    users: dict[str, npt.NDArray[Any]]
    """id [N] sorted, z and d [N, 8]"""
    items: dict[str, npt.NDArray[Any]]
    """id [M] sorted, t and e [M, 8], bait and quality [M]"""

    @classmethod
    def load(cls, path: Path) -> Truth:
        """From OUT/truth. Raises UserError: 66 it is not there, 65 it cannot be read."""
        names = "world.json", "users.parquet", "items.parquet"
        for name in names:
            if not (path / name).is_file():
                hint = "set data.truth to the truth folder that `dmtl synth` made, or leave it out"
                raise UserError(f"data.truth: no file {path / name}", hint, Exit.NO_INPUT)
        try:
            world = json.loads((path / names[0]).read_text("utf-8"))
            if world["format"] != FORMAT:
                raise UserError(f"{path}: expected a world of format {FORMAT}, got {world['format']}", "make it again")
            users, items = (_columns(path / name) for name in names[1:])
            return cls(Law(**world["law"]), users, items)
        except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as e:
            raise UserError(f"{path}: damaged truth of a synthetic world: {e}", "make it again with synth") from e

    def click_rate(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        """P(click) of an exposure."""
        user, item = _rows(self.users, user_ids, "user"), _rows(self.items, item_ids, "item")
        return self.law.click_rate(self.users["z"][user] @ self.items["t"][item].T, self.items["bait"][item])

    def read_seconds(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        """Expected read seconds of an exposure: P(click) times the mean of the lognormal seconds of a click."""
        mean = np.exp(self._log_seconds(user_ids, item_ids) + self.law.read_spread**2 / 2)
        return np.asarray(self.click_rate(user_ids, item_ids) * mean, np.float64)

    def long_read_rate(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any], threshold: float) -> Floats:
        """P(click and more than `threshold` read seconds) of an exposure, to 1e-7."""
        clicked = self.click_rate(user_ids, item_ids)
        if threshold <= 0:
            return clicked
        above = (self._log_seconds(user_ids, item_ids) - math.log(threshold)) / self.law.read_spread
        return np.asarray(clicked * np.interp(above, _CDF_X, _CDF_Y), np.float64)

    def _log_seconds(self, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any]) -> Floats:
        user, item = _rows(self.users, user_ids, "user"), _rows(self.items, item_ids, "item")
        i = self.items
        return self.law.log_seconds(self.users["d"][user] @ i["e"][item].T, i["bait"][item], i["quality"][item])


def _columns(file: Path) -> dict[str, npt.NDArray[Any]]:
    """A truth table sorted by its id: `id` int64 [n], else float64 [n] or [n, 8]."""
    table = pq.read_table(file)
    out: dict[str, npt.NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("user_id", "item_id"):
            out["id"] = column.to_numpy()
        elif pa.types.is_fixed_size_list(column.type):
            out[name] = column.flatten().to_numpy().astype(np.float64).reshape(-1, DIM)
        else:
            out[name] = column.to_numpy().astype(np.float64)
    order = np.argsort(out["id"])
    return {name: values[order] for name, values in out.items()}


def _rows(table: dict[str, npt.NDArray[Any]], ids: npt.NDArray[Any], side: str) -> Ints:
    """Row of each id. Raises UserError (data) for one that the world does not have."""
    known = table["id"]
    if len(ids) and ids.dtype.kind != "i":
        hint = "is data.root the log of this world?"
        raise UserError(f"data.truth: expected int64 {side} ids, got {ids.dtype} ({ids[0]})", hint)
    wanted = ids.astype(np.int64)
    rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    strange = np.flatnonzero(known[rows] != wanted)
    if len(strange):
        hint = "is data.root the log of this world?"
        raise UserError(f"data.truth: the world has no {side} {wanted[strange[0]]}", hint)
    return rows.astype(np.int64)
