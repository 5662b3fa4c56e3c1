"""check: what dmtl makes of a day's log, without training."""

from __future__ import annotations

import datetime as dt
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dmtl_cli.config.schema import Config
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.data.log.reader import Day, Log

_BLOCKS = 32  # of the day whose durations are described
_TEACHER_FLOPS = 2e10  # a second and thread, forward and backward: a cautious guess, said to be one


def check(config: Config, day: dt.date) -> dict[str, Any]:
    """Reads and encodes the day as training would.

    Raises:
        UserError: what training would raise.
    """
    log = Log(config.data, config.features)
    with tempfile.TemporaryDirectory(prefix="dmtl-check-") as scratch:
        read = log.read(day, Path(scratch))
        encoder = Encoder(config.features).grow([read])
        labels = _labels(config, read)
        features = [_feature(encoder, read, f.name) for f in config.features]
        spool = read.spool.bytes
    rows = sum(encoder.embedding_rows().values())
    teacher = config.teacher
    width = sum(encoder.layout(s).width(teacher.embedding_dim) for s in ("user", "item", "context"))
    first, *later = teacher.expert_hidden_units
    multiplied = teacher.num_experts * (
        width * first + sum(a * b for a, b in zip((first, *later), later, strict=False))
    )
    learned = len(read) * (1 + (teacher.negatives if teacher.samples == "mixed" else 0)) * teacher.epochs
    tables = sum(t.estimated_size() for t in (read.users, read.items))
    return {
        "day": str(day),
        "rows": len(read),
        "users": len(read.users),
        "items": len(read.items),
        "labels": labels,
        "join": {
            f"{k}_joined": round(read.facts[f"{k}_joined"], 4)
            for k in ("users", "items")
            if getattr(config.data, k) is not None
        },
        "features": features,
        "estimates": {
            "table_rows": rows,
            "memory_mb": round(
                (rows * (teacher.embedding_dim + 1) * 8 + tables * 2 + spool / max(1, len(read) // 65536)) / 1e6 + 600
            ),
            "disk_mb": round(
                (spool + len(read) * (1 + config.scores.negatives) * 20 * 2 + rows * teacher.embedding_dim * 8) / 1e6
            ),
            "teacher_minutes": round(learned * multiplied * 6 / (_TEACHER_FLOPS * config.threads) / 60, 1),
        },
    }


def _labels(config: Config, day: Day) -> dict[str, Any]:
    facts = day.facts
    out: dict[str, Any] = {
        "click_rate": round(facts["clicks"] / max(1, len(day)), 4),
        "exposures": config.data.events.click is not None,
        "repeated_clicks": int(facts["repeated_clicks"]),
    }
    if config.data.events.duration:
        seconds = np.concatenate([b.duration[b.click] for b in itertools.islice(day.blocks(), _BLOCKS)])
        known = seconds[~np.isnan(seconds)]
        out["clicks_without_duration"] = int(facts["clicks_without_duration"])
        if len(known):
            out["duration_seconds"] = {f"p{q}": round(float(np.percentile(known, q)), 1) for q in (10, 50, 90)}
            out["duration_seconds"]["mean"] = round(float(known.mean()), 2)
            out["long_read_rate_at_mean"] = round(float((known > known.mean()).mean()), 4)
    else:
        converted = sum(int(b.labels(None)[0].sum()) for b in day.blocks())
        out["conversion_rate"] = round(converted / max(1, facts["clicks"]), 4)
    return out


def _feature(encoder: Encoder, day: Day, name: str) -> dict[str, Any]:
    """Kind, rows of the embedding, the share of the day's active users, items or events with no known value; of hashed
    values how many there are and in how many buckets they lie."""
    f = next(f for f in encoder.features if f.name == name)
    out: dict[str, Any] = {"name": name, "side": f.side, "kind": f.kind}
    if f.embedding:
        out["embedding"], out["embedding_rows"] = f.embedding, encoder.embedding_rows()[f.embedding]
    one = Encoder((f,), encoder.vocabularies, encoder.numbers, encoder.id_kinds)
    if f.per_event:
        unknown = total = 0
        for block in day.blocks():
            assert block.features is not None
            null = block.features[f.name].is_null()
            unknown, total = unknown + int(null.sum()), total + len(null)
        out["unknown_share"] = round(unknown / max(1, total), 4)
        return out
    active = (day.user_events if f.side == "user" else day.item_events) > 0
    table = (day.users if f.side == "user" else day.items).filter(active)
    encoded = one.encode(table, f.side)
    if encoded.ids.size:
        known = encoded.ids[:, 0] > 0
        out["unknown_share"] = round(float((~known).mean()), 4)
        if f.hash_bucket_size:
            out["values"] = table[name].filter(pl.Series(known)).n_unique()
            out["buckets"] = len(np.unique(encoded.ids[known]))
    elif encoded.sequences:
        out["mean_length"] = round(float((encoded.sequences[0] > 0).sum(1).mean()), 2)
        out["unknown_share"] = round(float((encoded.sequences[0] == 0).all(1).mean()), 4)
    else:
        out["unknown_share"] = round(float(table[name].null_count() / max(1, len(table))), 4)
    return out


def _words(value: Any) -> str:
    return " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def described(found: dict[str, Any]) -> str:
    labels, join, guess = found["labels"], found["join"], found["estimates"]
    lines = [
        f"day {found['day']}: {found['rows']:,} rows, {found['users']:,} users, {found['items']:,} items",
        "labels: " + ", ".join(f"{k} {_words(v)}" for k, v in labels.items()),
        *(f"the table of {k.removesuffix('_joined')} holds {share:.1%} of the day's" for k, share in join.items()),
        "",
        f"{'feature':24}{'side':9}{'kind':13}{'embedding':24}{'rows':>10}{'unknown':>9}",
    ]
    for f in found["features"]:
        rows = f.get("embedding_rows", "")
        lines.append(
            f"{f['name']:24}{f['side']:9}{f['kind']:13}{f.get('embedding', ''):24}{rows:>10}{f['unknown_share']:>9.1%}"
        )
    for f in (f for f in found["features"] if "buckets" in f):
        lines.append(f"{f['name']}: {f['values']:,} values of the day lie in {f['buckets']:,} buckets")
    lines += ["", "estimates (guesses): " + ", ".join(f"{k} {v}" for k, v in guess.items())]
    return "\n".join(lines)
