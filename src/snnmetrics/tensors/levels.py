"""Levels: the single nonzero value of a tensor of scaled spikes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def level_of(x: Tensor) -> Tensor:
    """The positive value of a tensor of zeros and one value; infinity if it has more values.

    The level of several tensors is their largest level.

    Returns:
        0-dim, float64; zero if the tensor is all zeros. The host is not synchronised.

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
