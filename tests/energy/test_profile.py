"""Constants carry their provenance, and what would count twice is refused."""

from __future__ import annotations

from typing import Any

import pytest

from snnmetrics.energy import Constant, EnergyProfile, energy_of, energy_profiles
from snnmetrics.text import joules
from tests.energy.made import close

PJ = 1e-12
TERM = Constant(1 * PJ, "A paper", 2020)
ALL_IN = Constant(26 * PJ, "Another paper", 2014, all_in=True)
UNCLEAR = Constant(26 * PJ, "Another paper", 2014, all_in=None)

# Horowitz 2014, 45 nm: addition, multiplication.
HOROWITZ = {"fp32": (0.9, 3.7), "fp16": (0.4, 1.1), "int8": (0.03, 0.2), "int32": (0.1, 3.1)}
MACS = {"fp32": 4.6, "fp16": 1.5, "int8": 0.23, "int32": 3.2}
# keras-spiking's table of devices: joules per synaptic operation, per neuron update, event-driven.
KERAS_SPIKING = {
    "cpu-i7-4960x": (8.6e-9, 8.6e-9, False),
    "gpu-titan-black": (0.3e-9, 0.3e-9, False),
    "arm-cortex-a": (0.9e-9, 0.9e-9, False),
    "loihi": ((23.6 + 3.5) * 1e-12, 81e-12, True),
    "spinnaker": (13.3e-9, 26e-9, True),
    "spinnaker2-prototype": (450e-12, 2.19e-9, True),
}

# Tang et al. 2023, Table 3: pJ per synaptic operation.
TANG = {
    "odin": 12.7,
    "reckon": 5.3,
    "mubrain": 26,
    "truenorth": 2.5,
    "tianjic": 1.54,
    "neuronflow": 20,
    "loihi": 23.6,
    "spinnaker": 45,
    "spinnaker2": 10,
    "seneca": 2.8,
}
LOIHI_EVENTS = {
    "synop_dense": 35.5,
    "synop_sparse": 33.6,
    "synop_convolution": 24.0,
    "neuron_access": 51.2,
    "neuron_update": 21.6,
    "spike_out": 69.3,
    "axon_out": 111.0,
    "hop": 4.2,
}


@pytest.mark.parametrize("dtype", HOROWITZ)
def test_horowitz(dtype: str) -> None:
    profile = energy_profiles()[f"horowitz-45nm-{dtype}"]
    add, multiply = HOROWITZ[dtype]
    found = {price: constant.joules / PJ for price, constant in profile.constants.items()}
    assert found == close(
        {"ac": add, "mac": MACS[dtype], "addition": add, "multiplication": multiply}
    )
    for constant in profile.constants.values():
        assert (constant.year, constant.node, constant.voltage) == (2014, "45 nm", 0.9)


@pytest.mark.parametrize("name", KERAS_SPIKING)
def test_devices_of_keras_spiking(name: str) -> None:
    profile = energy_profiles()[name]
    synop, update, event_driven = KERAS_SPIKING[name]
    found = {price: constant.joules for price, constant in profile.constants.items()}
    assert found == close({"synop": synop, "neuron_update": update})
    assert profile.event_driven is event_driven
    assert all(c.via and "keras-spiking" in c.via for c in profile.constants.values())


def test_other_chips() -> None:
    profiles = energy_profiles()
    assert profiles["truenorth"].constants["synop"].joules == close(26 * PJ)
    assert profiles["truenorth"].constants["synop"].all_in is True
    assert profiles["odin"].constants["synop"].joules == close(12.7 * PJ)
    assert profiles["sne"].constants["synop"].joules == close(0.221 * PJ)
    assert len(profiles) == len(HOROWITZ) + len(KERAS_SPIKING) + len(TANG) + 4


@pytest.mark.parametrize("name", TANG)
def test_chips_of_tang(name: str) -> None:
    """A single figure each, of which is not stated what is in it: nothing is added to it."""
    profile = energy_profiles()[f"tang-2023-{name}"]
    (constant,) = profile.constants.values()
    assert constant == profile.synop
    assert constant.joules / PJ == close(TANG[name])
    assert constant.all_in is None
    assert profile.closed
    assert "Tang et al." in (constant.via or constant.source)
    assert "high-level comparison only" in profile.notes[0]


def test_figures_of_one_chip_lie_far_apart() -> None:
    """The same name, two sources: what comparisons of devices are worth."""
    joules_of = {
        name: profile.synop.joules for name, profile in energy_profiles().items() if profile.synop
    }
    assert joules_of["spinnaker"] / joules_of["tang-2023-spinnaker"] == pytest.approx(296, abs=0.5)
    assert joules_of["truenorth"] / joules_of["tang-2023-truenorth"] == close(26 / 2.5)
    prototype = joules_of["spinnaker2-prototype"]
    assert prototype / joules_of["tang-2023-spinnaker2"] == close(45)


def test_loihi_by_event() -> None:
    """arch/loihi.yaml of SANA-FE."""
    profile = energy_profiles()["loihi-events"]
    found = {price: constant.joules / PJ for price, constant in profile.constants.items()}
    assert found == close(LOIHI_EVENTS)
    for constant in profile.constants.values():
        assert constant.via
        assert "SANA-FE" in constant.via
        assert (constant.node, constant.how, constant.all_in) == ("14 nm", "simulated", False)


def test_a_name_that_meant_a_prototype_names_both_candidates() -> None:
    with pytest.raises(ValueError, match=r"'spinnaker2-prototype' .* or 'tang-2023-spinnaker2'"):
        energy_of(synops=1, profile="spinnaker2")
    assert "spinnaker2" not in energy_profiles()


def test_no_constant_is_without_a_source_and_a_year() -> None:
    for name, profile in energy_profiles().items():
        assert profile.name == name
        for constant in profile.constants.values():
            assert constant.source.strip()
            assert constant.table or constant.via  # where in it, or where it was read
            assert constant.year
            assert constant.year >= 2013


def test_the_mapping_is_read_only() -> None:
    with pytest.raises(TypeError):
        energy_profiles()["mine"] = energy_profiles()["loihi"]  # type: ignore[index]


def test_provenance_says_what_is_known_and_what_is_not() -> None:
    assert str(TERM) == (
        "1 pJ; A paper, 2020; node not stated, voltage not stated, "
        "measured or simulated: not stated; this operation only"
    )
    full = Constant(2e-9, "B", 2021, "Table 2", "7 nm", 0.8, "simulated", True, "a survey")
    assert str(full) == (
        "2 nJ; B, 2021, Table 2 (secondary source: a survey); 7 nm, 0.8 V, simulated; all-in"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"joules": 0}, "joules: expected a positive, finite number, found 0"),
        ({"joules": float("nan")}, "joules: expected a positive, finite number, found nan"),
        ({"joules": float("inf")}, "joules: expected a positive, finite number"),
        ({"joules": "1 pJ"}, "joules: expected a number, found '1 pJ'"),
        ({"joules": True}, "joules: expected a number, found True"),
        ({"source": " "}, "source: expected the publication"),
        ({"how": "guessed"}, "how: expected one of"),
    ],
)
def test_constants_without_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constant(**({"joules": PJ, "source": "A paper"} | values))


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({}, "expected a price of ac, mac or synop, found none"),
        ({"addition": TERM}, "a price of ac, mac or synop, found addition"),
        ({"ac": TERM, "synop": TERM}, "either ac or synop, found both"),
        ({"ac": TERM, "synop_sparse": TERM}, "either ac or synop_sparse, found both"),
        (
            {"synop_dense": TERM, "event_driven": False},
            "expected synop as the only .*found synop_dense",
        ),
        ({"spike_out": TERM}, "expected a price of ac, mac or synop"),
        ({"synop": ALL_IN, "hop": TERM}, "is all-in: .* found hop"),
        ({"mac": TERM, "event_driven": False}, "expected synop as the only .* found mac"),
        ({"synop": TERM, "mac": TERM, "event_driven": False}, "the only .* found mac, synop"),
        ({"synop": TERM, "neuron_update": TERM, "addition": TERM}, "either neuron_update or addi"),
        (
            {"synop": ALL_IN, "neuron_update": TERM},
            "the energy per synaptic operation is all-in: expected no further terms, found "
            "neuron_update; they would count twice",
        ),
        ({"synop": ALL_IN, "addition": TERM}, "is all-in: .* found addition"),
        ({"synop": UNCLEAR, "neuron_update": TERM}, r"may be all-in \(not stated\): expected no"),
    ],
)
def test_profiles_that_would_count_twice_are_refused(prices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"profile 'mine': .*{message}"):
        EnergyProfile("mine", **prices)


def test_a_price_is_a_constant() -> None:
    with pytest.raises(TypeError, match="ac: expected a Constant, found 9e-13"):
        EnergyProfile("mine", ac=0.9e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (3e-14, "0.03 pJ"),
        (0.9e-12, "0.9 pJ"),
        (999.94e-12, "999.9 pJ"),
        (999.96e-12, "1 nJ"),
        (1.626e-10, "162.6 pJ"),
        (8.6e-9, "8.6 nJ"),
        (42e-6, "42 µJ"),
        (7.463502602e-3, "7.464 mJ"),
        (12.0, "12 J"),
        (float("nan"), "nan J"),
    ],
)
def test_energies_are_written_with_units(value: float, text: str) -> None:
    assert joules(value) == text
