"""A small spiking network, its data, and what plain torch operations count on them."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.helpers.limits import PATIENCE
from tests.helpers.toy import sum_with_ones

SAMPLES, STEPS, CLASSES = 22, 3, 4


class Fire(nn.Module):
    """Spikes where the potential reaches one, with the gradient of a sigmoid."""

    def forward(self, potential: Tensor) -> Tensor:
        soft = torch.sigmoid(4 * (potential - 1))
        return (potential >= 1).to(potential.dtype) + (soft - soft.detach())


class Net(nn.Module):
    """Spikes (B, T, 1, 6, 6) to outputs (B, T, 4) and hidden spikes (B, T, 108).

    Weights are eighths, so that every potential is exact, also in bfloat16: no spike hangs on the
    order in which an engine adds. None is zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.fc = nn.Conv2d(1, 3, 3, padding=1), Fire(), nn.Linear(108, 4)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for layer in (self.conv, self.fc):
                layer.weight.copy_(torch.randint(-8, 9, layer.weight.shape, generator=generator))
                layer.weight[layer.weight == 0] = 1
                layer.weight.div_(8)
            self.conv.bias.zero_()
            self.fc.bias.copy_(torch.arange(CLASSES) / 64)  # no two classes are ever equal

    def hidden(self, x: Tensor) -> Tensor:
        currents = self.conv(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
        potential, spikes = torch.zeros_like(currents[:, 0]), []
        for step in range(x.shape[1]):
            potential = potential + currents[:, step]
            spikes.append(self.fire(potential))
            potential = potential - spikes[-1].detach()
        return torch.stack(spikes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes = self.hidden(x)
        return self.fc(spikes), spikes


def data(samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Spikes and targets, the same in every process."""
    generator = torch.Generator().manual_seed(2)
    x = (torch.rand(samples, STEPS, 1, 6, 6, generator=generator) < 0.3).float()
    return x, torch.randint(0, CLASSES, (samples,), generator=generator)


def operations(net: Any, x: Tensor, effective: bool = False) -> dict[str, float]:
    """Synaptic operations of a batch: what each layer adds up with ones for weights."""
    inputs = {"conv": x.flatten(0, 1), "fc": net.hidden(x)}
    return {
        name: sum_with_ones(getattr(net, name), entering, effective=effective).sum().item()
        for name, entering in inputs.items()
    }


@torch.no_grad()
def right_by_step(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How many samples are right when reading out at each step."""
    outputs, _ = net(x)
    return torch.stack([(outputs[:, : t + 1].sum(1).argmax(1) == y).sum() for t in range(STEPS)])


def synops(report: Any) -> dict[str, float]:
    """Totals of a report, by layer."""
    return {name: counts["synops"] for name, counts in report.counts().items()}


def save(folder: str, result: Any) -> None:
    """Hand what this rank found to the test."""
    (Path(folder) / f"{dist.get_rank()}.pickle").write_bytes(pickle.dumps(result))


def leave() -> NoReturn:
    """End a rank whose work is done, without the interpreter's own end.

    Now and then a rank has aborted ("terminate called without an active exception"), as a native
    thread does that the interpreter's end finds at work; the launcher then ends the other ranks.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class EncodedByWorkers(Dataset[Tensor]):
    """The data, made spikes by a module that runs in the workers of a loader."""

    def __init__(self) -> None:
        self.images, self.encode = data()[0], Fire()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        spikes: Tensor = self.encode(self.images[index])
        return spikes


def count(metric: Any, spikes: Tensor) -> Any:
    """Update a metric in another process."""
    for batch in spikes.split(4):
        metric.update(batch)
    return metric


def trainer_of_two(*callbacks: Any, **arguments: Any) -> Any:
    """A Lightning trainer of two processes on the CPU, whose samplers are those of the loaders."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.strategies import DDPStrategy

    return Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=PATIENCE),
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
