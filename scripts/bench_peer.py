"""Runs a peer's training script and scores a held-out day with the model it leaves; for `bench.py`, in the peers' venv.

    python scripts/bench_peer.py PEER.py HELD_OUT SCORES.npy SEED  DIR mmoe BATCH EPOCHS [--rows N] ...

A peer script trains on DIR, prints one JSON line, and leaves `o` (its options), `load` (DIR -> arrays and labels),
`CAT` and `m`, the model. Scores are [rows, 2]: of a click, and of a click with a long read.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

BATCH = 4096


def held_out(left: dict[str, Any], folder: str) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Arrays and labels of another folder, through the vocabularies of the one that was trained on."""
    options, load = left["o"], left["load"]
    common = load.__globals__
    vocabularies = common["build_vocab"](options.dir)
    common["build_vocab"] = lambda _: vocabularies
    options.dir, options.rows = folder, 0
    x, y, *_ = load(options)
    return x, y


@torch.no_grad()
def scores(left: dict[str, Any], x: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """[rows, 2]"""
    model, n = left["m"].eval(), len(x["d0"])
    if hasattr(model, "predict"):  # deepctr-torch
        return np.asarray(model.predict(x, BATCH))
    out = []
    for start in range(0, n, BATCH):
        part = {k: torch.from_numpy(v[start : start + BATCH]) for k, v in x.items()}
        out.append(logits_of(model, part, left["CAT"]) if hasattr(model, "loss") else model(part))
    return torch.cat(out).numpy()


def logits_of(model: Any, x: dict[str, torch.Tensor], categorical: list[str]) -> torch.Tensor:
    """Of a plain model that only gives its loss: what it hands to the loss function."""
    caught: list[torch.Tensor] = []
    functional: Any = torch.nn.functional
    true_loss = functional.binary_cross_entropy_with_logits
    functional.binary_cross_entropy_with_logits = lambda z, _: caught.append(z)
    try:
        ids, dense = torch.stack([x[c] for c in categorical], 1), torch.stack([x["d0"], x["d1"]], 1)
        model.loss({"ids": ids.long(), "hist": x["hist"].long(), "dense": dense, "y": torch.zeros(len(ids), 2)})
    finally:
        functional.binary_cross_entropy_with_logits = true_loss
    return caught[0]


def main(script: str, folder: str, out: str, seed: str, *arguments: str) -> None:
    true_seed = torch.manual_seed
    reseeded: Any = lambda s: true_seed(s + int(seed))  # noqa: E731 (the scripts fix one seed)
    torch.manual_seed = reseeded
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    left = runpy.run_path(script, run_name="__main__")
    if out != "-":
        np.save(out, scores(left, held_out(left, folder)[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
