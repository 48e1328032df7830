"""The side port of a process."""

import asyncio
import json

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from kopeck.serve.health import serve_health


def test_health_is_503_until_every_part_works_and_names_the_parts() -> None:
    parts = {"started": True, "database": False}

    async def scene() -> tuple[int, dict, int, bytes]:
        server = serve_health("127.0.0.1", 0, lambda: parts)
        port = next(iter(server._sockets.values())).getsockname()[1]
        client = AsyncHTTPClient()
        try:
            sick = await client.fetch(f"http://127.0.0.1:{port}/health", raise_error=False)
            parts["database"] = True
            well = await client.fetch(f"http://127.0.0.1:{port}/health")
            metrics = await client.fetch(f"http://127.0.0.1:{port}/metrics")
        finally:
            server.stop()
            await server.close_all_connections()
        return sick.code, json.loads(sick.body), well.code, metrics.body

    sick, said, well, metrics = asyncio.run(scene())
    assert (sick, well) == (503, 200)
    assert said == {"healthy": False, "parts": {"started": True, "database": False}}
    assert b"python_info" in metrics


def test_the_side_port_takes_no_bodies() -> None:
    async def scene() -> int:
        server = serve_health("127.0.0.1", 0, dict)
        port = next(iter(server._sockets.values())).getsockname()[1]
        try:
            await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/health", method="POST", body="x" * 100)
        except HTTPClientError as error:
            return error.code
        finally:
            server.stop()
            await server.close_all_connections()
        return 200

    assert asyncio.run(scene()) >= 400
