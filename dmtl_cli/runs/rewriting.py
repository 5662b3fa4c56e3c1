"""Publishes runs again with other files, and what was made from them with other parents: the graph of all that is
published, and a step from a run to the one that replaces it.

A run that was published again names the old one in `facts.replaces`. So a chain of which only a part was done is
finished by doing the rest: what still names an old run is pointed at its heir.
"""

from __future__ import annotations

import dataclasses
import graphlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dmtl_cli.runs.contents import there
from dmtl_cli.runs.disk import creating, make_dirs, point, sha256_of, sync_dir, sync_up, walk, write_text
from dmtl_cli.runs.keyed import MADE_BY
from dmtl_cli.runs.manifest import MANIFEST, Manifest, as_json, canonical, identity, verify
from dmtl_cli.runs.reachable import folders, workspaces
from dmtl_cli.runs.recipe import Recipe
from dmtl_cli.runs.workspace import Workspace

REPLACES = "replaces"
_ID = re.compile(r"[0-9a-f]{12}")
_POINTERS = ("export/PINNED", "export/LATEST", "*/day=*/CURRENT", "*/day=*/*/CURRENT")  # in the order they are moved
Rewrite = Callable[[Path, Path], None]
"""writes another file in place of one: (from, to)"""


class Published(NamedTuple):
    """A run in its place. The same run may stand in two workspaces."""

    ws: Workspace
    path: Path
    manifest: Manifest


class Change(NamedTuple):
    """What of a run becomes another."""

    files: Mapping[str, Rewrite]
    """by path below the run; all others stay"""
    rows: dict[str, int]
    metrics: dict[str, float]
    facts: dict[str, Any]


class Graph:
    """The runs of a workspace and of those below it that a pointer names, and all that these were made from.

    Raises UserError: 65 a manifest among them is damaged, 74 it cannot be read.
    """

    def __init__(self, outer: Workspace) -> None:
        every = list(workspaces(outer))
        self.everywhere = {path: ws for ws in every for _, _, path in folders(ws)}
        """every run that there is"""
        self.pointers = {pointer: run for ws in every for pointer, run in _pointers(ws)}
        self.reached: dict[str, list[Published]] = {}
        """by id, in every place; a parent that is gone is not here"""
        by_id: dict[str, list[Path]] = {}
        for path in self.everywhere:
            by_id.setdefault(path.name.removeprefix("run-"), []).append(path)
        left, seen = list(dict.fromkeys(self.pointers.values())), set()
        while left:
            path = left.pop()
            if path in seen or path not in self.everywhere:
                continue
            seen.add(path)
            manifest = Manifest.read(path / MANIFEST)
            self.reached.setdefault(manifest.run_id, []).append(Published(self.everywhere[path], path, manifest))
            left += [place for named in _named(manifest) for place in by_id.get(named, ())]
        manifests = [places[0].manifest for places in self.reached.values()]
        self.heirs: dict[str, str] = {m.facts[REPLACES]: m.run_id for m in manifests if REPLACES in m.facts}

    def order(self) -> list[str]:
        """Ids: a run after those that it names, and after its heir."""
        sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(
            {run_id: _named(places[0].manifest) for run_id, places in sorted(self.reached.items())}
        )
        for old, new in self.heirs.items():
            sorter.add(old, new)
        return list(sorter.static_order())

    def unreached(self) -> dict[Path, Workspace]:
        """Runs that no pointer leads to."""
        there = {run.path for places in self.reached.values() for run in places}
        return {path: ws for path, ws in self.everywhere.items() if path not in there}


def renew(graph: Graph, change: Callable[[Published], Change | None]) -> Iterator[tuple[Published, Path]]:
    """Publishes again what `change` changes or what names a run that was published again; yields old and new run.

    Each run's pointers move as soon as it is there, so that a kill leaves every stage with its old run or its new one.

    Raises UserError: as `change` does; 65 a run to be published again is damaged; 73, 74.
    """
    now: dict[str, str] = {}
    for run_id in graph.order():
        now[run_id] = now.get(graph.heirs.get(run_id, ""), run_id)
        for run in graph.reached.get(run_id, ()):
            heir = run.path.parent / f"run-{now[run_id]}"
            if heir == run.path or not heir.is_dir():
                changed = change(run)
                if changed is None and not any(now.get(named, named) != named for named in _named(run.manifest)):
                    continue
                heir = _publish_again(run, changed or _unchanged(run.manifest), now)
                now[run_id] = heir.name.removeprefix("run-")
                yield run, heir
            _move(graph, run, heir)


def _unchanged(manifest: Manifest) -> Change:
    return Change({}, manifest.rows, manifest.metrics, manifest.facts)


def remove(paths: Mapping[Path, Workspace]) -> int:
    """Removes folders: out of their place at once, by rename into scratch, then file by file.

    Returns:
        Bytes of files that stood nowhere else.
    """
    freed = 0
    for path, ws in paths.items():
        with creating(ws.root):
            aside = ws.scratch() / "removed"
            shutil.rmtree(aside, ignore_errors=True)
            make_dirs(aside.parent)
            freed += _alone(path)
            path.replace(aside)
            sync_dir(path.parent)
            shutil.rmtree(aside)
    return freed


def sweep(ws: Workspace) -> int:
    """Removes scratch and the runs that were rejected, whose reasons stay; bytes freed, as `remove`."""
    freed = remove({path: ws for path in sorted(ws.rejected().glob("*")) if path.is_dir()})
    if ws.scratch().is_dir():
        with creating(ws.root):
            freed += _alone(ws.scratch())
            shutil.rmtree(ws.scratch())
    return freed


def _alone(folder: Path) -> int:
    """Bytes of the files below a folder that stand nowhere else."""
    states = [file.lstat() for file in walk(folder)[0]]
    return sum(state.st_size for state in states if state.st_nlink == 1)


def _pointers(ws: Workspace) -> Iterator[tuple[Path, Path]]:
    """Every pointer and the run it names."""
    for pattern in _POINTERS:
        for pointer in sorted(ws.root.glob(pattern)):
            if not pointer.parent.name.startswith("run-"):
                yield pointer, pointer.parent / pointer.read_text(errors="replace").strip()


def _named(manifest: Manifest) -> list[str]:
    """Ids of the runs that a manifest names."""
    facts = {k: v for k, v in manifest.facts.items() if k != REPLACES}
    found: dict[str, None] = {}
    _words([manifest.parents, facts, manifest.config], found)
    return list(found)


def _words(value: Any, found: dict[str, None]) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _words(each, found)
    elif isinstance(value, str) and _ID.fullmatch(word := value.rpartition(" ")[2]):
        found[word] = None


def _renamed(value: Any, now: Mapping[str, str]) -> Any:
    """JSON in which each text that is a run's id, or ends with one, has the id of the run that replaced it."""
    if isinstance(value, dict):
        return {key: _renamed(each, now) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, now) for each in value]
    if not isinstance(value, str):
        return value
    head, space, word = value.rpartition(" ")
    return head + space + now.get(word, word)


def _publish_again(run: Published, change: Change, now: Mapping[str, str]) -> Path:
    """Writes a run in scratch, makes it durable and renames it into place; its folder."""
    verify(run.path)
    with creating(run.ws.root):
        home = run.ws.scratch() / "again"
        shutil.rmtree(home, ignore_errors=True)
        make_dirs(home / "run")
        files = [_file(run, listed, change.files.get(listed["path"]), home / "run") for listed in run.manifest.files]
        document = _document(run.manifest, change, files, now)
        write_text(home / "run" / MANIFEST, canonical(document) + "\n")
        _make_durable(home / "run")
        heir = run.path.parent / f"run-{document['run_id']}"
        if os.path.lexists(heir) and there(lambda: verify(heir)) is None:
            heir.replace(home / "damaged")
        if not heir.exists():
            (home / "run").replace(heir)
        sync_up(heir.parent, run.ws.root)
        shutil.rmtree(home)
    return heir


def _file(run: Published, listed: dict[str, Any], rewrite: Rewrite | None, folder: Path) -> dict[str, Any]:
    """Puts a file of the run into a folder: another one, or the same by a further name; its entry in the manifest."""
    old, new = run.path / listed["path"], folder / listed["path"]
    new.parent.mkdir(parents=True, exist_ok=True)
    if rewrite is None:
        try:
            os.link(old, new)
        except OSError:  # a filesystem without hard links
            shutil.copyfile(old, new)
        return listed
    rewrite(old, new)
    return {"path": listed["path"], "bytes": new.stat().st_size, "sha256": sha256_of(new)}


def _document(
    manifest: Manifest, change: Change, files: list[dict[str, Any]], now: Mapping[str, str]
) -> dict[str, Any]:
    """The new manifest. Its key is the one that its stage computes now, so that a rerun finds it up to date."""
    m = dataclasses.replace(manifest, parents=_renamed(manifest.parents, now), config=_renamed(manifest.config, now))
    recipe = Recipe(m.stage, m.day, m.config, m.seed, m.versions, m.threads, m.inputs, m.parents)
    facts = _renamed({k: v for k, v in change.facts.items() if k != REPLACES}, now) | {REPLACES: manifest.run_id}
    facts |= {MADE_BY: manifest.facts.get(MADE_BY, manifest.key)}
    made = {"rows": change.rows, "metrics": change.metrics, "facts": facts, "files": files, "key": recipe.key}
    document: dict[str, Any] = as_json(vars(m) | made)
    return document | {"run_id": identity(document)}


def _make_durable(folder: Path) -> None:
    files, folders = walk(folder)
    allowed = stat.S_IMODE(folder.stat().st_mode) & 0o777
    for file in files:
        if file.stat().st_nlink == 1:  # else it is the old run's, and durable
            file.chmod(0o666 & allowed)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    for each in folders:
        sync_dir(each)


def _move(graph: Graph, run: Published, heir: Path) -> None:
    """Points what names a run at its heir: PINNED first, as LATEST is led to it after a crash; CURRENT last, as it is
    what a rerun looks at."""
    for pointer, named in graph.pointers.items():
        if named == run.path:
            with creating(run.ws.root):
                draft = run.ws.scratch() / "pointer"
                make_dirs(draft.parent)
                point(pointer, heir.relative_to(pointer.parent).as_posix(), draft)
