from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.utilities.exceptions import TorchMetricsUserError

import snnmetrics as sm
from snnmetrics.functional.gradient import gradient_statistics_update
from tests.helpers.metric_trials import Batch, Elsewhere, same, snapshot
from tests.metrics.test_activity import OverTime

F = sm.functional


def divided(a: float, b: float) -> float:
    if b:
        return a / b
    return math.inf if a else math.nan


def statistics_by_hand(batches: list[np.ndarray]) -> dict[str, Any]:
    """Batches ``(B, T, *neurons)``, one element at a time; every batch is an update."""
    steps = batches[0].shape[1]
    squares, zeros, elements = [0.0] * steps, [0] * steps, [0] * steps
    for batch in batches:
        for t in range(steps):
            for value in batch[:, t].reshape(-1).tolist():
                squares[t] += value * value
                zeros[t] += value == 0
                elements[t] += 1
    norms = [math.sqrt(square / len(batches)) for square in squares]
    return {
        "norm": math.sqrt(sum(squares) / len(batches)),
        "zero_fraction": sum(zeros) / sum(elements),
        "last_to_first": divided(norms[-1], norms[0]),
        "norm_per_step": np.array(norms),
        "zero_fraction_per_step": np.array(zeros) / np.array(elements),
    }


# -------------------------------------------------------------------------------- the trials


class TestGradientStatistics(OverTime):
    metric_class = sm.GradientStatistics
    function = staticmethod(F.gradient_statistics)
    name = "gradient"
    lengths: ClassVar = [5] * 5
    tolerance = 1e-12

    def reference(self, batches: list[Batch]) -> Any:
        return statistics_by_hand(self.arrays(batches))

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        others = [bad for bad in super().bad_batches() if "neuron shape" not in bad[1]]
        return [
            *others,
            (
                (good.narrow(self.time_at, 0, 4),),
                r"gradient: expected number of time steps \(5,\).*found \(4,\)",
            ),
            ((good.double() * 1e200,), "gradient: expected finite .*squares beyond float64"),
        ]


class TestGradientStatisticsTimeFirst(TestGradientStatistics):
    time_at = 0
    metric_args: ClassVar = {"time_dim": 0}
    other_args: ClassVar = {"time_dim": -4}


class TestGradientStatisticsOfOneStep(TestGradientStatistics):
    """Batches ``(B, 2, 3)``. The entries per step stay ``(1,)``."""

    metric_args: ClassVar = {"time_dim": None}
    other_args: ClassVar = {"time_dim": 1}

    def batch(self, samples: int, seed: int) -> Batch:
        return (super().batch(samples, seed)[0][:, 0],)

    def arrays(self, batches: list[Batch]) -> list[np.ndarray]:
        return [batch[0][:, None].numpy() for batch in batches]

    def bad_batches(self) -> list[tuple[Batch, str]]:
        good = self.batch(2, 0)[0]
        return [
            ((good / 0,), "gradient: expected finite"),
            ((good[:, 0, 0],), r"gradient: expected shape \(B, \*neuron_shape\)"),
        ]


# ------------------------------------------------------------------- gradients of a network


class Leaky(nn.Module):
    """Integrator with a leak and a soft threshold, called once per step."""

    def forward(self, current: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.5 * state + current
        return torch.sigmoid(4 * (state - 1)), state


def backward(currents: list[Tensor]) -> None:
    module, state, out = Leaky(), torch.zeros_like(currents[0]), torch.zeros(())
    for current in currents:
        spikes, state = module(current, state)
        out = out + spikes.sum()
    out.backward()


def listen(currents: list[Tensor]) -> list[tuple[int, Tensor]]:
    """Figures of the gradients of each step, with its number, in the order in which they come."""
    heard: list[tuple[int, Tensor]] = []

    def hook(gradient: Tensor, t: int) -> None:
        heard.append((t, gradient_statistics_update(gradient, None)))

    for t, current in enumerate(currents):
        current.register_hook(functools.partial(hook, t=t))
    return heard


def test_hooks_at_each_step_hear_what_the_whole_gradient_says() -> None:
    """The hooks hear the last step first, and keep three numbers of each."""
    one_by_one, at_once = sm.GradientStatistics(time_dim=None), sm.GradientStatistics()
    for samples in (4, 4, 1):
        whole = torch.rand(samples, 6, 3)
        leaf = whole.clone().requires_grad_()
        backward(list(leaf.unbind(1)))
        at_once.update(leaf.grad)

        currents = [step.clone().requires_grad_() for step in whole.unbind(1)]
        heard = listen(currents)
        backward(currents)
        assert [t for t, _ in heard] == [5, 4, 3, 2, 1, 0]
        one_by_one.update_steps(torch.cat([figures for _, figures in heard[::-1]]))
    expected, value = at_once.compute(), one_by_one.compute()
    assert value["norm_per_step"].shape == (6,)
    assert set(value) == set(expected)
    for key, entry in expected.items():
        torch.testing.assert_close(value[key], entry, rtol=1e-12, atol=0)
    assert one_by_one.update_count == 3


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_the_gradient_of_an_integrator_vanishes_or_explodes_by_its_decay(decay: float) -> None:
    """The loss is its last state: the gradient of step t is decay to the power of T - t."""
    steps, gradients = 8, sm.GradientStatistics()
    current = torch.zeros(2, steps, 3, dtype=torch.float64, requires_grad=True)
    current.register_hook(gradients.update)
    state = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(steps):
        state = decay * state + current[:, t]
    state.sum().backward()
    value = gradients.compute()
    expected = [math.sqrt(6) * decay ** (steps - t) for t in range(1, steps + 1)]
    assert value["norm_per_step"].tolist() == pytest.approx(expected, rel=1e-14)
    assert value["last_to_first"].item() == pytest.approx(decay ** (1 - steps), rel=1e-14)
    assert value["norm"].item() == pytest.approx(math.hypot(*expected), rel=1e-14)
    assert value["zero_fraction"] == 0


def test_a_surrogate_without_gradient_gives_zeros() -> None:
    """Of a rectangular surrogate exactly the neurons outside of the window have none."""
    potentials = torch.randn(4, 5, 6, requires_grad=True)
    gradients, membrane = sm.GradientStatistics(), sm.MembraneStatistics(window=(-0.5, 0.5))
    potentials.register_hook(gradients.update)
    membrane.update(potentials)
    potentials.clamp(-0.5, 0.5).sum().backward()
    share = membrane.compute()["in_window"].item()
    assert 0 < share < 1
    assert gradients.compute()["zero_fraction"].item() == pytest.approx(1 - share)


# ------------------------------------------------------------------------------ update_steps


def figures_of(gradient: Tensor) -> Tensor:
    return gradient_statistics_update(gradient, 1)


def test_figures_add_as_their_gradients_do() -> None:
    metric, twin = sm.GradientStatistics(), sm.GradientStatistics()
    for samples in (3, 1):
        gradient = torch.randint(-2, 3, (samples, 4, 5)).float()
        metric.update(gradient)
        twin.update_steps(figures_of(gradient))
        metric.compute()
        twin.compute()
    assert same(metric.metric_state, twin.metric_state)
    assert metric.update_count == twin.update_count == 2
    assert same(metric.compute(), twin.compute())
    twin.reset()
    twin.update_steps(figures_of(torch.ones(1, 7, 2)))  # another number of steps
    assert twin.compute()["norm_per_step"].tolist() == pytest.approx([math.sqrt(2)] * 7)


GOOD = torch.tensor([[4.0, 1.0, 2.0], [9.0, 0.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("figures", "error", "message"),
    [
        (GOOD.tolist(), TypeError, r"figures: expected a torch\.Tensor"),
        (GOOD.float(), ValueError, r"figures: expected dense torch\.float64 of shape \(T, 3\)"),
        (GOOD[0], ValueError, r"figures: expected dense .* of shape \(3,\)"),
        (GOOD.T, ValueError, r"figures: expected dense .* of shape \(3, 2\)"),
        (GOOD.to_sparse(), ValueError, r"figures: expected dense .*sparse_coo"),
        (GOOD - 3, ValueError, "figures: expected finite values"),
        (GOOD * math.nan, ValueError, "figures: expected finite values"),
        (GOOD / 0, ValueError, "figures: expected finite values"),
        (GOOD.to("meta"), ValueError, "figures: expected a tensor on cpu"),
        (GOOD[:1], ValueError, r"expected number of time steps \(2,\).*found \(1,\)"),
    ],
)
def test_bad_figures_are_refused_and_leave_the_state(
    figures: Any, error: type[Exception], message: str
) -> None:
    metric = sm.GradientStatistics()
    metric.update_steps(GOOD)
    metric.compute()
    before = snapshot(metric)
    with pytest.raises(error, match=message):
        metric.update_steps(figures)
    assert same(before, snapshot(metric))


def test_figures_while_synced_are_refused() -> None:
    metric = sm.GradientStatistics()
    metric._is_synced = True
    with pytest.raises(TorchMetricsUserError, match=r"synced.*update_steps"):
        metric.update_steps(GOOD)


def test_figures_on_accelerators_are_not_waited_for() -> None:
    metric = sm.GradientStatistics().to("meta")
    figures = gradient_statistics_update(torch.ones(2, 3, device="meta"), None)
    metric.update_steps(torch.cat([figures] * 4))
    metric.update_steps(figures_of(torch.ones(2, 4, 3, device="meta")))
    assert metric.update_count == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_not_waited_for() -> None:
    metric, gradient = sm.GradientStatistics().to("cuda"), torch.ones(2, 4, 3, device="cuda")
    metric.update(gradient)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(gradient)
        metric.update_steps(figures_of(gradient))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.compute()["norm"].item() == pytest.approx(math.sqrt(24))


# -------------------------------------------------------------------------------- edges


def test_a_gradient_that_vanishes_entirely() -> None:
    gradient = torch.tensor([[[0.0, -0.0], [1.0, 0.0]]])
    value = F.gradient_statistics(gradient)
    assert value["last_to_first"] == math.inf
    assert value["zero_fraction_per_step"].tolist() == [1, 0.5]
    none = F.gradient_statistics(gradient * 0)
    assert none["last_to_first"].isnan()
    assert (none["norm"], none["zero_fraction"]) == (0, 1)
    back = F.gradient_statistics(gradient.flip(1))
    assert back["last_to_first"] == 0
    assert F.gradient_statistics(gradient[:, 1:])["last_to_first"] == 1


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_nothing_to_divide_by(shape: tuple[int, ...]) -> None:
    value = F.gradient_statistics(torch.zeros(shape))
    assert all(bool(entry.isnan().all()) for entry in value.values())
    assert value["norm_per_step"].shape == shape[1:2]


@pytest.mark.parametrize(
    ("dtype", "value"), [(torch.float16, 300.0), (torch.bfloat16, 1e30), (torch.float32, 1e-30)]
)
def test_squares_are_taken_in_float64(dtype: torch.dtype, value: float) -> None:
    """In their own dtype they would be infinite, or zero."""
    gradient = torch.full((2, 3, 50), value, dtype=dtype)
    found = F.gradient_statistics(gradient)
    exact = gradient[0, 0, 0].item() * math.sqrt(300)
    assert found["norm"].dtype is torch.float32
    assert found["norm"].item() == pytest.approx(exact, rel=1e-6)


def test_zeros_are_counted_beyond_what_float32_holds() -> None:
    zeros = torch.zeros(1, 2**24 + 1, dtype=torch.float16)
    assert gradient_statistics_update(zeros, None).tolist() == [[0, 2**24 + 1, 2**24 + 1]]


def test_the_norm_is_that_of_torch() -> None:
    gradient = torch.randn(30, 20, 400, dtype=torch.float64)
    found = F.gradient_statistics(gradient)
    assert found["norm"].item() == pytest.approx(gradient.norm().item(), rel=1e-12)
    per_step = torch.stack([step.norm() for step in gradient.unbind(1)])
    torch.testing.assert_close(found["norm_per_step"], per_step, rtol=1e-12, atol=0)


def test_gradients_as_an_unscaled_scaler_leaves_them() -> None:
    """As the docstring says: divided by the scale, and without those that overflowed."""
    metric, plain = sm.GradientStatistics(), sm.GradientStatistics()
    for loss_scale in (2.0**10, 2.0**16, 2.0**10):
        gradient = torch.rand(2, 3, 4) + 1
        scaled = (gradient * loss_scale).half()
        assert scaled.isfinite().all() == (loss_scale == 2**10)
        unscaled = scaled.float() / loss_scale
        if unscaled.isfinite().all():
            metric.update(unscaled)
            plain.update(gradient)
        else:
            with pytest.raises(ValueError, match="gradient: expected finite"):
                metric.update(unscaled)
    assert metric.update_count == 2
    assert metric.compute()["norm"].item() == pytest.approx(
        plain.compute()["norm"].item(), rel=1e-3
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_elsewhere_shows_in_every_figure(bad: float) -> None:
    """On an accelerator nothing is refused."""
    x = torch.ones(2, 3, 4)
    x[0, 1, 1] = bad
    value = F.gradient_statistics(x.as_subclass(Elsewhere))
    assert not value["norm"].isfinite()
    assert value["zero_fraction"].isnan()
    for key in ("norm_per_step", "zero_fraction_per_step"):
        assert value[key].isfinite().tolist() == [True, False, True]
    metric = sm.GradientStatistics()
    metric.squares = metric.squares + figures_of(x)[:, 0]  # as an accelerator would
    with pytest.raises(ValueError, match="found another: since the last reset NaN"):
        metric.compute()


@pytest.mark.parametrize("time_dim", ["1", True, 1.0])
def test_bad_arguments(time_dim: Any) -> None:
    for call in (
        sm.GradientStatistics,
        lambda time_dim: F.gradient_statistics(torch.ones(1, 2, 3), time_dim=time_dim),
    ):
        with pytest.raises(TypeError, match=r"^time_dim: expected an integer.*found"):
            call(time_dim=time_dim)
