"""infra/ as a cluster would get it: rendered by kustomize, checked against schemas and rules; each rule finds its planted fault."""

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import manifest_rules as rules
import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from pipelines import placement

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
RENDERED = ("base", "overlays/dev", "overlays/production")
kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is not installed")
terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


@lru_cache
def _rendered(folder: str) -> str:
    done = subprocess.run(["kubectl", "kustomize", str(INFRA / folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects_of(folder: str) -> rules.Objects:
    return [one for one in yaml.safe_load_all(_rendered(folder)) if one]


def anchors_of(text: str) -> set[str]:
    """What GitHub makes of each heading."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exported() -> set[str]:
    return set(re.findall(r'^    "(relevance_\w+)":', (INFRA / "base/mlflow/exporter.py").read_text(encoding="utf-8"), flags=re.MULTILINE))


@lru_cache
def installed_secrets() -> dict[str, dict[str, set[str]]]:
    """What create_secrets.sh makes, with a kubectl that only writes down what it is asked to create."""
    made: dict[str, dict[str, set[str]]] = {}
    for line in _create_secrets("")[1]:
        space, name, *keys = line.split()
        made.setdefault(space, {})[name] = set(keys)
    return made


def _create_secrets(standing: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        fake = Path(place) / "kubectl"
        fake.write_text(
            f"""#!/usr/bin/env bash
            case "$*" in
            *"get namespace"*) exit 0 ;;
            *"get secret"*) [[ " {standing} " == *" $2/$5 "* ]] ;;
            *"create secret generic"*) echo "$2 $6" $(sed 's/=.*//' /dev/stdin) >> {place}/made; echo "$*" >> {place}/arguments ;;
            *) exit 9 ;;
            esac
            """
        )
        fake.chmod(0o755)
        environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", str(INFRA / "create_secrets.sh")], capture_output=True, text=True, env=environment, check=False)
        made = Path(place) / "made"
        return done, made.read_text().splitlines() if made.exists() else []


CHECKS: dict[str, Callable[[rules.Objects], list[str]]] = {
    "schema": rules.fits_schema,
    "bounded": rules.is_bounded,
    "closed": rules.is_closed,
    "pinned": rules.is_pinned,
    "probed": rules.is_probed,
    "no secret": rules.holds_no_secret,
    "rights": rules.grants_no_wildcard,
    "references": lambda objects: rules.refers_to_what_exists(objects, installed_secrets()),
    "network": rules.closes_namespaces,
    "selectors": rules.selects_what_runs,
    "alerts": lambda objects: rules.alerts_can_fire(objects, anchors_of((INFRA / "README.md").read_text(encoding="utf-8")), exported()),
}


@kubectl
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("folder", RENDERED)
def test_rendered_manifests_obey(folder: str, check: str) -> None:
    assert CHECKS[check](objects_of(folder)) == []


def pick(objects: rules.Objects, kind: str, name: str = "") -> dict[str, Any]:
    return next(one for one in objects if one["kind"] == kind and name in ("", one["metadata"]["name"]))


def container(objects: rules.Objects, kind: str = "Deployment", name: str = "mlflow") -> dict[str, Any]:
    return next(rules.pods([pick(objects, kind, name)]))[1]["containers"][0]


def pod(objects: rules.Objects, kind: str = "Deployment", name: str = "mlflow") -> dict[str, Any]:
    return next(rules.pods([pick(objects, kind, name)]))[1]


def rule_of(objects: rules.Objects) -> dict[str, Any]:
    return pick(objects, "Role")["rules"][0]


def policy(objects: rules.Objects, name: str) -> dict[str, Any]:
    return pick(objects, "NetworkPolicy", name)["spec"]


def alert(objects: rules.Objects) -> dict[str, Any]:
    return next(rules.alerts(objects))


# (check that must find it, what is done to the objects of overlays/production, a part of the message)
FAULTS: list[tuple[str, Callable[[rules.Objects], Any], str]] = [
    ("schema", lambda o: pick(o, "Deployment")["spec"].update(replica=1), "replica"),
    ("schema", lambda o: container(o).update(ports=[{"containerPort": "http"}]), "http"),
    ("schema", lambda o: pick(o, "TrainingRuntime")["spec"]["mlPolicy"].update(nodes=2), "Trainer does not know"),
    ("schema", lambda o: pick(o, "ClusterQueue")["spec"].update(cohort="all"), "spec.cohort is unknown"),
    ("schema", lambda o: pick(o, "InferenceService")["spec"].pop("predictor"), "spec.predictor is absent"),
    ("schema", lambda o: pick(o, "LocalQueue").update(apiVersion="kueue.x-k8s.io/v1beta1"), "is not kueue.x-k8s.io/v1beta2"),
    ("schema", lambda o: pick(o, "ServingRuntime")["spec"]["containers"][0].update(limits={}), "limits"),
    ("schema", lambda o: o.append({"apiVersion": "x.io/v1", "kind": "Surprise", "metadata": {"name": "x"}}), "nobody has said"),
    ("bounded", lambda o: container(o)["resources"]["limits"].pop("memory"), "no limits.memory"),
    ("bounded", lambda o: container(o, "TrainingRuntime", "").pop("resources"), "no requests.cpu"),
    ("closed", lambda o: pod(o)["securityContext"].update(runAsUser=0), "runs as root"),
    ("closed", lambda o: pod(o)["securityContext"].pop("runAsNonRoot"), "runs as root"),
    ("closed", lambda o: pod(o)["securityContext"].pop("seccompProfile"), "seccomp"),
    ("closed", lambda o: container(o, "CronJob", "")["securityContext"].pop("allowPrivilegeEscalation"), "privileges may grow"),
    ("closed", lambda o: container(o)["securityContext"].update(privileged=True), "privileges may grow"),
    ("closed", lambda o: container(o)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), "keeps capabilities"),
    ("closed", lambda o: pod(o).update(hostNetwork=True), "shares the host"),
    ("closed", lambda o: pod(o)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "mounts the host"),
    ("pinned", lambda o: container(o).update(image="mlflow:latest"), "mlflow:latest has no digest"),
    ("pinned", lambda o: pod(o, "CronJob", "")["initContainers"][0].update(image="postgres"), "postgres has no digest"),
    ("probed", lambda o: container(o).pop("livenessProbe"), "no livenessProbe"),
    ("no secret", lambda o: o.append({"kind": "Secret", "metadata": {"name": "x"}}), "a secret in the repository"),
    ("no secret", lambda o: container(o)["env"].append({"name": "MLFLOW_TRACKING_PASSWORD", "value": "hunter2"}), "has a value"),
    ("no secret", lambda o: container(o)["env"][0].update(value="postgresql://mlflow:hunter2@db/mlflow"), "credentials in"),
    ("no secret", lambda o: container(o)["args"].append("--password=hunter2"), "credentials in"),
    ("rights", lambda o: rule_of(o).update(verbs=["*"]), "wildcard"),
    ("rights", lambda o: rule_of(o).update(resources=["*"]), "wildcard"),
    ("rights", lambda o: rule_of(o).update(apiGroups=[""], resources=["secrets"], verbs=["get"]), "every secret"),
    ("rights", lambda o: rule_of(o).update(resources=["pods/exec"]), "a way to more rights"),
    ("rights", lambda o: pick(o, "Role").update(kind="ClusterRole"), "cluster-wide"),
    ("rights", lambda o: pick(o, "RoleBinding")["subjects"][0].update(name="default"), "which is not there"),
    ("references", lambda o: pod(o).update(serviceAccountName="nobody"), "ServiceAccount nobody"),
    ("references", lambda o: container(o)["env"][1]["valueFrom"]["secretKeyRef"].update(key="pass"), "no key pass"),
    ("references", lambda o: pod(o)["volumes"][0]["configMap"].update(name="auth"), "ConfigMap auth is not there"),
    ("network", lambda o: o.remove(pick(o, "NetworkPolicy", "default-deny")), "no policy that denies"),
    ("network", lambda o: policy(o, "default-deny").update(ingress=[{}]), "no policy that denies"),
    ("network", lambda o: policy(o, "mlflow")["ingress"][0].pop("from"), "allows everybody"),
    ("selectors", lambda o: pick(o, "Service", "mlflow")["spec"].update(selector={"app": "mlflow"}), "nothing has the labels"),
    ("selectors", lambda o: policy(o, "postgres").update(podSelector={"matchLabels": {"app": "pg"}}), "nothing has the labels"),
    ("alerts", lambda o: alert(o).update(expr="time() - (relevance_mlflow_up"), "RelevanceNightlyLate"),
    ("alerts", lambda o: alert(o).update(expr="relevance_invented > 1"), "nobody exports relevance_invented"),
    ("alerts", lambda o: alert(o)["annotations"].update(runbook_url="https://x/infra/README.md#none"), "leads nowhere"),
    ("alerts", lambda o: alert(o)["annotations"].pop("runbook_url"), "leads nowhere"),
    ("alerts", lambda o: alert(o).pop("for"), "needs 'for'"),
]


@kubectl
@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[f"{check}-{message}" for check, _, message in FAULTS])
def test_a_planted_fault_is_found(number: int) -> None:
    check, plant, message = FAULTS[number]
    objects = copy.deepcopy(objects_of("overlays/production"))
    plant(objects)
    assert any(message in fault for fault in CHECKS[check](objects))


def test_every_check_has_a_planted_fault() -> None:
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


@kubectl
def test_tasks_find_the_names_that_placement_gives_them() -> None:
    task_map = pick(objects_of("base"), "ConfigMap", placement.MLFLOW_CONFIG_MAP)
    secrets = installed_secrets()["relevance"]
    assert task_map["metadata"]["namespace"] == "relevance"
    assert list(task_map["data"]) == ["tracking_uri"]
    assert secrets == {placement.MLFLOW_SECRET: {"username", "password"}, placement.CLIENT_SALT_SECRET: {"salt"}}
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    for name, keys in {placement.MLFLOW_CONFIG_MAP: {"tracking_uri"}, **secrets}.items():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"| `{name}` |" in line)
        assert keys <= set(re.findall(r"`(\w+)`", row)), name


@kubectl
def test_the_address_in_the_config_map_is_a_service_that_lets_tasks_in_by_that_name() -> None:
    objects = objects_of("base")
    address = pick(objects, "ConfigMap", "mlflow")["data"]["tracking_uri"]
    name, space, port = re.fullmatch(r"http://([\w-]+)\.([\w-]+)\.svc:(\d+)", address).groups()  # type: ignore[union-attr]
    service = pick(objects, "Service", name)
    assert (service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]) == (space, int(port))
    hosts = next(one for one in container(objects)["args"] if one.startswith("--allowed-hosts=")).partition("=")[2].split(",")
    assert {f"{name}.{space}.svc", f"{name}.{space}.svc:*"} <= set(hosts)
    assert policy(objects, "tasks")["egress"][0]["ports"] == [{"protocol": "TCP", "port": int(port)}]
    assert pick(objects, "Namespace", "relevance")["metadata"]["labels"]["relevance/mlflow-client"] == "true"


@kubectl
@pytest.mark.parametrize("folder", RENDERED)
def test_the_teacher_fits_the_queue_and_the_nodes(folder: str) -> None:
    objects = objects_of(folder)
    queue, flavor = pick(objects, "ClusterQueue")["spec"], pick(objects, "ResourceFlavor")
    assert pick(objects, "LocalQueue")["spec"]["clusterQueue"] == pick(objects, "ClusterQueue")["metadata"]["name"]
    assert queue["resourceGroups"][0]["flavors"][0]["name"] == flavor["metadata"]["name"]
    quota = {one["name"]: one["nominalQuota"] for one in queue["resourceGroups"][0]["flavors"][0]["resources"]}
    assert list(quota) == queue["resourceGroups"][0]["coveredResources"]
    (of_every_container,) = (one["defaultRequest"] for one in pick(objects, "LimitRange")["spec"]["limits"])
    asked = container(objects, "TrainingRuntime", "")["resources"]["requests"]
    for what, amount in {**of_every_container, **asked}.items():  # Kueue never admits what asks for a resource that it does not cover
        assert parse_quantity(amount) <= parse_quantity(quota[what]), what
    pool = (INFRA / "terraform/gpu_pool.tf").read_text(encoding="utf-8")
    for key, value in flavor["spec"]["nodeLabels"].items():
        assert f'"{key}" = "{value}"' in pool
    taint = flavor["spec"]["nodeTaints"][0]
    assert re.search(rf'taint {{\s+key\s+= "{taint["key"]}"\s+value\s+= "{taint["value"]}"\s+effect = "NO_SCHEDULE"', pool)


@kubectl
@pytest.mark.parametrize("folder", ["base", "overlays/production"])
def test_the_runtime_is_as_large_as_the_place_of_the_teacher(folder: str) -> None:
    asked = container(objects_of(folder), "TrainingRuntime", "")["resources"]["requests"]
    wanted = placement.PLACES["train-teacher"]
    assert (asked["cpu"], asked["memory"], asked["nvidia.com/gpu"]) == (wanted.cpu, wanted.memory, str(wanted.gpus))
    shm = pod(objects_of(folder), "TrainingRuntime", "")["volumes"][0]["emptyDir"]
    assert shm == {"medium": "Memory", "sizeLimit": wanted.shared_memory}
    mounts = container(objects_of(folder), "TrainingRuntime", "")["volumeMounts"]
    assert placement.SCRATCH in [one["mountPath"] for one in mounts]  # TMPDIR is copied from the task


@kubectl
def test_every_account_has_the_identity_that_terraform_makes() -> None:
    text = (INFRA / "terraform/identities.tf").read_text(encoding="utf-8")
    made = {(space, f"relevance-{name}") for name, space in re.findall(r'(\w+)\s+= \{ namespace = "([\w-]+)"', text)}
    accounts = [one["metadata"] for one in objects_of("overlays/production") if one["kind"] == "ServiceAccount"]
    bound = {(one["namespace"], one["name"]) for one in accounts if "annotations" in one}
    assert bound == made
    for one in accounts:
        if "annotations" in one:
            assert one["annotations"]["iam.gke.io/gcp-service-account"].split("@")[0] == one["name"]


def test_secrets_that_stand_are_never_changed() -> None:
    both = "relevance/mlflow-credentials relevance-mlflow/mlflow-credentials"
    done, made = _create_secrets(f"relevance/log-client-salt relevance-mlflow/mlflow-postgres {both}")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in made] == [["relevance-mlflow", "mlflow-server"], ["relevance-mlflow", "mlflow-exporter"]]
    done, _ = _create_secrets("relevance/mlflow-credentials")
    assert done.returncode == 2
    assert "only one of relevance and relevance-mlflow" in done.stderr


@terraform
def test_terraform_is_formatted(tmp_path: Path) -> None:
    assert _format_check(INFRA / "terraform") == (0, "")
    (tmp_path / "bad.tf").write_text('variable   "x" {\ntype=string\n}\n')
    assert _format_check(tmp_path)[0] == 3


def _format_check(folder: Path) -> tuple[int, str]:
    done = subprocess.run(["terraform", f"-chdir={folder}", "fmt", "-check", "-recursive"], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_every_variable_and_output_of_terraform_is_explained() -> None:
    for name in ("variables.tf", "outputs.tf"):
        text = (INFRA / "terraform" / name).read_text(encoding="utf-8")
        blocks = re.split(r"^(?:variable|output) ", text, flags=re.MULTILINE)[1:]
        assert [block.split('"')[1] for block in blocks if not re.search(r'^  description = ".{20,}"$', block, flags=re.MULTILINE)] == []
    example = (INFRA / "terraform/example/main.tf").read_text(encoding="utf-8")
    variables = (INFRA / "terraform/variables.tf").read_text(encoding="utf-8")
    needed = {block.split('"')[1] for block in re.split(r"^variable ", variables, flags=re.MULTILINE)[1:] if "default" not in block}
    module = example.partition('module "relevance" {')[2].partition("}")[0]
    assert needed == set(re.findall(r"^  (\w+)\s+=", module, flags=re.MULTILINE)) - {"source"}


def test_what_expires_in_the_bucket_is_never_a_student() -> None:
    text = (INFRA / "terraform/variables.tf").read_text(encoding="utf-8").partition('variable "expiring_sections"')[2]
    expiring = set(re.findall(r'"(\w+)"', text.partition("validation")[0].partition("default")[2]))
    assert {"logs", "scoring", "failures"} <= expiring
    assert expiring & {"bi_encoder", "cross_encoder", "student_encoder", "promotion", "evaluation"} == set()


def test_each_of_the_twenty_pains_has_an_entry_with_commands_that_exist() -> None:
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    entries = re.split(r"^### ", page.partition("## Runbook")[2], flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if not all(f"- **{part}**" in entry for part in ("See", "Look", "Do", "Resume"))] == []
    assert [int(entry.split(".")[0]) for entry in entries if entry[0].isdigit()] == list(range(1, 21))
    for link in re.findall(r"\]\(#([\w-]+)\)", page):
        assert link in anchors_of(page)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page)) <= targets
    done = subprocess.run([sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
    for command in set(re.findall(r"python -m pipelines ([a-z]+)", page)):
        assert re.search(rf"^    {command} ", done.stdout, flags=re.MULTILINE), command
