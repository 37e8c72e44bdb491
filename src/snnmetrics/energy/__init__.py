"""Energy estimates: counted operations times constants of published provenance."""

from snnmetrics.energy.arithmetic import Energy, energy_of
from snnmetrics.energy.baseline import ann_baseline, break_even_rate, quantised_ann_baseline
from snnmetrics.energy.bits import BitBudget, BitRow, bit_budget
from snnmetrics.energy.estimate import estimate_energy
from snnmetrics.energy.measurement import Measurement, load_measurements
from snnmetrics.energy.memory import memory_aware_baseline, memory_aware_energy
from snnmetrics.energy.memory_counts import MemoryWork
from snnmetrics.energy.memory_prices import MemoryPrices
from snnmetrics.energy.per_byte import MemoryLevels, PerByte
from snnmetrics.energy.profile import Constant, EnergyProfile
from snnmetrics.energy.report import EnergyReport, EnergyRow, Method
from snnmetrics.energy.table import energy_profiles
from snnmetrics.energy.traffic import memory_traffic
from snnmetrics.energy.traffic_report import MemoryTraffic, TrafficRow
from snnmetrics.energy.training import (
    OptimizerUpdate,
    TrainingCost,
    TrainingLayer,
    UpdateWork,
    training_cost,
)
from snnmetrics.energy.workload import LayerReads, LayerWork, NeuronWork, Workload, workload_of

__all__ = [
    "BitBudget",
    "BitRow",
    "Constant",
    "Energy",
    "EnergyProfile",
    "EnergyReport",
    "EnergyRow",
    "LayerReads",
    "LayerWork",
    "Measurement",
    "MemoryLevels",
    "MemoryPrices",
    "MemoryTraffic",
    "MemoryWork",
    "Method",
    "NeuronWork",
    "OptimizerUpdate",
    "PerByte",
    "TrafficRow",
    "TrainingCost",
    "TrainingLayer",
    "UpdateWork",
    "Workload",
    "ann_baseline",
    "bit_budget",
    "break_even_rate",
    "energy_of",
    "energy_profiles",
    "estimate_energy",
    "load_measurements",
    "memory_aware_baseline",
    "memory_aware_energy",
    "memory_traffic",
    "quantised_ann_baseline",
    "training_cost",
    "workload_of",
]


def __dir__() -> list[str]:
    """Return the public names, without the names of submodules."""
    return __all__
