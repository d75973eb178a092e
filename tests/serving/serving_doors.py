"""A server in this process that is asked over loopback."""

import threading
import time
from contextlib import contextmanager

import requests
import uvicorn

from components.serving.config import ServingConfig
from components.serving.server import DrainingServer, make_app
from components.serving.service import Service


class Asked:
    """A running server."""

    def __init__(self, server: DrainingServer) -> None:
        self.server, self.service = server, server.service
        self.url = "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())

    def get(self, path):
        return requests.get(self.url + path, timeout=30)

    def post(self, path, body, **more):
        given = {"data": body} if not isinstance(body, dict) else {"json": body}
        return requests.post(self.url + path, **given, **more, timeout=30)

    def metric(self, name, **labels):
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def serving(runtime, **settings):
    service = Service(runtime, ServingConfig(port=0, **settings))
    config = uvicorn.Config(make_app(service), host="127.0.0.1", port=0, log_config=None, lifespan="off")
    server = DrainingServer(config, service)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not service.ready:
            assert thread.is_alive()
            time.sleep(0.005)
        yield Asked(server)
    finally:
        server.should_exit = True
        thread.join()
