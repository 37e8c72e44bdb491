"""Values that are spike counts: integers up to rounding, and not too large.

Spikes of a straight-through estimator, ``spike.detach() + soft - soft.detach()``, are 1 up to a
rounding or two: 0.99999994 or 1.0000001 in float32. A value within four units in the last place of
a nonzero integer, in its own dtype, is that integer. Zero is exact: a small value is not a spike.
Integers above 65,536 in magnitude are not spike counts, since all large floating values are
integers.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST_COUNT = 2**16
HALF = frozenset({torch.float16, torch.bfloat16})
UNITS = 4
"""Largest distance from an integer, in units in the last place, that is taken as rounding."""
# Integer dtype of the same size, and its exponent bits. With the other bits cleared, an integer
# becomes the power of two that measures its unit in the last place.
_EXPONENT: dict[torch.dtype, tuple[torch.dtype, int]] = {
    torch.float64: (torch.int64, 0x7FF << 52),
    torch.float32: (torch.int32, 0xFF << 23),
    torch.float16: (torch.int16, 0x1F << 10),
    torch.bfloat16: (torch.int16, 0xFF << 7),
}
_ARRAY_EXPONENT: dict[int, tuple[type[np.signedinteger[Any]], int]] = {
    8: (np.int64, 0x7FF << 52),
    4: (np.int32, 0xFF << 23),
}


def is_count(value: float, dtype: torch.dtype) -> bool:
    """Whether a number of a dtype is zero, or nearly a nonzero integer up to 65,536.

    Example:
        >>> import torch
        >>> [is_count(value, torch.float32) for value in (0.99999994, 0.0, 1e-8, 65537.0)]
        [True, True, False, False]
    """
    if not math.isfinite(value):
        return False
    whole = round(value)
    if abs(whole) > LARGEST_COUNT:
        return False
    if value == whole:
        return True
    if not whole:
        return False
    power = math.ldexp(1.0, math.frexp(whole)[1] - 1)
    return abs(value - whole) <= UNITS * torch.finfo(dtype).eps * power


def near_counts(x: Tensor, whole: Tensor, eps: float) -> Tensor:
    """Mark elements that are zero, or nearly a nonzero integer of any size.

    Args:
        x: Floating tensor.
        whole: ``x.round()``.
        eps: Unit in the last place of 1, in the original dtype of the elements.

    Returns:
        Bool tensor of the same shape. The host is not synchronised.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.99999994, 1e-8, 0.0, 1.5])
        >>> near_counts(x, x.round(), eps=2**-23).tolist()
        [True, False, True, False]
    """
    bits, exponent = _EXPONENT[x.dtype]
    power = whole.view(bits).bitwise_and(exponent).view(x.dtype)
    return (x - whole).abs_() <= power.mul_(UNITS * eps)


class Nearness(IntEnum):
    """Nearness of the elements of a tensor to integers; for parts, the loosest applies to all."""

    WHOLE = 0
    NEAR = 1
    NEITHER = 2


def nearness(x: Tensor) -> Nearness:
    """Nearness of a floating tensor on the CPU to integers up to 65,536.

    Example:
        >>> import torch
        >>> [nearness(torch.tensor([v])).name for v in (2.0, 1.9999999, 1.5)]
        ['WHOLE', 'NEAR', 'NEITHER']
    """
    eps = torch.finfo(x.dtype).eps
    if x.dtype in HALF:
        x = x.to(torch.float32)  # the CPU computes in float32
    whole = x.round()
    if x.numel() == 0:
        return Nearness.WHOLE
    farthest = (x - whole).abs_().max().item()
    if farthest == 0:
        return Nearness.WHOLE
    if not farthest <= UNITS * eps * LARGEST_COUNT:
        return Nearness.NEITHER
    return Nearness.NEAR if bool(near_counts(x, whole, eps).all()) else Nearness.NEITHER


def are_near_counts(tile: NDArray[Any], whole: NDArray[Any]) -> bool:
    """Nearness of an array of float32 or float64, for all elements together.

    Args:
        tile: The array.
        whole: ``numpy.rint(tile)``.
    """
    bits, exponent = _ARRAY_EXPONENT[tile.dtype.itemsize]
    units = np.bitwise_and(whole.view(bits), exponent).view(tile.dtype)
    units *= UNITS * np.finfo(tile.dtype).eps
    distance = np.subtract(tile, whole)
    return bool((np.abs(distance, out=distance) <= units).all())


def divided(x: Tensor, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """Divide values declared as multiples of spike counts by their scale.

    Args:
        x: The values.
        scale: Declared factor; a float64 tensor or a number.

    Returns:
        The nearest integers, float64, and where they are the counts: the quotient equals one of
        them up to rounding in the dtype of ``x``, and is not too large. Zero is exact. The host is
        not synchronised.

    Example:
        >>> import torch
        >>> counts, fits = divided(torch.tensor([0.5, 0.75, 0.8]), 0.25)
        >>> counts.tolist(), fits.tolist()
        ([2.0, 3.0, 3.0], [True, True, False])
    """
    quotients = x.to(torch.float64) / scale
    whole = quotients.round()
    eps = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
    fits = (quotients - whole).abs() <= UNITS * eps * quotients.abs()
    return whole, fits & (whole.abs() <= LARGEST_COUNT)


def counts_or_nan(x: Tensor, scale: float | Tensor) -> Tensor:
    """Spike counts of values declared as multiples of them; NaN for other values.

    Example:
        >>> import torch
        >>> counts_or_nan(torch.tensor([0.5, 0.8]), 0.25).tolist()
        [2.0, nan]
    """
    whole, fits = divided(x, scale)
    return torch.where(fits, whole, torch.nan)


def rounded(x: Tensor) -> Tensor:
    """Nearest spike counts of a tensor, with the gradient of the tensor.

    Example:
        >>> import torch
        >>> rounded(torch.tensor([0.99999994, 0.0])).tolist()
        [1.0, 0.0]
    """
    return with_gradient_of(x, x.detach().round())


def with_gradient_of(x: Tensor, values: Tensor) -> Tensor:
    """Attach the gradient of ``x`` to values that do not depend on it."""
    return values + (x - x.detach()) if x.requires_grad else values
