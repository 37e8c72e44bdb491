"""Measurement of a whole model while it runs."""

from snnmetrics.frameworks.neurons import register_neuron
from snnmetrics.monitor.monitor import Monitor
from snnmetrics.monitor.open_batch import OpenBatch

__all__ = ["Monitor", "OpenBatch", "register_neuron"]
