"""Membrane potentials of the neurons of each framework, after a call.

Each function takes a module and its output, and returns its potentials, with the leading dimensions
of its spikes. If a framework keeps only the last of several time steps, the function raises and
names the setting to change. Verified with snnTorch 1.0.0, SpikingJelly 2.0.0, Norse 1.1.0 and
sinabs 3.1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Membrane = Callable[[Any, Any], Tensor]


def unreachable(module: Any, output: Any) -> Tensor:
    """Refuse neurons whose potentials are inaccessible.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"expected neurons that keep their membrane potentials, found {type(module).__name__}; "
        "register_neuron(..., membrane=...) declares where your own neurons keep them"
    )


def of_snntorch(module: Any, output: Any) -> Tensor:
    """Potentials ``mem`` of snnTorch, ``(B, *neurons)``: after the step, before a delayed reset."""
    potentials = getattr(module, "mem", None)
    return potentials if isinstance(potentials, Tensor) else unreachable(module, output)


def of_spikingjelly(module: Any, output: Any) -> Tensor:
    """Potentials of SpikingJelly after the reset: ``v``, or ``v_seq`` of several steps.

    Raises:
        ValueError: If it does not keep the potentials of all steps.
    """
    last, steps = getattr(module, "v", None), getattr(module, "v_seq", None)
    if isinstance(last, Tensor) and last.shape == output.shape:  # a single step
        return last
    if isinstance(steps, Tensor):
        return steps
    if not hasattr(module, "store_v_seq"):
        return unreachable(module, output)
    raise ValueError(
        f"expected {type(module).__name__}(store_v_seq=True), which keeps the potentials of all "
        "time steps, found only the last ones"
    )


def of_norse_step(module: Any, output: Any) -> Tensor:
    """Potentials ``v`` in the state that a cell of Norse returns, ``(B, *neurons)``."""
    state = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    state = getattr(state, "lif_state", state)  # state of neurons with correlation sensors
    potentials = getattr(state, "v", None)
    return potentials if isinstance(potentials, Tensor) else unreachable(module, output)


def of_norse_steps(module: Any, output: Any) -> Tensor:
    """Potentials ``v`` in the states that neurons of Norse return, ``(T, B, *neurons)``.

    Raises:
        ValueError: If they return only the last state.
    """
    potentials = of_norse_step(module, output)
    if not getattr(module, "record_states", False):
        raise ValueError(
            f"expected {type(module).__name__}(..., record_states=True), which returns the "
            "potentials of all time steps, found only the last ones"
        )
    return potentials


def of_sinabs(module: Any, output: Any) -> Tensor:
    """Potentials ``v_mem`` that sinabs recorded, ``(B, T, *neurons)``.

    Raises:
        ValueError: If it does not record states.
    """
    recordings = getattr(module, "recordings", None) or {}
    potentials = recordings.get("v_mem")
    if isinstance(potentials, Tensor):
        return potentials
    raise ValueError(
        f"expected {type(module).__name__}(..., record_states=True), which keeps the potentials of "
        "all time steps, found only the last ones"
    )
