"""How many CPUs this container may use.

Threads beyond the limit do not wait, they are stopped for the rest of each scheduling period, so all are late.
"""

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "quota period" in microseconds, or "max period"


def cpu_limit(cpu_max: Path = CPU_MAX) -> int:
    """CPUs by the container's limit, at least 1; all that the process may run on if there is none."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return max(1, min(usable, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return usable
