"""features.json and vocabularies.parquet: how raw values become a model's inputs, as files of a publication."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.stored import from_stored
from dmtl_cli.data.features.buckets import HASHES, Buckets
from dmtl_cli.data.features.kinds import kind_of
from dmtl_cli.data.features.kinds.kind import Learned
from dmtl_cli.data.features.vocabulary import Vocabulary
from dmtl_cli.data.features.vocabulary_file import VocabularyFile
from dmtl_cli.data.log.values.spool import frame_of
from dmtl_cli.runs.contents import decoding, read_json
from dmtl_cli.runs.keyed import with_key

FORMAT = 1
_GROUP = 16_384  # values in a row group of vocabularies.parquet
_AT_ONCE = 16 * _GROUP  # values of which a table is made
_TYPED = {"embedding": pl.String, "int_value": pl.Int64, "text_value": pl.String}
_SCHEMA = _TYPED | {"row": pl.Int32, "count": pl.Int64, "last_seen": pl.Date}


class Stored(NamedTuple):
    """What the files say of an encoder."""

    features: tuple[Feature, ...]
    learned: Learned
    id_kinds: dict[str, str]
    """user, item -> int64 | string"""


def write_files(folder: Path, stored: Stored, facts: dict[str, Any], key: str = "") -> None:
    """Writes features.json and vocabularies.parquet.

    Args:
        facts: JSON values by name, which features.json has beside its own.
        key: the run's, where the files are to carry it.
    """
    described = {
        "format": FORMAT,
        "id_kinds": stored.id_kinds,
        "features": [_described(f, stored.learned) for f in stored.features],
        **facts,
        **({"key": key} if key else {}),
    }
    (folder / "features.json").write_text(json.dumps(described, indent=1, sort_keys=True, allow_nan=False) + "\n")
    _write_vocabularies(folder / "vocabularies.parquet", stored.learned.vocabularies, key)


def read_files(folder: Path, *, lazily: bool = False) -> Stored:
    """Reads what `write_files` wrote.

    Args:
        lazily: whether vocabularies stay in their file, and a few values are looked up there.

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
        read = _open_vocabularies if lazily else _read_vocabularies
        vocabularies = read(path, features, types)
        for name, vocabulary in vocabularies.items():
            if isinstance(vocabulary, VocabularyFile):
                vocabulary.check_rows(rows[name])
            elif rows.get(name) != vocabulary.rows:
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


def _write_vocabularies(file: Path, vocabularies: dict[str, Vocabulary | Buckets], key: str) -> None:
    """Values of every vocabulary; buckets have none to keep."""
    schema = pl.DataFrame(schema=_SCHEMA).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    parts = (part for name in sorted(vocabularies) for part in _parts(name, vocabularies[name]))
    write_values(file, parts, with_key(schema, key))


def _parts(name: str, vocabulary: Vocabulary | Buckets) -> Iterator[pl.DataFrame]:
    """The entries of one embedding, some row groups at a time."""
    if isinstance(vocabulary, Buckets):
        return
    text = vocabulary.frame["value"].dtype == pl.String
    missing = pl.lit(None, pl.Int64 if text else pl.String).alias("int_value" if text else "text_value")
    for part in vocabulary.frame.iter_slices(_AT_ONCE):
        values = part.rename({"value": "text_value" if text else "int_value"})
        yield values.with_columns(pl.lit(name).alias("embedding"), missing).select(*_SCHEMA)


def write_values(file: Path, parts: Iterable[pl.DataFrame], schema: pa.Schema) -> None:
    """vocabularies.parquet of entries that are sorted by embedding and value: a row group has entries of one embedding,
    so that a few values are found without the others.

    Args:
        parts: entries of one embedding each.
    """
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in parts:
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
            writer.write_table(table, row_group_size=_GROUP)


def _open_vocabularies(
    path: Path, features: list[Feature], types: dict[str, pl.DataType | None]
) -> dict[str, Vocabulary | Buckets]:
    """As `_read_vocabularies`, without reading values. Raises ValueError and others."""
    if dict(pl.scan_parquet(path, glob=False).collect_schema()) != _SCHEMA:
        raise ValueError(f"expected the columns {', '.join(_SCHEMA)} in their types")
    kinds = [kind for kind in map(kind_of, features) if kind.has_vocabulary]
    hashed = {k.embedding: Buckets(size, types[k.embedding]) for k in kinds if (size := k.feature.hash_bucket_size)}
    return {k.embedding: hashed.get(k.embedding) or VocabularyFile(path, k.embedding) for k in kinds}


def _read_vocabularies(
    path: Path, features: list[Feature], types: dict[str, pl.DataType | None]
) -> dict[str, Vocabulary | Buckets]:
    """Raises ValueError, or what libraries raise, for what `_write_vocabularies` does not write."""
    with pq.ParquetFile(path) as file:  # pq.read_table imports what reads folders, and pandas where it is installed
        whole = frame_of(file.read())
    if dict(whole.schema) != _SCHEMA:
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
