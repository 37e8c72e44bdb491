"""Cost of a synchronisation per rank, beside torchmetrics' stock gather.

For 1 to 8 processes on this machine (gloo): a metric and a Monitor whose states hold maps per
neuron, and a stock torchmetrics metric with a state of the same size. Printed are the bytes that a
rank hands to the process group and gets back, and its peak memory above what it held before, both
in parts of its state, and the time. Run with ``python -m benchmarks.sync_scaling``; ``--short`` for
1 and 2 processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from benchmarks.machine import forget_peak, resident
from torch import Tensor, nn
from torchmetrics import Metric

import snnmetrics as sm

NEURONS = 2**21  # 16 MiB of float64
LAYERS = 8


class Stock(Metric):
    """The same sums, synchronised as torchmetrics does it."""

    full_state_update = False
    synops: Tensor
    samples: Tensor

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.add_state("synops", torch.zeros(neurons, dtype=torch.float64), "sum")
        self.add_state("samples", torch.tensor(0), "sum")

    def update(self, spikes: Tensor) -> None:
        """Add one batch."""
        self.synops += spikes.double().sum(0)
        self.samples += len(spikes)

    def compute(self) -> Tensor:
        """Mean per sample."""
        return self.synops.sum() / self.samples


class Wide(nn.Module):
    """Layers whose maps are all there is: one kernel for many neurons."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(1, 1, 1) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Give all layers the same input."""
        for layer in self.layers:
            layer(x)
        return x


def metric_with_state(kind: str, neurons: int, layers: int) -> tuple[Any, int]:
    """A metric or Monitor that has seen a batch, and the bytes of its state."""
    spikes = (torch.rand(2, neurons // layers) < 0.1).float()
    if kind == "Monitor":
        monitor = sm.Monitor(Wide(layers), batch_dim=0, per_neuron=True)
        with monitor:
            monitor.model(spikes.unsqueeze(1))
        return monitor, _held(monitor.state_dict()["tensors"].values())
    spikes = (torch.rand(2, neurons) < 0.1).float()
    metric: Metric = Stock(neurons) if kind == "stock" else sm.SynOps(2.0)
    metric.update(spikes)
    return metric, _held(metric.metric_state.values())


def _held(tensors: Iterable[Any]) -> int:
    return sum(int(tensor.nbytes) for tensor in tensors)


class Traffic:
    """Adds up what this process hands to the process group and gets back."""

    def __init__(self) -> None:
        self.bytes = 0
        for name in ("all_reduce", "all_gather", "barrier"):
            setattr(dist, name, self._counting(getattr(dist, name)))

    def _counting(self, function: Any) -> Any:
        def counting(*args: Any, **kwargs: Any) -> Any:
            for given in args:
                tensors: list[Any] = given if isinstance(given, list) else [given]
                self.bytes += sum(t.nbytes for t in tensors if isinstance(t, Tensor))
            return function(*args, **kwargs)

        return counting


def _rank(rank: int, size: int, store: str, kind: str, neurons: int, layers: int, out: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    warm, _ = metric_with_state(kind, 2**10, 1)
    warm.compute()  # what is set up once is no part of the figure
    metric, held = metric_with_state(kind, neurons, layers)
    traffic = Traffic()
    dist.barrier()
    forget_peak()
    before, start = resident("VmRSS"), time.perf_counter()
    metric.compute()
    seconds = time.perf_counter() - start
    out.put((rank, held, traffic.bytes, resident("VmHWM") - before, seconds))
    dist.barrier()
    dist.destroy_process_group()


def measure(kind: str, size: int, neurons: int = NEURONS, layers: int = LAYERS) -> dict[str, float]:
    """The largest figures of any rank; bytes and memory in parts of the state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snnmetrics"])  # imported once for all processes
    out = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        common = (size, f"file://{folder}/store", kind, neurons, layers, out)
        ranks = [context.Process(target=_rank, args=(rank, *common)) for rank in range(size)]
        for process in ranks:
            process.start()
        found = [out.get(timeout=120) for _ in ranks]
        for process in ranks:
            process.join(30)
    return {
        "state": found[0][1],
        "traffic": max(moved / held for _, held, moved, _, _ in found),
        "memory": max(peak / held for _, held, _, peak, _ in found),
        "seconds": max(seconds for *_, seconds in found),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="1 and 2 processes, small states")
    short = parser.parse_args().short
    neurons = 2**18 if short else NEURONS
    print("per rank, in parts of its state; time of the slowest rank")
    print(f"{'metric':<8} {'ranks':>5} {'state':>8} {'traffic':>8} {'memory':>7} {'time':>8}")
    for size in (1, 2) if short else (1, 2, 4, 8):
        for kind in ("stock", "SynOps", "Monitor"):
            row = measure(kind, size, neurons)
            print(
                f"{kind:<8} {size:>5} {row['state'] / 2**20:>4.0f} MiB {row['traffic']:>8.2f} "
                f"{row['memory']:>7.2f} {row['seconds'] * 1e3:>5.0f} ms"
            )


if __name__ == "__main__":
    main()
