"""What compiled graphs ask of the tracer in whose root call they run."""

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
        number: Its number among those of the operation.
        spec: The call, with the weight, if any, as second operand.
        left: Its first operand, without values.
        swapped: Whether the operation has them in the other order.
        padded: What its input was made of by padding, if so.
        planned: What is recorded of it; None where it is not counted.
        quantised: Whether its operands have other values than those that a graph would read.
    """

    number: int
    spec: OpSpec
    left: Tensor
    swapped: bool
    padded: Padded | None
    planned: Planned | None
    quantised: bool


class Counter(Protocol):
    """Traces the root call that runs, and records what it counts."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of the model, and record it."""

    @property
    def model(self) -> nn.Module:
        """The model that is measured."""

    def has(self, module: nn.Module) -> bool:
        """Whether a module is part of the model."""

    @property
    def recorder(self) -> BatchRecorder:
        """Where operations are recorded."""

    @property
    def lineage(self) -> Lineage:
        """Tells weights from activations."""

    @property
    def innermost(self) -> Scope:
        """The module whose forward runs."""

    @property
    def is_quiet(self) -> bool:
        """Whether all that the module does that runs is recorded, or nothing of it."""

    def runs_here(self) -> bool:
        """Whether a root call runs in this thread."""

    def needs_eager(self) -> str | None:
        """Return why compiled parts of the model run eagerly; None if they are counted."""

    def scope_with(self, identity: int) -> Scope | None:
        """The scope of a module by its identity."""

    def scope_named(self, name: str) -> Scope | None:
        """The scope of a module by its name."""

    def paused(self) -> AbstractContextManager[None]:
        """Hear nothing: a compiled graph is made, which depends on the modes that are on."""

    def off(self) -> AbstractContextManager[None]:
        """Hear nothing: a compiled graph runs, which counts its operations itself."""

    def prefix(self, scope: Scope) -> str:
        """What the names of all modules within a module begin with."""

    def within(self, scope: Scope) -> AbstractContextManager[None]:
        """Attribute what happens to a module, as if its forward ran."""

    def heard(self, scope: Scope, caller: Caller) -> AbstractContextManager[None]:
        """Record what happens as operations of a module, although it is paused."""

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
        """Find out what is to be recorded of an operation, and read nothing."""
