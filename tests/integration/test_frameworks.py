"""The Monitor against brute force, on every model of the zoo."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

import snnmetrics as sm
from tests.helpers.brute_force import Layer, Truth, Weighted
from tests.integration.models import CASES, B, Case

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


_truths: dict[tuple[str, str], Truth] = {}


def brute_force(case: Case, device: str = "cpu") -> Truth:
    """Calls and spikes of a case, noted on a model of its own; made once per case and device."""
    if (case.name, device) not in _truths:
        noted = _noted(case, case.model().to(device), case.inputs().to(device))
        _truths[case.name, device] = noted
    return _truths[case.name, device]


def _noted(case: Case, model: nn.Module, x: Tensor) -> Truth:
    declared = {name: case.declared.get(name, {}) for name in ("input_scale", "kinds")}
    truth = Truth(model, case.neurons, case.rules(), **declared)
    with truth, torch.no_grad():
        if case.listen is not None:
            case.listen(truth, model)
        case.run(model, x)
    return truth


def monitor_of(case: Case, model: nn.Module) -> sm.Monitor:
    dims = {} if case.told else {"batch_dim": case.batch_dim, "time_dim": case.time_dim}
    return sm.Monitor(model, **dims, **case.declared)


def run(case: Case, monitor: sm.Monitor, model: nn.Module, x: Tensor) -> Any:
    """One batch, with the monitor listening."""
    with batch(case, monitor, x):
        return case.run(model, x)


def batch(case: Case, monitor: sm.Monitor, x: Tensor) -> contextlib.AbstractContextManager[Any]:
    if not case.told:
        return contextlib.nullcontext()
    assert case.time_dim is not None
    return monitor.batch(samples=x.shape[case.batch_dim], steps=x.shape[case.time_dim])


def measured(case: Case, *batches: Tensor, device: str = "cpu") -> sm.Report:
    model = case.model().to(device)
    with torch.no_grad(), monitor_of(case, model) as monitor:
        for x in batches:
            run(case, monitor, model, x.to(device))
    return monitor.compute()


@every_case
def test_counts_and_neurons_are_those_of_brute_force(case: Case) -> None:
    assert_as_by_brute_force(case, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_case
def test_on_cuda_they_are_those_of_brute_force_there(case: Case) -> None:
    """Where sums are rounded in another order, other neurons may spike than on the CPU."""
    assert_as_by_brute_force(case, "cuda")


def assert_as_by_brute_force(case: Case, device: str) -> None:
    report, truth = measured(case, case.inputs(), device=device), brute_force(case, device)
    rows = truth.layers()
    assert tuple(rows) == case.layers  # the brute force missed nothing that was expected
    assert tuple(report.layers) == case.layers
    integer_as = case.declared.get("integer_as", "acs")
    expected = {name: row.counts(integer_as) for name, row in rows.items()}
    assert _fields(report.counts(), expected) == expected
    assert {name: row.kind for name, row in report.layers.items()} == {
        name: row.kind for name, row in rows.items()
    }
    for name, row in rows.items():  # of each call
        kinds = {kind: row.kinds.count(kind) for kind in row.kinds}
        counts = report.layers_data[name].counts
        assert {kind: c.calls for kind, c in counts.items() if c.calls} == kinds, name
    neurons = truth.neuron_rows()
    assert set(neurons) == set(case.neurons)
    found = {name: vars(data) for name, data in report.neurons_data.items()}
    assert _fields(found, neurons) == neurons


def _fields(
    counts: Mapping[str, Mapping[str, Any]], like: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Of all counts those that the brute force knows."""
    return {name: {field: counts[name][field] for field in row} for name, row in like.items()}


@every_case
def test_neurons_are_those_of_brute_force(case: Case) -> None:
    x = case.inputs()
    report, expected = measured(case, x), brute_force(case).neuron_rows()
    assert set(expected) == set(case.neurons)
    found = {name: vars(data) for name, data in report.neurons_data.items()}
    assert _fields(found, expected) == expected
    assert set(found) == set(expected)
    samples = x.shape[case.batch_dim]
    for name, row in report.neurons.items():
        truth = expected[name]
        assert (row.type, row.neurons) == (truth["type"], truth["neurons"])
        assert row.firing_rate == truth["spikes"] / truth["elements"]
        assert row.sparsity == 1 - truth["events"] / truth["elements"]
        assert row.spikes == truth["spikes"] / samples
        assert row.updates == truth["elements"] / samples
        assert row.silent_fraction == truth["silent"] / truth["neurons"]
        assert row.saturated_fraction == truth["saturated"] / truth["neurons"]


@every_case
def test_samples_steps_and_what_was_not_counted(case: Case) -> None:
    x = case.inputs()
    report = measured(case, x)
    assert report.samples == x.shape[case.batch_dim]
    assert report.steps == (None if case.time_dim is None else x.shape[case.time_dim])
    assert tuple(dict.fromkeys(entry.name for entry in report.uncounted)) == case.uncounted


@every_case
def test_rows_are_counts_per_sample(case: Case) -> None:
    report = measured(case, case.inputs())
    counts = report.counts()
    for name, row in report.layers.items():
        for figure in ("event_synops", "effective_synops", "dense_synops", "acs", "macs"):
            assert getattr(row, figure) == counts[name][figure] / report.samples
    for figure in ("dense_macs", "acs", "macs"):
        total = sum(row[figure] for row in counts.values())
        assert getattr(report.total, figure) == total / report.samples
    spiking = [counts[name] for name, row in report.layers.items() if row.synops is not None]
    for figure in ("synops", "event_synops", "effective_synops"):  # over the same layers
        total = sum(row[figure] for row in spiking)
        assert getattr(report.total, figure) == (total / report.samples if spiking else None)


@every_case
def test_the_zoo_has_spikes_and_silence(case: Case) -> None:
    """A case in which nothing happens would prove nothing."""
    truth = brute_force(case)
    for name, row in truth.layers().items():
        assert row.effective_synops > 0, name
    for name, neurons in truth.neuron_rows().items():
        assert 0 < neurons["events"] < neurons["elements"], name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "gradient"),
    [
        pytest.param(case, gradient, id=f"{case.name}-{'with' if gradient else 'without'} gradient")
        for case in CASES
        for gradient in ([True, False] if case.grad else [False])
    ],
)
def test_nothing_of_the_users_is_changed(case: Case, gradient: bool) -> None:
    x = case.inputs()
    plain, watched = case.model(), case.model()
    before = _torch_globals(watched)
    with monitor_of(case, watched) as monitor:
        kept = _trained(case, watched, x, gradient, monitor)
    monitor.detach()
    expected = _trained(case, plain, x, gradient)
    if case.exact or gradient:
        assert _equal(kept, expected)
    else:
        torch.testing.assert_close(kept, expected)
    assert _attributes(watched) == _attributes(plain)
    assert _torch_globals(watched) == before


def _trained(
    case: Case, model: nn.Module, x: Tensor, gradient: bool, monitor: sm.Monitor | None = None
) -> Any:
    """Output, gradients, buffers and random state after a forward and a backward pass."""
    with torch.set_grad_enabled(gradient):
        output = case.run(model, x) if monitor is None else run(case, monitor, model, x)
    outputs = [t.float() for t in _tensors(output)]
    if gradient:
        sum((t * (i + 1)).sum() for i, t in enumerate(outputs)).backward()
    return {
        "output": [t.detach() for t in outputs],
        "gradients": {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
        "state": {n: t.detach().clone() for n, t in model.state_dict().items()},
        "buffers": {n: t.detach().clone() for n, t in model.named_buffers()},
        "random": torch.get_rng_state(),
    }


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor with a gradient that a model returned, or all if none has one."""
    found = list(_all_tensors(value))
    yield from [t for t in found if t.requires_grad] or found


def _all_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Iterable) and not isinstance(value, str | Tensor):
        for item in value:
            yield from _all_tensors(item)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(_equal, one, other))


def _attributes(model: nn.Module) -> dict[str, list[str]]:
    """What every module holds: attributes, and how much is in each of its dicts of hooks."""
    return {
        name: sorted(
            f"{key}: {len(value)}" if key.endswith("hooks") else f"{key}: {type(value)}"
            for key, value in vars(module).items()
        )
        for name, module in model.named_modules()
    }


def _torch_globals(model: nn.Module) -> dict[str, Any]:
    """Where listening could leave something outside of the model."""
    classes = {c for m in model.modules() for c in type(m).__mro__}
    return {
        "classes": {c: dict(vars(c)) for c in classes if issubclass(c, nn.Module)},
        "hooks": [
            dict(v)
            for k, v in vars(torch_modules).items()
            if k.startswith("_global_") and isinstance(v, dict)
        ],
        "modes": torch._C._len_torch_function_stack(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.cut], ids=lambda case: case.name)
@pytest.mark.parametrize("size", [1, 3])
def test_any_cut_into_batches_gives_the_same_report(case: Case, size: int) -> None:
    x = case.inputs()
    whole, cut = measured(case, x), measured(case, *x.split(size, case.batch_dim))
    assert (whole.calls, cut.calls) == (_calls(case, x, B), _calls(case, x, size))
    assert (cut.samples, cut.steps) == (whole.samples, whole.steps)
    assert cut.neurons_data == whole.neurons_data
    assert cut.uncounted == whole.uncounted
    assert {n: _uncut(row) for n, row in cut.counts().items()} == {
        n: _uncut(row) for n, row in whole.counts().items()
    }
    assert _figures(cut.layers) == _figures(whole.layers)
    assert _figures(cut.neurons) == _figures(whole.neurons)
    assert cut.total == whole.total


def _calls(case: Case, x: Tensor, size: int) -> int:
    batches = -(-x.shape[case.batch_dim] // size)
    loops = case.told and case.call.__name__ in ("step_by_step", "_with_state")
    return batches * (x.shape[0] if loops else 1)


def _uncut(row: Mapping[str, Any]) -> dict[str, Any]:
    """Counts that must not depend on the cut: all but the number of calls, and sums of reals."""
    names = [n for n in row if n not in ("calls", "magnitude", "effective_magnitude")]
    return {name: row[name] for name in names}


def _figures(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(vars(row).items()) for name, row in rows.items()}


@every_case
def test_synops_agree_with_the_metric(case: Case) -> None:
    """``SynOps`` on the same activations is the same quantity."""
    x = case.inputs()
    report, truth = measured(case, x), brute_force(case)
    modules = dict(truth.model.named_modules())
    rows = truth.layers()
    for name in rows:
        layer = modules.get(name)
        if not isinstance(layer, _LAYERS) or rows[name].kind == "analog":
            continue
        if name in truth.input_scale or type(layer) in truth.rules:
            continue  # declared, or with a forward of its own
        calls = [c for c in truth.calls if isinstance(c, Weighted) and c.name == name]
        neurons = tuple(calls[0].x.shape[-calls[0].ndim :])
        metric = sm.SynOps(sm.fanout(_plain(layer), neurons))
        for call in calls:
            metric.update(call.x.reshape(-1, *neurons))
        vectors = sum(call.x.reshape(-1, *neurons).shape[0] for call in calls)
        total = metric.compute()["synops"].item() * vectors
        assert round(total) == report.counts()[name]["synops"]
        assert abs(total - round(total)) < 1e-6


_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def _plain(layer: nn.Module) -> nn.Module:
    """The PyTorch layer that a framework's layer is."""
    plain = copy.deepcopy(layer)
    if hasattr(plain, "step_mode"):
        plain.step_mode = "s"
    return plain


def test_the_zoo_covers_all_frameworks() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for framework in ("snntorch", "spikingjelly", "norse", "sinabs"):
        assert sum(name.startswith(framework) for name in names) >= 4


def test_a_truth_that_differs_is_noticed() -> None:
    """The comparison of this file fails where a count is wrong."""
    case = next(c for c in CASES if c.name == "model_that_is_a_linear_layer")
    x = case.inputs()
    report = measured(case, x)
    (row,) = brute_force(case).layers().values()
    assert isinstance(row, Layer)
    row.synops += 1
    expected = {"Linear": row.counts()}
    assert _fields(report.counts(), expected) != expected
