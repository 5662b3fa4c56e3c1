"""Values, texts and comments as YAML that means the same in a block and in a flow."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml


def scalar(value: Any) -> str:
    """A value that is itself in a block and in a flow of YAML."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value in ("|", ";", ",", "\t"):
        return quoted(value)
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**9).strip()[1:-1]


def quoted(text: str) -> str:
    """Text in double quotes, such as a separator."""
    return f'"{text}"'.replace("\t", "\\t")


def comment(text: str) -> str:
    """Text that stays on its line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def indented(lines: list[str]) -> list[str]:
    """Lines of a block below a key."""
    return [f"  {line}" for line in lines]


def word(text: str) -> str:
    """A text that YAML takes for one, whatever it says."""
    return json.dumps(text, ensure_ascii=False)


def flow(keys: dict[str, Any]) -> str:
    """A flow mapping, with those in it."""
    inner = ", ".join(f"{k}: {flow(v) if isinstance(v, dict) else scalar(v)}" for k, v in keys.items())
    return f"{{{inner}}}"


def identifier(name: str) -> str:
    """A column in an SQL expression."""
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
