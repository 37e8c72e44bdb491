"""Loads of cores, from what the layers that lie on them take in and what their neurons emit.

What is read of each call is kept with the figures of input vectors, and attributed to samples and
time steps in the same way. When the batch is complete, the loads of all layers of a core are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.cores.layout import Cores, LayerLayout, lay_out, mapped_layers, require_fit
from snnmetrics.cores.loads import Copies, CoreLoads, neuron_shape, neuron_synapses
from snnmetrics.monitor.per_sample import Batch, VectorFigures, series_of
from snnmetrics.monitor.vectors import Place
from snnmetrics.ops.spec import OpSpec
from snnmetrics.report.core_data import FIGURES, OF_NEURONS, CoreTotals
from snnmetrics.report.data import RowKey
from snnmetrics.report.distribution import Distribution
from snnmetrics.tensors.tiles import FLOAT32_INTEGERS

_FEW_CORES = 64  # up to which slices are summed one by one


Ran = tuple[RowKey | None, tuple[int, ...]]
"""A layer that ran, None if it is not laid on cores, and the shape of its output."""


class _Layer(NamedTuple):
    """A layer on its cores.

    Attributes:
        name: Name of its row.
        layout: Where its neurons lie.
        loads: Loads of its cores, with the weight as it is.
        held: Neurons, synapses, weights and axons of each core, the most so far.
    """

    name: str
    layout: LayerLayout
    loads: CoreLoads
    held: Tensor


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
        owned = mapped_layers(cores) is not None
        self._by_name = owned and isinstance(next(iter((cores.mapping or {}).values())), Mapping)

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
        layout = None if known is None else known.layout
        if layout is None:
            limited = self.cores.synapses_per_core is not None and self.cores.mapping is None
            synapses = neuron_synapses(spec, mask, copies=copies) if limited else None
            layout = lay_out(self.cores, name, shape, synapses)
            if layout is None:
                return None
        loads = CoreLoads(spec, layout, mask, copies=copies, device=device)
        held = torch.stack([loads.neurons, loads.synapses, loads.weights, loads.axons])
        if known is not None:
            held = torch.maximum(known.held.to(held.device), held)
        self._layers[key] = _Layer(name, layout, loads, held)
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
        ranges = self._layers[key].layout.ranges
        events = spikes.flatten(lead)
        if not (is_binary and spikes.dtype is torch.float32 and spikes.numel() < FLOAT32_INTEGERS):
            events = events != 0
        if len(ranges) <= _FEW_CORES:
            parts = [sum(events[..., a:b].sum(-1) for a, b in held) for held in ranges]
            return torch.stack([torch.as_tensor(part) for part in parts], -1).to(torch.float64)
        core_of = torch.empty(events.shape[-1], dtype=torch.int64)
        for core, held in enumerate(ranges):
            for start, stop in held:
                core_of[start:stop] = core
        found = torch.zeros(*events.shape[:-1], len(ranges), dtype=torch.float64)
        found = found.to(events.device)
        return found.index_add_(-1, core_of.to(events.device), events.to(torch.float64))

    def shape_of(self, key: RowKey) -> tuple[int, ...] | None:
        """Shape of the output neurons of a layer, if it lies on cores."""
        layer = self._layers.get(key)
        return None if layer is None else layer.layout.shape

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
        if self._by_name:
            found[""] = self._on_named_cores(loads, has_neurons)
        for key, values in loads.items():
            layer, neurons = self._layers[key], has_neurons[key]
            labels = tuple(map(str, layer.layout.labels))
            if self._by_name:  # what cores hold of it
                found[key] = CoreTotals(labels, True, neurons, held=layer.held)
            else:
                found[key] = CoreTotals.of(labels, values, layer.held, neurons)
        self._known_neurons |= {self._layers[key].name: known for key, known in has_neurons.items()}
        return found, self._seconds(loads, has_neurons, batch)

    @property
    def has_times(self) -> bool:
        """Whether times of the cores were given."""
        return any(self._prices)

    @property
    def _prices(self) -> tuple[float | None, ...]:
        cores = self.cores
        return cores.seconds_per_synop, cores.seconds_per_event, cores.seconds_per_update

    def notes(self, has_neurons: Mapping[str, bool]) -> list[str]:
        """Notes on layers without figures of cores.

        Args:
            has_neurons: Whether the neurons behind a layer are known, by name.
        """
        reasons = dict.fromkeys(self._untimed, "its calls are not one per time step")
        reasons |= dict.fromkeys(self._varied, "the size of its output varied")
        without = [name for name, known in has_neurons.items() if not (known or name in reasons)]
        return [
            *(f"{name}: {reason}: no loads of its cores" for name, reason in reasons.items()),
            *(
                f"{name}: no neurons are known that take in its output alone: no events_out and no "
                "updates of its cores"
                for name in without
            ),
        ]

    @property
    def known_neurons(self) -> dict[str, bool]:
        """Whether the neurons behind each layer are known, by name, in the last batch."""
        return dict(self._known_neurons)

    def _require_fit(self) -> None:
        if not self._must_fit:
            return
        layers = {
            layer.name: (layer.layout, layer.loads.synapses) for layer in self._layers.values()
        }
        if not self._by_name:  # cores of several layers have the same numbers
            for name, layer_ in layers.items():
                require_fit(self.cores, {name: layer_})
        else:
            require_fit(self.cores, layers)
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
        seen = [figures[f"core_{what}", key] for what in FIGURES[: -len(OF_NEURONS)]]
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

    def _on_named_cores(
        self, loads: Mapping[RowKey, Tensor | None], has_neurons: Mapping[RowKey, bool]
    ) -> CoreTotals:
        """Loads of cores with a part of several layers: their sums."""
        labels = tuple(self.cores.mapping or {})
        held = torch.zeros(4, len(labels), dtype=torch.float64)  # each layer has its own
        is_known = loads and all(values is not None for values in loads.values())
        total = self._named_loads(loads) if is_known else None
        if not loads:
            total = torch.zeros(len(FIGURES), 0, 1, len(labels), dtype=torch.float64)
        return CoreTotals.of(labels, total, held, all(has_neurons.values()))

    def _seconds(
        self,
        loads: Mapping[RowKey, Tensor | None],
        has_neurons: Mapping[RowKey, bool],
        batch: Batch,
    ) -> Distribution | None:
        """Time of each sample: at each step that of the slowest core, its largest term."""
        prices = self._prices
        if not any(prices):
            return None
        if any(values is None for values in loads.values()) or (
            prices[2] and not all(has_neurons.values())
        ):
            return None
        known = [values for values in loads.values() if values is not None]
        if not known:
            return Distribution.of_nothing(batch.samples)
        if self._by_name:
            known = [self._named_loads(loads)]
        slowest = None
        for values in known:
            for price, what in zip(prices, ("synops", "events_in", "updates"), strict=True):
                if price:
                    most = values[FIGURES.index(what)].amax(-1) * price
                    slowest = most if slowest is None else torch.maximum(slowest, most)
        assert slowest is not None
        return Distribution.of(slowest, True)

    def _named_loads(self, loads: Mapping[RowKey, Tensor | None]) -> Tensor:
        labels = tuple(self.cores.mapping or {})
        known = {key: values for key, values in loads.items() if values is not None}
        first = next(iter(known.values()))
        total = first.new_zeros(*first.shape[:3], len(labels))
        for key, values in known.items():
            places = [labels.index(str(label)) for label in self._layers[key].layout.labels]
            total[..., places] += values
        return total
