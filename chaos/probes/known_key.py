"""Asks every replica, past the front, with a good key for what its role may not do: 403 shows that the key is known.

While the database is away no other request tells: whatever a role may do needs the database, and gets 503 in any case.

Writes ``samples/known_key.jsonl``: ``{t, answers: {replica: status}}``.
"""

from typing import TYPE_CHECKING, Any

import httpx

from compose.founding import VIEWER

if TYPE_CHECKING:
    from compose.stack import Stack

KNOWN_KEY = "known_key"
SAMPLES = f"samples/{KNOWN_KEY}.jsonl"
_TARGET = "/api/v1/targets"
_DEADLINE_SECONDS = 0.9


async def look_with_a_known_key(stack: "Stack") -> dict[str, Any]:
    """Return what each replica answers."""
    if stack.gate is None:
        raise ValueError("this stack has no principals of its own")
    headers = {"X-API-Key": stack.gate.api_keys[VIEWER]}
    answers = {}
    async with httpx.AsyncClient(trust_env=False, timeout=_DEADLINE_SECONDS) as client:
        for name in stack.replica_names():
            answer = await client.post(f"{stack.replica_address(name)}{_TARGET}", json={}, headers=headers)
            answers[name] = answer.status_code
    return {"answers": answers}
