"""Contractions of PyTorch calls: specifications, parsers, dense cost."""
