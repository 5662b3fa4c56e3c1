"""`auto`: what a chain's first window decides where the config does not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dmtl_cli.config.section import Section


class Auto(Section):
    budget: Annotated[float, Field(ge=0)] = 8.0
    """rows that trials learn, as a multiple of the chain's first window (at least 200,000); 0: no trials, and every
    key that is not written has the default of this page"""
