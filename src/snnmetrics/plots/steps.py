"""Plots over time steps: of layers, groups and neurons, and of the cores of a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from snnmetrics.arguments import positive_number
from snnmetrics.plots.canvas import (
    BLACK,
    MAP,
    canvas,
    despine,
    legend_above,
    line_styles,
    name_rows,
    shown,
    si_axis,
    whole_axis,
)
from snnmetrics.plots.data import CoreLoads, StepRow, require_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture
    from snnmetrics.plots.data import ReportData

_FEW = 25  # maximum number of steps with markers
_FIGURES = ("synops", "events", "firing_rate")
_THIN = 0.8  # width of the line of the maximum
_LOADS = ("synops", "events_in", "events_out", "updates")


def over_steps(
    report: ReportData,
    figure: Literal["synops", "events", "firing_rate"] = "synops",
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Picture:
    """A figure of each layer, or of each layer of neurons, over time steps.

    A line is the mean over samples, its band one standard deviation on either side, and the thin
    line above it the maximum over samples. Steps count from 1.

    Args:
        report: A report with figures per time step: ``Monitor(..., per_step=True)``.
        figure: ``"synops"`` or ``"events"`` of layers, groups and the total, or ``"firing_rate"``
            of neurons.
        names: Rows to draw; ``"total"`` is all layers, unless a layer has this name. Default: all
            layers, or all neurons, with a known figure.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``report`` is not a report.
        ValueError: If the figure is unknown, a named row lacks it, or all rows lack it.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics import plots
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0, per_step=True)
        >>> report = monitor.run([torch.ones(5, 2, 4)])
        >>> picture, ax = plots.over_steps(report)
        >>> ax.lines[0].get_ydata().tolist()
        [12.0, 12.0, 12.0, 12.0, 12.0]

    See Also:
        - :class:`~snnmetrics.report.Curve`: the data of the figure.
        - :func:`~snnmetrics.plots.accuracy_over_time`: accuracy over time steps.
    """
    require_report(report)
    if figure not in _FIGURES:
        raise ValueError(f"figure: expected one of {_FIGURES}, found {figure!r}")
    known = _known(report, figure)
    defaults = report.neurons if figure == "firing_rate" else report.layers
    drawn = [name for name in defaults if name in known] if names is None else list(names)
    if not drawn and names is not None:
        raise ValueError(f"names: expected at least one of {[*known]}, found none")
    if not drawn:
        raise ValueError(f"report: expected {figure} per time step, found none: {_why(figure)}")
    for name in drawn:
        if name not in known:
            raise ValueError(
                f"names: expected rows with {figure} per time step, which are {[*known]}, "
                f"found {name!r}: {_why(figure)}"
            )
    picture, ax = canvas(ax)
    styles = line_styles(len(drawn))
    shades = "linestyle" not in styles[0]
    lines = []
    for name, style in zip(drawn, styles, strict=True):
        mean, std, _ = known[name]
        if len(mean) > _FEW:
            style = {key: value for key, value in style.items() if key != "marker"}
        steps = range(1, len(mean) + 1)
        lines += ax.plot(steps, mean.numpy(), label=shown(name), **style)
        low, high = (mean - std).clamp(min=0).numpy(), (mean + std).numpy()
        ax.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    for name, style in zip(drawn, styles, strict=True):
        largest = known[name][2].numpy()
        thin = {key: value for key, value in style.items() if key in ("color", "linestyle")}
        ax.plot(range(1, len(largest) + 1), largest, linewidth=_THIN, **thin)
    named = [lines[0], lines[-1]] if shades else lines
    named += ax.plot([], [], color=BLACK, linewidth=_THIN, label="maximum")
    ax.set(xlabel="time step", ylabel=_label(report, figure))
    ax.set_ylim(bottom=0)
    whole_axis(ax.xaxis)
    if figure != "firing_rate":
        si_axis(ax.yaxis)
    legend_above(ax, 3, named)
    despine(ax)
    return picture, ax


def _known(report: ReportData, figure: str) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean, standard deviation and maximum of the rows with the figure."""
    rows: Mapping[str, StepRow] = report.neurons
    if figure != "firing_rate":
        rows = {"total": report.total, **report.groups, **report.layers}
    known = {}
    for name, row in rows.items():
        mean, std, largest = (
            getattr(row, f"{figure}_per_step{suffix}", None) for suffix in ("", "_std", "_max")
        )
        if mean is not None and std is not None and largest is not None:
            known[name] = (mean, std, largest)
    return known


def _why(figure: str) -> str:
    """Explain why a row may lack figures per time step."""
    reason = "keep them with Monitor(..., per_step=True)"
    if figure == "firing_rate":
        return f"{reason}; layers have none, neurons do"
    analog = "analog layers have none, and " if figure == "synops" else ""
    return f"{reason}; {analog}a call that covers several steps has no figures of single ones"


def _label(report: ReportData, figure: str) -> str:
    if figure == "firing_rate":
        return f"firing rate [{'1/step' if report.step_seconds is None else 'Hz'}]"
    return f"{figure} per step"


def core_loads(
    report: ReportData,
    load: Literal["synops", "events_in", "events_out", "updates"] = "synops",
    ax: Axes | None = None,
    *,
    largest: bool = True,
    vmax: float | None = None,
) -> Picture:
    """The load of each core over time steps, as a heat map: a row for each core.

    Args:
        report: A report with cores: ``Monitor(..., cores=...)``.
        load: Name of the load.
        ax: Axes to draw on; by default a new figure.
        largest: Whether to draw the largest load of a sample at each step; else the mean.
        vmax: Load at the upper end of the colours, to compare plots; by default the largest load
            drawn.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``report`` is not a report.
        ValueError: If the load is unknown, all cores lack it, or ``vmax`` is not positive.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics import plots
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(5, 2, 4)])
        >>> picture, ax = plots.core_loads(report)
        >>> ax.images[0].get_array().shape  # cores and steps
        (3, 5)

    See Also:
        - :class:`~snnmetrics.Cores`: the description of the cores.
        - :class:`~snnmetrics.report.CoreRows`: the loads as a table.
    """
    require_report(report)
    if load not in _LOADS:
        raise ValueError(f"load: expected one of {_LOADS}, found {load!r}")
    found: dict[str, CoreLoads] = {}
    for name, core in report.cores.items():
        values: CoreLoads | None = getattr(core, load)
        if values is not None:
            found[name] = values
    if not found:
        raise ValueError(
            f"report: expected cores with {load} per time step, found none: "
            "Monitor(..., cores=...), and for output events a layer of neurons behind"
        )
    lines = [one.per_step_max if largest else one.per_step for one in found.values()]
    table = torch.stack([line.detach().cpu().double() for line in lines])
    most = (float(table.max()) or 1) if vmax is None else positive_number("vmax", vmax)
    picture, ax = canvas(ax)
    steps = table.shape[1]
    image = ax.imshow(
        table.numpy(),
        cmap=MAP,
        vmin=0,
        vmax=most,
        interpolation="nearest",
        aspect="auto",
        extent=(0.5, steps + 0.5, len(table) - 0.5, -0.5),
    )
    name_rows(ax, list(found))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set(xlabel="time step")
    whole_axis(ax.xaxis)
    what = load.replace("_", " ")
    bar = picture.colorbar(
        image, ax=ax, label=f"{'largest' if largest else 'mean'} {what} per step"
    )
    si_axis(bar.ax.yaxis)
    return picture, ax
