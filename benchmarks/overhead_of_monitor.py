"""Time of a monitored forward over the plain one, beside other counters.

For each workload, in one run: our Monitor with all exact counts on, and each peer that works on the
model. Every run is paired with a plain forward right before it; printed are medians and minima of
the ratios. What they count is compared elsewhere (``docs/howto/conventions.md``): some
count less. Peers that fail on a model are named with their error.

Run with ``python -m benchmarks.overhead_of_monitor``; ``--threads 2``, ``--rounds 30``,
``--only conv``, ``--json FILE``, ``--markdown`` for a table, ``--figure FILE`` for a picture.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.figure import overhead_figure
from benchmarks.machine import description
from benchmarks.tables import EMPTY_MODE, IN_RUN, OURS, PLAIN, overhead_table
from benchmarks.timing import Ratio, Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import snnmetrics as sm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
    from sinabs import hooks
    from spikingjelly.activation_based import op_counter


def monitored(workload: Workload) -> Timed:
    """Ours, attached and warm before the clock starts, as in a loop over batches."""
    monitor = sm.Monitor(workload.model)

    def call() -> Any:
        with monitor.batch(workload.samples, workload.steps):
            return workload.forward()

    return Timed(call, lambda: monitor, warm=True)


def spikingjelly_synops(workload: Workload) -> Timed:
    """Its counter of synaptic operations."""

    def call() -> Any:
        with op_counter.DispatchCounterMode([op_counter.SynOpCounter()]):
            return workload.forward()

    return Timed(call)


def spikingjelly_energy(workload: Workload) -> Timed:
    """Its simple estimate of energy: SynOps, MACs and memory accesses."""

    def call() -> Any:
        profiler = op_counter.SimpleEnergyProfiler()
        profiler.bind_model(workload.model)
        with profiler:
            return workload.forward()

    return Timed(call)


def neurobench(workload: Workload) -> Timed:
    """Its hooks and its metric of synaptic operations."""
    wrapped = TorchModel(workload.model)

    def call() -> Any:
        metric = SynapticOperations()
        output = workload.forward()
        metric(wrapped, None, (workload.x.transpose(0, 1),))
        return output

    @contextmanager
    def hooked() -> Iterator[None]:
        wrapped.register_hooks()
        try:
            yield
        finally:
            for hook in [*wrapped.connection_hooks, *wrapped.activation_hooks]:
                hook.close() if hasattr(hook, "close") else hook.hook.remove()
            wrapped.connection_hooks.clear()
            wrapped.activation_hooks.clear()

    return Timed(call, hooked)


def sinabs_hooks(workload: Workload) -> Timed:
    """Its hooks of layers."""

    @contextmanager
    def hooked() -> Iterator[None]:
        handles = []
        for module in workload.model.modules():
            if isinstance(module, nn.Conv2d):
                handles.append(module.register_forward_hook(hooks.conv_layer_synops_hook))
            elif isinstance(module, nn.Linear):
                handles.append(module.register_forward_hook(hooks.linear_layer_synops_hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    return Timed(workload.forward, hooked)


def torch_flops(workload: Workload) -> Timed:
    """PyTorch's counter of floating-point operations, which does not look at activations."""

    def call() -> Any:
        with FlopCounterMode(display=False):
            return workload.forward()

    return Timed(call)


class Nothing(TorchFunctionMode):
    """A function mode that calls each function and does nothing else."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function."""
        return func(*args, **(kwargs or {}))


COUNTERS: dict[str, Callable[[Workload], Timed]] = {
    OURS: monitored,
    "spikingjelly SynOps": spikingjelly_synops,
    "spikingjelly energy": spikingjelly_energy,
    "neurobench": neurobench,
    "sinabs hooks": sinabs_hooks,
    "torch FLOPs": torch_flops,
}


def working(
    makers: Mapping[str, Callable[[], Timed]], before: Callable[[], object]
) -> tuple[dict[str, Timed], dict[str, str]]:
    """Counters that worked once, and the errors of the others.

    Args:
        makers: What makes them, by name.
        before: Called before every call.
    """
    calls, errors = {}, {}
    for name, make in makers.items():
        try:
            timed = make()
            with timed.ready(before):
                timed.call()
        except Exception as error:  # whatever it is: said in the result
            errors[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            calls[name] = timed
    return calls, errors


def compare(workload: Workload, rounds: int) -> tuple[dict[str, Ratio], dict[str, str]]:
    """Ratios by counter, and the errors of those that do not work on this model."""
    calls = {PLAIN: Timed(workload.forward), EMPTY_MODE: Timed(workload.forward, Nothing)}
    with torch.no_grad():
        makers = {name: partial(make, workload) for name, make in COUNTERS.items()}
        counting, errors = working(makers, workload.reset)
        ratios = paired_ratios(workload.forward, calls | counting, rounds, workload.reset)
    return ratios, errors


def inside_run(workload: Workload, rounds: int, batches: int = 16) -> Ratio | None:
    """Ours in ``Monitor.run``, where weights are compared at the start and end alone.

    Returns:
        The ratio of a run of some batches over as many plain forwards; None for models that a loop
        outside calls once per time step.
    """
    if workload.steps_outside:
        return None
    monitor = sm.Monitor(workload.model, batch_dim=1, time_dim=0)

    def loader() -> Iterator[torch.Tensor]:
        for _ in range(batches):
            workload.reset()
            yield workload.x

    def plain() -> None:
        for x in loader():
            workload.model(x)

    def run() -> None:
        monitor.run(loader(), progress=False)

    with torch.no_grad():
        return paired_ratios(plain, {OURS: Timed(run)}, rounds)[OURS]


def main() -> None:
    """Measure and print; write JSON, a table and a picture if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="*", default=list(WORKLOADS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print a table as well")
    parser.add_argument("--figure", type=Path, help="PNG, SVG or PDF")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found: dict[str, Any] = {"machine": description(), "rounds": args.rounds, "workloads": {}}
    print(f"{found['machine']}; {args.rounds} rounds; monitored / plain: median (minimum)")
    for key in args.only:
        torch.manual_seed(0)
        workload = WORKLOADS[key]()
        ratios, errors = compare(workload, args.rounds)
        run = inside_run(workload, max(1, args.rounds // 3))
        if run is not None:
            ratios[IN_RUN] = run
        print(f"\n{workload.name}: {workload.what}")
        print(f"plain forward {ratios[PLAIN].seconds * 1e3:.1f} ms")
        for name, ratio in ratios.items():
            print(f"  {name:<22}{ratio.median:>8.3f} ({ratio.minimum:.3f})", flush=True)
        for name, error in errors.items():
            print(f"  {name:<22}fails: {error[:90]}")
        found["workloads"][key] = {
            "name": workload.name,
            "what": workload.what,
            "limit": workload.limit,
            "ratios": {name: vars(ratio) for name, ratio in ratios.items()},
            "errors": errors,
        }
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.markdown:
        print("\n" + overhead_table(found))
    if args.figure:
        overhead_figure(found).savefig(args.figure, dpi=200)


if __name__ == "__main__":
    main()
