"""Range, events and magnitudes of a tensor, from one read of its memory.

Most activations of a spiking network are zeros and ones. For these the sum is the exact count, and
magnitudes are events. Two checks run tile by tile, while a tile is in the processor cache: whether
all elements are 0 or 1, and how many ones each neuron has. A tile is compared with 0 and with 1,
which gives bytes of 0 and 1. Eight of them are added at once, as one 64-bit integer; bytes do not
overflow before 255 rows are added. Only tiles with other values are read further: for their range,
nearness to integers, and sums of magnitudes.

PyTorch's comparisons and byte sums are many times slower than NumPy's here.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snnmetrics.tensors.counts import are_near_counts, is_count

# Dtype to read elements as, and the value of 1 in it. Half precision, which NumPy lacks or handles
# slowly, is read as integers: zero has the bits of 0, except negative zero, whose tiles are read
# further.
_ONE: dict[torch.dtype, tuple[torch.dtype, int]] = {
    torch.float64: (torch.float64, 1),
    torch.float32: (torch.float32, 1),
    torch.float16: (torch.int16, 0x3C00),
    torch.bfloat16: (torch.int16, 0x3F80),
    torch.int64: (torch.int64, 1),
    torch.int32: (torch.int32, 1),
    torch.int16: (torch.int16, 1),
    torch.int8: (torch.int8, 1),
    torch.uint8: (torch.uint8, 1),
    torch.bool: (torch.uint8, 1),
}
_TYPES = {
    torch.float64: "=f8",
    torch.float32: "=f4",
    torch.int64: "=i8",
    torch.int32: "=i4",
    torch.int16: "=i2",
    torch.int8: "|i1",
    torch.uint8: "|u1",
}
NUMPY_FLOATS = (torch.float64, torch.float32)  # NumPy compares and rounds these quickly
PLAIN = (Tensor, nn.Parameter)  # subclasses may hold their elements anywhere
# Elements per tile: with its comparisons it stays in the second-level cache of a core.
TILE = 2**17
_WIDTH = 2**16
_SHORT = 2**12
# Maximum number of byte rows to add before overflow.
_ROWS = 255
# The product with the first has the sum of eight bytes in its last byte.
_EACH_BYTE, _LAST_BYTE = np.uint64(0x0101010101010101), np.uint64(56)
# Sums of integers below this bound are exact in float32.
FLOAT32_INTEGERS = 2**24
# The leading dimensions.
_FIRST_DIMS = tuple(range(64))

Values = NDArray[Any]
Place = tuple[slice, slice]
_EVERYWHERE: Place = (slice(None), slice(None))


class Reading(NamedTuple):
    """Range, events and magnitudes of a tensor.

    Attributes:
        low: Smallest element, at most 0; NaN if an element is NaN.
        high: Largest element, at least 1; NaN if an element is NaN.
        integral: Whether all finite elements are spike counts up to rounding.
        magnitudes: Sums of magnitudes, of spike counts rounded to integers; float64, or uint8 or
            int64 if all elements are 0 or 1.
        events: Numbers of nonzero elements, float64; None if all elements are 0 or 1, so that
            magnitudes are events.
        rounded: Whether elements were rounded to spike counts.
    """

    low: float
    high: float
    integral: bool
    magnitudes: Tensor
    events: Tensor | None
    rounded: bool = False


def readable(x: Tensor) -> bool:
    """Whether NumPy can read the elements of a tensor, and it is not empty."""
    return in_memory(x) and x.numel() > 0 and not torch.compiler.is_compiling()


def in_memory(x: Tensor) -> bool:
    """Whether the elements of a tensor lie in CPU memory as its strides say."""
    return x.is_cpu and is_plain(x)


def is_plain(x: Tensor) -> bool:
    """Whether the elements of a tensor lie in its device's memory as its strides say."""
    return (
        x.layout is torch.strided
        and not x.is_nested
        and type(x) in PLAIN
        and not x.is_neg()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def array_of(x: Tensor) -> Values:
    """Elements of a readable tensor as a NumPy array, valid while the tensor lives.

    ``Tensor.numpy`` has a side effect: PyTorch can then no longer resize the shared memory, as FSDP
    does with the memory of weights.
    """
    size = x.element_size()
    array: Values = np.asarray(
        _Memory(
            {
                "data": (x.data_ptr(), False),
                "shape": tuple(x.shape),
                "strides": tuple(stride * size for stride in x.stride()),
                "typestr": _TYPES[x.dtype],
                "version": 3,
            }
        )
    )
    return array


class _Memory:
    """Memory at an address, as NumPy's array interface."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def numpy_view(x: Tensor) -> Tensor | None:
    """View a readable tensor in a dtype that NumPy has, with the same memory.

    Half precision is viewed as int16 and bool as uint8. None if the tensor is not readable, or its
    dtype lacks such a view.
    """
    known = _ONE.get(x.dtype)
    if known is None or not readable(x):
        return None
    x = x.detach()
    return x if x.dtype is known[0] else x.view(known[0])


def spike_counts(x: Tensor, dims: tuple[int, ...]) -> Tensor | None:
    """Count the ones along ``dims``, if all elements are 0 or 1 and the check is fast.

    Args:
        x: Dense real tensor.
        dims: Dimensions to sum over, non-negative, without repetition.

    Returns:
        float64 tensor of the remaining shape, exact; None if an element has another value, and if
        the check would be slow: on accelerators, for subclasses of tensors, for layouts whose rows
        cannot be read without a copy. None is therefore inconclusive.

    Example:
        >>> import torch
        >>> from snnmetrics.tensors.tiles import spike_counts
        >>> spike_counts(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), (0,))
        tensor([1., 2.], dtype=torch.float64)
        >>> spike_counts(torch.tensor([[0.5, 1.0]]), (0,)) is None
        True
    """
    matrices = _matrices(x, dims)
    if matrices is None:
        return None
    counts = matrices.events(None)
    return None if counts is None else matrices.restored(counts).double()


def read(x: Tensor, dims: tuple[int, ...]) -> Reading | None:
    """Read range, magnitudes and events of a tensor, in one read of its memory.

    Args:
        x: Dense real tensor.
        dims: Dimensions to sum over, non-negative, without repetition.

    Returns:
        The reading, with sums over ``dims``. Sums of integers are exact up to 2**53. None if
        reading would be slow, as in :func:`spike_counts`; for dtypes other than float32 and float64
        also if an element is neither 0 nor 1.

    Example:
        >>> import torch
        >>> from snnmetrics.tensors.tiles import read
        >>> found = read(torch.tensor([[-2.0, 1.0], [3.0, 0.0]]), (0,))
        >>> found.low, found.high, found.integral
        (-2.0, 3.0, True)
        >>> found.magnitudes.tolist(), found.events.tolist()
        ([5.0, 1.0], [2.0, 1.0])
    """
    matrices = _matrices(x, dims)
    if matrices is None:
        return None
    shape, axis = matrices.values.shape, 1 + matrices.sum_columns
    others = _OtherTiles(shape, axis, x.dtype) if x.dtype in NUMPY_FLOATS else None
    counts = matrices.events(others)
    if counts is None:
        return None
    events = matrices.restored(counts)
    if others is None or not others.found:
        return Reading(0.0, 1.0, True, events, None)
    magnitudes = matrices.restored(counts - others.events + others.magnitudes).double()
    return Reading(
        others.low, others.high, others.integral, magnitudes, events.double(), others.rounded
    )


class _Matrices(NamedTuple):
    """A tensor in memory order, as matrices whose rows are to be summed.

    Attributes:
        values: ``(matrices, rows, columns)``.
        one: Value of 1 in them.
        sum_columns: Whether to sum the columns instead of the rows.
        folded: Number of tensor rows joined into one matrix row.
        shape: Remaining shape, in memory order.
        order: Positions of the remaining dimensions in that shape; None if unchanged.
    """

    values: Tensor
    one: int
    sum_columns: bool
    folded: int
    shape: torch.Size
    order: tuple[int, ...] | None

    def events(self, others: _OtherTiles | None) -> Values | None:
        """Events per matrix and column, or row; as returned by ``_count``."""
        count = _count_along if self.sum_columns else _count
        return count(array_of(self.values), self.one, others)

    def restored(self, sums: Values) -> Tensor:
        """Sums per matrix and column, in the tensor's own dimensions."""
        if self.folded > 1:
            wide = np.int64 if sums.dtype == np.uint8 else sums.dtype
            sums = np.add.reduce(sums.reshape(len(sums), self.folded, -1), axis=1, dtype=wide)
        found = torch.from_numpy(sums).view(self.shape)
        return found if self.order is None else found.permute(self.order)


def _matrices(x: Tensor, dims: tuple[int, ...]) -> _Matrices | None:
    """View a tensor as matrices; None if it is not readable or rows are unevenly spaced."""
    viewed = numpy_view(x)
    if viewed is None:
        return None
    one, x, lead = _ONE[x.dtype][1], viewed, len(dims)
    if dims == _FIRST_DIMS[:lead] and x.is_contiguous():
        shape = x.shape[lead:]
        values, folded = _rows_joined(x.view(1, -1, shape.numel()))
        return _Matrices(values, one, False, folded, shape, None)
    strides = x.stride()
    kept = sorted((d for d in range(x.ndim) if d not in dims), key=lambda d: -strides[d])
    summed = sorted(dims, key=lambda d: -strides[d])
    widest = max((strides[d] for d in dims if x.shape[d] > 1), default=0)
    outer = [d for d in kept if strides[d] > widest]
    shape = torch.Size([x.shape[d] for d in kept])
    ordered = [d for d in range(x.ndim) if d not in dims]
    order = tuple(kept.index(d) for d in ordered)
    if summed and kept and strides[summed[0]] < strides[kept[-1]]:
        return _rows_to_add(x, one, kept, summed, shape, order)
    for first in (outer, []):
        rest = [d for d in kept if d not in first]
        columns = math.prod([x.shape[d] for d in rest])
        matrices = math.prod([x.shape[d] for d in first])
        if matrices > 1 and columns % 8:
            continue  # few bytes per row would be padded to eight
        try:
            values = x.permute(*first, *summed, *rest).view(matrices, -1, columns)
        except RuntimeError:
            continue
        values, folded = _rows_joined(values)
        return _Matrices(values, one, False, folded, shape, order)
    return None


def _rows_to_add(
    x: Tensor,
    one: int,
    kept: list[int],
    summed: list[int],
    shape: torch.Size,
    order: tuple[int, ...],
) -> _Matrices | None:
    """View a tensor as matrices with summed columns; None if a byte may overflow."""
    columns = math.prod([x.shape[d] for d in summed])
    if columns > _ROWS:
        return None
    try:
        values = x.permute(*kept, *summed).view(1, -1, columns)
    except RuntimeError:
        return None
    return _Matrices(values, one, True, 1, shape, order)


def _rows_joined(values: Tensor) -> tuple[Tensor, int]:
    """Join short rows into long ones, which take fewer steps, if there are many."""
    matrices, rows, columns = values.shape
    if rows * columns <= TILE and rows <= _ROWS:
        return values, 1
    folded = math.gcd(rows, max(1, _SHORT // columns))
    if folded == 1 or not values.is_contiguous():
        return values, 1
    return values.view(matrices, -1, folded * columns), folded


class _Scratch(threading.local):
    """Reused memory for results of a tile: allocating it takes as long as using it."""

    def __init__(self) -> None:
        self.flags = np.zeros((2, TILE + _ROWS * 8), np.bool_)
        self.floats = np.zeros(TILE, np.float64)


_scratch = _Scratch()


class _OtherTiles:
    """Sums and range of the tiles with values other than zeros and ones.

    Args:
        shape: ``(matrices, rows, columns)`` of the tensor.
        axis: Axis to sum, rows or columns.
        dtype: Dtype of the elements.

    Attributes:
        low: As in ``Reading``; likewise ``high``, ``integral`` and ``rounded``.
        found: Whether such a tile exists.
        magnitudes: Sums of magnitudes over these tiles.
        events: Numbers of their nonzero elements; ``magnitudes`` excludes them.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, dtype: torch.dtype) -> None:
        self.low, self.high, self.integral, self.rounded = 0.0, 1.0, True, False
        self.found = False
        self._dtype = dtype
        self.magnitudes: Values = np.zeros(())
        self.events: Values = np.zeros(())
        self._left = shape[0], shape[3 - axis]
        self._axis = axis

    def add(self, tile: Values, events: Values, place: Place) -> None:
        """Add a tile ``(matrices, rows, columns)`` and its summed events."""
        low, high = float(tile.min()), float(tile.max())
        if not self.found:
            self.found = True
            self.magnitudes, self.events = np.zeros((2, *self._left))
        if not (math.isfinite(low) and math.isfinite(high)):
            self.low = self.high = math.nan
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        scratch = _scratch.floats.view(tile.dtype)[: tile.size].reshape(tile.shape)
        if self.integral:
            self.integral = is_count(low, self._dtype) and is_count(high, self._dtype)
        if self.integral:
            tile = self._whole(tile, scratch)
        magnitudes = np.abs(tile, out=scratch) if low < 0 else tile
        largest = round(max(-low, high))
        exact = self.integral and largest * tile.shape[self._axis] < FLOAT32_INTEGERS
        sums = np.add.reduce(magnitudes, axis=self._axis, dtype=None if exact else np.float64)
        self.magnitudes[place] += sums
        self.events[place] += events

    def _whole(self, tile: Values, scratch: Values) -> Values:
        """Nearest integers of the elements, or the tile if an element is not near to one."""
        same = _scratch.flags[1, : tile.size].reshape(tile.shape)
        whole = np.rint(tile, out=scratch)
        first = int(np.equal(whole, tile, out=same).argmin())
        if same.flat[first]:
            return tile
        # In graded values, the first non-integer is not near to one.
        one = float(tile.flat[first])
        self.integral = is_count(one, self._dtype) and are_near_counts(tile, whole)
        if not self.integral:
            return tile
        self.rounded = True
        return whole


def _count(values: Values, one: int, others: _OtherTiles | None) -> Values | None:
    """Events per matrix and column.

    Args:
        values: ``(matrices, rows, columns)``.
        one: Value of 1 in them.
        others: Collects tiles with other values; without it they give None.
    """
    matrices, rows, columns = values.shape
    if rows <= _ROWS and matrices * rows * _by_eight(columns) <= TILE:  # the usual small case
        events = _events(values, one, others, _EVERYWHERE)
        return None if events is None else events.view(np.uint8)[:, :columns]
    some, width = 1, min(columns, _WIDTH)
    if rows <= _ROWS and rows * columns <= TILE:  # several matrices in a tile
        some, width = max(1, TILE // (rows * _by_eight(columns))), columns
    counts = np.zeros((matrices, columns), np.uint8 if rows <= _ROWS else np.int64)
    for first in range(0, matrices, some):
        for left in range(0, columns, width):
            place = slice(first, first + some), slice(left, left + width)
            part = values[place[0], :, place[1]]
            if not _count_part(part, one, others, place, counts[place]):
                return None
    return counts


def _count_part(
    part: Values, one: int, others: _OtherTiles | None, place: Place, counts: Values
) -> bool:
    """Add the events of a part, of which one row fits into a tile, to counts; False: stopped."""
    matrices, rows, columns = part.shape
    height = max(1, min(rows, _ROWS, TILE // (matrices * _by_eight(columns))))
    held, rows_held = None, 0
    for top in range(0, rows, height):
        tile = part[:, top : top + height]
        events = _events(tile, one, others, place)
        if events is None:
            return False
        if held is not None and rows_held + tile.shape[1] <= _ROWS:
            held += events
            rows_held += tile.shape[1]
            continue
        if held is not None:
            counts += held.view(np.uint8)[:, :columns]
        held, rows_held = events, tile.shape[1]
    if held is not None:
        counts += held.view(np.uint8)[:, :columns]
    return True


def _count_along(values: Values, one: int, others: _OtherTiles | None) -> Values | None:
    """Events per row of one matrix with at most 255 columns; as ``_count``."""
    _, rows, columns = values.shape
    height = TILE // _by_eight(columns)
    counts = np.empty((1, rows), np.uint8)
    for top in range(0, rows, height):
        place = slice(None), slice(top, top + height)
        tile = values[place]
        events, ones = _flags(tile, one)
        total = events[0, :, 0].copy()
        for column in range(1, events.shape[2]):
            total += events[0, :, column]
        # The highest byte of this product is the sum of all bytes.
        counts[place] = (total * _EACH_BYTE) >> _LAST_BYTE
        if not (events == ones).all():
            if others is None:
                return None
            others.add(tile, counts[place], place)
    return counts


def _events(tile: Values, one: int, others: _OtherTiles | None, place: Place) -> Values | None:
    """Events per matrix and column of a tile, eight bytes to an integer; None: stopped."""
    events, ones = _flags(tile, one)
    counts: Values = np.add.reduce(events, axis=1)
    if not (events == ones).all():
        if others is None:
            return None
        others.add(tile, counts.view(np.uint8)[:, : tile.shape[2]], place)
    return counts


def _flags(tile: Values, one: int) -> tuple[Values, Values]:
    """Mark where a tile is not 0, and where it is 1: eight bytes of a row per integer."""
    matrices, rows, columns = tile.shape
    width = _by_eight(columns)
    kept = _scratch.flags[:, : matrices * rows * width]
    events, ones = kept.reshape(2, matrices, rows, width)
    if width > columns:
        events[..., columns:] = ones[..., columns:] = False
    np.not_equal(tile, 0, out=events[..., :columns])
    np.equal(tile, one, out=ones[..., :columns])
    return events.view(np.uint64), ones.view(np.uint64)


def _by_eight(number: int) -> int:
    return -(-number // 8) * 8
