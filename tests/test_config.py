"""The config: every mistake is refused, with its line, and nothing is guessed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import KIND_OPTIONS, Feature, Kind
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config
from dmtl_cli.config.teacher import NETWORK_OPTIONS, Network, Teacher

SMALL = """\
workspace: work
data:
  root: log
  events: {click: click, duration: seconds}
features:
  - {name: user_id, side: user, kind: categorical}
  - {name: item_id, side: item, kind: categorical}
"""
CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def load(tmp_path: Path, text: str = SMALL, *sets: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, sets)


def mistakes(tmp_path: Path, text: str, *sets: str, code: Exit = Exit.CONFIG) -> list[str]:
    """Every mistake found, without the folder."""
    with pytest.raises(UserError) as e:
        load(tmp_path, text, *sets)
    assert e.value.code == code
    assert len(e.value.line()) <= 400 and "\n" not in e.value.line()
    return [m.replace(f"{tmp_path}/", "") for m in (e.value.message, *e.value.others)]


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.seed, config.teacher.samples, config.student.distill.ways) == (1, "exposed", ("replay", "rescore"))
    assert (config.data.events.hive_key, config.labels.long_read) == ("day", "mean")
    assert not config.plain_autograd and load(tmp_path, SMALL, "plain_autograd=true").plain_autograd
    assert [f.name for f in config.features_of("student")] == ["user_id", "item_id"]
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_shipped_configs_load_and_say_what_they_are(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ") and "# Run:" in text.partition("\nworkspace:")[0]
    config = load_config(file)
    assert config.workspace == f"work/{file.stem}" and not Path(config.data.root).is_absolute()
    for way in ([], ["threads=1", "seed=7"]):
        load_config(str(file), way)


def test_there_are_shipped_configs() -> None:
    assert {f.stem for f in CONFIGS} >= {"demo", "kuairand"}


# -- scalars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E+2", 100.0), (".5", 0.5), ("2.", 2.0), ("3", 3.0), ("0.05", 0.05)]
)
def test_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert load(tmp_path, SMALL + f"teacher: {{learning_rate: {text}}}\n").teacher.learning_rate == value


@pytest.mark.parametrize("text", ["yes", "no", "on", "2026-01-31", "1:30", "0x10", "2026-01-31T10:00:00Z"])
def test_words_and_dates_stay_text(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, SMALL.replace("workspace: work", f"workspace: {text}")).workspace == text


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("seed", "yes", "seed: expected a whole number, got 'yes'"),
        ("seed", "true", "seed: expected a whole number, got true"),
        ("seed", "1.0", "seed: expected a whole number, got 1.0"),
        ("seed", "'1'", "seed: expected a whole number, got '1'"),
        ("seed", "-1", "seed: expected at least 0, got -1"),
        ("threads", "0", "threads: expected at least 1, got 0"),
        ("device", "gpu", "device: expected 'auto', 'cpu' or 'cuda', got 'gpu'"),
        ("workspace", "5", "workspace: expected text, got 5"),
        ("workspace", "", "workspace: expected text, got nothing"),
        ("labels", "{long_read: .inf}", "labels.long_read: expected 'mean' or a number or keys and values, got '.inf'"),
        ("labels", "{long_read: -3}", "labels.long_read: expected 'mean' or more than 0 or keys and values, got -3"),
        ("labels", "{long_read: {quantile: 2}}", "labels.long_read.quantile: expected less than 1, got 2"),
        ("teacher", "{learning_rate: 1e999}", "teacher.learning_rate: expected a finite number, got inf"),
        ("teacher", "{crosses: 3}", "teacher.crosses: expected a list, got 3"),
        ("student", "{hard: {duration_weighted: 1}}", "student.hard.duration_weighted: expected true or false, got 1"),
        ("workspace", r'"a\0b"', "not YAML: text with a NUL character"),
        ("teacher", "[1]", "teacher: expected keys and values, got a list"),
        (
            "teacher",
            "{expert_hidden_units: []}",
            "teacher.expert_hidden_units: expected a list of at least 1, got an empty list",
        ),
        ("student", "{distill: {ways: [replay, guess]}}", "student.distill.ways.1: "),
    ],
)
def test_wrong_values(tmp_path: Path, key: str, value: str, says: str) -> None:
    text = "\n".join(x for x in SMALL.splitlines() if not x.startswith(f"{key}:")) + f"\n{key}: {value}\n"
    found = mistakes(tmp_path, text)
    line = 1 + [x.partition(":")[0] for x in text.splitlines()].index(key)
    assert all(m.startswith(f"c.yaml:{line}: {says}") for m in found), found


A_NAME = "expected a name of letters, digits and _ that does not begin with a digit, got"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace("name: user_id", "name: user id"),
         f"6: features.0.name: {A_NAME} 'user id'; write name: user_id, column: 'user id', if the log calls it so"),
        (SMALL.replace("name: item_id", "name: item-id, column: item"),
         f"7: features.1.name: {A_NAME} 'item-id'; write name: item_id"),
        (SMALL.replace("name: item_id", "name: 7days"),
         f"7: features.1.name: {A_NAME} '7days'; write name: _7days, column: '7days', if the log calls it so"),
        (SMALL.replace("name: item_id", "name: 商品"),
         f"7: features.1.name: {A_NAME} '商品'; write name: NAME, column: '商品', if the log calls it so"),
        (SMALL.replace("{click", "{partition: log day, click"),
         f"4: data.events.partition: {A_NAME} 'log day'; write e.g. log_day"),
        (SMALL.replace("{click", "{conversions: {a-b: x}, click"),
         f"4: data.events.conversions.a-b: {A_NAME} 'a-b'; write e.g. a_b"),
        (SMALL + "teacher: {features: [user id]}", f"8: teacher.features.0: {A_NAME} 'user id'; write e.g. user_id"),
    ],
)  # fmt: skip
def test_a_name_that_is_none(tmp_path: Path, text: str, says: str) -> None:
    assert mistakes(tmp_path, text) == [f"c.yaml:{says}"]


def keys_of(value: Any, place: str = "") -> Iterator[str]:
    """Every key of a config, dotted."""
    if isinstance(value, BaseModel):
        for key in type(value).model_fields:
            yield place + key
            yield from keys_of(getattr(value, key), f"{place}{key}.")
    elif isinstance(value, tuple):
        for k, inner in enumerate(value):
            yield from keys_of(inner, f"{place}{k}.")


def test_messages_have_no_words_of_python(tmp_path: Path) -> None:
    """Whatever stands in the place of a value: text, a number, a list, keys."""
    text = SMALL + kd("loss: kl")
    found: list[str] = []
    for place in keys_of(load(tmp_path, text)):
        for value in ("x y", "-1", "1e999", "true", "''", "[]", "[{}]", "{a-b: {}}"):
            try:
                load(tmp_path, text, f"{place}={value}")
            except UserError as e:
                found += [m.partition(", got ")[0] for m in (e.message, *e.others)]
    assert len(found) > 500
    python = re.compile(r"(?i)should|(?<!in)valid|tuple|dict|instance|string|integer|boolean|pattern|none|\^")
    assert {m for m in found if python.search(m)} == set()


def test_names_that_are_none_beside_automatic_features(tmp_path: Path) -> None:
    text = "workspace: w\ndata: {root: log, events: {click: c, duration: s}}\nfeatures:\n"
    found = mistakes(tmp_path, text + "  - auto\n  - {name: {a: 1}, side: user, kind: numeric}\n")
    assert found == ["c.yaml:5: features.1.name: expected text, got keys and values"]


def test_a_success_file_of_a_day(tmp_path: Path) -> None:
    text = SMALL.replace("{click", "{success_file: '_OK_{date}', click")
    assert mistakes(tmp_path, text)[0].startswith("c.yaml:4: data.events.success_file: ")
    assert load(tmp_path, text.replace("{date}", "{day}")).data.events.success_file == "_OK_{day}"


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL + "sed: 1\n", "c.yaml:8: unknown key sed, did you mean seed?"),
        (SMALL + "teacher:\n  epochs: 1\n  alhpa: 1\n", "c.yaml:10: unknown key teacher.alhpa, did you mean alpha?"),
        (SMALL + "zzz: 1\n", "c.yaml:8: unknown key zzz"),
        (
            SMALL.replace("side: item", "sdie: item, side: item"),
            "c.yaml:7: unknown key features.1.sdie, did you mean side?",
        ),
        (SMALL.replace("  root: log\n", ""), "c.yaml:2: data.root is required"),
        (SMALL.replace("side: item, ", ""), "c.yaml:7: features.1.side is required"),
        (SMALL + "seed: 1\nseed: 2\n", "c.yaml:9: seed appears twice in one mapping"),
        (SMALL.replace("{click: click", "{click: a, click: click"), "c.yaml:4: click appears twice in one mapping"),
    ],
)
def test_keys(tmp_path: Path, text: str, says: str) -> None:
    assert mistakes(tmp_path, text) == [says]


def test_every_mistake_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("side: item", "side: thing") + "seed: x\nseed: -2\nteacher:\n  epochs: 0\n  wat: 1\n"
    found = mistakes(tmp_path, text)
    assert [m.partition(" ")[0] for m in found] == ["c.yaml:9:", "c.yaml:7:", "c.yaml:9:", "c.yaml:11:", "c.yaml:12:"]
    with pytest.raises(UserError) as e:
        load(tmp_path, text)
    assert "(and 4 more, see the log)" in e.value.line()


# -- contradictions ----------------------------------------------------------------------------------------------------


def with_feature(more: str) -> str:
    return SMALL + f"  - {{{more}}}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace(", duration: seconds", ""), "4: data.events: give exactly one of duration and conversion"),
        (SMALL.replace("duration:", "conversion: x, duration:"), "4: data.events: give exactly one of duration"),
        (SMALL.replace("{click", "{partition: day, date_column: d, click"), "4: data.events: give partition or"),
        (SMALL.replace("  root", "  timezone: Asia/Nowhere\n  root"), "3: data.timezone: unknown time zone"),
        (with_feature("name: user_id, side: user, kind: numeric"), "5: features: user_id appears twice"),
        (with_feature("name: s, side: user, kind: numeric, column: seconds"), "8: features.2 (s): seconds is an out"),
        (with_feature("name: x, side: user, kind: numeric, min_count: 2"), "8: features.2: min_count has no effect"),
        (with_feature("name: x, side: user, kind: numeric, hash_bucket_size: 9"), "8: features.2: hash_bucket_size"),
        (with_feature("name: x, side: user, kind: categorical, hash_bucket_size: 9, min_count: 1"),
         "8: features.2: min_count has no effect with hash_bucket_size"),
        (with_feature("name: x, side: user, kind: categorical, hash_bucket_size: 0"), "8: features.2.hash_bucket_size"),
        (with_feature("name: x, side: user, kind: categorical, hash_bucket_size: 2147483648"),
         "8: features.2.hash_bucket_size: expected less than 2147483648"),
        (with_feature("name: h, side: user, kind: sequence, embedding_name: item_id, hash_bucket_size: 9"),
         "8: features.2 (h): hash_bucket_size of embedding item_id is 9, for item_id not set"),
        (with_feature("name: a, side: user, kind: categorical, hash_bucket_size: 9}\n  - {name: b, side: item, kind: "
                      "sequence, hash_bucket_size: 8, embedding_name: a"),
         "9: features.3 (b): hash_bucket_size of embedding a is 8, for a 9"),
        (with_feature("name: x, side: user, kind: vector"), "8: features.2: kind vector needs dim"),
        (with_feature("name: x, side: item, kind: categorical, level: event"), "8: features.2: an item's feature"),
        (with_feature("name: x, side: context, kind: categorical, level: entity"), "8: features.2: side context"),
        (with_feature("name: x, side: user, kind: numeric, boundaries: [2, 1]"), "8: features.2: boundaries must"),
        (with_feature("name: x, side: user, kind: numeric, boundaries: []"), "8: features.2"),
        (with_feature("name: x, side: user, kind: numeric, boundaries: [1], num_buckets: 3"), "8: features.2: give"),
        (with_feature("name: b, side: user, kind: numeric, num_buckets: 3}\n  - {name: c, side: user, kind: sequence, "
                      "embedding_name: b"), "5: features: embedding b is shared by ids and"),
        (SMALL + "teacher: {features: [user_id, item]}", "8: teacher.features: no feature is called item, did you"),
        (SMALL + "teacher: {features: [user_id]}", "8: teacher needs at least one user feature and one item"),
        (with_feature("name: h, side: context, kind: categorical") + "student: {features: [user_id, item_id, h]}",
         "9: student.features: h is a context feature"),
        (SMALL + "student: {distill: {w_kd: 0}}", "8: student: distill.w_kd and hard.w_hard are both 0"),
        (SMALL + "student: {distill: {ways: [match, match]}}", "8: student: distill.ways names one way twice"),
        (SMALL + "student: {distill: {ways: [replay, match], losses: [{source_weights: {exposed: 0}}]}}",
         "8: student: distill.ways: match gives exposed pairs alone, which have weight 0 in all distill.losses"),
        (SMALL.replace("duration: seconds", "conversion: like") + "labels: {long_read: 3}", "8: labels.long_read"),
        (SMALL.replace("click: click, ", "") + "teacher: {samples: exposed}", "8: teacher.samples: exposed needs"),
    ],
)  # fmt: skip
def test_contradictions(tmp_path: Path, text: str, says: str) -> None:
    found = mistakes(tmp_path, text)
    assert len(found) == 1 and found[0].startswith(f"c.yaml:{says}"), found


def events(more: str) -> str:
    return SMALL.replace("{click", f"{{{more}, click")


LIKE = events("conversions: {like: is_like}")
BOUGHT = SMALL.replace("duration: seconds", "conversion: bought")
AUXILIARY = "8: student: distill.head: auxiliary needs distill.w_kd and hard.w_hard above 0"


def kd(*losses: str, more: str = "") -> str:
    """A student section in which loss k stands in line 11 + k of the file."""
    listed = "".join(f"\n      - {{{x}}}" for x in losses)
    return f"student:\n  distill:\n    losses:{listed}\n{more}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # conversions
        *((events(f"conversions: {{{name}: x}}"), f"4: data.events: conversions: {name} would be taken for another")
          for name in ("r", "cvr", "fused", "ctr", "ctlike")),
        (events("conversions: {like: seconds}") + "  - {name: s, side: user, kind: numeric, column: seconds}",
         "8: features.2 (s): seconds is an outcome"),
        (LIKE + "  - {name: is_like, side: user, kind: numeric}", "8: features.2 (is_like): is_like is an outcome"),
        (events("conversions: {a-b: x}"), "4: data.events.conversions.a-b: expected a name of letters, digits and _"),
        # a teacher's losses
        (SMALL + "teacher: {task_weights: {ctvr: 1}}", "8: teacher.task_weights: no loss is called ctvr, did you mean"),
        (SMALL + "teacher: {task_weights: {like: 1}}", "8: teacher.task_weights: no loss is called like"),
        (SMALL + "teacher: {task_weights: {ctr: -1}}", "8: teacher.task_weights.ctr: expected at least 0, got -1"),
        (SMALL + "teacher: {task_weights: {ctr: 0, cvr: 0, ctcvr: 0}}", "8: teacher.task_weights: all are 0"),
        (LIKE + "teacher: {task_weights: {ctr: 0, cvr: 0, ctcvr: 0, like: 0, ctlike: 0}}",
         "8: teacher.task_weights: all are 0"),
        # models
        (SMALL + "teacher: {num_levels: 2}", "8: teacher.num_levels has no effect on model: mmoe (it is for ple)"),
        (SMALL + "teacher: {model: shared_bottom, num_task_experts: 2}", "8: teacher.num_task_experts has no effect"),
        (SMALL + "teacher: {model: shared_bottom, num_experts: 2}",
         "8: teacher.num_experts has no effect on model: shared_bottom (it is for mmoe and ple)"),
        (SMALL + "teacher: {model: shared_bottom, gate_dropout: 0.1}", "8: teacher.gate_dropout has no effect on"),
        (SMALL + "teacher: {factor_dim: -1}", "8: teacher.factor_dim: expected at least 0"),
        (SMALL + "teacher: {samples: exposed, negatives: 2}", "8: teacher.negatives has no effect on samples: exposed"),
        (SMALL.replace("click: click, ", "") + "teacher: {calibration_share: 0.2}",
         "8: teacher.calibration_share has no effect without data.events.click"),
        # scores
        (SMALL + "scores: {fusion: {pctcvr: 1}}", "8: scores.fusion: pctcvr is none of pctr, pcvr"),
        (SMALL + "scores: {fusion: {plike: 1}}", "8: scores.fusion: plike is none of pctr, pcvr"),
        (SMALL + "scores: {fusion: {pctr: 0}}", "8: scores.fusion.pctr: expected more than 0"),
        (SMALL + "scores: {candidate_source: both}", "8: scores.candidate_source has no effect without scores.cand"),
        # what a student learns
        (SMALL + kd("loss: kl", "target: pctcv"), "12: student.distill.losses.1.target: no score is called pctcv, did"),
        (SMALL + kd("target: pctlike"), "11: student.distill.losses.0.target: no score is called pctlike"),
        (SMALL + kd("target: pfused"),
         "11: student.distill.losses.0.target: no score is called pfused (pfused needs scores.fusion)"),
        (SMALL + kd("loss: hinge"), "11: student.distill.losses.0.loss: expected 'kl', 'mse_logit', 'mse_prob', "
         "'listwise', 'listwise_calibrated', 'margin_mse', 'pairwise', 'rank_weight' or 'plackett_luce', got 'hinge'"),
        (SMALL + kd("weight: 0"), "11: student.distill.losses.0.weight: expected more than 0"),
        *((SMALL + kd("loss: kl", f"loss: {loss}, {option}"), f"12: student.distill.losses.1: {says}")
          for loss, option, says in (
            ("mse_logit", "temperature: 2", "temperature has no effect on mse_logit (it is for kl, mse_prob, listwise"),
            ("listwise", "pair_weight: gap", "pair_weight has no effect on listwise (it is for pairwise)"),
            ("kl", "decay: linear", "decay has no effect on kl (it is for rank_weight)"),
            ("pairwise", "decay_lambda: 2", "decay_lambda has no effect on pairwise (it is for rank_weight)"),
            ("rank_weight", "decay: linear, decay_lambda: 2", "decay_lambda has no effect on decay: linear"),
            ("listwise", "top_k: 3", "top_k has no effect on listwise (it is for plackett_luce)"),
            ("mse_prob", "popularity_strata: 3", "popularity_strata has no effect on mse_prob (it is for listwise, "),
        )),
        (SMALL + "student: {distill: {losses: []}}", "8: student.distill.losses: expected a list of at least 1, got"),
        (SMALL + kd("loss: rank_weight"), "10: student: distill.losses: rank_weight alone only pushes scores up"),
        (SMALL + "student: {distill: {list_size: 8}}", "8: student: distill.list_size has no effect without a loss"),
        (SMALL + kd("loss: listwise", more="  user_rows: 4\n"), "12: student: user_rows has no effect with a loss"),
        (SMALL + "student: {distill: {list_size: 1}}", "8: student.distill.list_size: expected at least 2, got 1"),
        (SMALL + "student: {distill: {half_life_days: 0}}", "8: student.distill.half_life_days: expected more than 0"),
        (SMALL + "student: {distill: {head: auxiliary}}", AUXILIARY),
        (SMALL + "student: {distill: {head: auxiliary, w_kd: 0}, hard: {w_hard: 1}}", AUXILIARY),
        (SMALL + "student: {hard: {w_hard: 1, negatives: 2}}", "8: student: hard.negatives has no effect on sampled_"),
        (SMALL + "student: {exposure: {kappa: -1}}",
             "8: student.exposure.kappa: expected at least 0 or 'auto', got"),
        (SMALL + "student: {exposure: {kappa: some}}",
             "8: student.exposure.kappa: expected a number or 'auto', got"),
        (SMALL + "student: {exposure: {kappa: 0, epochs: 2}}",
         "8: student.exposure: epochs has no effect on kappa: 0, which leaves the block out"),
        (SMALL + "student: {exposure: {objective: click_recall}}",
         "8: student.exposure: objective has no effect on a kappa that is given; it is for kappa: auto"),
        (SMALL + "student: {exposure: {negatives: -1}}", "8: student.exposure.negatives: expected at least 0, got -1"),
        (BOUGHT + "student: {exposure: {kappa: auto, objective: time_recall}}",
         "8: student.exposure.objective: time_recall needs data.events.duration"),
        (BOUGHT + "student: {hard: {w_hard: 1, duration_weighted: true}}",
         "8: student.hard.duration_weighted needs data.events.duration"),
    ],
)  # fmt: skip
def test_options_must_have_an_effect(tmp_path: Path, text: str, says: str) -> None:
    found = mistakes(tmp_path, text)
    assert len(found) == 1 and found[0].startswith(f"c.yaml:{says}"), found


SHARED = (
    SMALL
    + """\
  - {name: last, side: user, kind: categorical, embedding_name: item_id}
  - {name: recent, side: user, kind: sequence, embedding_name: item_id}
  - {name: city, side: user, kind: categorical}
  - {name: age, side: user, kind: numeric, num_buckets: 3}
  - {name: now, side: user, kind: categorical, level: event, embedding_name: item_id}
"""
)


def crosses(*named: str) -> str:
    """A teacher section in which cross k stands in line 15 + k of the file."""
    listed = "".join(f"\n    - {{{x}}}" for x in named)
    return f"teacher:\n  crosses:{listed}\n"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("user: recnt, item: item_id", "teacher.crosses.1.user: no feature is called recnt, did you mean recent?"),
        ("user: recent, item: itemid", "teacher.crosses.1.item: no feature is called itemid, did you mean item_id?"),
        ("user: item_id, item: item_id", "teacher.crosses.1.user: item_id is a feature of side item"),
        ("user: recent, item: recent", "teacher.crosses.1.item: recent is a feature of side user"),
        ("user: age, item: item_id",
         "teacher.crosses.1.user: age is of kind numeric, expected categorical or sequence"),
        ("user: now, item: item_id",
         "teacher.crosses.1.user: now is of level event, a drawn or retrieved pair has none"),
        ("user: city, item: item_id",
         "teacher.crosses.1: city reads embedding city, item_id item_id; give them one embedding_name"),
        ("user: last, item: item_id", "teacher.crosses.1: last and item_id appear twice"),
        ("user: recent", "teacher.crosses.1.item is required"),
        ("user: recent, item: item_id, itme: x", "unknown key teacher.crosses.1.itme, did you mean item?"),
    ],
)  # fmt: skip
def test_crosses_that_cannot_be(tmp_path: Path, named: str, says: str) -> None:
    """Each is told at its line, after a cross that is right."""
    right = "user: last, item: item_id"
    assert mistakes(tmp_path, SHARED + crosses(right, named)) == [f"c.yaml:16: {says}"]


def test_a_cross_of_what_the_teacher_does_not_read(tmp_path: Path) -> None:
    text = SHARED + crosses("user: last, item: item_id", "user: recent, item: item_id")
    load(tmp_path, text + "  features: [last, recent, item_id]\n")
    found = mistakes(tmp_path, text + "  features: [last, item_id]\n")
    assert found == ["c.yaml:16: teacher.crosses.1.user: recent is not among teacher.features"]


def test_crosses(tmp_path: Path) -> None:
    one = "user: recent, item: item_id"
    found = load(tmp_path, SHARED + crosses(one)).teacher
    assert found.model_dump()["crosses"] == ({"user": "recent", "item": "item_id"},)


@pytest.mark.parametrize(
    "text",
    [
        LIKE + kd("target: plike", "loss: listwise, target: pctlike", more="    list_size: 9\n"),
        LIKE + "teacher: {task_weights: {ctr: 0, cvr: 0, ctcvr: 0, ctlike: 0}}",  # like alone
        SMALL + "scores: {fusion: {pcvr: 0.5}}\n" + kd("target: pfused"),
        SMALL + kd("loss: rank_weight, decay: exponential, decay_lambda: 2", "loss: kl, temperature: 3"),
        SMALL + kd("loss: rank_weight, decay: linear", more="  hard: {w_hard: 1}\n"),
        SMALL + kd("loss: plackett_luce, top_k: 3, popularity_strata: 2", "loss: pairwise, pair_weight: ndcg"),
        SMALL + "teacher: {model: ple, num_levels: 2, num_task_experts: 1, num_experts: 1, gate_dropout: 0.1}",
        SMALL + "student: {distill: {head: auxiliary}, hard: {w_hard: 1, loss: pointwise, negatives: 2}}",
        SMALL + "scores: {candidates: 5, candidate_source: both}",
        SMALL.replace("duration: seconds", "conversion: bought, conversions: {a: x, b: x}"),
    ],
)
def test_options_that_have_one(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_every_kind_and_network_says_which_keys_it_takes() -> None:
    assert set(KIND_OPTIONS) == set(get_args(Kind)) and set(NETWORK_OPTIONS) == set(get_args(Network))
    common = {"name", "side", "kind", "column", "profile", "level"}
    assert {key for keys in KIND_OPTIONS.values() for key in keys} == Feature.model_fields.keys() - common
    assert {key for keys in NETWORK_OPTIONS.values() for key in keys} < Teacher.model_fields.keys()


def test_tasks_losses_and_their_weights(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.tasks.names, config.tasks.losses) == (("ctr", "cvr"), ("ctr", "ctcvr", "cvr"))
    assert [config.task_weight(x) for x in config.tasks.losses] == [1.0, 1.0, 1.0]
    two = events("conversions: {like: a, buy: b}") + "teacher: {task_weights: {ctlike: 0.5, cvr: 0}}"
    config = load(tmp_path, two)
    assert config.tasks.names == ("ctr", "cvr", "buy", "like"), "whatever their order in the file"
    assert config.tasks.losses == ("ctr", "ctcvr", "cvr", "ctbuy", "buy", "ctlike", "like")
    assert [config.task_weight(x) for x in config.tasks.losses] == [1, 1, 0, 1, 1, 0.5, 1]
    assert config.data.events.outcome_columns == {"click", "seconds", "a", "b"}


def test_a_log_of_clicks_alone_is_sampled_unless_told(tmp_path: Path) -> None:
    clicks = SMALL.replace("click: click, ", "")
    assert load(tmp_path).teacher.samples == "exposed"
    assert load(tmp_path, clicks).teacher.samples == "sampled"
    sampled = load(tmp_path, clicks + "teacher: {negatives: 3}")
    assert (sampled.teacher.samples, sampled.teacher.negatives) == ("sampled", 3)
    assert load(tmp_path, clicks + "teacher: {samples: mixed}").teacher.samples == "mixed"
    for text in (clicks + "teacher: 5", clicks + "teacher:", "data: 5", "data: {events: [1]}"):
        assert not any("Error" in m for m in mistakes(tmp_path, text))


def test_how_many_rows_reach_a_batch_together(tmp_path: Path) -> None:
    for more, rows in (("", 16), ("  user_rows: 3\n", 3), (kd("loss: pairwise", more="    list_size: 9\n")[9:], 9)):
        assert load(tmp_path, SMALL + "student:\n  hidden_units: [8]\n" + more).student.rows_together == rows


def test_what_a_student_distills(tmp_path: Path) -> None:
    def distill(*losses: str, more: str = "") -> Any:
        return load(tmp_path, SMALL + kd(*losses, more=more)).student.distill

    many = distill("target: pctr", "loss: listwise", "target: pctr, loss: mse_prob")
    assert (many.targets, many.over_lists) == (("pctr", "pctcvr"), True)
    assert not distill("loss: mse_logit").over_lists
    off = distill("loss: listwise", more="    w_kd: 0\n  hard: {w_hard: 1}\n")
    assert (off.targets, off.over_lists) == ((), False), "what is not learned is not asked of the dump"
    options = [x.options() for x in distill("temperature: 2", "loss: mse_logit", "loss: rank_weight, decay: linear",
                                            "loss: plackett_luce").losses]  # fmt: skip
    assert options == [{"temperature": 2.0}, {}, {"decay": "linear", "decay_lambda": 10.0}, {"top_k": 10}]


@pytest.mark.parametrize(
    ("losses", "more", "predicts"),
    [
        (("loss: kl",), "", "pctcvr"),
        (("target: pctr, temperature: 3",), "", "pctr"),
        (("loss: kl", "loss: listwise_calibrated"), "", "pctcvr"),
        (("loss: listwise_calibrated",), "", None),
        (("loss: kl", "loss: listwise"), "", None),
        (("loss: kl", "target: pctr"), "", None),
        (("loss: kl",), "    w_kd: 0\n  hard: {w_hard: 1}\n", None),
        (("loss: kl",), "    head: auxiliary\n  hard: {w_hard: 1}\n", None),
    ],
)
def test_when_a_students_logit_is_a_scores(
    tmp_path: Path, losses: tuple[str, ...], more: str, predicts: str | None
) -> None:
    assert load(tmp_path, SMALL + kd(*losses, more=more)).student.predicts == predicts


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such config file") as e:
        load_config(tmp_path / "none.yaml")
    assert e.value.code == Exit.CONFIG
    with pytest.raises(UserError, match="cannot be read as text") as e:
        load_config(tmp_path)
    assert e.value.code == Exit.CONFIG
    (tmp_path / "latin.yaml").write_bytes(b"workspace: \xe9\n")
    with pytest.raises(UserError, match="cannot be read as text"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "expected keys and values, got nothing"),
        ("- a\n- b\n", 1, "expected keys and values, got a list"),
        ("workspace: [1\n", 2, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("a: 1\nworkspace: \x07\n", 2, "not YAML"),
        ("workspace: !!python/name:os.system now\n", 1, "not YAML"),
        ("workspace: w\nseed: !!int many\n", 2, "not YAML"),
        ("workspace: w\nseed: !!float many\n", 2, "not YAML"),
        ("workspace: w\na: &x [*x]\n", 2, "not YAML: nested more than 50 deep, or an anchor contains itself"),
    ],
)
def test_what_is_not_yaml(tmp_path: Path, text: str, line: int, says: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert found.startswith(f"c.yaml:{line}: {says}")


def test_an_anchor_is_a_repetition(tmp_path: Path) -> None:
    text = SMALL + "teacher: {features: &f [user_id, item_id]}\nstudent: {features: *f}\n"
    assert load(tmp_path, text).student.features == ("user_id", "item_id")


# -- --set -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("seed=7", 7),
        ("teacher.learning_rate=1e-3", 1e-3),
        ("student.distill.ways=[match]", ("match",)),
        ("student.distill.ways.0=match", "match"),
        ("features.1.min_count=5", 5),
        ("data.events.path=a=b", "a=b"),
        ("teacher.task_weights={cvr: 0}", {"cvr": 0.0}),
        ("data.timezone=null", None),
        ("workspace=2026-01-31", "2026-01-31"),
    ],
)
def test_set(tmp_path: Path, entry: str, value: Any) -> None:
    at: Any = load(tmp_path, SMALL + "student: {distill: {ways: [rescore, replay]}}\n", entry)
    for part in entry.partition("=")[0].split("."):
        at = at[int(part)] if part.isdigit() else getattr(at, part)
    assert (at.model_dump() if hasattr(at, "model_dump") else at) == value


def test_a_later_set_wins(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("seed=x", "--set seed: expected a whole number, got 'x'"),
        ("teacher.epohcs=1", "--set unknown key teacher.epohcs, did you mean epochs?"),
        ("features.1.min_count=0", "--set features.1.min_count: expected at least 1, got 0"),
        ("features.9.min_count=5", "--set features.9.min_count=5: there is nothing at 9 in the config"),
        ("features.x.min_count=5", "--set features.x.min_count=5: there is nothing at x in the config"),
        ("features.2=5", "--set features.2=5: there is nothing at 2 in the config"),
        ("workspace.deep.er=5", "--set workspace.deep.er=5: there is nothing at deep in the config"),
        ("workspace.deep=5", "--set workspace.deep=5: there is nothing at deep in the config"),
        ("seed=[1", "--set seed=[1:1: not YAML"),
    ],
)
def test_a_wrong_set(tmp_path: Path, entry: str, says: str) -> None:
    found = mistakes(tmp_path, SMALL, entry)
    assert found[0].startswith(says), found


def test_a_misspelt_key_comes_before_what_it_leaves_missing(tmp_path: Path) -> None:
    found = mistakes(tmp_path, SMALL.replace("features:", "featurs:"))
    assert [m.split(": ", 1)[1] for m in found] == [
        "unknown key featurs, did you mean features?",
        "features is required",
    ]


def test_a_set_below_an_empty_section(tmp_path: Path) -> None:
    found = mistakes(tmp_path, SMALL + "student:\n", "student.learning_rate=0.1")
    assert found == ["--set student.learning_rate=0.1: student is empty in the config"]


NUMERIC = with_feature("name: x, side: user, kind: numeric")
VALUED = with_feature("name: x, side: user, kind: categorical, min_count: 2")
NO_EFFECT = "features.2: min_count has no effect on kind numeric (it is for categorical and sequence)"


@pytest.mark.parametrize(
    ("text", "sets", "says"),
    [
        # the offending key, a key that makes one of the file offend, a whole feature, a feature of the file
        (NUMERIC, ["features.2.min_count=2"], f"--set {NO_EFFECT}"),
        (VALUED, ["features.2.kind=numeric"], f"--set features.2.kind=numeric: {NO_EFFECT}"),
        (NUMERIC, ["features.2={name: x, side: user, kind: numeric, min_count: 2}"], f"--set {NO_EFFECT}"),
        (VALUED.replace("categorical, min", "numeric, min"), ["features.2.column=y"], f"c.yaml:8: {NO_EFFECT}"),
        (VALUED.replace("categorical, min", "numeric, min"), ["seed=2", "threads=2"], f"c.yaml:8: {NO_EFFECT}"),
        # checks between sections: the last that is to blame
        (SMALL, ["seed=2", "data.events.click=null", "teacher={samples: exposed}", "threads=2"],
         "--set teacher.samples: exposed needs data.events.click; a log of clicks has no negatives"),
        (SMALL + "teacher: {samples: exposed}", ["seed=2", "data.events.click=null", "threads=2"],
         "--set data.events.click=null: teacher.samples: exposed needs data.events.click; a log of clicks has no "
         "negatives"),
        (SMALL + "teacher: {features: [user_id, item]}", ["seed=2"],
         "c.yaml:8: teacher.features: no feature is called item, did you mean item_id?"),
        # the file's mistake, hidden until --set mends another one
        (SMALL + "seed: x\nteacher: {num_levels: 2}", ["seed=2"],
         "c.yaml:9: teacher.num_levels has no effect on model: mmoe (it is for ple)"),
        (SMALL + "seed: x\nteacher: {model: ple, num_levels: 2}", ["seed=2", "teacher.model=shared_bottom"],
         "--set teacher.model=shared_bottom: teacher.num_levels has no effect on model: shared_bottom (it is for ple)"),
        # what stood in the file where --set puts a mapping
        (SMALL, ["data={events: {duration: seconds}}"], "--set data.root is required"),
        (SMALL, ["labels={long_read: 3, long_read: 4}"],
         "--set labels={long_read: 3, long_read: 4}:1: long_read appears twice in one mapping"),
    ],
)  # fmt: skip
def test_a_mistake_of_set_is_told_as_one(tmp_path: Path, text: str, sets: list[str], says: str) -> None:
    assert mistakes(tmp_path, text, *sets) == [says]


@pytest.mark.parametrize("entry", ["seed", "=1", "a..b=1", ".seed=1"])
def test_a_malformed_set_is_a_usage_error(tmp_path: Path, entry: str) -> None:
    assert mistakes(tmp_path, SMALL, entry, code=Exit.USAGE)[0].startswith(f"--set {entry}: expected dotted.key=value")


def test_a_config_survives_its_own_dump(tmp_path: Path) -> None:
    text = with_feature("name: x, side: user, kind: numeric, boundaries: [0, 1.5]")
    config = load(tmp_path, text)
    dumped = yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True))
    assert load(tmp_path, dumped) == config


# -- features: auto beside others --------------------------------------------------------------------------------------

BESIDE = """\
workspace: work
data:
  root: log
  events: {click: click, duration: seconds}
features:
  - {name: city, side: user, kind: categorical}
  - auto
  - {name: item_age, side: item, kind: numeric, profile: {age: first_seen}, num_buckets: 4}
  - {name: hour, side: context, kind: categorical}
"""


def test_auto_in_a_list_is_what_auto_gives_but_for_what_is_named(tmp_path: Path) -> None:
    alone = load(tmp_path, SMALL[: SMALL.index("features")] + "features: auto\n").features
    beside = load(tmp_path, BESIDE).features
    own = {f.name: f for f in beside if f.name in ("city", "item_age", "hour")}
    assert len(own) == 3 and own["item_age"].num_buckets == 4
    assert {f.name: f for f in beside} == {f.name: f for f in alone} | own


@pytest.mark.parametrize("again", ["city", "hour"])
def test_a_mistake_beside_auto_is_at_its_line(tmp_path: Path, again: str) -> None:
    line = 6 if again == "city" else 9
    text = BESIDE.replace(f"name: {again}, ", f"name: {again}, kinds: x, ")
    assert mistakes(tmp_path, text)[0].startswith(f"c.yaml:{line}: unknown key features.{line - 6}.kinds")


def test_auto_twice(tmp_path: Path) -> None:
    assert "auto is there twice" in mistakes(tmp_path, BESIDE + "  - auto\n")[0]
