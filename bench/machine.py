"""The machine: what it is, how busy it is."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import psutil


def busy(seconds: float = 1.0) -> float:
    """The share of all processors' time that others use just now."""
    return round(psutil.cpu_percent(seconds) / 100, 2)


def load() -> float:
    return round(os.getloadavg()[0], 2)


def description() -> dict[str, str]:
    return {
        "processors": f"{os.cpu_count()} x {_model()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }


def _model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
