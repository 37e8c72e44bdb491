"""Small tensors on the CPU, read by a few PyTorch calls.

Up to some 65,000 elements these calls take less time than ``tiles.py``, whose time is Python
overhead. All elements are 0 or 1 if ``x == x * x``, or for more elements if ``x - x * x == 0``:
other finite floating numbers and NaN do not satisfy either equation. Infinity satisfies the first
one, and makes the count infinite. The count of zeros and ones is exact in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnmetrics.tensors.counts import Nearness, is_count, nearness
from snnmetrics.tensors.kinds import InputKind, kind_within
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS, PLAIN

LARGEST = 2**16
_COMPARED_QUICKER = 2**12  # torch.equal compares element by element
_FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


def read_small(
    x: Tensor, dims: tuple[int, ...], expected: InputKind | None
) -> tuple[InputKind, Tensor, Tensor | None, bool] | None:
    """Kind, magnitudes and events of a small floating tensor.

    Args:
        x: The tensor.
        dims: Dimensions to sum over, at least one.
        expected: Kind of earlier tensors of this origin; the result does not depend on it.

    Returns:
        The kind; magnitudes per neuron; events per neuron, or None if every event has magnitude
        one; whether values were rounded to spike counts. Sums are float64, or float32 if that
        represents all of them. None for tensors that this reader would not speed up.

    Raises:
        ValueError: If it is not finite.

    Example:
        >>> import torch
        >>> read_small(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), (0,), None)
        (<InputKind.BINARY: 0>, tensor([1., 2.]), None, False)
    """
    is_small = (
        0 < x.numel() <= LARGEST
        and x.dtype in _FLOATS
        and x.is_cpu
        and x.layout is torch.strided
        and type(x) in PLAIN
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )
    if not is_small:
        return None
    if x.requires_grad:
        x = x.detach()
    if expected is None or expected is InputKind.BINARY:
        if x.numel() <= _COMPARED_QUICKER:
            binary = torch.equal(x, x * x)
        else:
            least, most = torch.addcmul(x, x, x, value=-1).aminmax()
            binary = least.item() == 0 == most.item()
        if binary:
            single = x.dtype is torch.float32
            total = x.sum(dims) if single else x.sum(dims, dtype=torch.float32)
            return InputKind.BINARY, total, None, False
    low, high = (extreme.item() for extreme in x.aminmax())
    is_whole, is_rounded = is_count(low, x.dtype) and is_count(high, x.dtype), False
    if is_whole:
        whole = x.round()
        if not torch.equal(x, whole):
            is_whole = is_rounded = nearness(x) is Nearness.NEAR
            x = whole if is_whole else x
    kind = kind_within(low, high, is_whole)
    positive = x.abs() if low < 0 else x
    held = is_whole and round(max(-low, high)) * x.numel() < FLOAT32_INTEGERS
    wide = torch.float32 if held else torch.float64  # a dtype with exact sums
    magnitudes = positive.sum(dims, dtype=wide)
    if kind.has_unit_events:
        return kind, magnitudes, None, is_rounded
    events = positive.clamp(max=1) if held else x.ne(0)
    return kind, magnitudes, events.sum(dims, dtype=wide), is_rounded
