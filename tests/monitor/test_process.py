"""The rest of the process runs on: other modules, threads, transforms, modes and conversions.

Everything is compared with the same code without a monitor.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import snnmetrics as sm
from tests.helpers.toy import Fire

sm.register_neuron(Fire, lead="B")


class Net(nn.Module):
    """A convolution, neurons, a linear layer and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
        self.fire = Fire()
        self.fc = nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fire(self.conv(x)).flatten(2)
        return self.fc(hidden.flatten(1)) + (hidden @ hidden.mT).sum((1, 2))[:, None]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.5).float()


# ------------------------------------------------------- modules that are not of the model

ELSEWHERE: dict[str, Callable[[], nn.Module]] = {
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU())),
    "traced": lambda: torch.jit.trace(nn.Conv1d(2, 3, 3), torch.ones(1, 2, 5)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(nn.Conv1d(2, 3, 3).eval())),
    "optimised for inference": lambda: torch.jit.optimize_for_inference(
        torch.jit.script(nn.Conv1d(2, 3, 3).eval())
    ),
    "compiled": lambda: torch.compile(nn.Conv1d(2, 3, 3), backend="eager"),  # type: ignore[dict-item]
    "holding a scripted one": lambda: nn.Sequential(torch.jit.script(nn.Conv1d(2, 3, 3))),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("how", ELSEWHERE)
def test_a_module_elsewhere_runs_as_without_a_monitor(how: str) -> None:
    """While one and while two monitors are attached, and after; the model counts on."""
    other, x = ELSEWHERE[how](), spikes(2, 2, 5)
    expected, model, inputs = other(x), Net(), spikes(2, 2, 3, 3)
    monitor, second = sm.Monitor(model, batch_dim=0), sm.Monitor(nn.Linear(2, 2), batch_dim=0)
    with monitor:
        model(inputs)
        assert torch.equal(other(x), expected)
        with second:
            assert torch.equal(other(x), expected)
            model(inputs)
    assert torch.equal(other(x), expected)
    report = monitor.compute()
    assert report.calls == 2
    assert not report.uncounted
    with torch.no_grad():
        hidden = model.fire(model.conv(inputs))
    assert report.layers["fc"].synops == 4 * float(hidden.sum()) / 2


def bound(model: nn.Module) -> dict[str, Callable[..., Any]]:
    return {
        "__call__": model.__call__,
        "__call__ of a class": lambda x: type(model).__call__(model, x),
        "nn.Module.__call__": nn.Module.__call__.__get__(model),
        "compiled": torch.compile(model, backend="eager"),
        "compiled as a whole": torch.compile(model, backend="eager", fullgraph=True),
        "compiled call": torch.compile(model.__call__, backend="eager"),
    }


@pytest.mark.parametrize("called_meanwhile", [True, False])
@pytest.mark.parametrize("way", list(bound(nn.Linear(1, 1))))
def test_what_was_bound_while_attached_runs_afterwards(way: str, called_meanwhile: bool) -> None:
    torch.compiler.reset()
    model, x = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Flatten()), spikes(3, 1, 4)
    expected, monitor = model(x), sm.Monitor(model, batch_dim=0)
    with monitor:
        call = bound(model)[way]
        if called_meanwhile:
            assert torch.equal(call(x), expected)
    calls = monitor.compute().calls
    assert calls == (1 if called_meanwhile else 0)
    assert torch.equal(call(x), expected)
    assert monitor.compute().calls == calls
    with monitor:  # and in a later attachment it is the model again
        model(x)
        assert torch.equal(call(x), expected)
    assert monitor.compute().calls == calls + 2
    torch.compiler.reset()


def test_a_call_that_began_before_detaching_ends_after_it() -> None:
    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            entered.set()
            assert released.wait(30)
            return inner(x)

    entered, released = threading.Event(), threading.Event()
    outer, inner, x, found = Waits(), nn.Linear(3, 2), torch.ones(1, 3), []
    thread = threading.Thread(target=lambda: found.append(outer(x)))
    with sm.Monitor(nn.Linear(2, 2), batch_dim=0):
        thread.start()
        assert entered.wait(30)
    released.set()
    thread.join(30)
    assert torch.equal(found[0], inner(x))


def test_threads_call_other_modules_while_monitors_attach_and_detach() -> None:
    """Every round, calls and attachments meet at a barrier, and each result is compared."""
    threads, rounds, calls = 3, 60, 10
    barrier = threading.Barrier(threads + 1, timeout=60)
    done: Counter[int] = Counter()
    errors: list[BaseException] = []

    def work(number: int) -> None:
        layer = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        x = torch.full((2, 4), float(number))
        expected = layer(x)
        try:
            for _ in range(rounds):
                barrier.wait()
                for _ in range(calls):
                    assert torch.equal(layer(x), expected)
                    done[number] += 1
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    model, x = nn.Linear(4, 3), torch.ones(2, 4)
    monitors = [sm.Monitor(model, batch_dim=0) for _ in range(2)]
    call = nn.Module.__call__
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads are interrupted between any two steps
    try:
        for worker in workers:
            worker.start()
        for _ in range(rounds):
            barrier.wait()
            for _ in range(calls):
                with monitors[0]:
                    model(x)
                    with monitors[1]:
                        model(x)
    finally:
        sys.setswitchinterval(interval)
        for worker in workers:
            worker.join(60)
    assert errors == []
    assert done == dict.fromkeys(range(threads), rounds * calls)
    assert nn.Module.__call__ is call
    assert [m.compute().calls for m in monitors] == [2 * rounds * calls, rounds * calls]
    for monitor in monitors:
        assert monitor.compute().layers["Linear"].synops == 12.0
        assert not monitor.compute().uncounted


# --------------------------------------------------------------- transforms and tracing


def differentiated(how: str, model: nn.Module, x: Tensor) -> Any:
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(model, values, (x,)).square().sum()
        return output

    if how == "grad":
        return torch.func.grad(loss)(parameters, x)
    if how == "grad of the input":
        return torch.func.grad(loss, argnums=1)(parameters, x)
    if how == "grad_and_value":
        return torch.func.grad_and_value(loss)(parameters, x)
    if how == "vjp":
        value, vjp = torch.func.vjp(lambda p: loss(p, x), parameters)
        return value, vjp(torch.ones(()))
    if how == "jacrev":  # of the forward under vjp; only its backward is mapped
        return torch.func.jacrev(lambda p: loss(p, x))(parameters)
    tangents = {name: torch.ones_like(p) for name, p in parameters.items()}
    if how == "jvp":
        return torch.func.jvp(lambda p: loss(p, x), (parameters,), (tangents,))
    assert how == "grad of jvp"
    return torch.func.grad(lambda x: torch.func.jvp(lambda x: loss(parameters, x), (x,), (x,))[1])(
        x
    )


def assert_equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, in jvp
@pytest.mark.parametrize(
    "how", ["grad", "grad of the input", "grad_and_value", "vjp", "jacrev", "jvp", "grad of jvp"]
)
def test_a_forward_that_is_differentiated_by_a_transform_is_counted(how: str) -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))
    x = spikes(2, 1, 4)
    expected = differentiated(how, model, x)
    plain, monitor = sm.Monitor(model, batch_dim=0), sm.Monitor(model, batch_dim=0)
    with plain:
        model(x)
    with monitor:
        assert_equal(differentiated(how, model, x), expected)
    assert monitor.compute().counts() == plain.compute().counts()
    assert not monitor.compute().uncounted


def transformed(how: str, model: nn.Module, x: Tensor) -> Any:
    if how == "vmap":
        return torch.func.vmap(model)(x[:, None])
    if how == "jacfwd":
        return torch.func.jacfwd(model)(x)
    if how == "hessian":
        return torch.func.hessian(lambda x: model(x).sum())(x)
    if how == "per-sample gradients":
        parameters = dict(model.named_parameters())

        def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
            output: Tensor = torch.func.functional_call(model, values, (x[None],)).sum()
            return output

        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    if how == "fake tensors":
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return tuple(model(mode.from_tensor(x)).shape)
    if how == "make_fx":
        from torch.fx.experimental.proxy_tensor import make_fx

        return make_fx(lambda x: model(x))(x)(x)
    if how == "symbolic_trace":
        return torch.fx.symbolic_trace(model)(x)
    if how == "jit.trace":
        return torch.jit.trace(model, x)(x)
    assert how == "export"
    return torch.export.export(model, (x,)).module()(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "how",
    [
        *("vmap", "jacfwd", "hessian", "per-sample gradients"),
        *("fake tensors", "make_fx", "symbolic_trace", "jit.trace", "export"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"per_sample": True, "differentiable": True}])
def test_under_other_transforms_and_tracing_the_model_runs_alone(
    how: str, options: dict[str, Any]
) -> None:
    """The result is that of the model alone; what could not be counted is listed."""
    model = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))
    x = spikes(2, 1, 4)
    expected = transformed(how, model, x)
    monitor = sm.Monitor(model, batch_dim=0, **options)
    with monitor:
        assert_equal(transformed(how, model, x), expected)
        report = monitor.compute()
        # Tracing by torch.jit checks what it traced against a plain call, which counts.
        assert report.calls == (1 if how == "jit.trace" else 0)
        if how not in ("export", "make_fx", "symbolic_trace"):  # they replace the module's call
            assert {entry.name for entry in report.uncounted} == {"Sequential"}
        monitor.reset()
        model(x)
    report = monitor.compute()
    assert report.layers["0"].event_synops == brute_force(model[0], x) / 2
    assert not report.uncounted


def test_writes_under_vmap_within_a_forward_run_as_without_a_monitor() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(torch.func.vmap(lambda row: torch.zeros_like(row).add_(row))(x))
            return out

    model, x = Writes(), spikes(2, 4)
    expected = model(x)
    with sm.Monitor(model, batch_dim=0) as monitor:
        assert_equal(model(x), expected)
    assert monitor.compute().counts()["fc"]["synops"] == 3 * int(x.sum())


def brute_force(layer: nn.Module, x: Tensor) -> int:
    """Synapses of all events: outputs that a unit weight reaches, element by element."""
    total, twin = 0, nn.Conv1d(1, 2, 3, padding=1, bias=False)
    nn.init.ones_(twin.weight)
    for position in x.nonzero():
        one = torch.zeros_like(x[:1])
        one[0, position[1], position[2]] = 1
        total += int(twin(one).sum())
    return total


# ------------------------------------------------------------------ conversions, other modes


@contextmanager
def swapped_parameters() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


CONVERSIONS: dict[str, Callable[[nn.Module], Any]] = {
    "double": lambda m: m.double(),
    "half": lambda m: m.half(),
    "to": lambda m: m.to(torch.bfloat16),
    "load by assignment": lambda m: m.load_state_dict(
        {name: tensor.double() for name, tensor in m.state_dict().items()}, assign=True
    ),
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("how", CONVERSIONS)
def test_parameters_can_be_swapped_while_attached(how: str, inside: bool) -> None:
    """Before and after is one row; in the same batch too."""
    model = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(8, 3))
    x = spikes(2, 1, 4)
    monitor = sm.Monitor(model) if inside else sm.Monitor(model, batch_dim=0)

    def both() -> None:
        model(x)
        CONVERSIONS[how](model)
        model(x.to(model[0].weight.dtype))

    with swapped_parameters(), monitor:
        if inside:
            with monitor.batch(samples=2, steps=2):
                both()
        else:
            both()
    row = monitor.compute().layers["0"]
    assert list(monitor.compute().layers) == ["0", "2"]
    assert row.event_synops * monitor.compute().samples == 2 * brute_force(model[0], x)


class Operations(TorchDispatchMode):
    """Counts operations of the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(func)] += 1
        return func(*args, **kwargs or {})


class Functions(TorchFunctionMode):
    """Counts functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Any] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func] += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("options", [{}, {"per_sample": True, "per_neuron": True}])
@pytest.mark.parametrize("mode", [Operations, Functions])
@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_mode_of_the_user_sees_no_operation_of_ours(
    mode: Any, outside: bool, steps: int, options: dict[str, Any]
) -> None:
    """Around the attachment, and around each call alone."""
    model, x = Net(), spikes(2, 2, 3, 3)
    with torch.no_grad():
        with mode() as plain:
            for _ in range(steps):
                model(x)
        beside, monitor = mode(), sm.Monitor(model, batch_dim=0, **options)
        if outside:
            with beside, monitor:
                for _ in range(steps):
                    model(x)
        else:
            with monitor, beside:
                for _ in range(steps):
                    model(x)
    assert beside.seen == plain.seen
    assert monitor.compute().layers["fc"].synops == 4 * float(
        model.fire(model.conv(x)).sum()
    ) * steps / (2 * steps)


@pytest.mark.parametrize("differentiable", [True, False])
def test_flops_are_those_of_the_model(differentiable: bool) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.attention = (
                nn.Linear(6, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
            )
            self.rnn = nn.ConvTranspose1d(8, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.lift(x)
            x = self.attention(x, x, x)[0]
            return self.rnn(x.mT)

    model, x = Attending(), spikes(2, 5, 6).requires_grad_()
    with FlopCounterMode(display=False) as plain:
        model(x).sum().backward()
    monitor = sm.Monitor(model, batch_dim=0, differentiable=differentiable)
    with FlopCounterMode(display=False) as beside, monitor:
        model(x).sum().backward()
    assert beside.get_flop_counts() == plain.get_flop_counts()
    assert plain.get_total_flops() > 0


def test_known_layers_and_neurons_run_with_the_function_mode_off() -> None:
    """A mode that replaces ours sees as many functions in them as it would alone."""
    seen: list[bool] = []

    class Probe(nn.Linear):
        """A layer of a package that is trusted, which says whether a mode is on."""

        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch._C._len_torch_function_stack() > 0)
            return F.linear(x, self.weight, self.bias)

    Probe.__module__ = Probe.forward.__module__ = "torch.nn.modules.linear"
    model, x = nn.Sequential(Probe(4, 3)), torch.ones(2, 4)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        for _ in range(3):
            model(x)
    assert seen == [True, False, False], "heard at the first call; known from then on"
    assert monitor.compute().layers["0"].synops == 12.0
    seen.clear()
    own, monitor = nn.Sequential(type("Own", (Probe,), {"__module__": "user"})(4, 3)), None
    with (monitor := sm.Monitor(own, batch_dim=0)):
        for _ in range(3):
            own(x)
    assert seen == [True] * 3, "a subclass with a forward of its own is always heard"
    assert monitor.compute().layers["0"].synops == 12.0


def test_known_neurons_run_with_the_function_mode_off() -> None:
    snn = pytest.importorskip("snntorch")
    seen: list[bool] = []

    def surrogate(x: Tensor) -> Tensor:
        seen.append(torch._C._len_torch_function_stack() > 0)
        return (x > 0).float()

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neurons = snn.Leaky(beta=0.5, spike_grad=surrogate)

        def forward(self, x: Tensor) -> Tensor:
            return self.neurons(x, self.neurons.init_leaky())[0]

    model = Loop()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        model(torch.full((2, 4), 3.0))
    assert seen
    assert not any(seen)
    assert monitor.compute().neurons["neurons"].spikes == 4.0


# ------------------------------------------------------------------------------ the cost

COST = """
import sys
import torch
import torchmetrics  # it imports torchvision where that is installed, which imports the compiler
from torch import Tensor, nn

brought = "torch._dynamo" in sys.modules
import snnmetrics as sm

class Fire(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).float()

sm.register_neuron(Fire, lead="B")
model, calls = nn.Sequential(Fire(), nn.Linear(512, 10)), 0
monitor, x = sm.Monitor(model), torch.rand(8, 512)
with torch.no_grad(), monitor:
    assert brought or "torch._dynamo" not in sys.modules, "attaching imports the compiler"
    with monitor.batch(8, 100):
        for _ in range(100):
            model(x)

    def profile(frame, event, arg):
        global calls
        calls += event == "call" and "/snnmetrics/" in frame.f_code.co_filename

    with monitor.batch(8, 104):
        for _ in range(4):
            model(x)  # weights are compared, and sums begun
        sys.setprofile(profile)
        for _ in range(100):
            model(x)
        sys.setprofile(None)
assert brought or "torch._dynamo" not in sys.modules, "a forward imports the compiler"
monitor.compute()
assert brought or "torch._dynamo" not in sys.modules, "a report imports the compiler"
print(calls - 100 * brought)  # with the compiler, a root call has modules that it made run eagerly
"""


def test_a_step_makes_at_most_25_calls_and_nothing_imports_the_compiler() -> None:
    """Python calls of ours in one step of neurons and a linear layer, root call included."""
    done = subprocess.run(
        [sys.executable, "-c", COST], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) <= 25 * 100
