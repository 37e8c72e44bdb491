"""Reports: exact totals, the figures and tables that follow from them, exports, comparison."""

from snnmetrics.report.compare import Change, Comparison, RowChange
from snnmetrics.report.data import (
    KINDS,
    Counts,
    GroupData,
    LayerData,
    NeuronData,
    NeuronKey,
    Operation,
    RowKey,
    Uncounted,
)
from snnmetrics.report.distribution import Distribution
from snnmetrics.report.limits import Limit, Violation
from snnmetrics.report.report import Report
from snnmetrics.report.rows import (
    ActivityRow,
    GroupRow,
    LayerRow,
    NeuronRow,
    Row,
    SynopsRow,
    TotalRow,
)

__all__ = [
    "KINDS",
    "ActivityRow",
    "Change",
    "Comparison",
    "Counts",
    "Distribution",
    "GroupData",
    "GroupRow",
    "LayerData",
    "LayerRow",
    "Limit",
    "NeuronData",
    "NeuronKey",
    "NeuronRow",
    "Operation",
    "Report",
    "Row",
    "RowChange",
    "RowKey",
    "SynopsRow",
    "TotalRow",
    "Uncounted",
    "Violation",
]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
