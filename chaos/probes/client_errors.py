"""What FM12 is seen by: each replica's count of answers and refusals, and the description of the API that it serves.

Replicas are listed anew at every look, because a release brings new ones. Written by the scenario's own probes:
``samples/client_errors.jsonl``: ``{t, replicas: {name: {answers, refused, series}}}`` and
``samples/descriptions.jsonl``: ``{t, replicas: {name: {digest, operations: {"GET /x": [200, ...]}, demands: [...]}}}``.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from chaos.probes.metrics import selected

if TYPE_CHECKING:
    from compose.stack import Stack

CLIENT_ERRORS: Final = "samples/client_errors.jsonl"
DESCRIPTIONS: Final = "samples/descriptions.jsonl"
_REQUESTS: Final = frozenset({"firewall_requests_total"})
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_LOOK_SECONDS: Final = 1.0
_HEALTH: Final = 'route_class="health"'
_REFUSED: Final = 'status_class="4xx"'
_Seen = TypeVar("_Seen")


async def look_at_counters(stack: "Stack") -> dict[str, Any]:
    """Count every replica's answers to clients, those that were refusals, and all of its series."""

    async def one(client: httpx.AsyncClient, name: str, _: str) -> dict[str, float]:
        text = (await client.get(stack.replica_metrics_address(name))).raise_for_status().text
        return counted(text)

    return {"replicas": await _of_each(stack, one)}


async def look_at_descriptions(stack: "Stack") -> dict[str, Any]:
    """Read what every replica says of its API."""

    async def one(client: httpx.AsyncClient, _: str, address: str) -> dict[str, Any]:
        return described((await client.get(f"{address}/schema/openapi.json")).raise_for_status().content)

    return {"replicas": await _of_each(stack, one)}


def counted(exposition: str) -> dict[str, float]:
    """Return the counts in one exposition."""
    answers = {name: value for name, value in selected(exposition, _REQUESTS).items() if _HEALTH not in name}
    return {
        "answers": sum(answers.values()),
        "refused": sum(value for name, value in answers.items() if _REFUSED in name),
        "series": sum(not line.startswith("#") for line in exposition.splitlines()),
    }


def described(document: bytes) -> dict[str, Any]:
    """Return what is kept of a description: the statuses of every operation, and what a proposal must have."""
    schema = json.loads(document)
    return {
        "digest": hashlib.sha256(document).hexdigest(),
        "operations": {
            f"{method.upper()} {path}": sorted(int(status) for status in operation["responses"])
            for path, item in schema["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        },
        "demands": sorted(schema["components"]["schemas"]["ProposalContent"]["required"]),
    }


async def _of_each(
    stack: "Stack", look: Callable[[httpx.AsyncClient, str, str], Awaitable[_Seen]]
) -> Mapping[str, _Seen]:
    """Look at every replica that is ready; one that goes away meanwhile is left out, an error of all of them is one."""
    ready = {name: one.address for name, one in (await stack.replicas.status()).items() if one.ready}
    async with httpx.AsyncClient(trust_env=False, timeout=_LOOK_SECONDS) as client:
        seen = await asyncio.gather(*(look(client, *one) for one in ready.items()), return_exceptions=True)
    found = {name: one for name, one in zip(ready, seen, strict=True) if not isinstance(one, BaseException)}
    if ready and not found:
        raise OSError(f"no replica answered: {', '.join(sorted({type(one).__name__ for one in seen}))}")
    return found
