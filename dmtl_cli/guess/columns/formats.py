"""The formats of days and times in text that are not ISO 8601."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import polars as pl

from dmtl_cli.data.log.values.types import formatted
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.values import clock_share, has_days, time_unit

_CLOCKS = 0.95  # of the texts have a clock
_FAR = 5  # times as many days from the first to the last by one order of day and month as by the other
_BUDDHIST = 2443, 2643  # years of its era from 1900 to 2100
_TRIED = 100  # texts that are tried before all are
_WEEKDAY = r"(?:(?P<a>Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*(?P<a_>,? ))?"
_MONTH = r"(?P<b>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*)"
_CLOCK = r"(?P<H>\d{1,2})(?P<t>[:.])(?P<M>\d{2})(?:(?P=t)(?P<S>\d{2})(?P<f>\.\d+)?)?(?P<p_> ?)(?P<p>[AP]M)?"
_ZONE = r"(?P<z_> ?)(?:(?P<z>[+-]\d{2}:?\d{2})|(?P<utc>UTC|GMT|Z))?"
_END = rf"(?:(?P<gap>[ ,T:-]+){_CLOCK}{_ZONE})?\s*"
_NUMBERS = re.compile(
    r"\s*(?P<x>\d{1,4})(?P<sign>[./-])\d{1,2}(?P=sign)(?P<y>\d{4}|\d{1,2})(?P<point>(?<=\.\d\d)\.)?" + _END,
    re.IGNORECASE,
)
"""of Hungarian days the last point: 2024.10.22. 00:15:50"""
_NAMED = [
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"\s*{_WEEKDAY}(?P<d>\d{{1,2}})(?P<s>\.? |[-/.]){_MONTH}(?P<s2>\.? |[-/.])(?P<Y>\d{{4}}|\d{{2}}){_END}",
        rf"\s*{_WEEKDAY}{_MONTH}(?P<s>\.? )(?P<d>\d{{1,2}})(?P<s2>,? )(?P<Y>\d{{4}}){_END}",
    )
]
_YEAR_LAST = re.compile(rf"\s*{_WEEKDAY}{_MONTH} +(?P<d>\d{{1,2}}) {_CLOCK}{_ZONE} (?P<Y>\d{{4}})\s*", re.IGNORECASE)
"""as Unix writes them: Fri Oct 02 13:55:36 +0000 2026"""
_BARE = r"(19|20)\d{12}(\d{3})?|\d{1,2}\.\d{1,2}\.\d{2}"
"""an id or a version may look so too: a name has to say that it is a time"""
_NAMES = words.any_of(
    "time ts date day datum data fecha date dato dag päivä nap tarih дата день jour giorno dia zeit uhrzeit zeitpunkt"
    " czas čas cas hora heure ora tijd tid tidspunkt waktu saat время час"
    " ido idő időpont vrijeme vreme aika shijian riqi jikoku hiduke nichiji"
    " geburtsdatum ymdhms yyyymmddhhmmss timestamp 时间 日期 時刻 日時 일시 시간"
)
_DIGITS = re.compile(r"(?:19|20)\d{6}(?P<T>T?)\d{6}(?P<ms>\d{3})?(?P<utc>Z?)")
"""20261002135536"""


def formats_of(s: pl.Series) -> list[str]:
    """The types, such as datetime:%d.%m.%Y %H:%M, that read all texts (or integers, as 20261002135536) of a column;
    none where they are no such days or times, or ISO 8601. Several where neither a number above 12 tells the day from
    the month nor that days follow each other in one of them alone; with points the day is first."""
    if s.dtype.is_integer():
        known = s.drop_nulls().cast(pl.String)
    else:
        known = s.filter(s != "") if s.dtype == pl.String else s.head(0)
    if not len(known) or (re.fullmatch(_BARE, known[0]) and not _is_when(s.name)):
        return []
    few = known.head(_TRIED)
    fit = [t for t in map(_of_era(few), _types(known[0])) if not (_lost(few, t) or _lost(known, t))]
    return fit[:1] if fit and re.search(r"%[bB]|%d\.%m", fit[0]) else _shortest(known, fit)


def _lost(texts: pl.Series, kind: str) -> int:
    """How many texts a type does not read."""
    return formatted(texts, kind).null_count()


def _of_era(texts: pl.Series) -> Callable[[str], str]:
    """Types of texts whose years are of the Buddhist era, as none of a log is far beyond 2400."""
    years = texts.str.extract(r"(?:^|[^0-9])([0-9]{4})(?:[^0-9]|$)").cast(pl.Int64)  # \d is a digit of any script
    is_of_era = not years.null_count() and bool(years.is_between(*_BUDDHIST).all())
    return lambda kind: kind.replace("%Y", "%EY") if is_of_era else kind


def _shortest(known: pl.Series, types: list[str]) -> list[str]:
    """Of several types the one in which the days, as those of a log, lie by far closest to each other; else all."""
    if len(types) < 2:
        return types
    days = {t: formatted(known, t).cast(pl.Date) for t in types}
    spans = {t: 1 + (days[t].max() - days[t].min()).days for t in types}  # type: ignore[operator,union-attr]
    first, second = sorted(types, key=lambda t: spans[t])[:2]
    return [first] if spans[second] >= _FAR * spans[first] and days[first].n_unique() > 1 else types


def _is_when(name: str) -> bool:
    return (words.is_when(name) or words.says(name, _NAMES)) and not words.is_named_id(name)


def _types(text: str) -> Iterator[str]:
    """Types that may read a text."""
    if (seen := _DIGITS.fullmatch(text)) is not None:
        yield f"datetime:%Y%m%d{seen['T']}%H%M%S{'%3f' if seen['ms'] else ''}{seen['utc']}"
    elif (seen := _NUMBERS.fullmatch(text)) is not None:
        yield from _of_numbers(seen)
    elif (seen := _YEAR_LAST.fullmatch(text)) is not None:
        weekday = f"%a{seen['a_']}" if seen["a"] else ""
        yield from (f"datetime:{weekday}{month} %d {_clock(seen)} %Y" for month in ("%b", "%B"))
    else:
        for form in _NAMED:
            if (seen := form.fullmatch(text)) is not None:
                yield from _of_names(seen)


def _of_numbers(seen: re.Match[str]) -> Iterator[str]:
    first, last, sign = len(seen["x"]), len(seen["y"]), seen["sign"]
    if first == 3 or last == 3 or (first > 2 and last > 2) or (first < 3 and last == 1):
        return
    if first + last < 4:  # 1.2.26
        return
    if first > 2:
        if sign == "-" and (not seen["gap"] or (seen["gap"] in (" ", "T") and seen["t"] == ":")):
            return  # ISO 8601
        orders = ["%Y {} %m {} %d"]
    else:
        if last == 2 and not seen["gap"] and sign != ".":
            return  # of two digits each, which may be anything
        orders = ["%d {} %m {} %Y", "%m {} %d {} %Y", *(["%Y {} %m {} %d"] if last == 2 else [])]
    year = "%Y" if max(first, last) > 2 else "%y"
    for order in orders:
        day = order.replace(" ", "").format(sign, sign).replace("%Y", year) + (seen["point"] or "")
        yield f"datetime:{day}{seen['gap']}{_clock(seen)}" if seen["gap"] else f"date:{day}"


def _of_names(seen: re.Match[str]) -> Iterator[str]:
    weekday = f"%a{seen['a_']}" if seen["a"] else ""
    year = "%Y" if len(seen["Y"]) > 2 else "%y"
    for month in ("%b", "%B"):  # May is both
        parts = ["%d", month] if seen.start("d") < seen.start("b") else [month, "%d"]
        day = f"{weekday}{parts[0]}{seen['s']}{parts[1]}{seen['s2']}{year}"
        yield f"datetime:{day}{seen['gap']}{_clock(seen)}" if seen["gap"] else f"date:{day}"


def _clock(seen: re.Match[str]) -> str:
    sign = seen["t"]
    clock = f"{'%I' if seen['p'] else '%H'}{sign}%M" + (f"{sign}%S" if seen["S"] else "") + ("%.f" if seen["f"] else "")
    clock += f"{seen['p_']}%p" if seen["p"] else ""
    gap = seen["z_"] or ("" if seen["p"] else seen["p_"])
    return clock + (f"{gap}%z" if seen["z"] else f"{gap}{seen['utc']}" if seen["utc"] else "")


def times_unread(frame: pl.DataFrame, *, text: bool, days: bool = False) -> str | None:
    """The first column of texts of times that are not written as dmtl reads them, with what to write; None where there
    is none.

    Args:
        text: whether they are of CSV or JSON, where a format may be named.
        days: whether days without a clock count too.
    """
    for c in frame.columns:
        known = frame[c].drop_nulls()
        both = formats_of(known) if text else []
        if len(both) > 1 and (days or both[0].startswith("datetime")):
            seen = f"{c} has {'times' if both[0].startswith('datetime') else 'days'} such as {known[0]!r}"
            which = "no value above 12 tells whether the day or the month is first"
            return f"{seen}, and {which}: write {c}: {both[0]}, or {both[1]}, in data.types and name it"
        if has_days(known) and clock_share(known) >= _CLOCKS and time_unit(known) is None:
            return f"{c} has times such as {known[0]!r}: write 2026-01-31 09:15:00 where they are to be read"
    return None
