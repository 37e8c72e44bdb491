"""Walk through the graph of a compiled model, and collect the records of one run.

The model is not computed: its tensors are ``FakeTensor`` with shapes but without values. Exceptions
are the weights that the graph receives and tensors that it computes from weights only. So the
functions that handle eager calls can determine the counted operations and their rows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sympy import Integer
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from snnmetrics.monitor.callers import GraphCaller
from snnmetrics.monitor.graphs.counter import Counter, PlannedCall
from snnmetrics.monitor.graphs.marks import marked
from snnmetrics.monitor.lineage import Sources, tensors_in
from snnmetrics.monitor.recorder import PlannedOutputs
from snnmetrics.monitor.scopes import Scope, Tracing
from snnmetrics.ops.functions import OPERATORS, Role, may_write, role_of
from snnmetrics.ops.parsers import PARSERS
from snnmetrics.tensors.accelerators.roads import WITHOUT_FLOAT64

_CHECKPOINT = "tag_activation_checkpoint"
_KERNELS = ("flex_attention", "triton_kernel_wrapper")  # kernels that contract
_WITHOUT_VALUES = FakeTensorMode(allow_non_fake_inputs=True)


class NotCountableError(Exception):
    """Raised if a graph cannot be counted by reads added to it. It then runs eagerly."""


class _UnknownSizeError(Exception):
    """Raised if the size of a tensor depends on data."""


class Place(NamedTuple):
    """Path of a module, relative to the module whose forward contains the graph if it is inside.

    Equal modules may share a graph. The relative path is valid for each of them.

    Attributes:
        within: Whether the module is inside the module whose forward contains the graph.
        path: Relative path if it is, otherwise full path.
    """

    within: bool
    path: str

    def scope(self, counter: Counter, frame: Scope) -> Scope:
        """Return the scope of the module for a run of the graph in the forward of ``frame``."""
        if self.within and not self.path:
            return frame
        name = counter.prefix(frame) + self.path if self.within else self.path
        found = counter.scope_named(name)
        if found is None:
            raise NotCountableError(f"the model has no module {name!r}, which it calls")
        return found


@dataclass(frozen=True)
class Step:
    """A node of a graph.

    Attributes:
        number: Position of the node in its graph, preceded by the positions of the checkpoints
            that contain the graph.
        node: The node.
        func: Function of the node, as an eager call passes it; None if it calls none.
        places: Enclosing modules, innermost last.
        body: Steps of the inner graph, if the node is a checkpoint.
    """

    number: tuple[int, ...]
    node: fx.Node
    func: Callable[..., Any] | None
    places: tuple[Place, ...]
    body: tuple[Step, ...] = ()


class Read(NamedTuple):
    """An operation of a graph whose operands are read.

    Attributes:
        step: Step of the operation.
        call: One call in the operation.
        source: Node whose tensor is read unchanged: the input, or the tensor before padding by
            copies. None if a reader must build the input from the operands.
        weight: Expressions by which the graph computes the weight; equal for equal weights, empty
            without a weight.
    """

    step: Step
    call: PlannedCall
    source: fx.Node | None
    weight: tuple[Any, ...]

    @property
    def scale(self) -> float | None:
        """Declared scale of the input; None without a declaration."""
        planned = self.call.planned
        site = None if planned is None else planned.site
        return None if site is None or site.scale is None else site.scale.number

    @property
    def form(self) -> tuple[Any, ...]:
        """Properties that must be equal in all runs of the graph."""
        spec = self.call.spec
        fixed = spec.weighted, self.call.swapped, self.call.padded is None, spec.batch_dims
        return self.step.number, self.call.number, *fixed, self.scale


class Emission(NamedTuple):
    """An output of neurons.

    Attributes:
        number: Number of the step that marks it.
        mark: Node of the mark.
        node: Node of the spikes.
        outputs: Record of the neurons.
    """

    number: tuple[int, ...]
    mark: fx.Node
    node: fx.Node
    outputs: PlannedOutputs


@dataclass
class Walk:
    """Records of one run of a graph.

    Attributes:
        reads: Operations, in order.
        emissions: Outputs of neurons, in order.
        uncounted: Module name, function and reason of operations that cannot be counted.
        scopes: Modules that are called.
        made: Sources of graph outputs computed only from weights and constants, by number.
        written: Identities of the memory that the graph writes into.
        has_computed_weights: Whether a weight is computed in the graph, not a view of an argument.
    """

    reads: list[Read] = field(default_factory=list)
    emissions: list[Emission] = field(default_factory=list)
    uncounted: list[tuple[str, str, str]] = field(default_factory=list)
    scopes: dict[str, Scope] = field(default_factory=dict)
    made: dict[int, Sources] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    has_computed_weights: bool = False


def steps_of(
    graph: fx.Graph, counter: Counter, frame: Scope, before: tuple[int, ...] = ()
) -> tuple[Step, ...]:
    """Return the steps of a graph that was compiled from the forward of a module.

    Args:
        graph: The graph.
        counter: Traces the root call.
        frame: Scope of the module.
        before: Number of the checkpoint that contains the graph.
    """
    nodes = enumerate(graph.nodes)
    return tuple(_step((*before, number), node, counter, frame) for number, node in nodes)


def _step(number: tuple[int, ...], node: fx.Node, counter: Counter, frame: Scope) -> Step:
    places = tuple(_places(node, counter, frame))
    func = _function(node)
    if not (isinstance(func, torch._ops.HigherOrderOperator) and func.name() == _CHECKPOINT):
        return Step(number, node, func, places)
    body = next(_bodies(node))
    return Step(number, node, func, places, steps_of(body.graph, counter, frame, number))


def _operation_in(node: fx.Node) -> str | None:
    """Return the name of a contraction in the graphs that a node runs, or None."""
    for body in _bodies(node):
        for module in body.modules():
            assert isinstance(module, fx.GraphModule)
            for func in map(_function, module.graph.nodes):
                if _contracts(func):
                    return getattr(func, "__name__", str(func))
    return None


def _contracts(func: Any) -> bool:
    if func is None:
        return False
    return func in PARSERS or role_of(func) in (Role.UNCOUNTED, Role.UNKNOWN)


def _bodies(node: fx.Node) -> Iterator[fx.GraphModule]:
    """Yield the graphs that an operator runs."""
    owner = node.graph.owning_module
    for argument in node.all_input_nodes:
        if argument.op == "get_attr":
            assert isinstance(argument.target, str)
            body = _attribute(owner, argument.target)
            if isinstance(body, fx.GraphModule):
                yield body


def _attribute(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name)
    return owner


def _places(node: fx.Node, counter: Counter, frame: Scope) -> Iterator[Place]:
    prefix = counter.prefix(frame)
    yield Place(True, "")
    for key in node.meta.get("nn_module_stack", {}):
        identity = str(key).partition("@")[0]
        scope = counter.scope_with(int(identity)) if identity.isdigit() else None
        if scope is None or scope is frame or scope.name == frame.name:
            continue
        if scope.name.startswith(prefix):
            yield Place(True, scope.name.removeprefix(prefix))
        else:
            yield Place(False, scope.name)


# Functions of eager calls, by the functions that the compiler puts in their place: tensor methods
# by operators.
_AS_CALLED = {torch._C._nn.pad: F.pad} | {
    getattr(operator, spelling): getattr(Tensor, name)
    for name in dir(Tensor)
    for spelling in (name.strip("_"), name.strip("_") + "_")
    if name.startswith("__") and callable(getattr(operator, spelling, None))
}


def _function(node: fx.Node) -> Callable[..., Any] | None:
    if node.op == "call_method":
        assert isinstance(node.target, str)
        method: Callable[..., Any] | None = getattr(Tensor, node.target, None)
        return method
    if node.op != "call_function":
        return None
    target: Any = node.target
    if target is getattr:
        slot = getattr(Tensor, str(node.args[1]), None)
        getter: Callable[..., Any] | None = getattr(slot, "__get__", None)
        return getter
    known: Callable[..., Any] = _AS_CALLED.get(target, target)
    return known


# ---------------------------------------------------------------------------------- a walk


def walk(
    steps: Sequence[Step], counter: Counter, frame: Scope, args: Sequence[Any], made: bool
) -> Walk:
    """Determine the records of one run of a graph.

    Args:
        steps: Steps of the graph.
        counter: Traces the root call.
        frame: Scope of the module whose forward contains the graph.
        args: Arguments of the graph; during compilation only example tensors, None for the rest.
        made: Whether the graph is compiled and runs now; False during compilation.

    Raises:
        NotCountableError: If the graph cannot be counted.
    """
    with torch.no_grad(), torch.inference_mode(False):
        return _Walker(counter, frame, made).run(steps, args)


class _Walker:
    def __init__(self, counter: Counter, frame: Scope, made: bool) -> None:
        self._counter = counter
        self._frame = frame
        self._made = made
        self._sizes: dict[Any, int] = {}
        self._values: dict[fx.Node, Any] = {}
        self._computed: dict[fx.Node, Any] = {}  # values computed from weights only
        self._weights: set[int] = set()  # memory of weights
        self._received: set[int] = set()  # memory of arguments
        # By memory: step of the last write, and whether the write was computed.
        self._written: dict[int, tuple[int, bool]] = {}
        self._number = 0  # of the current step
        self._numbers: dict[fx.Node, int] = {}
        self._forms: dict[fx.Node, str] = {}
        self.found = Walk()

    def run(self, steps: Sequence[Step], args: Sequence[Any]) -> Walk:
        arguments = iter(args)
        for step in steps:
            if step.node.op == "placeholder":
                self._receive(step.node, next(arguments))
        self._steps(steps)
        (output,) = steps[-1].node.args
        for number, node in enumerate(output if isinstance(output, tuple | list) else (output,)):
            value = self._values.get(node) if isinstance(node, fx.Node) else None
            known = self._counter.lineage.derived.get(id(value))
            if known is not None and known.sources is not None and known.tensor() is value:
                self.found.made[number] = known.sources
        return self.found

    def _receive(self, node: fx.Node, value: Any) -> None:
        example = node.meta.get("example_value")
        if isinstance(value, Tensor) and isinstance(example, Tensor):
            for size, real in zip(example.shape, value.shape, strict=True):
                self._solve(size, real)
        elif isinstance(value, int):
            self._solve(example, value)
        lineage = self._counter.lineage
        if isinstance(value, Tensor):
            if (memory := memory_of(node)) is not None:
                self._received.add(memory)
                if value.ndim >= 2 and lineage.sources(value) is not None:
                    self._weights.add(memory)
            if lineage.sources(value) is None:
                value = _without_values(value, tuple(value.shape), tuple(value.stride()))
        elif value is None:
            value = self._concrete(example)
        self._values[node] = value

    def _solve(self, size: Any, real: int) -> None:
        if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
            self._sizes[size.node.expr] = Integer(real)

    def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            node = step.node
            self._number += 1
            self._numbers[node] = self._number
            if node.op == "get_attr":
                owner = node.graph.owning_module
                assert isinstance(node.target, str)
                self._values[node] = _attribute(owner, node.target)
            elif step.func is not None:
                self._step(step, step.func)

    def _step(self, step: Step, func: Callable[..., Any]) -> None:
        node, counter = step.node, self._counter
        scopes = [place.scope(counter, self._frame) for place in step.places]
        self.found.scopes |= {scope.name: scope for scope in scopes}
        scope = scopes[-1]
        if func is marked:
            self._emit(step, scope, scopes[:-1])
            return
        if _is_transformed(node):
            raise NotCountableError("it uses function transforms, such as those of torch.func")
        if step.body:
            self._values[node] = self._checkpoint(step)
            return
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            several = self._value_of(node.args[0])
            if isinstance(several, tuple | list) and isinstance(node.args[1], int):
                self._values[node] = several[node.args[1]]
                return
        self._values[node] = output = self._concrete(node.meta.get("example_value"))
        if isinstance(func, torch._ops.HigherOrderOperator):
            self._run_graphs(node, func, scope)
            return
        if any(around.tracing is Tracing.NEURONS for around in scopes):
            return
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value_of)
        if not any(True for _ in tensors_in((*args, *kwargs.values(), output))):
            return  # computes with numbers only
        if (getattr(func, "__module__", None) or "").startswith("torch._dynamo"):
            return  # replaces a NumPy function, which is not counted in eager mode either
        if func in PARSERS:
            if any(self._value_of(operand) is None for operand in node.all_input_nodes):
                raise NotCountableError("it contains an operand whose size depends on data")
            args, kwargs = fx.map_arg((node.args, node.kwargs), self._with_values)
        if any(tensor.device.type in WITHOUT_FLOAT64 for tensor in tensors_in(args)):
            raise NotCountableError("its device has no float64")
        self._note_write(node, func, kwargs)
        caller = GraphCaller(node.meta.get("stack_trace"), scope.module)
        with counter.within(scope):
            calls = counter.plan(func, args, kwargs, output, caller)
        if any(call.quantised for call in calls):
            raise NotCountableError("it contains an operation with quantised operands")
        self.found.reads += [
            Read(step, call, self._source(node, call), self._making(node)) for call in calls
        ]

    def _run_graphs(
        self, node: fx.Node, func: torch._ops.HigherOrderOperator, scope: Scope
    ) -> None:
        """Handle an operator that runs other graphs or a custom kernel."""
        if func.name().startswith(_KERNELS):
            self.found.uncounted.append((scope.name, func.name(), "a custom kernel"))
            return
        if (what := _operation_in(node)) is not None:
            raise NotCountableError(f"{func.name()} contains operations ({what})")
        lineage = self._counter.lineage
        operands = map(self._value_of, node.all_input_nodes)
        if any(isinstance(value, Tensor) and lineage.is_weight(value) for value in operands):
            raise NotCountableError(f"{func.name()} has a weight as operand")

    def _source(self, node: fx.Node, call: PlannedCall) -> fx.Node | None:
        if call.padded is not None:
            padded = call.padded.source
            return next(node for node, value in self._values.items() if value is padded)
        operands = (operand for operand in node.all_input_nodes)
        return next((o for o in operands if self._value_of(o) is call.left), None)

    def _making(self, node: fx.Node) -> tuple[Any, ...]:
        """Return the expressions of the operands that are weights, in terms of graph arguments."""
        lineage = self._counter.lineage
        values = ((operand, self._value_of(operand)) for operand in node.all_input_nodes)
        return tuple(
            self._form(operand)
            for operand, value in values
            if isinstance(value, Tensor) and lineage.is_weight(value)
        )

    def _form(self, node: fx.Node) -> Any:
        known = self._forms.get(node)
        if known is None:
            if node.op in ("placeholder", "get_attr"):
                known = node.name
            else:
                args = fx.map_arg((node.args, node.kwargs), self._form)
                known = f"{node.target}{args}"
            self._forms[node] = known
        return known

    def _value_of(self, node: fx.Node) -> Any:
        return self._values.get(node)

    def _emit(self, step: Step, scope: Scope, around: Sequence[Scope]) -> None:
        """Find the spikes in a marked output."""
        node = step.node
        marked_output = fx.map_arg(node.args[0], self._value_of)
        self._values[node] = marked_output
        if scope.neurons is None or any(s.tracing is Tracing.NEURONS for s in around):
            return
        spikes = scope.neurons.read(scope.module, marked_output)
        if spikes is None:
            return
        tensor, lead = spikes
        for argument in node.all_input_nodes:
            if self._values.get(argument) is tensor:
                outputs = PlannedOutputs(scope.name, scope.kind, tensor.shape, lead, 1)
                self.found.emissions.append(Emission(step.number, node, argument, outputs))
                return
        raise NotCountableError(f"the spikes of {scope.name} are not among the tensors it returned")

    def _checkpoint(self, step: Step) -> Any:
        """Walk through the graph of a checkpoint and return its outputs."""
        given = [self._value_of(node) for node in step.node.args[1:] if isinstance(node, fx.Node)]
        holders = [inner.node for inner in step.body if inner.node.op == "placeholder"]
        self._values |= dict(zip(holders, given, strict=True))
        self._computed |= {
            holder: self._computed[outer]
            for holder, outer in zip(holders, step.node.args[1:], strict=True)
            if isinstance(outer, fx.Node) and outer in self._computed
        }
        self._steps(step.body)
        (output,) = step.body[-1].node.args
        return fx.map_arg(output, self._value_of)

    def _note_write(
        self, node: fx.Node, func: Callable[..., Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Track the writes of a node.

        Raises:
            NotCountableError: If it writes into a weight, whose zeros were read before the run.
        """
        memories = {memory_of(target) for target in _targets(node, func, kwargs)} - {None}
        if not memories:
            return
        if not memories.isdisjoint(self._weights):
            raise NotCountableError(
                "it writes into a weight, or into a buffer with two or more dimensions"
            )
        follows = memories.isdisjoint(self._received)
        if follows:
            try:
                self._compute(node)  # now, since later values depend on the write
            except NotCountableError:
                follows = False
        for memory in memories:
            assert memory is not None
            self._written[memory] = self._number, follows
            self.found.written.add(memory)

    # ------------------------------------------------------------------------ weights

    def _with_values(self, node: fx.Node) -> Any:
        """Return the value of an operand; a weight computed in the graph gets its real values."""
        value = self._value_of(node)
        if isinstance(value, Tensor) and _is_without_values(value):
            sources = self._counter.lineage.sources(value)
            if sources:
                value = self._compute(node)
                self._counter.lineage.remember(value, sources)
                self.found.has_computed_weights |= value._base is None
        return value

    def _compute(self, node: fx.Node) -> Any:
        """Compute a node of the graph from weights and constants."""
        if node in self._computed:
            return self._computed[node]
        for operand in node.all_input_nodes:
            last, follows = self._written.get(memory_of(operand) or -1, (0, True))
            if not follows or last > self._numbers[node]:
                raise NotCountableError("it writes into a tensor from which a weight is computed")
        value = self._value_of(node)
        func = _function(node)
        if value is not None and not any(map(_is_without_values, tensors_in((value,)))):
            made = value
        elif func is None or func is marked or isinstance(func, torch._ops.HigherOrderOperator):
            raise NotCountableError("it computes a weight from a tensor that is not a weight")
        elif not _is_known(func):
            raise NotCountableError(f"it computes a weight by the unknown function {node.target}")
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), self._compute)
            with _no_random_numbers(args):
                if node.op == "call_method":
                    made = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                else:
                    assert callable(node.target)
                    made = node.target(*args, **kwargs)
        self._computed[node] = made
        return made

    # -------------------------------------------------------------------------- shapes

    def _concrete(self, example: Any) -> Any:
        """Replace the symbolic sizes of an example value by numbers; None if one is unknown."""
        try:
            return self._with_sizes(example)
        except _UnknownSizeError:
            return None

    def _with_sizes(self, example: Any) -> Any:
        if isinstance(example, Tensor):
            if example.layout is not torch.strided:
                raise NotCountableError(f"it contains a tensor of layout {example.layout}")
            shape = tuple(self._size(size) for size in example.shape)
            strides = tuple(self._size(stride) for stride in example.stride())
            return _without_values(example, shape, strides)
        if isinstance(example, torch.SymInt):
            return self._size(example)
        if isinstance(example, tuple | list):
            return tuple(self._with_sizes(part) for part in example)
        return example

    def _size(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        known = size.node.expr.xreplace(self._sizes)
        if known.is_Integer:
            return int(known)
        if self._made or size.node.hint is None:
            raise _UnknownSizeError
        return int(size.node.hint)


def memory_of(node: fx.Node) -> int | None:
    """Return the identity of the memory of a tensor of a graph; views share it."""
    example = node.meta.get("example_value")
    if not isinstance(example, Tensor) or example.layout is not torch.strided:
        return None
    if _is_transformed(node):
        return None  # a graph with such tensors is not counted
    return int(example.untyped_storage()._cdata)


def _without_values(like: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    with _WITHOUT_VALUES:
        return torch.empty_strided(shape, strides, dtype=like.dtype, device=like.device)


def _is_without_values(tensor: Tensor) -> bool:
    return getattr(tensor, "fake_mode", None) is _WITHOUT_VALUES


def _is_known(func: Callable[..., Any]) -> bool:
    """Return whether equal arguments give equal results, as for all functions of PyTorch."""
    module = getattr(func, "__module__", None) or ""
    return role_of(func) is not Role.UNKNOWN or module.startswith("torch.")


def _is_transformed(node: fx.Node) -> bool:
    """Return whether a node returns a tensor that is wrapped by a transform of ``torch.func``."""
    example = node.meta.get("example_value")
    return isinstance(example, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(example)


def _targets(node: fx.Node, func: Callable[..., Any], kwargs: Mapping[str, Any]) -> list[fx.Node]:
    """Return the operands that a node may write into."""
    found: list[Any] = []
    if isinstance(func, OPERATORS):
        schema = getattr(func, "_schema", None)
        if schema is None or len(node.args) > len(schema.arguments):
            return list(node.all_input_nodes) if may_write(func, dict(kwargs)) else []
        for place, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                known = place < len(node.args)
                found.append(node.args[place] if known else node.kwargs.get(argument.name))
    else:
        if "out" in node.kwargs:
            found.append(node.kwargs["out"])
        # The last positional argument may be ``inplace``.
        in_place = kwargs.get("inplace") or (node.args and node.args[-1] is True)
        if in_place or may_write(func, {}):
            if role_of(func) is Role.UNKNOWN:
                return list(node.all_input_nodes)
            found.append(node.args[0] if node.args else list(node.kwargs.values()))
    nodes: list[fx.Node] = []
    fx.map_arg(tuple(found), nodes.append)
    return nodes


@contextmanager
def _no_random_numbers(args: Any) -> Iterator[None]:
    """Raise if random numbers are drawn, and restore the random generators of the user."""
    devices = {tensor.device for tensor in tensors_in(args) if tensor.is_cuda}
    with torch.random.fork_rng(devices=[device.index or 0 for device in devices]):
        before = torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)
        yield
        after = torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)
        if not all(map(torch.equal, before, after)):
            raise NotCountableError("it computes a weight from random numbers")
