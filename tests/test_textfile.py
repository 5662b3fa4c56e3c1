"""--metrics-file: a textfile that Prometheus' own parser reads, that no failure empties and no day makes longer."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dmtl_cli.cli.textfile import GAUGES, write_metrics
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.run import Result

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def result(home: Path, stage: str, day: str, auc: float, sub: str = "", run_id: str = "0123456789ab") -> Result:
    folder = home / stage / f"day={day}" / sub / f"run-{run_id}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_bytes(b"x" * 100)
    return Result(stage, day, "key", run_id, str(folder), {"log": 5}, {"auc": auc}, [], False)


def read(file: Path) -> Samples:
    """Every sample, as the library of Prometheus reads it; each family is a gauge with a help line."""
    out: Samples = {}
    for family in text_string_to_metric_families(file.read_text()):
        assert family.type == "gauge" and family.documentation == GAUGES[family.name][0]
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in out, "one sample a series"
            out[key] = sample.value
    return out


def test_what_it_has_of_a_day(tmp_path: Path) -> None:
    file, log = tmp_path / "m.prom", RunLog(seconds_by_run={"0123456789ab": 2.5})
    write_metrics(file, "run", 0, [result(tmp_path, "teacher", "2026-01-02", 0.75)], log)
    found = read(file)
    stage = (("stage", "teacher"),)
    assert found.pop(("dmtl_last_success_timestamp_seconds", (("command", "run"),))) == pytest.approx(
        time.time(), abs=60
    )
    assert found == {
        ("dmtl_exit_code", (("command", "run"),)): 0,
        ("dmtl_day_timestamp_seconds", stage): dt.datetime(2026, 1, 2, tzinfo=dt.UTC).timestamp(),
        ("dmtl_duration_seconds", stage): 2.5,
        ("dmtl_bytes", stage): 100,
        ("dmtl_rows", (("kind", "log"), *stage)): 5,
        ("dmtl_metric", (("name", "auc"), *stage)): 0.75,
    }


def test_a_failure_keeps_what_it_did_not_renew(tmp_path: Path) -> None:
    """A failed day that got as far as its teacher: the export's numbers are yesterday's, the teacher's today's."""
    file = tmp_path / "m.prom"
    both = [result(tmp_path, stage, "2026-01-02", 0.75) for stage in ("teacher", "export")]
    write_metrics(file, "run", 0, both, RunLog())
    before = read(file)
    write_metrics(file, "run", 65, [result(tmp_path, "teacher", "2026-01-03", 0.5)], RunLog())
    after = read(file)
    changed = {name for name, value in after.items() if value != before[name]}
    assert {name for name, _ in changed} == {"dmtl_exit_code", "dmtl_day_timestamp_seconds", "dmtl_metric"}
    assert all(("stage", "export") not in labels for _, labels in changed)
    write_metrics(file, "refresh", 66, [], RunLog())
    assert read(file) == after | {("dmtl_exit_code", (("command", "refresh"),)): 66}, "another command's file too"


def test_a_hundred_days_are_as_long_as_one(tmp_path: Path) -> None:
    """No label grows by the day; scores by the teacher of the day before are a stage of their own."""
    file, lengths = tmp_path / "m.prom", set()
    for k in range(100):
        day = dt.date(2026, 1, 1) + dt.timedelta(k)
        subs = [f"teacher={day}", f"teacher={day - dt.timedelta(1)}"]
        made = [result(tmp_path, "scores", str(day), k + j / 2, sub) for j, sub in enumerate(subs)]
        write_metrics(file, "run", 0, made, RunLog())
        lengths.add(len(read(file)))
    assert lengths == {10}
    assert read(file)["dmtl_metric", (("name", "auc"), ("stage", "scores"))] == 99
    assert read(file)["dmtl_metric", (("name", "auc"), ("stage", "rescores"))] == 99.5


@pytest.mark.parametrize(
    "text", ['dmtl_metric{stage="teacher",day="2026-01-01",name="auc"} 1\n', "dmtl_exit_code{", "node_load1 3\n"]
)
def test_what_it_does_not_know_is_dropped(tmp_path: Path, text: str) -> None:
    """A file of an earlier version, a torn one, one of another program."""
    file = tmp_path / "m.prom"
    file.write_text(text)
    write_metrics(file, "run", 66, [], RunLog())
    assert read(file) == {("dmtl_exit_code", (("command", "run"),)): 66}
