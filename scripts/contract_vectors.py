"""Makes tests/contract/frozen: four small exports, by the commands that a user calls, and cases.json, what a client of
them must answer.

    python scripts/contract_vectors.py tests/contract/frozen

An export that is there is kept; delete it where the files of an export change, and run this again. Inputs of towers
must then be as before, unless the contract changes; vectors are those of the student that this machine trained, and
numbers at which two items are close (`_CLOSE`) are to be looked for again.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from contract_worlds import CASES, CONFIGS, DAYS, FORGOTTEN, tables_of

from dmtl_cli.config.errors import UserError
from dmtl_cli.data.features.layout import Encoded
from dmtl_cli.serving.export import Export
from dmtl_cli.serving.files import input_names, open_tower
from dmtl_cli.serving.raw import column


def publish(name: str, scratch: Path, out: Path) -> None:
    """Runs a world's days and copies its export, but for the torch programs, to out/NAME."""
    for day in DAYS:
        for table, frame in tables_of(name, day).items():
            folder = scratch / "log" / table / f"day={day}"
            folder.mkdir(parents=True)
            frame.write_parquet(folder / "part-0.parquet")
    config = CONFIGS[name] | {"workspace": str(scratch / "ws")}
    config["data"]["root"] = str(scratch / "log")
    (scratch / "config.yaml").write_text(yaml.safe_dump(config))
    dmtl(scratch, "backfill", "--from", DAYS[0], "--to", DAYS[-1])
    if name in FORGOTTEN:
        (scratch / "users.txt").write_text(FORGOTTEN[name] + "\n")
        dmtl(scratch, "forget", "--users", scratch / "users.txt")
    latest = (scratch / "ws/export/LATEST").read_text()
    skip = shutil.ignore_patterns("*.pt2", "manifest.json")
    shutil.copytree(scratch / "ws/export" / latest.strip(), out / name / latest.strip(), ignore=skip)
    (out / name / "LATEST").write_text(latest)


def dmtl(scratch: Path, command: str, *arguments: object) -> None:
    call = [sys.executable, "-m", "dmtl_cli.cli", command, "--config", scratch / "config.yaml", *arguments]
    subprocess.run(list(map(str, call)), check=True)


def answer(export: Export, request: dict[str, Any]) -> dict[str, Any]:
    """What a client answers: inputs of the tower and vector of one user or item, and a user's best items."""
    side, user = request.get("side", "user"), request.get("user")
    row = export.users.filter(pl.col("user_id").cast(pl.String) == (user or ""))
    stored = row.select(pl.col(c).alias(c.removeprefix("feature.")) for c in row.columns if c.startswith("feature."))
    new = {} if user is None or len(row) else export.unseen("user") | {"user_id": user}
    raw = new | request.get("raw", {})
    try:
        named = [column(f, [raw[f.name]]) for f in export.encoder.features_of_side(side) if f.name in raw]
        frame = stored.with_columns(named) if len(row) else pl.DataFrame([pl.Series(":row", [0]), *named])
        inputs = inputs_of(export.encoder.encode(frame, side), export, side)
        vector = vector_of(inputs, export, side)
        if "kappa" in request:
            vector = export.with_kappa(vector, request["kappa"])
    except UserError:
        return {"error": True}
    out: dict[str, Any] = {
        "inputs": {name: rows[0].tolist() for name, rows in inputs.items()},
        "vector": vector[0].tolist(),
    }
    if "k" in request:
        seen = row["seen_items"].to_list()[0] or [] if request.get("exclude_seen") and len(row) else []
        out["items"] = best(export, vector[0], seen, request["k"])
    return out


def inputs_of(encoded: Encoded, export: Export, side: str) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a side's tower by name, a row of each."""
    found: dict[str, np.ndarray[Any, Any]] = {"ids": encoded.ids.astype(np.int64), "floats": encoded.floats}
    found |= {f"sequence_{k}": s.astype(np.int64) for k, s in enumerate(encoded.sequences)}
    return {name: found[name] for name in input_names(export.encoder.layout(side))}


def vector_of(inputs: dict[str, np.ndarray[Any, Any]], export: Export, side: str) -> np.ndarray[Any, Any]:
    """[n, d]"""
    tower = open_tower(export.folder, side, export.encoder.layout(side), export.described["embedding_rows"], None)
    return np.asarray(tower.run(None, inputs)[0])


def best(export: Export, vector: np.ndarray[Any, Any], seen: list[Any], k: int) -> list[dict[str, Any]]:
    """The k best items by a plain loop: sums in double, rounded to single; ties in the order of the rows."""
    ids, vectors = export.items
    u = vector.astype(np.float64)
    dots = [np.float32(math.fsum(u * v)) for v in vectors.astype(np.float64)]
    order = sorted(range(len(ids)), key=lambda row: (-dots[row], row))
    found = [row for row in order if ids[row] not in seen][:k]
    scores = export.score(np.asarray(dots, np.float64))
    return [{"item_id": str(ids[row]), "score": float(scores[row])} for row in found]


def tagged(value: Any) -> Any:
    """A float that JSON cannot write as {"float": text}."""
    if isinstance(value, dict):
        return {name: tagged(v) for name, v in value.items()}
    if isinstance(value, list):
        return [tagged(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def main(out: Path) -> None:
    cases = []
    for name in CONFIGS:
        if not (out / name).is_dir():
            with tempfile.TemporaryDirectory() as scratch:
                publish(name, Path(scratch), out)
        export = Export(out / name / (out / name / "LATEST").read_text().strip())
        for why, request in CASES[name]:
            expected = answer(export, request)
            cases.append({"export": name, "why": why, "request": tagged(request), "expected": expected})
    lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
    (out / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
