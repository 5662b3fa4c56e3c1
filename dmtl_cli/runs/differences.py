"""How a published run was made otherwise than its recipe asks now, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import UserError, short
from dmtl_cli.runs.manifest import MANIFEST, Manifest, as_json, verify
from dmtl_cli.runs.recipe import Recipe
from dmtl_cli.runs.workspace import Workspace

_HINT = "backfill again with this config; to try a change beside the chain name it in --settings"
_ABSENT = object()


def why_not_there(ws: Workspace, recipe: Recipe, sub: str | None) -> UserError:
    """The error for a run that was to be found and not made: none is published, or it was made otherwise.

    Raises:
        UserError: 65 what is published is damaged.
    """
    path = ws.current(recipe.stage, recipe.day, sub)
    if path is None:
        return UserError(f"no published {recipe.stage} of {recipe.day} in {ws.root}", _HINT)
    made = Manifest.read(path / MANIFEST)
    changes = changes_since(recipe, made)
    if not changes:
        verify(path)
        return UserError(f"{ws.latest_path} names no published export", "run dmtl export of the newest day")
    same = _same(recipe, made) if len(changes) == 1 else None
    hint = f"{_HINT}; or give it the same {same}" if same else _HINT
    return UserError(f"{recipe.stage} of {recipe.day} {changes[0]}", hint, others=tuple(changes[1:]))


def _same(recipe: Recipe, made: Manifest) -> str | None:
    """The option by which a command is of the chain, where one plain value of the config differs."""
    differing = list(differences(made.config, as_json(recipe.config)))
    if len(differing) != 1:
        return None
    key, then, _ = differing[0]
    if then is _ABSENT or not isinstance(then, int | float) or isinstance(then, bool):
        return None
    return f"--set {key}={int(then) if then == int(then) else then}"


def changes_since(recipe: Recipe, made: Manifest) -> list[str]:
    """How a published run was made otherwise: `was made with seed 1, the config now says 2`, ..."""
    if (made.stage, made.day) != (recipe.stage, recipe.day):
        return [f"is {made.stage} of {made.day} in a folder of another name"]
    then = made.config | {"seed": made.seed, "threads": made.threads}
    now = as_json(recipe.config) | {"seed": recipe.seed, "threads": recipe.threads}
    return [
        *(_config_change(*each) for each in differences(then, now)),
        *_version_changes(made.versions, recipe.versions),
        *_input_changes(made.inputs, as_json(recipe.inputs)),
        *_parent_changes(made.parents, recipe.parents),
    ]


_COLUMN, _ZONE, _CLOCK = "data.events.date_column", "data.timezone", "data.naive_times"


def refuse_other_days(folder: Path, made: Manifest, data: Mapping[str, Any]) -> None:
    """Raises UserError 65 where the days of a published run were cut from the log in another way than the config's
    `data` says now: events between the two midnights would count on two days, or on none."""
    then, now = _cut(made.config.get("data")), _cut(data)
    dates = None in (then[_ZONE], now[_ZONE])  # instants are refused without a zone, and no zone moves a date
    keys = [_COLUMN] if dates else [_COLUMN, _ZONE, _CLOCK]
    if "data" in made.config and (changed := next((key for key in keys if then[key] != now[key]), None)):
        was, said = (short(cut[changed] or "none", 60) for cut in (then, now))
        what = f"{folder}: its days were cut with {changed}: {was}, the config now says {said}"
        raise UserError(what, "undo that, or use a new workspace: events would count on two days, or on none")


def _cut(data: Mapping[str, Any] | None) -> dict[str, str | None]:
    """What tells of which day an event is: a column, the zone of its times and the clock of those that name none; of
    days that are folders or files nothing."""
    if data is None or (column := data["events"].get("date_column")) is None:
        return {_COLUMN: None, _ZONE: None, _CLOCK: None}
    return {_COLUMN: column, _ZONE: data["timezone"], _CLOCK: data.get("naive_times", "utc")}


def config_changes(then: Manifest, now: Manifest) -> list[tuple[str, str, str]]:
    """(dotted key, value then, value now) in words of what differs between the configs of two runs, seeds and threads
    included; but the export that an export was weighed by, which is another each day."""
    before, after = (
        {k: v for k, v in m.config.items() if k != "weighed"} | {"seed": m.seed, "threads": m.threads}
        for m in (then, now)
    )
    return [(key, *(_said(value) for value in pair)) for key, *pair in differences(before, after)]  # type: ignore[misc]


def _said(value: Any) -> str:
    return "not there" if value is _ABSENT else _short(value)


def differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value then, value now) of all that differs; a value that is not there is `_ABSENT`.

    Entries of a list are compared by their names where they have names, as features do, else by their place.
    """
    a, b = _by_name(then), _by_name(now)
    if not (isinstance(a, dict) and isinstance(b, dict)):
        if then != now:
            yield key, then, now
        return
    if isinstance(then, list) and isinstance(now, list) and a.keys() == b.keys() and list(a) != list(b):
        yield key, list(a), list(b)
    for name in dict.fromkeys([*a, *b]):
        yield from differences(a.get(name, _ABSENT), b.get(name, _ABSENT), f"{key}.{name}" if key else name)


def _by_name(value: Any) -> Any:
    if not (isinstance(value, list) and value and all(isinstance(each, dict) for each in value)):
        return value
    names = [each.get("name", str(k)) for k, each in enumerate(value)]
    return dict(zip(names, value, strict=True)) if len({*names}) == len(names) else value


def _config_change(key: str, then: Any, now: Any) -> str:
    if then is _ABSENT:
        return f"was made without {key}, which the config, or this version of dmtl, now has"
    if now is _ABSENT:
        return f"was made with {key}, which the config no longer has"
    return f"was made with {key} {_short(then)}, the config now says {_short(now)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return short(text, 60)


def _version_changes(then: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            old, new = (named.get(name, "1" if name == "ranks" else "not there") for named in (then, now))
            yield f"was made with {name} {old}, now it is {new}"


def _input_changes(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    old, new = ({one["path"]: one for one in files} for files in (then, now))
    for path in dict.fromkeys([*old, *new]):
        if path not in new:
            yield f"was made from the input {path}, which it no longer reads"
        elif path not in old:
            yield f"was made without the input {path}"
        elif old[path] != new[path]:
            rows = [one[path].get("rows") for one in (old, new)]
            grown = f" ({rows[0]} rows then, {rows[1]} now)" if rows[0] != rows[1] else ""
            yield f"was made before its input {path} changed{grown}"


def _parent_changes(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """A stage and day may be named twice, as the teacher of an evaluation and of its student."""
    days = dict.fromkeys((p["stage"], p["day"]) for p in (*then, *now))
    for stage, day in days:
        old, new = ([p["run_id"] for p in parents if (p["stage"], p["day"]) == (stage, day)] for parents in (then, now))
        if not new:
            yield f"was made with {stage} of {day} as a parent, which it no longer has"
        elif not old:
            yield f"was made without its parent {stage} of {day}"
        elif old != new:
            yield f"was made before its parent {stage} of {day} became run {new[-1]}"
