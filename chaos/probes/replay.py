"""Folds the log from genesis with the service's own offline command: other processes, other hash seeds, no database.

The entries are exported from the copy of the database into ``replay/entries.jsonl``; beside them lies the genesis
bundle (public keys and documents). Writes ``replay.jsonl``: ``{t, hash_seed, exit_code, answer, seconds}``, one
line a run, or ``{t, error}``.
"""

import asyncio
import base64
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from chaos.evidence import Evidence, EvidenceWriter
from chaos.probes.sampler import describe
from chaos.record import DATABASE, Record, binary, columns
from compose import processes

REPLAY: Final = "replay.jsonl"
FOLDER: Final = "replay"
HASH_SEEDS: Final = ("1", "4242")
DEADLINE_SECONDS: Final = 60.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024


async def replay(writer: EvidenceWriter, *, service_path: Path, genesis: Path, read: Evidence | None = None) -> None:
    """Replay the log that ``database.jsonl`` holds, once a hash seed; what goes wrong becomes a row."""
    folder = writer.folder / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(genesis, folder / "genesis.json")
        export(read or Evidence(writer.folder), folder / "entries.jsonl")
        rows = await asyncio.gather(*(_run(service_path, folder, seed) for seed in HASH_SEEDS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        rows = [{"error": describe(error)}]
    for row in rows:
        writer.append(REPLAY, row)


def export(evidence: Evidence, path: Path) -> int:
    """Write the log's entries, in order, and the checkpoints as the command reads them; return how many entries."""
    from_database = Record(evidence.rows(DATABASE))
    entries = [event for event in from_database.events if event.index is not None]
    with path.open("w", encoding="utf-8") as out:
        for event in entries:
            line = {"index": event.index, "leaf": _base64(event.leaf), "body": _base64(event.body)}
            out.write(json.dumps(line) + "\n")
        for row in from_database.checkpoints[-1:]:
            out.write(json.dumps({"checkpoint": binary(columns(row)["note"]).decode()}) + "\n")
    return len(entries)


async def _run(service_path: Path, folder: Path, hash_seed: str) -> dict[str, Any]:
    began = time.monotonic()
    command = ["-m", "app.client", "--json", "log", "replay", "entries.jsonl", "--trust", "genesis.json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=folder,
        env=processes.plain_environment(PYTHONPATH=str(service_path), PYTHONHASHSEED=hash_seed),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_ANSWER_BYTES_MAX,
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, problems = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"hash_seed": hash_seed, "error": "timeout"}
    row = {"hash_seed": hash_seed, "exit_code": process.returncode, "seconds": round(time.monotonic() - began, 3)}
    try:
        return {**row, "answer": json.loads(output)}
    except ValueError:
        return {**row, "answer": None, "said": problems[-500:].decode(errors="replace")}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
