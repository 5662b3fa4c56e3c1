"""One self-contained HTML page of sections: style, specifications and the drawing library are in it, and nothing of it
is fetched. What is not of this project (ids, titles, paths, reasons) is escaped wherever it stands, and a policy in
the page's head lets a browser run its own two scripts alone."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import JOINERS
from dmtl_cli.report.blocks import Block, Cell, Chart, Charts, Lines, Mark, Section, Table, Tiles, Words, number
from dmtl_cli.report.style import CONFIG

_SHAPES = {
    "circle": "M8.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
    "square": "M9 3h6v6h-6z",
    "diamond": "M12 2l3 4l-3 4l-3-4z",
    "cross": "M11 2h2v3h3v2h-3v3h-2v-3h-3v-2h3z",
    "triangle-up": "M12 2.5l4 6.5h-8z",
    "triangle-down": "M12 9.5l4-6.5h-8z",
    "triangle-left": "M8.5 6l6.5-4v8z",
    "triangle-right": "M15.5 6l-6.5-4v8z",
    "box": "M6 1h12v10h-12z",
}
_NUMBER = re.compile(r"[-−]?[\d,.]+(e[-+]\d+)?( ?(%|s|min|h|B|KB|MB|GB|TB))?")
_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src"
)


def render(
    title: str, said: str, sections: Sequence[Section], script: str, links: Sequence[tuple[str, str]], held: Any = None
) -> str:
    """The page.

    Args:
        title: its heading.
        said: a line beside the heading.
        script: the drawing library.
        links: (text, address) of other pages in its folder.
        held: what an index reads of it again.
    """
    counter = itertools.count(1)
    body = "\n".join(_section(section, counter) for section in sections)
    contents = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>' for s in sections[1:])
    own = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    nav = " · ".join(f'<a href="{escape(address)}">{escape(text)}</a>' for text, address in links)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY} {_hash(script)} {_hash(own)}">
<title>{escape(title)}</title>
<script type="application/json" id="held">{_json(held)}</script>
<style>{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{escape(said)}</p><nav aria-label="Other days">{nav}</nav></header>
<main>
{body.replace("</section>", f'<nav aria-label="On this page"><ul class="contents">{contents}</ul></nav></section>', 1)}
</main>
<footer>Written by dmtl. A view of what is published: nothing reads it.</footer>
<script type="application/json" id="chart-config">{_json(CONFIG)}</script>
<script>{script}</script>
<script>{own}</script>
</body>
</html>
"""


def held_in(page: Path) -> Any:
    """What `render` was given to hold, from the beginning of a page; None where it has nothing."""
    with page.open(encoding="utf-8", errors="replace") as file:
        begin = file.read(65_536)
    text = begin.partition('id="held">')[2].partition("</script>")[0]
    try:
        return json.loads(text)
    except ValueError:
        return None


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that no browser takes for the end of its script, whatever its texts contain."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(section: Section, counter: Iterator[int]) -> str:
    lead = f'<p class="lead">{escape(section.lead)}</p>' if section.lead else ""
    blocks = "\n".join(_block(block, counter) for block in section.blocks)
    return f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{lead}\n{blocks}</section>'


def _block(block: Block, counter: Iterator[int]) -> str:
    match block:
        case Tiles():
            return _tiles(block)
        case Charts():
            broad = "charts broad" if all(chart.wide for chart in block.charts) else "charts"
            return f'<div class="{broad}">{"".join(_figure(c, next(counter)) for c in block.charts)}</div>'
        case Table():
            return _table(block)
        case Lines():
            return f'<ul class="lines">{"".join(f"<li{_class(s)}>{_text(line)}</li>" for line, s in block.lines)}</ul>'
        case Words():
            return _words(block)


def _tiles(block: Tiles) -> str:
    out = []
    for tile in block.tiles:
        beside = "".join(f"<dd>{_text(line)}</dd>" for line in tile.beside)
        value = f"<span{_class(tile.state)}>{escape(tile.value)}</span>"
        out.append(f'<div class="tile"><dt>{escape(tile.label)}</dt><dd class="value">{value}</dd>{beside}</div>')
    return f'<dl class="tiles">{"".join(out)}</dl>'


def _figure(chart: Chart, k: int) -> str:
    spec = {**chart.spec, "description": chart.said}
    value = f"<b>{escape(chart.value)}</b>" if chart.value else ""
    return (
        f'<figure id="figure-{k}">'
        f"<figcaption><h3>{escape(chart.title)}</h3>{value}</figcaption>"
        f"{_legend(chart.legend)}"
        f'<div class="plot"></div><script type="application/json">{_json(spec)}</script>'
        f"<details><summary>Numbers</summary>{_rows(chart.numbers)}</details></figure>"
    )


def _legend(marks: Sequence[Mark]) -> str:
    """A drawn sign before each name: a line as it is dashed, and the shape of its points."""
    items = []
    for mark in marks:
        dash = f' stroke-dasharray="{" ".join(map(str, mark.dash))}"' if mark.dash else ""
        line = "" if mark.dash is None or mark.shape == "box" else f'<path d="M0 6H24"{dash}/>'
        shape = f'<path d="{_SHAPES[mark.shape]}" fill="{mark.colour}" stroke="none"/>' if mark.shape else ""
        sign = f'<svg width="24" height="12" aria-hidden="true" stroke="{mark.colour}" stroke-width="1.5">'
        items.append(f"<li>{sign}{line}{shape}</svg>{escape(mark.name)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


def _table(table: Table) -> str:
    if not table.folded:
        return _rows(table)
    return f"<details><summary>{escape(table.folded)}</summary>{_rows(table)}</details>"


def _rows(table: Table) -> str:
    right = {k for k in range(len(table.head)) if _is_numeric(row[k] for row in table.rows)}
    head = "".join(
        f'<th scope="col"{_class("number" if k in right else "")}>{escape(h)}</th>' for k, h in enumerate(table.head)
    )
    rows = "".join(f"<tr>{''.join(_cell(c, k in right) for k, c in enumerate(row))}</tr>" for row in table.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _is_numeric(cells: Iterable[Cell]) -> bool:
    """Whether a column has numbers, or texts that are one and its unit."""
    known = [str(c) for c in cells if isinstance(c, str | int | float) and c not in ("", "–")]
    return bool(known) and all(_NUMBER.fullmatch(c) for c in known)


def _cell(cell: Cell, right: bool) -> str:
    if isinstance(cell, tuple):
        text, state, *link = cell
        inner = f'<a href="{escape(link[0])}">{_text(text)}</a>' if link else _text(text)
        return f"<td><span{_class(state)}>{inner}</span></td>"
    if isinstance(cell, str):
        return f"<td{_class('number' if right else 'word')}>{_text(cell)}</td>"
    return f'<td class="number">{escape(number(cell))}</td>'


def _words(block: Words) -> str:
    columns = "".join(
        f"<div><h4>{escape(name)}</h4><ol>{''.join(f'<li dir=auto>{_text(line)}</li>' for line in lines)}</ol></div>"
        if lines
        else f"<div><h4>{escape(name)}</h4>nothing</div>"
        for name, lines in block.columns
    )
    return f'<div class="words"><h3>{_text(block.title)}</h3><div class="columns">{columns}</div></div>'


def _text(text: str) -> str:
    """A text that others wrote: escaped, and without characters that no page may have or that turn its direction."""
    kept = "".join(c for c in text if c.isprintable() or c in JOINERS)
    return escape(kept.encode("utf-8", "replace").decode())


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
