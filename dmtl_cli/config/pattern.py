"""Paths with a day in them: `events/{day}`, `log/{day:%Y/%m/%d}`, `events_{day:%Y%m%d}_*.csv`."""

from __future__ import annotations

import datetime as dt
import re

from dmtl_cli.config.days import EARLIEST, folder_day

_DAY = re.compile(r"\{day(?::([^{}]*))?\}")
_MARK = "\0"  # stands in for %, so that a % elsewhere in a path is itself
_GROUPS = {"D": r"(\d{4}-\d\d-\d\d|\d{8})", "Y": r"(\d{4})", "m": r"(\d\d)", "d": r"(\d\d)", "j": r"(\d{3})"}
_SOME = dt.date(2026, 1, 31)


class DayPattern:
    """A path with the day in it, once or in parts; `*` is any text without a slash.

    Raises:
        ValueError: it does not name a whole day.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if not _DAY.search(path) or set("{}") & set(_DAY.sub("", path)):
            raise ValueError(f"expected {{day}}, or a form of it such as {{day:%Y%m%d}}, got {path!r}")
        if unknown := set(re.findall("%(.?)", "".join(_DAY.findall(path)))) - (_GROUPS.keys() - {"D"}):
            raise ValueError(f"expected %Y, %m, %d and %j in {{day:...}}, got %{min(unknown)}")
        marked = _DAY.sub(lambda found: (found[1] or "%D").replace("%", _MARK), path)
        self.parts = marked.split("/")
        """of the path, folder by folder, for `is_literal` and `matches`"""
        self._kinds = re.findall(f"{_MARK}(.)", marked)
        self._regex = re.compile("/".join(map(_regex, self.parts)), re.DOTALL)
        if self.day_of(self.text(_SOME)) != _SOME:
            raise ValueError(f"expected year, month and day in {path!r}, as {{day:%Y%m%d}} has")

    @property
    def anywhere(self) -> list[str]:
        """The parts of the path with `*` in place of the day."""
        return [re.sub(rf"(?:{_MARK}.|\*)+", "*", part) for part in self.parts]

    @staticmethod
    def is_literal(part: str) -> bool:
        """Whether a part of the path is the name of one folder or file."""
        return _MARK not in part and "*" not in part

    @staticmethod
    def matches(part: str, name: str) -> bool:
        """Whether a folder or file of this name may be meant by a part of the path."""
        return re.fullmatch(_regex(part), name, re.DOTALL) is not None

    def text(self, day: dt.date) -> str:
        """The path of a day, for messages."""
        return _DAY.sub(lambda found: day.strftime(found[1] or "%Y-%m-%d"), self.path)

    def day_of(self, path: str) -> dt.date | None:
        """The day that a path names; None where it is none of this pattern, or no day."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        values: dict[str, set[str]] = {}
        for kind, value in zip(self._kinds, found.groups(), strict=True):
            values.setdefault(kind, set()).add(value)
        wholes = {folder_day(text) for text in values.pop("D", ())}
        if len(wholes) > 1 or None in wholes or any(len(some) > 1 for some in values.values()):
            return None
        parts = {kind: int(some.pop()) for kind, some in values.items()}
        day = wholes.pop() if wholes else _of_parts(parts)
        agrees = day is not None and all(int(day.strftime(f"%{kind}")) == n for kind, n in parts.items())
        return day if agrees and day is not None and day >= EARLIEST else None


def _of_parts(parts: dict[str, int]) -> dt.date | None:
    try:
        if "j" in parts:
            return dt.date(parts["Y"], 1, 1) + dt.timedelta(days=parts["j"] - 1)
        return dt.date(parts["Y"], parts["m"], parts["d"])
    except (KeyError, ValueError, OverflowError):
        return None


def _regex(part: str) -> str:
    pieces = re.split(f"({_MARK}.|\\*)", part)
    known = {"*": "[^/]*"} | {_MARK + kind: group for kind, group in _GROUPS.items()}
    return "".join(known.get(piece, re.escape(piece)) for piece in pieces)
