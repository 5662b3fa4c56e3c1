"""The precision of matrix products, and whether a processor has it."""

from __future__ import annotations

import torch

from dmtl_cli.config.errors import Exit, UserError


def products(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products are of that precision, fp32 or bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def refuse_precision(key: str, precision: str, device: torch.device) -> None:
    """Raises UserError 69 where bf16 is asked for and the processor has no such products: torch computes them there one
    number at a time, hundreds of times slower than fp32."""
    if precision == "fp32" or has_bf16(device):
        return
    what = f"{key}: bf16, but this {'GPU' if device.type == 'cuda' else 'CPU'} has no bfloat16 products"
    raise UserError(what, "use fp32", Exit.NO_DEVICE)


def has_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are not computed one number at a time.

    On x86 that is from AVX-512 on: oneDNN has kernels that convert to float32 on the way, and faster ones where the
    processor has avx512_bf16 or amx_bf16. torch has no public word for a CPU:
    `torch.ops.mkldnn._is_mkldnn_bf16_supported` is what its own quantization and linear layers look at (seen in 2.13;
    tests/test_private_names.py names the versions).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
