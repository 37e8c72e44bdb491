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
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import snnmetrics as sm
from snnmetrics import plots
from tests.helpers.limits import SECONDS
from tests.integration.engine_scripts import lightning_callback
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
    assert names == {
        name for stage in ("train", "val") for name in callback.reports[stage].scalars(f"{stage}/")
    }
    last = trainer.callback_metrics["val/total/synops"].item()
    assert last == pytest.approx(per_sample(val[3:]) + per_sample(val[3:], "conv"))
    for stage, steps in (("train", train[4:]), ("val", val[3:])):
        assert synops(callback.reports[stage]) == total(steps)[0]
        assert callback.reports[stage].samples == total(steps)[1]
    require_detached()


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


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_n_steps(tmp_path: Path, accumulate: int) -> None:
    """Windows go on over the end of an epoch; Lightning's own interval does not matter."""
    module, logger = Module(), Memory()
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
    found = [(step, m["train/fc/synops"]) for step, m in logger.logged if "train/fc/synops" in m]
    assert [step for step, _ in found] == ends
    assert [value for _, value in found] == pytest.approx([per_sample(part) for part in parts])


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


class GoesOn(DataLoader[Any]):
    """A dataloader that a checkpoint resumes: it goes on behind the batches that were fetched."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fetched = self.skipped = 0

    def state_dict(self) -> dict[str, int]:
        return {"fetched": self.fetched}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.skipped = state_dict["fetched"]

    def __iter__(self) -> Any:
        skipped, self.skipped = self.skipped, 0
        self.fetched = skipped
        for i, batch in enumerate(super().__iter__()):
            if i >= skipped:
                self.fetched += 1
                yield batch


class WithMetrics(Module):
    """Logs synops by metrics, one of which is saved with the module."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.lost = (
            sm.ScalarView(sm.SynOps(4.0, time_dim=1), "synops") for _ in range(2)
        )
        self.kept.metric.persistent(True)

    def forward(self, x: Tensor) -> Tensor:
        outputs, spikes = self.net(x)
        for name in ("kept", "lost"):
            getattr(self, name).update(spikes.detach())
            self.log(name, getattr(self, name), on_step=False, on_epoch=True)
        return outputs  # type: ignore[no-any-return]


def interrupted(folder: Path, module: Module, loader: DataLoader[Any]) -> None:
    """A run that saves a checkpoint after two batches, and fails in the fourth."""
    module.fails_at = 3
    middle = ModelCheckpoint(folder, "mid", every_n_train_steps=2)
    callback = SNNMetricsCallback("net", stages=("train",), **DIMS)
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


def test_metrics_that_a_resumed_epoch_lost_are_warned_of(tmp_path: Path) -> None:
    dataset = loaders()[0].dataset
    first, second = WithMetrics(), WithMetrics()
    interrupted(tmp_path, first, GoesOn(dataset, 4))
    callback, logger = SNNMetricsCallback("net", stages=("train",), **DIMS), Memory()
    trainer = trainer_of(tmp_path, callback, max_epochs=2, logger=logger)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(second, GoesOn(dataset, 4), ckpt_path=str(tmp_path / "mid.ckpt"))
    (warned,) = [str(w.message) for w in caught if "SNNMetricsCallback" in str(w.message)]
    assert "found lost.metric: they hold only later batches" in warned
    after, epoch = second.steps["train"][:2], first.steps["train"][:2] + second.steps["train"][:2]
    assert logger.of("lost")[0] == pytest.approx(per_sample(after))
    assert logger.of("kept")[0] == pytest.approx(per_sample(epoch))
    assert logger.of("train/fc/synops")[0] == pytest.approx(per_sample(epoch))
    whole = pytest.approx(per_sample(second.steps["train"][2:]))
    for name in ("kept", "lost", "train/fc/synops"):
        assert logger.of(name)[1] == whole, "the next epoch is complete"


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


def test_two_processes(tmp_path: Path) -> None:
    """Lightning's own launcher starts the second process."""
    process = subprocess.run(
        [sys.executable, "-m", lightning_callback.__name__, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    ranks = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)]
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
