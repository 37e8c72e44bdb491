"""Time of one call of a metric beside torchmetrics' stock path, on a small input.

Three metrics count the same thing: ours; ours driven by torchmetrics' own ``forward`` and
``update``, which is what a plain subclass of ``torchmetrics.Metric`` gets; and torchmetrics'
``SumMetric`` for scale. Calls are interleaved, and the medians of paired ratios are printed.

Run with ``python benchmarks/overhead.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric, SumMetric

import snnmetrics as sm
from snnmetrics.functional.operations import as_fanout, synops_compute, synops_update

ROUNDS, CALLS = 200, 20


class StockSynOps(Metric):
    """``SynOps`` written the usual way: the same mathematics, torchmetrics' machinery."""

    full_state_update = False
    fanout: Tensor
    synops: Tensor
    samples: Tensor

    def __init__(self, fanout: Tensor) -> None:
        super().__init__()
        self.register_buffer("fanout", as_fanout(fanout), persistent=False)
        self.add_state("synops", torch.zeros(fanout.shape, dtype=torch.float64), "sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, activations: Tensor) -> None:
        """Add one batch."""
        summed, samples, _ = synops_update(activations, self.fanout, None, True)
        self.synops = self.synops + summed
        self.samples = self.samples + samples

    def compute(self) -> dict[str, Tensor]:
        """Means per sample."""
        return synops_compute(self.synops, self.samples, None, True)


def microseconds(call: Callable[[], object]) -> float:
    """Mean time of a call over a few, in microseconds."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def compare(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time all calls in turn, round after round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        microseconds(call)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(microseconds(call))
    return times


def main() -> None:
    """Print times per call and ratios to the stock path."""
    torch.set_num_threads(1)
    spikes = (torch.rand(8, 64) < 0.2).float()
    grad = spikes.clone().requires_grad_()
    fanout = torch.full((64,), 10.0)
    ours, stock, scale = sm.SynOps(fanout), StockSynOps(fanout), SumMetric()
    times = compare(
        {
            "SynOps.update": lambda: ours.update(spikes),
            "stock update": lambda: stock.update(spikes),
            "SumMetric.update": lambda: scale.update(spikes),
            "SynOps.forward": lambda: ours(spikes),
            "stock forward": lambda: stock(spikes),
            "SumMetric.forward": lambda: scale(spikes),
            "SynOps.forward, gradient": lambda: ours(grad),
            "stock forward, gradient": lambda: stock(grad),
        }
    )
    print(f"activations {tuple(spikes.shape)} float32, fan-out map {tuple(fanout.shape)}, 1 thread")
    print(f"torch {torch.__version__}, {ROUNDS} interleaved rounds of {CALLS} calls")
    print(f"{'call':<26}{'min us':>8}{'median us':>11}")
    for name, values in times.items():
        print(f"{name:<26}{min(values):>8.1f}{statistics.median(values):>11.1f}")
    for kind in ("update", "forward", "forward, gradient"):
        ratios = [
            a / b for a, b in zip(times[f"SynOps.{kind}"], times[f"stock {kind}"], strict=True)
        ]
        print(f"{kind}: ours / stock path, median of paired ratios {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
