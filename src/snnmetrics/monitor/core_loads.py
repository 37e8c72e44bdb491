"""Loads of cores, from what the layers that lie on them take in and what their neurons emit.

What is read of each call is kept with the figures of input vectors, and attributed to samples and
time steps in the same way. When the batch is complete, the loads of all layers of a core are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.cores.layout import Cores, LayerLayout, has_named_cores, lay_out, require_fit
from snnmetrics.cores.loads import Copies, CoreLoads, neuron_shape, neuron_synapses
from snnmetrics.monitor.per_sample import Batch, VectorFigures, series_of
from snnmetrics.monitor.vectors import Place
from snnmetrics.ops.spec import OpSpec
from snnmetrics.report.core_data import FIGURES, HELD, OF_INPUTS, OF_NEURONS, CoreTotals
from snnmetrics.report.data import RowKey
from snnmetrics.report.distribution import Distribution
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

_FEW_RANGES = 64  # up to which slices are summed one by one

Ran = tuple[RowKey | None, tuple[int, ...]]
"""A layer that ran, None if it is not laid on cores, and the shape of its output."""


class _Layer(NamedTuple):
    """A layer on its cores.

    Attributes:
        name: Name of its row.
        layout: Where its neurons lie.
        loads: Loads of its cores, with the weight as it is.
        held: What each core holds, the most so far, ``(held, cores)``.
        core_of: Core of each neuron, where slices would be many; else None.
    """

    name: str
    layout: LayerLayout
    loads: CoreLoads
    held: Tensor
    core_of: Tensor | None


class LaidOut:
    """The layers of a model on cores.

    Args:
        cores: How they are laid on cores.
    """

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self._layers: dict[RowKey, _Layer] = {}
        self._varied: set[str] = set()  # rows whose output has several shapes
        self._without_neurons: set[RowKey] = set()  # of which it is not known which neurons follow
        self._untimed: set[str] = set()
        self._must_fit = False
        self._known_neurons: dict[str, bool] = {}
        self._by_name = has_named_cores(cores)

    def loads_of(
        self,
        key: RowKey,
        name: str,
        spec: OpSpec,
        mask: Tensor | None,
        copies: Copies | None,
        device: torch.device,
    ) -> CoreLoads | None:
        """The loads of the cores of a layer; None if it lies on none.

        Args:
            key: Key of its row.
            name: Name of the row.
            spec: The operation.
            mask: Where the weight is not zero; None if it is zero nowhere.
            copies: How the input is padded by copies of itself, if it is.
            device: Where the input lies.

        Raises:
            ValueError: If it does not fit on the cores.
        """
        shape, known = neuron_shape(spec), self._layers.get(key)
        if known is not None and known.layout.shape != shape:
            self._varied.add(name)
            return None
        if known is not None:
            layout, core_of = known.layout, known.core_of
        else:
            limited = self.cores.synapses_per_core is not None and self.cores.mapping is None
            synapses = neuron_synapses(spec, mask, copies=copies) if limited else None
            found = lay_out(self.cores, name, shape, synapses)
            if found is None:
                return None
            layout, core_of = found, _core_of(found, device)
        loads = CoreLoads(spec, layout, mask, copies=copies, device=device)
        held = torch.stack([getattr(loads, what) for what in HELD])
        if known is not None:
            held = torch.maximum(known.held.to(held.device), held)
        self._layers[key] = _Layer(name, layout, loads, held, core_of)
        self._must_fit = True
        return loads

    def layer_before(self, ran: Sequence[Ran], shape: tuple[int, ...]) -> RowKey | None:
        """The layer whose neurons these are; None if there is none, or it may be several.

        Args:
            ran: Layers that ran since the last neurons.
            shape: Shape of the neurons.
        """
        alike = [key for key, output in ran if output[max(0, len(output) - len(shape)) :] == shape]
        if len(alike) == 1:
            return alike[0]
        self._without_neurons.update(key for key in alike if key is not None)
        return None

    def emitted(self, key: RowKey, spikes: Tensor, lead: int, is_binary: bool) -> Tensor:
        """Nonzero outputs of the neurons behind a layer, on each core: ``(*lead, cores)``."""
        layer, events = self._layers[key], spikes.flatten(lead)
        if not (is_binary and spikes.dtype is torch.float32 and spikes.numel() < FLOAT32_INTEGERS):
            events = events != 0
        if layer.core_of is None:
            parts = [sum(events[..., a:b].sum(-1) for a, b in held) for held in layer.layout.ranges]
            return torch.stack([torch.as_tensor(part) for part in parts], -1).to(torch.float64)
        found = torch.zeros(
            *events.shape[:-1], len(layer.layout.ranges), dtype=torch.float64, device=events.device
        )
        return found.index_add_(-1, layer.core_of.to(events.device), events.to(torch.float64))

    def updated(self, key: RowKey, lead: Sequence[int]) -> Tensor:
        """Neurons behind a layer on each of its cores, for each output: ``(*lead, cores)``."""
        neurons = self._layers[key].loads.neurons
        return neurons.expand(*lead, -1)

    def totals(
        self, figures: Mapping[Place, list[VectorFigures]], batch: Batch
    ) -> tuple[dict[RowKey | str, CoreTotals], Distribution | None]:
        """Loads of a complete batch, and the time that its samples take, None if not known.

        Args:
            figures: What was read of its calls.
            batch: The batch, of known time steps.

        Raises:
            ValueError: If what lies on a core does not fit, or leading dimensions do not tell
                samples from steps.
        """
        self._require_fit()
        loads: dict[RowKey, Tensor | None] = {}
        has_neurons: dict[RowKey, bool] = {}
        for key, layer in self._layers.items():
            if layer.name in self._varied:
                loads[key], has_neurons[key] = None, False
            elif ("core_synops", key) in figures:
                loads[key], has_neurons[key] = self._loads(key, layer, figures, batch)
                if loads[key] is None:
                    self._untimed.add(layer.name)
        found: dict[RowKey | str, CoreTotals] = {}
        known = [values for values in loads.values() if values is not None]
        is_timed = len(known) == len(loads)
        if self._by_name:
            known = [self._on_named_cores(loads)] if is_timed else []
            labels = tuple(self.cores.mapping or {})
            nothing = torch.zeros(len(HELD), len(labels), dtype=torch.float64)  # layers hold it
            total = known[0] if known else None
            found[""] = CoreTotals.of(labels, total, nothing, all(has_neurons.values()))
        for key, values in loads.items():
            layer, neurons = self._layers[key], has_neurons[key]
            labels = tuple(map(str, layer.layout.labels))
            if self._by_name:  # what cores hold of it
                found[key] = CoreTotals(labels, True, neurons, held=layer.held)
            else:
                found[key] = CoreTotals.of(labels, values, layer.held, neurons)
        self._known_neurons |= {self._layers[key].name: has for key, has in has_neurons.items()}
        prices = self._prices
        is_known = all(has_neurons.values()) or prices.keys().isdisjoint(OF_NEURONS)
        seconds = self._seconds(known, batch) if prices and is_timed and is_known else None
        return found, seconds

    @property
    def has_times(self) -> bool:
        """Whether times of the cores were given."""
        return bool(self._prices)

    @property
    def _prices(self) -> dict[str, float]:
        """Seconds that a core takes for one of each load, of loads that take time."""
        prices = {
            "synops": self.cores.seconds_per_synop,
            "events_in": self.cores.seconds_per_event,
            "updates": self.cores.seconds_per_update,
        }
        return {load: price for load, price in prices.items() if price is not None}

    def notes(self) -> list[str]:
        """Notes on layers without figures of cores."""
        reasons = dict.fromkeys(self._untimed, "its calls are not one per time step")
        reasons |= dict.fromkeys(self._varied, "the size of its output varied")
        known = self._known_neurons.items()
        without = [name for name, has_neurons in known if not (has_neurons or name in reasons)]
        return [
            *(f"{name}: {reason}: no loads of its cores" for name, reason in reasons.items()),
            *(
                f"{name}: no neurons are known that take in its output alone: no events_out and no "
                "updates of its cores"
                for name in without
            ),
        ]

    def _require_fit(self) -> None:
        if not self._must_fit:
            return
        layers = {
            layer.name: (layer.layout, layer.loads.synapses) for layer in self._layers.values()
        }
        # Cores of different layers have the same labels unless they have names.
        together = [layers] if self._by_name else [{name: one} for name, one in layers.items()]
        for on_same_cores in together:
            require_fit(self.cores, on_same_cores)
        self._must_fit = False

    def _loads(
        self,
        key: RowKey,
        layer: _Layer,
        figures: Mapping[Place, list[VectorFigures]],
        batch: Batch,
    ) -> tuple[Tensor | None, bool]:
        """Loads of the cores of one layer, and whether its neurons are known.

        Loads are ``(figures, T, B, cores)``; None without known steps.
        """
        seen = [figures[f"core_{what}", key] for what in OF_INPUTS]
        series = [series_of(layer.name, vectors, batch) for vectors in seen]
        if not all(one.timed for one in series):
            return None, False
        values = [one.values for one in series]
        behind = [figures.get((f"core_{what}", key)) for what in OF_NEURONS]
        if key not in self._without_neurons and None not in behind:
            of_neurons = [series_of(layer.name, found or [], batch) for found in behind]
            if all(one.timed for one in of_neurons):
                return torch.stack([*values, *(one.values for one in of_neurons)]), True
        nothing = [torch.zeros_like(values[0])] * len(OF_NEURONS)
        return torch.stack([*values, *nothing]), False

    def _on_named_cores(self, loads: Mapping[RowKey, Tensor | None]) -> Tensor:
        """Loads of cores with a part of several layers: their sums, ``(figures, T, B, cores)``."""
        labels = list(self.cores.mapping or {})
        total = torch.zeros(len(FIGURES), 0, 1, len(labels), dtype=torch.float64)
        for number, (key, values) in enumerate(loads.items()):
            assert values is not None
            if not number:
                total = values.new_zeros(*values.shape[:3], len(labels))
            places = [labels.index(str(label)) for label in self._layers[key].layout.labels]
            total[..., places] += values
        return total

    def _seconds(self, known: Sequence[Tensor], batch: Batch) -> Distribution:
        """Time of each sample: at each step that of the slowest core, its largest term."""
        terms = [
            values[FIGURES.index(load)].amax(-1) * price
            for values in known
            for load, price in self._prices.items()
            if values.shape[1]
        ]
        if not terms:
            return Distribution.of_nothing(batch.samples)
        return Distribution.of(torch.stack(terms).amax(0), True)


def _core_of(layout: LayerLayout, device: torch.device) -> Tensor | None:
    """Core of each neuron, ``(neurons,)``; None where slices are few."""
    if sum(map(len, layout.ranges)) <= _FEW_RANGES:
        return None
    found = torch.empty(sum(layout.neurons), dtype=torch.int64, device="cpu")
    for core, held in enumerate(layout.ranges):
        for start, stop in held:
            found[start:stop] = core
    return found.to(device)
