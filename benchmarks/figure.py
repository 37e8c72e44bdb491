"""The picture of the cost of monitoring, from what ``benchmarks.overhead_of_monitor`` wrote.

Counters are told apart by marker and by colour (of Okabe and Ito, which colour-blind readers tell
apart), so that a print in grey is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import OURS, TITLES
from matplotlib.figure import Figure

LOOKS = {
    OURS: ("o", "#000000"),
    "sinabs hooks": ("s", "#0072B2"),
    "spikingjelly SynOps": ("^", "#D55E00"),
    "spikingjelly energy": ("v", "#E69F00"),
    "neurobench": ("D", "#009E73"),
    "torch FLOPs": ("P", "#CC79A7"),
}
LEAST = 0.01
"""Overhead at the left edge: what is less, or lost in noise, is drawn there."""


def overhead_figure(found: Mapping[str, Any]) -> Figure:
    """A row per workload, a marker per counter, on a logarithmic axis.

    Args:
        found: What the benchmark wrote.
    """
    workloads = list(found["workloads"].values())
    figure = Figure(figsize=(7.2, 1.5 + 0.5 * len(workloads)), layout="constrained")
    ax = figure.add_subplot()
    for name, (marker, color) in LOOKS.items():
        places = [
            (max(LEAST, workload["ratios"][name]["median"] - 1), row)
            for row, workload in enumerate(workloads)
            if name in workload["ratios"]
        ]
        ax.plot(
            [overhead for overhead, _ in places],
            [row for _, row in places],
            linestyle="none",
            marker=marker,
            markersize=9 if name == OURS else 7,
            markerfacecolor=color if name == OURS else "white",
            markeredgecolor=color,
            markeredgewidth=1.8,
            label=TITLES[name],
            clip_on=False,
        )
    for row, workload in enumerate(workloads):
        ratio = workload["ratios"][OURS]["median"]
        ax.annotate(
            percent(ratio - 1),
            (max(LEAST, ratio - 1), row),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    ax.set_xscale("log")
    ax.set_xlim(LEAST, 1.15 * max(LEAST * 10, *_overheads(workloads)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_yticks(range(len(workloads)), [workload["name"] for workload in workloads])
    ax.set_ylim(len(workloads) - 0.5, -0.6)
    ax.set_xlabel("time that counting adds to the forward pass")
    ax.grid(axis="both", color="#DDDDDD", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def percent(overhead: float) -> str:
    """An overhead as it is written at its marker."""
    return f"{overhead:.1%}" if overhead < 0.0995 else f"{overhead:.0%}"


def _overheads(workloads: list[Any]) -> list[float]:
    ratios = [workload["ratios"] for workload in workloads]
    return [found[name]["median"] - 1 for found in ratios for name in LOOKS if name in found]
