"""What teachers scored and retrieved of measured days, for the next evaluation of the same days and teachers."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmtl_cli.evaluate.exam import Exam
from dmtl_cli.evaluate.on_catalogue import Retrieved
from dmtl_cli.evaluate.on_rows import Scores

_MOST = 1 << 28  # bytes of scores, after which those of the longest ago go

Key = tuple[object, ...]


@dataclass
class Shared:
    """Results by what they are of: `compare` measures many students of one teacher."""

    scores: dict[Key, Scores] = field(default_factory=dict)
    tops: dict[Key, Retrieved] = field(default_factory=dict)

    @staticmethod
    def key(exam: Exam, run_id: str) -> Key:
        """Of a teacher's run on a day and the part of it that is measured."""
        day = exam.day
        part = int(exam.row_users.sum()), exam.users.tobytes(), exam.few.tobytes()
        seen = () if (out := exam.excluded) is None else (out.user.tobytes(), out.item.hash().to_numpy().tobytes())
        return run_id, day.day, len(day), len(day.items), *part, *seen

    def keep(self, key: Key, scores: Scores | None, top: Retrieved | None) -> None:
        """Keeps what a teacher gave, each where there is one."""
        if scores is not None:
            self.scores[key] = scores
        if top is not None:
            self.tops[key] = top
        while sum(map(_bytes, self.scores.values())) > _MOST:
            del self.scores[next(iter(self.scores))]


def _bytes(scores: Scores) -> int:
    drawn = sum(x.nbytes for by_label in scores.drawn.values() for x in by_label.values())
    return drawn + sum(x.nbytes for x in scores.exposed.values())
