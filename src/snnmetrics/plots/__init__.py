"""Plots of metrics and reports, for papers and notebooks. They need the extra ``plots``.

Every function draws plain data on axes and returns ``(figure, axes)``; ``plot`` of a metric or a
report calls the matching one. Colours suit colour-blind readers and print. All elements can be
changed on the returned axes.

Example:
    >>> import torch
    >>> from snnmetrics import plots
    >>> figure, ax = plots.raster(torch.eye(4))
    >>> ax.get_ylabel()
    'neuron'
"""

from snnmetrics.plots.bars import conventions, layer_bars
from snnmetrics.plots.curves import accuracy_over_time, pareto
from snnmetrics.plots.histograms import rate_histogram, sample_spread
from snnmetrics.plots.maps import synops_map
from snnmetrics.plots.spikes import raster
from snnmetrics.plots.steps import core_loads, over_steps

__all__ = [
    "accuracy_over_time",
    "conventions",
    "core_loads",
    "layer_bars",
    "over_steps",
    "pareto",
    "raster",
    "rate_histogram",
    "sample_spread",
    "synops_map",
]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
