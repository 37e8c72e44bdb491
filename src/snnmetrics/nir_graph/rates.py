"""Expected spikes in a NIR graph, propagated from sources to layers.

Rates add where edges join, and in pooling windows. Average pooling and ``Scale`` change the weight
of a spike: it remains one spike, as with ``input_scale`` of the Monitor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.nir_graph.shapes import Shape, Shapes, Size, fits, pooling_of
from snnmetrics.nir_graph.wiring import SPIKING, Node, Nodes

_MOST = 2.0**53


class Signal(NamedTuple):
    """Expected spikes at the output or the input of a node.

    Attributes:
        spikes: Expected spikes per element and step, float64; ``None`` if unknown.
        scale: Weight of a spike; ``None`` for spikes of different weight.
        why: Reason why the spikes are unknown.
    """

    spikes: Tensor | None
    scale: float | None = 1.0
    why: str = ""


def checked_rates(
    rates: Mapping[str, Any] | None, nodes: Nodes, shapes: Shapes
) -> dict[str, Tensor]:
    """Rates given by the user, as float64 tensors of the shape of their nodes.

    Raises:
        TypeError: If ``rates`` is not a mapping, or a rate is not a number or array.
        ValueError: If a name is not a node that accepts a rate, or a rate is negative, not finite
            or of another shape.
    """
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        raise TypeError(f"rates: expected a mapping from names of nodes, found {rates!r}")
    takers = [name for name, node in nodes.items() if takes_rate(node)]
    for name in rates:
        if name not in takers:
            raise ValueError(f"rates: {_refusal(name, nodes)}; rates may be given for {takers}")
    found = {}
    for name, rate in rates.items():
        given = _as_tensor(name, rate)
        if name in shapes.known:
            found[name] = _of_shape(name, given, shapes.known[name].output)
    return found


def takes_rate(node: Node) -> bool:
    """Whether a node generates spikes: spiking neurons, inputs, unknown nodes."""
    return node.type in SPIKING or node.type == "" or (node.type == "Input" and not node.sources)


def signals_of(nodes: Nodes, shapes: Shapes, rates: Mapping[str, Tensor]) -> dict[str, Signal]:
    """Output signal of each node."""
    found: dict[str, Signal] = {}
    waiting = dict(nodes)
    news = True
    while news:
        news = False
        for name, node in list(waiting.items()):
            if node.type in _PASSING and not all(source in found for source in node.sources):
                continue
            found[name] = _emitted(name, node, nodes, shapes, rates, found)
            del waiting[name]
            news = True
    for name in waiting:
        found[name] = Signal(None, None, f"'{name}' is in a cycle without neurons")
    return found


def fed(name: str, nodes: Nodes, shapes: Shapes, signals: Mapping[str, Signal]) -> Signal:
    """Input signal of a node: the sum over its sources."""
    sources = [signals[source] for source in nodes[name].sources]
    if name in shapes.why:
        return Signal(None, None, shapes.why[name])
    if not sources:
        return Signal(None, None, f"nothing feeds '{name}'")
    total = torch.zeros(shapes.known[name].input, dtype=torch.float64, device="cpu")
    for source in sources:
        if source.spikes is None:
            return source
        total = total + source.spikes.reshape(total.shape)
    scales = {source.scale for source in sources}
    return Signal(total, scales.pop() if len(scales) == 1 else None)


def _emitted(
    name: str,
    node: Node,
    nodes: Nodes,
    shapes: Shapes,
    rates: Mapping[str, Tensor],
    found: Mapping[str, Signal],
) -> Signal:
    if takes_rate(node):
        why = f"no rate of '{name}'" if name in shapes.known else shapes.why[name]
        return Signal(rates.get(name), 1.0, why)
    if node.type not in _PASSING:
        return Signal(None, None, f"'{name}' ({node.type}) emits values, not spikes")
    entering = fed(name, nodes, shapes, found)
    if entering.spikes is None:
        return entering
    return _PASSING[node.type](node.node, entering, shapes.known[name])


# ------------------------------------------------------------------- nodes that pass spikes on


def _pass(node: Any, x: Signal, shape: Shape) -> Signal:
    assert x.spikes is not None
    return x._replace(spikes=x.spikes.reshape(shape.output))


def _sum_pool(node: Any, x: Signal, shape: Shape) -> Signal:
    assert x.spikes is not None
    kernel, stride, (above, left) = pooling_of(node)
    padded = F.pad(x.spikes.unsqueeze(0), (left, left, above, above))
    return x._replace(spikes=F.avg_pool2d(padded, kernel, stride, divisor_override=1)[0])


def _average_pool(node: Any, x: Signal, shape: Shape) -> Signal:
    scale = None if x.scale is None else x.scale / math.prod(pooling_of(node)[0])
    return _sum_pool(node, x, shape)._replace(scale=scale)


def _scale(node: Any, x: Signal, shape: Shape) -> Signal:
    """Spikes multiplied by zero disappear."""
    assert x.spikes is not None
    factors = torch.from_numpy(np.abs(np.array(node.scale, dtype=np.float64)))
    present = factors != 0
    distinct = factors[present].unique()
    uniform = len(distinct) == 1 and bool(distinct.isfinite().all())
    scale = x.scale * distinct.item() if x.scale is not None and uniform else None
    return Signal(x.spikes * present, scale)


_PASSING: dict[str, Callable[[Any, Signal, Shape], Signal]] = {
    "Input": _pass,
    "Output": _pass,
    "Flatten": _pass,
    "Delay": _pass,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
    "Scale": _scale,
}


# ------------------------------------------------------------------- what a user gave


def _refusal(name: object, nodes: Nodes) -> str:
    if name not in nodes:
        return f"{name!r} is not a node"
    node = nodes[str(name)]
    if node.type == "Input":
        return f"{name!r} passes on its input"
    return f"{name!r} ({node.type}) does not generate spikes"


def _as_tensor(name: str, rate: Any) -> Tensor:
    if isinstance(rate, Tensor):
        # NumPy lacks bfloat16.
        rate = (rate.double() if rate.is_floating_point() else rate).detach().cpu().numpy()
    try:
        array = np.array(rate)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"rates[{name!r}]: expected a number or an array of numbers, found {rate!r}"
        )
    given = torch.from_numpy(array.astype(np.float64))
    if not bool(((given >= 0) & (given <= _MOST)).all()):  # also refuses NaN
        raise ValueError(
            f"rates[{name!r}]: expected spikes per neuron and step from 0 to 2**53, "
            f"found {given.min().item()} to {given.max().item()}"
        )
    return given


def _of_shape(name: str, given: Tensor, expected: Size) -> Tensor:
    if given.ndim == 0:
        return given.expand(expected)
    if not fits(tuple(given.shape), expected):
        raise ValueError(
            f"rates[{name!r}]: expected a number or an array of shape {expected}, "
            f"found shape {tuple(given.shape)}"
        )
    return given.reshape(expected)
