"""The click where no name tells it: a flag that is true just where a duration has a value."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from dmtl_cli.guess import words
from dmtl_cli.guess.roles import Guess, Roles, share_of
from dmtl_cli.guess.values import FEW, clicks, has_long_tail, is_binary, is_constant, is_there, share

_SAME = 0.98  # of the rows with either have the other
_RARE, _OFTEN = 0.01, 0.7  # of the rows are clicks
_MORE, _WITHIN = 1.05, 0.9  # times as many rows have a duration; of the rows of a flag are among them
_SKEWED = 1.0  # that of a uniform or normal distribution is 0, of an exponential one 2


def just_where(s: pl.Series, flag: pl.Series) -> bool:
    """Whether a number has a value just where a flag is true: in 98% of its rows, in hardly any other row. A value is a
    number above 0 or, where the other rows have null, any number.

    Args:
        flag: [n] of bool, without null.
    """
    return any(
        min(share(there.filter(flag)), share(flag.filter(there)), 1 - share(there.filter(~flag))) >= _SAME
        for there in _ways(s)
    )


def is_spread(s: pl.Series) -> bool:
    """Whether numbers, none below 0, are as different as durations are: many, and more of them small than large."""
    return s.n_unique() > FEW and has_long_tail(s, _SKEWED)


def by_duration(frame: pl.DataFrame, roles: Roles, numbers: Sequence[str]) -> Guess | None:
    """The flag that is true just where a duration has a value; None where none is, or several are and no name tells
    one of them.

    Nothing is concluded of an attribute of a user or item, which is told by their ids, nor of an outcome that is deeper
    than a click: true more rarely than a duration that all its rows have.

    Args:
        numbers: columns that may be a duration where no name tells one.
    """
    if roles.user is None or roles.item is None:
        return None
    lasting = [roles.duration.column] if roles.duration else [c for c in numbers if _may_be_lasting(frame, c, roles)]
    found: dict[str, str] = {}
    for c in frame.columns if lasting else ():
        if c in roles.taken or not is_binary(frame[c]) or _is_named_otherwise(c):
            continue
        flag = clicks(frame[c])
        if not _RARE <= share(flag) <= _OFTEN or flag.sum() < FEW or _is_deeper(frame, flag, lasting):
            continue
        beside = next((d for d in lasting if just_where(frame[d], flag)), None)
        if beside is not None and not _is_owned(frame, c, roles):
            found[c] = beside
    taken = _named_best(list(found))
    if taken is None:
        return None
    true = "true" if frame[taken].dtype == pl.Boolean else 1
    why = f"{share_of(frame[taken])}; {found[taken]} has a value just where it is {true}"
    return Guess(taken, why, tuple(c for c in found if c != taken))


def _ways(s: pl.Series) -> list[pl.Series]:
    """[n] of bool each: where a number is above 0, and where it is known if it is not everywhere."""
    known = s.cast(pl.Float64).fill_nan(None).is_not_null()
    return [is_there(s), *([known] if not known.all() else [])]


def _named_best(found: list[str]) -> str | None:
    if len(found) < 2:
        return found[0] if found else None
    scores = {c: words.by_name(c, words.CLICKED) for c in found}
    best = [c for c in found if scores[c] == max(scores.values())]
    return best[0] if len(best) == 1 else None


def _is_named_otherwise(c: str) -> bool:
    return words.by_name(c, words.CONVERSION) > 0 or words.says(c, words.NOT_GOOD)


def _may_be_lasting(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    """Whether a number that most rows lack may be a duration by its values where it has some."""
    if words.says(c, words.PRICE) or words.by_name(c, words.POSITION):
        return False
    there = is_there(frame[c])
    if not _RARE <= share(there) <= _OFTEN or not is_spread(frame[c].filter(there)):
        return False
    return not _is_owned(frame.filter(there), c, roles)


def _is_deeper(frame: pl.DataFrame, flag: pl.Series, lasting: Sequence[str]) -> bool:
    there = [is_there(frame[c]) for c in lasting]
    return any(share(x) > _MORE * share(flag) and share(x.filter(flag)) >= _WITHIN for x in there)


def _is_owned(frame: pl.DataFrame, c: str, roles: Roles) -> bool:
    return any(key is not None and is_constant(frame, key.column, c) for key in (roles.user, roles.item))
