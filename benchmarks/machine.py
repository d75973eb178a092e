"""What every result file says about where it was measured, how it is written, and what a command takes."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

PACKAGES = ("duckdb", "kfp", "mlflow", "numpy", "pyarrow", "torch", "transformers")


def cpu_model() -> str:
    """The processor's own name where Linux tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


# between the measured process and this one: a peak begins at that of the process that starts it, and this one made the data
_WATCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
status, usage = os.wait4(process.pid, 0)[1:]
taken = [time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]
print(json.dumps(taken))
"""


def time_command(command: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak resident MiB of a command, which must end well."""
    watched = subprocess.run([sys.executable, "-I", "-S", "-c", _WATCH, *command], stdout=subprocess.PIPE, check=True)
    seconds, cpu_seconds, peak_mib, code = json.loads(watched.stdout)
    if code:
        raise SystemExit(f"{' '.join(command[1:3])} failed with exit code {code}")
    return seconds, cpu_seconds, peak_mib


def describe_machine() -> dict[str, Any]:
    """Machine and versions; the load tells whether the machine was quiet when the measurement began."""
    machine = {"cpu": cpu_model(), "cores": os.cpu_count(), "system": platform.system(), "load_before": round(os.getloadavg()[0], 2)}
    return {"machine": machine, "versions": {"python": platform.python_version(), **_versions()}}


def _versions() -> dict[str, str]:
    """Of those of PACKAGES that are here; a machine with a GPU may lack what orchestrates."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def save(name: str, machine: dict[str, Any], settings: dict[str, Any], result: Any) -> None:
    """Write `results/<name>.json`; `machine` is from `describe_machine()` before the measurement. `render.py` makes the tables."""
    RESULTS.mkdir(exist_ok=True)
    record = {**machine, "settings": settings, "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def run_seeds(
    name: str, settings: dict[str, Any], seeds: list[int], measure: Callable[[int, Path], dict[str, Any]], summary: Callable[[list], Any]
) -> None:
    """Measure each seed in a folder of its own and write `results/<name>.json` after each.

    Runs of other seeds that stand there, measured under the same settings, stay.
    """
    machine, runs = describe_machine(), kept_runs(name, settings, seeds)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            runs.append({"seed": seed, **measure(seed, Path(folder))})
        save(name, machine, {**settings, "seeds": [run["seed"] for run in runs]}, {"summary": summary(runs), "runs": runs})


def kept_runs(name: str, settings: dict[str, Any], seeds: list[int]) -> list[dict[str, Any]]:
    """Of `results/<name>.json` the runs of other seeds than these, if they were measured under the same settings."""
    file = RESULTS / f"{name}.json"
    record = json.loads(file.read_text()) if file.is_file() else {"settings": {}}
    same = {key: record["settings"].get(key) for key in settings} == json.loads(json.dumps(settings))
    return [run for run in record["result"]["runs"] if run["seed"] not in seeds] if same else []
