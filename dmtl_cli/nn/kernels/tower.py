"""A tower of dense layers, forward and backward by hand.

Plain autograd copies its input four times: to join its parts, to pad their rows for each product, and once more where
the last layer reads the input too.

Shapes: N rows, W the length of an input, H units of a layer, d length of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dmtl_cli.nn.kernels.products import across, even, even_rows, product, product_dtype, relu_backward_


def tower(parts: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], *, wide: bool) -> Tensor:
    """Layers with a ReLU after each but the last, [N, W] -> [N, d]; under autocast in its type, as is what they give.

    Args:
        parts: of the input, [N, w] each, side by side.
        weights, biases: of the layers, [H, H before] and [H] each.
        wide: whether the last layer reads the input too, before what the layer below it gives.
    """
    out: Tensor = _Tower.apply(wide, len(parts), *parts, *weights, *biases)  # type: ignore[no-untyped-call]
    return out


class _Tower(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: bool, count: int, *tensors: Tensor) -> Tensor:
        parts = tensors[:count]
        ctx.wide, ctx.rows, ctx.widths = wide, len(parts[0]), [x.shape[1] for x in parts]
        x = parts[0].new_empty(even_rows(parts[0]), sum(ctx.widths), dtype=product_dtype(parts[0]))
        for part, place in zip(parts, torch.split(x[: ctx.rows], ctx.widths, 1), strict=True):
            place.copy_(part)
        x[ctx.rows :] = 0
        layers = [of.to(x.dtype) for of in tensors[count:]]
        weights, biases = layers[: len(layers) // 2], layers[len(layers) // 2 :]
        outputs = [x]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            outputs.append(product(outputs[-1], weight, bias).relu_())
        last, *first = _of_last(weights[-1], outputs, wide)
        out = product(outputs[-1], last, biases[-1])
        if first:
            out += product(x, first[0])
        ctx.save_for_backward(*outputs, *weights)
        return out[: ctx.rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> Any:
        """In the type of the forward pass; autograd gives each gradient the type of what it is of."""
        layers = len(ctx.saved_tensors) // 2
        outputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        x, d = outputs[0], even(d.contiguous())
        last, *first = _of_last(weights[-1], outputs, ctx.wide)
        across_d = d.t().contiguous().t()  # as both products take it
        d_weights = [torch.cat([across(across_d, y) for y in ([x] if first else []) + [outputs[-1]]], 1)]
        d_biases = [d.sum(0)]
        d_x = product(d, first[0].t()) if first else None
        d = product(d, last.t())
        for weight, below, output in zip(weights[-2::-1], outputs[-2::-1], outputs[:0:-1], strict=True):
            relu_backward_(d, output)
            d_weights.append(across(d, below))
            d_biases.append(d.sum(0))
            d = product(d, weight.t())
        d_x = d if d_x is None else d_x.add_(d)
        return None, None, *torch.split(d_x[: ctx.rows], ctx.widths, 1), *d_weights[::-1], *d_biases[::-1]


def _of_last(weight: Tensor, outputs: Sequence[Tensor], wide: bool) -> list[Tensor]:
    """The last layer's weight for the output of the layer below it and, with `wide`, that for the input."""
    if not wide:
        return [weight]
    width = outputs[0].shape[1]
    return [weight[:, width:].contiguous(), weight[:, :width].contiguous()]
