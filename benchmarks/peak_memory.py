"""Peak memory of a monitored forward above that of the plain one, beside other counters.

What counts is the memory that the process really has: PyTorch's allocations, NumPy's and those of
the kernels are all in it. Every figure comes from a process of its own. There, after a forward of
each kind that fills the caches, plain and counted forwards take turns. Before each, Linux is told
to forget the highest resident memory so far (``/proc/self/clear_refs``); after it, the highest
resident memory (``VmHWM``) less the resident memory before is the peak of that forward. The figure
is the median over the rounds of the counted peak less the plain peak.

So that freed memory goes back and is seen again when it is asked for, the C library is told to map
every block of 64 KB or more by itself (``MALLOC_MMAP_THRESHOLD_``), and NumPy not to ask for huge
pages. Limits of the method: smaller blocks stay with the process and are seen only the first time,
the kernel's own counters are late by up to a few hundred KB, and what a counter takes while the
plain forward has more than at that moment is in no peak. Hence batches are repeated until the
largest activation has 32 MB, where eight times are enough (loops over time stay as they are), and
the layers with bounds need little besides their input. What a second plain forward in the place of
the counted one is found to need shows how far figures can be trusted.

What a Monitor loads and keeps when it is attached and hears its first forward is in none of these
figures. Only on Linux with the GNU C library. Run with ``python -m benchmarks.peak_memory``;
``--rounds 5``, ``--only conv linear-binary``, ``--ours``, ``--json FILE``, ``--markdown``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description, forget_peak, resident
from benchmarks.overhead_of_monitor import COUNTERS
from benchmarks.tables import MB, OURS, PLAIN, layer_peak_table, peak_table
from benchmarks.timing import Timed
from benchmarks.workloads import WORKLOADS, Workload
from torch import Tensor, nn

ENOUGH = 32 * MB
# Read when a process starts: each measuring process is started with them.
SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
    "NUMPY_MADVISE_HUGEPAGE": "0",
}


# ----------------------------------------------------------- one large layer, with a bound


def _values(kind: str, shape: tuple[int, ...]) -> Tensor:
    events = (torch.rand(shape) < 0.1).float()
    if kind == "binary":
        return events
    if kind == "ternary":
        return events * torch.randint(0, 2, shape).mul_(2).sub_(1)
    return events * (torch.randint(1, 9, shape) if kind == "integer" else torch.rand(shape))


def _linear(kind: str, dtype: torch.dtype = torch.float32) -> Workload:
    x = _values(kind, (1, 2**26 // 4096 // dtype.itemsize, 4096)).to(dtype)
    model = nn.Sequential(nn.Linear(4096, 10)).to(dtype).eval()  # some look at children only
    return Workload("linear layer", f"{kind} {str(dtype)[6:]}, 4096 inputs", model, x)


def _convolution(kind: str) -> Workload:
    x = _values(kind, (1, 64, 16, 128, 128))
    model = _FrugalConvolution(nn.Conv2d(16, 1, 2, stride=2)).eval()
    return Workload("convolution", f"{kind} float32, 16x128x128 inputs", model, x)


class _FrugalConvolution(nn.Module):
    """A convolution of one step, by a kernel that makes no copy of the whole input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        """Output of the layer; oneDNN would rearrange the input, which hides what others take."""
        with torch.backends.mkldnn.flags(enabled=False):
            return self.layer(x[0])


KINDS = ("binary", "ternary", "integer", "analog")
LAYERS: dict[str, Callable[[], Workload]] = {
    **{f"linear-{kind}": lambda kind=kind: _linear(kind) for kind in KINDS},  # type: ignore[misc]
    **{f"conv-{kind}": lambda kind=kind: _convolution(kind) for kind in KINDS},  # type: ignore[misc]
    "linear-binary-bfloat16": lambda: _linear("binary", torch.bfloat16),
    "linear-analog-bfloat16": lambda: _linear("analog", torch.bfloat16),
}
# Here others are measured, too: nothing that the plain forward needs hides what they take.
BESIDE_PEERS = ("linear-binary", "conv-binary")


def allowed(key: str, workload: Workload, largest: int) -> float:
    """Bytes that monitoring one large layer may need: see issue and performance page.

    Args:
        key: Name of the case.
        workload: The layer and its input.
        largest: Bytes of the largest activation.
    """
    if "binary" not in key:
        return 0.25 * largest
    neurons = math.prod(workload.x.shape[2:])
    return 0.02 * largest + 2 * neurons * torch.float64.itemsize


# -------------------------------------------------------------- in a process of its own


def enlarged(workload: Workload) -> Workload:
    """The same with the batch repeated for a large enough activation, if eight times will do."""
    times = math.ceil(ENOUGH / largest_activation(workload))
    if times > 8:
        return workload
    repeats = [1, times, *(1 for _ in workload.x.shape[2:])]
    return replace(workload, x=workload.x.repeat(repeats))


def largest_activation(workload: Workload) -> int:
    """Bytes of the largest tensor that goes into a module or comes out of one."""
    found = [0]

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        found.extend(t.nbytes for t in (*inputs, *outputs) if isinstance(t, Tensor))

    handles = [module.register_forward_hook(look) for module in workload.model.modules()]
    workload.reset()
    with torch.no_grad():
        workload.forward()
    for handle in handles:
        handle.remove()
    return max(found)


def peak(timed: Timed, before: Callable[[], object]) -> int:
    """Highest resident memory during a call above that before it, in bytes."""
    with timed.ready(before):
        gc.collect()
        forget_peak()
        start = resident("VmRSS")
        timed.call()
        return resident("VmHWM") - start


def measure_here(key: str, counter: str, rounds: int) -> dict[str, Any]:
    """Peaks of plain and counted forwards in this process, in bytes.

    Args:
        key: Name of the workload or layer.
        counter: Name of the counter, or of the plain forward, which is measured against itself.
        rounds: Pairs that count.
    """
    torch.manual_seed(0)
    workload = LAYERS[key]() if key in LAYERS else enlarged(WORKLOADS[key]())
    largest = largest_activation(workload)
    plain = Timed(workload.forward)
    timed = plain if counter == PLAIN else COUNTERS[counter](workload)
    pairs = []
    gc.disable()
    with torch.no_grad():
        for number in range(rounds + 1):  # the first fills the caches
            pair = peak(plain, workload.reset), peak(timed, workload.reset)
            if number:
                pairs.append(pair)
    return {
        "what": workload.what,
        "batch": workload.samples,
        "largest": largest,
        "plain": statistics.median(one for one, _ in pairs),
        "above": statistics.median(other - one for one, other in pairs),
        "allowed": allowed(key, workload, largest) if key in LAYERS and counter == OURS else None,
    }


def measure(key: str, counter: str, rounds: int, threads: int = 1) -> dict[str, Any]:
    """The same in a new process; a counter that does not work there has an ``error``."""
    here = ["--here", key, counter, "--rounds", str(rounds), "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.peak_memory", *here],
        env=os.environ | SETTINGS,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print a line per figure, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cases = [*WORKLOADS, *LAYERS]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=cases, nargs="*", default=cases)
    parser.add_argument("--ours", action="store_true", help="leave out the other counters")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print tables as well")
    parser.add_argument("--here", nargs=2, metavar=("CASE", "COUNTER"), help="in this process")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.here:
        key, counter = args.here
        print(json.dumps(measure_here(key, counter, args.rounds)))
        return
    result: dict[str, Any] = {"machine": description(), "rounds": args.rounds, "cases": {}}
    print("peak above the plain forward, in MB and in percent of the largest activation")
    for key in args.only:
        alone = args.ours or (key in LAYERS and key not in BESIDE_PEERS)
        for counter in (PLAIN, *([OURS] if alone else COUNTERS)):
            found = measure(key, counter, args.rounds, args.threads)
            result["cases"].setdefault(key, {})[counter] = found
            print(f"{key:<24}{counter:<22}{line(found)}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.markdown:
        print("\n" + peak_table(result) + "\n\n" + layer_peak_table(result))


def line(found: dict[str, Any]) -> str:
    """One result in words."""
    if "error" in found:
        return f"fails: {found['error'][:90]}"
    above, largest, bound = found["above"], found["largest"], found["allowed"]
    text = f"{above / MB:>8.2f} MB {above / largest:>8.1%} of {largest / MB:.1f} MB"
    if bound is None:
        return text
    return f"{text}; allowed {bound / MB:.2f} MB: {'kept' if above <= bound else 'MISSED'}"


if __name__ == "__main__":
    main()
