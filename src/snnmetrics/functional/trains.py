"""Statistics of spike trains as pure functions: interspike intervals and spread of counts.

A spike train is the output of one neuron in one sample.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.arguments import positive_number, require_bool, require_time_dim
from snnmetrics.functional.inputs import leading_dims, poison_if_not_finite, require_tensor
from snnmetrics.tensors.sums import blocks, magnitude_sum

# Reason why steps cannot be given one by one.
INTERVALS_NEED_ORDER = "an interval lies between two spikes of one sample"
COUNTS_NEED_SAMPLES = "the count of a sample is the sum over all of its steps"

INTERVAL_SUMS = ("intervals", "steps", "trains", "cv", "cv2", "lv")


# --------------------------------------------------------------------------- intervals


def interval_statistics_update(
    activations: Tensor, time_dim: int, per_neuron: bool
) -> tuple[dict[str, Tensor], int, tuple[int, ...]]:
    """Validate one batch and sum the statistics of its spike trains.

    Returns:
        The sums by name (``INTERVAL_SUMS``), float64, per neuron or over neurons (NaN for
        non-finite input on an accelerator): number of intervals, their total steps, trains with two
        or more intervals, and the sums of CV, CV2 and LV of these trains. Then the number of
        samples and the neuron shape.
    """
    require_tensor("activations", activations)
    batch, time = leading_dims("activations", activations, time_dim)
    samples = activations.shape[batch]
    shape = tuple(activations.shape[d] for d in range(activations.ndim) if d not in (batch, time))
    values = activations.detach()
    values = values.to_dense() if values.is_sparse else values
    values = values.movedim((time, batch), (0, 1))
    poison = poison_if_not_finite("activations", values, (0, 1))
    trains = (values != 0).flatten(1)
    found = torch.cat([_sums_of_trains(part) for part in blocks(trains, (1,))], 1)
    sums = found.reshape(len(INTERVAL_SUMS), samples, *shape).sum(1) + poison
    if not per_neuron:
        sums = sums.flatten(1).sum(1)
    return dict(zip(INTERVAL_SUMS, sums.unbind(), strict=True)), samples, shape


def _sums_of_trains(spikes: Tensor) -> Tensor:
    """Contribution of each train ``(T, trains)`` to the sums, ``(len(INTERVAL_SUMS), trains)``.

    Steps count from 1, so that 0 can mean "none".
    """
    step = torch.arange(1, len(spikes) + 1, device=spikes.device)[:, None]
    latest = _after_a_zero(torch.where(spikes, step, 0)).cummax(0).values
    before = latest[:-1]  # step of the previous spike
    ends = spikes & (before > 0)
    interval = torch.where(ends, step - before, 0)
    earlier = torch.where(ends, _after_a_zero(interval).gather(0, before), 0)

    count, steps = ends.sum(0), interval.sum(0)
    several = count >= 2
    mean = steps.to(torch.float64) / count
    variance = torch.where(ends, interval - mean, 0.0).square().sum(0) / count
    difference = torch.where(earlier > 0, interval - earlier, 0).to(torch.float64)
    change = difference / (interval + earlier).clamp(min=1)
    figures = torch.stack(
        [
            variance.sqrt() / mean,
            2 * change.abs().sum(0) / (count - 1),
            3 * change.square().sum(0) / (count - 1),
        ]
    )
    whole = torch.stack([count, steps, several]).to(torch.float64)
    return torch.cat([whole, torch.where(several, figures, 0.0)])


def _after_a_zero(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 1, 0))


def interval_statistics_compute(
    intervals: Tensor,
    steps: Tensor,
    trains: Tensor,
    cv: Tensor,
    cv2: Tensor,
    lv: Tensor,
    samples: int | Tensor,
    dt: float | None,
    per_neuron: bool,
) -> dict[str, Tensor]:
    """Convert sums into means; NaN if the divisor is zero."""
    unit = 1.0 if dt is None else dt
    values = {
        "cv": cv.sum() / trains.sum(),
        "cv2": cv2.sum() / trains.sum(),
        "lv": lv.sum() / trains.sum(),
        "mean_interval": steps.sum() / intervals.sum() * unit,
        "intervals": intervals.sum() / samples,
    }
    if per_neuron:
        values["cv_per_neuron"] = cv / trains
        values["cv2_per_neuron"] = cv2 / trains
        values["lv_per_neuron"] = lv / trains
        values["mean_interval_per_neuron"] = steps / intervals * unit
        values["intervals_per_neuron"] = intervals / samples
    return values


def interval_statistics(
    activations: Tensor,
    *,
    time_dim: int = 1,
    dt: float | None = None,
    per_neuron: bool = False,
) -> dict[str, Tensor]:
    r"""Irregularity of spike trains, from the intervals between their spikes.

    A train is one neuron in one sample. With its intervals :math:`I_1 .. I_n` between neighbouring
    spikes, in steps, their mean m and their standard deviation s (of the n intervals, without
    Bessel's correction)

    .. math:: \text{CV} = \frac{s}{m} \qquad
        \text{CV2} = \frac{1}{n-1} \sum_{i=1}^{n-1} \frac{2\,|I_{i+1}-I_i|}{I_{i+1}+I_i} \qquad
        \text{LV} = \frac{3}{n-1} \sum_{i=1}^{n-1}
        \Bigl( \frac{I_{i+1}-I_i}{I_{i+1}+I_i} \Bigr)^2

    Equal intervals give 0 for all three, a Poisson process 1. CV2 (Holt, Softky, Koch and Douglas,
    "Comparison of discharge variability in vitro and in vivo in cat visual cortex neurons", Journal
    of Neurophysiology 75, 1996) and LV (Shinomoto, Shima and Tanji, "Differences in spiking
    patterns among cortical neurons", Neural Computation 15, 2003) compare only neighbours: a slowly
    changing rate affects CV, but hardly these. For one train they equal ``cv``, ``cv2`` and ``lv``
    of ``elephant.statistics``.

    CV, CV2 and LV are means over the trains with two or more intervals, with equal weights. Other
    trains are left out.

    Args:
        activations: Spikes or spike counts: batch, time (at ``time_dim``) and one or more neuron
            dimensions. Any real dtype, dense or sparse COO. A step with a nonzero value is one
            spike time: several spikes within a step have no order, and would add intervals of
            length zero.
        time_dim: Dimension of ``activations`` that is time.
        dt: Seconds of one step; ``"mean_interval"`` is then in seconds. The others have no unit.
        per_neuron: Whether to return the maps per neuron, too.

    Returns:
        Dict of ``"cv"`` (0 or more), ``"cv2"`` (0 to 2), ``"lv"`` (0 to 3), ``"mean_interval"``
        (over all intervals, also of trains with a single one; in steps, at least 1, or seconds) and
        ``"intervals"`` (their number per sample, over all neurons), 0-dim. With ``per_neuron`` also
        the same figures of each neuron as ``"cv_per_neuron"`` and so on (neuron shape). Dtype of
        the activations, at least float32. NaN without a train of two intervals (the first three),
        without an interval (``"mean_interval"``), without samples (all). Not differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the activations have a wrong shape, are complex or (on the CPU) not finite,
            or if ``dt <= 0``.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import interval_statistics
        >>> spikes = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0, 1]).reshape(1, 9, 1)  # intervals 1 3 1 3
        >>> found = interval_statistics(spikes, dt=0.001)
        >>> found["cv"], found["cv2"], found["lv"]
        (tensor(0.5000), tensor(1.), tensor(0.7500))
        >>> found["mean_interval"], found["intervals"]  # seconds, per sample
        (tensor(0.0020), tensor(4.))

    See Also:
        - :class:`~snnmetrics.IntervalStatistics`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.fano_factor`: variation of spike counts from sample to
          sample.
    """
    require_time_dim(time_dim, INTERVALS_NEED_ORDER)
    if dt is not None:
        dt = positive_number("dt", dt)
    require_bool("per_neuron", per_neuron)
    sums, samples, _ = interval_statistics_update(activations, time_dim, per_neuron)
    values = interval_statistics_compute(**sums, samples=samples, dt=dt, per_neuron=per_neuron)
    dtype = torch.promote_types(activations.dtype, torch.float32)
    return {key: value.to(dtype) for key, value in values.items()}


# ------------------------------------------------------------------------- Fano factor


def fano_factor_update(
    activations: Tensor, time_dim: int
) -> tuple[Tensor, Tensor, int, tuple[int, ...]]:
    """Validate one batch and sum the spike counts of its samples, and their squares.

    Returns:
        Sums per neuron over the samples, of counts and of their squares, float64; the number of
        samples; the neuron shape.
    """
    require_tensor("activations", activations)
    batch, time = leading_dims("activations", activations, time_dim)
    shape = tuple(activations.shape[d] for d in range(activations.ndim) if d not in (batch, time))
    counts = magnitude_sum(activations.detach(), (time,))  # the batch is the first dimension
    squares = counts.square().sum(0)
    if squares.is_cpu and not math.isfinite(squares.sum().item()):
        raise ValueError(
            "activations: expected finite values, found NaN, infinity or squares of counts beyond "
            "float64"
        )
    return counts.sum(0), squares, activations.shape[batch], shape


def fano_factor_compute(
    counts: Tensor, squares: Tensor, samples: int | Tensor, per_neuron: bool
) -> Tensor | dict[str, Tensor]:
    """Convert sums over samples into variance / mean. NaN for neurons without a spike."""
    # Products of integers: exact up to 2**53, and zero if all counts are equal.
    spread = (squares * samples - counts.square()).clamp(min=0)
    each = spread / (counts * samples)
    spiking = counts != 0  # also NaN for counts that an accelerator could not refuse
    whole = torch.where(spiking, each, 0.0).sum() / spiking.sum()
    if not per_neuron:
        return whole
    return {"fano_factor": whole, "fano_factor_per_neuron": each}


@overload
def fano_factor(
    activations: Tensor, *, time_dim: int = 1, per_neuron: Literal[False] = False
) -> Tensor: ...


@overload
def fano_factor(
    activations: Tensor, *, time_dim: int = 1, per_neuron: Literal[True]
) -> dict[str, Tensor]: ...


@overload
def fano_factor(
    activations: Tensor, *, time_dim: int = 1, per_neuron: bool
) -> Tensor | dict[str, Tensor]: ...


def fano_factor(
    activations: Tensor, *, time_dim: int = 1, per_neuron: bool = False
) -> Tensor | dict[str, Tensor]:
    r"""Fano factor: variance of the spike count of a neuron over samples, divided by its mean.

    .. math:: F_i = \frac{\frac{1}{B} \sum_b (c_{b,i} - \bar{c}_i)^2}{\bar{c}_i} \qquad
        c_{b,i} = \sum_t |x_{b,t,i}| \qquad \bar{c}_i = \frac{1}{B} \sum_b c_{b,i}

    and the mean of :math:`F_i` over the neurons that spike. The variance divides by the number of
    samples (no Bessel's correction); for one neuron this is ``elephant.statistics.fanofactor`` of
    its trains. Equal counts in all samples give 0, counts of a Poisson process 1 on average (Fano,
    "Ionization yield of radiations. II", Physical Review 72, 1947, for counts of ions).

    Counts are comparable if all samples last equally many steps; otherwise the variance includes
    the spread of durations. Samples of different classes differ in their mean counts: use samples
    of one class to separate trial-to-trial variability from tuning.

    Args:
        activations: Spikes or spike counts: batch, time (at ``time_dim``) and one or more neuron
            dimensions. Any real dtype, dense or sparse COO. Magnitudes count.
        time_dim: Dimension of ``activations`` that is time.
        per_neuron: Whether to return the factor of each neuron, too.

    Returns:
        0-dim tensor without unit. With ``per_neuron`` a dict of this ``"fano_factor"`` and of
        ``"fano_factor_per_neuron"`` (neuron shape). Dtype of the activations, at least float32. 0
        for a single sample; NaN for a neuron without a spike, and for the layer if all neurons are
        silent or samples are missing. Counts are exact integers; the variance of graded values has
        an error of about 1e-16 of the squared mean. Not differentiable.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the activations have a wrong shape, are complex or (on the CPU) not finite.

    Example:
        >>> import torch
        >>> from snnmetrics.functional import fano_factor
        >>> spikes = torch.tensor([[[1, 1], [0, 1]], [[1, 1], [1, 0]], [[1, 0], [1, 0]]])
        >>> fano_factor(spikes, per_neuron=True)["fano_factor_per_neuron"]  # counts 1 2 2 and 2 1 0
        tensor([0.1333, 0.6667])

    See Also:
        - :class:`~snnmetrics.FanoFactor`: the same over an epoch and all ranks.
        - :func:`~snnmetrics.functional.interval_statistics`: variation of the intervals within a
          spike train.
    """
    require_time_dim(time_dim, COUNTS_NEED_SAMPLES)
    require_bool("per_neuron", per_neuron)
    counts, squares, samples, _ = fano_factor_update(activations, time_dim)
    value = fano_factor_compute(counts, squares, samples, per_neuron)
    dtype = torch.promote_types(activations.dtype, torch.float32)
    if isinstance(value, dict):
        return {key: entry.to(dtype) for key, entry in value.items()}
    return value.to(dtype)
