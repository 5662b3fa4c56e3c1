"""The simulation of more ranks: its arithmetic by hand, that it finds what made its measurements; a rank for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    from benchmark.log import config_of, make_log
    from benchmark.simulated import KINDS, Link, Phase, messages, sent
    from benchmark.sizes import FIRST_DAY

NONE = dict.fromkeys(KINDS, 0.0)
LINKS = dict.fromkeys(KINDS, Link(0.001, 1e-9))
SECONDS = st.floats(0.01, 100)


def test_by_hand() -> None:
    """8 s to divide, 1 s alike, 2 s of the first; ten sums of 100,000 bytes: four ranks send each 1.5 times around."""
    phase = Phase(8, 1, 2, NONE | {"all_reduce": 10}, NONE | {"all_reduce": 1e6})
    rng = np.random.default_rng(0)
    assert phase.cpu(LINKS, 1) == 11
    assert phase.communication(LINKS, 2) == pytest.approx(10 * 2 * 0.001 + 1e6 * 1e-9)
    assert phase.communication(LINKS, 4) == pytest.approx(10 * 6 * 0.001 + 1.5e6 * 1e-9)
    assert phase.cpu(LINKS, 4) == pytest.approx(8 + 2 + 4 * (1 + 0.0615))
    assert phase.elapsed(LINKS, 1, rng) == 11
    assert phase.elapsed(LINKS, 4, rng) == pytest.approx(2 + 1 + 8 / 4 + 0.0615)


def test_ranks_wait_for_the_slowest() -> None:
    """Of two kinds of step, of which each rank draws one, all of 64 ranks draw the fast one never."""
    phase = Phase(64, 0, 0, NONE, NONE, steps=(0.5, 1.5))
    assert phase.elapsed(LINKS, 64, np.random.default_rng(0)) == pytest.approx(1.5, rel=1e-6)
    two = phase.elapsed(LINKS, 2, np.random.default_rng(0), rounds=100_000)
    assert two == pytest.approx(32 * (0.25 * 0.5 + 0.75 * 1.5), rel=0.01)


@given(SECONDS, SECONDS, SECONDS)
def test_parts_are_told_apart(divided: float, alike: float, first: float) -> None:
    """Where one rank and two are what the parts make them."""
    one = divided + alike + first
    two = alike + first + divided / 2, alike + divided / 2
    found = Phase.of(one, two, NONE, NONE, [3.0, 1.0])
    assert (found.divided, found.alike, found.first) == pytest.approx((divided, alike, first), abs=1e-6)
    assert list(found.steps) == [1.5, 0.5] and found.further == pytest.approx(0, abs=1e-6)


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_four_ranks_tell_what_two_do_not(divided: float, alike: float, first: float, further: float) -> None:
    """Where several are dearer: one rank, two and four are what the parts make them."""
    several = {n: [divided / n + alike + further + (first if k == 0 else 0) for k in range(n)] for n in (2, 4)}
    found = Phase.of(divided + alike + first, several[2], NONE, NONE, [])
    if found.first == pytest.approx(first):
        found = found.refined(several)
        made = found.divided, found.alike, found.first, found.further
        assert made == pytest.approx((divided, alike, first, further), rel=1e-6, abs=1e-6)


def test_what_the_first_does_alone_is_told_from_what_is_dearer() -> None:
    """One takes 3 s, of which 1 by the first alone; each of two 4 s beside: four take 17 s."""
    found = Phase.of(3, (5, 4), NONE, NONE, [])
    assert (found.divided, found.alike, found.first, found.further) == (0, 2, 1, 2)
    assert found.cpu(LINKS, 4) == 17
    assert found.times(3, steps=True).cpu(LINKS, 4) == 51


@pytest.mark.parametrize("steps", [False, True])
def test_more_rows_have_more_steps(steps: bool) -> None:
    phase = Phase(0, 0, 0, NONE | {"objects": 5}, NONE | {"objects": 1e6}).times(10, steps=steps)
    assert phase.communication(LINKS, 2) == pytest.approx((5 * 2 * 0.001 + 1e6 * 1e-9) * (10 if steps else 1))


def test_what_is_dearer_for_several_is_that_of_each() -> None:
    """One takes 3 s, each of two 5 s: nothing is divided, and four take 20 s."""
    found = Phase.of(3, (5, 5), NONE, NONE, [])
    assert (found.divided, found.alike, found.further) == (0, 3, 2)
    assert (found.cpu(LINKS, 1), found.cpu(LINKS, 2), found.cpu(LINKS, 4)) == (3, 10, 20)
    assert found.elapsed(LINKS, 4, np.random.default_rng(0)) == 5


@given(st.sampled_from(KINDS), st.integers(2, 64), st.floats(1e-6, 1e-2), st.floats(1e-11, 1e-8))
def test_links_are_told_apart(kind: str, n: int, latency: float, byte: float) -> None:
    small, large = ((size, messages(kind, n) * latency + sent(kind, n) * size * byte) for size in (256.0, 4e6))
    found = Link.of(kind, small, large, n)
    assert (found.latency, found.byte) == pytest.approx((latency, byte), rel=1e-6)


@given(SECONDS, st.floats(0.01, 300), st.floats(0.01, 300))
def test_no_part_is_negative_and_one_rank_is_as_measured(one: float, a: float, b: float) -> None:
    """Whatever noise there is."""
    found = Phase.of(one, (a, b), NONE, NONE, [])
    assert min(found.divided, found.alike, found.first) >= 0
    assert found.cpu(LINKS, 1) == pytest.approx(one)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_is_measured(tmp_path: Path, ranks: int) -> None:
    """A stage under the clock publishes as it does without, and its seconds and collectives are told by phase."""
    if ranks > 1:
        pytest.importorskip("torchrec", reason="scripts/install_torchrec.sh installs it")
    make_log(tmp_path, 3_000, 1, 100, 1.5, users=200, items=100)
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(config_of(tmp_path, 1, 1)))
    group = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    stage = ["train-teacher", "--config", tmp_path / "bench.yaml", "--day", FIRST_DAY, "--quiet"]
    stage += ["--set", "teacher.batch_size=500", "--set", "gates.quality=false"]
    path = os.pathsep.join(filter(None, (str(ROOT / "scripts"), str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, *group, "-m", "benchmark.rank", str(tmp_path / "out"), *map(str, stage)]
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert made.returncode == 0, made.stderr
    assert list((tmp_path / f"work/teacher/day={FIRST_DAY}").glob("*/model.safetensors"))
    for k in range(ranks):
        found = json.loads((tmp_path / f"out.{k}.json").read_text())
        assert found["cpu"]["training"] > 0 < found["cpu"]["reading"] and len(found["steps"]) == 6
        calls = {kind: x[0] for kind, x in found["collectives"].get("training", {}).items()}
        if ranks == 1:
            assert not sum(calls.values())
        else:
            assert calls["all_reduce"] == 6 and calls["all_gather"] >= 6 and calls["all_to_all"] >= 6
            dense = found["collectives"]["training"]["all_reduce"][1] / 6 / 4
            assert 500_000 < dense < 1_000_000, "the dense weights of eight experts and two towers"
