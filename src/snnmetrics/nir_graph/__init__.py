"""Reports of NIR graphs, without running a model."""

from snnmetrics.nir_graph.report import from_nir

__all__ = ["from_nir"]
