"""Quantised kernels against explicit sums over dequantised values.

Hooks of the test read what enters each quantised layer; zeros are those of the dequantised weight.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.nn.quantized as nnq
import torch.ao.nn.quantized.dynamic as nnqd
import torch.ao.quantization as tq
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.ops import quantised
from snnmetrics.ops.functions import why_uncounted
from tests.helpers.toy import Fire

pytestmark = pytest.mark.filterwarnings("ignore")
LAYERS = (nnq.Linear, nnq.modules.conv._ConvNd)


def real(x: Tensor) -> Tensor:
    return (x.dequantize() if x.is_quantized else x).double()


def kind_of(x: Tensor) -> str:
    if bool(((x == 0) | ((x - 1).abs() < 2e-7)).all()):
        return "binary"
    return "integer" if torch.equal(x, x.round()) else "analog"


def applied(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    """A layer with another input and weight, in float64."""
    if isinstance(layer, nnq.Linear):
        return F.linear(x, weight)
    ndim = weight.ndim - 2
    moves = (layer.stride, layer.padding)
    if layer.transposed:
        function = getattr(F, f"conv_transpose{ndim}d")
        return function(x, weight, None, *moves, layer.output_padding, layer.groups, layer.dilation)
    if layer.padding_mode != "zeros":
        sides = [size for size in reversed(layer.padding) for _ in range(2)]
        x = F.pad(x, sides, layer.padding_mode)
        moves = (layer.stride, 0)
    return getattr(F, f"conv{ndim}d")(x, weight, None, *moves, layer.dilation, layer.groups)


def expected(layer: Any, inputs: list[Tensor]) -> dict[str, Any]:
    weight = real(layer.weight())
    ones, present = torch.ones_like(weight), (weight != 0).double()
    kinds = {kind_of(x) for x in inputs}
    kind = next(k for k in ("analog", "integer", "binary") if k in kinds)
    found: dict[str, Any] = {"kind": kind, "calls": len(inputs)}
    for name, of, taps in (
        ("event_synops", lambda x: (x != 0).double(), ones),
        ("effective_synops", lambda x: (x != 0).double(), present),
        ("dense_synops", torch.ones_like, ones),
    ):
        found[name] = round(sum(applied(layer, of(x), taps).sum().item() for x in inputs))
    found["events"] = sum(int((x != 0).sum()) for x in inputs)
    found["elements"] = sum(x.numel() for x in inputs)
    found["acs"] = 0 if kind == "analog" else found["effective_synops"]
    found["macs"] = found["effective_synops"] if kind == "analog" else 0
    return found


def assert_as_by_hooks(model: nn.Module, *batches: Tensor, **options: Any) -> sm.Report:
    """Measure a model, and compare every quantised layer with what hooks have seen."""
    seen: dict[str, list[Tensor]] = {}
    handles, layers = [], {n: m for n, m in model.named_modules() if isinstance(m, LAYERS)}
    for name, layer in layers.items():

        def hook(module: Any, args: Any, name: str = name) -> None:
            with torch._C.DisableTorchFunction():
                seen.setdefault(name, []).append(real(args[0]))

        handles.append(layer.register_forward_pre_hook(hook))
    with torch.no_grad():
        plain = [model(x) for x in batches]
    found = {name: [*inputs] for name, inputs in seen.items()}
    for handle in handles:
        handle.remove()
    monitor = sm.Monitor(model, batch_dim=0, strict=True, **options)
    with torch.no_grad(), monitor:
        for x, output in zip(batches, plain, strict=True):
            assert torch.equal(model(x), output)
    report = monitor.compute()
    for name, inputs in found.items():
        row = name or report.model
        counts = {"kind": report.layers[row].kind} | report.counts()[row]
        truth = expected(layers[name], inputs)
        assert {key: counts[key] for key in truth} == truth, row
        bias = layers[name].bias()
        weights = layers[name].weight().numel() + (0 if bias is None else bias.numel())
        assert report.layers[row].parameters == weights
    return report


# -------------------------------------------------------------------------- converted models


class Spiking(nn.Module):
    """Convolution, neurons, linear layers; each layer takes what was quantised before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.fc = nn.Conv2d(2, 4, 3, padding=1, stride=2), Fire(0.2), None
        self.fc, self.relu, self.out = nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3)
        self.quant, self.quant2 = tq.QuantStub(), tq.QuantStub()
        self.dequant, self.dequant2 = tq.DeQuantStub(), tq.DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(self.dequant(self.conv(self.quant(x))))
        hidden = self.relu(self.fc(self.quant2(spikes.flatten(1))))
        return self.dequant2(self.out(hidden))


def spiking() -> nn.Module:
    torch.manual_seed(4)
    sm.register_neuron(Fire, lead="B")
    model = Spiking().eval()
    with torch.no_grad():
        model.fc.weight[:, ::5] = 0
        model.conv.weight[1] = 0
    return model


def converted(model: nn.Module, x: Tensor) -> nn.Module:
    model.qconfig = tq.QConfig(
        activation=tq.MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=True),
        weight=tq.default_per_channel_weight_observer,
    )
    model = tq.fuse_modules(model, [["fc", "relu"]])
    prepared = tq.prepare(model)
    prepared(x)
    return tq.convert(prepared)


def images(samples: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(samples, 2, 8, 8, generator=generator) - 0.4


def test_a_static_quantised_spiking_network() -> None:
    floating = spiking()
    with torch.no_grad():
        plain = sm.Monitor(floating, batch_dim=0).run([images(6), images(3, 1)])
    model = converted(spiking(), images(20, 2))
    report = assert_as_by_hooks(model, images(6), images(3, 1))
    assert set(report.layers) == set(plain.layers) == {"conv", "fc", "out"}
    assert report.layers["conv"].kind == "analog"
    assert report.layers["fc"].kind == "binary"  # 127 times the scale of its input is one
    for name, row in report.layers.items():
        assert row.dense_macs == plain.layers[name].dense_macs
        assert row.dense_synops == plain.layers[name].dense_synops
        assert row.parameters == plain.layers[name].parameters
        assert report.layers_data[name].key == plain.layers_data[name].key
        assert name == "out" or row.effective_synops < row.event_synops
    assert report.parameters == plain.parameters == sm.parameter_count(model)
    assert report.neurons["fire"].spikes > 0
    assert report.layers_data["fc"].operation.module == "QuantizedLinearReLU"


def test_a_dynamic_quantised_network() -> None:
    torch.manual_seed(0)
    floating = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))
    x = (torch.rand(7, 20) < 0.3).float()
    for dtype in (torch.qint8, torch.float16):
        model = tq.quantize_dynamic(floating, {nn.Linear}, dtype=dtype)
        report = assert_as_by_hooks(model, x, x[:2])
        plain = sm.Monitor(floating, batch_dim=0).run([x, x[:2]])
        assert report.layers["0"].kind == "binary"
        assert report.layers["0"].synops == plain.layers["0"].synops
        assert report.layers["2"].dense_macs == plain.layers["2"].dense_macs


def quantise(x: Tensor, scale: float = 0.05, zero_point: int = 7) -> Tensor:
    return torch.quantize_per_tensor(x, scale, zero_point, torch.quint8)


class Fed(nn.Module):
    """A layer that takes a quantised input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return real(self.layer(quantise(x))).float()


def drawn(layer: Any) -> Any:
    """The layer with weights of which some are zero, per channel."""
    torch.manual_seed(1)
    weight = layer.weight().dequantize()
    weight = torch.randn_like(weight) * (torch.rand_like(weight) < 0.6)
    if layer.weight().qscheme() is torch.per_channel_affine and not getattr(
        layer, "transposed", False
    ):
        scales = torch.rand(len(weight)).double() * 0.05 + 0.01
        packed = torch.quantize_per_channel(
            weight, scales, torch.zeros(len(weight)).long(), 0, torch.qint8
        )
    else:
        packed = torch.quantize_per_tensor(weight, 0.03, 0, torch.qint8)
    layer.set_weight_bias(packed, layer.bias())
    return layer


CONVOLUTIONS: dict[str, Callable[[], Any]] = {
    "conv1d": lambda: nnq.Conv1d(4, 6, 3, stride=2, padding=1),
    "conv1d reflect": lambda: nnq.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"),
    "conv2d": lambda: nnq.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
    "conv2d groups": lambda: nnq.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
    "conv2d depthwise": lambda: nnq.Conv2d(4, 4, 3, padding=1, groups=4),
    "conv2d reflect": lambda: nnq.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "conv3d": lambda: nnq.Conv3d(4, 6, 3, padding=1),
    "conv_transpose1d": lambda: nnq.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "conv_transpose2d": lambda: nnq.ConvTranspose2d(4, 6, 3, stride=2, padding=1),
    "conv_transpose3d": lambda: nnq.ConvTranspose3d(4, 6, 2, stride=2),
    "linear": lambda: nnq.Linear(5, 6),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS)
@pytest.mark.parametrize("inference", [False, True])
def test_layers_with_quantised_inputs(layer: str, inference: bool) -> None:
    ndim = int(layer[layer.index("d") - 1]) if "conv" in layer else 1
    shape = (3, 4, *[5] * ndim)
    x = torch.randn(shape) * (torch.rand(shape) < 0.5)
    made = drawn(CONVOLUTIONS[layer]())
    with torch.inference_mode(inference):
        report = assert_as_by_hooks(Fed(made), x, x[:1])
    row = report.layers["layer"]
    assert row.effective_synops < row.event_synops < row.dense_synops
    assert row.macs == row.effective_synops


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_layers_with_dynamic_quantisation(ndim: int, transposed: bool) -> None:
    cls = getattr(nnqd, f"Conv{'Transpose' if transposed else ''}{ndim}d")
    shape = (2, 4, *[5] * ndim)
    x = (torch.rand(shape) < 0.4).float()
    layer = drawn(cls(4, 6, 3, padding=1))
    report = assert_as_by_hooks(nn.Sequential(layer), x)
    assert report.layers["0"].kind == "binary"
    assert report.layers["0"].acs == report.layers["0"].effective_synops


def test_a_value_at_the_zero_point_is_no_event() -> None:
    x = torch.tensor([[-0.35, 0.0, 0.02, 0.05, 6.0]])  # 0.02 is rounded to the zero point
    report = assert_as_by_hooks(Fed(nnq.Linear(5, 6)), x)
    assert report.counts()["layer"]["events"] == 3


def test_a_layer_that_is_the_model_and_one_whose_packed_weight_is_replaced() -> None:
    layer = drawn(nnqd.Linear(5, 6))
    x = (torch.rand(4, 5) < 0.5).float()
    report = assert_as_by_hooks(layer, x)
    assert set(report.layers) == {"DynamicQuantizedLinear"}
    with torch.no_grad(), sm.Monitor(layer, batch_dim=0) as monitor:
        layer(x)
        before = int((layer.weight().dequantize() != 0).double().matmul(x.sum(0).double()).sum())
        ones = torch.quantize_per_tensor(torch.ones(6, 5), 0.1, 0, torch.qint8)
        layer.set_weight_bias(ones, None)
        layer(x)
    counts = monitor.compute().counts()["DynamicQuantizedLinear"]
    assert counts["effective_synops"] == before + 6 * int(x.sum())


def test_unpacked_weights_are_kept_as_long_as_their_layer_lives() -> None:
    gc.collect()
    before = len(quantised._weights)
    layer = drawn(nnqd.Linear(5, 6))
    sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 5)])
    assert len(quantised._weights) == before + 1
    del layer
    gc.collect()
    assert len(quantised._weights) == before


def test_spikes_of_a_rounded_scale_are_declared() -> None:
    """The largest value that was observed was below one: a spike is 0.98."""
    layer = drawn(nnq.Linear(5, 6))
    model = Fed(layer)
    model.forward = lambda x: real(layer(quantise(x, 0.07, 3)))  # type: ignore[method-assign]
    x = (torch.rand(4, 5) < 0.5).float()
    assert sm.Monitor(model, batch_dim=0).run([x]).layers["layer"].kind == "analog"
    spike = 14 * 0.07
    report = sm.Monitor(model, batch_dim=0, input_scale={"layer": spike}).run([x])
    assert report.layers["layer"].kind == "binary"
    assert report.counts()["layer"]["synops"] == int(x.sum()) * 6


def test_an_integer_kernel_that_reads_its_weight_in_the_forward() -> None:
    """A method of a compiled class is no function that could be counted."""

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nnqd.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.fc.weight().dequantize().sum() * 0

    report = assert_as_by_hooks(Reading(), torch.ones(2, 5))
    assert set(report.layers) == {"fc"}


def test_samples_and_steps_of_quantised_layers() -> None:
    layer = drawn(nnqd.Linear(5, 6))
    x = (torch.rand(4, 3, 5) < 0.5).float()
    options: dict[str, Any] = {"per_sample": True, "per_step": True, "per_neuron": True}
    monitor = sm.Monitor(nn.Sequential(layer), batch_dim=1, time_dim=0, **options)
    report = monitor.run([x])
    row, synops = report.layers["0"], x.double().sum(2) * 6
    assert (row.max, row.peak_step) == (synops.sum(0).max(), synops.max())
    assert torch.equal(row.synops_per_neuron, x.double().sum((0, 1)) * 6 / 3)


# ------------------------------------------------------------------------- functions


class Kernels(nn.Module):
    """A model with weights of a few bits that does what it is told."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.does = does
        integers = torch.randint(-2, 3, (16, 32))
        self.register_buffer("w", integers.to(torch.int8))
        self.register_buffer("w8", integers.to(torch.float8_e4m3fn))
        self.register_buffer("scales", torch.rand(16) + 0.5)
        four = torch.randint(0, 16, (16, 32), dtype=torch.int32)
        self.four = (four != 8)[:]  # not zero: a value of eight stands for zero
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(four, 1))
        pairs = torch.stack([torch.full((1, 16), 0.5), torch.zeros(1, 16)], -1)
        self.register_buffer("pairs", pairs.to(torch.bfloat16))

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


ONE = torch.tensor(1.0)
F8 = torch.float8_e4m3fn
# Of 448, the largest number of the dtype, for a spike.
FULL = torch.tensor(1 / 448)


def _scaled(m: Any, x: Tensor) -> Tensor:
    return torch._scaled_mm((x * 448).to(F8), m.w8.t(), FULL, ONE, out_dtype=torch.bfloat16)


def _by_rows(m: Any, x: Tensor) -> Tensor:
    rows, columns = torch.full((len(x), 1), 1 / 448), torch.ones(1, 16)
    return torch._scaled_mm((x * 448).to(F8), m.w8.t(), rows, columns, out_dtype=torch.bfloat16)


def _scaled_function(m: Any, x: Tensor) -> Tensor:
    one = F.ScalingType.TensorWise
    return F.scaled_mm((x * 448).to(F8), m.w8.t(), FULL, one, ONE, one)


WITH_WEIGHT: dict[str, tuple[str, Callable[[Any, Tensor], Any]]] = {
    "int_mm": ("int_mm", lambda m, x: torch._int_mm(x.to(torch.int8), m.w.t())),
    "int_mm operator": ("int_mm", lambda m, x: torch.ops.aten._int_mm(x.to(torch.int8), m.w.t())),
    "weight first": ("int_mm", lambda m, x: torch._int_mm(m.w, x.to(torch.int8).t())),
    "int_mm by keyword": ("int_mm", lambda m, x: torch._int_mm(x.to(torch.int8), mat2=m.w.t())),
    "scaled_mm": ("scaled_mm", _scaled),
    "scaled_mm by rows": ("scaled_mm", _by_rows),
    "scaled weight first": (
        "scaled_mm",
        lambda m, x: torch._scaled_mm(m.w8, x.to(F8).t(), ONE, ONE, out_dtype=torch.bfloat16),
    ),
    "int8pack": (
        "weight_int8pack_mm",
        lambda m, x: torch._weight_int8pack_mm(x, m.w, m.scales),
    ),
    "int8pack in half": (
        "weight_int8pack_mm",
        lambda m, x: torch._weight_int8pack_mm(x.bfloat16(), m.w, m.scales.bfloat16()),
    ),
    "int4pack": (
        "weight_int4pack_mm",
        lambda m, x: torch._weight_int4pack_mm_for_cpu(x.bfloat16(), m.packed, 32, m.pairs),
    ),
}
if hasattr(torch, "_scaled_mm_v2") and hasattr(F, "scaled_mm"):
    WITH_WEIGHT["F.scaled_mm"] = ("scaled_mm", _scaled_function)


@pytest.mark.parametrize("case", WITH_WEIGHT)
@pytest.mark.parametrize("inference", [False, True])
def test_functions_with_a_weight(case: str, inference: bool) -> None:
    operation, does = WITH_WEIGHT[case]
    model = Kernels(does)
    present = model.four if operation == "weight_int4pack_mm" else model.w != 0
    x = (torch.rand(4, 32) < 0.4).float()
    with torch.inference_mode(inference), sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
        model(x[:4].flip(0))
    report = monitor.compute()
    assert set(report.layers) == {f"Kernels.{operation}"}
    assert not report.uncounted
    (row,), (counts,) = report.layers.values(), report.counts().values()
    effective = int(present.double().matmul(x.sum(0).double()).sum())
    assert row.kind == "binary"
    assert counts["events"] == 2 * int(x.sum())
    assert counts["synops"] == counts["event_synops"] == 2 * int(x.sum()) * 16
    assert counts["effective_synops"] == counts["acs"] == 2 * effective
    assert counts["dense_macs"] == counts["dense_synops"] == 2 * 4 * 32 * 16


@pytest.mark.parametrize("case", ["int_mm", "scaled_mm", "int8pack", "int4pack"])
def test_compiled_functions_count_alike(case: str) -> None:
    model = Kernels(WITH_WEIGHT[case][1])
    x = (torch.rand(4, 32) < 0.4).float()
    plain = sm.Monitor(model, batch_dim=0).run([x, x])
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad(), sm.Monitor(model, batch_dim=0) as monitor:
        compiled(x)
        compiled(x)
    assert monitor.compute().counts() == plain.counts()
    torch._dynamo.reset()


def test_a_packed_weight_of_four_bits_that_is_written_to() -> None:
    model = Kernels(WITH_WEIGHT["int4pack"][1])
    x, eights = torch.ones(4, 32), torch.full((16, 32), 8, dtype=torch.int32)
    with torch.no_grad(), sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
        model.packed.copy_(torch.ops.aten._convert_weight_to_int4pack_for_cpu(eights, 1))
        model(x)
    (counts,) = monitor.compute().counts().values()
    assert counts["effective_synops"] == 4 * int(model.four.sum())


PRODUCTS: dict[str, Callable[[Any, Tensor], Any]] = {
    "int_mm": lambda m, x: torch._int_mm(x.to(torch.int8), x.to(torch.int8).t()),
    "scaled_mm": lambda m, x: torch._scaled_mm(
        (x * 448).to(F8), x.to(F8).t(), FULL, ONE, out_dtype=torch.bfloat16
    ),
    "matmul": lambda m, x: torch.ops.quantized.matmul(
        quantise(x, 0.5, 3), quantise(x, 0.25, 9).t(), 0.1, 0
    ),
}


@pytest.mark.parametrize("operation", PRODUCTS)
def test_products_of_two_activations(operation: str) -> None:
    x = (torch.rand(4, 32) < 0.4).float()
    report = sm.Monitor(Kernels(PRODUCTS[operation]), batch_dim=0).run([x])
    (row,) = report.layers.values()
    assert (row.name, row.kind) == (f"Kernels.{operation}", "binary*binary")
    both = int((x.unsqueeze(1).bool() & x.unsqueeze(0).bool()).sum())
    assert row.acs * 4 == both
    assert row.dense_macs == 4 * 32 * 4 / 4


def test_element_wise_products_of_quantised_activations() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.multiply = nnq.QFunctional()

        def forward(self, x: Tensor) -> Tensor:
            return self.multiply.mul(quantise(x), quantise(x.roll(1, 0), 0.5, 2)).dequantize()

    x = torch.randn(4, 6) * (torch.rand(4, 6) < 0.6)
    report = sm.Monitor(Gate(), batch_dim=0, elementwise=True).run([x])
    (row,) = report.layers.values()
    left, right = quantise(x).dequantize(), quantise(x.roll(1, 0), 0.5, 2).dequantize()
    assert row.macs * 4 == int(((left != 0) & (right != 0)).sum())
    assert row.operation == "mul"


def test_integers_that_may_be_codes_are_noted() -> None:
    model = Kernels(WITH_WEIGHT["int_mm"][1])
    x = torch.randint(-9, 9, (4, 32)).float()
    report = sm.Monitor(model, batch_dim=0).run([x])
    (note,) = [note for note in report.notes if "_int_mm" in note]
    assert 'kinds={"Kernels.int_mm": "analog"}' in note
    row = report.layers["Kernels.int_mm"]
    assert row.acs == x.abs().sum(0).double() @ (model.w != 0).double().sum(0) / 4
    declared = sm.Monitor(model, batch_dim=0, kinds={"Kernels.int_mm": "analog"}).run([x])
    assert not [note for note in declared.notes if "_int_mm" in note]
    assert declared.layers["Kernels.int_mm"].macs * 4 == int(
        (x != 0).double().sum(0) @ (model.w != 0).double().sum(0)
    )


def test_what_is_not_counted_is_said() -> None:
    """Scales of blocks, kernels of other devices, and recurrent cells."""
    assert "packed in a layout of the kernel's own" in str(why_uncounted(torch._weight_int4pack_mm))
    assert "quantised" in str(why_uncounted(torch._dyn_quant_matmul_4bit))
    factors = torch.ones(4, 32).to(F8), torch.ones(32, 16).to(F8)
    with pytest.raises(NotImplementedError, match="scales of blocks"):
        next(quantised._scaled_mm(*factors, torch.ones(4, 2), torch.ones(2, 16)))
    with pytest.raises(NotImplementedError, match="float32"):
        next(quantised._scaled_mm(torch.ones(4, 32), torch.ones(32, 4), ONE, ONE))
    cell = tq.quantize_dynamic(nn.Sequential(nn.LSTM(5, 6, batch_first=True)), {nn.LSTM})
    (entry,) = sm.Monitor(cell, batch_dim=0).run([torch.ones(2, 3, 5)]).uncounted
    assert entry.what == "quantized_lstm"


@pytest.mark.parametrize("name", ["_int_mm", "_scaled_mm", "_weight_int8pack_mm"])
def test_parsers_need_shapes_alone(name: str) -> None:
    """On the device ``meta``, as kernels that only accelerators have."""
    model = Kernels(
        {
            "_int_mm": WITH_WEIGHT["int_mm"][1],
            "_scaled_mm": lambda m, x: torch._scaled_mm(
                x.to(F8), m.w8.t(), m.scales[:1], m.scales[:1], out_dtype=torch.bfloat16
            ),
            "_weight_int8pack_mm": WITH_WEIGHT["int8pack"][1],
        }[name]
    ).to("meta")
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(torch.empty(32, 32, device="meta"))
    (row,) = monitor._state.rows.values()
    (facts,) = [row.operation]
    assert facts.operation == name.removeprefix("_")
    assert (facts.synapses, facts.weight_shape) == (32 * 16, facts.weight_shape)
