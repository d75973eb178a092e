"""Helper tasks of the scoring: a loop with its inputs, placed like it, only where a recipe asks for them."""

import pytest
import yaml

from components.shared.errors import InputError
from pipelines import ir, recipe
from pipelines.lint import lint
from pipelines.placement import Images

IMAGES = Images("cpu@sha256:0", "gpu@sha256:0")


def compiled(tmp_path, *overrides: str, profile: str = "cluster"):
    arguments = {**recipe.load("cluster", overrides), "workspace": "gs://bucket/w"}
    return ir.compile_pipeline(tmp_path / "pipeline.yaml", arguments, profile, IMAGES)


def test_helpers_are_a_loop_beside_the_scoring_task(tmp_path):
    target = compiled(tmp_path, "scoring.group_workers=4", "scoring.start_helpers=false")
    document, platform = yaml.safe_load_all(target.read_text())
    assert lint(document) == []
    (loop,) = (task for task in document["root"]["dag"]["tasks"].values() if "parameterIterator" in task)
    assert yaml.safe_load(loop["parameterIterator"]["items"]["raw"]) == ["1", "2", "3"]
    assert loop["iteratorPolicy"]["parallelismLimit"] == 3
    (helper,) = document["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
    scoring = next(task for task in document["root"]["dag"]["tasks"].values() if task["taskInfo"]["name"] == "Teacher scores the pool")
    assert {"model", "pairs", "queries", "items", "neighbors", "interactions"} <= set(helper["inputs"]["artifacts"])
    assert set(helper["inputs"]["artifacts"]) == set(scoring["inputs"]["artifacts"])
    assert helper["inputs"]["parameters"]["section"]["runtimeValue"]["constant"] == "scoring"
    assert "componentInputParameter" in helper["inputs"]["parameters"]["member"]
    executor = document["components"][helper["componentRef"]["name"]]["executorLabel"]
    assert document["deploymentSpec"]["executors"][executor]["container"]["image"] == IMAGES.gpu
    assert executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("overrides", [(), ("scoring.group_workers=4",), ("scoring.start_helpers=false",)])
def test_other_recipes_have_no_loop(tmp_path, overrides):
    document = ir.read_ir(compiled(tmp_path, *overrides))
    assert not any("parameterIterator" in task for task in document["root"]["dag"]["tasks"].values())


def test_loops_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="group_workers = 65 is above 64"):
        compiled(tmp_path, "scoring.group_workers=65", "scoring.start_helpers=false")
    with pytest.raises(InputError, match="needs a cluster; here set num_workers instead"):
        compiled(tmp_path, "scoring.group_workers=2", "scoring.start_helpers=false", profile="laptop")
