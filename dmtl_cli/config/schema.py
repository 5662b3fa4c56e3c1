"""The whole config, and the checks between its sections.

Unknown keys, wrong types and contradictions are refused. The message of a check begins with the dotted key that it
blames: `reading` finds the line by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dmtl_cli.config.auto import Auto
from dmtl_cli.config.automatic import automatic
from dmtl_cli.config.data import Data, Events
from dmtl_cli.config.errors import did_you_mean
from dmtl_cli.config.evaluate import Evaluate
from dmtl_cli.config.export import LISTED, Export
from dmtl_cli.config.features import Feature
from dmtl_cli.config.gates import Gates
from dmtl_cli.config.labels import Labels
from dmtl_cli.config.profile import CLICK, EXPOSURE, READ, Profile
from dmtl_cli.config.scores import Scores
from dmtl_cli.config.section import Folder, Positive, Section, Size, Weight, without_effect
from dmtl_cli.config.student import Student
from dmtl_cli.config.tasks import FUSED, Tasks, score_of
from dmtl_cli.config.teacher import NETWORK_OPTIONS, Teacher
from dmtl_cli.config.tracking import Tracking

CLICKS_ALONE = 20
"""negatives drawn a click where the log has no exposures"""


class Config(Section):
    workspace: Folder
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    threads: Positive = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_memory: Size | None = None
    """bytes, or text such as 8GB or 8GiB: a day whose rows and columns would need more at once, as the footers of its
    files tell, is refused before it is read (65); absent: half of the machine's"""
    plain_autograd: bool = False
    """true: every hand-written forward and backward pass (experts' mixture, a student's towers, in-batch softmax) is
    replaced by plain autograd: slower, to compare with"""
    checkpoint_minutes: Weight = 10.0
    """minutes of training between checkpoints, from which a stage that was killed goes on; 0: none. No part of any key.
    Several processes (torchrun) write none"""
    data: Data
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    labels: Labels = Labels()
    profile: Profile = Profile()
    teacher: Teacher = Teacher()
    scores: Scores = Scores()
    student: Student = Student()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    auto: Auto = Auto()
    gates: Gates = Gates()
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _clicks_alone(cls, raw: Any) -> Any:
        """Sets the defaults of a log of clicks alone: it has no exposures to learn from, so pairs are drawn, and most
        of a catalogue is hardly ever clicked, so many are."""
        try:
            if raw["data"]["events"].get("click") is None and "samples" not in raw.get("teacher", {}):
                teacher = {"samples": "sampled", "negatives": CLICKS_ALONE} | raw.get("teacher", {})
                return raw | {"teacher": teacher, "scores": {"negatives": CLICKS_ALONE} | raw.get("scores", {})}
        except (KeyError, TypeError, AttributeError):  # another shape, which the fields' own checks report
            pass
        return raw

    @model_validator(mode="before")
    @classmethod
    def _automatic_features(cls, raw: Any) -> Any:
        """Puts features in place of `features: auto`, or of auto in a list of them."""
        if not isinstance(raw, dict):
            return raw
        given = raw.get("features")
        if isinstance(given, str) and given != "auto":
            raise ValueError(f"features: expected a list or auto, got {given!r}")
        given = (given,) if given == "auto" else given
        if not isinstance(given, (list, tuple)) or "auto" not in given:
            return raw
        own = {f.get("name") for f in given if isinstance(f, dict) and isinstance(f.get("name"), str)}
        try:
            made = [f for f in automatic(Events.model_validate(raw["data"]["events"])) if f.name not in own]
        except (KeyError, TypeError, ValidationError):  # the fields' own checks report it
            made = [Feature(name="user_id", side="user", kind="categorical")]
        # each of the list keeps its place, by which a message finds its line
        places = [k for k, f in enumerate(given) if f == "auto"]
        if len(places) > 1 or not made:
            raise ValueError("features: auto is there twice" if made else "features: auto adds none to those named")
        return raw | {"features": (*given[: places[0]], made[0], *given[places[0] + 1 :], *made[1:])}

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        for check in CHECKS:
            check(self)
        return self

    @property
    def tasks(self) -> Tasks:
        """What a teacher predicts: click, and given a click the conversion and the further conversions."""
        return Tasks(tuple(sorted(self.data.events.conversions)))

    def task_weight(self, loss: str) -> float:
        """The weight of a teacher's loss: ctr, ctcvr, cvr, ctX or X."""
        return self.teacher.task_weights.get(loss, 1.0)

    def features_of(self, who: str) -> tuple[Feature, ...]:
        """The features that `teacher` or `student` reads; a tower never reads context."""
        chosen = (self.teacher if who == "teacher" else self.student).features
        return tuple(
            f
            for f in self.features
            if (chosen is None or f.name in chosen) and (who == "teacher" or f.side != "context")
        )


def _features_are_inputs(config: Config) -> None:
    """Names of features are distinct, and a column known only after the exposure is no feature."""
    names = [f.name for f in config.features]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"features: {', '.join(twice)} appears twice")
    for k, f in enumerate(config.features):
        if f.profile is None and f.source in config.data.events.outcome_columns:
            raise ValueError(f"features.{k} ({f.name}): {f.source} is an outcome, known only after the exposure")


def _profiles_know_events(config: Config) -> None:
    """Events of profiles are in the log, and no further conversion has the name of another event."""
    events, further = config.data.events, sorted(config.data.events.conversions)
    if taken := [name for name in further if name in (EXPOSURE, CLICK, READ)]:
        raise ValueError(f"data.events.conversions: {taken[0]} is an event of every log, choose another name")
    known = [*([EXPOSURE] if events.click else []), CLICK, READ, *further]
    for k, f in enumerate(config.features):
        for event in f.profile.events if f.profile else ():
            if event not in known:
                hint = did_you_mean(event, known) or f"; events are {', '.join(known)}"
                alone = " (a log of clicks alone has no exposures)" if event == EXPOSURE else hint
                raise ValueError(f"features.{k} ({f.name}): profile: no event is called {event}{alone}")


def _embeddings_are_shared_by_equals(config: Config) -> None:
    """Features of one embedding_name have rows of one meaning: ids or buckets, hashed to one size or not at all."""
    rows: dict[str, set[str]] = {}
    for f in config.features:
        if f.embedding is not None:
            rows.setdefault(f.embedding, set()).add("id" if f.has_ids else "bucket")
    if mixed := sorted(name for name, kinds in rows.items() if len(kinds) > 1):
        raise ValueError(f"features: embedding {mixed[0]} is shared by ids and numeric buckets")
    first: dict[str, Feature] = {}
    for k, f in enumerate(config.features):
        other = first.setdefault(f.embedding, f) if f.embedding is not None else f
        if f.hash_bucket_size != other.hash_bucket_size:
            sizes = f"{f.hash_bucket_size or 'not set'}, for {other.name} {other.hash_bucket_size or 'not set'}"
            raise ValueError(f"features.{k} ({f.name}): hash_bucket_size of embedding {f.embedding} is {sizes}")


def _models_read_features(config: Config) -> None:
    """Both models read features that exist, of both sides; a tower reads no context."""
    names = [f.name for f in config.features]
    for who, chosen in (("teacher", config.teacher.features), ("student", config.student.features)):
        if missing := [n for n in chosen or () if n not in names]:
            raise ValueError(f"{who}.features: no feature is called {missing[0]}{did_you_mean(missing[0], names)}")
        if not {"user", "item"} <= {f.side for f in config.features_of(who)}:
            raise ValueError(f"{who} needs at least one user feature and one item feature")
    for f in config.features:
        if f.side == "context" and f.name in (config.student.features or ()):
            raise ValueError(f"student.features: {f.name} is a context feature, a tower cannot read it")


def _labels_are_in_the_log(config: Config) -> None:
    if config.data.events.duration is None and "long_read" in config.labels.model_fields_set:
        raise ValueError("labels.long_read needs data.events.duration; with conversion the column is the label")


def _samples_fit_the_log(config: Config) -> None:
    """What a teacher learns is in the log, and options of samples that it does not draw are refused."""
    teacher, click = config.teacher, config.data.events.click
    drawn = {"negatives", "alpha", "negative_weight"} & teacher.model_fields_set
    if drawn and teacher.samples == "exposed":
        raise ValueError(f"teacher.{min(drawn)} has no effect on samples: exposed, which draws no negatives")
    if "calibration_share" in teacher.model_fields_set and click is None:
        raise ValueError("teacher.calibration_share has no effect without data.events.click: no exposures to fit on")
    if click is None and teacher.samples == "exposed":
        raise ValueError("teacher.samples: exposed needs data.events.click; a log of clicks has no negatives")


def _teacher_learns_its_tasks(config: Config) -> None:
    teacher, losses = config.teacher, config.tasks.losses
    if unknown := sorted(teacher.task_weights.keys() - set(losses)):
        near = did_you_mean(unknown[0], losses)
        raise ValueError(f"teacher.task_weights: no loss is called {unknown[0]}{near}")
    if not any(config.task_weight(loss) for loss in losses):
        raise ValueError("teacher.task_weights: all are 0, nothing to learn")
    if wrong := without_effect(NETWORK_OPTIONS, teacher.model, teacher.model_fields_set):
        raise ValueError(f"teacher.{wrong[0]} has no effect on model: {teacher.model} (it is for {wrong[1]})")


def _scores_are_of_tasks(config: Config) -> None:
    scores, single = config.scores, [score_of(task) for task in config.tasks.names]
    if unknown := sorted(scores.fusion.keys() - set(single)):
        raise ValueError(f"scores.fusion: {unknown[0]} is none of {', '.join(single)}")
    if "candidate_source" in scores.model_fields_set and not scores.candidates:
        raise ValueError("scores.candidate_source has no effect without scores.candidates")


def _student_learns_what_is_there(config: Config) -> None:
    """Scores that are learned are in a dump, labels in the log."""
    known = list(config.tasks.factors(config.scores.fusion))
    for k, target in enumerate(kd.target for kd in config.student.distill.losses):
        if target not in known:
            hint = did_you_mean(target, known) or f"; known are {', '.join(known)}"
            hint = " (pfused needs scores.fusion)" if target == FUSED else hint
            raise ValueError(f"student.distill.losses.{k}.target: no score is called {target}{hint}")
    if config.student.hard.duration_weighted and config.data.events.duration is None:
        raise ValueError("student.hard.duration_weighted needs data.events.duration")
    if config.student.exposure.objective == "time_recall" and config.data.events.duration is None:
        raise ValueError("student.exposure.objective: time_recall needs data.events.duration")


def _catalogue_is_a_table(config: Config) -> None:
    if config.data.items is None and config.export.items == LISTED:
        raise ValueError("export.items: listed needs data.items, the table that lists them")


def _crosses_are_of_features(config: Config) -> None:
    """A cross counts equal rows of one embedding, and must be known for pairs without an event."""
    for k, cross in enumerate(config.teacher.crosses):
        user = _crossed(config, f"teacher.crosses.{k}.user", "user", cross.user)
        item = _crossed(config, f"teacher.crosses.{k}.item", "item", cross.item)
        if user.embedding != item.embedding:
            both = f"{user.name} reads embedding {user.embedding}, {item.name} {item.embedding}"
            raise ValueError(f"teacher.crosses.{k}: {both}; give them one embedding_name")
        if cross in config.teacher.crosses[:k]:
            raise ValueError(f"teacher.crosses.{k}: {user.name} and {item.name} appear twice")


def _crossed(config: Config, at: str, side: str, name: str) -> Feature:
    """The feature that one side of a cross names, which must be one that a cross can read."""
    named = {f.name: f for f in config.features}
    if name not in named:
        raise ValueError(f"{at}: no feature is called {name}{did_you_mean(name, named)}")
    f = named[name]
    if f.side != side:
        raise ValueError(f"{at}: {name} is a feature of side {f.side}")
    if not f.has_ids:
        raise ValueError(f"{at}: {name} is of kind {f.kind}, expected categorical or sequence")
    if f.per_event:
        raise ValueError(f"{at}: {name} is of level event, a drawn or retrieved pair has none")
    if f not in config.features_of("teacher"):
        raise ValueError(f"{at}: {name} is not among teacher.features")
    return f


CHECKS: tuple[Callable[[Config], None], ...] = (
    _features_are_inputs,
    _profiles_know_events,
    _embeddings_are_shared_by_equals,
    _models_read_features,
    _labels_are_in_the_log,
    _samples_fit_the_log,
    _teacher_learns_its_tasks,
    _scores_are_of_tasks,
    _student_learns_what_is_there,
    _catalogue_is_a_table,
    _crosses_are_of_features,
)
"""run in this order; the first that fails is reported"""
