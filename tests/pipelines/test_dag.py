"""The pipeline's edges, parameters and placement, seen in what is compiled."""

import difflib
import json
from pathlib import Path

import pytest
import yaml

from components.shared.errors import InputError
from pipelines import ir, recipe
from pipelines.lint import lint
from pipelines.placement import PLACES, Images, Place, place_of, profiles_of

GOLDEN = Path(__file__).parent / "golden_edges.txt"
CPU, GPU = "registry.example/cpu@sha256:" + "a" * 64, "registry.example/gpu@sha256:" + "b" * 64


@pytest.fixture(scope="module")
def cluster_documents(tmp_path_factory):
    """(pipeline document, platform document) of the cluster profile."""
    target = tmp_path_factory.mktemp("ir") / "cluster.yaml"
    tags = {"RELEVANCE_RECIPE": "cluster", "RELEVANCE_GIT_REVISION": "abc"}
    ir.compile_pipeline(target, {**recipe.load("cluster"), "workspace": "gs://bucket/w"}, "cluster", Images(CPU, GPU), tags)
    return list(yaml.safe_load_all(target.read_text()))


def test_the_edges_are_the_ones_that_were_agreed(laptop):
    wanted, found = GOLDEN.read_text().splitlines(), ir.edges(laptop)
    difference = "\n".join(difflib.unified_diff(sorted(wanted), found, "tests/pipelines/golden_edges.txt", "compiled", lineterm="", n=0))
    assert not difference, f"the DAG changed; if that is meant, edit the file:\n{difference}"


def test_compiled_pipelines_are_sound(laptop, cluster_documents):
    assert lint(laptop) == []
    assert lint(cluster_documents[0]) == []


def test_compiling_twice_gives_equal_bytes(laptop_file, tmp_path):
    again = ir.compile_pipeline(tmp_path / "again.yaml", {**recipe.load("tiny"), "workspace": "file:///w"})
    assert again.read_bytes() == laptop_file.read_bytes()


def test_every_recipe_section_is_a_described_pipeline_parameter(laptop):
    parameters = laptop["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {*recipe.SECTIONS, "workspace", "data", "date"}
    assert [name for name, spec in parameters.items() if not spec.get("description")] == []
    assert parameters["bi_encoder"]["defaultValue"]["architecture"] == "bi_encoder"


def test_every_task_has_a_name_for_people_and_a_section_of_its_own(laptop):
    tasks = ir.tasks_of(laptop).values()
    assert all(task["taskInfo"]["name"][0].isupper() for task in tasks)
    sections = [ir.section_of(task) for task in tasks]
    assert len(sections) == len(set(sections)) == 18
    assert {section for section in sections if not section.startswith("ranking_")} == set(recipe.SECTIONS) - {"ranking"}


def test_on_a_cluster_tasks_get_pinned_images_sizes_and_names_of_secrets(cluster_documents):
    document, platform = cluster_documents
    executors = document["deploymentSpec"]["executors"]
    images = {label: executor["container"]["image"] for label, executor in executors.items()}
    assert {label for label, image in images.items() if image == GPU} == {
        label for label in images if label.startswith(("exec-train-", "exec-score-", "exec-preflight"))
    }
    assert set(images.values()) == {CPU, GPU}
    teacher = executors["exec-train-teacher"]["container"]["resources"]
    assert (teacher["accelerator"]["resourceCount"], teacher["accelerator"]["resourceType"]) == ("8", "nvidia.com/gpu")
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {entry["secretName"] for entry in kubernetes["exec-extract-logs"]["secretAsEnv"]} == {"mlflow-credentials", "log-client-salt"}
    mounts = {label: [mount["mountPath"] for mount in executor["emptyDirMounts"]] for label, executor in kubernetes.items()}
    assert mounts["exec-train-teacher"] == ["/scratch", "/dev/shm"]
    assert mounts["exec-build-pool"] == ["/scratch"]


def test_a_task_that_starts_a_trainjob_has_the_image_of_its_pods_and_no_gpu(tmp_path):
    arguments = {**recipe.load("cluster", ["teacher.launcher=trainjob"]), "workspace": "gs://bucket/w"}
    file = ir.compile_pipeline(tmp_path / "p.yaml", arguments, "cluster", Images(CPU, GPU))
    document, platform = yaml.safe_load_all(file.read_text())
    container = document["deploymentSpec"]["executors"]["exec-train-teacher"]["container"]
    assert container["image"] == GPU
    assert "accelerator" not in container["resources"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-teacher"]
    assert placed["emptyDirMounts"][1]["mountPath"] == "/dev/shm"


def handed_on(document, component):
    """Field of a task's placement that its pods get too -> whether its own pod has it."""
    return {one["field"]: one.get("applyToTask", False) for one in document["components"][component]["taskConfigPassthroughs"]}


def test_a_task_that_starts_a_trainjob_hands_on_where_gpus_are_and_stays_away(tmp_path):
    images = Images(CPU, GPU, nodes="pool=gpu")
    both = {}
    for launcher in ("trainjob", "local"):  # in this order: one compilation must leave nothing to the next
        arguments = {**recipe.load("cluster", [f"teacher.launcher={launcher}"]), "workspace": "gs://bucket/w"}
        file = ir.compile_pipeline(tmp_path / f"{launcher}.yaml", arguments, "cluster", images)
        document, platform = yaml.safe_load_all(file.read_text())
        placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-teacher"]
        assert (placed["tolerations"][0]["key"], placed["nodeSelector"]["labels"]) == ("nvidia.com/gpu", {"pool": "gpu"})
        assert document["components"]["comp-train-teacher"]["inputDefinitions"]["parameters"]["task"]["parameterType"] == "TASK_CONFIG"
        both[launcher] = handed_on(document, "comp-train-teacher")
        assert all(handed_on(document, "comp-score-pairs").values())  # helpers run where the task runs
    assert len(both["local"]) == 6
    assert all(both["local"].values())
    assert {field for field, own in both["trainjob"].items() if not own} == {
        "KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_SELECTOR", "KUBERNETES_AFFINITY",
    }  # fmt: skip


def test_only_the_encoder_may_ask_the_model_hub_and_only_the_last_step_closes_the_run(cluster_documents):
    executors = cluster_documents[0]["deploymentSpec"]["executors"]
    variables = {label: {one["name"]: one["value"] for one in executor["container"]["env"]} for label, executor in executors.items()}
    assert {label for label, env in variables.items() if "HF_HUB_OFFLINE" not in env} == {"exec-prepare-encoder", "exec-prepare-encoder-2"}
    assert [label for label, env in variables.items() if "RELEVANCE_LAST_STEP" in env] == ["exec-promote-model"]
    assert all(env["RELEVANCE_RECIPE"] == "cluster" for env in variables.values())


def test_on_a_cluster_tasks_are_retried_with_patience_and_end_in_time(cluster_documents):
    document, platform = cluster_documents
    retries = {json.dumps(task["retryPolicy"], sort_keys=True) for task in ir.tasks_of(document).values()}
    assert [json.loads(one) for one in retries] == [
        {"maxRetryCount": 2, "backoffDuration": "60s", "backoffFactor": 2.0, "backoffMaxDuration": "600s"}
    ]
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    seconds = {label.removeprefix("exec-"): int(executor["activeDeadlineSeconds"]) for label, executor in kubernetes.items()}
    assert (seconds["build-pool"], seconds["train-student"], seconds["train-teacher"]) == (3600, 12 * 3600, 24 * 3600)
    assert {executor["imagePullPolicy"] for executor in kubernetes.values()} == {"IfNotPresent"}
    tolerating = {label for label, executor in kubernetes.items() if executor.get("tolerations")}
    assert tolerating == {label for label in kubernetes if label.startswith(("exec-train-", "exec-score-"))}
    assert kubernetes["exec-train-teacher"]["emptyDirMounts"][1]["sizeLimit"] == "64Gi"


def test_on_a_cluster_the_salt_must_be_there_and_mlflow_may_be(cluster_documents):
    executor = cluster_documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-extract-logs"]
    secrets = {entry["secretName"]: entry for entry in executor["secretAsEnv"]}
    assert secrets["log-client-salt"]["keyToEnv"] == [{"secretKey": "salt", "envVar": "LOG_CLIENT_SALT"}]
    assert not secrets["log-client-salt"].get("optional")
    assert secrets["mlflow-credentials"]["optional"]
    (address,) = executor["configMapAsEnv"]
    assert (address["keyToEnv"], address["optional"]) == ([{"configMapKey": "tracking_uri", "envVar": "MLFLOW_TRACKING_URI"}], True)


def test_on_a_cluster_no_task_is_root_and_temporary_files_have_a_limit(cluster_documents):
    document, platform = cluster_documents
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for label, executor in kubernetes.items():
        assert executor["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        (mount,) = (one for one in executor["emptyDirMounts"] if one["volumeName"] == "scratch")
        assert (mount["mountPath"], mount.get("medium", "")) == ("/scratch", "")
        room = label.removeprefix("exec-").rstrip("-0123456789")
        assert mount["sizeLimit"] == PLACES[room].scratch
        (given,) = (one["value"] for one in document["deploymentSpec"]["executors"][label]["container"]["env"] if one["name"] == "TMPDIR")
        assert given == mount["mountPath"]


def test_a_teacher_gets_as_many_gpus_as_it_has_processes(tmp_path):
    for num_processes, wanted in ((1, Place(cpu="8", memory="64Gi")), (4, Place(cpu="16", memory="128Gi")), (8, PLACES["train-teacher"])):
        found = place_of("train-teacher", {"teacher": {"num_processes": num_processes}})
        assert (found.gpus, found.cpu, found.memory) == (num_processes, wanted.cpu, wanted.memory)
    with pytest.raises(InputError, match=r"num_processes = 9 is more than the 8 GPUs of a machine; use teacher\.launcher=trainjob"):
        place_of("train-teacher", {"teacher": {"num_processes": 9}})


def test_one_workstation_holds_every_task_and_gives_its_gpu_to_one_at_a_time(tmp_path):
    arguments = {**recipe.load("single_gpu"), "workspace": "gs://bucket/w"}
    file = ir.compile_pipeline(tmp_path / "p.yaml", arguments, "single-gpu", Images(CPU, GPU))
    document, platform = yaml.safe_load_all(file.read_text())
    wanted = {label: one["container"]["resources"] for label, one in document["deploymentSpec"]["executors"].items()}
    assert max(float(one["resourceCpuRequest"]) for one in wanted.values()) == 4
    assert {one["resourceMemoryLimit"] for one in wanted.values()} == {"2Gi", "4Gi", "8Gi", "16Gi", "32Gi"}
    counts = {label: one["accelerator"]["resourceCount"] for label, one in wanted.items() if "accelerator" in one}
    assert set(counts.values()) == {"1"}
    assert set(counts) == {label for label in wanted if label.startswith(("exec-train-", "exec-score-"))}
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    limits = {mount["mountPath"]: mount["sizeLimit"] for mount in kubernetes["exec-train-teacher"]["emptyDirMounts"]}
    assert limits == {"/scratch": "100Gi", "/dev/shm": "8Gi"}
    assert "nodeSelector" not in kubernetes["exec-train-teacher"]


@pytest.mark.parametrize("overrides", [["teacher.num_processes=2"], ["teacher.launcher=trainjob", "teacher.num_processes=8"]])
def test_a_workstation_refuses_a_teacher_of_several_gpus(overrides):
    settings = recipe.load("decoder_gpu", overrides)
    with pytest.raises(InputError, match=r"profile 'single-gpu' has one GPU; set teacher\.num_processes=1 and teacher\.launcher=local"):
        place_of("train-teacher", settings, "single-gpu")
    assert profiles_of(settings) == ["laptop", "cluster"]
    assert profiles_of(recipe.load("decoder_gpu")) == ["laptop", "single-gpu", "cluster"]
    with pytest.raises(InputError, match="num_processes = 9 is more than the 8 GPUs"):
        profiles_of({"teacher": {"num_processes": 9}})


def test_tasks_with_gpus_go_to_the_nodes_that_are_named(tmp_path):
    images = Images(CPU, GPU, nodes="cloud.google.com/gke-accelerator=nvidia-h100-80gb,relevance/pool=gpu-spot")
    file = ir.compile_pipeline(tmp_path / "p.yaml", {**recipe.load("cluster"), "workspace": "gs://bucket/w"}, "cluster", images)
    kubernetes = list(yaml.safe_load_all(file.read_text()))[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    selected = {label: one["nodeSelector"]["labels"] for label, one in kubernetes.items() if "nodeSelector" in one}
    assert set(selected) == {label for label in kubernetes if label.startswith(("exec-train-", "exec-score-"))}
    assert selected["exec-score-pairs"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb", "relevance/pool": "gpu-spot"}


def test_every_room_has_a_place(laptop):
    assert {name.replace("_", "-") for name in recipe.SECTIONS.values()} | {"preflight"} == set(PLACES)


@pytest.mark.parametrize(
    ("profile", "images", "message"),
    [
        ("cluster", None, "needs images"),
        ("cluster", Images("registry.example/cpu:latest", GPU), "cpu image 'registry.example/cpu:latest' is not pinned; give --cpu-image"),
        ("cluster", Images(CPU, "registry.example/gpu:latest"), "gpu image 'registry.example/gpu:latest' is not pinned; give --gpu-image"),
        ("cluster", Images(CPU, GPU, nodes="gpu spot"), "'gpu spot' is no label of a node; give --gpu-nodes KEY=VALUE"),
        ("single-gpu", None, "profile 'single-gpu' needs images"),
        ("moon", None, "use one of laptop, single-gpu, cluster"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, profile, images, message):
    with pytest.raises(InputError, match=message):
        ir.compile_pipeline(tmp_path / "x.yaml", {"workspace": "w"}, profile, images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("folder", "is not a file"),
        (b"a: [", "not valid YAML"),
        (b"\x89PNG\xff", "not valid YAML"),
        (b"a: 1", "not a compiled pipeline"),
        (b"", "not a compiled pipeline"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(InputError, match=message) as caught:
        ir.read_ir(path)
    assert "\n" not in str(caught.value)
