"""python -m peers NAME LOG mmoe|dssm|day: trains a peer on LOG/train and prints a line of JSON.

`rows` that it learned, `read_s` (from Parquet to arrays), `prep_s` (that, and the library's own data set and model),
`train_s` (its loop), `rows_per_s` of the loop, `e2e_rows_per_s` of preparation and loop, `rss_mb` (the process's peak
until then) and `auc` of LOG/test by label. With `day` it does the work of the last day of LOG/train, see `day.py`:
`steps` are its seconds by step, and both rates are of all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from benchmark.sizes import BATCH, WEIGHTS
from torch import nn

from peers.day import Work
from peers.rows import Options, Rows, Training, Vocabularies, read

NAMES = ("plain", "rechub", "deepctr", "nextrec", "fuxictr")


def auc(training: Training, held_out: Rows) -> dict[str, float]:
    """Of each label, by `scores` of rows that were not learned."""
    from sklearn.metrics import roc_auc_score

    assert training.scores
    scores = np.asarray(training.scores(held_out))
    return {label: float(roc_auc_score(y, scores[:, k])) for k, (label, y) in enumerate(held_out.labels.items())}


def weights(model: nn.Module) -> int:
    """In products with what is computed of a row."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))


def refuse_another_size(name: str, model: str, training: Training) -> None:
    if weights(training.model) != WEIGHTS[model]:
        raise SystemExit(f"{name}: {weights(training.model):,} weights, where all have {WEIGHTS[model]:,}")


def described(args: argparse.Namespace, peer: ModuleType) -> dict[str, Any]:
    """Who was measured, and the process's peak so far."""
    return {
        "peer": f"{peer.DISTRIBUTION} {version(peer.DISTRIBUTION)}",
        "model": args.model,
        "workers": args.workers,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def day(args: argparse.Namespace, peer: ModuleType, options: Options) -> dict[str, Any]:
    work = Work(peer, max((args.log / "train").iterdir()), options)
    work.run()
    refuse_another_size(args.name, "mmoe", work.ranker)
    refuse_another_size(args.name, "dssm", work.retriever)
    rate = len(work.rows) / sum(work.seconds.values())
    found = described(args, peer) | {"rows": len(work.rows), "steps": work.seconds}
    found |= {"rows_per_s": rate, "e2e_rows_per_s": rate}
    return found | {"auc": auc(work.ranker, work.vocabularies.rows(read(args.log / "test")))}


def one_model(args: argparse.Namespace, peer: ModuleType, options: Options) -> dict[str, Any]:
    start = time.perf_counter()
    log = read(args.log / "train", args.rows)
    vocabularies = Vocabularies(log)
    rows = vocabularies.rows(log)
    del log
    encoded = time.perf_counter()
    if args.model == "dssm":
        rows = rows.clicked()
    training: Training = getattr(peer, args.model)(rows, vocabularies.sizes, options)
    ready = time.perf_counter()
    refuse_another_size(args.name, args.model, training)
    n = 0 if args.prepare else len(rows)
    if n:
        training.fit()
    trained = time.perf_counter()
    found = described(args, peer) | {
        "rows": len(rows),
        "read_s": encoded - start,
        "prep_s": ready - start,
        "train_s": trained - ready,
        "rows_per_s": n / (trained - ready),
        "e2e_rows_per_s": n / (trained - start),
    }
    if n and training.scores:
        found["auc"] = auc(training, vocabularies.rows(read(args.log / "test")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m peers", description="a library's MMoE or DSSM on the bench's log")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("log", type=lambda x: Path(x).resolve(), help="folder with train/ and test/")
    parser.add_argument("model", choices=("mmoe", "dssm", "day"))
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    parser.add_argument("--rows", type=int, help="learn no more than these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prepare", action="store_true", help="stop before the first step")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # some write checkpoints and logs to where they run
        with contextlib.redirect_stdout(sys.stderr):  # libraries print what they do
            peer = importlib.import_module(f"peers.{args.name}")
            torch.manual_seed(args.seed)
            options = Options(args.batch, args.workers, args.seed, Path(scratch))
            found = (day if args.model == "day" else one_model)(args, peer, options)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
