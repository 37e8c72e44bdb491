"""Statistics of a tensor per neuron, from one read; the only place that reads activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnmetrics.tensors.counts import rounded
from snnmetrics.tensors.kinds import NOT_FINITE, InputKind, kind_of, kind_within
from snnmetrics.tensors.small import read_small
from snnmetrics.tensors.sparsity import nonzero
from snnmetrics.tensors.sums import all_finite, blocks, magnitude_sum
from snnmetrics.tensors.tiles import PLAIN, read

_COPIED = 2**12  # elements up to which copies that are added up together take less time than sums
_WIDE = frozenset({torch.float64, torch.int64})
LEADING = tuple(tuple(range(number)) for number in range(64))
"""The first dimensions, by their number."""


class InputStats(NamedTuple):
    """Kind, magnitudes and events of a tensor, summed over batch, time and positions.

    Attributes:
        kind: Kind of its values.
        magnitudes: Sum of ``|x|`` per neuron, float64; a narrower dtype that holds the sums where
            they come from :func:`summarize_narrowly`.
        events: Nonzero elements per neuron, in the same dtype; None where every event has magnitude
            one, so that magnitudes are events.
        leading: Number of first dimensions of ``magnitudes`` that are still to be added up; 0 but
            for small tensors that :func:`summarize_narrowly` copied.
        rounded: Whether values were rounded to spike counts.
    """

    kind: InputKind
    magnitudes: Tensor
    events: Tensor | None
    leading: int = 0
    rounded: bool = False

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
        events = events if events is None else events.double()
        return InputStats(self.kind, magnitudes.double(), events, 0, self.rounded)

    def summed(self, dims: tuple[int, ...]) -> InputStats:
        """The same with some dimensions of the neurons added up."""
        assert not self.leading, "batch dimensions of a copy are still to be added up"
        events = None if self.events is None else self.events.sum(dims)
        return self._replace(magnitudes=self.magnitudes.sum(dims), events=events)

    def permuted(self, order: Sequence[int]) -> InputStats:
        """The same with the dimensions of the neurons in another order."""
        assert not self.leading, "batch dimensions of a copy are still to be added up"
        events = None if self.events is None else self.events.permute(*order)
        return self._replace(magnitudes=self.magnitudes.permute(*order), events=events)


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
    # float32 and uint8 are stacked, as float32, which holds either; int64 would be rounded by it.
    found = [part.double() for part in parts if part.dtype in _WIDE]
    narrow = [part for part in parts if part.dtype not in _WIDE]
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
        ValueError: If it is not finite.

    Example:
        >>> import torch
        >>> stats = summarize(torch.tensor([[0.0, 2.0], [1.0, 2.0]]), (0,))
        >>> stats.kind.label, stats.magnitudes.tolist(), stats.event_counts.tolist()
        ('integer', [1.0, 4.0], [1.0, 2.0])
    """
    stats = summarize_narrowly(x, dims, None).widened()
    if stats.kind is InputKind.BINARY and not all_finite(stats.magnitudes):
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
        expected = InputKind.INTEGER  # zeros and ones alone are ruled out
    small = read_small(x, dims, expected)
    if small is not None:
        kind, magnitudes, events, is_rounded = small
        return InputStats(kind, magnitudes, events, 0, is_rounded)
    x = x.detach()
    found = read(x, dims)
    if found is None:
        return _summarize_others(x, dims)
    kind = kind_within(found.low, found.high, found.integral)
    events = None if kind.has_unit_events else found.events
    return InputStats(kind, found.magnitudes, events, 0, found.integral and found.rounded)


def _summarize_others(x: Tensor, dims: tuple[int, ...]) -> InputStats:
    """Read what is in another dtype or in another layout."""
    kind = kind_of(x)
    is_rounded = x.is_floating_point() and kind is not InputKind.ANALOG
    magnitudes = magnitude_sum(
        x,
        dims,
        negative=False if kind is InputKind.BINARY else None,
        counts=kind is not InputKind.ANALOG,
    )
    if kind.has_unit_events:
        return InputStats(kind, magnitudes, None, 0, is_rounded)
    return InputStats(kind, magnitudes, events_along(x, dims), 0, is_rounded)


def as_counts(x: Tensor, stats: InputStats) -> Tensor:
    """A tensor with the values that its statistics count, and with its own gradient.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.99999994, 0.0]])
        >>> as_counts(x, summarize(x, (0,))).tolist()
        [[1.0, 0.0]]
    """
    return rounded(x) if stats.rounded else x


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
