"""Energy of the operations that a convention counts, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import snnmetrics as sm
from snnmetrics.conventions import ConventionReport
from snnmetrics.energy import ann_baseline, break_even_rate, training_cost, workload_of
from tests.energy.made import close, layer, neurons, report


def _under(name: str) -> ConventionReport:
    """A layer met by an image, then one met by binary and by pooled spikes; neurons behind."""
    both = {**layer("binary", 70, synops=80).counts, **layer("analog", 30, synops=40).counts}
    layers = {"image": layer("analog", 500), "fc": replace(layer("binary", 1), counts=both)}
    made = report(layers, neurons_data={"lif": neurons(100)})
    return made.under(name)


def test_energy_is_that_of_the_acs_and_macs_of_a_convention() -> None:
    """A layer may have both: of calls with spikes, and of others. 70 and 530 under NeuroBench."""
    under = _under("neurobench")
    assert (under.total.acs, under.total.macs) == (70, 530)
    estimate = sm.estimate_energy(under, "horowitz-45nm-fp32")
    assert estimate.total.energy == close(70 * 0.9e-12 + 530 * 4.6e-12)
    assert estimate.layers["fc"].breakdown.acs == close(70 * 0.9e-12)
    assert estimate.layers["fc"].breakdown.macs == close(30 * 4.6e-12)
    assert estimate.left_out == ()
    assert any(note.startswith("operations as neurobench counts") for note in estimate.footnotes)
    exact = sm.estimate_energy(under.report, "horowitz-45nm-fp32").total.energy
    assert exact == close(600 * 4.6e-12)  # the loosest kind of all calls


def test_acs_of_a_convention_have_the_price_of_synaptic_operations() -> None:
    """At 27.1 pJ on Loihi, with updates of neurons as the report has them; no price of MACs."""
    estimate = sm.estimate_energy(_under("neurobench"), "loihi")
    assert estimate.total.energy == close(70 * 27.1e-12 + 100 * 81e-12)
    assert estimate.left_out == (
        "image: 500 MACs, which have no price in profile 'loihi'",
        "fc: 30 MACs, which have no price in profile 'loihi'",
    )


def test_operations_that_a_convention_does_not_tell_apart_are_synaptic_operations() -> None:
    made = report({"fc": layer("binary", 70, synops=80, padded=96)})
    under = made.under("kernel")
    assert (under.total.operations, under.total.acs) == (48, None)  # 5 events of 10 inputs
    work = workload_of(under)
    assert (work.acs, work.macs, work.layers["fc"].synops) == (None, None, 48)
    assert work.convention == "kernel"
    assert sm.estimate_energy(under, "loihi").total.energy == close(48 * 27.1e-12)
    with pytest.raises(ValueError, match="profile: expected a price for every counted operation; "):
        sm.estimate_energy(under, "horowitz-45nm-fp32")
    with pytest.raises(ValueError, match="every synapse in every time step, independently of kern"):
        sm.estimate_energy(under, "gpu-titan-black")


def test_there_is_no_workload_of_a_convention_without_a_figure_of_a_layer() -> None:
    with pytest.raises(ValueError, match=r"report: expected a figure of every layer .* for image"):
        sm.estimate_energy(_under("keras-spiking"), "loihi")


FP32 = "horowitz-45nm-fp32"


@pytest.mark.parametrize(
    "take", [ann_baseline, training_cost, lambda found: break_even_rate(found, FP32)]
)
def test_what_takes_a_run_takes_no_convention(take: Any) -> None:
    """What a convention counts is no run: it has no steps, and no order of calls."""
    made = sm.Monitor(nn.Linear(4, 3), batch_dim=1, time_dim=0).run([torch.ones(3, 2, 4)])
    take(made)
    with pytest.raises(TypeError, match="report: expected a Report, found ConventionReport"):
        take(made.under("spikingjelly"))
