"""The same recipe three times in a fresh workspace: `python benchmarks/run_times.py [RECIPE] [--set a.b=c ...]`.

The second run finds its outputs there; what it still takes is start-up, and the steps that see the new champion. Also keeps what the
first run printed, which the README shows. Memory is that of all processes together, twice a second, pages that they share counted once
where the system tells (Linux: PSS); asking for it slows the run a little.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from machine import RESULTS, describe_machine, save

from pipelines import outcome

STEP = re.compile(r"\] (?P<name>.+?) +done in (?P<seconds>[\d.]+) s(?P<reused>, reused)?")


def run_once(place: Path, recipe: str, options: list[str]) -> tuple[dict, str]:
    """(seconds in all, steps and their seconds, how many were reused, peak memory; what was printed)."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}", "COLUMNS": "110"}
    command = [sys.executable, "-m", "pipelines", "run", "--recipe", recipe, "--workspace", str(place / "work"), *options]
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)
        while running.poll() is None:
            peak = max(peak, memory_of(psutil.Process(running.pid)))
            time.sleep(0.5)
        output.seek(0)
        printed = output.read()
    if running.returncode:
        raise SystemExit(f"run failed with exit code {running.returncode}\n{printed}")
    steps = list(STEP.finditer(printed))
    figures = {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mib": round(peak / 2**20),
        "steps": {step["name"]: float(step["seconds"]) for step in steps},
        "num_reused": sum(bool(step["reused"]) for step in steps),
    }
    return figures, printed.replace(str(place), "runs")


def memory_of(parent: psutil.Process) -> int:
    """Bytes of a process and all below it, now."""
    total = 0
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            used = process.memory_full_info()
            total += getattr(used, "pss", used.rss)
    return total


def main(recipe: str, options: list[str]) -> None:
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        runs, printed = zip(*(run_once(place, recipe, options) for _ in range(3)), strict=True)
        tracking = min((place / "work/tracking").iterdir())
        result = {"runs": list(runs), "headline": outcome.headline(tracking)}
    save(f"run_times_{recipe}", machine, {"recipe": recipe, "options": options}, result)
    (RESULTS / f"run_times_{recipe}.txt").write_text(printed[0])
    print(printed[0])
    print(json.dumps([{"seconds": run["seconds"], "num_reused": run["num_reused"]} for run in runs]))


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given.pop(0) if given and not given[0].startswith("-") else "tiny", given)
