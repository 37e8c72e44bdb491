from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import snnmetrics as sm
from tests.helpers.ranks import Ranks, results_of
from tests.helpers.toy import Fire, TwoLayers

pytestmark = [pytest.mark.versions, pytest.mark.xdist_group("ranks")]


def batches() -> list[Tensor]:
    return [torch.randint(0, 2, (n, 6)).float() for n in (4, 4, 1, 3)]


def _measure(shares: list[Tensor], wrapped: bool, other: bool = False) -> sm.Report:
    sm.register_neuron(Fire, lead="B")
    model: Any = DistributedDataParallel(TwoLayers()) if wrapped else TwoLayers()
    monitor = sm.Monitor(model, batch_dim=0, per_neuron=True)
    with monitor:
        for x in shares:
            model(x, other)
    report = monitor.compute()
    assert monitor.compute() == report, "computing changes nothing"
    return report


@pytest.mark.parametrize("cut", [2, 3, 0, 4])
@pytest.mark.parametrize("wrapped", [False, True])
def test_ranks_give_the_single_process_report(two_ranks: Ranks, cut: int, wrapped: bool) -> None:
    data = batches()
    single = _measure(data, wrapped=False)
    outcomes = two_ranks.run(_measure, [(data[:cut], wrapped), (data[cut:], wrapped)])
    for report in results_of(outcomes):
        assert report == single
    assert single.samples == 12
    assert single.layers["first"].synops == float(torch.cat(data).sum()) * 5 / 12
    assert set(single.neurons) == {"fire"}


def test_ranks_that_called_other_layers(two_ranks: Ranks) -> None:
    data = batches()
    outcomes = two_ranks.run(_measure, [(data[:2], False, True), (data[2:], False, False)])
    reports = results_of(outcomes)
    assert reports[0] == reports[1]
    counts = reports[0].counts()
    assert counts["first"]["elements"] == 12 * 6
    assert counts["second"]["elements"] == 4 * 5
