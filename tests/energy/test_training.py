"""Training steps against PyTorch's FlopCounterMode, explicit loops and optimizers of PyTorch."""

from __future__ import annotations

import csv
import io
import itertools
import math
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import snnmetrics as sm
from snnmetrics.energy import OptimizerUpdate, TrainingCost, Workload, energy_of, training_cost
from snnmetrics.energy.training import OPERATIONS, OPTIMIZERS
from snnmetrics.report import Report
from tests.energy.made import close, layer, neurons, report
from tests.helpers.toy import Surrogate

FP32 = "horowitz-45nm-fp32"


def flops(model: nn.Module, x: Tensor) -> int:
    """FLOPs of a forward and backward pass, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return counter.get_total_flops()


def dense(work: Workload) -> float:
    return sum(row.dense_synops for row in work.layers.values())


class Always(Surrogate):
    """Neurons that fire at every input, so that no later layer has an input of zero."""

    def __init__(self) -> None:
        super().__init__(threshold=-math.inf)


def mlp(fire: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    layers = (nn.Linear(7, 6), fire(), nn.Linear(6, 5), fire(), nn.Linear(5, 3))
    return nn.Sequential(*layers), torch.rand(4, 7) + 0.1


def cnn(fire: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    layers = (
        nn.Conv2d(2, 4, 3, padding=1),
        fire(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        fire(),
        nn.ConvTranspose2d(6, 2, 3, stride=2, padding=1),
        fire(),
        nn.Flatten(),
        nn.Linear(2 * 7 * 7, 3),
    )
    return nn.Sequential(*layers), torch.rand(3, 2, 8, 8) + 0.1


class Unrolled(nn.Module):
    """Spiking neurons in a loop over time, called once per batch: ``(T, B, inputs)``."""

    def __init__(self, fire: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc1, self.fire, self.fc2 = nn.Linear(7, 6), fire(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        potential, out = torch.zeros(x.shape[1], 6), torch.zeros(x.shape[1], 3)
        for step in x:
            potential = 0.9 * potential + self.fc1(step)
            spikes = self.fire(potential)
            potential = potential - spikes
            out = out + self.fc2(spikes)
        return out


def unrolled(fire: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    return Unrolled(fire), torch.rand(5, 4, 7) + 0.1


Made = Callable[[Callable[[], nn.Module]], tuple[nn.Module, Tensor]]
MODELS: dict[str, Made] = {"mlp": mlp, "cnn": cnn, "unrolled": unrolled}


def measured(model: nn.Module, x: Tensor, name: str) -> Report:
    dims = {"batch_dim": 1, "time_dim": 0} if name == "unrolled" else {"batch_dim": 0}
    return sm.Monitor(model, **dims).run([x])


# ------------------------------------------------------------------ PyTorch's counter, dense inputs


@pytest.mark.parametrize("name", MODELS)
def test_dense_inputs_take_the_flops_that_pytorch_counts(name: str) -> None:
    model, x = MODELS[name](Always)
    made = measured(model, x, name)
    cost = training_cost(made, padded_taps=True)
    assert 2 * (cost.acs + cost.macs) * made.samples == flops(model, x)
    assert cost.acs > 0  # what enters later layers are spikes
    assert cost.macs > 0


@pytest.mark.parametrize("name", MODELS)
def test_dense_synops_of_sparse_inputs_are_the_flops_that_pytorch_counts(name: str) -> None:
    model, x = MODELS[name](Surrogate)
    made = measured(model, x, name)
    cost = training_cost(made, padded_taps=True)
    assert 2 * dense(cost.workload) * made.samples == flops(model, x)
    assert cost.acs + cost.macs < dense(cost.workload)


def test_pytorch_takes_weight_gradients_of_groups_for_those_of_a_whole_convolution() -> None:
    """Of the forward pass it knows groups; the loops below show that the gradient has them, too."""
    conv, x = nn.Conv2d(4, 6, 3, padding=1, groups=2), torch.rand(3, 4, 5, 5) + 0.1
    made = measured(conv, x, "cnn")
    cost = training_cost(made, padded_taps=True)
    more = 2 * made.layers["Conv2d"].dense_macs * 3  # as much again for the second group
    assert 2 * cost.macs * 3 + more == flops(conv, x)


def test_without_padded_taps_a_network_with_padding_takes_fewer() -> None:
    model, x = cnn(Always)
    made = measured(model, x, "cnn")
    exact, padded = training_cost(made), training_cost(made, padded_taps=True)
    for name, row in made.layers.items():
        padding = row.dense_macs - row.dense_synops
        of_exact, of_padded = exact.layers[name], padded.layers[name]
        pairs = [(of_exact.forward, of_padded.forward)]
        pairs += zip(of_exact.backward, of_padded.backward, strict=True)
        for one, other in pairs:
            assert other.acs + other.macs - one.acs - one.macs == close(padding)
            assert other.dense_synops - one.dense_synops == close(padding)
    assert exact.forward.layers == sm.energy.workload_of(made).layers
    assert exact.forward.notes == ("taps on padding do not count",)


@pytest.mark.parametrize("frozen", [["0"], ["0", "2"], ["2"], ["4"], ["[24]"]])
def test_frozen_layers_take_the_flops_that_pytorch_counts(frozen: list[str]) -> None:
    model, x = mlp(Always)
    made = measured(model, x, "mlp")
    cost = training_cost(made, frozen=frozen)
    for name in frozen[0].strip("[]") if frozen == ["[24]"] else frozen:
        model.get_submodule(name).requires_grad_(False)
        assert cost.layers[name].weight_gradient is None
    assert 2 * (cost.acs + cost.macs) * made.samples == flops(model, x)


def test_layers_that_take_the_input_beside_each_other_are_named() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.out = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            both: Tensor = self.out(self.left(x) + self.right(x))
            return both

    model, x = Branches(), torch.rand(5, 4)
    made = measured(model, x, "mlp")
    cost = training_cost(made, without_input_gradient=["left", "right"])
    assert 2 * cost.macs * made.samples == flops(model, x)
    assert any(note.endswith("precedes: left, right") for note in cost.notes)
    inferred = training_cost(made)  # calls do not tell what feeds what
    assert inferred.macs - cost.macs == 12


def test_a_recurrent_cell_has_two_layers_and_one_gradient_too_many_to_its_initial_state() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.LSTMCell(5, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = (torch.full((x.shape[1], 7), 0.5), torch.zeros(x.shape[1], 7))
            for step in x:
                state = self.cell(step, state)
            out: Tensor = self.out(state[0])
            return out

    model, x = Cell(), torch.rand(4, 2, 5) + 0.1
    made = measured(model, x, "unrolled")
    cost = training_cost(made)
    assert list(cost.layers) == ["cell.ih", "cell.hh", "out"]
    assert cost.layers["cell.ih"].input_gradient is None
    to_initial_state = 4 * 7 * 7  # per sample, of one step: said in the notes
    assert 2 * (cost.macs - to_initial_state) * 2 == flops(model, x)
    assert any("including the gradient of the initial state" in note for note in cost.notes)


def test_a_product_of_two_activations_has_two_input_gradients() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(5, 4), nn.Linear(5, 4)
            self.fire = Surrogate()

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.fire(self.query(x)) @ self.key(x).transpose(-1, -2)
            return scores

    model, x = Product(), torch.rand(2, 6, 5) + 0.1
    made = measured(model, x, "mlp")
    cost = training_cost(made, without_input_gradient=["query", "key"])
    product = cost.layers["Product.matmul"]
    assert product.weight_gradient is None
    assert product.input_gradient is not None
    assert product.input_gradient.macs == 2 * 6 * 6 * 4
    assert 2 * dense(cost.workload) * 2 == flops(model, x)
    assert any(note.startswith("product of two activations") for note in cost.notes)


@pytest.mark.filterwarnings("ignore")
def test_dense_operations_are_those_of_neuromc_layer_by_layer() -> None:
    """SpikingJelly's NeuroMC computes every tap of every pass, whatever the inputs are."""
    neuromc = pytest.importorskip("spikingjelly.activation_based.op_counter.neuromc")
    conv = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        Surrogate(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        Surrogate(),
        nn.Flatten(),
        nn.Linear(96, 3),
    )
    for model, x in ((mlp(Surrogate)[0], torch.rand(4, 7)), (conv, torch.rand(3, 2, 8, 8))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        theirs = neuromc.estimate_neuromc_runtime_energy(
            model, x, target=x, loss_fn=lambda out, _: out.sum(), optimizer=optimizer
        )
        made = measured(model, x, "mlp")
        cost = training_cost(made, optimizer="sgd", batch_size=len(x), padded_taps=True)
        found: dict[str, list[float]] = {"forward": [], "grad_weight": [], "grad_input": []}
        for fragment in theirs.mapping_summary:
            if fragment["source"] == "module" and fragment["mac_count"]:
                found[fragment["op_name"].rpartition(".")[2]].append(fragment["mac_count"])
        layers = list(cost.layers.values())
        works = {
            "forward": [one.forward for one in layers],
            "grad_weight": [one.weight_gradient for one in reversed(layers)],
            "grad_input": [one.input_gradient for one in reversed(layers)],
        }
        for name, of_layers in works.items():
            ours = [work.dense_synops * len(x) for work in of_layers if work is not None]
            assert found[name] == ours
        update, by_stage = cost.update, theirs.primitive_counts["by_stage"]["optimizer"]
        assert update is not None
        assert by_stage["add"] == update.additions * len(x)
        assert by_stage["mul"] == update.multiplications * len(x)
        # What differs: they count gradients of linear layers once more, from ATen operations; and
        # Adam, below.
        again = sum(
            fragment["mac_count"]
            for fragment in theirs.mapping_summary
            if fragment["op_name"] == "aten.mm.default"
        )
        linear = [
            work.dense_synops * len(x)
            for one in layers
            if made.layers[one.name].operation == "linear"
            for work in one.backward
        ]
        assert again == sum(linear)
        assert theirs.primitive_counts["totals"]["mac"] == dense(cost.workload) * len(x) + again
        by_adam = neuromc.estimate_neuromc_runtime_energy(
            model,
            x,
            target=x,
            loss_fn=lambda out, _: out.sum(),
            optimizer=torch.optim.Adam(model.parameters()),
        ).primitive_counts["by_stage"]["optimizer"]
        adam_here = training_cost(made, optimizer="adam", batch_size=len(x)).update
        assert adam_here is not None
        assert by_adam["mul"] > adam_here.multiplications * len(x)
        assert set(by_adam) == {"mux", "add", "mul", "comp", "sqrt"}  # no division


# --------------------------------------------------------------------- loops over nonzero products


def linear_products(x: Tensor, grad: Tensor) -> tuple[int, Tensor]:
    """Products x_i g_j of nonzero inputs, one by one, and their sum."""
    count, total = 0, torch.zeros(grad.shape[1], x.shape[1])
    for vector, g in zip(x, grad, strict=True):
        for i, j in itertools.product(range(len(vector)), range(len(g))):
            if vector[i] != 0:
                count += 1
                total[j, i] += g[j] * vector[i]
    return count, total


@pytest.mark.parametrize("weights_of_zero", [False, True])
def test_weight_gradients_of_a_linear_layer_are_products_of_nonzero_inputs(
    weights_of_zero: bool,
) -> None:
    fc = nn.Linear(6, 4, bias=False)
    if weights_of_zero:
        with torch.no_grad():
            fc.weight[:, ::2] = 0  # their gradient is needed all the same
    x = (torch.rand(5, 6) < 0.4).float()
    grad = torch.randn(5, 4)
    fc(x).backward(grad)
    count, total = linear_products(x, grad)
    assert torch.allclose(fc.weight.grad, total, atol=1e-6)  # type: ignore[arg-type]
    work = training_cost(measured(fc, x, "mlp")).layers["Linear"].weight_gradient
    assert work is not None
    assert (work.acs * 5, work.macs, work.kind) == (count, 0, "binary")


def convolution_products(
    conv: nn.Conv2d, x: Tensor, grad: Tensor
) -> tuple[int, int, Tensor, Tensor]:
    """Products for the gradients of weight and input, one by one, and the gradients.

    For the weight those of nonzero inputs, for the input all: at taps inside of the map.
    """
    of_weight = of_input = 0
    weight_grad, input_grad = torch.zeros_like(conv.weight), torch.zeros_like(x)
    size = conv.in_channels // conv.groups
    per_group = conv.out_channels // conv.groups
    for b, o, row, column in itertools.product(*map(range, grad.shape)):
        for c, u, v in itertools.product(range(size), *map(range, conv.kernel_size)):
            i = row * conv.stride[0] + u * conv.dilation[0] - int(conv.padding[0])
            j = column * conv.stride[1] + v * conv.dilation[1] - int(conv.padding[1])
            channel = o // per_group * size + c
            if not (0 <= i < x.shape[2] and 0 <= j < x.shape[3]):
                continue
            of_input += 1
            input_grad[b, channel, i, j] += grad[b, o, row, column] * conv.weight[o, c, u, v]
            if x[b, channel, i, j] != 0:
                of_weight += 1
                weight_grad[o, c, u, v] += grad[b, o, row, column] * x[b, channel, i, j]
    return of_weight, of_input, weight_grad, input_grad


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
        {"kernel_size": (2, 3), "dilation": 2},
    ],
)
@torch.no_grad()
def test_gradients_of_a_convolution_are_products_inside_of_the_map(geometry: Any) -> None:
    conv = nn.Conv2d(2, 4, bias=False, **geometry)
    x = (torch.rand(2, 2, 6, 5) < 0.3).float()
    with torch.enable_grad():
        x.requires_grad_()
        out = conv(x)
        grad = torch.randn_like(out)
        out.backward(grad)
    of_weight, of_input, weight_grad, input_grad = convolution_products(conv, x, grad)
    assert torch.allclose(conv.weight.grad, weight_grad, atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(x.grad, input_grad, atol=1e-5)  # type: ignore[arg-type]
    made = measured(conv, x.detach(), "cnn")
    cost = training_cost(made, without_input_gradient=[]).layers["Conv2d"]
    assert cost.weight_gradient is not None
    assert cost.input_gradient is not None
    assert (cost.weight_gradient.acs * 2, cost.weight_gradient.macs) == (of_weight, 0)
    assert (cost.input_gradient.macs * 2, cost.input_gradient.acs) == (of_input, 0)


def test_the_kind_of_input_decides_the_operation_of_the_weight_gradient() -> None:
    x = torch.tensor([[0.0, 2.0, 0.0, 1.0]])
    model = nn.Linear(4, 3)
    for rule, found in (("acs", (9, 0)), ("macs", (0, 6))):  # 3 spikes or 2 events, 3 synapses
        made = sm.Monitor(model, batch_dim=0, integer_as=rule).run([x])
        work = training_cost(made).layers["Linear"].weight_gradient
        assert work is not None
        assert (work.acs, work.macs) == found
    for values, found in ((-x.sign(), (6, 0)), (x / 3, (0, 6))):
        work = training_cost(measured(model, values, "mlp")).layers["Linear"].weight_gradient
        assert work is not None
        assert (work.acs, work.macs) == found


# --------------------------------------------------------------------------------------- the update


class Counted:
    """A number that counts what is done with it."""

    made: ClassVar[Counter[str]] = Counter()

    def __init__(self, value: float) -> None:
        self.value = value

    def _of(self, kind: str, value: float) -> Counted:
        Counted.made[kind] += 1
        return Counted(value)

    def __add__(self, other: Any) -> Counted:
        return self._of("additions", self.value + number(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Counted:
        return self._of("additions", self.value - number(other))

    def __mul__(self, other: Any) -> Counted:
        return self._of("multiplications", self.value * number(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Counted:
        return self._of("divisions", self.value / number(other))

    def sqrt(self) -> Counted:
        return self._of("square_roots", math.sqrt(self.value))


def number(x: Any) -> float:
    return x.value if isinstance(x, Counted) else float(x)


LR, MU, B1, B2, EPS, DECAY = 0.1, 0.9, 0.8, 0.99, 1e-3, 0.05


def sgd(w: Any, g: Any, state: dict[str, Any], step: int) -> Any:
    return w - LR * g


def momentum(w: Any, g: Any, state: dict[str, Any], step: int) -> Any:
    state["b"] = MU * state.get("b", Counted(0.0)) + g
    return w - LR * state["b"]


def adam(w: Any, g: Any, state: dict[str, Any], step: int) -> Any:
    # Made of constants, once for all parameters.
    rate = LR * math.sqrt(1 - B2**step) / (1 - B1**step)
    eps, rest1, rest2 = EPS * math.sqrt(1 - B2**step), 1 - B1, 1 - B2
    state["m"] = B1 * state.get("m", Counted(0.0)) + rest1 * g
    state["v"] = B2 * state.get("v", Counted(0.0)) + rest2 * (g * g)
    return w - rate * state["m"] / (state["v"].sqrt() + eps)


def adamw(w: Any, g: Any, state: dict[str, Any], step: int) -> Any:
    return adam((1 - LR * DECAY) * w, g, state, step)


EQUATIONS = {
    "sgd": (sgd, lambda p: torch.optim.SGD(p, lr=LR)),
    "momentum": (momentum, lambda p: torch.optim.SGD(p, lr=LR, momentum=MU)),
    "adam": (adam, lambda p: torch.optim.Adam(p, lr=LR, betas=(B1, B2), eps=EPS)),
    "adamw": (
        adamw,
        lambda p: torch.optim.AdamW(p, lr=LR, betas=(B1, B2), eps=EPS, weight_decay=DECAY),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_takes_the_operations_of_an_equation_that_does_what_pytorch_does(
    name: str,
) -> None:
    equation, optimizer = EQUATIONS[name]
    parameter = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    theirs, ours, state = optimizer([parameter]), Counted(0.7), {}
    for step, gradient in enumerate((0.3, -1.2, 0.5, 2.0), 1):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        theirs.step()
        Counted.made.clear()
        ours = equation(ours, Counted(gradient), state, step)
        assert ours.value == pytest.approx(parameter.item(), rel=1e-12)
        assert Counted.made == Counter(
            {k: n for k in OPERATIONS if (n := getattr(OPTIMIZERS[name], k))}
        )


def test_an_update_is_once_per_step_and_of_all_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), Surrogate(), nn.Linear(3, 2))
    made = measured(model, torch.rand(6, 4), "mlp")
    count = sum(p.numel() for p in model.parameters())
    update = training_cost(made, optimizer="adam", batch_size=8).update
    assert update is not None
    assert (update.parameters, update.batch_size) == (count, 8)
    assert (update.additions, update.multiplications) == (4 * count / 8, 6 * count / 8)
    assert (update.divisions, update.square_roots) == (count / 8, count / 8)
    model[0].requires_grad_(False)
    left = sum(p.numel() for p in model.parameters() if p.requires_grad)
    some = training_cost(made, optimizer="sgd", batch_size=8, frozen=["0"], parameters=left).update
    assert some is not None
    assert some.additions == left / 8
    own = OptimizerUpdate("ours", additions=3, multiplications=0, equation="w - sign(g)")
    cost = training_cost(made, optimizer=own, batch_size=1)
    assert cost.update is not None
    assert cost.update.additions == 3 * count
    assert "update by ours: 3 additions per parameter: w - sign(g)" in cost.notes
    assert training_cost(made).update is None


# ------------------------------------------------------------------------------------------ results


def by_hand(**changes: Any) -> Report:
    """An image of 1000 MACs, then 500 ACs of 4000 synapses; zeros in a tenth of the weights."""
    layers = {
        "conv": layer("analog", 900, dense=1000, padded=1200),
        "fc": layer("binary", 450, dense=4000, synops=500),
    }
    seen = {"lif": neurons(80, 10, arithmetic=(3, 1))}
    return report(layers, **({"neurons_data": seen, "parameters": 100} | changes))


def test_a_training_step_is_priced_as_any_workload() -> None:
    cost = training_cost(by_hand(), optimizer="sgd", batch_size=10)
    ac, mac = 0.9e-12, 4.6e-12
    forward, backward = (sm.estimate_energy(one, FP32) for one in (cost.forward, cost.backward))
    assert forward.total.energy == close(sm.estimate_energy(by_hand(), FP32).total.energy)
    assert backward.total.energy == close(900 * mac + 500 * ac + 4000 * mac)
    assert backward.layers["fc: weight gradient"].energy == close(500 * ac)
    whole = sm.estimate_energy(cost.workload, FP32, neuron_operations=True)
    of_neurons = 80 * 3 * 0.9e-12 + 80 * 3.7e-12
    assert whole.total.energy == close(forward.total.energy + backward.total.energy + of_neurons)
    assert whole.workload.model == "a training step of Net"
    assert any(
        "energies of the passes do not include the update" in note for note in whole.footnotes
    )
    update = cost.update
    assert update is not None
    priced = energy_of(
        additions=update.additions, multiplications=update.multiplications, profile=FP32
    )
    assert priced.total == close(100 * (0.9e-12 + 3.7e-12) / 10)


def test_what_a_chip_has_no_price_for_is_left_out_and_named() -> None:
    estimate = sm.estimate_energy(training_cost(by_hand()).backward, "loihi")
    assert [line.partition(",")[0] for line in estimate.left_out] == [
        "conv: weight gradient: 900 MACs",
        "fc: weight gradient: 500 ACs",
        "fc: input gradient: 4 k MACs",
    ]
    computed = sm.estimate_energy(training_cost(by_hand()).workload, "gpu-titan-black")
    of_updates = 80 * 3e-10
    assert computed.total.energy == close((2 * 1000 + 3 * 4000) * 3e-10 + of_updates)


def test_what_is_printed_and_exported() -> None:
    cost = training_cost(by_hand(), optimizer="adam", batch_size=10)
    lines = str(cost).splitlines()
    assert lines[:2] == [
        "snnmetrics operations of a training step of Net",
        "figures are per sample",
    ]
    rows = {cells[0]: cells[1:] for cells in (line.split() for line in lines) if cells}
    assert rows["conv"] == ["analog", "0", "900", "0", "900", "-"]
    assert rows["fc"] == ["binary", "450", "0", "500", "0", "4", "k"]
    assert rows["total"] == ["450", "900", "500", "900", "4", "k"]
    assert rows["adam"] == ["100", "10", "40", "60", "10", "10"]
    one, two = csv.DictReader(io.StringIO(cost.to_csv()))
    assert (one["name"], one["input_gradient_macs"]) == ("conv", "")
    assert (two["weight_gradient_acs"], two["input_gradient_macs"]) == ("500.0", "4000.0")
    (update,) = csv.DictReader(io.StringIO(cost.to_csv("update")))
    assert update["square_roots"] == "10.0"
    assert training_cost(by_hand()).to_csv("update").count("\n") == 1
    assert pickle.loads(pickle.dumps(cost)) == cost
    assert repr(cost) == "TrainingCost(model='Net', acs=950, macs=5800)"
    notes = cost.notes
    assert "no input gradient, since no trained layer precedes: conv" in notes
    assert "taps on padding do not count" in notes
    assert any("Kingma and Ba" in note for note in notes)
    left_out = "the update of the parameters is left out, since no optimizer is given"
    assert left_out in training_cost(by_hand()).notes
    assert any("surrogate gradient" in note for note in notes)


def test_what_the_report_could_not_count_is_said() -> None:
    lost = sm.report.Uncounted("rnn", "bilinear", "a contraction of three operands", 1)
    cost: TrainingCost = training_cost(by_hand(uncounted=(lost,)))
    assert any("bilinear" in note for note in cost.notes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"report": 3}, TypeError, "report: expected a Report, found int"),
        ({"report": by_hand(samples=0)}, ValueError, "report: expected samples, found none"),
        ({"optimizer": "lion", "batch_size": 1}, ValueError, "optimizer: expected one of sgd, mo"),
        ({"optimizer": 3, "batch_size": 1}, TypeError, "optimizer: expected a name, .*found int"),
        ({"optimizer": "sgd"}, ValueError, "batch_size: expected the samples of a training step"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer >= 1, found 0"),
        ({"batch_size": 1.5}, TypeError, "batch_size: expected an integer, found 1.5"),
        ({"parameters": 0}, ValueError, "parameters: expected an integer >= 1, found 0"),
        (
            {"optimizer": "sgd", "batch_size": 1, "frozen": ["fc"]},
            ValueError,
            "parameters: expected the number of .*, since layers are frozen, found None",
        ),
        (
            {"report": by_hand(parameters=0), "optimizer": "sgd", "batch_size": 1},
            ValueError,
            "parameters: expected .*, since the report has no number of parameters, found None",
        ),
        ({"frozen": "fc"}, TypeError, "frozen: expected a collection of names, found the string"),
        ({"frozen": ["x"]}, ValueError, "frozen: expected names or patterns of conv, fc, found 'x"),
        ({"frozen": ["*"]}, ValueError, "frozen: expected at least one trained layer, found all"),
        ({"without_input_gradient": 3}, TypeError, "without_input_gradient: expected a collectio"),
        ({"without_input_gradient": ["x"]}, ValueError, "without_input_gradient: .*found 'x'"),
        ({"padded_taps": 1}, TypeError, "padded_taps: expected True or False, found 1"),
    ],
)
def test_errors_name_the_argument(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    values = {"report": by_hand()} | arguments
    with pytest.raises(error, match=f"^{message}"):
        training_cost(values.pop("report"), **values)


def test_operations_of_an_update_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match=r"additions: expected an integer, found 1\.5"):
        OptimizerUpdate("x", 1.5, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="divisions: expected an integer >= 0, found -1"):
        OptimizerUpdate("x", 1, 1, -1)
