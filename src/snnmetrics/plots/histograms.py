"""Histograms of a quantity over neurons or over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnmetrics.extras import optional_module
from snnmetrics.plots.canvas import (
    BLACK,
    BLUE,
    GREY,
    SKY,
    VERMILLION,
    canvas,
    despine,
    legend_above,
    log_label,
    shown,
    tick,
    whole_axis,
)
from snnmetrics.plots.data import Budget, ReportData, Spread, Spreads, require_report
from snnmetrics.text import percent, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture

_MOST_BARS = 32


def rate_histogram(
    rates: Tensor | None, ax: Axes | None = None, *, unit: str = "1/step"
) -> Picture:
    """Draw the number of neurons by firing rate, on a logarithmic axis.

    Rates spread over orders of magnitude. Neurons that never spike have their own bar at 0, which a
    logarithmic axis lacks.

    Args:
        rates: Firing rate of each neuron, of any shape: ``firing_rate_per_neuron`` of
            ``FiringRate(per_neuron=True)`` or of a row of neurons in a report.
        ax: Axes to draw on; by default a new figure.
        unit: Unit of the rates, for the axis.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``rates`` is not a tensor.
        ValueError: If it is None (a report without maps), is empty, or holds invalid rates.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> from snnmetrics import plots
        >>> figure, ax = plots.rate_histogram(torch.tensor([0.0, 0.0, 0.1, 0.2, 0.9]))
        >>> float(sum(bar.get_height() for bar in ax.patches))
        5.0

    See Also:
        - :class:`~snnmetrics.FiringRate`: computes the rates.
        - :class:`~snnmetrics.SilentNeurons`: the neurons without a spike.
    """
    if rates is None:
        raise ValueError(
            "rates: expected the firing rate of each neuron, found None: keep maps with "
            "Monitor(..., per_neuron=True) or FiringRate(..., per_neuron=True)"
        )
    if not isinstance(rates, Tensor):
        raise TypeError(f"rates: expected a tensor, found {type(rates).__name__}")
    rates = rates.detach().cpu().double().flatten()
    if not rates.numel() or not bool(((rates >= 0) & rates.isfinite()).all()):
        raise ValueError(
            "rates: expected finite rates >= 0 of at least one neuron, found "
            + ("others" if rates.numel() else "none")
        )
    figure, ax = canvas(ax)
    spiking = rates[rates > 0]
    edges = _log_edges(spiking)
    # A bin includes its lower edge; the last bin both edges.
    numbers = torch.bucketize(spiking, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    counts = torch.bincount(numbers, minlength=max(0, len(edges) - 1)).tolist()
    silent = len(rates) - len(spiking)
    label = f"silent: {silent} of {len(rates)} neurons"
    _log_bars(ax, edges, counts, silent, label)
    ax.set(xlabel=f"firing rate [{unit}]", ylabel="neurons")
    log_label(ax)
    return figure, ax


def sample_spread(
    report: ReportData, name: str = "total", limit: Budget | None = None, ax: Axes | None = None
) -> Picture:
    """Draw the distribution of synops over samples, with their limit.

    Args:
        report: A report with figures of samples: ``Monitor(..., per_sample=True)``.
        name: Name of a layer, of a group, or ``"total"``.
        limit: Budget to draw as a line, beside the statistic that it limits; with
            ``synops_per_second``, figures per second are drawn.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``report`` is not a report, or ``limit`` is not a :class:`snnmetrics.Limit`.
        ValueError: If the name is unknown, the report lacks figures of samples, or the limit
            applies to single time steps or to two figures.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics import plots
        >>> monitor = sm.Monitor(torch.nn.Linear(40, 3), batch_dim=0, per_sample=True)
        >>> report = monitor.run([(torch.rand(64, 40) < 0.2).float()])
        >>> figure, ax = plots.sample_spread(report, limit=sm.Limit(synops=30, statistic="p99"))
        >>> float(sum(bar.get_height() for bar in ax.patches))
        64.0

    See Also:
        - :class:`~snnmetrics.report.Distribution`: the data of the figure.
        - :meth:`~snnmetrics.Report.check`: compares a report with limits.
    """
    require_report(report)
    figure_name, most = _limit_of(limit)
    spread = _spread_of(report, name, figure_name)
    figure, ax = canvas(ax)
    edges, counts = spread.bars(_MOST_BARS)
    label = f"none: {spread.zeros} of {spread.samples} samples"
    _log_bars(ax, edges, counts, spread.zeros, label, most)
    statistic = "p99" if limit is None else limit.statistic
    marks = {"mean": spread.mean}
    if statistic != "mean":
        marks[statistic] = (
            spread.largest if statistic == "max" else spread.percentile(int(statistic[1:]))
        )
    for (what, value), style in zip(marks.items(), ("--", "-."), strict=False):
        if value > 0:
            ax.axvline(value, color=BLACK, linestyle=style, label=f"{what}: {si(value)}")
    if most is not None:
        ax.axvline(most, color=VERMILLION, linewidth=2.5, label=f"limit of {statistic}: {si(most)}")
    unit = "synops per sample" if figure_name == "synops" else "synops per second, of each sample"
    ax.set(xlabel=f"{unit} ({shown(name)})", ylabel="samples")
    log_label(ax)
    legend_above(ax, 2)
    return figure, ax


def neuron_histogram(
    values: Tensor, mean: float, ax: Axes | None = None, *, label: str, mean_of: str, missing: str
) -> Picture:
    """Draw the number of neurons by a figure of each neuron, and the mean.

    Args:
        values: Figure of each neuron; NaN values are left out and their number is shown.
        mean: The mean to mark.
        ax: Axes to draw on; by default a new figure.
        label: Label of the axis, with the unit.
        mean_of: Set over which the mean was taken.
        missing: Text for neurons without a figure.

    Returns:
        The figure and its axes.
    """
    values = values.detach().cpu().double().flatten()
    known = values[~values.isnan()]
    figure, ax = canvas(ax)
    if len(known):
        ax.hist(known.numpy(), bins=_bins(len(known)), color=SKY, edgecolor=BLUE)
        ax.axvline(mean, color=BLACK, linestyle="--", label=f"mean of {mean_of}: {mean:.4g}")
    without = len(values) - len(known)
    ax.plot([], [], " ", label=f"{missing}: {without} of {len(values)} neurons")
    ax.set(xlabel=label, ylabel="neurons")
    whole_axis(ax.yaxis)
    despine(ax)
    legend_above(ax, 2)
    return figure, ax


def potential_histogram(
    shares: Tensor, edges: Tensor, window: tuple[float, float], ax: Axes | None = None
) -> Picture:
    """Draw the distribution of membrane potentials, and the window.

    Args:
        shares: ``(bins + 2,)``: below the first edge, in each bin, above the last edge.
        edges: ``(bins + 1,)``.
        window: Lower and upper bound, shaded.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.
    """
    below, *inside, above = shares.detach().cpu().double().tolist()
    figure, ax = canvas(ax)
    ax.axvspan(*window, color=GREY, alpha=0.35, linewidth=0, label="window")
    ax.stairs(inside, edges.detach().cpu().double().tolist(), fill=True, color=SKY, ec=BLUE)
    ax.plot([], [], " ", label=f"below: {percent(below)}, above: {percent(above)}")
    ax.set(xlabel="membrane potential", ylabel="share of potentials")
    ax.set_ylim(bottom=0)
    despine(ax)
    legend_above(ax, 2)
    return figure, ax


def _limit_of(limit: Budget | None) -> tuple[str, float | None]:
    """Figure and value of a limit."""
    if limit is None:
        return "synops", None
    if not isinstance(limit, Budget):
        raise TypeError(f"limit: expected a Limit, found {type(limit).__name__}")
    if limit.statistic == "peak_step":
        raise ValueError(
            "limit: expected a limit per sample, found one per time step ('peak_step'), "
            "of which the report keeps only the largest"
        )
    given = [f for f in ("synops", "synops_per_second") if getattr(limit, f) is not None]
    if len(given) != 1:
        raise ValueError(f"limit: expected synops or synops_per_second, found both: {limit}")
    return given[0], float(getattr(limit, given[0]))


def _spread_of(report: ReportData, name: str, figure: str) -> Spread:
    sources: dict[str, Spreads]
    sources = {"total": report, **report.groups_data, **report.layers_data}
    if name not in sources:
        raise ValueError(f"name: expected one of {list(sources)}, found {name!r}")
    source = sources[name]
    spread = source.per_sample if figure == "synops" else source.per_second
    if spread is None or not spread.samples:
        how = (
            "Monitor(..., per_sample=True)"
            if figure == "synops"
            else "Monitor(..., per_sample=True, dt=...) or batch(seconds=...)"
        )
        raise ValueError(
            f"report: expected {figure} of each sample of '{name}', found none: keep them with "
            f"{how}; analog layers have none"
        )
    return spread


def _bins(values: int) -> int:
    """Number of bars for a number of values."""
    return min(_MOST_BARS, max(5, math.ceil(2 * math.sqrt(values))))


def _log_edges(values: Tensor) -> list[float]:
    """Edges of bins of equal width on a logarithmic axis that cover all values."""
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [low / 1.1, high * 1.1]
    bins = _bins(len(values))
    inner = [low * (high / low) ** (i / bins) for i in range(1, bins)]
    return [low, *inner, high]


def _log_bars(
    ax: Axes,
    edges: Sequence[float],
    counts: Sequence[float],
    zeros: int,
    zeros_label: str,
    further: float | None = None,
) -> None:
    """Draw bars on a logarithmic axis, and a separate bar for zeros."""
    if not edges:
        ax.bar([0], [zeros], width=0.4, color=GREY, hatch="..", edgecolor=BLACK, label=zeros_label)
        ax.set_xlim(-1, 1)
        ax.set_xticks([0], ["0"])
    else:
        widths = [b - a for a, b in pairwise(edges)]
        ax.set_xscale("log")
        ax.bar(
            edges[:-1], counts, width=widths, align="edge", color=SKY, edgecolor=BLUE, linewidth=0.8
        )
        low = min(edges[0], further or edges[0])
        high = max(edges[-1], further or edges[-1])
        beyond = max((high / low) ** 0.06, 1.02 if len(counts) > 1 else 1.25)
        left, at = low / beyond, []
        if zeros:
            at = [low / beyond**2]
            left = low / beyond**3
            ends = (at[0] / beyond**0.5, at[0] * beyond**0.5)
            ax.bar(
                [ends[0]],
                [zeros],
                width=[ends[1] - ends[0]],
                align="edge",
                color=GREY,
                hatch="..",
                edgecolor=BLACK,
                linewidth=0.8,
                label=zeros_label,
            )
        ax.set_xlim(left, high * beyond)
        _log_ticks(ax, low, high, at)
    if zeros:
        legend_above(ax, 1)
    whole_axis(ax.yaxis)
    despine(ax)


def _log_ticks(ax: Axes, low: float, high: float, zero: Sequence[float]) -> None:
    """Few round tick numbers on a logarithmic axis of any length."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [
        [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        for multiples in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
    ]
    ticks = next((found for found in choices if len(found) <= 7), choices[-1])
    ticks = ticks[:: max(1, -(-len(ticks) // 7))]
    if high / low < 1.25:  # about one bar
        ticks = [math.sqrt(low * high)]
    elif len(ticks) < 3:
        ticker = optional_module("matplotlib.ticker", extra="plots")
        ticks = [t for t in ticker.MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    ax.set_xticks([*zero, *ticks], [*("0" for _ in zero), *map(tick, ticks)])
    ax.set_xticks([], minor=True)
