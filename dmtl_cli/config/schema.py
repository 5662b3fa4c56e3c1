"""The typed YAML: strict, frozen, every mistake at once with file and line.

Unknown keys, wrong types and contradictions are refused (exit 78). Numbers such as `1e-3`, which YAML 1.1 reads as
text, are accepted as numbers; `yes`/`no` and dates stay the text the user typed; a key given twice is an error.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.tasks import Tasks

Column = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Units = Annotated[tuple[Positive, ...], Field(min_length=1)]


def _local(folder: str) -> str:
    if "://" in folder:
        raise ValueError(f"expected a local folder, got {folder!r}: only data.root may lie elsewhere")
    return folder


Folder = Annotated[str, AfterValidator(_local)]


_TAKEN = ("r", "cvr", "fused")  # and names that begin with ct: pctX is the score of a click and X


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Events(Section):
    """Where the click log lies and what its columns are called."""

    path: str = "events"
    """folder below data.root"""
    partition: Name | None = None
    """hive key of the day folders, e.g. `day` for day=2026-01-31 (or =20260131); default `day` without date_column"""
    date_column: Column | None = None
    """a date or timestamp column that tells the day instead; a timestamp needs data.timezone"""
    user: Column = "user_id"
    item: Column = "item_id"
    time: Column | None = None
    """orders the rows of a day (first value of a user, recency); any sortable column"""
    click: Column | None = None
    """boolean or 0/1; absent: every row is a click (a log of positives only, no exposures)"""
    duration: Column | None = None
    """how long a clicked item was read"""
    duration_unit: Literal["s", "ms"] = "s"
    conversion: Column | None = None
    """a boolean column (like, purchase) instead of duration"""
    weight: Column | None = None
    request: Column | None = None
    """the request (one served list) an exposure belongs to: an integer or a string"""
    conversions: dict[Name, Column] = {}
    """further conversion tasks by name, each a boolean column counted with a click (like: is_like); null: unknown"""
    outcomes: tuple[Column, ...] = ()
    """further columns known only after the exposure: never features"""

    @model_validator(mode="after")
    def _one_of_each(self) -> Events:
        if (self.duration is None) == (self.conversion is None):
            raise ValueError("give exactly one of duration and conversion: it defines the second label")
        if self.partition and self.date_column:
            raise ValueError("give partition or date_column, not both")
        if taken := sorted(n for n in self.conversions if n in _TAKEN or n.startswith("ct")):
            raise ValueError(f"conversions: {taken[0]} would be taken for another task or score, choose another name")
        return self

    @property
    def hive_key(self) -> str | None:
        """Key of the day folders; None where a column tells the day."""
        return None if self.date_column else self.partition or "day"

    @property
    def outcome_columns(self) -> set[str]:
        named = (self.click, self.duration, self.conversion, self.weight)
        return {c for c in named if c} | set(self.outcomes) | set(self.conversions.values())


class SideTable(Section):
    """Attributes of users or items as of a day's start."""

    path: str
    key: Column
    partition: Name | None = None
    """hive key where there is one table a day; absent: one static table"""


class Data(Section):
    root: str
    """folder of the log; or s3://BUCKET/PREFIX, with options as in ?region=us-east-1&endpoint_override=http://HOST:PORT
    (`scheme`: http or https). Credentials come from where AWS tools look: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, a profile, the machine's role; without options, the endpoint from AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL and the region from AWS_REGION"""
    timezone: str | None = None
    truth: Folder | None = None
    """folder of a synthetic world's truth: adds expected read seconds to an evaluation"""
    digest: Literal["footer", "full"] = "footer"
    """what identifies an input file: size, rows and Parquet footer, or the sha256 of all its bytes"""
    events: Events
    users: SideTable | None = None
    items: SideTable | None = None

    @field_validator("root")
    @classmethod
    def _place(cls, root: str) -> str:
        if "://" in root:
            uri = urlsplit(root)
            options = dict(parse_qsl(uri.query, keep_blank_values=True))
            if "@" in uri.netloc:
                raise ValueError("credentials belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)")
            if uri.scheme != "s3" or not uri.netloc or uri.fragment:
                raise ValueError(f"expected a local folder or s3://bucket/prefix, got {root!r}")
            if unknown := sorted(options.keys() - {"region", "scheme", "endpoint_override"}):
                raise ValueError(f"unknown option {unknown[0]}, expected region, scheme or endpoint_override")
            if "" in options.values() or options.get("scheme", "http") not in ("http", "https"):
                raise ValueError("expected a value of each option, and http or https of scheme")
        return root

    @field_validator("timezone")
    @classmethod
    def _zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (KeyError, ValueError, OSError):
                raise ValueError(f"unknown time zone {zone!r}, expected a name such as Asia/Shanghai or UTC") from None
        return zone


class Feature(Section):
    """One input of the towers: where it is read and how it becomes numbers."""

    name: Name
    side: Literal["user", "item", "context"]
    kind: Literal["categorical", "sequence", "numeric", "vector"]
    column: Column | None = None
    """default: the feature's name"""
    level: Literal["entity", "event"] | None = None
    """event: read from each row as logged (the hour); default entity, for context event"""
    embedding_name: Name | None = None
    """features of one embedding_name share a vocabulary and its embedding (a history and item_id)"""
    min_count: Positive = 1
    """categorical, sequence: events before a value is admitted to the vocabulary"""
    hash_bucket_size: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """categorical, sequence: no vocabulary; a value is row 1 + hash mod that many, which others may share"""
    max_length: Positive = 50
    """sequence: the last values kept"""
    separator: str | None = None
    """sequence: splits a text column, e.g. '|'"""
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """numeric: bucket edges, ascending"""
    num_buckets: Annotated[int, Field(ge=2, le=1000)] | None = None
    """numeric: that many quantile buckets, edges measured on the chain's first window"""
    transform: Literal["standardize", "log1p"] | None = None
    """numeric without buckets (default standardize); log1p: sign(x) log(1 + |x|), then standardized"""
    dim: Positive | None = None
    """vector: its length"""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Feature:
        only = {
            "embedding_name": ("categorical", "sequence"),
            "min_count": ("categorical", "sequence"),
            "hash_bucket_size": ("categorical", "sequence"),
            "max_length": ("sequence",),
            "separator": ("sequence",),
            "boundaries": ("numeric",),
            "num_buckets": ("numeric",),
            "transform": ("numeric",),
            "dim": ("vector",),
        }
        for key, kinds in only.items():
            if key in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"{key} has no effect on kind {self.kind} (it is for {' and '.join(kinds)})")
        if "min_count" in self.model_fields_set and self.hash_bucket_size is not None:
            raise ValueError("min_count has no effect with hash_bucket_size, which admits every value")
        if (self.kind == "vector") != (self.dim is not None):
            raise ValueError("kind vector needs dim")
        if sum(x is not None for x in (self.boundaries, self.num_buckets, self.transform)) > 1:
            raise ValueError("give one of boundaries, num_buckets, transform")
        if self.boundaries is not None and list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError("boundaries must ascend")
        if self.side == "item" and self.level == "event":
            raise ValueError("an item's features cannot change with the event; use side context")
        if self.side == "context" and self.level == "entity":
            raise ValueError("side context is read from each event; level entity contradicts it")
        return self

    @property
    def source(self) -> str:
        return self.column or self.name

    @property
    def per_event(self) -> bool:
        return self.side == "context" or self.level == "event"

    @property
    def embedding(self) -> str | None:
        """Name of the embedding this feature reads; None for a feature that stays a number."""
        if self.kind in ("categorical", "sequence"):
            return self.embedding_name or self.name
        return self.name if self.kind == "numeric" and (self.boundaries or self.num_buckets) else None


class Quantile(Section):
    quantile: Annotated[float, Field(gt=0, lt=1)]


class Labels(Section):
    long_read: Literal["mean"] | Rate | Quantile = "mean"
    """duration above this many seconds, above the mean, or a quantile, of clicked rows; measured on the chain's first
    window, then carried"""


class Optimizer(Section):
    batch_size: Positive | None = None
    """rows a step; default a power of two from 64 to 4096 that makes an epoch some 256 steps"""
    epochs: Positive = 1
    learning_rate: Rate = 1e-3
    """Adam, dense weights"""
    embedding_learning_rate: Rate | None = None
    """embedding tables; default 0.1, with embedding_optimizer: adam learning_rate"""
    embedding_optimizer: Literal["rowwise_adagrad", "adam"] = "rowwise_adagrad"
    """adam: to compare with; each of its steps reads and writes all rows of the tables"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """of matrix products in training; bf16 is faster, and needs a CPU or GPU that has it. Weights, gates, a teacher's
    towers, sums of gradients and losses stay fp32"""
    embedding_dim: Positive = 16
    unknown_share: Share = 0.05
    """share of ids replaced by the unknown row while training, so that a new id finds a trained one"""
    features: tuple[Name, ...] | None = None
    """names of the features the model reads; default all it may read"""

    @property
    def table_rate(self) -> float:
        """Learning rate of the embedding tables."""
        default = 0.1 if self.embedding_optimizer == "rowwise_adagrad" else self.learning_rate
        return self.embedding_learning_rate or default

    def rows_a_step(self, rows: int) -> int:
        """Batch size for an epoch of that many rows: a small log must not be a handful of steps."""
        return self.batch_size or min(4096, max(64, 1 << max(0, rows // 256).bit_length() >> 1))


class Cross(Section):
    """How often a user's values of one feature equal an item's of another; both of one embedding_name."""

    user: Name
    """a feature of side user, categorical or sequence, not level: event"""
    item: Name
    """a feature of side item, categorical or sequence"""


class Teacher(Optimizer):
    user_rows: Positive = 1
    """rows of a user that stay together in a batch, where his part is computed once; 1: rows in random order"""
    first_window_days: Positive = 1
    """days the chain's first teacher learns, ending at its day"""
    window_days: Positive = 1
    """days each later teacher learns"""
    samples: Literal["exposed", "mixed", "sampled"] = "exposed"
    """exposed rows; exposed rows and drawn negatives; clicks and drawn negatives (the paper's; the default of a log of
    clicks alone)"""
    negatives: Positive = 1
    """drawn a row (mixed: a row, sampled: a click)"""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    """a negative is drawn in proportion to clicks ** alpha"""
    negative_weight: Rate = 1.0
    """of a drawn row, times that of the row it is drawn for"""
    model: Literal["mmoe", "ple", "shared_bottom"] = "mmoe"
    num_experts: Annotated[int, Field(ge=1)] = 8
    """mmoe: all experts; ple: those that all tasks share, a level"""
    num_task_experts: Positive = 2
    """ple: experts of one task alone, a level"""
    num_levels: Positive = 1
    """ple: extraction levels"""
    expert_hidden_units: Units = (128, 64)
    """of an expert; shared_bottom: of the one bottom"""
    tower_hidden_units: Units = (32,)
    gate_dropout: Share = 0.0
    """mmoe, ple: chance that a gate drops an expert in training"""
    factor_dim: Annotated[int, Field(ge=0)] = 16
    """length of a task's factors of a user and of an item, whose product is added to its logit; 0: none"""
    task_weights: dict[Name, Weight] = {}
    """weight of a loss, default 1: ctr, ctcvr (all rows) and cvr (clicked rows; 0 is the paper's form); for a further
    conversion X ctX (all rows) and X (clicked rows)"""
    calibration_share: Share = 0.1
    """share of exposed rows kept from training to fit an intercept and a slope a task"""
    crosses: tuple[Cross, ...] = ()
    """further inputs that no tower can read, as they belong to a pair: ln(1 + equal values of two features)"""


class Scores(Section):
    negatives: Annotated[int, Field(ge=0)] = 4
    """drawn a row of the log and scored beside it"""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    candidates: Annotated[int, Field(ge=0)] = 0
    """retrieved for each user of the day and scored, so that lists reach beyond what was shown"""
    candidate_source: Literal["student", "popularity", "both"] = "student"
    """the top of the newest export before the day, of the day's clicks, or half of each; popularity until an export"""
    fusion: dict[Name, Rate] = {}
    """exponents of a further score pfused = product of p ** exponent, e.g. {pctr: 1, pcvr: 0.5}; of pctr, pcvr, pX"""
    batch_size: Positive = 16384


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
_BLIND = tuple(loss for loss in LISTS if loss != "listwise_calibrated")  # they pull a calibrated logit away
LOSS_OPTIONS: dict[str, tuple[str, ...]] = {
    "temperature": ("kl", "mse_prob", "listwise", "listwise_calibrated"),
    "pair_weight": ("pairwise",),
    "decay": ("rank_weight",),
    "decay_lambda": ("rank_weight",),
    "top_k": ("plackett_luce",),
}


class KD(Section):
    """One distillation loss: how far the student is from one stored score."""

    loss: Literal[RowLoss, ListLoss] = "kl"
    weight: Rate = 1.0
    target: Name = "pctcvr"
    """a score of the dump: pctcvr, pctr, pcvr, pX, pctX of a further conversion X, or pfused"""
    source_weights: SourceWeights = SourceWeights()
    temperature: Rate = 1.0
    """kl, mse_prob, listwise, listwise_calibrated: divides both logits"""
    pair_weight: Literal["uniform", "gap", "ndcg"] = "uniform"
    """pairwise: what a pair counts: 1, the gap of the teacher's logits, or the change of NDCG if it were swapped"""
    decay: Literal["exponential", "logarithmic", "linear"] = "exponential"
    """rank_weight: how the weight falls with the teacher's position"""
    decay_lambda: Rate = 10.0
    """rank_weight, exponential: positions in which the weight falls by e"""
    top_k: Positive = 10
    """plackett_luce: items in order above the rest of the list"""
    popularity_strata: Positive = 1
    """losses over lists: a list is cut into that many strata of its items' popularity (UnKD)"""

    @model_validator(mode="after")
    def _options_have_effect(self) -> KD:
        for option, losses in {**LOSS_OPTIONS, "popularity_strata": LISTS}.items():
            if option in self.model_fields_set and self.loss not in losses:
                raise ValueError(f"{option} has no effect on {self.loss} (it is for {', '.join(losses)})")
        if "decay_lambda" in self.model_fields_set and self.decay != "exponential":
            raise ValueError(f"decay_lambda has no effect on decay: {self.decay}")
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the loss function."""
        return {name: getattr(self, name) for name, losses in LOSS_OPTIONS.items() if self.loss in losses}


class Distill(Section):
    w_kd: Weight = 1.0
    losses: Annotated[tuple[KD, ...], Field(min_length=1)] = (KD(),)
    """added up, each by its weight"""
    head: Literal["served", "auxiliary"] = "served"
    """auxiliary: stored scores train a second head on the same towers, labels (w_hard) the one that is served"""
    ways: Annotated[tuple[Way, ...], Field(min_length=1)] = ("replay", "rescore")
    floors: Floors = Floors()
    """least coverage a way; below it the run is refused before training (exit 80)"""
    min_age_days: Annotated[int, Field(ge=0)] = 1
    """days between a student and the teacher whose scores it learns from, at least; 0: it waits for its own day's"""
    max_age_days: Positive = 3
    """older scores are refused"""
    half_life_days: Rate | None = None
    """weight of scores halves with every so many days beyond the first that they are old"""
    list_size: Annotated[int, Field(ge=2)] = 256
    """losses over lists: a longer list (a request, or a user's day) is cut at random into parts of at most this many"""

    @model_validator(mode="after")
    def _ages(self) -> Distill:
        if self.min_age_days > self.max_age_days:
            raise ValueError(f"min_age_days {self.min_age_days} is above max_age_days {self.max_age_days}")
        return self

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
    """pointwise: drawn a row"""


class Student(Optimizer):
    embedding_dim: Positive = 32
    hidden_units: Units = (128, 64)
    """of both towers; the last is the length of the vectors"""
    vectors: Literal["unit", "plain"] = "unit"
    user_rows: Positive = 16
    """scored rows of a user that stay together in a batch, where his tower is computed once; 1: rows as they come"""
    distill: Distill = Distill()
    hard: Hard = Hard()

    @property
    def predicts(self) -> str | None:
        """The score whose log-odds the served logit learns to be; None where labels or a loss of lists move it."""
        kds = self.distill.losses
        level = {kd.target for kd in kds if kd.loss in get_args(RowLoss)}
        if self.distill.w_kd == 0 or self.hard.w_hard > 0 or any(kd.loss in _BLIND for kd in kds):
            return None
        return next(iter(level)) if len(level) == 1 and {kd.target for kd in kds} == level else None

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
        return self


class Evaluate(Section):
    max_users: Positive = 500
    """users of a day whose retrieval is measured (a seeded sample); a teacher scores the catalogue for each of them"""
    max_rows: Positive = 2_000_000
    """events of a day that are scored and ranked; of a larger day those of a seeded sample of its users"""


class Config(Section):
    workspace: Folder
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    threads: Positive = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    plain_autograd: bool = False
    data: Data
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    labels: Labels = Labels()
    teacher: Teacher = Teacher()
    scores: Scores = Scores()
    student: Student = Student()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="before")
    @classmethod
    def _clicks_alone(cls, raw: Any) -> Any:
        """The default of teacher.samples: where nothing unclicked is in the log, exposures teach nothing."""
        try:
            if raw["data"]["events"].get("click") is None and "samples" not in raw.get("teacher", {}):
                return raw | {"teacher": raw.get("teacher", {}) | {"samples": "sampled"}}
        except (KeyError, TypeError, AttributeError):  # not of that shape: the fields say so
            pass
        return raw

    @model_validator(mode="after")
    def _agrees(self) -> Config:
        names = [f.name for f in self.features]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"features: {', '.join(twice)} stands twice")
        for k, f in enumerate(self.features):
            if f.source in self.data.events.outcome_columns:
                raise ValueError(f"features.{k} ({f.name}): {f.source} is an outcome, known only after the exposure")
        known: dict[str, set[str]] = {}
        for f in self.features:
            if f.embedding is not None:
                known.setdefault(f.embedding, set()).add("bucket" if f.kind == "numeric" else "id")
        if mixed := sorted(n for n, kinds in known.items() if len(kinds) > 1):
            raise ValueError(f"features: embedding {mixed[0]} is shared by ids and numeric buckets")
        first: dict[str, Feature] = {}
        for k, f in enumerate(self.features):
            other = first.setdefault(f.embedding, f) if f.embedding is not None else f
            if f.hash_bucket_size != other.hash_bucket_size:
                sizes = f"{f.hash_bucket_size or 'not set'}, for {other.name} {other.hash_bucket_size or 'not set'}"
                raise ValueError(f"features.{k} ({f.name}): hash_bucket_size of embedding {f.embedding} is {sizes}")
        for who, section in (("teacher", self.teacher), ("student", self.student)):
            missing = [n for n in section.features or () if n not in names]
            if missing:
                raise ValueError(f"{who}.features: no feature is called {missing[0]}{_near(missing[0], names)}")
            sides = {f.side for f in self.features_of(who)}
            if not {"user", "item"} <= sides:
                raise ValueError(f"{who} needs at least one user feature and one item feature")
        if self.student.features:
            context = [f.name for f in self.features if f.side == "context" and f.name in self.student.features]
            if context:
                raise ValueError(f"student.features: {context[0]} is a context feature, a tower cannot read it")
        if self.data.events.duration is None and "long_read" in self.labels.model_fields_set:
            raise ValueError("labels.long_read needs data.events.duration; with conversion the column is the label")
        drawn = {"negatives", "alpha", "negative_weight"} & self.teacher.model_fields_set
        if drawn and self.teacher.samples == "exposed":
            raise ValueError(f"teacher.{min(drawn)} has no effect on samples: exposed, which draws no negatives")
        if "calibration_share" in self.teacher.model_fields_set and self.data.events.click is None:
            raise ValueError(
                "teacher.calibration_share has no effect without data.events.click: no exposures to fit on"
            )
        self._names_tasks()
        self._crosses_features()
        if self.data.events.click is None and self.teacher.samples == "exposed":
            raise ValueError("teacher.samples: exposed needs data.events.click; a log of clicks has no negatives")
        return self

    def _names_tasks(self) -> None:
        """Scores and tasks that are named must be there, and options of a model it does not have must not."""
        events, teacher = self.data.events, self.teacher
        losses = ("ctr", "cvr", "ctcvr", *(f"{p}{x}" for x in events.conversions for p in ("ct", "")))
        if unknown := sorted(teacher.task_weights.keys() - set(losses)):
            raise ValueError(f"teacher.task_weights: no loss is called {unknown[0]}{_near(unknown[0], list(losses))}")
        if not any(self.task_weight(name) for name in losses):
            raise ValueError("teacher.task_weights: all are 0, nothing to learn")
        single = [f"p{task}" for task in self.tasks.names]
        if unknown := sorted(self.scores.fusion.keys() - set(single)):
            raise ValueError(f"scores.fusion: {unknown[0]} is none of {', '.join(single)}")
        targets = [*single, *(f"pct{x}" for x in self.tasks.conversions), *(["pfused"] if self.scores.fusion else [])]
        for k, kd in enumerate(self.student.distill.losses):
            if kd.target not in targets:
                known = f"; known are {', '.join(targets)}"
                hint = " (pfused needs scores.fusion)" if kd.target == "pfused" else _near(kd.target, targets) or known
                raise ValueError(f"student.distill.losses.{k}.target: no score is called {kd.target}{hint}")
        of_ple = {"num_task_experts", "num_levels"} & teacher.model_fields_set
        if of_ple and teacher.model != "ple":
            raise ValueError(f"teacher.{min(of_ple)} has no effect on model: {teacher.model} (it is for ple)")
        of_gates = {"num_experts", "gate_dropout"} & teacher.model_fields_set
        if of_gates and teacher.model == "shared_bottom":
            raise ValueError(f"teacher.{min(of_gates)} has no effect on model: shared_bottom, which has no gate")
        if "candidate_source" in self.scores.model_fields_set and not self.scores.candidates:
            raise ValueError("scores.candidate_source has no effect without scores.candidates")
        if self.student.hard.duration_weighted and events.duration is None:
            raise ValueError("student.hard.duration_weighted needs data.events.duration")

    def _crosses_features(self) -> None:
        """A cross counts equal rows of one embedding, and must be known of pairs that no event holds."""
        named, read = {f.name: f for f in self.features}, self.features_of("teacher")
        for k, cross in enumerate(self.teacher.crosses):
            for side, name in (("user", cross.user), ("item", cross.item)):
                at, f = f"teacher.crosses.{k}.{side}", named.get(name)
                if f is None:
                    raise ValueError(f"{at}: no feature is called {name}{_near(name, list(named))}")
                if f.side != side:
                    raise ValueError(f"{at}: {name} is a feature of side {f.side}")
                if f.kind not in ("categorical", "sequence"):
                    raise ValueError(f"{at}: {name} is of kind {f.kind}, expected categorical or sequence")
                if f.per_event:
                    raise ValueError(f"{at}: {name} is of level event, a drawn or retrieved pair has none")
                if f not in read:
                    raise ValueError(f"{at}: {name} is not among teacher.features")
            shared = [named[name].embedding for name in (cross.user, cross.item)]
            if shared[0] != shared[1]:
                both = f"{cross.user} reads embedding {shared[0]}, {cross.item} {shared[1]}"
                raise ValueError(f"teacher.crosses.{k}: {both}; give them one embedding_name")
            if cross in self.teacher.crosses[:k]:
                raise ValueError(f"teacher.crosses.{k}: {cross.user} and {cross.item} stand twice")

    @property
    def tasks(self) -> Tasks:
        """What a teacher predicts: click, and given a click the conversion and the further conversions."""
        return Tasks(tuple(sorted(self.data.events.conversions)))

    def task_weight(self, loss: str) -> float:
        """Of a teacher's loss: ctr, ctcvr, cvr, ctX, X."""
        return self.teacher.task_weights.get(loss, 1.0)

    def features_of(self, who: str) -> tuple[Feature, ...]:
        """The features that `teacher` or `student` reads; a tower never reads context."""
        chosen = (self.teacher if who == "teacher" else self.student).features
        return tuple(
            f
            for f in self.features
            if (chosen is None or f.name in chosen) and (who == "teacher" or f.side != "context")
        )


# ---------------------------------------------------------------------------------------------------------------------
# Reading: YAML with marks, so that a mistake names its line


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: only true/false are booleans, 1e-3 is a number, a date is text."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)

Path_ = tuple[str | int, ...]


def _plain(node: yaml.Node, loader: _Loader, path: Path_, marks: dict[Path_, int], found: list[str], file: str) -> Any:
    """A composed node as plain Python, noting the line of every key and refusing a key given twice."""
    marks.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in out:
                found.append(f"{file}:{key.start_mark.line + 1}: {name} stands twice in one mapping")
            marks[(*path, name)] = key.start_mark.line + 1
            out[name] = _plain(value, loader, (*path, name), marks, found, file)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_plain(v, loader, (*path, k), marks, found, file) for k, v in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:float":
        return float(node.value)
    return loader.construct_object(node)


def parse(text: str, file: str, path: Path_ = ()) -> tuple[Any, dict[Path_, int], list[str]]:
    """(what a YAML holds, the line of every key, keys given twice); raises UserError 78 where it is not one."""
    marks: dict[Path_, int] = {}
    found: list[str] = []
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _plain(node, loader, path, marks, found, file)), marks, found
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise UserError(f"{file}:{line}: not YAML: {e.problem}", "check indentation and quotes", Exit.CONFIG) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise UserError(f"{file}:{line}: not YAML: {e.reason}", code=Exit.CONFIG) from None
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a tag such as !!int on other text
        line = marks[next(reversed(marks))] if marks else 1
        raise UserError(f"{file}:{line}: not YAML: {e}", code=Exit.CONFIG) from None
    except RecursionError:
        raise UserError(f"{file}:1: not YAML that ends: an anchor holds itself", code=Exit.CONFIG) from None
    finally:
        if loader is not None:
            loader.dispose()


def _near(word: str, words: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, words, 1)
    return f", did you mean {close[0]}?" if close else ""


def _keys_at(path: Path_) -> list[str]:
    """Names that are known where an unknown key stood."""
    model: Any = Config
    for part in path[:-1]:
        field = None if isinstance(part, int) else model.model_fields.get(part)
        if isinstance(part, int):
            continue
        if field is None:
            return []
        model = next((m for m in _models(field.annotation)), None)
        if model is None:
            return []
    return list(model.model_fields)


def _models(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]


def _messages(error: ValidationError, file: str, marks: dict[Path_, int]) -> list[str]:
    out: list[tuple[int, str]] = []
    for e in error.errors(include_url=False):
        if e["type"] == "too_short" and len(e["input"]) >= e["ctx"]["min_length"]:
            continue  # none of its items is right, and each is told
        raw = tuple(e["loc"])
        path = raw
        while path and path not in marks:  # a union's branch or a missing key has no mark of its own
            path = path[:-1]
        # pydantic writes the branch of a union into loc; the words of the YAML are what a user knows
        shown = raw if raw in marks or e["type"] == "missing" else path
        dotted = ".".join(str(p) for p in shown)
        if e["type"] == "extra_forbidden":
            text = f"unknown key {dotted}{_near(str(raw[-1]), _keys_at(raw))}"
        elif e["type"] == "missing":
            text = f"{dotted} is required"
        elif e["type"] == "value_error":
            text = f"{dotted}: {e['ctx']['error']}" if dotted else str(e["ctx"]["error"])
        else:
            text = f"{dotted}: {e['msg'][0].lower()}{e['msg'][1:]}, got {e['input']!r}"
        line = marks.get(path, 1)
        if (match := re.match(r"features\.(\d+) ", text)) and ("features", int(match[1])) in marks:
            line = marks["features", int(match[1])]
        elif match := re.match(r"([a-z_]+(?:\.\w+)*):? ", text):
            line = marks.get(tuple(int(p) if p.isdigit() else p for p in match[1].split(".")), line)
        message = f"{file}:{line}: {text}" if line > 0 else f"--set {text}"
        if (line, message) not in out:
            out.append((line, message))
    return [m for _, m in sorted(out)]


def load_config(file: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Reads and checks a config.

    Args:
        file: the YAML.
        overrides: `a.b=c` as given to --set; c is read as YAML, a number in the path is a place in a list.

    Raises:
        UserError: with every mistake found; the first is its message.
    """
    name = str(file)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{name}: no such config file", "give --config FILE", Exit.CONFIG) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{name}: cannot be read as text: {e}", code=Exit.CONFIG) from None
    raw, marks, found = parse(text, name)
    if not isinstance(raw, dict):
        raise UserError(f"{name}:1: expected keys and values, got {type(raw).__name__}", code=Exit.CONFIG)
    for entry in overrides:
        _override(raw, entry, marks)
    config = None
    try:
        config = Config.model_validate(_tuples(raw))
    except ValidationError as e:
        found += _messages(e, name, marks)
    if found or config is None:
        raise UserError(found[0], code=Exit.CONFIG, others=tuple(found[1:]))
    return config


def _tuples(value: Any) -> Any:
    """Lists as tuples, which is what a frozen config holds (strict types turn nothing into another)."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _override(raw: dict[str, Any], entry: str, marks: dict[Path_, int]) -> None:
    key, equals, value = entry.partition("=")
    parts: list[str | int] = [int(p) if p.isdigit() else p for p in key.split(".")]
    if not equals or not all(p != "" for p in parts):
        raise UserError(f"--set {entry}: expected dotted.key=value", code=Exit.USAGE)
    parsed, inner, _ = parse(value, f"--set {entry}", tuple(parts))
    at: Any = raw
    for part, then in itertools.pairwise(parts):
        try:
            if isinstance(at, dict):
                at = at.setdefault(part, [] if isinstance(then, int) else {})
                if at is None:
                    raise TypeError
            else:
                at = at[part]
        except (KeyError, IndexError, TypeError):
            raise UserError(f"--set {entry}: nothing stands at {part} in the config", code=Exit.CONFIG) from None
    try:
        at[parts[-1]] = parsed
    except (IndexError, TypeError):
        raise UserError(f"--set {entry}: nothing stands at {parts[-1]} in the config", code=Exit.CONFIG) from None
    for path in {*inner, tuple(parts)}:
        marks[path] = 0  # 0: given on the command line
    for k in range(1, len(parts)):
        marks.setdefault(tuple(parts[:k]), 0)
