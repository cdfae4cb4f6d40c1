"""What a person at the console has: the variables that runbooks refer to, and a switch for the database server.

The switch is what a service manager would offer, since here nothing else could start the server again.

``python -m compose.operator SOCKET start|stop|status``: one word to the process that holds the stack, its answer on
standard output, exit code 0 when it was done.
"""

import asyncio
import contextlib
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from compose.postgres_template import DATABASE
from compose.processes import PartFailed
from compose.settings import REPOSITORY
from compose.stack import Stack

WORD_BYTES_MAX: Final = 64
ANSWER_SECONDS_MAX: Final = 60.0


@contextlib.asynccontextmanager
async def serving(stack: Stack) -> AsyncIterator[Mapping[str, str]]:
    """Offer the switch while the context lasts; yield the variables of ``runbooks/_template.md``."""
    path = stack.spec.folder / "operator.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                word = (await reader.read(WORD_BYTES_MAX)).decode(errors="replace").strip()
                writer.write((await _done(stack, word)).encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    path.chmod(0o600)
    async with server:
        yield environment(stack, path)


def environment(stack: Stack, switch: Path) -> dict[str, str]:
    """Return every variable a runbook may refer to. No secret is among them, only where secrets are."""
    replicas, ports = stack.replica_names(), stack.ports
    command = [sys.executable, "-m", "compose.operator", str(switch), "start"]
    issue = [sys.executable, "-m", "compose.issuer", str(stack.secrets_folder / "keys" / "tokens.key")]
    return {
        "AMGF_PYTHON": sys.executable,
        "AMGF_ADDRESS": stack.address,
        "AMGF_REPLICAS": " ".join(replicas),
        "AMGF_REPLICA_ADDRESSES": " ".join(stack.replica_address(name) for name in replicas),
        "AMGF_REPLICA_METRICS_ADDRESSES": " ".join(
            stack.replica_metrics_address(name).removesuffix("/metrics") for name in replicas
        ),
        "AMGF_CONTROL": stack.replicas.address,
        "AMGF_PROMETHEUS": f"http://127.0.0.1:{ports.prometheus}",
        "AMGF_ALERTMANAGER": f"http://127.0.0.1:{ports.alertmanager}",
        "AMGF_DATABASE_HOST": "127.0.0.1",
        "AMGF_DATABASE_PORT": str(ports.database),
        "AMGF_DATABASE_NAME": DATABASE,
        "AMGF_DATABASE_PROXY_PORTS": " ".join(map(str, ports.database_proxies[: len(replicas)])),
        "AMGF_DATABASE_START": f"cd {shlex.quote(str(REPOSITORY))} && {shlex.join(command)}",
        "AMGF_MONITOR_PASSFILE": str(stack.secrets_folder / "pgpass"),
        "AMGF_SECRETS": str(stack.secrets_folder),
        "AMGF_POSTGRES_BIN": str(stack.postgres.binaries),
        "AMGF_API_KEY_FILES": " ".join(map(str, stack.api_key_files())),
        "AMGF_TOKEN_KEYS": str(stack.token_keys_file),
        "AMGF_TOKEN_ISSUE": f"cd {shlex.quote(str(REPOSITORY))} && {shlex.join(issue)}",
        "AMGF_REPLICA_LOGS": " ".join(str(stack.spec.logs / f"{name}.log") for name in replicas),
        "AMGF_TOXIPROXY": stack.toxiproxy.address,
    }


async def _done(stack: Stack, word: str) -> str:
    try:
        if word == "start":
            if await stack.postgres.is_accepting():
                return "ok: the database was running\n"
            await stack.postgres.start()
            return "ok: the database was started\n"
        if word == "stop":
            await stack.postgres.stop("fast")
            return "ok: the database was stopped\n"
        if word == "status":
            return "ok: accepting\n" if await stack.postgres.is_accepting() else "ok: not accepting\n"
    except PartFailed as failed:
        return f"failed: {failed}\n"
    return f"failed: {word!r} is not start, stop or status\n"


async def _ask(socket: Path, word: str) -> int:
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(word.encode() + b"\n")
            await writer.drain()
            said = (await reader.read()).decode()
            writer.close()
    except (OSError, TimeoutError) as problem:
        sys.stderr.write(f"no stack answers at {socket}: {problem}\n")
        return 1
    sys.stdout.write(said)
    return 0 if said.startswith("ok") else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004 - the socket and the word
        sys.exit("usage: python -m compose.operator SOCKET start|stop|status")
    sys.exit(asyncio.run(_ask(Path(sys.argv[1]), sys.argv[2])))
