"""In which encoding a text is that is not in UTF-8, as far as its bytes tell it."""

from __future__ import annotations

import codecs
import re

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
CANDIDATES = ("shift_jis", "gb18030", "euc_kr", "cp1251", "cp1250", "iso8859_2", "cp1254", "cp1252")
"""of which a text may be where nothing tells it"""
LATIN = ("cp1252", "cp1250", "iso8859_2")
"""of western and of central Europe, the usual one first, which differ by which bytes are letters"""
_HIGH = re.compile(rb"[\x80-\xff]+")
_RUN, _SHORT = 3, 0.95  # bytes together at most; of the high bytes
_LETTERS = 0.95  # of the signs within words
_DAMAGED = 0.5  # of the high bytes are UTF-8, so the others are damage
_CARONS, _CARONED = b"\x8a\x8d\x8e\x9a\x9d\x9e", 0.08  # Š Ť Ž š ť ž of cp1250; of the high bytes: in cp1252 few are
_ZEROS = 0.2  # of the bytes
_SHOWN = 12  # characters of an example


def encoding_of(text: bytes) -> str | None:
    """utf-8, also where some of it is damaged; utf-16 by its first bytes or its zeros; one of LATIN where letters
    that are not ASCII stand alone between others. None where it is another one.

    Args:
        text: the beginning of a file, perhaps cut within a character.
    """
    if text.startswith(UTF16):
        return "utf-16"
    if (zeros := text.count(0)) > _ZEROS * len(text):  # of UTF-16 every other byte of plain letters, without a mark
        return "utf-16-le" if text[1::2].count(0) > zeros / 2 else "utf-16-be"
    kept = _HIGH.findall(text.decode("utf-8", "ignore").encode())
    if _is_read(text, "utf-8") or sum(map(len, kept)) >= _DAMAGED * sum(map(len, _HIGH.findall(text))):
        return "utf-8"
    return next((e for e in LATIN if _is_latin(text, e)), None)


def _is_read(text: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(text)
    except UnicodeError:
        return False
    return True


def _is_latin(text: bytes, encoding: str) -> bool:
    high = [len(found) for found in _HIGH.findall(text)]
    if not _is_read(text, encoding) or sum(n for n in high if n <= _RUN) < _SHORT * sum(high):
        return False
    if encoding == "cp1252" and sum(map(text.count, _CARONS)) >= _CARONED * sum(high):
        return False
    inside = re.findall(r"(?<=[A-Za-z])[^\x00-\x7f]{1,2}(?=[a-z])", text.decode(encoding, "ignore"))
    letters = [sign for sign in inside if sign.isalpha()]
    return bool(inside) and len(letters) >= _LETTERS * len(inside)


def example(text: bytes, encoding: str) -> str:
    """The first piece of a text with a letter that is not ASCII, as an encoding reads it."""
    read = codecs.getincrementaldecoder(encoding)().decode(text)
    pieces = re.findall(r"\w*[^\W\x00-\x7f]\w*", read)
    return pieces[0][:_SHOWN] if pieces else ""


def candidates(text: bytes) -> list[str]:
    """What each encoding that may be meant makes of the first such piece: `cp1251 (Привет)`."""
    return [f"{e} ({piece})" for e in CANDIDATES if _is_read(text, e) and (piece := example(text, e))]
