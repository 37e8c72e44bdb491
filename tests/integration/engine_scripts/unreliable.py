"""Two ranks, of which one never comes to a collective, and dies when told to."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tests.helpers.limits import PATIENCE
from tests.integration.engine_scripts.toy import Net, data


def main(rank: int, store: str, pipe: Any, die: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=PATIENCE)
    impatient = dist.new_group([0, 1], timeout=PATIENCE)
    # Only once both ranks have met: a loaded machine needs longer for that.
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=2), impatient)
    if rank == 1:
        die.wait(PATIENCE.total_seconds())
        os._exit(1)

    import snnmetrics as sm  # slow to import, and rank 1 has no use for it

    net, x = Net(), data()[0]
    metrics = [sm.SynOps(4, time_dim=1, process_group=group) for group in (impatient, None)]
    monitor = sm.Monitor(net, batch_dim=0, time_dim=1)
    with monitor, torch.no_grad():
        spikes = net(x)[1]
    failed = []
    for metric in metrics:
        metric.update(spikes)
    for collective in (metrics[0].compute, metrics[1].compute, monitor.compute):
        try:
            collective()
            failed.append(False)
        except RuntimeError:
            failed.append(True)
        die.set()  # absent from the first collective, dead at the others
    synced = [metric._is_synced for metric in metrics]
    dist.destroy_process_group()
    kept = [metric.compute()["synops"].item() for metric in metrics]
    pipe.send((failed, synced, kept, monitor.compute()))
