"""What ``SynOps.update`` costs beside a bare sum of the same spikes and beside ``SumMetric``.

From a kilobyte to 256 MB, in every dtype: microseconds of an update, and the ratio to the quickest
sum over the batch that PyTorch has and that is exact: in float32 for half precision, in the default
for the others. Runs are interleaved; shortest times are compared.

Run with ``python -m benchmarks.metric_update``; ``--largest 33554432`` for no more than 32 MB.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import SumMetric

import snnmetrics as sm

NEURONS = 4096
HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *HALVES, torch.bool, torch.uint8, torch.int8, torch.int64)


def shortest(calls: Sequence[Callable[[], object]], seconds: float = 0.3) -> list[float]:
    """Shortest time of each call, in microseconds; taken in turn for a while."""
    best = [float("inf")] * len(calls)
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    return [found * 1e6 for found in best]


def bare_sum(x: Tensor) -> Tensor:
    """The sum over the batch, exact for as many spikes as there are here."""
    return x.sum(0, dtype=torch.float32) if x.dtype in HALVES else x.sum(0)


def measure(size: int, dtype: torch.dtype) -> tuple[float, float, float]:
    """Microseconds of an update, of the bare sum and of ``SumMetric`` for so many bytes."""
    elements = size // dtype.itemsize
    neurons = min(NEURONS, max(1, elements // 8))
    x = (torch.rand(max(1, elements // neurons), neurons) < 0.1).to(dtype)
    ours, stock = sm.SynOps(fanout=10.0), SumMetric()
    update, bare, summed = shortest(
        [lambda: ours.update(x), lambda: bare_sum(x), lambda: stock.update(x)]
    )
    return update, bare, summed


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=2**28, help="bytes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} thread(s), spikes at a rate of 0.1")
    print("     bytes  dtype      update us     sum us  SumMetric us  update/sum")
    sizes = [size for size in (2**10, 2**15, 2**20, 2**25, 2**28) if size <= args.largest]
    for size in sizes:
        for dtype in DTYPES:
            update, bare, stock = measure(size, dtype)
            name = str(dtype).removeprefix("torch.")
            print(
                f"{size:>10}  {name:<9}{update:>11.1f}{bare:>11.1f}{stock:>14.1f}"
                f"{update / bare:>12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
