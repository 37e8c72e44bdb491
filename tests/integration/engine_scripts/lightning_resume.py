"""Lightning with two processes on the CPU: metrics of a run that is resumed in mid-epoch."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import SumMetric

import snnmetrics as sm
from tests.integration.engine_scripts.lightning_trainer import Unpadded, sets
from tests.integration.engine_scripts.toy import Net, leave, save, trainer_of_two

EPOCHS, STEPS = 2, 3  # of each epoch on each rank


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


def main(folder: str) -> None:
    warnings.simplefilter("ignore")
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    from snnmetrics.integrations.lightning import SNNMetricsCallback

    class Module(lightning.LightningModule):
        def __init__(self, persistent: bool) -> None:
            super().__init__()
            self.net = Net()
            self.synops, self.ever, self.of_one_rank, self.own = (
                sm.SynOps(4, time_dim=1, sync_on_compute=i < 3) for i in range(4)
            )
            self.val_synops, self.sum = sm.SynOps(4, time_dim=1), SumMetric()
            self.view = sm.ScalarView(self.synops, "synops")
            self.val_view = sm.ScalarView(self.val_synops, "synops")
            for metric in (self.synops, self.ever, self.of_one_rank, self.val_synops, self.sum):
                metric.persistent(persistent)
            self.logged: list[dict[str, float]] = []
            self.states: list[dict[str, Any]] = []
            self.batches = 0

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            outputs, spikes = self.net(batch[0])
            spikes = spikes.detach()
            self.batches += 1
            for metric in (self.synops, self.ever, self.own):
                metric.update(spikes)
            if self.global_rank == 1:
                self.of_one_rank.update(spikes)
            self.sum.update(len(spikes))
            self.log("synops", self.view, on_step=False, on_epoch=True)
            return F.cross_entropy(outputs.sum(1), batch[1])

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.val_synops.update(self.net(batch[0])[1])
            self.log("val_synops", self.val_view, on_epoch=True)

        def on_train_epoch_end(self) -> None:
            totals = {}
            for name in ("ever", "of_one_rank"):
                # Not compute(), which rank 0 would have cached of a metric it does not update.
                metric = getattr(self, name)
                metric.sync()
                totals[name] = {key: state.tolist() for key, state in metric.metric_state.items()}
                metric.unsync()
            self.states.append(totals)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    class Remember(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            module.logged.append({k: v.item() for k, v in trainer.callback_metrics.items()})

    class Data(lightning.LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            part = torch.utils.data.Subset(sets()[0], range(4 * STEPS))
            return GoesOn(part, 2, sampler=Unpadded(part))

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(sets()[1], 2, sampler=Unpadded(sets()[1]))

    def fit(persistent: bool, path: str | None = None) -> tuple[Module, list[str]]:
        callback = SNNMetricsCallback("net", stages=("train", "val"), batch_dim=0, time_dim=1)
        kept = ModelCheckpoint(
            folder, f"{persistent}-{{step}}", every_n_train_steps=2, save_top_k=-1
        )
        trainer = trainer_of_two(
            *(callback, Remember(), *([] if path else [kept])),
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=path is None,
            default_root_dir=folder,
        )
        module = Module(persistent)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.fit(module, Data(), ckpt_path=path)
        return module, [str(w.message) for w in caught if "SNNMetrics" in str(w.message)]

    result: dict[Any, Any] = {}
    for persistent in (False, True):
        whole, _ = fit(persistent)
        result["whole", persistent] = (whole.batches, whole.logged, whole.states)
        for step in (2, 4):  # two batches into the first epoch, one into the second
            dist.barrier()
            path = next(Path(folder).glob(f"{persistent}-step={step}.ckpt"))
            again, warned = fit(persistent, str(path))
            result["resumed", persistent, step] = (again.batches, again.logged, again.states)
            result["warned", persistent, step] = warned
    save(folder, result)
    dist.barrier()


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
