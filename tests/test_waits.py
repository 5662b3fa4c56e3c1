"""A step on another device than a CPU asks it for no number, so that the host never waits for it.

No such device is here. On `meta` a tensor has no values: what reads one, or has as many rows as values tell, ends with
an error there, and the code takes the same ways as on CUDA.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from test_losses import a_config
from test_models import CONTEXT, ITEM, ITEMS, NETWORKS, USER, USERS, a_student, a_teacher, encoder_of, random_sides
from torch import Tensor

from dmtl_cli.nn import table as tables
from dmtl_cli.nn.batches import known_of
from dmtl_cli.nn.kernels import distinct
from dmtl_cli.nn.layers import Known, Side
from dmtl_cli.nn.table_optimizers import RowWiseAdagrad
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.loss import gate_numbers, pairs_in_order, rates, teacher_loss
from dmtl_cli.teacher.model import Teacher

ENCODER = encoder_of(*USER, *ITEM, *CONTEXT)
CONFIGS = {2: a_config({}), 3: a_config({}, "like")}
"""by number of tasks"""
OF_TASKS = {name: more for name, more in NETWORKS.items() if more.get("num_tasks", 2) in CONFIGS} | {
    "dropped experts": {"gate_dropout": 0.5},
    "normalised": {"batch_norm": True},
}
META = torch.device("meta")


def on_meta(side: Side) -> Side:
    known = tuple(Known(*(x.to(META) for x in each)) for each in side.known)
    return Side(side.ids.to(META), tuple(x.to(META) for x in side.sequences), side.floats.to(META), known)


def labels_of(n: int, tasks: int, device: torch.device) -> TeacherLabels[Tensor]:
    click = (torch.arange(n) % 2 == 0).to(device)
    both = torch.ones(n, tasks - 1, dtype=torch.bool, device=device)
    return TeacherLabels(click, both, both, torch.ones(n, device=device))


def step(model: Teacher, sides: list[Side], device: torch.device, optimizer: RowWiseAdagrad) -> None:
    """A step of the table, with all that a training reports."""
    config, labels = CONFIGS[model.tasks], labels_of(len(USERS), model.tasks, device)
    logits, gates = model(*sides, USERS.to(device), ITEMS.to(device))
    loss, _ = teacher_loss(config, logits, labels)
    gate_numbers(gates, config.tasks.names)
    rates(config, labels)
    pairs_in_order(config, logits.detach(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("more", OF_TASKS.values(), ids=OF_TASKS)
def test_a_teachers_step_reads_nothing(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it knows no meta device
    model = a_teacher(ENCODER, **more).to(META).train()
    sides = [on_meta(side) for side in random_sides(ENCODER, 0)]
    assert any(len(x.value) for side in sides for x in side.known)
    step(model, sides, META, RowWiseAdagrad([model.table.weight], 0.1))


def test_what_reads_is_seen() -> None:
    """The test above would fail: each of these is what a step once did."""
    sequence = torch.ones(3, 4, dtype=torch.int64, device=META)
    for reads in (torch.nonzero, torch.unique, lambda x: bool((x > 0).any()), lambda x: x[x > 0]):
        with pytest.raises((NotImplementedError, RuntimeError)):
            reads(sequence)


def test_a_students_towers_read_nothing() -> None:
    model = a_student(encoder_of(*USER, *ITEM)).to(META).train()
    user, item = (on_meta(side) for side in random_sides(encoder_of(*USER, *ITEM), 0)[:2])
    served, _ = model.heads(user, item, plain=True)
    (served[0].sum() + served[1].sum()).backward()  # type: ignore[no-untyped-call]
    RowWiseAdagrad([model.table.weight], 0.1).step()


def test_its_steps_are_those_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways that only another device takes, taken on a CPU: rows that are given again change nothing."""
    found = []
    for ours in (tables.distinct_rows, lambda rows, table: distinct._padded(rows)):
        monkeypatch.setattr(tables, "distinct_rows", ours)
        if found:
            monkeypatch.setattr(
                "dmtl_cli.nn.table_optimizers._by_distinct_row", lambda g: (g._indices()[0], g._values())
            )
        model = a_teacher(ENCODER).train()
        optimizer = RowWiseAdagrad([model.table.weight], 0.1)
        for seed in range(3):
            step(model, random_sides(ENCODER, seed), torch.device("cpu"), optimizer)
        found.append((model.table.weight.detach().clone(), optimizer.accumulator(model.table.weight).clone()))
    assert (found[0][1] > 0).any()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows", [[], [3], [5, 2, 5, 5, 0, 2], [7, 7, 7], list(range(40, 0, -1))], ids=str)
def test_padded_rows_are_distinct_ones_and_the_last_again(rows: list[int]) -> None:
    asked = torch.tensor(rows, dtype=torch.int64)
    padded, place = distinct._padded(asked)
    expected = asked.unique()
    assert len(padded) == len(rows) and torch.equal(padded[place], asked)
    assert torch.equal(padded[: len(expected)], expected)
    assert not rows or set(padded[len(expected) :].tolist()) <= {max(rows)}
    assert not len(place) or int(place.max()) == len(expected) - 1


def test_known_values_are_those_above_zero() -> None:
    sequence = np.array([[4, 9, 0], [0, 0, 0], [7, 0, 0], [1, 2, 3]], np.int32)
    known = known_of(sequence, torch.device("cpu"))
    assert known.row.tolist() == [0, 0, 2, 3, 3, 3] and known.value.tolist() == [4, 9, 7, 1, 2, 3]
    assert known.number.tolist() == [2, 0, 1, 3]
