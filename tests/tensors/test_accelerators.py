"""Roads of accelerators find what the host finds, in few launches that move few bytes."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnmetrics.monitor.call_sites import unscaled
from snnmetrics.report import Counts
from snnmetrics.synapses.maps import SynapseFigures
from snnmetrics.tensors.accelerators import roads, workspace
from snnmetrics.tensors.accelerators.gradient import vector_synops
from snnmetrics.tensors.accelerators.launch import Launch
from snnmetrics.tensors.accelerators.layout import axes, contiguous
from snnmetrics.tensors.accelerators.lines import FACTS, FIGURES, PRODUCT_TOTALS, TOTALS
from snnmetrics.tensors.accelerators.roads import Road, road_of
from snnmetrics.tensors.accelerators.torch_road import TorchRoad
from snnmetrics.tensors.accelerators.triton_road import TritonRoad
from snnmetrics.tensors.accelerators.workspace import CountedCall, Line, Workspace
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.tensors.stats import InputStats, as_counts, summarize
from tests.helpers.accelerators import INTERPRETED, ON_CUDA, Launches, NoKernels, road_named

every_road = pytest.mark.parametrize("name", ["torch", INTERPRETED, ON_CUDA])
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
EXAMPLES = {"torch": 100, "triton": 20, "cuda": 300}


# ------------------------------------------------------------------------------- tensors


def values(kind: str, shape: tuple[int, ...], dtype: torch.dtype, number: int) -> Tensor:
    """Of a kind, as far as the dtype has such values."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(number))
    spikes = (x < 0.3).double()
    if kind == "ternary":
        spikes -= (x > 0.8).double()
    elif kind == "integer":
        spikes = (x * 9).floor().double() - 3
    elif kind == "large":  # beyond spike counts, which float16 cannot be
        spikes *= 65_504.0 if dtype is torch.float16 else 65_537.0
    elif kind == "near":
        spikes *= 1 - (torch.finfo(dtype).eps if dtype.is_floating_point else 0)
    elif kind == "analog":
        spikes = x.double() - 0.3
    return spikes.to(dtype)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...]]:
    """Tensors of many shapes and strides, with their dimensions that are no neurons."""
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS]))
    kinds = ["binary", "ternary", "integer", "near", "large", "analog"]
    if dtype in (torch.bool, torch.uint8):
        kinds = ["binary"]
    elif not dtype.is_floating_point:
        kinds = kinds[:3] + ["large"] * (dtype.itemsize > 2)
    kind = draw(st.sampled_from(kinds))
    ndim = draw(st.integers(1, 5))
    most = (40, 20, 9, 5, 4)[ndim - 1]
    shape = tuple(draw(st.lists(st.integers(1, most), min_size=ndim, max_size=ndim)))
    x = values(kind, shape, dtype, draw(st.integers(0, 1000)))
    x = x.permute(draw(st.permutations(range(ndim))))
    if draw(st.booleans()):
        x = x.contiguous()
    if draw(st.booleans()):
        x = x[..., :: draw(st.integers(1, 3))]
    if draw(st.booleans()) and ndim < 5:
        x = x.expand(3, *x.shape)
    dims = draw(st.sets(st.integers(0, x.ndim - 1), max_size=x.ndim))
    return x, tuple(sorted(dims))


def maps_of(shape: tuple[int, ...], shared: bool) -> tuple[Tensor, Tensor]:
    """Fan-out maps of neurons; the first one may be shared by all channels."""
    rng = torch.Generator().manual_seed(len(shape))
    dense_shape = (1, *shape[1:]) if shared and shape else shape
    dense = torch.randint(1, 9, dense_shape, generator=rng).double()
    return dense, torch.randint(0, 9, shape, generator=rng).double()


def figures_of(stats: InputStats, dense: Tensor, effective: Tensor | None) -> list[float]:
    magnitudes, events = stats.magnitudes, stats.event_counts
    kept = dense if effective is None else effective
    return [
        *(events.sum().item(), magnitudes.sum().item(), (magnitudes * dense).sum().item()),
        *((events * dense).sum().item(), (events * kept).sum().item()),
        (magnitudes * kept).sum().item(),
    ]


def totals(road: Road, space: Workspace, *lines: Line, kinds: int = 4) -> Tensor:
    """Totals of calls that are rows of their own, on the CPU."""
    calls = [CountedCall(n, None, line, (1, 2, 0, 4, 5, n, 0)) for n, line in enumerate(lines)]
    return road.totals(space, space.tables(calls, kinds)[1]).cpu()


def line_of(road: Road, space: Workspace, line: Line, elements: int, kind: int) -> list[float]:
    """Figures of one call, which are in the line of its kind."""
    call = CountedCall("row", None, line, (1, 2, elements, 4, 5, 6, 7))
    found = road.totals(space, space.tables([call], 4)[1]).cpu()[0]
    assert found[kind, : len(FACTS)].tolist() == [1, 2, elements, 4, 5, 6, 7]
    others = [number for number in range(4) if number != kind]
    assert not found[others].any()
    return found[kind, len(FACTS) :].tolist()


def assert_close(found: Any, expected: Any) -> None:
    """Equal, but for the order in which float64 sums of analog values are rounded."""
    found, expected = (torch.as_tensor(v, dtype=torch.float64).cpu() for v in (found, expected))
    assert found.shape == expected.shape
    if bool((expected == expected.round()).all()):
        assert torch.equal(found, expected)
    else:
        assert torch.allclose(found, expected, rtol=1e-13, atol=0)


# ------------------------------------------------------------------------------- reading


@every_road
def test_what_is_read_is_what_the_host_reads(name: str) -> None:
    road, device = road_named(name, tile=128)

    @settings(max_examples=EXAMPLES[name], deadline=None, suppress_health_check=list(HealthCheck))
    @given(tensors(), st.booleans(), st.booleans())
    def check(case: tuple[Tensor, tuple[int, ...]], shared: bool, pruned: bool) -> None:
        x, dims = case
        there, space = on(device, x), Workspace(device)
        expected = summarize(x, dims)
        kind, shape = int(expected.kind), tuple(expected.magnitudes.shape)
        dense, effective = maps_of(shape, shared)
        kept = effective if pruned else None
        maps = on(device, dense), None if kept is None else on(device, kept)
        figures = figures_of(expected, dense, kept)

        stats = road.stats(space, there, dims)
        assert int(stats.kind) == kind
        assert_close(stats.magnitudes, expected.magnitudes)
        assert_close(stats.event_counts, expected.event_counts)
        line = road.figures(space, there, dims, *maps)
        assert_close(line_of(road, space, line, x.numel(), kind), figures)
        line = road.figures_of(space, stats, *maps)
        assert_close(line_of(road, space, line, x.numel(), kind), figures)
        assert torch.equal(road.nonzero(there, dims).cpu(), rows_of(x.ne(0), dims).double().sum(0))
        counted = rows_of(as_counts(x, expected).double().abs(), dims)
        synops = counted.reshape(len(counted), -1) @ dense.expand(shape).flatten()
        found, found_kind = road.vectors(space, there, dims, maps[0], None, analog_counts=True)
        assert int(found_kind) == kind
        assert_close(found.flatten(), synops)
        found, _ = road.vectors(space, there, dims, maps[0])
        assert_close(found.flatten(), synops * (kind != InputKind.ANALOG))

    check()


def on(device: torch.device, x: Tensor) -> Tensor:
    """The same on a device, with its strides."""
    if device.type == "cpu":
        return x
    base = x if x._base is None else x._base
    return base.to(device).as_strided(x.shape, x.stride(), x.storage_offset())


def rows_of(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """One row of neurons for each of the other dimensions' places."""
    kept = [d for d in range(x.ndim) if d not in dims]
    shape = [x.shape[d] for d in kept]
    return x.permute(*dims, *kept).reshape(math.prod(x.shape[d] for d in dims), *shape)


@every_road
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_four_units_in_the_last_place_are_a_spike_count_and_five_are_not(
    name: str, dtype: torch.dtype
) -> None:
    road, device = road_named(name)
    for whole in (1.0, 2.0, 3.0, 100.0):
        unit = torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(whole))
        for units in (*range(-10, 11), 400):
            x = torch.tensor([[0.0, whole + units * unit]], dtype=torch.float64).to(dtype)
            stats = road.stats(Workspace(device), x.to(device), (0,))
            expected = summarize(x, (0,))
            assert int(stats.kind) == expected.kind, (whole, units)
            assert stats.magnitudes.tolist() == expected.magnitudes.tolist()


@every_road
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the interpreter
def test_not_finite_values_are_analog_and_poison_the_figures(name: str) -> None:
    road, device = road_named(name)
    for value in (math.nan, math.inf, -math.inf):
        space, x = Workspace(device), torch.ones(5, 3, device=device)
        x[2, 1] = value
        dense = torch.ones(3, dtype=torch.float64, device=device)
        found = totals(road, space, road.figures(space, x, (0,), dense, None))[0]
        assert not found[:3].any()
        assert not found[3, TOTALS.index("magnitude")].isfinite()
        assert not found[3, TOTALS.index("synops")].isfinite()
        stats = road.stats(space, x, (0,))
        assert int(stats.kind) == InputKind.ANALOG
        assert stats.magnitudes.isfinite().tolist() == [True, False, True]


@every_road
def test_a_scaled_input_is_divided_by_its_scale(name: str) -> None:
    road, device = road_named(name)
    counts = torch.arange(60.0).remainder(5).view(12, 5)
    dense = torch.arange(5.0, dtype=torch.float64).to(device)
    for scale in (0.25, 0.1, 1 / 3):
        x = (counts * scale).to(device)
        expected = summarize(unscaled("", x.cpu(), scale), (0,))
        space, divisor = Workspace(device), torch.tensor(scale, dtype=torch.float64).to(device)
        line = road.figures(space, x, (0,), dense, None, divisor)
        figures = figures_of(expected, dense.cpu(), None)
        assert_close(line_of(road, space, line, 60, int(InputKind.INTEGER)), figures)
        assert_close(road.stats(space, x, (0,), divisor).magnitudes, expected.magnitudes)
        synops, _ = road.vectors(space, x, (0,), dense, divisor)
        assert_close(synops, counts.double() @ dense.cpu())
        x[3, 2] += 0.01  # no multiple
        found = totals(road, space, road.figures(space, x, (0,), dense, None, divisor))[0]
        assert found[3, TOTALS.index("synops")].isnan()


@every_road
def test_a_product_counts_where_both_factors_are_not_zero(name: str) -> None:
    road, device = road_named(name)
    left, right = (
        values("integer", (6, 4, 5), torch.float32, 1),
        values("binary", (5, 7), torch.float32, 2),
    )
    one = summarize(left, (0, 1))
    space = Workspace(device)
    stats, met = (road.stats(space, x.to(device), d) for x, d in ((left, (0, 1)), (right, (1,))))
    line = road.product(space, stats, met.event_counts, met.kind, True)
    found = totals(road, space, line, kinds=16)[0]
    both = torch.einsum("abk,kc->abkc", left.ne(0).double(), right.ne(0).double()).sum().item()
    place = int(InputKind.INTEGER) * len(InputKind) + int(InputKind.BINARY)
    events, magnitude = one.event_counts.sum().item(), one.magnitudes.sum().item()
    figures = [events, magnitude, *[both] * 3, right.count_nonzero().item()]
    assert found[place, len(FACTS) :].tolist() == figures
    assert found.count_nonzero() == found[place].count_nonzero()
    # Neurons in another order than they are kept in.
    turned = values("binary", (3, 5, 4), torch.float32, 3)
    stats = road.stats(space, turned.to(device), (0,)).permuted([1, 0])
    assert_close(stats.magnitudes, turned.sum(0).t())
    line = road.product(space, stats, stats.event_counts, stats.kind, False)
    both = (turned.ne(0).sum(0) ** 2).sum().item()
    found = totals(road, space, line, kinds=16)[0, 0]
    assert found[TOTALS.index("synops")] == both
    assert found[PRODUCT_TOTALS.index("right_events")] == 0  # not said to be events


@every_road
def test_gradients_are_fan_outs_with_the_sign_of_the_input(name: str) -> None:
    road, device = road_named(name)
    space, dense = Workspace(device), torch.arange(1.0, 5.0, dtype=torch.float64, device=device)
    for kind in ("binary", "ternary", "integer", "near", "analog"):
        x = values(kind, (3, 2, 4), torch.float32, 4).to(device).requires_grad_()
        counts = kind != "analog"
        for analog_counts in (False, True):
            synops = vector_synops(road, space, x, (0, 1), dense, None, analog_counts)
            weight = torch.arange(6.0, dtype=torch.float64, device=device).view(3, 2)
            (gradient,) = torch.autograd.grad((synops * weight).sum(), x)
            expected = weight.unsqueeze(2) * dense * torch.where(x < 0, -1.0, 1.0)
            assert torch.equal(gradient.double(), expected * (counts or analog_counts))
    with torch.no_grad():
        assert not vector_synops(road, space, x, (0, 1), dense).requires_grad
    # Of an input in another order, and scaled.
    x = values("integer", (4, 3), torch.float32, 5).to(device).mul(0.5).requires_grad_()
    scale = torch.tensor(0.5, dtype=torch.float64, device=device)
    synops = vector_synops(road, space, x, (1,), dense, scale)
    synops.sum().backward()
    assert torch.equal(x.grad.double(), (2 * dense.unsqueeze(1) * torch.where(x < 0, -1.0, 1.0)))


@every_road
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    """The fan-out is too large for float16, the gradient of the synops too small."""
    road, device = road_named(name)
    x = torch.ones(3, 2, dtype=dtype, device=device).requires_grad_()
    dense = torch.tensor([1e5, 3e6], dtype=torch.float64, device=device)
    (1e-9 * vector_synops(road, Workspace(device), x, (0,), dense)).sum().backward()
    assert x.grad.dtype is dtype
    expected = torch.tensor([1e-4, 3e-3], dtype=torch.float64).expand(3, 2)
    assert torch.allclose(x.grad.double().cpu(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)


# ------------------------------------------------------------------ launches and bytes


def snn_inputs(dtype: torch.dtype) -> dict[str, tuple[Tensor, tuple[int, ...], tuple[int, ...]]]:
    """Inputs of layers by type, with dimensions that are no neurons, and shapes of their maps."""
    conv, linear = (64, 16, 12, 12), (128, 512)
    return {
        "conv2d": (values("binary", conv, dtype, 1), (0,), (1, 12, 12)),
        "conv2d, channels last": (
            values("binary", conv, dtype, 1).to(memory_format=torch.channels_last),
            (0,),
            (1, 12, 12),
        ),
        "conv1d": (values("binary", (96, 8, 64), dtype, 1), (0,), (1, 64)),
        "linear": (values("binary", linear, dtype, 2), (0,), (512,)),
        "linear, time first": (values("binary", (4, 32, 512), dtype, 2), (0, 1), (512,)),
        "linear, transposed": (values("binary", (512, 128), dtype, 2).t(), (0,), (512,)),
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layer", snn_inputs(torch.float32))
def test_a_kernel_reads_an_input_once_in_one_launch(layer: str, dtype: torch.dtype) -> None:
    x, dims, shape = snn_inputs(dtype)[layer]
    road, space = TritonRoad(NoKernels()), Workspace(torch.device("cpu"))
    dense = torch.ones(shape, dtype=torch.float64)
    neurons = math.prod(size for d, size in enumerate(x.shape) if d not in dims)
    effective = torch.ones([size for d, size in enumerate(x.shape) if d not in dims]).double()
    size = x.numel() * x.element_size()
    road.figures(space, x, dims, dense, effective)  # binds the launch
    with Launches() as launches:
        road.figures(space, x, dims, dense, effective)
    assert launches.total == 1
    assert launches.moved <= 1.1 * size + 64 * neurons
    with Launches() as launches:
        stats = road.stats(space, x, dims)
    assert launches.total <= 2
    assert launches.moved <= 1.1 * size + 2 * 64 * neurons
    with Launches() as launches:
        road.figures_of(space, stats, dense, effective)
    assert launches.total == 1
    assert launches.moved <= 64 * neurons


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layer", snn_inputs(torch.float32))
def test_operations_of_pytorch_take_at_most_seventeen_launches(
    layer: str, dtype: torch.dtype
) -> None:
    x, dims, shape = snn_inputs(dtype)[layer]
    road, space = TorchRoad(), Workspace(torch.device("cpu"))
    dense = torch.ones(shape, dtype=torch.float64)
    effective = torch.ones([size for d, size in enumerate(x.shape) if d not in dims]).double()
    road.figures(space, x, dims, dense, effective)
    with Launches() as launches:
        road.figures(space, x, dims, dense, effective)
    assert launches.total <= 17


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_nothing_is_read_by_the_host(name: str) -> None:
    """On ``meta`` tensors reading a value raises."""
    road = TorchRoad() if name == "torch" else TritonRoad(NoKernels())
    meta = torch.device("meta")
    space, dense = Workspace(meta), torch.ones(3, dtype=torch.float64, device=meta)
    for dtype in (*FLOATS, *INTEGERS):
        x = torch.empty(4, 3, dtype=dtype, device=meta)
        stats = road.stats(space, x, (0,))
        lines = [
            road.figures(space, x, (0,), dense, dense),
            road.figures_of(space, stats, dense, None),
            road.product(space, stats, stats.event_counts, stats.kind, True),
        ]
        road.vectors(space, x, (0,), dense)
        assert road.nonzero(x, (0,)).is_meta
        calls = [CountedCall(0, None, line, (1, 1, 12, 1, 1, 1, 0)) for line in lines]
        found = road.totals(space, space.tables(calls, 16)[1])
        assert found.is_meta
        assert found.shape == (1, 16, len(TOTALS))


class Grids:
    """Kernels that do nothing, and keep the grids that they are launched with."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return self

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.seen.append(grid)
        return lambda *args, **options: None


@pytest.mark.parametrize("shape", [(2**22, 256), (2**22, 1), (300, 2**22), (2**11, 2**11, 64)])
def test_grids_are_within_the_limits_of_cuda(shape: tuple[int, ...]) -> None:
    """A grid has at most 65,535 programs in its second dimension."""
    kernels, meta = Grids(), torch.device("meta")
    road, space = TritonRoad(kernels), Workspace(meta)
    x, dims = torch.empty(shape, device=meta), tuple(range(len(shape) - 1))
    dense = torch.empty(shape[-1], dtype=torch.float64, device=meta)
    road.figures(space, x, dims, dense, None)
    road.figures_of(space, road.stats(space, x, dims), dense, None)
    road.vectors(space, x, dims, dense)
    road.nonzero(x, dims)
    assert len(kernels.seen) == 7
    assert all(0 < x < 2**31 and 0 < y < 2**16 and z == 1 for x, y, z in kernels.seen)


class Memory:
    """A tensor of which only address and device matter."""

    dtype, is_cuda = torch.float64, False

    def __init__(self, address: int, device: int) -> None:
        self.address, self.device = address, device

    def data_ptr(self) -> int:
        return self.address

    def get_device(self) -> int:
        return self.device


class Compiler:
    """Kernels that are compiled for a device and for alignments, as Triton does."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, tuple[int, ...]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def compiled(*args: Any, **options: Any) -> Any:
            tensors = [arg for arg in args if isinstance(arg, Memory)]
            aligned = "".join("-+"[tensor.address % 16 == 0] for tensor in tensors)
            name = f"device {tensors[0].device}, {aligned}"
            self.ran.append((name, tuple(tensor.address for tensor in tensors)))

            def run(*args: Any, stream: int) -> None:
                self.ran.append((name, args[: len(tensors)]))

            return {grid: run}

        return compiled


def test_a_launch_takes_what_was_compiled_for_its_device_and_alignments() -> None:
    kernel = Compiler()
    launch: Any = Launch(kernel, (1,), (), {})
    for _ in range(2):
        for device in (0, 1):
            for addresses in ((32, 64), (40, 64), (32, 68), (36, 68)):
                launch(0, *(Memory(address, device) for address in addresses))
                aligned = "".join("-+"[address % 16 == 0] for address in addresses)
                assert kernel.ran.pop() == (f"device {device}, {aligned}", addresses)


# --------------------------------------------------------------------------- workspaces


def test_lines_grow_and_keep_what_is_in_them() -> None:
    space = Workspace(torch.device("cpu"))
    first = space.take(3)
    space.lines[: first.end] = 7.0
    before = len(space.lines)
    second = space.take(5000)
    assert (second.start, second.end) == (3, 5003)
    assert len(space.lines) >= 5003 > before
    assert bool((space.lines[:3] == 7.0).all())


@every_road
def test_calls_of_a_row_are_added_up_by_their_kinds(name: str) -> None:
    road, device = road_named(name)
    space, dense = Workspace(device), torch.ones(4, dtype=torch.float64, device=device)
    kinds = ["binary", "integer", "binary", "analog", "ternary", "binary"]
    truth = torch.zeros(2, 4, len(TOTALS), dtype=torch.float64)
    calls = []
    for number, kind in enumerate(kinds):
        x = values(kind, (9, 4), torch.float32, number)
        stats, facts = summarize(x, (0,)), (1, 9, 36, number, 2, 3, 4)
        line = road.figures(space, x.to(device), (0,), dense, None)
        calls.append(CountedCall(("a", "b")[number % 2], None, line, facts))
        row = [*facts, *figures_of(stats, dense.cpu(), None)]
        truth[number % 2, int(stats.kind)] += torch.tensor(row, dtype=torch.float64)
    rows, tables = space.tables(calls, 4)
    assert list(rows) == ["a", "b"]
    assert torch.allclose(road.totals(space, tables).cpu(), truth, rtol=1e-13, atol=0)


@every_road
@pytest.mark.parametrize("odd", [1.0, 3.0, 0.5])
def test_a_call_of_many_lines_has_one_kind(name: str, odd: float) -> None:
    """Of whichever line has the loosest values."""
    road, device = road_named(name)
    x = values("binary", (130, 1100), torch.float32, 7)
    x[-1, -1] = odd
    dense = torch.arange(1100.0, dtype=torch.float64)
    for tensor in (x, x.flip(0, 1)):
        stats = summarize(tensor, (0,))
        space = Workspace(device)
        line = road.figures(space, tensor.to(device), (0,), dense.to(device), None)
        assert line.lines > 32 or name == "torch"
        found = line_of(road, space, line, x.numel(), int(stats.kind))
        assert_close(found, figures_of(stats, dense, None))


def test_tables_of_equal_batches_are_sent_once() -> None:
    space = Workspace(torch.device("cpu"))
    calls = [CountedCall("row", None, Line(0, 2), (1, 2, 3, 4, 5, 6, 7))] * 2
    (_, one), (_, other) = space.tables(calls, 4), space.tables(list(calls), 4)
    assert one.places is other.places
    assert one.places.tolist() == [[0, 2, 0, 0], [0, 2, 0, 0]]
    assert one.row_starts.tolist() == [0, 2]


# ------------------------------------------------------------------------------- layout


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_joined_dimensions_have_the_places_of_their_elements(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(0, 5))
    shape = data.draw(st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim))
    order = data.draw(st.permutations(range(ndim)))
    whole = contiguous([shape[d] for d in order])
    first = [whole[order.index(d)] for d in range(ndim)]
    second = [0 if data.draw(st.booleans()) else s for s in contiguous(shape)]
    found = axes(shape, first, second, in_memory_order=data.draw(st.booleans()))
    if found is None:
        assert sum(size > 1 for size in shape) > 3
        return
    places = [
        tuple(sum(i * s for i, s in zip(index, of, strict=True)) for of in (first, second))
        for index in itertools.product(*map(range, shape))
    ]
    n1, n2 = found.sizes
    joined = []
    for i in range(found.total):
        index = {1: (i, 0, 0), 2: (i // n1, i % n1, 0), 3: (i // n2 // n1, i // n2 % n1, i % n2)}
        parts = index[found.dims]
        joined.append(
            tuple(sum(a * b for a, b in zip(parts, of, strict=True)) for of in found.strides)
        )
    assert sorted(joined) == sorted(places)


# -------------------------------------------------------------------------------- roads


def test_the_host_reads_tensors_on_the_cpu() -> None:
    assert road_of(torch.ones(2)) is None
    assert isinstance(road_of(torch.ones(2, device="meta")), TorchRoad)


def test_kernels_are_not_tried_while_a_cuda_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host must not wait then; what it finds would hold for the rest of the process."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    x: Any = SimpleNamespace(device=torch.device("cuda", 0))
    monkeypatch.setattr(roads, "ROADS", {"cpu": None})
    assert isinstance(road_of(x), TorchRoad)
    assert roads.ROADS == {"cpu": None}


class TestWithoutKernels:
    """Where the kernels cannot be used PyTorch operations read, and a warning says why."""

    def road(self) -> Any:
        return roads._triton_road.__wrapped__("cpu")

    def test_without_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(roads.importlib.util, "find_spec", lambda name: None)
        assert isinstance(self.road(), TorchRoad)  # as PyTorch comes on some systems: no warning

    def test_where_they_do_not_compile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> Any:
            raise RuntimeError("no C compiler")

        monkeypatch.setattr(roads.importlib.util, "find_spec", lambda name: True)
        monkeypatch.setattr(roads.importlib, "import_module", missing)
        with pytest.warns(UserWarning, match=r"cpu; .*more launches \(RuntimeError: no C compiler"):
            assert isinstance(self.road(), TorchRoad)

    def test_where_they_give_other_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(roads.importlib.util, "find_spec", lambda name: True)
        monkeypatch.setattr(roads.importlib, "import_module", lambda name: NoKernels())
        empty = torch.empty
        monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).zero_())
        with pytest.warns(UserWarning, match="they give other numbers"):
            assert isinstance(self.road(), TorchRoad)


@pytest.mark.parametrize("name", [INTERPRETED, ON_CUDA])
def test_kernels_are_compared_with_operations_of_pytorch_before_they_are_used(name: str) -> None:
    road, device = road_named(name)
    assert isinstance(road, TritonRoad)
    assert roads._agree(road, device)
    workspace._sent.cache_clear()
    with torch.device("meta"):  # of tensors that are made without one
        assert roads._agree(road, device)


def test_figures_have_the_names_of_counts() -> None:
    assert {*TOTALS, *PRODUCT_TOTALS} == {field.name for field in fields(Counts)}
    assert len(TOTALS) == len(PRODUCT_TOTALS)
    assert SynapseFigures._fields == FIGURES
