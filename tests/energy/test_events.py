"""Profiles by event: synapses by type, accesses, spikes, messages and hops, against a machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.energy import (
    Constant,
    EnergyProfile,
    PerByte,
    ann_baseline,
    break_even_rate,
    energy_of,
    estimate_energy,
)
from snnmetrics.report import NeuronData
from tests.energy.made import close, layer, neurons, report
from tests.helpers.toy import Fire

LOIHI = "loihi-events"
PJ = 1e-12
TERM = Constant(2 * PJ, "A paper", 2020)


class Network(nn.Module):
    """A convolution and a linear layer with neurons; some weights are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(1, 2, 3, padding=1, bias=False), Fire(0.2)
        self.fc, self.lif2 = nn.Linear(32, 5, bias=False), Fire(0.5)
        with torch.no_grad():
            self.fc.weight[:, ::3] = 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lif1(self.conv(x))
        return self.lif2(self.fc(hidden.flatten(1)))


def ran(steps: int = 4) -> tuple[sm.Report, dict[str, Tensor]]:
    """A report of one sample, and what each neuron emitted."""
    sm.register_neuron(Fire, lead="B")
    model, x = Network(), (torch.rand(steps, 1, 1, 4, 4) < 0.5).float()
    seen: dict[str, list[Tensor]] = {"in": [], "lif1": [], "lif2": []}
    for name in ("lif1", "lif2"):
        getattr(model, name).register_forward_hook(lambda m, i, o, n=name: seen[n].append(o))
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=1, steps=steps):
        for step in x:
            seen["in"].append(step)
            model(step)
    return monitor.compute(), {name: torch.stack(of) for name, of in seen.items()}


class Machine:
    """A chip that SANA-FE would walk through: every neuron accessed and updated in every step.

    A spike costs its neuron once and one message per core that it goes to; each message is moved
    on by routers; each synapse of a spike is processed with the price of its type.
    """

    def __init__(self, cores: int, hops: int) -> None:
        self.cores, self.hops, self.pj = cores, hops, 0.0

    def neurons(self, spikes: Tensor) -> None:
        for fired in spikes.flatten().tolist():
            self.pj += 51.2 + 21.6
            if fired:
                self.pj += 69.3
                for _ in range(self.cores):
                    self.pj += 111.0
                    for _ in range(self.hops):
                        self.pj += 4.2

    def linear(self, spikes: Tensor, weight: Tensor, price: float, stored: bool) -> None:
        for i in spikes.flatten().nonzero().flatten().tolist():
            for j in range(weight.shape[0]):
                if stored or weight[j, i]:
                    self.pj += price

    def convolution(self, spikes: Tensor, channels: int, price: float) -> None:
        height, width = spikes.shape[-2:]
        for row, column in spikes.reshape(height, width).nonzero().tolist():
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= row + i < height and 0 <= column + j < width:
                        self.pj += channels * price


@pytest.mark.parametrize("sparse", [(), ("f*",)])
@pytest.mark.parametrize(("cores", "hops"), [(1, 0), (1, 2), (3, 2)])
def test_a_machine_that_is_walked_through(sparse: tuple[str, ...], cores: int, hops: int) -> None:
    torch.manual_seed(1)
    made, seen = ran()
    weight = torch.ones(5, 32)
    weight[:, ::3] = 0
    machine = Machine(cores, hops)
    for x, first, second in zip(seen["in"], seen["lif1"], seen["lif2"], strict=True):
        machine.convolution(x, 2, 24.0)
        machine.neurons(first)
        machine.linear(first, weight, 33.6 if sparse else 35.5, stored=not sparse)
        machine.neurons(second)
    estimate = estimate_energy(made, LOIHI, hops=hops, messages=cores, sparse=sparse)
    assert seen["lif1"].sum() > 0
    assert estimate.total.energy == close(machine.pj * PJ)
    assert estimate.left_out == ()


def test_each_term() -> None:
    """80 updates and 12 spikes of ten neurons, over two samples."""
    seen = neurons(80, 10)
    fired = type(seen)("Leaky", 10, 80, 12, 12, 1, 0)
    made = report({"fc": layer("binary", 500)}, neurons_data={"lif": fired}, samples=2)
    found = estimate_energy(made, LOIHI, hops=2.5, messages=2).neurons["lif"].breakdown
    assert found.neuron_accesses == close(40 * 51.2 * PJ)
    assert found.neuron_updates == close(40 * 21.6 * PJ)
    assert found.spikes == close(6 * 69.3 * PJ)
    assert found.routing == close(6 * 2 * (111 + 2.5 * 4.2) * PJ)
    total = found.neuron_accesses + found.neuron_updates + found.spikes + found.routing
    assert found.total == close(total)
    assert found.operations == close(total - found.routing)


def test_without_hops_they_are_left_out_and_named() -> None:
    made = report({"fc": layer("binary", 500)}, neurons_data={"lif": neurons(80, 10)})
    estimate = estimate_energy(made, LOIHI)
    (line,) = estimate.left_out
    assert line.startswith("lif: hops of spike messages, which the counts do not contain")
    text = " ".join(str(estimate).split())
    assert "left out: lif: hops of spike messages" in text
    assert "not in the energy: memory accesses, addressing, hops of spike messages" in text
    assert "per hop" not in text
    with pytest.raises(ValueError, match="hops of spike messages"):
        estimate.ratio(estimate)
    told = estimate_energy(made, LOIHI, hops=0)
    assert told.left_out == ()
    assert told.ratio(told) == 1
    text = " ".join(str(told).split())
    assert "assumed: 1 message per spike" in text
    assert "0 hops per message" in text
    assert json.loads(told.to_json())["hops"] == 0


def test_a_report_without_neurons_says_what_is_missing() -> None:
    text = " ".join(str(estimate_energy(report({"fc": layer("binary", 5)}), LOIHI)).split())
    assert (
        "accesses to neurons, neuron updates, spikes, spike messages, hops of spike messages: "
        "none, since the report has no spiking neurons"
    ) in text


def test_a_product_of_two_activations_is_no_synapse() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    made = sm.Monitor(Product(), batch_dim=0).run([torch.ones(2, 3, 4)])
    (line,) = estimate_energy(made, LOIHI, hops=1).left_out
    assert "synaptic operations, which have no price in profile 'loihi-events'" in line
    fallback = EnergyProfile("mine", synop=TERM, synop_convolution=TERM)
    estimate = estimate_energy(made, fallback)
    assert estimate.left_out == ()
    assert estimate.total.energy == close(made.total.synops * 2 * PJ)


def test_an_ann_has_no_price_there() -> None:
    made, _ = ran()
    left_out = estimate_energy(ann_baseline(made), LOIHI, hops=1).left_out
    assert "lif1: spikes of ReLU, which are unknown" in left_out
    assert any(line.startswith("fc: ") and "MACs" in line for line in left_out)


def test_spike_counts_are_spikes_where_they_are_accumulations() -> None:
    fired = {"lif": NeuronData("Leaky", 10, 80, 6, 12, 1, 0)}  # outputs of 2
    for integer_as, spikes in (("acs", 12), ("macs", 6)):
        made = report({"fc": layer("binary", 5)}, neurons_data=fired, integer_as=integer_as)
        assert estimate_energy(made, LOIHI, hops=0).neurons["lif"].breakdown.spikes == close(
            spikes * 69.3 * PJ
        )


def test_break_even_is_refused_where_neurons_cost_per_spike() -> None:
    made, _ = ran()
    with pytest.raises(ValueError, match="whose neurons cost the same at any rate, found 'loihi-e"):
        break_even_rate(made, LOIHI)


def test_break_even_compares_estimates_of_one_kind() -> None:
    made, _ = ran()
    price = PerByte(2 * PJ, "A paper", 2020)
    ann = estimate_energy(ann_baseline(made), "horowitz-45nm-fp32", memory=price)
    with pytest.raises(TypeError, match="baseline: expected an energy estimate, found 'energy est"):
        break_even_rate(made, "horowitz-45nm-fp32", baseline=ann)


def test_energy_of_events() -> None:
    found = energy_of(
        synops_dense=1,
        synops_sparse=1,
        synops_convolution=1,
        neuron_accesses=1,
        spikes_out=1,
        axons_out=1,
        hops=1,
        profile=LOIHI,
    )
    assert found.total == close((35.5 + 33.6 + 24 + 51.2 + 69.3 + 111 + 4.2) * PJ)
    with pytest.raises(
        ValueError, match="hops: expected None, found a count; profile 'loihi' has no energy"
    ):
        energy_of(hops=1, profile="loihi")


@pytest.mark.parametrize(
    ("profile", "values", "error", "message"),
    [
        (LOIHI, {"hops": -1}, ValueError, "hops: expected a finite number >= 0, found -1"),
        (LOIHI, {"hops": float("nan")}, ValueError, "hops: expected a finite number >= 0"),
        (LOIHI, {"hops": "2"}, TypeError, "hops: expected a number, found '2'"),
        (
            "loihi",
            {"hops": 2},
            ValueError,
            "hops: expected None, since profile 'loihi' has no price",
        ),
        (LOIHI, {"messages": 0}, ValueError, "messages: expected a positive finite number"),
        ("loihi", {"messages": 2}, ValueError, "messages: expected 1, since profile 'loihi'"),
        (
            LOIHI,
            {"sparse": "fc"},
            TypeError,
            "sparse: expected a collection of .*'fc'",
        ),
        (LOIHI, {"sparse": [1]}, TypeError, r"sparse: expected a collection of names, found \[1"),
        (LOIHI, {"hops": 10**400}, ValueError, "hops: expected a number that float64 holds"),
        (LOIHI, {"neuron_operations": None}, TypeError, "neuron_operations: expected True or"),
        (LOIHI, {"sparse": ["fd"]}, ValueError, "sparse: expected names or patterns of conv, fc"),
        ("loihi", {"sparse": ["fc"]}, ValueError, "sparse: expected none, since profile 'loihi'"),
    ],
)
def test_bad_assumptions(
    profile: str, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        estimate_energy(ran()[0], profile, **values)


def test_a_layer_of_analog_input_is_not_said_to_be_stored_sparsely() -> None:
    fc = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        fc.weight.fill_(1.0)[0] = 0.0
    model = nn.Sequential(fc, nn.ReLU())
    analog = sm.Monitor(model, batch_dim=0).run([torch.tensor([[0.5, 0.25, 0.1, 2.5]])])
    found = estimate_energy(analog, LOIHI, sparse=["*"])
    assert not [note for note in found.footnotes if note.startswith("stored without")]
    assert not found.settings["sparse"]
    (line,) = found.left_out
    assert "MACs, which have no price" in line
    spiking = sm.Monitor(model, batch_dim=0).run([torch.tensor([[1.0, 0.0, 1.0, 0.0]])])
    found = estimate_energy(spiking, LOIHI, sparse=["*"])
    assert "stored without zero weights: 0" in found.footnotes
    assert found.total.energy == close(2 * 2 * 33.6 * PJ)  # 2 spikes, 2 of 3 weights
