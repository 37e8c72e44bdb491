"""Recipes for loggers: what arrives there is what the report says.

TensorBoard is a dependency of the tests, and is read back. Weights & Biases and MLflow are not: the
recipes run against stand-ins with the few functions that they call, and against the packages where
these are installed (last run with wandb 0.31.0 and MLflow 3.17.2).
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import snnmetrics as sm

PAGE = (Path(__file__).parents[1] / "docs" / "howto" / "recipes.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)
EPOCHS = 2

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def run(recipe: str) -> dict[str, Any]:
    """The first two blocks, which all recipes share, and the one that holds ``recipe``."""
    names: dict[str, Any] = {"__name__": "recipes"}
    (wanted,) = [block for block in BLOCKS[2:] if recipe in block[0]]
    for code, output in [*BLOCKS[:2], wanted]:
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert not output or printed.getvalue() == output
    return names


def chosen(names: dict[str, Any]) -> dict[str, float]:
    """The figures of an epoch, by the attributes of the report: 16 samples in each of 4 batches."""
    report = names["report"]
    found = {f"val/{name}/synops": row.synops for name, row in report.layers.items()}
    found["val/total/synops"] = report.total.synops
    for figure in ("firing_rate", "silent_fraction"):
        for name, row in {**report.neurons, "total": report.total}.items():
            found[f"val/{name}/{figure}"] = getattr(row, figure)
    assert report.samples == 64  # of one epoch, not of all
    assert all(value > 0 for name, value in found.items() if "silent" not in name)
    return found


def test_the_page_has_no_other_code() -> None:
    assert len(BLOCKS) == 7
    assert sum(bool(output) for _, output in BLOCKS) == 2


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = chosen(run("SummaryWriter"))
    read = EventAccumulator(str(tmp_path / "runs" / "snn"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(expected)
    for name, value in expected.items():
        events = read.Scalars(name)
        assert [event.step for event in events] == list(range(EPOCHS))
        assert [event.value for event in events] == pytest.approx([value] * EPOCHS)
    assert read.Tags()["images"] == ["val/layers"]


def test_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    finished: list[bool] = []

    def init(*, project: str, mode: str) -> SimpleNamespace:
        assert (project, mode) == ("snn", "offline")
        return SimpleNamespace(
            log=lambda data, step: logged.append((data, step)),
            finish=lambda: finished.append(True),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    expected = chosen(run("import wandb"))
    assert logged == [(expected, epoch) for epoch in range(EPOCHS)]
    assert finished == [True]


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    texts: dict[str, str] = {}

    @contextmanager
    def start_run() -> Iterator[None]:
        yield

    stand_in = SimpleNamespace(
        set_tracking_uri=lambda uri: None,
        start_run=start_run,
        log_metrics=lambda metrics, step: logged.append((metrics, step)),
        log_text=lambda text, artifact_file: texts.update({artifact_file: text}),
    )
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    names = run("import mlflow")
    assert logged == [(chosen(names), epoch) for epoch in range(EPOCHS)]
    assert sm.Report.from_json(texts["report.json"]) == names["report"]


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_the_packages_themselves(package: str) -> None:
    pytest.importorskip(package)
    names = run(f"import {package}")
    if package == "mlflow":
        client = names["mlflow"].MlflowClient()
        (kept,) = client.search_runs(["0"])
        assert kept.data.metrics == chosen(names)


def test_a_file_per_report(tmp_path: Path) -> None:
    report = run("report.save")["report"]
    with (tmp_path / "neurons.csv").open() as file:
        rates = {row["name"]: float(row["firing_rate"]) for row in csv.DictReader(file)}
    assert rates == {name: row.firing_rate for name, row in report.neurons.items()}
    with (tmp_path / "layers.csv").open() as file:
        synops = {row["name"]: float(row["synops"]) for row in csv.DictReader(file)}
    assert {**synops, "total": 0} == {n: r.synops for n, r in report.layers.items()} | {"total": 0}


def test_a_file_per_epoch(tmp_path: Path) -> None:
    names = run("import csv")
    with (tmp_path / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("epoch") for row in rows] == ["0", "1"]
    for row in rows:
        expected = {name.removeprefix("val/"): value for name, value in chosen(names).items()}
        assert {name: float(value) for name, value in row.items()} == expected
