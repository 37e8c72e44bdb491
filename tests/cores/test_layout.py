"""Layouts: every neuron on one core, channels together, limits held, wrong mappings refused."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import snnmetrics as sm
from snnmetrics.cores.layout import (
    LayerLayout,
    as_cores,
    lay_out,
    mapped_layers,
    require_fit,
    require_names,
)


def laid(cores: Any, layer: str, shape: tuple[int, ...], **kwargs: Any) -> LayerLayout:
    found = as_cores(cores)
    assert found is not None
    layout = lay_out(found, layer, shape, **kwargs)
    assert layout is not None
    return layout


def covered(layout: LayerLayout) -> list[int]:
    return [n for held in layout.ranges for start, stop in held for n in range(start, stop)]


# ---------------------------------------------------------------------------- automatic


def test_whole_channels_go_on_a_core_while_they_fit() -> None:
    layout = laid(sm.Cores(neurons_per_core=10), "conv", (5, 2, 2), first=3)
    assert layout.ranges == (((0, 8),), ((8, 16),), ((16, 20),))
    assert layout.labels == (3, 4, 5)
    assert layout.neurons == (8, 8, 4)


def test_neurons_of_a_linear_layer_are_channels() -> None:
    assert laid(sm.Cores(), "fc", (2500,)).ranges == (
        ((0, 1024),),
        ((1024, 2048),),
        ((2048, 2500),),
    )


def test_a_channel_larger_than_a_core_is_split_over_cores_of_its_own() -> None:
    layout = laid(sm.Cores(neurons_per_core=4), "conv", (2, 6))
    assert layout.ranges == (((0, 4),), ((4, 6),), ((6, 10),), ((10, 12),))


def test_synapses_limit_a_core_as_neurons_do() -> None:
    synapses = torch.tensor([[3, 3], [2, 2], [9, 1], [1, 1]], dtype=torch.float64)
    layout = laid(sm.Cores(100, synapses_per_core=10), "conv", (4, 2), synapses=synapses)
    assert layout.ranges == (((0, 4),), ((4, 6),), ((6, 8),))


def test_a_channel_with_more_synapses_than_a_core_is_split() -> None:
    synapses = torch.tensor([[1, 1, 1], [6, 5, 4], [1, 1, 1]], dtype=torch.float64)
    layout = laid(sm.Cores(100, synapses_per_core=10), "conv", (3, 3), synapses=synapses)
    assert layout.ranges == (((0, 3),), ((3, 4),), ((4, 6),), ((6, 9),))


def test_a_neuron_with_more_synapses_than_a_core_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 12, the synapses of neuron 1 of 'fc', found 10"):
        laid(sm.Cores(synapses_per_core=10), "fc", (2,), synapses=torch.tensor([3.0, 12.0]))
    with pytest.raises(ValueError, match="synapses: expected the synapses of each neuron"):
        laid(sm.Cores(synapses_per_core=10), "fc", (2,))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(1, 16),
    st.none() | st.integers(9, 40),
    st.integers(0, 2**31),
)
def test_every_neuron_is_on_one_core_and_limits_are_held(
    channels: int, positions: int, most: int, limit: int | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    synapses = torch.randint(0, 10, (channels, positions), generator=generator).double()
    layout = laid(sm.Cores(most, limit), "conv", (channels, positions), synapses=synapses)
    assert covered(layout) == list(range(channels * positions))
    totals = [float(synapses.reshape(-1)[a:b].sum()) for ((a, b),) in layout.ranges]
    assert all(count <= most for count in layout.neurons)
    assert limit is None or all(total <= limit for total in totals)
    for (a, b), (_, after) in itertools.pairwise([held[0] for held in layout.ranges]):
        # A core ends at the border of a channel, or is full.
        room = limit is None or float(synapses.reshape(-1)[a : b + 1].sum()) <= limit
        assert b % positions == 0 or b - a == most or not room
        # Channels that stay whole stay together while there is room.
        both = limit is None or float(synapses.reshape(-1)[a:after].sum()) <= limit
        whole = a % positions == b % positions == after % positions == 0
        assert not (whole and after - a <= most and both)


# ---------------------------------------------------------------------------- mapping


def test_a_number_of_cores_splits_channels_evenly() -> None:
    cores = {"conv": 4, "fc": 1}
    assert laid(cores, "conv", (10, 2)).neurons == (6, 6, 4, 4)
    assert laid(cores, "conv", (10, 2), first=7).labels == (0, 1, 2, 3)
    assert laid(cores, "fc", (10,)) == LayerLayout((10,), (4,), (((0, 10),),))


def test_more_cores_than_channels_split_positions_evenly() -> None:
    layout = laid({"conv": 4}, "conv", (3, 3))
    assert layout.ranges == (((0, 3),), ((3, 5),), ((5, 7),), ((7, 9),))


def test_more_cores_than_neurons_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 9 cores for 'conv', one per neuron, found 10"):
        laid({"conv": 10}, "conv", (3, 3))


def test_layers_without_an_entry_lie_on_no_core() -> None:
    assert lay_out(sm.Cores(mapping={"fc": 1}), "conv", (2, 2)) is None
    assert lay_out(sm.Cores(mapping={"a": {"fc": [0]}}), "conv", (2, 2)) is None


def test_an_own_mapping_takes_slices_ranges_and_lists() -> None:
    cores = {
        "a": {"conv": slice(0, 2), "fc": slice(None)},
        "b": {"conv": range(4, 6)},
        "c": {"conv": [6, 2, 3]},
    }
    layout = laid(cores, "conv", (7, 2))
    assert layout == LayerLayout(
        (7, 2), ("a", "b", "c"), (((0, 4),), ((8, 12),), ((4, 8), (12, 14)))
    )
    assert laid(cores, "fc", (3,)) == LayerLayout((3,), ("a",), (((0, 3),),))


def test_slices_of_an_own_mapping_mean_what_they_do_in_python() -> None:
    cores = {"even": {"fc": slice(0, None, 2)}, "odd": {"fc": slice(-3, None, 2)}}
    layout = laid(cores, "fc", (4,))
    assert layout.ranges == (((0, 1), (2, 3)), ((1, 2), (3, 4)))


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (
            {"a": slice(0, 2)},
            r"every channel of 'conv' \(0 to 11\) on one core, found none for 2, 3",
        ),
        ({"a": slice(0, 3)}, "found none for 3, 4, 5, 6, 7, 8, 9, 10 and 1 more"),
        ({"a": slice(0, 8), "b": slice(6, 12)}, "found 6, 7 on several: channel 6 is on 'a', 'b'"),
        ({"a": slice(0, 13)}, "'conv' on core 'a' within 0 to 11, found slice"),
        ({"a": [3, 12]}, "within 0 to 11, found 12"),
        ({"a": [-1]}, "within 0 to 11, found -1"),
        ({"a": slice(3, 3)}, "expected channels of 'conv' on core 'a', found none"),
    ],
)
def test_channels_that_are_missing_double_or_out_of_range(
    channels: dict[str, Any], message: str
) -> None:
    cores = {core: {"conv": held} for core, held in channels.items()}
    with pytest.raises(ValueError, match=message):
        laid(cores, "conv", (12, 2))


# ---------------------------------------------------------------------------- arguments


def test_cores_of_an_argument() -> None:
    cores = sm.Cores(mapping={"fc": 2})
    assert as_cores(cores) is cores
    assert as_cores(None) is None
    found = as_cores({"fc": 2})
    assert found is not None
    assert (found.neurons_per_core, found.synapses_per_core) == (None, None)
    assert sm.Cores().neurons_per_core == 1024
    assert sm.Cores(seconds_per_event=1).seconds_per_event == 1.0


def test_a_mapping_is_copied_and_cores_are_frozen() -> None:
    mapping = {"a": {"fc": [0, 1]}}
    cores = sm.Cores(mapping=mapping)
    mapping["a"]["fc"].append(7)
    assert cores.mapping == {"a": {"fc": (0, 1)}}
    with pytest.raises(dataclasses.FrozenInstanceError):
        cores.neurons_per_core = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(cores)).mapping == cores.mapping


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"neurons_per_core": 0},
            ValueError,
            "neurons_per_core: expected an integer >= 1, found 0",
        ),
        ({"neurons_per_core": 2.0}, TypeError, "neurons_per_core: expected an integer, found 2.0"),
        ({"synapses_per_core": True}, TypeError, "synapses_per_core: .* found True"),
        ({"seconds_per_synop": -1.0}, ValueError, "seconds_per_synop: expected a positive"),
        ({"seconds_per_update": "1"}, TypeError, "seconds_per_update: expected a positive number"),
        ({"mapping": []}, TypeError, "expected a dict as mapping, found \\[\\]"),
        ({"mapping": {}}, ValueError, "a mapping with an entry, found an empty one"),
        ({"mapping": {0: 1}}, TypeError, "names of layers or cores as keys, found 0"),
        ({"mapping": {"fc": 0}}, ValueError, r"cores\['fc'\]: expected an integer >= 1, found 0"),
        ({"mapping": {"fc": "2"}}, TypeError, r"cores\['fc'\]: expected an integer, found '2'"),
        ({"mapping": {"fc": 2, "a": {"fc": [0]}}}, ValueError, "found both in"),
        ({"mapping": {"a": {}}}, ValueError, "expected layers on core 'a', found none"),
        ({"mapping": {"a": {1: [0]}}}, TypeError, "names of layers on core 'a', found 1"),
        ({"mapping": {"a": {"fc": 3}}}, TypeError, "for 'fc' on core 'a', found 3"),
        ({"mapping": {"a": {"fc": "01"}}}, TypeError, "for 'fc' on core 'a', found '01'"),
        ({"mapping": {"a": {"fc": [0.0]}}}, TypeError, "slice, range or list .* found \\[0.0\\]"),
        ({"mapping": {"a": {"fc": [2, 0, 2]}}}, ValueError, "each once, found 2 several times"),
        ({"mapping": {"a": {"fc": slice(0, 1.5)}}}, ValueError, "found slice"),
        ({"mapping": {"a": {"fc": slice(0, 4, 0)}}}, ValueError, "found slice"),
    ],
)
def test_arguments_that_make_no_cores(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sm.Cores(**arguments)


def test_an_argument_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="cores: expected Cores or a dict, found 4"):
        as_cores(4)


def test_layers_that_a_network_does_not_have() -> None:
    cores = sm.Cores(mapping={"conv1": 2, "fc": 1})
    assert mapped_layers(cores) == ("conv1", "fc")
    assert mapped_layers(sm.Cores()) is None
    require_names(cores, ["fc", "conv1", "conv2"])
    require_names(sm.Cores(), [])
    with pytest.raises(ValueError, match=r"found 'conv1'; did you mean 'conv2'\?"):
        require_names(cores, ["fc", "conv2"])


# ------------------------------------------------------------------------------- limits


def test_limits_hold_for_all_layers_on_a_core_together() -> None:
    mapping = {"a": {"conv": slice(0, 2), "fc": slice(0, 1)}, "b": {"fc": slice(1, 3)}}
    cores = sm.Cores(5, 50, mapping=mapping)
    conv, fc = laid(cores, "conv", (2, 2)), laid(cores, "fc", (3,))
    require_fit(cores, {"conv": (conv, [40]), "fc": (fc, torch.tensor([10.0, 20.0]))})
    with pytest.raises(ValueError, match="synapses_per_core: expected at most 50 synapses") as info:
        require_fit(cores, {"conv": (conv, [40]), "fc": (fc, [11, 51])})
    assert "found more on 2 cores; core 'a' has 51 (conv: 40, fc: 11)" in str(info.value)
    smaller = dataclasses.replace(cores, neurons_per_core=4)
    with pytest.raises(ValueError, match=r"neurons_per_core: .* on 1 core; core 'a' has 5"):
        require_fit(smaller, {"conv": (conv, [40]), "fc": (fc, [10, 20])})
    require_fit(sm.Cores(mapping=mapping), {"conv": (conv, [1e9]), "fc": (fc, [1, 1])})
