"""What kind of numbers a tensor holds: spikes, signed spikes, spike counts, or anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnmetrics.tensors.sums import blocks

BINARY, TERNARY, INTEGER, ANALOG = range(4)


def kind_of(x: Tensor) -> int | Tensor:
    """The tightest kind that holds all elements of ``x``.

    Args:
        x: Dense real tensor. On the CPU the answer is exact; no element decides for another.

    Returns:
        ``BINARY`` {0, 1}, ``TERNARY`` {-1, 0, 1}, ``INTEGER`` or ``ANALOG``. On an accelerator a
        0-dim int64 tensor, so that the host need not wait; not finite values are ``ANALOG`` there.

    Raises:
        ValueError: On the CPU, if ``x`` holds NaN or infinity.

    Example:
        >>> import torch
        >>> from snnmetrics.tensors.kinds import kind_of
        >>> [kind_of(torch.tensor(v)) for v in ([0, 1.0], [-1, 0, 1.0], [0, 2.0], [0.5])]
        [0, 1, 2, 3]
    """
    if x.dtype is torch.bool:
        return BINARY
    if not x.is_cpu:
        return _kind_on_device(x)
    if x.numel() == 0:
        return BINARY
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        # PyTorch has no minimum of them; around one, float64 is exact.
        return INTEGER if bool((x.to(torch.float64) > 1).any()) else BINARY
    return kind_within(*_range(x))


def kind_within(low: float, high: float, whole: bool) -> int:
    """The kind of numbers from ``low`` to ``high``, of which all or not all are integers.

    Raises:
        ValueError: If a bound is NaN or infinite.

    Example:
        >>> from snnmetrics.tensors.kinds import TERNARY, kind_within
        >>> kind_within(-1.0, 0.0, whole=True) == TERNARY
        True
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("expected finite values, found NaN or infinity")
    if not whole:
        return ANALOG
    if low >= -1 and high <= 1:
        return BINARY if low >= 0 else TERNARY
    return INTEGER


def _range(x: Tensor) -> tuple[float, float, bool]:
    """Smallest and largest element, and whether all are integers; block by block."""
    low, high = (extreme.item() for extreme in x.aminmax())
    parts = blocks(x, tuple(range(x.ndim))) if x.is_floating_point() else ()
    return low, high, all(torch.equal(part.trunc(), part) for part in parts)


def _kind_on_device(x: Tensor) -> Tensor:
    # Of several kinds that exclude each other step by step the loosest is the sum of the steps.
    signed = (x < 0).any()
    beyond = (x.abs() > 1).any()
    graded = (x != x.trunc()).any() if x.is_floating_point() else torch.zeros_like(signed)
    return torch.where(
        graded, ANALOG, torch.where(beyond, INTEGER, torch.where(signed, TERNARY, BINARY))
    )
