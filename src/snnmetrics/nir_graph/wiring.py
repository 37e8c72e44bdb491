"""Nodes of a NIR graph and their sources, with subgraphs expanded.

An edge to a subgraph leads to its ``Input``, an edge from it comes from its ``Output``. Edges are a
set, as in the paper: duplicates count once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snnmetrics.report.data import Uncounted

GRAPH = "NIRGraph"
WEIGHTED = ("Linear", "Affine", "Scale", "Conv1d", "Conv2d")
SPIKING = ("IF", "LIF", "CubaLIF", "Threshold")
NOT_SPIKING = ("I", "LI", "CubaLI")
PASSING = ("Input", "Output", "Flatten", "Delay", "SumPool2d", "AvgPool2d")
_KNOWN = {GRAPH, *WEIGHTED, *SPIKING, *NOT_SPIKING, *PASSING}


@dataclass
class Node:
    """One node, with the names of its sources.

    Attributes:
        node: The node of NIR.
        type: Its class name; ``""`` for unknown types.
        sources: Names of its source nodes, in the order of the edges.
    """

    node: Any
    type: str
    sources: list[str] = field(default_factory=list)


Nodes = dict[str, Node]


def wired(graph: Any) -> tuple[Nodes, list[Uncounted]]:
    """All nodes by name; nodes of subgraphs are ``"subgraph.node"``.

    Raises:
        ValueError: If an edge names an unknown node, or two nodes then have the same name.
    """
    nodes: Nodes = {}
    unclear: list[Uncounted] = []
    _collect(graph, "", nodes, unclear)
    return nodes, unclear


def type_of(node: Any) -> str:
    """Class name of a node; ``""`` for unknown classes, such as subclasses."""
    cls = type(node)
    known = cls.__module__.partition(".")[0] == "nir" and cls.__name__ in _KNOWN
    return cls.__name__ if known else ""


def _collect(graph: Any, prefix: str, nodes: Nodes, unclear: list[Uncounted]) -> None:
    for name, node in graph.nodes.items():
        if type_of(node) == GRAPH:
            _collect(node, f"{prefix}{name}.", nodes, unclear)
        elif prefix + name in nodes:
            raise ValueError(f"graph: expected one node called {prefix + name!r}, found two")
        else:
            nodes[prefix + name] = Node(node, type_of(node))
    for source, target in dict.fromkeys((str(a), str(b)) for a, b in graph.edges):
        for name in (source, target):
            if name not in graph.nodes:
                raise ValueError(f"graph: expected edges between nodes, found one of {name!r}")
        entry = _port(graph.nodes[target], prefix + target, "Input")
        exit_ = _port(graph.nodes[source], prefix + source, "Output")
        if exit_ is None:
            exit_ = prefix + source
            # Represents an unknown output, unlike any NIR node.
            nodes[exit_] = Node(graph.nodes[source], "")
        if entry is None:
            unclear.append(_ambiguous(graph.nodes[target], prefix + target, "Input", exit_))
        else:
            nodes[entry].sources.append(exit_)


def _port(node: Any, name: str, port: str) -> str | None:
    """End of an edge to or from a node: for a subgraph, its only input or output."""
    if type_of(node) != GRAPH:
        return name
    ports = _ports(node, port)
    return f"{name}.{ports[0]}" if len(ports) == 1 else None


def _ports(graph: Any, port: str) -> list[str]:
    return [name for name, node in graph.nodes.items() if type_of(node) == port]


def _ambiguous(graph: Any, name: str, port: str, source: str) -> Uncounted:
    found = len(_ports(graph, port))
    return Uncounted(
        name,
        f"edge from {source}",
        f"the subgraph has {found} nodes of type {port}: the target of the edge is ambiguous",
    )


def unknown(name: str, node: Node) -> Uncounted:
    """Entry of a node whose operations are unknown."""
    if type_of(node.node) == GRAPH:
        found = len(_ports(node.node, "Output"))
        reason = f"it has {found} nodes of type Output: the source of the edge is ambiguous"
        return Uncounted(name, "subgraph as a source", reason)
    return Uncounted(name, type(node.node).__name__, "an unknown node type")
