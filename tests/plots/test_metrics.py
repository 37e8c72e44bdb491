"""``plot`` of every metric, by torchmetrics' convention: one value, or several in a list."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torchmetrics import MetricCollection

import snnmetrics as sm
from tests.helpers.limits import SECONDS

SPIKES, TARGETS = (torch.rand(6, 5, 2, 4, 4) < 0.2).float(), torch.randint(0, 4, (6,))
DENSE = (torch.rand(6, 12, 2, 4, 4) < 0.5).float()
SCORES = torch.rand(6, 5, 4)
FIRST = SCORES * (SCORES > 0.6)

# Metric, what it is updated with, the entry that is drawn, and what the axis says of it.
CASES: list[tuple[Any, tuple[torch.Tensor, ...], str, str]] = [
    (lambda: sm.SynOps(3, time_dim=1), (SPIKES,), "synops", "synops per sample"),
    (
        lambda: sm.SynOps(3, 0.1, time_dim=1, per_neuron=False),
        (SPIKES,),
        "synops",
        "synops per sample",
    ),
    (sm.FiringRate, (SPIKES,), "", "firing rate [1/step]"),
    (lambda: sm.FiringRate(dt=0.01, per_neuron=True), (SPIKES,), "firing_rate", "firing rate [Hz]"),
    (sm.ActivationSparsity, (SPIKES,), "", "activation sparsity"),
    (sm.SilentNeurons, (SPIKES,), "silent_fraction", "fraction of neurons"),
    (
        lambda: sm.SilentNeurons(per_neuron=True),
        (SPIKES,),
        "silent_fraction",
        "fraction of neurons",
    ),
    (sm.MembraneUpdates, (SPIKES,), "", "membrane updates per sample"),
    (sm.IntervalStatistics, (DENSE,), "cv", "variation of interspike intervals"),
    (
        lambda: sm.ScalarView(sm.IntervalStatistics(dt=0.01), "mean_interval"),
        (DENSE,),
        "",
        "mean interspike interval [s]",
    ),
    (sm.FanoFactor, (DENSE,), "", "Fano factor"),
    (lambda: sm.FanoFactor(per_neuron=True), (DENSE,), "fano_factor", "Fano factor"),
    (
        lambda: sm.MembraneStatistics(window=(0.5, 1.5)),
        (DENSE,),
        "in_window",
        "share of potentials in the window",
    ),
    (sm.GradientStatistics, (DENSE,), "norm", "gradient norm"),
    (sm.TimeToFirstSpike, (FIRST, TARGETS), "time", "mean time to first spike [steps]"),
    (
        lambda: sm.TimeToFirstSpike(dt=0.01),
        (SPIKES,),
        "time",
        "mean time to first spike [s]",
    ),
    (sm.OptimalCutoff, (SCORES, SCORES.sum(1).argmax(1)), "steps", "mean number of time steps"),
    (lambda: sm.ScalarView(sm.SynOps(3, 0.1), "synops/s"), (SPIKES,), "", "synops per second"),
]


def number(value: Any, key: str) -> float:
    return float(value[key] if key else value)


@pytest.mark.parametrize(("make", "batch", "key", "label"), CASES)
def test_values_of_several_evaluations_are_a_line(
    make: Any, batch: tuple[torch.Tensor, ...], key: str, label: str
) -> None:
    metric, values = make(), []
    for part in range(1, 5):  # the first neurons or classes only, and ever more of them
        first = batch[0] * (torch.arange(1, batch[0].shape[-1] + 1) <= part)
        values.append(metric(first, *batch[1:]))
    figure, ax = metric.plot(values)
    assert isinstance(figure, Figure)
    assert isinstance(ax, Axes)
    line = ax.lines[0]
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    assert line.get_ydata().tolist() == [number(value, key) for value in values]
    assert len(set(line.get_ydata())) > 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("evaluation", label)
    figure.draw_without_rendering()


@pytest.mark.parametrize(("make", "batch", "key", "label"), CASES)
def test_axes_of_the_caller_are_drawn_on(
    make: Any, batch: tuple[torch.Tensor, ...], key: str, label: str
) -> None:
    metric = make()
    metric.update(*batch)
    figure, (left, right) = plt.subplots(1, 2)
    assert metric.plot(ax=left) == (figure, left)
    assert metric.plot(metric.compute(), right) == (figure, right)
    assert left.has_data()
    assert not plt.get_fignums()[1:], "no other figure was opened"


@pytest.mark.parametrize(
    ("metric", "batch", "key"),
    [
        (sm.SynOps(3, time_dim=1, per_neuron=False), SPIKES, "synops"),
        (sm.FiringRate(), SPIKES, ""),
        (sm.ActivationSparsity(), SPIKES, ""),
        (sm.MembraneUpdates(), SPIKES, ""),
        (sm.FanoFactor(), SPIKES, ""),
        (sm.TimeToFirstSpike(), SPIKES, "time"),
    ],
)
def test_one_number_is_a_point_with_its_value(metric: Any, batch: torch.Tensor, key: str) -> None:
    metric.update(batch)
    value = number(metric.compute(), key)
    _, ax = metric.plot()
    assert ax.lines[0].get_ydata().tolist() == [value]
    assert float(ax.texts[0].get_text()) == pytest.approx(value, rel=1e-3)
    assert ax.get_ylim()[0] <= 0, "what the numbers are measured from is in the picture"


def test_maps_of_synops_are_maps() -> None:
    metric = sm.SynOps(3, time_dim=1)
    metric.update(SPIKES)
    _, ax = metric.plot()
    expected = SPIKES.sum(1).mean(0).sum(0) * 3
    torch.testing.assert_close(torch.tensor(ax.images[0].get_array()), expected.double())
    flat = sm.SynOps(3)
    flat.update(SPIKES.sum(1).flatten(1))
    _, ax = flat.plot()
    values = flat.compute()["synops_per_neuron"]
    assert ax.patches[0].get_data().values.tolist() == values.tolist()


def test_rates_per_neuron_are_a_histogram() -> None:
    metric = sm.FiringRate(per_neuron=True)
    metric.update(SPIKES)
    _, ax = metric.plot()
    assert sum(bar.get_height() for bar in ax.patches) == 32
    assert ax.get_xlabel() == "firing rate [1/step], log scale"


def test_first_spikes_are_a_histogram_with_their_mean() -> None:
    metric, spikes = sm.TimeToFirstSpike(dt=0.01, per_neuron=True), SPIKES.flatten(2).clone()
    spikes[..., 3] = 0
    metric.update(spikes)
    value = metric.compute()
    _, ax = metric.plot()
    spiking = int((~value["time_per_neuron"].isnan()).sum())
    assert sum(bar.get_height() for bar in ax.patches) == spiking < 32
    assert ax.lines[0].get_xdata()[0] == value["time"].item()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[1] == f"never: {32 - spiking} of 32 neurons"
    silent = sm.TimeToFirstSpike(per_neuron=True)
    silent.update(torch.zeros(1, 2, 3))
    assert not silent.plot()[1].patches


def test_fano_factors_are_a_histogram_with_their_mean() -> None:
    metric, spikes = sm.FanoFactor(per_neuron=True), DENSE.clone()
    spikes[..., 0] = 0
    metric.update(spikes)
    _, ax = metric.plot()
    assert sum(bar.get_height() for bar in ax.patches) == 24
    assert ax.lines[0].get_xdata()[0] == metric.compute()["fano_factor"].item()
    assert ax.get_xlabel() == "Fano factor"
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[1] == "silent: 8 of 32 neurons"


def test_irregularity_is_three_points() -> None:
    metric = sm.IntervalStatistics()
    metric.update(DENSE)
    _, ax = metric.plot()
    value = metric.compute()
    assert [line.get_ydata()[0] for line in ax.lines] == [value[k] for k in ("cv", "cv2", "lv")]


def test_potentials_are_a_histogram_with_the_window() -> None:
    metric = sm.MembraneStatistics(window=(0.0, 2.0), bins=4, range=(-1.0, 3.0))
    metric.update(torch.tensor([[[-2.0, -0.5, 0.0, 1.0], [1.5, 2.5, 3.0, 4.0]]]))
    _, ax = metric.plot()
    window, bars = ax.patches
    assert (window.get_x(), window.get_x() + window.get_width()) == (0.0, 2.0)
    assert bars.get_data().edges.tolist() == metric.edges.tolist() == [-1, 0, 1, 2, 3]
    assert bars.get_data().values.tolist() == [1 / 8, 1 / 8, 2 / 8, 2 / 8]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["window", "below: 12.5 %, above: 12.5 %"]


def test_gradients_are_their_norms_over_the_steps() -> None:
    metric = sm.GradientStatistics()
    metric.update(torch.tensor([[[3.0, 4.0], [0.0, 100.0]]]))
    _, ax = metric.plot()
    assert ax.lines[0].get_xdata().tolist() == [1, 2]
    assert ax.lines[0].get_ydata().tolist() == [5, 100]
    assert (ax.get_xlabel(), ax.get_yscale()) == ("time step", "log")
    metric.update(torch.zeros(1, 2, 2))
    assert metric.plot()[1].get_yscale() == "log"
    metric.reset()
    metric.update(torch.zeros(1, 2, 2))
    assert metric.plot()[1].get_yscale() == "linear", "zero has no place on a logarithmic axis"


def test_both_fractions_of_neurons_are_shown() -> None:
    metric = sm.SilentNeurons()
    metric.update(SPIKES)
    _, ax = metric.plot()
    value = metric.compute()
    assert [line.get_ydata()[0] for line in ax.lines] == [
        value["silent_fraction"].item(),
        value["saturated_fraction"].item(),
    ]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "silent fraction",
        "saturated fraction",
    ]


def test_accuracy_over_time_is_a_curve_per_value() -> None:
    metric = sm.AccuracyOverTime()
    metric.update(SCORES, TARGETS)
    _, ax = metric.plot()
    assert ax.lines[0].get_ydata().tolist() == metric.compute().tolist()
    values = [metric(SCORES.roll(i, 2), TARGETS) for i in range(3)]
    _, ax = metric.plot(values)
    assert [line.get_ydata().tolist() for line in ax.lines] == [v.tolist() for v in values]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        f"evaluation {i}" for i in (1, 2, 3)
    ]


def test_early_exit_is_accuracy_against_steps_with_thresholds() -> None:
    metric = sm.EarlyExit([0.35, 0.26, 0.3])
    metric.update(SCORES, TARGETS)
    value = metric.compute()
    _, ax = metric.plot()
    order = value["steps"].argsort(stable=True)
    assert ax.lines[0].get_xdata().tolist() == value["steps"][order].tolist()
    assert ax.lines[0].get_ydata().tolist() == value["accuracy"][order].tolist()
    thresholds = [f"{metric.threshold[i]:.4g}" for i in order]
    assert [text.get_text() for text in ax.texts] == thresholds
    _, ax = metric.plot([value, value])
    assert len(ax.lines) == 2
    single = sm.EarlyExit(0.3)
    single.update(SCORES, TARGETS)
    _, ax = single.plot()
    assert ax.lines[0].get_xdata().tolist() == [single.compute()["steps"].item()]


def test_values_with_a_graph_can_be_drawn() -> None:
    metric, spikes = sm.SynOps(3), torch.rand(2, 5, requires_grad=True)
    metric.plot(metric(spikes))
    metric.plot([metric(spikes), metric(spikes)])
    assert metric.samples == 6, "drawing changes nothing"


@pytest.mark.parametrize("val", [3.0, [], [3.0], {"other": torch.ones(())}, "synops"])
def test_what_is_no_value_is_refused(val: Any) -> None:
    for metric in (sm.SynOps(3), sm.FiringRate(), sm.EarlyExit(0.5)):
        with pytest.raises(TypeError, match="val: expected"):
            metric.plot(val)
    with pytest.raises(TypeError, match="val: expected"):
        sm.ScalarView(sm.SynOps(3), "synops").plot(val)


def test_a_collection_of_views_has_a_picture_each() -> None:
    collection = MetricCollection(
        {
            "conv synops": sm.ScalarView(sm.SynOps(3), "synops"),
            "sparsity": sm.ActivationSparsity(),
        }
    )
    collection.update(SPIKES)
    pictures = collection.plot()
    assert [ax.lines[0].get_ydata()[0] for _, ax in pictures] == [
        value.item() for value in collection.compute().values()
    ]


WITHOUT_MATPLOTLIB = """
import sys
import torchmetrics  # which looks for matplotlib by itself

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
    del sys.modules[name]
sys.meta_path.insert(0, NotInstalled())
import torch
import snnmetrics as sm
metric = sm.SynOps(3)
metric.update(torch.ones(2, 4))
report = sm.Monitor(torch.nn.Linear(4, 3), batch_dim=0).run([torch.ones(2, 4)])
for thing in (metric, report, sm.ScalarView(metric, "synops")):
    try:
        thing.plot()
    except ImportError as error:
        print(error)
"""


@pytest.mark.system
def test_without_matplotlib_the_error_names_the_extra() -> None:
    """All but pictures works."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_MATPLOTLIB],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    ).stdout.splitlines()
    assert (
        out
        == ["matplotlib is not installed: expected it from `pip install 'snnmetrics[plots]'`"] * 3
    )
