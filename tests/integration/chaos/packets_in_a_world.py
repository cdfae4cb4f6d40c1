"""Run by test_faults_packets.py in a world of its own: drop packets, look, undo; print what was seen."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from chaos.faults import FaultError, PacketsDropped, from_record
from chaos.faults.packets import counted
from tests.integration.chaos import fault_stack

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


async def main(folder: Path) -> dict[str, Any]:
    async with fault_stack.running(folder) as parts:
        stack = parts.stack
        fault = PacketsDropped(ports=parts.database_ports)
        seen: dict[str, Any] = {}

        async def look(when: str) -> None:
            for name, looking in (("bites", fault.bites), ("gone", fault.is_gone)):
                observation = await looking(stack)
                seen[f"{name} {when}"] = observation.ok
                seen[f"{name} {when}, in words"] = observation.text

        await look("before")
        reader, writer = await asyncio.open_connection("127.0.0.1", fault.ports[0])

        await fault.inject(stack)
        await fault.inject(stack)
        writer.write(_SSL_REQUEST)
        seen["open connection answers while dropped"] = await _answered(reader)
        await look("while dropped")
        seen["counted"] = dict(await counted())

        again = from_record(fault.kind, fault.parameters())
        await again.undo(stack)
        await again.undo(stack)
        await look("after")
        seen["open connection answers late"] = await _answered(reader, wait_seconds=20)
        writer.close()

        await fault.inject(stack)
        await parts.toxiproxy.stop()
        seen["bites on a dead listener without rules"] = await _without_rules(fault, parts)
    return seen


async def _answered(reader: asyncio.StreamReader, *, wait_seconds: float = 0.5) -> bool:
    try:
        async with asyncio.timeout(wait_seconds):
            return await reader.read(1) in {b"S", b"N"}
    except TimeoutError:
        return False


async def _without_rules(fault: PacketsDropped, parts: fault_stack.Parts) -> bool:
    await fault.undo(parts.stack)
    try:
        return (await fault.bites(parts.stack)).ok
    except FaultError:
        return False


if __name__ == "__main__":
    json.dump(asyncio.run(main(Path(sys.argv[1]))), sys.stdout)
