"""What the server is sent and what it answers, as JSON. Ids are text, whatever their type in the log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_USERS = MOST_ROWS = MOST_ITEMS = 1_000
MOST_EXCLUDED = 10_000
_MOST_ANSWERED = 100_000  # items in one answer: some 10 MB

Scalar = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str | None
Raw = Scalar | list[Scalar]
Row = dict[str, Raw]


def _whole(number: Any) -> Any:
    """JSON has one kind of number: 3.0 is 3."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Range(_Sent):
    """From `min` to `max`, both included; one of them may be left out."""

    min: Scalar = None
    max: Scalar = None


class Recommend(_Sent):
    """The best items of one user, or of each of many."""

    user: Annotated[str | None, Field(description="An id. One who is not known needs `features`.")] = None
    users: Annotated[
        list[str] | None,
        Field(min_length=1, max_length=MOST_USERS, description="Many ids; who is not known gets no items."),
    ] = None
    features: Annotated[
        Row | None,
        Field(
            description="Raw values by feature name, of someone nobody knows or in place of what is stored of `user`; "
            "what is not named is as stored, or of someone new without an event, or unknown."
        ),
    ] = None
    k: Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=1, le=MOST_ITEMS)] = 20
    exclude: Annotated[list[str], Field(max_length=MOST_EXCLUDED, description="Ids of items nobody gets.")] = []
    exclude_seen: Annotated[
        bool,
        Field(
            strict=True,
            description="Leave out what a user has seen, as export.seen and seen_days say: what they clicked that day.",
        ),
    ] = False
    filter: Annotated[
        dict[str, Range | list[Scalar] | Scalar],
        Field(description="By column of the items: a value, some values, or a range; all must hold."),
    ] = {}
    kappa: Annotated[
        float | None, Field(strict=True, ge=0, le=100, allow_inf_nan=False, description="In place of the export's.")
    ] = None

    @model_validator(mode="after")
    def _one_form(self) -> Recommend:
        if self.users is not None and (self.user is not None or self.features is not None):
            raise ValueError("expected users alone, or user, or features, or user and features")
        if self.users is None and self.user is None and self.features is None:
            raise ValueError("expected users, user or features")
        if self.k * len(self.users or [""]) > _MOST_ANSWERED:
            raise ValueError(f"expected at most {_MOST_ANSWERED} items in one answer (k times users)")
        return self


class Vectors(_Sent):
    """Vectors of users or items by their raw values: of a new item, to be found before anybody has seen it."""

    side: Literal["user", "item"]
    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS, description="Raw values by feature name.")]


class Identity(BaseModel):
    """The export that an answer is of, all of it."""

    day: str
    run_id: str
    key: str | None


class Item(BaseModel):
    item_id: str
    score: float
    exposure: Annotated[float | None, Field(description="With an exposure block: what is shown.")] = None
    preference: Annotated[float | None, Field(description="The rest of the score, a logit.")] = None


class Result(BaseModel):
    user: str | None
    known: bool
    items: list[Item]


class Recommended(BaseModel):
    export: Identity
    results: list[Result]


class Made(BaseModel):
    export: Identity
    vectors: list[list[float]]


class Health(BaseModel):
    status: Literal["ok"]
    day: str
    run_id: str
    key: str | None
    age_days: Annotated[int, Field(description="From the export's day to today, UTC.")]
    loaded_seconds: Annotated[float, Field(description="Since it was loaded.")]
    users: int
    items: int
    problem: Annotated[str | None, Field(description="Why what LATEST names now is not served.")]
    items_problem: Annotated[
        str | None, Field(description="Why the file of --items is not read as it is now; its former columns go on.")
    ]


class Problem(BaseModel):
    """What every refused request gets."""

    error: str
