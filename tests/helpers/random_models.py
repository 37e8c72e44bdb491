"""Random small models that note what their operations were given, and what that costs by hand.

No hooks and nothing of the library: a ``Tap`` before each layer, and modules that compute with
bare parameters, append a ``Capture`` to a list that they were built with. ``expected_counts``
walks over every output, every tap and every input element of a capture.

Weights and inputs are small multiples of a power of two, so that a forward is exact in floating
point, and gives the same whatever the size of its batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.architectures import Sum
from tests.helpers.toy import Spike

KINDS = ("binary", "ternary", "integer", "analog")
Counts = dict[str, Any]


# ------------------------------------------------------------------------------- captures


@dataclass(frozen=True)
class Capture:
    """One call of one operation.

    ``linear``: input ``(..., inputs)``, weight ``(outputs, inputs)``. ``conv`` and
    ``conv_transpose``: input ``(B, C, *size)`` and weight as PyTorch has them.
    """

    module: nn.Module  # in whose forward it happened
    operation: str
    input: Tensor
    weight: Tensor
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()  # before each dimension; after it the same
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"
    output_padding: tuple[int, ...] = ()
    slot: int = 0  # of several operations in one forward: which

    def __post_init__(self) -> None:
        for name in ("input", "weight"):
            object.__setattr__(self, name, getattr(self, name).detach().clone())

    @classmethod
    def of_layer(cls, layer: Any, x: Tensor) -> Capture:
        if isinstance(layer, nn.Linear):
            return cls(layer, "linear", x, layer.weight)
        arguments = {name: getattr(layer, name) for name in ("stride", "dilation", "groups")}
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
            arguments |= {"padding": layer.padding, "output_padding": layer.output_padding}
            return cls(layer, "conv_transpose", x, layer.weight, **arguments)
        padding = layer.padding
        if padding == "same":  # of odd kernels: as much before as after
            reach = zip(layer.dilation, layer.kernel_size, strict=True)
            padding = tuple(d * (k - 1) // 2 for d, k in reach)
        arguments |= {"padding": padding, "padding_mode": layer.padding_mode}
        return cls(layer, "conv", x, layer.weight, **arguments)


def expected_counts(capture: Capture) -> Counts:
    """Every count of one call, and the kind of its input, by explicit loops."""
    fanout, effective, padded = synapses(capture)
    vectors = capture.input.double().reshape(-1, fanout.size).tolist()
    counts: Counts = dict.fromkeys(COUNTED, 0)
    for frame in vectors:
        counts["dense_macs"] += padded
        for x, taps, taps_left in zip(
            frame, fanout.ravel().tolist(), effective.ravel().tolist(), strict=True
        ):
            counts["elements"] += 1
            counts["magnitude"] += abs(x)
            counts["dense_synops"] += taps
            counts["synops"] += abs(x) * taps
            counts["effective_magnitude"] += abs(x) * taps_left
            if x != 0:
                counts["events"] += 1
                counts["event_synops"] += taps
                counts["effective_synops"] += taps_left
    values = {x for frame in vectors for x in frame}
    return counts | {"kind": _kind(values)}


COUNTED = (
    "elements",
    "events",
    "magnitude",
    "synops",
    "event_synops",
    "effective_synops",
    "effective_magnitude",
    "dense_synops",
    "dense_macs",
)


def _kind(values: set[float]) -> str:
    if values <= {0, 1}:
        return "binary"
    if values <= {-1, 0, 1}:
        return "ternary"
    return "integer" if all(x.is_integer() for x in values) else "analog"


def expected_row(captures: Iterable[Capture]) -> Counts:
    """All calls of one operation: sums, the loosest kind, and what follows from it."""
    calls = [expected_counts(capture) for capture in captures]
    row: Counts = {name: sum(call[name] for call in calls) for name in COUNTED}
    row["kind"] = max((call["kind"] for call in calls), key=KINDS.index)
    row["acs"] = row["macs"] = 0
    if row["kind"] == "analog":
        row["macs"] = row["effective_synops"]
        row["synops"] = None  # has no meaning
    else:
        integers = row["kind"] == "integer"
        row["acs"] = row["effective_magnitude" if integers else "effective_synops"]
    return row


def synapses(capture: Capture) -> tuple[np.ndarray, np.ndarray, int]:
    """Of one frame: taps per input element, those of nonzero weight, and MACs with padding."""
    weight = capture.weight.double().numpy()
    if capture.operation == "linear":
        outputs, inputs = weight.shape
        return np.full(inputs, outputs), np.count_nonzero(weight, axis=0), inputs * outputs
    if capture.operation == "conv":
        return _synapses_of_conv(capture, weight)
    return _synapses_of_transposed(capture, weight)


def _synapses_of_conv(capture: Capture, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    _, channels, *size = capture.input.shape
    of_group, kernel = weight.shape[1], weight.shape[2:]
    outputs = weight.shape[0] // capture.groups  # of one group
    fanout, effective = (np.zeros((channels, *size), dtype=int) for _ in range(2))
    padded = 0
    reach = [_sources(capture, dim, size[dim], kernel[dim]) for dim in range(len(size))]
    for channel, taps in itertools.product(range(channels), itertools.product(*reach)):
        padded += outputs
        source, tap = (tuple(part) for part in zip(*taps, strict=True))
        if None in source:
            continue
        first = channel // of_group * outputs
        weights = weight[(slice(first, first + outputs), channel % of_group, *tap)]
        fanout[(channel, *source)] += outputs
        effective[(channel, *source)] += np.count_nonzero(weights)
    return fanout, effective, padded


def _sources(capture: Capture, dim: int, size: int, kernel: int) -> list[tuple[int | None, int]]:
    """Along one dimension, of every output each tap: the input it reads, None for a zero."""
    stride, padding = capture.stride[dim], capture.padding[dim]
    dilation = capture.dilation[dim]
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    sources: list[tuple[int | None, int]] = []
    for output, tap in itertools.product(range(outputs), range(kernel)):
        position = output * stride + tap * dilation - padding
        sources.append((_source(position, size, capture.padding_mode), tap))
    return sources


def _source(position: int, size: int, padding_mode: str) -> int | None:
    if 0 <= position < size:
        return position
    if padding_mode == "zeros":
        return None
    if padding_mode == "circular":
        return position % size
    if padding_mode == "replicate":
        return 0 if position < 0 else size - 1
    return -position if position < 0 else 2 * (size - 1) - position  # reflect


def _synapses_of_transposed(
    capture: Capture, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    _, channels, *size = capture.input.shape
    outputs, kernel = weight.shape[1], weight.shape[2:]
    fanout, effective = (np.zeros((channels, *size), dtype=int) for _ in range(2))
    padded = 0
    for channel, *source in itertools.product(range(channels), *map(range, size)):
        for tap in itertools.product(*map(range, kernel)):
            padded += outputs
            if all(_lands_inside(capture, dim, source[dim], tap[dim]) for dim in range(len(size))):
                fanout[(channel, *source)] += outputs
                weights = weight[(channel, slice(None), *tap)]
                effective[(channel, *source)] += np.count_nonzero(weights)
    return fanout, effective, padded


def _lands_inside(capture: Capture, dim: int, source: int, tap: int) -> bool:
    stride, padding = capture.stride[dim], capture.padding[dim]
    dilation, kernel = capture.dilation[dim], capture.weight.shape[2 + dim]
    size = capture.input.shape[2 + dim]
    outputs = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
    outputs += capture.output_padding[dim]
    return 0 <= source * stride + tap * dilation - padding < outputs


# -------------------------------------------------------------------------------- modules


class Tap(nn.Module):
    """Passes its input on, and notes it for the layer that comes next."""

    def __init__(self, layer: nn.Module, captures: list[Capture]) -> None:
        super().__init__()
        self.next = (layer,)  # in a tuple: not a child
        self.captures = captures

    def forward(self, x: Tensor) -> Tensor:
        self.captures.append(Capture.of_layer(self.next[0], x))
        return x


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Twice(nn.Module):
    """Calls a layer on its input and on its own output."""

    def __init__(self, layer: nn.Module, captures: list[Capture]) -> None:
        super().__init__()
        self.tap, self.layer = Tap(layer, captures), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.tap(self.layer(self.tap(x))))


class Concatenation(nn.Module):
    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x).flatten(1) for branch in self.branches], dim=1)


class Bare(nn.Module):
    """Computes with parameters of its own, without a layer; some weights through a mask."""

    def __init__(self, weight: Sequence[int], captures: list[Capture]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*weight))
        self.captures = captures

    def note(self, *args: Any, **kwargs: Any) -> None:
        self.captures.append(Capture(self, *args, **kwargs))


class BareLinear(Bare):
    def __init__(
        self, inputs: int, outputs: int, bias: bool, masked: bool, captures: list[Capture]
    ) -> None:
        super().__init__((outputs, inputs), captures)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.arange(self.weight.shape[1], device=x.device) % 2
        weight = self.weight * mask if self.masked else self.weight
        self.note("linear", x, weight)
        return F.linear(x, weight, self.bias)


class BareMatmul(Bare):
    """``x @ W``, written in several ways."""

    WAYS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
        lambda x, weight: x @ weight,
        lambda x, weight: torch.matmul(input=x, other=weight),
        lambda x, weight: x.matmul(weight),
        lambda x, weight: torch.einsum("...i,io->...o", x, weight),
    )

    def __init__(self, inputs: int, outputs: int, way: int, captures: list[Capture]) -> None:
        super().__init__((inputs, outputs), captures)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        self.note("linear", x, self.weight.T)
        return self.WAYS[self.way](x, self.weight)


class BareMatmulFromLeft(Bare):
    """``W @ x`` on columns: ``(B, inputs, N)`` to ``(B, outputs, N)``."""

    def __init__(self, inputs: int, outputs: int, captures: list[Capture]) -> None:
        super().__init__((outputs, inputs), captures)

    def forward(self, x: Tensor) -> Tensor:
        self.note("linear", x.transpose(-1, -2), self.weight)
        return self.weight @ x


class BarePair(Bare):
    """Two products in one forward, with spikes in between."""

    def __init__(self, inputs: int, outputs: int, captures: list[Capture]) -> None:
        super().__init__((inputs, inputs), captures)
        self.second = nn.Parameter(torch.zeros(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        self.note("linear", x, self.weight.T)
        x = (x @ self.weight > 0.25).to(x.dtype)
        self.note("linear", x, self.second.T, slot=1)
        return x @ self.second


class BareConv(Bare):
    """``F.conv`` or ``F.conv_transpose``, with the hyper-parameters of a layer."""

    def __init__(self, layer: Any, masked: bool, captures: list[Capture]) -> None:
        super().__init__(layer.weight.shape, captures)
        self.arguments = {
            name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")
        }
        self.dims, self.masked = len(layer.kernel_size), masked
        self.transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
        if self.transposed:
            self.arguments["output_padding"] = layer.output_padding

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.arange(self.weight.shape[-1], device=x.device) % 2
        weight = self.weight * mask if self.masked else self.weight
        self.note("conv_transpose" if self.transposed else "conv", x, weight, **self.arguments)
        if self.transposed:
            convolve = (F.conv_transpose1d, F.conv_transpose2d)[self.dims - 1]
        else:
            convolve = (F.conv1d, F.conv2d)[self.dims - 1]
        return convolve(x, weight, **self.arguments)


# ------------------------------------------------------------------------------ strategy

PLAIN_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Case:
    """A model, a batch for it, and the list into which its operations note themselves."""

    model: nn.Module
    inputs: Tensor
    captures: list[Capture]

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.model, PLAIN_LAYERS):  # nobody inside to note it
            self.captures.append(Capture.of_layer(self.model, x))
        return self.model(x)

    def rows(self) -> dict[str, list[Counts]]:
        """By the name of a module, what each of its operations must have counted so far."""
        names = {id(module): name for name, module in self.model.named_modules()}
        names[id(self.model)] = type(self.model).__name__
        slots: dict[str, dict[int, list[Capture]]] = {}
        for capture in self.captures:
            of_module = slots.setdefault(names[id(capture.module)], {})
            of_module.setdefault(capture.slot, []).append(capture)
        return {
            name: [expected_row(captures) for _, captures in sorted(of_module.items())]
            for name, of_module in slots.items()
        }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A model of one to five parts, its parameters, and one to four samples."""
    captures: list[Capture] = []
    shape = draw(_SHAPES)
    if draw(st.integers(0, 9)) == 0:
        model = draw(_layer(shape))
        if draw(st.booleans()):
            model = draw(_bare(shape, captures))
    else:
        model = draw(_sequence(shape, captures, draw(st.integers(1, 5)), nested=True))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    divisor = draw(st.sampled_from([1, 1, 2]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator) / divisor)
    low, high, unit = draw(st.sampled_from([(0, 2, 1), (-1, 2, 1), (0, 4, 1), (-3, 4, 1)] * 2))
    if draw(st.integers(0, 3)) == 0:
        low, high, unit = -6, 7, 4
    samples = (draw(st.integers(1, 4)), *shape)
    inputs = torch.randint(low, high, samples, generator=generator) / unit
    silenced = torch.rand(samples, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    captures.clear()
    return Case(model, inputs.masked_fill(silenced, 0).to(dtype), captures)


_channels = st.sampled_from([1, 2, 2, 3, 4, 4])
_images = st.tuples(_channels, st.integers(2, 5), st.integers(2, 5))
_signals = st.tuples(_channels, st.integers(2, 7))
_SHAPES = st.one_of(_images, _images, _images, _signals, st.tuples(st.integers(1, 8)))


@st.composite
def _sequence(
    draw: st.DrawFn, shape: tuple[int, ...], captures: list[Capture], parts: int, nested: bool
) -> nn.Module:
    modules: list[nn.Module] = []
    for _ in range(parts):
        part = draw(_part(shape, captures, nested))
        modules += part
        with torch.no_grad():
            shape = tuple(nn.Sequential(*part)(torch.zeros(1, *shape)).shape[1:])
        if math.prod(shape) > 200:
            break
    return nn.Sequential(*modules)


@st.composite
def _part(
    draw: st.DrawFn, shape: tuple[int, ...], captures: list[Capture], nested: bool
) -> list[nn.Module]:
    kinds = ["layer"] * 6 + ["bare"] * 4 + ["spike"] * 2 + ["scale", "twice", "sum"]
    if len(shape) == 3 and min(shape[1:]) > 1:
        kinds += ["pool"] * 2
    if len(shape) > 1:
        kinds += ["flatten"]
    if nested:
        kinds += ["concatenation", "shared"]
    kind = draw(st.sampled_from(kinds))
    if kind == "layer":
        layer = draw(_layer(shape))
        return [Tap(layer, captures), layer, *[Spike(0.25)] * draw(st.integers(0, 1))]
    if kind == "bare":
        return [draw(_bare(shape, captures)), *[Spike(0.25)] * draw(st.integers(0, 1))]
    if kind == "spike":
        return [Spike(draw(st.sampled_from([0.25, 1.25])))]
    if kind == "scale":
        return [Scale(draw(st.sampled_from([-1.0, 0.5, 2.0])))]
    if kind == "flatten":
        return [nn.Flatten()]
    if kind == "pool":
        return [nn.AvgPool2d(2, stride=draw(st.integers(1, 2)))]
    if kind == "concatenation":
        lengths = draw(st.lists(st.integers(1, 2), min_size=2, max_size=2))
        branches = [draw(_sequence(shape, captures, n, nested=False)) for n in lengths]
        return [Concatenation(branches)]
    layer = _of_same_shape(shape, draw(st.booleans()))
    if kind == "twice":
        return [Twice(layer, captures)]
    body = nn.Sequential(Tap(layer, captures), layer)
    if kind == "sum":
        return [Sum(body, nn.Identity(), nn.Identity())]
    spiking = nn.Sequential(Spike(0.25), Tap(layer, captures), layer)
    return [Sum(body, spiking, nn.Identity())]  # one layer, two parents


def _of_same_shape(shape: tuple[int, ...], bias: bool) -> nn.Module:
    if len(shape) == 1:
        return nn.Linear(shape[0], shape[0], bias=bias)
    convolution = nn.Conv1d if len(shape) == 2 else nn.Conv2d
    return convolution(shape[0], shape[0], 3, padding="same", bias=bias)


@st.composite
def _layer(draw: st.DrawFn, shape: tuple[int, ...]) -> nn.Module:
    kind = draw(st.sampled_from(["linear", "conv", "conv", "conv", "transposed", "transposed"]))
    if len(shape) == 1 or kind == "linear":
        return nn.Linear(shape[-1], draw(st.integers(1, 5)), bias=draw(st.booleans()))
    return draw(_convolution(shape, transposed=kind == "transposed"))


@st.composite
def _convolution(draw: st.DrawFn, shape: tuple[int, ...], transposed: bool) -> nn.Module:
    channels, *size = shape
    groups = draw(st.sampled_from([g for g in (1, 2, 2, 3, 3, 4, 4) if channels % g == 0]))
    arguments: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": groups * draw(st.integers(1, 4 // groups)),
        "stride": tuple(draw(st.integers(1, 2)) for _ in size),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if transposed:
        arguments["kernel_size"] = tuple(draw(st.integers(1, 3)) for _ in size)
        arguments["dilation"] = tuple(draw(st.integers(1, 2)) for _ in size)
        limits = [max(pair) for pair in zip(arguments["stride"], arguments["dilation"])]  # noqa: B905
        arguments["output_padding"] = tuple(draw(st.integers(0, n - 1)) for n in limits)
        # At least one output is left: sizes are two or more, or nothing is cut away.
        arguments["padding"] = tuple(
            draw(st.integers(0, 1)) if n > 2 and k > 1 else 0
            for n, k in zip(size, arguments["kernel_size"], strict=True)
        )
        return (nn.ConvTranspose1d, nn.ConvTranspose2d)[len(size) - 1](**arguments)
    mode = draw(st.sampled_from(["zeros"] * 2 + ["reflect", "circular", "replicate"]))
    same = draw(st.integers(0, 4)) == 0
    if same:
        arguments["stride"] = (1,) * len(size)
    kernel, padding, dilation = [], [], []
    for n in size:
        pad = draw(st.integers(0, min(2, n - 1)))
        widest = 3 if same and n > 2 else min(3, n + 2 * pad)
        k = draw(st.sampled_from([1, 3] if same else [1, 2, 3]))
        k = k if k <= widest else 1
        room = n > 4 if same else 2 * (k - 1) + 1 <= n + 2 * pad
        kernel.append(k)
        padding.append(pad)
        dilation.append(draw(st.integers(1, 2)) if room else 1)
    arguments |= {"kernel_size": tuple(kernel), "dilation": tuple(dilation), "padding_mode": mode}
    arguments["padding"] = "same" if same else tuple(padding)
    return (nn.Conv1d, nn.Conv2d)[len(size) - 1](**arguments)


@st.composite
def _bare(draw: st.DrawFn, shape: tuple[int, ...], captures: list[Capture]) -> nn.Module:
    kinds = ["linear", "matmul", "matmul", "pair"] + ["left", "conv", "conv", "conv"] * (
        len(shape) > 1
    )
    kind = draw(st.sampled_from(kinds))
    inputs, outputs = shape[-1], draw(st.integers(1, 5))
    if kind == "linear":
        return BareLinear(inputs, outputs, draw(st.booleans()), draw(st.booleans()), captures)
    if kind == "matmul":
        way = draw(st.integers(0, len(BareMatmul.WAYS) - 1))
        return BareMatmul(inputs, outputs, way, captures)
    if kind == "pair":
        return BarePair(inputs, outputs, captures)
    if kind == "left":
        return BareMatmulFromLeft(shape[-2], outputs, captures)
    layer = draw(_convolution(shape, transposed=draw(st.booleans())))
    if getattr(layer, "padding", None) == "same":
        layer = _of_same_shape(shape, bias=False)
        layer.padding = (1,) * len(layer.kernel_size)
    return BareConv(layer, draw(st.booleans()), captures)
