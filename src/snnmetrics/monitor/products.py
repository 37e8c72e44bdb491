"""Count the operations of products of two activations: those with two nonzero operands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnmetrics.ops.spec import Call, Letters
from snnmetrics.synapses.maps import SynapseFigures, convolution_paths
from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.roads import Road, road_of
from snnmetrics.tensors.accelerators.workspace import Line, Workspace
from snnmetrics.tensors.stats import LEADING, InputStats, events_along, summarize

Kinds = tuple[int | Tensor, int | Tensor]


def product_of(call: Call) -> tuple[Kinds, SynapseFigures, float | Tensor]:
    """Count a product of two activations: one operation per pair of nonzero operands.

    Returns:
        The kinds of both operands, the figures, and the events of the right operand (0 for a
        convolution).
    """
    if call.spec.is_convolution:
        return _convolution_of(call)
    letters = call.spec.letters
    if letters.is_elementwise:
        return _elementwise_of(call)
    left = _factor(call.left, letters.left, letters.shared)
    right = _factor(call.right, letters.right, letters.shared)
    both = torch.dot(left.event_counts.reshape(-1), right.event_counts.reshape(-1))
    return (left.kind, right.kind), _figures(left, both), right.event_counts.sum()


def product_on(road: Road, space: Workspace, call: Call) -> tuple[Kinds, Line]:
    """Count a product of two activations on an accelerator.

    Returns:
        The kinds of both operands, and the lines with the figures.
    """
    if call.spec.is_convolution:
        left = _stats(space, call.left, (0,))
        right = _stats(space, call.right, tuple(range(call.right.ndim)))
        met = _met(call)
    elif call.spec.letters.is_elementwise:
        return _elementwise_on(road, space, call)
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
    """Read an operand with its own reader, since kernels may be unable to read one of the two."""
    road = road_of(factor)
    assert road is not None  # the operand is on an accelerator
    return road.stats(space, factor, dims)


def _convolution_of(call: Call) -> tuple[Kinds, SynapseFigures, float]:
    left = summarize(call.left, (0,))
    right = summarize(call.right, tuple(range(call.right.ndim)))
    both = (left.event_counts * _met(call)).sum()
    return (left.kind, right.kind), _figures(left, both), 0


def _elementwise_of(call: Call) -> tuple[Kinds, SynapseFigures, Tensor]:
    left = summarize(call.left, LEADING[call.left.ndim])
    right = left if call.right is call.left else summarize(call.right, LEADING[call.right.ndim])
    both = left.event_counts if right is left else _pairs(call).sum(dtype=torch.float64)
    return (left.kind, right.kind), _figures(left, both), right.event_counts


def _elementwise_on(road: Road, space: Workspace, call: Call) -> tuple[Kinds, Line]:
    left = _stats(space, call.left, LEADING[call.left.ndim])
    right = _stats(space, call.right, LEADING[call.right.ndim])
    both, one = _pairs(call).sum(dtype=torch.float64), torch.ones_like(left.kind)
    # `road.product` sums, over neurons, the left events times the right events (`met`). It is given
    # three neurons: one for the pairs, with one right event; one for the left events without a
    # right event; and one for the remaining right events, without left events.
    others, none, events = left.event_counts - both, one - one, right.event_counts
    sums = [both, others, none, left.magnitudes, none, none, left.kind]
    left = DeviceStats.of(torch.stack([found.reshape(()) for found in sums]), (3,))
    met = torch.stack([one, none, events.reshape(()) - one])
    return (left.kind, right.kind), road.product(space, left, met, right.kind, by_events=True)


def _pairs(call: Call) -> Tensor:
    """Mark the output elements of an element-wise product whose operands are both nonzero."""
    return _spread(call, call.left, call.spec.letters.left).ne(0) & (
        _spread(call, call.right, call.spec.letters.right).ne(0)
    )


def _spread(call: Call, operand: Tensor, letters: str) -> Tensor:
    """Add dimensions of size 1 to an operand, so that it has all dimensions of the output."""
    every = call.spec.letters.batch
    return operand[tuple(slice(None) if letter in letters else None for letter in every)]


def _by_step(figures: Tensor) -> Tensor:
    """Sum figures over all dimensions except the first two, float64."""
    if figures.ndim > 2:
        figures = figures.flatten(2).sum(2, dtype=torch.float64)
    return figures.to(torch.float64)


def _figures(left: InputStats, both: Tensor) -> SynapseFigures:
    """Return the figures of a product. Products are never weighted by value."""
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
    """Count operations as if all elements were nonzero, without padded taps of convolutions."""
    spec = call.spec
    if not spec.is_convolution:
        return spec.dense_macs
    with torch.inference_mode(False), torch.no_grad():
        return math.prod(spec.left_shape[:2]) * int(convolution_paths(spec, None).sum())


def _factor(operand: Tensor, letters: str, shared: list[str]) -> InputStats:
    """Read an operand, summed over the letters that the other operand lacks."""
    dims, order = _summed(letters, shared)
    return summarize(operand, dims).permuted(order)


def _summed(letters: str, shared: list[str]) -> tuple[tuple[int, ...], list[int]]:
    """Return the dimensions that the other operand lacks, and the order of the shared ones."""
    dims = tuple(d for d, letter in enumerate(letters) if letter not in shared)
    kept = [letter for letter in letters if letter in shared]
    return dims, [kept.index(letter) for letter in shared]


def vector_products(call: Call) -> Tensor:
    """Count the operations of each vector of the left operand of a product, float64.

    A vector of an element-wise product has the elements with the same indices in the first two
    dimensions.
    """
    if call.spec.is_convolution:
        return (call.left.ne(0) * _met(call)).flatten(1).sum(1)
    if call.spec.letters.is_elementwise:
        return _by_step(_pairs(call))
    left, right, _, leading = call.spec.letters
    # If the left operand is shared by all samples, the batch dimensions are those of the right one.
    batch = [c for c in leading if c in right and c not in left]
    kept = [c for c in right if c in left or c in batch]
    letters = _vector_letters(call.spec.letters)
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
    if call.spec.letters.is_elementwise:
        spread = _spread(call, call.left, left).ne(0)
        shape = torch.broadcast_shapes(spread.shape, _spread(call, call.right, right).shape)
        share: float = spread.numel() / max(1, math.prod(shape))  # so that each event counts once
        return _by_step(spread.expand(shape)) * share
    batch = {c: call.right.shape[right.index(c)] for c in leading if c in right and c not in left}
    dims = tuple(d for d, letter in enumerate(left) if letter in contracted)
    events = events_along(call.left, dims)
    letters = _vector_letters(call.spec.letters)
    spread = events[tuple(None if letter in batch else slice(None) for letter in letters)]
    # The events of a left operand shared by all samples count once, divided among the samples.
    return spread.expand([batch.get(letter, -1) for letter in letters]) / math.prod(batch.values())


def _vector_letters(letters: Letters) -> list[str]:
    """Return the letters of the vectors of a product; batch dimensions of either operand first."""
    left, right, contracted, leading = letters
    batch = [c for c in leading if c in left or c in right]
    return batch + [c for c in left if c not in contracted and c not in batch]


def tighter(one: int | Tensor, other: int | Tensor) -> int | Tensor:
    """Return the tighter kind of two operands; synops are undefined only if both are analog."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return torch.minimum(torch.as_tensor(one), torch.as_tensor(other))
