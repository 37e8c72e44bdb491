"""Reports: exact totals, the figures and tables that follow from them, exports, comparison."""

from snnmetrics.report.compare import Change, Comparison, LayerChange, NeuronChange, TotalChange
from snnmetrics.report.data import KINDS, Counts, LayerData, NeuronData, Operation, Uncounted
from snnmetrics.report.report import Report
from snnmetrics.report.rows import LayerRow, NeuronRow, TotalRow

__all__ = [
    "KINDS",
    "Change",
    "Comparison",
    "Counts",
    "LayerChange",
    "LayerData",
    "LayerRow",
    "NeuronChange",
    "NeuronData",
    "NeuronRow",
    "Operation",
    "Report",
    "TotalChange",
    "TotalRow",
    "Uncounted",
]
