"""What one task costs before it does anything: `python benchmarks/kfp_overhead.py [NUM_TASKS]`.

Three chains of the same length: an empty task; one that imports the hand-over, as every task of ours does; one that imports mlflow
as well, which is what a task would pay if each sent its own tracking.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kfp import compiler, dsl
from machine import describe_machine, save

BODY = """
from kfp import dsl
@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def work(given: str) -> str:
    {line}
    return given
"""
KINDS = {
    "empty task": "pass",
    "with the hand-over": "import components.shared.handover",
    "with mlflow too": "import components.shared.handover, mlflow",
}


def chain_file(folder: Path, line: str, num_tasks: int) -> Path:
    """A compiled chain of tasks."""
    source = folder / "work.py"  # kfp takes a component's code from its file
    source.write_text(BODY.format(line=line))
    scope: dict = {}
    exec(compile(source.read_text(), str(source), "exec"), scope)

    @dsl.pipeline(name="chain")
    def chain():
        given = "x"
        for _ in range(num_tasks):
            given = scope["work"](given=given).set_caching_options(False).output

    target = folder / "chain.yaml"
    compiler.Compiler().compile(chain, str(target))
    return target


def seconds(line: str, num_tasks: int) -> float:
    """Wall time of the chain in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        file = chain_file(Path(place), line, num_tasks)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "pipelines.execute_ir", file, place, "bench"], check=True, capture_output=True
        )
        return time.perf_counter() - began


def main(num_tasks: int) -> None:
    machine = describe_machine()
    result = {kind: round((seconds(line, 1 + num_tasks) - seconds(line, 1)) / num_tasks, 3) for kind, line in KINDS.items()}
    save("kfp_overhead", machine, {"num_tasks": num_tasks, "unit": "seconds per task"}, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
