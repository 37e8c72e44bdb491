"""Pages for users of other tools: every figure is what the tool and this library give today.

A row of a table names an expression of the tool and one of ours, each with its value. The test runs
the code of the page, which runs the tool beside the monitor on the same spikes, and evaluates both
expressions. The tests below it state how the two values relate, as the last column says in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

import snnmetrics as sm

GUIDES = Path(__file__).parents[1] / "docs" / "howto"
# Pages, and the rows of their tables with figures.
PAGES = {
    "from_neurobench.md": 11,
    "from_spikingjelly.md": 17,
    "from_sinabs.md": 8,
    "from_snntorch.md": 11,
    "from_norse.md": 4,
    "from_others.md": 8,
}
FIGURE = r"`([^`|]+)` = ([^`|]+)"
ROW = re.compile(rf"^\| {FIGURE} \|(?: {FIGURE} \|| \|)", re.MULTILINE)

pytestmark = pytest.mark.filterwarnings("ignore")


def agrees(shown: str, value: Any) -> bool:
    """Whether a figure is shown in full, if it is a whole number, or rounded to six digits."""
    number = float(value)
    if number.is_integer():
        return shown == f"{number:,.0f}"
    return float(shown.replace(",", "")) == pytest.approx(number, rel=6e-6)


def blocks(page: str) -> list[tuple[str, str | None]]:
    """Code of a page, and the output that is shown behind it."""
    text = (GUIDES / page).read_text()
    found = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)
    return [(code, output or None) for code, output in found]


def run(page: str) -> dict[str, Any]:
    """The names that the code of a page defines; what it prints is what the page shows."""
    names: dict[str, Any] = {"__name__": "page"}
    for code, output in blocks(page):
        with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()):
            exec(code, names)
        assert output is None or printed.getvalue() == output
    return names


def figures(page: str) -> Iterator[tuple[str, str]]:
    """Expressions in the tables of a page, and the values beside them."""
    for there, value, here, ours in ROW.findall((GUIDES / page).read_text()):
        yield there, value.strip()
        if here:
            yield here, ours.strip()


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_of_the_page_is_what_both_give(page: str) -> None:
    names = run(page)
    rows = list(figures(page))
    assert len(ROW.findall((GUIDES / page).read_text())) == PAGES[page]
    for expression, value in rows:
        assert agrees(value, eval(expression, names)), expression


def test_every_page_is_on_the_overview() -> None:
    overview = (GUIDES / "migrating.md").read_text()
    assert re.findall(r"\]\((from_\w+\.md)\)", overview) == list(PAGES)


# ------------------------------------------------------------- the last columns of the tables


def test_neurobench() -> None:
    names = run("from_neurobench.md")
    theirs, report = names["theirs"], names["report"]
    total, operations = report.total, theirs["SynapticOperations"]
    assert theirs["Footprint"] == sm.footprint(names["model"])
    assert theirs["ParameterCount"] == sm.parameter_count(names["model"])
    assert theirs["ConnectionSparsity"] == round(sm.connection_sparsity(names["model"]), 4)
    assert theirs["ActivationSparsity"] == pytest.approx(names["sparsity"].compute().item())
    assert theirs["MembraneUpdates"] == sum(m.compute() for m in names["updates"].values())
    assert operations["Dense"] == total.dense_synops
    # The call with a 2 is the first of layer 0: its events at weights that are not zero.
    alive = names["model"][0].weight.count_nonzero(0)
    first_call = (names["spikes"][:, 0] != 0).float().sum(0) @ alive.float()
    assert operations["Effective_MACs"] == first_call / 16
    both = operations["Effective_MACs"] + operations["Effective_ACs"]
    assert both == total.effective_synops
    assert total.acs - both == alive[0] / 16  # the second of two spikes
    assert theirs["NeuronOperations"]["Neuron Dense Ops"] == 4 * total.updates
    assert theirs["ClassificationAccuracy"] == names["accuracy"][-1]
    assert dict(report.under("neurobench").total.printed) == operations


def test_spikingjelly_counts() -> None:
    names = run("from_spikingjelly.md")
    report, convolution = names["report"], torch.ops.aten.convolution.default
    first, last = report.layers["0"], report.layers["4"]
    acs = names["acs"].get_counts()["Global"]
    assert names["synops"].get_total() == 16 * first.synops == acs[convolution]
    assert first.effective_synops == first.acs < first.synops
    assert names["macs"].get_total() == 16 * last.dense_macs
    assert (report.total.macs, last.kind) == (0, "integer")
    flops = names["flops"].get_counts()["Global"]
    contractions = (convolution, torch.ops.aten.mm.default)
    assert sum(flops[operator] for operator in contractions) == 2 * 16 * report.total.dense_macs
    assert names["read"]["weight_read_bytes"] == 4 * 16 * (first.synops + last.dense_macs)
    updates = report.neurons["1"].updates
    assert names["read"]["neuron_state_read_bytes"] == 4 * 16 * updates
    assert report.neurons["1"].additions == 2 * updates
    assert names["state"]["state_adds"] == 16 * 3 * updates


def test_spikingjelly_energies() -> None:
    names = run("from_spikingjelly.md")
    report, simple = names["report"], names["simple"]
    own_sum = 4 * 16 * 8 * 8 - 1  # additions in the sum over a map for each frame
    assert simple.counts["ac"] - names["acs"].get_total() == own_sum
    macs, acs = names["macs"].get_total(), simple.counts["ac"]
    assert simple.energy_compute_pj == pytest.approx(4.6 * macs + 0.9 * acs)
    read = names["read"]
    assert simple.energy_memory_pj == pytest.approx(24.96 * sum(read.values()))
    additions = report.neurons["1"].additions
    ours = names["with_neurons"].total.energy
    assert ours == pytest.approx(0.9e-12 * (report.total.acs + additions))
    ours = names["with_memory"].total.energy
    assert ours * 1e12 == pytest.approx(names["lemaire"].total_pj, rel=1e-12)
    primitives = names["neuromc"].primitive_counts["totals"]
    assert primitives["mac"] == names["small"].layers["0"].dense_macs


def test_sinabs() -> None:
    names = run("from_sinabs.md")
    report, hooked, layers = names["report"], names["hooked"], names["layers"]
    for place in (0, 4):
        row = report.layers[str(place)]
        assert hooked["synops_per_timestep"][place] * 4 == pytest.approx(row.synops)
        assert layers[str(place)]["synops"] == pytest.approx(row.synops)
        assert layers[str(place)]["synops/s"] == pytest.approx(row.synops_per_second)
    total = report.total
    assert hooked["total_synops_per_second"] == pytest.approx(total.synops_per_second)
    rate = names["model"][1].hook_data["firing_rate"]
    assert rate / 0.002 == pytest.approx(report.neurons["1"].firing_rate)
    not_repaired = report.layers["0"].synops + report.layers["4"].synops / 4
    assert names["whole"]["synops"] == pytest.approx(not_repaired)


def test_snntorch() -> None:
    names = run("from_snntorch.md")
    spikes, targets = names["spk_rec"], names["targets"]
    by_class = spikes.sum(0).reshape(16, 10, 2).sum(2).argmax(1)
    assert names["population"].compute()[-1] == (by_class == targets).double().mean()
    assert names["twenty"].compute()[-1] == (spikes.sum(0).argmax(1) == targets).double().mean()
    assert names["population"].compute()[-1] != names["twenty"].compute()[-1]
    assert names["report"].layers["fc2"].synops == names["synops"].compute()["synops"]
    assert names["SF"].accuracy_rate(names["silent"], targets) == (targets == 0).double().mean() > 0


def test_norse() -> None:
    names = run("from_norse.md")
    report, counted, spikes = names["report"], names["counted"], names["spikes"]
    assert counted(names["z"], names["fc"]) == 16 * report.layers["3"].synops
    taps = 4 * 9 * spikes.sum()
    assert counted(spikes, names["conv"]) == counted(spikes, names["strided"]) == taps
    for conv, row in (
        (names["conv"], report.layers["0.lifted_module"]),
        (names["strided"], names["by_stride"].layers["lifted_module"]),
    ):
        ones = torch.ones_like(conv.weight)
        reached = torch.conv2d(spikes.flatten(0, 1), ones, None, conv.stride, conv.padding)
        assert row.synops == reached.double().sum() / 16 < taps / 16


def test_formulas_by_hand() -> None:
    names = run("from_others.md")
    conv, by_hand = names["conv"], (names["rate"] * 4 * names["macs"]).item()
    for name in ("rate-x-macs", "syops", "kernel", "keras-spiking"):
        row = names["report"].under(name).layers["conv"]
        assert sum(row.printed.values()) == pytest.approx(by_hand)
    assert names["macs"] * 4 == conv.dense_macs
    assert conv.acs < conv.synops < by_hand
    assert names["fc"].synops == names["hidden"].sum() * 10 / 16
