"""What the values of a column say: whether they are 0/1, a time and in which unit, of one user or item, or a leak."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.values.lengths import clock_seconds, not_negative
from dmtl_cli.data.log.values.types import PAIRS, iso_times
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.remembered import codes, remembered

_ISO = r"^[12][0-9]{3}-[01][0-9]-[0-3][0-9]"
_CLOCK = _ISO + r"[T ][0-2][0-9]:[0-5][0-9]"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FROM, _TO = 946_684_800, 2_524_608_000  # 2000 and 2050, in seconds since 1970
_DECIMAL = r"^-?[0-9]+(,[0-9]+)?$"
_TAIL = 10.0
DAYS = ("date", "day", "yyyymmdd")
"""units of times that are days, without a clock"""
FEW = 20
"""rows, users or items below which nothing is concluded"""
RETURN = 0.01
"""share of ids that are there on another day, below which they are hardly those of users"""
LEAK = 0.9
"""AUC of a single column for the click above which it is hardly known before"""
_LASTS = r"(?i)min|^\s*P|[0-9]\s*h.*[0-9]\s*m|^\s*[0-9]+\.[0-9]{2}:"
"""a text with a unit, or days, that lengths of time alone have"""
_WRITTEN = (
    r"^(?:[12][0-9]{3}[-/.年][0-9]{1,2}[-/.月][0-9]{1,2}日?|[0-3]?[0-9][-/.][0-3]?[0-9][-/.][12][0-9]{3}"
    r"|[0-3][0-9][-/.][0-1][0-9][-/.][0-9]{2}|[0-3]?[0-9]\.? +\p{L}{3,9}\.? +[12][0-9]{3}"
    r"|20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))(?P<clock>[T ,]+[0-9]{1,2}:[0-9]{2}.*)?$"
)
"""days as text, alone or before a clock"""
_HAS_CLOCK = r"[0-9]:[0-9]{2}"
ONE = 0.95
"""share of the rows of ids with several that have the value of most, from which on a column belongs to the ids"""
_DATED = 0.95  # of the texts are such
_UNCLICKED = 0.002  # of the rows without a click may have something all the same
_SEVERAL = 0.1  # of the ids with several rows have several values
_EACH, _FILLED, _SMOOTH, _EDGE = 5, 0.5, 0.6, 0.05
"""of numbers that are spread like a measure: rows a value, share of the numbers between least and greatest, correlation
of the counts of neighbours, and how far from the ends the most frequent one is"""
_HILL, _PIECES, _TAILS, _FOOT, _ROUGH = 300, 16, 0.005, 1 / 3, 1.5
"""of few rows a number: how many, pieces of the range, share of the rows beyond either end of it, rows of the pieces at
the ends beside the most, and variance of a number's rows beside the mean, which is 1 by chance alone"""
_EXACT = 2**53  # from which on a float has not each whole number
_BELOW = 0.1  # of the lengths of time may be below 0, where two clocks made them
_SURELY = 3  # of the name of a duration
_TRIED = 1_000  # texts of a column that are read to see whether they can be


def numbers(s: pl.Series) -> pl.Series:
    """The values as floats, null where one is none."""
    return s.cast(pl.Float64).fill_nan(None)


def values_in(s: pl.Series) -> pl.Series:
    """The values of lists."""
    return s.drop_nulls().explode(empty_as_null=False, keep_nulls=False)


def share(mask: pl.Series) -> float:
    """Share of the rows that are true, 0 where there are none."""
    return float(mask.cast(pl.Float64).fill_null(0).to_numpy().mean()) if len(mask) else 0.0


def span(s: pl.Series) -> tuple[float, float]:
    """The least and the greatest number that is known; (0, 0) where none is."""
    x = _known(s)
    return (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)


def middle(s: pl.Series) -> float:
    """The median of the numbers that are known, 0 where none is."""
    x = _known(s)
    return float(np.median(x)) if len(x) else 0.0


def _known(s: pl.Series) -> np.ndarray:
    return numbers(s).drop_nulls().to_numpy()


def has_long_tail(s: pl.Series, skewness: float = 2.0) -> bool:
    """Whether a few of the numbers, none below 0, are far larger than most: the 99th percentile is ten medians, or the
    skewness is above 2, that of an exponential distribution, or above another one that is given."""
    x = _known(s)
    if len(x) < FEW or x.std() == 0:
        return False
    p99, p50 = np.percentile(x, [99, 50])
    return bool(p99 >= _TAIL * p50 and p99 > 0) or bool((((x - x.mean()) / x.std()) ** 3).mean() > skewness)


def short(r: float) -> str:
    """.97 of 0.97, -.30 of -0.3."""
    return f"{round(r, 2) + 0.0:.2f}".replace("0.", ".", 1)  # + 0.0: no -.00


def percent(part: float) -> str:
    """A share in whole percents, a small one in hundredths of them."""
    return f"{part:.0%}" if part >= 0.01 else f"{part:.2%}"


def is_measured(x: pl.Series) -> bool:
    """Whether whole numbers are spread as a measure is and codes are not: most numbers of the range are there, each
    about as often as its neighbours (rank correlation of .6), and the most frequent ones are not at an end of it, as
    those of codes that were given by how frequent they are. Of few rows a number the same is asked of pieces of the
    range: see `_is_hill`. Prices in steps of 500 are looked at by their steps."""
    known = _in_steps(x.filter(x.is_finite()))
    low, size = span(known)[0], span(known)[1] - span(known)[0] + 1
    if len(known) < _EACH * max(_FILLED * size, known.n_unique()):
        return _is_hill(known.to_numpy()) or _is_hill(known.to_numpy(), by_log=True)
    counts = np.bincount((known - low).cast(pl.Int64).to_numpy())
    edge = _EDGE * size
    near = int(np.convolve(counts, np.ones(3), "same").argmax())
    return bool((counts > 0).mean() >= _FILLED and _neighbours(counts) >= _SMOOTH and edge <= near < size - edge)


def _in_steps(x: pl.Series) -> pl.Series:
    """Whole numbers of which all are one number of steps from another, as prices in steps of 500 or those that end with
    990 are, divided by it; others, and those that a float does not have exactly, as they are."""
    if not len(x) or max(map(abs, span(x))) >= _EXACT or (x != x.round()).any():
        return x
    step = int(np.gcd.reduce((x - x.min()).cast(pl.Int64).to_numpy()))
    return x / step if step > 1 else x


def _neighbours(counts: np.ndarray) -> float:
    """Rank correlation of each count with the next one."""
    return float(pl.DataFrame({"a": counts[:-1], "b": counts[1:]}).select(pl.corr("a", "b", method="spearman")).item())


def _is_hill(x: np.ndarray, *, by_log: bool = False) -> bool:
    """Whether numbers of which each comes seldom rise and fall in the pieces of their range, with few at both ends, and
    each number of a piece comes as often as chance has it: of codes some are frequent and those beside them are not.

    Args:
        by_log: whether pieces are of one ratio, as for what has a long tail, and not of one length.
    """
    if len(x) < _HILL:
        return False
    x = x[(x >= np.quantile(x, _TAILS)) & (x <= np.quantile(x, 1 - _TAILS))]
    low, size = float(x.min()), float(x.max() - x.min()) + 1
    if size < _EACH * _PIECES or (by_log and low <= 0):
        return False
    edges = (np.geomspace if by_log else np.linspace)(low, low + size, _PIECES + 1)
    if (lengths := np.diff(edges)).min() < 1:
        return False
    number, times = np.unique(x, return_counts=True)
    piece = np.clip(np.searchsorted(edges, number, "right") - 1, 0, _PIECES - 1)
    rows = np.bincount(piece, times, _PIECES)
    usual = rows / lengths
    variance = float((times**2 / usual[piece]).sum() - len(x)) / (size - _PIECES)
    foot = max(rows[0], rows[-1]) <= _FOOT * rows.max()
    return bool(variance <= _ROUGH and foot and _neighbours(rows) >= _SMOOTH)


def mean(s: pl.Series) -> float:
    """The mean of the numbers that are known, 0 where none is."""
    x = _known(s)
    return float(x.mean()) if len(x) else 0.0


def is_binary(s: pl.Series) -> bool:
    """Whether values are 0 and 1, both of them, or 1 and null; false where text says yes and no."""
    found = _distinct(s)
    return found == {0, 1} or (found == {1} and s.null_count() > 0)


def is_flags(s: pl.Series) -> bool:
    """Whether values are 0 and 1, or one of them alone."""
    found = _distinct(s)
    return s.dtype == pl.Boolean or (bool(found) and found <= {0, 1})


def _distinct(s: pl.Series) -> set[float]:
    """The values of booleans and numbers; empty of anything else."""
    fits = s.dtype == pl.Boolean or s.dtype.is_integer() or s.dtype.is_float()
    return set(s.drop_nulls().unique().to_list()) if fits else set()


def says_yes_or_no(known: pl.Series) -> bool:
    """Whether texts, none of them null, are of one pair of words: both of them, or true or false alone."""
    some = {text.lower() for text in known.head(FEW).to_list()}  # most columns of text are told by their first values
    if not any(some <= {*pair} for pair in PAIRS):
        return False
    there = set(known.str.to_lowercase().unique())
    return there in ({"true"}, {"false"}) or any(there == {*pair} for pair in PAIRS)


def is_id(s: pl.Series) -> bool:
    """Whether values can be ids: integers or text, several. Rows without one (guests, say) may be up to half."""
    fits = s.dtype.is_integer() or s.dtype == pl.String
    return fits and s.null_count() <= 0.5 * len(s) and s.n_unique() > 1 and not is_binary(s)


def decimals(s: pl.Series) -> pl.Series | None:
    """The numbers of texts with a decimal comma, such as 87,5; None where they are none.

    A list of two codes looks like one, but its second code has not as many digits in every row; nor has a number that
    ends without zeros (12,5 beside 12,25 and 12,0), but most have all.
    """
    if s.dtype != pl.String:
        return None
    known = s.drop_nulls()
    known = known.filter(known != "")
    if not len(known) or not known.str.contains(_DECIMAL).all():
        return None
    behind = known.str.extract(r",([0-9]+)$").drop_nulls()
    places = behind.str.len_chars()
    named = words.says(s.name, words.NUMBER) or words.says(s.name, words.RATIO)
    ragged = places.n_unique() > 1 and not named
    if len(places) < len(known) / 2 or (ragged and (behind.str.contains("[0-9]0$").any() or not _are_full(behind))):
        return None
    return s.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)


def _are_full(behind: pl.Series) -> bool:
    """Whether most numbers have as many decimals as the one that has most: nine in ten have, of those that are cut
    where they end in zeros. Of two decimals some begin with 0, as no code does."""
    places = behind.str.len_chars()
    most = int(places.max() or 0)  # type: ignore[arg-type]
    is_none = most < 2 or (most == 2 and not behind.str.contains("^0[1-9]$").any())
    return not is_none and share(places == most) >= 0.8


def is_clock(s: pl.Series) -> bool:
    """Whether texts are lengths of time. Those such as 1h 20m, PT90S or 1.00:23:33 are, where their units or days say
    so or they are many different ones; others, such as 3:45 or 90 m, by the column's name or, of 3:45, where few rows
    have one, as more of them are short than long; a time of day has neither."""
    if (x := seconds_of(s)) is None:
        return False
    known, x = s.filter(x.is_not_null()), x.drop_nulls()
    if known.str.contains(_LASTS).any() or (x.n_unique() > FEW and known.str.contains("(?i)[hs]").any()):
        return True
    lasts, when = words.by_name(s.name, words.DURATION), words.by_name(s.name, words.TIME) > 0
    if words.says_all(s.name, words.CLICK_TIME) or (when and lasts < _SURELY):
        return False
    named = not when and (lasts > 0 or words.says(s.name, words.SPENT))  # watch_time may be either: values tell
    some = known.str.contains(":", literal=True).all() and len(known) <= 0.7 * len(s)
    return named or (some and x.n_unique() > FEW and has_long_tail(x, 1.0))


def seconds_of(s: pl.Series) -> pl.Series | None:
    """The seconds of texts that are all lengths of time, null where nothing stands or a few are below 0; None where one
    is no such text, or none is there."""
    if s.dtype != pl.String:
        return None
    given = s.set(s == "", None)
    known = not_negative(given)
    if known.null_count() == len(s) or known.null_count() - given.null_count() > _BELOW * given.count():
        return None
    if clock_seconds(known.drop_nulls().head(FEW)).null_count():
        return None
    x = clock_seconds(known)
    return x if x.null_count() == known.null_count() else None


def clicks(s: pl.Series) -> pl.Series:
    """Which rows are clicks, by a column of 0 and 1 (null: none) or of the time of the click (null: none)."""
    if is_flags(s):
        return s.cast(pl.Int8).fill_null(0) == 1
    return s.is_not_null() & (s != "") if s.dtype == pl.String else s.is_not_null()


def is_time_or_null(s: pl.Series) -> bool:
    """Whether a column has times in some rows and nothing in many others, as the time of a click has."""
    return 0.02 <= s.null_count() / max(1, len(s)) < 1 and time_unit(s) is not None


def time_unit(s: pl.Series) -> str | None:
    """s, ms, us or ns since 1970; timestamp, date, text (ISO with a clock), day (text) or yyyymmdd; None: no time, as
    integers that are named like an id never are."""
    known = s.drop_nulls()
    if not len(known):
        return None
    if isinstance(s.dtype, pl.Datetime):
        return "timestamp"
    if s.dtype == pl.Date:
        return "date"
    if s.dtype == pl.String:
        if share(known.str.contains(_CLOCK)) > _DATED and _are_read(known):
            return "text"
        return "day" if known.str.contains(_ISO + "$").all() and _are_read(known) else None
    if not (s.dtype.is_integer() or s.dtype.is_float()) or words.is_named_id(s.name):
        return None
    low, high = float(known.quantile(0.01) or 0), float(known.quantile(0.99) or 0)
    if low >= 19_000_101 and high <= 21_001_231 and span(known.cast(pl.Int64, strict=False) % 100)[1] <= 31:
        return "yyyymmdd"
    return next((unit for unit, by in _UNITS.items() if _FROM * by <= low and high <= _TO * by), None)


def _are_read(known: pl.Series) -> bool:
    """Whether what is to read texts of times or days takes them, as far as some from all of them tell it."""
    some = known.gather_every(max(1, len(known) // _TRIED))
    return iso_times(some).count() > _DATED * len(some)


def local_days(s: pl.Series, unit: str, zone: str) -> pl.Series:
    """The day of each value, null where it has none."""
    if unit in DAYS:
        whole = s.cast(pl.Int64, strict=False) if s.dtype.is_float() else s
        text = whole.cast(pl.String).str.replace_all("-", "")
        return text.str.to_date("%Y%m%d", strict=False)
    at = instants(s, unit)
    assert at is not None
    return at.dt.convert_time_zone(zone).dt.date()


def instants(s: pl.Series, unit: str) -> pl.Series | None:
    """Each value as a timestamp, naive ones as UTC; None where it has no clock."""
    if unit == "timestamp":
        return s if getattr(s.dtype, "time_zone", None) else s.dt.replace_time_zone("UTC")
    if unit == "text":
        return iso_times(s)
    if unit not in _UNITS:
        return None
    return (s.cast(pl.Float64) * (1000 / _UNITS[unit])).cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))


@remembered
def is_constant(frame: pl.DataFrame, key: str, column: str, least: float = ONE) -> bool:
    """Whether a column belongs to an id: nearly all rows of ids with several have the value that most rows of the id
    have, which they would not by chance. False where there are few such ids.

    Args:
        least: share of these rows; below 1, as a name is corrected once and a section renamed.
    """
    if key == column:
        return False
    ids, values = codes(frame, key), codes(frame, column)
    both = (ids >= 0) & (values >= 0)
    ids, values = ids[both], values[both]
    rows = np.bincount(ids, minlength=1)
    several = rows > 1
    if len(ids) < FEW or several.sum() < FEW:
        return False

    def agree(of: npt.NDArray[np.int64]) -> float:  # less each id's first row, which agrees with itself
        pairs, n = np.unique(ids * (int(of.max()) + 1) + of, return_counts=True)
        most = np.zeros(len(rows), np.int64)
        np.maximum.at(most, pairs // (int(of.max()) + 1), n)
        return float((most[several] - 1).sum() / (rows[several] - 1).sum())

    one = agree(values)
    if one < least:
        return False
    return 1 - one < (1 - agree(values[np.random.default_rng(0).permutation(len(values))])) / 5


def has_several(frame: pl.DataFrame, key: str, other: str) -> bool:
    """Whether an id has rows with several values of another column, as an item has of users and an exposure has not."""
    if key == other:
        return False
    rows = frame.select(pl.col(key).alias("k"), pl.col(other).alias("u")).drop_nulls()
    for c in ("k", "u"):
        rows = rows.filter(pl.col(c) != "") if rows.schema[c] == pl.String else rows
    several = rows.group_by("k").agg(pl.len().alias("n"), pl.col("u").n_unique()).filter(pl.col("n") > 1)
    return len(several) >= FEW and share(several["u"] > 1) > _SEVERAL


def is_there(s: pl.Series) -> pl.Series:
    """Where a column has something: neither null, nor 0, nor empty text, nor an empty list."""
    if s.dtype.is_numeric() or s.dtype == pl.Boolean:
        return numbers(s).fill_null(0) != 0
    if s.dtype == pl.String:
        return s.fill_null("") != ""
    return s.list.len().fill_null(0) > 0 if s.dtype == pl.List else s.is_not_null()


def is_unclicked_empty(s: pl.Series, clicked: pl.Series) -> bool:
    """Whether there is nothing wherever there was no click, and not where there was: it came after the click.

    Args:
        clicked: as `clicks` gives it, or 0 and 1.
    """
    there, label = is_there(s).to_numpy(), clicked.cast(pl.Int8).fill_null(0).to_numpy() == 1
    if label.sum() < FEW or (~label).sum() < FEW or there[label].sum() < FEW:
        return False
    return bool(there[~label].mean() <= min(_UNCLICKED, there[label].mean() / 10))


def auc_of(s: pl.Series, clicked: pl.Series) -> float | None:
    """AUC of one column for the click, in the better direction, by its values or by whether it has one; of few words
    by their click rates. None: too few rows of either kind, or nothing to order them by."""
    label = clicked.cast(pl.Int8).fill_null(0).to_numpy() == 1
    if label.sum() < FEW or (~label).sum() < FEW:
        return None
    orders = [x.cast(pl.Float64)] if 0 < (x := is_there(s)).sum() < len(s) else []
    if (found := decimals(s)) is not None:
        s = found
    elif s.dtype == pl.String and 2 <= s.n_unique() <= FEW:
        rates = pl.DataFrame({"v": s, "y": label}).group_by("v").agg(pl.col("y").mean())
        s = s.replace_strict(rates["v"], rates["y"], return_dtype=pl.Float64)
    if s.dtype.is_numeric() or s.dtype == pl.Boolean:
        x = numbers(s)
        orders.append(x.fill_null(span(x)[0] - 1))
    return max((_auc(x.rank("average").to_numpy(), label) for x in orders), default=None)


def _auc(ranks: np.ndarray, label: np.ndarray) -> float:
    n, m = int(label.sum()), int((~label).sum())
    found = float((ranks[label].sum() - n * (n + 1) / 2) / (n * m))
    return max(found, 1 - found)


def returning(ids: pl.Series, days: pl.Series) -> float:
    """Share of the ids with rows on several days; 1 where all rows are of one day, which says nothing of it."""
    seen = pl.DataFrame({"id": ids, "day": days}).drop_nulls()
    if seen["day"].n_unique() < 2:
        return 1.0
    return share(seen.group_by("id").agg(pl.col("day").n_unique() > 1)["day"])


@dataclass(frozen=True)
class Kinds:
    """The rows of a table whose kind is, or is not, one of some."""

    column: str
    values: tuple[str, ...]
    among: bool

    def of(self, frame: pl.DataFrame) -> pl.DataFrame:
        """These rows; those without a kind are none."""
        there = pl.col(self.column).is_in(self.values)
        return frame.filter(there if self.among else ~there)


def within(ids: pl.Series, known: pl.Series) -> float:
    """Share of distinct ids that are among the known ones; 0 where their types differ."""
    distinct = ids.drop_nulls().unique()
    if not len(distinct) or distinct.dtype.is_integer() != known.dtype.is_integer():
        return 0.0
    if not distinct.dtype.is_integer():
        distinct, known = distinct.cast(pl.String), known.cast(pl.String)
    else:
        distinct, known = distinct.cast(pl.Int128), known.cast(pl.Int128)  # ids of 64 bits, with a sign or none
    return float(np.mean(distinct.is_in(known.unique().implode()).to_numpy()))


def has_days(s: pl.Series) -> bool:
    """Whether texts are days or times as people write them."""
    return s.dtype == pl.String and share(s.drop_nulls().str.contains(_WRITTEN)) >= _DATED


def clock_share(s: pl.Series) -> float:
    """Share of texts that have a time of day."""
    return share(s.str.contains(_HAS_CLOCK))


def free(name: str, taken: Collection[str]) -> str:
    """A name that none of these columns has: itself, or it with underscores."""
    while name in taken:
        name += "_"
    return name
