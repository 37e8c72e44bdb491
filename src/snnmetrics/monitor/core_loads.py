"""Loads of cores, from what the layers that lie on them take in and what their neurons emit.

What is read of each call is kept with the figures of input vectors, and attributed to samples and
time steps in the same way. When the batch is complete, the loads of all layers of a core are added.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class _Layer(NamedTuple):
    """A layer on its cores: name of its row, where its neurons lie, what the cores hold."""

    name: str
    layout: LayerLayout
    loads: CoreLoads


class LaidOut:
    """The layers of a model on cores.

    Args:
        cores: How they are laid on cores.
    """

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self._layers: dict[RowKey, _Layer] = {}
        self._varied: set[str] = set()  # rows whose output has several shapes
        self._must_fit = False
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
        self._layers[key] = _Layer(name, layout, loads)
        self._must_fit = True
        return loads

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

    def totals(
        self, figures: Mapping[Place, list[VectorFigures]], batch: Batch
    ) -> tuple[dict[RowKey | str, CoreTotals], Distribution | None]:
        """Loads of a complete batch, and the time that its samples take.

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
            seen = figures.get(("core_synops", key))
            if seen is not None:
                loads[key], has_neurons[key] = self._loads(key, layer, figures, batch)
        found: dict[RowKey | str, CoreTotals] = {}
        if self._by_name:
            found[""] = self._on_named_cores(loads, has_neurons)
        else:
            for key, values in loads.items():
                layer = self._layers[key]
                labels, held = tuple(map(str, layer.layout.labels)), _held(layer.loads)
                found[key] = CoreTotals.of(labels, (), values, held, has_neurons[key])
        return found, self._seconds(loads, has_neurons, batch)

    def notes(self) -> list[str]:
        """What a reader must know of layers without figures of cores."""
        return [f"{name}: the output size varied: no figures of cores" for name in self._varied]

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
        behind = figures.get(("core_events_out", key), [])
        if len(behind) == len(seen[0]):
            emitted = series_of(layer.name, behind, batch)
            if emitted.timed:
                neurons = layer.loads.neurons.to(values[0].device)
                return torch.stack([*values, emitted.values, neurons.expand_as(values[0])]), True
        nothing = [torch.zeros_like(values[0])] * len(OF_NEURONS)
        return torch.stack([*values, *nothing]), False

    def _on_named_cores(
        self, loads: Mapping[RowKey, Tensor | None], has_neurons: Mapping[RowKey, bool]
    ) -> CoreTotals:
        """Loads of cores with a part of several layers: their sums."""
        labels = tuple(self.cores.mapping or {})
        layers: list[list[str]] = [[] for _ in labels]
        first = next(iter(self._layers.values())).loads.neurons
        held = torch.zeros(4, len(labels), dtype=torch.float64, device=first.device)
        for layer in self._layers.values():
            places = [labels.index(str(label)) for label in layer.layout.labels]
            for place in places:
                layers[place].append(layer.name)
            held[:, places] += _held(layer.loads).to(held.device)
        is_known = loads and all(values is not None for values in loads.values())
        total = self._named_loads(loads) if is_known else None
        neurons = all(has_neurons.values())
        return CoreTotals.of(labels, tuple(map(tuple, layers)), total, held, neurons)

    def _seconds(
        self,
        loads: Mapping[RowKey, Tensor | None],
        has_neurons: Mapping[RowKey, bool],
        batch: Batch,
    ) -> Distribution | None:
        """Time of each sample: at each step that of the slowest core, its largest term."""
        cores = self.cores
        prices = (cores.seconds_per_synop, cores.seconds_per_event, cores.seconds_per_update)
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


def _held(loads: CoreLoads) -> Tensor:
    return torch.stack([loads.neurons, loads.synapses, loads.weights, loads.axons])
