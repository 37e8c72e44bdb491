"""Count each sample once when two ranks share an odd number of samples.

``DistributedSampler`` gives every rank the same number of samples. If the number of samples is not
divisible by the number of ranks, it repeats samples from the start of its list. A count that
includes the repeated samples is wrong. There are two ways to leave them out. The metrics take a
``mask`` of the samples to count. For a ``Monitor``, call the model without the repeated samples, or
use a sampler that does not repeat any.

Run with ``python examples/distributed_sampler.py``. The script starts both ranks (gloo, on the CPU)
and prints each figure beside the figure of a single process.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import snnmetrics as sm

IMAGES, BATCH, STEPS, HIDDEN, WORLD, SEED = 25, 4, 8, 64, 2, 0

# One line of output: number of samples, and synaptic operations of ``fc2`` per sample.
Figures = tuple[int, float]
Sampler = DistributedSampler[tuple[Tensor, ...]]


class SpikingMLP(nn.Module):
    """Integrate-and-fire neurons between two linear layers, without training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        self.fc1, self.fc2 = nn.Linear(64, HIDDEN, bias=False), nn.Linear(HIDDEN, 10, bias=False)
        # Sums of such multiples are exact, so the spikes of an image do not depend on its batch.
        self.fc1.weight.data = (self.fc1.weight.data * 256).round() / 256

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels ``(B, 64)`` to scores ``(B, 10)`` and the spikes ``(B, T, HIDDEN)`` between."""
        current, emitted = self.fc1(images), []
        potential, scores = torch.zeros_like(current), torch.zeros(len(images), 10)
        for _ in range(STEPS):
            potential = potential + current
            emitted.append((potential >= 1).float())
            potential = potential - emitted[-1]
            scores = scores + self.fc2(emitted[-1])
        return scores, torch.stack(emitted, dim=1)


def digits() -> TensorDataset:
    """An odd number of real 8x8 images."""
    from sklearn.datasets import load_digits  # here, as the ranks need not import it

    images = load_digits(return_X_y=True)[0][:IMAGES]
    return TensorDataset(torch.tensor(images / 16, dtype=torch.float32))


def counts(sampler: Sampler) -> Tensor:
    """Mask of the samples of this rank that are not repeated: bool, ``(len(sampler),)``.

    Sample i of rank r is number r + i * ranks of the list, and padding is at the end of the list.
    """
    numbers = torch.arange(sampler.rank, sampler.total_size, sampler.num_replicas)
    mask: Tensor = numbers < len(sampler.dataset)  # type: ignore[arg-type]
    return mask


def batches(sampler: Any, dataset: Dataset[Any]) -> list[Tensor]:
    """The images of this rank, batch by batch."""
    return [images for (images,) in DataLoader(dataset, BATCH, sampler=sampler)]


@torch.no_grad()
def by_metric(images: list[Tensor], masks: list[Tensor] | list[None]) -> Figures:
    """Count with ``SynOps`` and a mask for each batch."""
    model, synops = SpikingMLP(), sm.SynOps(fanout=10, time_dim=1)
    for batch, mask in zip(images, masks, strict=True):
        synops.update(model(batch)[1], mask=mask)
    value = synops.compute()["synops"].item()
    with synops.sync_context():
        return int(synops.samples), value


@torch.no_grad()
def by_monitor(images: list[Tensor]) -> Figures:
    """Count with a ``Monitor``: it counts every sample that the model is called with."""
    model = SpikingMLP()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        for batch in images:
            model(batch)
    report = monitor.compute()  # on every rank, also on one without batches
    synops = report.layers["fc2"].synops
    assert synops is not None  # the input is spikes, so the layer has synops
    return report.samples, synops


def measure(rank: int, world: int, dataset: TensorDataset) -> dict[str, Figures]:
    """Count the data set in all ways. Called on every rank."""
    padding: Sampler = DistributedSampler(dataset, world, rank, shuffle=True, seed=SEED)
    images, masks = batches(padding, dataset), list(counts(padding).split(BATCH))
    not_padding = range(rank, len(dataset), world)  # the last rank may have one sample less
    return {
        "SynOps, padding counted": by_metric(images, [None] * len(images)),
        "SynOps, mask": by_metric(images, masks),
        "Monitor, padding counted": by_monitor(images),
        "Monitor, batch[mask]": by_monitor(
            [batch[mask] for batch, mask in zip(images, masks, strict=True)]
        ),
        "Monitor, sampler without padding": by_monitor(batches(not_padding, dataset)),
    }


def on_rank(rank: int, store: str, dataset: TensorDataset) -> None:
    """Run one process. The figures are over all ranks, so only one rank prints them."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    figures = measure(rank, WORLD, dataset)
    if rank == 0:
        show(f"{WORLD} ranks", figures)
    dist.destroy_process_group()


def show(title: str, figures: dict[str, Figures]) -> None:
    """Print a table of samples and synaptic operations per sample."""
    print(f"{title:<34}{'samples':>8}{'synops per sample':>20}")
    for name, (samples, synops) in figures.items():
        print(f"{name:<34}{samples:>8}{synops:>20.2f}")
    print(flush=True)


def main() -> None:
    """Measure in one process, then in two."""
    torch.set_num_threads(1)
    dataset = digits()
    show("1 process", measure(0, 1, dataset))
    with tempfile.TemporaryDirectory() as folder:
        spawn(on_rank, (f"file://{folder}/store", dataset), nprocs=WORLD)


if __name__ == "__main__":
    main()
