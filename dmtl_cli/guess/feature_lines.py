"""The features and joined tables of a config that `init` writes, and text as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import polars as pl

from dmtl_cli.config.automatic import automatic, name_of
from dmtl_cli.config.data import Events
from dmtl_cli.config.features import Feature
from dmtl_cli.guess.columns import words
from dmtl_cli.guess.columns.languages import without_marks
from dmtl_cli.guess.columns.roles import Guess, Roles
from dmtl_cli.guess.columns.sql import comment, flow, quoted, scalar
from dmtl_cli.guess.features.inputs import Input, Inputs
from dmtl_cli.guess.features.requests import UNSERVED
from dmtl_cli.guess.features.telling import QUESTION
from dmtl_cli.guess.outcomes.lengths import is_length_or_none
from dmtl_cli.guess.outcomes.tables import Outcomes
from dmtl_cli.guess.sides.states import LATE

_ITEM = ":item"  # the embedding of items, in guesses
_LATE = re.compile(rf": {LATE}$|^that of the end of the log; ")
"""what is said above all that is held back"""
_AUTO = "ids, histories of clicks and reads, counters, rates, age: docs/config.md"
_SHARED, _SEVERAL, _SHORT = 0.01, 5, 40  # of users have a value, and users, and its letters, to be shown
_GUEST = re.compile(words.GUEST, re.IGNORECASE)
_WHOLE = str.maketrans({"ß": "ss", "Ø": "O", "Ł": "L", "Đ": "D", "æ": "ae", "œ": "oe"})
"""letters that are no letter and a mark, beside those of `without_marks`"""


def feature_lines(roles: Roles, inputs: Inputs) -> list[str]:
    """`auto`, and what the log's own columns give beneath it; all in full where an id's name is none of a feature."""
    why = _unused(inputs.unused)
    events = _known(roles)
    if later := unwritten(roles, inputs):
        again = "run init again with the options that EDIT names: it tells which of these are features"
        return [*why, f"features: auto  # {again}: {comment(', '.join(later))}"]
    if events is None or not (inputs.used or inputs.held or _renamed(roles)):
        return [*why, f"features: auto  # {_AUTO}"]
    made = automatic(events)
    named = _names(inputs, made)
    names = {f.name for f in made} | {*named.values()}
    used, held = ([_input(each, named, made) for each in some] for some in (inputs.used, inputs.held))
    lines = ["features:"]
    if _renamed(roles):
        columns = {"user": roles.user, "item": roles.item}
        lines += [f"  - {flow(_as_given(f, g.column))}" for f in made if (g := columns[f.side]) is not None]
    else:
        lines.append(f"  - auto  # {_AUTO}")
    own = [(each, f"  - {flow(keys)}  # {comment(_above(each))}") for each, keys in used]
    mine = [line for side in ("user", "item") for each, line in own if each.side == side]
    if held:
        mine.append("  # values of the end of the log; a feature where it was so before the day:")
        mine += [f"  # - {flow(keys)}  # {comment(_LATE.sub('', each.why))}" for each, keys in held]
    context = [line for each, line in own if each.side == "context"]
    note = [f"  # {QUESTION}:"] if context else []
    if asked := [keys["name"] for each, keys in used if each.of_request]:
        note.append(f"  # {', '.join(asked)}: {UNSERVED}")
    return [*lines, *mine, *note, *context, *why, *_crosses(used, names)]


def _unused(columns: Sequence[Guess]) -> list[str]:
    """A comment for each reason, with all columns of it, those of several tables once."""
    by: dict[str, dict[str, None]] = {}
    for g in columns:
        by.setdefault(comment(g.why), {})[comment(g.column)] = None
    return [f"# {', '.join(names)}: not used: {why}" for why, names in by.items()]


def _above(each: Input) -> str:
    """Its reason, less the question that stands above all that are known of an exposure."""
    return each.why.removesuffix(f": {QUESTION}") if each.side == "context" else each.why


def _names(inputs: Inputs, made: tuple[Feature, ...]) -> dict[tuple[str, str], str]:
    """The features' names by side and column.

    Args:
        made: the features that `auto` has.
    """
    names, named = {f.name for f in made}, dict[tuple[str, str], str]()
    for each in (*inputs.used, *inputs.held):
        name = unique(feature_name(each.source, each.side, names), names, each.side)
        named[each.side, each.column] = name
        names.add(name)
    return named


def guest(roles: Roles, inputs: Inputs, events: pl.DataFrame) -> str | None:
    """`NAME=VALUE` of a feature by which somebody without an id is answered: the first value that is named like a
    guest, else the most frequent one of the first of the classes that are known of users. More than 1% of them, and
    several, have it; None where there is none."""
    known = _known(roles)
    if known is None or roles.user is None:
        return None
    named = _names(inputs, automatic(known))
    mine = [i for i in inputs.used if i.side == "user" and i.kind in ("categorical", "sequence")]
    top = list[str]()
    for each in sorted(mine, key=lambda i: i.kind):  # one value is shorter than a list
        for value in _shared(each, roles.user.column, inputs, events):
            text = json.dumps([value] if each.kind == "sequence" else value, ensure_ascii=False)
            plain = value if each.kind == "categorical" and isinstance(value, str) else text
            if not (plain.isprintable() and 0 < len(plain) <= _SHORT):
                continue
            told = f"{named[each.side, each.column]}={plain}"
            if isinstance(value, str) and _GUEST.fullmatch(value):
                return told
            top.append(told)
    return top[0] if top else None


def _shared(each: Input, user: str, inputs: Inputs, events: pl.DataFrame) -> list[Any]:
    """The values of a feature that more than 1% of users, and several, have, the most frequent first."""
    if each.kind == "sequence" and each.options.get("embedding_name") == _ITEM:
        return []  # what they read, which is nothing of a guest
    side, of, key = inputs.sides.get("users"), events, user
    if side is not None and each.column in side.table.frame.columns:
        of, key = side.table.frame, side.key.column
    column = inputs.shown[each.column].column if each.column in inputs.shown else each.column
    s = of.unique(key, keep="first", maintain_order=True)[column]
    if each.kind == "sequence":
        cut = each.options.get("separator")
        s = (s.str.split(cut) if cut and s.dtype == pl.String else s).list.first()
    there = (s.filter(s.is_finite()) if s.dtype.is_float() else s).drop_nulls()
    top = there.value_counts(name=":n").sort(":n", s.name, descending=[True, False])
    values = top.filter(pl.col(":n") > max(_SHARED * len(s), _SEVERAL - 1))[s.name].to_list()
    return [int(v) if isinstance(v, float) else v for v in values]


def _crosses(used: list[tuple[Input, dict[str, Any]]], names: Set[str]) -> list[str]:
    """A line that has the teacher count the equal values of a user and an item, where they read one embedding."""
    shared = [
        (keys["name"], of) for each, keys in used
        if (of := keys.get("embedding_name")) in names and each.side == "user" and "level" not in keys
        and of in {item["name"] for it, item in used if it.side == "item"}
    ]  # fmt: skip
    pairs = ", ".join(f"{{user: {user}, item: {item}}}" for user, item in shared)
    why = "the teacher also counts their equal values, which no tower can"
    return [f"# teacher: {{crosses: [{pairs}]}}  # {why}"] if shared else []


def unwritten(roles: Roles, inputs: Inputs) -> list[str]:
    """Columns that would be features and are none yet: without a label it cannot be told what came of an exposure."""
    return [i.column for i in inputs.used] if _known(roles) is None else []


def _known(roles: Roles) -> Events | None:
    """The events that `features: auto` is made for, with names that a feature can have; None where labels lack."""
    if roles.user is None or roles.item is None or (roles.duration is None) == (roles.conversion is None):
        return None
    named = {role: "x" for role in ("click", "duration", "conversion") if getattr(roles, role) is not None}
    user, item = (feature_name(g.column, side, set()) for side, g in (("user", roles.user), ("item", roles.item)))
    return Events(user=user, item=item, **named)  # type: ignore[arg-type]


def _renamed(roles: Roles) -> bool:
    """Whether an id has a name by which `auto` would name features otherwise, as `ürün_no` or `item_id:token`."""
    ids = (("user", roles.user), ("item", roles.item))
    return any(g is not None and feature_name(g.column, side, set()) != name_of(g.column) for side, g in ids)


def _input(
    each: Input, named: Mapping[tuple[str, str], str], made: tuple[Feature, ...]
) -> tuple[Input, dict[str, Any]]:
    """The keys of a feature.

    Args:
        named: the features' names by side and column.
    """
    name = named[each.side, each.column]
    keys: dict[str, Any] = {"name": name, "side": each.side, "kind": each.kind}
    if name != each.source:
        keys["column"] = each.source
    options = dict(each.options)
    if options.get("embedding_name") == _ITEM:
        options["embedding_name"] = next(f.name for f in made if f.side == "item" and f.kind == "categorical")
    elif (shared := options.get("embedding_name")) is not None:
        options["embedding_name"] = named["item", shared]
    return each, keys | options


def _as_given(f: Feature, column: str) -> dict[str, Any]:
    """A feature's keys as a person writes them."""
    keys = f.model_dump(exclude_unset=True)
    if f.profile is None:
        keys["column"] = column
        return {k: v for k, v in keys.items() if not (k == "column" and v == f.name)}
    return keys | {"profile": f.profile.model_dump(exclude_unset=True)}


def feature_name(column: str, side: str, taken: Set[str]) -> str:
    """A column's name as a feature's: `posição` is posicao; one in another script is called by its side.

    Args:
        taken: names of other features; an id is named before there are any.
    """
    letters = without_marks(words.bare(column).translate(_WHOLE))
    if any(c.isalpha() and not c.isascii() for c in letters):
        return f"{side}_id" if not taken else f"{side}_feature"
    name = re.sub(r"[^A-Za-z0-9_]", "_", letters)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def unique(name: str, names: Set[str], side: str) -> str:
    """A name that none of the others is."""
    if name in names and not name.startswith(f"{side}_"):
        name = f"{side}_{name}"
    k, first = 2, name
    while name in names:
        name, k = f"{first}_{k}", k + 1
    return name


def indented(lines: list[str]) -> list[str]:
    """Lines of a block below a key."""
    return [f"  {line}" for line in lines]


def joined_lines(found: Sequence[Outcomes], place: Callable[[Outcomes], list[str]]) -> list[str]:
    """The tables of what came of exposures, as `data.events.joined` has them.

    Args:
        place: keys that say where a table is, and which of its rows are read.
    """
    lines = ["joined:  # what came of exposures: never features"] if found else []
    for one in found:
        keys = [*place(one), *([f"computed: {flow({one.key: one.computed[1]})}"] if one.computed else [])]
        keys.append(f"key: {scalar(one.key)}")
        keys += [f"event_key: {scalar(one.event_key)}"] if one.key != one.event_key else []
        keys += [f"through: {scalar(one.through)}"] if one.through else []
        keys += [f"item: {scalar(one.item[1])}"] if one.item else []
        keys += [f"unique: {scalar(one.copies.column)}  # {comment(one.copies.why)}"] if one.copies else []
        if (wait := one.wait) is not None:
            why = "a row is of each exposure of its id that was shown at most so long before it: say it otherwise here"
            told = f"; {comment(wait.told)}" if wait.told else ""
            keys += [f"time: {scalar(wait.came[0])}", f"within: {wait.within}  # {why}{told}"]
        if one.days_after or one.said_of_days:
            said = f"  # {comment(one.said_of_days)}" if one.said_of_days else ""
            keys.append(f"days_after: {one.days_after}{said}" if one.days_after else f"# days_after: 1{said}")
        lines += [f"  {one.name}:  # {comment(one.why)}", *(f"    {key}" for key in keys)]
        lines.append("    columns:")
        for c, text in one.columns.items():
            is_state = c.startswith("its_") and text.startswith("MAX(")  # of texts: see `aggregates.states_of`
            told = "  # one value of nearly each exposure that has rows" if is_state else ""
            if is_length_or_none(text):
                told = "  # written again while it lasts: without a row it did not last"
            lines.append(f"      {scalar(c)}: {quoted(text)}{told}")
        lines += [f"    # not used: {comment(', '.join(one.left))}"] if one.left else []
    return lines
