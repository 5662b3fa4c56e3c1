"""Distillation losses against loops of their plain formulas, their limits, and the traps that others fell into."""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from dmtl_cli.config.student import KD, LISTS, LOSS_OPTIONS, Decay, ListLoss, PairWeight, RowLoss
from dmtl_cli.student import distillation as distill
from dmtl_cli.student.distillation import (
    LOSSES,
    kl,
    listwise,
    listwise_calibrated,
    mse_logit,
    mse_prob,
    pairwise,
    plackett_luce,
    rank_weight,
    strata,
    within,
)

F64 = torch.float64
ONE_LIST = torch.zeros(100, dtype=torch.long)

Case = tuple[str, dict[str, Any]]
CASES: list[Case] = [
    ("kl", {}),
    ("kl", {"temperature": 2.5}),
    ("mse_logit", {}),
    ("mse_prob", {}),
    ("mse_prob", {"temperature": 0.5}),
    ("listwise", {}),
    ("listwise", {"temperature": 2.5}),
    ("listwise_calibrated", {}),
    ("listwise_calibrated", {"temperature": 0.5}),
    ("margin_mse", {}),
    *(("pairwise", {"pair_weight": v}) for v in get_args(PairWeight)),
    *(("rank_weight", {"decay": v}) for v in get_args(Decay)),
    ("rank_weight", {"decay_lambda": 1.5}),
    ("plackett_luce", {}),
    ("plackett_luce", {"top_k": 1}),
    ("plackett_luce", {"top_k": 3}),
]
VALUES = {"kl", "mse_logit", "mse_prob", "listwise", "listwise_calibrated", "margin_mse"}  # 0 at s = t, and never below
BLIND = {"listwise", "margin_mse", "pairwise", "plackett_luce"}  # to a shift of a list


def cases(*names: str) -> pytest.MarkDecorator:
    chosen = [case for case in CASES if not names or case[0] in names]
    ids = ["-".join([name, *map(str, options.values())]) for name, options in chosen]
    return pytest.mark.parametrize(("name", "options"), chosen, ids=ids)


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As in production: an operation without a deterministic form raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def batch(n: int = 60, n_lists: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """s, t, w, group: lists of many lengths, shuffled, one of a single row; ties in t, holes in it, weights of 0."""
    g = torch.Generator().manual_seed(seed)
    group = (torch.rand(n, generator=g).square() * n_lists).long() * 1000 - 3000
    group[n // 2] = 12345
    t = torch.where(torch.rand(n, generator=g) < 0.3, normal(n, seed=seed + 1).round(), normal(n, seed=seed + 2) * 2)
    t[torch.rand(n, generator=g) < 0.15] = math.nan
    weight = normal(n, seed=seed + 3).abs() * (torch.rand(n, generator=g) < 0.9)
    return normal(n, seed=seed + 4) * 2, t, weight, group


def gradient(f: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
    s = s.detach().requires_grad_()
    (g,) = torch.autograd.grad(f(s), s)
    return g


# -- the plain formulas, in loops --------------------------------------------------------------------------------------


def rows_of(group: Tensor, t: Tensor) -> list[list[int]]:
    scored = [i for i in range(len(t)) if not t[i].isnan()]
    by_list = [[i for i in scored if group[i] == value] for value in sorted(set(group.tolist()))]
    return [rows for rows in by_list if len(rows) >= 2]


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum() / len(values)


def plain_row(name: str, s: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    if name == "mse_logit":
        return (s - t) ** 2
    q, p = (s / temperature).sigmoid(), (t / temperature).sigmoid()
    if name == "mse_prob":
        return temperature**2 * (q - p) ** 2
    return temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())


def plain_listwise(s: Tensor, t: Tensor, w: Tensor, temperature: float = 1.0, of: Callable = torch.exp) -> Tensor:
    p, q = of(t / temperature), of(s / temperature)
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(w[i] * (p[i] * (p[i] / q[i]).log() - p[i] + q[i]) for i in range(len(s)))


def plain_margin_mse(s: Tensor, t: Tensor, w: Tensor) -> Tensor:
    pairs = itertools.combinations(range(len(s)), 2)
    return mean([w[i] * w[j] * ((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in pairs])


def plain_pairwise(s: Tensor, t: Tensor, w: Tensor, pair_weight: str = "uniform") -> Tensor:
    n = len(s)
    gain = t.sigmoid()
    ideal = sum(g / math.log2(r + 2) for r, g in enumerate(gain.sort(descending=True).values))

    def ndcg(order: list[int]) -> Tensor:
        return sum(gain[i] / math.log2(r + 2) for r, i in enumerate(order)) / ideal

    order = s.argsort(descending=True).tolist()
    losses = []
    for i, j in itertools.permutations(range(n), 2):
        if t[i] > t[j]:
            swapped = [{i: j, j: i}.get(k, k) for k in order]
            v = {"uniform": 1.0, "gap": t[i] - t[j], "ndcg": abs(ndcg(swapped) - ndcg(order))}[pair_weight]
            losses.append(v * w[i] * w[j] * torch.log(1 + torch.exp(s[j] - s[i])))
    return mean(losses) if losses else s.sum() * 0


def plain_rank_weight(s: Tensor, t: Tensor, w: Tensor, decay: str = "exponential", decay_lambda: float = 10) -> Tensor:
    n = len(s)
    v = []
    for i in range(n):
        r = 1 + sum(bool(t[j] > t[i]) for j in range(n))
        v.append(
            {
                "exponential": math.exp(-r / decay_lambda),
                "logarithmic": 1 / math.log2(1 + r),
                "linear": (n - r + 1) / n,
            }[decay]
        )
    return sum(-v[i] * w[i] * s[i].sigmoid().log() for i in range(n)) / sum(v)


def plain_plackett_luce(s: Tensor, t: Tensor, w: Tensor, top_k: int = 10) -> Tensor:
    order = sorted(range(len(s)), key=lambda i: -t[i].item())
    top, others = order[:top_k], order[top_k:]
    losses = []
    for k, i in enumerate(top):
        rest = sum(s[j].exp() for j in top[k:]) + sum(s[j].exp() for j in others)
        losses.append(-w[i] * (s[i] - torch.as_tensor(rest).log()))
    return mean(losses)


def plain(name: str, s: Tensor, t: Tensor, w: Tensor, group: Tensor, **options: Any) -> Tensor:
    if name not in LISTS:
        return mean([w[i] * plain_row(name, s[i], t[i], **options) for i in range(len(s)) if not t[i].isnan()])
    of = {
        "listwise": plain_listwise,
        "listwise_calibrated": lambda *a, **k: plain_listwise(*a, of=torch.sigmoid, **k),
        "margin_mse": plain_margin_mse,
        "pairwise": plain_pairwise,
        "rank_weight": plain_rank_weight,
        "plackett_luce": plain_plackett_luce,
    }[name]
    return mean([of(s[rows], t[rows], w[rows], **options) for rows in rows_of(group, t)])


@cases()
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_are_those_of_the_plain_formula(name: str, options: dict[str, Any], seed: int) -> None:
    s, t, w, group = batch(seed=10 * seed)

    def ours(s: Tensor) -> Tensor:
        return LOSSES[name](s, t, w, group, **options)

    def theirs(s: Tensor) -> Tensor:
        return plain(name, s, t, w, group, **options)

    assert ours(s).item() == pytest.approx(theirs(s).item(), rel=1e-11)
    assert torch.allclose(gradient(ours, s), gradient(theirs, s), rtol=1e-9, atol=1e-13)


@cases()
def test_gradients_are_those_of_differences(name: str, options: dict[str, Any]) -> None:
    """But for ndcg, whose places are steps: they are constant near s."""
    s, t, w, group = batch(20, 3)
    assert gradcheck(lambda s: LOSSES[name](s, t, w, group, **options), (s.requires_grad_(),))


# -- what all share ----------------------------------------------------------------------------------------------------


def test_the_names_the_functions_and_their_options_are_one_set() -> None:
    assert tuple(LOSSES) == get_args(RowLoss) + get_args(ListLoss)
    expected = {
        "kl": {"temperature": 1.0},
        "mse_logit": {},
        "mse_prob": {"temperature": 1.0},
        "listwise": {"temperature": 1.0},
        "listwise_calibrated": {"temperature": 1.0},
        "margin_mse": {},
        "pairwise": {"pair_weight": "uniform"},
        "rank_weight": {"decay": "exponential", "decay_lambda": 10.0},
        "plackett_luce": {"top_k": 10},
    }
    for name, loss in LOSSES.items():
        assert loss is getattr(distill, name) and loss.__name__ == name and loss.__doc__
        options = [p for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert {p.name: p.default for p in options} == expected[name] == KD(loss=name).options()
        with pytest.raises(TypeError):
            loss(*batch(), unknown=1)
    strata = {"popularity_strata"}  # cuts the lists that a loss gets
    taken = {name: set(options) | (strata if name in LISTS else set()) for name, options in expected.items()}
    assert taken == {name: set(options) for name, options in LOSS_OPTIONS.items()}
    assert KD.model_fields["pair_weight"].annotation == PairWeight
    assert KD.model_fields["decay"].annotation == Decay
    assert {name for name, _ in CASES} == set(LOSSES), "every loss is tested below"


@cases()
def test_weights_count(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    once, twice = (LOSSES[name](s, t, k * w, group, **options).item() for k in (1, 2))
    assert twice == pytest.approx((4 if name in {"margin_mse", "pairwise"} else 2) * once, rel=1e-12) and once > 0
    s.requires_grad_()
    nothing = LOSSES[name](s, t, 0 * w, group, **options)
    assert nothing == 0 and (torch.autograd.grad(nothing, s)[0] == 0).all()


@cases()
def test_a_missing_score_changes_only_the_count(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    scored = ~t.isnan()

    def loss(s: Tensor, rows: Tensor) -> Tensor:
        return LOSSES[name](s, t[rows], w[rows], group[rows], **options)

    everyone = torch.ones(len(s), dtype=torch.bool)
    assert loss(s, everyone).item() == loss(s[scored], scored).item()
    g = gradient(lambda s: loss(s, everyone), s)
    assert (g[~scored] == 0).all() and torch.equal(g[scored], gradient(lambda s: loss(s, scored), s[scored]))
    w[~scored] = math.nan  # nor does anything else of such a row
    s[~scored] = math.inf
    assert torch.equal(gradient(lambda s: loss(s, everyone), s), g)


@cases()
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_without_a_row_or_a_list_the_loss_and_its_gradient_are_zero(
    name: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    s, t, w, group = batch()
    alone = torch.arange(len(s))
    nothings = [(s, t * math.nan, w, group), (s[:0], t[:0], w[:0], group[:0])]
    nothings += [(s, t, w, alone), (s[:1], t[:1], w[:1], group[:1])] if name in LISTS else []
    for s, *rest in nothings:
        s = s.to(dtype).requires_grad_()
        loss = LOSSES[name](s, *rest, **options)
        (g,) = torch.autograd.grad(loss, s)
        assert loss == 0 and loss.dtype == g.dtype == dtype and (g == 0).all()


@cases()
def test_lists_of_one_are_not_counted_and_lists_weigh_alike(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    t = t.nan_to_num(0.5)
    alone, full = group == 12345, group == -3000
    loss = LOSSES[name]
    kept = loss(s[~alone], t[~alone], w[~alone], group[~alone], **options).item()
    if name in LISTS:
        assert loss(s, t, w, group, **options).item() == kept
        each = [
            loss(s[group == v], t[group == v], w[group == v], group[group == v], **options) for v in set(group.tolist())
        ]
        assert mean(each).item() * len(each) / (len(each) - 1) == pytest.approx(kept)
    else:
        assert loss(s, t, w, group, **options).item() != kept
        assert loss(s, t, w, group, **options) == loss(s, t, w, ONE_LIST[: len(s)], **options)
    assert full.sum() > 10


@cases()
def test_neither_the_order_of_rows_nor_the_names_of_lists_count(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    if name == "plackett_luce":  # breaks ties by the order of rows
        t = t + 1e-9 * torch.arange(len(t)).flip(0)
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(1))

    def moved(s: Tensor) -> Tensor:
        return LOSSES[name](s[order], t[order], w[order], (group * -7 + 3)[order], **options)

    g = gradient(lambda s: LOSSES[name](s, t, w, group, **options), s)
    assert moved(s).item() == pytest.approx(LOSSES[name](s, t, w, group, **options).item(), rel=1e-12)
    assert torch.allclose(gradient(moved, s), g, rtol=1e-10, atol=1e-15)


@cases()
def test_float32_students_get_the_float64_loss_twice_the_same(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch(300)
    s = s.float()
    exact = gradient(lambda s: LOSSES[name](s, t, w.float().double(), group, **options), s.double())
    first, again = (gradient(lambda s: LOSSES[name](s, t, w.float(), group, **options), s) for _ in range(2))
    assert LOSSES[name](s, t, w.float(), group, **options).dtype == torch.float32
    assert torch.equal(first, again) and torch.equal(first, exact.float())


@cases()
def test_no_gradient_reaches_the_teacher(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    s.requires_grad_()
    t.requires_grad_()
    _, teachers = torch.autograd.grad(LOSSES[name](s, t, w, group, **options), (s, t), allow_unused=True)
    assert teachers is None


@cases()
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_huge_logits_have_finite_losses_and_gradients(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    values = torch.tensor([-1e4, -80.0, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=F64)
    s, t = (v.flatten() for v in torch.meshgrid(values, values, indexing="ij"))
    s = s.to(dtype)
    for group in (ONE_LIST[: len(s)], s.long(), t.long()):

        def loss(s: Tensor, group: Tensor = group) -> Tensor:
            return LOSSES[name](s, t, torch.ones(len(s)), group, **options)

        assert loss(s).isfinite() and loss(s) >= 0 and gradient(loss, s).isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_losses_are_finite_and_never_negative(name: str, data: st.DataObject) -> None:
    logit = st.floats(-50, 50) | st.sampled_from([-1.0, 0.0, 1.0])
    row = st.tuples(logit, logit | st.just(math.nan), st.floats(0, 3), st.integers(-2, 2))
    rows = data.draw(st.lists(row, max_size=12))
    s, t, w, group = (torch.tensor([r[k] for r in rows], dtype=F64) for k in range(4))
    options = data.draw(st.sampled_from([options for other, options in CASES if other == name]))

    def loss(s: Tensor) -> Tensor:
        return LOSSES[name](s, t, w, group.long(), **options)

    assert loss(s).isfinite() and loss(s) >= -1e-9 and gradient(loss, s).isfinite().all()
    if name in VALUES:
        same = t.nan_to_num(3.0)
        assert loss(same).item() == pytest.approx(0, abs=1e-9)
        assert torch.allclose(gradient(loss, same), torch.zeros(len(s), dtype=F64), atol=1e-9)


def test_a_long_list_among_many_short_ones_makes_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """2000 rows and 2000 lists of 2: pairs are 2000 * 2001 / 2 + 2000 * 3; padded lists would be 8 * 10^9."""
    group = torch.cat([torch.full((2000,), -1), torch.arange(4000) // 2])
    s, t = normal(6000, seed=1), normal(6000, seed=2)
    asked: list[int] = []
    pairs = distill._pairs
    monkeypatch.setattr(distill, "_pairs", lambda count: asked.append(int(count.sum())) or pairs(count))
    short = pairwise(s[2000:], t[2000:], torch.ones(4000), group[2000:]).item()
    assert pairwise(s, t, torch.ones(6000), group).item() == pytest.approx(
        (2000 * short + pairwise(s[:2000], t[:2000], torch.ones(2000), group[:2000]).item()) / 2001
    )
    assert asked[:2] == [6000, 2000 * 2001 // 2 + 6000]
    plackett_luce(s, t, torch.ones(6000), group)
    assert asked[-1] <= 10 * 6000


# -- by the teacher's values -------------------------------------------------------------------------------------------


def test_the_gradient_of_kl_is_the_difference_of_probabilities() -> None:
    s, t, w = normal(50, seed=1), normal(50, seed=2) * 2, normal(50, seed=3).abs()
    g = gradient(lambda s: kl(s, t, w, ONE_LIST), s)
    assert torch.allclose(g, w / 50 * (s.sigmoid() - t.sigmoid()), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("loss", "share"), [(kl, 1 / 8), (mse_logit, 1.0), (mse_prob, 1 / 16)])
def test_at_high_temperature_losses_of_rows_are_a_share_of_the_squared_gap(loss: distill.Loss, share: float) -> None:
    s, t, w = normal(10, seed=1) * 3, normal(10, seed=2) * 3, normal(10, seed=3).abs()
    hot = {} if loss is mse_logit else {"temperature": 1e4}
    expected = share * (w * (s - t).square()).mean()
    assert loss(s, t, w, ONE_LIST[:10], **hot).item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize(("loss", "share"), [(listwise, 1 / 2), (listwise_calibrated, 1 / 8)])
def test_at_high_temperature_losses_of_lists_are_a_share_of_the_gap_within(loss: distill.Loss, share: float) -> None:
    s, t, w = normal(10, seed=1) * 3, normal(10, seed=2) * 3, normal(10, seed=3).abs()
    gap = (s - s.mean()) - (t - t.mean())
    value = loss(s, t, w, ONE_LIST[:10], temperature=1e3)
    assert value.item() == pytest.approx(share * (w * gap.square()).mean().item(), rel=2e-2)


@pytest.mark.parametrize("name", ["kl", "mse_prob", "listwise", "listwise_calibrated"])
def test_temperature_divides_both_logits_and_is_used(name: str) -> None:
    """torch-rechub's DSSM documents a temperature that its forward ignores."""
    s, t, w, group = batch()
    loss = LOSSES[name]
    warm = loss(s, t, w, group, temperature=2.0).item()
    assert warm == pytest.approx(4 * loss(s / 2, t / 2, w, group).item(), rel=1e-12)
    assert warm != pytest.approx(loss(s, t, w, group).item(), rel=0.01)


def test_only_these_losses_have_a_temperature() -> None:
    named = {name for name, loss in LOSSES.items() if "temperature" in inspect.signature(loss).parameters}
    assert named == {"kl", "mse_prob", "listwise", "listwise_calibrated"}


@pytest.mark.parametrize("name", ["kl", "mse_logit", "mse_prob", "listwise_calibrated"])
def test_probability_labels_are_not_mapped_to_p_over_one_plus_p(name: str) -> None:
    """EasyRec's CROSS_ENTROPY learns p / (1 + p): at p = .5 a student of .333. Ours must learn .5."""
    p = torch.tensor([0.02, 0.5, 0.9], dtype=F64)
    one, group = torch.ones(3), ONE_LIST[:3]

    def slope(p: Tensor) -> float:
        return gradient(lambda s: LOSSES[name](s, t, one, group), torch.logit(p)).abs().max().item()

    t = torch.logit(p)
    assert slope(p) < 1e-15 < 1e-3 < slope(p / (1 + p))
    s = (t + 0.3 * torch.tensor([1.0, -1.0, 2.0])).requires_grad_()
    other = LOSSES["kl"] if name == "listwise_calibrated" else (lambda *_: torch.zeros(()))  # it has a scale free
    step = torch.optim.LBFGS([s], lr=1, max_iter=300, tolerance_grad=1e-14, tolerance_change=0, history_size=9)

    def closure() -> Tensor:
        step.zero_grad()
        loss = LOSSES[name](s, t, one, group) + other(s, t, one, group)
        loss.backward()
        return loss

    step.step(closure)
    assert torch.allclose(s.detach().sigmoid(), p, atol=1e-6)


def test_the_calibrated_form_shares_the_minimum_of_kl_and_the_softmax_form_a_line_of_them() -> None:
    _, t, w, group = batch()
    t = t.nan_to_num(-1.0)
    shifted = t + group / 1000
    for s in (t, shifted):
        assert gradient(lambda s: listwise(s, t, w, group), s).abs().max() < 1e-15, "it leaves calibration to others"
    assert gradient(lambda s: listwise_calibrated(s, t, w, group), t).abs().max() == 0, "under unequal weights, too"
    assert gradient(lambda s: listwise_calibrated(s, t, w, group), shifted).abs().max() > 1e-3
    for seed in range(20):
        assert listwise_calibrated(t + 0.1 * normal(60, seed=seed), t, w, group) > 0


# -- by the teacher's order --------------------------------------------------------------------------------------------


@cases()
def test_shifts_within_a_list(name: str, options: dict[str, Any]) -> None:
    s, t, w, group = batch()
    loss = LOSSES[name]
    value = loss(s, t, w, group, **options).item()
    by_list, by_row = group / 1000, torch.arange(60) / 60
    seen = loss(s + by_list, t, w, group, **options).item() != pytest.approx(value, rel=1e-6)
    assert seen == (name not in BLIND)
    assert loss(s + by_row, t, w, group, **options).item() != pytest.approx(value, rel=1e-6), "only to a constant"
    assert loss(s * 1.1, t, w, group, **options).item() != pytest.approx(value, rel=1e-6), "nor to a scale"


@cases()
def test_a_shift_of_the_teacher_in_a_list(name: str, options: dict[str, Any]) -> None:
    """Needs no calibrated teacher: listwise, and what uses the order alone; ndcg takes gains from probabilities."""
    s, t, w, group = batch()
    value = LOSSES[name](s, t, w, group, **options).item()
    seen = LOSSES[name](s, t + group / 1000, w, group, **options).item() != pytest.approx(value, rel=1e-6)
    blind = name in {"listwise", "margin_mse", "rank_weight", "plackett_luce"} or options.get("pair_weight") in {
        "uniform",
        "gap",
    }
    assert seen == (not blind)


@cases("pairwise", "rank_weight", "plackett_luce")
def test_the_order_alone_teaches_and_sets_no_logit(name: str, options: dict[str, Any]) -> None:
    """EasyRec's pairwise hinge with an exponent sets logits from labels. In ours s = t is no rest."""
    s, t, w, group = batch()

    def g(t: Tensor, s: Tensor = s) -> Tensor:
        return gradient(lambda s: LOSSES[name](s, t, w, group, **options), s)

    same = torch.equal(g(t), g(t**3 / 50 + t))
    assert same == (options.get("pair_weight") not in {"gap", "ndcg"})
    at_teacher = t.nan_to_num(0.0)
    assert g(t, at_teacher).abs().max() > 1e-3
    better = at_teacher * 3  # the same order, further apart: RankNet and Plackett-Luce like it better still
    if name == "pairwise":
        value = [LOSSES[name](x, t, w, group, **options) for x in (better, at_teacher, -at_teacher)]
        assert value[0] < value[1] < value[2]


@pytest.mark.parametrize("pair_weight", get_args(PairWeight))
def test_ties_make_no_pair(pair_weight: PairWeight) -> None:
    s, one = torch.tensor([0.3, -1.0, 2.0], dtype=F64), torch.ones(3)
    tied = torch.full((3,), 0.7, dtype=F64)
    assert pairwise(s, tied, one, ONE_LIST[:3], pair_weight=pair_weight) == 0
    t = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    g = gradient(lambda s: pairwise(s, t, one, ONE_LIST[:3]), s)
    assert g[1].item() == pytest.approx(torch.sigmoid(s[1] - s[0]).item() / 2), "one pair, its own difference, of two"
    both = pairwise(torch.cat([s, s]), torch.cat([t, tied]), torch.ones(6), torch.arange(6) // 3)
    assert both.item() == pytest.approx(pairwise(s, t, one, ONE_LIST[:3]).item() / 2), "a list without pairs counts"


def test_ndcg_weighs_pairs_by_the_students_places() -> None:
    t = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=F64)
    s = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=F64)  # the reverse: the teacher's best is last
    dcg = sum(p / math.log2(r + 2) for r, p in enumerate(t.sigmoid().tolist()))
    pairs = {
        (i, j): (t[i].sigmoid() - t[j].sigmoid()).item() * abs(1 / math.log2(5 - i) - 1 / math.log2(5 - j)) / dcg
        for i, j in itertools.combinations(range(4), 2)
    }
    expected = sum(v * math.log1p(math.exp(s[j] - s[i])) for (i, j), v in pairs.items()) / 6
    assert pairwise(s, t, torch.ones(4), ONE_LIST[:4], pair_weight="ndcg").item() == pytest.approx(expected)
    low = pairwise(s, t - 2000, torch.ones(4), ONE_LIST[:4], pair_weight="ndcg").item()
    assert low == pytest.approx(pairwise(s, t - 40, torch.ones(4), ONE_LIST[:4], pair_weight="ndcg").item()), (
        "not 0 / 0"
    )


def test_rank_weights_are_of_places_that_ties_share() -> None:
    """At s = 0 the gradient of a row is -v_r / 2 over the sum of v."""
    t = torch.tensor([3.0, 1.0, 1.0, -5.0], dtype=F64)  # places 1, 2, 2, 4
    expected = {
        "exponential": [math.exp(-1 / 2), math.exp(-2 / 2), math.exp(-2 / 2), math.exp(-4 / 2)],
        "logarithmic": [1.0, 1 / math.log2(3), 1 / math.log2(3), 1 / math.log2(5)],
        "linear": [1.0, 0.75, 0.75, 0.25],
    }
    assert set(expected) == set(get_args(Decay))
    for decay, v in expected.items():
        options = {"decay": decay, "decay_lambda": 2.0}
        g = gradient(lambda s, o=options: rank_weight(s, t, torch.ones(4), ONE_LIST[:4], **o), torch.zeros(4))
        assert (-2 * g).tolist() == pytest.approx([x / sum(v) for x in v])
    tail = torch.tensor([-5.0, -6.0], dtype=F64)  # its best ties with the worst of the list before it
    g = gradient(
        lambda s: rank_weight(s, torch.cat([t, tail]), torch.ones(6), torch.arange(6) // 4, decay="linear"),
        torch.zeros(6),
    )
    assert (-4 * g).tolist() == pytest.approx([1 / 2.75, 0.75 / 2.75, 0.75 / 2.75, 0.25 / 2.75, 1 / 1.5, 0.5 / 1.5])
    far = rank_weight(t, t, torch.ones(4), ONE_LIST[:4], decay_lambda=1e-4)
    assert far.item() == pytest.approx(math.log1p(math.exp(-3))), "all weight on the best, not 0 / 0"


def test_plackett_luce_orders_the_top_and_leaves_the_others_free() -> None:
    t = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0], dtype=F64)
    s, one, group = normal(5), torch.ones(5), ONE_LIST[:5]

    def loss(s: Tensor, t: Tensor = t) -> float:
        return plackett_luce(s, t, one, group, top_k=2).item()

    free, top = torch.tensor([0, 1, 4, 2, 3]), torch.tensor([1, 0, 2, 3, 4])
    assert loss(s[free]) == pytest.approx(loss(s)) and loss(s[top]) != pytest.approx(loss(s))
    assert loss(torch.zeros(5, dtype=F64)) == pytest.approx((math.log(5) + math.log(4)) / 2)
    tied = torch.tensor([3.0, 3.0, 1.0, 0.0, -1.0], dtype=F64)
    assert loss(s, tied) == loss(s), "the first of a tie goes first"
    whole = plackett_luce(torch.zeros(5, dtype=F64), t, one, group, top_k=99).item()
    assert whole == pytest.approx(math.log(120) / 5)


# -- lists by popularity -----------------------------------------------------------------------------------------------


def test_strata_have_about_equal_totals_and_never_part_ties() -> None:
    counts = torch.tensor([8, 1, 1, 4, 1, 1, 4, 0])
    assert strata(counts, 3).tolist() == [2, 0, 0, 1, 0, 0, 1, 0]  # totals 4, 8, 8 of 20
    assert strata(counts, 1).tolist() == [0] * 8
    assert strata(torch.tensor([5, 5, 5]), 4).unique().numel() == 1
    assert strata(torch.zeros(3, dtype=torch.long), 4).tolist() == [0, 0, 0]
    assert strata(counts[:0], 4).tolist() == []
    long_tail = (1e5 / torch.arange(1, 5001)).long()
    chosen = strata(long_tail, 5)
    totals = torch.bincount(chosen, long_tail.double(), minlength=5) / long_tail.sum()
    assert (totals - 0.2).abs().max() < 0.05 and chosen.dtype == torch.long
    assert (torch.bincount(chosen).diff() < 0).all(), "few popular items weigh as much as many rare ones"


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 6))
def test_strata_follow_the_counts(counts: list[int], k: int) -> None:
    pairs = sorted(zip(counts, strata(torch.tensor(counts, dtype=torch.long), k).tolist(), strict=True))
    assert all(0 <= stratum < k for _, stratum in pairs)
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(pairs))
    assert len(set(pairs)) == len(set(counts)), "one stratum a count"


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62) | st.integers(-2, 2), st.integers(-2, 2)), max_size=30))
def test_within_numbers_the_distinct_pairs(rows: list[tuple[int, int]]) -> None:
    group, stratum = (torch.tensor([r[k] for r in rows], dtype=torch.long) for k in range(2))
    number = within(group, stratum).tolist()
    assert sorted(set(number)) == list(range(len(set(rows))))
    assert len(set(zip(rows, number, strict=True))) == len(set(rows))
