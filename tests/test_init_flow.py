"""What a person reads and edits between a raw log and a served top K: how short it is, and what is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import unseen
import yaml
from initiated import config_of, daily, frame, made

from dmtl_cli.config.automatic import automatic
from dmtl_cli.config.reading import load_config
from dmtl_cli.guess.feature_lines import _as_given


@pytest.mark.parametrize("more", [{}, {"hue": unseen.drawn(0)["item"] % 7}])
def test_auto_stands_for_the_features_that_every_log_gives(tmp_path: Path, more: dict[str, Any]) -> None:
    """The same features as where each of them is a line, also where the ids lie in objects."""
    renamed = frame(**more).rename({"user_id": "who.user_id", "item_id": "what.item_id"})
    ended, raw, text = made(tmp_path, daily(renamed))
    assert ended.code == 0, ended.err
    config = config_of(tmp_path)
    events = config.data.events
    lines = [_as_given(f, getattr(events, f.side)) for f in automatic(events)]
    own = [f for f in raw["features"] if f != "auto"] if more else []
    assert len(own) == len(more) and len(lines) == 21 and "half_life_days" not in text
    full = tmp_path / "full.yaml"
    full.write_text(yaml.safe_dump(raw | {"features": [*lines, *own]}, allow_unicode=True))
    by_name = [{f.name: f for f in c.features} for c in (config, load_config(full))]
    assert by_name[0] == by_name[1] and len(by_name[0]) == 21 + len(own)
