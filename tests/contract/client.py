"""A client of an export, from docs/export.md alone: `client.py EXPORT < REQUESTS > ANSWERS`, a JSON text a line."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq


def as_id(v, text):
    if v is None or v == "" or v != v:
        return None
    if not isinstance(v, str):
        if v % 1 or not -(2**63) <= v < 2**63 or (isinstance(v, float) and abs(v) >= 2**53):
            raise ValueError("no id")
        v = str(int(v))
    digits, sign = v.encode()[v[0] in "+-" :], -1 if v[0] == "-" else 1
    number = sign * int(digits.lstrip(b"0")[:20] or 0) if digits.isdigit() else 2**63  # int() has a limit of digits
    return v if text else number if -(2**63) <= number < 2**63 else None


def row_of(f, v, vocabularies):
    text, rows = vocabularies.get(f.get("embedding_name", f["name"]), (f.get("hash") == "blake2b64", {}))
    if (v := as_id(v, text)) is None or "hash" not in f:
        return rows.get(v, 0)
    z = int.from_bytes(hashlib.blake2b(v.encode(), digest_size=8).digest(), "big") if text else v + 0x9E3779B97F4A7C15
    for shift, factor in [] if text else [(30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)]:
        z = (z % 2**64 ^ z % 2**64 >> shift) * factor
    return 1 + z % 2**64 % f["hash_bucket_size"]


def number_of(v):
    return float(v) if v is not None and abs(v) < 2**1024 - 2**970 else np.nan  # there doubles end


def encode(features, vocabularies, raw):
    inputs, ids, floats = {}, [], []
    for f in sorted(features, key=lambda f: f.get("level") == "event"):
        v, name, size = raw.get(f["name"]), f"sequence_{len(inputs)}", f["max_length"]
        if f["kind"] == "categorical":
            ids.append(row_of(f, v, vocabularies))
        elif f["kind"] == "sequence":
            v = v.split(f["separator"]) if isinstance(v, str) else v or []
            inputs[name] = ([r for r in (row_of(f, x, vocabularies) for x in v) if r][-size:] + [0] * size)[:size]
        elif f["kind"] == "vector":
            x = np.array([number_of(e) for e in ([0] * f["dim"] if v in (None, []) else v)])
            floats.extend(np.where(abs(x.reshape(f["dim"])) < 2.0**128 - 2.0**103, x, 0))
        else:
            x = number_of(v)
            x = np.sign(x) * np.log1p(abs(x)) if f.get("transform") == "log1p" else x
            if "boundaries" in f or "num_buckets" in f:
                ids.append(1 + sum(edge <= x for edge in f["edges"]) if x == x and "edges" in f else 0)
            else:
                floats.append(np.nan_to_num(np.clip((x - f["mean"]) / f["std"], -10, 10)) if "mean" in f else 0)
    return {n: np.array([x]) for n, x in (inputs | {"ids": ids, "floats": np.float32(floats)}).items() if len(x)}


def best(about, items, vectors, vector, left_out, k):
    dots = (vectors * vector).sum(1).astype(np.float32)
    left = [r for r in np.argsort(-dots, kind="stable") if items[r]["item_id"] not in left_out][:k]
    scores = [about["scale"] * float(dots[r]) + about["bias"] for r in left]
    return [{"item_id": str(items[r]["item_id"]), "score": score} for r, score in zip(left, scores, strict=True)]


def main(root):
    folder = root / (root / "LATEST").read_text().strip()
    about, vocabularies = json.loads((folder / "features.json").read_text()), {}
    tables = [pq.read_table(folder / f"{name}.parquet") for name in ("vocabularies", "users", "item_vectors")]
    towers = {side: onnxruntime.InferenceSession(folder / f"{side}_tower.onnx") for side in ("user", "item")}
    keys = [t.schema.metadata[b"dmtl.key"].decode() for t in tables]
    keys += [t.get_modelmeta().custom_metadata_map["dmtl.key"] for t in towers.values()]
    if about["format"] != 1 or {*keys} != {about["key"]}:
        sys.exit("another format, or files of two runs")
    rows, users, items = (table.to_pylist() for table in tables)
    for row, v in [(r, v) for r in rows for v in (r["int_value"], r["text_value"]) if v is not None]:
        vocabularies.setdefault(row["embedding"], (isinstance(v, str), {}))[1][v] = row["row"]
    vectors = np.array([np.float32(i["vector"]) * np.float32(i.get("scale", 1)) for i in items], float)
    for line in sys.stdin:
        asked = json.loads(line, object_hook=lambda d: float(d["float"]) if "float" in d else d)
        side, name = asked.get("side", "user"), asked.get("user")
        new = {f"feature.{c}": v for c, v in about.get("unseen", {}).items() if name}
        user = next((u for u in users if str(u["user_id"]) == name), {"feature.user_id": name} | new)
        raw = {c[8:]: v for c, v in user.items() if c.startswith("feature.")} | asked.get("raw", {})
        try:
            inputs = encode([f for f in about["features"] if f["side"] == side], vocabularies, raw)
            vector = towers[side].run(None, inputs)[0][0]
            if asked.get("kappa", about.get("kappa", 0)) != about.get("kappa", 0):
                vector[slice(*about["blocks"]["exposure"])] *= asked["kappa"] / about["kappa"]
            seen = (asked.get("exclude_seen") and user.get("seen_items")) or []
            top = best(about, items, vectors, vector, seen, asked.get("k", 0))
            print(json.dumps({n: x[0].tolist() for n, x in inputs.items()} | {"vector": vector.tolist(), "items": top}))
        except (KeyError, TypeError, ValueError):
            print('{"error": true}')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
