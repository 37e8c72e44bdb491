from __future__ import annotations

import functools
import math
import warnings
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import snnmetrics as sm
from tests.helpers.metric_trials import DTYPES, Batch, MetricTrials
from tests.helpers.toy import Fire

pytestmark = pytest.mark.versions

F = sm.functional


# ------------------------------------------------------------- brute force, one element at a time


def spikes_by_hand(batches: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Batches (B, T, *neurons) -> spikes of each neuron as Python integers, number of steps."""
    totals = np.zeros(batches[0].shape[2:], dtype=object)
    steps = 0
    for batch in batches:
        for sample in batch:
            for step in sample:
                steps += 1
                for index in np.ndindex(*step.shape):
                    totals[index] += abs(int(step[index]))
    return totals, steps


def rate_by_hand(batches: list[np.ndarray], dt: float | None) -> tuple[float, np.ndarray]:
    totals, steps = spikes_by_hand(batches)
    seconds = 1.0 if dt is None else dt
    whole = float(Fraction(int(totals.sum()), steps * totals.size)) / seconds
    each = [float(Fraction(int(n), steps)) / seconds for n in totals.reshape(-1)]
    return whole, np.array(each).reshape(totals.shape)


def silent_by_hand(batches: list[np.ndarray], saturation: float) -> dict[str, Any]:
    totals, steps = spikes_by_hand(batches)
    rates = [int(n) / steps for n in totals.reshape(-1)]
    silent = [rate == 0 for rate in rates]
    saturated = [rate >= saturation for rate in rates]
    return {
        "silent_fraction": silent.count(True) / len(rates),
        "saturated_fraction": saturated.count(True) / len(rates),
        "silent": np.array(silent).reshape(totals.shape),
        "saturated": np.array(saturated).reshape(totals.shape),
    }


def updates_by_hand(batches: list[np.ndarray], initial: float | None) -> float:
    """Each neuron of each sample walks through its steps."""
    changes = samples = 0
    for batch in batches:
        for sample in batch:
            samples += 1
            for index in np.ndindex(*sample.shape[1:]):
                before = initial  # None is unequal to every number: the first step counts
                for t in range(sample.shape[0]):
                    now = float(sample[(t, *index)])
                    changes += now != before
                    before = now
    return changes / samples


# -------------------------------------------------------------------------------- the trials


class OverTime(MetricTrials):
    """Batches ``(B, T, 2, 3)`` with time moved to ``time_at``; T differs between batches."""

    time_at = 1
    other_args: ClassVar = {"time_dim": -3}
    name = "activations"
    lengths: ClassVar = [4, 4, 5, 1, 2]

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.lengths[seed % 5], 2, 3)
        spikes = torch.randint(-1, 3, size, generator=generator).float()
        spikes[:, :, 0, 0] = 0  # silent
        spikes[:, :, 1, 2] = 1  # saturated
        return (spikes.movedim(1, self.time_at).contiguous(),)

    def arrays(self, batches: list[Batch]) -> list[np.ndarray]:
        return [batch[0].movedim(self.time_at, 1).numpy() for batch in batches]

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        nan, infinite = good.clone(), good.clone()
        nan[0, 0], infinite[1, 0] = math.nan, -math.inf
        wider = torch.zeros(*good.shape[:-1], 4)
        return [
            ((nan,), f"{self.name}: expected finite"),
            ((infinite,), f"{self.name}: expected finite"),
            ((good.to(torch.complex64),), f"{self.name}: expected a real dtype"),
            ((wider,), rf"{self.name}: expected neuron shape \(2, 3\).*found \(2, 4\)"),
            ((good[..., 0],), "expected neuron shape"),
            ((torch.zeros(2, 3),), f"{self.name}: expected batch, time and at least one neuron"),
            ((good.numpy(),), f"{self.name}: expected a torch.Tensor, found ndarray"),
            ((good.to("meta"),), f"{self.name}: expected a tensor on cpu"),
        ]


class TestFiringRate(OverTime):
    metric_class = sm.FiringRate
    function = staticmethod(F.firing_rate)
    differentiable = True

    def reference(self, batches: list[Batch]) -> Any:
        return rate_by_hand(self.arrays(batches), None)[0]


class TestFiringRatePerNeuronInHz(OverTime):
    metric_class = sm.FiringRate
    function = staticmethod(F.firing_rate)
    differentiable = True
    time_at = 0
    metric_args: ClassVar = {"time_dim": 0, "dt": 0.001, "per_neuron": True}
    other_args: ClassVar = {"time_dim": -4, "per_neuron": True}

    def reference(self, batches: list[Batch]) -> Any:
        whole, each = rate_by_hand(self.arrays(batches), 0.001)
        return {"firing_rate": whole, "firing_rate_per_neuron": each}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return super().bad_batches()[2:]  # the first two are cut for time at 1


class TestSilentNeurons(OverTime):
    metric_class = sm.SilentNeurons
    function = staticmethod(F.silent_neurons)
    saturation = 1.0

    def reference(self, batches: list[Batch]) -> Any:
        value = silent_by_hand(self.arrays(batches), self.saturation)
        return {key: value[key] for key in ("silent_fraction", "saturated_fraction")}


class TestSilentNeuronsTimeLast(TestSilentNeurons):
    time_at = -1
    saturation = 0.7
    metric_args: ClassVar = {"time_dim": -1, "saturation": 0.7}
    other_args: ClassVar = {"time_dim": 3, "saturation": 0.7}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return [bad for bad in super().bad_batches() if "neuron shape" not in bad[1]]


class StepByStep(OverTime):
    """Batches ``(B, 2, 3)``: one time step each."""

    metric_args: ClassVar = {"time_dim": None, "per_neuron": True}
    other_args: ClassVar = {"time_dim": 1, "per_neuron": True}

    def batch(self, samples: int, seed: int) -> Batch:
        return (super().batch(samples, seed)[0][:, 0],)

    def arrays(self, batches: list[Batch]) -> list[np.ndarray]:
        return [batch[0][:, None].numpy() for batch in batches]

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        return [
            ((good / 0,), "activations: expected finite"),
            ((good[:, :, 0],), "activations: expected neuron shape"),
            ((good[:, 0, 0],), r"activations: expected shape \(B, \*neuron_shape\)"),
        ]


class TestFiringRateStepByStep(StepByStep):
    metric_class = sm.FiringRate
    function = staticmethod(F.firing_rate)
    differentiable = True

    def reference(self, batches: list[Batch]) -> Any:
        whole, each = rate_by_hand(self.arrays(batches), None)
        return {"firing_rate": whole, "firing_rate_per_neuron": each}


class TestSilentNeuronsStepByStep(StepByStep):
    metric_class = sm.SilentNeurons
    function = staticmethod(F.silent_neurons)
    metric_args: ClassVar = {"time_dim": None}
    other_args: ClassVar = {"time_dim": 1}

    def reference(self, batches: list[Batch]) -> Any:
        value = silent_by_hand(self.arrays(batches), 1.0)
        return {key: value[key] for key in ("silent_fraction", "saturated_fraction")}


@pytest.mark.parametrize("metric", [sm.FiringRate, sm.SilentNeurons])
def test_steps_one_by_one_give_what_all_steps_at_once_give(metric: Any) -> None:
    """Of a loop over time: batch by batch of 4, 4 and 1 samples, with 7, 7 and 3 steps."""
    at_once = metric(time_dim=0, per_neuron=True)
    one_by_one = metric(time_dim=None, per_neuron=True)
    for steps, samples in ((7, 4), (7, 4), (3, 1)):
        spikes = (torch.rand(steps, samples, 5, 6) < 0.1).float()
        spikes[..., 0] = 1
        at_once.update(spikes)
        for step in spikes:
            one_by_one.update(step)
    expected, found = at_once.compute(), one_by_one.compute()
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("metric", "function", "why"),
    [
        (sm.MembraneUpdates, F.membrane_updates, "a change is a difference from the step before"),
        (sm.TimeToFirstSpike, F.time_to_first_spike, "which spike is the first depends on"),
        (sm.IntervalStatistics, F.interval_statistics, "an interval lies between two spikes"),
        (sm.FanoFactor, F.fano_factor, "the count of a sample is the sum over all of its steps"),
        (sm.AccuracyOverTime, F.accuracy_over_time, "the evidence of a step is made of"),
        (sm.OptimalCutoff, F.optimal_cutoff, "the evidence of a step is made of"),
        (
            functools.partial(sm.EarlyExit, 0.5),
            functools.partial(F.early_exit, threshold=0.5),
            "the evidence of a step is made of",
        ),
    ],
)
def test_what_needs_the_order_of_steps_takes_them_at_once(
    metric: Any, function: Any, why: str
) -> None:
    message = rf"^time_dim: expected an integer, found None: {why}.*torch\.stack"
    with pytest.raises(TypeError, match=message):
        metric(time_dim=None)
    of_layers = (sm.MembraneUpdates, sm.IntervalStatistics, sm.FanoFactor)
    labels = () if metric in of_layers else (torch.tensor([0]),)
    with pytest.raises(TypeError, match=message):
        function(torch.ones(1, 2, 3), *labels, time_dim=None)


class TestMembraneUpdates(OverTime):
    metric_class = sm.MembraneUpdates
    function = staticmethod(F.membrane_updates)
    other_args: ClassVar = {"initial": 0.0}
    name = "potentials"

    def reference(self, batches: list[Batch]) -> Any:
        return updates_by_hand(self.arrays(batches), self.metric_args.get("initial"))


class TestMembraneUpdatesStrict(TestMembraneUpdates):
    metric_args: ClassVar = {"initial": 1}
    other_args: ClassVar = {}


class OtherSparsity(sm.ActivationSparsity):
    """What shares no states with the original: the metric has no arguments that could differ."""


def sparsity(other: bool = False, **metric_kwargs: Any) -> sm.ActivationSparsity:
    return (OtherSparsity if other else sm.ActivationSparsity)(**metric_kwargs)


class TestActivationSparsity(MetricTrials):
    """Neither the number of dimensions nor any size is the same in all batches."""

    metric_class: Any = staticmethod(sparsity)
    other_args: ClassVar = {"other": True}
    function = staticmethod(F.activation_sparsity)

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = [(samples, 7), (samples, 2, 3, 4), (samples,), (2, samples, 5)][seed % 4]
        return (torch.randint(-1, 3, size, generator=generator).float(),)

    def reference(self, batches: list[Batch]) -> Any:
        elements = [float(x) for batch in batches for x in batch[0].reshape(-1)]
        return sum(x == 0 for x in elements) / len(elements)

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = torch.tensor([[0.0, 1.0, -1.0]])
        return [
            ((good / 0,), "activations: expected finite"),
            ((good * torch.tensor([1, math.inf, 1]),), "activations: expected finite"),
            ((torch.tensor([math.inf, -math.inf]).half(),), "activations: expected finite"),
            ((good.to(torch.complex64),), "activations: expected a real dtype"),
            (([0, 1],), "activations: expected a torch.Tensor, found list"),
            ((good.to("meta"),), "activations: expected a tensor on cpu"),
        ]


# ------------------------------------------------------------------------ other definitions


def neurobench_activation_sparsity(batches: list[list[Tensor]]) -> float:
    """NeuroBench 2.3, from its published formula; the library itself is not run.

    Per batch, over the outputs of all layers at all steps: (elements - nonzero) / elements; over
    batches: the mean weighted by their number of samples.
    """
    samples = sum(outputs[0].shape[0] for outputs in batches)
    result = 0.0
    for outputs in batches:
        elements = sum(output.numel() for output in outputs)
        nonzero = sum(int(output.count_nonzero()) for output in outputs)
        result += (elements - nonzero) / elements * outputs[0].shape[0] / samples
    return result


def test_activation_sparsity_is_that_of_neurobench() -> None:
    batches = [[torch.randint(0, 2, (8, n)).float() for n in (5, 9, 9)] for _ in range(4)]
    metric = sm.ActivationSparsity()
    for outputs in batches:  # of several layers, step by step
        for output in outputs:
            metric.update(output)
    assert metric.compute().item() == pytest.approx(
        neurobench_activation_sparsity(batches), rel=1e-15
    )


def test_activation_sparsity_weighs_elements_where_neurobench_weighs_samples() -> None:
    """One sample of 2 steps without an event, one of 8 steps with all: 2/10 against (1 + 0)/2."""
    batches = [[torch.zeros(1, 2, 3)], [torch.ones(1, 8, 3)]]
    metric = sm.ActivationSparsity()
    for (output,) in batches:
        metric.update(output)
    assert metric.compute().item() == 0.2
    assert neurobench_activation_sparsity(batches) == 0.5


def neurobench_membrane_updates(pre: list[Tensor], post: list[Tensor], samples: int) -> float:
    """NeuroBench 2.3, from its published formula; the library itself is not run.

    ``pre`` and ``post`` are a layer's potential before and after each call. All elements of the
    first call count, of the others those that the call changed.
    """
    updates = sum(int(torch.count_nonzero(a - b)) for a, b in zip(pre[1:], post[1:], strict=True))
    return (post[0].numel() + updates) / samples


def test_membrane_updates_are_those_of_neurobench_on_snntorch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snn = pytest.importorskip("snntorch")
        neurons = snn.Leaky(beta=0.5, threshold=1.0, init_hidden=True)
    currents = torch.randint(0, 3, (6, 4, 10)) * 0.5  # T, B, neurons; exact in binary
    currents[:, :, :4] = 0
    pre, post = [], []
    for current in currents:
        pre.append(neurons.mem.clone())
        neurons(current)
        post.append(neurons.mem.clone())
    expected = neurobench_membrane_updates(pre, post, samples=4)
    assert F.membrane_updates(torch.stack(post), time_dim=0).item() == expected
    assert 10 < expected < 60
    # at rest 4 neurons stay, and their first step is no change
    strict = F.membrane_updates(torch.stack(post), time_dim=0, initial=0.0)
    unmoved = int((post[0] == 0).sum()) / 4
    assert unmoved >= 4
    assert strict.item() == expected - unmoved


@pytest.mark.parametrize("squeezed", [False, True])
def test_firing_rate_is_that_of_sinabs(squeezed: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("sinabs")
        from sinabs import hooks, layers
    layer = layers.IAFSqueeze(batch_size=3) if squeezed else layers.IAF()
    layer.register_forward_hook(hooks.firing_rate_hook)
    layer.register_forward_hook(hooks.firing_rate_per_neuron_hook)
    current = torch.rand(3, 8, 5) * 2
    with torch.no_grad():
        spikes = layer(current.flatten(0, 1) if squeezed else current).reshape(3, 8, 5)
    value = F.firing_rate(spikes, per_neuron=True)
    assert value["firing_rate"] > 0
    torch.testing.assert_close(value["firing_rate"], layer.hook_data["firing_rate"])
    torch.testing.assert_close(
        value["firing_rate_per_neuron"], layer.hook_data["firing_rate_per_neuron"]
    )


def test_the_monitor_says_the_same_of_its_neurons() -> None:
    sm.register_neuron(Fire, lead="TB")
    monitor = sm.Monitor(torch.nn.Sequential(Fire()), batch_dim=1, time_dim=0, dt=0.01)
    rate, silent = sm.FiringRate(0, 0.01), sm.SilentNeurons(0)
    sparsity = sm.ActivationSparsity()
    with monitor:
        for samples in (3, 1):
            x = torch.rand(4, samples, 6)
            x[..., 0], x[..., 1] = 0, 1
            spikes = monitor.model(x)
            for metric in (rate, silent, sparsity):
                metric.update(spikes)
    row = monitor.compute().neurons["0"]
    assert row.firing_rate == rate.compute().item()
    assert row.sparsity == pytest.approx(sparsity.compute().item())
    assert row.silent_fraction == silent.compute()["silent_fraction"].item()
    assert row.saturated_fraction == silent.compute()["saturated_fraction"].item()


# ------------------------------------------------------------------ which neurons these are


@pytest.mark.parametrize("saturation", [1.0, 0.5, 1 / 3])
def test_maps_of_silent_and_saturated_neurons(saturation: float) -> None:
    trials = TestSilentNeurons()
    batches = trials.batches()
    metric = sm.SilentNeurons(saturation=saturation, per_neuron=True)
    for batch in batches:
        expected = silent_by_hand(trials.arrays([batch]), saturation)
        for value in (
            metric(*batch),
            F.silent_neurons(*batch, saturation=saturation, per_neuron=True),
        ):
            assert set(value) == set(expected)
            for key in ("silent", "saturated"):
                assert value[key].dtype is torch.bool
                np.testing.assert_array_equal(value[key].numpy(), expected[key])
    expected = silent_by_hand(trials.arrays(batches), saturation)
    for key, entry in metric.compute().items():
        assert entry.dtype is (torch.bool if key in ("silent", "saturated") else torch.float64)
        np.testing.assert_array_equal(entry.numpy(), expected[key])


def test_masks_before_any_sample_mark_nothing() -> None:
    value = sm.SilentNeurons(per_neuron=True).compute()
    assert value["silent_fraction"].isnan()
    assert not value["silent"]
    assert not value["saturated"]
    none = F.silent_neurons(torch.zeros(0, 4, 3), per_neuron=True)
    assert none["silent"].tolist() == none["saturated"].tolist() == [False] * 3
    assert none["silent_fraction"].isnan()


@pytest.mark.parametrize("steps", [3, 7, 10, 100])
def test_saturation_is_met_where_the_rate_is_that_decimal(steps: int) -> None:
    """0.1 * 3 is more than 0.3 in floating point: products would miss some."""
    for spikes in range(1, steps + 1):
        x = (torch.arange(steps) < spikes).float().reshape(1, steps, 1)
        at = F.silent_neurons(x, saturation=spikes / steps)["saturated_fraction"]
        above = F.silent_neurons(x, saturation=(spikes + 0.5) / steps)["saturated_fraction"]
        assert (at.item(), above.item()) == (1, 0)


# -------------------------------------------------------------------- closed forms and edges


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_spike_one_spike_all_spikes(dtype: torch.dtype, steps: int) -> None:
    silent = torch.zeros(2, steps, 5, dtype=dtype)
    one, full = silent.clone(), torch.ones_like(silent)
    one[1, 0, 3] = 1
    wide = torch.promote_types(dtype, torch.float32)
    for x, spikes, quiet, busy in [
        (silent, 0, 1, 0),
        (one, 1, 0.8, 0),
        (full, 10 * steps, 0, 1),
    ]:
        elements = 10 * steps
        rate, sparse = F.firing_rate(x), F.activation_sparsity(x)
        values = F.silent_neurons(x)
        assert {v.dtype for v in (rate, sparse, *values.values())} == {wide}
        assert rate == torch.tensor(spikes / elements, dtype=wide)
        assert F.firing_rate(x, dt=0.5) == torch.tensor(spikes / elements / 0.5, dtype=wide)
        assert sparse == torch.tensor((elements - spikes) / elements, dtype=wide)
        assert values["silent_fraction"] == torch.tensor(quiet, dtype=wide)
        assert values["saturated_fraction"] == busy
    assert F.membrane_updates(silent).item() == F.membrane_updates(full).item() == 5
    assert F.membrane_updates(silent, initial=0).item() == 0
    assert F.membrane_updates(full, initial=0).item() == 5
    assert F.membrane_updates(one, initial=0).item() == (0.5 if steps == 1 else 1)


def test_nothing_to_divide_by() -> None:
    for shape in [(0, 3, 2), (2, 0, 2), (2, 3, 0)]:
        x = torch.zeros(shape)
        assert F.firing_rate(x).isnan()
        assert F.firing_rate(x, per_neuron=True)["firing_rate"].isnan()
        assert F.firing_rate(x, per_neuron=True)["firing_rate_per_neuron"].shape == shape[2:]
        assert F.activation_sparsity(x).isnan()
        assert all(v.isnan() for v in F.silent_neurons(x).values())
        for initial in (None, 0.0):
            updates = F.membrane_updates(x, initial=initial)
            assert updates.isnan() if shape[0] == 0 else updates == 0


def test_states_of_scalars_and_of_maps_are_not_added() -> None:
    metric = sm.FiringRate(per_neuron=True)
    metric.update(torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match="different arguments"):
        metric.merge_state(sm.FiringRate())


def test_steps_of_no_length_add_nothing() -> None:
    metric = sm.FiringRate()
    metric.update(torch.ones(2, 3, 4))
    metric.update(torch.zeros(2, 0, 4))
    assert metric.compute() == 1


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not torch.bool], ids=str)
def test_large_batches_are_counted_to_the_last_spike(dtype: torch.dtype) -> None:
    """More than 8-bit integers, half precisions and small blocks can hold."""
    spikes = torch.randint(0, 2, (40, 301, 70))
    spikes[:, :, 0], spikes[:, :, 1] = 0, 1
    x = spikes.to(dtype)
    total = int(spikes.sum())
    rate = sm.FiringRate(per_neuron=True)
    rate.update(x)
    assert rate.compute()["firing_rate"].item() == total / spikes.numel()
    assert rate.compute()["firing_rate_per_neuron"][1] == 1
    sparsity = sm.ActivationSparsity()
    sparsity.update(x)
    assert sparsity.compute().item() == (spikes.numel() - total) / spikes.numel()
    silent = sm.SilentNeurons()
    silent.update(x)
    assert silent.compute()["silent_fraction"].item() == 1 / 70
    assert silent.compute()["saturated_fraction"].item() == 1 / 70
    updates = sm.MembraneUpdates()
    updates.update(x)
    changes = 40 * 70 + int(spikes.diff(dim=1).abs().sum())
    assert updates.compute().item() == changes / 40


@pytest.mark.parametrize("time_dim", [0, 1, 2, 3, -1, -4])
def test_time_anywhere(time_dim: int) -> None:
    x = torch.randint(-1, 2, (4, 3, 2, 5))
    moved = x.movedim(1, time_dim)
    assert F.firing_rate(moved, time_dim=time_dim) == F.firing_rate(x)
    assert F.membrane_updates(moved, time_dim=time_dim).item() == updates_by_hand([x.numpy()], None)
    here = F.silent_neurons(x, per_neuron=True)
    there = F.silent_neurons(moved, time_dim=time_dim, per_neuron=True)
    assert all(torch.equal(here[key], there[key]) for key in here)


def test_sparse_equals_dense() -> None:
    x = torch.randint(-1, 2, (4, 3, 5)).float()
    for sparse in (x.to_sparse(), x.to_sparse(2)):
        assert F.firing_rate(sparse) == F.firing_rate(x)
        assert F.activation_sparsity(sparse) == F.activation_sparsity(x)
        assert F.membrane_updates(sparse) == F.membrane_updates(x)
        assert F.silent_neurons(sparse) == F.silent_neurons(x)
    cancelled = torch.sparse_coo_tensor(
        [[0, 0, 1], [2, 2, 0]], [1.0, -1.0, 1.0], (2, 3), check_invariants=True
    )
    assert F.activation_sparsity(cancelled) == torch.tensor(5 / 6)


def test_membrane_potentials_that_stay() -> None:
    zeros = torch.tensor([[[0.0], [-0.0], [0.0]]])
    assert F.membrane_updates(zeros).item() == 1
    assert F.membrane_updates(zeros, initial=-0.0).item() == 0
    tiny = torch.tensor([[[1.0], [1.0 + 2**-23], [1.0]]])
    assert F.membrane_updates(tiny).item() == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_initial_potential_in_the_dtype_of_the_potentials(dtype: torch.dtype) -> None:
    rest = torch.full((2, 3, 4), -0.1, dtype=dtype)
    assert F.membrane_updates(rest, initial=-0.1).item() == 0
    assert F.membrane_updates(rest, initial=0.1).item() == 4


def test_gradient_reaches_silent_neurons() -> None:
    x = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], requires_grad=True)
    sm.FiringRate(dt=0.5)(x).backward()
    assert torch.equal(x.grad, torch.tensor([[[0.5, 0.5], [-0.5, 0.5]]]))


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("metric", "function", "kwargs", "error"),
    [
        (sm.FiringRate, F.firing_rate, {"time_dim": "1"}, TypeError),
        (sm.FiringRate, F.firing_rate, {"time_dim": True}, TypeError),
        (sm.FiringRate, F.firing_rate, {"dt": 0}, ValueError),
        (sm.FiringRate, F.firing_rate, {"dt": math.nan}, ValueError),
        (sm.FiringRate, F.firing_rate, {"dt": "1"}, TypeError),
        (sm.FiringRate, F.firing_rate, {"per_neuron": 1}, TypeError),
        (sm.SilentNeurons, F.silent_neurons, {"time_dim": 1.0}, TypeError),
        (sm.SilentNeurons, F.silent_neurons, {"saturation": 0}, ValueError),
        (sm.SilentNeurons, F.silent_neurons, {"saturation": math.inf}, ValueError),
        (sm.SilentNeurons, F.silent_neurons, {"saturation": None}, TypeError),
        (sm.SilentNeurons, F.silent_neurons, {"per_neuron": None}, TypeError),
        (sm.MembraneUpdates, F.membrane_updates, {"time_dim": "1"}, TypeError),
        (sm.MembraneUpdates, F.membrane_updates, {"initial": True}, TypeError),
        (sm.MembraneUpdates, F.membrane_updates, {"initial": "rest"}, TypeError),
        (sm.MembraneUpdates, F.membrane_updates, {"initial": math.nan}, ValueError),
    ],
)
def test_bad_arguments(
    metric: Any, function: Any, kwargs: dict[str, Any], error: type[Exception]
) -> None:
    name = next(iter(kwargs))
    with pytest.raises(error, match=f"^{name}: expected .*found"):
        metric(**kwargs)
    with pytest.raises(error, match=f"^{name}: expected .*found"):
        function(torch.ones(1, 2, 3), **kwargs)


@pytest.mark.parametrize(
    "metric", [sm.FiringRate(), sm.ActivationSparsity(), sm.SilentNeurons(), sm.MembraneUpdates()]
)
def test_not_finite_on_an_accelerator_raises_at_compute(metric: Any) -> None:
    """``meta`` has no values, so the state is poisoned by hand the way the update would."""
    metric.update(torch.ones(1, 2, 3))
    name = metric._sums[0]
    setattr(metric, name, getattr(metric, name) + math.nan)
    with pytest.raises(ValueError, match="found another: since the last reset NaN"):
        metric.compute()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_on_cuda_raises_at_compute(bad: float) -> None:
    for metric in (
        sm.FiringRate(),
        sm.ActivationSparsity(),
        sm.SilentNeurons(),
        sm.MembraneUpdates(),
    ):
        metric.to("cuda").update(torch.tensor([[[1.0], [bad]]], device="cuda"))
        with pytest.raises(ValueError, match="found another"):
            metric.compute()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_large_integer_potentials_are_told_from_the_initial_one(dtype: torch.dtype) -> None:
    potentials = torch.tensor([[[2**24 + 1]], [[2**24]]], dtype=dtype)
    assert sm.functional.membrane_updates(potentials, initial=2**24) == 0.5


def test_poisoned_spikes_give_no_fraction_of_silent_neurons() -> None:
    """What a function on an accelerator returns, where NaN cannot be refused."""
    from snnmetrics.functional.activity import silent_neurons_compute

    for bad in (float("nan"), float("inf")):
        spikes = torch.tensor([bad, 0.0, 1.0], dtype=torch.float64)
        values = silent_neurons_compute(spikes, torch.tensor(4), 1.0, per_neuron=False)
        assert all(bool(value.isnan()) for value in values.values())


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_dtypes_of_every_width(dtype: torch.dtype) -> None:
    x = torch.tensor([[[0, 3], [1, 0]]]).to(dtype)
    assert sm.functional.activation_sparsity(x) == 0.5
    assert sm.functional.firing_rate(x) == 1.0


def test_eight_bit_floats_are_refused_by_name() -> None:
    x = torch.ones(1, 2, 3).to(torch.float8_e4m3fn)
    for function in (sm.functional.firing_rate, sm.functional.activation_sparsity):
        with pytest.raises(ValueError, match=r"16 bits or more\), found torch\.float8"):
            function(x)
