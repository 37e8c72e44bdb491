"""Spikes times a factor: one number, one per channel, or one that a function gives in a batch."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.accelerators import INTERPRETED, road_named, taken
from tests.helpers.ranks import Ranks, results_of

FACTORS = torch.tensor([0.5, 0.25, 3.0])
roads = pytest.mark.parametrize("road", [None, "torch", INTERPRETED])


def counts(*shape: int, seed: int = 0) -> Tensor:
    """Spike counts of 0 to 2."""
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def per_channel(factors: Tensor) -> Tensor:
    return factors.view(3, 1, 1)


def row_of(model: nn.Module, batches: list[Tensor], road: str | None = None, **options: Any) -> Any:
    around = nullcontext() if road is None else taken(road_named(road)[0])
    monitor = sm.Monitor(model, batch_dim=0, per_neuron=True, **options)
    with around, torch.no_grad(), monitor:
        for batch in batches:
            model(batch)
    return monitor.compute()


@roads
@pytest.mark.parametrize("given", [FACTORS, per_channel(FACTORS), lambda: FACTORS])
def test_a_factor_per_channel_gives_the_counts_of_the_spikes(given: Any, road: str | None) -> None:
    conv, x = nn.Conv2d(3, 4, 3, padding=1), counts(5, 3, 6, 6)
    expected = row_of(conv, [x]).layers["Conv2d"]
    scaled = row_of(conv, [x * per_channel(FACTORS)], road, input_scale={"Conv2d": given})
    found = scaled.layers["Conv2d"]
    assert (found.kind, found.synops, found.acs) == ("integer", expected.synops, expected.acs)
    assert torch.equal(found.synops_per_neuron, expected.synops_per_neuron)


def test_factors_of_a_linear_layer_and_of_a_grid_that_broadcasts() -> None:
    fc, x = nn.Linear(3, 2), counts(7, 4, 3)  # batch, time, neurons
    expected = row_of(fc, [x]).layers["Linear"].acs
    scaled = row_of(fc, [x * FACTORS], input_scale={"Linear": FACTORS})
    assert scaled.layers["Linear"].acs == expected
    conv, x = nn.Conv1d(3, 2, 2), counts(7, 3, 5)
    grid = torch.rand(3, 5) + 0.5
    expected = row_of(conv, [x]).layers["Conv1d"].acs
    assert row_of(conv, [x * grid], input_scale={"*": grid}).layers["Conv1d"].acs == expected


@roads
def test_a_function_is_asked_once_in_every_batch(road: str | None) -> None:
    fc, asked, amplitude = nn.Linear(3, 2), [], nn.Parameter(torch.tensor(0.7))
    batches = [counts(4, 3, seed=seed) for seed in range(3)]
    expected = row_of(fc, batches).layers["Linear"]

    def current() -> Tensor:
        asked.append(amplitude.item())
        return amplitude

    monitor = sm.Monitor(fc, input_scale={"Linear": current})
    around = nullcontext() if road is None else taken(road_named(road)[0])
    with around, torch.no_grad(), monitor:
        for batch in batches:
            amplitude.add_(0.3)
            with monitor.batch(samples=4, steps=2):
                for half in (batch[:2], batch[2:]):
                    fc(half * amplitude)
    report = monitor.compute()
    assert (report.layers["Linear"].acs, report.layers["Linear"].kind) == (expected.acs, "integer")
    assert asked == pytest.approx([1.0, 1.3, 1.6])


@roads
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_factor_that_an_optimiser_changed_in_an_open_batch_is_asked_again(
    dtype: torch.dtype, road: str | None
) -> None:
    fc, amplitude = nn.Linear(3, 2), nn.Parameter(torch.tensor([0.5, 0.25, 2.0], dtype=dtype))
    batches = [counts(4, 3, seed=seed) for seed in range(3)]
    expected = row_of(fc, batches).layers["Linear"]
    optimiser = torch.optim.SGD([amplitude], lr=1.0)
    monitor = sm.Monitor(fc, input_scale={"Linear": lambda: amplitude})
    around = nullcontext() if road is None else taken(road_named(road)[0])
    with around, monitor, monitor.batch(samples=12, steps=3):
        for batch in batches:  # truncated backpropagation: a step of the optimiser each
            fc(batch * amplitude.detach().float())
            amplitude.grad = -amplitude.detach()  # doubles it
            optimiser.step()
    assert amplitude.tolist() == [4.0, 2.0, 16.0]
    assert monitor.compute().layers["Linear"].acs * 12 == expected.acs * 12


def test_a_declared_tensor_may_be_written_to_later() -> None:
    fc, factors, x = nn.Linear(3, 2), FACTORS.double(), counts(4, 3)
    monitor = sm.Monitor(fc, batch_dim=0, input_scale={"Linear": factors})
    factors.mul_(3.0)
    with torch.no_grad(), monitor:
        fc(x * FACTORS)
    assert monitor.compute().layers["Linear"].acs == row_of(fc, [x]).layers["Linear"].acs


@pytest.mark.parametrize(
    ("factors", "found"),
    [
        (torch.ones(3).to_sparse(), "found layout torch.sparse_coo"),
        (torch.ones(3, device="meta"), "found one on the meta device"),
    ],
)
def test_tensors_without_dense_values_are_refused(factors: Tensor, found: str) -> None:
    fc = nn.Linear(3, 2)
    message = f"input_scale['Linear']: expected a dense tensor with values, {found}"
    with pytest.raises(ValueError, match=re.escape(message)):
        sm.Monitor(fc, input_scale={"Linear": factors})
    monitor = sm.Monitor(fc, batch_dim=0, input_scale={"Linear": lambda: factors})
    with monitor, pytest.raises(ValueError, match=f"the function's result: .* {found}"):
        fc(counts(4, 3))
    assert monitor.compute().calls == 0


@roads
def test_gradients_are_those_of_the_spikes_over_the_factor(road: str | None) -> None:
    conv = nn.Conv2d(3, 4, 3)
    x = counts(2, 3, 5, 5).mul_(per_channel(FACTORS)).requires_grad_()
    monitor = sm.Monitor(conv, batch_dim=0, differentiable=True, input_scale={"Conv2d": FACTORS})
    around = nullcontext() if road is None else taken(road_named(road)[0])
    with around, monitor:
        conv(x)
    monitor.batch_synops()["total"].backward()
    fanout = sm.fanout(conv, (3, 5, 5)).double()
    expected = (fanout / per_channel(FACTORS) / 2).expand(2, 3, 5, 5)
    assert x.grad is not None
    assert torch.allclose(x.grad.double(), expected)


@roads
def test_data_that_contradict_the_factors_are_refused(road: str | None) -> None:
    conv, x = nn.Conv2d(3, 4, 3), torch.full((2, 3, 5, 5), 0.3)
    with pytest.raises(ValueError, match="input"):
        row_of(conv, [x], road, input_scale={"Conv2d": FACTORS})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("x", TypeError, "input_scale\\['Conv2d'\\]: expected a number, a tensor with a factor"),
        (torch.tensor([True]), TypeError, "expected real numbers, found torch.bool"),
        (torch.tensor([1.0, 0.0, 1.0]), ValueError, "expected positive finite factors"),
        (torch.tensor(torch.inf), ValueError, "expected positive finite factors"),
        (nn.Parameter(FACTORS), ValueError, "pass a function that returns it"),
        (lambda: None, TypeError, "the function's result: expected a positive number, found None"),
        (lambda: -1.0, ValueError, "the function's result: expected a positive finite number"),
        (FACTORS[:2], ValueError, "expected one factor per channel \\(3\\)"),
        (torch.ones(4, 1, 1), ValueError, "broadcasts with the neurons \\(3, 5, 5\\), found"),
    ],
)
def test_what_is_no_factor_is_refused(given: Any, error: type[Exception], message: str) -> None:
    conv = nn.Conv2d(3, 4, 3)
    with pytest.raises(error, match=message):
        row_of(conv, [counts(2, 3, 5, 5)], input_scale={"Conv2d": given})


def test_a_factor_that_is_given_is_kept_as_it_was() -> None:
    fc, factors, x = nn.Linear(3, 2), FACTORS.clone(), counts(4, 3)
    monitor = sm.Monitor(fc, batch_dim=0, input_scale={"Linear": factors})
    factors.zero_()
    assert monitor.run([x * FACTORS]).layers["Linear"].kind == "integer"


@pytest.mark.parametrize(("given", "by"), [(FACTORS, "channel"), (lambda: FACTORS, "batch")])
def test_reports_say_that_the_factor_varied(given: Any, by: str) -> None:
    report = row_of(nn.Linear(3, 2), [counts(4, 3) * FACTORS], input_scale={"Linear": given})
    data = report.layers_data["Linear"]
    assert (data.input_scale, data.scale_by, data.is_scaled) == (None, by, True)
    assert sm.Report.from_json(report.to_json()) == report
    assert "x a spike count" in str(report)
    for name in ("keras-spiking", "syops", "sinabs", "neurobench", "spikingjelly"):
        row = report.under(name).layers["Linear"]
        assert row.operations is None or name == "neurobench"  # which does not hook the model
        assert row.operations is not None or f"varies by {by}" in row.reason
    other = row_of(nn.Linear(3, 2), [counts(4, 3)])
    with pytest.raises(ValueError, match="scale_by"):
        report.merge(other)


def test_reports_of_older_versions_have_factors_that_are_numbers() -> None:
    report = row_of(nn.Linear(3, 2), [counts(4, 3) / 2], input_scale={"Linear": 0.5})
    data = json.loads(report.to_json())
    data["version"] = 5
    del data["layers"]["Linear"]["scale_by"]
    assert sm.Report.from_dict(data) == report


def _counted(rank: int, others: float) -> Any:
    """Of half of the samples, ACs and notes."""
    torch.manual_seed(0)
    fc, x, factors = nn.Linear(3, 2), counts(4, 3), FACTORS * (others if rank else 1.0)
    monitor = sm.Monitor(fc, batch_dim=0, input_scale={"Linear": factors}).attach()
    fc(x[rank::2] * factors)
    return monitor.compute().layers["Linear"].acs


@pytest.mark.xdist_group("ranks")
def test_ranks_must_have_the_same_factors(two_ranks: Ranks) -> None:
    torch.manual_seed(0)
    whole = row_of(nn.Linear(3, 2), [counts(4, 3)]).layers["Linear"].acs
    assert results_of(two_ranks.run(_counted, [(0, 1.0), (1, 1.0)])) == [whole, whole]
    for outcome in two_ranks.run(_counted, [(0, 2.0), (1, 2.0)]):
        assert isinstance(outcome, ValueError)
        assert "input_scale" in str(outcome)


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_compiled_models_run_eagerly() -> None:
    fc, x = nn.Sequential(nn.Linear(3, 2)), counts(4, 3)
    expected = row_of(fc, [x]).layers["0"].acs
    compiled = torch.compile(fc, backend="eager")
    report = row_of(compiled, [x * FACTORS], input_scale={"0": FACTORS})
    assert report.layers["0"].acs == expected
    assert any("input_scale per channel or batch" in note for note in report.notes)


# ------------------------------------------------------------------ undeclared factors


def notes_of(batches: list[Tensor], road: str | None = None, **options: Any) -> str:
    text = " ".join(str(row_of(nn.Linear(3, 2), batches, road, **options)).split())
    found = re.search("analog input that held only 0 .* or a function", text)
    return "" if found is None else found[0]


@roads
def test_a_note_names_the_one_other_value(road: str | None) -> None:
    spikes = counts(4, 3).clamp(max=1)
    found = notes_of([spikes * 0.3, spikes * 0.3], road)
    assert "held only 0 and one other value, at most 0.3," in found
    assert "input_scale={'Linear': 0.3}" in found


def test_the_note_holds_for_every_call_on_the_host() -> None:
    spikes = counts(4, 3).clamp(max=1)
    assert "at most 0.4," in notes_of([spikes * 0.3, spikes * 0.4, spikes])
    assert notes_of([spikes * 0.3, counts(4, 3) * 0.3]) == ""
    assert notes_of([counts(4, 3) * 0.3, spikes * 0.3]) == ""
    assert notes_of([-spikes * 0.3]) == ""


@roads
@pytest.mark.parametrize(
    "options", [{"kinds": {"Linear": "analog"}}, {"input_scale": {"Linear": 0.3}}]
)
def test_what_was_declared_has_no_note(options: Any, road: str | None) -> None:
    assert notes_of([counts(4, 3).clamp(max=1) * 0.3], road, **options) == ""


@roads
def test_spikes_counts_and_images_have_no_note(road: str | None) -> None:
    image = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    for batches in ([counts(4, 3)], [counts(4, 3).clamp(max=1)], [torch.zeros(4, 3)], [image]):
        assert notes_of(batches, road) == ""
    assert notes_of([counts(4, 3).clamp(max=1), image], road) == ""


def test_a_call_that_fails_leaves_no_note() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.fails = nn.Linear(3, 2), True

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x)
            if self.fails:
                raise RuntimeError
            return out

    model, spikes = Fails(), counts(4, 3).clamp(max=1)
    monitor = sm.Monitor(model, batch_dim=0)
    with monitor:
        with pytest.raises(RuntimeError):
            model(spikes * 0.9)
        model.fails = False
        model(spikes * 0.3)
    assert monitor.compute().layers_data["fc"].level == pytest.approx(0.3)


@roads
@pytest.mark.parametrize("fails", ["batch", "call"])
def test_a_batch_or_a_call_in_it_that_fails_takes_no_note_away(
    fails: str, road: str | None
) -> None:
    model, spikes = nn.Sequential(nn.Linear(3, 2)), counts(4, 3).clamp(max=1)

    def late(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if args[0].max() > 0.3:
            raise KeyError

    model.register_forward_hook(late)
    monitor = sm.Monitor(model)
    around = nullcontext() if road is None else taken(road_named(road)[0])
    with around, torch.no_grad(), monitor:
        if fails == "batch":
            with suppress(KeyError), monitor.batch(samples=4, steps=2):
                model(spikes * 0.2)
                model(counts(4, 3) * 0.7)
        with monitor.batch(samples=4, steps=2):
            model(spikes * 0.3)
            if fails == "call":
                with pytest.raises(KeyError):
                    model(counts(4, 3) * 0.7)
            model(spikes * 0.3)
    report = monitor.compute()
    assert report.layers_data["0"].level == pytest.approx(0.3)
    assert report.counts()["0"]["events"] == 2 * spikes.sum()


def _noted(factor: float) -> Any:
    fc, spikes = nn.Linear(3, 2), counts(4, 3).clamp(max=1)
    monitor = sm.Monitor(fc, batch_dim=0).attach()
    fc(spikes * factor)
    again = sm.Monitor(fc, batch_dim=0)
    again.load_state_dict(monitor.state_dict())
    return again.compute().layers_data["Linear"].level


@pytest.mark.xdist_group("ranks")
def test_the_note_outlives_saving_and_ranks(two_ranks: Ranks) -> None:
    first, second = results_of(two_ranks.run(_noted, [(0.2,), (0.3,)]))
    assert first == second == pytest.approx(0.3)


def test_the_note_of_merged_reports_is_that_of_one_run() -> None:
    spikes, graded = counts(4, 3).clamp(max=1), counts(4, 3, seed=1) * 0.3
    parts = [row_of(nn.Linear(3, 2), [x]) for x in (spikes * 0.2, spikes * 0.3, graded)]
    assert parts[0].merge(parts[1]).layers_data["Linear"].level == pytest.approx(0.3)
    whole = row_of(nn.Linear(3, 2), [spikes * 0.2, spikes * 0.3, graded]).layers_data["Linear"]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        first, *others = (parts[place] for place in order)
        assert first.merge(*others).layers_data["Linear"].level == whole.level == 0.0
