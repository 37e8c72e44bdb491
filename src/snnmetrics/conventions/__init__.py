"""Counting conventions of published tools and formulas, applied to a report.

Use ``report.under("spikingjelly")`` for one convention and ``report.conventions()`` for all. A
convention is added by one function, see :func:`convention`.
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
    """Return the public names, without the submodules."""
    return __all__
