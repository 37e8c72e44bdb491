"""Declarations of the user about the modules of a model: selection, kinds of inputs, groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from snnmetrics.frameworks.neurons import neuron_type
from snnmetrics.monitor.input_scale import Given, InputScale
from snnmetrics.monitor.names import plain_name
from snnmetrics.report.data import KINDS
from snnmetrics.text import closest

# Containers without operations of their own, and so without rows.
_CONTAINERS = frozenset({nn.Sequential, nn.ModuleList, nn.ModuleDict})

Choice = str | type[nn.Module] | Callable[[str, nn.Module], bool]


class Declarations:
    """Declarations about the modules of a model, checked against their names.

    Args:
        model: The model.
        kinds: Kinds of input by name or pattern.
        input_scale: Scales of input by name or pattern.
        groups: Names or patterns by group.
        include: What to count.
        exclude: What to leave out.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has an unknown value or names no module of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: Mapping[str, str] | None,
        input_scale: Mapping[str, Given] | None,
        groups: Mapping[str, Sequence[str]] | None,
        include: Choice | Sequence[Choice] | None,
        exclude: Choice | Sequence[Choice] | None,
    ) -> None:
        self.modules = {plain_name(path, model): m for path, m in model.named_modules()}
        self._kinds = self.by_name("kinds", kinds)
        for name, kind in self._kinds.items():
            if kind not in KINDS:
                raise ValueError(f"kinds[{name!r}]: expected one of {KINDS}, found {kind!r}")
        self._scales = {
            name: InputScale.of(f"input_scale[{name!r}]", scale)
            for name, scale in self.by_name("input_scale", input_scale).items()
        }
        self.groups = self._grouped(groups)
        self._include = self._chosen("include", include)
        self._exclude = self._chosen("exclude", exclude)
        self._rows = {
            "include": self._rows_in(self._include),
            "exclude": self._rows_in(self._exclude),
        }

    # --------------------------------------------------------------------------- answers

    def kind(self, row: str) -> str | None:
        """Declared kind of the input of a row."""
        kind: str | None = _lookup(self._kinds, row)
        return kind

    def scale(self, row: str) -> InputScale | None:
        """Declared scale of the input of a row."""
        scale: InputScale | None = _lookup(self._scales, row)
        return scale

    @property
    def has_varying_scales(self) -> bool:
        """Whether a scale of an input is not one number for good."""
        return any(scale.by is not None for scale in self._scales.values())

    def of_row(self, row: str) -> tuple[Any, ...]:
        """All that was declared of a row: kind, scale and groups."""
        scale, groups = self.scale(row), [g for g in self.groups if self.members(g, [row])]
        return self.kind(row), None if scale is None else (scale.facts(), scale.function), groups

    def members(self, group: str, rows: Iterable[str]) -> list[str]:
        """Return the rows that belong to a group."""
        chosen = dict.fromkeys(self.groups[group], True)
        return [name for name in rows if _lookup(chosen, name)]

    def is_counted(self, name: str, module: nn.Module) -> bool:
        """Whether operations and neurons of a module, or some of them, are to be counted."""
        included = (
            not self._include
            or self._chosen_by(self._include, name, module)
            or any(self._may_include_rows(choice, name, module) for choice in self._include)
        )
        return included and not self._chosen_by(self._exclude, name, module)

    def _may_include_rows(self, choice: Choice, name: str, module: nn.Module) -> bool:
        """Whether a name or pattern to be counted may be that of rows of a module."""
        if not isinstance(choice, str) or not _may_be_row_of(choice, name):
            return False
        if choice not in self._rows["include"] and not _is_pattern(choice.rpartition(".")[2]):
            return False  # it is of modules
        # A pattern such as '*.qk' may be of any module; it does not ask for neurons.
        return choice.startswith(f"{name}.") or neuron_type(module) is None

    def is_row_counted(self, row: str, name: str) -> bool:
        """Whether a row of a module that is counted is to be reported.

        Args:
            row: Name of the row.
            name: Path of the module.
        """
        if _chooses_row(self._exclude, row):
            return False
        module = self.modules.get(name)
        return (
            not self._include
            or module is None  # it was added to the model since
            or self._chosen_by(self._include, name, module)
            or _chooses_row(self._include, row)
        )

    def left_out(self, called: Iterable[str]) -> list[str]:
        """Those of some modules that are not counted, in the order of the model."""
        called = set(called)
        return [
            name
            for name, module in self.modules.items()
            if name in called and not self.is_counted(name, module)
        ]

    def idle(self, rows: Iterable[str]) -> Iterator[str]:
        """Yield a note for each declaration that matches none of the rows."""
        named = {"kinds": list(self._kinds), "input_scale": list(self._scales)}
        named |= {f"groups[{group!r}]": list(names) for group, names in self.groups.items()}
        named |= self._rows
        rows = list(rows)
        for argument, names in named.items():
            for name in names:
                if not any(_lookup({name: True}, row) for row in rows):
                    yield f"{argument}: no row of the name {name!r} was seen{closest(name, rows)}"

    def facts(self) -> dict[str, Any]:
        """Return what must be the same wherever counts are added up, as plain data."""
        groups = {group: sorted(names) for group, names in sorted(self.groups.items())}
        counted = {name: self.is_counted(name, module) for name, module in self.modules.items()}
        return {
            # Of several patterns the first one counts, so that their order matters.
            "kinds": [[name, kind] for name, kind in self._kinds.items()],
            "input_scale": [[name, scale.facts()] for name, scale in self._scales.items()],
            "groups": groups,
            "left_out": [name for name, is_counted in counted.items() if not is_counted],
            "rows": {
                "include": sorted(self._rows["include"]),
                "exclude": sorted(choice for choice in self._exclude if isinstance(choice, str)),
            },
        }

    # ---------------------------------------------------------------------------- checks

    def by_name(
        self, argument: str, named: Mapping[str, Any] | None, places: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Refuse names and patterns that lead to no module of the model."""
        if named is not None and not isinstance(named, Mapping):
            raise TypeError(f"{argument}: expected a mapping by names of modules, found {named!r}")
        checked = dict(named or {})
        for key in checked:
            if not isinstance(key, str):
                raise TypeError(f"{argument}: expected names of modules as text, found {key!r}")
            name, _, place = key.rpartition(".") if places else (key, "", "")
            known = name in self.modules
            if not places:  # a pattern, or a part of a module such as 'attn.qk'
                known = known or self._is_module(name) or self._may_be_row(name)
            if not known or (places and place not in places):
                expected = " and ".join(f"'<module>.{p}'" for p in places) or "names"
                raise ValueError(
                    f"{argument}: expected {expected} of modules among {sorted(self.modules)}, "
                    f"found {key!r}{closest(name, self.modules)}"
                )
        return checked

    def _grouped(self, groups: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
        """Refuse empty groups, and names that stand for a module or the total."""
        if groups is not None and not isinstance(groups, Mapping):
            raise TypeError(f"groups: expected a mapping of lists of names, found {groups!r}")
        grouped = {}
        for name, layers in (groups or {}).items():
            if not isinstance(name, str):
                raise TypeError(f"groups: expected names of groups as text, found {name!r}")
            if not isinstance(layers, list | tuple | set):
                raise TypeError(f"groups[{name!r}]: expected a list of names, found {layers!r}")
            if not layers:
                raise ValueError(f"groups[{name!r}]: expected at least one name, found none")
            if name == "total" or any(f"{name}.".startswith(f"{m}.") for m in self.modules):
                raise ValueError(f"groups: expected a name that no layer has, found {name!r}")
            self.by_name(f"groups[{name!r}]", dict.fromkeys(layers))
            grouped[name] = tuple(layers)
        return grouped

    def _chosen(self, argument: str, choice: Choice | Sequence[Choice] | None) -> list[Choice]:
        """Refuse choices of another type, and choices that match no module."""
        if choice is None:
            return []
        listed = isinstance(choice, list | tuple | set)
        choices: list[Any] = list(choice) if listed else [choice]  # type: ignore[arg-type]
        for one in choices:
            if not (isinstance(one, str) or callable(one)):
                raise TypeError(
                    f"{argument}: expected names, module types or functions, found {one!r}"
                )
            chooses = any(_matches(one, *item) for item in self.modules.items())
            if not chooses and not (isinstance(one, str) and self._may_be_row(one)):
                hint = closest(one, self.modules) if isinstance(one, str) else ""
                raise ValueError(
                    f"{argument}: expected what chooses some of {sorted(self.modules)}, "
                    f"found {one!r}{hint}"
                )
        return choices

    def _is_module(self, pattern: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in self.modules)

    def _may_be_row(self, name: str) -> bool:
        """Whether a name may be that of a row of several in a module, such as ``attn.qk``."""
        return any(
            _may_be_row_of(name, path) and type(module) not in _CONTAINERS
            for path, module in self.modules.items()
        )

    def _rows_in(self, choices: Iterable[Choice]) -> list[str]:
        """Names and patterns of rows alone: they choose no module."""
        return [one for one in choices if isinstance(one, str) and not self._is_module(one)]

    def _chosen_by(self, choices: list[Choice], name: str, module: nn.Module) -> bool:
        """Whether a module, or one that it is part of, is among the choices."""
        line = [(name, module), *self._above(name)]
        return any(_matches(choice, *one) for choice in choices for one in line)

    def _above(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """The modules that a module is part of, but for the root."""
        while "." in name:
            name = name.rpartition(".")[0]
            if name in self.modules:
                yield name, self.modules[name]


def _matches(choice: Choice, name: str, module: nn.Module) -> bool:
    if isinstance(choice, str):
        return fnmatchcase(name, choice)
    if isinstance(choice, type):
        return isinstance(module, choice)
    return bool(choice(name, module))


def _chooses_row(choices: Iterable[Choice], row: str) -> bool:
    return any(isinstance(choice, str) and fnmatchcase(row, choice) for choice in choices)


def _may_be_row_of(row: str, module: str) -> bool:
    """Whether a name or pattern may be that of a row in a module: ``"*.qk"`` of any module."""
    return row.startswith(f"{module}.") or fnmatchcase(module, row.rpartition(".")[0])


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _lookup(named: Mapping[str, Any], name: str) -> Any:
    """The entry of a row: by its name, by the first pattern, or by the module it is part of."""
    if name in named:
        return named[name]
    for key, value in named.items():
        if fnmatchcase(name, key):
            return value
    return _lookup(named, name.rpartition(".")[0]) if "." in name else None
