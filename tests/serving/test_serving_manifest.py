"""What the cluster starts is what the server understands."""

from pathlib import Path

import yaml
from starlette.routing import Route

from components.serving.config import ServingConfig
from components.serving.server import make_app, run
from components.serving.service import Service
from components.shared.cli import build_parser

MANIFEST = Path(__file__).parents[2] / "infra/serving/champion.yaml"


def test_the_champion_is_started_and_probed_as_the_server_is(runtimes):
    runtime, service, *_ = yaml.safe_load_all(MANIFEST.read_text())
    container = runtime["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "components.serving"]
    given = build_parser(run, ServingConfig, "serving").parse_args(container["args"])
    assert given.model == "/mnt/models"  # where KServe's initializer copies storageUri to
    assert (given.host, int(given.port)) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert given.name == service["metadata"]["name"]
    app = make_app(Service(runtimes["cross_encoder"], ServingConfig(name=given.name)))
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in paths
        assert asked["port"] == int(given.port)
    # Kubernetes kills after 30 s unless told otherwise
    assert ServingConfig().drain_s + ServingConfig().grace_s < 30


def test_help_names_every_setting_with_its_sentence():
    text = build_parser(run, ServingConfig, "serving").format_help()
    for name, field in ServingConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert (field.description or "")[:20] in " ".join(text.split())
    assert "\ncurl -s localhost:8080/rerank" in text
