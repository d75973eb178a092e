"""A first and a second run of the same recipe in a fresh workspace: `python benchmarks/run_times.py [RECIPE] [--set a.b=c ...]`.

The second finds its outputs there; what it still takes is start-up, and the steps that see the new champion.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main(recipe: str, options: list[str]) -> int:
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{Path(place) / 'mlflow.db'}"}
        command = [sys.executable, "-m", "pipelines", "run", "--recipe", recipe, "--workspace", f"{place}/work", *options]
        for name in ("first", "second", "third"):
            began = time.perf_counter()
            done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
            took = time.perf_counter() - began
            steps = [line for line in done.stdout.splitlines() if " done in " in line or "FAILED" in line]
            print(
                f"{name} run: {took:.1f} s, {sum('reused' in line for line in steps)} of {len(steps)} steps reused, exit {done.returncode}"
            )
            print("\n".join(f"    {line}" for line in steps), flush=True)
            if done.returncode:
                print(done.stdout + done.stderr)
                return done.returncode
    return 0


if __name__ == "__main__":
    given = sys.argv[1:]
    named = given.pop(0) if given and not given[0].startswith("-") else "tiny"
    sys.exit(main(named, given))
