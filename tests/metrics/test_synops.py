from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

import snnmetrics as sm
from tests.helpers.metric_trials import DTYPES, Batch, MetricTrials

pytestmark = pytest.mark.versions


def counted_by_hand(
    activations: np.ndarray, fanout: Any, sample_time: float | None, per_neuron: bool = True
) -> dict[str, np.ndarray]:
    """Activations (N, *neuron_shape): one spike after the other, in Python integers."""
    neurons = activations.shape[1:]
    fanout = np.broadcast_to(np.asarray(fanout, dtype=np.float64), neurons)
    totals = np.zeros(neurons, dtype=object)
    for index in np.ndindex(*activations.shape):
        totals[index[1:]] += abs(int(activations[index])) * int(fanout[index[1:]])
    mean = totals.astype(np.float64) / len(activations)
    values = {"synops": np.float64(int(totals.sum())) / len(activations)}
    if per_neuron:
        values["synops_per_neuron"] = mean
    if sample_time is not None:
        values["synops/s"] = values["synops"] / sample_time
    return values


class SynOpsTrials(MetricTrials):
    metric_class = sm.SynOps
    function = staticmethod(sm.functional.synops)
    differentiable = True
    neuron_shape: tuple[int, ...]

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, *self.neuron_shape)
        return (torch.randint(-1, 3, size, generator=generator).float(),)

    def reference(self, batches: list[Batch]) -> Any:
        spikes = torch.cat([batch[0] for batch in batches]).numpy()
        args = self.metric_args
        return counted_by_hand(spikes, args["fanout"], args.get("sample_time"))

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        nan, infinite = good.clone(), good.clone()
        nan[0], infinite[1] = math.nan, -math.inf
        wider = torch.zeros(2, *self.neuron_shape[:-1], self.neuron_shape[-1] + 1)
        return [
            ((nan,), "activations: expected finite"),
            ((infinite,), "activations: expected finite"),
            ((good.to(torch.complex64),), "activations: expected a real dtype"),
            ((wider,), "expected neuron shape|expected batch, time"),
            ((good[..., :1],), "expected neuron shape|expected batch, time"),
            ((good.unsqueeze(1),), "expected .*shape"),
            ((torch.zeros(2),), "activations: expected shape|expected batch, time"),
            ((good.numpy(),), "activations: expected a torch.Tensor, found ndarray"),
            ((good.to("meta"),), "expected a tensor on cpu"),
        ]


class TestSynOpsOfAMap(SynOpsTrials):
    neuron_shape = (2, 3, 2)
    metric_args: ClassVar = {
        "fanout": torch.arange(12).reshape(2, 3, 2),
        "sample_time": 0.25,
    }
    other_args: ClassVar = {"fanout": torch.arange(12).reshape(2, 3, 2) + 0.005}


class TestSynOpsOfANumber(SynOpsTrials):
    neuron_shape = (5,)
    metric_args: ClassVar = {"fanout": 1000}
    other_args: ClassVar = {"fanout": 1000.005}


class TestSynOpsOfOneNeuron(SynOpsTrials):
    neuron_shape = (1,)
    metric_args: ClassVar = {"fanout": torch.tensor(7)}
    other_args: ClassVar = {"fanout": torch.tensor([7])}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return [bad for bad in super().bad_batches() if bad[0][0].shape[-1:] != (1,)]


class TestSynOpsOverTime(SynOpsTrials):
    """Time anywhere: here ``(T, B, C)``; magnitudes are taken before the sum over time."""

    neuron_shape = (4,)
    steps = 3
    metric_args: ClassVar = {"fanout": torch.tensor([1, 2, 0, 5]), "time_dim": 0}
    other_args: ClassVar = {"fanout": torch.tensor([1, 2, 0, 5]), "time_dim": -3}

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randint(-1, 2, (self.steps, samples, 4), generator=generator).float(),)

    def reference(self, batches: list[Batch]) -> Any:
        spikes = torch.cat([batch[0].abs().sum(0) for batch in batches]).numpy()
        return counted_by_hand(spikes, self.metric_args["fanout"], None)


class TestSynOpsAsScalar(SynOpsTrials):
    neuron_shape = (2, 3)
    metric_args: ClassVar = {"fanout": 9, "per_neuron": False, "sample_time": 2}
    other_args: ClassVar = {"fanout": 9, "per_neuron": True}

    def reference(self, batches: list[Batch]) -> Any:
        spikes = torch.cat([batch[0] for batch in batches]).numpy()
        return counted_by_hand(spikes, 9, 2, per_neuron=False)


# ------------------------------------------------------------------ shapes and dtypes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 3), (2, 3, 2, 2, 2), (300, 70)], ids=str)
def test_every_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    signed = dtype.is_signed
    spikes = torch.randint(-3 if signed else 0, 4 if dtype is not torch.bool else 2, shape)
    fanout = torch.randint(0, 50, shape[1:])
    expected = counted_by_hand(spikes.numpy(), fanout.numpy(), None)
    metric = sm.SynOps(fanout)
    batch = metric(spikes.to(dtype))
    assert batch["synops"].dtype is torch.promote_types(dtype, torch.float32)
    for key, value in metric.compute().items():
        np.testing.assert_array_equal(value.numpy(), expected[key])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sparse_equals_dense(dtype: torch.dtype) -> None:
    dense = torch.randint(0, 2, (5, 4, 3)).to(dtype)
    if dtype.is_signed:
        dense[0] = -dense[0]
    metric, sparse = sm.SynOps(3), sm.SynOps(3)
    metric.update(dense)
    sparse.update(dense.to_sparse())
    sparse.update(dense.to_sparse(2))  # hybrid: one dense dimension
    metric.update(dense)
    assert torch.equal(metric.compute()["synops_per_neuron"], sparse.compute()["synops_per_neuron"])


def test_sparse_duplicates_are_one_element() -> None:
    """Two entries 1 and -1 at one index are a zero, as in the dense tensor."""
    twice = torch.sparse_coo_tensor(
        [[0, 0, 1], [2, 2, 0]], [1.0, -1.0, 1.0], (2, 3), check_invariants=True
    )
    assert sm.functional.synops(twice, 5)["synops_per_neuron"].tolist() == [2.5, 0, 0]


def test_sparse_gradient_reaches_stored_elements() -> None:
    sparse = torch.eye(2, 3).mul(torch.tensor([[1.0], [-1.0]])).to_sparse().requires_grad_()
    sm.functional.synops(sparse, 8)["synops"].backward()
    assert torch.equal(sparse.grad.to_dense(), torch.tensor([[4.0, 0, 0], [0, -4, 0]]))


def test_memory_layout_does_not_matter() -> None:
    spikes = torch.randint(0, 3, (4, 6, 5, 5)).float()
    fanout = torch.randint(1, 9, (6, 5, 5))
    expected = sm.functional.synops(spikes, fanout)["synops_per_neuron"]
    for other in (
        spikes.contiguous(memory_format=torch.channels_last),
        spikes.repeat_interleave(2, 0)[::2],
        spikes.transpose(0, 3).contiguous().transpose(0, 3),
        spikes.flip(2).flip(2),
    ):
        assert torch.equal(sm.functional.synops(other, fanout)["synops_per_neuron"], expected)


@pytest.mark.parametrize("time_dim", [0, 1, 2, 3, -1, -4])
def test_time_anywhere(time_dim: int) -> None:
    spikes = torch.randint(-1, 2, (4, 3, 2, 5))  # B, T, C, L
    fanout = torch.randint(1, 9, (2, 5))
    expected = counted_by_hand(spikes.abs().sum(1).numpy(), fanout.numpy(), None)
    moved = spikes.movedim(1, time_dim)
    values = sm.functional.synops(moved, fanout, time_dim=time_dim)
    np.testing.assert_allclose(values["synops"], expected["synops"])
    np.testing.assert_allclose(values["synops_per_neuron"], expected["synops_per_neuron"])


# ------------------------------------------------------------------------- exactness


def test_a_thousand_bfloat16_batches_are_counted_to_the_last_spike() -> None:
    metric = sm.SynOps(fanout=3)
    spikes = (torch.rand(64, 10) < 0.5).to(torch.bfloat16)
    for _ in range(1000):
        metric.update(spikes)
    total = metric.compute()["synops"] * metric.samples
    assert total.item() == 1000 * 3 * int(spikes.double().sum())


def test_counts_beyond_the_integers_of_float32() -> None:
    metric = sm.SynOps(fanout=1)
    metric.update(torch.tensor([[2.0**24]]))
    metric.update(torch.tensor([[1.0]]))
    assert metric.synops.item() == 2**24 + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_times_a_large_fanout_does_not_overflow(dtype: torch.dtype) -> None:
    value = sm.functional.synops(torch.full((1, 1), 256.0, dtype=dtype), 1000)["synops"]
    assert value.item() == 256_000
    assert value.dtype is torch.float32


# -------------------------------------------------------------------------- gradient


def test_gradient_reaches_silent_neurons() -> None:
    fanout = torch.tensor([1.0, 2.0, 3.0, 4.0])
    spikes = torch.tensor([[0.0, 1.0, -1.0, -0.0], [2.0, 0.0, 0.0, 0.0]], requires_grad=True)
    sm.SynOps(fanout)(spikes)["synops"].backward()
    expected = torch.tensor([[0.5, 1.0, -1.5, 2.0], [0.5, 1.0, 1.5, 2.0]])
    assert torch.equal(spikes.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("low", [0, -1])
def test_gradient_of_large_inputs(dtype: torch.dtype, low: int) -> None:
    """Large inputs take another way through the code than the ones above."""
    spikes = torch.randint(low, 2, (32, 5, 40, 50)).to(dtype)
    fanout = torch.randint(0, 100, (32, 5, 40, 50)[1:]).double()
    leaf = spikes.clone().requires_grad_()
    sm.functional.synops(leaf, fanout)["synops"].backward()
    sign = torch.where(spikes < 0, -1.0, 1.0).double()
    assert torch.equal(leaf.grad, (sign * fanout / 32).to(dtype))


def test_spikes_may_be_changed_in_place_afterwards() -> None:
    weights = torch.rand(64, 200, requires_grad=True)
    spikes = weights * 1.0
    value = sm.SynOps(2)(spikes)["synops"]
    spikes.mul_(2)
    value.backward()
    assert torch.equal(weights.grad, torch.full_like(weights, 2 / 64))


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fanout", "error", "message"),
    [
        (-1, ValueError, "non-negative"),
        (math.nan, ValueError, "finite"),
        (math.inf, ValueError, "finite"),
        (True, TypeError, "fanout"),
        ("10", TypeError, "fanout"),
        (None, TypeError, "fanout"),
        (1j, TypeError, "fanout"),
        ([1.0], TypeError, "fanout"),
        (torch.tensor([1.0, -2.0]), ValueError, "found -2.0"),
        (torch.tensor([1.0, math.nan]), ValueError, "finite"),
        (torch.tensor([True]), TypeError, "boolean"),
        (torch.tensor([1j]), ValueError, "real"),
    ],
)
def test_bad_fanout(fanout: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sm.SynOps(fanout)
    with pytest.raises(error, match=message):
        sm.functional.synops(torch.ones(1, 2), fanout)


@pytest.mark.parametrize("sample_time", [0, -1.0, math.nan, math.inf])
def test_bad_sample_time(sample_time: float) -> None:
    with pytest.raises(ValueError, match="sample_time"):
        sm.SynOps(1, sample_time)
    with pytest.raises(ValueError, match="sample_time"):
        sm.functional.synops(torch.ones(1, 2), 1, sample_time)


@pytest.mark.parametrize("kwargs", [{"sample_time": "1"}, {"time_dim": 1.0}, {"time_dim": True}])
def test_arguments_of_the_wrong_type(kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(kwargs))):
        sm.SynOps(1, **kwargs)


def test_a_map_does_not_broadcast() -> None:
    metric = sm.SynOps(torch.ones(1, 10))
    with pytest.raises(ValueError, match=r"expected neuron shape \(1, 10\).*found \(10,\)"):
        metric.update(torch.ones(4, 10))


def test_the_message_about_a_wrong_shape_mentions_time() -> None:
    with pytest.raises(ValueError, match="time_dim=None"):
        sm.SynOps(torch.ones(10)).update(torch.ones(8, 4, 10))


def test_the_map_is_a_copy() -> None:
    fanout = torch.ones(3)
    metric = sm.SynOps(fanout)
    fanout.zero_()
    metric.update(torch.ones(1, 3))
    assert metric.compute()["synops"] == 3


def test_zero_neurons_and_zero_steps() -> None:
    assert sm.functional.synops(torch.ones(2, 0), 1)["synops"] == 0
    assert sm.functional.synops(torch.ones(2, 0, 3), 1, time_dim=1)["synops"] == 0


def test_too_many_dimensions_are_refused() -> None:
    metric = sm.SynOps(1)
    with pytest.raises(ValueError, match="at most 8 dimensions"):
        metric.update(torch.ones([1] * 10))
    assert metric.update_count == 0


def test_not_finite_on_an_accelerator_raises_at_compute() -> None:
    """Where reading values would make the device wait, NaN poisons the sum."""
    for bad in (math.nan, math.inf, -math.inf):
        metric = sm.SynOps(1)
        metric.update(torch.ones(1, 2))
        metric.synops = metric.synops + _sum_as_on_a_device(torch.tensor([[1.0, bad]]))
        with pytest.raises(ValueError, match="found another: since the last reset NaN"):
            metric.compute()
        metric.reset()
        metric.update(torch.ones(1, 2))
        assert metric.compute()["synops"] == 2


def _sum_as_on_a_device(activations: Tensor) -> Tensor:
    from snnmetrics.tensors import sums

    return sums._sum_on_device(activations, (0,))


# ---------------------------------------------------------------------- collections


def test_names_in_a_collection() -> None:
    one = MetricCollection({"l1": sm.SynOps(1, per_neuron=False)}, prefix="val_")
    two = MetricCollection(
        {"l1": sm.SynOps(1, per_neuron=False), "l2": sm.SynOps(2, per_neuron=False)}, prefix="val_"
    )
    for collection in (one, two):
        collection.update(torch.ones(1, 3))
    assert set(one.compute()) == {"val_synops"}
    assert set(two.compute()) == {"val_l1_synops", "val_l2_synops"}


def test_what_torch_func_transforms_is_not_kept() -> None:
    metric, spikes = sm.SynOps(2.0), torch.rand(4, 3)
    metric.update(spikes)
    before = metric.synops
    with pytest.raises(RuntimeError, match=r"torch\.func.*functional"):
        torch.func.grad(lambda x: metric(x)["synops"])(spikes)
    assert metric.synops is before
    assert metric.update_count == 1
    gradient = torch.func.grad(lambda x: sm.functional.synops(x, 2.0)["synops"])(spikes)
    assert torch.equal(gradient, torch.full((4, 3), 0.5))


def test_a_sum_beyond_float64_is_refused_before_it_is_kept() -> None:
    metric = sm.SynOps(10.0)
    metric.update(torch.ones(1, 2))
    with pytest.raises(ValueError, match="beyond float64"):
        metric.update(torch.full((1, 2), 1e308, dtype=torch.float64))
    assert metric.compute()["synops"] == 20


@pytest.mark.parametrize("time_dim", [0, 1])
def test_gradient_of_large_inputs_over_time(time_dim: int) -> None:
    spikes = torch.randint(-1, 2, (40, 30, 50)).float().requires_grad_()
    fanout = torch.rand(50, dtype=torch.float64)
    sm.functional.synops(spikes, fanout, time_dim=time_dim)["synops"].backward()
    samples = 30 if time_dim == 0 else 40
    sign = torch.where(spikes < 0, -1.0, 1.0).detach().double()
    torch.testing.assert_close(spikes.grad, (sign * fanout / samples).float(), rtol=1e-6, atol=0)


def test_in_a_training_step() -> None:
    """The loss has the gradient of both terms, and an optimiser step lowers synops."""
    layer = torch.nn.Linear(6, 4)
    inputs = torch.rand(16, 6)
    metric = sm.SynOps(10)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.05)
    history = []
    for _ in range(5):
        optimiser.zero_grad()
        synops = metric(torch.relu(layer(inputs)))["synops"]
        (synops * 0.1).backward()
        optimiser.step()
        history.append(synops.item())
    assert history == sorted(history, reverse=True)
    assert history[-1] < history[0]


def test_a_layer_as_fan_out_is_answered_with_its_map() -> None:
    layer = torch.nn.Linear(3, 4)
    for make in (sm.SynOps, lambda fanout: sm.functional.synops(torch.ones(1, 3), fanout)):
        with pytest.raises(
            TypeError, match=r"^fanout: .*module Linear; .*sm\.fanout\(layer, shape\)"
        ):
            make(layer)  # type: ignore[arg-type]
    assert sm.SynOps(sm.fanout(layer, (3,)))(torch.ones(1, 3))["synops"] == 12
