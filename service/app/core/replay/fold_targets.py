"""The part of replay that is about targets and the documents that govern: made, frozen, put in force."""

from typing import Any, Final

from app.core.documents import canonical
from app.core.governance import genesis, policy_set, root, validators
from app.core.governed import target
from app.core.governed.target import RESERVED_TARGETS
from app.core.log import bodies
from app.core.log.entry import Entry
from app.core.replay.standing import (
    ACTIVE,
    CORPUS,
    FROZEN,
    POLICIES,
    ROOT,
    VALIDATORS,
    Head,
    Known,
    Unreadable,
    told,
)
from app.errors import FirewallError

FIRST: Final = 1


def founded(known: Known, entry: Entry, body: bodies.Genesis) -> None:
    """Take the genesis: the four documents that govern, at version 1."""
    known.require(not known.heads and entry.index == 0, "genesis", "there is one genesis, at index 0")
    try:
        founding = genesis.from_value(body.genesis)
    except FirewallError as error:
        raise Unreadable("genesis", f"not a genesis bundle: {told(error)}") from None
    for name in RESERVED_TARGETS:
        document = getattr(founding, name.removeprefix("governance/"))
        digest = canonical.digest(canonical.encode_value(document))
        known.heads[name] = Head(target.reserved(name).record(), FIRST, digest, document, digests={FIRST: digest})
        put_in_force(known, name, FIRST, document)


def put_in_force(known: Known, name: str, version: int, document: Any) -> None:
    """Know another version of a governing document.

    Raises:
        Unreadable: it is not one.
    """
    rules = known.rules
    rules.documents[name, version] = document
    try:
        if name == POLICIES:
            rules.policies[version] = policy_set.parse(document)
        elif name == VALIDATORS:
            rules.electorates[version] = validators.parse(document)
        elif name == CORPUS:
            rules.corpora[version] = document
        elif name == ROOT:
            follows = root.parse(document)
            flaws = root.succession(rules.roots.get(version - 1), follows)
            known.require(not flaws, "root", "; ".join(flaw.message for flaw in flaws))
            rules.roots[version] = follows
    except FirewallError as error:
        raise Unreadable("rules-malformed", f"not a document of {name}: {told(error)}") from None


def created(known: Known, entry: Entry, body: bodies.TargetCreated) -> None:
    """Take a new target with its first version."""
    try:
        config = target.from_record(body.config)
    except FirewallError as error:
        raise Unreadable("target", f"not a target's record: {told(error)}") from None
    known.require(config.name == entry.leaf.target, "target", "the configuration is another target's")
    known.require(not target.is_governance(config.name), "target", "names under governance/ are reserved")
    known.require(config.name not in known.heads, "target", "the target exists")
    digest = entry.digest(body.document)
    known.require(digest == body.digest, "snapshot-digest", "the digest is not the document's")
    known.heads[config.name] = Head(body.config, FIRST, digest, body.document, digests={FIRST: digest})


def frozen(known: Known, entry: Entry, _body: bodies.Nothing) -> None:
    """Take a freeze."""
    head = known.head(entry.leaf.target)
    known.require(head.state != FROZEN, "freeze", "the target is frozen already")
    head.state = FROZEN


def unfrozen(known: Known, entry: Entry, _body: bodies.Nothing) -> None:
    """Take the end of a freeze."""
    head = known.head(entry.leaf.target)
    known.require(head.state == FROZEN, "freeze", "the target is not frozen")
    head.state = ACTIVE


def key_revoked(known: Known, entry: Entry, body: bodies.KeyRevoked) -> None:
    """Take a key out of every count from now on."""
    known.require(entry.leaf.target == VALIDATORS, "key", "keys are revoked in governance/validators")
    holders = {
        holder[0].id for one in known.rules.electorates.values() if (holder := one.by_keyid(body.keyid)) is not None
    }
    known.require(body.validator in holders, "key", "that validator never had that key")
    known.require(body.keyid not in known.rules.revoked_keys, "key", "the key was revoked before")
    known.rules.revoked_keys[body.keyid] = entry.leaf.at


def recovered(known: Known, entry: Entry, body: bodies.Recovered) -> None:
    """Take the mark that a restore left."""
    known.require(body.to <= entry.index, "recovery", "a log goes on from an entry that it has")
