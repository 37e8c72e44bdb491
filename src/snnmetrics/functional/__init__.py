"""The stateless function behind each metric."""

from snnmetrics.functional.synops import synops
from snnmetrics.functional.timing import accuracy_over_time

__all__ = ["accuracy_over_time", "synops"]
