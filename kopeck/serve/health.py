"""The side port of every process: ``GET /health`` for balancers and supervisors, ``GET /metrics`` for Prometheus.

Rules. /health answers 200 while the process can do its work and 503 while it cannot (starting, database away,
draining), with the parts as JSON. It costs nothing: the process knows its state, nobody is asked. The port is for
machines of the operator's own network; it listens on loopback unless settings say otherwise.

Does not know: what the parts mean.
"""

import json
from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

#: Parts of a process and whether each works.
Parts = Mapping[str, bool]


class _Health(RequestHandler):
    def initialize(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts

    def get(self) -> None:
        parts = dict(self._parts())
        healthy = all(parts.values())
        self.set_status(200 if healthy else 503)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"healthy": healthy, "parts": parts}) + "\n")


class _Metrics(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


def serve_health(host: str, port: int, parts: Callable[[], Parts]) -> HTTPServer:
    """Listen for health and metrics questions. Inside the process's event loop; the caller stops the server.

    Raises:
        OSError: the address cannot be listened on.
    """
    application = Application(
        [("/health", _Health, {"parts": parts}), ("/metrics", _Metrics)],
        log_function=lambda handler: None,
    )
    server = HTTPServer(application, max_body_size=0, idle_connection_timeout=60)
    server.listen(port, host)
    return server
