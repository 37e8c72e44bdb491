"""The heights of bars are the counts of the report."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from snnmetrics import plots
from snnmetrics.report import Counts, LayerData, Report
from tests.report import made


def report_of(layers: int, name: str = "block.{}.conv") -> Report:
    """Layer i has i + 1 times the counts of :data:`made.COUNTS`; the first is analog."""
    data = {}
    for i in range(layers):
        values = {f: getattr(made.COUNTS, f) * (i + 1) for f in Counts.__dataclass_fields__}
        data[name.format(i)] = made.layer("binary" if i else "analog", Counts(**values))
    return made.report(data)


def widths(ax: Axes, label: str) -> list[float]:
    (found,) = [bars for bars in ax.containers if str(bars.get_label()).partition(":")[0] == label]
    return [bar.get_width() for bar in found]


def names(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def overlaps(ax: Axes, texts: list[Any]) -> list[tuple[str, str]]:
    ax.figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [
        (one, other)
        for i, (one, box) in enumerate(boxes)
        for other, another in boxes[i + 1 :]
        if box.overlaps(another)
    ]


@pytest.mark.parametrize("layers", [1, 5, 50])
def test_layer_bars_are_the_counts_per_sample(layers: int) -> None:
    _, ax = report_of(layers).plot()
    times = range(1, layers + 1)
    # made.COUNTS of 2 samples: 6 effective synops, 26 dense MACs.
    assert widths(ax, "ACs") == [0, *(3 * k for k in times[1:])]
    assert widths(ax, "MACs") == [3, *(0 for _ in times[1:])]
    assert widths(ax, "dense MACs") == [13 * k for k in times]
    assert names(ax) == [f"block.{i}.conv" for i in range(layers)]
    assert [text.get_text() for text in ax.texts] == [f"{3 * k}" for k in times]
    assert [text.xy[0] for text in ax.texts] == [3 * k for k in times], "at the end of its own bar"
    assert ax.get_xlim()[1] > 13 * layers, "and the outlines are within the axes"
    assert ax.get_xlabel() == "operations per sample"
    assert ax.yaxis_inverted(), "the first layer is on top"
    assert not overlaps(ax, [*ax.get_yticklabels(), *ax.texts])


def test_a_comparison_has_a_bar_before_and_one_after() -> None:
    """3 operations per sample and layer before; layer 0 is gone, layer 1 has a third."""
    before = made.report({"a": made.layer(), "b": made.layer("analog"), "c": made.layer()})
    third = Counts(**(vars(made.COUNTS) | {"effective_synops": 2}))
    after = made.report({"b": made.layer("analog", third), "c": made.layer(), "d": made.layer()})
    _, ax = before.compare(after).plot()
    assert names(ax) == ["a", "b", "c", "d"]
    assert widths(ax, "before") == [3, 3, 3, 0]
    assert widths(ax, "after") == [0, 1, 3, 3]
    assert [text.get_text() for text in ax.texts] == ["", "x 0.333", "x 1", ""]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["before: 9", "after: 7"]
    for one in (made.report({}), made.report(samples=0)):
        with pytest.raises(ValueError, match="comparison: expected layers, and samples in both"):
            one.compare(one).plot()


def test_macs_are_stacked_on_acs() -> None:
    report = made.report({"fc": made.layer("binary"), "out": made.layer("analog")})
    _, ax = plots.layer_bars(report)
    (macs,) = [bars for bars in ax.containers if str(bars.get_label()).startswith("MACs")]
    assert [bar.get_x() for bar in macs] == widths(ax, "ACs") == [3, 0]


def test_the_legend_has_the_totals() -> None:
    report = report_of(3)
    _, ax = report.plot()
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["dense MACs: 78", "ACs: 15", "MACs: 3"]


def test_kinds_of_bars_differ_without_colour() -> None:
    _, ax = report_of(2).plot()
    dense, acs, macs = (bars[0] for bars in ax.containers)
    assert (dense.get_facecolor()[3], dense.get_edgecolor()) == (0, (0, 0, 0, 1))
    assert (acs.get_hatch(), macs.get_hatch()) == (None, "////")


def test_long_names_stay_within_the_figure_and_apart() -> None:
    name = "encoder.stages.{}.blocks.0.attention.query_projection_with_a_very_long_name.conv"
    figure, ax = report_of(6, name).plot()
    figure.draw_without_rendering()
    assert not overlaps(ax, ax.get_yticklabels())
    assert all(text.get_window_extent().x0 >= 0 for text in ax.get_yticklabels())
    assert len(set(names(ax))) == 6
    assert all("…" in text and len(text) == 60 for text in names(ax))


def test_names_are_no_formulas() -> None:
    figure, ax = made.report({"a$_b$": made.layer(), "x\n": made.layer()}).plot()
    figure.draw_without_rendering()  # mathtext would raise or swallow it
    assert names(ax) == [r"a\$_b\$", r"x\n"]


def test_many_layers_on_small_axes_have_fewer_names() -> None:
    figure, ax = plt.subplots(figsize=(4, 2), layout="constrained")
    assert report_of(50).plot(ax=ax) == (figure, ax)
    assert 5 < len(names(ax)) < 50
    assert len(widths(ax, "ACs")) == 50
    assert not overlaps(ax, ax.get_yticklabels())


def test_the_legend_stays_within_a_narrow_figure() -> None:
    figure, ax = plt.subplots(figsize=(3, 3), layout="constrained")
    report_of(3).plot(ax=ax)
    figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x0 >= 0


def test_layers_without_events() -> None:
    silent = Counts(calls=1, vectors=2, elements=8, dense_synops=24, dense_macs=26)
    _, ax = made.report({"fc": made.layer(counts=silent)}).plot()
    assert (widths(ax, "ACs"), widths(ax, "dense MACs")) == ([0], [13])
    _, ax = made.report({"fc": made.layer(counts=Counts(calls=1))}).plot()
    assert ax.get_xlim() == (0, 1)


def test_a_report_without_layers_or_samples() -> None:
    for report in (made.report({}), made.report(samples=0)):
        for picture in (plots.layer_bars, plots.conventions):
            with pytest.raises(ValueError, match="at least one layer and one sample"):
                picture(report)


def test_pictures_of_reports_refuse_what_is_none() -> None:
    for picture in (plots.layer_bars, plots.conventions, plots.sample_spread):
        with pytest.raises(TypeError, match="report: expected a Report, found dict"):
            picture({})  # type: ignore[operator]


def test_several_reports_are_totals_from_one_to_the_next() -> None:
    reports = [report_of(k) for k in (1, 2, 3)]
    _, ax = reports[0].plot(reports)
    acs, macs = ax.lines
    assert list(acs.get_ydata()) == [report.total.acs for report in reports] == [0, 6, 15]
    assert list(macs.get_ydata()) == [report.total.macs for report in reports] == [3, 3, 3]
    assert list(acs.get_xdata()) == [1, 2, 3]
    _, ax = reports[0].plot(reports[2])
    assert widths(ax, "ACs") == [0, 6, 9]


@pytest.mark.parametrize("val", [3, [], [1, 2], "report"])
def test_what_is_no_report_is_refused(val: Any) -> None:
    with pytest.raises(TypeError, match="val: expected"):
        report_of(1).plot(val)


def test_conventions_are_those_of_the_table() -> None:
    report = report_of(4)
    _, ax = plots.conventions(report)
    table = report.conventions().total
    assert names(ax) == ["snnmetrics", *table]
    acs, macs, other = (
        widths(ax, label) for label in ("ACs", "MACs", "ACs and MACs not separated")
    )
    exact = dict(zip(ax.lines[0].get_ydata(), ax.lines[0].get_xdata(), strict=True))
    assert (acs[0], macs[0]) == (report.total.acs, report.total.macs)
    figures = 0
    for i, row in enumerate(table.values(), 1):
        assert acs[i] + macs[i] + other[i] == pytest.approx(row.operations or 0)
        assert exact.get(i) == (None if row.operations is None else row.exact)
        if row.acs is not None:
            assert (acs[i], macs[i]) == (row.acs, row.macs)
        text = ax.texts[i].get_text()
        assert (text == "n/a") == (row.operations is None)
        figures += row.operations is not None
    assert 3 <= figures < len(table), "both cases were seen"
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend.count("n/a: no figure") == 1


def test_axes_of_something_else_are_refused() -> None:
    with pytest.raises(TypeError, match="ax: expected matplotlib axes, found Figure"):
        report_of(1).plot(ax=plt.figure())  # type: ignore[arg-type]


def test_data_of_an_uncalled_layer_are_not_drawn() -> None:
    layers = {"fc": made.layer(), "never": LayerData(made.operation(), {})}
    _, ax = made.report(layers).plot()
    assert names(ax) == ["fc"]
