"""What every command shares: where the firewall is, whose key speaks to it, and how answers are written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from app.client import shown
from app.client.exits import USAGE, Stop
from app.client.http import Firewall, read_api_key

ADDRESS: Final = "http://127.0.0.1:8080"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """The options before the command's name."""

    address: str = ADDRESS
    key_file: Path | None = None
    as_json: bool = False
    open_firewall: Callable[[str, str | None], Firewall] = field(
        default=lambda address, key: Firewall(address, api_key=key)
    )

    def firewall(self) -> Firewall:
        """Return the service to talk to.

        Raises:
            Stop: no API key was named, or its file is not usable.
        """
        if self.key_file is None:
            raise Stop("name the file of your API key: --api-key-file FILE, or AMGF_API_KEY_FILE", code=USAGE)
        return self.open_firewall(self.address, read_api_key(self.key_file))

    def say(self, line: str) -> None:
        """Write a line for a person; nothing when JSON was asked for. The caller has escaped what strangers wrote."""
        if not self.as_json:
            click.echo(line)

    def tell(self, value: Any) -> None:
        """Write the answer as JSON, when JSON was asked for. ASCII only: nothing in it reaches a terminal raw."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, sort_keys=True))

    def progress(self, line: str) -> None:
        """Write what takes time, to standard error."""
        click.echo(shown.text(line), err=True)


pass_session = click.make_pass_decorator(Session, ensure=True)
