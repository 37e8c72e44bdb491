"""Checks of inputs, shared by all functions."""

from __future__ import annotations

import torch
from torch import Tensor

_UNSIGNED_BEYOND_BYTES = (torch.uint16, torch.uint32, torch.uint64)
# PyTorch has further real dtypes, but cannot compare or convert their values.
_REAL = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        *_UNSIGNED_BEYOND_BYTES,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    }
)


def require_tensor(name: str, value: object) -> None:
    """Refuse inputs other than a real tensor in a layout that can be summed.

    Raises:
        TypeError: If ``value`` is not a tensor.
        ValueError: If it is complex, quantised or of fewer than 8 bits (floats: 16), or neither
            strided nor sparse COO.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, found {type(value).__name__}")
    if value.dtype not in _REAL:
        raise ValueError(
            f"{name}: expected a real dtype (bool, integer of 8 bits or more, floating of 16 bits "
            f"or more), found {value.dtype}"
        )
    if value.is_nested:
        raise ValueError(f"{name}: expected a dense or sparse COO tensor, found a nested one")
    if value.layout not in (torch.strided, torch.sparse_coo):
        raise ValueError(
            f"{name}: expected a dense or sparse COO tensor, found layout {value.layout}"
        )
    if value.is_sparse and value.dtype in _UNSIGNED_BEYOND_BYTES:
        raise ValueError(  # PyTorch can neither coalesce them nor make them dense
            f"{name}: expected a dense tensor or another dtype, found a sparse one of {value.dtype}"
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


def leading_dims(name: str, value: Tensor, time_dim: int | None) -> tuple[int, ...]:
    """Dimensions of a tensor that are not neurons: batch and, if named, time.

    The batch is the first dimension other than time.

    Returns:
        ``(batch,)`` or ``(batch, time)``, non-negative.

    Raises:
        ValueError: If the dimension does not exist, or neuron dimensions are missing.
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


def samples_that_count(mask: object, samples: int, name: str) -> Tensor:
    """Indices of the samples that a mask includes, on the device of the mask.

    The host waits for a mask on an accelerator, not for one on the CPU.

    Args:
        mask: Bool tensor ``(B,)``, True for samples that count.
        samples: Number of samples in the batch, B.
        name: Name of the argument with these samples.

    Raises:
        TypeError: If ``mask`` is not a dense bool tensor.
        ValueError: If it does not have one entry per sample.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask: expected a bool tensor, found {type(mask).__name__}")
    if mask.dtype is not torch.bool or mask.layout is not torch.strided:
        raise TypeError(
            f"mask: expected a dense tensor of torch.bool, found {mask.dtype}, {mask.layout}"
        )
    if tuple(mask.shape) != (samples,):
        raise ValueError(
            f"mask: expected shape ({samples},), one entry per sample of {name}, "
            f"found {tuple(mask.shape)}"
        )
    return mask.nonzero().squeeze(1)


def select_samples(name: str, value: Tensor, dim: int, counted: Tensor, samples: int) -> Tensor:
    """Select the samples of one argument at the indices ``counted``, without synchronisation.

    Raises:
        TypeError: If ``value`` is not a tensor.
        ValueError: If it has another number of samples along ``dim``, or is refused by
            :func:`require_tensor`.
    """
    require_tensor(name, value)
    if value.ndim <= dim or value.shape[dim] != samples:
        raise ValueError(
            f"{name}: expected {samples} samples in dimension {dim}, as the mask has, "
            f"found shape {tuple(value.shape)}"
        )
    if len(counted) == samples:
        return value
    if value.is_sparse and value.requires_grad and torch.is_grad_enabled():
        value = value.to_dense()  # selecting from a sparse tensor has no gradient
    return value.index_select(dim, counted.to(value.device, non_blocking=True))


def poison_if_not_finite(name: str, values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Value to add to sums over ``dims``: 0, or NaN if NaN or infinity occurred.

    Raises:
        ValueError: On the CPU, instead of NaN.
    """
    if not values.is_floating_point():
        return torch.zeros((), dtype=torch.float64, device=values.device)
    finite = values.isfinite().all(dims)
    if values.is_cpu and not bool(finite.all()):
        raise ValueError(f"{name}: expected finite values, found NaN or infinity")
    return torch.where(finite, 0.0, torch.nan).to(torch.float64)
