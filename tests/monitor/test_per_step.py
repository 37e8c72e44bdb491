"""Figures of time steps, against every sample run alone, step by step, with weights of one."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.report.curve import Curve
from tests.helpers.ranks import Ranks, results_of
from tests.integration.models import CASES, Case
from tests.monitor.test_per_sample import (
    LAYERS,
    LAYOUTS,
    SCALE,
    Counts,
    Net,
    alone,
    images,
    spikes,
)

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def measured(layout: str, *batches: Tensor, **options: Any) -> sm.Report:
    """A report of batches ``(T, B, ...)``, given to the network as it takes them."""
    net, batch_first = Net(layout), layout[0] == "B"
    dims: dict[str, Any] = {"batch_dim": 0, "time_dim": 1}
    if not batch_first:
        dims = {} if layout == "outside" else {"batch_dim": 1, "time_dim": 0}
    options = {"per_step": True, "input_scale": SCALE} | options
    monitor = sm.Monitor(net, **dims, **options)
    with torch.no_grad(), monitor:
        for x in batches:
            net.reset()
            if layout != "outside":
                net(x.transpose(0, 1) if batch_first else x)
                continue
            with monitor.batch(samples=x.shape[1], steps=len(x)):
                for step in x:
                    net(step)
    return monitor.compute()


def expect(row: Any, name: str, *counts: np.ndarray[Any, Any]) -> None:
    """A row has these figures by step and sample, of batches that may differ in length."""
    steps = max(map(len, counts))
    for step in range(steps):
        values = np.concatenate([one[step] for one in counts if step < len(one)]).astype(float)
        mean, std, largest = (
            getattr(row, f"{name}_per_step{suffix}")[step] for suffix in ("", "_std", "_max")
        )
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert std == pytest.approx(values.std(), rel=1e-6, abs=1e-6)
        assert largest == values.max()
    assert len(getattr(row, f"{name}_per_step")) == steps


def expect_all(report: sm.Report, *batches: Counts) -> None:
    """So have all layers, and their total."""
    for name in batches[0]:
        expect(report.layers[name], "synops", *(counts[name] for counts in batches))
    expect(report.total, "synops", *(sum(counts.values()) for counts in batches))  # type: ignore[arg-type]


@every_layout
def test_figures_are_those_of_samples_run_alone(layout: str) -> None:
    x, y = images(3, 5), images(4, 2)
    counts = [alone(Net(layout), x), alone(Net(layout), y)]
    report = measured(layout, x, y, groups={"front": ["conv", "pooled"]})
    expect_all(report, *counts)
    expect(report.groups["front"], "synops", *(c["conv"] + c["pooled"] for c in counts))
    events = [part.flatten(2).sum(2).numpy() for part in (x, y)]
    expect(report.layers["conv"], "events", *events)
    for name in LAYERS:  # curves sum to the totals
        row, data = report.layers[name], report.layers_data[name]
        assert row.synops is not None
        assert data.curves["synops"].total.sum() / report.samples == pytest.approx(row.synops)
        assert data.curves["events"].total.sum() == report.counts()[name]["events"]


@every_layout
def test_batches_add_up(layout: str) -> None:
    x = images(samples=9)
    whole = measured(layout, x)
    cut = measured(layout, x[:, :4], x[:, 4:5], x[:, 5:5], x[:, 5:])
    for name, data in whole.layers_data.items():
        assert data.curves == cut.layers_data[name].curves
    assert whole.curves == cut.curves


def test_beside_figures_of_samples() -> None:
    x = images()
    both = measured("inside", x, per_sample=True)
    assert both.curves == measured("inside", x).curves
    assert both.total.peak_step == both.total.synops_per_step_max.max()


class Cell(nn.Module):
    """Neurons that fire where their input is positive."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


sm.register_neuron(Cell, lead="B")


class Spiking(nn.Module):
    """Two layers with neurons; the first takes analog values, a readout comes once at the end."""

    def __init__(self, readout: bool = False) -> None:
        super().__init__()
        self.fc, self.cell, self.out = nn.Linear(6, 4), Cell(), nn.Linear(4, 3)
        self.readout = nn.Linear(3, 2) if readout else None

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([self.out(self.cell(self.fc(step))) for step in x])
        return found if self.readout is None else self.readout((found > 0).float().amax(0))


DIMS: Any = {"batch_dim": 1, "time_dim": 0}


def test_firing_rates_of_neurons_and_events_of_analog_input() -> None:
    model, x = Spiking(), torch.rand(4, 3, 6)
    x[x < 0.3] = 0
    monitor = sm.Monitor(model, per_step=True, dt=0.5, **DIMS)
    report = monitor.run([x])
    fired = (model.fc(x) > 0).double()
    expect(report.neurons["cell"], "firing_rate", fired.mean(2).numpy() / 0.5)
    first = report.layers["fc"]
    assert first.synops_per_step is None
    expect(first, "events", x.ne(0).sum(2).numpy())
    expect(report.layers["out"], "synops", fired.sum(2).numpy() * 3)
    assert report.total.synops_per_step is not None
    assert torch.equal(report.total.synops_per_step, report.layers["out"].synops_per_step)
    events = x.ne(0).sum(2) + fired.sum(2)
    expect(report.total, "events", events.numpy())


def test_what_is_called_once_for_all_steps_has_no_step() -> None:
    report = sm.Monitor(Spiking(readout=True), per_step=True, **DIMS).run([spikes(4, 3, 6)])
    assert report.layers["out"].synops_per_step is not None
    assert report.layers["readout"].synops_per_step is None
    assert report.total.synops_per_step is None
    assert report.total.events_per_step is None


def test_a_layer_called_in_some_batches_has_zeros_for_the_other_samples() -> None:
    model = Spiking()
    monitor = sm.Monitor(model, per_step=True, **DIMS)
    x, y = spikes(4, 3, 6), spikes(4, 2, 6)
    with monitor:
        model(x)
        with torch.no_grad():
            model.out, kept = nn.Identity(), model.out  # type: ignore[assignment]
            model(y)
            model.out = kept
    report = monitor.compute()
    fired = (model.fc(x) > 0).sum(2).numpy() * 3.0
    expect(report.layers["out"], "synops", fired, np.zeros((4, 2)))


def test_time_must_be_known() -> None:
    layer = nn.Linear(6, 4)
    monitor = sm.Monitor(layer, batch_dim=0, per_step=True)
    with monitor, pytest.raises(ValueError, match="per_step: expected a known number of time"):
        layer(torch.ones(2, 6))
    report = sm.Monitor(layer, batch_dim=0, steps=1, per_step=True).run([torch.ones(2, 6)])
    assert report.layers["Linear"].synops_per_step.tolist() == [24.0]
    with pytest.raises(ValueError, match="per_step: expected batch_dim and time_dim"):
        sm.Monitor(layer, batch_dim=2, time_dim=0, per_step=True)
    with pytest.raises(TypeError, match="per_step"):
        sm.Monitor(layer, batch_dim=0, per_step=1)  # type: ignore[arg-type]


def test_without_the_option_there_are_none() -> None:
    report = measured("inside", images(), per_step=False)
    row = report.layers["conv"]
    assert (row.synops_per_step, row.events_per_step_max, report.curves) == (None, None, {})


def test_saved_resumed_copied_and_merged() -> None:
    x, y = images(3, 4), images(5, 2)
    whole = measured("inside", x, y)
    assert sm.Report.from_json(whole.to_json()) == whole
    assert copy.deepcopy(whole) == whole
    merged = measured("inside", x).merge(measured("inside", y))
    assert merged.curves == whole.curves
    assert {n: d.curves for n, d in merged.layers_data.items()} == {
        n: d.curves for n, d in whole.layers_data.items()
    }
    mixed = measured("inside", x).merge(measured("inside", y, per_step=False))
    assert mixed.layers["conv"].synops_per_step is None
    options: Any = {"per_step": True, "input_scale": SCALE} | DIMS
    first, second = (sm.Monitor(Net("inside"), **options) for _ in range(2))
    report = first.run([x])
    second.load_state_dict(first.state_dict())
    assert second.compute() == report
    second.merge_state(first)
    assert second.compute().curves["synops"].samples.tolist() == [8.0] * 3


def test_merged_reports_are_those_of_all_batches_where_a_layer_is_analog_in_some() -> None:
    model = Spiking()
    options: Any = {"per_step": True, "groups": {"first": ["fc"], "second": ["out"]}} | DIMS
    x, y = spikes(4, 3, 6), torch.rand(3, 2, 6)
    whole = sm.Monitor(model, **options).run([x, y])
    parts = [sm.Monitor(model, **options).run([one]) for one in (x, y)]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert merged.curves == whole.curves
        assert list(merged.curves) == ["events"]
        for kept in ("layers_data", "groups_data"):
            mine, theirs = getattr(merged, kept), getattr(whole, kept)
            assert {n: d.curves for n, d in mine.items()} == {n: theirs[n].curves for n in mine}
        assert list(merged.layers_data["fc"].curves) == ["events"]
        assert list(merged.groups_data["second"].curves) == ["synops", "events"]
        assert "fc,layer,synops" not in merged.to_csv("steps")


def test_sums_that_leave_out_synops_in_one_report_leave_them_out_merged() -> None:
    model, x, y = Spiking(), spikes(4, 3, 6), torch.rand(3, 2, 6)
    options: Any = {"per_step": True, "groups": {"all": ["fc", "out"]}} | DIMS
    mixed = sm.Monitor(model, **options).run([x, y])
    analog = sm.Monitor(model, **options).run([y])
    assert mixed.total.synops_per_step is None
    assert analog.total.synops_per_step is not None
    for merged in (mixed.merge(analog), analog.merge(mixed)):
        assert merged.total.synops_per_step is None
        assert merged.groups["all"].synops_per_step is None
        assert merged.layers["out"].synops_per_step is not None
        assert merged.total.events_per_step is not None


def test_reports_of_the_version_before_are_read() -> None:
    report = measured("inside", images(), per_step=False, per_sample=True)
    old = json.loads(report.to_json()) | {"version": 4}
    del old["curves"]
    for rows in ("layers", "groups", "neurons"):
        for row in old[rows].values():
            del row["curves"]
    assert sm.Report.from_json(json.dumps(old)) == report
    for version in (3, 7, "4", None):
        with pytest.raises(ValueError, match="version"):
            sm.Report.from_json(json.dumps(old | {"version": version}))


@pytest.mark.parametrize(
    ("name", "change"),
    [("total", [1.0]), ("samples", [[1.0, 2.0, 3.0]]), ("timed", 1), ("largest", None)],
)
def test_curves_that_cannot_be_are_refused(name: str, change: Any) -> None:
    data = json.loads(measured("inside", images()).to_json())
    curve = data["layers"]["conv"]["curves"]["synops"]
    if isinstance(change, list):
        change = {"shape": list(torch.tensor(change).shape), "values": [1.0] * len(change)}
    curve[name] = change
    with pytest.raises(ValueError, match=r"layers\.conv\.curves"):
        sm.Report.from_json(json.dumps(data))


def _share(layout: str, *batches: Tensor) -> sm.Report:
    return measured(layout, *batches, groups={"front": ["conv", "pooled"]})


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("layout", ["outside", "BT"])
def test_two_processes_have_the_report_of_one(two_ranks: Ranks, layout: str) -> None:
    """With shares that differ in length, and one without a sample."""
    x, y = images(3, 4), images(5, 2)
    for shares in ([(layout, x), (layout, y)], [(layout, x, y), (layout,)]):
        for report in results_of(two_ranks.run(_share, shares)):
            expect_all(report, alone(Net(layout), x), alone(Net(layout), y))
            assert report.curves == _share(layout, x, y).curves


def test_memory_does_not_grow_with_batches() -> None:
    model, x = Spiking(), spikes(4, 3, 6)
    monitor = sm.Monitor(model, per_step=True, **DIMS)
    with torch.no_grad(), monitor:
        sizes = []
        for _ in range(4):
            model(x)
            sizes.append({n: t.shape for n, t in monitor.state_dict()["tensors"].items()})
    assert sizes[0] == sizes[1] == sizes[3]


def test_compiled_models_run_eagerly_and_say_so() -> None:
    model, x = Spiking(), spikes(4, 3, 6)
    monitor = sm.Monitor(model, per_step=True, **DIMS)
    compiled: Any = torch.compile(model, backend="eager")
    with torch.no_grad(), monitor:
        compiled(x)
    report = monitor.compute()
    assert "compiled parts ran eagerly, since per_step was given" in report.notes
    assert report.curves == sm.Monitor(model, per_step=True, **DIMS).run([x]).curves


def test_products_of_activations() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([step @ step.transpose(-2, -1) for step in x])

    x = spikes(3, 2, 4, 5)
    report = sm.Monitor(Attends(), per_step=True, **DIMS).run([x])
    (row,) = report.layers.values()
    both = torch.einsum("tbif,tbjf->tb", x.double(), x.double())
    expect(row, "synops", both.numpy())
    expect(row, "events", x.flatten(2).sum(2).numpy())


def test_neurons_that_emit_booleans() -> None:
    class Boolean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x > 0.5

    sm.register_neuron(Boolean, lead="TB")
    x = spikes(4, 3, 6)
    report = sm.Monitor(nn.Sequential(Boolean()), per_step=True, **DIMS).run([x])
    expect(report.neurons["0"], "firing_rate", x.double().mean(2).numpy())


_ORDERS = ((0, None), (0, 1), (1, 0))
_ZOO = [case for case in CASES if (case.batch_dim, case.time_dim) in _ORDERS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", _ZOO, ids=lambda case: case.name)
def test_what_is_kept_of_steps_adds_up_to_the_counts_of_every_model(case: Case) -> None:
    """Curves, loads of cores, and stops at the last step; where steps are not known, it is said."""
    x, model = case.inputs(), case.model()
    steps = 1 if case.time_dim is None else x.shape[case.time_dim]
    samples, cores = x.shape[case.batch_dim], sm.Cores(neurons_per_core=64)
    options: Any = {"per_step": True, "per_sample": True, "cores": cores} | case.declared
    dims: Any = {"batch_dim": case.batch_dim, "time_dim": case.time_dim}
    monitor = sm.Monitor(model, **dims, **options)
    with torch.no_grad(), monitor, monitor.batch(samples, steps) as batch:
        case.run(model, x)
        batch.until([steps] * samples)
    report = monitor.compute()
    for name, data in report.layers_data.items():
        counts, row = report.counts()[name], report.layers[name]
        for figure, curve in data.curves.items():
            assert not curve.timed or curve.total.sum() == pytest.approx(counts[figure])
        loads = [core.synops for core in report.cores.values() if core.layers == (name,)]
        assert bool(loads) == (data.operation.weight_shape is not None)
        if None in loads:
            assert any(note.startswith(f"{name}: no core loads, ") for note in report.notes)
        elif loads:
            total = sum(load.mean for load in loads if load is not None) * steps * samples
            assert total == pytest.approx(counts["effective_synops"])
        if report.until is not None:
            until = report.until.layers[name]
            assert (until.acs, until.macs) == (pytest.approx(row.acs), pytest.approx(row.macs))
    for layer in report.neurons_data.values():
        curve = layer.curves["spikes"]
        assert not curve.timed or curve.total.sum() == pytest.approx(layer.spikes)


def test_an_untimed_curve_has_no_steps() -> None:
    known = Curve.of(torch.ones(2, 3, dtype=torch.float64))
    unknown = Curve.of(torch.ones(1, 3, dtype=torch.float64), timed=False)
    assert not known.add(unknown).timed
    assert unknown.add(known).samples.numel() == 0
    assert known.std.tolist() == [0.0, 0.0]
