"""Synapses of input elements: geometry, fan-out maps, effective weights."""
