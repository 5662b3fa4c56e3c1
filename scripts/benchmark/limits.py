"""What a machine can do at most, what a row needs at least, and so the rate that no implementation exceeds.

Only work that is really needed is counted: what rows of a batch share, they need once. Bytes are those that must come
from memory and go back however large the caches: touched rows of a table, weights with their moments, inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmark.sizes import DIM, EXPERT_UNITS, EXPERTS, OF_ITEM, OF_USER, TOWER_UNITS, VECTOR_UNITS, WEIGHTS
from dmtl_cli.nn.kernels.products import product
from dmtl_cli.nn.precision import has_bf16

PRECISIONS = ("fp32", "bf16") if has_bf16(torch.device("cpu")) else ("fp32",)
USER, ITEM = (len(OF_USER) + 2) * DIM + 1, (len(OF_ITEM) + 1) * DIM
"""inputs of a user (ids, history, number) and of an item"""
FIRST = EXPERTS * EXPERT_UNITS[0] + 2 * EXPERTS
"""outputs of the teacher's first layer"""
OF_A_ROW = FIRST + EXPERTS * EXPERT_UNITS[0] * EXPERT_UNITS[1] + 2 * (EXPERT_UNITS[1] + 1) * TOWER_UNITS[0]
"""multiplications of a row alone: its number in the first layer, later layers, towers"""
MOMENTS = 9 * 4
"""bytes of a weight in a step: read forward and backward, gradient out and in, two moments in and out, itself out"""


@dataclass(frozen=True)
class Shape:
    """What a batch has on average, of rows and of what they share."""

    rows: float
    users: float
    items: float
    embeddings: float
    """distinct rows of the embedding table"""


@dataclass(frozen=True)
class Need:
    """What a row needs at least."""

    flop: float = 0.0
    bytes: float = 0.0

    def limit(self, gflops: float, gigabytes: float) -> float:
        """Rows/s of a machine with so many GFLOP/s and GB/s."""
        return 1e9 / max(self.flop / gflops, self.bytes / gigabytes)


def teacher_step(s: Shape) -> Need:
    """Of a row in training: products forward, and backward for inputs and weights."""
    flop = 6 * (s.users * USER * FIRST + s.items * ITEM * FIRST + s.rows * OF_A_ROW)
    return Need(flop / s.rows, (s.embeddings * DIM * 4 * 4 + WEIGHTS["mmoe"] * MOMENTS) / s.rows)


def student_step(s: Shape) -> Need:
    """Of a row in training: both towers, and three products of all users' and items' vectors."""
    hidden, last = VECTOR_UNITS
    towers = s.users * (USER + last) * hidden + s.items * (ITEM + last) * hidden
    flop = 6 * (towers + s.users * s.items * last)
    return Need(flop / s.rows, (s.embeddings * DIM * 4 * 4 + WEIGHTS["dssm"] * MOMENTS) / s.rows)


def scored_pair() -> Need:
    """Of a pair of a user and an item that are encoded already: two row numbers in, two logits out."""
    return Need(2 * OF_A_ROW, 8 + 8)


def _best(work: Callable[[], object], times: int = 6) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def peaks(threads: int) -> dict[str, float]:
    """The most GFLOP/s of a product of two matrices in each precision, of several sizes and by both libraries that
    torch has, on all threads; and GB/s of a copy, read and written."""
    torch.set_num_threads(threads)
    best = dict.fromkeys(PRECISIONS, 0.0)
    for name, kind in zip(PRECISIONS, (torch.float32, torch.bfloat16), strict=False):
        for n, k, m in ((2048, 2048, 2048), (4096, 256, 2048), (1024, 1024, 1024)):
            a, b = torch.randn(n, k).to(kind), torch.randn(m, k).to(kind)
            for multiply in (lambda a=a, b=b: a @ b.t(), lambda a=a, b=b: product(a, b)):
                best[name] = max(best[name], 2e-9 * n * k * m / _best(multiply))
    source = torch.ones(2**26)
    target: Tensor = torch.empty_like(source)
    best["memory"] = 2e-9 * 4 * len(source) / _best(lambda: target.copy_(source))
    return best


def decoding(folder: Path, threads: int) -> float:
    """Rows/s of Arrow decoding every column of a folder's Parquet: no reader of it is faster."""
    pa.set_cpu_count(threads)
    files = sorted(folder.rglob("*.parquet"))
    rows = sum(pq.read_metadata(f).num_rows for f in files)
    return float(rows) / _best(lambda: [pq.read_table(f, use_threads=True) for f in files], 3)
