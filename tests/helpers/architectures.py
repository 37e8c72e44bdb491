"""Published architectures in plain PyTorch, and closed forms for what their layers cost.

Static figures follow from the shapes of layers alone: weights are random, and spikes come from a
threshold without memory. The closed forms read nothing but hyper-parameters and shapes; nothing
here uses the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tests.helpers.toy import Spike


class Sum(nn.Module):
    """Sum of two branches, then an activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


# ------------------------------------------------------------------------ image classifiers


def resnet18(classes: int = 1000) -> nn.Module:
    """ResNet-18 of He et al., "Deep Residual Learning for Image Recognition", 2016."""

    def conv(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
        padding = kernel // 2
        layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        return [layer, nn.BatchNorm2d(outputs)]

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        body = [*conv(inputs, outputs, 3, stride), nn.ReLU(), *conv(outputs, outputs, 3, 1)]
        shortcut = [] if inputs == outputs else conv(inputs, outputs, 1, stride)
        return Sum(nn.Sequential(*body), nn.Sequential(*shortcut), nn.ReLU())

    layers = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs in (64, 128, 256, 512):
        layers += [block(inputs, outputs, 1 if outputs == 64 else 2), block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def vgg16(classes: int = 1000) -> nn.Module:
    """Configuration D of Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for features, outputs in ((512 * 7 * 7, 4096), (4096, 4096)):
        layers += [nn.Linear(features, outputs), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, classes))


# ----------------------------------------------------------------- baselines of NeuroBench


def speech_commands_snn() -> nn.Module:
    """One time step of the spiking baseline on Google Speech Commands.

    Its neurons have no parameters: decay and threshold are buffers there.
    """
    sizes = (20, 256, 256, 256, 35)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), Spike()]
    return nn.Sequential(*layers)


def speech_commands_ann() -> nn.Module:
    """M5 of Dai et al., "Very Deep Convolutional Neural Networks for Raw Waveforms", 2016.

    One second at 8 kHz; the first layer has a stride of 16.
    """
    layers: list[nn.Module] = []
    for inputs, outputs, kernel, stride in ((1, 32, 80, 16), (32, 32, 3, 1), (32, 64, 3, 1)):
        layers += _pooled_conv1d(inputs, outputs, kernel, stride)
    layers += _pooled_conv1d(64, 64, 3, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 35))


def _pooled_conv1d(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    layer = nn.Conv1d(inputs, outputs, kernel, stride)
    return [layer, nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(4)]


def gesture_snn() -> nn.Module:
    """One time step of the spiking baseline on DVS Gesture, downsampled to 32 x 32."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding="same"), nn.MaxPool2d(2), Spike()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 11), nn.Dropout(), Spike())


# ------------------------------------------------------------------------- Spikingformer


class SpikingAttention(nn.Module):
    """Attention without softmax on spikes: q (k^T v), on inputs of shape (T * B, C, N)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.spike = Spike()
        self.q, self.k, self.v = (
            nn.Sequential(nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), Spike())
            for _ in range(3)
        )
        self.proj = nn.Sequential(Spike(0.5), nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.spike(x)
        # (T * B, C, N) -> (T * B, heads, N, C / heads)
        q, k, v = (
            project(x).unflatten(1, (self.heads, -1)).transpose(-1, -2)
            for project in (self.q, self.k, self.v)
        )
        attended = (q @ (k.transpose(-1, -2) @ v)) * 0.125
        return self.proj(attended.transpose(-1, -2).flatten(1, 2))


class Spikingformer(nn.Module):
    """Spikingformer-``depth``-``dim``: Zhou et al., "Spikingformer", 2023, for ImageNet.

    Every image is shown ``steps`` times; the head sees the mean over time and positions.
    """

    def __init__(self, depth: int = 8, dim: int = 512, steps: int = 4, classes: int = 1000) -> None:
        super().__init__()
        self.steps = steps
        widths = (3, dim // 8, dim // 4, dim // 2, dim, dim)
        tokenizer: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            if i:
                tokenizer += [Spike(), nn.MaxPool2d(3, 2, 1)]
            tokenizer.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            tokenizer.append(nn.BatchNorm2d(outputs))
        self.tokenizer = nn.Sequential(*tokenizer)
        self.blocks = nn.Sequential(*(self._block(dim) for _ in range(depth)))
        self.head = nn.Linear(dim, classes)
        # Made and never called in the published model too; its parameter count holds them.
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * depth))

    @staticmethod
    def _block(dim: int) -> nn.Module:
        attention = nn.Sequential(nn.Flatten(2), SpikingAttention(dim, 8), _Square())
        mlp = nn.Sequential()
        for inputs, outputs in ((dim, 4 * dim), (4 * dim, dim)):
            mlp.extend([Spike(), nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs)])
        return nn.Sequential(
            *(Sum(body, nn.Identity(), nn.Identity()) for body in (attention, mlp))
        )

    def forward(self, image: Tensor) -> Tensor:
        samples = len(image)
        x = image.repeat(self.steps, 1, 1, 1)
        x = self.blocks(self.tokenizer(x))
        return self.head(x.flatten(2).mean(2).unflatten(0, (self.steps, samples)).mean(0))


class _Square(nn.Module):
    """(T * B, C, N) -> (T * B, C, sqrt(N), sqrt(N))."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (math.isqrt(x.shape[2]), -1))


# --------------------------------------------------------------------------- closed forms


@dataclass(frozen=True)
class LayerCall:
    """One call of a convolution or a linear layer; shapes with the batch dimension."""

    layer: nn.Conv1d | nn.Conv2d | nn.Linear
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @property
    def padded_macs(self) -> int:
        """Outputs x taps of an output, padding included."""
        return math.prod(self.output_shape) * self.layer.weight[0].numel()

    @property
    def edges_exact(self) -> int:
        """The same without the taps that fall on padding: dimension by dimension."""
        if isinstance(self.layer, nn.Linear):
            return self.padded_macs
        pairs = self.output_shape[0] * math.prod(self.layer.weight.shape[:2])
        return pairs * math.prod(self._taps(dim) for dim in range(len(self.layer.kernel_size)))

    @property
    def bias_additions(self) -> int:
        """One for each output, which some papers count as an operation."""
        return math.prod(self.output_shape) if self.layer.bias is not None else 0

    def _taps(self, dim: int) -> int:
        layer, size = self.layer, self.input_shape[2 + dim]
        kernel, stride, dilation = layer.kernel_size[dim], layer.stride[dim], layer.dilation[dim]
        same = dilation * (kernel - 1) // 2
        padding = same if layer.padding == "same" else layer.padding[dim]
        return sum(
            0 <= output * stride + tap * dilation - padding < size
            for output in range(self.output_shape[2 + dim])
            for tap in range(kernel)
        )


def layer_calls(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> list[LayerCall]:
    """The calls of one forward, in order, found without a single multiplication."""
    calls: list[LayerCall] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.append(LayerCall(layer, tuple(inputs[0].shape), tuple(output.shape)))

    with torch.device("meta"):
        model = build().eval()
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.register_forward_hook(note)
        model(torch.empty(input_shape))
    return calls
