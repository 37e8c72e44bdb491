"""Shards that were measured in separate jobs give the report of one run over all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import snnmetrics as sm
from snnmetrics.report import Report
from tests.helpers.toy import Fire, TwoLayers
from tests.report.made import COUNTS, full_report, layer, neurons, report


def measured(*batches: tuple[Tensor, bool], **options: Any) -> Report:
    sm.register_neuron(Fire, lead="TB")
    options = {"per_neuron": True, "per_sample": True, "dt": 0.01} | options
    model = TwoLayers()
    monitor = sm.Monitor(
        model, batch_dim=1, time_dim=0, groups={"core": ["first", "second"]}, **options
    )
    with monitor:
        for x, other in batches:
            model(x, other)
    return monitor.compute()


def shards() -> list[tuple[Tensor, bool]]:
    torch.manual_seed(0)
    sizes = [(3, 4, False), (5, 1, True), (2, 3, False)]
    return [(torch.randint(0, 2, (t, b, 6)).float(), other) for t, b, other in sizes]


@pytest.mark.parametrize("cut", [1, 2])
def test_merging_shards_gives_the_report_of_one_run(cut: int) -> None:
    data = shards()
    whole = measured(*data)
    one, two = measured(*data[:cut]), measured(*data[cut:])
    merged = one.merge(two)
    assert merged == whole
    assert Report.merge(one) == one
    assert Report.merge(one, measured()).counts() == one.counts()


def test_three_at_once_and_from_json() -> None:
    data = shards()
    parts = [Report.from_json(measured(batch).to_json()) for batch in data]
    merged, whole = parts[0].merge(*parts[1:]), measured(*data)
    assert merged.counts() == whole.counts()
    assert merged.neurons == whole.neurons
    assert merged.groups["core"].percentiles == whole.groups["core"].percentiles


def test_without_maps_it_is_said_what_is_not_known() -> None:
    one = report(neurons_data={"lif": neurons(silent=2, saturated=0)})
    merged = one.merge(one)
    row = merged.neurons["lif"]
    assert row.silent_fraction is None, "other neurons may be silent elsewhere"
    assert row.saturated_fraction == 0
    assert merged.total.silent_fraction is None
    assert "unknown for reports merged" in str(merged)
    assert Report.from_json(merged.to_json()) == merged
    none = report(neurons_data={"lif": neurons(silent=0, saturated=0)})
    assert one.merge(none).neurons["lif"].silent_fraction == 0
    all_ = report(neurons_data={"lif": neurons(silent=10, events=0, spikes=0, saturated=0)})
    assert all_.merge(all_).neurons["lif"].silent_fraction == 1


def test_analog_in_one_shard_alone_has_no_figures_over_samples() -> None:
    spikes, image = torch.ones(2, 3, 6), torch.full((2, 2, 6), 0.5)
    merged = measured((spikes, False)).merge(measured((image, False)))
    assert merged.layers["first"].kind == "analog"
    assert merged.layers["first"].std is None
    assert merged.layers["second"].std is not None
    assert merged.groups["core"].std is None
    assert merged.total.std is None
    assert any("first: analog in some of the merged reports" in note for note in merged.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": 0.5}, "same dt, found 0.001 and 0.5"),
        ({"model": "Other"}, "same model"),
        ({"integer_as": "macs"}, "same integer_as"),
        ({"groups_data": {}}, "same groups"),
        ({"parameters": 3}, "same parameters"),
    ],
)
def test_reports_of_something_else_are_refused(changes: dict[str, Any], message: str) -> None:
    one = full_report()
    if "groups_data" in changes and not one.groups_data:
        pytest.skip("made without groups")
    with pytest.raises(ValueError, match=message):
        one.merge(replace(one, **changes))


def test_other_layers_of_the_same_name_are_refused() -> None:
    one = full_report()
    layer = one.layers_data["fc"]
    for change, message in [
        ({"operation": replace(layer.operation, weight_shape=(3, 5))}, "weight_shape of 'fc'"),
        ({"declared_kind": "ternary"}, "declared_kind of 'fc'"),
        ({"input_scale": 0.5}, "input_scale of 'fc'"),
    ]:
        changed: Any = change
        other = replace(one, layers_data=one.layers_data | {"fc": replace(layer, **changed)})
        with pytest.raises(ValueError, match=message):
            one.merge(other)
    other = replace(one, neurons_data={"lif": neurons(neurons=11)})
    with pytest.raises(ValueError, match="same neurons of 'lif', found 10 and 11"):
        one.merge(other)
    with pytest.raises(TypeError, match="expected reports, found int"):
        one.merge(3)  # type: ignore[arg-type]


def test_integers_beyond_float64_stay_exact() -> None:
    one = report({"fc": layer(counts=replace(COUNTS, dense_macs=2**53 + 1))}, samples=2**60)
    merged = one.merge(one, one)
    assert merged.counts()["fc"]["dense_macs"] == 3 * (2**53 + 1)
    assert merged.samples == 3 * 2**60


def test_reports_without_samples_know_no_figures_of_samples() -> None:
    nothing = report(samples=0)
    merged = nothing.merge(nothing)
    assert (merged.per_sample, merged.per_second) == (None, None)
