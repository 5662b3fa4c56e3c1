"""Stored models: stopping and going on is never having stopped; vocabularies grow; other architectures are refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_models import DIM, FACTORS, ITEM, NETWORKS, USER, a_student, a_teacher, encoder_of
from test_optim import RATES, batches, train

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.training import Training
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.optimizers import Optimizers
from dmtl_cli.nn.table import INIT_STD
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.student.dssm import DSSM

ENCODER = encoder_of(*USER, *ITEM)


ADAM = Training(learning_rate=0.01, embedding_optimizer="adam")


def optimizers_of(model: Any, rates: Training = RATES) -> Optimizers:
    return Optimizers.build(model, model.table, rates)


def trained(folder: Path, encoder: Encoder = ENCODER, steps: int = 3) -> tuple[DSSM, Optimizers]:
    model = a_student(encoder)
    optimizers = optimizers_of(model)
    train(model, batches(encoder, steps), optimizers)
    checkpoint.save(folder, model, model.table, optimizers)
    return model, optimizers


def assert_same(a: tuple[DSSM, Optimizers], b: tuple[DSSM, Optimizers]) -> None:
    """Weights and both optimizers' states, bit by bit."""
    named = dict(b[0].named_parameters())
    for name, p in a[0].named_parameters():
        assert torch.equal(p, named[name]), name
    kept = [o.table.state[m.table.weight] for m, o in (a, b)]
    assert kept[0].keys() == kept[1].keys() and all(torch.equal(v, kept[1][k]) for k, v in kept[0].items())
    states = [{n: o.dense.state[p] for n, p in m.named_parameters() if p in o.dense.state} for m, o in (a, b)]
    assert states[0].keys() == states[1].keys() and len(states[0]) == len(named) - 1
    for name, state in states[0].items():
        assert state.keys() == states[1][name].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(v, states[1][name][k]) and v.dtype == states[1][name][k].dtype for k, v in state.items())


def test_round_trip_is_bit_equal(tmp_path: Path) -> None:
    before = trained(tmp_path)
    model = a_student(ENCODER, 99)
    optimizers = optimizers_of(model)
    checkpoint.load(tmp_path, model, model.table, optimizers)
    assert_same(before, (model, optimizers))
    again = tmp_path / "again"
    again.mkdir()
    checkpoint.save(again, model, model.table, optimizers)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("rates", [RATES, ADAM], ids=["rowwise_adagrad", "adam"])
def test_going_on_is_never_having_stopped(tmp_path: Path, rates: Training) -> None:
    stream = list(batches(ENCODER, 4))
    whole = a_student(ENCODER)
    whole_optimizers = optimizers_of(whole, rates)
    train(whole, iter(stream), whole_optimizers)
    first = a_student(ENCODER)
    first_optimizers = optimizers_of(first, rates)
    train(first, iter(stream[:2]), first_optimizers)
    checkpoint.save(tmp_path, first, first.table, first_optimizers)
    second = a_student(ENCODER, 99)
    second_optimizers = optimizers_of(second, rates)
    checkpoint.load(tmp_path, second, second.table, second_optimizers)
    train(second, iter(stream[2:]), second_optimizers)
    assert_same((whole, whole_optimizers), (second, second_optimizers))


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    model = a_student(ENCODER)
    with pytest.raises(UserError, match=r"expected .* got nothing") as e:
        checkpoint.load(tmp_path, model, model.table, optimizers_of(model, ADAM))
    assert "embedding_optimizer" in e.value.hint


@pytest.mark.parametrize("name", NETWORKS)
def test_a_teacher_is_stored_too(tmp_path: Path, name: str) -> None:
    model, other = (a_teacher(ENCODER, seed, **NETWORKS[name]) for seed in (0, 1))
    checkpoint.save(tmp_path, model, model.table)
    assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]
    checkpoint.load(tmp_path, other, other.table)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_model_whose_parts_shared_an_accumulator_goes_on(tmp_path: Path) -> None:
    """As those did that were trained before each part had its own."""
    model = a_teacher(ENCODER)
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model))
    file = tmp_path / "optimizer.safetensors"
    state = load_file(file)
    shared = {name: torch.rand(len(x)) for name, x in state.items() if name.startswith("embedding.")}
    assert all(state[name].shape == (len(x), 3) for name, x in shared.items()), "the network's part and two tasks'"
    save_file(state | shared, file)
    optimizers = optimizers_of(model)
    checkpoint.load(tmp_path, model, model.table, optimizers)
    sums = optimizers.table.by_row(model.table.weight)["sum"]
    for name, x in shared.items():
        found = sums[model.table.part(name.removeprefix("embedding."))]
        assert torch.equal(found, torch.stack([x] * 3, 1))


def test_a_second_head_is_stored_too(tmp_path: Path) -> None:
    model, other = (a_student(ENCODER, seed, auxiliary=True) for seed in (0, 1))
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model))
    checkpoint.load(tmp_path, other, other.table, optimizers_of(other))
    assert model.auxiliary is not None and other.auxiliary is not None
    assert torch.equal(model.auxiliary.user.weight, other.auxiliary.user.weight)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_loading_without_growth_draws_no_random_number(tmp_path: Path) -> None:
    trained(tmp_path)
    model = a_student(ENCODER)
    before = torch.get_rng_state()
    checkpoint.load(tmp_path, model, model.table)
    assert torch.equal(torch.get_rng_state(), before)


def test_grown_vocabularies_keep_old_rows_and_start_new_ones_near_the_oov_row(tmp_path: Path) -> None:
    old, old_optimizers = trained(tmp_path)
    grown = encoder_of(*USER, *ITEM, user_id=14, item_id=40)
    model = a_student(grown, 99)
    optimizers = optimizers_of(model)
    checkpoint.load(tmp_path, model, model.table, optimizers)
    sums, old_sums = (o.table.accumulator(m.table.weight) for m, o in ((model, optimizers), (old, old_optimizers)))
    added = {"user_id": 4, "item_id": 30}
    for name, rows in old.table.rows.items():
        was, now = old.table.weight[old.table.part(name)], model.table.weight[model.table.part(name)]
        assert len(now) == rows + added.get(name, 0)
        assert torch.equal(now[:rows], was)
        assert torch.equal(sums[model.table.part(name)][:rows], old_sums[old.table.part(name)])
        if name in added:
            off = now[rows:] - was[0]
            assert off.abs().max() < 6 * INIT_STD and off.std() > INIT_STD / 3  # near, and each its own
            assert not sums[model.table.part(name)][rows:].any()
    for name, p in old.named_parameters():
        if p is not old.table.weight:
            assert torch.equal(p, dict(model.named_parameters())[name])


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(folder: Path, model: Any) -> str:
    with pytest.raises(UserError) as e:
        checkpoint.load(folder, model, model.table, optimizers_of(model))
    assert e.value.code == Exit.DATA and e.value.hint
    return e.value.line()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"units": (9, 5)}, "user_tower.0.weight"),
        ({"units": (8, 6)}, "user_tower.2.weight"),
        ({"units": (8, 5, 5)}, "user_tower.2.weight: expected (5, 8), got (5, 19)"),
        ({"units": (8,)}, "item_tower.2.bias"),
        ({"towers": "deep"}, "user_tower.2.weight: expected (5, 8), got (5, 19)"),
        ({"unit": False}, "log_scale"),
        ({"auxiliary": True}, "auxiliary.log_scale: expected (), got nothing"),
    ],
    ids=str,
)
def test_another_architecture_is_named(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    trained(tmp_path)
    told = refused(tmp_path, a_student(ENCODER, **change))
    assert name in told and "of the config changed: undo that, or use a new workspace" in told


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": "shared_bottom"}, "weight net.experts.biases.0: this model has none of that name"),
        ({"model": "ple"}, "weight net.experts.biases.0: this model has none of that name"),
        ({"num_tasks": 3}, "weight net.first.bias: expected (27,), got (24,)"),
        ({"factor_dim": 0}, f"embedding user_id: expected (11, {DIM}), got (11, {DIM + 2 * (FACTORS + 1)})"),
    ],
    ids=str,
)
def test_another_teacher_is_named(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    model = a_teacher(ENCODER)
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model))
    assert name in refused(tmp_path, a_teacher(ENCODER, **change))


def test_a_head_that_is_gone_is_named(tmp_path: Path) -> None:
    model = a_student(ENCODER, auxiliary=True)
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model))
    assert "weight auxiliary.bias: this model has none of that name" in refused(tmp_path, a_student(ENCODER))


def test_plain_vectors_do_not_become_unit_vectors(tmp_path: Path) -> None:
    model = a_student(ENCODER, unit=False)
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model))
    assert "log_scale: expected (), got nothing" in refused(tmp_path, a_student(ENCODER))


def test_other_features_are_named(tmp_path: Path) -> None:
    trained(tmp_path)
    more = encoder_of(*USER, *ITEM, USER[0].model_copy(update={"name": "city"}))
    assert "user_tower.0.weight" in refused(tmp_path, a_student(more))
    assert "category" in refused(tmp_path, a_student(encoder_of(*USER, *(f for f in ITEM if f.name != "category"))))
    smaller = encoder_of(*USER, *ITEM, user_id=3)
    assert "embedding user_id: expected (4, 4), got (11, 4)" in refused(tmp_path, a_student(smaller))


def test_another_embedding_dim_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    assert "expected" in refused(tmp_path, a_student(ENCODER, dim=DIM + 1))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_garbage_is_refused(tmp_path: Path, file: str) -> None:
    trained(tmp_path)
    whole = (tmp_path / file).read_bytes()
    for content in (b"", b"garbage" * 9, whole[:-5], whole[: len(whole) // 2], b"\x80\x04N."):
        (tmp_path / file).write_bytes(content)
        assert file in refused(tmp_path, a_student(ENCODER))
    (tmp_path / file).unlink()
    assert file in refused(tmp_path, a_student(ENCODER))


def test_no_pickle(tmp_path: Path) -> None:
    trained(tmp_path)
    for file in tmp_path.iterdir():
        head = file.read_bytes()
        assert head[8:9] == b"{" and int.from_bytes(head[:8], "little") < len(head)  # safetensors: length, JSON


# -- where they are stored ---------------------------------------------------------------------------------------------

DAY = dt.date(2026, 1, 2)


def put(ws: Workspace, stage: str, day: dt.date, sub: str | None = None, name: str = "0" * 12) -> Path:
    """A run that CURRENT names."""
    run = ws.stage_dir(stage, day, sub) / f"run-{name}"
    run.mkdir(parents=True)
    ws.current_path(stage, day, sub).write_text(f"{run.name}\n")
    return run


def test_a_setting_reads_what_it_shares_and_writes_its_own(tmp_path: Path) -> None:
    base = Workspace(tmp_path / "base")
    ws = Workspace(tmp_path / "base" / "settings" / "a", base, frozenset({"teacher", "scores"}))
    taught = put(base, "teacher", DAY)
    scored = put(base, "scores", DAY, "teacher=2026-01-01")
    put(base, "student", DAY, name="b" * 12)
    assert ws.home("teacher") == base.root / "teacher" and ws.home("student") == ws.root / "student"
    assert ws.current("teacher", DAY) == taught and ws.current("scores", DAY, "teacher=2026-01-01") == scored
    assert ws.subs("scores", DAY) == ["teacher=2026-01-01"] and ws.days("scores") == ws.days("teacher") == [DAY]
    assert ws.current("student", DAY) is None and ws.days("student") == [] and ws.subs("student", DAY) == []
    assert ws.newest("teacher", DAY + dt.timedelta(1)) == DAY and ws.newest("student", DAY + dt.timedelta(1)) is None
    own = put(ws, "student", DAY)
    assert own.is_relative_to(ws.root) and ws.current("student", DAY) == own != base.current("student", DAY)
    put(base, "teacher", DAY + dt.timedelta(1))
    assert ws.days("teacher") == base.days("teacher") and len(ws.days("teacher")) == 2, "always as the base is now"


def test_a_setting_locks_logs_and_serves_below_its_root(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "a", Workspace(tmp_path / "base"), frozenset({"teacher"}))
    mine = [ws.latest_path, ws.scratch(), ws.rejected(), ws.chain_lock]
    mine += [f("teacher", DAY) for f in (ws.scratch_of, ws.log_path, ws.refusal_path)]
    assert all(p.is_relative_to(ws.root) for p in mine)
    of_the_base = ws.base
    assert of_the_base is not None and of_the_base.home("teacher") == tmp_path / "base" / "teacher"


def test_sharing_goes_through_to_the_workspace_that_made_it(tmp_path: Path) -> None:
    base = Workspace(tmp_path / "base")
    middle = Workspace(tmp_path / "middle", base, frozenset({"teacher"}))
    top = Workspace(tmp_path / "top", middle, frozenset({"teacher", "scores"}))
    assert [top.home(s).parent.name for s in ("teacher", "scores", "student")] == ["base", "middle", "top"]
    alone = Workspace(tmp_path / "alone", shared=frozenset({"teacher"}))
    assert alone.home("teacher") == alone.root / "teacher", "without a base there is nobody to share with"
