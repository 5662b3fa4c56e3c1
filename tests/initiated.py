"""`dmtl init` on a log that a test writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from worlds import Ended, dmtl

from dmtl_cli.config.reading import load_config
from dmtl_cli.config.schema import Config

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
    """Those that no profile gives, by name."""
    return {f["name"]: f for f in raw["features"] if "profile" not in f}
