"""Rows of the nodes of a NIR graph: synapses from the weights, counts from expected spikes."""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnmetrics.nir_graph.rates import Signal
from snnmetrics.nir_graph.shapes import Shape, Size, geometry_of, sizes_of
from snnmetrics.nir_graph.wiring import Node
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.spec import Letters, OpSpec
from snnmetrics.report.data import Counts, LayerData, NeuronData, Operation
from snnmetrics.synapses.maps import SynapseMap, SynapseMaps
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats

_ROUNDING = 1e-6  # relative error of summed float32 rates
_SPREAD = "the layer receives spikes of different weight: each counts once"


def layer_of(node: Node, shape: Shape, fed: Signal, steps: int) -> LayerData:
    """Row of a node with weights, for one sample of some steps."""
    spec, synapse_map = _mapped(node, shape)
    rates, kind = fed.spikes, InputKind.INTEGER
    if rates is None:
        rates = torch.ones(shape.input, dtype=torch.float64, device="cpu")
        kind = InputKind.ANALOG
    stats = InputStats(kind, steps * rates, steps * rates.clamp(max=1))
    figures = synapse_map.figures(stats)._asdict()
    # Upper bounds are integers; sums of expected spikes need not be.
    bounds = ("events", "event_synops", "effective_synops")
    whole: dict[str, Any] = {
        name: (_at_least if name in bounds else _number)(value.item())
        for name, value in figures.items()
    }
    counts = Counts(
        calls=1,
        vectors=steps,
        elements=steps * rates.numel(),
        dense_synops=steps * synapse_map.synapses,
        dense_macs=steps * spec.dense_macs,
        output_elements=steps * math.prod(shape.output),
        **whole,
    )
    facts = spec.facts() | {
        "output_shape": shape.output,
        "weight_shape": weight_shape_of(node.node),
        "parameters": parameters_of(node.node),
    }
    operation = Operation(**facts, module=node.type, synapses=synapse_map.synapses)
    scale = None if kind is InputKind.ANALOG or fed.scale == 1 else fed.scale
    return LayerData(operation, {kind.label: counts}, input_scale=scale, notes=_notes(fed))


def neurons_of(node: Node, rates: Tensor, steps: int) -> NeuronData:
    """Row of a layer of spiking neurons."""
    return NeuronData(
        type=node.type or type(node.node).__name__,
        neurons=rates.numel(),
        elements=steps * rates.numel(),
        events=_at_least(steps * rates.clamp(max=1).sum().item()),
        spikes=_number(steps * rates.sum().item()),
        silent=int((rates == 0).sum()),
        saturated=int((rates >= 1).sum()),
    )


def parameters_of(node: Any) -> int:
    """Elements of weight (or scale) and bias."""
    bias = getattr(node, "bias", None)
    return math.prod(weight_shape_of(node)) + (0 if bias is None else math.prod(sizes_of(bias)))


def weight_shape_of(node: Any) -> Size:
    """Shape of the parameter that a node multiplies with."""
    return sizes_of(_weight(node))


def _notes(fed: Signal) -> tuple[str, ...]:
    if fed.spikes is None:
        return (
            f"spikes unknown: {fed.why}; no synops, and events, MACs and input sparsity are as "
            "if every input were nonzero",
        )
    return (_SPREAD,) if fed.scale is None else ()


def _mapped(node: Node, shape: Shape) -> tuple[OpSpec, SynapseMap]:
    """Operation of one step, and its synapses."""
    weight, form, entering = _present(_weight(node.node)), _form(node, shape), shape.input
    if node.type == "Scale":
        # One factor may apply to many elements; each has its own synapse.
        weight = weight.expand(shape.input)
    if isinstance(form, ConvGeometry):
        entering = (1, *entering)
    bias = getattr(node.node, "bias", None)
    added = 0 if bias is None else math.prod(sizes_of(bias))
    name = "linear" if node.type in ("Affine", "Linear") else node.type.lower()
    spec = OpSpec(name, entering, tuple(weight.shape), form, bias=added)
    return spec, SynapseMaps().get(name, spec, weight, torch.device("cpu"))


def _form(node: Node, shape: Shape) -> Letters | ConvGeometry:
    if node.type.startswith("Conv"):
        return geometry_of(node.node)
    if node.type == "Scale":
        letters = string.ascii_lowercase[: len(shape.input)]
        return Letters(letters, letters, "")
    lead = string.ascii_lowercase[: len(weight_shape_of(node.node)) - 2]
    return Letters(f"{lead}Z", f"{lead}YZ")


def _weight(node: Any) -> Any:
    return node.scale if hasattr(node, "scale") else node.weight


def _present(weight: Any) -> Tensor:
    """One where a weight is nonzero: sufficient for counting, for any dtype."""
    if isinstance(weight, Tensor):
        return (weight.detach().cpu() != 0).to(torch.float32)
    return torch.from_numpy(np.array(np.asarray(weight) != 0, dtype=np.float32))


def _at_least(expected: float) -> int:
    """Round up; a number within rounding error of an integer becomes that integer."""
    nearest = round(expected)
    is_whole = abs(expected - nearest) <= _ROUNDING * expected
    return nearest if is_whole else math.ceil(expected)


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value
