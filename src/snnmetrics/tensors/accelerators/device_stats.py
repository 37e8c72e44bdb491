"""Statistics of a tensor on an accelerator, per neuron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.tensors.accelerators.layout import contiguous


class DeviceStats(NamedTuple):
    """Events, magnitudes and kind of a tensor, in one tensor on its device.

    Attributes:
        sums: Events of all neurons, their magnitudes, and the number of the kind; float64.
        shape: Of the neurons.
        strides: Of the neurons in ``sums``; they may come in another order than they are kept in.
    """

    sums: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(sums: Tensor, shape: Sequence[int]) -> DeviceStats:
        """Statistics of neurons in the order that they are kept in."""
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
        """Sum of ``|x|`` per neuron; of spike counts but for rounding, their sum."""
        return self.sums.as_strided(self.shape, self.strides, math.prod(self.shape))

    def permuted(self, order: Sequence[int]) -> DeviceStats:
        """The same with the dimensions of the neurons in another order."""
        shape, strides = (tuple(of[d] for d in order) for of in (self.shape, self.strides))
        return DeviceStats(self.sums, shape, strides)

    def in_order(self) -> DeviceStats:
        """The same with the neurons kept in the order of their dimensions."""
        numbers = self.event_counts.flatten(), self.magnitudes.flatten(), self.sums[-1:]
        return DeviceStats.of(torch.cat(numbers), self.shape)


def total(parts: Sequence[DeviceStats]) -> DeviceStats:
    """The sum of statistics of the same neurons, of which the kind has no meaning; of one, itself.

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
