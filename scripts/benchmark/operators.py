"""What a step's processor time is spent on, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

KINDS: dict[str, tuple[str, ...]] = {
    "products": ("mkldnn::_linear_pointwise", "mm", "addmm", "bmm", "baddbmm", "addmm_", "linear", "dot"),
    "rows gathered": ("index_select", "index", "embedding", "take", "gather", "_embedding_bag"),
    "rows summed": ("index_add_", "scatter_add_", "embedding_dense_backward", "index_put_", "_index_put_impl_"),
    "copies and zeros": ("copy_", "cat", "fill_", "zero_", "stack", "clone"),
    "sorting": ("sort", "argsort", "unique", "_unique2", "unique_consecutive", "_coalesce", "searchsorted", "bincount"),
    "optimizers": ("_fused_adam_",),
}
"""operators of aten by kind; all others are `element by element`"""
VIEWS = (
    "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "new_empty", "permute", "reshape",
    "resize_", "select", "set_", "slice", "split", "squeeze", "t", "to", "transpose", "unsqueeze", "view", "_to_copy",
)  # fmt: skip
"""operators that compute nothing"""
OTHERS, PYTHON = "element by element", "Python, autograd, calls"


def by_kind(step: Callable[[Any], None], batches: Iterable[Any]) -> dict[str, float]:
    """Milliseconds of processor time a step by kind of operator, the most first; on one thread.

    The profiler's own time makes all of it, and calls above all, some tenths longer.
    """
    batches, kind_of = list(batches), {name: kind for kind, names in KINDS.items() for name in names}
    for batch in batches:
        step(batch)  # memory is there, kernels are made
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in batches:
            step(batch)
    found: dict[str, float] = {}
    for event in profiler.key_averages():
        space, _, name = event.key.rpartition("::")
        kind = kind_of.get(event.key, kind_of.get(name, OTHERS))
        if space not in ("aten", "mkldnn") or name in VIEWS:
            kind = PYTHON
        found[kind] = found.get(kind, 0.0) + event.self_cpu_time_total / 1e3 / len(batches)
    return dict(sorted(found.items(), key=lambda x: -x[1]))
