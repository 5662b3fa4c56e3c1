"""What a missing library says names an extra that pyproject.toml has, and that brings it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dmtl_cli.config import extras
from dmtl_cli.config.errors import Exit, UserError

PACKAGES = {"faiss": "faiss-cpu", "vl_convert": "vl-convert-python", "mlflow": "mlflow-skinny"}  # where names differ


def test_extras_bring_their_modules() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for module, extra in extras._EXTRAS.items():
        needed = project["optional-dependencies"][extra]
        assert any(re.match(rf"{PACKAGES.get(module, module)}(\[[\w,]+\])?>=", line) for line in needed), module


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.require("polars", "this")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError) as raised:
        extras.require("faiss", "export.index: hnsw")
    assert raised.value.code == Exit.CONFIG and raised.value.line() == (
        "dmtl: error: export.index: hnsw needs faiss, which is not installed; "
        "in dmtl's clone, pip install -e '.[index]'"
    )
    assert extras.install("os") == ""
