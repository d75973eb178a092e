"""Speed of the shop simulator on one core: at least a million events. Writes benchmarks/results/simulate_shop.json."""

import json
import os
import resource
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import pyarrow as pa
from machine import describe_machine, save

from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    pa.set_cpu_count(1)
    config = SimulateShopConfig(num_sessions=sessions)
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        report = run(config, dataset=f"{folder}/shop", tracker=NullTracker())
        seconds = time.perf_counter() - started
    events = int(report.metrics["num_events"])
    result = {
        "events": events,
        "seconds": round(seconds, 2),
        "events_per_s": round(events / seconds),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    save("simulate_shop", machine, {"cores_used": 1, **config.model_dump(mode="json")}, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
