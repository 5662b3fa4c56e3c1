"""A tower as a torch.export program."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dmtl_cli.runs.keyed import KEY
from dmtl_cli.student.export.program import Program

TORCH = "2.13"
"""the version of torch whose reader the fast writer was made for"""


def write(file: Path, program: Program, module: nn.Module, example: tuple[Tensor, ...], key: str = "") -> None:
    """Writes a tower: in milliseconds with the version of torch that the fast writer was made for, else by torch's own
    exporter.

    Args:
        program: the tower as recorded.
        example: inputs of two rows.
        key: the run's, where the file is to carry it: the extra file `dmtl.key`.
    """
    if torch.__version__.startswith(TORCH + "."):
        from dmtl_cli.student.export import pt2_archive  # imports private names, which another version may lack

        pt2_archive.write(file, program, key)
    else:
        write_by_torch(file, module, example, key)


def read(file: Path) -> Callable[..., Tensor]:
    """A written tower as a function of its inputs: what the fast writer wrote is replayed call by call, as torch's own
    reader would import its compiler, which takes a second.

    Raises:
        Exception: of whatever kind; the file is no program, or a damaged one.
    """
    if torch.__version__.startswith(TORCH + "."):
        from dmtl_cli.student.export import pt2_archive

        return pt2_archive.read(file)
    with _quiet():
        module: Callable[..., Tensor] = torch.export.load(file).module()
    return module


def write_by_torch(file: Path, module: nn.Module, example: tuple[Tensor, ...], key: str = "") -> None:
    """The same program as torch's own exporter writes it, for any number of rows.

    Args:
        example: inputs of two rows.
        key: as of `write`.
    """
    rows = torch.export.Dim("rows", min=1)
    with _quiet():
        program = torch.export.export(module, example, dynamic_shapes=(tuple({0: rows} for _ in example),))
        for node in program.graph.nodes:
            for word in (
                "stack_trace",
                "nn_module_stack",
                "source_fn_stack",
                "from_node",
            ):  # these name the source code
                node.meta.pop(word, None)
        program.example_inputs = None  # would be the only pickle of the archive
        torch.export.save(program, file, extra_files={KEY: key} if key else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter prints on stdout, logs and warns, while a stage is silent on success."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
