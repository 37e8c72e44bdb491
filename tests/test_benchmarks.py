"""The benchmarks measure what they say: whole forwards, in pairs, on models that spike."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
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
from benchmarks.on_device import BUILDERS, MODES, PEERS, Mode, Run
from benchmarks.timing import Timed, paired_ratios, timed_pairs
from benchmarks.workloads import WORKLOADS, Workload, sew_resnet18
from torch import nn

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


def test_a_warm_call_and_the_resets_are_outside_of_the_clock() -> None:
    done: list[str] = []

    def clock(call: Callable[[], object]) -> float:
        done.append("clock")
        call()
        return 1.0

    calls = {"warm": Timed(lambda: done.append("call"), warm=True)}
    pairs = timed_pairs(
        lambda: done.append("plain"), calls, 1, lambda: done.append("reset"), clock, warm_up=0
    )
    assert pairs == {"warm": [(1.0, 1.0)]}
    assert done == [*("reset", "clock", "plain"), *("reset", "call", "reset", "clock", "call")]


def test_no_round_begins_after_the_time_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    monkeypatch.setattr("time.monotonic", watch.now)
    calls = {"long": Timed(lambda: watch.wait(9))}
    for at_most, counted in ((19, 1), (30, 2), (1000, 5)):
        watch.seconds = 0
        pairs = timed_pairs(lambda: watch.wait(1), calls, 5, at_most=at_most)
        assert len(pairs["long"]) == counted, "two rounds of 10 seconds go before"


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
    assert 0 < found["compiled_for_counting"] <= found["graphs"]
    assert found["compiled_anew"] == 0
    assert "compiled, after detaching" in found["ratios"]


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("key", ["conv", "small-loop", "transformer"])
def test_no_workload_makes_the_host_wait(
    key: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ``meta`` tensors, which stand for an accelerator, reading a value raises."""
    with torch.device("meta") if key == "transformer" else nullcontext():  # where it settles soon
        workload = on_device.moved(WORKLOADS[key](), "meta")
    monitor = sm.Monitor(workload.model, per_neuron=True)
    workload.model.train(training)
    with torch.set_grad_enabled(training), monitor:
        for number in range(2):
            workload.reset()
            if number:  # the first forward sends the maps
                make_waiting_copies_raise(monkeypatch)
            with monitor.batch(workload.samples, workload.steps):
                workload.forward()
    assert monitor._state.calls == 2 * (workload.steps if workload.steps_outside else 1)
    with pytest.raises(RuntimeError, match="meta"):
        monitor._state.rows.popitem()[1].totals.sum().item()


def small(steps_outside: bool = False) -> Workload:
    """Two layers, which take all time steps at once or one per call."""

    class Steps(nn.Sequential):
        def reset(self) -> None:
            """Nothing is kept between the steps."""

    model = Steps(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = (torch.rand(4, 2, 6) < 0.5).float()
    return Workload("small", "6 inputs", model, x, steps_outside=steps_outside)


@pytest.mark.parametrize("steps_outside", [False, True], ids=["at once", "step by step"])
def test_a_training_step_is_one_of_gradient_descent(steps_outside: bool) -> None:
    workload = small(steps_outside)
    model = copy.deepcopy(workload.model)
    Run(workload, MODES["training, float32"]).plain()
    model(workload.x).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-4 * parameter.grad
    for mine, expected in zip(workload.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODES)
def test_counters_run_in_the_mode_that_is_timed(name: str) -> None:
    workload, mode = small(), MODES[name]
    found: list[tuple[bool, bool, torch.dtype]] = []

    def look(model: nn.Module, args: Any, output: torch.Tensor) -> None:
        found.append((model.training, output.requires_grad, output.dtype))

    workload.model.register_forward_hook(look)
    run = Run(workload, mode)
    for counter in (tables.OURS, *PEERS):
        timed = run.timed(overhead_of_monitor.COUNTERS[counter])
        with timed.ready(workload.reset):
            timed.call()
    run.plain()
    dtype = torch.bfloat16 if mode.bfloat16 else torch.float32
    # Ours twice: once to be warm.
    assert found == [(mode.training, mode.training, dtype)] * 5


def clock(run: Run) -> Callable[[Callable[[], object]], float]:
    """A clock by which a plain batch takes two seconds and a counted one six."""

    def seconds(call: Callable[[], object]) -> float:
        call()
        return 2.0 if call == run.plain else 6.0

    return seconds


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_timed_beside_peers(name: str) -> None:
    run = Run(small(), MODES[name])
    found = on_device.measure(run, 1, clock(run))
    medians = {counter: ratio["median"] for counter, ratio in found["ratios"].items()}
    assert medians == {tables.OURS: 3, tables.PLAIN: 1, **dict.fromkeys(PEERS, 3)}
    assert found["seconds"] == 2
    assert found["errors"] == {}


def test_a_counter_that_fails_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(workload: Workload) -> Timed:
        raise ValueError("not this model")

    monkeypatch.setitem(overhead_of_monitor.COUNTERS, "neurobench", broken)
    run = Run(small(), Mode())

    def check() -> None:
        raise RuntimeError("the host waits")

    found = on_device.measure(run, 1, clock(run), check)
    assert found["errors"] == {
        tables.OURS: "RuntimeError: the host waits",
        "neurobench": "ValueError: not this model",
    }
    assert found["ratios"].keys() == {"spikingjelly SynOps", tables.PLAIN}


def test_peers_have_fewer_rounds() -> None:
    run, counted = Run(small(), Mode()), []

    def seconds(call: Callable[[], object]) -> float:
        counted.append(call != run.plain)
        return 1.0

    found = on_device.measure(run, 10, seconds)
    # Two rounds to warm up and ten of ours; two of each peer. Plain beside each, and beside itself.
    assert (sum(counted), len(counted)) == (12 + 2 * 2, 2 * (12 + 3 * 2))
    assert found["rounds"] == {tables.OURS: 10, tables.PLAIN: 2, **dict.fromkeys(PEERS, 2)}


def test_events_are_counted_in_all_modes_alike() -> None:
    workload = small()
    expected = workload.x.sum().item()
    found = [on_device.input_events(on_device.counted(Run(workload, m))) for m in MODES.values()]
    assert found == [expected] * len(MODES)


def test_images_and_batches_of_the_residual_network_have_the_sizes_asked_for() -> None:
    workload = sew_resnet18(size=16, samples=2)
    assert workload.x.shape == (4, 2, 3, 16, 16)
    assert workload.what.startswith("SEW-ResNet-18 (ADD), 3x16x16 images, B=2, T=4")
    build = BUILDERS["sew"]
    assert isinstance(build, partial)
    assert build.keywords == {"size": 32, "samples": 64}


def test_the_aims_on_a_device_are_those_of_the_project() -> None:
    assert (on_device.limit(small()), on_device.limit(small(steps_outside=True))) == (1.15, 1.5)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU in place of a CUDA device, and two workloads that take no time."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    builders = {"conv": small, "loop": lambda: small(steps_outside=True)}
    for name, value in {
        "DEVICE": "cpu",
        "BUILDERS": builders,
        "MEASURED": tuple(builders),
        "waiting_is_an_error": nullcontext,
        "seconds": lambda call: [call(), 0.004][1],
        "launches": lambda call: [call(), 7][1],
    }.items():
        monkeypatch.setattr(on_device, name, value)


@pytest.mark.usefixtures("stand_in")
def test_what_is_measured_on_a_device_makes_the_tables(tmp_path: Path) -> None:
    file = tmp_path / "on_device.json"
    threads = torch.get_num_threads()
    try:
        on_device.main(["--rounds", "1", "--json", str(file)])
    finally:
        torch.set_num_threads(threads)
    found = json.loads(file.read_text())
    for workload in found["workloads"].values():
        assert workload["modes"].keys() == MODES.keys()
    table = tables.device_table(found)
    for mode in MODES:
        assert f"| {mode} | small | small |\n" in table
    assert table.count("| snnmetrics | 1.00 | 1.00 |\n| aimed at | 1.15 | 1.50 |\n") == 4
    assert table.count("| SpikingJelly SynOps | 1.00 | 1.00 |\n") == 4
    assert table.count("| NeuroBench | 1.00 | 1.00 |\n") == 4
    assert table.count("| plain | 4.00 ms | 4.00 ms |\n") == 4
    assert table.count("| launches, monitored | 7 | 7 |") == 4
    assert "\nActivations were read by the host.\n\nCard, CUDA " in table


@pytest.mark.usefixtures("stand_in")
def test_other_counts_than_on_the_cpu_are_a_failure_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = on_device.built
    monkeypatch.setattr(on_device, "built", lambda key, device: (built(key, device)[0], -1.0))
    file = tmp_path / "on_device.json"
    arguments = ["--rounds", "1", "--only", "conv", "--modes", "training, float32"]
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit, match=r"conv, training, float32: .* expected -1.0 events"):
            on_device.main([*arguments, "--json", str(file)])
    finally:
        torch.set_num_threads(threads)
    table = tables.device_table(json.loads(file.read_text()))
    assert "| snnmetrics | fails |\n" in table
    assert "| NeuroBench | 1.00 |\n" in table


def test_without_a_device_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="expected a CUDA device, found none"):
        on_device.main([])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", list(BUILDERS))
def test_a_cuda_device_is_not_waited_for(key: str, mode: str) -> None:
    workload, events = on_device.built(key, "cuda")
    run = Run(workload, MODES[mode])
    found = on_device.measure_checked(run, events, rounds=1, at_most=60)
    assert tables.OURS not in found["errors"]
    assert found["seconds"] > 0
    launched = on_device.launches_of_both(run)
    assert launched["monitored"] > launched["plain"] > 0


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


def on_a_card(**more: Any) -> dict[str, Any]:
    """Made-up results of two models on a device; the second was not trained."""
    ratios = {tables.OURS: {"median": 1.104}, "neurobench": {"median": 9.5}}
    errors = {"spikingjelly SynOps": "ValueError: no"}
    case = {
        "rounds": {tables.OURS: 12},
        "seconds": 0.0021,
        "ratios": ratios,
        "errors": errors,
        "plain_waits": False,
    }
    launched = case | {"launches": {"plain": 25, "monitored": 1040}}
    return {
        "machine": publish.results("on_device")["machine"],
        "device": "Card",
        "cuda": "13.0",
        "read_by": "Triton kernels",
        "workloads": {
            "conv": {
                "name": "conv SNN",
                "what": "2x32x32",
                "limit": 1.15,
                "modes": {"inference, float32": launched, "training, bfloat16": launched},
            },
            "loop": {
                "name": "step loop",
                "what": "512 units",
                "limit": 1.5,
                "modes": {"inference, float32": case},
            },
        },
        **more,
    }


def test_the_tables_of_a_device_have_a_mode_each_with_peers_and_reasons() -> None:
    table = tables.device_table(on_a_card())
    inference, training, sizes, read_by, machine_line = table.split("\n\n")
    assert inference.splitlines() == [
        "| inference, float32 | conv SNN | step loop |",
        "| --- | ---: | ---: |",
        "| snnmetrics | 1.10 | 1.10 |",
        "| aimed at | 1.15 | 1.50 |",
        "| SpikingJelly SynOps | fails | fails |",
        "| NeuroBench | 9.50 | 9.50 |",
        "| rounds | 12 | 12 |",
        "| plain | 2.10 ms | 2.10 ms |",
        "| launches, plain | 25 | - |",
        "| launches, monitored | 1,040 | - |",
    ]
    assert training.startswith("| training, bfloat16 | conv SNN | step loop |\n")
    assert "| snnmetrics | 1.10 | - |\n" in training
    assert sizes.splitlines() == [
        "- conv SNN: 2x32x32",
        "- step loop: 512 units",
        "- SpikingJelly SynOps fails on conv SNN, inference, float32: `ValueError: no`",
        "- SpikingJelly SynOps fails on conv SNN, training, bfloat16: `ValueError: no`",
        "- SpikingJelly SynOps fails on step loop, inference, float32: `ValueError: no`",
    ]
    assert read_by == "Activations were read by Triton kernels."
    assert machine_line.startswith("Card, CUDA 13.0, beside ")
    assert "by Triton kernels. Old.\n" in tables.device_table(on_a_card(note="Old."))


def test_new_results_of_a_device_take_the_place_of_those_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was said of the old ones."""
    (page,) = (p for p in publish.PAGES if "on a CUDA device -->" in p.read_text())
    results = publish.results
    new = on_a_card()
    monkeypatch.setattr(publish, "results", lambda n: new if n == "on_device" else results(n))
    text = publish.filled(page.read_text())
    assert f"<!-- table: on a CUDA device -->\n\n{tables.device_table(new)}\n\n<!-- end" in text
    assert tables.device_table(results("on_device")) in page.read_text()
    assert "before activations were read" not in text
    assert "H100" not in text


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
