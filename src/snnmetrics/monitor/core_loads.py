"""Loads of cores, from the inputs of their layers and the outputs of their neurons.

The loads of each call are kept with the figures of input vectors, and attributed to samples and
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

_FEW_RANGES = 64  # maximum number of slices to sum one by one

Ran = tuple[RowKey | None, tuple[int, ...]]
"""Key of a layer that ran (None if it is not placed on cores), and the shape of its output."""


class _Layer(NamedTuple):
    """A layer placed on cores.

    Attributes:
        name: Name of its row.
        layout: Placement of its neurons.
        loads: Loads of its cores, with the current weight.
        held: Maximum contents of each core so far, ``(held, cores)``.
        core_of: Core of each neuron; None if the placement consists of few slices.
    """

    name: str
    layout: LayerLayout
    loads: CoreLoads
    held: Tensor
    core_of: Tensor | None


class LaidOut:
    """The layers of a model, placed on cores.

    Args:
        cores: Rules of the placement.
    """

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self._layers: dict[RowKey, _Layer] = {}
        self._varied: set[str] = set()  # rows with outputs of several shapes
        self._without_neurons: set[RowKey] = set()  # layers whose following neurons are ambiguous
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
        """Place a layer on cores and return the loads of its cores; None if it is not on cores.

        Args:
            key: Key of its row.
            name: Name of the row.
            spec: The operation.
            mask: Nonzero weights; None if all weights are nonzero.
            copies: Padding of the input by copies of itself, as in :class:`CoreLoads`; None without
                such padding.
            device: Device of the input.

        Raises:
            ValueError: If the layer does not fit on the cores.
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
        """Return the layer whose output some neurons read; None if there is not exactly one.

        Args:
            ran: Layers that ran since the last neurons.
            shape: Shape of the neurons. The output of the layer must end with it.
        """
        matching = [
            key for key, output in ran if output[max(0, len(output) - len(shape)) :] == shape
        ]
        if len(matching) == 1:
            return matching[0]
        self._without_neurons.update(key for key in matching if key is not None)
        return None

    def emitted(self, key: RowKey, spikes: Tensor, lead: int, is_binary: bool) -> Tensor:
        """Count the nonzero outputs of a layer's neurons on each core, ``(*lead, cores)``."""
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
        """Return the number of a layer's neurons on each core, ``(*lead, cores)``.

        Every output vector updates each neuron once.
        """
        neurons = self._layers[key].loads.neurons
        return neurons.expand(*lead, -1)

    def totals(
        self, figures: Mapping[Place, list[VectorFigures]], batch: Batch
    ) -> tuple[dict[RowKey | str, CoreTotals], Distribution | None]:
        """Compute the loads of a complete batch, and the time of its samples (None if unknown).

        Args:
            figures: Figures of the calls of the batch.
            batch: The batch; its time steps are known.

        Raises:
            ValueError: If the contents of a core exceed its limits, or samples and steps cannot be
                distinguished by the leading dimensions.
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
            # The contents of the cores are in the totals of the layers.
            nothing = torch.zeros(len(HELD), len(labels), dtype=torch.float64)
            total = known[0] if known else None
            found[""] = CoreTotals.of(labels, total, nothing, all(has_neurons.values()))
        for key, values in loads.items():
            layer, neurons = self._layers[key], has_neurons[key]
            labels = tuple(map(str, layer.layout.labels))
            if self._by_name:  # only the contents that belong to this layer
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
        """Whether the timings of the cores were given."""
        return bool(self._prices)

    @property
    def _prices(self) -> dict[str, float]:
        """Seconds per unit of each load, for loads with a given timing."""
        prices = {
            "synops": self.cores.seconds_per_synop,
            "events_in": self.cores.seconds_per_event,
            "updates": self.cores.seconds_per_update,
        }
        return {load: price for load, price in prices.items() if price is not None}

    def notes(self) -> list[str]:
        """Return notes on layers with missing core loads."""
        reasons = dict.fromkeys(self._untimed, "it was not called once per time step")
        reasons |= dict.fromkeys(self._varied, "the size of its output varied")
        known = self._known_neurons.items()
        without = [name for name, has_neurons in known if not (has_neurons or name in reasons)]
        return [
            *(f"{name}: no core loads, because {reason}" for name, reason in reasons.items()),
            *(
                f"{name}: no core events_out and updates, because no neurons were found that read "
                "only its output"
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
        """Return the loads of the cores of one layer, and whether its neurons are known.

        Loads are ``(figures, T, B, cores)``; None if time steps are unknown.
        """
        of_inputs = [figures[f"core_{what}", key] for what in OF_INPUTS]
        series = [series_of(layer.name, vectors, batch) for vectors in of_inputs]
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
        """Add the loads of all layers on cores that layers share, ``(figures, T, B, cores)``."""
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
        """Return the time of each sample.

        The time of a step is that of the slowest core. The time of a core is its largest term.
        """
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
    """Return the core of each neuron, ``(neurons,)``; None if there are few slices."""
    if sum(map(len, layout.ranges)) <= _FEW_RANGES:
        return None
    found = torch.empty(sum(layout.neurons), dtype=torch.int64, device="cpu")
    for core, held in enumerate(layout.ranges):
        for start, stop in held:
            found[start:stop] = core
    return found.to(device)
