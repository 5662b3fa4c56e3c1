"""The bench: its log is one that dmtl accepts, its plain models are dmtl's mathematics, its ratios are of one round."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from torch import Tensor, nn

from dmtl_cli.cli.main import execute
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.student import Student
from dmtl_cli.config.teacher import Teacher
from dmtl_cli.student.build import build_student
from dmtl_cli.student.loss import StudentLoss
from dmtl_cli.teacher.build import build_teacher
from dmtl_cli.teacher.loss import teacher_loss
from dmtl_cli.teacher.model import batch_logits

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    from benchmark import day, inside, limits, processes, sizes, tables, works
    from benchmark import plain as models
    from benchmark.log import config_of, make_log, whole_day

    bench = script("bench")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of a small world, the day after them, and their config."""
    folder = tmp_path_factory.mktemp("bench")
    for at in (folder, folder / "again"):
        make_log(at, 4_000, 2, 500, 1.5, users=300, items=200)
    (folder / "bench.yaml").write_text(yaml.safe_dump(config_of(folder, 2, 1)))
    return folder


@pytest.fixture(scope="module")
def opened(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = {"config": str(log / "bench.yaml"), "sets": [], "days": 2}
    return lambda who: inside.Opened.open(options, who, tmp_path_factory.mktemp("scratch"))


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_is_a_folder_a_day_and_the_same_each_time(log: Path) -> None:
    files = [f"train/day=2026-01-0{d}/part-0.parquet" for d in (1, 2)] + ["test/day=2026-01-03/part-0.parquet"]
    assert sorted(f.relative_to(log).as_posix() for f in log.glob("t*/*/*")) == sorted(files)
    days = [pl.read_parquet(log / f, hive_partitioning=False) for f in files]
    assert [len(d) for d in days] == [2_000, 2_000, 500]
    for file, day in zip(files, days, strict=True):
        assert day.equals(pl.read_parquet(log / "again" / file, hive_partitioning=False))
        assert 0.1 < day["click"].mean() < 0.5
        assert ((day["duration"] > 0) == (day["click"] == 1)).all()
        of_user = day.select("user_id", *sizes.OF_USER, "d0", "hist").unique()
        assert of_user["user_id"].is_unique().all(), "what is a user's differs from row to row of their day"
        assert day.select("item_id", *sizes.OF_ITEM).unique()["item_id"].is_unique().all()
    assert not days[0]["hist"].equals(days[1]["hist"])


@pytest.mark.parametrize(("path", "day", "rows"), [("train", "2026-01-02", 2_000), ("test", "2026-01-03", 500)])
def test_check_accepts_the_log(log: Path, path: str, day: str, rows: int, capfd: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(log / "bench.yaml"), "--set", f"data.events.path={path}"]
    assert execute(["check", *config, "--day", day, "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and json.loads(out)["rows"] == rows


def test_a_whole_day_is_as_shipped_but_for_sizes(log: Path, tmp_path: Path) -> None:
    (tmp_path / "day.yaml").write_text(yaml.safe_dump(whole_day(config_of(log, 2, 1))))
    config = load_config(tmp_path / "day.yaml", [])
    sizes_of = {"batch_size": sizes.BATCH, "embedding_dim": sizes.DIM}
    experts = {"num_experts": sizes.EXPERTS, "expert_hidden_units": sizes.EXPERT_UNITS}
    assert config.teacher == Teacher(**sizes_of, **experts, tower_hidden_units=sizes.TOWER_UNITS)
    assert config.student == Student(**sizes_of, hidden_units=sizes.VECTOR_UNITS)
    assert config.auto.budget == 0, "trials are of a chain's first day"
    given = {"workspace", "threads", "device", "auto", "data", "features", "labels", "teacher", "student"}
    assert config.model_fields_set == given
    assert config.scores.negatives == sizes.NEGATIVES, "peers score another number of pairs"


# -- the plain reference -----------------------------------------------------------------------------------------------


def assign(module: nn.Module, weight: Tensor, bias: Tensor) -> None:
    assert isinstance(module, nn.Linear) and module.weight.shape == weight.shape and module.bias.shape == bias.shape
    module.weight.data, module.bias.data = weight.detach().clone(), bias.detach().clone()


def same_embeddings(plain: Any, table: Any) -> None:
    assert plain.e.keys() == table.rows.keys()
    for name in table.rows:
        assert plain.e[name].weight.shape == table.weight[table.part(name)].shape
        plain.e[name].weight.data = table.weight[table.part(name)].detach().clone()


def test_the_plain_teacher_is_dmtls(opened: Any) -> None:
    at = opened("teacher")
    model = build_teacher(at.encoder, at.run.config.teacher, 2)
    model.table.weight.data.normal_()  # larger than at first, so that a wrong column would be seen
    plain = models.PlainTeacher(at.encoder.embedding_rows())
    same_embeddings(plain, model.table)
    net: Any = model.net
    n, (*parts, context) = sizes.EXPERT_UNITS[0], net.first.weights
    known = context[:, -1]  # a column of ones, as no context is hidden
    whole, bias = torch.cat([*parts, context[:, :-1]], 1), net.first.bias + known
    for e, expert in enumerate(plain.experts):
        assign(expert[0], whole[e * n : (e + 1) * n], bias[e * n : (e + 1) * n])
        assign(expert[2], net.experts.weights[0][e].T, net.experts.biases[0][e, 0])
    for t in range(2):
        rows = slice(sizes.EXPERTS * (n + t), sizes.EXPERTS * (n + t + 1))
        assign(plain.gates[t], whole[rows], bias[rows])
        assign(plain.towers[t][0][0], net.towers[t][0].weight, net.towers[t][0].bias)
        assign(plain.towers[t][1], net.towers[t][2].weight, net.towers[t][2].bias)
    batch = next(at.teacher_batches())
    flat, (logits, _) = models.Flat.from_batch(batch), batch_logits(model, batch)
    assert logits.std() > 0.01
    torch.testing.assert_close(plain(flat), logits, atol=2e-5, rtol=1e-4)
    ours = teacher_loss(at.run.config, logits, batch.labels)[0]
    torch.testing.assert_close(plain.loss(flat), ours, atol=1e-5, rtol=1e-4)


def test_the_plain_student_is_dmtls(opened: Any) -> None:
    at = opened("student")
    config = at.run.config.student
    model = build_student(at.encoder, config)
    model.table.weight.data.normal_()
    plain = models.PlainStudent(at.encoder.embedding_rows())
    same_embeddings(plain, model.table)
    for mine, theirs in ((plain.user, model.user_tower), (plain.item, model.item_tower)):
        assign(mine[0][0], theirs[0].weight, theirs[0].bias)
        assign(mine[1], theirs[2].weight, theirs[2].bias)
    batch = next(at.student_batches(at.run.config))
    assert len(batch) > len(set(batch.item_row.tolist())), "no accidental hit to leave out"
    ours = StudentLoss(model, config, 1.0, at.log_q, {})(batch, False)[0]
    target = batch.labels.targets[:, 0].float()
    theirs = plain.loss(models.Flat.from_batch(batch), target, at.log_q[batch.item_row], batch.item_row)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-5)
    ours.backward()
    theirs.backward()
    pairs = ((plain.user[0][0], model.user_tower[0]), (plain.item[1], model.item_tower[2]))
    for mine, other in pairs:
        assert other.weight.grad.abs().max() > 1e-4
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(plain.log_scale.grad, model.log_scale.grad, atol=1e-4, rtol=1e-3)


def test_flops_are_those_of_the_products() -> None:
    plain = models.PlainTeacher(dict.fromkeys(("user_id", "item_id", *sizes.OF_USER, *sizes.OF_ITEM), 2))
    linear = [m for m in plain.modules() if isinstance(m, nn.Linear)]
    alone = limits.teacher_step(limits.Shape(rows=10, users=10, items=10, embeddings=0))
    assert alone.flop == 6 * sum(m.weight.numel() for m in linear) == 4_668_864
    shared = limits.teacher_step(limits.Shape(rows=10, users=1, items=5, embeddings=0))
    first = limits.FIRST * 6
    assert alone.flop - shared.flop == pytest.approx(first * (0.9 * limits.USER + 0.5 * limits.ITEM))
    two = models.PlainStudent(dict.fromkeys(("user_id", "item_id", *sizes.OF_USER, *sizes.OF_ITEM), 2))
    towers = sum(m.weight.numel() for side in (two.user, two.item) for m in side.modules() if isinstance(m, nn.Linear))
    products = sizes.VECTOR_UNITS[-1] * 10
    assert limits.student_step(limits.Shape(10, 10, 10, 0)).flop == 6 * (towers + products)


def test_a_limit_is_the_nearer_of_two() -> None:
    assert limits.Need(flop=2e6, bytes=1e3).limit(gflops=100, gigabytes=10) == 50_000
    assert limits.Need(flop=2e6, bytes=1e6).limit(gflops=100, gigabytes=10) == 10_000


# -- processes and numbers ---------------------------------------------------------------------------------------------


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(processes.Failed, match=r"(?s)exit code 3.*no such peer"):
        processes.run([sys.executable, "-c", "import sys; sys.stderr.write('no such peer'); sys.exit(3)"], 60)
    with pytest.raises(processes.Failed, match=r"after 0 s"):
        processes.run(["sleep", "60"], 0.2)
    out, mb = processes.run([sys.executable, "-c", "x = bytearray(200 << 20); print(len(x))"], 60)
    assert out == f"{200 << 20}\n" and mb > 200


def test_a_ratio_is_of_one_round() -> None:
    asked = Namespace(rows=10, threads=1)
    ours = [{"rate": 10.0, "rss_mb": 5}, {"rate": 40.0, "rss_mb": 7}, None, {"rate": 60.0, "rss_mb": 6}]
    peer = [{"rate": 5.0}, {"rate": 10.0}, {"rate": 1.0}, {"rate": 20.0, "auc": {"click": 0.5, "click_read": 0.6}}]
    made = tables.entry(asked, "w", ours, peer, limit=80.0)
    assert (made["rate"], made["peer_rate"], made["rounds"]) == (40.0, 7.5, 3)
    assert (made["ratio_median"], made["ratio_min"], made["ratio_max"]) == (3.0, 2.0, 4.0)
    assert made["limit_share"] == pytest.approx(0.5)
    assert (made["rss_mb"], made["peer_rss_mb"]) == (6, None)
    assert [made[k] for k in ("auc", "peer_auc", "peer_auc_click_read")] == [None, 0.5, 0.6]
    alone = tables.entry(asked, "w", ours)
    none = ("peer", "peer_rate", "ratio_median", "ratio_min", "ratio_max", "limit", "limit_share", "auc")
    assert {alone[k] for k in none} == {None}
    assert "40.00" in tables.markdown([alone]) and "**3.00** (2.00 to 4.00)" in tables.markdown([alone, made])


def test_entries_of_a_work_may_have_units_of_their_own() -> None:
    asked = Namespace(rows=10, threads=1)
    made = [tables.entry(asked, "peaks", [{"rate": 150.0}], unit=unit, variant=unit) for unit in ("GFLOP/s", "GB/s")]
    assert tables.markdown(made).splitlines()[4:] == [
        "| dmtl | GFLOP/s | GB/s |", "| --- | --- | --- |", "| GFLOP/s | 150 |  |", "| GB/s |  | 150 |",
    ]  # fmt: skip


def test_works_take_turns() -> None:
    said: list[str] = []
    asked = Namespace(rounds=2, attempt=lambda what, work, k: work(k))

    def work(name: str, k: int) -> dict[str, Any]:
        said.append(name)
        return {"rate": k}

    def works(*names: str) -> dict[str, Any]:
        return {n: functools.partial(work, n) for n in names}

    done = processes.in_turn(asked, works("a", "b", "c"), works("x"))
    assert said == ["a", "x", "b", "c"] * 2
    assert done["c"] == [{"rate": 0}, {"rate": 1}]


# -- a whole day -------------------------------------------------------------------------------------------------------


def test_a_day_is_timed_by_stage(log: Path, tmp_path: Path) -> None:
    config = whole_day(config_of(log, 1, 1)) | {"workspace": str(tmp_path / "work")}
    (tmp_path / "day.yaml").write_text(yaml.safe_dump(config))
    given = {"config": str(tmp_path / "day.yaml"), "sets": ["teacher.batch_size=128"], "day": "2026-01-01"}
    made = inside.inside_day(given, tmp_path)
    assert list(made["steps"]) == ["profile", "teacher", "scores, own teacher", "between"], "no student on a first day"
    assert made["seconds"] == pytest.approx(sum(made["steps"].values()))
    assert all(seconds > 0 for seconds in made["steps"].values())
    with pytest.raises(SystemExit, match="66"):
        inside.inside_day(given | {"day": "2026-01-09"}, tmp_path)


def test_dumps_are_told_apart_by_their_teachers() -> None:
    path = "work/scores/day=2026-01-03/teacher=2026-01-0{}/run-0"
    told = [inside.stage_of("scores", path.format(k), "2026-01-03") for k in (3, 2)]
    assert told == ["scores, own teacher", "scores, old teacher"]
    assert inside.stage_of("teacher", "work/teacher/day=2026-01-03/run-0", "2026-01-03") == "teacher"


class Pretended:
    """A bench whose processes only note what they are asked for."""

    rows, rounds, threads, held_out, activity, users = 1_000, 2, 1, 100, 1.5, 300
    quick, peers = False, None
    measured = 100
    """of the 100 rows that are held out"""
    auc = processes.Bench.auc

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def say(self, text: str) -> None: ...

    def attempt(self, what: str, work: Any, k: int) -> Any:
        return work(k)

    def inside(self, name: str, *sets: str, **options: Any) -> dict[str, Any]:
        self.asked.append(f"{name} {options.get('day') or options['rows']}")
        if name == "make_log":
            Path(options["at"], "work/before").mkdir(parents=True)
            return {}
        workspace = next(s for s in sets if s.startswith("workspace=")).partition("=")[2]
        assert Path(workspace, "found").read_text() == "01 02", "not a copy of the days before"
        Path(workspace, "found").write_text("this day")
        return {"seconds": 4.0, "steps": {"teacher": 3.0, "between": 1.0}, "rss_mb": 7}

    def dmtl(self, command: str, where: str, *sets: str, day: Any, log: Path | None) -> dict[str, Any]:
        self.asked.append(f"{command} {day}")
        if command == "run":
            assert log is not None
            file = log / "work" / where / "found"
            file.write_text(f"{file.read_text()} 02" if file.exists() else "01")
        rows = {"events": 100, "measured_events": self.measured}
        return {"metrics": {"teacher.ctr.auc": 0.7, "teacher.ctcvr.auc": 0.6}, "rows": rows}


def test_an_auc_is_of_all_rows_as_those_of_peers(tmp_path: Path) -> None:
    """By default an evaluation is of a sample."""
    bench: Any = Pretended(tmp_path)
    assert bench.auc("a", day=day.AFTER) == {"click": 0.7, "click_read": 0.6}
    bench.measured = 25
    with pytest.raises(processes.Failed, match="AUC of 25 of 100 rows"):
        bench.auc("a", day=day.AFTER)


def test_every_round_of_a_day_begins_where_the_day_before_ended(tmp_path: Path) -> None:
    bench: Any = Pretended(tmp_path)
    (made,) = day.day(bench)
    rounds = ["day 2026-01-03", "evaluate 2026-01-04"] * 2
    assert bench.asked == ["make_log 3000", "run 2026-01-01", "run 2026-01-02", *rounds]
    assert (made["work"], made["rate"], made["rss_mb"], made["auc"]) == ("whole day", 250.0, 7, 0.7)
    assert made["steps"] == {"teacher": 3.0, "between": 1.0} and made["peer_steps"] is None
    assert [f.name for f in (tmp_path / "days-1000/work").iterdir()] == ["before"], "workspaces are left behind"
    assert "teacher 3.0; between 1.0" in tables.markdown([made])


# -- the whole ---------------------------------------------------------------------------------------------------------

NUMBERS = ("rate", "peer_rate", "ratio_median", "ratio_min", "ratio_max", "rss_mb", "peer_rss_mb")
LIMIT = ("limit", "limit_share")
AUC = {"auc", "peer_auc", "auc_click_read", "peer_auc_click_read"}
KEYS = {
    "work",
    "ours",
    "peer",
    "workers",
    "precision",
    "unit",
    "rows",
    "rounds",
    "machine",
    "steps",
    "peer_steps",
} | AUC


def test_a_run(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/bench.py"), "--folder", str(tmp_path / "work")]
    command += ["--rows", "20000", "--rounds", "1", "--threads", "1", "--only", "dump,reading"]
    command += ["--peer-python", sys.executable]  # reading has one peer, which needs no library
    command += ["--json", str(tmp_path / "a.json"), "--figure", str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    dump, read = entries = json.loads((tmp_path / "a.json").read_text())
    assert dump.keys() == {*KEYS, *NUMBERS, *LIMIT}
    assert all(dump[k] is None or dump[k] > 0 for k in NUMBERS)
    for e in entries:  # no rate is above what the machine allows
        assert 0 < e["limit_share"] < 1 and e["limit_share"] == pytest.approx(e["rate"] / e["limit"])
    assert dump["ratio_median"] == pytest.approx(dump["rate"] / dump["peer_rate"])
    assert (dump["rows"], dump["rounds"], dump["auc"]) == (20_000, 1, None)
    assert 50 < dump["rss_mb"] < 5_000
    assert read["peer"] == "peers: arrays" and read["peer_rate"] > 0 and 50 < read["peer_rss_mb"] < 5_000
    assert done.stdout == tables.markdown(entries) + "\n" and "### dump of scores" in done.stdout
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert not list((tmp_path / "work").iterdir()), "logs and workspaces are left behind"


def test_works_with_peers_are_named() -> None:
    asking = {name for name, work in works.WORKS.items() if "contenders(" in inspect.getsource(work)}
    assert asking == works.WITH_PEERS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "teacher,tea"], "--only: tea is none of teacher, profile, dump"),
        (["--no-peers", "--peer-python", "python"], "--peer-python and --no-peers exclude each other"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        bench.main(arguments)
    assert exit.value.code == 2 and said in capsys.readouterr().err
