"""What a report under conventions is: sums, reasons, comparison, print and export."""

from __future__ import annotations

import copy
import csv
import io
import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import given

import snnmetrics as sm
from snnmetrics.conventions import (
    CONVENTIONS,
    ConventionTable,
    Figures,
    Layer,
    NotInReport,
    convention,
)
from snnmetrics.report import Counts, LayerData, Operation, Report
from tests.report.made import COUNTS, full_report, layer, report, reports

EVERY = (
    "neurobench",
    "spikingjelly",
    "sinabs",
    "syops",
    "rate-x-macs",
    "kernel",
    "keras-spiking",
    "norse",
)


def made() -> sm.Report:
    """Two samples of Linear(4, 3), of 8 inputs 3 not zero, two of 12 weights zero; no bias."""
    fc = Operation("linear", "Linear", (4,), (3,), (3, 4), synapses=12, parameters=12)
    counts = Counts(
        calls=1,
        vectors=2,
        elements=8,
        events=3,
        magnitude=3,
        synops=9,
        event_synops=9,
        effective_synops=7,
        effective_magnitude=7,
        dense_synops=24,
        dense_macs=24,
        output_elements=6,
    )
    ternary = LayerData(fc, {"ternary": counts})
    return report({"one": LayerData(fc, {"binary": counts}), "two": ternary}, model="Net")


def test_every_convention_says_what_it_is() -> None:
    assert tuple(CONVENTIONS) == EVERY
    for found in CONVENTIONS.values():
        assert found.definition.endswith(".")
        assert found.formula
        known = ("2022", "2023", "2026", "2.0.0", "2.3.0", "3.1.3", "0.3.0")
        assert any(year in found.source for year in known)
        assert set(found.synops) <= set(found.figures)
        assert found.synops
        assert found.exact in ("synops", "event_synops", "effective_synops")
        assert found.figures


@pytest.mark.parametrize(
    ("name", "printed", "operations", "exact"),
    [
        ("neurobench", {"Effective_MACs": 0, "Effective_ACs": 3.5, "Dense": 12}, 3.5, 3.5),
        ("spikingjelly", {"SynOps": 9, "MACs": 0}, 4.5, 4.5),
        ("sinabs", {"synops_per_timestep": 4.5}, 4.5, 4.5),
        ("syops", {"ACs": 4.5, "MACs": 0}, 4.5, 4.5),
        ("rate-x-macs", {"ACs": 4.5, "MACs": 0}, 4.5, 4.5),
        ("kernel", {"synops": 4.5}, 4.5, 4.5),
        ("keras-spiking", {"synops": 4.5}, 4.5, 4.5),
        ("norse", {"synops": 9}, 4.5, 4.5),
    ],
)
def test_units_and_what_it_is_compared_with(
    name: str, printed: dict[str, float], operations: float, exact: float
) -> None:
    row = made().under(name).layers["one"]
    assert dict(row.printed) == printed
    assert (row.operations, row.exact, row.difference) == (operations, exact, 0)
    assert (row.synops, row.report_operations) == (operations, 3.5)
    assert row.difference_from_report == pytest.approx(100 * (operations / 3.5 - 1))


def test_totals_are_sums_and_missing_where_a_layer_is() -> None:
    total = made().under("spikingjelly").total
    assert dict(total.printed) == {"SynOps": 9, "MACs": 24}
    assert (total.acs, total.macs, total.operations, total.exact) == (4.5, 12, 16.5, 9)
    assert total.difference == pytest.approx(100 * 7.5 / 9)
    total = made().under("sinabs").total
    assert (dict(total.printed), total.operations) == ({"synops_per_timestep": None}, None)
    assert (total.exact, total.difference) == (9, None)
    assert total.reason == "no figure of two"


def test_a_subtotal_is_compared_with_counts_of_the_same_layers() -> None:
    """Without the ternary layer, whose exact counts are not in the subtotal's."""
    one = made().under("sinabs")
    subtotal = one.subtotal
    assert (one.missing, subtotal.name, subtotal.note) == (("two",), "subtotal", "without two")
    assert (subtotal.operations, subtotal.synops) == (4.5, 4.5)
    assert (subtotal.exact, subtotal.difference) == (4.5, 0)
    assert subtotal.report_operations == 3.5
    assert subtotal.difference_from_report == pytest.approx(100 * (4.5 / 3.5 - 1))
    assert (one.total.report_operations, one.total.difference_from_report) == (7, None)
    text = " ".join(str(one).split())
    assert "subtotal 4.5 4.5 4.5 0 % 3.5 +28.57 %" in text
    assert "subtotal: without two (no figures)" in text
    whole = made().under("spikingjelly")
    assert whole.missing == ()
    assert whole.subtotal == replace(whole.total, name="subtotal")
    assert "subtotal" not in str(whole)


def test_without_any_figure_there_is_no_subtotal() -> None:
    fc = made().layers_data["two"]
    one = report({"fc": fc}).under("sinabs")
    assert (one.subtotal.operations, one.subtotal.exact) == (None, None)
    assert one.subtotal.reason == one.total.reason == "no figure of fc"
    assert "subtotal" not in str(one)


def test_the_table_shows_subtotals_as_such_and_two_differences() -> None:
    """The same row differs from the count that is meant, and from ACs + MACs, by other amounts."""
    text = str(made().conventions())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    heads = "convention ACs MACs operations means to count as the report counts difference"
    assert f"{heads} vs ACs + MACs" in lines
    assert "sinabs, subtotal - - 4.5 synops 4.5 0 % +28.57 %" in lines
    assert "kernel - - 9 event synops 9 0 % +28.57 %" in lines
    assert "total 7 16.5 >= 4.5 16.5 9 9 9 >= 4.5" in lines
    assert "exact" not in text
    table = made().conventions()
    assert table.subtotal["sinabs"] == made().under("sinabs").subtotal
    frame = table.to_pandas("conventions")
    assert frame.loc["sinabs", "subtotal_operations"] == 4.5
    assert frame.loc["kernel", "difference_from_report"] == pytest.approx(100 * 2 / 7)


def test_sums_have_definition_formula_and_source_beside_them() -> None:
    for name in EVERY:
        one = made().under(name)
        frame = one.to_pandas("sums")
        assert list(frame.index) == ["total", "subtotal"]
        for about in ("definition", "formula", "source", "unit"):
            assert set(frame[about]) == {getattr(one.convention, about)}
        assert frame.loc["subtotal", "operations_per_sample"] == one.subtotal.operations


def test_totals_are_divided_once() -> None:
    """A tenth three times over is three tenths, to the last bit."""
    fc = Operation("linear", "Linear", (1,), (1,), (1, 1), synapses=1)
    counts = Counts(1, 10, 10, 1, 1, 1, 1, 1, 1, 10, 10, 10)
    layers = {name: LayerData(fc, {"binary": counts}) for name in "abc"}
    found = report(layers, samples=10)
    assert 1 / 10 + 1 / 10 + 1 / 10 != 3 / 10
    for name in EVERY:
        assert found.under(name).total.operations == 3 / 10
        assert found.under(name).total.difference == 0


def test_frames_differ_from_layer_to_layer() -> None:
    """Sinabs adds up what it prints: 9 in 2 vectors and 9 in 18."""
    one = made().layers_data["one"]
    slow = LayerData(one.operation, {"binary": Counts(1, 18, 72, 3, 3, 9, 9, 7, 7, 216, 216, 54)})
    total = report({"one": one, "slow": slow}).under("sinabs").total
    assert total.printed == {"synops_per_timestep": 4.5 + 0.5}
    assert total.operations == total.exact == 9


def test_differences() -> None:
    analog = made().under("rate-x-macs").layers["two"]
    assert analog.difference == 0
    silent = Counts(1, 2, 8, 0, 0, 0, 0, 0, 0, 24, 24, 6)
    fc = made().layers_data["one"].operation
    found = report({"fc": LayerData(fc, {"analog": silent})})
    assert found.under("spikingjelly").total.difference == math.inf
    assert found.under("neurobench").total.difference == 0
    assert found.under("sinabs").total.exact is None


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"'neurobench', .*, found 'nemo'"):
        made().under("nemo")


def test_a_page_has_the_definition_the_source_and_every_reason() -> None:
    text = " ".join(str(made().under("sinabs")).split())
    found = CONVENTIONS["sinabs"]
    for part in ("Net as sinabs counts", found.unit, found.definition, found.formula, found.source):
        assert part in text
    assert "two: sinabs sums signed values" in text
    assert "vs synops: difference from the synops of the report, which the convention" in text
    assert "vs ACs + MACs: difference from the ACs + MACs of the report" in text


def test_the_table_has_all_conventions_beside_the_exact_figures() -> None:
    found = made()
    table = found.conventions()
    text = str(table)
    assert all(name in text for name in EVERY)
    assert "+83.33 %" in text  # spikingjelly
    assert "sinabs: two: sinabs sums signed values" in " ".join(text.split())
    assert dict(table.total) == {name: found.under(name).total for name in EVERY}
    assert table.layers["one"]["syops"] == found.under("syops").layers["one"]
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("convention_name", EVERY)
def test_exports(convention_name: str) -> None:
    one = made().under(convention_name)
    (first, _) = csv.DictReader(io.StringIO(one.to_csv()))
    assert first["name"] == "one"
    assert float(first["operations_per_sample"]) == one.layers["one"].operations
    for figure, value in one.layers["one"].printed.items():
        assert float(first[figure]) == value
    frame = one.to_pandas()
    assert list(frame.index) == ["one", "two"]
    for text in (one.to_markdown(), one.to_latex(), one._repr_html_()):
        assert "two" in text


def test_exports_of_the_table() -> None:
    table = made().conventions()
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(lines[1]["spikingjelly_macs"]) == 12
    assert lines[1]["sinabs_operations"] == ""
    frame = table.to_pandas("conventions")
    assert list(frame.index) == list(EVERY)
    assert frame.loc["spikingjelly", "operations"] == 16.5
    assert frame.loc["neurobench", "exact_count"] == "effective_synops"
    assert table.to_markdown().count("| total") == 3


def test_pickles_copies_and_equality() -> None:
    for found in (made().under("syops"), made().conventions()):
        assert found == pickle.loads(pickle.dumps(found)) == copy.deepcopy(found)
    assert made().under("syops") != made().under("kernel")


def test_a_saved_report_says_the_same() -> None:
    found = made()
    assert Report.from_json(found.to_json()).conventions() == ConventionTable(found)


def test_a_report_without_layers() -> None:
    table = report({}).conventions()
    assert {row.operations for row in table.total.values()} == {0}
    nothing = report({}, samples=0).conventions()
    assert all(math.isnan(row.operations or 0) for row in nothing.total.values())
    assert str(table)
    assert str(nothing)


def test_layers_without_calls_are_left_out() -> None:
    found = report({"never": layer(counts=Counts()), "fc": layer()})
    assert list(found.under("neurobench").layers) == ["fc"]


@given(reports)
def test_any_report_has_figures_or_reasons(found: Report) -> None:
    """Whatever it holds, also what no run can make: a figure or a reason, and a page."""
    table = found.conventions()
    for rows in table.layers.values():
        for row in rows.values():
            assert (row.operations is None) == bool(row.reason)
    assert str(table)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d", "linear", "rnn_cell", "qk"])
@pytest.mark.parametrize("module", ["Conv2d", "ConvTranspose2d", "Linear"])
@pytest.mark.parametrize("shapes", [{}, {"weight_shape": (3, 2, 1, 1), "stride": (0, 1)}])
@pytest.mark.parametrize("kind", ["binary", "integer*analog"])
def test_reports_that_nobody_measured(
    name: str, module: str, shapes: dict[str, tuple[int, ...]], kind: str
) -> None:
    """From JSON that anyone may have written."""
    operation = Operation(name, module, (4,), (3,), **({"weight_shape": None} | shapes))
    table = report({"fc": LayerData(operation, {kind: COUNTS})}).conventions()
    for row in table.layers["fc"].values():
        assert (row.operations is None) == bool(row.reason)


def test_a_report_with_everything() -> None:
    for name in EVERY:
        assert str(full_report().under(name))


def test_a_convention_of_ones_own() -> None:
    """One function, registered with what it counts, how, and who says so."""

    @convention(
        "events",
        figures=("events",),
        unit="events in total",
        exact="event_synops",
        definition="Inputs that are not zero.",
        formula="events.",
        source="nobody, never.",
    )
    def events(layer: Layer) -> Figures:
        if layer.name == "two":
            raise NotInReport("two is too many")
        return Figures({"events": layer.total.events}, 1, layer.total.events)

    try:
        one = made().under("events")
        assert one.layers["one"].printed == {"events": 3}
        assert one.layers["two"].reason == "two is too many"
        assert one.convention.definition == "Inputs that are not zero."
        assert one.convention.formula == "events."
        assert one.convention.source == "nobody, never."
        assert "events" in made().conventions().total
    finally:
        del CONVENTIONS["events"]


def test_the_synops_of_a_convention_are_among_its_figures() -> None:
    said = {"unit": "events", "definition": "All.", "formula": "n.", "source": "nobody, never."}
    with pytest.raises(ValueError, match="synops: expected some of 'n', found 'm'"):
        convention("events", figures=("n",), exact="synops", synops=("m",), **said)


@pytest.mark.parametrize("left_out", ["definition", "formula", "source"])
def test_a_convention_says_what_it_is(left_out: str) -> None:
    """As arguments, which Python keeps with ``-OO`` as well, and not without one of them."""
    said = {"definition": "All.", "formula": "n.", "source": "nobody, never."}
    del said[left_out]
    with pytest.raises(TypeError, match=left_out):
        convention("events", figures=("n",), unit="events", exact="synops", **said)  # type: ignore[call-arg]


def test_zero_weights_make_the_difference_between_exact_counts() -> None:
    found = made()
    assert COUNTS.effective_synops < COUNTS.event_synops
    assert found.under("neurobench").total.exact == 7
    assert found.under("kernel").total.exact == 9
