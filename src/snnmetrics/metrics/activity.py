"""Metrics of layer activity: rates, sparsity, silent neurons, potential changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from snnmetrics.arguments import positive_number, require_bool, require_dim, require_time_dim
from snnmetrics.functional.activity import (
    CHANGES_NEED_ORDER,
    activation_sparsity_compute,
    activation_sparsity_update,
    as_potential,
    firing_rate_compute,
    membrane_updates_compute,
    membrane_updates_update,
    silent_neurons_compute,
    spike_count_update,
)
from snnmetrics.functional.inputs import require_same_device
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class FiringRate(SNNMetric[Any]):
    """Spikes per neuron and time step, or per neuron and second, over an epoch.

    Formula and definitions: :func:`snnmetrics.functional.firing_rate`, over all batches. Batches
    may differ in the number of samples and of steps; every element has the same weight.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or spike counts: batch, time (at
      ``time_dim``, unless it is None) and one or more neuron dimensions. Bool, integer or floating,
      dense or sparse COO. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch, with gradient; dtype of the activations, at least float32)
    and ``compute`` (the epoch over all ranks, float64) it returns a 0-dim tensor: the mean over
    samples, steps and neurons. With ``per_neuron`` it returns a dict of:

    - ``"firing_rate"``: 0-dim; this mean
    - ``"firing_rate_per_neuron"``: neuron shape; the mean over samples and steps

    Units: spikes per neuron and step; Hz with ``dt``. NaN without samples, steps or neurons.

    Args:
        time_dim: Dimension of the activations that is time; None: each update is one time step of
            its samples, as in a loop over time.
        dt: Seconds of one step; rates are then in Hz.
        per_neuron: Whether to keep and return the rate of each neuron, too.
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
        >>> rate = sm.FiringRate(dt=0.001)
        >>> rate.update(torch.tensor([[[1, 0], [1, 0], [0, 0], [1, 1]]]))  # B=1, T=4, 2 neurons
        >>> rate.update(torch.zeros(1, 12, 2))  # a longer recording weighs more
        >>> rate.compute()  # Hz
        tensor(125., dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.firing_rate`: the same figure of one batch.
        - :class:`~snnmetrics.SilentNeurons`: neurons without a spike, which a mean rate does not
          show.
        - :func:`~snnmetrics.plots.rate_histogram`: a figure of the rates of all neurons.
    """

    is_differentiable = True
    higher_is_better = False
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"": "firing rate", "firing_rate": "firing rate"}
    drawn = ("firing_rate",)

    spikes: Tensor
    counted_in: Tensor

    def __init__(
        self,
        time_dim: int | None = 1,
        dt: float | None = None,
        *,
        per_neuron: bool = False,
        **metric_kwargs: Any,
    ) -> None:
        if time_dim is not None:
            require_dim("time_dim", time_dim)
        require_bool("per_neuron", per_neuron)
        super().__init__([time_dim, per_neuron], **metric_kwargs)
        self.time_dim = time_dim
        self.dt = None if dt is None else positive_number("dt", dt)
        self.per_neuron = per_neuron
        self.add_sum("spikes", shaped=per_neuron)
        self.add_sum("counted_in", shaped=False)

    def contribution(self, activations: Tensor) -> Contribution:
        """Spikes of one batch, and the number of steps or elements to divide by."""
        spikes, counted_in, samples, shape = spike_count_update(
            activations, self.time_dim, self.per_neuron
        )
        require_same_device("activations", activations, self.samples.device)
        sums = {"spikes": spikes, "counted_in": counted_in}
        return Contribution(sums, samples, shape, value_dtype(activations))

    def result(
        self, sums: Mapping[str, Tensor], samples: int | Tensor
    ) -> Tensor | dict[str, Tensor]:
        """Rates over all batches."""
        return firing_rate_compute(sums["spikes"], sums["counted_in"], self.dt, self.per_neuron)

    @property
    def unit(self) -> str:
        """Unit of the rates."""
        return "1/step" if self.dt is None else "Hz"

    def axis_label(self, key: str = "") -> str:
        """Label of an axis, with the unit."""
        return f"{super().axis_label(key)} [{self.unit}]"

    def _draw(self, value: Any, ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.histograms import rate_histogram

        if isinstance(value, Tensor):
            return super()._draw(value, ax)
        return rate_histogram(value.get("firing_rate_per_neuron"), ax, unit=self.unit)


class ActivationSparsity(SNNMetric[Tensor]):
    """Fraction of activations that are zero, over an epoch.

    Formula and definition: :func:`snnmetrics.functional.activation_sparsity`, over the elements of
    all batches. Every element has the same weight: a layer's output may be given step by step, and
    several layers to one metric. NeuroBench takes the mean over batches weighted by samples: the
    same value if all samples have equally many elements.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or other activations, of any shape:
      dimensions have no meaning. Bool, integer or floating, dense or sparse COO. A batch without
      elements changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, of the length of the first
      dimension; entries with False are left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the activations, at least float32) and
    ``compute`` (the epoch over all ranks, float64) it returns a 0-dim tensor: 1 without an event, 0
    if all elements are nonzero, NaN without elements. It is not differentiable.

    Args:
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: By ``update`` and ``forward``: if ``activations`` is not a tensor.
        ValueError: By ``update`` and ``forward``, without changing the state: if the activations
            are complex or, on the CPU, not finite (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> sparsity = sm.ActivationSparsity()
        >>> sparsity.update(torch.tensor([[0, 0, 3, 0], [0, -1, 0, 0], [0, 0, 0, 0]]))
        >>> sparsity.update(torch.ones(1, 4))  # a short last batch weighs what it holds
        >>> sparsity.compute()
        tensor(0.6250, dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.activation_sparsity`: the same figure of one batch.
        - :func:`~snnmetrics.connection_sparsity`: zeros among the weights.
        - :class:`~snnmetrics.report.LayerRow`: ``input_sparsity`` of each layer of a model.

    """

    is_differentiable = False
    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    axis_labels: ClassVar = {"": "activation sparsity"}

    events: Tensor

    def __init__(self, **metric_kwargs: Any) -> None:
        super().__init__([], **metric_kwargs)
        self.add_sum("events", shaped=False)

    def _batch_dim(self, name: str, activations: Tensor) -> int:
        if not activations.ndim:
            raise ValueError(f"{name}: expected a dimension for the mask, found shape ()")
        return 0

    def contribution(self, activations: Tensor) -> Contribution:
        """Events of one batch. Every element is a sample; batches may differ in shape."""
        events, elements = activation_sparsity_update(activations)
        require_same_device("activations", activations, self.samples.device)
        return Contribution({"events": events}, elements, (), value_dtype(activations))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> Tensor:
        """Fraction of elements without event."""
        return activation_sparsity_compute(sums["events"], samples)


class SilentNeurons(SNNMetric[dict[str, Tensor]]):
    """Fractions of neurons that never spike, and that spike at every step, over an epoch.

    Formula and definitions: :func:`snnmetrics.functional.silent_neurons`, over all samples and
    steps of the epoch. Fewer neurons are silent over more data: the value of an epoch is not the
    mean over its batches.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or spike counts: batch, time (at
      ``time_dim``, unless it is None) and one or more neuron dimensions. Magnitudes count. Bool,
      integer or floating, dense or sparse COO. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch) and ``compute`` (the epoch over all ranks) it returns a
    dict of:

    - ``"silent_fraction"``, ``"saturated_fraction"``: 0-dim; in ``compute`` float64, in ``forward``
      of the dtype of the activations, at least float32
    - ``"silent"``, ``"saturated"``: bool, neuron shape; True for such neurons (only with
      ``per_neuron``)

    Without samples, steps or neurons the fractions are NaN and the maps False. They are not
    differentiable.

    Args:
        time_dim: Dimension of the activations that is time; None: each update is one time step of
            its samples, as in a loop over time.
        saturation: Smallest rate, in spikes per step, of a saturated neuron.
        per_neuron: Whether to return maps of silent and saturated neurons, too.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``saturation`` is not positive and finite. By ``update`` and ``forward``,
            without changing the state: if the rank is wrong or the neuron shape differs from
            earlier batches, if the activations are complex or, on the CPU, not finite (on
            accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> neurons = sm.SilentNeurons(per_neuron=True)
        >>> neurons.update(torch.tensor([[[1, 0, 0, 0], [1, 0, 0, 0]]]))  # B=1, T=2, 4 neurons
        >>> neurons.update(torch.tensor([[[1, 0, 1, 0], [1, 0, 0, 0]]]))
        >>> value = neurons.compute()
        >>> value["silent_fraction"].item(), value["saturated_fraction"].item()
        (0.5, 0.25)
        >>> value["silent"]
        tensor([False,  True, False,  True])

    See Also:
        - :func:`~snnmetrics.functional.silent_neurons`: the same figures of one batch.
        - :class:`~snnmetrics.FiringRate`: the rate of each neuron.
        - :class:`~snnmetrics.MembraneStatistics`: how far potentials are from the threshold.
        - :class:`~snnmetrics.GradientStatistics`: whether gradients reach the neurons.
    """

    is_differentiable = False
    higher_is_better = False
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    axis_labels: ClassVar = dict.fromkeys(
        ("silent_fraction", "saturated_fraction"), "fraction of neurons"
    )
    drawn = ("silent_fraction", "saturated_fraction")

    spikes: Tensor
    steps: Tensor

    def __init__(
        self,
        time_dim: int | None = 1,
        saturation: float = 1.0,
        *,
        per_neuron: bool = False,
        **metric_kwargs: Any,
    ) -> None:
        if time_dim is not None:
            require_dim("time_dim", time_dim)
        require_bool("per_neuron", per_neuron)
        super().__init__([time_dim], **metric_kwargs)
        self.time_dim = time_dim
        self.saturation = positive_number("saturation", saturation)
        self.per_neuron = per_neuron
        self.add_sum("spikes", shaped=True)
        self.add_sum("steps", shaped=False)

    def contribution(self, activations: Tensor) -> Contribution:
        """Spikes per neuron of one batch, and its steps."""
        spikes, steps, samples, shape = spike_count_update(
            activations, self.time_dim, per_neuron=True
        )
        require_same_device("activations", activations, self.samples.device)
        sums = {"spikes": spikes, "steps": steps}
        return Contribution(sums, samples, shape, value_dtype(activations))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Fractions over all batches, and maps of neurons if requested."""
        return silent_neurons_compute(
            sums["spikes"], sums["steps"], self.saturation, self.per_neuron
        )


class MembraneUpdates(SNNMetric[Tensor]):
    """Number of changes of membrane potentials, as a mean per sample of an epoch.

    Formula, the two rules for the first step and their sources:
    :func:`snnmetrics.functional.membrane_updates`. A processor that updates every neuron at every
    step makes neurons times steps updates for any values.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``potentials`` (:class:`~torch.Tensor`): membrane potential after each step: batch, time (at
      ``time_dim``) and one or more neuron dimensions. Each batch begins with a first step. Bool,
      integer or floating; sparse COO is made dense. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the potentials, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a 0-dim tensor: changes per sample of all neurons
    of the layer. 0 without steps or neurons; NaN without samples (NeuroBench: 0). It is not
    differentiable.

    Args:
        time_dim: Dimension of the potentials that is time.
        initial: Potential before the first step, for the strict rule; compared in the dtype of the
            potentials if that is floating.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``initial`` is not finite. By ``update`` and ``forward``, without changing
            the state: if the rank is wrong or the neuron shape differs from earlier batches, if the
            potentials are complex or, on the CPU, not finite (on accelerators ``compute`` raises
            then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> updates = sm.MembraneUpdates()
        >>> potentials = torch.tensor([[[0.0, 0.3], [0.5, 0.3], [0.0, 0.3]]])  # B=1, T=3, 2 neurons
        >>> updates.update(potentials)  # both at first, then one twice
        >>> updates.update(torch.zeros(1, 3, 2))  # both at first
        >>> updates.compute()
        tensor(3., dtype=torch.float64)

    See Also:
        - :func:`~snnmetrics.functional.membrane_updates`: the same figure of one batch.
        - :class:`~snnmetrics.MembraneStatistics`: the values of the potentials.
        - :func:`~snnmetrics.conventions.neurobench_row`: the row of a NeuroBench benchmark, which
          has this figure.
    """

    is_differentiable = False
    higher_is_better = False
    shape_is = "potentials: expected neuron shape"
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"": "membrane updates per sample"}

    updates: Tensor

    def __init__(
        self, time_dim: int = 1, *, initial: float | None = None, **metric_kwargs: Any
    ) -> None:
        require_time_dim(time_dim, CHANGES_NEED_ORDER)
        initial = None if initial is None else as_potential("initial", initial)
        super().__init__([time_dim, initial], **metric_kwargs)
        self.time_dim = time_dim
        self.initial = initial
        self.add_sum("updates", shaped=False)

    def contribution(self, potentials: Tensor) -> Contribution:
        """Changes of the potentials of one batch."""
        updates, samples, shape = membrane_updates_update(potentials, self.time_dim, self.initial)
        require_same_device("potentials", potentials, self.samples.device)
        return Contribution({"updates": updates}, samples, shape, value_dtype(potentials))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> Tensor:
        """Changes per sample."""
        return membrane_updates_compute(sums["updates"], samples)
