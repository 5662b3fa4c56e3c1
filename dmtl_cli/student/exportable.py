"""Whether what a config describes can be exported, found out before anything is trained."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.features import Feature
from dmtl_cli.config.schema import Config
from dmtl_cli.config.student import Student
from dmtl_cli.data.features.encoder import Encoder
from dmtl_cli.student.build import Blocks, build_exposure, build_student
from dmtl_cli.student.export.towers import Shown, towers_of, write_towers

_ROWS = 2  # of each embedding: what is written of a tower does not depend on them


class _Shape(Encoder):
    """What an encoder tells a model, with nothing learned yet."""

    def embedding_rows(self) -> dict[str, int]:
        return {name: _ROWS for side in ("user", "item", "context") for name in self.layout(side).embeddings}


def refuse_unexportable(config: Config) -> None:
    """Writes the towers of an untrained student with tiny embeddings: what refuses them would refuse the trained ones.

    Raises:
        UserError: 78 the student has no file format.
    """
    _refuse(config.features_of("student"), config.student)


@cache
def _refuse(features: tuple[Feature, ...], section: Student) -> None:
    """Once a process for the same student, as each day of a chain asks; a refusal is not kept. Raises as above."""
    encoder = _Shape(features)
    kappa, floats = 1.0 if section.exposure.kappa else 0.0, encoder.layout("item").floats
    student = Blocks(build_student(encoder, section), build_exposure(encoder, section) if kappa else None)
    shown = Shown(kappa, 1.0, np.ones(floats, np.float32) if floats else None, section.exposure.popularity)
    if student.exposure is not None:
        shown = shown.over(np.ones((1, student.exposure.length), np.float32))
    try:
        with tempfile.TemporaryDirectory(prefix="dmtl-towers-") as folder:
            write_towers(Path(folder), towers_of(student, encoder, shown))
    except (NotImplementedError, ValueError) as e:
        what = f"student: what it describes cannot be exported: {e}"
        raise UserError(what, "change student, or the features that it reads", Exit.CONFIG) from None
