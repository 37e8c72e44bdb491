"""Time of a monitored batch on a CUDA device, over the plain one, beside other counters.

Four modes: inference and a training step, in float32 and under autocast to bfloat16. A training
step is the forward, a loss, backward and a step of SGD; the Monitor is attached meanwhile and the
batch that it counts is the forward. Peers run in the same way, in fewer rounds; those that raise an
error are named with it.

Times are those of the device, between two events in its stream, so that work that the host has
launched and not waited for is in them; after each batch the host waits. Before anything is timed, a
monitored batch runs in a mode of PyTorch in which waiting for the device is an error
(``torch.cuda.set_sync_debug_mode``), unless the plain one itself waits, which is said then; and the
events that it counted in the input are compared with those that are counted on the CPU. Kernel
launches are those that PyTorch's profiler sees. They are counted after all times were taken, since
the profiler leaves traces in what comes after it.

Without a CUDA device it says so and ends. Run with ``python -m benchmarks.on_device``;
``--rounds 50``, ``--seconds 60`` (no round of a mode begins later: a loan of a card may be short),
``--only conv``, ``--modes "training, bfloat16"``, ``--json FILE``, which is written after each
measurement.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.overhead_of_monitor import COUNTERS, working
from benchmarks.tables import OURS, PLAIN
from benchmarks.timing import Clock, Timed, ratio, timed_pairs
from benchmarks.workloads import WORKLOADS, Workload, sew_resnet18
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import snnmetrics as sm
from snnmetrics.tensors.accelerators.roads import road_of
from snnmetrics.tensors.accelerators.torch_road import TorchRoad

# By name. Images are smaller and more than on the CPU.
BUILDERS: dict[str, Callable[[], Workload]] = WORKLOADS | {
    "sew": partial(sew_resnet18, size=32, samples=64)
}
MEASURED = ("conv", "sew", "transformer", "loop")  # the loop takes longest
PEERS = ("spikingjelly SynOps", "neurobench")
DEVICE = "cuda"
PEERS_SHARE = 5  # one round of peers for so many of ours: they take several times as long


@dataclass(frozen=True)
class Mode:
    """How a batch is run.

    Attributes:
        training: Whether it is a training step, not inference.
        bfloat16: Whether the forward runs under autocast to bfloat16.
    """

    training: bool = False
    bfloat16: bool = False


MODES = {
    "inference, float32": Mode(),
    "inference, bfloat16": Mode(bfloat16=True),
    "training, float32": Mode(training=True),
    "training, bfloat16": Mode(training=True, bfloat16=True),
}


def limit(workload: Workload) -> float:
    """Largest monitored over plain that is aimed at on a device."""
    return 1.5 if workload.steps_outside else 1.15


def moved(workload: Workload, device: torch.device | str) -> Workload:
    """The same on a device; the model itself is moved."""
    workload.reset()
    return replace(workload, model=workload.model.to(device), x=workload.x.to(device))


class Run:
    """Runs batches of a workload in a mode; states of neurons are reset by the caller."""

    def __init__(self, workload: Workload, mode: Mode) -> None:
        self.workload = workload
        self.mode = mode
        self._to_mode()
        # So slow that the rates of spikes stay as they are.
        self.optimizer = torch.optim.SGD(workload.model.parameters(), lr=1e-4)

    def _to_mode(self) -> None:
        self.workload.model.train(self.mode.training)

    def plain(self) -> None:
        """One batch, with nothing attached."""
        self.through(self.workload.forward)

    def through(self, forward: Callable[[], Any]) -> None:
        """One batch.

        Args:
            forward: What gives the output of the model.
        """
        device = self.workload.x.device.type
        cast = torch.autocast(device, torch.bfloat16) if self.mode.bfloat16 else nullcontext()
        with torch.set_grad_enabled(self.mode.training), cast:
            output = forward()
            if not self.mode.training:
                return
            out = output if isinstance(output, Tensor) else torch.stack(output)
            loss = out.float().square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def timed(self, make: Callable[[Workload], Timed]) -> Timed:
        """A counter around the forward of such batches.

        Args:
            make: Makes it, for the workload.
        """
        counter = make(self.workload)
        self._to_mode()  # NeuroBench switches the models that it wraps to inference
        return replace(counter, call=lambda: self.through(counter.call))


# ------------------------------------------------------------------------ what is checked


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Make PyTorch raise a ``RuntimeError`` where the host would wait for a CUDA device."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def counted(run: Run, strict: bool = False) -> sm.Report:
    """Count one batch with a Monitor, after one that fills the caches.

    Args:
        run: On any device.
        strict: Whether waiting for the device is an error in the batch that counts.
    """
    workload = run.workload
    monitor = sm.Monitor(workload.model)

    def forward() -> Any:
        with monitor.batch(workload.samples, workload.steps):
            return workload.forward()

    for within in (nullcontext, waiting_is_an_error if strict else nullcontext):
        monitor.reset()
        workload.reset()
        with monitor, within():
            run.through(forward)
    return monitor.compute()


def waits_by_itself(run: Run) -> bool:
    """Whether the plain batch waits for the device."""
    run.workload.reset()
    run.plain()
    run.workload.reset()
    try:
        with waiting_is_an_error():
            run.plain()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    return False


def input_events(report: sm.Report) -> float | None:
    """Events in the input of the first layer: spikes behind it depend on how sums are rounded."""
    first, *_ = report.counts().values()
    return first["events"]


def read_by(device: str) -> str:
    """What reads activations on a device."""
    road = road_of(torch.ones((2, 2), device=device))
    if road is None:
        return "the host"
    return "PyTorch operations" if isinstance(road, TorchRoad) else "Triton kernels"


# ----------------------------------------------------------------------- what is measured


def seconds(call: Callable[[], object]) -> float:
    """Time of a call in the stream of the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def launches(call: Callable[[], object]) -> int:
    """Kernels that a call launches."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum("LaunchKernel" in event.name for event in profiler.events() or ())


def measure(
    run: Run,
    rounds: int,
    clock: Clock,
    check: Callable[[], object] = lambda: None,
    at_most: float = math.inf,
) -> dict[str, Any]:
    """Ratios of ours and of peers, the median time of the plain batch, and errors.

    Args:
        run: A workload on the device, in a mode.
        rounds: Pairs that count; for peers a fifth as many.
        clock: What times are taken with.
        check: Called before ours is timed. If it raises, that is the error of ours.
        at_most: Seconds after which no round begins; for peers half as many.
    """

    def ours() -> Timed:
        check()
        return run.timed(COUNTERS[OURS])

    reset = run.workload.reset
    mine, errors = working({OURS: ours}, reset)
    peers, failing = working({n: partial(run.timed, COUNTERS[n]) for n in PEERS}, reset)
    peers[PLAIN] = Timed(run.plain)
    pairs = timed_pairs(run.plain, mine, rounds, reset, clock, at_most=at_most)
    few = max(1, rounds // PEERS_SHARE)
    pairs |= timed_pairs(run.plain, peers, few, reset, clock, warm_up=0, at_most=at_most / 2)
    return {
        "rounds": {name: len(found) for name, found in pairs.items()},
        "seconds": statistics.median(plain for found in pairs.values() for plain, _ in found),
        "ratios": {name: vars(ratio(found)) for name, found in pairs.items()},
        "errors": errors | failing,
    }


def launches_of_both(run: Run) -> dict[str, int]:
    """Kernels that a plain and a monitored batch launch."""
    found = {}
    for name, timed in (("plain", Timed(run.plain)), ("monitored", run.timed(COUNTERS[OURS]))):
        with timed.ready(run.workload.reset):
            found[name] = launches(timed.call)
    return found


def built(key: str, device: str) -> tuple[Workload, float | None]:
    """A workload on the device, and the events in its input as counted on the CPU."""
    with torch.device(device):  # normalisation settles much sooner there
        workload = moved(BUILDERS[key](), "cpu")
    events = input_events(counted(Run(workload, Mode())))
    return moved(workload, device), events


def measure_checked(run: Run, events: float | None, rounds: int, at_most: float) -> dict[str, Any]:
    """The same, where ours neither makes the host wait nor counts others than on the CPU.

    Args:
        run: A workload on a CUDA device, in a mode.
        events: In the input, as counted on the CPU.
        rounds: Pairs that count.
        at_most: Seconds after which no pair begins.
    """
    waits = waits_by_itself(run)

    def check() -> None:
        found = input_events(counted(run, strict=not waits))
        if found != events:
            raise RuntimeError(f"expected {events} events in the input, as on the CPU, not {found}")

    return measure(run, rounds, seconds, check, at_most) | {"plain_waits": waits}


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and measure; write JSON if asked to.

    Raises:
        SystemExit: If there is no CUDA device, or if the Monitor failed in a mode.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=12, help="no round of a mode begins later")
    parser.add_argument("--only", choices=list(BUILDERS), nargs="*", default=MEASURED)
    parser.add_argument("--modes", choices=list(MODES), nargs="*", default=list(MODES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit("on_device: expected a CUDA device, found none; nothing was measured")
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": description(),
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "read_by": read_by(DEVICE),
        "workloads": {},
    }
    print(f"{result['device']}, torch {torch.__version__}, {result['read_by']}; over plain: median")

    def save() -> None:
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + "\n")

    workloads = {}
    for key in args.only:
        torch.manual_seed(0)
        workload, events = built(key, DEVICE)
        workloads[key] = workload
        modes: dict[str, Any] = {}
        result["workloads"][key] = {
            "name": workload.name,
            "what": workload.what,
            "limit": limit(workload),
            "modes": modes,
        }
        print(f"\n{workload.name}: {workload.what}")
        for name in args.modes:
            run = Run(workload, MODES[name])
            modes[name] = measure_checked(run, events, args.rounds, args.seconds)
            print_mode(name, modes[name])
            save()
    failed = []
    for key, workload in workloads.items():
        for name, found in result["workloads"][key]["modes"].items():
            if OURS in found["errors"]:
                failed.append(f"{key}, {name}: {found['errors'][OURS]}")
                continue
            found["launches"] = launches_of_both(Run(workload, MODES[name]))
            save()
    if failed:
        sys.exit("on_device: " + "; ".join(failed))


def print_mode(name: str, found: dict[str, Any]) -> None:
    """Print what :func:`measure_checked` found."""
    note = ", which waits for the device" if found["plain_waits"] else ""
    print(f"  {name}: plain {found['seconds'] * 1e3:.2f} ms{note}")
    for counter, its in found["ratios"].items():
        print(f"    {counter:<22}{its['median']:>8.3f}")
    for counter, error in found["errors"].items():
        print(f"    {counter:<22}fails: {error[:90]}", flush=True)


if __name__ == "__main__":
    main()
