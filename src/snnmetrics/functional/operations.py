"""Synaptic operations of one layer, as pure functions."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor, nn

from snnmetrics.arguments import as_float, positive_number, require_bool, require_dim
from snnmetrics.functional.inputs import leading_dims, require_same_device, require_tensor
from snnmetrics.tensors.sums import magnitude_sum


def as_fanout(fanout: float | Tensor) -> Tensor:
    """Validate a fan-out and convert it to a new float64 tensor.

    Args:
        fanout: Number of synapses of every neuron, or one number per neuron.

    Returns:
        float64 tensor, 0-dim for a number.

    Raises:
        TypeError: If ``fanout`` is neither a number nor a tensor, or is boolean.
        ValueError: If it is complex, negative, NaN or infinite, or on device ``meta``.
    """
    if isinstance(fanout, Tensor):
        require_tensor("fanout", fanout)
        if fanout.dtype is torch.bool:
            raise TypeError("fanout: expected numbers, found a boolean tensor")
    elif isinstance(fanout, nn.Module):
        raise TypeError(
            "fanout: expected a non-negative number or a tensor of the neuron shape, found the "
            f"module {type(fanout).__name__}; its exact map is sm.fanout(layer, shape), with the "
            "shape of its input without the batch"
        )
    elif not isinstance(fanout, Real) or isinstance(fanout, bool):
        raise TypeError(
            "fanout: expected a non-negative number or a tensor of the neuron shape, "
            f"found {fanout!r}"
        )
    if isinstance(fanout, Tensor) and fanout.is_meta:
        raise ValueError("fanout: expected numbers, found a tensor on device 'meta'")
    # Created outside inference mode, so that it can take part in a differentiable forward.
    with torch.inference_mode(False), torch.no_grad():
        if isinstance(fanout, Tensor):
            dense = fanout.to_dense() if fanout.is_sparse else fanout
            values = dense.detach().to(torch.float64, copy=True).contiguous()
        else:
            values = torch.tensor(as_float("fanout", fanout), dtype=torch.float64)
        values = values + 0.0  # -0.0 becomes 0.0
    bad = ~(torch.isfinite(values) & (values >= 0))
    if bool(bad.any()):
        raise ValueError(
            f"fanout: expected finite, non-negative numbers, found {values[bad][0].item()}"
        )
    return values


def synops_update(
    activations: Tensor, fanout: Tensor, time_dim: int | None, per_neuron: bool
) -> tuple[Tensor, int, tuple[int, ...]]:
    """Validate one batch and sum its synaptic operations.

    Returns:
        Sum of ``|activation| * fanout`` per neuron (or over neurons) as float64, the number of
        samples, and the neuron shape.
    """
    require_tensor("activations", activations)
    dims = leading_dims("activations", activations, time_dim)
    shape = tuple(activations.shape[d] for d in range(activations.ndim) if d not in dims)
    if fanout.ndim and shape != tuple(fanout.shape):
        raise ValueError(
            f"activations: expected neuron shape {tuple(fanout.shape)} as of the fan-out map, "
            f"found {shape} in activations of shape {tuple(activations.shape)}, time_dim={time_dim}"
        )
    require_same_device("activations", activations, fanout.device)
    synops = magnitude_sum(activations, dims) * fanout
    # Check the sum over neurons too: it is part of the result.
    if synops.is_cpu and not math.isfinite(synops.detach().sum().item()):
        raise ValueError(
            "activations: expected finite values, found NaN, infinity or a sum beyond float64"
        )
    return synops if per_neuron else synops.sum(), activations.shape[dims[0]], shape


def synops_compute(
    synops_sum: Tensor, samples: int | Tensor, sample_time: float | None, per_neuron: bool
) -> dict[str, Tensor]:
    """Convert sums over samples into means per sample. NaN without samples."""
    total = synops_sum.sum() / samples
    values = {"synops_per_neuron": synops_sum / samples} if per_neuron else {}
    values["synops"] = total
    if sample_time is not None:
        values["synops/s"] = total / sample_time
    return values


def synops(
    activations: Tensor,
    fanout: float | Tensor,
    sample_time: float | None = None,
    *,
    time_dim: int | None = None,
    per_neuron: bool = True,
) -> dict[str, Tensor]:
    r"""Synaptic operations caused by the spikes of a layer, as a mean per sample.

    A spike of neuron :math:`i` causes one operation at each of its :math:`f_i` synapses:

    .. math:: \text{synops} = \frac{1}{B} \sum_b \sum_i |x_{b,i}| \, f_i

    A count of n spikes is n spikes; a negative spike counts by its magnitude. Defined by Merolla et
    al., "A million spiking-neuron integrated circuit with a scalable communication network and
    interface", Science 345 (2014): spikes times fan-out.

    Args:
        activations: Spikes or spike counts, ``(B, *neuron_shape)``, with a time dimension
            anywhere if ``time_dim`` names it. Any real dtype, dense or sparse COO.
        fanout: Synapses per neuron: one number, or a tensor of the neuron shape
            (see :func:`snnmetrics.fanout`).
        sample_time: Duration of one sample in seconds; adds ``"synops/s"``.
        time_dim: Dimension of ``activations`` that is time; it is summed, magnitudes first.
        per_neuron: Whether to return the map ``"synops_per_neuron"``.

    Returns:
        Dict of ``"synops_per_neuron"`` (neuron shape; operations per sample and neuron),
        ``"synops"`` (0-dim; operations per sample) and, with ``sample_time``, ``"synops/s"``
        (0-dim; operations per second). Dtype of the activations, at least float32. The gradient
        with respect to an activation is ``fanout / B`` if it is zero or positive, so that silent
        neurons receive gradient, and ``-fanout / B`` if it is negative. NaN without samples.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the activations have a wrong shape, are complex or (on the CPU) not finite,
            if ``fanout`` is negative or not finite, or if ``sample_time <= 0``.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import synops
        >>> spikes = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])  # 2 samples, 3 neurons
        >>> counted = synops(spikes, fanout=10, sample_time=0.5)
        >>> counted["synops_per_neuron"]
        tensor([ 5.,  0., 10.])
        >>> counted["synops"], counted["synops/s"]
        (tensor(15.), tensor(30.))

    See Also:
        - :class:`~snnmetrics.SynOps`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.fanout`: the exact fan-out of a layer.
    """
    if sample_time is not None:
        sample_time = positive_number("sample_time", sample_time)
    if time_dim is not None:
        require_dim("time_dim", time_dim)
    require_bool("per_neuron", per_neuron)
    map_ = as_fanout(fanout)
    if map_.ndim == 0 and isinstance(activations, Tensor):
        map_ = map_.to(activations.device)
    summed, samples, _ = synops_update(activations, map_, time_dim, per_neuron)
    values = synops_compute(summed, samples, sample_time, per_neuron)
    dtype = torch.promote_types(activations.dtype, torch.float32)
    return {key: value.to(dtype) for key, value in values.items()}
