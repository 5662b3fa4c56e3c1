"""`scores`: the pairs that a dump scores beside the exposed ones, and a score made of others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dmtl_cli.config.section import Name, Positive, Rate, Section


class Scores(Section):
    negatives: Annotated[int, Field(ge=0)] = 2
    """drawn per row of the log and scored beside it; 20 in a log of clicks alone"""
    stratify: Positive = 1
    """as many times more are drawn and scored, and those are kept that are spread evenly over a row's scores"""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    candidates: Annotated[int, Field(ge=0)] = 0
    """retrieved for each user of the day and scored, so that lists reach beyond what was shown"""
    candidate_source: Literal["student", "popularity", "both"] = "student"
    """the top of the newest export before the day, of the day's clicks, or half of each; popularity until an export"""
    fusion: dict[Name, Rate] = Field(default={})
    """exponents of a further score pfused = product of p ** exponent, e.g. {pctr: 1, pcvr: 0.5}; of pctr, pcvr, pX"""
    batch_size: Positive = 16384

    @model_validator(mode="after")
    def _strata_have_ends(self) -> Scores:
        if self.stratify > 1 and self.negatives < 2:
            raise ValueError("stratify needs negatives of 2 or more: the lowest and the highest score of each row")
        return self
