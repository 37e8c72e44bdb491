"""Exact metrics for spiking neural networks."""

from importlib.metadata import version

from snnmetrics import functional
from snnmetrics.activity import ActivationSparsity, FiringRate, MembraneUpdates, SilentNeurons
from snnmetrics.connectivity import fanout
from snnmetrics.footprint import connection_sparsity, footprint, parameter_count
from snnmetrics.monitor import Monitor, register_neuron
from snnmetrics.report import Report
from snnmetrics.scalar_view import ScalarView
from snnmetrics.synops import SynOps
from snnmetrics.timing import AccuracyOverTime, EarlyExit, Latency, TimeToFirstSpike

__version__ = version("snnmetrics")

__all__ = [
    "AccuracyOverTime",
    "ActivationSparsity",
    "EarlyExit",
    "FiringRate",
    "Latency",
    "MembraneUpdates",
    "Monitor",
    "Report",
    "ScalarView",
    "SilentNeurons",
    "SynOps",
    "TimeToFirstSpike",
    "connection_sparsity",
    "fanout",
    "footprint",
    "functional",
    "parameter_count",
    "register_neuron",
]
