"""Profiles of the library: data, with a source for each constant.

Add a profile as an entry of ``_ALL``; profiles with a single figure are in ``chips.py``. A figure
read in a secondary source names it in ``via``. Facts that the source does not state are ``None`` or
``"not stated"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from snnmetrics.energy.chips import CHIPS, LOIHI, ODIN
from snnmetrics.energy.profile import Constant, EnergyProfile

_PJ, _NJ = 1e-12, 1e-9

_HOROWITZ = Constant(
    _PJ,
    'Horowitz, "Computing\'s energy problem (and what we can do about it)", ISSCC',
    2014,
    table="Figure 1.1.9",
    node="45 nm",
    voltage=0.9,
    how="estimated",
)
_DEGNAN = Constant(
    _NJ,
    'Degnan, Marr and Hasler, "Assessing trends in performance per watt for signal processing '
    'applications", IEEE TVLSI',
    2015,
    via="the device table of keras-spiking",
)
_LOIHI = Constant(
    _PJ,
    LOIHI,
    2018,
    node="14 nm",
    how="simulated",
    via="the device table of keras-spiking",
)
_HOEPPNER = Constant(
    _NJ,
    'Hoeppner et al., "Dynamic power management for neuromorphic many-core systems", IEEE TCAS-I',
    2019,
    via="the device table of keras-spiking",
)
_MEROLLA = Constant(
    26 * _PJ,
    'Merolla et al., "A million spiking-neuron integrated circuit with a scalable communication '
    'network and interface", Science',
    2014,
    node="28 nm",
    all_in=True,
    via="surveys",
)
_FRENKEL = Constant(
    12.7 * _PJ,
    ODIN,
    2018,
    table="abstract",
    node="28 nm",
    all_in=None,
)
_SANA_FE = replace(
    _LOIHI,
    via="arch/loihi.yaml of SANA-FE (Boyle et al., IEEE TCAD 44(8), 2025)",
)


def _of(known: Constant, joules: float, table: str | None = None) -> Constant:
    """Return another figure of the same source."""
    return replace(known, joules=joules, table=table or known.table)


def _horowitz(dtype: str, add: float, multiply: float, *notes: str) -> EnergyProfile:
    """Return a profile where an AC is an addition, and a MAC a multiplication and an addition."""
    addition, multiplication = (_of(_HOROWITZ, pj * _PJ) for pj in (add, multiply))
    both = _of(_HOROWITZ, (add + multiply) * _PJ, "Figure 1.1.9, multiplication + addition")
    return EnergyProfile(
        f"horowitz-45nm-{dtype}",
        ac=addition,
        mac=both,
        addition=addition,
        multiplication=multiplication,
        notes=notes,
    )


def _dense(name: str, nj: float, device: str, *notes: str) -> EnergyProfile:
    mac = _of(_DEGNAN, nj * _NJ)
    return EnergyProfile(
        name,
        synop=mac,
        neuron_update=mac,
        event_driven=False,
        notes=(
            f"{device}: a synaptic operation and a neuron update have the price of one MAC each",
            "from the performance per watt of processors, which may partly include memory and "
            "leakage",
            "not event-driven: every synapse is computed in every time step, with or without "
            "spikes; keras-spiking prices a single step there, as `ann_baseline` does",
            *notes,
        ),
    )


_ALL = (
    _horowitz("fp32", 0.9, 3.7),
    _horowitz("fp16", 0.4, 1.1),
    _horowitz(
        "int8",
        0.03,
        0.2,
        "sums have 8 bits, too: a 32-bit accumulator takes 0.1 pJ per addition",
    ),
    _horowitz("int32", 0.1, 3.1),
    _dense("cpu-i7-4960x", 8.6, "Intel i7-4960X"),
    _dense("gpu-titan-black", 0.3, "Nvidia GTX Titan Black", "assumes large batches"),
    _dense("arm-cortex-a", 0.9, "ARM Cortex-A"),
    EnergyProfile(
        "loihi",
        synop=_of(_LOIHI, (23.6 + 3.5) * _PJ),
        neuron_update=_of(_LOIHI, 81 * _PJ),
        notes=("23.6 pJ + 3.5 pJ per synaptic operation, added as in keras-spiking",),
    ),
    EnergyProfile(
        "loihi-events",
        synop_dense=_of(_SANA_FE, 35.5 * _PJ),
        synop_sparse=_of(_SANA_FE, 33.6 * _PJ),
        synop_convolution=_of(_SANA_FE, 24.0 * _PJ),
        neuron_access=_of(_SANA_FE, 51.2 * _PJ),
        neuron_update=_of(_SANA_FE, 21.6 * _PJ),
        spike_out=_of(_SANA_FE, 69.3 * _PJ),
        axon_out=_of(_SANA_FE, 111 * _PJ),
        hop=_of(_SANA_FE, 4.2 * _PJ, "north or south; east or west 3.0 pJ"),
        notes=(
            "SANA-FE: a simulation with these figures was within 12 % of the energy of the chip",
            "every neuron is read and updated in every time step: an upper bound, since SANA-FE "
            "does not update (21.6 pJ) neurons whose potential, bias and input are all zero",
            "every hop has the price of a hop north or south (4.2 pJ; east or west: 3.0 pJ): an "
            "upper bound",
        ),
    ),
    EnergyProfile(
        "spinnaker", synop=_of(_HOEPPNER, 13.3 * _NJ), neuron_update=_of(_HOEPPNER, 26 * _NJ)
    ),
    EnergyProfile(
        "spinnaker2-prototype",
        synop=replace(_of(_HOEPPNER, 0.45 * _NJ), node="28 nm", how="measured"),
        neuron_update=replace(_of(_HOEPPNER, 2.19 * _NJ), node="28 nm", how="measured"),
        notes=("a test chip, with load-dependent voltages from 0.7 V to 1.0 V",),
    ),
    EnergyProfile("truenorth", synop=_MEROLLA),
    EnergyProfile("odin", synop=_FRENKEL, notes=("the minimum that was reached",)),
    *CHIPS,
)
_RENAMED = {
    "spinnaker2": "'spinnaker2-prototype' (a test chip, 450 pJ per synaptic operation) or "
    "'tang-2023-spinnaker2' (10 pJ)"
}

_PROFILES: Mapping[str, EnergyProfile] = MappingProxyType({found.name: found for found in _ALL})


def energy_profiles() -> Mapping[str, EnergyProfile]:
    """Return the profiles of the library.

    Returns:
        Read-only mapping from name to profile.

    Example:
        >>> import snnmetrics as sm
        >>> sorted(sm.energy.energy_profiles())[:3]
        ['arm-cortex-a', 'cpu-i7-4960x', 'gpu-titan-black']
        >>> print(sm.energy.energy_profiles()["horowitz-45nm-fp32"].ac.node)
        45 nm

    See Also:
        - :class:`~snnmetrics.energy.EnergyProfile`: a profile of your own.
        - :func:`~snnmetrics.energy.estimate_energy`: applies a profile to a report.
    """
    return _PROFILES


def profile_of(profile: str | EnergyProfile) -> EnergyProfile:
    """Return the profile with this name; return a profile unchanged.

    Raises:
        TypeError: If it is neither a name nor a profile.
        ValueError: If the name is unknown.
    """
    if isinstance(profile, EnergyProfile):
        return profile
    if not isinstance(profile, str):
        raise TypeError(
            f"profile: expected a name or an EnergyProfile, found {type(profile).__name__}"
        )
    if profile in _RENAMED:
        raise ValueError(f"profile: expected {_RENAMED[profile]}, found {profile!r}")
    if profile not in _PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(_PROFILES)}, found {profile!r}")
    return _PROFILES[profile]
