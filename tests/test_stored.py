"""A section of the config is read back from a manifest as it was written."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dmtl_cli.config.features import Feature
from dmtl_cli.config.stored import from_stored
from dmtl_cli.config.student import KD, LISTS, LOSS_OPTIONS, Distill, Floors, Hard, SourceWeights, Student
from dmtl_cli.config.teacher import NETWORK_OPTIONS, Cross, Teacher

Keys = dict[str, st.SearchStrategy[Any]]
counts, rates, shares = st.integers(1, 9), st.floats(0.1, 9), st.floats(0, 0.9)
units = st.lists(counts, min_size=1, max_size=3).map(tuple)
names = st.sampled_from(["a", "b_2", "item_id"])


def some(optional: Keys, **required: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Keys of a section: all that are required, any of the others."""
    return st.fixed_dictionaries({k: st.just(v) for k, v in required.items()}, optional=optional)


OPTIMIZER: Keys = {
    "batch_size": counts,
    "epochs": counts,
    "learning_rate": rates,
    "embedding_learning_rate": rates,
    "embedding_optimizer": st.sampled_from(["rowwise_adagrad", "adam"]),
    "precision": st.sampled_from(["fp32", "bf16"]),
    "embedding_dim": counts,
    "unknown_share": shares,
    "features": st.lists(names, max_size=2).map(tuple),
}
NETWORK: Keys = {"num_experts": counts, "num_task_experts": counts, "num_levels": counts, "gate_dropout": shares}
TEACHER: Keys = OPTIMIZER | {
    "user_rows": counts,
    "first_window_days": counts,
    "window_days": counts,
    "samples": st.sampled_from(["exposed", "mixed", "sampled"]),
    "negatives": counts,
    "alpha": st.floats(0, 1),
    "negative_weight": rates,
    "expert_hidden_units": units,
    "tower_hidden_units": units,
    "batch_norm": st.booleans(),
    "factor_dim": st.integers(0, 9),
    "task_weights": st.dictionaries(st.sampled_from(["ctr", "cvr", "ctlike"]), rates),
    "calibration_share": shares,
    "crosses": st.lists(st.builds(Cross, user=names, item=names), max_size=2).map(tuple),
}
LOSS: Keys = {
    "temperature": rates,
    "pair_weight": st.sampled_from(["uniform", "gap", "ndcg"]),
    "decay": st.sampled_from(["exponential", "logarithmic", "linear"]),
    "top_k": counts,
}
WAYS = ("replay", "match", "rescore")
IDS: Keys = {"embedding_name": names}
BY_KIND: dict[str, Keys] = {
    "categorical": IDS,
    "sequence": IDS | {"max_length": counts, "separator": st.sampled_from(["|", ","])},
    "numeric": {},
    "vector": {},
}


@st.composite
def teachers(draw: st.DrawFn) -> Teacher:
    model = draw(st.sampled_from(sorted(NETWORK_OPTIONS)))
    options = {name: NETWORK[name] for name in NETWORK_OPTIONS[model]}
    return Teacher(**draw(some(TEACHER | options, model=model)))


@st.composite
def losses(draw: st.DrawFn) -> KD:
    name = draw(st.sampled_from(sorted({*LISTS, "kl", "mse_logit", "mse_prob"})))
    options = {option: LOSS[option] for option in LOSS_OPTIONS[name] if option in LOSS}
    options |= {"weight": rates, "target": names, "source_weights": st.builds(SourceWeights, candidate=rates)}
    options |= {"popularity_strata": counts} if name in LISTS else {}
    given_ = draw(some(options, loss=name))
    if name == "rank_weight" and given_.get("decay", "exponential") == "exponential" and draw(st.booleans()):
        given_["decay_lambda"] = draw(rates)
    return KD(**given_)


@st.composite
def students(draw: st.DrawFn) -> Student:
    hard = Hard(
        **draw(
            st.one_of(
                some({"label": st.sampled_from(["click", "long_read"])}, w_hard=0.5),
                some({"negatives": counts, "duration_weighted": st.booleans()}, w_hard=2.0, loss="pointwise"),
            )
        )
    )
    learned = draw(st.lists(losses(), min_size=1, max_size=3))
    lists = any(kd.loss in LISTS for kd in learned)
    more: Keys = {
        "head": st.sampled_from(["served", "auxiliary"]),
        "ways": st.lists(st.sampled_from(WAYS), min_size=1, unique=True).map(tuple),
        "floors": st.builds(Floors, match=shares),
        "min_age_days": st.integers(0, 3),
        "max_age_days": st.integers(3, 9),
        "half_life_days": rates,
    }
    more |= {"list_size": st.integers(2, 300)} if lists else {}
    distill = Distill(**draw(some(more, losses=tuple(learned))))
    keys = OPTIMIZER | {"hidden_units": units, "vectors": st.sampled_from(["unit", "plain"])}
    keys |= {} if lists else {"user_rows": counts}
    return Student(**draw(some(keys, distill=distill, hard=hard)))


@st.composite
def features(draw: st.DrawFn) -> Feature:
    kind = draw(st.sampled_from(sorted(BY_KIND)))
    keys = BY_KIND[kind] | {"column": names}
    given_ = draw(some(keys, name="x", kind=kind, side=draw(st.sampled_from(["user", "item", "context"]))))
    if kind == "vector":
        given_["dim"] = draw(counts)
    elif kind == "numeric":
        edges = st.lists(st.floats(-5, 5), min_size=1, unique=True).map(lambda x: tuple(sorted(x)))
        option: Keys = {"boundaries": edges, "num_buckets": st.integers(2, 9), "transform": st.just("log1p")}
        if chosen := draw(st.sampled_from(["", *option])):
            given_[chosen] = draw(option[chosen])
    elif chosen := draw(st.sampled_from(["", "min_count", "hash_bucket_size"])):
        given_[chosen] = draw(counts)
    return Feature(**given_)


def stored(section: BaseModel) -> dict[str, Any]:
    """As a manifest holds it."""
    raw: dict[str, Any] = json.loads(json.dumps(section.model_dump(mode="json")))
    return raw


@settings(max_examples=200, deadline=None)
@given(st.one_of(teachers(), students(), features()))
def test_a_stored_section_is_the_section(section: BaseModel) -> None:
    """Though a manifest holds every key, those too that would be refused if a user wrote them."""
    again = from_stored(type(section), stored(section))
    assert again == section and type(again) is type(section)
    assert stored(again) == stored(section)


def test_a_default_counts_as_not_given() -> None:
    """gate_dropout has no effect on shared_bottom, and is refused where it is given."""
    teacher = Teacher(model="shared_bottom", crosses=(Cross(user="a", item="b"),), task_weights={"cvr": 0.0})
    again = from_stored(Teacher, stored(teacher))
    assert again.model_fields_set == {"model", "crosses", "task_weights"}
    assert again.crosses == teacher.crosses and isinstance(again.crosses[0], Cross)
