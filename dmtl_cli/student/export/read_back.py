"""Whether the files of an export say what the student in memory says: 256 pairs scored by every way there is.

ONNX towers, stored vectors, vocabularies and users are read by a fresh process (`serving/canary.py`). The torch
programs are read here, which has torch already: loading it anew costs more than a small day's export.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.config.export import Numbers
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.data.log.checked.day import ID
from dmtl_cli.runs.gates import Measure, exactly
from dmtl_cli.serving import canary
from dmtl_cli.student.export import pt2_file
from dmtl_cli.student.export.towers import Served, arguments, vectors

PAIRS = 256
TOLERANCE = 1e-4
"""of a score, over 1 + |scale| |u| |v|: float32 sums in another order differ by some 1e-6 of these lengths"""
ROUNDED: dict[Numbers, float] = {"float32": TOLERANCE, "float16": 1e-3, "int8": 5e-2}
"""the same of stored vectors: float16 has 11 bits; int8 is off by 1 / 254 of a vector's largest number at most"""


def read_back(
    folder: Path,
    scratch: Path,
    towers: dict[str, Served],
    encoder: Encoder,
    tables: dict[str, pl.DataFrame],
    facts: Mapping[str, Any],
    numbers: Numbers = "float32",
) -> list[Measure]:
    """Integrity of a written export.

    Args:
        scratch: where the canaries are written.
        tables: raw features of all its users and items, by side, with their id.
        facts: whose `scale` and `bias` make a dot product a score.
        numbers: of the stored vectors.
    """
    rows = _pairs(len(tables["user"]), len(tables["item"]))
    raw = {side: table[rows[side]] for side, table in tables.items()}
    encoded = {side: encoder.encode(frame, side) for side, frame in raw.items()}
    found, out = {}, []
    if len(rows["user"]):
        found = {side: vectors(towers[side], some) for side, some in encoded.items()}
        off = max(_off(folder / f"{s}_tower.pt2", towers[s], some, found[s]) for s, some in encoded.items())
        out.append(Measure("export.pt2", off, most=TOLERANCE))
    scale, bias = facts["scale"], facts["bias"]
    u, v = (found.get(side, np.zeros((0, 1))).astype(np.float64) for side in ("user", "item"))
    size = 1 + abs(scale) * np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    ids = {f"{side}_id": frame[ID] for side, frame in raw.items()}
    scored = pl.DataFrame({**ids, "score": scale * (u * v).sum(1) + bias, "size": size})
    canary.write(scratch / "canaries", scored, raw["item"].drop(ID))
    there = canary.read_back(folder, scratch / "canaries")
    if isinstance(there, str):
        return [*out, exactly("export.readable", 0, 1, f"a fresh process could not read it: {there}")]
    for name, most in (("onnx", TOLERANCE), ("stored", ROUNDED[numbers]), ("mapped", ROUNDED[numbers])):
        out += [Measure(f"export.{name}", there[name], most=most)] if name in there else []
    counts = {"items": len(tables["item"]), "users": len(tables["user"]), "repeated": 0, "unknown": 0, "not_finite": 0}
    return [
        *out,
        exactly("export.readable", 1, 1),
        *(exactly(f"export.{name}", there[name], n) for name, n in counts.items()),
    ]


def _pairs(users: int, items: int) -> dict[str, npt.NDArray[np.int64]]:
    """Rows of the pairs' users and items: both over their whole tables, each user with another item."""
    if not users or not items:
        return {"user": np.zeros(0, np.int64), "item": np.zeros(0, np.int64)}
    k = np.arange(PAIRS)
    return {"user": k * users // PAIRS, "item": (k * 97 % PAIRS) * items // PAIRS}


def _off(file: Path, tower: Served, encoded: Encoded, expected: npt.NDArray[np.float32]) -> float:
    """The largest error of a program's numbers, over 1 + the length of their vector. Infinite where it cannot run."""
    try:
        made = pt2_file.read(file)(*arguments(encoded, tower.layout)).detach().numpy()
    except Exception:  # whatever a damaged program raises
        return float("inf")
    if made.shape != expected.shape:
        return float("inf")
    return float((np.abs(made - expected) / (1 + np.linalg.norm(expected, axis=1, keepdims=True))).max())
