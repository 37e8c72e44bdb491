"""Figures over samples, against every sample run alone, step by step, with weights of one."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.report.distribution import PERCENTILES, RESOLUTION
from tests.helpers.brute_force import Truth
from tests.helpers.ranks import Ranks, results_of
from tests.integration.models import CASES, Case

STEPS, SAMPLES = 3, 5
LAYERS = ("conv", "pooled", "fc")
Counts = dict[str, np.ndarray[Any, Any]]  # by layer: synops by step and sample


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    """Random spikes; samples, which come second, differ in how many they have."""
    rates = torch.linspace(0.2, 2, shape[1]).view(1, -1, *[1] * (len(shape) - 2)) * rate
    return (torch.rand(shape) < rates).float()


# ------------------------------------------------------------------------------- the truth


def expect(row: Any, counts: np.ndarray[Any, Any], timed: bool = True) -> None:
    """A row has the figures of these synops by step and sample."""
    samples = counts.astype(np.float64).sum(0)
    assert row.synops == pytest.approx(samples.mean(), rel=1e-12)
    assert row.std == pytest.approx(samples.std(), rel=1e-9, abs=1e-7)
    assert row.max == samples.max()
    for percent in PERCENTILES:
        true = np.percentile(samples, percent, method="inverted_cdf")
        assert true <= row.percentiles[percent] <= true * (1 + RESOLUTION) + 1e-9
    assert row.peak_step == (counts.max() if timed else None)


def expect_all(report: sm.Report, counts: Counts, timed: bool = True) -> None:
    """So have all layers, and their total."""
    assert {name for name, row in report.layers.items() if row.synops is not None} == set(counts)
    for name, found in counts.items():
        expect(report.layers[name], found, timed)
    expect(report.total, sum(counts.values()), timed)  # type: ignore[arg-type]


def fire(potential: Tensor) -> Tensor:
    return (potential >= 0.5).float()


class Net(nn.Module):
    """A convolution, one behind average pooling and a linear layer, in any layout of time.

    Neurons integrate; weights are multiples of 1/8, so that no sum depends on the batch.
    """

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.pooled = nn.Conv2d(3, 4, 2)
        self.fc = nn.Linear(36, 5)
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = torch.randint(-4, 6, parameter.shape, generator=generator) / 8
        self.reset()

    def reset(self) -> None:
        self.potentials: list[Any] = [0.0, 0.0]

    def neurons(self, i: int, currents: Tensor) -> Tensor:
        """Of one step."""
        self.potentials[i] = self.potentials[i] + currents
        emitted = fire(self.potentials[i])
        self.potentials[i] = self.potentials[i] - emitted
        return emitted

    def step(self, x: Tensor) -> Tensor:
        x = self.neurons(0, self.conv(x))
        x = self.neurons(1, self.pooled(F.avg_pool2d(x, 2)))
        return self.fc(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "outside":
            return self.step(x)
        if self.layout == "inside":
            return torch.stack([self.step(one) for one in x])
        return self.all_steps(x)

    def all_steps(self, x: Tensor) -> Tensor:
        """Layer by layer; convolutions see both dimensions as one, and so may ``fc``."""
        time = self.layout.index("T") and 1
        lead = x.shape[:2]

        def neurons(i: int, currents: Tensor) -> Tensor:
            steps = currents.unflatten(0, lead).unbind(time)
            return torch.stack([self.neurons(i, step) for step in steps], time).flatten(0, 1)

        x = neurons(0, self.conv(x.flatten(0, 1)))
        x = neurons(1, self.pooled(F.avg_pool2d(x, 2))).flatten(1)
        return self.fc(x if "*" in self.layout else x.unflatten(0, lead))


SCALE = {"pooled": 0.25}


def alone(net: Net, x: Tensor) -> Counts:
    """Every sample of ``(T, B, ...)`` on its own, every step on its own."""
    counts = {name: np.zeros(x.shape[:2]) for name in LAYERS}
    w = {name: getattr(net, name).weight for name in LAYERS}
    b = {name: getattr(net, name).bias for name in LAYERS}
    ones = {name: torch.ones_like(weight) for name, weight in w.items()}
    with torch.no_grad():
        for sample in range(x.shape[1]):
            v1, v2 = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 3, 3)
            for step in range(len(x)):
                image = x[step, sample][None]
                counts["conv"][step, sample] = F.conv2d(image, ones["conv"], padding=1).sum()
                v1 = v1 + F.conv2d(image, w["conv"], b["conv"], padding=1)
                s1 = fire(v1)
                v1 = v1 - s1
                sums = F.avg_pool2d(s1, 2) * 4
                counts["pooled"][step, sample] = F.conv2d(sums, ones["pooled"]).sum()
                v2 = v2 + F.conv2d(sums / 4, w["pooled"], b["pooled"])
                s2 = fire(v2)
                v2 = v2 - s2
                counts["fc"][step, sample] = F.linear(s2.flatten(1), ones["fc"]).sum()
    return counts


def measured(layout: str, *batches: Tensor, **declared: Any) -> sm.Report:
    """A report of batches ``(T, B, ...)``, given to the network as it takes them."""
    net = Net(layout)
    batch_first = layout[0] == "B"
    dims: dict[str, Any] = {"batch_dim": 0, "time_dim": 1} if batch_first else {"batch_dim": 1}
    if not batch_first:
        dims["time_dim"] = 0
    if layout == "outside":
        dims = {}
    monitor = sm.Monitor(net, per_sample=True, input_scale=SCALE, **dims, **declared)
    with torch.no_grad(), monitor:
        for x in batches:
            net.reset()
            if layout == "outside":
                with monitor.batch(samples=x.shape[1], steps=len(x)):
                    for step in x:
                        net(step)
            else:
                net(x.transpose(0, 1) if batch_first else x)
    return monitor.compute()


def images(steps: int = STEPS, samples: int = SAMPLES) -> Tensor:
    return spikes(steps, samples, 2, 8, 8)


# ----------------------------------------------------------------------------- all layouts

LAYOUTS = ("outside", "inside", "TB", "BT", "T*B", "B*T")
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@every_layout
def test_figures_are_those_of_samples_run_alone(layout: str) -> None:
    x = images()
    counts, report = alone(Net(layout), x), measured(layout, x)
    expect_all(report, counts)
    assert all(found.sum(0).std() > 0 for found in counts.values())
    assert (report.samples, report.steps) == (SAMPLES, STEPS)


@pytest.mark.slow
@every_layout
@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (4, 4), (1, 1), (2, 4), (6, 3), (2, 2)])
def test_sizes_that_could_be_mistaken_for_each_other(layout: str, shape: tuple[int, int]) -> None:
    x = images(*shape)
    expect_all(measured(layout, x), alone(Net(layout), x))


@every_layout
def test_batches_add_up(layout: str) -> None:
    x = images(samples=9)
    parts = [x[:, :4], x[:, 4:5], x[:, 5:5], x[:, 5:]]
    whole = measured(layout, x)
    cut = measured(layout, *parts)
    expect_all(cut, alone(Net(layout), x))
    assert cut.per_sample == whole.per_sample
    assert {n: d.per_sample for n, d in cut.layers_data.items()} == {
        n: d.per_sample for n, d in whole.layers_data.items()
    }


def test_batches_of_other_length_in_time() -> None:
    x, y = images(3, 4), images(5, 2)
    report = measured("inside", x, y)
    one, other = alone(Net("inside"), x), alone(Net("inside"), y)
    for name in LAYERS:
        samples = np.concatenate([one[name].sum(0), other[name].sum(0)])
        row = report.layers[name]
        assert (row.synops, row.max) == (pytest.approx(samples.mean()), samples.max())
        assert row.std == pytest.approx(samples.std())
        assert row.peak_step == max(one[name].max(), other[name].max())


@pytest.mark.parametrize("layout", ["inside", "TB", "T*B"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 6])
def test_chunks_of_time(layout: str, chunk: int) -> None:
    net, x = Net(layout), images(6, 4)
    dims = {"batch_dim": 1, "time_dim": 0}
    monitor = sm.Monitor(net, per_sample=True, input_scale=SCALE, **dims)
    with torch.no_grad(), monitor, monitor.batch(samples=4, steps=6):
        for part in x.split(chunk):
            net(part)
    expect_all(monitor.compute(), alone(Net(layout), x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("layout", ["outside", "TB"])
def test_modes_of_the_caller(layout: str, mode: Callable[[], Any]) -> None:
    x = images()
    with mode():
        report = measured(layout, x)
    expect_all(report, alone(Net(layout), x))


def test_the_first_dimension_that_is_flattened_may_be_the_input_itself() -> None:
    """A model of squeeze layers takes (B*T, ...): the order is declared, the sizes are told."""
    x = spikes(3, 4, 6)
    for order, dims in (("BT", (0, 1)), ("TB", (1, 0))):
        model = nn.Linear(6, 2)
        monitor = sm.Monitor(model, per_sample=True, batch_dim=dims[0], time_dim=dims[1])
        with monitor, monitor.batch(samples=4, steps=3):
            model((x.transpose(0, 1) if order == "BT" else x).flatten(0, 1))
        expect(monitor.compute().total, (x.sum(2) * 2).numpy())


# ------------------------------------------------------------------- tokens and attention


class Tokens(nn.Module):
    """Binary queries, keys and values of each token, whose products have no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 3) for _ in range(3))
        self.out = nn.Linear(3, 2)
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = torch.randint(-4, 6, parameter.shape, generator=generator) / 8

    def forward(self, x: Tensor) -> Tensor:  # (..., tokens, features)
        q, k, v = (fire(layer(x)) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1)
        return self.out(fire(scores @ v))


class TokensInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Tokens()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.block(step) for step in x])


def tokens_alone(model: Tokens, x: Tensor, prefix: str) -> Counts:
    names = ("q", "k", "v", "matmul", "matmul_1", "out")
    counts = {prefix + name: np.zeros(x.shape[:2]) for name in names}

    def note(name: str, value: Tensor) -> None:
        counts[prefix + name][t, b] = value

    with torch.no_grad():
        for t in range(x.shape[0]):
            for b in range(x.shape[1]):
                one = x[t, b]
                parts = []
                for name in "qkv":
                    layer = getattr(model, name)
                    note(name, F.linear(one, torch.ones_like(layer.weight)).sum())
                    parts.append(fire(F.linear(one, layer.weight, layer.bias)))
                q, k, v = parts
                note("matmul", (q @ k.T).sum())
                scores = q @ k.T
                note("matmul_1", ((scores != 0).float() @ v).sum())
                note("out", fire(scores @ v).sum() * 2)
    return counts


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4, 3), (3, 4, 4), (4, 4, 2), (1, 4, 4)])
def test_tokens_and_products_of_activations(shape: tuple[int, int, int]) -> None:
    x = spikes(*shape, 4, rate=0.6)
    for batch_first in (False, True):
        model = Tokens()
        monitor = sm.Monitor(
            model, per_sample=True, batch_dim=int(not batch_first), time_dim=int(batch_first)
        )
        with torch.no_grad(), monitor:
            model(x.transpose(0, 1) if batch_first else x)
        counts = tokens_alone(model, x, "")
        rows = {name.removeprefix("Tokens."): name for name in monitor.compute().layers}
        expect_all(monitor.compute(), {rows[name]: found for name, found in counts.items()})


def test_tokens_in_a_loop_over_steps() -> None:
    x = spikes(3, 5, 7, 4, rate=0.6)
    model = TokensInside()
    with torch.no_grad(), sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0) as monitor:
        model(x)
    expect_all(monitor.compute(), tokens_alone(model.block, x, "block."))
    outer = sm.Monitor(model.block, per_sample=True)
    with torch.no_grad(), outer, outer.batch(samples=5, steps=3):
        for step in x:
            model.block(step)
    assert outer.compute().per_sample == monitor.compute().per_sample


def test_positions_merged_into_the_batch_come_after_it() -> None:
    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.fc(step.flatten(0, 1)) for step in x])

    x, model = spikes(3, 5, 2, 4), Merged()
    with sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0) as monitor:
        model(x)
    expect(monitor.compute().layers["fc"], (x.sum((2, 3)) * 3).numpy())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("loop", [True, False])
def test_multi_head_attention(batch_first: bool, loop: bool) -> None:
    """Queries, keys and values are spikes; what is behind them is analog."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(4, 2, batch_first=batch_first)

        def one(self, x: Tensor) -> Tensor:
            x = x if batch_first else x.transpose(0, 1)
            out = self.attn(x, x, x, need_weights=False)[0]
            return out if batch_first else out.transpose(0, 1)

        def forward(self, x: Tensor) -> Tensor:  # (steps, samples, tokens, features)
            if loop:
                return torch.stack([self.one(step) for step in x])
            return self.one(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    x, model = spikes(3, 5, 6, 4), Attention()
    with torch.no_grad(), sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0) as monitor:
        model(x)
    report, counts = monitor.compute(), (x.sum((2, 3)) * 4).numpy()
    expect_all(report, {f"attn.{part}_proj": counts for part in "qkv"})
    for part in ("qk", "av", "out_proj"):
        row = report.layers[f"attn.{part}"]
        assert (row.synops, row.std, row.max, row.percentiles) == (None,) * 4


def test_attention_of_spikes_under_a_mask() -> None:
    class Attention(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    q, k, v = (spikes(2, 3, 2, 5, 4) for _ in range(3))  # (T, B, heads, tokens, features)
    model = Attention()
    with sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0) as monitor:
        model(q, k, v)
    qk = torch.einsum("tbhld,tbhsd->tb", q, k).numpy()
    allowed = torch.ones(5, 5).tril()
    av = torch.einsum("ls,tbhsd->tb", allowed, v).numpy()
    layers = monitor.compute().layers
    (one,) = (row for name, row in layers.items() if name.endswith("qk"))
    (other,) = (row for name, row in layers.items() if name.endswith("av"))
    expect(one, qk)
    expect(other, av)
    expect(monitor.compute().total, qk + av)


# ------------------------------------------------------------------------- the whole zoo

_ORDERS = ((0, None), (0, 1), (1, 0))
_ZOO = [case for case in CASES if case.cut and (case.batch_dim, case.time_dim) in _ORDERS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", _ZOO, ids=lambda case: case.name)
def test_every_model_of_the_zoo(case: Case) -> None:
    """Each sample on its own, counted by brute force; all frameworks, all odd layers."""
    x = case.inputs()
    report, maps = zoo_report(case, x), {}
    samples = [zoo_alone(case, part, maps) for part in x.split(1, case.batch_dim)]
    spiking = [name for name, row in report.layers.items() if row.synops is not None]
    assert spiking == [name for name in samples[0] if name in spiking]
    for name in spiking:
        counts = np.array([[sample[name] for sample in samples]])
        row = report.layers[name]
        assert row.max == counts.max()
        assert row.std == pytest.approx(counts.std(), abs=1e-6)
        for percent in PERCENTILES:
            true = np.percentile(counts, percent, method="inverted_cdf")
            assert true <= row.percentiles[percent] <= true * (1 + RESOLUTION) + 1e-9
    if report.per_sample is not None and spiking:
        total = np.array([sum(sample[name] for name in spiking) for sample in samples])
        assert report.total.max == total.max()
        assert report.total.std == pytest.approx(total.std(), abs=1e-6)


def zoo_report(case: Case, x: Tensor) -> sm.Report:
    model = case.model()
    monitor = sm.Monitor(
        model, per_sample=True, batch_dim=case.batch_dim, time_dim=case.time_dim, **case.declared
    )
    with torch.no_grad(), monitor:
        if not case.told:
            case.run(model, x)
        else:
            assert case.time_dim is not None
            with monitor.batch(x.shape[case.batch_dim], x.shape[case.time_dim]):
                case.run(model, x)
    return monitor.compute()


def zoo_alone(case: Case, x: Tensor, maps: dict[Any, list[int]]) -> Mapping[str, float]:
    model = case.model()
    declared = {name: case.declared.get(name, {}) for name in ("input_scale", "kinds")}
    truth = Truth(model, case.neurons, case.rules(), **declared)
    truth._maps = maps  # by weights and sizes: those of the samples are the same
    with truth, torch.no_grad():
        if case.listen is not None:
            case.listen(truth, model)
        case.run(model, x)
    return {name: row.synops for name, row in truth.layers().items()}


# ------------------------------------------------------- layers that are called in odd ways


class Loop(nn.Module):
    """A loop over steps with a layer that takes spikes, and what a test does besides."""

    def __init__(self, before: Any = None, step: Any = None, after: Any = None) -> None:
        super().__init__()
        self.fc, self.other = nn.Linear(6, 3), nn.Linear(6, 2)
        self.before, self.one, self.after = before, step, after

    def forward(self, x: Tensor) -> None:
        if self.before:
            self.before(self, x)
        for step in x:
            self.fc(step)
            if self.one:
                self.one(self, step)
        if self.after:
            self.after(self, x)


def loop(x: Tensor, **parts: Any) -> sm.Report:
    with sm.Monitor(Loop(**parts), per_sample=True, batch_dim=1, time_dim=0) as monitor:
        monitor.model(x)
    return monitor.compute()


def test_a_layer_called_several_times_per_step() -> None:
    """Or for all steps and then for all again: its own calls do not tell, so no peak is given."""
    x = spikes(3, 4, 6)
    report = loop(x, step=lambda net, step: (net.fc(1 - step), net.other(step)))
    expect(report.layers["fc"], np.full((1, 4), 54.0), timed=False)
    expect(report.layers["other"], (x.sum(2) * 2).numpy())
    total = (x.sum(2) * 2).numpy().sum(0, keepdims=True) + 54
    expect(report.total, total, timed=False)


def test_a_layer_called_once_outside_time_has_no_peak_step_and_nor_has_the_total() -> None:
    x = spikes(3, 4, 6)
    once = (x.sum(2) * 2).sum(0, keepdim=True).numpy()
    report = loop(x, after=lambda net, x: net.other(x.sum(0)))
    expect(report.layers["fc"], (x.sum(2) * 3).numpy())
    expect(report.layers["other"], once, timed=False)
    expect(report.total, (x.sum(2) * 3).numpy().sum(0, keepdims=True) + once, timed=False)
    report = loop(x, before=lambda net, x: net.other(x[0]))
    expect(report.layers["other"], (x[:1].sum(2) * 2).numpy(), timed=False)


def test_one_step_of_a_loop_outside_is_a_step_of_its_own() -> None:
    """A readout after the last step is called within it."""
    x, net = spikes(3, 4, 6), Loop()
    monitor = sm.Monitor(net, per_sample=True)
    with monitor, monitor.batch(samples=4, steps=3):
        for i, step in enumerate(x):
            net.after = (lambda net, x: net.other(x[0])) if i == 2 else None
            net(step[None])
    last = (x.sum(2) * 2).numpy() * np.array([[0], [0], [1]])
    expect(monitor.compute().layers["other"], last)
    expect(monitor.compute().total, (x.sum(2) * 3).numpy() + last)


def test_a_layer_called_in_some_batches_has_zeros_for_the_other_samples() -> None:
    x, net = spikes(3, 4, 6), Loop()
    with sm.Monitor(net, per_sample=True, batch_dim=1, time_dim=0) as monitor:
        net(x)
        net.one = lambda net, step: net.other(step)
        net(x)
        net(1 - x)
    fc = (torch.cat([x, x, 1 - x], 1).sum(2) * 3).numpy()
    other = (torch.cat([x * 0, x, 1 - x], 1).sum(2) * 2).numpy()
    expect_all(monitor.compute(), {"fc": fc, "other": other})


def test_without_steps_there_is_no_peak_step() -> None:
    x, net = spikes(3, 4, 6), nn.Linear(6, 2)
    monitor = sm.Monitor(net, per_sample=True, batch_dim=0)
    with monitor:
        net(x[0])
    with monitor, monitor.batch(samples=4):
        net(x[1])
        net(x[2])
    samples = torch.cat([x[0], x[1] + x[2]]).sum(1)[None] * 2
    expect(monitor.compute().total, samples.numpy(), timed=False)


def test_one_batch_without_steps_is_enough_to_lose_the_peak_step() -> None:
    x, net = spikes(3, 4, 6), nn.Linear(6, 2)
    monitor = sm.Monitor(net, per_sample=True)
    with monitor:
        for steps in (1, None):
            with monitor.batch(samples=4, steps=steps):
                net(x[0])
            assert (monitor.compute().total.peak_step is None) == (steps is None)
    assert monitor.compute().total.max == x[0].sum(1).max() * 2


# -------------------------------------------------------------------------- analog inputs


def test_a_direct_coded_first_layer_is_left_out() -> None:
    """With time inside: the dimensions give the order, `batch` the sizes."""

    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 2, 3), nn.Linear(18, 4)

        def forward(self, image: Tensor) -> Tensor:
            currents, noise = self.first(image), torch.linspace(-1, 1, STEPS)
            spikes = torch.stack([fire(currents.flatten(1) + n) for n in noise])
            return self.second(spikes)  # (steps, samples, ...)

    model, x = Direct(), torch.rand(SAMPLES, 1, 5, 5)
    noise = torch.linspace(-1, 1, STEPS)
    emitted = torch.stack([fire(model.first(x).flatten(1) + n) for n in noise])
    monitor = sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0)
    with torch.no_grad(), monitor, monitor.batch(samples=SAMPLES, steps=STEPS):
        model(x)
    report = monitor.compute()
    first = report.layers["first"]
    assert (first.kind, first.synops, first.std, first.max) == ("analog", None, None, None)
    assert (first.percentiles, first.peak_step) == (None, None)
    expect_all(report, {"second": (emitted.sum(2) * 4).numpy()})
    assert not any("samples" in note for note in report.notes)


def test_a_layer_that_is_analog_in_some_calls_leaves_no_figures_of_groups() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 1)

        def forward(self, x: Tensor, y: Tensor) -> None:
            self.a(x), self.b(y)

    model, x = Two(), torch.ones(2, 3)
    groups = {"both": ["a", "b"], "one": ["b"]}
    monitor = sm.Monitor(model, batch_dim=0, per_sample=True, groups=groups)
    with monitor:
        model(x, x)
        assert monitor.compute().total.max == 9
        model(x / 3, x)
    report = monitor.compute()
    assert (report.layers["a"].max, report.total.max, report.groups["both"].max) == (None,) * 3
    assert (report.layers["b"].max, report.groups["one"].max) == (3, 3)
    assert any(note.startswith("a: analog in some calls") for note in report.notes)
    assert "declare its kind" in " ".join(str(report).split())
    with pytest.raises(ValueError, match="one kind of input per layer"):
        report.check({"both": sm.Limit(synops=1, statistic="max")})
    assert report.check({"one": sm.Limit(synops=2, statistic="max")})
    declared = sm.Monitor(model, batch_dim=0, per_sample=True, kinds={"a": "analog"})
    with declared:
        model(x, x)
        model(x / 3, x)
    assert declared.compute().total.max == 3
    assert declared.compute().notes == ()


def test_a_model_of_analog_layers_is_not_within_any_budget() -> None:
    model = nn.Linear(3, 2)
    with sm.Monitor(model, batch_dim=0, per_sample=True, groups={"all": ["*"]}) as monitor:
        model(torch.rand(4, 3))
    for name in ("total", "all", "Linear"):
        for statistic in ("mean", "max", "p99", "peak_step"):
            with pytest.raises(ValueError, match="expected spikes at its input"):
                monitor.compute().check({name: sm.Limit(synops=1, statistic=statistic)})


# --------------------------------------------------------------------------------- groups


def test_a_group_has_the_figures_of_the_sum() -> None:
    x = images()
    groups = {
        "front": ["conv", "pooled"],
        "back": ["pooled", "fc"],  # both have the second one
        "pattern": ["*o*"],
        "all": ["*"],
    }
    counts, report = alone(Net("TB"), x), measured("TB", x, groups=groups)
    assert {name: row.layers for name, row in report.groups.items()} == {
        "front": ("conv", "pooled"),
        "back": ("pooled", "fc"),
        "pattern": ("conv", "pooled"),
        "all": LAYERS,
    }
    for row in report.groups.values():
        expect(row, sum(counts[name] for name in row.layers))  # type: ignore[arg-type]
        assert row.acs == pytest.approx(sum(report.layers[name].acs for name in row.layers))
    assert report.groups["all"].max == report.total.max
    assert report.groups["front"].std < sum(report.layers[n].std for n in ("conv", "pooled"))
    assert report.groups["front"].max <= sum(report.layers[n].max for n in ("conv", "pooled"))


def test_groups_of_modules_with_parts() -> None:
    x, model = spikes(3, 5, 7, 4, rate=0.6), TokensInside()
    groups = {
        "block0": ["block"],
        "products": ["block.matmul*"],
        "one": ("block.matmul_1",),
        "queries": {"block.q", "block.k"},
    }
    monitor = sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0, groups=groups)
    with torch.no_grad(), monitor:
        model(x)
    report, counts = monitor.compute(), tokens_alone(model.block, x, "block.")
    expect(report.groups["block0"], sum(counts.values()))  # type: ignore[arg-type]
    expect(report.groups["products"], counts["block.matmul"] + counts["block.matmul_1"])
    expect(report.groups["one"], counts["block.matmul_1"])
    expect(report.groups["queries"], counts["block.q"] + counts["block.k"])


def test_groups_need_no_samples() -> None:
    net, x = Net("inside"), images()
    groups = {"core": ["conv", "fc"]}
    monitor = sm.Monitor(net, batch_dim=1, time_dim=0, groups=groups, input_scale=SCALE, dt=0.01)
    with torch.no_grad(), monitor:
        net(x)
    report, counts = monitor.compute(), alone(Net("inside"), x)
    row, found = report.groups["core"], counts["conv"] + counts["fc"]
    assert row.synops == pytest.approx(found.sum() / SAMPLES)
    assert row.synops_per_second == pytest.approx(found.sum() / SAMPLES / (STEPS * 0.01))
    assert (row.max, report.total.max) == (None, None)
    with pytest.raises(ValueError, match="per_sample=True"):
        report.check({"core": sm.Limit(synops=1, statistic="max")})
    assert report.check({"core": sm.Limit(synops=1)})


def test_a_group_of_which_nothing_was_seen_is_said() -> None:
    net = Loop()
    monitor = sm.Monitor(
        net, batch_dim=1, time_dim=0, per_sample=True, groups={"idle": ["other"], "busy": ["fc"]}
    )
    with monitor:
        net(spikes(3, 4, 6))
    report = monitor.compute()
    assert (report.groups["idle"].layers, report.groups["idle"].max) == ((), None)
    assert any("groups['idle']" in note and "'other'" in note for note in report.notes)
    with pytest.raises(ValueError, match="limits"):
        report.check({"idle": sm.Limit(synops=1, statistic="max")})


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"core": ["conv3"]}, ValueError, r"groups\['core'\]: .*found 'conv3'"),
        ({"core": ["x*"]}, ValueError, r"groups\['core'\]: .*found 'x\*'"),
        ({"core": []}, (TypeError, ValueError), r"groups\['core'\]"),
        ({"core": "conv"}, TypeError, r"groups\['core'\]: expected a list of names, found 'conv'"),
        ({"conv": ["fc"]}, ValueError, "groups: expected a name that no layer has, found 'conv'"),
        (
            {"total": ["fc"]},
            ValueError,
            "groups: expected a name that no layer has, found 'total'",
        ),
        ([["conv"]], TypeError, "groups: expected a mapping"),
    ],
)
def test_bad_groups(groups: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        sm.Monitor(Net("inside"), groups=groups)


# ------------------------------------------------------------------------------ durations


def recordings(*lengths: tuple[Tensor, float | None], **declared: Any) -> sm.Report:
    model = nn.Linear(6, 2)
    groups = {"all": ["*"]}
    monitor = sm.Monitor(model, per_sample=True, groups=groups, **declared)
    with monitor:
        for x, seconds in lengths:
            with monitor.batch(samples=x.shape[1], steps=len(x), seconds=seconds):
                for step in x:
                    model(step)
    return monitor.compute()


def test_recordings_of_different_length() -> None:
    """The mean is total / total seconds; a percentile is that of the rates of samples."""
    x, y = spikes(3, 4, 6), spikes(7, 3, 6)
    report = recordings((x, 0.5), (y, 4.0))
    totals = [(z.sum(2) * 2).numpy() for z in (x, y)]
    seconds = 4 * 0.5 + 3 * 4.0
    mean = (totals[0].sum() + totals[1].sum()) / seconds
    rates = np.concatenate([totals[0].sum(0) / 0.5, totals[1].sum(0) / 4.0])
    assert mean != pytest.approx(rates.mean())
    assert report.seconds == seconds
    peak = max(totals[0].max() / (0.5 / 3), totals[1].max() / (4.0 / 7))
    for row in (report.total, report.groups["all"], report.layers["Linear"]):
        assert row.synops_per_second == pytest.approx(mean, rel=1e-12)
    for spread in (
        report.per_second,
        report.groups_data["all"].per_second,
        report.layers_data["Linear"].per_second,
    ):
        assert spread is not None
        assert spread.total == pytest.approx(rates.sum(), rel=1e-12)
        assert spread.std == pytest.approx(rates.std())
        assert spread.largest == pytest.approx(rates.max(), rel=1e-12)
        assert spread.peak_step == pytest.approx(peak, rel=1e-12)
        for percent, value in spread.percentiles.items():
            true = np.percentile(rates, percent, method="inverted_cdf")
            assert true * (1 - 1e-12) <= value <= true * (1 + RESOLUTION) * (1 + 1e-12)
    above = sm.Limit(synops_per_second=rates.max() * 0.99, statistic="max")
    (violation,) = report.check({"all": above})
    assert violation.value == pytest.approx(rates.max())
    assert report.check({"all": sm.Limit(synops_per_second=mean * 1.001)}) == []
    assert report.step_seconds == pytest.approx(seconds / (3 * 4 + 7 * 3))


def test_dt_gives_the_duration_from_the_steps() -> None:
    x, y = spikes(3, 4, 6), spikes(7, 3, 6)
    told, known = recordings((x, 0.3), (y, 0.7)), recordings((x, None), (y, None), dt=0.1)
    assert known.seconds == pytest.approx(told.seconds)
    assert known.total.synops_per_second == pytest.approx(told.total.synops_per_second)
    one, other = known.per_second, told.per_second
    assert one is not None
    assert other is not None
    assert one.total == pytest.approx(other.total)
    assert one.peak_step == pytest.approx(other.peak_step)
    assert one.peak_step == pytest.approx(max(x.sum(2).max(), y.sum(2).max()).item() * 2 / 0.1)


def test_seconds_beside_dt_are_refused() -> None:
    monitor = sm.Monitor(nn.Linear(6, 2), dt=0.1)
    refused = pytest.raises(ValueError, match=r"seconds: .*dt=0.1.* found 2")
    with monitor, refused, monitor.batch(samples=1, steps=3, seconds=2.0):
        pass


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_bad_seconds(seconds: Any) -> None:
    monitor = sm.Monitor(nn.Linear(6, 2))
    refused = pytest.raises((TypeError, ValueError), match="seconds")
    with monitor, refused, monitor.batch(samples=1, seconds=seconds):
        pass


def test_a_duration_that_is_not_known_of_one_batch_is_not_known() -> None:
    x = spikes(3, 4, 6)
    for report in (
        recordings((x, 0.5), (x, None)),
        recordings((x, None)),
    ):
        assert (report.seconds, report.per_second) == (None, None)
        assert report.total.synops_per_second is None
        assert report.per_sample is not None
        with pytest.raises(ValueError, match="known durations"):
            report.check({"all": sm.Limit(synops_per_second=1.0)})
    untimed = sm.Monitor(nn.Linear(6, 2), per_sample=True, batch_dim=0, dt=0.1)
    with untimed:
        untimed.model(x[0])
    assert untimed.compute().seconds is None
    with untimed, untimed.batch(samples=0, steps=3):
        untimed.model(x[0, :0])
    assert untimed.compute().samples == 4


# ------------------------------------------------------- copies, processes, starting afresh


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_monitor_goes_on_counting(copier: Callable[[Any], Any]) -> None:
    net, x, y = Net("inside"), images(), images()
    groups = {"core": ["conv", "fc"]}
    dims: dict[str, Any] = {"batch_dim": 1, "time_dim": 0, "dt": 0.1}
    monitor = sm.Monitor(net, per_sample=True, input_scale=SCALE, groups=groups, **dims)
    with torch.no_grad(), monitor:
        net(x)
        twin = copier(monitor)
        assert twin.compute() == monitor.compute()
        net.reset()
        net(y)
    with torch.no_grad(), twin:
        twin.model.reset()
        twin.model(y)
    assert twin.compute() == monitor.compute()
    both = alone(net, torch.cat([x, y], 1))
    expect_all(twin.compute(), both)
    expect(twin.compute().groups["core"], both["conv"] + both["fc"])


def test_reset_forgets_all_samples() -> None:
    net, x, y = Net("inside"), images(), images(2, 3)
    monitor = sm.Monitor(net, per_sample=True, input_scale=SCALE, batch_dim=1, time_dim=0)
    with torch.no_grad(), monitor:
        net(x)
        monitor.reset()
        assert monitor.compute().total.max is None
        assert monitor.compute().samples == 0
        net.reset()
        net(y)
    expect_all(monitor.compute(), alone(net, y))


def test_nothing_seen_and_empty_batches() -> None:
    net = Net("TB")
    monitor = sm.Monitor(net, per_sample=True, batch_dim=1, time_dim=0, input_scale=SCALE)
    assert monitor.compute().total.percentiles is None
    with torch.no_grad(), monitor:
        net(images(3, 0))
    report = monitor.compute()
    assert (report.samples, report.total.max) == (0, None)
    assert str(report)
    with pytest.raises(ValueError, match="at least one sample"):
        report.check({"total": sm.Limit(synops=1, statistic="max")})


def test_memory_does_not_grow_with_samples() -> None:
    model = nn.Linear(6, 2)
    sizes = []
    with sm.Monitor(model, per_sample=True, batch_dim=0) as monitor:
        for _ in range(3):
            for _ in range(20):
                model(spikes(1, 50, 6)[0])
            sizes.append(len(pickle.dumps(monitor._state)))
    assert max(sizes) - min(sizes) < 200  # digits of numbers


def test_accelerators_are_not_waited_for() -> None:
    """On ``meta`` tensors reading a value raises."""
    net = Net("TB").to("meta")
    monitor = sm.Monitor(net, per_sample=True, batch_dim=1, time_dim=0, groups={"g": ["fc"]}, dt=1)
    with torch.no_grad(), monitor:
        net(images().to("meta"))
    names = monitor._state.names()
    assert {(key[1], names.get(key[2], key[2])) for key in monitor._state.distributions} == {
        *(("layer", name) for name in LAYERS),
        ("group", "g"),
        ("total", ""),
    }


def _share(batches: list[Tensor], skip: bool) -> sm.Report:
    net = Loop(step=None if skip else lambda net, step: net.other(step))
    groups = {"both": ["fc", "other"]}
    monitor = sm.Monitor(net, per_sample=True, batch_dim=1, time_dim=0, groups=groups, dt=0.001)
    with monitor:
        for x in batches:
            net(x)
    return monitor.compute()


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("cut", [2, 3, 0, 4])
def test_two_processes_give_the_report_of_one(two_ranks: Ranks, cut: int) -> None:
    batches = [spikes(3, samples, 6) for samples in (4, 4, 1, 3)]
    single = _share(batches, skip=False)
    shares = [(batches[:cut], False), (batches[cut:], False)]
    for report in results_of(two_ranks.run(_share, shares)):
        assert report == single
    x = torch.cat(batches, 1)
    expect(single.groups["both"], (x.sum(2) * 5).numpy())


def _share_in_layout(layout: str, *batches: Tensor) -> sm.Report:
    groups = {"front": ["conv", "pooled"]}
    return measured(layout, *batches, groups=groups, dt=0.001)


@pytest.mark.xdist_group("ranks")
@every_layout
def test_two_processes_have_the_figures_of_samples_run_alone(two_ranks: Ranks, layout: str) -> None:
    """With shares that differ, of which one comes in two batches."""
    x = images(samples=9)
    shares = [(layout, x[:, :2]), (layout, x[:, 2:3], x[:, 3:])]
    counts = alone(Net(layout), x)
    for report in results_of(two_ranks.run(_share_in_layout, shares)):
        expect_all(report, counts)
        expect(report.groups["front"], counts["conv"] + counts["pooled"])
        assert (report.samples, report.seconds) == (9, 9 * STEPS * 0.001)


@pytest.mark.xdist_group("ranks")
def test_a_process_that_lacks_a_layer_has_zeros_for_it(two_ranks: Ranks) -> None:
    batches = [spikes(3, samples, 6) for samples in (4, 2)]
    shares = [(batches[:1], True), (batches[1:], False)]
    reports = results_of(two_ranks.run(_share, shares))
    assert reports[0] == reports[1]
    fc = (torch.cat(batches, 1).sum(2) * 3).numpy()
    other = (torch.cat([batches[0] * 0, batches[1]], 1).sum(2) * 2).numpy()
    expect_all(reports[0], {"fc": fc, "other": other})


# --------------------------------------------------------------------------------- errors


class Takes(nn.Module):
    """Gives its layer whatever a test makes of the input, as often as it likes."""

    def __init__(self, *inputs: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)
        self.inputs = inputs

    def forward(self, x: Tensor) -> None:
        for function in self.inputs:
            self.fc(function(x))


TIME_FIRST = {"batch_dim": 1, "time_dim": 0}
BATCH_FIRST = {"batch_dim": 0, "time_dim": 1}


def _turned(x: Tensor) -> Tensor:
    return x.transpose(0, 1)


@pytest.mark.parametrize(
    ("dims", "shape", "inputs", "found"),
    [
        # no size of a dimension fits
        (TIME_FIRST, (3, 4, 6), [lambda x: x[:2]], r"\(2, 4\) in 1 call"),
        (TIME_FIRST, (3, 4, 6), [lambda x: x[:, :3].flatten(0, 1)], r"\(9,\) in 1 call"),
        (TIME_FIRST, (3, 4, 6), [lambda x: x[0, :3]] * 3, r"\(3,\) in 3 call"),
        (BATCH_FIRST, (4, 3, 6), [_turned], r"\(3, 4\) in 1 call"),
        (BATCH_FIRST, (4, 3, 6), [lambda x: x[:, :2].flatten(0, 1)], r"\(8,\) in 1 call"),
        ({"batch_dim": 0}, (4, 6), [lambda x: x.repeat(3, 1)], r"\(12,\) in 1 call"),
        ({"batch_dim": 0}, (4, 6), [lambda x: x.expand(3, 4, 6)], r"\(3, 4\) in 1 call"),
        # chunks of the model's own
        (TIME_FIRST, (4, 3, 6), [lambda x: x[:2], lambda x: x[2:]], r"\(2, 3\) in 2 call"),
        # the same size for one step with positions and for all steps
        (TIME_FIRST, (2, 4, 6), [lambda x: x.flatten(0, 1)] * 2, r"\(8,\) in 2 call"),
        (TIME_FIRST, (3, 3, 6), [lambda x: x] * 3, r"\(3, 3\) in 3 call"),
        # positions before the batch
        (
            TIME_FIRST,
            (2, 4, 5, 6),
            [lambda x: x[0].repeat(1, 4, 1).transpose(0, 1)] * 2,
            r"\(20, 4\) in 2 call",
        ),
        (TIME_FIRST, (3, 4, 8, 6), [lambda x: x[0].transpose(0, 1)] * 3, r"\(8, 4\) in 3 call"),
        (
            TIME_FIRST,
            (3, 2, 12, 6),
            [lambda x: x.flatten(0, 1).transpose(0, 1)],
            r"\(12, 6\) in 1 call",
        ),
        # the steps alone, and samples with positions
        (TIME_FIRST, (4, 4, 2, 6), [lambda x: x.flatten(1, 2)], r"\(4, 8\) in 1 call"),
    ],
)
def test_leading_dimensions_that_do_not_tell(
    dims: dict[str, int], shape: tuple[int, ...], inputs: list[Any], found: str
) -> None:
    """It raises, names the layer and the sizes, and counts nothing of the batch."""
    model = Takes(lambda x: x.amax(0) if dims == TIME_FIRST else x)
    x = torch.ones(shape)
    if x.ndim == 4 and dims == TIME_FIRST:
        model.inputs = (lambda x: x,)
    monitor = sm.Monitor(model, per_sample=True, **dims)
    with monitor:
        if shape[0] != shape[1]:
            model(x[:, :, 0] if x.ndim == 4 else x)
        before = monitor.compute()
        model.inputs = tuple(inputs)
        message = (
            rf"per_sample: fc: expected .* distinguish the {shape[dims['batch_dim']]} samples from "
            rf"the time steps, found leading dimensions {found}"
        )
        with pytest.raises(ValueError, match=message):
            model(x)
        assert monitor.compute() == before


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (12,), (4, 4, 2)])
@pytest.mark.parametrize("steps", [3, 4, None])
def test_without_an_order_only_the_batch_may_come_first(
    shape: tuple[int, ...], steps: int | None
) -> None:
    monitor = sm.Monitor(nn.Linear(6, 2), per_sample=True)
    message = r"in no declared order. Give Monitor\(..., batch_dim=1, time_dim=0"
    with monitor, pytest.raises(ValueError, match=message), monitor.batch(4, steps):
        monitor.model(torch.ones(*shape, 6))
    assert monitor.compute().samples == 0


def test_figures_whose_squares_are_beyond_float64_are_refused() -> None:
    monitor = sm.Monitor(nn.Linear(2, 2, dtype=torch.float64), per_sample=True, batch_dim=0)
    with monitor:
        monitor.model(torch.ones(1, 2, dtype=torch.float64))
        before = monitor.compute()
        with (
            pytest.raises(ValueError, match=r"per_sample: expected squares .* up to 4e\+200"),
            monitor.batch(samples=1, seconds=1e-200),
        ):
            monitor.model(torch.ones(1, 2, dtype=torch.float64))
    assert monitor.compute() == before


def test_chunks_of_unequal_length_are_refused() -> None:
    model, x = nn.Linear(6, 2), spikes(6, 4, 6)
    monitor = sm.Monitor(model, per_sample=True, **TIME_FIRST)

    def chunks(*sizes: int) -> None:
        with monitor.batch(samples=4, steps=sum(sizes)):
            for chunk in x[: sum(sizes)].split(sizes):
                model(chunk)

    with monitor:
        model(x)
        before = monitor.compute()
        with pytest.raises(ValueError, match=r"same number .* in each call .*steps=5 in 2 calls"):
            chunks(3, 2)
        with pytest.raises(ValueError, match=r"Linear: .*\(2, 4\) in 1 call.* 3 time step"):
            chunks(4, 2)
        assert monitor.compute() == before
        chunks(2, 2, 2)
    assert monitor.compute().total.peak_step == before.total.peak_step


@pytest.mark.parametrize("dims", [(1, None), (2, 0), (0, 2), (None, 0), (-1, None), (1, 1)])
def test_orders_that_cannot_be_told_apart(dims: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match=r"per_sample: expected batch_dim and time_dim to be"):
        sm.Monitor(nn.Linear(6, 2), per_sample=True, batch_dim=dims[0], time_dim=dims[1])
    sm.Monitor(nn.Linear(6, 2), batch_dim=dims[0], time_dim=dims[1])


def test_a_single_sample_may_be_anywhere() -> None:
    """All vectors are its own, whatever dimension is called the batch."""
    x = spikes(1, 1, 3, 6)[0]
    for shape in ((1, 1, 3, 6), (1, 3, 6), (3, 1, 6)):
        model = nn.Linear(6, 2)
        monitor = sm.Monitor(model, per_sample=True, **TIME_FIRST)
        with monitor, monitor.batch(samples=1, steps=1):
            model(x.reshape(shape))
        assert monitor.compute().total.max == x.sum() * 2
    monitor = sm.Monitor(model, per_sample=True)
    with monitor, monitor.batch(samples=1):
        model(x[None])
    assert monitor.compute().total.max == x.sum() * 2


def test_the_code_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """From figures over samples on, where the blocks build on each other."""
    guide = (Path(__file__).parents[2] / "docs" / "howto" / "monitor.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide.partition("## Over samples")[2], re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 4
    out = capsys.readouterr().out
    assert "core1: p99 of synops_per_second is " in out
    assert "None" not in out


@pytest.mark.parametrize("neurons", [5, 200_000])
def test_products_that_share_all_dimensions_are_told_sample_by_sample(neurons: int) -> None:
    class Similarity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bi,bi->b", x, x * 1)

    x = (torch.rand(4, neurons) < 0.5).float()
    monitor = sm.Monitor(Similarity(), batch_dim=0, per_sample=True)
    with monitor, torch.no_grad():
        monitor.model(x)
    row = monitor.compute().layers["Similarity.einsum"]
    assert (row.synops, row.max) == (x.sum() / 4, x.sum(1).max())


@pytest.mark.parametrize("equation", ["ij,bjk->bik", "XZ,AZY->AXY", "ij,yzjk->yzik"])
def test_letters_of_an_einsum_do_not_tell_its_batch(equation: str) -> None:
    """The left operand is one for all samples; a matrix product has the batch in front."""
    right = (torch.rand(2, 5, 3, 4) < 0.5).float()
    right = right if right.ndim == len(equation.split("->")[0].split(",")[1]) else right[0]

    def measure(product: Callable[[Tensor], Tensor]) -> sm.Report:
        model = nn.Identity()
        model.forward = product  # type: ignore[method-assign]
        monitor = sm.Monitor(model, batch_dim=0, per_sample=True)
        with monitor, torch.no_grad():
            monitor.model(right)
        return monitor.compute()

    with pytest.raises(ValueError, match=r"per_sample: Identity\.einsum: expected an input whose"):
        measure(lambda x: torch.einsum(equation, torch.ones(7, 3), x))
    row = measure(lambda x: torch.matmul(torch.ones(7, 3), x)).layers["Identity.matmul"]
    assert row.max == 7 * right.flatten(1).sum(1).max()


def test_a_product_whose_factors_each_lack_a_batch_dimension() -> None:
    """Samples are in the left factor, heads in the right one."""

    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ y

    x, y = (torch.rand(4, 1, 3, 5) < 0.5).float(), (torch.rand(1, 2, 5, 6) < 0.5).float()
    monitor = sm.Monitor(Product(), batch_dim=0, per_sample=True, per_step=True, steps=1)
    with torch.no_grad(), monitor:
        monitor.model(x, y)
    both = (x.unsqueeze(-1).ne(0) & y.unsqueeze(-3).ne(0)).double().sum((1, 2, 3, 4))
    report = monitor.compute()
    row = report.layers["Product.matmul"]
    assert (row.synops, row.max) == (both.mean(), both.max())
    events = report.layers_data["Product.matmul"].curves["events"].mean
    assert events.item() == pytest.approx(x.sum().item() / 4)
