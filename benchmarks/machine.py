"""What every result file says about where it was measured, and how it is written."""

import contextlib
import json
import os
import platform
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
