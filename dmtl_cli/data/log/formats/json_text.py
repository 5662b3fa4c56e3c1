"""JSON of one text, as strict as what parses many at once, and no deeper than that bears."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

DEEPEST = 100
"""objects and lists within each other; polars takes half a minute for a line of 200, and ends the process at 700"""
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and -1 of int8
_OTHERS = bytes({*range(256)} - {*b'[{]}"'})


def parsed(text: bytes) -> Any:
    """Its value. Raises ValueError: it is no JSON, or too deep."""
    if is_deep(text):
        raise ValueError(f"more than {DEEPEST} objects and lists within each other")
    return json.loads(text, parse_constant=_refuse_constant)


def is_deep(text: bytes) -> bool:
    """Whether there are too many objects and lists within each other; brackets within quotes are none."""
    if text.count(b"[") + text.count(b"{") <= DEEPEST:  # of nearly all texts
        return False
    bare = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(_STEPS, _OTHERS).replace(b'""', b"")
    bare = re.sub(rb'"[^"]*"?', b"", bare) if b'"' in bare else bare
    return int(np.frombuffer(bare, np.int8).cumsum(dtype=np.int64).max(initial=0)) > DEEPEST


def _refuse_constant(word: str) -> None:
    """For `json.loads`, which takes NaN and Infinity. Raises ValueError."""
    raise ValueError(f"{word} is no JSON")
