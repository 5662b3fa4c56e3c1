"""Lines of a log's text files that do not parse, looked for before a config says what becomes of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.data.log.source import Store
from dmtl_cli.guess import samples
from dmtl_cli.guess.layout import Table, paths_of

BYTES = 256 << 20
"""of rows that are looked through"""


@dataclass(frozen=True)
class Broken:
    """What was found in the text files of some days."""

    lines: int
    """that do not parse"""
    rows: int
    """lines that were looked at, these among them"""
    example: str
    """where the first one is, and what is wrong"""
    looked: int
    """files that were looked through to their end"""
    files: int
    refused: tuple[str, ...]
    """why files cannot be read at all"""

    @property
    def why(self) -> str | None:
        """What `invalid_rows` is written with; None where every line parses."""
        if not self.lines:
            return None
        plural = "s do" if self.lines > 1 else " does"
        return (
            f"{self.lines:,} line{plural} not parse of {self.rows:,} in {self.looked:,} files, such as {self.example}"
        )

    @property
    def warnings(self) -> list[str]:
        """A line each: what no key helps, and that not all was looked at."""
        out = [f"{why}: a run of its day would end there" for why in self.refused]
        if self.looked < self.files:
            seen = f"{self.looked:,} of {self.files:,} files, the newest first"
            out.append(f"lines that do not parse were looked for in {seen} ({BYTES >> 20} MiB of rows)")
        return out


def broken_lines(root: str, table: Table, days: tuple[dt.date, dt.date] | None) -> Broken | None:
    """Looks through the files of some days, the newest first, until `BYTES` of rows were seen. None where the table is
    no CSV or JSON.

    Args:
        days: the first and the last; None: all files.

    Raises:
        UserError: 74 the storage fails.
    """
    if table.files.form not in (samples.CSV, samples.JSON):
        return None
    names = tuple(table.frame.columns) if table.text and not table.text.header else None
    paths, store = paths_of(table.files, days), Store(root)
    lines, rows, size, looked, example, refused = 0, 0, 0, 0, "", list[str]()
    for path in reversed(paths):
        if size >= BYTES:
            break
        try:
            for part in samples.rows_of(store.file(path), table.text, names):
                lines, rows = lines + len(part.lost), rows + len(part.frame) + len(part.lost)
                example = example or (part.lost[0].why.removeprefix(f"{store.where('')}/") if part.lost else "")
                size += int(part.frame.estimated_size())
                if size >= BYTES:
                    break
            else:
                looked += 1
        except UserError as e:
            if e.code not in (Exit.DATA, Exit.NO_INPUT):
                raise
            looked += 1
            refused += [e.message] if e.code == Exit.DATA else []  # one without rows ends no run where others have some
    return Broken(lines, rows, example, looked, len(paths), tuple(refused))
