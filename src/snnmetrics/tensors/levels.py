"""Levels: the one value beside zero that a tensor of scaled spikes holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def level_of(x: Tensor) -> Tensor:
    """The positive value of a tensor that holds zero beside it alone; infinity if it holds more.

    Of several tensors the largest level is that of all.

    Returns:
        0-dim, float64; zero where the tensor holds zeros alone. Nothing is read by the host.

    Example:
        >>> import torch
        >>> found = [[0.0, 0.25], [0.0, 0.0], [0.5, 0.25], [-0.5, 0.0]]
        >>> [level_of(torch.tensor(x)).item() for x in found]
        [0.25, 0.0, inf, inf]
    """
    x = x.detach()
    if not x.numel():
        return torch.zeros((), dtype=torch.float64, device=x.device)
    value = x.amax()
    return torch.where(((x == 0) | (x == value)).all() & (value >= 0), value.double(), math.inf)
