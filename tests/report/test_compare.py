"""Ratios of two reports, against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest

from snnmetrics.report import Change, Comparison
from tests.report.made import COUNTS, full_report, layer, neurons, report
from tests.report.test_tables import cells, rich_text


def pruned_pair() -> Comparison:
    """Half the weights gone, one layer and one layer of neurons gone, another come."""
    before = report({"fc": layer(), "old": layer("analog")}, neurons_data={"lif": neurons()})
    half = replace(COUNTS, effective_synops=3)
    after = report(
        {"fc": layer(counts=half), "new": layer()},
        neurons_data={"lif": neurons(spikes=15, events=15), "other": neurons()},
        samples=4,
    )
    return before.compare(after)


def test_ratios_are_other_over_self_per_sample() -> None:
    row = pruned_pair().layers["fc"]
    assert row.synops == Change(7.5, 3.75)
    assert row.synops.ratio == 0.5
    assert row.effective_synops.ratio == row.acs.ratio == 0.25
    assert row.macs == Change(0.0, 0.0)
    assert row.macs.ratio is not None
    assert math.isnan(row.macs.ratio)
    assert pruned_pair().neurons["lif"].firing_rate.ratio == pytest.approx(0.25, rel=1e-15)


def test_totals() -> None:
    total = pruned_pair().total
    assert total.synops == Change(7.5, 7.5)
    assert total.acs == Change(3.0, 2.25)
    assert total.macs == Change(3.0, 0.0)
    assert total.macs.ratio == 0.0
    assert total.effective_synops == Change(3.0, 2.25)  # of the layers that have synops
    assert total.firing_rate == Change(0.15, pytest.approx((0.0375 + 0.15) / 2, rel=1e-15))


def test_rows_that_only_one_has_are_shown_without_a_ratio() -> None:
    compared = pruned_pair()
    assert list(compared.layers) == ["fc", "old", "new"]
    assert compared.layers["old"].macs == Change(3.0, None)
    assert compared.layers["new"].acs == Change(None, 1.5)
    assert compared.layers["new"].acs.ratio is None
    assert compared.neurons["other"].firing_rate == Change(None, 0.15)
    text = str(compared)
    for note in ("old: only in the first", "new: only in the second", "other: only in the second"):
        assert note in text


def test_from_nothing_to_something_is_infinite() -> None:
    assert Change(0.0, 2.0).ratio == math.inf
    assert math.isnan(Change(math.nan, 2.0).ratio or 0)


def test_a_report_equals_itself() -> None:
    made = full_report()
    compared = made.compare(made)
    assert compared.layers["fc"].synops.ratio == 1.0
    assert compared.total.firing_rate.ratio == 1.0
    assert "only in" not in str(compared)


def test_firing_rates_are_compared_in_the_same_unit() -> None:
    hertz = report(neurons_data={"lif": neurons()}, dt=0.002)
    faster = report(neurons_data={"lif": neurons()}, dt=0.001)
    steps = report(neurons_data={"lif": neurons()})
    assert hertz.compare(faster).neurons["lif"].firing_rate.ratio == pytest.approx(2.0)
    assert "firing rate [Hz]" in str(hertz.compare(faster))
    mixed = hertz.compare(steps)
    assert mixed.neurons["lif"].firing_rate == Change(0.15, 0.15)
    assert "firing rate [1/step]" in str(mixed)
    assert "only one of the two has a dt" in str(mixed)


def test_a_comparison_is_printed_as_reports_are() -> None:
    compared = pruned_pair()
    row = ["fc", "7.5 -> 3.75", "0.5", "3 -> 0.75", "0.25", "3 -> 0.75", "0.25", "0 -> 0", "-"]
    assert row in cells(str(compared))
    assert row in cells(rich_text(compared))
    assert ["lif", "0.15 -> 0.0375", "0.25"] in cells(str(compared))
    total = "| total | 7.5 -\\> 7.5 | 1 | 3 -\\> 2.25 | 0.75 | 3 -\\> 2.25 | 0.75 | 3 -\\> 0 | 0 |"
    assert total in compared.to_markdown().splitlines()
    assert "7.5 -&gt; 3.75</td>" in compared._repr_html_()
    assert r"fc & 7.5 -\textgreater{} 3.75 & 0.5 &" in compared.to_latex()
    rules = report().compare(report(integer_as="macs"))
    assert "integer input counts as acs in the first, macs in the second" in str(rules)


def test_a_comparison_for_machines() -> None:
    fc, old, _ = csv.DictReader(io.StringIO(pruned_pair().to_csv()))
    assert (float(fc["acs_before"]), float(fc["acs_after"])) == (3.0, 0.75)
    assert float(fc["acs_ratio"]) == 0.25
    assert (old["macs_before"], old["macs_after"], old["macs_ratio"]) == ("3.0", "", "")
    frame = pruned_pair().to_pandas("neurons")
    assert frame.loc["lif", "firing_rate_ratio"] == pytest.approx(0.25)
