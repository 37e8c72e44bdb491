"""Contractions in PyTorch calls: specifications, parsers, dense cost."""
