"""Time of ``SynOps`` beside a bare sum of the same spikes and beside ``SumMetric``.

From a kilobyte to 256 MB, in every dtype: microseconds of ``update`` and ``forward``, and of the
quickest sum over the batch that PyTorch has and that is exact. Which of the ways to sum that is
differs between dtypes: all are tried. Runs are interleaved; shortest times are compared. At a
kilobyte there is next to nothing to sum: what an update takes there is its fixed cost.

Run with ``python -m benchmarks.metric_update``; ``--largest 33554432`` for no more than 32 MB,
``--json FILE``, ``--markdown`` for a table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.tables import call_table, update_table
from torch import Tensor
from torchmetrics import SumMetric

import snnmetrics as sm

NEURONS = 4096
SIZES = (2**10, 2**15, 2**20, 2**25, 2**28)
HALVES = (torch.bfloat16, torch.float16)
BYTES = (torch.bool, torch.uint8, torch.int8)
DTYPES = (torch.float32, torch.float64, *HALVES, *BYTES, torch.int64)


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


def sums(x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Ways to sum spikes over the batch that are exact for as many as there are here."""
    in_float32 = {
        "sum(0, dtype=float32)": lambda: x.sum(0, dtype=torch.float32),
        "float().sum(0)": lambda: x.float().sum(0),
    }
    if x.dtype in HALVES:
        return in_float32
    plain = {"sum(0)": lambda: x.sum(0)}
    if x.dtype not in BYTES:
        return plain
    return plain | in_float32 | {"sum(0, dtype=int32)": lambda: x.sum(0, dtype=torch.int32)}


def measure(size: int, dtype: torch.dtype, seconds: float = 0.3) -> dict[str, Any]:
    """Microseconds for so many bytes of spikes.

    Args:
        size: Bytes.
        dtype: Of the spikes.
        seconds: How long to measure, at least.
    """
    elements = size // dtype.itemsize
    neurons = min(NEURONS, max(1, elements // 8))
    x = (torch.rand(max(1, elements // neurons), neurons) < 0.1).to(dtype)
    ours, stock, ways = sm.SynOps(fanout=10.0), SumMetric(), sums(x)
    calls: dict[str, Callable[[], object]] = {
        "update": lambda: ours.update(x),
        "forward": lambda: ours(x),
        "SumMetric.update": lambda: stock.update(x),
        "SumMetric.forward": lambda: stock(x),
    }
    found = shortest([*calls.values(), *ways.values()], seconds)
    times = dict(zip([*calls, *ways], found, strict=True))
    quickest = min(ways, key=lambda way: times[way])
    return {
        "bytes": size,
        "dtype": str(dtype).removeprefix("torch."),
        "microseconds": {name: times[name] for name in calls} | {"sum": times[quickest]},
        "quickest_sum": quickest,
    }


def main() -> None:
    """Print a line per size and dtype; write JSON and a table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="bytes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each size and dtype")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print a table as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    result: dict[str, Any] = {"machine": description(), "rows": []}
    print(f"{result['machine']}; spikes at a rate of 0.1; microseconds")
    print(
        "     bytes  dtype       update  forward      sum   SumMetric update  forward  update/sum"
    )
    for size in (size for size in SIZES if size <= args.largest):
        for dtype in DTYPES:
            row = measure(size, dtype, args.seconds)
            us = row["microseconds"]
            print(
                f"{size:>10}  {row['dtype']:<9}{us['update']:>9.1f}{us['forward']:>9.1f}"
                f"{us['sum']:>9.1f}{us['SumMetric.update']:>19.1f}{us['SumMetric.forward']:>9.1f}"
                f"{us['update'] / us['sum']:>12.2f}  {row['quickest_sum']}",
                flush=True,
            )
            result["rows"].append(row)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.markdown:
        print("\n" + call_table(result) + "\n\n" + update_table(result))


if __name__ == "__main__":
    main()
