"""`labels`: what a long read is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dmtl_cli.config.section import Rate, Section


class Quantile(Section):
    quantile: Annotated[float, Field(gt=0, lt=1)]


class Labels(Section):
    long_read: Literal["mean"] | Rate | Quantile = "mean"
    """duration above this many seconds, above the mean, or a quantile, of clicked rows; measured on the chain's first
    window, then carried"""
