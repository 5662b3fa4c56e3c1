"""`teacher.batch_norm`: beside torch's own layer, over ranks, folded into weights, and through the command line."""

from __future__ import annotations

import copy
import datetime as dt
import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_checkpoint import ADAM, ENCODER, RATES, optimizers_of, refused
from test_gates_inputs import FEATURES, a_log
from test_models import NETWORKS, a_teacher
from test_ranks import needs_torchrec, two
from test_resume import EACH_STEP, killed
from torch import Tensor, nn
from worlds import BASE, DAYS, Project

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.training import Training
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import pairs
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.layers import BatchNorm, FirstInput
from dmtl_cli.runs.manifest import Manifest
from dmtl_cli.runs.ranks import Ranks
from dmtl_cli.stages import train_teacher
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.factors import as_one
from dmtl_cli.teacher.frozen import FrozenTeacher, Scorer
from dmtl_cli.teacher.networks import mmoe
from dmtl_cli.teacher.networks.mmoe import MMoE
from dmtl_cli.teacher.networks.network import Experts
from dmtl_cli.teacher.networks.ple import PLE
from dmtl_cli.teacher.networks.shared_bottom import SharedBottom

WIDTH = 3


def random_norm(norm: Any, seed: int = 7) -> Any:
    """With any gamma and beta, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator))
    return norm


def stream(sizes: list[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 5.0, 0.1])
    return [torch.randn(n, WIDTH, generator=generator) * scale + 2 * k for k, n in enumerate(sizes)]


# -- the layer ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(steps=st.integers(1, 12), rows=st.integers(2, 9))
def test_it_is_torchs_layer_without_its_first_values(steps: int, rows: int) -> None:
    """Outputs and gradients to the bit; of torch's running statistics .9 ** steps is still 0 and 1."""
    ours, torchs = random_norm(BatchNorm(WIDTH)), random_norm(nn.BatchNorm1d(WIDTH))
    for x in stream([rows] * steps):
        results = []
        for norm in (ours, torchs):
            leaf = x.clone().requires_grad_()
            out = norm(leaf)
            results.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), [leaf, *norm.parameters()])])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    left = 0.9**steps
    torch.testing.assert_close(ours.running_mean, torchs.running_mean / (1 - left), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_var, (torchs.running_var - left) / (1 - left), rtol=1e-3, atol=1e-5)
    ours.eval(), torchs.eval()
    torchs.running_mean.copy_(ours.running_mean), torchs.running_var.copy_(ours.running_var)
    assert torch.equal(ours(x), torchs(x))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_running_statistics_are_means_weighted_by_rows_and_age(sizes: list[int]) -> None:
    """A batch of one row has no variance and counts for nothing, nor does it age the others."""
    norm = BatchNorm(WIDTH)
    every = stream(sizes)
    for x in every:
        norm(x)
    counted = [x.double() for x in every if len(x) > 1]
    if not counted:
        assert not norm.running_mean.any() and norm.running_var.eq(1).all() and norm.running_rows == 0
        return
    weights = [0.9 ** (len(counted) - 1 - k) * len(x) for k, x in enumerate(counted)]
    for found, each in (
        (norm.running_mean, [x.mean(0) for x in counted]),
        (norm.running_var, [x.var(0) for x in counted]),
    ):
        mean = sum(w * e for w, e in zip(weights, each, strict=True)) / sum(weights)
        torch.testing.assert_close(found.double(), mean, rtol=1e-4, atol=1e-5)
    assert float(norm.running_rows) == pytest.approx(sum(weights), rel=1e-5)


def test_a_batch_of_one_row_is_normalised_as_in_evaluation() -> None:
    norm = random_norm(BatchNorm(WIDTH))
    for x in stream([20, 20]):
        norm(x)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    row = torch.ones(1, WIDTH, requires_grad=True)
    trained = norm(row)
    trained.sum().backward()
    assert row.grad is not None and row.grad.abs().min() > 0.01
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    assert torch.equal(trained, norm.eval()(row))


def test_columns_of_a_wider_tensor() -> None:
    """As a network's first sums are, whose last columns are gates'."""
    wide = torch.randn(30, WIDTH + 2, requires_grad=True)
    one, other = BatchNorm(WIDTH), BatchNorm(WIDTH)
    results = [
        [out, torch.autograd.grad(out.square().cumsum(0).sum(), wide)[0]]
        for out in (one(wide[:, :WIDTH]), other(wide[:, :WIDTH].contiguous()))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_in_bfloat16_statistics_stay_float32() -> None:
    half, norm, exact = stream([300])[0].bfloat16(), BatchNorm(WIDTH), BatchNorm(WIDTH)
    out = norm(half)
    assert out.dtype == torch.bfloat16 and norm.running_mean.dtype == norm.running_var.dtype == torch.float32
    torch.testing.assert_close(out.float(), exact(half.float()), rtol=0.01, atol=0.02)
    torch.testing.assert_close(norm.running_var, exact.running_var, rtol=1e-4, atol=1e-4)


def _share(rank: int, place: str, sizes: list[int], out: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    ranks, norm = Ranks(rank, 2), random_norm(BatchNorm(WIDTH))
    norm.ranks = ranks
    found = []
    for x in stream(sizes):
        leaf = x.clone().requires_grad_()
        whole = ranks.gather(norm(leaf[ranks.slice(len(x))]), len(x))
        norm.zero_grad()
        (whole * whole.detach().cos()).sum().backward()
        ranks.mean_gradients(norm)
        d_x = ranks.sum(leaf.grad.clone()) / 2  # of a leaf's rows that this rank does not have nothing comes
        found.append([t.detach().numpy().copy() for t in (whole, d_x, norm.weight.grad, norm.bias.grad)])
    out.put((rank, found, {name: b.numpy().copy() for name, b in norm.named_buffers()}))
    dist.destroy_process_group()


def test_two_ranks_normalise_as_one(tmp_path: Path) -> None:
    """A batch of one row, of which one of two ranks has none, among them."""
    sizes = [9, 1, 2, 7]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_share, args=(k, str(tmp_path / "store"), sizes, results)) for k in (0, 1)]
    for process in processes:
        process.start()
    made = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    norm = random_norm(BatchNorm(WIDTH))
    for k, x in enumerate(stream(sizes)):
        leaf = x.clone().requires_grad_()
        whole = norm(leaf)
        expected = [
            whole,
            *torch.autograd.grad((whole * whole.detach().cos()).sum(), [leaf, norm.weight, norm.bias]),
        ]
        for _, found, _ in made:
            for name, a, b in zip(("out", "x", "gamma", "beta"), found[k], expected, strict=True):
                torch.testing.assert_close(
                    torch.from_numpy(a), b.detach(), rtol=1e-3, atol=1e-4, msg=lambda m, n=name, k=k: f"{k} {n}: {m}"
                )
    for _, _, kept in made:
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(torch.from_numpy(kept[name]), buffer, rtol=1e-4, atol=1e-5)


# -- networks ----------------------------------------------------------------------------------------------------------


def norms_of(net: nn.Module) -> list[BatchNorm]:
    return [module for module in net.modules() if isinstance(module, BatchNorm)]


def a_network(kind: Any = MMoE, **more: Any) -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"num_tasks": 2}
    if kind is SharedBottom:
        net = SharedBottom((3, 4, 2), (6, 5, 4), (4, 3), 2, batch_norm=True)
    else:
        shape |= {"num_experts": 3, "expert_hidden_units": (6, 5, 4), "tower_hidden_units": (4, 3)} | more
        net = kind((3, 4, 2), **shape, batch_norm=True)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    for k, norm in enumerate(norms_of(net)):
        random_norm(norm, k)
    return net.double()


def of_expert(norm: BatchNorm, e: int, num: int) -> nn.BatchNorm1d:
    """torch's layer with the numbers of one expert's columns."""
    units = len(norm.weight) // num
    mine, alone = slice(e * units, (e + 1) * units), nn.BatchNorm1d(units).double()
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(alone, name).copy_(getattr(norm, name)[mine])
    return alone.train(norm.training)


def plain_expert(experts: Experts, e: int, pre: Tensor) -> Tensor:
    first, *later = (of_expert(norm, e, experts.num) for norm in norms_of(experts))
    h = first(pre).relu()
    for weight, bias, norm in zip(experts.weights, experts.biases, later, strict=True):
        h = norm(h @ weight[e] + bias[e]).relu()
    return h


def plain_tower(tower: Any, h: Tensor) -> Tensor:
    for layer in tower:
        h = of_expert(layer, 0, 1)(h) if isinstance(layer, BatchNorm) else layer(h)
    return h


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_mmoe_is_itself_written_plainly(training: bool) -> None:
    net = a_network()
    assert len(norms_of(net.experts)) == 3 and len(norms_of(net.towers)) == 4
    pre = torch.randn(11, len(net.first.bias), dtype=torch.float64)
    net.rest(pre + 1)  # running statistics that are not those of this batch
    net.train(training)
    hidden = pre[:, :18].view(11, 3, 6)
    experts = torch.stack([plain_expert(net.experts, e, hidden[:, e]) for e in range(3)], 1)
    gates = pre[:, 18:].view(11, 2, 3).softmax(2)
    logits = [plain_tower(t, (gates[:, k, :, None] * experts).sum(1)) for k, t in enumerate(net.towers)]
    ours, found = net.rest(pre)
    torch.testing.assert_close(ours, torch.cat(logits, 1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, gates)


def test_shared_bottom_is_an_mmoe_of_one_expert() -> None:
    bottom, net = a_network(SharedBottom), a_network(num_experts=1)
    with torch.no_grad():
        for k, (linear, norm) in enumerate(zip(bottom.later[::3], net.experts.norms[1:], strict=True)):
            linear.weight.copy_(net.experts.weights[k][0].T)
            linear.bias.copy_(net.experts.biases[k][0, 0])
            bottom.later[3 * k + 1].load_state_dict(norm.state_dict())
    bottom.norm.load_state_dict(net.experts.norms[0].state_dict())
    bottom.towers.load_state_dict(net.towers.state_dict())
    pre = torch.randn(9, 8, dtype=torch.float64)
    for training in (True, False):
        found = [x.train(training).rest(p)[0] for x, p in ((bottom, pre[:, :6]), (net, pre))]
        torch.testing.assert_close(*found)


def test_ple_without_task_experts_is_mmoe() -> None:
    ple, net = a_network(PLE, num_task_experts=0, num_levels=1), a_network()
    net.experts.load_state_dict(ple.levels[0].experts.state_dict())
    net.towers.load_state_dict(ple.towers.state_dict())
    gates, hidden = torch.randn(9, 6).double(), torch.randn(9, 18).double()
    for training in (True, False):
        ours = ple.train(training).rest(torch.cat([gates, hidden], 1))[0]  # tasks come first
        torch.testing.assert_close(ours, net.train(training).rest(torch.cat([hidden, gates], 1))[0])


SHAPES: dict[str, Any] = {
    "mmoe": lambda: a_network(),
    "shared_bottom": lambda: a_network(SharedBottom),
    "ple": lambda: a_network(PLE, num_task_experts=2, num_levels=1),
    "ple deep": lambda: a_network(PLE, num_task_experts=1, num_levels=3),
}
EACH = pytest.mark.parametrize("name", SHAPES)


def an_input(rows: int = 40) -> FirstInput:
    """Of 5 users and 7 items."""
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    user, item = drawn(5, 3), drawn(7, 4)
    places = (torch.randint(0, n, (rows,), generator=generator) for n in (5, 7))
    return FirstInput(user, item, *places, drawn(rows, 2))


@EACH
def test_a_column_of_any_scale_and_level_trains_alike(name: str) -> None:
    """Every first layer of an expert is normalised, in training: of the gates, which are not, nothing moves."""
    net = SHAPES[name]()
    before, gates = net(an_input())
    experts = [net.experts] if isinstance(net, MMoE) else [net.levels[0].experts] if isinstance(net, PLE) else []
    hidden = torch.cat([torch.arange(a, b) for a, b in columns(net)])
    assert len(hidden) == sum(len(norms_of(e)[0].weight) for e in experts) or isinstance(net, SharedBottom)
    with torch.no_grad():
        for weight in net.first.weights:
            weight[hidden] *= 1.7
        net.first.bias[hidden] += 3.0
    after, same = net(an_input())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)  # but for eps
    torch.testing.assert_close(same, gates, rtol=1e-4, atol=1e-4)
    net.eval()
    assert (net(an_input())[0] - after).abs().max() > 1e-3, "running statistics are others"


def columns(net: Any) -> list[tuple[int, int]]:
    """Those of experts among the outputs of the first layer."""
    if isinstance(net, PLE):
        at, out = 0, []
        for width, hidden in zip(net.widths, net.levels[0].hidden, strict=True):
            out.append((at, at + hidden))
            at += width
        return out
    return [(0, net.hidden if isinstance(net, MMoE) else len(net.first.bias))]


@EACH
def test_folded_it_is_what_it_was_in_evaluation(name: str) -> None:
    net = SHAPES[name]()
    for k in range(5):
        torch.manual_seed(k)
        net.rest(torch.randn(50, len(net.first.bias), dtype=torch.float64) * 2 + 1)
    net.eval()
    before = [x.detach() for x in net(an_input())]
    net.fold()
    assert not norms_of(net)
    for ours, theirs in zip(net(an_input()), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    again = copy.deepcopy(net.state_dict())
    net.fold()
    assert all(torch.equal(x, again[k]) for k, x in net.state_dict().items()), "a second time changes nothing"


def test_only_a_folded_mmoe_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, kernel = [], mmoe.mixture
    monkeypatch.setattr(mmoe, "mixture", lambda *args: (calls.append(1), kernel(*args))[1])
    monkeypatch.setattr(mmoe, "FEW", 0)
    net = a_network()
    net(an_input())
    net.eval()(an_input())
    assert not calls
    net.fold()
    net(an_input())
    assert calls == [1]


# -- stored ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [RATES, ADAM], ids=["rowwise_adagrad", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_round_trip_is_bit_equal(tmp_path: Path, name: str, rates: Training) -> None:
    model, other = (a_teacher(ENCODER, seed, **NETWORKS[name], batch_norm=True) for seed in (0, 1))
    for k, norm in enumerate(norms_of(model)):
        for x in stream([4, 5], k):
            norm(x.repeat(1, -(-len(norm.weight) // WIDTH))[:, : len(norm.weight)])
    checkpoint.save(tmp_path, model, model.table, optimizers_of(model, rates))
    kept = checkpoint.buffers(model)
    assert len(kept) == 3 * len(norms_of(model)) > 0
    assert kept.keys() < load_file(tmp_path / "model.safetensors").keys()
    checkpoint.load(tmp_path, other, other.table, optimizers_of(other, rates))
    for n, x in model.state_dict().items():
        assert torch.equal(x, other.state_dict()[n]), n


@pytest.mark.parametrize("name", ["mmoe", "shared_bottom"])
def test_one_with_and_one_without_are_no_continuation(tmp_path: Path, name: str) -> None:
    for there in (False, True):
        model = a_teacher(ENCODER, **NETWORKS[name], batch_norm=there)
        folder = tmp_path / str(there)
        folder.mkdir()
        checkpoint.save(folder, model, model.table, optimizers_of(model))
        found = refused(folder, a_teacher(ENCODER, **NETWORKS[name], batch_norm=not there))
        assert "this model has none of that name" in found, found


def test_a_model_of_other_statistics_is_refused(tmp_path: Path) -> None:
    model = a_teacher(ENCODER, batch_norm=True)
    checkpoint.save(tmp_path, model, model.table)
    kept = load_file(tmp_path / "model.safetensors")
    del kept["net.experts.norms.1.running_var"]
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"net.experts.norms.1.running_var: expected \(15,\), got nothing"):
        checkpoint.load(tmp_path, model, model.table)


# -- through the command line ------------------------------------------------------------------------------------------


def a_config(**more: Any) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    config["features"] = FEATURES
    del config["data"]["users"], config["data"]["items"]
    config["teacher"] |= {"batch_norm": True, "epochs": 1, "blend_regression": False} | more
    return config


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def chain(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Teachers of two days and the scores of the second."""
    project = Project.create(tmp_path_factory.mktemp("chain"), log, config=a_config())
    for n in (1, 2):
        project.done("train-teacher", n)
    project.done("dump-logits", 2)
    return project


def stored(project: Project, day: int) -> dict[str, Tensor]:
    return load_file(folder_of(project, day) / "model.safetensors")


def folder_of(project: Project, day: int) -> Path:
    return Path(project.call("path", "teacher", "--day", DAYS[day - 1]).out.strip())


def test_a_day_goes_on_from_the_statistics_of_the_one_before(chain: Project) -> None:
    """running_rows adds up over steps: of a model that began anew it would be less."""
    steps = [math.ceil(manifest_of(chain, n).rows["learned"] / 256) for n in (1, 2)]
    sizes = [[256] * (s - 1) + [manifest_of(chain, n + 1).rows["learned"] - 256 * (s - 1)] for n, s in enumerate(steps)]
    for days in (1, 2):
        every = [n for day in sizes[:days] for n in day]
        weight = sum(n * 0.9 ** (len(every) - 1 - k) for k, n in enumerate(every))
        found = {k: v for k, v in stored(chain, days).items() if k.endswith("running_rows")}
        assert len(found) == 4 and all(float(v) == pytest.approx(weight, rel=1e-5) for v in found.values()), days


def manifest_of(project: Project, day: int) -> Manifest:
    return Manifest.read(folder_of(project, day) / "manifest.json")


def test_a_dump_has_the_logits_of_evaluation(chain: Project, tmp_path: Path) -> None:
    """Of the stored model, not folded: each pair by itself, so that no batch has a part in it."""
    config, folder, manifest = load_config(chain.file), folder_of(chain, 2), manifest_of(chain, 2)
    frozen = FrozenTeacher(folder, manifest, torch.device("cpu"), config)
    assert not norms_of(frozen.model)
    model = build_teacher(frozen.encoder, config.teacher, 2)
    checkpoint.load(folder, model, model.table)
    assert norms_of(model)
    day = Log(config.data, config.features_of("teacher")).read(dt.date.fromisoformat(DAYS[1]), tmp_path)
    scorer = Scorer(frozen.encoder, model.eval(), day, torch.device("cpu"))
    scores = Path(chain.call("path", "scores", "--day", DAYS[1], "--teacher-day", DAYS[1]).out.strip())
    frame = pl.concat([pl.read_parquet(f) for f in sorted(scores.glob("part-*"))]).head(300)
    rows = pairs(*(day.rows_of(frame[f"{name}_id"], name) for name in ("user", "item")))
    logits = scorer.lists(rows, batch_size=7)
    logits = as_one(frozen.no_context.factors, logits, ("ctr", "cvr"))
    np.testing.assert_allclose(frame.select("ctr_logit", "cvr_logit").to_numpy(), logits, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.1


def test_a_killed_training_ends_with_the_same_bytes(chain: Project, tmp_path: Path) -> None:
    made = []
    for name, after in (("alone", 0), ("killed", 7)):
        project = Project.create(tmp_path / name, Path(chain.config["data"]["root"]), config=chain.config)
        project.done("train-teacher", 1)
        minutes = {"checkpoint_minutes": EACH_STEP} if after else {"checkpoint_minutes": 0}
        if after:
            project = Project.create(tmp_path / name, Path(chain.config["data"]["root"]), config=chain.config | minutes)
            assert len(killed(project, "train-teacher", after)) == 1
        made.append(project.done("train-teacher", 2, **minutes)["run_id"])
        assert ("goes on from the checkpoint" in project.logged("train-teacher", 2)) == bool(after)
    assert made[0] == made[1]


@needs_torchrec
@pytest.mark.parametrize("last", [1, 50])
def test_two_ranks_learn_what_one_learns(log: Path, tmp_path: Path, last: int) -> None:
    """Under torchrun. A last batch of one row, so that one rank has none, and a longer one; a bias before a
    normalisation changes nothing, and its gradient is rounding, which Adam scales up."""
    learned = Project.create(tmp_path / "asked", log, config=a_config()).done("train-teacher", 1)["rows"]["learned"]
    size = next(n for n in range(150, 400) if learned % n == last or learned % n > last > 1)
    one, other = (Project.create(tmp_path / n, log, config=a_config(batch_size=size)) for n in ("one", "two"))
    one.done("train-teacher", 1)
    made = two(other, "train-teacher", "--day", DAYS[0]).json
    found, expected = made["metrics"], manifest_of(one, 1).metrics
    ranks = {k: v for k, v in expected.items() if k.endswith(".auc")}  # of few rows one pair in another order is .001
    for name, auc in ranks.items():
        assert found.pop(name) == pytest.approx(auc, abs=5e-3 if name == "held_out.cvr.auc" else 3e-3), name
    assert found == pytest.approx({k: v for k, v in expected.items() if k in found}, rel=1e-3)
    assert found.keys() | ranks.keys() == expected.keys()
    ours, theirs = stored(other, 1), stored(one, 1)
    compared = [k for k in ours if not (k.endswith(("running_mean", "0.bias")) or ".biases." in k)]
    compared.remove("net.first.bias")
    assert sum(k.endswith(("running_var", "running_rows")) for k in compared) == 8
    for name in compared:
        mine, others = ours[name], theirs[name]
        if name.startswith("embedding."):
            # one row is normalised by running means, which lag behind that bias: its row may differ, no other
            near = torch.isclose(mine, others, rtol=1e-2, atol=2e-3).all(1)
            assert (~near).sum() <= (last == 1), name
            mine, others = mine[near], others[near]
        torch.testing.assert_close(mine, others, rtol=1e-2, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("model", [{"model": "ple", "num_levels": 2}, {"model": "shared_bottom"}], ids=str)
def test_the_other_networks_train_warm_and_score(log: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    config = a_config(**model)
    if model["model"] == "shared_bottom":
        del config["teacher"]["num_experts"]
    project = Project.create(tmp_path, log, config=config)
    for n in (1, 2):
        project.done("train-teacher", n)
    assert project.done("dump-logits", 2)["rows"]["exposed"]
    assert project.done("evaluate", 3)["metrics"]["teacher.ctr.auc"] > 0.75, "whose items alone tell as much"


def test_statistics_that_are_not_finite_are_refused(
    chain: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an infinite variance outputs are finite, and so are the losses and weights of all steps."""
    project = Project.create(tmp_path, Path(chain.config["data"]["root"]), config=chain.config)
    whole = train_teacher.train

    def train(run: Any, name: str, learners: Any, *rest: Any) -> Any:
        numbers = whole(run, name, learners, *rest)
        norms_of(learners[0].model)[0].running_var[0] = math.inf
        return numbers

    monkeypatch.setattr(train_teacher, "train", train)
    ended = project.stage("train-teacher", 1, "--force-publish", "please")
    assert ended.code == 80 and "teacher.not_finite is 1, expected 0" in ended.err, ended.err


def test_the_key_names_it(chain: Project) -> None:
    assert manifest_of(chain, 1).config["teacher"]["batch_norm"] is True
    ended = chain.stage("train-teacher", 3, teacher__batch_norm=False)
    assert ended.code == 65 and "this model has none of that name" in ended.err and "new workspace" in ended.err
