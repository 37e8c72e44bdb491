"""Whatever is given: the right number, or an error that names the argument and changes nothing.

The references are written in Python's integers and fractions (and NumPy's float64 where a result is
defined by it), and know nothing of the library.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics import functional as F
from snnmetrics.metrics.base import SNNMetric
from snnmetrics.report.data import add_counts
from snnmetrics.tensors.kinds import kind_of
from tests.helpers.metric_trials import same, snapshot

REFUSED = (TypeError, ValueError)
LARGEST = 1.7976931348623157e308

UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *UNSIGNED]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
REAL = [torch.bool, *INTEGERS, *FLOATS]
OTHERS = [
    dtype
    for dtype in {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    if dtype not in REAL and dtype not in (torch.complex32, torch.qint32)  # these warn when made
]


class RefusedError(Exception):
    """The reference says that the input must be refused, in the name of an argument."""


# ------------------------------------------------------------------------- the references


def exact(x: Tensor) -> np.ndarray:
    """The values as Python's integers and fractions, in an array of objects of the same shape."""
    flat = [v if isinstance(v, int) else Fraction(v) for v in x.reshape(-1).tolist()]
    values = np.empty(len(flat), dtype=object)
    values[:] = flat
    return values.reshape(tuple(x.shape))


def require_finite(x: Tensor) -> None:
    if x.is_floating_point() and not np.isfinite(x.to(torch.float64).numpy()).all():
        raise RefusedError


def batch_and_time(x: Tensor, time_dim: int | None) -> tuple[int, ...]:
    least = 2 if time_dim is None else 3
    if x.ndim < least or not (time_dim is None or -x.ndim <= time_dim < x.ndim):
        raise RefusedError
    if time_dim is None:
        return (0,)
    time = time_dim % x.ndim
    return (1 if time == 0 else 0, time)


def as_number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def ratio(part: Any, whole: Any) -> float:
    return as_number(Fraction(part) / Fraction(whole)) if whole else math.nan


def total_of(values: np.ndarray) -> Any:
    total = sum(values.reshape(-1).tolist(), 0)
    if total > LARGEST / 2:  # near the end of float64 both outcomes are right
        raise RefusedError
    return total


def magnitudes(x: Tensor, dims: tuple[int, ...]) -> np.ndarray:
    require_finite(x)
    return np.asarray(np.abs(exact(x)).sum(axis=dims), dtype=object)


def ref_synops(x: Tensor, fanout: int = 3, time_dim: int | None = 1) -> dict[str, Any]:
    dims = batch_and_time(x, time_dim)
    summed = magnitudes(x, dims) * fanout
    samples = x.shape[dims[0]]
    return {
        "synops_per_neuron": np.vectorize(lambda v: ratio(v, samples), otypes=[float])(summed),
        "synops": ratio(total_of(summed), samples),
    }


def ref_total_synops(x: Tensor, time_dim: int | None = 1) -> dict[str, Any]:
    whole = ref_synops(x, time_dim=time_dim)["synops"]
    return {"synops": whole, "synops/s": whole / 0.5}


def ref_rate_of_the_layer(x: Tensor) -> float:
    return ref_firing_rate(x)["firing_rate"] / 0.25


def ref_firing_rate(x: Tensor, time_dim: int = 1) -> dict[str, Any]:
    dims = batch_and_time(x, time_dim)
    summed = magnitudes(x, dims)
    steps = x.shape[dims[0]] * x.shape[dims[1]]
    return {
        "firing_rate_per_neuron": np.vectorize(lambda v: ratio(v, steps), otypes=[float])(summed),
        "firing_rate": ratio(total_of(summed), steps * summed.size),
    }


def ref_sparsity(x: Tensor) -> float:
    require_finite(x)
    return ratio(sum(value == 0 for value in exact(x).reshape(-1)), x.numel())


def ref_silent(x: Tensor, saturation: float = 0.75, time_dim: int = 1) -> dict[str, Any]:
    dims = batch_and_time(x, time_dim)
    summed = magnitudes(x, dims)
    total_of(summed)
    steps = x.shape[dims[0]] * x.shape[dims[1]]
    flat = summed.reshape(-1).tolist()
    silent = [bool(steps) and not v for v in flat]
    saturated = [bool(steps) and as_number(Fraction(v, steps)) >= saturation for v in flat]
    none = not (steps and flat)
    return {
        "silent_fraction": math.nan if none else sum(silent) / len(flat),
        "saturated_fraction": math.nan if none else sum(saturated) / len(flat),
        "silent": np.array(silent, dtype=bool).reshape(summed.shape),
        "saturated": np.array(saturated, dtype=bool).reshape(summed.shape),
    }


def ref_membrane(x: Tensor, initial: float | None = None, time_dim: int = 1) -> float:
    batch, time = batch_and_time(x, time_dim)
    require_finite(x)
    rest: Any = initial
    if initial is not None and x.is_floating_point():
        rest = torch.tensor(initial, dtype=x.dtype).item()  # compared in the dtype
    values = np.moveaxis(exact(x), time, 0)
    changes = 0
    for step, now in enumerate(values):
        before = values[step - 1].reshape(-1).tolist() if step else [rest] * now.size
        changes += sum(
            b is None or v != b for v, b in zip(now.reshape(-1).tolist(), before, strict=True)
        )
    return ratio(changes, x.shape[batch])


@dataclass(frozen=True)
class Roughly:
    """Figures that rounding of sums may move by an absolute amount."""

    values: Any
    by: float


def ref_intervals(x: Tensor) -> dict[str, Any]:
    batch, time = batch_and_time(x, 1)
    require_finite(x)
    values = np.moveaxis(exact(x), (batch, time), (0, 1))
    found: dict[tuple[int, ...], list[list[int]]] = {}
    for neuron in np.ndindex(*values.shape[2:]):
        trains = [[t for t, v in enumerate(s[(slice(None), *neuron)]) if v] for s in values]
        found[neuron] = [[b - a for a, b in pairwise(times)] for times in trains]

    def figures(trains: list[list[int]]) -> list[float]:
        several = [train for train in trains if len(train) > 1]
        every = [interval for train in trains for interval in train]
        changes = [[Fraction(abs(b - a), a + b) for a, b in pairwise(train)] for train in several]
        each = [
            [math.sqrt(len(t) * sum(i * i for i in t) - sum(t) ** 2) / sum(t) for t in several],
            [float(2 * sum(c) / len(c)) for c in changes],
            [float(3 * sum(v * v for v in c) / len(c)) for c in changes],
        ]
        means = [math.fsum(e) / len(e) if e else math.nan for e in each]
        return [*means, ratio(sum(every), len(every)) * 0.5, ratio(len(every), len(values))]

    names = ("cv", "cv2", "lv", "mean_interval", "intervals")
    whole = figures([train for trains in found.values() for train in trains])
    maps = np.array([figures(trains) for trains in found.values()], dtype=float).reshape(-1, 5)
    value: dict[str, Any] = dict(zip(names, whole, strict=True))
    for name, entries in zip(names, maps.T, strict=True):
        value[f"{name}_per_neuron"] = entries.reshape(values.shape[2:])
    return {key: Roughly(entry, 1e-12) for key, entry in value.items()}


def ref_fano(x: Tensor, time_dim: int = 1) -> dict[str, Any]:
    counts = magnitudes(x, batch_and_time(x, time_dim)[1:])
    samples = len(counts)
    squares = np.asarray((counts * counts).sum(axis=0), dtype=object)
    total_of(squares)
    sums = np.asarray(counts.sum(axis=0), dtype=object)
    spread = (squares * samples - sums * sums).reshape(-1).tolist()
    each = [ratio(s, n * samples) for s, n in zip(spread, sums.reshape(-1), strict=True)]
    known = [factor for factor in each if not math.isnan(factor)]
    by = 1e-13 * max([as_number(count) for count in counts.reshape(-1)], default=0.0)
    return {
        "fano_factor": Roughly(math.fsum(known) / len(known) if known else math.nan, by),
        "fano_factor_per_neuron": Roughly(np.array(each).reshape(sums.shape), by),
    }


def ref_potentials(x: Tensor, time_dim: int | None = 1) -> dict[str, Any]:
    """Moments from exact fractions; of a window from -1 to 1, and three bins around it."""
    dims = batch_and_time(x, time_dim)
    require_finite(x)
    values = np.moveaxis(exact(x), dims, range(len(dims)))
    rows = values.reshape(math.prod(values.shape[: len(dims)]), *values.shape[len(dims) :])
    flat = rows.reshape(-1).tolist()
    if sum(v * v for v in flat) > LARGEST / 2:
        raise RefusedError

    def moments(given: list[Any]) -> tuple[float, float, float]:
        mean = Fraction(sum(given)) / max(len(given), 1)
        variance = sum((v - mean) ** 2 for v in given) / Fraction(max(len(given), 1))
        inside = ratio(sum(-1 <= v <= 1 for v in given), len(given))
        return (float(mean), math.sqrt(variance), inside) if given else (math.nan,) * 3

    bins = (flat, [v < -3 for v in flat], [-3 <= v < -1 for v in flat], [-1 <= v < 1 for v in flat])
    counts = [sum(b) for b in bins[1:]]
    counts += [sum(1 <= v <= 3 for v in flat), sum(v > 3 for v in flat)]
    largest = max([abs(float(v)) for v in flat], default=0.0)
    by = {"mean": 1e-13 * largest, "std": 1e-6 * (largest + 1), "in_window": 1e-12}
    maps = [moments(rows[(slice(None), *i)].tolist()) for i in np.ndindex(*rows.shape[1:])]
    value = {"histogram": np.array([ratio(count, len(flat)) for count in counts])}
    for number, (key, amount) in enumerate(by.items()):
        value[key] = Roughly(moments(flat)[number], amount)
        entries = np.array([m[number] for m in maps], dtype=float).reshape(rows.shape[1:])
        value[f"{key}_per_neuron"] = Roughly(entries, amount)
    return value


def ref_gradient(x: Tensor, time_dim: int | None = 1) -> dict[str, Any]:
    dims = batch_and_time(x, time_dim)
    require_finite(x)
    values = np.moveaxis(exact(x), dims[1], 0) if time_dim is not None else exact(x)[None]
    steps = [step.reshape(-1).tolist() for step in values]
    squares = [sum(v * v for v in step) for step in steps]
    if any(square > LARGEST / 2 for square in squares):
        raise RefusedError
    norms = [math.sqrt(s) if step else math.nan for s, step in zip(squares, steps, strict=True)]
    last = math.nan
    if steps and steps[0]:
        last = math.inf if squares[-1] else math.nan
        last = norms[-1] / norms[0] if norms[0] else last
    elements = sum(map(len, steps))
    zeros = [step.count(0) for step in steps]
    return {
        "norm": Roughly(math.sqrt(sum(squares)) if elements else math.nan, 0.0),
        "zero_fraction": ratio(sum(zeros), elements),
        "last_to_first": Roughly(last, 0.0),
        "norm_per_step": Roughly(np.array(norms), 0.0),
        "zero_fraction_per_step": np.array([ratio(z, len(steps[0])) for z in zeros]),
    }


def evidence(x: Tensor, readout: str, time_dim: int) -> list[list[list[Any]]]:
    """Of each step and sample the evidence of each class."""
    if x.ndim != 3 or not -3 <= time_dim < 3:
        raise RefusedError
    x = x.movedim(time_dim, 0)
    if x.shape[2] < 2:
        raise RefusedError
    require_finite(x)
    if x.is_floating_point():
        wide = x.to(torch.float64).numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            found = wide.cumsum(0) if readout == "sum" else np.maximum.accumulate(wide, 0)
        if not np.isfinite(found).all():
            raise RefusedError
        return found.tolist()
    values = exact(x)
    if x.dtype is torch.uint64 and any(v >= 2**63 for v in values.reshape(-1)):
        raise RefusedError
    wide_ints = x.dtype in (torch.int64, torch.uint64) and readout == "sum"
    if wide_ints and any(abs(v) * len(values) >= 2**62 for v in values.reshape(-1)):
        raise RefusedError
    add = operator.add if readout == "sum" else np.maximum
    return [step.tolist() for step in accumulate(values, add)]


def right(scores: list[Any], target: int) -> bool:
    return scores.index(max(scores)) == target and max(scores) > min(scores)


def labels(samples: int, classes: int) -> list[int]:
    return [sample % max(classes, 1) for sample in range(samples)]


def targets_for(x: Tensor, time_dim: int = 1) -> Tensor:
    shape = [size for d, size in enumerate(x.shape) if d != time_dim % max(x.ndim, 1)]
    return torch.tensor(labels(shape[0], shape[1]) if len(shape) > 1 else [0], dtype=torch.int64)


def ref_accuracy(x: Tensor, readout: str = "sum", time_dim: int = 1) -> np.ndarray:
    steps = evidence(x, readout, time_dim)
    targets = targets_for(x, time_dim).tolist()
    hits = [[right(s, t) for s, t in zip(step, targets, strict=True)] for step in steps]
    return np.array([ratio(sum(step), len(targets)) for step in hits])


def ref_first_spike(x: Tensor, time_dim: int = 1) -> dict[str, Any]:
    batch, time = batch_and_time(x, time_dim)
    neurons = [size for d, size in enumerate(x.shape) if d not in (batch, time)]
    if len(neurons) != 1 or neurons[0] < 2:
        raise RefusedError
    require_finite(x)
    values = np.moveaxis(exact(x), (batch, time), (0, 1))
    samples, steps, classes = values.shape
    first = [
        [next((t + 1 for t in range(steps) if values[b, t, n]), None) for n in range(classes)]
        for b in range(samples)
    ]
    columns = [[row[n] for row in first] for n in range(classes)]
    seen = [[t for t in column if t is not None] for column in columns]
    every = [t for column in seen for t in column]
    hits = 0
    for row, target in zip(first, targets_for(x, time_dim).tolist(), strict=True):
        order = [math.inf if t is None else t for t in row]
        hits += min(order) < math.inf and order.index(min(order)) == target
    return {
        "time_per_neuron": np.array([ratio(sum(column), len(column)) for column in seen]),
        "never_fraction_per_neuron": np.array(
            [ratio(samples - len(column), samples) for column in seen]
        ),
        "time": ratio(sum(every), len(every)),
        "never_fraction": ratio(samples * classes - len(every), samples * classes),
        "accuracy": ratio(hits, samples),
    }


def ref_first_spike_of_the_layer(x: Tensor) -> dict[str, Any]:
    """Of neurons of any shape, without classes, in seconds."""
    _, time = batch_and_time(x, 1)
    require_finite(x)
    values = np.moveaxis(exact(x), time, 0)
    pairs = list(np.ndindex(values.shape[1:]))
    first = [next((t + 1 for t in range(len(values)) if values[t][pair]), None) for pair in pairs]
    spiking = [step for step in first if step is not None]
    return {
        "time": ratio(sum(spiking), len(spiking)) * 0.5,
        "never_fraction": ratio(len(pairs) - len(spiking), len(pairs)),
        "accuracy": math.nan,
    }


THRESHOLDS = (0.0, 0.5, 0.9, 1.0)


def ref_early_exit(x: Tensor, kind: str = "mean", time_dim: int = 1) -> dict[str, Any] | None:
    """``None`` where a confidence is too close to a threshold to know on which side it falls."""
    steps = evidence(x, "sum", time_dim)
    if not steps:
        raise RefusedError
    targets = targets_for(x, time_dim).tolist()
    taken, hits = [0] * len(THRESHOLDS), [0] * len(THRESHOLDS)
    for b, target in enumerate(targets):
        for k, threshold in enumerate(THRESHOLDS):
            for t, step in enumerate(steps, 1):
                by = t if kind == "mean" else 1
                gaps = [as_number(Fraction(e) - Fraction(max(step[b]))) / by for e in step[b]]
                confidence = 1 / math.fsum(math.exp(max(gap, -1e4)) for gap in gaps)
                if 0 < abs(confidence - threshold) < 1e-9:
                    return None
                if confidence >= threshold or t == len(steps):
                    taken[k] += t
                    hits[k] += right(step[b], target)
                    break
    return {
        "steps": np.array([ratio(n, len(targets)) for n in taken]),
        "accuracy": np.array([ratio(n, len(targets)) for n in hits]),
    }


GAPS = (0.0, 0.5, 2.0, 1e9)


def ref_gap(x: Tensor) -> dict[str, Any]:
    """Exits by the lead of the best class over the second, as sums."""
    steps = evidence(x, "sum", 1)
    if not steps:
        raise RefusedError
    targets = targets_for(x).tolist()
    taken, hits = [0] * len(GAPS), [0] * len(GAPS)
    for b, target in enumerate(targets):
        for k, gap in enumerate(GAPS):
            leads = [sorted(step[b])[-1] - sorted(step[b])[-2] >= gap for step in steps]
            stop = leads.index(True) + 1 if any(leads) else len(steps)
            taken[k] += stop
            hits[k] += right(steps[stop - 1][b], target)
    return {
        "steps": np.array([ratio(n, len(targets)) for n in taken]),
        "accuracy": np.array([ratio(n, len(targets)) for n in hits]),
    }


def ref_cutoff(x: Tensor, readout: str = "sum", time_dim: int = 1) -> dict[str, Any]:
    steps = evidence(x, readout, time_dim)
    if not steps:
        raise RefusedError
    targets = targets_for(x, time_dim).tolist()
    taken = hits = 0
    for b, target in enumerate(targets):
        rights = [right(step[b], target) for step in steps]
        wrong = [t for t, is_right in enumerate(rights, 1) if not is_right]
        taken += min(max(wrong, default=0) + 1, len(steps))
        hits += rights[-1]
    return {"steps": ratio(taken, len(targets)), "accuracy": ratio(hits, len(targets))}


# ------------------------------------------------------------------------------ the cases


@dataclass(frozen=True)
class Case:
    """A public function, the metric of it, and the reference of both."""

    name: str
    argument: str
    function: Callable[..., Any]
    metric: Callable[..., SNNMetric]
    reference: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)  # what the reference is told
    with_targets: bool = False

    def inputs(self, x: Any) -> tuple[Any, ...]:
        if not self.with_targets:
            return (x,)
        time_dim = self.arguments.get("time_dim", 1)
        return (x, targets_for(x, time_dim) if isinstance(x, Tensor) else torch.tensor([0, 1]))

    def make(self) -> SNNMetric:
        return self.metric(**self.arguments)

    def good(self) -> tuple[Any, ...]:
        x = torch.tensor([[[1.0, 0, 1], [0, 1, 1]], [[1, 1, 0], [0, 0, 0]]])
        return self.inputs(x)

    def __str__(self) -> str:
        return self.name


CASES = [
    Case(
        "synops of the layer",
        "activations",
        F.synops,
        sm.SynOps,
        ref_total_synops,
        {"fanout": 3, "sample_time": 0.5, "time_dim": 1, "per_neuron": False},
    ),
    Case(
        "firing_rate of the layer",
        "activations",
        F.firing_rate,
        sm.FiringRate,
        ref_rate_of_the_layer,
        {"dt": 0.25},
    ),
    Case(
        "time_to_first_spike of the layer",
        "preds",
        F.time_to_first_spike,
        sm.TimeToFirstSpike,
        ref_first_spike_of_the_layer,
        {"dt": 0.5, "per_neuron": False},
    ),
    Case(
        "synops",
        "activations",
        F.synops,
        sm.SynOps,
        ref_synops,
        {"fanout": 3, "time_dim": 1},
    ),
    Case(
        "synops without time",
        "activations",
        F.synops,
        sm.SynOps,
        ref_synops,
        {"fanout": 3},
        {"time_dim": None},
    ),
    Case(
        "firing_rate",
        "activations",
        F.firing_rate,
        sm.FiringRate,
        ref_firing_rate,
        {"per_neuron": True, "time_dim": -2},
        {"time_dim": -2},
    ),
    Case(
        "activation_sparsity",
        "activations",
        F.activation_sparsity,
        sm.ActivationSparsity,
        ref_sparsity,
    ),
    Case(
        "silent_neurons",
        "activations",
        F.silent_neurons,
        sm.SilentNeurons,
        ref_silent,
        {"saturation": 0.75, "per_neuron": True},
    ),
    Case(
        "interval_statistics",
        "activations",
        F.interval_statistics,
        sm.IntervalStatistics,
        ref_intervals,
        {"dt": 0.5, "per_neuron": True},
    ),
    Case(
        "fano_factor",
        "activations",
        F.fano_factor,
        sm.FanoFactor,
        ref_fano,
        {"time_dim": -2, "per_neuron": True},
        {"time_dim": -2},
    ),
    *(
        Case(
            f"membrane_statistics with time {time_dim}",
            "potentials",
            F.membrane_statistics,
            sm.MembraneStatistics,
            ref_potentials,
            {"time_dim": time_dim, "window": (-1.0, 1), "bins": 3, "per_neuron": True},
            {"time_dim": time_dim},
        )
        for time_dim in (1, None)
    ),
    *(
        Case(
            f"gradient_statistics with time {time_dim}",
            "gradient",
            F.gradient_statistics,
            sm.GradientStatistics,
            ref_gradient,
            {"time_dim": time_dim},
            {"time_dim": time_dim},
        )
        for time_dim in (1, 0, None)
    ),
    Case("membrane_updates", "potentials", F.membrane_updates, sm.MembraneUpdates, ref_membrane),
    *(
        Case(
            f"membrane_updates from {initial}",
            "potentials",
            F.membrane_updates,
            sm.MembraneUpdates,
            ref_membrane,
            {"initial": initial},
            {"initial": initial},
        )
        for initial in (0.0, 0.1, -1.0, 2.0**53, 2.0**62, 2.0**63, 1e300)
    ),
    Case(
        "accuracy_over_time",
        "preds",
        F.accuracy_over_time,
        sm.AccuracyOverTime,
        ref_accuracy,
        {"time_dim": 0},
        {"time_dim": 0},
        True,
    ),
    Case(
        "accuracy_over_time of the maximum",
        "preds",
        F.accuracy_over_time,
        sm.AccuracyOverTime,
        ref_accuracy,
        {"readout": "max"},
        {"readout": "max"},
        True,
    ),
    Case(
        "time_to_first_spike",
        "preds",
        F.time_to_first_spike,
        sm.TimeToFirstSpike,
        ref_first_spike,
        {"per_neuron": True},
        {},
        True,
    ),
    Case(
        "early_exit by gap",
        "preds",
        F.early_exit,
        sm.EarlyExit,
        ref_gap,
        {"threshold": GAPS, "readout": "sum", "rule": "gap"},
        {},
        True,
    ),
    *(
        Case(
            f"early_exit by {kind}",
            "preds",
            F.early_exit,
            sm.EarlyExit,
            ref_early_exit,
            {"threshold": THRESHOLDS, "readout": kind},
            {"kind": kind},
            True,
        )
        for kind in ("mean", "sum")
    ),
    *(
        Case(
            f"optimal_cutoff of {readout}",
            "preds",
            F.optimal_cutoff,
            sm.OptimalCutoff,
            ref_cutoff,
            {"readout": readout, "time_dim": time_dim},
            {"readout": readout, "time_dim": time_dim},
            True,
        )
        for readout, time_dim in (("sum", 1), ("max", 0))
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
one_of_each = pytest.mark.parametrize(
    "case", list({case.function: case for case in CASES}.values()), ids=str
)


# ----------------------------------------------------------------------------- the inputs


def pool(dtype: torch.dtype) -> list[Any]:
    if dtype is torch.bool:
        return [False, True]
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        wanted = [0, 0, 1, 1, 2, -1, 100, 2**24 + 1, 2**53 + 1, 2**61, 2**62, 2**63 + 5]
        return [v for v in (*wanted, limits.min, limits.max) if limits.min <= v <= limits.max]
    limits_ = torch.finfo(dtype)
    wanted_ = [0.0, -0.0, 1.0, 1.0, 2.0, -1.0, 0.1, 1 / 3, -2.5, limits_.tiny, limits_.max / 64]
    wanted_ += [limits_.smallest_normal / 2, 2.0**24, 2.0**53, 1e300]
    return [v for v in wanted_ if abs(v) <= limits_.max]


NOT_FINITE = [math.nan, math.inf, -math.inf]
shapes = (
    st.tuples(*[st.integers(0, 4)] * 3)
    | st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 3))
    | st.lists(st.integers(0, 3), max_size=5).map(tuple)
)


def plain(values: list[Any], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, dtype=dtype).reshape(shape)


def stepped(x: Tensor) -> Tensor:
    """Every second of twice as many."""
    wide = x.repeat_interleave(2, -1) if x.ndim else x
    return wide[..., ::2] if x.ndim else wide


def transposed(x: Tensor) -> Tensor:
    backwards = tuple(range(x.ndim))[::-1]
    return x.permute(backwards).contiguous().permute(backwards)


def shifted(x: Tensor) -> Tensor:
    return torch.cat([x.reshape(-1)[:1], x.reshape(-1)])[min(x.numel(), 1) :].reshape(x.shape)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def expanded(x: Tensor) -> Tensor:
    """All rows are the first one, in the same memory."""
    return x[:1].expand(x.shape) if x.ndim else x


def negated_view(x: Tensor) -> Tensor:
    return torch._neg_view(-x) if x.is_floating_point() else x


def sparse(x: Tensor) -> Tensor:
    return x if x.dtype in UNSIGNED else x.to_sparse()


def doubled(x: Tensor) -> Tensor:
    """Sparse, and every index is there twice: once with its value, once with zero."""
    if x.dtype in UNSIGNED or not x.ndim:
        return x
    there = x.to_sparse()
    indices = torch.cat([there.indices(), there.indices()], 1)
    values = torch.cat([there.values(), torch.zeros_like(there.values())])
    return torch.sparse_coo_tensor(indices, values, x.shape, check_invariants=False)


def hybrid(x: Tensor) -> Tensor:
    return x if x.dtype in UNSIGNED or x.ndim < 2 else x.to_sparse(1)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": transposed,
    "stepped": stepped,
    "shifted": shifted,
    "flipped": lambda x: x if x.dtype in UNSIGNED else x.flip(tuple(range(x.ndim))),
    "channels_last": channels_last,
    "expanded": expanded,
    "negated_view": negated_view,
    "sparse": sparse,
    "doubled": doubled,
    "hybrid": hybrid,
    "gradient": lambda x: x.clone().requires_grad_() if x.is_floating_point() else x,
    "parameter": lambda x: nn.Parameter(x, requires_grad=False),
}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(REAL))
    shape = draw(shapes)
    chosen = draw(st.sampled_from(["counts", "all", "not finite"]))
    values = pool(dtype)
    if chosen == "counts":
        values = [v for v in values if v in (0, 1, 2, -1)]
    elif chosen == "not finite" and dtype.is_floating_point:
        values = values + NOT_FINITE
    numbers = np.random.default_rng(draw(st.integers(0, 2**16)))
    picked = [values[i] for i in numbers.integers(0, len(values), math.prod(shape))]
    way = WAYS[draw(st.sampled_from(list(WAYS)))]
    with torch.inference_mode(draw(st.booleans()) and "gradient" not in way.__name__):
        x = plain(picked, shape, dtype)
        if x.ndim == 3 and draw(st.integers(0, 9)) == 0:  # beyond the size that is summed at once
            x = x.repeat_interleave(700, draw(st.integers(0, 2)))[:5000]
        return way(x)


def dense(x: Tensor) -> Tensor:
    x = x.detach()
    return (x.to_dense() if x.is_sparse else x).clone()


def close(value: Any, expected: Any, x: Tensor) -> None:
    """Equal: counts but for the last digit of the dtype, graded values to what is documented."""
    if isinstance(expected, dict):
        assert set(value) == set(expected)
        for key, entry in expected.items():
            close(value[key], entry, x)
        return
    value = value.detach()
    roughly = expected if isinstance(expected, Roughly) else None
    expected = np.asarray(expected if roughly is None else roughly.values)
    assert tuple(value.shape) == expected.shape
    if roughly is not None:
        relative = 1e-6 if value.dtype is torch.float32 else 1e-12
        with np.errstate(over="ignore"):
            expected = expected.astype(value.numpy().dtype)
        np.testing.assert_allclose(value.numpy(), expected, relative, roughly.by + 1e-37)
        return
    if expected.dtype == bool:
        assert value.dtype is torch.bool
        np.testing.assert_array_equal(value.numpy(), expected)
        return
    with np.errstate(over="ignore"):  # a float32 result beyond float32 is infinite
        expected = expected.astype(value.numpy().dtype)
    whole = not x.is_floating_point() or bool((x == x.trunc()).all())
    rounding = 4 * torch.finfo(value.dtype).eps
    tolerance = rounding if whole or (value.dtype is torch.float64 and x.numel() < 4096) else 1e-6
    # Where float32 goes without a graded rest, its smallest numbers do as well.
    np.testing.assert_allclose(value.numpy(), expected, rtol=tolerance, atol=1e-37)


def loose_saturation(x: Tensor, expected: Any) -> bool:
    """Whether rounding of graded values may move a rate across the limit."""
    graded = isinstance(expected, dict) and "saturated" in expected
    return graded and x.is_floating_point() and not bool((x == x.trunc()).all())


quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=80,
    phases=[Phase.generate],  # an example is small as it is
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@every_case
@quick
@given(x=tensors())
def test_the_right_number_or_a_refusal_without_a_trace(case: Case, x: Tensor) -> None:
    plain_x = dense(x)
    try:
        expected = case.reference(plain_x, **case.known)
    except RefusedError:
        expected = RefusedError
    inputs = (x, *case.inputs(plain_x)[1:])
    metric = case.make()
    metric.update(*case.good())
    metric.compute()  # so that there is a cached value to lose
    if expected is RefusedError:
        with pytest.raises(REFUSED, match=f"^{case.argument}: "):
            case.function(*inputs, **case.arguments)
        refused_without_trace(metric, inputs, case.argument)
        return
    value = case.function(*inputs, **case.arguments)
    fresh = case.make()
    batch = fresh(*inputs)
    for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
        torch.testing.assert_close(
            batch[key] if key else batch, entry, rtol=0, atol=0, equal_nan=True
        )
    if expected is None or loose_saturation(plain_x, expected):
        return
    close(value, expected, plain_x)
    if fresh.update_called:
        close(fresh.compute(), expected, plain_x)
        assert not any(state.requires_grad for state in fresh.metric_state.values())


def refused_without_trace(metric: SNNMetric, inputs: tuple[Any, ...], argument: str) -> None:
    value = metric.compute()
    before = snapshot(metric)
    for call in (metric.update, metric):
        with pytest.raises(REFUSED, match=f"^{argument}: "):
            call(*inputs)
        assert same(before, snapshot(metric))
    assert same({"": value}, {"": metric.compute()})


@pytest.mark.slow
@every_case
@quick
@given(x=tensors(), seed=st.integers(0, 63))
def test_what_a_mask_leaves_out_does_not_matter(case: Case, x: Tensor, seed: int) -> None:
    plain_x = dense(x)
    time_dim = case.known.get("time_dim", 1)
    sampled = 1 if time_dim is not None and time_dim % max(x.ndim, 1) == 0 else 0
    if case.name == "activation_sparsity":
        sampled = 0
    if x.ndim < 3 or (case.with_targets and x.ndim != 3):
        return
    counted = [bool(seed >> (b % 6) & 1) for b in range(x.shape[sampled])]
    mask = torch.tensor(counted, dtype=torch.bool)
    left = plain_x.index_select(sampled, mask.nonzero().squeeze(1))
    inputs = (x, *case.inputs(plain_x)[1:])
    metric, other = case.make(), case.make()
    try:
        other.update(left, *(t[mask] for t in case.inputs(plain_x)[1:]))
    except REFUSED:
        with pytest.raises(REFUSED, match=f"^{case.argument}: "):
            metric.update(*inputs, mask=mask)
        return
    metric.update(*inputs, mask=mask)
    assert metric.update_count == other.update_count
    assert same(metric.metric_state, other.metric_state)


# ---------------------------------------------------------------------- what is no input


def odd_tensors() -> dict[str, Tensor]:
    """Tensors of dtypes and layouts that nothing can be counted in."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of some of these when they are made
        for dtype in OTHERS:
            x = torch.empty((2, 2, 3), dtype=dtype)
            x.untyped_storage().fill_(0)
            found[str(dtype)] = x
        x = torch.ones(2, 2, 3)
        found["quantised"] = torch.quantize_per_tensor(x, 0.5, 0, torch.qint8)
        found["quantised by channel"] = torch.quantize_per_channel(
            x, torch.ones(2), torch.zeros(2), 0, torch.qint8
        )
        found["CSR"] = x.to_sparse_csr()
        found["CSC"] = x.to_sparse_csc()
        found["BSR"] = torch.ones(2, 2, 2).to_sparse_bsr((1, 1))
        found["mkldnn"] = x.to_mkldnn()
        found["nested"] = torch.nested.nested_tensor([x[0], x[1]])
        found["jagged"] = torch.nested.nested_tensor([x[0], x[1, :1]], layout=torch.jagged)
        for dtype in UNSIGNED:
            found[f"sparse {dtype}"] = torch.sparse_coo_tensor(
                torch.tensor([[0, 0], [0, 0], [1, 1]]),
                torch.ones(2).to(dtype),
                (2, 2, 3),
                check_invariants=False,
            )
    return found


ODD = odd_tensors()


@one_of_each
def test_dtypes_and_layouts_that_nothing_is_counted_in(case: Case) -> None:
    metric = case.make()
    metric.update(*case.good())
    for odd in ODD.values():
        inputs = (odd, *case.good()[1:])
        with pytest.raises(ValueError, match=f"^{case.argument}: expected "):
            case.function(*inputs, **case.arguments)
        refused_without_trace(metric, inputs, case.argument)


NO_TENSORS = {
    "list": [[[1.0, 0.0]]],
    "array": np.ones((2, 2, 3)),
    "None": None,
    "text": "spikes",
    "bytes": b"\x00\x01",
    "bool": True,
    "int": 3,
    "complex": 1j,
    "huge": 10**400,
    "object": object(),
    "class": Tensor,
}


@one_of_each
def test_what_is_no_tensor(case: Case) -> None:
    metric = case.make()
    metric.update(*case.good())
    for bad in NO_TENSORS.values():
        inputs = (bad, *case.good()[1:])
        with pytest.raises(TypeError, match=f"^{case.argument}: expected a torch.Tensor"):
            case.function(*inputs, **case.arguments)
        refused_without_trace(metric, inputs, case.argument)


BAD_TARGETS = {
    **{name: value for name, value in NO_TENSORS.items() if name != "None"},
    **{name: ODD[name] for name in ODD},
    "float": torch.tensor([0.0, 1.0]),
    "boolean": torch.tensor([False, True]),
    "too few": torch.tensor([0]),
    "too many": torch.tensor([0, 1, 2]),
    "column": torch.tensor([[0], [1]]),
    "no dimension": torch.tensor(0),
    "negative": torch.tensor([0, -1]),
    "no class": torch.tensor([0, 3]),
    "huge": torch.tensor([0, 2**63 - 1]),
    "beyond int64": torch.tensor([0, 2**64 - 1], dtype=torch.uint64),
    "elsewhere": torch.tensor([0, 1], device="meta"),
}


@pytest.mark.parametrize("case", [c for c in CASES if c.with_targets], ids=str)
def test_bad_targets(case: Case) -> None:
    metric = case.make()
    metric.update(*case.good())
    for targets in BAD_TARGETS.values():
        inputs = (case.good()[0], targets)
        with pytest.raises(REFUSED, match=r"^target: expected "):
            case.function(*inputs, **case.arguments)
        refused_without_trace(metric, inputs, "target")


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("case", [c for c in CASES if c.with_targets], ids=str)
def test_targets_of_any_integer_dtype_and_stride(case: Case, dtype: torch.dtype) -> None:
    x, targets = case.good()
    expected = case.function(x, targets, **case.arguments)
    backwards = torch.stack([targets, targets], 1).to(dtype)[:, 1]
    found = case.function(x, backwards, **case.arguments)
    assert same({"": expected}, {"": found})


# ----------------------------------------------------------------------------- arguments

HUGE = 10**400
NO_NUMBERS = ["1", b"1", None, True, 1j, [1.0], (1.0,), np.ones(2), torch.tensor(1.0), object()]
NO_DIMS = ["1", 1.0, True, None, 1j, [1], np.int64(1), torch.tensor(1), object()]
NO_BOOLS = ["yes", 1, 0, None, 1.0, [True], np.bool_(True), torch.tensor(True)]
NOT_POSITIVE = [0, 0.0, -0.0, -1, -1e-300, HUGE, -HUGE, *NOT_FINITE, Fraction(1, HUGE)]
BAD_RANGES = [
    *(*NO_NUMBERS, 1.0, 0, "01", b"01", (), (0.0,), (0.0, 1.0, 2.0), {0.0, 1.0}, {0.0: 1.0}),
    *(("0", "1"), (False, True), (None, 1.0), (0.0, 1j), range(2), np.array([0.0, 1.0])),
    *((1.0, 0.0), (1, 1), (0.0, -0.0), (0.0, HUGE), (-HUGE, 0.0), (-1e308, 1e308)),
    *((0.0, bad) for bad in NOT_FINITE),
]
BAD_ARGUMENTS: dict[str, list[Any]] = {
    "time_dim": [*NO_DIMS, 10**30],
    "dt": [*(v for v in NO_NUMBERS if v is not None), *NOT_POSITIVE],
    "sample_time": [*(v for v in NO_NUMBERS if v is not None), *NOT_POSITIVE],
    "saturation": [*NO_NUMBERS, *NOT_POSITIVE],
    "initial": [
        *(v for v in NO_NUMBERS if v is not None),
        *(HUGE, -HUGE, Fraction(HUGE), 2**53 + 1, *NOT_FINITE),
    ],
    "per_neuron": NO_BOOLS,
    "bins": [*NO_NUMBERS, 3.0, 0, -1, -HUGE, 2**16 + 1, HUGE, *NOT_FINITE],
    "window": BAD_RANGES,
    "range": [bad for bad in BAD_RANGES if bad is not None],
    "readout": [
        *("last", b"sum", None, True, ["sum"], ("sum", "max"), np.array(["sum", "max"])),
        *(np.array(["sum", "x"]), torch.tensor([1, 2])),
    ],
    "rule": ["entropy", b"gap", None, True, ["gap"], ("gap",), np.array(["gap", "x"])],
    "num_classes": [
        *(v for v in NO_NUMBERS if v is not None),
        *(0, 1, -2, -HUGE, 2.0, 1.5, *NOT_FINITE),
    ],
    "threshold": [
        *(v for v in NO_NUMBERS if not isinstance(v, list | tuple | Tensor)),
        *("", b"", bytearray(b"\x01"), [], (), [[0.5]], [0.5, "1"], [True], range(3), [HUGE]),
        *(HUGE, -HUGE, -1e-9, 1.1, *NOT_FINITE, [0.5, math.nan]),
        *(torch.tensor([]), torch.tensor([[0.5]]), torch.tensor([0.5, math.nan])),
        *(torch.tensor(True), torch.tensor(1j), torch.tensor(0.5, device="meta"), *ODD.values()),
    ],
    "fanout": [
        *(v for v in NO_NUMBERS if not isinstance(v, Tensor)),
        *(HUGE, -1, -1e-9, *NOT_FINITE),
        *(torch.tensor(-1.0), torch.tensor([1.0, math.nan, 1.0]), torch.tensor(True)),
        *(torch.tensor(1j), torch.tensor(1.0, device="meta"), *ODD.values()),
    ],
}
HAS = {
    F.synops: ["fanout", "sample_time", "time_dim", "per_neuron"],
    F.firing_rate: ["time_dim", "dt", "per_neuron"],
    F.silent_neurons: ["time_dim", "saturation", "per_neuron"],
    F.membrane_updates: ["time_dim", "initial"],
    F.interval_statistics: ["time_dim", "dt", "per_neuron"],
    F.fano_factor: ["time_dim", "per_neuron"],
    F.membrane_statistics: ["time_dim", "window", "bins", "range", "per_neuron"],
    F.gradient_statistics: ["time_dim"],
    F.accuracy_over_time: ["readout", "time_dim", "num_classes"],
    F.optimal_cutoff: ["readout", "time_dim", "num_classes"],
    F.time_to_first_spike: ["time_dim", "dt", "per_neuron"],
    F.early_exit: ["threshold", "time_dim", "readout", "rule", "num_classes"],
}


STEP_BY_STEP = (
    *(F.synops, F.firing_rate, F.silent_neurons),
    *(F.membrane_statistics, F.gradient_statistics),
)


@pytest.mark.parametrize(
    ("case", "argument"),
    [(c, a) for c in {c.function: c for c in CASES}.values() for a in HAS.get(c.function, [])],
    ids=str,
)
def test_bad_arguments_of_functions_and_metrics(case: Case, argument: str) -> None:
    for bad in BAD_ARGUMENTS[argument]:
        if bad is None and argument == "time_dim" and case.function in STEP_BY_STEP:
            continue  # one step per update
        arguments = case.arguments | {argument: bad}
        # A dimension that the activations lack is seen with them.
        seen_late = argument == "time_dim" and type(bad) is int
        named = f"{case.argument}: .*time" if seen_late else f"{argument}: "
        with pytest.raises(REFUSED, match=f"^{named}"):
            case.function(*case.good(), **arguments)
        if not seen_late:
            with pytest.raises(REFUSED, match=f"^{named}"):
                case.metric(**arguments)
            continue
        metric = case.metric(**arguments)
        with pytest.raises(ValueError, match=f"^{named}"):
            metric.update(*case.good())
        assert not metric.update_called


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_fanout_maps_of_any_dtype_and_stride(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    for fanout in (
        torch.tensor([3, 1, 2], dtype=dtype),
        torch.tensor([[3, 0], [1, 0], [2, 0]], dtype=dtype)[:, 0],
        torch.tensor([[3], [1], [2]], dtype=dtype).T[0],
    ):
        value = F.synops(x, fanout)
        assert value["synops_per_neuron"].tolist() == [3.0, 1.0, 3.0]
        metric = sm.SynOps(fanout)
        metric.update(x)
        assert metric.compute()["synops"].item() == 7.0


def test_a_fanout_of_minus_zero_is_zero() -> None:
    for zero in (-0.0, torch.tensor(-0.0)):
        metric = sm.SynOps(zero)
        metric.merge_state(sm.SynOps(0.0))
        value = metric(torch.ones(2, 3))["synops_per_neuron"]
        assert not value.signbit().any()


def test_totals_beyond_float64_are_refused_also_of_several_neurons() -> None:
    x = torch.tensor([[[1e308, 1e308]]], dtype=torch.float64)
    for function, arguments in (
        (F.synops, {"fanout": 1.0, "time_dim": 1}),
        (F.synops, {"fanout": 1.0, "time_dim": 1, "per_neuron": False}),
        (F.firing_rate, {"per_neuron": True}),
        (F.firing_rate, {}),
    ):
        with pytest.raises(ValueError, match=r"^activations: .*beyond float64"):
            function(x, **arguments)


def test_sums_of_large_integers_do_not_wrap_around() -> None:
    """Of 2**62 twice int64 makes -2**63: the other class would be predicted."""
    outputs, targets = torch.tensor([[[2**62, 1], [2**62, 1]]]), torch.tensor([0])
    for function, arguments in ((F.accuracy_over_time, {}), (F.early_exit, {"threshold": 0.5})):
        with pytest.raises(ValueError, match=r"^preds: .* 2\*\*62 / T"):
            function(outputs, targets, **arguments)
        function(outputs // 8, targets, **arguments)
    assert F.accuracy_over_time(outputs, targets, "max").tolist() == [1.0, 1.0]


def test_potentials_that_are_large_integers_are_told_from_the_initial_one() -> None:
    for dtype, value in ((torch.int64, 2**53 + 1), (torch.uint64, 2**63 + 1)):
        for potential, changes in ((value, 1), (value - 1, 0)):
            potentials = torch.full((1, 1, 1), potential, dtype=dtype)
            assert F.membrane_updates(potentials, initial=float(value - 1)) == changes


# ------------------------------------------------------------- kinds, layers, whole models


@one_of_each
@quick
@given(x=tensors())
def test_a_view_shows_what_the_metric_counts_and_refuses_the_same(case: Case, x: Tensor) -> None:
    metric, twin = case.make(), case.make()
    value = metric(*case.good())
    keys = [k for k, v in value.items() if v.ndim == 0] if isinstance(value, dict) else []
    if not keys:
        return  # nothing to view
    key = keys[0]
    view, inputs = sm.ScalarView(metric, key), (x, *case.inputs(dense(x))[1:])
    twin.update(*case.good())
    before = snapshot(metric)
    try:
        expected = twin(*inputs)
    except REFUSED as error:
        for call in (view.update, view):
            with pytest.raises(type(error), match=f"^{case.argument}: "):
                call(*inputs)
            assert same(before, snapshot(metric))
        return
    assert same({"": view(*inputs)}, {"": expected[key]})
    assert same({"": view.compute()}, {"": twin.compute()[key]})


class Dense(nn.Module):
    """A layer that takes whatever a test has."""

    def __init__(self, inputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, 2, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


@settings(quick, max_examples=300)
@given(
    x=tensors(),
    per_neuron=st.booleans(),
    per_sample=st.booleans(),
    differentiable=st.booleans(),
)
def test_a_monitored_layer_is_counted_rightly_or_refuses_without_a_trace(
    x: Tensor, per_neuron: bool, per_sample: bool, differentiable: bool
) -> None:
    if x.is_sparse or not x.is_floating_point() or x.ndim < 2 or not x.shape[-1]:
        return  # nn.Linear takes none of these
    model = Dense(x.shape[-1], x.dtype)
    options = {"per_neuron": per_neuron, "per_sample": per_sample, "differentiable": differentiable}
    monitor = sm.Monitor(model, batch_dim=0, **options)  # type: ignore[arg-type]
    first = torch.ones(1, *x.shape[1:], dtype=x.dtype)
    with monitor:
        model(first)
    before, values = monitor.compute(), dense(x)
    finite = bool(values.to(torch.float64).isfinite().all())
    magnitudes = [sum(abs(v) for v in exact(one).reshape(-1).tolist()) for one in values if finite]
    refusal = None
    with monitor, torch.inference_mode(x.is_inference()):
        try:
            model(x)
        except ValueError as error:
            refusal = str(error)
    if refusal is not None or not finite:
        # Of finite ones shapes may not tell whose a vector is, or squares are beyond float64.
        assert refusal is not None
        assert refusal.startswith("per_sample: " if finite else "fc: input of shape ")
        assert per_sample or not finite
        assert monitor.compute() == before
        return
    report = monitor.compute()
    counts = add_counts(report.layers_data["fc"].counts.values())
    graded = any(v != int(v) for v in exact(values).reshape(-1).tolist())
    expected = 2 * (sum(magnitudes) + first.numel())
    assert counts.synops == pytest.approx(float(expected), rel=1e-6 if graded else 1e-12)
    assert counts.elements == x.numel() + first.numel()
    assert counts.events == sum(v != 0 for v in exact(values).reshape(-1)) + first.numel()
    row = report.layers["fc"]
    if per_sample and row.synops is not None:
        largest = 2 * max([first.numel(), *magnitudes])
        assert row.max == pytest.approx(float(largest), rel=1e-12)
    if per_neuron and row.synops_per_neuron is not None:
        assert row.synops_per_neuron.sum() * report.samples == pytest.approx(
            counts.synops, rel=1e-12
        )


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_kinds_of_any_dtype(dtype: torch.dtype) -> None:
    for values, kind in (([], 0), ([0, 1], 0), ([0, 1, 2], 2), ([0, 1, 200], 2)):
        if dtype is not torch.bool and not (dtype is torch.int8 and 200 in values):
            assert kind_of(torch.tensor(values, dtype=dtype)) == kind
    if dtype.is_signed:
        assert kind_of(torch.tensor([0, -1], dtype=dtype)) == 1
    if not dtype.is_floating_point and dtype is not torch.bool:
        largest = torch.iinfo(dtype).max
        kind = 2 if largest <= 65_536 else 3
        assert kind_of(torch.tensor([largest], dtype=dtype)) == kind


@pytest.mark.parametrize(
    "shape",
    [
        *("3", b"\x03", bytearray(b"\x03"), None, 3, {3}, frozenset({3}), {3: 1}, [], (), (0,)),
        *((-3,), (3.0,), (True,), ("3",), (1j,), (None,), ([3],), torch.tensor(3), torch.ones(1)),
        *(np.ones(1), (HUGE,), (2**70, 3), (2**63, 3), (2**40, 2**40, 3), (3,) * 70, (math.nan,)),
        *((2,), (3, 2)),
    ],
    ids=lambda shape: repr(shape)[:30],
)
def test_shapes_that_are_none(shape: Any) -> None:
    for layer in (nn.Linear(3, 2), nn.Sequential(nn.Identity(), nn.Linear(3, 2))):
        with pytest.raises(ValueError, match=r"^input_shape: expected "):
            sm.fanout(layer, shape)


@pytest.mark.parametrize(
    "shape", [[3], (np.int64(3),), torch.Size([3]), torch.tensor([3])], ids=str
)
def test_shapes_that_are_some(shape: Any) -> None:
    assert sm.fanout(nn.Linear(3, 2), shape).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("effective", NO_BOOLS, ids=repr)
def test_effective_is_true_or_false(effective: Any) -> None:
    with pytest.raises(TypeError, match=r"^effective: expected True or False"):
        sm.fanout(nn.Linear(3, 2), (3,), effective=effective)


conv_sizes = st.integers(1, 3)


@quick
@given(
    sizes=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    kernel=st.tuples(conv_sizes, conv_sizes),
    stride=st.tuples(conv_sizes, conv_sizes),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**16),
)
def test_fanout_of_any_convolution_is_right_or_refused(
    sizes: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    seed: int,
) -> None:
    """Weights are NaN, infinite, denormal, zero or minus zero: all but zeros are synapses."""
    layer = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups)
    numbers = np.random.default_rng(seed)
    values = np.array([math.nan, math.inf, -math.inf, 1e-45, 0.0, -0.0, 1.0], dtype=np.float32)
    weight = numbers.choice(values, tuple(layer.weight.shape))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    if min(sizes) < 1 or min(out) < 1:
        with pytest.raises(ValueError, match=r"^input_shape: expected "):
            sm.fanout(layer, (2, *sizes))
        return
    for effective in (False, True):
        expected = np.zeros((2, *sizes))
        present = (weight != 0) | (not effective)
        for o, i in product(range(4), range(2 // groups)):
            channel = o // (4 // groups) * (2 // groups) + i
            for y, x, a, b in product(*map(range, (*out, *kernel))):
                row = y * stride[0] - padding[0] + a * dilation[0]
                column = x * stride[1] - padding[1] + b * dilation[1]
                if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
                    expected[channel, row, column] += present[o, i, a, b]
        found = sm.fanout(layer, (2, *sizes), effective=effective)
        np.testing.assert_array_equal(found.numpy(), expected)


FIGURES = (sm.connection_sparsity, sm.footprint, sm.parameter_count)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
def test_what_is_no_model(figure: Callable[[Any], float]) -> None:
    for bad in (*NO_TENSORS.values(), torch.ones(2, 2), nn.Linear, [nn.Linear(2, 2)], {}):
        with pytest.raises(TypeError, match=r"^model: expected a torch.nn.Module"):
            figure(bad)
        with pytest.raises(TypeError, match=r"^layer: expected a torch.nn.Module"):
            sm.fanout(bad, (2,))


def holding(weight: Tensor) -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(weight, requires_grad=False)
    return model


@quick
@given(x=tensors())
def test_figures_of_models_with_any_weights(x: Tensor) -> None:
    """NaN and infinity are no zeros; -0.0 is one."""
    values = [0 if v == 0 else 1 for v in dense(x).reshape(-1).tolist()]
    model = holding(x.detach())
    assert sm.parameter_count(model) == len(values)
    if not x.is_sparse:
        assert sm.footprint(model) == len(values) * x.element_size()
    if x.ndim < 2 or not values:
        with pytest.raises(ValueError, match=r"^model: expected weights"):
            sm.connection_sparsity(model)
    else:
        assert sm.connection_sparsity(model) == values.count(0) / len(values)


@pytest.mark.parametrize("odd", [name for name in sorted(ODD) if "torch.q" not in name])
def test_weights_of_odd_dtypes_and_layouts(odd: str) -> None:
    model = holding(ODD[odd])
    ones = ("CSR", "CSC", "BSR", "mkldnn", "jagged", "quantised", "quantised by channel")
    if odd in ones or odd == "torch.float8_e8m0fnu":  # which has powers of two and no zero
        assert sm.connection_sparsity(model) == 0.0
    elif odd.startswith(("torch.float8", "torch.complex", "torch.bcomplex")):
        assert sm.connection_sparsity(model) == 1.0
    else:
        with pytest.raises(ValueError, match=r"^model: connection sparsity needs weights that"):
            sm.connection_sparsity(model)
