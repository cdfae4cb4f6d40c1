"""Files that people hand to the client, and those it writes for them: strict JSON in, whole files or nothing out."""

import json
import os
from pathlib import Path
from typing import Any, Final

from app.client.exits import CANNOT_WRITE, Stop, bad_input
from app.core.documents import strict_json
from app.core.governance import genesis
from app.core.governance.genesis import Genesis
from app.errors import FirewallError, InvalidDocument, MalformedBody
from app.security import signatures
from app.security.signatures import KeyFileUnusable, PrivateKey

STDIN: Final = "-"


def read(path: Path) -> bytes:
    """Return what a file holds, at most `strict_json.RECORD.bytes`; `-` is standard input.

    Raises:
        Stop: it cannot be read, or is larger.
    """
    limit = strict_json.RECORD.bytes
    try:
        with path.open("rb") if str(path) != STDIN else os.fdopen(os.dup(0), "rb") as file:
            content: bytes = file.read(limit + 1)
    except OSError as error:
        raise bad_input(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise bad_input(f"{path} has more than {limit} bytes")
    return content


def read_json(path: Path) -> Any:
    """Return the value of a JSON file, read as strictly as the service reads.

    Raises:
        Stop: it cannot be read, or is not acceptable JSON; names the place.
    """
    try:
        return strict_json.decode(read(path), strict_json.RECORD).value
    except MalformedBody as error:
        flaw = error.flaws[0]
        raise bad_input(f"{path} is not acceptable JSON: {flaw.message} (at {flaw.pointer or '/'})") from None


def read_genesis(path: Path) -> Genesis:
    """Return the genesis bundle that somebody trusts.

    Raises:
        Stop: it is none, or its founders did not sign it.
    """
    try:
        found = genesis.decode(read(path))
        genesis.verify_signatures(found, verify=signatures.verify)
    except (InvalidDocument, MalformedBody) as error:
        flaw = error.flaws[0]
        raise bad_input(f"{path} is no genesis bundle: {flaw.message} (at {flaw.pointer or '/'})") from None
    except FirewallError as error:
        raise bad_input(f"{path} is not signed by its founders: {error}") from None
    return found


def read_key(path: Path) -> PrivateKey:
    """Return the private key in a file.

    Raises:
        Stop: it cannot be read, others could read it, or it holds no key.
    """
    try:
        return signatures.read_key(path)
    except (OSError, KeyFileUnusable) as error:
        raise bad_input(f"the key file {path} is not usable: {error}") from None


def write_json(path: Path, value: Any, *, replace: bool = False) -> None:
    """Write a value, for people to read: all of it or nothing. A file that is there is only replaced when asked to.

    Raises:
        Stop: it cannot be written, or something is there.
    """
    write(path, (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode(), replace=replace)


def write(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file: all of it or nothing.

    Raises:
        Stop: it cannot be written, or something is there.
    """
    if path.exists() and not replace:
        raise Stop(f"{path} is there already; nothing was written", code=CANNOT_WRITE)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Stop(f"{path} cannot be written: {error.strerror}", code=CANNOT_WRITE) from None
