"""Fused recurrent networks, against loops over samples, steps and weights, and against cells."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.utils.checkpoint import checkpoint

import snnmetrics as sm
from snnmetrics.report.distribution import RESOLUTION
from tests.helpers.brute_force import kind_of, recurrent_inputs

STEPS, SAMPLES, FEATURES, HIDDEN = 4, 3, 5, 3


# ------------------------------------------------------------------------------- the truth


def counts_of(weight: Tensor, samples: list[list[tuple[int, Tensor]]]) -> dict[str, Any]:
    """Counts by a loop over elements and weights."""
    vectors = [vector.tolist() for sample in samples for _, vector in sample]
    taps = [sum(w != 0 for w in column) for column in weight.t().tolist()]
    kind = kind_of(value for vector in vectors for value in vector)
    counts = dict.fromkeys(
        ("vectors", "elements", "events", "synops", "event_synops", "effective_synops"), 0.0
    )
    for vector in vectors:
        counts["vectors"] += 1
        for value, effective in zip(vector, taps, strict=True):
            counts["elements"] += 1
            if value != 0:
                counts["events"] += 1
                counts["synops"] += abs(value) * len(weight)
                counts["event_synops"] += len(weight)
                counts["effective_synops"] += effective
    counts["dense_synops"] = counts["dense_macs"] = counts["elements"] * len(weight)
    counts["output_elements"] = counts["vectors"] * len(weight)
    return counts | {"kind": kind}


# --------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Case:
    """A network and how it is called."""

    make: Callable[..., nn.RNNBase]
    options: dict[str, Any]
    state: bool = False
    lengths: tuple[int, ...] | None = None

    def network(self) -> nn.RNNBase:
        net = self.make(FEATURES, HIDDEN, **self.options)
        with_some_zeros(net)
        return net.train()

    def samples(self) -> list[Tensor]:
        lengths = self.lengths or (STEPS,) * SAMPLES
        made = [(torch.rand(length, FEATURES) < 0.4).float() for length in lengths]
        made[-1].zero_()  # silent: without a bias its hidden states are zero
        return made

    def given(self, samples: list[Tensor]) -> Tensor | PackedSequence:
        if self.lengths is not None:
            return pack_sequence(samples, enforce_sorted=False)
        return torch.stack(samples, 0 if self.options.get("batch_first") else 1)

    def hx(self, net: nn.RNNBase) -> Any:
        if not self.state:
            return None
        lead = net.num_layers * (2 if net.bidirectional else 1), SAMPLES
        hidden = torch.randint(-1, 2, (*lead, net.proj_size or HIDDEN)).float()
        return (hidden, torch.randn(*lead, HIDDEN)) if net.mode == "LSTM" else hidden


def with_some_zeros(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand_like(parameter) < 0.7)


def relu(*args: Any, **kwargs: Any) -> nn.RNN:
    return nn.RNN(*args, nonlinearity="relu", **kwargs)


def cases() -> Iterator[Any]:
    kinds: dict[str, Callable[..., nn.RNNBase]]
    kinds = {"tanh": nn.RNN, "relu": relu, "lstm": nn.LSTM, "gru": nn.GRU}
    deep = {"num_layers": 3, "bidirectional": True}
    for name, make in kinds.items():
        for what, case in {
            "plain": Case(make, {}),
            "batch first": Case(make, {"batch_first": True, "bias": False}, state=True),
            "both ways": Case(make, {"bidirectional": True, "bias": False}),
            "deep": Case(make, {"num_layers": 3, "bias": False}),
            "deep, both ways": Case(make, {**deep, "batch_first": True}, state=True),
            "packed": Case(make, {"bias": False}, lengths=(2, 4, 1)),
            "packed, deep": Case(make, deep, state=True, lengths=(3, 1, 4)),
            "packed alike": Case(make, {**deep, "bias": False}, lengths=(2, 2, 2)),
        }.items():
            yield pytest.param(case, id=f"{name}, {what}")
    for what, case in {
        "plain": Case(nn.LSTM, {"proj_size": 2, "bias": False}),
        "deep": Case(nn.LSTM, {"proj_size": 2, **deep, "batch_first": True}, state=True),
        "packed": Case(nn.LSTM, {"proj_size": 1, **deep, "bias": False}, lengths=(3, 4, 2)),
        "packed with bias": Case(nn.LSTM, {"proj_size": 2}, state=True, lengths=(3, 4, 2)),
    }.items():
        yield pytest.param(case, id=f"projected, {what}")


def name(net: nn.Module) -> str:
    return type(net).__name__


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("case", list(cases()))
def test_counts_are_those_of_loops_over_samples_steps_and_weights(case: Case) -> None:
    net, samples = case.network(), case.samples()
    hx, batch = case.hx(net), case.given(samples)
    plain, _ = net(batch, hx)
    state = torch.get_rng_state()
    with sm.Monitor(net) as monitor, monitor.batch(samples=SAMPLES):
        listened, _ = net(batch, hx)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(*(o.data if isinstance(o, tuple) else o for o in (plain, listened)))
    report = monitor.compute()
    with torch.no_grad():
        truth = recurrent_inputs(net, samples, hx)
    assert not report.uncounted
    assert [row.split(".") for row in report.layers] == [[name(net), part] for part in truth]
    found = report.counts()
    for part, vectors in truth.items():
        row = f"{name(net)}.{part}"
        expected = counts_of(getattr(net, f"weight_{part}"), vectors)
        assert report.layers[row].kind == expected.pop("kind"), part
        assert report.layers[row].operation == "rnn"
        synops = expected.pop("synops")
        assert {field: found[row][field] for field in expected} == expected, part
        if report.layers[row].kind != "analog":
            assert found[row]["synops"] == synops
        bias = len(getattr(net, f"weight_{part}")) * (net.bias and not part.startswith("hr"))
        weight = getattr(net, f"weight_{part}").numel()
        assert report.layers[row].parameters == weight + bias
    assert report.total.parameters == sum(p.numel() for p in net.parameters())


class OfCells(nn.Module):
    """The same network written with cells."""

    def __init__(self, net: nn.RNNBase) -> None:
        super().__init__()
        cell: Any = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell}.get(net.mode, nn.RNNCell)
        more = {"nonlinearity": net.nonlinearity} if isinstance(net, nn.RNN) else {}
        self.cells = nn.ModuleList()
        for layer in range(net.num_layers):
            made = cell(FEATURES if layer == 0 else HIDDEN, HIDDEN, bias=net.bias, **more)
            for kind, parameter in made.named_parameters():
                parameter.data = getattr(net, f"{kind}_l{layer}").data.clone()
            self.cells.append(made)

    def forward(self, x: Tensor) -> Tensor:
        outputs = list(x)
        for cell in self.cells:
            state, inputs, outputs = None, outputs, []
            for one in inputs:
                state = cell(one, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("make", [nn.RNN, relu, nn.LSTM, nn.GRU])
def test_rows_are_those_of_the_same_network_of_cells(
    make: Callable[..., nn.RNNBase], bias: bool
) -> None:
    net = make(FEATURES, HIDDEN, num_layers=2, bias=bias)
    with_some_zeros(net)
    x = torch.randint(0, 3, (STEPS, SAMPLES, FEATURES)).float()
    x[:, 1] = 0
    reports = []
    for model in (net, OfCells(net)):
        with sm.Monitor(model, batch_dim=1, time_dim=0, per_neuron=True) as monitor:
            model(x)
        reports.append(monitor.compute())
    fused, cells = reports
    assert not fused.uncounted
    for layer in range(2):
        for part in ("ih", "hh"):
            one, other = f"{name(net)}.{part}_l{layer}", f"cells.{layer}.{part}"
            counts, expected = fused.counts()[one], cells.counts()[other]
            assert (counts.pop("calls"), expected.pop("calls")) == (1, STEPS)
            # An analog input has neither.
            for report, row, figures in ((fused, one, counts), (cells, other, expected)):
                if report.layers[row].synops is None:
                    del figures["synops"], figures["magnitude"], figures["effective_magnitude"]
            assert counts == expected
            assert fused.layers[one].kind == cells.layers[other].kind
            for field in ("synapses", "parameters", "acs", "macs", "input_sparsity", "vectors"):
                assert getattr(fused.layers[one], field) == getattr(cells.layers[other], field)
    assert torch.equal(
        *(
            report.layers[row].synops_per_neuron
            for report, row in (
                (fused, f"{name(net)}.ih_l0"),
                (cells, "cells.0.ih"),
            )
        )
    )
    assert fused.total.macs == cells.total.macs


def test_hidden_states_of_integers_are_spike_counts() -> None:
    net = relu(2, 2, bias=False)
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        net.weight_hh_l0.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))
    x = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 1.0]]])
    # Hidden states: (0, 0), (1, 1), (1 - 1, 3 + 1); (0 - 4, 2 + 0) at the end is no input.
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(x)
    row = monitor.compute().layers["RNN.hh_l0"]
    assert (row.kind, row.vectors) == ("integer", 3)
    assert (row.synops, row.event_synops, row.effective_synops) == (2 * 6, 2 * 3, 3)
    assert row.acs == 1 + 1 + 4


# ----------------------------------------------------------------------- ways to be called


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_input_without_batch(batch_first: bool) -> None:
    net, x = nn.GRU(FEATURES, HIDDEN, 2, batch_first=batch_first), torch.rand(STEPS, FEATURES)
    with sm.Monitor(net) as monitor, monitor.batch(samples=1, steps=STEPS):
        net(x)
    with torch.no_grad():
        truth = recurrent_inputs(net, [x])
    for part, vectors in truth.items():
        expected = counts_of(getattr(net, f"weight_{part}"), vectors)
        row = monitor.compute().counts()[f"GRU.{part}"]
        for field in ("event_synops", "dense_synops", "vectors"):
            assert row[field] == expected[field]


def test_one_step_and_no_samples() -> None:
    net = nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True)
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(torch.ones(1, 2, FEATURES))
        net(torch.ones(1, 0, FEATURES))
    counts = monitor.compute().counts()
    assert counts["LSTM.hh_l0"]["events"] == counts["LSTM.hh_l1_reverse"]["events"] == 0
    assert counts["LSTM.ih_l1"]["events"] == 2 * 2 * HIDDEN


class Function(nn.Module):
    def __init__(self, does: Callable[[nn.GRU, Tensor], Any]) -> None:
        super().__init__()
        self.does, self.net = does, nn.GRU(FEATURES, HIDDEN)

    def forward(self, x: Tensor) -> Any:
        return self.does(self.net, x)


_BY_KEYWORD = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False}
_H0, _SIZES = torch.zeros(1, SAMPLES, HIDDEN), torch.tensor([SAMPLES] * STEPS)


@pytest.mark.parametrize(
    "does",
    [
        lambda g, x: torch.gru(x, _H0, g._flat_weights, True, 1, 0.0, False, False, False),
        lambda g, x: torch.gru(
            x, _H0, params=g._flat_weights, **_BY_KEYWORD, bidirectional=False, batch_first=False
        ),
        lambda g, x: torch.gru(
            input=x,
            hx=_H0,
            params=g._flat_weights,
            **_BY_KEYWORD,
            bidirectional=False,
            batch_first=False,
        ),
        lambda g, x: torch.gru(
            x.flatten(0, 1), _SIZES, _H0, g._flat_weights, True, 1, 0.0, False, False
        ),
        lambda g, x: torch.gru(
            x.flatten(0, 1),
            _SIZES,
            hx=_H0,
            params=g._flat_weights,
            **_BY_KEYWORD,
            bidirectional=False,
        ),
        lambda g, x: torch.gru(
            data=x.flatten(0, 1),
            batch_sizes=_SIZES,
            hx=_H0,
            params=g._flat_weights,
            **_BY_KEYWORD,
            bidirectional=False,
        ),
        lambda g, x: torch._VF.gru(x, _H0, g._flat_weights, True, 1, 0.0, False, False, False),
    ],
)
def test_both_overloads_by_position_and_by_keyword(does: Callable[[nn.GRU, Tensor], Any]) -> None:
    model, x = Function(does), (torch.rand(STEPS, SAMPLES, FEATURES) < 0.5).float()
    with sm.Monitor(model, batch_dim=1, time_dim=0) as monitor:
        model(x)
    report = monitor.compute()
    assert list(report.layers) == ["Function.ih_l0", "Function.hh_l0"]
    assert not report.uncounted
    assert report.counts()["Function.ih_l0"]["synops"] == int(x.sum()) * 3 * HIDDEN
    assert report.counts()["Function.hh_l0"]["events"] == (STEPS - 1) * SAMPLES * HIDDEN


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_other_dtypes(make: Callable[..., nn.RNNBase], dtype: torch.dtype) -> None:
    net = make(FEATURES, HIDDEN, 2).to(dtype)
    x = (torch.rand(STEPS, SAMPLES, FEATURES) < 0.5).to(dtype)
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(x)
    counts = monitor.compute().counts()
    assert counts[f"{name(net)}.ih_l0"]["events"] == int(x.sum())
    assert counts[f"{name(net)}.ih_l1"]["events"] == STEPS * SAMPLES * HIDDEN
    assert counts[f"{name(net)}.hh_l1"]["events"] == (STEPS - 1) * SAMPLES * HIDDEN


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_modes_of_the_caller(mode: Callable[[], Any]) -> None:
    net, x = nn.LSTM(FEATURES, HIDDEN, 2), torch.ones(STEPS, SAMPLES, FEATURES)
    with mode():
        plain = net(x)[0]
        with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
            assert torch.equal(plain, net(x)[0])
    assert monitor.compute().counts()["LSTM.hh_l1"]["events"] == (STEPS - 1) * SAMPLES * HIDDEN


def test_gradients_are_the_same_also_under_a_checkpoint() -> None:
    net = nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True)
    x, gradients = torch.rand(STEPS, SAMPLES, FEATURES), []
    for watched in (False, True):
        model = Function(lambda _, x: x)
        model.net = copy.deepcopy(net)  # type: ignore[assignment]
        model.does = lambda n, x: checkpoint(lambda t: n(t)[0], x, use_reentrant=False)
        if watched:
            with sm.Monitor(model, batch_dim=1, time_dim=0) as monitor:
                model(x).sum().backward()
            assert len(monitor.compute().layers) == 8
        else:
            model(x).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class Halved(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w * 0.5


def test_pruned_and_parametrized_weights() -> None:
    net = nn.GRU(FEATURES, HIDDEN, 2)
    prune.custom_from_mask(net, "weight_hh_l0", torch.eye(3).repeat(3, 1))
    parametrize.register_parametrization(net, "weight_ih_l1", Halved())
    x = torch.ones(STEPS, SAMPLES, FEATURES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
            net(x)
    report = monitor.compute()
    assert not report.uncounted
    (row,) = (row for row in report.layers.values() if row.name.endswith("hh_l0"))
    assert row.effective_synops == 3 * HIDDEN * (STEPS - 1)
    assert row.event_synops == 3 * 3 * HIDDEN * (STEPS - 1)


# ----------------------------------------------------------------------- said, not counted


def test_dropout_between_layers_is_said() -> None:
    net, x = nn.GRU(FEATURES, HIDDEN, 2, dropout=0.5), torch.ones(STEPS, SAMPLES, FEATURES)
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(x)
    report = monitor.compute()
    assert not report.layers
    assert {entry.what for entry in report.uncounted} == {"gru"} | {
        f"parameter weight_{part}_l{layer}" for part in ("ih", "hh") for layer in range(2)
    }
    assert "dropout between its layers" in report.uncounted[0].reason
    net.eval()
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(x)
    assert not monitor.compute().uncounted


def test_dropout_of_a_network_of_one_layer_does_nothing() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        net = nn.GRU(FEATURES, HIDDEN, dropout=0.5)
    with sm.Monitor(net, batch_dim=1, time_dim=0) as monitor:
        net(torch.ones(STEPS, SAMPLES, FEATURES))
    assert not monitor.compute().uncounted


def test_what_a_transform_differentiates_is_counted() -> None:
    x = torch.ones(STEPS, SAMPLES, FEATURES)
    net = nn.GRU(FEATURES, HIDDEN)
    reports = []
    for does in (lambda g, x: g(x)[0], lambda g, x: torch.func.grad(lambda t: g(t)[0].sum())(x)):
        model = Function(does)
        model.net = net
        with sm.Monitor(model, batch_dim=1, time_dim=0) as monitor:
            model(x)
        reports.append(monitor.compute())
    assert reports[0].counts() == reports[1].counts()
    (said,) = reports[1].uncounted
    assert "backward pass" in said.reason


def test_under_vmap_it_is_said() -> None:
    model = Function(lambda g, x: torch.vmap(lambda t: t @ t.mT)(x))
    with sm.Monitor(model, batch_dim=1, time_dim=0) as monitor:
        model(torch.ones(STEPS, SAMPLES, FEATURES))
    report = monitor.compute()
    assert not report.layers
    (said,) = (entry for entry in report.uncounted if entry.what == "matmul")
    assert said.calls == 1
    assert "torch.func" in said.reason


# ------------------------------------------------------------------------------- per sample


@pytest.mark.parametrize(("batch_first", "timed"), [(False, True), (True, True), (True, False)])
def test_figures_of_samples(batch_first: bool, timed: bool) -> None:
    """Weights are integers, so that hidden states are spike counts."""
    net = relu(FEATURES, HIDDEN, 2, bias=False, bidirectional=True, batch_first=batch_first)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    samples = [(torch.rand(STEPS, FEATURES) < rate).float() for rate in (0.2, 0.5, 0.8)]
    x = torch.stack(samples, 0 if batch_first else 1)
    dims = {"batch_dim": 0 if batch_first else 1}
    if timed:
        dims["time_dim"] = 1 if batch_first else 0
    with sm.Monitor(net, per_sample=True, **dims) as monitor:
        net(x)
    report = monitor.compute()
    with torch.no_grad():
        truth = recurrent_inputs(net, samples)
    total = torch.zeros(STEPS, SAMPLES, dtype=torch.float64)
    for part, vectors in truth.items():
        synops = torch.zeros(STEPS, SAMPLES, dtype=torch.float64)
        for sample, steps in enumerate(vectors):
            for t, vector in steps:
                synops[t, sample] += float(vector.abs().sum()) * HIDDEN
        total += synops
        expect(report.layers[f"RNN.{part}"], synops, timed)
    expect(report.total, total, timed)


def expect(row: Any, synops: Tensor, timed: bool) -> None:
    samples = synops.sum(0)
    assert row.synops == pytest.approx(samples.mean().item())
    assert row.std == pytest.approx(samples.std(correction=0).item())
    assert row.max == samples.max()
    median = samples.median().item()
    assert median <= row.percentiles[50] <= median * (1 + RESOLUTION) + 1e-9
    assert row.peak_step == (synops.max() if timed else None)


@pytest.mark.parametrize("lengths", [(3, 2, 1), (2, 2, 2)])
def test_samples_of_packed_sequences_cannot_be_told(lengths: tuple[int, ...]) -> None:
    """Their rows are sorted by length: 3 + 2 + 1 rows are not twice 3 samples."""
    net, x = nn.GRU(FEATURES, HIDDEN), torch.ones(3, SAMPLES, FEATURES)
    model = Function(lambda _, x: net(pack_padded_sequence(x, list(lengths))))
    model.net = net
    with (
        pytest.raises(ValueError, match=r"per_sample: net.ih_l0: expected an input whose leading"),
        sm.Monitor(model, batch_dim=1, time_dim=0, per_sample=True),
    ):
        model(x)
