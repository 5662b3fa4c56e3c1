"""What is done to a teacher once its network is trained, on exposures that it did not learn: its factors and a
regression are mixed in, and the logits are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.rows import begins
from dmtl_cli.nn.batches import Tables
from dmtl_cli.runs.artifact import Publication
from dmtl_cli.runs.run import Parent, Run
from dmtl_cli.scores import calibration
from dmtl_cli.scores.calibration import Calibration
from dmtl_cli.teacher.blend import Blend
from dmtl_cli.teacher.factors import Factors, as_one, learn_apart
from dmtl_cli.teacher.frozen import Scorer
from dmtl_cli.teacher.hashed import has_event_features
from dmtl_cli.teacher.labels import HeldOut
from dmtl_cli.teacher.model import Teacher
from dmtl_cli.teacher.regression import FOLDER, Regression, learn
from dmtl_cli.teacher.rows import Window

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trained:
    """A teacher whose network is trained, and what it learned."""

    encoder: Encoder
    model: Teacher
    window: Window
    tables: Tables
    """of its days, stacked"""
    before: Parent | None


def held_out_logits(run: Run, trained: Trained, *, context: bool = True) -> list[dict[str, HeldOut]]:
    """The held-out exposures of each task in their context or without it, as the network scores them; then as factors
    do that learn apart from it."""
    tasks, apart = run.config.tasks.names, learn_apart(run.config)
    parts: list[list[tuple[Array, ...]]] = [[] for _ in range(trained.model.logits_a_row if apart else len(tasks))]
    for day, users, items in begins(trained.window.days):
        here = slice(users, users + len(day.users)), slice(items, items + len(day.items))
        tables = Tables(trained.tables.users.slice(here[0]), trained.tables.items.slice(here[1]))
        model, few = trained.model, 0  # bytes: items are computed for a few rows only
        scorer = Scorer(trained.encoder, model, day, run.device, run.ranks, kept_bytes=few, tables=tables)
        for rows in trained.window.held_out(day):
            logits = scorer.pairs(rows) if context else scorer.lists(rows)
            logits = logits if apart else as_one(None, logits, tasks)
            for k, mine in enumerate(parts):
                label, kept = rows.labels.of_task(k % len(tasks))
                mine.append((logits[kept, k], label[kept], rows.labels.weight[kept], users + rows.user[kept]))
    found = [HeldOut(*(np.concatenate(x) for x in zip(*mine, strict=True))) for mine in parts]
    return [dict(zip(tasks, found[k : k + len(tasks)], strict=True)) for k in range(0, len(found), len(tasks))]


_Regressed = tuple[dict[str, HeldOut], dict[str, HeldOut] | None]
"""a regression's held-out rows by label, and those without its conjunctions; None: it has none"""


class Finished(NamedTuple):
    """A trained teacher's last steps."""

    network: dict[str, HeldOut]
    """held-out rows by task, in their context, as the network scores them"""
    regression: dict[str, HeldOut]
    """by label, as the regression does"""
    blended: dict[str, HeldOut]
    """by task, as the teacher does"""
    facts: dict[str, Any]
    """`factors`, `blend` and `calibration` of pairs in their context, and of those without in `no_context`;
    `conjunctions`, the features of each"""


def finish(run: Run, publication: Publication, trained: Trained) -> Finished:
    """Publishes regressions of the same rows beside the network, blends and calibrates both, for pairs in their
    context and for pairs without one."""
    event = has_event_features(trained.encoder)
    regressions, together = _regressions(run, publication, trained, [True, False] if event else [True])
    shown = held_out_logits(run, trained), *regressions[0]
    hidden = (held_out_logits(run, trained, context=False), *regressions[1]) if event else shown
    earlier: dict[str, Any] = trained.before[1].facts if trained.before else {}
    both, facts = _calibrated(run, *shown, earlier)
    _, without = _calibrated(run, *hidden, earlier.get("no_context", {}))
    return Finished(shown[0][0], shown[1], both, facts | {"no_context": without, "conjunctions": together})


def _regressions(
    run: Run, publication: Publication, trained: Trained, contexts: Sequence[bool]
) -> tuple[list[_Regressed], list[list[str]]]:
    """Publishes regressions of the rows that the teacher learned, warm from those before, with their context or without
    it; the held-out rows of each, and the features of their conjunctions. Rank 0 learns them while the others wait."""
    tasks, window = run.config.tasks, trained.window
    folder = trained.before[0] / FOLDER if trained.before else None

    def learned() -> tuple[list[_Regressed], list[list[str]]]:
        models = [
            Regression.read(folder, tasks, context=x) if folder else Regression.new(tasks, context=x) for x in contexts
        ]
        rows_of = window.new_rows if folder else window.rows
        rows = rows_of(run.config.teacher, run.rng("regression", publication.day))
        learn(models, trained.encoder, trained.tables, rows, max(len(day.items) for day in window.days))
        for model in models:
            model.write(publication.path / FOLDER)
        held_out = [model.held_out(trained.encoder, trained.tables, window) for model in models]
        return held_out, [[c.user, c.item] for c in models[0].conjunctions]

    return run.ranks.on_first(learned)


def _calibrated(
    run: Run,
    model: list[dict[str, HeldOut]],
    regression: dict[str, HeldOut],
    alone: dict[str, HeldOut] | None,
    before: Mapping[str, Any],
) -> tuple[dict[str, HeldOut], dict[str, Any]]:
    """Held-out rows with factors and regression blended in, and the facts of blends and calibration.

    Args:
        model: rows of the network, and of its factors where it has any.
        alone: the regression's rows without its conjunctions; None: it has none.
        before: these facts of the teacher before.
    """
    network, facts = model[0], dict[str, Any]()
    if len(model) > 1:
        earlier = Factors.from_dict(before["factors"]) if "factors" in before else None
        both = Factors.fit(network, model[1], regression if is_blended(run.config) else None, earlier)
        network = {task: both.of_rows(task, rows, model[1][task]) for task, rows in network.items()}
        facts["factors"] = both.to_dict()
    if is_blended(run.config):
        blend = Blend.fit(network, regression, Blend.from_dict(before["blend"]) if "blend" in before else None, alone)
        network = {
            task: blend.of_rows(task, rows, regression[task], alone[task] if alone else None)
            for task, rows in network.items()
        }
        facts["blend"] = blend.to_dict()
    fitted = calibrated(run, network, before.get("calibration", {}))
    return network, facts | {"calibration": {task: c.to_dict() for task, c in fitted.items()}}


def is_blended(config: Config) -> bool:
    """Whether a teacher is its model and its regression: not without held-out rows to choose their shares."""
    return config.teacher.blend_regression and learn_apart(config)


def calibrated(run: Run, held_out: dict[str, HeldOut], before: Mapping[str, Any]) -> dict[str, Calibration]:
    """One calibration per task; the identity in a log without exposures.

    Args:
        before: the previous teacher's by task, the prior; empty where there is none.
    """
    if run.config.data.events.click is None:
        return dict.fromkeys(held_out, Calibration())
    earlier = {k: Calibration.from_dict(v) for k, v in before.items()}
    weak = calibration.LEVEL if run.config.teacher.samples == "exposed" else calibration.WEAK
    return {k: calibration.fit(x.logit, x.label, x.weight, earlier.get(k), weak=weak) for k, x in held_out.items()}
