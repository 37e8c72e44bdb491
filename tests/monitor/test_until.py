"""Operations until each sample stopped, against explicit loops over samples and steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import ReadsOut
from tests.monitor.test_per_sample import spikes

KINDS = {"binary": (0, 2), "ternary": (-1, 2), "integer": (0, 4), "analog": (0, 2)}


class Net(nn.Module):
    """One time step: a pruned convolution, neurons that keep no state, a linear layer, a product.

    The weights of the second layer have no zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(2, 3, 3, padding=1, bias=False), nn.Linear(15, 4)
        generator = torch.Generator().manual_seed(3)
        weight = torch.randint(-2, 3, self.conv.weight.shape, generator=generator) / 2
        self.conv.weight.data = weight
        nn.init.constant_(self.fc.weight, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        fired = (self.conv(x) > 0).float()
        out: Tensor = self.fc(fired.flatten(1)).sum(1, keepdim=True) * (fired @ fired.mT).sum(
            (1, 2)
        )
        return out


def images(kind: str, steps: int, samples: int) -> Tensor:
    low, high = KINDS[kind]
    generator = torch.Generator().manual_seed(11)
    x = torch.randint(low, high, (steps, samples, 2, 5), generator=generator).float()
    return x * 0.3 if kind == "analog" else x


def truth(net: Net, x: Tensor, stops: list[int]) -> dict[str, tuple[float, float]]:
    """Sum of magnitudes times synapses, and ACs or MACs, by layer; each synapse on its own."""
    mask, found = net.conv.weight.detach().ne(0).double(), dict.fromkeys(("conv", "fc"), (0.0, 0.0))
    both = 0.0
    for sample, stop in enumerate(stops):
        for step in range(stop):
            one = x[step, sample]
            fired = (net.conv(one[None]) > 0).double()[0]
            synops = operations = 0.0
            for channel, place in one.nonzero().tolist():
                value = abs(one[channel, place].item())
                for out in range(3):
                    for tap in range(3):
                        if 0 <= place + 1 - tap < 5:
                            synops += value
                            operations += mask[out, channel, tap].item() * value
            found["conv"] = found["conv"][0] + synops, found["conv"][1] + operations
            spikes_of_fc = fired.sum().item() * 4
            found["fc"] = found["fc"][0] + spikes_of_fc, found["fc"][1] + spikes_of_fc
            both += sum((a * b).sum().item() for a in fired for b in fired)
    return found | {"Net.matmul": (both, both)}


def measured(net: Net, batches: list[tuple[Tensor, list[int]]], **options: Any) -> sm.Report:
    monitor = sm.Monitor(net, per_sample=True, **options)
    with torch.no_grad(), monitor:
        for x, stops in batches:
            with monitor.batch(samples=x.shape[1], steps=len(x)) as batch:
                for step in x:
                    net(step)
                batch.until(stops)
    return monitor.compute()


@pytest.mark.parametrize("kind", ["binary", "ternary", "integer"])
@pytest.mark.parametrize("per_step", [False, True])
def test_each_sample_counts_until_it_stopped(kind: str, per_step: bool) -> None:
    net, x, y = Net(), images(kind, 4, 3), images(kind, 2, 2)
    report = measured(net, [(x, [4, 1, 2]), (y, [2, 1])], per_step=per_step)
    until = report.until
    assert until is not None
    assert (until.samples, until.steps) == (5, 2.0)
    expected = [truth(net, x, [4, 1, 2]), truth(net, y, [2, 1])]
    for name, row in until.layers.items():
        synops, operations = np.sum([part[name] for part in expected], axis=0) / 5
        assert row.synops == pytest.approx(synops)
        assert (row.acs, row.macs) == (pytest.approx(operations), 0)
    assert until.acs == pytest.approx(sum(row.acs for row in until.layers.values()))
    assert until.synops == pytest.approx(sum(row.synops or 0 for row in until.layers.values()))


def test_analog_input_has_macs() -> None:
    net, x = Net(), images("analog", 3, 2)
    until = measured(net, [(x, [3, 2])]).until
    assert until is not None
    conv = until.layers["conv"]
    _, operations = truth(net, x.ne(0).float() * 1.0, [3, 2])["conv"]
    assert conv.synops is None
    assert (conv.acs, conv.macs) == (0, pytest.approx(operations / 2))


def test_all_steps_are_the_whole_report() -> None:
    net, x = Net(), images("integer", 3, 4)
    report = measured(net, [(x, [3] * 4)])
    until = report.until
    assert until is not None
    for name, row in report.layers.items():
        same = until.layers[name]
        assert (same.synops, same.acs, same.macs) == (row.synops, row.acs, row.macs)
    assert (until.acs, until.macs) == (report.total.acs, report.total.macs)


def test_steps_within_one_call() -> None:
    layer, x = nn.Linear(6, 3), spikes(4, 3, 6)
    monitor = sm.Monitor(layer, per_sample=True, batch_dim=1, time_dim=0)
    with monitor, monitor.batch(samples=3, steps=4) as batch:
        layer(x)
        batch.until(torch.tensor([1, 4, 2]))
    until = monitor.compute().until
    assert until is not None
    kept = sum(x[:stop, sample].sum().item() for sample, stop in enumerate((1, 4, 2)))
    assert until.acs == pytest.approx(kept * 3 / 3)


def test_a_layer_that_runs_once_for_several_steps_leaves_no_figures() -> None:
    model, x = ReadsOut(), spikes(4, 3, 6)
    monitor = sm.Monitor(model, per_sample=True, batch_dim=1, time_dim=0)
    with monitor, monitor.batch(samples=3, steps=4) as batch:
        model(x)
        batch.until([1, 2, 3])
    report = monitor.compute()
    assert report.until is None
    assert any("until the samples stopped: out ran once" in note for note in report.notes)


def test_a_batch_that_has_ended_takes_no_stops() -> None:
    model, x = nn.Linear(6, 3), spikes(2, 3, 6)
    monitor = sm.Monitor(model, per_sample=True)
    with monitor:
        with monitor.batch(samples=3, steps=2) as batch:
            for step in x:
                model(step)
        with pytest.raises(RuntimeError, match="until: expected an open batch, found one that has"):
            batch.until([1, 2, 2])
        with pytest.raises(ZeroDivisionError), monitor.batch(samples=3, steps=2) as failed:
            raise ZeroDivisionError
        with pytest.raises(RuntimeError, match="until: expected an open batch"):
            failed.until([1, 2, 2])
    report = monitor.compute()
    assert (report.samples, report.until) == (3, None)


def test_batches_without_stops_are_left_out_and_said() -> None:
    net, x = Net(), images("binary", 3, 2)
    monitor = sm.Monitor(net, per_sample=True)
    with torch.no_grad(), monitor:
        for stops in ([1, 2], None):
            with monitor.batch(samples=2, steps=3) as batch:
                for step in x:
                    net(step)
                if stops is not None:
                    batch.until(stops)
    report = monitor.compute()
    assert report.until is not None
    assert report.until.samples == 2
    assert "figures until the samples stopped cover 2 of 4 samples" in report.notes
    assert measured(net, [(x, [1, 2])]).until_data == report.until_data


def test_saved_resumed_and_merged() -> None:
    net, x, y = Net(), images("integer", 3, 2), images("integer", 4, 3)
    parts = [(x, [1, 3]), (y, [4, 2, 2])]
    whole = measured(net, parts)
    assert sm.Report.from_json(whole.to_json()) == whole
    one, other = (measured(net, [part]) for part in parts)
    assert one.merge(other).until_data == whole.until_data
    monitor = sm.Monitor(net, per_sample=True)
    with torch.no_grad(), monitor, monitor.batch(samples=2, steps=3) as batch:
        for step in x:
            net(step)
        batch.until([1, 3])
    resumed = sm.Monitor(net, per_sample=True)
    resumed.load_state_dict(monitor.state_dict())
    assert resumed.compute() == monitor.compute() == one


def _share(*parts: tuple[Tensor, list[int]]) -> sm.Report:
    return measured(Net(), list(parts))


@pytest.mark.xdist_group("ranks")
def test_two_processes_have_the_figures_of_one(two_ranks: Ranks) -> None:
    parts = [(images("integer", 3, 2), [1, 3]), (images("binary", 4, 3), [4, 2, 2])]
    for report in results_of(two_ranks.run(_share, [parts[:1], parts[1:]])):
        assert report.until_data == _share(*parts).until_data


@pytest.mark.parametrize(
    ("stops", "message"),
    [
        ([1, 2, 3], "expected one number for each of 2 samples"),
        ([0, 1], "expected numbers from 1 to 3, found 0 to 1"),
        ([1, 4], "expected numbers from 1 to 3, found 1 to 4"),
        ([1.5, 2.0], "expected whole numbers"),
        (torch.tensor([True, True]), "expected whole numbers"),
    ],
)
def test_bad_stops_are_refused_and_the_batch_counts_nothing(stops: Any, message: str) -> None:
    net, x = Net(), images("binary", 3, 2)
    monitor = sm.Monitor(net, per_sample=True)

    def run() -> None:
        with monitor, monitor.batch(samples=2, steps=3) as batch:
            for step in x:
                net(step)
            batch.until(stops)

    with pytest.raises(ValueError, match=message):
        run()
    assert monitor.compute().samples == 0


def test_until_needs_samples_and_steps() -> None:
    layer = nn.Linear(6, 3)
    monitor = sm.Monitor(layer)
    with monitor, monitor.batch(samples=2, steps=1) as batch:
        layer(torch.ones(2, 6))
        with pytest.raises(ValueError, match=r"until: expected Monitor\(..., per_sample=True\)"):
            batch.until([1, 1])
    monitor = sm.Monitor(layer, per_sample=True)
    with monitor, monitor.batch(samples=2) as batch:
        layer(torch.ones(2, 6))
        with pytest.raises(ValueError, match="found no steps"):
            batch.until([1, 1])
