"""What a machine can do at most, and what a row needs."""

from __future__ import annotations

import time

import torch

from benchmark.sizes import WEIGHTS
from dmtl_cli.nn.precision import has_bf16

PRECISIONS = ("fp32", "bf16") if has_bf16(torch.device("cpu")) else ("fp32",)
FLOP = 6 * WEIGHTS["mmoe"]
"""of a row of the teacher, forward and backward, products only, with nothing shared: 4.67 million"""


def products(threads: int) -> dict[str, float]:
    """The most GFLOP/s of a product of two matrices in each precision, of several sizes, on all threads."""
    torch.set_num_threads(threads)
    best = {}
    for name, kind in zip(PRECISIONS, (torch.float32, torch.bfloat16), strict=False):
        found = []
        for n, k, m in ((2048, 2048, 2048), (4096, 256, 2048), (1024, 1024, 1024)):
            a, b = torch.randn(n, k).to(kind), torch.randn(k, m).to(kind)
            for _ in range(6):
                start = time.perf_counter()
                a @ b
                found.append(2e-9 * n * k * m / (time.perf_counter() - start))
        best[name] = max(found)
    return best
