"""`plain_autograd`: every kernel written by hand replaced by plain autograd, through the command line."""

from __future__ import annotations

import copy
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest
from safetensors.numpy import load_file
from worlds import BASE, DAYS, Project

from dmtl_cli.nn import layers
from dmtl_cli.student import hard
from dmtl_cli.synth.generate import generate
from dmtl_cli.teacher.networks import mmoe

KERNELS: tuple[tuple[Any, str], ...] = ((mmoe, "mixture"), (hard, "in_batch_softmax"), (layers, "tower"))
"""where each is called, and its name there"""
STAGES = ("train-teacher", "dump-logits", "train-student", "train-joint")
Made = tuple[Project, dict[str, dict[str, Any]]]


def a_config(*, plain: bool) -> dict[str, Any]:
    """A student of labels alone: its in-batch softmax is the kernel, and it needs no scores. Of unit
    vectors, whose logits stay small: what is rounding in gradients, Adam scales up."""
    config = copy.deepcopy(BASE)
    config["teacher"]["epochs"] = 1
    config["student"] |= {"vectors": "unit", "distill": {"w_kd": 0}, "hard": {"w_hard": 1}}
    return config | ({"plain_autograd": True} if plain else {})


def made(home: Path, log: Path, *, plain: bool) -> Made:
    """A workspace of the first day and what its stages said; the joint loop needs a distilled student."""
    project = Project.create(home, log, config=a_config(plain=plain))
    more: dict[str, dict[str, object]] = {"train-joint": {"student__distill__w_kd": 1}}
    found = {}
    for command in STAGES:
        ended = project.stage(command, 1, **more.get(command, {}))
        assert (ended.code, ended.err) == (0, ""), (command, ended.err)
        found[command] = ended.every[0]
    return project, found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    generate(out, 1, start=dt.date.fromisoformat(DAYS[0]), users=100, items=60, events_per_day=2_000, seed=1)
    return out / "log"


@pytest.fixture(scope="module")
def by_hand(log: Path) -> tuple[Made, dict[str, int]]:
    """With the kernels, and how often each was called."""
    calls = {name: 0 for _, name in KERNELS}

    def counted(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            calls[name] += 1
            return kernel(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in KERNELS:
            patch.setattr(module, name, counted(name, getattr(module, name)))
        patch.setattr(layers, "FEW", 0)  # batches of this world are too small for kernels
        patch.setattr(mmoe, "FEW", 0)
        return made(log.parent / "by-hand", log, plain=False), calls


@pytest.fixture(scope="module")
def plainly(log: Path) -> Made:
    """Without them: a call would end the stage."""

    def refuse(*args: Any, **more: Any) -> NoReturn:
        raise AssertionError("a kernel written by hand was called")

    with pytest.MonkeyPatch.context() as patch:
        for module, name in KERNELS:
            patch.setattr(module, name, refuse)
        patch.setattr(layers, "FEW", 0)
        patch.setattr(mmoe, "FEW", 0)
        return made(log.parent / "plainly", log, plain=True)


def test_the_default_calls_every_kernel(by_hand: tuple[Made, dict[str, int]]) -> None:
    assert all(by_hand[1].values()), by_hand[1]


@pytest.mark.parametrize("stage", STAGES)
def test_the_key_is_another_and_the_numbers_are_the_same(
    stage: str, by_hand: tuple[Made, dict[str, int]], plainly: Made
) -> None:
    (one, a), (other, b) = by_hand[0], plainly
    assert one.ws != other.ws and a[stage]["key"] != b[stage]["key"]
    assert a[stage]["rows"] == b[stage]["rows"]
    assert a[stage]["metrics"] == pytest.approx(b[stage]["metrics"], rel=1e-3, abs=1e-3)
    # an exposure block begins with items that are all alike: gradients that cancel are rounding, which Adam scales up
    weights = [{f.relative_to(p): load_file(f) for f in sorted(p.rglob("model.safetensors"))}
               for p in (Path(r[stage]["path"]) for r in (a, b))]  # fmt: skip
    for file, tensors in weights[0].items():
        if file.parent.name == "exposure":
            continue
        for name, tensor in tensors.items():
            assert abs(tensor - weights[1][file][name]).max(initial=0) < 1e-3, (file, name)


def test_a_dump_of_a_plain_teacher_has_the_same_scores(by_hand: tuple[Made, dict[str, int]], plainly: Made) -> None:
    key = ["pair_source", "group", "user_id", "item_id", "pctcvr"]
    a, b = (
        pl.concat([pl.read_parquet(f) for f in sorted(Path(r["dump-logits"]["path"]).glob("part-*"))]).sort(key)
        for _, r in (by_hand[0], plainly)
    )
    assert len(a) > 2_000 and a[key[:-1]].equals(b[key[:-1]])
    assert (a["pctcvr"] - b["pctcvr"]).abs().max() < 1e-3 < a["pctcvr"].std()  # type: ignore[operator]


@pytest.mark.parametrize("stage", STAGES)
def test_a_manifest_names_it_only_where_it_is_true(
    stage: str, by_hand: tuple[Made, dict[str, int]], plainly: Made
) -> None:
    """So that every key of a config without it is the one that it always was."""
    stored = [json.loads((Path(r[stage]["path"]) / "manifest.json").read_text()) for _, r in (by_hand[0], plainly)]
    assert "plain_autograd" not in stored[0]["config"] and stored[1]["config"]["plain_autograd"] is True
    assert stored[0]["config"] | {"plain_autograd": True} == stored[1]["config"]
