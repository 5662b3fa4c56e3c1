"""Everything in the README is run: its config, its commands, its Python, its scripts."""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dmtl_cli.cli.main import execute
from dmtl_cli.config.evaluate import LISTS
from dmtl_cli.config.reading import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NEW = 901
"""an article without an event, which the README's code names too"""


def blocks(language: str) -> list[str]:
    return [text for name, text in re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S) if name == language]


def write_log(root: Path, days: list[str]) -> None:
    """A log as the README's configs name it: bait is clicked, gems are read. A table of items each morning, in that of
    01-03 one that nobody has seen."""
    rng = np.random.default_rng(0)
    for day in days:
        n = 900
        midnight = dt.datetime.fromisoformat(f"{day}T00:00+00:00").timestamp()
        at = np.sort(rng.uniform(midnight, midnight + 86_400, n)).astype(np.int64)
        user, item = rng.integers(0, 60, n), rng.integers(0, 40, n)
        click = rng.random(n) < np.where(item % 2, 0.7, 0.3)
        read = np.where(item % 2, 3, 60) * rng.exponential(1, n)
        events = pl.DataFrame({"uid": user, "article": item, "at": at, "clicked": click, "read_seconds": read})
        ids = np.append(np.arange(40), [NEW] if day == "2026-01-03" else []).astype(np.int64)
        items = pl.DataFrame({"article": ids, "channel": ids % 5, "words": 100 * ids})
        for name, frame in (("events", events), ("items", items)):
            folder = root / f"{name}/day={day}"
            folder.mkdir(parents=True)
            frame.write_parquet(folder / "part-0.parquet")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    yesterday = dt.date.today() - dt.timedelta(days=1)
    write_log(folder / "mylog", ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", str(yesterday)])
    for file, text in zip(("mylog.yaml", "own.yaml", "try.yaml"), blocks("yaml"), strict=True):
        (folder / file).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a chain's trials, each of fewer rows than the 200,000 that any log may have: README says what they decide,
    and `test_tune_chain` looks whether they do."""
    monkeypatch.setattr("dmtl_cli.tune.rounds.LEAST", 20_000)


def run(command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    code = execute(shlex.split(command)[1:])
    out, err = capfd.readouterr()
    assert (code, err) == (0, ""), f"{command}: {err}"
    return out


def has_a_chain(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a reader of README has before what is tested: here too where another worker ran the test that makes it."""
    run("dmtl backfill --config mylog.yaml --from 2026-01-01 --to 2026-01-03", here, capfd)


def test_the_stages_one_by_one(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    new, plan = (b for b in blocks("sh") if "dmtl check" in b)
    init, check = new.splitlines()
    assert "uid" in run(init, here, capfd) and "40 items" in run(check, here, capfd)
    guessed, own = (load_config(here / name).data.events for name in ("guessed.yaml", "mylog.yaml"))
    assert guessed == own.model_copy(update={"partition": guessed.partition})
    assert "to be chosen" in run(plan.split("#")[0], here, capfd)
    run("dmtl backfill --config mylog.yaml --from 2026-01-01 --to 2026-01-02", here, capfd)
    (stages,) = [b for b in blocks("sh") if "dump-logits" in b]
    assert [run(line, here, capfd) for line in stages.splitlines()] == [""] * 6
    for command in re.findall(r"`(dmtl (?:backfill|status|compare|tune) [^`]*)`", README.replace("\n", " ")):
        run(command, here, capfd)


def test_the_smallest_config_is_small_and_names_five_columns(here: Path) -> None:
    assert len(blocks("yaml")[0].splitlines()) <= 10
    (events,) = (here / "mylog/events/day=2026-01-01").iterdir()
    assert set(pl.read_parquet(events, hive_partitioning=False).columns) == set(
        load_config(here / "mylog.yaml")
        .data.events.model_dump(include={"user", "item", "time", "click", "duration"})
        .values()
    )


def test_a_config_of_ones_own(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    run("dmtl backfill --config own.yaml --from 2026-01-01 --to 2026-01-02", here, capfd)
    export = Path(run("dmtl path export --config own.yaml", here, capfd).strip())
    assert NEW in pl.read_parquet(export / "item_vectors.parquet")["item_id"], "the next morning's table is there"
    reads = pl.read_parquet(export / "users.parquet")["feature.recent_reads"]
    assert (reads.list.len() > 0).mean() > 0.9, "what was read up to the day's end"
    assert (reads.explode() % 2 == 0).mean() > 0.9


def test_which_method(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    has_a_chain(here, capfd)
    (compare,) = [b for b in blocks("sh") if "--settings try.yaml" in b]
    table = run(compare, here, capfd)
    for row in ("student", "student.preference", "long_read_only", "joint", "listwise_too", "labels_too"):
        assert re.search(rf"^\| {row} \| \d.* \(\d", table, re.M), table
    for row in (*LISTS, "ease"):
        assert re.search(rf"^\| {row} \| .*\d", table, re.M), table
    assert re.search(r"^best impersonal list: read\.recall|^best impersonal list: click\.recall", table, re.M), table
    assert re.search(r"^\| kappa \| .*read\.recall@50", table, re.M) and "| served: 0.700" in table
    folder = Path(run("dmtl path compare --config mylog.yaml", here, capfd).strip())
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "table.md", "metrics.json", "figure.png"}
    fused = ["--set", "data.events.conversions={like: clicked}", "--set", "scores.fusion={pctr: 1, pcvr: 1, plike: .5}"]
    assert "scores.fusion: {pctr: 1, pcvr: 1, plike: 0.5}" in " ".join(README.split())
    load_config("mylog.yaml", [*fused[1::2], "student.distill.losses=[{target: pfused}]", "scores.candidates=100"])


def test_serving(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    has_a_chain(here, capfd)
    (code,) = blocks("python")
    code += "\nprint(vectors.shape, len(item_ids), new_vectors.shape)\nimport sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(60, 129) 40 (1, 129)" in done.stdout, "both blocks, and a column of the items' numbers"
    gems = pl.Series([int(x) for x in re.findall(r"^│ (\d+) +┆", done.stdout, re.M)])
    assert len(gems) == 10 and (gems % 2 == 0).all(), f"what is read is not what is retrieved: {done.stdout}"


def test_the_cron_recipe(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    has_a_chain(here, capfd)
    (daily,) = (b for b in blocks("sh") if b.startswith("dmtl run "))
    (crontab,) = [b for b in blocks("") if b.startswith("30 3")]
    cron, hourly = (line.split("&& ", 1)[1] for line in crontab.splitlines())
    assert f"{cron}\n".replace("\\%", "%") == daily, "crontab and command differ"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-ec", daily], cwd=here, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (65, "") and "run dmtl run --day 2026-01-04 first" in done.stderr, (
        done.stderr
    )
    forgotten = "dmtl run --config mylog.yaml --day 2026-01-04"
    subprocess.run(["sh", "-ec", forgotten], cwd=here, env=environment, check=True)
    done = subprocess.run(["sh", "-ec", daily], cwd=here, env=environment, capture_output=True, text=True)
    # the log has a gap of months before yesterday: the chain goes on, but no teacher is young enough for a student
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert 'dmtl_exit_code{command="run"} 0' in (here / "dmtl.prom").read_text()
    before = (here / "work/mylog/export/LATEST").read_text()
    done = subprocess.run(["sh", "-ec", hourly], cwd=here, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = (here / "work/mylog/export/LATEST").read_text()
    assert after > before, "yesterday's profile is there, and is served with the student before"
    (keeping,) = [b for b in blocks("sh") if b.startswith("dmtl status")]
    for line in keeping.splitlines():
        done = subprocess.run(["sh", "-ec", line], cwd=here, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout, line


def test_the_demo(tmp_path: Path) -> None:
    environment = os.environ | {"DMTL_VENV": str(Path(sys.executable).parents[1]), "DMTL_DEMO": str(tmp_path / "a b")}
    command = ["sh", str(ROOT / "scripts/demo.sh"), *["--users", "120", "--items", "100", "--events-per-day", "2000"]]
    for _ in range(2):  # again, from what is there
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    for row in ("oracle", "teacher", "student", "long_read_only", "click_only", "random"):
        assert re.search(rf"^\| {row} \| .*\d", done.stdout, re.M), done.stdout
    assert "read_seconds@50" in done.stdout


def test_both_set_up_commands_are_there() -> None:
    assert [line.split("#")[0].split() for line in blocks("sh")[0].splitlines()] == [
        ["sh", "scripts/demo.sh"],
        ["sh", "scripts/test.sh"],
    ]
    assert "sh scripts/test.sh" in (ROOT / ".ci/run").read_text()
