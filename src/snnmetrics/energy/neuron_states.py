"""Known classes of neurons, by name: dynamics, and number of state variables."""

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
"""Classes of neurons with one state. ``LIF`` is missing: in Norse its current is a second state."""

STATES: Mapping[str, int] = MappingProxyType(
    {
        "ReLU": 0,
        **dict.fromkeys(TYPES, 1),  # integrate-and-fire neurons, leaky or not
        "Lapicque": 1,  # snnTorch
        "Synaptic": 2,  # snnTorch: current and potential
        "LIFCell": 2,  # Norse: current and potential
        "Alpha": 3,  # snnTorch: two currents and potential
        "LSNNCell": 3,  # Norse: current, potential and threshold
    }
)
"""Number of state variables. ``LIF`` is missing: it has one or two in sinabs, two in Norse."""


def states_of(given: Mapping[str, int] | None) -> dict[str, int]:
    """Return the number of state variables by class: of known classes and of given ones.

    Raises:
        TypeError: If it is not a mapping, or a number is not an integer.
        ValueError: If a number is negative.
    """
    if given is None:
        return dict(STATES)
    if not isinstance(given, Mapping):
        raise TypeError(f"states: expected a mapping of classes to numbers, found {given!r}")
    for name, number in given.items():
        if number != 0 or isinstance(number, bool | float):  # 0 is valid: a ReLU has no state
            positive_integer(f"states[{name!r}]", number)
    return {**STATES, **given}
