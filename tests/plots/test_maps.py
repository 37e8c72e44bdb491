from __future__ import annotations

from typing import Any

import pytest
import torch

import snnmetrics as sm
from snnmetrics import plots


def test_channels_are_summed_and_positions_kept() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)
    _, ax = plots.synops_map(values)
    image = ax.images[0]
    assert image.get_array().tolist() == (values[0] + values[1]).tolist()
    assert image.get_clim() == (0, 11 + 23)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column", "row")
    assert image.colorbar.ax.get_ylabel() == "synops per sample"
    assert plots.synops_map(values.reshape(2, 1, 3, 4))[1].images[0].get_array().shape == (3, 4)
    assert plots.synops_map(values[0])[1].images[0].get_array().tolist() == values[0].tolist()


@pytest.mark.parametrize("neurons", [1, 7, 5000])
def test_neurons_without_a_place_are_in_their_order(neurons: int) -> None:
    values = torch.rand(neurons, dtype=torch.float64)
    _, ax = plots.synops_map(values)
    steps = ax.patches[0].get_data()
    assert steps.values.tolist() == values.tolist()
    assert steps.edges.tolist() == [i - 0.5 for i in range(neurons + 1)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("neuron", "synops per sample")
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_silence_has_the_lowest_colour() -> None:
    figure, ax = plots.synops_map(torch.zeros(2, 3, 3))
    figure.draw_without_rendering()
    assert ax.images[0].get_clim() == (0, 1)
    assert plots.synops_map(torch.zeros(3))[1].get_ylim() == (0, 1)


def test_a_narrow_map_fills_the_axes() -> None:
    assert plots.synops_map(torch.ones(3, 4))[1].get_aspect() == 1
    assert plots.synops_map(torch.ones(3, 100))[1].get_aspect() == "auto"


def test_the_map_of_a_report_is_the_one_of_the_metric() -> None:
    layer, spikes = torch.nn.Conv2d(2, 4, 3), (torch.rand(6, 2, 5, 5) < 0.3).float()
    synops = sm.SynOps(sm.fanout(layer, (2, 5, 5)))
    synops.update(spikes)
    report = sm.Monitor(layer, batch_dim=0, per_neuron=True).run([spikes])
    _, of_metric = synops.plot()
    _, of_report = plots.synops_map(report.layers["Conv2d"].synops_per_neuron)
    expected = synops.compute()["synops_per_neuron"].sum(0).tolist()
    assert of_metric.images[0].get_array().tolist() == expected
    assert of_report.images[0].get_array().tolist() == expected


def test_a_missing_map_says_how_to_get_it() -> None:
    layer = torch.nn.Linear(4, 3)
    report = sm.Monitor(layer, batch_dim=0).run([torch.ones(2, 4)])
    with pytest.raises(ValueError, match=r"Monitor\(\.\.\., per_neuron=True\)"):
        plots.synops_map(report.layers["Linear"].synops_per_neuron)


@pytest.mark.parametrize("values", [3.0, [1.0], "map"])
def test_what_is_no_tensor_is_refused(values: Any) -> None:
    with pytest.raises(TypeError, match="values: expected a tensor"):
        plots.synops_map(values)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_no_neurons_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="values: expected a map"):
        plots.synops_map(torch.ones(shape))
