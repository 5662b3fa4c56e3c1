"""Figures are drawn from docs/tables as they stand, and the text quotes these tables."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TABLES = sorted((ROOT / "docs/tables").glob("*.csv"))


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        import figures

        return figures


def stored(name: str) -> list[list[str]]:
    with (ROOT / f"docs/tables/{name}.csv").open(newline="") as file:
        return list(csv.reader(file))


def quoted(page: str, first: str) -> list[list[str]]:
    """The table of a page whose header begins so, without its line of dashes."""
    text = (ROOT / page).read_text()
    lines = text[text.index(first) :].split("\n\n")[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [header, *rows]


def test_the_readme_quotes_the_table_of_the_click_bait_world() -> None:
    assert stored("click_bait") == quoted("docs/results.md", "| model | read seconds, 3 days |")


def test_experiments_quote_the_table_of_kuairand() -> None:
    assert stored("kuairand") == quoted("docs/experiments.md", "| | click AUC | ctcvr AUC | read recall@50 | click")


def test_speed_is_quoted_from_its_table() -> None:
    results = (ROOT / "docs/performance.md").read_text().split("## Results")[1].split("The log of a million rows")[0]
    said = [(work.splitlines()[0], work) for work in results.split("\n### ")[1:]]
    _, *rows = stored("performance")
    for work, ours, against, ratio in rows:
        (section,) = (text for name, text in said if name == work)
        beside = f"| {ours} | {against} | " if ours else f"| {against} | "
        (line,) = (line for line in section.splitlines() if line.startswith(beside))
        assert ratio in line.replace("*", ""), f"{work}, {ours} beside {against}: {line}"
    readme = quoted("README.md", "| dmtl's | beside | times as fast |")[1:]
    found = [cell for row in readme for cell in row[2:] if cell]
    assert len(found) == 13 and [c for c in found if c not in {row[3] for row in rows}] == []


@pytest.mark.parametrize("table", TABLES, ids=lambda f: f.stem)
def test_a_figure_holds_the_hash_of_its_table(table: Path, figures: ModuleType) -> None:
    assert table.stem in figures.FIGURES
    again = "run: python scripts/figures.py, and look at what it draws"
    with Image.open(ROOT / f"docs/{table.stem}.png") as figure:
        assert figure.info["Description"] == figures.digest(table.stem), again


def test_a_number_and_its_bar(figures: ModuleType) -> None:
    assert figures.number("41.6 (1.3)") == figures.Number(41.6, 41.6 - 0.65, 41.6 + 0.65)
    assert figures.number("1.60 (1.51 to 1.77)") == figures.Number(1.6, 1.51, 1.77)
    assert figures.number(".418") == figures.Number(0.418, 0.418, 0.418)
    assert figures.number("") is None and figures.number("a / b") is None


def test_all_rows_are_drawn_from_zero(figures: ModuleType) -> None:
    table = figures.rows_of("click_bait")
    drawn = figures.click_bait(table)
    seconds, rates = drawn.axes
    assert [label.get_text().replace("\n", " ") for label in seconds.get_yticklabels()] == [row[0] for row in table]
    points = sorted(float(x) for line in seconds.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert points == sorted(float(re.match(r"[\d.]+", row[k])[0]) for row in table for k in (1, 4))
    assert seconds.get_xlim()[0] == rates.get_xlim()[0] == 0
    figures.plt.close(drawn)
