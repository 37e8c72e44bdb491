"""Metrics of latency: accuracy over time, first spikes, early exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from snnmetrics.arguments import positive_number, require_bool, require_time_dim
from snnmetrics.functional.inputs import require_same_device
from snnmetrics.functional.timing import (
    EVIDENCE_NEEDS_ORDER,
    EXIT_READOUTS,
    FIRST_SPIKE_NEEDS_ORDER,
    READOUTS,
    ExitReadout,
    ExitRule,
    Readout,
    accuracy_over_time_update,
    as_threshold,
    early_exit_compute,
    early_exit_update,
    optimal_cutoff_compute,
    optimal_cutoff_update,
    require_num_classes,
    require_readout,
    require_rule,
    time_to_first_spike_compute,
    time_to_first_spike_update,
)
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class AccuracyOverTime(SNNMetric[Tensor]):
    """Accuracy when the prediction is read out at each time step.

    Formula and sources: :func:`snnmetrics.functional.accuracy_over_time`. ``Latency`` is another
    name of this class.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``preds`` (:class:`~torch.Tensor`): spikes, potentials or scores of the output layer,
      ``(B, T, C)`` with C >= 2; time is the dimension ``time_dim``, the others are batch and class
    - ``target`` (:class:`~torch.Tensor`): class indices, ``(B,)``, of an integer dtype
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of ``preds``, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns ``(T,)``: the fraction of samples predicted
    correctly at each step. The number of steps is the same in all batches.

    Args:
        readout: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``preds`` that is time.
        num_classes: Number of classes of a population code: C is a multiple of it, and neighbouring
            outputs of a class are added. Default: one output per class.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``time_dim`` or ``num_classes`` is not an integer.
        ValueError: If ``readout`` is unknown. By ``update`` and ``forward``, without changing the
            state: if shapes do not match or the number of steps changes, or, on the CPU, if
            ``preds`` is not finite or ``target`` is out of range (on accelerators ``compute``
            raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> accuracy = sm.AccuracyOverTime()
        >>> spikes = torch.tensor([[[0, 0], [0, 1], [1, 0], [0, 1]]])  # B=1, T=4, C=2
        >>> accuracy.update(spikes, torch.tensor([1]))
        >>> accuracy.update(spikes, torch.tensor([0]))
        >>> accuracy.compute()
        tensor([0.0000, 0.5000, 0.0000, 0.5000], dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.accuracy_over_time`: the same curve of one batch.
        - :class:`~snnmetrics.OptimalCutoff`: the step from which predictions remain correct.
        - :class:`~snnmetrics.EarlyExit`: accuracy if inference stops early.
        - :func:`~snnmetrics.plots.accuracy_over_time`: a figure of the curve.
    """

    is_differentiable = False
    higher_is_better = True
    shape_is = "preds: expected number of time steps"
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    plot_legend_name = "evaluation"
    axis_labels: ClassVar = {"": "accuracy"}

    right: Tensor

    def __init__(
        self,
        readout: Readout = "sum",
        time_dim: int = 1,
        *,
        num_classes: int | None = None,
        **metric_kwargs: Any,
    ) -> None:
        require_readout(readout, READOUTS)
        require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
        classes = require_num_classes(num_classes)
        super().__init__([readout, time_dim, *_population(classes)], **metric_kwargs)
        self.readout = readout
        self.time_dim = time_dim
        self.num_classes = classes
        self.add_sum("right", shaped=True)

    def contribution(self, preds: Tensor, target: Tensor) -> Contribution:
        """Correct predictions of one batch at each step."""
        right, samples, steps = accuracy_over_time_update(
            preds, target, self.readout, self.time_dim, self.num_classes
        )
        require_same_device("preds", preds, self.samples.device)
        return Contribution({"right": right}, samples, (steps,), value_dtype(preds))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> Tensor:
        """Fraction of correct predictions at each step."""
        return sums["right"] / samples

    def _draw(self, value: Tensor, ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.curves import accuracy_over_time

        return accuracy_over_time(value, ax)

    def _draw_all(self, values: Sequence[Any], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.curves import accuracy_over_time

        curves = {f"{self.plot_legend_name} {i}": value for i, value in enumerate(values, 1)}
        return accuracy_over_time(curves, ax)


Latency = AccuracyOverTime


def _population(num_classes: int | None) -> list[int]:
    """Arguments of a population code that distinguish metrics."""
    return [] if num_classes is None else [num_classes]


class OptimalCutoff(SNNMetric[dict[str, Tensor]]):
    """Mean number of steps after which the prediction of a sample remains correct.

    Formula and source: :func:`snnmetrics.functional.optimal_cutoff`. The cutoff depends on later
    steps; :class:`EarlyExit` has rules that can be applied.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``preds`` (:class:`~torch.Tensor`): spikes, potentials or scores of the output layer,
      ``(B, T, C)`` with C >= 2 and T >= 1; time is the dimension ``time_dim``, the others are batch
      and class. Any real dtype, dense or sparse COO. T may differ between batches.
    - ``target`` (:class:`~torch.Tensor`): class indices, ``(B,)``, of an integer dtype
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of ``preds``, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a dict of 0-dim tensors:

    - ``"steps"``: mean cutoff, from 1 to T
    - ``"accuracy"``: fraction of samples predicted correctly at the last step

    Without spikes all samples are wrong and take T steps. NaN without samples.

    Args:
        readout: ``"sum"``: cumulative sum of the outputs (spike counts); ``"max"``: running
            maximum (membrane potentials).
        time_dim: Dimension of ``preds`` that is time.
        num_classes: Number of classes of a population code, as for :class:`AccuracyOverTime`.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``time_dim`` or ``num_classes`` is not an integer.
        ValueError: If ``readout`` is unknown. By ``update`` and ``forward``, without changing the
            state: if shapes do not match, or, on the CPU, if ``preds`` is not finite or ``target``
            is out of range (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> cutoff = sm.OptimalCutoff()
        >>> spikes = torch.tensor([[[0, 1], [1, 0], [0, 1], [0, 1]]])  # right, a tie, right, right
        >>> cutoff(spikes, torch.tensor([1]))
        {'steps': tensor(3.), 'accuracy': tensor(1.)}
        >>> cutoff.update(spikes, torch.tensor([0]))  # wrong at the end
        >>> cutoff.compute()["steps"]
        tensor(3.5000, dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.optimal_cutoff`: the same figures of one batch.
        - :class:`~snnmetrics.EarlyExit`: a rule for stopping that needs no labels.
        - :class:`~snnmetrics.AccuracyOverTime`: accuracy at each time step.
    """

    is_differentiable = False
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"steps": "mean number of time steps", "accuracy": "accuracy"}
    drawn = ("steps",)

    steps: Tensor
    right: Tensor

    def __init__(
        self,
        readout: Readout = "sum",
        time_dim: int = 1,
        *,
        num_classes: int | None = None,
        **metric_kwargs: Any,
    ) -> None:
        require_readout(readout, READOUTS)
        require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
        classes = require_num_classes(num_classes)
        super().__init__([readout, time_dim, *_population(classes)], **metric_kwargs)
        self.readout = readout
        self.time_dim = time_dim
        self.num_classes = classes
        self.add_sum("steps", shaped=False)
        self.add_sum("right", shaped=False)

    def contribution(self, preds: Tensor, target: Tensor) -> Contribution:
        """Cutoffs of one batch, and its samples that are correct at the end."""
        steps, right, samples = optimal_cutoff_update(
            preds, target, self.readout, self.time_dim, self.num_classes
        )
        require_same_device("preds", preds, self.samples.device)
        return Contribution({"steps": steps, "right": right}, samples, (), value_dtype(preds))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means per sample."""
        return optimal_cutoff_compute(sums["steps"], sums["right"], samples)


class TimeToFirstSpike(SNNMetric[dict[str, Tensor]]):
    """Mean step of the first spike, per neuron and over a layer, and the fraction without a spike.

    Formula, definitions and sources: :func:`snnmetrics.functional.time_to_first_spike`, which also
    lists the differences from ``accuracy_temporal`` of snnTorch. Means are taken over the pairs of
    sample and neuron **that spike**. With ``target`` the neurons are classes, and the class that
    spikes first is predicted.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``preds`` (:class:`~torch.Tensor`): spikes or spike counts, ``(B, T, *neuron_shape)``; time is
      the dimension ``time_dim``, the batch the first other one. Bool, integer or floating,
      dense or sparse COO. The number of steps may differ between batches.
    - ``target`` (:class:`~torch.Tensor`, optional): class indices, ``(B,)``, of an integer dtype;
      then ``preds`` is ``(B, T, C)`` with C >= 2
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of ``preds``, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a dict of:

    - ``"time_per_neuron"``: neuron shape; steps, or seconds with ``dt``; NaN for a neuron without
      spikes (only with ``per_neuron``)
    - ``"never_fraction_per_neuron"``: neuron shape; fraction of samples without a spike of this
      neuron (only with ``per_neuron``)
    - ``"time"``: 0-dim; the mean over all pairs that spike, NaN without spikes
    - ``"never_fraction"``: 0-dim; fraction of all pairs that never spike
    - ``"accuracy"``: 0-dim; fraction of correct predictions among the samples with ``target``, NaN
      without them

    Every neuron in the first step: time 1. T = 0: no spikes. NaN without samples.

    Args:
        time_dim: Dimension of ``preds`` that is time.
        dt: Seconds of one step; times are then in seconds.
        per_neuron: Whether to keep and return the maps per neuron, too.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``time_dim``, ``dt`` or ``per_neuron`` is of the wrong type.
        ValueError: If ``dt`` is not positive. By ``update`` and ``forward``, without changing the
            state: if shapes do not match or the neuron shape changes, or, on the CPU, if ``preds``
            is not finite or ``target`` is out of range (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> first = sm.TimeToFirstSpike(dt=0.001, per_neuron=True)
        >>> spikes = torch.tensor([[[0, 0, 0], [0, 1, 0], [1, 1, 0]]])  # B=1, T=3, C=3
        >>> first.update(spikes, torch.tensor([1]))
        >>> first.update(spikes, torch.tensor([2]))
        >>> first.compute()["time_per_neuron"]
        tensor([0.0030, 0.0020,    nan], dtype=torch.float64)
        >>> first.compute()["never_fraction_per_neuron"]
        tensor([0., 0., 1.], dtype=torch.float64)
        >>> first.compute()["accuracy"]
        tensor(0.5000, dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.time_to_first_spike`: the same figures of one batch.
        - :class:`~snnmetrics.AccuracyOverTime`: accuracy when the outputs up to each step are read
          out.
        - :class:`~snnmetrics.SilentNeurons`: neurons that never spike in any sample.
    """

    is_differentiable = False
    shape_is = "preds: expected neuron shape"
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"time": "mean time to first spike"}
    drawn = ("time",)

    steps: Tensor
    spiking: Tensor
    never: Tensor
    right: Tensor
    labelled: Tensor

    def __init__(
        self,
        time_dim: int = 1,
        dt: float | None = None,
        *,
        per_neuron: bool = False,
        **metric_kwargs: Any,
    ) -> None:
        require_time_dim(time_dim, FIRST_SPIKE_NEEDS_ORDER)
        require_bool("per_neuron", per_neuron)
        seconds = None if dt is None else positive_number("dt", dt)
        super().__init__([time_dim, per_neuron], **metric_kwargs)
        self.time_dim = time_dim
        self.dt = seconds
        self.per_neuron = per_neuron
        for name in ("steps", "spiking", "never"):
            self.add_sum(name, shaped=per_neuron)
        for name in ("right", "labelled"):
            self.add_sum(name, shaped=False)

    def contribution(self, preds: Tensor, target: Tensor | None = None) -> Contribution:
        """Steps of first spikes and correct predictions of one batch."""
        sums, samples, shape = time_to_first_spike_update(
            preds, target, self.time_dim, self.per_neuron
        )
        require_same_device("preds", preds, self.samples.device)
        return Contribution(sums, samples, shape, value_dtype(preds))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means over pairs that spike, fractions of pairs that do not."""
        return time_to_first_spike_compute(**sums, dt=self.dt, per_neuron=self.per_neuron)

    @property
    def unit(self) -> str:
        """Unit of the times."""
        return "steps" if self.dt is None else "s"

    def axis_label(self, key: str = "") -> str:
        """Label of an axis, with the unit."""
        label = super().axis_label(key)
        return f"{label} [{self.unit}]" if key in self.drawn else label

    def _draw(self, value: dict[str, Tensor], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.histograms import neuron_histogram

        times = value.get("time_per_neuron")
        if times is None:
            return super()._draw(value, ax)
        label, mean = self.axis_label("time"), float(value["time"])
        return neuron_histogram(times, mean, ax, label=label, mean_of="all spikes", missing="never")


class EarlyExit(SNNMetric[dict[str, Tensor]]):
    """Mean number of steps and accuracy when each sample stops at a threshold of confidence.

    Formulas, rules and sources: :func:`snnmetrics.functional.early_exit`. With ``readout="mean"``
    the confidence is bounded for spikes in {0, 1}: 0.23 for ten classes.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``preds`` (:class:`~torch.Tensor`): spikes, potentials or scores of the output layer,
      ``(B, T, C)`` with C >= 2 and T >= 1; time is the dimension ``time_dim``, the others are batch
      and class. Any real dtype, dense or sparse COO. T may differ between batches.
    - ``target`` (:class:`~torch.Tensor`): class indices, ``(B,)``, of an integer dtype
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of ``preds``, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a dict, each entry 0-dim for one threshold and
    ``(K,)`` for K of them:

    - ``"steps"``: mean number of steps per sample, from 1 to T
    - ``"accuracy"``: fraction of samples predicted correctly at their exit

    Without spikes all classes are equally likely: a threshold above 1 / C gives T steps and
    accuracy 0. T = 1: 1 step for any threshold. NaN without samples.

    Args:
        threshold: Confidence at which inference stops, between 0 (the first step) and 1 (reached
            only if float64 rounds to it), or the gap; one number, or K numbers in any order for the
            curve. Kept as the buffer ``threshold``.
        time_dim: Dimension of ``preds`` that is time.
        readout: ``"mean"`` or ``"sum"`` of the outputs so far.
        rule: ``"confidence"`` or ``"gap"``.
        num_classes: Number of classes of a population code, as for :class:`AccuracyOverTime`.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``threshold`` or ``time_dim`` is of the wrong type.
        ValueError: If a threshold is out of range or ``readout`` or ``rule`` is unknown. By
            ``update`` and ``forward``, without changing the state: if shapes do not match, or, on
            the CPU, if ``preds`` is not finite or ``target`` is out of range (on accelerators
            ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> curve = sm.EarlyExit(threshold=[0.5, 0.9, 1.0])
        >>> scores = torch.tensor([[[0.0, 1.0], [0.0, 5.0], [0.0, 9.0]]])  # B=1, T=3, C=2
        >>> curve(scores, torch.tensor([1]))
        {'steps': tensor([1., 2., 3.]), 'accuracy': tensor([1., 1., 1.])}
        >>> curve.update(scores, torch.tensor([0]))
        >>> curve.compute()["accuracy"]
        tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.early_exit`: the same figures of one batch.
        - :class:`~snnmetrics.OptimalCutoff`: the earliest step that the labels allow.
        - :meth:`~snnmetrics.OpenBatch.until`: the synaptic operations up to the step at which each
          sample stops.
    """

    is_differentiable = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    plot_legend_name = "evaluation"
    axis_labels: ClassVar = {"steps": "mean number of time steps", "accuracy": "accuracy"}
    drawn = ("steps", "accuracy")

    threshold: Tensor
    steps: Tensor
    right: Tensor

    def __init__(
        self,
        threshold: float | Sequence[float] | Tensor,
        time_dim: int = 1,
        *,
        readout: ExitReadout = "mean",
        rule: ExitRule = "confidence",
        num_classes: int | None = None,
        **metric_kwargs: Any,
    ) -> None:
        require_time_dim(time_dim, EVIDENCE_NEEDS_ORDER)
        require_readout(readout, EXIT_READOUTS)
        require_rule(rule)
        classes = require_num_classes(num_classes)
        levels = as_threshold(threshold, rule)
        more: list[Any] = ([] if rule == "confidence" else [rule]) + _population(classes)
        super().__init__([levels, time_dim, readout, *more], levels.shape, **metric_kwargs)
        self.time_dim = time_dim
        self.readout: ExitReadout = readout
        self.rule: ExitRule = rule
        self.num_classes = classes
        self.register_buffer("threshold", levels, persistent=False)
        self.add_sum("steps", shaped=True)
        self.add_sum("right", shaped=True)
        if levels.device != self.samples.device:
            self.to(levels.device)  # keep thresholds from an accelerator there

    def contribution(self, preds: Tensor, target: Tensor) -> Contribution:
        """Steps and correct predictions of one batch at the exits of its samples."""
        steps, right, samples = early_exit_update(
            preds,
            target,
            self.threshold,
            self.time_dim,
            self.readout,
            self.rule,
            self.num_classes,
        )
        shape = tuple(self.threshold.shape)
        return Contribution({"steps": steps, "right": right}, samples, shape, value_dtype(preds))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means per sample."""
        return early_exit_compute(sums["steps"], sums["right"], samples)

    def _draw_all(self, values: Sequence[Any], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.curves import early_exit

        names = [f"{self.plot_legend_name} {i}" for i in range(1, len(values) + 1)]
        curves = {
            name: (value["steps"], value["accuracy"])
            for name, value in zip(names, values, strict=True)
        }
        return early_exit(curves, self.threshold, ax)
