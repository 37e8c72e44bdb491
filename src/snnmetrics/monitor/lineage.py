"""Lineage of tensors: a weight is computed from parameters, buffers and constants only."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snnmetrics.frameworks.neurons import PACKAGES
from snnmetrics.ops.elementwise import PRODUCTS
from snnmetrics.ops.parsers import unwrapped

Sources = frozenset[str]
NO_SOURCES: Sources = frozenset()
UNREGISTERED = "(unregistered)"

# Types of values that a forward may replace by a tensor, and the attributes that every module has.
_STAND_INS = (type(None), int, float)
_OF_MODULES = frozenset(vars(nn.Module()))


class _Slot(NamedTuple):
    """A tensor that was in a slot of a module when the root call began."""

    tensor: Tensor
    path: str
    sources: Sources
    is_parameter: bool


class _Derived(NamedTuple):
    """A tensor computed from weights and constants.

    ``sources`` is None if an activation was written into it later.
    """

    tensor: weakref.ref[Tensor]
    sources: Sources | None


class _Place(NamedTuple):
    """A buffer or plain attribute of a module, and its value at the last comparison.

    The value is a tensor, or a placeholder before the first forward pass: None or a number.
    """

    attributes: dict[str, Any]
    name: str
    value: Any
    path: str


class Lineage:
    """Distinguishes weights from activations in one root call.

    A weight is one of two things. First: a tensor that is a parameter, buffer or plain attribute of
    a module when the root call begins, and is not an argument of that call. Second: a tensor that
    was computed only from such tensors and constants, also in place. A constant (for example a mask
    of ones) has no sources. Combined with a weight it is a weight; alone it is an activation.

    A buffer or attribute becomes state when a forward first writes an activation into it or binds
    one to it. In all later calls state is an activation. Writes outside of a forward do not make a
    tensor state.

    Args:
        model: The root.
        state: Paths of the buffers and attributes that are known to be state; extended in place.

    Attributes:
        slots: Tensors of modules that may be weights, by identity.
        derived: Tensors that were computed from these, by identity.
        touched: Paths of weights that were passed to functions that do not contract them.
        expanded: Paths of weights that were multiplied into an output larger than the activation.
    """

    def __init__(self, model: nn.Module, state: set[str]) -> None:
        self._model = model
        self._state = state
        # Keyed by identity, since every operation looks them up and a weak dictionary is much
        # slower. Slots are strong references: a weak one would keep PyTorch from swapping a
        # parameter.
        self.slots: dict[int, _Slot] = {}
        self.derived: dict[int, _Derived] = {}
        self._places: list[_Place] = []
        self._parameters: list[tuple[dict[str, Any], str, Any]] = []
        self._attributes: list[tuple[dict[str, Any], int, str]] = []
        self._matrices: set[str] = set()
        self._addresses: set[int | None] | None = None
        self._packed: dict[int, str] | None = None  # packed weights of modules, by identity
        self._unregistered = 0
        self.touched: set[str] = set()
        self.expanded: set[str] = set()

    # ------------------------------------------------------------------------ root calls

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], scan: bool) -> None:
        """Begin a root call.

        Args:
            args: Arguments of the root.
            kwargs: Its arguments by keyword.
            scan: Whether to scan all modules, since they may have other tensors than at the last
                call. A replaced parameter, buffer or attribute is detected in any case.
        """
        if not scan:
            for attributes, name, value, _ in self._places:
                if attributes.get(name) is not value:
                    scan = True
                    break
            for attributes, name, value in self._parameters:
                if attributes.get(name) is not value:
                    scan = True
                    break
            for attributes, size, _ in self._attributes:
                if len(attributes) != size:
                    scan = True
                    break
        if scan or not self.slots:
            self._scan()
        self.touched, self.expanded = set(), set()
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Tensor):
                self.slots.pop(id(value), None)
            else:
                for tensor in tensors_in((value,)):
                    self.slots.pop(id(tensor), None)

    def end(self) -> None:
        """End a root call: find the state that it bound, and drop all derived tensors."""
        for attributes, name, value, _ in self._places:
            if attributes.get(name) is not value:
                self._find_bound()
                break
        for number, (attributes, size, prefix) in enumerate(self._attributes):
            if len(attributes) != size:
                known = {place.path for place in self._places} | self._state
                for name, value in attributes.items():
                    if prefix + name not in known:
                        self._bound(prefix + name, value)
                        if isinstance(value, Tensor) and prefix + name not in self._state:
                            self._places.append(_Place(attributes, name, value, prefix + name))
                self._attributes[number] = attributes, len(attributes), prefix
        self.derived.clear()
        self._unregistered = 0

    def clear(self) -> None:
        """Drop all tensors."""
        self.slots.clear()
        self.derived.clear()
        self._places.clear()
        self._parameters.clear()
        self._attributes.clear()
        self._addresses = self._packed = None

    def _find_bound(self) -> None:
        for number, place in reversed(list(enumerate(self._places))):
            value = place.attributes.get(place.name)
            if value is place.value:
                continue
            self._bound(place.path, value)
            if place.path in self._state:
                del self._places[number]
            else:
                self._places[number] = place._replace(value=value)

    def _bound(self, path: str, value: Any) -> None:
        """Track a tensor that a forward bound to a buffer or attribute."""
        if not isinstance(value, Tensor):
            return
        sources = self.sources(value)
        if sources is None:
            self._state.add(path)
        if sources is None or sources:
            self.slots = {key: slot for key, slot in self.slots.items() if slot.path != path}
        if sources:  # a weight that was computed once and is used again in later calls
            self._keep(path, value, False)

    def _scan(self) -> None:
        self.clear()
        for path, module in self._model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            prefix = f"{path}." if path else ""
            for name, parameter in module._parameters.items():
                self._keep(prefix + name, parameter, True)
                self._parameters.append((module._parameters, name, parameter))
            # Modules of PyTorch and the frameworks never replace a number or None by a weight.
            package = type(module).__module__.partition(".")[0]
            stand_ins = () if package in PACKAGES else _STAND_INS
            for attributes in (module._buffers, vars(module)):
                for name, value in attributes.items():
                    if isinstance(value, Tensor):
                        self._keep(prefix + name, value, False)
                    elif type(value) not in stand_ins or name in _OF_MODULES:
                        continue
                    if prefix + name not in self._state:
                        self._places.append(_Place(attributes, name, value, prefix + name))
            self._attributes.append((module.__dict__, len(module.__dict__), prefix))

    def _keep(self, path: str, tensor: Any, is_parameter: bool) -> None:
        if not isinstance(tensor, Tensor) or id(tensor) in self.slots or path in self._state:
            return
        self.slots[id(tensor)] = _Slot(tensor, path, frozenset({path}), is_parameter)
        self._addresses = None
        if sum(size > 1 for size in tensor.shape) >= 2:
            self._matrices.add(path)

    def _keep_parameters(self) -> None:
        """Add parameters replaced since the scan; activations cannot be bound to these slots."""
        for path, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                for name, parameter in module._parameters.items():
                    self._keep(f"{path}.{name}" if path else name, parameter, True)

    # --------------------------------------------------------------------------- answers

    def sources(self, tensor: Tensor) -> Sources | None:
        """Return the paths of the tensors that it was computed from; None for an activation."""
        key = id(tensor)
        derived = self.derived.get(key)
        if derived is not None and derived.tensor() is tensor:
            return derived.sources
        slot = self.slots.get(key)
        if slot is not None and slot.tensor is tensor:
            return slot.sources
        if tensor.ndim == 0:
            return NO_SOURCES  # a scalar counts as a constant, whatever it was computed from
        if isinstance(tensor, nn.Parameter):
            self._keep_parameters()
            if key not in self.slots:
                path = f"{UNREGISTERED} {self._unregistered}"
                self._unregistered += 1
                self._keep(path, tensor, True)
            return self.slots[key].sources if key in self.slots else None
        base = tensor._base
        return None if base is None else self.sources(base)

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from parameters, buffers or attributes."""
        return bool(self.sources(tensor))

    def is_slot(self, tensor: Tensor) -> bool:
        """Whether a tensor is in a slot of the model."""
        slot = self.slots.get(id(tensor))
        return slot is not None and slot.tensor is tensor

    def is_memory_of_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor shares memory with a tensor in a slot."""
        if self.is_slot(tensor):
            return True
        if self._addresses is None:
            self._addresses = {address_of(slot.tensor) for slot in self.slots.values()} - {None}
        return address_of(tensor) in self._addresses

    def forget_addresses(self) -> None:
        """Drop the cached addresses of tensors in slots, whose memory may have changed."""
        self._addresses = None

    def has_matrix(self, sources: Sources) -> bool:
        """Whether any of these sources has two or more dimensions with more than one element."""
        return not self._matrices.isdisjoint(sources)

    # -------------------------------------------------------------------------- tracking

    def follow(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        target: Any,
    ) -> None:
        """Track one operation.

        Args:
            func: The operation.
            args: Its arguments.
            kwargs: Its arguments by keyword.
            output: Its output.
            target: The tensor that it wrote into, or None.
        """
        sources, activation = NO_SOURCES, None
        for tensor in tensors_in((*args, *kwargs.values()) if kwargs else args):
            more = self.sources(tensor)
            if more is None:
                if activation is None or tensor.numel() > activation.numel():
                    activation = tensor
            else:
                sources |= more
        if activation is None:
            for tensor in tensors_in((output,) if target is None else (output, target)):
                self.touched |= sources
                self.remember(tensor, sources)
        elif sources:
            # A product that is larger than its activation is probably the first half of a
            # contraction: ``(x[..., None] * W).sum(1)``.
            if (
                func in PRODUCTS
                and isinstance(output, Tensor)
                and output.numel() > activation.numel()
            ):
                self.expanded |= sources
            else:
                self.touched |= sources
            if isinstance(target, Tensor):
                self._write(target)
        elif isinstance(target, Tensor) and target.ndim and self.sources(target) is not None:
            self._write(target)  # it was a constant

    def remember(self, tensor: Tensor, sources: Sources | None) -> None:
        """Store the sources of a tensor for the rest of this root call."""
        key = id(tensor)
        slot = self.slots.get(key)
        if slot is not None and slot.tensor is tensor:
            return
        derived = self.derived.get(key)
        if derived is not None and derived.tensor() is tensor and derived.sources == sources:
            return
        gone = weakref.ref(tensor, lambda _: self.derived.pop(key, None))
        self.derived[key] = _Derived(gone, sources)

    def unpacked(self, weight: Tensor, packed: Any) -> None:
        """Track a weight that was unpacked from the packed weight of a quantised layer.

        Args:
            weight: The weight.
            packed: The packed weight: a tensor, or an opaque object of PyTorch.
        """
        if isinstance(packed, Tensor):
            self.remember(weight, self.sources(packed))
            return
        if self._packed is None:
            self._packed = {
                id(value): _slot_of_packed(f"{path}.{name}")
                for path, module in self._model.named_modules()
                for name, value in vars(module).items()
                if isinstance(value, torch.ScriptObject)
            }
        path = self._packed.get(id(packed))
        if path is None:
            path = f"{UNREGISTERED} {self._unregistered}"
            self._unregistered += 1
        self.remember(weight, frozenset({path}))

    def _write(self, target: Tensor) -> None:
        """Mark all tensors that share this memory, except parameters, as activations.

        An activation was written into ``target``.
        """
        address = address_of(target)
        if address is None:
            return
        for key, slot in list(self.slots.items()):
            if not slot.is_parameter and address_of(slot.tensor) == address:
                self._state.add(slot.path)
                del self.slots[key]
                self._addresses = None
        for key, derived in list(self.derived.items()):
            tensor = derived.tensor()
            if tensor is not None and address_of(tensor) == address:
                self.derived[key] = _Derived(derived.tensor, None)


def _slot_of_packed(path: str) -> str:
    """Return the slot of the weight in the float layer, given the path of the packed weight."""
    layer = path.lstrip(".")
    while layer.endswith("_packed_params"):
        layer = layer.removesuffix("_packed_params").removesuffix(".")
    return layer if layer == path.lstrip(".") else f"{layer}.weight".lstrip(".")


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield all tensors among the values, also those nested in tuples, lists and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def address_of(tensor: Tensor) -> int | None:
    """Return the address of the memory of a tensor; None if it has none."""
    tensor = unwrapped(tensor)
    if tensor.layout is not torch.strided or type(tensor) not in (Tensor, nn.Parameter):
        return None
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # under vmap
        return None
    address = tensor.untyped_storage().data_ptr()
    return address or None
