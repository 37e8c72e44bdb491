"""Time of compiled models, plain and with a Monitor attached.

While a Monitor is attached, what it reads becomes part of the graphs: they are compiled once more,
and afterwards the code that was compiled before is used again. For each workload a forward is timed
over the one that is not compiled: compiled, compiled with a Monitor attached, and compiled after it
was detached, round after round; and with a Monitor over the compiled one. The numbers of graphs
that were compiled for counting and anew after that are recorded. The counts of the compiled model
must be those of the plain one.

The backend is Inductor, which needs a C++ compiler; without one give ``--backend aot_eager``, which
traces and runs PyTorch's own kernels. Compiling takes minutes. Run with
``python -m benchmarks.compiled``; ``--only transformer``, ``--rounds 20``, ``--json FILE``,
``--markdown``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.overhead_of_monitor import monitored
from benchmarks.tables import compiled_table
from benchmarks.timing import Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload
from torch._dynamo.utils import counters

import snnmetrics as sm

DEFAULT = ["conv", "loop", "transformer"]


Counts = dict[str, dict[str, float | None]]


def counts(workload: Workload) -> Counts:
    """Count one forward with a Monitor, layer by layer."""
    monitor = sm.Monitor(workload.model)
    workload.reset()
    with torch.no_grad(), monitor, monitor.batch(workload.samples, workload.steps):
        workload.forward()
    return monitor.compute().counts()


def compile_and_measure(workload: Workload, backend: str, rounds: int) -> dict[str, Any]:
    """Ratios to the forward that is not compiled, before and while a Monitor comes and goes.

    Args:
        workload: The model, which is not compiled yet.
        backend: Of ``torch.compile``.
        rounds: Pairs that count.

    Raises:
        RuntimeError: If the counts of the compiled model are others than those of the plain one.
    """
    torch._dynamo.reset()
    already = graphs()
    compiled = replace(workload, model=_compiled(workload, backend))
    workload.reset()
    start = time.perf_counter()
    with torch.no_grad():
        compiled.forward()
    first = time.perf_counter() - start
    before = {
        "compiled": Timed(compiled.forward),
        "not compiled, again": Timed(workload.forward),
    }
    while_listening = {
        "not compiled, monitored": monitored(workload),
        "compiled, monitored": monitored(compiled),
        "compiled, after detaching": Timed(compiled.forward),
    }
    over_compiled = {"monitored": monitored(compiled)}
    with torch.no_grad():
        ratios = paired_ratios(workload.forward, before, rounds, workload.reset)
        plain = graphs()
        found = counts(compiled)
        known = graphs()
        ratios |= paired_ratios(workload.forward, while_listening, rounds, workload.reset)
        over = paired_ratios(compiled.forward, over_compiled, rounds, workload.reset)
    anew = graphs() - known
    if not _alike(found, counts(workload)):
        raise RuntimeError(f"{workload.name}: expected the counts of the plain model, found others")
    return {
        "name": workload.name,
        "ratios": {name: vars(ratio) for name, ratio in ratios.items()},
        "first_forward": first,
        "over_compiled": vars(over["monitored"]),
        "graphs": plain - already,
        "compiled_for_counting": known - plain,
        "compiled_anew": anew,
    }


def _alike(found: Counts, expected: Counts) -> bool:
    """Whether counts are equal, and sums of analog values to what float32 holds."""
    return found.keys() == expected.keys() and all(
        (one is None and other is None) or math.isclose(one or 0, other or 0, rel_tol=1e-6)
        for name in expected
        for one, other in (
            (found[name][figure], expected[name][figure]) for figure in expected[name]
        )
    )


def _compiled(workload: Workload, backend: str) -> Any:
    compiled: Any = torch.compile(workload.model, backend=backend)
    return compiled


def graphs() -> int:
    """Graphs that were compiled in this process."""
    return int(counters["stats"]["unique_graphs"])


def main() -> None:
    """Compile, measure and print; write JSON and a table if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="inductor")
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="*", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print a table as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # of no use on a CPU
    result: dict[str, Any] = {
        "machine": description(),
        "backend": args.backend,
        "rounds": args.rounds,
        "workloads": {},
    }
    for key in args.only:
        torch.manual_seed(0)
        found = compile_and_measure(WORKLOADS[key](), args.backend, args.rounds)
        print(f"\n{found['name']}: first compiled forward {found['first_forward']:.0f} s")
        for state, ratio in found["ratios"].items():
            print(f"  {state:<28}{ratio['median']:>8.3f} ({ratio['minimum']:.3f})", flush=True)
        print(f"  compiled and monitored over compiled: {found['over_compiled']['median']:.3f}")
        again, anew = found["compiled_for_counting"], found["compiled_anew"]
        print(f"  {found['graphs']} graphs, {again} compiled to be counted, {anew} anew afterwards")
        result["workloads"][key] = found
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.markdown:
        print("\n" + compiled_table(result))


if __name__ == "__main__":
    main()
