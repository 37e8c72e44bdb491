"""Shared parts of plots: axes, colours, axis numbers, labels.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which can be distinguished with
any common kind of colour blindness. Hatches, outlines, markers and line styles repeat the meaning
of every colour, for print in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

from snnmetrics.extras import optional_module
from snnmetrics.text import printable, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Picture = tuple[Figure, Axes]

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB"
LINES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS, STYLES = "osD^vPX", ("-", "--", "-.", ":")
MAP = "viridis"
"""Colour map of heat maps: lighter is more, also in grey and for colour-blind readers."""
LONGEST_NAME = 60
SMALLEST_TEXT = 5.0
"""Smallest legible size of a label, in points."""


def canvas(ax: Axes | None, width: float | None = None, height: float | None = None) -> Picture:
    """Return the caller's axes with their figure, or create new ones.

    Args:
        ax: The caller's axes.
        width: Inches of a new figure; by default matplotlib's setting.
        height: Likewise.

    Raises:
        TypeError: If ``ax`` are not matplotlib axes.
        ImportError: If matplotlib is not installed.
    """
    pyplot = optional_module("matplotlib.pyplot", extra="plots")
    if ax is None:
        wide, high = pyplot.rcParams["figure.figsize"]
        size = (width or wide, height or high)
        figure, new = pyplot.subplots(figsize=size, layout="constrained")
        return figure, new
    if not isinstance(ax, optional_module("matplotlib.axes", extra="plots").Axes):
        raise TypeError(f"ax: expected matplotlib axes, found {type(ax).__name__}")
    return figure_of(ax), ax


def figure_of(ax: Axes) -> Figure:
    """Figure of axes, also within a subfigure."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes that were removed from their figure"
    return figure


def line_styles(count: int) -> list[dict[str, Any]]:
    """Colour, marker and dashes of each line; shades in order if there are many."""
    if count > len(LINES):
        shades = optional_module("matplotlib", extra="plots").colormaps[MAP]
        return [{"color": shades(0.9 * i / (count - 1))} for i in range(count)]
    looks = zip(LINES, MARKERS, cycle(STYLES), strict=False)
    return [
        {"color": color, "marker": marker, "linestyle": style, "markersize": 4.5}
        for (color, marker, style), _ in zip(looks, range(count), strict=False)
    ]


def si_axis(axis: Any) -> None:
    """Format the numbers of an axis like a report: 20 k."""
    ticker = optional_module("matplotlib.ticker", extra="plots")
    axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick(value)))


def log_label(ax: Axes) -> None:
    """Say which axes are logarithmic, in their labels."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_label_text(f"{axis.get_label_text()}, log scale")


def tick(value: float) -> str:
    """Number of an axis, without rounding noise."""
    return si(float(f"{value:.6g}")).replace(" ", "\N{NO-BREAK SPACE}")


_PREFIXES = {1e-15: "f", 1e-12: "p", 1e-9: "n", 1e-6: "\N{MICRO SIGN}", 1e-3: "m", 1.0: ""}


def prefixed_axis(axis: Any, unit: str, largest: float) -> str:
    """Show the numbers of an axis in a multiple of the unit, such as mJ.

    Returns:
        The multiple, for the label.
    """
    ticker = optional_module("matplotlib.ticker", extra="plots")
    scale = max((s for s in _PREFIXES if s <= largest), default=1e-15)
    axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick(value / scale)))
    return f"{_PREFIXES[scale]}{unit}"


def whole_axis(axis: Any) -> None:
    """Use integer ticks, for an axis of steps or neurons."""
    ticker = optional_module("matplotlib.ticker", extra="plots")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))


def bounds(ax: Axes, lower: float | None, upper: float | None) -> None:
    """Show the possible range of values, with room for markers at its edges."""
    if lower is not None and upper is not None:
        room = 0.04 * (upper - lower)
        ax.set_ylim(lower - room, upper + room)
    elif lower is not None:
        highest = max(ax.dataLim.ymax, lower)
        ax.set_ylim(lower, highest + 0.08 * (highest - lower) or lower + 1)


def shown(name: str) -> str:
    """A name as a label: without line breaks and formulas; shortened in the middle if long.

    Example:
        >>> shown("block" * 20)
        'blockblockblockblockblockblock…lockblockblockblockblockblock'
    """
    text = printable(name)
    if len(text) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        text = f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[1 - half :]}"
    return text.replace("$", r"\$")


def name_rows(ax: Axes, names: Sequence[str]) -> float:
    """Label the rows of horizontal bars, first on top; only every n-th if there are too many.

    Returns:
        Size of the text, in points.
    """
    points = 72 * ax.get_window_extent().height / ax.figure.dpi
    row = points / len(names)
    rc = optional_module("matplotlib", extra="plots").rcParams
    usual = optional_module("matplotlib.font_manager", extra="plots").FontProperties(
        size=rc["ytick.labelsize"]
    )
    size = float(min(usual.get_size_in_points(), max(0.7 * row, SMALLEST_TEXT)))
    every = max(1, -(-1.4 * size // row))
    at = range(0, len(names), int(every))
    ax.set_yticks(list(at), [shown(names[i]) for i in at], fontsize=size)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    return size if every == 1 else 0.0


def legend_above(ax: Axes, columns: int, lines: Sequence[Any] | None = None) -> None:
    """Place the legend above the axes, where it hides nothing, in as many columns as fit.

    Args:
        ax: The axes.
        columns: Largest number of columns.
        lines: Artists to name; by default all with a label.
    """

    def made(columns: int) -> Any:
        return ax.legend(
            handles=lines,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
            ncols=columns,
            columnspacing=1.5,
            frameon=False,
        )

    narrow = made(1)
    figure_of(ax).draw_without_rendering()  # determines all sizes
    room = ax.get_window_extent().x1 - min(
        box.x0 for box in (ax.get_tightbbox(), narrow.get_window_extent()) if box is not None
    )
    for some in range(columns, 0, -1):
        if made(some).get_window_extent().width <= room:
            break


def despine(ax: Axes) -> None:
    """Hide the spines without numbers."""
    ax.spines[["top", "right"]].set_visible(False)


# Positions of a label beside its point: offset in points, and alignment.
_BESIDE = tuple(
    (
        x * far,
        y * far,
        "right" if x < 0 else "left" if x else "center",
        "top" if y < 0 else "bottom",
    )
    for far in (1, 2.5)
    for x, y in ((-5, 3), (5, -3), (5, 3), (-5, -3), (0, 6), (0, -6))
)


def label_points(ax: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write a label beside each point, where it does not hide points, lines or other labels."""
    figure_of(ax).draw_without_rendering()  # determines all sizes
    taken = [_around(*ax.transData.transform(point)) for point in points]
    lines = [_around(x, y, 1.0) for line in ax.lines for x, y in _along(line)]
    frame = ax.get_window_extent()
    for point, label in zip(points, labels, strict=True):
        text = ax.annotate(
            shown(label), point, (0, 0), textcoords="offset points", fontsize="small"
        )
        hides = []
        for place in _BESIDE:
            _move(text, place)
            box = text.get_window_extent()
            outside = not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1))
            over = sum(map(box.overlaps, taken)) + outside
            hides.append((over, sum(map(box.overlaps, lines))))
            if hides[-1] == (0, 0):
                break
        _move(text, _BESIDE[hides.index(min(hides))])
        taken.append(text.get_window_extent())


def _move(text: Any, place: tuple[float, float, str, str]) -> None:
    text.xyann = place[:2]
    text.set(ha=place[2], va=place[3])


def _around(x: float, y: float, radius: float = 5.0) -> Any:
    """Box of a marker, in pixels."""
    box = optional_module("matplotlib.transforms", extra="plots").Bbox
    return box.from_extents(x - radius, y - radius, x + radius, y + radius)


def _along(line: Any) -> list[tuple[float, float]]:
    """Points on a line, in pixels, dense enough to detect overlap with a text."""
    if line.get_linestyle() == "None":
        return []
    corners = line.get_transform().transform(line.get_xydata()).tolist()
    found = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        parts = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / 4))
        found += [(x0 + (x1 - x0) * i / parts, y0 + (y1 - y0) * i / parts) for i in range(parts)]
    return found
