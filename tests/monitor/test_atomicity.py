"""Batches count wholly or not at all, and zeros of weights belong to the call that used them.

What fails in the forward of a part of the model is in ``test_behaviour``, faults in what is around
it in ``test_faults``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import snnmetrics as sm
from tests.helpers.toy import Surrogate


class BrokenError(Exception):
    pass


class Net(nn.Module):
    """Two layers with spikes between; the call of a given number fails after the first one."""

    def __init__(self, *fails: int) -> None:
        super().__init__()
        self.first, self.spike, self.second = nn.Linear(6, 5), Surrogate(), nn.Linear(5, 3)
        self.called, self.fails = 0, fails

    def forward(self, x: Tensor) -> Tensor:
        self.called += 1
        hidden = self.spike(self.first(x))
        if self.called in self.fails:
            raise BrokenError
        return self.second(hidden)

    def run(self, steps: Tensor) -> None:
        for x in steps:
            self.forward(x)


def spikes(*shape: int, seed: int = 5) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def truth(model: Net, calls: list[Tensor]) -> dict[str, int]:
    """Synops of both layers, from their inputs."""
    with torch.no_grad():
        hidden = sum(int(model.spike(model.first(x)).sum()) for x in calls)
    return {"first": 5 * sum(int(x.sum()) for x in calls), "second": 3 * hidden}


def synops(report: sm.Report) -> dict[str, int]:
    return {name: int(counts["synops"]) for name, counts in report.counts().items()}


# ----------------------------------------------------------- failures and resets in a batch


@pytest.mark.parametrize("options", [{}, {"per_sample": True}, {"per_neuron": True}])
@pytest.mark.parametrize("fails", [(1,), (2,), (5,), (1, 2, 3), (2, 4)])
def test_a_forward_that_failed_and_was_called_again_in_the_batch_counts_once(
    fails: tuple[int, ...], options: dict[str, Any]
) -> None:
    model, steps = Net(*fails), spikes(4, 2, 6)
    plain, monitor = sm.Monitor(Net(), **options), sm.Monitor(model, **options)
    plain.model.load_state_dict(model.state_dict())
    with plain, plain.batch(samples=2, steps=4):
        for x in steps:
            plain.model(x)
    with monitor, monitor.batch(samples=2, steps=4):
        for x in steps:
            while True:
                try:
                    model(x)
                except BrokenError:
                    continue
                break
    assert monitor.compute().calls == 4
    assert synops(monitor.compute()) == truth(model, list(steps))
    assert monitor.compute() == plain.compute()


def test_synops_with_gradient_leave_out_a_forward_that_failed() -> None:
    model, x = Net(2), spikes(2, 6)
    monitor = sm.Monitor(model, differentiable=True)
    with monitor, monitor.batch(samples=2):
        model(x)
        with pytest.raises(BrokenError):
            model(x)
        model(x)
    expected = sum(truth(model, [x, x]).values()) / 2
    assert float(monitor.batch_synops()["total"].detach()) == expected


@pytest.mark.parametrize("calls_after", [0, 1, 3])
def test_a_reset_within_a_batch_discards_the_batch_and_all_before(calls_after: int) -> None:
    model, x = Net(), spikes(2, 6)
    monitor = sm.Monitor(model, differentiable=True, per_sample=True)
    with monitor:
        for reset in (False, True):
            with monitor.batch(samples=2, steps=1):
                model(x)
                if reset:
                    monitor.reset()
                    for _ in range(calls_after):
                        model(x)
        assert monitor.compute().samples == 0
        assert not monitor.compute().layers
        with pytest.raises(RuntimeError, match="expected a complete batch"):
            monitor.batch_synops()
        with monitor.batch(samples=2, steps=1):
            model(x)
    assert monitor.compute().samples == 2
    assert synops(monitor.compute()) == truth(model, [x])


@pytest.mark.parametrize("what", ["reset", "load_state_dict", "failed batch", "copy"])
def test_synops_of_a_batch_that_is_no_longer_the_last_one_are_refused(what: str) -> None:
    model, x = Net(), spikes(2, 6)
    monitor = sm.Monitor(model, batch_dim=0, differentiable=True)
    with monitor:
        model(x)
        total = monitor.batch_synops()["total"].detach()
        assert float(total) == sum(truth(model, [x]).values()) / 2
        if what == "reset":
            monitor.reset()
        elif what == "load_state_dict":
            other = sm.Monitor(Net(), batch_dim=0, differentiable=True)
            with other:
                other.model(x)
            monitor.load_state_dict(other.state_dict())
        elif what == "failed batch":
            model.fails = (model.called + 1,)
            with pytest.raises(BrokenError):
                model(x)
        else:
            monitor = copy.deepcopy(monitor)
    with pytest.raises(RuntimeError, match="batch_synops: expected a complete batch before it"):
        monitor.batch_synops()


# ------------------------------------------------------------------ batches without a call

AROUND_THE_MODEL: dict[str, Callable[[Any, Tensor], Any]] = {
    "nothing": lambda m, steps: None,
    "forward": lambda m, steps: [m.forward(x) for x in steps],
    "a method": lambda m, steps: m.run(steps),
    "a part": lambda m, steps: m.first(steps[0]),
    "all parts": lambda m, steps: [m.second(m.spike(m.first(x))) for x in steps],
    "another model": lambda m, steps: Net()(steps[0]),
}


@pytest.mark.parametrize("how", AROUND_THE_MODEL)
def test_a_batch_with_samples_and_no_call_of_the_model_is_an_error(how: str) -> None:
    model, steps = Net(), spikes(3, 2, 6)
    monitor = sm.Monitor(model)
    with monitor:
        with (
            pytest.raises(RuntimeError, match=r"expected a call of the model.*call the model it"),
            monitor.batch(samples=2, steps=3),
        ):
            AROUND_THE_MODEL[how](model, steps)
        assert monitor.compute().samples == 0
        with monitor.batch(samples=0):  # an empty one has nothing to call
            AROUND_THE_MODEL[how](model, steps)
        with monitor.batch(samples=2, steps=3):
            model(steps[0])
            AROUND_THE_MODEL[how](model, steps)
    report = monitor.compute()
    assert (report.samples, report.calls) == (2, 1)
    assert synops(report) == truth(model, [steps[0]])


def test_what_was_raised_in_a_batch_is_not_hidden_by_a_missing_call() -> None:
    monitor = sm.Monitor(Net())
    with monitor, pytest.raises(BrokenError), monitor.batch(samples=2):
        raise BrokenError


# ------------------------------------------------------------------ checkpoints, gradients


class Checkpointed(Net):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.spike(self.first(x))
        output: Tensor = checkpoint(self.second, hidden, use_reentrant=self.reentrant)
        return output


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_gives_a_gradient_or_an_error(reentrant: bool) -> None:
    model, plain, x = Checkpointed(reentrant), Net(), spikes(2, 6)
    plain.load_state_dict(model.state_dict())
    gradients = []
    for one in (model, plain):
        monitor = sm.Monitor(one, batch_dim=0, differentiable=True)
        with monitor:
            one(x).sum().backward()
            if one is model and reentrant:
                with pytest.raises(RuntimeError, match="use_reentrant=False"):
                    monitor.batch_synops()
                with torch.no_grad():
                    one(x)  # without gradient nothing is lost
                assert not monitor.batch_synops()["total"].requires_grad
                continue
            one.zero_grad()
            one(x)
            monitor.batch_synops()["total"].backward()
            gradients.append(one.first.weight.grad)
    for gradient in gradients:
        torch.testing.assert_close(gradient, gradients[-1])
        assert gradient.abs().sum() > 0


# ---------------------------------------------------------------------------- zeros of weights


def _fused(layer: nn.Linear, row: int) -> None:
    layer.zero_grad()
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.weight.grad[row] = layer.weight.detach()[row]
    torch.optim.SGD([layer.weight], lr=1.0, fused=True).step()


def _inference(layer: nn.Linear, row: int) -> None:
    with torch.inference_mode():
        layer.weight[row] = 0


def _swap_data(layer: nn.Linear, row: int) -> None:
    values = layer.weight.detach().clone()
    values[row] = 0
    layer.weight.data = values


def _dlpack(layer: nn.Linear, row: int) -> None:
    torch.from_dlpack(layer.weight.detach())[row] = 0


def _alias(layer: nn.Linear, row: int) -> None:
    layer.alias[row] = 0


def _numpy(layer: nn.Linear, row: int) -> None:
    layer.weight.detach().numpy()[row] = 0


ZEROING: dict[str, Callable[[Any, int], None]] = {
    "data": lambda layer, row: layer.weight.data[row].zero_(),
    "a NumPy array from before": _alias,
    "a NumPy array": _numpy,
    "assigned to data": _swap_data,
    "fused optimiser": _fused,
    "inference mode": _inference,
    "DLPack": _dlpack,
    "copy_ of data": lambda layer, row: layer.weight.data.copy_(
        layer.weight.data * (torch.arange(5) != row)[:, None]
    ),
    "vector_to_parameters": lambda layer, row: nn.utils.vector_to_parameters(
        torch.where(torch.arange(5) == row, 0.0, 1.0).repeat_interleave(6), [layer.weight]
    ),
    "detached": lambda layer, row: layer.weight.detach()[row].zero_(),
    "no_grad": lambda layer, row: nn.init.zeros_(layer.weight[row].detach()),
}


@pytest.mark.parametrize("kind", ["linear", "conv", "functional"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("how", ZEROING)
def test_zeros_of_a_weight_are_those_at_the_time_of_the_call(
    how: str, inside: bool, mode: Any, kind: str
) -> None:
    """Within and between batches, by writes that leave a trace and such that leave none."""
    layer: Any = nn.Linear(6, 5, bias=False)
    nn.init.ones_(layer.weight)
    layer.alias = layer.weight.detach().numpy() if "before" in how else None
    model, x = nn.Sequential(layer), spikes(2, 6)
    if kind == "conv":
        layer = Filter(layer)
        model, layer = nn.Sequential(layer), layer.held[0]
    elif kind == "functional":
        model = nn.Sequential(Functional(layer))
    monitor = sm.Monitor(model) if inside else sm.Monitor(model, batch_dim=0)
    expected, rows = 0, (None, 1, 3, None, 0)

    def calls() -> None:
        nonlocal expected
        for row in rows:
            if row is not None:
                ZEROING[how](layer, row)
            with mode():
                model(x)
            expected += int(x.sum()) * int((layer.weight.detach()[:, 0] != 0).sum())

    with monitor:
        if inside:
            with monitor.batch(samples=2, steps=len(rows)):
                calls()
        else:
            calls()
    report = monitor.compute()
    (row,) = report.layers.values()
    zeros = 4 if how == "vector_to_parameters" else 8  # in all calls; that one restores other rows
    assert expected == int(x.sum()) * (5 * len(rows) - zeros)
    assert row.effective_synops * report.samples == expected
    assert row.acs * report.samples == expected
    assert row.synops * report.samples == 5 * len(rows) * int(x.sum())


class Functional(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.layer.weight.t()


class Filter(nn.Module):
    """The weight of a layer as the kernels of a convolution that covers the input."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.held = nn.ModuleList([layer])

    def forward(self, x: Tensor) -> Tensor:
        weight: Any = self.held[0].weight
        return nn.functional.conv1d(x[:, None], weight[:, None])


class Loader:
    """Batches, with something done after the batch of a given number was taken."""

    def __init__(self, batches: list[Tensor], at: int, does: Callable[[], Any]) -> None:
        self.batches, self.at, self.does = batches, at, does

    def __iter__(self) -> Any:
        for number, batch in enumerate(self.batches):
            if number == self.at:
                self.does()
            yield batch


@pytest.mark.parametrize("how", ZEROING)
def test_a_run_never_counts_a_weight_with_zeros_of_another_batch(how: str) -> None:
    """It raises, or counts the zeros of each batch; before the first batch it may be written."""
    layer: Any = nn.Linear(6, 5, bias=False)
    nn.init.ones_(layer.weight)
    layer.alias = layer.weight.detach().numpy() if "before" in how else None
    model, batches = nn.Sequential(layer), [spikes(2, 6, seed=n) for n in range(3)]
    for at in (0, 1, 2):
        nn.init.ones_(layer.weight)
        if "before" in how:
            layer.alias = layer.weight.detach().numpy()
        monitor = sm.Monitor(model, batch_dim=0)
        loader = Loader(batches, at, lambda: ZEROING[how](layer, 2))
        rows = [4 if number >= at else 5 for number in range(3)]
        expected = sum(int(x.sum()) * n for x, n in zip(batches, rows, strict=True))
        message = ""
        try:
            report = monitor.run(loader)
        except RuntimeError as error:
            message = str(error)
        if message:
            assert at > 0, "nothing was counted before the write"
            assert "expected the same weights in all batches of run()" in message
        else:
            assert report.layers["0"].effective_synops * report.samples == expected


# ------------------------------------------------------------- inputs that are written to

Written = Callable[[Tensor, Tensor], Any]
WRITES: dict[str, Written] = {
    "nothing": lambda source, padded: None,
    "padded": lambda source, padded: padded[..., 1:3].zero_(),
    "padded, by data": lambda source, padded: padded.data[..., 0].zero_(),
    "padded, by a view": lambda source, padded: padded.view(-1)[:3].fill_(1.0),
    "padded, by out=": lambda source, padded: torch.mul(padded, 0.0, out=padded),
    "padded, by NumPy": lambda source, padded: padded.numpy().fill(1.0),
    "source": lambda source, padded: source.zero_(),
    "source, by data": lambda source, padded: source.data.fill_(1.0),
    "source, in part": lambda source, padded: source[..., 0].fill_(1.0),
    "both": lambda source, padded: (source.zero_(), padded.fill_(1.0)),
}


class Padding(nn.Module):
    def __init__(self, mode: str, write: Written) -> None:
        super().__init__()
        self.weight, self.mode, self.write = nn.Parameter(torch.ones(2, 1, 3)), mode, write
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        source = x.clone()
        padded = nn.functional.pad(source, (2, 1), mode=self.mode)
        self.write(source, padded)
        self.seen.append(padded.detach().clone())
        return nn.functional.conv1d(padded, self.weight)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate", "constant"])
@pytest.mark.parametrize("how", WRITES)
def test_a_convolution_counts_its_input_as_it_was_at_the_call(
    how: str, mode: str, context: Any
) -> None:
    """Of what was padded and then written; two outputs per tap, from the padded input itself."""
    model, x = Padding(mode, WRITES[how]), spikes(2, 1, 5)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor, torch.no_grad():
        for _ in range(2):
            model(x)
    expected = sum(
        2 * float(nn.functional.conv1d(p, torch.ones(1, 1, 3)).sum()) for p in model.seen
    )
    (row,) = monitor.compute().layers.values()
    assert row.synops * 4 == expected


# --------------------------------------------------------------------------- what is uncounted


class Uses(nn.Module):
    def __init__(self, shape: tuple[int, ...], use: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.w, self.use = nn.Linear(6, 4), nn.Parameter(torch.rand(shape) + 1), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.layer(x), self.w)


Use = Callable[[Tensor, Tensor], Tensor]
EXPANSIONS: dict[str, tuple[tuple[int, ...], Use]] = {
    "input by output": ((4, 3), lambda x, w: (x[..., None] * w).sum(1)),
    "output by input": ((3, 4), lambda x, w: (x[:, None] * w).sum(-1)),
    "in place of torch.mul": ((4, 3), lambda x, w: torch.mul(x[:, :, None], w).sum(1)),
    "weight first": ((3, 4), lambda x, w: (w * x[:, None]).mean(-1)),
    "taps": ((3, 1, 4), lambda x, w: sum(t * x for t in w.unbind()) + 0 * (x[None] * w).sum(0)),
}
SCALES: dict[str, tuple[tuple[int, ...], Use]] = {
    "bias": ((4,), lambda x, w: x + w),
    "scale": ((4,), lambda x, w: x * w),
    "layer scale in place": ((4,), lambda x, w: x.clone().mul_(w)),
    "scale and shift": ((2, 4), lambda x, w: torch.addcmul(w[0], x, w[1])),
    "class token": ((1, 1, 4), lambda x, w: torch.cat((w.expand(len(x), -1, -1), x[:, None]), 1)),
    "positions": ((1, 2, 4), lambda x, w: x[:, None].expand(-1, 2, -1) + w),
    "relative positions": (
        (9, 2),
        lambda x, w: x[:, None, :2] + w[torch.tensor([0, 4, 8])][None],
    ),
    "table": ((5, 4), lambda x, w: x + nn.functional.embedding(torch.tensor([1, 3]), w)),
    "leak of channels": ((4, 1, 1), lambda x, w: x[..., None, None].expand(-1, -1, 2, 2) * w),
    "threshold of channels": ((4, 1, 1), lambda x, w: (x[..., None, None] > w).float()),
    "lerp": ((4,), lambda x, w: torch.lerp(x, x * 2, w)),
    "temperature": ((), lambda x, w: x / w),
    "gate": ((4,), lambda x, w: x * torch.sigmoid(w)),
    "PReLU": ((4,), lambda x, w: nn.functional.prelu(x, w)),
    "normalisation": ((4,), lambda x, w: nn.functional.layer_norm(x, (4,), w)),
}


@pytest.mark.parametrize("how", EXPANSIONS)
def test_a_contraction_spelled_by_an_expansion_is_listed_and_strict_raises(how: str) -> None:
    shape, use = EXPANSIONS[how]
    x, model = spikes(2, 6), Uses(shape, use)
    for strict in (False, True):
        monitor = sm.Monitor(model, batch_dim=0, strict=strict)
        with monitor:
            model(x)
        if strict:
            with pytest.raises(ValueError, match=r"strict: expected nothing uncounted.*w"):
                monitor.compute()
        else:
            (entry,) = monitor.compute().uncounted
            assert (entry.name, entry.what) == ("Uses", "parameter w")
            assert "a contraction that is not counted" in entry.reason
            assert monitor.compute().layers["layer"].synops == 4 * float(x.sum()) / 2


@pytest.mark.parametrize("how", SCALES)
def test_what_is_added_indexed_or_scaled_is_not_listed(how: str) -> None:
    shape, use = SCALES[how]
    x, model = spikes(2, 6), Uses(shape, use)
    monitor = sm.Monitor(model, batch_dim=0, strict=True)
    with monitor:
        model(x)
        model(x)
    assert list(monitor.compute().layers) == ["layer"]
