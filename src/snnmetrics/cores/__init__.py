"""Neuromorphic cores: which neurons lie on which core, and the load that events put on each."""
