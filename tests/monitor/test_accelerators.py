"""Monitors on an accelerator: the counts of the host, few launches, nothing that grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.monitor import device_calls, tracer
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.spec import OpSpec
from snnmetrics.report.run_data import RowTotals
from snnmetrics.synapses.maps import convolution_paths
from snnmetrics.tensors.accelerators import roads, workspace
from snnmetrics.tensors.accelerators.lines import TOTALS
from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.triton_road import TritonRoad
from snnmetrics.tensors.accelerators.workspace import Workspace
from tests.frozen import COUNTS
from tests.frozen.models import figures
from tests.frozen.models import reports as frozen
from tests.helpers.accelerators import (
    HAS_CUDA,
    INTERPRETED,
    Launches,
    NoKernels,
    road_named,
    taken,
)
from tests.helpers.toy import Fire, Surrogate
from tests.integration.models import CASES
from tests.integration.test_frameworks import assert_as_by_brute_force

every_road = pytest.mark.parametrize("name", ["torch", INTERPRETED])
# Of each framework, and of the operations that take ways of their own.
SAMPLE = [case for number, case in enumerate(CASES) if number % 6 == 0]
TILE = 2**14  # the interpreter takes its time per tile


class Net(nn.Module):
    """Convolutions and linear layers, spikes between them, and a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=2, groups=2)
        self.spike = Surrogate(0.0)
        self.fc = nn.Linear(54, 5)
        self.readout = nn.Linear(5, 3)
        with torch.no_grad():
            self.conv.weight[:, 1] = 0
            self.grouped.weight[1::2, :, 1] = 0
            self.fc.weight[:, ::3] = 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.spike(self.grouped(self.spike(self.conv(x)))).flatten(1)
        out = self.spike(self.fc(hidden))
        return self.readout(out) @ out.new_ones(3, 2).cumsum(0) + out.sum()


def spikes(samples: int = 6) -> Tensor:
    return (torch.rand(samples, 2, 6, 6) < 0.4).float()


def reports(model: nn.Module, batches: list[Tensor], name: str, **options: Any) -> Iterator[Any]:
    """What the host counts, and what a road counts."""
    road, _ = road_named(name, TILE)
    for around in (nullcontext(), taken(road)):
        monitor = sm.Monitor(model, batch_dim=0, **options)
        with around:
            with torch.no_grad(), monitor:
                for batch in batches:
                    model(batch)
            yield monitor.compute()


# -------------------------------------------------------------------------------- counts


@every_road
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore")  # of the frameworks
def test_counts_are_those_of_brute_force(case: Any, name: str) -> None:
    with taken(road_named(name, TILE)[0]):
        assert_as_by_brute_force(case, "cpu")


@every_road
def test_every_option_gives_what_the_host_gives(name: str) -> None:
    options = {"per_neuron": True, "per_sample": True, "groups": {"both": ["conv", "grouped"]}}
    batches = [spikes(), spikes(3) * 2]
    host, road = reports(Net(), batches, name, **options)
    assert figures(road) == figures(host)
    for layer, row in host.layers_data.items():
        expected, found = row.synops_per_neuron, road.layers_data[layer].synops_per_neuron
        if row.operation.weight_shape is None:  # a product has no map
            assert expected is found is None
        else:
            assert torch.allclose(found, expected, rtol=1e-13, atol=0)
        assert road.layers_data[layer].per_sample == row.per_sample
    assert host.layers_data["conv"].per_sample is not None


@every_road
def test_an_analog_batch_has_its_own_counts(name: str) -> None:
    host, road = reports(Net(), [spikes(), spikes() * 0.7], name)
    assert set(host.layers_data["conv"].counts) == {"binary", "analog"}
    found, expected = figures(road)["layers"], figures(host)["layers"]
    assert found.keys() == expected.keys()
    for layer, counts in expected.items():
        for kind, values in counts["counts"].items():
            assert found[layer]["counts"][kind] == pytest.approx(values, rel=1e-12)


@every_road
def test_synops_of_a_batch_have_the_gradient_of_the_host(name: str) -> None:
    model, x = Net(), spikes()
    gradients = []
    for around in (nullcontext(), taken(road_named(name, TILE)[0])):
        monitor = sm.Monitor(model, batch_dim=0, differentiable=True)
        model.zero_grad()
        with around, monitor:
            model(x)
        found = monitor.batch_synops()
        found["total"].backward()
        gradients.append(({k: v.item() for k, v in found.items()}, model.conv.weight.grad))
    (values, gradient), (others, other) = gradients
    assert others == values
    assert torch.allclose(other, gradient, rtol=1e-5)
    assert gradient.any()


@every_road
def test_a_scaled_input_is_counted_in_spikes(name: str) -> None:
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 3))
    host, road = reports(model, [spikes()], name, input_scale={"1": 0.25})
    assert figures(road) == figures(host)
    with taken(road_named(name, TILE)[0]), torch.no_grad():
        monitor = sm.Monitor(model, batch_dim=0, input_scale={"1": 0.3})
        with monitor:
            model(spikes())
        with pytest.raises(ValueError, match="finite"):
            monitor.compute()


class Product(nn.Module):
    """A product with the first elements of a factor, which may be none."""

    def forward(self, x: Tensor, kept: int) -> Tensor:
        return x @ x[:kept].t()


@every_road
@pytest.mark.parametrize("kept", [0, 2])
def test_a_factor_of_a_product_may_be_empty(kept: int, name: str) -> None:
    model, x = Product(), (torch.rand(3, 5) < 0.5).float()
    with taken(road_named(name, TILE)[0]):
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor:
            model(x, kept)
    found = monitor.compute().counts()["Product.matmul"]
    both = (x.double() @ x[:kept].t().double()).sum().item()
    assert (found["synops"], found["events"]) == (both, x.count_nonzero().item())


@every_road
def test_a_view_that_negates_is_not_read_as_its_memory_is(name: str) -> None:
    model, x = nn.Sequential(nn.Linear(5, 3)), (torch.rand(4, 5) < 0.5).float()
    negated = torch.complex(x, x).conj().imag
    assert negated.is_neg()
    with taken(road_named(name, TILE)[0]), torch.no_grad():
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor:
            for _ in range(2):
                model(x)
                model(negated)
    kinds = monitor.compute().layers_data["0"].counts
    assert {kind: counts.calls for kind, counts in kinds.items()} == {"binary": 2, "ternary": 2}


@every_road
def test_calls_under_a_gradient_transform_are_counted(name: str) -> None:
    model, x = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1)), torch.ones(4, 5)
    parameters = dict(model.named_parameters())
    with taken(road_named(name, TILE)[0]):
        monitor = sm.Monitor(model, batch_dim=0, per_neuron=True)
        with monitor:
            model(x)
            torch.func.grad(lambda x: model(x).sum())(x)
            torch.func.grad(
                lambda p: torch.func.functional_call(model, p, (x,)).sum(),
            )(parameters)
            with monitor.batch(8, 1):
                for _ in range(2):
                    torch.func.grad(lambda x: torch.func.grad(lambda y: model(y).sum())(x).sum())(x)
            model(x)
    layer = monitor.compute().layers_data["0"]
    assert layer.counts["binary"].calls == 6
    assert layer.counts["binary"].synops == 6 * 4 * 5 * 3
    assert torch.equal(layer.synops_per_neuron, torch.full((5,), 6 * 4 * 3.0).double())


@every_road
def test_root_calls_and_batches_that_fail_add_nothing(name: str) -> None:
    class Failing(Net):
        fails = False

        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if self.fails:
                raise RuntimeError("of the model")
            return out

    model, batches = Failing(), [spikes() for _ in range(4)]
    host = next(reports(model, batches[::3], name))
    with taken(road_named(name, TILE)[0]), torch.no_grad():
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor:
            with monitor.batch(12, 1):
                for number in (0, 1, 3):
                    model.fails = number == 1
                    with pytest.raises(RuntimeError) if model.fails else nullcontext():
                        model(batches[number])
            model.fails = False
            with pytest.raises(KeyError), monitor.batch(6, 1):  # noqa: PT012
                model(batches[2])
                raise KeyError
    found = figures(monitor.compute())
    expected = figures(host)
    assert found["layers"] == expected["layers"]
    assert found["neurons"] == expected["neurons"]


def test_lines_are_added_up_before_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the root calls of a long batch."""
    monkeypatch.setattr(device_calls, "_MOST_LINES", 20)
    model, x = Net(), spikes()
    found = []
    for around in (nullcontext(), taken(TorchRoad())):
        monitor = sm.Monitor(model, batch_dim=0)
        with around, torch.no_grad(), monitor, monitor.batch(6, 50):
            for _ in range(50):
                model(x)
        found.append(figures(monitor.compute()))
    assert found[1] == found[0]
    (place,) = monitor._recorder.device_calls.places.values()
    assert len(place.space.lines) == 1024  # as at first, for 250 calls


@pytest.mark.kernels
@pytest.mark.skipif(HAS_CUDA, reason="kernels are compiled here")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parts", [("zoo", "nir"), ("random", "examples")])
def test_all_frozen_models_have_their_counts_through_the_kernels(parts: tuple[str, ...]) -> None:
    with taken(road_named("triton", 2**16)[0]):
        found = {name: json.loads(json.dumps(figures(report))) for name, report in frozen(*parts)}
    frozen_counts = json.loads(COUNTS.read_text())
    expected = {n: c for n, c in frozen_counts.items() if n.partition("/")[0] in parts}
    assert found.keys() == expected.keys()
    differing = [name for name, report in found.items() if report != expected[name]]
    assert differing == []


# ------------------------------------------------------------------- launches and memory


class Plain(nn.Module):
    """Layers of one type, with neurons between them."""

    def __init__(self, kind: str, layers: int) -> None:
        super().__init__()
        make = {"conv": lambda: nn.Conv2d(2, 2, 3, padding=1), "linear": lambda: nn.Linear(36, 36)}
        self.layers = nn.ModuleList(make[kind]() for _ in range(layers))
        self.neurons = nn.ModuleList(Fire() for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer, neurons in zip(self.layers, self.neurons, strict=True):
            x = neurons(layer(x))
        return x


def launched(kind: str, layers: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """Launches of a batch beyond those of the model, when caches are full."""
    monkeypatch.setattr(tracer, "_UnseenByModes", nullcontext)  # which hides them from the count
    model = Plain(kind, layers)
    x = spikes() if kind == "conv" else spikes().flatten(2)
    training = options.get("differentiable", False)
    counts = []
    with torch.set_grad_enabled(training), Launches() as plain:
        model(x)
    with taken(TritonRoad(NoKernels())), torch.set_grad_enabled(training):
        monitor = sm.Monitor(model, batch_dim=0, **options)
        with monitor:
            for _ in range(3):
                model(x)
                with Launches() as launches:
                    model(x)
                counts.append(launches.total - plain.total)
    assert counts[-1] == counts[-2]
    return counts[-1]


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize(("training", "most"), [(False, 6), (True, 10)])
def test_a_layer_takes_few_launches_per_batch(
    kind: str, training: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (launched(kind, n, monkeypatch, differentiable=training) for n in (2, 12))
    assert (many - few) / 10 <= most


def test_memory_does_not_grow_with_layers() -> None:
    def held(layers: int) -> int:
        model = Plain("linear", layers)
        with taken(TritonRoad(NoKernels())), torch.no_grad():
            monitor = sm.Monitor(model, batch_dim=0)
            with monitor:
                for _ in range(3):
                    model(spikes().flatten(2))
            (place,) = monitor._recorder.device_calls.places.values()
        return place.space.lines.numel() + place.space._scratch.numel()

    assert held(2) == held(20)


def test_nothing_waits_for_the_kernels() -> None:
    """On ``meta`` tensors reading a value raises."""
    model, x = Net().eval().to("meta"), spikes().to("meta")
    with taken(TritonRoad(NoKernels()), "meta"), torch.no_grad():
        monitor = sm.Monitor(model, batch_dim=0, per_neuron=True, per_sample=True)
        with monitor:
            model(x)
            model(x)
    assert set(monitor._state.names().values()) >= {"conv", "grouped", "fc", "readout"}


def test_tables_are_sent_in_the_stream_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kernel may read them before they are there."""
    depths, sent, depth = [], workspace._sent, 0

    @contextmanager
    def in_order(_: Workspace) -> Iterator[None]:
        nonlocal depth
        depth += 1
        yield
        depth -= 1

    def sending(*args: Any) -> Any:
        depths.append(depth)
        return sent(*args)

    monkeypatch.setattr(Workspace, "in_order", in_order)
    monkeypatch.setattr(workspace, "_sent", sending)
    with taken(TorchRoad()), torch.no_grad(), sm.Monitor(Net(), batch_dim=0) as monitor:
        monitor.model(spikes())
    assert depths == [1]


# ------------------------------------------------------------------------------ the rest


def test_totals_of_a_row_may_come_from_two_devices() -> None:
    """They are added up where the later ones are."""
    operation = next(reports(Net(), [spikes()], "torch")).layers_data["conv"].operation
    row, there = RowTotals(operation), torch.device("meta")
    for device in (torch.device("cpu"), there):
        row.record_totals(torch.ones(4, len(TOTALS), dtype=torch.float64, device=device))
        row.record_map(torch.ones(2, 6, 6, dtype=torch.float64, device=device))
    assert row.totals is not None
    assert row.synops_per_neuron is not None
    assert row.totals.device == row.synops_per_neuron.device == there


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_maps_made_dimension_by_dimension_are_those_of_the_engine(data: st.DataObject) -> None:
    """Of convolutions with zeros in their weights."""
    draw, ndim = data.draw, data.draw(st.integers(1, 3))
    sizes = st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)
    kernel, stride, dilation = (tuple(draw(sizes)) for _ in range(3))
    padding = tuple(draw(st.lists(st.integers(0, 2), min_size=ndim, max_size=ndim)))
    transposed, groups = draw(st.booleans()), draw(st.integers(1, 2))
    spatial = tuple(
        d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)
    )
    geometry = ConvGeometry.of(kernel, stride, padding, dilation, groups, transposed)
    channels, outputs = 2 * groups, 3 * groups
    shape = (channels, outputs // groups) if transposed else (outputs, channels // groups)
    weight = torch.randint(0, 2, (*shape, *kernel)).float()
    spec = OpSpec("conv", (1, channels, *spatial), tuple(weight.shape), geometry)
    try:
        expected = convolution_paths(spec, weight)
    except RuntimeError:  # such a convolution has no output
        return
    with taken(TorchRoad()):
        assert torch.equal(convolution_paths(spec, weight), expected)


def test_the_host_reads_copies_from_devices_without_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU stands for such a device."""
    model, batches, found = Net(), [spikes(), spikes(3) * 2], []
    copied: list[torch.Size] = []
    copy = Tensor.cpu

    def counted(x: Tensor) -> Tensor:
        copied.append(x.shape)
        return copy(x)

    for without in (set(), {"cpu"}):
        monkeypatch.setattr(roads, "WITHOUT_FLOAT64", without)
        if without:
            monkeypatch.setattr(Tensor, "cpu", counted)
        with torch.no_grad(), sm.Monitor(model, batch_dim=0, per_sample=True) as monitor:
            for batch in batches:
                model(batch)
        found.append(figures(monitor.compute()))
    assert found[1] == found[0]
    shapes = {tuple(shape) for shape in copied}
    assert shapes >= {*(tuple(x.shape) for x in batches), tuple(model.conv.weight.shape)}


def test_a_module_that_a_cuda_graph_replays_is_listed() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    layer = model[0]
    plain = layer.forward

    def replayed(x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return plain(x)

    replayed.__module__ = "torch.cuda.graphs"  # as torch.cuda.make_graphed_callables leaves it
    layer.forward = replayed
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(torch.ones(1, 3))
    reasons = {(e.name, e.what): e.reason for e in monitor.compute().uncounted}
    assert "make_graphed_callables" in reasons["0", "call"]


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
class TestOnCuda:
    def test_a_capture_is_refused_and_its_replay_is_listed(self) -> None:
        model, x = nn.Sequential(nn.Linear(8, 8)).cuda(), torch.ones(4, 8, device="cuda")
        monitor = sm.Monitor(model, batch_dim=0)
        graph = torch.cuda.CUDAGraph()
        with monitor, pytest.raises(RuntimeError, match="capture"), torch.cuda.graph(graph):
            model(x)
        torch.cuda.make_graphed_callables(model[0], (x,))
        monitor.reset()
        with monitor:
            model(x)
        assert "0" in [entry.name for entry in monitor.compute().uncounted]

    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_training_with_a_gradient_scaler(self, autocast: bool, channels_last: bool) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model, x = Net().cuda().to(memory_format=layout), spikes().cuda().to(memory_format=layout)
        optimiser = torch.optim.SGD(model.parameters(), 0.0)
        scaler = torch.amp.GradScaler("cuda")
        monitor = sm.Monitor(model, batch_dim=0, differentiable=True)
        with monitor, torch.autocast("cuda", torch.float16, enabled=autocast):
            loss = model(x).square().mean()
        loss = loss + 1e-6 * monitor.batch_synops()["total"]
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        plain = sm.Monitor(model, batch_dim=0)
        with plain, torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=autocast):
            model(x)
        assert figures(monitor.compute())["layers"] == figures(plain.compute())["layers"]
        assert monitor.compute().layers["conv"].synops == self.by_hand(x)

    def by_hand(self, x: Tensor) -> float:
        ones = torch.ones(4, 2, 3, 3, dtype=torch.float64)
        out = torch.conv2d(x.double().cpu(), ones, padding=1)
        return out.sum().item() / len(x)

    def test_calls_in_another_stream_are_counted(self) -> None:
        model, x = Net().cuda(), spikes().cuda()
        reports = []
        for stream in (None, torch.cuda.Stream()):
            monitor = sm.Monitor(model, batch_dim=0)
            torch.cuda.synchronize()
            with torch.no_grad(), monitor, monitor.batch(12, 1):
                with torch.cuda.stream(stream):
                    model(x)
                torch.cuda.synchronize()
                model(x)
            reports.append(figures(monitor.compute())["layers"])
        assert reports[0] == reports[1]

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
    def test_each_device_has_compiled_kernels_of_its_own(self) -> None:
        model, x = Net(), spikes()
        reports = []
        for device in ("cuda:0", "cuda:1", "cuda:0"):
            monitor = sm.Monitor(model.to(device), batch_dim=0)
            with torch.no_grad(), monitor:
                for _ in range(2):
                    model(x.to(device))
            reports.append(figures(monitor.compute())["layers"])
        assert reports[0] == reports[1] == reports[2]

    def test_samples_may_have_very_many_vectors(self) -> None:
        """More than a grid has programs in its second dimension, with four vectors in each."""
        model, x = nn.Sequential(nn.Linear(256, 2)).cuda(), torch.rand(2**19, 256, device="cuda")
        x = (x < 0.1).float()
        monitor = sm.Monitor(model, batch_dim=0, per_sample=True)
        with torch.no_grad(), monitor:
            model(x)
        assert monitor.compute().layers["0"].max == 2 * x.sum(1).max().item()

    def test_a_batch_of_another_stream_ends_in_a_busy_one(self) -> None:
        model, x, stream = Net().cuda(), spikes(5).cuda(), torch.cuda.Stream()
        reports = []
        for busy in (False, True):
            monitor = sm.Monitor(model, batch_dim=0)
            torch.cuda.synchronize()
            with torch.no_grad(), monitor, monitor.batch(5, 1):
                with torch.cuda.stream(stream if busy else None):
                    model(x)
                torch.cuda.synchronize()
                if busy:
                    torch.cuda._sleep(10**9)
            reports.append(figures(monitor.compute())["layers"])
        assert reports[0] == reports[1]

    def test_the_neurons_of_spikingjelly_are_counted_whatever_their_backend(self) -> None:
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        x = torch.rand(4, 3, 10, device="cuda")
        found = []
        for backend in ("torch", "cupy", "triton"):
            try:
                lif = neuron.LIFNode(step_mode="m", backend=backend).cuda()
            except (ImportError, NotImplementedError, ValueError, TypeError):
                continue
            monitor = sm.Monitor(nn.Sequential(lif), batch_dim=1, time_dim=0)
            with monitor:
                out = monitor.model(x)
            assert monitor.compute().neurons["0"].spikes == out.sum().item() / 3
            found.append(backend)
        assert "torch" in found
