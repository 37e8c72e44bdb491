"""A monitored model against counting by hand, over random models that note their own operations."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.random_models import COUNTED, Capture, Case, Counts, cases, synapses

MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.slow
COMPARED = (*COUNTED, "acs", "macs")


# ------------------------------------------------------------------------- the truth itself


def by_unit_vectors(capture: Capture, weight: Tensor) -> Tensor:
    """Taps of each input element of a frame: every unit vector through the operation."""
    shape = capture.input.shape[-1:] if capture.operation == "linear" else capture.input.shape[1:]
    units = torch.eye(shape.numel(), dtype=torch.float64).reshape(-1, *shape)
    if capture.operation == "linear":
        outputs = F.linear(units, weight)
    elif capture.operation == "conv":
        amounts = [amount for amount in reversed(capture.padding) for _ in range(2)]
        mode = "constant" if capture.padding_mode == "zeros" else capture.padding_mode
        convolve = (F.conv1d, F.conv2d)[len(shape) - 2]
        padded = F.pad(units, amounts, mode)
        outputs = convolve(
            padded, weight, None, capture.stride, 0, capture.dilation, capture.groups
        )
    else:
        convolve = (F.conv_transpose1d, F.conv_transpose2d)[len(shape) - 2]
        outputs = convolve(
            units,
            weight,
            None,
            capture.stride,
            capture.padding,
            capture.output_padding,
            capture.groups,
            capture.dilation,
        )
    return outputs.flatten(1).sum(1).reshape(shape)


@MANY
@given(cases())
def test_counting_by_hand_equals_unit_vectors(case: Case) -> None:
    with torch.no_grad():
        case.forward(case.inputs)
    for capture in case.captures:
        fanout, effective, _ = synapses(capture)
        ones = torch.ones_like(capture.weight, dtype=torch.float64)
        assert torch.equal(torch.from_numpy(fanout).double(), by_unit_vectors(capture, ones))
        nonzero = (capture.weight != 0).double()
        assert torch.equal(torch.from_numpy(effective).double(), by_unit_vectors(capture, nonzero))


@settings(MANY, max_examples=50)
@given(cases())
def test_a_cut_batch_passes_the_same_values(case: Case) -> None:
    """So what is counted must not depend on the cut either."""
    rows = []
    for size in (1, 3, len(case.inputs)):
        case.captures.clear()
        with torch.no_grad():
            for batch in case.inputs.split(size):
                case.forward(batch)
        rows.append(case.rows())
    assert rows[0] == rows[1] == rows[2]


# -------------------------------------------------------------------------------- Monitor


def monitored(case: Case, size: int) -> sm.Report:
    case.captures.clear()
    monitor = sm.Monitor(case.model, batch_dim=0)
    with monitor, torch.no_grad():
        for batch in case.inputs.split(size):
            case.forward(batch)
    return monitor.compute()


def rows_of(report: sm.Report, modules: list[str]) -> dict[str, list[str]]:
    """Names of rows by the module whose operations they are, in order of appearance."""
    rows: dict[str, list[str]] = {module: [] for module in modules}
    for row in report.layers:
        owners = [m for m in modules if row == m or row.startswith(f"{m}.")]
        assert owners, f"{row} is no module with an operation"
        rows[max(owners, key=len)].append(row)
    return rows


def assert_row(report: sm.Report, name: str, expected: Counts) -> None:
    row, counts = report.layers[name], report.counts()[name]
    assert row.kind == expected["kind"]
    assert {key: counts[key] for key in COMPARED} == {key: expected[key] for key in COMPARED}
    for key in (
        "synops",
        "event_synops",
        "effective_synops",
        "dense_synops",
        "dense_macs",
        "acs",
        "macs",
    ):
        total = expected[key]
        assert getattr(row, key) == (None if total is None else total / report.samples)


@MANY
@given(cases())
def test_every_count_equals_counting_by_hand(case: Case) -> None:
    report = monitored(case, len(case.inputs))
    expected = case.rows()
    assert report.samples == len(case.inputs)
    # A weight that a mask makes in the forward is counted; its parameter may still be listed.
    masked = {n for n, m in case.model.named_modules() if getattr(m, "masked", False)}
    masked |= {type(case.model).__name__} if "" in masked else set()
    assert {entry.name for entry in report.uncounted} <= masked
    named = rows_of(report, list(expected))
    for module, rows in expected.items():
        assert len(named[module]) == len(rows)
        for name, row in zip(named[module], rows, strict=True):
            assert_row(report, name, row)
    layers = dict(case.model.named_modules())
    assert all(named[n] == [n] for n in named if isinstance(layers.get(n), nn.Linear | nn.Conv2d))
    every = [row for rows in expected.values() for row in rows]
    for key in ("dense_synops", "dense_macs", "acs", "macs"):
        assert getattr(report.total, key) == sum(row[key] for row in every) / report.samples
    spiking = [row for row in every if row["synops"] is not None]
    for key in ("synops", "effective_synops"):  # over the same layers
        total = sum(row[key] for row in spiking)
        assert getattr(report.total, key) == (total / report.samples if spiking else None)


def data_of(report: sm.Report) -> dict[str, Any]:
    """Everything but the number of calls, which the cut decides."""
    counts = report.counts()
    for layer in counts.values():
        layer.pop("calls", None)
    return {
        "counts": counts,
        "layers": {name: _fields(row) for name, row in report.layers.items()},
        "neurons": {name: _fields(row) for name, row in report.neurons.items()},
        "total": _fields(report.total),
        "samples": report.samples,
        "steps": report.steps,
        "uncounted": [_fields(entry) for entry in report.uncounted],
    }


def _fields(row: Any) -> dict[str, Any]:
    """Fields of a row; NaN, which a row of nothing has, as text."""
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {
        name: "nan" if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
        if name != "calls"
    }


@pytest.mark.parametrize("size", [1, 3])
@settings(MANY, max_examples=50)
@given(case=cases())
def test_the_cut_into_batches_does_not_matter(case: Case, size: int) -> None:
    at_once = monitored(case, len(case.inputs))
    assert data_of(monitored(case, size)) == data_of(at_once)
