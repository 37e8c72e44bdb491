"""The row of a NeuroBench benchmark: the results of its ``Benchmark.run()``, from a report.

Definitions are those of NeuroBench 2.3.0, even where they differ from those of snnmetrics.
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
"""Attribute of a row by its key in ``Benchmark.run()``."""

_CORRECTNESS = {
    "ClassificationAccuracy": "Accuracy",
    "CocoMap": "COCO mAP",
    "R2": "R^2",
    "SMAPE": "sMAPE",
}
_LEADERBOARD = {"Dense": "Dense", "Effective_MACs": "Eff_MACs", "Effective_ACs": "Eff_ACs"}


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuroBenchRow(Record, Tabular, Mapping[str, Any]):
    """Figures of a run by the definitions of NeuroBench, returned by :func:`neurobench_row`.

    It is a read-only mapping with the keys of ``Benchmark.run()`` for metrics passed as classes,
    such as ``row["SynapticOperations"]["Dense"]``. It adds ``row["ExecutionRate"]``, which
    submissions need but the harness does not measure, and the correctness metrics. All figures
    except the correctness metrics are also attributes. A figure is ``None`` if the report or the
    model lacks the data for it; ``reasons`` names the missing data. Operations and updates are per
    sample. It prints and exports like a report, as the row of a leaderboard, where operations are
    per execution of the model.

    Attributes:
        method: Name of the row.
        samples: Samples of the report.
        footprint: Bytes of all parameters and buffers, without the states of snnTorch's neurons:
            these are empty when NeuroBench measures a model before its first call.
        parameter_count: Elements of all parameters, including all originals of parametrized
            tensors.
        connection_sparsity: Zero weights / weights of Linear, Conv1d/2d/3d, recurrent layers and
            cells, to four decimals. Biases of recurrent layers and cells count as weights.
        execution_rate: Executions of the model per second of the data, in Hz.
        executions: Executions of the model per sample: its time steps.
        activation_sparsity: Zero outputs / outputs of ReLU, Sigmoid and neurons, in [0, 1].
        activation_sparsity_by_layer: Activation sparsity by the last part of the module path.
        synaptic_operations: ``"Effective_MACs"``, ``"Effective_ACs"`` and ``"Dense"``.
        membrane_updates: Membrane potentials that changed in a step; all of them in the first step.
        neuron_operations: ``"Effective Neuron Ops"``, the operations of these updates, and
            ``"Neuron Dense Ops"``, the operations of all neurons in all steps.
        correctness: Correctness metrics by NeuroBench's name.
        reasons: Reason of each figure that is ``None``, by key; the parts of
            ``"NeuronOperations"`` have separate keys.
        date: Date of submission.

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

    See Also:
        - :func:`~snnmetrics.conventions.neurobench_row`: makes the row.
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
        """Return the figures and the reasons as plain data."""
        plain = {
            key: dict(value) if isinstance(value, Mapping) else value for key, value in self.items()
        }
        return {**plain, "reasons": dict(self.reasons)}

    def to_json(self, indent: int | None = None) -> str:
        """Return JSON in the format of ``Benchmark.save_benchmark_results``, plus the reasons.

        Args:
            indent: Spaces per level; ``None`` for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _per_execution(self) -> dict[str, float | None]:
        """Return the columns of the leaderboards, with operations per execution of the model.

        ``docs/metrics`` of NeuroBench defines them per execution. ``leaderboard.rst`` agrees: an
        SNN at 200 Hz on seconds of audio has 1.36E7 bytes, that is 3.4E6 weights, and 3.39E6 dense
        operations.
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
        each = "" if self.executions is None else f", {self.executions:.6g} per sample"
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
    """Compute the row of a NeuroBench benchmark, by its definitions, from a monitored run.

    The figures assume that a spiking model runs as in ``SNNTorchModel``: in evaluation mode, step
    by step, from a fresh state. NeuroBench classifies synaptic operations call by call, so batches
    must be those of the benchmark. Sums are exact; NeuroBench adds up each call in float32.
    Activation sparsity is computed over all outputs; NeuroBench averages over batches, which
    differs if batches differ in their time steps.

    Args:
        model: The monitored model, without wrappers and with the same weights.
        report: The report of the run.
        method: Name of the row. Default: the class of the model.
        correctness: Measured correctness by name, such as ``{"ClassificationAccuracy": 0.86}``.
            NeuroBench's names are ``ClassificationAccuracy``, ``CocoMap``, ``MSE``, ``R2``,
            ``SMAPE``.
        execution_rate: Executions of the model per second of the data, in Hz. Default: computed
            from the durations in the report.
        executions: Executions of the model per sample. Default: the time steps of the report, or
            one if it has none.
        membrane_updates: Potentials that changed per sample, by path of each layer of snnTorch
            neurons, as counted by :class:`~snnmetrics.MembraneUpdates`.
        activation_modules: Classes passed to ``NeuroBenchModel.add_activation_module``, such as
            neurons of SpikingJelly. NeuroBench fails on modules that return tuples.
        date: Date of submission, for the last column of a leaderboard.

    Returns:
        The row. A figure is ``None``, with a reason, if the report or the model lacks its data.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the report has no samples or is not of this model, if a layer of the model
            has no shape yet, if a number is not finite, or if ``membrane_updates`` names other
            modules.

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

    See Also:
        - :class:`~snnmetrics.conventions.NeuroBenchRow`: the result.
        - :class:`~snnmetrics.MembraneUpdates`: membrane updates by NeuroBench's rule.
        - :meth:`~snnmetrics.Report.under`: ``report.under("neurobench")``: synaptic operations of
          each layer.
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
        raise ValueError("report: expected a report with samples, found none")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"model: {name!r} has no shape yet; call the model once")
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
            "membrane_updates: expected values for the snnTorch neurons "
            f"{', '.join(paths) or '(none)'}, found values for {', '.join(found) or '(none)'}"
        )
    negative = [path for path, value in found.items() if value < 0]
    if negative:
        raise ValueError(
            f"membrane_updates[{negative[0]!r}]: expected a count >= 0, found {found[negative[0]]}"
        )
    return found


def _numbers(argument: str, given: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Return finite numbers as floats, by name; tensors with one element are accepted."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected numbers by name, found {type(given).__name__}")
    numbers: dict[str, float] = {}
    for name, value in given.items():
        if not (isinstance(name, str) and name):
            raise TypeError(f"{argument}: expected nonempty strings as names, found {name!r}")
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if not isinstance(number, Real) or isinstance(number, bool):
            raise TypeError(f"{argument}[{name!r}]: expected a number, found {value!r}")
        numbers[name] = as_float(f"{argument}[{name!r}]", number)
        if not math.isfinite(numbers[name]):
            raise ValueError(f"{argument}[{name!r}]: expected a finite number, found {value!r}")
    return numbers


# --------------------------------------------------------------------------------- cells


def _count(value: float | None) -> str:
    """Format a count, with one decimal unless it is a whole number."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
