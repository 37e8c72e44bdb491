"""All counts of a run, and their addition over batches, ranks and shards.

On the host, figures are Python numbers, exact beyond 2**53. On an accelerator they are tensors
until :meth:`RunData.on_host`, since reading them would make the host wait.
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
"""Note of a row whose map does not cover all its calls."""
# Quantity ("synops" or "synops_per_second"), and scope: ("layer", key of the row), ("group", name)
# or ("total", "").
Key = tuple[str, str, RowKey | str]
# Marks of fields: numbers that do not add up, and fields that are absent on the host.
FACT, ON_DEVICE = "fact", "on device"
# Columns of totals on an accelerator and of saved totals; see `columns_of`.
COLUMNS = TOTALS


def columns_of(operation: Operation) -> tuple[str, ...]:
    """Columns of the totals of an operation."""
    return PRODUCT_TOTALS if operation.weight_shape is None else COLUMNS


def kinds_of(operation: Operation) -> tuple[str, ...]:
    """Possible kinds of a call: of its input, or of both factors of a product."""
    return PRODUCT_KINDS if operation.weight_shape is None else KINDS


def exact(value: float) -> int | float:
    """Convert integral floats to int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _counts(figures: Mapping[str, Any]) -> Counts:
    numbers: dict[str, Any] = {name: exact(value) for name, value in figures.items()}
    return Counts(**numbers)


@dataclass
class RowTotals:
    """Totals of one operation, by the kind of each call.

    Attributes:
        operation: Static facts.
        counts: Totals by kind, for calls on the host.
        totals: Totals for calls on an accelerator, a line per kind and a column per field.
        synops_per_neuron: Total per input neuron.
        notes: Remarks for the reader.
        order: Smallest position of its first call among the distinct rows of a model call.
        names: Names while its calls were recorded, used to look up declarations.
        varied: Whether calls differed in the shape of their input or output vectors.
        level: As in ``LayerData``.
        level_there: Levels on an accelerator, 0-dim, see ``tensors.levels.level_of``.
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
        """Add calls of one kind, given by its index, on the host."""
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
        """Add synops per input neuron."""
        if self.synops_per_neuron is None:
            self.synops_per_neuron = synops
        elif self.synops_per_neuron.shape == synops.shape:
            self.synops_per_neuron = added(self.synops_per_neuron, synops)
        else:
            self.notes |= {NO_MAP}

    def record_level(self, level: float | Tensor) -> None:
        """Add a result of ``level_of``; a tensor if it is on an accelerator."""
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
        """Whether another call has other vector shapes."""
        shapes, others = (
            (facts.input_shape, facts.output_shape) for facts in (self.operation, operation)
        )
        return shapes != others

    def on_host(self) -> RowTotals:
        """The same totals with all figures on the host."""
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
        """Convert lines of totals to counts by kind, without lines of zeros."""
        lines = zip(kinds_of(self.operation), totals.tolist(), strict=True)
        return {kind: self._of_line(line) for kind, line in lines if any(line)}

    def _of_line(self, line: list[float]) -> Counts:
        figures = dict(zip(columns_of(self.operation), line, strict=True))
        if self.operation.weight_shape is None:  # never weighted by value
            figures["effective_magnitude"] = figures["effective_synops"]
        return _counts(figures)

    def totals_of(self) -> Tensor:
        """Convert counts to totals."""
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
        """Convert to plain numbers, integers where they are integral."""
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
    """Outputs of one layer of spiking neurons: the fields of ``NeuronData`` in a form that adds up.

    ``spikes``, ``silent`` and ``saturated`` are ``None`` where the map determines them.
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
        """Neurons silent in both; 0 if one run has 0 silent neurons."""
        if 0 in (self.silent, other.silent):
            return 0
        return _alike(self.silent, other.silent, self.neurons)

    def on_host(self) -> NeuronTotals:
        """The same totals with all figures on the host."""
        map_, events = self.spikes_per_neuron, self.events
        return replace(
            self,
            events=events.cpu() if isinstance(events, Tensor) else events,
            spikes_per_neuron=None if map_ is None else map_.cpu(),
        )

    def to_data(
        self, key: NeuronKey | None, per_neuron: bool = True, *, curves: Mapping[str, Curve]
    ) -> NeuronData:
        """Convert to plain numbers and curves; keep the map if ``per_neuron``."""
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
    """Totals of a row until each sample stopped: fields of ``StoppedCounts``."""

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
        """The same totals as plain numbers."""
        return StoppedTotals(*(float(value) for value in vars(self).values()))

    def to_data(self) -> StoppedCounts:
        """Convert to plain numbers, integers where they are integral."""
        return StoppedCounts(**{name: exact(float(value)) for name, value in vars(self).items()})


@dataclass
class RunData:
    """All counts of a run.

    Attributes:
        samples: Samples seen.
        calls: Calls of the model.
        steps: Time steps, summed over samples.
        untimed: Samples whose steps are unknown.
        seconds: Duration, summed over samples.
        undated: Samples whose duration is unknown.
        rows: Totals of each operation.
        neurons: Totals of each layer of spiking neurons.
        distributions: Figures of each sample. Missing key: zero for every sample. Value ``None``:
            unknown.
        curves: Figures per time step. Missing key: zero for every sample at each step.
        neuron_curves: Spikes of each layer of neurons at each time step, likewise.
        step_samples: Number of samples that have each time step, ``(T,)``, float64; ``None`` if
            figures per time step are not kept, or without samples.
        until: Totals of the samples with a stopping step, up to that step.
        until_samples: Number of these samples.
        until_steps: Stopping steps, summed over samples.
        until_unknown: Names of rows whose calls cover several time steps.
        core_seconds_unknown: Batches whose duration on the cores is unknown.
        cores: Loads by row that the cores hold; for a mapping by channels one entry, under "".
        uncounted: Calls that may cause operations and were not counted, by name and ``what``.
        called: Modules that were called.
        contracted: Parameters and buffers that took part in an operation.
        touched: Parameters passed to functions that do not contract them.
        expanded: Parameters multiplied into an output larger than the activation.
        notes: Remarks for the reader.
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
        """Order of each row, from which names follow."""
        return {key: row.order for key, row in self.rows.items()}

    def names(self) -> dict[RowKey, str]:
        """Names of the rows, in the order of reports."""
        return row_names(self.orders())

    def _distribution(self, key: Key, other: RunData) -> Distribution | None:
        """Return the known distribution; an empty one for a run without samples."""
        nothing = Distribution.of_nothing(self.samples)
        found = self.distributions.get(key, nothing)
        return nothing if found is None and not self.samples and other.samples else found

    def on_host(self) -> RunData:
        """The same counts with all figures on the host, to be read or sent between processes."""
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
        """Mean time steps of a sample; None unless known for all samples."""
        if not self.samples or self.untimed:
            return None
        whole, rest = divmod(self.steps, self.samples)
        return self.steps / self.samples if rest else whole

    def all_seconds(self, dt: float | None) -> float | None:
        """Duration of all samples; None unless known for all samples."""
        if not self.samples or self.undated:
            return None
        # Steps are integers: the sum does not depend on batches and ranks.
        return self.seconds if dt is None or self.untimed else self.steps * dt


def require_same_layers(one: RunData, other: RunData) -> None:
    """Refuse to add counts of models of one class whose layers have different shapes.

    A layer that was replaced during a run has several shapes.

    Raises:
        ValueError: If the weight shapes of a layer are disjoint.
    """
    mine, theirs = _layer_shapes(one), _layer_shapes(other)
    for name in mine.keys() & theirs.keys():
        if mine[name].isdisjoint(theirs[name]):
            raise ValueError(
                f"{name}: expected the same weight_shape in all counts to add, as on all "
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
    """Merge levels of two rows: zero if an input of either held more values."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other) if one and other else 0.0


def _highest(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The larger of two numbers, possibly on different accelerators."""
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
    """Merge curves over samples; a curve missing in one run is zero there."""
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
    """Return the number if it is 0 or all neurons in both; else None: only maps tell."""
    return mine if mine == theirs and mine in (0, neurons) else None
