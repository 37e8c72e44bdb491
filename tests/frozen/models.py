"""Reports whose exact counts are kept as data: every model that the tests and examples measure.

Models have weights on a grid of powers of two, and inputs that are small integers or come from a
seeded generator, so that the same spikes fire on every machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import nir
import numpy as np
import torch

from tests import test_nir
from tests.helpers import random_models
from tests.integration.models import CASES, on_grid
from tests.integration.test_frameworks import measured

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the frameworks' imports
    from examples import (
        distributed_sampler,
        hardware_budget,
        monitor_frameworks,
        paper_table,
        quickstart,
        training_diagnosis,
    )
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from torch import Tensor, nn

    import snnmetrics as sm

RANDOM_MODELS = 100
Figures = dict[str, Any]


def reports(*parts: str) -> Iterator[tuple[str, sm.Report]]:
    """Reports of some parts, or of all, by a name that says where the model is defined."""
    for part in parts or PARTS:
        for name, report in PARTS[part]():
            yield f"{part}/{name}", report


def _zoo() -> Iterator[tuple[str, sm.Report]]:
    for case in CASES:
        yield case.name, measured(case, case.inputs())


def figures(report: sm.Report) -> Figures:
    """Exact counts and rows of a report, as JSON has them; no prose."""
    layers = {
        name: {
            "row": _plain(report.layers[name]),
            "operation": _plain(data.operation),
            "counts": {kind: _plain(counts) for kind, counts in data.counts.items()},
            "exact": report.counts()[name],
        }
        for name, data in report.layers_data.items()
    }
    neurons = {
        name: {"row": _plain(report.neurons[name]), "counts": _plain(data)}
        for name, data in report.neurons_data.items()
    }
    return {
        "samples": report.samples,
        "calls": report.calls,
        "steps": report.steps,
        "parameters": report.parameters,
        "layers": layers,
        "neurons": neurons,
        "groups": {name: _plain(row) for name, row in report.groups.items()},
        "total": _plain(report.total),
        "uncounted": [[item.name, item.what, item.calls] for item in report.uncounted],
    }


def _plain(row: Any) -> Figures:
    """Numbers, text and shapes, without names, identities, maps and curves; NaN as text."""
    left_out = ("name", "key", "curves")
    shown = [f.name for f in fields(row) if f.name not in left_out and "_per_step" not in f.name]
    values = {name: getattr(row, name) for name in shown}
    return {name: _value(value) for name, value in values.items() if not isinstance(value, Tensor)}


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if value != value else value
    if isinstance(value, tuple):
        return [_value(entry) for entry in value]
    if hasattr(value, "items"):
        return {str(key): _value(entry) for key, entry in value.items()}
    return value if value is None or isinstance(value, int | str) else _plain(value)


def _random_models() -> list[tuple[str, sm.Report]]:
    """Of models that hypothesis draws from a fixed seed."""
    found: list[sm.Report] = []

    @seed(20261127)
    @settings(
        max_examples=RANDOM_MODELS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(random_models.cases())
    def measure(case: random_models.Case) -> None:
        monitor = sm.Monitor(case.model, batch_dim=0)
        with monitor, torch.no_grad():
            for batch in case.inputs.split(2):
                case.forward(batch)
        found.append(monitor.compute())

    measure()
    return [(str(number), report) for number, report in enumerate(found)]


# -------------------------------------------------------------------------------- examples


def _examples() -> Iterator[tuple[str, sm.Report]]:
    for title, report in monitor_frameworks.measure_all(64).items():
        yield f"monitor_frameworks/{title}", report
    spikes = _spikes(6, 5, 1, 8, 8)
    cnn = _seeded(hardware_budget.SpikingCNN)
    options: dict[str, Any] = {"dt": 0.002, "per_sample": True, "groups": {"core": ["conv*"]}}
    monitor = sm.Monitor(cnn, batch_dim=1, time_dim=0, **options)
    yield "hardware_budget", _run(monitor, spikes)
    network = _seeded(quickstart.SpikingCNN)
    yield "quickstart", _run(sm.Monitor(network, batch_dim=1, time_dim=0), spikes)
    images = _grey(5, 1, 8, 8)
    for name, build, batch in [
        ("distributed_sampler", distributed_sampler.SpikingMLP, images.flatten(1)),
        ("training_diagnosis", training_diagnosis.SpikingMLP, images.flatten(1)),
        ("paper_table/snn", lambda: paper_table.Network(8, spiking=True), images),
        ("paper_table/ann", lambda: paper_table.Network(8, spiking=False), images),
    ]:
        yield name, _run(sm.Monitor(_seeded(build), batch_dim=0), batch)


def _seeded(build: Any) -> nn.Module:
    torch.manual_seed(1)
    return on_grid(build())


def _run(monitor: sm.Monitor, *batches: Tensor) -> sm.Report:
    torch.manual_seed(2)
    with torch.no_grad(), monitor:
        for batch in batches:
            monitor.model(batch)
    return monitor.compute()


def _spikes(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)).lt(0.3).float()


def _grey(*shape: int) -> Tensor:
    """Sixteenths, as in scikit-learn's digits."""
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(4)) / 16


# -------------------------------------------------------------------------------------- NIR


def _graphs() -> Iterator[tuple[str, sm.Report]]:
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> Any:
        return (rng.integers(-2, 3, shape) / 4).astype(np.float32)

    for number, (shape, spatial, stride, padding, dilation, groups) in enumerate(test_nir.CONVS):
        if padding == "same" and len(spatial) == 1:
            continue  # nir cannot make such a node with a shape
        make = nir.Conv1d if len(spatial) == 1 else nir.Conv2d
        stated = spatial[0] if len(spatial) == 1 else np.array(spatial)
        bias = np.zeros(shape[0], np.float32)
        node = make(stated, weights(*shape), stride, padding, dilation, groups, bias)
        ends = test_nir.io((shape[1] * groups, *spatial))
        graph = test_nir.in_a_row(**{"in": ends["in"]}, conv=node, out=ends["out"])
        size = (shape[1] * groups, *spatial)
        rates = {"in": rng.integers(0, 9, size) / 8}
        yield f"conv/{number}", sm.from_nir(graph, steps=7, rates=rates)
    dense = test_nir.in_a_row(
        **{"in": test_nir.io((6,))["in"]},
        first=nir.Affine(weights(5, 6), np.zeros(5, np.float32)),
        fire=test_nir.neurons(5),
        scale=nir.Scale(weights(5)),
        second=nir.Linear(weights(3, 5)),
        out=test_nir.io((6,))["out"],
    )
    yield "dense", sm.from_nir(dense, steps=4, rates={"in": 0.25, "fire": 0.5}, dt=0.001)
    yield "dense, rates not given", sm.from_nir(dense)
    test_nir.seed()
    for name, graph in (("recurrent", test_nir.recurrent()), ("nested", test_nir.nested())):
        yield name, sm.from_nir(graph, steps=3)


PARTS = {"zoo": _zoo, "random": _random_models, "examples": _examples, "nir": _graphs}
"""Where models are defined, in the order of the data."""
