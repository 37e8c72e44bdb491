"""The Lightning callback: what it logs and keeps, against counts by plain torch operations."""

from __future__ import annotations

import csv
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection, SumMetric

import snnmetrics as sm
from snnmetrics import plots
from tests.helpers.limits import SECONDS
from tests.integration.engine_scripts import lightning_callback, lightning_resume
from tests.integration.engine_scripts.lightning_resume import GoesOn
from tests.integration.engine_scripts.lightning_trainer import TRAIN, VALIDATE
from tests.integration.engine_scripts.toy import Fire, Net, data, operations, synops

lightning = pytest.importorskip("lightning")

from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger  # noqa: E402
from lightning.pytorch.loggers.logger import DummyLogger  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from snnmetrics.integrations.lightning import SNNMetricsCallback  # noqa: E402

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
DIMS: dict[str, Any] = {"batch_dim": 0, "time_dim": 1}
Totals = dict[str, float]


class Module(lightning.LightningModule):
    """Keeps, for every step of every stage, what plain operations count and the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.steps: dict[str, list[tuple[Totals, int]]] = {"train": [], "val": [], "test": []}
        self.fails_at: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)[0]
        return outputs

    def seen(self, stage: str, x: Tensor) -> None:
        if not self.trainer.sanity_checking:
            self.steps[stage].append((operations(self.net, x), len(x)))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        if self.fails_at == len(self.steps["train"]):
            self.net(x)
            raise RuntimeError("out of luck")
        self.seen("train", x)
        return F.cross_entropy(self(x).sum(1), y)

    def validation_step(self, batch: list[Tensor], _: int, dataloader_idx: int = 0) -> None:
        self.seen("val", batch[0])
        self(batch[0])

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.seen("test", batch[0])
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Memory(DummyLogger):
    """A logger of somebody else's: it has ``log_metrics`` and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.logged.append((step or 0, dict(metrics)))

    def of(self, name: str) -> list[float]:
        return [metrics[name] for _, metrics in self.logged if name in metrics]


class Images(Memory):
    """And one that takes images as that of Weights & Biases does."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[str, list[Any], int | None]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.images.append((key, images, step))


def loaders(batch: int = 4) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """13 samples to train, in batches of which the last is short, and 9 to validate."""
    x, y = data()
    parts = (slice(0, TRAIN), slice(TRAIN, TRAIN + VALIDATE))
    train, val = (DataLoader(TensorDataset(x[part], y[part]), batch) for part in parts)
    return train, val


def trainer_of(folder: Path, *callbacks: Any, **kwargs: Any) -> Any:
    usual: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "default_root_dir": str(folder),
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(callbacks=list(callbacks), **(usual | kwargs))


def total(steps: list[tuple[Totals, int]]) -> tuple[Totals, int]:
    """Operations of some steps by layer, and their samples."""
    layers = {name: sum(found[name] for found, _ in steps) for name in ("conv", "fc")}
    return layers, sum(samples for _, samples in steps)


def per_sample(steps: list[tuple[Totals, int]], layer: str = "fc") -> float:
    layers, samples = total(steps)
    return layers[layer] / samples


def require_detached() -> None:
    assert nn.Module.__call__.__qualname__ == UNWATCHED


UNWATCHED = nn.Module.__call__.__qualname__


# -------------------------------------------------------------------------------- per epoch


def test_each_epoch_is_logged_under_names_that_stay(tmp_path: Path) -> None:
    module, logger = Module(), Memory()
    callback = SNNMetricsCallback("net", stages=("train", "val"), **DIMS)
    trainer = trainer_of(tmp_path, callback, logger=logger)
    trainer.fit(module, *loaders())
    train, val = module.steps["train"], module.steps["val"]
    assert (len(train), len(val)) == (8, 6)
    assert logger.of("train/fc/synops") == pytest.approx(
        [per_sample(train[:4]), per_sample(train[4:])]
    )
    assert logger.of("val/fc/synops") == pytest.approx([per_sample(val[:3]), per_sample(val[3:])])
    assert logger.of("val/fc/synops")[0] != logger.of("val/fc/synops")[1]
    names = {name for _, metrics in logger.logged for name in metrics} - {"epoch"}
    assert "val/fc/dense_macs" not in names, "the main figures alone"
    assert names == {
        name for stage in ("train", "val") for name in callback.reports[stage].scalars(f"{stage}/")
    }
    last = trainer.callback_metrics["val/total/synops"].item()
    assert last == pytest.approx(per_sample(val[3:]) + per_sample(val[3:], "conv"))
    for stage, steps in (("train", train[4:]), ("val", val[3:])):
        assert synops(callback.reports[stage]) == total(steps)[0]
        assert callback.reports[stage].samples == total(steps)[1]
    require_detached()


@pytest.mark.parametrize("scalars", ["all", ("acs", "dense_macs")])
def test_figures_are_logged_by_choice(tmp_path: Path, scalars: Any) -> None:
    logger, callback = Memory(), SNNMetricsCallback("net", scalars=scalars, **DIMS)
    trainer_of(tmp_path, callback, logger=logger).validate(Module(), loaders()[1], verbose=False)
    expected = callback.reports["val"].scalars("val/", figures=scalars)
    assert {"val/fc/dense_macs", "val/total/acs"} <= set(expected)
    assert set(logger.logged[-1][1]) - {"epoch"} == set(expected)


class Retained(Module):
    """Keeps the gradients at the inputs of its neurons, as autograd leaves them."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: list[Tensor] = []
        self.gradients: list[Tensor] = []  # (T, B, N) of each batch

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0].retain_grad()
            self.entered.append(args[0])

        x, y = batch
        with self.net.fire.register_forward_pre_hook(keep):
            return F.cross_entropy(self(x).sum(1), y)

    def on_after_backward(self) -> None:
        gradients = [entered.grad for entered in self.entered]
        self.gradients.append(torch.stack(gradients).double())  # type: ignore[arg-type]
        self.entered.clear()


def test_gradients_of_training_are_logged_as_autograd_has_them(tmp_path: Path) -> None:
    sm.register_neuron(Fire, lead="B")
    module, logger = Retained(), Memory()
    callback = SNNMetricsCallback("net", stages=("train",), gradients=True, **DIMS)
    trainer_of(tmp_path, callback, logger=logger).fit(module, loaders()[0])
    assert len(module.gradients) == 8
    for epoch in range(2):
        batches = module.gradients[4 * epoch : 4 * epoch + 4]
        squares = torch.stack([g.square().sum((1, 2)) for g in batches]).mean(0)
        zeros = torch.cat([g.eq(0).flatten() for g in batches]).double().mean()
        assert logger.of("train/fire/gradient_norm")[epoch] == pytest.approx(
            squares.sum().sqrt().item()
        )
        ratio = (squares[-1] / squares[0]).sqrt().item()
        assert logger.of("train/fire/gradient_last_to_first")[epoch] == pytest.approx(ratio)
        assert logger.of("train/fire/gradient_zero_fraction")[epoch] == pytest.approx(zeros.item())
    require_detached()


def test_gradients_of_a_part_that_is_compiled_have_its_plain_name(tmp_path: Path) -> None:
    sm.register_neuron(Fire, lead="B")
    module, logger = Module(), Memory()
    module.net.fire = torch.compile(module.net.fire, backend="eager")
    callback = SNNMetricsCallback("net", stages=("train",), gradients=True, **DIMS)
    trainer_of(tmp_path, callback, logger=logger).fit(module, loaders()[0])
    assert all(norm > 0 for norm in logger.of("train/fire/gradient_norm"))
    require_detached()


def test_gradients_of_a_scaled_loss_are_refused(tmp_path: Path) -> None:
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    callback = SNNMetricsCallback("net", stages=("train",), gradients=True, **DIMS)
    with pytest.raises(ValueError, match="gradients: expected a loss that is not scaled"):
        trainer_of(tmp_path, callback, plugins=[scaled]).fit(Module(), loaders()[0])
    require_detached()


def test_by_default_training_is_not_measured(tmp_path: Path) -> None:
    module, callback = Module(), SNNMetricsCallback("net", **DIMS)
    trainer = trainer_of(tmp_path, callback)
    trainer.fit(module, *loaders())
    assert set(callback.reports) == {"val"}
    trainer.test(module, loaders()[1], verbose=False)
    assert synops(callback.reports["test"]) == total(module.steps["test"])[0]
    trainer.validate(module, loaders()[0], verbose=False)
    assert callback.reports["val"].samples == TRAIN, "not added to that of fit"


def test_another_callback_can_choose_by_what_is_logged(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, monitor="val/total/synops", mode="min", save_top_k=1)
    module = Module()
    trainer = trainer_of(tmp_path, SNNMetricsCallback("net", **DIMS), best)
    trainer.fit(module, *loaders())
    val = module.steps["val"]
    epochs = [per_sample(part) + per_sample(part, "conv") for part in (val[:3], val[3:])]
    assert best.best_model_score.item() == pytest.approx(min(epochs))


def test_the_csv_logger(tmp_path: Path) -> None:
    module = Module()
    logger = CSVLogger(str(tmp_path), name="runs", version=0)
    callback = SNNMetricsCallback("net", prefix="snn/", **DIMS)
    trainer_of(tmp_path, callback, logger=logger).fit(module, *loaders())
    with (tmp_path / "runs" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["snn/val/conv/synops"]]
    found = [float(row["snn/val/conv/synops"]) for row in rows]
    val = module.steps["val"]
    assert found == pytest.approx([per_sample(val[:3], "conv"), per_sample(val[3:], "conv")])
    folder = tmp_path / "runs" / "version_0" / "snnmetrics"
    assert {path.name for path in folder.iterdir()} == {"val.json", "val_layers.png"}
    assert sm.Report.load(folder / "val.json") == callback.reports["val"]
    assert (folder / "val_layers.png").read_bytes().startswith(b"\x89PNG")


def test_the_event_file_of_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    module, logger = Module(), TensorBoardLogger(str(tmp_path), name="", version="run")
    figures = {"layers": plots.layer_bars, "conventions": plots.conventions}
    callback = SNNMetricsCallback("net", figures=figures, **DIMS)
    trainer_of(tmp_path, callback, logger=logger).fit(module, *loaders())
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    found = events.Scalars("val/fc/synops")
    val = module.steps["val"]
    assert [event.step for event in found] == [3, 7]
    assert [event.value for event in found] == pytest.approx(
        [per_sample(val[:3]), per_sample(val[3:])], rel=1e-6
    )
    expected = callback.reports["val"].scalars("val/")
    for name, value in expected.items():
        assert events.Scalars(name)[-1].value == pytest.approx(value, rel=1e-6, nan_ok=True), name
    assert set(events.Tags()["images"]) == {"val/layers", "val/conventions"}
    image = events.Images("val/layers")[-1]
    assert image.step == 8
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_loggers_that_take_images_get_the_files(tmp_path: Path) -> None:
    """As that of Weights & Biases does, whose arguments are these."""
    arguments = list(inspect.signature(WandbLogger.log_image).parameters)
    assert arguments[:4] == ["self", "key", "images", "step"]
    images, plain = Images(), Memory()
    callback = SNNMetricsCallback("net", dirpath=tmp_path / "kept", **DIMS)
    trainer_of(tmp_path, callback, logger=[images, plain]).fit(Module(), *loaders())
    path = str(tmp_path / "kept" / "val_layers.png")
    assert images.images == [("val/layers", [path], 8)]
    assert images.logged == plain.logged


def test_without_a_logger_there_are_files_alone(tmp_path: Path) -> None:
    callback = SNNMetricsCallback("net", figures={}, **DIMS)
    trainer_of(tmp_path, callback).validate(Module(), loaders()[1], verbose=False)
    assert [path.name for path in (tmp_path / "snnmetrics").iterdir()] == ["val.json"]


def test_a_trial_run_writes_nothing(tmp_path: Path) -> None:
    callback = SNNMetricsCallback("net", **DIMS)
    trainer_of(tmp_path, callback, fast_dev_run=True).fit(Module(), *loaders())
    assert callback.reports["val"].samples == 4
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------- every n steps


class Loss(Module):
    """Logs its loss at each step, which shows the step that Lightning uses."""

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = super().training_step(batch, index)
        self.log("loss", loss, on_step=True, on_epoch=False)
        return loss


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_n_steps(tmp_path: Path, accumulate: int) -> None:
    """Windows continue over the end of an epoch; Lightning's own interval does not matter."""
    module, logger = Loss(), Memory()
    callback = SNNMetricsCallback("net", stages=["train"], every_n_steps=3, **DIMS)
    trainer_of(
        tmp_path,
        callback,
        logger=logger,
        log_every_n_steps=50,
        max_epochs=3,
        accumulate_grad_batches=accumulate,
    ).fit(module, loaders(2)[0])
    steps = module.steps["train"]
    assert len(steps) == 21
    if accumulate == 1:
        ends = list(range(3, 22, 3))
        parts = [steps[end - 3 : end] for end in ends]
    else:  # 7 batches are 4 steps, of which the last has one batch
        ends = [3, 6, 9, 12]
        last = [(7 * (e // 4) + min(2 * (e % 4), 7)) for e in ends]
        parts = [steps[a:b] for a, b in zip([0, *last], last, strict=False)]
    rows = [(step, m) for step, m in logger.logged if "train/fc/synops" in m]
    assert [step for step, _ in rows] == [end - 1 for end in ends]
    assert [m["epoch"] for _, m in rows] == [
        (end - 1) // (21 // 3 // accumulate + accumulate - 1) for end in ends
    ]
    found = [m["train/fc/synops"] for _, m in rows]
    assert found == pytest.approx([per_sample(part) for part in parts])


def test_rows_of_every_n_steps_are_those_of_self_log(tmp_path: Path) -> None:
    """Also the remaining steps, when training ends."""
    module, logger = Loss(), Memory()
    callback = SNNMetricsCallback("net", stages=["train"], every_n_steps=3, **DIMS)
    fit = trainer_of(tmp_path, callback, logger=logger, log_every_n_steps=1)
    fit.fit(module, loaders()[0])
    losses = [(step, m["epoch"]) for step, m in logger.logged if "loss" in m]
    rows = [(step, m) for step, m in logger.logged if "train/fc/synops" in m]
    assert losses == [(step, step // 4) for step in range(8)]
    assert [(step, m["epoch"]) for step, m in rows] == [losses[i] for i in (2, 5, 7)]
    steps = module.steps["train"]
    parts = (steps[:3], steps[3:6], steps[6:])
    found = [m["train/fc/synops"] for _, m in rows]
    assert found == pytest.approx([per_sample(part) for part in parts])
    assert callback.reports["train"].samples == total(steps[6:])[1]


# --------------------------------------------------------------- stages within one another


def test_validation_in_the_middle_of_an_epoch_is_not_counted_as_training(tmp_path: Path) -> None:
    module = Module()
    callback = SNNMetricsCallback("net", stages=("train", "val"), **DIMS)
    trainer_of(tmp_path, callback, max_epochs=1, val_check_interval=2).fit(module, *loaders())
    assert len(module.steps["val"]) == 6
    assert synops(callback.reports["train"]) == total(module.steps["train"])[0]
    assert callback.reports["train"].samples == TRAIN
    assert synops(callback.reports["val"]) == total(module.steps["val"][3:])[0]


def test_several_loaders_are_one_epoch(tmp_path: Path) -> None:
    module, callback = Module(), SNNMetricsCallback("net", **DIMS)
    trainer_of(tmp_path, callback).validate(module, list(loaders()), verbose=False)
    assert callback.reports["val"].samples == TRAIN + VALIDATE
    assert synops(callback.reports["val"]) == total(module.steps["val"])[0]


# --------------------------------------------------------------------- what is measured


def test_the_module_itself(tmp_path: Path) -> None:
    module, callback = Module(), SNNMetricsCallback(**DIMS)
    trainer_of(tmp_path, callback).validate(module, loaders()[1], verbose=False)
    expected = total(module.steps["val"])[0]
    assert synops(callback.reports["val"]) == {f"net.{k}": v for k, v in expected.items()}


class Stepwise(Module):
    """Calls a layer once per time step, as loops in snnTorch do."""

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.net.hidden(x)
        return torch.stack([self.net.fc(spikes[:, t]) for t in range(x.shape[1])], 1)


def test_a_network_that_is_called_once_per_time_step(tmp_path: Path) -> None:
    module = Stepwise()
    callback = SNNMetricsCallback(
        "net.fc", stages=("train", "val"), sizes=lambda batch: tuple(batch[0].shape[:2])
    )
    trainer_of(tmp_path, callback).fit(module, *loaders())
    for stage, steps in (("train", module.steps["train"][4:]), ("val", module.steps["val"][3:])):
        report = callback.reports[stage]
        assert report.samples == total(steps)[1]
        assert report.steps == 3
        assert report.calls == 3 * len(steps)
        assert report.counts()["Linear"]["synops"] == total(steps)[0]["fc"]


def test_a_hook_that_ends_the_epoch_leaves_no_open_batch(tmp_path: Path) -> None:
    class Impatient(Stepwise):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

    module = Impatient()
    callback = SNNMetricsCallback(
        "net.fc", stages=["train"], sizes=lambda batch: (len(batch[0]), None)
    )
    trainer_of(tmp_path, callback).fit(module, loaders()[0])
    assert callback.reports["train"].samples == 8
    require_detached()


def test_a_module_that_is_never_called_is_warned_of(tmp_path: Path) -> None:
    callback = SNNMetricsCallback("net.fire", **DIMS)

    class Silent(Module):
        def validation_step(self, batch: list[Tensor], _: int) -> None:
            """Nothing is called."""

    with pytest.warns(UserWarning, match="expected calls of net.fire in stage 'val', found none"):
        trainer_of(tmp_path, callback).validate(Silent(), loaders()[1], verbose=False)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
@pytest.mark.parametrize("how", ["forward", "a part"])
def test_with_sizes_a_batch_without_a_call_of_the_module_raises(
    tmp_path: Path, how: str, stage: str
) -> None:
    """As a batch of the Monitor does; a figure of 0 would be logged otherwise."""

    class Around(Module):
        def forward(self, x: Tensor) -> Tensor:
            if how == "forward":
                return self.net.forward(x)[0]
            return self.net.fc(torch.zeros(1, self.net.fc.in_features)).expand(len(x), 1, -1)

    memory = Memory()
    callback = SNNMetricsCallback("net", stages=(stage,), sizes=lambda batch: (len(batch[0]), 3))
    trainer = trainer_of(tmp_path, callback, logger=memory, num_sanity_val_steps=0)
    does = {"train": trainer.fit, "val": trainer.validate, "test": trainer.test}[stage]
    with pytest.raises(RuntimeError, match="expected a call of the model in a batch of 4 samples"):
        does(Around(), loaders()[0])
    require_detached()
    assert not memory.of(f"{stage}/synops")
    assert not any(f"{stage}/" in name for _, metrics in memory.logged for name in metrics)


# ----------------------------------------------------------------- failures and resumption


@pytest.mark.parametrize("sizes", [None, lambda batch: (len(batch[0]), 3)])
def test_a_batch_that_fails_is_not_counted(tmp_path: Path, sizes: Any) -> None:
    module = Module()
    module.fails_at = 2
    callback = SNNMetricsCallback("net", stages=("train", "val"), sizes=sizes, **DIMS)
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer_of(tmp_path, callback).fit(module, *loaders())
    require_detached()
    counted = sm.Monitor(Net(), **DIMS)
    counted.load_state_dict(callback.state_dict()["train"])
    report, steps = counted.compute(), module.steps["train"]
    calls = 2 if sizes else 3  # the call itself was complete; with sizes the batch was not
    assert report.calls == calls
    if sizes:
        assert synops(report) == total(steps)[0]
    module.fails_at = None
    trainer_of(tmp_path, callback).fit(module, *loaders())
    assert callback.reports["train"].samples == TRAIN, "a new run begins from zero"


def test_resuming_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """What was counted before and after the interruption is one epoch."""
    first, middle = Module(), ModelCheckpoint(tmp_path, "mid", every_n_train_steps=2)
    first.fails_at = 3
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer_of(
            tmp_path, SNNMetricsCallback("net", stages=("train", "val"), **DIMS), middle
        ).fit(first, *loaders())
    second = Module()
    callback = SNNMetricsCallback("net", stages=("train", "val"), **DIMS)
    trainer_of(tmp_path, callback, max_epochs=1).fit(
        second, *loaders(), ckpt_path=str(tmp_path / "mid.ckpt")
    )
    assert len(second.steps["train"]) == 2, "Lightning went on after the second batch"
    steps = first.steps["train"][:2] + second.steps["train"]
    assert callback.reports["train"].samples == total(steps)[1]
    assert synops(callback.reports["train"]) == total(steps)[0]


class WithMetrics(Module):
    """Metrics of which Lightning saves some: logged, in a collection, never logged."""

    def __init__(self, persistent: bool = False) -> None:
        super().__init__()
        self.net.part = nn.ModuleDict({"synops": sm.SynOps(4.0, time_dim=1)})
        self.view = sm.ScalarView(self.net.part["synops"], "synops")
        group = {"one": sm.SynOps(3.0, time_dim=1), "two": sm.SynOps(3.0, time_dim=1)}
        self.group = MetricCollection({**group, "rate": sm.FiringRate(time_dim=1)})
        self.group_views = nn.ModuleDict({k: sm.ScalarView(self.group[k], "synops") for k in group})
        self.ever = sm.SynOps(1.0, time_dim=1)  # from the first batch of the first epoch
        self.val_synops = sm.ScalarView(sm.SynOps(4.0, time_dim=1), "synops")
        # A compute group of which no member is read before the end of the epoch.
        self.quiet = MetricCollection({k: sm.SynOps(2.0, time_dim=1) for k in ("a", "b")})
        self.lost, self.kept = SumMetric(), SumMetric()
        self.kept.persistent(True)
        for metric in (self.net.part["synops"], self.group, self.ever, self.val_synops.metric):
            metric.persistent(persistent)
        self.totals: list[Any] = []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        if self.fails_at == len(self.steps["train"]):
            raise RuntimeError("out of luck")
        self.seen("train", x)
        outputs, spikes = self.net(x)
        self.view.update(spikes.detach())
        self.group.update(spikes.detach())
        self.ever.update(spikes.detach())
        self.quiet.update(spikes.detach())
        self.lost.update(len(x))
        self.kept.update(len(x))
        epoch: dict[str, Any] = {"on_step": False, "on_epoch": True}
        self.log("synops", self.view, **epoch)
        self.log_dict({"lost": self.lost, "kept": self.kept}, **epoch)
        self.log_dict(dict(self.group_views), **epoch)
        self.log("rate", self.group["rate"], **epoch)
        return F.cross_entropy(outputs.sum(1), y)

    def validation_step(self, batch: list[Tensor], _: int, dataloader_idx: int = 0) -> None:
        self.seen("val", batch[0])
        self.val_synops.update(self.net(batch[0])[1])
        self.log("val_synops", self.val_synops)

    def on_train_epoch_end(self) -> None:
        values = (self.ever.compute(), *(metric.compute() for metric in self.quiet.values()))
        assert values[1]["synops"] == values[2]["synops"] == 2 * values[0]["synops"]
        self.totals.append((values[0]["synops"].item(), self.ever.samples.item()))


SAVED = ("synops", "one", "two", "rate", "val_synops", "train/fc/synops", "val/fc/synops")


def interrupted(
    folder: Path, module: Module, loader: DataLoader[Any], stages: Any = ("train",)
) -> None:
    """A run that saves a checkpoint after two batches, and fails in the fourth."""
    module.fails_at = 3
    middle = ModelCheckpoint(folder, "mid", every_n_train_steps=2)
    callback = SNNMetricsCallback("net", stages=stages, **DIMS)
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer_of(folder, callback, middle).fit(module, loader)


@pytest.mark.parametrize("goes_on", [False, True])
def test_batches_that_are_run_again_are_warned_of(tmp_path: Path, goes_on: bool) -> None:
    dataset = loaders()[0].dataset
    first, second = Module(), Module()
    make = GoesOn if goes_on else DataLoader
    interrupted(tmp_path, first, make(dataset, 4))
    callback = SNNMetricsCallback("net", stages=("train",), **DIMS)
    trainer = trainer_of(tmp_path, callback, max_epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(second, make(dataset, 4), ckpt_path=str(tmp_path / "mid.ckpt"))
    warned = [str(w.message) for w in caught if "SNNMetricsCallback" in str(w.message)]
    seen = first.steps["train"][:2] + second.steps["train"]
    assert synops(callback.reports["train"]) == total(seen)[0]
    if goes_on:
        assert [n for _, n in seen] == [4, 4, 4, 1]  # all of the epoch, once
        assert warned == []
    else:
        assert [n for _, n in seen] == [4, 4, 4, 4]
        assert len(warned) == 1
        assert "its first 2 batches are run and counted again" in warned[0]


@pytest.mark.parametrize("stages", [("train", "val"), ("test",)])
@pytest.mark.parametrize("persistent", [False, True])
def test_metrics_of_an_epoch_that_is_resumed_within(
    tmp_path: Path, persistent: bool, stages: Any
) -> None:
    """All figures are those of a run that is not interrupted; metrics that cannot are named."""
    dataset, val = (loader.dataset for loader in loaders())
    whole, first, second = (WithMetrics(persistent) for _ in range(3))
    runs = Memory(), Memory()
    trainer_of(tmp_path, SNNMetricsCallback("net", stages=stages, **DIMS), logger=runs[0]).fit(
        whole, DataLoader(dataset, 4), DataLoader(val, 4)
    )
    interrupted(tmp_path, first, GoesOn(dataset, 4), stages)
    saved = torch.load(tmp_path / "mid.ckpt", weights_only=True)["snnmetrics_metrics"]
    assert saved["ever"]["samples"] == 8
    callback = SNNMetricsCallback("net", stages=stages, **DIMS)
    twice = SNNMetricsCallback("net.fc", prefix="twice/", stages=("test",), figures={})
    trainer = trainer_of(tmp_path, callback, twice, logger=runs[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(
            second, GoesOn(dataset, 4), DataLoader(val, 4), ckpt_path=str(tmp_path / "mid.ckpt")
        )
    warned = [str(w.message) for w in caught if "SNNMetricsCallback" in str(w.message)]
    assert len(warned) == 2, "by each callback"
    assert all("found lost: they do not hold all earlier batches" in text for text in warned)
    for name in SAVED if "train" in stages else SAVED[:5]:
        assert len(runs[0].of(name)) == 2
        assert runs[1].of(name) == runs[0].of(name), name
    assert second.totals == whole.totals
    assert (runs[1].of("lost"), runs[1].of("kept")) == ([5, 13], [13, 13])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    "saves",
    [
        {"monitor": "val/total/synops", "save_on_train_epoch_end": False},
        {"every_n_train_steps": 4},
        {"save_on_train_epoch_end": True},
    ],
    ids=["validation end", "last batch", "epoch end"],
)
def test_metrics_of_a_checkpoint_at_the_end_of_an_epoch(
    tmp_path: Path, saves: dict[str, Any], persistent: bool
) -> None:
    """Epoch 1 is that of a run that is not interrupted, and nothing of epoch 0 is logged again."""
    runs, modules = (Memory(), Memory()), [WithMetrics(persistent) for _ in range(2)]
    kept = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, **saves)
    arguments: dict[str, Any] = {"stages": ("train", "val"), **DIMS}
    trainer_of(tmp_path, SNNMetricsCallback("net", **arguments), kept, logger=runs[0]).fit(
        modules[0], *loaders()
    )
    callback, path = SNNMetricsCallback("net", **arguments), str(tmp_path / "epoch=0.ckpt")
    trainer_of(tmp_path, callback, logger=runs[1]).fit(modules[1], *loaders(), ckpt_path=path)
    for name in (*SAVED, "kept", "lost"):
        assert runs[1].of(name) == runs[0].of(name)[1:], name
    assert modules[1].totals[-1] == modules[0].totals[1]
    assert callback.reports["train"].samples == TRAIN


def test_an_epoch_without_a_batch_after_resuming_is_not_logged(tmp_path: Path) -> None:
    """A resumable dataloader is at its end; Lightning calls the hooks of an epoch nevertheless."""
    runs, dataset = (Memory(), Memory()), loaders()[0].dataset
    kept = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_train_steps=4)
    first, second = Module(), Module()
    callbacks = [SNNMetricsCallback("net", stages=("train",), **DIMS) for _ in range(2)]
    trainer_of(tmp_path, callbacks[0], kept, logger=runs[0], max_epochs=1).fit(
        first, GoesOn(dataset, 4)
    )
    trainer_of(tmp_path, callbacks[1], logger=runs[1], max_epochs=3).fit(
        second, GoesOn(dataset, 4), ckpt_path=str(tmp_path / "epoch=0.ckpt")
    )
    assert [n for _, n in second.steps["train"]] == [4, 4, 4, 1]
    assert runs[1].of("train/fc/synops") == pytest.approx([per_sample(second.steps["train"])])
    trainer_of(tmp_path, callbacks[1], max_epochs=2).fit(
        Module(), GoesOn(dataset, 4), ckpt_path=str(tmp_path / "epoch=0.ckpt")
    )
    assert synops(callbacks[1].reports["train"]) == total(first.steps["train"])[0]


def test_evaluating_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    """Although it has persistent states of the validation that it was saved in."""
    kept = ModelCheckpoint(tmp_path, "{epoch}", save_on_train_epoch_end=False)
    trainer_of(tmp_path, SNNMetricsCallback("net", **DIMS), kept, max_epochs=1).fit(
        WithMetrics(persistent=True), *loaders()
    )
    module = WithMetrics(persistent=True)
    trainer = trainer_of(tmp_path, SNNMetricsCallback("net", **DIMS))
    trainer.validate(module, loaders()[0], ckpt_path=str(tmp_path / "epoch=0.ckpt"), verbose=False)
    validated = pytest.approx(per_sample(module.steps["val"]))
    assert trainer.callback_metrics["val_synops"].item() == validated
    assert module.ever.samples == TRAIN, "persistent states are those of the checkpoint"


@pytest.mark.parametrize("older", ["without the entry", "of another metric", "of another class"])
def test_checkpoints_without_states_of_a_metric(tmp_path: Path, older: str) -> None:
    dataset = loaders()[0].dataset
    interrupted(tmp_path, WithMetrics(), GoesOn(dataset, 4))
    path = tmp_path / "mid.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    if older == "without the entry":
        del checkpoint["snnmetrics_metrics"]
    else:
        checkpoint["snnmetrics_metrics"]["gone"] = {"samples": torch.ones(())}
    torch.save(checkpoint, path)
    module = WithMetrics()
    if older == "of another metric":
        module.ever = sm.SynOps(2.0, time_dim=1)
        module.on_train_epoch_end = lambda: None  # type: ignore[method-assign]
    elif older == "of another class":
        module.ever = SumMetric()  # type: ignore[assignment]
        module.on_train_epoch_end = lambda: None  # type: ignore[method-assign]
        module.ever.update = lambda _: None  # type: ignore[method-assign]
    trainer = trainer_of(
        tmp_path, SNNMetricsCallback("net", stages=("train",), **DIMS), max_epochs=1
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, GoesOn(dataset, 4), ckpt_path=str(path))
    text = " ".join(str(w.message) for w in caught if "SNNMetricsCallback" in str(w.message))
    if older == "without the entry":
        names = {"net.part.synops", "group.one", "group.two", "group.rate", "ever", "lost"}
        names |= {"quiet.a", "quiet.b"}
        assert set(text.partition("found ")[2].partition(":")[0].split(", ")) == names
        assert module.ever.samples == 5
    else:
        assert "'ever' begins anew, since the checkpoint holds states of another metric" in text
        assert "found net.part" not in text
    if older == "of another metric":
        assert module.ever.samples == 5
        assert "found ever, lost: they do not" in text


def test_resuming_between_epochs(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    arguments: dict[str, Any] = {"stages": ("train", "val"), **DIMS}
    before = SNNMetricsCallback("net", **arguments)
    trainer_of(tmp_path, before, last, max_epochs=1).fit(Module(), *loaders())
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][before.state_key]
    assert sm.Report.from_dict(state["reports"]["val"]) == before.reports["val"]
    module, after = Module(), SNNMetricsCallback("net", **arguments)
    trainer_of(tmp_path, after).fit(module, *loaders(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert len(module.steps["train"]) == 4
    assert synops(after.reports["train"]) == total(module.steps["train"])[0]


def test_two_callbacks_keep_apart(tmp_path: Path) -> None:
    class Two(Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.head(self(batch[0]))

    one = SNNMetricsCallback("net", figures={}, **DIMS)
    two = SNNMetricsCallback("head", prefix="head/", dirpath=tmp_path / "two", **DIMS)
    trainer = trainer_of(tmp_path, one, two)
    trainer.validate(Two(), loaders()[1], verbose=False)
    assert list(one.reports["val"].layers) == ["conv", "fc"]
    assert list(two.reports["val"].layers) == ["Linear"]
    assert {"val/total/macs", "head/val/total/macs"} <= set(trainer.callback_metrics)
    assert one.state_key != two.state_key
    assert (tmp_path / "two" / "val.json").exists()


# ------------------------------------------------------------------------- several ranks


def two_processes(script: ModuleType, folder: Path) -> list[Any]:
    """What each rank found. Lightning's own launcher starts the second process."""
    process = subprocess.run(
        [sys.executable, "-m", script.__name__, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def test_metrics_of_two_processes_that_are_resumed_within_an_epoch(tmp_path: Path) -> None:
    """They are those of a run that is not interrupted: logged, cumulative, updated on one rank."""
    ranks = two_processes(lightning_resume, tmp_path)
    for rank, found in enumerate(ranks):
        for persistent in (False, True):
            batches, logged, states = found["whole", persistent]
            assert (batches, len(logged)) == (6, 2)
            assert logged[0]["synops"] != logged[1]["synops"]
            assert [each["ever"]["samples"] for each in states] == [12, 24]
            assert [each["of_one_rank"]["samples"] for each in states] == [6, 12]
            assert {"synops", "val_synops", "train/fc/synops", "val/fc/synops"} <= set(logged[0])
            for step, epochs in ((2, slice(None)), (4, slice(1, None))):
                again = found["resumed", persistent, step]
                assert again == (6 - step, logged[epochs], states[epochs])
                warned = found["warned", persistent, step]
                assert len(warned) == (rank == 0)
                assert all("found own, sum: they do not hold" in text for text in warned)
                assert all("their states of rank 0 only, also after" in text for text in warned)
    assert ranks[0]["whole", True][1:] == ranks[1]["whole", True][1:]


def test_two_processes(tmp_path: Path) -> None:
    ranks = two_processes(lightning_callback, tmp_path)
    train = {name: sum(rank["by hand"][name] for rank in ranks) for name in ("conv", "fc")}
    net = Net()
    net.load_state_dict(ranks[0]["weights"])
    x = data()[0][TRAIN : TRAIN + VALIDATE]
    for rank in ranks:
        reports, metrics = rank["reports"], rank["metrics"]
        assert synops(reports["train"]) == train
        assert reports["train"].samples == 12
        assert synops(reports["val"]) == operations(net, x)
        assert reports["val"].samples == VALIDATE, "shares of 5 and 4, nothing of the sanity check"
        assert reports == ranks[0]["reports"]
        for stage, report in reports.items():
            for name, value in report.scalars(f"{stage}/").items():
                assert metrics[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name
        whole = operations(Net(), x)
        assert synops(rank["whole"]) == {f"net.{name}": n for name, n in whole.items()}
        # The checkpoint after the first of two steps has what both ranks counted until then.
        saved = [callbacks[rank["state key"]] for callbacks in rank["checkpoints"].values()]
        samples = []
        for state in saved:
            monitor = sm.Monitor(Net(), **DIMS)
            monitor.load_state_dict(state["train"])
            samples.append(monitor.compute().samples)
        assert sorted(samples) == [8, 12]
    assert (tmp_path / "logs" / "version_0" / "snnmetrics" / "val.json").exists()
    refused = (tmp_path / "refused.txt").read_text()
    assert "expected the name of the module" in refused
    assert "DDPStrategy" in refused


# ------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": nn.Linear(1, 1)}, TypeError, "model: expected a name"),
        ({"stages": ("validate",)}, ValueError, "stages: expected some of"),
        ({"stages": "val"}, ValueError, "stages: expected some of"),
        ({"stages": ()}, ValueError, "stages: expected some of"),
        ({"every_n_steps": 0, "stages": ["train"]}, ValueError, "every_n_steps: expected an int"),
        ({"gradients": True}, ValueError, "gradients: expected 'train' among the stages"),
        ({"gradients": 1, "stages": ["train"]}, TypeError, "gradients: expected True or False"),
        ({"every_n_steps": 5}, ValueError, "every_n_steps: expected 'train' among"),
        ({"figures": ["synops"]}, TypeError, "figures: expected a dict .* found list; scalars="),
        ({"figures": "all"}, TypeError, "figures: expected a dict of plots by name, found str"),
        ({"scalars": ["rate"]}, ValueError, r"scalars: expected some of vectors, .*\['rate'\]"),
        ({"scalars": "synops"}, TypeError, "scalars: expected several names or 'all', found"),
        ({"bach_dim": 0}, TypeError, "bach_dim"),
        ({"dt": -1}, ValueError, "dt"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SNNMetricsCallback(**arguments)


def test_a_name_that_no_module_has(tmp_path: Path) -> None:
    callback = SNNMetricsCallback("network", **DIMS)
    with pytest.raises(ValueError, match=r"one of \['net'\], found 'network'"):
        trainer_of(tmp_path, callback).validate(Module(), loaders()[1], verbose=False)


def test_without_matplotlib_figures_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"snnmetrics\[plots\]"):
        SNNMetricsCallback("net", **DIMS)
    assert SNNMetricsCallback("net", figures={}, **DIMS).figures == {}


@pytest.mark.parametrize("stage", ["train", "validation", "test"])
def test_hooks_of_a_batch_take_their_arguments_by_name(stage: str) -> None:
    """As a subclass may pass them on."""
    callback = SNNMetricsCallback("net", figures={}, **DIMS)
    for hook in ("batch_start", "batch_end"):
        of_lightning = inspect.signature(getattr(Callback, f"on_{stage}_{hook}")).parameters
        names = [name for name in of_lightning if name not in ("self", "trainer", "pl_module")]
        trainer = SimpleNamespace(global_step=0)
        getattr(callback, f"on_{stage}_{hook}")(trainer, None, **dict.fromkeys(names))


@pytest.mark.parametrize("stage", ["train", "validation", "test"])
@pytest.mark.parametrize("hook", ["start", "batch_start", "batch_end", "epoch_end", "end"])
def test_hooks_say_what_lightning_gives_them_and_what_they_do(stage: str, hook: str) -> None:
    name = f"on_{stage}_{hook}"
    ours, theirs = getattr(SNNMetricsCallback, name), getattr(Callback, name)
    assert ours.__name__ == name
    assert set(inspect.signature(theirs).parameters) <= set(inspect.signature(ours).parameters)
    assert ours.__doc__
    assert ours.__doc__ != theirs.__doc__
    if stage != "train":
        assert "every_n_steps" not in ours.__doc__
        assert "resum" not in ours.__doc__.lower()


def test_without_lightning_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "snnmetrics.integrations.lightning"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match=r"snnmetrics\[lightning\]"):
        importlib.import_module(name)


def test_nothing_of_lightning_is_imported_with_the_package() -> None:
    code = "import sys, snnmetrics; print(sorted(m for m in sys.modules if 'lightning' in m))"
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    ).stdout
    assert "snnmetrics.integrations" not in out
    assert "'lightning.pytorch'" not in out
