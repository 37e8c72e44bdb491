"""Loads of cores: sums that add up over batches, and the rows of a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.report import schema as checks
from snnmetrics.report.curve import Curve, aligned_steps, figures_per_step
from snnmetrics.report.distribution import Distribution, bins_of, upper_edge
from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.rows import Row

OF_INPUTS = ("synops", "events_in")
"""Loads of a core that depend on the inputs of layers."""
OF_NEURONS = ("events_out", "updates")
"""Loads that are known if a layer of neurons follows."""
FIGURES = (*OF_INPUTS, *OF_NEURONS)
"""Loads of a core at each time step."""
HELD = ("neurons", "synapses", "weights", "axons")
"""Contents of a core."""
_FIRST_BIN = int(bins_of(torch.ones(1)).item())  # the bin of 1: loads are integers
_BINS = 40 * 64 + 1  # up to 2**40; one more bin above
FACT = "fact"


@dataclass
class CoreTotals:
    """Loads of the cores of one layer, or of all cores in a mapping by channels.

    Each load belongs to one sample at one time step.

    Attributes:
        labels: Labels of the cores.
        is_timed: Whether the time step of each load is known.
        has_neurons: Whether a layer of neurons follows each layer.
        sums: Sums of the loads and of their squares over samples, ``(2, figures, cores, T)``.
        extremes: The largest loads of a sample, ``(figures, cores, T)``.
        histogram: Number of samples and steps per bin of nonzero load, ``(figures, cores, bins)``.
        held: Neurons, synapses, weights and axons of each core, ``(4, cores)``.
    """

    labels: Annotated[tuple[str, ...], FACT]
    is_timed: Annotated[bool, FACT]
    has_neurons: Annotated[bool, FACT]
    sums: Tensor | None = None
    extremes: Tensor | None = None
    histogram: Tensor | None = None
    held: Tensor | None = None

    @staticmethod
    def of(
        labels: tuple[str, ...],
        loads: Tensor | None,
        held: Tensor,
        has_neurons: bool,
    ) -> CoreTotals:
        """Totals of one batch.

        Args:
            labels: Labels of the cores.
            loads: ``(figures, T, B, cores)``, float64; None if time steps are unknown.
            held: Contents of each core.
            has_neurons: Whether a layer of neurons follows each layer.
        """
        if loads is None:
            return CoreTotals(labels, False, has_neurons, held=held)
        by_core = loads.permute(0, 3, 1, 2)  # (figures, cores, T, B)
        bins = (bins_of(by_core.contiguous()) - _FIRST_BIN + 1).clamp(0, _BINS)
        flat = bins.flatten(2)
        histogram = torch.zeros(*flat.shape[:2], _BINS + 1, dtype=torch.float64, device=flat.device)
        histogram.scatter_add_(2, flat, torch.ones_like(flat, dtype=torch.float64))
        if not loads.shape[1]:
            return CoreTotals(labels, True, has_neurons, held=held)
        return CoreTotals(
            labels,
            True,
            has_neurons,
            torch.stack([by_core.sum(3), by_core.square().sum(3)]),
            by_core.amax(3),
            histogram[..., 1:],
            held,
        )

    def add(self, other: CoreTotals) -> CoreTotals:
        """The sum of both."""
        held = None
        if self.held is not None and other.held is not None:
            held = torch.maximum(self.held.to(other.held.device), other.held)
        known = self.is_timed and other.is_timed
        both = CoreTotals(self.labels, known, self.has_neurons and other.has_neurons, held=held)
        if known and (self.sums is None or other.sums is None):  # one lacks loads
            some = other if self.sums is None else self
            both.sums, both.extremes, both.histogram = some.sums, some.extremes, some.histogram
            return both
        tensors = (self.sums, other.sums, self.extremes, other.extremes)
        mine, theirs = self.histogram, other.histogram
        if known and None not in tensors and mine is not None and theirs is not None:
            sums, other_sums, most, other_most = (t for t in tensors if t is not None)
            both.sums = torch.add(*aligned_steps(sums, other_sums))
            both.extremes = torch.maximum(*aligned_steps(most, other_most))
            both.histogram = mine.to(theirs.device) + theirs
        return both

    def on_host(self) -> CoreTotals:
        """A copy on the CPU."""
        found = CoreTotals(self.labels, self.is_timed, self.has_neurons)
        for name in ("sums", "extremes", "histogram", "held"):
            tensor = getattr(self, name)
            setattr(found, name, None if tensor is None else tensor.cpu())
        return found

    def to_data(
        self, samples: Tensor | None, layers: Sequence[tuple[str, ...]], held: Tensor
    ) -> list[CoreData]:
        """Data of each core.

        Args:
            samples: Number of samples that have each time step.
            layers: Names of the layers on each core.
            held: Contents of each core, ``(4, cores)``.
        """
        rows = []
        for number, names in enumerate(layers):
            loads = {}
            if self.is_timed and self.sums is not None and samples is not None:
                figures = FIGURES if self.has_neurons else OF_INPUTS
                loads = {name: self._load(FIGURES.index(name), number, samples) for name in figures}
            found = dict(zip(HELD, map(int, held[:, number].tolist()), strict=True))
            rows.append(CoreData(layers=names, loads=loads, **found))
        return rows

    def _load(self, figure: int, core: int, samples: Tensor) -> CoreLoad:
        assert self.sums is not None
        assert self.extremes is not None
        assert self.histogram is not None
        total, squares = self.sums[:, figure, core]
        missing = (0, len(samples) - len(total))  # steps at which the layer did not run
        curve = Curve(
            True,
            samples,
            F.pad(total, missing),
            F.pad(squares, missing),
            F.pad(self.extremes[figure, core], missing),
        )
        line = self.histogram[figure, core]
        found = {int(bin_): int(line[bin_]) for bin_ in line.nonzero().flatten().tolist()}
        return CoreLoad(curve, found)


def _read_histogram(value: Any, path: str) -> dict[int, int]:
    pairs = checks.list_of(checks.list_of(checks.whole, 2), _BINS)(value, path)
    if any(len(pair) != 2 or pair[0] >= _BINS for pair in pairs):
        raise ValueError(f"{path}: expected pairs of a bin below {_BINS} and a number")
    return {pair[0]: pair[1] for pair in pairs}


@dataclass(frozen=True, eq=False)
class CoreLoad(Record):
    """One kind of load of a core.

    Attributes:
        curve: The load over time steps.
        histogram: Number of samples and steps per bin of nonzero load.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(2, 1, 4)])  # 2 steps
        >>> report.cores_data["core0"].loads["synops"].percentile(50)
        4.0

    See Also:
        - :class:`~snnmetrics.report.CoreRow`: all loads of a core.
        - :func:`~snnmetrics.plots.core_loads`: a figure of the loads over time.
    """

    curve: Curve
    histogram: Annotated[Mapping[int, int], _read_histogram]

    def add(self, other: CoreLoad) -> CoreLoad:
        """Merge with the load of other samples."""
        counts = Counter(self.histogram)
        counts.update(other.histogram)
        return CoreLoad(self.curve.add(other.curve), dict(counts))

    def percentile(self, percent: float) -> float:
        """Smallest load that ``percent`` percent of samples and steps do not exceed."""
        seen = int(self.curve.samples.sum())
        missing = max(1, math.ceil(percent * seen / 100)) - (seen - sum(self.histogram.values()))
        if missing <= 0:
            return 0.0
        largest = float(self.curve.largest.max())
        for bin_, count in sorted(self.histogram.items()):
            missing -= count
            if missing <= 0:
                return min(upper_edge(bin_ + _FIRST_BIN), largest)
        return largest


@dataclass(frozen=True, eq=False)
class CoreData(Record):
    """Totals and contents of one core.

    Attributes:
        layers: Names of the layers with neurons on the core.
        neurons: Output neurons of these layers on the core.
        synapses: Synapses of nonzero weight of these neurons.
        weights: Distinct weights that these synapses use.
        axons: Input neurons with a synapse on the core.
        loads: Loads by quantity; empty if time steps are unknown.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(2, 1, 4)])  # 2 steps
        >>> report.cores_data["core0"].layers, report.cores_data["core0"].axons
        (('Linear',), 4)

    See Also:
        - :class:`~snnmetrics.report.CoreRow`: the figures computed from it.
        - :class:`~snnmetrics.Cores`: the description of the cores.
    """

    layers: tuple[str, ...]
    neurons: int
    synapses: int
    weights: int
    axons: int
    loads: Mapping[str, CoreLoad]

    def add(self, other: CoreData) -> CoreData:
        """Merge with the data of other samples."""
        loads = {
            name: load.add(other.loads[name])
            for name, load in self.loads.items()
            if name in other.loads
        }
        held = {name: max(getattr(self, name), getattr(other, name)) for name in HELD}
        return CoreData(self.layers, loads=loads, **held)


@dataclass(frozen=True, eq=False)
class Load(Record):
    """One kind of load of a core, per sample and time step.

    Attributes:
        mean: Mean over samples and steps.
        max: Largest over samples and steps.
        peak_step: First step, counted from 1, at which a sample has the largest load.
        p99: Load that 99 % of samples and steps do not exceed; at most 1.09 % above the exact
            value.
        per_step: Mean over samples at each step, ``(T,)``, float64.
        per_step_std: Standard deviation over samples.
        per_step_max: Largest over samples.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(2, 1, 4)])  # 2 steps
        >>> load = report.cores["core0"].synops
        >>> load.max, load.peak_step, load.per_step.tolist()
        (4.0, 1, [4.0, 4.0])

    See Also:
        - :class:`~snnmetrics.report.CoreData`: the loads of a core.
        - :class:`~snnmetrics.report.CoreLoad`: the figures computed from it.
    """

    mean: float
    max: float
    peak_step: int
    p99: float
    per_step: Tensor = field(repr=False)
    per_step_std: Tensor = field(repr=False)
    per_step_max: Tensor = field(repr=False)


@dataclass(frozen=True, eq=False)
class CoreRow(Row):
    """Contents and loads of one core of a chip.

    Attributes:
        layers: Names of the layers with neurons on the core.
        neurons: Output neurons of these layers on the core.
        synapses: Synapses of nonzero weight of these neurons.
        weights: Distinct weights that these synapses use; a shared weight of a convolution counts
            once.
        axons: Input neurons with a synapse on the core.
        synops: Events times synapses of nonzero weight that arrive at its neurons, also for analog
            input. This and all following loads are ``None`` if time steps are unknown.
        events_in: Events that reach at least one of its neurons.
        events_out: Events that its neurons emit; ``None`` unless a layer of neurons with the shape
            of the output follows.
        updates: Updates of its neurons, likewise.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(2, 1, 4)])  # 2 steps
        >>> row = report.cores["core2"]
        >>> row.neurons, row.synapses, row.synops.mean, row.events_in.mean
        (1, 4, 4.0, 4.0)

    See Also:
        - :class:`~snnmetrics.report.CoreRows`: all cores.
        - :class:`~snnmetrics.report.CoreLoad`: one load of the core.
    """

    layers: tuple[str, ...]
    neurons: int
    synapses: int
    weights: int
    axons: int
    synops: Load | None
    events_in: Load | None
    events_out: Load | None
    updates: Load | None


class CoreRows(Mapping[str, CoreRow]):
    """Rows of cores by name, and figures of all cores together.

    Args:
        rows: The rows.
        seconds: Duration of each sample, if timings of the cores were given.

    Attributes:
        seconds: Duration of each sample as a :class:`~snnmetrics.report.Distribution`: each step
            takes the time of the slowest core, which is its largest term. ``None`` without timings
            of the cores.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> layer = torch.nn.Linear(4, 3)
        >>> monitor = sm.Monitor(layer, batch_dim=1, time_dim=0, cores={"Linear": 3})
        >>> report = monitor.run([torch.ones(2, 1, 4)])  # 2 steps
        >>> list(report.cores), report.cores.busiest, report.cores.imbalance
        (['core0', 'core1', 'core2'], 'core0', 1.0)

    See Also:
        - :class:`~snnmetrics.Cores`: the description of the cores.
        - :class:`~snnmetrics.report.CoreRow`: one core.
    """

    def __init__(self, rows: Mapping[str, CoreRow], seconds: Distribution | None) -> None:
        self._rows = by_name(rows)
        self.seconds = seconds

    def __getitem__(self, name: str) -> CoreRow:
        return self._rows[name]

    def __iter__(self) -> Any:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _most(self) -> dict[str, float]:
        return {name: row.synops.max for name, row in self.items() if row.synops is not None}

    @property
    def busiest(self) -> str | None:
        """Name of the core with the most synops in one step of one sample; None without loads."""
        most = self._most()
        return max(most, key=lambda name: most[name]) if most else None

    @property
    def imbalance(self) -> float | None:
        """Maximum over mean of the most synops that each core has in one step of one sample.

        1 if all cores have the same; None without loads, or if all loads are zero.
        """
        most = self._most().values()
        if not most or not max(most):
            return None
        return max(most) / (sum(most) / len(most))


def core_rows(cores: Mapping[str, CoreData], seconds: Distribution | None) -> CoreRows:
    """Rows of cores."""
    rows = {}
    for name, data in cores.items():
        figures: dict[str, Any] = {what: getattr(data, what) for what in HELD}
        figures |= {what: _load(data.loads.get(what)) for what in FIGURES}
        rows[name] = CoreRow(name, data.layers, **figures)
    return CoreRows(rows, seconds)


def _load(load: CoreLoad | None) -> Load | None:
    if load is None or not len(load.curve.samples):
        return None
    curve = load.curve
    steps = figures_per_step("load", curve)
    return Load(
        mean=float(curve.total.sum() / curve.samples.sum()),
        max=float(curve.largest.max()),
        peak_step=1 + int(curve.largest.argmax()),
        p99=load.percentile(99),
        per_step=steps["load_per_step"],
        per_step_std=steps["load_per_step_std"],
        per_step_max=steps["load_per_step_max"],
    )
