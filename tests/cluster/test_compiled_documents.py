"""The compiled files of all profiles, read by kfp's own loader and, strictly, by the protobufs that the API server reads them with."""

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from submission_case import CPU, GPU

from pipelines import ir, recipe
from pipelines.placement import PROFILES, Images, in_pods

PipelineSpec = vars(pipeline_spec_pb2)["PipelineSpec"]  # generated modules define their messages at run time
ExecutorSpec = vars(pipeline_spec_pb2)["PipelineDeploymentConfig"].ExecutorSpec
KubernetesExecutorConfig = vars(kubernetes_executor_config_pb2)["KubernetesExecutorConfig"]


@pytest.fixture(scope="module", params=PROFILES)
def compiled(request, tmp_path_factory):
    """(profile, file) with the recipe `single_gpu`, which every profile's machines hold."""
    images = Images(CPU, GPU) if in_pods(request.param) else None
    target = tmp_path_factory.mktemp("ir") / f"{request.param}.yaml"
    return request.param, ir.compile_pipeline(target, {**recipe.load("single_gpu"), "workspace": "gs://bucket/w"}, request.param, images)


def test_kfps_loader_takes_the_file_and_finds_our_parameters(compiled):
    _, file = compiled
    loaded = components.load_component_from_file(str(file))
    assert loaded.pipeline_spec.pipeline_info.name == ir.NAME
    spec = loaded.component_spec
    assert set(spec.inputs or {}) == {*recipe.SECTIONS, "workspace", "data", "date"}
    assert not spec.outputs


def test_the_server_would_take_every_part_of_the_file(compiled):
    profile, file = compiled
    document, *platform = yaml.safe_load_all(file.read_text())
    spec = json_format.ParseDict(document, PipelineSpec())
    assert spec.schema_version == "2.1.0"
    assert len(spec.root.dag.tasks) == 18 + in_pods(profile)  # preflight
    # executors and the platform are Structs in the spec, where any field passes; these two are what the server makes of them
    executors = document["deploymentSpec"]["executors"]
    parsed = {label: json_format.ParseDict(executor, ExecutorSpec()) for label, executor in executors.items()}
    assert {executor.container.image for executor in parsed.values()} == ({CPU, GPU} if in_pods(profile) else {"python:3.11"})
    assert len(platform) == in_pods(profile)
    for one in platform:
        placed = one["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        timeouts = {label: json_format.ParseDict(config, KubernetesExecutorConfig()) for label, config in placed.items()}
        assert set(timeouts) == set(executors)


def test_every_reference_inside_points_at_something(compiled):
    document = ir.read_ir(compiled[1])
    tasks, parts, executors = ir.tasks_of(document), document["components"], document["deploymentSpec"]["executors"]
    for task in tasks.values():
        part = parts[task["componentRef"]["name"]]
        assert part["executorLabel"] in executors
        assert set(task.get("dependentTasks", [])) <= set(tasks)
        given = {kind: set(task.get("inputs", {}).get(kind, {})) for kind in ("parameters", "artifacts")}
        for kind, names in given.items():
            declared = part.get("inputDefinitions", {}).get(kind, {})
            wanted = {name for name, definition in declared.items() if not definition.get("isOptional")}
            assert wanted <= names <= set(declared)
        for source in task.get("inputs", {}).get("artifacts", {}).values():
            origin = source["taskOutputArtifact"]
            maker = parts[tasks[origin["producerTask"]]["componentRef"]["name"]]
            assert origin["outputArtifactKey"] in maker["outputDefinitions"]["artifacts"]


def test_all_profiles_hold_the_same_graph(tmp_path):
    arguments = {**recipe.load("single_gpu"), "workspace": "gs://bucket/w"}
    found = [
        ir.edges(ir.read_ir(ir.compile_pipeline(tmp_path / f"{profile}.yaml", arguments, profile, Images(CPU, GPU))))
        for profile in PROFILES
    ]
    assert found[0] == found[1] == found[2] != []
