"""Accelerate with two processes on the CPU: what its loaders do with a last batch that is short."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import snnmetrics as sm
from tests.helpers.limits import PATIENCE
from tests.integration.engine_scripts.toy import Net, data, leave, operations, save

SAMPLES, BATCH = 11, 4


def main(folder: str) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs

    found: dict[str, Any] = {}
    for even in (True, False):
        accelerator = Accelerator(
            cpu=True,
            dataloader_config=DataLoaderConfiguration(even_batches=even),
            kwargs_handlers=[InitProcessGroupKwargs(backend="gloo", timeout=PATIENCE)],
        )
        loader: Any = DataLoader(TensorDataset(*data(SAMPLES)), BATCH)
        model, loader = accelerator.prepare(Net(), loader)
        monitor = sm.Monitor(model, batch_dim=0, time_dim=1)
        seen, gathered = sm.SynOps(4, time_dim=1), sm.SynOps(4, time_dim=1, sync_on_compute=False)
        with monitor, torch.no_grad():
            for x, _ in loader:
                _, spikes = model(x)
                seen.update(spikes)
                if even:  # without, ranks may have different numbers of batches: no collectives
                    gathered.update(accelerator.gather_for_metrics(spikes))
        found[f"even {even}"] = (seen.compute(), int(seen.samples), monitor.compute())
        if even:
            found["gathered"] = (gathered.compute(), int(gathered.samples))

    # Training: shares of equal size, the metric in the loss, four batches to two steps.
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = Net()
    model, optimiser, loader = accelerator.prepare(
        net, torch.optim.SGD(net.parameters(), lr=0.05), DataLoader(TensorDataset(*data(16)), 2)
    )
    synops, by_hand = sm.SynOps(4, time_dim=1), 0.0
    with sm.Monitor(model, batch_dim=0, time_dim=1) as monitor:
        for x, y in loader:
            by_hand += operations(net, x)["fc"]
            with accelerator.accumulate(model):
                outputs, spikes = model(x)
                penalty = synops(spikes)["synops"]
                accelerator.backward(F.cross_entropy(outputs.sum(1), y) + 1e-3 * penalty)
                optimiser.step()
                optimiser.zero_grad()
    found["trained"] = (synops.compute(), by_hand, monitor.compute())
    save(folder, found)
    accelerator.wait_for_everyone()  # a rank that is gone first may take others down
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
