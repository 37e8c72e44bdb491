"""Counting conventions of published tools and formulas: what they would print for a report.

``report.under("spikingjelly")`` and ``report.conventions()`` are the way in; a convention is added
by one function, see :func:`convention`.
"""

from snnmetrics.conventions import published as published  # registers the conventions
from snnmetrics.conventions.neurobench import NeuroBenchRow, neurobench_row
from snnmetrics.report.convention import (
    CONVENTIONS,
    Convention,
    Figures,
    Layer,
    NotInReport,
    convention,
)
from snnmetrics.report.convention_report import ConventionReport, ConventionRow, ConventionTable

__all__ = [
    "CONVENTIONS",
    "Convention",
    "ConventionReport",
    "ConventionRow",
    "ConventionTable",
    "Figures",
    "Layer",
    "NeuroBenchRow",
    "NotInReport",
    "convention",
    "neurobench_row",
]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
