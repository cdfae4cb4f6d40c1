"""Valkey for one stack: in memory only, behind a password. It holds rate limits and nothing else (decision 11)."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path

from compose import part, programs
from compose.postgres import write_secret


class Valkey(part.Part):
    """A Valkey server of ours."""

    name = "Valkey"

    def __init__(self, folder: Path, *, port: int, log: Path, secrets_folder: Path) -> None:
        """Write nothing yet; `folder` becomes its working folder."""
        super().__init__(log=log)
        self.port = port
        self.password_file = secrets_folder / "valkey.password"
        self._configuration = secrets_folder / "valkey.conf"
        self._folder = folder

    async def answers(self) -> bool:
        """Say whether it answers a PING."""
        # Two commands in the protocol's inline form; a client library costs 0.1 s of every start.
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.password_file.read_text()}\r\nPING\r\n".encode())
            return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
        finally:
            writer.close()

    def _command(self) -> Sequence[str | Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._configuration.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.password_file.exists():
            write_secret(self.password_file, secrets.token_urlsafe(24))
        password = self.password_file.read_text()
        # The password stands in a file of mode 0600, since arguments can be listed by anybody.
        write_secret(
            self._configuration, part.render("valkey.conf.j2", port=self.port, folder=self._folder, password=password)
        )
        return [programs.find("valkey-server"), self._configuration]
