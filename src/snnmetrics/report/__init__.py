"""Reports: exact totals, the figures and tables that follow from them, exports, comparison."""

from snnmetrics.report.compare import Change, Comparison, RowChange
from snnmetrics.report.core_data import CoreData, CoreLoad, CoreRow, CoreRows, Load
from snnmetrics.report.curve import Curve
from snnmetrics.report.data import (
    KINDS,
    Counts,
    GroupData,
    LayerData,
    NeuronData,
    NeuronKey,
    Operation,
    RowKey,
    StoppedCounts,
    Uncounted,
    UntilData,
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
    UntilLayer,
    UntilRow,
)

__all__ = [
    "KINDS",
    "ActivityRow",
    "Change",
    "Comparison",
    "CoreData",
    "CoreLoad",
    "CoreRow",
    "CoreRows",
    "Counts",
    "Curve",
    "Distribution",
    "GroupData",
    "GroupRow",
    "LayerData",
    "LayerRow",
    "Limit",
    "Load",
    "NeuronData",
    "NeuronKey",
    "NeuronRow",
    "Operation",
    "Report",
    "Row",
    "RowChange",
    "RowKey",
    "StoppedCounts",
    "SynopsRow",
    "TotalRow",
    "Uncounted",
    "UntilData",
    "UntilLayer",
    "UntilRow",
    "Violation",
]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
