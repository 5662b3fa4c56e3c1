"""What a run is and was made from: its manifest, the key known before the work, and whether its files are whole."""

import dataclasses
import datetime as dt
import hashlib
import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import UserError
from dmtl_cli.runs.disk import RERUN, reading, sha256_of, walk
from dmtl_cli.runs.workspace import day_of

FORMAT = 2
MANIFEST = "manifest.json"


def as_json(value: object) -> Any:
    """A value as JSON reads it back: text keys, lists, days as text. Raises ValueError for NaN and infinity."""

    def text(other: object) -> str:
        if isinstance(other, dt.date):
            return other.isoformat()
        raise TypeError(f"a manifest or key cannot hold a {type(other).__name__}")

    return json.loads(json.dumps(value, allow_nan=False, default=text))


def _finite(number: str) -> float:
    """A number of JSON. Raises ValueError for NaN, infinity and what is too large to be told from it."""
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(f"{number} is not finite")
    return found


def canonical(value: object) -> str:
    """The one text of a value: sorted keys, indent 1. Raises ValueError for NaN and infinity."""
    # Through as_json first: integer keys sort otherwise before they are text than after.
    return json.dumps(as_json(value), sort_keys=True, indent=1, allow_nan=False)


def key_of(**parts: object) -> str:
    """sha256 of the canonical JSON of all parts. Raises ValueError for NaN, TypeError for what JSON cannot hold."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def identity(document: Mapping[str, object]) -> str:
    """The run id: 12 hex of the sha256 of a manifest without it."""
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "run_id"}).encode()).hexdigest()[:12]


SHAPES: dict[str, type] = {
    **dict.fromkeys(("stage", "day", "key", "run_id"), str),
    **dict.fromkeys(("seed", "threads"), int),
    **dict.fromkeys(("config", "versions", "rows", "metrics", "facts"), dict),
    **dict.fromkeys(("inputs", "parents", "files", "gates", "key_warnings"), list),
}


@dataclass(frozen=True)
class Manifest:
    """What a run is and was made from. Holds no absolute path and no time, so that the same run has the same id."""

    format: int
    stage: str
    day: dt.date
    key: str
    run_id: str
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    threads: int
    inputs: list[dict[str, Any]]  # path, rows, bytes, digest
    parents: list[dict[str, Any]]  # stage, day, run_id
    files: list[dict[str, Any]]  # path, bytes, sha256
    rows: dict[str, int]
    metrics: dict[str, float]
    gates: list[dict[str, Any]]  # name, value, limit, passed
    facts: dict[str, Any]
    key_warnings: list[str]

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Raises UserError: data if it is missing, malformed or of another format; I/O if it cannot be read."""
        with reading(path):
            raw = path.read_bytes()
        try:
            document = json.loads(raw, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a manifest: {error}", RERUN) from None
        if not isinstance(document, dict):
            raise UserError(f"{path}: not a manifest", RERUN)
        if document.get("format") != FORMAT:
            found, hint = document.get("format"), "use a new workspace, or the dmtl that wrote it"
            raise UserError(f"{path}: format {found!r}, this dmtl reads {FORMAT}", hint)
        names = {field.name for field in dataclasses.fields(cls)}
        if wrong := sorted(names ^ document.keys()) or [n for n in SHAPES if not isinstance(document[n], SHAPES[n])]:
            raise UserError(f"{path}: missing, unknown or malformed: {', '.join(wrong)}", RERUN)
        if not all(
            isinstance(f, dict) and isinstance(f.get("path"), str) and {"bytes", "sha256"} <= f.keys()
            for f in document["files"]
        ):
            raise UserError(f"{path}: files: expected path, bytes and sha256 of each", RERUN)
        day = day_of(Path(f"day={document['day']}"))
        if day is None:
            raise UserError(f"{path}: day: expected YYYY-MM-DD, got {document['day']!r}", RERUN)
        return cls(**{**document, "day": day})

    def as_parent(self) -> dict[str, Any]:
        """The entry of this run in another manifest's `parents`."""
        return {"stage": self.stage, "day": str(self.day), "run_id": self.run_id}


def verify(run_dir: Path, *, quick: bool = False, moved: bool = False) -> Manifest:
    """The manifest of a run that is whole: its id, and every file's size and (unless `quick`) hash.

    Args:
        moved: whether its folder may have another name, as on a server.

    Raises UserError naming the file: data for what is missing, changed or not listed; I/O for what cannot be read.
    """
    manifest = Manifest.read(run_dir / MANIFEST)
    named = manifest.run_id if moved else run_dir.name.removeprefix("run-")
    if not manifest.run_id == identity(vars(manifest)) == named:
        raise UserError(f"{run_dir / MANIFEST} was changed, or its folder renamed", RERUN)
    with reading(run_dir):
        found = {path.relative_to(run_dir).as_posix(): path for path in walk(run_dir)[0]}
        for listed in manifest.files:
            path = found.pop(listed["path"], None)
            if path is None:
                raise UserError(f"{run_dir / listed['path']} is missing", RERUN)
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode):
                raise UserError(f"{path} is not a regular file", RERUN)
            if state.st_size != listed["bytes"]:
                raise UserError(f"{path}: expected {listed['bytes']} bytes, found {state.st_size}", RERUN)
            if not quick and sha256_of(path) != listed["sha256"]:
                raise UserError(f"{path}: its sha256 is not that of the manifest", RERUN)
    # A part file put beside the others would be read with them; dot files (.nfs*, .DS_Store) are not.
    if alien := [path for name, path in found.items() if name != MANIFEST and not path.name.startswith(".")]:
        raise UserError(f"{alien[0]} is not listed in the manifest", "remove it, or " + RERUN)
    return manifest
