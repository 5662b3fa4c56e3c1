"""Logs whose rows are no exposures: a column says what somebody did, or lists have what was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from dmtl_cli.data.log.values.types import iso_times
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import polars_column
from dmtl_cli.guess.columns.values import FEW, is_constant, share, values_in, within
from dmtl_cli.guess.reading.texts import as_lists

LOOKS = "looks like one row a behaviour"
"""is in what is said of such a log"""
_MOST = 30  # behaviours
_BEFORE = 0.3  # of the rows that are no exposure have one of their user and item before them, where words tell it
_ORDERED = 0.8  # where no word tells it
_OF_ITEMS = 0.05  # of the rows of a kind have an item, of what is done with items
_CHANCE = 0.5  # as many at most, by chance
_LISTED = 0.98  # of the rows of a kind have a list of what was shown
_NAMED = 0.5  # of the ids of other kinds are elements of such lists
_READ = 0.99  # of the texts of times are read as such
_UNDONE = words.any_of(
    "remove[a-z]* delete[a-z]* cancel[a-z]* refund[a-z]* return[a-z]* dislike[a-z]*"
    " unlike[a-z]* unfav[a-z]* hide skip[a-z]* report quitar[a-z]* elimin[a-z]* devol[a-z]*"
    " storn[a-z]* entfern[a-z]* gelöscht supprim[a-z]* retir[a-z]* rimu[a-z]* rimo[a-z]*"
    " verwijder[a-z]* çıkar[a-z]* cikar[a-z]* silme удал\\w* отмен\\w* 取消\\w* 删除\\w* 移除\\w*"
    " 削除\\w*"
)
_GOOD = {
    "cart": words.any_of(
        "cart addtocart added basket carrito carrinho cesta warenkorb panier carrello winkelwagen"
        " sepet\\w* корзин\\w* 加购\\w* \\w*购物车 カート\\w* 장바구니"
    ),
    "buy": words.any_of(
        "buy bought purchase[a-z]* order[a-z]* transaction paid pay payment apply applied application bewerb\\w*"
        " candidat\\w* postul\\w* 応募\\w* compra compras"
        " comprado comprar comprou pedido kauf\\w* gekauft bestell\\w* achat\\w* achet\\w*"
        " commande\\w* acquist\\w* ordine koop gekocht aankoop satın\\w* satin sipariş\\w*"
        " покуп\\w* заказ\\w* купл\\w* 购买\\w* 下单\\w* 支付\\w* 購入\\w* 구매"
    ),
    "like": words.any_of(
        "like[a-z]* fav[a-z]* heart save[a-z]* bookmark[a-z]* gusta guardad\\w* curti\\w* gefällt"
        " merken gemerkt aime preferit\\w* piace beğen\\w* begen\\w* нравится лайк\\w* избран\\w*"
        " okiniiri 点赞\\w* 收藏\\w* いいね お気に入り 좋아요"
    ),
    "share": words.any_of("share[a-z]* compart\\w* teilen geteilt partag\\w* condivi\\w* 分享\\w* シェア 공유"),
    "finish": words.any_of("finish[a-z]* complet[a-z]* 完播\\w*"),
}
BEST = ("buy", "cart", "like", "finish", "share", "good")
"""what is good, from what is wanted most"""
_CLICK = words.any_of(
    "cli[ckq]\\w* clk\\w* kli[ck]\\w* tap taps tapped tıkla\\w* tikla\\w* select selected"
    " клик\\w* нажат\\w* 点击\\w* 點擊\\w* クリック\\w* 클릭"
)
_OPENED = words.any_of("open opened enter[a-z]*")
"""a click too, but of an app, a hint or a menu as well as of what was shown"""
_EXPOSURE = words.any_of(
    "pv view views viewed pageview impression[a-z]* imp impr exp expos[a-z]* show shown"
    " display[a-z]* serve[a-z]* deliver[a-z]* vista vistas visto visualiz\\w* impres\\w* mostrad\\w*"
    " exibi\\w* vue vues vu affich\\w* ansicht\\w* anzeige\\w* angezeigt gezeigt gesehen"
    " ausgespielt einblendung\\w* weergave\\w* getoond bekeken görüntül\\w* goruntul\\w*"
    " gösteri\\w* gosteri\\w* показ\\w* просмотр\\w* 曝光\\w* 展示\\w* 浏览\\w* 表示\\w* 閲覧\\w*"
    " インプレッション 노출 조회"
)
_SEEN = words.any_of(
    "pv view views viewed pageview visit[a-z]* detail[a-z]* watch[a-z]* play[a-z]* read vista vue vu просмотр\\w*"
    " 浏览\\w* 조회 閲覧\\w*"
)
_SHOWN = (
    "(shown|displayed|exposed|impressed|impressions|served|recommended|recs|candidates|slate|items|products|videos"
    "|articles|movies)"
)


@dataclass(frozen=True)
class Behaviours:
    """The values of a column that says what each row is."""

    column: str
    exposure: tuple[str, ...]
    click: tuple[str, ...]
    good: dict[str, tuple[str, ...]]
    """values by the column of 0 and 1 that they make"""
    left: tuple[str, ...]
    """those that make none"""

    @property
    def better(self) -> list[str]:
        """All kinds that are good."""
        return [v for some in self.good.values() for v in some]

    @property
    def said(self) -> str:
        good = ", ".join(f"{', '.join(values)} ({name})" for name, values in self.good.items())
        kinds = {"exposure": ", ".join(self.exposure), "click": ", ".join(self.click), "conversion": good}
        kinds["left out"] = ", ".join(self.left)
        return "; ".join(f"{kind} {values}" for kind, values in kinds.items() if values)


def behaviour_of(frame: pl.DataFrame, roles: Roles) -> Guess | None:
    """The column that says what each row is: of few texts, among them words of an exposure and of a click or something
    better, or named like an action, or of which one mostly precedes the others for a user and item; None where none
    is. Of several the one named so, then the one whose exposures precede most."""
    found: list[tuple[bool, float, str]] = []
    for c in frame.columns:
        s = frame[c]
        if c in roles.taken or s.dtype != pl.String or not 2 <= s.drop_nulls().n_unique() <= _MOST:
            continue
        values, named = values_of(frame, c, roles), words.by_name(c, words.BEHAVIOUR) > 0
        if named and not _by_words(s) and (roles.item is None or roles.owns(frame, c)):
            continue  # an attribute, as far as anything tells
        before = _before(frame, values, roles) if values else None
        told = values is not None and _by_words(frame[c]) and (before is None or before >= _BEFORE)
        ordered = values is not None and not told and before is not None and _is_ordered(frame, values, roles, before)
        if named or told or ordered:
            found.append((named, before or 0.0, c))
    if not found:
        return None
    best = max(found, key=lambda one: one[:2])[2]
    values = values_of(frame, best, roles)
    return Guess(best, f"{best} {LOOKS}: {values.said if values else _shares(frame[best])}")


def values_of(frame: pl.DataFrame, column: str, roles: Roles) -> Behaviours | None:
    """The values of a column sorted into what they say, by words, else by how many and when; None where one kind is
    all."""
    counts = frame[column].drop_nulls().value_counts(sort=True, name=":n")
    every = [str(v) for v in counts[column]]
    kinds = {v: _kind(v) for v in every}
    done = {v for v, kind in kinds.items() if kind not in ("", "exposure")}
    if not done <= (bare := _without_items(frame, column, roles)):  # else the rows of clicks name exposures alone
        kinds |= dict.fromkeys(done & bare, "")
    told = {*kinds.values()} - {""}
    if "exposure" not in told and (lists := _of_lists(frame, column)):
        rest = [v for v in every if v not in lists]
        kinds |= dict.fromkeys(lists, "exposure") | ({} if told else dict.fromkeys(rest, "good") | {rest[0]: "click"})
    elif not told:
        kinds = dict.fromkeys(every, "good") | dict(zip(every, ("exposure", "click"), strict=False))
    elif "exposure" not in told and not kinds[every[0]] and _precedes(frame, column, every[1:], every[:1], roles):
        kinds[every[0]] = "exposure"
    elif "exposure" not in told and "click" in told:  # each click is an exposure
        kinds = {v: "exposure" if kind == "click" else kind for v, kind in kinds.items()}
    of = {kind: tuple(v for v in every if kinds[v] == kind) for kind in ("exposure", "click", "", *_GOOD, "good")}
    good = {name: of[name] for name in (*_GOOD, "good") if of[name]}
    found = Behaviours(column, of["exposure"], of["click"], good, of[""])
    found = found if of["click"] or good else with_click(frame, found, roles)
    return found if of["exposure"] and (found.click or good) else None


def with_click(frame: pl.DataFrame, values: Behaviours, roles: Roles) -> Behaviours:
    """The kinds, of which none is a click by its words, with the one of most rows, in words that nobody knows, where it
    follows exposures and is not rarer than what is good."""
    counts = dict(frame[values.column].drop_nulls().value_counts(name=":n").iter_rows())
    bare = _without_items(frame, values.column, roles)
    left = [v for v in values.left if v not in bare and not words.says(v, _UNDONE)]
    first = max(left, key=lambda v: counts[v], default=None)
    if first is None or not bare.isdisjoint(values.exposure):
        return values
    rarer = counts[first] < max((counts[v] for v in values.better), default=0)
    if rarer or not _precedes(frame, values.column, [first], values.exposure, roles):
        return values
    return replace(values, click=(first,), left=tuple(v for v in values.left if v != first))


def _without_items(frame: pl.DataFrame, column: str, roles: Roles) -> set[str]:
    """The kinds of rows that have no item, as of an app that was opened."""
    if roles.item is None or not frame[roles.item.column].null_count():
        return set()
    each = frame.group_by(column).agg(pl.col(roles.item.column).is_not_null().mean().alias("there"))
    return {*each.filter(pl.col("there") < _OF_ITEMS)[column].drop_nulls().cast(pl.String)}


def _of_lists(frame: pl.DataFrame, column: str) -> set[str]:
    """The kinds whose rows alone have a list, nearly each of them, of what a column of the other kinds names, and of
    more elements than these have rows: of what was shown, as there is less of what was bought."""
    for c in (c for c, kind in frame.schema.items() if kind == pl.List):
        length = pl.col(c).list.len().fill_null(0)
        kinds = frame.drop_nulls(column).group_by(column)
        each = kinds.agg(rows=pl.len(), listed=(length > 0).mean(), elements=length.sum())
        mine, rest = each.filter(pl.col("listed") >= _LISTED), each.filter(pl.col("listed") < _LISTED)
        if not len(rest) or rest["elements"].sum() or mine["elements"].sum() <= rest["rows"].sum():
            continue
        others, elements = frame.filter(pl.col(column).is_in(rest[column].implode())), frame[c].drop_nulls().explode()
        ids = (s.drop_nulls() for s in others if s.dtype == pl.String or s.dtype.is_integer())
        if any(s.n_unique() > FEW and within(s, elements) >= _NAMED for s in ids):
            return {*mine[column].cast(pl.String)}
    return set()


def _precedes(frame: pl.DataFrame, column: str, later: Sequence[str], shown: Sequence[str], roles: Roles) -> bool:
    """Whether rows of some kinds come before some rows of others, of the same user and item, where no word says what
    they are."""
    rows = frame.filter(pl.col(column).is_in([*shown, *later]))
    before = _before(rows, Behaviours(column, (*shown,), (*later,), {}, ()), roles)
    return before is not None and before >= _BEFORE


def _kind(value: str) -> str:
    if words.says(value, _UNDONE):
        return ""
    good = next((name for name, pattern in _GOOD.items() if words.says(value, pattern)), None)
    clicked = is_click(value) or words.says(value, _OPENED)
    return good or ("click" if clicked else "exposure" if words.says(value, _EXPOSURE) else "")


def rank_of(name: str) -> int | None:
    """The place among what is good, from what is wanted most, of what a name says; None where it says none."""
    kind = _kind(name)
    return BEST.index(kind) if kind in _GOOD else None


def is_click(value: str) -> bool:
    """Whether a kind says a click by its word, and not that something was opened."""
    return words.says(value, _CLICK)


def is_clicked(name: str) -> bool:
    """Whether a column's name says what was clicked, or opened."""
    named = words.by_name(name, words.CLICK + words.CLICKED + words.OPENED) > 0
    return (named or is_click(name)) and not words.says(name, words.NOT_GOOD)


def is_no_more(value: str) -> bool:
    """Whether a kind says a click by its word, or that it came to nothing."""
    return _kind(value) == "click" or words.says(value, words.NOT_GOOD) or words.says(value, _UNDONE)


def is_seen(value: str) -> bool:
    """Whether a kind says that somebody opened the item, as a view of its page does, where no other says a click."""
    return words.says(value, _SEEN)


def _by_words(s: pl.Series) -> bool:
    kinds = {_kind(str(v)) for v in s.drop_nulls().unique()} - {""}
    return len(kinds) >= 2 and bool(kinds & {"exposure", "click"})


def _shares(s: pl.Series) -> str:
    top = s.value_counts(sort=True, name=":n").head(4)
    return ", ".join(f"{v} {n / len(s):.0%}" for v, n in top.iter_rows())


def _before(frame: pl.DataFrame, values: Behaviours, roles: Roles, said: pl.Series | None = None) -> float | None:
    """Share of the rows that are no exposure of which one of the same user and item came before, or at the same time;
    None where there are few, or user and item are not known.

    Args:
        said: what the rows are, in place of the column.
    """
    if roles.user is None or roles.item is None:
        return None
    at = _times(frame, roles)
    rows = frame.select(pl.col(roles.user.column).alias("u"), pl.col(roles.item.column).alias("i"))
    rows = rows.with_columns(at.alias("t"), (frame[values.column] if said is None else said).alias("v")).drop_nulls()
    first = rows.filter(pl.col("v").is_in(values.exposure)).group_by("u", "i").agg(pl.col("t").min().alias("first"))
    later = rows.filter(~pl.col("v").is_in(values.exposure)).join(first, on=["u", "i"], how="left")
    return share(later["first"] <= later["t"]) if len(later) >= FEW else None


def _is_ordered(frame: pl.DataFrame, values: Behaviours, roles: Roles, before: float) -> bool:
    """Whether exposures precede the other rows far more often than by chance, of values that are no attribute."""
    if roles.time is None or before < _ORDERED or roles.owns(frame, values.column):
        return False
    s = frame[values.column]
    chance = _before(frame, values, roles, s.gather(np.random.default_rng(0).permutation(len(s))))
    return chance is not None and chance <= _CHANCE * before


def _times(frame: pl.DataFrame, roles: Roles) -> pl.Series:
    """What orders the rows: their times, else their places."""
    order = pl.Series("t", range(len(frame)))
    if roles.time is None:
        return order
    s = frame[roles.time.column].alias("t")
    if s.dtype != pl.String or roles.time_unit == "day":
        return s
    read = iso_times(s)
    return read if read.count() >= _READ * s.count() else order


def list_of_shown(frame: pl.DataFrame, ids: Sequence[str]) -> str | None:
    """The column whose lists may be what was shown, of a log without an item: that with most values; None where no
    column has such. Lists that are the same in all rows of an id are its tags, and where there is such an id, a list is
    what was shown by its name alone.

    Args:
        ids: columns that may be the item.
    """
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List)]
    own = {c for c in lists if any(is_constant(frame, key, c) for key in ids)}
    unnamed = {c for c in lists if ids and not words.says(c, _SHOWN)}
    left = [c for c in lists if c not in own | unnamed and is_list_of_ids(frame[c])]
    values = {c: values_in(frame[c]) for c in left}
    shown = max(values, key=lambda c: len(values[c]), default=None)
    return shown if shown is not None and values[shown].n_unique() > FEW else None


def is_list_of_ids(s: pl.Series) -> bool:
    """Whether values are lists of texts or of whole numbers."""
    return isinstance(s.dtype, pl.List) and (s.dtype.inner == pl.String or s.dtype.inner.is_integer())


def lists_in_text(s: pl.Series) -> str | None:
    """What texts that are all lists of one type are, with a line of polars that makes lists of them, which was tried on
    these texts; None where they are none."""
    found = as_lists(s) if s.dtype == pl.String else None
    if found is None:
        return None
    assert isinstance(found.dtype, pl.List)
    inner = found.dtype.inner
    values, lengths = "texts" if inner == pl.String else "numbers", found.drop_nulls().list.len().unique().to_list()
    what = f"lists of {f'{lengths[0]} ' if len(lengths) == 1 else ''}{values} as text; write them as lists"
    for way, made in _decoded(pl.col(s.name), inner):
        try:
            fits = s.to_frame().select(made)[s.name].equals(found)
        except pl.exceptions.PolarsError:
            continue
        if fits:
            return f"{what}, in polars log.with_columns({polars_column(s.name)}{way})"
    return what


def _decoded(column: pl.Expr, inner: object) -> list[tuple[str, pl.Expr]]:
    """(behind the column's name, the same as it is computed): JSON, then numbers and texts as pandas writes them."""
    kind = pl.List(inner)  # type: ignore[arg-type]
    ways = [(f".str.json_decode(pl.List(pl.{inner}))", column.str.json_decode(kind))]
    if inner == pl.String:
        bare = column.str.extract_all("'[^']*'").list.eval(pl.element().str.strip_chars("'"))
        ways.append((""".str.extract_all("'[^']*'").list.eval(pl.element().str.strip_chars("'"))""", bare))
    else:
        numbers = column.str.extract_all(r"[^\s,\[\]]+").cast(kind)
        ways.append((rf""".str.extract_all(r"[^\s,\[\]]+").cast(pl.List(pl.{inner}))""", numbers))
    return ways
