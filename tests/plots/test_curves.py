from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnmetrics import plots
from snnmetrics.plots.curves import pareto_front


def test_a_curve_is_the_value_of_the_metric() -> None:
    value = torch.rand(7, dtype=torch.float64)
    _, ax = plots.accuracy_over_time(value)
    assert ax.lines[0].get_ydata().tolist() == value.tolist()
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "accuracy")
    assert ax.get_ylim()[0] < 0 < 1 < ax.get_ylim()[1]
    assert ax.get_legend() is None


def test_several_curves_differ_in_more_than_colour() -> None:
    curves = {f"net {i}": torch.rand(3 + i) for i in range(4)}
    _, ax = plots.accuracy_over_time(curves, dt=0.5)
    looks = {(line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    assert ax.lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5]
    assert ax.get_xlabel() == "time [s]"


def test_many_curves_are_shades_from_the_first_to_the_last() -> None:
    _, ax = plots.accuracy_over_time({f"epoch {i}": torch.rand(5) for i in range(30)})
    assert len({line.get_color() for line in ax.lines}) == 30
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["epoch 0", "epoch 29"]


@pytest.mark.parametrize("steps", [1, 200])
def test_one_step_and_many(steps: int) -> None:
    figure, ax = plots.accuracy_over_time(torch.rand(steps))
    figure.draw_without_rendering()
    assert (ax.lines[0].get_marker() == "None") == (steps == 200)
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


@pytest.mark.parametrize(
    ("accuracy", "error"),
    [
        ({}, ValueError),
        (3, TypeError),
        (torch.rand(2, 3), ValueError),
        (torch.rand(0), ValueError),
        ({"a": [0.5]}, TypeError),
    ],
)
def test_what_is_no_curve_is_refused(accuracy: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="accuracy"):
        plots.accuracy_over_time(accuracy)


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_nothing_beats(found: list[tuple[int, int]]) -> None:
    def beaten(i: int) -> bool:
        cost, accuracy = found[i]
        return any(c <= cost and a >= accuracy and (c, a) != found[i] for c, a in found)

    front = pareto_front([float(c) for c, _ in found], [float(a) for _, a in found])
    assert sorted(front) == [i for i in range(len(found)) if not beaten(i)]
    assert [found[i] for i in front] == sorted(found[i] for i in front)


def test_points_of_the_front_are_full_and_joined_by_steps() -> None:
    costs, accuracies = [100.0, 300.0, 200.0, 250.0], [0.7, 0.9, 0.8, 0.75]
    _, ax = plots.pareto(torch.tensor(costs), accuracies)
    path, front, beaten = ax.lines
    assert front.get_xydata().tolist() == [[100, 0.7], [200, 0.8], [300, 0.9]]
    assert beaten.get_xydata().tolist() == [[250, 0.75]]
    assert path.get_xydata().tolist() == [
        [100, 0.7],
        [200, 0.7],
        [200, 0.8],
        [300, 0.8],
        [300, 0.9],
    ]
    assert beaten.get_markerfacecolor() == "white"
    assert ax.get_xlabel() == "synops per sample"


def test_energy_is_in_a_unit_with_a_prefix() -> None:
    figure, ax = plots.pareto([2e-6, 7e-6], [0.7, 0.8], cost="energy per sample", unit="J")
    figure.draw_without_rendering()
    assert ax.get_xlabel() == "energy per sample [µJ]"
    ticks = {t.get_text(): t.get_position()[0] for t in ax.get_xticklabels() if t.get_text()}
    assert all(float(text) * 1e-6 == pytest.approx(at) for text, at in ticks.items())


def test_labels_hide_no_point_and_no_other_label() -> None:
    costs = [100.0, 110, 120, 300, 310, 305, 500]
    accuracies = [0.70, 0.705, 0.69, 0.8, 0.79, 0.81, 0.9]
    labels = [f"model {i}" for i in range(7)]
    figure, ax = plots.pareto(costs, accuracies, labels)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == labels
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    pixels = ax.transData.transform(list(zip(costs, accuracies, strict=True)))
    assert not any(box.contains(*pixel) for box in boxes for pixel in pixels)


@pytest.mark.parametrize(
    ("costs", "accuracies", "labels"),
    [
        ([], [], None),
        ([1.0], [0.1, 0.2], None),
        ([1.0], [0.5], ["a", "b"]),
        ([1.0, 2.0], [1.0], None),
    ],
)
def test_numbers_of_entries_must_agree(costs: Any, accuracies: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="equally many"):
        plots.pareto(costs, accuracies, labels)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_points_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="costs: expected finite"):
        plots.pareto([bad], [0.5])
    with pytest.raises(ValueError, match="accuracies: expected finite"):
        plots.pareto([1.0], [bad])
