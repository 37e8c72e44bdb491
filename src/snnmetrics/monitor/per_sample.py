"""Attribution of figures of input vectors to the samples and time steps of a batch.

The leading dimensions of an input are samples, time steps and positions, or all of these flattened
into one. Their meaning follows from the declared order of ``batch_dim`` and ``time_dim``, and from
the number of calls: a layer in a loop over time is called once per step. If exactly one
interpretation fits, it is used; if none or several fit, a ``ValueError`` is raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from snnmetrics.report.data import RowKey
from snnmetrics.report.distribution import FIGURES, Distribution
from snnmetrics.report.run_data import Key
from snnmetrics.tensors.sums import blocks, magnitudes


class VectorFigures(NamedTuple):
    """A figure of the input vectors of one call of an operation, or of outputs of neurons.

    Attributes:
        call: Number of the call of the model in this batch, from 0.
        values: Value of each vector, in the shape of the leading dimensions; float64.
        by_core: Whether ``values`` has a further, last dimension: the cores.
    """

    call: int
    values: Tensor
    by_core: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the leading dimensions."""
        return tuple(self.values.shape[:-1] if self.by_core else self.values.shape)

    def summed(self, *lead: int) -> Tensor:
        """Return the sum over positions, the last of the leading dimensions.

        Args:
            lead: Sizes of the leading dimensions before the positions.
        """
        rest = math.prod(self.sizes) // max(1, math.prod(lead))
        cores = self.values.shape[-1:] if self.by_core else ()
        return self.values.reshape(*lead, rest, *cores).sum(len(lead))


def vector_synops(x: Tensor, batch_dims: tuple[int, ...], fanout: Tensor) -> Tensor:
    """Return the synops of each input vector, float64, in the shape of the batch dimensions."""
    sizes = [x.shape[d] for d in batch_dims]
    neurons = [d for d in range(x.ndim) if d not in batch_dims]
    fanout = fanout.expand([x.shape[d] for d in neurons]).reshape(-1)
    rows = x.permute(*batch_dims, *neurons).reshape(math.prod(sizes), fanout.numel())
    parts = [magnitudes(block.to(torch.float64)) @ fanout for block in blocks(rows, (0,))]
    return torch.cat(parts).reshape(sizes)


def vector_events(x: Tensor, batch_dims: tuple[int, ...]) -> Tensor:
    """Return the number of nonzero elements of each input vector.

    The result is float64, in the shape of the batch dimensions.
    """
    neurons = [d for d in range(x.ndim) if d not in batch_dims]
    found = torch.count_nonzero(x, neurons) if neurons else x.ne(0)
    kept = [d for d in range(x.ndim) if d in batch_dims]
    return found.permute([kept.index(d) for d in batch_dims]).to(torch.float64)


@dataclass(frozen=True)
class Batch:
    """Facts of a complete batch.

    Attributes:
        samples: Number of samples.
        steps: Time steps of each sample, if known.
        calls: Calls of the model.
        seconds: Duration of each sample, if known.
        time_first: Whether time comes before the batch in flattened dimensions; ``None`` if the
            order was not declared.
        option: Argument of the monitor that requires the attribution, for messages.
    """

    samples: int
    steps: int | None
    calls: int
    seconds: float | None
    time_first: bool | None
    option: str = "per_sample"

    @property
    def steps_per_call(self) -> int:
        """Time steps of one call of the model; 1 if the number of steps is unknown.

        Raises:
            ValueError: If the number of steps is not divisible by the number of calls.
        """
        if not self.steps:
            return 1
        if self.steps % max(1, self.calls):
            raise ValueError(
                f"{self.option}: expected the same number of time steps in each call of the model, "
                f"found steps={self.steps} in {self.calls} calls"
            )
        return self.steps // max(1, self.calls)


class Series(NamedTuple):
    """A figure by time step and sample, ``(T, B)``; if not ``timed``, summed over time, ``(1, B)``.

    A further dimension, of cores, may follow.
    """

    values: Tensor
    timed: bool

    def untimed(self) -> Series:
        """Return the sum over all steps."""
        return Series(self.values.sum(0, keepdim=True), False)


def series_of(name: str, seen: Sequence[VectorFigures], batch: Batch) -> Series:
    """Attribute a figure of one operation to samples and, where possible, to time steps.

    Raises:
        ValueError: If the leading dimensions contradict the declarations.
    """
    steps = batch.steps_per_call
    if steps == 1 and [vectors.call for vectors in seen] == list(range(batch.steps or 0)):
        sizes = seen[0].sizes
        if all(vectors.sizes == sizes for vectors in seen):  # a loop around the model
            _reading(name, sizes, 1, batch, steps)
            values = torch.stack([vectors.values for vectors in seen])
            together = VectorFigures(0, values, seen[0].by_core)
            return Series(together.summed(len(seen), batch.samples), True)
    calls: dict[int, list[VectorFigures]] = {}
    for vectors in seen:
        calls.setdefault(vectors.call, []).append(vectors)
    parts = {call: _one_call(name, found, batch, steps) for call, found in calls.items()}
    if not (batch.steps and all(part.timed for part in parts.values())):
        return _sum([part.untimed() for part in parts.values()])
    first = next(iter(parts.values())).values
    values = first.new_zeros((batch.steps, *first.shape[1:]))
    for call, part in parts.items():
        values[call * steps : (call + 1) * steps] += part.values
    return Series(values, True)


def _one_call(name: str, seen: Sequence[VectorFigures], batch: Batch, steps: int) -> Series:
    """Attribute a figure of one call of the model, which takes ``steps`` time steps."""
    whole: list[Series] = []
    single: list[Tensor] = []
    for vectors in seen:
        sizes = vectors.sizes
        if _reading(name, sizes, len(seen), batch, steps) == "all steps":
            lead = (steps, batch.samples) if batch.time_first else (batch.samples, steps)
            values = vectors.summed(*lead)
            whole.append(Series(values if batch.time_first else values.transpose(0, 1), True))
        else:
            single.append(vectors.summed(batch.samples))
    if single:
        values = torch.stack(single)
        # Fewer calls than steps are not one per step: the layer may be a readout after the last
        # step. If there are more, their order (step by step or not) is unknown.
        if len(single) != steps and steps > 1:
            whole.append(Series(values, True).untimed())
        else:
            whole.append(Series(values.unflatten(0, (steps, -1)).sum(1), True))
    return _sum(whole)


def _reading(name: str, sizes: tuple[int, ...], calls: int, batch: Batch, steps: int) -> str:
    """Return "one step" or "all steps": the time steps in the leading dimensions of an input."""
    samples, first = batch.samples, sizes[0] if sizes else 1
    declared = batch.time_first is not None
    lead = (steps, samples) if batch.time_first else (samples, steps)
    fits = []
    if calls % steps == 0 and (first == samples or (declared and first % samples == 0)):
        fits.append("one step")
    if declared and (sizes[:2] == lead or first % (steps * samples) == 0):
        fits.append("all steps")
    if steps == 1:  # one step is all steps
        fits = fits[-1:]
    elsewhere = _may_be_elsewhere(sizes, batch, steps, lead)
    if not fits and first == samples:  # neither: a call for all time steps together
        fits.append("one step")
        elsewhere |= bool(batch.time_first) and _may_be_steps(sizes, batch, steps)
    if len(fits) == 1 and not elsewhere:
        return fits[0]
    raise ValueError(
        f"{batch.option}: {name}: expected an input whose leading dimensions distinguish the "
        f"{samples} samples from the time steps, found leading dimensions {sizes} in "
        f"{calls} call(s) of the layer, and {_declared(batch, steps)}. {_advice(fits, batch)}"
    )


def _may_be_elsewhere(
    sizes: tuple[int, ...], batch: Batch, steps: int, lead: tuple[int, int]
) -> bool:
    """Whether a dimension other than the first ones may be the batch."""
    samples = batch.samples
    if samples == 1:
        return False
    if batch.time_first is not None:
        if sizes[:2] == lead or sizes[:1] in ((samples,), (steps * samples,)):
            return False
        return samples in sizes[1:] or steps * samples in sizes[1:]  # positions may come first
    one_step_per_call = batch.steps and steps == 1
    return not one_step_per_call and sizes[:2] == (samples, samples)


def _may_be_steps(sizes: tuple[int, ...], batch: Batch, steps: int) -> bool:
    """Whether the first of several dimensions may be time, with the batch among the others."""
    rest = math.prod(sizes[1:])
    return len(sizes) > 1 and 1 < steps == batch.samples and rest % batch.samples == 0


def _declared(batch: Batch, steps: int) -> str:
    time = f"{steps} time step(s) per call of the model" if batch.steps else "no time steps"
    if batch.time_first is None:
        return f"{time}, in no declared order"
    return f"{time}, declared {'time before batch' if batch.time_first else 'batch before time'}"


def _advice(fits: list[str], batch: Batch) -> str:
    if batch.time_first is None:
        return (
            "Give Monitor(..., batch_dim=1, time_dim=0) or (batch_dim=0, time_dim=1); if the "
            "input has no time dimension, also use 'with monitor.batch(samples=..., steps=...):'"
        )
    if fits:
        return "Several interpretations fit; use a batch of another size"
    return "Leading dimensions in another order cannot be attributed; exclude the layer"


def _sum(parts: Sequence[Series]) -> Series:
    if not all(part.timed for part in parts):
        parts = [part.untimed() for part in parts]
    device = parts[0].values.device
    values = reduce(torch.add, (part.values.to(device) for part in parts))
    return Series(values, all(part.timed for part in parts))


def sums_of(
    rows: Mapping[RowKey, Series], groups: Mapping[str, Sequence[RowKey]]
) -> dict[tuple[str, RowKey | str], Series]:
    """Sum a figure of layers over groups and in total; layers are included as they are.

    Args:
        rows: The figure by row, for rows called in the batch.
        groups: Rows by group.
    """
    members: dict[tuple[str, RowKey | str], list[Series]] = {
        ("layer", key): [series] for key, series in rows.items()
    }
    members |= {
        ("group", group): [rows[key] for key in keys if key in rows]
        for group, keys in groups.items()
    }
    members["total", ""] = list(rows.values())
    return {key: _sum(parts) for key, parts in members.items() if parts}


def distributions_of(
    sums: Mapping[tuple[str, RowKey | str], Series], batch: Batch
) -> dict[Key, Distribution | None]:
    """Return the distributions of synops over the samples of one batch.

    Args:
        sums: Result of :func:`sums_of`.
        batch: The batch, of at least one sample.

    Raises:
        ValueError: If the square of a figure overflows float64.
    """
    durations = (None, batch.seconds) if batch.seconds else (None,)
    return {
        (figure, *key): Distribution.of(series.values, series.timed, seconds)
        for figure, seconds in zip(FIGURES, durations, strict=False)
        for key, series in sums.items()
    }
