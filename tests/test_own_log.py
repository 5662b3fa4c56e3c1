"""docs/bring_your_own_log.md: each shape of a log, from `init` to a config that is what the document says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from shapes import DAYS, SHAPES
from worlds import dmtl

GUIDE = (Path(__file__).parents[1] / "docs/bring_your_own_log.md").read_text()
EXAMPLES = re.findall(r"`dmtl (init [^`]*)`[^`\n]*:\n```yaml\n(.*?)```", GUIDE, re.S)


def beyond(said: Any, made: Any, at: str = "") -> list[str]:
    """What the document says and the config does not."""
    if isinstance(said, dict) and isinstance(made, dict):
        return [x for key, value in said.items() for x in beyond(value, made.get(key), f"{at}.{key}")]
    return [] if said == made else [f"{at}: {said!r} is {made!r}"]


def test_each_shape_is_an_example() -> None:
    assert [shlex.split(command)[1] for command, _ in EXAMPLES] == list(SHAPES)
    assert beyond({"a": {"b": 1}}, {"a": {"b": 2}}) and not beyond({"a": 1}, {"a": 1, "c": 2})


@pytest.mark.parametrize(("command", "said"), EXAMPLES, ids=list(SHAPES))
def test_init_writes_what_the_guide_says(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    SHAPES[words[1]](tmp_path)
    ended = dmtl(*words, "-o", "mylog.yaml")
    assert ended.code == 0, ended.err
    assert beyond(yaml.safe_load(said), yaml.safe_load(Path("mylog.yaml").read_text())) == []
    ended = dmtl("check", "--config", "mylog.yaml", "--day", DAYS[-1], "--json")
    assert ended.code == 0, ended.err


def test_the_commands_at_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a newcomer would copy them, with a user that `init` printed; trials of fewer rows than any log may have."""
    monkeypatch.setattr("dmtl_cli.tune.rounds.LEAST", 20_000)
    monkeypatch.chdir(tmp_path)
    SHAPES["news"](tmp_path)
    (tmp_path / "news").rename(tmp_path / "mylog")
    top, _ = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    out = ""
    for line in top.splitlines():
        user = re.search(r"--user (\S+)", out)
        ended = dmtl(*shlex.split(line.split("#")[0].replace("--user ID", f"--user {user[1] if user else ''}"))[1:])
        assert ended.code == 0, f"{line}: {ended.err}"
        out = ended.out if "recommend" in ended.out else out + ended.out
        last = ended.out
        if "backfill" in line:
            day = [x for x in last.splitlines() if x.startswith("20")][-1]
            assert re.search(r"of reads: served \S+, best list \S+ \(\w+\): (better|worse|no sure)", day), day
    assert "Title, " in last
