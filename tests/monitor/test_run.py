"""``Monitor.run`` fits how models are run: what it counts equals loops that are written by hand."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import snntorch as snn
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import snnmetrics as sm

T = 5


class LoopInside(nn.Module):
    """A snnTorch model that takes an image, and loops over time with states of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 5), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(5, 3), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spikes = []
        for _ in range(T):
            spike1, mem1 = self.lif1(2 * self.fc1(x), mem1)
            spike2, mem2 = self.lif2(2 * self.fc2(spike1), mem2)
            spikes.append(spike2)
        return torch.stack(spikes)


class HiddenStates(nn.Module):
    """A snnTorch model of hidden states, that loops over the time of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 5), snn.Leaky(beta=0.9, init_hidden=True)
        self.fc2, self.lif2 = nn.Linear(5, 3), snn.Leaky(beta=0.9, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        step = [self.lif2(2 * self.fc2(self.lif1(2 * self.fc1(s)))) for s in x]
        return torch.stack(step)

    def reset(self) -> None:
        self.lif1.reset_mem()
        self.lif2.reset_mem()


def multi_step() -> nn.Sequential:
    """A SpikingJelly model of several steps, with states that stay until they are reset."""
    net = nn.Sequential(layer.Linear(6, 5), neuron.LIFNode(), layer.Linear(5, 3), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    nn.init.uniform_(net[0].weight, 0.0, 0.8)
    nn.init.uniform_(net[2].weight, 0.0, 1.5)
    return net


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    """Pairs of images and targets, the last batch shorter."""
    torch.manual_seed(0)
    return [(torch.rand(size, 6), torch.zeros(size)) for size in (4, 4, 2)]


def repeated(batch: tuple[Tensor, Tensor]) -> Tensor:
    return batch[0].repeat(T, 1, 1)


# ------------------------------------------------------------------ the same as by hand


def test_snntorch_loop_over_time(batches: list[tuple[Tensor, Tensor]]) -> None:
    model = HiddenStates()
    by_hand = sm.Monitor(model)
    with by_hand, torch.no_grad():
        for x, _ in batches:
            model.reset()
            with by_hand.batch(samples=len(x), steps=T):
                model(x.repeat(T, 1, 1))
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    report = monitor.run(batches, prepare=repeated, before_batch=HiddenStates.reset)
    assert report == by_hand.compute()
    assert (report.samples, report.steps) == (10, T)
    assert report.neurons["lif1"].spikes > 0


def test_spikingjelly_of_several_steps_with_reset_net(batches: list[tuple[Tensor, Tensor]]) -> None:
    model = multi_step()
    by_hand = sm.Monitor(model, batch_dim=1, time_dim=0)
    spikes = 0.0
    with by_hand, torch.no_grad():
        for x, _ in batches:
            functional.reset_net(model)
            spikes += model(x.repeat(T, 1, 1)).sum().item()
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    report = monitor.run(batches, prepare=repeated, before_batch=functional.reset_net)
    assert report == by_hand.compute()
    assert report.neurons["3"].spikes == spikes / 10 > 0
    assert report.notes == ()


def test_model_that_loops_inside(batches: list[tuple[Tensor, Tensor]]) -> None:
    model = LoopInside()
    by_hand = sm.Monitor(model)
    spikes = 0.0
    with by_hand, torch.no_grad():
        for x, _ in batches:
            with by_hand.batch(samples=len(x), steps=T):
                spikes += model(x).sum().item()
    report = sm.Monitor(model, batch_dim=0, steps=T).run(batches)
    assert report == by_hand.compute()
    assert report.steps == T
    assert report.neurons["lif2"].firing_rate == pytest.approx(spikes / (10 * 3 * T))


# ------------------------------------------------------------------------- prepare


@pytest.mark.parametrize(
    "prepare",
    [
        lambda batch: batch["x"],
        lambda batch: (batch["x"],),
        lambda batch: {"input": batch["x"]},
    ],
)
def test_prepare_gives_one_value_a_tuple_or_a_dict(prepare: Callable[[Any], Any]) -> None:
    loader = [{"x": torch.eye(4), "target": torch.zeros(4)}]
    report = sm.Monitor(nn.Linear(4, 3), batch_dim=0).run(loader, prepare=prepare)
    assert (report.samples, report.layers["Linear"].synops) == (4, 3.0)


def test_prepare_may_give_several_arguments() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.fc(x + y)  # type: ignore[no-any-return]

    loader = [(torch.zeros(2), torch.eye(4)[:2], torch.eye(4)[2:])]
    report = sm.Monitor(Sum(), batch_dim=0).run(loader, prepare=lambda batch: batch[1:])
    assert report.layers["fc"].synops == 6.0


def test_weights_that_code_between_batches_writes_are_compared() -> None:
    """Half of the weights are zero in the second batch alone."""
    fc, calls = nn.Linear(4, 3, bias=False), []

    def prune_then_restore(model: nn.Module) -> None:
        calls.append(model)
        with torch.no_grad():
            fc.weight.data[:, :2] = 0.0 if len(calls) == 2 else 1.0

    loader = [torch.ones(1, 4)] * 3
    report = sm.Monitor(fc, batch_dim=0).run(loader, before_batch=prune_then_restore)
    assert report.counts()["Linear"]["effective_synops"] == 12 + 6 + 12
    assert calls == [fc] * 3

    calls.clear()

    def prepare(batch: Tensor) -> Tensor:
        prune_then_restore(fc)
        return batch

    report = sm.Monitor(fc, batch_dim=0).run(loader, prepare=prepare)
    assert report.counts()["Linear"]["effective_synops"] == 12 + 6 + 12


@pytest.mark.parametrize("name", ["prepare", "before_batch"])
def test_what_is_not_a_function_is_refused(name: str) -> None:
    monitor, fetched = sm.Monitor(nn.Linear(4, 3), batch_dim=0), iter([torch.ones(1, 4)])
    wrong: Any = {name: "reset"}
    with pytest.raises(TypeError, match=f"{name}: expected a function, found 'reset'"):
        monitor.run(fetched, **wrong)
    assert len(list(fetched)) == 1


@pytest.mark.parametrize("empty", [(), []])
def test_a_batch_without_an_input_is_refused(empty: Any) -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=0)
    with pytest.raises(ValueError, match=r"loader: expected batches whose first entry"):
        monitor.run([torch.ones(1, 4), empty])
    assert monitor.compute().samples == 1


# -------------------------------------------------------------- states that go on


def test_states_that_go_on_from_batch_to_batch_are_noted(
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    model = multi_step()
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    (note,) = monitor.run(batches[:2], prepare=repeated).notes
    assert note.startswith("1, 3: the state of these neurons is carried over from batch to batch")
    assert "run(..., before_batch=...)" in note
    assert note in " ".join(str(monitor.compute()).split())

    hidden = HiddenStates()
    hidden_monitor = sm.Monitor(hidden, batch_dim=1, time_dim=0)
    (note,) = hidden_monitor.run(batches[:2], prepare=repeated).notes
    assert note.startswith("lif1, lif2: the state")


def test_states_that_go_on_over_recordings_of_varying_length_are_noted() -> None:
    x = torch.full((6, 2, 4), 0.3)
    model = nn.Sequential(neuron.IFNode(step_mode="m"))
    monitor = sm.Monitor(model, batch_dim=1, time_dim=0)
    (note,) = monitor.run([x[:1], x[:2]]).notes
    assert note.startswith("0: the state of these neurons is carried over from batch to batch")
    functional.reset_net(model)
    monitor.reset()
    assert monitor.run([x[:1], x[:2]], before_batch=functional.reset_net).notes == ()
    functional.reset_net(model)
    monitor.reset()
    assert monitor.run([x[:1, :1], x[:1]]).notes == ()  # another number of samples


def test_a_model_without_a_tensor_among_its_arguments_says_what_it_got() -> None:
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=0)
    with pytest.raises(ValueError, match=r"batch_dim: expected a tensor .*, found list; call it"):
        monitor.run([torch.ones(2, 4)], prepare=lambda x: [x])


def test_states_that_do_not_go_on_are_not_noted(batches: list[tuple[Tensor, Tensor]]) -> None:
    """They are reset within the forward, by the input of another size, or there is one batch."""
    inside = sm.Monitor(LoopInside(), batch_dim=0, steps=T)
    assert inside.run(batches).notes == ()
    hidden = HiddenStates()
    monitor = sm.Monitor(hidden, batch_dim=1, time_dim=0)
    assert monitor.run(batches[:1], prepare=repeated).notes == ()
    hidden.reset()
    assert monitor.run(batches[1:], prepare=repeated).notes == ()


def test_states_of_sinabs_and_states_that_the_caller_keeps() -> None:
    layers = pytest.importorskip("sinabs.layers")
    model = nn.Sequential(nn.Linear(4, 3), layers.IAF())
    monitor, x = sm.Monitor(model, batch_dim=0, time_dim=1), torch.rand(2, 5, 4)
    (note,) = monitor.run([x, x]).notes
    assert note.startswith("1: the state of these neurons is carried over")
    monitor.reset()
    assert monitor.run([x, x], before_batch=lambda net: net[1].reset_states()).notes == ()

    class Given(nn.Module):
        """The state is an argument of the neurons: one that was forgotten is not used."""

        def __init__(self) -> None:
            super().__init__()
            self.lif = snn.Leaky(beta=0.9)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(x, torch.zeros_like(x))[0]  # type: ignore[no-any-return]

    assert sm.Monitor(Given(), batch_dim=0).run([x, x]).notes == ()


def test_many_neurons_of_which_the_state_goes_on_are_counted() -> None:
    """Inputs of 0.3 add up, without a spike, in five layers of neurons beside each other."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neurons = nn.ModuleList(neuron.IFNode() for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([one(x) for one in self.neurons])

    report = sm.Monitor(Beside(), batch_dim=0).run([torch.full((2, 4), 0.3)] * 2)
    assert report.notes[0].startswith("neurons.0, neurons.1, neurons.2 and 2 more: the state of")


class Nested(nn.Module):
    """Neurons that store their state, not direct children of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True))
        nn.init.constant_(self.body[0].weight, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]


def test_a_before_batch_that_does_not_reach_the_neurons_is_noted() -> None:
    """As snnTorch's ``utils.reset``, which resets direct children."""
    model, x = Nested(), torch.ones(2, 4)
    monitor = sm.Monitor(model, batch_dim=0)
    (note,) = monitor.run([x, x], before_batch=utils.reset).notes
    assert note.startswith("body.1: the state of these neurons is carried over")
    assert "the function given as run(..., before_batch=...) does not reset it" in note
    assert note.endswith("snntorch.utils.reset resets only direct children of the model")
    monitor.reset()
    assert monitor.run([x, x], before_batch=lambda net: net.body[1].reset_mem()).notes == ()


@pytest.mark.parametrize("outside", [False, True])
def test_states_that_a_loop_of_ones_own_carries_over_are_noted(outside: bool) -> None:
    model, x = Nested(), torch.ones(2, 4)
    monitor = sm.Monitor(model, batch_dim=None if outside else 0)

    def epoch(reset: bool) -> tuple[str, ...]:
        for _ in range(3):
            if reset:
                model.body[1].reset_mem()  # type: ignore[operator]
            with monitor.batch(2, 3) if outside else nullcontext():
                for _ in range(3 if outside else 1):
                    model(x)
        return monitor.compute().notes

    with monitor, torch.no_grad():
        assert epoch(reset=True) == ()
        monitor.reset()
        (note,) = epoch(reset=False)
        assert note.startswith("body.1: the state of these neurons is carried over")
        assert "or call it before each batch of a loop" in note
        monitor.reset()
        assert epoch(reset=True) == ()
    with monitor:  # training may carry states on purpose
        monitor.reset()
        assert epoch(reset=False) == ()


# ----------------------------------------------------------------------- progress


class Stream(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"),
    [
        (False, None, False),
        (True, None, True),
        (True, False, False),
        (False, True, True),
    ],
)
def test_a_bar_is_shown_on_terminals_or_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, progress: bool | None, shown: bool
) -> None:
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=0)
    assert monitor.run([torch.ones(2, 4)] * 3, progress=progress).samples == 6
    assert ("3/3" in stream.getvalue()) is shown


def test_a_bar_is_shown_in_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutStream(Stream):
        """As ipykernel's, which is no terminal."""

    OutStream.__module__ = "ipykernel.iostream"
    stream = OutStream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    sm.Monitor(nn.Linear(4, 3), batch_dim=0).run([torch.ones(2, 4)] * 3)
    assert "3/3" in stream.getvalue()


def test_a_bar_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    """None goes without; True raises before anything is counted."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr("snnmetrics.monitor.monitor.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    monitor = sm.Monitor(nn.Linear(4, 3), batch_dim=0)
    assert monitor.run([torch.ones(2, 4)]).samples == 2
    with pytest.raises(ImportError, match="tqdm is not installed"):
        monitor.run([torch.ones(2, 4)], progress=True)
    assert monitor.compute().samples == 2
    with pytest.raises(TypeError, match="progress: expected True or False, found 'yes'"):
        monitor.run([torch.ones(2, 4)], progress="yes")  # type: ignore[arg-type]


def test_looking_at_states_adds_no_rows() -> None:
    """Products are identified by the calls that lead to them, also in the batch that is watched."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.lif = layer.Linear(6, 6, step_mode="m"), neuron.LIFNode(step_mode="m")

        def scores(self, q: Tensor) -> Tensor:
            return q @ q.transpose(-2, -1)

        def forward(self, x: Tensor) -> Tensor:
            q = self.lif(4 * self.q(x))
            return self.scores(q) @ q  # type: ignore[no-any-return]

    model, x = nn.Sequential(Attention()), torch.rand(3, 2, 4, 6)
    by_hand = sm.Monitor(model, batch_dim=1, time_dim=0)
    with by_hand, torch.no_grad():
        for _ in range(3):
            model(x)
    functional.reset_net(model)
    report = sm.Monitor(model, batch_dim=1, time_dim=0).run([x, x, x])
    assert report.notes[0].startswith("0.lif: the state of these neurons is carried over")
    assert report.layers_data == by_hand.compute().layers_data
    assert set(report.layers) == {"0.q", "0.matmul", "0.matmul_1"}


def stopped(monitor: sm.Monitor, x: Tensor) -> None:
    with monitor.batch(2):
        monitor.model(x)
        raise KeyError


def test_a_batch_that_fails_leaves_no_note_and_is_checked_again() -> None:
    model, x = Nested(), torch.ones(2, 4)
    monitor = sm.Monitor(model)
    with monitor, torch.no_grad():
        with monitor.batch(2):
            model(x)
        with pytest.raises(KeyError):
            stopped(monitor, x)
        assert monitor.compute().notes == ()
    fails, calls = Nested(), []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError

    fails.body[0].register_forward_hook(fail)
    again = sm.Monitor(fails, batch_dim=0)
    with again, torch.no_grad():
        fails(x)
        with pytest.raises(KeyError):
            fails(x)
        fails(x)
    assert "carried over" in again.compute().notes[0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_constants_of_neurons_and_states_given_as_none_are_no_states_of_a_batch_before() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("tau", torch.tensor(2.0), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).float()

    sm.register_neuron(Constant, lead="B")
    x = torch.ones(2, 4)
    assert notes_of(nn.Sequential(Constant()), x, x, batch_dim=0) == ()
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)])

    class Two(nn.Module):
        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            return x

    model = Two()
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        model(x, nested)
        model(x, nested)
    assert monitor.compute().samples == 4


def test_batch_normalisation_in_training_mode_is_noted() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    monitor = sm.Monitor(model, batch_dim=0)
    notes = monitor.run([torch.ones(2, 4)]).notes
    said = "run() was called on a model in training mode"
    assert len([note for note in notes if note.startswith(said)]) == 1
    assert model.training
    monitor.reset()
    monitor.run([], before_batch=lambda net: net.eval())
    assert not any("training mode" in note for note in monitor.compute().notes)
    report = monitor.run([torch.ones(2, 4)], before_batch=lambda net: net.eval())
    assert not any("training mode" in note for note in report.notes)


# ----------------------------------------------------- declarations that the neurons contradict


class Steps(nn.Module):
    """Takes ``(T, B, 4)`` or an image ``(B, 4)`` for ``steps`` steps, and loops inside."""

    def __init__(self, steps: int | None = None) -> None:
        super().__init__()
        self.fc, self.lif, self.steps = nn.Linear(4, 3), snn.Leaky(beta=0.9), steps

    def forward(self, x: Tensor) -> Tensor:
        memory = self.lif.reset_mem()
        for step in x if self.steps is None else [x] * self.steps:
            spike, memory = self.lif(self.fc(step), memory)
        return spike  # type: ignore[no-any-return]


def notes_of(model: nn.Module, *inputs: Tensor, **arguments: Any) -> tuple[str, ...]:
    return sm.Monitor(model, **arguments).run(inputs).notes


@pytest.mark.parametrize("declared", [2, 3, 8])
def test_steps_that_no_neurons_have_are_noted(declared: int) -> None:
    x = torch.ones(6, 4)
    assert notes_of(Steps(4), x, x[:1], batch_dim=0, steps=4) == ()
    (note,) = notes_of(Steps(4), x, x[:1], batch_dim=0, steps=declared)
    said = f"neurons ran 4 times per sample, and {declared} time steps were declared: check "
    assert note.startswith(said)


def test_steps_of_batches_of_different_length_are_not_noted() -> None:
    x = torch.ones(7, 6, 4)
    assert notes_of(Steps(), x, x[:2], x[:3, :1], batch_dim=1, time_dim=0) == ()


def test_batch_and_time_in_the_opposite_order_are_noted() -> None:
    """Counts would be per time step, and steps would be samples."""
    for samples in (6, 8, 9):  # no multiple, equal to and a multiple of ...
        x = torch.ones(3, samples, 4)
        assert notes_of(Steps(), x, batch_dim=1, time_dim=0) == ()
        (note,) = notes_of(Steps(), x, batch_dim=0, time_dim=1)
        said = "lif: the rows of its outputs do not fit the declared samples: check batch_dim, "
        assert note.startswith(said)
    x = torch.ones(3, 8, 4)
    notes = notes_of(Steps(), x, batch_dim=0, steps=3)
    assert notes[0].startswith("lif: the rows of its outputs do not fit")
    square = torch.ones(5, 5, 4)  # either is possible
    assert notes_of(Steps(), square, batch_dim=0, time_dim=1) == ()


def test_neurons_that_take_batch_and_time_as_one_dimension_fit() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire = Fire()

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(x.flatten(0, 1))  # type: ignore[no-any-return]

    assert notes_of(Flat(), torch.ones(3, 6, 4), batch_dim=1, time_dim=0) == ()
    for samples in (1, 3, 6):  # also where there are as many samples as steps, or one
        assert notes_of(Flat(), torch.ones(samples, 3, 4), batch_dim=0, time_dim=1) == ()


def test_neurons_that_see_some_of_the_samples_are_not_noted() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire = Fire()

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(x[:3])  # type: ignore[no-any-return]

    notes = notes_of(Routed(), torch.ones(8, 4), batch_dim=0)
    assert not any("rows" in note for note in notes)


class Fire(nn.Module):
    """Emits its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


sm.register_neuron(Fire, lead="B")


def test_graded_outputs_are_noted() -> None:
    model = nn.Sequential(Fire(), nn.Linear(4, 3))
    x = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.5]])
    monitor = sm.Monitor(model, batch_dim=0)
    report = monitor.run([x])
    assert any(note.startswith("0: outputs are not whole numbers") for note in report.notes)
    row = report.neurons["0"]
    assert (row.firing_rate, 1 - row.sparsity) == (1.5 / 8, 3 / 8)
    assert not any("whole numbers" in n for n in notes_of(model, 2 * x, batch_dim=0))
    assert not any("whole numbers" in n for n in notes_of(model, 0 * x, batch_dim=0))
