"""Names of modules in rows: paths without the additions of DDP, FSDP and compilation."""

from __future__ import annotations

from typing import Any

from torch import nn

# Path components that compilation and activation checkpointing insert.
_INNER_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")


def plain_name(path: str, root: nn.Module) -> str:
    """Return a path without the components of wrappers; for the root, its class name."""
    while (wrapper := _wrapper(root)) is not None:
        path = path.removeprefix(wrapper).removeprefix(".")
        root = getattr(root, wrapper)
    for wrapper in _INNER_WRAPPERS:
        path = path.replace(f".{wrapper}", "").removeprefix(wrapper)
    return path or class_name(root)


def class_name(module: nn.Module) -> str:
    """Return the class name of a module, without the class that ``fully_shard`` prepends.

    Quantised layers have the name that PyTorch prints, such as ``"QuantizedLinear"``: their class
    has the same name as that of the float layer.
    """
    if is_quantised(module):
        return str(module._get_name())
    line = [cls.__name__ for cls in type(module).__mro__]
    return line[line.index("FSDPModule") + 1] if "FSDPModule" in line else line[0]


def is_quantised(module: Any) -> bool:
    """Whether a module is a quantised layer of PyTorch with a packed weight."""
    return any(cls.__name__ == "WeightedQuantizedModule" for cls in type(module).__mro__)


def root_name(root: nn.Module) -> str:
    """Return the class name of the model without wrappers."""
    return plain_name("", root)


def _wrapper(module: nn.Module) -> str | None:
    if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return "module"
    return "_orig_mod" if "_orig_mod" in module._modules else None
