"""Metrics of membrane potentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from snnmetrics.arguments import number_range, require_bool, require_dim
from snnmetrics.functional.inputs import require_same_device
from snnmetrics.functional.membrane import (
    histogram_edges,
    membrane_statistics_compute,
    membrane_statistics_update,
    require_bins,
)
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MembraneStatistics(SNNMetric[dict[str, Tensor]]):
    """Distribution of membrane potentials over an epoch, and the share inside a window.

    Formulas, sources and the choice of ``window``:
    :func:`snnmetrics.functional.membrane_statistics`, over the potentials of all batches.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``potentials`` (:class:`~torch.Tensor`): membrane potentials: batch, time (at ``time_dim``,
      unless it is None) and one or more neuron dimensions. Bool, integer or floating; sparse COO is
      made dense. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch; dtype of the potentials, at least float32) and ``compute``
    (the epoch over all ranks, float64) it returns a dict of:

    - ``"mean"``, ``"std"``: 0-dim; mean and population standard deviation, in the unit of the
      potentials
    - ``"in_window"``: 0-dim; share of potentials in the window, bounds included
    - ``"histogram"``: ``(bins + 2,)``; share of potentials below the first of ``edges``, in each
      bin, and above the last edge, with sum 1
    - ``"mean_per_neuron"``, ``"std_per_neuron"``, ``"in_window_per_neuron"``: neuron shape (only
      with ``per_neuron``)

    NaN without samples, steps or neurons. They are not differentiable. The edges depend only on the
    arguments, so that histograms of batches and ranks add up.

    Args:
        time_dim: Dimension of the potentials that is time; None: each update is one time step of
            its samples, as in a loop over time.
        window: Lower and upper bound, both included.
        bins: Number of bins of equal width, from 1 to 65,536.
        range: First and last edge of the bins; by default the window, extended by its own width on
            both sides, so that a multiple of three bins has edges at the bounds of the window.
        per_neuron: Whether to keep and return the maps per neuron, too.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Attributes:
        edges: Edges of the bins, ``(bins + 1,)``, float64; a buffer.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If bounds are not finite or not in order, or ``bins`` is out of range. By
            ``update`` and ``forward``, without changing the state: if the rank is wrong or the
            neuron shape differs from earlier batches, if the potentials are complex or, on the CPU,
            not finite, or if their squares overflow float64 (on accelerators ``compute`` raises
            then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> membrane = sm.MembraneStatistics(window=(0.5, 1.5), bins=3)
        >>> membrane.update(torch.tensor([[[0.5, -1.0], [1.0, 2.0]]]))  # B=1, T=2, 2 neurons
        >>> membrane.update(torch.tensor([[[0.0, 0.0], [1.5, 4.0]]]))
        >>> value = membrane.compute()
        >>> value["mean"].item(), value["in_window"].item()
        (1.0, 0.375)
        >>> membrane.edges.tolist()
        [-0.5, 0.5, 1.5, 2.5]
        >>> (value["histogram"] * 8).tolist()  # below, three bins, above
        [1.0, 2.0, 2.0, 2.0, 1.0]

    See Also:
        - :func:`~snnmetrics.functional.membrane_statistics`: the same figures of one batch.
        - :class:`~snnmetrics.GradientStatistics`: gradients at the inputs of the neurons.
        - :class:`~snnmetrics.SilentNeurons`: neurons that never spike.
        - :class:`~snnmetrics.Monitor`: ``probes`` updates this metric while a model runs.
    """

    is_differentiable = False
    shape_is = "potentials: expected neuron shape"
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    axis_labels: ClassVar = {
        "in_window": "share of potentials in the window",
        "mean": "mean membrane potential",
        "std": "standard deviation of membrane potentials",
    }
    drawn = ("in_window",)

    counted_in: Tensor
    inside: Tensor
    histogram: Tensor
    deviations: Tensor
    potentials: Tensor
    edges: Tensor

    def __init__(
        self,
        time_dim: int | None = 1,
        window: tuple[float, float] = (0.0, 1.0),
        *,
        bins: int = 30,
        range: tuple[float, float] | None = None,
        per_neuron: bool = False,
        **metric_kwargs: Any,
    ) -> None:
        if time_dim is not None:
            require_dim("time_dim", time_dim)
        window = number_range("window", window)
        bins = require_bins(bins)
        if range is not None:
            range = number_range("range", range)
        require_bool("per_neuron", per_neuron)
        edges = histogram_edges(window, bins, range)
        super().__init__([time_dim, window, edges, per_neuron], **metric_kwargs)
        self.time_dim = time_dim
        self.window = window
        self.per_neuron = per_neuron
        self.register_buffer("edges", edges, persistent=False)
        self.add_sum("counted_in", shaped=False)
        self.add_sum("inside", shaped=per_neuron)
        self.add_sum("histogram", shaped=False, size=(bins + 2,))
        self.add_sum("deviations", shaped=per_neuron)
        self.add_sum("potentials", shaped=per_neuron, signed=True)

    def contribution(self, potentials: Tensor) -> Contribution:
        """Sums and histogram of the potentials of one batch."""
        if isinstance(potentials, Tensor):
            require_same_device("potentials", potentials, self.samples.device)
        sums, samples, shape = membrane_statistics_update(
            potentials, self.time_dim, self.window, self.edges, self.per_neuron
        )
        return Contribution(sums, samples, shape, value_dtype(potentials))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means and shares over all batches."""
        return membrane_statistics_compute(**sums, window=self.window, per_neuron=self.per_neuron)

    def _draw(self, value: dict[str, Tensor], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.histograms import potential_histogram

        return potential_histogram(value["histogram"], self.edges, self.window, ax)
