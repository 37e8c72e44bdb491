"""Tables for the README and the documentation, from what the benchmarks wrote as JSON.

Nothing here measures. ``benchmarks.publish`` puts the tables where they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

Found = Mapping[str, Any]
"""Results of a benchmark, as its JSON has them."""

OURS, PLAIN = "snnmetrics", "plain again"
IN_RUN = "snnmetrics in Monitor.run"
EMPTY_MODE = "empty function mode"
# What a row or column of the tables is called.
TITLES = {
    OURS: "snnmetrics",
    IN_RUN: "snnmetrics, in `Monitor.run`",
    "spikingjelly SynOps": "SpikingJelly SynOps",
    "spikingjelly energy": "SpikingJelly energy",
    "neurobench": "NeuroBench",
    "sinabs hooks": "sinabs hooks",
    "torch FLOPs": "torch FLOPs",
    EMPTY_MODE: "empty function mode",
    PLAIN: "plain again",
}
# Those that count synaptic operations from the activations.
SHORT = (OURS, "sinabs hooks", "spikingjelly SynOps", "neurobench")
MB = 1e6


def machine_line(found: Found) -> str:
    """Describe the machine of a measurement in a sentence."""
    machine = found["machine"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    memory = "" if machine["memory_gib"] is None else f", {machine['memory_gib']:.0f} GiB"
    return (
        f"{machine['processor']} ({machine['cores']} cores{memory}), {threads}; "
        f"Python {machine['python']}, torch {machine['torch']}, NumPy {machine['numpy']}; "
        f"{machine['date']}."
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# ------------------------------------------------------------------ listening to a model


def overhead_table(found: Found) -> str:
    """Monitored over plain for every workload and counter: median, and shortest over shortest."""
    workloads = found["workloads"].values()
    head = ["monitored / plain", *(workload["name"] for workload in workloads)]
    rows = [[title, *(_ratio(w, name) for w in workloads)] for name, title in TITLES.items()]
    aims = ["aimed at", *(f"{workload['limit']:.2f}" for workload in workloads)]
    plain = [_milliseconds(workload["ratios"][PLAIN]["seconds"]) for workload in workloads]
    rows[2:2] = [aims]
    return "\n\n".join(
        (
            markdown(head, [*rows, ["plain forward", *plain]]),
            f"{machine_line(found)} {found['rounds']} rounds.",
        )
    )


def short_overhead_table(found: Found) -> str:
    """Medians of ours and of the other counters of synaptic operations."""
    workloads = found["workloads"].values()
    head = ["monitored / plain", *(workload["name"] for workload in workloads)]
    rows = [[TITLES[name], *(_median(w, name) for w in workloads)] for name in SHORT]
    return f"{markdown(head, rows)}\n\n{machine_line(found)}"


def _ratio(workload: Found, name: str) -> str:
    ratio = workload["ratios"].get(name)
    if ratio is None:
        return "-" if name in (IN_RUN, EMPTY_MODE) else "fails"
    return f"{ratio['median']:.3f} ({ratio['minimum']:.3f})"


def _median(workload: Found, name: str) -> str:
    ratio = workload["ratios"].get(name)
    return "fails" if ratio is None else f"{ratio['median']:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def parts_table(found: Found) -> str:
    """The time that a Monitor adds, by what it is spent on, in percent of plain."""
    workloads = found["workloads"].values()
    parts = [name for name in next(iter(workloads))["seconds"] if name != "plain"]
    head = ["of the plain forward", *(workload["name"] for workload in workloads)]
    rows = [
        [part, *(f"{w['seconds'][part] / w['seconds']['plain']:.1%}" for w in workloads)]
        for part in parts
    ]
    return f"{markdown(head, rows)}\n\n{machine_line(found)} {found['rounds']} rounds."


# ---------------------------------------------------------------------------- peak memory


def peak_table(found: Found) -> str:
    """Peak memory above the plain forward, where other counters were measured as well."""
    cases = {key: case for key, case in found["cases"].items() if case.keys() - {OURS, PLAIN}}
    head = ["MB above plain", *cases]
    names = [name for name in TITLES if any(name in case for case in cases.values())]
    rows = [[TITLES[name], *(_above(case.get(name)) for case in cases.values())] for name in names]
    largest = [f"{case[OURS]['largest'] / MB:.1f}" for case in cases.values()]
    plain = [f"{case[OURS]['plain'] / MB:.1f}" for case in cases.values()]
    rows += [["largest activation, MB", *largest], ["plain forward, MB", *plain]]
    return f"{markdown(head, rows)}\n\n{machine_line(found)}"


def layer_peak_table(found: Found) -> str:
    """Peak memory above the plain forward of one large layer, and what is allowed."""
    rows = []
    for case in found["cases"].values():
        ours, plain = case[OURS], case[PLAIN]
        if ours["allowed"] is None:
            continue
        share = f"{ours['above'] / ours['largest']:.1%}"
        kept = "" if ours["above"] <= ours["allowed"] else " (missed)"
        bound = f"{ours['allowed'] / MB:.2f}{kept}"
        rows.append([ours["what"], _above(ours), share, bound, _above(plain)])
    head = ["input of the layer", "MB above plain", "of the input", "allowed, MB", "plain again"]
    return markdown(head, rows)


def _above(found: Found | None) -> str:
    if found is None:
        return ""
    return "fails" if "error" in found else f"{round(found['above'] / MB, 2) + 0.0:.2f}"


# -------------------------------------------------------------------------------- metrics


CALLS = ("update", "forward", "sum", "SumMetric.update", "SumMetric.forward")


def update_table(found: Found) -> str:
    """Microseconds of ``SynOps.update`` by dtype and size, and how many times those of the sum."""
    sizes = sorted({row["bytes"] for row in found["rows"]})
    rows = {row["dtype"]: [row["dtype"]] for row in found["rows"]}
    for row in sorted(found["rows"], key=lambda row: row["bytes"]):
        us = row["microseconds"]
        rows[row["dtype"]].append(f"{us['update']:,.0f} ({us['update'] / us['sum']:.2f})")
    head = ["update, us (over sum)", *map(_bytes, sizes)]
    return f"{markdown(head, rows.values())}\n\n{machine_line(found)}"


def call_table(found: Found) -> str:
    """Microseconds of all calls on the smallest and on 32 MB of spikes."""
    rows = [
        [_bytes(row["bytes"]), row["dtype"], *(f"{row['microseconds'][c]:,.1f}" for c in CALLS)]
        for row in found["rows"]
        if row["bytes"] in (2**10, 2**25)
    ]
    return markdown(["spikes", "dtype", *(f"{call}, us" for call in CALLS)], rows)


def _bytes(size: int) -> str:
    for unit, bytes_ in (("MB", 2**20), ("KB", 2**10)):
        if size >= bytes_:
            return f"{size // bytes_} {unit}"
    return f"{size} B"


# ----------------------------------------------------------------------------- compilation


def compiled_table(found: Found) -> str:
    """A forward in each state of compilation and attachment, over the one that is not compiled."""
    workloads = found["workloads"].values()
    head = ["over not compiled", *(workload["name"] for workload in workloads)]
    states: dict[str, None] = dict.fromkeys(s for w in workloads for s in w["ratios"])
    rows = [[state, *(_median(workload, state) for workload in workloads)] for state in states]
    over = (f"{w['over_compiled']['median']:.2f}" for w in workloads)
    rows.append(["compiled and monitored, over compiled", *over])
    rows.append(["first compiled forward", *(f"{w['first_forward']:.0f} s" for w in workloads)])
    rows.append(["graphs", *(str(workload["graphs"]) for workload in workloads)])
    again = (str(w["compiled_for_counting"]) for w in workloads)
    rows.append(["compiled to be counted", *again])
    rows.append(["compiled anew after that", *(str(w["compiled_anew"]) for w in workloads)])
    return f"{markdown(head, rows)}\n\n{machine_line(found)} Backend {found['backend']}."


def options_table(found: Found) -> str:
    """A monitored forward with each option, over the plain one."""
    workloads = found["workloads"].values()
    head = ["over plain", *(workload["name"] for workload in workloads)]
    options: dict[str, None] = dict.fromkeys(name for w in workloads for name in w["ratios"])
    rows = [[name, *(_median(workload, name) for workload in workloads)] for name in options]
    return f"{markdown(head, rows)}\n\n{machine_line(found)}"


# -------------------------------------------------------------------------- accelerators


def device_table(found: Found) -> str:
    """A table per mode, of monitored over plain on an accelerator; sizes; why counters fail."""
    workloads = found["workloads"].values()
    modes: dict[str, None] = dict.fromkeys(mode for w in workloads for mode in w["modes"])
    sizes = [f"{workload['name']}: {workload['what']}" for workload in workloads]
    failures = [
        f"{TITLES[name]} fails on {workload['name']}, {mode}: `{error}`"
        for workload in workloads
        for mode, case in workload["modes"].items()
        for name, error in case["errors"].items()
    ]
    note = f" {found['note']}" if "note" in found else ""
    return "\n\n".join(
        (
            *(_mode_table(mode, workloads) for mode in modes),
            "\n".join(f"- {line}" for line in (*sizes, *failures)),
            f"Activations were read by {found['read_by']}.{note}",
            f"{found['device']}, CUDA {found['cuda']}, beside {machine_line(found)}",
        )
    )


def _mode_table(mode: str, workloads: Collection[Found]) -> str:
    cases = [workload["modes"].get(mode) for workload in workloads]
    tried = {n for case in cases if case is not None for n in (*case["ratios"], *case["errors"])}
    cells: dict[str, Callable[[Found], str]] = {
        title: partial(_median, name=name) for name, title in TITLES.items() if name in tried
    }
    cells["rounds"] = lambda case: str(case["rounds"].get(OURS, "-"))
    cells["plain"] = lambda case: f"{case['seconds'] * 1e3:.2f} ms"
    for which in ("plain", "monitored"):
        cells[f"launches, {which}"] = partial(_launches, which)
    rows = [
        [title, *("-" if case is None else cell(case) for case in cases)]
        for title, cell in cells.items()
    ]
    rows[1:1] = [["aimed at", *(f"{workload['limit']:.2f}" for workload in workloads)]]
    return markdown([mode, *(workload["name"] for workload in workloads)], rows)


def _launches(which: str, case: Found) -> str:
    return f"{case['launches'][which]:,}" if "launches" in case else "-"
