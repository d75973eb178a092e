"""Each wiring that kfp.local gets wrong, each dangling reference, each leaked secret is caught; sound pipelines are clean."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Output

from pipelines.lint import lint

component = functools.partial(dsl.component, base_image="python:3.11", install_kfp_package=False, packages_to_install=[])


@component
def plan() -> list:
    return [1, 2]


@component
def number(x: int) -> int:
    return x


@component
def text(x: str) -> str:
    return x


@component
def named(tag: dsl.OutputPath(str), shards: dsl.OutputPath(list)):
    del tag, shards


@component
def table(out: Output[Dataset]):
    del out


@component
def read(source: Input[Dataset], x: int = 0):
    del source, x


def ir_of(pipeline: Callable[..., Any], tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "ir.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="case")(pipeline), str(path))
    return yaml.safe_load(path.read_text())


def loop_reads_outside():
    outside = number(x=5)
    with dsl.ParallelFor(plan().output) as item:
        number(x=outside.output).after(number(x=item))


def loop_over_named_list():
    with dsl.ParallelFor(named().outputs["shards"]) as item:
        number(x=item)


def condition_on_named_output():
    with dsl.If(named().outputs["tag"] == "full"):
        number(x=1)


def condition_on_field_of_item():
    with dsl.ParallelFor([{"kind": "a"}, {"kind": "b"}]) as item, dsl.If(item.kind == "a"):
        number(x=1)


def quote_in_condition():
    with dsl.If(text(x="a").output == "it's"):
        number(x=1)


@dsl.pipeline(name="inner")
def inner_with_artifact_only(source: Input[Dataset]):
    read(source=source)


def nested_with_artifacts_only():
    inner_with_artifact_only(source=table().outputs["out"])


@dsl.pipeline(name="choice")
def choice(flag: str) -> Dataset:
    with dsl.If(flag == "a"):
        first = table()
    with dsl.Else():
        second = table()
    return dsl.OneOf(first.outputs["out"], second.outputs["out"])


def one_of_artifacts():
    read(source=choice(flag="a").output)


def parameter_without_default(x: Optional[int] = None):  # noqa: UP045  kfp reads only this spelling
    number(x=x)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (loop_reads_outside, "gives it the loop item"),
        (loop_over_named_list, "loops over named output 'shards'"),
        (condition_on_named_output, "reads named output"),
        (condition_on_field_of_item, "reads a field"),
        (quote_in_condition, "holds a quote"),
        (nested_with_artifacts_only, "no parameter"),
        (one_of_artifacts, "one of several artifacts"),
        (parameter_without_default, "has default None"),
    ],
)
def test_a_wiring_that_kfp_local_gets_wrong_is_caught(tmp_path, pipeline, message):
    problems = [problem for problem in lint(ir_of(pipeline, tmp_path)) if "caching" not in problem]
    assert len(problems) == 1, problems
    assert message in problems[0]


def sound(count: int = 3, tag: str = "a"):
    gate = text(x=tag).set_caching_options(False)
    with dsl.If(gate.output == "a"):
        number(x=count).set_caching_options(False)
    shards = plan().set_caching_options(False)
    made = table().set_caching_options(False)
    with dsl.ParallelFor(shards.output) as item:
        read(source=made.outputs["out"], x=item).set_caching_options(False)


def loop_over_constants_reads_an_artifact():
    made = table().set_caching_options(False)
    with dsl.ParallelFor([1, 2]):
        read(source=made.outputs["out"]).set_caching_options(False)


def two_comparisons(first: str = "a", second: str = "b"):
    with dsl.If(text(x=first).set_caching_options(False).output == second):
        number(x=1).set_caching_options(False)


@pytest.mark.parametrize("pipeline", [sound, loop_over_constants_reads_an_artifact, two_comparisons])
def test_a_sound_pipeline_with_loop_or_condition_is_clean(tmp_path, pipeline):
    assert lint(ir_of(pipeline, tmp_path)) == []


def test_a_fault_inside_a_loop_is_found_and_placed(tmp_path):
    document = ir_of(sound, tmp_path)
    loop = next(name for name, component in document["components"].items() if "dag" in component and "read" in component["dag"]["tasks"])
    document["components"][loop]["dag"]["tasks"]["read"]["cachingOptions"] = {"enableCache": True}
    (problem,) = lint(document)
    assert problem.startswith(f"component '{loop}', task 'read': kfp caching is on")


def test_a_parameter_that_no_task_makes_is_found(tmp_path):
    document = ir_of(sound, tmp_path)
    loop = next(task for task in document["root"]["dag"]["tasks"].values() if "parameterIterator" in task)
    items = loop["parameterIterator"]["items"]["inputParameter"]
    loop["inputs"]["parameters"][items]["taskOutputParameter"]["outputParameterKey"] = "shards"
    assert "reads output 'shards' of task 'plan', which has no such output" in "; ".join(lint(document))


def task(document, name="read"):
    return document["root"]["dag"]["tasks"][name]


def chain():
    read(source=table().set_caching_options(False).outputs["out"]).set_caching_options(False)


def with_default(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document):
        parameters = document["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
        parameters[key] = {"parameterType": "STRUCT" if isinstance(value, dict) else "STRING", "defaultValue": value, "isOptional": True}

    return change


def with_variable(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    def change(document):
        document["deploymentSpec"]["executors"]["exec-read"]["container"]["env"] = [{"name": name, "value": value}]

    return change


FAULTS = {
    "unknown field": (lambda d: task(d).update(nonsense=1), "not a pipeline spec"),
    "dangling component": (lambda d: d["components"].pop("comp-read"), "component 'comp-read' does not exist"),
    "dangling executor": (lambda d: d["deploymentSpec"]["executors"].pop("exec-read"), "executor 'exec-read'"),
    "dangling dependency": (lambda d: task(d).update(dependentTasks=["tbale"]), "depends on task 'tbale'"),
    "dangling producer": (
        lambda d: task(d)["inputs"]["artifacts"]["source"]["taskOutputArtifact"].update(producerTask="tbale"),
        "reads from task 'tbale'",
    ),
    "no such output": (
        lambda d: task(d)["inputs"]["artifacts"]["source"]["taskOutputArtifact"].update(outputArtifactKey="rows"),
        "reads output 'rows'",
    ),
    "cycle": (lambda d: task(d, "table").update(dependentTasks=["read"]), "wait for each other"),
    "caching": (lambda d: task(d).update(cachingOptions={"enableCache": True}), "caching is on"),
    "name": (lambda d: d["pipelineInfo"].update(name="My Pipeline"), "not a lower-case DNS name"),
    "version": (lambda d: d.update(schemaVersion="2.0.0"), "is not 2.1.0"),
    "newline": (with_default("note", "two\nlines"), "holds a newline"),
    "newline inside a section": (with_default("teacher", {"prompt": "two\nlines"}), "'teacher.prompt' holds a newline"),
    "newline inside a list": (with_default("shop", {"kinds": ["one", "two\nlines"]}), "'shop.kinds' holds a newline"),
    "secret inside a list": (with_default("shop", {"hosts": ["https://me:hunter2@host/x"]}), "'shop.hosts' looks like a secret"),
    "secret by name": (with_variable("MLFLOW_TRACKING_PASSWORD", "x"), "looks like a secret"),
    "secret by value": (with_variable("NOTE", "postgresql://mlflow:hunter2@db/mlflow"), "looks like a secret"),
    "secret constant": (
        lambda d: (
            task(d)["inputs"]
            .setdefault("parameters", {})
            .update(hub={"runtimeValue": {"constant": {"hosts": ["https://me:hunter2@host/x"]}}})
        ),
        "parameter 'hub.hosts' looks like a secret",
    ),
    "secret default": (with_default("teacher", {"hub": {"api_key": "x"}}), "'teacher.hub.api_key' looks like a secret"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_put_into_a_sound_document_is_caught(tmp_path, fault):
    document = ir_of(chain, tmp_path)
    assert lint(document) == []
    broken = copy.deepcopy(document)
    change, message = FAULTS[fault]
    change(broken)
    assert message in "; ".join(lint(broken))


@pytest.mark.parametrize(("name", "value"), [("TOKENIZERS_PARALLELISM", "false"), ("RELEVANCE_BATCH_TOKENS", "8192"), ("API_TOKEN", "")])
def test_ordinary_environment_is_no_secret(tmp_path, name, value):
    document = ir_of(chain, tmp_path)
    with_variable(name, value)(document)
    assert lint(document) == []


# written in two pieces, so that no scanner takes this file for a leak
SECRETS = [
    ("-----BEGIN RSA ", "PRIVATE KEY-----"), ("AKIA", "ABCDEFGHIJKLMNOP"), ("gh", "p_" + "a1" * 10), ("h", "f_" + "aB" * 10),
    ("sk", "-" + "ab-" * 7), ("gl", "pat-" + "ab" * 8), ("ya", "29.abc"), ("ey", "J" + "a" * 10 + ".ey" + "J" + "b" * 10 + ".c"),
    ("xo", "xb-" + "1" * 10),
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS, ids=lambda pair: pair[0])
def test_each_known_shape_of_a_secret_is_seen_in_any_value(tmp_path, secret):
    document = ir_of(chain, tmp_path)
    with_default("note", f"see {''.join(secret)}")(document)
    assert lint(document) == ["default of parameter 'note' looks like a secret; name a cluster secret in placement.py instead"]


@pytest.mark.parametrize(
    "name", ["db_password", "PASSWD", "client.secret", "apikey", "access_key", "private-key", "HF_TOKEN", "credential"]
)
def test_a_name_that_ends_like_a_secret_is_seen(tmp_path, name):
    document = ir_of(chain, tmp_path)
    with_variable(name, "x")(document)
    assert [problem.split(";")[0] for problem in lint(document)] == [
        f"executor 'exec-read': environment variable '{name}' looks like a secret"
    ]


@pytest.mark.parametrize(("name", "num_problems"), [("a" * 63, 0), ("a" * 64, 1), ("a-", 1), ("-a", 1), ("", 1)])
def test_a_pipeline_is_named_as_dns_allows(tmp_path, name, num_problems):
    document = ir_of(chain, tmp_path)
    document["pipelineInfo"]["name"] = name
    assert len([problem for problem in lint(document) if "DNS" in problem]) == num_problems
