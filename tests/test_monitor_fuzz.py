"""Random models, writes and modes against a record that the models keep of their own operations.

A model is a list of parts, drawn from a seed. Each part notes its input and its weight as plain
copies right before it computes with them, and the notes are counted by explicit sums in float64.
A failure prints the seed and the parts; ``SNNMETRICS_FUZZ_SEED=17`` runs that one alone, and
``SNNMETRICS_FUZZ_SEEDS=5000`` runs more of them.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.overrides import TorchFunctionMode

import snnmetrics as sm

pytestmark = pytest.mark.slow

KINDS = ("binary", "ternary", "integer", "analog")  # tight to loose
CHANNELS, LENGTH = 3, 5
LARGE = 4500  # samples of more than 65,536 elements together
GROUPS = 16  # tests that share the seeds
_ONE = os.environ.get("SNNMETRICS_FUZZ_SEED")
_SEEDS = int(os.environ.get("SNNMETRICS_FUZZ_SEEDS", "320"))


# ------------------------------------------------------------------------------ the truth


@dataclass
class Notes:
    """Operations of complete root calls, and of the one that runs, as plain data.

    Attributes:
        done: Part, operation, input and weight.
        running: Of the root call that runs.
    """

    done: list[tuple[str, str, Tensor, Tensor]] = field(default_factory=list)
    running: list[tuple[str, str, Tensor, Tensor]] = field(default_factory=list)

    def note(self, part: str, operation: str, x: Tensor, weight: Tensor) -> None:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            copies = [t.detach().clone().double() for t in (x, weight)]
            self.running.append((part, operation, *copies))


def kind_of(x: Tensor) -> str:
    if bool(((x == 0) | (x == 1)).all()):
        return "binary"
    if bool(((x == 0) | (x.abs() == 1)).all()):
        return "ternary"
    counts = torch.equal(x, x.round()) and bool((x.abs() <= 65_536).all())
    return "integer" if counts else "analog"


def fanout(operation: str, weight: Tensor) -> Tensor:
    """Synapses of every element of one input ``(C, L)``, of weights that are one or zero."""
    units = torch.eye(CHANNELS * LENGTH, dtype=torch.float64).reshape(-1, CHANNELS, LENGTH)
    return apply(operation, units, weight).flatten(1).sum(1).reshape(CHANNELS, LENGTH)


def apply(operation: str, x: Tensor, weight: Tensor) -> Tensor:
    """The operation of a weight as it was noted, with inputs ``(..., C, L)``."""
    if operation == "linear":
        return F.linear(x, weight)
    if operation == "matmul":
        return x @ weight
    if operation == "left":
        return weight @ x
    assert operation == "conv"
    return F.conv1d(x, weight, padding=1)


def expected(notes: Notes) -> dict[str, dict[str, Any]]:
    """What each part must have counted."""
    rows: dict[str, dict[str, Any]] = {}
    for part, operation, x, weight in notes.done:
        vectors = x.reshape(-1, CHANNELS, LENGTH)
        dense = fanout(operation, torch.ones_like(weight))
        effective = fanout(operation, (weight != 0).double())
        events, size = (vectors != 0).double().sum(0), vectors.abs().sum(0)
        row = rows.setdefault(part, {"kinds": set(), "weighted": 0.0, "per_neuron": 0.0})
        row["kinds"].add(kind_of(vectors))
        row["weighted"] += float((size * effective).sum())
        row["per_neuron"] += size * dense
        for name, value in (
            ("calls", 1),
            ("events", events.sum()),
            ("elements", vectors.numel()),
            ("synops", (size * dense).sum()),
            ("event_synops", (events * dense).sum()),
            ("effective_synops", (events * effective).sum()),
            ("dense_synops", len(vectors) * dense.sum()),
        ):
            row[name] = row.get(name, 0) + float(value)
    for row in rows.values():
        kind = row["kind"] = max(row.pop("kinds"), key=KINDS.index)
        weighted = row.pop("weighted")
        accumulated = weighted if kind == "integer" else row["effective_synops"]
        row["acs"] = 0 if kind == "analog" else accumulated
        row["macs"] = row["effective_synops"] if kind == "analog" else 0
        if kind == "analog":
            row["synops"] = None
    return rows


# ------------------------------------------------------------------------------ the model


def sparse_weight(*shape: int) -> Tensor:
    """A weight of which some elements are zero."""
    return torch.randn(shape) * (torch.rand(shape) < random_share())


def random_share() -> float:
    return float([0.0, 0.4, 0.8, 1.0][int(torch.randint(4, ()))])


SHAPES = {
    "linear": (LENGTH, LENGTH),
    "matmul": (LENGTH, LENGTH),
    "left": (CHANNELS, CHANNELS),
    "conv": (CHANNELS, CHANNELS, 3),
}


class Part(nn.Module):
    """One operation, with a weight that is kept and made in some way."""

    def __init__(self, operation: str, kept: str, made: str, notes: Notes) -> None:
        super().__init__()
        self.operation, self.kept, self.made, self.name = operation, kept, made, ""
        self.notes = [notes]
        weight = sparse_weight(*SHAPES[operation])
        if made == "transposed":
            weight = weight.transpose(0, 1).contiguous()
        elif made == "sliced":
            weight = torch.cat([weight, weight])
        if kept == "parameter":
            self.weight = nn.Parameter(weight)
        elif kept == "buffer":
            self.register_buffer("weight", weight)
        else:
            self.weight = weight
        self.register_buffer("mask", (torch.rand(weight.shape) < 0.6).float())
        self.scale = nn.Parameter(torch.tensor([2.0]))

    def extra_repr(self) -> str:
        return f"{self.operation}, {self.kept}, {self.made}"

    def made_weight(self) -> Tensor:
        weight, mask = self.weight, self.mask.to(self.weight.dtype)
        if self.made == "masked":
            return weight * mask
        if self.made == "in place":
            copy = weight.clone()
            copy *= mask
            return copy
        if self.made == "filled":
            empty = torch.zeros_like(weight)
            empty += weight
            return empty.mul_(mask)
        if self.made == "by data":
            copy = weight.detach().clone()
            copy.data.mul_(mask)
            return copy
        if self.made == "transposed":
            return weight.transpose(0, 1)
        if self.made == "sliced":
            return weight[: len(weight) // 2]
        if self.made == "split":
            first, second = weight.split([1, len(weight) - 1])
            return torch.cat([first, second])
        if self.made == "where":
            return torch.where(mask > 0, weight, torch.zeros((), dtype=weight.dtype))
        if self.made == "data":
            return weight.data
        return weight

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x, self.made_weight())

    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        self.notes[0].note(self.name, self.operation, x, weight)
        if self.operation == "linear":
            return F.linear(x, weight)
        if self.operation == "matmul":
            way = len(self.name) + len(self.made)
            return x @ weight if way % 2 else torch.einsum("...i,io->...o", x, weight)
        if self.operation == "left":
            return weight @ x
        return F.conv1d(x, weight, padding=1)


class Rewriting(Part):
    """Computes twice, and writes into the weight that it made in between."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.made_weight()
        if weight.requires_grad:
            weight = weight.detach()
        weight = weight.clone() * self.scale.detach().to(weight.dtype)
        y = self.compute(x, weight)
        weight.data.mul_(self.mask.to(weight.dtype).reshape(weight.shape))
        return y + self.compute(x, weight)


class Layer(nn.Module):
    """A layer called as a module, once or twice."""

    def __init__(self, layer: nn.Module, operation: str, times: int, notes: Notes) -> None:
        super().__init__()
        self.layer, self.operation, self.times, self.name = layer, operation, times, ""
        self.notes = [notes]
        self.between: list[Callable[[], None]] = []
        with torch.no_grad():
            layer.weight.copy_(sparse_weight(*SHAPES[operation]))

    def forward(self, x: Tensor) -> Tensor:
        for call in range(self.times):
            for write in self.between if call else ():
                write()
            self.notes[0].note(self.name, self.operation, x, self.used())
            y = self.layer(x)
        return y

    def used(self) -> Tensor:
        """The weight that the next call uses."""
        with torch._C.DisableTorchFunction(), torch.no_grad():
            if hasattr(self.layer, "weight_mask"):
                return (self.layer.weight_orig * self.layer.weight_mask).clone()
            return self.layer.weight.detach().clone()


class Masking(nn.Module):
    """A parametrization."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(shape) < 0.5).float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask.to(weight.dtype)


class Fire(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.2).to(x.dtype)


sm.register_neuron(Fire, lead="B")


class Quantise(nn.Module):
    """Makes values of a kind, by plain functions."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def extra_repr(self) -> str:
        return self.how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "ternary":
            return torch.sign(x) * (x.abs() > 0.5).to(x.dtype)
        if self.how == "integer":
            return (x * 3).round().clamp(-9, 9)
        if self.how == "constant":
            filled = torch.zeros(x.shape, dtype=x.dtype)
            filled += x
            return filled * torch.ones(x.shape[-1], dtype=x.dtype)
        if self.how == "assigned":
            filled = torch.zeros(x.shape, dtype=x.dtype)
            filled[..., 1:] = (x[..., 1:] > 0).to(x.dtype)
            return filled
        return F.relu(x, inplace=False)


class Stateful(nn.Module):
    """A neuron whose membrane is an attribute that starts as none."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.v is None or self.v.shape != x.shape or self.v.dtype != x.dtype:
            self.v = torch.zeros_like(x)
        v = 0.5 * self.v.detach() + x
        spikes = (v > 0.3).to(x.dtype)
        self.v = v - spikes
        return spikes


ACTIVATION_WRITES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "mul_": lambda x, m: x.mul_(m),
    "item": lambda x, m: x.__setitem__((..., 0), 0),
    "view": lambda x, m: x.view(-1)[::2].zero_(),
    "data": lambda x, m: x.data.mul_(m),
    "detach": lambda x, m: x.detach().mul_(m),
    "numpy": lambda x, m: x.detach().numpy().__setitem__((..., 1), 0),
    "relu_": lambda x, m: torch.relu_(x),
    "relu inplace": lambda x, m: F.relu(x, True),
    "relu keyword": lambda x, m: F.relu(x, inplace=True),
    "module": lambda x, m: nn.ReLU(inplace=True)(x),
    "out": lambda x, m: torch.mul(x, m, out=x),
    "copy_": lambda x, m: x.copy_(x.clone() * m),
    "masked_fill_": lambda x, m: x.masked_fill_(m == 0, 0),
    "unbind": lambda x, m: x.unbind(-1)[0].zero_(),
    "index_put_": lambda x, m: x.index_put_((torch.tensor([0]),), torch.zeros((), dtype=x.dtype)),
    "transpose": lambda x, m: x.transpose(0, 1)[0].zero_(),
}


class Shared(nn.Module):
    """Two bodies that take in one tensor, which is written into in between."""

    def __init__(self, first: nn.Module, second: nn.Module, write: str, early: bool) -> None:
        super().__init__()
        self.first, self.second, self.write, self.early = first, second, write, early

    def extra_repr(self) -> str:
        return f"{self.write}, early={self.early}"

    def forward(self, x: Tensor) -> Tensor:
        x = (x > 0).to(x.dtype) if self.early else x.clone()
        alias = x.data if self.early else x
        y = self.first(x)
        mask = (torch.arange(x.numel()).reshape(x.shape) % 3 > 0).to(x.dtype)
        with torch.no_grad(), contextlib.suppress(TypeError, RuntimeError):  # where it cannot
            ACTIVATION_WRITES[self.write](alias, mask)
        return y + self.second(x)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Strided(nn.Module):
    """Gives its body an input whose memory is in another order."""

    def __init__(self, body: nn.Module, how: str) -> None:
        super().__init__()
        self.body, self.how = body, how

    def extra_repr(self) -> str:
        return self.how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "transposed":
            x = x.transpose(1, 2).contiguous().transpose(1, 2)
        elif self.how == "every second":
            x = torch.stack([x, x + 1], -1)[..., 0]
        elif self.how == "expanded":
            x = x[:1].expand(x.shape)
        else:
            x = x.flip(0)[1:] if len(x) > 1 else x
            x = torch.cat([x, x[:1]]) if self.how == "cut" else x
        return self.body(x)


class Inner(nn.Module):
    """A loop over time inside, with several steps of one body."""

    def __init__(self, body: nn.Module, steps: int) -> None:
        super().__init__()
        self.body, self.steps = body, steps

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for step in range(self.steps):
            total = total + self.body(x * (step % 2 + 1))[: len(x)]
        return total


class MultiStep(nn.Module):
    """A SpikingJelly layer in multi-step mode."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.stack([x, x * 0]))[0]  # type: ignore[no-any-return]


class Faulty(nn.Module):
    """Raises after its body at its first call, if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False

    def forward(self, x: Tensor) -> Tensor:
        if self.armed:
            self.armed = False
            raise ArithmeticError
        return x


class Net(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.faulty = Faulty()

    def forward(self, x: Tensor) -> Tensor:
        return self.faulty(self.body(x))  # type: ignore[no-any-return]


# --------------------------------------------------------------------------- drawing


class Draw:
    """Draws a model, and says what it drew."""

    def __init__(self, rng: random.Random, notes: Notes, plain: bool) -> None:
        self.rng, self.notes = rng, notes
        self.plain = plain  # float32, without neurons of frameworks that need it
        self.layers: list[Layer] = []

    def sequence(self, depth: int) -> nn.Module:
        return nn.Sequential(*[self.one(depth) for _ in range(self.rng.randint(1, 3))])

    def one(self, depth: int) -> nn.Module:
        kinds = ["layer"] * 4 + ["part"] * 4 + ["spike"] * 3
        if depth:
            kinds += ["shared"] * 4 + ["residual", "strided", "strided", "inner"]
        kind = self.rng.choice(kinds)
        if kind == "layer":
            return self.layer()
        if kind == "part":
            return self.part()
        if kind == "spike":
            return self.spike()
        if kind == "shared":
            write = self.rng.choice(list(ACTIVATION_WRITES))
            first, second = self.layer_or_part(), self.layer_or_part()
            shared = Shared(first, second, write, self.rng.random() < 0.5)
            if self.rng.random() < 0.3:
                return nn.Sequential(self.spike(), shared)
            return shared
        if kind == "residual":
            return Residual(self.sequence(depth - 1))
        if kind == "strided":
            how = self.rng.choice(["transposed", "every second", "expanded", "cut"])
            return Strided(self.layer_or_part(), how)
        return Inner(self.sequence(depth - 1), self.rng.randint(2, 3))

    def layer_or_part(self) -> nn.Module:
        return self.layer() if self.rng.random() < 0.6 else self.part()

    def part(self) -> nn.Module:
        operation = self.rng.choice(list(SHAPES))
        kept = self.rng.choice(["parameter", "parameter", "buffer", "attribute"])
        ways = ["plain", "plain", "masked", "in place", "filled", "by data", "sliced", "split"]
        ways += ["where", "data"] + ["transposed"] * (operation != "conv")
        made = self.rng.choice(ways)
        if self.rng.random() < 0.2:
            return Rewriting(operation, kept, "plain", self.notes)
        return Part(operation, kept, made, self.notes)

    def layer(self) -> nn.Module:
        bias, times = self.rng.random() < 0.5, self.rng.choice([1, 1, 2])
        operation = self.rng.choice(["linear", "conv"])
        origin = self.rng.choice(["torch", "torch", "s", "m"])
        if self.layers and self.rng.random() < 0.15:  # one layer in two places
            return self.rng.choice(self.layers)
        made: Any
        if origin == "torch":
            made = nn.Linear(LENGTH, LENGTH, bias=bias)
            if operation == "conv":
                made = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1, bias=bias)
        else:
            jelly = pytest.importorskip("spikingjelly.activation_based.layer")
            made = jelly.Linear(LENGTH, LENGTH, bias=bias, step_mode=origin)
            if operation == "conv":
                made = jelly.Conv1d(CHANNELS, CHANNELS, 3, padding=1, bias=bias, step_mode=origin)
        layer = Layer(made, operation, times, self.notes)
        if origin == "m":
            return MultiStep(layer)
        self.layers.append(layer)
        if origin == "torch" and self.rng.random() < 0.1:
            parametrize.register_parametrization(made, "weight", Masking(made.weight.shape))
        elif origin == "torch" and self.rng.random() < 0.1:
            made.register_forward_hook(lambda m, i, o: o * 1)
        return layer

    def spike(self) -> nn.Module:
        kinds = ["fire", "ternary", "integer", "constant", "assigned", "relu", "stateful"]
        if self.plain:
            kinds += ["jelly", "jelly m", "snntorch", "snntorch"]
        kind = self.rng.choice(kinds)
        if kind == "fire":
            return Fire()
        if kind == "stateful":
            return Stateful()
        if kind.startswith("jelly"):
            neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
            if kind == "jelly":
                return neuron.LIFNode() if self.rng.random() < 0.5 else neuron.IFNode()
            return MultiStep(neuron.LIFNode(step_mode="m"))
        if kind == "snntorch":
            snn = pytest.importorskip("snntorch")
            return snn.Leaky(beta=0.8, init_hidden=True)  # type: ignore[no-any-return]
        return Quantise(kind)


def drawn_input(rng: random.Random, dtype: torch.dtype, large: bool) -> Tensor:
    shape = (LARGE if large else rng.choice([1, 2, 4]), CHANNELS, LENGTH)
    silent = torch.rand(shape) < rng.choice([0.2, 0.6, 0.9])
    values = {
        "binary": lambda: torch.ones(shape),
        "ternary": lambda: torch.randint(-1, 2, shape).float(),
        "integer": lambda: torch.randint(-7, 8, shape).float(),
        "big": lambda: torch.randint(0, 60001, shape).float(),
        "analog": lambda: torch.randint(-200, 200, shape) / 64,
    }
    kinds = list(values) if dtype in (torch.float32, torch.float64) else list(values)[:3]
    x = values[rng.choice(kinds)]().masked_fill(silent, 0).to(dtype)
    if rng.random() < 0.2:
        x = x.transpose(0, 2).contiguous().transpose(0, 2)
    if rng.random() < 0.1 and dtype is torch.float32:
        x = torch.from_numpy(x.numpy().copy())
    return x


# ------------------------------------------------------------------- writes into weights


def weight_writes(rng: random.Random, model: nn.Module) -> tuple[str, Callable[[], None]]:
    """A way to write into one weight of a model."""
    owners = [m for m in model.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    owners = [m for m in owners if not parametrize.is_parametrized(m)]
    owners = [m for m in owners if not prune.is_pruned(m)]
    if not owners:
        return "nothing", lambda: None
    owner = rng.choice(owners)
    ways = ["copy_", "data", "set data", "numpy", "item", "detach", "early", "zero_", "view"]
    ways += ["replace"] * 2
    if isinstance(owner.weight, nn.Parameter):
        ways += ["sgd", "fused", "vector"]
        if isinstance(owner, nn.Linear | nn.Conv1d):
            ways.append("prune")
    way = rng.choice(ways)
    early = owner.weight.data
    array = None
    if way == "numpy" and early.dtype is not torch.bfloat16:
        array = early.numpy()

    def write() -> None:
        weight = owner.weight
        new = sparse_weight(*weight.shape).to(weight.dtype)
        if way == "sgd" or way == "fused":
            if weight.is_inference() or not weight.dtype.is_floating_point:
                return
            with torch.inference_mode(False):
                weight.grad = (weight.detach().clone() - new).detach()
                optimiser = torch.optim.SGD([weight], lr=1.0, fused=way == "fused")
                optimiser.step()
                weight.grad = None
            return
        with torch.no_grad():
            if way == "copy_":
                weight.copy_(new)
            elif way == "data":
                weight.data.copy_(new)
            elif way == "set data":
                weight.data = new
            elif way == "numpy" and array is not None:
                array[...] = new.numpy()
            elif way == "item":
                weight[0] = 0
            elif way == "detach":
                weight.detach().copy_(new)
            elif way == "early":
                early.copy_(new)
            elif way == "zero_":
                weight.zero_()
            elif way == "view":
                weight.view(-1)[::2].zero_()
            elif way == "vector":
                nn.utils.vector_to_parameters(new.flatten(), [weight])
            elif way == "replace":
                is_parameter = isinstance(weight, nn.Parameter)
                owner.weight = nn.Parameter(new) if is_parameter else new
            elif way == "prune":
                mask = (torch.rand(weight.shape) < 0.5).to(weight.dtype)
                if not prune.is_pruned(owner):
                    prune.custom_from_mask(owner, "weight", mask)

    return f"{type(owner).__name__}: {way}", write


# ------------------------------------------------------------------------------ the run


class Passing(TorchFunctionMode):
    """A mode of the user's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad": torch.enable_grad,
    "autocast": lambda: both(torch.no_grad(), torch.autocast("cpu", torch.bfloat16)),
    "device": lambda: both(torch.no_grad(), torch.device("cpu")),
    "mode": lambda: both(torch.no_grad(), Passing()),
}


@contextlib.contextmanager
def both(first: Any, second: Any) -> Iterator[None]:
    with first, second:
        yield


class Trial:
    """A model and what is done with it, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.said: list[str] = []
        rng = self.rng = random.Random(seed)
        torch.manual_seed(seed)
        self.notes = Notes()
        self.mode = rng.choice([*MODES, "no_grad", "no_grad", "grad"])
        dtypes = [torch.float32] * 4 + [torch.float64, torch.float16, torch.bfloat16]
        self.dtype = torch.float32 if self.mode == "autocast" else rng.choice(dtypes)
        plain = self.dtype is torch.float32 and self.mode not in ("autocast", "inference_mode")
        draw = Draw(rng, self.notes, plain)
        self.model = Net(draw.sequence(2)).to(self.dtype).train(rng.random() < 0.5)
        for part in self.model.modules():  # attributes do not follow ``to``
            if isinstance(part, Part):
                part.weight = part.weight.to(self.dtype) if "weight" in vars(part) else part.weight
        self.parts: dict[str, nn.Module] = {}
        for name, module in self.model.named_modules():
            if isinstance(module, Part | Layer):
                module.name = name
                self.parts[name] = module
            if isinstance(module, Layer) and module.times == 2 and rng.random() < 0.4:
                what, write = weight_writes(rng, module)
                # NumPy and optimisers are compared between root calls alone.
                later = ("prune", "replace", "numpy", "sgd", "fused")
                if not any(way in what for way in later) and self.mode != "grad":
                    module.between.append(write)
                    self.said.append(f"within {name}: {what}")
        self.large = rng.random() < 0.08
        self.samples = 0

    def describe(self) -> str:
        return f"{self.mode}, {self.dtype}\n{self.model}\n" + "\n".join(self.said)

    def call(self, raises: bool = False) -> None:
        x = drawn_input(self.rng, self.dtype, self.large)
        self.last = len(x)
        self.model.faulty.armed = raises
        try:
            with MODES[self.mode]():
                out = self.model(x)
        except ArithmeticError:
            self.notes.running.clear()
            self.said.append("a call raised")
            return
        self.notes.done += self.notes.running
        self.notes.running.clear()
        if out.requires_grad and self.rng.random() < 0.7:
            with contextlib.suppress(RuntimeError):  # something was written into what it needs
                out.sum().backward()

    def write(self) -> None:
        what, write = weight_writes(self.rng, self.model)
        self.said.append(f"write: {what}")
        write()

    def run(self) -> None:
        rng = self.rng
        options = {
            "per_neuron": rng.random() < 0.3,
            "differentiable": rng.random() < 0.2,
        }
        self.said.append(str(options))
        monitors = [sm.Monitor(self.model, batch_dim=0, **options)]
        if rng.random() < 0.2:
            monitors.append(sm.Monitor(self.model, batch_dim=0))
        for _ in range(rng.randint(1, 3)):
            how = rng.choice(["batch"] * 4 + ["calls", "run"])
            self.said.append(how)
            with contextlib.ExitStack() as stack:
                if how == "run":
                    self.run_loader(monitors)
                    continue
                for monitor in monitors:
                    stack.enter_context(monitor)
                if how == "calls":
                    for _ in range(rng.randint(1, 3)):
                        self.call()
                        self.samples += self.last
                        self.write()
                    continue
                self.batch(monitors)
            if rng.random() < 0.3:
                self.write()
        for monitor in monitors:
            self.compare(monitor, options["per_neuron"] and monitor is monitors[0])

    def batch(self, monitors: list[sm.Monitor]) -> None:
        rng = self.rng
        discarded, before = False, len(self.notes.done)
        samples = 3
        with contextlib.ExitStack() as stack:
            for monitor in monitors:
                stack.enter_context(monitor.batch(samples=samples))
            for _ in range(rng.randint(1, 5)):
                if rng.random() < 0.15:
                    self.call(raises=True)
                self.call()
                if rng.random() < 0.5:
                    self.write()
                if rng.random() < 0.04:
                    self.said.append("reset")
                    for monitor in monitors:
                        monitor.reset()
                    self.notes.done.clear()
                    discarded, before, self.samples = True, 0, 0
        if discarded:
            del self.notes.done[before:]
        else:
            self.samples += samples

    def run_loader(self, monitors: list[sm.Monitor]) -> None:
        loader = [drawn_input(self.rng, self.dtype, self.large) for _ in range(2)]
        before = len(self.notes.done)
        if any(isinstance(m, Layer) and m.between for m in self.model.modules()):
            return
        for monitor in monitors:
            del self.notes.done[before:]
            # State goes on from run to run: without it, all monitors count the same.
            if len(monitors) > 1:
                return
            monitor.run(loader)
            self.notes.done += self.notes.running
            self.notes.running.clear()
            self.samples += sum(map(len, loader))

    def compare(self, monitor: sm.Monitor, per_neuron: bool) -> None:
        report = monitor.compute()
        counts, rows = report.counts(), expected(self.notes)
        owners = {
            name: max((p for p in self.parts if name.startswith(f"{p}.")), key=len)
            for name in report.layers
        }
        assert report.samples == self.samples
        assert sorted(owners.values()) == sorted(rows), report.layers.keys()
        for name, owner in owners.items():
            found = {key: counts[name][key] for key in rows[owner] if key in counts[name]}
            found["kind"] = report.layers[name].kind
            map_ = rows[owner].pop("per_neuron")
            different = {k: (v, rows[owner][k]) for k, v in found.items() if v != rows[owner][k]}
            assert not different, f"{name}: {different}"
            if per_neuron and found["kind"] != "analog":
                row = report.layers[name].synops_per_neuron
                assert row is not None
                assert torch.equal((row * self.samples).round().flatten().sum(), map_.sum())
        said = [e for e in report.uncounted if e.what != "parameter weight" or not e.calls]
        assert not [e for e in said if "no operation" in e.reason and self.was_called(e.name)], said
        assert not [e for e in said if "no operation" not in e.reason], said

    def was_called(self, name: str) -> bool:
        return any(name.startswith(part) for part, *_ in self.notes.done)


def check(seed: int) -> None:
    trial = None
    try:
        trial = Trial(seed)
        trial.run()
    except BaseException:
        described = trial.describe() if trial is not None else ""
        print(f"SNNMETRICS_FUZZ_SEED={seed} pytest tests/test_monitor_fuzz.py\n{described}")
        raise


@pytest.mark.parametrize("group", range(1 if _ONE else GROUPS))
def test_counts_equal_explicit_sums_over_what_was_used(group: int) -> None:
    for seed in [int(_ONE)] if _ONE else range(group, _SEEDS, GROUPS):
        check(seed)
