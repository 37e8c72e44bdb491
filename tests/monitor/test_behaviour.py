"""What a Monitor leaves alone, survives and refuses. Its numbers have tests of their own."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint
from torchmetrics.aggregation import SumMetric

import snnmetrics as sm
from snnmetrics.report import run_data
from tests.helpers.toy import Fire, Surrogate, sum_with_ones
from tests.helpers.waiting import make_waiting_copies_raise


class Net(nn.Module):
    """Spikes into a convolution, spikes into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.spike = Surrogate(0.0)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.spike(self.conv(x)).flatten(1)))


def spikes(samples: int = 4) -> Tensor:
    return (torch.rand(samples, 2, 4, 4) < 0.4).float()


def by_hand(model: Net, x: Tensor) -> dict[str, float]:
    """The sum of each layer's output with weights one and no bias, per sample."""
    hidden = (model.conv(x) > 0).flatten(1)
    found = {"conv": sum_with_ones(model.conv, x), "fc": sum_with_ones(model.fc, hidden)}
    return {name: synops.mean().item() for name, synops in found.items()}


def synops(report: sm.Report) -> dict[str, Any]:
    return {name: row.synops for name, row in report.layers.items()}


# ------------------------------------------------------------------- nothing is changed


def _everything(model: nn.Module) -> dict[str, Any]:
    """Hooks, attributes and modes of all modules, by identity or value."""
    return {
        name: {
            key: sorted(value) if isinstance(value, dict) else repr(value)
            for key, value in vars(module).items()
        }
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_buffers_and_random_state_are_bit_identical(training: bool) -> None:
    model = nn.Sequential(Net(), nn.BatchNorm1d(5)).train(training)
    twin, x = copy.deepcopy(model), spikes()
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs, states = [], []
    for one, values in zip((model, twin), inputs, strict=True):
        torch.manual_seed(5)
        if one is model:
            with sm.Monitor(model, batch_dim=0, per_neuron=True):
                out = one(values)
                out.square().sum().backward()
        else:
            out = one(values)
            out.square().sum().backward()
        outputs.append(out)
        states.append(torch.get_rng_state())
    assert torch.equal(*outputs)
    assert torch.equal(*states)
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_left_behind_and_nothing_is_there_meanwhile() -> None:
    model, call = Net(), nn.Module.__call__
    before = _everything(model)
    monitor = sm.Monitor(model, batch_dim=0).attach()
    assert _everything(model) == before
    model(spikes())
    assert _everything(model) == before
    assert _get_current_function_mode_stack() == []
    monitor.detach()
    assert _everything(model) == before
    assert nn.Module.__call__ is call


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_made_meanwhile_is_a_model_of_its_own(copier: Callable[[Any], Any]) -> None:
    model, x = Net().eval(), spikes()
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
        twin = copier(model)
        assert torch.equal(twin(x), model(x))
        assert set(twin.state_dict()) == set(Net().state_dict())
    assert monitor.compute().samples == 8, "the copy is not watched"


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
@pytest.mark.parametrize("within", ["attach", "with", "batch"])
def test_a_failure_in_forward_counts_nothing(error: type[BaseException], within: str) -> None:
    model, x = Net().eval(), spikes()
    probe = SumMetric()
    monitor = sm.Monitor(model, batch_dim=0, probes={"conv.input": probe}).attach()
    model(x)
    before, probed = monitor.compute(), probe.compute()
    call = nn.Module.__call__

    def fail(*_: Any) -> None:
        raise error

    def run() -> None:
        if within == "attach":
            model(x)
        elif within == "with":
            with monitor:
                model(x)
        else:
            with monitor.batch(samples=4):
                model(x)

    handle = model.drop.register_forward_hook(fail)
    with pytest.raises(error):
        run()
    handle.remove()
    assert _get_current_function_mode_stack() == []
    assert monitor.compute() == before
    assert probe.compute() == probed
    assert probe.update_count == 1
    assert nn.Module.__call__ is call
    model(x)
    assert monitor.compute().samples == 8
    assert synops(monitor.compute()) == synops(before)
    monitor.detach()


def test_not_finite_inputs_are_refused() -> None:
    model = Net().eval()
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(spikes())
        before = monitor.compute()
        bad = spikes()
        bad[0, 0, 0, 0] = float("nan")
        with pytest.raises(ValueError, match=r"conv: input of shape \(4, 2, 4, 4\).*NaN"):
            model(bad)
        assert monitor.compute() == before


# ------------------------------------------------------------------------- what it survives


def test_modes_of_the_caller() -> None:
    model, x = Net().eval(), spikes()
    expected = by_hand(model, x)
    for mode in (
        torch.no_grad(),
        torch.inference_mode(),
        torch.enable_grad(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor, mode:
            model(x)
        report = monitor.compute()
        assert report.layers["conv"].synops == expected["conv"]
        if not isinstance(mode, torch.autocast):  # its convolution rounds: other hidden spikes
            assert synops(report) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_precision(dtype: torch.dtype) -> None:
    model, x = Net().eval().to(dtype), spikes().to(dtype)
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
    assert synops(monitor.compute()) == by_hand(model, x)


def test_backward_is_not_counted_and_a_checkpoint_is_counted_once() -> None:
    class Checkpointed(Net):
        use_reentrant = False

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=self.use_reentrant)

    for use_reentrant, differentiable in ((False, False), (False, True), (True, False)):
        model, x = Checkpointed().eval(), spikes().requires_grad_()
        model.use_reentrant = use_reentrant
        with sm.Monitor(model, batch_dim=0, differentiable=differentiable) as monitor:
            loss = model(x).sum()
            if differentiable:
                loss = loss + monitor.batch_synops()["total"]
            loss.backward()
        report = monitor.compute()
        assert synops(report) == by_hand(model, x.detach())
        assert {data.counts["binary"].calls for data in report.layers_data.values()} == {1}


def test_one_monitor_used_twice_and_two_at_once() -> None:
    model, x = Net().eval(), spikes()
    expected = by_hand(model, x)
    monitor, other = sm.Monitor(model, batch_dim=0), sm.Monitor(model, batch_dim=0)
    for _ in range(2):
        with monitor, other:
            model(x)
    assert monitor.compute() == other.compute()
    assert monitor.compute().samples == 8
    assert synops(monitor.compute()) == expected
    monitor.reset()
    assert monitor.compute().samples == 0
    assert not monitor.compute().layers
    with monitor, monitor:  # entering twice counts once
        model(x)
    assert monitor.compute().samples == 4
    assert other.compute().samples == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_gives_the_same_counts() -> None:
    model, x = Net().eval(), spikes()
    compiled = torch.compile(model, backend="eager")
    compiled(x)  # compiled before anybody listens
    with sm.Monitor(compiled, batch_dim=0) as monitor:
        out = compiled(x)
    assert torch.equal(out, model(x))
    assert synops(monitor.compute()) == by_hand(model, x)
    assert monitor.compute().model == "Net"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler, for the spike function
def test_names_without_what_wrappers_add() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.compile(Net().eval(), backend="eager")

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model, parallel = Wrapper(), nn.DataParallel(Net().eval())
    for one, names in ((model, {"body.conv", "body.fc"}), (parallel, {"conv", "fc"})):
        with sm.Monitor(one, batch_dim=0) as monitor:
            one(spikes())
        assert set(monitor.compute().layers) == names


def test_gradient_accumulation_and_training_steps() -> None:
    model = Net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    total = {"conv": 0.0, "fc": 0.0}
    with sm.Monitor(model.eval(), batch_dim=0) as monitor:
        for _ in range(3):
            x = spikes(3)
            for name, value in by_hand(model, x).items():
                total[name] += value * 3
            model(x).sum().backward()
            optimiser.step()
    assert synops(monitor.compute()) == {name: t / 9 for name, t in total.items()}


def test_effective_synops_follow_the_weights_of_each_call() -> None:
    """Written through ``.data``, which leaves no trace in the weight's version."""
    layer = nn.Linear(3, 2, bias=False)
    x = torch.ones(1, 3)
    with sm.Monitor(layer, batch_dim=0) as monitor:
        for pattern in ([[1.0, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 1, 0]]):
            layer.weight.data.copy_(torch.tensor(pattern))
            layer(x)
        layer.weight.data[0, 0] = 5.0
        layer(x)
    counts = monitor.compute().counts()["Linear"]
    assert counts["effective_synops"] == 6 + 5 + 1 + 2
    assert counts["event_synops"] == 24


def _live_bytes() -> int:
    gc.collect()
    return sum(
        o.untyped_storage().nbytes()
        for o in gc.get_objects()
        if issubclass(type(o), Tensor)
        and not torch.nn.parameter.is_lazy(o)  # of another test, and without memory
        and o.layout is torch.strided
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_spikes_written_into_after_they_left_the_neurons(mode: Callable[[], Any]) -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.fc = Fire(0.0), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.spike(x).mul_(3))

    sm.register_neuron(Fire, lead="B")
    model = Written()
    with sm.Monitor(model, batch_dim=0) as monitor, mode():
        model(torch.tensor([[1.0, -1.0, 1.0]]))
    assert monitor.compute().layers["fc"].synops == 3 * 2 * 2
    assert monitor.compute().neurons["spike"].spikes == 2


@pytest.mark.filterwarnings("ignore")
def test_memory_grows_with_nothing() -> None:
    model = Net().eval()
    with sm.Monitor(model, batch_dim=0, per_neuron=True, differentiable=True) as monitor:

        def run(batches: int) -> int:
            for _ in range(batches):
                model(spikes()).sum().backward()
            with monitor.batch(samples=4, steps=batches):
                for _ in range(batches):
                    with torch.no_grad():
                        model(spikes())
            monitor._recorder.synops.clear()  # the graph of the last batch is the caller's
            return _live_bytes()

        run(5)
        assert run(5) == run(200)


def test_no_activation_outlives_its_call() -> None:
    """Not in a batch that is complete, nor between the steps of one that is open."""
    sm.register_neuron(Fire, lead="B")
    model, seen = Net().eval(), []
    model.spike = Fire(0.0)
    for module in model.modules():
        module.register_forward_hook(
            lambda m, args, out: seen.extend(weakref.ref(t) for t in (*args, out))
        )
    probes = {"spike.output": SumMetric()}
    with sm.Monitor(model, batch_dim=0, per_neuron=True, probes=probes) as monitor:
        model(spikes())
        with monitor.batch(samples=4), torch.no_grad():
            model(spikes())
            gc.collect()
            assert len(seen) >= 16
            assert not any(ref() is not None for ref in seen)


# ------------------------------------------------------------------- samples, steps, time


def test_step_loop_and_single_call_agree() -> None:
    model = nn.Linear(6, 4)
    x = (torch.rand(5, 3, 6) < 0.5).float()  # T, B, C
    whole = sm.Monitor(model, batch_dim=1, time_dim=0)
    with whole:
        model(x)
    loop = sm.Monitor(model)
    with loop, loop.batch(samples=3, steps=5):
        for step in x:
            model(step)
    a, b = whole.compute(), loop.compute()
    assert (a.samples, a.steps, a.calls, b.samples, b.steps, b.calls) == (3, 5, 1, 3, 5, 5)
    counts = [{**r.counts()["Linear"], "calls": None} for r in (a, b)]
    assert counts[0] == counts[1]
    assert a.layers["Linear"].synops == float(x.sum()) * 4 / 3
    assert a.layers["Linear"].vectors == 5


def test_the_first_tensor_argument_says_how_many_samples() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 1)

        def forward(self, scale: float, x: Tensor, other: Tensor | None = None) -> Tensor:
            return self.fc(x) * scale

    model = Two()
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(2.0, torch.ones(3, 2), torch.ones(9))
        model(2.0, other=torch.ones(5, 9), x=torch.ones(3, 2))
        model(2.0, x=torch.ones(4, 2))
    assert monitor.compute().samples == 3 + 5 + 4


def test_a_call_of_unknown_size_raises_and_says_what_to_do() -> None:
    model = Net()
    with sm.Monitor(model) as monitor:
        with pytest.raises(ValueError, match=r"batch_dim=.*or call the model within"):
            model(spikes())
        with monitor.batch(samples=4):
            model(spikes())
    assert monitor.compute().samples == 4
    assert monitor.compute().steps is None
    with sm.Monitor(model, batch_dim=7), pytest.raises(ValueError, match="found 7 for shape"):
        model(spikes())


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"samples": 2.0}, TypeError),
        ({"samples": -1}, ValueError),
        ({"samples": 1, "steps": "3"}, TypeError),
        ({"samples": 1, "steps": -3}, ValueError),
    ],
)
def test_bad_batches(kwargs: dict[str, Any], error: type[Exception]) -> None:
    monitor = sm.Monitor(Net())
    with pytest.raises(RuntimeError, match="attached monitor"), monitor.batch(1):
        pass
    monitor.attach()
    with pytest.raises(error, match=r"samples|steps"), monitor.batch(**kwargs):
        pass
    with monitor.batch(0), pytest.raises(ValueError, match="nest"), monitor.batch(1):
        pass
    monitor.detach()


def test_run_takes_what_loaders_give() -> None:
    model, x = Net().eval(), spikes(6)
    labels = torch.zeros(6)
    batches = {
        "tensors": [x[:4], x[4:]],
        "pairs": [(x[:4], labels[:4]), [x[4:], labels[4:]]],
        "dicts": [{"x": x[:4]}, {"x": x[4:]}],
    }
    expected = by_hand(model, x)
    for loader in batches.values():
        report = sm.Monitor(model, batch_dim=0).run(loader)
        assert report.samples == 6
        assert synops(report) == pytest.approx(expected)
    assert sm.Monitor(model, batch_dim=0).run([x], device="cpu").samples == 6


@pytest.mark.parametrize("loader", [spikes(6), {"x": spikes(6)}, 3, None])
def test_run_refuses_a_batch_in_place_of_batches(loader: Any) -> None:
    """The samples of a batch, one by one, would be taken for batches."""
    monitor = sm.Monitor(Net(), batch_dim=0)
    with pytest.raises(TypeError, match="loader: expected batches"):
        monitor.run(loader)
    assert monitor.compute().calls == 0


def test_run_takes_whatever_can_be_iterated() -> None:
    class Old:
        def __getitem__(self, i: int) -> torch.Tensor:
            return [spikes(2), spikes(1)][i]

    for loader in (Old(), iter([spikes(3)]), (spikes(1) for _ in range(3))):
        report = sm.Monitor(Net(), batch_dim=0).run(loader)  # type: ignore[arg-type]
        assert report.samples == 3


def test_nothing_seen_is_an_empty_report() -> None:
    report = sm.Monitor(Net(), batch_dim=0).compute()
    assert (report.samples, report.calls, dict(report.layers)) == (0, 0, {})
    assert str(report)


# -------------------------------------------------------------------------- declarations


def test_input_scale_counts_pooled_spikes_as_spikes() -> None:
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 10))
    x = torch.randint(0, 2, (3, 1, 4, 4)).float()
    plain, scaled = (
        sm.Monitor(model, batch_dim=0),
        sm.Monitor(model, batch_dim=0, input_scale={"2": 0.25}),
    )
    with plain, scaled:
        model(x)
    assert plain.compute().layers["2"].kind == "analog"
    assert plain.compute().layers["2"].synops is None
    row = scaled.compute().layers["2"]
    assert row.kind == "integer"
    assert row.synops == row.acs == float(x.sum()) * 10 / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_input_scale_of_dropout(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Linear(50, 3)).to(dtype)
    x = torch.ones(8, 50, dtype=dtype)
    kept: list[Tensor] = []
    model[0].register_forward_hook(lambda m, i, out: kept.append(out))
    with sm.Monitor(model, batch_dim=0, input_scale={"1": 1 / 0.9}) as monitor:
        model(x)
    report = monitor.compute()
    assert report.layers["1"].kind == "binary"
    assert report.layers["1"].synops == int((kept[0] != 0).sum()) * 3 / 8
    assert any("dropout" in note for note in report.notes)


def test_data_that_contradict_a_declaration_are_refused() -> None:
    model = nn.Linear(2, 1)
    for kwargs, good, bad in (
        ({"input_scale": {"Linear": 0.5}}, [[0.5, 1.0]], [[0.5, 0.7]]),
        ({"kinds": {"Linear": "ternary"}}, [[-1.0, 1.0]], [[2.0, 0.0]]),
    ):
        with sm.Monitor(model, batch_dim=0, **kwargs) as monitor:
            model(torch.tensor(good))
            before = monitor.compute()
            with pytest.raises(ValueError, match=f"{next(iter(kwargs))}: the input of 'Linear'"):
                model(torch.tensor(bad))
            assert monitor.compute() == before


def test_an_image_of_integers_may_be_declared_analog() -> None:
    model = Net().eval()
    x = torch.randint(0, 256, (2, 2, 4, 4)).float()
    with sm.Monitor(model, batch_dim=0, kinds={"conv": "analog"}) as monitor:
        model(x)
    row = monitor.compute().layers["conv"]
    assert (row.kind, row.synops, row.acs) == ("analog", None, 0)
    assert row.macs == row.effective_synops > 0


def test_kind_is_the_loosest_over_the_epoch() -> None:
    model = nn.Linear(2, 3)
    batches = [[[1.0, 0.0]], [[-1.0, 0.0]], [[2.0, 2.0]], [[0.5, 0.0]]]
    with sm.Monitor(model, batch_dim=0) as monitor:
        for batch, kind in zip(batches, ("binary", "ternary", "integer", "analog"), strict=True):
            model(torch.tensor(batch))
            assert monitor.compute().layers["Linear"].kind == kind
        model(torch.tensor(batches[0]))
    report = monitor.compute()
    assert report.layers["Linear"].macs == 3 * (1 + 1 + 2 + 1 + 1) / 5
    assert {k: c.calls for k, c in report.layers_data["Linear"].counts.items()} == {
        "binary": 2,
        "ternary": 1,
        "integer": 1,
        "analog": 1,
    }


def test_integer_as() -> None:
    model, x = nn.Linear(2, 3), torch.tensor([[2.0, 1.0]])
    rows = []
    for rule in ("acs", "macs"):
        with sm.Monitor(model, batch_dim=0, integer_as=rule) as monitor:
            model(x)
        rows.append(monitor.compute().layers["Linear"])
    assert [(row.acs, row.macs) for row in rows] == [(9, 0), (0, 6)]


# ------------------------------------------------------------- what is chosen, what is not


def test_include_and_exclude() -> None:
    model, x = Net().eval(), spikes()
    for kwargs, names in (
        ({"include": "conv"}, {"conv"}),
        ({"include": nn.Linear}, {"fc"}),
        ({"exclude": ["c*"]}, {"fc"}),
        ({"include": lambda name, module: "f" in name}, {"fc"}),
        ({"include": ["conv", nn.Linear], "exclude": "fc"}, {"conv"}),
    ):
        with sm.Monitor(model, batch_dim=0, **kwargs) as monitor:
            model(x)
        report = monitor.compute()
        assert set(report.layers) == names, kwargs
        assert not report.uncounted
    whole = nn.Sequential(nn.Sequential(model, nn.Linear(5, 5)), nn.Linear(5, 2))
    for kwargs, names in (
        ({"exclude": "0"}, {"1"}),
        ({"include": "0.0"}, {"0.0.conv", "0.0.fc"}),
        ({"include": Net, "exclude": nn.Conv2d}, {"0.0.fc"}),
    ):
        with sm.Monitor(whole, batch_dim=0, **kwargs) as monitor:
            whole(x)
        assert set(monitor.compute().layers) == names, kwargs


def test_probes_see_inputs_and_outputs() -> None:
    model, x = Net().eval(), spikes()
    probes = {
        "conv.input": sm.SynOps(sm.fanout(model.conv, (2, 4, 4))),
        "spike.output": SumMetric(),
    }
    with sm.Monitor(model, batch_dim=0, probes=probes) as monitor:
        model(x)
    assert probes["conv.input"].compute()["synops"] == monitor.compute().layers["conv"].synops
    assert probes["spike.output"].compute() == (model.conv(x) > 0).sum()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_dim": "0"}, TypeError, "batch_dim"),
        ({"time_dim": 1.0}, TypeError, "time_dim"),
        ({"dt": 0}, ValueError, "dt"),
        ({"per_neuron": "yes"}, TypeError, "per_neuron: expected True or False"),
        ({"per_sample": 1}, TypeError, "per_sample: expected True or False"),
        ({"differentiable": None}, TypeError, "differentiable: expected True or False"),
        ({"integer_as": "ops"}, ValueError, "integer_as"),
        ({"input_scale": {"fcc": 0.5}}, ValueError, "input_scale.*found 'fcc'"),
        ({"input_scale": {"fc": -1}}, ValueError, "input_scale"),
        ({"kinds": {"fc": "spikes"}}, ValueError, "kinds"),
        ({"probes": {"fc": SumMetric()}}, ValueError, "probes"),
        ({"probes": {"fc.weight": SumMetric()}}, ValueError, "probes"),
        ({"probes": {"fc.input": 3}}, TypeError, "probes"),
        ({"probes": {"*.input": SumMetric()}}, ValueError, "probes"),
        ({"kinds": "binary"}, TypeError, "kinds: expected a mapping"),
        ({"exclude": 5}, TypeError, "exclude"),
        ({"exclude": "encoder.*"}, ValueError, "exclude.*found 'encoder"),
        ({"include": nn.LSTM}, ValueError, "include"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sm.Monitor(Net(), **kwargs)


def test_not_a_model() -> None:
    with pytest.raises(TypeError, match="model"):
        sm.Monitor(lambda x: x)  # type: ignore[arg-type]


class Opaque(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(4, 4, 3)
        self.table = nn.Embedding(5, 4)
        self.idle = nn.Linear(4, 4)
        self.bare = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(self.table(x), self.table(x))


def test_what_is_not_counted_is_said() -> None:
    model = Opaque()
    with sm.Monitor(model, batch_dim=1) as monitor:
        model(torch.tensor([[1, 2], [3, 4]]))
    report = monitor.compute()
    assert not report.layers
    found = {(entry.name, entry.what) for entry in report.uncounted}
    assert found == {
        ("pair", "bilinear"),
        ("Opaque", "parameter bare"),
    }  # `idle` was never called; a table is indexed


# -------------------------------------------------------- the same quantity as elsewhere


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_equal_the_metric_on_the_same_activations(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)).to(dtype)
    metric = sm.SynOps(sm.fanout(model[0], (2, 7, 6)))
    with sm.Monitor(model, batch_dim=0, per_neuron=True) as monitor:
        for samples in (3, 1, 4):
            x = torch.randint(-2, 3, (samples, 2, 7, 6)).to(dtype)
            metric.update(x)
            model(x)
    row, epoch = monitor.compute().layers["0"], metric.compute()
    assert row.synops == epoch["synops"].item()
    assert torch.equal(row.synops_per_neuron, epoch["synops_per_neuron"])


def test_batch_synops_is_differentiable() -> None:
    model, x = Net().eval(), spikes().requires_grad_()
    with sm.Monitor(model, batch_dim=0, differentiable=True) as monitor:
        model(x)
        values = monitor.batch_synops()
        expected = by_hand(model, x.detach())
        assert {k: v.item() for k, v in values.items() if k != "total"} == expected
        assert values["total"].item() == sum(expected.values())
        (gradient,) = torch.autograd.grad(values["conv"], x, retain_graph=True)
        fanout = sm.fanout(model.conv, (2, 4, 4)).float()
        assert torch.equal(gradient, fanout.expand(4, 2, 4, 4) / 4)
        values = monitor.batch_synops()
        values["total"].backward()
        assert model.conv.weight.grad.abs().sum() > 0, "the regulariser reaches the weights"
    with pytest.raises(RuntimeError, match="differentiable=True"):
        sm.Monitor(model).batch_synops()
    with pytest.raises(RuntimeError, match="found none"):
        sm.Monitor(model, differentiable=True).batch_synops()


def test_batch_synops_of_odd_batches() -> None:
    model = Net().eval()
    with sm.Monitor(model, batch_dim=0, differentiable=True) as monitor:
        model(spikes(0))
        assert monitor.batch_synops()["total"] == 0
        model(spikes())
        handle = model.drop.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(spikes())
        handle.remove()
        with pytest.raises(RuntimeError, match="found none"):
            monitor.batch_synops()
        model(torch.rand(3, 2, 4, 4))  # analog: no synops there
        assert set(monitor.batch_synops()) == {"fc", "total"}


def test_accelerators_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ``meta`` tensors reading a value raises."""
    model, x = Net().eval().to("meta"), spikes().to("meta")
    with sm.Monitor(model, batch_dim=0, per_neuron=True) as monitor:
        model(x)  # sends the maps
        make_waiting_copies_raise(monkeypatch)
        with pytest.raises(RuntimeError, match="the host waits"):
            spikes().to("meta")
        model(x)
    assert set(monitor._state.names().values()) == {"conv", "fc"}


def test_accelerators_are_not_waited_for_by_a_regulariser_whose_kinds_are_declared() -> None:
    """Else it asks for each layer whether its input is analog."""
    model, kinds = Net().to("meta"), {"conv": "binary", "fc": "integer"}
    with sm.Monitor(model, batch_dim=0, differentiable=True, kinds=kinds) as monitor:
        model(spikes().to("meta"))
        found = monitor.batch_synops()
    assert set(found) == {"conv", "fc", "total"}
    found["total"].backward()
    assert model.conv.weight.grad is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_counts_without_being_waited_for() -> None:
    model, x = Net().eval().to("cuda"), spikes().to("cuda")
    with sm.Monitor(model, batch_dim=0, per_neuron=True) as monitor:
        model(x)  # makes the maps
        monitor.reset()
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert synops(monitor.compute()) == by_hand(model, x)


def test_spikes_that_neurons_emit_as_a_sparse_tensor_are_counted() -> None:
    class Sparse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to_sparse()

    sm.register_neuron(Sparse, lead="B")
    monitor = sm.Monitor(nn.Sequential(Sparse()), batch_dim=0)
    with monitor:
        monitor.model(torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    row = monitor.compute().neurons["0"]
    assert (row.neurons, row.spikes, row.silent_fraction) == (3, 1.5, 1 / 3)


def test_no_count_depends_on_the_order_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals are columns of a tensor: what is written into one column is read from the same."""

    def measured() -> sm.Report:
        model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) % (i + 2))
        monitor = sm.Monitor(model, batch_dim=0)
        with monitor, torch.no_grad():
            model(torch.tensor([[0.0, 1.0, 0.0, 3.0, 1.0, 0.0]]))
            model(torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0, 0.0]]))
        return monitor.compute()

    expected = measured()
    assert len({*expected.counts()["0"].values()}) > 6, "most figures differ"
    monkeypatch.setattr(run_data, "COLUMNS", tuple(reversed(run_data.COLUMNS)))
    assert measured().counts() == expected.counts()
    counts = run_data.RowTotals(
        expected.layers_data["0"].operation, dict(expected.layers_data["0"].counts)
    )
    assert counts.counts_of(counts.totals_of()) == counts.counts
