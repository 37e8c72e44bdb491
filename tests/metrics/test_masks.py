"""Samples that must not count, and what pads a batch with them: ``DistributedSampler``."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler
from torchmetrics import MetricCollection

import snnmetrics as sm
from snnmetrics.metrics.base import SNNMetric
from tests.helpers.metric_trials import DTYPES
from tests.helpers.ranks import Ranks, results_of

pytestmark = pytest.mark.versions

WORLD = 2


def scores(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spikes ``(B, T, C)`` and targets."""
    generator = torch.Generator().manual_seed(seed)
    spikes = torch.randint(0, 2, (samples, 6, 4), generator=generator).float()
    return spikes, torch.randint(0, 4, (samples,), generator=generator)


def metrics(**metric_kwargs: Any) -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": sm.AccuracyOverTime(**metric_kwargs),
            "exit": sm.EarlyExit([0.3, 0.4], readout="sum", **metric_kwargs),
            "cutoff": sm.OptimalCutoff(**metric_kwargs),
            "first": sm.TimeToFirstSpike(per_neuron=True, **metric_kwargs),
        }
    )


def metrics_of_layers(**metric_kwargs: Any) -> MetricCollection:
    return MetricCollection(
        {
            "intervals": sm.IntervalStatistics(per_neuron=True, **metric_kwargs),
            "fano": sm.FanoFactor(**metric_kwargs),
            "membrane": sm.MembraneStatistics(per_neuron=True, **metric_kwargs),
            "gradient": sm.GradientStatistics(**metric_kwargs),
        }
    )


def test_every_metric_names_the_mask() -> None:
    """Else a ``MetricCollection`` would keep it from the metric."""
    classes = [c for c in vars(sm).values() if isinstance(c, type) and issubclass(c, SNNMetric)]
    assert sm.SynOps in classes
    for metric in classes:
        assert inspect.signature(metric.update).parameters["mask"].kind.name == "KEYWORD_ONLY"


def test_an_update_of_ones_own_is_called() -> None:
    """Also where the same class, or one that inherits from it, has its own ``contribution``."""
    called: list[type] = []

    class Doubled(sm.SynOps):
        def update(self, activations: torch.Tensor, *, mask: torch.Tensor | None = None) -> None:
            called.append(type(self))
            super().update(activations, mask=mask)

        def contribution(self, activations: torch.Tensor) -> Any:
            return super().contribution(2 * activations)

    class Quadrupled(Doubled):
        def contribution(self, activations: torch.Tensor, **options: Any) -> Any:
            return super().contribution(2 * activations)

    for metric, factor in ((Doubled(3), 2), (Quadrupled(3), 4)):
        collection = MetricCollection({"synops": metric})
        collection.update(torch.ones(2, 4), mask=torch.tensor([True, False]))
        assert collection.compute()["synops"].item() == 12 * factor
    assert called == [Doubled, Quadrupled]
    arguments = inspect.signature(Quadrupled.update).parameters
    assert list(arguments) == ["self", "activations", "mask", "options"]


# ----------------------------------------------------------------- dtypes and layouts


@pytest.mark.parametrize("time_dim", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_and_sparse_of_every_dtype(dtype: torch.dtype, time_dim: int | None) -> None:
    spikes = torch.randint(0, 2, (5, 5, 4)).to(dtype)
    mask = torch.tensor([True, False, False, True, True])
    kept = spikes[:, mask] if time_dim == 0 else spikes[mask]
    expected = sm.functional.synops(kept, 3, time_dim=time_dim)
    for given in (spikes, spikes.to_sparse(), spikes.to_sparse(1), spikes.to_sparse(2)):
        metric = sm.SynOps(3, time_dim=time_dim)
        value = metric(given, mask=mask)
        assert all(torch.equal(value[key], expected[key]) for key in expected)
        assert metric.samples == 3


def test_an_index_that_comes_twice_in_a_sparse_tensor_is_one_element() -> None:
    indices, values = torch.tensor([[0, 0, 1, 2], [1, 1, 0, 0]]), torch.tensor([1.0, 1, 5, 7])
    spikes = torch.sparse_coo_tensor(indices, values, (3, 2), check_invariants=True)
    metric = sm.SynOps(1)
    metric.update(spikes, mask=torch.tensor([True, False, True]))
    assert metric.compute()["synops_per_neuron"].tolist() == [3.5, 1]


@pytest.mark.parametrize("sparse_dim", [1, 2])
def test_gradient_through_a_sparse_tensor(sparse_dim: int) -> None:
    mask = torch.tensor([True, False, True, False])
    dense = torch.rand(4, 3) + 0.1
    dense[1] = torch.nan
    leaf = dense.to_sparse(sparse_dim).requires_grad_()
    sm.SynOps(torch.tensor([1.0, 2, 3]))(leaf, mask=mask)["synops"].backward()
    assert torch.equal(leaf.grad.to_dense(), torch.tensor([1.0, 2, 3]) / 2 * mask[:, None])


# ----------------------------------------------------------------------- ways to call


def test_arguments_by_name_in_any_order() -> None:
    outputs, targets = scores(4, 0)
    mask = torch.tensor([False, True, True, False])
    time_first = outputs.movedim(0, 1)
    expected = sm.functional.accuracy_over_time(outputs[1:3], targets[1:3])
    metric = sm.AccuracyOverTime(time_dim=0)
    assert torch.equal(metric(target=targets, mask=mask, preds=time_first), expected)
    metric.update(mask=mask, target=targets, preds=time_first)
    assert metric.samples == 4


def test_a_mask_by_position_is_no_target() -> None:
    spikes, _ = scores(4, 0)
    mask = torch.ones(4, dtype=torch.bool)
    for metric in (sm.TimeToFirstSpike(), sm.FiringRate()):
        for call in (metric.update, metric):
            with pytest.raises(TypeError):
                call(spikes, mask)
        assert metric.update_count == 0


def test_an_optional_argument_may_be_missing() -> None:
    spikes, targets = scores(4, 0)
    mask = torch.tensor([False, True, True, False])
    for given in ((), (None,), (targets,)):
        metric = sm.TimeToFirstSpike()
        value = metric(spikes, *given, mask=mask)["time"]
        assert torch.equal(value, sm.functional.time_to_first_spike(spikes[mask])["time"])


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_collection_of_several_metrics(method: str) -> None:
    masked, sliced = metrics(), metrics()
    for seed in range(3):
        outputs, targets = scores(5, seed)
        mask = torch.arange(5) != seed
        getattr(masked, method)(outputs, targets, mask=mask)
        getattr(sliced, method)(outputs[mask], targets[mask])
    values, expected = masked.compute(), sliced.compute()
    assert set(values) == set(expected)
    assert all(torch.equal(values[key], expected[key]) for key in expected)


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_collection_of_metrics_of_layers(method: str) -> None:
    """Each takes the argument that it names, and all the mask."""
    masked, sliced = metrics_of_layers(), metrics_of_layers()
    for seed in range(3):
        spikes, _ = scores(5, seed)
        gradient, mask = spikes / 2 - 0.25, torch.arange(5) != seed
        given = {"activations": spikes, "potentials": 2 * spikes, "gradient": gradient}
        getattr(masked, method)(**given, mask=mask)
        getattr(sliced, method)(**{name: value[mask] for name, value in given.items()})
    values, expected = masked.compute(), sliced.compute()
    assert len(values) == 10 + 1 + 7 + 5
    for key, entry in expected.items():
        torch.testing.assert_close(values[key], entry, rtol=0, atol=0, equal_nan=True)
    assert values["norm_per_step"].tolist() == pytest.approx([1.0] * 6)  # 4 x 4 quarters, squared


def test_a_view_passes_the_mask_on() -> None:
    spikes, mask = torch.tensor([[1.0, 1.0], [5.0, 0.0]]), torch.tensor([True, False])
    view = sm.ScalarView(sm.SynOps(1), "synops")
    assert view(spikes, mask=mask) == 2
    view.update(spikes, mask=mask)
    assert MetricCollection([view])(spikes, mask=mask)["ScalarView"] == 2
    assert view.compute() == 2


def test_a_mask_and_samples_made_in_inference_mode() -> None:
    with torch.inference_mode():
        mask, fixed = torch.tensor([True, False, True]), torch.ones(3, 2)
    spikes = torch.ones(3, 2, requires_grad=True)
    metric = sm.SynOps(1)
    metric.update(fixed, mask=mask)
    metric(spikes * fixed.clone(), mask=mask)["synops"].backward()
    with torch.inference_mode():
        metric.update(spikes, mask=mask)
    assert spikes.grad.sum(1).tolist() == [1, 0, 1]
    assert metric.samples == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_not_waited_for() -> None:
    metric, spikes = sm.SynOps(1).to("cuda"), torch.ones(3, 2, device="cuda")
    mask = torch.tensor([True, False, True])
    metric.update(spikes, mask=mask.to("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(spikes, mask=mask)
        metric(spikes, mask=mask)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.samples == 6
    assert metric.compute()["synops"] == 2


# ------------------------------------------------------------------------- two ranks


def _epoch_of(rank: int, samples: int, masked: bool) -> tuple[dict[str, Tensor], int]:
    """All metrics over this rank's part of a data set, padded by the sampler."""
    dataset = TensorDataset(*scores(samples, 0))
    sampler = DistributedSampler(dataset, WORLD, rank, shuffle=True, seed=3)
    collection = metrics()
    collection.add_metrics({"synops": sm.SynOps(10, time_dim=1)})
    position = rank
    for outputs, targets in DataLoader(dataset, batch_size=2, sampler=sampler):
        places = position + WORLD * torch.arange(len(targets))
        position += WORLD * len(targets)
        mask = {"mask": places < samples} if masked else {}
        for name, metric in collection.items():
            metric.update(*((outputs,) if name == "synops" else (outputs, targets)), **mask)
    values = {name: metric.compute() for name, metric in collection.items(keep_base=True)}
    flat = {}
    for name, value in values.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"{name}{key}": entry for key, entry in entries}
    return flat, len(sampler)


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("samples", [1, 7, 8, 9])
def test_a_padding_sampler_on_two_ranks(two_ranks: Ranks, samples: int) -> None:
    outputs, targets = scores(samples, 0)
    alone = metrics()
    alone.update(outputs, targets)
    synops = sm.functional.synops(outputs, 10, time_dim=1)["synops"]
    shuffled = torch.randperm(samples, generator=torch.Generator().manual_seed(3))
    padded = torch.cat([shuffled, shuffled[: samples % 2]])
    wrong = sm.functional.accuracy_over_time(outputs[padded].double(), targets[padded])
    right = alone["accuracy"].compute()

    for value, share in results_of(
        two_ranks.run(_epoch_of, [(rank, samples, True) for rank in range(WORLD)])
    ):
        assert share == -(-samples // 2)
        assert torch.equal(value["accuracy"], right)
        assert value["synopssynops"].float() == synops
        assert torch.equal(value["exitsteps"], alone["exit"].compute()["steps"])
        first = alone["first"].compute()["time_per_neuron"]
        assert torch.equal(value["firsttime_per_neuron"], first)
    for value, _ in results_of(
        two_ranks.run(_epoch_of, [(rank, samples, False) for rank in range(WORLD)])
    ):
        assert torch.equal(value["accuracy"], wrong)
        assert torch.equal(wrong, right) == (samples in (1, 8))


def _steps_of(spikes: Tensor, masks: list[Tensor]) -> tuple[list[float], Tensor, float]:
    metric = sm.SynOps(1, dist_sync_on_step=True)
    steps = []
    for mask in masks:
        leaf = spikes.clone().requires_grad_()
        value = metric(leaf, mask=mask)["synops"]
        value.backward()
        steps.append(value.item())
    return steps, leaf.grad, metric.compute()["synops"].item()


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("second", [[True, False], [False, False]])
def test_dist_sync_on_step(two_ranks: Ranks, second: list[bool]) -> None:
    spikes = torch.tensor([[1.0, 2.0], [30.0, 40.0]])
    masks = [torch.tensor([True, True]), torch.tensor(second)]
    outcomes = two_ranks.run(_steps_of, [(spikes, [mask]) for mask in masks])
    samples = 2 + sum(second)
    for ((value,), gradient, epoch), mask in zip(results_of(outcomes), masks, strict=True):
        expected = (73 + 3 * sum(second)) / samples
        assert value == pytest.approx(expected, rel=1e-6)
        assert epoch == expected
        torch.testing.assert_close(gradient, (mask / samples)[:, None].expand(2, 2))


@pytest.mark.xdist_group("ranks")
def test_a_step_without_a_sample_that_counts_on_any_rank(two_ranks: Ranks) -> None:
    masks = [torch.tensor([True, False]), torch.tensor([False, False])]
    outcomes = two_ranks.run(_steps_of, [(torch.ones(2, 3), masks)] * WORLD)
    for (first, second), gradient, epoch in results_of(outcomes):
        assert first == epoch == 3
        assert math.isnan(second)
        assert not gradient.any()


@pytest.mark.parametrize("arguments", [{}, {"mask": torch.ones(2, dtype=torch.bool)}])
def test_a_missing_argument_is_said_of_update(arguments: dict[str, Tensor]) -> None:
    metric = sm.SynOps(fanout=2)
    metric.update(torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"^SynOps\.update\(\) missing .*'activations'"):
        metric.update(**arguments)
    with pytest.raises(TypeError, match=r"^SynOps\.update\(\) .* unexpected .*'spikes'"):
        metric.update(torch.ones(2, 3), spikes=1, **arguments)
    assert metric.compute()["synops"] == 6
