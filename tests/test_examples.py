"""What the examples print must be true."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import snnmetrics as sm

SCRIPT = Path(__file__).parents[1] / "examples" / "monitor_frameworks.py"
IMAGES, BATCH, STEPS = 50, 20, 8  # two full batches, of which the second must start afresh
SUBTRACTING = (
    "plain PyTorch",
    "snnTorch Leaky",
    "SpikingJelly IFNode",
    "Norse LIFBoxCell",
    "sinabs IAFSqueeze",
)
TO_ZERO = "Norse IAFCell"
STRIDES = {"conv1": 1, "conv2": 2}


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the frameworks' imports
        names = runpy.run_path(str(SCRIPT))
    names["main"].__globals__["BATCH"] = BATCH
    return names


@pytest.fixture(scope="module")
def reports(example: dict[str, Any]) -> dict[str, sm.Report]:
    return example["measure_all"](IMAGES)


@pytest.fixture(scope="module")
def weights(example: dict[str, Any]) -> dict[str, Tensor]:
    return {name: weight.double() for name, weight in example["weights"]().items()}


def apply(name: str, x: Tensor, weight: Tensor) -> Tensor:
    """One layer on ``(B, ...)``."""
    if name == "fc":
        return x.flatten(1) @ weight.T
    return F.conv2d(x, weight, stride=STRIDES[name], padding=1)


def fire(currents: Tensor, to_zero: bool) -> Tensor:
    """Integrate-and-fire over ``(T, B, ...)``."""
    potential, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        potential = potential + current
        assert not (potential == 1).any()  # ``>`` and ``>=`` agree
        spikes.append((potential > 1).double())
        potential = torch.where(potential > 1, 0.0 if to_zero else potential - 1, potential)
    return torch.stack(spikes)


def inputs_of_layers(
    example: dict[str, Any], weights: dict[str, Tensor], to_zero: bool
) -> dict[str, Tensor]:
    """Spikes that enter each layer, in float64 and without any framework."""
    x = example["encoded"](IMAGES).double()
    inputs = {"conv1": x}
    for name, following in (("conv1", "conv2"), ("conv2", "fc")):
        x = fire(torch.stack([apply(name, step, weights[name]) for step in x]), to_zero)
        inputs[following] = x
    return inputs


def test_the_images_are_coded_by_their_pixels(example: dict[str, Any]) -> None:
    from sklearn.datasets import load_digits

    spikes = example["encoded"](10_000)
    pixels = torch.tensor(load_digits().images[1437:] / 16)
    assert spikes.shape == (STEPS, 360, 1, 8, 8)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert not spikes[:, (pixels == 0).unsqueeze(1)].any()
    assert spikes[:, (pixels == 1).unsqueeze(1)].all()
    assert spikes.double().mean().item() == pytest.approx(pixels.mean().item(), rel=0.02)
    assert torch.equal(example["encoded"](IMAGES), example["encoded"](IMAGES))


def test_no_sum_of_weights_reaches_a_threshold_exactly(
    example: dict[str, Any], weights: dict[str, Tensor]
) -> None:
    for name in STRIDES:
        units = weights[name] / example["WEIGHT_UNIT"]
        assert torch.equal(units, units.round())
        assert units.abs().flatten(1).sum(1).max() * STEPS < 8192
    assert (example["WEIGHT_UNIT"] * 8192) % 2 == 1  # an odd number of 1/8192


@pytest.mark.parametrize("title", [*SUBTRACTING, TO_ZERO])
def test_every_network_is_counted_as_without_a_framework(
    example: dict[str, Any],
    reports: dict[str, sm.Report],
    weights: dict[str, Tensor],
    title: str,
) -> None:
    report = reports[title]
    inputs = inputs_of_layers(example, weights, to_zero=title == TO_ZERO)
    assert (report.samples, report.steps, report.uncounted) == (IMAGES, STEPS, ())
    assert list(report.layers) == list(inputs)
    acs = 0.0
    for name, x in inputs.items():
        vectors, weight, row = x.flatten(0, 1), weights[name], report.counts()[name]
        synops = apply(name, vectors, torch.ones_like(weight)).sum().item()
        effective = apply(name, vectors, (weight != 0).double()).sum().item()
        dense = apply(name, torch.ones_like(vectors), torch.ones_like(weight)).sum().item()
        assert (row["synops"], row["event_synops"], row["effective_synops"]) == (
            synops,
            synops,
            effective,
        )
        assert (row["acs"], row["macs"], row["dense_synops"]) == (effective, 0, dense)
        assert (row["events"], row["elements"]) == (x.sum().item(), x.numel())
        assert report.layers[name].kind == "binary"
        assert 0 < effective < synops < dense
        acs += effective
    assert (report.total.acs, report.total.macs) == (acs / IMAGES, 0)
    for name, emitted in (("neuron1", inputs["conv2"]), ("neuron2", inputs["fc"])):
        assert report.neurons[name].firing_rate == emitted.sum().item() / emitted.numel()
        assert report.neurons[name].neurons == emitted[0, 0].numel()


def test_the_same_neuron_is_counted_alike_in_all_frameworks(
    example: dict[str, Any], reports: dict[str, sm.Report]
) -> None:
    assert set(reports) == {*SUBTRACTING, TO_ZERO}
    reference = reports[SUBTRACTING[0]]
    for title in SUBTRACTING:
        assert example["counts"](reports[title]) == example["counts"](reference)
        for name, row in reports[title].neurons.items():
            other = reference.neurons[name]
            assert (row.spikes, row.silent_fraction, row.saturated_fraction) == (
                other.spikes,
                other.silent_fraction,
                other.saturated_fraction,
            )
    batches = -(-IMAGES // BATCH)
    calls = {title: report.calls for title, report in reports.items()}
    assert calls == dict.fromkeys(reports, batches) | {
        "plain PyTorch": batches * STEPS,
        "snnTorch Leaky": batches * STEPS,
    }


def test_potentials_on_the_threshold_set_the_frameworks_apart(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the unit of the weights is for: ``v > 1`` is not ``v >= 1``."""
    monkeypatch.setitem(example["main"].__globals__, "WEIGHT_UNIT", 1 / 8)
    counts = {t: example["counts"](r) for t, r in example["measure_all"](IMAGES).items()}
    above, at = counts["snnTorch Leaky"], counts["plain PyTorch"]
    assert counts["Norse LIFBoxCell"] == above
    assert counts["SpikingJelly IFNode"] == counts["sinabs IAFSqueeze"] == at
    assert above["conv2"]["synops"] < at["conv2"]["synops"]


def test_a_reset_to_zero_gives_fewer_spikes_behind_the_first_neurons(
    reports: dict[str, sm.Report],
) -> None:
    subtracting, to_zero = reports[SUBTRACTING[0]].counts(), reports[TO_ZERO].counts()
    alike = {key: value for key, value in subtracting["conv1"].items() if key != "calls"}
    assert alike == {key: to_zero["conv1"][key] for key in alike}
    for name in ("conv2", "fc"):
        assert to_zero[name]["synops"] < subtracting[name]["synops"]


def test_what_is_printed_is_what_was_measured(
    example: dict[str, Any], reports: dict[str, sm.Report], capsys: pytest.CaptureFixture[str]
) -> None:
    example["main"](IMAGES)
    out = capsys.readouterr().out
    table = out.rpartition("synops per image")[2].splitlines()
    for title, report in reports.items():
        assert f"{title}\n{'=' * len(title)}\n{report}\n" in out
        (line,) = (line for line in table if line.startswith(title))
        cells = [float(cell.replace(",", "")) for cell in line[len(title) :].split()]
        expected = [report.layers[name].synops for name in ("conv1", "conv2", "fc")]
        expected += [report.neurons[name].firing_rate for name in ("neuron1", "neuron2")]
        expected += [report.total.acs, report.total.macs]
        assert cells == [pytest.approx(value, abs=0.0501) for value in expected[:3]] + [
            pytest.approx(value, abs=0.0000501) for value in expected[3:5]
        ] + [pytest.approx(value, abs=0.0501) for value in expected[5:]]
    assert f"Equal in every count of every layer: {', '.join(SUBTRACTING)}\n" in out
    assert f"Different: {TO_ZERO}\n" in out
