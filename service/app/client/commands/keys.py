"""amgf key: new, show, prove."""

from pathlib import Path
from typing import Any

import click

from app.client import files
from app.client.exits import CANNOT_WRITE, Stop
from app.client.session import Session, pass_session
from app.core.signing import envelope as dsse
from app.core.signing import keys
from app.core.signing.possession import Possession
from app.security import signatures
from app.security.signatures import PrivateKey


@click.group("key")
def key_group() -> None:
    """Make and show signing keys. A key file is one line, mode 0600; what is in it can sign in your name."""


@key_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def new(session: Session, file: Path) -> None:
    """Make a new Ed25519 key and write it to FILE, which must not exist."""
    made = signatures.generate()
    try:
        signatures.write_key(file, made)
    except FileExistsError:
        raise Stop(f"{file} is there already; nothing was written", code=CANNOT_WRITE) from None
    except OSError as error:
        raise Stop(f"{file} cannot be written: {error.strerror}", code=CANNOT_WRITE) from None
    _tell(session, made)


@key_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def show(session: Session, file: Path) -> None:
    """Show the public half of a key."""
    _tell(session, files.read_key(file))


@key_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--validator", required=True, help="The validator's id.")
@click.option("--principal", required=True, help="Whose API key sends the votes.")
@click.option("--origin", required=True, help="The log's name: a proof is good for one log only.")
@click.option("--challenge", default="genesis", show_default=True, help="What the service asked to be signed.")
@pass_session
def prove(session: Session, file: Path, *, validator: str, principal: str, origin: str, challenge: str) -> None:
    """Prove that you have a key: print the envelope that goes into the validator set."""
    pair = files.read_key(file)
    session.as_json = True
    session.tell(proof(pair, validator=validator, principal=principal, origin=origin, challenge=challenge))


def proof(
    pair: PrivateKey, *, validator: str, principal: str, origin: str, challenge: str = "genesis"
) -> dict[str, Any]:
    """Return the envelope that proves possession."""
    said = Possession(
        validator=validator,
        principal=principal,
        public_key=keys.to_base64(pair.public_key),
        origin=origin,
        challenge=challenge,
    )
    return pair.seal(said.encode(), dsse.KEY_POSSESSION).document()


def _tell(session: Session, pair: PrivateKey) -> None:
    public_key = keys.to_base64(pair.public_key)
    session.say(f"keyid       {pair.keyid}\npublic key  {public_key}")
    session.tell({"keyid": pair.keyid, "public_key": public_key})
