"""What is the same in all rows of a request, and whether it is made of the request's own clicks, as the number of games
that were opened in a session is.

What was known before a request may say much of it, but not how often it will be clicked: between requests of the same
length, of users who click in some and not in others, chance alone leaves more than such a column does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.values import ONE, auc_of, clicks, is_binary, is_constant, numbers, short
from dmtl_cli.guess.features.rates import CHANCE, CODES, EXPECTED, by_rows, chance

LEAST = 100
"""requests of several rows, of users who have both kinds, below which nothing is concluded"""
LEFT = 0.1
"""of the variance between requests of one length, what a column leaves that is made of it; noise alone is more"""
UNSERVED = (
    "one value a request, for the teacher; side: user, level: event: for the student too, if your server knows it"
)
"""what is said of a context that a user tower could read"""
LEFT_OF_LENGTH = 0.5
"""the same of how long the session was, by its name: who clicks stays longer"""
_SAME = 0.9  # of the requests with several clicks have their number
_ABOVE = 0.1  # as many requests as by chance have more clicks than a number that counts more than them
_TOLD = 0.98  # AUC
_ALIKE, _GOES_WITH = 5, 0.95  # requests of one length, and a rank correlation that leaves a tenth of what differs
_KNOWN = 0.99  # of the rows have the value of their request, of what a request is sent with
_NONE = -1  # the code of null


def outcomes_of_requests(frame: pl.DataFrame, roles: Roles, days: pl.Series | None) -> list[Guess]:
    """Columns of a sample that are made of what came of their request: further outcomes.

    Args:
        days: of the rows; of the day with most the requests are looked at, as those of others may be there in part.
    """
    if roles.request is None or roles.user is None:
        return []
    if days is not None and days.count():
        frame = frame.filter((days == days.drop_nulls().mode().sort()[0]).fill_null(False))
    frame = frame.filter(frame[roles.request.column].is_not_null())
    told = _flags_after(frame, roles)
    ids = frame.select(user=pl.col(roles.user.column), request=pl.col(roles.request.column))
    rows = ids.with_columns(clicks(frame[c]).alias(f"label {c}") for c in told)
    called = {f"label {c}": f"rows with {c}" for c in told}
    if roles.click is not None and roles.click.column in told:
        called[f"label {roles.click.column}"] = "clicks"
    left = {c: frame[c] for c in frame.columns if c not in roles.taken}
    left = {c: x for c, x in left.items() if is_of_request(x, rows["request"])}
    made = {c: made_of_the_request(x, rows, called, c) for c, x in left.items()}
    if roles.duration is not None and roles.duration.column in frame.columns:
        spent = numbers(frame[roles.duration.column]).alias(roles.duration.column)
        made |= {c: _of_the_sum(x, spent, rows["request"]) for c, x in left.items() if made[c] is None}
    tell = [x for c, x in left.items() if made[c] is not None and x.dtype.is_numeric()]
    made |= {c: _made_of_another(x, tell) for c, x in left.items() if made[c] is None}
    return [Guess(c, why) for c, why in made.items() if why is not None]


def _flags_after(frame: pl.DataFrame, roles: Roles) -> list[str]:
    """The columns that say of which rows something came: the label first, then what is known of flags after it."""
    label = roles.conversion if roles.click is None else roles.click
    after = [roles.conversion, *roles.further.values(), *roles.outcomes]
    flags = [guess.column for guess in after if guess is not None and guess.column in frame.columns]
    first = [label.column] if label is not None and label.column in frame.columns else []
    return list(dict.fromkeys([*first, *(c for c in flags if is_binary(frame[c]))]))


def _of_the_sum(x: pl.Series, spent: pl.Series, request: pl.Series) -> str | None:
    """How a number goes with what the durations of its request add up to, whatever it makes of them, among requests of
    one length, as that is known and lengthens both; None where it does not."""
    if not x.dtype.is_numeric():
        return None
    rows = pl.DataFrame({"request": request, "x": numbers(x), "s": spent.fill_null(0)})
    of = rows.group_by("request").agg(pl.col("x").drop_nulls().first(), pl.col("s").sum(), pl.len().alias("n"))
    of = of.drop_nulls("x").filter((pl.col("n") > 1) & (pl.len().over("n") >= _ALIKE))
    ranked = of.select((pl.col(c).rank() - pl.col(c).rank().mean()).over("n") for c in ("x", "s"))
    x_rank, s_rank = (ranked[c].to_numpy() for c in ("x", "s"))
    size = float((x_rank**2).sum() * (s_rank**2).sum())
    if len(of) < LEAST or not size or (r := float((x_rank * s_rank).sum()) / size**0.5) < _GOES_WITH:
        return None
    return f"one value a request, and it goes with the sum of its {spent.name} (rank correlation {short(r)})"


def _made_of_another(x: pl.Series, numbers: Sequence[pl.Series]) -> str | None:
    """How a flag is made of a number that is made of what came of its request, as whether a session was engaged is of
    how long it was; None where it is not."""
    for number in numbers if is_binary(x) else ():
        told = auc_of(number, clicks(x))
        if told is not None and told >= _TOLD:
            return f"one value a request, which {number.name} tells (AUC {told:.3f}), an outcome itself"
    return None


def is_of_request(x: pl.Series, request: pl.Series, least: float = ONE) -> bool:
    """Whether a column has one value a request: see `values.is_constant`."""
    return is_constant(pl.DataFrame({"request": request, "x": x}), "request", "x", least)


def is_known_with_request(x: pl.Series, request: pl.Series) -> bool:
    """Whether a server may know it as it answers: what changes within a few requests it does not."""
    return is_of_request(x, request, _KNOWN)


def made_of_the_request(x: pl.Series, rows: pl.DataFrame, called: Mapping[str, str], name: str = "") -> str | None:
    """How a column is made of what came of its request; None where it is not.

    Args:
        x: [n] values with one a request, of any type that a feature reads; of lists their length is looked at.
        rows: [n] `user`, `request` and, by label, which rows have it (null: unknown).
        called: what rows with a label are called, by label.
        name: of the column; of one that is named like how long a session was less is asked.
    """
    most = LEFT_OF_LENGTH if words.is_length_of_session(name) else LEFT
    x = x.list.len() if x.dtype == pl.List else x
    codes = _codes(x)
    if codes is None or codes.n_unique() < 2:
        return None
    number = numbers(x) if x.dtype.is_numeric() else pl.Series([None]).new_from_index(0, len(x)).cast(pl.Float64)
    seen = rows.with_columns(codes.alias("code"), number.alias("x"))
    for label, what in called.items():
        told = [pl.col(label).sum().cast(pl.Int64).alias("k"), pl.len().cast(pl.Int64).alias("n")]
        first = pl.col("user").first(), pl.col("code").max(), pl.col("x").drop_nulls().first()
        of = seen.group_by("request", maintain_order=True).agg(*told, *first).filter(pl.col("n") > 1)
        found = _number(of, what, most) or _any(of, what) or _none(of, what)
        if found is not None:
            return f"one value a request, and {found}"
    return None


def _codes(x: pl.Series) -> pl.Series | None:
    """[n] a whole number for a value, of many numbers for those that are alike, `_NONE` for none; None where texts are
    too many."""
    if x.n_unique() <= CODES:
        found = x.rank("dense")
    elif x.dtype.is_numeric():
        known = numbers(x)
        finite = known.filter(known.is_finite()).to_numpy()  # between infinite ones no quantile is a number
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, CODES - 1)))
        found = pl.Series(np.searchsorted(edges, known.fill_null(0).to_numpy())).set(known.is_null(), None)
    elif x.null_count():
        found = x.is_not_null().replace_strict([True, False], [1, None], return_dtype=pl.Int64)
    else:
        return None
    return found.cast(pl.Int64).fill_null(_NONE)


def _number(of: pl.DataFrame, what: str, most: float) -> str | None:
    """The number, or the share, of a request's clicks. Where hardly a user has requests of both kinds, as guests come
    once, the very number alone: bots that never click would be told by anything that tells bots."""
    both = _of_both(of)
    alone = len(both) < LEAST
    of = of if alone else both
    if len(of) < LEAST or of["k"].n_unique() < 3 or (left := _left(of, of["k"])) > most:
        return None
    several = of.filter(pl.col("k") > 1)
    same = float((several["x"] == several["k"]).fill_null(False).to_numpy().mean()) if len(several) else 0.0
    if same >= _SAME:
        return f"it is the number of its {what}, for {same:.0%} of the {len(several):,} requests with several"
    if alone:
        return None
    return f"it tells the number of its {what}: of what differs between requests of one length it leaves {left:.0%}"


def _any(of: pl.DataFrame, what: str) -> str | None:
    """Whether a request has a click."""
    of = _of_both(of)
    some = (of["k"] > 0).cast(pl.Int64)
    if len(of) < LEAST or _left(of, some) > LEFT:
        return None
    most = of.with_columns(some=some).group_by("code").agg(pl.col("some").sum().alias("s"), pl.len().alias("n"))
    right = int(most.select(pl.max_horizontal("s", pl.col("n").cast(pl.Int64) - pl.col("s"))).to_series().sum())
    told = f"{right / len(of):.0%} of the {len(of):,} requests of users who have requests with and without"
    return f"it tells whether there are {what} in it, for {told}"


def _none(of: pl.DataFrame, what: str) -> str | None:
    """A number of which the least, or none, has no click in its request, while users who have it click in others: what
    is counted over several requests. Of few numbers, which may be codes, as many clicks as they say bound those of a
    request, as far fewer would by chance."""
    here = (of["code"] == of["code"].min()).to_numpy()
    k, n = of["k"].to_numpy(), of["n"].to_numpy()
    expected = k.sum() / max(1, n.sum()) * n[here].sum()
    if not of["x"].count() or k[here].any() or expected < EXPECTED:
        return None
    strata = of.select("user", pl.Series("rows", by_rows(n))).with_columns(s=pl.struct("user", "rows").rank("dense"))
    if chance(here, k == 0, strata["s"].to_numpy().astype(np.int64) - 1) > CHANCE:
        return None
    if of["x"].n_unique() <= CODES and not _bounds(of.filter(~pl.Series(here))):
        return None
    least = of.filter(pl.Series(here))["x"].drop_nulls()
    value = f"{float(least[0]):g}" if len(least) else "no value"
    of_all = f"of their {n[here].sum():,} rows {expected:,.0f} would be, as of all"
    return f"the {int(here.sum()):,} requests with {value} have no {what} ({of_all})"


def _bounds(of: pl.DataFrame) -> bool:
    """Whether a number is hardly ever less than the clicks of its request, which it would often be by chance."""
    x, k, n = of["x"].fill_null(0).to_numpy(), of["k"].to_numpy(), of["n"].to_numpy()
    if (x % 1 != 0).any():
        return False
    order = np.argsort(n, kind="stable")
    mixed = np.empty_like(k)
    rng = np.random.default_rng(0)
    for part in np.split(order, np.flatnonzero(np.diff(n[order])) + 1):
        mixed[part] = rng.permutation(k[part])
    by_chance = int((mixed > x).sum())
    return by_chance >= EXPECTED and int((k > x).sum()) <= _ABOVE * by_chance


def _of_both(of: pl.DataFrame) -> pl.DataFrame:
    """Requests of users who have some with a click and some without."""
    some = pl.col("k") > 0
    return of.filter(some.any().over("user") & (~some).any().over("user"))


def _left(of: pl.DataFrame, y: pl.Series) -> float:
    """Of the variance of `y` between requests of one length, the share that is left between those that have one code
    too; 1 where nothing can be told."""
    seen = of.select("n", "code", y.cast(pl.Float64).alias("y"))
    within, cells = _within(seen, "n", "code")
    all_, lengths = _within(seen, "n")
    if all_ <= 0 or len(seen) - cells < LEAST // 2:
        return 1.0
    return (within / (len(seen) - cells)) / (all_ / (len(seen) - lengths))


def _within(seen: pl.DataFrame, *by: str) -> tuple[float, int]:
    """Sum of squares of `y` within groups, and how many groups there are."""
    groups = seen.group_by(by).agg((pl.col("y").var(ddof=0) * pl.len()).alias("ss"))
    return float(groups["ss"].sum()), len(groups)
