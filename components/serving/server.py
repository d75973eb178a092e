"""Serve a student over HTTP: KServe's Open Inference Protocol v2, `/rerank`, Prometheus metrics.

python -m components.serving --model runs/tiny/cross_encoder/model
python -m components.serving --model models:/relevance-student@champion --host 0.0.0.0 --port 8080
curl -s localhost:8080/rerank -d '{"query": "red shoes", "documents": ["blue kettle", "red running shoes"], "top_n": 1}'
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.serving import protocol
from components.serving.batching import QueueFullError, TooLateError
from components.serving.config import ServingConfig
from components.serving.protocol import RequestError
from components.serving.runtime import open_runtime
from components.serving.service import ScoreError, Service
from components.shared.report import Report
from components.shared.tracking import Tracker

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def run(config: ServingConfig, *, model: str, tracker: Tracker) -> Report:
    """Serve until SIGTERM or SIGINT.

    Args:
        model: the model folder, or `models:/name@champion` of the registry.
    """
    del tracker  # a server is no run; what it did is in its metrics
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    started = time.perf_counter()
    runtime = open_runtime(
        model,
        precision=config.precision,
        runtime=config.runtime,
        num_threads=config.num_threads,
        batch_tokens=config.batch_tokens,
        num_cached_vectors=config.num_cached_vectors,
    )
    runtime.scores(["red shoes"], ["red running shoes"])  # the first call allocates
    logger.info("serving %s (%s) after %.1f s", runtime.digest[:12], runtime.engine, time.perf_counter() - started)
    service = Service(runtime, config)
    settings = uvicorn.Config(
        make_app(service), host=config.host, port=config.port, access_log=False, log_config=None, lifespan="off",
        timeout_graceful_shutdown=config.grace_s, server_header=False,
    )  # fmt: skip
    DrainingServer(settings, service).run()
    pairs = service.metrics.registry.get_sample_value("relevance_pairs_total") or 0.0
    return Report(metrics={"pairs": pairs}, notes={"model": runtime.digest})


class DrainingServer(uvicorn.Server):
    """On SIGTERM ready turns false and requests are still answered; `drain_s` later it listens no more and ends what is in flight.

    A load balancer hears of a pod's end only after a while, and meanwhile sends requests that would be refused. A second signal, or
    SIGINT, does not wait.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.service.ready = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.ready and sig == signal.SIGTERM:
            logger.info("draining for %g s", self.service.config.drain_s)
            asyncio.get_running_loop().call_later(self.service.config.drain_s, self._stop)
        else:
            self.force_exit = self.should_exit
            self._stop()
        self.service.ready = False

    def _stop(self) -> None:
        self.should_exit = True


def make_app(service: Service) -> Starlette:
    name, limits = service.config.name, service.config
    version = service.runtime.digest[:12]

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    async def server(_: Request) -> Response:
        return JSONResponse({"name": "relevance-distillery", "version": service.runtime.spec.text_version, "extensions": []})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def model(_: Request) -> Response:
        return JSONResponse(protocol.describe(name, version, service.runtime))

    async def infer(request: Request) -> Response:
        question = protocol.parse_infer(protocol.parse_json(await _body(request, limits.max_body_bytes)), limits)
        return JSONResponse(protocol.infer_answer(question, await service.answer(question), name, version))

    async def rerank(request: Request) -> Response:
        question = protocol.parse_rerank(protocol.parse_json(await _body(request, limits.max_body_bytes)), limits)
        return JSONResponse(protocol.rerank_answer(question, await service.answer(question)))

    base = f"/v2/models/{name}"
    routes = [  # the first that fits is taken: what is asked most stands first
        Route("/rerank", _counted(rerank, service, "rerank"), methods=["POST"]),
        Route(f"{base}/infer", _counted(infer, service, "infer"), methods=["POST"]),
        Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready), Route("/metrics", metrics),
        Route(base, model), Route(f"{base}/ready", ready),
    ]  # fmt: skip
    return Starlette(routes=routes)


def _counted(endpoint: Endpoint, service: Service, route: str) -> Endpoint:
    """The endpoint with what goes wrong as an answer, timed and counted."""

    async def call(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await endpoint(request)
        except RequestError as error:
            response = _refusal(str(error), error.status)
        except QueueFullError as error:
            response = _refusal(str(error), 429, {"Retry-After": str(error.retry_after_s)})
        except TooLateError as error:
            response = _refusal(str(error), 503, {"Retry-After": "1"})
        except ScoreError as error:
            logger.error("%s: %s", route, error)
            response = _refusal(str(error), 500)
        except Exception:  # whatever it is, the client and the counters must hear of it
            logger.exception("%s failed", route)
            response = _refusal("the server failed; its log says why", 500)
        service.metrics.seconds.labels(route).observe(time.perf_counter() - started)
        service.metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    return call


def _refusal(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _body(request: Request, max_bytes: int) -> bytes:
    """Raises RequestError as soon as more than `max_bytes` are announced or have come."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise RequestError(f"a body of {announced} bytes is too large; at most {max_bytes}", 413)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise RequestError(f"the body is too large; at most {max_bytes} bytes", 413)
    except ClientDisconnect:
        raise RequestError("the client went before the end of its body") from None
    return bytes(body)
