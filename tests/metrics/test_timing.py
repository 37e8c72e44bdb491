from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import snnmetrics as sm
from tests.helpers.metric_trials import Batch, MetricTrials, bad_targets

pytestmark = pytest.mark.versions


def accuracy_by_hand(outputs: np.ndarray, targets: np.ndarray, readout: str) -> np.ndarray:
    """Outputs (B, T, C), sample by sample and step by step, in Python floats."""
    samples, steps, classes = outputs.shape
    right = np.zeros(steps)
    for b in range(samples):
        evidence = [0.0] * classes if readout == "sum" else [-math.inf] * classes
        for t in range(steps):
            for c in range(classes):
                value = float(outputs[b, t, c])
                if readout == "sum":
                    evidence[c] += value
                else:
                    evidence[c] = max(evidence[c], value)
            decided = len(set(evidence)) > 1
            right[t] += decided and evidence.index(max(evidence)) == int(targets[b])
    return right / samples


class AccuracyTrials(MetricTrials):
    metric_class = sm.AccuracyOverTime
    function = staticmethod(sm.functional.accuracy_over_time)
    steps, classes = 5, 3
    order: ClassVar[tuple[int, ...]] = (0, 1, 2)  # where batch, time and class go

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.steps, self.classes)
        outputs = torch.randint(-1, 2, size, generator=generator).float()
        targets = torch.randint(0, self.classes, (samples,), generator=generator)
        return outputs.permute(self.order).contiguous(), targets

    def reference(self, batches: list[Batch]) -> np.ndarray:
        back = [self.order.index(d) for d in range(3)]
        outputs = torch.cat([batch[0].permute(back) for batch in batches]).numpy()
        targets = torch.cat([batch[1] for batch in batches]).numpy()
        return accuracy_by_hand(outputs, targets, self.metric_args.get("readout", "sum"))

    def bad_batches(self) -> list[tuple[Batch, str]]:
        outputs, targets = self.batch(4, 0)
        nan = outputs.clone()
        nan[1, 1, 1] = math.nan
        time = self.order.index(1)
        return [
            ((nan, targets), "preds: expected finite"),
            ((outputs[0], targets), r"preds: expected shape \(B, T, C\)"),
            (
                (outputs.narrow(time, 0, 4), targets),
                r"expected number of time steps \(5,\).*found \(4,\)",
            ),
            ((outputs.to(torch.complex64), targets), "preds: expected a real dtype"),
            *bad_targets(outputs, targets),
            ((outputs.to("meta"), targets.to("meta")), "preds: expected a tensor on cpu"),
        ]


class TestAccuracyOfSums(AccuracyTrials):
    other_args: ClassVar = {"readout": "max"}


class TestAccuracyOfMaxima(AccuracyTrials):
    metric_args: ClassVar = {"readout": "max"}
    other_args: ClassVar = {"readout": "sum"}


class TestAccuracyTimeFirst(AccuracyTrials):
    order: ClassVar = (1, 0, 2)
    metric_args: ClassVar = {"time_dim": 0}
    other_args: ClassVar = {"time_dim": -3}


class TestAccuracyTimeLast(AccuracyTrials):
    order: ClassVar = (0, 2, 1)
    metric_args: ClassVar = {"time_dim": -1}
    other_args: ClassVar = {"time_dim": 2}


class TestAccuracyOfOneStep(AccuracyTrials):
    """The result stays (1,)."""

    steps = 1
    other_args: ClassVar = {"readout": "max"}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        outputs, targets = self.batch(4, 0)
        return [
            (
                (outputs.repeat(1, 2, 1), targets),
                r"expected number of time steps \(1,\).*found \(2,\)",
            )
        ]


def test_latency_is_the_same_class() -> None:
    assert sm.Latency is sm.AccuracyOverTime


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_spike_counts_in_any_dtype(dtype: torch.dtype) -> None:
    """300 steps: more than uint8 and bfloat16 can count."""
    outputs = (torch.rand(6, 300, 4) < 0.5).to(dtype)
    targets = torch.randint(0, 4, (6,))
    value = sm.functional.accuracy_over_time(outputs, targets)
    expected = accuracy_by_hand(outputs.numpy(), targets.numpy(), "sum")
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6)


def test_a_step_without_evidence_is_wrong_and_of_a_tie_the_first_wins() -> None:
    silent_then_tie = torch.tensor([[[0, 0, 0], [0, 1, 1]]])
    for target, expected in [(0, [0, 0]), (1, [0, 1]), (2, [0, 0])]:
        for readout in ("sum", "max"):
            value = sm.functional.accuracy_over_time(
                silent_then_tie, torch.tensor([target]), readout
            )
            assert value.tolist() == expected


def test_sparse_outputs() -> None:
    outputs = torch.randint(0, 2, (3, 4, 5)).float()
    targets = torch.tensor([0, 1, 2])
    dense = sm.functional.accuracy_over_time(outputs, targets)
    assert torch.equal(sm.functional.accuracy_over_time(outputs.to_sparse(), targets), dense)


@pytest.mark.parametrize("targets_dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_targets_of_any_integer_dtype(targets_dtype: torch.dtype) -> None:
    outputs = torch.randint(0, 2, (3, 4, 5))
    targets = torch.tensor([0, 4, 2])
    expected = sm.functional.accuracy_over_time(outputs, targets)
    value = sm.functional.accuracy_over_time(outputs, targets.to(targets_dtype))
    assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"readout": "mean"}, ValueError),
        ({"readout": None}, ValueError),
        ({"time_dim": "1"}, TypeError),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(kwargs))):
        sm.AccuracyOverTime(**kwargs)
    with pytest.raises(error, match=next(iter(kwargs))):
        sm.functional.accuracy_over_time(torch.ones(1, 2, 3), torch.tensor([0]), **kwargs)


def test_one_class_and_a_dimension_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        sm.functional.accuracy_over_time(torch.ones(1, 2, 1), torch.tensor([0]))
    with pytest.raises(ValueError, match="time_dim=3"):
        sm.functional.accuracy_over_time(torch.ones(1, 2, 3), torch.tensor([0]), time_dim=3)


def test_bad_values_on_an_accelerator_poison_the_sum() -> None:
    """``meta`` has no values, so the state is poisoned by hand the way the update would."""
    metric = sm.AccuracyOverTime()
    metric.update(torch.ones(2, 3, 4), torch.tensor([0, 1]))
    metric.right = metric.right + math.nan
    with pytest.raises(ValueError, match="found another"):
        metric.compute()


def test_targets_in_any_form() -> None:
    outputs = torch.randint(0, 2, (3, 4, 5))
    targets = torch.tensor([0, 4, 2])
    expected = sm.functional.accuracy_over_time(outputs, targets)
    for form in (targets.to(torch.uint16), targets.to(torch.uint64), targets.to_sparse()):
        assert torch.equal(sm.functional.accuracy_over_time(outputs, form), expected)
