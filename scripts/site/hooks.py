"""What is done to a page of docs/ before mkdocs reads it, so that one text does for a code host and for the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)[^)]*\)")
_ITEM = re.compile(r" {0,3}(?:[-*]|\d+\.) ")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page as Python-Markdown needs it."""
    return separated(without_outside_links(markdown))


def without_outside_links(text: str) -> str:
    """`[name](../file)` becomes `file` in code: what is outside docs/ is in the repository, not on the site.

    Raises FileNotFoundError for a file that is not there.
    """

    def named(link: re.Match[str]) -> str:
        file = (ROOT / "docs" / link[2]).resolve(strict=True)
        return f"`{file.relative_to(ROOT)}`"

    return _LINK.sub(named, text)


def separated(text: str) -> str:
    """An empty line before each list that follows a paragraph at once: without one Python-Markdown sees no list."""
    lines, fenced, before = [], False, ""
    for line in text.splitlines():
        begins = _ITEM.match(line) and before.strip() and not _ITEM.match(before) and not before.startswith(" ")
        if begins and not fenced and not before.startswith(("#", "|")):
            lines.append("")
        fenced ^= line.lstrip().startswith("```")
        lines.append(line)
        before = line
    return "\n".join(lines) + "\n"
