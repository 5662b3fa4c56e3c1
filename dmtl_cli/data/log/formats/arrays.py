"""A JSON file that is one array of objects, as many tools export a small table, as lines of an object each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.log.formats.source import File

MOST = 64 << 20
"""bytes of such a file: it is parsed as a whole"""
_HINT = "correct it, or write one object a line"


def as_lines(file: File, slices: Iterator[bytes]) -> Iterator[bytes]:
    """Text in whole lines as it is, but where all of it is one array of objects: then an object a line, so that what is
    said of line n is of its n-th element.

    Raises:
        UserError: 65 an array is larger than `MOST`, does not parse, or an element of it is no object; what reading the
            text raises.
    """
    first = b""
    for part in slices:
        first += part
        if first.strip():
            break
    line, _, rest = first.lstrip().partition(b"\n")
    if not line.startswith(b"[") or (rest.strip() and _is_value(line)):
        yield from itertools.chain([first] if first else [], slices)
        return
    text = bytearray(first)
    for part in slices:
        text += part
        if len(text) > MOST:
            raise UserError(f"{file}: an array of more than {MOST >> 20} MiB, which is parsed as a whole", _HINT)
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file}: expected an array of JSON objects: {e}", _HINT) from None
    wrong = next((k for k, one in enumerate(found) if not isinstance(one, dict)), None)
    if wrong is not None:
        got = json.dumps(found[wrong])[:40]
        raise UserError(f"{file}: expected an array of JSON objects, element {wrong + 1} is {got}", _HINT)
    if found:
        yield b"".join(json.dumps(one).encode() + b"\n" for one in found)


def _is_value(line: bytes) -> bool:
    """Whether a line is JSON by itself: then the file has a value a line."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
