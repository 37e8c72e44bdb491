"""Timing side by side: interleaved rounds, paired ratios."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

Clock = Callable[[Callable[[], object]], float]
"""Makes a call and gives its time in seconds."""


@dataclass(frozen=True)
class Ratio:
    """Time of one call, in parts of another that ran right before it.

    Attributes:
        median: Median of the paired ratios.
        minimum: Shortest time over shortest time.
        seconds: Shortest time of the call itself.
    """

    median: float
    minimum: float
    seconds: float


@dataclass(frozen=True)
class Timed:
    """A call that is timed, and what surrounds it outside the clock.

    Attributes:
        call: What is timed; counters give back the output of the model.
        within: What is entered before and left after it.
        warm: Whether it is called once more in there before the clock starts.
    """

    call: Callable[[], Any]
    within: Callable[[], AbstractContextManager[object]] = nullcontext
    warm: bool = False

    @contextmanager
    def ready(self, before: Callable[[], object]) -> Iterator[None]:
        """Enter, so that the call is next.

        Args:
            before: Called before every call.
        """
        with self.within():
            if self.warm:
                before()
                self.call()
            before()
            yield


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed_pairs(
    reference: Callable[[], object],
    calls: Mapping[str, Timed],
    rounds: int,
    before: Callable[[], object] = lambda: None,
    clock: Clock = seconds,
    warm_up: int = 2,
    at_most: float = math.inf,
) -> dict[str, list[tuple[float, float]]]:
    """Time calls against a reference, round after round.

    Each call has a run of the reference of its own right before it, so that what slows the machine
    down for a while slows down both.

    Args:
        reference: What the ratios are of.
        calls: What is compared, by name.
        rounds: Rounds that count.
        before: Called before every run, outside the clock.
        clock: What times are taken with.
        warm_up: Rounds before those that count.
        at_most: Seconds after which no round begins, once one has counted.

    Returns:
        By name, the times of the reference and of the call in every round.
    """
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # collecting after a round takes no time for what was there before
    gc.disable()
    start = time.monotonic()
    try:
        for number in range(rounds + warm_up):
            if number > warm_up and time.monotonic() - start > at_most:
                break
            for name, call in calls.items():
                pair = _timed(Timed(reference), before, clock), _timed(call, before, clock)
                if number >= warm_up:
                    pairs[name].append(pair)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    return pairs


def paired_ratios(
    reference: Callable[[], object],
    calls: Mapping[str, Timed],
    rounds: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Ratio]:
    """Ratios of wall times; two rounds go before those that count. See :func:`timed_pairs`."""
    pairs = timed_pairs(reference, calls, rounds, before)
    return {name: ratio(found) for name, found in pairs.items()}


def _timed(timed: Timed, before: Callable[[], object], clock: Clock) -> float:
    with timed.ready(before):
        return clock(timed.call)


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Ratio of a call to its reference, from the times of both in every round."""
    plain, timed = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [mine / reference for reference, mine in pairs]
    return Ratio(statistics.median(ratios), min(timed) / min(plain), min(timed))
