"""Record the operations of one batch, until the batch is complete."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.monitor import products
from snnmetrics.monitor.call_sites import CallSite, InputSums, check_kind, kind_called
from snnmetrics.monitor.input_buffer import InputBuffer
from snnmetrics.monitor.lineage import Sources
from snnmetrics.monitor.per_sample import VectorSynops, vector_synops
from snnmetrics.monitor.stats_cache import LEADING, StatsCache
from snnmetrics.ops.spec import Call
from snnmetrics.report.data import Operation, Uncounted, product_kind
from snnmetrics.report.run_data import NeuronTotals, RowTotals, RunData
from snnmetrics.synapses.maps import SynapseMap, SynapseMaps
from snnmetrics.synapses.paths import own_saved_tensors
from snnmetrics.synapses.weights import version_of
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats, summarize
from snnmetrics.tensors.sums import magnitude_sum

_MOST_SITES = 1024


@dataclass
class _Emitted:
    """What neurons of one layer and size emitted in this batch."""

    type: str
    sums: InputSums
    buffer: InputBuffer | None = None
    frames: int = 0


class Padded(NamedTuple):
    """An input that a module padded by copies of itself before it was convolved."""

    source: Tensor
    pad: tuple[int, ...]
    mode: str


@dataclass
class BatchRecorder:
    """Counts what happens in one batch.

    Attributes:
        declared_kind: Declared kind of the input of a row, by its name.
        input_scale: Declared scale of the input of a row, by its name.
        per_neuron: Whether rows keep a map per neuron.
        per_sample: Whether synops of input vectors are kept until the batch is complete.
        differentiable: Whether synops of the batch keep their gradient.
        sites: Call sites by key, over all batches while attached.
    """

    declared_kind: Callable[[str], str | None]
    input_scale: Callable[[str], float | None]
    per_neuron: bool = False
    per_sample: bool = False
    differentiable: bool = False
    maps: SynapseMaps = field(default_factory=SynapseMaps)
    staged: RunData = field(default_factory=RunData)
    synops: dict[str, Tensor] = field(default_factory=dict)  # of this batch, with gradient
    vectors: dict[str, list[VectorSynops]] = field(default_factory=dict)  # of this batch
    called: set[str] = field(default_factory=set)  # modules in this batch
    cache: StatsCache = field(default_factory=StatsCache)
    sites: dict[Any, CallSite] = field(default_factory=dict)
    _active: list[CallSite] = field(default_factory=list)  # sites called in this batch
    _buffers: list[InputBuffer] = field(default_factory=list)  # of this batch
    _emitted: dict[tuple[str, tuple[int, ...]], _Emitted] = field(default_factory=dict)

    def clear(self) -> None:
        """Drop the batch: it is complete, or it failed."""
        self.staged = RunData()
        self.vectors.clear()
        self.called.clear()
        self.cache.clear()
        for site in self._active:
            site.reset()
        self._active.clear()
        self._buffers.clear()
        self._emitted.clear()
        if len(self.sites) > _MOST_SITES:  # inputs of ever new sizes
            self.sites.clear()

    def open(self) -> None:
        """Begin a batch: weights may have changed since the last one."""
        self.clear()
        self.synops.clear()
        self.maps.invalidate()

    def detached(self) -> BatchRecorder:
        """The same declarations, without anything of a batch or of the model."""
        return BatchRecorder(
            self.declared_kind,
            self.input_scale,
            self.per_neuron,
            self.per_sample,
            self.differentiable,
        )

    def flush(self) -> RunData:
        """What the batch adds, complete."""
        self._flush_buffers()
        for site in self._active:
            self._flush_site(site)
        for key, emitted in self._emitted.items():
            stats = emitted.sums.stats
            neurons = stats.magnitudes.numel()
            self.staged.neurons[key] = NeuronTotals(
                type=emitted.type,
                neurons=neurons,
                elements=neurons * emitted.frames,
                events=stats.event_counts.sum(),
                spikes_per_neuron=stats.magnitudes,
            )
        self.staged.called |= self.called
        return self.staged

    def _flush_buffers(self) -> None:
        for buffer in self._buffers:
            buffer.flush()

    def _flush_site(self, site: CallSite) -> None:
        row, synapse_map = self.staged.rows[site.name], site.map
        assert synapse_map is not None  # it was called in this batch
        for kind, sums in site.sums.items():
            figures = synapse_map.figures(sums.stats)
            row.record(kind, site.known(sums.calls) | figures._asdict())
            if self.per_neuron:
                row.record_map(sums.stats.magnitudes * synapse_map.dense)
        site.sums.clear()

    # ---------------------------------------------------------------------- operations

    def record(
        self,
        name: str,
        module: str,
        call: Call,
        output: Any,
        sources: Sources,
        *,
        padded: Padded | None = None,
        autapses: bool = True,
        key: Any = None,
    ) -> None:
        """Record one operation and cache its call site under ``key``, if it has one.

        Args:
            name: Name of the row.
            module: Class name of the module in whose forward it happened.
            call: The operation with its operands.
            output: Its output.
            sources: Names of the parameters that the weight is made of.
            padded: What its input was made of by padding, if so.
            autapses: Whether neurons connect to themselves.
            key: What identifies further calls, which ``record_again`` takes.
        """
        if not call.spec.is_convolution:
            call = call.aligned()
        if not call.spec.weighted:
            self._record_product(name, module, call, output)
            return
        spec, x = call.spec, call.left if padded is None else padded.source
        device = call.left.device
        copies = None if padded is None else (x.shape[1:], padded.pad, padded.mode)
        facts = spec.facts()
        if padded is not None:
            facts["input_shape"], key = tuple(x.shape[1:]), None

        def map_of(weight: Tensor) -> SynapseMap:
            found = self.maps.get(name, spec, weight, device, autapses)
            return found if copies is None else found.before_padding(*copies)

        operation = Operation(**facts, module=module, synapses=map_of(call.right).synapses)
        site = CallSite(
            name=name,
            operation=operation,
            batch_dims=spec.batch_dims,
            vectors=math.prod(x.shape[d] for d in spec.batch_dims),
            elements=x.numel(),
            dense_macs=spec.dense_macs,
            outputs=spec.outputs(output),
            declared=self.declared_kind(name),
            weight=weakref.ref(call.right),
            map_of=map_of,
            sources=sources,
        )
        self._record_weighted(site, x, call.right, key, spec.samples_first)

    def _record_weighted(
        self, site: CallSite, x: Tensor, weight: Tensor, key: Any, samples_first: bool
    ) -> None:
        scale = self.input_scale(site.name)
        if scale is not None or self.per_sample or self.differentiable or not x.is_cpu:
            self._record_alone(site, x, weight, scale, samples_first)
            return
        if key is not None:
            self.sites[key] = site
            self.record_again(site, x, weight)
            return
        self._activate(site, weight)
        site.add(self._stats(site.name, x, site.batch_dims), 1)
        self._flush_site(site)
        self._active.pop().reset()

    def record_again(self, site: CallSite, x: Tensor, weight: Tensor) -> None:
        """Record one more call of a site."""
        if site.map is None or site.version != version_of(weight):
            self._activate(site, weight)
        elif site.buffer is None and site.batch_dims and InputBuffer.fits(x):  # in a loop
            what = f"{site.name}: input of shape {tuple(x.shape)}"
            site.buffer = self._new_buffer(x, site.batch_dims, what)
        buffered = self.cache.get_buffered(x, site.batch_dims)
        if buffered is not None:
            buffered.consumers.append(site)
        elif site.buffer is not None:
            site.buffer.append(x, site)
        else:
            site.add(self._stats(site.name, x, site.batch_dims), 1)

    def _activate(self, site: CallSite, weight: Tensor) -> None:
        """Make the map of a call that is the first in its batch, or the first with its weights."""
        if site.map is None:
            self._active.append(site)
            self._row(site.name, site.operation)
            self.staged.contracted |= site.sources
        else:  # what it gathered has the earlier weights
            self._flush_buffers()
            self._flush_site(site)
        site.version, site.map = version_of(weight), site.map_of(weight)

    def _new_buffer(self, like: Tensor, batch_dims: tuple[int, ...], what: str) -> InputBuffer:
        self._buffers.append(InputBuffer(like, batch_dims, what))
        return self._buffers[-1]

    def _record_alone(
        self, site: CallSite, x: Tensor, weight: Tensor, scale: float | None, samples_first: bool
    ) -> None:
        """Record a call of which more than the sum over its input is needed."""
        name, dims, synapse_map, live = site.name, site.batch_dims, site.map_of(weight), x
        if scale is not None:
            x = unscaled(name, x, scale)
            live = live / scale
        with torch.no_grad():
            stats = self._stats(name, x, dims)
            check_kind(name, site.declared, stats.kind)
            figures = synapse_map.figures(stats)
            row = self._row(name, site.operation)
            self.staged.contracted |= site.sources
            row.record(stats.kind, site.known(calls=1) | figures._asdict())
            if self.per_neuron:
                row.record_map(stats.magnitudes * synapse_map.dense)
            if self.per_sample:
                synops = vector_synops(x, dims, synapse_map.dense)
                self._keep_vectors(name, synops, stats.kind, samples_first)
        if self.differentiable:
            with own_saved_tensors():
                self._keep_gradient(name, live, dims, synapse_map)

    def _record_product(self, name: str, module: str, call: Call, output: Any) -> None:
        spec = call.spec
        operation = Operation(
            operation=spec.operation,
            module=module,
            input_shape=spec.left_shape[-2:],
            output_shape=tuple(output.shape[-2:]) if isinstance(output, Tensor) else (),
            weight_shape=None,
        )
        with torch.no_grad():
            try:
                kinds, figures = products.product_of(call)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            check_kind(name, self.declared_kind(name), *kinds)
            kind = product_kind(*kinds)
            known = {
                "calls": 1,
                "frames": spec.vectors,
                "elements": call.left.numel(),
                "dense_synops": spec.dense_macs,
                "dense_macs": spec.dense_macs,
                "output_elements": spec.outputs(output),
            }
            row = self._row(name, operation)
            row.record(kind, known | figures._asdict())
            if self.per_sample:
                operations, kind = products.vector_products(call), products.tighter(*kinds)
                self._keep_vectors(name, operations, kind, spec.samples_first)

    def _keep_vectors(
        self, name: str, synops: Tensor, kind: int | Tensor, samples_first: bool
    ) -> None:
        """Keep the synops of input vectors, unless the input is analog."""
        declared = self.declared_kind(name)
        if declared is not None:
            kind = kind_called(declared)
        if isinstance(kind, int):
            if kind == InputKind.ANALOG:
                return
        else:
            synops = torch.where(kind == InputKind.ANALOG, 0.0, synops)
        if samples_first:
            synops = synops.sum(tuple(range(1, synops.ndim))) if synops.ndim > 1 else synops
        self.vectors.setdefault(name, []).append(VectorSynops(self.staged.calls - 1, synops))

    def _stats(self, name: str, x: Tensor, batch_dims: tuple[int, ...]) -> InputStats:
        """What is in an input; cached for other layers that take it in."""
        known = self.cache.get(x, batch_dims)
        if known is not None:
            return known
        try:
            stats = summarize(x.detach(), batch_dims)
        except ValueError as error:
            raise ValueError(f"{name}: input of shape {tuple(x.shape)}: {error}") from None
        self.cache.put(x, batch_dims, stats)
        return stats

    def _row(self, name: str, operation: Operation) -> RowTotals:
        return self.staged.rows.setdefault(name, RowTotals(operation))

    def _keep_gradient(
        self, name: str, x: Tensor, batch_dims: tuple[int, ...], synapse_map: SynapseMap
    ) -> None:
        if not batch_dims:
            x, batch_dims = x.unsqueeze(0), (0,)
        synops = (magnitude_sum(x, batch_dims) * synapse_map.dense).sum()
        self.synops[name] = self.synops[name] + synops if name in self.synops else synops

    # ------------------------------------------------------------------------- the rest

    def record_neurons(self, name: str, type_: str, spikes: Tensor, lead: int) -> None:
        """Record the output of spiking neurons, whose first ``lead`` dimensions are batch and time.

        Args:
            name: Name of the row.
            type_: Class name of the neurons.
            spikes: Their output.
            lead: Number of dimensions that are not neurons.
        """
        spikes = spikes.to_dense() if spikes.is_sparse else spikes
        key = name, spikes.shape[lead:]
        emitted = self._emitted.get(key)
        if emitted is None:
            stats = self._neuron_stats(name, spikes, lead)
            emitted = self._emitted[key] = _Emitted(type_, InputSums(stats))
        elif self._may_buffer(emitted, name, spikes, lead) and emitted.buffer is not None:
            buffered = emitted.buffer.append(spikes, emitted.sums)
            self.cache.put_buffered(spikes, LEADING[lead], buffered)
        else:
            emitted.sums.add(self._neuron_stats(name, spikes, lead))
        emitted.frames += math.prod(spikes.shape[:lead])

    def _may_buffer(self, emitted: _Emitted, name: str, spikes: Tensor, lead: int) -> bool:
        if emitted.buffer is None and lead and InputBuffer.fits(spikes):  # in a loop
            emitted.buffer = self._new_buffer(spikes, LEADING[lead], f"{name}: output")
        return emitted.buffer is not None and emitted.buffer.takes(spikes)

    def _neuron_stats(self, name: str, spikes: Tensor, lead: int) -> InputStats:
        """What is in an output; cached for the layer that takes it in."""
        try:
            stats = summarize(spikes.detach(), LEADING[lead])
        except ValueError as error:
            raise ValueError(f"{name}: output: {error}") from None
        self.cache.put(spikes, LEADING[lead], stats)
        return stats

    def record_uncounted(self, name: str, what: str, reason: str) -> None:
        """Record a call that is known to contract something and cannot be counted."""
        known = self.staged.uncounted.get((name, what), Uncounted(name, what, reason))
        self.staged.uncounted[name, what] = replace(known, calls=known.calls + 1)


def unscaled(name: str, x: Tensor, scale: float) -> Tensor:
    """Spike counts from an input that was declared to be ``scale`` times a spike count.

    Raises:
        ValueError: On the CPU, if the input is no such multiple, but for rounding.
    """
    counts = x.detach().to(torch.float64) / scale
    whole = counts.round()
    eps = torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
    fits = (counts - whole).abs() <= 4 * eps * counts.abs().clamp(min=1)
    if not x.is_cpu:
        return torch.where(fits, whole, torch.nan)
    if not bool(fits.all()):
        raise ValueError(
            f"input_scale: the input of '{name}' was declared {scale} times a spike count, "
            f"found {x.detach()[~fits][0].item()}"
        )
    return whole
