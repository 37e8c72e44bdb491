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


def test_lines_are_the_means_and_maxima_and_bands_one_deviation() -> None:
    found = report()
    _, ax = plots.over_steps(found)
    means, maxima, (key,) = ax.lines[:2], ax.lines[2:4], ax.lines[4:]
    assert [line.get_label() for line in means] == ["fc", "out"]
    for line, thin, band, name in zip(means, maxima, ax.collections, ("fc", "out"), strict=True):
        row = found.layers[name]
        assert row.synops_per_step is not None
        assert row.synops_per_step_max is not None
        assert line.get_ydata().tolist() == row.synops_per_step.tolist()
        assert thin.get_ydata().tolist() == row.synops_per_step_max.tolist()
        assert thin.get_linewidth() < line.get_linewidth()
        assert thin.get_color() == line.get_color()
        assert line.get_xdata().tolist() == thin.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
        top = (row.synops_per_step + row.synops_per_step_std).max().item()
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top)
    assert ax.get_legend().get_texts()[-1].get_text() == key.get_label() == "maximum"


class Deep(nn.Module):
    """Layers of 1, 2, ... outputs; the first one is called as the row of sums."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        for outputs in range(1, layers + 1):
            self.add_module("total" if outputs == 1 else f"fc{outputs}", nn.Linear(4, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.cat([f(step) for f in self.children()], -1) for step in x])


def test_a_layer_called_total_is_drawn_as_itself() -> None:
    found = sm.Monitor(Deep(2), per_step=True, **DIMS).run([torch.ones(3, 2, 4)])
    for names in (None, ["total", "fc2"]):
        _, ax = plots.over_steps(found, names=names)
        assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [[4.0] * 3, [8.0] * 3]


def test_of_many_lines_the_legend_names_the_first_and_the_last() -> None:
    found = sm.Monitor(Deep(9), per_step=True, **DIMS).run([torch.ones(30, 2, 4)])
    _, ax = plots.over_steps(found)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["total", "fc9", "maximum"]
    assert [line.get_ydata()[0] for line in ax.lines[:9]] == [4.0 * n for n in range(1, 10)]
    assert ax.lines[0].get_marker() == "None"


def test_other_figures_and_rows() -> None:
    found = report(dt=0.5)
    _, ax = plots.over_steps(found, "firing_rate")
    rate = found.neurons["cell"].firing_rate_per_step
    assert rate is not None
    assert ax.lines[0].get_ydata().tolist() == rate.tolist()
    assert ax.get_ylabel() == "firing rate [Hz]"
    _, ax = plots.over_steps(report(), "firing_rate")
    assert ax.get_ylabel() == "firing rate [1/step]"
    _, ax = plots.over_steps(found, "events", ["total", "all"])
    assert found.total.events_per_step is not None
    assert ax.lines[0].get_ydata().tolist() == found.total.events_per_step.tolist()


def test_what_cannot_be_drawn_over_steps() -> None:
    found = report()
    with pytest.raises(ValueError, match="figure: expected one of"):
        plots.over_steps(found, "acs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names: expected rows with synops per time step"):
        plots.over_steps(found, names=["lif"])
    plain = sm.Monitor(nn.Linear(6, 2), batch_dim=0).run([torch.ones(2, 6)])
    with pytest.raises(ValueError, match="per_step=True"):
        plots.over_steps(plain)
    with pytest.raises(ValueError, match="names: expected at least one of"):
        plots.over_steps(found, names=[])
    with pytest.raises(ValueError, match=r"found 'fc': .*layers have none, neurons do"):
        plots.over_steps(found, "firing_rate", ["fc"])
    analog = sm.Monitor(nn.Linear(6, 2), per_step=True, **DIMS).run([torch.rand(3, 2, 6)])
    with pytest.raises(
        ValueError, match=r"expected synops per time step, .*analog layers have none"
    ):
        plots.over_steps(analog)
    _, ax = plots.over_steps(analog, "events")
    assert ax.lines[0].get_ydata().tolist() == [6.0, 6.0, 6.0]
    once = sm.Monitor(Spiking(readout=True), per_step=True, **DIMS).run([torch.ones(3, 2, 6)])
    with pytest.raises(ValueError, match=r"found 'readout': .*covers several steps"):
        plots.over_steps(once, "events", ["readout"])
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


def test_layers_that_are_analog_and_steps_that_are_unknown_have_no_lines() -> None:
    pytest.importorskip("pandas")
    analog = sm.Monitor(nn.Linear(6, 2), per_step=True, **DIMS).run([torch.rand(3, 2, 6)])
    assert set(analog.to_pandas("steps")["figure"]) == {"events"}
    once = sm.Monitor(Spiking(readout=True), per_step=True, **DIMS).run([torch.ones(3, 2, 6)])
    assert set(once.to_pandas("steps").index) == {"fc", "out", "cell"}  # no readout, no total


def test_the_printed_report_says_in_one_line_that_steps_were_kept() -> None:
    found = report()
    for text in (str(found), found._repr_html_(), found.to_markdown()):
        assert text.count("over time steps:") == 1
    plain = sm.Monitor(Spiking(), **DIMS).run([torch.ones(3, 2, 6)])
    assert "over time steps:" not in str(plain)
