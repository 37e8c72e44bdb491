"""Which synapses an input element has: geometry, fan-out maps, weights as they are used."""
