"""Rows of the nodes of a NIR graph: synapses from the weights, counts from expected spikes."""

from __future__ import annotations

import math
import string
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnmetrics.monitor.counting import Input, synops_of
from snnmetrics.nir_graph.rates import Signal
from snnmetrics.nir_graph.shapes import Shape, Size, geometry_of, sizes_of
from snnmetrics.nir_graph.wiring import Node
from snnmetrics.ops.parsers import Contraction, Convolution
from snnmetrics.report.data import KINDS, Counts, LayerData, NeuronData, Operation
from snnmetrics.synapses.maps import Fanout, FanoutCache
from snnmetrics.tensors.kinds import ANALOG, INTEGER

_ROUNDING = 1e-6  # relative: of rates in float32, summed
_SPREAD = "spikes of different weight meet: each counts once"


def layer_of(node: Node, shape: Shape, fed: Signal, steps: int) -> LayerData:
    """The row of a node with weights, of one sample of some steps."""
    operation, fanout, taps = _operation(node, shape)
    rates, kind = fed.spikes, INTEGER
    if rates is None:
        rates, kind = torch.ones(shape.input, dtype=torch.float64, device="cpu"), ANALOG
    seen = Input(kind, steps * rates, steps * rates.clamp(max=1))
    events, magnitude, *figures = (figure.item() for figure in synops_of(seen, fanout))
    synops, event_synops, effective_synops, effective_magnitude = figures
    counts = Counts(
        calls=1,
        frames=steps,
        elements=steps * rates.numel(),
        events=_at_least(events),
        magnitude=_number(magnitude),
        synops=_number(synops),
        event_synops=_at_least(event_synops),
        effective_synops=_at_least(effective_synops),
        effective_magnitude=_number(effective_magnitude),
        dense_synops=steps * fanout.synapses,
        dense_macs=steps * taps,
        output_elements=steps * math.prod(shape.output),
    )
    scale = None if kind == ANALOG or fed.scale == 1 else fed.scale
    return LayerData(operation, {KINDS[kind]: counts}, input_scale=scale, notes=_notes(fed))


def neurons_of(node: Node, rates: Tensor, steps: int) -> NeuronData:
    """The row of a layer of spiking neurons."""
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
    """The shape of what a node multiplies with."""
    return sizes_of(_weight(node))


def _notes(fed: Signal) -> tuple[str, ...]:
    if fed.spikes is None:
        return (
            f"spikes not known: {fed.why}; no synops, and events, MACs and input sparsity are as "
            "if every input were nonzero",
        )
    return (_SPREAD,) if fed.scale is None else ()


def _operation(node: Node, shape: Shape) -> tuple[Operation, Fanout, int]:
    """What is fixed, the fan-out, and the products per step with padded taps included."""
    if node.type.startswith("Conv"):
        return _convolution(node, shape)
    weight = _present(_weight(node.node))
    if node.type == "Scale":
        # One factor may stand for many elements; each has a synapse of its own.
        weight = weight.expand(shape.input)
        entering = letters = string.ascii_lowercase[: weight.ndim]
    else:
        lead = string.ascii_lowercase[: weight.ndim - 2]
        entering, letters = f"{lead}Z", f"{lead}YZ"
    name = "scale" if node.type == "Scale" else "linear"
    call = Contraction(name, _nothing(shape.input), entering, weight, letters, True)
    fanout = FanoutCache().of_contraction(call, autapses=True)
    return _facts(name, node, shape, fanout), fanout, weight.numel()


def _convolution(node: Node, shape: Shape) -> tuple[Operation, Fanout, int]:
    weight, geometry = _present(_weight(node.node)), geometry_of(node.node)
    name = node.type.lower()
    call = Convolution(name, _nothing((1, *shape.input)), weight, None, *geometry)
    fanout = FanoutCache().of_convolution(name, call)
    operation = replace(
        _facts(name, node, shape, fanout),
        stride=geometry.stride,
        padding=tuple(before for before, _ in geometry.padding),
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    taps = math.prod(shape.output) * math.prod(weight.shape[1:])
    return operation, fanout, taps


def _facts(name: str, node: Node, shape: Shape, fanout: Fanout) -> Operation:
    return Operation(
        operation=name,
        module=node.type,
        input_shape=shape.input,
        output_shape=shape.output,
        weight_shape=weight_shape_of(node.node),
        bias=getattr(node.node, "bias", None) is not None,
        synapses=fanout.synapses,
        parameters=parameters_of(node.node),
    )


def _weight(node: Any) -> Any:
    return node.scale if hasattr(node, "scale") else node.weight


def _present(weight: Any) -> Tensor:
    """One where a weight is not zero: all that counting asks, for any dtype."""
    if isinstance(weight, Tensor):
        return (weight.detach().cpu() != 0).to(torch.float32)
    return torch.from_numpy(np.array(np.asarray(weight) != 0, dtype=np.float32))


def _nothing(size: Size) -> Tensor:
    """A tensor that has only a shape."""
    return torch.zeros((), device="cpu").expand(size)


def _at_least(expected: float) -> int:
    """A whole number that is not below; what sums have rounded up is taken off first."""
    return math.ceil(expected * (1 - _ROUNDING))


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value
