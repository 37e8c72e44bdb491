"""Synapses of input elements: geometry, fan-out maps, weights as they are used."""
