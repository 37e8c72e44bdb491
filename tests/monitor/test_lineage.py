"""Which tensors are weights: by slots as they stand when the root is called, and by use.

Inputs are small integers, so that what was counted tells how a row took its operands: a weight has
as many synapses per event as outputs, whatever its values; a product of two activations counts
pairs that are both nonzero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

import snnmetrics as sm

X = torch.tensor([[2.0, 0, 1, 3], [0, 1, 0, 2]])  # 9 spikes, in 5 events
SPIKES, EVENTS, SAMPLES = 9, 5, 2


class Model(nn.Module):
    """Computes ``forward`` with parameters, buffers and attributes that are given."""

    def __init__(
        self,
        forward: Callable[..., Any],
        parameters: dict[str, Tensor] | None = None,
        buffers: dict[str, Tensor] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__()
        self.does = forward
        for name, value in (parameters or {}).items():
            self.register_parameter(name, nn.Parameter(value.clone()))
        for name, value in (buffers or {}).items():
            self.register_buffer(name, value.clone())
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *args: Any) -> Any:
        return self.does(self, *args)


def weights(rows: int = 4, columns: int = 3) -> Tensor:
    """No zero among them, and none that is an integer."""
    return torch.arange(1, rows * columns + 1).reshape(rows, columns) / 16 + 1 / 64


def measured(model: nn.Module, *inputs: Any, **kwargs: Any) -> sm.Report:
    monitor = sm.Monitor(model, batch_dim=0, **kwargs)
    with monitor:
        for x in inputs or (X,):
            model(*x) if isinstance(x, tuple) else model(x)
    return monitor.compute()


def assert_weight(report: sm.Report, outputs: int = 3, calls: int = 1, zeros: bool = False) -> None:
    """One row, of X into a weight with ``outputs`` outputs."""
    (row,) = report.layers.values()
    assert row.kind == "integer"
    assert row.synops * report.samples == SPIKES * outputs * calls
    assert row.event_synops * report.samples == EVENTS * outputs * calls
    if not zeros:
        assert row.effective_synops == row.event_synops
        assert (row.acs, row.macs) == (row.synops, 0.0)


def assert_product(report: sm.Report) -> None:
    (row,) = report.layers.values()
    assert "*" in row.kind


# -------------------------------------------- buffers and attributes, from outside of a forward

FROM_OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda m: None,
    "copy_": lambda m: m.w.copy_(weights() * 2),
    "mul_": lambda m: m.w.mul_(0.5),
    "item": lambda m: m.w.__setitem__((0, 0), 0.25),
    "out=": lambda m: torch.add(m.w, 1.0, out=m.w),
    "lerp_": lambda m: m.w.lerp_(torch.ones(4, 3), 0.25),
    "load_state_dict": lambda m: m.load_state_dict({"w": weights() + 1}, strict=False),
    "load by assignment": lambda m: m.load_state_dict(
        {"w": weights() + 1}, strict=False, assign=True
    ),
    "cast to float64 and back": lambda m: m.double().float(),
    "cast to bfloat16 and back": lambda m: m.bfloat16().float(),
    "replaced": lambda m: setattr(m, "w", weights() * 3),
    "data": lambda m: setattr(m.w, "data", weights() * 3),
    "copied from a spike-timing rule": lambda m: m.w.add_(0.125 * (X.t() @ torch.ones(2, 3))),
    "NumPy": lambda m: m.w.numpy().__imul__(np.float32(2)),
}


@pytest.mark.parametrize("when", ["before", "between", "after detaching", "within a batch"])
@pytest.mark.parametrize("where", ["buffer", "attribute"])
@pytest.mark.parametrize("how", FROM_OUTSIDE)
def test_what_is_written_outside_of_a_forward_stays_a_weight(
    how: str, where: str, when: str
) -> None:
    named = {"buffers": {"w": weights()}} if where == "buffer" else {"w": weights()}
    model = Model(lambda m, x: x @ m.w, **named)
    if where == "attribute" and "load" in how:
        pytest.skip("an attribute is not loaded")
    change, monitor = FROM_OUTSIDE[how], sm.Monitor(model, batch_dim=0)
    if when == "within a batch":
        monitor = sm.Monitor(model)
        with monitor, monitor.batch(samples=SAMPLES * 3):
            for _ in range(3):
                model(X)
                change(model)
    elif when == "after detaching":
        for _ in range(3):
            with monitor:
                model(X)
            change(model)
    else:
        with monitor:
            for _ in range(3):
                if when == "before":
                    change(model)
                model(X)
                change(model)
    assert_weight(monitor.compute(), calls=3)
    assert not monitor.compute().uncounted


# ------------------------------------------------------------- state that a forward writes


def _held(m: Any, x: Tensor) -> None:
    if m.held.shape != x.shape:
        m.held = torch.zeros_like(x)


INTO_STATE: dict[str, Callable[[Any, Tensor], Any]] = {
    "copy_": lambda m, x: m.held.copy_(x),
    "add_": lambda m, x: m.held.mul_(0.0).add_(x),
    "item": lambda m, x: m.held.__setitem__(slice(None), x),
    "out=": lambda m, x: torch.mul(x, 1.0, out=m.held),
    "view": lambda m, x: m.held.view(-1).copy_(x.flatten()),
    "bound": lambda m, x: setattr(m, "held", x * 1.0),
    "bound, detached": lambda m, x: setattr(m, "held", x.detach().clone()),
    "roll": lambda m, x: setattr(m, "held", torch.roll(m.held, 1, 0) * 0 + x),
}


@pytest.mark.parametrize("where", ["buffer", "attribute"])
@pytest.mark.parametrize("how", INTO_STATE)
def test_what_a_forward_writes_to_or_binds_is_state_over_attachments(how: str, where: str) -> None:
    """The product with what was held from the last call is one of two activations."""

    def forward(m: Any, x: Tensor) -> None:
        INTO_STATE[how](m, x)
        x @ m.held.t()

    zeros = torch.zeros(2, 4)
    model = Model(
        forward, **({"buffers": {"held": zeros}} if where == "buffer" else {"held": zeros})
    )
    monitor = sm.Monitor(model, batch_dim=0)
    for _ in range(3):
        with monitor:
            model(X)
    report = monitor.compute()
    assert_product(report)
    (row,) = report.layers.values()
    both = torch.einsum("ik,jk->ij", (X != 0).double(), (X != 0).double()).sum()
    assert row.event_synops * report.samples == 3 * int(both)


def test_state_that_was_read_before_its_first_write_is_listed_or_a_product() -> None:
    """The buffer is read first: until the write nothing tells it from a weight."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = x @ m.held.t()
        m.held.copy_(x)
        return y

    model = Model(forward, buffers={"held": torch.ones(2, 4)})
    monitor = sm.Monitor(model, batch_dim=0)
    for _ in range(2):
        with monitor:
            model(X)
            model(X)
    kinds = [row.kind for row in monitor.compute().layers.values()]
    assert any("*" in kind for kind in kinds), "a product from the second call on"
    assert len(kinds) <= 2


# ----------------------------------------------------------------- weights made of weights

MASK = torch.tensor([1.0, 1, 1, 0])
DERIVED: dict[str, Callable[[Any], Tensor]] = {
    "clone, in place": lambda m: m.w.clone().mul_(2).add_(1),
    "detach": lambda m: m.w.detach(),
    "data": lambda m: m.w.data,
    "data, in place on a copy": lambda m: m.w.data.clone().abs_(),
    "item assigned": lambda m: _assigned(m.w),
    "out=": lambda m: torch.mul(m.w.detach(), 2.0, out=torch.empty(4, 3)),
    "filled from weights": lambda m: torch.empty(4, 3).copy_(m.w),
    "sort": lambda m: m.w.sort(0).values,
    "sort, unpacked": lambda m: torch.sort(m.w, dim=1)[0],
    "qr": lambda m: torch.linalg.qr(m.w)[0],
    "svd": lambda m: torch.linalg.svd(m.w, full_matrices=False).U,
    "eigh": lambda m: torch.linalg.eigh(m.square)[1][:, :3],
    "topk mask": lambda m: m.w * (m.w >= m.w.flatten().topk(12).values.min()),
    "where": lambda m: torch.where(m.w > 0, m.w, -m.w),
    "split": lambda m: torch.split(m.square, [3, 1], dim=1)[0],
    "unbind and stack": lambda m: torch.stack(m.w.unbind(0)),
    "cat": lambda m: torch.cat((m.w[:2], m.w[2:])),
    "expand": lambda m: m.row.expand(4, 3),
    "broadcast_to": lambda m: torch.broadcast_to(m.row, (4, 3)),
    "outer sum": lambda m: m.row + m.scale[:, None],
    "block diagonal": lambda m: torch.block_diag(m.square[:2, :2], m.square[2:, 2:])[:, :3] + 1,
    "softmax": lambda m: m.w.softmax(0),
    "quantised": lambda m: (m.w * 64).round().div_(64),
    "straight through": lambda m: m.w + (m.w.sign() * m.w.abs().mean() - m.w).detach(),
    "fake quantised": lambda m: torch.fake_quantize_per_tensor_affine(m.w, 1 / 128, 0, -128, 127),
    "to": lambda m: m.w.to(torch.float64).to(torch.float32),
    "random": lambda m: m.w + torch.empty(4, 3).uniform_(0.1, 0.2),
    "list of rows": lambda m: torch.stack([m.w[i] * 2 for i in range(4)]),
    "no_grad": lambda m: _without_gradient(m.w),
    "einsum of weights": lambda m: torch.einsum("ij,jk->ik", m.square, m.w),
    "Toeplitz": lambda m: m.scale.repeat(2).unfold(0, 3, 1)[:4],
    "index_select": lambda m: m.square.index_select(1, torch.tensor([0, 2, 3])),
    "gather": lambda m: m.w.gather(0, torch.tensor([[3, 2, 1]] * 4)),
    "matrix power": lambda m: torch.matrix_exp(m.square)[:, :3],
}


def _assigned(w: Tensor) -> Tensor:
    made = torch.zeros(4, 3)
    made[:] = 1.0
    made[:, 0] = w[:, 0]
    made[:, 1:] = w[:, 1:] * 2
    return made


def _without_gradient(w: Tensor) -> Tensor:
    with torch.no_grad():
        return w * 2


@pytest.mark.parametrize("use", ["@", "linear", "einsum", "mm of a transpose"])
@pytest.mark.parametrize("how", DERIVED)
def test_what_is_made_of_weights_alone_is_a_weight(how: str, use: str) -> None:
    torch.manual_seed(0)

    def forward(m: Any, x: Tensor) -> Tensor:
        w = DERIVED[how](m)
        if use == "@":
            return x @ w
        if use == "linear":
            return F.linear(x, w.t())
        if use == "einsum":
            return torch.einsum("bi,io->bo", x, w)
        return torch.mm(w.t(), x.t())

    model = Model(
        forward,
        {
            "w": weights(),
            "square": torch.eye(4) + weights(4, 4),
            "row": weights(1, 3)[0],
            "scale": weights(1, 4)[0],
        },
    )
    monitor = sm.Monitor(model, batch_dim=0)
    for _ in range(2):
        with monitor:
            model(X)
            model(X)
    assert_weight(monitor.compute(), calls=4)


@pytest.mark.parametrize("inside", [True, False])
def test_a_weight_that_a_forward_made_once_is_a_weight_in_further_calls(inside: bool) -> None:
    """Also where it is made anew in some call, and where an activation is bound in the end."""

    def forward(m: Any, x: Tensor, make: bool) -> Tensor:
        if make:
            m.made = m.w * 2
        return x @ m.made

    model = Model(forward, {"w": weights()})
    monitor = sm.Monitor(model) if inside else sm.Monitor(model, batch_dim=0)
    calls = (True, False, False, True, False)
    with monitor:
        if inside:
            with monitor.batch(samples=SAMPLES, steps=len(calls)):
                for make in calls:
                    model(X, make)
        else:
            for make in calls:
                model(X, make)
    report = monitor.compute()
    assert {row.kind for row in report.layers.values()} == {"integer"}
    assert report.total.acs * report.samples == len(calls) * SPIKES * 3
    assert not report.uncounted


@pytest.mark.parametrize("how", ["attribute", "buffer"])
def test_a_weight_that_is_added_between_the_calls_of_a_batch_is_one(how: str) -> None:
    model = Model(lambda m, x: x @ m.w if hasattr(m, "w") else x)
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=SAMPLES, steps=3):
        model(X)
        if how == "buffer":
            model.register_buffer("w", weights())
        else:
            model.w = weights()
        model(X)
        model(X)
    assert_weight(monitor.compute(), calls=2)


MIXED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "scaled": lambda m, x: m.w * x.mean(),  # a number is no activation
    "gated": lambda m, x: m.w * x[0, :, None],
    "written": lambda m, x: _filled(m.w, x),
    "written in place": lambda m, x: m.w.clone().mul_(x[0, :, None]),
    "concatenated": lambda m, x: torch.cat((m.w[:2], x[:2, :3])),
    "out=": lambda m, x: torch.mul(m.w.data, x[0, :, None], out=torch.empty(4, 3)),
    "assigned": lambda m, x: m.w.clone().index_copy_(1, torch.tensor([0]), x[0, :, None]),
}


def _filled(w: Tensor, x: Tensor) -> Tensor:
    made = w.clone()
    made[:, 0] = x[0]
    return made


@pytest.mark.parametrize("use", ["@", "linear"])
@pytest.mark.parametrize("how", MIXED)
def test_what_is_made_of_an_activation_is_an_activation(how: str, use: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        made = MIXED[how](m, x)
        return x @ made if use == "@" else F.linear(x, made.t())

    report = measured(Model(forward, {"w": weights()}))
    if how == "scaled":
        assert_weight(report)
    else:
        assert_product(report)


# ----------------------------------------------- tensors of no slot, arguments, functional_call


@pytest.mark.parametrize("kept", ["closure", "list", "dict", "global", "dataclass"])
def test_a_parameter_that_no_module_registered_is_a_weight(kept: str) -> None:
    bare = nn.Parameter(weights())
    places = {
        "closure": lambda m: bare,
        "list": lambda m: m.many[0],
        "dict": lambda m: m.named["w"],
        "global": lambda m: HIDDEN["w"],
        "dataclass": lambda m: m.other.w,
    }
    HIDDEN["w"] = bare

    class Other:
        w = bare

    model = Model(lambda m, x: x @ places[kept](m))
    model.many, model.named, model.other = [bare], {"w": bare}, Other()
    assert_weight(measured(model, X, X), calls=2)


HIDDEN: dict[str, Tensor] = {}


def test_parameters_that_no_module_registered_are_told_apart_by_their_order() -> None:
    one, two = nn.Parameter(weights()), nn.Parameter(weights(3, 5))
    model = Model(lambda m, x: (x @ one) @ two)
    report = measured(model, X, X)
    assert [row.synapses for row in report.layers.values()] == [12, 15]
    assert [row.kind for row in report.layers.values()] == ["integer", "analog"]


@pytest.mark.parametrize("given", ["plain", "keyword", "list", "dict", "also in a slot"])
def test_an_argument_of_the_root_is_no_weight(given: str) -> None:
    other = weights()

    def forward(m: Any, x: Tensor, other: Any) -> Tensor:
        other = other[0] if isinstance(other, list) else other
        return x @ (other["w"] if isinstance(other, dict) else other)

    class Root(Model):
        def forward(self, x: Tensor, other: Any = None) -> Tensor:
            return forward(self, x, other)

    model = Root(forward, w=other) if given == "also in a slot" else Root(forward)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        if given == "keyword":
            model(X, other=other)
        else:
            model(X, {"list": [other], "dict": {"w": other}}.get(given, other))
    assert_product(monitor.compute())


@pytest.mark.parametrize("given", ["parameters", "detached", "derived", "buffers", "half of them"])
def test_functional_call_takes_plain_tensors_for_weights(given: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), Model(lambda m, x: x @ m.w, {"w": weights(3, 2)}))
    model.append(Model(lambda m, x: x @ m.w, buffers={"w": weights(2, 5)}))
    values: dict[str, Tensor] = {
        "parameters": dict(model.named_parameters()),
        "detached": {n: p.detach().clone() for n, p in model.named_parameters()},
        "derived": {n: p * 2 for n, p in model.named_parameters()},
        "buffers": {n: b + 1 for n, b in model.named_buffers()},
        "half of them": {"0.weight": weights(3, 4)},
    }[given]
    plain = measured(model)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(X)
        torch.func.functional_call(model, values, (X,))
        model(X)
    report = monitor.compute()
    assert list(report.layers) == list(plain.layers)
    assert {n: r.synapses for n, r in report.layers.items()} == {
        "0": 12,
        "1.matmul": 6,
        "2.matmul": 10,
    }
    assert [c["calls"] for c in report.counts().values()] == [3, 3, 3]
    assert report.layers["0"].synops == plain.layers["0"].synops
    assert not report.uncounted


# ----------------------------------------------------------------------------------- hooks


def _low_rank(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    down, up = module.low
    return output + (inputs[0] @ down) @ up


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "forward": lambda m: m.register_forward_hook(_low_rank),
    "forward, with kwargs": lambda m: m.register_forward_hook(
        lambda module, args, kwargs, output: _low_rank(module, args, output), with_kwargs=True
    ),
    "forward, always called": lambda m: m.register_forward_hook(_low_rank, always_call=True),
    "pre": lambda m: m.register_forward_pre_hook(
        lambda module, inputs: (_low_rank(module, inputs, inputs[0]),)
    ),
}


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("how", HOOKS)
def test_operations_in_a_hook_are_counted_if_asked_for(how: str, counted: bool) -> None:
    layer = nn.Linear(4, 4)
    layer.low = nn.ParameterList([weights(4, 2), weights(2, 4)])
    handle = HOOKS[how](layer)
    model = nn.Sequential(layer)
    monitor = sm.Monitor(model, batch_dim=0, hooks=counted)
    with monitor:
        model(X)
        model(X)
        report = monitor.compute()
        assert report.counts()["0"]["calls"] == 2
        rows = {name: row.synapses for name, row in report.layers.items() if name != "0"}
        assert sorted(rows.values()) == ([8, 8] if counted else [])
        said = [e for e in report.uncounted if "hook" in e.reason]
        assert sum(entry.calls for entry in said) == (0 if counted else 4)
        handle.remove()
        monitor.reset()
        model(X)
    assert list(monitor.compute().layers) == ["0"]
    assert monitor.compute().layers["0"].synops * SAMPLES == SPIKES * 4


def test_an_operation_in_a_hook_of_all_modules_is_none_of_the_model() -> None:
    from torch.nn.modules.module import register_module_forward_hook

    other = weights(3, 3)
    handle = register_module_forward_hook(lambda m, inputs, output: output @ other)
    try:
        report = measured(nn.Sequential(nn.Linear(4, 3)))
    finally:
        handle.remove()
    assert list(report.layers) == ["0"]
    assert {entry.reason.split(";")[0] for entry in report.uncounted} == {
        "it happens in a hook of a module"
    }


# --------------------------------------------------- weights that normalisations and pruning make

MADE: dict[str, Callable[[nn.Module], Any]] = {
    "spectral_norm, old": lambda m: spectral_norm(m, n_power_iterations=2),
    "spectral_norm, new": lambda m: parametrizations.spectral_norm(m, n_power_iterations=2),
    "weight_norm, old": lambda m: nn.utils.weight_norm(m),
    "weight_norm, new": lambda m: parametrizations.weight_norm(m),
    "orthogonal": lambda m: parametrizations.orthogonal(m),
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 3),
    "pruned twice": lambda m: (
        prune.l1_unstructured(m, "weight", 2),
        prune.random_unstructured(m, "weight", 1),
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer",
    [lambda: nn.Linear(4, 3), lambda: nn.Conv1d(4, 3, 1), lambda: nn.ConvTranspose1d(4, 3, 1)],
)
@pytest.mark.parametrize("how", MADE)
def test_what_makes_a_weight_adds_no_operation(how: str, layer: Any, training: bool) -> None:
    """Over batches, steps of one batch and attachments; effective synapses are those in use."""
    torch.manual_seed(2)
    model = nn.Sequential(layer()).train(training)
    MADE[how](model[0])
    x = X if isinstance(model[0], nn.Linear) else X[..., None]
    monitor, expected = sm.Monitor(model), 0
    for _ in range(2):
        with monitor:
            for steps in (1, 3):
                with monitor.batch(samples=SAMPLES, steps=steps):
                    for _ in range(steps):
                        model(x)
                        used = model[0].weight.detach() != 0
                        fanout = used.flatten(1).sum(1 if used.shape[0] == 4 else 0)
                        expected += int(((X != 0) * fanout[:4]).sum())
    report = monitor.compute()
    assert list(report.layers) == ["0"]
    counts = report.counts()["0"]
    assert counts["calls"] == 8
    assert counts["synops"] == 8 * SPIKES * 3
    assert report.layers["0"].effective_synops * report.samples == expected
    assert not report.uncounted


# --------------------------------------------------------- fixed matrices of neurons, in buffers


def lateral(base: type[nn.Module], *args: Any, **kwargs: Any) -> type[nn.Module]:
    """A subclass of neurons with fixed weights among them, in a buffer."""

    class Lateral(base):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            super().__init__(*args, **kwargs)
            self.register_buffer("matrix", 1 - torch.eye(4))

        def forward(self, x: Tensor, *state: Any) -> Any:
            return super().forward(x @ self.matrix, *state)

    return Lateral


class Threshold(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 1).float()


class Recurrent(nn.Module):
    """Registered neurons with a fixed matrix in a buffer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", 1 - torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.matrix > 1).float()


sm.register_neuron(Threshold, lead="B")
sm.register_neuron(Recurrent, lead="B")


@pytest.mark.parametrize("which", ["snntorch", "registered", "subclass of registered"])
def test_a_fixed_matrix_in_a_buffer_of_neurons_is_counted(which: str) -> None:
    """Beside the row of the neurons; every synapse but the diagonal is effective."""
    if which == "snntorch":
        snn = pytest.importorskip("snntorch")
        neurons = lateral(snn.Leaky, beta=0.5)()
        model = Model(lambda m, x: m.n(x, m.n.init_leaky())[0])
    else:
        neurons = Recurrent() if which == "registered" else lateral(Threshold)()
        model = Model(lambda m, x: m.n(x))
    model.n = neurons
    report = measured(model, X, X)
    (row,) = report.layers.values()
    assert row.name == "n.matmul"
    assert row.synops * report.samples == 2 * SPIKES * 4
    assert row.effective_synops * report.samples == 2 * EVENTS * 3
    emitted = model(X).sum()
    assert report.neurons["n"].spikes * report.samples == 2 * int(emitted)
    assert not report.uncounted


def test_a_copy_of_a_model_has_weights_of_its_own() -> None:
    model = Model(lambda m, x: x @ m.w, buffers={"w": weights()})
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(X)
        twin = copy.deepcopy(model)
        twin(X)
        model.w = twin.w
        model(X)
    assert_weight(monitor.compute(), calls=2)
