"""Checks that every function makes of what it is given."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor


def require_tensor(name: str, value: object) -> None:
    """Refuse what is not a real tensor in a layout that can be summed.

    Raises:
        TypeError: If ``value`` is no tensor.
        ValueError: If it is complex, quantised, of 8-bit floats, or neither strided nor sparse COO.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, found {type(value).__name__}")
    if value.is_complex() or value.is_quantized or "float8" in str(value.dtype):
        raise ValueError(
            f"{name}: expected a real dtype (bool, integer, floating of 16 bits or more), "
            f"found {value.dtype}"
        )
    if value.layout not in (torch.strided, torch.sparse_coo):
        raise ValueError(
            f"{name}: expected a dense or sparse COO tensor, found layout {value.layout}"
        )


def require_same_device(name: str, value: Tensor, device: torch.device) -> None:
    """Refuse a tensor on another device than the metric or the fan-out map.

    Raises:
        ValueError: If the devices differ.
    """
    if value.device != device:
        raise ValueError(
            f"{name}: expected a tensor on {device}, found one on {value.device}; "
            f"move the metric (or the fan-out map) with .to('{value.device}')"
        )


def require_dim(name: str, dim: object) -> None:
    """Refuse what cannot be a dimension.

    Raises:
        TypeError: If ``dim`` is no integer.
    """
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"{name}: expected an integer, found {dim!r}")


def positive_number(name: str, value: object) -> float:
    """A positive finite number as float.

    Raises:
        TypeError: If ``value`` is no real number.
        ValueError: If it is not positive and finite.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a positive number, found {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a positive finite number, found {value!r}")
    return number


def leading_dims(name: str, value: Tensor, time_dim: int | None) -> tuple[int, ...]:
    """The dimensions of a tensor that are not neurons: batch and, if named, time.

    The batch is the first dimension that is not time.

    Returns:
        ``(batch,)`` or ``(batch, time)``, non-negative.

    Raises:
        ValueError: If there is no such dimension, or none is left for the neurons.
    """
    found = f"found shape {tuple(value.shape)}"
    if time_dim is None:
        if value.ndim < 2:
            raise ValueError(f"{name}: expected shape (B, *neuron_shape), {found}")
        return (0,)
    if value.ndim < 3 or not -value.ndim <= time_dim < value.ndim:
        raise ValueError(
            f"{name}: expected batch, time and at least one neuron dimension with time at "
            f"time_dim={time_dim}, {found}"
        )
    time = time_dim % value.ndim
    return (0 if time else 1, time)
