"""Matrix products by oneDNN, where torch itself would call another library.

For float32 torch calls MKL, which leaves half of what other vendors' processors with AVX-512 can do unused: on an AMD
EPYC oneDNN does 2.2 times as many operations a second. On an EPYC with AVX2 alone, and on an Intel Xeon, MKL is no
slower, and each call costs less. What torch computes in bfloat16 is oneDNN's already.

Shapes: n rows, K inputs, M outputs.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dmtl_cli.runs.processor import has_avx512, is_intel

SMALL = 2**20
"""multiplications of a product below which finding oneDNN's kernel costs more than it saves"""


EVEN = 64
"""oneDNN compiles a product anew for each number of rows, and batches differ in how many distinct users and items they
have: they are padded to a multiple of it"""


def even(x: Tensor) -> Tensor:
    """[n, K] with rows of zeros up to `even_rows`."""
    missing = even_rows(x) - len(x)
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def even_rows(x: Tensor) -> int:
    """The rows of x up to a multiple of EVEN; on another device as many as there are."""
    return len(x) + (-len(x) % EVEN if x.device.type == "cpu" else 0)


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which products of x are computed: that of autocast where it is on, which a kernel has to ask for."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, [n, K], [M, K], [M] -> [n, M]; of any strides, and not for autograd."""
    return _onednn(x, weight, bias) if _pays(x, len(weight)) else F.linear(x, weight, bias)


def across(a: Tensor, b: Tensor) -> Tensor:
    """a^T b, [n, K], [n, M] -> [K, M]: of a product's weight the gradient.

    With a K of a few it is ten times as fast as with such an M.
    """
    if not _pays(a, b.shape[1]):
        return a.t() @ b
    if a.shape[1] <= b.shape[1]:  # the first factor is copied, so it is the smaller one
        return _onednn(a.t(), b.t())
    return _onednn(b.t(), a.t()).t()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` for autograd, [n, K], [M, K], [M] -> [n, M], by oneDNN where that pays."""
    if not _pays(x, len(weight)) or torch.is_autocast_enabled(x.device.type):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return product(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def relu_backward_(gradient: Tensor, output: Tensor) -> None:
    """Sets the gradient of a ReLU's output to 0 where that output is 0, in place: the gradient of its input.

    torch has no public function for it, and masking would need another tensor. `threshold_backward` is the operator
    that torch's own ReLU calls (seen in 2.13; tests/test_private_names.py names the versions).
    """
    torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)


class Linear(nn.Linear):
    """`nn.Linear` by `linear`; of a few rows, or compiled, it is torch's own, which has a format: a tower is recorded
    with a few rows."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and len(x) >= EVEN:
            return linear(x, self.weight, self.bias)
        return super().forward(x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.rows, x = len(x), even(x)
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)[: ctx.rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> Any:
        (x, weight), d = ctx.saved_tensors, even(d)
        d_x = product(d, weight.t())[: ctx.rows] if ctx.needs_input_grad[0] else None
        d_weight = across(d, x) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, d.sum(0) if ctx.needs_input_grad[2] else None


def _pays(x: Tensor, outputs: int) -> bool:
    return (
        x.dtype == torch.float32
        and x.dim() == 2
        and x.device.type == "cpu"
        and x.numel() * outputs >= SMALL
        and faster()
    )


@functools.cache
def faster() -> bool:
    """Whether oneDNN is there, and has AVX-512 where MKL does not use it. Not measured at run time: the same machine,
    the same bits."""
    return there() and has_avx512() and not is_intel()


@functools.cache
def there() -> bool:
    """Whether torch has oneDNN here; elsewhere than on x86 it was not measured, and torch's own products are kept."""
    mkldnn = torch.backends.mkldnn
    return bool(mkldnn.is_available()) and platform.machine() in ("x86_64", "AMD64")  # type: ignore[no-untyped-call]


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch has no public function that multiplies float32 by oneDNN: this one is what its compiler calls (seen in
    2.13; tests/test_private_names.py names the versions). It copies an x that is not contiguous, and for a weight whose
    rows or columns are not dense it has no fast kernel. It could take a ReLU along, but that one makes 0 of NaN, and a
    training that diverges would not be seen to."""
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
