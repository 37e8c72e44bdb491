"""State variables that classes of neurons keep from step to step, by name of the class."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from snnmetrics.arguments import positive_integer

ONE = (
    *("IFNode", "SimpleIFNode", "LIFNode", "SimpleLIFNode", "ParametricLIFNode"),  # SpikingJelly
    *("Leaky", "Lapicque"),  # snnTorch
    *("IAF", "IAFSqueeze"),  # sinabs
    *("IAFCell", "LIFBoxCell"),  # Norse
)
STATES: Mapping[str, int] = MappingProxyType(
    {
        "ReLU": 0,
        **dict.fromkeys(ONE, 1),
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
