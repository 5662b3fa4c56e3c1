"""The precision of matrix products, and whether a processor has it."""

from __future__ import annotations

import torch

from dmtl_cli.config.errors import Exit, UserError


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context that computes matrix products in a precision, fp32 or bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def refuse_precision(key: str, precision: str, device: torch.device) -> None:
    """Raises UserError 69 if the config asks for bf16 and the processor lacks such products: torch would compute them
    one number at a time, hundreds of times slower than fp32."""
    if precision == "fp32" or has_bf16(device):
        return
    what = f"{key}: bf16, but this {'GPU' if device.type == 'cuda' else 'CPU'} has no bfloat16 products"
    raise UserError(what, "use fp32", Exit.NO_DEVICE)


def has_bf16(device: torch.device) -> bool:
    """Whether a processor has bfloat16 products, which torch would else compute one number at a time.

    On x86 they begin with AVX-512: oneDNN has kernels that convert to float32 on the way, and faster ones if the
    processor has avx512_bf16 or amx_bf16. torch has no public function that tells for a CPU:
    `torch.ops.mkldnn._is_mkldnn_bf16_supported` is what its own quantization and linear layers check (seen in 2.13;
    tests/test_private_names.py names the versions).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
