from __future__ import annotations

import functools
import math
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import snnmetrics as sm
from tests.helpers.metric_trials import Batch, Elsewhere, MetricTrials

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from snntorch.functional.acc import accuracy_temporal

first_spike = functools.partial(sm.functional.time_to_first_spike, per_neuron=True)


def first_step_by_hand(train: list[float]) -> int | None:
    """The step, from 1, of the first entry that is not zero."""
    for t, value in enumerate(train):
        if value != 0:
            return t + 1
    return None


def by_hand(
    batches: list[tuple[np.ndarray, np.ndarray | None]], dt: float, per_neuron: bool
) -> dict[str, np.ndarray]:
    """Spikes (B, T, *neuron_shape), sample by sample, neuron by neuron and step by step."""
    shape = batches[0][0].shape[2:]
    times: dict[tuple[int, ...], list[int]] = {i: [] for i in np.ndindex(shape)}
    never: dict[tuple[int, ...], int] = dict.fromkeys(np.ndindex(shape), 0)
    right = labelled = samples = 0
    for spikes, targets in batches:
        for b in range(len(spikes)):
            samples += 1
            first = {}
            for i in np.ndindex(shape):
                step = first_step_by_hand(
                    [float(spikes[(b, t, *i)]) for t in range(len(spikes[b]))]
                )
                first[i] = math.inf if step is None else step
                if step is None:
                    never[i] += 1
                else:
                    times[i].append(step)
            if targets is not None:
                labelled += 1
                earliest = min(first.values())
                winner = next(i for i in np.ndindex(shape) if first[i] == earliest)
                right += earliest < math.inf and winner == (int(targets[b]),)

    def mean(steps: list[int]) -> float:
        return sum(steps) / len(steps) * dt if steps else math.nan

    value = {
        "time": np.float64(mean([t for each in times.values() for t in each])),
        "never_fraction": np.float64(sum(never.values()) / (samples * len(never))),
        "accuracy": np.float64(right / labelled if labelled else math.nan),
    }
    if per_neuron:
        value["time_per_neuron"] = np.array([mean(t) for t in times.values()]).reshape(shape)
        value["never_fraction_per_neuron"] = np.array(
            [n / samples for n in never.values()]
        ).reshape(shape)
    return value


class FirstSpikeTrials(MetricTrials):
    metric_class = sm.TimeToFirstSpike
    function = staticmethod(sm.functional.time_to_first_spike)
    metric_args: ClassVar[dict[str, Any]] = {"per_neuron": True}
    other_args: ClassVar[dict[str, Any]] = {"time_dim": 1}
    steps = 5
    neurons: ClassVar[tuple[int, ...]] = (3,)
    order: ClassVar[tuple[int, ...]] = (0, 1, 2)  # where batch, time and neurons go
    labels = True

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.steps, *self.neurons)
        spikes = (torch.rand(size, generator=generator) < 0.25).float()
        spikes *= torch.randint(1, 3, size, generator=generator) * 2 - 3  # -1 or 1
        spikes = spikes.permute(self.order).contiguous()
        if not self.labels:
            return (spikes,)
        return spikes, torch.randint(0, self.neurons[0], (samples,), generator=generator)

    def reference(self, batches: list[Batch]) -> dict[str, np.ndarray]:
        back = [self.order.index(d) for d in range(len(self.order))]
        arrays = [
            (spikes.permute(back).numpy(), targets[0].numpy() if targets else None)
            for spikes, *targets in batches
        ]
        arguments = self.metric_args
        return by_hand(arrays, arguments.get("dt", 1.0), arguments.get("per_neuron", False))

    def bad_batches(self) -> list[tuple[Batch, str]]:
        spikes, targets = self.batch(4, 0)
        nan = spikes.clone()
        nan[1, 1, 1] = math.nan
        neuron = self.order.index(2)
        return [
            ((nan, targets), "preds: expected finite"),
            ((-nan / 0, targets), "preds: expected finite"),
            ((spikes[0],), "preds: expected batch, time and at least one neuron"),
            (
                (spikes.narrow(neuron, 0, 2),),
                r"preds: expected neuron shape \(3,\).*found \(2,\)",
            ),
            ((spikes.narrow(neuron, 0, 1), targets), "preds: expected .* at least 2 classes"),
            ((spikes.to(torch.complex64), targets), "preds: expected a real dtype"),
            (([0.0], targets), "preds: expected a torch.Tensor"),
            ((spikes, targets[:3]), r"target: expected shape \(4,\).*of preds"),
            ((spikes, targets.float()), "target: expected class indices"),
            ((spikes, targets + 3), "target: expected class indices from 0 to 2, found"),
            ((spikes, targets - 4), "target: expected class indices from 0 to 2, found"),
            ((spikes, [0, 1, 2, 0]), "target: expected a torch.Tensor"),
            ((spikes, targets.to("meta")), "target: expected a tensor on cpu"),
            ((spikes.to("meta"), targets.to("meta")), "preds: expected a tensor on cpu"),
        ]


class TestFirstSpike(FirstSpikeTrials):
    pass


class TestFirstSpikeInSeconds(FirstSpikeTrials):
    metric_args: ClassVar = {"dt": 0.25, "per_neuron": True}


class TestFirstSpikeOfTheLayer(FirstSpikeTrials):
    metric_args: ClassVar = {}
    other_args: ClassVar = {"per_neuron": True}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return [bad for bad in super().bad_batches() if "neuron shape" in bad[1]]


class TestFirstSpikeTimeFirst(FirstSpikeTrials):
    order: ClassVar = (1, 0, 2)
    metric_args: ClassVar = {"time_dim": 0, "per_neuron": True}
    other_args: ClassVar = {"time_dim": -3, "per_neuron": True}


class TestFirstSpikeOfAMapTimeLast(FirstSpikeTrials):
    """A hidden layer (C, H) without targets: no accuracy."""

    neurons: ClassVar = (3, 2)
    order: ClassVar = (0, 2, 3, 1)
    labels = False
    metric_args: ClassVar = {"time_dim": -1, "per_neuron": True}
    other_args: ClassVar = {"time_dim": 3, "per_neuron": True}

    def assert_value(self, value: Any, expected: Any, dtype: torch.dtype | None = None) -> None:
        super().assert_value(value, expected, dtype)
        if isinstance(expected, dict):
            assert value["accuracy"].isnan()

    def bad_batches(self) -> list[tuple[Batch, str]]:
        (spikes,) = self.batch(4, 0)
        targets = torch.zeros(4, dtype=torch.int64)
        return [((spikes, targets), "at least 2 classes if target is")]


class TestFirstSpikeOfOneStep(FirstSpikeTrials):
    steps = 1

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return [((self.batch(4, 0)[0][:, :, :2],), r"expected neuron shape \(3,\)")]


# ---------------------------------------------------------------------- snnTorch


def decided_before_the_last_step(spikes: torch.Tensor) -> torch.Tensor:
    return (spikes[:, :-1] != 0).flatten(1).any(1)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.6])
def test_accuracy_equals_snntorch_where_a_class_spikes_before_the_last_step(rate: float) -> None:
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(400, 7, 5, generator=generator) < rate).float()
    spikes = spikes[decided_before_the_last_step(spikes)]
    assert len(spikes) > 100
    targets = torch.randint(0, 5, (len(spikes),), generator=generator)
    theirs = accuracy_temporal(spikes.transpose(0, 1), targets)
    assert first_spike(spikes.double(), targets)["accuracy"].item() == theirs
    for each, target in zip(spikes, targets, strict=True):  # one by one: also the ties
        theirs = accuracy_temporal(each[:, None], target[None])
        assert first_spike(each[None], target[None])["accuracy"].item() == theirs


@pytest.mark.parametrize(
    ("train", "target", "ours", "theirs"),
    [
        ([[0, 0], [0, 0]], 0, 0, 1),  # nobody spikes
        ([[0, 0], [0, 1]], 1, 1, 0),  # first spike in the last step, class 0 silent
        ([[2, 0], [0, 1], [0, 0]], 0, 1, 1),
        ([[3, 0], [0, 1], [0, 0]], 0, 1, 0),  # a count of 3 at step 1 comes after 1 at step 2
    ],
)
def test_differences_to_snntorch(
    train: list[list[int]], target: int, ours: float, theirs: float
) -> None:
    spikes, targets = torch.tensor([train]).float(), torch.tensor([target])
    if train[0][0] != 2:  # 2 at step 1 and 1 at step 2 tie there
        assert accuracy_temporal(spikes.transpose(0, 1), targets) == theirs
    assert first_spike(spikes, targets)["accuracy"] == ours


def test_many_steps_in_a_narrow_dtype_unlike_snntorch() -> None:
    spikes = torch.zeros(1, 400, 2, dtype=torch.bfloat16)
    spikes[0, 300, 1] = 1
    spikes[0, 301, 0] = 1
    targets = torch.tensor([1])
    value = first_spike(spikes, targets)
    assert value["time_per_neuron"].tolist() == [302, 301]
    assert value["accuracy"] == 1


# ------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.uint16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float64,
    ],
)
def test_spikes_in_any_dtype(dtype: torch.dtype) -> None:
    spikes = torch.rand(4, 300, 3) < 0.01
    targets = torch.tensor([0, 1, 2, 0])
    expected = by_hand([(spikes.numpy(), targets.numpy())], 1.0, True)
    value = first_spike(spikes.to(dtype), targets)
    for key, entry in expected.items():
        np.testing.assert_allclose(value[key].numpy(), entry, rtol=1e-6)


def test_sparse_spikes() -> None:
    spikes = (torch.rand(3, 4, 5) < 0.2).float()
    for key, dense in first_spike(spikes).items():
        assert torch.equal(
            first_spike(spikes.to_sparse())[key].nan_to_num(-1), dense.nan_to_num(-1)
        )


def test_no_spike() -> None:
    value = first_spike(torch.zeros(2, 3, 4), torch.tensor([0, 1]))
    assert value["time"].isnan()
    assert value["time_per_neuron"].isnan().all()
    assert value["never_fraction"] == 1
    assert value["never_fraction_per_neuron"].tolist() == [1, 1, 1, 1]
    assert value["accuracy"] == 0


def test_all_spikes_and_the_tie_they_make() -> None:
    value = first_spike(torch.ones(2, 3, 4), torch.tensor([0, 1]), dt=0.5)
    assert value["time"] == 0.5
    assert value["time_per_neuron"].tolist() == [0.5] * 4
    assert value["never_fraction"] == 0
    assert value["accuracy"] == 0.5


def test_no_step_no_neuron_no_sample() -> None:
    no_step = first_spike(torch.zeros(2, 0, 3), torch.tensor([0, 1]))
    assert no_step["time"].isnan()
    assert no_step["never_fraction"] == 1
    assert no_step["accuracy"] == 0
    no_neuron = first_spike(torch.zeros(2, 3, 0))
    assert no_neuron["time_per_neuron"].shape == (0,)
    assert no_neuron["time"].isnan()
    assert no_neuron["never_fraction"].isnan()
    no_sample = first_spike(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64))
    assert all(v.isnan().all() for v in no_sample.values())


def test_a_shape_of_one_neuron_stays() -> None:
    metric = sm.TimeToFirstSpike(per_neuron=True)
    metric.update(torch.ones(2, 3, 1))
    assert metric.compute()["time_per_neuron"].shape == (1,)


def test_numbers_of_steps_may_differ_and_targets_may_be_missing() -> None:
    metric = sm.TimeToFirstSpike(per_neuron=True)
    batches = [
        ((torch.rand(3, 4, 2) < 0.3).float(), torch.tensor([0, 1, 1])),
        ((torch.rand(2, 9, 2) < 0.2).float(), None),
    ]
    for spikes, targets in batches:
        metric.update(spikes, targets)
    arrays = [(s.numpy(), None if t is None else t.numpy()) for s, t in batches]
    value = metric.compute()
    for key, entry in by_hand(arrays, 1.0, True).items():
        np.testing.assert_array_equal(value[key].numpy(), entry)


def test_counting_never_as_a_step_follows_from_the_result() -> None:
    """The formula of the docstring, with never = T."""
    spikes = (torch.rand(6, 5, 4) < 0.2).double()
    value = first_spike(spikes)
    q, m = value["never_fraction"].item(), value["time"].item()
    steps = [first_step_by_hand(spikes[b, :, i].tolist()) or 5 for b in range(6) for i in range(4)]
    assert (1 - q) * m + q * 5 == pytest.approx(sum(steps) / len(steps))


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"time_dim": "1"}, TypeError),
        ({"dt": 0}, ValueError),
        ({"dt": "1"}, TypeError),
        ({"dt": math.nan}, ValueError),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(kwargs))):
        sm.TimeToFirstSpike(**kwargs)
    with pytest.raises(error, match=next(iter(kwargs))):
        first_spike(torch.ones(1, 2, 3), **kwargs)


def test_bad_per_neuron_and_a_dimension_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="per_neuron"):
        sm.TimeToFirstSpike(per_neuron=1)
    with pytest.raises(ValueError, match="time_dim=3"):
        first_spike(torch.ones(1, 2, 3), time_dim=3)


def test_bad_values_on_an_accelerator_poison_the_sum() -> None:
    """``meta`` has no values, so the state is poisoned by hand the way the update would."""
    metric = sm.TimeToFirstSpike()
    metric.update(torch.ones(2, 3, 4))
    metric.steps = metric.steps + math.nan
    with pytest.raises(ValueError, match="found another"):
        metric.compute()


@pytest.mark.parametrize("per_neuron", [True, False])
def test_what_cannot_be_refused_makes_the_accuracy_nan(per_neuron: bool) -> None:
    """Of spikes also the times, of the neuron that has them; of targets the accuracy alone."""
    spikes, targets = torch.ones(2, 3, 4), torch.tensor([0, 1])
    assert first_spike(spikes.as_subclass(Elsewhere), targets)["accuracy"] == 0.5
    for bad in (math.nan, math.inf):
        spikes[1, 2, 3] = bad
        value = first_spike(spikes.as_subclass(Elsewhere), targets, per_neuron=per_neuron)
        assert value["accuracy"].isnan()
        assert value["time"].isnan()
        assert value["never_fraction"].isnan()
        if per_neuron:
            for key in ("time_per_neuron", "never_fraction_per_neuron"):
                assert value[key].isnan().tolist() == [False, False, False, True]


@pytest.mark.parametrize("target", [-1, 4])
def test_a_class_that_cannot_be_refused_makes_the_accuracy_nan(target: int) -> None:
    spikes, targets = torch.ones(2, 3, 4).as_subclass(Elsewhere), torch.tensor([0, target])
    value = first_spike(spikes, targets)
    assert value["accuracy"].isnan()
    assert value["time"] == 1
    metric = sm.TimeToFirstSpike()
    metric.update(spikes, targets)
    with pytest.raises(ValueError, match="finite sum in the state 'right'"):
        metric.compute()


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"time_dim": 1}, {"time_dim": 2}),
        ({"per_neuron": False}, {"per_neuron": True}),
        ({"per_neuron": True}, {"per_neuron": False}),
    ],
)
@pytest.mark.parametrize("filled", [True, False])
def test_other_arguments_are_told_apart(
    mine: dict[str, Any], other: dict[str, Any], filled: bool
) -> None:
    """Also where shapes of states would fit: three steps of three neurons, or nothing seen yet."""
    metric, stranger, twin = (sm.TimeToFirstSpike(**a) for a in (mine, other, mine))
    if filled:
        for each in (metric, stranger, twin):
            each.update(torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="different arguments"):
        metric.merge_state(stranger)
    metric.merge_state(twin)
    assert metric.samples == (4 if filled else 0)
