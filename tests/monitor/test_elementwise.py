"""Element-wise products of two activations against ``((a != 0) & (b != 0)).sum()``.

Models note both factors as plain copies right before they multiply them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.accelerators import INTERPRETED, road_named, taken
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import Fire
from tests.helpers.waiting import make_waiting_copies_raise

KINDS = ("binary", "ternary", "integer", "analog")
Noted = list[tuple[Tensor, Tensor]]


def note(notes: Noted, a: Tensor, b: Tensor) -> None:
    with torch._C.DisableTorchFunction(), torch.no_grad():
        notes.append((a.detach().clone().double(), b.detach().clone().double()))


def kind_of(x: Tensor) -> str:
    if bool(((x == 0) | (x == 1)).all()):
        return "binary"
    if bool((x.abs() <= 1).all() and (x == x.round()).all()):
        return "ternary"
    return "integer" if torch.equal(x, x.round()) else "analog"


def truth(notes: Noted) -> dict[str, Any]:
    """What all calls of one product must have counted."""
    both = sum(int(((a != 0) & (b != 0)).sum()) for a, b in notes)
    dense = sum(torch.broadcast_shapes(a.shape, b.shape).numel() for a, b in notes)
    kinds = [max((kind_of(factors[side]) for factors in notes), key=KINDS.index) for side in (0, 1)]
    spiking = not {"binary", "ternary"}.isdisjoint(kinds)
    return {
        "kind": "*".join(kinds),
        "calls": len(notes),
        "effective_synops": both,
        "event_synops": both,
        "acs": both if spiking else 0,
        "macs": 0 if spiking else both,
        "dense_synops": dense,
        "dense_macs": dense,
        "output_elements": dense,
        "events": sum(int((a != 0).sum()) for a, _ in notes),
        "elements": sum(a.numel() for a, _ in notes),
    }


def counted(report: sm.Report, name: str) -> dict[str, Any]:
    return {"kind": report.layers[name].kind} | report.counts()[name]


def assert_counted(report: sm.Report, name: str, notes: Noted) -> None:
    expected, found = truth(notes), counted(report, name)
    assert {key: found[key] for key in expected} == expected


def measured(model: nn.Module, *batches: Tensor, **options: Any) -> sm.Report:
    with torch.no_grad(), sm.Monitor(model, batch_dim=0, elementwise=True, **options) as monitor:
        for x in batches:
            model(x)
    return monitor.compute()


class Does(nn.Module):
    """A model that does what it is told, and keeps what is noted."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.does, self.notes = does, [[]]
        self.w = nn.Parameter(torch.tensor([1.0, 0.0, 2.0, 3.0, 0.5]))
        self.register_buffer("mask", torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)

    def note(self, a: Tensor, b: Tensor) -> None:
        note(self.notes[0], a, b)


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < rate).float()


# ------------------------------------------------------------------------ spike-driven attention


class SpikeDrivenAttention(nn.Module):
    """Yao et al., 2023: the sum over tokens of K * V, made spikes, masks Q."""

    def __init__(self, features: int) -> None:
        super().__init__()
        for name in "qkv":
            self.add_module(name, nn.Linear(features, features, bias=False))
            self.add_module(f"{name}_fire", Fire(0.3))
        self.fire, self.proj = Fire(0.5), nn.Linear(features, features)
        self.kv: Noted = []
        self.masked: Noted = []

    def forward(self, x: Tensor) -> Tensor:  # (T, B, N, D)
        q, k, v = (getattr(self, f"{n}_fire")(getattr(self, n)(x)) for n in "qkv")
        note(self.kv, k, v)
        attended = self.fire((k * v).sum(2, keepdim=True))
        note(self.masked, q, attended)
        return self.proj(q.mul(attended))


def attention_model() -> nn.Module:
    torch.manual_seed(2)
    sm.register_neuron(Fire, lead="TB")
    model = nn.Sequential()
    model.attn = SpikeDrivenAttention(12)
    return model


def test_spike_driven_self_attention() -> None:
    model = attention_model()
    with torch.no_grad(), sm.Monitor(model, batch_dim=1, time_dim=0, elementwise=True) as monitor:
        for seed, samples in enumerate((3, 1)):
            model(spikes(4, samples, 5, 12, seed=seed))
    report = monitor.compute()
    assert_counted(report, "attn.mul", model.attn.kv)
    assert_counted(report, "attn.mul_1", model.attn.masked)
    assert report.layers["attn.mul_1"].kind == "binary*binary"
    assert report.layers["attn.mul_1"].acs > 0
    assert report.layers["attn.mul"].parameters == 0


def test_off_by_default_and_everything_else_stays() -> None:
    model, x = attention_model(), spikes(4, 3, 5, 12)
    reports = []
    for options in ({}, {"elementwise": True}):
        with torch.no_grad():
            reports.append(sm.Monitor(model, batch_dim=1, time_dim=0, **options).run([x]))
    plain, asked = reports
    products = {"attn.mul", "attn.mul_1"}
    assert asked.layers.keys() - plain.layers.keys() == products
    for name in plain.layers:
        assert plain.counts()[name] == asked.counts()[name]
    assert plain.neurons == asked.neurons
    assert "counted with Monitor(elementwise=True)" in " ".join(str(plain).split())
    assert "Monitor(elementwise=True)" not in " ".join(str(asked).split())
    assert not plain.elementwise
    assert asked.elementwise


# ------------------------------------------------------------------------------- spellings


def _out(m: Any, x: Tensor) -> Tensor:
    b, target = x - 1, torch.empty(0)
    m.note(x, b)
    return torch.mul(x, b, out=target)


def _written(m: Any, x: Tensor, multiply: Callable[[Tensor, Tensor], Any]) -> Tensor:
    a, b = x * 1.0, x.roll(1, 0) - 0.5
    m.note(a, b)
    multiply(a, b)
    return a


def _imul(a: Tensor, b: Tensor) -> None:
    a *= b


def _by(multiply: Callable[[Tensor, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    def does(m: Any, x: Tensor) -> Any:
        b = x.roll(1, 0) - 0.5
        m.note(x, b)
        return multiply(x, b)

    return does


SPELLINGS: dict[str, Callable[[Any, Tensor], Any]] = {
    "*": _by(lambda a, b: a * b),
    "torch.mul": _by(torch.mul),
    "torch.multiply": _by(torch.multiply),
    "by keyword": _by(lambda a, b: torch.mul(other=b, input=a)),
    "Tensor.mul": _by(lambda a, b: a.mul(b)),
    "Tensor.mul by keyword": _by(lambda a, b: a.mul(other=b)),
    "Tensor.multiply": _by(lambda a, b: a.multiply(b)),
    "__rmul__": _by(lambda a, b: Tensor.__rmul__(a, b)),
    "operator": _by(torch.ops.aten.mul),
    "overload": _by(torch.ops.aten.mul.Tensor),
    "out": _out,
    "*=": lambda m, x: _written(m, x, _imul),
    "mul_": lambda m, x: _written(m, x, lambda a, b: a.mul_(b)),
    "multiply_": lambda m, x: _written(m, x, lambda a, b: a.multiply_(b)),
    "mul_ operator": lambda m, x: _written(m, x, torch.ops.aten.mul_),
    "out that is an operand": lambda m, x: _written(m, x, lambda a, b: torch.mul(a, b, out=a)),
    "mul_ of a view": lambda m, x: _written(m, x, lambda a, b: a.detach().mul_(b)),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_counted_alike(spelling: str, inference: bool) -> None:
    model = Does(SPELLINGS[spelling])
    with torch.inference_mode(inference):
        report = measured(model, spikes(4, 5), spikes(2, 5, seed=1))
    assert set(report.layers) == {"Does.mul"}
    assert_counted(report, "Does.mul", model.notes[0])


NOT_COUNTED: dict[str, Callable[[Any, Tensor], Any]] = {
    "a number": lambda m, x: x * 2.0,
    "a 0-dim tensor": lambda m, x: x * torch.tensor(2.0) * x.mean(),
    "a parameter": lambda m, x: x * m.w,
    "a parameter in place": lambda m, x: (x + 1).mul_(m.w),
    "a mask kept as buffer": lambda m, x: x * m.mask,
    "a scaled mask": lambda m, x: x * (m.mask * m.w.abs()),
    "ones": lambda m, x: x * torch.ones(5),
    "ones of the shape of an activation": lambda m, x: x * torch.ones_like(x),
    "new zeros": lambda m, x: x.new_zeros(x.shape).mul_(x),
    "a drawn mask": lambda m, x: x * (torch.rand_like(x) < 0.5).float(),
    "a mask drawn in place": lambda m, x: x * x.new_empty(x.shape).bernoulli_(0.5).div_(0.5),
    "dropout": lambda m, x: F.dropout(x, 0.5, training=True),
    "silu and glu": lambda m, x: F.silu(x) + F.glu(torch.cat([x, x], 1), 1),
    "two constants": lambda m, x: x + torch.ones(5) * torch.arange(5),
}


@pytest.mark.parametrize("case", NOT_COUNTED)
def test_what_is_no_product_of_two_activations(case: str) -> None:
    report = measured(Does(NOT_COUNTED[case]), spikes(4, 5))
    assert not report.layers
    assert not [entry for entry in report.uncounted if "mul" in entry.what]


def test_a_constant_into_which_an_activation_was_written_is_one() -> None:
    def does(m: Any, x: Tensor) -> Tensor:
        whole, part = torch.zeros_like(x), torch.zeros_like(x)
        whole.copy_(x)
        part[:, 1:].add_(x[:, 1:])  # through a view
        m.note(whole, part)
        return whole * part

    model = Does(does)
    report = measured(model, spikes(4, 5))
    assert_counted(report, "Does.mul", model.notes[0])


def test_a_write_into_a_constant_leaves_lineage_right() -> None:
    """What was a constant holds an activation behind ``mul_``: a product with it is one of two."""

    def does(m: Any, x: Tensor) -> Tensor:
        constant = torch.ones(4, 5)
        constant.mul_(x)  # no product of two activations
        m.note(constant, x)
        return constant * x @ torch.ones(5, 3)

    model = Does(does)
    report = measured(model, spikes(4, 5))
    assert set(report.layers) == {"Does.mul", "Does.matmul"}
    assert_counted(report, "Does.mul", model.notes[0])


# ------------------------------------------------------------------------------- factors


SHAPES = [
    ((4, 3, 5), (5,)),
    ((5,), (4, 3, 5)),
    ((4, 3, 1), (4, 1, 5)),
    ((4, 1, 5), (3, 5)),
    ((1, 3, 5), (4, 3, 5)),
    ((4, 3, 5), (4, 1, 1)),
    ((0, 3, 5), (0, 3, 1)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_factors_that_are_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = spikes(*left), torch.randn(right) * spikes(*right, seed=1)

    class Two(Does):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            self.note(x, y)
            return x * y

    model = Two(lambda m, x: x)
    monitor = sm.Monitor(model, elementwise=True)
    with torch.no_grad(), monitor, monitor.batch(samples=4):
        model(a, b)
    report = monitor.compute()
    assert_counted(report, "Two.mul", model.notes[0])


def test_an_expanded_factor_and_one_that_is_used_again() -> None:
    def does(m: Any, x: Tensor) -> Tensor:
        gate = x.mean(1, keepdim=True).expand(-1, 5)
        m.note(gate, x)
        return gate * x * 0.5 + x * 0  # the second and third are of numbers

    model = Does(does)
    report = measured(model, spikes(4, 5))
    assert_counted(report, "Does.mul", model.notes[0])

    def again(m: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            m.note(x, x)
            x = x * x
        return x

    model = Does(again)
    x = torch.randn(4, 5) * spikes(4, 5)
    report = measured(model, x)
    assert set(report.layers) == {"Does.mul"}  # one line, called three times
    assert_counted(report, "Does.mul", model.notes[0])
    assert report.layers["Does.mul"].macs == 3 * int((x != 0).sum()) / 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8])
def test_narrow_and_wide_dtypes(dtype: torch.dtype) -> None:
    def does(m: Any, x: Tensor) -> Tensor:
        a, b = x.to(dtype), (x.roll(1, 0) * 3).to(dtype)
        m.note(a, b)
        return a * b

    model = Does(does)
    report = measured(model, spikes(40, 50), spikes(30, 50, seed=3))
    assert_counted(report, "Does.mul", model.notes[0])
    assert report.layers["Does.mul"].kind == "binary*integer"


def test_products_that_underflow_are_operations() -> None:
    tiny = torch.full((2, 5), 1e-30)
    model = Does(lambda m, x: (x * 1e-30) * (x.roll(1, 0) * 1e-30))
    assert not bool((tiny * tiny).any())
    assert measured(model, tiny * 1e30).counts()["Does.mul"]["event_synops"] == 10


# ------------------------------------------------------------------------------- networks


class Gated(nn.Module):
    """A gated linear unit and squeeze-and-excitation, whose factors are analog."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.norm = nn.Linear(6, 8), nn.Linear(6, 8), nn.LayerNorm(8)
        self.act, self.squeeze = nn.SiLU(), nn.Linear(8, 8)
        self.notes: list[Noted] = [[], []]

    def forward(self, x: Tensor) -> Tensor:  # (B, L, 6)
        value, gate = self.value(x).relu(), torch.sigmoid(self.gate(x))
        note(self.notes[0], value, gate)
        hidden = self.act(self.norm(value * gate))
        scale = self.squeeze(hidden.mean(1)).relu().unsqueeze(1)
        note(self.notes[1], hidden, scale)
        hidden *= scale
        return hidden


def test_gates_are_macs() -> None:
    torch.manual_seed(0)
    model = Gated()
    report = measured(model, torch.randn(3, 7, 6), torch.randn(2, 7, 6))
    assert_counted(report, "Gated.mul", model.notes[0])
    assert_counted(report, "Gated.mul_1", model.notes[1])
    assert report.layers["Gated.mul"].kind == "analog*analog"
    assert report.layers["Gated.mul"].synops is None
    assert 0 < report.layers["Gated.mul"].macs < report.layers["Gated.mul"].dense_macs


class Norm(nn.Module):
    """Of a user's own, known by its name."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x * x).mean(-1, keepdim=True).add(1e-5).rsqrt()


class RMSNorm(Norm):
    pass


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.sum(1, keepdim=True) > 0)


class MyNeuron(nn.Module):
    """Resets by a product of two activations."""

    def forward(self, x: Tensor) -> Tensor:
        spike = (x > 0.5).float()
        rest = x * (1 - spike)
        return (spike + rest > 0.25).float()


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class WithInner(nn.Module):
    """A neuron whose parts multiply, too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return (self.inner(x) > 0.5).float()


def test_neurons_and_normalisations_are_out_of_scope() -> None:
    import snntorch
    from spikingjelly.activation_based import neuron

    sm.register_neuron(MyNeuron, lead="B")
    sm.register_neuron(WithInner, lead="B")
    parts = [
        *(RMSNorm(), DropPath(), MyNeuron(), WithInner(), nn.BatchNorm1d(5), nn.LayerNorm(5)),
        *(nn.Dropout(), nn.SiLU(), nn.GLU(), nn.Softmax(-1), nn.Tanh(), nn.RMSNorm(5)),
        *(neuron.LIFNode(v_reset=0.0), neuron.ParametricLIFNode(), neuron.IFNode(v_reset=0.0)),
        *(snntorch.Leaky(0.5, init_hidden=True), snntorch.Leaky(0.5, learn_beta=True)),
    ]
    x = torch.rand(4, 6)
    for part in parts:
        model = nn.Sequential(nn.Linear(6, 6 if isinstance(part, nn.GLU) else 5), part)
        report = measured(model, x)
        assert set(report.layers) == {"0"}, part
        assert not report.uncounted, part


def test_an_unknown_neuron_is_the_models_own_code() -> None:
    class Unknown(MyNeuron):
        pass

    model = nn.Sequential(nn.Linear(6, 5))
    model.add_module("own", copy.deepcopy(Inner()))
    report = measured(model, torch.rand(4, 6))
    assert set(report.layers) == {"0", "own.mul"}
    sm.register_neuron(Unknown, lead="B")
    assert set(measured(nn.Sequential(nn.Linear(6, 5), Unknown()), torch.rand(4, 6)).layers) == {
        "0"
    }


def test_hooks_are_not_the_models_unless_asked_for() -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    model[0].register_forward_hook(lambda module, args, output: output * output.sigmoid())
    x = torch.randn(4, 6)
    (entry,) = measured(model, x).uncounted
    assert (entry.name, entry.what) == ("0", "mul")
    assert "hooks=True" in entry.reason
    report = measured(model, x, hooks=True)
    assert report.counts()["0.mul"]["dense_macs"] == 20
    assert not report.uncounted


def test_what_cannot_be_seen_is_said() -> None:
    report = measured(nn.LSTM(6, 5, batch_first=True), torch.randn(2, 3, 6))
    assert [e.what for e in report.uncounted] == ["lstm"]
    assert "gates" in report.uncounted[0].reason

    scripted = torch.jit.script(_gate)
    (entry,) = measured(Does(lambda m, x: scripted(x, x)), spikes(4, 5)).uncounted
    assert "aten::mul" in entry.reason

    traced = torch.fx.symbolic_trace(Inner())
    (entry,) = measured(traced, torch.randn(2, 3)).uncounted
    assert "graph" in entry.reason

    (entry,) = measured(Does(lambda m, x: x.to_sparse() * x.to_sparse()), spikes(4, 5)).uncounted
    assert "sparse" in entry.reason
    (entry,) = measured(Does(lambda m, x: x.cfloat() * x.cfloat()), spikes(4, 5)).uncounted
    assert "complex64" in entry.reason
    vmapped = Does(lambda m, x: torch.vmap(lambda row: row * row)(x))
    (entry,) = measured(vmapped, spikes(4, 5)).uncounted
    assert "vmap" in entry.reason
    for model in (nn.LSTM(6, 5), traced):
        with sm.Monitor(model, batch_dim=0) as monitor:
            model(torch.randn(2, 3, 6))
        assert not monitor.compute().uncounted


def _gate(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def test_a_failed_call_adds_nothing_and_a_copy_is_bounded_to_writes() -> None:
    def does(m: Any, x: Tensor) -> Tensor:
        a = x + 0.5
        with contextlib.suppress(RuntimeError):
            a.mul_(x[:, :2])  # shapes that do not go together
        m.note(a, x)
        return a.mul_(x)

    model = Does(does)
    report = measured(model, spikes(4, 5))
    assert set(report.layers) == {"Does.mul"}
    assert_counted(report, "Does.mul", model.notes[0])


@pytest.mark.parametrize("mode", ["checkpoint", "grad", "compiled"])
def test_gradients_and_counts_under_transforms(mode: str) -> None:
    from torch.utils.checkpoint import checkpoint

    def product(x: Tensor) -> Tensor:
        return (x * x.sigmoid()).sum()

    def does(m: Any, x: Tensor) -> Tensor:
        if mode == "checkpoint":
            return checkpoint(product, x, use_reentrant=False)
        return torch.func.grad(product)(x) if mode == "grad" else product(x)

    model: Any = Does(does)
    x = torch.randn(3, 5)
    called = model if mode != "compiled" else torch.compile(model, backend="eager")
    plain = called(x.clone().requires_grad_())
    watched = x.clone().requires_grad_()
    with sm.Monitor(model, batch_dim=0, elementwise=True) as monitor:
        output = called(watched)
    assert torch.equal(output, plain)
    if mode != "grad":
        output.sum().backward()
        expected = x.clone().requires_grad_()
        product(expected).backward()
        torch.testing.assert_close(watched.grad, expected.grad)
    report = monitor.compute()
    assert report.counts()["Does.mul"]["event_synops"] == 15
    noted = [note for note in report.notes if "elementwise" in note]
    assert bool(noted) is (mode == "compiled")


# ----------------------------------------------------------------- samples, steps, ranks, roads


@pytest.mark.parametrize("time_first", [True, False])
def test_samples_and_steps(time_first: bool) -> None:
    kept: Noted = []

    def does(m: Any, x: Tensor) -> Tensor:
        gate = x.flip(0).sum(-1, keepdim=True).clamp(max=1)
        note(kept, gate, x)
        return gate * x

    model, shape = Does(does), (4, 3, 2, 5) if time_first else (3, 4, 2, 5)
    x = spikes(*shape, rate=0.2)
    dims = {"batch_dim": 1, "time_dim": 0} if time_first else {"batch_dim": 0, "time_dim": 1}
    options: dict[str, Any] = {"per_sample": True, "per_step": True, "elementwise": True}
    with torch.no_grad(), sm.Monitor(model, **dims, **options) as monitor:
        model(x)
    report = monitor.compute()
    ((gate, spiking),) = kept
    both = ((gate != 0) & (spiking != 0)).double().sum((2, 3))
    both = both if time_first else both.t()  # (T, B)
    row = report.layers["Does.mul"]
    assert row.max == both.sum(0).max()
    assert row.std == pytest.approx(both.sum(0).std(correction=0).item())
    assert row.peak_step == both.max()
    assert torch.equal(report.curves["synops"].mean, both.mean(1))
    events = (gate != 0).double().sum((2, 3))
    events = events if time_first else events.t()
    torch.testing.assert_close(report.layers_data["Does.mul"].curves["events"].mean, events.mean(1))


def test_samples_of_a_product_in_a_loop_outside() -> None:
    model = Does(lambda m, x: x * x.roll(1, 1))
    x = spikes(6, 3, 5)
    monitor = sm.Monitor(model, per_sample=True, per_step=True, elementwise=True)
    with torch.no_grad(), monitor, monitor.batch(samples=3, steps=6):
        for step in x:
            model(step)
    both = (x * x.roll(1, 2)).sum(2).double()
    row = monitor.compute().layers["Does.mul"]
    assert (row.max, row.peak_step) == (both.sum(0).max(), both.max())


def _measure(batches: list[Tensor]) -> sm.Report:
    model = attention_model()
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0, elementwise=True)
    with torch.no_grad(), monitor:
        for x in batches:
            model(x)
    return monitor.compute()


@pytest.mark.xdist_group("ranks")
def test_two_ranks_give_the_report_of_one(two_ranks: Ranks) -> None:
    data = [spikes(4, n, 5, 12, seed=n) for n in (3, 1, 2)]
    single = _measure(data)
    for report in results_of(two_ranks.run(_measure, [(data[:1],), (data[1:],)])):
        assert report == single
    shards = [_measure(data[:1]), _measure(data[1:])]
    assert shards[0].merge(shards[1]).counts() == single.counts()
    assert sm.Report.from_json(single.to_json()) == single


def test_what_was_counted_otherwise_is_not_added() -> None:
    model, x = nn.Linear(5, 3), spikes(2, 5)
    monitors = [sm.Monitor(model, batch_dim=0, elementwise=on) for on in (False, True)]
    reports = [monitor.run([x]) for monitor in monitors]
    with pytest.raises(ValueError, match="elementwise"):
        monitors[0].merge_state(monitors[1])
    with pytest.raises(ValueError, match="elementwise"):
        reports[0].merge(reports[1])
    with pytest.raises(TypeError, match="elementwise: expected"):
        sm.Monitor(model, elementwise="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["torch", INTERPRETED])
def test_roads_of_accelerators(name: str) -> None:
    road, _ = road_named(name, 2**12)
    x = torch.randn(3, 7, 6) * spikes(3, 7, 6)
    reports = []
    for options in ({}, {"per_sample": True}):
        model = Gated()
        nn.init.constant_(model.squeeze.bias, 0.1)
        for on_road in (False, True):
            if on_road:
                with taken(road):
                    reports.append(measured(model, x, x[:1], **options))
            else:
                reports.append(measured(model, x, x[:1], **options))
        host, device = reports[-2:]
        for row in ("Gated.mul", "Gated.mul_1"):
            found, expected = device.counts()[row], host.counts()[row]
            assert found.pop("magnitude") == pytest.approx(expected.pop("magnitude"))
            assert found == expected
            assert device.layers[row].kind == host.layers[row].kind


def test_the_host_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ``meta`` reading a value raises, and so does a copy to it that is waited for."""

    def does(m: Any, x: Tensor) -> Tensor:
        x = x * x[:, :1]
        x *= x.roll(1, 0)
        return x * torch.zeros_like(x)

    model = Does(does).to("meta")
    for options in ({}, {"per_sample": True, "per_step": True, "steps": 1}):
        monitor = sm.Monitor(model, batch_dim=0, elementwise=True, **options)
        with monitor, monkeypatch.context() as patch:
            model(torch.empty(3, 5, device="meta"))  # sends the edges of histograms
            make_waiting_copies_raise(patch)
            model(torch.empty(3, 5, device="meta"))
        assert set(monitor._state.names().values()) == {"Does.mul", "Does.mul_1"}


def test_values_that_are_not_finite_raise_before_anything_is_counted() -> None:
    model = Does(lambda m, x: x * x.roll(1, 0))
    with sm.Monitor(model, batch_dim=0, elementwise=True) as monitor:
        with pytest.raises(ValueError, match=r"Does\.mul"):
            model(torch.tensor([[1.0, torch.nan]]))
        assert monitor.compute().samples == 0


def test_declarations_of_the_rows() -> None:
    model, x = attention_model(), spikes(4, 3, 5, 12)
    options: dict[str, Any] = {"batch_dim": 1, "time_dim": 0, "elementwise": True}
    report = sm.Monitor(model, exclude="*.mul_1", **options).run([x])
    assert "attn.mul" in report.layers
    assert "attn.mul_1" not in report.layers
    report = sm.Monitor(model, kinds={"attn.mul": "analog"}, **options).run([x])
    assert report.layers["attn.mul"].acs == 0
    assert report.layers["attn.mul"].macs > 0


# ------------------------------------------------------------------------------- constants


def _ones_written(model: Does, x: Tensor, write: Callable[[Tensor, Tensor], Any]) -> Tensor:
    mask = torch.ones_like(x)
    write(mask, x)
    model.note(mask, x)
    return mask * x


OF_ACTIVATIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "an entry": lambda mask, x: mask.__setitem__(0, x[0]),
    "a view": lambda mask, x: mask.view(-1).copy_(x.view(-1)),
    "data": lambda mask, x: mask.data.copy_(x),
    "out": lambda mask, x: torch.add(x, 0.0, out=mask),
}
OF_NUMBERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "an entry": lambda mask, x: mask.__setitem__((slice(None), slice(2, None)), 0.0),
    "a view": lambda mask, x: mask[:, 2:].zero_(),
    "another constant": lambda mask, x: mask.__setitem__(0, torch.zeros_like(x[0])),
    "at random": lambda mask, x: mask.bernoulli_(0.5),
}
without_gradient = pytest.mark.parametrize(
    "mode", [contextlib.nullcontext, torch.no_grad, torch.inference_mode]
)


@without_gradient
@pytest.mark.parametrize("way", OF_ACTIVATIONS)
def test_a_constant_that_activations_are_written_to_is_an_activation(way: str, mode: Any) -> None:
    with mode():
        model, x = Does(lambda m, x: _ones_written(m, x, OF_ACTIVATIONS[way])), spikes(3, 4)
        with sm.Monitor(model, batch_dim=0, elementwise=True) as monitor:
            model(x)
    assert_counted(monitor.compute(), "Does.mul", model.notes[0])


@without_gradient
@pytest.mark.parametrize("way", OF_NUMBERS)
def test_a_constant_that_numbers_are_written_to_is_a_constant(way: str, mode: Any) -> None:
    with mode():
        model, x = Does(lambda m, x: _ones_written(m, x, OF_NUMBERS[way])), spikes(3, 4)
        with sm.Monitor(model, batch_dim=0, elementwise=True) as monitor:
            model(x)
    report = monitor.compute()
    assert not report.layers
    assert not report.uncounted


def test_constants_without_memory_of_their_own_disturb_nothing() -> None:
    def does(model: Does, x: Tensor) -> Tensor:
        sparse = torch.zeros_like(x.to_sparse())
        sparse.add_(x.to_sparse())

        def inner(row: Tensor) -> Tensor:
            return torch.zeros_like(row).add_(row)

        x = torch.func.vmap(inner)(x) + sparse.to_dense()
        model.note(x, x)
        return x * x

    model = Does(does)
    report = measured(model, spikes(3, 4))
    assert_counted(report, "Does.mul", model.notes[0])


# ------------------------------------------------------------------------- right operand

FACTORS: dict[str, tuple[Tensor, Tensor]] = {
    "same shape": (spikes(3, 4), spikes(3, 4, seed=1)),
    "right broadcast": (spikes(3, 4), spikes(1, 4, seed=1)),
    "left broadcast": (spikes(1, 4), spikes(3, 4, seed=1)),
    "both broadcast": (spikes(3, 1, 4), spikes(3, 4, seed=1)),
    "graded": (spikes(3, 4) * 0.3, torch.randn(3, 4).bfloat16()),
    "not contiguous": (spikes(4, 3).t(), spikes(4, 3, seed=1).t()),
    "right zeros": (spikes(3, 4), torch.zeros(3, 4)),
    "left zeros": (torch.zeros(3, 4), spikes(3, 4, seed=1)),
    "empty": (torch.zeros(0, 4), torch.zeros(0, 4)),
}


@pytest.mark.parametrize("road", [None, "torch", INTERPRETED])
@pytest.mark.parametrize("case", FACTORS)
def test_events_of_the_right_operand(case: str, road: str | None) -> None:
    left, right = FACTORS[case]

    class Multiplies(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left * right

    around = contextlib.nullcontext() if road is None else taken(road_named(road)[0])
    monitor = sm.Monitor(Multiplies(), batch_dim=0, elementwise=True)
    with around, torch.no_grad(), monitor:
        for _ in range(2):
            monitor.model(left, right)
    found = monitor.compute().counts()["Multiplies.mul"]
    both = (left != 0) & (right != 0)
    expected = {
        "events": 2 * int((left != 0).sum()),
        "right_events": 2 * int((right != 0).sum()),
        "elements": 2 * left.numel(),
        "right_elements": 2 * right.numel(),
        "effective_synops": 2 * int(both.sum()),
        "dense_synops": 2 * both.numel(),
    }
    assert {name: found[name] for name in expected} == expected
