"""Loads of cores against brute force: every input element alone through the layer itself.

The matrix of a layer is found by pushing each unit vector through the module with its weights
replaced by ``weight != 0`` in float64: entry (o, i) is the number of synapses from input element i
to output neuron o. Figures of a core are loops over its rows.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import snnmetrics as sm
from snnmetrics.cores.layout import LayerLayout, as_cores, lay_out
from snnmetrics.cores.loads import CoreLoads, neuron_shape, neuron_synapses
from snnmetrics.ops.geometry import ConvGeometry
from snnmetrics.ops.parsers import PARSERS, calls_of
from snnmetrics.ops.spec import OpSpec
from tests.synapses.test_fanout import EVEN, accepts, linear_layers


class Heard(TorchFunctionMode):
    """The operation in the forward of a layer, and the padding by copies before it."""

    def __init__(self) -> None:
        super().__init__()
        self.spec: OpSpec | None = None
        self.copies: Any = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.pad and kwargs:
            self.copies = (tuple(args[0].shape[1:]), tuple(args[1]), kwargs["mode"])
        if func in PARSERS:
            (call,) = calls_of(func, args, kwargs or {}, output)
            self.spec = call.spec
        return output


def heard(layer: nn.Module, shape: tuple[int, ...]) -> tuple[OpSpec, Any]:
    with torch.no_grad(), Heard() as mode:
        layer(torch.zeros(1, *shape))
    assert mode.spec is not None
    return mode.spec, mode.copies


def matrix_of(apply: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """(outputs, inputs): each input element alone."""
    columns = []
    for element in range(math.prod(shape)):
        unit = torch.zeros(math.prod(shape), dtype=torch.float64)
        unit[element] = 1
        columns.append(apply(unit.reshape(1, *shape)).reshape(-1))
    return torch.stack(columns, 1)


def with_mask(layer: nn.Module, mask: Tensor | None) -> nn.Module:
    """The layer with its weights replaced by the mask, without bias."""
    plain = copy.deepcopy(layer).double().requires_grad_(False)
    plain.bias = None  # type: ignore[assignment]
    plain.weight.copy_(torch.ones_like(plain.weight) if mask is None else mask)  # type: ignore[operator, arg-type]
    return plain


def held(layout: LayerLayout) -> list[list[int]]:
    return [[n for a, b in ranges for n in range(a, b)] for ranges in layout.ranges]


def check(loads: CoreLoads, layout: LayerLayout, matrix: Tensor, events: Tensor) -> None:
    """Compare with the matrix of all synapses."""
    synops, arrived = loads.read(events)
    assert synops.dtype is arrived.dtype is torch.float64
    assert synops.shape == arrived.shape == (len(events), len(layout.ranges))
    vectors = events.reshape(len(events), -1).double()
    assert loads.labels == layout.labels
    for core, neurons in enumerate(held(layout)):
        rows = matrix[neurons]
        reached = (rows > 0).any(0)
        assert loads.neurons[core] == len(neurons)
        assert loads.synapses[core] == rows.sum()
        assert loads.axons[core] == reached.sum()
        for vector, x in enumerate(vectors):
            arrivals = rows @ x
            assert synops[vector, core] == arrivals.sum()
            assert arrived[vector, core] == x[reached].sum()
    # Every neuron is on one core, so that cores add up to the layer.
    torch.testing.assert_close(synops.sum(1), vectors @ matrix.sum(0), rtol=0, atol=0)


def used_weights(layer: nn.Module, mask: Tensor | None, shape: Any, neurons: list[int]) -> int:
    """Nonzero weights that an output of some neurons depends on."""
    plain = with_mask(layer, None).requires_grad_(True)
    x = torch.ones(1, *shape, dtype=torch.float64)
    plain(x).reshape(-1)[neurons].sum().backward()
    used = plain.weight.grad != 0  # type: ignore[union-attr]
    return int((used if mask is None else used & mask).sum())


def random_layout(shape: tuple[int, ...], draw: Callable[[int], int]) -> LayerLayout:
    """An automatic, even or own layout."""
    neurons, channels = math.prod(shape), shape[0]
    kind = draw(3)
    if kind == 0:
        cores = sm.Cores(neurons_per_core=1 + draw(neurons))
    elif kind == 1:
        cores = sm.Cores(mapping={"layer": 1 + draw(neurons)})
    else:
        count = 1 + draw(min(channels, 4))
        of = [c if c < count else draw(count) for c in range(channels)]
        own = {f"c{k}": {"layer": [i for i, c in enumerate(of) if c == k]} for k in range(count)}
        cores = sm.Cores(mapping=own)
    layout = lay_out(cores, "layer", shape)
    assert layout is not None
    return layout


@EVEN
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(linear_layers(), st.booleans(), st.integers(0, 2**31))
def test_loads_of_any_layer_and_layout_equal_brute_force(
    case: tuple[nn.Module, tuple[int, ...]], pruned: bool, seed: int
) -> None:
    layer, shape = case
    assume(accepts(layer, shape))
    generator = torch.Generator().manual_seed(seed)

    def draw(below: int) -> int:
        return int(torch.randint(0, below, (), generator=generator))

    if isinstance(layer, nn.Linear):
        shape = shape[-1:]
    spec, copies = heard(layer, shape)
    density = draw(10) / 10
    mask = torch.rand(layer.weight.shape, generator=generator) < density if pruned else None  # type: ignore[arg-type, union-attr, call-overload]
    plain = with_mask(layer, mask)
    matrix = matrix_of(plain, shape)
    layout = random_layout(neuron_shape(spec), draw)
    loads = CoreLoads(spec, layout, mask, copies=copies)
    events = torch.rand(3, *shape, generator=generator) < 0.4
    check(loads, layout, matrix, events)
    synapses = neuron_synapses(spec, mask, copies=copies)
    assert torch.equal(synapses.reshape(-1), matrix.sum(1))
    core = draw(len(layout.ranges))
    weights = used_weights(layer, mask, shape, held(layout)[core])
    assert loads.weights[core] == weights
    if mask is not None:
        effective = copy.deepcopy(layer)
        with torch.no_grad():
            effective.weight.copy_(mask)  # type: ignore[operator, union-attr]
        fanout = sm.fanout(effective, shape, effective=True)
        expected = (events.double() * fanout).flatten(1).sum(1)
        assert torch.equal(loads.read(events)[0].sum(1), expected)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 5), (6,)),
    "depthwise": (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 5, 4)),
    "strided": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=(1, 0)), (2, 6, 5)),
    "dilated": (nn.Conv1d(2, 4, 3, dilation=3, padding=2, groups=2), (2, 9)),
    "three dimensions": (nn.Conv3d(1, 2, 2, padding=1), (1, 2, 3, 2)),
    "transposed": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (4, 3, 2),
    ),
    "same, even": (nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 4, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"), (2, 3, 4)),
    "reflect": (nn.Conv1d(2, 3, 5, padding=3, stride=2, padding_mode="reflect"), (2, 6)),
    "replicate": (nn.Conv3d(1, 2, 2, padding=1, padding_mode="replicate"), (1, 2, 2, 3)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_split_channels_of_every_layer(name: str, pruned: bool) -> None:
    """By an automatic layout of small cores, and by an even one whose cores cross channels."""
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(3)
    spec, copies = heard(layer, shape)
    mask = torch.rand(layer.weight.shape, generator=generator) < 0.4 if pruned else None  # type: ignore[arg-type, union-attr, call-overload]
    matrix = matrix_of(with_mask(layer, mask), shape)
    neurons = math.prod(neuron_shape(spec))
    events = torch.rand(4, *shape, generator=generator) < 0.4
    for cores in (sm.Cores(3), sm.Cores(mapping={"layer": max(2, neurons // 4)})):
        layout = lay_out(cores, "layer", neuron_shape(spec))
        assert layout is not None
        loads = CoreLoads(spec, layout, mask, copies=copies)
        check(loads, layout, matrix, events)
        for core, on_core in list(enumerate(held(layout)))[::3]:
            assert loads.weights[core] == used_weights(layer, mask, shape, on_core)


def test_a_linear_layer_over_positions_has_its_features_as_neurons() -> None:
    spec, _ = heard(nn.Linear(3, 4), (5, 3))
    assert neuron_shape(spec) == (4,)
    layout = lay_out(sm.Cores(2), "fc", (4,))
    assert layout is not None
    synops, events = CoreLoads(spec, layout).read(torch.ones(10, 3))
    assert synops.tolist() == [[6.0, 6.0]] * 10
    assert events.tolist() == [[3.0, 3.0]] * 10


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("bi,oi->bo", (1, 4), (5, 4)),
        ("bgi,goi->bgo", (1, 3, 2), (3, 4, 2)),  # a matrix for each group
        ("big,ogi->bgo", (1, 2, 3), (4, 3, 2)),
        ("bcij,oji->bco", (1, 2, 3, 2), (4, 2, 3)),
        ("bi,i->bi", (1, 4), (4,)),
    ],
)
def test_any_contraction_with_a_weight(
    equation: str, left: tuple[int, ...], right: tuple[int, ...], pruned: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(left, dtype=torch.float64)
    weight = torch.ones(right, dtype=torch.float64)
    mask = torch.rand(right, generator=generator) < 0.5 if pruned else None
    (call,) = calls_of(torch.einsum, (equation, x, weight), {}, None)
    kernel = weight if mask is None else mask.double()
    shape = call.spec.input_shape
    # Of a letter that only the input has, as that of positions, one entry is one vector.
    lead = [1 if d in call.spec.batch_dims else size for d, size in enumerate(left)]

    letters = call.spec.letters.right
    neurons = [c for c in letters if c not in call.spec.letters.contracted]
    inner = "b" + "".join(call.spec.letters.shared)

    def apply(unit: Tensor) -> Tensor:
        assert unit.numel() == math.prod(lead)
        return torch.einsum(f"{inner},{letters}->{''.join(neurons)}", unit, kernel)

    matrix = matrix_of(apply, shape)
    layout = lay_out(sm.Cores(3), "layer", neuron_shape(call.spec))
    assert layout is not None
    loads = CoreLoads(call.spec, layout, mask)
    events = torch.rand(5, *shape, generator=generator) < 0.5
    check(loads, layout, matrix, events)
    assert torch.equal(loads.weights, loads.synapses)  # no weight is shared by two synapses


# ------------------------------------------------------------------------------ behaviour


def conv(channels: int, outputs: int, size: int) -> OpSpec:
    form = ConvGeometry.of((3, 3), padding=1)
    return OpSpec("conv2d", (1, channels, size, size), (outputs, channels, 3, 3), form)


def loads_of(spec: OpSpec, cores: Any, mask: Tensor | None = None) -> CoreLoads:
    found = as_cores(cores)
    assert found is not None
    layout = lay_out(found, "layer", neuron_shape(spec))
    assert layout is not None
    return CoreLoads(spec, layout, mask)


def test_an_event_is_a_nonzero_element_whatever_its_value() -> None:
    spec, x = conv(2, 4, 5), torch.randn(3, 2, 5, 5)
    x[x < 0.5] = 0
    x[0, 0] *= -1
    for mask in (None, torch.rand(spec.right_shape) < 0.5):
        loads = loads_of(spec, {"layer": 3}, mask)
        expected = loads.read(x != 0)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            assert all(map(torch.equal, loads.read(x.to(dtype)), expected))


def test_a_weight_is_as_good_as_its_mask() -> None:
    spec = conv(2, 4, 5)
    weight = nn.Parameter(torch.randn(spec.right_shape).relu())
    x = torch.rand(3, 2, 5, 5) < 0.5
    found, expected = (loads_of(spec, {"layer": 6}, m) for m in (weight, weight != 0))
    assert all(map(torch.equal, found.read(x), expected.read(x)))
    assert torch.equal(found.synapses, expected.synapses)
    assert torch.equal(neuron_synapses(spec, weight), neuron_synapses(spec, weight != 0))


def test_loads_are_the_same_in_inference_mode_under_autocast_and_with_gradient() -> None:
    spec = conv(3, 8, 20)
    mask = torch.rand(spec.right_shape) < 0.7
    x = (torch.rand(2, 3, 20, 20) < 0.8).float()
    plain = loads_of(spec, sm.Cores(150), mask)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        made_there = loads_of(spec, sm.Cores(150), mask)
        there = [made_there.read(x.clone()), plain.read(x.clone())]
    there.append(made_there.read(x.requires_grad_()))
    for figures in there:
        for found, expected in zip(figures, plain.read(x), strict=True):
            assert torch.equal(found, expected)
            assert not found.requires_grad
            assert not found.is_inference()


def test_counts_above_what_float32_holds_are_exact() -> None:
    spec = OpSpec("linear", (1, 5000), (4001, 5000), heard(nn.Linear(2, 2), (2,))[0].form)
    loads = loads_of(spec, {"layer": 1})
    synops, _ = loads.read(torch.ones(1, 5000))
    assert synops.tolist() == [[5000 * 4001]]
    loads = CoreLoads(
        spec, LayerLayout((4001,), (0,), (((0, 4001),),)), torch.ones(4001, 5000, dtype=torch.bool)
    )
    events = torch.ones(1, 5000)
    events[0, 0] = 0
    assert loads.read(events)[0].item() == 4999 * 4001 > 2**24


def test_blocks_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, generator = conv(3, 6, 7), torch.Generator().manual_seed(0)
    mask = torch.rand(spec.right_shape, generator=generator) < 0.5
    x = torch.rand(9, 3, 7, 7, generator=generator) < 0.5
    cases = list(itertools.product((None, mask), (sm.Cores(11), sm.Cores(mapping={"layer": 50}))))
    whole = [loads_of(spec, cores, m) for m, cores in cases]
    expected = [(*loads.read(x), loads.synapses, loads.axons, loads.weights) for loads in whole]
    for name in ("loads", "links"):
        monkeypatch.setattr(f"snnmetrics.cores.{name}._BLOCK", 40)
    from snnmetrics.cores.loads import _families

    _families.cache_clear()
    for (m, cores), figures in zip(cases, expected, strict=True):
        loads = loads_of(spec, cores, m)
        found = (*loads.read(x), loads.synapses, loads.axons, loads.weights)
        assert all(map(torch.equal, found, figures))
    _families.cache_clear()


def test_columns_are_told_apart_where_a_number_cannot_hold_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from snnmetrics.cores.loads import _families

    layer, shape = nn.Conv2d(1, 1, 9, padding=4), (1, 9, 9)  # more than 62 taps
    spec, _ = heard(layer, shape)
    mask = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.2
    events = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)) < 0.3
    layout = lay_out(sm.Cores(20), "layer", neuron_shape(spec))
    assert layout is not None
    check(CoreLoads(spec, layout, mask), layout, matrix_of(with_mask(layer, mask), shape), events)
    _families.cache_clear()


def test_a_vector_of_another_shape_and_a_layout_of_another_shape_are_refused() -> None:
    spec = conv(2, 4, 5)
    loads = loads_of(spec, sm.Cores())
    with pytest.raises(ValueError, match=r"shape \(2, 5, 5\), found \(2, 5, 6\)"):
        loads.read(torch.zeros(1, 2, 5, 6))
    with pytest.raises(ValueError, match=r"neurons of shape \(4, 5, 5\), found \(4, 25\)"):
        CoreLoads(spec, LayerLayout((4, 25), (0,), (((0, 100),),)))


def test_no_vectors_and_no_neurons() -> None:
    synops, events = loads_of(conv(2, 4, 5), {"layer": 3}).read(torch.zeros(0, 2, 5, 5))
    assert synops.shape == events.shape == (0, 3)
    spec = OpSpec("linear", (1, 3), (0, 3), heard(nn.Linear(2, 2), (2,))[0].form)
    loads = loads_of(spec, sm.Cores())
    assert loads.read(torch.ones(2, 3))[0].shape == (2, 0)
    assert loads.synapses.shape == loads.neurons.shape == (0,)


@pytest.mark.slow
def test_hundreds_of_cores_on_a_large_map_take_little_time_and_memory() -> None:
    spec = conv(64, 64, 56)
    events = torch.rand(4, 64, 56, 56, generator=torch.Generator().manual_seed(0)) < 0.2
    start = time.perf_counter()
    for cores in (sm.Cores(250), sm.Cores(mapping={"layer": 800})):
        loads = loads_of(spec, cores)
        synops, arrived = loads.read(events)
        assert 800 <= synops.shape[1] == arrived.shape[1] <= 832
        table = sum(t.numel() for batch in loads._batches for t in batch.tables)
        read = sum(
            p.numel() for batch in loads._batches for p in batch.positions if isinstance(p, Tensor)
        )
        assert table + read < 2**21  # a map per core would take 160,000,000
        fanout = sm.fanout(nn.Conv2d(64, 64, 3, padding=1), (64, 56, 56))
        expected = (events.double() * fanout).flatten(1).sum(1)
        assert torch.equal(synops.sum(1), expected)
    assert time.perf_counter() - start < 60  # far above what it takes: a loaded machine is slow
