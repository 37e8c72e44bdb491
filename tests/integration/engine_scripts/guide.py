"""Runs every block of ``docs/howto/distributed.md``, in its order, on a single rank."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import snnmetrics as sm
from tests.integration.engine_scripts.toy import Net, count, data, leave, synops

GUIDE = Path(__file__).parents[3] / "docs" / "howto" / "distributed.md"
GIVEN = {
    "Accelerator": Accelerator,
    "DataLoaderConfiguration": DataLoaderConfiguration,
    "DistributedDataParallel": DistributedDataParallel,
    "DistributedSampler": DistributedSampler,
    "F": F,
    "Net": Net,
    "count": count,
    "dist": dist,
    "fully_shard": fully_shard,
    "lightning": lightning,
    "multiprocessing": multiprocessing,
    "sm": sm,
    "timedelta": timedelta,
    "torch": torch,
}


def loader() -> Any:
    return DataLoader(TensorDataset(*data()), 4)


def given(heading: str) -> dict[str, Any]:
    """What a section takes for granted, beside what the sections before it have made."""
    fanout = sm.fanout(Net().fc, (108,))
    match heading:
        case "torchrun":
            return {"model": Net(), "my_share": loader()}
        case "DistributedDataParallel":
            return {"fanout": fanout, "loader": loader(), "samples_of_all_ranks": len(data()[0])}
        case "Accelerate":
            return {"model": Net(), "loader": loader()}
        case "FSDP2":
            return {"model": Net(), "mesh": init_device_mesh("cpu", (1,))}
        case "torch.compile":
            return {"model": Net(), "x": data()[0]}
        case "Loaders with workers, pools of processes":
            spikes = Net().hidden(data()[0]).detach()
            return {"metric": sm.SynOps(fanout, time_dim=1), "shares": spikes.chunk(2)}
        case "Failing or missing ranks":
            dist.destroy_process_group()
            return {}
        case "Save and resume":
            return {"rank": 0, "files": ["monitor-0.pt", "monitor.pt"]}
    return {}


def main(folder: str) -> None:
    """Save what was counted in each section: by the metric, and by the monitor."""
    os.chdir(folder)
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    names, counted, done = dict(GIVEN), {}, 0
    for section in GUIDE.read_text().split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        names |= given(heading)
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            exec(block, names)
            done += 1
        if "monitor" in names:
            metric = names["metric"] if heading.startswith("Loaders") else names["synops"]
            total = metric.compute()["synops"].item() * metric.samples.item()
            counted[heading] = total, synops(names["monitor"].compute())
    result = {"blocks": done, "counted": counted}
    (Path(folder) / "0.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
    leave()
