"""Timing side by side: interleaved rounds, paired ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


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
        call: What is timed.
        within: What is entered before and left after it.
    """

    call: Callable[[], object]
    within: Callable[[], AbstractContextManager[object]] = nullcontext


def paired_ratios(
    reference: Callable[[], object],
    calls: Mapping[str, Timed],
    rounds: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Ratio]:
    """Time calls against a reference, round after round.

    Each call has a run of the reference of its own right before it, so that what slows the machine
    down for a while slows down both.

    Args:
        reference: What the ratios are of.
        calls: What is compared, by name.
        rounds: Rounds that count; two more go before them.
        before: Called before every run, outside the clock.
    """
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + 2):
            for name, call in calls.items():
                pair = _timed(Timed(reference), before), _timed(call, before)
                if number >= 2:
                    pairs[name].append(pair)
            gc.collect()
    finally:
        gc.enable()
    return {name: _ratio(found) for name, found in pairs.items()}


def _timed(timed: Timed, before: Callable[[], object]) -> float:
    before()
    with timed.within():
        start = time.perf_counter()
        timed.call()
        return time.perf_counter() - start


def _ratio(pairs: list[tuple[float, float]]) -> Ratio:
    plain, timed = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [mine / reference for reference, mine in pairs]
    return Ratio(statistics.median(ratios), min(timed) / min(plain), min(timed))
