"""Images built for real, and the work done inside: every room's command line, each of them by hand, the whole pipeline by kfp."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from components.shared import storage
from components.shared.tables import read_table
from pipelines import ir, recipe
from pipelines.progress import COLORS, ENDED

ROOT = Path(__file__).parents[2]
ROOMS = sorted(file.parent.name for file in (ROOT / "components").glob("*/__main__.py") if file.parent.name != "serving")
SMALL_ENCODER = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "vocab_size": 800, "max_tokens": 64}
SMALL = {
    "shop": {"num_items": 150, "num_queries": 60, "num_log_queries": 40, "judgments_per_query": 10, "num_sessions": 300, "days": 2},
    "teacher_encoder": SMALL_ENCODER,
    "student_encoder": SMALL_ENCODER,
    "teacher": {"num_epochs": 1, "max_tokens": 64, "min_pairwise_accuracy": 0},
    "cross_encoder": {"max_tokens": 64},
    "bi_encoder": {"max_tokens": 64},
    "pool": {"size_factor": 2, "num_shards": 2},
    "scoring": {"num_shards": 2},
    "ranking": {"num_shards": 2},
    "evaluation": {"num_resamples": 200},
    "promotion": {"num_resamples": 200, "min_queries": 10},
}
OVERRIDES = [f"{section}.{key}={value}" for section, keys in SMALL.items() for key, value in keys.items()]

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]


def compiled(folder: Path, image: str, workspace: Path) -> Path:
    """The tiny pipeline, its tasks placed in the image."""
    file = ir.compile_pipeline(folder / "pipeline.yaml", {**recipe.load("tiny", OVERRIDES), "workspace": workspace.as_uri()})
    text = file.read_text()
    assert text.count("image: python:3.11") == 18
    file.write_text(text.replace("image: python:3.11", f"image: {image}"))
    return file


def run_in_containers(engine, file: Path, root: Path, run_id: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("run_in_containers.py")), str(file), str(root), run_id]
    told = {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db", "RELEVANCE_TRACKING": "spool", "OMP_NUM_THREADS": "2"}
    with engine.service() as host:
        environment = {**engine.environment, **told, "DOCKER_HOST": host, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def shared(tmp_path):
    """A folder that the images' user, who is not root, may write."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o777)
    return place


@pytest.fixture(scope="module")
def by_hand(engine, cpu, tmp_path_factory):
    """What all rooms leave that are run by their command lines, one after another, inside."""
    folder = tmp_path_factory.mktemp("by_hand")
    folder.chmod(0o777)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.load("tiny", OVERRIDES)))
    shutil.copy(Path(__file__).with_name("rooms_by_hand.sh"), folder)
    mounted = ("-v", f"{folder}:{folder}")
    tracked = ("--env", f"MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db")
    done = engine.run(cpu, "sh", f"{folder}/rooms_by_hand.sh", str(folder), f"{folder}/recipe.yaml", options=(*mounted, *tracked))
    return SimpleNamespace(folder=folder, said=done.stdout, mounted=mounted)


@pytest.mark.parametrize("kind", ["cpu", "gpu", "serve"])
def test_an_image_is_what_its_labels_say_and_lists_what_is_in_it(engine, request, kind, record_property):
    image = request.getfixturevalue(kind)
    config = json.loads(engine.inspect(image, "{{json .Config}}"))
    assert config["User"] == "10001:10001"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    wanted = {"title": f"relevance-{kind}", "licenses": "Apache-2.0", "version": "test", "revision": "0123abc"}
    assert {name: labels[name] for name in wanted} == wanted
    listed = json.loads(engine.run(image, "cat", "/usr/share/sbom/relevance.cdx.json").stdout)
    named = {one["name"].lower().replace("_", "-"): one["version"] for one in listed["components"]}
    frozen = engine.run(image, "python", "-m", "pip", "freeze").stdout.splitlines()
    installed = {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in frozen)}
    assert listed["bomFormat"] == "CycloneDX"
    assert installed.items() <= named.items()
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines())
    assert {name: version.partition("+")[0] for name, version in installed.items() if name in locked}.items() <= locked.items()
    size = int(engine.inspect(image, "{{.Size}}"))
    record_property("megabytes", size // 1_000_000)
    sys.stderr.write(f"\nimage {kind}: {size / 1e9:.2f} GB, {len(named)} packages listed\n")


def test_nothing_of_the_build_is_left_in_an_image(engine, cpu):
    found = engine.run(cpu, "sh", "-c", "ls /build /opt/sbom /etc/pip.conf /root/.cache 2>/dev/null; ls -a /app").stdout.split()
    assert sorted(set(found) - {".", ".."}) == ["LICENSE", "components", "pipelines"]
    history = engine.call("podman", "history", "--no-trunc", "--format", "{{.CreatedBy}}", cpu).stdout
    assert "find-links" not in history


def test_every_rooms_command_line_explains_itself_inside(engine, cpu):
    loop = (
        "for room in "
        + " ".join(ROOMS)
        + "; do python -m components.$room --help | head -1 || exit 1; done; python -m pipelines --help | head -1"
    )
    said = engine.run(cpu, "sh", "-c", loop).stdout
    assert [line.split()[1:4] for line in said.splitlines() if line.startswith("usage: ")] == [
        ["python", "-m", f"components.{room}"] for room in ROOMS
    ] + [["python", "-m", "pipelines"]]


def test_every_rooms_command_line_works_on_what_the_others_wrote(by_hand):
    assert {line.removeprefix("== ") for line in by_hand.said.splitlines() if line.startswith("== ")} == set(ROOMS)
    folder = by_hand.folder
    assert read_table(str(folder / "judgments"), "judgments").num_rows == 600
    num_rows = {name: read_table(str(folder / name), name).num_rows for name in ("pairs", "soft_targets", "sub_judgments")}
    assert num_rows["soft_targets"] == num_rows["pairs"] > 300
    assert num_rows["sub_judgments"] > num_rows["pairs"]  # several aspects of a pair are told
    scored = read_table(str(folder / "cross_encoder"), "rankings")
    assert scored["system"].unique().to_pylist() == ["cross_encoder"]
    assert len((folder / "sheet.csv").read_text().splitlines()) > 100
    assert json.loads((folder / "promotion.json").read_text())["outcome"] == "refuse"  # an untrained one finds words as well
    assert "| workspace | ok |" in (folder / "preflight.md").read_text()


def test_bad_input_inside_is_one_line_and_exit_code_2(engine, cpu, by_hand):
    outputs = [part for name in ("card", "items", "judgments", "judged-queries") for part in (f"--{name}", f"{by_hand.folder}/none-{name}")]
    asked = ("python", "-m", "components.import_dataset", "--dataset", f"{by_hand.folder}/none", *outputs)
    refused = engine.run(cpu, *asked, options=by_hand.mounted, check=False)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: ")
    assert not list(by_hand.folder.glob("none-*"))


def test_the_gpu_image_trains_a_teacher_in_two_processes_of_deepspeed(engine, gpu, by_hand):
    asked = "import deepspeed, torch; from components.preflight.step import cuda_of_torch; print(torch.__version__, cuda_of_torch())"
    version, cuda = engine.run(gpu, "python", "-W", "ignore", "-c", asked).stdout.splitlines()[-1].split()
    assert (cuda == "None") == ("+cpu" in version)
    folder = by_hand.folder
    names = ("card.json", "encoder", "items", "queries", "judgments", "neighbors")
    inputs = [part for name in names for part in (f"--{name.removesuffix('.json')}", f"{folder}/{name}")]
    train = ("python", "-m", "components.train_teacher", "--recipe", f"{folder}/recipe.yaml", *inputs)
    engine.run(gpu, *train, "--num-processes", "2", "--model", f"{folder}/two", options=(*by_hand.mounted, "--env", "DS_ACCELERATOR=cpu"))
    assert storage.read_json(f"{folder}/two/relevance.json")["kind"] == storage.read_json(f"{folder}/teacher/relevance.json")["kind"]


def test_the_whole_pipeline_runs_with_every_task_in_a_container(engine, cpu, shared, tmp_path):
    done = run_in_containers(engine, compiled(tmp_path, cpu, shared / "work"), shared, "contained")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    ended = [found for line in done.stdout.splitlines() if (found := ENDED.match(COLORS.sub("", line)))]
    assert [found[2] for found in ended] == ["SUCCESS"] * 18
    (promotion,) = shared.glob("*/promote-model/promotion")
    decision = storage.read_json(json.loads(promotion.read_text())["uri"])
    assert decision["outcome"] in ("promote", "refuse")
    tracked = {file.stem for file in (shared / "work/tracking/contained").glob("*.jsonl")}
    assert len(tracked) == 18
    assert list((shared / "work").glob("failures/*/*")) == []


def test_a_task_that_fails_in_its_container_fails_the_run_and_leaves_its_page(engine, cpu, shared, tmp_path):
    file = compiled(tmp_path, cpu, shared / "work")
    file.write_text(file.read_text().replace("num_queries: 60", "num_querys: 60"))
    done = run_in_containers(engine, file, shared, "failing")
    assert done.returncode != 0
    (page,) = (shared / "work/failures/failing/shop").glob("attempt-1.md")
    assert "unknown key 'num_querys'" in page.read_text()
    (summary,) = shared.glob("*/simulate-shop/summary")
    assert summary.read_text() == page.read_text()
