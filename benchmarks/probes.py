"""Time of training steps with probes of potentials and gradients at every layer of neurons.

A training step is a forward and a backward pass. In one run: a Monitor as it is, and with each kind
of probe, over the plain step. Every run is paired with a plain step right before it; printed are
medians and minima of the ratios.

Run with ``python -m benchmarks.probes``; ``--rounds 30``, ``--only loop``, ``--json FILE``,
``--markdown`` for a table.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from benchmarks.choices import run_script
from benchmarks.timing import Timed
from benchmarks.workloads import Workload
from torchmetrics import Metric

import snnmetrics as sm

DEFAULT = ["loop", "small-loop"]
PROBES: dict[str, dict[str, Callable[[], Metric]]] = {
    "monitored": {},
    "potentials": {"membrane": lambda: sm.MembraneStatistics(time_dim=None)},
    "gradients": {"gradient": lambda: sm.GradientStatistics(time_dim=None)},
}


def training_step(
    workload: Workload, listening: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Any:
    """One batch forward within a context, and the mean of its squared outputs backward."""
    with listening():
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
    batch = partial(monitor.batch, workload.samples, workload.steps)
    return Timed(partial(training_step, workload, batch), lambda: monitor, warm=True)


def plain_step(workload: Workload) -> Callable[[], object]:
    """The training step without a Monitor."""
    return partial(training_step, workload)


def calls_of(workload: Workload) -> dict[str, Timed]:
    """A Monitor as it is, and with each kind of probe."""
    return {name: monitored_with(workload, kinds) for name, kinds in PROBES.items()}


def main() -> None:
    """Measure and print; write JSON and a table if asked to."""
    run_script(__doc__, plain_step, calls_of, DEFAULT, DEFAULT, training=True)


if __name__ == "__main__":
    main()
