"""Distillation losses: how far a student's logits are from its teacher's, row by row or list by list.

All share one signature, name(s, t, weight, group, *, options) -> scalar in the dtype of s, computed in float64:

- s: [B] student logit.
- t: [B] teacher logit, the calibrated log-odds of the target (`target_logit`); NaN: the row has no score.
  A missing score changes only the count of rows: it has no loss and no gradient.
- weight: [B] >= 0. It multiplies what a row adds, and does not divide: twice the weights are twice the loss.
- group: [B] integers; rows with equal ones are one list. A loss of rows ignores it.

The mean is over rows that have a score, or over lists with two or more of them; 0, with gradients of 0, where there
are none. A temperature T divides both logits, and the loss is multiplied by T^2, which keeps the size of gradients
(Hinton et al., 2015). t is a logit: a probability that is passed here would be read as one, and nothing maps p to
p / (1 + p).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtl_cli.config.student import Decay, PairWeight

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {}
"""every loss by name; `rows` and `lists` add to it"""


@dataclass(frozen=True)
class Lists:
    """The N scored rows of the L lists that have two or more, by list, and in it from the teacher's best to its worst.

    s, t, weight: [N] float64. at: [N] list of a row, 0..L-1. size: [L]. rank: [N] place in the list from 0; ties in t
    keep their order in the batch.
    """

    s: Tensor
    t: Tensor
    weight: Tensor
    at: Tensor
    size: Tensor
    rank: Tensor

    @classmethod
    def collect(cls, s: Tensor, t: Tensor, weight: Tensor, group: Tensor) -> Lists:
        scored = (~t.isnan()).nonzero().squeeze(1)
        row = scored[_order(group[scored], t[scored])]
        _, at, size = torch.unique_consecutive(group[row], return_inverse=True, return_counts=True)
        row, size = row[size[at] > 1], size[size > 1]
        at = torch.repeat_interleave(size)
        rank = torch.arange(len(row), device=row.device) - (size.cumsum(0) - size)[at]
        return cls(s[row].double(), t[row].detach().double(), weight[row].double(), at, size, rank)

    def sum(self, x: Tensor) -> Tensor:
        """[N] -> [L]"""
        return _sum(x, self.at, len(self.size))

    def log_softmax(self, x: Tensor) -> Tensor:
        """[N] -> [N]"""
        return x - _logsumexp(x, self.at, len(self.size))[self.at]


def rows(per_row: Callable[..., Tensor]) -> Loss:
    """A loss of scored rows, (s, t, *, options) [N] -> [N], as a loss of a batch."""

    @wraps(per_row)
    def loss(s: Tensor, t: Tensor, weight: Tensor, group: Tensor, **options: Any) -> Tensor:
        scored = ~t.isnan()
        each = per_row(s[scored].double(), t[scored].detach().double(), **options)
        return ((weight[scored] * each).sum() / max(len(each), 1)).to(s.dtype)

    LOSSES[per_row.__name__] = loss
    return loss


def lists(per_list: Callable[..., Tensor]) -> Loss:
    """A loss of lists, (x, *, options) -> [L], as a loss of a batch."""

    @wraps(per_list)
    def loss(s: Tensor, t: Tensor, weight: Tensor, group: Tensor, **options: Any) -> Tensor:
        each = per_list(Lists.collect(s, t, weight, group), **options)
        return (each.sum() / max(len(each), 1)).to(s.dtype)

    LOSSES[per_list.__name__] = loss
    return loss


# -- row losses --------------------------------------------------------------------------------------------------------


@rows
def kl(s: Tensor, t: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Bernoulli KL(sigmoid(t) || sigmoid(s)), nats (DMTL, 2021): 0 at s = t, gradient sigmoid(s) - sigmoid(t) at T = 1.

    For large T it is (s - t)^2 / 8.
    """
    s, t = s / temperature, t / temperature
    yes = F.logsigmoid(t) - F.logsigmoid(s)
    no = F.logsigmoid(-t) - F.logsigmoid(-s)
    return temperature**2 * (torch.sigmoid(t) * yes + torch.sigmoid(-t) * no)


@rows
def mse_logit(s: Tensor, t: Tensor) -> Tensor:
    """(s - t)^2 (Kim et al., IJCAI 2021). A temperature would cancel: (s/T - t/T)^2 T^2."""
    return (s - t).square()


@rows
def mse_prob(s: Tensor, t: Tensor, *, temperature: float = 1.0) -> Tensor:
    """(sigmoid(s) - sigmoid(t))^2 (a production account of DMTL). For large T it is (s - t)^2 / 16."""
    return temperature**2 * (torch.sigmoid(s / temperature) - torch.sigmoid(t / temperature)).square()


# -- list losses by the teacher's values -------------------------------------------------------------------------------


@lists
def listwise(x: Lists, *, temperature: float = 1.0) -> Tensor:
    """KL(softmax(t) || softmax(s)) in a list (ListNet: Cao et al., ICML 2007, less the teacher's entropy, a constant).

    Blind to a shift of a list's logits. For large T it is the mean of (s' - t')^2 / 2, logits less their list's mean;
    the cross entropy itself would grow as T^2 log n there.
    """
    return temperature**2 * _divergence(x, x.s / temperature, x.t / temperature)


@lists
def listwise_calibrated(x: Lists, *, temperature: float = 1.0) -> Tensor:
    """`listwise` of normalised sigmoids, p_i = sigmoid(t_i) / sum (Bai et al., CIKM 2023; Yan et al., KDD 2022).

    Not blind to a shift: with `kl` it shares the minimum s = t. For large T it is a quarter of `listwise`.
    """
    return temperature**2 * _divergence(x, F.logsigmoid(x.s / temperature), F.logsigmoid(x.t / temperature))


def _divergence(x: Lists, s: Tensor, t: Tensor) -> Tensor:
    """sum_i w_i (p_i log(p_i / q_i) - p_i + q_i) -> [L], p and q the softmax of t and s [N] in their list.

    With equal weights the last two terms cancel: KL(p || q). With others they keep its minimum at q = p, because no
    row's own term is ever below 0; w_i p_i log(p_i / q_i) alone is least at q proportional to w p.
    """
    p, q = x.log_softmax(t), x.log_softmax(s)
    return x.sum(x.weight * (p.exp() * (p - q) - p.exp() + q.exp()))


@lists
def margin_mse(x: Lists) -> Tensor:
    """Mean of w_i w_j ((s_i - s_j) - (t_i - t_j))^2 over a list's pairs (Margin-MSE: Hofstätter et al., 2020).

    `mse_logit` of gaps, blind to a shift of a list's logits. No pair is formed: the sum over pairs is sum w times
    sum w (d - mean d)^2 of d = s - t. Two rows' weights multiply; a temperature would cancel.
    """
    total = x.sum(x.weight)
    d = x.s - x.t
    off = d - (x.sum(x.weight * d) / total.clamp(min=torch.finfo(d.dtype).tiny))[x.at]
    return total * x.sum(x.weight * off.square()) * 2 / (x.size * (x.size - 1))


# -- list losses by the teacher's order --------------------------------------------------------------------------------


@lists
def pairwise(x: Lists, *, pair_weight: PairWeight = "uniform") -> Tensor:
    """Mean of v w_i w_j softplus(s_j - s_i) over a list's pairs t_i > t_j (RankNet: Burges et al., ICML 2005).

    Ties make no pair. v: uniform 1; gap t_i - t_j; ndcg |what swapping the two in the student's order changes in NDCG|,
    of gains sigmoid(t) (LambdaRank: Burges et al., NIPS 2006; COPR: Zhao et al., CIKM 2023). Two rows' weights
    multiply: twice the weights are four times this loss. No temperature: an order has none.
    """
    i, j = _pairs(x.size[x.at] - x.rank)
    better = x.t[i] > x.t[j]
    i, j = i[better], j[better]
    v = x.weight[i] * x.weight[j]
    if pair_weight == "gap":
        v = v * (x.t[i] - x.t[j])
    elif pair_weight == "ndcg":
        log_gain = F.logsigmoid(x.t)
        gain = torch.exp(log_gain - log_gain[x.size.cumsum(0) - x.size][x.at])  # of the list's best: its scale cancels
        ideal = 1 / torch.log2(x.rank.double() + 2)
        gain = gain / x.sum(gain * ideal)[x.at]
        discount = ideal[_order(x.at, x.s.detach()).argsort()]  # by the student's places
        v = v * (gain[i] - gain[j]) * (discount[i] - discount[j]).abs()
    n_lists = len(x.size)
    n_pairs = torch.bincount(x.at[i], minlength=n_lists).clamp(min=1)
    return _sum(v * F.softplus(x.s[j] - x.s[i]), x.at[i], n_lists) / n_pairs


@lists
def rank_weight(x: Lists, *, decay: Decay = "exponential", decay_lambda: float = 10.0) -> Tensor:
    """Mean of -log sigmoid(s) by v_r, r = 1 + the number of rows that t puts above (Tang & Wang, KDD 2018).

    v_r: exponential exp(-r / lambda), logarithmic 1 / log2(1 + r), linear (n + 1 - r) / n in a list of n.
    """
    row = torch.arange(len(x.t), device=x.t.device)
    tied = (x.rank > 0) & (x.t == x.t.roll(1))
    above = x.rank[torch.where(tied, 0, row).cummax(0).values].double()  # ties share the place of their first
    if decay == "exponential":
        v = torch.exp(-above / decay_lambda)  # that of r less a constant factor: the best has 1, whatever lambda
    elif decay == "logarithmic":
        v = 1 / torch.log2(above + 2)
    else:
        v = 1 - above / x.size[x.at]
    return x.sum(v * x.weight * -F.logsigmoid(x.s)) / x.sum(v)


@lists
def plackett_luce(x: Lists, *, top_k: int = 10) -> Tensor:
    """Mean over the teacher's top K of -log softmax(s) among the row and all below (DE-RRD: Kang et al., CIKM 2020).

    The relaxed ranking loss: the order of the top K, each above the others, whose own order is free. Ties in t rank by
    their order in the batch. Blind to a shift of a list's logits.
    """
    below = torch.where(x.rank < top_k, x.size[x.at] - x.rank, 1)  # each other row is compared with itself: loss 0
    i, j = _pairs(below)
    return x.sum(x.weight * (_logsumexp(x.s[j], i, len(x.s)) - x.s)) / x.size.clamp(max=top_k)


# -- lists by popularity -----------------------------------------------------------------------------------------------


def strata(counts: Tensor, k: int) -> Tensor:
    """Stratum 0..k-1 of every item, rare to popular, of about equal total count each (UnKD: Chen et al., WSDM 2023).

    counts: [I] integers >= 0. Items of one count share a stratum, that of the middle of their mass; some may be empty.
    """
    count, at = _dense(counts)
    mass = count * torch.bincount(at, minlength=len(count))
    twice_middle = 2 * mass.cumsum(0) - mass
    return (twice_middle * k // (2 * mass.sum()).clamp(min=1))[at]


def within(group: Tensor, stratum: Tensor) -> Tensor:
    """[B] list of every row, numbered from 0 without gaps, for lists of equal group and stratum, [B] integers each."""
    which, at = _dense(stratum)
    return _dense(_dense(group)[1] * len(which) + at)[1]


def _dense(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values, ascending, and which of them each x is."""
    values, at = torch.unique(x, return_inverse=True)
    return values, at


# -- segments ----------------------------------------------------------------------------------------------------------


def _order(group: Tensor, score: Tensor) -> Tensor:
    """[N] rows by group, in it from the highest score down; ties stay in order."""
    row = score.argsort(descending=True, stable=True)
    return row[group[row].argsort(stable=True)]


def _pairs(count: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers i, j of every row i with the count_i rows j = i, i + 1, ...; sum(count) pairs and no matrix."""
    i = torch.repeat_interleave(count)
    return i, i + torch.arange(len(i), device=i.device) - (count.cumsum(0) - count)[i]


def _sum(x: Tensor, at: Tensor, n: int) -> Tensor:
    """Sum of x per segment `at` -> [n]."""
    return x.new_zeros(n).index_add(0, at, x)


def _logsumexp(x: Tensor, at: Tensor, n: int) -> Tensor:
    """log sum exp(x) per segment `at` -> [n]; none may be empty."""
    top = x.new_full((n,), -torch.inf).scatter_reduce(0, at, x.detach(), "amax")
    return top + _sum(torch.exp(x - top[at]), at, n).log()
