"""Nothing listens inside the world that is not in the repository's list, and everything that must does."""

from typing import Final

from chaos.checks.findings import failed, passed, unknown
from chaos.probes.listeners import LISTENERS
from chaos.scenario import Case, Finding
from compose.listeners import listed, of

LOOKS_MIN: Final = 3


def only_known_listeners(case: Case) -> Finding:
    """Every look at the kernel's table shows known listeners only, and none is missing that is always there.

    Where the host gives no network namespace, others listen too: then only our own ports count, at any address.
    """
    looks = [row for row in case.evidence.rows(LISTENERS) if "listening" in row.data]
    if len(looks) < LOOKS_MIN:
        return unknown(f"the listeners were looked at {len(looks)} times, {LOOKS_MIN} needed")
    for row in looks:
        known = row.data["known"]
        ports = {_port(address) for address in known}
        strange = sorted(
            address
            for address in {*row.data["listening"]} - {*known}
            if row.data["isolated"] or _port(address) in ports
        )
        always = {address for address, name in known.items() if listed()[of(name)].always}
        missing = sorted(known[address] for address in always - {*row.data["listening"]})
        if strange:
            return failed(f"also listening: {', '.join(strange)}", [row])
        if missing:
            return failed(f"not listening: {', '.join(missing)}", [row])
    told = f"{len(looks[0].data['listening'])} listeners in {len(looks)} looks, all of ours in the list"
    return passed(told, [looks[0], looks[-1]])


def _port(address: str) -> str:
    return address.rpartition(":")[2]
