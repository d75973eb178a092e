"""Runs one compiled pipeline on this machine: `python -m pipelines.execute_ir IR ROOT RUN_ID`.

A process of its own, because kfp.local leaves handlers and a patched `print` behind. All settings are the IR's own defaults.
"""

import sys
from pathlib import Path

from kfp import components as kfp_components
from kfp import dsl, local


def execute(ir: str, root: str, run_id: str) -> None:
    """Run the IR; tasks are subprocesses of this interpreter. Raises RuntimeError when a task fails."""
    # kfp.local makes up eight random digits; a name that sorts by time is worth more in folders and in MLflow
    text = Path(ir).read_text(encoding="utf-8").replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, run_id)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    kfp_components.load_component_from_text(text)()


if __name__ == "__main__":
    execute(*sys.argv[1:])
