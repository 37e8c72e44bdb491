"""Everything that a run counted, and how it adds up: over batches, ranks and shards.

On the host figures are Python numbers, exact beyond 2**53. On an accelerator they stay there as
tensors until :meth:`RunData.on_host`: reading them would make the host wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

import torch
from torch import Tensor

from snnmetrics.functional.activity import silent_neurons_compute
from snnmetrics.report.core_data import CoreTotals
from snnmetrics.report.curve import UNTIMED, Curve, added_steps
from snnmetrics.report.data import (
    KINDS,
    PRODUCT_KINDS,
    Counts,
    LayerData,
    NeuronData,
    NeuronKey,
    Operation,
    RowKey,
    StoppedCounts,
    Uncounted,
)
from snnmetrics.report.distribution import Distribution, added
from snnmetrics.report.row_names import row_names
from snnmetrics.tensors.accelerators.lines import PRODUCT_TOTALS, TOTALS

K = TypeVar("K")
T = TypeVar("T")

NO_MAP = "the input size varied: no map per neuron"
"""The note of a row whose map, if it has one, is not of all its calls."""
# Quantity ("synops" or "synops_per_second"), and of what: ("layer", key of the row),
# ("group", name) or ("total", "").
Key = tuple[str, str, RowKey | str]
# Of fields: what does not add up although it is a number, and what is not there on the host.
FACT, ON_DEVICE = "fact", "on device"
# Columns of the totals on an accelerator, and of those that are saved; see `columns_of`.
COLUMNS = TOTALS


def columns_of(operation: Operation) -> tuple[str, ...]:
    """Columns of the totals of an operation."""
    return PRODUCT_TOTALS if operation.weight_shape is None else COLUMNS


def kinds_of(operation: Operation) -> tuple[str, ...]:
    """Kinds that a call may have: of its input, or of both factors of a product."""
    return PRODUCT_KINDS if operation.weight_shape is None else KINDS


def exact(value: float) -> int | float:
    """The same number, as an integer if it is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _counts(figures: Mapping[str, Any]) -> Counts:
    numbers: dict[str, Any] = {name: exact(value) for name, value in figures.items()}
    return Counts(**numbers)


@dataclass
class RowTotals:
    """Totals of one operation, by the kind of each call.

    Attributes:
        operation: What is fixed about it.
        counts: Totals by kind, of calls on the host.
        totals: Totals of calls on an accelerator, a line per kind and a column per field.
        synops_per_neuron: Total per input neuron.
        notes: What a reader must know about this row.
        order: Smallest position of its first call among the distinct rows of a call of the model.
        names: Names that it had while its calls were recorded: declarations were looked up by them.
        varied: Whether calls differed in the shape of their input or output vectors.
        level: As in ``LayerData``.
        level_there: Levels that are on an accelerator, 0-dim, see ``tensors.levels.level_of``.
    """

    operation: Operation
    counts: dict[str, Counts] = field(default_factory=dict)
    totals: Annotated[Tensor | None, ON_DEVICE] = None
    synops_per_neuron: Tensor | None = None
    notes: frozenset[str] = frozenset()
    order: Annotated[int, FACT] = 0
    names: frozenset[str] = frozenset()
    varied: Annotated[bool, FACT] = False
    level: Annotated[float | None, FACT] = None
    level_there: Annotated[Tensor | None, ON_DEVICE] = None

    def record(self, kind: int, figures: Mapping[str, float | Tensor]) -> None:
        """Add calls of one kind, by its number, on the host."""
        values: dict[str, Any] = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in figures.items()
        }
        name = kinds_of(self.operation)[kind]
        self.counts[name] = self.counts.get(name, Counts()) + Counts(**values)

    def record_totals(self, totals: Tensor) -> None:
        """Add totals by kind, on an accelerator; lines beyond the kinds of the row are zero."""
        totals = totals[: len(kinds_of(self.operation))]
        self.totals = _either(self.totals, totals)

    def record_map(self, synops: Tensor) -> None:
        """Add the synops per input neuron of calls."""
        if self.synops_per_neuron is None:
            self.synops_per_neuron = synops
        elif self.synops_per_neuron.shape == synops.shape:
            self.synops_per_neuron = added(self.synops_per_neuron, synops)
        else:
            self.notes |= {NO_MAP}

    def record_level(self, level: float | Tensor) -> None:
        """Add what ``level_of`` found in inputs; a tensor where it lies on an accelerator."""
        if isinstance(level, Tensor):
            self.level_there = _highest(self.level_there, level)
        elif level:
            self.level = _common_level(self.level, 0.0 if math.isinf(level) else level)

    def was_called_with(self, kind: str) -> bool:
        """Whether a call had this kind."""
        if kind in self.counts and self.counts[kind].calls:
            return True
        line = kinds_of(self.operation).index(kind)
        return self.totals is not None and bool(self.totals[line, COLUMNS.index("calls")] > 0)

    def add(self, other: RowTotals) -> RowTotals:
        """The sum of both."""
        maps, notes = (self.synops_per_neuron, other.synops_per_neuron), self.notes | other.notes
        both = None
        if maps[0] is not None and maps[1] is not None:
            if maps[0].shape == maps[1].shape:
                both = added(*maps)
            else:
                notes |= {NO_MAP}
        return RowTotals(
            self.operation,
            _union(self.counts, other.counts, Counts.__add__),
            _either(self.totals, other.totals),
            both,
            notes,
            min(self.order, other.order),
            self.names | other.names,
            self.varied or other.varied or self.differs_from(other.operation),
            _common_level(self.level, other.level),
            _highest(self.level_there, other.level_there),
        )

    def differs_from(self, operation: Operation) -> bool:
        """Whether vectors of another call had another shape."""
        shapes, others = (
            (facts.input_shape, facts.output_shape) for facts in (self.operation, operation)
        )
        return shapes != others

    def on_host(self) -> RowTotals:
        """The same with all figures on the host."""
        map_ = self.synops_per_neuron
        row = replace(
            self,
            totals=None,
            level_there=None,
            synops_per_neuron=None if map_ is None else map_.cpu(),
        )
        if self.level_there is not None:
            row.record_level(self.level_there.item())
        if self.totals is not None:
            row.counts = _union(row.counts, self.counts_of(self.totals), Counts.__add__)
        return row

    def counts_of(self, totals: Tensor) -> dict[str, Counts]:
        """Lines of totals as counts by kind; those of no call are left out."""
        lines = zip(kinds_of(self.operation), totals.tolist(), strict=True)
        return {kind: self._of_line(line) for kind, line in lines if any(line)}

    def _of_line(self, line: list[float]) -> Counts:
        figures = dict(zip(columns_of(self.operation), line, strict=True))
        if self.operation.weight_shape is None:  # never weighted by value
            figures["effective_magnitude"] = figures["effective_synops"]
        return _counts(figures)

    def totals_of(self) -> Tensor:
        """Counts as totals."""
        zeros = Counts()
        lines = [self.counts.get(kind, zeros) for kind in kinds_of(self.operation)]
        columns = columns_of(self.operation)
        numbers = [[getattr(line, column) for column in columns] for line in lines]
        return torch.tensor(numbers, dtype=torch.float64)

    def to_data(
        self,
        key: RowKey,
        declared_kind: str | None,
        input_scale: float | None,
        scale_by: str | None,
    ) -> LayerData:
        """Plain numbers, integers where they are."""
        counts = {
            kind: _counts(vars(self.counts[kind]))
            for kind in kinds_of(self.operation)
            if kind in self.counts and self.counts[kind].calls > 0
        }
        return LayerData(
            self.operation,
            counts,
            declared_kind,
            input_scale,
            None if NO_MAP in self.notes else self.synops_per_neuron,
            tuple(sorted(self.notes)),
            key=key,
            order=self.order,
            varied=self.varied,
            scale_by=scale_by,
            level=self.level,
        )


@dataclass
class NeuronTotals:
    """Outputs of one layer of spiking neurons: the fields of ``NeuronData``, as they add up.

    ``spikes``, ``silent`` and ``saturated`` are ``None`` where the map tells them.
    """

    type: str
    neurons: Annotated[int, FACT]
    elements: int
    events: float | Tensor
    spikes: float | None = None
    silent: int | None = None
    saturated: int | None = None
    spikes_per_neuron: Tensor | None = None
    additions: int | None = None
    multiplications: int | None = None

    def add(self, other: NeuronTotals) -> NeuronTotals:
        """The sum of both."""
        if not self.elements or not other.elements:
            return self if self.elements else other
        maps, both = (self.spikes_per_neuron, other.spikes_per_neuron), None
        if maps[0] is not None and maps[1] is not None and maps[0].shape == maps[1].shape:
            both = added(*maps)
        return NeuronTotals(
            self.type,
            self.neurons,
            self.elements + other.elements,
            added(self.events, other.events),
            _known_sum(self.spikes, other.spikes),
            self._silent_in_both(other) if both is None else None,
            _alike(self.saturated, other.saturated, self.neurons) if both is None else None,
            both,
            _known_sum(self.additions, other.additions),
            _known_sum(self.multiplications, other.multiplications),
        )

    def _silent_in_both(self, other: NeuronTotals) -> int | None:
        """Neurons that are silent in both; none, if in one of them none is."""
        if 0 in (self.silent, other.silent):
            return 0
        return _alike(self.silent, other.silent, self.neurons)

    def on_host(self) -> NeuronTotals:
        """The same with all figures on the host."""
        map_, events = self.spikes_per_neuron, self.events
        return replace(
            self,
            events=events.cpu() if isinstance(events, Tensor) else events,
            spikes_per_neuron=None if map_ is None else map_.cpu(),
        )

    def to_data(
        self, key: NeuronKey | None, per_neuron: bool = True, *, curves: Mapping[str, Curve]
    ) -> NeuronData:
        """Plain numbers, with the map if it is to be kept, and figures of time steps."""
        map_, silent, saturated = self.spikes_per_neuron, self.silent, self.saturated
        if map_ is not None and silent is None:
            steps = torch.tensor(self.elements / max(1, self.neurons), dtype=torch.float64)
            found = silent_neurons_compute(map_, steps, saturation=1.0, per_neuron=True)
            silent, saturated = int(found["silent"].sum()), int(found["saturated"].sum())
        spikes = self.spikes
        if spikes is None:
            spikes = 0 if map_ is None else exact(map_.sum().item())
        values = vars(self) | {"spikes": spikes, "silent": silent, "saturated": saturated}
        return NeuronData(
            **values
            | {"events": int(self.events), "spikes_per_neuron": map_ if per_neuron else None},
            curves=curves,
            key=key,
        )


@dataclass
class StoppedTotals:
    """Totals of a row until each sample stopped: the fields of ``StoppedCounts``."""

    synops: float | Tensor = 0.0
    effective_synops: float | Tensor = 0.0
    effective_magnitude: float | Tensor = 0.0

    def add(self, other: StoppedTotals) -> StoppedTotals:
        """The sum of both."""
        return StoppedTotals(
            added(self.synops, other.synops),
            added(self.effective_synops, other.effective_synops),
            added(self.effective_magnitude, other.effective_magnitude),
        )

    def on_host(self) -> StoppedTotals:
        """The same as plain numbers."""
        return StoppedTotals(*(float(value) for value in vars(self).values()))

    def to_data(self) -> StoppedCounts:
        """Plain numbers, integers where they are."""
        return StoppedCounts(**{name: exact(float(value)) for name, value in vars(self).items()})


@dataclass
class RunData:
    """Everything that was counted.

    Attributes:
        samples: Samples seen.
        calls: Calls of the model.
        steps: Time steps, summed over samples.
        untimed: Samples of which the steps are not known.
        seconds: Duration, summed over samples.
        undated: Samples of which the duration is not known.
        rows: Totals of each operation.
        neurons: Totals of each layer of spiking neurons.
        distributions: Figures of each sample. Missing key: every sample has zero. Value ``None``:
            not known.
        curves: Figures of each time step. Missing key: every sample has zero at each.
        neuron_curves: Spikes of each layer of neurons at each time step, likewise.
        step_samples: Samples that have each time step, ``(T,)``, float64; ``None`` if figures of
            time steps are not kept, or no sample was seen.
        until: Totals of the samples that were said to stop, until they did.
        until_samples: Number of these samples.
        until_steps: The time steps at which they stopped, summed over samples.
        until_unknown: Names of rows whose operations belong to no single time step.
        core_seconds_unknown: Batches of which it is not known how long samples take on the cores.
        cores: Loads of the cores that a row lies on; of a mapping by channels, of all, under "".
        uncounted: What may cause operations and was not counted, by name and what it is.
        called: Modules that were called.
        contracted: Parameters and buffers that took part in an operation.
        touched: Parameters that a function took which contracts nothing.
        expanded: Parameters that were multiplied into a larger output than the activation.
        notes: What a reader must know about the model.
    """

    samples: int = 0
    calls: int = 0
    steps: int = 0
    untimed: int = 0
    seconds: float = 0.0
    undated: int = 0
    rows: dict[RowKey, RowTotals] = field(default_factory=dict)
    neurons: dict[NeuronKey, NeuronTotals] = field(default_factory=dict)
    distributions: dict[Key, Distribution | None] = field(default_factory=dict)
    curves: dict[Key, Curve] = field(default_factory=dict)
    neuron_curves: dict[NeuronKey, Curve] = field(default_factory=dict)
    step_samples: Tensor | None = None
    until: dict[RowKey, StoppedTotals] = field(default_factory=dict)
    until_samples: int = 0
    until_steps: int = 0
    until_unknown: frozenset[str] = frozenset()
    core_seconds_unknown: int = 0
    cores: dict[RowKey | str, CoreTotals] = field(default_factory=dict)
    uncounted: dict[tuple[str, str], Uncounted] = field(default_factory=dict)
    called: frozenset[str] = frozenset()
    contracted: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    expanded: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()

    def add(self, other: RunData) -> RunData:
        """The sum of both; rows and neurons by key."""
        return RunData(
            self.samples + other.samples,
            self.calls + other.calls,
            self.steps + other.steps,
            self.untimed + other.untimed,
            self.seconds + other.seconds,
            self.undated + other.undated,
            _union(self.rows, other.rows, RowTotals.add),
            _union(self.neurons, other.neurons, NeuronTotals.add),
            {
                key: _known_both(self._distribution(key, other), other._distribution(key, self))
                for key in {**self.distributions, **other.distributions}
            },
            _curves_of_both(self, other, self.curves, other.curves),
            _curves_of_both(self, other, self.neuron_curves, other.neuron_curves),
            _steps_of_both(self.step_samples, other.step_samples),
            _union(self.until, other.until, StoppedTotals.add),
            self.until_samples + other.until_samples,
            self.until_steps + other.until_steps,
            self.until_unknown | other.until_unknown,
            self.core_seconds_unknown + other.core_seconds_unknown,
            _union(self.cores, other.cores, CoreTotals.add),
            _union(self.uncounted, other.uncounted, Uncounted.add),
            self.called | other.called,
            self.contracted | other.contracted,
            self.touched | other.touched,
            self.expanded | other.expanded,
            self.notes | other.notes,
        )

    def orders(self) -> dict[RowKey, int]:
        """The order of each row, which their names follow."""
        return {key: row.order for key, row in self.rows.items()}

    def names(self) -> dict[RowKey, str]:
        """Names of the rows, in the order in which reports list them."""
        return row_names(self.orders())

    def _distribution(self, key: Key, other: RunData) -> Distribution | None:
        """Return the known distribution, or that of no sample for a run without samples."""
        nothing = Distribution.of_nothing(self.samples)
        found = self.distributions.get(key, nothing)
        return nothing if found is None and not self.samples and other.samples else found

    def on_host(self) -> RunData:
        """The same with all figures on the host, to be read or to travel between processes."""
        return replace(
            self,
            rows={key: row.on_host() for key, row in self.rows.items()},
            neurons={key: layer.on_host() for key, layer in self.neurons.items()},
            distributions={
                key: None if found is None else found.on_host()
                for key, found in self.distributions.items()
            },
            curves={key: curve.on_host() for key, curve in self.curves.items()},
            neuron_curves={key: curve.on_host() for key, curve in self.neuron_curves.items()},
            step_samples=None if self.step_samples is None else self.step_samples.cpu(),
            until={key: totals.on_host() for key, totals in self.until.items()},
            cores={key: totals.on_host() for key, totals in self.cores.items()},
        )

    def steps_per_sample(self) -> float | None:
        """Time steps of a sample, if they are known of every one."""
        if not self.samples or self.untimed:
            return None
        whole, rest = divmod(self.steps, self.samples)
        return self.steps / self.samples if rest else whole

    def all_seconds(self, dt: float | None) -> float | None:
        """Duration of all samples, if it is known of every one."""
        if not self.samples or self.undated:
            return None
        # Steps are integers: the same sum, however the data is cut into batches and ranks.
        return self.seconds if dt is None or self.untimed else self.steps * dt


def require_same_layers(one: RunData, other: RunData) -> None:
    """Refuse counts of two models of one class, whose layers have other shapes.

    A layer that was replaced while its counts went on has several shapes in one run.

    Raises:
        ValueError: If a layer has no weight shape in common.
    """
    mine, theirs = _layer_shapes(one), _layer_shapes(other)
    for name in mine.keys() & theirs.keys():
        if mine[name].isdisjoint(theirs[name]):
            raise ValueError(
                f"{name}: expected the same weight_shape in everything that is added up, as on all "
                f"ranks, found {min(mine[name])} and {min(theirs[name])}"
            )


def _layer_shapes(run: RunData) -> dict[str, set[tuple[int, ...]]]:
    found: dict[str, set[tuple[int, ...]]] = {}
    for key, row in run.rows.items():
        if key.own and row.operation.weight_shape is not None:
            found.setdefault(key.module, set()).add(row.operation.weight_shape)
    return found


def _union(mine: Mapping[K, T], theirs: Mapping[K, T], add: Callable[[T, T], T]) -> dict[K, T]:
    found = dict(mine)
    for key, value in theirs.items():
        found[key] = add(found[key], value) if key in found else value
    return found


def _common_level(one: float | None, other: float | None) -> float | None:
    """The level of inputs of two rows: zero where one of them held more values."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other) if one and other else 0.0


def _highest(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The larger of two numbers on accelerators, which may be different ones."""
    if one is None or other is None:
        return other if one is None else one
    return torch.maximum(one, other.to(one.device))


def _either(mine: Any, theirs: Any) -> Any:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return added(mine, theirs)


def _curves_of_both(
    one: RunData, other: RunData, mine: Mapping[K, Curve], theirs: Mapping[K, Curve]
) -> dict[K, Curve]:
    """Curves of the samples of both; one that is in one run alone has nothing in the other."""
    found = {}
    for key in {**mine, **theirs}:
        curves = mine.get(key, _nothing(one)), theirs.get(key, _nothing(other))
        found[key] = curves[0].add(curves[1])
    return found


def _nothing(run: RunData) -> Curve:
    if run.step_samples is None:
        return UNTIMED if run.samples else Curve.of_nothing(torch.zeros(0, dtype=torch.float64))
    return Curve.of_nothing(run.step_samples)


def _steps_of_both(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return added_steps(mine, theirs)


def _known_both(mine: Distribution | None, theirs: Distribution | None) -> Distribution | None:
    return None if mine is None or theirs is None else mine.add(theirs)


def _known_sum(mine: Any, theirs: Any) -> Any:
    return None if mine is None or theirs is None else mine + theirs


def _alike(mine: int | None, theirs: int | None, neurons: int) -> int | None:
    """Return a number that is 0 or all neurons in both; otherwise None: it takes a map."""
    return mine if mine == theirs and mine in (0, neurons) else None
