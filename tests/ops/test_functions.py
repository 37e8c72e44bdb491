"""Every function that PyTorch shows to a mode has a role, and does what its role says."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import snnmetrics as sm
from snnmetrics.ops import function_names
from snnmetrics.ops.functions import (
    ROLES,
    UNCOUNTED,
    Role,
    leaves_no_trace,
    may_write,
    role_of,
    role_of_operator,
    why_uncounted,
)
from snnmetrics.ops.parsers import OPERATORS, PARSERS

# Versions of PyTorch for whose functions the names were reviewed, and what came with the last one.
REVIEWED = ("2.13.", "2.14.")
SINCE_2_14 = {"matrix_sqrth", "shallow_copy_data"}
at_reviewed_torch = pytest.mark.skipif(
    not torch.__version__.startswith(REVIEWED), reason="names were reviewed for other versions"
)
NAMESPACES = ("_VariableFunctions", "_nn", "_linalg", "_fft", "_special", "_sparse", "_nested")
# Of Python's objects; PyTorch passes them to no mode.
OBJECT = {"__class__", "__dict__", "__weakref__", "__dir__", "__init_subclass__", "__new__"} | {
    "__subclasshook__",
    "__torch_dispatch__",
    "__torch_function__",
}


def every_function() -> dict[Callable[..., Any], str]:
    """Functions that a mode may be given, with a name: the overridable ones and further ones."""
    found: dict[Callable[..., Any], str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for functions in torch.overrides.get_overridable_functions().values():
            for function in functions:
                found[function] = str(torch.overrides.resolve_name(function))
        for function in torch.overrides.get_testing_overrides():
            found.setdefault(function, getattr(function, "__name__", str(function)))
    for part in NAMESPACES:
        namespace = getattr(torch._C, part)
        for name in dir(namespace):
            function = getattr(namespace, name)
            tested = name.startswith(("__", "_test_")) or name == "_foobar"
            if not tested and isinstance(function, types.BuiltinFunctionType):
                found.setdefault(function, f"{part}.{name}")
    for name in set(dir(Tensor)) - OBJECT - set(dir(object)):
        member = inspect.getattr_static(Tensor, name)
        if isinstance(member, types.GetSetDescriptorType | property):
            for access in ("__get__", "__set__"):
                found.setdefault(getattr(member, access), f"Tensor.{name}.{access}")
        elif callable(member) and not isinstance(member, staticmethod | classmethod):
            found.setdefault(getattr(Tensor, name), f"Tensor.{name}")
    return found


def all_words() -> list[str]:
    roles = ("ELEMENTWISE", "MOVEMENT", "REDUCTION", "NORMALISATION", "CREATION", "METADATA")
    blocks = [getattr(function_names, role) for role in roles]
    return " ".join([*blocks, *function_names.UNCOUNTED.values()]).split()


# ---------------------------------------------------------------------------- every one


@at_reviewed_torch
def test_every_function_is_known() -> None:
    functions = every_function()
    assert len(functions) > 2000
    unknown = [name for function, name in functions.items() if role_of(function) is Role.UNKNOWN]
    assert unknown == []


@at_reviewed_torch
def test_every_function_stands_in_a_table_and_not_in_a_fallback() -> None:
    functions = every_function()
    passed_on = [f for f in functions if f not in ROLES]
    assert {getattr(f, "__module__", "").split(".")[1] for f in passed_on} <= {"distributed"}


@at_reviewed_torch
def test_every_operator_is_known() -> None:
    """Those of the dispatcher, called by their internal names."""
    names = {n.split(".")[0] for n in torch._C._dispatch_get_all_op_names()}
    names = {n for n in names if n.startswith(("aten::", "quantized::"))}
    tested = {n for n in names if n.startswith("aten::_test_")} | {"aten::_foobar"}
    unknown = [n for n in sorted(names - tested) if role_of_operator(n) is Role.UNKNOWN]
    assert unknown == []
    assert not any(role_of_operator(n) is Role.COUNTED for n in names)


def test_a_name_stands_in_one_block() -> None:
    words = all_words()
    assert [w for w, number in Counter(words).items() if number > 1] == []
    functions = (function for function in PARSERS if not isinstance(function, OPERATORS))
    parsed = {getattr(function, "__name__", "") for function in functions}
    assert parsed.isdisjoint(words)


@at_reviewed_torch
def test_every_name_is_one_of_a_function() -> None:
    """What PyTorch does not have is a slip of the pen."""
    there = {n.split("::")[1].split(".")[0] for n in torch._C._dispatch_get_all_op_names()}
    there |= {name for part in NAMESPACES for name in dir(getattr(torch._C, part))}
    there |= {*dir(Tensor), *dir(F), *dir(torch), *dir(torch.functional), *dir(torch.nn.init)}
    there |= {*dir(torch.amp.autocast_mode), *dir(torch._functorch.predispatch), "backward"}
    there |= {"_set_grad_enabled"}
    prefixes = ("", "linalg_", "special_", "fft_", "sparse_", "_foreach_", "nested_")
    forms = [(p, s) for p in prefixes for s in ("", "_", "_copy", "_backward")]
    missing = {w for w in all_words() if not any(p + w + s in there for p, s in forms)}
    assert missing == (SINCE_2_14 if torch.__version__.startswith("2.13.") else set())


def test_functions_with_a_parser_are_counted_and_no_others() -> None:
    assert {f for f, role in ROLES.items() if role is Role.COUNTED} == set(PARSERS)


def test_what_is_not_counted_has_a_reason() -> None:
    assert {f for f, role in ROLES.items() if role is Role.UNCOUNTED} == set(UNCOUNTED)
    for function, role in ROLES.items():
        assert (why_uncounted(function) is not None) == (role is Role.UNCOUNTED), function


@pytest.mark.parametrize(
    ("function", "role"),
    [
        (torch.conv2d, Role.COUNTED),
        (Tensor.addr_, Role.UNCOUNTED),
        (torch.fft.rfft, Role.UNCOUNTED),
        (torch.autograd.grad, Role.UNCOUNTED),
        (torch.ops.aten.mm, Role.COUNTED),
        (torch.ops.aten.mm.default, Role.COUNTED),
        (torch.ops.aten.mm.out, Role.UNCOUNTED),
        (torch.ops.quantized.linear_dynamic, Role.COUNTED),
        (torch.ops.quantized.conv2d_relu, Role.COUNTED),
        (torch.ops.quantized.quantized_lstm_cell_dynamic, Role.UNCOUNTED),
        (torch._scaled_mm, Role.COUNTED),
        (torch.ops.quantized.linear_prepack, Role.MOVEMENT),
        (torch.ops.quantized.add_relu, Role.ELEMENTWISE),
        (torch.ops.aten.special_expit.default, Role.ELEMENTWISE),
        (torch.ops.higher_order.flex_attention, Role.UNCOUNTED),
        (torch.ops.higher_order.cond, Role.UNKNOWN),
        (Tensor.__radd__, Role.ELEMENTWISE),
        (Tensor.mul_, Role.ELEMENTWISE),
        (torch.fake_quantize_per_tensor_affine, Role.ELEMENTWISE),
        (torch.roll, Role.MOVEMENT),
        (Tensor.T.__get__, Role.MOVEMENT),
        (F.max_pool2d, Role.REDUCTION),
        (F.interpolate, Role.REDUCTION),
        (F.layer_norm, Role.NORMALISATION),
        (torch.zeros, Role.CREATION),
        (Tensor.normal_, Role.CREATION),
        (torch.normal, Role.ELEMENTWISE),
        (Tensor.shape.__get__, Role.METADATA),
        (torch.ops.profiler._record_function_enter_new, Role.METADATA),
    ],
)
def test_roles(function: Callable[..., Any], role: Role) -> None:
    assert role_of(function) is role


def test_functions_of_a_user_are_unknown() -> None:
    def relu(x: Tensor) -> Tensor:
        return x @ x

    assert role_of(relu) is Role.UNKNOWN
    assert why_uncounted(relu) == "a function that is not known"
    assert may_write(relu, {})


def test_a_custom_operator_is_unknown_and_its_schema_says_what_it_writes() -> None:
    library = torch.library.Library("snnmetrics_roles", "DEF")
    library.define("reads(Tensor x) -> Tensor")
    library.define("writes(Tensor(a!) x) -> ()")
    operators = torch.ops.snnmetrics_roles
    for reads in (operators.reads, operators.reads.default):
        assert (role_of(reads), may_write(reads, {})) == (Role.UNKNOWN, False)
    for writes in (operators.writes, operators.writes.default):
        assert (role_of(writes), may_write(writes, {})) == (Role.UNKNOWN, True)
    library._destroy()


def test_importing_the_roles_takes_no_walk_of_all_overridable_functions() -> None:
    code = (
        "import torch\n"
        "torch.overrides.get_overridable_functions = None\n"
        "import snnmetrics.ops.functions as f, snnmetrics.ops.parsers\n"
        "print(len(f.ROLES))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 1000


# ------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("mode", ["by keyword", "by position"])
@pytest.mark.parametrize(
    "name", ["celu", "dropout", "elu", "hardtanh", "leaky_relu", "mish", "relu", "rrelu", "silu"]
)
def test_activations_in_place_write(name: str, mode: str) -> None:
    function = getattr(F, name)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    values = [True if p.name in ("inplace", "training") else p.default for p in parameters]
    with _Calls() as calls:
        x = torch.zeros(3)
        before = x._version
        if mode == "by position":
            function(x, *values)
        else:
            function(x, inplace=True)
    assert x._version > before
    assert any(may_write(func, kwargs) for func, kwargs in calls.seen if func is not torch.zeros)


class _Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, dict[str, Any]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append((func, kwargs or {}))
        return func(*args, **(kwargs or {}))


def test_what_writes() -> None:
    x: Any = torch.zeros(3)
    assert may_write(torch.add, {"out": x})
    assert not may_write(torch.add, {"out": None})
    assert not may_write(Tensor.__invert__, {})
    assert may_write(Tensor.__setitem__, {})
    assert may_write(Tensor.__iadd__, {})
    assert may_write(Tensor.addmm_, {})
    assert may_write(Tensor.data.__set__, {})  # type: ignore[attr-defined]
    assert not may_write(Tensor.data.__get__, {})  # type: ignore[attr-defined]
    assert may_write(torch.ops.aten.add_, {})
    assert not may_write(torch.ops.aten.add, {})
    assert may_write(torch.ops.aten.add, {"out": x})


UNTRACED: dict[str, Callable[[Tensor], Any]] = {
    "data": lambda x: x.data.fill_(2),
    "set data": lambda x: setattr(x, "data", torch.full((3,), 2.0)),
    "numpy": lambda x: x.numpy().fill(2),
    "array": lambda x: x.__array__().fill(2),
    "dlpack": lambda x: torch.from_dlpack(x.__dlpack__()).fill_(2),
    "untyped_storage": lambda x: x.untyped_storage().fill_(2),
    "storage": lambda x: x.storage().fill_(2),
}


@pytest.mark.parametrize("way", UNTRACED)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_ways_around_the_version_are_known(way: str) -> None:
    x = torch.zeros(3)
    version = x._version
    with _Calls() as calls:
        UNTRACED[way](x)
    assert bool((x != 0).any())
    assert x._version == version
    assert any(leaves_no_trace(func) for func, _ in calls.seen)


@pytest.mark.skipif(
    not hasattr(torch.ops.aten, "shallow_copy_data_"), reason="came with PyTorch 2.14"
)
def test_a_shallow_copy_of_data_is_known() -> None:
    """Compiled graphs call it where ``data`` is set."""
    x = torch.zeros(3)
    version = x._version
    torch.ops.aten.shallow_copy_data_(x, torch.ones(3))
    assert bool(x.all())
    assert x._version == version
    assert leaves_no_trace(torch.ops.aten.shallow_copy_data_)
    assert may_write(torch.ops.aten.shallow_copy_data_, {})
    assert role_of(torch.ops.aten.shallow_copy_data_) is Role.MOVEMENT


def test_set_raises_the_version_and_is_shown_to_no_mode() -> None:
    """Known in case that a version of PyTorch shows it."""
    x = torch.zeros(3)
    version = x._version
    with _Calls() as calls:
        x.set_(torch.ones(3))
    assert leaves_no_trace(Tensor.set_)
    assert x._version > version or any(func is Tensor.set_ for func, _ in calls.seen)


def test_operators_leave_no_trace_either() -> None:
    assert leaves_no_trace(torch.ops.aten.set_)
    assert leaves_no_trace(torch.ops.aten.resize_.default)
    assert not leaves_no_trace(torch.ops.aten.add_)
    assert not leaves_no_trace(Tensor.add_)


# ------------------------------------------------------------------- against independent truth


@at_reviewed_torch
@pytest.mark.slow
@pytest.mark.system
def test_roles_agree_with_what_the_samples_of_pytorch_do() -> None:
    """PyTorch's own samples of 700 operators, run under its flop counter's registry.

    No function that is said to contract nothing reaches an operator that has floating-point
    operations by ``torch.utils.flop_counter``; none writes that is not said to, but those that the
    documentation of ``may_write`` names.
    """
    script = Path(__file__).parent / "run_samples.py"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, check=True
    )
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["functions"] > 900
    assert found["contracting"] == {}
    assert found["unknown"] == []
    assert set(found["wrote unsaid"]) <= {"instance_norm", "embedding", "batch_norm"}
    assert set(found["said and never wrote"]) <= {"resize_as_", "_batch_norm_with_update"}


# ---------------------------------------------------------------------------- in a model


class Calls(nn.Module):
    """A model whose forward is a function."""

    def __init__(self, forward: Callable[[Calls, Tensor], Tensor]) -> None:
        super().__init__()
        self._forward = forward
        self.register_buffer("w", torch.ones(4, 4))
        self.w: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def reasons(model: nn.Module, x: Tensor) -> dict[str, str]:
    with sm.Monitor(model, batch_dim=0) as monitor:
        model(x)
    return {entry.what: entry.reason for entry in monitor.compute().uncounted}


SPIKES = torch.tensor([[1.0, 0, 1, 1], [0, 1, 0, 1]])
SAID: dict[str, tuple[Callable[[Calls, Tensor], Any], str]] = {
    "ger": (lambda m, x: torch.ger(x[0], m.w[0]), "vectors"),
    "addr_": (lambda m, x: torch.zeros(4, 4).addr_(x[0], m.w[0]), "vectors"),
    "kron": (lambda m, x: x.kron(m.w), "vectors"),
    "rfft": (lambda m, x: torch.fft.rfft(x), "Fourier"),
    "solve": (lambda m, x: torch.linalg.solve(torch.eye(4) + m.w, x.T), "solver"),
    "sparse": (lambda m, x: torch.sparse.addmm(torch.zeros(2, 4), x.to_sparse(), m.w), "sparse"),
    "bag": (lambda m, x: F.embedding_bag(x.long(), m.w), "rows"),
    "cdist": (lambda m, x: torch.cdist(x, m.w), "pairs"),
    "_VF": (lambda m, x: torch._VF.einsum("bi,io->bo", [x, m.w]), "internal name"),
    "backward": (lambda m, x: torch.autograd.grad(x.requires_grad_().sum(), x)[0], "backward"),
    "unknown": (
        lambda m, x: torch.overrides.handle_torch_function(_own, (x,), x, m.w),
        "not known",
    ),
}


def _own(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@pytest.mark.parametrize("case", SAID)
def test_contractions_that_are_not_counted_are_said(case: str) -> None:
    forward, reason = SAID[case]
    found = reasons(Calls(forward), SPIKES.clone())
    assert any(reason in said for said in found.values()), found


def _blocks(m: Calls, x: Tensor) -> Tensor:
    """What vision transformers and convolutional networks call between their layers."""
    y = x.view(2, 1, 2, 2)
    y = F.pad(torch.roll(y, (1, 1), (2, 3)), (0, 1, 0, 1)).permute(0, 2, 3, 1).contiguous()
    y = F.layer_norm(F.gelu(y), (1,)).transpose(1, 2).reshape(2, -1)
    y = torch.cat([y, y.softmax(-1)], 1).unflatten(1, (2, 1, -1)).flatten(1)
    y = F.interpolate(y[:, None], scale_factor=2.0) + torch.zeros_like(y[:1, :1])
    y = F.hardswish(F.avg_pool1d(y, 2)) * torch.empty(1).bernoulli_(0.5).div_(0.5)
    return torch.where(y > 0, y, 0.0).mean(-1).squeeze().chunk(2)[0].clamp(0, 1)


def test_what_contracts_nothing_is_not_said() -> None:
    assert reasons(Calls(_blocks), SPIKES) == {}


@pytest.mark.parametrize(
    "parametrize",
    [
        nn.utils.parametrizations.orthogonal,
        lambda layer: nn.utils.parametrizations.orthogonal(layer, orthogonal_map="cayley"),
        lambda layer: nn.utils.parametrizations.orthogonal(layer, orthogonal_map="matrix_exp"),
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.weight_norm,
    ],
    ids=["householder", "cayley", "matrix_exp", "spectral", "weight"],
)
def test_a_parametrised_weight_in_the_making_is_not_said(parametrize: Any) -> None:
    model = nn.Sequential(parametrize(nn.Linear(4, 4)))
    assert reasons(model, SPIKES) == {}
