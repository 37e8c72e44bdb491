from __future__ import annotations

import pytest
import torch

from snnmetrics import plots


def marks(line: object) -> set[tuple[float, float]]:
    return set(zip(line.get_xdata(), line.get_ydata(), strict=True))  # type: ignore[attr-defined]


def test_a_mark_per_event() -> None:
    spikes = (torch.rand(30, 2, 3) < 0.2).float() * torch.randint(1, 4, (30, 2, 3))
    _, ax = plots.raster(spikes)
    expected = {
        (t + 1, 3 * i + j)
        for t in range(30)
        for i in range(2)
        for j in range(3)
        if spikes[t, i, j] > 0
    }
    assert len(expected) > 10
    assert marks(ax.lines[0]) == expected
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 30.5), (-0.5, 5.5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "neuron")
    assert ax.get_legend() is None


def test_negative_spikes_look_different() -> None:
    _, ax = plots.raster(torch.tensor([[1, 0], [0, -1], [-2, 1]]))
    positive, negative = ax.lines
    assert marks(positive) == {(1, 0), (3, 1)}
    assert marks(negative) == {(2, 1), (3, 0)}
    assert positive.get_marker() != negative.get_marker()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["positive", "negative"]


def test_seconds_are_those_of_the_first_spike_metric() -> None:
    spikes = torch.zeros(5, 1)
    spikes[2] = 1
    _, ax = plots.raster(spikes, dt=0.01)
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.03])
    assert ax.get_xlabel() == "time [s]"


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
def test_time_anywhere_and_any_dtype(dtype: torch.dtype) -> None:
    spikes = torch.eye(4, 6).to(dtype)
    _, ax = plots.raster(spikes, time_dim=-1)
    assert marks(ax.lines[0]) == {(i + 1, i) for i in range(4)}
    _, ax = plots.raster(spikes.to_sparse(), time_dim=1)
    assert marks(ax.lines[0]) == {(i + 1, i) for i in range(4)}


def test_no_spike_is_an_empty_raster_with_its_axes() -> None:
    _, ax = plots.raster(torch.zeros(3, 2))
    assert marks(ax.lines[0]) == set()
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 3.5), (-0.5, 1.5))


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="spikes: expected a tensor"):
        plots.raster([[1, 0]])  # type: ignore[arg-type]
    for shape, dim in (((4,), 0), ((4, 0), 0), ((0, 4), 0), ((4, 4), 2)):
        with pytest.raises(ValueError, match=r"spikes: expected .* of one sample"):
            plots.raster(torch.zeros(shape), time_dim=dim)
    with pytest.raises(ValueError, match="dt"):
        plots.raster(torch.zeros(3, 2), dt=0)
