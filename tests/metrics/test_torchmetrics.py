"""Collections and wrappers of torchmetrics with the metrics of this library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import (
    BootStrapper,
    ClasswiseWrapper,
    MetricTracker,
    MinMaxMetric,
    MultioutputWrapper,
    MultitaskWrapper,
    Running,
)

import snnmetrics as sm

EPOCHS = [torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])]
SYNOPS = [20.0, 10.0, 30.0]  # of a fan-out of 10
OUTPUTS = torch.tensor(
    [
        [[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]],  # B=2, T=2, C=3: class 1, then class 0
        [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],  # class 2 at both steps
    ]
)
LABELS = torch.tensor([0, 2])


def view() -> sm.ScalarView:
    return sm.ScalarView(sm.SynOps(10), "synops")


# ------------------------------------------------------------------------ collections


class AccuracyOfSums(MulticlassAccuracy):
    """torchmetrics' accuracy of outputs ``(B, T, C)``, summed over time."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds.sum(1), target)


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_collection_with_accuracy_is_updated_by_keyword(method: str) -> None:
    collection = MetricCollection(
        {
            "accuracy": AccuracyOfSums(3, average="micro"),
            "curve": sm.AccuracyOverTime(),
            "exit": sm.EarlyExit(1.0),
            "first": sm.TimeToFirstSpike(),
            "synops": sm.SynOps(10, per_neuron=False),
            "silent": sm.SilentNeurons(time_dim=None),
        }
    )
    call = collection.update if method == "update" else collection
    call(preds=OUTPUTS, target=LABELS, activations=EPOCHS[0].repeat(2, 1))
    value = collection.compute()
    assert value["accuracy"] == 1.0
    assert value["curve"].tolist() == [0.5, 1.0]
    assert value["exit_accuracy"] == 1.0
    assert value["first_accuracy"] == 0.5  # class 1 spikes first in the first sample
    assert value["synops_synops"] == 20.0
    assert value["silent_silent_fraction"] == 0.5


def test_accuracy_of_the_last_outputs_stands_beside_metrics_of_layers() -> None:
    collection = MetricCollection([MulticlassAccuracy(3, average="micro"), sm.FiringRate()])
    collection.update(preds=OUTPUTS[:, -1], target=torch.tensor([0, 1]), activations=OUTPUTS)
    value = collection.compute()
    assert value["MulticlassAccuracy"] == 0.5
    assert value["FiringRate"].item() == pytest.approx(5 / 12)


# --------------------------------------------------------------------------- wrappers


def test_min_max_of_one_entry() -> None:
    metric = MinMaxMetric(view())
    found = []
    for epoch in EPOCHS:
        metric._base_metric.reset()
        metric.update(epoch)
        found.append({key: value.item() for key, value in metric.compute().items()})
    assert found == [
        {"raw": 20, "max": 20, "min": 20},
        {"raw": 10, "max": 20, "min": 10},
        {"raw": 30, "max": 30, "min": 10},
    ]


def test_bootstraps_of_one_entry() -> None:
    metric = BootStrapper(view(), num_bootstraps=4, raw=True, sampling_strategy="multinomial")
    spikes = torch.arange(12.0).reshape(6, 2)
    torch.manual_seed(0)
    metric.update(spikes)
    torch.manual_seed(0)
    drawn = [torch.multinomial(torch.ones(6), 6, replacement=True) for _ in range(4)]
    raw = torch.tensor([10 * spikes[i].double().sum() / 6 for i in drawn], dtype=torch.float64)
    value = metric.compute()
    assert torch.equal(value["raw"], raw)
    assert value["mean"] == raw.mean()
    assert value["std"] == raw.std()


def tracked(metric: Metric | MetricCollection) -> MetricTracker:
    tracker = MetricTracker(metric)
    for epoch in EPOCHS:
        tracker.increment()
        tracker.update(epoch)
    return tracker


def test_a_tracker_has_every_entry_of_all_epochs() -> None:
    value = tracked(sm.SynOps(10)).compute_all()
    assert value["synops"].tolist() == SYNOPS
    assert value["synops_per_neuron"].tolist() == [[0, 20], [10, 0], [30, 0]]


def test_a_tracker_finds_the_best_of_one_entry() -> None:
    """Which direction is better is what the viewed metric says."""
    assert view().higher_is_better is False
    assert tracked(view()).best_metric(return_step=True) == (10.0, 1)
    both = MetricCollection({"synops": view(), "sparsity": sm.ActivationSparsity()})
    assert tracked(both).best_metric() == {"synops": 10.0, "sparsity": 0.5}
    with pytest.raises(AttributeError, match="maximize"):
        MetricTracker(sm.ScalarView(sm.EarlyExit(0.5), "steps"))  # which has no better direction


def test_a_running_window_has_every_entry() -> None:
    metric = Running(sm.SynOps(10), window=2)
    viewed = sm.ScalarView(Running(sm.SynOps(10), window=2), "synops")
    for epoch in EPOCHS:
        metric.update(epoch)
        viewed.update(epoch)
    value = metric.compute()
    assert value["synops"] == viewed.compute() == (10 + 30) / 2
    assert value["synops_per_neuron"].tolist() == [20, 0]


def test_a_curve_has_names_for_its_steps() -> None:
    metric = ClasswiseWrapper(sm.AccuracyOverTime(), labels=["1", "2"], prefix="after_")
    assert {k: v.item() for k, v in metric(OUTPUTS, LABELS).items()} == {
        "after_1": 0.5,
        "after_2": 1,
    }
    metric.update(OUTPUTS, torch.tensor([1, 1]))
    assert {k: v.item() for k, v in metric.compute().items()} == {"after_1": 0.5, "after_2": 0.5}


def test_tasks_have_every_entry() -> None:
    metric = MultitaskWrapper({"exit": sm.EarlyExit(1.0), "first": sm.TimeToFirstSpike()})
    metric.update(
        dict.fromkeys(("exit", "first"), OUTPUTS), dict.fromkeys(("exit", "first"), LABELS)
    )
    value = metric.compute()
    assert {k: v.item() for k, v in value["exit"].items()} == {"steps": 2, "accuracy": 1}
    assert value["first"]["accuracy"] == 0.5
    layer = MultitaskWrapper({"layer": sm.SynOps(10)})
    with pytest.raises(TypeError, match=r"SynOps\.update\(\) too many positional arguments"):
        layer.update({"layer": EPOCHS[0]}, {"layer": LABELS})


def computed(metric: Any) -> Any:
    metric.update(EPOCHS[0])
    return metric.compute()


@pytest.mark.parametrize(
    ("wrapper", "use", "name"),
    [
        (MinMaxMetric, computed, "MinMaxMetric"),
        (MinMaxMetric, lambda m: m(EPOCHS[0]), "MinMaxMetric"),
        (BootStrapper, computed, "BootStrapper"),
        (BootStrapper, lambda m: m(EPOCHS[0]), "BootStrapper"),
        (ClasswiseWrapper, computed, "ClasswiseWrapper"),
        (ClasswiseWrapper, lambda m: m(EPOCHS[0]), "ClasswiseWrapper"),
        (lambda m: MultioutputWrapper(m, 1, squeeze_outputs=False), computed, "MultioutputWrapper"),
        (tracked, lambda t: t.best_metric(), "MetricTracker.best_metric"),
        (
            lambda m: tracked(MetricCollection({"synops": m})),
            lambda t: t.best_metric(),
            "MetricTracker.best_metric",
        ),
    ],
)
def test_what_takes_one_tensor_says_how_to_get_it(
    wrapper: Callable[[Metric], Any], use: Callable[[Any], Any], name: str
) -> None:
    message = (
        rf"^{name}: expected a metric that returns one tensor, found SynOps, which returns a dict "
        r"of \['synops_per_neuron', 'synops'\]; sm\.ScalarView\(SynOps\(\.\.\.\), key\) is one"
    )
    wrapped = wrapper(sm.SynOps(10))
    for _ in range(2):  # the second time the value is in the cache of the metric
        with pytest.raises(TypeError, match=message):
            use(wrapped)


def test_a_call_that_is_refused_counts_nothing() -> None:
    metric = sm.SynOps(10)
    with pytest.raises(TypeError, match="ScalarView"):
        ClasswiseWrapper(metric)(EPOCHS[0])
    assert metric.update_count == 0
    assert metric.samples == 0
