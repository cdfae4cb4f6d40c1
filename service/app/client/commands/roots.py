"""amgf root: init, show. Offline: founding needs no network, and should have none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from app.client import files, shown
from app.client.commands.keys import proof
from app.client.exits import Stop, bad_input
from app.client.session import Session, pass_session
from app.core.documents import instants
from app.core.governance import genesis, policy_set
from app.core.signing import envelope as dsse
from app.core.signing import keys
from app.core.simulation import constitution, shadow
from app.errors import FirewallError
from app.security import signatures
from app.security.signatures import PrivateKey

NAMES: Final = 4
BACKDATED: Final = timedelta(minutes=5)
"""The window of a founding validator's key begins a little before: clocks differ."""


@click.group("root")
def root_group() -> None:
    """Found a firewall: root, policies, validators and corpus, signed by its founders."""


@root_group.command()
@click.option("--origin", required=True, help="The log's name, for ever: firewall.example/log")
@click.option("--log-key", required=True, type=click.Path(path_type=Path), help="Key file (its public half is used).")
@click.option("--service-key", required=True, type=click.Path(path_type=Path), help="Key file (its public half).")
@click.option("--founder", "founders", required=True, multiple=True, metavar="ID=KEYFILE", help="Signs; repeat.")
@click.option("--threshold", type=click.IntRange(1, 32), help="How many founders must sign.  [default: a majority]")
@click.option(
    "--validator",
    "voters",
    multiple=True,
    metavar="ID:KIND:ROLE:ORG=KEYFILE",
    help="human or machine; owner, safety, security or machine; repeat. Principal and id are the same.",
)
@click.option("--validators", type=click.Path(path_type=Path), help="A validator set made elsewhere, as JSON.")
@click.option("--policies", type=click.Path(path_type=Path), help="A policy set as JSON.  [default: built in]")
@click.option("--corpus", type=click.Path(path_type=Path), help="A corpus as JSON.  [default: built in]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the bundle goes.")
@pass_session
def init(session: Session, /, *, out: Path, **told: Any) -> None:
    """Write a genesis bundle: the first root, signed by its founders.

    Refused is what the service would refuse: too few people, roles or signatures, a rule that nobody could meet.
    """
    signing = [_named_key(one) for one in told["founders"]]
    root = {
        "v": 1,
        "version": 1,
        "origin": told["origin"],
        "log_key": keys.to_base64(files.read_key(told["log_key"]).public_key),
        "service_key": keys.to_base64(files.read_key(told["service_key"]).public_key),
        "threshold": told["threshold"] or len(signing) // 2 + 1,
        "founders": [{"id": name, "public_key": keys.to_base64(pair.public_key)} for name, pair in signing],
        "old_keys": [],
    }
    unsigned = genesis.found(
        root=root,
        policies=files.read_json(told["policies"]) if told["policies"] else policy_set.DEFAULT.document(),
        validators=_validators(told),
        corpus=files.read_json(told["corpus"]) if told["corpus"] else msgspec.to_builtins(shadow.DEFAULT),
        created_at=datetime.now(UTC),
    )
    signed = genesis.found(
        root=unsigned.root,
        policies=unsigned.policies,
        validators=unsigned.validators,
        corpus=unsigned.corpus,
        created_at=instants.from_text(unsigned.created_at),
        signatures=[pair.seal(unsigned.payload(), dsse.GENESIS).signatures[0] for _, pair in signing],
    )
    _require_lawful(signed)
    files.write(out, signed.encode())
    session.say(f"{out}: the genesis of {shown.text(told['origin'])}, signed by {len(signing)} founders")
    session.say(f"digest  {signed.digest()}")
    session.say(f"install it once: python -m app.genesis install {out}")
    session.tell({"digest": signed.digest(), "file": str(out), "origin": told["origin"]})


@root_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def show(session: Session, file: Path) -> None:
    """Show a genesis bundle, after verifying it."""
    found = files.read_genesis(file)
    people = list(found.validators["validators"])
    session.say(f"origin      {shown.text(found.root['origin'])}\ndigest      {found.digest()}")
    for one in people:
        names = (one["id"], one["kind"], one["role"], one["org"])
        session.say("validator   " + "  ".join(shown.text(name) for name in names))
    session.tell({"digest": found.digest(), "root": found.root, "validators": [one["id"] for one in people]})


def _require_lawful(founding: genesis.Genesis) -> None:
    """Refuse here what the service would refuse at its installation."""
    try:
        genesis.verify_signatures(founding, verify=signatures.verify)
        flaws = constitution.check_genesis(founding, verify=signatures.verify)
    except FirewallError as error:
        flaws = list(error.flaws)
        if not flaws:
            raise bad_input(str(error)) from None
    if flaws:
        told = "\n".join(f"  at {shown.text(flaw.pointer or '/')}: {shown.text(flaw.message)}" for flaw in flaws)
        raise bad_input(f"this would not be a lawful founding:\n{told}")


def _validators(told: dict[str, Any]) -> Any:
    if bool(told["voters"]) == bool(told["validators"]):
        raise Stop("give either --validator (several times) or --validators FILE", code=64)
    if told["validators"]:
        return files.read_json(told["validators"])
    entries = sorted((_entry(one, told["origin"]) for one in told["voters"]), key=lambda entry: str(entry["id"]))
    humans = sum(entry["kind"] == "human" for entry in entries)
    return {"v": 1, "validators": entries, "minimum": max(1, min(humans, constitution.HUMANS_MIN))}


def _entry(text: str, origin: str) -> dict[str, Any]:
    names, pair = _named_key(text)
    parts = names.split(":")
    if len(parts) != NAMES:
        raise bad_input(f"not ID:KIND:ROLE:ORG=KEYFILE: {shown.text(text)}")
    name, kind, role, org = parts
    now = datetime.now(UTC)
    return {
        "id": name,
        "principal": name,
        "kind": kind,
        "role": role,
        "org": org,
        "weight": 1,
        "keys": [
            {
                "public_key": keys.to_base64(pair.public_key),
                "not_before": instants.to_text(now - BACKDATED),
                "not_after": None,
                "possession": proof(pair, validator=name, principal=name, origin=origin),
            }
        ],
    }


def _named_key(text: str) -> tuple[str, PrivateKey]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise bad_input(f"not NAME=KEYFILE: {shown.text(text)}")
    return name, files.read_key(Path(path))
