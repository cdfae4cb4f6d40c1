"""A part of the stack that is one program: started, stopped and looked at the same way, whatever it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Final, final

import httpx
import jinja2

from compose import processes
from compose.processes import PartFailed, Process

START_SECONDS: Final = 15.0
_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "config"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - configuration files, no markup
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


class Part(ABC):
    """One program of the stack."""

    name: str
    deadline_seconds: float = START_SECONDS

    def __init__(self, *, log: Path) -> None:
        self.log = log
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; `None` when it does not run."""
        return self._process.pid if self._process and self._process.exit_code is None else None

    @final
    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            PartFailed: it runs already, ended, or did not answer in time.
        """
        if self.pid is not None:
            raise PartFailed(self.name, f"runs already (pid {self.pid})")
        self._process = processes.launch(self.name, self._command(), log=self.log, environment=self._environment())
        await processes.ready(self._process, self.answers, deadline_seconds=self.deadline_seconds)
        await self._set_up()

    @final
    async def stop(self, *, deadline_seconds: float = processes.STOP_SECONDS) -> None:
        """End it, by force when the deadline passes; one that does not run is left alone."""
        if self._process is not None:
            await self._process.stop(deadline_seconds=deadline_seconds)

    async def restart(self) -> None:
        """End it, by force if it must be, and start it again with the same configuration."""
        await self.stop(deadline_seconds=2.0)
        await self.start()

    @abstractmethod
    async def answers(self) -> bool:
        """Say whether it does its work."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the program and its arguments; write its configuration first."""

    def _environment(self) -> Mapping[str, str]:
        return processes.plain_environment()

    async def _set_up(self) -> None:  # noqa: B027 - most parts have nothing left to do
        """Do what is left once it answers."""


def client(address: str, *, timeout_seconds: float = 2.0) -> httpx.AsyncClient:
    """Return an HTTP client for a part on this host: no proxies, no redirects, and a deadline on everything."""
    # The empty context keeps httpx from loading a certificate store for each client; nothing here speaks TLS.
    return httpx.AsyncClient(
        base_url=address, timeout=timeout_seconds, trust_env=False, verify=SSLContext(PROTOCOL_TLS_CLIENT)
    )


async def answers_ok(url: str) -> bool:
    """Say whether a GET there is answered with 200."""
    try:
        async with client("") as http:
            return (await http.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def render(template: str, **values: object) -> str:
    """Fill one of the templates in `compose/config`."""
    return _templates.get_template(template).render(**values)
