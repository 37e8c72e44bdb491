"""Time of a monitored forward on a CUDA device, over the plain one.

Times are those of the device, between two events in its stream, so that work that the host has
launched and not waited for is in them; after each forward the host waits. Before anything is
timed, a monitored forward runs in a mode of PyTorch in which waiting for the device is an error
(``torch.cuda.set_sync_debug_mode``), unless the plain forward itself waits, which is said then; and
the events that it counted in the input are compared with those that are counted on the CPU. Kernel
launches of both are those that PyTorch's profiler sees.

Without a CUDA device it says so and ends. Run with ``python -m benchmarks.on_device``;
``--rounds 50``, ``--only conv``, ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.overhead_of_monitor import monitored
from benchmarks.workloads import WORKLOADS, Workload
from torch.profiler import ProfilerActivity, profile

import snnmetrics as sm


def moved(workload: Workload, device: torch.device | str) -> Workload:
    """The same on a device; the model itself is moved."""
    workload.reset()
    return replace(workload, model=workload.model.to(device), x=workload.x.to(device))


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Make PyTorch raise a ``RuntimeError`` where the host would wait for a CUDA device."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def milliseconds(call: Callable[[], object]) -> float:
    """Time of a call in the stream of the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def launches(call: Callable[[], object]) -> int:
    """Kernels that a call launches."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum("LaunchKernel" in event.name for event in profiler.events() or ())


def measure(workload: Workload, rounds: int) -> dict[str, Any]:
    """Median ratio of pairs, the median time of the plain forward, and launches of both.

    Args:
        workload: On the device.
        rounds: Pairs that count; three more go before them.
    """
    timed, pairs, launched = monitored(workload), [], {}
    for number in range(rounds + 3):
        workload.reset()
        plain = milliseconds(workload.forward)
        workload.reset()
        with timed.within():
            pair = plain, milliseconds(timed.call)
        if number >= 3:
            pairs.append(pair)
    workload.reset()
    launched["plain"] = launches(workload.forward)
    workload.reset()
    with timed.within():
        launched["monitored"] = launches(timed.call)
    return {
        "name": workload.name,
        "what": workload.what,
        "launches": launched,
        "ratio": statistics.median(counted / plain for plain, counted in pairs),
        "milliseconds": statistics.median(plain for plain, _ in pairs),
    }


def counted(workload: Workload, strict: bool = False) -> sm.Report:
    """Count one forward with a Monitor, after one that fills the caches.

    Args:
        workload: On any device.
        strict: Whether waiting for the device is an error in the forward that counts.
    """
    monitor = sm.Monitor(workload.model)
    for within in (nullcontext, waiting_is_an_error if strict else nullcontext):
        monitor.reset()
        workload.reset()
        with monitor, within(), monitor.batch(workload.samples, workload.steps):
            workload.forward()
    return monitor.compute()


def waits_by_itself(workload: Workload) -> bool:
    """Whether the plain forward waits for the device."""
    workload.forward()
    workload.reset()
    try:
        with waiting_is_an_error():
            workload.forward()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    return False


def input_events(report: sm.Report) -> float | None:
    """Events in the input of the first layer: spikes behind it depend on how sums are rounded."""
    first, *_ = report.counts().values()
    return first["events"]


def main() -> None:
    """Check and measure every workload; write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="*", default=list(WORKLOADS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("on_device: expected a CUDA device, found none; nothing was measured")
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name()
    result: dict[str, Any] = {
        "machine": description(),
        "device": device,
        "cuda": torch.version.cuda,
        "rounds": args.rounds,
        "workloads": {},
    }
    print(f"{device}, torch {torch.__version__}; monitored / plain: median")
    for key in args.only:
        torch.manual_seed(0)
        with torch.no_grad():
            workload = WORKLOADS[key]()
            on_cpu = counted(workload)
            workload = moved(workload, "cuda")
            waits = waits_by_itself(workload)
            on_device = counted(workload, strict=not waits)
            if input_events(on_device) != input_events(on_cpu):
                raise RuntimeError(f"{key}: expected the events of the CPU, found others")
            found = measure(workload, args.rounds) | {"plain_waits": waits}
        note = ", which waits for the device" if waits else ""
        print(
            f"  {found['name']:<22}{found['ratio']:>8.3f} of {found['milliseconds']:.2f} ms{note}"
        )
        result["workloads"][key] = found
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
