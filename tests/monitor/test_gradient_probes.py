"""Probes of gradients hold what autograd computes at the inputs of modules."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torchmetrics import CatMetric

import snnmetrics as sm
from tests.helpers.toy import Surrogate

STEPS, SAMPLES = 4, 3


class Net(nn.Module):
    """A spiking layer with a memory of its own, called once per step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.fire, self.out = nn.Linear(5, 6), Surrogate(0.1), nn.Linear(6, 2)
        self.entered: list[Tensor] = []
        self.memory: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        current = self.memory + self.fc(x)
        self.memory = 0.5 * current
        if current.requires_grad:
            current.retain_grad()
        self.entered.append(current)
        out: Tensor = self.out(self.fire(current))
        return out


def steps(seed: int = 0) -> Tensor:
    return torch.randn(STEPS, SAMPLES, 5, generator=torch.Generator().manual_seed(seed))


def trained(model: Net, monitor: sm.Monitor, x: Tensor, inside: bool = False) -> Tensor:
    """Run a batch, step by step, and its loss backward; the gradients at the neurons' inputs."""
    with monitor:
        with monitor.batch(samples=SAMPLES, steps=STEPS):
            loss = sum(model(step).square().sum() * (1 + t) for t, step in enumerate(x))
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
    gradients = [entered.grad for entered in model.entered]
    model.memory, model.entered = 0.0, []
    return torch.stack(gradients)  # type: ignore[arg-type]


@pytest.mark.parametrize("inside", [False, True])
def test_a_loop_gives_the_gradients_of_all_steps(inside: bool) -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})
    found = [trained(model, monitor, steps(seed), inside).double() for seed in range(3)]
    both, value = torch.stack(found), metric.compute()  # (batches, T, B, N)
    per_step = both.square().sum((2, 3)).mean(0).sqrt()
    assert torch.allclose(value["norm_per_step"], per_step)
    assert value["norm"].item() == pytest.approx(both.square().sum((1, 2, 3)).mean().sqrt().item())
    assert value["last_to_first"].item() == pytest.approx((per_step[-1] / per_step[0]).item())
    zero = both.eq(0).double()
    assert value["zero_fraction"].item() == pytest.approx(zero.mean().item())
    assert torch.allclose(value["zero_fraction_per_step"], zero.mean((0, 2, 3)))


def test_a_model_with_all_steps_in_one_call() -> None:
    model = nn.Sequential(nn.Linear(5, 6), Surrogate(0.1), nn.Linear(6, 2))
    metric = sm.GradientStatistics(time_dim=0)
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0, probes={"1.gradient": metric})
    x = steps()
    hidden = model[0](x)
    (expected,) = torch.autograd.grad(model[2](model[1](hidden)).square().sum(), hidden)
    with monitor:
        out = model(x)
    out.square().sum().backward()  # after the monitor was detached
    norms = expected.double().square().sum((1, 2)).sqrt()
    assert torch.allclose(metric.compute()["norm_per_step"], norms)


def test_other_metrics_are_given_the_gradient_itself() -> None:
    model, kept = Net(), CatMetric()
    found = trained(model, sm.Monitor(model, probes={"fire.gradient": kept}), steps())
    given = kept.compute().view(STEPS, SAMPLES, -1)
    assert torch.equal(given.flip(0), found)  # backward visits the last step first


def test_gradients_outputs_and_random_state_are_as_without_probes() -> None:
    plain, watched, x = Net(), Net(), steps()
    metric = sm.GradientStatistics(time_dim=None)
    unwatched = trained(plain, sm.Monitor(plain), x)
    before = torch.get_rng_state()
    seen = trained(watched, sm.Monitor(watched, probes={"fire.gradient": metric}), x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(seen, unwatched)
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_no_graph_and_no_hook_is_left() -> None:
    model, metric = nn.Sequential(Surrogate(0.1), nn.Linear(5, 2)), sm.GradientStatistics(None)
    monitor = sm.Monitor(model, batch_dim=0, probes={"0.gradient": metric})
    leaf = torch.randn(SAMPLES, 5, requires_grad=True)
    with monitor:
        out = model(leaf)
        node = weakref.ref(out)
        del out
        gc.collect()
        assert node() is None
        model(leaf).sum().backward()
        assert metric.update_called
        model(leaf)
    assert not leaf._backward_hooks
    with monitor:
        for _ in range(3):
            model(leaf)
        assert len(leaf._backward_hooks) == 1
    assert not leaf._backward_hooks


def test_what_has_no_gradient_adds_nothing() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})
    with torch.no_grad(), monitor, monitor.batch(SAMPLES, STEPS):
        for step in steps():
            model(step)
    assert not metric.update_called
    frozen = Net().requires_grad_(False)
    with sm.Monitor(frozen, batch_dim=0, probes={"fire.gradient": metric}):
        frozen(steps()[0])
    assert not metric.update_called


def test_memory_does_not_grow_with_batches() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})
    sizes = []
    for seed in range(4):
        trained(model, monitor, steps(seed))
        kept = {name: getattr(metric, name) for name in metric.metric_state}
        sizes.append(len(pickle.dumps((monitor, kept))))
    assert abs(sizes[1] - sizes[-1]) < 16  # numbers grow, and take a byte more


def test_a_metric_that_refuses_names_the_place() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})
    trained(model, monitor, steps())
    with monitor, monitor.batch(SAMPLES, 2):
        loss = sum(model(step).sum() for step in steps()[:2])
    with pytest.raises(ValueError, match=r"probes\['fire.gradient'\]"):
        loss.backward()


def test_copies_of_a_monitor_hear_nothing_of_its_batches() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})
    trained(model, monitor, steps())
    other = copy.deepcopy(monitor)
    trained(other.model, other, steps())
    assert metric.compute()["norm"] == other._probes._metrics["fire.gradient"].compute()["norm"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_calls(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            def inner(x: Tensor) -> Tensor:
                out: Tensor = self.out(self.fire(self.fc(x)))
                return out

            out: Tensor = checkpoint(inner, x, use_reentrant=reentrant)
            return out

    metric = sm.GradientStatistics(time_dim=None)
    model, x = Checkpointed(), steps()[0].requires_grad_()
    with sm.Monitor(model, batch_dim=0, probes={"fire.gradient": metric}):
        model(x).square().sum().backward()
    if reentrant:  # its first forward has no graph
        assert not metric.update_called
        return
    hidden = model.fc(x)
    (expected,) = torch.autograd.grad(model.out(model.fire(hidden)).square().sum(), hidden)
    assert metric.compute()["norm"].item() == pytest.approx(expected.double().norm().item())


def test_neurons_of_snntorch_in_a_model_that_loops_inside() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.lif = nn.Linear(5, 6), snn.Leaky(beta=0.9)

        def forward(self, x: Tensor) -> Any:
            memory, entered = self.lif.reset_mem(), []
            for step in x:
                entered.append(self.fc(step))
                _, memory = self.lif(entered[-1], memory)
            return memory, entered

    model, metric = Inside(), sm.GradientStatistics(time_dim=None)
    with sm.Monitor(model, batch_dim=1, probes={"lif.gradient": metric}):
        memory, entered = model(steps())
        expected = torch.autograd.grad(memory.sum(), entered, retain_graph=True)
        memory.sum().backward()
    norms = torch.stack([grad.double().norm() for grad in expected])
    assert torch.allclose(metric.compute()["norm_per_step"], norms)
    assert metric.compute()["last_to_first"] > 1  # it decays backward in time


def test_a_tensor_that_enters_at_every_step_has_one_gradient() -> None:
    """As the current of a direct-coded image does."""

    class Direct(Net):
        def forward(self, x: Tensor) -> Tensor:
            current = self.fc(x)
            current.retain_grad()
            self.entered = [current]
            out: Tensor = sum(self.out(self.fire(current)) for _ in range(STEPS))  # type: ignore
            return out

    direct, metric = Direct(), sm.GradientStatistics(time_dim=None)
    with sm.Monitor(direct, batch_dim=0, probes={"fire.gradient": metric}):
        direct(steps()[0]).square().sum().backward()
    expected = direct.entered[0].grad
    assert expected is not None
    value = metric.compute()
    assert value["norm"].item() == pytest.approx(expected.double().norm().item())
    assert value["norm_per_step"].shape == (1,)


def test_input_and_gradient_are_those_before_the_module_writes_to_its_input() -> None:
    class Triples(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(3.0)

    model, weight = nn.Sequential(nn.Linear(5, 6), Triples()), torch.randn(6)
    kept = {f"1.{place}": CatMetric() for place in ("input", "output", "gradient")}
    x = torch.randn(SAMPLES, 5)
    with sm.Monitor(model, batch_dim=0, probes=kept):
        out = model(x)
    (out * weight).sum().backward()
    entered = model[0](x).detach()
    assert torch.equal(kept["1.input"].compute().view(SAMPLES, 6), entered)
    assert torch.equal(kept["1.output"].compute().view(SAMPLES, 6), entered * 3.0)
    expected = (3.0 * weight).expand(SAMPLES, 6)
    assert torch.equal(kept["1.gradient"].compute().view(SAMPLES, 6), expected)


def test_what_a_metric_keeps_is_neither_written_to_later_nor_has_a_graph() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True))
    kept, x = CatMetric(), torch.randn(SAMPLES, 5)
    with sm.Monitor(model, batch_dim=0, probes={"0.output": kept}):
        model(x)
    assert torch.equal(kept.compute().view(SAMPLES, 6), model[0](x))
    assert not any(part.requires_grad for part in kept.value)  # type: ignore[union-attr]


def test_batches_whose_losses_go_backward_together_are_an_update_each() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    loss: Tensor | float = 0.0
    with sm.Monitor(model, probes={"fire.gradient": metric}) as monitor:
        for seed, factor in enumerate((1.0, 5.0)):
            model.memory = 0.0
            with monitor.batch(samples=SAMPLES, steps=STEPS):
                loss = loss + factor * sum(model(step).square().sum() for step in steps(seed))
        loss.backward()  # type: ignore[union-attr]
    found = torch.stack([entered.grad for entered in model.entered])  # type: ignore[misc]
    both = found.double().view(2, STEPS, -1)
    assert metric.update_count == 2
    per_step = both.square().sum(2).mean(0).sqrt()
    assert torch.allclose(metric.compute()["norm_per_step"], per_step)


def test_a_backward_pass_that_failed_leaves_nothing_behind() -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor = sm.Monitor(model, probes={"fire.gradient": metric})

    def fail(gradient: Tensor) -> None:
        raise KeyError("of the user's")

    hook = model.fc.weight.register_hook(fail)
    with pytest.raises(KeyError):
        trained(model, monitor, steps(1))
    hook.remove()
    assert not metric.update_called
    model.memory, model.entered = 0.0, []
    found = trained(model, monitor, steps(2)).double()
    assert metric.update_count == 1
    expected = found.square().sum((1, 2)).sqrt()
    assert torch.allclose(metric.compute()["norm_per_step"], expected)


@pytest.mark.parametrize("fails", ["batch", "call"])
def test_gradients_of_what_failed_are_not_heard(fails: str) -> None:
    model, metric = Net(), sm.GradientStatistics(time_dim=None)
    monitor, outputs = sm.Monitor(model, probes={"fire.gradient": metric}), []

    def late(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs.append(output)
        if fails == "call" and len(outputs) == 2:
            raise KeyError

    model.register_forward_hook(late)
    with monitor, contextlib.suppress(KeyError), monitor.batch(samples=SAMPLES, steps=STEPS - 1):
        for step in steps():
            try:
                model(step)
            except KeyError:
                continue
        if fails == "batch":
            raise KeyError
    torch.stack(outputs).square().sum().backward()
    if fails == "batch":
        assert not metric.update_called
        return
    gradients = [entered.grad for entered in model.entered]
    heard = torch.stack([gradients[t] for t in (0, 2, 3)])  # type: ignore[misc]
    expected = heard.double().square().sum((1, 2)).sqrt()
    assert torch.allclose(metric.compute()["norm_per_step"], expected)


def test_a_view_of_the_statistics_is_given_all_steps_as_one_update() -> None:
    model, shown = Net(), sm.GradientStatistics(time_dim=None)
    view = sm.ScalarView(shown, "last_to_first")
    found = trained(model, sm.Monitor(model, probes={"fire.gradient": view}), steps()).double()
    norms = found.square().sum((1, 2)).sqrt()
    assert shown.update_count == 1
    assert view.compute().item() == pytest.approx((norms[-1] / norms[0]).item())


def test_transforms_of_functions_run_on() -> None:
    model, metric = nn.Sequential(nn.Linear(5, 6), nn.Tanh()), sm.GradientStatistics(time_dim=None)
    parameters, x = dict(model.named_parameters()), torch.randn(SAMPLES, 5)
    potentials = sm.MembraneStatistics(time_dim=None)
    probes = {"1.gradient": metric, "1.input": potentials}

    def loss(parameters: Any) -> Tensor:
        out: Tensor = torch.func.functional_call(model, parameters, (x,)).square().sum()
        return out

    expected = torch.func.grad(loss)(parameters)
    with sm.Monitor(model, batch_dim=0, probes=probes):
        found = torch.func.grad(loss)(parameters)
    assert all(torch.equal(found[name], expected[name]) for name in parameters)
    entered = model[0](x)
    assert potentials.compute()["mean"].item() == pytest.approx(entered.mean().item())
    (gradient,) = torch.autograd.grad(model[1](entered).square().sum(), entered)
    assert metric.compute()["norm"].item() == pytest.approx(gradient.norm().item())
