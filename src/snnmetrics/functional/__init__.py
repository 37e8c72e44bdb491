"""The stateless function behind each metric."""

from snnmetrics.functional.activity import (
    activation_sparsity,
    firing_rate,
    membrane_updates,
    silent_neurons,
)
from snnmetrics.functional.gradient import gradient_statistics
from snnmetrics.functional.membrane import membrane_statistics
from snnmetrics.functional.operations import synops
from snnmetrics.functional.timing import (
    accuracy_over_time,
    early_exit,
    optimal_cutoff,
    time_to_first_spike,
)
from snnmetrics.functional.trains import fano_factor, interval_statistics

__all__ = [
    "accuracy_over_time",
    "activation_sparsity",
    "early_exit",
    "fano_factor",
    "firing_rate",
    "gradient_statistics",
    "interval_statistics",
    "membrane_statistics",
    "membrane_updates",
    "optimal_cutoff",
    "silent_neurons",
    "synops",
    "time_to_first_spike",
]


def __dir__() -> list[str]:
    """The public names, without the modules behind them."""
    return __all__
