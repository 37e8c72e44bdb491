"""Sums of activations that are exact for every dtype.

A floating dtype stops counting at some integer: bfloat16 at 256, float16 at 2,048, float32 at
16,777,216 = 2**24. Summing in float64 is exact up to 2**53 but many times slower on a CPU. So sums
are float32 if that is provably sufficient, and float64 otherwise.

The proof for integers takes one read of the result. Magnitudes are non-negative, and rounding is
monotone, so partial sums do not exceed the total: a total below 2**24 means that every partial sum
was below 2**24, where float32 represents each integer.

Graded values lack such a proof. They are detected by a total that is not an integer, and summed in
float64. If all totals happen to be integers, the error is that of float32 sums (a few parts in
10**7).

Spike counts with rounding (``counts.py``) are summed as counts. They are detected by totals that
are near integers. A small integer total cannot hide them, since the distances of all values from
integers add up to less than one. For larger integer totals the values are examined, except in sums
of many float32 values in float32, which lose such distances by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.tensors.counts import Nearness, near_counts, nearness, rounded
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS, array_of, readable, spike_counts

_HELD_BY_FLOAT32 = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.float16, torch.bfloat16, torch.float32}
)
_UNSIGNED = frozenset({torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64})

# Elements per block: a block in float64 (1 MiB) stays in the second-level cache of a core.
_BLOCK = 2**17


# Dtypes whose sums are slower than counting spikes byte by byte.
_COUNTED_QUICKER = frozenset({torch.bool, torch.uint8, torch.int8, torch.float16, torch.bfloat16})
# Up to this size float64 is as fast as a check that could avoid it.
_SMALL = 2**15


def magnitude_sum(
    activations: Tensor,
    dims: tuple[int, ...],
    *,
    negative: bool | None = None,
    counts: bool | Tensor | None = None,
) -> Tensor:
    """Sum ``|activations|`` over ``dims`` exactly.

    If all elements are spike counts up to rounding, the counts are summed.

    The gradient with respect to an activation is 1 if it is zero or positive and -1 if it is
    negative, so that silent neurons receive a gradient, too.

    Args:
        activations: Real tensor of any dtype, strided or sparse COO.
        dims: Dimensions to sum over, non-negative, without repetition.
        negative: Whether negative values are possible, if known; else it is determined.
        counts: Whether all elements are spike counts up to rounding, if known (on accelerators a
            0-dim tensor); else it is determined.

    Returns:
        float64 tensor of the remaining shape. NaN and infinity in the input appear as NaN or
        infinity in the output. On accelerators the host is not synchronised.

    Example:
        >>> import torch
        >>> from snnmetrics.tensors.sums import magnitude_sum
        >>> spikes = torch.ones(1000, 2, dtype=torch.bfloat16)
        >>> spikes.sum(0).tolist(), magnitude_sum(spikes, (0,)).tolist()
        ([1000.0, 1000.0], [1000.0, 1000.0])
    """
    if activations.layout is torch.sparse_coo:
        return _sum_sparse(activations, dims)
    if activations.is_cpu and activations.numel() <= _SMALL:
        wide = activations.to(torch.float64)
        total = magnitudes(wide).sum(dims)
        if _hides_counts(activations, dims, total) if counts is None else counts:
            total = magnitudes(rounded(wide)).sum(dims)
        return total
    if activations.requires_grad and torch.is_grad_enabled():
        if negative is None:
            negative = _may_be_negative(activations)
        return _MagnitudeSum.apply(activations, dims, negative)  # type: ignore[no-any-return, no-untyped-call]
    return _sum_strided(activations, dims, negative, counts)


def all_finite(values: Tensor) -> bool:
    """Whether all elements are finite, for magnitudes on the host (one reduction)."""
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())


def coalesced(x: Tensor) -> Tensor:
    """A sparse COO tensor with each index once."""
    # Outside inference mode PyTorch cannot coalesce a tensor created in it.
    with torch.inference_mode(x.is_inference()):
        return x.coalesce()


def magnitudes(x: Tensor) -> Tensor:
    """``|x|`` of a floating tensor, with gradient 1 at zero, where ``abs`` has 0."""
    return F.leaky_relu(-x, -1.0) if x.requires_grad else x.abs()


class _MagnitudeSum(torch.autograd.Function):
    """Exact sum of a large input, with a gradient that does not keep the activation alive."""

    @staticmethod
    def forward(activations: Tensor, dims: tuple[int, ...], negative: bool) -> Tensor:
        return _sum_strided(activations, dims, negative, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        activations, dims, negative = inputs
        ctx.shape, ctx.dtype, ctx.dims = activations.shape, activations.dtype, dims
        ctx.save_for_backward(activations < 0 if negative else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].to(ctx.dtype)
        for dim in sorted(ctx.dims):
            grad = grad.unsqueeze(dim)
        grad = grad.expand(ctx.shape)
        (is_negative,) = ctx.saved_tensors
        if is_negative is not None:
            grad = torch.where(is_negative, -grad, grad)
        return grad, None, None


def _may_be_negative(x: Tensor) -> bool:
    if x.dtype in _UNSIGNED:
        return False
    # Checking would make the host wait on an accelerator, and is slower than abs() for integers.
    if not x.is_cpu or not x.is_floating_point():
        return True
    return bool(x.amin() < 0)


def _hides_counts(x: Tensor, dims: tuple[int, ...], total: Tensor) -> bool:
    """Whether sums of ``|x|`` differ from sums of the nearest spike counts."""
    if not x.is_floating_point():
        return False
    total, eps = total.detach(), torch.finfo(x.dtype).eps
    whole = total.round()
    if torch.equal(total, whole):
        # Distances from integers that sum to less than one cannot reach another integer.
        if total.sum().item() < 1 / (4 * eps):
            return False
        if spike_counts(x.detach(), dims) is not None:
            return False
    elif not bool(((total - whole).abs() <= 5 * eps * total).all()):
        return False
    parts = map(nearness, blocks(x.detach(), dims))
    return max(parts) is Nearness.NEAR


def _sum_strided(
    x: Tensor, dims: tuple[int, ...], negative: bool | None, counts: bool | Tensor | None
) -> Tensor:
    if not x.is_cpu:
        return _sum_on_device(x, dims, counts)
    if x.dtype in _COUNTED_QUICKER and (counts := spike_counts(x, dims)) is not None:
        return counts
    if x.dtype is torch.float32 and (quick := _sum_float32(x, dims, negative)) is not None:
        return quick
    if negative is None:
        negative = _may_be_negative(x)
    pieces = blocks(x, dims)
    total = _sum_of(pieces, dims, negative)
    if _hides_counts(x, dims, total) if counts is None else counts and x.is_floating_point():
        total = _sum_of((piece.round() for piece in pieces), dims, negative)
    return total


def _sum_of(pieces: Iterable[Tensor], dims: tuple[int, ...], negative: bool) -> Tensor:
    parts = (_sum_block(piece, dims, negative) for piece in pieces)
    total = next(parts)
    for part in parts:
        total += part
    return total


def _sum_float32(x: Tensor, dims: tuple[int, ...], negative: bool | None) -> Tensor | None:
    """Sum in one read of the memory, if float32 is provably sufficient; else None."""
    total = None
    pieces = blocks(x, dims)
    for block in pieces:
        # Sum first: it reads uncached memory faster than the check for negatives.
        part = block.sum(dims)
        if _smallest(block) < 0 if negative is None else negative:
            part = block.abs().sum(dims)
        if total is None:
            total = part
            if len(pieces) > 1 and not _is_exact(total):
                return None  # probably graded values
        else:
            total.add_(part)
    return None if total is None or not _is_exact(total) else total.double()


def _smallest(x: Tensor) -> float:
    quick = readable(x)  # NumPy scans a block in two thirds of the time
    return float(array_of(x.detach()).min() if quick else x.amin())


def _sum_block(block: Tensor, dims: tuple[int, ...], negative: bool) -> Tensor:
    if block.dtype in _HELD_BY_FLOAT32:
        wide = block.to(torch.float32)
        total = (wide.abs() if negative else wide).sum(dims)
        if _is_exact(total):
            return total.double()
    wide = block.to(torch.float64)
    return (wide.abs() if negative else wide).sum(dims)


def _sum_on_device(x: Tensor, dims: tuple[int, ...], counts: bool | Tensor | None = None) -> Tensor:
    """Sum by fused reductions if the dtype permits; the host is not synchronised."""
    if x.dtype in _UNSIGNED:
        return x.sum(dims, dtype=torch.float64)
    if x.is_floating_point():
        whole = x.round()
        if counts is None:
            counts = near_counts(x, whole, torch.finfo(x.dtype).eps).all()
        return torch.where(torch.as_tensor(counts), _norm(whole, dims), _norm(x, dims))
    return x.to(torch.float64).abs().sum(dims)


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, 1, dims, dtype=torch.float64)
    return norm


def _is_exact(total: Tensor) -> bool:
    """Check of the module docstring: every entry is an integer below 2**24."""
    return bool(((total < FLOAT32_INTEGERS) & (total == total.trunc())).all())


def blocks(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Cut ``x`` along its longest summed dimension into pieces of about ``_BLOCK`` elements."""
    if x.numel() <= _BLOCK:
        return (x,)
    dim = max(dims, key=lambda d: x.shape[d])
    rows = max(1, _BLOCK * x.shape[dim] // x.numel())
    return torch.split(x, rows, dim)


def _sum_sparse(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Sum the stored elements; duplicate indices form one element, their sum."""
    x = coalesced(x)
    if x.dense_dim() > 0:
        return magnitude_sum(x.to_dense(), dims)
    values = x.values()
    wide = values.to(torch.float64)
    if x.is_floating_point():
        whole = values.detach().round()
        counts = near_counts(values.detach(), whole, torch.finfo(x.dtype).eps).all()
        wide = torch.where(counts, rounded(wide), wide)
    stored = magnitudes(wide)
    kept = [d for d in range(x.ndim) if d not in dims]
    shape = [x.shape[d] for d in kept]
    position = torch.zeros(stored.shape, dtype=torch.int64, device=x.device)
    for d in kept:
        position = position * x.shape[d] + x.indices()[d]
    total = torch.zeros(math.prod(shape), dtype=torch.float64, device=x.device)
    return total.index_add(0, position, stored).reshape(shape)
