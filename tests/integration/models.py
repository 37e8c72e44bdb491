"""A zoo of small realistic models: the four frameworks, and what has led counters astray.

Every case builds its model from a fixed seed, with weights on a grid of 1/8: sums of spikes are
exact then, so that a neuron spikes in a batch of three if it does alone. Some weights are zero.
Frameworks are imported where a model is built, so that one that is missing fails its own cases.

Functional calls are noted for the brute force where they are made (``see_*``); without a listener
these notes do nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from tests.helpers import brute_force
from tests.helpers.brute_force import (
    Call,
    Product,
    Rule,
    Truth,
    see,
    see_conv,
    see_einsum,
    see_linear,
    see_product,
)
from tests.helpers.toy import StraightThrough, Surrogate

T, B = 3, 4  # steps and samples


def once(model: nn.Module, x: Tensor) -> Any:
    """The model does the steps."""
    return model(x)


@dataclass(frozen=True)
class Case:
    """A model, what is fed to it and what is known about it.

    Attributes:
        name: Name of the test.
        build: Makes the model; twice the same.
        inputs: Makes all samples, of dimensions ``batch_dim`` and ``time_dim``.
        layers: Names of all rows, in order of the first call.
        neurons: Spiking layers: name to class name and leading dimensions that are no neurons.
        batch_dim: Dimension of samples.
        time_dim: Dimension of steps; None: there is none.
        call: Feeds samples to the model.
        told: Whether samples and steps are told by ``Monitor.batch``.
        declared: Further arguments of the Monitor.
        train: Whether the model is in training mode.
        cut: Whether a sample gives the same in any batch.
        grad: Whether gradients can be taken.
        exact: Whether outputs agree to the bit, or to rounding: PyTorch has a fused way to do
            without gradient what the model does, and leaves it where somebody listens.
        rules: What modules do that only this case has.
        listen: Further hooks for the brute force.
        uncounted: Names of what the report must say was not counted.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    layers: tuple[str, ...]
    neurons: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    batch_dim: int = 1
    time_dim: int | None = 0
    call: Callable[[nn.Module, Tensor], Any] = once
    told: bool = False
    declared: Mapping[str, Any] = field(default_factory=dict)
    train: bool = False
    cut: bool = True
    grad: bool = True
    exact: bool = True
    rules: Callable[[], Mapping[type[nn.Module], Rule]] = dict
    listen: Callable[[Truth, nn.Module], None] | None = None
    uncounted: tuple[str, ...] = ()

    def model(self) -> nn.Module:
        """A fresh model."""
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the frameworks' imports
            model = self.build()
        return model.train(self.train)

    def run(self, model: nn.Module, x: Tensor) -> Any:
        """Feed samples to the model, from a fresh state and the same random numbers."""
        torch.manual_seed(2)
        fresh(model)
        return self.call(model, x)


CASES: list[Case] = []


def case(
    inputs: Callable[[], Tensor], layers: str, neurons: str = "", lead: int = 1, **more: Any
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Add a case whose model the decorated function builds.

    ``neurons`` are ``name:class`` pairs; ``lead`` holds for all of them.
    """

    def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        pairs = (pair.split(":") for pair in neurons.split())
        spiking = {name: (type_, lead) for name, type_ in pairs}
        name = build.__name__.strip("_")
        CASES.append(Case(name, build, inputs, tuple(layers.split()), spiking, **more))
        return build

    return add


def fresh(model: nn.Module) -> None:
    """Reset the state of all neurons, as each framework wants it."""
    for module in model.modules():
        for name in ("reset_mem", "reset", "reset_states"):
            if callable(getattr(module, name, None)):
                getattr(module, name)()
                break


def step_by_step(model: nn.Module, x: Tensor) -> Tensor:
    """An outer loop calls the model once per step."""
    return torch.stack([_tensor(model(step)) for step in x])


def flattened(model: nn.Module, x: Tensor) -> Any:
    """Samples and steps in one dimension."""
    return model(x.flatten(0, 1))


def _tensor(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output


def spikes(*shape: int, rate: float = 0.3) -> Callable[[], Tensor]:
    """Random spikes."""

    def make() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.rand(shape, generator=generator).lt(rate).float()

    return make


def image(*shape: int) -> Callable[[], Tensor]:
    """Random pixels on a grid of 1/8."""

    def make() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.randint(0, 9, shape, generator=generator) / 8

    return make


def signed(*shape: int) -> Callable[[], Tensor]:
    """Random spikes of either sign."""

    def make() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.randint(-1, 2, shape, generator=generator).float()

    return make


def on_grid(model: nn.Module, size: float = 4) -> nn.Module:
    """Random weights on a grid of 1/8, some of them zero; biases of 0 to 3/8."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.copy_((torch.randn(p.shape) * size).round() / 8)
            elif "bias" in name:
                p.copy_(torch.randint(0, 4, p.shape) / 8)
    return model


def _fire(x: Tensor) -> Tensor:
    spikes: Tensor = StraightThrough.apply(x, 0.25)
    return spikes


def sequence(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


# ============================================================================ snnTorch


@case(
    spikes(T, B, 2, 8, 8),
    "conv1 conv2 fc",
    "lif1:Leaky lif2:Leaky lif3:Leaky",
    declared={"input_scale": {"fc": 0.25}},
)
def _snntorch_cnn_with_an_inner_loop() -> nn.Module:
    """States are passed along; average pooling before the last layer is declared."""
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
            self.lif1 = snn.Leaky(beta=0.5)
            self.conv2 = nn.Conv2d(3, 4, 3, stride=2)
            self.lif2 = snn.Leaky(beta=0.5, reset_mechanism="zero")
            self.fc = nn.Linear(4, 5)
            self.lif3 = snn.Leaky(beta=0.5, threshold=0.25, reset_mechanism="none")

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mem1, mem2, mem3 = (lif.reset_mem() for lif in (self.lif1, self.lif2, self.lif3))
            recorded = []
            for step in x:
                spk1, mem1 = self.lif1(self.conv1(step), mem1)
                spk2, mem2 = self.lif2(self.conv2(F.max_pool2d(spk1, 2)), mem2)
                spk3, mem3 = self.lif3(self.fc(F.avg_pool2d(spk2, 2, 2, 1).sum((2, 3))), mem3)
                recorded.append(spk3)
            return torch.stack(recorded), mem3

    return on_grid(Net())


def _snntorch_sequential() -> nn.Module:
    import snntorch as snn

    return on_grid(
        sequence(
            nn.Conv2d(2, 3, 3),
            snn.Leaky(beta=0.5, init_hidden=True),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 3, 2, padding="same"),
            snn.Synaptic(alpha=0.5, beta=0.5, init_hidden=True),
            nn.Flatten(),
            nn.Linear(27, 4),
            snn.Leaky(beta=0.5, init_hidden=True, output=True),
        )
    )


_OUTER: dict[str, Any] = {"call": step_by_step, "told": True}
_SEQUENTIAL = (spikes(T, B, 2, 8, 8), "0 3 6", "1:Leaky 4:Synaptic 7:Leaky")


@case(*_SEQUENTIAL, **_OUTER)
def _snntorch_sequential_with_an_outer_loop() -> nn.Module:
    """Average pooling is not declared: the second convolution has analog input."""
    return _snntorch_sequential()


@case(*_SEQUENTIAL, **_OUTER, declared={"input_scale": {"3": 0.25}})
def _snntorch_declared_average_pooling() -> nn.Module:
    return _snntorch_sequential()


@case(
    image(B, 2, 6, 6),
    "conv1 conv2 fc",
    "lif1:Leaky lif2:Lapicque",
    batch_dim=0,
    time_dim=None,
)
def _snntorch_direct_coding() -> nn.Module:
    """The first layer sees the same image at every step."""
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(2, 4, 3)
            self.lif1 = snn.Leaky(beta=0.75)
            self.conv2 = nn.Conv2d(4, 2, 3)
            self.lif2 = snn.Lapicque(R=1.0, C=4.0, time_step=1.0)
            self.fc = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.lif1.reset_mem(), self.lif2.reset_mem()
            total: Any = 0
            for _ in range(T):
                spk1, _ = self.lif1(self.conv1(x))
                spk2, _ = self.lif2(self.conv2(spk1))
                total = total + self.fc(spk2.flatten(1))
            return total

    return on_grid(Net())


def _snntorch_graded() -> nn.Module:
    import snntorch as snn

    return on_grid(
        sequence(
            nn.Linear(6, 8),
            snn.Leaky(beta=0.5, init_hidden=True, graded_spikes_factor=0.5),
            nn.Linear(8, 4),
            snn.Leaky(beta=0.5, threshold=0.5, init_hidden=True),
        )
    )


@case(spikes(T, B, 6), "0 2", "1:Leaky 3:Leaky", **_OUTER)
def _snntorch_graded_spikes() -> nn.Module:
    return _snntorch_graded()


@case(spikes(T, B, 6), "0 2", "1:Leaky 3:Leaky", **_OUTER, declared={"input_scale": {"2": 0.5}})
def _snntorch_declared_graded_spikes() -> nn.Module:
    return _snntorch_graded()


@case(
    spikes(T, B, 2, 5, 5),
    "conv rconv.recurrent fc rlif.recurrent syn.recurrent",
    "rconv:RLeaky rlif:RLeaky syn:RSynaptic one:RLeaky",
)
def _snntorch_recurrent() -> nn.Module:
    """All-to-all recurrence is a layer of its own, with spikes of the last step as input."""
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.rconv = snn.RLeaky(beta=0.5, conv2d_channels=3, kernel_size=3, init_hidden=True)
            self.fc = nn.Linear(27, 5)
            self.rlif = snn.RLeaky(beta=0.5, linear_features=5, init_hidden=True)
            self.syn = snn.RSynaptic(alpha=0.5, beta=0.5, linear_features=5, init_hidden=True)
            self.one = snn.RLeaky(beta=0.5, V=0.5, all_to_all=False, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            out = []
            for step in x:
                hidden = self.fc(self.rconv(self.conv(step)).flatten(1))
                out.append(self.one(self.syn(self.rlif(hidden) * 2)))
            return torch.stack(out)

    return on_grid(Net())


@case(
    spikes(T, B, 5),
    "fc slstm.lstm_cell.ih slstm.lstm_cell.hh out",
    "lif:Leaky slstm:SLSTM",
)
def _snntorch_spiking_lstm() -> nn.Module:
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 6)
            self.lif = snn.Leaky(beta=0.5, init_hidden=True)
            self.slstm = snn.SLSTM(6, 6, threshold=0.1)
            self.out = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            syn, mem = self.slstm.reset_mem()
            out = []
            for step in x:
                spk, syn, mem = self.slstm(self.lif(self.fc(step)), syn, mem)
                out.append(self.out(spk))
            return torch.stack(out)

    return on_grid(Net())


@case(spikes(T, B, 6), "0.linear fc", "0:LinearLeaky", lead=2)
def _snntorch_all_steps_at_once() -> nn.Module:
    """A layer that takes all steps at once, and one of its kind that returns no spikes."""
    import snntorch as snn

    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(snn.LinearLeaky(beta=0.5, in_features=6, out_features=5))
            self.fc = nn.Linear(5, 4)
            self.readout = snn.StateLeaky(beta=0.5, channels=4, output=False)

        def forward(self, x: Tensor) -> Tensor:
            spk, _ = self[0](x)
            return self.readout(self.fc(spk))

    return on_grid(Net())


@case(spikes(T, B, 6), "lif.rnn.ih_l0 lif.rnn.hh_l0 fc", "lif:LeakyParallel", lead=2, cut=False)
def _snntorch_fused_recurrence() -> nn.Module:
    """Neurons whose state is that of a fused recurrent network."""
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = snn.LeakyParallel(6, 5, threshold=0.1)
            self.fc = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.lif(x))

    return Net()


# ======================================================================== SpikingJelly


def _spikingjelly_cnn(step_mode: str) -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron

    net = sequence(
        layer.Conv2d(2, 3, 3, padding=1, bias=False),
        layer.BatchNorm2d(3),
        neuron.LIFNode(tau=2.0, v_threshold=0.5),
        layer.MaxPool2d(2),
        layer.Conv2d(3, 4, 3, padding=1),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(16, 5),
        neuron.ParametricLIFNode(v_threshold=0.25),
    )
    functional.set_step_mode(net, step_mode)
    return on_grid(net)


_SJ_LAYERS = ("0 4 8", "2:LIFNode 5:IFNode 9:ParametricLIFNode")


@case(spikes(T, B, 2, 8, 8), *_SJ_LAYERS, lead=2, declared={"input_scale": {"8": 0.25}})
def _spikingjelly_cnn_multi_step() -> nn.Module:
    """Layers take (steps, samples, ...)."""
    return _spikingjelly_cnn("m")


@case(spikes(T, B, 2, 8, 8), *_SJ_LAYERS, **_OUTER)
def _spikingjelly_cnn_single_step() -> nn.Module:
    return _spikingjelly_cnn("s")


@case(
    spikes(T, B, 2, 8, 8),
    "conv.0 block.conv1.0 block.conv2.0 block2.conv1.0 block2.conv2.0 fc",
    "lif:LIFNode block.sn1:IFNode block.sn2:IFNode block2.sn1:IFNode block2.sn2:IFNode",
    lead=2,
)
def _spikingjelly_sew_resnet() -> nn.Module:
    """Blocks that add spikes: what follows sees integers."""
    from spikingjelly.activation_based import functional, layer, neuron

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = sequence(layer.Conv2d(3, 3, 3, padding=1, bias=False), _bn(3))
            self.sn1 = neuron.IFNode(v_threshold=0.5)
            self.conv2 = sequence(layer.Conv2d(3, 3, 3, padding=1, bias=False), _bn(3))
            self.sn2 = neuron.IFNode(v_threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.sn2(self.conv2(self.sn1(self.conv1(x)))) + x

    def _bn(channels: int) -> nn.Module:
        return layer.BatchNorm2d(channels)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = sequence(layer.Conv2d(2, 3, 3, stride=2, padding=1), _bn(3))
            self.lif = neuron.LIFNode(v_threshold=0.5)
            self.block, self.block2 = Block(), Block()
            self.fc = layer.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block2(self.block(self.lif(self.conv(x))))
            return self.fc(x.sum((3, 4)))

    net = Net()
    functional.set_step_mode(net, "m")
    return on_grid(net)


@case(
    spikes(T, B, 2, 8, 8),
    "block.conv1 block.conv2 block.shortcut.0 fc",
    "block.sn1:LIFNode block.sn2:LIFNode",
    **_OUTER,
)
def _spikingjelly_spiking_resnet() -> nn.Module:
    """A strided block whose shortcut is a 1x1 convolution, added before the neuron."""
    from spikingjelly.activation_based import layer, neuron

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = layer.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
            self.bn1 = layer.BatchNorm2d(4)
            self.sn1 = neuron.LIFNode(v_threshold=0.5)
            self.conv2 = layer.Conv2d(4, 4, 3, padding=1, bias=False)
            self.bn2 = layer.BatchNorm2d(4)
            self.shortcut = sequence(
                layer.Conv2d(2, 4, 1, stride=2, bias=False), layer.BatchNorm2d(4)
            )
            self.sn2 = neuron.LIFNode(v_threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            out = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
            return self.sn2(out + self.shortcut(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()
            self.fc = layer.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.block(x).flatten(1))

    return on_grid(Net())


@case(
    spikes(T, B, 2, 6, 6),
    "block.0 fc",
    "loop.0:LIFNode",
)
def _spikingjelly_containers() -> nn.Module:
    """Containers that flatten steps and samples, or loop over steps."""
    from spikingjelly.activation_based import layer, neuron

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
            self.loop = layer.MultiStepContainer(neuron.LIFNode(v_threshold=0.5))
            self.fc = nn.Linear(48, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.loop(self.block(x)).flatten(2))

    return on_grid(Net())


@case(
    signed(T, B, 6),
    "0 2 4",
    "1:TernaryLIFNode 3:ILIFNode 5:TernaryIFNode",
    lead=2,
)
def _spikingjelly_ternary_and_integer_spikes() -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron

    net = sequence(
        layer.Linear(6, 8),
        neuron.TernaryLIFNode(v_threshold=0.25),
        layer.Linear(8, 8),
        neuron.ILIFNode(v_threshold=0.25),
        layer.Linear(8, 5),
        neuron.TernaryIFNode(v_threshold=0.5),
    )
    functional.set_step_mode(net, "m")
    return on_grid(net)


def _spikingjelly_dropout() -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron

    net = sequence(
        layer.Linear(6, 8),
        neuron.LIFNode(v_threshold=0.25),
        layer.Dropout(0.2),
        layer.Linear(8, 5),
        neuron.LIFNode(v_threshold=0.25),
    )
    functional.set_step_mode(net, "m")
    return on_grid(net)


_DROPOUT = (spikes(T, B, 6), "0 3", "1:LIFNode 4:LIFNode")


@case(*_DROPOUT, lead=2, train=True, cut=False)
def _spikingjelly_dropout_in_training() -> nn.Module:
    """Spikes that were scaled by 1 / 0.8 are analog."""
    return _spikingjelly_dropout()


@case(*_DROPOUT, lead=2, train=True, cut=False, declared={"input_scale": {"3": 1.25}})
def _spikingjelly_declared_dropout_in_training() -> nn.Module:
    return _spikingjelly_dropout()


@case(spikes(T, B, 6), "0 2", "1:LIFNode", lead=2)
def _spikingjelly_leaky_integrator() -> nn.Module:
    """A membrane without spikes is no row of neurons."""
    from spikingjelly.activation_based import functional, layer, neuron

    net = sequence(
        layer.Linear(6, 8),
        neuron.LIFNode(v_threshold=0.25),
        layer.Linear(8, 5),
        neuron.NonSpikingLIFNode(decode="last_mem"),
    )
    functional.set_step_mode(net, "m")
    return on_grid(net)


@case(spikes(T, B, 4), "rec.rc", "rec.sub_module:IFNode")
def _spikingjelly_recurrent_container() -> nn.Module:
    """One layer for the input and the spikes of the last step side by side."""
    from spikingjelly.activation_based import layer, neuron

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            node = neuron.IFNode(v_threshold=0.5)
            self.rec = layer.LinearRecurrentContainer(node, 5, 5, step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return self.rec(F.pad(x, (0, 1)))

    return on_grid(Net())


@case(
    spikes(T, B, 5, 4),
    "attn.q attn.k attn.v attn.matmul attn.matmul_1 attn.proj",
    "attn.q_lif:LIFNode attn.k_lif:LIFNode attn.v_lif:LIFNode attn.attn_lif:LIFNode"
    " attn.proj_lif:LIFNode",
    lead=2,
)
def _spikingjelly_self_attention() -> nn.Module:
    """A block in the style of Spikformer: binary queries, keys and values, no softmax."""
    from spikingjelly.activation_based import functional, layer, neuron

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (layer.Linear(4, 6, bias=False) for _ in range(3))
            self.q_lif, self.k_lif, self.v_lif = (neuron.LIFNode(v_threshold=0.25) for _ in "qkv")
            self.attn_lif = neuron.LIFNode(v_threshold=0.25)
            self.proj = layer.Linear(6, 4)
            self.proj_lif = neuron.LIFNode(v_threshold=0.25)

        def forward(self, x: Tensor) -> Tensor:  # (steps, samples, tokens, features)
            q, k, v = (
                lif(fc(x)).unflatten(-1, (2, 3)).transpose(2, 3)
                for fc, lif in (
                    (self.q, self.q_lif),
                    (self.k, self.k_lif),
                    (self.v, self.v_lif),
                )
            )
            see_product("attn.matmul", "tbhlz,tbhzs->tbhls", q, k.transpose(-2, -1))
            attn = q.matmul(k.transpose(-2, -1))
            see_product("attn.matmul_1", "tbhls,tbhsz->tbhlz", attn, v)
            x = attn.matmul(v) * 0.25
            x = self.attn_lif(x.transpose(2, 3).flatten(-2))
            return self.proj_lif(self.proj(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = Attention()

        def forward(self, x: Tensor) -> Tensor:
            return self.attn(x) + x

    net = Net()
    functional.set_step_mode(net, "m")
    return on_grid(net)


def _standardised_rules() -> Mapping[type[nn.Module], Rule]:
    from spikingjelly.activation_based.layer import WSConv2d, WSLinear

    def of_conv(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        arguments = {n: getattr(layer, n) for n in ("stride", "padding", "dilation", "groups")}
        return [brute_force.conv(name, args[0], layer.get_weight(), **arguments)]

    def of_linear(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        return [brute_force.linear(name, args[0], layer.get_weight())]

    return {WSConv2d: of_conv, WSLinear: of_linear}


@case(spikes(T, B, 2, 6, 6), "0 3", "1:LIFNode 4:LIFNode", **_OUTER, rules=_standardised_rules)
def _spikingjelly_standardised_weights() -> nn.Module:
    """Layers that compute the weights they use; some of those are zero where none was before."""
    from spikingjelly.activation_based import layer, neuron

    net: Any = sequence(
        layer.WSConv2d(2, 3, 3, stride=2),
        neuron.LIFNode(v_threshold=0.25),
        nn.Flatten(),
        layer.WSLinear(12, 4),
        neuron.LIFNode(v_threshold=0.25),
    )
    on_grid(net)
    with torch.no_grad():
        net[0].weight[0] = 0.5  # its mean
    return net


def _listen_to_self_attention(truth: Truth, model: Any) -> None:
    def products(qkv: Tensor) -> list[Call]:
        # (steps, samples, (q, k, v) x heads x features, tokens)
        q, k, v = qkv.unflatten(2, (3, 2, 2)).unbind(2)
        kv = v @ k.transpose(-2, -1)
        return [
            Product("0.matmul", "tbhzl,tbhly->tbhzy", v, k.transpose(-2, -1)),
            Product("0.matmul_1", "tbhzy,tbhyl->tbhzl", kv, q),
        ]

    truth.hook(model[0].qkv_lif, products)


@case(
    spikes(T, B, 4, 6),
    "0.qkv_conv_bn.0 0.matmul 0.matmul_1 0.proj_conv_bn.0",
    "0.qkv_lif:LIFNode 0.attn_lif:LIFNode 0.proj_lif:LIFNode",
    lead=2,
    listen=_listen_to_self_attention,
)
def _spikingjelly_self_attention_of_its_own() -> nn.Module:
    from spikingjelly.activation_based import functional, layer

    attention = layer.SpikingSelfAttention(4, num_heads=2)
    attention.qkv_lif.v_threshold = 0.125
    attention.attn_lif.v_threshold = 0.0625
    net = sequence(attention)
    functional.set_step_mode(net, "m")
    return on_grid(net, 8)


# =============================================================================== Norse


def _norse_parameters(threshold: float) -> Any:
    import norse.torch as norse

    return norse.LIFParameters(v_th=torch.as_tensor(threshold))


@case(
    spikes(T, B, 2, 8, 8),
    "0.lifted_module 3.lifted_module 6",
    "1:LIF 4:LIF",
    lead=2,
)
def _norse_cnn_multi_step() -> nn.Module:
    """Lifted layers loop over steps; leaky integrators are no spiking neurons."""
    import norse.torch as norse

    return on_grid(
        norse.SequentialState(
            norse.Lift(nn.Conv2d(2, 3, 3)),
            norse.LIF(_norse_parameters(0.15)),
            norse.Lift(nn.AvgPool2d(2)),
            norse.Lift(nn.Conv2d(3, 4, 2)),
            norse.LIF(_norse_parameters(0.05)),
            nn.Flatten(2),
            nn.Linear(16, 3),
            norse.LI(),
        ),
        8,
    )


def _with_state(model: nn.Module, x: Tensor) -> Tensor:
    """An outer loop that carries the state."""
    outputs, state = [], None
    for step in x:
        output, state = model(step, state)
        outputs.append(output)
    return torch.stack(outputs)


@case(
    spikes(T, B, 2, 8, 8),
    "0 3 6",
    "1:LIFCell 4:IAFCell",
    call=_with_state,
    told=True,
    declared={"input_scale": {"3": 0.25}},
)
def _norse_cnn_single_step() -> nn.Module:
    import norse.torch as norse

    return on_grid(
        norse.SequentialState(
            nn.Conv2d(2, 3, 3),
            norse.LIFCell(_norse_parameters(0.15)),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 2),
            norse.IAFCell(),
            nn.Flatten(1),
            nn.Linear(16, 3),
            norse.LICell(),
        ),
        8,
    )


def _norse_rules() -> Mapping[type[nn.Module], Rule]:
    """Recurrent neurons with bare weights: the input first, then the spikes of the last step."""
    from norse.torch import LILinearCell
    from norse.torch.module.snn import SNNRecurrent, SNNRecurrentCell

    def step(name: str, module: Any, x: Tensor, z: Tensor) -> list[Call]:
        hidden = len(module.recurrent_weights)
        exists = None if module.autapses else 1 - torch.eye(hidden)
        return [
            brute_force.linear(f"{name}.linear", x, module.input_weights),
            brute_force.linear(f"{name}.linear_1", z, module.recurrent_weights, exists),
        ]

    def initial(module: Any, x: Tensor, args: Any) -> Tensor:
        if len(args) > 1 and args[1] is not None:
            return args[1].z
        return x.new_zeros(*x.shape[:-1], len(module.recurrent_weights))

    def cell(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        return step(name, module, args[0], initial(module, args[0], args))

    def sequence_of(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        before = [initial(module, args[0][0], args), *output[0][:-1]]
        steps = zip(args[0], before, strict=True)
        return [call for x, z in steps for call in step(name, module, x, z)]

    def readout(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        return [brute_force.linear(f"{name}.linear", args[0], module.input_weights)]

    return {SNNRecurrentCell: cell, SNNRecurrent: sequence_of, LILinearCell: readout}


@case(
    spikes(T, B, 6),
    "rec.linear rec.linear_1 lsnn.linear lsnn.linear_1 out.linear",
    "rec:LIFRecurrentCell lsnn:LSNNRecurrentCell",
    rules=_norse_rules,
)
def _norse_recurrent_cells() -> nn.Module:
    """One cell without autapses, one with."""
    import norse.torch as norse

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rec = norse.LIFRecurrentCell(6, 5, p=_norse_parameters(0.1))
            p = norse.LSNNParameters(v_th=torch.as_tensor(0.1))
            self.lsnn = norse.LSNNRecurrentCell(5, 4, p=p, autapses=True)
            self.out = norse.LILinearCell(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            one = two = three = None
            out = []
            for step in x:
                z, one = self.rec(step, one)
                z, two = self.lsnn(z, two)
                y, three = self.out(z, three)
                out.append(y)
            return torch.stack(out)

    return _without_autapses(on_grid(Net(), 16))


def _without_autapses(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if getattr(module, "autapses", True) is False:
            with torch.no_grad():
                module.recurrent_weights.fill_diagonal_(0.0)  # type: ignore[union-attr, operator]
    return model


@case(
    spikes(T, B, 6),
    "0.linear 0.linear_1 1.linear 1.linear_1",
    "0:LIFRecurrent 1:LSNNRecurrent",
    lead=2,
    rules=_norse_rules,
)
def _norse_recurrent_multi_step() -> nn.Module:
    import norse.torch as norse

    p = norse.LSNNParameters(v_th=torch.as_tensor(0.1))
    net = norse.SequentialState(
        norse.LIFRecurrent(6, 5, p=_norse_parameters(0.1)), norse.LSNNRecurrent(5, 4, p=p)
    )
    return _without_autapses(on_grid(net, 16))


def _lconv_rules() -> Mapping[type[nn.Module], Rule]:
    from norse.torch import LConv2d

    def rule(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        x = args[0].permute(1, 2, 3, 4, 0)  # steps are the last of three spatial dimensions
        arguments = {n: getattr(module, n) for n in ("stride", "padding", "dilation", "groups")}
        return [brute_force.conv(name, x, module.weight, **arguments)]

    return {LConv2d: rule}


@case(spikes(T, B, 2, 6, 6), "0 3", "1:LIF", lead=2, rules=_lconv_rules)
def _norse_convolution_over_time() -> nn.Module:
    """A Conv3d in disguise, whose input is permuted inside."""
    import norse.torch as norse

    net = norse.SequentialState(
        norse.LConv2d(2, 3, 3), norse.LIF(_norse_parameters(0.1)), nn.Flatten(2), nn.Linear(48, 3)
    )
    return on_grid(net, 8)


# ============================================================================== sinabs


_BT: dict[str, Any] = {"batch_dim": 0, "time_dim": 1}


@case(
    spikes(B, T, 2, 8, 8),
    "0.module 3.module 6",
    "1:IAF 4:LIF",
    lead=2,
    **_BT,
    declared={"input_scale": {"3.module": 0.25}},
)
def _sinabs_cnn() -> nn.Module:
    """Layers take (samples, steps, ...); neurons emit several spikes per step."""
    import sinabs.layers as sl

    return on_grid(
        sequence(
            sl.Repeat(nn.Conv2d(2, 3, 3)),
            sl.IAF(),
            sl.Repeat(nn.AvgPool2d(2)),
            sl.Repeat(nn.Conv2d(3, 4, 2)),
            sl.LIF(tau_mem=8.0, norm_input=False, spike_threshold=torch.tensor(0.5)),
            nn.Flatten(2),
            nn.Linear(16, 3),
            sl.ExpLeak(tau_mem=8.0),
        )
    )


def _sinabs_squeezed(*before: nn.Module) -> nn.Module:
    import sinabs.activation as sa
    import sinabs.layers as sl

    return on_grid(
        sequence(
            *before,
            nn.Conv2d(2, 3, 3, bias=False),
            sl.IAFSqueeze(num_timesteps=T, spike_fn=sa.SingleSpike),
            sl.SumPool2d(2),
            nn.Conv2d(3, 4, 2),
            sl.IAFSqueeze(num_timesteps=T),
            nn.Flatten(),
            nn.Linear(16, 3),
            sl.LIFSqueeze(num_timesteps=T, tau_mem=8.0, norm_input=False),
        )
    )


@case(
    spikes(B, T, 2, 8, 8),
    "1 4 7",
    "2:IAFSqueeze 5:IAFSqueeze 8:LIFSqueeze",
    **_BT,
)
def _sinabs_squeeze_layers() -> nn.Module:
    """Samples and steps share a dimension within the model."""
    import sinabs.layers as sl

    return _sinabs_squeezed(sl.FlattenTime())


@case(
    spikes(B, T, 2, 8, 8),
    "0 3 6",
    "1:IAFSqueeze 4:IAFSqueeze 7:LIFSqueeze",
    **_BT,
    call=flattened,
    told=True,
)
def _sinabs_squeezed_input() -> nn.Module:
    """Samples and steps share a dimension of the input."""
    return _sinabs_squeezed()


@case(
    spikes(B, T, 6),
    "0 1.rec_connect 2 3.rec_connect.1 4",
    "1:LIFRecurrent 3:ALIFRecurrent",
    lead=2,
    **_BT,
)
def _sinabs_recurrent() -> nn.Module:
    import sinabs.layers as sl

    return on_grid(
        sequence(
            nn.Linear(6, 5),
            sl.LIFRecurrent(tau_mem=8.0, norm_input=False, rec_connect=nn.Linear(5, 5)),
            nn.Linear(5, 4),
            sl.ALIFRecurrent(
                tau_mem=8.0,
                tau_adapt=8.0,
                norm_input=False,
                rec_connect=sequence(nn.Flatten(), nn.Linear(4, 4, bias=False)),
            ),
            nn.Linear(4, 2),
        )
    )


# ================================================================= any framework, plain


_IMAGES: dict[str, Any] = {"batch_dim": 0, "time_dim": None}


@case(spikes(B, 6), "Linear", **_IMAGES)
def _model_that_is_a_linear_layer() -> nn.Module:
    return on_grid(nn.Linear(6, 3))


@case(signed(B, 2, 6, 6), "Conv2d", **_IMAGES)
def _model_that_is_a_convolution() -> nn.Module:
    return on_grid(nn.Conv2d(2, 3, 3, padding=1))


@case(
    spikes(B, 4, 7, 6),
    "grouped depthwise dilated strided",
    **_IMAGES,
)
def _groups_depthwise_dilation_and_stride() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(4, 6, (3, 2), padding=(1, 0), groups=2)
            self.depthwise = nn.Conv2d(6, 6, 3, padding="same", groups=6)
            self.dilated = nn.Conv2d(6, 3, 2, dilation=(2, 1), padding=1)
            self.strided = nn.Conv2d(3, 2, (2, 3), stride=(2, 3), padding=(1, 2))
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            for layer in (self.grouped, self.depthwise, self.dilated, self.strided):
                x = self.fire(layer(x))
            return x

    return on_grid(Net())


@case(spikes(B, 2, 5, 6), "reflect circular replicate larger", **_IMAGES)
def _padding_by_copies_and_a_kernel_larger_than_the_map() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reflect = nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect")
            self.circular = nn.Conv2d(3, 2, 3, padding=1, stride=2, padding_mode="circular")
            self.replicate = nn.Conv2d(2, 2, 2, padding="same", padding_mode="replicate")
            self.larger = nn.Conv2d(2, 2, 7, padding=3)
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            for layer in (self.reflect, self.circular, self.replicate, self.larger):
                x = self.fire(layer(x))
            return x

    return on_grid(Net())


@case(spikes(B, 3, 3, 3), "0 2 4 6", **_IMAGES)
def _transposed_decoder() -> nn.Module:
    return on_grid(
        sequence(
            nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
            Surrogate(),
            nn.ConvTranspose2d(4, 4, (2, 3), dilation=(1, 2), groups=2, bias=False),
            Surrogate(),
            nn.ConvTranspose2d(4, 2, 2, stride=3),
            Surrogate(),
            nn.Conv2d(2, 1, 1),
        )
    )


@case(spikes(B, 2, 9), "conv1 conv3 up", **_IMAGES)
def _one_and_three_dimensions() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(2, 3, 3, stride=2, padding=1)
            self.conv3 = nn.Conv3d(1, 2, (1, 2, 3), padding=(0, 1, 1))
            self.up = nn.ConvTranspose1d(2, 1, 2, stride=2)
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            x = self.fire(self.conv1(x)).reshape(-1, 1, 1, 3, 5)
            return self.up(self.fire(self.conv3(x)).flatten(2))

    return on_grid(Net())


@case(spikes(B, 2, 5, 5), "a.0 fc", **_IMAGES)
def _layer_shared_by_two_parents_and_one_called_twice() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = nn.Conv2d(2, 2, 3, padding=1)
            self.a, self.b = sequence(conv, Surrogate()), sequence(conv, Surrogate())
            self.fc = nn.Linear(50, 50)
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(self.a(x)).flatten(1)
            return self.fc(self.fire(self.fc(x)))

    return on_grid(Net())


@case(spikes(T, B, 6), "fc out", grad=False)
def _buffers_refilled_in_place() -> nn.Module:
    """The same tensor holds something else at every step, and again after the layer."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.out = nn.Linear(6, 2)
            self.buffer: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.buffer = torch.empty_like(x[0])
            out = []
            for step in x:
                self.buffer.copy_(step)
                hidden = self.fc(self.buffer).sub_(0.25).gt_(0)
                self.buffer.copy_(hidden)
                out.append(self.out(self.buffer))
                self.buffer.fill_(7)
            return torch.stack(out)

    return on_grid(Net())


@case(spikes(B, 2, 6, 6), "conv fc", **_IMAGES)
def _activation_in_place_after_the_layer() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.relu = nn.ReLU(inplace=True)
            self.fc = nn.Linear(48, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = _fire(self.relu(self.conv(x)))
            return self.relu(self.fc(x.flatten(1)))

    return on_grid(Net())


@case(spikes(T, B, 6), "fc conv out", call=lambda model, x: model(inputs=x))
def _keyword_arguments() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 8)
            self.conv = nn.Conv1d(2, 2, 3)
            self.out = nn.Linear(4, 2)
            self.fire = Surrogate()

        def forward(self, *, inputs: Tensor) -> Tensor:
            out = []
            for step in inputs:
                x = self.fire(x=self.fc(input=step)).unflatten(1, (2, 4))
                x = self.fire(x=self.conv(input=x))
                out.append(self.out(input=x.flatten(1)))
            return torch.stack(out)

    return on_grid(Net())


class Masked(nn.Linear):
    """The mask is applied where the layer computes."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


def _masked_rules() -> Mapping[type[nn.Module], Rule]:
    def rule(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> list[Call]:
        return [brute_force.linear(name, args[0], layer.weight * layer.mask)]

    return {Masked: rule}


@case(spikes(B, 2, 6, 6), "conv fc masked", **_IMAGES, rules=_masked_rules)
def _pruned_and_masked_weights() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.fc = nn.Linear(48, 8)
            self.masked = Masked(8, 4)
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            x = self.fire(self.fc(self.fire(self.conv(x)).flatten(1)))
            return self.masked(x)

    net: Any = on_grid(Net())
    net.masked.register_buffer("mask", torch.rand(4, 8).lt(0.5).float())
    prune.random_unstructured(net.conv, "weight", 0.5)
    prune.ln_structured(net.fc, "weight", 0.25, n=2, dim=0)
    return net


@case(spikes(B, 6), "0 2 4", **_IMAGES)
def _parametrized_weights() -> nn.Module:
    class Sparse(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * weight.abs().gt(0.5)

    net = on_grid(
        sequence(nn.Linear(6, 8), Surrogate(), nn.Linear(8, 8), Surrogate(), nn.Linear(8, 3))
    )
    parametrize.register_parametrization(net[0], "weight", Sparse())
    parametrizations.weight_norm(net[2])
    parametrizations.weight_norm(net[4], dim=1)
    parametrize.register_parametrization(net[4], "weight", Sparse())
    return net


class Bare(nn.Module):
    """Every way to multiply by a parameter that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.empty(6, 5))
        self.kernel = nn.Parameter(torch.empty(2, 1, 3))
        self.image = nn.Parameter(torch.empty(2, 1, 2, 2))
        self.up = nn.Parameter(torch.empty(2, 2, 2))
        self.matrix = nn.Parameter(torch.empty(4, 5))
        self.left = nn.Parameter(torch.empty(3, 4))
        self.grouped = nn.Parameter(torch.empty(2, 4, 3))
        self.last = nn.Parameter(torch.empty(3, 4))
        self.bias = nn.Parameter(torch.empty(3))

    def fire(self, x: Tensor) -> Tensor:
        return _fire(x)

    def forward(self, x: Tensor) -> Tensor:  # (samples, 5)
        see_linear("bare.linear", x, self.linear)
        x = self.fire(F.linear(x, self.linear)).unsqueeze(1)  # (samples, 1, 6)
        see_conv("bare.conv1d", x, self.kernel, padding=1)
        x = self.fire(F.conv1d(x, self.kernel, padding=1))  # (samples, 2, 6)
        see(partial(brute_force.conv_transpose, "bare.conv_transpose1d", x, self.up, stride=2))
        x = self.fire(F.conv_transpose1d(x, self.up, stride=2)).view(-1, 1, 4, 6)
        see_conv("bare.conv2d", x, self.image, stride=2)
        x = self.fire(F.conv2d(x, self.image, stride=2)).view(len(x), 3, 4)  # (samples, 3, 4)
        see_einsum("bare.matmul", "bni,io->bno", x, self.matrix)
        x = self.fire(x @ self.matrix)  # (samples, 3, 5)
        see_einsum("bare.einsum", "bno,io->bni", x, self.matrix)
        x = self.fire(torch.einsum("bno,io->bni", x, self.matrix))  # (samples, 3, 4)
        see_einsum("bare.matmul_1", "bin,oi->bon", x.transpose(1, 2), self.left)
        x = self.fire(self.left @ x.transpose(1, 2))[:, :2]  # (samples, 2, 3)
        x = F.pad(x, (0, 1), value=1.0).transpose(0, 1)  # (groups, samples, 4)
        see_einsum("bare.matmul_2", "gbi,gio->gbo", x, self.grouped)
        x = torch.baddbmm(self.bias, x, self.grouped)
        y = F.pad(self.fire(x), (0, 1))
        see_einsum("bare.matmul_2", "gbi,gio->gbo", y, self.grouped)  # again: the same row
        x = torch.bmm(y, self.grouped)
        z = self.fire(x[0])
        see_einsum("bare.matmul_3", "bi,io->bo", z, self.last)
        return torch.addmm(self.bias[:1], z, self.last)


@case(
    spikes(B, 5),
    "bare.linear bare.conv1d bare.conv_transpose1d bare.conv2d bare.matmul bare.einsum"
    " bare.matmul_1 bare.matmul_2 bare.matmul_3",
    **_IMAGES,
)
def _bare_parameters() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()

        def forward(self, x: Tensor) -> Tensor:
            return self.bare(x)

    return on_grid(Net())


@case(spikes(B, 6), "Net.linear Net.matmul Net.conv1d", **_IMAGES)
def _functional_calls_in_the_root() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(8, 6))
            self.kernel = nn.Parameter(torch.empty(2, 2, 3))

        def forward(self, x: Tensor) -> Tensor:
            see_linear("Net.linear", x, self.weight)
            y = _fire(F.linear(x, self.weight))
            a, y = x.view(-1, 3, 2), y.view(-1, 2, 4)
            see_product("Net.matmul", "bij,bjk->bik", a, y)
            y = y * (a @ y).sum(1, keepdim=True).gt(0)
            see_conv("Net.conv1d", y, self.kernel, padding=1)
            return F.conv1d(y, self.kernel, padding=1)

    return on_grid(Net())


@case(
    spikes(T, B, 6),
    "pair.matmul pair.einsum pair.matmul_1 pair.matmul_2 pair.qk pair.av",
    cut=True,
)
def _products_of_two_activations() -> nn.Module:
    """Binary, integer and analog factors, on either side."""

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> Tensor:  # (samples, 6)
            a, b = x.view(-1, 2, 3), x.view(-1, 3, 2)
            see_product("pair.matmul", "bij,bjk->bik", a, b)
            counts = a @ b  # integers
            see_product("pair.einsum", "bij,bjk->bik", counts, a)
            mixed = torch.einsum("bij,bjk->bik", counts, a)
            see_product("pair.matmul_1", "bij,bjk->bik", mixed, b * 0.5)
            mixed = torch.bmm(mixed, b * 0.5)  # neither is a spike
            see_product("pair.matmul_2", "bij,bjk->bik", mixed - 0.25, a)
            out = torch.baddbmm(a, mixed - 0.25, a)
            q, k, v = a - 0.25, a, out
            causal = torch.ones(2, 2, dtype=torch.bool).tril()
            see(lambda: brute_force.attention("pair", q, k, v, causal))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.pair(step) for step in x]) * self.gain

    return Net()


class _Attend(nn.Module):
    """Self attention with a mask, then attention to something else of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(4, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(4, 1, kdim=3, vdim=5, bias=False)
        self.register_buffer("causal", torch.ones(3, 3, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:  # (samples, 3, 4)
        y, _ = self.attn(x, x, x, attn_mask=self.causal, need_weights=False)
        keys = x.transpose(0, 1)
        values = F.pad(keys, (0, 1))
        z, _ = self.cross(query=keys, key=keys[..., :3], value=values)
        return y + z.transpose(0, 1)


_ATTENDED = " ".join(
    f"{name}.{part}"
    for name in ("attn", "cross")
    for part in ("q_proj", "k_proj", "v_proj", "qk", "av", "out_proj")
)


@case(spikes(B, 3, 4), _ATTENDED, **_IMAGES, exact=False)
def _multihead_attention() -> nn.Module:
    return on_grid(_Attend())


@case(spikes(B, 3, 4), _ATTENDED, **_IMAGES, train=True)
def _multihead_attention_in_training() -> nn.Module:
    return on_grid(_Attend())


@case(
    spikes(T, B, 5),
    "lstm.ih lstm.hh gru.ih gru.hh rnn.ih rnn.hh",
)
def _recurrent_cells() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTMCell(5, 4)
            self.gru = nn.GRUCell(4, 4, bias=False)
            self.rnn = nn.RNNCell(4, 3, nonlinearity="relu")

        def forward(self, x: Tensor) -> Tensor:
            state = one = two = None
            for step in x:
                state = self.lstm(step, state)
                one = self.gru(_fire(state[0]), one)
                two = self.rnn(one, hx=two)
            assert two is not None
            return two

    return on_grid(Net())


@case(
    spikes(T, B, 5),
    "lstm.ih_l0 lstm.hh_l0 lstm.ih_l0_reverse lstm.hh_l0_reverse "
    "gru.ih_l0 gru.hh_l0 gru.ih_l1 gru.hh_l1 rnn.ih_l0 rnn.hh_l0",
)
def _recurrent_networks() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 3, bidirectional=True)
            self.gru = nn.GRU(6, 4, 2, bias=False)
            self.rnn = nn.RNN(4, 3, nonlinearity="relu")

        def forward(self, x: Tensor) -> Tensor:
            x = self.gru(_fire(self.lstm(x)[0]))[0]
            return self.rnn(x, hx=x.new_ones(1, x.shape[1], 3))[0]

    return on_grid(Net())


@case(spikes(B, 6), "block.0 block.2 out", **_IMAGES, train=True)
def _checkpointed() -> nn.Module:
    """The backward pass runs a part of the forward pass again."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = sequence(nn.Linear(6, 8), Surrogate(), nn.Linear(8, 5), Surrogate())
            self.out = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(checkpoint(self.block, x, use_reentrant=False))

    return on_grid(Net())


@case(
    lambda: image(B, 2, 4, 4)() * 8,
    "conv fc",
    **_IMAGES,
    declared={"kinds": {"conv": "analog"}},
)
def _image_of_integers_declared_analog() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)
            self.fc = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(_fire(self.conv(x) - 4).flatten(1))

    return on_grid(Net())


@case(spikes(T, B, 6), "fc integers_as_macs", declared={"integer_as": "macs"})
def _integers_as_macs() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5)
            self.integers_as_macs = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.integers_as_macs(_fire(self.fc(x)).sum(0))

    return on_grid(Net())
