"""Networks against plain, unshared forms of the same formulas (METHOD 3, 4)."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dmtl_cli.config.features import Feature
from dmtl_cli.config.student import Hard, Student
from dmtl_cli.config.teacher import Network as NetworkName
from dmtl_cli.config.teacher import Teacher as TeacherConfig
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.log.checked.day import ID, Day
from dmtl_cli.data.log.values.spool import Spool
from dmtl_cli.data.rows import Rows, pairs
from dmtl_cli.nn.batches import Batcher, Tables, known_of, side_of, with_known
from dmtl_cli.nn.kernels.distinct import distinct_of, distinct_rows
from dmtl_cli.nn.layers import Side, SideEmbedder, SplitLinear, looked_up
from dmtl_cli.nn.table import EmbeddingTable
from dmtl_cli.student.build import build_student
from dmtl_cli.student.dssm import DSSM
from dmtl_cli.student.hard import HARD
from dmtl_cli.student.labels import StudentLabels
from dmtl_cli.student.loss import StudentLoss
from dmtl_cli.teacher import frozen as scoring
from dmtl_cli.teacher.build import build_network, build_teacher
from dmtl_cli.teacher.frozen import Scorer
from dmtl_cli.teacher.model import Teacher, batch_logits
from dmtl_cli.teacher.networks.mmoe import MMoE
from dmtl_cli.teacher.networks.network import Experts, Network, gate
from dmtl_cli.teacher.networks.ple import PLE
from dmtl_cli.teacher.networks.shared_bottom import SharedBottom

CPU = torch.device("cpu")
DIM, FACTORS = 4, 3


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


# -- what the tests of models, optimizers, checkpoints and exports work on ---------------------------------------------


def feature(name: str, of: str, kind: str, **more: Any) -> Feature:
    return Feature.model_validate({"name": name, "side": of, "kind": kind, **more})


USER = (
    feature("user_id", "user", "categorical"),
    feature("history", "user", "sequence", embedding_name="item_id", max_length=4),
    feature("taste", "user", "vector", dim=3),
)
ITEM = (
    feature("item_id", "item", "categorical"),
    feature("category", "item", "categorical"),
    feature("tags", "item", "sequence", max_length=3),
    feature("price", "item", "numeric"),
)
CONTEXT = (feature("hour", "context", "categorical"), feature("age", "context", "numeric", boundaries=(10.0, 20.0)))


def encoder_of(*features: Feature, **sizes: int) -> Encoder:
    """An encoder whose vocabularies hold the integers 0 .. size - 1 (10 unless given) in rows 1 .. size."""
    vocabularies = {}
    for f in features:
        if f.kind in ("categorical", "sequence"):
            n = sizes.get(f.embedding or "", 10)
            frame = {
                "value": range(n),
                "row": range(1, n + 1),
                "count": [1] * n,
                "last_seen": [dt.date(2024, 1, 1)] * n,
            }
            schema = {"value": pl.Int64, "row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date}
            vocabularies[f.embedding or ""] = Vocabulary(pl.DataFrame(frame, schema=schema))
    numbers: dict[str, dict[str, Any]] = {}
    for f in features:
        if f.kind == "numeric":
            numbers[f.name] = {"edges": list(f.boundaries)} if f.boundaries else {"mean": 0.0, "std": 1.0}
    return Encoder(features, vocabularies, numbers, {"user": "int64", "item": "int64"})


def random_encoded(encoder: Encoder, of: str, n: int, rng: np.random.Generator) -> Encoded:
    """Rows of one side; every third row's sequences are empty, some ids are unknown, every sixth context is hidden."""
    layout, rows = encoder.layout(of), encoder.embedding_rows()
    sequences = []
    for name, length in layout.sequences:
        lengths = rng.integers(1, length + 1, n) * (np.arange(n) % 3 > 0)
        drawn = rng.integers(1, rows[name], (n, length))
        sequences.append(np.where(np.arange(length) < lengths[:, None], drawn, 0).astype(np.int32))
    ids = [rng.integers(0, rows[name], n) for name in layout.ids]
    encoded = Encoded(
        np.stack(ids, 1).astype(np.int32) if ids else np.zeros((n, 0), np.int32),
        tuple(sequences),
        rng.normal(size=(n, layout.floats)).astype(np.float32),
    )
    return with_known(encoded, np.arange(n) % 6 > 0) if of == "context" else encoded


def random_side(encoder: Encoder, of: str, n: int, seed: int, dtype: torch.dtype = torch.float32) -> Side:
    side = side_of(random_encoded(encoder, of, n, np.random.default_rng(seed)), CPU)
    return side._replace(floats=side.floats.to(dtype))


def a_side(ids: list[list[int]], *sequences: list[list[int]], floats: int = 0) -> Side:
    """Rows as they are given; each number is 1."""
    n = len(ids)
    lists = tuple(np.array(s, np.int32) for s in sequences)
    return side_of(Encoded(np.array(ids, np.int32).reshape(n, -1), lists, np.ones((n, floats), np.float32)), CPU)


def teacher_config(*, tower_hidden_units: tuple[int, ...] = (4,), **more: Any) -> TeacherConfig:
    """A small `teacher` section, or one with towers of no hidden layer, which a config may not ask for."""
    shape = {"embedding_dim": DIM, "num_experts": 3, "expert_hidden_units": (6, 5), "factor_dim": FACTORS}
    config = TeacherConfig.model_validate(shape | more)
    return config.model_copy(update={"tower_hidden_units": tower_hidden_units})


def a_teacher(encoder: Encoder, seed: int = 0, *, num_tasks: int = 2, **more: Any) -> Teacher:
    torch.manual_seed(seed)
    model = spread(build_teacher(encoder, teacher_config(**more), num_tasks))
    lively(model.net)
    return model


def a_student(
    encoder: Encoder,
    seed: int = 0,
    *,
    unit: bool = True,
    units: tuple[int, ...] = (8, 5),
    auxiliary: bool = False,
    dim: int = DIM,
    towers: str = "wide_and_deep",
) -> DSSM:
    config: dict[str, Any] = {"embedding_dim": dim, "hidden_units": units, "vectors": "unit" if unit else "plain"}
    config["towers"] = towers
    if auxiliary:
        config |= {"distill": {"head": "auxiliary"}, "hard": {"w_hard": 1.0}}
    torch.manual_seed(seed)
    return spread(build_student(encoder, Student.model_validate(config)))


def spread(model: Any) -> Any:  # embeddings start so small that a wrong one would not be seen
    with torch.no_grad():
        model.table.weight.mul_(100)
    return model


def lively(net: Network) -> None:  # and layers so small that after a few of them all logits are the same
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.ndim > 1):
            weight.mul_(3)


def plain_parts(weight: Tensor, table: EmbeddingTable, encoder: Encoder, of: str, x: Side) -> list[Tensor]:
    """One lookup a column, a loop a row and sequence, in some columns of a table's weight."""
    ids, sequences = x.ids, x.sequences
    layout = encoder.layout(of)
    parts = [weight[table.part(name)][ids[:, k]] for k, name in enumerate(layout.ids)]
    for (name, _), sequence in zip(layout.sequences, sequences, strict=True):
        mine = weight[table.part(name)]
        none = torch.zeros(weight.shape[1], dtype=weight.dtype)
        parts.append(torch.stack([mine[r[r > 0]].mean(0) if (r > 0).any() else none for r in sequence]))
    return parts


def plain_embedding(table: EmbeddingTable, encoder: Encoder, of: str, x: Side, width: int | None = None) -> Tensor:
    return torch.cat([*plain_parts(table.weight[:, :width], table, encoder, of, x), x.floats], 1)


def rows_of(x: Side, index: Tensor) -> Side:
    sequences = tuple(s[index] for s in x.sequences)
    return Side(x.ids[index], sequences, x.floats[index], tuple(known_of(s.numpy(), CPU) for s in sequences))


# -- embeddings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["user", "item", "context"])
def test_side_embedder_is_ids_then_masked_means_then_floats(of: str) -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    layout = encoder.layout(of)
    torch.manual_seed(0)
    table = EmbeddingTable(encoder.embedding_rows(), DIM)
    x = random_side(encoder, of, 9, 1)
    embedder = SideEmbedder(table, layout.ids, layout.sequences)
    out = embedder(table(*embedder.rows(x)), x)
    assert out.shape == (9, layout.width(DIM) + (of == "context"))
    torch.testing.assert_close(out, plain_embedding(table, encoder, of, x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("of", ["user", "item"])
def test_gradients_of_looked_up_rows_are_those_of_padded_lists(of: str) -> None:
    encoder = encoder_of(*USER, *ITEM)
    layout, x = encoder.layout(of), random_side(encoder, of, 40, 1)
    found: list[Tensor] = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = EmbeddingTable(encoder.embedding_rows(), DIM, sparse=sparse)
        embedder = SideEmbedder(table, layout.ids, layout.sequences)
        out = embedder(*looked_up(table, (embedder, x)), x) if sparse else plain_embedding(table, encoder, of, x)
        out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
        assert table.weight.grad is not None and table.weight.grad.is_sparse == sparse
        found.append(table.weight.grad.to_dense())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)
    assert found[1].any()


def test_an_empty_sequence_is_zero_and_gives_no_gradient() -> None:
    table = EmbeddingTable({"a": 5}, DIM, sparse=False)
    embedder = SideEmbedder(table, (), (("a", 3),))
    side = a_side([[]], [[0, 0, 0]], floats=2)
    out = embedder(table(*embedder.rows(side)), side)
    assert out.tolist() == [[0.0] * DIM + [1.0, 1.0]]
    out.sum().backward()
    assert table.weight.grad is not None and not table.weight.grad.any()


@given(
    shapes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=3), seed=st.integers(0, 99)
)
def test_a_lookup_is_plain_indexing_whose_gradient_has_each_row_once(shapes: list[tuple[int, int]], seed: int) -> None:
    torch.manual_seed(seed)
    asked = [torch.randint(0, 9, shape) for shape in shapes]
    table = EmbeddingTable({"a": 5, "b": 4}, DIM)
    plain = table.weight.detach().double().requires_grad_()
    for rows, ours in zip(asked, table(*asked), strict=True):
        assert ours.shape == (*rows.shape, DIM) and torch.equal(ours.double(), plain[rows])
    scale = torch.linspace(-1, 1, DIM)
    sum(((e * scale).cumsum(0).sum() for e in table(*asked)), torch.zeros(())).backward()
    sum(((plain[rows] * scale).cumsum(0).sum() for rows in asked), torch.zeros((), dtype=torch.float64)).backward()
    g = table.weight.grad
    assert g is not None and plain.grad is not None and g.is_sparse
    every = torch.cat([rows.flatten() for rows in asked])
    assert torch.equal(g._indices()[0], every.unique())
    torch.testing.assert_close(g.to_dense(), plain.grad.float(), rtol=0, atol=1e-5)


@given(st.lists(st.integers(0, 5_000), max_size=40) | st.lists(st.integers(0, 5_000), min_size=700, max_size=720))
def test_distinct_rows_are_those_of_unique(rows: list[int]) -> None:
    """Both ways of it: 40 rows may reach beyond what is marked, 700 of 5,001 do not."""
    array = np.array(rows, np.int64)
    for ours, theirs in zip(distinct_of(array), np.unique(array, return_inverse=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for table in (5_001, 10**9):
        asked = torch.from_numpy(array)
        for found, expected in zip(distinct_rows(asked, table), torch.unique(asked, return_inverse=True), strict=True):
            assert torch.equal(found, expected)


def test_a_history_and_an_item_share_rows() -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder)
    assert model.user.offsets[1] == model.item.offsets[0] == model.table.start["item_id"]
    assert model.table.weight.shape == (sum(encoder.embedding_rows().values()), DIM)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_a_split_layer_is_one_layer_cut() -> None:
    torch.manual_seed(0)
    split = SplitLinear((3, 0, 4, 2), 5)
    torch.manual_seed(0)
    whole = torch.nn.Linear(9, 5)
    x = torch.randn(7, 9)
    parts = [split.part(k, x_k) for k, x_k in enumerate(x.split([3, 0, 4, 2], 1))]
    torch.testing.assert_close(sum(parts, split.bias), whole(x), rtol=0, atol=1e-6)


def test_the_scale_of_first_embeddings_is_a_parameter() -> None:
    torch.manual_seed(0)
    assert EmbeddingTable({"a": 5_000}, DIM).weight.std().item() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("rate", [0.3, 0.95])
def test_gate_dropout_renormalises_and_never_drops_all(rate: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(4_000, 2, 3)
    soft = torch.softmax(scores, 2)
    assert torch.equal(gate(scores, rate, training=False), soft)
    assert torch.equal(gate(scores, 0.0, training=True), soft)
    gates = gate(scores, rate, training=True)
    kept = gates > 0
    assert kept.any(2).all()
    masked = soft * kept
    torch.testing.assert_close(gates, masked / masked.sum(2, keepdim=True))
    # all three dropped (rate ** 3) keeps all three instead
    assert (~kept).double().mean().item() == pytest.approx(rate - rate**3, abs=0.01)


def test_a_kept_expert_of_no_weight_is_not_divided_by_it() -> None:
    torch.manual_seed(0)
    gates = gate(torch.tensor([[200.0, 0.0]]).repeat(64, 1), 0.5, training=True)  # exp(-200) is 0 in float32
    assert gates.sum(1).eq(1).all() and gates[:, 1].eq(1).any()


# -- teachers against themselves written plainly -----------------------------------------------------------------------

NETWORKS: dict[str, dict[str, Any]] = {
    "shared_bottom": {"model": "shared_bottom"},
    "mmoe": {"model": "mmoe"},
    "ple": {"model": "ple", "num_experts": 2},
    "ple deep": {"model": "ple", "num_levels": 3, "num_task_experts": 2, "num_experts": 1, "num_tasks": 3},
    "one task": {"model": "mmoe", "num_tasks": 1},
    "no factors": {"model": "ple", "num_levels": 2, "factor_dim": 0},
}
EACH = pytest.mark.parametrize("more", NETWORKS.values(), ids=NETWORKS)
SIDES = pytest.mark.parametrize(
    "features", [(*USER, *ITEM, *CONTEXT), (*USER, *ITEM), (USER[0], *ITEM, CONTEXT[1])], ids=["all", "none", "few"]
)
Next = Callable[[int], Tensor]


def outputs(weight: Tensor, bias: Tensor, x: Tensor) -> Next:
    """Each call gives the layer's next `width` outputs."""
    at = 0

    def following(width: int) -> Tensor:
        nonlocal at
        at += width
        return F.linear(x, weight[at - width : at], bias[at - width : at])

    return following


def plain_expert(experts: Experts, e: int, pre: Tensor) -> Tensor:
    h = pre.relu()
    for weight, bias in zip(experts.weights, experts.biases, strict=True):
        h = F.linear(h, weight[e].T, bias[e, 0]).relu()
    return h


def mixture(gates: Tensor, experts: list[Tensor]) -> Tensor:
    return torch.stack([gates[:, e : e + 1] * h for e, h in enumerate(experts)]).sum(0)


def plain_shared_bottom(net: SharedBottom, first: Next, units: int) -> tuple[list[Tensor], list[Tensor]]:
    h = first(units).relu()
    for layer in net.later[::2]:
        h = F.linear(h, layer.weight, layer.bias).relu()
    return [h] * len(net.towers), [torch.ones(len(h), 1, dtype=h.dtype)] * len(net.towers)


def plain_mmoe(net: MMoE, first: Next, units: int) -> tuple[list[Tensor], list[Tensor]]:
    """g_k = softmax(W_k x), h_k = sum_e g_ke expert_e(x)."""
    experts = [plain_expert(net.experts, e, first(units)) for e in range(net.experts.num)]
    gates = [first(len(experts)).softmax(1) for _ in net.towers]
    return [mixture(g, experts) for g in gates], gates


def plain_ple(net: PLE, first: Next, units: int) -> tuple[list[Tensor], list[Tensor]]:
    """Tang et al., RecSys 2020, figure 5 from the bottom to the towers."""
    tasks = len(net.towers)
    vectors: list[Tensor] = []
    gates: list[Tensor] = []
    for depth, level in enumerate(net.levels, 1):
        e, experts, scores = itertools.count(), [], []
        for g, n in enumerate(level.counts):
            if depth > 1:
                layer = net.later_first[depth - 2][g]
                first = outputs(layer.weight, layer.bias, vectors[g])
            experts.append([plain_expert(level.experts, next(e), first(units)) for _ in range(n)])
            of_all = sum(level.counts) if depth < len(net.levels) else 0
            scores.append(first(n + level.counts[-1] if g < tasks else of_all))
        seen = [own + experts[-1] for own in experts[:-1]] + [[h for own in experts for h in own]]
        last = depth == len(net.levels)
        gates = [s.softmax(1) for s in scores[: tasks if last else tasks + 1]]
        vectors = [mixture(g, h) for g, h in zip(gates, seen, strict=False)]
    return vectors, gates


PLAIN: dict[type[Network], Any] = {SharedBottom: plain_shared_bottom, MMoE: plain_mmoe, PLE: plain_ple}


def plain_teacher(
    model: Teacher, encoder: Encoder, user: Side, item: Side, context: Side, *crossed: Tensor
) -> tuple[Tensor, Tensor]:
    """Unsplit, unshared: one x a row, expert by expert, task by task."""
    sides = {"user": user, "item": item, "context": context}
    x = [*(plain_embedding(model.table, encoder, s, v, DIM) for s, v in sides.items()), *crossed]
    first = model.net.first
    following = outputs(torch.cat(list(first.weights), 1), first.bias, torch.cat(x, 1))
    vectors, gates = PLAIN[type(model.net)](model.net, following, 6)
    logits = []
    for tower, h in zip(model.net.towers, vectors, strict=True):
        *hidden, last = [layer for layer in tower if isinstance(layer, torch.nn.Linear)]
        for layer in hidden:
            h = F.linear(h, layer.weight, layer.bias).relu()
        logits.append(F.linear(h, last.weight, last.bias)[:, 0])
    width = (model.table.dim - DIM) // len(vectors)  # of a task: factors, then a bias
    for k in range(len(vectors) if width else 0):
        mine = model.table.weight[:, DIM + k * width : DIM + (k + 1) * width]
        u, i = (torch.stack(plain_parts(mine, model.table, encoder, s, sides[s])).sum(0) for s in ("user", "item"))
        dots = [sum((a * b for a, b in zip(f_u[:-1], f_i[:-1], strict=True)), f_u[-1] + f_i[-1])
                for f_u, f_i in zip(u, i, strict=True)]  # fmt: skip
        logits.append(torch.stack(dots))
    return torch.stack(logits, 1), torch.stack(gates, 1)


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, [p for p in named.values() if p.numel()])  # no context: a weight of no column
    each = zip((n for n, p in named.items() if p.numel()), found, strict=True)
    return {n: g.to_dense() if g.is_sparse else g for n, g in each}


USERS, ITEMS = torch.arange(11) % 3, torch.arange(11) // 3


def random_sides(encoder: Encoder, seed: int, dtype: torch.dtype = torch.float32) -> list[Side]:
    return [random_side(encoder, s, n, seed, dtype) for s, n in (("user", 3), ("item", 4), ("context", 11))]


@SIDES
@EACH
def test_a_teacher_is_its_plain_form_gradients_too(features: tuple[Feature, ...], more: dict[str, Any]) -> None:
    encoder = encoder_of(*features)
    model = a_teacher(encoder, seed=1, **more).double()
    user, item, context = random_sides(encoder, 5, torch.float64)
    logits, gates = model(user, item, context, USERS, ITEMS)
    plain = plain_teacher(model, encoder, rows_of(user, USERS), rows_of(item, ITEMS), context)
    assert logits.std(0).min() > 1e-3  # not a comparison of constants
    torch.testing.assert_close(logits, plain[0], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(gates, plain[1], rtol=1e-6, atol=1e-12)
    target = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = (gradients(model, F.mse_loss(x, target)) for x in (logits, plain[0]))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    assert all(g.abs().max() > 0 for g in a.values())  # every parameter learns
    assert (a["table.weight"].abs().amax(0) > 0).all()  # and every column of the table: each task's factors and bias
    factors = more.get("factor_dim", FACTORS)
    assert model.table.dim == DIM + (model.tasks * (1 + FACTORS) if factors else 0)
    assert logits.shape[1] == model.logits_a_row == model.tasks * (2 if factors else 1)


@pytest.mark.parametrize("units", [(6,), (6, 5), (6, 5, 3)], ids=str)
@pytest.mark.parametrize("towers", [(), (4,), (4, 3)], ids=str)
@pytest.mark.parametrize("name", ["shared_bottom", "mmoe", "ple deep"])
def test_any_depth(name: str, towers: tuple[int, ...], units: tuple[int, ...]) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_teacher(encoder, **NETWORKS[name], expert_hidden_units=units, tower_hidden_units=towers).double()
    user, item, context = random_sides(encoder, 2, torch.float64)
    plain = plain_teacher(model, encoder, rows_of(user, USERS), rows_of(item, ITEMS), context)
    for found, expected in zip(model(user, item, context, USERS, ITEMS), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@EACH
def test_shared_users_and_items_are_row_by_row(more: dict[str, Any]) -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    model = a_teacher(encoder, **more).eval().double()
    user, item, context = random_sides(encoder, 3, torch.float64)
    with torch.no_grad():
        shared = model(user, item, context, USERS, ITEMS)
        each = [torch.tensor([0])] * 2
        rows = [
            model(rows_of(user, USERS[k : k + 1]), rows_of(item, ITEMS[k : k + 1]), rows_of(context, [k]), *each)
            for k in range(11)
        ]
    for found, expected in zip(shared, zip(*rows, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-9)


@EACH
def test_halves_join_to_the_forward_pass(more: dict[str, Any]) -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    model = a_teacher(encoder, **more).eval()
    user, item, context = random_sides(encoder, 4)
    users, items, given = model.user_side(user), model.item_side(item), model.context_row(context)
    found = model.logits(users, items, USERS, ITEMS, given)
    for ours, theirs in zip(found, model(user, item, context, USERS, ITEMS), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    tasks = model.tasks
    factors = more.get("factor_dim", FACTORS)
    assert users.wide.shape == (3, tasks, factors + 1 if factors else 0)
    ones, every = torch.ones(4, dtype=torch.int64), torch.arange(4)  # one user with each of the items
    with torch.no_grad():
        logits, _ = model.logits(users, items, ones, every, given[:1].expand(4, -1))
        each = [model.logits(users, items, ones[:1], every[k : k + 1], given[:1])[0] for k in range(4)]
    torch.testing.assert_close(logits, torch.cat(each), rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", [CONTEXT, ()], ids=["context", "none"])
def test_a_batch_holds_each_user_and_item_once(context: tuple[Feature, ...]) -> None:
    encoder = encoder_of(*USER, *ITEM, *context)
    day = a_day(raw_users(), raw_items())
    tables = Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
    batcher = Batcher(encoder, tables, CPU)
    user, item = np.array([4, 1, 4, 4, 1]), np.array([7, 7, 2, 7, 0])
    batch = batcher.batch(pairs(user, item))
    assert (len(batch), len(batch.user.ids), len(batch.item.ids)) == (5, 2, 3)
    model = a_teacher(encoder).eval()
    seen: list[int] = []
    model.net.register_forward_pre_hook(lambda _, x: seen.extend([len(x[0].user), len(x[0].item)]))
    with torch.no_grad():
        together = batch_logits(model, batch)[0]
        assert seen == [2, 3], "the network reads each user and item once"
        each = [batcher.batch(pairs(user[k : k + 1], item[k : k + 1])) for k in range(5)]
        alone = [batch_logits(model, one)[0] for one in each]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_an_unknown_model() -> None:
    with pytest.raises(ValueError, match="'mmoe', 'ple' or 'shared_bottom'"):
        a_teacher(encoder_of(*USER, *ITEM), model="mlp")


@pytest.mark.parametrize("word", get_args(NetworkName))
def test_each_word_of_the_config_is_a_file_with_a_network(word: str) -> None:
    module = import_module(f"dmtl_cli.teacher.networks.{word}")
    for tasks in (2, 3):
        net = build_network(teacher_config(model=word), (3, 4, 2), tasks)
        assert isinstance(net, Network) and type(net).__module__ == module.__name__ and type(net) in PLAIN
        assert [w.shape[1] for w in net.first.weights] == [3, 4, 2] and len(net.towers) == tasks


def test_each_file_of_a_network_is_a_word_of_the_config() -> None:
    shared = import_module("dmtl_cli.teacher.networks.network").__file__
    assert shared is not None
    files = {p.stem for p in Path(shared).parent.glob("*.py")} - {"__init__", "network"}
    assert files == set(get_args(NetworkName))


def test_each_word_of_a_hard_loss_has_one() -> None:
    assert HARD.keys() == set(get_args(Hard.model_fields["loss"].annotation))


# -- one teacher against another ---------------------------------------------------------------------------------------


def test_shared_bottom_is_an_mmoe_of_one_expert() -> None:
    shape: dict[str, Any] = {"tower_hidden_units": (4,), "num_tasks": 2}
    torch.manual_seed(0)
    mmoe = MMoE((3, 4, 2), num_experts=1, expert_hidden_units=(6, 5), **shape)
    bottom = SharedBottom((3, 4, 2), (6, 5), **shape)
    with torch.no_grad():
        for ours, theirs in zip(bottom.first.parameters(), mmoe.first.parameters(), strict=True):
            ours.copy_(theirs[:6])
        bottom.later[0].weight.copy_(mmoe.experts.weights[0][0].T)
        bottom.later[0].bias.copy_(mmoe.experts.biases[0][0, 0])
    bottom.towers.load_state_dict(mmoe.towers.state_dict())
    pre = torch.randn(9, 8)  # of 6 units and 2 gates
    for ours, theirs in zip(bottom.rest(pre[:, :6]), mmoe.rest(pre), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def a_ple(*, own: int, levels: int, dropout: float = 0.0) -> PLE:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"expert_hidden_units": (6, 5), "tower_hidden_units": (4,), "gate_dropout": dropout}
    ple = PLE((3, 4, 2), num_experts=3, num_task_experts=own, num_levels=levels, **shape)
    lively(ple)
    return ple


def test_ple_without_task_experts_is_mmoe() -> None:
    ple = a_ple(own=0, levels=1)
    mmoe = MMoE((3, 4, 2), num_experts=3, expert_hidden_units=(6, 5), tower_hidden_units=(4,))
    mmoe.experts.load_state_dict(ple.levels[0].experts.state_dict())
    mmoe.towers.load_state_dict(ple.towers.state_dict())
    gates, hidden = torch.randn(9, 6), torch.randn(9, 18)
    found = ple.rest(torch.cat([gates, hidden], 1))  # tasks come first
    for ours, theirs in zip(found, mmoe.rest(torch.cat([hidden, gates], 1)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_task_sees_the_others_experts_through_shared_ones_only(levels: int) -> None:
    ple = a_ple(own=2, levels=levels)
    assert ple.widths[:2] == [2 * 6 + 5] * 2
    pre = torch.randn(9, sum(ple.widths))
    before = ple.rest(pre)[0]
    with torch.no_grad():
        pre[:, 17:34] += 1.0  # first layers of task 1: its experts and its gate
        ple.levels[0].experts.weights[0][2:4] += 1.0
    moved = (ple.rest(pre)[0] - before).abs().amax(0)
    assert (moved[0] == 0) == (levels == 1) and moved[1] > 0.01


def test_every_gate_of_every_level_drops() -> None:
    ple = a_ple(own=1, levels=2, dropout=0.5)
    for level in ple.levels:
        pre = [torch.randn(64, n) for n in level.widths]
        (soft, whole), (hard, dropped) = level.eval()(pre), level.train()(pre)
        assert len(soft) == (2 if level.last else 3)
        assert all((x - y).abs().max() > 0.01 for x, y in zip(soft, hard, strict=True))
        assert (whole > 0).all() and (dropped == 0).any(0).all()


# -- the factorization machine -----------------------------------------------------------------------------------------


def test_factors_and_biases_by_hand() -> None:
    encoder = encoder_of(*USER[:2], *ITEM[:2])  # a user: id and mean of the history; an item: id and category
    model = a_teacher(encoder, factor_dim=2).eval()
    deep = [0.3, -0.2, 0.1, 0.5]
    with torch.no_grad():
        for name, row, wide in (  # of two tasks: two factors and a bias each
            ("user_id", 1, [1.0, 0.0, 0.5, 2.0, 1.0, 0.0]),
            ("item_id", 1, [1.0, 2.0, 4.0, 0.0, 0.0, 1.0]),
            ("item_id", 2, [3.0, 2.0, 2.0, 4.0, 2.0, 0.0]),
            ("category", 3, [0.0, -1.0, 1.0, 0.5, 0.0, -0.25]),
        ):
            model.table.weight[model.table.start[name] + row] = torch.tensor(deep + wide)
        user = model.user_side(a_side([[1]], [[1, 2, 0, 0]]))
        item = model.item_side(a_side([[2, 3]]))
        context, zero = model.context_row(a_side([[]])), torch.tensor([0])
        network = model.net.rest(user.part + item.part)[0]
        found = model.logits(user, item, zero, zero, context)[0]
    # task 0: f_u = (1 0) + ((1 2) + (3 2)) / 2 = (3 2), b_u = .5 + (4 + 2) / 2; f_i = (3 2) + (0 -1), b_i = 2 + 1
    # task 1: f_u = (2 1) + ((0 0) + (4 2)) / 2 = (4 2), b_u = 0 + (1 + 0) / 2; f_i = (4 2) + (.5 0), b_i = 0 - .25
    expected = torch.cat([network, torch.tensor([[9 + 2 + 3.5 + 3, 18 + 4 + 0.5 - 0.25]])], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert user.wide[..., :2].tolist() == [[[3, 2], [4, 2]]] and item.wide[..., 2].tolist() == [[3.0, -0.25]]


def test_without_factors_there_is_the_network_alone() -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_teacher(encoder, factor_dim=0).eval()
    user, item, context = random_sides(encoder, 1)
    with torch.no_grad():
        users, items, given = model.user_side(user), model.item_side(item), model.context_row(context)
        zero = torch.tensor([0])
        network = model.net.rest(users.part[:1] + items.part[:1])[0]
        logits = model.logits(users, items, zero, zero, given[:1])[0]
    assert users.wide.shape == (3, 2, 0) and model.table.dim == DIM
    torch.testing.assert_close(logits, network, rtol=1e-6, atol=1e-6)


def test_the_wide_columns_are_no_input_of_the_network() -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    model = a_teacher(encoder).eval()
    user, item, context = random_sides(encoder, 1)

    def parts() -> tuple[Tensor, Tensor, Tensor]:
        return model.user_side(user).part, model.item_side(item).part, model.context_row(context)

    with torch.no_grad():
        before = parts()
        model.table.weight[:, DIM:] += 1.0
        assert all(torch.equal(a, b) for a, b in zip(before, parts(), strict=True))
        model.table.weight[:, :DIM] += 1.0
        assert not any(torch.equal(a, b) for a, b in zip(before, parts(), strict=True))


def test_each_task_has_factors_of_its_own() -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_teacher(encoder, num_tasks=3).eval()
    sides = random_sides(encoder, 1)
    with torch.no_grad():
        before = model(*sides, USERS, ITEMS)[0]
        width = FACTORS + 1
        model.table.weight[:, DIM + width : DIM + 2 * width] += 1.0
        moved = (model(*sides, USERS, ITEMS)[0] - before).abs().amax(0)
    assert moved.shape == (6,) and moved[4] > 0.1
    assert (moved[[0, 1, 2, 3, 5]] == 0).all(), "neither the network nor another task's"


# -- the student -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("towers", ["wide_and_deep", "deep"])
@pytest.mark.parametrize("unit", [True, False], ids=["unit", "plain"])
def test_dssm_is_scale_dot_bias(unit: bool, towers: str) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder, unit=unit, towers=towers).eval()
    with torch.no_grad():
        model.bias.fill_(-0.7)
        user, item = random_side(encoder, "user", 7, 1), random_side(encoder, "item", 7, 2)
        u, v = model.user_vectors(user), model.item_vectors(item)
        logits = model.logits(u, v)
    expected = []
    for tower, of, x in ((model.user_tower, "user", user), (model.item_tower, "item", item)):
        h = plain_embedding(model.table, encoder, of, x).detach().double().numpy()
        w = [p.detach().double().numpy() for p in tower.parameters()]
        deep = np.maximum(h @ w[0].T + w[1], 0)
        if towers == "wide_and_deep":  # x beside the layers' output: two products, added
            width = h.shape[1]
            h = h @ w[2][:, :width].T + deep @ w[2][:, width:].T + w[3]
        else:
            h = deep @ w[2].T + w[3]
        expected.append(h / np.linalg.norm(h, axis=1, keepdims=True) if unit else h)
    np.testing.assert_allclose(u.numpy(), expected[0], atol=2e-6)
    scale = 5.0 if unit else 1.0
    assert model.scale.item() == pytest.approx(scale)
    np.testing.assert_allclose(logits.numpy(), scale * (expected[0] * expected[1]).sum(1) - 0.7, atol=1e-5)
    if unit:
        for x in (u, v):
            torch.testing.assert_close(x.norm(dim=1), torch.ones(7))
    else:
        assert model.log_scale is None and "log_scale" not in dict(model.named_parameters())


def test_a_learned_scale_stays_positive() -> None:
    model = a_student(encoder_of(*USER, *ITEM))
    assert model.log_scale is not None
    for value in (-20.0, 0.0, 5.0):
        model.log_scale.data.fill_(value)
        assert model.scale > 0
    user, item = torch.eye(5)[:1], torch.eye(5)[:1]
    (g,) = torch.autograd.grad(model.logits(user, item).sum(), model.log_scale)
    assert g.item() == pytest.approx(model.scale.item())  # a cosine of 1


# -- a second head -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "plain"])
def test_heads_of_a_student_without_a_second_one_are_one(unit: bool) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder, unit=unit).eval()
    user, item = random_side(encoder, "user", 7, 1), random_side(encoder, "item", 7, 2)
    served, soft = model.heads(user, item)
    assert served is soft
    plain, _ = model.heads(user, item, plain=True)
    assert torch.equal(plain[0], model.user_vectors(user)) and torch.equal(plain[1], model.item_vectors(item))
    torch.testing.assert_close(served, plain)
    assert torch.equal(model.soft_logits(*soft), model.logits(*served))


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "plain"])
def test_the_auxiliary_head_is_a_last_layer_of_its_own(unit: bool) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder, unit=unit, auxiliary=True).eval()
    head = model.auxiliary
    assert head is not None
    user, item = random_side(encoder, "user", 7, 1), random_side(encoder, "item", 7, 2)
    with torch.no_grad():
        head.bias.fill_(0.3)
        if head.log_scale is not None:
            head.log_scale.fill_(0.5)
        served, soft = model.heads(user, item)
        expected = []
        for tower, of, x, last in (
            (model.user_tower, "user", user, head.user),
            (model.item_tower, "item", item, head.item),
        ):
            e = plain_embedding(model.table, encoder, of, x)
            h = torch.cat([e, F.linear(e, tower[0].weight, tower[0].bias).relu()], 1)
            v = F.linear(h, last.weight, last.bias)
            expected.append(v / v.norm(dim=1, keepdim=True) if unit else v)
        torch.testing.assert_close(soft, tuple(expected))
        scale = np.exp(0.5) if unit else 1.0
        torch.testing.assert_close(model.soft_logits(*soft), scale * (expected[0] * expected[1]).sum(1) + 0.3)
        assert torch.equal(served[0], model.user_vectors(user)) and (served[0] - soft[0]).abs().max() > 0.1
        for p in head.parameters():
            p.add_(torch.randn(p.shape))
        again = model.heads(user, item)
    assert all(torch.equal(a, b) for a, b in zip(served, again[0], strict=True)), "nothing of it is served"
    assert torch.equal(model.logits(*served), model.logits(*again[0]))
    assert not torch.equal(soft[0], again[1][0])


SERVED_ONLY = {
    "user_tower.2.weight",
    "user_tower.2.bias",
    "item_tower.2.weight",
    "item_tower.2.bias",
    "bias",
    "log_scale",
}


@pytest.mark.parametrize(("w_kd", "w_hard"), [(1.0, 1e-30), (1e-30, 1.0), (1.0, 1.0)])
def test_scores_train_the_auxiliary_head_and_labels_the_served_one(w_kd: float, w_hard: float) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder, auxiliary=True).double()
    config = Student.model_validate(
        {"distill": {"w_kd": w_kd, "head": "auxiliary"}, "hard": {"w_hard": w_hard, "loss": "pointwise"}}
    )
    day = a_day(raw_users(), raw_items())
    tables = Tables(encoder.entities(day, "user"), encoder.entities(day, "item"))
    rng, one = np.random.default_rng(0), np.ones(20, np.float32)
    user, item, targets = rng.integers(0, 5, 20), rng.integers(0, 8, 20), rng.normal(size=(20, 1))
    labels = StudentLabels(targets, np.zeros(20, np.int8), one, rng.random(20) < 0.5, one)
    batch = Batcher(encoder, tables, CPU).batch(Rows(user, item, labels))
    doubled = [x._replace(floats=x.floats.double()) for x in (batch.user, batch.item)]
    loss_of = StudentLoss(model, config, 1.0, torch.zeros(8), {})
    loss, parts = loss_of(replace(batch, user=doubled[0], item=doubled[1]), True)
    found = {n: float(g.abs().max()) for n, g in gradients(model, loss).items()}
    of_head = {n for n in found if n.startswith("auxiliary.")}
    assert len(of_head) == 6 and found.keys() > SERVED_ONLY
    for names, weight in ((of_head, w_kd), (SERVED_ONLY, w_hard)):
        assert all((found[n] > 1e-6) == (weight == 1) for n in names), found
    assert all(found[n] > 1e-6 for n in found.keys() - of_head - SERVED_ONLY), "both shape what lies below"
    assert set(parts) == {"loss.kd", "loss.hard"}


# -- scoring -----------------------------------------------------------------------------------------------------------


def a_day(users: pl.DataFrame, items: pl.DataFrame) -> Day:
    none = np.zeros(0, np.int64)
    zeros = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    return Day(
        dt.date(2024, 1, 1),
        users,
        items,
        Spool(Path(), ()),
        none,
        none,
        zeros[0],
        *[zeros[1]] * 2,
        facts={"rows": 0.0},
    )


def raw_users(n: int = 5) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            ID: np.arange(n) * 2,
            "user_id": np.arange(n) * 2,
            "history": [list(range(k)) or None for k in range(n)],
            "taste": rng.normal(size=(n, 3)).tolist(),
            "device": np.arange(n) % 3,
        }
    )


def raw_items(n: int = 8) -> pl.DataFrame:
    return pl.DataFrame(
        {
            ID: np.arange(n) + 5,
            "item_id": np.arange(n) + 5,  # the last ones are unknown
            "category": np.arange(n) % 3,
            "tags": [[k, k + 1] if k % 2 else [] for k in range(n)],
            "price": np.linspace(-1, 1, n),
        }
    )


@pytest.mark.parametrize(
    ("event", "context"), [(False, CONTEXT), (True, ()), (True, CONTEXT)], ids=["entity", "event", "event and context"]
)
@pytest.mark.parametrize("name", ["mmoe", "shared_bottom", "ple deep", "no factors"])
def test_catalogue_is_pairs_of_each_user_with_every_item(
    name: str, event: bool, context: tuple[Feature, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = (feature("device", "user", "categorical", level="event"),) if event else ()
    encoder = encoder_of(*USER, *device, *ITEM, *context)
    day = a_day(raw_users(), raw_items())
    model = a_teacher(encoder, **NETWORKS[name]).eval()
    scorer = Scorer(encoder, model, day, CPU)
    monkeypatch.setattr(scoring, "_ITEMS", 3)
    users = np.array([3, 0, 3, 4])
    found = np.stack(list(scorer.catalogue(users)))
    tasks = model.logits_a_row
    assert found.shape == (4, 8, tasks)
    pair = np.repeat(users, 8), np.tile(np.arange(8), 4)
    features = day.users.select("device")[pair[0]] if event else None
    for batch_size in (7, 8_192):
        scored = scorer.pairs(pairs(*pair, features), batch_size)
        if event and context:  # a pair of an event has a context, of nulls here
            assert np.abs(found.reshape(-1, tasks) - scored).max() > 1e-3
            scored = found.reshape(-1, tasks)
        np.testing.assert_allclose(found.reshape(-1, tasks), scored, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(scorer.lists(pairs(*pair, features), batch_size), scored, atol=1e-5, rtol=1e-5)
    assert scorer.pairs(pairs(users[:0], users[:0])).shape == (0, tasks)
    assert found.std() > 1e-3
