"""Import what an extra of the package installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional_module(name: str, extra: str | None = None) -> Any:
    """Import what an extra installs, by default one of the same name."""
    try:
        return import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise ImportError(
            f"{top} is not installed: expected it from `pip install 'snnmetrics[{extra or top}]'`"
        ) from error
