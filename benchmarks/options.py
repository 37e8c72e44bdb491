"""Time of monitored forwards with figures of samples, of time steps and of cores.

For each workload, in one run: a Monitor as it is, and with each option, over the plain forward.
Every run is paired with a plain forward right before it; printed are medians and minima of the
ratios.

Run with ``python -m benchmarks.options``; ``--rounds 30``, ``--only conv``, ``--json FILE``,
``--markdown`` for a table.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.tables import options_table
from benchmarks.timing import Timed, paired_ratios
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


def main() -> None:
    """Measure and print; write JSON and a table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="*", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print a table as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, Any] = {
        "machine": description(),
        "rounds": args.rounds,
        "workloads": {},
    }
    for key in args.only:
        torch.manual_seed(0)
        workload = WORKLOADS[key]()
        timed = {name: monitored_with(workload, **options) for name, options in OPTIONS.items()}
        with torch.no_grad():
            ratios = paired_ratios(workload.forward, timed, args.rounds, workload.reset)
        print(f"\n{workload.name}")
        for name, ratio in ratios.items():
            print(f"  {name:<14}{ratio.median:>8.3f} ({ratio.minimum:.3f})", flush=True)
        result["workloads"][key] = {
            "name": workload.name,
            "ratios": {name: vars(ratio) for name, ratio in ratios.items()},
        }
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown:
        print(options_table(result))


if __name__ == "__main__":
    main()
