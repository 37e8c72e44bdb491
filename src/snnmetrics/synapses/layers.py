"""Exact fan-out of linear layers and of chains of them.

A layer type is added by one function, registered with ``_with_unit_weights``, that applies the
layer with given weights; :mod:`snnmetrics.synapses.paths` counts the paths.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence, Set
from functools import singledispatch
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from snnmetrics.arguments import require_bool
from snnmetrics.frameworks.neurons import PACKAGES
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.synapses import weights
from snnmetrics.synapses.paths import paths

_SYNAPTIC = (nn.Linear, nn.modules.conv._ConvNd)
_LINEAR_WITHOUT_WEIGHTS = (
    nn.modules.pooling._AvgPoolNd
    | nn.modules.pooling._AdaptiveAvgPoolNd
    | nn.modules.pooling._LPPoolNd
    | nn.modules.batchnorm._BatchNorm
    | nn.modules.dropout._DropoutNd
    | nn.Flatten
    | nn.Identity
)
_MOST_ELEMENTS = 2**60  # larger maps would exceed the address space as float64
_Function = Callable[..., Tensor]
# By number of spatial dimensions, less one.
_ADAPTIVE_POOL: tuple[_Function, ...] = (
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d,
)


def fanout(layer: nn.Module, input_shape: Sequence[int], *, effective: bool = False) -> Tensor:
    """Count the synapses of every input element of a linear layer, exactly.

    Padding edges, stride, dilation, groups, transposition and padding modes are exact: a tap
    outside the output map, or on padding, is not a synapse. An element that reaches an output twice
    (reflect or circular padding, overlapping pooling in a chain) has two synapses. In a
    ``Sequential``, paths are counted.

    Args:
        layer: ``Linear``, ``Conv1d/2d/3d``, ``ConvTranspose1d/2d/3d`` (and subclasses), or a
            ``Sequential`` of these with average or sum pooling (``AvgPool``, ``AdaptiveAvgPool``,
            ``LPPool`` of norm 1), ``Flatten``, and, passed through, ``Identity``, dropout and batch
            norm (taken as folded into the weights).
        input_shape: Shape of one input without batch and time, for example ``(C, H, W)``.
        effective: Whether to leave out synapses whose weight is currently zero, including weights
            computed by ``torch.nn.utils.prune``, ``parametrize``, ``weight_norm`` or
            ``spectral_norm``.

    Returns:
        float64 tensor of shape ``input_shape`` on the device of the layer: the number of synapses
        (in a chain: paths) of each input element. The layer is not changed.

    Raises:
        TypeError: If the layer is not linear or is unknown; the message says why. If ``effective``
            is not a bool.
        ValueError: If ``input_shape`` is not a shape that the layer accepts.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> sm.fanout(torch.nn.Conv2d(1, 1, 3, padding=1), (1, 3, 3))
        tensor([[[4., 6., 4.],
                 [6., 9., 6.],
                 [4., 6., 4.]]], dtype=torch.float64)
        >>> pool_then_fc = torch.nn.Sequential(
        ...     torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4, 10)
        ... )
        >>> sm.fanout(pool_then_fc, (1, 4, 4)).unique()
        tensor([10.], dtype=torch.float64)

    See Also:
        - :class:`~snnmetrics.SynOps`: counts synaptic operations with this fan-out.
        - :class:`~snnmetrics.Monitor`: determines the fan-out of every layer itself.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer: expected a torch.nn.Module, found {type(layer).__name__}")
    require_bool("effective", effective)
    shape = _checked_shape(input_shape)
    _refuse_without_synapses(layer)
    if any(isinstance(p, UninitializedParameter) for p in layer.parameters()):
        raise ValueError(f"layer: {layer} does not know its shape yet; call the layer once")
    device = next((p.device for p in layer.parameters() if not p.is_meta), torch.device("cpu"))

    def apply(inputs: Tensor) -> Tensor:
        try:
            return _with_unit_weights(layer, inputs, effective)
        except (RuntimeError, IndexError) as error:
            raise ValueError(
                f"input_shape: expected a shape (without batch) that {layer} accepts, "
                f"found {shape}: {error}"
            ) from error

    return paths(apply, (1, *shape), device)[0]


def _refuse_without_synapses(layer: nn.Module) -> None:
    """Require a layer with weights in a chain, and PyTorch's forward in each of its layers."""
    synaptic = [m for m in layer.modules() if isinstance(m, _SYNAPTIC)]
    for module in synaptic:
        cls = next(c for c in type(module).__mro__ if "forward" in vars(c))
        if cls.__module__.partition(".")[0] not in PACKAGES:
            raise TypeError(
                f"layer: expected a layer of PyTorch or of a known framework, found "
                f"{type(module).__name__}, which overrides forward: it may pad, scale or reuse "
                "weights. Take the fan-out of its plain layers"
            )
    if not synaptic and isinstance(layer, nn.Sequential | _LINEAR_WITHOUT_WEIGHTS):
        raise TypeError(
            "layer: expected at least one layer with synapses (Linear, Conv, ConvTranspose), found "
            f"{layer}"
        )


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    # Unordered collections are not shapes, and bytes would be read as numbers.
    if isinstance(input_shape, Set | Mapping | bytes | bytearray):
        sizes: tuple[int, ...] = ()
    else:
        try:
            sizes = tuple(operator.index(size) for size in input_shape)
        except TypeError:
            sizes = ()
    if not sizes or min(sizes) < 1 or any(isinstance(size, bool) for size in input_shape):
        raise ValueError(
            f"input_shape: expected positive integers, one per dimension, found {input_shape!r}"
        )
    if math.prod(sizes) >= _MOST_ELEMENTS:
        raise ValueError("input_shape: expected fewer than 2**60 elements, found more")
    return sizes


# ------------------------------------------------------------------ layers, one by one


@singledispatch
def _with_unit_weights(layer: nn.Module, x: Tensor, effective: bool) -> Tensor:
    """Push ``x`` through a layer whose weights are one at every synapse, and without bias."""
    raise TypeError(
        f"layer: expected a linear layer (Linear, Conv, ConvTranspose, average or sum pooling, or "
        f"a Sequential of such), found {type(layer).__name__}: outputs that an input reaches do "
        "not depend on it alone. Spiking neurons, activations and recurrent layers emit new "
        "values: take the fan-out of the linear layer after them"
    )


@_with_unit_weights.register(nn.MaxPool1d)
@_with_unit_weights.register(nn.MaxPool2d)
@_with_unit_weights.register(nn.MaxPool3d)
@_with_unit_weights.register(nn.AdaptiveMaxPool1d)
@_with_unit_weights.register(nn.AdaptiveMaxPool2d)
@_with_unit_weights.register(nn.AdaptiveMaxPool3d)
def _max_pool(layer: nn.Module, x: Tensor, effective: bool) -> Tensor:
    raise TypeError(
        f"layer: {type(layer).__name__} is not linear: which of its inputs passes depends on the "
        "data. Count the output of the pooling, with the fan-out of the layer after it"
    )


@_with_unit_weights.register(nn.Linear)
def _linear(layer: nn.Linear, x: Tensor, effective: bool) -> Tensor:
    _require_size("features", layer.in_features, x.shape[-1])
    if effective:
        return F.linear(x, _present(layer, x))
    return x.sum(-1, keepdim=True).expand(*x.shape[:-1], layer.out_features)


@_with_unit_weights.register(nn.Conv1d)
@_with_unit_weights.register(nn.Conv2d)
@_with_unit_weights.register(nn.Conv3d)
@_with_unit_weights.register(nn.ConvTranspose1d)
@_with_unit_weights.register(nn.ConvTranspose2d)
@_with_unit_weights.register(nn.ConvTranspose3d)
def _conv(layer: nn.Conv2d, x: Tensor, effective: bool) -> Tensor:
    _require_dims(layer, x, len(layer.kernel_size) + 2)
    _require_size("channels", layer.in_channels, x.shape[1])
    geometry = ConvGeometry.of(
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.transposed,
        layer.output_padding,
    )
    if layer.padding_mode != "zeros":
        # F.pad takes the last dimension first.
        sides = [side for pair in reversed(geometry.padding) for side in pair]
        x = F.pad(x, sides, mode=layer.padding_mode)
        geometry = geometry._replace(padding=((0, 0),) * len(geometry.padding))
    if effective:
        return geometry.convolve(x, _present(layer, x))
    # With unit weights, the channels of a group act as their sum, with one kernel, and all output
    # channels of a group are equal.
    summed = x.unflatten(1, (layer.groups, -1)).sum(2)
    ones = x.new_ones((layer.groups, 1, *layer.kernel_size))
    return geometry.convolve(summed, ones).repeat_interleave(layer.out_channels // layer.groups, 1)


@_with_unit_weights.register(nn.AvgPool1d)
@_with_unit_weights.register(nn.AvgPool2d)
@_with_unit_weights.register(nn.AvgPool3d)
def _avg_pool(layer: nn.AvgPool2d, x: Tensor, effective: bool) -> Tensor:
    return _sum_pool(layer, x, layer.padding)


@_with_unit_weights.register(nn.LPPool1d)
@_with_unit_weights.register(nn.LPPool2d)
@_with_unit_weights.register(nn.LPPool3d)
def _lp_pool(layer: nn.LPPool2d, x: Tensor, effective: bool) -> Tensor:
    if layer.norm_type != 1:
        raise TypeError(
            f"layer: {type(layer).__name__} with norm_type={layer.norm_type} is not linear; "
            "expected norm_type=1, which is sum pooling"
        )
    return _sum_pool(layer, x, 0)


@_with_unit_weights.register(nn.AdaptiveAvgPool1d)
@_with_unit_weights.register(nn.AdaptiveAvgPool2d)
@_with_unit_weights.register(nn.AdaptiveAvgPool3d)
def _adaptive_avg_pool(layer: nn.AdaptiveAvgPool2d, x: Tensor, effective: bool) -> Tensor:
    ndim = _spatial_dims(layer)
    _require_dims(layer, x, ndim + 2)
    targets = _per_dim(layer.output_size, ndim)
    sizes = [n if n is not None else old for n, old in zip(targets, x.shape[2:], strict=True)]
    # Mean of each window times its size; windows are uneven if sizes do not divide.
    outputs = _ADAPTIVE_POOL[ndim - 1](x, sizes)
    for dim, (old, new) in enumerate(zip(x.shape[2:], sizes, strict=True)):
        window = [-(-(j + 1) * old // new) - j * old // new for j in range(new)]
        shape = [-1 if d == dim else 1 for d in range(ndim)]
        outputs = outputs * torch.tensor(window, dtype=x.dtype, device=x.device).reshape(shape)
    return outputs


@_with_unit_weights.register(nn.BatchNorm1d)
@_with_unit_weights.register(nn.BatchNorm2d)
@_with_unit_weights.register(nn.BatchNorm3d)
@_with_unit_weights.register(nn.SyncBatchNorm)
def _batch_norm(layer: nn.BatchNorm2d, x: Tensor, effective: bool) -> Tensor:
    _require_size("features", layer.num_features, x.shape[1])
    return x


@_with_unit_weights.register(nn.Dropout)
@_with_unit_weights.register(nn.Dropout1d)
@_with_unit_weights.register(nn.Dropout2d)
@_with_unit_weights.register(nn.Dropout3d)
@_with_unit_weights.register(nn.Identity)
def _pass_through(layer: nn.Module, x: Tensor, effective: bool) -> Tensor:
    return x


@_with_unit_weights.register(nn.Flatten)
def _flatten(layer: nn.Flatten, x: Tensor, effective: bool) -> Tensor:
    return x.flatten(layer.start_dim, layer.end_dim)


@_with_unit_weights.register(nn.Sequential)
def _sequential(layer: nn.Sequential, x: Tensor, effective: bool) -> Tensor:
    if type(layer).forward is not nn.Sequential.forward:
        raise TypeError(
            f"layer: expected a plain Sequential, found {type(layer).__name__}, which overrides "
            "forward: its layers may not follow each other"
        )
    for child in layer:
        x = _with_unit_weights(child, x, effective)
    return x


# ---------------------------------------------------------------------------- weights


def _present(layer: nn.Module, x: Tensor) -> Tensor:
    """One at every nonzero weight, in the dtype and on the device of ``x``."""
    with torch.no_grad():
        weight = weights.current(layer, "weight")
        if weight.is_meta:
            raise ValueError(
                f"layer: effective=True needs the weights of {layer}, found them on device 'meta'"
            )
        return (weight != 0).to(x)


# ---------------------------------------------------------------------------- helpers


def _require_dims(layer: nn.Module, x: Tensor, ndim: int) -> None:
    """Refuse inputs that PyTorch would read as lacking a batch dimension."""
    if x.ndim != ndim:
        raise ValueError(
            f"input_shape: {type(layer).__name__} expects {ndim - 1} dimensions "
            f"(channels first, without batch), found {tuple(x.shape[1:])}"
        )


def _require_size(what: str, expected: int, found: int) -> None:
    if found != expected:
        raise ValueError(f"input_shape: expected {expected} {what}, found {found}")


def _sum_pool(
    layer: nn.AvgPool2d | nn.LPPool2d, x: Tensor, padding: int | tuple[int, ...]
) -> Tensor:
    """Average pooling without its division, so that every tap has weight one."""
    ndim = _spatial_dims(layer)
    _require_dims(layer, x, ndim + 2)
    stride = layer.kernel_size if layer.stride is None else layer.stride
    kernel, steps, pads = (_per_dim(value, ndim) for value in (layer.kernel_size, stride, padding))
    if ndim == 3:
        return F.avg_pool3d(x, kernel, steps, pads, layer.ceil_mode, True, 1)
    if ndim == 2:
        return F.avg_pool2d(x, kernel, steps, pads, layer.ceil_mode, True, 1)
    # 1d pooling lacks a divisor to override: use a map of height one.
    flat = x.unsqueeze(2)
    pooled = F.avg_pool2d(flat, (1, *kernel), (1, *steps), (0, *pads), layer.ceil_mode, True, 1)
    return pooled.squeeze(2)


def _spatial_dims(pool: nn.Module) -> int:
    if isinstance(pool, nn.AvgPool1d | nn.LPPool1d | nn.AdaptiveAvgPool1d):
        return 1
    return 2 if isinstance(pool, nn.AvgPool2d | nn.LPPool2d | nn.AdaptiveAvgPool2d) else 3


def _per_dim(value: Any, ndim: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * ndim
