"""The groups and lists of scored pairs: what rows of a score table belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from dmtl_cli.data.log.checked.day import ID, NO_REQUEST, Day
from dmtl_cli.data.log.values import sizes
from dmtl_cli.data.log.values.hashing import blake2b64_of

Ints = npt.NDArray[np.int64]


def user_groups(day: Day) -> npt.NDArray[np.int64]:
    """[users] a negative number for each user of the day, which differs from day to day: a hash of id and day."""
    ids = day.users[ID].cast(pl.String)
    parts = [blake2b64_of(f"{day.day}|" + ids[k : k + sizes.BLOCK]) for k in range(0, len(ids), sizes.BLOCK)]
    return -1 - (np.concatenate([np.zeros(0, np.uint64), *parts]) >> np.uint64(1)).astype(np.int64)


def pair_groups(users: Ints, user: Ints, request: Ints) -> Ints:
    """[n] the group of exposed pairs: their request, or their user's group `users[user]` where there is none."""
    return np.where(request == NO_REQUEST, users[user], request)


def list_keys(group: Ints, user: Ints) -> Ints:
    """[n] one number per list: a group of one user, as a log may count requests anew for each user."""
    with np.errstate(over="ignore"):
        mixed: Ints = group ^ (user.astype(np.int64) * np.int64(-7046029254386353131))  # odd: 1 to 1
    return mixed
