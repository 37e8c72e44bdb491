"""Energies by hand: published rows, the formula of keras-spiking, what is left out and said so."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import pickle
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import snnmetrics as sm
from snnmetrics.energy import Constant, EnergyProfile, energy_of, estimate_energy
from snnmetrics.report import Report, Uncounted
from tests.energy.made import close, layer, neurons, report

FP32 = "horowitz-45nm-fp32"
TERM = Constant(2e-12, "A paper", 2020)


def mixed(**changes: Any) -> Report:
    """An analog and a spiking layer and their neurons, of two samples in four steps."""
    layers = {
        "conv": layer("analog", 1000, dense=2000, padded=2400),
        "fc": layer("binary", 500, dense=8000, synops=600),
    }
    seen = {
        "lif": neurons(80, 10, arithmetic=(3, 1)),
        "mystery": neurons(16, 2, "Mystery"),
    }
    return report(layers, **({"neurons_data": seen, "samples": 2} | changes))


# -------------------------------------------------------------------------------- published


def test_spikingformer_8_512() -> None:
    """Its log: 0.347329512 G MACs and 6.517540941 G ACs are 7.463502602 mJ at 4.6 and 0.9 pJ."""
    made = report(
        {
            "first": layer("analog", 346_816_512),
            "head": layer("analog", 513_000),
            "others": layer("binary", 6_517_540_941),
        }
    )
    estimate = estimate_energy(made, FP32)
    assert estimate.workload.macs == 0.347329512e9
    assert estimate.workload.acs == 6.517540941e9
    assert estimate.total.energy * 1e3 == pytest.approx(7.463502602, abs=5e-10)
    assert "7.464 mJ" in str(estimate)


@pytest.mark.parametrize(
    ("acs", "macs", "millijoules"),
    [(0.10, 0.14, "0.734"), (0.50, 2.75, "13.10"), (1.69, 0.20, "2.44"), (0, 1.82, "8.372")],
)
def test_rows_of_syops(acs: float, macs: float, millijoules: str) -> None:
    layers = {"acs": layer("binary", round(acs * 1e9)), "macs": layer("analog", round(macs * 1e9))}
    found = estimate_energy(report(layers), FP32).total.energy * 1e3
    decimals = len(millijoules.partition(".")[2])
    assert f"{found:.{decimals}f}" == millijoules


def test_a_published_table_that_has_the_rate_twice() -> None:
    """Frontiers in Neuroscience 17:1091097 (2023), Table 3.

    Its 2.51 M operations of the SNN hold the firing rate of 0.1366 already; the energy that it
    prints, 3.09e-7 J, has the rate again, and so has the ratio of 273.77 to the ANN.
    """
    ann = energy_of(macs=18.39e6, profile=FP32).total
    snn = energy_of(acs=2.51e6, profile=FP32).total
    assert ann == close(845.94e-7)
    assert snn == close(22.59e-7)
    assert f"{ann / snn:.1f}" == "37.4"
    assert f"{0.1366 * snn:.2e}" == "3.09e-07"
    assert pytest.approx(273.77, abs=5e-3) == 845.94 / 3.09


@pytest.mark.parametrize("device", ["loihi", "spinnaker", "spinnaker2-prototype"])
def test_formula_of_keras_spiking_on_event_driven_devices(device: str) -> None:
    """Energy/synop x connections x rate x dt x T, plus energy/update x neurons x T, with T = 4."""
    connections, rate, dt, steps, units = 3000, 50.0, 0.001, 4, 30
    spikes_per_input = rate * dt * steps
    made = report(
        {"fc": layer("binary", round(connections * spikes_per_input))},
        neurons_data={"lif": neurons(units * steps, units)},
        dt=dt,
    )
    constants = sm.energy.energy_profiles()[device].constants
    synops = constants["synop"].joules * connections * rate * dt * steps
    updates = constants["neuron_update"].joules * units * steps
    estimate = estimate_energy(made, device)
    assert estimate.layers["fc"].energy == close(synops)
    assert estimate.neurons["lif"].energy == close(updates)
    assert estimate.total.energy == close(synops + updates)


# --------------------------------------------------------------------- what a profile knows


def test_acs_and_macs() -> None:
    estimate = estimate_energy(mixed(), FP32)
    assert estimate.layers["conv"].energy == close(500 * 4.6e-12)  # per sample
    assert estimate.layers["fc"].breakdown.acs == close(250 * 0.9e-12)
    assert estimate.total.breakdown.macs == close(500 * 4.6e-12)
    assert estimate.total.energy == close(500 * 4.6e-12 + 250 * 0.9e-12)
    assert not estimate.neurons["lif"].priced
    assert estimate.left_out == ()


def test_synaptic_operations_leave_analog_layers_out_and_say_so() -> None:
    estimate = estimate_energy(mixed(), "loihi")
    assert estimate.layers["fc"].energy == close(300 * 27.1e-12)  # zero weights included
    assert estimate.layers["conv"].energy == 0
    assert not estimate.layers["conv"].priced
    assert estimate.neurons["lif"].breakdown.neuron_updates == close(40 * 81e-12)
    assert estimate.total.energy == close(300 * 27.1e-12 + 48 * 81e-12)
    assert estimate.left_out == ("conv: 500 MACs, which have no price in profile 'loihi'",)
    assert "left out: conv: 500 MACs" in str(estimate)


def test_a_profile_may_price_spikes_and_macs() -> None:
    hybrid = EnergyProfile("hybrid", synop=TERM, mac=Constant(5e-12, "A paper", 2020))
    estimate = estimate_energy(mixed(), hybrid)
    assert estimate.total.energy == close(300 * 2e-12 + 500 * 5e-12)
    assert estimate.left_out == ()
    only_macs = estimate_energy(mixed(), EnergyProfile("dense", mac=TERM))
    assert only_macs.left_out == ("fc: 250 ACs, which have no price in profile 'dense'",)


def test_without_events_every_synapse_of_every_step_is_computed() -> None:
    estimate = estimate_energy(mixed(), "cpu-i7-4960x")
    assert estimate.layers["conv"].energy == close(1000 * 8.6e-9)
    assert estimate.layers["fc"].energy == close(4000 * 8.6e-9)
    assert estimate.total.energy == close((1000 + 4000 + 48) * 8.6e-9)
    assert "every synapse is computed in every time step" in " ".join(str(estimate).split())


def test_an_all_in_figure_is_all() -> None:
    estimate = estimate_energy(mixed(), "truenorth")
    assert estimate.total.energy == close(300 * 26e-12)
    text = str(estimate)
    assert "all-in: the figure is the total consumption" in text
    assert "not in the energy" not in text
    assert "does not state the components of the figure" in str(estimate_energy(mixed(), "odin"))


def test_counts_of_integers_follow_the_rule_of_the_report() -> None:
    layers = {"fc": layer("integer", 500)}
    assert estimate_energy(report(layers), FP32).total.energy == close(500 * 0.9e-12)
    as_macs = report(layers, integer_as="macs")
    assert estimate_energy(as_macs, FP32).total.energy == close(500 * 4.6e-12)


# -------------------------------------------------------------------------- neuron operations


def test_the_total_says_with_neurons_only_where_their_energy_is_in_it() -> None:
    made = report({"fc": layer("binary", 5)}, neurons_data={"lif": neurons(80, arithmetic=(3, 1))})
    for profile, asked, label in (
        (FP32, False, "total"),
        (FP32, True, "total, with neurons"),
        ("spinnaker2-prototype", False, None),
    ):
        estimate = estimate_energy(made, profile, neuron_operations=asked)
        priced = estimate.total.energy > sum(row.energy for row in estimate.layers.values())
        first, second = (
            table.splitlines()[-1] for table in str(estimate).split("\n\n") if "---" in table
        )
        expected = label or ("total, with neurons" if priced else "total")
        assert first.split("  ")[0] == expected
        assert (expected == "total, with neurons") == priced
        assert second.startswith("all neurons")


def test_a_layer_whose_operation_has_no_price_is_not_free() -> None:
    """Neither is it where nothing was counted: what it would cost is not known."""
    only = EnergyProfile("accumulator", ac=Constant(1e-12, "this test", 2024))
    made = report({"image": layer("analog", 0, dense=5), "fc": layer("binary", 5)})
    estimate = estimate_energy(made, only)
    assert not estimate.layers["image"].priced
    assert estimate.layers["fc"].priced
    line = next(line for line in str(estimate).splitlines() if line.startswith("image"))
    assert line.split()[-1] == "-"


def test_neuron_operations_are_asked_for() -> None:
    without = estimate_energy(mixed(), FP32)
    estimate = estimate_energy(mixed(), FP32, neuron_operations=True)
    # 40 updates per sample of 3 additions and 1 multiplication.
    expected = 120 * 0.9e-12 + 40 * 3.7e-12
    assert estimate.neurons["lif"].breakdown.neuron_operations == close(expected)
    assert estimate.total.energy - without.total.energy == close(expected)
    assert estimate.left_out == (
        "mystery: additions and multiplications of Mystery, which are unknown",
    )
    assert "neuron dynamics" in " ".join(str(without).split())
    assert "neuron dynamics" not in " ".join(str(estimate).split())


def test_neuron_operations_never_count_twice() -> None:
    for profile in ("loihi", "cpu-i7-4960x", "truenorth", "odin"):
        with pytest.raises(ValueError, match=r"neuron_operations: expected False.*count twice"):
            estimate_energy(mixed(), profile, neuron_operations=True)
    with pytest.raises(ValueError, match="expected a profile with the energy of an addition and"):
        estimate_energy(mixed(), EnergyProfile("mine", ac=TERM), neuron_operations=True)


# ----------------------------------------------------------------------------- pure function


def test_energy_of_numbers_and_tensors() -> None:
    parts = energy_of(acs=10, macs=2, additions=3, multiplications=1, profile=FP32)
    assert parts.acs == close(9e-12)
    assert parts.macs == close(9.2e-12)
    assert parts.neuron_operations == close(6.4e-12)
    assert parts.total == close(24.6e-12)
    acs = torch.tensor([10.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(energy_of(acs, profile=FP32).total, acs * 0.9e-12)
    assert energy_of(acs, profile=FP32) == energy_of(acs.clone(), profile=FP32)
    assert energy_of(acs, profile=FP32) != energy_of(acs + 1, profile=FP32)
    assert parts.memory == 0
    assert energy_of(synops=2, neuron_updates=1, profile="loihi").total == close(135.2e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.float32])
def test_energy_does_not_vanish_in_half_precision(dtype: torch.dtype) -> None:
    found = energy_of(acs=torch.tensor(100, dtype=dtype), profile=FP32).total
    assert float(found) == pytest.approx(9e-11, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("count", "error"), [("5", TypeError), (True, TypeError), ([1], TypeError), (-1, ValueError)]
)
def test_energy_of_refuses_what_is_no_amount(count: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"macs: expected a number"):
        energy_of(macs=count, profile=FP32)


def test_energy_of_refuses_what_has_no_price() -> None:
    with pytest.raises(
        ValueError, match="macs: expected None, found a count; profile 'loihi' has no energy"
    ):
        energy_of(macs=1, profile="loihi")
    with pytest.raises(
        ValueError, match=r"neuron_updates: expected None.*'truenorth' is or may be all-in"
    ):
        energy_of(synops=1, neuron_updates=1, profile="truenorth")
    with pytest.raises(
        ValueError, match=r"profile: expected one of horowitz.*seneca, found 'loihi3'"
    ):
        energy_of(1, profile="loihi3")
    with pytest.raises(TypeError, match="profile: expected a name or an EnergyProfile, found int"):
        energy_of(1, profile=3)  # type: ignore[arg-type]


def test_energy_is_a_regulariser() -> None:
    """Gradient at every input: joules per AC x fan-out, divided by the samples."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 5))
    monitor = sm.Monitor(model, batch_dim=0, differentiable=True, kinds={"2": "analog"})
    spikes = (torch.rand(3, 1, 4, 4) < 0.5).float().requires_grad_()
    with monitor:
        model(spikes)
    energy = energy_of(acs=monitor.batch_synops()["total"], profile=FP32).total
    assert isinstance(energy, torch.Tensor)
    energy.backward()
    fanout = sm.fanout(model[0], (1, 4, 4))
    assert spikes.grad is not None
    torch.testing.assert_close(spikes.grad * 1e12, (0.9 * fanout / 3).float().expand(3, -1, -1, -1))
    assert energy.item() == close(estimate_energy(monitor.compute(), FP32).layers["0"].energy)


def test_training_on_energy_lowers_it() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(8, 16), nn.Linear(16, 4)
    optimiser = torch.optim.SGD(first.parameters(), lr=0.05)
    x = torch.rand(32, 8)
    found = []
    for _ in range(20):
        hidden = torch.relu(first(x))  # graded activity, which synops weight by value
        synops = sm.functional.synops(hidden, sm.fanout(second, (16,)))["synops"]
        energy = energy_of(acs=synops, profile=FP32).total
        assert isinstance(energy, torch.Tensor)
        optimiser.zero_grad()
        (1e12 * energy).backward()
        optimiser.step()
        found.append(energy.item())
    assert found[-1] < 0.5 * found[0]


# ---------------------------------------------------------------------------------- a report


def test_what_was_not_counted_is_said() -> None:
    made = mixed(uncounted=(Uncounted("rnn", "bilinear", "one kernel", 7),))
    text = " ".join(str(estimate_energy(made, FP32)).split())
    assert "not counted, so not in the energy: rnn: bilinear: one kernel" in text
    assert "not in the energy: memory accesses, addressing and routing, leakage" in text
    assert "Horowitz" in text
    assert "45 nm, 0.9 V" in text
    none = estimate_energy(report({"fc": layer("binary", 5)}), "loihi")
    assert "neuron updates: none, since the report has no spiking neurons" in str(none)


def test_exports() -> None:
    estimate = estimate_energy(mixed(), "loihi")
    (conv, fc) = csv.DictReader(io.StringIO(estimate.to_csv()))
    assert (conv["name"], conv["macs"], conv["synops"], float(conv["energy"])) == (
        "conv",
        "500.0",
        "",
        0.0,
    )
    assert float(fc["energy_synops"]) == close(300 * 27.1e-12)
    (lif, mystery) = csv.DictReader(io.StringIO(estimate.to_csv("neurons")))
    assert (lif["updates"], lif["additions"], mystery["additions"]) == ("40.0", "120.0", "")
    assert estimate.to_pandas().loc["fc", "energy"] == close(300 * 27.1e-12)
    for text in (estimate.to_markdown(), estimate.to_latex(), estimate._repr_html_()):
        assert "8.13 nJ" in text
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(estimate)
    assert "8.13 nJ" in console.export_text()
    data = json.loads(estimate.to_json())
    assert data["total"]["energy"] == estimate.total.energy
    assert data["profile"]["constants"]["synop"]["source"].startswith("Davies")
    assert data["left_out"] == list(estimate.left_out)
    assert data["layers"]["conv"]["counts"] == {
        "acs": 0,
        "macs": 500,
        "synops": None,
        "dense_synops": 1000,
    }
    assert (data["layers"]["fc"]["kind"], data["neurons"]["lif"]["type"]) == ("binary", "Leaky")


def test_an_estimate_is_a_value() -> None:
    estimate = estimate_energy(mixed(), FP32)
    assert estimate == estimate_energy(mixed(), FP32)
    assert estimate != estimate_energy(mixed(), "loihi")
    assert pickle.loads(pickle.dumps(estimate)) == estimate
    assert copy.deepcopy(estimate) == estimate
    with pytest.raises(TypeError):
        estimate.layers["new"] = estimate.total  # type: ignore[index]


def test_no_samples_no_number() -> None:
    estimate = estimate_energy(mixed(samples=0, steps=None), FP32)
    assert math.isnan(estimate.total.energy)
    assert json.loads(estimate.to_json())["total"]["energy"] is None
    assert "nan J" in str(estimate)
    empty = estimate_energy(report({}), FP32)
    assert empty.total.energy == 0


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="report: expected a Report, found int"):
        estimate_energy(3, FP32)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"profile: expected one of horowitz-45nm-fp32, .*'pentium'"
    ):
        estimate_energy(mixed(), "pentium")


def test_without_samples_the_energy_is_not_zero() -> None:
    empty = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0).compute()
    estimate = sm.estimate_energy(empty, "horowitz-45nm-fp32")
    assert math.isnan(estimate.total.energy)
    assert estimate.left_out == ("all operations: the report has no samples",)
    assert "all operations: the report has no samples" in " ".join(str(estimate).split())
    with pytest.raises(ValueError, match="the report has no samples"):
        estimate.ratio(estimate)
    under = sm.estimate_energy(empty.under("kernel"), "loihi")
    assert math.isnan(under.total.energy)
