"""Statistics of a tensor on an accelerator, per neuron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.layout import contiguous


class DeviceStats(NamedTuple):
    """Events, magnitudes and kind of a tensor, stored in one tensor on its device.

    Attributes:
        sums: Events of all neurons, their magnitudes, and the number of the kind; float64.
        shape: Shape of the neurons.
        strides: Strides of the neurons in ``sums``; their order may differ from that in memory.
    """

    sums: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(sums: Tensor, shape: Sequence[int]) -> DeviceStats:
        """Statistics of neurons in storage order."""
        return DeviceStats(sums, tuple(shape), contiguous(shape))

    @property
    def kind(self) -> Tensor:
        """Number of the kind, 0-dim."""
        return self.sums[-1]

    @property
    def event_counts(self) -> Tensor:
        """Nonzero elements per neuron."""
        return self.sums.as_strided(self.shape, self.strides)

    @property
    def magnitudes(self) -> Tensor:
        """Sum of ``|x|`` per neuron; for near spike counts, the sum of the counts."""
        return self.sums.as_strided(self.shape, self.strides, math.prod(self.shape))

    def permuted(self, order: Sequence[int]) -> DeviceStats:
        """The same statistics with permuted neuron dimensions."""
        shape, strides = (tuple(of[d] for d in order) for of in (self.shape, self.strides))
        return DeviceStats(self.sums, shape, strides)

    def in_order(self) -> DeviceStats:
        """The same statistics, stored in the order of the neuron dimensions."""
        numbers = self.event_counts.flatten(), self.magnitudes.flatten(), self.sums[-1:]
        return DeviceStats.of(torch.cat(numbers), self.shape)


def total(parts: Sequence[DeviceStats]) -> DeviceStats:
    """Add statistics of the same neurons; the kind of a sum is undefined.

    Example:
        >>> import torch
        >>> one = DeviceStats.of(torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0]), (2,))
        >>> total([one, one]).magnitudes.tolist()
        [6.0, 8.0]
    """
    if len(parts) == 1:
        return parts[0]
    if any(part.strides != parts[0].strides for part in parts):
        parts = [part.in_order() for part in parts]
    return parts[0]._replace(sums=torch.stack([part.sums for part in parts]).sum(0))
