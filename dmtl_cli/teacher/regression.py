"""A hashed logistic regression of all that the teacher reads: what a person would try first, as a baseline.

Its weights have a Gaussian posterior of independent slots. A batch of rows is learned by moving to the weights that
are most probable after it, with the posterior so far as prior (Laplace's approximation: Chapelle, Manavoglu and
Rosales, ACM TIST 2014; Chapelle and Li, NIPS 2011, algorithm 3):

    weights   <- argmin_w  sum_n c_n log(1 + exp(-s_n w x_n)) + 1/2 sum_i precision_i (w_i - weights_i)^2,  s_n = +-1
    precision <- precision_i + sum_n c_n p_n (1 - p_n) x_ni^2

so that rows may come batch by batch and day by day, a small day is learned to its end without being learned by heart,
and there is no learning rate. Each day begins with less certainty than the one before ended with.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dmtl_cli.config.tasks import CLICK, Tasks, with_click
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.rows import Rows, begins
from dmtl_cli.nn.batches import Batcher, Tables
from dmtl_cli.nn.kernels.chunks import on_threads
from dmtl_cli.runs.contents import decoding
from dmtl_cli.scores.calibration import log1mexp, log_sigmoid
from dmtl_cli.scores.logits import log_odds
from dmtl_cli.teacher.conjunctions import MOST as MOST_CONJUNCTIONS
from dmtl_cli.teacher.conjunctions import Conjunction, Paired, Values, chosen, evidence, values_of
from dmtl_cli.teacher.excess import Excess, Excesses, Residuals, excesses, sure, with_earlier
from dmtl_cli.teacher.hashed import (
    BIAS,
    SLOTS,
    Design,
    Floats,
    Ints,
    Sparse,
    event_cells,
    first_slots,
    nothing,
    pair_cells,
    paired_values,
)
from dmtl_cli.teacher.labels import HeldOut, TeacherLabels, TeacherRows
from dmtl_cli.teacher.posterior import posterior, probability
from dmtl_cli.teacher.rows import Window

Array = npt.NDArray[Any]
Target = tuple[str, Array, Array]
"""a label, whether it is true [n], and whether a row is learned for it [n]"""

FOLDER = "regression"
"""of a teacher's run"""
PRIOR = 10.0
"""precision of a weight before the first row: scikit-learn's C of .1"""
MOST = 0.98
"""greatest probability of a conversion given a click"""
MEMORY = 0.8
"""share of what earlier days said that a day begins with"""
BATCH = 1 << 18
"""rows that are learned at once: bounds memory"""
_ROUNDING = 1e-6  # of a precision, in float32
_ABOUT = "regression"  # in the metadata of a file
_FILES = {True: "weights.safetensors", False: "no_context.safetensors"}
_ENTITIES = 1 << 16  # users or items whose cells are in memory at a time


@dataclass
class Regression:
    """A regression for `ctr` and one for `ctX` of each conversion X, on all rows; X follows: see `implied`."""

    weights: dict[str, npt.NDArray[np.float32]]
    """by label [slots]: of single values, then of each conjunction"""
    precision: dict[str, npt.NDArray[np.float32]]
    """by label [slots]"""
    context: bool = True
    """whether it reads what changes with the event. One that does tells nothing where that is not known: what a price
    of the moment tells is told by the price that an item always has, once the other is gone"""
    conjunctions: tuple[Conjunction, ...] = ()
    """chosen by the rows of the days so far. Those of `ctX` begin at what `ctr` says: who clicks what they like reads
    it too, as far as too few reads tell otherwise"""
    priors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """by label the precision that the weights of each conjunction have before the first row, of `ctX` around `ctr`'s"""
    excesses: Excesses = field(default_factory=dict)
    """what the days so far tell of conjunctions that there are not; the model without context has it for both"""

    @staticmethod
    def new(
        tasks: Tasks,
        *,
        context: bool = True,
        conjunctions: tuple[Conjunction, ...] = (),
        priors: Mapping[str, tuple[float, ...]] | None = None,
    ) -> Regression:
        labels = (CLICK, *map(with_click, tasks.conversions))
        none = Regression(dict.fromkeys(labels, np.zeros(0, np.float32)), {}, context)
        none.begin(conjunctions, priors or dict.fromkeys(labels, ()))
        return none

    def begin(self, conjunctions: tuple[Conjunction, ...], priors: Mapping[str, tuple[float, ...]]) -> None:
        """Has these conjunctions from now on, of which it knows nothing yet, behind those that it has."""
        self.conjunctions += conjunctions
        for label in self.weights:
            self.priors[label] = (*self.priors.get(label, ()), *priors[label])
            precision = self.prior(label)
            weights = np.zeros_like(precision)  # memory that few slots of a small log ever need
            had = len(self.weights[label])
            precision[:had], weights[:had] = self.precision.get(label, 0), self.weights[label]
            self.precision[label], self.weights[label] = precision, weights

    def prior(self, label: str) -> npt.NDArray[np.float32]:
        """[slots] precision before the first row."""
        sizes = [SLOTS, *(1 << c.bits for c in self.conjunctions)]
        return np.repeat(np.array([PRIOR, *self.priors[label]], np.float32), sizes)

    def forget(self) -> None:
        """A day begins with less certainty than the one before ended with."""
        for label, precision in self.precision.items():
            prior = self.prior(label)
            precision[:] = prior + MEMORY * (precision - prior)

    def weigh(self) -> None:
        """How much the weights of each conjunction vary is taken from those that it has learned so far."""
        first = first_slots(self.conjunctions)
        click = self.weights[CLICK]
        for label, precision in self.precision.items():
            priors = []
            around = self.weights[label] if label == CLICK else self.weights[label] - click
            for prior, (start, end) in zip(self.priors[label], itertools.pairwise(first), strict=True):
                here = precision[start:end]
                untouched = ~_touched(here, np.float32(prior))
                here[untouched] = prior
                priors.append(evidence(around[start:end], here, prior))
                here += np.float32(priors[-1] - prior)
                here[untouched] = priors[-1]  # a sum would be off in the last digit
            self.priors[label] = tuple(priors)

    # -- scoring -------------------------------------------------------------------------------------------------------

    def held_out(
        self, encoder: Encoder, tables: Tables, window: Window
    ) -> tuple[dict[str, HeldOut], dict[str, HeldOut] | None]:
        """By label the held-out exposures of the days, of X the clicked ones that know it; and the same without
        conjunctions, None where it has none.

        Args:
            tables: of the days, stacked.
        """
        parts: list[dict[str, list[tuple[Array, ...]]]] = [{}, {}]
        for rows in _held_out_rows(window):
            x = Design.of(encoder, tables, rows, context=self.context, conjunctions=self.conjunctions)
            rated = {label: (positive, known) for label, positive, known in targets(self.weights, rows.labels)}
            for design, into in zip((x, x.without_pairs())[: 1 + bool(self.conjunctions)], parts, strict=False):
                logits = implied({label: design.times(weights) for label, weights in self.weights.items()})
                for label, logit in logits.items():
                    given_click = label not in rated
                    positive, known = rated[with_click(label) if given_click else label]
                    here = known & rows.labels.click if given_click else known
                    found = logit[here], positive[here], rows.labels.weight[here], rows.user[here]
                    into.setdefault(label, []).append(found)
        whole, alone = ({k: HeldOut(*map(np.concatenate, zip(*v, strict=True))) for k, v in p.items()} for p in parts)
        return whole, alone or None

    def sums(self, encoder: Encoder, encoded: Encoded, side: str) -> dict[str, Floats]:
        """By label [n] what each user or item adds to a logit; an item the bias too."""
        out = {label: np.zeros(len(encoded)) for label in self.weights}
        for start in range(0, len(encoded), _ENTITIES):
            here = np.arange(start, min(start + _ENTITIES, len(encoded)))
            cells = Sparse.of(encoder, encoded.take(here), side, False)
            cells = cells.with_bias() if side == "item" else cells
            for label, weights in self.weights.items():
                out[label][here] = cells.times(weights)
        return out

    # -- at rest -------------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """weights.safetensors, or without context no_context.safetensors: `slot` [n], the slots that rows had, and
        `<label>.weight` and `<label>.precision` of each."""
        folder.mkdir(exist_ok=True)
        there = [_touched(x, self.prior(label)) for label, x in self.precision.items()]
        there += [x != 0 for x in self.weights.values()]
        used = np.flatnonzero(np.any(there, axis=0))
        named = {f"{label}.weight": x[used] for label, x in self.weights.items()}
        named |= {f"{label}.precision": x[used] for label, x in self.precision.items()}
        about: dict[str, Any] = {"conjunctions": self.conjunctions, "priors": self.priors} if self.conjunctions else {}
        if self.excesses:
            about["excesses"] = [[*name, by_label] for name, by_label in self.excesses.items()]
        # one key: safetensors writes several in a random order
        stored = {_ABOUT: json.dumps(about)} if about else None
        save_file({"slot": used.astype(np.int32)} | named, folder / _FILES[self.context], stored)

    @staticmethod
    def read(folder: Path, tasks: Tasks, *, context: bool = True) -> Regression:
        """What `write` wrote of a teacher with these tasks. Raises UserError 65: it is something else."""
        file = folder / _FILES[context]
        with decoding(file):
            with safe_open(file, "np") as opened:
                about = json.loads((opened.metadata() or {}).get(_ABOUT, "{}"))
            conjunctions = tuple(Conjunction(*each) for each in about.get("conjunctions", ()))
            priors = {label: tuple(map(float, each)) for label, each in about.get("priors", {}).items()}
            if any(len(each) != len(conjunctions) for each in priors.values()) or bool(priors) != bool(conjunctions):
                raise ValueError("expected a prior of each conjunction")
            out = Regression.new(tasks, context=context, conjunctions=conjunctions, priors=priors or None)
            for user, item, by_label in about.get("excesses", ()):
                out.excesses[user, item] = {label: Excess(*map(float, each)) for label, each in by_label.items()}
            stored = load_file(file)
            for label in out.weights:
                for name, into in (("weight", out.weights[label]), ("precision", out.precision[label])):
                    numbers = stored[f"{label}.{name}"]
                    if numbers.shape != stored["slot"].shape or not np.isfinite(numbers).all():
                        raise ValueError(f"{label}.{name}: expected a finite number for each slot")
                    into[stored["slot"]] = numbers
        return out


def learn(
    models: Sequence[Regression],
    encoder: Encoder,
    tables: Tables,
    rows: Iterable[TeacherRows],
    items: int | None = None,
) -> None:
    """Learns rows over the encoded users and items of their days, in place. The first of them may choose conjunctions,
    and are learned anew with these.

    Args:
        items: of the largest day; default as many as in the tables, where these are of one day.
        models: which read the same but for what changes with the event, the one without that last. A search begins
            where the one before ended: the first one's way is most of the others'.
    """
    for model in models:
        model.forget()
    for k, batch in enumerate(Batcher.cut(rows, BATCH)):
        chooses = not k and len(models[0].conjunctions) < MOST_CONJUNCTIONS
        before = [(_copied(model.weights), _copied(model.precision)) for model in models] if chooses else []
        whole = _learn_batch(models, encoder, tables, batch)
        paired = paired_values(encoder, tables, batch) if chooses else None
        if paired and _conjoin(models, before, whole, paired, batch.labels, items or len(tables.items)):
            _learn_batch(models, encoder, tables, batch)
    for model in models:
        model.weigh()


def _learn_batch(models: Sequence[Regression], encoder: Encoder, tables: Tables, batch: TeacherRows) -> Design:
    """Learns some rows; returns them."""
    some, conjunctions = any(model.context for model in models), models[0].conjunctions
    whole = Design.of(encoder, tables, batch, context=some, conjunctions=conjunctions)
    views = [whole if model.context else whole.without_context() for model in models]
    slots = first_slots(conjunctions)[-1]
    designs = [(used, x, x.squared()) for used, x in (view.compact(slots) for view in views)]
    search = partial(_learn, models, designs, batch.labels.weight)
    cpu, (click, *both) = torch.device("cpu"), targets(models[0].weights, batch.labels)
    if not conjunctions:  # no label needs what is learned of another
        on_threads([click, *both], search, cpu)
        return whole
    before = [model.weights[CLICK][SLOTS:].copy() for model in models]
    search(click)
    for model, old in zip(models, before, strict=True):
        for label, _, _ in both:  # what is known of clicks by now moves what is expected of reads
            model.weights[label][SLOTS:] += model.weights[CLICK][SLOTS:] - old
    on_threads(both, search, cpu)
    return whole


def _conjoin(
    models: Sequence[Regression],
    before: Sequence[tuple[dict[str, Array], dict[str, Array]]],
    rows: Design,
    paired: Paired,
    labels: TeacherLabels[Array],
    items: int,
) -> bool:
    """Lets models that have learned some rows go back to before them, with the conjunctions that these rows and the
    days before choose, if any.

    What nothing but the pair tells chooses: what the event tells of it is not there where a student learns.

    Args:
        before: weights and precisions of each model.
    """
    model, had = models[-1], models[-1].conjunctions
    today = excesses(paired, _residuals(model, rows, labels), items, had)
    found = with_earlier(today, model.excesses, paired, MEMORY)
    new = tuple(chosen(paired, sure(paired, {name: found[name] for name in today}), had))
    names = {(c.user, c.item) for c in new}
    told, (click, *both) = [found[c.user, c.item] for c in new], model.weights
    priors = {click: tuple(x[click].precision for x in told)}
    for label in both:  # around what ctr says, as X given a click varies
        priors[label] = tuple(x[_given_click(label)].around(x[click]) for x in told)
    left = {name: x for name, x in found.items() if name not in names}
    for each, (weights, precision) in zip(models, before, strict=True):
        each.excesses = left if each is model else {}
        if new:
            each.weights, each.precision = weights, precision
            each.begin(new, priors)
    return bool(new)


def _copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: x.copy() for name, x in arrays.items()}


def _residuals(model: Regression, rows: Design, labels: TeacherLabels[Array]) -> dict[str, Residuals]:
    """By label, and of each X given a click, what the model's weights of single values leave of rows that it has
    learned: conjunctions that it has follow single rows so well that they hide what broader ones would say."""
    x = (rows if model.context else rows.without_context()).without_pairs()
    weight, out, logits = labels.weight.astype(np.float64), dict[str, Residuals](), dict[str, Floats]()
    rated = {label: (positive, weight * known) for label, positive, known in targets(model.weights, labels)}
    for label, (positive, here) in rated.items():
        logit = x.times(model.weights[label])
        logits[label] = logit + _level(logit, positive, here)
        out[label] = Residuals(positive, probability(logits[label]), here)
    for label, logit in implied(logits).items():
        if label not in rated:
            positive, here = rated[with_click(label)]
            here = here * labels.click
            out[label] = Residuals(positive, probability(logit + _level(logit, positive, here)), here)
    return out


def _given_click(label: str) -> str:
    return label.removeprefix(with_click(""))


def _level(logit: Floats, positive: Array, weight: Array) -> float:
    """What added to the logits makes them expect as many positives as there are: conjunctions said some of it."""
    level = 0.0
    for _ in range(10):  # Newton's steps on a convex loss, from near its minimum
        p = probability(logit + level)
        curvature = float((weight * p * (1 - p)).sum())  # no dot product, whose sum depends on the number of threads
        level += float(np.clip((weight * (positive - p)).sum() / curvature, -1, 1)) if curvature > 0 else 0.0
    return level


def _learn(
    models: Sequence[Regression], designs: Sequence[tuple[Array, Design, Design]], weight: Array, target: Target
) -> None:
    """Learns one label of some rows by each model: `designs` has the slots that it sees, the rows over them, and their
    squares."""
    label, positive, known = target
    moved = np.zeros(len(models[0].weights[label]))
    for model, (used, x, squared) in zip(models, designs, strict=True):
        mean, precision = (y[label][used].astype(np.float64) for y in (model.weights, model.precision))
        if model.precision[label][BIAS] == PRIOR:  # the first rows: other weights begin beside their mean
            mean[used == BIAS] = log_odds(positive, weight * known)
        found, sure = posterior(x, squared, positive, weight * known, mean, precision, mean + moved[used])
        model.weights[label][used], model.precision[label][used] = found, sure
        moved[used] = found - mean


class OnDay:
    """A regression over the users and items of one day, whose parts of a logit are computed once.

    Args:
        tables: the day's users and items, encoded.
    """

    def __init__(self, model: Regression, encoder: Encoder, tables: Tables) -> None:
        self.model, self.encoder, self.tables = model, encoder, tables

    @cached_property
    def users(self) -> dict[str, Floats]:
        """By label [users] what each adds to a logit."""
        return self.model.sums(self.encoder, self.tables.users, "user")

    @cached_property
    def items(self) -> dict[str, Floats]:
        """By label [items] what each adds to a logit."""
        return self.model.sums(self.encoder, self.tables.items, "item")

    def logits(self, rows: Rows[Any]) -> dict[str, Floats]:
        """By label [n] of pairs in their context; of rows without features it is unknown."""
        return self.with_and_without_pairs(rows)[0]

    def with_and_without_pairs(self, rows: Rows[Any]) -> tuple[dict[str, Floats], dict[str, Floats] | None]:
        """`logits`, and those without conjunctions; None where it has none."""
        event = event_cells(self.encoder, rows) if self.model.context else nothing(len(rows))
        alone = {}
        for label, weights in self.model.weights.items():
            alone[label] = self.users[label][rows.user] + self.items[label][rows.item] + event.times(weights)
        if not self.model.conjunctions:
            return implied(alone), None
        cells = pair_cells(self.encoder, self.tables, rows, self.model.conjunctions)
        whole = {label: alone[label] + cells.times(weights) for label, weights in self.model.weights.items()}
        return implied(whole), implied(alone)

    def catalogue(self, label: str, users: Ints) -> Floats:
        """[n, items] what orders the day's items for each of n users: of one label, without a context, but for what a
        user adds to all of them."""
        out = np.tile(self.items[label], (len(users), 1))
        if self.model.conjunctions:
            of_users = values_of(self.encoder, self.tables.users.take(users), "user")
            for conjunction, first in zip(self.model.conjunctions, first_slots(self.model.conjunctions), strict=False):
                weights = self.model.weights[label][first : first + (1 << conjunction.bits)]
                conjunction.add_products(out, weights, of_users[conjunction.user], self._of_items[conjunction.item])
        return out

    @cached_property
    def _of_items(self) -> dict[str, Values]:
        return values_of(self.encoder, self.tables.items, "item", [c.item for c in self.model.conjunctions])


def targets(labels: Iterable[str], of: TeacherLabels[Array]) -> Iterator[Target]:
    """(label, whether it is true [n], whether a row is learned for it [n]) for `ctr` and each `ctX`, in that order."""
    click, *both = labels
    yield click, of.click, np.ones_like(of.click)
    for k, label in enumerate(both):
        yield label, of.click & of.converted[:, k], of.known[:, k]


def implied(logits: Mapping[str, Floats]) -> dict[str, Floats]:
    """Logits [n] of `ctr` and each `ctX` -> those and of each X: of p(click and X) / p(click), at most MOST.

    A regression of clicked rows alone has fewer rows, and not those that a teacher is to order (the entire space: Ma et
    al., SIGIR 2018).
    """
    out = dict(logits)
    click, *both = logits
    for label in both:
        log_p = np.minimum(log_sigmoid(logits[label]) - log_sigmoid(logits[click]), np.log(MOST))
        out[_given_click(label)] = log_p - log1mexp(log_p)
    return out


def _touched(precision: Array, prior: Array | np.float32) -> npt.NDArray[np.bool_]:
    """Of slots whether a row has told something of it: no precision is off its prior by roundings alone."""
    found: npt.NDArray[np.bool_] = np.abs(precision - prior) > _ROUNDING * prior
    return found


def _held_out_rows(window: Window) -> Iterator[TeacherRows]:
    """The held-out rows of days whose tables are stacked."""
    for day, users, items in begins(window.days):
        yield from (rows.shifted(users, items) for rows in window.held_out(day))
