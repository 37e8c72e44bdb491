"""Measured energies against closed forms, SciPy's standard error and random repetitions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import sem

from snnmetrics.energy import Measurement, load_measurements
from tests.energy.made import close

# All numbers in this file are made up by the tests.
SECONDS, ACTIVE, IDLE = [2.0, 2.2, 1.9, 2.1], [1.5, 1.4, 1.6, 1.55], [1.0, 1.1, 0.9]


def made(**changes: Any) -> Measurement:
    values = {"seconds": SECONDS, "active_power": ACTIVE, "idle_power": IDLE, "samples": 50}
    return Measurement(**(values | changes))


def test_numbers_alone_are_power_times_time_over_samples() -> None:
    one = Measurement(seconds=10.0, active_power=0.5, idle_power=0.3, samples=200)
    assert one.energy == close(0.5 * 10 / 200)
    assert one.dynamic_power == close(0.2)
    assert one.dynamic_energy == close(0.2 * 10 / 200)
    assert (one.seconds_per_sample, one.samples_per_second) == (close(0.05), close(20))
    assert one.repeats == 1
    assert one.energy_error is one.dynamic_energy_error is one.seconds_per_sample_error is None


def test_repeats_are_runs_whose_energies_are_averaged() -> None:
    found = made()
    energies = np.array(SECONDS) * np.array(ACTIVE) / 50
    dynamic = np.array(SECONDS) * (np.array(ACTIVE) - np.mean(IDLE)) / 50
    assert found.energy == close(energies.mean())
    assert found.energy_error == close(sem(energies))
    assert found.dynamic_energy == close(dynamic.mean())
    of_idle = np.mean(SECONDS) / 50 * sem(IDLE)
    assert found.dynamic_energy_error == close(math.sqrt(sem(dynamic) ** 2 + of_idle**2))
    assert found.dynamic_power == close(np.mean(ACTIVE) - np.mean(IDLE))
    assert found.seconds_per_sample_error == close(sem(SECONDS) / 50)
    assert found.samples_per_second == close(50 / np.mean(SECONDS))


@pytest.mark.parametrize("idle", [1.0, [1.0]])
def test_one_number_counts_as_exact(idle: Any) -> None:
    """NeuroBench's product of power and averaged execution time, with the error of the other."""
    power = made(seconds=2.0, idle_power=idle)
    assert power.energy == close(np.mean(ACTIVE) * 2 / 50)
    assert power.energy_error == power.dynamic_energy_error == close(sem(ACTIVE) * 2 / 50)
    time = made(active_power=[1.5], idle_power=idle)
    assert time.energy == close(1.5 * np.mean(SECONDS) / 50)
    assert time.energy_error == close(1.5 * sem(SECONDS) / 50)
    assert time.dynamic_energy_error == close(0.5 * sem(SECONDS) / 50)


def test_a_single_run_has_no_error_however_often_idle_power_was_measured() -> None:
    found = made(seconds=2.0, active_power=1.5)
    assert found.dynamic_energy == close((1.5 - np.mean(IDLE)) * 2 / 50)
    assert found.dynamic_energy_error is None


def test_without_idle_power_nothing_is_said_of_the_dynamic_part() -> None:
    found = made(idle_power=None)
    assert found.dynamic_power is found.dynamic_energy is found.dynamic_energy_error is None
    assert "dynamic energy: unknown, since idle power was not measured" in str(found)


def test_the_error_is_the_spread_of_repeated_experiments() -> None:
    """Times, active and idle power drawn 4000 times: the means scatter as each of them says."""
    rng = np.random.default_rng(0)
    found = [
        Measurement(
            seconds=time,
            active_power=1.5 + 0.1 * rng.standard_normal(12) - 0.4 * (time - 2),  # correlated
            idle_power=1.0 + 0.2 * rng.standard_normal(5),
            samples=10,
        )
        for time in 2.0 + 0.1 * rng.standard_normal((4000, 12))
    ]
    for name in ("energy", "dynamic_energy"):
        spread = np.std([getattr(one, name) for one in found], ddof=1)
        said = np.sqrt(np.mean([getattr(one, f"{name}_error") ** 2 for one in found]))
        assert said == pytest.approx(spread, rel=0.05)  # 4000 draws know it to 1.1 %


def test_a_negative_dynamic_energy_is_shown_with_its_error() -> None:
    found = made(idle_power=1.6)
    assert found.dynamic_energy is not None
    assert found.dynamic_energy < 0
    assert "dynamic energy: -3.7 ± 1.9 mJ per sample" in str(found)


def test_what_is_printed() -> None:
    assert str(made(setup="a board, a meter at its plug")).splitlines() == [
        "energy: 61.9 ± 1.1 mJ per sample (standard error of the mean, n = 4)",
        "dynamic energy: 20.9 ± 2.7 mJ per sample",
        "active power 1.512 ± 0.043 W, idle power 1.000 ± 0.058 W (n = 3); 4 runs of "
        "2.050 ± 0.065 s for 50 samples; a board, a meter at its plug",
    ]
    one = str(made(seconds=2.0, active_power=1.5, idle_power=None, samples=1)).splitlines()
    assert one[0] == "energy: 3 J per sample (a single run, so without a standard error)"
    assert one[2] == "active power 1.5 W, idle power not measured; 1 run of 2 s for 1 sample"


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=9), st.integers(1, 10**6))
def test_units_of_power_scale_energies_and_errors(powers: list[float], samples: int) -> None:
    one = Measurement(seconds=3.0, active_power=powers, samples=samples)
    thousand = Measurement(
        seconds=3.0, active_power=[1000 * power for power in powers], samples=samples
    )
    assert thousand.energy == pytest.approx(1000 * one.energy, rel=1e-12)
    assert one.energy_error is not None
    assert thousand.energy_error == pytest.approx(
        1000 * one.energy_error, rel=1e-6, abs=1e-9 * thousand.energy
    )


@pytest.mark.parametrize("as_", [tuple, np.array, torch.tensor])
def test_repeats_come_as_any_sequence(as_: Any) -> None:
    found = made(seconds=as_(SECONDS), active_power=np.float64(1.5))
    assert found.energy == pytest.approx(1.5 * np.mean(SECONDS) / 50, rel=1e-6)
    assert isinstance(found.seconds, tuple)
    assert found == made(seconds=found.seconds, active_power=1.5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seconds": [1, 1e308, 1, 1]}, ValueError, r"^seconds\[1\]: .* 2\*\*-300 to 2\*\*300"),
        ({"active_power": 1e-300}, ValueError, "^active_power: .*found 1e-300"),
        ({"idle_power": 1e300}, ValueError, "^idle_power: .*found 1e"),
        ({"samples": 10**400}, ValueError, "^samples: expected a number that float64 holds"),
        ({"seconds": 0.0}, ValueError, "^seconds: expected a positive finite number, found 0.0"),
        ({"seconds": []}, ValueError, "^seconds: expected a number or one per run, found an empty"),
        ({"seconds": None}, TypeError, "^seconds: expected a positive number, found None"),
        ({"seconds": "2"}, TypeError, "^seconds: expected a positive number, found '2'"),
        ({"seconds": [[1.0]]}, TypeError, r"^seconds\[0\]: expected a positive number"),
        ({"active_power": [1, -1, 1, 1]}, ValueError, r"^active_power\[1\]: .*found -1"),
        ({"active_power": math.nan}, ValueError, "^active_power: .*found nan"),
        ({"active_power": True}, TypeError, "^active_power: expected a positive number, found Tr"),
        ({"idle_power": [1.0, math.inf]}, ValueError, r"^idle_power\[1\]: .*found inf"),
        (
            {"active_power": [1.0, 2.0]},
            ValueError,
            "^active_power: expected one number or as many as seconds, 4, found 2",
        ),
        ({"samples": 0}, ValueError, "^samples: expected an integer >= 1, found 0"),
        ({"samples": 2.0}, TypeError, "^samples: expected an integer, found 2.0"),
        ({"setup": 3}, TypeError, "^setup: expected text, found 3"),
    ],
)
def test_errors_name_the_argument(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(**changes)


# ------------------------------------------------------------------------------------------- files


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    written = {"a": made(setup="a board"), "b": Measurement(seconds=1, active_power=2, samples=3)}
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({name: one.to_dict() for name, one in written.items()}))
    assert load_measurements(file) == written
    file.write_text('{"a": {"seconds": 4, "active_power": [1, 3], "samples": 2}}')
    assert load_measurements(str(file))["a"].energy == 4


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", ValueError, "measured.json: expected JSON, found other text"),
        ("[1]", ValueError, r"expected an object of measurements by name, found \[1\]"),
        ('{"a": 3}', ValueError, "json: a: expected an object with seconds, .*, found 3"),
        ('{"a": {"watts": 3}}', ValueError, "json: a: expected seconds, .*, found 'watts'"),
        ('{"a": {"seconds": 3, "samples": 1}}', ValueError, "a: expected active_power, found sec"),
        ('{"a": {}}', ValueError, "a: expected seconds, found nothing"),
        ('{"a": 1, "a": 2}', ValueError, "expected each name once in an object, found 'a' again"),
        (
            '{"a": {"seconds": NaN, "active_power": 1, "samples": 1}}',
            ValueError,
            "json: a: seconds: expected a positive finite number, found nan",
        ),
        (
            '{"a": {"seconds": 1, "active_power": "1", "samples": 1}}',
            TypeError,
            "json: a: active_power: expected a positive number, found '1'",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    file = tmp_path / "measured.json"
    file.write_text(text)
    with pytest.raises(error, match=message):
        load_measurements(file)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        load_measurements("nowhere.json")
    with pytest.raises(TypeError, match="path: expected a str"):
        load_measurements(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2.0**-300, 2.0**300])
@pytest.mark.parametrize("samples", [1, 2**300])
def test_figures_of_extreme_sizes_are_numbers(size: float, samples: int) -> None:
    found = Measurement(
        seconds=[size, size / 2 if size > 1 else size * 2],
        active_power=[size, size],
        idle_power=[2.0**300, 2.0**299],
        samples=samples,
    )
    figures = (found.energy, found.energy_error, found.samples_per_second, found.seconds_per_sample)
    assert all(0 < figure < math.inf for figure in figures if figure is not None)
    for figure in (found.dynamic_energy, found.dynamic_energy_error):
        assert figure is not None
        assert math.isfinite(figure)
