"""The teacher's loss. Shapes: B rows, T tasks, H logits, X = T - 1 conversions, E experts."""

from __future__ import annotations

import torch
from torch import Tensor

from dmtl_cli.config.schema import Config
from dmtl_cli.config.tasks import CLICK, with_click
from dmtl_cli.nn.batches import Batch
from dmtl_cli.nn.losses import Mean, Number, bce
from dmtl_cli.nn.precision import autocast
from dmtl_cli.runs.run import Run
from dmtl_cli.scores.logits import product_logit
from dmtl_cli.teacher.factors import learn_apart, summed
from dmtl_cli.teacher.labels import TeacherLabels
from dmtl_cli.teacher.model import Teacher, batch_logits


def batch_loss(
    run: Run, model: Teacher, batch: Batch[TeacherLabels[Tensor]], look: bool
) -> tuple[Tensor, dict[str, Number]]:
    """The loss of a batch and numbers to report, as `nn.fit` takes them."""
    with autocast(run.config.teacher.precision, run.device):
        logits, gates = batch_logits(model, batch, run.ranks)
    both = summed(logits, model.tasks)
    loss, parts = teacher_loss(run.config, logits if learn_apart(run.config) else both, batch.labels)
    parts |= gate_numbers(gates, run.config.tasks.names) | rates(run.config, batch.labels)
    # whatever their shares: labels are right if either knows rows before it learns them
    return loss, parts | pairs_in_order(run.config, both.detach(), batch.labels)


def teacher_loss(config: Config, logits_BH: Tensor, labels: TeacherLabels[Tensor]) -> tuple[Tensor, dict[str, Number]]:
    """The network's loss, and that of factors that learn apart: of each task BCE over the rows that have it. Tasks of
    factors share no parameter, so that `task_weights` have nothing to weigh.

    Returns:
        Their sum, and the detached parts of both before their weights: `loss.NAME` and `loss.factors.NAME`.
    """
    count = len(config.tasks.names)
    total, parts = network_loss(config, logits_BH[:, :count], labels)
    for k, (name, logit) in enumerate(zip(config.tasks.names, logits_BH[:, count:].unbind(1), strict=False)):
        y, kept = labels.of_task(k)
        part = Mean.of(bce(logit, y.to(logit.dtype)), labels.weight * kept)
        total, parts[f"loss.factors.{name}"] = total + part.value, part.detached()
    return total, parts


def network_loss(config: Config, logits_BT: Tensor, labels: TeacherLabels[Tensor]) -> tuple[Tensor, dict[str, Number]]:
    """sum of w_ctr BCE(pctr, y) and, for each conversion X, w_ctX BCE(pctr pX, z) + w_X BCE(pX, z) (ESMM: Ma et al.,
    SIGIR 2018).

    ctr: all rows; ctX: rows whose conversion is known; X: clicked rows among them. ctX is a BCE on a logit: no product
    of sigmoids, so finite values and gradients at any finite logits. A conversion counts only with a click and where
    it is known.

    Returns:
        The loss, and its detached parts before their weights as `loss.NAME`, over the rows of each.
    """
    clicked, weight = labels.click.bool(), labels.weight
    a, *conversions = logits_BT.unbind(1)
    parts = {CLICK: Mean.of(bce(a, clicked.to(a.dtype)), weight)}
    for k, (name, c) in enumerate(zip(config.tasks.conversions, conversions, strict=True)):
        known = labels.known[:, k].bool()
        z = (clicked & known & (labels.converted[:, k] > 0)).to(a.dtype)
        parts[with_click(name)] = Mean.of(bce(product_logit(a, c), z), weight * known)
        parts[name] = Mean.of(bce(c, z), weight * (known & clicked))
    total = torch.stack([config.task_weight(name) * part.value for name, part in parts.items()]).sum()
    return total, {f"loss.{name}": part.detached() for name, part in parts.items()}


def rates(config: Config, labels: TeacherLabels[Tensor]) -> dict[str, Number]:
    """Of each task the mean label of the rows that its loss is of, `rate.NAME`, and of a conversion the share of such
    rows, `share.NAME`."""
    clicked, weight = labels.click.bool(), labels.weight
    out: dict[str, Number] = {f"rate.{CLICK}": Mean.of(clicked.to(weight.dtype), weight)}
    for k, name in enumerate(config.tasks.conversions):
        kept = labels.known[:, k].bool() & clicked
        out[f"rate.{name}"] = Mean.of((labels.converted[:, k] > 0).to(weight.dtype), weight * kept)
        out[f"share.{name}"] = kept.to(weight.dtype).mean()
    return out


def pairs_in_order(config: Config, logits_BT: Tensor, labels: TeacherLabels[Tensor]) -> dict[str, Tensor]:
    """Of each task, on the batch's rows that its loss is of, weights left aside: `pairs.NAME` of a positive and a
    negative row, and `ordered.NAME`, how many of them are in order. Their ratio is the AUC; no number is read."""
    out: dict[str, Tensor] = {}
    for k, name in enumerate(config.tasks.names):
        y, kept = labels.of_task(k)
        out[f"ordered.{name}"], out[f"pairs.{name}"] = _in_order(logits_BT[:, k].float(), kept & y, kept & ~y)
    return out


def _in_order(logit: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """How many pairs of a positive and a negative row [B] are in order, a tie counting half, and how many there are."""
    below = torch.where(negative, logit, torch.inf).sort().values  # what is no negative is below none
    own = logit.contiguous()
    twice = torch.searchsorted(below, own) + torch.searchsorted(below, own, right=True)
    return torch.where(positive, twice, 0).sum() / 2.0, positive.sum().double() * negative.sum()


def gate_numbers(gates_BTE: Tensor, tasks: tuple[str, ...]) -> dict[str, Number]:
    """The mean entropy of each task's gate (nats; ln E = even) and the largest mean load of an expert; nothing for a
    network without gates."""
    out: dict[str, Number] = {}
    if gates_BTE.shape[2] == 1:
        return out
    g = gates_BTE.detach().clamp_min(1e-12)
    entropy_T = -(g * g.log()).sum(2).mean(0)
    load_T = g.mean(0).amax(1)
    for k, task in enumerate(tasks):
        out[f"gate.{task}.entropy"], out[f"gate.{task}.max"] = entropy_T[k], load_T[k]
    return out
