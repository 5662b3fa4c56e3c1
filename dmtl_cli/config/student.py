"""`student`: its towers, the losses that distill a teacher's scores and those of the day's own labels."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from dmtl_cli.config.section import Name, Positive, Rate, Section, Units, Weight, without_effect
from dmtl_cli.config.training import Training


class SourceWeights(Section):
    exposed: Weight = 1.0
    negative: Weight = 1.0
    candidate: Weight = 1.0

    @model_validator(mode="after")
    def _some(self) -> SourceWeights:
        if not (self.exposed or self.negative or self.candidate):
            raise ValueError("exposed, negative and candidate are all 0: nothing to distill")
        return self


class Floors(Section):
    replay: Annotated[float, Field(ge=0, le=1)] = 0.9
    match: Annotated[float, Field(ge=0, le=1)] = 0.0
    rescore: Annotated[float, Field(ge=0, le=1)] = 0.0


Way = Literal["replay", "match", "rescore"]
RowLoss = Literal["kl", "mse_logit", "mse_prob"]
ListLoss = Literal["listwise", "listwise_calibrated", "margin_mse", "pairwise", "rank_weight", "plackett_luce"]
LISTS: tuple[str, ...] = get_args(ListLoss)
BLIND = tuple(loss for loss in LISTS if loss != "listwise_calibrated")
"""losses that leave the level of a list free: they pull a calibrated logit away"""
_STRATA = "popularity_strata"  # not an option of a loss function: it cuts the lists that one gets
LOSS_OPTIONS: dict[RowLoss | ListLoss, tuple[str, ...]] = {
    "kl": ("temperature",),
    "mse_logit": (),
    "mse_prob": ("temperature",),
    "listwise": ("temperature", _STRATA),
    "listwise_calibrated": ("temperature", _STRATA),
    "margin_mse": (_STRATA,),
    "pairwise": ("pair_weight", _STRATA),
    "rank_weight": ("decay", "decay_lambda", _STRATA),
    "plackett_luce": ("top_k", _STRATA),
}
"""what each loss takes"""
PairWeight = Literal["uniform", "gap", "ndcg"]
Decay = Literal["exponential", "logarithmic", "linear"]


class KD(Section):
    """One distillation loss: how far the student is from one stored score."""

    loss: Literal[RowLoss, ListLoss] = "kl"
    weight: Rate = 1.0
    target: Name = "pctcvr"
    """a score of the dump: pctcvr, pctr, pcvr, pX, pctX of a further conversion X, or pfused"""
    source_weights: SourceWeights = SourceWeights()
    temperature: Rate = 1.0
    """kl, mse_prob, listwise, listwise_calibrated: divides both logits"""
    pair_weight: PairWeight = "uniform"
    """pairwise: what a pair counts: 1, the gap of the teacher's logits, or the change of NDCG if it were swapped"""
    decay: Decay = "exponential"
    """rank_weight: how the weight falls with the teacher's position"""
    decay_lambda: Rate = 10.0
    """rank_weight, exponential: positions in which the weight falls by e"""
    top_k: Positive = 10
    """plackett_luce: items in order above the rest of the list"""
    popularity_strata: Positive = 1
    """losses over lists: a list is cut into that many strata of its items' popularity (UnKD)"""

    @model_validator(mode="after")
    def _options_have_effect(self) -> KD:
        if found := without_effect(LOSS_OPTIONS, self.loss, self.model_fields_set):
            raise ValueError(f"{found[0]} has no effect on {self.loss} (it is for {found[1]})")
        if "decay_lambda" in self.model_fields_set and self.decay != "exponential":
            raise ValueError(f"decay_lambda has no effect on decay: {self.decay}")
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the loss function."""
        return {name: getattr(self, name) for name in LOSS_OPTIONS[self.loss] if name != _STRATA}


class Distill(Section):
    w_kd: Weight = 1.0
    losses: Annotated[tuple[KD, ...], Field(min_length=1)] = (KD(),)
    """added up, each by its weight"""
    head: Literal["served", "auxiliary"] = "served"
    """auxiliary: stored scores train a second head on the same towers, labels (w_hard) the one that is served"""
    ways: Annotated[tuple[Way, ...], Field(min_length=1)] = ("replay", "rescore")
    floors: Floors = Floors()
    """least coverage per way; below it the run is refused before training (exit 80)"""
    min_age_days: Annotated[int, Field(ge=0)] = 1
    """least days between a student and the teacher whose scores it learns from; 0: it waits for its own day's"""
    max_age_days: Positive = 3
    """older scores are refused"""
    half_life_days: Rate | None = None
    """the weight of scores halves with every so many days of age beyond the first"""
    list_size: Annotated[int, Field(ge=2)] = 256
    """losses over lists: a longer list (a request, or a user's day) is cut at random into parts of at most this many"""

    @model_validator(mode="after")
    def _ages(self) -> Distill:
        if self.min_age_days > self.max_age_days:
            raise ValueError(f"min_age_days {self.min_age_days} is above max_age_days {self.max_age_days}")
        return self

    def teachers(self, day: dt.date, days: Iterable[dt.date]) -> list[dt.date]:
        """Those of the days of teachers that are min_age_days to max_age_days before a student of `day`."""
        return [d for d in days if self.min_age_days <= (day - d).days <= self.max_age_days]

    @property
    def targets(self) -> tuple[str, ...]:
        """Distinct scores that are learned."""
        return tuple(dict.fromkeys(kd.target for kd in self.losses)) if self.w_kd else ()

    @property
    def over_lists(self) -> bool:
        return self.w_kd > 0 and any(kd.loss in LISTS for kd in self.losses)


class Hard(Section):
    w_hard: Weight = 0.0
    loss: Literal["sampled_softmax", "pointwise"] = "sampled_softmax"
    label: Literal["click", "long_read"] = "click"
    duration_weighted: bool = False
    """a positive counts by its read seconds (over the log's mean)"""
    negatives: Positive = 1
    """pointwise: drawn per row"""


class Exposure(Section):
    """A second block of the served vectors, which learns what is shown to whom. The served score is kappa times its
    score plus the preference."""

    kappa: Weight | Literal["auto"] = 0.7
    """how much of what is shown is served; 0: there is no such block; auto: what was best on the day before"""
    weights: Literal["fitted", "learned"] = "fitted"
    """fitted: what is shown is what the block learned and the items' own numbers (`kind: numeric` without buckets), by
    weights that explain best what was read on earlier days; learned: the block alone, as with kappa: auto"""
    popularity: Annotated[float, Field(ge=0, le=1)] = 0.7
    """how much of what is shown to all alike counts in it; 0: only what a user is shown more than others. A log's reads
    are found by what is shown to all; what they are worth is in most logs more without it"""
    objective: Literal["read_recall", "time_recall", "click_recall"] = "read_recall"
    """kappa: auto: of what it must be the most"""
    negatives: Annotated[int, Field(ge=0)] = 1024
    """items drawn uniformly from the day's catalogue for each batch, beside those of its rows"""
    batch_size: Positive | None = None
    """rows a step; default the power of two from 64 to 4096 that makes an epoch nearest to 256 steps"""
    epochs: Positive | None = None
    """passes over the day's rows; default as the student's, but where the log decides these and no hard loss is learned
    at least as many as make 768 steps, up to three"""
    embedding_dim: Positive = 16
    """columns of its own embedding table"""
    hidden_units: Units | None = None
    """layers of its own towers; default as the student's"""
    learning_rate: Rate | None = None
    """of its dense weights, whatever the student's is; default 0.001"""
    embedding_learning_rate: Rate | None = None
    """of its embedding table, whatever the student's is: trials choose that by how near a preference comes to its
    teacher, and a low one leaves what is shown half learned; default 0.1, with embedding_optimizer: adam that of dense
    weights"""

    @model_validator(mode="after")
    def _options_have_effect(self) -> Exposure:
        if self.kappa == 0 and (given := sorted(self.model_fields_set - {"kappa"})):
            raise ValueError(f"{given[0]} has no effect on kappa: 0, which leaves the block out")
        if "objective" in self.model_fields_set and self.kappa != "auto":
            raise ValueError("objective has no effect on a kappa that is given; it is for kappa: auto")
        if self.kappa == "auto" and "weights" in self.model_fields_set and self.weights == "fitted":
            raise ValueError("weights: fitted has no effect on kappa: auto; give kappa a number")
        return self


class Student(Training):
    embedding_dim: Positive = 32
    hidden_units: Units = (128, 64)
    """widths of a tower's layers; the last is the length of the vectors"""
    towers: Literal["wide_and_deep", "deep"] = "wide_and_deep"
    """wide_and_deep: the last layer reads the tower's input too, a linear path beside the layers"""
    vectors: Literal["unit", "plain"] = "plain"
    user_rows: Positive = 16
    """scored rows of a user that stay together in a batch, where the user tower runs once; 1: rows as they come"""
    average_weights: bool = True
    """whether both blocks become the average of their weights over the later steps of a training, which is exported and
    what the next day goes on from; takes the memory of the weights, tables included, once more"""
    distill: Distill = Distill()
    hard: Hard = Hard()
    exposure: Exposure = Exposure()

    @property
    def averaged(self) -> bool:
        return self.average_weights

    @property
    def predicts(self) -> str | None:
        """The score whose log-odds the preference learns to be; None where labels or a loss of lists move it."""
        kds = self.distill.losses
        level = {kd.target for kd in kds if kd.loss in get_args(RowLoss)}
        if self.distill.w_kd == 0 or self.hard.w_hard > 0 or any(kd.loss in BLIND for kd in kds):
            return None
        return next(iter(level)) if len(level) == 1 and {kd.target for kd in kds} == level else None

    @property
    def learns_levels(self) -> bool:
        """Whether a loss sees the scores themselves, not only the order or the differences of a list's."""
        return any(kd.loss not in BLIND for kd in self.distill.losses)

    @property
    def exposure_block(self) -> Student:
        """The section of the exposure block alone: its own sizes and rates, the rest as the student's. Its vectors are
        plain, as unit ones cannot carry an item's level."""
        kept = ("epochs", "embedding_dim", "hidden_units")
        own = {name: value for name in kept if (value := getattr(self.exposure, name)) is not None}
        own |= {"batch_size": self.exposure.batch_size, "learning_rate": self.exposure.learning_rate or 1e-3}
        own["embedding_learning_rate"] = self.exposure.embedding_learning_rate
        return self.model_copy(update={**own, "vectors": "plain", "distill": Distill(), "hard": Hard()})

    @property
    def rows_together(self) -> int:
        """Scored rows that reach a batch together: of a list where a loss compares them, else of a user."""
        return self.distill.list_size if self.distill.over_lists else self.user_rows

    @model_validator(mode="after")
    def _learns_something(self) -> Student:
        if self.distill.w_kd == 0 and self.hard.w_hard == 0:
            raise ValueError("distill.w_kd and hard.w_hard are both 0: nothing to learn")
        if self.distill.head == "auxiliary" and 0 in (self.distill.w_kd, self.hard.w_hard):
            raise ValueError(
                "distill.head: auxiliary needs distill.w_kd and hard.w_hard above 0: one head would not learn"
            )
        if "user_rows" in self.model_fields_set and self.distill.over_lists:
            raise ValueError("user_rows has no effect with a loss over lists, whose rows stay together anyway")
        if "list_size" in self.distill.model_fields_set and not self.distill.over_lists:
            raise ValueError(f"distill.list_size has no effect without a loss over lists ({', '.join(LISTS)})")
        if self.distill.w_kd and not self.hard.w_hard and {kd.loss for kd in self.distill.losses} == {"rank_weight"}:
            raise ValueError("distill.losses: rank_weight alone only pushes scores up; add another loss or hard.w_hard")
        if "negatives" in self.hard.model_fields_set and self.hard.loss == "sampled_softmax":
            raise ValueError(
                "hard.negatives has no effect on sampled_softmax: its negatives are the batch's other items"
            )
        if len(set(self.distill.ways)) != len(self.distill.ways):
            raise ValueError("distill.ways names one way twice")
        if "match" in self.distill.ways and not any(kd.source_weights.exposed for kd in self.distill.losses):
            raise ValueError("distill.ways: match gives exposed pairs alone, which have weight 0 in all distill.losses")
        return self
