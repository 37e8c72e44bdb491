"""Baselines and break-even rates against closed forms and a monitored network."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import snnmetrics as sm
from snnmetrics.energy import (
    Constant,
    EnergyProfile,
    LayerWork,
    Workload,
    ann_baseline,
    break_even_rate,
    energy_profiles,
    estimate_energy,
    quantised_ann_baseline,
)
from snnmetrics.report import Report
from tests.energy.made import close, layer, neurons, report
from tests.helpers.toy import Spike

FP32 = "horowitz-45nm-fp32"


def direct_coded(**changes: Any) -> Report:
    """Two samples in four steps; the first layer is outside of the loop over time."""
    layers = {
        "conv": layer("analog", 900, dense=1000, padded=1200, vectors=2),
        "fc": layer("binary", 500, dense=8000, vectors=8),
    }
    seen = {"lif": neurons(80, 10, arithmetic=(3, 1))}
    return report(layers, **({"neurons_data": seen, "samples": 2} | changes))


def test_one_step_of_every_layer_and_the_first_as_it_is() -> None:
    papers = {"padded_taps": True, "zero_inputs": True, "zero_weights": True}
    ann = ann_baseline(direct_coded(), **papers)
    assert ann.layers["conv"].macs == 600  # ran once: 1200 of two samples
    assert ann.layers["fc"].macs == 1000  # 8000 of two samples in four steps
    assert ann.acs == 0
    assert (ann.neurons["lif"].updates, ann.neurons["lif"].additions) == (10, 10)
    runs = "conv: run once per sample, MACs unchanged; other layers: in each of 4 steps, MACs "
    assert any(note.startswith(f"{runs}divided by 4; if that is wrong") for note in ann.notes)
    exact = ann_baseline(direct_coded(), **(papers | {"padded_taps": False}))
    assert (exact.layers["conv"].macs, exact.layers["fc"].macs) == (500, 1000)
    alike = ann_baseline(direct_coded())
    assert alike.layers["conv"].macs == 450  # what the SNN does with the same image
    assert alike.layers["fc"].macs == 1000
    half = ann_baseline(direct_coded(), **papers, activation_sparsity=0.5)
    assert half.macs == 800
    assert half.layers["fc"].dense_synops == 1000  # a device without events computes them


def test_only_the_user_can_tell_that_tokens_are_no_steps() -> None:
    made = report({"tokens": layer("analog", 900, dense=800, vectors=196)})  # 196 = 4 x 49
    assert ann_baseline(made, zero_inputs=True).macs == 200
    assert ann_baseline(made, once=["tok*"], zero_inputs=True).macs == 800


def test_notes_name_the_shorter_list_of_layers() -> None:
    layers = {name: layer("binary", 500, dense=8000, vectors=8) for name in ("a", "b", "c")}
    every = report(layers, samples=2)
    advice = "; if that is wrong, as for layers over tokens, set once="
    said = "all layers run in each of 4 steps, MACs divided by 4"
    assert ann_baseline(every).notes[1] == said + advice
    assert ann_baseline(every, once=["a", "b"]).notes[1] == (
        "c: run in each of 4 steps, MACs divided by 4; other layers: once per sample, "
        "MACs unchanged"
    )
    assert ann_baseline(every, once=["*"]).notes[1] == (
        "all layers run once per sample, MACs unchanged"
    )


def test_a_number_of_steps_that_no_neurons_have_is_refused() -> None:
    """The ratio to the ANN would be wrong by the factor between both."""
    two = {"lif1": neurons(80, 10), "lif2": neurons(160, 20)}  # 4 runs of each of 2 samples
    for wrong in (3, 8):
        made = direct_coded(steps=wrong, neurons_data=two)
        said = f"each of its {wrong} time steps, found 4 runs per sample of lif1, lif2"
        with pytest.raises(ValueError, match=said):
            ann_baseline(made)
    right = ann_baseline(direct_coded(neurons_data=two))
    twice = {"lif1": neurons(160, 10), "lif2": neurons(320, 20)}  # called twice in each step
    assert ann_baseline(direct_coded(neurons_data=twice)).macs == right.macs
    for other in ({"lif1": neurons(20, 10)}, two | {"encoder": neurons(20, 10)}):
        assert ann_baseline(direct_coded(steps=8, neurons_data=other)).macs  # may be outside


def test_the_ann_of_a_monitored_network_does_the_macs_of_that_ann() -> None:
    """The same layers with ReLU in place of neurons, seen by the Monitor."""

    def build(activation: type[nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3, stride=2, padding=1), activation(), nn.Flatten())
        return nn.Sequential(*layers, nn.Linear(64, 10))

    images = torch.rand(6, 1, 8, 8)
    images[images < 0.4] = 0
    snn, ann = build(Spike), build(nn.ReLU)
    monitor = sm.Monitor(snn)
    with monitor, monitor.batch(samples=6, steps=5):
        for _ in range(5):
            snn(images)
    truth = sm.Monitor(ann, batch_dim=0).run([images])
    for padded, figure in ((True, "dense_macs"), (False, "dense_synops")):
        baseline = ann_baseline(monitor.compute(), padded_taps=padded, zero_inputs=True)
        for name, row in truth.layers.items():
            assert baseline.layers[name].macs == getattr(row, figure)
    alike = ann_baseline(monitor.compute())
    assert alike.layers["0"].macs == close(truth.layers["0"].macs)  # zeros of the image skipped
    assert truth.layers["0"].macs < 0.8 * truth.layers["0"].dense_synops
    assert alike.layers["3"].macs == truth.layers["3"].dense_synops


def test_the_ann_of_a_pruned_network_is_pruned() -> None:
    """Every second weight of each input is zero: the share that events met is that of all."""
    model = nn.Sequential(nn.Linear(6, 4), Spike(), nn.Linear(4, 2))
    with torch.no_grad():
        for index in (0, 2):
            model[index].weight[::2] = 0
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=3, steps=2):
        for _ in range(2):
            model(torch.ones(3, 6))
    made = monitor.compute()
    assert ann_baseline(made).layers["0"].macs == 6 * 2
    assert ann_baseline(made, zero_weights=True).layers["0"].macs == 6 * 4


def test_a_baseline_is_printed_as_a_table() -> None:
    ann = quantised_ann_baseline(direct_coded())
    text = str(ann)
    lines = text.splitlines()
    assert lines[0] == "snnmetrics operations of the ANN equivalent to Net, quantised, 3 bits"
    rows = {cells[0]: cells[1:] for cells in (re.split("  +", line) for line in lines)}
    assert rows["layer"] == ["kind", "ACs", "MACs", "synops", "dense synops"]
    assert rows["conv"] == ["analog", "0", "450", "-", "500"]
    assert rows["fc"] == ["analog", "0", "1 k", "-", "1 k"]
    assert rows["total"] == ["0", "1.45 k", "-", "1.5 k"]
    assert all(" ".join(note.split()[:6]) in " ".join(text.split()) for note in ann.notes)
    table = list(csv.DictReader(io.StringIO(ann.to_csv())))
    assert [float(row["macs"]) for row in table] == [450, 1000]
    assert "| lif | ReLU | 10 | 10 | 0 |" in ann.to_markdown()


@pytest.mark.parametrize("device", ["cpu-i7-4960x", "gpu-titan-black", "arm-cortex-a"])
def test_formula_of_keras_spiking_on_other_devices(device: str) -> None:
    """Connections and neurons of a single time step, whatever the steps."""
    connections, units = 100_352, 128
    made = report(
        {"fc": layer("binary", 5, dense=connections * 4, vectors=4)},
        neurons_data={"lif": neurons(units * 4, units)},
    )
    price = energy_profiles()[device].constants["synop"].joules
    found = estimate_energy(ann_baseline(made), device).total.energy
    assert found == close(price * (connections + units))
    if device.startswith("cpu"):
        assert f"{found:.2e}" == "8.64e-04"  # as its documentation prints for Dense(784 -> 128)


def test_a_device_that_keras_spiking_registers_in_its_documentation() -> None:
    """1e-10 J per operation and 2e-9 J per neuron: it prints 1.03e-05 for Dense(784 -> 128)."""
    synop, update = (Constant(joules, "its documentation", 2023) for joules in (1e-10, 2e-9))
    mine = EnergyProfile("my-cpu", synop=synop, neuron_update=update, event_driven=False)
    made = report(
        {"fc": layer("binary", 5, dense=100_352)}, neurons_data={"lif": neurons(128, 128)}, steps=1
    )
    assert f"{estimate_energy(ann_baseline(made), mine).total.energy:.2e}" == "1.03e-05"


@pytest.mark.parametrize(
    ("steps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (255, 8)]
)
def test_bits_of_a_rate_code(steps: int, bits: int) -> None:
    made = report({"fc": layer("binary", 5, dense=8 * steps, vectors=steps)}, steps=steps)
    ann = quantised_ann_baseline(made)
    assert ann.bits == bits
    assert 2**bits >= steps + 1 > 2 ** (bits - 1)
    assert ann.macs == ann_baseline(made).macs == 8
    assert quantised_ann_baseline(made, bits=6).bits == 6


def test_ratio() -> None:
    made = direct_coded()
    snn = estimate_energy(made, FP32)
    ann = estimate_energy(ann_baseline(made), FP32)
    assert snn.ratio(ann) == close((450 * 4.6 + 250 * 0.9) / (1450 * 4.6))
    assert ann.ratio(snn) == close(1 / snn.ratio(ann))
    with pytest.raises(ValueError, match=r"expected a price for every.*conv: 450 MACs"):
        estimate_energy(made, "loihi").ratio(ann)
    with pytest.raises(TypeError, match="other: expected an EnergyReport, found float"):
        snn.ratio(1.0)  # type: ignore[arg-type]
    nothing = estimate_energy(report({}), FP32)
    assert math.isnan(snn.ratio(nothing))


# -------------------------------------------------------------------------------- break-even


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8", "int32"])
def test_break_even_of_spiking_layers_alone(steps: int, dtype: str) -> None:
    made = report({"fc": layer("binary", 5, dense=80 * steps, vectors=steps)}, steps=steps)
    profile = energy_profiles()[f"horowitz-45nm-{dtype}"]
    mac, ac = profile.constants["mac"].joules, profile.constants["ac"].joules
    assert break_even_rate(made, profile) == close(mac / (steps * ac))


@pytest.mark.parametrize("neuron_operations", [False, True])
def test_at_the_break_even_rate_both_cost_the_same(neuron_operations: bool) -> None:
    """A network whose spiking layer has that rate; with an analog layer and neurons."""
    rate = break_even_rate(direct_coded(), FP32, neuron_operations=neuron_operations)
    made = direct_coded()
    layers = dict(made.layers_data)
    acs = rate * 8000  # of two samples
    spiking = layer("integer", 1, dense=8000, vectors=8)
    (counts,) = spiking.counts.values()
    layers["fc"] = replace(spiking, counts={"integer": replace(counts, effective_magnitude=acs)})
    there = direct_coded(layers_data=layers)
    snn = estimate_energy(there, FP32, neuron_operations=neuron_operations)
    ann = estimate_energy(ann_baseline(made), FP32, neuron_operations=neuron_operations)
    assert snn.ratio(ann) == close(1)


@pytest.mark.parametrize("integer_as", ["acs", "macs"])
@pytest.mark.parametrize("kind", ["binary", "integer", "integer*integer", "binary*analog"])
def test_break_even_does_not_depend_on_what_fired(kind: str, integer_as: str) -> None:
    """MACs where no operand is a spike: integers as MACs, products of two integers."""
    accumulates = "binary" in kind or (kind == "integer" and integer_as == "acs")
    prices = energy_profiles()[FP32].constants
    price = prices["ac" if accumulates else "mac"].joules
    for effective in (50, 0):
        made = report(
            {"fc": layer(kind, effective, dense=400, synops=50)}, integer_as=integer_as, steps=4
        )
        rate = break_even_rate(made, FP32, baseline=estimate_energy(ann_of(400), FP32))
        assert rate == close(prices["mac"].joules / price)


def ann_of(macs: float) -> Workload:
    return Workload("ann", {"fc": LayerWork("fc", "analog", 0.0, macs, None, macs)}, {})


def test_break_even_names_the_price_that_is_missing() -> None:
    """Also where no operation happened, so that nothing is left out of the energy."""
    made = report({"fc": layer("integer", 0, dense=400, synops=5)}, integer_as="macs")
    free = EnergyProfile("accumulator", ac=Constant(1e-12, "this test", 2024))
    with pytest.raises(
        ValueError, match=r"profile: expected .* MACs of fc, whose input is integer"
    ):
        break_even_rate(made, free, baseline=estimate_energy(ann_of(0), free))


def test_break_even_against_another_baseline() -> None:
    made = report({"fc": layer("binary", 5, dense=4000, vectors=4)}, steps=4)
    cpu = estimate_energy(ann_baseline(made), "cpu-i7-4960x")
    rate = break_even_rate(made, "loihi", baseline=cpu)
    assert rate == close(1000 * 8.6e-9 / (4000 * 27.1e-12))
    never = report(
        {"fc": layer("binary", 5, dense=4000, vectors=4)},
        neurons_data={"lif": neurons(400, 100, arithmetic=(300, 300))},
    )
    assert break_even_rate(never, FP32, neuron_operations=True) < 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: break_even_rate(made, "cpu-i7-4960x"), "profile: expected an event-driven"),
        (lambda made: break_even_rate(made, "loihi"), "expected a price for every counted"),
        (
            lambda made: break_even_rate(report({"fc": layer("analog", 5, vectors=4)}), FP32),
            "report: expected a layer with spikes",
        ),
        (lambda made: ann_baseline(direct_coded(steps=None)), "known number of time steps"),
        (lambda made: ann_baseline(direct_coded(samples=0)), "found 0 samples"),
        (lambda made: ann_baseline(made, once=["conv3"]), "once: .* of conv, fc, found 'conv3'"),
        (
            lambda made: ann_baseline(made, activation_sparsity=1.0),
            r"expected a fraction in \[0, 1\)",
        ),
        (lambda made: quantised_ann_baseline(made, bits=0), "bits: expected a positive integer"),
    ],
)
def test_what_has_no_answer(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(direct_coded())


@pytest.mark.parametrize("baseline", [ann_baseline, quantised_ann_baseline])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("once", "conv", "expected a collection of names, found the string"),
        ("once", [3], r"expected a collection of names, found \[3\]"),
        ("once", None, "expected a collection of names, found None"),
        ("padded_taps", "no", "expected True or False, found 'no'"),
        ("zero_inputs", 1, "expected True or False, found 1"),
        ("zero_weights", None, "expected True or False, found None"),
        ("activation_sparsity", "0.5", "expected a fraction, found '0.5'"),
    ],
)
def test_arguments_of_another_type(baseline: Any, argument: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{argument}: {message}"):
        baseline(direct_coded(), **{argument: value})
