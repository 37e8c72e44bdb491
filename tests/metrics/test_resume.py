"""One run cut into 1, 2 and 4 ranks, saved in the middle and resumed on another number of ranks."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import Fire, draw_weights

pytestmark = [pytest.mark.versions, pytest.mark.xdist_group("ranks")]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.fc = nn.Conv1d(2, 3, 3, padding=1), Fire(), nn.Linear(15, 4)
        draw_weights(self, seed=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fire(self.conv(x)).flatten(1))


class Run:
    """A metric and a monitor that see the same batches."""

    def __init__(self) -> None:
        sm.register_neuron(Fire, lead="B")
        fanout = sm.fanout(nn.Conv1d(2, 3, 3, padding=1), (2, 5))
        self.metric = sm.SynOps(fanout)
        self.metric.persistent(True)
        self.monitor = sm.Monitor(Net(), batch_dim=0, per_neuron=True, per_sample=True)

    def see(self, data: list[Tensor]) -> None:
        with self.monitor:
            for x in data:
                self.metric.update(x)
                self.monitor.model(x)

    def saved(self) -> bytes:
        file = io.BytesIO()
        torch.save((self.metric.state_dict(), self.monitor.state_dict()), file)
        return file.getvalue()

    def add(self, saved: bytes) -> None:
        metric, monitor = torch.load(io.BytesIO(saved), weights_only=True)
        other = Run().metric
        other.load_state_dict(metric)
        self.metric.merge_state(other)
        self.monitor.merge_state(monitor)

    def result(self) -> tuple[dict[str, Tensor], sm.Report]:
        return self.metric.compute(), self.monitor.compute()


def _begin(data: list[Tensor]) -> bytes:
    run = Run()
    run.see(data)
    return run.saved()


def _go_on(files: list[bytes], data: list[Tensor]) -> Any:
    run = Run()
    for file in files:
        run.add(file)
    run.see(data)
    return run.result()


def batches() -> list[Tensor]:
    torch.manual_seed(2)
    return [(torch.rand(n, 2, 5) < 0.4).float() for n in (4, 1, 3, 2, 5, 1)]


def dealt(data: list[Any], ranks: int) -> list[list[Any]]:
    """Unequal shares; the last of several ranks has none."""
    shares: list[list[Any]] = [[] for _ in range(ranks)]
    for i, one in enumerate(data):
        shares[i * i % max(1, ranks - 1)].append(one)
    return shares


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2), (1, 4), (4, 1)])
def test_counts_are_bit_identical(
    two_ranks: Ranks, four_ranks: Ranks, before: int, after: int
) -> None:
    data = batches()
    expected, report = _go_on([], data)
    exact = float(sum((x * sm.fanout(nn.Conv1d(2, 3, 3, padding=1), (2, 5))).sum() for x in data))
    assert expected["synops"] == exact / 16
    groups = {2: two_ranks, 4: four_ranks}
    shares = dealt(data[:3], before)
    begun = [_begin(shares[0])] if before == 1 else None
    files = begun or results_of(groups[before].run(_begin, [(share,) for share in shares]))
    rest = list(zip(dealt(files, after), dealt(data[3:], after), strict=True))
    outcomes = [_go_on(*rest[0])] if after == 1 else results_of(groups[after].run(_go_on, rest))
    for value, found in outcomes:
        assert found == report
        for key, entry in expected.items():
            assert torch.equal(value[key], entry)
