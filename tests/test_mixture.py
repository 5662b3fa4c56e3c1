"""The mixture by hand against plain autograd of the same network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dmtl_cli.nn.kernels import mixture as by_hand
from dmtl_cli.nn.kernels import products
from dmtl_cli.nn.layers import FirstInput
from dmtl_cli.teacher.networks import mmoe, network
from dmtl_cli.teacher.networks.mmoe import MMoE
from dmtl_cli.teacher.networks.network import Network, dropped_experts

USERS, ITEMS, R = 5, 7, 3


@pytest.fixture(params=[1, 2, 3, 6], ids=lambda n: f"{n} threads", autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=[4, 1024], ids=["chunks of 4", "one chunk"], autouse=True)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "CHUNK", request.param)
    monkeypatch.setattr(mmoe, "FEW", 0)


def a_network(units: tuple[int, ...] = (6, 5), tasks: int = 2, context: int = R, **more: Any) -> MMoE:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"num_experts": 3, "tower_hidden_units": (4,), "num_tasks": tasks} | more
    net = MMoE((2, 4, context), expert_hidden_units=units, **shape)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net


def an_input(net: MMoE, rows: int, dtype: torch.dtype = torch.float64) -> FirstInput:
    torch.manual_seed(1)
    shapes = zip((USERS, ITEMS, rows), net.first.weights, strict=True)
    user, item, x = (torch.randn(n, weight.shape[1], dtype=dtype) for n, weight in shapes)
    index = torch.randint(USERS, (rows,)), torch.randint(ITEMS, (rows,))
    return FirstInput(user.requires_grad_(), item.requires_grad_(), *index, x.requires_grad_())


def results(net: MMoE, x: FirstInput, *, plain: bool) -> list[Tensor]:
    """Logits, gates, and gradients of everything that has one."""
    logits, gates = Network.of_parts(net, net.first.parts(x)) if plain else net(x)
    wanted = [t for t in (*x, *net.parameters()) if t.requires_grad and t.numel()]
    loss = (torch.sin(torch.arange(logits.numel(), dtype=logits.dtype)).view_as(logits) * logits).sum()
    return [logits, gates, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("units", [(6,), (6, 5), (6, 5, 4)], ids=str)
@pytest.mark.parametrize(("rows", "tasks", "context"), [(11, 2, R), (1, 3, R), (8, 1, 0)])
def test_it_is_the_plain_network(units: tuple[int, ...], rows: int, tasks: int, context: int) -> None:
    net = a_network(units, tasks, context).double()
    first = an_input(net, rows)
    for ours, plain in zip(results(net, first, plain=False), results(net, first, plain=True), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("units", [(6,), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("rows", [5, 50], ids=["fewer than users and items", "more"])
def test_without_gradients_it_is_the_same(units: tuple[int, ...], rows: int) -> None:
    net = a_network(units).eval()
    first = an_input(net, rows, torch.float32)
    grown = net(first)
    with torch.no_grad():
        for found in (net(first), net.of_parts(net.first.parts(first))):
            for ours, theirs in zip(found, grown, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_parts_that_are_there_take_gradients_too() -> None:
    """By plain autograd, as whoever asks for them has no batch."""
    net = a_network().double()
    first = an_input(net, 11)
    for ours, plain in zip(net.of_parts(net.first.parts(first)), net(first), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_no_rows() -> None:
    net = a_network()
    logits, gates = net(an_input(net, 0, torch.float32))
    logits.sum().backward()
    assert logits.shape == (0, 2) and gates.shape == (0, 2, 3)


def test_a_gradient_by_differences() -> None:
    net = a_network().double()
    first = an_input(net, 9)
    moved = [first.user, first.item, first.row, *net.first.parameters(), *net.experts.parameters()]
    gradient = torch.autograd.grad(net(first)[0].sum(), moved)
    direction = [torch.randn_like(t) for t in moved]
    by_gradient = float(sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)))
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for t, d in zip(moved, direction, strict=True):
                t.add_(step * d)
            ends.append(float(net(first)[0].sum()))
    assert by_gradient == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.skipif(not products.there(), reason="torch has no oneDNN here")
@pytest.mark.parametrize("context", [0, R])
def test_by_onednn_it_is_the_plain_network(monkeypatch: pytest.MonkeyPatch, context: int) -> None:
    """Else so small products are torch's own; what is not finite stays so."""
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(products, "faster", lambda: True)
    net = a_network((6, 5, 4), context=context)
    first = an_input(net, 40, torch.float32)
    for ours, plain in zip(results(net, first, plain=False), results(net, first, plain=True), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        net.experts.weights[0][1, 2] = torch.nan
    assert net(first)[0].isnan().all()


def test_bfloat16_is_close_and_sums_in_float32() -> None:
    net = a_network((64, 32))
    first = an_input(net, 300, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        logits, gates = net(first)
    assert logits.dtype == gates.dtype == torch.float32, "towers are not part of it"
    scale = torch.linspace(0.5, 1, logits.numel()).view_as(logits)
    moved = [first.user, first.item, *net.first.parameters(), *net.experts.parameters()]  # what many rows add up to
    ours = [logits.float(), gates, *torch.autograd.grad((scale * logits.float()).sum(), moved)]
    logits, gates = net(first)
    exact = [logits, gates, *torch.autograd.grad((scale * logits).sum(), moved)]
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == torch.float32
        assert float(((a - b).norm() / b.norm()).detach()) < 0.03


def test_a_dropped_expert_has_no_part_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside plain autograd with the same experts dropped."""
    net = a_network(gate_dropout=0.5).double()
    first = an_input(net, 40)
    torch.manual_seed(5)
    dropped = dropped_experts(torch.empty(40, 2, 3), 0.5)
    assert 0.2 < float(dropped.double().mean()) < 0.6
    for module in (mmoe, network):
        monkeypatch.setattr(module, "dropped_experts", lambda like, dropout: dropped)
    ours, plain = (results(net, first, plain=plain) for plain in (False, True))
    assert torch.equal(ours[1] == 0, dropped)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert not torch.equal(ours[0], net.eval()(first)[0])


def test_a_graph_has_its_own_activations_once() -> None:
    net = a_network()
    first = an_input(net, 20, torch.float32)
    a, b = net(first)[0].sum(), net(first._replace(item=first.item * 2))[0].sum()  # two graphs alive at once
    alone = torch.autograd.grad(net(first)[0].sum(), first.user)[0]
    other = torch.autograd.grad(b, first.user, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(a, first.user)[0], alone) and not torch.equal(alone, other)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(b, first.user)


def test_the_same_every_time() -> None:
    net = a_network((32, 16))
    first = an_input(net, 500, torch.float32)
    one, two = (results(net, first, plain=False) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_threads_change_rounding_only(threads: int) -> None:
    net = a_network((32, 16))
    first = an_input(net, 500, torch.float32)
    here = results(net, first, plain=False)
    torch.set_num_threads(7 - threads)
    for a, b in zip(here, results(net, first, plain=False), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_fault_in_a_thread_is_raised_and_the_threads_stay(threads: int) -> None:
    net = a_network()
    first = an_input(net, 20, torch.float32)
    with pytest.raises((IndexError, RuntimeError), match="index"):
        net(first._replace(user_index=first.user_index + 10**6))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("rows", "by_hand"), [(15, False), (16, True)])
def test_a_few_rows_take_torchs_own_layers(rows: int, by_hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, kernel = [], mmoe.mixture

    def counted(*args: Any) -> tuple[Tensor, Tensor]:
        calls.append(len(args[0].row))
        return kernel(*args)

    monkeypatch.setattr(mmoe, "FEW", 16)
    monkeypatch.setattr(mmoe, "mixture", counted)
    net = a_network().double()
    x = an_input(net, rows)
    for ours, plain in zip(results(net, x, plain=False), results(net, x, plain=True), strict=True):
        torch.testing.assert_close(ours, plain)
    assert calls == ([rows] if by_hand else [])
