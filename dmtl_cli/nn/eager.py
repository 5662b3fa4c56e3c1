"""torch's Adam without torch's compiler.

torch marks parts of its optimizers as not to be compiled. The marks import the compiler, with sympy, when such a part
is first called: over a second of a processor, of a command that compiles nothing. Here are the same functions without
their marks.
"""

from __future__ import annotations

import inspect

import torch


class EagerOptimizer(torch.optim.Optimizer):
    """What all optimizers do, as torch wrote it. A subclass's `step` disables gradients by itself."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class EagerAdam(EagerOptimizer, torch.optim.Adam):
    """torch's Adam; not for `differentiable=True`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
