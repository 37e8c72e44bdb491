"""Keys of rows: each identifies an operation of a model, whatever the order of calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from snnmetrics.monitor.names import is_quantised, plain_name
from snnmetrics.ops.geometry import Sizes
from snnmetrics.ops.spec import Call, OpSpec
from snnmetrics.report.data import RowKey
from snnmetrics.report.row_names import row_names

# Layers that are a single operation; its row is named after the layer, without a part.
_SINGLE = (nn.Linear, nn.modules.conv._ConvNd)
# Name of a tensor, with the suffixes of the tensors by which pruning, weight norm and spectral norm
# replace it.
_SOURCE = re.compile(r"(.+)_(?:orig|mask|g|v|u)")


class RowKeys:
    """Creates the keys of the operations of a model.

    Args:
        model: The root.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modules = {plain_name(path, model) for path, _ in model.named_modules()}
        self._keys: dict[Any, RowKey] = {}  # of operations with a weight
        self._slots: dict[str, str] = {}
        self._first: dict[tuple[str, bool], int] = {}

    def key(
        self,
        name: str,
        module: nn.Module,
        call: Call,
        sources: frozenset[str],
        chain: Callable[[], tuple[str, ...]],
    ) -> RowKey:
        """Return the key of one call of an operation.

        Args:
            name: Path of the module that called the operation in its forward.
            module: The module.
            call: The operation, without broadcast dimensions (:meth:`Call.aligned`).
            sources: Paths of the parameters and buffers that the weight was computed from; empty
                for a product of two activations.
            chain: Returns the chain of calls that leads to a product of two activations.
        """
        if not sources:
            return self._made(name, module, call.spec, sources, (), chain())
        order, spec = transposition(call.right), call.spec
        facts = (name, spec.operation, spec.part, spec.right_shape, spec.form, sources, order)
        key = self._keys.get(facts)
        if key is None:
            key = self._keys[facts] = self._made(name, module, spec, sources, order, ())
        return key

    def _made(
        self,
        name: str,
        module: nn.Module,
        spec: OpSpec,
        sources: frozenset[str],
        order: Sizes,
        chain: tuple[str, ...],
    ) -> RowKey:
        part = spec.part or spec.operation
        slots = tuple(sorted({self._slot(path) for path in sources}))
        # An exported program has bare modules in place of layers.
        single = (_is_single(module) or type(module) is nn.Module) and not spec.part
        return RowKey(
            module=name,
            part=part,
            slots=slots,
            form=spec.identity(bool(slots), order),
            chain=chain,
            own=single and spec.operation.startswith(("linear", "conv")) and _may_be_own(slots),
            first=self._first_number(f"{name}.{part}", bool(spec.part), slots),
        )

    def _owner(self, path: str) -> tuple[nn.Module | None, str]:
        """Return the module that owns a tensor, or None, and the name of the tensor in it."""
        owner, _, name = path.rpartition(".")
        try:
            return self._model.get_submodule(owner), name
        except AttributeError:  # it was removed, or the path is not that of a module
            return None, name

    def _slot(self, path: str) -> str:
        """Return the slot of a tensor: ``weight`` for a replacement such as ``weight_orig``."""
        if path not in self._slots:
            self._slots[path] = plain_name(self._whole(path), self._model)
        return self._slots[path]

    def _whole(self, path: str) -> str:
        owner, made, tensor = path.partition("parametrizations.")
        if made:
            return owner + tensor.partition(".")[0]
        source = _SOURCE.fullmatch(path)
        if source is None:
            return path
        module, name = self._owner(source[1])
        if module is None:
            return path
        # Only if the module has an attribute with the name without suffix, which the forward uses;
        # otherwise the suffix is part of the user's own name.
        kept = (module._parameters, module._buffers, vars(module))
        return source[1] if any(name in tensors for tensors in kept) else path

    def _first_number(self, stem: str, is_part: bool, slots: tuple[str, ...]) -> int:
        """Return the smallest number above those of modules named ``stem`` or ``stem_<number>``.

        A part that uses the weight of the child of that name may have the child's name: multi-head
        attention applies its ``out_proj`` without calling it.
        """
        of_child = is_part and bool(slots) and all(s.startswith(f"{stem}.") for s in slots)
        if (stem, of_child) not in self._first:
            named = re.compile(rf"{re.escape(stem)}(?:_(\d+))?")
            others = (name for name in self._modules if not (of_child and name == stem))
            found = [named.fullmatch(name) for name in others]
            numbers = (1 + int(match[1] or 0) for match in found if match)
            self._first[stem, of_child] = max(numbers, default=0)
        return self._first[stem, of_child]


def _is_single(module: nn.Module) -> bool:
    """Whether a module is a layer that is a single operation, quantised or not."""
    return isinstance(module, _SINGLE) or is_quantised(module)


def _may_be_own(slots: tuple[str, ...]) -> bool:
    """Whether the weight of a layer's own operation may come from these slots."""
    registered = [slot.rpartition(".")[2] for slot in slots if not slot.startswith("(")]
    return "weight" in registered or not registered


def transposition(weight: Tensor) -> Sizes:
    """Return the memory order of the dimensions of a weight that is a transposed view, else ().

    A weight stored in another memory format, such as ``channels_last``, is not a view.
    """
    base = weight._base
    kept = list(range(weight.ndim))
    if base is not None and base.ndim == weight.ndim:
        kept = _order(base)
    elif base is None and not weight.is_inference():  # views of inference tensors have no _base
        return ()
    order = _order(weight)
    return () if order == [d for d in kept if d in order] else tuple(order)


def _order(tensor: Tensor) -> list[int]:
    """Return the dimensions with more than one element, the outermost in memory first."""
    long = [d for d in range(tensor.ndim) if tensor.shape[d] > 1]
    return sorted(long, key=tensor.stride, reverse=True)


class NamesSoFar:
    """Names of rows during a run, from the keys known so far.

    Declarations and messages use them. Reports name rows when all keys are known.
    """

    def __init__(self) -> None:
        self._orders: dict[tuple[str, str], dict[RowKey, int]] = {}
        self._names: dict[RowKey, str] = {}

    def __getitem__(self, key: RowKey) -> str:
        return self._names[key]

    def name(self, key: RowKey, order: int) -> str:
        """Return the name of a row, given its position among the rows of a model call."""
        same_stem = self._orders.setdefault((key.module, key.part), {})
        if order < same_stem.get(key, order + 1):
            same_stem[key] = order
            self._names |= row_names(same_stem)
        return self._names[key]

    def add(self, orders: Mapping[RowKey, int]) -> None:
        """Add rows of another monitor, with their positions among the rows of a model call."""
        for key, order in orders.items():
            self.name(key, order)

    def clear(self) -> None:
        """Remove all keys."""
        self._orders.clear()
        self._names.clear()
