"""Raw values that somebody gives for a user or an item, in place of what is stored: over HTTP, or as text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from dmtl_cli.config.errors import Exit, UserError, did_you_mean, folded
from dmtl_cli.config.features import Feature
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.kinds.categorical import as_ids
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.serving.ids import is_integer
from dmtl_cli.serving.raw import column

USER_ID = "user_id"
"""the feature that is the user's id, where it has this name"""
Values = dict[str, Any]
"""by feature name, as JSON has them"""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZEROS = re.compile("^0+(?=.)")
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_NAMED = 3  # values that a line names
_YES_NO = {"true": True, "false": False}


def frame_of(encoder: Encoder, rows: list[Values], side: str, *, whole: bool = True) -> pl.DataFrame:
    """[n] raw features of a side, as `Export.vectors` takes them, of values as they were given; what is not named is
    null.

    Args:
        whole: whether features that no row names are there too.

    Raises:
        UserError: 65 a name that is no feature of the side, values that no column has.
    """
    features = encoder.features_of_side(side)
    if unknown := sorted({name for row in rows for name in row} - {f.name for f in features}):
        raise _no_feature(unknown[0], side, features)
    named = {name for row in rows for name in row}
    return pl.DataFrame([column(f, [r.get(f.name) for r in rows]) for f in features if whole or f.name in named])


def of_somebody_new(encoder: Encoder, user: str | None, values: Values, unseen: Values) -> Values:
    """The values of somebody who is not in an export, with their id: an earlier day may have given it a row.

    Args:
        unseen: what features are of a user without an event, as `Export.unseen` has it.
    """
    takes = any(f.name == USER_ID and f.has_ids for f in encoder.features_of_side("user"))
    return unseen | ({USER_ID: user} if takes and user is not None else {}) | values


def parsed(encoder: Encoder, texts: Sequence[str]) -> Values:
    """`NAME=VALUE` of users' features as values: a number of a numeric feature; of a categorical one an id; of a
    sequence ids as a JSON list or, where it has a separator, as the log's text; of a vector a JSON list. Nothing behind
    the `=` is null: unknown.

    Raises:
        UserError: 2 no such text or feature, a name twice, a value of another kind.
    """
    features = {f.name: f for f in encoder.features_of_side("user")}
    values: Values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--feature {text}: expected NAME=VALUE, such as hour=8", code=Exit.USAGE)
        if name not in features:
            wrong = _no_feature(name, "user", [*features.values()])
            raise UserError(f"--feature: {wrong.message}", wrong.hint, Exit.USAGE)
        if name in values:
            raise UserError(f"--feature {name} is given twice", code=Exit.USAGE)
        values[name] = _value(features[name], value, encoder) if value else None
    return values


def _no_feature(name: str, side: str, features: Sequence[Feature]) -> UserError:
    known = [f.name for f in features]
    reads = [f.name for f in features if f.profile is None and f.source == name]
    near = f", did you mean {reads[0]}, which reads this column?" if reads else did_you_mean(name, known)
    return UserError(f"no feature {name!r} of {side}s{near}", f"expected some of {', '.join(known)}")


def unknown_values(encoder: Encoder, values: Values) -> list[str]:
    """A line for each feature that was given a value that its embedding has no row for, and that counts as one that was
    never seen; with the known value that it is perhaps.

    Args:
        values: of users' features, as `parsed` gives them.
    """
    lines = []
    for f in encoder.features_of_side("user"):
        known = encoder.vocabularies.get(f.embedding or "")
        if not (f.has_ids and isinstance(known, Vocabulary) and values.get(f.name) is not None):
            continue
        given = values[f.name]
        ids = as_ids(f.name, column(f, given if isinstance(given, list) else [given]), "", "").drop_nulls()
        if missing := ids.filter(pl.Series(known.lookup(ids) == 0, dtype=pl.Boolean)).to_list():
            admitted = known.frame.filter(pl.col("row") > 0).sort("count", descending=True)["value"]
            told = with_near(missing, admitted)
            lines.append(f"--feature {f.name}: not a value of this export, so it counts as never seen (OOV): {told}")
    return lines


def with_near(values: Sequence[object], known: pl.Series) -> str:
    """Unknown values [1 or more] as a line names them, each with the known one that is the same but for case, accents,
    spaces and zeros before it; of several such the first."""
    texts = known.drop_nulls().cast(pl.String).to_list() if known.dtype in _TEXTS else []
    plain = {_ZEROS.sub("", folded(other)): other for other in reversed(texts)}
    told = []
    for value in values[:_NAMED]:
        near = plain.get(_ZEROS.sub("", folded(str(value))))
        told.append(repr(value) if near is None else f"{value!r} (did you mean {near!r}?)")
    return ", ".join(told) + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")


def _value(feature: Feature, text: str, encoder: Encoder) -> Any:
    if feature.kind == "numeric":
        found = _number(text)
        if found is None:
            raise _wrong(feature, "a number", text)
        return found
    if feature.kind == "vector":
        numbers = _list(text)
        if numbers is None or len(numbers) != feature.dim or not all(_is_number(x) for x in numbers):
            raise _wrong(feature, f"a JSON list of {feature.dim} numbers", text)
        return numbers
    whole = encoder.vocabularies[feature.embedding or feature.name].dtype == pl.Int64
    if feature.kind == "categorical":
        return _id(feature, text, whole, text)
    ids = _list(text)
    if ids is None and feature.separator is None:
        example = "[3, 5]" if whole else '["a", "b"]'
        raise _wrong(feature, f"a JSON list such as {example}", text)
    ids = text.split(feature.separator) if ids is None else ids
    return [_id(feature, each, whole, text) if isinstance(each, str) and each else each for each in ids]


def _id(feature: Feature, each: str, whole: bool, text: str) -> str | bool:
    """An id as text, which is brought to the type of its embedding.

    Args:
        whole: whether that has integers.
    """
    if whole and each in _YES_NO:
        return _YES_NO[each]
    if whole and not is_integer(each):
        raise _wrong(feature, "integers, as the log has" if feature.kind == "sequence" else "an integer", text)
    return each


def _number(text: str) -> float | bool | None:
    return float(text) if _NUMBER.fullmatch(text) else _YES_NO.get(text)


def _list(text: str) -> list[Any] | None:
    """A JSON list of values that are no lists; None where the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    flat = isinstance(found, list) and not any(isinstance(each, list | dict) for each in found)
    return found if flat else None


def _is_number(x: Any) -> bool:
    return x is None or isinstance(x, int | float)


def _wrong(feature: Feature, expected: str, text: str) -> UserError:
    return UserError(f"--feature {feature.name}: expected {expected}, got {text[:60]!r}", code=Exit.USAGE)
