"""Shapes in a NIR graph: stated by nodes, or inferred from their sources.

NIR states the shape of most nodes. Pooling lacks one, a convolution may lack one
(``input_shape=None``), a ``Flatten`` likewise, and frameworks write equal parameters of neurons as
scalars. These nodes take their shape from their sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from snnmetrics.nir_graph.wiring import GRAPH, Node, Nodes, type_of
from snnmetrics.ops.geometry import ConvGeometry

Size = tuple[int, ...]

# Neurons and other element-wise nodes, with a parameter of their shape.
SHAPED_BY = {
    "IF": "v_threshold",
    "LIF": "v_threshold",
    "CubaLIF": "v_threshold",
    "Threshold": "threshold",
    "I": "r",
    "LI": "r",
    "CubaLI": "r",
    "Delay": "delay",
    "Scale": "scale",
}


class Shape(NamedTuple):
    """Sizes of the input and the output of a node."""

    input: Size
    output: Size


class Shapes(NamedTuple):
    """Shapes by name of the node; for all other nodes, the reason why the shape is unknown."""

    known: dict[str, Shape]
    why: dict[str, str]


class UnfitError(Exception):
    """Parameters of a node are inconsistent."""


def sizes_of(array: Any) -> Size:
    """The shape of a NumPy array, a tensor or a number, as plain integers."""
    return tuple(int(size) for size in np.shape(array))


def shapes_of(nodes: Nodes) -> Shapes:
    """Find the shapes of all nodes that are stated or can be inferred."""
    found = Shapes({}, {})
    _follow_edges(nodes, found)
    # Nodes without a known source may still state a shape, or have a target that states one.
    while _take_stated(nodes, found) or _take_from_readers(nodes, found):
        _follow_edges(nodes, found)
    for name, node in nodes.items():
        if name in found.known and node.type:  # unknown types accept any input
            _check_sources(name, node, nodes, found)
    for name in nodes:
        if name not in found.known:
            found.why.setdefault(name, _cause(name, nodes, found))
    return found


def fits(fed: Size, expected: Size) -> bool:
    """Whether shapes agree, ignoring a leading batch of one left by a converter."""
    return _without_ones(fed) == _without_ones(expected)


def _without_ones(size: Size) -> Size:
    first = next((d for d, n in enumerate(size) if n != 1), len(size))
    return size[first:]


def accepts(source: Node, fed: Size, expected: Size) -> bool:
    """Whether a node with input shape ``expected`` may read a source of shape ``fed``."""
    if fits(fed, expected):
        return True
    # `start_dim` is 1 by default, which assumes a batch dimension that shapes in NIR lack.
    return source.type == "Flatten" and math.prod(fed) == math.prod(expected)


# ------------------------------------------------------------------- through the graph


def _follow_edges(nodes: Nodes, found: Shapes) -> None:
    """Visit the nodes until the shapes no longer change."""
    news = True
    while news:
        news = False
        for name, node in nodes.items():
            if name not in found.known and name not in found.why:
                news |= _enter(name, node, found)


def _enter(name: str, node: Node, found: Shapes) -> bool:
    """Infer the shape of a node from itself and its sources; return whether it changed."""
    known = (found.known[source].output for source in node.sources if source in found.known)
    try:
        shape = _RULES.get(node.type, _stated)(node, next(known, None))
        if shape is not None and 0 in (*shape.input, *shape.output):
            raise UnfitError(f"{shape.input} or {shape.output} is empty")
    except UnfitError as error:
        found.why[name] = str(error)
        return True
    if shape is not None:
        found.known[name] = shape
    return shape is not None


def _take_stated(nodes: Nodes, found: Shapes) -> bool:
    """Use the shape of parameters as that of the neurons, if it is otherwise unknown."""
    news = False
    for name, node in nodes.items():
        if name not in found.known and node.type in SHAPED_BY and name not in found.why:
            size = sizes_of(getattr(node.node, SHAPED_BY[node.type]))
            if size and 0 not in size:
                found.known[name] = Shape(size, size)
                news = True
    return news


def _take_from_readers(nodes: Nodes, found: Shapes) -> bool:
    """Use the input size of a node as the output size of its sources."""
    read = {
        source: found.known[name].input
        for name, node in nodes.items()
        if name in found.known
        for source in node.sources
    }
    news = False
    for name, size in read.items():
        # Other nodes do not determine the input size by the output size.
        if name not in found.known | found.why and nodes[name].type in {
            "Input",
            "Output",
            *SHAPED_BY,
        }:
            found.known[name] = Shape(size, size)
            news = True
    return news


def _check_sources(name: str, node: Node, nodes: Nodes, found: Shapes) -> None:
    expected = found.known[name].input
    for source in node.sources:
        fed = found.known.get(source)
        if fed is not None and not accepts(nodes[source], fed.output, expected):
            found.why[name] = f"its input is {expected}, and '{source}' returns {fed.output}"


def _cause(name: str, nodes: Nodes, found: Shapes) -> str:
    """Explain why a shape is unknown: the graph does not state it, here or at a source."""
    seen = {name}
    while True:
        ahead = [source for source in nodes[name].sources if source not in found.known]
        if name in found.why:
            return f"the shape of '{name}' is unknown: {found.why[name]}"
        if not ahead or ahead[0] in seen:
            return f"the graph does not determine the shape of '{name}'"
        name = ahead[0]
        seen.add(name)


# ------------------------------------------------------------------- node by node


def _port(node: Node, fed: Size | None) -> Shape | None:
    key = "input" if node.type == "Input" else "output"
    stated = (getattr(node.node, f"{key}_type", None) or {}).get(key)
    size = fed if stated is None else tuple(int(n) for n in stated)
    return None if size is None else Shape(size, size)


def _stated(node: Node, fed: Size | None) -> Shape | None:
    """Shape of a node of unknown type, if it states one."""
    output = (getattr(node.node, "output_type", None) or {}).get("output")
    # A subgraph has one shape per port, and a port may be called "output".
    if output is None or type_of(node.node) == GRAPH:
        return None
    taken = (getattr(node.node, "input_type", None) or {}).get("input")
    size = tuple(int(n) for n in output)
    return Shape(size if taken is None else tuple(int(n) for n in taken), size)


def _elementwise(node: Node, fed: Size | None) -> Shape | None:
    if fed is None:
        return None
    own = sizes_of(getattr(node.node, SHAPED_BY[node.type]))
    # Parameters with one element, or one per channel, may apply to many neurons.
    size = fed if _spreads(own, fed) else own
    return Shape(size, size)


def _spreads(size: Size, other: Size) -> bool:
    try:
        return np.broadcast_shapes(size, other) == other
    except ValueError:
        return False


def _linear(node: Node, fed: Size | None) -> Shape | None:
    *lead, outputs, inputs = sizes_of(node.node.weight)
    return Shape((*lead, inputs), (*lead, outputs))


def _conv(node: Node, fed: Size | None) -> Shape | None:
    channels, per_group, *kernel = sizes_of(node.node.weight)
    geometry = geometry_of(node.node)
    stated = node.node.input_shape
    if stated is not None:
        spatial = tuple(int(n) for n in np.ravel(stated))
    elif fed is not None and len(fed) > len(kernel):
        spatial = fed[-len(kernel) :]
    else:
        return None
    if len(spatial) != len(kernel):
        raise UnfitError(f"input_shape {spatial} is not of as many dimensions as {tuple(kernel)}")
    outputs = geometry.output_size(spatial, kernel)
    if min(outputs) < 1:
        raise UnfitError(f"a kernel of {tuple(kernel)} does not fit into an input of {spatial}")
    return Shape((per_group * geometry.groups, *spatial), (channels, *outputs))


def geometry_of(conv: Any) -> ConvGeometry:
    """Geometry of a NIR convolution; ``"same"`` and ``"valid"`` as numbers.

    Raises:
        UnfitError: If the parameters are invalid.
    """
    channels, _, *kernel = sizes_of(conv.weight)
    stride, dilation = (per_dim(value, len(kernel)) for value in (conv.stride, conv.dilation))
    padding = conv.padding
    if not isinstance(padding, str):
        padding = per_dim(padding, len(kernel))
    elif padding == "same" and set(stride) != {1}:
        raise UnfitError(f"padding 'same' is undefined with a stride of {stride}")
    groups = int(conv.groups)
    if groups < 1 or channels % groups or min(*stride, *dilation) < 1:
        raise UnfitError(f"stride {stride}, dilation {dilation}, groups {groups} are not possible")
    return ConvGeometry.of(kernel, stride, padding, dilation, groups)


def per_dim(value: Any, ndim: int) -> Size:
    """One integer per dimension, from one for all or from several.

    Raises:
        UnfitError: If their number differs from the dimensions.
    """
    numbers = tuple(int(n) for n in np.ravel(value))
    if len(numbers) not in (1, ndim):
        raise UnfitError(f"expected one number or {ndim}, found {numbers}")
    return numbers * ndim if len(numbers) == 1 else numbers


def _pool(node: Node, fed: Size | None) -> Shape | None:
    if fed is None:
        return None
    kernel, stride, padding = pooling_of(node.node)
    if len(fed) < 3:
        raise UnfitError(f"pooling expects (C, H, W), found {fed}")
    sizes = zip(fed[-2:], kernel, stride, padding, strict=True)
    outputs = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
    if min(outputs) < 1:
        raise UnfitError(f"a window of {kernel} does not fit into an input of {fed}")
    return Shape(fed[-3:], (fed[-3], *outputs))


def pooling_of(pool: Any) -> tuple[Size, Size, Size]:
    """Kernel, stride and padding of a pooling node.

    Raises:
        UnfitError: If the parameters are invalid.
    """
    kernel, stride, padding = (
        per_dim(value, 2) for value in (pool.kernel_size, pool.stride, pool.padding)
    )
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise UnfitError(f"kernel {kernel}, stride {stride}, padding {padding} are not possible")
    return kernel, stride, padding


def _flatten(node: Node, fed: Size | None) -> Shape | None:
    stated = (node.node.input_type or {}).get("input")
    size = fed if stated is None else tuple(int(n) for n in stated)
    if size is None:
        return None
    first, last = (int(dim) for dim in (node.node.start_dim, node.node.end_dim))
    first, last = (dim + len(size) if dim < 0 else dim for dim in (first, last))
    if first >= len(size):  # a batch dimension was counted; there is nothing to flatten
        return Shape(size, size)
    merged = math.prod(size[first : last + 1])
    return Shape(size, (*size[:first], merged, *size[last + 1 :]))


_Rule = Callable[[Node, Size | None], Shape | None]
_RULES: dict[str, _Rule] = {
    "Input": _port,
    "Output": _port,
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    **dict.fromkeys(SHAPED_BY, _elementwise),
}
