"""Record the operations of one batch.

The additions of a root call are kept apart until it has returned. A root call that fails adds
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.cores.loads import CoreLoads
from snnmetrics.monitor import products
from snnmetrics.monitor.call_sites import (
    CallSite,
    InputSums,
    check_kind,
    declared_kind,
    no_multiple,
    unscaled,
)
from snnmetrics.monitor.core_loads import LaidOut, Ran
from snnmetrics.monitor.device_calls import DeviceCalls
from snnmetrics.monitor.input_scale import Factor, InputScale
from snnmetrics.monitor.lineage import Sources
from snnmetrics.monitor.per_sample import vector_events, vector_synops
from snnmetrics.monitor.row_keys import NamesSoFar
from snnmetrics.monitor.stats_cache import StatsCache
from snnmetrics.monitor.transforms import runs_in_reentrant_checkpoint, unseen_by_modes
from snnmetrics.monitor.vectors import Place, Places, Vectors
from snnmetrics.ops.spec import Call
from snnmetrics.report.data import NeuronKey, Operation, RowKey, Uncounted, product_kind
from snnmetrics.report.run_data import NeuronTotals, RowTotals, RunData
from snnmetrics.synapses.maps import SynapseMap, SynapseMaps
from snnmetrics.synapses.paths import own_saved_tensors
from snnmetrics.synapses.weights import version_of
from snnmetrics.tensors.accelerators.device_stats import DeviceStats
from snnmetrics.tensors.accelerators.gradient import vector_synops as device_synops
from snnmetrics.tensors.accelerators.lines import FACTS, TOTALS
from snnmetrics.tensors.accelerators.roads import (
    ROADS,
    TORCH_ROAD,
    Road,
    is_copied,
    road_of,
    to_be_read,
)
from snnmetrics.tensors.accelerators.torch_road import map_table
from snnmetrics.tensors.accelerators.workspace import Workspace
from snnmetrics.tensors.counts import counts_or_nan, with_gradient_of
from snnmetrics.tensors.fused import input_totals, product_totals
from snnmetrics.tensors.kinds import NOT_FINITE, InputKind
from snnmetrics.tensors.levels import level_of
from snnmetrics.tensors.stats import LEADING, InputStats, as_counts, summarize_narrowly
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

_MOST_SITES = 1024
_MOST_READ = 2**20  # maximum number of elements from compiled graphs kept before they are added up


class Padded(NamedTuple):
    """An input that a module pads by copies of itself before a convolution.

    Attributes:
        source: The input without padding.
        pad: Padding as in ``F.pad``.
        mode: Padding mode.
    """

    source: Tensor
    pad: tuple[int, ...]
    mode: str


class _Emitted(NamedTuple):
    """Output of the neurons of one layer in this batch."""

    type: str
    sums: InputSums


class _Output(NamedTuple):
    """Data shared by all outputs of one shape of the neurons of a layer.

    Attributes:
        sums: Sums that the outputs are added to.
        vectors: Number of vectors of one output.
        road: Reader of outputs on an accelerator; None if the host reads them.
        key: Key of the row.
        copied: Whether the host reads a copy, because the device lacks float64.
    """

    sums: InputSums
    vectors: int
    road: Road | None
    key: NeuronKey
    copied: bool


class _Counted(NamedTuple):
    """A call whose figures are computed immediately: a product, or one with a scaled input."""

    key: RowKey
    operation: Operation
    kind: int
    figures: Mapping[str, float | Tensor]
    synops_per_neuron: Tensor | None


class Planned(NamedTuple):
    """An operation of a compiled graph.

    Attributes:
        key: Key of the row.
        operation: The operation.
        facts: Numbers of one call determined by shapes, in the order of ``FACTS``.
        site: Its weight and map; None for a product of two activations.
    """

    key: RowKey
    operation: Operation
    facts: tuple[int, ...]
    site: CallSite | None


@dataclass(eq=False)
class PlannedInputs:
    """Inputs of one shape that are multiplied with the same weight in a compiled graph.

    Attributes:
        operations: The operation of each input, in order; None if it is not counted.
        site: Weight and map.
    """

    operations: list[Planned | None]
    site: CallSite
    _table: Tensor | None = None
    _table_of: SynapseMap | None = None
    _facts: Tensor | None = None
    _counted: Tensor | None = None

    def table(self, synapse_map: SynapseMap) -> Tensor:
        """Return the map as columns that the sums are multiplied with."""
        if self._table is None or self._table_of is not synapse_map:
            with torch.inference_mode(False), torch.no_grad():
                dense, effective = synapse_map.dense, synapse_map.effective
                self._table = map_table(self.site.neurons, dense, effective)
            self._table_of = synapse_map
        return self._table

    def facts_on(self, device: torch.device) -> Tensor:
        """Return :func:`facts_of` the operations on a device."""
        if self._facts is None:
            self._facts = facts_of(self.operations, device)
        return self._facts

    def counted_on(self, device: torch.device) -> Tensor | None:
        """Return a mask of the counted inputs, ``(inputs,)``; None if all are counted."""
        if None not in self.operations:
            return None
        if self._counted is None:
            self._counted = torch.tensor([one is not None for one in self.operations]).to(device)
        return self._counted


def facts_of(operations: Sequence[Planned | None], device: torch.device) -> Tensor:
    """Return the numbers of operations determined by shapes.

    Returns:
        float64 tensor ``(operations, FACTS)`` on ``device``; zeros for operations not counted.
    """
    nothing = (0,) * len(FACTS)
    rows = [nothing if planned is None else planned.facts for planned in operations]
    with torch.inference_mode(False):
        found = torch.tensor(rows, dtype=torch.float64, device="cpu")
        if device.type == "cuda":  # copies from unpinned memory block the host
            found = found.pin_memory()
        return found.to(device, non_blocking=True)


class PlannedOutputs(NamedTuple):
    """Outputs of one shape of the neurons of a layer in a compiled graph.

    Attributes:
        name: Path of the module.
        type: Class name of the neurons.
        shape: Shape of one output.
        lead: Number of leading dimensions that are batch and time, not neurons.
        calls: Number of outputs per run of the graph.
    """

    name: str
    type: str
    shape: torch.Size
    lead: int
    calls: int


class _Read(NamedTuple):
    """Inputs that a compiled graph has read, with the map that they are multiplied with."""

    space: Workspace
    inputs: PlannedInputs
    map: SynapseMap
    sums: Tensor
    kinds: Tensor | None


class _Products(NamedTuple):
    """Products of two activations that a compiled graph has read."""

    space: Workspace
    operations: Sequence[Planned | None]
    products: Tensor


@dataclass
class _RootCall:
    """Additions of the current root call; dropped if it fails."""

    order: dict[RowKey, int] = field(default_factory=dict)  # position of the first call of each row
    sites: list[CallSite] = field(default_factory=list)  # first called in this root call
    sums: list[InputSums] = field(default_factory=list)
    counted: list[_Counted] = field(default_factory=list)
    maps: list[tuple[RowKey, Operation, Tensor]] = field(default_factory=list)
    contracted: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    expanded: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    notes: set[str] = field(default_factory=set)
    uncounted: dict[tuple[str, str], Uncounted] = field(default_factory=dict)
    synops: list[tuple[RowKey, Tensor]] = field(default_factory=list)
    read: list[_Read] = field(default_factory=list)
    products: list[_Products] = field(default_factory=list)
    outputs: list[tuple[PlannedOutputs, Tensor]] = field(default_factory=list)
    behind: list[Ran] = field(default_factory=list)  # layers that ran since the last neurons
    levels: dict[CallSite, float] = field(default_factory=dict)  # levels before this root call
    checkpointed: bool = False

    def clear(self) -> None:
        """Drop all additions."""
        self.checkpointed = False
        for added in (
            *(self.order, self.sites, self.sums, self.counted, self.maps, self.contracted),
            *(self.touched, self.read, self.products, self.outputs),
            *(self.expanded, self.called, self.notes, self.uncounted, self.synops, self.behind),
            self.levels,
        ):
            if added:
                added.clear()


@dataclass
class BatchRecorder:
    """Records the operations and neuron outputs of one batch.

    Attributes:
        declared_kind: Returns the declared kind of the input of a row, by name of the row.
        input_scale: Returns the declared scale of the input of a row, by name of the row.
        scales_vary: Whether a declared scale varies by channel or batch.
        per_neuron: Whether rows keep a map per neuron.
        per_sample: Whether synops of input vectors are kept until the batch is complete.
        per_step: Whether synops and events of input vectors, and spikes of neurons, are kept.
        keeps_effective: Whether the figures that determine ACs and MACs of input vectors are kept
            in the open batch.
        laid_out: Layers placed on cores, to keep their loads; None without cores.
        differentiable: Whether synops of the batch keep their gradient.
        maps: Synapse maps of all batches while attached.
        cache: Statistics of the tensors of the current root call.
        sites: Call sites while attached, by a key that identifies further calls.
        device_calls: Calls whose inputs are on an accelerator.
        root: Additions of the current root call.
        names: Names of rows; may change when further rows appear.
        synops: Synops of input vectors of the batch by row, with gradient.
        vectors: Figures of input vectors and of neuron outputs of the batch.
        prepares_roots: Whether :meth:`begin_root` must be called.
        checkpointed: Whether synops lack a gradient because their forward ran in a reentrant
            checkpoint, whose graph exists only during the backward pass.
        plans: Plans of compiled graphs while attached: the rows that a run adds to.
        comparisons: Number of times that all weights were compared.
        keeps_vectors: Whether figures of single input vectors are kept until the batch is complete.
    """

    declared_kind: Callable[[str], str | None]
    input_scale: Callable[[str], InputScale | None]
    per_neuron: bool = False
    per_sample: bool = False
    differentiable: bool = False
    per_step: bool = False
    scales_vary: bool = False
    maps: SynapseMaps = field(default_factory=SynapseMaps)
    cache: StatsCache = field(default_factory=StatsCache)
    sites: dict[Any, CallSite] = field(default_factory=dict)
    device_calls: DeviceCalls = field(default_factory=DeviceCalls)
    root: _RootCall = field(default_factory=_RootCall)
    names: NamesSoFar = field(default_factory=NamesSoFar)
    synops: dict[RowKey, list[Tensor]] = field(default_factory=dict)
    vectors: Vectors = field(default_factory=Vectors)
    _staged: RunData = field(default_factory=RunData)
    _active: dict[CallSite, None] = field(default_factory=dict)  # sites called in this batch
    _emitted: dict[NeuronKey, _Emitted] = field(default_factory=dict)
    _outputs: dict[tuple[str, torch.Size, int], _Output] = field(default_factory=dict)
    _ones: dict[Place, Tensor] = field(default_factory=dict)  # columns for outputs of neurons
    _factors: dict[InputScale, Factor] = field(default_factory=dict)  # current factors
    _not_finite: str | None = None  # error message to raise when the batch is complete
    _orders: dict[RowKey, int] = field(default_factory=dict)  # positions of rows in this batch
    checkpointed: bool = False
    prepares_roots: bool = False
    keeps_effective: bool = False
    laid_out: LaidOut | None = None
    plans: dict[Any, Any] = field(default_factory=dict)
    comparisons: int = 0
    _plan_sites: dict[CallSite, None] = field(default_factory=dict)
    # Results of compiled graphs in this batch that are not yet added up.
    _read_inputs: list[_Read] = field(default_factory=list)
    _read_products: list[_Products] = field(default_factory=list)
    _read_outputs: list[tuple[PlannedOutputs, Tensor]] = field(default_factory=list)
    _read_numbers: int = 0  # number of their elements
    _weights_may_differ: bool = False
    # Whether a weight of the batch shares memory with NumPy, so that writes cannot be detected.
    _shares_memory: bool = False
    # Whether synops need a gradient and gradients were enabled when the root call began.
    _with_gradient: bool = False

    def detached(self) -> BatchRecorder:
        """Return a recorder with the same declarations, without data of a batch or model."""
        return BatchRecorder(
            self.declared_kind,
            self.input_scale,
            self.per_neuron,
            self.per_sample,
            self.differentiable,
            self.per_step,
            self.scales_vary,
            laid_out=None if self.laid_out is None else LaidOut(self.laid_out.cores),
        )

    def __post_init__(self) -> None:
        self.keeps_vectors = self.per_sample or self.per_step or self.laid_out is not None

    # --------------------------------------------------------------- batches, root calls

    def open(self, weights_may_differ: bool = True, may_stop: bool = False) -> None:
        """Begin a batch.

        Args:
            weights_may_differ: Whether weights may have changed since the last batch.
            may_stop: Whether ``batch.until`` may be called, so that samples stop before the last
                time step.
        """
        self.clear()
        self.keeps_effective = self.per_sample and may_stop
        self.synops.clear()
        self.checkpointed = self._shares_memory = False
        self.prepares_roots = True
        if weights_may_differ or any(_is_freed(site.weight) for site in self.sites.values()):
            self.compare_weights()

    def fail(self) -> None:
        """Drop the differentiable synops and the levels of the batch, which failed."""
        self.synops.clear()
        for site in self._active:
            site.level = 0.0

    def clear(self) -> None:
        """Drop all data of the batch, which is complete or failed."""
        self._staged, self.root = RunData(), _RootCall()
        self.vectors.clear()
        self.cache.clear()
        self.device_calls.clear()
        self._read_inputs, self._read_products, self._read_outputs = [], [], []
        self._read_numbers = 0
        for site in self._active:
            site.reset()
        if len(self.sites) > _MOST_SITES:  # input sizes vary: keep the latest sites of this batch
            self.sites = {key: s for key, s in self.sites.items() if s in self._active}
            for key in list(self.sites)[:-_MOST_SITES]:
                del self.sites[key]
        self._active.clear()
        self._orders.clear()
        self._emitted.clear()
        self._outputs.clear()
        self._ones.clear()
        self._factors.clear()
        self._not_finite = None

    def forget_names(self) -> None:
        """Drop the names of all rows, with the call sites and plans, which contain names."""
        self.sites.clear()
        self._forget_plans()
        self.names.clear()
        if self.laid_out is not None:
            self.laid_out = LaidOut(self.laid_out.cores)

    def release_model(self) -> None:
        """Drop caches that refer to modules or weights; these may change while detached."""
        self.sites.clear()
        self._forget_plans()
        self.maps.invalidate()

    def keep_plan(self, key: Any, plan: Any, sites: Sequence[CallSite]) -> None:
        """Keep the plan of a compiled graph, and its sites, whose weights must be compared."""
        if len(self._plan_sites) > _MOST_SITES:
            self._forget_plans()
        self.plans[key] = plan
        self._plan_sites |= dict.fromkeys(sites)

    def _forget_plans(self) -> None:
        self.plans.clear()
        self._plan_sites.clear()

    def weights_may_differ(self, now: bool = False) -> None:
        """Have the zeros of all weights compared before their next use, after a possible write.

        Scale factors of inputs may have changed as well, and are computed again.

        Args:
            now: Whether the next use may be in the current root call; else it is in the next one.
        """
        self._weights_may_differ = self.prepares_roots = True
        self._factors.clear()
        for site in self._active:
            self._shares_memory |= not site.weight.untyped_storage().resizable()
        if now:
            self.compare_weights(again=True)

    def compare_weights(self, again: bool = False) -> None:
        """Have the zeros of all weights compared before their next use.

        Args:
            again: Whether the next root call must compare them once more.
        """
        self._weights_may_differ = again
        self.comparisons += 1
        self.maps.invalidate()
        for site in (*self.sites.values(), *self._plan_sites):
            site.close()

    def require_same_weights(self) -> None:
        """Raise if weights changed between batches without being compared.

        Raises:
            RuntimeError: If the set of zero weights differs from that of the first batch.
        """
        before = [
            (site, site.map)
            for site in (*self.sites.values(), *self._plan_sites)
            if site.map is not None and not _is_freed(site.weight)
        ]
        self.compare_weights()
        for site, synapse_map in before:
            if not _same(site.map_of(site.weight).effective, synapse_map.effective):
                raise RuntimeError(
                    f"{site.name}: expected the same weights in all batches of run(), found a "
                    "different set of zero weights; change weights before or after run(), or count "
                    "with 'with monitor:'"
                )

    def begin_root(self) -> None:
        """Begin a root call, and have weights compared that may have been written."""
        self._with_gradient = self.differentiable and torch.is_grad_enabled()
        if self._weights_may_differ or self._shares_memory:
            self.compare_weights()
        self.prepares_roots = self.differentiable or self._shares_memory

    def settle_root(self) -> None:
        """Add the counts of the current root call, which has returned, to the batch."""
        root, staged = self.root, self._staged
        for key, position in root.order.items():
            if position < self._orders.get(key, position + 1):
                self._orders[key] = position
                self.names.name(key, position)
        for sums in root.sums:
            sums.settle()
        for site in self._active:
            if site.closed:
                self._flush_site(site)
        for key, operation, kind, figures, synops_per_neuron in root.counted:
            row = self._row(key, operation)
            row.record(kind, figures)
            if synops_per_neuron is not None:
                row.record_map(synops_per_neuron)
        for key, operation, synops in root.maps:
            self._row(key, operation).record_map(synops)
        if root.read or root.products or root.outputs:
            self._keep_read(root)
        if self.device_calls.places and self.device_calls.settle():
            self._add_device_calls()
        if self.keeps_vectors:
            self.vectors.settle(staged.calls)
        for key, synops in root.synops:
            self.synops.setdefault(key, []).append(synops)
        for name, entry in root.uncounted.items():
            known = staged.uncounted.get(name)
            staged.uncounted[name] = entry if known is None else known.add(entry)
        self.checkpointed |= root.checkpointed
        staged.calls += 1
        staged.called |= root.called
        staged.contracted |= root.contracted
        staged.touched |= root.touched
        staged.expanded |= root.expanded
        staged.notes |= root.notes
        root.clear()
        self.cache.last = None
        self.cache.entries.clear()  # writes to tensors between root calls are not detected

    def discard_root(self) -> None:
        """Drop the additions of the current root call, which failed."""
        for sums in self.root.sums:
            sums.discard()
        for site, level in self.root.levels.items():
            site.level = level
        for site in self.root.sites:
            site.reset()
            del self._active[site]
        self.root = _RootCall()
        self.vectors.discard()
        self.device_calls.discard()
        self.cache.invalidate()

    @property
    def calls(self) -> int:
        """Number of complete root calls of this batch."""
        return self._staged.calls

    def flush(self) -> RunData:
        """Multiply the sums with their maps, and return all data of the batch.

        Raises:
            ValueError: If an input or an output of neurons is not finite, or an input that a
                compiled graph read contradicts a declaration.
        """
        for site in self._active:
            self._flush_site(site)
        self._add_read()
        self._add_device_calls()
        if self._not_finite is not None:
            raise ValueError(self._not_finite)
        for key, (type_, sums) in self._emitted.items():
            stats = sums.stats
            if stats is not None:
                neurons, events = stats.magnitudes.numel(), stats.event_counts.sum()
                if events.is_cpu and not math.isfinite(events):
                    raise ValueError(f"{key.module}: output: {NOT_FINITE}")
                self._staged.neurons[key] = NeuronTotals(
                    type=type_,
                    neurons=neurons,
                    elements=neurons * sums.vectors,
                    events=events,
                    spikes_per_neuron=stats.magnitudes,
                )
        return self._staged

    def _add_device_calls(self) -> None:
        """Add up the calls on accelerators so far, and release their lines."""
        for key, operations, totals in self.device_calls.totals():
            for operation in operations:
                row = self._row(key, operation)
            row.record_totals(totals)
        self.device_calls.clear()

    def _check_totals(self, key: RowKey, operation: Operation, totals: Tensor) -> None:
        """Check totals of a compiled graph on the CPU.

        Values that are not finite raise when the batch is complete.

        Raises:
            ValueError: If the data contradict the declared kind.
        """
        name, shape = self.names[key], operation.input_shape
        if not bool(totals.isfinite().all()):
            found = f"{name}: input of shape {shape}: {NOT_FINITE}"
            if (scale := self.input_scale(name)) is not None:
                found = no_multiple(name, scale.factor())
            self._not_finite = self._not_finite or found
        declared = self.declared_kind(name)
        if declared is not None:
            called = totals[:, TOTALS.index("calls")].nonzero().flatten().tolist()
            kinds = [InputKind(number % len(InputKind)) for number in called]
            if operation.weight_shape is None:
                kinds += [InputKind(number // len(InputKind)) for number in called]
            check_kind(name, declared, *kinds)

    def _flush_site(self, site: CallSite) -> None:
        if site.road is not None:
            self._staged.contracted |= site.sources
            if site.reads is not None:
                self._row(site.key, site.operation).notes |= {reads_output_of(site.reads)}
        if site.level or site.level_there is not None:
            row = self._row(site.key, site.operation)
            row.record_level(site.level)
            if site.level_there is not None:
                row.record_level(site.level_there)
                site.skips_level = True
        for synapse_map, by_kind in site.take_sums():
            for kind, sums in by_kind.items():
                stats = sums.stats
                if not isinstance(stats, InputStats):  # None: only failed root calls added to it
                    continue
                row = self._row(site.key, site.operation)
                self._staged.contracted |= site.sources
                if site.reads is not None:
                    row.notes |= {reads_output_of(site.reads)}
                figures = synapse_map.figures(stats)
                if not math.isfinite(figures.magnitude):
                    # Raised only when the batch is complete, so that a root call is added whole.
                    shape = tuple(site.input_shape)
                    found = f"{site.name}: input of shape {shape}: {NOT_FINITE}"
                    self._not_finite = self._not_finite or found
                    continue
                row.record(kind, site.known(sums.calls) | figures._asdict())
                if self.per_neuron:
                    row.record_map(stats.magnitudes * synapse_map.dense)

    def _row(self, key: RowKey, operation: Operation) -> RowTotals:
        row = self._staged.rows.get(key)
        if row is None:
            order, names = self._orders[key], frozenset({self.names[key]})
            row = self._staged.rows[key] = RowTotals(operation, order=order, names=names)
        row.varied = row.varied or row.differs_from(operation)
        return row

    # ---------------------------------------------------------------------- operations

    def record(
        self,
        key: RowKey,
        module: str,
        call: Call,
        output: Any,
        sources: Sources,
        *,
        padded: Padded | None = None,
        autapses: bool = True,
    ) -> CallSite | None:
        """Record one operation.

        Args:
            key: Key of the row.
            module: Class name of the module whose forward ran the operation.
            call: The operation with its operands.
            output: Its output.
            sources: Paths of the parameters from which the weight is computed.
            padded: The input before its padding by copies of itself, if it was padded so.
            autapses: Whether neurons connect to themselves.

        Returns:
            The call site, for :meth:`record_again`; None for a product of two activations.
        """
        name = self.names.name(key, self.root.order.setdefault(key, len(self.root.order)))
        if not call.spec.weighted:
            self._record_product(key, name, module, call, output)
            return None
        site, x = self._site(key, name, module, call, output, sources, padded, autapses)
        self.record_again(site, x)
        return site

    def plan(
        self,
        key: RowKey,
        module: str,
        call: Call,
        output: Any,
        sources: Sources,
        *,
        padded: Padded | None = None,
        autapses: bool = True,
    ) -> Planned:
        """Prepare an operation of a compiled graph, without reading its input.

        Arguments are those of :meth:`record`.
        """
        name = self.names.name(key, self.root.order.setdefault(key, len(self.root.order)))
        if not call.spec.weighted:
            operation, known = _product(module, call, output)
            return Planned(key, operation, tuple(known[fact] for fact in FACTS), None)
        site, _ = self._site(key, name, module, call, output, sources, padded, autapses)
        site.road = TORCH_ROAD
        return Planned(key, site.operation, site.facts, site)

    def _site(
        self,
        key: RowKey,
        name: str,
        module: str,
        call: Call,
        output: Any,
        sources: Sources,
        padded: Padded | None,
        autapses: bool,
    ) -> tuple[CallSite, Tensor]:
        """Create the call site of an operation with a weight; return it with the input."""
        spec, x = call.spec, call.left if padded is None else padded.source
        copied = is_copied(x)
        device = torch.device("cpu") if copied else call.left.device
        copies = None if padded is None else (x.shape[1:], padded.pad, padded.mode)
        facts = spec.facts()
        if padded is not None:
            facts["input_shape"] = tuple(x.shape[1:])
            # `F.pad` starts with the last dimension.
            facts["padding"] = tuple(reversed(padded.pad[::2]))
            facts["padding_mode"] = padded.mode

        def map_of(weight: Tensor) -> SynapseMap:
            found = self.maps.get(key, spec, to_be_read(weight), device, autapses)
            return found if copies is None else found.before_padding(*copies)

        def loads_of(weight: Tensor) -> CoreLoads | None:
            assert self.laid_out is not None
            mask: Tensor | None = to_be_read(weight).detach().to(device) != 0
            assert mask is not None
            if not autapses:
                mask = mask.clone().fill_diagonal_(False)
            elif mask.is_cpu and bool(mask.all()):
                mask = None
            return self.laid_out.loads_of(key, name, spec, mask, copies, device)

        synapse_map = map_of(call.right)
        site = CallSite(
            key=key,
            name=name,
            operation=Operation(**facts, module=module, synapses=synapse_map.synapses),
            input_shape=tuple(x.shape),
            batch_dims=spec.batch_dims,
            vectors=math.prod(x.shape[d] for d in spec.batch_dims),
            elements=x.numel(),
            dense_macs=spec.dense_macs,
            outputs=spec.outputs(output),
            declared=self.declared_kind(name),
            weight=call.right,
            map_of=map_of,
            sources=sources,
            samples_first=spec.samples_first,
            scale=self.input_scale(name),
            road=None if copied else road_of(x),
            copied=copied,
            skips_level=self.declared_kind(name) is not None or self.input_scale(name) is not None,
            map=synapse_map,
            version=version_of(call.right),
            loads_of=None if self.laid_out is None else loads_of,
        )
        return site, x

    def record_again(self, site: CallSite, x: Tensor) -> None:
        """Record a call of an existing call site.

        Raises:
            ValueError: If the input is not finite, or contradicts a declaration.
        """
        weight, root, synapse_map = site.weight, self.root, site.map
        if (
            synapse_map is None
            or site.version != (0 if weight.is_inference() else weight._version)
            or site not in self._active
        ):
            synapse_map = self._begin(site)
        if site.key not in root.order:
            root.order[site.key] = len(root.order)
        if site.copied:
            x = x.cpu()
        if site.road is not None:
            self._record_on_device(site, site.road, x, synapse_map)
            return
        if site.scale is not None:
            factor = site.factor(self._factor(site.scale))
            self._record_scaled(site, x, factor, synapse_map)
            return
        stats = self.cache.get(x, site.batch_dims) or self._read(site, x)
        assert isinstance(stats, InputStats)  # the host read the input
        kind = site.expected = stats.kind
        if kind is InputKind.ANALOG and not site.skips_level and site.level != math.inf:
            root.levels.setdefault(site, site.level)
            site.level = max(site.level, level_of(x).item())
        sums = site.sums.get(kind)
        if sums is None:
            check_kind(site.name, site.declared, kind)
            sums = site.sums[kind] = InputSums()
        if not sums.open_calls:
            root.sums.append(sums)
        sums.add(stats, site.vectors)
        if self.keeps_vectors:
            self._keep_vectors(site, as_counts(x, stats), stats)
        if self.differentiable:
            self._keep_gradient(site, as_counts(x, stats), kind)

    def _begin(self, site: CallSite) -> SynapseMap:
        """Prepare a site for a call, and return the map of its current weight."""
        synapse_map, weight, root = site.map, site.weight, self.root
        if synapse_map is None or site.version != (0 if weight.is_inference() else weight._version):
            synapse_map = site.update_map()
        if site not in self._active:
            self._active[site] = None
            if not weight.untyped_storage().resizable():
                self._shares_memory = self.prepares_roots = True
            root.sites.append(site)
        return synapse_map

    def _factor(self, scale: InputScale) -> Factor:
        """Return the current value of a declared scale."""
        found = self._factors.get(scale)
        if found is None:
            with torch.inference_mode(False), torch.no_grad():
                found = self._factors[scale] = scale.factor()
        return found

    def _record_scaled(
        self, site: CallSite, x: Tensor, scale: Factor, synapse_map: SynapseMap
    ) -> None:
        """Record a call whose input is declared as a multiple of spike counts."""
        counts = unscaled(site.name, x, scale)
        live = with_gradient_of(x / scale, counts)
        with torch.no_grad():
            stats = self._read(site, counts).widened()
            check_kind(site.name, site.declared, stats.kind)
            figures = site.known(calls=1) | synapse_map.figures(stats)._asdict()
            map_ = stats.magnitudes * synapse_map.dense if self.per_neuron else None
            self.root.counted.append(_Counted(site.key, site.operation, stats.kind, figures, map_))
            self.root.contracted |= site.sources
            if self.keeps_vectors:
                self._keep_vectors(site, counts, stats)
        if self.differentiable:
            self._keep_gradient(site, live, stats.kind)

    def _record_on_device(
        self, site: CallSite, road: Road, x: Tensor, synapse_map: SynapseMap
    ) -> None:
        """Record a call whose input is on an accelerator, without synchronising the host."""
        place = self.device_calls.place(road, x.device)
        space, dims, scale = place.space, site.batch_dims, None
        if not site.skips_level and site.level_there is None:
            # Of one call only, whatever its kind: reading the kind would synchronise the host.
            site.level_there = level_of(x)
        if site.scale is not None:
            scale = site.factor_there(self._factor(site.scale))
            if scale.ndim:  # kernels divide by one number only
                x, scale = with_gradient_of(x / scale, counts_or_nan(x.detach(), scale)), None
        dense, effective = synapse_map.dense, synapse_map.effective
        stats = None if site.scale is not None else self.cache.get(x, dims)
        if stats is None and self.per_neuron:
            stats = road.stats(space, x, dims, scale)
        if stats is None:
            line = road.figures(space, x, dims, dense, effective, scale)
        else:
            assert isinstance(stats, DeviceStats)
            if len(self.device_calls.places) > 1:
                space.borrow(stats.sums)
            line = road.figures_of(space, stats, dense, effective)
        place.add(site.key, site.operation, line, site.facts)
        if stats is not None and self.per_neuron:
            self.root.maps.append((site.key, site.operation, stats.magnitudes * dense))
        if not (self.keeps_vectors or self.differentiable):
            return
        if self.laid_out is not None:
            self._keep_loads(site, x.detach())
        if self.per_step:
            self._keep_events(site, x)
        if self.keeps_effective:

            def synops_of(x: Tensor, map_: Tensor) -> Tensor:
                return device_synops(road, space, x, dims, map_, None, True)

            counts = x.detach() if scale is None else x.detach() / scale
            self._keep_effective(site, synops_of, counts)
        if site.declared == InputKind.ANALOG.label:
            return  # synops are undefined
        options = dims, dense, scale, site.declared is not None
        if self.per_sample or self.per_step:
            synops = device_synops(road, space, x.detach(), *options)
            self._keep_figure("synops", site.key, synops, site.samples_first)
        if self.differentiable:
            live = self._with_gradient_of(x)
            with own_saved_tensors():
                self.root.synops.append((site.key, device_synops(road, space, live, *options)))

    def _record_product(self, key: RowKey, name: str, module: str, call: Call, output: Any) -> None:
        call = call._replace(left=to_be_read(call.left), right=to_be_read(call.right))
        operation, known = _product(module, call, output)
        declared = self.declared_kind(name)
        road = road_of(call.left)
        with torch.no_grad():
            kinds: products.Kinds
            if road is not None:
                place = self.device_calls.place(road, call.left.device)
                kinds, line = products.product_on(road, place.space, call)
                place.add(key, operation, line, tuple(known[name] for name in FACTS))
            else:
                try:
                    kinds, figures, right_events = products.product_of(call)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
                check_kind(name, declared, *kinds)
                record = known | figures._asdict() | {"right_events": right_events}
                kind = product_kind(*kinds)
                assert isinstance(kind, int)  # on the CPU
                self.root.counted.append(_Counted(key, operation, kind, record, None))
            if self.per_sample or self.per_step:
                both, kind = products.vector_products(call), products.tighter(*kinds)
                self._keep(key, declared, both, kind, call.spec.samples_first)
                effective = "effective_synops", "effective_magnitude"
                for figure in effective if self.keeps_effective else ():
                    self._keep_figure(figure, key, both, call.spec.samples_first)
            if self.per_step:
                events = products.vector_events(call)
                self._keep_figure("events", key, events, call.spec.samples_first)

    def _read(self, site: CallSite, x: Tensor) -> InputStats:
        """Read an input, and cache its statistics for other layers with the same input."""
        try:
            stats = summarize_narrowly(x, site.batch_dims, site.expected)
        except ValueError as error:
            shape = tuple(x.shape)
            raise ValueError(f"{site.name}: input of shape {shape}: {error}") from None
        self.cache.put(x, site.batch_dims, stats)
        return stats

    # ------------------------------------------------------- samples, gradient of synops

    def _keep_vectors(self, site: CallSite, x: Tensor, stats: InputStats) -> None:
        """Keep the events of input vectors, and their synops unless the input is analog."""
        kind, x = stats.kind, x.detach()
        assert site.map is not None
        if self.laid_out is not None:
            self._keep_loads(site, x, kind is InputKind.BINARY)
        if not (self.per_sample or self.per_step):
            return
        fits = not self.keeps_effective or site.map.effective is None
        if site.declared is None and not site.samples_first and fits:
            key, columns = site.key, site.columns(2 if self.per_step else 1)
            places: Places = ((("synops", key), 0),)
            if self.per_step:
                places += ((("events", key), 1),)
            if self.keeps_effective:
                places += ((("effective_synops", key), 0), (("effective_magnitude", key), 0))
            if stats.leading and kind is InputKind.BINARY:
                self.vectors.keep_copy(places, stats.magnitudes, stats.leading, columns)
                return
            if site.is_exact(x, kind):
                self.vectors.keep_all(places, torch.matmul(site.flat(x), columns))
                return
        if self.per_step:
            self._keep_events(site, x)
        if self.keeps_effective:
            self._keep_effective(site, lambda x, map_: vector_synops(x, site.batch_dims, map_), x)
        if kind is InputKind.ANALOG and site.declared is None:
            return
        synops = site.vector_synops(x, kind)
        self._keep(site.key, site.declared, synops, kind, site.samples_first)

    def _keep(
        self,
        key: RowKey,
        declared: str | None,
        synops: Tensor,
        kind: int | Tensor,
        samples_first: bool,
    ) -> None:
        """Keep the synops of input vectors, unless the input is analog."""
        if declared is not None:
            kind = declared_kind(declared)
        if isinstance(kind, int):
            if kind == InputKind.ANALOG:
                return
        else:
            synops = torch.where(kind == InputKind.ANALOG, 0.0, synops)
        self._keep_figure("synops", key, synops, samples_first)

    def _keep_events(self, site: CallSite, x: Tensor) -> None:
        events = vector_events(x.detach(), site.batch_dims)
        self._keep_figure("events", site.key, events, site.samples_first)

    def _keep_loads(self, site: CallSite, x: Tensor, is_binary: bool = False) -> None:
        """Keep the loads that an input causes on each core of its layer."""
        loads = site.loads
        ran = None if loads is None else site.key, site.operation.output_shape
        if ran not in self.root.behind:
            self.root.behind.append(ran)
        if loads is None:
            return
        dims = site.batch_dims
        x = x.permute(*dims, *(d for d in range(x.ndim) if d not in dims))
        vectors = x.flatten(0, len(dims) - 1) if dims else x.unsqueeze(0)
        read = loads.read(vectors, is_binary)
        for what, values in zip(("core_synops", "core_events_in"), read, strict=True):
            values = values.unflatten(0, x.shape[: len(dims)]) if dims else values
            if site.samples_first and len(dims) > 1:
                values = values.sum(tuple(range(1, len(dims))))
            self.vectors.keep_cores((what, site.key), values)

    def _keep_emitted(self, spikes: Tensor, lead: int, is_binary: bool) -> None:
        """Keep the outputs and updates of neurons on each core of the layer that they read.

        That layer is the only one since the last neurons with an output of their shape.
        """
        assert self.laid_out is not None
        shape = tuple(spikes.shape[lead:])
        key = self.laid_out.layer_before(self.root.behind, shape)
        if key is not None:
            emitted = self.laid_out.emitted(key, spikes.detach(), lead, is_binary)
            self.vectors.keep_cores(("core_events_out", key), emitted)
            updated = self.laid_out.updated(key, spikes.shape[:lead])
            self.vectors.keep_cores(("core_updates", key), updated)
        self.root.behind.clear()

    def pass_by(self, output: Any) -> None:
        """Register an uncounted operation with a weight, whose output neurons may read."""
        if self.laid_out is not None and isinstance(output, Tensor):
            self.root.behind.append((None, tuple(output.shape)))

    def _keep_effective(
        self, site: CallSite, synops_of: Callable[[Tensor, Tensor], Tensor], x: Tensor
    ) -> None:
        """Keep the figures that determine ACs and MACs of input vectors.

        Args:
            site: The call site.
            synops_of: Computes the synops of each vector of an input, given a map.
            x: The input; in spike counts if a scale is declared.
        """
        synapse_map = site.map
        assert synapse_map is not None
        effective = synapse_map.effective
        map_ = synapse_map.dense if effective is None else effective
        events = synops_of(x.ne(0).to(torch.float32), map_)
        self._keep_figure("effective_synops", site.key, events, site.samples_first)
        magnitude = synops_of(x, map_)
        self._keep_figure("effective_magnitude", site.key, magnitude, site.samples_first)

    def _keep_figure(self, what: str, key: RowKey, values: Tensor, samples_first: bool) -> None:
        if samples_first and values.ndim > 1:
            values = values.sum(tuple(range(1, values.ndim)))
        self.vectors.keep((what, key), values)

    def _keep_gradient(self, site: CallSite, x: Tensor, kind: InputKind) -> None:
        if kind is InputKind.ANALOG and site.declared is None:
            return  # synops are undefined
        x = self._with_gradient_of(x)
        with own_saved_tensors() if x.requires_grad else nullcontext():
            self.root.synops.append((site.key, site.vector_synops(x, kind)))

    def _with_gradient_of(self, x: Tensor) -> Tensor:
        """Return an input for synops: with its gradient if the forward pass has one."""
        if x.requires_grad and torch.is_grad_enabled():
            return x
        if self._with_gradient and not torch.is_grad_enabled():
            self.root.checkpointed |= runs_in_reentrant_checkpoint()
        return x.detach()

    # ------------------------------------------------------------------- neurons

    def record_neurons(self, name: str, type_: str, spikes: Tensor, lead: int) -> None:
        """Record the output of spiking neurons.

        Args:
            name: Path of the module.
            type_: Class name of the neurons.
            spikes: Their output.
            lead: Number of leading dimensions that are batch and time, not neurons.

        Raises:
            ValueError: If the output is not finite.
        """
        if spikes.is_sparse:
            spikes = spikes.to_dense()
        output = self._outputs.get((name, spikes.shape, lead))
        if output is None:
            output = self._new_output(name, type_, spikes, lead)
        if output.copied:
            spikes = spikes.cpu()
        stats: InputStats | DeviceStats
        try:
            if output.road is None:
                stats = summarize_narrowly(spikes, LEADING[lead], None)
            else:
                space = self.device_calls.place(output.road, spikes.device).space
                stats = output.road.stats(space, spikes, LEADING[lead])
        except ValueError as error:
            raise ValueError(f"{name}: output: {error}") from None
        self.cache.put(spikes, LEADING[lead], stats)
        sums = output.sums
        if not sums.open_calls:
            self.root.sums.append(sums)
        sums.add(stats, output.vectors)
        if self.laid_out is not None:
            self._keep_emitted(spikes, lead, stats.kind is InputKind.BINARY)
        if self.per_step:
            self._keep_spikes(("spikes", output.key), spikes.detach(), lead, stats)

    def note(self, *notes: str) -> None:
        """Add notes on the batch."""
        self._staged.notes |= frozenset(notes)

    def layout_notes(self, samples: int, steps: int | None) -> Iterator[str]:
        """Yield notes on outputs of neurons that contradict the declared samples of one root call.

        Neurons without a time dimension have one row per sample, or several, such as one for each
        time step. If batch and time were declared in the opposite order, they have a row for each
        step and are called once per sample. Fewer rows than samples are a choice of samples.
        """
        for (name, shape, lead), output in self._outputs.items():
            rows, calls = shape[0], output.sums.calls
            swapped = rows == steps and calls == samples > 1 and rows != samples
            if lead == 1 and (swapped or (rows > samples and rows % samples)):
                yield (
                    f"{name}: the rows of its outputs do not fit the declared samples: check "
                    "batch_dim, time_dim and steps"
                )

    def _keep_spikes(
        self, place: Place, spikes: Tensor, lead: int, stats: InputStats | DeviceStats
    ) -> None:
        """Keep the summed magnitudes of outputs of neurons for each sample and step."""
        if isinstance(stats, InputStats) and stats.kind is InputKind.BINARY:
            if stats.leading:
                ones = self._ones.get(place)
                if ones is None:
                    ones = self._ones[place] = torch.ones(spikes[(0,) * lead].numel(), 1)
                self.vectors.keep_copy(((place, 0),), stats.magnitudes, stats.leading, ones)
                return
            if spikes.dtype is torch.float32 and spikes.numel() < FLOAT32_INTEGERS:
                self.vectors.keep(place, spikes.flatten(lead).sum(-1))  # exact
                return
        magnitudes = spikes if spikes.dtype is torch.bool else spikes.abs()
        self.vectors.keep(place, magnitudes.flatten(lead).sum(-1, dtype=torch.float64))

    def _new_output(self, name: str, type_: str, spikes: Tensor, lead: int) -> _Output:
        shape = spikes.shape
        key = NeuronKey(name, tuple(shape[lead:]))
        emitted = self._emitted.setdefault(key, _Emitted(type_, InputSums()))
        copied = is_copied(spikes)
        road = None if copied else road_of(spikes)
        output = _Output(emitted.sums, math.prod(shape[:lead]), road, key, copied)
        self._outputs[name, shape, lead] = output
        return output

    # -------------------------------------------------------------------- compiled graphs

    def record_inputs(self, inputs: PlannedInputs, sums: Tensor, kinds: Tensor | None) -> None:
        """Record inputs that a compiled graph has read.

        Args:
            inputs: The inputs and their operations.
            sums: Events and magnitudes, ``(2, inputs, neurons)``; ``(1, inputs, neurons)`` if they
                are equal.
            kinds: Numbers of the kinds, ``(inputs,)``; None if all inputs are zeros and ones.
        """
        site = inputs.site
        synapse_map, weight = site.map, site.weight
        if (
            synapse_map is None
            or site.version != (0 if weight.is_inference() else weight._version)
            or site not in self._active
        ):
            with unseen_by_modes():
                synapse_map = self._begin(site)
        place = self.device_calls.place(TORCH_ROAD, sums.device)
        self.root.read.append(_Read(place.space, inputs, synapse_map, sums, kinds))

    def record_products(self, operations: Sequence[Planned | None], products: Tensor) -> None:
        """Record products of two activations that a compiled graph has read.

        Args:
            operations: The operation of each product; None if it is not counted.
            products: Kind, events, magnitude, operations and events of the right operand of each
                product, ``(products, 5)``.
        """
        place = self.device_calls.place(TORCH_ROAD, products.device)
        self.root.products.append(_Products(place.space, operations, products))

    def record_outputs(self, outputs: PlannedOutputs, sums: Tensor) -> None:
        """Record outputs of neurons that a compiled graph has read.

        Args:
            outputs: The neurons.
            sums: Events and magnitudes of the calls, ``(2, calls, neurons)``;
                ``(1, calls, neurons)`` if they are equal.
        """
        self.root.outputs.append((outputs, sums))

    def _keep_read(self, root: _RootCall) -> None:
        """Keep the results of compiled graphs, and add them up together once there are enough."""
        self._read_inputs += root.read
        self._read_products += root.products
        self._read_outputs += root.outputs
        tensors = [read.sums for read in root.read] + [sums for _, sums in root.outputs]
        self._read_numbers += sum(map(torch.numel, tensors))
        if self._read_numbers > _MOST_READ:
            self._add_read()

    def _add_read(self) -> None:
        """Add up the results of compiled graphs; inputs with the same map in one product."""
        reads: dict[Any, list[_Read]] = {}
        for read in self._read_inputs:
            key = id(read.space), id(read.inputs), id(read.map)
            reads.setdefault(key, []).append(read)
        for same in reads.values():
            self._add_inputs(same)
        for found in self._read_products:
            self._add_products(found)
        outputs: dict[Any, list[tuple[PlannedOutputs, Tensor]]] = {}
        for planned, sums in self._read_outputs:
            outputs.setdefault((planned, sums.device), []).append((planned, sums))
        for emitted in outputs.values():
            sums = torch.cat([found.transpose(0, 1) for _, found in emitted])
            sums = sums.sum(0, dtype=torch.float64).expand(2, -1)
            self._add_outputs(emitted[0][0], sums, len(emitted))
        self._read_inputs, self._read_products, self._read_outputs = [], [], []
        self._read_numbers = 0

    def _add_inputs(self, reads: list[_Read]) -> None:
        space, inputs, synapse_map, *_ = reads[0]
        with space.in_order(), torch.no_grad():
            facts = inputs.facts_on(space.device).repeat(len(reads), 1)
            sums = torch.cat([read.sums for read in reads], 1)
            found = [read.kinds for read in reads if read.kinds is not None]
            kinds = torch.cat(found) if found else None
            counted = inputs.counted_on(space.device)
            if counted is not None:
                counted = counted.repeat(len(reads))
                sums, facts = sums[:, counted], facts[counted]
                kinds = None if kinds is None else kinds[counted]
            totals = input_totals(sums, kinds, inputs.table(synapse_map), facts)
        space.hand_over(totals)
        site = inputs.site
        self._add_totals(site.key, site.operation, totals)
        if self.per_neuron:
            magnitudes = sums[-1].sum(0, dtype=torch.float64).view(site.neurons)
            self._row(site.key, site.operation).record_map(magnitudes * synapse_map.dense)

    def _add_products(self, read: _Products) -> None:
        space, operations, products = read
        by_row: dict[RowKey, list[int]] = {}
        for number, planned in enumerate(operations):
            if planned is not None:
                by_row.setdefault(planned.key, []).append(number)
        for key, numbers in by_row.items():
            calls = [planned for planned in map(operations.__getitem__, numbers) if planned]
            with space.in_order():
                facts = facts_of(calls, space.device)
                totals = product_totals(products[numbers], facts)
            space.hand_over(totals)
            self._add_totals(key, calls[0].operation, totals)

    def _add_totals(self, key: RowKey, operation: Operation, totals: Tensor) -> None:
        row = self._row(key, operation)
        if totals.is_cpu and ROADS["cpu"] is None:  # tests may replace the reader of the CPU
            self._check_totals(key, operation, totals)
        row.record_totals(totals)

    def _add_outputs(self, outputs: PlannedOutputs, sums: Tensor, runs: int) -> None:
        name, type_, shape, lead, calls = outputs
        neurons = tuple(shape[lead:])
        emitted = self._emitted.setdefault(NeuronKey(name, neurons), _Emitted(type_, InputSums()))
        stats: InputStats | DeviceStats
        if sums.is_cpu:
            events, magnitudes = (found.view(neurons) for found in sums)
            stats = InputStats(InputKind.ANALOG, magnitudes, events)
        else:
            stats = DeviceStats.of(F.pad(sums.flatten(), (0, 1)), neurons)
        emitted.sums.add(stats, runs * calls * math.prod(shape[:lead]))
        emitted.sums.settle()

    # ------------------------------------------------------------------------- the rest

    def record_uncounted(self, name: str, what: str, reason: str) -> None:
        """Record a call that contracts tensors but cannot be counted.

        Args:
            name: Path of the module.
            what: The function or operation.
            reason: Why it cannot be counted.
        """
        known = self.root.uncounted.get((name, what), Uncounted(name, what, reason))
        self.root.uncounted[name, what] = replace(known, calls=known.calls + 1)


def _product(module: str, call: Call, output: Any) -> tuple[Operation, dict[str, Any]]:
    """Return a product of two activations as an operation, and its numbers known from shapes."""
    spec = call.spec
    operation = Operation(
        operation=spec.operation,
        module=module,
        input_shape=spec.left_shape[-2:],
        output_shape=tuple(output.shape[-2:]) if isinstance(output, Tensor) else (),
        weight_shape=None,
    )
    known = {
        "calls": 1,
        "vectors": spec.vectors,
        "elements": call.left.numel(),
        "dense_synops": products.dense_products(call),
        "dense_macs": spec.dense_macs,
        "output_elements": spec.outputs(output),
        "right_elements": 0 if spec.is_convolution else call.right.numel(),
    }
    return operation, known


def reads_output_of(layer: str) -> str:
    """Return the note for a linear layer that reads the output of another one."""
    return (
        f"reads the output of {layer} with at most batch normalisation between them: both can be "
        "merged into one operation for inference, as in re-parameterised convolutions; if they are "
        "merged there, merge them before counting"
    )


def _is_freed(weight: Tensor) -> bool:
    """Return whether a weight has no memory at present, as between forward passes under FSDP."""
    return weight.numel() > 0 and weight.untyped_storage().size() == 0


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
