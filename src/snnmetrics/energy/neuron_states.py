"""Known classes of neurons, by name: their dynamics, and the state variables that they keep."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from snnmetrics.arguments import positive_integer

Dynamics = Literal["if", "lif"]

TYPES: Mapping[str, Dynamics] = MappingProxyType(
    {
        "IFNode": "if",
        "SimpleIFNode": "if",
        "IAF": "if",
        "IAFCell": "if",
        "IAFSqueeze": "if",
        "LIFNode": "lif",
        "SimpleLIFNode": "lif",
        "ParametricLIFNode": "lif",
        "Leaky": "lif",
        "LIFBoxCell": "lif",
    }
)
"""Classes of neurons with one state. ``LIF`` is not one: in Norse its current is a second state."""

STATES: Mapping[str, int] = MappingProxyType(
    {
        "ReLU": 0,
        **dict.fromkeys(TYPES, 1),  # integrate-and-fire neurons, with a leak or without
        "Lapicque": 1,  # snnTorch
        "Synaptic": 2,  # snnTorch: current and potential
        "LIFCell": 2,  # Norse: current and potential
        "Alpha": 3,  # snnTorch: two currents and potential
        "LSNNCell": 3,  # Norse: current, potential and threshold
    }
)
"""``LIF`` is not here: in sinabs it has one state, or two; in Norse two."""


def states_of(given: Mapping[str, int] | None) -> dict[str, int]:
    """States of the known classes and of those that a user tells of.

    Raises:
        TypeError: If it is not a mapping, or a number not an integer.
        ValueError: If a number is negative.
    """
    if given is None:
        return dict(STATES)
    if not isinstance(given, Mapping):
        raise TypeError(f"states: expected a mapping of classes to numbers, found {given!r}")
    for name, number in given.items():
        if number != 0 or isinstance(number, bool | float):  # a class may keep none, as a ReLU
            positive_integer(f"states[{name!r}]", number)
    told = dict(given)
    return {**STATES, **told}
