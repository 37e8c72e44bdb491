"""LaTeX of every export: it compiles, fits into the text of an article, and has right quotes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.energy import (
    bit_budget,
    memory_aware_energy,
    memory_traffic,
    training_cost,
    workload_of,
)
from tests.helpers.latex import compiled, needs_latex


class Net(nn.Module):
    """A convolution and a linear layer with neurons, in four steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 8, 3, padding=1), snn.Leaky(beta=0.9)
        self.fc, self.lif2 = nn.Linear(512, 10), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        memory1, memory2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        for _ in range(4):
            spikes, memory1 = self.lif1(self.conv1(x), memory1)
            spikes, memory2 = self.lif2(self.fc(spikes.flatten(1)), memory2)
        return memory2  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def exports() -> dict[str, Any]:
    torch.manual_seed(0)
    options: Any = {
        "per_sample": True,
        "per_step": True,
        "groups": {'the "first" group': ["conv1"]},
    }
    report = sm.Monitor(Net(), batch_dim=0, steps=4, **options).run([torch.rand(6, 1, 8, 8)])
    return {
        "report": report,
        "comparison": report.compare(report),
        "convention": report.under("rate-x-macs"),
        "conventions": report.conventions(),
        "energy": sm.estimate_energy(report, "horowitz-45nm-fp32"),
        "memory": memory_aware_energy(report),
        "traffic": memory_traffic(report),
        "bits": bit_budget(report, activation_bits=1, weight_bits=8),
        "workload": workload_of(report),
        "training": training_cost(report),
        "paper": sm.paper_table({'"ours"': report, "as kernel": report.under("kernel")}),
    }


NAMES = (
    "report", "comparison", "convention", "conventions", "energy", "memory", "traffic", "bits",
    "workload", "training", "paper",
)  # fmt: skip


@needs_latex
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_compiles_and_is_no_wider_than_the_text(
    exports: dict[str, Any], name: str, tmp_path: Path
) -> None:
    for notes in (True, False):
        assert "Overfull" not in compiled(exports[name].to_latex(notes=notes), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_quotation_marks_come_in_pairs_and_none_is_straight(
    exports: dict[str, Any], name: str
) -> None:
    text = exports[name].to_latex()
    assert '"' not in text
    for line in text.splitlines():
        assert line.count("``") == len(re.findall(r"(?<!')''(?!')", line)), line


def test_a_wide_table_has_smaller_type(exports: dict[str, Any]) -> None:
    text = exports["conventions"].to_latex(notes=False)
    sizes = re.findall(r"\\(small|footnotesize|scriptsize|tiny)\\setlength", text)
    assert len(sizes) == text.count(r"\begin{tabular}")
    assert "setlength" not in exports["workload"].to_latex(notes=False)
