"""The models that monitoring is measured on: sizes that people train, with spikes as they are.

Weights are random. Where nothing else decides it, thresholds and gains are set so that neurons fire
at a few to twenty percent, as trained networks do: what counting costs depends on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import snntorch
    from spikingjelly.activation_based import functional, layer, neuron


@dataclass(frozen=True)
class Workload:
    """A model with one batch, and how the batch goes through it.

    Attributes:
        name: Short name.
        what: Sizes, in words.
        model: The model.
        x: The batch, time first: ``(T, B, ...)``.
        reset: Called before every forward, outside the clock.
        steps_outside: Whether a loop outside calls the model once per time step.
        limit: Largest monitored over plain that is aimed at.
    """

    name: str
    what: str
    model: nn.Module
    x: Tensor
    reset: Callable[[], Any] = field(default=lambda: None)
    steps_outside: bool = False
    limit: float = 1.15

    @property
    def samples(self) -> int:
        """Samples in the batch."""
        return self.x.shape[1]

    @property
    def steps(self) -> int:
        """Time steps of each sample."""
        return self.x.shape[0]

    def forward(self) -> Any:
        """One batch through the model."""
        if not self.steps_outside:
            return self.model(self.x)
        self.model.reset()  # type: ignore[operator]
        return [self.model(step) for step in self.x]


# ------------------------------------------------------------------------ convolutions


def conv_snn() -> Workload:
    """Three convolutions and two linear layers, all time steps in one call."""

    def fires(threshold: float) -> nn.Module:
        lif: nn.Module = neuron.LIFNode(v_threshold=threshold, step_mode="m")
        return lif

    body = [
        *(layer.Conv2d(2, 32, 3, padding=1, step_mode="m"), fires(0.25)),
        *(layer.Conv2d(32, 64, 3, stride=2, padding=1, step_mode="m"), fires(0.1)),
        *(layer.Conv2d(64, 64, 3, stride=2, padding=1, step_mode="m"), fires(0.1)),
        layer.Flatten(step_mode="m"),
        *(layer.Linear(64 * 8 * 8, 256, step_mode="m"), fires(0.08)),
        *(layer.Linear(256, 10, step_mode="m"), fires(0.1)),
    ]
    model = nn.Sequential(*body).eval()
    x = (torch.rand(8, 16, 2, 32, 32) < 0.1).float()
    what = "3 conv and 2 linear layers, 2x32x32, B=16, T=8, SpikingJelly multi-step"
    return Workload("conv SNN", what, model, x, lambda: functional.reset_net(model), limit=1.08)


class SewBlock(nn.Module):
    """Residual block of spikes that are added: SEW-ResNet of Fang et al., NeurIPS 2021 (ADD)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_bn_lif(inputs, outputs, 3, stride), *_conv_bn_lif(outputs, outputs, 3, 1)
        )
        same = inputs == outputs and stride == 1
        shortcut = (
            nn.Identity() if same else nn.Sequential(*_conv_bn_lif(inputs, outputs, 1, stride))
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of both paths, added."""
        added: Tensor = self.body(x) + self.shortcut(x)
        return added


def _conv_bn_lif(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, step_mode="m")
    norm = layer.BatchNorm2d(outputs, step_mode="m")
    nn.init.constant_(norm.weight, 2.0)
    return [conv, norm, neuron.LIFNode(v_threshold=0.5, step_mode="m")]


def sew_resnet18(size: int = 64, samples: int = 4) -> Workload:
    """SEW-ResNet-18 on images that are given in every step.

    Args:
        size: Height and width of the images.
        samples: Images in the batch.
    """
    blocks: list[nn.Module] = []
    inputs = 64
    for outputs in (64, 128, 256, 512):
        blocks += [SewBlock(inputs, outputs, 1 if outputs == 64 else 2)]
        blocks += [SewBlock(outputs, outputs, 1)]
        inputs = outputs
    model = nn.Sequential(
        *_conv_bn_lif(3, 64, 7, 2),
        layer.MaxPool2d(3, 2, 1, step_mode="m"),
        *blocks,
        layer.AdaptiveAvgPool2d(1, step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(512, 10, step_mode="m"),
    )
    x = torch.rand(samples, 3, size, size).expand(4, -1, -1, -1, -1).contiguous()
    _settle(model, x)
    what = f"SEW-ResNet-18 (ADD), 3x{size}x{size} images, B={samples}, T=4, SpikingJelly multi-step"
    return Workload(
        "SEW-ResNet-18", what, model, x, lambda: functional.reset_net(model), limit=1.18
    )


def _settle(model: nn.Module, x: Tensor) -> None:
    """Let batch normalisation see the data, then fix it."""
    model.train()
    with torch.no_grad():
        for _ in range(30):
            model(x)
            functional.reset_net(model)
    model.eval()


# ------------------------------------------------------------------- loops over time steps


class StepLoop(nn.Module):
    """One time step of a fully connected network in snnTorch."""

    def __init__(self, units: int, layers: int = 3) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(units, units) for _ in range(layers))
        self.neurons = nn.ModuleList(snntorch.Leaky(beta=0.9, threshold=0.4) for _ in range(layers))
        self.potentials: list[Tensor] = []
        self.reset()

    def reset(self) -> None:
        """Forget the potentials."""
        self.potentials = [neurons.init_leaky() for neurons in self.neurons]  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the last layer."""
        for i, (linear, neurons) in enumerate(zip(self.linear, self.neurons, strict=True)):
            x, self.potentials[i] = neurons(linear(x), self.potentials[i])
        return x


def _step_loop(name: str, units: int, samples: int, limit: float) -> Workload:
    x = (torch.rand(100, samples, units) < 0.1).float()
    what = f"3 layers of {units} units, B={samples}, T=100 calls of one step, snnTorch"
    return Workload(name, what, StepLoop(units).eval(), x, steps_outside=True, limit=limit)


def step_loop() -> Workload:
    """Layers of a usual size, one call per time step."""
    return _step_loop("step loop, 512", 512, 64, 1.18)


def small_step_loop() -> Workload:
    """Layers so small that calls cost more than what they compute."""
    return _step_loop("step loop, 64", 64, 8, 1.38)


# ----------------------------------------------------------------------------- attention


class SpikingTransformerBlock(nn.Module):
    """Spiking self-attention and MLP after Spikformer of Zhou et al., ICLR 2023."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (_linear_bn_lif(features, features) for _ in range(3))
        self.attended = neuron.LIFNode(v_threshold=0.5, step_mode="m")
        self.projection = _linear_bn_lif(features, features)
        self.mlp = nn.Sequential(
            *_linear_bn_lif(features, 4 * features), *_linear_bn_lif(4 * features, features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``(T, B, tokens, features)`` to spike counts of the same shape."""
        q, k, v = (self._heads(part(x)) for part in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(-2, -1)) @ v * 0.125
        x = x + self.projection(self.attended(mixed.transpose(2, 3).flatten(3)))
        out: Tensor = x + self.mlp(x)
        return out

    def _heads(self, x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(-1, (self.heads, -1))
        return split.transpose(2, 3)


class TokenNorm(nn.Module):
    """Batch normalisation of the last dimension."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        nn.init.constant_(self.norm.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        normed: Tensor = self.norm(x.flatten(0, -2)).reshape(x.shape)
        return normed


def _linear_bn_lif(inputs: int, outputs: int) -> nn.Sequential:
    neurons = neuron.LIFNode(v_threshold=1.0, step_mode="m")
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), TokenNorm(outputs), neurons)


def transformer_block() -> Workload:
    """One block of a spiking transformer."""
    model = SpikingTransformerBlock(256, 8)
    x = (torch.rand(4, 8, 64, 256) < 0.15).float()
    _settle(model, x)
    what = "spiking transformer block, 256 features, 8 heads, 64 tokens, B=8, T=4, SpikingJelly"
    return Workload("transformer block", what, model, x, lambda: functional.reset_net(model))


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "conv": conv_snn,
    "sew": sew_resnet18,
    "loop": step_loop,
    "small-loop": small_step_loop,
    "transformer": transformer_block,
}
