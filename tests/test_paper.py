"""A table for a paper: figures that can be checked on paper, written alike, and nothing unsaid."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import snnmetrics as sm
from snnmetrics.energy import Measurement, PerByte, ann_baseline
from snnmetrics.paper.columns import DEFAULT, FIGURES, PREFIXED, cells, unit_of
from snnmetrics.paper.notes import shared
from snnmetrics.report import Report, Uncounted
from snnmetrics.text import si
from tests.energy.made import close, layer, neurons, report
from tests.helpers.latex import compiled, needs_latex
from tests.report.made import full_report, reports
from tests.report.made import layer as small_layer

PROFILE = "horowitz-45nm-fp32"
NASTY = "a|b_c&d<e>%f{$#~^\\*`["
DOCUMENT = Path(__file__).parent.parent / "docs" / "howto" / "paper_table.md"


def ours(**changes: Any) -> Report:
    """An image, then spikes; a tenth of the weights behind the spikes are zero."""
    layers = {"image": layer("analog", 2_500_000), "conv": spiking(900_000_000, 1_000_000_000)}
    facts = {"neurons_data": {"lif": neurons(8000, 1000)}, "parameters": 11_200_000}
    return report(layers, **(facts | changes))


def other(**changes: Any) -> Report:
    return report({"fc": spiking(2_000_000_000, 2_000_000_000)}, **({"parameters": 900} | changes))


def spiking(effective: int, synops: int) -> Any:
    return layer("binary", effective, synops=synops)


def notes(table: sm.PaperTable) -> list[str]:
    """Footnotes, one each, as Markdown has them but without its escapes."""
    lines = re.sub(r"\\(.)", r"\1", table.to_markdown()).splitlines()
    return [line[2:] for line in lines if line.startswith("- ")]


def lines(table: sm.PaperTable) -> list[list[str]]:
    """Titles and rows of the plain text, cut where two or more spaces stand."""
    shown = [re.split(r" {2,}", line.strip()) for line in str(table).split("\n\n")[1].splitlines()]
    return [shown[0], *shown[2:]]


# ---------------------------------------------------------------------------------- the figures


def test_figures_are_those_of_the_reports_in_base_units() -> None:
    table = sm.paper_table({"ours": ours(), "other": other()}, {"ours": 0.917})
    row = table.rows["ours"]
    assert (row.name, row.steps, row.parameters) == ("ours", 4, 11_200_000)
    assert (row.acs, row.macs, row.synops) == (9e8, 2.5e6, 1e9)
    assert row.energy == close(9e8 * 0.9e-12 + 2.5e6 * 4.6e-12)
    assert (row.firing_rate, row.accuracy) == (0.0, 0.917)
    unmeasured = {"energy_with_memory", "measured_energy", "dynamic_energy"}
    assert set(row.reasons) == unmeasured
    missing = table.rows["other"]
    assert (missing.firing_rate, missing.accuracy) == (None, None)
    assert set(missing.reasons) == {"firing_rate", "accuracy", *unmeasured}


def test_one_unit_and_as_many_decimals_in_a_column() -> None:
    table = sm.paper_table({"ours": ours(), "other": other()}, {"ours": 0.917})
    assert lines(table) == [
        [
            "method",
            "T [steps]",
            "params [M]",
            "ACs [G]",
            "MACs [M]",
            "SynOps [G]",
            "firing rate [1/step]",
            "energy [mJ]",
            "accuracy [%]",
        ],
        ["ours", "4", "11.2", "0.900", "2.50", "1.00", "0", "0.821", "91.70"],
        ["other", "4", "9.00e-04", "2.000", "0", "2.00", "-", "1.800", "-"],
    ]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([999.0, 5.0], ""),
        ([999.6, 5.0], "k"),  # and not 1000
        ([1e6], "M"),
        ([None, 2.5e9, math.inf, 1.0], "G"),
        ([0.0, None], ""),
        ([], ""),
        ([1e30], "E"),
        ([0.25], ""),
    ],
)
def test_the_unit_suits_the_largest(values: list[float | None], unit: str) -> None:
    assert unit_of(values, PREFIXED)[1] == unit


@pytest.mark.parametrize(
    ("joules", "title", "cell"),
    [
        (2.0, "energy [J]", "2"),
        (0.0, "energy [J]", "0"),
        (0.99996e-3, "energy [mJ]", "1.000"),
        (1.5e-6, "energy [µJ]", "1.50"),
        (3e-14, "energy [pJ]", "0.0300"),
    ],
)
def test_energies(joules: float, title: str, cell: str) -> None:
    assert FIGURES["energy"].written([joules]) == (title, [cell])


def test_numbers_are_written_alike() -> None:
    assert cells([4, 10.0, None], None, whole=True) == ["4", "10", "-"]
    assert cells([4, 12.5], None, whole=True) == ["4.00", "12.50"]
    assert cells([512.3, 480.0], None, whole=False) == ["512", "480"]
    assert cells([math.inf, 1e9], None, whole=False) == ["inf", "1.00e+09"]
    assert cells([91.7, 8.125], 2, whole=False) == ["91.70", "8.12"]
    assert cells([91.7, 0.001, 0.014], 2, whole=False) == ["91.70", "1.00e-03", "1.40e-02"]


def test_zeros_alone_have_a_unit() -> None:
    assert FIGURES["accuracy"].written([0.0, None]) == ("accuracy [%]", ["0", "-"])
    assert FIGURES["energy"].written([0.0]) == ("energy [J]", ["0"])
    assert FIGURES["acs"].written([0.0]) == ("ACs", ["0"])


@given(st.lists(st.just(0.0) | st.floats(1e-200, 1e25), min_size=1), st.sampled_from([*FIGURES]))
def test_what_is_written_is_the_value(values: list[float], column: str) -> None:
    title, written = FIGURES[column].written(values)
    unit = (re.findall(r"\[(.*)\]", title) or [""])[0]
    size = {name: size for size, name in FIGURES[column].units}[unit]
    for value, cell in zip(values, written, strict=True):
        assert float(cell) * size == pytest.approx(value, rel=0.05, abs=0)
        assert len(cell) <= 11


@given(reports, st.sampled_from([PROFILE, "loihi", "gpu-titan-black", "truenorth"]))
def test_energy_is_the_estimate_of_the_report(made: Report, profile: str) -> None:
    row = sm.paper_table({"x": made}, profile=profile).rows["x"]
    estimate = sm.estimate_energy(made, profile)
    if row.energy is None:
        priced = [one.priced for one in (*estimate.layers.values(), *estimate.neurons.values())]
        nothing = not made.samples or math.isnan(estimate.total.energy)
        assert nothing or (estimate.left_out and not any(priced))
    else:
        assert made.samples
        assert row.energy == estimate.total.energy


def test_energy_of_what_has_no_price_is_a_dash_and_no_zero() -> None:
    table = sm.paper_table({"ann": report({"fc": layer("analog", 5)})}, profile="truenorth")
    assert table.rows["ann"].energy is None
    assert "no energy: no counted operation has a price in profile 'truenorth'" in notes(table)


def test_columns_are_chosen_and_ordered() -> None:
    table = sm.paper_table({"ours": ours()}, {"ours": 1.0}, columns=["accuracy", "steps", "acs"])
    assert lines(table) == [
        ["method", "accuracy [%]", "T [steps]", "ACs [M]"],
        ["ours", "100.00", "4", "900"],
    ]
    assert not any(note.startswith(("energy", "params", "firing")) for note in notes(table))
    every = sm.paper_table({"ours": ours()})
    assert every.columns == tuple(name for name in DEFAULT if name != "accuracy")
    assert sm.paper_table({"ours": ours()}, {"ours": 1.0}).columns == DEFAULT


def test_firing_rates_are_in_hertz_where_all_know_how_long_a_step_lasts() -> None:
    known = full_report()  # 60 spikes of 400 outputs, steps of 1 ms
    assert sm.paper_table({"a": known, "no neurons": other()}).rows["a"].firing_rate == close(150)
    table = sm.paper_table({"a": known}, columns=["firing_rate"])
    assert lines(table) == [["method", "firing rate [Hz]"], ["a", "150"]]
    assert "firing rate: spikes per neuron and second, mean over all spiking neurons" in notes(
        table
    )
    assert "firing_rate [Hz]" in table.to_csv()
    mixed = sm.paper_table({"a": known, "b": ours()}, columns=["firing_rate"])
    assert mixed.rows["a"].firing_rate == 0.15
    assert "firing rate [1/step]" in lines(mixed)[0]
    assert "firing rates are per step: the step length of b is not known" in notes(mixed)


def test_without_samples_there_are_dashes() -> None:
    table = sm.paper_table({"empty": ours(samples=0, steps=None)})
    shown = lines(table)[1]
    assert shown[:5] == ["empty", "-", "11.2", "-", "-"]
    assert "no T: not known for this run" in notes(table)
    assert "no ACs, MACs, SynOps, energy: no samples" in notes(table)


def test_accuracies_may_be_tensors() -> None:
    given_ = {"a": torch.tensor(0.5), "b": 1}
    table = sm.paper_table({"a": ours(), "b": other()}, given_)  # type: ignore[arg-type]
    assert dict(table.accuracy) == {"a": 0.5, "b": 1.0}


# ------------------------------------------------------------------------------------ footnotes


def test_footnotes_say_what_the_numbers_stand_on() -> None:
    found = notes(sm.paper_table({"a": ours(samples=10), "b": other(samples=10)}, {"a": 0.5}))
    for start in (
        "figures are per sample, over 10 samples",
        "exact count, also at padding edges; ",
        "out of scope: element-wise arithmetic",
        "params: all elements",
        "firing rate: spikes per neuron and time step",
        f"energy: profile {PROFILE}, an estimate from counts per sample, not a measurement",
        "energy: 0.9 pJ per AC: Horowitz, ",
        "energy: 4.6 pJ per MAC: Horowitz, ",
        "not in the energy: memory accesses, addressing and routing, leakage",
        "accuracy: given by the user",
        "b: no accuracy: not given",
        "b: no firing rate: no spiking neurons were found",
    ):
        assert len([note for note in found if note.startswith(start)]) == 1, start
    assert not any("integer" in note or "product of" in note for note in found)


@pytest.mark.parametrize(
    ("rule", "said"), [("acs", "a value of n is n ACs"), ("macs", "one MAC per event")]
)
def test_how_integer_input_counts(rule: str, said: str) -> None:
    made = report({"fc": small_layer("integer")}, integer_as=rule)
    for columns in (None, ["energy"]):
        (note,) = [n for n in notes(sm.paper_table({"a": made}, columns=columns)) if "integer" in n]
        assert note.startswith(f"integer input: {said}")
    both = {"a": made, "b": other()}
    assert any(note.startswith("a: integer input: ") for note in notes(sm.paper_table(both)))


def test_what_was_not_counted_is_said_of_each_method() -> None:
    lost = Uncounted("rnn", "bilinear", "several layers in one kernel", 7)
    text = "not counted, so in no figure: rnn: bilinear (7 calls): several layers in one kernel"
    first = ours(uncounted=(lost,))
    assert f"a: {text}" in notes(sm.paper_table({"a": first, "b": other()}))
    assert text in notes(sm.paper_table({"a": first, "b": other(uncounted=(lost,))}))
    assert sum("bilinear" in note for note in notes(sm.paper_table({"a": first}))) == 1


def test_what_is_special_of_a_run_is_said() -> None:
    found = notes(sm.paper_table({"a": full_report(), "b": other()}))
    for note in (
        "a: block.conv: input declared: 0.25 x a spike count; dropout was active",
        "a: image: declared kind of input: analog",
        "a: bn1 is folded into conv",
    ):
        assert note in found
    layers = {name: small_layer(notes=("dropout was active",)) for name in ("one", "two")}
    assert "one, two: dropout was active" in notes(sm.paper_table({"a": report(layers)}))


def test_where_methods_differ_is_said() -> None:
    found = notes(sm.paper_table({"a": ours(dt=0.001), "b": ours(steps=10, samples=3)}))
    assert "figures are per sample, over 1 sample (a), 3 samples (b)" in found
    assert "time steps per sample differ: 4 (a), 10 (b)" in found
    assert "seconds per time step differ: 0.001 (a), not known (b)" in found
    alike = notes(sm.paper_table({"a": ours(dt=0.001), "b": other(dt=0.001)}))
    assert "seconds per time step: 0.001" in alike
    assert not any("differ" in note for note in alike)


def test_names_with_commas_are_quoted_in_footnotes() -> None:
    made = {"T=4, folded": ["spikes"], "T=4": ["spikes"], "fc": []}
    assert [*shared(made)] == ["'T=4, folded', 'T=4': spikes"]


def test_an_energy_without_a_price_for_all_is_called_a_lower_bound() -> None:
    found = notes(sm.paper_table({"a": ours(), "b": other()}, profile="loihi"))
    (note,) = [note for note in found if "lower bound" in note]
    assert note.startswith("a: energy: a lower bound; left out: image: 2.5 M MACs, ")


# ----------------------------------------------------------------------------------- conventions


def test_one_table_compares_the_exact_count_with_several_conventions() -> None:
    made = ours()
    names = ("spikingjelly", "neurobench")
    rows = {name: made.under(name) for name in names}
    table = sm.paper_table({"exact": made, **rows}, {"exact": 0.5})
    for name in names:
        alone = sm.paper_table({name: made}, convention=name)
        row, lone = table.rows[name], alone.rows[name]
        assert (row.acs, row.macs, row.synops) == (lone.acs, lone.macs, lone.synops)
        assert (row.energy, row.firing_rate) == (lone.energy, lone.firing_rate)
        assert (row.steps, row.parameters) == (made.steps, made.parameters)
    assert table.rows["spikingjelly"].acs != table.rows["exact"].acs  # zero weights are counted
    assert table.rows["exact"].acs == made.total.acs
    found = notes(table)
    assert any(note.startswith("exact: exact count, also at padding edges") for note in found)
    for name in names:
        assert any(note.startswith(f"{name}: source: ") for note in found)
        head = f"{name}: ACs, MACs, SynOps: counted as in {name}, per sample; not the exact count"
        assert head in found
    assert not any("no spiking neurons" in note for note in found)
    memory = sm.paper_table({"a": made, "b": made.under("kernel")}, memory=PerByte(1e-12))
    assert memory.rows["b"].reasons["energy_with_memory"] == "kernel does not define memory traffic"


def test_operations_and_energy_follow_a_convention() -> None:
    made = ours()
    table = sm.paper_table({"ours": made}, convention="spikingjelly")
    total = made.under("spikingjelly").total
    row = table.rows["ours"]
    # Zero weights are in; synops are what SpikingJelly calls so, without its MACs.
    assert (row.acs, row.macs, row.synops) == (total.acs, total.macs, total.acs)
    acs, macs = total.acs or 0, total.macs or 0
    assert row.energy == pytest.approx(acs * 0.9e-12 + macs * 4.6e-12, rel=1e-15)
    assert row.energy != sm.estimate_energy(made, PROFILE).total.energy
    found = notes(table)
    assert "SynOps: SynOps of spikingjelly" in found
    assert "ACs, MACs, SynOps: counted as in spikingjelly, per sample; not the exact count" in found
    (note,) = [note for note in found if note.startswith("energy: of operations")]
    assert "counted as in spikingjelly, not of the exact count" in note
    assert any("SpikingJelly 2.0.0" in note for note in found)
    assert not any(note.startswith("exact count") for note in found)


def test_what_a_convention_has_no_figure_for_is_a_dash_with_the_reason() -> None:
    table = sm.paper_table({"a": ours()}, convention="kernel", columns=["acs", "macs", "synops"])
    assert lines(table)[1][:3] == ["a", "-", "-"]
    assert table.rows["a"].synops == ours().under("kernel").total.operations
    assert "no ACs, MACs: kernel does not distinguish ACs and MACs" in notes(table)

    neurobench = sm.paper_table({"a": ours()}, convention="neurobench")
    assert neurobench.rows["a"].acs == 9e8
    assert neurobench.rows["a"].synops == ours().under("neurobench").total.operations
    assert "SynOps: Effective_MACs + Effective_ACs of neurobench" in notes(neurobench)

    unknown = sm.paper_table({"a": full_report(), "b": other()}, convention="keras-spiking")
    assert unknown.rows["a"].synops is None
    found = notes(unknown)
    assert any(note.startswith("a: image: its input is not spikes") for note in found)
    (dash,) = [note for note in found if note.startswith("a: no ACs, MACs, SynOps, energy: ")]
    subtotal = full_report().under("keras-spiking").subtotal.operations
    assert subtotal is not None
    assert re.search("no figure of .*image.* under keras-spiking; subtotal of the others: ", dash)
    assert dash.endswith(f"{si(subtotal)} operations")
    assert (unknown.rows["a"].energy, unknown.rows["b"].energy) == (None, None)
    assert "a" not in unknown.estimates


def test_energy_with_memory_has_a_column_and_its_own_notes() -> None:
    made, price = {"SNN": ours(), "ANN": ann_baseline(other())}, PerByte(2e-12)
    table = sm.paper_table(made, memory=price)
    for name, one in made.items():
        alone = sm.estimate_energy(one, PROFILE).total.energy
        moved = sm.energy.memory_traffic(one).total.total
        assert moved is not None
        assert table.rows[name].energy == close(alone)
        assert table.rows[name].energy_with_memory == close(alone + 2e-12 * moved)
    found = [note for note in notes(table) if note.startswith("energy with memory: ")]
    assert any("2 pJ per byte" in note for note in found)
    (missing,) = [note for note in found if "not in the energy" in note]
    assert "memory accesses" not in missing
    assert not any("per AC" in note for note in found)  # that was said of the energy
    assert "energy_with_memory" not in sm.paper_table(made).columns
    under = sm.paper_table({"SNN": ours()}, memory=price, convention="spikingjelly")
    assert under.rows["SNN"].energy_with_memory is None
    assert any("spikingjelly does not define memory traffic" in note for note in notes(under))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"memory": 2e-12}, TypeError, "memory: expected a PerByte or MemoryLevels, found float"),
        ({"columns": ["energy_with_memory"]}, ValueError, "memory: expected a price per byte"),
        ({"memory": PerByte(1e-12), "profile": "loihi"}, ValueError, "memory: expected None"),
    ],
)
def test_memory_that_cannot_be_priced(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sm.paper_table({"a": ours()}, **arguments)


def test_energy_that_a_convention_does_not_tell_is_a_dash_with_the_reason() -> None:
    made = {"a": ours(), "ANN": ann_baseline(other())}
    table = sm.paper_table(made, convention="kernel")
    assert table.rows["a"].energy is None
    expected = "prices ACs and MACs, which kernel does not distinguish"
    assert any(note.endswith(expected) for note in notes(table))
    # A baseline is priced as ever, and said to be of no convention.
    ann = sm.estimate_energy(made["ANN"], PROFILE).total.energy
    assert table.rows["ANN"].energy == ann
    assert any(note.endswith("exact count, no convention applied") for note in notes(table))
    # All its operations are synaptic ones to a profile that prices those.
    priced = sm.paper_table({"a": ours()}, convention="kernel", profile="truenorth").rows["a"]
    assert priced.energy == sm.estimate_energy(ours().under("kernel"), "truenorth").total.energy
    dense = sm.paper_table({"a": ours()}, convention="kernel", profile="cpu-i7-4960x")
    assert dense.rows["a"].energy is None
    assert any("prices every synapse in every time step" in note for note in notes(dense))


# ------------------------------------------------------------------------------------- measurements

# Made up by this test.
ON_CHIP = Measurement(
    seconds=[2.0, 2.0, 2.0],
    active_power=[1.5, 1.6, 1.4],
    idle_power=1.0,
    samples=100,
    setup="a board, a meter",
)
ONCE = Measurement(seconds=1.0, active_power=3.0, samples=10)
NOISY = Measurement(seconds=1.0, active_power=[1.0, 1.1], idle_power=[1.0, 1.2], samples=10)


def test_measured_energy_stands_beside_the_estimate() -> None:
    methods = {"a": ours(), "b": other(), "ANN": ann_baseline(other())}
    table = sm.paper_table(methods, measured={"a": ON_CHIP, "b": ONCE}, columns=None)
    assert table.columns[-3:] == ("energy", "measured_energy", "dynamic_energy")
    shown = lines(table)
    assert shown[0][-2:] == ["measured energy [mJ]", "dynamic energy [mJ]"]
    error = 2 * 0.1 / math.sqrt(3) / 100 * 1e3  # of 1.4, 1.5 and 1.6 W over 2 s, in mJ per sample
    assert [row[-2:] for row in shown[1:]] == [
        [f"30.00 ± {error:.2f}", f"10.00 ± {error:.2f}"],
        ["300.00", "-"],
        ["-", "-"],
    ]
    row = table.rows["a"]
    assert (row.measured_energy, row.dynamic_energy) == (close(0.03), close(0.01))
    assert row.measured_energy_error == row.dynamic_energy_error == close(error / 1e3)
    assert (table.rows["b"].measured_energy, table.rows["b"].dynamic_energy) == (close(0.3), None)
    assert table.rows["ANN"].reasons["measured_energy"] == "no measurement was given"


def test_footnotes_say_what_was_measured() -> None:
    table = sm.paper_table(
        {"a": ours(), "b": other(), "c": other()}, measured={"a": ON_CHIP, "b": ONCE}
    )
    found = notes(table)
    times = 0.03 / table.rows["a"].energy  # type: ignore[operator]  # it is known
    for note in (
        "measured energy: active power x seconds / samples; dynamic energy: (active - idle power) "
        "x seconds / samples, as in NeuroBench's system track (ASC.md); given by the user, not "
        "measured by snnmetrics",
        "a: measured: active power 1.500 ± 0.058 W, idle power 1 W (one number); 3 runs of 2 ± 0 s "
        "for 100 samples; a board, a meter",
        f"a: measured energy is {times:.3g} times the estimate, which is based only on "
        "operations, not on this device",
        "b: measured: active power 3 W, idle power not measured; 1 run of 1 s for 10 samples",
        "b: measured in a single run, so without a standard error",
        "b: no dynamic energy: idle power was not measured",
        "c: no measured energy, dynamic energy: no measurement was given",
    ):
        assert note in found
    assert sum(note.startswith("±: standard error of the mean") for note in found) == 1
    assert any("an estimate from counts per sample, not a measurement" in note for note in found)
    alone = sm.paper_table({"b": other()}, measured={"b": ONCE}, columns=["measured_energy"])
    assert not any(note.startswith("±") or "times the estimate" in note for note in notes(alone))
    without = sm.paper_table({"a": ours()}, measured={"a": ON_CHIP}, columns=["acs"])
    assert not any("measured" in note for note in notes(without))


def test_a_dynamic_energy_below_zero_is_shown() -> None:
    table = sm.paper_table({"a": ours()}, measured={"a": NOISY}, columns=["dynamic_energy"])
    # Of -10 and 0 mJ the error is 5 mJ, that of the idle power 10 mJ: together 11.18.
    assert lines(table)[1] == ["a", "-5.00 ± 11.18"]
    assert table.rows["a"].dynamic_energy == close(-0.005)
    said = "dynamic energy is not positive: the active power is not above the idle power"
    assert said in notes(table)


def test_exports_have_errors_in_columns_of_their_own() -> None:
    columns = ["energy", "measured_energy", "dynamic_energy"]
    methods = {"a": ours(), "b": other()}
    table = sm.paper_table(methods, measured={"a": ON_CHIP}, columns=columns)
    frame = table.to_pandas()
    assert list(frame.columns) == [
        "energy [J/sample]",
        "measured_energy [J/sample]",
        "measured_energy_error [J/sample]",
        "dynamic_energy [J/sample]",
        "dynamic_energy_error [J/sample]",
    ]
    assert frame.loc["a", "measured_energy_error [J/sample]"] == ON_CHIP.energy_error
    assert frame.loc["a", "dynamic_energy [J/sample]"] == ON_CHIP.dynamic_energy
    assert pd.isna(frame.loc["b", "measured_energy [J/sample]"])
    one, two = csv.DictReader(io.StringIO(table.to_csv()))
    assert float(one["dynamic_energy_error [J/sample]"]) == ON_CHIP.dynamic_energy_error
    assert two["dynamic_energy_error [J/sample]"] == ""
    assert r"30.00 \(\pm\) 1.15" in table.to_latex()
    assert table.to_latex().isascii()
    assert pickle.loads(pickle.dumps(table)) == table


@needs_latex
def test_latex_of_several_conventions_compiles(tmp_path: Path) -> None:
    made = ours()
    names = ("spikingjelly", "rate-x-macs", "neurobench")
    table = sm.paper_table({"exact": made, **{name: made.under(name) for name in names}})
    for notes_too in (True, False):
        assert "Overfull" not in compiled(table.to_latex(notes=notes_too), tmp_path)


@needs_latex
def test_latex_compiles_with_measurements(tmp_path: Path) -> None:
    columns = ["acs", "energy", "measured_energy", "dynamic_energy"]
    table = sm.paper_table({"a": ours()}, measured={"a": ON_CHIP}, columns=columns)
    assert "Overfull" not in compiled(table.to_latex(), tmp_path)


# -------------------------------------------------------------------------------------- renderers


def nasty() -> sm.PaperTable:
    return sm.paper_table({NASTY: ours(notes=(NASTY,)), "b": other()}, {NASTY: 0.5})


def test_latex_is_one_tabular_with_booktabs_and_notes_below() -> None:
    text = nasty().to_latex()
    expected = (
        r"a\textbar{}b\_c\&d\textless{}e\textgreater{}\%f\{\$\#\textasciitilde{}"
        r"\textasciicircum{}\textbackslash{}{*}`{[} & 4 & 11.2 & 0.900 & 2.50 & 1.00 & 0 & 0.821 "
        r"& 50.00 \\"
    )
    found = text.splitlines()
    assert expected in found
    rules = [line for line in found if line in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\begin{tabular}{lrrrrrrrr}" in found
    assert text.count(r"\begin{") == text.count(r"\end{") == 3
    rows = [line for line in found if line.endswith(r" \\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [8] * 5  # three of the head
    assert text.index(r"\end{tabular}") < text.index("figures are per sample")


def test_latex_without_footnotes() -> None:
    table = nasty()
    text, minipage = table.to_latex(notes=False), r"\\begin\{minipage\}.*\\end\{minipage\}\n"
    assert text == re.sub(minipage, "", table.to_latex(), flags=re.DOTALL)
    assert text.count(r"\begin{") == 2
    assert "accuracy: given by the user, not measured by snnmetrics" in table.footnotes
    assert len(table.footnotes) == len(notes(table))
    with pytest.raises(TypeError, match="notes: expected"):
        table.to_latex(notes="short")  # type: ignore[arg-type]


def test_latex_leaves_nothing_that_would_not_compile() -> None:
    lines_ = nasty().to_latex().splitlines()
    body = [line for line in lines_[1:] if line.endswith((r"\par", r" \\"))]
    assert len(body) > 10
    for line in body:
        bare = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\\par$| \\\\$", "", line)
        assert not re.search(r"[\\$#_%~^]", bare), line
        assert bare.count("{") == bare.count("}")
        assert bare.isascii()


def test_the_head_of_latex_has_a_word_of_each_title_per_line() -> None:
    table = sm.paper_table({"ours": ours()}, columns=["acs", "firing_rate", "energy"])
    assert lines(table)[0] == ["method", "ACs [M]", "firing rate [1/step]", "energy [µJ]"]
    text = table.to_latex()
    head = text[text.index("toprule") : text.index(r"\midrule")].splitlines()[1:]
    assert head == [
        r" &  & firing &  \\",
        r" & ACs & rate & energy \\",
        r"method & {[}M{]} & {[}1/step{]} & {[}\(\mu\)J{]} \\",
    ]


def test_quotation_marks_of_latex_open_and_close() -> None:
    text = sm.paper_table({"ours": ours()}).to_latex()
    assert "Horowitz, ``Computing's energy problem (and what we can do about it)'', ISSCC" in text


@needs_latex
def test_latex_compiles_with_any_names(tmp_path: Path) -> None:
    compiled(nasty().to_latex(), tmp_path)


@needs_latex
def test_all_columns_fit_into_the_text_of_an_article(tmp_path: Path) -> None:
    table = sm.paper_table({"ours": ours(), "ANN": other()}, {"ours": 0.5, "ANN": 1.0})
    assert len(table.columns) == len(DEFAULT)
    assert "Overfull" not in compiled(table.to_latex(), tmp_path)


def test_markdown_keeps_names_in_their_cells() -> None:
    rows = [line for line in nasty().to_markdown().splitlines() if line.startswith("|")]
    parts = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert [len(part) for part in parts] == [9] * 4
    assert re.sub(r"\\(.)", r"\1", parts[2][0].strip()) == NASTY
    assert parts[1] == [" :-- ", *[" --: "] * 8]


def test_html_escapes_names() -> None:
    text = sm.paper_table({"<script>&": ours()})._repr_html_()
    assert '<td style="text-align: left">&lt;script&gt;&amp;</td>' in text
    assert "<script>" not in text
    assert [text.count(tag) for tag in ("<table>", "<tr>", "<tfoot>", "<ul>")] == [1, 2, 0, 1]
    assert "exact count" in text


def test_plain_text_is_aligned_and_has_one_rule() -> None:
    text = str(sm.paper_table({"a\n\x1b[2J": ours(), "b": other()}, {"b": 0.5}))
    shown = text.split("\n\n")[1].splitlines()
    assert len({len(line) for line in shown}) == 1
    assert sum(set(line) == {"-"} for line in shown) == 1
    assert shown[2].startswith(r"a\n\x1b[2J ")
    assert text.startswith("Cost per sample and accuracy\n\n")
    assert max(map(len, text.split("\n\n")[2].splitlines())) <= 100


def test_rich_cuts_nothing_off_in_a_narrow_terminal() -> None:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(sm.paper_table({"[bold]x[/bold]": ours(), "b": other()}, {"b": 0.917}))
    text = capture.get()
    assert "[bold]x[/bold]" in text
    assert "91.70" in text
    assert "9.00e-04" in text
    assert max(map(len, text.splitlines())) <= 80


def test_exports_hold_full_precision_in_base_units_that_titles_name() -> None:
    made = ours(samples=7)
    table = sm.paper_table({"a,b": made, "other": other()}, {"other": 1 / 3})
    one, two = csv.DictReader(io.StringIO(table.to_csv()))
    assert one["name"] == "a,b"
    assert float(one["acs [operations/sample]"]) == 9e8 / 7
    assert float(one["energy [J/sample]"]) == sm.estimate_energy(made, PROFILE).total.energy
    assert one["accuracy [fraction]"] == ""
    assert float(two["accuracy [fraction]"]) == 1 / 3
    frame = table.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == ["a,b", "other"]
    assert list(frame.columns) == [
        "steps [time steps]",
        "parameters [elements]",
        "acs [operations/sample]",
        "macs [operations/sample]",
        "synops [operations/sample]",
        "firing_rate [1/step]",
        "energy [J/sample]",
        "accuracy [fraction]",
    ]
    assert pd.isna(frame.loc["a,b", "accuracy [fraction]"])
    with pytest.raises(ValueError, match="table: expected 'methods', found 'layers'"):
        table.to_csv("layers")


def test_a_table_cannot_be_changed_and_can_be_copied() -> None:
    table = nasty()
    with pytest.raises(AttributeError):
        table.columns = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        table.rows["x"] = table.rows["b"]  # type: ignore[index]
    assert pickle.loads(pickle.dumps(table)) == table
    assert repr(sm.paper_table({"a": other()}, columns=["acs"])) == (
        "PaperTable(methods=['a'], columns=['acs'])"
    )


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reports": {}}, ValueError, "reports: expected at least one method, found none"),
        ({"reports": other()}, TypeError, "reports: expected a mapping .*, found Report"),
        ({"reports": {3: other()}}, TypeError, "reports: expected strings as names, found 3"),
        ({"reports": {" ": other()}}, ValueError, "reports: expected nonblank names, found ' '"),
        ({"reports": {"x": 1.0}}, TypeError, r"reports\['x'\]: expected a Report.*, found float"),
        (
            {"reports": {"x": ann_baseline(other())}},
            ValueError,
            "reports: expected at least one Report, found only baselines",
        ),
        ({"accuracy": 0.9}, TypeError, "accuracy: expected a mapping .*, found float"),
        ({"accuracy": {"b": 0.9}}, ValueError, "accuracy: expected names of a, found 'b'"),
        ({"accuracy": {"a": 91.7}}, ValueError, r"accuracy\['a'\]: .*in \[0, 1\], found 91.7"),
        ({"accuracy": {"a": float("nan")}}, ValueError, r"accuracy\['a'\]: .*found nan"),
        ({"accuracy": {"a": "0.9"}}, TypeError, r"accuracy\['a'\]: expected a number, found '0.9'"),
        ({"accuracy": {"a": True}}, TypeError, r"accuracy\['a'\]: expected a number, found True"),
        ({"accuracy": {"a": torch.ones(2)}}, TypeError, r"accuracy\['a'\]: expected a number"),
        ({"columns": "acs"}, TypeError, "columns: expected a sequence of names, found 'acs'"),
        ({"columns": {"acs"}}, TypeError, "columns: expected a sequence of names"),
        ({"columns": []}, ValueError, "columns: expected at least one, found none"),
        ({"columns": ["acs", "x"]}, ValueError, "columns: expected some of steps, .*, found 'x'"),
        ({"columns": ["acs", "acs"]}, ValueError, "columns: expected distinct names, found acs"),
        ({"columns": ["accuracy"]}, ValueError, "accuracy: expected at least one accuracy"),
        ({"measured": 3}, TypeError, "measured: expected a mapping .*, found int"),
        ({"measured": {"b": ON_CHIP}}, ValueError, "measured: expected names of a, found 'b'"),
        ({"measured": {"a": 3.0}}, TypeError, r"measured\['a'\]: expected a Meas.*, found float"),
        (
            {"columns": ["measured_energy"]},
            ValueError,
            "measured: expected a Measurement of at least one method for the column 'measured_en",
        ),
        (
            {"columns": ["dynamic_energy"], "measured": {"a": ONCE}},
            ValueError,
            "measured: expected a Measurement with idle power .* 'dynamic_energy', found none",
        ),
        ({"profile": "x"}, ValueError, "profile: expected one of .*, found 'x'"),
        ({"profile": 3}, TypeError, "profile: expected a name or an EnergyProfile, found int"),
        ({"convention": "x"}, ValueError, "convention: expected one of .*, found 'x'"),
    ],
)
def test_errors_name_the_argument(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sm.paper_table(**({"reports": {"a": other()}} | arguments))


def test_the_document_shows_what_its_code_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = DOCUMENT.read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
        printed = "\n".join(capsys.readouterr().out.split("\r\n")).strip()
        assert printed in text, f"docs/howto/paper_table.md: expected\n{printed}"
    ann = names["table"].rows["ANN"]
    assert (ann.macs, ann.energy) == (64 * 32, pytest.approx(64 * 32 * 4.6e-12))
    file = tmp_path / "made_up.json"
    file.write_text(json.dumps({"ours": ON_CHIP.to_dict()}))
    assert names["with_measured"](file).rows["ours"].measured_energy == ON_CHIP.energy


def test_accuracy_in_percent_is_told_apart_from_other_mistakes() -> None:
    with pytest.raises(ValueError, match=r"found 72.8; divide percent by 100$"):
        sm.paper_table({"a": ours()}, {"a": 72.8})
    with pytest.raises(ValueError, match=r"found 728$"):
        sm.paper_table({"a": ours()}, {"a": 728})


def test_a_run_without_samples_has_no_energy() -> None:
    """Also where no layer is known yet, whose sum of nothing would be 0 J."""
    row = sm.paper_table({"empty": Report(samples=0, calls=0, model="Net")}).rows["empty"]
    figures = ("acs", "macs", "energy")
    assert [getattr(row, figure) for figure in figures] == [None] * 3
    assert {row.reasons[figure] for figure in figures} == {"no samples"}


def test_a_baseline_stands_beside_what_was_run() -> None:
    made = other()
    ann = ann_baseline(made)
    columns = ["macs", "dense_macs", "energy", "firing_rate"]
    table = sm.paper_table({"SNN": made, "ANN": ann}, columns=columns)
    row = table.rows["ANN"]
    assert row.macs == ann.macs
    assert row.energy == sm.estimate_energy(ann, "horowitz-45nm-fp32").total.energy
    assert row.dense_macs is None
    assert table.rows["SNN"].dense_macs == made.total.dense_macs
    said = notes(table)
    assert "ANN: operations of the ANN equivalent to Net, not of a run" in said
    assert any(note.startswith("dense MACs: every input, padded taps") for note in said)
    assert "ANN: no dense MACs, firing rate: not known for an estimated workload" in said
    assert all(f"ANN: {note}" in said for note in ann.notes)
