"""Makes a teacher from flat numbers."""

from __future__ import annotations

from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.nn.layers import EmbeddingTable, Network, SideEmbedder
from dmtl_cli.nn.sharded import TableOf
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.networks.mmoe import MMoE
from dmtl_cli.teacher.networks.ple import PLE
from dmtl_cli.teacher.networks.shared_bottom import SharedBottom


def build_teacher(
    encoder: Encoder,
    *,
    model: str = "mmoe",
    num_tasks: int = 2,
    embedding_dim: int,
    num_experts: int,
    expert_hidden_units: tuple[int, ...],
    tower_hidden_units: tuple[int, ...],
    gate_dropout: float = 0.0,
    num_task_experts: int = 1,
    num_levels: int = 1,
    factor_dim: int = 0,
    crosses: tuple[tuple[str, str], ...] = (),
    table_of: TableOf = EmbeddingTable,
) -> Teacher:
    """An untrained teacher.

    Args:
        model: mmoe; ple, which alone reads num_task_experts and num_levels; shared_bottom, which has one expert and no
            gate.
        factor_dim: F of the factorization machine, 0: none.
        crosses: a user feature and an item feature each, both of one embedding.
        table_of: makes the table.
    """
    wide = num_tasks * (factor_dim + 1) if factor_dim else 0
    table = table_of(encoder.embedding_rows(), embedding_dim + wide)
    layouts = [encoder.layout(s) for s in ("user", "item", "context")]
    user, item, context = (SideEmbedder(table, lay.ids, lay.sequences) for lay in layouts)
    widths = tuple(lay.width(embedding_dim) for lay in layouts) + ((len(crosses),) if crosses else ())
    net: Network
    match model:
        case "shared_bottom":
            net = SharedBottom(widths, expert_hidden_units, tower_hidden_units, num_tasks)
        case "mmoe":
            net = MMoE(
                widths,
                num_experts=num_experts,
                expert_hidden_units=expert_hidden_units,
                tower_hidden_units=tower_hidden_units,
                num_tasks=num_tasks,
                gate_dropout=gate_dropout,
            )
        case "ple":
            net = PLE(
                widths,
                num_experts=num_experts,
                num_task_experts=num_task_experts,
                num_levels=num_levels,
                expert_hidden_units=expert_hidden_units,
                tower_hidden_units=tower_hidden_units,
                num_tasks=num_tasks,
                gate_dropout=gate_dropout,
            )
        case _:
            raise ValueError(f"model: expected mmoe, ple or shared_bottom, got {model}")
    columns = tuple((encoder.columns(u), encoder.columns(i)) for u, i in crosses)
    return Teacher(table, user, item, context, net, embedding_dim, columns)
