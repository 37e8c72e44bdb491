"""Time of monitored forwards with figures of samples, of time steps and of cores.

For each workload, in one run: a Monitor as it is, and with each option, over the plain forward.
Every run is paired with a plain forward right before it; printed are medians and minima of the
ratios.

Run with ``python -m benchmarks.options``; ``--rounds 30``, ``--only conv``, ``--json FILE``,
``--markdown`` for a table.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from benchmarks.choices import run_script
from benchmarks.timing import Timed
from benchmarks.workloads import WORKLOADS, Workload

import snnmetrics as sm

DEFAULT = ["conv", "small-loop"]
OPTIONS: dict[str, dict[str, Any]] = {
    "monitored": {},
    "per_sample": {"per_sample": True},
    "per_step": {"per_step": True},
    "16 cores": {"cores": None},
}


def sixteen_cores(workload: Workload) -> dict[str, int]:
    """Sixteen cores, each layer on as many as its share of the neurons, at least on one."""
    monitor = sm.Monitor(workload.model)
    with torch.no_grad(), monitor, monitor.batch(workload.samples, workload.steps):
        workload.reset()
        workload.forward()
    rows = monitor.compute().layers_data
    neurons = {name: math.prod(data.operation.output_shape) for name, data in rows.items()}
    cores = dict.fromkeys(neurons, 1)
    for _ in range(16 - len(cores)):
        cores[max(cores, key=lambda name: neurons[name] / cores[name])] += 1
    return cores


def monitored_with(workload: Workload, **options: Any) -> Timed:
    """Ours with options, attached and warm before the clock starts, as in a loop over batches."""
    dims: dict[str, Any] = {} if workload.steps_outside else {"batch_dim": 1, "time_dim": 0}
    if "cores" in options:
        options["cores"] = sixteen_cores(workload)
    monitor = sm.Monitor(workload.model, **dims, **options)

    def call() -> Any:
        with monitor.batch(workload.samples, workload.steps):
            return workload.forward()

    return Timed(call, lambda: monitor, warm=True)


def calls_of(workload: Workload) -> dict[str, Timed]:
    """A Monitor as it is, and with each option."""
    return {name: monitored_with(workload, **options) for name, options in OPTIONS.items()}


def main() -> None:
    """Measure and print; write JSON and a table if asked to."""
    run_script(__doc__, lambda workload: workload.forward, calls_of, DEFAULT, list(WORKLOADS))


if __name__ == "__main__":
    main()
