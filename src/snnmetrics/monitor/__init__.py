"""Measuring a whole model while it runs."""

from snnmetrics.monitor.monitor import Monitor
from snnmetrics.monitor.neurons import register_neuron

__all__ = ["Monitor", "register_neuron"]
