"""Whatever a user can get in hand is explained, with an example that the doctests run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import snnmetrics as sm
from snnmetrics import conventions, energy, functional, paper, plots, report
from snnmetrics.integrations import lightning

PUBLIC = (sm, functional, report, energy, conventions, paper, plots, lightning)


def is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == sm.__name__


def exported(module: ModuleType) -> Iterator[Any]:
    """What a module says is public; what it defines, if it does not say."""
    own = [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    ]
    for name in getattr(module, "__all__", own):
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield thing


def function_of(member: Any) -> Any:
    """The function behind a property, a method of a class or a function."""
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, cached_property) else inspect.unwrap(member)


def members(cls: type) -> dict[str, Any]:
    """Public methods and properties that this library gives a class."""
    found: dict[str, Any] = {}
    for base in filter(is_ours, reversed(cls.__mro__)):
        own = {name: function_of(m) for name, m in vars(base).items() if not name.startswith("_")}
        found |= {name: member for name, member in own.items() if inspect.isroutine(member)}
    return found


def in_hand(thing: Any) -> Iterator[type]:
    """Classes of this library that a function returns, or that a class holds or returns."""
    functions = [thing] if inspect.isfunction(thing) else members(thing).values()
    said = [(f, f.__annotations__.get("return")) for f in functions if inspect.isfunction(f)]
    if is_dataclass(thing):
        said += [(thing, field.type) for field in fields(thing)]
    for where, annotation in said:
        known = vars(sys.modules[where.__module__])
        for name in re.findall(r"\w+", str(annotation)):
            if inspect.isclass(found := known.get(name)) and is_ours(found):
                yield found


def surface() -> dict[str, Any]:
    """Everything public, and every class that one comes by from it."""
    waiting = [thing for module in PUBLIC for thing in exported(module)]
    found: dict[str, Any] = {}
    while waiting:
        thing = waiting.pop()
        key = f"{thing.__module__}.{thing.__qualname__}"
        if key not in found:
            found[key] = thing
            waiting += in_hand(thing)
    return dict(sorted(found.items()))


def explained(text: str) -> set[str]:
    """What has a line under ``Args:`` or ``Attributes:``."""
    parts = re.findall(r"^(?:Args|Attributes):\n((?:[ ].*\n?|\n)+)", text, re.MULTILINE)
    return set(re.findall(r"^    (\w+): \S", "".join(parts), re.MULTILINE))


def arguments(thing: Any) -> list[str]:
    """What one may give a function, or a class to make one; of records, what they hold."""
    if is_dataclass(thing):
        return [field.name for field in fields(thing)]
    if hasattr(thing, "_fields"):
        return list(thing._fields)
    if inspect.isclass(thing) and not is_ours(thing.__init__):
        return []
    return list(inspect.signature(thing).parameters)


def records(thing: Any) -> list[Any]:
    """Dataclasses that a dataclass inherits fields from, each with the documentation of its own."""
    return [base for base in getattr(thing, "__mro__", ())[1:] if is_dataclass(base)]


def missing(thing: Any) -> list[str]:
    """What the documentation of a public function or class lacks."""
    text = inspect.cleandoc(thing.__doc__ or "")
    known = explained(text).union(*(explained(inspect.cleandoc(b.__doc__)) for b in records(thing)))
    lacks = [] if doctest.DocTestParser().get_examples(text) else ["an example"]
    if inspect.isclass(thing):
        lacks += [f"what {name} is" for name, m in members(thing).items() if not inspect.getdoc(m)]
    return lacks + [f"what {name} is" for name in arguments(thing) if name not in known]


SURFACE = surface()


@pytest.mark.parametrize("name", SURFACE)
def test_it_is_explained_with_an_example(name: str) -> None:
    assert not missing(SURFACE[name])


EXPORTED = {f"{m.__name__}.{t.__name__}": t for m in PUBLIC for t in exported(m)}


@pytest.mark.parametrize("name", EXPORTED)
def test_it_refers_to_related_names(name: str) -> None:
    """Each under ``See Also``, with the relation. That references resolve, Sphinx checks."""
    _, section, related = inspect.cleandoc(EXPORTED[name].__doc__).partition("\nSee Also:\n")
    assert section, f"{name}: no section See Also"
    lines = re.sub(r"\n {6}", " ", related).splitlines()
    for line in lines:
        assert re.fullmatch(r" {4}- :(class|func|meth|attr):`~snnmetrics\.[\w.]+`: .+\.", line), (
            line
        )
        assert f"`~{name}`" not in line, line


def test_what_one_comes_by_is_found() -> None:
    """By name, and by way of properties, methods, fields and functions."""
    names = {key.rpartition(".")[2] for key in SURFACE}
    assert {"SynOps", "synops", "raster", "SNNMetricsCallback"} <= names
    assert {"LayerRow", "NeuronRow", "Violation", "Change", "EnergyRow", "PaperRow"} <= names
    assert {"Counts", "Operation", "Constant", "Convention", "Contribution", "Workload"} <= names
    assert len(names) > 80


METRICS = {
    sm.SynOps: functional.synops,
    sm.FiringRate: functional.firing_rate,
    sm.ActivationSparsity: functional.activation_sparsity,
    sm.SilentNeurons: functional.silent_neurons,
    sm.MembraneUpdates: functional.membrane_updates,
    sm.AccuracyOverTime: functional.accuracy_over_time,
    sm.TimeToFirstSpike: functional.time_to_first_spike,
    sm.EarlyExit: functional.early_exit,
    sm.OptimalCutoff: functional.optimal_cutoff,
    sm.IntervalStatistics: functional.interval_statistics,
    sm.FanoFactor: functional.fano_factor,
    sm.MembraneStatistics: functional.membrane_statistics,
    sm.GradientStatistics: functional.gradient_statistics,
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_a_function_takes_the_batch_and_then_what_its_metric_takes(metric: Any) -> None:
    """In the same order, with the same defaults."""

    def given(function: Any, *left_out: str) -> list[tuple[str, Any]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.default) for p in found if p.name not in left_out]

    batch = given(metric.update, "self", "mask")
    declared = given(metric.__init__, "self", "metric_kwargs")
    assert given(METRICS[metric]) == batch + declared


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_update_explains_what_it_takes(metric: Any) -> None:
    text = inspect.getdoc(metric.update) or ""
    named = re.findall(r"^- ``(\w+)`` \(:class:`~torch.Tensor`", text, re.MULTILINE)
    assert ["self", *named] == list(inspect.signature(metric.update).parameters)
    assert "Raises:" in text


# ------------------------------------------------------------------------------- habits


def functions_of(thing: Any) -> Iterator[Any]:
    """A function itself; of a class what makes one, and its methods."""
    if inspect.isfunction(thing):
        yield thing
        return
    if is_ours(thing.__init__):
        yield thing.__init__
    yield from filter(inspect.isfunction, members(thing).values())


def parameters(things: Iterable[Any]) -> list[tuple[str, inspect.Parameter]]:
    """Every parameter of public functions, with the function that has it."""
    functions = [function for thing in things for function in functions_of(thing)]
    return [
        (f"{function.__module__}.{function.__qualname__}", parameter)
        for function in functions
        for parameter in inspect.signature(function).parameters.values()
    ]


PARAMETERS = parameters(SURFACE.values())
GONE = {"masks", "pred_type", "evidence", "frames", "targets"}


def gone(things: Iterable[Any]) -> list[str]:
    """Names of the past among parameters, fields, methods and properties."""
    things = list(things)
    named = [(where, parameter.name) for where, parameter in parameters(things)]
    for thing in filter(inspect.isclass, things):
        held = [field.name for field in fields(thing)] if is_dataclass(thing) else []
        named += [(thing.__qualname__, name) for name in [*held, *members(thing)]]
    return [f"{name} in {where}" for where, name in named if name in GONE]


def test_no_name_is_of_the_past() -> None:
    assert len(PARAMETERS) > 500
    assert not gone(SURFACE.values())


def test_a_name_of_the_past_is_found() -> None:
    class Measured:
        def __init__(self, evidence: str) -> None: ...

        def frames(self, masks: bool) -> None: ...

    for method in (Measured, Measured.__init__, Measured.frames):
        method.__module__ = sm.__name__
    assert [found.partition(" ")[0] for found in gone([Measured])] == [
        "evidence",
        "masks",
        "frames",
    ]


def test_maps_per_neuron_are_asked_for_everywhere_but_in_synops() -> None:
    found = {where: p.default for where, p in PARAMETERS if p.name == "per_neuron"}
    ours = {where for where, default in found.items() if default is not False}
    own = {sm.SynOps.__init__, functional.synops}
    assert ours == {f"{each.__module__}.{each.__qualname__}" for each in own}
    assert len(found) >= 9
    assert all(found[where] is True for where in ours)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_outputs_and_labels_are_called_as_in_torchmetrics(metric: Any) -> None:
    """And all else that a metric takes is what a layer gives."""
    _, *given, mask = inspect.signature(metric.update).parameters
    assert mask == "mask"
    assert given in (["activations"], ["potentials"], ["gradient"], ["preds", "target"])


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_time_is_dimension_1_and_readout_is_one_name(metric: Any) -> None:
    declared = inspect.signature(metric.__init__).parameters
    if metric is not sm.ActivationSparsity:  # no dimension has a meaning
        assert declared["time_dim"].default == (None if metric is sm.SynOps else 1)
    assert ("readout" in declared) == (
        metric in (sm.AccuracyOverTime, sm.EarlyExit, sm.OptimalCutoff)
    )


def test_a_step_is_dt_and_a_duration_is_seconds() -> None:
    """``sample_time`` of ``SynOps`` is from 0.0.1 and stays there alone."""
    meant = {"dt": r"Seconds (of|per|that) .*\bstep", "seconds": "Duration"}
    said = [
        (name, re.findall(rf"^\s+{name}: (.+)", thing.__doc__ or "", re.MULTILINE))
        for thing in SURFACE.values()
        for name in meant
    ]
    assert sum(len(lines) for _, lines in said) >= 9
    for name, lines in said:
        assert all(re.match(meant[name], line) for line in lines), (name, lines)
    timed = {where.rpartition(".")[2] for where, p in PARAMETERS if p.name == "sample_time"}
    assert timed == {"__init__", "synops"}
    assert "sample_time" in inspect.signature(sm.SynOps.__init__).parameters


LAYER, LABELS = torch.ones(2, 3, 4), torch.tensor([0, 1])
CURVES = {"histogram": (32,), "norm_per_step": (3,), "zero_fraction_per_step": (3,)}


@pytest.mark.parametrize(
    ("metric", "batch", "entries"),
    [
        (sm.FiringRate(), [LAYER], None),
        (sm.FiringRate(per_neuron=True), [LAYER], 2),
        (sm.ActivationSparsity(), [LAYER], None),
        (sm.SilentNeurons(), [LAYER], 2),
        (sm.SilentNeurons(per_neuron=True), [LAYER], 4),
        (sm.MembraneUpdates(), [LAYER], None),
        (sm.IntervalStatistics(), [LAYER], 5),
        (sm.IntervalStatistics(per_neuron=True), [LAYER], 10),
        (sm.FanoFactor(), [LAYER], None),
        (sm.FanoFactor(per_neuron=True), [LAYER], 2),
        (sm.MembraneStatistics(), [LAYER], 4),
        (sm.MembraneStatistics(per_neuron=True), [LAYER], 7),
        (sm.GradientStatistics(), [LAYER], 5),
        (sm.TimeToFirstSpike(), [LAYER, LABELS], 3),
        (sm.TimeToFirstSpike(per_neuron=True), [LAYER, LABELS], 5),
        (sm.EarlyExit(0.5), [LAYER, LABELS], 2),
        (sm.OptimalCutoff(), [LAYER, LABELS], 2),
        (sm.SynOps(1), [LAYER], 2),
        (sm.SynOps(1, per_neuron=False), [LAYER], 1),  # its dict is its contract
        (sm.SynOps(1, 0.1, per_neuron=False), [LAYER], 2),
    ],
)
def test_one_number_is_a_tensor_and_several_are_a_dict(
    metric: Any, batch: list[Tensor], entries: int | None
) -> None:
    for value in (metric(*batch), metric.compute()):
        if entries is None:
            assert value.shape == ()
            continue
        assert type(value) is dict
        assert len(value) == entries
        assert all(value[key].shape == shape for key, shape in CURVES.items() if key in value)
        of_neurons = {key for key, entry in value.items() if entry.ndim and key not in CURVES}
        assert not of_neurons or metric.per_neuron
        assert all(value[key].shape == (4,) or type(metric) is sm.SynOps for key in of_neurons)


def test_a_curve_has_a_number_per_step() -> None:
    metric = sm.AccuracyOverTime()
    assert metric(LAYER, LABELS).shape == metric.compute().shape == (3,)


# --------------------------------------------------------------------------------- face


def test_the_face_is_public_names_and_sub_packages() -> None:
    assert dir(sm) == sm.__all__ == sorted(sm.__all__)
    modules = {name for name in sm.__all__ if inspect.ismodule(getattr(sm, name))}
    public = {module.__name__.split(".")[1] for module in PUBLIC if module is not sm}
    assert modules == public
    assert all(getattr(sm, name).__name__ == f"{sm.__name__}.{name}" for name in modules)
    with pytest.raises(AttributeError, match="no attribute 'pictures'"):
        sm.pictures  # noqa: B018


@pytest.mark.parametrize(
    "module", [m for m in PUBLIC if m not in (sm, lightning)], ids=lambda m: m.__name__
)
def test_sub_packages_show_their_public_names(module: ModuleType) -> None:
    assert dir(module) == sorted(module.__all__)


def test_of_energy_the_package_shows_what_the_readme_shows() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    shown = set(re.findall(r"\bsm\.(\w+)", readme))
    assert set(energy.__all__) & set(sm.__all__) == set(energy.__all__) & shown
    assert "estimate_energy" in shown


def test_no_name_hides_a_module() -> None:
    names = [m.name for m in pkgutil.walk_packages(sm.__path__, f"{sm.__name__}.")]
    assert len(names) > 100
    for name in names:
        module = importlib.import_module(name)
        package, _, own = name.rpartition(".")
        assert getattr(sys.modules[package], own) is module, name


# ------------------------------------------------------------------------------ the tests


def test_every_function_has_its_metric() -> None:
    assert {function.__name__ for function in METRICS.values()} == set(functional.__all__)


def test_what_is_missing_is_found() -> None:
    @dataclass
    class Row:
        """A row.

        Attributes:
            acs: Accumulations.

        Example:
            >>> 1
            1
        """

        acs: int
        macs: int

        def told(self) -> int:
            """Once."""
            return 1

        @property
        def untold(self) -> int:
            return 1

    @dataclass
    class Longer(Row):
        """A longer row.

        Attributes:
            synops: Synaptic operations.

        Example:
            >>> 1
            1
        """

        synops: int
        events: int

    def function(first: int, second: int) -> None:  # noqa: D417  (what is to be found)
        """Do it.

        Args:
            first: What comes first.
        """

    Row.__module__ = Longer.__module__ = sm.__name__
    assert missing(Row) == ["what untold is", "what macs is"]
    assert missing(Longer) == ["what untold is", "what macs is", "what events is"]
    assert missing(function) == ["an example", "what second is"]


def test_the_doctests_look_where_it_is_defined(request: pytest.FixtureRequest) -> None:
    assert "--doctest-modules" in request.config.getini("addopts")
    assert "src" in request.config.getini("testpaths")
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = sorted({thing.__module__ for thing in SURFACE.values()})
    run = {
        test.name for name in modules for test in finder.find(sys.modules[name]) if test.examples
    }
    assert set(SURFACE) <= run
