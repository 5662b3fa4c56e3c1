"""Finds the export that a server is to open, and refuses what is not whole: files of two runs, absurd numbers, files
that do not fit each other. All of it is 65, in a line with file and field.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Layout
from dmtl_cli.data.features.vocabulary_file import VocabularyFile
from dmtl_cli.runs.contents import AGAIN, decoding, read_json
from dmtl_cli.runs.keyed import KEY, MADE_BY, appended_key
from dmtl_cli.runs.manifest import MANIFEST, verify
from dmtl_cli.runs.workspace import Workspace
from dmtl_cli.serving.onnx_parts import read as read_parts
from dmtl_cli.serving.vectors import MappedVectors

UNSEEN = "unseen"
"""of features.json: what features of profiles are of who has no event yet"""

_LONGEST = 1 << 20
"""what a sequence or a vector may have, and a side of float columns: far more than any has"""


def find(root: Path) -> Path:
    """The folder of an export: `root`, or what LATEST of a workspace, or of its export/, names now.

    Raises:
        UserError: 66 there is none; 65 LATEST names none.
    """
    if (root / MANIFEST).is_file():
        return root
    # export/ is named so by its workspace; one that was copied elsewhere is not
    inner = root if (root / "LATEST").is_file() else root / "export"
    served = Workspace(inner.parent).latest() if inner.name == "export" else _led(inner)
    if served is None:
        first = "run dmtl run first (a chain's second day has the first export)"
        hint = f"{first}, or name a workspace, its export/ or the folder of an export"
        raise UserError(f"no export is served in {root}", hint, Exit.NO_INPUT)
    return served


def _led(folder: Path) -> Path | None:
    """What LATEST names in a copy of export/ by another name."""
    with decoding(folder / "LATEST"):
        run = folder / (folder / "LATEST").read_text().strip()
        if not (run / MANIFEST).is_file() or not run.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it names no run of this folder")
        return run


def check_files(folder: Path, *, hashes: bool) -> None:
    """Raises UserError: 65 files of an export do not have their sizes, or hashes, or its key; 74."""
    manifest = verify(folder, quick=not hashes, moved=True)
    if manifest.stage != "export":
        raise UserError(f"{folder / MANIFEST}: stage: expected export, got {manifest.stage}", "name an export")
    key = key_of(folder)
    expected = manifest.facts.get(MADE_BY, manifest.key)
    if key is not None and key != expected:
        what = f"{folder / 'features.json'}: key: expected {str(expected)[:12]} of the manifest, got {key[:12]}"
        raise UserError(what, f"these are files of two runs; {AGAIN}")


# -- keys --------------------------------------------------------------------------------------------------------------


def key_of(folder: Path) -> str | None:
    """The key that every file of an export carries; None where no file has one, as earlier versions wrote them.

    Raises:
        UserError: 65 files of two runs.
    """
    keys: dict[Path, str | None] = {}
    for path in sorted(folder.iterdir()):
        reader = next((read for end, read in _READERS.items() if path.name.endswith(end)), None)
        if reader is not None and path.name != MANIFEST:
            with decoding(path):
                keys[path] = reader(path)
    first = next((path for path in keys if path.name == "features.json"), None)
    if first is None:
        raise UserError(f"{folder / 'features.json'} is missing", AGAIN)
    for path, key in keys.items():
        if key != keys[first]:
            ours, theirs = (str(k)[:12] if k else "none" for k in (keys[first], key))
            what = f"{path}: {KEY}: expected {ours}, as features.json has, got {theirs}"
            raise UserError(what, f"these are files of two runs; {AGAIN}")
    return keys[first]


def _of_json(path: Path) -> str | None:
    key = read_json(path).get("key")
    if not isinstance(key, str | None):
        raise ValueError(f"key: expected text, got {key!r}")
    return key


def _of_parquet(path: Path) -> str | None:
    found = (pq.read_metadata(path).metadata or {}).get(KEY.encode())
    return None if found is None else found.decode()


def _of_program(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith(f"/extra/{KEY}")), None)
        return None if name is None else archive.read(name).decode()


_READERS: dict[str, Callable[[Path], str | None]] = {
    "features.json": _of_json,
    ".parquet": _of_parquet,
    ".safetensors": lambda path: MappedVectors(path.parent).key,
    ".onnx": lambda path: read_parts(path).words.get(KEY),
    ".onnx.data": appended_key,
    ".faiss": appended_key,
    ".pt2": _of_program,
}


# -- numbers -----------------------------------------------------------------------------------------------------------


def check_described(described: dict[str, Any], encoder: Encoder) -> None:
    """Raises ValueError, or KeyError, where features.json has a number that no stage writes, or two that disagree."""
    numbers = {name: described[name] for name in ("scale", "bias")} | {"kappa": described.get("kappa", 0.0)}
    numbers |= {f"{UNSEEN}: {name}": number for name, number in described.get(UNSEEN, {}).items()}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{name}: expected a finite number, got {number!r}")
    for name, span in described.get("blocks", {}).items():
        if len(span) != 2 or not all(isinstance(at, int | None) for at in span):
            raise ValueError(f"blocks: {name}: expected the first and the last column, got {span!r}")
    for f in encoder.features:
        for name, size in (("max_length", f.max_length), ("dim", f.dim)):
            if size is not None and not 1 <= size <= _LONGEST:
                raise ValueError(f"feature {f.name}: {name}: expected 1 to {_LONGEST}, got {size}")
    for side in ("user", "item"):
        layout, stored = encoder.layout(side), described["layouts"][side]
        found = {"ids": [*layout.ids], "sequences": [[*s] for s in layout.sequences], "floats": layout.floats}
        if stored != found:
            name = next(n for n in found if stored.get(n) != found[n])
            raise ValueError(f"layouts: {side}: {name}: expected {found[name]} by its features, got {stored.get(name)}")
    _check_rows(described["embedding_rows"], encoder)


def _check_rows(rows: Mapping[str, Any], encoder: Encoder) -> None:
    """Rows of embeddings that features.json names are those of vocabularies, buckets and edges."""
    for kind in encoder.kinds:
        own = kind.own_rows(encoder.learned)
        vocabulary = encoder.vocabularies.get(kind.embedding)
        if own is None and vocabulary is not None and not isinstance(vocabulary, VocabularyFile):
            own = vocabulary.rows
        if own is not None and rows.get(kind.embedding) != own:
            found = rows.get(kind.embedding)
            raise ValueError(f"embedding_rows: {kind.embedding}: expected {own} by its feature, got {found!r}")


def check_weights(path: Path, layout: Layout, rows: Mapping[str, int]) -> None:
    """Raises ValueError: the table of a tower has not the rows of its embeddings. Weights are not read."""
    tables = {n: s for n, s in read_parts(path).weights.items() if n.endswith("table.weight")}
    expected = sum(rows[name] for name in layout.embeddings)
    for name, shape in tables.items():
        if layout.embeddings and shape[0] != expected:
            raise ValueError(f"{name}: expected the {expected} rows of features.json, got {shape[0]}")
