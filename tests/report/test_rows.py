"""Figures per sample, against numbers worked out by hand (see made.py)."""

from __future__ import annotations

import copy
import math
import pickle
import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

import snnmetrics as sm
from snnmetrics.report import Counts, GroupData, LayerData, Report
from snnmetrics.report.distribution import RESOLUTION
from snnmetrics.report.pages import MAIN_SCALARS, SCALARS
from tests.report.made import COUNTS, full_report, layer, neurons, operation, report, spread


def test_figures_of_a_layer_are_totals_over_samples() -> None:
    row = report().layers["fc"]
    assert (row.name, row.operation, row.kind) == ("fc", "linear", "binary")
    assert (row.vectors, row.synops, row.event_synops) == (1.0, 7.5, 4.5)
    assert (row.effective_synops, row.dense_synops, row.dense_macs) == (3.0, 12.0, 13.0)
    assert (row.synapses, row.parameters, row.input_sparsity) == (12, 15, 5 / 8)
    assert row.synops_per_neuron is None


@pytest.mark.parametrize(
    ("kind", "integer_as", "acs", "macs"),
    [
        ("binary", "acs", 3.0, 0.0),
        ("ternary", "macs", 3.0, 0.0),
        ("integer", "acs", 5.0, 0.0),  # weighted by value
        ("integer", "macs", 0.0, 3.0),
        ("analog", "acs", 0.0, 3.0),
        ("binary*analog", "acs", 3.0, 0.0),
        ("analog*ternary", "acs", 3.0, 0.0),
        ("integer*integer", "acs", 0.0, 3.0),  # a product is never weighted by value
        ("integer*analog", "acs", 0.0, 3.0),
        ("analog*analog", "acs", 0.0, 3.0),
    ],
)
def test_operations_of_each_kind(kind: str, integer_as: str, acs: float, macs: float) -> None:
    row = report({"fc": layer(kind)}, integer_as=integer_as).layers["fc"]
    assert (row.kind, row.acs, row.macs) == (kind, acs, macs)


@pytest.mark.parametrize("kind", ["analog", "analog*analog"])
def test_analog_input_has_no_synops(kind: str) -> None:
    data = layer(kind, synops_per_neuron=torch.ones(4))
    made = report({"fc": data})
    assert made.layers["fc"].synops is None
    assert made.layers["fc"].synops_per_neuron is None
    assert made.counts()["fc"]["synops"] is None
    assert "fc/synops" not in made.scalars()
    assert made.total.synops is None
    assert "total/synops" not in made.scalars()
    assert report({"fc": layer("binary*analog")}).layers["fc"].synops == 7.5


@pytest.mark.parametrize(
    ("met", "declared", "kind"),
    [
        (["integer", "binary"], None, "integer"),
        (["binary", "analog", "integer"], None, "analog"),
        (["ternary", "binary"], None, "ternary"),
        (["binary", "analog"], "binary", "binary"),
        (["binary"], "analog", "analog"),
        (["binary*analog", "integer*binary"], None, "integer*analog"),
        (["binary*binary"], "analog", "analog*analog"),
        (["binary*binary"], "ternary*analog", "ternary*analog"),
    ],
)
def test_the_kind_is_the_loosest_met_or_the_declared_one(
    met: list[str], declared: str | None, kind: str
) -> None:
    data = LayerData(operation(), dict.fromkeys(met, COUNTS), declared_kind=declared)
    row = report({"x": data}).layers["x"]
    assert row.kind == kind
    assert row.event_synops == 4.5 * len(met)  # all calls count, whatever their kind


def test_kinds_without_calls_do_not_loosen_and_layers_without_calls_have_no_row() -> None:
    idle = layer("analog", Counts())
    mixed = LayerData(operation(), {"binary": COUNTS, "analog": Counts()})
    made = report({"idle": idle, "fc": mixed, "none": LayerData(operation(), {})})
    assert list(made.layers) == ["fc"]
    assert made.layers["fc"].kind == "binary"
    assert list(made.counts()) == ["fc"]
    assert made.total.synapses == 12


def test_counts_are_exact_integers() -> None:
    huge = replace(COUNTS, event_synops=2**53 + 1, synops=2**70 + 1)
    counts = report({"fc": layer("integer", huge)}).counts()["fc"]
    assert counts["event_synops"] == 2**53 + 1
    assert counts["synops"] == 2**70 + 1
    assert (counts["acs"], counts["macs"]) == (10, 0)
    assert all(type(value) is int for value in counts.values())
    assert set(counts) >= {"calls", "vectors", "elements", "events", "dense_synops", "dense_macs"}


def test_the_total_sums_the_rows() -> None:
    layers = {"fc": layer(), "image": layer("analog"), "sum": layer("integer")}
    total = report(layers, parameters=77).total
    assert total.synops == 15.0  # of the two that have synops
    assert (total.event_synops, total.effective_synops) == (9.0, 6.0)  # of the same two
    assert (total.dense_synops, total.dense_macs) == (36.0, 39.0)
    assert (total.acs, total.macs) == (8.0, 3.0)
    assert (total.synapses, total.parameters) == (36, 77)
    assert total.input_sparsity == 5 / 8


@pytest.mark.parametrize("kinds", [("analog",), ("analog", "binary"), ("binary", "integer"), ()])
def test_sums_of_synops_cover_the_same_layers(kinds: tuple[str, ...]) -> None:
    """One is a part of the other; the footnote names the layers that they leave out."""
    made = report({kind: layer(kind) for kind in kinds}, groups_data={"all": GroupData(kinds)})
    rows = [row for row in made.layers.values() if row.synops is not None]
    for total in (made.total, made.groups["all"]):
        for figure in ("synops", "event_synops", "effective_synops"):
            parts = [getattr(row, figure) for row in rows]
            assert getattr(total, figure) == (sum(parts) if parts else None)
        for figure in ("dense_synops", "dense_macs", "acs", "macs"):
            assert getattr(total, figure) == sum(getattr(r, figure) for r in made.layers.values())
    text = " ".join(str(made).split())
    assert ("layers that have synops, without analog;" in text) == (kinds == ("analog", "binary"))
    assert str(made.compare(made)).count("without analog;") == (kinds == ("analog", "binary"))


def test_none_nan_and_zero_mean_one_thing_each() -> None:
    unknown = neurons(silent=None, saturated=None)
    made = report({"image": layer("analog")}, neurons_data={"lif": unknown})
    assert made.layers["image"].synops is None  # has no meaning
    assert made.layers["image"].synops_per_second is None  # not known of this run
    assert made.neurons["lif"].silent_fraction is made.total.silent_fraction is None
    assert "lif/silent_fraction" not in made.scalars()
    assert made.layers["image"].acs == 0  # counted, none was met
    for value in (report(samples=0).layers["fc"].acs, report().total.firing_rate):
        assert math.isnan(value)  # nothing was seen


def test_a_misspelt_name_is_answered_with_the_closest() -> None:
    made = report({"conv1": layer(), "conv2": layer(), "fc": layer()})
    for rows in (
        made.layers,
        made.layers_data,
        made.compare(made).layers,
        made.under("kernel").layers,
    ):
        with pytest.raises(KeyError, match=r"conv3: expected .*; closest: conv2, conv1"):
            rows["conv3"]  # type: ignore[index]
        assert rows.get("conv3") is None  # type: ignore[attr-defined]
        assert "conv3" not in rows
    with pytest.raises(KeyError, match="there are conv1, conv2, fc"):
        made.layers["x"]


@pytest.mark.parametrize(("value", "noted"), [(9, True), (1, False)])
def test_more_acs_than_dense_macs_are_noted(value: int, noted: bool) -> None:
    """3 integers at 2 nonzero weights each, of 26 dense MACs."""
    counts = replace(COUNTS, effective_magnitude=6 * value, magnitude=3 * value)
    made = report({"image": layer("integer", counts)})
    note = "image: more ACs (27) than dense MACs (13)"
    for text in (str(made), str(sm.paper_table({"ours": made}))):
        assert (note in " ".join(text.split())) == noted
        assert ("Monitor(kinds={'image': 'analog'})" in " ".join(text.split())) == noted


def test_a_report_takes_keywords_alone() -> None:
    with pytest.raises(TypeError, match="positional"):
        Report(2, 1)  # type: ignore[misc]
    assert Report(samples=2, calls=1) == report({})


def test_the_map_per_neuron_is_per_sample_and_float64() -> None:
    map_ = torch.tensor([[1.0, 2.0], [0.0, 5.0]], dtype=torch.float64)
    made = report({"fc": layer(synops_per_neuron=map_)})
    map_.zero_()  # what was counted before is not touched
    row = made.layers["fc"]
    assert row.synops_per_neuron is not None
    assert row.synops_per_neuron.dtype == torch.float64
    assert row.synops_per_neuron.tolist() == [[0.5, 1.0], [0.0, 2.5]]


def test_figures_of_neurons() -> None:
    row = report(neurons_data={"lif": neurons()}).neurons["lif"]
    assert (row.name, row.type, row.neurons) == ("lif", "Leaky", 10)
    assert (row.firing_rate, row.sparsity) == (60 / 400, 1 - 50 / 400)
    assert (row.spikes, row.updates) == (30.0, 200.0)
    assert (row.silent_fraction, row.saturated_fraction) == (0.2, 0.1)


def test_firing_rates_are_in_hertz_with_dt() -> None:
    row = report(neurons_data={"lif": neurons()}, dt=0.002).neurons["lif"]
    assert row.firing_rate == pytest.approx(75.0, rel=1e-15)


def test_the_total_of_neurons_is_weighted_by_neurons() -> None:
    # 10 neurons at 0.15, 30 at 0.5 of which half as many steps were seen.
    other = neurons(neurons=30, elements=600, events=300, spikes=300, silent=6, saturated=0)
    unseen = neurons(neurons=5, elements=0, events=0, spikes=0, silent=5, saturated=0)
    total = report(neurons_data={"a": neurons(), "b": other, "c": unseen}).total
    assert total.neurons == 45
    assert total.firing_rate == pytest.approx((10 * 0.15 + 30 * 0.5) / 40, rel=1e-15)
    assert (total.spikes, total.updates) == (180.0, 500.0)
    assert total.silent_fraction == pytest.approx(13 / 45, rel=1e-15)
    assert total.saturated_fraction == pytest.approx(1 / 45, rel=1e-15)


def test_nothing_seen_is_nan_not_an_error() -> None:
    empty = replace(COUNTS, vectors=0, elements=0, events=0)
    unseen = neurons(neurons=0, elements=0, events=0, spikes=0, silent=0, saturated=0)
    data = layer(counts=empty, synops_per_neuron=torch.zeros(4))
    made = report({"fc": data}, samples=0, neurons_data={"lif": unseen})
    row, lif = made.layers["fc"], made.neurons["lif"]
    assert row.synops is not None
    assert row.synops_per_neuron is not None
    assert math.isnan(row.synops)
    assert math.isnan(row.input_sparsity)
    assert bool(row.synops_per_neuron.isnan().all())
    for value in (lif.firing_rate, lif.sparsity, lif.spikes, lif.silent_fraction):
        assert math.isnan(value)
    assert all(math.isnan(value) for value in made.scalars(figures="all").values())
    assert "nan" in str(made)
    assert "0 samples" in str(report({}, samples=0))


def test_scalars_have_stable_names_and_are_floats() -> None:
    scalars = full_report().scalars(prefix="val/", figures="all")
    assert scalars["val/fc/synops"] == 15.0  # 2 x 15 over 2 samples
    assert scalars["val/lif/firing_rate"] == pytest.approx(150.0, rel=1e-15)
    assert scalars["val/total/acs"] == 5.0 + 3.0 + 6.0
    assert scalars["val/total/macs"] == 3.0
    assert all(type(value) is float for value in scalars.values())
    assert set(report().scalars(figures="all")) == {
        f"{name}/{figure}"
        for name in ("fc", "total")
        for figure in (
            ["synops", "event_synops", "effective_synops", "dense_synops", "dense_macs"]
            + ["acs", "macs", "input_sparsity"]
            + (["vectors"] if name == "fc" else [])
        )
    }


def test_figures_over_samples() -> None:
    made = full_report()
    for row, times in ((made.layers["block.conv"], 1), (made.layers["fc"], 2), (made.total, 4)):
        assert (row.synops, row.max, row.peak_step) == (7.5 * times, 10 * times, 3 * times)
        assert row.std == pytest.approx(2.5 * times, rel=1e-12)
        assert row.percentiles == {
            50: pytest.approx(5 * times, rel=RESOLUTION),
            90: 10 * times,
            99: 10 * times,
        }
        assert row.percentiles[50] >= 5 * times
        assert row.synops_per_second == pytest.approx(15 * times / 0.04, rel=1e-15)
    image = made.layers["image"]
    assert (image.std, image.max, image.percentiles, image.peak_step) == (None,) * 4
    assert image.synops_per_second is None
    assert report().layers["fc"].std is None


def test_analog_input_has_no_figures_over_samples() -> None:
    made = report({"fc": layer("analog", per_sample=spread(1, 2))}, per_sample=spread(1, 2))
    assert made.layers["fc"].max is None
    assert made.total.max is None


def test_figures_of_a_group_are_those_of_all_its_layers() -> None:
    made = full_report()
    core, idle = made.groups["core"], made.groups["idle"]
    assert (core.name, core.layers) == ("core", ("block.conv", "fc"))
    assert (core.synops, core.acs, core.macs) == (22.5, 5.0 + 6.0, 0.0)
    assert (core.event_synops, core.effective_synops) == (13.5, 9.0)
    assert (core.dense_synops, core.dense_macs, core.synapses) == (36.0, 39.0, 24)
    assert core.input_sparsity == 5 / 8
    assert core.synops_per_second == pytest.approx(45 / 0.04)
    assert (core.max, core.peak_step) == (30, 9)
    assert (idle.synops, idle.max, idle.synops_per_second) == (None, None, None)
    mixed = report(
        {"fc": layer(), "image": layer("analog")},
        groups_data={"all": GroupData(("fc", "image"), spread(5, 10))},
    ).groups["all"]
    assert (mixed.synops, mixed.macs, mixed.max) == (7.5, 3.0, 10)  # synops: of spikes alone


def test_steps_last_as_long_as_dt_says_or_as_all_seconds_over_all_steps() -> None:
    lif = {"lif": neurons()}
    made = report(neurons_data=lif, steps=20, seconds=0.08)  # 2 samples of 20 steps
    assert made.step_seconds == pytest.approx(0.002)
    assert made.neurons["lif"].firing_rate == pytest.approx(75.0)
    assert made.total.firing_rate == pytest.approx(75.0)
    assert "firing rate [Hz]" in str(made)
    assert report(neurons_data=lif, steps=20).step_seconds is None
    assert report(neurons_data=lif, seconds=0.08).step_seconds is None
    assert report(neurons_data=lif, steps=20, dt=0.001, seconds=0.04).step_seconds == 0.001


def test_scalars_of_samples_and_groups() -> None:
    scalars = full_report().scalars(figures="all")
    assert scalars["core/synops"] == 22.5
    assert scalars["core/synops_p99"] == scalars["core/synops_max"] == 30.0
    assert scalars["fc/synops_peak_step"] == 6.0
    assert scalars["total/synops_std"] == pytest.approx(10.0)
    assert scalars["total/synops_per_second"] == pytest.approx(1500.0)
    assert "idle/synops" not in scalars
    assert "image/synops_p99" not in scalars


def test_chosen_scalars_are_those_that_all_of_them_hold_under_these_names() -> None:
    made = full_report()
    every = made.scalars("val/", figures="all")
    chosen = {"synops", "synops_p99", "firing_rate"}
    few = made.scalars("val/", figures=tuple(chosen))
    assert few == {key: v for key, v in every.items() if key.rpartition("/")[2] in chosen}
    assert {key.rpartition("/")[2] for key in few} == chosen
    assert len(few) < len(every) / 3
    assert made.scalars(figures=[]) == {}
    assert made.scalars(figures=SCALARS) == made.scalars(figures="all")
    assert report().scalars(figures=["firing_rate"]) == {}  # without neurons


def test_by_default_the_main_figures_of_each_row_are_given() -> None:
    layers = [f"{row}/{figure}" for row in ("block.conv", "fc") for figure in MAIN_SCALARS[:4]]
    scalars = full_report().scalars()
    assert set(layers) <= set(scalars)
    assert [name for name in scalars if name.startswith("total/")] == [
        f"total/{figure}" for figure in MAIN_SCALARS
    ]
    assert [name for name in scalars if name.startswith("lif/")] == [
        "lif/firing_rate",
        "lif/silent_fraction",
    ]
    assert {name.rpartition("/")[2] for name in scalars} == set(MAIN_SCALARS)


def test_every_name_of_a_scalar_is_one_that_can_be_chosen_and_is_documented() -> None:
    every = full_report().scalars(figures="all")
    assert {key.rpartition("/")[2] for key in every} == set(SCALARS)
    documented = re.findall(r'``"(\w+)"``', Report.scalars.__doc__ or "")
    assert sorted(documented) == sorted(SCALARS)


@pytest.mark.parametrize(
    ("figures", "error", "message"),
    [
        (
            ("synops", "rate"),
            ValueError,
            r"figures: expected some of vectors, synops, .*\['rate'\]",
        ),
        ((3,), ValueError, r"figures: .*found \[3\]"),
        ("synops", TypeError, "figures: expected several names or 'all', found 'synops'"),
        (7, TypeError, "figures: expected several names or 'all', found 7"),
    ],
)
def test_scalars_that_there_are_not_are_refused(
    figures: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        full_report().scalars(figures=figures)


def test_a_layer_called_total_does_not_hide_the_total() -> None:
    scalars = report({"total": layer(), "fc": layer()}).scalars()
    assert (scalars["total_layer/acs"], scalars["total/acs"]) == (3.0, 6.0)


def test_no_two_figures_share_a_key() -> None:
    names = ("total", "total_layer", "total_layer_layer", "total_layers")
    made = report({name: layer() for name in names})
    scalars = made.scalars()
    alone = report({"fc": layer()}).scalars()
    rows = [key for key in alone if key.startswith("fc/")]
    assert len(scalars) == len(names) * len(rows) + len(alone) - len(rows)
    assert scalars["total/acs"] == 4 * scalars["total_layer/acs"]
    assert report({"total_layer": layer()}).scalars()["total_layer_layer/acs"] == 3.0


def test_a_report_cannot_be_changed() -> None:
    layers = {"fc": layer()}
    made: Any = report(layers)
    layers["other"] = layer()
    assert list(made.layers) == ["fc"]
    with pytest.raises(FrozenInstanceError):
        made.samples = 3
    for mapping in (made.layers, made.neurons, made.layers_data, made.layers_data["fc"].counts):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["x"] = None
    with pytest.raises(FrozenInstanceError):
        made.layers["fc"].synops = 0.0


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_are_equal_also_after_the_rows_were_read(copied: Any) -> None:
    made = full_report()
    text = str(made)  # reads every row
    again = copied(made)
    assert isinstance(again, Report)
    assert again == made
    assert str(again) == text
    comparison = made.compare(again)
    text = str(comparison)
    assert copied(comparison) == comparison
    assert str(copied(comparison)) == text


def test_reports_differ_if_anything_does() -> None:
    made = report({"fc": layer(synops_per_neuron=torch.tensor([1.0, 2.0]))})
    assert made == report({"fc": layer(synops_per_neuron=torch.tensor([1.0, 2.0]))})
    assert made != report({"fc": layer(synops_per_neuron=torch.tensor([1.0, 3.0]))})
    assert made != report({"fc": layer()})
    assert made != report({"fc": layer(synops_per_neuron=torch.tensor([1.0, 2.0]))}, samples=3)
    assert made != "report"
    assert made.layers["fc"] == made.layers["fc"]


def test_arguments_that_make_no_report_are_refused() -> None:
    with pytest.raises(ValueError, match="integer_as: expected 'acs' or 'macs', found 'ops'"):
        report(integer_as="ops")
    with pytest.raises(TypeError, match="other: expected a Report, found dict"):
        report().compare({})  # type: ignore[arg-type]


def test_counts_add_field_by_field() -> None:
    assert Counts(1, 2, 3, 2, 1.5) + Counts(1, 1, 1, 1, 1, dense_macs=4) == Counts(
        2, 3, 4, 3, 2.5, dense_macs=4
    )
