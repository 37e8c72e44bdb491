"""Our figures beside those of NeuroBench 2.3, which runs here on the same models and inputs.

Where the definitions coincide, the figures are equal. Where they do not, both are stated: ours is
checked by brute force, theirs follows from the rule that the docstring of the test names.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import snnmetrics as sm
from tests.helpers.brute_force import Truth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import snntorch as snn
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics import static, workload
    from neurobench.models import SNNTorchModel, TorchModel
    from snntorch import utils

METRICS = [
    [static.Footprint, static.ParameterCount, static.ConnectionSparsity],
    [workload.ActivationSparsity, workload.MembraneUpdates, workload.SynapticOperations],
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of snnTorch: resetting one resets all neurons of a process; here, those of the test alone."""
    monkeypatch.setattr(snn.SpikingNeuron, "instances", [])


class Batches(list[tuple[Tensor, Tensor]]):
    """What NeuroBench takes from a loader: batches, and how many samples they hold together."""

    @property
    def dataset(self) -> list[Tensor]:
        return [sample for x, _ in self for sample in x]


def is_spiking(model: nn.Module) -> bool:
    return any(isinstance(module, snn.SpikingNeuron) for module in model.modules())


def of_neurobench(model: nn.Module, *batches: Tensor, failing: str = "") -> dict[str, Any]:
    """All its figures; static ones are taken before the first batch.

    It catches what goes wrong in a metric, prints it and goes on with zero or None: only the metric
    named ``failing`` may.
    """
    loader = Batches((x, torch.zeros(len(x))) for x in batches)
    wrapped = SNNTorchModel(model) if is_spiking(model) else TorchModel(model)
    benchmark = Benchmark(wrapped, loader, [], [], METRICS)
    printed = io.StringIO()
    silent = contextlib.redirect_stderr(io.StringIO())  # a progress bar
    with silent, contextlib.redirect_stdout(printed), torch.no_grad():
        figures = benchmark.run()
    benchmark.workload_metric_manager.cleanup_hooks(wrapped)
    errors = [line for line in printed.getvalue().splitlines() if "Error" in line]
    assert all(failing and f"'{failing}'" in error for error in errors), errors
    assert bool(errors) == bool(failing)
    return figures


def call(model: nn.Module, x: Tensor) -> None:
    """One batch as NeuroBench feeds it: to a spiking model step by step, from a fresh state."""
    if not is_spiking(model):
        model(x)
        return
    utils.reset(model)
    for step in range(x.shape[1]):
        model(x[:, step])


def synaptic_operations(model: nn.Module, *batches: Tensor, **arguments: Any) -> dict[str, float]:
    """Ours, by the names of NeuroBench."""
    monitor = sm.Monitor(model, **arguments)
    with monitor, torch.no_grad():
        for x in batches:
            with monitor.batch(samples=len(x)):
                call(model, x)
    total = monitor.compute().total
    return {
        "Effective_MACs": total.macs,
        "Effective_ACs": total.acs,
        "Dense": total.dense_synops,
    }


def brute_force(model: nn.Module, *batches: Tensor, integer_as: str = "acs") -> dict[str, float]:
    """The same by unit vectors and loops, per sample."""
    truth = Truth(model)
    with truth, torch.no_grad():
        for x in batches:
            call(model, x)
    rows: list[Any] = [row.counts(integer_as) for row in truth.layers().values()]
    samples = sum(map(len, batches))
    figures = {"Effective_MACs": "macs", "Effective_ACs": "acs", "Dense": "dense_synops"}
    return {theirs: sum(row[our] for row in rows) / samples for theirs, our in figures.items()}


def activity(model: nn.Module, *batches: Tensor) -> dict[str, float]:
    """Ours, by the names of NeuroBench; one MembraneUpdates per layer, since shapes differ."""
    sparsity = sm.ActivationSparsity()
    layers = [m for m in model.modules() if isinstance(m, snn.SpikingNeuron | nn.ReLU)]
    updates = {layer: sm.MembraneUpdates(time_dim=0) for layer in layers}
    potentials: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def after(layer: nn.Module, _: Any, output: Any) -> None:
        sparsity.update(output[0] if isinstance(output, tuple) else output)
        if isinstance(layer, snn.SpikingNeuron):
            potentials[layer].append(layer.mem.clone())

    handles = [layer.register_forward_hook(after) for layer in layers]
    with torch.no_grad():
        for x in batches:
            call(model, x)
            for layer, seen in potentials.items():
                if seen:
                    updates[layer].update(torch.stack(seen))
                    seen.clear()
    for handle in handles:
        handle.remove()
    changes = sum(m.compute().item() for m in updates.values() if m.update_called)
    return {"ActivationSparsity": sparsity.compute().item(), "MembraneUpdates": changes}


# ------------------------------------------------------------------------- models


def leaky(**arguments: Any) -> nn.Module:
    return snn.Leaky(beta=0.5, init_hidden=True, **arguments)


def with_some_zeros(model: nn.Module) -> nn.Module:
    """Weights that let every layer spike, about a third of them zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3 * (torch.rand_like(parameter) > 0.3))
    return model.eval()


def linear_snn() -> nn.Module:
    """Speech Commands of its examples, small."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(6, 9), leaky(), nn.Linear(9, 8), leaky()),
        *(nn.Linear(8, 5), leaky(output=True)),
    )


def conv_snn() -> nn.Module:
    """DVS Gesture of its examples, small: padding, pooling, a stride and groups."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding="same"), nn.MaxPool2d(2), leaky()),
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), leaky()),
        *(nn.Flatten(), nn.Linear(24, 5), nn.Dropout(), leaky(output=True)),
    )


def relu_network() -> nn.Module:
    """M5 of its examples, small."""
    return nn.Sequential(
        *(nn.Conv1d(1, 3, 5, 2, bias=False), nn.BatchNorm1d(3), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)),
    )


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.5).float()


def ternary(*shape: int) -> Tensor:
    return torch.randint(-1, 2, shape).float()


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor], tuple[int, ...], str]] = {
    "linear-binary": (linear_snn, spikes, (5, 6), "acs"),
    "linear-ternary": (linear_snn, ternary, (5, 6), "acs"),
    "linear-analog": (linear_snn, torch.randn, (5, 6), "both"),
    "conv": (conv_snn, spikes, (4, 2, 8, 8), "acs"),
    "relu": (relu_network, torch.randn, (1, 20), "macs"),
}
every_model = pytest.mark.parametrize("name", MODELS)

# ------------------------------------------------------------- where they coincide


def made(name: str) -> tuple[nn.Module, list[Tensor], str]:
    """A model, batches of 8, 8 and 3 samples, and which operations it has."""
    build, inputs, shape, operations = MODELS[name]
    return with_some_zeros(build()), [inputs(n, *shape) for n in (8, 8, 3)], operations


@every_model
def test_synaptic_operations(name: str) -> None:
    """``Dense`` leaves padded taps out, as our ``dense_synops`` do."""
    model, batches, operations = made(name)
    ours = synaptic_operations(model, *batches)
    assert ours == of_neurobench(model, *batches)["SynapticOperations"]
    assert ours == brute_force(model, *batches)
    assert (ours["Effective_ACs"] > 0) == (operations != "macs")
    assert (ours["Effective_MACs"] > 0) == (operations != "acs")


@every_model
def test_activity(name: str) -> None:
    model, batches, _ = made(name)
    ours, theirs = activity(model, *batches), of_neurobench(model, *batches)
    # It adds up means over batches, weighted by samples: rounding apart, all samples being alike.
    assert ours["ActivationSparsity"] == pytest.approx(theirs["ActivationSparsity"], rel=1e-15)
    assert ours["MembraneUpdates"] == theirs["MembraneUpdates"]
    assert 0.2 < ours["ActivationSparsity"] < 0.99
    assert (ours["MembraneUpdates"] > 0) == is_spiking(model)


@every_model
def test_static_figures(name: str) -> None:
    model, batches, _ = made(name)
    ours = (sm.footprint(model), sm.parameter_count(model), sm.connection_sparsity(model))
    theirs = of_neurobench(model, *batches)
    assert ours[:2] == (theirs["Footprint"], theirs["ParameterCount"])
    assert round(ours[2], 4) == theirs["ConnectionSparsity"]
    assert 0.1 < ours[2] < 0.6


def test_potentials_that_stay() -> None:
    """Inputs and decay that are exact in binary, and neurons that get none."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), leaky(output=True))
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor([0.0, 0.0, 0.5, 1.0])))
    x = spikes(6, 5, 4)
    theirs = of_neurobench(model, x)["MembraneUpdates"]
    assert activity(model, x)["MembraneUpdates"] == theirs
    assert 4 < theirs <= 4 + 2 * 4  # all at first, then at most the third and the fourth


# ------------------------------------------------------------------ where they differ


def test_one_kind_of_operation_per_layer_or_per_call() -> None:
    """A layer that gets analog input once is one of MACs, in all its calls.

    NeuroBench decides at each call: a batch that happens to hold 0, 1 and -1 alone is one of ACs.
    The sum is the same.
    """
    model = with_some_zeros(nn.Sequential(nn.Linear(4, 3)))
    analog, binary = torch.randn(5, 4), spikes(5, 4)
    ours = synaptic_operations(model, analog, binary)
    theirs = of_neurobench(model, analog, binary)["SynapticOperations"]
    of_binary = brute_force(model, binary)["Effective_ACs"] / 2  # one batch of two
    of_analog = brute_force(model, analog)["Effective_MACs"] / 2
    assert of_binary > 0
    assert (ours["Effective_ACs"], ours["Effective_MACs"]) == (0, of_binary + of_analog)
    assert (theirs["Effective_ACs"], theirs["Effective_MACs"]) == (of_binary, of_analog)
    assert ours["Dense"] == theirs["Dense"] == 12


def test_spike_counts_are_accumulated_or_multiplied() -> None:
    """A count of n is n accumulations by default; NeuroBench multiplies, as ``integer_as="macs"``.

    The counts 2 and 3 at three outputs: 15 accumulations or 6 multiplications.
    """
    model = nn.Sequential(nn.Linear(4, 3))
    x = torch.tensor([[2.0, 0.0, 3.0, 0.0]])
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)["SynapticOperations"]
    assert ours == brute_force(model, x)
    assert (ours["Effective_ACs"], ours["Effective_MACs"]) == (15, 0)
    assert (theirs["Effective_ACs"], theirs["Effective_MACs"]) == (0, 6)
    assert synaptic_operations(model, x, integer_as="macs") == theirs


def test_transposed_convolutions_are_nothing_to_neurobench() -> None:
    """It knows Linear, Conv1d/2d/3d and recurrent layers; of others it counts nothing."""
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Conv2d(2, 1, 3))
    with torch.no_grad():
        model[0].weight[:, 0] = 0  # 9 of 18 weights there, none of 18 in the other
    x = spikes(3, 1, 4, 4)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)
    assert ours == brute_force(model, x)
    assert ours["Effective_ACs"] == 9 * int(x.count_nonzero()) / 3  # of 16 places x 9 taps x 2
    assert theirs["SynapticOperations"] == ours | {
        "Effective_ACs": 0,
        "Dense": ours["Dense"] - 16 * 9 * 2,
    }
    assert (sm.connection_sparsity(model), theirs["ConnectionSparsity"]) == (9 / 36, 0)


def test_functional_calls_are_nothing_to_neurobench() -> None:
    """It listens to modules alone."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.layer.weight)

    x = spikes(5, 4)
    ours = synaptic_operations(Functional(), x)
    per_sample = int(x.count_nonzero()) * 3 / 5
    assert ours == {"Effective_MACs": 0, "Effective_ACs": per_sample, "Dense": 12}
    theirs = of_neurobench(Functional(), x)["SynapticOperations"]
    assert theirs == {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 0}


def test_a_layer_in_two_places_counts_once_per_call() -> None:
    """NeuroBench listens to it once per place, and each time hears the calls of all places.

    So it does with its weights: a dense layer of 16 counts twice beside a layer of 16 zeros.
    """
    shared, zeros = nn.Linear(4, 4), nn.Linear(4, 4)
    with torch.no_grad():
        zeros.weight.zero_()
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared), zeros)
    x = spikes(5, 4)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)
    assert ours == brute_force(model, x)
    assert ours["Dense"] == 3 * 16
    assert theirs["SynapticOperations"]["Dense"] == 2 * 2 * 16 + 16
    assert sm.connection_sparsity(model) == 16 / 32
    assert theirs["ConnectionSparsity"] == round(16 / 48, 4)


def test_counts_beyond_float32_stay_exact() -> None:
    """NeuroBench sums a call's operations in float32, which knows even numbers alone there."""
    samples, inputs, outputs = 2001, 3, 2801
    exact = samples * inputs * outputs
    assert exact > 2**24
    assert exact % 2 == 1
    model, x = nn.Sequential(nn.Linear(inputs, outputs)), torch.ones(samples, inputs)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)["SynapticOperations"]
    assert ours["Effective_ACs"] == ours["Dense"] == inputs * outputs
    assert 0 < abs(theirs["Dense"] * samples - exact) < 100


@pytest.mark.parametrize("told", [True, False], ids=["state", "no state"])
def test_recurrent_cells(told: bool) -> None:
    """Ours sorts the operations of input and of state, each by its own kind.

    NeuroBench sorts both by the input. Without a state it takes the first sample for the whole
    input, and leaves the zeros of the state out of ``Dense``.
    """

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(len(x), 3)
            for step in range(x.shape[1]):
                h = self.cell(x[:, step], h) if told else self.cell(x[:, step])
            return h

    model, x = with_some_zeros(Recurrent()), spikes(5, 2, 4)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)["SynapticOperations"]
    assert ours == brute_force(model, x)
    assert ours["Dense"] == 2 * 3 * (4 + 3)
    if told:
        assert ours["Effective_MACs"] > 0
        both = ours["Effective_ACs"] + ours["Effective_MACs"]
        assert theirs == {"Effective_MACs": 0, "Effective_ACs": both, "Dense": ours["Dense"]}
    else:
        weights = (model.cell.weight_ih != 0).float().sum(0)
        first = int((x[0] @ weights).sum())
        assert theirs == {"Effective_MACs": 0, "Effective_ACs": first / 5, "Dense": 2 * 3 * 4 / 5}


@pytest.mark.parametrize(
    ("kind", "gates", "dense", "dense_there"),
    [
        (nn.LSTMCell, 4, 12_020, 10_700),
        (nn.GRUCell, 3, 9_020, 9_320),
        (nn.RNNCell, 1, 3_020, 3_020),
    ],
)
def test_products_of_gates(kind: Any, gates: int, dense: int, dense_there: int) -> None:
    """NeuroBench adds the element-wise products of gated cells to those with weights.

    Of 20 units with 10 inputs, 5 steps from a state of zeros, and a linear layer behind: weights of
    inputs at 5 steps, weights of states at 4; and three products of a unit with its gates, of which
    the one with the state is not effective at the first step. Its dense figure of an LSTM is the
    effective one, as the state is taken as it is.
    """

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = kind(10, 20), nn.Linear(20, 1)

        def forward(self, x: Tensor) -> Tensor:
            zeros = torch.zeros(len(x), 20)
            state: Any = (zeros, zeros.clone()) if kind is nn.LSTMCell else zeros
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.head(state[0] if kind is nn.LSTMCell else state)

    model, x = Gated(), torch.randn(2, 5, 10)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)["SynapticOperations"]
    by_weights = gates * 20 * (5 * 10 + 4 * 20) + 20
    by_gates = 20 * (5 * 3 - 1) if gates > 1 else 0
    assert ours == {"Effective_MACs": by_weights, "Effective_ACs": 0, "Dense": dense}
    assert theirs["Effective_MACs"] == by_weights + by_gates
    assert theirs["Dense"] == dense_there
    assert (by_weights, by_gates) in [(10_420, 280), (7_820, 280), (2_620, 0)]


def test_a_pruned_layer() -> None:
    """Ours is of the layer as after ``prune.remove``, of which NeuroBench says the same.

    Before, it also counts the mask as memory. And the weights of ones and zeros that it puts into
    a copy to count with are overwritten at the call by masked ones: it adds up products of values.
    Weights of 0.25 and seven of twelve kept: 7 / 4, rounded down, for a sample of ones.
    """
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU())
    nn.init.constant_(model[0].weight, 0.25)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]])
    prune.custom_from_mask(model[0], "weight", mask)
    x = torch.ones(1, 4)
    ours, theirs = synaptic_operations(model, x), of_neurobench(model, x)
    assert ours == {"Effective_MACs": 0, "Effective_ACs": 7, "Dense": 12}
    assert theirs["SynapticOperations"] == {"Effective_MACs": 0, "Effective_ACs": 1, "Dense": 1}
    assert (sm.footprint(model), theirs["Footprint"]) == (4 * 12, 4 * (12 + 12))
    assert sm.parameter_count(model) == theirs["ParameterCount"] == 12
    assert (sm.connection_sparsity(model), theirs["ConnectionSparsity"]) == (5 / 12, 0.4167)
    prune.remove(model[0], "weight")
    after = of_neurobench(model, x)
    assert after["SynapticOperations"] == ours
    assert after["Footprint"] == 4 * 12


def test_a_normalised_layer() -> None:
    """NeuroBench counts what the weight is made of, and finds no connection in such a layer."""
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.ReLU())
    theirs = of_neurobench(model, spikes(5, 4), failing="ConnectionSparsity")
    assert (sm.parameter_count(model), theirs["ParameterCount"]) == (12 + 3, 12 + 3 + 3)
    assert (sm.footprint(model), theirs["Footprint"]) == (4 * 15, 4 * 18)
    assert (sm.connection_sparsity(model), theirs["ConnectionSparsity"]) == (0, None)


def test_footprint_after_a_batch() -> None:
    """NeuroBench adds up all buffers, and with them the potentials of the last batch."""
    model = linear_snn()
    x = spikes(7, 5, 6)
    before = of_neurobench(model, x)["Footprint"]
    after = of_neurobench(model, x)["Footprint"]
    parameters = 6 * 9 + 9 + 9 * 8 + 8 + 8 * 5 + 5
    assert sm.footprint(model) == before == 4 * parameters + 3 * (3 * 4 + 8)
    assert after == before + 4 * 7 * (9 + 8 + 5)


def test_activation_sparsity_of_batches_of_unequal_length() -> None:
    """Each element weighs the same; NeuroBench weighs the batches by their samples.

    One sample of 2 steps without a spike, one of 8 steps with all: 2 / 10 against (1 + 0) / 2.
    """
    model = nn.Sequential(nn.Linear(1, 3), leaky(output=True))
    nn.init.constant_(model[0].weight, 5.0)
    nn.init.zeros_(model[0].bias)
    silent, loud = torch.zeros(1, 2, 1), torch.ones(1, 8, 1)
    theirs = of_neurobench(model, silent, loud)["ActivationSparsity"]
    assert (activity(model, silent, loud)["ActivationSparsity"], theirs) == (0.2, 0.5)


def test_activations_that_neurobench_does_not_know() -> None:
    """It looks at ReLU, Sigmoid and the neurons of snnTorch; where there is none, it says 0."""
    model, sparsity = nn.Sequential(nn.Linear(4, 3), nn.ReLU6()), sm.ActivationSparsity()
    x = torch.randn(8, 4)
    output = model(x).detach()
    zeros = sum(value == 0 for value in output.flatten().tolist())
    assert 0 < zeros < 24
    sparsity.update(output)
    theirs = of_neurobench(model, x)["ActivationSparsity"]
    assert (sparsity.compute().item(), theirs) == (zeros / 24, 0)


def test_membrane_updates_of_the_first_step() -> None:
    """At the first step NeuroBench counts every neuron, our strict rule those that moved.

    Of three neurons one gets an input, at the second step: 3 + 1 + 1 against 0 + 1 + 1, as it
    decays at the third.
    """
    model = nn.Sequential(nn.Linear(1, 3, bias=False), leaky(threshold=9.0, output=True))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [0.0], [0.0]]))
    x = torch.tensor([[[0.0], [1.0], [0.0]]])
    potentials = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0.5, 0, 0]]])
    theirs = of_neurobench(model, x)["MembraneUpdates"]
    assert sm.functional.membrane_updates(potentials) == theirs == 5
    assert activity(model, x)["MembraneUpdates"] == 5
    assert sm.functional.membrane_updates(potentials, initial=0.0) == 2


def test_membrane_updates_of_potentials_that_others_change() -> None:
    """NeuroBench compares before and after a call, ours after one call and after the next.

    Four potentials that rise from 0 to 1 at each of three steps, and are put back in between.
    """

    class PutBack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)
            nn.init.eye_(self.layer.weight)
            self.neurons = leaky(threshold=9.0)

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            self.neurons.reset_mem()
            return self.neurons(self.layer(x)), None

    model, x = PutBack(), torch.ones(2, 3, 4)
    theirs = of_neurobench(model, x)["MembraneUpdates"]
    assert (activity(model, x)["MembraneUpdates"], theirs) == (4, 4 * 3)
    assert model.neurons.mem.tolist() == [[1.0] * 4] * 2
