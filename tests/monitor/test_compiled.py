"""Compiled models are counted as they run, and their counts are those of the plain model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import snnmetrics as sm
from snnmetrics.monitor.graphs import compiler
from snnmetrics.monitor.graphs.counted_graph import Replay
from tests.frozen.models import figures
from tests.integration.models import CASES, Case
from tests.integration.test_frameworks import measured, monitor_of, run

pytestmark = pytest.mark.filterwarnings("ignore")
HAS_COMPILER = bool(shutil.which("c++") or shutil.which("g++"))
INDUCTOR = "inductor" if HAS_COMPILER else "aot_eager"
_TRACED = ["spikingjelly_cnn_multi_step", "snntorch_recurrent", "multihead_attention"]


@pytest.fixture(autouse=True)
def _fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # In this process: for a kernel or two no pool of compilers need be started.
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def _no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Replay, *args: Any) -> None:
        raise AssertionError("a graph ran eagerly")

    monkeypatch.setattr(Replay, "run", refuse)


only_compiled = pytest.mark.usefixtures("_no_replay")


def spikes(*shape: int, rate: float = 0.4) -> Tensor:
    torch.manual_seed(3)
    return (torch.rand(shape) < rate).float()


def assert_close(found: Any, expected: Any, path: str = "") -> None:
    """Counts are equal; sums of analog values to what float32 holds."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for key in expected:
            assert_close(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{path}/{number}")
    elif isinstance(expected, float) and not isinstance(found, str):
        assert math.isclose(found, expected, rel_tol=1e-6), (path, found, expected)
    else:
        assert found == expected, path


def keys_of(report: sm.Report) -> list[Any]:
    return [(name, data.key) for name, data in report.layers_data.items()]


def counted(model: nn.Module, call: Callable[..., Any], *batches: Tensor, **more: Any) -> sm.Report:
    monitor = sm.Monitor(model, batch_dim=0, **more)
    with monitor:
        for x in batches:
            call(x)
    return monitor.compute()


def assert_counted_alike(
    model: nn.Module, compiled: Callable[..., Any], *batches: Tensor, **more: Any
) -> sm.Report:
    """A compiled model and the plain one have the same report; twice, so that plans are used."""
    batches = (*batches, *batches)
    expected = counted(model, model, *batches, **more)
    found = counted(model, compiled, *batches, **more)
    assert_close(figures(found), figures(expected))
    assert keys_of(found) == keys_of(expected)
    return found


# ------------------------------------------------------------------- models of frameworks


def assert_case(case: Case, backend: str) -> None:
    x = case.inputs()
    expected = measured(case, x, x)
    model = case.model()
    compiled = torch.compile(model, backend=backend)
    monitor = monitor_of(case, model)
    with torch.no_grad():
        for _ in range(2):
            with monitor:
                run(case, monitor, compiled, x)
    found = monitor.compute()
    assert_close(figures(found), figures(expected))
    assert keys_of(found) == keys_of(expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_models_have_the_counts_and_rows_of_the_plain_model(case: Case) -> None:
    assert_case(case, "eager")


@pytest.mark.parametrize("case", [c for c in CASES if c.name in _TRACED], ids=lambda c: c.name)
def test_they_have_them_behind_a_backend_that_traces_functions(case: Case) -> None:
    assert_case(case, "aot_eager")


@pytest.mark.parametrize("case", [c for c in CASES if c.name in _TRACED[:1]], ids=lambda c: c.name)
def test_they_have_them_behind_inductor(case: Case) -> None:
    assert_case(case, INDUCTOR)


# ----------------------------------------------------------------------- number of graphs


class Fire(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.1).float()


sm.register_neuron(Fire, lead="B")


class Block(nn.Module):
    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.fc, self.fire = nn.Linear(size, size), Fire()
        self.mixing = nn.Parameter(torch.randn(size, size))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.fire(self.fc(x)) @ self.mixing.t()
        return (mixed + (x @ x.t()).mean() > 0.2).float()


@torch.compiler.disable
def outside(x: Tensor) -> Tensor:
    return F.linear(x, torch.ones(6, 6))


class Stack(nn.Module):
    def __init__(self, breaks: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.readout, self.breaks = nn.Linear(6, 3), breaks

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self.blocks):
            x = block(x)
            if self.breaks and number == 1:
                torch._dynamo.graph_break()
                x = outside((x > 0).float())
        return self.readout(x)


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@only_compiled
@pytest.mark.parametrize("breaks", [False, True])
def test_attaching_compiles_once_more_and_detaching_nothing(breaks: bool) -> None:
    model, x = Stack(breaks), spikes(5, 6)
    before = graphs()
    compiled = torch.compile(model, backend="aot_eager")
    expected = compiled(x)
    plain = graphs() - before
    for _ in range(3):
        with sm.Monitor(model, batch_dim=0):
            assert torch.equal(compiled(x), expected)
            compiled(x)
        assert graphs() - before == 2 * plain
        assert torch.equal(compiled(x), expected)
        assert graphs() - before == 2 * plain


def test_detaching_leaves_the_compiler_as_it_was() -> None:
    callback, model = eval_frame._callback_from_stance, nn.Linear(3, 2)
    init = torch._dynamo.variables.torch_function.SymbolicTorchFunctionState.__init__
    compiled = torch.compile(model, backend="eager")
    with sm.Monitor(model, batch_dim=0):
        assert eval_frame._callback_from_stance is not callback
        compiled(spikes(2, 3))
    assert eval_frame._callback_from_stance is callback
    assert torch._dynamo.variables.torch_function.SymbolicTorchFunctionState.__init__ is init
    assert not compiler.is_entered


# -------------------------------------------------------------------------- kinds of use


@only_compiled
@pytest.mark.parametrize("breaks", [False, True])
def test_equal_blocks_share_a_graph_and_have_rows_of_their_own(breaks: bool) -> None:
    model = Stack(breaks)
    report = assert_counted_alike(model, torch.compile(model, backend="eager"), spikes(5, 6))
    names = [f"blocks.{number}.fc" for number in range(4)]
    assert set(names) <= set(report.layers)
    assert set(report.neurons) == {f"blocks.{number}.fire" for number in range(4)}


@only_compiled
def test_sizes_may_change() -> None:
    model = Stack()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    assert_counted_alike(model, compiled, *(spikes(size, 6) for size in (4, 7, 9)))


@only_compiled
@pytest.mark.parametrize("way", ["fullgraph", "in place", "a part", "a function"])
def test_ways_to_compile(way: str) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = Block(), nn.Linear(6, 2)
            self.double: Callable[[Tensor], Tensor] = lambda x: x @ torch.ones(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.double(self.first(x)))

    torch.manual_seed(1)
    model, x = Whole(), spikes(4, 6)
    expected = counted(model, model, x, x)
    call: Callable[..., Any] = model
    if way == "fullgraph":
        call = torch.compile(model, backend="aot_eager", fullgraph=True)
    elif way == "in place":
        model.compile(backend="aot_eager")
    elif way == "a part":
        model.first = torch.compile(model.first, backend="aot_eager")  # type: ignore[assignment]
    else:
        model.double = torch.compile(model.double, backend="aot_eager")
    found = counted(model, call, x, x)
    assert_close(found.counts(), expected.counts())
    assert not found.uncounted


@only_compiled
def test_a_training_step_has_the_gradients_of_the_compiled_model() -> None:
    model, x = Stack(), spikes(5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x).sum().backward()
    expected = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    report = None
    for _ in range(2):
        model.zero_grad()
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor:
            compiled(x).sum().backward()
        report = monitor.compute()
        found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if b is not None)
    with torch.no_grad():
        assert report is not None
        assert_close(report.counts(), counted(model, model, x).counts())


@only_compiled
def test_inference_mode_and_autocast() -> None:
    model, x = Stack(), spikes(5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    with torch.inference_mode():
        assert_counted_alike(model, compiled, x)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        report = counted(model, compiled, x, x)
        assert report.layers["blocks.0.fc"].synops == float(x.sum()) * 6 / 5


def test_run_compares_weights_of_compiled_models() -> None:
    model, batches = Stack(), [spikes(5, 6)] * 3
    compiled = torch.compile(model, backend="aot_eager")
    found = sm.Monitor(compiled, batch_dim=0).run(batches)
    assert_close(found.counts(), sm.Monitor(model, batch_dim=0).run(batches).counts())
    assert graphs() > 0

    def zeroed(x: Tensor) -> Iterator[Tensor]:
        yield x
        yield x
        with torch.no_grad():
            model.readout.weight.data.zero_()

    with pytest.raises(RuntimeError, match="readout: expected the same weights"):
        sm.Monitor(compiled, batch_dim=0).run(zeroed(batches[0]))


@only_compiled
def test_a_checkpoint_is_counted_once() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = Block(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(checkpoint(self.body, x, use_reentrant=False))

    torch.manual_seed(1)
    model, x = Checkpointed(), spikes(4, 6)
    compiled = torch.compile(model, backend="aot_eager")
    found = assert_counted_alike(model, compiled, x)
    assert found.neurons["body.fire"].firing_rate is not None
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        compiled(x.requires_grad_()).sum().backward()
    assert_close(monitor.compute().counts(), counted(model, model, x).counts())


@only_compiled
def test_weights_that_are_computed_follow_what_they_are_computed_from() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 6))
            self.register_buffer("mask", torch.ones(3, 6))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight * self.mask)

    model, x = Masked(), spikes(4, 6)
    compiled, monitor = torch.compile(model, backend="aot_eager"), sm.Monitor(model, batch_dim=0)
    for zeros in (0, 1, 2):
        with torch.no_grad():
            model.mask[:zeros] = 0  # type: ignore[index]
        monitor.reset()
        with monitor:
            compiled(x)
        (row,) = monitor.compute().layers.values()
        assert row.acs == float(x.sum()) * (3 - zeros) / 4


@only_compiled
def test_weights_that_change_between_batches_are_compared() -> None:
    model, x = nn.Sequential(nn.Linear(6, 3, bias=False)), spikes(4, 6)
    compiled, monitor = torch.compile(model, backend="aot_eager"), sm.Monitor(model, batch_dim=0)
    with monitor:
        compiled(x)
        model[0].weight.data[1:] = 0.0  # type: ignore[union-attr]
        compiled(x)
    assert monitor.compute().layers["0"].acs == float(x.sum()) * (3 + 1) / 8


@only_compiled
def test_maps_and_rows_left_out() -> None:
    model, x = Stack(), spikes(5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    found = assert_counted_alike(model, compiled, x, per_neuron=True)
    expected = counted(model, model, x, x, per_neuron=True)
    for name, data in expected.layers_data.items():
        if data.synops_per_neuron is not None:
            mine = found.layers_data[name].synops_per_neuron
            assert mine is not None
            assert torch.allclose(mine, data.synops_per_neuron)
    left = counted(model, compiled, x, exclude=["blocks.1"])
    assert_close(left.counts(), counted(model, model, x, exclude=["blocks.1"]).counts())


# ------------------------------------------------------------- what is not compiled, errors


@pytest.mark.parametrize("option", ["per_sample", "differentiable"])
def test_options_that_need_single_vectors_run_eagerly_and_say_so(option: str) -> None:
    model, x = Stack(), spikes(5, 6)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        found = counted(model, compiled, x, **{option: True})
        assert_close(found.counts(), counted(model, model, x).counts())
    assert any(option in note and "eagerly" in note for note in found.notes)


def test_a_graph_that_cannot_be_read_runs_eagerly_alone() -> None:
    class Correlates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            kernel = (self.fc(x) > 0).float()
            return F.conv1d(x.unsqueeze(1), kernel.unsqueeze(1)).sum()

    torch.manual_seed(1)
    model, x = Correlates(), spikes(4, 6)
    found = assert_counted_alike(model, torch.compile(model, backend="eager"), x)
    assert any("convolution of two activations" in note for note in found.notes)


def test_a_function_that_is_compiled_too_often_is_counted_and_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "_LIMIT", 2)
    model = nn.Sequential(nn.Linear(6, 3), Fire(), nn.Linear(3, 2))
    compiled = torch.compile(model, backend="eager", dynamic=False)
    batches = [spikes(size, 6) for size in (2, 3, 4, 5)]
    with torch._dynamo.config.patch(recompile_limit=2):
        found = assert_counted_alike(model, compiled, *batches)
    assert any("was compiled" in note for note in found.notes)


@only_compiled
def test_nan_and_contradicted_declarations_are_refused_with_the_batch() -> None:
    model, x = nn.Sequential(nn.Linear(6, 3)), spikes(4, 6)
    compiled, monitor = torch.compile(model, backend="eager"), sm.Monitor(model, batch_dim=0)
    with monitor:
        compiled(x)
        with pytest.raises(ValueError, match="found NaN or infinity"):
            compiled(torch.full((4, 6), torch.nan))
    assert monitor.compute().calls == 1
    declared = sm.Monitor(model, batch_dim=0, kinds={"0": "binary"})
    with declared, pytest.raises(ValueError, match="declared binary, found integer"):
        compiled(3 * x)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    scaled = sm.Monitor(model, batch_dim=0, input_scale={"0": 0.5})
    with scaled, pytest.raises(ValueError, match=r"input_scale: .* was declared 0.5 times"):
        compiled(0.3 * x)


@only_compiled
def test_a_call_that_fails_adds_nothing() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fails = nn.Linear(6, 3), False

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            torch._dynamo.graph_break()
            if self.fails:
                raise RuntimeError("as asked")
            return y

    model, x = Fails(), spikes(4, 6)
    compiled, monitor = torch.compile(model, backend="eager"), sm.Monitor(model)
    with monitor, monitor.batch(samples=4):
        compiled(x)
        model.fails = True
        with pytest.raises(RuntimeError, match="as asked"):
            compiled(x)
        model.fails = False
        compiled(x)
    assert monitor.compute().layers["fc"].synops == 2 * float(x.sum()) * 3 / 4


def test_other_compiled_functions_and_two_monitors() -> None:
    model, x = Stack(), spikes(5, 6)
    compiled = torch.compile(model, backend="aot_eager")
    other = torch.compile(lambda x: (x @ x.t()).sum(), backend="aot_eager")
    first, second = sm.Monitor(model, batch_dim=0), sm.Monitor(model.blocks[0], batch_dim=0)
    with torch.no_grad(), first, second:
        compiled(x)
        assert torch.equal(other(x), (x @ x.t()).sum())
    with torch.no_grad():
        assert_close(first.compute().counts(), counted(model, model, x).counts())
    assert second.compute().calls == 1
