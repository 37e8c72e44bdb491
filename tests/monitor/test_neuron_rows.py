"""What a Monitor says of neurons and layers is what the metrics say of the same spikes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm


class Emit(nn.Module):
    """Neurons whose output is their input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emit, self.fc = Emit(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.emit(x))


def trains(values: str) -> list[Tensor]:
    """Batches (T, B, 6) of several lengths; one neuron is silent, one spikes at every step."""
    torch.manual_seed(5)
    shapes = [(4, 5), (4, 1), (7, 2), (1, 3)]
    x = [(torch.rand(*shape, 6) < 0.4).float() for shape in shapes]
    for batch in x:
        if values != "binary":
            batch *= torch.randint(1, 4, batch.shape)
        if values == "signed":
            batch *= torch.randn(batch.shape).sign()
        batch[..., 0], batch[..., 1] = 0, 1
    return x


@pytest.mark.parametrize("values", ["binary", "counts", "signed"])
@pytest.mark.parametrize("dt", [None, 0.002])
def test_rows_are_those_of_the_metrics(values: str, dt: float | None) -> None:
    sm.register_neuron(Emit, lead="TB")
    rate = sm.FiringRate(time_dim=0, dt=dt, per_neuron=True)
    silent, sparsity = sm.SilentNeurons(time_dim=0), sm.ActivationSparsity()
    synops = sm.SynOps(4, time_dim=0)
    model = Net()
    with sm.Monitor(model, batch_dim=1, time_dim=0, dt=dt, per_neuron=True) as monitor:
        for x in trains(values):
            model(x)
            for metric in (rate, silent, sparsity, synops):
                metric.update(x)
    report = monitor.compute()
    row, rates, fractions = report.neurons["emit"], rate.compute(), silent.compute()
    assert row.firing_rate == pytest.approx(rates["firing_rate"].item(), rel=1e-12)
    torch.testing.assert_close(row.firing_rate_per_neuron, rates["firing_rate_per_neuron"])
    assert row.sparsity == pytest.approx(sparsity.compute().item(), rel=1e-12)
    assert row.silent_fraction == fractions["silent_fraction"].item() == 1 / 6
    assert row.saturated_fraction == fractions["saturated_fraction"].item()
    assert row.saturated_fraction >= 1 / 6
    assert report.layers["fc"].synops == pytest.approx(synops.compute()["synops"].item())
    torch.testing.assert_close(
        report.layers["fc"].synops_per_neuron, synops.compute()["synops_per_neuron"]
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_a_layer_whose_input_size_varies_has_no_map(at_once: bool) -> None:
    """Not the map of the first size; whether both sizes are in one batch or in two."""
    model = nn.Conv1d(1, 1, 3)
    monitor = sm.Monitor(model, per_neuron=True)
    sizes = [[8, 5, 8]] if at_once else [[8], [5], [8]]
    with monitor:
        for batch in sizes:
            with monitor.batch(samples=1):
                for size in batch:
                    model(torch.ones(1, 1, size))
    report = monitor.compute()
    (row,) = report.layers.values()
    assert row.synops * report.samples == 2 * 6 * 3 + 3 * 3
    assert row.synops_per_neuron is None
    assert any("no map per neuron" in note for note in report.layers_data["Conv1d"].notes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cls": Emit(), "lead": "B"}, TypeError, "cls: expected a subclass"),
        ({"lead": "T"}, ValueError, "lead: expected one of .* found 'T'"),
        ({"lead": 3}, ValueError, "lead: expected one of .* found 3"),
        ({"lead": ["B"]}, ValueError, "lead: expected one of"),
        ({"lead": "B", "spikes": 0}, TypeError, "spikes: expected a function"),
        ({"lead": "B", "state": "v"}, TypeError, "state: expected a collection of names"),
    ],
)
def test_what_cannot_be_registered(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    class Unregistered(nn.Module):
        pass

    with pytest.raises(error, match=message):
        sm.register_neuron(**{"cls": Unregistered, **arguments})
    assert not sm.Monitor(Unregistered(), batch_dim=0).compute().neurons
