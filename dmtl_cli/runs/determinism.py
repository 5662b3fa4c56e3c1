"""Torch's determinism, without importing its compiler."""

from __future__ import annotations

import torch


def make_deterministic(device: str) -> None:
    """Makes torch repeat a run's bytes on the CPU. On CUDA determinism is off: several scatters have no such form.

    Does what `torch.use_deterministic_algorithms` does, which imports torch's compiler for it: half a second and 70 MB
    in every command. Seen with the versions of torch that tests/test_commands.py names.

    Args:
        device: `cpu`, where an operation without a deterministic form is an error; `cuda`, where it is taken as it is
            (the manifest's `key_warnings` say so).
    """
    # not "warn": it would print
    torch.set_deterministic_debug_mode("error" if device == "cpu" else "default")
    # deterministic mode fills fresh memory with NaN, which costs its page faults; nothing here reads unwritten memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
