"""Whether a number or a code of users or items tells their rate of clicks or reads on one day, and not on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import atanh, lgamma, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.guess.columns.values import FEW, short
from dmtl_cli.guess.sides.late import counted, ranked

Array = npt.NDArray[Any]
OTHER_ROWS = 2_000_000
"""of another day that are read"""
FOLLOWS = 0.2
"""rank correlation with the day's own rate, from which on days are compared"""
TIMES, SIGMAS = 2.0, 4.0
"""how often that of a day beside it (or it leaves half of what that leaves), and how many standard errors of Fisher's z
above it"""
LEAST = 100
"""ids with several events on both days, below which days are not compared"""
SEVERAL = 5
"""events of an id whose rate is compared"""
CODES = 50
"""values up to which a column is one of codes"""
EXPECTED = 10.0
"""rows with the label, by the rate of all rows, of a value that has none"""
CHANCE = log(1e-9)
"""that a value has none, where ids have their values by lot"""
_LEFT, _MOST = 0.5, 0.999  # of the variance; correlation as Fisher's z takes it
_EQUAL = 0.9  # of the ids have the very rate
_USUAL = 0.2  # of all rows' rate, on another day, and ids have the label as others do
_DECIMALS = range(2, 7)
Others = Callable[[], Mapping[str, pl.DataFrame]]
"""gives the same of the days beside it, by what they are called"""


def equal(x: pl.Series, ids: pl.DataFrame, others: Others, side: str, called: Mapping[str, str]) -> str | None:
    """What a number is, where it is the count or rate of nearly all ids, or in the order of the count as none of the
    day before is; None where it is none.

    Args:
        x: [n] floats, nulls are allowed.
        ids: [n] `id`, `rows`, and by label NAME and NAME_of: rows with it, and rows where it is known.
        others: of the days beside it; a day of OTHER_ROWS was read in part.
        side: of the ids.
        called: what rows with a label are called, by label.
    """

    def earlier(label: str) -> Array | None:
        eve = others().get("the day before")
        if eve is None or eve["rows"].sum() >= OTHER_ROWS:
            return None
        both = ids.select("id").join(eve, on="id", how="left", maintain_order="left")
        return both[label].fill_null(0).to_numpy()

    for label, what in called.items():
        found = counted(x, ids[label].to_numpy(), partial(earlier, label), what, f"{side}s")
        if found is not None:
            return f"it {found[1]}"
    if side == "item":  # a user's events of a day may be one list, whose length is known; so may be which item is shown
        found = counted(x, ids["rows"].to_numpy(), lambda: None, "events", "items")
        if found is not None:
            return f"it {found[1]}"
    return _equal_rate(x, ids, side, called)


def _equal_rate(x: pl.Series, ids: pl.DataFrame, side: str, called: Mapping[str, str]) -> str | None:
    shares = {what: (label, f"{label}_of") for label, what in called.items()}
    if set(called) == {"click", "read"}:
        shares[f"{called['read']} among clicks"] = ("read", "click")
    for what, (label, of) in shares.items():
        k, n = ids[label].to_numpy(), ids[of].to_numpy()
        some = x.is_not_null().to_numpy() & (k > 0) & (k < n)
        rate = k[some] / n[some]
        if some.sum() < FEW or len(np.unique(rate)) < 3:
            continue
        if (same := _is(x.to_numpy()[some], rate)) >= _EQUAL:
            return f"it is the share of {what} on the day, for {same:.0%} of the {int(some.sum()):,} {side}s with some"
    return None


def _is(x: Array, rate: Array) -> float:
    """Share of numbers that are a rate, of 1 or of 100, up to the decimals that they have."""
    best = 0.0
    for scale in (1.0, 100.0):
        off = np.abs(x - rate * scale)
        digits = next((d for d in _DECIMALS if np.abs(x - np.round(x, d)).max() < 1e-7 * scale), _DECIMALS[-1])
        best = max(best, float((off <= 0.5 * 10.0**-digits + 1e-6 * scale).mean()))
    return best


def follows(x: pl.Series, ids: pl.DataFrame, called: Mapping[str, str]) -> bool:
    """Whether a number has anything of a rank correlation with a rate of the ids' day."""
    return any(abs(_rank_correlation(x, *_share(ids, label))) >= FOLLOWS for label in called)


def followed(x: pl.Series, ids: pl.DataFrame, others: Others, label: str, what: str, side: str) -> str | None:
    """How a number or code follows the rate of its day, far more than that of each day beside it; None where it does
    not, or no other day has enough of the ids.

    Of either day as many events of an id are drawn, or the day with more of them would have the closer rate.
    """
    if not x.dtype.is_numeric() and text_codes(x) is None:
        return None
    if abs(_rank_correlation(x, *_share(ids, label))) < FOLLOWS:
        return None
    told = []
    for day, other in others().items():
        both = ids.with_columns(x.alias("x")).join(other, on="id", suffix=":other")
        enough = (pl.col(f"{label}_of") >= SEVERAL) & (pl.col(f"{label}_of:other") >= SEVERAL)
        both = both.filter(enough & pl.col("x").is_not_null())
        if len(both) < LEAST:
            continue
        own, theirs = _drawn(both, label)
        r, r_other = _rank_correlation(both["x"], *own), _rank_correlation(both["x"], *theirs)
        alike = max(0.0, r_other if r > 0 else -r_other)
        far = abs(r) >= TIMES * alike or 1 - r**2 <= (1 - alike**2) * _LEFT
        sigma = sqrt(2 / (len(both) - 3))
        if abs(r) < FOLLOWS or not far or atanh(min(abs(r), _MOST)) - atanh(min(alike, _MOST)) < SIGMAS * sigma:
            return None
        told.append((r, f"{short(r_other)} with that of {day}"))
    if not told:
        return None
    r = max((r for r, _ in told), key=abs)
    beside = "; ".join(said for _, said in told)
    one = "an item" if side == "item" else "a user"
    return f"it follows {one}'s share of {what} on the day (rank correlation {short(r)}; {beside})"


def without(x: pl.Series, ids: pl.DataFrame, others: Others, label: str, what: str, side: str) -> str | None:
    """The value whose ids have no row with a label, or no other rows, where they are too many for that by chance and
    have such rows on the days beside it as others do; None where there is none.

    By chance: ids have their values by lot, of those with about as many rows each. Rows would be no measure of it, as
    those of one user are alike.
    """
    codes = text_codes(x)
    if codes is None:
        return None
    k, n = (ids[c].to_numpy() for c in (label, f"{label}_of"))
    for missing, seen in ((k, "none"), (n - k, "nothing else")):
        rate = missing.sum() / max(1, n.sum())
        for value in codes.unique(maintain_order=True):
            here = (codes == value).to_numpy()
            expected = rate * n[here].sum()
            if missing[here].any() or expected < EXPECTED or chance(here, missing == 0, by_rows(n)) > CHANCE:
                continue
            days = others()
            if not _is_usual(ids["id"].filter(pl.Series(here)), days, label, missing=seen == "none"):
                continue
            of_all = expected if seen == "none" else n[here].sum() - expected
            many = f"of their {n[here].sum():,} rows {of_all:,.0f} would be, as of all"
            usual = ", and on the days beside it they have as others do" if days else ""
            there = f"no {what}" if seen == "none" else f"{what} alone"
            return f"the {here.sum():,} {side}s with {value} have {there} on the day ({many}{usual})"
    return None


def _is_usual(ids: pl.Series, others: Mapping[str, pl.DataFrame], label: str, missing: bool) -> bool:
    """Whether ids have rows with a label (else: without it) on the days beside it, as others do; True without any."""
    expected = seen = 0.0
    for other in others.values():
        k, n = (other[c].to_numpy() for c in (label, f"{label}_of"))
        k = k if missing else n - k
        here = other["id"].is_in(ids.implode()).to_numpy()
        expected += n[here].sum() * k.sum() / max(1, n.sum())
        seen += k[here].sum()
    return not others or (expected >= EXPECTED and seen >= _USUAL * expected)


def chance(here: Array, empty: Array, stratum: Array) -> float:
    """Logarithm of the chance that all of a value's ids are empty: in each stratum that of so many drawn without
    return.

    Args:
        here: [ids] whose value it is.
        empty: [ids] that have no row with the label.
        stratum: [ids] whole numbers from 0 on, of ids that are compared with each other.
    """
    size = int(stratum.max()) + 1
    drawn, of, all_ = (np.bincount(stratum[mask], minlength=size) for mask in (here, empty, here | True))
    return sum(_log_choose(z, d) - _log_choose(a, d) for d, z, a in zip(drawn, of, all_, strict=True))


def by_rows(n: Array) -> Array:
    """[ids] a number for ids with about as many rows."""
    return np.log2(np.maximum(1, n)).astype(np.int64)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def text_codes(x: pl.Series) -> pl.Series | None:
    """Values as text, of a few; whether there is one, of numbers; None of what is neither."""
    if x.n_unique() <= CODES and not x.dtype.is_nested():
        return pl.select(pl.when(x.is_null()).then(pl.lit("no value")).otherwise(x.cast(pl.String)))["literal"]
    if x.dtype.is_numeric() and x.null_count():
        return pl.select(pl.when(x.is_null()).then(pl.lit("no value")).otherwise(pl.lit("a value")))["literal"]
    return None


def _share(ids: pl.DataFrame, label: str) -> tuple[Array, Array]:
    """(rows with a label, rows where it is known), by id."""
    return ids[label].to_numpy(), ids[f"{label}_of"].to_numpy()


def _drawn(both: pl.DataFrame, label: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two days' rows with a label, and rows, of as many of each id on either."""
    rng = np.random.default_rng(0)
    days = [(both[label + day].to_numpy(), both[f"{label}_of{day}"].to_numpy()) for day in ("", ":other")]
    least = np.minimum(days[0][1], days[1][1])
    one, other = ((rng.hypergeometric(k, n - k, least), least) for k, n in days)
    return one, other


def _rank_correlation(x: pl.Series, k: Array, n: Array) -> float:
    """Spearman's of values with a rate, over ids with several rows; codes are as high as the mean rank of theirs."""
    some = x.is_not_null().to_numpy() & (n >= SEVERAL)
    if some.sum() < LEAST:
        return 0.0
    rate = k[some] / n[some]
    known = x.filter(pl.Series(some))
    if known.dtype.is_numeric():
        return ranked(known.to_numpy(), rate)
    places = pl.DataFrame({"v": known, "r": pl.Series(rate).rank()})
    return ranked(places.select(pl.col("r").mean().over("v"))["r"].to_numpy(), rate)
