"""Names of modules in rows: paths without what DDP, FSDP and compilation add to them."""

from __future__ import annotations

from typing import Any

from torch import nn

# What compilation and activation checkpointing put into the path of a module.
_INNER_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")


def plain_name(path: str, root: nn.Module) -> str:
    """The name of a module without what DDP and compilation add; that of the root is its class."""
    while (wrapper := _wrapper(root)) is not None:
        path = path.removeprefix(wrapper).removeprefix(".")
        root = getattr(root, wrapper)
    for wrapper in _INNER_WRAPPERS:
        path = path.replace(f".{wrapper}", "").removeprefix(wrapper)
    return path or class_name(root)


def class_name(module: nn.Module) -> str:
    """The name of a module's class, without what ``fully_shard`` puts before it.

    Quantised layers have the names that PyTorch prints, such as ``"QuantizedLinear"``: their
    classes are named as those of layers that are not quantised.
    """
    if is_quantised(module):
        return str(module._get_name())
    line = [cls.__name__ for cls in type(module).__mro__]
    return line[line.index("FSDPModule") + 1] if "FSDPModule" in line else line[0]


def is_quantised(module: Any) -> bool:
    """Whether a module is a quantised layer with a packed weight, of PyTorch."""
    return any(cls.__name__ == "WeightedQuantizedModule" for cls in type(module).__mro__)


def root_name(root: nn.Module) -> str:
    """The class name of the model itself."""
    return plain_name("", root)


def _wrapper(module: nn.Module) -> str | None:
    if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return "module"
    return "_orig_mod" if "_orig_mod" in module._modules else None
