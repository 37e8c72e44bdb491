"""Time steps that were declared are those that were run."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snnmetrics as sm


def run(monitor: sm.Monitor, inputs: list[Tensor], samples: int = 2, steps: int = 5) -> sm.Report:
    """A batch of a call for each input; what the monitor counted."""
    with monitor, monitor.batch(samples=samples, steps=steps):
        for x in inputs:
            monitor.model(x)
    return monitor.compute()


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, 4)


@pytest.mark.parametrize("calls", [4, 6, 11])
def test_calls_that_are_no_multiple_of_the_steps_are_refused(calls: int) -> None:
    monitor = sm.Monitor(nn.Linear(4, 3))
    message = f"steps: expected {calls} calls of 1 step each to be a multiple .*found steps=5"
    with pytest.raises(ValueError, match=message):
        run(monitor, [ones(2)] * calls)
    assert (monitor.compute().samples, dict(monitor.compute().layers)) == (0, {})
    assert run(monitor, [ones(2)] * 5).layers["Linear"].synops == 5 * 4 * 3


def test_several_calls_are_not_of_no_step() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3))
    with pytest.raises(ValueError, match="found steps=0"):
        run(monitor, [ones(2)] * 2, steps=0)


def test_parts_of_a_batch_and_models_that_loop_inside_are_accepted() -> None:
    two_halves = run(sm.Monitor(nn.Linear(4, 3)), [ones(1)] * 10)
    assert (two_halves.steps, two_halves.layers["Linear"].synops) == (5, 60)
    inside = run(sm.Monitor(nn.Linear(4, 3)), [ones(5, 2)])
    assert (inside.steps, inside.layers["Linear"].synops) == (5, 60)


def test_steps_of_the_input_add_up_to_those_declared() -> None:
    product = "batch_dim=1 times time_dim=0 of"
    for dims, of, each, declared in (
        ({"time_dim": 0}, "time_dim=0 of", 1, "steps=5"),
        ({"batch_dim": 1, "time_dim": 0}, product, 2, "samples=2 times steps=5"),
    ):
        monitor = sm.Monitor(nn.Linear(4, 3), **dims)
        for parts, found in (((3, 3), "6 in 2 calls"), ((4,), "4 in 1 call")):
            seen = f"{each * int(found[0])}{found[1:]}"
            with pytest.raises(ValueError, match=f"steps: .* {of} .* {seen}, found {declared}$"):
                run(monitor, [ones(part, 2) for part in parts])
        assert monitor.compute().calls == 0
        report = run(monitor, [ones(3, 2), ones(2, 2)])
        assert (report.steps, report.layers["Linear"].synops) == (5, 60)


@pytest.mark.parametrize(("batch_dim", "time_dim"), [(0, 0), (1, -2), (-3, 0)])
def test_batch_and_time_are_two_dimensions(batch_dim: int, time_dim: int) -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=batch_dim, time_dim=time_dim)
    message = f"^time_dim: expected a dimension other than batch_dim={batch_dim}, found {time_dim} "
    with pytest.raises(ValueError, match=message):
        monitor.run([ones(5, 2)])
    with pytest.raises(ValueError, match=message):
        run(monitor, [ones(5, 2)])
    assert monitor.compute().calls == 0


@pytest.mark.parametrize(
    ("sizes", "samples", "fits"),
    [
        ([4] * 5, 4, True),
        ([2] * 10, 4, True),  # two parts of the samples, step by step
        ([20], 4, True),  # steps and samples in one dimension
        ([4] * 10, 4, True),  # two calls per step
        ([4] * 5, 3, False),
        ([4] * 5, 8, False),
        ([4] * 5, 100, False),
        ([4, 4, 4, 4, 1], 4, False),
    ],
)
def test_samples_of_a_step_loop_are_those_of_the_input(
    sizes: list[int], samples: int, fits: bool
) -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=0)
    message = rf"^samples: .* {sum(sizes)} in 5 calls, found {samples}$"
    found = contextlib.nullcontext() if fits else pytest.raises(ValueError, match=message)
    with found, monitor, monitor.batch(samples=samples, steps=5):
        for size in sizes:
            monitor.model(torch.ones(size, 4))
    report = monitor.compute()
    assert report.samples == (samples if fits else 0)
    if fits:
        assert report.layers["Linear"].synops == 12 * sum(sizes) / samples
    else:
        assert report.calls == 0


def test_steps_add_up_over_parts_of_the_samples() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=1, time_dim=0)
    report = run(monitor, [ones(5, 1), ones(3, 1), ones(2, 1)])
    assert (report.samples, report.steps, report.layers["Linear"].synops) == (2, 5, 60)


def test_a_call_that_failed_adds_no_steps() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), time_dim=0)
    with monitor, monitor.batch(samples=2, steps=5):
        with pytest.raises(RuntimeError):
            monitor.model(torch.ones(5, 2, 7))
        monitor.model(ones(5, 2))
    assert monitor.compute().steps == 5


def test_a_batch_that_was_reset_is_not_checked() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3))
    with monitor, monitor.batch(samples=2, steps=5):
        for _ in range(6):
            monitor.model(ones(2))
        monitor.reset()
    assert monitor.compute().calls == 0


# ---------------------------------------------------------------------- Monitor(steps=)


class Direct(nn.Module):
    """Takes an image, and repeats it over time."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.fc, self.lif = nn.Linear(4, 3), snn.Leaky(beta=0.9)
        nn.init.constant_(self.fc.weight, 0.3)
        nn.init.constant_(self.fc.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        memory, spikes = self.lif.reset_mem(), []
        for _ in range(self.steps):
            spike, memory = self.lif(self.fc(x), memory)
            spikes.append(spike)
        return torch.stack(spikes)


def test_steps_inside_give_figures_per_step_and_per_second() -> None:
    model = Direct(6)
    with torch.no_grad():
        spikes = model(ones(2)).mean().item()  # per neuron and step
    assert spikes > 0
    report = sm.Monitor(model, batch_dim=0, steps=6, dt=0.001).run([ones(2), ones(1)])
    assert (report.samples, report.steps, report.seconds) == (3, 6, pytest.approx(0.018))
    assert report.neurons["lif"].firing_rate == pytest.approx(spikes / 0.001)  # Hz
    assert report.layers["fc"].synops_per_second == pytest.approx(6 * 4 * 3 / 0.006)
    assert not any("steps=" in note for note in report.notes)


def test_a_batch_lasts_the_steps_of_the_monitor_unless_said() -> None:
    monitor = sm.Monitor(Direct(3), steps=3)
    with monitor, monitor.batch(samples=2):
        monitor.model(ones(2))
    assert monitor.compute().steps == 3
    # Two calls of three steps are six steps of the same samples, or three of twice as many.
    assert run(sm.Monitor(Direct(3), steps=3), [ones(2)] * 2, steps=6).steps == 6
    assert run(sm.Monitor(Direct(3), steps=3), [ones(1)] * 2, steps=3).steps == 3
    for steps, calls in ((4, 1), (2, 1), (6, 1), (6, 3), (5, 5)):
        with pytest.raises(ValueError, match=f"of 3 steps each .* found steps={steps}"):
            run(sm.Monitor(Direct(3), steps=3), [ones(2)] * calls, steps=steps)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps: expected an integer >= 1, found 0"),
        ({"steps": 2.0}, TypeError, "steps: expected an integer, found 2.0"),
        ({"steps": True}, TypeError, "steps: expected an integer, found True"),
        ({"steps": 5, "time_dim": 0}, ValueError, "steps: expected None with time_dim=0"),
    ],
)
def test_steps_that_cannot_be_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sm.Monitor(nn.Linear(4, 3), **arguments)


def test_steps_inside_have_a_busiest_one() -> None:
    class Rising(nn.Module):
        """One input more is a spike in each step."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> None:
            for step in range(1, 4):
                self.fc((torch.arange(4) < step).float().expand(len(x), 4))

    monitor = sm.Monitor(Rising(), batch_dim=0, steps=3, per_sample=True)
    row = monitor.run([ones(2), ones(1)]).layers["fc"]
    assert (row.synops, row.peak_step) == ((1 + 2 + 3) * 3, 3 * 3)
