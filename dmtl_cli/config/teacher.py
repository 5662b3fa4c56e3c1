"""`teacher`: its samples, its network and the losses of its tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dmtl_cli.config.section import Name, Positive, Rate, Section, Share, Units, Weight
from dmtl_cli.config.training import Training

Network = Literal["mmoe", "ple", "shared_bottom"]
NETWORK_OPTIONS: dict[Network, tuple[str, ...]] = {
    "mmoe": ("num_experts", "gate_dropout"),
    "ple": ("num_experts", "num_task_experts", "num_levels", "gate_dropout"),
    "shared_bottom": (),
}
"""keys of the section that a network takes, besides those that every network does"""


class Cross(Section):
    """How often a user's values of one feature equal an item's of another; both of one embedding_name."""

    user: Name
    """a feature of side user, categorical or sequence, not level: event"""
    item: Name
    """a feature of side item, categorical or sequence"""


class Teacher(Training):
    user_rows: Positive = 1
    """rows of a user that stay together in a batch, where the user's part is computed once; 1: rows in random order"""
    first_window_days: Positive | None = None
    """days that the chain's first teacher learns from, ending with its own; default the fewest that have 20,000 rows,
    at most 60, as far as the log has them (with auto.budget: 0 one)"""
    window_days: Positive = 1
    """days that each later teacher learns from"""
    samples: Literal["exposed", "mixed", "sampled"] = "exposed"
    """exposed: exposed rows; mixed: those and drawn negatives; sampled: clicks and drawn negatives (the paper's; the
    default for a log of clicks alone)"""
    negatives: Positive = 1
    """drawn per row (mixed) or per click (sampled); 20 in a log of clicks alone"""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    """a negative is drawn in proportion to clicks ** alpha"""
    negative_weight: Rate = 1.0
    """weight of a drawn row, times that of the row it is drawn for"""
    model: Network = "mmoe"
    num_experts: Annotated[int, Field(ge=1)] = 8
    """mmoe: all experts; ple: those that all tasks share, per level"""
    num_task_experts: Positive = 2
    """ple: experts of one task alone, per level"""
    num_levels: Positive = 1
    """ple: extraction levels"""
    expert_hidden_units: Units = (128, 64)
    """widths of an expert's layers; shared_bottom: of the bottom's"""
    tower_hidden_units: Units = (32,)
    batch_norm: bool = False
    """layers of experts (shared_bottom: of the bottom) and of towers are normalised over the batch before their ReLU;
    scoring uses running means and variances of the batches learned"""
    gate_dropout: Share = 0.0
    """mmoe, ple: chance that a gate drops an expert in training"""
    factor_dim: Annotated[int, Field(ge=0)] = 16
    """length of a task's factors of a user and of an item, whose product is mixed with its network's logit, in the
    share that held-out rows choose (where nothing is held out they learn for their sum); 0: none, and a table of fewer
    columns"""
    task_weights: dict[Name, Weight] = Field(default={})
    """weight of a loss, default 1: ctr, ctcvr (all rows) and cvr (clicked rows; 0 is the paper's form); for a further
    conversion X ctX (all rows) and X (clicked rows)"""
    calibration_share: Share = 0.1
    """share of requests (of a log without them: of a day's users) whose exposed rows are kept from training, to choose
    the shares of factors and regression and to fit an intercept and a slope per task"""
    context_dropout: Share = 0.2
    """share of rows whose context is hidden in training, so that the teacher knows what to expect without one: no tower
    reads a context, so pairs for a student are scored without, and so is a catalogue"""
    blend_regression: bool = True
    """the logits of a regression of the same rows are added to the model's, in the shares that held-out rows choose;
    false: the model alone (a log of clicks alone, and calibration_share: 0, have no such rows)"""
    crosses: tuple[Cross, ...] = ()
    """further inputs that no tower can read, as they belong to a pair: ln(1 + equal values of two features)"""
