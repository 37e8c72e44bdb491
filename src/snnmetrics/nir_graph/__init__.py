"""Reports of NIR graphs, without a model that runs."""

from snnmetrics.nir_graph.report import from_nir

__all__ = ["from_nir"]
