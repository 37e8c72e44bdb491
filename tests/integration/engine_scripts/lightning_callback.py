"""Lightning with two processes on the CPU and the callback: all ranks, checkpoints, wrong use."""

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

from tests.integration.engine_scripts.lightning_trainer import BATCH, Unpadded, sets
from tests.integration.engine_scripts.toy import Net, leave, operations, save, trainer_of_two


def main(folder: str) -> None:
    warnings.simplefilter("ignore")
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from snnmetrics.integrations.lightning import SNNMetricsCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.by_hand: dict[str, float] = {"conv": 0.0, "fc": 0.0}

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.net(x)[0]
            return outputs

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            x, y = batch
            for name, total in operations(self.net, x).items():
                self.by_hand[name] += total
            return F.cross_entropy(self(x).sum(1), y)

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    class Data(lightning.LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            # 6 samples on each rank: DDP wants as many batches everywhere.
            part = torch.utils.data.Subset(sets()[0], range(12))
            return DataLoader(part, BATCH, sampler=Unpadded(part))

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(sets()[1], BATCH, sampler=Unpadded(sets()[1]))

    def trainer(*callbacks: Any, **kwargs: Any) -> Any:
        logger = CSVLogger(folder, name="logs", version=0)
        options: Any = {"max_epochs": 1, "logger": logger, "num_sanity_val_steps": 1}
        return trainer_of_two(*callbacks, **options, **kwargs)

    arguments: dict[str, Any] = {"batch_dim": 0, "time_dim": 1}
    callback = SNNMetricsCallback("net", stages=("train", "val"), **arguments)
    checkpoint = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    first, module = trainer(callback, checkpoint), Module()
    first.fit(module, Data())
    metrics = {name: value.item() for name, value in first.callback_metrics.items()}

    whole = SNNMetricsCallback(sizes=lambda batch: batch[0].shape[:2], figures={})
    trainer(whole, enable_checkpointing=False).validate(Module(), Data(), verbose=False)
    dist.barrier()
    save(
        folder,
        {
            "reports": callback.reports,
            "metrics": metrics,
            "by hand": module.by_hand,
            "weights": module.net.state_dict(),
            "checkpoints": {
                p.name: torch.load(p)["callbacks"] for p in Path(folder).glob("*.ckpt")
            },
            "state key": callback.state_key,
            "whole": whole.reports["val"],
        },
    )
    dist.barrier()
    # In training the module itself is what DDP calls for each step. The last thing to try, for
    # Lightning ends the other process when a run fails.
    try:
        alone = SNNMetricsCallback(stages=["train"], figures={}, **arguments)
        trainer(alone, enable_checkpointing=False).fit(Module(), Data())
    except ValueError as error:
        (Path(folder) / "refused.txt").write_text(str(error))


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
