from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import snnmetrics as sm
from tests.helpers.metric_trials import Batch, MetricTrials, bad_targets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from snntorch.functional.acc import accuracy_rate

early_exit = sm.functional.early_exit


def by_hand(
    batches: list[tuple[np.ndarray, np.ndarray]],
    threshold: float,
    readout: str,
    rule: str = "confidence",
) -> tuple[float, float]:
    """Outputs (B, T, C): each sample is run step by step until it is sure, in Python floats."""
    steps = right = samples = 0
    for outputs, targets in batches:
        _, last, classes = outputs.shape
        for b in range(len(outputs)):
            samples += 1
            total = [0.0] * classes
            for t in range(last):
                for c in range(classes):
                    total[c] += float(outputs[b, t, c])
                seen = [v / (t + 1) for v in total] if readout == "mean" else total
                largest = max(seen)
                powers = [math.exp(v - largest) for v in seen]
                best, second = sorted(seen)[:-3:-1]
                sure = max(powers) / sum(powers)
                if (best - second if rule == "gap" else sure) >= threshold:
                    break
            steps += t + 1
            right += len(set(total)) > 1 and total.index(max(total)) == int(targets[b])
    return steps / samples, right / samples


class EarlyExitTrials(MetricTrials):
    metric_class = sm.EarlyExit
    function = staticmethod(early_exit)
    metric_args: ClassVar[dict[str, Any]] = {"threshold": 0.6}
    other_args: ClassVar[dict[str, Any]] = {"threshold": 0.7}
    steps, classes = 5, 3
    order: ClassVar[tuple[int, ...]] = (0, 1, 2)  # where batch, time and class go

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.steps, self.classes)
        outputs = torch.randint(-2, 4, size, generator=generator).float()
        targets = torch.randint(0, self.classes, (samples,), generator=generator)
        return outputs.permute(self.order).contiguous(), targets

    def reference(self, batches: list[Batch]) -> dict[str, np.ndarray]:
        back = [self.order.index(d) for d in range(3)]
        arrays = [(outputs.permute(back).numpy(), t.numpy()) for outputs, t in batches]
        readout = self.metric_args.get("readout", "mean")
        threshold = self.metric_args["threshold"]
        if (groups := self.metric_args.get("num_classes")) is not None:
            width = self.classes // groups
            parts = [range(width * group, width * (group + 1)) for group in range(groups)]
            arrays = [
                (np.stack([sum(o[:, :, c] for c in part) for part in parts], 2), t)
                for o, t in arrays
            ]
        several = np.ndim(threshold) > 0
        rule = self.metric_args.get("rule", "confidence")
        curve = [by_hand(arrays, v, readout, rule) for v in np.atleast_1d(threshold).tolist()]
        steps, accuracy = (np.array(v) for v in zip(*curve, strict=True))
        return {
            "steps": steps if several else steps[0],
            "accuracy": accuracy if several else accuracy[0],
        }

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
            ((outputs.to(torch.complex64), targets), "preds: expected a real dtype"),
            *bad_targets(outputs, targets),
            ((outputs.to("meta"), targets.to("meta")), "preds: expected a tensor on cpu"),
        ]


class TestEarlyExit(EarlyExitTrials):
    pass


class TestEarlyExitCurve(EarlyExitTrials):
    metric_args: ClassVar = {"threshold": [0.9, 0.0, 0.5, 0.75, 1.0]}
    other_args: ClassVar = {"threshold": [0.9, 0.0, 0.5, 0.7, 1.0]}


class TestEarlyExitOfSums(EarlyExitTrials):
    metric_args: ClassVar = {"threshold": (0.6, 0.95), "readout": "sum"}
    other_args: ClassVar = {"threshold": (0.6, 0.95), "readout": "mean"}


class TestEarlyExitCurveOfOne(EarlyExitTrials):
    """The result stays (1,)."""

    metric_args: ClassVar = {"threshold": torch.tensor([0.625])}
    other_args: ClassVar = {"threshold": 0.625}


class TestEarlyExitByGap(EarlyExitTrials):
    metric_args: ClassVar = {"threshold": [0.0, 0.5, 1.0, 4.0], "rule": "gap"}
    other_args: ClassVar = {"threshold": [0.0, 0.5, 1.0, 1.0], "rule": "confidence"}


class TestEarlyExitByGapOfSums(EarlyExitTrials):
    metric_args: ClassVar = {"threshold": 3.0, "rule": "gap", "readout": "sum"}
    other_args: ClassVar = {"threshold": 2.0, "rule": "gap", "readout": "sum"}


class TestEarlyExitOfPopulations(EarlyExitTrials):
    classes = 6
    metric_args: ClassVar = {"threshold": 0.6, "num_classes": 3}
    other_args: ClassVar = {"threshold": 0.6}

    def batch(self, samples: int, seed: int) -> Batch:
        outputs, targets = super().batch(samples, seed)
        return outputs, targets % 3


class TestEarlyExitTimeFirst(EarlyExitTrials):
    order: ClassVar = (1, 0, 2)
    metric_args: ClassVar = {"threshold": 0.6, "time_dim": 0}
    other_args: ClassVar = {"threshold": 0.6, "time_dim": -3}


class TestEarlyExitTimeLast(EarlyExitTrials):
    order: ClassVar = (0, 2, 1)
    metric_args: ClassVar = {"threshold": [0.5, 0.8], "time_dim": -1}
    other_args: ClassVar = {"threshold": [0.5, 0.8], "time_dim": 2}


class TestEarlyExitOfOneStep(EarlyExitTrials):
    steps = 1

    def bad_batches(self) -> list[tuple[Batch, str]]:
        outputs, targets = self.batch(4, 0)
        return [((outputs / 0, targets), "preds: expected finite")]


# -------------------------------------------------------------- other truths, edges


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_a_fine_curve_equals_brute_force(readout: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(30, 12, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 5, (30,), generator=generator)
    thresholds = np.linspace(0.0, 1.0, 53)
    value = early_exit(outputs, targets, thresholds.tolist(), readout=readout)
    expected = [by_hand([(outputs.numpy(), targets.numpy())], v, readout) for v in thresholds]
    np.testing.assert_array_equal(value["steps"].numpy(), [e[0] for e in expected])
    np.testing.assert_array_equal(value["accuracy"].numpy(), [e[1] for e in expected])
    assert len(set(value["steps"].tolist())) > 10
    assert bool((value["steps"].diff() >= 0).all())


def test_without_exit_the_accuracy_is_that_of_snntorch_and_of_the_last_step() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = (torch.rand(200, 9, 6, generator=generator) < 0.3).double()
    counts = outputs.sum(1)
    outputs = outputs[counts.amax(1) > counts.amin(1)]  # all equal: class 0 in snnTorch
    targets = torch.randint(0, 6, (len(outputs),), generator=generator)
    value = early_exit(outputs, targets, 1.0)
    assert value["steps"] == 9
    assert value["accuracy"].item() == accuracy_rate(outputs.transpose(0, 1), targets)
    over_time = sm.functional.accuracy_over_time(outputs, targets)
    assert value["accuracy"] == over_time[-1]
    assert early_exit(outputs, targets, 0.0)["accuracy"] == over_time[0]


@pytest.mark.parametrize("classes", [2, 3, 4, 7, 10])
def test_a_threshold_is_reached_by_equality(classes: int) -> None:
    """Of equal classes the confidence is 1 / C, not a rounding error below."""
    outputs = torch.zeros(1, 4, classes)
    for threshold, steps in [(1 / classes, 1), (math.nextafter(1 / classes, 1), 4)]:
        value = early_exit(outputs, torch.tensor([0]), threshold)
        assert value["steps"] == steps
        assert value["accuracy"] == 0, "nothing is known yet"


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.bfloat16]
)
def test_spike_counts_in_any_dtype(dtype: torch.dtype) -> None:
    """300 steps: more than uint8, int8 and bfloat16 can count."""
    generator = torch.Generator().manual_seed(1)
    outputs = (torch.rand(6, 300, 4, generator=generator) < 0.5).to(dtype)
    targets = torch.randint(0, 4, (6,), generator=generator)
    for readout, threshold in [("sum", 0.999), ("mean", 0.3)]:
        value = early_exit(outputs, targets, threshold, readout=readout)  # type: ignore[arg-type]
        expected = by_hand([(outputs.float().numpy(), targets.numpy())], threshold, readout)
        np.testing.assert_allclose([v.item() for v in value.values()], expected, rtol=1e-6)


def test_confidence_lost_again_does_not_undo_the_exit() -> None:
    outputs = torch.tensor([[[0.0, 4.0], [4.0, 0.0], [4.0, 0.0]]])
    value = early_exit(outputs, torch.tensor([1]), [0.9, 0.99])
    assert value["steps"].tolist() == [1, 3]
    assert value["accuracy"].tolist() == [1, 0]


def test_a_bound_of_the_docstring() -> None:
    """Ten classes, one of which spikes at every step."""
    outputs = torch.zeros(1, 5, 10)
    outputs[..., 3] = 1
    bound = math.e / (math.e + 9)
    value = early_exit(outputs, torch.tensor([3]), [bound - 1e-9, bound + 1e-9])
    assert value["steps"].tolist() == [1, 5]
    value = early_exit(outputs, torch.tensor([3]), bound + 1e-9, readout="sum")
    assert value["steps"] == 2


def test_huge_outputs_and_sparse_ones() -> None:
    huge = torch.tensor([[[1e300, -1e300], [0.0, 0.0]]], dtype=torch.float64)
    assert early_exit(huge, torch.tensor([0]), 1.0)["steps"] == 1
    outputs = torch.randint(0, 2, (3, 4, 5)).float()
    targets = torch.tensor([0, 1, 2])
    for key, dense in early_exit(outputs, targets, 0.3).items():
        assert torch.equal(early_exit(outputs.to_sparse(), targets, 0.3)[key], dense)


def test_no_spike_and_no_sample() -> None:
    silent = early_exit(torch.zeros(2, 3, 4), torch.tensor([0, 1]), [0.25, 0.5])
    assert silent["steps"].tolist() == [1, 3]
    assert silent["accuracy"].tolist() == [0, 0]
    nothing = early_exit(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64), [0.25, 0.5])
    assert all(v.shape == (2,) and v.isnan().all() for v in nothing.values())


def test_numbers_of_steps_may_differ() -> None:
    metric = sm.EarlyExit([0.6, 0.9])
    batches = [
        (torch.randn(3, steps, 4, dtype=torch.float64), torch.tensor([0, 1, 2])) for steps in (2, 7)
    ]
    for batch in batches:
        metric.update(*batch)
    value = metric.compute()
    arrays = [(o.numpy(), t.numpy()) for o, t in batches]
    for k, threshold in enumerate([0.6, 0.9]):
        expected = by_hand(arrays, threshold, "mean", "confidence")
        assert (value["steps"][k].item(), value["accuracy"][k].item()) == expected


def test_shape_of_results_before_an_update() -> None:
    assert sm.EarlyExit([0.5, 0.6])._defaults["steps"].shape == (2,)
    assert sm.EarlyExit(0.5)._defaults["steps"].shape == ()


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"threshold": "0.5"}, TypeError),
        ({"threshold": None}, TypeError),
        ({"threshold": True}, TypeError),
        ({"threshold": [0.5, "a"]}, TypeError),
        ({"threshold": torch.tensor([True])}, TypeError),
        ({"threshold": -0.1}, ValueError),
        ({"threshold": 1.1}, ValueError),
        ({"threshold": [0.5, math.nan]}, ValueError),
        ({"threshold": []}, ValueError),
        ({"threshold": torch.full((2, 2), 0.5)}, ValueError),
        ({"time_dim": "1", "threshold": 0.5}, TypeError),
        ({"readout": "max", "threshold": 0.5}, ValueError),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(kwargs))):
        sm.EarlyExit(**kwargs)
    with pytest.raises(error, match=next(iter(kwargs))):
        early_exit(torch.ones(1, 2, 3), torch.tensor([0]), **kwargs)


def test_a_threshold_is_the_metrics_own() -> None:
    threshold = torch.tensor([0.5, 0.9], dtype=torch.float64)
    metric = sm.EarlyExit(threshold)
    threshold.zero_()
    assert metric.threshold.tolist() == [0.5, 0.9]


def test_bad_values_on_an_accelerator_poison_the_sum() -> None:
    """``meta`` has no values, so the state is poisoned by hand the way the update would."""
    metric = sm.EarlyExit(0.5)
    metric.update(torch.ones(2, 3, 4), torch.tensor([0, 1]))
    metric.right = metric.right + math.nan
    with pytest.raises(ValueError, match="found another"):
        metric.compute()


@pytest.mark.parametrize("threshold", [0.5, [0.5, 0.9], torch.tensor([0.5, 0.9])])
def test_a_threshold_follows_the_outputs(threshold: Any) -> None:
    """Of the function: ``meta`` stands for an accelerator."""
    outputs, targets = torch.ones(2, 3, 4, device="meta"), torch.zeros(2, dtype=torch.int64)
    value = early_exit(outputs, targets.to("meta"), threshold)
    for entry in value.values():
        assert entry.is_meta
        assert entry.shape == np.shape(threshold)


def test_thresholds_move_with_the_metric() -> None:
    metric = sm.EarlyExit([0.5, 0.9]).to("meta")
    assert {metric.threshold.device.type, metric.samples.device.type} == {"meta"}
    with pytest.raises(ValueError, match="preds: expected a tensor on meta"):
        metric.update(torch.ones(2, 3, 4), torch.tensor([0, 1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_thresholds_on_an_accelerator_take_the_metric_there() -> None:
    """Not on ``meta``: thresholds are checked by value."""
    metric = sm.EarlyExit(torch.tensor([0.5, 0.9], device="cuda"))
    assert {metric.threshold.device.type, metric.samples.device.type} == {"cuda"}
    metric.update(torch.ones(2, 3, 4, device="cuda"), torch.tensor([0, 1], device="cuda"))
    assert metric.compute()["steps"].tolist() == [3, 3]
