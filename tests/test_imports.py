"""What commands do not import: each library costs every call of a command, whatever it does."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from worlds import DAYS, Project

from dmtl_cli.data.log.values.numbers import arrow
from dmtl_cli.nn.eager import EagerAdam
from dmtl_cli.synth.generate import generate

COMPILER = {"torch._dynamo", "torch._inductor", "torch.distributed.checkpoint", "torch.distributed.tensor", "sympy"}
READERS = {"torch", "polars", "onnx", "onnxruntime"}


def imported(among: set[str], *arguments: str) -> set[str]:
    """Which of these modules a command has imported when it ends well."""
    code = (
        "import sys; from dmtl_cli.cli.main import execute; code = execute(sys.argv[2:])\n"
        "print(code, *sorted({*sys.argv[1].split(',')} & sys.modules.keys()), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, ",".join(sorted(among)), *arguments]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300).stderr.splitlines()[-1].split()
    assert said[0] == "0", said
    return {*said[1:]}


@pytest.mark.parametrize("command", [[], ["run"], ["status"], ["init"], ["recommend"], ["gc"]])
def test_help_reads_no_config_and_draws_no_bar(command: list[str]) -> None:
    among = READERS | {"numpy", "pyarrow", "yaml", "tqdm", "dmtl_cli.config.schema"}
    assert imported(among, *command, "--help") == set()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("world")
    generate(home, 3, start=dt.date(2026, 1, 1), users=40, items=40, events_per_day=400, seed=1)
    made = Project.create(home, home / "log", home / "truth")
    made.config |= {"features": "auto", "gates": {"quality": False}, "auto": {"budget": 0}}
    made.write()
    assert made.call("run", "--day", DAYS[0]).code == 0
    return made


def test_a_day_is_trained_scored_and_exported_without_a_compiler(project: Project) -> None:
    found = imported(COMPILER | {"torch", "onnx", "pandas"}, "run", "--config", str(project.file), "--day", DAYS[1])
    assert (project.ws / "export" / f"day={DAYS[1]}" / "CURRENT").exists(), "all stages were made"
    assert found == {"torch", "onnx"}


def test_columns_are_computed_without_pandas(project: Project) -> None:
    """pyarrow imports it to make an array of a list, in the middle of a stage: a tenth of a second, in which a signal
    ends the process without clearing up."""
    seconds = project.config["data"]["events"]["duration"]
    given = [f"workspace={project.home / 'computed'}", "data.events.conversion=good"]
    given += [f'data.events.computed={{"good": "{seconds} > 20"}}', "data.events.duration=null"]
    words = [word for one in given for word in ("--set", one)]
    assert imported({"pandas"}, "build-profile", "--config", str(project.file), "--day", DAYS[0], *words) == set()


def test_status_opens_no_file_of_the_log(project: Project) -> None:
    assert imported(READERS, "status", "--config", str(project.file)) == set()
    assert "polars" in imported(READERS, "status", "--config", str(project.file), "--inputs")


def test_adam_is_torchs() -> None:
    """The same numbers after some steps, to the bit."""

    def learned(kind: type[torch.optim.Adam]) -> torch.Tensor:
        w = torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3).clone())
        optimizer = kind([{"params": [w]}], lr=0.1, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            ((w - 0.3).pow(4).sum() + w.sin().sum()).backward()
            optimizer.step()
        return w.detach()

    assert torch.equal(learned(EagerAdam), learned(torch.optim.Adam))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.int64])
def test_numbers_become_arrows(kind: type[np.generic]) -> None:
    whole = np.arange(12).astype(kind)
    for some in (whole, whole[:0], whole[::2], whole[3:7]):
        assert arrow(some).equals(pa.array(some))


def test_the_shared_memory_of_an_array_outlives_it(tmp_path: Path) -> None:
    made = arrow(np.arange(1000.0) + 1)
    assert made.to_numpy().sum() == 500_500
