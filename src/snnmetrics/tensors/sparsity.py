"""Patterns of the zeros of a tensor, without a copy of its size.

A weight is read at every batch: writes to ``.data``, by NumPy or by a fused optimiser do not change
its version. It is read tile by tile. NumPy compares a tile with zero many times faster than
PyTorch; eight results are packed into a byte and compared with the kept bytes. A tile without zeros
is stored as None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnmetrics.tensors.tiles import TILE, Values, array_of, numpy_view

_HALF = (torch.float16, torch.bfloat16)
_MAGNITUDE_BITS = 0x7FFF  # of half precision: all but the sign, so that -0.0 is zero

Bits = NDArray[np.uint8]


class SparsityPattern:
    """The zeros of a tensor; patterns are compared by identity.

    Args:
        layout: Shape, strides and dtype of the tensor, which map bits to elements.
        tiles: One bit per element, set if it is not zero, for each tile in memory order; None for a
            tile without zeros.
    """

    def __init__(self, layout: tuple[Any, ...], tiles: list[Bits | None]) -> None:
        self.layout = layout
        self.tiles = tiles


def sparsity_pattern(x: Tensor, known: SparsityPattern | None = None) -> SparsityPattern | None:
    """Compare the zeros of a tensor with a known pattern, in one read of its memory.

    Args:
        x: Tensor that has a ``numpy_view``.
        known: Pattern of an earlier call.

    Returns:
        ``known`` itself if its zeros are unchanged, otherwise a new pattern, which shares the
        unchanged tiles; None if all elements are nonzero.

    Example:
        >>> import torch
        >>> weight = torch.tensor([1.0, 0.0, -0.0, 2.0])
        >>> pattern = sparsity_pattern(weight)
        >>> sparsity_pattern(3 * weight, pattern) is pattern
        True
        >>> sparsity_pattern(weight + 1, pattern) is None
        True
    """
    viewed = numpy_view(x)
    assert viewed is not None
    layout = (x.shape, x.stride(), x.dtype)
    same = known is not None and known.layout == layout
    before = known.tiles if known is not None and same else []
    tiles: list[Bits | None] = []
    flags = np.empty(min(TILE, x.numel()), np.bool_)
    magnitudes = np.empty(len(flags), np.int16) if x.dtype in _HALF else None
    # Contiguous memory is read in place, other memory through a buffer of the size of a tile.
    flow = np.nditer(array_of(viewed), ["external_loop", "buffered"], order="K", buffersize=TILE)
    for values in flow:
        tile: Values = np.asarray(values)
        size = len(tile)
        if magnitudes is not None:
            tile = np.bitwise_and(tile, _MAGNITUDE_BITS, out=magnitudes[:size])
        present = np.not_equal(tile, 0, out=flags[:size])
        bits = None if present.all() else np.packbits(present)
        old = before[len(tiles)] if before else None
        if bits is not None and old is not None and np.array_equal(bits, old):
            bits = old
        same &= bits is old
        tiles.append(bits)
    if same:
        return known
    return None if all(bits is None for bits in tiles) else SparsityPattern(layout, tiles)


def nonzero(x: Tensor) -> NDArray[np.bool_] | None:
    """Mark nonzero elements; None if the tensor lacks a ``numpy_view``."""
    viewed = numpy_view(x)
    if viewed is None:
        return None
    values = array_of(viewed)
    if x.dtype in _HALF:
        values = np.bitwise_and(values, _MAGNITUDE_BITS)
    found: NDArray[np.bool_] = np.not_equal(values, 0)
    return found
