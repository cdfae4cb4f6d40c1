"""Stands in for the service where a test is about the stack: answers everything, and what it was asked with."""

import asyncio
import json
import os
import sys
from typing import Any

import uvicorn

REPLICA = os.environ["FIREWALL_REPLICA"]  # noqa: TID251 - a stand-in has no settings of its own


async def http(scope: Any, _: Any, send: Any) -> None:
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"path": scope["path"], "headers": headers, "pid": os.getpid()}).encode()
    status = 201 if scope["method"] == "POST" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-replica", REPLICA.encode())]})
    await send({"type": "http.response.body", "body": body})


async def metrics(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b'firewall_dependency_up{dependency="database"} 1\n'})


async def main() -> None:
    if exit_code := os.environ.get("FIREWALL_STAND_IN_EXIT_CODE"):  # noqa: TID251
        sys.stderr.write(os.environ.get("FIREWALL_STAND_IN_LAST_WORDS", ""))  # noqa: TID251
        sys.exit(f"{REPLICA} was asked to end" if exit_code == "1" else int(exit_code))
    async with asyncio.TaskGroup() as servers:
        for app, port in ((http, "FIREWALL_PORT"), (metrics, "FIREWALL_METRICS_PORT")):
            config = uvicorn.Config(app, port=int(os.environ[port]), lifespan="off", log_level="warning")  # noqa: TID251
            servers.create_task(uvicorn.Server(config).serve())


if __name__ == "__main__":
    asyncio.run(main())
