"""A student's tower by hand: the same numbers and gradients as the layers it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmtl_cli.nn import layers as nn_layers
from dmtl_cli.nn.kernels import products
from dmtl_cli.nn.layers import TowerLayers

WIDTHS = (112, 16, 0, 1)
"""of the parts of an input; a side without numbers has one of none"""


@pytest.fixture(params=["oneDNN", "torch"], autouse=True)
def by_hand_of_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By either library, whatever this processor has."""
    if request.param == "oneDNN" and not products.there():
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(products, "faster", lambda: request.param == "oneDNN")
    monkeypatch.setattr(nn_layers, "FEW", 0)


def gradients(layers: TowerLayers, parts: list[Tensor], out: Tensor) -> list[Tensor]:
    """Of parts and parameters, by fixed gradients of the vectors."""
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    return list(torch.autograd.grad(out, [*parts, *layers.parameters()], direction))


@pytest.mark.parametrize("rows", [1, 63, 64, 700])
@pytest.mark.parametrize("wide", [True, False], ids=["wide", "deep"])
@pytest.mark.parametrize("units", [(128, 64), (96, 80, 64), (64,)], ids=str)
def test_a_tower_is_its_layers(rows: int, wide: bool, units: tuple[int, ...]) -> None:
    torch.manual_seed(rows)
    layers = TowerLayers(sum(WIDTHS), units, wide=wide)
    parts = [torch.randn(rows, width, requires_grad=True) for width in WIDTHS]
    by_hand = layers.of_parts(parts)
    assert by_hand.shape == (rows, 64)

    exact = TowerLayers(sum(WIDTHS), units, wide=wide).double()
    exact.load_state_dict(layers.state_dict())
    wider = [x.detach().double().requires_grad_() for x in parts]
    plain = exact(torch.cat(wider, 1))
    torch.testing.assert_close(by_hand.double(), plain, rtol=1e-5, atol=1e-5)
    found, expected = gradients(layers, parts, by_hand), gradients(exact, wider, plain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_a_tower_of_float64_has_exact_gradients() -> None:
    torch.manual_seed(0)
    layers = TowerLayers(7, (5, 3), wide=True).double()
    parts = [torch.randn(4, width, dtype=torch.float64, requires_grad=True) for width in (4, 3)]
    assert torch.autograd.gradcheck(lambda *x: layers.of_parts(x), parts)


@pytest.mark.parametrize("wide", [True, False], ids=["wide", "deep"])
def test_a_tower_in_bfloat16_is_that_of_autograd_but_for_rounding(wide: bool) -> None:
    """And no further from the exact one: sums are rounded elsewhere, each number to 8 bits."""
    torch.manual_seed(0)
    layers = TowerLayers(sum(WIDTHS), (128, 64), wide=wide)
    parts = [torch.randn(700, width, requires_grad=True) for width in WIDTHS]
    exact = layers(torch.cat(parts, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        by_hand, plain = layers.of_parts(parts), layers(torch.cat(parts, 1))
    assert "Tower" in type(by_hand.grad_fn).__name__ and by_hand.dtype == plain.dtype == torch.bfloat16
    numbers = [[out, *gradients(layers, parts, out)] for out in (exact, by_hand, plain)]
    for true, mine, theirs in zip(*numbers, strict=True):
        assert theirs.dtype == mine.dtype
        if true.numel():
            far, as_far = ((x - true).norm() / true.norm() for x in (mine, theirs))
            assert far < 1.2 * as_far < 0.1, (far, as_far)


def test_a_small_tower_is_that_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, parts = TowerLayers(32, (16, 8), wide=True), [torch.randn(9, 32)]
    assert "Tower" in type(layers.of_parts(parts).grad_fn).__name__
    monkeypatch.setattr(nn_layers, "FEW", 10)
    small = layers.of_parts(parts)
    assert "Tower" not in type(small.grad_fn).__name__ and torch.equal(small, layers(parts[0]))
