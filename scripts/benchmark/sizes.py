"""How large the bench's log and models are: the same numbers for dmtl and for every peer. Imports nothing heavy."""

from __future__ import annotations

import datetime as dt

FIRST_DAY = dt.date(2026, 1, 1)
USERS, ITEMS = 200_000, 50_000
OF_USER = {"u0": 7, "u1": 50, "u2": 300, "u3": 1_000, "u4": 5_000, "u5": 24}
OF_ITEM = {"i0": 20, "i1": 200, "i2": 2_000, "i3": 5_000, "i4": 10_000, "i5": 12}
LONG_READ, HISTORY = 50.0, 50  # seconds, items at most
BATCH, DIM, EXPERTS, EXPERT_UNITS, TOWER_UNITS, VECTOR_UNITS = 4096, 16, 8, (256, 128), (64,), (128, 64)
NEGATIVES = 2  # that a dump scores beside a row: dmtl's default
WIDTH = (2 + len(OF_USER) + len(OF_ITEM) + 1) * DIM + 2  # ids, features, history and two numbers
WEIGHTS = {
    "mmoe": EXPERTS * (WIDTH * EXPERT_UNITS[0] + EXPERT_UNITS[0] * EXPERT_UNITS[1])
    + 2 * (WIDTH * EXPERTS + EXPERT_UNITS[1] * TOWER_UNITS[0] + TOWER_UNITS[0]),
    "dssm": (WIDTH - 1) * VECTOR_UNITS[0] + 2 * VECTOR_UNITS[0] * VECTOR_UNITS[1],
}
"""in the products of a row: what all models have, whoever wrote them; a DSSM has no number of the context"""
