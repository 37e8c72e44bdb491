"""Where the calls of one batch are entered, until the batch is complete."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.monitor import counting
from snnmetrics.monitor.call_sites import Repeat, Tally, check_kind
from snnmetrics.monitor.input_buffer import Pile
from snnmetrics.monitor.lineage import Sources, version_of
from snnmetrics.monitor.per_sample import Vectors
from snnmetrics.monitor.stats_cache import FIRST, Looks
from snnmetrics.ops.parsers import Contraction, Convolution
from snnmetrics.report.data import KINDS, Operation, Uncounted
from snnmetrics.report.run_data import NO_MAP, Neurons, Row, RunData
from snnmetrics.synapses.maps import Fanout, FanoutCache, own_saved_tensors, padded_fanout
from snnmetrics.tensors.sums import magnitude_sum

# What ``counting.synops_of`` gives, by the names of ``Counts``.
_FIGURES = (
    "events",
    "magnitude",
    "synops",
    "event_synops",
    "effective_synops",
    "effective_magnitude",
)
# Operations that are known again, over batches.
_MOST_REPEATS = 1024


@dataclass
class _Fired:
    """What neurons of one layer and size emitted in this batch."""

    type: str
    tally: Tally
    pile: Pile | None = None
    frames: int = 0


class Padded(NamedTuple):
    """What a module padded by copies of itself before it was convolved."""

    source: Tensor
    pad: tuple[int, ...]
    mode: str


@dataclass
class Ledger:
    """Counts what happens in one batch.

    Attributes:
        declared_kind: Declared kind of the input of a row, by its name.
        input_scale: Declared scale of the input of a row, by its name.
        per_neuron: Whether rows keep a map per neuron.
        per_sample: Whether synops of input vectors are kept until the batch is complete.
        differentiable: Whether synops of the batch keep their gradient.
    """

    declared_kind: Callable[[str], str | None]
    input_scale: Callable[[str], float | None]
    per_neuron: bool = False
    per_sample: bool = False
    differentiable: bool = False
    maps: FanoutCache = field(default_factory=FanoutCache)
    staged: RunData = field(default_factory=RunData)
    synops: dict[str, Tensor] = field(default_factory=dict)  # of this batch, with gradient
    vectors: dict[str, list[Vectors]] = field(default_factory=dict)  # of this batch
    called: set[str] = field(default_factory=set)  # modules in this batch
    looks: Looks = field(default_factory=Looks)
    repeats: dict[Any, Repeat] = field(default_factory=dict)  # of all batches while attached
    _begun: list[Repeat] = field(default_factory=list)  # in this batch
    _piles: list[Pile] = field(default_factory=list)  # of this batch
    _fired: dict[tuple[str, tuple[int, ...]], _Fired] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget the batch: it is complete, or it failed."""
        self.staged = RunData()
        self.vectors.clear()
        self.called.clear()
        self.looks.clear()
        for repeat in self._begun:
            repeat.forget()
        self._begun.clear()
        self._piles.clear()
        self._fired.clear()
        if len(self.repeats) > _MOST_REPEATS:  # inputs of ever new sizes
            self.repeats.clear()

    def open(self) -> None:
        """A batch begins: weights may have changed since the last one."""
        self.clear()
        self.synops.clear()
        self.maps.look_again()

    def settled(self) -> RunData:
        """What the batch adds, complete."""
        self._settle_piles()
        for repeat in self._begun:
            self._settle(repeat)
        for key, fired in self._fired.items():
            tally = fired.tally
            neurons = tally.magnitudes.numel()
            self.staged.neurons[key] = Neurons(
                fired.type,
                neurons,
                neurons * fired.frames,
                tally.events.sum(),
                spikes_per_neuron=tally.magnitudes,
            )
        self.staged.called |= self.called
        return self.staged

    def _settle_piles(self) -> None:
        for pile in self._piles:
            pile.settle()

    def _settle(self, repeat: Repeat) -> None:
        row, operation, fanout = self.staged.rows[repeat.name], repeat.operation, repeat.fanout
        assert fanout is not None  # it has begun
        for kind, tally in repeat.tallies.items():
            seen, calls = counting.Input(kind, tally.magnitudes, tally.events), tally.calls
            frames = repeat.frames * calls
            _enter(
                row,
                kind,
                frames,
                repeat.elements * calls,
                counting.synops_of(seen, fanout),
                frames * operation.synapses,
                repeat.dense_macs * calls,
                repeat.outputs * calls,
                calls,
            )
            if self.per_neuron:
                self._add_map(row, tally.magnitudes * fanout.dense)
        repeat.tallies.clear()

    # ---------------------------------------------------------------------- operations

    def convolution(
        self,
        name: str,
        module: str,
        call: Convolution,
        out: Tensor,
        sources: Sources,
        padded: Padded | None,
        key: Any,
    ) -> None:
        """Enter one call of a convolution; those with the same key may be entered by ``repeat``."""
        x, copies = call.x, None
        nothing = _of_same_shape(call.x)
        bare = call._replace(x=nothing, weight=nothing, bias=None)
        if padded is not None:
            x, copies, key = padded.source, (padded.source.shape[1:], padded.pad, padded.mode), None

        def fanout_of(weight: Tensor) -> Fanout:
            fanout = self.maps.of_convolution(name, bare._replace(weight=weight))
            return fanout if copies is None else _padded(fanout, *copies)

        operation = Operation(
            operation=call.operation,
            module=module,
            input_shape=tuple(x.shape[1:]),
            output_shape=tuple(out.shape[-x.ndim + 1 :]),
            weight_shape=tuple(call.weight.shape),
            stride=call.stride,
            padding=tuple(before for before, _ in call.padding),
            dilation=call.dilation,
            groups=call.groups,
            bias=call.bias is not None,
            synapses=fanout_of(call.weight).synapses,
            parameters=_parameters(call.weight, call.bias),
        )
        macs = counting.dense_macs_of_convolution(call, out)
        repeat = self._repeat(
            name, operation, x, (0,), call.weight, sources, fanout_of, macs, out.numel()
        )
        self._weighted(repeat, x, call.weight, key)

    def contraction(
        self,
        name: str,
        module: str,
        call: Contraction,
        out: Any,
        sources: Sources,
        autapses: bool,
        key: Any,
    ) -> None:
        """Enter one call of a product of an activation with weights, or of two activations.

        Those with the same key may be entered by ``repeat``.
        """
        call = counting.aligned(call)
        if not call.weighted:
            self._product(name, module, call, out)
            return
        nothing = _of_same_shape(call.left)
        bare = call._replace(left=nothing, right=nothing, bias=None)

        def fanout_of(weight: Tensor) -> Fanout:
            return self.maps.of_contraction(bare._replace(right=weight), autapses)

        neurons = [d for d, c in enumerate(call.left_letters) if c in call.right_letters]
        own = [
            size
            for letter, size in zip(call.right_letters, call.right.shape, strict=True)
            if letter not in call.left_letters
        ]
        operation = Operation(
            operation=call.operation,
            module=module,
            input_shape=tuple(call.left.shape[d] for d in neurons),
            output_shape=tuple(own),
            weight_shape=tuple(call.right.shape),
            bias=call.bias is not None,
            synapses=fanout_of(call.right).synapses,
            parameters=_parameters(call.right, call.bias),
        )
        lead = tuple(d for d in range(call.left.ndim) if d not in neurons)
        macs, outputs = counting.dense_macs(call), counting.outputs(call, out)
        repeat = self._repeat(
            name, operation, call.left, lead, call.right, sources, fanout_of, macs, outputs
        )
        self._weighted(repeat, call.left, call.right, key, call.samples_first)

    def _repeat(
        self,
        name: str,
        operation: Operation,
        x: Tensor,
        lead: tuple[int, ...],
        weight: Tensor,
        sources: Sources,
        fanout_of: Callable[[Tensor], Fanout],
        macs: int,
        outputs: int,
    ) -> Repeat:
        return Repeat(
            name=name,
            operation=operation,
            lead=lead,
            frames=math.prod(x.shape[d] for d in lead),
            elements=x.numel(),
            dense_macs=macs,
            outputs=outputs,
            declared=self.declared_kind(name),
            weight=weakref.ref(weight),
            fanout_of=fanout_of,
            sources=sources,
        )

    def _weighted(
        self, repeat: Repeat, x: Tensor, weight: Tensor, key: Any, samples_first: bool = False
    ) -> None:
        scale = self.input_scale(repeat.name)
        if scale is not None or self.per_sample or self.differentiable or not x.is_cpu:
            self._enter_alone(repeat, x, weight, scale, samples_first)
            return
        if key is not None:
            self.repeats[key] = repeat
            self.repeat(repeat, x, weight)
            return
        self._begin(repeat, weight)
        repeat.add(self._looked_at(repeat.name, x, repeat.lead), 1)
        self._settle(repeat)
        self._begun.pop().forget()

    def repeat(self, repeat: Repeat, x: Tensor, weight: Tensor) -> None:
        """Enter one more call."""
        if repeat.fanout is None or repeat.version != version_of(weight):
            self._begin(repeat, weight)
        elif repeat.pile is None and repeat.lead and Pile.fits(x):  # it comes again in this batch
            what = f"{repeat.name}: input of shape {tuple(x.shape)}"
            repeat.pile = self._new_pile(x, repeat.lead, what)
        laid = self.looks.laid(x, repeat.lead)
        if laid is not None:
            laid.readers.append(repeat)
        elif repeat.pile is not None:
            repeat.pile.lay(x, repeat)
        else:
            repeat.add(self._looked_at(repeat.name, x, repeat.lead), 1)

    def _begin(self, repeat: Repeat, weight: Tensor) -> None:
        """Make the map of a call that is the first in its batch, or the first with its weights."""
        if repeat.fanout is None:
            self._begun.append(repeat)
            self._row(repeat.name, repeat.operation)
            self.staged.contracted |= repeat.sources
        else:  # what it gathered has the earlier weights
            self._settle_piles()
            self._settle(repeat)
        repeat.version, repeat.fanout = version_of(weight), repeat.fanout_of(weight)

    def _new_pile(self, like: Tensor, lead: tuple[int, ...], what: str) -> Pile:
        self._piles.append(Pile(like, lead, what))
        return self._piles[-1]

    def _enter_alone(
        self, repeat: Repeat, x: Tensor, weight: Tensor, scale: float | None, samples_first: bool
    ) -> None:
        """Enter a call of which more than the sum over its input is needed."""
        name, lead, fanout, live = repeat.name, repeat.lead, repeat.fanout_of(weight), x
        if scale is not None:
            x = unscaled(name, x, scale)
            live = live / scale
        with torch.no_grad():
            seen = self._looked_at(name, x, lead)
            check_kind(name, repeat.declared, seen.kind)
            figures = counting.synops_of(seen, fanout)
            dense = repeat.frames * repeat.operation.synapses
            row = self._row(name, repeat.operation)
            self.staged.contracted |= repeat.sources
            known = dense, repeat.dense_macs, repeat.outputs
            _enter(row, seen.kind, repeat.frames, x.numel(), figures, *known)
            if self.per_neuron:
                self._add_map(row, seen.magnitudes * fanout.dense)
            if self.per_sample:
                synops = counting.vector_synops(x, lead, fanout.dense)
                self._keep_vectors(name, synops, seen.kind, samples_first)
        if self.differentiable:
            with own_saved_tensors():
                self._keep_gradient(name, live, lead, fanout)

    def _product(self, name: str, module: str, call: Contraction, out: Any) -> None:
        operation = Operation(
            operation=call.operation,
            module=module,
            input_shape=tuple(call.left.shape[-2:]),
            output_shape=tuple(out.shape[-2:]) if isinstance(out, Tensor) else (),
            weight_shape=None,
        )
        with torch.no_grad():
            try:
                kinds, figures, dense = counting.product_of(call)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            check_kind(name, self.declared_kind(name), *kinds)
            kind = kinds[0] * len(KINDS) + kinds[1]
            row = self._row(name, operation)
            elements, outputs = call.left.numel(), counting.outputs(call, out)
            _enter(row, kind, counting.vectors(call), elements, figures, dense, dense, outputs)
            if self.per_sample:
                products, kind = counting.vector_products(call), counting.tighter(*kinds)
                self._keep_vectors(name, products, kind, call.samples_first)

    def _keep_vectors(
        self, name: str, synops: Tensor, kind: int | Tensor, samples_first: bool
    ) -> None:
        """Keep the synops of input vectors, unless the input is analog."""
        declared, analog = self.declared_kind(name), KINDS.index("analog")
        if declared is not None:
            kind = KINDS.index(declared)
        if isinstance(kind, int):
            if kind == analog:
                return
        else:
            synops = torch.where(kind == analog, 0.0, synops)
        if samples_first:
            synops = synops.sum(tuple(range(1, synops.ndim))) if synops.ndim > 1 else synops
        call = Vectors(self.staged.calls - 1, synops)
        self.vectors.setdefault(name, []).append(call)

    def _looked_at(self, name: str, x: Tensor, lead: tuple[int, ...]) -> counting.Input:
        """What is in an input; remembered for other layers that take it in."""
        known = self.looks.recall(x, lead)
        if known is not None:
            return known
        try:
            seen = counting.look_at(x.detach(), lead)
        except ValueError as error:
            raise ValueError(f"{name}: input of shape {tuple(x.shape)}: {error}") from None
        self.looks.remember(x, lead, seen)
        return seen

    def _row(self, name: str, operation: Operation) -> Row:
        return self.staged.rows.setdefault(name, Row(operation))

    def _add_map(self, row: Row, synops: Tensor) -> None:
        if row.synops_per_neuron is None:
            row.synops_per_neuron = synops
        elif row.synops_per_neuron.shape == synops.shape:
            row.synops_per_neuron = row.synops_per_neuron + synops
        else:
            row.notes |= {NO_MAP}

    def _keep_gradient(self, name: str, x: Tensor, lead: tuple[int, ...], fanout: Fanout) -> None:
        if not lead:
            x, lead = x.unsqueeze(0), (0,)
        synops = (magnitude_sum(x, lead) * fanout.dense).sum()
        self.synops[name] = self.synops[name] + synops if name in self.synops else synops

    # ------------------------------------------------------------------------- the rest

    def neurons(self, name: str, type_: str, spikes: Tensor, lead: int) -> None:
        """Enter the output of a layer of spiking neurons; its first dimensions are no neurons."""
        spikes = spikes.to_dense() if spikes.is_sparse else spikes
        key = name, spikes.shape[lead:]
        fired = self._fired.get(key)
        if fired is None:
            seen = self._emitted(name, spikes, lead)
            fired = self._fired[key] = _Fired(type_, Tally(seen))
        elif self._may_pile(fired, name, spikes, lead) and fired.pile is not None:
            laid = fired.pile.lay(spikes, fired.tally)
            self.looks.remember_laid(spikes, FIRST[lead], laid)
        else:
            fired.tally.add(self._emitted(name, spikes, lead))
        fired.frames += math.prod(spikes.shape[:lead])

    def _may_pile(self, fired: _Fired, name: str, spikes: Tensor, lead: int) -> bool:
        if fired.pile is None and lead and Pile.fits(spikes):  # it comes again in this batch
            fired.pile = self._new_pile(spikes, FIRST[lead], f"{name}: output")
        return fired.pile is not None and fired.pile.takes(spikes)

    def _emitted(self, name: str, spikes: Tensor, lead: int) -> counting.Input:
        """What is in an output; remembered for the layer that takes it in."""
        try:
            seen = counting.look_at(spikes.detach(), FIRST[lead])
        except ValueError as error:
            raise ValueError(f"{name}: output: {error}") from None
        self.looks.remember(spikes, FIRST[lead], seen)
        return seen

    def uncounted(self, name: str, what: str, reason: str) -> None:
        """Enter a call that is known to contract something and cannot be counted."""
        known = self.staged.uncounted.get((name, what), Uncounted(name, what, reason))
        self.staged.uncounted[name, what] = replace(known, calls=known.calls + 1)


def _of_same_shape(x: Tensor) -> Tensor:
    """A tensor that takes no memory: an activation must not outlive its call."""
    return torch.empty((), dtype=x.dtype, device=x.device).expand(x.shape)


def _padded(fanout: Fanout, shape: Sequence[int], pad: Sequence[int], mode: str) -> Fanout:
    dense = padded_fanout(fanout.dense, shape, pad, mode)
    effective = dense
    if fanout.effective is not fanout.dense:
        effective = padded_fanout(fanout.effective, shape, pad, mode)
    return Fanout(dense, effective, fanout.synapses)


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


def _enter(
    row: Row,
    kind: int | Tensor,
    frames: int,
    elements: int,
    figures: list[Tensor],
    dense_synops: int,
    dense_macs: int,
    outputs: int,
    calls: int = 1,
) -> None:
    """Add calls to the counts of their kind."""
    known = {
        "calls": calls,
        "frames": frames,
        "elements": elements,
        "dense_synops": dense_synops,
        "dense_macs": dense_macs,
        "output_elements": outputs,
    }
    row.enter(kind, known | dict(zip(_FIGURES, figures, strict=True)))


def _parameters(weight: Tensor, bias: Tensor | None) -> int:
    return weight.numel() + (0 if bias is None else bias.numel())
