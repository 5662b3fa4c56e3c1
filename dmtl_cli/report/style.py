"""How models are drawn, everywhere the same, and what all charts have in common."""

from __future__ import annotations

from typing import Any

BEST_LIST = "best_list"
STYLES = {  # of models, everywhere the same: name, colour, shape, dash
    "teacher": ("teacher", "var(--blue)", "circle", []),
    "student_teacher": ("student's teacher", "var(--blue)", "cross", [2, 2]),
    "student": ("student, served", "var(--red)", "square", []),
    "student.preference": ("student, preference", "var(--amber)", "triangle-up", []),
    "regression": ("regression", "var(--green)", "diamond", [6, 3]),
    "popularity": ("popularity", "var(--soft)", "cross", [6, 3]),
    "read_popularity": ("read_popularity", "var(--soft)", "triangle-down", [2, 3]),
    "read_popularity_0d": ("read_popularity_0d", "var(--soft)", "triangle-left", [1, 2]),
    "read_popularity_7d": ("read_popularity_7d", "var(--soft)", "triangle-right", [8, 2]),
    "exposure_rate": ("exposure_rate", "var(--soft)", "diamond", [1, 3]),
    "read_rate": ("read_rate", "var(--soft)", "triangle-up", [4, 2]),
    BEST_LIST: ("best list", "var(--soft)", "triangle-down", [2, 3]),
    "clicked": ("clicked that day", "var(--green)", "circle", [6, 3]),
    "shown": ("shown that day", "var(--soft)", "square", [2, 3]),
}


def called(model: str) -> str:
    """A model as a person calls it; lists by the names that lines and tables have."""
    return STYLES[model][0]


FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
"""as the page's style has it; a variable would be of no known width"""
CONFIG: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "titleFontSize": 11,
        "labelFontSize": 11,
        "gridColor": "var(--line)",
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
    },
    "axisX": {"grid": False},
    "legend": {"disable": True},
}
