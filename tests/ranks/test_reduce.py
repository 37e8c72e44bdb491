from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import snnmetrics as sm
from snnmetrics.ranks.reduce import sum_states
from snnmetrics.ranks.signature import make_signature, shape_of
from tests.helpers.ranks import Ranks, results_of

pytestmark = [pytest.mark.versions, pytest.mark.xdist_group("ranks")]


# ---------------------------------------------------------------- without processes


class Lockstep:
    """A group of one that pretends to have ``size`` equal ranks, and counts the collectives."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.collectives = 0

    def __call__(self, buffer: Tensor, operation: str) -> Tensor:
        self.collectives += 1
        return buffer * self.size if operation == "sum" else buffer


def test_one_header_and_one_buffer_per_dtype_however_many_states() -> None:
    states = {f"map{i}": torch.full((2, 3), float(i)).double() for i in range(20)}
    states |= {f"number{i}": torch.tensor(i) for i in range(20)}
    before = {name: state.clone() for name, state in states.items()}
    reduce = Lockstep(3)
    summed, agreed = sum_states(
        states, [f"map{i}" for i in range(20)], make_signature([], (2, 3)), reduce
    )
    assert reduce.collectives == 3
    assert list(summed) == list(states)
    for name, state in before.items():
        assert torch.equal(summed[name], state * 3)
        assert torch.equal(states[name], state)
    assert shape_of(agreed) == (2, 3)


# -------------------------------------------------------------------- on two ranks


def _epoch(metric: Any, batches: list[Tensor]) -> dict[str, Tensor]:
    for batch in batches:
        metric.update(batch)
    value: dict[str, Tensor] = metric.compute()
    return value


def test_ranks_with_different_neuron_shapes_all_raise(two_ranks: Ranks) -> None:
    for per_neuron in (True, False):
        metric = sm.SynOps(1, per_neuron=per_neuron)
        outcomes = two_ranks.run(
            _epoch, [(metric, [torch.ones(1, 3, 4)]), (metric, [torch.ones(1, 4, 3)])]
        )
        assert [type(o) for o in outcomes] == [ValueError] * 2
        assert str(outcomes[0]) == str(outcomes[1])
        assert "different neuron shapes" in str(outcomes[0])


def test_ranks_with_fanout_of_another_layer_all_raise(two_ranks: Ranks) -> None:
    for one, two in [(1.0, 2.0), (torch.ones(2), torch.ones(3)), (1.0, torch.ones(2))]:
        outcomes = two_ranks.run(
            _epoch, [(sm.SynOps(one), [torch.ones(1, 2)]), (sm.SynOps(two), [])]
        )
        assert [type(o) for o in outcomes] == [ValueError] * 2
        assert "different arguments" in str(outcomes[0])


def _fail_then_sync(metric: Any, first: Tensor, other: Any) -> tuple[int, Any, bool]:
    """A failed sync leaves the metric usable."""
    metric.update(first)
    with pytest.raises(ValueError, match="different arguments"):
        other.compute()
    assert metric._cache is None
    assert other._cache is None
    return metric.update_count, metric.compute(), metric._is_synced


def test_after_a_failed_sync_the_next_one_works(two_ranks: Ranks) -> None:
    outcomes = two_ranks.run(
        _fail_then_sync,
        [(sm.SynOps(1), torch.ones(1, 2), sm.SynOps(fanout)) for fanout in (1, 2)],
    )
    for count, value, synced in results_of(outcomes):
        assert count == 1
        assert value["synops"] == 2
        assert not synced


def _compute_a_poisoned_metric(poisoned: bool) -> str:
    metric = sm.SynOps(1)
    metric.update(torch.ones(1, 2))
    if poisoned:
        metric.synops = metric.synops * float("nan")
    with pytest.raises(ValueError, match="found another: since the last reset NaN"):
        metric.compute()
    assert not metric._is_synced
    return str(metric.synops.tolist())


def test_nan_on_one_rank_raises_on_all_and_unsyncs(two_ranks: Ranks) -> None:
    outcomes = results_of(two_ranks.run(_compute_a_poisoned_metric, [(True,), (False,)]))
    assert outcomes == ["[nan, nan]", "[1.0, 1.0]"]


def _compute_in_own_group(spikes: Tensor, rank_of_group: int) -> tuple[float, float]:
    """A group of this rank alone, which both ranks must help to make."""
    groups = [torch.distributed.new_group([rank]) for rank in range(2)]
    alone = sm.SynOps(1, process_group=groups[rank_of_group])
    stepwise = sm.SynOps(1, process_group=groups[rank_of_group], dist_sync_on_step=True)
    alone.update(spikes)
    step = stepwise(spikes)["synops"].item()
    return alone.compute()["synops"].item(), step


def test_a_process_group_of_the_users(two_ranks: Ranks) -> None:
    outcomes = two_ranks.run(
        _compute_in_own_group, [(torch.ones(1, 2), 0), (torch.ones(1, 2) * 5, 1)]
    )
    assert results_of(outcomes) == [(2, 2), (10, 10)]


def _without_sync(spikes: Tensor) -> tuple[float, float]:
    metric = sm.SynOps(1, sync_on_compute=False)
    metric.update(spikes)
    local = metric.compute()["synops"].item()
    metric.sync()
    metric._should_unsync, metric._to_sync, metric._computed = False, False, None
    synced = metric.compute()["synops"].item()
    with pytest.raises(Exception, match="synced"):
        metric.merge_state(sm.SynOps(1))
    assert metric._is_synced
    return local, synced


def test_sync_on_compute_may_be_switched_off(two_ranks: Ranks) -> None:
    outcomes = two_ranks.run(_without_sync, [(torch.ones(1, 2),), (torch.ones(3, 2) * 5,)])
    assert results_of(outcomes) == [(2, 8), (10, 8)]


def _empty_batch_after_compute(batches: list[Tensor]) -> list[float]:
    metric, values = sm.SynOps(1), []
    for batch in batches:
        metric.update(batch)
        values.append(metric.compute()["synops"].item())
    return values


def test_a_rank_with_an_empty_batch_takes_part_in_the_next_sync(two_ranks: Ranks) -> None:
    first = torch.ones(2, 3)
    outcomes = two_ranks.run(
        _empty_batch_after_compute, [([first, first * 5],), ([first, torch.ones(0, 3)],)]
    )
    assert results_of(outcomes) == [[3, 7], [3, 7]]


class _Spiking(nn.Module):
    """A model that carries its metric, as Lightning modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.synops = sm.SynOps(sm.fanout(self.second, (8,)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes = torch.relu(self.first(x)).round()
        return self.second(spikes), self.synops(spikes)["synops"]


def _train_with_ddp(share: Tensor) -> tuple[float, list[Tensor], int]:
    torch.manual_seed(1)
    model = DistributedDataParallel(_Spiking())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    total = 0
    for batch in share.split(4):
        with torch.no_grad():
            hidden = torch.relu(model.module.first(batch)).round()
        total += int(hidden.sum()) * 3
        output, synops = model(batch)
        optimiser.zero_grad()
        (output.square().mean() + 1e-3 * synops).backward()
        optimiser.step()
    epoch = model.module.synops.compute()["synops"].item()
    return epoch, [p.detach() for p in model.parameters()], total


def test_training_under_ddp(two_ranks: Ranks) -> None:
    samples = torch.rand(24, 6) * 5
    outcomes = two_ranks.run(_train_with_ddp, [(samples[:12],), (samples[12:],)])
    (epoch_a, weights_a, total_a), (epoch_b, weights_b, total_b) = results_of(outcomes)
    assert total_a + total_b > 0
    assert epoch_a == epoch_b == (total_a + total_b) / 24
    assert all(torch.equal(a, b) for a, b in zip(weights_a, weights_b, strict=True))


def _empty_first_step(samples: int) -> list[Any]:
    metric = sm.SynOps(2.0, dist_sync_on_step=True)
    empty = metric(torch.ones(samples, 2, requires_grad=True))
    full = metric(torch.ones(3, 2))
    return [empty["synops_per_neuron"].detach(), empty["synops"].item(), full["synops"].item()]


def test_a_step_that_is_empty_on_some_or_all_ranks(two_ranks: Ranks) -> None:
    for outcome in results_of(two_ranks.run(_empty_first_step, [(0,), (0,)])):
        assert outcome[0].shape == (2,)
        assert outcome[0].isnan().all()
        assert outcome[2] == 4
    for outcome in results_of(two_ranks.run(_empty_first_step, [(0,), (1,)])):
        assert outcome[0].tolist() == [2, 2]
        assert outcome[1:] == [4, 4]
