"""Frozen 64-bit hashes: what was stored under one is found again by any version of dmtl, on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

GAMMA = 0x9E3779B97F4A7C15  # SplitMix64's step from state to state


def splitmix64(x: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """[n] what SplitMix64 draws in the state of each int64 (as two's complement) or uint64 (Steele, Lea and Flood,
    OOPSLA 2014); a bijection."""
    z = x.astype(np.uint64) + np.uint64(GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def blake2b64(text: str) -> int:
    """BLAKE2b (RFC 7693) of the text's UTF-8 with a digest of 8 bytes, read big-endian: 0 .. 2 ** 64 - 1."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def blake2b64_of(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """[n] `blake2b64` of each text."""
    digests = b"".join([hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)
