"""What the README shows must run, and what the quickstart counts must be right."""

from __future__ import annotations

import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnmetrics as sm
from snnmetrics.report import KINDS
from tests.helpers.toy import sum_with_ones

ROOT = Path(__file__).parent.parent


def first_pages() -> list[list[tuple[str, str]]]:
    """Snippets of the README and of the start page of the documentation, with their output."""
    pages = [(ROOT / page).read_text() for page in ("README.md", "docs/index.md")]
    return [re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", p, re.DOTALL) for p in pages]


def test_both_first_pages_show_the_same_two_snippets() -> None:
    readme, index = first_pages()
    assert readme == index
    assert len(readme) == 2


@pytest.mark.filterwarnings("ignore")
def test_the_first_pages_show_what_their_code_prints() -> None:
    (metric, printed), (monitor, report) = first_pages()[0]
    names: dict[str, Any] = {}
    with redirect_stdout(StringIO()) as out:
        exec(metric, names)
    assert out.getvalue() == printed
    conv, spikes = names["conv2"], names["spikes"]
    reached = torch.conv2d(spikes, torch.ones_like(conv.weight), None, conv.stride, conv.padding)
    assert names["stats"]["synops"].item() == reached.double().sum().item() / len(spikes)

    names = {}
    with redirect_stdout(StringIO()) as out:
        exec(monitor, names)
    assert out.getvalue().startswith(f"{report}\n* ")  # the notes are left out
    conv, x = names["model"][0], torch.cat(names["loader"], 1)
    ones = torch.ones_like(conv.weight)
    reached = torch.conv2d(x.flatten(0, 1), ones, None, conv.stride, conv.padding)
    assert names["report"].layers["0"].synops == reached.double().sum().item() / 48
    row = names["report"].neurons["1"]
    assert names["report"].layers["3"].synops == row.spikes * 10
    assert row.spikes == pytest.approx(row.firing_rate * 4 * 512)


def test_the_table_of_keys_names_what_synops_returns() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    table = re.findall(r'^\| `"(.+?)"` \|', page, re.MULTILINE)
    value = sm.functional.synops(torch.ones(1, 2), 1, sample_time=1.0)
    assert set(table) == set(value)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            found = document.parent / target
            if found.parent.name == "gallery":  # `make docs` makes these pages of the examples
                found = ROOT / "examples" / f"{found.stem}.py"
            assert found.exists(), f"{document.name}: {target}"


def test_the_glossary_names_fields_that_there_are() -> None:
    page = (ROOT / "docs" / "explanation" / "glossary.md").read_text()
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 3))
    monitor = sm.Monitor(model)
    with monitor, monitor.batch(samples=2, steps=4):
        model(torch.ones(8, 1, 5, 5))
    report = monitor.compute()
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", page))
    assert {"synops", "event_synops", "effective_synops", "dense_synops", "vectors"} <= named
    others = {*KINDS, "input_scale", "dt", "time_dim", "loihi"}
    for name in named - others:
        assert hasattr(report.layers["0"], name), name
    assert report.layers["0"].vectors == report.layers["2"].vectors == 4  # a map, and a row, a step
    tokens = sm.Monitor(nn.Linear(5, 3), batch_dim=1, time_dim=0).run([torch.ones(4, 2, 7, 5)])
    assert tokens.layers["Linear"].vectors == 4 * 7


def counted_by_convolution(model: nn.Module, spikes: Tensor) -> dict[str, float]:
    """The sum of each layer's output over all steps, with weights one and no bias."""
    totals = dict.fromkeys(("conv1", "conv2", "fc"), 0.0)

    def add(name: str, layer: Any, x: Tensor) -> None:
        totals[name] += sum_with_ones(layer, x).sum().item()

    hooks = [
        layer.register_forward_hook(lambda m, x, _, name=name: add(name, m, x[0]))
        for name, layer in model.named_children()
        if name in totals
    ]
    with torch.no_grad():
        model(spikes)
    for hook in hooks:
        hook.remove()
    return {name: total / spikes.shape[1] for name, total in totals.items()}


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")
def test_the_quickstart_counts_what_convolutions_with_ones_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    model = quickstart["SpikingCNN"]()
    spikes = (torch.rand(5, 8, 1, 8, 8) < 0.5).float()
    expected = counted_by_convolution(model, spikes)
    synops = quickstart["LayerSynOps"](model)
    model(spikes)
    batch = synops.batch().item()
    epoch = {name: value["synops"].item() for name, value in synops.epoch().items()}
    assert epoch == expected
    assert min(epoch.values()) > 0
    assert batch == pytest.approx(sum(expected.values()))

    quickstart["main"].__globals__["FIGURE"] = tmp_path / "out" / "figure.png"
    quickstart["main"](epochs=2)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("conv1", "conv2", "fc", "total"))
    assert (tmp_path / "out" / "figure.png").stat().st_size > 10_000
