"""`features: auto`: the features that every log gives by itself, all made from ids and profiles."""

from __future__ import annotations

import re
from typing import Any

from dmtl_cli.config.data import Events
from dmtl_cli.config.features import Feature
from dmtl_cli.config.profile import CLICK, EXPOSURE, READ

HALF_LIVES = (0, 1, 7)
"""days; 0: yesterday alone"""


def automatic(events: Events) -> tuple[Feature, ...]:
    """Ids, histories of clicks and reads, counters and rates: see docs/config.md."""
    shown = (EXPOSURE,) if events.click else ()
    rates = [(READ, CLICK), *((CLICK, event) for event in shown)]
    item_id = name_of(events.item)
    features = [Feature(name=name_of(events.user), side="user", kind="categorical", column=events.user)]
    for event in (CLICK, READ):
        history = {"history": event}
        features.append(_feature(f"user_{event}_history", "user", "sequence", history, embedding_name=item_id))
    for event in (*shown, CLICK, READ):
        features.append(_count("user", event, 7))
    features += [_rate("user", event, of) for event, of in rates]
    features.append(Feature(name=item_id, side="item", kind="categorical", column=events.item))
    features += [_count("item", event, days) for event in (*shown, CLICK, READ) for days in HALF_LIVES]
    features += [_rate("item", event, of) for event, of in rates]
    features.append(_feature("item_age", "item", "numeric", {"age": "first_seen"}, transform="log1p"))
    return tuple(features)


def _feature(name: str, side: str, kind: str, profile: dict[str, Any], **options: Any) -> Feature:
    return Feature.model_validate({"name": name, "side": side, "kind": kind, "profile": profile, **options})


def _count(side: str, event: str, days: int) -> Feature:
    profile = {"count": event, "half_life_days": float(days)}
    return _feature(f"{side}_{event}s_{days}d", side, "numeric", profile, transform="log1p")


def _rate(side: str, event: str, of: str) -> Feature:
    profile = {"rate": event, "of": of, "half_life_days": 7.0}
    return _feature(f"{side}_{event}_rate", side, "numeric", profile, num_buckets=10)


def name_of(column: str) -> str:
    """The name of the feature of an id's column: letters, digits and `_`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", column)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"
