"""Time of training steps with probes of potentials and gradients at every layer of neurons.

A training step is a forward and a backward pass. In one run: a Monitor as it is, and with each kind
of probe, over the plain step. Every run is paired with a plain step right before it; printed are
medians and minima of the ratios.

Run with ``python -m benchmarks.probes``; ``--rounds 30``, ``--only loop``, ``--json FILE``,
``--markdown`` for a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.tables import options_table
from benchmarks.timing import Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload
from torchmetrics import Metric

import snnmetrics as sm

DEFAULT = ["loop", "small-loop"]
PROBES: dict[str, dict[str, Callable[[], Metric]]] = {
    "monitored": {},
    "potentials": {"membrane": lambda: sm.MembraneStatistics(time_dim=None)},
    "gradients": {"gradient": lambda: sm.GradientStatistics(time_dim=None)},
}


def training_step(workload: Workload) -> Any:
    """One batch forward, and the sum of its squared outputs backward."""
    outputs = workload.forward()
    loss = torch.stack(outputs).square().mean()
    loss.backward()
    workload.model.zero_grad()
    return loss


def monitored_with(workload: Workload, kinds: dict[str, Callable[[], Metric]]) -> Timed:
    """Ours with probes, attached and warm before the clock starts."""
    neurons = [name for name, _ in workload.model.named_modules() if name.startswith("neurons.")]
    probes = {f"{name}.{place}": make() for name in neurons for place, make in kinds.items()}
    monitor = sm.Monitor(workload.model, probes=probes)

    def call() -> Any:
        with monitor.batch(workload.samples, workload.steps):
            outputs = workload.forward()
        loss = torch.stack(outputs).square().mean()
        loss.backward()
        workload.model.zero_grad()
        return loss

    return Timed(call, lambda: monitor, warm=True)


def main() -> None:
    """Measure and print; write JSON and a table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=DEFAULT, nargs="*", default=DEFAULT)
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
        timed = {name: monitored_with(workload, kinds) for name, kinds in PROBES.items()}
        step = partial(training_step, workload)
        ratios = paired_ratios(step, timed, args.rounds, workload.reset)
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
