"""Exact metrics for spiking neural networks."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from snnmetrics import conventions, energy, functional, integrations, paper, report
from snnmetrics.cores.layout import Cores
from snnmetrics.energy import estimate_energy
from snnmetrics.metrics.activity import (
    ActivationSparsity,
    FiringRate,
    MembraneUpdates,
    SilentNeurons,
)
from snnmetrics.metrics.gradient import GradientStatistics
from snnmetrics.metrics.membrane import MembraneStatistics
from snnmetrics.metrics.scalar_view import ScalarView
from snnmetrics.metrics.synops import SynOps
from snnmetrics.metrics.timing import (
    AccuracyOverTime,
    EarlyExit,
    Latency,
    OptimalCutoff,
    TimeToFirstSpike,
)
from snnmetrics.metrics.trains import FanoFactor, IntervalStatistics
from snnmetrics.model_size import connection_sparsity, footprint, parameter_count
from snnmetrics.monitor import Monitor, OpenBatch, register_neuron
from snnmetrics.nir_graph import from_nir
from snnmetrics.paper import PaperTable, paper_table
from snnmetrics.report import Limit, Report
from snnmetrics.synapses.layers import fanout

if TYPE_CHECKING:
    from snnmetrics import plots

__version__ = _version("snnmetrics")

__all__ = [
    "AccuracyOverTime",
    "ActivationSparsity",
    "Cores",
    "EarlyExit",
    "FanoFactor",
    "FiringRate",
    "GradientStatistics",
    "IntervalStatistics",
    "Latency",
    "Limit",
    "MembraneStatistics",
    "MembraneUpdates",
    "Monitor",
    "OpenBatch",
    "OptimalCutoff",
    "PaperTable",
    "Report",
    "ScalarView",
    "SilentNeurons",
    "SynOps",
    "TimeToFirstSpike",
    "__version__",
    "connection_sparsity",
    "conventions",
    "energy",
    "estimate_energy",
    "fanout",
    "footprint",
    "from_nir",
    "functional",
    "integrations",
    "paper",
    "paper_table",
    "parameter_count",
    "plots",
    "register_neuron",
    "report",
]


def __dir__() -> list[str]:
    """The public names and sub-packages, without the modules behind them."""
    return __all__


if not TYPE_CHECKING:  # type checkers would take it for a definition of every name

    def __getattr__(name: str) -> object:
        """Import ``plots`` at its first use."""
        if name == "plots":
            return _import_module("snnmetrics.plots")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
