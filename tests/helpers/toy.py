"""Parts of toy models: spikes without state, and weights that are the same in every process."""

from __future__ import annotations

import torch
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


def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw all parameters from -1 to 1, without the global random state."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1, generator=generator)
