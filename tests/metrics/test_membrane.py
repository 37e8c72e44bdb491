from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import snnmetrics as sm
from tests.helpers.metric_trials import DTYPES, Batch, Elsewhere
from tests.metrics.test_activity import OverTime

F = sm.functional
WINDOW = (0.0, 1.0)


def shares_by_hand(values: np.ndarray, edges: list[float]) -> np.ndarray:
    """By NumPy's histogram, with what lies outside of it counted by comparison."""
    inside, _ = np.histogram(values, edges)
    below, above = (values < edges[0]).sum(), (values > edges[-1]).sum()
    return np.array([below, *inside, above]) / values.size


def moments_by_hand(values: np.ndarray, window: tuple[float, float]) -> dict[str, Any]:
    """Over the first dimension, in two passes."""
    return {
        "mean": values.mean(0),
        "std": values.std(0),
        "in_window": ((window[0] <= values) & (values <= window[1])).mean(0),
    }


def distribution_by_hand(
    batches: list[np.ndarray],
    window: tuple[float, float],
    edges: list[float],
    per_neuron: bool = False,
) -> dict[str, Any]:
    """Batches ``(B, T, *neurons)``."""
    rows = np.concatenate([b.reshape(-1, *b.shape[2:]).astype(np.float64) for b in batches])
    value = moments_by_hand(rows.reshape(-1), window)
    value["histogram"] = shares_by_hand(rows.reshape(-1), edges)
    if per_neuron:
        each = moments_by_hand(rows, window)
        value |= {f"{key}_per_neuron": entry for key, entry in each.items()}
    return value


# -------------------------------------------------------------------------------- the trials


class Potentials(OverTime):
    """Multiples of 1/8, with some on every bound."""

    metric_class = sm.MembraneStatistics
    function = staticmethod(F.membrane_statistics)
    name = "potentials"
    tolerance = 1e-12
    window = WINDOW
    edges: ClassVar[list[float]] = np.linspace(-1, 2, 31).round(12).tolist()

    def batch(self, samples: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        size = (samples, self.lengths[seed % 5], 2, 3)
        potentials = torch.randint(-12, 20, size, generator=generator) / 8
        potentials[:, :, 0, 0] = 1  # stays at the upper bound
        return (potentials.movedim(1, self.time_at).contiguous(),)

    def reference(self, batches: list[Batch]) -> Any:
        per_neuron = self.metric_args.get("per_neuron", False)
        return distribution_by_hand(self.arrays(batches), self.window, self.edges, per_neuron)


class TestMembraneStatistics(Potentials):
    pass


class TestMembraneStatisticsPerNeuron(Potentials):
    time_at = 0
    window = (-0.25, 0.5)
    edges: ClassVar = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5]
    metric_args: ClassVar = {
        "time_dim": 0,
        "window": (-0.25, 0.5),
        "bins": 5,
        "range": (-2.0, 0.5),
        "per_neuron": True,
    }
    other_args: ClassVar = {**metric_args, "window": (-0.25, 0.75)}

    def bad_batches(self) -> list[tuple[Batch, str]]:
        return super().bad_batches()[2:]  # the first two are cut for time at 1


class TestMembraneStatisticsStepByStep(Potentials):
    """Batches ``(B, 2, 3)``: one time step each."""

    edges: ClassVar = [-1.0, 0.0, 1.0, 2.0]
    metric_args: ClassVar = {"time_dim": None, "bins": 3}
    other_args: ClassVar = {"time_dim": None, "bins": 3, "range": (-1.0, 2.5)}

    def batch(self, samples: int, seed: int) -> Batch:
        return (super().batch(samples, seed)[0][:, 0],)

    def arrays(self, batches: list[Batch]) -> list[np.ndarray]:
        return [batch[0][:, None].numpy() for batch in batches]

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        return [
            ((good / 0,), "potentials: expected finite"),
            ((good[:, :, 0],), "potentials: expected neuron shape"),
            ((good[:, 0, 0],), r"potentials: expected shape \(B, \*neuron_shape\)"),
        ]


BASE: dict[str, Any] = {"window": (0.0, 1.0), "bins": 6, "range": (-1.0, 2.0), "per_neuron": True}


@pytest.mark.parametrize(
    "other",
    [
        {"time_dim": None},
        {"window": (0.0, 1.5)},
        {"bins": 7},
        {"range": (-1.0, 2.5)},
        {"range": None, "window": (-1.0, 2.0)},
        {"per_neuron": False},
    ],
)
def test_metrics_that_count_differently_are_not_added(other: dict[str, Any]) -> None:
    metric = sm.MembraneStatistics(**BASE)
    with pytest.raises(ValueError, match="different arguments"):
        metric.merge_state(sm.MembraneStatistics(**(BASE | other)))
    metric.merge_state(sm.MembraneStatistics(**(BASE | {"range": None})))  # the same edges


def test_negative_sums_are_merged_and_loaded() -> None:
    metric, other = sm.MembraneStatistics(), sm.MembraneStatistics()
    for each in (metric, other):
        each.persistent(True)
        each.update(torch.full((1, 2, 3), -4.0))
    metric.merge_state(other)
    resumed = sm.MembraneStatistics()
    resumed.load_state_dict(metric.state_dict())
    assert resumed.compute()["mean"] == -4
    assert resumed.compute()["histogram"][0] == 1
    saved = metric.state_dict()
    saved["deviations"] = -saved["deviations"]  # a sum of squares is not negative
    with pytest.raises(RuntimeError, match="non-negative numbers in the state 'deviations'"):
        resumed.load_state_dict(saved)


# -------------------------------------------------------------------------- bounds and bins


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_floating_point], ids=str)
def test_bounds_are_met_in_the_dtype_of_the_potentials(dtype: torch.dtype) -> None:
    """0.1 and 0.7 in float32 are not what they are in float64."""
    low, high = torch.tensor([0.1, 0.7], dtype=dtype)
    below, above = torch.nextafter(low, -high), torch.nextafter(high, high + 1)
    potentials = torch.stack([below, low, high, above]).reshape(1, 2, 2)
    value = F.membrane_statistics(potentials, window=(0.1, 0.7), bins=1, range=(0.1, 0.7))
    assert value["in_window"] == 0.5
    assert value["histogram"].tolist() == [0.25, 0.5, 0.25]
    assert value["histogram"].dtype is torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64], ids=str)
def test_integers(dtype: torch.dtype) -> None:
    potentials = torch.tensor([[[0, 1], [1, 1]]]).to(dtype)
    value = F.membrane_statistics(potentials, window=(0.5, 1.0), bins=1, range=(0.0, 1.0))
    assert (value["mean"], value["in_window"]) == (0.75, 0.75)
    assert value["std"].item() == pytest.approx(math.sqrt(3) / 4)
    assert value["histogram"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("window", [(0.0, 1.0), (0.1, 0.7), (-3.3, -0.1), (1e-3, 1e3)])
@pytest.mark.parametrize("bins", [3, 30, 300])
def test_the_window_has_edges_at_its_bounds(window: tuple[float, float], bins: int) -> None:
    """As sums of a step, or from ``linspace``, some would be off by a digit."""
    edges = sm.MembraneStatistics(window=window, bins=bins).edges
    assert (edges[bins // 3].item(), edges[2 * bins // 3].item()) == window
    assert edges.tolist() == pytest.approx(
        np.linspace(2 * window[0] - window[1], 2 * window[1] - window[0], bins + 1), abs=1e-12
    )
    assert edges.dtype is torch.float64


def test_a_histogram_of_random_potentials_is_that_of_numpy() -> None:
    """More elements than a block has."""
    potentials = torch.randn(10, 60, 500)
    for bins, bounds in ((30, None), (7, (-0.3, 0.4)), (1000, (-5.0, 5.0))):
        metric = sm.MembraneStatistics(bins=bins, range=bounds)
        metric.update(potentials)
        value, edges = metric.compute(), metric.edges.float().double().tolist()
        expected = distribution_by_hand([potentials.numpy()], WINDOW, edges)
        for key, entry in expected.items():
            np.testing.assert_allclose(value[key].numpy(), entry, rtol=1e-12)
        assert value["histogram"].sum().item() == pytest.approx(1, abs=1e-15)


def test_potentials_far_from_the_window() -> None:
    """A standard deviation of 1e-3 at a distance of 1000 keeps four digits or more."""
    potentials = 1000 + 1e-3 * torch.randn(40, 50, 3, dtype=torch.float64)
    value = F.membrane_statistics(potentials, per_neuron=True)
    assert value["std"].item() == pytest.approx(potentials.numpy().std(), rel=1e-4)
    expected = potentials.reshape(-1, 3).numpy().std(0)
    np.testing.assert_allclose(value["std_per_neuron"].numpy(), expected, rtol=1e-4)
    assert value["mean"].item() == pytest.approx(potentials.mean().item(), rel=1e-14)
    assert value["histogram"][-1] == 1


def test_potentials_that_stay_have_no_deviation_but_for_rounding() -> None:
    """None at all where the sums are exact, as at rest in the middle of powers of two."""
    assert F.membrane_statistics(torch.zeros(7, 11, 3))["std"] == 0
    for level in (0.1, -0.3, 1 / 3):
        value = F.membrane_statistics(torch.full((7, 11, 3), level, dtype=torch.float64))
        assert value["std"] < 3e-8 * abs(level - 0.5)
        assert value["mean"].item() == pytest.approx(level, rel=1e-15)


def test_share_of_neurons_with_a_surrogate_gradient() -> None:
    """A rectangular surrogate of width 1 around the threshold 1, differentiated by autograd."""
    potentials = (torch.randn(5, 6, 4) + 1).requires_grad_()
    surrogate = (potentials - 1).clamp(-0.5, 0.5)
    surrogate.sum().backward()
    reached = (potentials.grad != 0).double().mean()
    value = F.membrane_statistics(potentials, window=(0.5, 1.5))
    assert value["in_window"].item() == pytest.approx(reached.item())
    assert not value["in_window"].requires_grad


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_nothing_to_divide_by(shape: tuple[int, ...]) -> None:
    value = F.membrane_statistics(torch.zeros(shape), per_neuron=True, bins=4)
    assert all(bool(entry.isnan().all()) for entry in value.values())
    assert value["histogram"].shape == (6,)
    assert value["std_per_neuron"].shape == shape[2:]


def test_steps_one_by_one_give_what_all_steps_at_once_give() -> None:
    at_once = sm.MembraneStatistics(time_dim=0, per_neuron=True)
    one_by_one = sm.MembraneStatistics(time_dim=None, per_neuron=True)
    for steps, samples in ((7, 4), (3, 1)):
        potentials = torch.randint(-16, 16, (steps, samples, 5, 6)) / 8
        at_once.update(potentials)
        for step in potentials:
            one_by_one.update(step)
    expected, found = at_once.compute(), one_by_one.compute()
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_sparse_and_time_anywhere() -> None:
    x = (torch.randint(-4, 8, (4, 3, 5)) / 4).float()
    expected = F.membrane_statistics(x, per_neuron=True)
    for time_dim in (0, 1, 2, -1):
        moved = x.movedim(1, time_dim)
        for form in (moved, moved.to_sparse()):
            found = F.membrane_statistics(form, time_dim=time_dim, per_neuron=True)
            assert all(torch.equal(found[key], value) for key, value in expected.items())


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"window": (1.0, 0.0)}, ValueError, r"^window: expected finite bounds with lower < upper"),
        ({"window": (0.0, 0.0)}, ValueError, "^window: expected finite bounds"),
        ({"window": (-1e308, 1e308)}, ValueError, "^window: expected finite bounds"),
        ({"window": (-1e308, 5e307)}, ValueError, "^window: expected a window whose double"),
        ({"window": 1.0}, TypeError, "^window: expected two numbers"),
        ({"range": (0.0, math.inf)}, ValueError, "^range: expected finite bounds"),
        ({"range": (True, 2.0)}, TypeError, "^range: expected two numbers"),
        ({"bins": 0}, ValueError, "^bins: expected an integer >= 1"),
        ({"bins": 2**16 + 1}, ValueError, "^bins: expected at most 65536 bins"),
        ({"bins": 3.0}, TypeError, "^bins: expected an integer"),
        ({"per_neuron": 1}, TypeError, "^per_neuron: expected True or False"),
        ({"time_dim": "1"}, TypeError, "^time_dim: expected an integer"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"{message}.*found"):
        sm.MembraneStatistics(**arguments)
    with pytest.raises(error, match=f"{message}.*found"):
        F.membrane_statistics(torch.ones(1, 2, 3), **arguments)


def test_squares_beyond_float64_are_refused() -> None:
    metric = sm.MembraneStatistics()
    with pytest.raises(ValueError, match=r"^potentials: .*squares beyond float64"):
        metric.update(torch.full((1, 2, 3), 1e200, dtype=torch.float64))
    assert not metric.update_called


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_elsewhere_shows_in_every_figure(bad: float) -> None:
    """On an accelerator nothing is refused."""
    x = torch.ones(2, 6, 3)
    x[0, 2, 1] = bad
    value = F.membrane_statistics(x.as_subclass(Elsewhere), per_neuron=True, bins=2)
    for key, entry in value.items():
        if key.endswith("per_neuron"):
            assert entry.isfinite().tolist() == [True, False, True], key
        else:
            assert not entry.isfinite().any(), key


def test_not_finite_on_an_accelerator_raises_at_compute() -> None:
    """``meta`` has no values, so the state is poisoned by hand the way the update would."""
    metric = sm.MembraneStatistics()
    metric.update(torch.ones(1, 2, 3))
    metric.potentials = metric.potentials + math.nan
    with pytest.raises(ValueError, match="found another: since the last reset NaN"):
        metric.compute()
