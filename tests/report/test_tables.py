"""What is printed and exported: numbers as people read them, names escaped, values exact."""

from __future__ import annotations

import csv
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console

from snnmetrics.report import Counts, LayerData, Report, Uncounted
from snnmetrics.report.tables import escape_latex, escape_markdown
from snnmetrics.text import percent, printable, si
from tests.report.made import COUNTS, full_report, layer, neurons, operation, report, spread

NASTY = "a|b_c&d<e>%f{$#~^\\*`["


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (7.5, "7.5"),
        (1 / 3, "0.333333"),
        (1000, "1 k"),
        (1234, "1.234 k"),
        (12_345, "12.35 k"),
        (999_949, "999.9 k"),
        (999_999, "1 M"),  # rounded up to the next prefix
        (1_814_073_344, "1.814 G"),
        (2.5e15, "2.5 P"),
        (1e30, "1e+12 E"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_si_prefixes(value: float | None, text: str) -> None:
    assert si(value) == text


def test_percent() -> None:
    assert [percent(x) for x in (0.0, 0.12345, 1.0, float("nan"))] == [
        "0 %",
        "12.35 %",
        "100 %",
        "nan",
    ]


def cells(text: str) -> list[list[str]]:
    """The lines of a plain text, cut where two or more spaces stand."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_plain_text_shows_header_rows_total() -> None:
    thousand = replace(COUNTS, synops=2_469_000, dense_macs=26_000)
    layers = {"conv": layer("analog"), "fc": layer(counts=thousand)}
    text = str(
        report(
            layers,
            neurons_data={"lif": neurons()},
            steps=20,
            dt=0.002,
            parameters=1500,
            model="Net",
        )
    )
    lines = cells(text)
    assert lines[0] == ["snnmetrics report of Net"]
    assert lines[1] == [
        "2 samples, 1 call, 20 steps per sample, dt = 0.002 s; figures are per sample"
    ]
    assert ["conv", "linear", "analog", "-", "0", "3", "13", "62.5 %", "15"] in lines
    assert ["fc", "linear", "binary", "1.234 M", "3", "0", "13 k", "62.5 %", "15"] in lines
    assert ["total", "1.234 M", "3", "3", "13.01 k", "62.5 %", "1.5 k"] in lines
    assert ["neurons", "type", "number", "firing rate [Hz]", "silent", "saturated"] in lines
    assert ["lif", "Leaky", "10", "75", "20 %", "10 %"] in lines
    assert ["total", "10", "75", "20 %", "10 %"] in lines


def test_plain_text_is_aligned() -> None:
    text = str(report({"fc": layer(), "a_longer_name": layer("integer")}))
    lines = text.splitlines()
    table = lines[3 : lines.index("", 3)]
    assert len(table) == 6
    assert len({len(line) for line in table}) == 1  # the last column ends where all end
    ends = {table[0].index("synops") + 6, *(table[i].index("7.5") + 3 for i in (2, 3))}
    assert len(ends) == 1
    assert text.isascii()


def test_without_neurons_there_is_no_table_of_neurons() -> None:
    assert "firing rate" not in str(report())
    assert "firing rate [1/step]" in str(report(neurons_data={"lif": neurons()}))


def unwrapped(made: Report) -> str:
    return " ".join(str(made).split())


def test_footnotes_say_how_the_kinds_that_occur_count() -> None:
    rules = {
        "binary": "binary input: one AC per event",
        "ternary": "ternary input: one AC per event",
        "integer": "integer input: a value of n is n ACs",
        "analog": "analog input: one MAC",
        "integer*binary": "product of two activations: one operation where both are nonzero",
    }
    for kind, rule in rules.items():
        text = unwrapped(report({"fc": layer(kind)}))
        assert rule in text
        assert not any(other in text for other in rules.values() if other != rule)
    text = unwrapped(report({"fc": layer("integer")}, integer_as="macs"))
    assert "integer input: one MAC per event" in text
    assert rules["integer"] not in text


def test_footnotes_say_what_a_reader_must_know() -> None:
    text = unwrapped(full_report())
    for note in (
        "block.conv: input declared: 0.25 x a spike count; dropout was active",
        "image: kind declared: analog",
        "bn1 is folded into conv",
        "out of scope: element-wise arithmetic",
        "pooling are not counted",
        "not counted: rnn: bilinear (7 calls): several layers in one kernel",
    ):
        assert note in text
    assert "not counted: " not in unwrapped(report())
    quiet = report(uncounted=(Uncounted("attn", "parameter weight", "never used"),))
    assert "not counted: attn: parameter weight: never used" in unwrapped(quiet)


def nasty_report() -> Report:
    return report({NASTY: layer(notes=(NASTY,))}, neurons_data={NASTY: neurons()}, model=NASTY)


def test_markdown_keeps_names_in_their_cells() -> None:
    lines = nasty_report().to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    parts = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert [len(part) for part in parts] == [9] * 4 + [6] * 4
    assert re.sub(r"\\(.)", r"\1", parts[2][0].strip()) == NASTY
    assert escape_markdown("a_b|c&d<e*f`g") == r"a\_b\|c\&d\<e\*f\`g"
    assert parts[2][3].strip() == "7.5"
    assert set(parts[1][0].strip()) <= set(":-")


def test_notes_of_layers_stand_once() -> None:
    """Of 20 layers in two conventions, of which no figure is known for the same reason."""
    names = [f"conv{i}" for i in range(20)]
    seen = report({name: layer("analog") for name in names})
    joined = ", ".join(names)
    for tool, figures in (("sinabs", seen.under("sinabs")), ("norse", seen.under("norse"))):
        (reason,) = {row.reason for row in figures.layers.values()}
        assert unwrapped(figures).count(reason) == 1
        assert f"* {joined}: {reason}" in unwrapped(figures)
        assert f"* {tool}: {joined}: {reason}" in unwrapped(seen.conventions())
    notes = [line for line in str(seen.conventions()).splitlines() if line.startswith("* ")]
    assert len(notes) < 20


def test_quotation_marks_of_every_latex_export_open_and_close() -> None:
    seen = replace(report({"fc": layer("analog")}), model='Net "A"')
    for table in (seen, seen.under("rate-x-macs"), seen.conventions()):
        text = table.to_latex()
        assert "Net ``A''" in text
        assert '"' not in text
        assert "{''}" not in text
    assert "``Spikformer''" in seen.conventions().to_latex()


def test_latex_escapes_every_special_character() -> None:
    text = nasty_report().to_latex()
    expected = (
        r"a\textbar{}b\_c\&d\textless{}e\textgreater{}\%f\{\$\#\textasciitilde{}"
        r"\textasciicircum{}\textbackslash{}{*}`{[}"
    )
    assert escape_latex(NASTY) == expected
    row = rf"{expected} & linear & binary & 7.5 & 3 & 0 & 13 & 62.5 \% & 15 \\"
    assert row in text.splitlines()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    assert r"\begin{tabular}{lllrrrrrr}" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    # Titles take two and three lines, rows and totals one.
    assert [len(re.findall(r"(?<!\\)&", line)) for line in rows] == [8] * 4 + [5] * 5


class Cells(HTMLParser):
    """Text of table cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def test_html_takes_the_colours_of_the_notebook() -> None:
    """Light or dark: it sets none of its own."""
    html = full_report()._repr_html_()
    assert set(re.findall(r'style="([a-z-]+)', html)) == {"text-align"}
    assert not re.search(r"color|background|<style|<font", html)


def test_html_escapes_names() -> None:
    html = report({"<script>alert(1)</script>&amp;": layer()}, model="<b>")._repr_html_()
    parser = Cells()
    parser.feed(html)
    assert parser.tags == {
        "p",
        "br",
        "table",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "th",
        "td",
        "ul",
        "li",
    }
    assert parser.rows[1][:4] == ["<script>alert(1)</script>&amp;", "linear", "binary", "7.5"]


def test_control_characters_do_not_reach_a_terminal() -> None:
    name = "fc\n\x1b[2J\r\u202e\t"
    made = report({name: layer()}, model=name, notes=(name,))
    shown = r"fc\n\x1b[2J\r\u202e\t"
    assert printable(name) == shown
    for text in (str(made), made.to_markdown(), made.to_latex(), made._repr_html_()):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert any(line[0] == shown for line in cells(str(made)))
    assert next(csv.DictReader(io.StringIO(made.to_csv())))["name"] == name  # exact for machines


def rich_text(made: object, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(made)
    return capture.get()


def test_rich_shows_the_same_and_takes_no_name_for_markup() -> None:
    made = report({"[bold]fc[/bold]": layer("integer")}, neurons_data={"lif": neurons()})
    lines = cells(rich_text(made))
    row = ["[bold]fc[/bold]", "linear", "integer", "7.5", "5", "0", "13", "62.5 %", "15"]
    assert row in lines
    assert row in cells(str(made))
    assert ["total", "10", "0.15", "20 %", "10 %"] in lines
    assert "out of scope" in rich_text(made)


def test_rich_cuts_nothing_off_in_a_narrow_terminal() -> None:
    large = Counts(*[123_456_789] * 12)
    made = report({"a.long.name.of.a.layer": layer(counts=large), "fc": layer()})
    text, compared = rich_text(made, width=80), rich_text(made.compare(made), width=80)
    for shown in (text, compared):
        assert max(map(len, shown.splitlines())) <= 80
        assert "…" not in shown
    # synops, ACs and dense MACs of the layer and in total, on one line each
    assert text.count("61.73 M") == 6
    # synops, effective synops and ACs of the layer and in total, before and after
    assert compared.count("61.73") == 12


def test_without_rich_there_is_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = str(report())
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert str(report()) == expected
    with pytest.raises(ImportError, match=r"rich is not installed: .*snnmetrics\[rich\]"):
        report().__rich__()


def test_csv_holds_full_precision_and_exact_totals() -> None:
    exact = replace(COUNTS, event_synops=2**60 + 1, synops=1 / 3)
    layers = {"a,b\n\"c'": layer(counts=exact), "image": layer("analog")}
    one, two = csv.DictReader(io.StringIO(report(layers, samples=7).to_csv()))
    assert one["name"] == "a,b\n\"c'"
    assert float(one["synops"]) == 1 / 3 / 7
    assert float(one["synops_sum"]) == 1 / 3
    assert int(one["event_synops_sum"]) == 2**60 + 1
    assert (two["synops"], two["synops_sum"]) == ("", "")
    assert (float(two["macs"]), int(two["macs_sum"])) == (6 / 7, 6)
    assert "synops_per_neuron" not in one


def test_csv_of_neurons() -> None:
    (row,) = csv.DictReader(
        io.StringIO(report(neurons_data={"lif": neurons()}, samples=7).to_csv("neurons"))
    )
    assert (row["name"], row["type"], row["neurons"]) == ("lif", "Leaky", "10")
    assert float(row["firing_rate"]) == 60 / 400
    assert (float(row["spikes"]), int(row["spikes_sum"])) == (60 / 7, 60)
    assert (int(row["elements_sum"]), int(row["silent_sum"])) == (400, 2)


def test_tables_that_do_not_exist_are_refused() -> None:
    for method in (report().to_csv, report().to_pandas):
        with pytest.raises(ValueError, match="expected 'layers' or 'groups' or 'neurons', found"):
            method("x")


def test_pandas_holds_the_same_figures() -> None:
    made = full_report()
    frame = made.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == list(made.layers)
    assert frame.loc["fc", "synops"] == made.layers["fc"].synops == 15.0
    assert frame.loc["fc", "synops_sum"] == 30
    assert pd.isna(frame.loc["image", "synops"])
    assert frame["acs"].sum() == made.total.acs
    assert made.to_pandas("neurons").loc["lif", "silent_fraction"] == 0.2
    assert list(report({}).to_pandas().columns) == list(frame.columns)


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is not installed: .*snnmetrics\[pandas\]"):
        report().to_pandas()


def test_groups_have_a_table_and_a_sheet() -> None:
    made = full_report()
    lines = cells(str(made))
    head = ["group", "layers", "synops", "ACs", "MACs", "dense MACs", "synops/s"]
    assert head in lines
    assert ["core", "2", "22.5", "11", "0", "39", "1.125 k"] in lines
    assert ["idle", "1", "-", "0", "0", "0", "-"] in lines
    assert ["total", "4", "30", "14", "3", "65", "1.5 k"] in lines
    assert head not in cells(str(report()))
    core, idle = csv.DictReader(io.StringIO(made.to_csv("groups")))
    assert (core["name"], core["layers"]) == ("core", "block.conv fc")
    assert (float(core["synops_max"]), float(core["synops_peak_step"])) == (30, 9)
    assert (idle["synops"], idle["synops_p99"]) == ("", "")
    assert list(made.to_pandas("groups").index) == ["core", "idle"]
    assert list(report().to_pandas("groups").columns) == list(made.to_pandas("groups").columns)


def test_figures_over_samples_have_a_table_and_columns() -> None:
    made = full_report()
    lines = cells(str(made))
    head = ["synops over samples", "mean", "std", "max", "p50", "p90", "p99", "peak step"]
    start = lines.index(head)
    assert [line[0] for line in lines[start + 2 : start + 6]] == [
        "block.conv",
        "attn.qk",  # and no image: it has none
        "fc",
        "core",
    ]
    assert ["core", "22.5", "7.5", "30", "15.1566", "30", "30", "9"] in lines
    assert any(line[:2] == ["total", "30"] and line[-1] == "12" for line in lines)
    assert "percentiles are rounded up by at most 1.09 %" in unwrapped(made)
    assert head not in cells(str(report()))
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(made.to_csv()))}
    assert (float(rows["fc"]["synops_max"]), rows["image"]["synops_max"]) == (20, "")
    assert float(rows["fc"]["synops_per_second"]) == pytest.approx(750)
    untimed = report({"fc": layer(per_sample=spread(5, 10))}, per_sample=spread(5, 10))
    assert ["fc", "7.5", "2.5", "10", "5.02152", "10", "10", "-"] in cells(str(untimed))


def test_the_header_says_how_long_samples_last() -> None:
    assert "dt = 0.001 s" in str(full_report())
    assert "0.04 s in all" in str(report(seconds=0.04))


def test_layers_that_were_never_called_are_not_shown() -> None:
    made = report({"idle": LayerData(operation(), {}), "fc": layer()})
    assert "idle" not in str(made)
    assert list(made.to_pandas().index) == ["fc"]


def test_repr_is_short() -> None:
    assert repr(full_report()) == "Report(model='Net', samples=2, layers=4, neurons=1)"


def test_csv_reads_back_names_with_any_end_of_line() -> None:
    names = ["a\rb", "c\nd", "e\r\nf", 'g"h,i', "plain"]
    text = report({name: layer() for name in names}).to_csv()
    assert [row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))] == names
    assert text.endswith("\n")
    assert "\r\n" not in text.replace('"e\r\nf"', "")
