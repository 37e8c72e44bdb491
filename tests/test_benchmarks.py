"""The benchmarks measure what they say: whole forwards, in pairs, on models that spike."""

from __future__ import annotations

import time

import pytest
import torch
from benchmarks import metric_update, overhead_of_monitor
from benchmarks.timing import Timed, paired_ratios
from benchmarks.workloads import WORKLOADS, Workload

import snnmetrics as sm


def test_a_ratio_is_that_of_the_times() -> None:
    calls = {"twice": Timed(lambda: time.sleep(0.02)), "same": Timed(lambda: time.sleep(0.01))}
    found = paired_ratios(lambda: time.sleep(0.01), calls, rounds=3)
    assert found["twice"].median == pytest.approx(2, rel=0.3)
    assert found["same"].median == pytest.approx(1, rel=0.3)
    assert found["twice"].seconds >= 0.02


def test_a_monitored_forward_gives_what_the_plain_one_gives() -> None:
    workload: Workload = WORKLOADS["small-loop"]()
    monitor = sm.Monitor(workload.model)
    with torch.no_grad():
        plain = workload.forward()
        with monitor, monitor.batch(workload.samples, workload.steps):
            watched = workload.forward()
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    rates = [row.firing_rate for row in monitor.compute().neurons.values()]
    assert all(0.02 < rate < 0.3 for rate in rates), "spikes as sparse as those of trained networks"


def test_all_counters_are_timed_or_fail_with_a_reason() -> None:
    ratios, errors = overhead_of_monitor.compare(WORKLOADS["small-loop"](), rounds=1)
    assert ratios.keys() | errors.keys() == {"plain again", *overhead_of_monitor.COUNTERS}
    assert "snnmetrics" in ratios


@pytest.mark.parametrize("dtype", metric_update.DTYPES, ids=str)
def test_the_bare_sum_counts_as_an_update_does(dtype: torch.dtype) -> None:
    spikes = (torch.rand(3000, 8) < 0.9).to(dtype)
    metric = sm.SynOps(fanout=1.0)
    metric.update(spikes)
    counted = metric.compute()["synops_per_neuron"] * 3000
    assert torch.equal(counted.round(), metric_update.bare_sum(spikes).double())
