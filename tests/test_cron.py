"""The files of scripts/cron: their syntax, a time limit in each, and commands and options that exist."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from dmtl_cli.cli.main import app

CRON = Path(__file__).parent.parent / "scripts" / "cron"
OPERATIONS = CRON.parent.parent / "docs" / "operations.md"
RETRIED = {66, 74, 75, 81}


def options(command: str) -> set[str]:
    """The options of a command as its --help shows them."""
    return {name for p in typer.main.get_command(app).commands[command].params for name in p.opts}  # type: ignore[attr-defined]


def commands(text: str) -> list[list[str]]:
    """Words of each `dmtl ...` of a text."""
    return [found.split() for found in re.findall(r"\bdmtl ([a-z-]+ --[^>|&'`\n]*)", text)]


@pytest.mark.parametrize("name", ["crontab", "dmtl.service", "kubernetes.yaml", "airflow_dag.py"])
def test_commands_and_options_exist(name: str) -> None:
    text = (CRON / name).read_text()
    if name == "airflow_dag.py":
        words = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        named = [["run", *(w for w in words if w.startswith("--") and "=" not in w)]]
    else:
        named = commands(text)
    assert named
    for command, *rest in named:
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given and given <= options(command), command


def test_crontab() -> None:
    lines = [line for line in (CRON / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    times = [line for line in lines if not re.match(r"[A-Z]+=", line)]
    assert len(times) == 4
    for line in times:
        assert re.match(r"(\d+|\*) (\d+|\d+-\d+|\*) \* \* [\d*] ", line), line
        assert "timeout" in line and not re.search(r"(?<!\\)%", line), "cron reads % as a newline"
        shell = line.split(" ", 5)[5].replace("\\%", "%")
        subprocess.run(["sh", "-n", "-c", shell], check=True)


def test_systemd(tmp_path: Path) -> None:
    unit, timer = (configparser.ConfigParser(strict=True, interpolation=None) for _ in range(2))
    for parser, name in ((unit, "dmtl.service"), (timer, "dmtl.timer")):
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(CRON / name)
    assert unit["Service"]["Type"] == "oneshot" and unit["Service"]["TimeoutStartSec"]
    assert not {int(c) for c in unit["Service"]["RestartPreventExitStatus"].split()} & RETRIED
    assert timer["Timer"]["OnCalendar"]
    if shutil.which("systemd-analyze"):
        for name in ("dmtl.service", "dmtl.timer"):
            shutil.copy(CRON / name, tmp_path)
        found = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "dmtl.service", tmp_path / "dmtl.timer"],
            capture_output=True,
            text=True,
        )
        ours = [line for line in found.stderr.splitlines() if "dmtl" in line and "not executable" not in line]
        assert not ours, found.stderr


def test_kubernetes() -> None:
    job = yaml.safe_load((CRON / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]["jobTemplate"]["spec"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid" and spec["activeDeadlineSeconds"] > 0
    [codes] = [r["onExitCodes"]["values"] for r in spec["podFailurePolicy"]["rules"] if "onExitCodes" in r]
    assert not {*codes} & RETRIED
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "what a podFailurePolicy needs"
    [container] = pod["containers"]
    mounted = {m["name"] for m in container["volumeMounts"]}
    assert mounted == {v["name"] for v in pod["volumes"]}
    subprocess.run(["sh", "-n", "-c", container["args"][0]], check=True)


def test_airflow() -> None:
    tree = ast.parse((CRON / "airflow_dag.py").read_text())
    keywords = {k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords}
    assert {"execution_timeout", "max_active_runs", "retries"} <= keywords


def test_all_agree_on_what_needs_a_person() -> None:
    """docs/operations.md has every exit code, and the four files retry the same ones."""
    documented = {int(c) for c in re.findall(r"^\| (\d+) \|", OPERATIONS.read_text(), re.M)}
    persons = documented - RETRIED - {0}
    unit = re.search(r"RestartPreventExitStatus=(.*)", (CRON / "dmtl.service").read_text())
    kubernetes = re.search(r"values: \[(.*)\]", (CRON / "kubernetes.yaml").read_text())
    airflow = re.search(r"NEEDS_A_PERSON = \((.*)\)", (CRON / "airflow_dag.py").read_text())
    assert unit and kubernetes and airflow
    for found in (unit[1].replace(" ", ","), kubernetes[1], airflow[1]):
        assert {int(c) for c in found.split(",")} == persons
