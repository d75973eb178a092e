"""The schema of a TrainJob's spec in each release of Kubeflow Trainer, as its CRD has it, down to the types that Kubernetes defines.

That of the installed package `kubeflow-trainer-api` (2.3) is made here; those of 2.0, 2.1 and 2.2 were made by `reduced` from the packages
`kubeflow-trainer-api` 2.0.0, 2.1.0 and 2.2.0 and lie in `trainjob_specs.json`, because only one of them can be installed.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJobSpec

KUBERNETES = "IoK8s"


def reduced(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with references resolved, unknown keys refused, and Kubernetes' own types as plain objects."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {"type": "object"} if name.startswith(KUBERNETES) else reduced(definitions[name], definitions)
    if "anyOf" in schema:
        (kept,) = (one for one in schema["anyOf"] if one.get("type") != "null")
        return reduced(kept, definitions)
    found = {key: schema[key] for key in ("type", "required") if key in schema}
    if "properties" in schema:
        properties = {name: reduced(one, definitions) for name, one in schema["properties"].items()}
        return found | {"properties": properties, "additionalProperties": False}
    return found | ({"items": reduced(schema["items"], definitions)} if "items" in schema else {})


def spec_schemas() -> dict[str, dict[str, Any]]:
    installed = TrainerV1alpha1TrainJobSpec.model_json_schema(by_alias=True)
    stored = json.loads((Path(__file__).parent / "trainjob_specs.json").read_text())
    for one in stored.values():  # an IntOrString in 2.0 and 2.1, which the package writes as an object
        one["properties"]["trainer"]["properties"]["numProcPerNode"] = {"type": ["integer", "string"]}
    return stored | {"2.3": reduced(installed, installed["$defs"])}


SPECS = spec_schemas()


def fault_of(trainjob: dict[str, Any], version: str) -> str:
    """What the API server of a cluster with this release would refuse; empty where it is fine."""
    try:
        jsonschema.validate(trainjob["spec"], SPECS[version])
    except jsonschema.ValidationError as error:
        return error.message
    return ""


def openapi(version: str) -> dict[str, Any]:
    """The part of the API server's OpenAPI v3 document that says what a TrainJob is."""
    kind = {"group": "trainer.kubeflow.org", "kind": "TrainJob", "version": "v1alpha1"}
    trainjob = {"properties": {"spec": SPECS[version]}, "x-kubernetes-group-version-kind": [kind]}
    return {"components": {"schemas": {"org.kubeflow.trainer.v1alpha1.TrainJob": trainjob, "io.k8s.ObjectMeta": {}}}}
