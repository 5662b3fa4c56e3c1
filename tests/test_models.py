"""Networks against plain, unshared forms of the same formulas (METHOD 3, 4)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dmtl_cli import scoring
from dmtl_cli.config import Feature
from dmtl_cli.data.batches import inputs
from dmtl_cli.data.encode import Encoded, Encoder, Vocabulary
from dmtl_cli.data.log import ID, Day
from dmtl_cli.data.samples import Rows
from dmtl_cli.models import build_student, build_teacher
from dmtl_cli.models.dssm import DSSM
from dmtl_cli.models.layers import EmbeddingTable, SideEmbedder
from dmtl_cli.models.mmoe import MMoE, Side, Teacher
from dmtl_cli.scoring import Scorer, side

CPU = torch.device("cpu")
DIM = 4
Array = np.ndarray[Any, Any]


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
    """Rows of one side; every third row's sequences are empty, some ids are unknown."""
    layout, rows = encoder.layout(of), encoder.embedding_rows()
    sequences = []
    for name, length in layout.sequences:
        lengths = rng.integers(1, length + 1, n) * (np.arange(n) % 3 > 0)
        drawn = rng.integers(1, rows[name], (n, length))
        sequences.append(np.where(np.arange(length) < lengths[:, None], drawn, 0).astype(np.int32))
    ids = [rng.integers(0, rows[name], n) for name in layout.ids]
    return Encoded(
        np.stack(ids, 1).astype(np.int32) if ids else np.zeros((n, 0), np.int32),
        tuple(sequences),
        rng.normal(size=(n, layout.floats)).astype(np.float32),
    )


def random_side(encoder: Encoder, of: str, n: int, seed: int, dtype: torch.dtype = torch.float32) -> Side:
    ids, sequences, floats = side(inputs(random_encoded(encoder, of, n, np.random.default_rng(seed)), CPU))
    return ids, sequences, floats.to(dtype)


def a_teacher(encoder: Encoder, seed: int = 0, **more: Any) -> Teacher:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"num_experts": 3, "expert_hidden_units": (6, 5), "tower_hidden_units": (4,)}
    return spread(build_teacher(encoder, embedding_dim=DIM, **(shape | more)))


def a_student(encoder: Encoder, seed: int = 0, *, unit: bool = True, units: tuple[int, ...] = (8, 5)) -> DSSM:
    torch.manual_seed(seed)
    return spread(build_student(encoder, embedding_dim=DIM, hidden_units=units, unit=unit))


def spread(model: Any) -> Any:  # embeddings start so small that a wrong one would not be seen
    with torch.no_grad():
        model.table.weight.mul_(100)
    return model


def plain_embedding(table: EmbeddingTable, encoder: Encoder, of: str, x: Side) -> Tensor:
    """One lookup a column, a loop a row and sequence."""
    ids, sequences, floats = x
    layout = encoder.layout(of)
    parts = [table.weight[table.part(name)][ids[:, k]] for k, name in enumerate(layout.ids)]
    for (name, _), sequence in zip(layout.sequences, sequences, strict=True):
        weight = table.weight[table.part(name)]
        none = torch.zeros(table.dim, dtype=weight.dtype)
        parts.append(torch.stack([weight[r[r > 0]].mean(0) if (r > 0).any() else none for r in sequence]))
    return torch.cat([*parts, floats], 1)


def rows_of(x: Side, index: Tensor) -> Side:
    return x[0][index], tuple(s[index] for s in x[1]), x[2][index]


# -- embeddings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["user", "item", "context"])
def test_side_embedder_is_ids_then_masked_means_then_floats(of: str) -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    layout = encoder.layout(of)
    torch.manual_seed(0)
    table = EmbeddingTable(encoder.embedding_rows(), DIM)
    x = random_side(encoder, of, 9, 1)
    out = SideEmbedder(table, layout.ids, layout.sequences)(table, *x)
    assert out.shape == (9, layout.width(DIM))
    torch.testing.assert_close(out, plain_embedding(table, encoder, of, x), rtol=0, atol=1e-8)


def test_an_empty_sequence_is_zero_and_gives_no_gradient() -> None:
    table = EmbeddingTable({"a": 5}, DIM, sparse=False)
    out = SideEmbedder(table, (), (("a", 3),))(
        table, torch.zeros(1, 0).long(), (torch.zeros(1, 3).long(),), torch.ones(1, 2)
    )
    assert out.tolist() == [[0.0] * DIM + [1.0, 1.0]]
    out.sum().backward()
    assert table.weight.grad is not None and not table.weight.grad.any()


def test_a_history_and_an_item_share_rows() -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder)
    assert model.user.offsets[1] == model.item.offsets[0] == model.table.start["item_id"]
    assert model.table.weight.shape == (sum(encoder.embedding_rows().values()), DIM)


# -- the teacher -------------------------------------------------------------------------------------------------------


def numpy_teacher(m: MMoE, x: Array) -> tuple[Array, Array]:
    """g_k = softmax(W_k x), h_k = sum_e g_ke expert_e(x), logit_k = tower_k(h_k)."""
    p = {name: w.detach().double().numpy() for name, w in m.named_parameters()}
    first = np.concatenate([p["first_user"], p["first_item"], p["first_context"]], 1)
    hidden = m.experts * m.units
    experts = []
    for e in range(m.experts):
        cut = slice(e * m.units, (e + 1) * m.units)
        h = np.maximum(x @ first[cut].T + p["first_bias"][cut], 0)
        for k in range(0, len(m.later), 2):
            h = np.maximum(h @ p[f"later.{k}"][e] + p[f"later.{k + 1}"][e, 0], 0)
        experts.append(h)
    logits, gates = [], []
    for t in range(m.tasks):
        cut = slice(hidden + t * m.experts, hidden + (t + 1) * m.experts)
        z = np.exp(x @ first[cut].T + p["first_bias"][cut])
        gate = z / z.sum(1, keepdims=True)
        h = sum(gate[:, e : e + 1] * experts[e] for e in range(m.experts))
        linear = [k for k, layer in enumerate(m.towers[t]) if isinstance(layer, torch.nn.Linear)]
        for k in linear:
            h = h @ p[f"towers.{t}.{k}.weight"].T + p[f"towers.{t}.{k}.bias"]
            h = h if k == linear[-1] else np.maximum(h, 0)
        logits.append(h[:, 0])
        gates.append(gate)
    return np.stack(logits, 1), np.stack(gates, 1)


SIDES = pytest.mark.parametrize(
    "features", [(*USER, *ITEM, *CONTEXT), (*USER, *ITEM), (USER[0], *ITEM, CONTEXT[1])], ids=["all", "none", "few"]
)


@SIDES
@pytest.mark.parametrize("units", [(6,), (6, 5), (6, 5, 3)], ids=str)
def test_mmoe_is_the_plain_formula_on_the_whole_of_x(features: tuple[Feature, ...], units: tuple[int, ...]) -> None:
    encoder = encoder_of(*features)
    model = a_teacher(encoder, expert_hidden_units=units, tower_hidden_units=(4,) if len(units) > 1 else ()).eval()
    users, items, context = (random_side(encoder, s, n, 2) for s, n in (("user", 3), ("item", 4), ("context", 11)))
    rng = np.random.default_rng(3)
    user_index, item_index = (torch.from_numpy(rng.integers(0, n, 11)) for n in (3, 4))
    with torch.no_grad():
        logits, gates = model(users, items, context, user_index, item_index)
        whole = [
            plain_embedding(model.table, encoder, s, x)
            for s, x in (
                ("user", rows_of(users, user_index)),
                ("item", rows_of(items, item_index)),
                ("context", context),
            )
        ]
    expected = numpy_teacher(model.mmoe, torch.cat(whole, 1).double().numpy())
    np.testing.assert_allclose(logits.numpy(), expected[0], atol=2e-6, rtol=2e-6)
    np.testing.assert_allclose(gates.numpy(), expected[1], atol=1e-6, rtol=0)
    assert logits.std() > 1e-3  # not a comparison of constants


def torch_teacher(model: Teacher, encoder: Encoder, user: Side, item: Side, context: Side) -> Tensor:
    """Unshared: every row carries its own user and item."""
    m, sides = model.mmoe, (("user", user), ("item", item), ("context", context))
    x = torch.cat([plain_embedding(model.table, encoder, s, v) for s, v in sides], 1)
    pre = x @ torch.cat([m.first_user, m.first_item, m.first_context], 1).T + m.first_bias
    experts = []
    for e in range(m.experts):
        h = pre[:, e * m.units : (e + 1) * m.units].relu()
        for k in range(0, len(m.later), 2):
            h = (h @ m.later[k][e] + m.later[k + 1][e]).relu()
        experts.append(h)
    out = []
    for t, tower in enumerate(m.towers):
        at = m.experts * m.units + t * m.experts
        gate = pre[:, at : at + m.experts].softmax(1)
        out.append(tower(sum((gate[:, e : e + 1] * experts[e] for e in range(m.experts)), torch.zeros(()))))
    return torch.cat(out, 1)


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()))
    return {n: g.to_dense() if g.is_sparse else g for n, g in zip(named, found, strict=True)}


@SIDES
def test_gradients_are_those_of_the_unshared_form(features: tuple[Feature, ...]) -> None:
    encoder = encoder_of(*features)
    model = a_teacher(encoder).double()
    sizes = {"user": 3, "item": 4, "context": 11}
    users, items, context = (random_side(encoder, s, n, 5, torch.float64) for s, n in sizes.items())
    user_index, item_index = torch.arange(11) % 3, torch.arange(11) // 3
    target = torch.randn(11, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shared = model(users, items, context, user_index, item_index)[0]
    plain = torch_teacher(model, encoder, rows_of(users, user_index), rows_of(items, item_index), context)
    a, b = (gradients(model, F.mse_loss(x, target)) for x in (shared, plain))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    assert all(g.abs().max() > 0 for n, g in a.items() if g.numel())


def test_gate_dropout_renormalises_and_never_drops_all() -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_teacher(encoder, gate_dropout=0.3).mmoe
    pre = torch.randn(4_000, len(model.first_bias))
    _, soft = model.eval().rest(pre)
    assert (soft > 0).all()  # off in eval
    assert torch.equal(soft, model.rest(pre)[1])
    for rate in (0.3, 0.95):
        model.train().gate_dropout = rate
        _, gates = model.rest(pre)
        kept = gates > 0
        torch.testing.assert_close(gates.sum(2), torch.ones(4_000, 2))
        assert kept.any(2).all()
        masked = soft * kept
        torch.testing.assert_close(gates, masked / masked.sum(2, keepdim=True))
        # all three dropped (rate ** 3) keeps all three instead
        assert (~kept).double().mean().item() == pytest.approx(rate - rate**3, abs=0.01)


def test_gate_dropout_of_zero_trains_like_eval() -> None:
    model = a_teacher(encoder_of(*USER, *ITEM)).mmoe
    pre = torch.randn(5, len(model.first_bias))
    assert torch.equal(model.train().rest(pre)[0], model.eval().rest(pre)[0])


# -- the student -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "plain"])
def test_dssm_is_scale_dot_bias(unit: bool) -> None:
    encoder = encoder_of(*USER, *ITEM)
    model = a_student(encoder, unit=unit).eval()
    with torch.no_grad():
        model.bias.fill_(-0.7)
        user, item = random_side(encoder, "user", 7, 1), random_side(encoder, "item", 7, 2)
        u, v = model.user_vectors(user), model.item_vectors(item)
        logits = model.logits(u, v)
    expected = []
    for tower, of, x in ((model.user_tower, "user", user), (model.item_tower, "item", item)):
        h = plain_embedding(model.table, encoder, of, x).detach().double().numpy()
        w = [p.detach().double().numpy() for p in tower.parameters()]
        h = np.maximum(h @ w[0].T + w[1], 0) @ w[2].T + w[3]
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


# -- scoring -----------------------------------------------------------------------------------------------------------


def a_day(users: pl.DataFrame, items: pl.DataFrame) -> Day:
    none = np.zeros(0, np.int64)
    zeros = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    return Day(
        dt.date(2024, 1, 1), users, items, Path(), none, none, zeros[0], *[zeros[1]] * 2, inputs=(), facts={"rows": 0.0}
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


@pytest.mark.parametrize("event", [False, True], ids=["entity", "event"])
def test_catalogue_is_pairs_of_each_user_with_every_item(event: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    device = (feature("device", "user", "categorical", level="event"),) if event else ()
    encoder = encoder_of(*USER, *device, *ITEM, *CONTEXT)
    day = a_day(raw_users(), raw_items())
    scorer = Scorer(encoder, a_teacher(encoder).eval(), day, CPU)
    monkeypatch.setattr(scoring, "_ITEMS", 3)
    users = np.array([3, 0, 3, 4])
    found = np.stack(list(scorer.catalogue(users)))
    assert found.shape == (4, 8, 2)
    pair = np.repeat(users, 8), np.tile(np.arange(8), 4)
    features = day.users.select("device")[pair[0]] if event else None
    for batch_size in (7, 8_192):
        pairs = scorer.pairs(Rows(*pair, {}, features), batch_size)
        np.testing.assert_allclose(found.reshape(-1, 2), pairs, atol=2e-6, rtol=1e-5)
    assert found.std() > 1e-3


def test_user_and_item_parts_add_up_to_the_forward_pass() -> None:
    encoder = encoder_of(*USER, *ITEM, *CONTEXT)
    model = a_teacher(encoder).eval()
    user, item, context = (random_side(encoder, s, 6, 4) for s in ("user", "item", "context"))
    each = torch.arange(6)
    with torch.no_grad():
        parts = model.user_part(user) + model.item_part(item) + model.context_part(context)
        assert torch.equal(model.mmoe.rest(parts)[0], model(user, item, context, each, each)[0])
