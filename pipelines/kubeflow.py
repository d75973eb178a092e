"""The door to a Kubeflow server: kfp's own client, one attempt per request, one line when it fails.

The host comes from the command line or `KFP_HOST`. A token comes from `KFP_TOKEN` or from what kfp itself reads
(`KF_PIPELINES_SA_TOKEN_PATH` in a cluster, `KF_PIPELINES_IAP_OAUTH2_CLIENT_ID` before Google's proxy), never from an argument.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import kfp  # no dearer than `kfp.dsl`, which the compiler needs anyway: that loads kfp's client as well
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiException, V2beta1Pipeline, V2beta1Run
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from components.shared.errors import InputError, TemporaryError

HOST_VARIABLE = "KFP_HOST"
TOKEN_VARIABLE = "KFP_TOKEN"
TIMEOUT_S = (10.0, 120.0)  # to connect, to answer; kfp sets none and would wait for ever
PAGE_SIZE = 100
TOO_MANY = 429
ENDED_BADLY = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")
REMEDIES = {
    401: f"sign in: put a valid token into ${TOKEN_VARIABLE}",
    403: f"use a token (${TOKEN_VARIABLE}) and a --namespace that may do this",
    404: "check --host, --namespace and --experiment; `status --host` lists the runs that there are",
    409: "somebody made the same thing in this moment; look at it, then run the command again",
}


class _Client(kfp.Client):
    """kfp's client, less what a command line cannot have."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """One attempt; kfp's own makes five, sleeps in between and logs a traceback for each."""
        del sleep_duration
        self.limit_time()
        return self.answer_of_healthz()[0]

    def answer_of_healthz(self) -> Any:
        """(answer, status, headers)."""
        return self._healthz_api.healthz_service_get_healthz_with_http_info()

    def limit_time(self) -> None:
        """kfp passes `timeout=None` with every request, so this is the only place where a limit can stand."""
        rest: Any = self._healthz_api.api_client.rest_client
        plain = type(rest).request

        def request(method: str, url: str, **given: Any) -> Any:
            return plain(rest, method, url, **(given | {"_request_timeout": TIMEOUT_S}))

        rest.request = request

    def create_pipeline(self, name: str, description: str, namespace: str) -> Any:
        """A pipeline without a version; `upload_pipeline` would make a first version that carries no revision."""
        body = V2beta1Pipeline(name=name, display_name=name, description=description, namespace=namespace or None)
        return self._pipelines_api.pipeline_service_create_pipeline(pipeline=body)


class Kubeflow:
    """A server that answered, and the few things that we ask of it."""

    def __init__(self, host: str, namespace: str = "") -> None:
        """Connect.

        Raises:
            InputError: when host or token are wrong.
            TemporaryError: when the server is away or in trouble.
        """
        self.host = check_host(host)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries are no news for a person
        self.client = self.ask("connect", lambda: _connected(self.host, namespace))
        self.namespace = namespace or self.client.get_user_namespace()

    def ask(self, wanted: str, call: Callable[[], Any]) -> Any:
        """The answer of a client call, without what kfp prints meanwhile.

        Raises:
            InputError: for answers 4xx and what kfp refuses itself.
            TemporaryError: where nobody answers, and for answers 429 and 5xx.
        """
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return call()
        except ApiException as error:
            raise _translated(error, f"{self.host}: cannot {wanted}") from None
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(reason, SSLError):
                raise InputError(
                    f"{self.host}: its certificate is refused ({reason}); name the file of its authority in $SSL_CERT_FILE"
                ) from None
            raise TemporaryError(
                f"{self.host}: cannot {wanted}, nobody answers ({type(reason).__name__}); check --host, or try later"
            ) from None
        except ValueError as error:
            raise InputError(f"{self.host}: cannot {wanted}: {' '.join(str(error).split())}") from None

    def pages(self, wanted: str, call: Callable[..., Any], key: str, **given: Any) -> Iterator[Any]:
        """All entries of a list, page after page."""
        token = ""
        while True:
            page = self.ask(wanted, lambda at=token: call(page_token=at, page_size=PAGE_SIZE, **given))
            yield from getattr(page, key) or []
            token = page.next_page_token or ""
            if not token:
                return

    def pipeline_id(self, name: str) -> str:
        """Id of a pipeline; empty when there is none."""
        given = {"namespace": self.namespace or None, "filter": named(name)}
        found = self.pages("list pipelines", self.client.list_pipelines, "pipelines", **given)
        return next((one.pipeline_id for one in found if one.display_name == name), "")

    def experiment_id(self, name: str) -> str:
        """Id of an experiment, which is made when it is not there."""
        return self.ask(f"open experiment '{name}'", lambda: self.client.create_experiment(name, namespace=self.namespace)).experiment_id

    def find_experiment(self, name: str) -> str:
        """Id of an experiment; empty when there is none."""
        given = {"namespace": self.namespace, "filter": named(name)}
        found = self.pages("list experiments", self.client.list_experiments, "experiments", **given)
        return next((one.experiment_id for one in found if one.display_name == name), "")

    def runs(self, experiment_id: str) -> Iterator[V2beta1Run]:
        """All runs of an experiment, newest first."""
        return self.pages("list runs", self.client.list_runs, "runs", experiment_id=experiment_id, sort_by="created_at desc")

    def url(self, run_id: str) -> str:
        """Where a person sees a run."""
        return f"{os.environ.get('KF_PIPELINES_UI_ENDPOINT', self.host).rstrip('/')}/#/runs/details/{run_id}"


def check_host(host: str) -> str:
    """The address of the server's API, from `host` or the environment; asks nobody.

    Raises:
        InputError: when there is none, it is no http(s) address, or it holds a password.
    """
    given = (host or os.environ.get(HOST_VARIABLE, "")).rstrip("/")
    if not given:
        raise InputError(f"no Kubeflow is named; give --host https://HOST/pipeline or set {HOST_VARIABLE}")
    parts = urlsplit(given)
    if "@" in parts.netloc:
        raise InputError(f"the host holds a user or password; put a token into ${TOKEN_VARIABLE} instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"host '{given}' is not an address; write http://HOST:PORT or https://HOST/pipeline")
    return given


def named(name: str) -> str:
    """kfp's filter for a display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def version_of(run: Any) -> tuple[str, str]:
    """(pipeline id, version id) of a run or a recurring run; empty where it was made from a file."""
    reference = run.pipeline_version_reference
    return (reference.pipeline_id or "", reference.pipeline_version_id or "") if reference else ("", "")


def arguments_of(run: Any) -> dict[str, Any]:
    """What a run or a recurring run was given."""
    return dict((run.runtime_config and run.runtime_config.parameters) or {})


def _connected(host: str, namespace: str) -> _Client:
    in_cluster = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    client = _Client(
        host,
        namespace=namespace or "kubeflow",  # kfp's word for "not given"
        existing_token=os.environ.get(TOKEN_VARIABLE) or None,
        credentials=ServiceAccountTokenVolumeCredentials() if in_cluster else None,
        ssl_ca_cert=os.environ.get("SSL_CERT_FILE") or None,
    )
    client.limit_time()
    kind = client.answer_of_healthz()[2].get("Content-Type", "nothing")
    if "json" not in kind:
        raise InputError(f"it answers with {kind}, not as Kubeflow Pipelines; give its API's address, or sign in (${TOKEN_VARIABLE})")
    return client


def _translated(error: ApiException, what: str) -> InputError | TemporaryError:
    status = int(error.status or 0)
    said = " ".join(_message(error).split())[:300]
    if status == TOO_MANY or status >= 500:
        return TemporaryError(f"{what}, it answers {status} ({said}); try later")
    return InputError(f"{what}, it answers {status or 'what kfp cannot read'} ({said}); {REMEDIES.get(status, 'check what was given')}")


def _message(error: ApiException) -> str:
    """What the server says: `message` of its JSON body, else the status line."""
    try:
        body = json.loads(error.body or "")
    except ValueError:
        return str(error.reason)
    return str((body.get("message") or body.get("error")) if isinstance(body, dict) else body)
