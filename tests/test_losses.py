"""Losses against their naive formulas, their gradients against autograd, and what they do at the extremes."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from dmtl_cli.nn import losses
from dmtl_cli.nn.losses import log1mexp, pointwise, sampled_softmax, teacher_loss, weighted_mean

F64 = torch.float64
EXTREMES = [-80.0, -30.0, -1.0, 0.0, 1.0, 30.0, 80.0]
each_type = pytest.mark.parametrize("dtype", [torch.float32, F64])


def normal(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def gradient(f: Callable[..., Tensor], *at: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(f(*at), at)


# -- log1mexp and the mean ---------------------------------------------------------------------------------------------


def test_log1mexp_is_the_naive_formula_where_that_is_exact() -> None:
    x = torch.tensor([-3.0, -1.0, -0.7, -math.log(2), -0.69, -0.1], dtype=F64, requires_grad=True)
    assert torch.allclose(log1mexp(x), torch.log(1 - torch.exp(x)), rtol=1e-13)
    assert gradcheck(log1mexp, (x,))


@each_type
def test_log1mexp_is_exact_and_has_finite_gradients_at_both_ends(dtype: torch.dtype) -> None:
    x = torch.tensor([-1e-30, -1e-10, -200.0, -1e30, 0.0], dtype=dtype, requires_grad=True)
    y = log1mexp(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    expected = torch.tensor([-30 * math.log(10), -10 * math.log(10), -math.exp(-200), 0.0], dtype=dtype)
    assert torch.allclose(y[:4], expected, rtol=1e-6, atol=0)
    assert y.isfinite().all() and g.isfinite().all()


def test_weighted_mean_counts_weights_and_is_zero_without_any() -> None:
    loss = torch.tensor([1.0, 2.0, math.inf], requires_grad=True)
    assert weighted_mean(loss, torch.tensor([1.0, 3.0, 0.0])).item() == pytest.approx(1.75)
    for w in (torch.zeros(3), torch.tensor([False, False, False])):
        (g,) = gradient(lambda x, w=w: weighted_mean(x, w), loss)
        assert weighted_mean(loss, w) == 0 and (g == 0).all()
    assert weighted_mean(torch.zeros(0), torch.zeros(0)) == 0


# -- teacher -----------------------------------------------------------------------------------------------------------


def naive_teacher(a: Tensor, c: Tensor, y: Tensor, z: Tensor, known: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    def bce(p: Tensor, label: Tensor) -> Tensor:
        return -(label * p.log() + (1 - label) * (1 - p).log())

    def mean(loss: Tensor, weight: Tensor) -> Tensor:
        return (loss * weight).sum() / weight.sum()

    ctr, cvr = a.sigmoid(), c.sigmoid()
    return mean(bce(ctr, y), w), mean(bce(ctr * cvr, z), w * known), mean(bce(cvr, z), w * known * y)


def taught(
    a: Tensor, c: Tensor, y: Tensor, z: Tensor, known: Tensor, w: Tensor, *weights: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the tasks ctr and cvr; weights of ctr, ctcvr and cvr."""
    by_name = dict(zip(("ctr", "ctcvr", "cvr"), weights, strict=True))
    return teacher_loss({"ctr": a, "cvr": c}, y, {"cvr": (z, known)}, w, by_name)


def teacher_rows(n: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = normal(n, seed=3) > -0.5
    z = y & (normal(n, seed=4) > 0)
    known = ~y | (normal(n, seed=5) > -1)
    return y, z, known, normal(n, seed=6).abs()


def test_teacher_loss_is_the_naive_formula_with_its_gradient() -> None:
    a, c = normal(64, seed=1, grad=True), normal(64, seed=2, grad=True)
    y, z, known, w = teacher_rows()
    weights = (0.7, 1.3, 0.4)

    def naive(a: Tensor, c: Tensor) -> Tensor:
        parts = naive_teacher(a, c, y.double(), z.double(), known.double(), w)
        return sum((k * p for k, p in zip(weights, parts, strict=True)), torch.zeros(()))

    def ours(a: Tensor, c: Tensor) -> Tensor:
        return taught(a, c, y, z, known, w, *weights)[0]

    total, parts = taught(a, c, y, z, known, w, *weights)
    assert total.item() == pytest.approx(naive(a, c).item(), rel=1e-12)
    expected = naive_teacher(a, c, y.double(), z.double(), known.double(), w)
    assert [parts[k].item() for k in ("ctr", "ctcvr", "cvr")] == pytest.approx([p.item() for p in expected], rel=1e-12)
    assert not any(p.requires_grad for p in parts.values())
    for mine, theirs in zip(gradient(ours, a, c), gradient(naive, a, c), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-14)
    assert gradcheck(ours, (a, c))


def test_the_logit_of_a_product_is_log_p_less_log1mexp() -> None:
    a, c = normal(200, seed=7) * 6, normal(200, seed=8) * 6
    log_p = F.logsigmoid(a) + F.logsigmoid(c)
    one = torch.ones(200)
    loss = [taught(a[i : i + 1], c[i : i + 1], one[:1], one[:1], one[:1], one[:1], 0, 1, 0)[0] for i in range(200)]
    assert torch.allclose(torch.stack(loss), -log_p, rtol=1e-12)
    zero = torch.zeros(1)
    loss = [taught(a[i : i + 1], c[i : i + 1], zero, zero, one[:1], one[:1], 0, 1, 0)[0] for i in range(200)]
    assert torch.allclose(torch.stack(loss), -log1mexp(log_p), rtol=1e-9)


@each_type
@pytest.mark.parametrize("label", [(0, 0), (1, 0), (1, 1)])
def test_teacher_loss_is_finite_at_extreme_logits(dtype: torch.dtype, label: tuple[int, int]) -> None:
    values = torch.tensor([-1000.0, *EXTREMES, 1000.0], dtype=dtype)
    a, c = (v.flatten().requires_grad_() for v in torch.meshgrid(values, values, indexing="ij"))
    y, z = (torch.full(a.shape, v) for v in label)
    one = torch.ones(a.shape)
    total, _ = taught(a, c, y, z, one, one, 1, 1, 1)
    assert total.isfinite() and total >= 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(total, (a, c)))


def test_unknown_conversions_have_no_gradient_and_unclicked_rows_are_negatives() -> None:
    a, c = normal(4, seed=1, grad=True), normal(4, seed=2, grad=True)
    y, known, one = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 1]), torch.ones(4)
    z = torch.tensor([1.0, math.nan, 0.0, 0.0])

    def ctcvr(a: Tensor, c: Tensor) -> Tensor:
        return taught(a, c, y, z, known, one, 0, 1, 1)[0]

    ga, gc = gradient(ctcvr, a, c)
    assert ga[1] == 0 and gc[1] == 0 and (ga[[0, 2, 3]] != 0).all()
    longer = torch.tensor([1.0, 0.0, 1.0, 0.0])  # an unclicked row may carry a duration
    assert taught(a, c, y, longer, known, one, 0, 1, 1)[0] == ctcvr(a, c)
    (g,) = torch.autograd.grad(taught(a, c, y, z, known, one, 0, 0, 1)[0], c)
    assert (g[1:] == 0).all() and g[0] < 0, "cvr is learned from clicked rows alone"


def test_teacher_loss_without_a_click_or_a_known_row_is_zero() -> None:
    a, c = normal(3, grad=True), normal(3, seed=1, grad=True)
    zero, one = torch.zeros(3), torch.ones(3)
    _, parts = taught(a, c, zero, zero, one, one, 1, 1, 1)
    assert parts["cvr"] == 0 and parts["ctcvr"] > 0
    total, _ = taught(a, c, one, zero, zero, one, 0, 1, 1)
    assert total == 0 and all((g == 0).all() for g in torch.autograd.grad(total, (a, c)))


def test_each_conversion_has_two_losses_of_its_own_weight() -> None:
    a, c, d = (normal(64, seed=k, grad=True) for k in (1, 2, 9))
    y, z, known, w = teacher_rows()
    z_d, known_d = normal(64, seed=10) > 0, normal(64, seed=11) > -1
    weights = {"ctr": 0.7, "ctcvr": 1.3, "cvr": 0.4, "ctlike": 0.9, "like": 2.5}
    conversions = {"cvr": (z, known), "like": (z_d, known_d)}
    total, parts = teacher_loss({"ctr": a, "cvr": c, "like": d}, y, conversions, w, weights)
    assert list(parts) == list(weights)
    of_cvr = taught(a, c, y, z, known, w, 0.7, 1.3, 0.4)
    of_like = taught(a, d, y, z_d, known_d, w, 0, 0.9, 2.5)
    assert total.item() == pytest.approx((of_cvr[0] + of_like[0]).item(), rel=1e-12)
    assert [parts["ctlike"], parts["like"]] == [of_like[1]["ctcvr"], of_like[1]["cvr"]]
    assert parts["like"] != parts["cvr"] and parts["ctlike"] != parts["ctcvr"]
    assert all(x.abs().sum() > 0 for x in torch.autograd.grad(total, (a, c, d)))


# -- hard labels -------------------------------------------------------------------------------------------------------


Softmax = Callable[..., Tensor]


def whole_matrix(
    u: Tensor, v: Tensor, scale: Tensor | float, log_q: Tensor, user: Tensor, item: Tensor, w: Tensor
) -> Tensor:
    """The definition, row by row: B x B logits, an accidental hit masked."""
    logits = scale * u[user] @ v[item].T - log_q[item]
    hit = (item[:, None] == item) & ~torch.eye(len(item), dtype=torch.bool)
    logits = logits.masked_fill(hit, -math.inf)
    return weighted_mean(torch.logsumexp(logits, 1) - logits.diagonal(), w)


def each_its_own(softmax: Softmax, u: Tensor, v: Tensor, scale: Tensor | float, log_q: Tensor, w: Tensor) -> Tensor:
    """Rows that share no user and no item."""
    return softmax(u, v, scale, log_q, torch.arange(len(u)), torch.arange(len(v)), w)


def test_sampled_softmax_is_cross_entropy_on_corrected_logits() -> None:
    u, v, log_q, w = normal(6, 3, seed=1), normal(6, 3, seed=2), normal(6, seed=3), normal(6, seed=4).abs()
    loss = F.cross_entropy(2.5 * u @ v.T - log_q, torch.arange(6), reduction="none")
    found = each_its_own(sampled_softmax, u, v, 2.5, log_q, w)
    assert found.item() == pytest.approx(((w * loss).sum() / w.sum()).item())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("users", [1, 4, 30])
@pytest.mark.parametrize("items", [1, 3, 30])
def test_sampled_softmax_is_its_definition(
    users: int, items: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_SOFTMAX_USERS", 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    u, v, scale = normal(users, 3, seed=1, grad=True), normal(items, 3, seed=2, grad=True), torch.tensor(2.5, dtype=F64)
    log_q, w, g = normal(items, seed=3), normal(25, seed=4).clamp(min=0), torch.Generator().manual_seed(1)
    index = torch.randint(users, (25,), generator=g), torch.randint(items, (25,), generator=g)
    scale.requires_grad_()
    found, plain = ([f(u, v, scale, log_q, *index, w)] for f in (sampled_softmax, whole_matrix))
    for x in (found, plain):
        x += torch.autograd.grad(3 * x[0], (u, v, scale))
    torch.set_num_threads(before)
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_accidental_hits_are_no_negatives() -> None:
    u, v = torch.zeros(4, 2), torch.zeros(2, 2)
    one, flat, user = torch.ones(4), torch.zeros(4), torch.arange(4)
    assert each_its_own(sampled_softmax, u, u, 1.0, flat, one) == pytest.approx(math.log(4))
    item = torch.tensor([0, 0, 0, 1])  # rows 0 to 2 compete with item 1 alone, row 3 with three of item 0
    found = sampled_softmax(u, v, 1.0, flat[:2], user, item, one)
    assert found == pytest.approx((3 * math.log(2) + math.log(4)) / 4)
    assert sampled_softmax(u, v, 1.0, flat[:2], user, item * 0, one).item() == pytest.approx(0, abs=1e-6)
    last = torch.tensor([0.0, 0, 0, 2])
    assert sampled_softmax(u, v, 1.0, flat[:2], user, item, last) == pytest.approx(math.log(4))
    # the correction takes the positive's own frequency into account: q = (1/2, 1/4) -> softmax over (2, 4)
    log_q = torch.tensor([0.5, 0.25]).log()
    first = each_its_own(sampled_softmax, u[:2], v, 1.0, log_q, torch.tensor([1.0, 0.0]))
    assert first == pytest.approx(math.log(3))


def test_rows_without_weight_are_negatives_and_the_scale_is_used() -> None:
    u, v = normal(3, 2, seed=1, grad=True), normal(3, 2, seed=2, grad=True)
    flat, w = torch.zeros(3, dtype=F64), torch.tensor([1.0, 1.0, 0.0])
    gu, gv = gradient(lambda u, v: each_its_own(sampled_softmax, u, v, 1.0, flat, w), u, v)
    assert (gu[2] == 0).all() and (gv[2] != 0).all()
    found = (each_its_own(sampled_softmax, u, v, scale, flat, w) for scale in (1.0, 5.0))
    assert next(found) != next(found)


@each_type
def test_sampled_softmax_of_few_rows_and_of_extreme_ones_is_finite(dtype: torch.dtype) -> None:
    for n in (0, 1):
        u = torch.ones(n, 2, dtype=dtype, requires_grad=True)
        loss = each_its_own(sampled_softmax, u, u, 1.0, torch.zeros(n, dtype=dtype), torch.ones(n))
        (g,) = torch.autograd.grad(loss, u)
        assert loss == 0 and (g == 0).all()
    u = torch.tensor([[1.0], [-1.0]], dtype=dtype, requires_grad=True)
    loss = each_its_own(sampled_softmax, u, u.flip(0), 80.0, torch.zeros(2, dtype=dtype), torch.ones(2))
    assert loss.item() == pytest.approx(160) and torch.autograd.grad(loss, u)[0].isfinite().all()
    nothing = sampled_softmax(u, u, 1.0, torch.zeros(2, dtype=dtype), *[torch.zeros(0, dtype=torch.int64)] * 2, u[:0])
    assert nothing == 0 and (torch.autograd.grad(nothing, u)[0] == 0).all()


def test_pointwise_is_bce_with_logits() -> None:
    s, y, w = normal(20, grad=True), normal(20, seed=1) > 0, normal(20, seed=2).abs()
    expected = F.binary_cross_entropy_with_logits(s, y.double(), w, reduction="sum") / w.sum()
    assert pointwise(s, y, w).item() == pytest.approx(expected.item())
    assert gradcheck(lambda s: pointwise(s, y, w), (s,))
