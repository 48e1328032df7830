"""What the bench compares with: Tornado answering a fixed reply, as a handler and as a bare callback.

``python -m loadtests.bare handler|callback`` prints the port it listens on and serves until it is told to stop. The
reply has the size of an OSMP answer; nothing is decoded, decided or stored.
"""

import asyncio
import signal
import sys
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

REPLY: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<response><osmp_txn_id>1234567</osmp_txn_id><prv_txn>884213</prv_txn>'
    b"<sum>250.00</sum><result>0</result><comment>OK</comment></response>"
)
CONTENT_TYPE: Final = "text/xml; charset=utf-8"
#: What every good reply holds.
GOOD: Final = "<result>0</result>"


class _Handler(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(REPLY)


def _callback(request: HTTPServerRequest) -> None:
    connection = request.connection
    assert connection is not None
    headers = HTTPHeaders({"Content-Type": CONTENT_TYPE, "Content-Length": str(len(REPLY))})
    connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, REPLY)
    connection.finish()


async def serve(kind: str) -> None:
    """Serve on a free port of loopback until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    application = Application([("/.*", _Handler)], log_function=lambda handler: None)
    server = HTTPServer(application if kind == "handler" else _callback)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.stop()
    await server.close_all_connections()


def main() -> None:
    if sys.argv[1:] not in (["handler"], ["callback"]):
        sys.exit("usage: python -m loadtests.bare handler|callback")
    asyncio.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
