"""train-teacher: an MMoE in ESMM form learns click and deep reading from day N, warm from the teacher before."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from torch import Tensor

from dmtl_cli.config.days import window
from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config, Quantile
from dmtl_cli.data.features.encoder import Encoded, Encoder
from dmtl_cli.data.log.day import Day
from dmtl_cli.data.log.reader import Log
from dmtl_cli.data.rows import Rows, held_out, teacher_rows
from dmtl_cli.evaluate import metrics
from dmtl_cli.nn import checkpoint
from dmtl_cli.nn.batches import Batch, Batcher, Tables
from dmtl_cli.nn.fit import Optimizers, fit, forget_untouched, products, refuse_precision
from dmtl_cli.nn.losses import teacher_loss
from dmtl_cli.nn.sharded import table_of
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Draft, Parent, Result, Run
from dmtl_cli.scores import calibration as calibrate
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.frozen import Scorer, forward, refuse_other_tasks, teacher_of

CALIBRATION_ROWS = 1_000_000  # held out at most: enough for two numbers a task, and they are kept in memory


def train_teacher(run: Run, day: dt.date) -> Result:
    config = run.config.teacher
    log = Log(run.config.data, run.config.features_of("teacher"))
    before = run.newest("teacher", day)
    days = window(day, config.window_days if before else config.first_window_days)
    inputs = [one for d in days for one in log.inputs(d)]

    def work(publication: Publication) -> Draft:
        refuse_precision("teacher.precision", config.precision, run.device)
        read = [log.read(d, publication.tmp, run.ranks) for d in days]
        refuse_without_clicks(read)
        threshold = carried_threshold(before, run.config) if before else measure_threshold(run, read)
        refuse_without_reads(read, threshold)
        refuse_another_model(before, run.config)
        features = run.config.features_of("teacher")
        encoder = Encoder.stored(before[0], features) if before else Encoder(features)
        encoder = encoder.grow([d for d in read if before is None or d.day > before[1].day])

        run.seed_torch("teacher", day)
        made = table_of(run.ranks, run.device, config.table_rate)
        model = teacher_of(encoder, config.model_dump(), len(run.config.tasks), made).to(run.device)
        optimizers = Optimizers.of(model, model.table, config)
        if before:
            checkpoint.load(before[0], model, model.table, optimizers)
        if run.ranks.size > 1:  # each drops experts of its own
            run.seed_torch("teacher", day, run.ranks.rank)

        exposures = run.config.data.events.click is not None
        logged = sum(len(d) for d in read)
        share = held_out_share(run.config, logged)
        rng = run.rng("teacher", day)
        tables = Tables(*(Encoded.concat([encoder.entities(d, s) for d in read]) for s in ("user", "item")))
        batcher = Batcher(encoder, tables, run.device, unknown_share=config.unknown_share, rng=rng, ranks=run.ranks)

        def loss_of(batch: Batch) -> tuple[Tensor, dict[str, float | Tensor]]:
            with products(config.precision, run.device):
                logits, gates = forward(model, batch, run.ranks)
            loss, parts = batch_loss(run.config, logits, batch)
            return loss, {f"loss.{k}": v for k, v in parts.items()} | gate_numbers(gates, run.config.tasks)

        learned: dict[str, float] = {}
        offered = logged * (1 + config.negatives if config.samples == "mixed" else 1)
        with run.log.progress(f"teacher {day}", config.epochs * offered) as progress:
            for _ in range(config.epochs):
                rows = teacher_rows(read, threshold, config, share, run.config.seed, rng)
                batches = batcher.batches(rows, config.rows_a_step(offered))
                learned = fit([(model, optimizers)], batches, loss_of, progress, run.ranks)
        untouched = forget_untouched(model.table, optimizers.table, run.ranks)

        earlier = {k: Calibration.from_dict(v) for k, v in before[1].facts["calibration"].items()} if before else {}
        held = _held_out_logits(read, encoder, model, run, share, threshold)
        fitted = {k: calibrate.fit(*held[k], earlier.get(k)) if exposures else Calibration.identity() for k in held}
        checkpoint.save(publication.path, model, model.table, optimizers, publication.path.parent)
        if run.ranks.first:
            encoder.write(publication.path)
        facts = {
            "threshold_seconds": threshold,
            "tasks": run.config.tasks,
            "calibrated": exposures,
            "calibration": {k: c.to_dict() for k, c in fitted.items()},
            "sampling": {k: getattr(config, k) for k in ("samples", "negatives", "alpha")},
            "days": [str(d) for d in days],
        }
        rows_learned = int(learned.pop("rows", 0))
        numbers = {k: v for k, v in learned.items() if k.startswith(("loss", "gate."))}
        if threshold is not None:
            numbers["threshold.seconds"] = threshold
        numbers |= {f"held_out.{k}.auc": a for k, (x, y, w) in held.items() if (a := metrics.auc(y, x, w)) is not None}
        numbers["embedding.rows"] = sum(model.table.rows.values())
        numbers["embedding.untouched"] = untouched
        counts = {"log": logged, "learned": rows_learned, "held_out": len(held["ctr"][0])}
        return Draft(rows=counts, metrics=numbers, facts=facts)

    config_used = run.sections("teacher")
    return run.publish("teacher", day, config_used, inputs, _parents(before), work)


def _parents(before: Parent | None) -> list[Parent]:
    return [before] if before else []


def held_out_share(config: Config, rows: int) -> float:
    """Share of that many rows kept from training to calibrate on; 0 in a log of clicks alone, which cannot be."""
    exposures = config.data.events.click is not None
    return min(config.teacher.calibration_share, CALIBRATION_ROWS / rows) if exposures else 0.0


def measure_threshold(run: Run, days: list[Day]) -> float | None:
    """Seconds above which a clicked row is a long read; None where a conversion column is the label."""
    if run.config.data.events.duration is None:
        return None
    rule = run.config.labels.long_read
    if isinstance(rule, float):
        return rule
    if sum(d.facts["duration_rows"] for d in days) == 0:
        raise UserError(
            f"day {days[-1].day}: no clicked row has a duration, so labels.long_read cannot be measured",
            "set data.events.duration to the right column, or labels.long_read to seconds",
        )
    if isinstance(rule, Quantile):
        seconds = np.concatenate([b.duration[b.click] for d in days for b in d.blocks()])
        return float(np.nanquantile(seconds.astype(np.float64), rule.quantile))
    return float(sum(d.facts["duration_sum"] for d in days) / sum(d.facts["duration_rows"] for d in days))


def carried_threshold(before: Parent, config: Config) -> float | None:
    """The chain's threshold. Raises UserError 65 where the config asks for other seconds: a label must not move."""
    threshold: float | None = before[1].facts["threshold_seconds"]
    rule = config.labels.long_read
    if threshold is not None and isinstance(rule, float) and rule != threshold:
        what = f"labels.long_read is {rule:g} s, the chain's is {threshold:g} s ({before[0]})"
        raise UserError(what, "use a new workspace for another label")
    return threshold


def refuse_without_clicks(days: list[Day]) -> None:
    """A model without positives would publish nonsense."""
    if sum(int(d.facts["clicks"]) for d in days) == 0:
        raise UserError(
            f"day {days[-1].day}: not one of {sum(map(len, days))} rows is a click", "check data.events.click"
        )


def refuse_without_reads(days: list[Day], threshold: float | None) -> None:
    """And so would one without deep reads."""
    clicks = sum(int(d.facts["clicks"]) for d in days)
    if not any((b.labels(threshold)[0] & (b.weight > 0)).any() for d in days for b in d.blocks()):
        label = "conversion" if threshold is None else f"long read (over {threshold:.1f} s)"
        raise UserError(
            f"day {days[-1].day}: not one of {clicks} clicks is a {label} of positive weight", "check data.events"
        )


def refuse_another_model(before: Parent | None, config: Config) -> None:
    """A warm start would read the weights of one task or cross as another's: their order alone tells them apart."""
    if before is None:
        return
    refuse_other_tasks(*before, config.tasks)
    if before[1].config["teacher"]["crosses"] != [cross.model_dump() for cross in config.teacher.crosses]:
        what = f"{before[0]}: the model's crosses are not the config's"
        raise UserError(what, "use a new workspace for other crosses")


def batch_loss(config: Config, logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """teacher_loss of logits [B, T] against the labels of a batch."""
    c = batch.columns
    conversions = {x: (c[f"converted.{x}"], c[f"known.{x}"]) for x in config.tasks[1:]}
    weights = {loss: config.task_weight(loss) for loss in config.losses}
    by_task = dict(zip(config.tasks, logits.unbind(1), strict=True))
    return teacher_loss(by_task, c["click"], conversions, c["weight"], weights)


def gate_numbers(gates_BTE: Tensor, tasks: tuple[str, ...]) -> dict[str, float | Tensor]:
    """Per task the mean entropy of its gate (nats; ln E = even) and the largest mean load of an expert; of a network
    with gates."""
    out: dict[str, float | Tensor] = {}
    if gates_BTE.shape[2] == 1:
        return out
    g = gates_BTE.detach().clamp_min(1e-12)
    entropy_T = -(g * g.log()).sum(2).mean(0)
    load_T = g.mean(0).amax(1)
    for k, task in enumerate(tasks):
        out[f"gate.{task}.entropy"], out[f"gate.{task}.max"] = entropy_T[k], load_T[k]
    return out


Held = dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def _held_out_logits(
    days: list[Day], encoder: Encoder, model: Any, run: Run, share: float, threshold: float | None
) -> Held:
    """(logit, label, weight) per task of the exposures kept from training; conversions: clicked rows with a known
    label."""
    parts: dict[str, list[tuple[Any, Any, Any]]] = {k: [] for k in run.config.tasks}
    for d in days:
        scorer = Scorer(encoder, model, d, run.device, run.ranks, kept_bytes=0)  # a few rows
        for block in d.blocks():
            keep = np.flatnonzero(held_out(block, share, run.config.seed))
            rows = Rows(block.user.astype(np.int64), block.item.astype(np.int64), {}, block.features).take(keep)
            logits = scorer.pairs(rows)
            click, weight = block.click[keep], block.weight[keep]
            parts["ctr"].append((logits[:, 0], click, weight))
            for k, (task, (converted, known)) in enumerate(block.conversions(threshold).items(), 1):
                read = click & known[keep]
                parts[task].append((logits[read, k], converted[keep][read], weight[read]))
    return {k: tuple(np.concatenate(x) for x in zip(*v, strict=True)) for k, v in parts.items()}  # type: ignore[misc]
