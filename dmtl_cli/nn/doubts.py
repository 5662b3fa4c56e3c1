"""What is doubtful about any model's training, by its numbers; a doubt is one line with what to do."""

from __future__ import annotations

FEWEST_STEPS = 64
"""of an epoch: Adam with a rate of .001 moves a weight by at most .001 a step, so fewer leave a network where it was"""
LEAST_ROWS = 64
"""of a step where none is set: of fewer, a step is noise"""


def few_steps(model: str, rows: int, rows_a_step: int, otherwise: str) -> list[str]:
    """Doubts about the number of steps.

    Args:
        model: the section of the config.
        rows: of an epoch.
        otherwise: what to do where the batches are as small as they may be.
    """
    steps = -(-rows // rows_a_step)
    if steps >= FEWEST_STEPS:
        return []
    epoch = f"an epoch is {steps} step{'s' * (steps != 1)} of {rows_a_step} rows"
    smaller = f"lower {model}.batch_size, or " if rows_a_step > LEAST_ROWS else ""
    return [f"{epoch}: {smaller}{otherwise}"]
