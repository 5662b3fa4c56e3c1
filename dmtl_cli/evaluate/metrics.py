"""What is measured: pure functions, arrays in, numbers out.

All sums are float64. A metric that is undefined on the data is None, or absent where a function returns a dict. Bad
input (lengths that differ, labels other than 0 and 1, NaN, negative weights) is a ValueError, never a number.

Shapes: n rows, U users, K retrieved items per user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dmtl_cli.data.log.values.order import ascending

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Key = TypeVar("Key", str, int)

KS = (10, 50, 100)
"""numbers of retrieved items that are measured"""


# -- ranking and probability of rows -----------------------------------------------------------------------------------


def auc(y: Array, score: Array, weight: Array | None = None) -> float | None:
    """P(score of a positive > score of a negative) + half of P(equal), exact (Mann-Whitney U with midranks).

    Args:
        y: [n] bool or 0/1.
        score: [n], any monotone score.
        weight: [n] >= 0; a pair of rows counts with the product of its weights.

    Returns:
        None without a positive or without a negative of positive weight.
    """
    y, score, w = _labelled(y, score, weight)
    order = np.argsort(score)
    wins, positive, negative = _wins(y[order], w[order], score[order], np.zeros(min(1, len(y)), np.int64))
    pairs = float(positive.sum() * negative.sum())
    return float(wins.sum()) / pairs if pairs > 0 else None


def gauc(y: Array, score: Array, user: Array, weight: Array | None = None) -> float | None:
    """Mean AUC of the users that have both classes, weighted by their impressions (Zhou et al., DIN, KDD 2018).

    Args:
        y: [n] bool or 0/1.
        score: [n].
        user: [n], any sortable type.
        weight: [n] >= 0; a user's impressions are then the sum of their weights, else their rows.

    Returns:
        None where no user has both classes.
    """
    y, score, w = _labelled(y, score, weight)
    if len(user) != len(y):
        raise ValueError(f"user: expected {len(y)} rows, got {len(user)}")
    order = np.argsort(score)
    order = order[ascending(np.asarray(user)[order])]
    starts = _starts(user[order])
    wins, positive, negative = _wins(y[order], w[order], score[order], starts)
    both = (positive > 0) & (negative > 0)
    if not both.any():
        return None
    each = wins[both] / (positive[both] * negative[both])
    impressions = (positive + negative)[both]
    return float((each * impressions).sum() / impressions.sum())


def logloss(y: Array, p: Array, weight: Array | None = None) -> float | None:
    """Mean binary cross entropy, nats.

    Args:
        y: [n] bool or 0/1.
        p: [n] probabilities; 0 and 1 count as the nearest double inside (0, 1), so that the result is finite.
        weight: [n] >= 0.

    Returns:
        None without a row of positive weight.
    """
    y, p, w = _labelled(y, p, weight)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"p: expected probabilities, got {p.min()} to {p.max()}")
    if not w.sum() > 0:
        return None
    p = np.clip(p, np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))
    return float(-(w * np.where(y == 1, np.log(p), np.log1p(-p))).sum() / w.sum())


def ne(y: Array, p: Array, weight: Array | None = None) -> float | None:
    """Normalised entropy: logloss / logloss of predicting the mean label (He et al., ADKDD 2014). Below 1 is better.

    Returns:
        None where one class is missing: the denominator is 0.
    """
    loss = logloss(y, p, weight)
    y, _, w = _labelled(y, p, weight)
    if loss is None or not 0 < (w * y).sum() < w.sum():
        return None
    mean = float((w * y).sum() / w.sum())
    return loss / -float(mean * np.log(mean) + (1 - mean) * np.log1p(-mean))


def pcoc(y: Array, p: Array, weight: Array | None = None) -> float | None:
    """Predicted over observed clicks: sum p / sum y. 1 is calibrated, above 1 too high. None without a positive."""
    y, p, w = _labelled(y, p, weight)
    observed = float((w * y).sum())
    return float((w * p).sum()) / observed if observed > 0 else None


def kendall_tau(x: Array, y: Array, group: Array) -> float | None:
    """Mean over groups of Kendall's tau-b (Kendall, Biometrika 1945).

    Groups with less than two distinct values of x or of y are left out. O(n log n) for any sizes of groups.

    Args:
        x, y: [n].
        group: [n], any sortable type.

    Returns:
        None where no group has two distinct values in both.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not len(x) == len(y) == len(group):
        raise ValueError(f"lengths differ: x {len(x)}, y {len(y)}, group {len(group)}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("x, y: NaN has no rank")
    if not len(x):
        return None
    order = np.lexsort((y, group))
    x, y, group = x[order], y[order], group[order]
    starts = _starts(group)
    y_pairs = _pairs_within(starts, _starts(group, y), len(x))
    y_rank = _dense_rank(starts, _starts(group, y), len(x))

    order = np.lexsort((y_rank, x, group))
    x, y_rank, group = x[order], y_rank[order], group[order]
    x_pairs = _pairs_within(starts, _starts(group, x), len(x))
    joint = _pairs_within(starts, _starts(group, x, y_rank), len(x))
    sizes = np.diff(starts, append=len(x)).astype(np.float64)
    every = sizes * (sizes - 1) / 2
    agree = every - x_pairs - y_pairs + joint - 2 * _inversions(y_rank, starts)
    scale = np.sqrt((every - x_pairs) * (every - y_pairs))
    defined = scale > 0
    return float((agree[defined] / scale[defined]).mean()) if defined.any() else None


# -- retrieval ---------------------------------------------------------------------------------------------------------


def means(of_each: Mapping[Key, Floats]) -> dict[Key, float]:
    """The mean of each metric over the users that have it; without one it is absent."""
    there = {name: values[~np.isnan(values)] for name, values in of_each.items()}
    return {name: float(values.mean()) for name, values in there.items() if len(values)}


def mean_error(values: Floats) -> float | None:
    """The standard error of the mean of some users' numbers [U]; NaN is a user who has none.

    Where all are alike (a few users of whom nobody found anything) their spread says nothing of the next user's: then
    it is what one user counts.

    Returns:
        None with fewer than two users who have one.
    """
    there = values[~np.isnan(values)]
    if len(there) < 2:
        return None
    if np.allclose(there, there[0], rtol=1e-9, atol=1e-12):  # a mean is off in its last digit
        return 1 / len(there)
    return float(there.std(ddof=1) / np.sqrt(len(there)))


def retrieval_of_each(
    topk: Array, relevant: tuple[Array, Array], gain: Array | None = None, ks: Sequence[int] = KS
) -> dict[str, Floats]:
    """How much of what each user wanted is in their top K.

    - recall@K = hits / relevant, hitrate@K = any hit, ndcg@K with binary relevance and an ideal of min(K, relevant)
      (Järvelin & Kekäläinen, TOIS 2002): of users with a relevant item.
    - time_recall@K = seconds inside the top K / all seconds: of users with seconds above 0.

    Args:
        topk: [U, K] distinct item rows, best first; -1 where nothing was retrieved. Columns that are missing for a
            larger K of `ks` count as nothing retrieved.
        relevant: (indptr [U + 1], items [N]): user u wanted items[indptr[u]:indptr[u + 1]]. A row that is named twice
            counts once and its seconds add up. -2 is an item outside the catalogue, one entry each: a miss.
        gain: [N] seconds; NaN is unknown and counts 0.

    Returns:
        `<metric>@K` [U], NaN where it is undefined.
    """
    topk = np.asarray(topk, np.int64)
    indptr, items, seconds = _checked(len(topk), relevant, gain)
    owner = np.repeat(np.arange(len(topk)), np.diff(indptr))
    hits, hit_seconds, count = _hits(topk, owner, items, seconds)
    out: dict[str, Floats] = {}
    for k in ks:
        out |= _at(k, hits[:, :k], count)
    if gain is not None:
        out |= {f"time_recall@{k}": share for k, share in _inside(hit_seconds, owner, seconds, ks).items()}
    return out


def weighted_recall(
    topk: Array, relevant: tuple[Array, Array], weight: Array, ks: Sequence[int] = KS
) -> dict[int, Floats]:
    """By K for each user [U] the weight of their wanted items in the top K / that of all their wanted items.

    With weights 1 it is recall. With 1 for some items and 0 for others it is the recall of those. With 1 / propensity
    it is recall by self-normalised inverse propensities (Yang et al., RecSys 2018, equation 10; Schnabel et al., ICML
    2016): an item that was shown seldom counts for those that were not shown at all.

    Args:
        topk, relevant: as `retrieval_of_each` takes them.
        weight: [N] >= 0 of each wanted item.

    Returns:
        NaN for a user whose weights are 0.
    """
    topk = np.asarray(topk, np.int64)
    indptr, items, weights = _checked(len(topk), relevant, weight)
    owner = np.repeat(np.arange(len(topk)), np.diff(indptr))
    _, found, _ = _hits(topk, owner, items, weights)
    return _inside(found, owner, weights, ks)


def _inside(found: Floats, owner: Ints, weights: Floats, ks: Sequence[int]) -> dict[int, Floats]:
    """By K the share of each user's weight that is in their first K. `found` [U, K]: the weight at each place."""
    total = np.bincount(owner, weights=weights, minlength=len(found))
    return {k: _share(found[:, :k].sum(1), total) for k in ks}


def ceiling(relevant: tuple[Array, Array], retrievable: Array) -> float | None:
    """Mean over users of the share of their wanted items that can be retrieved at all: no recall is above it.

    Args:
        relevant: (indptr [U + 1], item rows [N] >= 0), as `retrieval_of_each` takes it.
        retrievable: [items] bool.

    Returns:
        None where no user wanted an item.
    """
    indptr, items, there = _checked(len(relevant[0]) - 1, relevant, np.asarray(retrievable)[relevant[1]])
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    count, found = (np.bincount(owner, weights=w, minlength=len(indptr) - 1) for w in (np.ones(len(items)), there))
    return float((found[count > 0] / count[count > 0]).mean()) if len(items) else None


def inverse_propensity(exposures: Array, floor: float = 0.1) -> Floats:
    """1 / propensity of each item [I], an item's propensity being its share of the exposures.

    A share below `floor` times the even one (1 / items shown) counts as that, so that no weight is above
    1 / floor times that of an item shown as often as the mean; without this clipping a few items that were shown
    once would decide the result.

    Args:
        exposures: [I] >= 0; an item that was not shown has the largest weight.
    """
    shown = np.asarray(exposures, np.float64)
    if not shown.sum() > 0:
        return np.ones(len(shown))
    share = shown / shown.sum()
    return np.asarray(1 / np.maximum(share, floor / (shown > 0).sum()), np.float64)


def coverage(topk: Array, items: int, ks: Sequence[int] = KS) -> dict[str, float]:
    """`coverage@K`: share of a catalogue of `items` that is in the top K of any user.

    Args:
        topk: [U, K] places in the catalogue, best first; -1 where nothing was retrieved.
    """
    return {f"coverage@{k}": float((_times(topk[:, :k], items) > 0).mean()) for k in ks} if items else {}


def gini(topk: Array, items: int, ks: Sequence[int] = KS) -> dict[str, float]:
    """`gini@K`: Gini coefficient of how often each item of a catalogue is in a top K; 0: all equally often; where every
    user gets the same K items 1 - K / items.

    With x_1 <= ... <= x_n: sum_i (2 i - n - 1) x_i / (n sum x) (Gini 1912; Fleder & Hosanagar, Management Science 2009,
    for recommendations).

    Args:
        topk, items: as `coverage` takes them.

    Returns:
        Nothing where nothing is retrieved.
    """
    out: dict[str, float] = {}
    rank = 2.0 * np.arange(1, items + 1) - items - 1
    for k in ks:
        times = np.sort(_times(topk[:, :k], items)).astype(np.float64)
        if times.sum() > 0:
            out[f"gini@{k}"] = float((rank * times).sum() / (items * times.sum()))
    return out


def _times(topk: Array, items: int) -> Ints:
    """How often each item of the catalogue was retrieved, [items]."""
    return np.bincount(topk[topk >= 0], minlength=items)


def _checked(users: int, relevant: tuple[Array, Array], gain: Array | None) -> tuple[Ints, Ints, Floats]:
    """(indptr, items, seconds with 0 where unknown), or a ValueError."""
    indptr, items = np.asarray(relevant[0], np.int64), np.asarray(relevant[1], np.int64)
    if len(indptr) != users + 1 or indptr[0] != 0 or indptr[-1] != len(items) or (np.diff(indptr) < 0).any():
        raise ValueError(f"relevant: expected an indptr of {users + 1} rising numbers from 0 to {len(items)}")
    seconds = np.zeros(len(items)) if gain is None else np.nan_to_num(np.asarray(gain, np.float64), nan=0.0)
    if len(seconds) != len(items) or (seconds < 0).any():
        raise ValueError(f"gain: expected {len(items)} numbers >= 0")
    return indptr, items, seconds


def _hits(topk: Ints, owner: Ints, items: Ints, seconds: Floats) -> tuple[npt.NDArray[np.bool_], Floats, Ints]:
    """(whether each retrieved item was wanted [U, K], its seconds [U, K], number of distinct items wanted [U]).

    Args:
        owner: user of each wanted item [N].
    """
    users, inside = len(topk), items >= 0
    width = 1 + max(int(topk.max(initial=0)), int(items.max(initial=0)))
    wanted, where = np.unique(owner[inside] * width + items[inside], return_inverse=True)  # pairs as one number
    count = np.bincount(owner[~inside], minlength=users) + np.bincount(wanted // width, minlength=users)
    if not len(wanted):
        return np.zeros(topk.shape, np.bool_), np.zeros(topk.shape), count
    read = np.bincount(where, weights=seconds[inside], minlength=len(wanted))
    pairs = np.arange(users)[:, None] * width + topk
    at = np.minimum(np.searchsorted(wanted, pairs), len(wanted) - 1)
    hits = (wanted[at] == pairs) & (topk >= 0)
    return hits, np.where(hits, read[at], 0.0), count


def _at(k: int, hits: npt.NDArray[np.bool_], count: Ints) -> dict[str, Floats]:
    """Recall, hit rate and NDCG [U] of the first k.

    Args:
        hits: [U, up to k].
        count: items wanted [U]; where it is 0 there is none of them.
    """
    discount = 1 / np.log2(np.arange(2, 2 + k))
    dcg, ideal = (hits * discount[: hits.shape[1]]).sum(1), np.cumsum(discount)
    return {
        f"recall@{k}": _share(hits.sum(1), count),
        f"hitrate@{k}": np.where(count > 0, hits.any(1), np.nan),
        f"ndcg@{k}": np.where(count > 0, dcg / ideal[np.clip(count, 1, k) - 1], np.nan),
    }


def _share(part: Array, whole: Array) -> Floats:
    """part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def overlap(topk_a: Array, topk_b: Array, ks: Sequence[int] = KS) -> dict[str, float]:
    """`overlap@K`: mean over users of |A ∩ B| / K, with A and B the first K of two retrievals.

    Args:
        topk_a, topk_b: [U, K] distinct item rows, best first; negative where nothing was retrieved, which never
            overlaps: two equal lists of less than K items are below 1.
    """
    if len(topk_a) != len(topk_b):
        raise ValueError(f"users differ: {len(topk_a)} and {len(topk_b)}")
    out: dict[str, float] = {}
    for k in ks if len(topk_a) else ():
        both = np.sort(np.concatenate([topk_a[:, :k], topk_b[:, :k]], 1), axis=1)
        same = (both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)
        out[f"overlap@{k}"] = float(same.sum(1).mean() / k)
    return out


# -- sorting in place of loops -----------------------------------------------------------------------------------------


def _labelled(y: Array, x: Array, weight: Array | None) -> tuple[Floats, Floats, Floats]:
    """Labels, numbers and weights as float64, or a ValueError."""
    y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    if not len(y) == len(x) == len(w):
        raise ValueError(f"lengths differ: {len(y)} labels, {len(x)} scores, {len(w)} weights")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("labels: expected 0 and 1")
    if np.isnan(x).any():
        raise ValueError("scores: NaN has no rank")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights: expected numbers >= 0")
    return y, x, w


def _starts(*keys: Array) -> Ints:
    """Where a run of equal keys begins, in sorted rows."""
    n = len(keys[0])
    if not n:
        return np.zeros(0, np.int64)
    change = np.zeros(n - 1, np.bool_)
    for key in keys:
        change |= key[1:] != key[:-1]
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(change) + 1])


def _wins(y: Floats, w: Floats, score: Floats, starts: Ints) -> tuple[Floats, Floats, Floats]:
    """Per group (won pairs with ties as half, positive weight, negative weight); rows sorted by group, then score."""
    if not len(y):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    first = np.zeros(len(y), np.bool_)
    first[1:] = score[1:] != score[:-1]
    first[starts] = True
    ties = np.flatnonzero(first)
    positive, negative = (np.add.reduceat(v, ties) for v in (w * y, w * (1 - y)))
    group = np.searchsorted(ties, starts)  # the tie that each group begins with
    below = np.cumsum(negative) - negative
    below -= np.repeat(below[group], np.diff(group, append=len(ties)))
    wins = np.add.reduceat(positive * (below + negative / 2), group)
    return wins, np.add.reduceat(positive, group), np.add.reduceat(negative, group)


def _pairs_within(starts: Ints, runs: Ints, n: int) -> Floats:
    """Per group the number of pairs within one run; every group begins a run."""
    length = np.diff(runs, append=n).astype(np.float64)
    out: Floats = np.add.reduceat(length * (length - 1) / 2, np.searchsorted(runs, starts))
    return out


def _dense_rank(starts: Ints, runs: Ints, n: int) -> Ints:
    """0, 1, ... for the runs of each group, as one number per row."""
    rank = np.repeat(np.arange(len(runs)), np.diff(runs, append=n))
    return rank - np.repeat(rank[starts], np.diff(starts, append=n))


def _inversions(rank: Ints, starts: Ints) -> Floats:
    """Per group the number of pairs i < j with rank[i] > rank[j].

    A wavelet tree, level by level from the highest bit: pairs that first differ in this bit are inverted where the 1
    comes before the 0; then a stable partition of every bucket by the bit.
    """
    n = len(rank)
    out = np.zeros(len(starts))
    sizes = np.diff(starts, append=n)
    begin, end = np.repeat(starts, sizes), np.repeat(starts + sizes, sizes)  # of a row's bucket
    row = np.arange(n)
    for bit in range(int(rank.max(initial=0)).bit_length() - 1, -1, -1):
        one = (rank >> bit & 1).astype(np.bool_)
        ones = np.concatenate([np.zeros(1, np.int64), np.cumsum(one)])
        before = ones[:-1] - ones[begin]
        out += np.add.reduceat(np.where(one, 0, before), starts)
        middle = end - (ones[end] - ones[begin])
        to = np.where(one, middle + before, row - before)
        begin, end = np.where(one, middle, begin), np.where(one, end, middle)
        moved = np.empty((3, n), np.int64)
        moved[:, to] = rank, begin, end
        rank, begin, end = moved
    return out
