"""Horizontal bars: operations per layer, and totals under conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from snnmetrics.plots.canvas import (
    BLACK,
    GREY,
    SKY,
    VERMILLION,
    canvas,
    despine,
    legend_above,
    name_rows,
    shown,
    si_axis,
)
from snnmetrics.plots.data import ConventionFigures, ReportData, require_report
from snnmetrics.text import more, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snnmetrics.plots.canvas import Picture

_HATCH = "////"
NO_FIGURE = "n/a"


def layer_bars(report: ReportData, ax: Axes | None = None) -> Picture:
    """Operations of each layer: ACs and MACs stacked, dense MACs as an outline.

    The number at the end of a bar is ACs + MACs.

    Args:
        report: The report; its figures per sample are drawn.
        ax: Axes to draw on; by default a new figure, as high as the layers need.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``report`` is not a report.
        ValueError: If the report has no layers or no samples.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics import plots
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> report = sm.Monitor(model, batch_dim=0).run([torch.ones(2, 4)])
        >>> figure, ax = plots.layer_bars(report)
        >>> [float(bar.get_width()) for bar in ax.containers[0]]  # dense MACs
        [12.0, 6.0]

    See Also:
        - :class:`~snnmetrics.Report`: the same figures as a table.
        - :func:`~snnmetrics.plots.conventions`: the counts of other tools beside them.
    """
    _require_something(report)
    names, rows = list(report.layers), list(report.layers.values())
    figure, ax = _rows_canvas(ax, names)
    total, at = report.total, range(len(rows))
    acs, macs = [row.acs for row in rows], [row.macs for row in rows]
    dense = [row.dense_macs for row in rows]
    ax.barh(
        at,
        dense,
        height=0.8,
        facecolor="none",
        edgecolor=BLACK,
        linewidth=0.8,
        label=f"dense MACs: {si(total.dense_macs)}",
    )
    _stacked(ax, acs, macs, (f"ACs: {si(total.acs)}", f"MACs: {si(total.macs)}"))
    ends = [one + other for one, other in zip(acs, macs, strict=True)]
    _finish(ax, names, [*map(si, ends)], ends, max(*dense, *ends))
    return figure, ax


def conventions(report: ReportData, ax: Axes | None = None) -> Picture:
    """Figures of published tools and formulas for the same run, and the exact counts.

    One bar per convention: ACs and MACs stacked, or all operations in grey if the convention does
    not distinguish them. A black line marks the exact count to compare with; the text is the
    difference from it, "n/a" where a convention has no figure.

    Args:
        report: The report; its figures per sample are drawn.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes.

    Raises:
        TypeError: If ``report`` is not a report.
        ValueError: If the report has no layers or no samples.
        ImportError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics import plots
        >>> layer = torch.nn.Linear(4, 3)
        >>> report = sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 4)])
        >>> figure, ax = plots.conventions(report)
        >>> ax.get_xlabel()
        'operations per sample'

    See Also:
        - :meth:`~snnmetrics.Report.conventions`: the same figures as a table.
        - :func:`~snnmetrics.plots.layer_bars`: the exact counts alone.
    """
    _require_something(report)
    total = report.total
    bars = [_Bar("snnmetrics", total.acs, total.macs, 0.0, None, si(total.acs + total.macs))]
    bars += [_bar(name, row) for name, row in report.conventions().total.items()]
    names = [bar.name for bar in bars]
    figure, ax = _rows_canvas(ax, names)
    at = range(len(bars))
    _stacked(ax, [bar.acs for bar in bars], [bar.macs for bar in bars], ("ACs", "MACs"))
    ax.barh(
        at,
        [bar.other for bar in bars],
        height=0.5,
        facecolor=GREY,
        edgecolor=BLACK,
        hatch="..",
        linewidth=0,
        label="ACs and MACs not separated",
    )
    exact = [(i, bar.exact) for i, bar in enumerate(bars) if bar.exact is not None]
    ax.plot(
        [value for _, value in exact],
        [i for i, _ in exact],
        linestyle="none",
        marker="|",
        markersize=14,
        markeredgewidth=1.6,
        color=BLACK,
        label="exact",
    )
    if NO_FIGURE in (bar.text for bar in bars):
        ax.plot([], [], " ", label=f"{NO_FIGURE}: no figure")
    ends = [max(bar.acs + bar.macs + bar.other, bar.exact or 0.0) for bar in bars]
    _finish(ax, names, [bar.text for bar in bars], ends)
    return figure, ax


def before_and_after(
    names: Sequence[str],
    before: Sequence[float | None],
    after: Sequence[float | None],
    ax: Axes | None = None,
) -> Picture:
    """Operations of each layer in two runs: two bars per layer, the second below the first.

    Args:
        names: Names of the layers.
        before: Operations per sample in the first run; None where it lacks the layer.
        after: The same in the second run.
        ax: Axes to draw on; by default a new figure.

    Returns:
        The figure and its axes. The text is the ratio of both.
    """
    figure, ax = _rows_canvas(ax, names)
    first, second = ([value or 0.0 for value in values] for values in (before, after))
    at = range(len(names))
    ax.barh(
        [i - 0.2 for i in at],
        first,
        height=0.36,
        facecolor="white",
        edgecolor=BLACK,
        hatch=_HATCH,
        linewidth=0.8,
        label=f"before: {si(sum(first))}",
    )
    ax.barh(
        [i + 0.2 for i in at],
        second,
        height=0.36,
        facecolor=SKY,
        edgecolor=BLACK,
        linewidth=0.8,
        label=f"after: {si(sum(second))}",
    )
    texts = [
        "" if not one or other is None else f"x {other / one:.3g}"
        for one, other in zip(before, after, strict=True)
    ]
    _finish(ax, names, texts, [max(pair) for pair in zip(first, second, strict=True)])
    return figure, ax


def _require_something(report: ReportData) -> None:
    require_report(report)
    if not report.layers or not report.samples:
        raise ValueError(
            f"report: expected at least one layer and one sample, found {len(report.layers)} "
            f"layers and {report.samples} samples"
        )


class _Bar(NamedTuple):
    """Bar of one convention."""

    name: str
    acs: float
    macs: float
    other: float
    exact: float | None
    text: str


def _bar(name: str, row: ConventionFigures) -> _Bar:
    if row.operations is None:
        return _Bar(name, 0.0, 0.0, 0.0, None, NO_FIGURE)
    text = si(row.operations) if row.difference is None else more(row.difference)
    if row.acs is None or row.macs is None:
        return _Bar(name, 0.0, 0.0, row.operations, row.exact, text)
    return _Bar(name, row.acs, row.macs, 0.0, row.exact, text)


def _rows_canvas(ax: Axes | None, names: Sequence[str]) -> Picture:
    longest = max(len(shown(name)) for name in names)
    return canvas(ax, width=4.6 + 0.085 * longest, height=1.1 + 0.24 * len(names))


def _stacked(
    ax: Axes, acs: Sequence[float], macs: Sequence[float], labels: tuple[str, str]
) -> None:
    at = range(len(acs))
    ax.barh(at, acs, height=0.5, color=SKY, label=labels[0])
    ax.barh(
        at,
        macs,
        left=acs,
        height=0.5,
        facecolor="white",
        edgecolor=VERMILLION,
        hatch=_HATCH,
        linewidth=0,
        label=labels[1],
    )


def _finish(
    ax: Axes,
    names: Sequence[str],
    texts: Sequence[str],
    ends: Sequence[float],
    largest: float | None = None,
) -> None:
    """Set names, numbers at the ends of the bars, axis and legend.

    Args:
        ax: The axes.
        names: Names of the rows.
        texts: A text for each row.
        ends: Where it stands.
        largest: What the axis must show; by default the largest of the ends.
    """
    name_rows(ax, names)
    ax.set_xlim(0, max(1.16 * max(ends), 1.04 * (largest or 0)) or 1)
    ax.set_xlabel("operations per sample")
    si_axis(ax.xaxis)
    despine(ax)
    legend_above(ax, len(ax.get_legend_handles_labels()[0]))
    size = name_rows(ax, names)  # again, now that it is known how high the axes are
    for i, (text, end) in enumerate(zip(texts, ends, strict=True)):
        if size:
            ax.annotate(
                text,
                (end, i),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=0.9 * size,
                # Covers the outline of dense MACs, where this ends behind the text.
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
