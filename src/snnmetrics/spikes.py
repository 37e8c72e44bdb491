"""Spikes of 0 and 1: proven and counted in one read of the memory.

Most activations of a spiking network are zeros and ones, and knowing that spares everything else:
the sum is the count, the count is exact, and no event has a value. Both questions, whether all
elements are 0 or 1 and how many ones each neuron has, are answered tile by tile, while a tile is in
the cache of the processor. An element is read as the integer that its bits are, and compared with
the bits of 1 and of 0: what is neither is no spike, also where it is as close to 1 as a dtype goes.
The results of a comparison are bytes of 0 and 1. Eight of them are added at once, as one integer of
64 bits, in which no byte can run over before 255 rows are added.

PyTorch's own comparisons and its sums of bytes are many times slower than NumPy's here.
"""

from __future__ import annotations

import ctypes
import math
import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The integers to read elements as, and the bits of 1. The bits of 0 are 0 everywhere, but for the
# negative zero, which takes the longer way.
_ONE = {
    torch.float64: (torch.int64, 0x3FF0000000000000),
    torch.float32: (torch.int32, 0x3F800000),
    torch.float16: (torch.int16, 0x3C00),
    torch.bfloat16: (torch.int16, 0x3F80),
    torch.int64: (torch.int64, 1),
    torch.int32: (torch.int32, 1),
    torch.int16: (torch.int16, 1),
    torch.int8: (torch.int8, 1),
    torch.uint8: (torch.uint8, 1),
    torch.bool: (torch.uint8, 1),
}
_NUMPY = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}
_HALVES = (torch.float16, torch.bfloat16)
NUMPY_FLOATS = (torch.float64, torch.float32)  # which NumPy compares and rounds quickly
PLAIN = (Tensor, nn.Parameter)  # subclasses may hold their elements anywhere
# Elements per tile: with its comparisons it stays in the second-level cache of a core.
_TILE = 2**17
_WIDTH = 2**16
_SHORT = 2**12
# Rows of bytes that may be added before one runs over.
_ROWS = 255
# Up to here one tile needs no more than a few calls, which cost more than what they look at.
_SMALL = 2**16
_FEW = 2**12
# The first dimensions.
_LEADING = tuple(range(64))

Bits = NDArray[Any]


def readable(x: Tensor) -> bool:
    """Whether the elements of a tensor lie in memory that NumPy may look at, and there are any."""
    return (
        x.is_cpu
        and x.layout is torch.strided
        and type(x) in PLAIN
        and not x.is_neg()
        and x.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch.compiler.is_compiling()
    )


def array_of(x: Tensor) -> Bits:
    """The elements of a readable tensor as NumPy has them, to be read while the tensor lives.

    ``Tensor.numpy`` would leave a mark: memory that PyTorch shares with NumPy cannot be resized any
    more, as FSDP does with the memory of weights.
    """
    size = x.element_size()
    strides = [stride * size for stride in x.stride()]
    last = sum((n - 1) * stride for n, stride in zip(x.shape, strides, strict=True))
    memory = (ctypes.c_char * (last + size)).from_address(x.data_ptr())
    return np.ndarray(x.shape, _NUMPY[x.dtype], memoryview(memory), strides=strides)


def spike_counts(x: Tensor, dims: tuple[int, ...]) -> Tensor | None:
    """How many ones there are along ``dims``, if all elements are 0 or 1 and that can be told soon.

    Args:
        x: Dense real tensor.
        dims: Dimensions to sum over, non-negative, without repetition.

    Returns:
        float64 tensor of the shape that remains, exact; None where an element is neither, and
        where the answer would not be quick: on accelerators, of subclasses of tensors, of layouts
        in which rows cannot be told without a copy. None therefore says nothing about ``x``.

    Example:
        >>> import torch
        >>> from snnmetrics.spikes import spike_counts
        >>> spike_counts(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), (0,))
        tensor([1., 2.], dtype=torch.float64)
        >>> spike_counts(torch.tensor([[0.5, 1.0]]), (0,)) is None
        True
    """
    known = _ONE.get(x.dtype)
    if known is None or not readable(x):
        return None
    integers, one = known
    return _counted(x.detach().view(integers), dims, one)


def event_counts(x: Tensor, dims: tuple[int, ...]) -> Tensor | None:
    """How many elements along ``dims`` are not zero, if that can be told soon.

    Args:
        x: Dense real tensor.
        dims: Dimensions to sum over, non-negative, without repetition.

    Returns:
        float64 tensor of the shape that remains, exact; None where the answer would not be quick.

    Example:
        >>> import torch
        >>> from snnmetrics.spikes import event_counts
        >>> event_counts(torch.tensor([[0.0, -2.0], [-0.0, 0.5]]), (0,))
        tensor([0., 2.], dtype=torch.float64)
    """
    if x.dtype not in _ONE or not readable(x):
        return None
    x = x.detach()
    if x.dtype in _HALVES:  # NumPy has no quick comparison of them
        x = x.ne(0)
    return _counted(x, dims, None)


def _counted(bits: Tensor, dims: tuple[int, ...], one: int | None) -> Tensor | None:
    """See ``_count``; of a tensor."""
    matrices = _matrices(bits, dims)
    if matrices is None:
        return None
    counts = _count(array_of(matrices.bits), one)
    return None if counts is None else matrices.restored(counts)


class _Matrices(NamedTuple):
    """A tensor in the order of its memory, as matrices whose rows are to be added up.

    Attributes:
        bits: ``(matrices, rows, columns)``.
        shape: Shape of what remains, in the order of the memory.
        order: Dimensions of what remains that stand where in that shape; None if all stand.
    """

    bits: Tensor
    shape: torch.Size
    order: tuple[int, ...] | None

    def restored(self, counts: Bits) -> Tensor:
        """Counts per matrix and column, as the tensor's own dimensions have them."""
        found = torch.from_numpy(counts).double().view(self.shape)
        return found if self.order is None else found.permute(self.order)


def _matrices(x: Tensor, dims: tuple[int, ...]) -> _Matrices | None:
    """None where rows are not evenly spaced in memory."""
    lead = len(dims)
    if dims == _LEADING[:lead] and x.is_contiguous():
        shape = x.shape[lead:]
        return _Matrices(x.view(1, -1, shape.numel()), shape, None)
    strides = x.stride()
    kept = sorted((d for d in range(x.ndim) if d not in dims), key=lambda d: -strides[d])
    summed = sorted(dims, key=lambda d: -strides[d])
    widest = max((strides[d] for d in dims if x.shape[d] > 1), default=0)
    outer = [d for d in kept if strides[d] > widest]
    shape = torch.Size([x.shape[d] for d in kept])
    ordered = [d for d in range(x.ndim) if d not in dims]
    order = tuple(kept.index(d) for d in ordered)
    for first in (outer, []):
        rest = [d for d in kept if d not in first]
        columns = math.prod([x.shape[d] for d in rest])
        matrices = math.prod([x.shape[d] for d in first])
        try:
            bits = x.permute(*first, *summed, *rest).view(matrices, -1, columns)
        except RuntimeError:
            continue
        return _Matrices(bits, shape, order)
    return None


def _count(bits: Bits, one: int | None) -> Bits | None:
    """Ones per matrix and column, or None if there is anything but ones and zeros.

    With ``one`` None all that is not zero counts.
    """
    matrices, rows, columns = bits.shape
    if matrices == 1:
        found = _count_matrix(bits[0], one)
        return None if found is None else found[None]
    fits = rows <= _ROWS and rows * columns <= _TILE
    if columns % 8 or not fits or not bits.flags.c_contiguous:
        return None
    some = max(1, _TILE // (rows * columns))
    parts = []
    for first in range(0, matrices, some):
        flags = _flags(bits[first : first + some], one)
        if flags is None:
            return None
        parts.append(np.add.reduce(flags.view(np.int64), axis=1).view(np.uint8))
    counts: Bits = np.concatenate(parts)
    return counts


def _flags(bits: Bits, one: int | None) -> Bits | None:
    """Where there is a one, or None if there is anything but ones and zeros; of a whole tile."""
    size = bits.size
    filled = -(-size // 8) * 8
    events, ones = _kept.flags[:, :filled]
    events[size:] = ones[size:] = False
    found: Bits = events[:size].reshape(bits.shape)
    np.not_equal(bits, 0, out=found)
    if one is not None:
        np.equal(bits, one, out=ones[:size].reshape(bits.shape))
        if events.tobytes() != ones.tobytes():
            return None
    return found


def _count_matrix(bits: Bits, one: int | None) -> Bits | None:
    rows, columns = bits.shape
    by_eight = columns % 8 == 0 and rows <= _ROWS and bits.flags.c_contiguous
    if bits.size <= (_SMALL if by_eight else _FEW):
        flags = _flags(bits, one)
        if flags is None:
            return None
        few: Bits
        if by_eight:
            few = np.add.reduce(flags.view(np.int64), axis=0).view(np.uint8)
        else:
            few = np.add.reduce(flags, axis=0, dtype=np.int64)
        return few
    if columns <= _WIDTH:
        # Short rows are taken several at a time.
        several = math.gcd(rows, max(1, _SHORT // columns))
        if several == 1 or not bits.flags.c_contiguous:
            return _count_tiles(bits, one)
        counts = _count_tiles(bits.reshape(-1, several * columns), one)
        if counts is None:
            return None
        total: Bits = np.add.reduce(counts.reshape(several, columns), axis=0)
        return total
    parts = []
    for left in range(0, columns, _WIDTH):
        part = _count_tiles(bits[:, left : left + _WIDTH], one)
        if part is None:
            return None
        parts.append(part)
    return np.concatenate(parts)


class _Kept(threading.local):
    """Memory for the comparisons of a tile: to ask the system for it costs as much as to use it."""

    def __init__(self) -> None:
        self.flags = np.zeros((2, _TILE + _ROWS * 8), np.bool_)


_kept = _Kept()


def _scratch(height: int, width: int, columns: int) -> tuple[Bits, Bits]:
    """Two tiles to write comparisons into; zeros fill up the last columns."""
    events, ones = (flags[: height * width].reshape(height, width) for flags in _kept.flags)
    events[:, columns:] = ones[:, columns:] = False
    return events, ones


def _count_tiles(bits: Bits, one: int | None) -> Bits | None:
    """Of a matrix of which one row fits into a tile."""
    rows, columns = bits.shape
    width = -(-columns // 8) * 8
    height = max(1, min(rows, _ROWS, _TILE // width))
    events, ones = _scratch(height, width, columns)
    events_by_eight, ones_by_eight = events.view(np.int64), ones.view(np.int64)
    counts, held = np.zeros(width, np.int64), np.zeros(width // 8, np.int64)
    rows_held = 0
    for top in range(0, rows, height):
        tile = bits[top : top + height]
        n = len(tile)
        np.not_equal(tile, 0, out=events[:n, :columns])
        if one is not None:
            np.equal(tile, one, out=ones[:n, :columns])
            if not np.array_equal(ones_by_eight[:n], events_by_eight[:n]):
                return None
        if rows_held + n > _ROWS:
            counts += held.view(np.uint8)
            held[:], rows_held = 0, 0
        held += np.add.reduce(events_by_eight[:n], axis=0)
        rows_held += n
    counts += held.view(np.uint8)
    return counts[:columns]
