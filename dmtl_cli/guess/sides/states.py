"""Columns of a table that is one state for all days whose values are those of the end of the log: what was withdrawn
by then, and how much an id had been clicked; and columns that say nothing of a user or an item, as a test's group."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.guess.columns import languages, words
from dmtl_cli.guess.columns.roles import Roles
from dmtl_cli.guess.columns.values import clicks, has_long_tail, is_binary, is_flags, share, short, time_unit
from dmtl_cli.guess.sides.versions import born

Value = str | int | float | bool | None
Shown = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""rows of each id on some days, and on the last day after them"""
RATED = 0.8
"""rank correlation with the log's own rates, from which on a number is one of them: what an item is has hardly half"""
_MANY = 10  # events, or clicks, of an id whose rate is told
LOOSELY = 0.3
"""rank correlation with the log's own counts, from which on whole numbers with a long tail may be one of them"""
_BESIDE = 0.6  # the same with another column that is a running total
_WINDOW = 7  # days of a log, about: what came in them is scaled by how long an id is there
AGEING = 0.25
"""the same with the age of the ids"""
_IDS, _VALUES = 100, 20  # ids that have events, and distinct values, for a rank correlation to tell it
_CLASSES = 10  # values of a status
LATE = "its value is that of the end of the log"
"""what is said last of numbers that count what came later"""
_LETTERS = 4  # that two forms of a word begin with
_PLAIN = ("label", "target", "flag", "good", "event", "action", "acted", "value", "response")
"""words of an act's column that do not say which act it is"""
_STOP, _GO_ON = 0.5, 0.05  # of the ids that go on by chance have no row on the last day: of what stops, of all others
_AS_OFTEN = 0.5  # as often as what is there, a state is shown on
_SOME, _SIGMAS = 20, 6.0  # such ids; standard deviations of their number
_GONE = (
    "("
    + words.any_of(
        "deleted removed withdrawn archived discontinued delisted retired unpublished deactivated inactive disabled"
        " blocked banned expired closed sold soldout sold_out out_of_stock hidden reserved rented let leased suspended"
        " takedown taken_down disputed revoked"
    )
    + f"|{languages.GONE})"
)
_THERE = words.any_of("active available in_stock instock enabled aktiv activo actif ativo 上架")
_WHOLE = (
    f"^((is|was|ist|{languages.DATE}) )?{{}}"
    f"( (flag|flg|ind|yn|m[iı]|at|on|date|time|ts|datetime|utc|{languages.WHEN}))*$"
)
_GOING = rf"^{languages.DATE} {languages.WITHDRAWAL}$|^{languages.WITHDRAWAL} {languages.WHEN}$"
"""when it was withdrawn, by the name of the act: data wycofania"""
_STATUS = rf"(^| )(status|state|availability|{languages.STATE})$"
_ACT = words.any_of(
    "view click like play follower fan save order purchase download install sale visit read share comment review vote"
    " bookmark favorite favourite impression listen watch reader listener viewer subscriber completion enrolment"
    " enrollment buyer booking checkout conversion reaction upvote return refund"
)
_TOTALS = (
    rf"(^| ){_ACT}s( (total|count|cnt|num|sum|all|so far|ever))?$"
    rf"|(^| ){_ACT}(ed)?s? (count|counts|cnt|num|number|total)$"
    rf"|(^| )(total|num|number of|count of|n|nr|lifetime|all time) {_ACT}s?$"
    rf"|(^| ){_ACT}s? (so far|to date|lifetime|all time|cumulative)$"
    r"|(^| )(backers|donors|supporters|pledges|donations|pledged|raised|collected)( so far| total| amount| usd| eur)?$"
    r"|(^| )(popularity|ltv|lifetime spend|total spend|total spent|lifetime value)$"
    r"|(^| )(visualizacoes|visualizações|visualizaciones|visualizzazioni|aufrufe|reproducciones|reproduções|vues)( |$)"
    r"|(播放|点击|点赞|收藏|浏览)(数|量|次数)$"
)
_MEANS = r"(^| )((avg |mean |star )?ratings?|(avg |mean )?stars|rating (avg|mean))$|^评分$"
_RATES = (
    r"(^| )(ctr|cvr|"
    + words.any_of(
        "click clickthrough click_through conversion open finish completion bounce skip like purchase read redeem"
        " redemption order booking apply application save share listen play watch view install unlock reply response"
        " acceptance sell_through sellthrough return refund cancellation churn replay"
    )
    + " rate|"
    + words.any_of("konverze konversion konversionsrate conversie konwersja konverzió conversão conversión conversione")
    + ")( |$)|点击率|转化率"
)
_CLASS = words.any_of("age content pegi fsk mpaa usk esrb maturity energy credit hotel")
"""ratings that nobody gives by clicking"""
_MEASURE = words.any_of(
    "size width height length bytes words pages chars characters age days year month photos images pictures minutes"
    " hours seconds weight distance area rooms ingredients servings chapters tracks episodes word page char character"
    " photo image picture room ingredient serving chapter track episode lesson season volume"
)
_LEAST = r"minimum|m[ií]nim[oa]|mindest\w*|min (order|spend|basket|cart|purchase|amount|value|price)"
"""what somebody asks for, as how much a coupon is good from"""
_UNIT = f"({words.any_of('minutes mins hours hrs seconds secs')}|{languages.MINUTES})"
_DOING = words.any_of(
    "total lifetime spent watched watch listened listen played play read reading active online usage used"
)
_SPENT = rf"(^| ){_DOING} {_UNIT}( |$)|(^| ){_UNIT} {_DOING}( |$)|(^| )streak( |$)"
"""how long, which of users grows whenever they come"""
_AIM = words.any_of(
    "goal target budget limit quota capacity minimum maximum min max ziel objetivo objectif meta sasaran cél"
)
"""what somebody set"""
_TEST = (
    r"(^| )(abtest|experiment|experiments|holdout)( |$)|^ab( |$)|(^| )ab (test|group|grp|variant|bucket|exp|arm)( |$)"
    r"|^(test|control|split|exp|treatment) (group|bucket|arm)$"
    r"|^(groupe|gruppo|grupo|grupa|skupina|csoport|groep)( de)? ?test(u|ová|owa)?$|^test ?(gruppe|groep|grubu)$"
    r"|(^| )(ab|exp)(test)?(group|bucket|variant|flag)$"
    r"|(^| )(variant\w*|wariant|varyant|varijanta|вариант|gruppe|grupo|grupa|groupe|gruppo|groep) ab$"
    r"|(^| )ab (variant\w+|wariant|varyant|varijanta|вариант|gruppe|grupo|grupa|groupe|gruppo|groep)$"
)
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+(\.\d+)*")  # as pandas calls what had no name
_AGENT = r"(^| )(user agent|useragent|ua)( string)?$"


@dataclass(frozen=True)
class Withdrawn:
    """A column that tells what was withdrawn."""

    column: str
    why: str
    """why it is no feature"""
    still: tuple[Value, ...]
    """the values of what was not, that of most first; none where it is not certain which these are"""
    yes: tuple[str, ...] = ()
    """texts that stand for the values that are true; none: they are no texts"""
    is_time: bool = False
    """whether its values are times, since which something is withdrawn"""


def still(s: pl.Series) -> tuple[Value, ...] | None:
    """The values of what was not withdrawn, that of most first; None where a column does not say so."""
    known = s.drop_nulls()
    gone, there = (_says(s.name, _WHOLE.format(pattern)) for pattern in (_GONE, _THERE))
    is_flag = is_flags(known)
    gone |= _says(s.name, _GOING) and time_unit(known) is not None
    there |= is_flag and _says(
        s.name, _WHOLE.format(languages.IS_THERE)
    )  # a time of that name is when it was published
    if (gone or there) and len(known):
        if time_unit(s) is not None and (gone or s.null_count()):
            return (None,) if gone else ()  # a time since which something is there may be one to come
        if is_flag:
            yes, no = (True, False) if s.dtype == pl.Boolean else (1, 0)
            is_mark = gone and s.null_count() > 0 and not (known == no).any()  # what is there has none
            return (yes,) if there else (None,) if is_mark else (no,)
    if s.dtype == pl.String and _says(s.name, _STATUS) and known.n_unique() <= _CLASSES:
        out, is_live = _says_so(known, _GONE), _says_so(known, languages.THERE)
        ended = out | _says_so(known, words.NOT_YET)
        if ended.any() and not ended.all():
            left = _by_number(known.filter(~ended))
            if _says_so(known, languages.SERIAL).any():
                is_live |= _says_so(known, f"({languages.SERIAL}|{languages.COMPLETE})")
            told = _by_number(known.filter(is_live | _says_so(known, languages.NEW)))
            return told if is_live.any() and left[:1] == told[:1] else left
    return None


def _going_on(s: pl.Series, there: tuple[Value, ...], shown: Shown) -> tuple[str, ...]:
    """The states in words that nobody knows whose items are shown on as those of what is there are."""
    before, last = shown
    rows = pl.DataFrame({"v": s, "before": before, "last": last}).drop_nulls("v")
    mine = rows.filter(pl.col("v").is_in(there))
    each = rows.filter(~(pl.col("v").is_in(there) | _says_so(rows["v"], f"({_GONE}|{words.NOT_YET})")))
    by = each.group_by("v").agg(pl.col("before", "last").sum()).filter(pl.col("before") >= _SOME)
    usual = int(mine["last"].sum()) / max(1, int(mine["before"].sum()))
    on = by.filter(pl.col("last") >= _AS_OFTEN * usual * pl.col("before")).sort("v")["v"]
    return tuple(str(v) for v in on)


def _says_so(texts: pl.Series, pattern: str) -> pl.Series:
    """[n] whether a state is what the pattern says."""
    return texts.str.to_lowercase().str.replace_all(r"[_-]+", " ").str.contains(rf"^{pattern}$")


def _by_number(s: pl.Series) -> tuple[Value, ...]:
    """The distinct values, that of most rows first."""
    counts = s.value_counts(name=":n").sort(":n", s.name, descending=[True, False])
    return tuple(counts[s.name].to_list())


def withdrawn(
    s: pl.Series, shown: Callable[[], Shown | None] = lambda: None, yes: tuple[str, ...] = ()
) -> Withdrawn | None:
    """What a column of a table that is one state for all days tells of what was withdrawn; None where it does not.

    Args:
        s: a value an id.
        shown: gives how often each of these ids was shown, asked where no word tells it.
        yes: texts that stand for the values that are true; none: they are no texts.
    """
    values, seen = still(s), ""
    told = s.dtype == pl.String and values is not None and None not in values
    if values and told and _says_so(pl.Series([values[0]]), languages.THERE).all() and (rows := shown()) is not None:
        values = (*values, *_going_on(s, values, rows))
    if values is None and may_stop(s) and (rows := shown()) is not None and (found := _stopped(s, rows)) is not None:
        values, seen = found
    if values is None or {*s.unique()} <= {*values}:
        return None
    why = f"{seen}it tells what was withdrawn by the end of the log, which earlier days did not know"
    return Withdrawn(s.name, why, values, yes, is_time=time_unit(s) is not None)


def may_stop(s: pl.Series) -> bool:
    """Whether a column has a few values, as a state has, whatever it is called."""
    is_time = s.dtype.is_nested() or s.dtype.is_temporal() or time_unit(s) is not None
    return not is_time and 2 <= s.n_unique() <= _CLASSES


def _stopped(s: pl.Series, shown: Shown) -> tuple[tuple[Value, ...], str] | None:
    """(the values of ids that are shown on, that of most first, how others stop); None where no value's ids stop as
    none of the others' do.

    An id that goes on as before has no row on the last day with probability exp(-rows expected); of a value that says
    what was withdrawn far more have none, and of the others hardly more. Where ids of every value stop, as news does,
    no value says it.
    """
    text = s.cast(pl.String).rename("v")
    before, last = shown
    scale = last.sum() / max(1, before.sum())
    chance = pl.Series(np.exp(-scale * before))
    rows = pl.DataFrame({"v": text, "p": chance, "gone": pl.Series(last == 0)}).filter(pl.Series(before > 0))
    by = rows.group_by("v").agg(
        pl.len().alias("n"),
        pl.col("gone").sum(),
        (pl.col("gone").sum() - pl.col("p").sum()).alias("more"),
        (1 - pl.col("p")).sum().alias("of"),
        (pl.col("p") * (1 - pl.col("p"))).sum().sqrt().alias("sd"),
    )
    far = pl.max_horizontal(_STOP * pl.col("of"), _SIGMAS * pl.col("sd"))
    out = (pl.col("of") >= _SOME) & (pl.col("more") >= far)
    named = _says_so(pl.Series(by["v"]), f"({_GONE}|{words.NOT_YET})").fill_null(False)  # of few a word alone tells it
    gone, there = by.filter(out), by.filter(~out & ~named).sort("n", "v", descending=[True, False])
    if not len(gone) or float(there["of"].sum()) < max(_SOME, float(gone["of"].sum())):
        return None
    if float(there["more"].sum()) > _GO_ON * float(there["of"].sum()):
        return None
    values = dict(zip(text, s, strict=True))
    names = ", ".join(str(v) for v in sorted(gone["v"].to_list(), key=str))
    many = f"{gone['gone'].sum():,} of {gone['n'].sum():,} items with {names}"
    return tuple(values[v] for v in there["v"]), f"{many} are not shown on the last day, as hardly any other: "


def total(
    s: pl.Series,
    counts: Callable[[pl.Series], float],
    age: Callable[[pl.Series], float] = lambda _: 0.0,
    rate: Callable[[pl.Series], float] = lambda _: 0.0,
    acts: Collection[str] = (),
    pace: Callable[[pl.Series], float] = lambda _: 0.0,
    *,
    of_users: bool = False,
) -> str | None:
    """Why numbers of a table that is one state for all days may count what came later; None where they hardly do.

    Args:
        s: a value an id.
        counts: gives their rank correlation with the log's own counts of these ids, 0 where there are few.
        age: gives that with how long the ids have been there: what readers do adds up, what an item is does not.
        rate: gives that with the log's own rates of clicks and of what came of them.
        acts: columns of clicks and of what came of them.
        pace: gives the rank correlation with the log's own counts times how long the ids have been there.
        of_users: whether the ids are users'.
    """
    known = s.drop_nulls()
    if not s.dtype.is_numeric() or not len(known):
        return None
    several = s.dtype.is_integer() and known.n_unique() > _CLASSES and time_unit(s) is None
    named = _named_so(s.name, known, acts, several=several, of_users=of_users)
    if named is not None or is_measure(s.name):
        return named
    if known.n_unique() > _CLASSES and (r := rate(s)) >= RATED:
        return f"it follows the log's own rates (rank correlation {short(r)}), as a mean of it does: {LATE}"
    if several and known.n_unique() >= _VALUES and has_long_tail(known):
        if (r := counts(s)) >= LOOSELY:
            return f"it follows the log's own counts (rank correlation {short(r)}), as a running total does: {LATE}"
        how = "the longer an id is there"
        if (r := age(s)) >= AGEING:
            return f"{how} the larger it is (rank correlation {short(r)}), as a running total: {LATE}"
        if (r := pace(s)) >= LOOSELY:
            how = f"{how} and the more it is clicked the larger it is"
            return f"{how} (rank correlation {short(r)}), as a running total: {LATE}"
    of_few = of_users and s.dtype.is_integer()  # most users have few orders
    if (several or of_few) and _says(s.name, languages.TOTAL_OF) and not words.says(s.name, languages.MEASURE):
        return f"named like a running total: {LATE}"
    return None


def _named_so(name: str, known: pl.Series, acts: Collection[str], *, several: bool, of_users: bool) -> str | None:
    """Why a column's name says that its numbers count what came later; None where it does not say so. `several`:
    whether they are whole ones, and more than classes have; the others as `total` has them."""
    if (_says(name, _MEANS) or _says(name, languages.MEANS)) and not words.says(name, _CLASS) and _is_mean(known):
        return f"named like a mean of ratings: {LATE}"
    if _says(name, _RATES) or _says(name, languages.RATES):
        return f"named like a rate of what users do: {LATE}"
    if _says(name, _TOTALS) or _says(name, languages.TOTALS):
        return f"named like a running total: {LATE}"
    if known.n_unique() > 1 and _says(name, languages.RECENCY):
        return f"named like how long ago something was done last: {LATE}"
    if of_users and known.n_unique() > _CLASSES // 2 and _says(name, _SPENT) and not words.says(name, _AIM):
        return f"named like how long users were there: {LATE}"
    if several and _says(name, languages.NOW) and not words.says(name, words.PRICE):
        return f"named like a number of that moment: {LATE}"
    if _says(name, languages.STOCK):
        return "named like what is left in stock: its value is that of the day on which the table was written"
    few = of_users and known.dtype.is_integer() and known.n_unique() > 2  # most users have sent few things back
    if (several or few) and (act := _act_of(name, acts)) is not None:
        return f"by its name perhaps a number of {act}, which comes of exposures: {LATE}"
    return None


def goes_with(s: pl.Series, totals: Mapping[str, pl.Series]) -> str | None:
    """Why numbers of a table that is one state for all days are a running total, as another one of them that they
    go with is; None where they go with none, or have the name of a measure.

    Args:
        s: a value an id, as those of the running totals are.
    """
    known = s.drop_nulls()
    if not s.dtype.is_numeric() or known.n_unique() < _VALUES or not has_long_tail(known):
        return None
    if is_measure(s.name) or words.says(s.name, _AIM):
        return None
    r, c = max(((rank_correlation(s, x), c) for c, x in totals.items() if c != s.name), default=(0.0, ""))
    if r < _BESIDE:
        return None
    return f"it goes with {c}, a running total (rank correlation {short(r)}): {LATE}"


def is_measure(c: str) -> bool:
    """Whether a name is that of a code, a price, a length or a size, which nobody's clicks change."""
    coded = words.is_named_id(c) or words.says(c, words.CODE)
    return coded or any(words.says(c, pattern) for pattern in (_MEASURE, _LEAST, words.PRICE, words.SPENT))


def _act_of(c: str, acts: Collection[str]) -> str | None:
    """The column of clicks, or of what came of them, of which a name says how many, as `antall_foresporsler` does of
    `foresporsel`: its words are those of the act and of a number alone."""
    bare = re.sub(rf"{languages.COUNT_OF}|{languages.TOTAL_OF_WORD}", " ", words.words(c)).split()
    for act in acts:
        of = [w for w in words.words(act).split() if len(w) >= _LETTERS and w not in _PLAIN]
        if bare and of and all(any(_is_same(w, x) for x in of) for w in bare):
            return act
    return None


def _is_same(one: str, other: str) -> bool:
    """Whether two words are one but for their ends, as orders and ordered are."""
    stem = max(_LETTERS, min(len(one), len(other)) - 2)
    return one[:stem] == other[:stem]


def _is_mean(known: pl.Series) -> bool:
    return known.n_unique() > _CLASSES or (known.dtype.is_float() and share(known % 1 != 0) > 0)


def rates(ids: pl.Series, events: pl.Series, clicked: pl.Series, outcomes: Mapping[str, pl.Series]) -> list[pl.Series]:
    """[n] of each id clicks an event, and of its clicks the share with each outcome; null of fewer than ten of these.

    Args:
        events: [m] the id of each event, as clicked and outcomes are of events, of 0 and 1.
    """
    if ids.dtype != events.dtype:
        return []
    named = {f"::{name}": x & clicked for name, x in outcomes.items()}
    rows = pl.DataFrame({"id": events, ":click": clicked, **named}).drop_nulls("id")
    of = rows.group_by("id").agg(pl.len().alias(":n"), pl.col(":click", *named).sum())
    clicks, n = pl.col(":click"), pl.col(":n")
    shares = [pl.when(clicks >= _MANY).then(pl.col(name) / clicks) for name in named]
    made = of.select("id", pl.when(n >= _MANY).then(clicks / n).alias(":click"), *shares)
    beside = pl.DataFrame({"id": ids}).join(made, on="id", how="left", maintain_order="left")
    return [s for s in beside.drop("id") if s.drop_nulls().n_unique() > 1]


def rank_correlation(values: pl.Series, counts: pl.Series) -> float:
    """Spearman's, over ids that have events; 0 where these are few.

    Args:
        values: [n] of ids; nulls are allowed.
        counts: [n] events, or clicks.
    """
    known = pl.DataFrame([values.alias("x"), counts.alias("n")]).drop_nulls().filter(pl.col("n") > 0)
    if len(known) < _IDS:
        return 0.0
    found = known.select(pl.corr("x", "n", method="spearman")).item()
    return 0.0 if found is None or found != found else float(found)


def ageing(values: pl.Series, since: pl.Series) -> float:
    """Rank correlation with how long ids have been there; 0 where few are known.

    Args:
        values: [n] of ids; nulls are allowed.
        since: [n] days.
    """
    days = since.cast(pl.Int32)
    return rank_correlation(values, 1 + int(days.max() or 0) - days)  # type: ignore[arg-type]


def is_of_test(s: pl.Series) -> str | None:
    """Why a column is the group of a test, by its name or as one of a few texts is a word for control; None where it is
    none."""
    if _says(s.name, _TEST) or _says(s.name, languages.TEST):
        return "named like a test's group"
    if s.dtype != pl.String or not 2 <= s.drop_nulls().n_unique() <= _CLASSES:
        return None
    texts = s.drop_nulls().unique().sort().to_list()
    control = next((text for text in texts if re.search(languages.CONTROL, words.words(text))), None)
    return None if control is None else f"one of its {len(texts)} texts is {control!r}, as of a test's groups"


def says_nothing(s: pl.Series) -> str | None:
    """Why a column is neither of a user nor of an item, whatever varies with it: the group of a test, a program's name
    with its version, an index of rows."""
    if (why := is_of_test(s)) is not None:
        return f"{why}: it ends with the test"
    if _says(s.name, words.DAY_KEY):
        return "the key of a day: no other day has it"
    if _says(s.name, _AGENT):
        return "a program's name with its version, which each release changes"
    if _INDEX.fullmatch(s.name) and s.dtype.is_integer():
        return "an index of rows, as pandas writes it"
    return None


def is_machine(s: pl.Series) -> str | None:
    """Why a column of the events that varies with every exposure is the machine that wrote the row, by its name; by a
    weaker one only where its texts are numbered, as web-01 and 10.0.0.7 are; None where it is none."""
    named, known = _says(s.name, words.MACHINE), s.drop_nulls()
    if not named and _says(s.name, words.PERHAPS_MACHINE) and s.dtype == pl.String:
        texts = known.unique()
        bare = texts.str.replace_all(r"\d+", "#")
        named = 2 * bare.n_unique() <= len(texts) and share(bare != texts) == 1
    return "which machine wrote the row, by its name" if named else None


def _says(c: str, pattern: str) -> bool:
    return words.says_all(c, pattern)


def clicks_of(events: pl.DataFrame, roles: Roles) -> pl.Series:
    """[n] which rows are clicks: all where no column tells."""
    clicked = roles.clicked(events)
    return pl.Series([True]).new_from_index(0, len(events)) if clicked is None else clicked


def total_of(
    frame: pl.DataFrame, key: str, events: pl.DataFrame, roles: Roles, side: str
) -> Callable[[pl.Series], str | None]:
    """Tells why a column of a table, of one row an id, may count what came later: see `total`."""
    counts, since = _counted(frame[key], events, roles, side), born(frame, key)
    flags = [g.column for g in (roles.conversion, *roles.outcomes) if g is not None and g.column in events.columns]
    of_clicks = {c: clicks(events[c]) for c in flags if is_binary(events[c])}
    of = rates(frame[key], events[getattr(roles, side).column], clicks_of(events, roles), of_clicks)

    def follows(s: pl.Series, others: list[pl.Series]) -> float:
        return max((rank_correlation(s, n) for n in others), default=0.0)

    return partial(
        total,
        counts=lambda s: follows(s, counts),
        age=lambda s: 0.0 if since is None else ageing(s, since),
        rate=lambda s: follows(s, of),
        acts=acts_of(roles),
        pace=lambda s: 0.0 if since is None else follows(s, [n * _lasting(since) for n in counts]),
        of_users=side == "user",
    )


def _lasting(since: pl.Series) -> pl.Series:
    """How many times the days of a log ids are there: what comes at one pace adds up with them."""
    days = since.cast(pl.Int32)
    last = days.max()
    assert isinstance(last, int)
    return (1 + last - days).clip(_WINDOW) / _WINDOW


def acts_of(roles: Roles) -> list[str]:
    """The columns that say whether an exposure was clicked, and whether something came of it."""
    named = [roles.click, roles.conversion, *roles.further.values()]
    return [g.column for g in named if g is not None] + sorted(roles.rows)


def _counted(ids: pl.Series, events: pl.DataFrame, roles: Roles, side: str) -> list[pl.Series]:
    """[n] clicks of each id in the sample, and where a column tells a good click these."""
    column, good = getattr(roles, side).column, roles.conversion
    kinds = {"clicks": clicks_of(events, roles)}
    if good is not None and good.column in events.columns:
        kinds["good"] = clicks(events[good.column])
    rows = pl.DataFrame({"id": events[column], **{what: x.cast(pl.Int64) for what, x in kinds.items()}})
    if ids.dtype != rows.schema["id"]:
        return []
    of = rows.group_by("id").agg(pl.col(*kinds).sum())
    beside = pl.DataFrame({"id": ids}).join(of, on="id", how="left", maintain_order="left")
    return [beside[what].fill_null(0) for what in kinds]
