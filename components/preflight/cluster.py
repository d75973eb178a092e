"""What the pipeline's account may see of its cluster. It asks for its own namespace; nodes are looked at where that is allowed."""

from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.preflight.config import Right
from components.preflight.findings import WARNING, Finding, of_right
from components.shared.errors import InputError, TemporaryError
from components.shared.launch_cluster import Cluster, as_json, main_container

OUTSIDE = "its cluster cannot be looked at; run preflight as a task, or with KUBECONFIG"
REMEDY = "this cannot be looked at"


@dataclass(frozen=True)
class Looker:
    cluster: Cluster

    @staticmethod
    def of_this_task() -> "Looker":
        """Raises InputError outside a cluster."""
        return Looker(Cluster.of_this_task(OUTSIDE, REMEDY))

    def image(self) -> str:
        return main_container(self.cluster.own_pod())["image"]

    def quotas(self) -> list[dict[str, Any]]:
        found = self.cluster.ask(lambda: client.CoreV1Api().list_namespaced_resource_quota(self.cluster.namespace))
        return as_json(found)["items"]

    def nodes(self) -> list[dict[str, Any]]:
        return as_json(self.cluster.ask(lambda: client.CoreV1Api().list_node()))["items"]

    def queue(self, name: str) -> dict[str, Any] | None:
        """Kueue's LocalQueue; None when there is none, or no Kueue."""
        call = client.CustomObjectsApi().get_namespaced_custom_object
        try:
            found: Any = self.cluster.ask(lambda: call("kueue.x-k8s.io", "v1beta2", self.cluster.namespace, "localqueues", name), (404,))
        except ApiException:
            return None
        return found

    def right(self, right: Right) -> Finding:
        """Whether this account may do something; every account may ask that about itself."""
        attributes = {"namespace": self.cluster.namespace, "verb": right.verb, "group": right.group, "resource": right.resource}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        try:
            review: Any = self.cluster.ask(lambda: client.AuthorizationV1Api().create_self_subject_access_review(body))
        except (InputError, TemporaryError) as error:
            return Finding("rights", WARNING, str(error), f"may the account {right.verb} {right.resource}?")
        return of_right(right, bool(review.status.allowed))
