"""The report of a NIR graph."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

from torch import Tensor

from snnmetrics.arguments import invertible_number
from snnmetrics.nir_graph.layers import (
    layer_of,
    neurons_of,
    parameters_of,
    weight_shape_of,
)
from snnmetrics.nir_graph.rates import checked_rates, fed, signals_of, takes_rate
from snnmetrics.nir_graph.shapes import Shapes, shapes_of
from snnmetrics.nir_graph.wiring import GRAPH, SPIKING, WEIGHTED, Nodes, unknown, wired
from snnmetrics.report.data import Uncounted
from snnmetrics.report.report import Report

_EXPECTED = (
    "expected values of one sample, from the given rates. Synops and ACs follow from "
    "them; events, event synops and effective synops are upper bounds, as an input is nonzero at "
    "most as often as it has spikes, and are rounded up to whole numbers"
)
_NO_STEPS = "T unknown: declare `steps`; figures are for one step"


def from_nir(
    graph: Any,
    steps: int | None = None,
    rates: Mapping[str, Any] | None = None,
    dt: float | None = None,
) -> Report:
    r"""Report synapses and expected synaptic operations of a NIR graph, without a model.

    The fan-out of every node with weights follows from the graph alone, exact at padding edges.
    With firing rates, the report gives the expected cost of the network: an input element with
    rate :math:`r_i` (spikes per neuron and step) and fan-out :math:`f_i` contributes
    :math:`T r_i f_i` synaptic operations in :math:`T` steps.

    **Layers**: a row for each ``Linear``, ``Affine``, ``Conv1d``, ``Conv2d`` and ``Scale`` (one
    synapse per element). Nodes of subgraphs are named ``"subgraph.node"``. Shapes that NIR leaves
    open (``input_shape=None``, pooling, neurons with scalar parameters) are taken from the source
    of the node.

    **Rates** add if several edges lead to a node, such as a recurrent one and one from the input;
    duplicate edges count once. ``SumPool2d`` and ``AvgPool2d`` add the rates of a window; after
    ``AvgPool2d`` a spike has the weight 1/(size of the window), which is the ``input_scale`` of the
    row. ``Scale`` changes the weight of a spike, and drops spikes that it multiplies by zero.
    ``Flatten``, ``Delay`` and subgraphs pass spikes on. Outputs of ``I``, ``LI``, ``Linear`` and
    convolutions are values, not spikes.

    **Expected counts** are of kind ``"integer"``. ``synops`` and ``acs`` are expected values, and
    need not be integers. ``events``, ``event_synops`` and ``effective_synops`` are upper bounds,
    :math:`T \sum \min(1, r_i) f_i`, rounded up: exact before rounding if a neuron spikes at most
    once per step and is the only source of the layer. (Rates of two sources do not determine how
    often at least one of them spikes.) Numbers within a relative 1e-6 of an integer are that
    integer, since float32 rates are not more exact.

    **Without the rate** of a source of a layer, its spikes are unknown. Its row is then of kind
    ``"analog"``, has no synops (``None``), and counts events and MACs as if every input were
    nonzero: the cost in a non-spiking network, as of a first layer on an image. A note of the row
    says so. Neurons without a rate have no row; a note names them.

    **Uncounted**: nodes of unknown type, unknown or contradictory shapes, and edges to subgraphs
    with several inputs are listed in ``uncounted`` with the reason.

    Args:
        graph: A ``nir.NIRGraph``, as returned by ``nir.read``. It is not changed.
        steps: Time steps of the sample. ``None``: unknown; figures are for one step.
        rates: Spikes per neuron and step, by name of the node: a number for all its neurons, or an
            array of its output shape. For spiking neurons (``IF``, ``LIF``, ``CubaLIF``,
            ``Threshold``), ``Input``, and nodes of unknown type.
        dt: Seconds per step, if known: firing rates are then in Hz, and there are synops per
            second.

    Returns:
        A report of one sample. Its ``parameters`` are weights, scales and biases, without those of
        neurons.

    Raises:
        ImportError: If ``nir`` is not installed.
        TypeError: If ``graph`` is not a ``nir.NIRGraph``, ``steps`` is not an integer, ``dt`` is
            not a number, or ``rates`` is not a mapping to numbers and arrays.
        ValueError: If ``steps`` or ``dt`` is not positive; if a rate belongs to a node that does
            not generate spikes, is negative, not finite, or of another shape; if an edge leads to
            an unknown node.

    References:
        Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for
        interoperable brain-inspired computing", Nature Communications 15, 8122 (2024).
        https://doi.org/10.1038/s41467-024-52259-9

    Example:
        >>> import nir
        >>> import numpy as np
        >>> import snnmetrics as sm
        >>> conv = nir.Conv2d((3, 3), np.ones((4, 1, 3, 3)), 1, 1, 1, 1, np.zeros(4))
        >>> neurons = nir.IF(r=np.ones((4, 3, 3)), v_threshold=np.ones((4, 3, 3)))
        >>> flat = nir.Flatten({"input": np.array([4, 3, 3])}, start_dim=0)
        >>> fc = nir.Linear(np.ones((10, 36)))
        >>> graph = nir.NIRGraph.from_list(conv, neurons, flat, fc)
        >>> report = sm.from_nir(graph, steps=20, rates={"input": 0.5, "if": 0.1})
        >>> report.layers["conv2d"].synapses  # of 9 x 9 x 4 taps, 128 are on padding
        196
        >>> report.layers["conv2d"].synops  # 20 steps x 0.5 spikes x 196
        1960.0
        >>> round(report.layers["linear"].synops, 6)  # 20 steps x 36 neurons x 0.1 spikes x 10
        720.0
        >>> sm.from_nir(graph).layers["linear"].synops is None  # no rates, no synops
        True

    See Also:
        - :class:`~snnmetrics.Monitor`: counts the operations of a model that runs.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of the report.
    """
    _require_graph(graph)
    steps = None if steps is None else _checked_steps(steps)
    dt = None if dt is None else invertible_number("dt", dt)
    length = 1 if steps is None else steps
    nodes, uncounted = wired(graph)
    shapes = shapes_of(nodes)
    given = checked_rates(rates, nodes, shapes)
    signals = signals_of(nodes, shapes, given)
    weighted = {name: node for name, node in nodes.items() if node.type in WEIGHTED}
    return Report(
        samples=1,
        calls=0,
        steps=steps,
        dt=dt,
        layers_data={
            name: layer_of(node, shapes.known[name], fed(name, nodes, shapes, signals), length)
            for name, node in weighted.items()
            if name not in shapes.why
        },
        neurons_data={
            name: neurons_of(nodes[name], rate, length)
            for name, rate in given.items()
            if nodes[name].type != "Input" and name not in shapes.why
        },
        uncounted=(*uncounted, *_uncounted(nodes, shapes)),
        parameters=sum(parameters_of(node.node) for node in weighted.values()),
        model=GRAPH,
        notes=tuple(_notes(nodes, shapes, given, steps)),
        seconds=None if dt is None else length * dt,
    )


def _require_graph(graph: Any) -> None:
    try:
        nir = importlib.import_module("nir")
    except ImportError as error:
        raise ImportError("from_nir needs nir: pip install 'snnmetrics[nir]'") from error
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"graph: expected a nir.NIRGraph, found {type(graph).__name__}")


def _checked_steps(steps: object) -> int:
    if not isinstance(steps, Integral) or isinstance(steps, bool):
        raise TypeError(f"steps: expected an integer or None, found {steps!r}")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, found {steps}")
    return int(steps)


def _uncounted(nodes: Nodes, shapes: Shapes) -> Iterator[Uncounted]:
    for name, node in nodes.items():
        if not node.type:
            yield unknown(name, node)
        elif name in shapes.why and node.type in WEIGHTED:
            what = f"{node.type} with weights {weight_shape_of(node.node)}"
            yield Uncounted(name, what, shapes.why[name])
        elif name in shapes.why and node.type in SPIKING:
            yield Uncounted(name, f"neurons of type {node.type}", shapes.why[name])


def _notes(
    nodes: Nodes, shapes: Shapes, rates: Mapping[str, Tensor], steps: int | None
) -> Iterator[str]:
    if rates:
        yield _EXPECTED
    if steps is None:
        yield _NO_STEPS
    unrated = [
        f"{name} ({node.type})"
        for name, node in nodes.items()
        if takes_rate(node) and node.type in SPIKING and name not in rates
    ]
    if unrated:
        yield f"no rate given, and so no row of neurons: {', '.join(unrated)}"
