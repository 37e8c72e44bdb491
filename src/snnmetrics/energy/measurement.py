"""Energy that was measured on a device: power times time, per sample, with standard errors."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, stdev
from typing import Any, cast

from snnmetrics.arguments import positive_integer, positive_number
from snnmetrics.report.io import load
from snnmetrics.text import JOULES, SECONDS, WATTS, named, uncertain

Repeats = float | Sequence[float]
MAX_BYTES = 16 * 2**20
"""Longest file of measurements that is read."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Power and time of a device that processes samples, and the energy that follows.

    Definitions are those of NeuroBench's system track (github.com/NeuroBench/system_benchmarks,
    ``ASC.md``, commit f9c0b4f, "Power / Energy" and "Execution Time"; Yik et al., "The NeuroBench
    framework for benchmarking neuromorphic computing algorithms and systems", Nature
    Communications, 2025):

    - *idle power*: of the configured device that waits for its input, not of one that sleeps;
    - *active power*: mean power while it processes the samples;
    - *dynamic power*: active power - idle power;
    - energy = power x execution time, here of a run, over its samples.

    Each of ``seconds``, ``active_power`` and ``idle_power`` is one number, or one number per
    repeated run, as any sequence. It is stored as a tuple. The i-th time and the i-th active power
    are those of the same run: ``energy`` is the mean of their products. Where one of them is a
    single number, this is the product of the means. Runs that measure idle power are runs of their
    own, of which there may be another number.

    A standard error is that of the mean over repeats, ``s / sqrt(n)`` with the sample standard
    deviation ``s`` (n - 1 degrees of freedom). With an idle power ``I`` that varies over its own
    repeats, that of the dynamic energy is, to first order, ``sqrt(e**2 + (t / samples)**2 e_I**2)``
    with the error ``e`` over the active runs, the mean time ``t`` and the error ``e_I`` of ``I``. A
    quantity that is given as one number counts as exact. What all runs share, such as a meter
    that is out of calibration, is in no standard error.

    Args:
        seconds: Duration of a run, over all its samples, in seconds.
        active_power: Mean power during a run, in watts.
        samples: Samples that each run processes.
        idle_power: Power of the waiting device, in watts; ``None`` if it was not measured.
        setup: The device, the meter, and which components its reading covers, in words.

    Raises:
        TypeError: If a number is none, ``samples`` is not an integer, or ``setup`` not text.
        ValueError: If a number is not from 2**-300 to 2**300, there are no repeats, or seconds and
            active power have several repeats, but not the same number.

    Example:
        >>> from snnmetrics.energy import Measurement
        >>> found = Measurement(  # made-up numbers
        ...     seconds=[2.0, 2.0, 2.0],
        ...     active_power=[1.5, 1.6, 1.4],
        ...     idle_power=1.0,
        ...     samples=100,
        ... )
        >>> f"{found.energy:.3g} J, {found.dynamic_energy:.3g} J, {found.samples_per_second:g}/s"
        '0.03 J, 0.01 J, 50/s'
        >>> print(found)
        energy: 30.0 ± 1.2 mJ per sample (standard error of the mean, n = 3)
        dynamic energy: 10.0 ± 1.2 mJ per sample
        active power 1.500 ± 0.058 W, idle power 1 W (one number); 3 runs of 2 ± 0 s for 100 samples
    """

    seconds: Repeats
    active_power: Repeats
    samples: int
    idle_power: Repeats | None = None
    setup: str = ""

    def __post_init__(self) -> None:
        for name in ("seconds", "active_power", "idle_power"):
            value = getattr(self, name)
            if value is not None or name != "idle_power":
                object.__setattr__(self, name, _repeats(name, value))
        positive_integer("samples", self.samples)
        _held("samples", self.samples)
        if not isinstance(self.setup, str):
            raise TypeError(f"setup: expected text, found {self.setup!r}")
        runs = {len(self._seconds), len(self._active)}
        if len(runs) > 1 and 1 not in runs:
            raise ValueError(
                f"active_power: expected one number or as many as seconds, {len(self._seconds)}, "
                f"found {len(self._active)}"
            )

    @property
    def _seconds(self) -> tuple[float, ...]:
        return cast(tuple[float, ...], self.seconds)

    @property
    def _active(self) -> tuple[float, ...]:
        return cast(tuple[float, ...], self.active_power)

    @property
    def _idle(self) -> tuple[float, ...]:
        return cast(tuple[float, ...], self.idle_power or ())

    @property
    def repeats(self) -> int:
        """Number of runs."""
        return max(len(self._seconds), len(self._active))

    @property
    def energy(self) -> float:
        """Joules per sample, mean over runs, of active power x seconds / samples."""
        return fmean(self._energies(0.0))

    @property
    def energy_error(self) -> float | None:
        """Standard error of ``energy``, in joules per sample; ``None`` for a single run."""
        return _standard_error(self._energies(0.0))

    @property
    def dynamic_power(self) -> float | None:
        """Active - idle power, means over runs, in watts; ``None`` without idle power.

        It may be negative: then the device was not found to draw more than when idle. Its error
        says whether noise explains that, or idle power was measured under other conditions.
        """
        return None if self.idle_power is None else fmean(self._active) - fmean(self._idle)

    @property
    def dynamic_energy(self) -> float | None:
        """Joules per sample, mean over runs, of (active - idle power) x seconds / samples.

        ``None`` without idle power. It may be negative, as the dynamic power.
        """
        return None if self.idle_power is None else fmean(self._energies(fmean(self._idle)))

    @property
    def dynamic_energy_error(self) -> float | None:
        """Standard error of ``dynamic_energy``, in joules per sample.

        ``None`` for a single run, and without idle power.
        """
        if self.idle_power is None:
            return None
        of_runs = _standard_error(self._energies(fmean(self._idle)))
        of_idle = _standard_error(self._idle) or 0.0
        return None if of_runs is None else math.hypot(of_runs, self.seconds_per_sample * of_idle)

    @property
    def seconds_per_sample(self) -> float:
        """Execution time of a sample, mean over runs, in seconds."""
        return fmean(self._seconds) / self.samples

    @property
    def seconds_per_sample_error(self) -> float | None:
        """Standard error of ``seconds_per_sample``; ``None`` if seconds are one number."""
        error = _standard_error(self._seconds)
        return None if error is None else error / self.samples

    @property
    def samples_per_second(self) -> float:
        """Samples over mean seconds, the execution rate."""
        return 1 / self.seconds_per_sample

    @property
    def facts(self) -> str:
        """Power, time and numbers of runs that were given, in words; without the energy."""
        idle = "idle power not measured"
        if self.idle_power is not None:
            idle = f"idle power {_mean(self._idle, self.repeats, WATTS)}"
        setup = f"; {self.setup}" if self.setup else ""
        return (
            f"active power {_mean(self._active, self.repeats, WATTS)}, {idle}; "
            f"{named(self.repeats, 'run')} of {_mean(self._seconds, self.repeats, SECONDS)} for "
            f"{named(self.samples, 'sample')}{setup}"
        )

    def to_dict(self) -> dict[str, Any]:
        """What it was made of, as :func:`load_measurements` reads it: lists, numbers and text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}

    def __str__(self) -> str:
        several = f"standard error of the mean, n = {self.repeats}"
        how = several if self.repeats > 1 else "a single run, so without a standard error"
        lines = [f"energy: {uncertain(self.energy, self.energy_error, JOULES)} per sample ({how})"]
        if self.dynamic_energy is None:
            lines.append("dynamic energy: not known, since idle power was not measured")
        else:
            dynamic = uncertain(self.dynamic_energy, self.dynamic_energy_error, JOULES)
            lines.append(f"dynamic energy: {dynamic} per sample")
        return "\n".join([*lines, self.facts])

    def _energies(self, idle: float) -> list[float]:
        """Energy per sample of each run, above that of an idle power."""
        runs = self.repeats
        seconds = self._seconds * (runs if len(self._seconds) == 1 else 1)
        powers = self._active * (runs if len(self._active) == 1 else 1)
        paired = zip(powers, seconds, strict=True)
        return [(power - idle) * time / self.samples for power, time in paired]


def _repeats(name: str, value: Any) -> tuple[float, ...]:
    """One number, or one per run, as a tuple."""
    plain = value.tolist() if hasattr(value, "tolist") else value  # of NumPy or PyTorch
    if isinstance(plain, str | bytes) or not isinstance(plain, Sequence):
        return (_held(name, plain),)
    if not plain:
        raise ValueError(f"{name}: expected a number or one per run, found none")
    return tuple(_held(f"{name}[{i}]", one) for i, one in enumerate(plain))


def _held(name: str, value: Any) -> float:
    """A positive number of which float64 holds products, quotients and squares."""
    number = positive_number(name, value)
    if not 2.0**-300 <= number <= 2.0**300:
        raise ValueError(f"{name}: expected a number from 2**-300 to 2**300, found {value!r}")
    return number


def _standard_error(values: Sequence[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _mean(values: Sequence[float], runs: int, units: tuple[tuple[float, str], ...]) -> str:
    """The mean of repeats; says so where their number is not that of the runs."""
    text = uncertain(fmean(values), _standard_error(values), units)
    if len(values) == runs:
        return text
    return f"{text} ({'one number' if len(values) == 1 else f'n = {len(values)}'})"


def load_measurements(path: str | os.PathLike[str]) -> dict[str, Measurement]:
    """Read measurements from a JSON file, by name of the method.

    The file holds one object: names of methods, and for each the arguments of
    :class:`Measurement`, in seconds and watts. Of the form

    ``{"SNN": {"seconds": [...], "active_power": [...], "idle_power": [...], "samples": 1000,
    "setup": "device, meter, what it covers"}}``

    with a number in place of a list where there are no repeats; ``idle_power`` and ``setup`` may be
    left out. :meth:`Measurement.to_dict` gives such an entry.

    Args:
        path: The file.

    Returns:
        The measurements, for :func:`snnmetrics.paper_table`.

    Raises:
        OSError: If the file cannot be read.
        TypeError: See :class:`Measurement`; the message names file and method.
        ValueError: If it is not such a file, a name stands twice, or an entry lacks an argument or
            has one that is not known; and see :class:`Measurement`.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from snnmetrics.energy import Measurement, load_measurements
        >>> ours = Measurement(seconds=2.0, active_power=1.5, samples=100)  # made-up numbers
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "measured.json"
        ...     _ = file.write_text(json.dumps({"ours": ours.to_dict()}))
        ...     load_measurements(file)["ours"] == ours
        True
    """
    text = load(path, MAX_BYTES)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes, found more")
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, found other text: {error}") from None
    if not isinstance(data, Mapping):
        raise ValueError(f"{path}: expected an object of measurements by name, found {data!r:.80}")
    return {name: _of_entry(f"{path}: {name}", entry) for name, entry in data.items()}


def _of_entry(where: str, entry: Any) -> Measurement:
    known = [field.name for field in fields(Measurement)]
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"{where}: expected an object with {', '.join(known)}, found {entry!r:.80}"
        )
    for name in entry:
        if name not in known:
            raise ValueError(f"{where}: expected {', '.join(known)}, found {name!r}")
    for name in ("seconds", "active_power", "samples"):
        if name not in entry:
            raise ValueError(f"{where}: expected {name}, found {', '.join(entry) or 'nothing'}")
    try:
        return Measurement(**entry)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"expected each name once in an object, found {name!r} again")
        found[name] = value
    return found
