"""Faults of a compiled pipeline that neither kfp's compiler nor its API server reports.

kfp.local does something else than the cluster for some wirings, without an error; references may dangle; a secret may have become a
default. All of that is visible in the IR, so it is caught there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.shared.secret_shapes import SECRET_VALUE

Document = Mapping[str, Any]

SECRET_NAME = re.compile(r"(^|[_.\-])(password|passwd|secret|(api|access|private)[_-]?key|token|credentials?)$", re.IGNORECASE)
DNS_NAME = re.compile(r"^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$")


def lint(document: Document) -> list[str]:
    """Everything wrong with a pipeline document, one sentence each; empty when it is sound."""
    try:
        json_format.ParseDict(dict(document), pipeline_spec_pb2.PipelineSpec())  # pyright: ignore[reportAttributeAccessIssue] - made at import
    except json_format.ParseError as error:
        return [f"not a pipeline spec: {' '.join(str(error).split())}"]
    found = [*_header(document), *_defaults(document), *_executors(document)]
    for place, component in _dags(document):
        dag = component["dag"]
        for name, task in dag.get("tasks", {}).items():
            where = f"{place}, task '{name}'"
            checks = (_references, _caching, _constants, _iterator, _condition, _sub_dag)
            found += [f"{where}: {problem}" for check in checks for problem in check(document, dag, task)]
        found += [f"{place}: {problem}" for problem in (*_selectors(dag), *_cycles(dag))]
    return found


def _dags(document: Document) -> Iterator[tuple[str, Document]]:
    yield "root", document["root"]
    for name, component in document.get("components", {}).items():
        if "dag" in component:
            yield f"component '{name}'", component


def _header(document: Document) -> Iterator[str]:
    name = document.get("pipelineInfo", {}).get("name", "")
    if not DNS_NAME.match(name):
        yield f"pipeline name '{name}' is not a lower-case DNS name; the API server refuses it"
    if document.get("schemaVersion") != "2.1.0":
        yield f"schemaVersion '{document.get('schemaVersion')}' is not 2.1.0; the API server refuses it"


def _defaults(document: Document) -> Iterator[str]:
    parameters = document["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, spec in parameters.items():
        if spec.get("isOptional") and "defaultValue" not in spec:
            yield f"parameter '{name}' has default None, which kfp.local cannot run; use an empty text or 0"
        for path, value in _leaves(spec.get("defaultValue"), name):
            if isinstance(value, str) and "\n" in value:
                yield f"default of parameter '{path}' holds a newline, which the compiler writes as invalid YAML"
            yield from _secret(f"default of parameter '{path}'", path, value)


def _executors(document: Document) -> Iterator[str]:
    for label, executor in document.get("deploymentSpec", {}).get("executors", {}).items():
        for variable in executor.get("container", {}).get("env", []):
            yield from _secret(f"executor '{label}': environment variable '{variable['name']}'", variable["name"], variable.get("value"))


def _secret(where: str, name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        return
    if SECRET_NAME.search(name) or SECRET_VALUE.search(value):
        yield f"{where} looks like a secret; name a cluster secret in placement.py instead"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def _inputs(task: Document, kind: str) -> Mapping[str, Any]:
    return task.get("inputs", {}).get(kind, {})


def _component(document: Document, task: Document) -> Document:
    return document.get("components", {}).get(task.get("componentRef", {}).get("name"), {})


def _references(document: Document, dag: Document, task: Document) -> Iterator[str]:
    reference = task.get("componentRef", {}).get("name")
    component = _component(document, task)
    if not component:
        yield f"component '{reference}' does not exist"
    label = component.get("executorLabel")
    if label is not None and label not in document.get("deploymentSpec", {}).get("executors", {}):
        yield f"executor '{label}' of component '{reference}' does not exist"
    tasks = dag.get("tasks", {})
    for other in task.get("dependentTasks", []):
        if other not in tasks:
            yield f"depends on task '{other}', which does not exist"
    produced = [source.get("taskOutputParameter") for source in _inputs(task, "parameters").values()]
    produced += [source.get("taskOutputArtifact") for source in _inputs(task, "artifacts").values()]
    for origin in produced:
        if origin and origin["producerTask"] not in tasks:
            yield f"reads from task '{origin['producerTask']}', which does not exist"
        elif origin:
            yield from _output(document, tasks[origin["producerTask"]], origin)


def _output(document: Document, producer: Document, origin: Document) -> Iterator[str]:
    kind, key = ("artifacts", "outputArtifactKey") if "outputArtifactKey" in origin else ("parameters", "outputParameterKey")
    if origin[key] not in _component(document, producer).get("outputDefinitions", {}).get(kind, {}):
        yield f"reads output '{origin[key]}' of task '{origin['producerTask']}', which has no such output"


def _caching(document: Document, dag: Document, task: Document) -> Iterator[str]:
    del document, dag
    if task.get("cachingOptions", {}).get("enableCache"):
        yield "kfp caching is on; its key does not see the code in the image, so switch it off in placement.py"


def _constants(document: Document, dag: Document, task: Document) -> Iterator[str]:
    del document, dag
    for name, source in _inputs(task, "parameters").items():
        for path, value in _leaves(source.get("runtimeValue", {}).get("constant"), name):
            yield from _secret(f"parameter '{path}'", path, value)


def _iterator(document: Document, dag: Document, task: Document) -> Iterator[str]:
    del document, dag
    if "parameterIterator" not in task:
        return
    items = task["parameterIterator"].get("items", {}).get("inputParameter")
    for name, source in _inputs(task, "parameters").items():
        origin = source.get("taskOutputParameter")
        if origin and name != items:
            yield f"loop body reads parameter '{name}' of a task outside the loop; kfp.local gives it the loop item instead"
        if origin and name == items and origin["outputParameterKey"] != "Output":
            yield f"loops over named output '{origin['outputParameterKey']}'; kfp.local needs a task whose only output is the list"


def _condition(document: Document, dag: Document, task: Document) -> Iterator[str]:
    del document, dag
    condition = task.get("triggerPolicy", {}).get("condition", "")
    if not condition:
        return
    compared = re.sub(r"\['[^']*'\]", "", condition)
    if compared.count("'") > 2 * len(re.findall(r"[=!<>]=|[<>]", compared)):
        yield f"condition {condition} compares with a text that holds a quote; kfp.local then skips both branches"
    for name, source in _inputs(task, "parameters").items():
        if f"'{name}'" not in condition:
            continue
        if source.get("parameterExpressionSelector"):
            yield f"condition reads a field of '{name}'; kfp.local takes the other branch"
        if source.get("taskOutputParameter", {}).get("outputParameterKey", "Output") != "Output":
            yield f"condition reads named output '{name}'; kfp.local needs a task with a single unnamed output"


def _sub_dag(document: Document, dag: Document, task: Document) -> Iterator[str]:
    del dag
    loops = "parameterIterator" in task or "artifactIterator" in task
    if "dag" in _component(document, task) and not loops and _inputs(task, "artifacts") and not _inputs(task, "parameters"):
        yield "a nested pipeline takes artifacts but no parameter; kfp.local then finds neither, so give it any parameter"


def _selectors(dag: Document) -> Iterator[str]:
    for name, output in dag.get("outputs", {}).get("artifacts", {}).items():
        if len(output.get("artifactSelectors", [])) > 1:
            yield f"output '{name}' is one of several artifacts; kfp.local takes exactly one"


def _cycles(dag: Document) -> Iterator[str]:
    needs = {name: set(task.get("dependentTasks", [])) for name, task in dag.get("tasks", {}).items()}
    while ready := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in ready}
    if needs:
        yield f"tasks {', '.join(sorted(needs))} wait for each other"
