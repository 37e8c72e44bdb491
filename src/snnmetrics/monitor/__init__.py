"""Measuring a whole model while it runs."""

from snnmetrics.frameworks.neurons import register_neuron
from snnmetrics.monitor.monitor import Monitor

__all__ = ["Monitor", "register_neuron"]
