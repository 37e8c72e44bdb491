"""Toy models, their parts, and what plain operations make of a layer whose weights are ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spike(nn.Module):
    """1 where the input is above a threshold, else 0."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)


class Fire(Spike):
    """Spikes that tests register as those of neurons; a ``Spike`` is registered nowhere."""

    def __init__(self, threshold: float = 0.3) -> None:
        super().__init__(threshold)


class StraightThrough(torch.autograd.Function):
    """1 where the input is above a threshold, else 0; the gradient is that of the identity."""

    @staticmethod
    def forward(ctx: object, x: Tensor, threshold: float) -> Tensor:
        return x.gt(threshold).to(x.dtype)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Surrogate(Spike):
    """A ``Spike`` with the gradient of the identity."""

    def __init__(self, threshold: float = 0.25) -> None:
        super().__init__(threshold)

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = StraightThrough.apply(x, self.threshold)
        return spikes


class TwoLayers(nn.Module):
    """Two linear layers with neurons between; a call may take ``other`` in place of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fire, self.second = nn.Linear(6, 5), Fire(), nn.Linear(5, 2)
        self.other = nn.Linear(5, 3)
        draw_weights(self, seed=3)

    def forward(self, x: Tensor, other: bool = False) -> Tensor:
        hidden = self.fire(self.first(x))
        return self.other(hidden) if other else self.second(hidden)


def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw all parameters from -1 to 1, without the global random state."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1, generator=generator)


@torch.no_grad()
def sum_with_ones(layer: Any, x: Tensor, *, effective: bool = False) -> Tensor:
    """Sum per vector of the outputs of a layer with ones for its weights, or for those not zero.

    Each spike passes each of its synapses once: these are the synaptic operations.
    """
    weight = (layer.weight != 0).double() if effective else layer.weight.new_ones(()).double()
    weight = weight.expand(layer.weight.shape)
    if isinstance(layer, nn.Linear):
        return F.linear(x.double(), weight).sum(-1)
    return F.conv2d(x.double(), weight, None, layer.stride, layer.padding).sum((-3, -2, -1))


class ReadsOut(nn.Module):
    """A layer of 6 neurons that runs at each step, and a readout that runs once after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        for step in x:
            self.fc(step)
        return self.out(x.amax(0))
