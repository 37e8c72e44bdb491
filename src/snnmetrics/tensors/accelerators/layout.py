"""Memory layout of the rows and neurons of a tensor, in as few dimensions as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MOST_DIMS = 3
"""Maximum number of dimensions of rows and of neurons in kernels."""


class Axes(NamedTuple):
    """Several dimensions joined into one index, which kernels split again.

    Attributes:
        total: Number of elements.
        sizes: Sizes of the last two dimensions, which suffice to split an index.
        strides: Strides of three dimensions, for every indexed tensor.
        dims: Number of dimensions in use.
    """

    total: int
    sizes: tuple[int, int]
    strides: tuple[tuple[int, int, int], ...]
    dims: int


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor.

    Example:
        >>> contiguous((2, 3, 4))
        (12, 4, 1)
    """
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def expanded(shape: Sequence[int], strides: Sequence[int], to: Sequence[int]) -> tuple[int, ...]:
    """Strides of a tensor expanded to a shape of as many dimensions."""
    return tuple(
        0 if size == 1 and wanted != 1 else stride
        for size, stride, wanted in zip(shape, strides, to, strict=True)
    )


def axes(
    shape: Sequence[int], *strides: Sequence[int], in_memory_order: bool = True
) -> Axes | None:
    """Join dimensions that are adjacent in the memory of every tensor.

    Args:
        shape: Sizes of the dimensions.
        *strides: Strides of each tensor with these dimensions, in elements.
        in_memory_order: Whether the index may follow the memory order of the first tensor; else it
            follows the given order.

    Returns:
        None if more than three dimensions remain.

    Example:
        >>> axes((8, 4, 4), (16, 4, 1), (0, 4, 1))  # channels that share one map
        Axes(total=128, sizes=(16, 1), strides=((16, 1, 0), (0, 1, 0)), dims=2)
        >>> axes((8, 4, 4), (1, 32, 8))  # channels last
        Axes(total=128, sizes=(1, 1), strides=((1, 0, 0),), dims=1)
    """
    kept = [d for d, size in enumerate(shape) if size != 1]
    if in_memory_order:
        kept.sort(key=lambda d: -strides[0][d])
    joined: list[tuple[int, list[int]]] = []
    for d in kept:
        own = [of[d] for of in strides]
        if joined:
            size, before = joined[-1]
            if all(b == shape[d] * s for b, s in zip(before, own, strict=True)):
                joined[-1] = size * shape[d], own
                continue
        joined.append((shape[d], own))
    joined = joined or [(1, [1] * len(strides))]
    if len(joined) > MOST_DIMS:
        return None
    rest = MOST_DIMS - len(joined)
    sizes = [size for size, _ in joined] + [1] * rest
    found = tuple(
        (*(own[t] for _, own in joined), *[0] * rest)[:MOST_DIMS] for t in range(len(strides))
    )
    return Axes(math.prod(shape), (sizes[1], sizes[2]), found, len(joined))  # type: ignore[arg-type]
