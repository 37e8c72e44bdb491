"""Under torchrun: an epoch of metrics and of a monitor on uneven shares of the data."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist

import snnmetrics as sm
from tests.helpers.limits import PATIENCE
from tests.integration.engine_scripts.toy import Net, data, leave, save

# Samples of each rank, by the number of ranks; some ranks have none.
CUTS = {2: [(15, 7), (22, 0)], 4: [(9, 5, 7, 1), (12, 0, 10, 0)]}
BATCH = 4


def epoch(sizes: tuple[int, ...]) -> dict[str, Any]:
    rank = dist.get_rank()
    x, y = (part.split(sizes)[rank] for part in data())
    net = Net()
    synops = sm.SynOps(sm.fanout(net.fc, (108,)), time_dim=1)
    accuracy, monitor = sm.AccuracyOverTime(), sm.Monitor(net, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        for inputs, targets in zip(x.split(BATCH), y.split(BATCH), strict=True):
            if len(inputs):
                outputs, spikes = net(inputs)
                synops.update(spikes)
                accuracy.update(outputs, targets)
    return {
        "synops": synops.compute(),
        "accuracy": accuracy.compute(),
        "report": monitor.compute(),
        "samples here": int(synops.samples),
    }


def main(folder: str) -> None:
    dist.init_process_group("gloo", timeout=PATIENCE)
    save(folder, [epoch(sizes) for sizes in CUTS[dist.get_world_size()]])
    dist.barrier()  # a rank that is gone first may take others down
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
