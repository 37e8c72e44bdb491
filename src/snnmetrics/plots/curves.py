"""Curves: accuracy over time and against cost, and figures from evaluation to evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from snnmetrics.arguments import positive_number
from snnmetrics.plots.canvas import (
    BLUE,
    bounds,
    canvas,
    despine,
    label_points,
    legend_above,
    line_styles,
    log_label,
    prefixed_axis,
    shown,
    si_axis,
    tick,
    whole_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture

# Curves with more steps have lines without markers.
_FEW = 25


def accuracy_over_time(
    accuracy: Tensor | Mapping[str, Tensor], ax: Axes | None = None, *, dt: float | None = None
) -> Picture:
    """Accuracy when reading out at each time step.

    Args:
        accuracy: ``(T,)``, as returned by :class:`snnmetrics.AccuracyOverTime`; or several such
            curves by name, of any lengths.
        ax: Axes to draw on; by default a new figure.
        dt: Seconds of one step; the axis is then in seconds.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``accuracy`` is neither, or a curve is not a tensor.
        ValueError: If curves are missing, one is not ``(T,)`` with T >= 1, or ``dt`` is not
            positive.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> from snnmetrics import plots
        >>> figure, ax = plots.accuracy_over_time(torch.tensor([0.1, 0.6, 0.9]))
        >>> ax.lines[0].get_xdata().tolist()
        [1, 2, 3]

    See Also:
        - :class:`~snnmetrics.AccuracyOverTime`: computes the curve.
        - :func:`~snnmetrics.plots.pareto`: accuracy against operations.
    """
    curves = {"": accuracy} if isinstance(accuracy, Tensor) else accuracy
    step = 1 if dt is None else positive_number("dt", dt)
    _require_curves(curves)
    figure, ax = canvas(ax)
    for (name, curve), style in zip(curves.items(), line_styles(len(curves)), strict=True):
        if len(curve) > _FEW:
            style = {key: value for key, value in style.items() if key != "marker"}
        steps = [(t + 1) * step for t in range(len(curve))]
        ax.plot(steps, curve.detach().cpu().double().numpy(), label=shown(name), **style)
    ax.set(xlabel="time step" if dt is None else "time [s]", ylabel="accuracy")
    if dt is None:
        whole_axis(ax.xaxis)
    bounds(ax, 0.0, 1.0)
    _legend(ax, list(curves))
    despine(ax)
    return figure, ax


def early_exit(
    curves: Mapping[str, tuple[Tensor, Tensor]],
    thresholds: Tensor,
    ax: Axes | None = None,
) -> Picture:
    """Accuracy against the mean number of steps, for thresholds of confidence.

    Args:
        curves: Steps and accuracy by name, each ``()`` or ``(K,)`` as :class:`snnmetrics.EarlyExit`
            returns them.
        thresholds: The thresholds, ``()`` or ``(K,)``; written beside the points of a single curve.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.
    """
    figure, ax = canvas(ax)
    levels = thresholds.detach().cpu().double().reshape(-1)
    for (name, pair), style in zip(curves.items(), line_styles(len(curves)), strict=True):
        steps, accuracy = (part.detach().cpu().double().reshape(-1) for part in pair)
        order = steps.argsort(stable=True)
        x, y = steps[order].tolist(), accuracy[order].tolist()
        ax.plot(x, y, label=shown(name), **style)
    ax.set(xlabel="mean number of time steps", ylabel="accuracy")
    bounds(ax, 0.0, 1.0)
    _legend(ax, list(curves))
    despine(ax)
    if len(curves) == 1 and all(math.isfinite(v) for v in (*x, *y)):
        texts = [f"{level:.4g}" for level in levels[order].tolist()]
        label_points(ax, list(zip(x, y, strict=True)), texts)
    return figure, ax


def norms_over_steps(norms: Tensor, ax: Axes | None = None) -> Picture:
    """Norm of a gradient at each time step, on a logarithmic axis unless a step is all zeros.

    Args:
        norms: ``(T,)``.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.
    """
    figure, ax = canvas(ax)
    values = norms.detach().cpu().double().reshape(-1).tolist()
    (style,) = line_styles(1)
    ax.plot(range(1, len(values) + 1), values, **style)
    if all(value > 0 for value in values):
        ax.set_yscale("log")
    ax.set(xlabel="time step", ylabel="gradient norm")
    log_label(ax)
    whole_axis(ax.xaxis)
    despine(ax)
    return figure, ax


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Pareto front: points not dominated by one of at most their cost and at least their accuracy.

    Args:
        costs: Cost of each point; less is better.
        accuracies: Accuracy of each point; more is better.

    Returns:
        Their indices, by increasing cost. Equal points are either all included or all excluded.

    Example:
        >>> pareto_front([1.0, 3.0, 2.0], [0.7, 0.9, 0.6])
        [0, 1]
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i]))
    front: list[int] = []
    for i in order:
        best = front[-1] if front else None
        if (
            best is None
            or accuracies[i] > accuracies[best]
            or (costs[i], accuracies[i]) == (costs[best], accuracies[best])
        ):
            front.append(i)
    return front


def pareto(
    costs: Sequence[float] | Tensor,
    accuracies: Sequence[float] | Tensor,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    cost: str = "synops per sample",
    unit: str = "",
) -> Picture:
    """Accuracy against synops or energy, with the Pareto front.

    Filled points are on the front: no other point is better in both figures. The line shows the
    best accuracy within each budget.

    Args:
        costs: Cost of each model, such as ``report.total.synops`` or ``.total.energy`` of
            :func:`~snnmetrics.energy.estimate_energy`.
        accuracies: Accuracy of each model, from 0 to 1.
        labels: Text beside each point.
        ax: Axes to draw on; by default a new figure.
        cost: Label of the cost axis: ``"energy per sample"``.
        unit: Unit of the costs, shown with an SI prefix: ``"J"``.

    Returns:
        The figure and its axes.

    Raises:
        ValueError: If points are missing, numbers of entries differ, or an entry is not finite.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from snnmetrics import plots
        >>> figure, ax = plots.pareto([2e-3, 7e-3], [0.71, 0.74], ["T=2", "T=4"],
        ...                           cost="energy per sample", unit="J")
        >>> ax.get_xlabel()
        'energy per sample [mJ]'

    See Also:
        - :class:`~snnmetrics.PaperTable`: the same methods as a table.
        - :func:`~snnmetrics.plots.accuracy_over_time`: accuracy over time steps.
    """
    x, y = _numbers("costs", costs), _numbers("accuracies", accuracies)
    sizes = {len(x), len(y), len(x if labels is None else labels)}
    if len(sizes) > 1 or not x:
        raise ValueError(
            "costs, accuracies, labels: expected equally many of each, at least one, found "
            f"{len(x)}, {len(y)}, {'none' if labels is None else len(labels)}"
        )
    figure, ax = canvas(ax)
    _front(ax, x, y)
    ax.set(xlabel=cost, ylabel="accuracy")
    ax.margins(0.12)
    if unit:
        ax.set_xlabel(f"{cost} [{prefixed_axis(ax.xaxis, unit, max(x))}]")
    else:
        si_axis(ax.xaxis)
    despine(ax)
    if labels is not None:
        label_points(ax, list(zip(x, y, strict=True)), list(labels))
    return figure, ax


def _front(ax: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Draw points, and the line of the best accuracy within each budget."""
    front = pareto_front(x, y)
    beaten = [i for i in range(len(x)) if i not in front]
    corners = [(x[i], y[j]) for i, j in zip(front[1:], front, strict=False)]
    path = sorted([(x[i], y[i]) for i in front] + corners)
    ax.plot(*zip(*path, strict=True), color=BLUE)
    ax.plot(
        [x[i] for i in front],
        [y[i] for i in front],
        linestyle="none",
        color=BLUE,
        marker="o",
        label="Pareto front",
    )
    if beaten:
        ax.plot(
            [x[i] for i in beaten],
            [y[i] for i in beaten],
            linestyle="none",
            marker="o",
            markerfacecolor="white",
            color=BLUE,
            label="another is better",
        )
        legend_above(ax, 2)


def evaluations(
    series: Mapping[str, Sequence[float]],
    label: str,
    ax: Axes | None = None,
    *,
    lower: float | None = None,
    upper: float | None = None,
) -> Picture:
    """Draw figures by evaluation; a single value is a labelled point.

    Args:
        series: Values in order, by name.
        label: Label of the axis, with the unit.
        ax: Axes to draw on; by default a new figure.
        lower: Lowest possible value.
        upper: Highest possible value.

    Returns:
        The figure and its axes.

    Example:
        >>> figure, ax = evaluations({"": [3.0, 2.0]}, "synops per sample", lower=0)
        >>> ax.lines[0].get_ydata().tolist()
        [3.0, 2.0]
    """
    figure, ax = canvas(ax)
    single = all(len(values) == 1 for values in series.values())
    for (name, values), style in zip(series.items(), line_styles(len(series)), strict=True):
        ax.plot(range(1, len(values) + 1), list(values), label=shown(name), **style)
    ax.set_ylabel(label)
    bounds(ax, lower, upper)
    if single:
        ax.set_xticks([])
        ax.set_xlim(0, 2)
        finite = {n: v[0] for n, v in series.items() if math.isfinite(v[0])}
        label_points(
            ax,
            [(1, value) for value in finite.values()],
            [tick(float(f"{v:.4g}")) for v in finite.values()],
        )
    else:
        ax.set_xlabel("evaluation")
        whole_axis(ax.xaxis)
    if upper is None:
        si_axis(ax.yaxis)
    _legend(ax, list(series))
    despine(ax)
    return figure, ax


def _legend(ax: Axes, names: Sequence[str]) -> None:
    """Label lines; if there are many, in shades, only the first and the last."""
    if len(names) < 2:
        return
    lines: list[Any] = ax.lines[: len(names)]
    if len(line_styles(len(names))[0]) == 1:
        lines = [lines[0], lines[-1]]
    ax.legend(handles=lines, loc="best", frameon=True, framealpha=0.8)


def _require_curves(curves: Mapping[str, Tensor]) -> None:
    if not isinstance(curves, Mapping):
        raise TypeError(f"accuracy: expected a tensor or several by name, found {curves!r:.100}")
    if not curves:
        raise ValueError("accuracy: expected at least one curve, found none")
    for name, curve in curves.items():
        if not isinstance(curve, Tensor):
            raise TypeError(f"accuracy[{name!r}]: expected a tensor, found {type(curve).__name__}")
        if curve.ndim != 1 or not len(curve):
            raise ValueError(
                f"accuracy[{name!r}]: expected shape (T,) with T >= 1, found {tuple(curve.shape)}"
            )


def _numbers(name: str, values: Sequence[float] | Tensor) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}: expected finite numbers, found {numbers}")
    return numbers
