"""`features`: what the models read, and the options of each kind of feature."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dmtl_cli.config.profile import FromProfile
from dmtl_cli.config.section import Column, Name, Positive, Section, without_effect

Kind = Literal["categorical", "sequence", "numeric", "vector"]
_IDS = ("embedding_name", "min_count", "hash_bucket_size")
KIND_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "categorical": _IDS,
    "sequence": (*_IDS, "max_length", "separator"),
    "numeric": ("boundaries", "num_buckets", "transform"),
    "vector": ("dim",),
}
"""keys of a feature that a kind takes, besides name, side, kind, column, profile and level, which every kind does"""


class Feature(Section):
    """One input of the towers: where it is read and how it becomes numbers."""

    name: Name
    side: Literal["user", "item", "context"]
    kind: Kind
    column: Column | None = None
    """default: the feature's name"""
    profile: FromProfile | None = None
    """in place of a column: what was known of the user or item when the day before ended"""
    level: Literal["entity", "event"] | None = None
    """event: read from each row as logged (the hour); default entity, for context event"""
    embedding_name: Name | None = None
    """features of one embedding_name share a vocabulary and its embedding (a history and item_id)"""
    min_count: Positive = 1
    """categorical, sequence: events before a value is admitted to the vocabulary; chosen by trials where no feature of
    its embedding has one, see auto"""
    hash_bucket_size: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """categorical, sequence: no vocabulary; a value is row 1 + hash mod that many, which others may share"""
    max_length: Positive = 50
    """sequence: the last values kept"""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """sequence: splits a text column, e.g. '|'"""
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """numeric: bucket edges, ascending"""
    num_buckets: Annotated[int, Field(ge=2, le=1000)] | None = None
    """numeric: that many quantile buckets, edges measured on the chain's first window"""
    transform: Literal["standardize", "log1p"] | None = None
    """numeric without buckets (default standardize); log1p: sign(x) log(1 + |x|), then standardized"""
    dim: Positive | None = None
    """vector: its length"""

    @model_validator(mode="after")
    def _options_have_effect(self) -> Feature:
        if wrong := without_effect(KIND_OPTIONS, self.kind, self.model_fields_set):
            raise ValueError(f"{wrong[0]} has no effect on kind {self.kind} (it is for {wrong[1]})")
        if "min_count" in self.model_fields_set and self.hash_bucket_size is not None:
            raise ValueError("min_count has no effect with hash_bucket_size, which admits every value")
        return self

    @model_validator(mode="after")
    def _options_agree(self) -> Feature:
        if self.kind == "vector" and self.dim is None:
            raise ValueError("kind vector needs dim")
        if sum(x is not None for x in (self.boundaries, self.num_buckets, self.transform)) > 1:
            raise ValueError("give one of boundaries, num_buckets, transform")
        if self.boundaries is not None and list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError("boundaries must ascend")
        return self

    @model_validator(mode="after")
    def _level_fits_the_side(self) -> Feature:
        if self.side == "item" and self.level == "event":
            raise ValueError("an item's features cannot change with the event; use side context")
        if self.side == "context" and self.level == "entity":
            raise ValueError("side context is read from each event; level entity contradicts it")
        return self

    @model_validator(mode="after")
    def _profile_fits(self) -> Feature:
        if self.profile is None:
            return self
        kind = "sequence" if self.profile.history else "numeric"
        if self.kind != kind:
            raise ValueError(f"profile.{self.profile.word} gives values of kind {kind}, got kind {self.kind}")
        if self.side == "context" or (self.profile.history and self.side == "item"):
            sides = "user" if self.profile.history else "user or item"
            raise ValueError(f"profile.{self.profile.word} is known of side {sides}, got side {self.side}")
        for option in ("column", "level", "separator"):
            if option in self.model_fields_set:
                raise ValueError(f"{option} has no effect with profile, which reads no column")
        return self

    @property
    def source(self) -> str:
        return self.column or self.name

    @property
    def per_event(self) -> bool:
        return self.side == "context" or self.level == "event"

    @property
    def has_ids(self) -> bool:
        """Whether its values are ids, each a row of an embedding, which other features may share."""
        return "embedding_name" in KIND_OPTIONS[self.kind]

    @property
    def is_bucketed(self) -> bool:
        """Whether its number becomes a bucket, which is a row of an embedding."""
        return self.boundaries is not None or self.num_buckets is not None

    @property
    def embedding(self) -> str | None:
        """Name of the embedding this feature reads; None for a feature that stays a number."""
        if self.has_ids:
            return self.embedding_name or self.name
        return self.name if self.is_bucketed else None
