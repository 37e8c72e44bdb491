"""Statistics of a tensor per neuron, from one read; the only module that reads activations."""

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

_COPIED = 2**12  # maximum number of elements for which deferred sums of copies are faster
_WIDE = frozenset({torch.float64, torch.int64})
LEADING = tuple(tuple(range(number)) for number in range(64))
"""The leading dimensions, by their number."""


class InputStats(NamedTuple):
    """Kind, magnitudes and events of a tensor, summed over batch, time and positions.

    Attributes:
        kind: Kind of its values.
        magnitudes: Sum of ``|x|`` per neuron, float64; from :func:`summarize_narrowly` possibly a
            narrower dtype that represents the sums.
        events: Nonzero elements per neuron, in the same dtype; None if every event has magnitude
            one, so that magnitudes are events.
        leading: Number of leading dimensions of ``magnitudes`` still to be summed; nonzero only for
            small tensors that :func:`summarize_narrowly` copied.
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
        """The same statistics, fully summed, in float64."""
        magnitudes, events = self.magnitudes, self.events
        if self.leading:
            magnitudes = magnitudes.sum(LEADING[self.leading], dtype=torch.float64)
        elif magnitudes.dtype is torch.float64:
            return self
        events = events if events is None else events.double()
        return InputStats(self.kind, magnitudes.double(), events, 0, self.rounded)

    def summed(self, dims: tuple[int, ...]) -> InputStats:
        """The same statistics, summed over some dimensions of the neurons."""
        assert not self.leading, "batch dimensions of a copy are still to be added up"
        events = None if self.events is None else self.events.sum(dims)
        return self._replace(magnitudes=self.magnitudes.sum(dims), events=events)

    def permuted(self, order: Sequence[int]) -> InputStats:
        """The same statistics with permuted neuron dimensions."""
        assert not self.leading, "batch dimensions of a copy are still to be added up"
        events = None if self.events is None else self.events.permute(*order)
        return self._replace(magnitudes=self.magnitudes.permute(*order), events=events)


def total(parts: Sequence[InputStats]) -> InputStats:
    """Add statistics of tensors of the same neurons, float64. Returns a single one itself.

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
    """Add tensors, and rows of copies, whose sums float32 represents; float64."""
    # float32 and uint8 are stacked as float32, which represents both; int64 would be rounded.
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
        dims: Dimensions other than neurons.

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

    Sums are in a dtype that represents them; sums over few elements are deferred. A positive
    infinity in a small tensor makes a sum infinite although its kind is zeros and ones: check the
    sums.

    Args:
        x: The tensor.
        dims: Dimensions other than neurons.
        expected: Kind to try first; the result does not depend on it.

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
        # The square needed for the check is a copy of zeros and ones: many are summed at once.
        square = x * x
        if torch.equal(x, square):
            return InputStats(InputKind.BINARY, square, None, len(dims))
        expected = InputKind.INTEGER  # not only zeros and ones
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
    """Read a tensor of another dtype or layout."""
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
    """Values of a tensor as its statistics count them, with its own gradient.

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
    # Block by block: a mask would take half the memory of a half-precision tensor.
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
