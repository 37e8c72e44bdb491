"""Lightning with two processes on the CPU: metrics of a module, logged views, a monitor."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset

import snnmetrics as sm
from tests.integration.engine_scripts.toy import Net, data, leave, operations, save, trainer_of_two

EPOCHS, BATCH = 2, 4
# 13 samples for training: with two ranks a DistributedSampler repeats one. 9 for validation.
TRAIN, VALIDATE = 13, 9


def sets() -> tuple[Dataset[Any], Dataset[Any]]:
    whole = TensorDataset(*data())
    return Subset(whole, range(TRAIN)), Subset(whole, range(TRAIN, TRAIN + VALIDATE))


class Unpadded(DistributedSampler[Any]):
    """Every second sample, without repeating any: one rank has one more."""

    def __iter__(self) -> Any:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


def main(folder: str) -> None:
    warnings.simplefilter("ignore")
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.train_synops = sm.SynOps(4, time_dim=1)
            self.val_synops = sm.SynOps(4, time_dim=1)
            self.train_view = sm.ScalarView(self.train_synops, "synops")
            self.val_view = sm.ScalarView(self.val_synops, "synops")
            self.monitor = sm.Monitor(self.net, batch_dim=0, time_dim=1)
            self.logged: list[dict[str, float]] = []
            self.by_hand: list[tuple[float, int]] = []  # of each step in training, on this rank
            self.reports: list[sm.Report] = []

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            x, y = batch
            self.by_hand.append((operations(self.net, x)["fc"], len(x)))
            outputs, spikes = self.net(x)
            penalty = self.train_synops(spikes)["synops"]
            self.log("train", self.train_view, on_step=False, on_epoch=True)
            return F.cross_entropy(outputs.sum(1), y) + 1e-3 * penalty

        def on_validation_epoch_start(self) -> None:
            self.monitor.reset()
            self.monitor.attach()

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            _, spikes = self.net(batch[0])
            self.val_synops.update(spikes)
            self.log("val", self.val_view, on_epoch=True)

        def on_validation_epoch_end(self) -> None:
            self.monitor.detach()
            self.reports.append(self.monitor.compute())  # every rank comes here

        def on_train_epoch_end(self) -> None:
            self.by_hand.append((0.0, 0))  # marks the end of an epoch

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    class Remember(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            module.logged.append({k: v.item() for k, v in trainer.callback_metrics.items()})

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            assert module.train_synops.samples == 0, "Lightning resets what it logged"

    trainer = trainer_of_two(
        Remember(),
        max_epochs=EPOCHS,
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
    )

    class Data(lightning.LightningDataModule):
        """Loaders are made when the group is there, for the samplers ask for their rank."""

        def train_dataloader(self) -> DataLoader[Any]:
            sampler = DistributedSampler(sets()[0], shuffle=False)
            return DataLoader(sets()[0], BATCH, sampler=sampler)

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(sets()[1], BATCH, sampler=Unpadded(sets()[1]))

    module = Module()
    trainer.fit(module, Data())
    validated = operations(module.net, data()[0][TRAIN : TRAIN + VALIDATE])
    save(
        folder,
        {
            "world": dist.get_world_size(),
            "logged": module.logged,
            "by hand": module.by_hand,
            "report": module.reports[-1],
            "validated": validated,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
