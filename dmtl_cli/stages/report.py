"""report: the page of a day and the index of all days, views of what is published."""

from __future__ import annotations

import datetime as dt
import traceback
from pathlib import Path
from typing import Any

from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.report.writing import page_path, published_days, write_index, write_page
from dmtl_cli.runs.run import Run
from dmtl_cli.runs.workspace import Workspace


def report(config: Config, day: dt.date | None, *, index: bool) -> dict[str, Any]:
    """Writes the page of a day, by default the newest, or the index and the pages that it lacks.

    Returns:
        `page`, or `index` and `days`.

    Raises:
        UserError: 66 nothing of the day is published; 69 the drawing library is not installed; 73, 74.
    """
    ws = Workspace(Path(config.workspace))
    days = published_days(ws)
    if not days:
        raise UserError(f"nothing is published in {ws.root}", "run dmtl run first", Exit.NO_INPUT)
    if day is not None or not index:
        page = write_page(ws, day or days[-1], config)
        if not index:
            return {"page": str(page)}
    for each in days:
        if not page_path(ws, each).exists():
            write_page(ws, each, config)
    return {"index": str(write_index(ws, config)), "days": len(days)}


def report_run(run: Run, day: dt.date, *, again: bool) -> None:
    """The day's page and the index at the end of a run; what goes wrong with them fails nothing and is told.

    Args:
        again: whether to write a page that there is.
    """
    if not run.ranks.first or (page_path(run.ws, day).exists() and not again):
        return
    try:
        write_page(run.ws, day, run.config)
        write_index(run.ws, run.config)
    except UserError as e:
        run.log.say(f"report {day}: warning: {e.message}{'; ' + e.hint if e.hint else ''}")
    except Exception as e:  # a page is no reason to lose a day
        run.log.write("bug", traceback=traceback.format_exc())
        run.log.say(f"report {day}: warning: bug: {type(e).__name__}: {e}")


def described(found: dict[str, Any]) -> str:
    """The file that was written."""
    return str(found.get("index") or found["page"])
