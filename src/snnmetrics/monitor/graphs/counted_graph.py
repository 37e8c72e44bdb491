"""A graph of a compiled model that counts its operations while it runs.

Equal modules share one graph, so the rows of its operations depend on the weights that it receives.
The first run with a set of weights determines the rows and stores them in a plan. Further runs with
these weights use the plan and only add the sums that the graph has read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

from snnmetrics.monitor.callers import GraphCaller
from snnmetrics.monitor.graphs.counter import Counter
from snnmetrics.monitor.graphs.instrument import Layout, body_of, instrument
from snnmetrics.monitor.graphs.marks import marked
from snnmetrics.monitor.graphs.walk import NotCountableError, Step, Walk, steps_of, walk
from snnmetrics.monitor.lineage import Sources
from snnmetrics.monitor.recorder import Planned, PlannedInputs, PlannedOutputs
from snnmetrics.monitor.scopes import Scope, Tracing
from snnmetrics.report.data import RowKey, Uncounted
from snnmetrics.synapses.maps import SynapseMaps
from snnmetrics.synapses.weights import version_of

Run = Callable[..., Any]


@dataclass
class Plan:
    """The records of one run of a graph, for one set of weights.

    Attributes:
        weights: Weights that the graph received. References keep them alive, since plans are looked
            up by their identities.
        scopes: Modules that the graph calls.
        keys: Rows, in the order of their operations.
        inputs: Inputs that are contracted with a weight; None for inputs that are not counted.
        emissions: Outputs of neurons; None for outputs that are not counted.
        products: Products of two activations; None for products that are not counted.
        uncounted: Operations that cannot be counted.
        made: Sources of the graph outputs that are weights, by number of the output.
        touched: Weights passed to functions that do not contract.
        expanded: Weights that were multiplied into outputs larger than the activation.
        stamp: Versions for which computed weights are valid; None without computed weights.
    """

    weights: list[Tensor]
    scopes: list[Scope]
    keys: list[RowKey]
    inputs: list[PlannedInputs | None]
    emissions: list[PlannedOutputs | None]
    products: list[Planned | None]
    uncounted: list[Uncounted]
    made: dict[int, Sources]
    touched: set[str]
    expanded: set[str]
    stamp: Any


class Backend:
    """Compiles counted graphs with the backend of the user.

    PyTorch's compiler looks up compiled code by its backend, so each backend of the user has one
    instance of this class for the lifetime of the process.

    Args:
        inner: Backend of the user.
        current: Returns the counter of the running root call.
    """

    def __init__(self, inner: Run, current: Callable[[], Counter | None]) -> None:
        self.inner = inner
        self._current = current
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)

    def __call__(self, module: fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Run:
        """Add reads of activations to a graph and compile it."""
        counter = self._current()
        if counter is None:
            return self.inner(module, inputs, **options)  # type: ignore[no-any-return]
        return CountedGraph(module, counter, self._current).compiled(self.inner, inputs, options)


class CountedGraph:
    """A graph that counts its operations.

    Args:
        module: Graph from PyTorch's compiler; reads are added to it in place.
        counter: Traces the root call in which the graph is compiled.
        current: Returns the counter of the running root call.
    """

    def __init__(
        self, module: fx.GraphModule, counter: Counter, current: Callable[[], Counter | None]
    ) -> None:
        self._module = module
        self._plain = _copied(module)
        self._current = current
        self._run: Run | None = None
        self._layout = Layout(0)
        self._forms: list[Any] = []
        self._marks: list[tuple[int, ...]] = []
        self._steps: tuple[Step, ...] = ()
        self._reason: str | None = None
        frame = counter.innermost
        self._steps = steps_of(self._plain.graph, counter, frame)
        try:
            steps = steps_of(module.graph, counter, frame)
            with _isolated(counter), _other_maps(counter):
                found = walk(steps, counter, frame, _examples(module.graph), made=False)
            self._forms = [read.form for read in found.reads]
            self._marks = [emission.number for emission in found.emissions]
            self._layout = instrument(module.graph, found)
            module.recompile()
        except NotCountableError as error:
            self._reason = str(error)

    def compiled(self, inner: Run, inputs: Sequence[Any], options: dict[str, Any]) -> Run:
        """Compile the graph and return the function that runs it."""
        if self._reason is None:
            try:
                self._run = inner(self._module, inputs, **options)
            except Exception as error:  # backends raise any type
                if type(error).__module__.startswith("torch._dynamo"):
                    raise  # the compiler catches these to restart its analysis
                inner(_copied(self._plain), inputs, **options)  # raises if the model is at fault
                self._reason = f"its backend refused the added reads ({type(error).__name__})"
        del self._module
        return self.run

    def run(self, *args: Any) -> Any:
        """Run the graph and record its counts."""
        counter = self._current()
        if counter is None or any(isinstance(arg, FakeTensor) for arg in args):
            return self._plain(*args) if self._run is None else self._outputs(self._run(*args))
        plan, reason = None, self._reason
        if self._run is not None:
            try:
                plan = self._plan(counter, args)
            except NotCountableError as error:
                reason = str(error)
        if plan is None or self._run is None:
            counter.recorder.root.notes.add(f"a compiled graph ran eagerly: {reason}")
            with counter.off():
                return Replay(self._plain, self._steps, counter).run(*args)
        with counter.off():
            results = self._run(*args)
            self._record(counter, plan, results)
        return self._outputs(results)

    def _outputs(self, results: Any) -> Any:
        return results[: self._layout.outputs]

    def _plan(self, counter: Counter, args: tuple[Any, ...]) -> Plan:
        """Return the plan for the arguments of the graph."""
        plans, frame = counter.recorder.plans, counter.innermost
        slots, derived = counter.lineage.slots, counter.lineage.derived
        key: list[Any] = [self, frame.module]
        is_known = True
        for arg in args:
            if isinstance(arg, int):
                key.append(arg)
            elif (identity := id(arg)) in slots:
                key.append(identity)
            elif identity in derived:
                is_known = False  # a derived weight is a new tensor in each run
        found = tuple(key)
        plan: Plan | None = plans.get(found) if is_known else None
        if plan is not None and plan.stamp is not None and plan.stamp != self._stamp(counter, plan):
            plan = None
        if plan is None:
            plan = self._planned(counter, frame, args)
            if is_known:
                sites = [inputs.site for inputs in plan.inputs if inputs is not None]
                counter.recorder.keep_plan(found, plan, sites)
        return plan

    @staticmethod
    def _stamp(counter: Counter, plan: Plan) -> Any:
        return counter.recorder.comparisons, tuple(map(version_of, plan.weights))

    def _planned(self, counter: Counter, frame: Scope, args: tuple[Any, ...]) -> Plan:
        slots = counter.lineage.slots
        weights = [arg for arg in args if isinstance(arg, Tensor) and id(arg) in slots]
        with counter.off(), _isolated(counter) as added:
            found = walk(self._steps, counter, frame, args, made=True)
        if [read.form for read in found.reads] != self._forms:
            raise NotCountableError("its operations differ from those at compilation")
        layout = self._layout
        planned = [read.call.planned for read in found.reads]
        outputs = {emission.number: emission.outputs for emission in found.emissions}
        if not outputs.keys() <= set(self._marks):
            raise NotCountableError("it contains neurons that were excluded at compilation")
        emissions = []
        for numbers, _, _ in layout.emissions:
            first = outputs.get(self._marks[numbers[0]])
            emissions.append(None if first is None else first._replace(calls=len(numbers)))
        plan = Plan(
            weights,
            list(found.scopes.values()),
            [one.key for one in planned if one is not None],
            [_inputs([planned[number] for number in one.numbers]) for one in layout.inputs],
            emissions,
            [planned[number] for number in layout.products],
            added.uncounted(found),
            found.made,
            added.touched,
            added.expanded,
            None,
        )
        if found.has_computed_weights:
            plan.stamp = self._stamp(counter, plan)
        return plan

    def _record(self, counter: Counter, plan: Plan, results: Sequence[Any]) -> None:
        """Record the results of a run of the graph."""
        recorder, lineage = counter.recorder, counter.lineage
        record_scopes(counter, plan.scopes)
        for entry in plan.uncounted:
            recorder.record_uncounted(entry.name, entry.what, entry.reason)
        order = recorder.root.order
        for key in plan.keys:
            order.setdefault(key, len(order))
        lineage.touched |= plan.touched
        lineage.expanded |= plan.expanded
        for number, sources in plan.made.items():
            lineage.remember(results[number], sources)
        # Cloned on CUDA: a backend may run this graph in a CUDA graph, whose next run overwrites
        # the memory of these outputs.
        layout, outputs = self._layout, self._layout.outputs
        read = [found.clone() if found.is_cuda else found for found in results[outputs:]]
        for inputs, (_, sums, kinds) in zip(plan.inputs, layout.inputs, strict=True):
            if inputs is not None:
                found = None if kinds is None else read[kinds - outputs]
                recorder.record_inputs(inputs, read[sums - outputs], found)
        for emission, (_, sums, _) in zip(plan.emissions, layout.emissions, strict=True):
            if emission is not None:
                recorder.record_outputs(emission, read[sums - outputs])
        if plan.products:
            recorder.record_products(plan.products, read[-1])


class Replay(fx.Interpreter):
    """Runs a graph node by node, each in the scope of its module, so that the tracer counts them.

    Args:
        module: The graph.
        steps: Steps of the graph.
        counter: Traces the root call.
    """

    def __init__(self, module: fx.GraphModule, steps: Sequence[Step], counter: Counter) -> None:
        super().__init__(module)
        self._steps = {step.node: step for step in steps}
        self._counter = counter
        self._frame = counter.innermost

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        step, counter = self._steps[n], self._counter
        if step.func is None:
            return super().run_node(n)
        scopes = [place.scope(counter, self._frame) for place in step.places]
        record_scopes(counter, scopes)
        args, _ = self.fetch_args_kwargs_from_env(n)
        if step.func is marked:
            counter.record_spikes(scopes[-1], args[0])
            return args[0]
        if step.body:
            body = body_of(n)
            assert body is not None
            return Replay(body, step.body, counter).run(*args[1:])
        if step.func is torch.ops.higher_order.cond:
            condition, *branches, operands = args
            branch = branches[0] if condition else branches[1]
            steps = steps_of(branch.graph, counter, self._frame)
            return Replay(branch, steps, counter).run(*operands)
        if any(scope.tracing is Tracing.NEURONS for scope in scopes):
            return super().run_node(n)
        caller = GraphCaller(n.meta.get("stack_trace"), scopes[-1].module)
        with counter.heard(scopes[-1], caller):
            return super().run_node(n)


def record_scopes(counter: Counter, scopes: Sequence[Scope]) -> None:
    """Record the calls of modules, with their notes and their uncounted operations."""
    root = counter.recorder.root
    for scope in scopes:
        if scope.name in root.called:
            continue
        root.called.add(scope.name)
        if scope.note is not None and (note := scope.note(scope.module)) is not None:
            root.notes.add(note)
        if scope.uncounted is not None:
            counter.recorder.record_uncounted(scope.name, "call", scope.uncounted)


@dataclass
class _Added:
    """Entries that a walk made in the recorder and the lineage."""

    touched: set[str]
    expanded: set[str]
    listed: dict[tuple[str, str], Uncounted]

    def uncounted(self, found: Walk) -> list[Uncounted]:
        """Return the uncounted operations of one run, each as often as it occurs."""
        own = [Uncounted(*entry, calls=1) for entry in found.uncounted]
        return own + [entry for entry in self.listed.values() for _ in range(entry.calls)]


@contextmanager
def _isolated(counter: Counter) -> Iterator[_Added]:
    """Collect the entries that a walk makes, instead of adding them to the running root call."""
    lineage, root = counter.lineage, counter.recorder.root
    before = lineage.touched, lineage.expanded, root.uncounted
    added = _Added(set(), set(), {})
    lineage.touched, lineage.expanded, root.uncounted = added.touched, added.expanded, added.listed
    try:
        yield added
    finally:
        added.touched, added.expanded = lineage.touched, lineage.expanded
        lineage.touched, lineage.expanded, root.uncounted = before


@contextmanager
def _other_maps(counter: Counter) -> Iterator[None]:
    """Replace the maps of the recorder temporarily: compiling a graph must not compare weights."""
    recorder = counter.recorder
    before, recorder.maps = recorder.maps, SynapseMaps()
    try:
        yield
    finally:
        recorder.maps = before


def _inputs(operations: list[Planned | None]) -> PlannedInputs | None:
    sites = [planned.site for planned in operations if planned is not None]
    if not sites:
        return None
    assert sites[0] is not None
    return PlannedInputs(operations, sites[0])


def _examples(graph: fx.Graph) -> list[Any]:
    """Return the example tensors of the graph arguments during compilation, None for others."""
    holders = graph.find_nodes(op="placeholder")
    arguments = (node.meta.get("grapharg") for node in holders)
    return [None if arg is None or not arg.is_tensor else arg.example for arg in arguments]


def _copied(module: fx.GraphModule) -> fx.GraphModule:
    """Copy a graph and its subgraphs, including the metadata of the nodes."""
    graph = fx.Graph()
    output = graph.graph_copy(module.graph, val_map={}, return_output_node=True)
    assert isinstance(output, tuple)
    graph.output(output[0])
    bodies = {
        name: _copied(child)
        for name, child in module.named_children()
        if isinstance(child, fx.GraphModule)
    }
    holder = nn.Module()
    for name, value in (
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ):
        setattr(holder, name, value)
    for name, child in module.named_children():
        setattr(holder, name, bodies.get(name, child))
    return fx.GraphModule(holder, graph)
