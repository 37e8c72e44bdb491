"""Activity of a layer as pure functions: rates, sparsity, silent neurons, potential changes."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Literal, overload

import torch
from torch import Tensor

from snnmetrics.arguments import (
    as_float,
    positive_number,
    require_bool,
    require_dim,
    require_time_dim,
)
from snnmetrics.functional.inputs import leading_dims, require_tensor
from snnmetrics.tensors.sums import all_finite, coalesced, magnitude_sum

# Reason why potentials cannot be given step by step.
CHANGES_NEED_ORDER = "a change is a difference from the step before"

_NOT_FINITE = "expected finite values, found NaN or infinity"


# ------------------------------------------------------------------------- firing rate


def spike_count_update(
    activations: Tensor, time_dim: int | None, per_neuron: bool
) -> tuple[Tensor, Tensor, int, tuple[int, ...]]:
    """Validate one batch and sum its spikes.

    Returns:
        Sum of magnitudes as float64, per neuron or over neurons; the divisor of the rate as 0-dim
        float64: number of steps of all samples (``B * T``; ``B`` if ``time_dim`` is None) or, over
        neurons, number of elements; the number of samples; the neuron shape.
    """
    require_tensor("activations", activations)
    dims = leading_dims("activations", activations, time_dim)
    shape = tuple(activations.shape[d] for d in range(activations.ndim) if d not in dims)
    summed = dims if per_neuron else tuple(range(activations.ndim))
    spikes = magnitude_sum(activations, summed)
    # Check the sum over neurons too: the rate of the layer depends on it.
    if spikes.is_cpu and not math.isfinite(spikes.detach().sum().item()):
        raise ValueError(
            "activations: expected finite values, found NaN, infinity or a sum beyond float64"
        )
    counted_in = math.prod(activations.shape[d] for d in summed)
    whole = torch.full((), counted_in, dtype=torch.float64, device=activations.device)
    return spikes, whole, activations.shape[dims[0]], shape


def firing_rate_compute(
    spikes: Tensor, counted_in: Tensor, dt: float | None, per_neuron: bool
) -> Tensor | dict[str, Tensor]:
    """Convert accumulated sums of ``spike_count_update`` into rates. NaN without samples."""
    if not per_neuron:
        return _per_time(spikes / counted_in, dt)
    return {
        "firing_rate": _per_time(spikes.sum() / (counted_in * spikes.numel()), dt),
        "firing_rate_per_neuron": _per_time(spikes / counted_in, dt),
    }


def _per_time(per_step: Tensor, dt: float | None) -> Tensor:
    return per_step if dt is None else per_step / dt


@overload
def firing_rate(
    activations: Tensor,
    *,
    time_dim: int | None = 1,
    dt: float | None = None,
    per_neuron: Literal[False] = False,
) -> Tensor: ...


@overload
def firing_rate(
    activations: Tensor,
    *,
    time_dim: int | None = 1,
    dt: float | None = None,
    per_neuron: Literal[True],
) -> dict[str, Tensor]: ...


@overload
def firing_rate(
    activations: Tensor, *, time_dim: int | None = 1, dt: float | None = None, per_neuron: bool
) -> Tensor | dict[str, Tensor]: ...


def firing_rate(
    activations: Tensor,
    *,
    time_dim: int | None = 1,
    dt: float | None = None,
    per_neuron: bool = False,
) -> Tensor | dict[str, Tensor]:
    r"""Spikes per neuron and time step, or per neuron and second.

    .. math:: r = \frac{1}{B\,T\,N} \sum_{b,t,i} |x_{b,t,i}|
        \qquad r_i = \frac{1}{B\,T} \sum_{b,t} |x_{b,t,i}|
        \qquad \text{in Hz: } r / \Delta t

    A count of n spikes is n spikes; a negative spike counts by its magnitude. Without negative
    spikes this equals ``firing_rate_hook`` and ``firing_rate_per_neuron_hook`` of sinabs 3.1
    (2025), the mean of the output; for signed spikes those return the signed mean.

    Args:
        activations: Spikes or spike counts: batch, time (at ``time_dim``) and one or more neuron
            dimensions. Any real dtype, dense or sparse COO.
        time_dim: Dimension of ``activations`` that is time; None: the input is one time step.
        dt: Seconds of one step; rates are then in Hz.
        per_neuron: Whether to return the rate of each neuron, too.

    Returns:
        0-dim tensor, the mean over samples, steps and neurons. With ``per_neuron`` a dict of this
        ``"firing_rate"`` and of ``"firing_rate_per_neuron"`` (neuron shape). Dtype of the
        activations, at least float32. 0 without a spike, 1 (per step) if each neuron spikes once at
        each step, also for T = 1; NaN without samples, steps or neurons. The gradient at a zero
        activation is that of a positive spike.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the activations have a wrong shape, are complex or (on the CPU) not finite,
            or if ``dt <= 0``.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import firing_rate
        >>> spikes = torch.tensor([[[1, 0], [1, 0], [0, 0], [1, 1]]])  # B=1, T=4, 2 neurons
        >>> firing_rate(spikes)
        tensor(0.5000)
        >>> firing_rate(spikes, dt=0.001, per_neuron=True)["firing_rate_per_neuron"]  # Hz
        tensor([750., 250.])

    See Also:
        - :class:`~snnmetrics.FiringRate`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.silent_neurons`: neurons without a spike.
    """
    if time_dim is not None:
        require_dim("time_dim", time_dim)
    require_bool("per_neuron", per_neuron)
    if dt is not None:
        dt = positive_number("dt", dt)
    spikes, counted_in, _, _ = spike_count_update(activations, time_dim, per_neuron)
    value = firing_rate_compute(spikes, counted_in, dt, per_neuron)
    dtype = torch.promote_types(activations.dtype, torch.float32)
    if isinstance(value, dict):
        return {key: entry.to(dtype) for key, entry in value.items()}
    return value.to(dtype)


# ---------------------------------------------------------------------------- sparsity


def activation_sparsity_update(activations: Tensor) -> tuple[Tensor, int]:
    """Validate one batch and count its events.

    Returns:
        Number of nonzero elements as 0-dim float64 (NaN for non-finite input on an accelerator),
        and the number of elements.
    """
    require_tensor("activations", activations)
    elements = activations.numel()
    values = activations.detach()
    if values.layout is torch.sparse_coo:
        values = coalesced(values).values()  # duplicate indices form one element, their sum
    events = torch.count_nonzero(values != 0).to(torch.float64)
    return _poisoned(events, "activations", values), elements


def activation_sparsity_compute(events: Tensor, elements: int | Tensor) -> Tensor:
    """Fraction of elements that are zero. NaN without elements."""
    return (elements - events) / elements


def activation_sparsity(activations: Tensor) -> Tensor:
    r"""Fraction of activations that are zero.

    .. math:: 1 - \frac{|\{k : x_k \ne 0\}|}{|\{k\}|}

    Defined as ``ActivationSparsity`` of NeuroBench 2.3 (Yik et al., "The neurobench framework for
    benchmarking neuromorphic computing algorithms and systems", Nature Communications 16, 2025),
    for one layer.

    Args:
        activations: Spikes or other activations, of any shape: dimensions have no meaning. Any real
            dtype, dense or sparse COO.

    Returns:
        0-dim tensor, dtype of the activations, at least float32. 1 without an event, 0 if all
        elements are nonzero; NaN without elements (NeuroBench: 0).

    Raises:
        TypeError: If ``activations`` is not a tensor.
        ValueError: If they are complex or (on the CPU) not finite.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import activation_sparsity
        >>> activation_sparsity(torch.tensor([[0, 0, 3, 0], [0, -1, 0, 0]]))
        tensor(0.7500)

    See Also:
        - :class:`~snnmetrics.ActivationSparsity`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.connection_sparsity`: zeros among the weights.
    """
    events, elements = activation_sparsity_update(activations)
    value = activation_sparsity_compute(events, elements)
    return value.to(torch.promote_types(activations.dtype, torch.float32))


# ---------------------------------------------------------------- silent and saturated


def silent_neurons_compute(
    spikes: Tensor, steps: Tensor, saturation: float, per_neuron: bool
) -> dict[str, Tensor]:
    """Convert spikes per neuron and the number of steps into fractions, and maps if requested."""
    # The result is undefined without steps, and for values that an accelerator could not refuse.
    seen = (steps > 0) & spikes.isfinite().all()
    # A quotient, not a product: for equal decimals 7 / 10 is 0.7, but 0.1 * 3 is not 0.3.
    found = {"silent": (spikes == 0) & seen, "saturated": (spikes / steps >= saturation) & seen}
    # A tensor: CUDA multiplies by the reciprocal of a Python number, and 5 * (1 / 6) is not 5 / 6.
    neurons = torch.full((), spikes.numel(), dtype=torch.float64, device=spikes.device)
    values = {
        f"{name}_fraction": torch.where(seen, mask.sum() / neurons, torch.nan)
        for name, mask in found.items()
    }
    return values | found if per_neuron else values


def silent_neurons(
    activations: Tensor,
    *,
    time_dim: int | None = 1,
    saturation: float = 1.0,
    per_neuron: bool = False,
) -> dict[str, Tensor]:
    r"""Fractions of neurons that never spike, and that spike at every step.

    .. math:: \text{silent} = \frac{|\{i : r_i = 0\}|}{N} \qquad
        \text{saturated} = \frac{|\{i : r_i \ge \theta\}|}{N} \qquad
        r_i = \frac{1}{B\,T} \sum_{b,t} |x_{b,t,i}|

    Neither carries information: most surrogates pass no gradient to a silent neuron, and a
    saturated one costs the most. A neuron is one element of the neuron shape; it is silent if it
    does not spike in any sample (as a dead ReLU, Maas et al., ICML workshops 2013).

    Args:
        activations: Spikes or spike counts: batch, time (at ``time_dim``) and one or more neuron
            dimensions. Any real dtype, dense or sparse COO. Magnitudes count.
        time_dim: Dimension of ``activations`` that is time; None: the input is one time step.
        saturation: Smallest rate, in spikes per step, of a saturated neuron.
        per_neuron: Whether to return maps of silent and saturated neurons, too.

    Returns:
        Dict of ``"silent_fraction"`` and ``"saturated_fraction"`` (0-dim; dtype of the
        activations, at least float32) and, with ``per_neuron``, ``"silent"`` and ``"saturated"``
        (bool, neuron shape). Without a spike 1 and 0; if all neurons spike at all steps 0 and 1,
        also for T = 1. Without samples, steps or neurons the fractions are NaN and the maps False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the activations have a wrong shape, are complex or (on the CPU) not finite,
            or if ``saturation <= 0``.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import silent_neurons
        >>> spikes = torch.tensor([[[1, 0, 0, 0], [1, 0, 1, 0]]])  # B=1, T=2, 4 neurons
        >>> found = silent_neurons(spikes, per_neuron=True)
        >>> found["silent_fraction"], found["saturated_fraction"]
        (tensor(0.5000), tensor(0.2500))
        >>> found["silent"]
        tensor([False,  True, False,  True])

    See Also:
        - :class:`~snnmetrics.SilentNeurons`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.firing_rate`: the rate of each neuron.
    """
    if time_dim is not None:
        require_dim("time_dim", time_dim)
    require_bool("per_neuron", per_neuron)
    saturation = positive_number("saturation", saturation)
    spikes, steps, _, _ = spike_count_update(activations, time_dim, per_neuron=True)
    dtype = torch.promote_types(activations.dtype, torch.float32)
    values = silent_neurons_compute(spikes.detach(), steps, saturation, per_neuron)
    return {k: v if v.dtype is torch.bool else v.to(dtype) for k, v in values.items()}


# -------------------------------------------------------------------- membrane updates


def as_potential(name: str, value: object) -> float:
    """Convert to a finite float.

    Raises:
        TypeError: If ``value`` is not a real number.
        ValueError: If it is not finite, or is an integer that float64 cannot represent.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number or None, found {value!r}")
    number = as_float(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, found {value!r}")
    if isinstance(value, Integral) and int(value) != int(number):  # potentials may be integers
        raise ValueError(f"{name}: expected a number that float64 represents, found {value!r}")
    return number + 0.0  # -0.0 becomes 0.0


def membrane_updates_update(
    potentials: Tensor, time_dim: int, initial: float | None
) -> tuple[Tensor, int, tuple[int, ...]]:
    """Validate one batch and count the changes of its potentials.

    Returns:
        Number of changes as 0-dim float64 (NaN for non-finite input on an accelerator), the number
        of samples, and the neuron shape.
    """
    require_tensor("potentials", potentials)
    batch, time = leading_dims("potentials", potentials, time_dim)
    shape = tuple(potentials.shape[d] for d in range(potentials.ndim) if d not in (batch, time))
    values = potentials.detach()
    values = (values.to_dense() if values.is_sparse else values).movedim(time, 0)
    first = values[:1]
    changed = torch.count_nonzero(values[1:] != values[:-1])
    at_first = first.numel() if initial is None else torch.count_nonzero(_differs(first, initial))
    updates = (changed + at_first).to(torch.float64)
    return _poisoned(updates, "potentials", values), potentials.shape[batch], shape


def _differs(potentials: Tensor, initial: float) -> Tensor:
    """Mark potentials that differ from ``initial``."""
    if potentials.is_floating_point():
        return potentials != initial
    # PyTorch would compare as floating point, which does not distinguish large integers.
    lowest, highest = 0, 1
    if potentials.dtype is not torch.bool:
        limits = torch.iinfo(potentials.dtype)
        lowest, highest = limits.min, limits.max
    if not initial.is_integer() or not lowest <= initial <= highest:
        return torch.ones_like(potentials, dtype=torch.bool)
    # The upper half of uint64 becomes negative on both sides.
    whole = (int(initial) + 2**63) % 2**64 - 2**63
    return potentials.to(torch.int64) != whole


def membrane_updates_compute(updates: Tensor, samples: int | Tensor) -> Tensor:
    """Changes per sample. NaN without samples."""
    return updates / samples


def membrane_updates(
    potentials: Tensor, *, time_dim: int = 1, initial: float | None = None
) -> Tensor:
    r"""Number of changes of membrane potentials, as a mean per sample.

    .. math:: \frac{1}{B} \sum_{b,i} \Bigl( u_{b,1,i} +
        \sum_{t=2}^{T} [v_{b,t,i} \ne v_{b,t-1,i}] \Bigr)

    The first step has no predecessor. There are two rules for it:

    - NeuroBench (``initial=None``): each potential of the first step counts, u = 1. This is
      ``MembraneUpdates`` of NeuroBench 2.3 (Yik et al., Nature Communications 16, 2025), which
      compares the potential before and after each later call of a layer. Both agree if only the
      layer changes its potential.
    - Strict (``initial`` is the potential at rest): only a change counts, as at all other steps,
      :math:`u = [v_{b,1,i} \ne \text{initial}]`.

    Potentials are compared exactly, down to the last bit; +0 and -0 are equal.

    Args:
        potentials: Membrane potential after each step: batch, time (at ``time_dim``) and one or
            more neuron dimensions. Any real dtype; sparse COO is made dense.
        time_dim: Dimension of ``potentials`` that is time.
        initial: Potential before the first step, for the strict rule; compared in the dtype of the
            potentials if that is floating.

    Returns:
        0-dim tensor, the changes per sample of all neurons. Dtype of the potentials, at least
        float32. With T = 1 the number of neurons, or of neurons not at ``initial``; 0 without steps
        or neurons; NaN without samples (NeuroBench: 0).

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the potentials have a wrong shape, are complex or (on the CPU) not finite, or
            if ``initial`` is not finite.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import membrane_updates
        >>> potentials = torch.tensor([[[0.0, 0.3], [0.5, 0.3], [0.0, 0.3]]])  # B=1, T=3, 2 neurons
        >>> membrane_updates(potentials)  # both at first, then one twice
        tensor(4.)
        >>> membrane_updates(potentials, initial=0.0)
        tensor(3.)

    See Also:
        - :class:`~snnmetrics.MembraneUpdates`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.membrane_statistics`: the values of the potentials.
    """
    require_time_dim(time_dim, CHANGES_NEED_ORDER)
    if initial is not None:
        initial = as_potential("initial", initial)
    updates, samples, _ = membrane_updates_update(potentials, time_dim, initial)
    value = membrane_updates_compute(updates, samples)
    return value.to(torch.promote_types(potentials.dtype, torch.float32))


def _poisoned(count: Tensor, name: str, values: Tensor) -> Tensor:
    """The count; non-finite values raise on the CPU and make it NaN elsewhere."""
    if not values.is_floating_point():
        return count
    if not values.is_cpu:
        return torch.where(values.isfinite().all(), count, torch.nan)
    if not all_finite(values):
        raise ValueError(f"{name}: {_NOT_FINITE}")
    return count
