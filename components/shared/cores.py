"""How many cores this process may use."""

import os
import sys


def num_cores() -> int:
    """Those that the system lets it run on; a container's CPU quota is not seen."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
