"""Whatever a user can get in hand is explained, with an example that the doctests run."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import pytest

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
