"""Operations of a model per sample, as counted or of an equivalent network, for pricing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from snnmetrics.report import LayerData, NeuronData, Report
from snnmetrics.report.convention_report import ConventionReport
from snnmetrics.report.frozen_record import Record
from snnmetrics.report.rows import ratio
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular, sheet_of
from snnmetrics.text import named, si


@dataclass(frozen=True)
class LayerWork:
    """Operations of one layer, per sample.

    Attributes:
        name: Name of the row in the report.
        kind: Kind of its input.
        acs: Accumulations; ``None`` under a convention that does not distinguish ACs and MACs.
        macs: Multiply-accumulations; ``None`` under such a convention.
        synops: Synaptic operations; ``None`` if the input is analog.
        dense_synops: Synaptic operations if every input were an event in every time step. They
            follow from shapes and do not depend on a convention.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> report = monitor.run([torch.ones(2, 4)])
        >>> from snnmetrics.energy import workload_of
        >>> workload_of(report).layers["Linear"].acs
        12.0

    See Also:
        - :class:`~snnmetrics.energy.Workload`: the work of all layers.
        - :class:`~snnmetrics.energy.NeuronWork`: the work of a layer of neurons.
    """

    name: str
    kind: str
    acs: float | None
    macs: float | None
    synops: float | None
    dense_synops: float


@dataclass(frozen=True)
class NeuronWork:
    """Updates of one layer of neurons, per sample.

    Attributes:
        name: Name of the row in the report.
        type: Class name of the neurons.
        updates: Neurons x time steps.
        additions: Additions, subtractions and comparisons; ``None`` if unknown for the type.
        multiplications: Multiplications; ``None`` if unknown for the type.
        spikes: Output spikes; an output of n is n spikes if the report counts integers as ACs.
            ``None`` for analog outputs, such as those of a ReLU.
        neurons: Number of neurons; ``None`` if unknown.

    Example:
        >>> from snnmetrics.energy import workload_of
        >>> from snnmetrics.report import NeuronData, Report
        >>> lif = NeuronData(
        ...     "Leaky", neurons=10, elements=400, events=20, spikes=20, silent=3, saturated=0
        ... )
        >>> report = Report(samples=4, calls=1, steps=10, neurons_data={"lif": lif})
        >>> work = workload_of(report).neurons["lif"]
        >>> work.type, work.updates, work.spikes
        ('Leaky', 100.0, 5.0)

    See Also:
        - :class:`~snnmetrics.energy.Workload`: the work of all layers.
        - :class:`~snnmetrics.energy.LayerWork`: the work of a layer with synapses.
    """

    name: str
    type: str
    updates: float
    additions: float | None
    multiplications: float | None
    spikes: float | None = None
    neurons: float | None = None


@dataclass(frozen=True)
class LayerReads:
    """Inputs and weights of one layer, per sample, independent of a model of the memory.

    Attributes:
        operation: ``"linear"``, ``"conv2d"``, ``"matmul"``, ...
        vectors: Input vectors.
        inputs: Elements of the input, including zeros.
        events: Nonzero inputs; an input of n is n events if the report counts integers as ACs.
        synapses: Synapses that these events reach, including zero weights. For analog input all
            synapses, since zeros are computed like any other value.
        neurons: Elements of one input vector.
        weights: Elements of the weight; ``None`` for a product of two activations.
        biases: Additions of a bias: one per output if the layer has a bias.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import workload_of
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> reads = workload_of(monitor.run([torch.eye(4).unsqueeze(1)])).reads["Linear"]
        >>> reads.inputs, reads.events, reads.synapses, reads.weights, reads.biases
        (16.0, 4.0, 12.0, 12, 12.0)

    See Also:
        - :class:`~snnmetrics.energy.LayerWork`: the operations of the layer.
        - :func:`~snnmetrics.energy.memory_traffic`: the bytes that follow.
    """

    operation: str
    vectors: float
    inputs: float
    events: float
    synapses: float
    neurons: int
    weights: int | None
    biases: float


@dataclass(frozen=True, eq=False, repr=False)
class Workload(Record, Tabular):
    """Operations of a model, per sample. Printed and exported like a report.

    Attributes:
        model: Name of the model.
        layers: Operations of layers, by name; read-only.
        neurons: Updates of neurons, by name; read-only.
        notes: Notes on the counts, such as operations that were not counted.
        integer_as: Operation of layers with integer input: ``"acs"`` or ``"macs"``.
        bits: Width of activations of a quantised model, else ``None``.
        reads: Reads of each layer, by name; read-only, empty if unknown.
        convention: Name of the convention of the counts; ``None`` for exact counts.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=1, time_dim=0)
        >>> report = monitor.run([torch.ones(5, 1, 4)])  # 5 steps
        >>> from snnmetrics.energy import ann_baseline, workload_of
        >>> workload_of(report).acs, ann_baseline(report).macs
        (60.0, 12.0)

    See Also:
        - :func:`~snnmetrics.energy.workload_of`: the workload of a report.
        - :func:`~snnmetrics.energy.ann_baseline`: the workload of the equivalent ANN.
        - :func:`~snnmetrics.energy.estimate_energy`: the energy of a workload.
    """

    model: str
    layers: Mapping[str, LayerWork]
    neurons: Mapping[str, NeuronWork]
    notes: tuple[str, ...] = ()
    integer_as: str = "acs"
    bits: int | None = None
    reads: Mapping[str, LayerReads] = field(default_factory=dict)
    convention: str | None = None

    def __repr__(self) -> str:
        acs, macs = (None if n is None else float(f"{n:.6g}") for n in (self.acs, self.macs))
        return f"Workload(model={self.model!r}, acs={acs}, macs={macs})"

    @property
    def macs(self) -> float | None:
        """Multiply-accumulations of all layers; ``None`` if ACs and MACs are not distinguished."""
        return sum_if_known(layer.macs for layer in self.layers.values())

    @property
    def acs(self) -> float | None:
        """Accumulations of all layers; ``None`` if ACs and MACs are not distinguished."""
        return sum_if_known(layer.acs for layer in self.layers.values())

    def _page(self) -> Page:
        widths = "" if self.bits is None else f", {named(self.bits, 'bit')}"
        header = (f"snnmetrics operations of {self.model}{widths}", "figures are per sample")
        tables = [_table("layer", [*self.layers.values()], _LAYER_TITLES)]
        if self.neurons:
            tables.append(_table("neurons", [*self.neurons.values()], _NEURON_TITLES))
        return Page(header, tuple(tables), self.notes)

    def _sheets(self) -> Mapping[str, Sheet]:
        return {
            name: sheet_of([field.name for field in fields(of)], [vars(row) for row in rows])
            for name, of, rows in (
                ("layers", LayerWork, self.layers.values()),
                ("neurons", NeuronWork, self.neurons.values()),
            )
        }


def sum_if_known(values: Iterable[float | None]) -> float | None:
    """Return the sum; ``None`` if a value is ``None``."""
    known = list(values)
    return None if None in known else float(sum(value or 0 for value in known))


_LAYER_TITLES = {
    "kind": "kind",
    "acs": "ACs",
    "macs": "MACs",
    "synops": "synops",
    "dense_synops": "dense synops",
}
_NEURON_TITLES = {
    "type": "type",
    "updates": "updates",
    "additions": "additions",
    "multiplications": "multiplications",
}


def _table(what: str, rows: Sequence[LayerWork | NeuronWork], titles: Mapping[str, str]) -> Table:
    """Return the table of rows, with the sums of figures that all rows have."""
    kind, *figures = titles
    columns = (
        Column(what, number=False),
        Column(titles[kind], number=False),
        *(Column(titles[figure]) for figure in figures),
    )
    lines = tuple(
        (row.name, getattr(row, kind), *(si(getattr(row, figure)) for figure in figures))
        for row in rows
    )
    counted = [[getattr(row, figure) for row in rows] for figure in figures]
    sums = map(sum_if_known, counted)
    last = "total" if what == "layer" else "all neurons"
    return Table(columns, lines, (last, "", *map(si, sums)))


def workload_of(report: Report | ConventionReport) -> Workload:
    """Return the operations of a report, as :func:`estimate_energy` prices them.

    Args:
        report: A report, or ``report.under(name)`` for the ACs and MACs of a convention. The synops
            of a convention are its ACs, or all its operations if it does not distinguish ACs and
            MACs. Neurons are those of the report.

    Returns:
        Operations per sample, by layer.

    Raises:
        TypeError: If ``report`` is not a report.
        ValueError: If the convention has no figure for a layer.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> from snnmetrics.energy import workload_of
        >>> monitor = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0)
        >>> workload_of(monitor.run([torch.ones(2, 4)])).acs
        12.0

    See Also:
        - :class:`~snnmetrics.energy.Workload`: the result.
        - :func:`~snnmetrics.energy.ann_baseline`: the workload of the equivalent ANN.
    """
    if isinstance(report, ConventionReport):
        return _as_counted_by(report)
    require_report(report)
    layers = {
        name: LayerWork(name, row.kind, row.acs, row.macs, row.synops, row.dense_synops)
        for name, row in report.layers.items()
    }
    neurons = {
        name: NeuronWork(
            name,
            row.type,
            row.updates,
            row.additions,
            row.multiplications,
            _per_sample(spikes_of(report.neurons_data[name], report.integer_as), report.samples),
            row.neurons,
        )
        for name, row in report.neurons.items()
    }
    counts = report.counts()
    return Workload(
        report.model or "model",
        layers,
        neurons,
        _not_counted(report),
        report.integer_as,
        reads={
            name: _reads(report.layers_data[name], row.kind, counts[name], report)
            for name, row in report.layers.items()
        },
    )


def require_report(report: object) -> None:
    """Raise unless ``report`` is a :class:`Report`.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(report, Report):
        raise TypeError(f"report: expected a Report, found {type(report).__name__}")


def spikes_of(data: NeuronData, integer_as: str) -> float | None:
    """Return the spikes over all samples; an output of n is n spikes if integers count as ACs.

    Return ``None`` for fractional outputs, which are analog input of the next layer. Outputs are
    fractional if their sum is not an integer, or is less than the number of nonzero outputs.
    """
    if data.spikes < data.events or not float(data.spikes).is_integer():
        return None
    return data.spikes if integer_as == "acs" else data.events


def _per_sample(total: float | None, samples: int) -> float | None:
    return None if total is None else ratio(total, samples)


def _reads(
    data: LayerData, kind: str, totals: Mapping[str, float | None], report: Report
) -> LayerReads:
    weighted = kind == "integer" and report.integer_as == "acs"
    events, synapses = ("magnitude", "synops") if weighted else ("events", "event_synops")
    operation = data.operation
    of_layer = {
        "vectors": totals["vectors"],
        "inputs": totals["elements"],
        "events": totals[events],
        "synapses": totals["dense_synops" if kind == "analog" else synapses],
        "biases": totals["output_elements"] if operation.bias else 0,
    }
    return LayerReads(
        operation.operation,
        neurons=math.prod(operation.input_shape),
        weights=None if operation.weight_shape is None else math.prod(operation.weight_shape),
        **{name: ratio(total or 0, report.samples) for name, total in of_layer.items()},
    )


def exact_workload_of(report: Report | Workload) -> Workload:
    """Return the operations of a report, or a workload unchanged, if they are exact counts.

    Raises:
        TypeError: If it is neither a report nor a workload.
        ValueError: If the operations follow a convention.
    """
    workload = report if isinstance(report, Workload) else workload_of(report)
    if workload.convention is not None:
        raise ValueError(
            f"report: expected exact counts, found operations as {workload.convention} counts "
            "them, from which reads and writes do not follow"
        )
    return workload


def _as_counted_by(under: ConventionReport) -> Workload:
    """Return the operations of layers as a convention counts them; all else is exact."""
    if under.missing:
        raise ValueError(
            f"report: expected a figure of every layer as {under.name} counts it, found none for "
            f"{', '.join(under.missing)}"
        )
    exact, name = workload_of(under.report), under.name
    layers = {
        row.name: replace(
            exact.layers[row.name],
            acs=row.acs,
            macs=row.macs,
            synops=row.operations if row.acs is None else row.acs,
        )
        for row in under.layers.values()
    }
    note = f"operations as {name} counts them: {under.convention.formula}"
    return replace(exact, layers=layers, notes=(note, *exact.notes), convention=name)


def _not_counted(report: Report) -> tuple[str, ...]:
    return tuple(
        f"not counted, so not in the energy: {item.name}: {item.what}: {item.reason}"
        for item in report.uncounted
    )
