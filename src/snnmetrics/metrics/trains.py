"""Metrics of spike trains: interspike intervals and spread of spike counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from snnmetrics.arguments import positive_number, require_bool, require_time_dim
from snnmetrics.functional.inputs import require_same_device
from snnmetrics.functional.trains import (
    COUNTS_NEED_SAMPLES,
    INTERVAL_SUMS,
    INTERVALS_NEED_ORDER,
    fano_factor_compute,
    fano_factor_update,
    interval_statistics_compute,
    interval_statistics_update,
)
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class IntervalStatistics(SNNMetric[dict[str, Tensor]]):
    """Irregularity of spike trains over an epoch, from the intervals between their spikes.

    Formulas and sources: :func:`snnmetrics.functional.interval_statistics`, over the trains of all
    batches. Intervals do not extend across batches. The number of steps may differ between batches.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or spike counts: batch, time (at
      ``time_dim``) and one or more neuron dimensions. A step with a nonzero value is one spike
      time: several spikes within a step have no order. Bool, integer or floating, dense or sparse
      COO. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the activations, at least float32) and
    ``compute`` (the epoch over all ranks, float64) it returns a dict of 0-dim tensors:

    - ``"cv"``, ``"cv2"``, ``"lv"``: 0 or more, at most 2 (CV2) and 3 (LV); without unit
    - ``"mean_interval"``: mean over all intervals, also of trains with a single one; steps, or
      seconds with ``dt``
    - ``"intervals"``: number of intervals per sample, over all neurons

    With ``per_neuron`` also the same figures of each neuron over its samples, of the neuron shape:
    ``"cv_per_neuron"``, ``"cv2_per_neuron"``, ``"lv_per_neuron"``, ``"mean_interval_per_neuron"``,
    ``"intervals_per_neuron"``.

    The first three are NaN without a train of two intervals, ``"mean_interval"`` without an
    interval, all without samples. They are not differentiable.

    Args:
        time_dim: Dimension of the activations that is time.
        dt: Seconds of one step; ``"mean_interval"`` is then in seconds.
        per_neuron: Whether to keep and return the maps per neuron, too.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``dt`` is not positive and finite. By ``update`` and ``forward``, without
            changing the state: if the rank is wrong or the neuron shape differs from earlier
            batches, if the activations are complex or, on the CPU, not finite (on accelerators
            ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> intervals = sm.IntervalStatistics()
        >>> regular, other = [1, 0, 1, 0, 1, 0, 1, 0, 1], [1, 1, 0, 0, 1, 1, 0, 0, 1]
        >>> intervals.update(torch.tensor([regular, other])[..., None])  # B=2, T=9, one neuron
        >>> intervals.update(torch.zeros(2, 9, 1))  # trains without intervals
        >>> value = intervals.compute()
        >>> value["cv"].item(), value["cv2"].item(), value["lv"].item()
        (0.25, 0.5, 0.375)
        >>> value["mean_interval"].item(), value["intervals"].item()
        (2.0, 2.0)

    See Also:
        - :func:`~snnmetrics.functional.interval_statistics`: the same figures of one batch.
        - :class:`~snnmetrics.FanoFactor`: variation of spike counts from sample to sample.
        - :func:`~snnmetrics.plots.raster`: a figure of the spike trains.
    """

    is_differentiable = False
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {
        **dict.fromkeys(("cv", "cv2", "lv"), "variation of interspike intervals"),
        "mean_interval": "mean interspike interval",
        "intervals": "interspike intervals per sample",
    }
    drawn = ("cv", "cv2", "lv")

    intervals: Tensor
    steps: Tensor
    trains: Tensor
    cv: Tensor
    cv2: Tensor
    lv: Tensor

    def __init__(
        self,
        time_dim: int = 1,
        dt: float | None = None,
        *,
        per_neuron: bool = False,
        **metric_kwargs: Any,
    ) -> None:
        require_time_dim(time_dim, INTERVALS_NEED_ORDER)
        require_bool("per_neuron", per_neuron)
        seconds = None if dt is None else positive_number("dt", dt)
        super().__init__([time_dim, per_neuron], **metric_kwargs)
        self.time_dim = time_dim
        self.dt = seconds
        self.per_neuron = per_neuron
        for name in INTERVAL_SUMS:
            self.add_sum(name, shaped=per_neuron)

    def contribution(self, activations: Tensor) -> Contribution:
        """Intervals of one batch, and statistics of its trains."""
        sums, samples, shape = interval_statistics_update(
            activations, self.time_dim, self.per_neuron
        )
        require_same_device("activations", activations, self.samples.device)
        return Contribution(sums, samples, shape, value_dtype(activations))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means over trains and over intervals."""
        return interval_statistics_compute(
            **sums, samples=samples, dt=self.dt, per_neuron=self.per_neuron
        )

    @property
    def unit(self) -> str:
        """Unit of the mean interval."""
        return "steps" if self.dt is None else "s"

    def axis_label(self, key: str = "") -> str:
        """Label of an axis, with the unit."""
        label = super().axis_label(key)
        return f"{label} [{self.unit}]" if key == "mean_interval" else label


class FanoFactor(SNNMetric[Any]):
    """Fano factor: variance of the spike count of a neuron over the samples, divided by its mean.

    Formula and source: :func:`snnmetrics.functional.fano_factor`, over the samples of all batches;
    the value of an epoch is not the mean over its batches. To separate trial-to-trial variability
    from tuning, use samples of one class, for example by ``mask=target == k``.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or spike counts: batch, time (at
      ``time_dim``) and one or more neuron dimensions; all steps of a sample at once. Magnitudes
      count. Bool, integer or floating, dense or sparse COO. A batch without samples changes
      nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the activations, at least float32) and
    ``compute`` (the epoch over all ranks, float64) it returns a 0-dim tensor without unit: the mean
    over the neurons that spike. With ``per_neuron`` it returns a dict of:

    - ``"fano_factor"``: 0-dim; this mean
    - ``"fano_factor_per_neuron"``: neuron shape

    0 for a single sample; NaN for a neuron without a spike, and for the layer if all neurons are
    silent or samples are missing. They are not differentiable.

    Args:
        time_dim: Dimension of the activations that is time.
        per_neuron: Whether to return the factor of each neuron, too. Sums per neuron are kept in
            any case.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: By ``update`` and ``forward``, without changing the state: if the rank is wrong
            or the neuron shape differs from earlier batches, if the activations are complex or, on
            the CPU, not finite (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> fano = sm.FanoFactor(per_neuron=True)
        >>> fano.update(torch.tensor([[[1, 1], [0, 1]], [[1, 1], [1, 0]]]))  # B=2, T=2, 2 neurons
        >>> fano.update(torch.tensor([[[0, 0], [0, 0]]]))
        >>> value = fano.compute()  # counts 1 2 0 and 2 1 0
        >>> value["fano_factor_per_neuron"]
        tensor([0.6667, 0.6667], dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.fano_factor`: the same figure of one batch.
        - :class:`~snnmetrics.IntervalStatistics`: variation of the intervals within a spike train.
    """

    is_differentiable = False
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"": "Fano factor", "fano_factor": "Fano factor"}
    drawn = ("fano_factor",)

    counts: Tensor
    squares: Tensor

    def __init__(
        self, time_dim: int = 1, *, per_neuron: bool = False, **metric_kwargs: Any
    ) -> None:
        require_time_dim(time_dim, COUNTS_NEED_SAMPLES)
        require_bool("per_neuron", per_neuron)
        super().__init__([time_dim], **metric_kwargs)
        self.time_dim = time_dim
        self.per_neuron = per_neuron
        self.add_sum("counts", shaped=True)
        self.add_sum("squares", shaped=True)

    def contribution(self, activations: Tensor) -> Contribution:
        """Spike counts of the samples of one batch, and their squares, per neuron."""
        counts, squares, samples, shape = fano_factor_update(activations, self.time_dim)
        require_same_device("activations", activations, self.samples.device)
        sums = {"counts": counts, "squares": squares}
        return Contribution(sums, samples, shape, value_dtype(activations))

    def result(
        self, sums: Mapping[str, Tensor], samples: int | Tensor
    ) -> Tensor | dict[str, Tensor]:
        """Variance over mean, of all batches."""
        return fano_factor_compute(sums["counts"], sums["squares"], samples, self.per_neuron)

    def _draw(self, value: Any, ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.histograms import neuron_histogram

        if isinstance(value, Tensor):
            return super()._draw(value, ax)
        return neuron_histogram(
            value["fano_factor_per_neuron"],
            float(value["fano_factor"]),
            ax,
            label=self.axis_label(),
            mean_of="neurons that spike",
            missing="silent",
        )
