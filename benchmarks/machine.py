"""The machine that a benchmark runs on: its description for the results, and its memory in use."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

PEERS = ("spikingjelly", "snntorch", "neurobench", "sinabs", "torchmetrics")


def description() -> dict[str, Any]:
    """Processor, memory, versions, threads in use, how busy the machine is, and the date (UTC)."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **{name: metadata.version(name) for name in PEERS},
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def processor() -> str:
    """The name of the processor, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory_gib() -> float | None:
    """Memory of the machine; None where the system does not say."""
    try:
        found = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return None if found is None else round(int(found[1]) / 2**20, 1)


def resident(field: str) -> int:
    """Resident memory of this process in bytes, on Linux.

    Args:
        field: ``"VmRSS"`` for now, ``"VmHWM"`` for the most since :func:`forget_peak`.
    """
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let the most that was resident be what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
