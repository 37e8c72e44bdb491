from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

import snnmetrics as sm
from snnmetrics import plots
from tests.helpers.toy import Fire
from tests.report import made


def bars(ax: Axes) -> tuple[list[float], list[float]]:
    """Edges and heights of the bars on the logarithmic axis."""
    found = ax.containers[0]
    left = [bar.get_x() for bar in found]
    return [*left, found[-1].get_x() + found[-1].get_width()], [b.get_height() for b in found]


def zeros(ax: Axes) -> float:
    return sum(bar.get_height() for container in ax.containers[1:] for bar in container)


def test_rates_are_counted_in_bins_of_equal_ratio() -> None:
    rates = torch.exp(torch.randn(20, 15, dtype=torch.float64) - 3)
    rates[0, :7] = 0
    _, ax = plots.rate_histogram(rates)
    edges, heights = bars(ax)
    spiking = rates[rates > 0].numpy()
    assert np.diff(np.log(edges)).tolist() == pytest.approx([np.diff(np.log(edges)).mean()] * 32)
    assert (edges[0], edges[-1]) == pytest.approx((spiking.min(), spiking.max()), rel=1e-12)
    inner = [-math.inf, *edges[1:-1], math.inf]
    assert heights == np.histogram(spiking, inner)[0].tolist()
    assert (sum(heights), zeros(ax)) == (293, 7)
    assert ax.get_xscale() == "log"
    assert ax.get_legend().get_texts()[0].get_text() == "silent: 7 of 300 neurons"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("firing rate [1/step], log scale", "neurons")


def test_the_bar_of_silent_neurons_is_apart_and_called_zero() -> None:
    figure, ax = plots.rate_histogram(torch.tensor([0.0, 0.1, 0.5, 0.9]))
    figure.draw_without_rendering()
    silent = ax.containers[1][0]
    assert silent.get_x() + silent.get_width() < bars(ax)[0][0]
    labels = {text.get_text(): text.get_position()[0] for text in ax.get_xticklabels()}
    assert silent.get_x() < labels["0"] < silent.get_x() + silent.get_width()
    assert silent.get_hatch()


@pytest.mark.parametrize("rates", [[0.0, 0.0], [0.2], [0.2, 0.2, 0.0], [0.1, 0.11], [1e-5, 40.0]])
def test_few_neurons(rates: list[float]) -> None:
    figure, ax = plots.rate_histogram(torch.tensor(rates))
    figure.draw_without_rendering()
    assert sum(bar.get_height() for bar in ax.patches) == len(rates)
    texts = [text for text in ax.get_xticklabels() if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert texts
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize(
    ("rates", "error"),
    [
        (None, "FiringRate"),
        (torch.ones(0), "none"),
        (torch.tensor([-0.1]), "others"),
        (torch.tensor([math.nan]), "others"),
    ],
)
def test_what_is_no_rate_is_refused(rates: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        plots.rate_histogram(rates)
    with pytest.raises(TypeError, match="rates: expected a tensor"):
        plots.rate_histogram([0.1])  # type: ignore[arg-type]


def test_rates_of_a_report_are_those_of_the_metric() -> None:
    sm.register_neuron(Fire, lead="BT")
    model, x = torch.nn.Sequential(torch.nn.Linear(6, 9), Fire(1.0)), torch.randn(5, 8, 6) * 3
    monitor = sm.Monitor(model, batch_dim=0, time_dim=1, dt=0.001, per_neuron=True)
    row = monitor.run([x]).neurons["1"]
    metric = sm.FiringRate(dt=0.001, per_neuron=True)
    metric.update(model(x).detach())
    expected = metric.compute()
    torch.testing.assert_close(
        row.firing_rate_per_neuron, expected["firing_rate_per_neuron"], rtol=1e-12, atol=0
    )
    assert expected["firing_rate"].item() > 0
    assert bars(plots.rate_histogram(row.firing_rate_per_neuron, unit="Hz")[1]) == bars(
        metric.plot()[1]
    )
    without = sm.Monitor(model, batch_dim=0, time_dim=1).run([x]).neurons["1"]
    with pytest.raises(ValueError, match=r"Monitor\(\.\.\., per_neuron=True\)"):
        plots.rate_histogram(without.firing_rate_per_neuron)


def measured(samples: int, **kwargs: Any) -> tuple[sm.Report, torch.Tensor]:
    """Of a linear layer with a fan-out of 5, and the synops of its samples by multiplication."""
    spikes = (torch.rand(samples, 1, 40) < torch.rand(samples, 1, 1) * 0.5).float()
    monitor = sm.Monitor(torch.nn.Linear(40, 5), batch_dim=0, time_dim=1, per_sample=True, **kwargs)
    return monitor.run([spikes]), spikes.sum((1, 2)) * 5


def test_every_sample_is_in_the_bar_of_its_synops() -> None:
    report, synops = measured(300)
    _, ax = plots.sample_spread(report)
    edges, heights = bars(ax)
    assert sum(heights) + zeros(ax) == 300
    assert zeros(ax) == (synops == 0).sum()
    # Edges belong to the bar below; a bar's upper edge may be rounded at the last digit.
    for low, high, height in zip(edges, edges[1:], heights, strict=False):
        inside = (synops > low * (1 + 1e-9)) & (synops <= high * (1 + 1e-9))
        assert height == inside.sum()
    assert edges[0] <= synops[synops > 0].min() <= synops.max() <= edges[-1] * (1 + 1e-9)


def test_the_budget_and_its_statistic_are_lines() -> None:
    report, synops = measured(200)
    _, ax = plots.sample_spread(report, limit=sm.Limit(synops=123, statistic="p90"))
    lines = {str(line.get_label()).partition(":")[0]: line.get_xdata()[0] for line in ax.lines}
    assert lines == {
        "mean": pytest.approx(synops.double().mean().item()),
        "p90": report.total.percentiles[90],
        "limit of p90": 123,
    }
    _, ax = plots.sample_spread(report, "Linear", sm.Limit(synops=1e6, statistic="max"))
    assert ax.lines[1].get_xdata()[0] == synops.max().item()
    assert ax.get_xlim()[1] > 1e6, "the budget is within the picture"
    assert ax.get_xlabel() == "synops per sample (Linear), log scale"
    _, ax = plots.sample_spread(report, limit=sm.Limit(synops=50))
    assert [str(line.get_label()).split(":")[0] for line in ax.lines] == ["mean", "limit of mean"]


def test_a_budget_per_second_shows_figures_per_second() -> None:
    report, synops = measured(50, dt=0.01)
    _, ax = plots.sample_spread(report, limit=sm.Limit(synops_per_second=2e4, statistic="max"))
    assert ax.lines[1].get_xdata()[0] == pytest.approx(synops.max().item() / 0.01)
    assert ax.get_xlabel() == "synops per second, of each sample (total), log scale"


def test_samples_without_any_spike() -> None:
    monitor = sm.Monitor(torch.nn.Linear(4, 5), batch_dim=0, per_sample=True)
    report = monitor.run([torch.zeros(3, 4)])
    figure, ax = plots.sample_spread(report, limit=sm.Limit(synops=10))
    figure.draw_without_rendering()
    assert sum(bar.get_height() for bar in ax.patches) == 3


def test_groups_have_a_picture() -> None:
    _, ax = plots.sample_spread(made.full_report(), "core")
    assert sum(bars(ax)[1]) == 2


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"name": "conv9"}, "name: expected one of"),
        ({"name": "image"}, "analog layers have none"),
        ({"limit": sm.Limit(synops=1, statistic="peak_step")}, "one per time step"),
        ({"limit": sm.Limit(synops=1, synops_per_second=2)}, "found both"),
    ],
)
def test_figures_that_are_not_there(kwargs: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        plots.sample_spread(made.full_report(), **kwargs)


def test_a_report_without_figures_of_samples_says_how_to_get_them() -> None:
    with pytest.raises(ValueError, match="per_sample=True"):
        plots.sample_spread(made.report())
    report, _ = measured(5)
    with pytest.raises(ValueError, match="dt="):
        plots.sample_spread(report, limit=sm.Limit(synops_per_second=1))
    with pytest.raises(TypeError, match="limit: expected a Limit"):
        plots.sample_spread(report, limit=5)  # type: ignore[arg-type]
