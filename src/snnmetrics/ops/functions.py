"""Roles in counting of all functions that a ``TorchFunctionMode`` receives from PyTorch.

``role_of`` tells whether a function is counted, contracts without being counted, or is known not to
contract; an unknown function may contract. ``may_write`` and ``leaves_no_trace`` describe writes to
the memory of arguments.

Functions are looked up by identity: a user's function with the name of a PyTorch function is
unknown. Operators (``torch.ops``) are looked up by namespace and name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnmetrics.ops import function_names as names

Function = Callable[..., Any]


class Role(enum.Enum):
    """Role of a function in counting, and how its output depends on its inputs.

    Independent of writes: ``may_write`` tells whether a function writes into an argument.
    """

    COUNTED = "has a parser"
    UNCOUNTED = "contracts something that is not counted"
    ELEMENTWISE = "each element is made of the elements at its place in the inputs"
    MOVEMENT = "elements come out as they went in, or cast, at other places"
    REDUCTION = "elements of one tensor are summed, averaged, interpolated or compared"
    NORMALISATION = "elements are scaled by a statistic of their neighbours"
    CREATION = "a tensor made of numbers, alone or at random"
    METADATA = "no tensor comes out"
    UNKNOWN = "not known"


# --------------------------------------------------------------------------- by name

# Functions called by an internal name.
OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)

_INTERNAL = "a kernel called by its internal name"
_QUANTISED_KERNEL = "a quantised kernel"
_NOT_KNOWN = "a function that is not known"

_ROLE_OF_NAME: dict[str, Role] = {}
_REASON_OF_NAME: dict[str, str] = {}
for _role in (Role.ELEMENTWISE, Role.MOVEMENT, Role.REDUCTION, Role.NORMALISATION, Role.CREATION):
    _ROLE_OF_NAME |= dict.fromkeys(getattr(names, _role.name).split(), _role)
_ROLE_OF_NAME |= dict.fromkeys(names.METADATA.split(), Role.METADATA)
for _reason, _words in names.UNCOUNTED.items():
    _REASON_OF_NAME |= dict.fromkeys(_words.split(), _reason)
_ROLE_OF_NAME |= dict.fromkeys(_REASON_OF_NAME, Role.UNCOUNTED)
_ROLE_OF_NAME |= {
    f"__{form}{name}__": Role.ELEMENTWISE
    for name in names.OPERATORS.split()
    for form in ("", "r", "i")
}
_ROLE_OF_NAME["normal_"] = Role.CREATION  # ``torch.normal`` takes tensors of means

_PREFIXES = ("special_", "linalg_", "fft_", "sparse_", "nested_", "_foreach_")
_SUFFIXES = ("_copy", "_backward")


def _known_name(name: str) -> str | None:
    """Name of a function in the tables, or None."""
    if name in _ROLE_OF_NAME:
        return name
    return next((spelling for spelling in _spellings(name) if spelling in _ROLE_OF_NAME), None)


def _spellings(name: str) -> Iterator[str]:
    """Equivalent shorter forms of a name."""
    if _in_place(name):
        name = name[:-1]
        yield name
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            yield name
    for suffix in _SUFFIXES:
        yield name.removesuffix(suffix)


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


# ------------------------------------------------------------------------ by function

ROLES: dict[Function, Role] = {}
"""Roles of the functions of this PyTorch version, except operators."""
UNCOUNTED: dict[Function, str] = {}
"""Contractions that are observed but not counted, with the reason given in reports."""
_WRITING: set[Function] = set()
_WRITING_OPERATORS = frozenset(
    {"__setitem__", "__delitem__", *(f"__i{name}__" for name in names.OPERATORS.split())}
)


_ACCESSES = ("__get__", "__set__", "__delete__")


def _namespaces() -> Iterator[tuple[str, Any]]:
    """Names and functions of the namespaces that modes intercept."""
    parts = ("_VariableFunctions", "_nn", "_linalg", "_fft", "_special", "_sparse", "_nested")
    for part in parts:
        namespace = getattr(torch._C, part)
        for name in dir(namespace):
            yield name, getattr(namespace, name)
    for module in (torch.functional, F, torch.nn.init, torch.amp.autocast_mode):
        yield from vars(module).items()
    for name, value in vars(torch).items():
        if name.startswith(("sym_", "_sym_", "_assert")):
            yield name, value
    for name in dir(Tensor):
        yield name, getattr(Tensor, name)
    for name in ("svd_lowrank", "pca_lowrank", "lobpcg"):
        yield name, getattr(torch, name)
    yield "backward", torch.autograd.backward
    yield "_set_grad_enabled", torch._C._set_grad_enabled


def _enter(name: str, function: Function) -> None:
    known = _known_name(name)
    if known is None or function in ROLES or not callable(function):
        return
    ROLES[function] = _ROLE_OF_NAME[known]
    if known in _REASON_OF_NAME:
        UNCOUNTED[function] = _REASON_OF_NAME[known]
    _enter_write(name, function)


def _enter_write(name: str, function: Function) -> None:
    if _in_place(name) or name in _WRITING_OPERATORS:
        _WRITING.add(function)


for _name, _function in _namespaces():
    _enter(_name, _function)
for _words, _role in ((names.VIEWS, Role.MOVEMENT), (names.FACTS, Role.METADATA)):
    for _name in _words.split():
        _property: Any = getattr(Tensor, _name, None)
        for _access in _ACCESSES:
            if hasattr(_property, _access):
                ROLES[getattr(_property, _access)] = _role
                if _access == "__set__":
                    _WRITING.add(getattr(_property, _access))
ROLES |= {torch.device: Role.METADATA, torch.autocast: Role.METADATA}
UNCOUNTED[torch.autograd.grad] = UNCOUNTED[torch.autograd.backward]
# Called by Python functions that have parsers.
UNCOUNTED |= {torch._VF.einsum: _INTERNAL, torch._VF.tensordot: _INTERNAL}  # type: ignore[attr-defined]
ROLES |= dict.fromkeys(UNCOUNTED, Role.UNCOUNTED)


def register_counted(functions: Iterable[Function]) -> None:
    """Assign the role of functions that have a parser."""
    for function in functions:
        ROLES[function] = Role.COUNTED
        if isinstance(function, OPERATORS):
            continue
        name = getattr(function, "__name__", "")
        _ROLE_OF_NAME[name] = Role.COUNTED
        UNCOUNTED.pop(function, None)
        _enter_write(name, function)


# Python functions of these modules do not call functions that contract.
_MODULES = {
    "torch.distributed": Role.MOVEMENT,
    "torch._functorch.predispatch": Role.METADATA,
    "torch.utils.backend_registration": Role.METADATA,
}
_NAMESPACES_OF_NOTHING = frozenset(
    {"prim", "profiler", "quantization", "c10d", "c10d_functional", "_c10d_functional"}
    | {"_c10d_functional_autograd", "_dtensor", "fsdp"}
)
# Other operators that take functions are unknown: the mode cannot observe their bodies.
_HIGHER_ORDER = {"flex_attention": "a fused kernel", "flex_attention_backward": "a fused kernel"}
_QUANTISED_NAMESPACES = frozenset({"quantized", "_quantized", "onednn", "quantized_decomposed"})


def role_of(func: Function) -> Role:
    """Role of a function in counting."""
    role = ROLES.get(func)
    if role is not None:
        return role
    if isinstance(func, OPERATORS):
        return _operator(operator_name(func))[0]
    if isinstance(func, torch._ops.HigherOrderOperator):
        return Role.UNCOUNTED if func.name() in _HIGHER_ORDER else Role.UNKNOWN
    if getattr(func, "__name__", None) in _ACCESSES:
        return Role.METADATA  # an unknown property
    module = getattr(func, "__module__", None) or ""
    return next((r for name, r in _MODULES.items() if module.startswith(name)), Role.UNKNOWN)


def why_uncounted(func: Function) -> str | None:
    """Reason why a function that contracts, or may contract, is not counted; None for others."""
    reason = UNCOUNTED.get(func)
    if reason is not None or func in ROLES:
        return reason
    if isinstance(func, OPERATORS):
        reason = _operator(operator_name(func))[1]
    if isinstance(func, torch._ops.HigherOrderOperator):
        reason = _HIGHER_ORDER.get(func.name())
    return _NOT_KNOWN if reason is None and role_of(func) is Role.UNKNOWN else reason


def role_of_operator(qualified_name: str) -> Role:
    """Role of an operator of the dispatcher, by a name such as ``"aten::mm"``.

    Scripted graphs have such names. The result is never ``COUNTED``: operators are not counted
    under internal names.
    """
    return _operator(qualified_name)[0]


def operator_name(func: Any) -> str:
    """Name of an operator with its namespace, such as ``"aten::mm"``, or ``"aten::mm.default"``."""
    return str(getattr(func, "_qualified_op_name", getattr(func, "_name", "")))


@lru_cache(maxsize=4096)
def _operator(qualified_name: str) -> tuple[Role, str | None]:
    """Role of an operator, and the reason why it is not counted."""
    qualified_name = qualified_name.partition(".")[0]
    namespace, _, name = qualified_name.partition("::")
    if namespace in _NAMESPACES_OF_NOTHING:
        return Role.METADATA, None
    if qualified_name in names.NEURONS:
        return Role.ELEMENTWISE, None
    if namespace in _QUANTISED_NAMESPACES or (namespace, name[:1]) == ("sparse", "q"):
        return _quantised(name)
    known = _known_name(name) if namespace == "aten" else None
    if known is None:
        return Role.UNKNOWN, None
    role = _ROLE_OF_NAME[known]
    if role is Role.COUNTED:
        return Role.UNCOUNTED, _INTERNAL
    return role, _REASON_OF_NAME.get(known)


def _quantised(name: str) -> tuple[Role, str | None]:
    if name.endswith(tuple(names.PACKING.split())):
        return Role.MOVEMENT, None
    if name.startswith(tuple(names.QUANTISED.split())):
        return Role.UNCOUNTED, _QUANTISED_KERNEL
    known = _known_name(name)
    role = Role.ELEMENTWISE if known is None else _ROLE_OF_NAME[known]
    if role in (Role.COUNTED, Role.UNCOUNTED):
        return Role.UNCOUNTED, _QUANTISED_KERNEL
    return role, None


# --------------------------------------------------------------------- access to memory

_DATA: Any = Tensor.data
_UNTRACED: frozenset[Any] = frozenset(
    {
        *(_DATA.__get__, _DATA.__set__, Tensor.set_, Tensor.resize_, Tensor.resize_as_),
        *(Tensor.data_ptr, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__),
        *(Tensor.untyped_storage, Tensor.storage, torch.resize_as_),
        Tensor.__dict__["__cuda_array_interface__"].__get__,
    }
)
_UNTRACED_OPERATORS = frozenset(
    f"aten::{name}"
    for name in ("set_", "set_data", "shallow_copy_data_", "resize_", "resize_as_", "data")
)


def may_write(func: Function, kwargs: dict[str, Any]) -> bool:
    """Whether a call may write into one of its arguments.

    An unknown function may. Excluded are writes that change the version of a tensor and concern
    tensors other than activations: running statistics of normalisations, observed ranges of fake
    quantisation, and embeddings scaled to a ``max_norm``.
    """
    if kwargs.get("out") is not None or kwargs.get("inplace"):
        return True
    if func in ROLES:
        return func in _WRITING
    return _mutates(func) if isinstance(func, OPERATORS) else True


def leaves_no_trace(func: Function) -> bool:
    """Whether a function enables writes that do not raise the version of a tensor.

    This includes functions that replace the memory, such as ``set_`` and ``resize_``.
    """
    if func in _UNTRACED:
        return True
    return isinstance(func, OPERATORS) and operator_name(func).partition(".")[0] in (
        _UNTRACED_OPERATORS
    )


@lru_cache(maxsize=1024)
def _mutates(func: Any) -> bool:
    """Whether an operator writes into an argument other than ``out``, by its schemas."""
    single = isinstance(func, torch._ops.OpOverload)
    overloads = [func] if single else [getattr(func, name) for name in func.overloads()]
    return any(
        argument.alias_info is not None and argument.alias_info.is_write and not argument.is_out
        for overload in overloads
        for argument in overload._schema.arguments
    )
