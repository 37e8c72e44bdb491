"""Statistics of a tensor per neuron, from one read; the only place that reads activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnmetrics.tensors.kinds import NOT_FINITE, InputKind, kind_of, kind_within
from snnmetrics.tensors.small import read_small
from snnmetrics.tensors.sparsity import nonzero
from snnmetrics.tensors.sums import all_finite, blocks, magnitude_sum
from snnmetrics.tensors.tiles import PLAIN, read

_COPIED = 2**12  # elements up to which copies that are added up together take less time than sums
LEADING = tuple(tuple(range(number)) for number in range(64))
"""The first dimensions, by their number."""


class InputStats(NamedTuple):
    """Kind, magnitudes and events of a tensor, summed over batch, time and positions.

    Attributes:
        kind: Kind of its values; on accelerators its number in a 0-dim tensor.
        magnitudes: Sum of ``|x|`` per neuron, float64; a narrower dtype that holds the sums where
            they come from :func:`summarize_narrowly`.
        events: Nonzero elements per neuron, in the same dtype; None where every event has magnitude
            one, so that magnitudes are events.
        leading: Number of first dimensions of ``magnitudes`` that are still to be added up; 0 but
            for small tensors that :func:`summarize_narrowly` copied.
    """

    kind: InputKind | Tensor
    magnitudes: Tensor
    events: Tensor | None
    leading: int = 0

    @property
    def event_counts(self) -> Tensor:
        """Nonzero elements per neuron."""
        return self.magnitudes if self.events is None else self.events

    def widened(self) -> InputStats:
        """The same, added up, in float64."""
        magnitudes, events = self.magnitudes, self.events
        if self.leading:
            magnitudes = magnitudes.sum(LEADING[self.leading], dtype=torch.float64)
        elif magnitudes.dtype is torch.float64:
            return self
        return InputStats(
            self.kind, magnitudes.double(), events if events is None else events.double()
        )

    def summed(self, dims: tuple[int, ...]) -> InputStats:
        """The same with some dimensions of the neurons added up."""
        events = None if self.events is None else self.events.sum(dims)
        return InputStats(self.kind, self.magnitudes.sum(dims), events)

    def permuted(self, order: Sequence[int]) -> InputStats:
        """The same with the dimensions of the neurons in another order."""
        events = None if self.events is None else self.events.permute(*order)
        return InputStats(self.kind, self.magnitudes.permute(*order), events)


def total(parts: Sequence[InputStats]) -> InputStats:
    """The sum of statistics of tensors of the same neurons, float64; of one, itself.

    Example:
        >>> import torch
        >>> one = summarize(torch.tensor([[0.0, 1.0]]), (0,))
        >>> two = summarize(torch.tensor([[3.0, 0.0]]), (0,))
        >>> both = total([one, two])
        >>> both.magnitudes.tolist(), both.event_counts.tolist()
        ([3.0, 1.0], [1.0, 1.0])
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    copies = [part.magnitudes.flatten(0, part.leading - 1) for part in parts if part.leading]
    summed = [part for part in parts if not part.leading]
    magnitudes = _total([part.magnitudes for part in summed], copies)
    events = None
    for part in summed:
        if part.events is not None:
            events = _total([one.event_counts for one in summed], copies)
            break
    return InputStats(first.kind, magnitudes, events)


def _total(parts: list[Tensor], copies: list[Tensor]) -> Tensor:
    """Add up tensors, and the rows of copies, whose sums float32 holds; float64."""
    found = [part for part in parts if part.dtype is torch.float64]
    narrow = [part for part in parts if part.dtype is not torch.float64]
    if copies:
        found.append(torch.cat(copies).sum(0).double())
    if narrow:
        found.append(torch.stack(narrow).sum(0, dtype=torch.float64))
    return found[0] if len(found) == 1 else sum(found[1:], found[0])


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
    stats = summarize_narrowly(x, dims, None).widened()
    if x.is_cpu and stats.kind is InputKind.BINARY and not all_finite(stats.magnitudes):
        raise ValueError(NOT_FINITE)
    return stats


def summarize_narrowly(x: Tensor, dims: tuple[int, ...], expected: InputKind | None) -> InputStats:
    """Read a tensor in as few calls as possible.

    Sums are in a dtype that holds them; of few elements nothing is added up yet. A positive
    infinity in a small tensor makes a sum infinite that says it is of zeros and ones: check the
    sums.

    Args:
        x: The tensor.
        dims: Its dimensions that are not neurons.
        expected: The kind that is tried first; the result does not depend on it.

    Raises:
        ValueError: On the CPU, if it is not finite.
    """
    if not dims:
        x, dims = x.unsqueeze(0), (0,)
    if (
        0 < x.numel() <= _COPIED
        and (expected is None or expected is InputKind.BINARY)
        and x.dtype is torch.float32
        and x.is_cpu
        and type(x) in PLAIN
        and x.layout is torch.strided
        and dims == LEADING[len(dims)]
        and not x.is_neg()
    ):
        if x.requires_grad:
            x = x.detach()
        # The square, which the proof needs, is a copy of zeros and ones: many are added up at once.
        square = x * x
        if torch.equal(x, square):
            return InputStats(InputKind.BINARY, square, None, len(dims))
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
