"""The memory-aware estimate beside SpikingJelly's, and against a machine that is walked through."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.energy import (
    Constant,
    MemoryPrices,
    MemoryWork,
    memory_aware_baseline,
    memory_aware_energy,
)
from tests.energy.made import close, layer, neurons, report

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import layer as sj
    from spikingjelly.activation_based.op_counter import (
        LemaireEnergyConfig,
        estimate_lemaire_energy,
    )

BYTES = 4  # a word


def multi_step(*modules: nn.Module) -> nn.Module:
    """SpikingJelly's modules, for input of (time, batch, ...), with weights that make spikes."""
    model = nn.Sequential(*modules).eval()
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.rand(weight.shape) - 0.2)
    return model


def of_spikingjelly(model: nn.Module, x: Tensor) -> Any:
    """What SpikingJelly estimates; it warns of modules such as Flatten, which cost nothing."""
    functional.reset_net(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimate_lemaire_energy(model, x, config=LemaireEnergyConfig(strict=False))


def report_of(model: nn.Module, x: Tensor) -> sm.Report:
    functional.reset_net(model)
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    return monitor.run([x])


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.4).float()


def totals(estimate: sm.energy.EnergyReport, samples: int) -> dict[str, float]:
    """Counts of all layers and neurons, over all samples."""
    found: Counter[str] = Counter()
    for row in (*estimate.layers.values(), *estimate.neurons.values()):
        found.update({name: count * samples for name, count in row.work.counts.items()})
    return dict(found)


def in_its_words(estimate: sm.energy.EnergyReport, samples: int = 1) -> tuple[dict, dict]:
    """Counts and picojoules over all samples, by the names that SpikingJelly has for them."""
    count, energy = totals(estimate, samples), estimate.total.breakdown
    potentials = count["potentials"] * BYTES / 2
    counts = {
        "ac": count["acs"],
        "mac": count["macs"],
        "acc_addr": count["address_acs"],
        "mac_addr": count["address_macs"],
        "read_in_bytes": count["inputs"] * BYTES,
        "write_out_bytes": count["outputs"] * BYTES,
        "read_params_bytes": count["parameters"] * BYTES,
        "read_potential_bytes": potentials,
        "write_potential_bytes": potentials,
    }
    parts = {
        "ops_pj": energy.operations,
        "addressing_pj": energy.addressing,
        "inout_pj": energy.inputs + energy.outputs,
        "params_pj": energy.parameters,
        "potential_pj": energy.potentials,
        "memory_pj": energy.memory,
        "total": energy.total,
    }
    return counts, {name: joules * samples * 1e12 for name, joules in parts.items()}


def its_own(found: Any) -> tuple[dict, dict]:
    """The same of SpikingJelly's; its synops are within its additions."""
    counts = {name: count for name, count in found.counts.items() if name != "synop"}
    return counts, {**found.breakdown_pj, "total": found.total_pj}


def assert_same(estimate: sm.energy.EnergyReport, found: Any) -> None:
    for ours, theirs in zip(in_its_words(estimate), its_own(found), strict=True):
        assert ours == close(theirs)


# ------------------------------------------------------------- equal, one sample, by shapes


def linears(neurons: type[nn.Module], bias: bool) -> nn.Module:
    return multi_step(
        *(sj.Linear(20, 30, bias=bias), neurons(), sj.Linear(30, 10, bias=bias), neurons())
    )


def convolutions(neurons: type[nn.Module], bias: bool) -> nn.Module:
    """Padding, strides, groups, and a last layer without neurons."""
    return multi_step(
        *(sj.Conv2d(2, 4, 3, padding=1, bias=bias), neurons()),
        *(sj.Conv2d(4, 6, (3, 2), stride=2, groups=2, bias=bias), neurons()),
        *(sj.Flatten(), sj.Linear(54, 10, bias=bias)),
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("neurons", [neuron.IFNode, neuron.LIFNode])
@pytest.mark.parametrize(
    ("build", "shape"), [(linears, (5, 1, 20)), (convolutions, (5, 1, 2, 7, 7))]
)
def test_as_spikingjelly(build: Any, neurons: type[nn.Module], bias: bool, shape: Any) -> None:
    torch.manual_seed(0)
    model, x = build(neurons, bias), spikes(*shape)
    found = of_spikingjelly(model, x)
    estimate = memory_aware_energy(report_of(model, x), counting="paper")
    assert found.counts["synop"] > 0
    assert found.counts["write_out_bytes"] > 0
    assert_same(estimate, found)
    assert not estimate.left_out


@pytest.mark.parametrize("bias", [True, False])
def test_an_image_that_goes_in_directly_as_spikingjelly(bias: bool) -> None:
    """Step by step: the first layer multiplies in every step."""
    torch.manual_seed(0)
    model, image = convolutions(neuron.LIFNode, bias), torch.rand(1, 1, 2, 7, 7)
    found, steps = [], 3
    functional.reset_net(model)
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=1, steps=steps):
        for _ in range(steps):
            model(image)
    functional.reset_net(model)
    for _ in range(steps):  # the neurons keep their state from step to step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = LemaireEnergyConfig(strict=False)
            found.append(its_own(estimate_lemaire_energy(model, image, config=config)))
    ours = in_its_words(memory_aware_energy(monitor.compute(), counting="paper"))
    for part, theirs in zip(ours, zip(*found, strict=True), strict=True):
        assert part == close({name: sum(one[name] for one in theirs) for name in part})


@pytest.mark.parametrize("bias", [True, False])
def test_the_equivalent_ann_as_spikingjelly(bias: bool) -> None:
    """SpikingJelly measures the ANN itself, on an image; ours follows from the spiking network."""
    torch.manual_seed(0)
    snn = convolutions(neuron.IFNode, bias)
    ann = nn.Sequential(*(module for module in snn if not isinstance(module, neuron.IFNode)))
    image = torch.rand(1, 1, 2, 7, 7) + 0.1
    found = of_spikingjelly(ann, image)
    measured = report_of(snn, spikes(5, 1, 2, 7, 7))
    assert_same(memory_aware_baseline(measured, counting="paper"), found)


def test_a_memory_above_one_megabyte_costs_as_much_as_one_megabyte_in_both() -> None:
    torch.manual_seed(0)
    model, x = multi_step(sj.Linear(600, 500), neuron.IFNode()), spikes(2, 1, 600)
    estimate = memory_aware_energy(report_of(model, x), counting="paper")
    assert_same(estimate, of_spikingjelly(model, x))
    note = "0: memory of parameters, 1.146 MB, is priced as the largest size "
    note += "with a price: a lower bound"
    assert note in str(estimate)


# ---------------------------------------------------------------- different, and why


def test_its_memories_grow_with_the_batch() -> None:
    """A potential is kept for each sample, but a chip runs one after the other."""
    torch.manual_seed(0)
    model, x = linears(neuron.IFNode, True), spikes(5, 3, 20)
    found = of_spikingjelly(model, x)
    ours = in_its_words(memory_aware_energy(report_of(model, x), counting="paper"), samples=3)
    theirs = its_own(found)
    assert ours[0] == close(theirs[0])
    assert 3 * ours[1]["potential_pj"] == close(theirs[1]["potential_pj"])
    for part in ("ops_pj", "addressing_pj", "inout_pj", "params_pj"):
        assert ours[1][part] == close(theirs[1][part])


def test_its_memory_of_analog_inputs_grows_with_the_steps() -> None:
    torch.manual_seed(0)
    model, x = linears(neuron.IFNode, True), torch.rand(4, 1, 20) + 0.1
    found = of_spikingjelly(model, x)
    estimate = memory_aware_energy(report_of(model, x), counting="paper")
    assert estimate.layers["0"].work.input_words == 20
    more = 3 * estimate.layers["0"].breakdown.inputs * 1e12  # four times as much
    ours, theirs = in_its_words(estimate)[1], its_own(found)[1]
    assert ours["inout_pj"] + more == close(theirs["inout_pj"])
    assert ours["total"] + more == close(theirs["total"])


@pytest.mark.parametrize(
    ("convolution", "shape", "products"),
    [(sj.Conv1d, (5, 1, 2, 9), 1), (sj.Conv3d, (5, 1, 2, 5, 5, 5), 3)],
)
def test_its_addresses_have_two_dimensions(convolution: Any, shape: Any, products: int) -> None:
    torch.manual_seed(0)
    model, x = multi_step(convolution(2, 3, 3), neuron.IFNode()), spikes(*shape)
    theirs = its_own(of_spikingjelly(model, x))[0]
    ours = in_its_words(memory_aware_energy(report_of(model, x), counting="paper"))[0]
    count = int(x.sum())
    assert (ours.pop("mac_addr"), theirs.pop("mac_addr")) == (products * count, 2 * count)
    assert ours == close(theirs)


@pytest.mark.parametrize("kind", ["ternary", "integer"])
def test_it_takes_signed_and_integer_spikes_for_analog_input(kind: str) -> None:
    """It multiplies every input; ours adds per spike, for a spike of n as often as n says."""
    torch.manual_seed(0)
    model, x = linears(neuron.IFNode, False), spikes(5, 1, 20)
    x = x - 2 * spikes(5, 1, 20) * x if kind == "ternary" else x + spikes(5, 1, 20)
    found = of_spikingjelly(model, x)
    measured = report_of(model, x)
    assert measured.layers["0"].kind == kind
    work = memory_aware_energy(measured, counting="paper").layers["0"].work
    assert found.counts["mac"] == 5 * 20 * 30
    assert (work.macs, work.acs, work.inputs) == (0, x.abs().sum() * 30, x.abs().sum())


def test_edges_strides_and_zero_weights_are_exact_here() -> None:
    """It has figures of shapes; ours says which, and by default those of what happened."""
    torch.manual_seed(0)
    model, x = convolutions(neuron.IFNode, False), spikes(5, 1, 2, 7, 7)
    with torch.no_grad():
        model[0].weight[0] = 0
    found, measured = of_spikingjelly(model, x), report_of(model, x)
    shapes = memory_aware_energy(measured, counting="paper")
    exact = memory_aware_energy(measured)
    assert found.counts["synop"] == sum(row.work.acs for row in shapes.layers.values())
    for name, row in measured.layers.items():
        work = exact.layers[name].work
        assert (work.acs, work.potentials) == (row.effective_synops, 2 * row.effective_synops)
        assert work.parameters == work.address_acs == row.event_synops
        assert row.effective_synops <= row.event_synops <= shapes.layers[name].work.parameters
    assert exact.layers["0"].work.acs < exact.layers["0"].work.parameters
    assert exact.layers["0"].work.parameters < shapes.layers["0"].work.parameters
    assert exact.total.energy < shapes.total.energy


def test_it_knows_two_classes_of_neurons() -> None:
    torch.manual_seed(0)
    model, x = linears(neuron.ParametricLIFNode, True), spikes(5, 1, 20)
    assert any("ParametricLIFNode" in note for note in of_spikingjelly(model, x).warnings)
    estimate = memory_aware_energy(report_of(model, x))
    assert estimate.neurons["1"].work.macs == 5 * 30
    assert not estimate.left_out


def test_small_memories_are_what_qualia_prices_otherwise() -> None:
    """Its line, 13.2 pJ + 1.09e-5 pJ per bit, is that of least squares through the same figures."""
    kilobytes, picojoules = np.array([8.0, 32.0, 1000.0]), [10.0, 20.0, 100.0]
    slope, start = np.polyfit(kilobytes * 8000, picojoules, 1)
    assert (start, slope) == (pytest.approx(13.2, rel=0.005), pytest.approx(1.09e-5, rel=0.005))
    here = MemoryPrices()
    largest = Constant((13.2 + 1.09e-5 * 8 * 2**20) * 1e-12, "Qualia", how="estimated")
    smallest = replace(largest, joules=13.2e-12)
    line = MemoryPrices("qualia", accesses=((1, smallest), (2**20, largest)))
    for words in (100, 1000, 200_000):
        assert line.access(words) == pytest.approx((13.2 + 1.09e-5 * 32 * words) * 1e-12, rel=1e-5)
    assert round(line.access(100) / here.access(100)) == 27


# ------------------------------------------------------------------- a machine by hand


def walked(
    x: Tensor, weight: Tensor, stride: int, padding: int, bias: bool, leaky: bool, out: Tensor
) -> tuple[Counter[str], Counter[str]]:
    """What a machine does that walks through spikes, synapses and neurons, over all samples.

    ``x``: (T, B, C, size), ``weight``: (outputs, C, k), ``out``: spikes of (T, B, outputs, size).
    """
    work: Counter[str] = Counter()
    outputs, _, k = weight.shape
    size = out.shape[-1]
    for t, b in itertools.product(*map(range, x.shape[:2])):
        for c, i in itertools.product(*map(range, x.shape[2:])):
            if not x[t, b, c, i]:
                continue
            work["inputs"] += 1  # read the message
            work["address_macs"] += 1  # find its first output
            for o, tap in itertools.product(range(outputs), range(k)):
                start, rest = divmod(i + padding - tap, stride)
                if rest or not 0 <= start < size:
                    continue
                work["parameters"] += 1
                work["address_acs"] += 1
                if weight[o, c, tap]:
                    work["acs"] += 1
                    work["potentials"] += 2
        if bias:
            work["acs"] += outputs * size
            work["parameters"] += outputs * size
    fire: Counter[str] = Counter()
    for spike in out.flatten().tolist():
        fire["potentials"] += 2
        fire["macs"] += leaky
        if spike:
            fire["acs"] += 1
            fire["outputs"] += 1
    return work, fire


def assert_counts(work: MemoryWork, expected: Counter[str], samples: int, sizes: dict) -> None:
    given = {name: count for name, count in work.counts.items() if not name.endswith("_words")}
    assert {name: count * samples for name, count in given.items()} == close(
        {name: expected[name] for name in given}
    )
    words = {name: count for name, count in work.counts.items() if name.endswith("_words")}
    assert words == {name: sizes.get(name, 0) for name in words}


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_a_machine_that_is_walked_through(
    k: int, stride: int, padding: int, bias: bool, leaky: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    (inputs, outputs, size), (steps, samples) = (2, 3, 5), (2, 2)
    conv = sj.Conv1d(inputs, outputs, k, stride=stride, padding=padding, bias=bias)
    fires = neuron.LIFNode() if leaky else neuron.IFNode()
    model = multi_step(conv, fires)
    with torch.no_grad():
        conv.weight *= torch.rand(conv.weight.shape) < 0.7
    x = spikes(steps, samples, inputs, size)
    measured = report_of(model, x)
    functional.reset_net(model)
    with torch.no_grad():
        out = model(x)
    work, fire = walked(x, conv.weight, stride, padding, bias, leaky, out)
    found = memory_aware_energy(measured, prices=MemoryPrices(queue_words=7))
    kept = out[0, 0].numel()
    sizes = {"input_words": 7, "potential_words": kept}
    sizes["parameter_words"] = sum(parameter.numel() for parameter in conv.parameters())
    assert_counts(found.layers["0"].work, work, samples, sizes)
    assert_counts(
        found.neurons["1"].work, fire, samples, {"potential_words": kept, "output_words": 7}
    )


@pytest.mark.parametrize("padded", [False, True])
def test_the_equivalent_ann_by_hand(padded: bool) -> None:
    """A convolution of two channels 5 to three of 3, kernel 3, stride 2, padding 1; then linear."""
    torch.manual_seed(0)
    model = multi_step(
        *(sj.Conv1d(2, 3, 3, stride=2, padding=1), neuron.IFNode(), sj.Flatten()),
        *(sj.Linear(9, 4, bias=False), neuron.IFNode()),
    )
    measured = report_of(model, spikes(6, 2, 2, 5))
    ann = memory_aware_baseline(measured, counting="paper" if padded else "exact")
    taps = 9 if padded else 7  # at outputs 0, 1, 2: one of three is on padding at both ends
    macs = taps * 2 * 3
    assert ann.layers["0"].work.counts == close(
        MemoryWork(
            *("0", "analog"),
            acs=9,
            macs=macs,
            address_acs=10 + 9 + 9,  # inputs, outputs, output channels x kernel
            inputs=macs,
            parameters=macs + 9,
            outputs=9,
            input_words=10,
            parameter_words=21,
            output_words=9,
        ).counts
    )
    linear = MemoryWork(
        *("3", "analog"),
        macs=36,
        address_acs=9 + 4,
        inputs=9,
        parameters=36,
        outputs=4,
        input_words=9,
        parameter_words=36,
        output_words=4,
    )
    assert ann.layers["3"].work.counts == close(linear.counts)
    assert not ann.neurons
    assert ann.layers["3"].breakdown.operations == close(36 * 3.2e-12)
    assert ann.layers["3"].breakdown.addressing == close(13 * 0.1e-12)
    assert ann.layers["3"].breakdown.outputs == close(4 * 10e-12 * 4 * BYTES / 8192)


def test_tokens_share_no_potentials() -> None:
    """A linear layer on seven tokens has seven times its outputs at a time."""
    torch.manual_seed(0)
    model = multi_step(sj.Linear(6, 5), neuron.IFNode())
    estimate = memory_aware_energy(report_of(model, spikes(4, 2, 7, 6)))
    assert estimate.layers["0"].work.potential_words == 35
    assert estimate.neurons["1"].work.potential_words == 35


# ------------------------------------------------------------------------------ prices


@given(st.floats(0, 1e7))
def test_prices_lie_on_straight_lines(words: float) -> None:
    sizes = [0, 8 * 1024, 32 * 1024, 1024 * 1024]
    expected = np.interp(words * BYTES, sizes, [0, 10e-12, 20e-12, 100e-12])
    assert MemoryPrices().access(words) == pytest.approx(expected, rel=1e-9, abs=1e-30)


def test_every_price_has_a_source() -> None:
    prices = MemoryPrices()
    constants = [prices.addition, prices.multiplication, *(one for _, one in prices.accesses)]
    for constant in constants:
        assert "Horowitz" in constant.source
        assert (constant.year, constant.node) == (2014, "45 nm")
    assert all(one.via for _, one in prices.accesses)


@pytest.mark.parametrize("word_bytes", [1, 2, 8])
def test_a_memory_is_as_large_as_its_words(word_bytes: int) -> None:
    """So many words of two bytes cost what half as many of four do."""
    prices, usual = MemoryPrices(word_bytes=word_bytes), MemoryPrices()
    for words in (100, 5000, 2**22):
        same = usual.access(words * word_bytes / 4)
        assert prices.access(words) == pytest.approx(same, rel=1e-12)
    assert prices.largest == usual.largest * 4 / word_bytes


ONE = Constant(1e-12, "A paper", 2020)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"addition": 1e-12}, TypeError, "addition: expected a Constant, found 1e-12"),
        ({"accesses": ((8, 1e-12),)}, TypeError, "accesses: expected a Constant, found 1e-12"),
        ({"accesses": ()}, ValueError, r"accesses: expected .* sizes, found \[\]"),
        (
            {"accesses": ((8, ONE), (8, ONE))},
            ValueError,
            r"positive, increasing sizes, found \[8, 8\]",
        ),
        ({"accesses": ((0, ONE),)}, ValueError, "accesses: expected positive, increasing sizes"),
        ({"word_bytes": 0}, ValueError, "word_bytes: expected at least 1, found 0"),
        ({"queue_words": -1}, ValueError, "queue_words: expected at least 1, found -1"),
    ],
)
def test_prices_without_sense_are_refused(values: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        MemoryPrices(**values)


# ------------------------------------------------------------------------ the report


def small() -> sm.Report:
    torch.manual_seed(0)
    return report_of(linears(neuron.LIFNode, True), spikes(5, 2, 20))


def test_the_total_is_the_sum_and_says_what_it_stands_on() -> None:
    estimate = memory_aware_energy(small())
    rows = [*estimate.layers.values(), *estimate.neurons.values()]
    assert len(rows) == 4
    assert estimate.total.energy == close(sum(row.energy for row in rows))
    assert estimate.total.breakdown.memory == close(sum(row.breakdown.memory for row in rows))
    text = " ".join(str(estimate).split())
    for part in ("total, with neurons", "Lemaire", "Horowitz", "queues of 1000", "leakage"):
        assert part in text
    assert list(estimate.to_pandas()["energy"]) == [row.energy for row in estimate.layers.values()]


def test_exports_hold_what_it_holds() -> None:
    estimate = memory_aware_energy(small())
    loaded = json.loads(estimate.to_json())
    assert loaded["total"]["energy"] == close(estimate.total.energy)
    assert loaded["layers"]["0"]["counts"] == close(estimate.layers["0"].work.counts)
    assert loaded["prices"]["name"] == "lemaire-2022"
    assert pickle.loads(pickle.dumps(estimate)) == estimate == copy.deepcopy(estimate)
    assert repr(estimate).startswith(
        "EnergyReport(model='Sequential', profile='lemaire-2022', energy="
    )


def test_ratio_to_the_ann() -> None:
    measured = small()
    snn, ann = memory_aware_energy(measured), memory_aware_baseline(measured)
    assert snn.ratio(ann) == close(snn.total.energy / ann.total.energy)
    with pytest.raises(TypeError, match="other: expected an EnergyReport, found float"):
        snn.ratio(1.0)  # type: ignore[arg-type]
    without = sm.estimate_energy(measured, "horowitz-45nm-int32")
    with pytest.raises(TypeError, match="another memory-aware energy estimate, found 'ene"):
        snn.ratio(without)
    with pytest.raises(TypeError, match="another energy estimate, found 'memory-aware"):
        without.ratio(snn)
    unknown = replace(measured.neurons_data["1"], type="Mystery")
    mystery = memory_aware_energy(
        replace(measured, neurons_data={**measured.neurons_data, "1": unknown})
    )
    assert mystery.left_out == (
        "1: Mystery is not a known class of IF or LIF neurons; declare it with types={...} if "
        "it is one",
    )
    with pytest.raises(ValueError, match=r"expected an estimate of all .* left out: 1: Mystery"):
        mystery.ratio(ann)
    told = memory_aware_energy(
        replace(measured, neurons_data={**measured.neurons_data, "1": unknown}),
        types={"Mystery": "lif"},
    )
    assert told.total.energy == snn.total.energy


def test_what_the_model_has_not_is_named() -> None:
    conv = layer("binary", 5)
    layers = {
        "fc": replace(conv, operation=replace(conv.operation, output_shape=(0,))),
        "qk": replace(conv, operation=replace(conv.operation, operation="qk", weight_shape=None)),
        "up": replace(conv, operation=replace(conv.operation, operation="conv_transpose2d")),
        "rnn": replace(conv, operation=replace(conv.operation, operation="rnn_cell")),
    }
    estimate = memory_aware_energy(report(layers, neurons_data={"lif": neurons(80, 10)}))
    assert [*estimate.layers] == ["fc"]
    for found, part in zip(
        estimate.left_out,
        ("qk: a product of two", "up: conv_transpose2d", "rnn: a part"),
        strict=True,
    ):
        assert found.startswith(part)
        assert f"left out: {found}" in str(estimate)
    assert memory_aware_baseline(report(layers)).left_out == estimate.left_out


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda made: memory_aware_energy(1), TypeError, "report: expected a Report, found int"),
        (
            lambda made: memory_aware_energy(made, counting="all"),
            ValueError,
            "counting: expected one of .*, found 'all'",
        ),
        (
            lambda made: memory_aware_energy(made, types={"X": "izhikevich"}),
            ValueError,
            r"types\['X'\]: expected 'if' or 'lif', found 'izhikevich'",
        ),
        (lambda made: memory_aware_energy(made, once=["z"]), ValueError, "once: .* found 'z'"),
        (lambda made: memory_aware_baseline(made, once="0"), TypeError, "once: .* the string '0'"),
        (
            lambda made: memory_aware_baseline(replace(made, steps=None)),
            ValueError,
            "known number of time steps",
        ),
    ],
)
def test_what_cannot_be_estimated(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(small())


def test_nothing_spikes() -> None:
    torch.manual_seed(0)
    model = linears(neuron.IFNode, False)
    estimate = memory_aware_energy(report_of(model, torch.zeros(3, 1, 20)))
    assert all(row.energy == 0 for row in estimate.layers.values())
    assert estimate.total.breakdown.potentials > 0  # they are read and written all the same
    assert math.isfinite(estimate.total.energy)


@pytest.mark.parametrize("integer_as", ["acs", "macs"])
def test_the_operation_of_a_layer_does_not_depend_on_zero_weights(integer_as: str) -> None:
    """5 integers x 1 output by the formula of the paper, whatever the weights are."""
    for effective in (5, 0):
        data = layer("integer", effective, synops=5)
        counts = replace(data.counts["integer"], output_elements=1)
        data = replace(data, counts={"integer": counts})
        made = report({"fc": data}, integer_as=integer_as)
        work = memory_aware_energy(made, counting="paper").layers["fc"].work
        found = (work.acs, work.macs)  # type: ignore[union-attr]
        assert found == ((5, 0) if integer_as == "acs" else (0, 5))
