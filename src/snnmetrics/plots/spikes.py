"""The raster of spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from snnmetrics.arguments import positive_number, require_dim
from snnmetrics.plots.canvas import BLACK, VERMILLION, canvas, despine, legend_above, whole_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture

# Number of marks above which a vector graphic would open slowly: they are rasterised.
_MANY = 20_000


def raster(
    spikes: Tensor, ax: Axes | None = None, *, time_dim: int = 0, dt: float | None = None
) -> Picture:
    """Spikes of each neuron over the steps of one sample.

    One mark per event of any value; negative spikes have another mark. Steps count from 1, and with
    ``dt`` a spike is drawn at the end of its step, as in
    :class:`snnmetrics.TimeToFirstSpike`.

    Args:
        spikes: Spikes of one sample, ``(T, *neuron_shape)``; neurons are drawn in memory order.
        ax: Axes to draw on; by default a new figure.
        time_dim: Dimension of ``spikes`` that is time.
        dt: Seconds of one step; the axis is then in seconds.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``spikes`` is not a tensor or ``time_dim`` is not an integer.
        ValueError: If the time dimension does not exist, neuron dimensions, steps or neurons are
            missing, or ``dt`` is not positive.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> from snnmetrics import plots
        >>> figure, ax = plots.raster(torch.tensor([[1, 0], [0, 1], [0, 1]]))  # T=3, 2 neurons
        >>> ax.lines[0].get_xdata().tolist(), ax.lines[0].get_ydata().tolist()
        ([1, 2, 3], [0, 1, 1])

    See Also:
        - :class:`~snnmetrics.FiringRate`: the mean of these spikes.
        - :class:`~snnmetrics.IntervalStatistics`: the irregularity of the trains.
    """
    if not isinstance(spikes, Tensor):
        raise TypeError(f"spikes: expected a tensor, found {type(spikes).__name__}")
    require_dim("time_dim", time_dim)
    step = 1 if dt is None else positive_number("dt", dt)
    if not -spikes.ndim <= time_dim < spikes.ndim or spikes.ndim < 2 or not spikes.numel():
        raise ValueError(
            "spikes: expected (T, *neuron_shape) of one sample with a step and a neuron, "
            f"found shape {tuple(spikes.shape)} for time_dim={time_dim}"
        )
    if spikes.is_sparse:
        spikes = spikes.to_dense()
    spikes = spikes.detach().cpu().movedim(time_dim, 0).flatten(1)
    steps, neurons = spikes.shape
    figure, ax = canvas(ax)
    _marks(ax, spikes, step)
    ax.set(
        xlabel="time step" if dt is None else "time [s]",
        ylabel="neuron",
        xlim=(0.5 * step, (steps + 0.5) * step),
        ylim=(-0.5, neurons - 0.5),
    )
    whole_axis(ax.yaxis)
    if dt is None:
        whole_axis(ax.xaxis)
    despine(ax)
    return figure, ax


def _marks(ax: Axes, spikes: Tensor, step: float) -> None:
    """Draw one mark per event of ``(T, neurons)``, as high as a row if that is visible."""
    points = 72 * ax.get_window_extent().height / ax.figure.dpi
    size = min(8.0, max(1.0, 0.8 * points / spikes.shape[1]))
    for chosen, color, marker, label in (
        (spikes > 0, BLACK, "|", "positive"),
        (spikes < 0, VERMILLION, "x", "negative"),
    ):
        at, neuron = chosen.nonzero(as_tuple=True)
        if label == "positive" or len(at):
            ax.plot(
                ((at + 1) * step).numpy(),
                neuron.numpy(),
                linestyle="none",
                color=color,
                marker=marker,
                markersize=size if marker == "|" else 0.6 * size,
                label=label,
                rasterized=len(at) > _MANY,
            )
    if bool((spikes < 0).any()):
        legend_above(ax, 2)
