"""The tables on the pages of energy are those of the code, and the examples there run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from snnmetrics.energy import EnergyProfile, energy_profiles
from snnmetrics.energy.training import OPERATIONS, OPTIMIZERS
from snnmetrics.text import joules

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PROFILES, TRAINING = HOWTO / "energy_profiles.md", HOWTO / "energy_training.md"
SHOWN = ("ac", "mac", "synop", "neuron_update")
HOW = {"not stated": "?"}
COUNTED = {
    "synop_dense": "synops of linear layers",
    "synop_sparse": "synops at nonzero weights of the layers in `sparse=`",
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
    assert rows in PROFILES.read_text(), f"{PROFILES.name}: expected\n{rows}"


def test_the_table_of_events() -> None:
    profile = energy_profiles()["loihi-events"]
    rows = [
        f"| `{price}` | {joules(constant.joules)} | {COUNTED[price]} |"
        for price, constant in profile.constants.items()
    ]
    text = "\n".join(rows)
    assert text in PROFILES.read_text(), f"{PROFILES.name}: expected\n{text}"


def run(page: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[str]]:
    """Run the code of a page; what it defines, and the lines that it prints."""
    blocks = re.findall(r"```python\n(.*?)```", (HOWTO / page).read_text(), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    return names, capsys.readouterr().out.splitlines()


@pytest.mark.filterwarnings("ignore")
def test_the_recommendation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names, lines = run("energy.md", capsys)
    assert names["snn_energy"].ratio(names["ann_energy"]) > 0
    assert names["ann_energy"].workload.bits == 3  # ceil(log2(4 + 1))
    assert names["on_device"](2.0, 1.5, None).energy == 3e-3  # made up by this test
    assert any(line.startswith("reads the output of 0") for line in lines)
    assert "True 0.0" in lines  # the second layer has MACs as trained; fused there are none


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["energy_profiles.md", "energy_memory.md"])
def test_the_examples_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(page, capsys)[1]


@pytest.mark.filterwarnings("ignore")
def test_the_examples_of_training_run(capsys: pytest.CaptureFixture[str]) -> None:
    names, _ = run(TRAINING.name, capsys)
    assert names["loss"].requires_grad
    assert names["cost"].update.parameters == 40 * 20 + 20 + 20 * 10 + 10
    assert names["update"].total > 0


def test_figures_in_the_text() -> None:
    text = (HOWTO / "energy.md").read_text()
    wide, narrow = (energy_profiles()[f"horowitz-45nm-{name}"].ac for name in ("fp32", "int8"))
    assert wide is not None
    assert narrow is not None
    assert f"costs {wide.joules / narrow.joules:.0f} times one in int8" in text


def test_the_table_of_optimizers() -> None:
    rows = [
        f'| `"{name}"` | {" | ".join(str(getattr(update, kind)) for kind in OPERATIONS)} |'
        for name, update in OPTIMIZERS.items()
    ]
    assert "\n".join(rows) in TRAINING.read_text()
