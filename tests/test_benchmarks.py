"""The benchmarks measure what they say: whole forwards, in pairs, on models that spike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import (
    compiled,
    machine,
    metric_update,
    on_device,
    overhead_of_monitor,
    parts,
    peak_memory,
    publish,
    tables,
)
from benchmarks.figure import LEAST, overhead_figure, percent
from benchmarks.timing import Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload

import snnmetrics as sm
from tests.helpers.waiting import make_waiting_copies_raise


class Watch:
    """A clock that runs only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


def test_a_ratio_is_that_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    monkeypatch.setattr("time.perf_counter", watch.now)
    calls = {"twice": Timed(lambda: watch.wait(4)), "same": Timed(lambda: watch.wait(2))}
    found = paired_ratios(lambda: watch.wait(2), calls, rounds=3)
    assert found["twice"].median == 2
    assert found["same"].median == 1
    assert found["twice"].seconds == 4


def test_a_monitored_forward_gives_what_the_plain_one_gives() -> None:
    workload: Workload = WORKLOADS["small-loop"]()
    monitor = sm.Monitor(workload.model)
    with torch.no_grad():
        plain = workload.forward()
        with monitor, monitor.batch(workload.samples, workload.steps):
            watched = workload.forward()
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    rates = [row.firing_rate for row in monitor.compute().neurons.values()]
    assert all(0.02 < rate < 0.3 for rate in rates), "spikes as sparse as those of trained networks"


@pytest.mark.slow
def test_all_counters_are_timed_or_fail_with_a_reason() -> None:
    ratios, errors = overhead_of_monitor.compare(WORKLOADS["small-loop"](), rounds=1)
    assert ratios.keys() | errors.keys() == {
        "plain again",
        "empty function mode",
        *overhead_of_monitor.COUNTERS,
    }
    assert "snnmetrics" in ratios


# ------------------------------------------------------------------------ layer metrics


def test_the_parts_of_what_listening_adds_make_up_the_whole() -> None:
    found = parts.measure(WORKLOADS["small-loop"](), rounds=1)
    shares = [*parts.PARTS, parts.REST]
    assert sum(found[part] for part in shares) == pytest.approx(found["added"])
    assert all(found[part] > 0 for part in parts.PARTS)


def test_time_within_a_part_is_not_counted_twice() -> None:
    watch = Watch()
    clock = parts.Clock(watch.now)
    inner = clock.timed("inner", lambda: watch.wait(2))

    def outer() -> None:
        watch.wait(1)
        inner()
        watch.wait(4)

    clock.timed("outer", outer)()
    assert clock.seconds == {"inner": 2, "outer": 5}


@pytest.mark.parametrize("dtype", metric_update.DTYPES, ids=str)
def test_every_sum_counts_as_an_update_does(dtype: torch.dtype) -> None:
    spikes = (torch.rand(3000, 8) < 0.9).to(dtype)
    metric = sm.SynOps(fanout=1.0)
    metric.update(spikes)
    counted = metric.compute()["synops_per_neuron"] * 3000
    for name, way in metric_update.sums(spikes).items():
        assert torch.equal(counted.round(), way().double()), name


def test_update_and_forward_are_timed_beside_the_quickest_sum() -> None:
    row = metric_update.measure(2**12, torch.bool, seconds=0.01)
    assert row["quickest_sum"] in metric_update.sums(torch.ones(1, dtype=torch.bool))
    assert row["microseconds"].keys() == set(tables.CALLS)
    assert min(row["microseconds"].values()) > 0


# -------------------------------------------------------------------------- peak memory

needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc"
)


TWO_BLOCKS = """
import {module}
from benchmarks.peak_memory import peak
from benchmarks.timing import Timed

make = {module}.ones
make(40_000_000)  # more than the call below
found = peak(Timed(lambda: [make(10_000_000) for _ in range(2)]), lambda: None)
print(found, 2 * make(1).itemsize * 10_000_000)
"""


@pytest.mark.system
@needs_linux
@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_the_peak_has_all_allocations_and_only_those_of_the_call(module: str) -> None:
    """In a process of its own, as what is measured: here others free memory meanwhile."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TWO_BLOCKS.format(module=module)],
        env=os.environ | peak_memory.SETTINGS,
        cwd=Path(peak_memory.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found, expected = map(int, done.stdout.split())
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.system
@needs_linux
@pytest.mark.parametrize("key", ["conv-binary", "linear-analog", "linear-analog-bfloat16"])
def test_listening_to_a_large_layer_needs_no_more_memory_than_allowed(key: str) -> None:
    found = peak_memory.measure(key, tables.OURS, rounds=1)
    assert found["largest"] == 2**26
    assert found["plain"] < 0.05 * found["largest"], "it hides nothing"
    assert found["above"] <= found["allowed"]


def test_the_largest_activation_is_that_of_any_module_and_batches_are_enlarged() -> None:
    workload = WORKLOADS["conv"]()
    largest = 8 * 16 * 32 * 32 * 32 * 4  # behind the first convolution
    assert peak_memory.largest_activation(workload) == largest
    assert peak_memory.enlarged(workload).x.shape == (8, 32, 2, 32, 32)
    assert peak_memory.enlarged(WORKLOADS["small-loop"]()).samples == 8, "far too small"


# ---------------------------------------------------------------- compilation, accelerators


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_is_compiled_anew_after_a_monitor_was_detached() -> None:
    found = compiled.compile_and_measure(WORKLOADS["small-loop"](), "eager", rounds=1)
    assert found["graphs"] > 0
    assert found["compiled_anew"] == 0
    assert "compiled, after detaching" in found["ratios"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["conv", "small-loop", "transformer"])
def test_no_workload_makes_the_host_wait(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On ``meta`` tensors, which stand for an accelerator, reading a value raises."""
    with torch.device("meta") if key == "transformer" else nullcontext():  # where it settles soon
        workload = on_device.moved(WORKLOADS[key](), "meta")
    monitor = sm.Monitor(workload.model, per_neuron=True)
    with torch.no_grad(), monitor:
        for number in range(2):
            workload.reset()
            if number:  # the first forward sends the maps
                make_waiting_copies_raise(monkeypatch)
            with monitor.batch(workload.samples, workload.steps):
                workload.forward()
    assert monitor._state.calls == 2 * (workload.steps if workload.steps_outside else 1)
    with pytest.raises(RuntimeError, match="meta"):
        monitor._state.rows.popitem()[1].totals.sum().item()


def test_without_a_device_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["on_device"])
    with pytest.raises(SystemExit, match="expected a CUDA device, found none"):
        on_device.main()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("key", list(WORKLOADS))
def test_a_cuda_device_is_not_waited_for(key: str) -> None:
    with torch.no_grad():
        workload = WORKLOADS[key]()
        on_cpu = on_device.counted(workload)
        workload = on_device.moved(workload, "cuda")
        strict = not on_device.waits_by_itself(workload)
        counted = on_device.counted(workload, strict)
        assert on_device.input_events(counted) == on_device.input_events(on_cpu)
        assert on_device.measure(workload, rounds=1)["milliseconds"] > 0


# ------------------------------------------------------------------- tables and the picture


@pytest.mark.parametrize("page", publish.PAGES, ids=lambda page: page.name)
def test_pages_show_what_was_measured(page: Path) -> None:
    text = page.read_text()
    assert publish.filled(text) == text, "run `python -m benchmarks.publish`"


def test_every_table_is_shown() -> None:
    text = "".join(page.read_text() for page in publish.PAGES)
    assert set(re.findall("<!-- table: (.+?) -->", text)) == set(publish.TABLES)


@pytest.mark.parametrize("name", sorted({name for _, name in publish.TABLES.values()}))
def test_results_say_what_they_were_measured_on(name: str) -> None:
    found = publish.results(name)
    assert found["machine"].keys() == machine.description().keys()
    assert found["machine"]["threads"] == (2 if name == "overhead_2_threads" else 1)


def made(median: float, peer: float) -> dict[str, Any]:
    """Results of one workload, on which one counter fails."""
    ratios = {tables.PLAIN: 1.0, tables.OURS: median, "neurobench": peer}
    return {
        "machine": publish.results("overhead_1_thread")["machine"],
        "rounds": 3,
        "workloads": {
            "conv": {
                "name": "conv SNN",
                "limit": 1.04,
                "ratios": {
                    name: {"median": ratio, "minimum": ratio - 0.01, "seconds": 0.1}
                    for name, ratio in ratios.items()
                },
                "errors": {"sinabs hooks": "ValueError"},
            }
        },
    }


def test_a_table_has_medians_minima_and_failures() -> None:
    table = tables.overhead_table(made(1.0312, 3.5))
    assert "| snnmetrics | 1.031 (1.021) |\n" in table
    assert "| aimed at | 1.04 |\n" in table
    assert "| sinabs hooks | fails |\n" in table
    assert "| plain forward | 100.0 ms |\n" in table
    assert "| snnmetrics | 1.03 |\n" in tables.short_overhead_table(made(1.0312, 3.5))


def test_the_picture_has_a_marker_per_counter_that_works() -> None:
    (ax,) = overhead_figure(made(1.0312, 3.5)).axes
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert drawn.pop("snnmetrics") == [pytest.approx(0.0312)]
    assert drawn.pop("NeuroBench") == [2.5]
    assert not any(drawn.values())
    assert [text.get_text() for text in ax.texts] == ["3.1%"]
    (ax,) = overhead_figure(made(0.998, 3.5)).axes
    assert (ax.lines[0].get_xdata()[0], ax.texts[0].get_text()) == (LEAST, "-0.2%")


def test_the_committed_picture_is_of_the_committed_results() -> None:
    drawn = publish.FIGURE.read_text()
    for workload in publish.results("overhead_1_thread")["workloads"].values():
        assert f">{workload['name']}<" in drawn
        assert f">{percent(workload['ratios'][tables.OURS]['median'] - 1)}<" in drawn
