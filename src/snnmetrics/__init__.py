"""Exact metrics for spiking neural networks."""

from importlib.metadata import version

from snnmetrics import functional
from snnmetrics.connectivity import fanout
from snnmetrics.monitor import Monitor, register_neuron
from snnmetrics.report import Report
from snnmetrics.scalar_view import ScalarView
from snnmetrics.synops import SynOps
from snnmetrics.timing import AccuracyOverTime, Latency

__version__ = version("snnmetrics")

__all__ = [
    "AccuracyOverTime",
    "Latency",
    "Monitor",
    "Report",
    "ScalarView",
    "SynOps",
    "fanout",
    "functional",
    "register_neuron",
]
