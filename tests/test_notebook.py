"""docs/quickstart.ipynb runs from its first cell to its last, and keeps no output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/quickstart.ipynb"


def text_of(cell: Any) -> str:
    """What a cell printed and showed, as text."""
    shown = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return "\n".join(shown)


def test_no_output_is_kept() -> None:
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    assert [c.source for c in cells if c.outputs or c.execution_count is not None] == []


def test_from_a_frame_to_a_top_k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    *_, check, chain, top, unknown = (c for c in notebook.cells if c.cell_type == "code")
    assert "60 users and 40 items" in text_of(check)
    assert "served:" in text_of(chain)
    assert text_of(top).count("False") >= 8, f"bait is retrieved: {text_of(top)}"
    found = [int(i) for i in text_of(unknown).strip("[]").split(",")]
    assert len(set(found)) == 10 and sum(i % 2 == 0 for i in found) >= 8
