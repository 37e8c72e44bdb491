"""What kind of numbers a tensor holds: spikes, signed spikes, spike counts, or anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snnmetrics.exact import blocks

BINARY, TERNARY, INTEGER, ANALOG = range(4)

# The bits of 1, by dtype, and the integers to read them as. Other bits are another number, but for
# the negative zero, which takes the longer way.
_ONE = {
    torch.float64: (torch.int64, 0x3FF0000000000000),
    torch.float32: (torch.int32, 0x3F800000),
    torch.float16: (torch.int16, 0x3C00),
    torch.bfloat16: (torch.int16, 0x3F80),
}
_PLAIN = (Tensor, nn.Parameter)  # subclasses may hold their elements anywhere
# Elements that are looked at in one piece; with its temporaries it stays in the cache.
_PIECE = 2**16
# Up to here calls cost more than what they look at, and PyTorch's are fewer.
_FEW = 2**12


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
        >>> from snnmetrics.kinds import kind_of
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
    low, high = (extreme.item() for extreme in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("expected finite values, found NaN or infinity")
    if x.is_floating_point() and not _whole(x):
        return ANALOG
    if low >= -1 and high <= 1:
        return BINARY if low >= 0 else TERNARY
    return INTEGER


def is_binary(x: Tensor) -> bool:
    """Whether all elements of a CPU tensor are 0 or 1, and it could be found out quickly.

    The first look at spikes, which most tensors are: one read, in pieces that stay in the cache.
    NumPy's comparisons are several times quicker than PyTorch's here.

    Example:
        >>> import torch
        >>> is_binary(torch.tensor([0.0, 1.0])), is_binary(torch.tensor([0.5, 1.0]))
        (True, False)
    """
    known = _ONE.get(x.dtype)
    if known is None or type(x) not in _PLAIN or x.is_neg():
        return False
    if x.numel() <= _FEW:
        return torch.equal(x, x.bool().to(x.dtype))
    integers, one = known
    bits = x.detach().view(integers)
    if bits.numel() <= _PIECE:
        return _zeros_or(one, bits)
    if bits.is_contiguous():
        bits = bits.view(-1)
    return all(_zeros_or(one, piece) for piece in blocks(bits, tuple(range(bits.ndim))))


def _zeros_or(one: int, bits: Tensor) -> bool:
    values = bits.numpy()
    found = values == 0
    found |= values == one
    return bool(found.all())


def _whole(x: Tensor) -> bool:
    """Whether all elements are integers; block by block, for small temporaries."""
    return all(torch.equal(block.trunc(), block) for block in blocks(x, tuple(range(x.ndim))))


def _kind_on_device(x: Tensor) -> Tensor:
    # Of several kinds that exclude each other step by step the loosest is the sum of the steps.
    signed = (x < 0).any()
    beyond = (x.abs() > 1).any()
    graded = (x != x.trunc()).any() if x.is_floating_point() else torch.zeros_like(signed)
    return torch.where(
        graded, ANALOG, torch.where(beyond, INTEGER, torch.where(signed, TERNARY, BINARY))
    )
