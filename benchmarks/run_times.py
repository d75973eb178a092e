"""The same recipe three times in a fresh workspace: `python benchmarks/run_times.py [RECIPE] [--set a.b=c ...]`.

The second run finds its outputs there; what it still takes is start-up, and the steps that see the new champion. Also keeps what the
first run printed, which the README shows.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, describe_machine, save

from pipelines import outcome

STEP = re.compile(r"\] (?P<name>.+?) +done in (?P<seconds>[\d.]+) s(?P<reused>, reused)?")


def run_once(place: Path, recipe: str, options: list[str]) -> tuple[dict, str]:
    """(seconds in all, steps and their seconds, how many were reused; what was printed)."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}", "COLUMNS": "110"}
    command = [sys.executable, "-m", "pipelines", "run", "--recipe", recipe, "--workspace", str(place / "work"), *options]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"run failed with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    steps = list(STEP.finditer(done.stdout))
    figures = {
        "seconds": round(time.perf_counter() - began, 1),
        "steps": {step["name"]: float(step["seconds"]) for step in steps},
        "num_reused": sum(bool(step["reused"]) for step in steps),
    }
    return figures, done.stdout.replace(str(place), "runs")


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
