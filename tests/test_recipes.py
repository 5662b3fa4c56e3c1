"""The recipes of docs/serve.md find what the export finds; those that need a server are marked as not run."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_over_http import publish_export

PAGE = (Path(__file__).parent.parent / "docs" / "serve.md").read_text()
RECIPES = dict(re.findall(r"<!-- recipe: (.+?) -->\n```python\n(.*?)```", PAGE, re.S))
RUN = [name for name in RECIPES if name != "begin" and "not run" not in name]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    publish_export(home, 0)
    found: dict[str, Any] = {}
    exec(RECIPES["begin"].replace("work/mylog", str(home)), found)
    return found


@pytest.mark.parametrize("name", RUN)
@pytest.mark.filterwarnings("ignore")  # of libraries that are not this project's
def test_a_recipe_finds_what_the_export_finds(
    begun: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    found = dict(begun)
    exec(RECIPES[name], found)
    export = begun["export"]
    expected = export.recommend(str(export.users["user_id"][0]), 10)["item_id"].to_list()
    dots = export.items[1] @ begun["user"]
    assert len(np.unique(np.sort(dots)[-11:].round(5))) == 11, "no ties, so that there is one answer"
    assert [*found["top"]] == expected


def test_every_engine_has_a_recipe() -> None:
    names = {name.partition(",")[0] for name in RECIPES}
    assert names == {
        "begin", "faiss", "hnswlib", "duckdb", "lancedb", "pymilvus", "pgvector", "elasticsearch", "triton"
    }  # fmt: skip
    assert set(RUN) == {"faiss", "hnswlib", "duckdb", "lancedb", "pymilvus"}
    for name, code in RECIPES.items():
        ast.parse(code)
        assert name == "begin" or "top =" in code or "user =" in code
        assert len(code.splitlines()) <= 15
        said = PAGE[: PAGE.index(f"<!-- recipe: {name} -->")].rstrip().rpartition("\n\n")[2]
        assert ("not run here" in said) == ("not run" in name)
