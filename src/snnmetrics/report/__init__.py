"""Reports: exact totals, the figures and tables that follow from them, exports, comparison."""

from snnmetrics.report.compare import Change, Comparison, LayerChange, NeuronChange, TotalChange
from snnmetrics.report.data import (
    KINDS,
    Counts,
    GroupData,
    LayerData,
    NeuronData,
    Operation,
    Uncounted,
)
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.limits import Limit, Violation
from snnmetrics.report.report import Report
from snnmetrics.report.rows import GroupRow, LayerRow, NeuronRow, TotalRow

__all__ = [
    "KINDS",
    "Change",
    "Comparison",
    "Counts",
    "Distribution",
    "GroupData",
    "GroupRow",
    "LayerChange",
    "LayerData",
    "LayerRow",
    "Limit",
    "NeuronChange",
    "NeuronData",
    "NeuronRow",
    "Operation",
    "Report",
    "TotalChange",
    "TotalRow",
    "Uncounted",
    "Violation",
]
