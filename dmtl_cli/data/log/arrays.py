"""A JSON file that is one array of objects, as many tools export a small table, as lines of an object each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.source import File

MOST = 1 << 28
"""bytes of such a file: it is parsed as a whole"""


def as_lines(file: File, slices: Iterator[bytes]) -> Iterator[bytes]:
    """Text in whole lines as it is, but where all of it is one array of objects: then an object a line.

    Raises:
        UserError: 65 text that begins as an array does is larger than `MOST`; what reading it raises.
    """
    first = next(slices, b"")
    if not first.lstrip().startswith(b"["):
        yield from itertools.chain([first] if first else [], slices)
        return
    text = bytearray(first)
    for part in slices:
        text += part
        if len(text) > MOST:
            what = f"{file}: an array of more than {MOST >> 20} MB, which is parsed as a whole"
            raise UserError(what, "write one object a line")
    yield _lines(bytes(text)) or bytes(text)


def _lines(text: bytes) -> bytes | None:
    """None of what is no array of objects: what is wrong with it is told as of any line."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return None
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in found)
