"""Add reads of activations to the graph of a compiled model, and return their results.

The read of an operation is inserted before it in the graph, and its results are appended to the
outputs of the model. Reads write to no tensor of the model, so the compiler can fuse them with it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from snnmetrics.monitor.graphs.binary import Binary
from snnmetrics.monitor.graphs.marks import marked
from snnmetrics.monitor.graphs.walk import Emission, NotCountableError, Read, Walk, memory_of
from snnmetrics.ops.parsers import calls_of, takes_output
from snnmetrics.ops.spec import Call
from snnmetrics.tensors.fused import (
    FusedSums,
    count_sums,
    fused_sums,
    graded_sums,
    joined,
    over_more,
    product_figures,
    spike_sums,
    with_kind,
)

_FIELDS = len(FusedSums._fields)
Found = tuple[Tensor | None, ...]
"""Fields of :class:`FusedSums` as a plain tuple, which nodes of a graph can return."""


class Joined(NamedTuple):
    """Reads of the same neurons, joined into one pair of graph outputs.

    Attributes:
        numbers: Numbers of the reads, in order.
        sums: Number of the output with their sums.
        kinds: Number of the output with their kinds; None if all contain only zeros and ones.
    """

    numbers: list[int]
    sums: int
    kinds: int | None


@dataclass
class Layout:
    """Order of the graph outputs: the outputs of the model, followed by the results of the reads.

    Attributes:
        outputs: Number of outputs of the model.
        inputs: Reads of inputs that are contracted with a weight.
        emissions: Reads of neuron outputs.
        products: Numbers of the reads of products; their results are one tensor, the last output.
    """

    outputs: int
    inputs: list[Joined] = field(default_factory=list)
    emissions: list[Joined] = field(default_factory=list)
    products: list[int] = field(default_factory=list)


def instrument(graph: fx.Graph, walk: Walk) -> Layout:
    """Add reads to a graph.

    Args:
        graph: Graph, changed in place.
        walk: Operations and neuron outputs to read.

    Raises:
        NotCountableError: If the operands of an operation cannot be read within a graph.
    """
    return _Instrument(graph, walk).run()


class _Instrument:
    def __init__(self, graph: fx.Graph, walk: Walk) -> None:
        self._graph = graph
        self._walk = walk
        self._nodes: dict[tuple[str, int], fx.Node] = {}  # reads in the main graph
        self._tensors: dict[fx.Node, dict[Any, fx.Node]] = {}  # reads, by tensor and dimensions
        self._of_spikes: set[fx.Node] = set()  # reads of binary tensors
        self._joined: dict[tuple[fx.Node, ...], tuple[int, int | None]] = {}
        self._outputs: list[Any] = []
        self._binary = Binary(frozenset(walk.written))

    def run(self) -> Layout:
        graph = self._graph
        output = next(iter(graph.find_nodes(op="output")))
        given = output.args[0]
        if not isinstance(given, tuple | list):
            raise NotCountableError("its output is not a tuple")
        layout = Layout(len(given))
        self._nodes = self._added(graph)
        self._outputs = list(given)
        with graph.inserting_before(output):
            self._give_out(layout)
        output.args = (tuple(self._outputs), *output.args[1:])
        erase_marks(graph)
        graph.lint()
        return layout

    def _give_out(self, layout: Layout) -> None:
        reads, emissions = self._walk.reads, self._walk.emissions
        inputs = [n for n, read in enumerate(reads) if read.call.spec.weighted]
        for numbers in _grouped(inputs, lambda n: _same_neurons(reads[n])):
            layout.inputs.append(self._join("read", numbers))
        for numbers in _grouped(range(len(emissions)), lambda n: _same_outputs(emissions[n])):
            layout.emissions.append(self._join("emission", numbers))
        products = [n for n, read in enumerate(reads) if not read.call.spec.weighted]
        if products:
            given = [self._nodes["read", n] for n in products]
            self._outputs.append(self._graph.call_function(torch.stack, (given,)))
            layout.products = products

    def _join(self, what: str, numbers: list[int]) -> Joined:
        """Append joined reads to the outputs, once for equal reads.

        Reads are equal if an input is the unchanged output of neurons.
        """
        nodes = tuple(self._nodes[what, n] for n in numbers)
        places = self._joined.get(nodes)
        if places is None:
            graph, start = self._graph, len(self._outputs)
            pair = graph.call_function(joined, (list(nodes),))
            kinds = None if self._of_spikes.issuperset(nodes) else start + 1
            for number in range(1 if kinds is None else 2):
                self._outputs.append(graph.call_function(operator.getitem, (pair, number)))
            places = self._joined[nodes] = start, kinds
        return Joined(numbers, *places)

    def _added(self, graph: fx.Graph) -> dict[tuple[str, int], fx.Node]:
        """Add reads to a graph and the graphs of its checkpoints, and return their nodes."""
        found: dict[tuple[str, int], fx.Node] = {}
        for number, emission in enumerate(self._walk.emissions):
            if emission.mark.graph is graph:
                with graph.inserting_before(emission.mark):
                    dims = tuple(range(emission.outputs.lead))
                    found["emission", number] = self._tensor(graph, emission.node, dims, None)
        for number, read in enumerate(self._walk.reads):
            if read.step.node.graph is graph:
                with graph.inserting_before(read.step.node):
                    found["read", number] = self._read(graph, read)
        for node in list(graph.nodes):
            body = body_of(node)
            if body is not None:
                found |= self._from_body(graph, node, body)
        return found

    def _read(self, graph: fx.Graph, read: Read) -> fx.Node:
        """Add the read of an operation; the node returns sums, or the figures of a product."""
        call, node = read.call, read.step.node
        if read.source is not None and call.spec.weighted:
            dims = (0,) if call.padded is not None else call.spec.batch_dims
            return self._tensor(graph, read.source, dims, read.scale)
        assert read.step.func is not None
        if takes_output(read.step.func):
            raise NotCountableError(
                "it contains a recurrent network, whose states are available only as its outputs"
            )
        if not call.spec.weighted and call.spec.is_convolution:
            raise NotCountableError("it contains a convolution of two activations")
        which = read.step.func, call.number, call.swapped
        if call.spec.weighted:
            reads: Callable[..., Any] = _input_reader(*which, read.scale)
        else:
            reads = _product_reader(*which, self._spiking(node), self._counting(node))
        return graph.call_function(reads, node.args, dict(node.kwargs))

    def _spiking(self, node: fx.Node) -> frozenset[int]:
        """Return the positions of the operands that contain only zeros and ones."""
        is_binary = self._binary.is_binary
        return frozenset(n for n, operand in enumerate(node.args) if is_binary(operand))

    def _counting(self, node: fx.Node) -> frozenset[int]:
        """Return the positions of the operands that contain counts."""
        is_count = self._binary.is_count
        return frozenset(n for n, operand in enumerate(node.args) if is_count(operand))

    def _tensor(
        self, graph: fx.Graph, node: fx.Node, dims: tuple[int, ...], scale: float | None
    ) -> fx.Node:
        """Add the read of a tensor. All operations on it share the read, unless it is written to.

        A read over fewer dimensions is reused: its sums are summed over the further dimensions.
        """
        known = {} if memory_of(node) in self._walk.written else self._tensors.setdefault(node, {})
        found = known.get((dims, scale))
        if found is None:
            finer = [d for d, s in known if s is None and scale is None and set(d) < set(dims)]
            if finer:
                best = max(finer, key=len)
                found = graph.call_function(_over_more, (known[best, None], node, best, dims))
                if known[best, None] in self._of_spikes:
                    self._of_spikes.add(found)
            elif scale is None and self._binary.is_binary(node):
                found = graph.call_function(_read_spikes, (node, dims))
                self._of_spikes.add(found)
            elif scale is None and self._binary.is_count(node):
                found = graph.call_function(_read_counts, (node, dims))
            elif scale is None and (factor := self._binary.factor(node)) is not None:
                found = graph.call_function(_read_graded, (node, factor, dims))
            else:
                found = graph.call_function(_read_tensor, (node, dims, scale))
            known[dims, scale] = found
        return found

    def _from_body(
        self, graph: fx.Graph, node: fx.Node, body: fx.GraphModule
    ) -> dict[tuple[str, int], fx.Node]:
        inner = self._added(body.graph)
        erase_marks(body.graph)
        if not inner:
            return {}
        output = next(iter(body.graph.find_nodes(op="output")))
        given = output.args[0]
        if not isinstance(given, tuple | list):
            raise NotCountableError("the output of a checkpoint in it is not a tuple")
        parts: list[fx.Node] = []
        places: dict[tuple[str, int], tuple[int, int | None]] = {}
        with body.graph.inserting_before(output):
            for key, tuple_node in inner.items():
                start = len(given) + len(parts)
                if key[0] == "read" and not self._walk.reads[key[1]].call.spec.weighted:
                    places[key] = start, None
                    parts.append(tuple_node)
                    continue
                places[key] = start, start + _FIELDS
                fields = body.graph.call_function(with_kind, (tuple_node,))
                parts += [
                    body.graph.call_function(operator.getitem, (fields, number))
                    for number in range(_FIELDS)
                ]
        output.args = ((*given, *parts), *output.args[1:])
        body.recompile()
        found = {}
        with graph.inserting_after(node):
            for key, (start, end) in places.items():
                place = start if end is None else slice(start, end)
                found[key] = graph.call_function(operator.getitem, (node, place))
        return found


def body_of(node: fx.Node) -> fx.GraphModule | None:
    """Return the graph of a checkpoint, or None for another node."""
    if node.op != "call_function" or getattr(node.target, "name", None) is None:
        return None
    if not isinstance(node.target, torch._ops.HigherOrderOperator):
        return None
    holder = node.args[0] if node.args else None
    if not isinstance(holder, fx.Node) or holder.op != "get_attr":
        return None
    body = getattr(node.graph.owning_module, str(holder.target), None)
    return body if isinstance(body, fx.GraphModule) else None


def erase_marks(graph: fx.Graph) -> None:
    """Remove the marks of neuron outputs from a graph."""
    for node in graph.find_nodes(op="call_function", target=marked):
        for user in list(node.users):
            graph.erase_node(user)
        graph.erase_node(node)


def _read_tensor(x: Tensor, dims: tuple[int, ...], scale: float | None) -> Found:
    """Read a tensor of the graph."""
    return tuple(fused_sums(x, dims, scale))


def _read_spikes(x: Tensor, dims: tuple[int, ...]) -> Found:
    """Read a tensor of the graph that contains only zeros and ones."""
    return tuple(spike_sums(x, dims))


def _read_counts(x: Tensor, dims: tuple[int, ...]) -> Found:
    """Read a tensor of the graph that contains only counts."""
    return tuple(count_sums(x, dims))


def _read_graded(x: Tensor, factor: Tensor, dims: tuple[int, ...]) -> Found:
    """Read a tensor of the graph that is the product of a binary tensor and a scalar."""
    return tuple(graded_sums(x, factor, dims))


def _over_more(found: Any, x: Tensor, dims: tuple[int, ...], more: tuple[int, ...]) -> Found:
    """Return sums of a tensor over ``more`` dimensions, from its sums over ``dims``."""
    kept = [d for d in range(x.ndim) if d not in dims]
    summed = [number for number, d in enumerate(kept) if d in more]
    return tuple(over_more(FusedSums(*found), [x.shape[d] for d in kept], summed))


def _input_reader(
    func: Callable[..., Any], number: int, swapped: bool, scale: float | None
) -> Callable[..., Found]:
    def read_input(*args: Any, **kwargs: Any) -> Found:
        call = _as_counted(calls_of(func, args, kwargs, None)[number], swapped)
        return tuple(fused_sums(call.left, call.spec.batch_dims, scale))

    return read_input


def _product_reader(
    func: Callable[..., Any],
    number: int,
    swapped: bool,
    spiking: frozenset[int],
    counting: frozenset[int],
) -> Callable[..., Tensor]:
    def read_product(*args: Any, **kwargs: Any) -> Tensor:
        call = calls_of(func, args, kwargs, None)[number]

        def reader(x: Tensor) -> Callable[[Tensor, Sequence[int]], FusedSums]:
            if any(args[n] is x for n in spiking):
                return spike_sums
            return count_sums if any(args[n] is x for n in counting) else fused_sums

        readers = [reader(x) for x in (call.left, call.right)]
        call = _as_counted(call, swapped)
        letters = call.spec.letters
        left, right = (
            _factor(operand, of, letters.shared, read)
            for operand, of, read in zip(
                (call.left, call.right),
                (letters.left, letters.right),
                reversed(readers) if swapped else readers,
                strict=True,
            )
        )
        return product_figures(left, right)

    return read_product


def _factor(
    operand: Tensor,
    letters: str,
    shared: list[str],
    read: Callable[[Tensor, Sequence[int]], FusedSums],
) -> FusedSums:
    """Read a factor of a product, summed over the indices that the other factor does not have."""
    summed = [d for d, letter in enumerate(letters) if letter not in shared]
    kept = [letters.index(letter) for letter in shared]
    return read(operand.permute(*summed, *kept), range(len(summed)))


def _as_counted(call: Call, swapped: bool) -> Call:
    """Return the form of a call that is counted: weight second, dimensions aligned."""
    if swapped:
        call = call.swapped()
    return call if call.spec.is_convolution else call.aligned()


def _grouped(numbers: Iterable[int], key: Callable[[int], Any]) -> Sequence[list[int]]:
    groups: dict[Any, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.values())


def _same_neurons(read: Read) -> Any:
    """Return a key, equal for inputs of the same neurons, weight and row."""
    spec, call = read.call.spec, read.call
    neurons = tuple(size for d, size in enumerate(spec.left_shape) if d not in spec.batch_dims)
    padded = None if call.padded is None else (call.padded.pad, call.padded.mode)
    facts = call.number, call.swapped, spec.operation, spec.part, spec.form, spec.right_shape
    return read.step.places[-1], facts, read.weight, neurons, padded, read.scale


def _same_outputs(emission: Emission) -> Any:
    name, _, shape, lead, _ = emission.outputs
    return name, shape, lead
