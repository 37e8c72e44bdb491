"""The step from which samples stay right, and population codes, against explicit loops."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import snnmetrics as sm
from snnmetrics.functional import accuracy_over_time, early_exit, optimal_cutoff
from tests.helpers.metric_trials import Batch, Elsewhere, MetricTrials, bad_targets


def by_hand(outputs: np.ndarray, targets: np.ndarray, readout: str) -> tuple[float, float]:
    """Outputs (B, T, C): sums of steps and of samples that are right at the end."""
    steps = right = 0
    for sample, target in zip(outputs, targets, strict=True):
        rights = []
        for t in range(len(sample)):
            seen = [
                sum(column[: t + 1]) if readout == "sum" else max(column[: t + 1])
                for column in sample.T.tolist()
            ]
            rights.append(len(set(seen)) > 1 and seen.index(max(seen)) == int(target))
        first = len(sample)
        for t in range(len(sample) - 1, -1, -1):
            if not rights[t]:
                break
            first = t + 1
        steps += first
        right += rights[-1]
    return steps, right


class CutoffTrials(MetricTrials):
    metric_class = sm.OptimalCutoff
    function = staticmethod(optimal_cutoff)
    metric_args: ClassVar[dict[str, Any]] = {}
    other_args: ClassVar[dict[str, Any]] = {"readout": "max"}
    steps, classes = 5, 3
    order: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.steps, self.classes)
        outputs = torch.randint(-2, 4, size, generator=generator).float()
        targets = torch.randint(0, self.classes, (samples,), generator=generator)
        targets %= self.metric_args.get("num_classes", self.classes)
        return outputs.permute(self.order).contiguous(), targets

    def reference(self, batches: list[Batch]) -> dict[str, np.ndarray]:
        back = [self.order.index(d) for d in range(3)]
        sums, samples = np.zeros(2), 0
        for outputs, targets in batches:
            array = outputs.permute(back).numpy()
            groups = self.metric_args.get("num_classes")
            if groups is not None:
                width = self.classes // groups
                parts = [array[:, :, width * g : width * (g + 1)].sum(2) for g in range(groups)]
                array = np.stack(parts, 2)
            sums += by_hand(array, targets.numpy(), self.metric_args.get("readout", "sum"))
            samples += len(targets)
        steps, accuracy = sums / samples
        return {"steps": np.array(steps), "accuracy": np.array(accuracy)}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        outputs, targets = self.batch(4, 0)
        nan = outputs.clone()
        nan[1, 1, 1] = math.nan
        time, classes = self.order.index(1), self.order.index(2)
        return [
            ((nan, targets), "preds: expected finite"),
            ((outputs[0], targets), r"preds: expected shape \(B, T, C\)"),
            ((outputs.narrow(time, 0, 0), targets), "preds: expected at least 1 time step"),
            ((outputs.narrow(classes, 0, 1), targets), "preds: expected at least 2 classes"),
            *bad_targets(outputs, targets),
        ]


class TestOptimalCutoff(CutoffTrials):
    pass


class TestOptimalCutoffOfMaxima(CutoffTrials):
    metric_args: ClassVar = {"readout": "max"}
    other_args: ClassVar = {"readout": "sum"}


class TestOptimalCutoffTimeFirst(CutoffTrials):
    order: ClassVar = (1, 0, 2)
    metric_args: ClassVar = {"time_dim": 0}
    other_args: ClassVar = {"time_dim": -3}


class TestOptimalCutoffOfPopulations(CutoffTrials):
    classes = 6
    metric_args: ClassVar = {"num_classes": 3}
    other_args: ClassVar = {}


def test_never_right_and_right_from_the_start() -> None:
    spikes = torch.zeros(2, 4, 2)
    spikes[0, :, 1] = 1  # right from the first step on
    spikes[1, 0, 1] = 1
    spikes[1, 1:, 0] = 1  # wrong at the end
    found = optimal_cutoff(spikes, torch.tensor([1, 1]))
    assert found["steps"] == (1 + 4) / 2
    assert found["accuracy"] == 0.5
    silent = optimal_cutoff(torch.zeros(1, 4, 2), torch.tensor([0]))
    assert (silent["steps"], silent["accuracy"]) == (4, 0)


@pytest.mark.filterwarnings("ignore")
def test_a_population_code_is_that_of_snntorch() -> None:
    from snntorch.functional.acc import accuracy_rate

    generator = torch.Generator().manual_seed(4)
    spikes = (torch.rand(12, 40, 20, generator=generator) < 0.3).float()  # (T, B, outputs)
    target = torch.randint(0, 5, (40,), generator=generator)
    expected = accuracy_rate(spikes, target, population_code=True, num_classes=5)
    curve = accuracy_over_time(spikes, target, time_dim=0, num_classes=5)
    assert curve[-1].item() == pytest.approx(expected)


def test_half_precision_populations_are_not_rounded() -> None:
    outputs = torch.full((1, 1, 4096), 1.0, dtype=torch.float16)
    outputs[0, 0, -1] = 0  # 2048 against 2047 spikes, which float16 tells apart no more
    for target, right in ((0, 1.0), (1, 0.0)):
        found = accuracy_over_time(outputs, torch.tensor([target]), num_classes=2)
        assert found.item() == right


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": 4}, ValueError, "num_classes: expected a divisor of the 6 outputs"),
        ({"num_classes": 1}, ValueError, "num_classes: expected at least 2 classes"),
        ({"num_classes": 2.0}, TypeError, "num_classes"),
        ({"readout": "mean"}, ValueError, "readout: expected one of"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: Any, message: str) -> None:
    outputs, targets = torch.ones(2, 3, 6), torch.tensor([0, 1])
    with pytest.raises(error, match=message):
        optimal_cutoff(outputs, targets, **options)
    with pytest.raises(error, match=message):
        sm.OptimalCutoff(**options).update(outputs, targets)


def test_rules_of_exits() -> None:
    outputs, targets = torch.ones(2, 3, 6), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="rule: expected one of"):
        early_exit(outputs, targets, 0.5, rule="entropy")  # type: ignore[arg-type]
    for threshold in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="threshold: expected gaps of 0 or more"):
            sm.EarlyExit(threshold, rule="gap")
    assert early_exit(outputs, targets, 7.5, rule="gap")["steps"] == 3


@pytest.mark.parametrize("value", [2**62, -(2**62)])
def test_sums_of_populations_do_not_wrap(value: int) -> None:
    outputs = torch.full((1, 1, 8), value, dtype=torch.int64)
    with pytest.raises(ValueError, match="preds: expected integers whose sum over the neurons"):
        optimal_cutoff(outputs, torch.tensor([0]), num_classes=2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64])
def test_sums_of_populations_that_cannot_be_refused_are_nan(dtype: torch.dtype) -> None:
    """On an accelerator nothing is looked at, so that nothing waits for it."""
    target, wide = torch.tensor([0]), 2**63 if dtype is torch.uint64 else 2**62
    for value, wraps in ((1, False), (wide, True)):
        outputs = torch.tensor([[[value] * 4 + [0] * 4] * 2], dtype=dtype)
        given = outputs.as_subclass(Elsewhere)
        for found in (
            accuracy_over_time(given, target, num_classes=2)[0],
            optimal_cutoff(given, target, num_classes=2)["accuracy"],
            early_exit(given, target, 0.9, num_classes=2)["accuracy"],
        ):
            assert found.isnan() if wraps else found == 1
