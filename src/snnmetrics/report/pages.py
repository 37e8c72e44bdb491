"""The page of a printed report (header, tables and footnotes) and its data as sheets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from snnmetrics.report.core_data import FIGURES as LOADS
from snnmetrics.report.core_data import HELD, Load
from snnmetrics.report.curve import Curve
from snnmetrics.report.data import Counts, LayerData
from snnmetrics.report.distribution import PERCENTILES, RESOLUTION
from snnmetrics.report.rows import SUMS, ActivityRow, Row, SynopsRow, epoch_kind
from snnmetrics.report.tables import Column, Page, Sheet, Table, sheet_of
from snnmetrics.tensors.counts import is_count
from snnmetrics.tensors.kinds import InputKind
from snnmetrics.text import by_holder, named, percent, si

if TYPE_CHECKING:
    from snnmetrics.report.report import Report

OUT_OF_SCOPE = (
    "out of scope: element-wise arithmetic (neuron dynamics, normalisation: batch norm after a "
    "linear layer is taken as folded) and pooling are not counted"
)
_ELEMENTWISE = {
    False: "element-wise products of two activations are counted with Monitor(elementwise=True)",
    True: "element-wise products of two activations in the model's forward functions are counted",
}
FIGURES = (
    "synops: sum of |input| x fan-out; ACs and MACs leave out synapses whose weight is zero; "
    "dense MACs: every input, padded taps included"
)
RULES = {
    "binary": "binary input: one AC per event and synapse of nonzero weight",
    "ternary": "ternary input: one AC per event and synapse of nonzero weight",
    "integer, acs": "integer input: a value of n is n ACs per synapse of nonzero weight",
    "integer, macs": "integer input: one MAC per event and synapse of nonzero weight",
    "analog": "analog input: one MAC per nonzero input and synapse of nonzero weight; no synops",
    "product": (
        "product of two activations: one operation where both are nonzero, an AC if either is "
        "binary or ternary, else a MAC; never weighted by values"
    ),
}

SPREAD_RULE = (
    "over samples: std divides by the number of samples; percentiles are rounded up by at most "
    f"{RESOLUTION * 100:.2f} %; peak step: most synops in one time step of one sample"
)

STEP_RULE = (
    "over time steps: mean, standard deviation and maximum over samples are kept of each step; "
    "to_csv('steps') lists them"
)

COUNTS = tuple(field.name for field in fields(Counts))
_LAST = ("input_sparsity", "synops_per_second")
SUM_SCALARS = (*SUMS, *_LAST)
SPREAD = ("std", "max", *(f"p{percent}" for percent in PERCENTILES), "peak_step")
NEURON_SCALARS = (
    "sparsity",
    "firing_rate",
    "spikes",
    "updates",
    "silent_fraction",
    "saturated_fraction",
)
# All figures of `scalars`, by name.
SCALARS = tuple(
    dict.fromkeys(
        ("vectors", *SUM_SCALARS, *(f"synops_{figure}" for figure in SPREAD), *NEURON_SCALARS)
    )
)

# Figures of `scalars` by default: a short list per row, since every one is a curve in a logger.
MAIN_SCALARS = ("synops", "acs", "macs", "input_sparsity", "firing_rate", "silent_fraction")

# Columns of sheets.
LAYER_FIGURES = ("name", "operation", "kind", "vectors", *SUMS, "synapses", "parameters", *_LAST)
GROUP_FIGURES = ("name", "layers", *SUMS, "synapses", *_LAST)
NEURON_FIGURES = (
    "name",
    "type",
    "neurons",
    "firing_rate",
    *(figure for figure in NEURON_SCALARS if figure != "firing_rate"),
    "additions",
    "multiplications",
)
STEP_FIGURES = ("name", "of", "figure", "step", "samples", "mean", "std", "max")
NEURON_TOTALS = (
    "elements",
    "events",
    "spikes",
    "silent",
    "saturated",
    "additions",
    "multiplications",
)


def report_page(report: Report) -> Page:
    """Tables of a report for people."""
    tables = [_layer_table(report)]
    if report.groups:
        tables.append(_group_table(report))
    if report.per_sample is not None:
        tables.append(_spread_table(report))
    if report.neurons:
        tables.append(_neuron_table(report))
    if report.cores:
        tables.append(_core_table(report))
    return Page(_header(report), tuple(tables), tuple(_footnotes(report)))


def report_sheets(report: Report) -> dict[str, Sheet]:
    """Tables of a report for machines."""
    return {
        "layers": _layer_sheet(report),
        "groups": _group_sheet(report),
        "neurons": _neuron_sheet(report),
        **({"steps": _step_sheet(report)} if _has_steps(report) else {}),
        **({"cores": _core_sheet(report)} if report.cores else {}),
    }


def rate_title(step_seconds: float | None) -> str:
    """Column title of firing rates, with the unit."""
    return "firing rate [1/step]" if step_seconds is None else "firing rate [Hz]"


def title_of(report: Report) -> str:
    """First line of a report; also used under conventions."""
    return f"snnmetrics report of {report.model}" if report.model else "snnmetrics report"


def _header(report: Report) -> tuple[str, ...]:
    seen = [named(report.samples, "sample"), named(report.calls, "call")]
    if report.steps is not None:
        seen.append(f"{named(report.steps, 'step')} per sample")
    if report.dt is not None:
        seen.append(f"dt = {report.dt:g} s")
    elif report.seconds is not None:
        seen.append(f"{report.seconds:g} s in all")
    return title_of(report), f"{', '.join(seen)}; figures are per sample"


def _layer_table(report: Report) -> Table:
    columns = (
        *(Column(title, number=False) for title in ("layer", "operation", "kind")),
        *map(Column, ("synops", "ACs", "MACs", "dense MACs", "input sparsity", "parameters")),
    )
    rows = tuple(
        (
            row.name,
            row.operation,
            row.kind,
            *map(si, (row.synops, row.acs, row.macs, row.dense_macs)),
            percent(row.input_sparsity),
            si(row.parameters),
        )
        for row in report.layers.values()
    )
    total = report.total
    figures = map(si, (total.synops, total.acs, total.macs, total.dense_macs))
    last = ("total", "", "", *figures, percent(total.input_sparsity), si(total.parameters))
    return Table(columns, rows, last)


def _group_table(report: Report) -> Table:
    columns = (
        Column("group", number=False),
        *map(Column, ("layers", "synops", "ACs", "MACs", "dense MACs", "synops/s")),
    )

    def line(row: SynopsRow, layers: int) -> tuple[str, ...]:
        figures = (row.synops, row.acs, row.macs, row.dense_macs, row.synops_per_second)
        return (str(layers), *map(si, figures))

    rows = tuple((row.name, *line(row, len(row.layers))) for row in report.groups.values())
    return Table(columns, rows, ("total", *line(report.total, len(report.layers))))


def _spread_table(report: Report) -> Table:
    columns = (
        Column("synops over samples", number=False),
        *map(Column, ("mean", *SPREAD[:-1], "peak step")),
    )
    both: list[SynopsRow] = [*report.layers.values(), *report.groups.values()]
    rows = tuple((row.name, *_spread_cells(row)) for row in both if row.std is not None)
    return Table(columns, rows, ("total", *_spread_cells(report.total)))


def _spread_cells(row: SynopsRow) -> tuple[str, ...]:
    found = spread_figures(row)
    return (si(row.synops), *(si(found.get(figure)) for figure in SPREAD))


def spread_figures(row: SynopsRow) -> dict[str, float | None]:
    """Figures over samples of a row, by name; empty if it has none."""
    if row.percentiles is None:
        return {}
    found = {"std": row.std, "max": row.max, "peak_step": row.peak_step}
    return found | {f"p{percent}": value for percent, value in row.percentiles.items()}


def _neuron_table(report: Report) -> Table:
    columns = (
        *(Column(title, number=False) for title in ("neurons", "type")),
        *map(Column, ("number", rate_title(report.step_seconds), "silent", "saturated")),
    )
    rows = tuple((row.name, row.type, *_neuron_figures(row)) for row in report.neurons.values())
    return Table(columns, rows, ("total", "", *_neuron_figures(report.total)))


def _neuron_figures(row: ActivityRow) -> Iterator[str]:
    yield si(row.neurons)
    yield f"{row.firing_rate:.4g}"
    yield percent(row.silent_fraction)
    yield percent(row.saturated_fraction)


def _core_table(report: Report) -> Table:
    columns = (
        *(Column(title, number=False) for title in ("core", "layers")),
        *map(Column, ("neurons", "synapses", "synops per step", "max", "p99", "peak step")),
        *map(Column, ("events in, max", "events out, max")),
    )
    rows = tuple(
        (
            row.name,
            ", ".join(row.layers),
            si(row.neurons),
            si(row.synapses),
            *_load_cells(row.synops),
            *(si(None if load is None else load.max) for load in (row.events_in, row.events_out)),
        )
        for row in report.cores.values()
    )
    return Table(columns, rows)


def _load_cells(load: Load | None) -> tuple[str, ...]:
    if load is None:
        return (si(None),) * 4
    return si(load.mean), si(load.max), si(load.p99), str(load.peak_step)


def _footnotes(report: Report) -> Iterator[str]:
    yield FIGURES
    yield from _rules((row.kind for row in report.layers.values()), report.integer_as)
    yield from without_synops(report)
    yield from (f"{name}: {note}" for name, note in above_dense(report).items())
    yield from by_holder({name: [*_said(name, data)] for name, data in report.layers_data.items()})
    if report.per_sample is not None:
        yield SPREAD_RULE
    if _has_steps(report):
        yield STEP_RULE
    if any(None in (data.silent, data.saturated) for data in report.neurons_data.values()):
        yield "silent, saturated: unknown for reports merged without Monitor(per_neuron=True)"
    yield from report.notes
    yield out_of_scope(report)
    for item in report.uncounted:
        calls = f" ({named(item.calls, 'call')})" if item.calls else ""
        yield f"not counted: {item.name}: {item.what}{calls}: {item.reason}"


def _said(name: str, data: LayerData) -> Iterator[str]:
    """Notes on one layer."""
    yield from _declarations(data)
    yield from data.notes
    if (note := two_valued(name, data)) is not None:
        yield note


def out_of_scope(report: Report) -> str:
    """Say which operations a report leaves out."""
    return f"{OUT_OF_SCOPE}; {_ELEMENTWISE[report.elementwise]}"


def without_synops(report: Report) -> Iterator[str]:
    """Say which layers the totals of synops leave out."""
    without = [name for name, row in report.layers.items() if row.synops is None]
    if without and report.total.synops is not None:
        yield (
            f"sums of synops (also event and effective) are over the layers that have synops, "
            f"without {', '.join(without)}; other sums are over all layers"
        )


def above_dense(report: Report) -> dict[str, str]:
    """Note on each layer with more ACs than dense MACs: integers are weighted by value."""
    return {
        name: (
            f"more ACs ({si(row.acs)}) than dense MACs ({si(row.dense_macs)}), since an integer of "
            "n counts as n spikes; if the input is not a spike count, such as an image, "
            f"declare Monitor(kinds={{{name!r}: 'analog'}})"
        )
        for name, row in report.layers.items()
        if row.acs > row.dense_macs
    }


def _rules(kinds: Iterable[str], integer_as: str) -> Iterator[str]:
    """Explain how each observed kind is counted."""
    met = {"product" if "*" in kind else kind for kind in kinds}
    for rule, text in RULES.items():
        kind, _, variant = rule.partition(", ")
        if kind in met and variant in ("", integer_as):
            yield text


def two_valued(name: str, data: LayerData) -> str | None:
    """Note that undeclared analog input held only zero and one other value.

    On an accelerator the first input may have held unscaled spikes.
    """
    level = data.level
    if not level or is_count(level, torch.float64) or epoch_kind(data) != InputKind.ANALOG.label:
        return None
    if data.is_scaled or data.declared_kind is not None:
        return None
    return (
        f"analog input that held only 0 and one other value, at most {level:g}, in each call "
        f"examined; if these are spikes times a factor, declare "
        f"input_scale={{{name!r}: {level:g}}}, a factor per channel, or a function"
    )


def declared_scale(data: LayerData) -> str | None:
    """Say how the declared factor relates input and spike counts."""
    if data.scale_by is not None:
        factor = {"channel": "a factor per channel", "batch": "a factor given at each batch"}
        return f"input declared: {factor[data.scale_by]} x a spike count"
    if data.input_scale is not None:
        return f"input declared: {data.input_scale:g} x a spike count"
    return None


def _declarations(data: LayerData) -> Iterator[str]:
    if data.declared_kind is not None:
        yield f"kind declared: {data.declared_kind}"
    if (scale := declared_scale(data)) is not None:
        yield scale


def _spread_record(row: SynopsRow) -> dict[str, float | None]:
    found = spread_figures(row)
    return {f"synops_{figure}": found.get(figure) for figure in SPREAD}


def _record(row: Row, figures: Sequence[str]) -> dict[str, Any]:
    return {figure: getattr(row, figure) for figure in figures}


def _group_sheet(report: Report) -> Sheet:
    rows = [
        _record(row, GROUP_FIGURES) | {"layers": " ".join(row.layers)} | _spread_record(row)
        for row in report.groups.values()
    ]
    return sheet_of((*GROUP_FIGURES, *(f"synops_{figure}" for figure in SPREAD)), rows)


def _layer_sheet(report: Report) -> Sheet:
    counts = report.counts()
    rows = [
        _record(row, LAYER_FIGURES)
        | _spread_record(row)
        | {f"{key}_sum": value for key, value in counts[name].items()}
        for name, row in report.layers.items()
    ]
    totals = (f"{key}_sum" for key in (*COUNTS, "acs", "macs"))
    return sheet_of((*LAYER_FIGURES, *(f"synops_{figure}" for figure in SPREAD), *totals), rows)


def _neuron_sheet(report: Report) -> Sheet:
    rows = [
        _record(row, NEURON_FIGURES)
        | {f"{key}_sum": getattr(report.neurons_data[name], key) for key in NEURON_TOTALS}
        for name, row in report.neurons.items()
    ]
    return sheet_of((*NEURON_FIGURES, *(f"{key}_sum" for key in NEURON_TOTALS)), rows)


def _has_steps(report: Report) -> bool:
    """Whether figures per time step were kept."""
    spikes = any(data.curves for data in report.neurons_data.values())
    return bool(report.curves) or spikes


def _step_sheet(report: Report) -> Sheet:
    """One line per figure, row and time step (counted from 1)."""
    sources: list[tuple[str, str, Mapping[str, Curve], float]] = [
        *((name, "layer", data.curves, 1.0) for name, data in report.layers_data.items()),
        *((name, "group", data.curves, 1.0) for name, data in report.groups_data.items()),
        ("total", "total", report.curves, 1.0),
        *(
            (name, "neurons", data.curves, data.neurons * (report.step_seconds or 1.0))
            for name, data in report.neurons_data.items()
        ),
    ]
    rows = []
    for name, what, curves, unit in sources:
        for figure, curve in curves.items():
            shown = "firing_rate" if figure == "spikes" else figure
            columns = (curve.samples, curve.mean / unit, curve.std / unit, curve.max / unit)
            lines = zip(*(column.tolist() for column in columns), strict=True)
            for step, (samples, *spread) in enumerate(lines, 1):
                rows.append((name, what, shown, step, int(samples), *spread))
    return Sheet(STEP_FIGURES, tuple(rows))


def _core_sheet(report: Report) -> Sheet:
    """One line per core."""
    figures = ("mean", "max", "peak_step", "p99")
    titles = (
        "name",
        "layers",
        *HELD,
        *(f"{load}_{figure}" for load in LOADS for figure in figures),
    )
    rows = tuple(
        (
            row.name,
            ", ".join(row.layers),
            *(getattr(row, what) for what in HELD),
            *(
                None if getattr(row, load) is None else getattr(getattr(row, load), figure)
                for load in LOADS
                for figure in figures
            ),
        )
        for row in report.cores.values()
    )
    return Sheet(titles, rows)


def scalars(
    report: Report, prefix: str, figures: Collection[str] | None = None
) -> dict[str, float]:
    """Figures that change between epochs, as a flat dict; the main, all or the requested ones."""
    kept = chosen_scalars(figures)
    rows: list[tuple[str, Row, tuple[str, ...]]] = [
        *((_key(name), row, ("vectors", *SUM_SCALARS)) for name, row in report.layers.items()),
        *((_key(name), row, SUM_SCALARS) for name, row in report.groups.items()),
        *((_key(name), row, NEURON_SCALARS) for name, row in report.neurons.items()),
        ("total", report.total, SUM_SCALARS),
    ]
    if report.neurons:
        rows.append(("total", report.total, NEURON_SCALARS[1:]))
    found: dict[str, float] = {}
    for name, row, shown in rows:
        values = _record(row, shown)
        if isinstance(row, SynopsRow):
            values |= _spread_record(row)
        for figure, value in values.items():
            if value is not None and figure in kept:
                found[f"{prefix}{name}/{figure}"] = float(value)
    return found


def chosen_scalars(figures: Collection[str] | None, argument: str = "figures") -> frozenset[str]:
    """Names of the requested figures: the main ones for None, all of them for ``"all"``.

    Raises:
        TypeError: If it is another string, whose letters would be taken for names, or not a
            collection.
        ValueError: If a name is not one of ``SCALARS``.
    """
    if figures is None:
        return frozenset(MAIN_SCALARS)
    if isinstance(figures, str) and figures == "all":
        return frozenset(SCALARS)
    if isinstance(figures, str) or not isinstance(figures, Collection):
        raise TypeError(f"{argument}: expected several names or 'all', found {figures!r:.100}")
    if unknown := [name for name in figures if name not in SCALARS]:
        raise ValueError(
            f"{argument}: expected some of {', '.join(SCALARS)}, found {unknown!r:.100}"
        )
    return frozenset(figures)


def _key(name: str) -> str:
    """Rename a row called ``total``, which would collide with the total of the model.

    Example:
        >>> _key("fc"), _key("total"), _key("total_layer")
        ('fc', 'total_layer', 'total_layer_layer')
    """
    return f"{name}_layer" if re.fullmatch("total(_layer)*", name) else name
