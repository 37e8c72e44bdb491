"""Round trips are exact, and what is no report is refused with a ValueError and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnmetrics.report import NeuronData, NeuronKey, Report
from snnmetrics.report import json as report_json
from snnmetrics.report.distribution import BINS
from tests.report.made import full_report, layer, report, reports

few = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
many = settings(few, max_examples=300)


@few
@given(reports)
def test_json_and_dict_round_trips_are_exact(made: Report) -> None:
    assert Report.from_dict(made.to_dict()) == made
    again = Report.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()  # also the types: 3 is not 3.0
    assert list(again.layers_data) == list(made.layers_data)


@few
@given(reports)
def test_whatever_is_read_can_be_shown(made: Report) -> None:
    for text in (str(made), made.to_markdown(), made.to_latex(), made._repr_html_()):
        assert text
    assert made.compare(made).to_csv()
    made.scalars()


def test_large_integers_and_float64_maps_survive() -> None:
    made = full_report()
    again = Report.from_json(made.to_json(indent=2).encode())
    assert again == made
    assert again.counts() == made.counts()
    map_ = again.layers_data["block.conv"].synops_per_neuron
    assert map_ is not None
    assert map_.dtype == torch.float64
    huge = report(
        {"fc": layer(synops_per_neuron=torch.full((4,), 1e300, dtype=torch.float64))},
        samples=2**200,
    )
    assert Report.from_json(huge.to_json()) == huge
    assert huge.layers["fc"].synops == pytest.approx(15 / 2**200)
    assert "e+" in str(Report.from_json(report(parameters=2**200).to_json()))


def test_maps_may_be_written_as_integers() -> None:
    made = Report.from_dict(edited(MAP, {"shape": [4], "values": [3, 2**70, 0, 1]}))
    map_ = made.layers_data["block.conv"].synops_per_neuron
    assert map_ is not None
    assert map_.tolist() == [3.0, 2.0**70, 0.0, 1.0]


@pytest.mark.parametrize("value", [2**70, 2**1000, 3])
def test_factors_may_be_written_as_integers(value: int) -> None:
    """Also those beyond the integers of tensors."""
    data = full_report().to_dict() | {"dt": value, "seconds": value}
    data["layers"]["block.conv"]["input_scale"] = value
    made = Report.from_dict(data)
    shown = (made.dt, made.seconds, made.layers_data["block.conv"].input_scale)
    assert shown == (value, value, value)
    rate = full_report().neurons["lif"]
    assert made.neurons["lif"].firing_rate == pytest.approx(rate.firing_rate * 0.001 / value)
    assert made.neurons["lif"].firing_rate_per_neuron is None
    map_ = torch.ones(10, dtype=torch.float64).tolist()
    data["neurons"]["lif"]["spikes_per_neuron"] = {"shape": [10], "values": map_}
    per_neuron = Report.from_dict(data).neurons["lif"].firing_rate_per_neuron
    assert per_neuron.tolist() == pytest.approx([1 / 40 / value] * 10, abs=0)  # type: ignore[union-attr]


def test_the_json_names_its_format() -> None:
    data = json.loads(full_report().to_json())
    assert (data["format"], data["version"]) == ("snnmetrics.Report", 6)


def test_reports_without_the_events_of_right_operands_are_read() -> None:
    """Of version 5: what is not known of their products is 0, and any other mistake is named."""
    made = report({"fc": layer()})
    data = json.loads(made.to_json())
    counts = data["layers"]["fc"]["counts"]["binary"]
    del counts["right_elements"], counts["right_events"]
    with pytest.raises(ValueError, match=r"fc.counts.binary.right_elements: expected .*nothing"):
        Report.from_dict(data)
    assert Report.from_dict(data | {"version": 5}) == made
    for wrong, message in (({"fc": {"counts": 3}}, "fc"), (3, "layers: expected an object")):
        with pytest.raises(ValueError, match=message):
            Report.from_dict(data | {"version": 5, "layers": wrong})


def test_right_events_are_among_right_elements() -> None:
    data = json.loads(report({"fc": layer()}).to_json())
    data["layers"]["fc"]["counts"]["binary"] |= {"right_elements": 3, "right_events": 4}
    with pytest.raises(ValueError, match=r"expected at most right_elements \(3\), found 4"):
        Report.from_dict(data)


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report(dt=float("nan")).to_json()


def edited(path: str, value: Any) -> dict[str, Any]:
    """The full report with one entry set; a value of ``...`` removes it."""
    data = full_report().to_dict()
    *parents, last = path.split("/")
    place: Any = data
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


COUNTS = "layers/fc/counts/binary"
SPREAD = "layers/fc/per_sample"
IDLE = {"layers": [], "per_sample": None, "per_second": None, "curves": {}}
MAP = "layers/block.conv/synops_per_neuron"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{COUNTS}/events", -3, "layers.fc.counts.binary.events: expected a non-negative integer"),
        (f"{COUNTS}/events", 3.0, "expected a non-negative integer, found 3.0"),
        (f"{COUNTS}/events", True, "expected a non-negative integer, found True"),
        (f"{COUNTS}/events", "3", "expected a non-negative integer, found '3'"),
        (f"{COUNTS}/events", 9, r"binary.events: expected at most elements \(8\), found 9"),
        (f"{COUNTS}/event_synops", 25, r"event_synops: expected at most dense_synops \(24\)"),
        (f"{COUNTS}/effective_synops", 10, r"effective_synops: expected at most event_synops"),
        (f"{COUNTS}/calls", ..., "layers.fc.counts.binary.calls: .* found nothing"),
        (f"{COUNTS}/extra", 1, "layers.fc.counts.binary.extra: unknown"),
        (f"{COUNTS}/synops", -0.5, "synops: expected a finite, non-negative number, found -0.5"),
        (f"{COUNTS}/synops", float("nan"), "expected a finite, non-negative number, found nan"),
        (f"{COUNTS}/synops", float("inf"), "expected a finite, non-negative number, found inf"),
        (f"{COUNTS}/synops", 2**1001, "expected a finite, non-negative number"),
        (COUNTS, [], r"layers.fc.counts.binary: expected an object, found \[\]"),
        ("layers/fc/counts/spiky", {}, "layers.fc.counts.spiky.calls: .* found nothing"),
        ("layers/fc/counts", [], "layers.fc.counts: expected an object"),
        ("layers/fc/declared_kind", "spiky", "declared_kind: expected one of binary, .* 'spiky'"),
        ("layers/fc/declared_kind", "binary*analog", "expected the kind of one input"),
        ("layers/fc/input_scale", 0, "input_scale: expected a positive number, found 0"),
        ("layers/fc/notes", "text", "layers.fc.notes: expected a list, found 'text'"),
        ("layers/fc/notes", [1], r"layers.fc.notes\[0\]: expected text, found 1"),
        ("layers/fc/operation", None, "layers.fc.operation: expected an object, found None"),
        ("layers/fc/operation/bias", 1, "operation.bias: expected true or false, found 1"),
        ("layers/fc/operation/input_shape", [4, -1], r"input_shape\[1\]: expected a non-neg"),
        ("layers/fc/operation/input_shape", None, "input_shape: expected a list, found None"),
        ("layers/fc/operation/stride", [1] * 33, "stride: expected at most 32 entries, found 33"),
        (f"{MAP}/shape", [5], r"synops_per_neuron: expected as many values .* \[5\] has, found 4"),
        (MAP, {"shape": [2**40, 2**40, 0], "values": []}, "expected as many values"),
        (f"{MAP}/values", [0.0, 0.0, 0.0, -1.0], r"values\[3\]: expected a finite, non-negative"),
        (f"{MAP}/values", [0.0, 0.0, 0.0, None], r"values\[3\]: expected a finite, non-negative"),
        (f"{MAP}/values", 1, "values: expected a list, found 1"),
        ("neurons/lif/silent", 11, r"neurons.lif.silent: expected at most neurons \(10\)"),
        ("neurons/lif/saturated", 11, "neurons.lif.saturated: expected at most neurons"),
        ("neurons/lif/events", 401, "neurons.lif.events: expected at most elements"),
        ("neurons/lif/type", None, "neurons.lif.type: expected text, found None"),
        ("uncounted/0/calls", -1, r"uncounted\[0\].calls: expected a non-negative integer"),
        ("uncounted/0/why", "", r"uncounted\[0\].why: unknown"),
        ("samples", None, "samples: expected a non-negative integer, found None"),
        ("steps", -1, "steps: expected a finite, non-negative number, found -1"),
        (f"{SPREAD}/samples", 1, "fc.per_sample.histogram: expected at most all samples"),
        (f"{SPREAD}/samples", ..., "layers.fc.per_sample.samples: .* found nothing"),
        (f"{SPREAD}/total", -1, "per_sample.total: expected a finite, non-negative number"),
        (f"{SPREAD}/squares", float("inf"), "per_sample.squares: expected a finite"),
        (f"{SPREAD}/largest", None, "per_sample.largest: expected a finite"),
        (f"{SPREAD}/peak_step", "3", "per_sample.peak_step: expected a finite"),
        (f"{SPREAD}/median", 3, "layers.fc.per_sample.median: unknown"),
        (f"{SPREAD}/histogram", {}, "per_sample.histogram: expected a list"),
        (f"{SPREAD}/histogram", [[7]], "per_sample.histogram: expected pairs of a bin"),
        (f"{SPREAD}/histogram", [[8, 1], [7, 1]], "histogram: .* in the order of the bins"),
        (f"{SPREAD}/histogram", [[7, 1], [7, 1]], "histogram: .* in the order of the bins"),
        (f"{SPREAD}/histogram", [[0, 1]], f"histogram: expected bins from 1 to {BINS - 1}"),
        (f"{SPREAD}/histogram", [[BINS, 1]], f"histogram: expected bins from 1 to {BINS - 1}"),
        (f"{SPREAD}/histogram", [[7, 0.5]], r"histogram\[0\]\[1\]: expected a non-negative int"),
        (f"{SPREAD}/histogram", [[1, 0]] * (BINS + 1), f"expected at most {BINS} entries"),
        ("per_second", 3, "per_second: expected an object, found 3"),
        ("groups/core/layers", ["fc", 1], r"groups.core.layers\[1\]: expected text, found 1"),
        ("groups/core/name", "core", "groups.core.name: unknown"),
        ("groups", [], "groups: expected an object"),
        ("groups", {"fc": IDLE}, "groups: expected names that no layer has, found 'fc'"),
        ("groups", {"total": IDLE}, "groups: expected names that no layer has, found 'total'"),
        ("seconds", 0, "seconds: expected a positive number, found 0"),
        ("seconds", -1.0, "seconds: expected a finite, non-negative number, found -1.0"),
        ("samples", 0, "seconds: expected null without samples, found 0.04"),
        ("dt", 0.0, "dt: expected a positive number, found 0.0"),
        ("integer_as", "ops", "integer_as: expected one of acs, macs, found 'ops'"),
        ("model", "\ud800", "model: expected text without lone surrogates"),
        ("version", 1, "version: expected a number from 4 to 6, found 1"),
        ("version", True, "version: expected a number from 4 to 6, found True"),
        ("format", "nir", "format: expected 'snnmetrics.Report', found 'nir'"),
        ("format", ..., "format: expected 'snnmetrics.Report', found None"),
        ("extra", 1, "extra: unknown, expected one of model, samples"),
    ],
)
def test_errors_name_the_place(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Report.from_dict(edited(path, value))


CONV = "layers/conv/operation"
FACTS = {
    "operation": "conv2d",
    "input_shape": [1, 4, 4],
    "output_shape": [2, 2, 2],
    "weight_shape": [2, 1, 3, 3],
    "stride": [1, 1],
    "padding": [0, 0],
    "dilation": [1, 1],
    "groups": 1,
    "padding_mode": "zeros",
}


def with_convolution(path: str, value: Any) -> dict[str, Any]:
    """A report with a convolution and a map of its neurons, with one entry set."""
    map_ = torch.zeros(2, 2, 2, dtype=torch.float64)
    key = NeuronKey("lif", (2, 2, 2))
    lif = NeuronData("Leaky", 8, 16, 0, 0, 8, 0, spikes_per_neuron=map_, key=key)
    data = report({"conv": layer()}, steps=1, neurons_data={"lif": lif}).to_dict()
    data["layers"]["conv"]["operation"] |= FACTS
    place: Any = data
    *parents, last = path.split("/")
    for name in parents:
        place = place[name]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{CONV}/groups", 0, "conv.operation.groups: expected a positive integer, found 0"),
        (f"{CONV}/stride", [0, 1], r"conv.operation.stride\[0\]: expected a positive integer"),
        (f"{CONV}/dilation", [1, 0], r"dilation\[1\]: expected a positive integer, found 0"),
        (f"{CONV}/stride", [1], "operation.stride: expected 2 entries, as of a conv2d"),
        (f"{CONV}/padding", None, "operation.padding: expected 2 entries, as of a conv2d"),
        (f"{CONV}/weight_shape", [2, 1, 3], "weight_shape: expected 4 entries, as of a conv2d"),
        (f"{CONV}/output_shape", [8], "output_shape: expected 3 entries, as of a conv2d"),
        (f"{CONV}/operation", "linear", "stride: expected null, since it is not a convolution"),
        (f"{CONV}/operation", "conv1d", "stride: expected 1 entries, as of a conv1d"),
        (f"{CONV}/padding_mode", "mirror", "padding_mode: expected one of zeros, .* 'mirror'"),
        ("steps", 0.1, "steps: expected a whole number of steps in 2 samples, found 0.1"),
        ("dt", 1e-310, r"dt: expected a number of at least 2\*\*-1000"),
        ("layers/conv/input_scale", 1e-310, r"input_scale: expected a number of at least"),
        (
            "layers/conv/synops_per_neuron",
            {"shape": [3], "values": [1.0] * 3},
            r"conv.synops_per_neuron: expected a map of shape \[1, 4, 4\], found \[3\]",
        ),
        (
            "neurons/lif/spikes_per_neuron",
            {"shape": [3], "values": [1.0] * 3},
            r"lif.spikes_per_neuron: expected a map of shape \[2, 2, 2\], found \[3\]",
        ),
        ("neurons/lif/key/shape", [3], r"lif.key.shape: expected a shape of 8 neurons"),
    ],
)
def test_facts_that_no_report_can_hold_are_refused(path: str, value: Any, message: str) -> None:
    assert Report.from_dict(with_convolution("model", "Net")).model == "Net"
    with pytest.raises(ValueError, match=message):
        Report.from_dict(with_convolution(path, value))


def test_a_map_without_a_key_has_as_many_entries_as_neurons() -> None:
    data = with_convolution("neurons/lif/key", None)
    assert Report.from_dict(data).neurons["lif"].neurons == 8
    data["neurons"]["lif"]["spikes_per_neuron"] = {"shape": [3], "values": [1.0] * 3}
    with pytest.raises(ValueError, match=r"lif.spikes_per_neuron: expected a map of 8 neurons"):
        Report.from_dict(data)


@pytest.mark.parametrize(("all_steps", "samples"), [(1, 3), (2**53 - 1, 7), (10, 4), (0, 5)])
def test_a_mean_of_steps_that_vary_is_read(all_steps: int, samples: int) -> None:
    made = report(samples=samples, steps=all_steps / samples)
    assert Report.from_json(made.to_json()).steps == all_steps / samples


def test_kinds_that_do_not_exist_or_do_not_go_together_are_refused() -> None:
    counts = full_report().to_dict()["layers"]["fc"]["counts"]["binary"]
    with pytest.raises(ValueError, match=r"layers.fc.counts: name: expected one of binary"):
        Report.from_dict(edited("layers/fc/counts/spiky", counts))
    with pytest.raises(ValueError, match=r"layers.fc.counts: expected kinds either of one input"):
        Report.from_dict(edited("layers/fc/counts/binary*binary", counts))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "report: expected JSON, found other text: Expecting value"),
        ("null", "report: expected an object, found None"),
        ("[" * 100_000, "too deep a nesting"),
        ('{"a":' * 100_000, "too deep a nesting"),
        ('{"format": NaN}', "report: expected finite numbers, found NaN"),
        ('{"samples": 1, "samples": 2}', "each name once in an object, found samples again"),
        ("1" * 5000, "digits|expected an object"),
        (b"\xff\xfe\xff", "codec can't decode"),
        (b'{"\xed\xa0\x80": 1}', "lone surrogates"),
    ],
    ids=range(9),
)
def test_text_that_is_no_report_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Report.from_json(text)


def test_infinity_spelled_as_a_large_number_is_refused() -> None:
    text = full_report().to_json().replace('"dt": 0.001', '"dt": 1e999')
    with pytest.raises(ValueError, match="dt: expected a finite, non-negative number, found inf"):
        Report.from_json(text)


def test_text_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    text = full_report().to_json()
    monkeypatch.setattr(report_json, "MAX_TEXT", len(text))
    assert Report.from_json(text) == full_report()
    with pytest.raises(ValueError, match=f"at most {len(text)} characters, found {len(text) + 1}"):
        Report.from_json(text + " ")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="text: expected str or bytes, found dict"):
        Report.from_json({})  # type: ignore[arg-type]


def test_errors_stay_short_and_printable() -> None:
    data = full_report().to_dict()
    data["\x1b[2J" + "x" * 10_000] = 1
    with pytest.raises(ValueError, match="unknown") as caught:
        Report.from_dict(data)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def valid_or_refused(read: Any, source: Any) -> None:
    """Either a ValueError, or a report whose round trip is exact and which can be shown."""
    try:
        made = read(source)
    except ValueError:
        return
    assert Report.from_json(made.to_json()) == made
    assert str(made)
    made.scalars()


@many
@given(st.binary() | st.text())
def test_arbitrary_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whichever is found first
        Report.from_json(text)


VALID = full_report().to_json()


@many
@given(st.data())
def test_damaged_text_is_refused_or_is_a_report(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    stop = data.draw(st.integers(start, min(start + 8, len(VALID))))
    part = data.draw(st.text(max_size=4) | st.sampled_from(["-", "0", "e9", "[", "}", '"', "null"]))
    valid_or_refused(Report.from_json, VALID[:start] + part + VALID[stop:])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, entry in items:
        found.append((*at, key))
        if isinstance(entry, dict | list):
            found += places(entry, (*at, key))
    return found


PLACES = places(json.loads(VALID))
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 2**64, 10**300, 10**309, -1, 0])
    | st.floats()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@many
@given(st.sampled_from(PLACES), anything)
def test_any_entry_replaced_is_refused_or_is_a_report(place: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(json.loads(VALID))
    *parents, last = place
    inner: Any = data
    for key in parents:
        inner = inner[key]
    inner[last] = value
    valid_or_refused(Report.from_dict, data)
    valid_or_refused(Report.from_json, json.dumps(data))


@pytest.mark.parametrize("place", [p for p in PLACES if isinstance(p[-1], str)], ids=str)
def test_no_field_may_be_missing(place: tuple[Any, ...]) -> None:
    data = json.loads(VALID)
    *parents, last = place
    inner: Any = data
    for key in parents:
        inner = inner[key]
    del inner[last]
    names = {"layers", "neurons", "counts", "groups"}
    if parents and parents[-1] in names:  # a layer or a kind fewer is another report
        assert Report.from_dict(data) != full_report()
    else:
        with pytest.raises(ValueError, match=f"{last}: expected .*, found (nothing|None)"):
            Report.from_dict(data)
