"""Kinds of numbers in a tensor: spikes, signed spikes, spike counts, other numbers."""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from torch import Tensor

from snnmetrics.tensors.counts import LARGEST_COUNT, Nearness, is_count, nearness
from snnmetrics.tensors.sums import blocks

NOT_FINITE = "expected finite values, found NaN or infinity"


class InputKind(IntEnum):
    """Kinds of input, tight to loose: a looser kind includes the values of every tighter one.

    A value within four units in the last place of a nonzero integer is that integer.

    Attributes:
        BINARY: {0, 1}.
        TERNARY: {-1, 0, 1}.
        INTEGER: Integers from -65,536 to 65,536.
        ANALOG: All other numbers.

    Example:
        >>> max(InputKind.BINARY, InputKind.INTEGER).label
        'integer'
    """

    BINARY = 0
    TERNARY = 1
    INTEGER = 2
    ANALOG = 3

    @property
    def label(self) -> str:
        """Name of the kind in reports and declarations."""
        return self.name.lower()

    @property
    def has_unit_events(self) -> bool:
        """Whether every event has magnitude one."""
        return self <= InputKind.TERNARY


def kind_of(x: Tensor) -> InputKind:
    """Tightest kind that includes all elements of ``x``.

    Args:
        x: Dense real tensor, read by the host.

    Raises:
        ValueError: If ``x`` holds NaN or infinity.

    Example:
        >>> import torch
        >>> from snnmetrics.tensors.kinds import kind_of
        >>> [kind_of(torch.tensor(v)).label for v in ([0, 1.0], [-1, 0, 1.0], [0, 2.0], [0.5])]
        ['binary', 'ternary', 'integer', 'analog']
    """
    if x.dtype is torch.bool:
        return InputKind.BINARY
    if x.numel() == 0:
        return InputKind.BINARY
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        # PyTorch lacks their maximum; float64 is exact where it matters.
        return kind_within(0.0, x.to(torch.float64).max().item(), True)
    return kind_within(*_range(x))


def kind_within(low: float, high: float, whole: bool) -> InputKind:
    """Kind of numbers from ``low`` to ``high``, given whether all are near integers.

    Raises:
        ValueError: If a bound is NaN or infinite.

    Example:
        >>> kind_within(-1.0, 0.99999994, whole=True).label
        'ternary'
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(NOT_FINITE)
    if not whole:
        return InputKind.ANALOG
    least, most = round(low), round(high)
    if least >= -1 and most <= 1:
        return InputKind.BINARY if least >= 0 else InputKind.TERNARY
    return InputKind.INTEGER if max(-least, most) <= LARGEST_COUNT else InputKind.ANALOG


def _range(x: Tensor) -> tuple[float, float, bool]:
    """Smallest and largest element, and whether all are near integers; block by block."""
    low, high = (extreme.item() for extreme in x.aminmax())
    if not x.is_floating_point():
        return low, high, True
    whole = is_count(low, x.dtype) and is_count(high, x.dtype)
    parts = blocks(x, tuple(range(x.ndim)))
    return low, high, whole and all(nearness(part) < Nearness.NEITHER for part in parts)
