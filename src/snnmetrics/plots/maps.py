"""Maps of figures over the neurons of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from snnmetrics.plots.canvas import BLUE, MAP, canvas, despine, si_axis, whole_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture

# Largest ratio of rows to columns, or the reverse, at which neurons are drawn as squares.
_NARROWEST = 4


def synops_map(values: Tensor | None, ax: Axes | None = None) -> Picture:
    """Synaptic operations of each neuron, at its position.

    Neurons in two or more dimensions are a heat map over the last two (rows and columns), summed
    over the others, such as channels. Neurons in one dimension are a step line in their order.

    Args:
        values: Synops per sample of each neuron: ``synops_per_neuron`` of a layer in a report, or
            of the result of ``SynOps``.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``values`` is not a tensor.
        ValueError: If it is None (a report without maps), or lacks neuron dimensions or neurons.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> from snnmetrics import plots
        >>> figure, ax = plots.synops_map(torch.ones(8, 4, 4))  # channels, rows, columns
        >>> float(ax.images[0].get_array()[0, 0])
        8.0

    See Also:
        - :class:`~snnmetrics.SynOps`: computes the synaptic operations of each neuron.
        - :func:`~snnmetrics.fanout`: the fan-out of each neuron.
    """
    if values is None:
        raise ValueError(
            "values: expected a map of synops per neuron, found None: keep maps with "
            "Monitor(..., per_neuron=True) or SynOps(..., per_neuron=True); analog layers have none"
        )
    if not isinstance(values, Tensor):
        raise TypeError(f"values: expected a tensor, found {type(values).__name__}")
    if not values.ndim or not values.numel():
        raise ValueError(
            f"values: expected a map of synops per neuron, found shape {tuple(values.shape)}"
        )
    values = values.detach().cpu().double()
    figure, ax = canvas(ax)
    if values.ndim == 1:
        _steps(ax, values)
    else:
        _image(ax, values.flatten(0, -3).sum(0) if values.ndim > 2 else values)
    return figure, ax


def _steps(ax: Axes, values: Tensor) -> None:
    edges = [i - 0.5 for i in range(len(values) + 1)]
    ax.stairs(values.numpy(), edges, fill=True, color=BLUE)
    ax.set(xlabel="neuron", ylabel="synops per sample", xlim=(edges[0], edges[-1]))
    ax.set_ylim(0, 1.05 * float(values.max()) or 1)
    whole_axis(ax.xaxis)
    si_axis(ax.yaxis)
    despine(ax)


def _image(ax: Axes, values: Tensor) -> None:
    rows, columns = values.shape
    square = rows <= _NARROWEST * columns and columns <= _NARROWEST * rows
    image = ax.imshow(
        values.numpy(),
        cmap=MAP,
        vmin=0,
        vmax=float(values.max()) or 1,
        interpolation="nearest",
        aspect="equal" if square else "auto",
    )
    ax.set(xlabel="column", ylabel="row")
    whole_axis(ax.xaxis)
    whole_axis(ax.yaxis)
    bar = ax.figure.colorbar(image, ax=ax, label="synops per sample")
    si_axis(bar.ax.yaxis)
