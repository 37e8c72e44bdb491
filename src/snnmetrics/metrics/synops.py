"""``SynOps``: synaptic operations of one layer over an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from snnmetrics.arguments import positive_number, require_bool, require_dim
from snnmetrics.functional.operations import as_fanout, synops_compute, synops_update
from snnmetrics.metrics.base import Contribution, SNNMetric, value_dtype

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class SynOps(SNNMetric[dict[str, Tensor]]):
    """Synaptic operations caused by the spikes of a layer, per neuron and in total.

    Formula and source: :func:`snnmetrics.functional.synops`, over the samples of all batches.
    Counts are exact up to 2**53 for any dtype of the activations, cast of the model, batch size and
    number of ranks.

    As input to ``forward`` and ``update`` the metric accepts:

    - ``activations`` (:class:`~torch.Tensor`): spikes or spike counts, ``(B, *neuron_shape)``; with
      ``time_dim`` one further dimension, anywhere, which is summed. Bool, integer or floating,
      dense or sparse COO. A batch without samples changes nothing.
    - ``mask`` (:class:`~torch.Tensor`, by name, optional): bool, ``(B,)``; samples with False are
      left out as if they had not been in the batch

    As output of ``forward`` (this batch, with gradient, dtype of the activations but at least
    float32) and ``compute`` (the epoch over all ranks, float64) it returns a dict of:

    - ``"synops_per_neuron"``: neuron shape; operations per sample of each neuron (unless
      ``per_neuron=False``)
    - ``"synops"``: 0-dim; operations per sample of the layer
    - ``"synops/s"``: 0-dim; operations per second of the layer (only with ``sample_time``)

    The gradient of a batch value is that of :func:`snnmetrics.functional.synops`.

    Args:
        fanout: Synapses per neuron: one number for all, or a tensor of the neuron shape, exact for
            a given layer from :func:`snnmetrics.fanout`. Kept as the buffer ``fanout``.
        sample_time: Duration of one sample in seconds; adds ``"synops/s"``.
        time_dim: Dimension of the activations that is time. Magnitudes are taken before the sum.
        per_neuron: Whether to keep and return the map per neuron, or scalars only.
        metric_kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``fanout``, ``sample_time`` or ``time_dim`` has the wrong type, for example a
            layer instead of its fan-out map.
        ValueError: If ``fanout`` is negative or not finite, or ``sample_time`` is not positive. By
            ``update`` and ``forward``, without changing the state: if the rank or neuron shape is
            wrong or differs from earlier batches, if the activations are complex or, on the CPU,
            not finite (on accelerators ``compute`` raises then).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> conv = torch.nn.Conv2d(1, 8, kernel_size=3, padding=1)
        >>> synops = sm.SynOps(fanout=sm.fanout(conv, (1, 4, 4)))
        >>> spikes = torch.zeros(2, 1, 4, 4)
        >>> spikes[0, 0, 0, 0] = 1  # a corner: 4 of 9 taps lie inside, times 8 channels
        >>> spikes[1, 0, 1, 1] = 1  # the middle: 9 taps
        >>> synops(spikes)["synops"]  # this batch
        tensor(52.)
        >>> synops.compute()["synops"]  # all batches since the last reset
        tensor(52., dtype=torch.float64)
        >>> synops.compute()["synops_per_neuron"].shape
        torch.Size([1, 4, 4])

    See Also:
        - :func:`~snnmetrics.functional.synops`: the same figures of one batch.
        - :func:`~snnmetrics.fanout`: the exact fan-out of a layer.
        - :class:`~snnmetrics.Monitor`: synaptic operations of all layers of a model.
        - :class:`~snnmetrics.ScalarView`: one entry of the dict, for a logger.
    """

    is_differentiable = True
    higher_is_better = False
    plot_lower_bound = 0.0
    axis_labels: ClassVar = {"synops": "synops per sample", "synops/s": "synops per second"}
    drawn = ("synops",)

    fanout: Tensor
    synops: Tensor

    def __init__(
        self,
        fanout: float | Tensor,
        sample_time: float | None = None,
        *,
        time_dim: int | None = None,
        per_neuron: bool = True,
        **metric_kwargs: Any,
    ) -> None:
        if time_dim is not None:
            require_dim("time_dim", time_dim)
        require_bool("per_neuron", per_neuron)
        map_ = as_fanout(fanout)
        shape = map_.shape if map_.ndim else None
        super().__init__([map_, time_dim, per_neuron], shape, **metric_kwargs)
        self.sample_time = (
            None if sample_time is None else positive_number("sample_time", sample_time)
        )
        self.time_dim = time_dim
        self.per_neuron = per_neuron
        self.register_buffer("fanout", map_, persistent=False)
        self.add_sum("synops", shaped=per_neuron)
        if map_.device != self.samples.device:
            self.to(map_.device)  # keep a map from an accelerator there

    def contribution(self, activations: Tensor) -> Contribution:
        """Synaptic operations of one batch, summed over its samples."""
        fanout = self.fanout
        if fanout.is_inference() and torch.is_grad_enabled():
            fanout = fanout.clone()  # metric copied or moved in inference mode
        summed, samples, shape = synops_update(activations, fanout, self.time_dim, self.per_neuron)
        return Contribution({"synops": summed}, samples, shape, value_dtype(activations))

    def result(self, sums: Mapping[str, Tensor], samples: int | Tensor) -> dict[str, Tensor]:
        """Means per sample."""
        return synops_compute(sums["synops"], samples, self.sample_time, self.per_neuron)

    def _draw(self, value: dict[str, Tensor], ax: Axes | None) -> tuple[Figure, Axes]:
        from snnmetrics.plots.maps import synops_map

        map_ = value.get("synops_per_neuron")
        return super()._draw(value, ax) if map_ is None else synops_map(map_, ax)
