"""`dmtl init` on a log that a test writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import unseen
import yaml
from worlds import Ended, dmtl

from dmtl_cli.config.automatic import automatic
from dmtl_cli.config.data import Events
from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config

SEEN = {"user": "user_id", "item": "item_id", "at": "ts", "click": "clicked", "seconds": "watch_seconds"}


def frame(seed: int = 0, drop: tuple[str, ...] = (), **more: Any) -> pl.DataFrame:
    """Exposures with plain names, without some columns and with others."""
    x = unseen.drawn(seed)
    named = {name: x[key] for key, name in SEEN.items() if name not in drop}
    return pl.DataFrame(named | more)


def daily(write: pl.DataFrame) -> Callable[[Path], None]:
    at = write["ts"] if "ts" in write.columns else pl.Series(unseen.drawn(0)["at"])
    return lambda home: unseen.by_day(home / "events", write, {"at": at})


Made = tuple[Ended, dict[str, Any], str]


def made(home: Path, write: Callable[[Path], None], *more: str) -> Made:
    """The command on a log: how it ended, the YAML that it wrote as values and as text."""
    log = home / "log"
    log.mkdir(parents=True)
    write(log)
    ended = dmtl("init", log, "-o", home / "mine.yaml", *more)
    text = (home / "mine.yaml").read_text()
    return ended, yaml.safe_load(text), text


def config_of(home: Path) -> Config:
    return load_config(home / "mine.yaml")


def features(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those that no profile gives, by name: of the ids too, where `auto` stands for them."""
    listed, events = raw["features"], raw["data"]["events"]
    listed = [listed] if listed == "auto" else listed
    made = automatic(Events(user=events["user"], item=events["item"], conversion="good")) if "auto" in listed else ()
    named = {f.name: f.model_dump(exclude_unset=True) for f in made if f.profile is None}
    return named | {f["name"]: f for f in listed if f != "auto" and "profile" not in f}
