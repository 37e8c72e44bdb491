"""Readers of activations that do not synchronise the host, so that a compiler can fuse them.

They become part of compiled models. Each element is read once; float32 holds sums over 256 vectors
exactly, float64 holds larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.counts import HALF, LARGEST_COUNT, UNITS, counts_or_nan
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

# Number of vectors whose spike counts float32 adds exactly, for all counts.
_MOST_VECTORS = FLOAT32_INTEGERS // LARGEST_COUNT
_BINARY, _TERNARY, _INTEGER, _ANALOG = (float(kind) for kind in InputKind)
_WIDE = frozenset({torch.float64, torch.int64, torch.int32, torch.uint16, torch.uint32})


class FusedSums(NamedTuple):
    """Statistics of a tensor; the sums are per neuron, 1-dim.

    Attributes:
        events: Nonzero elements.
        whole: Sum of magnitudes, of the nearest integers for near elements.
        raw: Sum of ``|x|``; equal to ``whole`` for dtypes where the two differ only by rounding.
        kind: Index of the loosest kind, 0-dim; None if only zeros and ones are possible.
    """

    events: Tensor
    whole: Tensor
    raw: Tensor
    kind: Tensor | None


def fused_sums(x: Tensor, dims: Sequence[int], scale: float | None = None) -> FusedSums:
    """Read a tensor.

    Args:
        x: The tensor.
        dims: Dimensions other than neurons.
        scale: Declared factor between values and spike counts, if any; other values give NaN.

    Example:
        >>> import torch
        >>> found = fused_sums(torch.tensor([[0.0, 1.0], [2.0, 0.9999999]]), (0,))
        >>> found.events.tolist(), found.whole.tolist(), joined([found])[1].tolist()
        ([1.0, 2.0], [2.0, 2.0], [2.0])
    """
    x = x.detach()
    if scale is not None:
        x = counts_or_nan(x, scale)
    eps, is_half = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0, x.dtype in HALF
    x = x.to(torch.float64 if x.dtype in _WIDE else torch.float32)
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    if x.numel() == 0:
        kept = [size for d, size in enumerate(x.shape) if d not in dims]
        nothing = x.new_zeros(math.prod(kept))
        return FusedSums(nothing, nothing, nothing, x.new_zeros(()))
    x, inner, outer = _parts(x, tuple(dims))
    whole = x.round()
    size = whole.abs()
    # Adding three quarters of a number to its product with a power of two, then subtracting the
    # product, leaves the power of two that measures the unit in the last place of the number.
    shifted = size * (2.0**52 if x.dtype is torch.float64 else 2.0**23)
    power = (0.75 * size + shifted) - shifted
    near = (x - whole).abs() <= power * (UNITS * eps)  # false for NaN
    magnitude = x.abs()
    looser = torch.where(x < 0, _TERNARY, _BINARY)
    looser = torch.where(size > 1, _INTEGER, looser)
    kind = torch.where(near & (size <= LARGEST_COUNT), looser, _ANALOG)

    def added(values: Tensor) -> Tensor:
        if inner:
            values = values.sum(inner)
        return (values.sum(outer, dtype=torch.float64) if outer else values).reshape(-1)

    def loosest(values: Tensor) -> Tensor:
        for dims in (inner, outer):
            values = values.amax(dims) if dims else values
        return values.amax()

    counted = added(torch.where(near, size, magnitude))
    return FusedSums(
        events=added((x != 0).to(x.dtype)),
        whole=counted,
        raw=added(magnitude) if is_half else counted,
        kind=loosest(kind),
    )


def spike_sums(x: Tensor, dims: Sequence[int]) -> FusedSums:
    """Read a tensor of zeros and ones: only events are counted."""
    events = _events(x, dims, None)
    return FusedSums(events, events, events, None)


def count_sums(x: Tensor, dims: Sequence[int]) -> FusedSums:
    """Read a tensor of counts: integers of 0 to 65,536.

    Example:
        >>> import torch
        >>> found = count_sums(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), (0,))
        >>> found.events.tolist(), found.whole.tolist(), found.kind.item()
        ([1.0, 1.0], [2.0, 1.0], 2.0)
    """
    x = x.detach()
    x = x.to(torch.float64 if x.dtype in _WIDE else torch.float32)
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    x, inner, outer = _parts(x, tuple(dims))

    def added(values: Tensor) -> Tensor:
        if inner:
            values = values.sum(inner)
        return (values.sum(outer, dtype=torch.float64) if outer else values).reshape(-1)

    events, whole = added((x != 0).to(x.dtype)), added(x)
    kind = torch.where((whole > events).any(), _INTEGER, _BINARY).to(x.dtype)
    return FusedSums(events, whole, whole, kind)


def graded_sums(x: Tensor, factor: Tensor, dims: Sequence[int]) -> FusedSums:
    """Read a tensor that is the product of zeros and ones with one number.

    Args:
        x: The tensor.
        factor: The number, in one element.
        dims: Dimensions other than neurons.

    Example:
        >>> import torch
        >>> found = graded_sums(torch.tensor([[0.0, 3.0], [0.0, 3.0]]), torch.tensor(3.0), (0,))
        >>> found.events.tolist(), found.whole.tolist(), found.kind.item()
        ([0.0, 2.0], [0.0, 6.0], 2.0)
    """
    if x.numel() == 0:
        return spike_sums(x, dims)
    factor = factor.detach().to(x.dtype).reshape(1)
    one = fused_sums(factor, ())
    events = _events(x, dims, factor)
    whole, raw = events * one.whole, events * one.raw
    kind = torch.where(events.amax() == 0, _BINARY, _kind(one))
    return FusedSums(events, whole, whole if one.raw is one.whole else raw, kind)


def _events(x: Tensor, dims: Sequence[int], factor: Tensor | None) -> Tensor:
    """Sums of zeros and ones over some dimensions, or of their products with one number.

    On the CPU, a compiled sum over the first dimension takes several times as long as a matrix
    product, which reads contiguous rows.
    """
    x = x.detach()
    x = x.to(torch.float64 if x.dtype is torch.float64 else torch.float32)
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    vectors = _vectors_first(x, tuple(dims)) if x.is_cpu else None
    outer: tuple[int, ...] = ()
    most = FLOAT32_INTEGERS if factor is None else _MOST_VECTORS
    if vectors is not None and len(vectors) <= most:
        with torch.autocast("cpu", enabled=False):
            events = vectors.new_ones(1, len(vectors)) @ vectors
    else:
        x, inner, outer = _parts(x, tuple(dims))
        events = x.sum(inner) if inner else x
    if factor is not None:  # of 256 vectors, with negligible rounding
        factor = factor.to(events.dtype)
        events = torch.where(factor == 0, 0.0, (events / factor).round())
    return (events.sum(outer, dtype=torch.float64) if outer else events).reshape(-1)


def _vectors_first(x: Tensor, dims: tuple[int, ...]) -> Tensor | None:
    """View a tensor as ``(vectors, neurons)``, if its memory layout permits."""
    if not all(isinstance(size, int) for size in x.shape) or dims != tuple(range(len(dims))):
        return None
    if not x.is_contiguous() or x.numel() == 0:
        return None
    return x.reshape(math.prod(x.shape[: len(dims)]), -1)


def over_more(found: FusedSums, shape: Sequence[int], dims: Sequence[int]) -> FusedSums:
    """Sum statistics over some dimensions of the neurons.

    Args:
        found: Statistics to sum.
        shape: Shape of the neurons.
        dims: Dimensions of ``shape`` other than neurons.
    """
    over = tuple(dims)
    events, whole, raw = (
        one.reshape(tuple(shape)).sum(over, dtype=torch.float64).reshape(-1) for one in found[:3]
    )
    if found.raw is found.whole:
        raw = whole
    if found.whole is found.events:
        whole = raw = events
    return FusedSums(events, whole, raw, found.kind)


def _parts(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Split dimensions into a first part of up to 256 vectors, and the rest.

    Returns:
        The tensor, with a long dimension split in two; the dimensions to sum first; the dimensions
        to sum next, numbered without the first ones.
    """
    if x.dtype is torch.float64:
        return x, (), dims
    inner: list[int] = []
    vectors = 1
    for d in sorted(dims, reverse=True):
        size = x.shape[d]
        if isinstance(size, int) and vectors * size <= _MOST_VECTORS:
            inner.append(d)
            vectors *= size
    d = min(dims)
    if not inner and isinstance(x.shape[d], int):
        most = next((n for n in range(_MOST_VECTORS, 15, -1) if x.shape[d] % n == 0), None)
        if most is not None:
            x, inner = x.unflatten(d, (-1, most)), [d + 1]
            dims = tuple(e if e == d else e + 1 for e in dims)
    outer = tuple(e - sum(i < e for i in inner) for e in dims if e not in inner)
    return x, tuple(inner), outer


def joined(calls: Sequence[FusedSums]) -> tuple[Tensor, Tensor | None]:
    """Stack the sums of several tensors of the same neurons.

    Returns:
        Events and valid magnitudes (raw ones for the analog kind) as ``(2, calls, neurons)``, or
        once if they are equal; the indices of the kinds, ``(calls,)``, or None if only zeros and
        ones are possible.
    """
    parts = [FusedSums(*call) for call in calls]
    events = torch.stack([part.events for part in parts])
    if all(part.kind is None for part in parts):
        return events.unsqueeze(0), None
    kinds = torch.stack([_kind(part) for part in parts])
    magnitudes = torch.stack([part.whole for part in parts])
    if any(part.raw is not part.whole for part in parts):
        raw = torch.stack([part.raw for part in parts])
        magnitudes = torch.where((kinds == _ANALOG).unsqueeze(1), raw, magnitudes)
    return torch.stack([events, magnitudes]), kinds


def with_kind(found: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The same statistics with the kind as a tensor, even if only one is possible."""
    events, whole, raw, kind = found
    return events, whole, raw, events.new_zeros(()) if kind is None else kind


def _kind(found: FusedSums) -> Tensor:
    return with_kind(found)[-1]


def product_figures(left: FusedSums, right: FusedSums) -> Tensor:
    """Kind, events, magnitude, operations and events of the right factor of a product, float64.

    Args:
        left: Statistics of the left factor, summed over the indices that the right one lacks.
        right: Statistics of the right factor, in the same order.
    """
    sums, others = joined([left])[0].double(), joined([right])[0].double()
    kinds = _kind(left) * len(InputKind) + _kind(right)
    both = sums[0, 0] * others[0, 0]
    left_sums = sums[0].sum(), sums[-1].sum()
    return torch.stack([kinds.double(), *left_sums, both.sum(), others[0].sum()])


# Column of each figure of an input in a table: events with ones, with the dense and with the
# effective map, then magnitudes with the same three.
_FIGURE_COLUMNS = {2: (0, 2, 3, 1, 1, 3), 3: (0, 3, 4, 1, 2, 5)}


def input_totals(sums: Tensor, kinds: Tensor | None, maps: Tensor, facts: Tensor) -> Tensor:
    """Totals of inputs by kind, ``(kinds, TOTALS)``.

    Args:
        sums: From :func:`joined`.
        kinds: From :func:`joined`.
        maps: Columns to multiply neurons with: ones, dense, and effective if present.
        facts: Numbers of each input determined by shapes, ``(calls, FACTS)``.
    """
    products = sums.double() @ maps
    found = torch.cat([products[0], products[-1]], 1)
    columns = _FIGURE_COLUMNS[maps.shape[1]]
    figures = [found[:, column : column + 1] for column in columns]
    return _by_kind(kinds, len(InputKind), torch.cat([facts, *figures], 1))


def product_totals(products: Tensor, facts: Tensor) -> Tensor:
    """Totals of products by the kinds of both factors, ``(kinds, PRODUCT_TOTALS)``.

    Args:
        products: From :func:`product_figures`, ``(calls, 5)``.
        facts: Numbers of each product determined by shapes, ``(calls, FACTS)``.
    """
    kinds, events, magnitude, both, right = products.unbind(1)
    figures = torch.stack([events, magnitude, *[both] * 3, right], 1)
    return _by_kind(kinds, len(InputKind) ** 2, torch.cat([facts, figures], 1))


def _by_kind(kinds: Tensor | None, number: int, lines: Tensor) -> Tensor:
    out = lines.new_zeros(number, lines.shape[1])
    if kinds is None:
        out[int(_BINARY)] = lines.sum(0)
        return out
    return out.index_add_(0, kinds.long(), lines)
