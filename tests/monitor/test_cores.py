"""Loads of cores, against explicit loops over samples, steps, events and synapses."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.report.distribution import RESOLUTION
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import ReadsOut
from tests.monitor.test_per_sample import spikes

DIMS: Any = {"batch_dim": 1, "time_dim": 0}
FIGURES = ("synops", "events_in", "events_out", "updates")


class Fire(nn.Module):
    """Neurons without state."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


sm.register_neuron(Fire, lead="B")


class Net(nn.Module):
    """A pruned, strided convolution, a transposed one, and two linear layers in a loop."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.conv = nn.Conv1d(2, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(4, 2, 2, groups=2)
        self.fc, self.out = nn.Linear(10, 6), nn.Linear(6, 3)
        self.fire, self.fire_up, self.fire_fc = Fire(), Fire(), Fire()
        for parameter in self.parameters():
            parameter.data = torch.randint(-1, 3, parameter.shape, generator=generator) / 2
        nn.init.constant_(self.fc.weight, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for step in x:
            up = self.fire_up(self.up(self.fire(self.conv(step))))
            found.append(self.out(self.fire_fc(self.fc(up.flatten(1) - 0.0))))
        return torch.stack(found)


LAYERS = ("conv", "up", "fc", "out")
NEURONS = {"conv": "fire", "up": "fire_up", "fc": "fire_fc"}


def inputs_and_outputs(net: Net, x: Tensor) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Inputs of each layer and outputs of its neurons, step by step."""
    seen: dict[str, Any] = {name: [] for name in (*LAYERS, *NEURONS.values())}
    handles = [
        net.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen[name].append((args[0], output))
        )
        for name in seen
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return {
        name: [
            (given, seen[NEURONS[name]][step][1] if name in NEURONS else output)
            for step, (given, output) in enumerate(seen[name])
        ]
        for name in LAYERS
    }


def arrivals(layer: nn.Module, event: tuple[int, ...], shape: torch.Size) -> Tensor:
    """Synapses of nonzero weight of one input neuron with each output neuron, in C order."""
    twin: Any = copy.deepcopy(layer)
    twin.bias = None
    twin.weight.data = twin.weight.data.ne(0).float()
    one = torch.zeros(1, *shape)
    one[(0, *event)] = 1
    with torch.no_grad():
        found: Tensor = twin(one)[0].flatten()
    return found


def truth(net: Net, x: Tensor, cores: dict[str, list[list[int]]]) -> np.ndarray[Any, Any]:
    """Loads ``(figures, steps, samples, cores)`` of cores with these neurons of each layer."""
    count = len(next(iter(cores.values())))
    loads = np.zeros((4, *x.shape[:2], count))
    for name, steps in inputs_and_outputs(net, x).items():
        layer, held = net.get_submodule(name), cores.get(name)
        if held is None:
            continue
        for step, (given, emitted) in enumerate(steps):
            for sample in range(x.shape[1]):
                for event in given[sample].nonzero().tolist():
                    reached = arrivals(layer, tuple(event), given.shape[1:])
                    for core, neurons in enumerate(held):
                        loads[0, step, sample, core] += reached[neurons].sum().item()
                        loads[1, step, sample, core] += bool(reached[neurons].any())
                for core, neurons in enumerate(held):
                    out = emitted[sample].flatten()[neurons]
                    loads[2, step, sample, core] += out.ne(0).sum().item()
                    loads[3, step, sample, core] += len(neurons)
    return loads


def expect(row: Any, loads: list[np.ndarray[Any, Any]], figures: tuple[str, ...]) -> None:
    """A row of a core has these loads ``(figures, steps, samples)``, of batches."""
    for name in figures:
        load, values = getattr(row, name), [one[FIGURES.index(name)] for one in loads]
        every = np.concatenate([one.flatten() for one in values])
        assert load.mean == pytest.approx(every.mean())
        assert load.max == every.max()
        true = np.percentile(every, 99, method="inverted_cdf")
        assert true <= load.p99 <= true * (1 + RESOLUTION) + 1e-9
        for step in range(max(map(len, values))):
            at = np.concatenate([one[step] for one in values if step < len(one)])
            assert load.per_step[step] == pytest.approx(at.mean())
            assert load.per_step_std[step] == pytest.approx(at.std(), abs=1e-6)
            assert load.per_step_max[step] == at.max()
        assert load.per_step_max[load.peak_step - 1] == load.max


def batches() -> list[Tensor]:
    torch.manual_seed(2)
    return [spikes(3, 4, 2, 8), spikes(5, 2, 2, 8)]


def measured(cores: Any, *given: Tensor, **options: Any) -> sm.Report:
    monitor = sm.Monitor(Net(), cores=cores, **DIMS, **options)
    with torch.no_grad(), monitor:
        for x in given:
            monitor.model(x)
    return monitor.compute()


AUTOMATIC = {
    "conv": [[*range(8)], [*range(8, 16)]],
    "up": [[*range(5)], [*range(5, 10)]],
    "fc": [[*range(6)]],
    "out": [[*range(3)]],
}


@pytest.mark.parametrize("cut", [False, True])
def test_automatic_cores_have_the_loads_of_their_neurons(cut: bool) -> None:
    given = [part for x in batches() for part in (x.split(1, 1) if cut else [x])]
    report = measured(sm.Cores(neurons_per_core=8), *given)
    number = 0
    for name, held in AUTOMATIC.items():
        loads = [truth(Net(), x, {name: held}) for x in batches()]
        for core in range(len(held)):
            row = report.cores[f"core{number}"]
            number += 1
            assert (row.layers, row.neurons) == ((name,), len(held[core]))
            figures = FIGURES if name in NEURONS else FIGURES[:2]
            expect(row, [one[..., core] for one in loads], figures)
            if name not in NEURONS:
                assert (row.events_out, row.updates) == (None, None)
    assert len(report.cores) == number
    assert any("out: no core events_out and updates" in note for note in report.notes)
    synops = sum(row.synops.per_step for row in report.cores.values() if row.synops is not None)
    lasting = torch.tensor([6.0, 6.0, 6.0, 2.0, 2.0]) / 6
    layers = sum(report.layers[name].effective_synops for name in LAYERS)
    assert float((synops * lasting).sum()) == pytest.approx(layers)


def test_evenly_split_layers_leave_the_others_out() -> None:
    report = measured({"fc": 3, "conv": 2}, *batches())
    assert [row.layers for row in report.cores.values()] == [("fc",)] * 3 + [("conv",)] * 2
    held = [[0, 1], [2, 3], [4, 5]]
    loads = [truth(Net(), x, {"fc": held}) for x in batches()]
    for core in range(3):
        expect(report.cores[f"core{core}"], [one[..., core] for one in loads], FIGURES)


OWN = {
    "north": {"conv": slice(0, 3), "fc": range(2)},
    "south": {"conv": [3], "fc": range(2, 6)},
}


def test_several_layers_on_one_core_add_up_step_by_step() -> None:
    report = measured(OWN, *batches())
    held = {"conv": [[*range(12)], [*range(12, 16)]], "fc": [[0, 1], [2, 3, 4, 5]]}
    loads = [truth(Net(), x, held) for x in batches()]
    for core, name in enumerate(("north", "south")):
        row = report.cores[name]
        assert row.layers == ("conv", "fc")
        expect(row, [one[..., core] for one in loads], FIGURES)
    most = {name: row.synops.max for name, row in report.cores.items() if row.synops is not None}
    assert report.cores.busiest == max(most, key=lambda name: most[name])
    assert report.cores.imbalance == pytest.approx(max(most.values()) / np.mean([*most.values()]))


@pytest.mark.parametrize("mapped", [False, True])
def test_time_is_that_of_the_slowest_core_at_each_step(mapped: bool) -> None:
    prices = {"seconds_per_synop": 2.0, "seconds_per_event": 5.0, "seconds_per_update": 3.0}
    mapping = OWN if mapped else {"conv": 2, "fc": 1}
    report = measured(sm.Cores(mapping=mapping, **prices), *batches())
    held = {"conv": [[*range(8)], [*range(8, 16)]], "fc": [[*range(6)], []]}
    if mapped:
        held = {"conv": [[*range(12)], [*range(12, 16)]], "fc": [[0, 1], [2, 3, 4, 5]]}
    samples: list[float] = []
    for x in batches():
        parts = [held] if mapped else [{name: lists} for name, lists in held.items()]
        loads = np.concatenate([truth(Net(), x, part) for part in parts], -1)
        terms = np.stack([loads[0] * 2, loads[1] * 5, loads[3] * 3]).max(0)
        samples += terms.max(-1).sum(0).tolist()
    seconds = report.cores.seconds
    assert seconds is not None
    assert seconds.mean == pytest.approx(np.mean(samples))
    assert seconds.largest == pytest.approx(max(samples))


def test_one_hot_core_in_one_step() -> None:
    layer = nn.Linear(8, 4, bias=False)
    layer.weight.data = torch.block_diag(*[torch.ones(1, 2)] * 4)  # two inputs for each neuron
    x = torch.zeros(6, 2, 8)
    x[:, :, 0] = 1
    x[3, 1, 4:6] = 1  # both inputs of the third neuron, once
    report = sm.Monitor(layer, cores={"Linear": 4}, **DIMS).run([x])
    rows = [report.cores[f"core{n}"] for n in range(4)]
    assert [row.synops.max for row in rows if row.synops] == [1, 0, 2, 0]
    assert report.cores.busiest == "core2"
    assert rows[2].synops is not None
    assert (rows[2].synops.peak_step, rows[2].synops.mean) == (4, 2 / 12)
    assert report.cores.imbalance == 2 / (3 / 4)
    assert [row.axons for row in rows] == [2] * 4


def test_analog_input_and_weights_that_change() -> None:
    layer, x = nn.Linear(6, 4), torch.rand(2, 3, 6)
    monitor = sm.Monitor(layer, cores={"Linear": 2}, **DIMS)
    with torch.no_grad(), monitor:
        layer(x)
        layer.weight.data[:2] = 0
        layer(x)
    report = monitor.compute()
    first, second = (report.cores[f"core{n}"].synops for n in range(2))
    assert first is not None
    assert second is not None
    assert (first.mean, second.mean) == (6.0, 12.0)
    assert (report.cores["core0"].synapses, report.cores["core1"].synapses) == (12, 12)


def test_padding_by_copies_and_recurrent_neurons() -> None:
    conv = nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular")
    x = spikes(2, 3, 2, 6)
    report = sm.Monitor(nn.Sequential(conv), cores=sm.Cores(6), **DIMS)
    with report, torch.no_grad(), report.batch(samples=3, steps=2):
        for step in x:
            report.model(step)
    found = report.compute()
    total = sum(row.synops.per_step.sum() for row in found.cores.values() if row.synops)
    assert float(total) == pytest.approx(found.layers["0"].event_synops)


def test_saved_resumed_merged_and_copied() -> None:
    x, y = batches()
    for cores in (sm.Cores(8), {"conv": 2}, OWN):
        whole = measured(cores, x, y)
        assert sm.Report.from_json(whole.to_json()) == whole
        assert measured(cores, x).merge(measured(cores, y)).cores_data == whole.cores_data
        monitor, other = (sm.Monitor(Net(), cores=cores, **DIMS) for _ in range(2))
        report = monitor.run([x])
        other.load_state_dict(monitor.state_dict())
        assert other.compute() == report
        assert copy.deepcopy(monitor).compute() == report
        other.reset()
        assert other.run([x]) == report
    with pytest.raises(ValueError, match="same cores"):
        measured(OWN, x).merge(measured({"conv": 2}, x))
    one, two = sm.Monitor(Net(), cores=OWN, **DIMS), sm.Monitor(Net(), cores={"conv": 2}, **DIMS)
    with pytest.raises(ValueError, match="declarations"):
        one.merge_state(two)


def test_json_that_cannot_be_is_refused() -> None:
    data = json.loads(measured(OWN, batches()[0]).to_json())
    data["cores"]["north"]["loads"]["synops"]["histogram"] = [[10**9, 1]]
    with pytest.raises(ValueError, match=r"cores\.north"):
        sm.Report.from_json(json.dumps(data))


def _share(cores: Any, *given: Tensor) -> sm.Report:
    return measured(cores, *given)


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("cores", [sm.Cores(8, seconds_per_synop=1.0), OWN], ids=["auto", "own"])
def test_two_processes_have_the_report_of_one(two_ranks: Ranks, cores: Any) -> None:
    x, y = batches()
    for shares in ([(cores, x), (cores, y)], [(cores, x, y), (cores,)]):
        for report in results_of(two_ranks.run(_share, shares)):
            whole = _share(cores, x, y)
            assert report.cores_data == whole.cores_data
            assert report.core_seconds == whole.core_seconds


@pytest.mark.parametrize(
    "cores",
    [
        sm.Cores(1),
        {name: {"fc": range(number, 80, 2)} for number, name in enumerate(("even", "odd"))},
    ],
)
def test_many_pieces_of_cores(cores: Any) -> None:
    """Each core, or each neuron of a core, has its own place in the output."""

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fire = nn.Linear(6, 80), Fire()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.fire(self.fc(step)) for step in x])

    model, x = Steps(), spikes(3, 4, 6)
    with torch.no_grad():
        emitted = model(x).ne(0).double()
    rows = sm.Monitor(model, cores=cores, **DIMS).run([x]).cores
    size = 80 // len(rows)
    for core, row in enumerate(rows.values()):
        own = emitted[..., core :: len(rows)].sum(-1)
        assert row.events_out is not None
        assert row.events_out.per_step.tolist() == own.mean(1).tolist()
        assert row.events_out.per_step_max.tolist() == own.amax(1).tolist()
        assert (row.updates.mean, row.neurons) == (size, size)


def test_memory_does_not_grow_with_batches() -> None:
    monitor = sm.Monitor(Net(), cores=sm.Cores(8), **DIMS)
    sizes = []
    with torch.no_grad(), monitor:
        for _ in range(3):
            monitor.model(batches()[0])
            sizes.append({n: t.shape for n, t in monitor.state_dict()["tensors"].items()})
    assert sizes[0] == sizes[1] == sizes[2]


def test_layers_that_run_once_for_several_steps_have_no_loads() -> None:
    cores = sm.Cores(4, seconds_per_synop=1.0)
    report = sm.Monitor(ReadsOut(), cores=cores, **DIMS).run([spikes(3, 2, 6)])
    assert report.cores["core0"].synops is not None
    assert report.cores["core1"].synops is None
    assert report.cores["core1"].neurons == 2
    assert report.cores.seconds is None
    assert any("out: no core loads, because it was not called" in note for note in report.notes)


@pytest.mark.parametrize(
    ("cores", "message"),
    [
        ({"convx": 2}, "cores: expected names of layers with weights, found 'convx'"),
        ({"a": {"fc": range(4)}}, "expected every channel of 'fc'"),
        (sm.Cores(neurons_per_core=3, mapping={"fc": 1}), "neurons_per_core: expected at most 3"),
        (sm.Cores(synapses_per_core=2, mapping=OWN), "synapses_per_core: expected at most 2"),
    ],
)
def test_what_does_not_fit_is_refused(cores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(cores, batches()[0])


def test_time_must_be_known_and_cores_of_a_kind() -> None:
    with pytest.raises(ValueError, match="cores: expected a known number of time steps"):
        sm.Monitor(nn.Linear(6, 2), batch_dim=0, cores={"Linear": 1}).run([torch.ones(2, 6)])
    with pytest.raises(TypeError, match="cores"):
        sm.Monitor(nn.Linear(6, 2), cores=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cores: expected batch_dim and time_dim"):
        sm.Monitor(nn.Linear(6, 2), batch_dim=2, time_dim=0, cores={"Linear": 1})


def test_without_cores_there_are_none() -> None:
    report = measured(None, batches()[0])
    assert (len(report.cores), report.cores.busiest, report.cores.imbalance) == (0, None, None)
    with pytest.raises(KeyError, match="core0"):
        report.cores["core0"]


def test_beside_the_other_options_and_compiled() -> None:
    x = batches()[0]
    alone = measured(sm.Cores(8), x)
    both = measured(sm.Cores(8), x, per_step=True, per_sample=True)
    assert both.cores_data == alone.cores_data
    monitor = sm.Monitor(Net(), cores=sm.Cores(8), **DIMS)
    compiled: Any = torch.compile(monitor.model, backend="eager")
    with torch.no_grad(), monitor:
        compiled(x)
    found = monitor.compute()
    assert found.cores_data == alone.cores_data
    assert "compiled parts ran eagerly, since cores was given" in found.notes


def test_limits_of_cores() -> None:
    report = measured(OWN, batches()[0])
    load = report.cores["south"].synops
    assert load is not None
    for statistic, value in (("max", load.max), ("mean", load.mean), ("p99", load.p99)):
        limit = sm.Limit(synops=value - 0.5, statistic=statistic)
        (violation,) = report.check({"south": limit})
        assert (violation.name, violation.value) == ("south", value)
        assert report.check({"south": sm.Limit(synops=value, statistic=statistic)}) == []
    with pytest.raises(ValueError, match=r"limits\['south'\]: expected limits of synops"):
        report.check({"south": sm.Limit(synops_per_second=1.0)})
    with pytest.raises(ValueError, match="names among"):
        report.check({"west": sm.Limit(synops=1.0)})


class Parts(nn.Module):
    """Layers of equal size, and what a test does with them."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        for name in ("a", "b", "c"):
            layer = nn.Linear(6, 6, bias=False)
            nn.init.ones_(layer.weight)
            setattr(self, name, layer)
        self.fire, self.other, self.does = Fire(), Fire(), forward

    def forward(self, x: Tensor) -> Any:
        return [self.does(self, step, number) for number, step in enumerate(x)]


def run_parts(forward: Any, cores: Any, steps: int = 3, **options: Any) -> sm.Report:
    return sm.Monitor(Parts(forward), cores=cores, **DIMS, **options).run([torch.ones(steps, 2, 6)])


def test_neurons_that_may_be_of_several_layers_are_of_none() -> None:
    def before(net: Any, x: Tensor, step: int) -> Any:
        a, b = net.a(x), net.b(x)
        return net.fire(a), net.other(b)

    for forward in (before, lambda net, x, step: net.fire(net.a(x) + net.b(x))):
        report = run_parts(forward, {"a": 1, "b": 1})
        assert [row.events_out for row in report.cores.values()] == [None, None]
        assert [row.updates for row in report.cores.values()] == [None, None]
        assert sum("read only its output" in note for note in report.notes) == 2


def test_neurons_of_a_layer_that_is_left_out_are_not_of_the_one_before() -> None:
    def forward(net: Any, x: Tensor, step: int) -> Any:
        return net.fire(net.b(net.a(x)))

    for options in ({"cores": {"a": 1}}, {"cores": sm.Cores(8), "exclude": "b"}):
        report = run_parts(forward, **options)
        assert report.cores["core0"].events_out is None


def test_updates_are_counted_where_neurons_run() -> None:
    def forward(net: Any, x: Tensor, step: int) -> Any:
        out = net.a(x)
        return net.fire(out) if step == 1 else out

    report = run_parts(forward, {"a": 2})
    updates = report.cores["core0"].updates
    assert updates is None or updates.per_step.tolist() == [0.0, 3.0, 0.0]


def test_what_named_cores_hold_adds_up_over_layers_wherever_they_ran() -> None:
    mapping = {"x": {"a": range(2), "b": range(4)}, "y": {"a": range(2, 6), "b": range(4, 6)}}
    parts = [
        sm.Monitor(Parts(forward), cores=mapping, **DIMS)
        for forward in (lambda n, x, s: n.fire(n.a(x)), lambda n, x, s: n.fire(n.b(x)))
    ]
    for part in parts:
        part.run([torch.ones(2, 2, 6)])
    parts[0].merge_state(parts[1])
    report = parts[0].compute()
    rows = [report.cores[name] for name in ("x", "y")]
    assert [row.layers for row in rows] == [("a", "b")] * 2
    assert [(row.neurons, row.synapses, row.axons) for row in rows] == [(6, 36, 12), (6, 36, 12)]


def test_time_is_not_known_if_it_is_not_of_every_batch() -> None:
    def forward(net: Any, x: Tensor, step: int) -> Any:
        return net.a(x)

    model = Parts(forward)
    monitor = sm.Monitor(model, cores=sm.Cores(8, seconds_per_synop=1.0), **DIMS)
    with torch.no_grad(), monitor:
        model(torch.ones(2, 2, 6))
        assert monitor.compute().cores.seconds is not None
        model.does = lambda net, x, step: net.a(x) if step == 0 else x
        model(torch.ones(2, 2, 6))
    report = monitor.compute()
    assert report.cores.seconds is None
    assert any("no time per sample on cores" in note for note in report.notes)


def test_sizes_that_vary_leave_no_loads() -> None:
    conv = nn.Conv1d(1, 2, 3, padding=1)
    monitor = sm.Monitor(conv, cores=sm.Cores(64), **DIMS)
    with torch.no_grad(), monitor:
        for size in (4, 8):
            with monitor.batch(samples=2, steps=1):
                conv(torch.ones(2, 1, size))
    report = monitor.compute()
    assert report.cores["core0"].synops is None
    assert any("because the size of its output varied" in note for note in report.notes)


def test_layers_that_did_not_run_are_named() -> None:
    report = run_parts(lambda net, x, step: net.a(x), {"a": 1, "c": 1})
    assert any(note == "cores: layers that did not run or are excluded: c" for note in report.notes)


@pytest.mark.parametrize("name", ["conv", "total", "front"])
def test_names_of_cores_must_be_their_own(name: str) -> None:
    with pytest.raises(
        ValueError, match="expected names of cores that differ from modules and groups"
    ):
        sm.Monitor(Net(), cores={name: {"fc": range(6)}}, groups={"front": ["conv"]}, **DIMS)
