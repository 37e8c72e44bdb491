from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.aggregation import SumMetric
from torchmetrics.wrappers import Running

import snnmetrics as sm


def test_the_view_shows_what_the_metric_returns() -> None:
    metric = sm.SynOps(10, sample_time=0.5)
    views = {key: sm.ScalarView(metric, key) for key in ("synops", "synops/s")}
    for _ in range(3):
        stats = metric(torch.ones(2, 4))
        for key, view in views.items():
            assert view._forward_cache == stats[key]
    for key, view in views.items():
        assert torch.equal(view.compute(), metric.compute()[key])
        assert view.update_called
        assert view.update_count == 3
    views["synops"].reset()
    assert metric.update_count == 0


def test_calling_the_view_calls_the_metric() -> None:
    metric = sm.SynOps(10)
    view = sm.ScalarView(metric, "synops")
    assert view(torch.ones(2, 4)) == 40
    view.update(torch.zeros(2, 4))
    assert view.compute() == 20
    assert metric.update_count == 2


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_a_copy_has_a_metric_of_its_own(copier: Any) -> None:
    view = sm.ScalarView(sm.SynOps(10), "synops")
    view.update(torch.ones(1, 1))
    twin = copier(view)
    twin.update(torch.zeros(1, 1))
    assert (view.compute(), twin.compute()) == (10, 5)


def test_a_view_follows_its_model() -> None:
    model = nn.ModuleDict({"view": sm.ScalarView(sm.SynOps(10), "synops")}).half()
    assert model["view"].metric.fanout.dtype is torch.float64


@pytest.mark.parametrize("key", ["synops_per_neuron", "synops/s", "energy", ""])
def test_a_key_without_a_scalar_is_refused_at_once(key: str) -> None:
    for metric in (sm.SynOps(10), sm.SynOps(torch.ones(4))):
        with pytest.raises(ValueError, match=rf"one of \['synops'\], found '{key}'"):
            sm.ScalarView(metric, key)


def test_a_key_of_a_wrapper_is_refused_by_forward_and_compute() -> None:
    view = sm.ScalarView(Running(sm.SynOps(10), window=2), "energy")
    with pytest.raises(ValueError, match=r"one of \['synops'\]"):
        view(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"one of \['synops'\]"):
        view.compute()


METRICS: list[sm.metrics.base.SNNMetric[Any]] = [
    *(sm.SynOps(10, seconds, per_neuron=each) for seconds in (None, 0.1) for each in (True, False)),
    *(sm.FiringRate(per_neuron=each) for each in (True, False)),
    *(sm.SilentNeurons(per_neuron=each) for each in (True, False)),
    *(sm.MembraneStatistics(per_neuron=each) for each in (True, False)),
    *(sm.IntervalStatistics(per_neuron=each) for each in (True, False)),
    *(sm.FanoFactor(per_neuron=each) for each in (True, False)),
    *(sm.TimeToFirstSpike(per_neuron=each) for each in (True, False)),
    *(sm.ActivationSparsity(), sm.MembraneUpdates(), sm.GradientStatistics()),
    *(sm.AccuracyOverTime(), sm.EarlyExit(0.5), sm.EarlyExit([0.5, 0.9]), sm.OptimalCutoff()),
]


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)
def test_the_keys_of_a_metric_are_known_before_its_first_batch(metric: Any) -> None:
    def dims(value: Any) -> Any:
        return {k: v.ndim for k, v in value.items()} if isinstance(value, dict) else value.ndim

    expected = metric._fresh_value()
    inputs = [torch.ones(2, 3, 4), torch.zeros(2, dtype=torch.int64)]
    if "time_dim" not in vars(metric) or metric.time_dim is None:
        inputs[0] = inputs[0][:, 0]
    takes_targets = "target" in inspect.signature(metric.update).parameters
    metric.update(*inputs[: 1 + takes_targets])
    assert dims(metric.compute()) == dims(expected) == dims(metric._fresh_value())


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="metric"):
        sm.ScalarView(nn.Linear(1, 1), "synops")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key"):
        sm.ScalarView(sm.SynOps(1), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"found ActivationSparsity, which returns one tensor"):
        sm.ScalarView(sm.ActivationSparsity(), "sparsity")
    with pytest.raises(ValueError, match=r"metric: .* found SumMetric, which returns one tensor"):
        sm.ScalarView(SumMetric(), "sum")(torch.ones(1))


def test_views_in_collections_and_merged() -> None:
    collection = MetricCollection(
        {"view": sm.ScalarView(sm.SynOps(10), "synops"), "accuracy": sm.AccuracyOverTime()}
    )
    collection.update(
        activations=torch.ones(2, 4), preds=torch.ones(2, 3, 4), target=torch.tensor([0, 1])
    )
    assert collection.compute()["view"] == 40
    one, two = (sm.ScalarView(sm.SynOps(10), "synops") for _ in range(2))
    one.update(torch.ones(1, 2))
    two.update(torch.zeros(1, 2))
    one.merge_state(two)
    assert one.compute() == 10
    with pytest.raises(ValueError, match="full_state_update"):
        Running(one, window=2)  # wrap the viewed metric instead


@pytest.mark.filterwarnings("ignore")
def test_lightning_logs_the_view_per_step_and_per_epoch(tmp_path: Path) -> None:
    """The logged epoch value is that of the whole epoch, a short last batch weighing less."""
    import lightning

    spikes = (torch.rand(10, 6) < 0.5).float()

    class Counting(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 1)
            self.synops = sm.SynOps(10)
            self.synops_view = sm.ScalarView(self.synops, "synops")

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            stats = self.synops(batch[0])
            self.log("synops", self.synops_view, on_step=True, on_epoch=True)
            return self.layer(batch[0]).mean() + 0 * stats["synops"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=lightning.pytorch.loggers.CSVLogger(str(tmp_path)),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(spikes), batch_size=4)
    model = Counting()
    trainer.fit(model, loader)
    expected = float(spikes.sum()) * 10 / 10
    assert trainer.callback_metrics["synops_epoch"].item() == pytest.approx(expected)
    assert trainer.callback_metrics["synops_step"].item() == float(spikes[8:].sum()) * 10 / 2
    assert model.synops.update_count == 0, "Lightning resets what it logged"
