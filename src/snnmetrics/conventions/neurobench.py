"""The row of a benchmark of NeuroBench: what its ``Benchmark.run()`` returns for a model.

Definitions are those of NeuroBench 2.3.0, where they differ from ours as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from snnmetrics.arguments import as_float, positive_number
from snnmetrics.conventions import neurobench_figures as figures
from snnmetrics.conventions.neurobench_modules import RowModules
from snnmetrics.report import Report
from snnmetrics.report.convention import NotInReport
from snnmetrics.report.frozen_record import Record, by_name
from snnmetrics.report.tables import Column, Page, Sheet, Table, Tabular
from snnmetrics.text import named

KEYS = {
    "Footprint": "footprint",
    "ParameterCount": "parameter_count",
    "ConnectionSparsity": "connection_sparsity",
    "ExecutionRate": "execution_rate",
    "ActivationSparsity": "activation_sparsity",
    "ActivationSparsityByLayer": "activation_sparsity_by_layer",
    "SynapticOperations": "synaptic_operations",
    "MembraneUpdates": "membrane_updates",
    "NeuronOperations": "neuron_operations",
}
"""Keys of a row and its attributes of the same figures."""

_CORRECTNESS = {
    "ClassificationAccuracy": "Accuracy",
    "CocoMap": "COCO mAP",
    "R2": "R^2",
    "SMAPE": "sMAPE",
}
_LEADERBOARD = {"Dense": "Dense", "Effective_MACs": "Eff_MACs", "Effective_ACs": "Eff_ACs"}


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuroBenchRow(Record, Tabular, Mapping[str, Any]):
    """Figures of a run by the definitions of NeuroBench. Made by :func:`neurobench_row`.

    A read-only mapping with the keys of ``Benchmark.run()`` where metrics are given as classes:
    ``row["SynapticOperations"]["Dense"]``; ``row["ExecutionRate"]``, which its submissions need and
    its harness does not measure; and the correctness metrics. The other figures are attributes too.
    A figure is ``None`` where the report or the model lacks what it takes, and ``reasons`` says
    what. Operations and updates are per sample. Printed and exported as reports are, it is the row
    of a leaderboard, whose operations are per execution of the model.

    Attributes:
        method: Name of the row.
        samples: Samples of the report.
        footprint: Bytes of all parameters and buffers, states of snnTorch's neurons left out: they
            are empty when NeuroBench measures a model that was not called before.
        parameter_count: Elements of all parameters, with all that parametrized tensors are made of.
        connection_sparsity: Zero weights / weights of Linear, Conv1d/2d/3d, recurrent layers and
            cells, whose biases are weights, to four decimals.
        execution_rate: Executions of the model per second of the data, in Hz.
        executions: Executions of the model per sample: its time steps.
        activation_sparsity: Zero outputs / outputs of ReLU, Sigmoid and neurons, in [0, 1].
        activation_sparsity_by_layer: The same by the last part of the path of the modules.
        synaptic_operations: ``"Effective_MACs"``, ``"Effective_ACs"`` and ``"Dense"``.
        membrane_updates: Membrane potentials that changed in a step; in the first, all.
        neuron_operations: ``"Effective Neuron Ops"``, operations of these updates, and
            ``"Neuron Dense Ops"``, those of all neurons at all steps.
        correctness: Correctness metrics, by the name that NeuroBench gives them.
        reasons: Why a figure is ``None``, by its key; parts of ``"NeuronOperations"`` have keys of
            their own.
        date: When it was submitted.

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3))
        >>> monitor = sm.Monitor(model)
        >>> with monitor, monitor.batch(samples=2, steps=5):  # 12 operations at each step
        ...     for step in range(5):
        ...         output = model(torch.ones(2, 4))
        >>> row = sm.conventions.neurobench_row(model, monitor.compute(), execution_rate=200)
        >>> dict(row["SynapticOperations"])  # per sample
        {'Effective_MACs': 0.0, 'Effective_ACs': 60.0, 'Dense': 60.0}
        >>> row.footprint == row["Footprint"], row.executions
        (True, 5.0)
        >>> lines = row.to_markdown().splitlines()
        >>> [line for line in lines if line.startswith("| Sequential")]  # per execution
        ['| Sequential | 60 | 200 | 0.000 | - | 12 | 0 | 12 |']
    """

    method: str
    samples: int
    footprint: int | None
    parameter_count: int
    connection_sparsity: float | None
    execution_rate: float | None
    executions: float | None
    activation_sparsity: float | None
    activation_sparsity_by_layer: Mapping[str, float] | None
    synaptic_operations: Mapping[str, float] | None
    membrane_updates: float | None
    neuron_operations: Mapping[str, float | None]
    correctness: Mapping[str, float]
    reasons: Mapping[str, str]
    date: str

    def __getitem__(self, key: str) -> Any:
        return self._entries()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def _entries(self) -> Mapping[str, Any]:
        own = {key: getattr(self, attribute) for key, attribute in KEYS.items()}
        return by_name({**own, **self.correctness})

    def to_dict(self) -> dict[str, Any]:
        """The figures and the reasons, as plain data."""
        plain = {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in self.items()
        }
        return {**plain, "reasons": dict(self.reasons)}

    def to_json(self, indent: int | None = None) -> str:
        """The figures as ``Benchmark.save_benchmark_results`` writes them, and the reasons.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _per_execution(self) -> dict[str, float | None]:
        """Columns of the leaderboards: its operations are per execution of the model.

        Defined so in ``docs/metrics``, and visible in ``leaderboard.rst``: an SNN at 200 Hz on
        seconds of audio has 1.36E7 bytes, which are 3.4E6 weights, and 3.39E6 dense operations.
        """
        if self.synaptic_operations is None or self.executions is None:
            return dict.fromkeys(_LEADERBOARD.values())
        found = self.synaptic_operations
        return {title: found[key] / self.executions for key, title in _LEADERBOARD.items()}

    def _page(self) -> Page:
        correctness = {_CORRECTNESS.get(key, key): v for key, v in self.correctness.items()}
        cells: dict[str, str] = {
            "Method": self.method,
            **{title: f"{value:.6g}" for title, value in correctness.items()},
            "Footprint (bytes)": _count(self.footprint),
            "Model Exec. Rate (Hz)": _count(self.execution_rate),
            "Connection Sparsity": _fraction(self.connection_sparsity),
            "Activation Sparsity": _fraction(self.activation_sparsity),
            **{title: _count(value) for title, value in self._per_execution().items()},
        }
        if self.date:
            cells["Date Submitted"] = self.date
        columns = tuple(Column(title, number=title != "Method") for title in cells)
        each = "" if self.executions is None else f", of which a sample has {self.executions:.6g}"
        header = (
            f"NeuroBench row of {self.method}",
            f"{named(self.samples, 'sample')}; operations per execution of the model{each}",
        )
        notes = (f"{key}: {reason}" for key, reason in self.reasons.items())
        return Page(header, (Table(columns, (tuple(cells.values()),)),), tuple(notes))

    def _sheets(self) -> Mapping[str, Sheet]:
        flat: dict[str, Any] = {"name": self.method}
        for key, value in self.items():
            if key == "SynapticOperations" and value is None:
                value = dict.fromkeys(figures.SYNAPTIC_OPERATIONS)
            if isinstance(value, Mapping):
                flat |= {f"{key}/{part}": figure for part, figure in value.items()}
            else:
                flat[key] = value
        return {"row": Sheet(tuple(flat), (tuple(flat.values()),))}


def neurobench_row(
    model: nn.Module,
    report: Report,
    *,
    method: str | None = None,
    correctness: Mapping[str, float | Tensor] | None = None,
    execution_rate: float | None = None,
    executions: float | None = None,
    membrane_updates: Mapping[str, float | Tensor] | None = None,
    activation_modules: Collection[type[nn.Module]] = (),
    date: str = "",
) -> NeuroBenchRow:
    """Make the row of a benchmark of NeuroBench, by its definitions, of a run that was monitored.

    A spiking model is taken as ``SNNTorchModel`` runs it: in evaluation mode, step by step, from a
    fresh state. Synaptic operations are sorted call by call, so batches must be those of the
    benchmark. Sums are exact, where NeuroBench adds up each call in float32. Activation sparsity
    is that of all outputs; NeuroBench takes means of batches, which differ from it where batches
    differ in their time steps.

    Args:
        model: The model that was monitored, without wrappers and with the same weights.
        report: The report of the run.
        method: Name of the row. Default: the class of the model.
        correctness: What you measured, such as ``{"ClassificationAccuracy": 0.86}``. NeuroBench
            names them ``ClassificationAccuracy``, ``CocoMap``, ``MSE``, ``R2``, ``SMAPE``.
        execution_rate: Executions of the model per second of the data, in Hz. Default: from the
            durations that the report knows.
        executions: Executions of the model per sample. Default: the time steps of the report, one
            if there are none.
        membrane_updates: Of each layer of snnTorch neurons, by path, the potentials that changed
            per sample, as :class:`~snnmetrics.MembraneUpdates` counts them.
        activation_modules: Classes that you give to ``NeuroBenchModel.add_activation_module``, such
            as neurons of SpikingJelly. NeuroBench fails on those that return tuples.
        date: When it was submitted, for the last column of a leaderboard.

    Returns:
        The row, with ``None`` and a reason where the report or the model lacks what a figure takes.

    Raises:
        TypeError: If an argument is not of its type.
        ValueError: If the report has no samples or is not of this model, a layer of the model has
            no shape yet, a number is not finite, or membrane updates are of other modules.

    Source: NeuroBench 2.3.0, ``neurobench/benchmarks``, ``neurobench/metrics``, ``leaderboard.rst``
    and ``docs/metrics``; Yik et al., "The neurobench framework for benchmarking neuromorphic
    computing algorithms and systems", Nature Communications 16, 1545 (2025).

    Example:
        >>> import torch
        >>> import snnmetrics as sm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> report = sm.Monitor(model, batch_dim=0).run([torch.ones(2, 4)])
        >>> row = sm.conventions.neurobench_row(
        ...     model, report, correctness={"ClassificationAccuracy": 0.5}, execution_rate=20
        ... )
        >>> row["Footprint"], row["SynapticOperations"]["Dense"], row["ClassificationAccuracy"]
        (92, 18.0, 0.5)
        >>> row.activation_sparsity is None
        True
        >>> row.reasons["ActivationSparsity"]
        'the model has no module whose outputs NeuroBench reads'
    """
    added = _check(model, report, activation_modules)
    title = type(model).__name__ if method is None else _text("method", method)
    correct = _numbers("correctness", {} if correctness is None else correctness)
    taken = [key for key in correct if key in (*KEYS, "reasons")]
    if taken:
        raise ValueError(f"correctness: expected names of correctness metrics, found {taken[0]!r}")
    run = figures.Run(
        model,
        report,
        RowModules(model, report),
        added,
        _updates_of(figures.with_potentials(model, added), membrane_updates),
        None if executions is None else positive_number("executions", executions),
        None if execution_rate is None else positive_number("execution_rate", execution_rate),
    )
    found: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for key, figure in figures.FIGURES.items():
        try:
            found[key] = figure(run)
        except NotInReport as reason:
            found[key], reasons[key] = None, str(reason)
    found["NeuronOperations"] = {key: found[key] for key in figures.NEURON_FIGURES}
    return NeuroBenchRow(
        method=title,
        samples=report.samples,
        executions=found["Executions"],
        correctness=correct,
        reasons=reasons,
        date=_text("date", date),
        **{attribute: found[key] for key, attribute in KEYS.items()},
    )


# -------------------------------------------------------------------------------- checks


def _check(
    model: nn.Module, report: Report, added: Collection[type[nn.Module]]
) -> tuple[type[nn.Module], ...]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
    if not isinstance(report, Report):
        raise TypeError(f"report: expected a Report, found {type(report).__name__}")
    if not report.samples:
        raise ValueError("report: expected one with samples, found none")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"model: {name!r} does not know its shape yet; call the model once")
    if not isinstance(added, Collection):
        raise TypeError(f"activation_modules: expected a collection of classes, found {added!r}")
    for cls in added:
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise TypeError(
                f"activation_modules: expected subclasses of torch.nn.Module, found {cls!r}"
            )
    return tuple(added)


def _text(argument: str, given: str) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{argument}: expected text, found {type(given).__name__}")
    return given


def _updates_of(
    paths: Collection[str], given: Mapping[str, float | Tensor] | None
) -> dict[str, float] | None:
    if given is None:
        return None
    found = _numbers("membrane_updates", given)
    if found.keys() != set(paths):
        raise ValueError(
            "membrane_updates: expected those of the snnTorch neurons "
            f"{', '.join(paths) or '(none)'}, found those of {', '.join(found) or '(none)'}"
        )
    negative = [path for path, value in found.items() if value < 0]
    if negative:
        raise ValueError(
            f"membrane_updates[{negative[0]!r}]: expected a count >= 0, found {found[negative[0]]}"
        )
    return found


def _numbers(argument: str, given: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Finite numbers by name, as floats; also of tensors of one element, as metrics return them."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected numbers by name, found {type(given).__name__}")
    numbers: dict[str, float] = {}
    for name, value in given.items():
        if not (isinstance(name, str) and name):
            raise TypeError(f"{argument}: expected names as text, found {name!r}")
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if not isinstance(number, Real) or isinstance(number, bool):
            raise TypeError(f"{argument}[{name!r}]: expected a number, found {value!r}")
        numbers[name] = as_float(f"{argument}[{name!r}]", number)
        if not math.isfinite(numbers[name]):
            raise ValueError(f"{argument}[{name!r}]: expected a finite number, found {value!r}")
    return numbers


# --------------------------------------------------------------------------------- cells


def _count(value: float | None) -> str:
    """A count, to one decimal where it is not whole."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
