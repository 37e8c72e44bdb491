"""Reports made by hand, with numbers that can be checked on paper, and by hypothesis."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st

from snnmetrics.report import (
    KINDS,
    Counts,
    Distribution,
    GroupData,
    LayerData,
    NeuronData,
    Operation,
    Report,
    Uncounted,
)
from snnmetrics.report.data import PADDING_MODES
from snnmetrics.report.distribution import BINS


def operation(name: str = "linear", synapses: int = 12, parameters: int = 15) -> Operation:
    return Operation(
        name, "Linear", (4,), (3,), (3, 4), bias=True, synapses=synapses, parameters=parameters
    )


# Linear(4, 3) on 2 samples; one of the 3 synapses of every neuron has weight zero. Of 8 inputs
# 3 are not zero, with magnitudes 1, 1 and 3: 5 spikes x 3 synapses, 5 spikes x 2 nonzero weights.
COUNTS = Counts(
    calls=1,
    vectors=2,
    elements=8,
    events=3,
    magnitude=5,
    synops=15,
    event_synops=9,
    effective_synops=6,
    effective_magnitude=10,
    dense_synops=24,
    dense_macs=26,
    output_elements=6,
)


def layer(kind: str = "binary", counts: Counts = COUNTS, **kwargs: Any) -> LayerData:
    return LayerData(operation(), {kind: counts}, **kwargs)


def neurons(**changes: Any) -> NeuronData:
    # 10 neurons, 2 samples of 20 steps: 400 outputs, of which 50 are spikes.
    values = {"neurons": 10, "elements": 400, "events": 50, "spikes": 60} | {
        "silent": 2,
        "saturated": 1,
    }
    return NeuronData(type="Leaky", **(values | changes))


def report(layers: dict[str, LayerData] | None = None, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "samples": 2,
        "calls": 1,
        "steps": None,
        "dt": None,
        "layers_data": {"fc": layer()} if layers is None else layers,
        "neurons_data": {},
        "uncounted": (),
    }
    return Report(**(values | changes))


def spread(*values: float, peak_step: float | None = None) -> Distribution:
    """Of these samples; bins are 1/64 octaves from 2**-20 on, and bin 0 holds the zeros."""
    bins = Counter(math.ceil(64 * (math.log2(value) + 20)) for value in values if value)
    squares = sum(value * value for value in values)
    return Distribution(len(values), sum(values), squares, max(values), peak_step, dict(bins))


def full_report() -> Report:
    """With everything that a report can hold."""
    # Of 15 synops one sample has 5, the other 10; each lasts 20 ms. `fc` has twice as many.
    once, twice, of_both, of_all = (
        {
            "per_sample": spread(5 * times, 10 * times, peak_step=3 * times),
            "per_second": spread(250 * times, 500 * times, peak_step=3000 * times),
        }
        for times in (1, 2, 3, 4)
    )
    map_ = torch.tensor([3.0, 0.1, 1 / 3, 2.0**53 + 2])
    layers = {
        "block.conv": layer(
            "integer",
            notes=("dropout was active",),
            input_scale=0.25,
            synops_per_neuron=map_,
            **once,
        ),
        "image": layer("analog", declared_kind="analog"),
        "attn.qk": layer("binary*analog", **once),
        "fc": LayerData(operation(), {"binary": COUNTS, "ternary": COUNTS}, **twice),
    }
    return report(
        layers,
        steps=20,
        dt=0.001,
        neurons_data={"lif": neurons()},
        uncounted=(Uncounted("rnn", "bilinear", "several layers in one kernel", 7),),
        parameters=1234,
        model="Net",
        notes=("bn1 is folded into conv",),
        seconds=0.04,
        groups_data={"core": GroupData(("block.conv", "fc"), **of_both), "idle": GroupData(("x",))},
        **of_all,
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
whole = st.integers(0, 2**60) | st.integers(0, 20)
number = whole | st.floats(0, 1e300)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
optional_shapes = st.none() | shapes
texts = st.lists(names, max_size=2).map(tuple)

other_operations = st.builds(
    Operation,
    names,
    names,
    shapes,
    shapes,
    optional_shapes,
    bias=st.booleans(),
    synapses=whole,
    parameters=whole,
)


@st.composite
def convolutions(draw: st.DrawFn) -> Operation:
    ndim = draw(st.integers(1, 3))

    def sizes(length: int, least: int = 0) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, 5)) for _ in range(length))

    return Operation(
        draw(st.sampled_from(["conv", "conv_transpose"])) + f"{ndim}d",
        draw(names),
        sizes(ndim + 1),
        sizes(ndim + 1),
        sizes(ndim + 2),
        sizes(ndim, 1),
        sizes(ndim),
        sizes(ndim, 1),
        draw(st.integers(1, 5)),
        padding_mode=draw(st.sampled_from(PADDING_MODES)),
    )


operations = other_operations | convolutions()


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    elements = draw(whole)
    events = draw(st.integers(0, elements))
    right_elements = draw(whole)
    ints, figures = [draw(whole) for _ in range(5)], [draw(number) for _ in range(3)]
    event_synops = draw(st.integers(0, ints[2]))
    return Counts(
        calls=ints[0],
        vectors=ints[1],
        elements=elements,
        events=events,
        magnitude=figures[0],
        synops=figures[1],
        event_synops=event_synops,
        effective_synops=draw(st.integers(0, event_synops)),
        effective_magnitude=figures[2],
        dense_synops=ints[2],
        dense_macs=ints[3],
        output_elements=ints[4],
        right_elements=right_elements,
        right_events=draw(st.integers(0, right_elements)),
    )


@st.composite
def maps(draw: st.DrawFn, shape: tuple[int, ...]) -> torch.Tensor:
    size = int(torch.Size(shape).numel())
    values = draw(st.lists(st.floats(0, 1e300), min_size=size, max_size=size))
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    histogram = draw(st.dictionaries(st.integers(1, BINS - 1), whole, max_size=3))
    samples = sum(histogram.values()) + draw(whole)
    figures = [draw(number) for _ in range(3)]
    return Distribution(samples, *figures, draw(st.none() | number), histogram)


@st.composite
def layers(draw: st.DrawFn) -> LayerData:
    single = st.sampled_from(KINDS)
    pair = st.tuples(single, single).map("*".join)
    product, operation = draw(st.booleans()), draw(operations)
    return LayerData(
        operation,
        draw(st.dictionaries(pair if product else single, some_counts(), max_size=3)),
        draw(st.none() | single | (pair if product else single)),
        draw(st.none() | st.floats(1e-300, 1e300)),
        draw(st.none() | maps(operation.input_shape)),
        draw(texts),
        draw(st.none() | distributions()),
        draw(st.none() | distributions()),
    )


groups = st.builds(GroupData, texts, st.none() | distributions(), st.none() | distributions())


@st.composite
def neuron_layers(draw: st.DrawFn) -> NeuronData:
    count, elements = draw(whole), draw(whole)
    return NeuronData(
        draw(names),
        count,
        elements,
        draw(st.integers(0, elements)),
        draw(number),
        draw(st.integers(0, count)),
        draw(st.integers(0, count)),
        additions=draw(st.none() | whole),
        multiplications=draw(st.none() | whole),
    )


def _consistent(made: Report) -> Report:
    """Without samples nothing lasts; what was drawn as the steps are those of all samples.

    No group has the name of a layer.
    """
    taken = {*made.layers_data, "total"}
    groups = {name: data for name, data in made.groups_data.items() if name not in taken}
    made = replace(made, groups_data=groups)
    if not made.samples:
        return replace(made, seconds=None)
    return made if made.steps is None else replace(made, steps=made.steps / made.samples)


reports = st.builds(
    Report,
    samples=whole,
    calls=whole,
    steps=st.none() | whole,
    dt=st.none() | st.floats(1e-300, 1e300),
    layers_data=st.dictionaries(names, layers(), max_size=2),
    neurons_data=st.dictionaries(names, neuron_layers(), max_size=2),
    uncounted=st.lists(st.builds(Uncounted, names, names, names, whole), max_size=2).map(tuple),
    integer_as=st.sampled_from(["acs", "macs"]),
    parameters=whole,
    model=names,
    notes=texts,
    seconds=st.none() | st.floats(1e-300, 1e300),
    groups_data=st.dictionaries(names, groups, max_size=2),
    per_sample=st.none() | distributions(),
    per_second=st.none() | distributions(),
).map(_consistent)
