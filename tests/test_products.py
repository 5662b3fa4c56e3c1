"""Products by oneDNN against float64, and against torch's own layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dmtl_cli.nn.kernels import products
from dmtl_cli.nn.kernels.products import Linear, across, linear, product
from dmtl_cli.runs import processor

SHAPES = [(1100, 64, 32), (33, 300, 200), (2048, 2, 600), (700, 256, 9), (1, 1024, 1024), (3, 4, 5), (0, 4, 5)]
"""n, K, M: all but the last two are large enough for oneDNN"""


@pytest.fixture(params=["oneDNN", "torch"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "oneDNN" and not products.there():
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(products, "faster", lambda: request.param == "oneDNN")
    yield request.param


def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


def strided(x: Tensor) -> Tensor:
    """The same numbers within a wider tensor."""
    wide = torch.full((x.shape[0], x.shape[1] + 3), torch.nan, dtype=x.dtype)
    wide[:, 1:-2] = x
    return wide[:, 1:-2]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    n, k, m = shape
    x, weight, bias = some(n, k), some(m, k), some(m)
    true = x.double() @ weight.double().t() + bias.double()
    for a in (x, strided(x), x.t().contiguous().t()):
        for w in (weight, strided(weight), weight.t().contiguous().t(), strided(weight.t().contiguous()).t()):
            torch.testing.assert_close(product(a, w, bias), true.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product(x, weight), (x.double() @ weight.double().t()).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_sum_over_rows(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n, k, m = shape
    a, b = some(n, k, dtype=dtype), some(n, m, dtype=dtype)
    true = a.double().t() @ b.double()
    near = {"rtol": 2e-2, "atol": 0.5} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-3}
    for x, y in ((a, b), (strided(a), strided(b))):
        torch.testing.assert_close(across(x, y), true.to(dtype), **near)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf], ids=str)
def test_what_is_not_finite_stays_so(wrong: float) -> None:
    """Or a training that diverges would not be seen to: neither by its loss nor by its weights."""
    x, weight = some(1100, 64), some(48, 64)
    x[7, 3] = wrong
    assert not product(x, weight)[7].isfinite().any() and product(x, weight)[8:].isfinite().all()
    assert not across(x, some(1100, 48))[3].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_learns_as_torchs_own(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(64, 48, bias=bias, dtype=dtype), nn.Linear(64, 48, bias=bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    x, y = (some(900, 64, dtype=dtype) for _ in range(2))
    y.copy_(x).requires_grad_(), x.requires_grad_()
    weight = some(900, 48, dtype=dtype)
    (ours(x) * weight).sum().backward(), (theirs(y) * weight).sum().backward()
    pairs = [(x, y), *zip(ours.parameters(), theirs.parameters(), strict=True)]
    for a, b in pairs:
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_what_needs_no_gradient_gets_none() -> None:
    x, weight = some(900, 64), some(48, 64).requires_grad_()
    linear(x, weight).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_pays", lambda x, outputs: True)
    monkeypatch.setattr(products, "_onednn", lambda x, w, b=None: nn.functional.linear(x, w, b))
    x, w, b = (some(*s, dtype=torch.float64).requires_grad_() for s in ((5, 3), (4, 3), (4,)))
    assert torch.autograd.gradcheck(linear, (x, w, b))


def test_layers_and_their_gradients_see_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN compiles each shape: 64 numbers of rows are one."""
    shapes, compiled = set[tuple[int, ...]](), products._onednn

    def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.add((*x.shape, *weight.shape))
        return compiled(x, weight, bias)

    monkeypatch.setattr(products, "_onednn", onednn)
    layer = Linear(96, 80)
    for n in range(641, 705):
        x = torch.randn(n, 96, requires_grad=True)
        out = layer(x)
        assert out.shape == (n, 80)
        out.sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape
    assert len(shapes) == (3 if products.faster() else 0), "forward, of the input, of the weights"


def test_a_layer_without_gradients_is_torchs_own() -> None:
    """Bit by bit, so that what is exported is what is computed here."""
    ours, x = Linear(64, 48), some(900, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), nn.functional.linear(x, ours.weight, ours.bias))


def test_bfloat16_under_autocast_is_torchs_own() -> None:
    x, weight = some(900, 64), some(48, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\nflags : avx2 avx512f", True),
        ("vendor_id\t: AuthenticAMD\nflags : avx avx2", False),
        ("vendor_id\t: GenuineIntel\nflags : avx512f", False),
    ],
)
def test_where_mkl_is_no_slower_products_are_torchs_own(
    told: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # of the library
    monkeypatch.setattr(products, "there", lambda: True)
    monkeypatch.setattr(processor, "_told", lambda: told)
    assert products.faster.__wrapped__() is expected
