"""Rules on rendered manifests: each takes all objects of an overlay and returns what is wrong, one line a fault."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import promql_parser
from kubeflow_trainer_api import models as trainer

Objects = list[dict[str, Any]]
KUBERNETES = "1.34"
SECRET_NAME = re.compile(r"(?i)(password|secret|token(?!iz)|salt|(api|access|private)_?key)")
SECRET_VALUE = re.compile(r"(?i)://[^/\s:@]+:[^/\s@]+@|-----BEGIN|\bAKIA[0-9A-Z]{16}|\bpassword\s*[=:]\s*\S")
PINNED = re.compile(r"[^\s:@]+(:\d+)?(/[^\s:@]+)*@sha256:[0-9a-f]{64}")
MADE_BY_OTHERS = ({"pipelines.kubeflow.org/v2_component": "true"}, {"serving.kserve.io/inferenceservice": "relevance-student"})
# kinds without a schema that works offline: (API version, required keys of spec, other keys that exist), from their projects' docs
CUSTOM: dict[str, tuple[str, set[str], set[str]]] = {
    "ResourceFlavor": ("kueue.x-k8s.io/v1beta2", {"nodeLabels"}, {"nodeTaints", "tolerations", "topologyName"}),
    "ClusterQueue": (
        "kueue.x-k8s.io/v1beta2",
        {"namespaceSelector", "resourceGroups"},
        {"cohortName", "queueingStrategy", "preemption", "flavorFungibility", "stopPolicy"},
    ),
    "LocalQueue": ("kueue.x-k8s.io/v1beta2", {"clusterQueue"}, {"stopPolicy"}),
    "PrometheusRule": ("monitoring.coreos.com/v1", {"groups"}, set()),
    "ServiceMonitor": ("monitoring.coreos.com/v1", {"selector", "endpoints"}, {"namespaceSelector"}),
    "InferenceService": ("serving.kserve.io/v1beta1", {"predictor"}, {"transformer", "explainer"}),
    "ServingRuntime": ("serving.kserve.io/v1alpha1", {"containers", "supportedModelFormats"}, {"protocolVersions", "volumes"}),
}


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a value, the value itself first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def title(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"


def pods(objects: Objects) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(object, pod spec) of everything that runs containers."""
    for one in objects:
        for place in walk(one):
            if isinstance(place.get("containers"), list):
                yield one, place


def containers(objects: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, pod spec, container)."""
    for one, pod in pods(objects):
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            yield f"{title(one)} container {container['name']}", pod, container


def fits_schema(objects: Objects) -> list[str]:
    faults = []
    for one in objects:
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{title(one)}: {error}")
        except kubernetes_validate.SchemaNotFoundError:
            faults += _fits_custom(one)
    return faults


def _fits_custom(one: dict[str, Any]) -> list[str]:
    if one["kind"] == "TrainingRuntime":
        made = trainer.TrainerV1alpha1TrainingRuntime.from_dict(one)  # unknown keys get lost, wrong types raise
        return [] if made is not None and made.to_dict() == one else [f"{title(one)}: a key that Trainer does not know"]
    if one["kind"] not in CUSTOM:
        return [f"{title(one)}: nobody has said what this kind must hold"]
    version, required, other = CUSTOM[one["kind"]]
    faults = [f"{title(one)}: apiVersion {one['apiVersion']} is not {version}"] if one["apiVersion"] != version else []
    faults += [f"{title(one)}: spec.{key} is absent" for key in sorted(required - one["spec"].keys())]
    faults += [f"{title(one)}: spec.{key} is unknown" for key in sorted(one["spec"].keys() - required - other)]
    if one["kind"] == "ServingRuntime":  # its containers are those of a pod
        spec = {"containers": one["spec"].get("containers", []), "volumes": one["spec"].get("volumes", [])}
        faults += fits_schema([{"apiVersion": "v1", "kind": "Pod", "metadata": one["metadata"], "spec": spec}])
    return faults


def is_bounded(objects: Objects) -> list[str]:
    """Requests and limits for CPU and memory."""
    faults = []
    for name, _, container in containers(objects):
        for side in ("requests", "limits"):
            given = container.get("resources", {}).get(side, {})
            faults += [f"{name}: no {side}.{what}" for what in ("cpu", "memory") if what not in given]
    return faults


def is_closed(objects: Objects) -> list[str]:
    """A numeric user that is not root, no way up, no capability, the runtime's seccomp profile, nothing of the host."""
    faults = []
    for name, pod, container in containers(objects):
        own = container.get("securityContext", {})
        both = {**pod.get("securityContext", {}), **own}
        wanted = {
            "runs as root": both.get("runAsNonRoot") is True and isinstance(both.get("runAsUser"), int) and both["runAsUser"] > 0,
            "seccomp is not RuntimeDefault": both.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "privileges may grow": own.get("allowPrivilegeEscalation") is False and not own.get("privileged"),
            "keeps capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "shares the host": not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
            "mounts the host": not any("hostPath" in volume for volume in pod.get("volumes", [])),
        }
        faults += [f"{name}: {fault}" for fault, holds in wanted.items() if not holds]
    return faults


def is_pinned(objects: Objects) -> list[str]:
    return [f"{name}: image {one.get('image')} has no digest" for name, _, one in containers(objects) if not PINNED.fullmatch(one["image"])]


def is_probed(objects: Objects) -> list[str]:
    """What answers others says when it is ready and whether it lives."""
    served = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet", "ServingRuntime")]
    return [
        f"{name}: no {probe}"
        for name, _, container in containers(served)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe not in container
    ]


def holds_no_secret(objects: Objects) -> list[str]:
    """No Secret object, no secret-like variable with a value, no credentials inside any text."""
    faults = [f"{title(one)}: a secret in the repository" for one in objects if one["kind"] == "Secret"]
    for name, _, container in containers(objects):
        faults += [
            f"{name}: {env['name']} has a value" for env in container.get("env", []) if SECRET_NAME.search(env["name"]) and "value" in env
        ]
    for one in objects:
        texts = [text for place in walk(one) for value in place.values() for text in (value if isinstance(value, list) else [value])]
        faults += [f"{title(one)}: credentials in '{text[:40]}'" for text in texts if isinstance(text, str) and SECRET_VALUE.search(text)]
    return faults


def grants_no_wildcard(objects: Objects) -> list[str]:
    """No '*', nothing cluster-wide, no secret without its name, no right to widen rights, no binding to nobody."""
    faults = [f"{title(one)}: cluster-wide" for one in objects if one["kind"].startswith("ClusterRole")]
    accounts = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects if one["kind"] == "ServiceAccount"}
    for one in objects:
        for rule in one.get("rules") or []:
            if any("*" in value for key in ("apiGroups", "resources", "verbs") for value in rule[key]):
                faults.append(f"{title(one)}: wildcard in {rule}")
            if "secrets" in rule["resources"] and not rule.get("resourceNames"):
                faults.append(f"{title(one)}: every secret of the namespace")
            if {"escalate", "bind", "impersonate"} & set(rule["verbs"]) or "pods/exec" in rule["resources"]:
                faults.append(f"{title(one)}: a way to more rights in {rule}")
        for subject in one.get("subjects") or []:
            if (subject.get("namespace"), subject["name"]) not in accounts:
                faults.append(f"{title(one)}: bound to {subject['name']}, which is not there")
    return faults


def refers_to_what_exists(objects: Objects, secrets: dict[str, dict[str, set[str]]]) -> list[str]:
    """Config maps, secrets (`secrets`: namespace -> name -> keys that the installation makes) and service accounts, with their keys."""
    held = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): set(one.get("data") or ()) for one in objects}
    held |= {("Secret", space, name): keys for space, named in secrets.items() for name, keys in named.items()}
    faults = []
    for one, pod in pods(objects):
        space = one["metadata"].get("namespace")
        wanted = [("ServiceAccount", pod["serviceAccountName"], "")] if "serviceAccountName" in pod else []
        for place in walk(pod):
            for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                wanted += [(kind, place[key]["name"], place[key]["key"])] if key in place else []
            wanted += [("Secret", place["secret"]["secretName"], "")] if "secret" in place else []
            wanted += [("ConfigMap", place["configMap"]["name"], "")] if "configMap" in place else []
        for kind, name, key in wanted:
            if (kind, space, name) not in held:
                faults.append(f"{title(one)}: {kind} {name} is not there")
            elif key and key not in held[(kind, space, name)]:
                faults.append(f"{title(one)}: {kind} {name} has no key {key}")
    return faults


def closes_namespaces(objects: Objects) -> list[str]:
    """Each namespace denies what no policy allows, in both directions; the only thing that all pods may is to ask for names."""
    faults = []
    for space in (one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"):
        own = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == space]
        if not any(one["podSelector"] == {} and set(one["policyTypes"]) == {"Ingress", "Egress"} and not one.get("ingress") for one in own):
            faults.append(f"namespace {space} has no policy that denies by default")
    for one in objects:
        if one["kind"] == "NetworkPolicy":
            for rule in [*one["spec"].get("ingress", []), *one["spec"].get("egress", [])]:
                if not rule.get("from") and not rule.get("to"):
                    faults.append(f"{title(one)}: a rule that names nobody allows everybody")
    return faults


def selects_what_runs(objects: Objects) -> list[str]:
    """Selectors of services, policies, budgets and monitors meet the labels of something in their namespace."""
    labels: dict[str, list[dict[str, str]]] = {}
    for one in objects:
        for place in walk(one):
            labels.setdefault(one["metadata"].get("namespace", ""), []).append((place.get("metadata") or {}).get("labels") or {})
    faults = []
    for one in objects:
        spec = one.get("spec") or {}
        wanted = spec.get("podSelector") or spec.get("selector") or {}
        wanted = wanted.get("matchLabels", wanted)
        if one["kind"] not in ("Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor") or wanted in ({}, *MADE_BY_OTHERS):
            continue
        if not any(wanted.items() <= found.items() for found in labels[one["metadata"]["namespace"]]):
            faults.append(f"{title(one)}: nothing has the labels {wanted}")
    return faults


def alerts(objects: Objects) -> Iterator[dict[str, Any]]:
    for one in objects:
        if one["kind"] == "PrometheusRule":
            for group in one["spec"]["groups"]:
                yield from group["rules"]


def alerts_can_fire(objects: Objects, anchors: set[str], metrics: set[str]) -> list[str]:
    """Expressions parse, our own metrics are exported, and each alert leads to an entry of the runbook."""
    faults = []
    for alert in alerts(objects):
        try:
            promql_parser.parse(alert["expr"])
        except ValueError as error:
            faults.append(f"{alert['alert']}: {error}")
        faults += [
            f"{alert['alert']}: nobody exports {name}" for name in re.findall(r"\brelevance_\w+", alert["expr"]) if name not in metrics
        ]
        page, _, anchor = alert.get("annotations", {}).get("runbook_url", "").partition("#")
        if not page.endswith("/infra/README.md") or anchor not in anchors:
            faults.append(f"{alert['alert']}: runbook_url leads nowhere ({page}#{anchor})")
        if not alert.get("for") or alert.get("labels", {}).get("severity") not in ("info", "warning", "critical"):
            faults.append(f"{alert['alert']}: needs 'for' and a severity")
    return faults
