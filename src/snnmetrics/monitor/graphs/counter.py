"""Interface of the tracer for compiled graphs that run in its root call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from snnmetrics.monitor.callers import Caller
from snnmetrics.monitor.lineage import Lineage
from snnmetrics.monitor.recorder import BatchRecorder, Padded, Planned
from snnmetrics.monitor.scopes import Scope
from snnmetrics.ops.spec import OpSpec


class PlannedCall(NamedTuple):
    """One call in an operation of a compiled graph.

    Attributes:
        number: Index among the calls of the operation.
        spec: Specification of the call. A weight, if there is one, is the second operand.
        left: First operand of the specification, without values.
        swapped: Whether the operation has the operands in the opposite order.
        padded: Tensor before padding, and the padding, if the input is a padded tensor.
        planned: Record of the call; None if it is not counted.
        quantised: Whether the operands are quantised: a graph would read other values.
    """

    number: int
    spec: OpSpec
    left: Tensor
    swapped: bool
    padded: Padded | None
    planned: Planned | None
    quantised: bool


class Counter(Protocol):
    """Traces the running root call and records its operations."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of the model and record it."""

    @property
    def model(self) -> nn.Module:
        """The monitored model."""

    def has(self, module: nn.Module) -> bool:
        """Return whether a module is part of the model."""

    @property
    def recorder(self) -> BatchRecorder:
        """Recorder of the operations."""

    @property
    def lineage(self) -> Lineage:
        """Distinguishes weights from activations."""

    @property
    def innermost(self) -> Scope:
        """Scope of the module whose forward runs."""

    @property
    def is_quiet(self) -> bool:
        """Whether the running module runs with the function mode off."""

    def runs_here(self) -> bool:
        """Return whether a root call runs in this thread."""

    def needs_eager(self) -> str | None:
        """Return why compiled parts of the model run eagerly; None if they are counted."""

    def scope_with(self, identity: int) -> Scope | None:
        """Return the scope of a module by its ``id``."""

    def scope_named(self, name: str) -> Scope | None:
        """Return the scope of a module by its name."""

    def paused(self) -> AbstractContextManager[None]:
        """Record nothing while a graph is compiled: compilation depends on the active modes."""

    def off(self) -> AbstractContextManager[None]:
        """Record nothing while a compiled graph runs: the graph counts its operations itself."""

    def prefix(self, scope: Scope) -> str:
        """Return the common name prefix of all submodules of a module."""

    def within(self, scope: Scope) -> AbstractContextManager[None]:
        """Attribute operations to a module, as if its forward ran."""

    def heard(self, scope: Scope, caller: Caller) -> AbstractContextManager[None]:
        """Record operations for a module, although the tracer is paused."""

    def record_spikes(self, scope: Scope, output: Any) -> None:
        """Record the output of neurons."""

    def plan(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        caller: Caller,
    ) -> list[PlannedCall]:
        """Return the calls of an operation and their records, without reading values."""
