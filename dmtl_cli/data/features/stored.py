"""features.json and vocabularies.parquet: how raw values become a model's inputs, as files of a publication."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.stored import from_stored
from dmtl_cli.data.features.buckets import HASHES, Buckets
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.kinds.kind import Learned
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.runs.contents import decoding, read_json

FORMAT = 1
_TYPED = {"embedding": pl.String, "int_value": pl.Int64, "text_value": pl.String}
_SCHEMA = _TYPED | {"row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date}


class Stored(NamedTuple):
    """What the files say of an encoder."""

    features: tuple[Feature, ...]
    learned: Learned
    id_kinds: dict[str, str]
    """user, item -> int64 | string"""


def write_files(folder: Path, stored: Stored, facts: dict[str, Any]) -> None:
    """Writes features.json and vocabularies.parquet.

    Args:
        facts: JSON values by name, which features.json has beside its own.
    """
    described = {
        "format": FORMAT,
        "id_kinds": stored.id_kinds,
        "features": [_described(f, stored.learned) for f in stored.features],
        **facts,
    }
    (folder / "features.json").write_text(json.dumps(described, indent=1, sort_keys=True, allow_nan=False) + "\n")
    _write_vocabularies(folder, stored.learned.vocabularies)


def read_files(folder: Path) -> Stored:
    """Reads what `write_files` wrote.

    Raises:
        UserError: 65 another format, or what `write_files` does not write.
    """
    path = folder / "features.json"
    described = read_json(path)
    if (found := described.get("format")) != FORMAT:
        raise UserError(f"{path}: format {found!r}, this dmtl reads {FORMAT}", "use the dmtl that wrote it")
    with decoding(path):
        features, numbers, types = _read_features(described["features"])
        id_kinds, rows = described["id_kinds"], described["embedding_rows"]
        if id_kinds.keys() != {"user", "item"} or not {*id_kinds.values()} <= {"int64", "string"}:
            raise ValueError(f"id_kinds: expected int64 or string of user and item, got {id_kinds}")
    path = folder / "vocabularies.parquet"
    with decoding(path):
        vocabularies = _read_vocabularies(path, features, types)
        for name, vocabulary in vocabularies.items():
            if rows.get(name) != vocabulary.rows:
                raise ValueError(f"{name}: expected the {rows.get(name)} rows of features.json, got {vocabulary.rows}")
    return Stored(tuple(features), Learned(vocabularies, numbers), id_kinds)


def _read_features(
    entries: list[dict[str, Any]],
) -> tuple[list[Feature], dict[str, dict[str, Any]], dict[str, pl.DataType | None]]:
    """Features, what was measured of each, and by embedding the type that a hash has. Raises ValueError and others."""
    fields = set(Feature.model_fields)
    features, numbers, types = [], {}, {}
    for f in entries:
        features.append(from_stored(Feature, {k: v for k, v in f.items() if k in fields}))
        rest = {k: v for k, v in f.items() if k not in fields}
        if (kind := kind_of(features[-1])).has_vocabulary:
            types[kind.embedding] = HASHES.get(rest.pop("hash", ""))
        if rest:
            kind.check(rest)
            numbers[f["name"]] = rest
    return features, numbers, types


def _described(f: Feature, learned: Learned) -> dict[str, Any]:
    """A feature's entry in features.json: its section of the config, what was measured, the hash of its buckets."""
    kind = kind_of(f)
    entry = f.model_dump(mode="json", exclude_none=True) | learned.numbers.get(f.name, {})
    rows = learned.vocabularies.get(kind.embedding) if kind.has_vocabulary else None
    return entry | ({"hash": rows.hash} if isinstance(rows, Buckets) and rows.hash else {})


def _write_vocabularies(folder: Path, vocabularies: dict[str, Vocabulary | Buckets]) -> None:
    """Values of every vocabulary; buckets have none to keep."""
    frames = []
    for name, vocabulary in sorted(vocabularies.items()):
        if isinstance(vocabulary, Buckets):
            continue
        text = vocabulary.frame["value"].dtype == pl.String
        values = vocabulary.frame.rename({"value": "text_value" if text else "int_value"})
        missing = pl.lit(None, pl.Int64 if text else pl.String).alias("int_value" if text else "text_value")
        frames.append(values.with_columns(pl.lit(name).alias("embedding"), missing))
    whole = pl.concat([f.select(*_SCHEMA) for f in frames]) if frames else pl.DataFrame(schema=_SCHEMA)
    pq.write_table(
        whole.to_arrow(compat_level=pl.CompatLevel.oldest()), folder / "vocabularies.parquet", compression="zstd"
    )


def _read_vocabularies(
    path: Path, features: list[Feature], types: dict[str, pl.DataType | None]
) -> dict[str, Vocabulary | Buckets]:
    """Raises ValueError, or what libraries raise, for what `_write_vocabularies` does not write."""
    whole = pl.from_arrow(pq.read_table(path))
    if not isinstance(whole, pl.DataFrame) or dict(whole.schema) != _SCHEMA:
        raise ValueError(f"expected the columns {', '.join(_SCHEMA)} in their types")
    vocabularies: dict[str, Vocabulary | Buckets] = {}
    for kind in map(kind_of, features):
        if not kind.has_vocabulary:
            continue
        name = kind.embedding
        if size := kind.feature.hash_bucket_size:
            vocabularies[name] = Buckets(size, types[name])
            continue
        kept = whole.filter(pl.col("embedding") == name)
        value = "int_value" if kept["int_value"].count() else "text_value"  # a row that lost its value has neither
        vocabulary = Vocabulary(kept.select(pl.col(value).alias("value"), "row", "count", "last_seen"))
        vocabulary.check(name)
        vocabularies[name] = vocabulary
    return vocabularies
