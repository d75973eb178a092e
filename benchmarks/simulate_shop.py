"""Speed of the shop simulator on one core: at least a million events. Writes benchmarks/results/simulate_shop.json."""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
import pyarrow as pa

from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    pa.set_cpu_count(1)
    config = SimulateShopConfig(num_sessions=sessions)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        report = run(config, dataset=f"{folder}/shop", tracker=NullTracker())
        seconds = time.perf_counter() - started
    events = int(report.metrics["num_events"])
    result = {
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__},
        "settings": config.model_dump(mode="json"),
        "events": events,
        "seconds": round(seconds, 2),
        "events_per_s": round(events / seconds),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    place = Path(__file__).parent / "results" / "simulate_shop.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "settings"}, indent=1))


if __name__ == "__main__":
    main()
