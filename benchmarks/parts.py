"""The time that a Monitor adds to a forward, by what it is spent on.

The parts of the Monitor that read memory are timed while it is attached to the models of
``benchmarks.workloads``: reading activations, adding up their sums, comparing the zeros of weights.
The rest is the fixed time per call of a module or an operation, and recording the counts.

Run with ``python -m benchmarks.parts``; ``--rounds 20``, ``--only conv``, ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from benchmarks.machine import description
from benchmarks.workloads import WORKLOADS, Workload

import snnmetrics as sm
from snnmetrics.monitor import recorder
from snnmetrics.monitor.call_sites import InputSums
from snnmetrics.synapses import maps

# What is timed, by the name of the part that it is.
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "reading activations": ((recorder, "summarize_narrowly"),),
    "adding up": ((InputSums, "add"), (InputSums, "settle")),
    "comparing weights": ((maps, "sparsity_pattern"), (maps, "events_along")),
}
REST = "calls and entries"


class Clock:
    """Adds up the time spent in functions, less that in functions timed within them."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                took = self._now() - start
                self.seconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return call

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time all parts for a while."""
        with ExitStack() as patches:
            for part, functions in PARTS.items():
                for owner, name in functions:
                    timed = self.timed(part, getattr(owner, name))
                    patches.enter_context(mock.patch.object(owner, name, timed))
            yield


def measure(workload: Workload, rounds: int) -> dict[str, float]:
    """Time of a plain forward in seconds, and of each part that a Monitor adds to it."""
    monitor = sm.Monitor(workload.model)

    def plain() -> float:
        workload.reset()
        start = time.perf_counter()
        workload.forward()
        return time.perf_counter() - start

    def batch() -> float:
        workload.reset()
        start = time.perf_counter()
        with monitor.batch(workload.samples, workload.steps):
            workload.forward()
        return time.perf_counter() - start

    def monitored(clock: Clock | None = None) -> float:
        with monitor:
            batch()  # the first after attaching finds out what is the same in all
            with nullcontext() if clock is None else clock.running():
                return batch()

    found: dict[str, list[float]] = defaultdict(list)
    with torch.no_grad():
        for number in range(rounds + 2):
            pair = plain(), monitored()
            clock = Clock()
            monitored(clock)
            if number >= 2:  # caches are warm
                found["plain"].append(pair[0])
                found["added"].append(pair[1] - pair[0])
                for part in PARTS:
                    found[part].append(clock.seconds[part])
    medians = {name: statistics.median(times) for name, times in found.items()}
    rest = medians["added"] - sum(medians[part] for part in PARTS)
    return medians | {REST: rest}


def main() -> None:
    """Print the parts in percent of the plain forward."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="*", default=list(WORKLOADS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": description(), "rounds": args.rounds, "workloads": {}}
    for key in args.only:
        torch.manual_seed(0)
        workload = WORKLOADS[key]()
        found = measure(workload, args.rounds)
        print(f"\n{workload.name}: plain forward {found['plain'] * 1e3:.1f} ms")
        for part in ("added", *PARTS, REST):
            print(f"  {part:<22}{found[part] / found['plain']:>8.1%}", flush=True)
        results["workloads"][key] = {"name": workload.name, "seconds": found}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
