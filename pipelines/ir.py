"""The compiled pipeline (kfp's intermediate representation, YAML): writing and reading it."""

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl
from kfp.dsl import pipeline_context

from components.shared.errors import InputError
from pipelines.distillation import distillation
from pipelines.fan_out import add_helpers, num_helpers
from pipelines.placement import LAPTOP, Images, in_pods, place
from pipelines.preflight import add_preflight

NAME = "relevance-distillation"


def compile_pipeline(
    target: Path,
    arguments: Mapping[str, Any],
    profile: str = LAPTOP,
    images: Images | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write the IR with `arguments` as its defaults.

    Args:
        target: `.yaml` file to write.
        arguments: value of each pipeline parameter, by name.
        profile: one of `placement.PROFILES`.
        images: image references; needed where tasks run in pods.
        tags: environment of every task in a pod, from which tracking takes its tags.

    Raises:
        InputError: for a profile or images that cannot be placed, or helper tasks that cannot be.
    """

    helpers = num_helpers(arguments, profile)

    @functools.wraps(distillation)
    def placed(*parameters: Any) -> None:
        distillation(*parameters)
        building = pipeline_context.Pipeline.get_default_pipeline()
        assert building is not None
        add_helpers(list(building.tasks.values()), helpers)
        if images is not None and in_pods(profile):
            add_preflight(list(building.tasks.values()), arguments, images)
        place(building.tasks.values(), profile, images, tags, arguments)

    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = dsl.pipeline(name=NAME)(placed)
        compiler.Compiler().compile(pipeline, str(target), pipeline_parameters=dict(arguments))
    return target


def read_ir(path: Path) -> dict[str, Any]:
    """The pipeline document of a compiled file; the platform document, if any, is left aside.

    Raises:
        InputError: when the file is not a compiled pipeline.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"'{path}' does not exist or is not a file; write it with `python -m pipelines compile`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is not valid YAML ({' '.join(str(error).split())}); compile the pipeline again") from None
    if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
        raise InputError(f"'{path}' is not a compiled pipeline (no `root`); write it with `python -m pipelines compile`")
    return documents[0]


def tasks_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks of the root DAG by name."""
    return document["root"]["dag"]["tasks"]


def section_of(task: Mapping[str, Any]) -> str:
    """The recipe section that a task was given."""
    return task.get("inputs", {}).get("parameters", {}).get("section", {}).get("runtimeValue", {}).get("constant", "")


def edges(document: Mapping[str, Any]) -> list[str]:
    """All data edges of the root DAG as `producer.output -> consumer.input`, sorted; tasks go by display name."""
    shown = {name: task["taskInfo"]["name"] for name, task in tasks_of(document).items()}
    found = []
    for name, task in tasks_of(document).items():
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            origin = source["taskOutputArtifact"]
            found.append(f"{shown[origin['producerTask']]}.{origin['outputArtifactKey']} -> {shown[name]}.{key}")
    return sorted(found)
