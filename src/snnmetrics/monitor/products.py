"""Operations of products of two activations: where both operands are not zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnmetrics.ops.spec import Call
from snnmetrics.synapses.maps import SynapseFigures, convolution_paths
from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.roads import Road, road_of
from snnmetrics.tensors.accelerators.workspace import Line, Workspace
from snnmetrics.tensors.stats import InputStats, events_along, summarize

Kinds = tuple[int | Tensor, int | Tensor]


def product_of(call: Call) -> tuple[Kinds, SynapseFigures, float | Tensor]:
    """Count a product of two activations: one operation where both operands are not zero.

    Returns:
        The kinds of both, the figures, and the events of the right operand; 0 of a convolution.
    """
    if call.spec.is_convolution:
        return _convolution_of(call)
    letters = call.spec.letters
    left = _factor(call.left, letters.left, letters.shared)
    right = _factor(call.right, letters.right, letters.shared)
    both = torch.dot(left.event_counts.reshape(-1), right.event_counts.reshape(-1))
    return (left.kind, right.kind), _figures(left, both), right.event_counts.sum()


def product_on(road: Road, space: Workspace, call: Call) -> tuple[Kinds, Line]:
    """Count a product of two activations on an accelerator.

    Returns:
        The kinds of both, and the lines with the figures.
    """
    if call.spec.is_convolution:
        left = _stats(space, call.left, (0,))
        right = _stats(space, call.right, tuple(range(call.right.ndim)))
        met = _met(call)
    else:
        letters = call.spec.letters
        dims, order = _summed(letters.left, letters.shared)
        left = _stats(space, call.left, dims).permuted(order)
        dims, order = _summed(letters.right, letters.shared)
        right = _stats(space, call.right, dims).permuted(order)
        met = right.event_counts
    by_events = not call.spec.is_convolution
    return (left.kind, right.kind), road.product(space, left, met, right.kind, by_events)


def _stats(space: Workspace, factor: Tensor, dims: tuple[int, ...]) -> DeviceStats:
    """Read a factor; one of both may be such that kernels do not read it."""
    road = road_of(factor)
    assert road is not None  # on an accelerator
    return road.stats(space, factor, dims)


def _convolution_of(call: Call) -> tuple[Kinds, SynapseFigures, float]:
    left = summarize(call.left, (0,))
    right = summarize(call.right, tuple(range(call.right.ndim)))
    both = (left.event_counts * _met(call)).sum()
    return (left.kind, right.kind), _figures(left, both), 0


def _figures(left: InputStats, both: Tensor) -> SynapseFigures:
    """Figures of a product, which is never weighted by value."""
    return SynapseFigures(
        events=left.event_counts.sum(),
        magnitude=left.magnitudes.sum(),
        synops=both,
        event_synops=both,
        effective_synops=both,
        effective_magnitude=both,
    )


def _met(call: Call) -> Tensor:
    """Count the nonzero kernel elements by which each input element is multiplied."""
    with torch.inference_mode(False), torch.no_grad():
        return convolution_paths(call.spec, call.right.detach())


def dense_products(call: Call) -> int:
    """Count operations as if no element were zero; padded taps of convolutions are left out."""
    spec = call.spec
    if not spec.is_convolution:
        return spec.dense_macs
    with torch.inference_mode(False), torch.no_grad():
        return math.prod(spec.left_shape[:2]) * int(convolution_paths(spec, None).sum())


def _factor(operand: Tensor, letters: str, shared: list[str]) -> InputStats:
    """Read a factor, summed over the letters that the other factor lacks."""
    dims, order = _summed(letters, shared)
    return summarize(operand, dims).permuted(order)


def _summed(letters: str, shared: list[str]) -> tuple[tuple[int, ...], list[int]]:
    """Dimensions of a factor that the other one lacks, and the order of those of both."""
    dims = tuple(d for d, letter in enumerate(letters) if letter not in shared)
    kept = [letter for letter in letters if letter in shared]
    return dims, [kept.index(letter) for letter in shared]


def vector_products(call: Call) -> Tensor:
    """Count the operations of each vector of the left operand of a product, float64."""
    if call.spec.is_convolution:
        return (call.left.ne(0) * _met(call)).flatten(1).sum(1)
    left, right, contracted, leading = call.spec.letters
    # Where the left operand is one for all samples, the batch is the right one's.
    batch = [c for c in leading if c in right and c not in left]
    kept = [c for c in right if c in left or c in batch]
    letters = batch + [c for c in left if c not in contracted]
    dims = tuple(d for d, letter in enumerate(right) if letter not in kept)
    events = events_along(call.right, dims)
    equation = f"{left},{''.join(kept)}->{''.join(letters)}"
    return torch.einsum(equation, call.left.ne(0).to(torch.float64), events)


def vector_events(call: Call) -> Tensor:
    """Count the nonzero elements of each vector of the left operand of a product, float64.

    Vectors are those of :func:`vector_products`.
    """
    if call.spec.is_convolution:
        return call.left.ne(0).flatten(1).sum(1).to(torch.float64)
    left, right, contracted, leading = call.spec.letters
    sizes = [call.right.shape[right.index(c)] for c in leading if c in right and c not in left]
    dims = tuple(d for d, letter in enumerate(left) if letter in contracted)
    events = events_along(call.left, dims)
    # One left operand for all samples has its events once: each sample has its share.
    return events.expand(*sizes, *events.shape) / math.prod(sizes)


def tighter(one: int | Tensor, other: int | Tensor) -> int | Tensor:
    """The tighter kind of two operands: synops have no meaning only where both are analog."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return torch.minimum(torch.as_tensor(one), torch.as_tensor(other))
