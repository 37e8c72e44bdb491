"""The profiles in docs/howto/energy.md are those of the code, and the examples there run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from snnmetrics.energy import EnergyProfile, energy_profiles
from snnmetrics.energy.training import OPERATIONS, OPTIMIZERS
from snnmetrics.text import joules

DOCUMENT = Path(__file__).parents[2] / "docs" / "howto" / "energy.md"
SHOWN = ("ac", "mac", "synop", "neuron_update")
HOW = {"not stated": "?"}
COUNTED = {
    "synop_dense": "synops of linear layers",
    "synop_sparse": "synops at weights that are not zero, of the layers in `sparse=`",
    "synop_convolution": "synops of convolutions",
    "neuron_access": "neurons, in every time step",
    "neuron_update": "neurons, in every time step",
    "spike_out": "spikes of neurons",
    "axon_out": "spikes times `messages=`, one by default",
    "hop": "spikes times `messages=` times `hops=`",
}
SCOPE = {True: "all-in", False: "term", None: "?"}


def profile_row(profile: EnergyProfile) -> str:
    constants = profile.constants
    constant = next(iter(constants.values()))
    prices = [joules(constants[p].joules) if p in constants else "" for p in SHOWN]
    facts = [
        constant.node or "?",
        "?" if constant.voltage is None else f"{constant.voltage:g} V",
        HOW.get(constant.how, constant.how),
        SCOPE[constant.all_in],
        f"{constant.source.partition(',')[0].partition(' et al')[0]} {constant.year}"
        + (f", via {constant.via}" if constant.via else ""),
    ]
    return f"| {' | '.join([f'`{profile.name}`', *prices, *facts])} |"


def test_the_table_of_profiles() -> None:
    rows = "\n".join(map(profile_row, energy_profiles().values()))
    assert rows in DOCUMENT.read_text(), f"docs/howto/energy.md: expected\n{rows}"


def test_the_table_of_events() -> None:
    profile = energy_profiles()["loihi-events"]
    rows = [
        f"| `{price}` | {joules(constant.joules)} | {COUNTED[price]} |"
        for price, constant in profile.constants.items()
    ]
    text = "\n".join(rows)
    assert text in DOCUMENT.read_text(), f"docs/howto/energy.md: expected\n{text}"


@pytest.mark.filterwarnings("ignore")
def test_the_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["loss"].requires_grad
    assert names["on_device"](2.0, 1.5, None).energy == 3e-3  # made up by this test
    assert names["cost"].update.parameters == 40 * 20 + 20 + 20 * 10 + 10
    assert names["update"].total > 0


def test_the_table_of_optimizers() -> None:
    rows = [
        f'| `"{name}"` | {" | ".join(str(getattr(update, kind)) for kind in OPERATIONS)} |'
        for name, update in OPTIMIZERS.items()
    ]
    assert "\n".join(rows) in DOCUMENT.read_text()
