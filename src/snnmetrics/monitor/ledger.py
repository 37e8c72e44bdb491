"""Where the calls of one batch are entered, until the batch is complete."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnmetrics.exact import magnitude_sum
from snnmetrics.monitor import counting
from snnmetrics.monitor.fanouts import Fanout, FanoutCache, own_saved_tensors, padded_fanout
from snnmetrics.monitor.operations import Contraction, Convolution
from snnmetrics.monitor.repeats import Pile, Repeat, Tally, version_of
from snnmetrics.monitor.samples import Vectors
from snnmetrics.monitor.state import (
    FIELDS,
    NO_MAP,
    PRODUCT,
    WEIGHTED,
    NeuronState,
    RowState,
    State,
    empty_totals,
)
from snnmetrics.report.data import KINDS, Operation, Uncounted
from snnmetrics.spikes import PLAIN

# Outputs of neurons of which is remembered what was in them; few, for each brings sums of its own.
_MAX_LOOKED = 8

# The first dimensions, by their number.
_FIRST = tuple(tuple(range(number)) for number in range(64))


@dataclass
class _Fired:
    """What neurons of one layer and size emitted in this batch."""

    type: str
    tally: Tally
    pile: Pile | None
    frames: int = 0


class _Looked(NamedTuple):
    """What was in a tensor, for whoever comes with the same piece of memory.

    Attributes:
        owner: The tensor whose memory it is; while it lives, nobody else has that memory.
        version: How often was written into it.
        neurons: Its dimensions behind the leading ones.
        seen: What was in it.
    """

    owner: weakref.ref[Tensor]
    version: int
    neurons: torch.Size
    seen: counting.Input


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
    staged: State = field(default_factory=State)
    synops: dict[str, Tensor] = field(default_factory=dict)  # of this batch, with gradient
    vectors: dict[str, list[Vectors]] = field(default_factory=dict)  # of this batch
    repeats: dict[Any, Repeat] = field(default_factory=dict)  # of this batch
    called: set[str] = field(default_factory=set)  # modules in this batch
    untraced: bool = False  # whether somebody may write without a trace in this batch
    _looked: dict[Any, _Looked] = field(default_factory=dict)
    _fired: dict[tuple[str, tuple[int, ...]], _Fired] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget the batch: it is complete, or it failed."""
        self.staged = State()
        self.vectors.clear()
        self.repeats.clear()
        self.called.clear()
        self._looked.clear()
        self._fired.clear()
        self.untraced = False

    def open(self) -> None:
        """A batch begins: weights may have changed since the last one."""
        self.clear()
        self.synops.clear()
        self.maps.look_again()

    def settled(self) -> State:
        """What the batch adds, complete."""
        for repeat in self.repeats.values():
            self._settle(repeat)
        for row in self.staged.rows.values():
            row.settle()
        for key, fired in self._fired.items():
            tally = fired.tally
            if fired.pile is not None:
                fired.pile.settle()
            self.staged.neurons[key] = NeuronState(
                fired.type, tally.magnitudes, tally.events.sum(), fired.frames
            )
        self.staged.called |= self.called
        return self.staged

    def _settle(self, repeat: Repeat) -> None:
        row = self.staged.rows[repeat.name]
        if repeat.pile is not None:
            repeat.pile.settle()
        for kind, tally in repeat.tallies.items():
            seen, calls = counting.Input(kind, tally.magnitudes, tally.events), tally.calls
            _enter(
                row,
                kind,
                repeat.frames * calls,
                repeat.elements * calls,
                counting.synops_of(seen, repeat.fanout),
                repeat.dense_synops * calls,
                repeat.dense_macs * calls,
                repeat.outputs * calls,
                calls,
            )
            if self.per_neuron:
                self._add_map(row, tally.magnitudes * repeat.fanout.dense)

    # ---------------------------------------------------------------------- operations

    def convolution(
        self, name: str, module: str, call: Convolution, out: Tensor, padded: Padded | None
    ) -> Repeat | None:
        """Enter one call of a convolution, and say how it may be repeated."""
        fanout = self.maps.of_convolution(name, call)
        x = call.x
        if padded is not None:
            x = padded.source
            dense = padded_fanout(fanout.dense, x.shape[1:], padded.pad, padded.mode)
            effective = dense
            if fanout.effective is not fanout.dense:
                effective = padded_fanout(fanout.effective, x.shape[1:], padded.pad, padded.mode)
            fanout = Fanout(dense, effective, fanout.synapses)
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
            synapses=fanout.synapses,
            parameters=_parameters(call.weight, call.bias),
        )
        macs = counting.dense_macs_of_convolution(call, out)
        seen = self._weighted(name, operation, x, (0,), fanout, macs, out.numel())
        return seen if padded is None else None

    def contraction(
        self, name: str, module: str, call: Contraction, out: Any, autapses: bool = True
    ) -> Repeat | None:
        """Enter one call of a product of an activation with weights, or of two activations.

        Returns:
            How it may be repeated, if it may.
        """
        call = counting.aligned(call)
        if not call.weighted:
            self._product(name, module, call, out)
            return None
        fanout = self.maps.of_contraction(call, autapses)
        neurons = [d for d, c in enumerate(call.left_letters) if c in call.right_letters]
        own = [
            size
            for letter, size in zip(call.right_letters, call.right.shape, strict=True)
            if letter not in call.left_letters
        ]
        shape = tuple(call.left.shape[d] for d in neurons)
        operation = Operation(
            operation=call.operation,
            module=module,
            input_shape=shape,
            output_shape=tuple(own),
            weight_shape=tuple(call.right.shape),
            bias=call.bias is not None,
            synapses=fanout.synapses,
            parameters=_parameters(call.right, call.bias),
        )
        lead = tuple(d for d in range(call.left.ndim) if d not in neurons)
        macs = counting.dense_macs(call)
        outputs = counting.outputs(call, out)
        return self._weighted(
            name, operation, call.left, lead, fanout, macs, outputs, call.samples_first
        )

    def may_repeat(self, key: Any, repeat: Repeat) -> None:
        """Know a call again. What an earlier one of the same key gathered is entered first."""
        earlier = self.repeats.pop(key, None)
        if earlier is not None:  # something was written into its weight since
            self._settle(earlier)
        self.repeats[key] = repeat

    def repeat(self, repeat: Repeat, x: Tensor) -> None:
        """Enter one more call."""
        if repeat.pile is None:
            self._enter_repeat(repeat, self._looked_at(repeat.name, x, repeat.lead), 1)
        else:
            repeat.pile.add(x.detach())

    def _enter_repeat(self, repeat: Repeat, seen: counting.Input, calls: int) -> None:
        assert isinstance(seen.kind, int)  # repeated are calls on the CPU
        self._check_kind(repeat.name, seen.kind)
        repeat.add(seen.kind, seen, calls)

    def _weighted(
        self,
        name: str,
        operation: Operation,
        x: Tensor,
        lead: tuple[int, ...],
        fanout: Fanout,
        macs: int,
        outputs: int,
        samples_first: bool = False,
    ) -> Repeat | None:
        live = x
        if (scale := self.input_scale(name)) is not None:
            x = unscaled(name, x, scale)
            live = live / scale
        with torch.no_grad():
            seen = self._looked_at(name, x, lead)
            self._check_kind(name, seen.kind)
            figures = counting.synops_of(seen, fanout)
            frames = math.prod(x.shape[d] for d in lead)
            dense = frames * operation.synapses
            row = self._row(name, operation, len(WEIGHTED), x.device)
            _enter(row, seen.kind, frames, x.numel(), figures, dense, macs, outputs)
            if self.per_neuron:
                self._add_map(row, seen.magnitudes * fanout.dense)
            if self.per_sample:
                synops = counting.vector_synops(x, lead, fanout.dense)
                self._keep_vectors(name, synops, seen.kind, samples_first)
        if self.differentiable:
            with own_saved_tensors():
                self._keep_gradient(name, live, lead, fanout)
        if scale is not None or self.per_sample or self.differentiable or not x.is_cpu:
            return None  # every call must be looked at by itself
        repeat = Repeat(name, lead, fanout, frames, x.numel(), dense, macs, outputs)
        if lead and Pile.fits(x):
            enter = partial(self._enter_repeat, repeat)
            repeat.pile = Pile(x, lead, f"{name}: input of shape {tuple(x.shape)}", enter)
        return repeat

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
            self._check_kind(name, *kinds)
            kind = kinds[0] * len(KINDS) + kinds[1]
            row = self._row(name, operation, len(PRODUCT), call.left.device)
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
        """What neurons emitted and layers take in, also as a view, need be looked at once."""
        known = self._recall(x, lead)
        if known is not None:
            return known
        try:
            return counting.look_at(x.detach(), lead)
        except ValueError as error:
            raise ValueError(f"{name}: input of shape {tuple(x.shape)}: {error}") from None

    def _recall(self, x: Tensor, lead: tuple[int, ...]) -> counting.Input | None:
        """What was seen in the same memory, added up to the neurons that are asked for."""
        known = self._looked.get(_memory_of(x)) if _has_memory(x) else None
        if known is None or known.owner() is None or known.version != version_of(x):
            return None
        if lead != _FIRST[len(lead)] or not x.is_contiguous():
            return None
        neurons = x.shape[len(lead) :]
        further = len(known.neurons) - len(neurons)
        if further < 0 or known.neurons[further:] != neurons:
            return None
        return known.seen.summed(tuple(range(further))) if further else known.seen

    def _remember(self, x: Tensor, lead: tuple[int, ...], seen: counting.Input) -> None:
        # What is written into a tensor of inference mode leaves no trace in its version.
        if self.untraced or not _has_memory(x) or x.is_inference():
            return
        if lead != _FIRST[len(lead)] or not x.is_contiguous():
            return
        if len(self._looked) >= _MAX_LOOKED:
            self._looked.pop(next(iter(self._looked)))
        owner = x if x._base is None else x._base
        neurons = x.shape[len(lead) :]
        self._looked[_memory_of(x)] = _Looked(weakref.ref(owner), x._version, neurons, seen)

    def forget_looks(self) -> None:
        """What happens to tensors from now on may leave no trace in their versions."""
        self._looked.clear()

    def distrust_versions(self) -> None:
        """Somebody has a way to write that leaves no trace, for the rest of the batch."""
        self._looked.clear()
        self.untraced = True

    def _row(self, name: str, operation: Operation, kinds: int, device: torch.device) -> RowState:
        if name not in self.staged.rows:
            self.staged.rows[name] = RowState(operation, empty_totals(kinds, device))
        return self.staged.rows[name]

    def _check_kind(self, name: str, *kinds: int | Tensor) -> None:
        declared = self.declared_kind(name)
        if declared is None:
            return
        for kind in kinds:
            if declared is not None and isinstance(kind, int) and kind > KINDS.index(declared):
                found = f"found {KINDS[kind]} data"
                raise ValueError(f"kinds: the input of '{name}' was declared {declared}, {found}")

    def _add_map(self, row: RowState, synops: Tensor) -> None:
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
        key = name, tuple(spikes.shape[lead:])
        fired = self._fired.get(key)
        if fired is not None and fired.pile is not None and fired.pile.takes(spikes):
            fired.pile.add(spikes.detach())
        else:
            seen = self._emitted(name, spikes, _FIRST[lead])
            if fired is None:
                tally, pile = Tally(seen), None
                if Pile.fits(spikes):
                    pile = Pile(spikes, _FIRST[lead], f"{name}: output", tally.add)
                fired = self._fired[key] = _Fired(type_, tally, pile)
            else:
                fired.tally.add(seen)
        fired.frames += math.prod(spikes.shape[:lead])

    def _emitted(self, name: str, spikes: Tensor, lead: tuple[int, ...]) -> counting.Input:
        """What is in an output; remembered for the layer that takes it in."""
        try:
            seen = counting.look_at(spikes.detach(), lead)
        except ValueError as error:
            raise ValueError(f"{name}: output: {error}") from None
        self._remember(spikes, lead, seen)
        return seen

    def uncounted(self, name: str, what: str, reason: str) -> None:
        """Enter a call that is known to contract something and cannot be counted."""
        known = self.staged.uncounted.get((name, what), Uncounted(name, what, reason))
        self.staged.uncounted[name, what] = replace(known, calls=known.calls + 1)


def _has_memory(x: Tensor) -> bool:
    """Whether a tensor is a piece of memory of its own device, of which the address is known."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(x)
    plain = type(x) in PLAIN and x.layout is torch.strided
    return plain and not (wrapped or x.is_meta or x.is_neg())


def _memory_of(x: Tensor) -> tuple[Any, ...]:
    """The piece of memory that a contiguous tensor is."""
    return x.data_ptr(), x.numel(), x.dtype


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
    row: RowState,
    kind: int | Tensor,
    frames: int,
    elements: int,
    figures: list[Tensor],
    dense_synops: int,
    dense_macs: int,
    outputs: int,
    calls: int = 1,
) -> None:
    """Add calls to the line of their kind, in the order of ``FIELDS``."""
    first, last = [calls, frames, elements], [dense_synops, dense_macs, outputs]
    if isinstance(kind, int):
        line = row.pending.setdefault(kind, [0.0] * len(FIELDS))
        for i, value in enumerate((*first, *(figure.item() for figure in figures), *last)):
            line[i] += value
        return
    known = [
        torch.tensor(part, dtype=torch.float64).to(row.totals.device) for part in (first, last)
    ]
    columns = torch.cat([known[0], torch.stack(figures), known[1]])
    row.totals.index_add_(0, kind.reshape(1), columns.unsqueeze(0))


def _parameters(weight: Tensor, bias: Tensor | None) -> int:
    return weight.numel() + (0 if bias is None else bias.numel())
