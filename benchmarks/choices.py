"""Ratios of choices of a user, such as options of a Monitor, over the plain run of each workload.

The scripts that use it say what a plain run is and what is compared with it; see
:mod:`benchmarks.options` and :mod:`benchmarks.probes`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import description
from benchmarks.tables import options_table
from benchmarks.timing import Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload


def run_script(
    doc: str | None,
    reference_of: Callable[[Workload], Callable[[], object]],
    timed_of: Callable[[Workload], Mapping[str, Timed]],
    default: Sequence[str],
    choices: Sequence[str],
    training: bool = False,
) -> None:
    """Measure and print; write JSON and a table if asked to.

    Args:
        doc: Docstring of the script; its first line describes it.
        reference_of: Plain run of a workload, which the ratios are of.
        timed_of: What is compared with it, by name.
        default: Workloads that are measured unless the command line names others.
        choices: Workloads that the command line can name.
        training: Whether gradients are recorded while the clock runs.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=choices, nargs="*", default=default)
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
        timed, reference = timed_of(workload), reference_of(workload)
        with torch.set_grad_enabled(training):
            ratios = paired_ratios(reference, timed, args.rounds, workload.reset)
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
