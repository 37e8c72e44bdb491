"""Tutorial and guides run, and print what they say."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt
from torch.nn import Module
from torch.utils.data.distributed import DistributedSampler

import snnmetrics as sm
from snnmetrics import plots
from tests.integration.engine_scripts.toy import synops

GUIDES = Path(__file__).parents[1] / "docs" / "howto"


@pytest.fixture(autouse=True)
def _no_window_no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    plt.close("all")  # what examples that ran in this process before have drawn
    yield
    plt.close("all")


def blocks(guide: str) -> list[tuple[str, str | None]]:
    """Code of a guide, and what it is said to print, if that follows."""
    text = (GUIDES / guide).read_text()
    found = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)
    return [(code, output or None) for code, output in found]


def run(guide: str, **given: Any) -> dict[str, Any]:
    names = {"__name__": "guide"} | given
    for code, output in blocks(guide):
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert output is None or printed.getvalue() == output
    return names


def test_figures(tmp_path: Path) -> None:
    names = run("plots.md")
    assert (tmp_path / "layers.pdf").read_bytes().startswith(b"%PDF")
    for figure in map(plt.figure, plt.get_fignums()):
        figure.draw_without_rendering()
    assert len(plt.get_fignums()) == 5
    assert names["epochs"][0]["synops"] > 0


def test_every_picture_and_every_metric_is_in_the_guide() -> None:
    text = (GUIDES / "plots.md").read_text()
    assert set(re.findall(r"plots\.(\w+)\(", text)) == set(plots.__all__)
    drawn = [
        name for name in sm.__all__ if name != "Latency" and hasattr(getattr(sm, name), "plot")
    ]
    assert all(f"`{name}`" in text for name in drawn if name != "Report")
    assert len(drawn) >= 9


def test_collections() -> None:
    assert sum(output is not None for _, output in blocks("collections.md")) == 5
    names = run("collections.md")
    spikes, found = names["spikes"], names["stable"].compute()
    assert found["val/conv1/synops"] == 90 * spikes.sum() / 16
    assert found["val/fc/synops"] == 10 * spikes.sum() / 16


@pytest.mark.parametrize(
    ("guide", "printed"),
    [
        ("../tutorial.md", 4),
        ("../explanation/performance.md", 0),
        ("frameworks.md", 3),
        ("time_steps.md", 2),
        ("cores.md", 3),
        ("deciding.md", 2),
        ("which_tensor.md", 5),
        ("regularising.md", 3),
        ("training_health.md", 1),
        ("pruning.md", 2),
        ("migrating.md", 1),
    ],
)
def test_every_figure_of_the_guide_is_printed_by_its_code(guide: str, printed: int) -> None:
    assert sum(output is not None for _, output in blocks(guide)) == printed
    run(guide)


@pytest.mark.filterwarnings("ignore")
def test_the_guide_to_the_monitor() -> None:
    """The names that its first part takes for granted are those of a network of SpikingJelly."""
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    conv, lif = layer.Conv2d(2, 4, 3, step_mode="m"), neuron.LIFNode(step_mode="m")
    model = torch.nn.Sequential(OrderedDict(conv2=conv, lif1=lif))
    loader = [(torch.rand(3, 5, 2, 6, 6) < 0.3).float()]
    names = run("monitor.md", model=model, loader=loader, MyNeuron=type("MyNeuron", (Module,), {}))
    assert names["monitor"].compute().total.synops_per_second > 0


def test_the_mask_of_the_reference_leaves_out_what_a_sampler_repeats() -> None:
    metric, sampler = sm.AccuracyOverTime(), DistributedSampler(range(25), 2, 1, shuffle=False)
    names = run(
        "../reference/metrics.md",
        torch=torch,
        metric=metric,
        spikes=torch.ones(3, 4, 5),
        target=torch.zeros(3, dtype=torch.int64),
        mask=torch.tensor([True, True, False]),
        sampler=sampler,
    )
    assert metric.samples == 2
    assert names["counts"].tolist() == [True] * 12 + [False]  # both ranks have 13, of 25
    assert names["gradients"].update_count == 2  # of a tensor with time, and of a loop over time
    (current,) = torch.autograd.grad(names["state"].square().sum(), names["state"])
    last = names["figures"][0][0]  # the last step is heard first
    assert last.tolist() == pytest.approx([current.square().sum().item(), 0, 8])


def test_the_code_of_every_page_is_run() -> None:
    """Here, or in the tests that are beside the code which a page is about."""
    here = Path(__file__).read_text()
    elsewhere = {
        "index": "test_docs.py",
        "conventions": "conventions/test_docs.py",
        "distributed": "integration/engine_scripts/guide.py",
        **{
            f"energy{topic}": "energy/test_docs.py"
            for topic in ("", "_memory", "_profiles", "_training")
        },
        **{page.stem: "test_migrating.py" for page in GUIDES.glob("from_*.md")},
        "nir": "test_nir.py",
        "paper_table": "test_paper.py",
        "recipes": "test_recipes.py",
    }
    pages = [path for path in GUIDES.parent.rglob("*.md") if path.parent.name != "gallery"]
    pages = [path for path in pages if "```python" in path.read_text()]
    assert len(pages) >= 16
    for page in pages:
        test = elsewhere.get(page.stem) if page.parent in (GUIDES, GUIDES.parent) else None
        text = here if test is None else (Path(__file__).parent / test).read_text()
        assert f'{page.name}"' in text, page


def first_table(printed: str) -> str:
    """The page of a report, or of a table for a paper, without further tables and notes."""
    return re.split(r"\nneurons |\n\* ", printed)[0].rstrip() + "\n"


@pytest.mark.filterwarnings("ignore")
def test_spiking_transformers() -> None:
    """The page against hooks, products by hand, and the counters of SpikingJelly itself."""
    op_counter = pytest.importorskip("spikingjelly.activation_based.op_counter")
    names: dict[str, Any] = {"__name__": "guide"}
    for code, output in blocks("transformers.md"):
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert output is None or first_table(printed.getvalue()) == output
    report, model = names["four"], names["made"](4)
    seen: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if name == "mlp.0":
            module.register_forward_pre_hook(lambda _, x: seen.update(sums=x[0]))
        elif name in ("attention.q", "attention.k", "attention.v"):
            module.register_forward_hook(lambda _, __, out, name=name[-1]: seen.update({name: out}))
    synops, macs = op_counter.SynOpCounter(), op_counter.MACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([synops, macs]):
        model(names["images"])
    assert seen["sums"].unique().tolist() == [0, 1, 2]
    assert report.layers["mlp.0.conv"].synops == 64 * seen["sums"].double().sum() / 32
    q, k, v = (
        seen[name].double().flatten(3).unflatten(2, (2, -1)).transpose(-1, -2) for name in "qkv"
    )
    scores = q @ k.transpose(-1, -2)
    assert report.layers["attention.matmul"].acs == scores.sum() / 32
    assert report.layers["attention.matmul_1"].acs == ((scores > 0).double() @ v).sum() / 32

    under = report.under("spikingjelly").total.printed
    normalised = sum(row.updates for name, row in report.neurons.items() if name != "attention.lif")
    assert synops.get_total() == under["SynOps"]
    assert macs.get_total() == under["MACs"] + 32 * normalised  # the counter includes batch norm
    assert names["first"] == 4 * 8 * 8 * 8 * 9  # 4 steps, 8 x 8 positions, 8 channels, 9 taps
    assert names["under"].layers["head"].macs == 16 * 10
    assert names["table"].rows["ours, T=2"].acs == names["two"].total.acs
    assert "midrule" in names["latex"]
    assert "0.9 pJ per AC" in names["appendix"]
    assert "0.9 pJ per AC" not in names["latex"]


@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    names = run("lightning.md")
    # The last part validates a network that is called step by step: 20 inputs with fan-out 32.
    report = names["callback"].reports["val"]
    assert synops(report)["0"] == 32 * names["spikes"].sum()
    (kept,) = {p.parent for p in tmp_path.rglob("val_layers.png") if "version_0" in str(p)}
    fitted = sm.Report.load(kept / "val.json")
    assert synops(fitted)["0"] == 32 * names["spikes"].sum()
    assert fitted.samples == torch.numel(names["labels"]) == 64
