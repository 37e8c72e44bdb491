"""Sums over a process group, and fingerprints of what may be added."""
