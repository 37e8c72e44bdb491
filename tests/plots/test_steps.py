"""Figures over time steps and loads of cores: what is drawn and exported is what the report has."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics import plots
from tests.monitor.test_cores import OWN, batches, measured
from tests.monitor.test_per_step import DIMS, Spiking

pytest.importorskip("matplotlib")


def report(**options: Any) -> sm.Report:
    torch.manual_seed(0)
    monitor = sm.Monitor(Spiking(), per_step=True, groups={"all": ["fc", "out"]}, **DIMS, **options)
    return monitor.run([(torch.rand(6, 4, 6) < 0.5).float(), (torch.rand(3, 2, 6) < 0.5).float()])


def test_lines_are_the_means_and_bands_one_deviation() -> None:
    found = report()
    _, ax = plots.over_steps(found)
    assert [line.get_label() for line in ax.lines] == ["fc", "out"]
    for line, band, name in zip(ax.lines, ax.collections, ("fc", "out"), strict=True):
        row = found.layers[name]
        assert row.synops_per_step is not None
        assert line.get_ydata().tolist() == row.synops_per_step.tolist()
        assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
        top = (row.synops_per_step + row.synops_per_step_std).max().item()
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top)


def test_other_figures_and_rows() -> None:
    found = report(dt=0.5)
    _, ax = plots.over_steps(found, "firing_rate")
    rate = found.neurons["cell"].firing_rate_per_step
    assert rate is not None
    assert ax.lines[0].get_ydata().tolist() == rate.tolist()
    _, ax = plots.over_steps(found, "events", ["total", "all"])
    assert found.total.events_per_step is not None
    assert ax.lines[0].get_ydata().tolist() == found.total.events_per_step.tolist()


def test_what_cannot_be_drawn_over_steps() -> None:
    found = report()
    with pytest.raises(ValueError, match="figure: expected one of"):
        plots.over_steps(found, "acs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names: expected rows with synops of each time step"):
        plots.over_steps(found, names=["lif"])
    plain = sm.Monitor(nn.Linear(6, 2), batch_dim=0).run([torch.ones(2, 6)])
    with pytest.raises(ValueError, match="per_step=True"):
        plots.over_steps(plain)
    with pytest.raises(TypeError, match="report"):
        plots.over_steps(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("largest", [True, False])
def test_a_map_of_cores_has_their_loads(largest: bool) -> None:
    found = measured(OWN, *batches())
    _, ax = plots.core_loads(found, "events_in", largest=largest)
    for line, name in zip(ax.images[0].get_array(), ("north", "south"), strict=True):
        load = found.cores[name].events_in
        assert load is not None
        assert line.tolist() == (load.per_step_max if largest else load.per_step).tolist()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["north", "south"]


def test_what_cannot_be_drawn_of_cores() -> None:
    found = measured({"out": 1}, *batches())
    with pytest.raises(ValueError, match="expected cores with events_out"):
        plots.core_loads(found, "events_out")
    with pytest.raises(ValueError, match="load: expected one of"):
        plots.core_loads(found, "acs")  # type: ignore[arg-type]


def test_tables_in_long_form() -> None:
    pandas = pytest.importorskip("pandas")
    found = report(dt=0.5)
    table = found.to_pandas("steps").reset_index()
    assert isinstance(table, pandas.DataFrame)

    def column(name: str, figure: str, value: str) -> list[float]:
        lines = table[(table["name"] == name) & (table["figure"] == figure)]
        assert lines["step"].tolist() == list(range(1, len(lines) + 1))
        return lines[value].tolist()  # type: ignore[no-any-return]

    def listed(values: Tensor | None) -> list[float]:
        assert values is not None
        return values.tolist()  # type: ignore[no-any-return]

    layer, cell = found.layers["out"], found.neurons["cell"]
    assert column("out", "synops", "mean") == listed(layer.synops_per_step)
    assert column("out", "events", "max") == listed(layer.events_per_step_max)
    assert column("total", "synops", "std") == listed(found.total.synops_per_step_std)
    assert column("cell", "firing_rate", "mean") == listed(cell.firing_rate_per_step)
    assert column("all", "synops", "samples") == [6, 6, 6, 4, 4, 4]
    assert set(table["of"]) == {"layer", "group", "total", "neurons"}
    cores = measured(OWN, *batches())
    lines = cores.to_pandas("cores")
    south = cores.cores["south"]
    assert south.synops is not None
    assert lines.loc["south", "synops_max"] == south.synops.max
    assert lines.loc["south", "axons"] == south.axons
    assert "south" in str(cores)
    assert math.isclose(lines.loc["south", "synops_p99"], south.synops.p99)


def test_reports_without_them_have_no_such_tables() -> None:
    plain = sm.Monitor(nn.Linear(6, 2), batch_dim=0).run([torch.ones(2, 6)])
    for table in ("steps", "cores"):
        with pytest.raises(ValueError, match="expected 'layers' or 'groups' or 'neurons'"):
            plain.to_csv(table)
