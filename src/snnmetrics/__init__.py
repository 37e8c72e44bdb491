"""Exact metrics for spiking neural networks."""

from importlib.metadata import version

from snnmetrics import conventions as conventions  # registers them
from snnmetrics import functional
from snnmetrics.energy import EnergyProfile, EnergyReport, energy_profiles, estimate_energy
from snnmetrics.metrics.activity import (
    ActivationSparsity,
    FiringRate,
    MembraneUpdates,
    SilentNeurons,
)
from snnmetrics.metrics.scalar_view import ScalarView
from snnmetrics.metrics.synops import SynOps
from snnmetrics.metrics.timing import AccuracyOverTime, EarlyExit, Latency, TimeToFirstSpike
from snnmetrics.model_size import connection_sparsity, footprint, parameter_count
from snnmetrics.monitor import Monitor, register_neuron
from snnmetrics.nir_graph import from_nir
from snnmetrics.paper import PaperTable, paper_table
from snnmetrics.report import Limit, Report
from snnmetrics.synapses.layers import fanout

__version__ = version("snnmetrics")

__all__ = [
    "AccuracyOverTime",
    "ActivationSparsity",
    "EarlyExit",
    "EnergyProfile",
    "EnergyReport",
    "FiringRate",
    "Latency",
    "Limit",
    "MembraneUpdates",
    "Monitor",
    "PaperTable",
    "Report",
    "ScalarView",
    "SilentNeurons",
    "SynOps",
    "TimeToFirstSpike",
    "connection_sparsity",
    "energy_profiles",
    "estimate_energy",
    "fanout",
    "footprint",
    "from_nir",
    "functional",
    "paper_table",
    "parameter_count",
    "register_neuron",
]
