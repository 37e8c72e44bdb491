"""Energy measured on a device: power times time, per sample, with standard errors."""

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
"""Size limit of a file of measurements, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Power and time of a device that processes samples, and the energy computed from them.

    Definitions are those of NeuroBench's system track (github.com/NeuroBench/system_benchmarks,
    ``ASC.md``, commit f9c0b4f, "Power / Energy" and "Execution Time"; Yik et al., "The NeuroBench
    framework for benchmarking neuromorphic computing algorithms and systems", Nature
    Communications, 2025):

    - *idle power*: of the configured device while it waits for input, not in a sleep mode;
    - *active power*: mean power while it processes the samples;
    - *dynamic power*: active power - idle power;
    - energy = power x execution time of a run / samples of the run.

    Each of ``seconds``, ``active_power`` and ``idle_power`` is one number, or a sequence of one
    number per repeated run. It is stored as a tuple. The i-th time and the i-th active power belong
    to the same run: ``energy`` is the mean of their products. If one of them is a single number,
    this is the product of the means. Idle power is measured in separate runs, whose number may
    differ.

    A standard error is that of the mean over repeats, ``s / sqrt(n)`` with the sample standard
    deviation ``s`` (n - 1 degrees of freedom). If the idle power ``I`` has repeats, the standard
    error of the dynamic energy is, to first order, ``sqrt(e**2 + (t / samples)**2 e_I**2)`` with
    the error ``e`` over the active runs, the mean time ``t`` and the error ``e_I`` of ``I``. A
    quantity given as one number counts as exact. Errors common to all runs, such as a wrong
    calibration of the meter, are not included in a standard error.

    Args:
        seconds: Duration of a run, over all its samples, in seconds.
        active_power: Mean power during a run, in watts.
        samples: Samples that each run processes.
        idle_power: Power of the idle device, in watts; ``None`` if it was not measured.
        setup: Text that names the device, the meter, and the components that the meter covers.

    Raises:
        TypeError: If a value is not a number, ``samples`` is not an integer, or ``setup`` is not
            text.
        ValueError: If a number is not from 2**-300 to 2**300, a sequence is empty, or ``seconds``
            and ``active_power`` both have repeats and their numbers differ.

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

    See Also:
        - :func:`~snnmetrics.energy.load_measurements`: measurements from a file.
        - :func:`~snnmetrics.paper_table`: ``measured`` adds them to a table.
        - :func:`~snnmetrics.energy.estimate_energy`: an estimate from counted operations.
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
        _in_range("samples", self.samples)
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
        """Active power x seconds / samples, mean over runs, in joules per sample."""
        return fmean(self._energies(0.0))

    @property
    def energy_error(self) -> float | None:
        """Standard error of ``energy``, in joules per sample; ``None`` for a single run."""
        return _standard_error(self._energies(0.0))

    @property
    def dynamic_power(self) -> float | None:
        """Active - idle power, means over runs, in watts; ``None`` without idle power.

        It is negative if the device drew more power when idle. ``dynamic_energy_error`` shows
        whether noise explains this; if not, idle power was measured under other conditions.
        """
        return None if self.idle_power is None else fmean(self._active) - fmean(self._idle)

    @property
    def dynamic_energy(self) -> float | None:
        """(Active - idle power) x seconds / samples, mean over runs, in joules per sample.

        ``None`` without idle power. It may be negative, like the dynamic power.
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
        """Execution time per sample, mean over runs, in seconds."""
        return fmean(self._seconds) / self.samples

    @property
    def seconds_per_sample_error(self) -> float | None:
        """Standard error of ``seconds_per_sample``; ``None`` if ``seconds`` is one number."""
        error = _standard_error(self._seconds)
        return None if error is None else error / self.samples

    @property
    def samples_per_second(self) -> float:
        """Execution rate, samples / mean seconds."""
        return 1 / self.seconds_per_sample

    @property
    def facts(self) -> str:
        """Powers, times, number of runs and setup as text; without the energy."""
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
        """Return the arguments as plain data, in the form that :func:`load_measurements` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}

    def __str__(self) -> str:
        several = f"standard error of the mean, n = {self.repeats}"
        how = several if self.repeats > 1 else "a single run, so without a standard error"
        lines = [f"energy: {uncertain(self.energy, self.energy_error, JOULES)} per sample ({how})"]
        if self.dynamic_energy is None:
            lines.append("dynamic energy: unknown, since idle power was not measured")
        else:
            dynamic = uncertain(self.dynamic_energy, self.dynamic_energy_error, JOULES)
            lines.append(f"dynamic energy: {dynamic} per sample")
        return "\n".join([*lines, self.facts])

    def _energies(self, idle: float) -> list[float]:
        """Return the energy per sample of each run, with an idle power subtracted."""
        runs = self.repeats
        seconds = self._seconds * (runs if len(self._seconds) == 1 else 1)
        powers = self._active * (runs if len(self._active) == 1 else 1)
        paired = zip(powers, seconds, strict=True)
        return [(power - idle) * time / self.samples for power, time in paired]


def _repeats(name: str, value: Any) -> tuple[float, ...]:
    """Return one number, or one per run, as a tuple."""
    plain = value.tolist() if hasattr(value, "tolist") else value  # of NumPy or PyTorch
    if isinstance(plain, str | bytes) or not isinstance(plain, Sequence):
        return (_in_range(name, plain),)
    if not plain:
        raise ValueError(f"{name}: expected a number or one per run, found an empty sequence")
    return tuple(_in_range(f"{name}[{i}]", one) for i, one in enumerate(plain))


def _in_range(name: str, value: Any) -> float:
    """Return a positive number whose products, quotients and squares are finite in float64."""
    number = positive_number(name, value)
    if not 2.0**-300 <= number <= 2.0**300:
        raise ValueError(f"{name}: expected a number from 2**-300 to 2**300, found {value!r}")
    return number


def _standard_error(values: Sequence[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _mean(values: Sequence[float], runs: int, units: tuple[tuple[float, str], ...]) -> str:
    """Return the mean of repeats as text, with their number if it is not the number of runs."""
    text = uncertain(fmean(values), _standard_error(values), units)
    if len(values) == runs:
        return text
    return f"{text} ({'one number' if len(values) == 1 else f'n = {len(values)}'})"


def load_measurements(path: str | os.PathLike[str]) -> dict[str, Measurement]:
    """Read measurements from a JSON file, by name of the method.

    The file contains one object that maps names of methods to the arguments of
    :class:`Measurement`, in seconds and watts:

    ``{"SNN": {"seconds": [...], "active_power": [...], "idle_power": [...], "samples": 1000,
    "setup": "device, meter, components"}}``

    A single number replaces a list if there are no repeats. ``idle_power`` and ``setup`` are
    optional. :meth:`Measurement.to_dict` returns such an entry.

    Args:
        path: Path of the file.

    Returns:
        The measurements, for :func:`snnmetrics.paper_table`.

    Raises:
        OSError: If the file cannot be read.
        TypeError: See :class:`Measurement`; the message names file and method.
        ValueError: If the content has another form, a name occurs twice, or an entry has a missing
            or an unknown argument; and see :class:`Measurement`.

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

    See Also:
        - :class:`~snnmetrics.energy.Measurement`: one measurement.
        - :func:`~snnmetrics.paper_table`: ``measured`` adds them to a table.
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
