"""Sums over a process group, and fingerprints of states that may be added."""
