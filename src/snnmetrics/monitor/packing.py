"""Counts of a monitor as a structure of plain data and named tensors.

Ranks exchange their counts in this form and add the tensors of equal structures. A saved state
contains the same two parts. Both are derived from the type hints of ``RunData`` and of its nested
objects: a field that adds up is a tensor, every other field (a "fact") is part of the structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin

import torch
from torch import Tensor

from snnmetrics.ranks.reduce import Reduction
from snnmetrics.report import schema
from snnmetrics.report.curve import UNTIMED, Curve
from snnmetrics.report.data import Counts, RowKey
from snnmetrics.report.distribution import BINS, Distribution, dense, sparse
from snnmetrics.report.json import check_operation
from snnmetrics.report.run_data import (
    COLUMNS,
    FACT,
    ON_DEVICE,
    RowTotals,
    RunData,
    kinds_of,
)

Tensors = Mapping[str, Tensor]


class Packed(NamedTuple):
    """A run in two parts.

    Attributes:
        structure: Names, operations, shapes and notes, as dicts, lists, text and numbers.
        tensors: All fields that add up, by name; names and shapes follow from the structure.
    """

    structure: dict[str, Any]
    tensors: dict[str, Tensor]


# ------------------------------------------------------------------ one field of an object


class _Codec(Protocol):
    """Functions that pack and unpack one field.

    ``owner`` is the object that has the field. While this object is unpacked, it is its facts.
    """

    def facts(self, value: Any) -> Any:
        """Return the facts of a value (parts that do not add up) as plain data, or None."""

    def check(self, facts: Any, path: str) -> Any:
        """Check facts from a saved state or another rank, and return them parsed."""

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of a value (parts that add up) with their names."""

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield zeros in the shapes of these tensors, expanded so that they use no memory."""

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        """Return the value of the field from its facts and tensors."""


class _Summed:
    """Base class for fields that add up and have no facts."""

    def facts(self, value: Any) -> Any:
        return None

    def check(self, facts: Any, path: str) -> Any:
        if facts is not None:
            raise schema.error(path, "null", facts)


class _Number(_Summed):
    """A number that adds up."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        yield at, torch.as_tensor(value, dtype=self._dtype)

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        yield at, torch.zeros((), dtype=self._dtype)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return tensors[at].item()


class _Table(_Summed):
    """Counts by kind, one table row for each kind that the operation may have."""

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        yield at, owner.totals_of()

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        zero = torch.zeros((), dtype=torch.float64)
        yield at, zero.expand(len(kinds_of(owner.operation)), len(COLUMNS))

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return RowTotals(owner.operation).counts_of(tensors[at])


class _Fact:
    """A field that does not add up."""

    def __init__(self, hint: Any) -> None:
        self.check = schema.check_of(hint, {})

    def facts(self, value: Any) -> Any:
        return schema.plain(value)

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        return iter(())

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        return iter(())

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return facts


class _Words(_Fact):
    """A set of strings."""

    def __init__(self) -> None:
        super().__init__(tuple[str, ...])

    def facts(self, value: Any) -> Any:
        return sorted(value)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return frozenset(facts)


class _Map:
    """A tensor that adds up, or None; its shape is a fact."""

    check = staticmethod(schema.optional(schema.sizes))

    def facts(self, value: Any) -> Any:
        return None if value is None else list(value.shape)

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        if value is not None:
            yield at, value

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        if facts is not None:
            yield at, torch.zeros((), dtype=torch.float64).expand(facts)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return tensors.get(at)


class _Spread:
    """A distribution over samples; whether its peak over time steps is known is a fact."""

    check = staticmethod(schema.truth)

    def facts(self, value: Distribution) -> Any:
        return value.peak_step is not None

    def tensors(self, value: Distribution, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        figures = [value.total, value.squares, value.largest, value.peak_step or 0.0]
        sums, extremes = torch.tensor(figures, dtype=torch.float64).split(2)
        yield f"{at}.sums", sums
        yield f"{at}.extremes", extremes
        yield f"{at}.histogram", dense(value.histogram)

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        zeros = torch.zeros((), dtype=torch.float64).expand(2)
        yield f"{at}.sums", zeros
        yield f"{at}.extremes", zeros
        yield f"{at}.histogram", torch.zeros((), dtype=torch.int64).expand(BINS)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Distribution:
        total, squares = tensors[f"{at}.sums"].tolist()
        largest, peak = tensors[f"{at}.extremes"].tolist()
        histogram = sparse(tensors[f"{at}.histogram"])
        samples = int(tensors["samples"])
        return Distribution(samples, total, squares, largest, peak if facts else None, histogram)


class _Steps:
    """A curve over time steps; the number of steps, or None if unknown, is a fact."""

    check = staticmethod(schema.optional(schema.whole))

    def facts(self, value: Curve) -> Any:
        return len(value.samples) if value.timed else None

    def tensors(self, value: Curve, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        yield f"{at}.sums", torch.stack([value.samples, value.total, value.squares])
        yield f"{at}.extremes", value.largest

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        zeros = torch.zeros((), dtype=torch.float64)
        yield f"{at}.sums", zeros.expand(3, facts or 0)
        yield f"{at}.extremes", zeros.expand(facts or 0)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Curve:
        sums, extremes = tensors[f"{at}.sums"], tensors[f"{at}.extremes"]
        samples, total, squares = sums.unbind()
        return UNTIMED if facts is None else Curve(True, samples, total, squares, extremes)


class _Entries:
    """A dict; keys are facts, entries that are None are omitted."""

    def __init__(self, key: Any, entry: _Codec) -> None:
        self._key, self._entry = key, entry

    def facts(self, value: Any) -> Any:
        return [[schema.plain(k), self._entry.facts(v)] for k, v in _known(value)]

    def check(self, facts: Any, path: str) -> Any:
        pairs = schema.list_of(_any)(facts, path)
        found = []
        for i, pair in enumerate(pairs):
            at = f"{path}[{i}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise schema.error(at, "a pair", pair)
            found.append((self._key(pair[0], at), self._entry.check(pair[1], at)))
        return found

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        for i, (_, entry) in enumerate(_known(value)):
            yield from self._entry.tensors(entry, f"{at}.{i}", owner)

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        for i, (_, entry) in enumerate(facts):
            yield from self._entry.blank(entry, f"{at}.{i}", owner)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return {
            key: self._entry.value(entry, f"{at}.{i}", owner, tensors)
            for i, (key, entry) in enumerate(facts)
        }


class _Object:
    """A dataclass; each field has its own codec."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        hints = schema.hints_of(cls)
        self._fields = {n: _codec(h) for n, h in hints.items() if not _is_on_device(h)}

    def facts(self, value: Any) -> Any:
        found = {n: codec.facts(getattr(value, n)) for n, codec in self._fields.items()}
        return {n: facts for n, facts in found.items() if facts is not None}

    def check(self, facts: Any, path: str) -> Any:
        found = dict(schema.mapping(facts, path))
        checks = {n: codec.check for n, codec in self._fields.items()}
        return SimpleNamespace(**schema.fields_of({**dict.fromkeys(checks), **found}, path, checks))

    def tensors(self, value: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        for name, codec in self._fields.items():
            yield from codec.tensors(getattr(value, name), _joined(at, name), value)

    def blank(self, facts: Any, at: str, owner: Any) -> Iterator[tuple[str, Tensor]]:
        for name, codec in self._fields.items():
            yield from codec.blank(getattr(facts, name), _joined(at, name), facts)

    def value(self, facts: Any, at: str, owner: Any, tensors: Tensors) -> Any:
        return self._cls(
            **{
                name: codec.value(getattr(facts, name), _joined(at, name), facts, tensors)
                for name, codec in self._fields.items()
            }
        )


def _codec(hint: Any) -> _Codec:
    """Return the codec for a field of this type."""
    if hint in _BY_TYPE:
        return _BY_TYPE[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated and FACT in hint.__metadata__:
        return _Fact(arguments[0])
    if origin is dict:
        return _Entries(_key_check(arguments[0]), _codec(arguments[1]))
    if hasattr(hint, "add"):  # a dataclass that adds up
        return _Object(hint)
    return _Fact(hint)


_BY_TYPE: dict[Any, _Codec] = {
    int: _Number(torch.int64),
    float: _Number(torch.float64),
    float | Tensor: _Number(torch.float64),
    Tensor | None: _Map(),
    frozenset[str]: _Words(),
    dict[str, Counts]: _Table(),
    Distribution | None: _Spread(),
    Curve: _Steps(),
}


def _key_check(hint: Any) -> schema.Check[Any]:
    if hint == RowKey | str:
        row = schema.check_of(RowKey, {})
        return lambda value, path: (row if isinstance(value, dict) else schema.text)(value, path)
    if get_origin(hint) is not tuple:
        return schema.check_of(hint, {})
    parts = [_key_check(part) for part in get_args(hint)]

    def checked(value: Any, path: str) -> Any:
        found = schema.list_of(_any, len(parts))(value, path)
        if len(found) != len(parts):
            raise schema.error(path, f"{len(parts)} entries", value)
        return tuple(check(entry, path) for check, entry in zip(parts, found, strict=True))

    return checked


def _is_on_device(hint: Any) -> bool:
    return get_origin(hint) is Annotated and ON_DEVICE in hint.__metadata__


def _any(value: Any, path: str) -> Any:
    return value


def _known(entries: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return [(key, entry) for key, entry in entries.items() if entry is not None]


def _joined(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


@cache
def _run() -> _Object:
    return _Object(RunData)


# ------------------------------------------------------------------------------ a whole run


def pack(run: RunData) -> Packed:
    """Pack a run whose figures are on the host. The tensors may share memory with the run."""
    return Packed(_run().facts(run), dict(_run().tensors(run, "", None)))


def unpack(structure: Mapping[str, Any], tensors: Tensors) -> RunData:
    """Unpack a run. It may share memory with the given tensors."""
    run: RunData = _run().value(_run().check(structure, "structure"), "", None, tensors)
    return run


def blank_tensors(structure: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return zeros in the shapes of a structure, expanded from a scalar: do not write into them."""
    return dict(_run().blank(_run().check(structure, "structure"), "", None))


def reductions(tensors: Mapping[str, Tensor]) -> dict[str, Reduction]:
    """Return the reductions of the tensors that are not summed over ranks."""
    return {name: "max" for name in tensors if name.endswith((".extremes", ".held"))}


def problem_with(structure: Any, tensors: Any) -> str | None:
    """Return why a structure and tensors are not a valid saved run; None if they are."""
    try:
        expected = blank_tensors(structure)
        run = unpack(structure, expected)
        for row in run.rows.values():
            check_operation(vars(row.operation), "operation")
    except ValueError as error:
        return f"expected the structure of a monitor's state, found another ({error})"
    # Duplicate keys, unsorted sets, and facts that contradict each other.
    if pack(run).structure != structure or not _is_consistent(run):
        return "expected the structure of a monitor's state as it was saved, found another"
    if not isinstance(tensors, Mapping) or set(tensors) != set(expected):
        return f"expected the tensors {sorted(expected)}, found {tensors!r:.200}"
    for name, blank in expected.items():
        problem = _problem_with_tensor(name, tensors[name], blank)
        if problem:
            return problem
    return None


def _is_consistent(run: RunData) -> bool:
    """Whether facts that a run contains twice agree."""
    return (
        all(
            all(f"{name}.".startswith(f"{key.module}.") for name in row.names)
            for key, row in run.rows.items()
        )
        and all(
            row.synops_per_neuron is None
            or tuple(row.synops_per_neuron.shape) == row.operation.input_shape
            for row in run.rows.values()
        )
        and all(
            layer.spikes_per_neuron is not None
            and layer.spikes_per_neuron.shape == key.shape
            and layer.neurons == layer.spikes_per_neuron.numel()
            for key, layer in run.neurons.items()
        )
        and all((entry.name, entry.what) == key for key, entry in run.uncounted.items())
    )


def _problem_with_tensor(name: str, value: Any, blank: Tensor) -> str | None:
    if not isinstance(value, Tensor):
        return f"expected the tensor '{name}', found {type(value).__name__}"
    if value.shape != blank.shape or value.dtype is not blank.dtype:
        return (
            f"expected '{name}' as {blank.dtype} of shape {tuple(blank.shape)}, "
            f"found {value.dtype} of shape {tuple(value.shape)}"
        )
    if value.layout is not torch.strided or value.is_meta:
        return f"expected '{name}' dense and with values, found {value.layout} on {value.device}"
    if bool((value < 0).any()):
        return f"expected non-negative numbers in '{name}', found {value.min().item()}"
    # Counts of layers from an accelerator may be NaN or infinite; compute() raises then.
    if not name.startswith(("rows.", "neurons.")) and not bool(value.isfinite().all()):
        return f"expected finite numbers in '{name}', found others"
    return None
