"""Random integers by counter: draw number d of item i is a function of (seed, i, d), whatever is drawn beside it.

SplitMix64 (Steele, Lea & Flood 2014) read at any place, in exact integer arithmetic: the same on every machine and
under every version of numpy. Axes: `N` items, `D` draws of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(word: Words) -> Words:
    """The output function of SplitMix64."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def keys(seed: int, index: Integers) -> Words:
    """(N,): the key of each item; its draws are a SplitMix64 sequence from there."""
    return mix(mix(np.full(len(index), seed, dtype=np.uint64)) + _GOLDEN * index.astype(np.uint64))


def uniform(keys: Words, numbers: Integers, below: int | Integers) -> Integers:
    """(N, D) integers uniform on {0..below - 1}: draw number `numbers[d]` of each item.

    The upper 32 bits are scaled, so a value's probability is off by less than `below` / 2^32.
    """
    bits = mix(keys[:, None] + _GOLDEN * (numbers.astype(np.uint64) + np.uint64(1)))
    scaled = (bits >> np.uint64(32)) * np.asarray(below, dtype=np.uint64)
    return (scaled >> np.uint64(32)).astype(np.int64)


def shuffled(seed: int, count: int) -> Integers:
    """(count,): the numbers 0..count - 1 in an order that depends on `seed` alone."""
    order: Integers = np.argsort(keys(seed, np.arange(count)), kind="stable").astype(np.int64)
    return order
