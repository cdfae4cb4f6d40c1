"""Packets dropped for real, by nftables, in the network namespace of the world and nowhere else. FM01, FM09.

The ports are those between a replica and its Toxiproxy listener (15430 + slot for the database), so that the
service's own sockets see the silence. Never those between Toxiproxy and the database: Toxiproxy dials inside its
accept loop, and the drop would then stop its control API as well.

Packets are dropped where they arrive (hook ``input``), in both directions: the sender learns nothing, as on a
wire. Dropped where they leave, the sender's kernel would see its own packet refused.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from chaos.faults.base import FaultFailed, FaultRefused, InvalidFault, Recorded, look, within
from chaos.faults.vantage import Address, Reached, ask_all, require_dependency
from chaos.scenario import Observation
from compose import marks, programs

if TYPE_CHECKING:
    from compose.stack import Stack

TABLE = "amgf_faults"
DEADLINE_SECONDS = 10.0
NFT_DEADLINE_SECONDS = 5.0
_CHAIN = "dropped"
_ROUTES = Path("/proc/self/net/route")
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class PacketsDropped(Recorded):
    """All packets from and to ``ports`` of the loopback are dropped, of open connections as well."""

    kind: ClassVar[str] = "packets_dropped"
    needs: ClassVar[frozenset[str]] = frozenset({"packet_filter"})

    ports: tuple[int, ...]
    dependency: str = "database"  # what answers there when nothing is dropped

    def __post_init__(self) -> None:
        require_dependency(self.dependency)
        if not self.ports or len(set(self.ports)) != len(self.ports):
            raise InvalidFault("ports must name at least one port, each once")
        if wrong := [port for port in self.ports if not 1 <= port <= _PORT_MAX]:
            raise InvalidFault(f"not a port: {', '.join(map(str, wrong))}")

    async def inject(self, stack: "Stack") -> None:
        """Put our table in place of whatever table of ours is there, in one transaction."""
        del stack
        async with within(DEADLINE_SECONDS, "packets_dropped: inject"):
            require_own_namespace()
            await _nft("-f", "-", script=self.ruleset())

    async def bites(self, stack: "Stack") -> Observation:
        """Our own connection to each port gets no answer at all, and the rules counted its packets."""
        del stack

        async def dropped() -> Observation:
            before = await counted()
            replies = await ask_all(self.dependency, self._addresses())
            after = await counted()
            grew = sum(after.values()) - sum(before.values())
            silent = all(reply.reached is Reached.UNREACHABLE for reply in replies.values())
            said = "; ".join(f"{address}: {reply}" for address, reply in sorted(replies.items()))
            return Observation(ok=silent and grew >= len(self.ports), text=f"{said}; {grew} more packets dropped")

        return await look("packets_dropped: bites", DEADLINE_SECONDS, dropped)

    async def undo(self, stack: "Stack") -> None:
        """Remove our table, whether it is there or not."""
        del stack
        async with within(DEADLINE_SECONDS, "packets_dropped: undo"):
            require_own_namespace()
            await _nft("-f", "-", script=_WITHOUT_TABLE)
            if await _table_is_there():
                raise FaultFailed(f"nftables table {TABLE} is still there after its removal")

    async def is_gone(self, stack: "Stack") -> Observation:
        """Our table is absent and the dependency answers at each port."""
        del stack

        async def passes() -> Observation:
            there = await _table_is_there()
            replies = await ask_all(self.dependency, self._addresses())
            answered = all(reply.reached is Reached.ANSWERED for reply in replies.values())
            said = "; ".join(f"{address}: {reply}" for address, reply in sorted(replies.items()))
            return Observation(
                ok=answered and not there, text=f"{said}; table {TABLE} is {'there' if there else 'absent'}"
            )

        return await look("packets_dropped: is_gone", DEADLINE_SECONDS, passes)

    def ruleset(self) -> str:
        """Return the nftables script that drops, with a counter for each direction."""
        ports = ", ".join(map(str, self.ports))
        return (
            f"{_WITHOUT_TABLE}"
            f"table inet {TABLE} {{\n"
            f"chain {_CHAIN} {{\n"
            f"type filter hook input priority -10; policy accept;\n"
            f"tcp dport {{ {ports} }} counter drop\n"
            f"tcp sport {{ {ports} }} counter drop\n"
            f"}}\n}}\n"
        )

    def _addresses(self) -> list[Address]:
        return [Address(host="127.0.0.1", port=port) for port in self.ports]


# Adding first makes the removal succeed when there is nothing to remove.
_WITHOUT_TABLE = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"


def require_own_namespace() -> None:
    """Raise ``FaultRefused`` unless this process is known to be in a network namespace made for a world.

    Two witnesses, and both must agree: the mark that the world puts on its processes, and a routing table that
    leads nowhere, as no host that anybody could miss has it.
    """
    mark = marks.here()
    if mark is None or not mark.has_network:
        raise FaultRefused("this process is in no world with a network of its own: no packet filter is touched")
    try:
        routes = _ROUTES.read_text().splitlines()[1:]  # the first line is the heading; loopback has no line
    except OSError as error:
        raise FaultRefused(f"the routes of this network namespace cannot be read: {error}") from error
    if routes:
        raise FaultRefused("this network namespace has a route outside, so it is no world's: nothing is touched")


async def counted() -> Mapping[str, int]:
    """Return how many packets our rules dropped, by direction (``dport``, ``sport``); empty without our table."""
    if not await _table_is_there():
        return {}
    listed = json.loads(await _nft("-j", "list", "table", "inet", TABLE))
    rules = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
    return {_direction(rule): _packets(rule) for rule in rules}


async def _table_is_there() -> bool:
    listed = json.loads(await _nft("-j", "list", "tables"))
    return any(entry.get("table", {}).get("name") == TABLE for entry in listed["nftables"])


def _direction(rule: list[dict[str, Any]]) -> str:
    return next(str(part["match"]["left"]["payload"]["field"]) for part in rule if "match" in part)


def _packets(rule: list[dict[str, Any]]) -> int:
    return next(int(part["counter"]["packets"]) for part in rule if "counter" in part)


async def _nft(*arguments: str, script: str | None = None) -> bytes:
    """Run nft and return what it printed.

    Raises:
        FaultFailed: it is missing or said no.
        FaultTimedOut: it did not end in time; it is killed.
    """
    try:
        program = programs.find("nft")
    except programs.MissingProgram as missing:
        raise FaultFailed(str(missing)) from missing
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with within(NFT_DEADLINE_SECONDS, f"nft {' '.join(arguments)}"):
            printed, complaint = await process.communicate(script.encode() if script else None)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise FaultFailed(f"nft {' '.join(arguments)}: {' '.join(complaint.decode(errors='replace').split())[:200]}")
    return printed
