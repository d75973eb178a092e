"""Runs a compiled pipeline with every task in a container: `python run_in_containers.py IR ROOT RUN_ID`, Docker's API at DOCKER_HOST.

kfp.local's own way of running a container reports one that fails fast as a success (kubeflow/pipelines#13332) and races with podman's
removal, so the container is made, followed, asked for its exit code and removed here.
"""

import os
import sys
from pathlib import Path
from typing import Any

from kfp import components, dsl, local
from kfp.local import docker_task_handler

KEPT = ("MLFLOW_TRACKING_URI", "RELEVANCE_TRACKING", "OMP_NUM_THREADS", "DS_ACCELERATOR")


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    made = client.containers.create(image=image, command=command, volumes=volumes, detach=True, **options)
    try:
        made.start()
        for line in made.logs(stream=True, follow=True):
            sys.stdout.write(line.decode(errors="replace"))
        return made.wait()["StatusCode"]
    finally:
        made.remove(force=True)


def main(ir: str, root: str, run_id: str) -> None:
    docker_task_handler.run_docker_container = run_container
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    runner = local.DockerRunner(network_mode="none", environment=environment)
    local.init(runner=runner, pipeline_root=root, raise_on_error=True)
    text = Path(ir).read_text(encoding="utf-8").replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, run_id)
    components.load_component_from_text(text)()


if __name__ == "__main__":
    main(*sys.argv[1:])
