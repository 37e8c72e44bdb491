"""User declarations about the modules of a model: selection, kinds and scales of inputs, groups."""

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

# Containers without operations of their own, and thus without rows.
_CONTAINERS = frozenset({nn.Sequential, nn.ModuleList, nn.ModuleDict})

Choice = str | type[nn.Module] | Callable[[str, nn.Module], bool]


class Declarations:
    """Declarations about the modules of a model, checked against the names of the modules.

    Args:
        model: The model.
        kinds: Kind of the input by name or pattern of rows or modules.
        input_scale: Scale of the input by name or pattern of rows or modules.
        groups: Names or patterns of rows or modules, by name of the group.
        include: Modules or rows to count; all if None or empty.
        exclude: Modules or rows not to count.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument has an unknown value or does not match a module of the model.
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
        """Return the declared kind of the input of a row, if any."""
        kind: str | None = _lookup(self._kinds, row)
        return kind

    def scale(self, row: str) -> InputScale | None:
        """Return the declared scale of the input of a row, if any."""
        scale: InputScale | None = _lookup(self._scales, row)
        return scale

    @property
    def has_varying_scales(self) -> bool:
        """Whether a scale varies by channel or batch, that is, is not one constant number."""
        return any(scale.by is not None for scale in self._scales.values())

    def of_row(self, row: str) -> tuple[Any, ...]:
        """Return all declarations of a row: kind, scale and groups."""
        scale, groups = self.scale(row), [g for g in self.groups if self.members(g, [row])]
        return self.kind(row), None if scale is None else (scale.facts(), scale.function), groups

    def members(self, group: str, rows: Iterable[str]) -> list[str]:
        """Return the rows that belong to a group."""
        chosen = dict.fromkeys(self.groups[group], True)
        return [name for name in rows if _lookup(chosen, name)]

    def is_counted(self, name: str, module: nn.Module) -> bool:
        """Return whether any operations or neurons of a module are to be counted."""
        included = (
            not self._include
            or self._chosen_by(self._include, name, module)
            or any(self._may_include_rows(choice, name, module) for choice in self._include)
        )
        return included and not self._chosen_by(self._exclude, name, module)

    def _may_include_rows(self, choice: Choice, name: str, module: nn.Module) -> bool:
        """Return whether an included name or pattern may match rows of a module."""
        if not isinstance(choice, str) or not _may_be_row_of(choice, name):
            return False
        if choice not in self._rows["include"] and not _is_pattern(choice.rpartition(".")[2]):
            return False  # it matches modules, not rows
        # A pattern such as '*.qk' may match rows of any module, but does not select neurons.
        return choice.startswith(f"{name}.") or neuron_type(module) is None

    def is_row_counted(self, row: str, name: str) -> bool:
        """Return whether to report a row of a counted module.

        Args:
            row: Name of the row.
            name: Path of the module.
        """
        if _chooses_row(self._exclude, row):
            return False
        module = self.modules.get(name)
        return (
            not self._include
            or module is None  # added to the model after the declarations
            or self._chosen_by(self._include, name, module)
            or _chooses_row(self._include, row)
        )

    def left_out(self, called: Iterable[str]) -> list[str]:
        """Return the called modules that are not counted, in the order of the model."""
        called = set(called)
        return [
            name
            for name, module in self.modules.items()
            if name in called and not self.is_counted(name, module)
        ]

    def idle(self, rows: Iterable[str]) -> Iterator[str]:
        """Yield a note for each declared name or pattern that does not match any row."""
        named = {"kinds": list(self._kinds), "input_scale": list(self._scales)}
        named |= {f"groups[{group!r}]": list(names) for group, names in self.groups.items()}
        named |= self._rows
        rows = list(rows)
        for argument, names in named.items():
            for name in names:
                if not any(_lookup({name: True}, row) for row in rows):
                    yield f"{argument}: no row matches {name!r}{closest(name, rows)}"

    def facts(self) -> dict[str, Any]:
        """Return the declarations as plain data. Counts are only added up if these are equal."""
        groups = {group: sorted(names) for group, names in sorted(self.groups.items())}
        counted = {name: self.is_counted(name, module) for name, module in self.modules.items()}
        return {
            # A list, since order matters: the first matching pattern applies.
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
        """Raise if a name or pattern does not match a module of the model or a possible row of one.

        Args:
            argument: Name of the argument, for errors.
            named: Values by name or pattern; by ``"<module>.<place>"`` if there are places.
            places: Accepted places in a module; empty if keys are names or patterns.

        Returns:
            A copy of ``named``.
        """
        if named is not None and not isinstance(named, Mapping):
            raise TypeError(f"{argument}: expected a mapping keyed by module name, found {named!r}")
        checked = dict(named or {})
        for key in checked:
            if not isinstance(key, str):
                raise TypeError(f"{argument}: expected module names as text, found {key!r}")
            name, _, place = key.rpartition(".") if places else (key, "", "")
            known = name in self.modules
            if not places:  # a pattern, or a row of a module such as 'attn.qk'
                known = known or self._is_module(name) or self._may_be_row(name)
            if not known or (places and place not in places):
                expected = " or ".join(f"'<module>.{p}'" for p in places) or "names"
                raise ValueError(
                    f"{argument}: expected {expected} of modules among {sorted(self.modules)}, "
                    f"found {key!r}{closest(name, self.modules)}"
                )
        return checked

    def _grouped(self, groups: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
        """Raise if a group is empty, or its name is that of a module or of the total."""
        if groups is not None and not isinstance(groups, Mapping):
            raise TypeError(f"groups: expected a mapping to lists of names, found {groups!r}")
        grouped = {}
        for name, layers in (groups or {}).items():
            if not isinstance(name, str):
                raise TypeError(f"groups: expected group names as text, found {name!r}")
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
        """Raise if a choice is of another type or does not match a module or a possible row."""
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
                    f"{argument}: expected a choice that matches some of {sorted(self.modules)}, "
                    f"found {one!r}{hint}"
                )
        return choices

    def _is_module(self, pattern: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in self.modules)

    def _may_be_row(self, name: str) -> bool:
        """Return whether a name may be that of one of several rows of a module, such as attn.qk."""
        return any(
            _may_be_row_of(name, path) and type(module) not in _CONTAINERS
            for path, module in self.modules.items()
        )

    def _rows_in(self, choices: Iterable[Choice]) -> list[str]:
        """Return the names and patterns that do not match modules, and thus select rows."""
        return [one for one in choices if isinstance(one, str) and not self._is_module(one)]

    def _chosen_by(self, choices: list[Choice], name: str, module: nn.Module) -> bool:
        """Return whether a module or one of its ancestors is among the choices."""
        line = [(name, module), *self._above(name)]
        return any(_matches(choice, *one) for choice in choices for one in line)

    def _above(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """Yield the ancestors of a module, without the root."""
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
    """Return whether a name or pattern may match rows of a module; ``"*.qk"`` matches any."""
    return row.startswith(f"{module}.") or fnmatchcase(module, row.rpartition(".")[0])


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _lookup(named: Mapping[str, Any], name: str) -> Any:
    """Look up a row by its name, by the first matching pattern, or by its closest ancestor."""
    if name in named:
        return named[name]
    for key, value in named.items():
        if fnmatchcase(name, key):
            return value
    return _lookup(named, name.rpartition(".")[0]) if "." in name else None
