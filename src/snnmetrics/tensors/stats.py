"""The one place that reads activations: what is in a tensor, per neuron, in one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnmetrics.tensors.kinds import InputKind, kind_of, kind_within
from snnmetrics.tensors.small import read_small
from snnmetrics.tensors.sparsity import nonzero
from snnmetrics.tensors.sums import blocks, magnitude_sum
from snnmetrics.tensors.tiles import read


class InputStats(NamedTuple):
    """Kind, magnitudes and events of a tensor, summed over batch, time and positions.

    Attributes:
        kind: Kind of its values; on accelerators its number in a 0-dim tensor.
        magnitudes: Sum of ``|x|`` per neuron, float64; float32 of :func:`summarize_narrowly`.
        events: Nonzero elements per neuron, float64; None where every event has magnitude one, so
            that magnitudes are events.
    """

    kind: InputKind | Tensor
    magnitudes: Tensor
    events: Tensor | None

    @property
    def event_counts(self) -> Tensor:
        """Nonzero elements per neuron."""
        return self.magnitudes if self.events is None else self.events

    def add(self, other: InputStats) -> InputStats:
        """Add the sums of two tensors of the same kind and neurons."""
        events = None
        if self.events is not None or other.events is not None:
            events = self.event_counts + other.event_counts
        return InputStats(self.kind, self.magnitudes + other.magnitudes, events)

    def widened(self) -> InputStats:
        """The same in float64."""
        if self.magnitudes.dtype is torch.float64:
            return self
        return InputStats(self.kind, self.magnitudes.double(), self.events)

    def add_(self, other: InputStats) -> InputStats:
        """The same in place, where nothing else holds these sums."""
        other_form = (
            (self.events is None) is not (other.events is None)
            or self.magnitudes.dtype is not other.magnitudes.dtype
            or self.magnitudes.is_inference()
        )
        if other_form:
            return self.add(other)
        self.magnitudes.add_(other.magnitudes)
        if self.events is not None:
            self.events.add_(other.event_counts)
        return self

    def summed(self, dims: tuple[int, ...]) -> InputStats:
        """The same with some dimensions of the neurons added up."""
        events = None if self.events is None else self.events.sum(dims)
        return InputStats(self.kind, self.magnitudes.sum(dims), events)

    def permuted(self, order: Sequence[int]) -> InputStats:
        """The same with the dimensions of the neurons in another order."""
        events = None if self.events is None else self.events.permute(*order)
        return InputStats(self.kind, self.magnitudes.permute(*order), events)


def summarize(x: Tensor, dims: tuple[int, ...]) -> InputStats:
    """Read a tensor.

    Args:
        x: The tensor.
        dims: Its dimensions that are not neurons.

    Raises:
        ValueError: On the CPU, if it is not finite.

    Example:
        >>> import torch
        >>> stats = summarize(torch.tensor([[0.0, 2.0], [1.0, 2.0]]), (0,))
        >>> stats.kind.label, stats.magnitudes.tolist(), stats.event_counts.tolist()
        ('integer', [1.0, 4.0], [1.0, 2.0])
    """
    return summarize_narrowly(x, dims, None).widened()


def summarize_narrowly(x: Tensor, dims: tuple[int, ...], expected: InputKind | None) -> InputStats:
    """Read a tensor; what float32 holds stays in float32, to be added up below 2**24 vectors.

    Args:
        x: The tensor.
        dims: Its dimensions that are not neurons.
        expected: The kind that is tried first; the result does not depend on it.

    Raises:
        ValueError: On the CPU, if it is not finite.
    """
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    small = read_small(x, dims, expected)
    if small is not None:
        return InputStats(*small)
    x = x.detach()
    found = read(x, dims)
    if found is not None:
        kind: InputKind | Tensor = kind_within(found.low, found.high, found.integral)
        magnitudes, events = found.magnitudes, found.events
    else:
        kind, events = kind_of(x), None
        binary = kind is InputKind.BINARY
        magnitudes = magnitude_sum(x, dims, negative=False if binary else None)
    if isinstance(kind, InputKind) and kind.has_unit_events:
        return InputStats(kind, magnitudes, None)
    return InputStats(kind, magnitudes, events_along(x, dims) if found is None else events)


def events_along(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Nonzero elements, float64, summed over some dimensions, or over none."""
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    if not x.is_cpu:
        return magnitude_sum(x.ne(0), dims)
    # Block by block: where events are would be a tensor of half the size of one in half precision.
    first, *others = blocks(x, dims)
    counts = _events_in_block(first, dims)
    for block in others:
        counts += _events_in_block(block, dims)
    return counts


def _events_in_block(block: Tensor, dims: tuple[int, ...]) -> Tensor:
    present = nonzero(block)
    if present is None:
        return magnitude_sum(block.ne(0), dims)
    return torch.from_numpy(np.asarray(np.add.reduce(present, axis=dims, dtype=np.float64)))
