from __future__ import annotations

import math
import statistics
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import snnmetrics as sm
from tests.helpers.metric_trials import DTYPES, Batch, Elsewhere
from tests.metrics.test_activity import OverTime

F = sm.functional


# ------------------------------------------------------------- brute force, one train at a time


def intervals_of(train: list[float]) -> list[int]:
    times = [t for t, value in enumerate(train) if value != 0]
    return [later - earlier for earlier, later in pairwise(times)]


def irregularity(intervals: list[int]) -> tuple[float, float, float]:
    """CV, CV2 and LV of one train, in exact fractions up to the root."""
    cv = math.sqrt(statistics.pvariance(map(Fraction, intervals))) / statistics.fmean(intervals)
    pairs = list(pairwise(intervals))
    cv2 = sum(Fraction(2 * abs(b - a), a + b) for a, b in pairs) / len(pairs)
    lv = 3 * sum(Fraction(b - a, a + b) ** 2 for a, b in pairs) / len(pairs)
    return cv, float(cv2), float(lv)


def mean(values: list[Any]) -> float:
    return float(sum(values) / len(values)) if values else math.nan


def summary(trains: list[list[float]], samples: int, dt: float) -> dict[str, float]:
    found = [intervals_of(train) for train in trains]
    figures = [irregularity(intervals) for intervals in found if len(intervals) >= 2]
    every = [interval for intervals in found for interval in intervals]
    return {
        "cv": mean([cv for cv, _, _ in figures]),
        "cv2": mean([cv2 for _, cv2, _ in figures]),
        "lv": mean([lv for _, _, lv in figures]),
        "mean_interval": mean(every) * dt,
        "intervals": len(every) / samples if samples else math.nan,
    }


def trains_of(batches: list[np.ndarray], neuron: tuple[int, ...]) -> list[list[float]]:
    return [sample[(slice(None), *neuron)].tolist() for batch in batches for sample in batch]


def statistics_by_hand(
    batches: list[np.ndarray], dt: float = 1.0, per_neuron: bool = False
) -> dict[str, Any]:
    shape, samples = batches[0].shape[2:], sum(map(len, batches))
    each = {neuron: trains_of(batches, neuron) for neuron in np.ndindex(*shape)}
    value: dict[str, Any] = summary([t for trains in each.values() for t in trains], samples, dt)
    if per_neuron:
        maps = {neuron: summary(trains, samples, dt) for neuron, trains in each.items()}
        for key in list(value):
            entries = [found[key] for found in maps.values()]
            value[f"{key}_per_neuron"] = np.array(entries).reshape(shape)
    return value


def fano_by_hand(batches: list[np.ndarray]) -> tuple[float, np.ndarray]:
    shape = batches[0].shape[2:]
    factors = []
    for neuron in np.ndindex(*shape):
        counts = [sum(abs(Fraction(v)) for v in train) for train in trains_of(batches, neuron)]
        average = sum(counts) / Fraction(len(counts))
        factors.append(statistics.pvariance(counts) / average if average else math.nan)
    known = [factor for factor in factors if not math.isnan(factor)]
    return mean(known), np.array(list(map(float, factors))).reshape(shape)


# -------------------------------------------------------------------------------- the trials


class Trains(OverTime):
    lengths: ClassVar = [12, 12, 9, 1, 17]
    tolerance = 1e-12

    def batch(self, samples: int, seed: int) -> Batch:
        (spikes,) = super().batch(samples, seed)
        spikes = spikes.movedim(self.time_at, 1)
        spikes[:, ::3, 0, 1] = 0
        spikes[1:, :, 1, 0] = 0  # a neuron that spikes in a single sample
        return (spikes.movedim(1, self.time_at).contiguous(),)


class TestIntervals(Trains):
    metric_class = sm.IntervalStatistics
    function = staticmethod(F.interval_statistics)

    def reference(self, batches: list[Batch]) -> Any:
        return statistics_by_hand(self.arrays(batches))


class TestIntervalsPerNeuronInSeconds(Trains):
    metric_class = sm.IntervalStatistics
    function = staticmethod(F.interval_statistics)
    time_at = 0
    metric_args: ClassVar = {"time_dim": 0, "dt": 0.001, "per_neuron": True}
    other_args: ClassVar = {"time_dim": -4, "per_neuron": True}

    def reference(self, batches: list[Batch]) -> Any:
        return statistics_by_hand(self.arrays(batches), 0.001, per_neuron=True)

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return super().bad_batches()[2:]  # the first two are cut for time at 1


class TestFanoFactor(Trains):
    metric_class = sm.FanoFactor
    function = staticmethod(F.fano_factor)

    def reference(self, batches: list[Batch]) -> Any:
        return fano_by_hand(self.arrays(batches))[0]


class TestFanoFactorPerNeuron(Trains):
    metric_class = sm.FanoFactor
    function = staticmethod(F.fano_factor)
    time_at = -1
    metric_args: ClassVar = {"time_dim": -1, "per_neuron": True}
    other_args: ClassVar = {"time_dim": 3, "per_neuron": True}

    def reference(self, batches: list[Batch]) -> Any:
        whole, each = fano_by_hand(self.arrays(batches))
        return {"fano_factor": whole, "fano_factor_per_neuron": each}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return [bad for bad in super().bad_batches() if "neuron shape" not in bad[1]]


# --------------------------------------------------------------------------- another library

# elephant 1.2.1 (its numpy 2.4.6, scipy 1.17.1), with `from elephant.statistics import cv, cv2, lv,
# isi, fanofactor`: cv(isi(np.array(times))), and so on.
ELEPHANT = [
    ([1, 2, 5, 6, 9, 15, 16, 30], 1.0515828056535799, 1.138095238095238, 1.0612131519274377),
    ([3, 4, 5, 6, 7, 8], 0.0, 0.0, 0.0),
    (
        [2, 11, 14, 15, 28, 29, 37, 39, 40],
        0.9100850771468728,
        1.2643990929705213,
        1.3051873447791813,
    ),
]
# fanofactor([np.arange(1.0, count + 1) for count in counts])
COUNTS, ELEPHANTS_FANO = [3, 0, 5, 2, 2, 9], 2.357142857142857


def spike_train(times: list[int]) -> Tensor:
    train = torch.zeros(1, 48, 1, dtype=torch.float64)
    train[0, times, 0] = 1
    return train


@pytest.mark.parametrize(("times", "cv", "cv2", "lv"), ELEPHANT)
def test_irregularity_is_that_of_elephant(
    times: list[int], cv: float, cv2: float, lv: float
) -> None:
    value = F.interval_statistics(spike_train(times))
    found = [value[key].item() for key in ("cv", "cv2", "lv")]
    assert found == pytest.approx([cv, cv2, lv], rel=1e-14, abs=0)
    assert value["mean_interval"] == (times[-1] - times[0]) / (len(times) - 1)


def test_of_several_trains_the_mean_of_elephants_figures() -> None:
    metric = sm.IntervalStatistics()
    for times, *_ in ELEPHANT:
        metric.update(spike_train(times))
    value = metric.compute()
    for key, figures in zip(
        ("cv", "cv2", "lv"), list(zip(*ELEPHANT, strict=True))[1:], strict=True
    ):
        assert value[key].item() == pytest.approx(sum(figures) / 3, rel=1e-14)


def test_fano_factor_is_that_of_elephant() -> None:
    spikes = torch.zeros(len(COUNTS), 9, 1, dtype=torch.float64)
    for sample, count in enumerate(COUNTS):
        spikes[sample, :count] = 1
    assert F.fano_factor(spikes).item() == pytest.approx(ELEPHANTS_FANO, rel=1e-15)


# -------------------------------------------------------------------- closed forms and edges


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_clock_is_regular(period: int) -> None:
    spikes = torch.zeros(3, 50, 2)
    spikes[:, ::period] = 1
    value = F.interval_statistics(spikes)
    assert [value[key].item() for key in ("cv", "cv2", "lv")] == [0, 0, 0]
    assert value["mean_interval"] == period
    assert value["intervals"] == 2 * (-(-50 // period) - 1)
    assert F.fano_factor(spikes) == 0


def test_two_intervals_that_alternate() -> None:
    """Of a and b in turn: CV2 is 2 |a - b| / (a + b), LV three quarters of its square."""
    for a, b in ((1, 3), (2, 5), (10, 1)):
        times = np.cumsum([0, *[a, b] * 8]).tolist()
        spikes = torch.zeros(1, times[-1] + 1, 1, dtype=torch.float64)
        spikes[0, times, 0] = 1
        value = F.interval_statistics(spikes)
        ratio = abs(a - b) / (a + b)
        assert value["cv"].item() == pytest.approx(ratio, rel=1e-14)
        assert value["cv2"].item() == pytest.approx(2 * ratio, rel=1e-14)
        assert value["lv"].item() == pytest.approx(3 * ratio**2, rel=1e-14)


def test_independent_spikes_are_as_irregular_as_a_geometric_distribution() -> None:
    """Bernoulli spikes of probability p: CV of intervals sqrt(1 - p), Fano factor 1 - p.

    CV2 and LV of a Poisson process are 1; of rare spikes they are close to it.
    """
    generator = torch.Generator().manual_seed(1)
    p = 0.05
    spikes = torch.rand(40, 4000, 10, generator=generator) < p
    value = F.interval_statistics(spikes)
    assert value["cv"].item() == pytest.approx(math.sqrt(1 - p), abs=0.01)
    assert value["cv2"].item() == pytest.approx(1, abs=0.05)
    assert value["lv"].item() == pytest.approx(1, abs=0.1)
    assert value["mean_interval"].item() == pytest.approx(1 / p, rel=0.02)
    counts = torch.rand(4000, 40, 10, generator=generator) < p
    assert F.fano_factor(counts).item() == pytest.approx(1 - p, abs=0.03)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_count_of_several_spikes_is_one_spike_time(dtype: torch.dtype) -> None:
    train = torch.tensor([1, 0, 1, 1, 0, 0, 1]).reshape(1, 7, 1)
    counts = (train * 3).to(dtype) if dtype is not torch.bool else train.bool()
    expected = F.interval_statistics(train, per_neuron=True)
    value = F.interval_statistics(counts, per_neuron=True)
    wide = torch.promote_types(dtype, torch.float32)
    for key, entry in value.items():
        assert entry.dtype is wide
        torch.testing.assert_close(entry.float(), expected[key])


def test_trains_without_two_intervals_add_nothing() -> None:
    spikes = torch.zeros(4, 9, 1, dtype=torch.float64)
    spikes[1, 4] = 1  # one spike
    spikes[2, [0, 8]] = 1  # one interval
    spikes[3, [0, 1, 4]] = 1  # two: 1 and 3
    value = F.interval_statistics(spikes)
    assert (value["cv"], value["cv2"], value["lv"]) == (0.5, 1.0, 0.75)
    assert value["mean_interval"] == 4  # (8 + 1 + 3) / 3
    assert value["intervals"] == 0.75
    none = F.interval_statistics(spikes[:3])
    assert all(none[key].isnan() for key in ("cv", "cv2", "lv"))
    assert none["mean_interval"] == 8
    silent = F.interval_statistics(spikes[:2], per_neuron=True)
    assert silent["mean_interval"].isnan()
    assert silent["intervals"] == silent["intervals_per_neuron"] == 0


@pytest.mark.parametrize("shape", [(0, 5, 2), (2, 0, 2), (2, 5, 0), (2, 1, 3)])
def test_nothing_to_divide_by(shape: tuple[int, ...]) -> None:
    x = torch.ones(shape)
    value = F.interval_statistics(x, per_neuron=True)
    assert all(value[key].isnan() for key in ("cv", "cv2", "lv", "mean_interval"))
    assert value["intervals"].isnan() if shape[0] == 0 else value["intervals"] == 0
    assert value["cv_per_neuron"].shape == shape[2:]
    fano = F.fano_factor(x, per_neuron=True)
    assert fano["fano_factor_per_neuron"].shape == shape[2:]
    assert fano["fano_factor"].isnan() == (0 in shape)


def test_large_batches_are_read_in_pieces() -> None:
    """More elements than a block has, and more steps than an 8-bit integer counts."""
    generator = torch.Generator().manual_seed(2)
    spikes = (torch.rand(6, 700, 60, generator=generator) < 0.02).to(torch.uint8)
    value = F.interval_statistics(spikes, per_neuron=True)
    expected = statistics_by_hand([spikes.numpy()], per_neuron=True)
    for key, entry in value.items():
        np.testing.assert_allclose(entry.numpy(), expected[key], rtol=1e-6)
    whole, each = fano_by_hand([spikes.numpy()])
    fano = F.fano_factor(spikes, per_neuron=True)
    np.testing.assert_allclose(fano["fano_factor_per_neuron"].numpy(), each, rtol=1e-6)
    assert fano["fano_factor"].item() == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("time_dim", [0, 1, 2, 3, -1, -4])
def test_time_anywhere_and_sparse(time_dim: int) -> None:
    x = (torch.rand(4, 12, 2, 5) < 0.4).float()
    moved = x.movedim(1, time_dim)
    here = F.interval_statistics(x, per_neuron=True)
    for form in (moved, moved.to_sparse()):
        there = F.interval_statistics(form, time_dim=time_dim, per_neuron=True)
        for key in here:
            torch.testing.assert_close(there[key], here[key], equal_nan=True)
        torch.testing.assert_close(F.fano_factor(form, time_dim=time_dim), F.fano_factor(x))


def test_the_same_large_count_in_all_samples_has_no_variance() -> None:
    """In float32, or as a mean of squares minus a squared mean, there would be some."""
    metric = sm.FanoFactor()
    for _ in range(7):
        metric.update(torch.full((3, 4, 2), 12345.0))
    assert metric.compute() == 0


def test_fano_of_graded_spikes() -> None:
    x = torch.rand(9, 4, 3, dtype=torch.float64) - 0.3
    whole, each = fano_by_hand([x.numpy()])
    value = F.fano_factor(x, per_neuron=True)
    np.testing.assert_allclose(value["fano_factor_per_neuron"].numpy(), each, rtol=1e-12)
    assert value["fano_factor"].item() == pytest.approx(whole, rel=1e-12)


def test_samples_of_one_class_by_a_mask() -> None:
    spikes, target = torch.randint(0, 2, (8, 6, 3)), torch.tensor([0, 1, 0, 2, 1, 0, 0, 1])
    for k in range(3):
        metric = sm.FanoFactor()
        metric.update(spikes, mask=target == k)
        assert metric.compute().item() == pytest.approx(
            fano_by_hand([spikes[target == k].numpy()])[0]
        )


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_elsewhere_shows_in_every_figure(bad: float) -> None:
    """On an accelerator nothing is refused."""
    x = torch.ones(2, 6, 3)
    x[0, 2, 1] = bad
    x = x.as_subclass(Elsewhere)
    intervals = F.interval_statistics(x, per_neuron=True)
    fano = F.fano_factor(x, per_neuron=True)
    for key, entry in {**intervals, **fano}.items():
        if entry.ndim:
            assert entry.isnan().tolist() == [False, True, False], key
        else:
            assert entry.isnan(), key


@pytest.mark.parametrize("metric", [sm.IntervalStatistics(), sm.FanoFactor()])
def test_not_finite_on_an_accelerator_raises_at_compute(metric: Any) -> None:
    metric.update(torch.ones(1, 4, 3))
    name = metric._sums[0]
    setattr(metric, name, getattr(metric, name) + math.nan)
    with pytest.raises(ValueError, match="found another: since the last reset NaN"):
        metric.compute()


def test_an_axis_says_the_unit() -> None:
    assert sm.IntervalStatistics().axis_label("mean_interval").endswith("[steps]")
    assert sm.IntervalStatistics(dt=0.1).axis_label("mean_interval").endswith("[s]")
    assert sm.IntervalStatistics(dt=0.1).axis_label("cv2") == "variation of interspike intervals"
