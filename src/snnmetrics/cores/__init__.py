"""Neuromorphic cores: placement of neurons on cores, and the load of each core."""
