"""Looks for secrets where none may be: in what the parts wrote, answered and exported, and in their command lines.

Every key, password and pepper of a stack is a canary, made for that stack alone; so is a word in the body of each
proposal (``MARKER``), which may stand in the database's documents and nowhere else. What was found is written by name,
place and spelling, never the secret: ``canaries.jsonl``: ``{t, place, bytes, found: [{name, spelling, at}]}``, first of
all a control: a text that holds every canary in every spelling, in which all must be found.
"""

import asyncio
import base64
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from chaos.evidence import EvidenceWriter
from chaos.history import MARKER
from chaos.probes.sampler import describe
from chaos.probes.targets import Targets
from chaos.verifier.leaks import Leaks, spellings

CANARIES: Final = "canaries.jsonl"
CONTROL: Final = "control"
METRICS_SECONDS: Final = 5.0
# Documents are what a database is for; of everything else in it only digests are told (firewall.md section 5).
_DOCUMENTS: Final = frozenset({"database.jsonl", "replay/entries.jsonl", "replay/genesis.json"})
_OURS: Final = frozenset({CANARIES})


async def look_at_the_living(secrets: Mapping[str, bytes], targets: Targets, writer: EvidenceWriter) -> None:
    """Look at what goes away with the stack: every process's command line, and every replica's metrics."""
    leaks = Leaks({**secrets, "a proposal's body": MARKER.encode()})
    control = b"\n".join(pattern for secret in secrets.values() for _, pattern in spellings(secret[:8]))
    found = {leak.name for leak in Leaks(secrets).find_all(control)}
    writer.append(CANARIES, {"place": CONTROL, "bytes": len(control), "canaries": len(secrets), "seen": len(found)})
    _tell(writer, "command lines", b"\0".join(_command_lines()), leaks)
    for replica in targets.replicas:
        try:
            async with httpx.AsyncClient(timeout=METRICS_SECONDS, trust_env=False) as http:
                exposition = (await http.get(replica.metrics)).content
        except httpx.HTTPError as error:
            writer.append(CANARIES, {"place": f"metrics of {replica.name}", "error": describe(error)})
        else:
            _tell(writer, f"metrics of {replica.name}", exposition, leaks)


async def look_at_the_evidence(secrets: Mapping[str, bytes], writer: EvidenceWriter) -> None:
    """Look at every file of the folder: logs, answers that were errors, samples, the copy of the database."""
    bodies = Leaks({**secrets, "a proposal's body": MARKER.encode()})
    keys = Leaks(secrets)
    for path in sorted(one for one in writer.folder.rglob("*") if one.is_file()):
        place = path.relative_to(writer.folder).as_posix()
        if place in _OURS:
            continue
        text = await asyncio.to_thread(path.read_bytes)
        await asyncio.to_thread(_tell, writer, place, text, keys if place in _DOCUMENTS else bodies)


def secrets_in(
    folder: Path, *, named: Iterable[str] = ("*.password", "api_key_pepper", "api-key-*", "keys/*.key")
) -> dict[str, bytes]:
    """Return the secrets in a folder by the name of their file; of an API key what follows its public part."""
    found = {}
    for pattern in named:
        for path in folder.glob(pattern):
            secret = path.read_bytes().strip()
            found[path.name] = secret.rpartition(b"_")[2] if path.name.startswith("api-key-") else secret
            if path.suffix == ".key":
                with contextlib.suppress(ValueError):  # a key that is text and not Base64
                    found[f"{path.name}, decoded"] = base64.b64decode(secret, validate=True)
    return found


def _tell(writer: EvidenceWriter, place: str, text: bytes, leaks: Leaks) -> None:
    found: list[dict[str, Any]] = [
        {"name": leak.name, "spelling": leak.spelling, "at": leak.at} for leak in leaks.find(text)
    ]
    writer.append(CANARIES, {"place": place, "bytes": len(text), "found": found})


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue  # it has ended
