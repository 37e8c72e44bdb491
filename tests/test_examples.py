"""What the examples print must be true."""

from __future__ import annotations

import functools
import gzip
import json
import re
import runpy
import struct
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

import snnmetrics as sm
from tests.helpers import notebook
from tests.helpers.latex import COMPILER, compiled
from tests.helpers.limits import SECONDS
from tests.helpers.toy import sum_with_ones

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT, DIAGNOSIS = EXAMPLES / "monitor_frameworks.py", EXAMPLES / "training_diagnosis.py"
BUDGET, PAPER = EXAMPLES / "hardware_budget.py", EXAMPLES / "paper_table.py"
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
Runs = tuple[dict[str, list[dict[str, float]]], str, Path]
EPOCHS = 4  # enough for neurons to be lost, and for the cure to wake those lost at first


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


@pytest.fixture(scope="module")
def diagnosis() -> dict[str, Any]:
    return runpy.run_path(str(DIAGNOSIS))


@pytest.fixture(scope="module")
def runs(diagnosis: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """What ``main`` trained, printed and drew."""
    names, trained = diagnosis["main"].__globals__, {}
    figure = tmp_path_factory.mktemp("diagnosis") / "out" / "figure.png"
    train, titles = names["run"], {cure: title for title, cure in names["RUNS"].items()}

    def kept(cure: bool, epochs: int) -> list[dict[str, float]]:
        trained[titles[cure]] = train(cure, epochs)
        return trained[titles[cure]]

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setitem(names, "FIGURE", figure)
        patch.setitem(names, "run", kept)
        torch.set_num_threads(1)  # as the script does
        diagnosis["main"](EPOCHS)
        torch.set_num_threads(threads)
    return trained, out.getvalue(), figure


def test_a_diagnosis_is_of_all_images(diagnosis: dict[str, Any]) -> None:
    model, (_, validation) = diagnosis["SpikingMLP"](), diagnosis["digits"]()
    judge = diagnosis["Diagnosis"](model)
    first, second = (judge.epoch(number, validation) for number in range(2))
    assert first | {"epoch": 1.0} == second  # nothing is left over of the epoch before
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        outputs = [(*model(x), y) for x, y in validation]
    assert sum(len(y) for _, _, y in outputs) == 360
    right = torch.cat([scores.argmax(1) == y for scores, _, y in outputs])
    assert first["accuracy"] == pytest.approx(right.double().mean().item(), rel=1e-12)
    for name in diagnosis["LAYERS"]:
        rates = torch.cat([spikes[name] for _, spikes, _ in outputs]).double().mean((0, 1))
        assert first[f"{name}/rate"] == pytest.approx(rates.mean().item(), rel=1e-12)
        assert first[f"{name}/silent_fraction"] == (rates == 0).double().mean()
        assert first[f"{name}/saturated_fraction"] == (rates >= 0.9).double().mean()


def test_potentials_and_gradients_are_those_of_the_network(diagnosis: dict[str, Any]) -> None:
    """By the network written out: potentials, and the currents that enter the second layer."""
    model, (_, validation) = diagnosis["SpikingMLP"](), diagnosis["digits"]()
    row = diagnosis["Diagnosis"](model).epoch(0, validation)
    low, high = diagnosis["WINDOW"]
    slope = [1 / (1 + diagnosis["SLOPE"] * abs(bound - 1)) ** 2 for bound in (low, high)]
    assert slope == pytest.approx([0.01, 0.01])
    inside, squares = {"hidden1": [], "hidden2": []}, []
    for x, y in validation:
        u1, u2 = model.lif1.init_leaky(), model.lif2.init_leaky()
        currents, emitted = [], []
        for _ in range(diagnosis["STEPS"]):
            s1, u1 = model.lif1(model.fc1(x), u1)
            currents.append(model.fc2(s1))
            s2, u2 = model.lif2(currents[-1], u2)
            emitted.append(s2)
            for name, u in (("hidden1", u1), ("hidden2", u2)):
                inside[name].append(((u >= low) & (u <= high)).double().mean(1))
        loss = F.cross_entropy(model.readout(torch.stack(emitted).mean(0)), y)
        gradients = torch.autograd.grad(loss, currents)
        squares.append(torch.stack([g.double().square().sum() for g in gradients]))
    for name, shares in inside.items():
        assert row[f"{name}/in_window"] == pytest.approx(torch.cat(shares).mean().item(), abs=1e-6)
    per_step = torch.stack(squares).mean(0)
    assert row["gradient/norm"] == pytest.approx(per_step.sum().sqrt().item(), rel=1e-5)
    ratio = (per_step[-1] / per_step[0]).sqrt().item()
    assert row["gradient/last_to_first"] == pytest.approx(ratio, rel=1e-5)


def test_neurons_are_lost_while_training_and_the_cure_keeps_them(
    diagnosis: dict[str, Any], runs: Runs
) -> None:
    sick, cured = runs[0].values()
    assert [row["epoch"] for row in sick] == [row["epoch"] for row in cured] == [0, 1, 2, 3, 4]
    assert sick[0] == cured[0]  # the same network
    for name in diagnosis["LAYERS"]:
        silent, saturated = f"{name}/silent_fraction", f"{name}/saturated_fraction"
        assert sick[-1][silent] > sick[0][silent] + 0.03
        assert cured[-1][silent] < min(0.06, cured[0][silent], sick[-1][silent] / 2)
        assert cured[-1][saturated] < 0.02
    first, last, held = (
        sum(row[f"{name}/saturated_fraction"] for name in diagnosis["LAYERS"])
        for row in (sick[0], sick[-1], cured[-1])
    )
    assert last > max(first, held)  # soon in one of the layers, in which one is chance
    assert sick[-1]["hidden1/silent_fraction"] > 0.3
    assert cured[-1]["accuracy"] > max(0.8, sick[-1]["accuracy"] - 0.05)


def test_the_band_pulls_from_both_sides(diagnosis: dict[str, Any]) -> None:
    rates = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.9], requires_grad=True)
    diagnosis["outside_band"](rates).backward()
    assert rates.grad is not None
    assert rates.grad.sign().tolist() == [-1, 0, 0, 0, 1]


def test_the_tables_and_the_closing_line_are_what_was_measured(
    diagnosis: dict[str, Any], runs: Runs
) -> None:
    trained, out, figure = runs
    assert list(trained) == list(diagnosis["RUNS"])
    keys = [f"{name}/{f}" for name in diagnosis["LAYERS"] for f in diagnosis["FIGURES"]]
    keys.append("accuracy")
    closing = next(line for line in out.splitlines() if line.startswith("Of all hidden neurons"))
    for title, rows in trained.items():
        table = out.partition(f"{title}\n")[2].splitlines()[2 : 2 + len(rows)]
        for line, row in zip(table, rows, strict=True):
            cells = [row[key] for key in keys]
            shown = [f"{v:.3f}" if i in (0, 3) else f"{v:.1%}" for i, v in enumerate(cells)]
            assert line.split() == [f"{row['epoch']:.0f}", *shown]
        inside = out.partition(f"{title}\n")[2].splitlines()[5 + len(rows) : 5 + 2 * len(rows)]
        for line, row in zip(inside, rows, strict=True):
            first, second, norm, ratio = (row[key] for key in diagnosis["INSIDE"])
            shown = [f"{first:.1%}", f"{second:.1%}", f"{norm:.2e}", f"{ratio:.1f}"]
            assert line.split() == [f"{row['epoch']:.0f}", *shown]
        mean = {key: sum(row[key] for row in rows[1:]) / EPOCHS for key in rows[0]}
        silent, saturated = (
            sum(mean[f"{name}/{kind}_fraction"] for name in diagnosis["LAYERS"]) / 2
            for kind in ("silent", "saturated")
        )
        assert (
            f"{title.split(':')[0]} {silent:.1%} silent, {saturated:.1%} saturated "
            f"(accuracy {mean['accuracy']:.1%})"
        ) in closing
    assert f"mean of the last {EPOCHS} epochs" in closing
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def sampler_example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "distributed_sampler.py"))


@pytest.mark.parametrize(("samples", "ranks"), [(25, 2), (24, 2), (10, 4), (1, 3)])
def test_what_is_no_padding_is_each_sample_once(
    sampler_example: dict[str, Any], samples: int, ranks: int
) -> None:
    counted: list[int] = []
    for rank in range(ranks):
        sampler = DistributedSampler(range(samples), ranks, rank, seed=1)  # type: ignore[arg-type]
        mask = sampler_example["counts"](sampler)
        counted += torch.tensor(list(sampler))[mask].tolist()
    assert sorted(counted) == list(range(samples))


def test_only_padding_that_is_counted_makes_two_ranks_differ_from_one(
    sampler_example: dict[str, Any],
) -> None:
    (images,) = sampler_example["digits"]().tensors
    with torch.no_grad():
        synops = sampler_example["SpikingMLP"]()(images)[1].double().sum((1, 2)) * 10
    generator = torch.Generator().manual_seed(sampler_example["SEED"])
    twice = torch.randperm(len(images), generator=generator)[0]
    right = ["25", f"{synops.mean():.2f}"]
    wrong = ["26", f"{torch.cat([synops, synops[twice, None]]).mean():.2f}"]
    assert len(images) == 25
    assert right[1] != wrong[1]

    script = EXAMPLES / "distributed_sampler.py"
    out = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=SECONDS
    ).stdout
    alone, _, shared = out.partition("2 ranks")
    for table, padded in ((alone, right), (shared, wrong)):
        rows = [line for line in table.splitlines() if line.startswith(("SynOps", "Monitor"))]
        assert len(rows) == 5
        for row in rows:
            assert row.split()[-2:] == (padded if "padding counted" in row else right), row
    guide = (EXAMPLES.parent / "docs" / "reference" / "metrics.md").read_text()
    for samples, value in (right, wrong):
        assert f"| {samples} | {value} |" in guide


def test_the_budget_holds_on_average_but_for_other_cores_also_where_it_matters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Cores against counts by convolutions with ones, and what is printed against both."""
    names = runpy.run_path(str(BUDGET))["main"].__globals__
    model = names["trained"](names["EPOCHS"])
    names["trained"] = lambda epochs: model
    layers = ("conv1", "conv2", "conv3", "fc1", "fc2")
    counts: dict[str, list[Tensor]] = {name: [] for name in layers}

    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda layer, x, _, name=name: counts[name].append(sum_with_ones(layer, x[0]))
        )
        for name in layers
    ]
    with torch.no_grad():
        for x, _ in names["digits"](1437, 1797):
            model(x)
    for hook in hooks:
        hook.remove()
    steps = names["STEPS"]
    by_layer = {
        name: torch.cat([torch.stack(c[i : i + steps]) for i in range(0, len(c), steps)], 1)
        for name, c in counts.items()
    }
    for name in ("IN_ORDER", "BALANCED"):
        report = names["measure"](model, names[name])
        on_cores = names["loads"](model, names[name])
        assert (report.samples, report.steps) == (360, steps)
        above = {}
        for core, members in names[name].items():
            found = torch.stack([by_layer[member] for member in members]).sum(0).double().numpy()
            samples, row = found.sum(0), report.groups[core]
            true = np.percentile(samples, 99, method="inverted_cdf")
            assert row.synops == pytest.approx(samples.mean(), rel=1e-12)
            assert (row.max, row.peak_step) == (samples.max(), found.max())
            assert true <= row.percentiles[99] <= true * 1.0109
            seconds = steps * names["DT"]
            figures = samples.mean() / seconds, true / seconds, found.max() / names["DT"]
            limits = names["SUSTAINED"], names["SUSTAINED"], names["FASTEST"]
            above[core] = [f > limit for f, limit in zip(figures, limits, strict=True)]
            load = on_cores.cores[core].synops
            effective = sum(report.layers[member].effective_synops for member in members)
            assert load.mean * steps == pytest.approx(effective)
            if effective == pytest.approx(row.synops):  # no weight is zero
                assert (load.max, load.peak_step) == (found.max(), 1 + found.max(1).argmax())
        said = [[v.name for v in found] for found in names["violations"](report).values()]
        assert said == [[core for core in above if above[core][i]] for i in range(3)]
        assert said == ([[], ["core1"], ["core1"]] if name == "IN_ORDER" else [[], [], []])
    busiest = on_cores.cores.busiest
    most = {core: on_cores.cores[core].synops.max for core in on_cores.cores}
    assert most[busiest] == max(most.values())
    names["FIGURE"] = tmp_path / "loads.png"
    names["main"]()
    out = capsys.readouterr().out
    assert [line.rpartition(": ")[2] for line in out.splitlines() if "Within" in line] == [
        *("yes", "no", "no"),
        *("yes", "yes", "yes"),
    ]
    assert re.findall(r"^Busiest: (core\d)", out, re.MULTILINE) == ["core1", busiest]
    assert names["FIGURE"].read_bytes().startswith(b"\x89PNG")
    assert out.count("core1: p99 of synops_per_second is ") == 1
    assert out.count("core1: peak_step of synops is ") == 1


SIZES = {"": 1, "k": 1e3, "M": 1e6, "nJ": 1e-9, "µJ": 1e-6, "%": 0.01, "steps": 1, "1/step": 1}


def columns_of(head: str, row: str) -> dict[str, float]:
    """Figures of a printed row in base units, by title; a dash is none."""
    found = {}
    titles = [re.fullmatch(r"(.*?)(?: \[(.*)\])?", title) for title in re.split(r" {2,}", head)[1:]]
    for title, cell in zip(titles, row.split()[1:], strict=True):
        assert title is not None
        if cell != "-":
            found[title[1]] = float(cell) * SIZES[title[2] or ""]
    return found


def test_images_of_clothes_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Files in the format of MNIST: big-endian head, then bytes; the first of them are taken."""
    names = runpy.run_path(str(PAPER))["fashion_mnist"].__globals__
    names.update(DATA=tmp_path, TRAIN=5, TEST=4)
    rng, written = np.random.default_rng(0), {}
    for part, count in (("train", 7), ("t10k", 4)):
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        written[part] = pixels, labels
        for name, head, data in (
            (f"{part}-images-idx3-ubyte.gz", (2051, count, 28, 28), pixels),
            (f"{part}-labels-idx1-ubyte.gz", (2049, count), labels),
        ):
            content = struct.pack(f">{len(head)}i", *head) + data.tobytes()
            (tmp_path / name).write_bytes(gzip.compress(content))
    for part, (images, classes) in zip(written, names["fashion_mnist"](), strict=True):
        pixels, labels = (data[:5] for data in written[part])
        assert images.shape == (len(pixels), 1, 28, 28)
        assert np.array_equal(images[:, 0].mul(255).round().numpy(), pixels)
        assert classes.tolist() == labels.tolist()


def test_paper_table_agrees_with_the_architecture(tmp_path: Path) -> None:
    """In a process of its own, after a short training on the digits."""
    command = [sys.executable, str(PAPER), "--digits", "--epochs", "1"]
    out = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=SECONDS
    ).stdout
    head, *rows = re.findall(r"^(?:method|ANN|SNN) .*", out, re.MULTILINE)
    ann, snn = (columns_of(head, row) for row in rows)
    # Of a kernel of three with stride two and padding, 2 + 3 + 3 + 3 taps are on a row of eight.
    conv1, *others = 11**2 * 16, 5**2 * 16 * 32, 128 * 128, 128 * 10
    ac, mac, close = 0.9e-12, 4.6e-12, functools.partial(pytest.approx, rel=0.01)
    assert ann["params"] == snn["params"] == close(16 * 10 + 32 * 145 + 128 * 129 + 10 * 129)
    assert ann["T"] * 5 == snn["T"] == 5
    assert ann["ACs"] == 0 < ann["MACs"] < conv1 + sum(others)  # zeros behind a ReLU are left out
    assert snn["MACs"] < conv1  # once, where the image is not black
    for found in (ann, snn):
        assert found["energy"] == close(found["MACs"] * mac + found["ACs"] * ac)
        assert 0.5 < found["accuracy"] <= 1
    last = re.findall(r"(\d+\.\d+)(?: times| events|\.$)", out, re.MULTILINE)[-5:]
    ratio, even, rate, with_traffic, with_memory = map(float, last)
    dense = (snn["MACs"] + sum(others)) * mac  # of the image both skip what is black
    assert ratio == pytest.approx(snn["energy"] / dense, abs=0.02)
    # Both have the same MACs in the first layer, so that they leave the quotient.
    assert even == pytest.approx(mac / (5 * ac), abs=0.002)
    assert rate == close(snn["ACs"] / (5 * sum(others)))
    assert min(with_traffic, with_memory) > ratio  # potentials are read and written in every step
    for found in (ann, snn):  # in µJ beside nJ
        assert found["energy with memory"] > found["energy"]
    named = set(re.findall(r"^([a-z-]+)(?:, subtotal)? ", out, re.MULTILINE))
    assert named >= set(sm.conventions.CONVENTIONS)
    assert "Nothing was measured: the energy above is an estimate." in out
    latex = PAPER.with_name("out") / "paper_table.tex"
    for row in rows:  # the cells that were printed
        assert " & ".join(row.split()).replace("%", r"\%") in latex.read_text()
    if COMPILER is not None:
        assert "Overfull" not in compiled(latex.read_text(), tmp_path)


def test_measured_energy_stands_in_the_table_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file of numbers that this test made up: 1.5 W over 2 s for 100 images."""
    names = runpy.run_path(str(PAPER))["main"].__globals__
    names["TABLE"] = tmp_path / "out" / "table.tex"
    file = tmp_path / "made_up.json"
    powers = {"active_power": [1.4, 1.5, 1.6], "idle_power": 1.0}
    entry = {"seconds": 2.0, "samples": 100, "setup": "made up by a test", **powers}
    file.write_text(json.dumps({"SNN": entry}))
    arguments = ["paper_table.py", "--digits", "--epochs", "1", "--measured", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    names["main"]()
    out = capsys.readouterr().out
    head, ann, snn = (
        re.split(r" {2,}", row) for row in re.findall(r"^(?:method|ANN|SNN) .*", out, re.MULTILINE)
    )
    assert head[-3:-1] == ["measured energy [mJ]", "dynamic energy [mJ]"]
    assert ann[-3:-1] == ["-", "-"]
    assert snn[-3:-1] == ["30.00 ± 1.15", "10.00 ± 1.15"]  # 2 s x 0.1 W / sqrt(3) / 100
    notes = " ".join(out.split())
    assert "SNN: measured: active power 1.500 ± 0.058 W, idle power 1 W (one number)" in notes
    assert "3 runs of 2 s (one number) for 100 samples; made up by a test" in notes
    assert "Nothing was measured" not in out
    assert re.search(r"SNN: measured energy is \S+ times the estimate", notes)
    assert r"30.00 \(\pm\) 1.15" in names["TABLE"].read_text()
    file.write_text(json.dumps({"mine": entry}))
    with pytest.raises(SystemExit):
        names["main"]()
    assert "--measured: expected ANN or SNN, found mine" in capsys.readouterr().err


def test_the_notebook_stores_what_its_cells_give() -> None:
    """Tables as Jupyter shows them; ``python -m tests.helpers.notebook`` writes them anew."""
    cells = json.loads((EXAMPLES / "report.ipynb").read_text())["cells"]
    assert cells == notebook.run(cells)
    tables = [
        "".join(output["data"]["text/html"])
        for cell in cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert len(tables) == 5
    assert all("<table>" in table and "</table>" in table for table in tables)


def test_the_time_at_which_synops_enter_the_loss_decides_whether_a_network_falls_silent() -> None:
    """The table of the guide is that of the script; training differs slightly between machines.

    Three of its six runs: without the term, and with one share of the loss early and late.
    """
    page = (EXAMPLES.parent / "docs" / "howto" / "regularising.md").read_text()
    table = re.findall(r"^\| ([\d.]+)% \| (\d) epochs \| (.*) \|$", page, re.MULTILINE)
    names, threads = runpy.run_path(str(EXAMPLES / "synops_weight.py")), torch.get_num_threads()
    rows = {(round(float(share) / 100, 6), int(n)): figures for share, n, figures in table}
    assert [*rows] == [*names["RUNS"]]
    names["main"].__globals__["RUNS"] = runs = ((0.0, 0), (0.01, 0), (0.01, 3))
    torch.set_num_threads(1)  # as the script does
    with redirect_stdout(StringIO()) as out:
        outcomes = names["main"]()
    torch.set_num_threads(threads)
    assert len(outcomes) == len(out.getvalue().splitlines()) - 1
    for run, found in zip(runs, outcomes, strict=True):
        weight, accuracy, synops, silent = rows[run].replace(",", "").split(" | ")
        assert run == (found.share, found.added_after)
        assert float(weight) == pytest.approx(found.weight, rel=0.1)
        assert float(accuracy) == pytest.approx(found.accuracy, abs=0.05)
        assert float(synops) == pytest.approx(found.synops, rel=0.3)
        assert float(silent.strip("%")) / 100 == pytest.approx(found.silent, abs=0.1)
    without, early, late = outcomes
    assert (early.silent, early.synops) == (1, 0)
    assert late.accuracy > 0.85
    assert late.synops < without.synops / 2
