"""Writes the pages of days and their index below workspace/report/."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from dmtl_cli.config.errors import UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.report import day as days
from dmtl_cli.report import models
from dmtl_cli.report.blocks import Section
from dmtl_cli.report.facts import SHOWN, Facts, gather
from dmtl_cli.report.features import features
from dmtl_cli.report.index import held_of, index_sections, pages
from dmtl_cli.report.library import library, replace
from dmtl_cli.report.lists import lists
from dmtl_cli.report.page import render
from dmtl_cli.runs.workspace import Workspace


def folder_of(ws: Workspace) -> Path:
    """Where pages are. Logs of a kind: `gc` removes old ones, `forget` all of them, as they may name users."""
    return ws.root / "report"


def page_path(ws: Workspace, day: dt.date) -> Path:
    return folder_of(ws) / f"day={day}.html"


def index_path(ws: Workspace) -> Path:
    return folder_of(ws) / "index.html"


def write_page(ws: Workspace, day: dt.date, config: Config) -> Path:
    """The page of a day, made anew.

    Raises:
        UserError: 66 nothing of the day is published; 69 the drawing library is not installed; 73, 74.
    """
    script = library(folder_of(ws))
    facts = gather(ws, day)
    title, said = f"dmtl · {day}", Path(config.workspace).name
    html = render(title, said, _sections(facts, ws, config), script, _links(ws, day), held_of(facts))
    replace(page_path(ws, day), html)
    return page_path(ws, day)


def write_index(ws: Workspace, config: Config) -> Path:
    """The index of the pages that there are, from what they hold."""
    sections = index_sections(pages(folder_of(ws)))
    html = render("dmtl · days", Path(config.workspace).name, sections, library(folder_of(ws)), [])
    replace(index_path(ws), html)
    return index_path(ws)


def published_days(ws: Workspace) -> list[dt.date]:
    """Days of which something is published, sorted."""
    return sorted({day for stage in SHOWN for day in ws.days(stage)})


def _links(ws: Workspace, day: dt.date) -> list[tuple[str, str]]:
    """Links to the days before and after, which may get their page later, and to the index."""
    others = published_days(ws)
    before = [d for d in others if d < day][-1:]
    after = [d for d in others if d > day][:1]
    named = [*((f"‹ {d}", d) for d in before), *((f"{d} ›", d) for d in after)]
    return [*((text, page_path(ws, d).name) for text, d in named), ("all days", index_path(ws).name)]


def _sections(facts: Facts, ws: Workspace, config: Config) -> Sequence[Section]:
    """All of them in order; one that has nothing to say of this log is left out."""
    found = [
        days.headline(facts),
        days.flow(facts),
        features(facts, ws),
        days.metrics(facts),
        days.gates(facts),
        models.calibration(facts),
        models.scores(facts),
        models.distillation(facts),
        models.retrieved(facts),
        _lists(facts, ws, config),
        models.experts(facts),
        models.trials(facts),
        days.cost(facts),
        days.doubts(facts),
        days.served(facts),
        days.config(facts),
        days.inputs(facts),
        days.every_metric(facts),
    ]
    return [section for section in found if section is not None]


def _lists(facts: Facts, ws: Workspace, config: Config) -> Section | None:
    try:
        return lists(facts, ws, config)
    except UserError as e:
        return Section("lists", "A few lists", f"The export cannot be read: {e.message}")
