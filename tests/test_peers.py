"""The peers of the bench: their arrays are the log, plain is the reference, and a run prints what the bench reads."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(SCRIPTS)
    from benchmark import peers, sizes
    from benchmark.log import make_log
    from benchmark.plain import Flat, PlainTeacher
    from benchmark.processes import Failed
    from peers import __main__ as program
    from peers import plain
    from peers.day import Work
    from peers.rows import CATEGORICAL, ITEM, USER, Options, Rows, Training, Vocabularies, read


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    make_log(folder, 4_000, 2, 1_000, 1.5, users=300, items=200)
    return folder


@pytest.fixture(scope="module")
def vocabularies(log: Path) -> Vocabularies:
    return Vocabularies(read(log / "train", 1_000))


@pytest.mark.parametrize("part", ["train", "test"])
def test_arrays_are_the_log(log: Path, vocabularies: Vocabularies, part: str) -> None:
    frame = read(log / part)
    files = [f"day=2026-01-0{d}/part-0.parquet" for d in ((1, 2) if part == "train" else (3,))]
    assert frame.equals(pl.concat([pl.read_parquet(log / part / f, hive_partitioning=False) for f in files]))
    rows = vocabularies.rows(frame)
    assert len(rows) == len(frame) and rows.x.keys() == {*CATEGORICAL, "hist", "d0", "d1"}
    for name in CATEGORICAL:
        known = dict(zip(vocabularies.values[name], range(1, vocabularies.sizes[name]), strict=True))
        np.testing.assert_array_equal(rows.x[name], [known.get(value, 0) for value in frame[name]])
        if name == "item_id":
            padded = [[known.get(i, 0) for i in items] + [0] * (50 - len(items)) for items in frame["hist"].to_list()]
            np.testing.assert_array_equal(rows.x["hist"], padded)
    assert (rows.x["user_id"] == 0).any(), "nobody is new, so nothing is tested of who is unknown"
    np.testing.assert_array_equal(rows.labels["click"], frame["click"])
    long = (frame["click"] == 1) & (frame["duration"] > sizes.LONG_READ)
    np.testing.assert_array_equal(rows.labels["click_read"], long)
    clicked = rows.clicked()
    np.testing.assert_array_equal(clicked.x["hist"], rows.x["hist"][frame["click"] == 1])
    assert clicked.y[:, 0].all() and 0 < len(clicked) < len(rows)


def test_no_more_rows_are_read_than_asked_for(log: Path) -> None:
    assert read(log / "train", 2_500).equals(read(log / "train")[:2_500])


def test_the_plain_peer_is_the_plain_reference(log: Path, vocabularies: Vocabularies) -> None:
    torch.manual_seed(1)
    peer, reference = plain.MMoE(vocabularies.sizes), PlainTeacher(vocabularies.sizes)
    for weight in peer.e.parameters():
        weight.data.mul_(3.0)  # so that a wrong column would be seen
    reference.load_state_dict(peer.state_dict())
    rows = plain.RowDataset(vocabularies.rows(read(log / "test")))
    b = rows[:]  # type: ignore[misc]
    ids = {name: b["ids"][:, k] for k, name in enumerate(CATEGORICAL)}
    user, item = (torch.stack([ids[name] for name in side], 1) for side in (USER, ITEM))
    flat = Flat(user, b["hist"], b["numbers"][:, :1], item, b["numbers"][:, 1:], b["labels"])
    logits = peer(b)
    assert logits.std() > 0.02
    torch.testing.assert_close(logits, reference(flat), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", ["mmoe", "dssm"])
def test_weights_are_those_of_the_plain_models(model: str, vocabularies: Vocabularies) -> None:
    made: Any = {"mmoe": plain.MMoE, "dssm": plain.DSSM}[model](vocabularies.sizes)
    assert program.weights(made) == sizes.WEIGHTS[model]


def run(log: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "peers", "plain", str(log), *arguments]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    line: dict[str, Any] = json.loads(done.stdout)
    return line


@pytest.mark.parametrize("arguments", [["mmoe", "--batch", "256"], ["dssm", "--workers", "1", "--rows", "3000"]])
def test_a_run(log: Path, arguments: list[str]) -> None:
    line = run(log, *arguments)
    clicks = int(read(log / "train", 3_000)["click"].sum())
    assert (line["peer"], line["rows"]) == (f"torch {torch.__version__}", 4_000 if arguments[0] == "mmoe" else clicks)
    assert line["rows_per_s"] == pytest.approx(line["rows"] / line["train_s"])
    assert line["e2e_rows_per_s"] == pytest.approx(line["rows"] / (line["train_s"] + line["prep_s"]))
    assert 0 < line["read_s"] < line["prep_s"] and 100 < line["rss_mb"] < 5_000
    if arguments[0] == "mmoe":
        assert line["auc"].keys() == {"click", "click_read"} and all(0.3 < x < 1 for x in line["auc"].values())


def test_what_is_only_prepared_has_no_rate(log: Path) -> None:
    line = run(log, "mmoe", "--prepare")
    assert line["rows"] == 4_000 and line["prep_s"] > 0 and line["rows_per_s"] == line["e2e_rows_per_s"] == 0
    assert "auc" not in line


def test_auc_is_of_held_out_rows_by_label() -> None:
    y = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    scores = np.array([[0.1, 0.9], [0.4, 0.8], [0.3, 0.1], [0.2, 0.2]])
    given = Training(torch.nn.Identity(), lambda: None, lambda rows: scores)
    assert program.auc(given, Rows({}, y)) == {"click": 0.75, "click_read": 0.0}


def test_a_model_of_another_size_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Training(torch.nn.Linear(3, 5), lambda: None)
    monkeypatch.setattr(plain, "mmoe", lambda *_: made)
    monkeypatch.setattr(sys, "argv", ["peers", "plain", str(log), "mmoe"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="plain: 15 weights, where all have 778,144"):
        program.main()


# -- a whole day -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    torch.manual_seed(1)
    done = Work(plain, log / "train/day=2026-01-02", Options(256, 0, 3, tmp_path_factory.mktemp("day")))
    done.run()
    return done


def test_a_day_has_the_steps_of_a_day(log: Path) -> None:
    line = run(log, "day", "--batch", "256")
    assert line["rows"] == 2_000, "more than the last day"
    assert list(line["steps"]) == ["read", "teacher", "scores", "student", "vectors"]
    assert line["rows_per_s"] == line["e2e_rows_per_s"] == pytest.approx(2_000 / sum(line["steps"].values()))
    assert all(seconds > 0 for seconds in line["steps"].values()) and line["auc"].keys() == {"click", "click_read"}


def test_drawn_pairs_have_whole_items(log: Path, work: Work) -> None:
    at = np.random.default_rng(0).permutation(2_000)
    drawn = work.rows.with_items(at)
    for name in work.rows.x:
        np.testing.assert_array_equal(drawn.x[name], work.rows.x[name][at] if name in ITEM else work.rows.x[name])
    assert not drawn.y.any() and work.rows.y.any()


def test_scores_are_stored_of_the_days_pairs_and_of_drawn_ones(log: Path, work: Work) -> None:
    days = read(log / "train/day=2026-01-02")
    stored = [pl.read_parquet(work.options.scratch / f"scores-{k}.parquet") for k in range(sizes.NEGATIVES + 1)]
    assert stored[0]["user_id", "item_id"].equals(days["user_id", "item_id"])
    assert work.ranker.scores is not None
    expected = work.ranker.scores(work.rows)
    np.testing.assert_allclose(stored[0]["click", "click_read"].to_numpy(), expected, rtol=1e-5)
    for drawn in stored[1:]:
        assert drawn["user_id"].equals(days["user_id"]) and drawn["item_id"].is_in(days["item_id"].implode()).all()
        assert not drawn["item_id"].equals(days["item_id"])
        assert len({*drawn["item_id"]}) > 100, "few items are drawn"


def test_vectors_are_of_each_user_and_item_once(log: Path, work: Work) -> None:
    days = read(log / "train/day=2026-01-02")
    for side in ("user", "item"):
        found = pl.read_parquet(work.options.scratch / f"{side}_vectors.parquet")
        assert sorted(found[f"{side}_id"]) == sorted(days[f"{side}_id"].unique())
        vectors = found["vector"].to_numpy()
        assert vectors.shape == (len(found), 64) and np.unique(vectors, axis=0).shape == vectors.shape
        np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-5)


# -- their environment -------------------------------------------------------------------------------------------------


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("nextrec==0.6.14\n")
    folder = tmp_path / "env"

    def pretend(command: list[str], timeout: float) -> None:
        folder.mkdir(exist_ok=True)
        asked.append(command)

    def broken(command: list[str], timeout: float) -> None:
        pretend(command, timeout)
        if "pip" in command:
            raise Failed("no such package")

    monkeypatch.setattr(peers, "REQUIREMENTS", wanted)
    monkeypatch.setattr(peers, "run", broken)
    with pytest.raises(Failed, match="no such package"):
        peers.make_env(folder, 60)
    monkeypatch.setattr(peers, "run", pretend)
    for _ in range(2):
        assert peers.make_env(folder, 60) == folder / "bin/python"
    assert len(asked) == 4, "what failed is made again, what is there is not"
    assert asked[2][1:4] == ["-m", "venv", "--clear"] and asked[3][:4] == [
        str(folder / "bin/python"),
        "-m",
        "pip",
        "install",
    ]
    torch_here = torch.__version__.partition("+")[0]
    assert (folder / "installed.txt").read_text() == f"torch=={torch_here}\nnextrec==0.6.14\n"
    wanted.write_text("nextrec==0.6.15\n")
    peers.make_env(folder, 60)
    assert len(asked) == 6


def test_every_peer_has_a_file_and_a_pinned_requirement() -> None:
    assert [p.module for p in peers.PEERS if p.workers == 0] == ["rechub", "deepctr", "nextrec", "fuxictr", "plain"]
    assert {p.module for p in peers.PEERS} == set(program.NAMES)
    lines = [x.partition("#")[0].strip() for x in peers.REQUIREMENTS.read_text().splitlines()]
    pinned = dict(x.split("==") for x in lines if x)
    for p in peers.PEERS:
        source = (SCRIPTS / "peers" / f"{p.module}.py").read_text()
        (name,) = [x.split('"')[1] for x in source.splitlines() if x.startswith("DISTRIBUTION")]
        assert name == "torch" or name in pinned
        assert ("def dssm(" in source) == p.has_dssm and "def mmoe(" in source
        assert ("vectors=vectors" in source) == p.has_vectors


def test_quick_takes_a_number_of_workers_of_each_library() -> None:
    bench: Any = argparse.Namespace(peers=Path("python"), quick=False)
    assert peers.contenders(bench) == list(peers.PEERS)
    assert {p.module for p in peers.contenders(bench, "dssm")} == {"rechub", "nextrec", "plain"}
    assert [p.workers for p in peers.contenders(bench, "dssm")] == [0, 2] * 3
    bench.quick = True
    quick = [(p.module, p.workers) for p in peers.contenders(bench)]
    assert quick == [("rechub", 2), ("deepctr", 0), ("nextrec", 2), ("fuxictr", 2), ("plain", 2)]
    assert [p.workers for p in peers.contenders(bench, workers=0)] == [0] * 5, (
        "of which memory and reading are measured"
    )
    bench.peers = None
    assert peers.contenders(bench) == []


def test_a_peer_that_ends_badly_says_why(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Any = argparse.Namespace(peers=Path(sys.executable), log=log, timeout=60, environment={})
    nobody = peers.Peer("nobody", "nobody", 0, False, False)
    with pytest.raises(Failed, match="invalid choice: 'nobody'"):
        peers.measure(bench, nobody, "mmoe")
