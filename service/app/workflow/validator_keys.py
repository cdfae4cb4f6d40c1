"""New keys of validators, and the end of old ones.

A key comes into force only by a governance proposal; here its holder proves to hold it, and gets the entry to put into
that proposal. A key leaves at once: a revocation is an event, counts for every open vote from that instant, and needs
nobody's approval, because whoever stole the key would not wait for one.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from app import ed25519
from app.core.documents import instants
from app.core.documents.identifiers import Principal
from app.core.governance.validators import ValidatorSet
from app.core.log.events import Draft
from app.core.signing import envelope as dsse
from app.core.signing import keys, possession
from app.core.signing.possession import Possession
from app.errors import BallotSuperseded, Forbidden, NotEligible, NotFound, ProofFailed, WeakKey
from app.resilience.deadline import Deadline
from app.security.challenges import Challenges
from app.security.signatures import check_public_key
from app.storage import ballot_box, governance, proposals, proven_keys
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import VALIDATORS, Documents, Rules
from app.storage.proven_keys import ProvenKey
from app.workflow import quorum

RECOUNTED_MAX: Final = 20
"""Approvals counted again in the revocation's own transaction; the janitor has the rest, and apply counts anyway."""


class KeyChallenge(msgspec.Struct, frozen=True):
    """What the new key is to sign: DSSE over `payload` (base64) with `payload_type`."""

    challenge: str
    expires_at: datetime
    payload_type: str
    payload: str


class KeyEntry(msgspec.Struct, frozen=True):
    """An entry of `keys` in the validator set."""

    public_key: str
    not_before: str
    not_after: str | None
    possession: dict[str, Any]


class RegisteredKey(msgspec.Struct, frozen=True):
    """A key whose possession was proven; `entry` goes into a proposal to governance/validators."""

    keyid: str
    validator: str
    entry: KeyEntry


class RevokedKey(msgspec.Struct, frozen=True):
    """A key that counts no longer."""

    keyid: str
    validator: str
    revoked_at: datetime


class Electorate(msgspec.Struct, frozen=True):
    """The validator set in force, and which of its keys were revoked since."""

    version: int
    digest: str
    document: dict[str, Any]
    revoked_keys: dict[str, datetime]


class ValidatorKeys:
    """Proves, registers and revokes keys."""

    def __init__(self, database: Database, events: Events, documents: Documents, challenges: Challenges) -> None:
        self._database = database
        self._events = events
        self._documents = documents
        self._challenges = challenges

    async def electorate(self, *, deadline: Deadline) -> Electorate:
        """Return the validators in force.

        Raises:
            NotFounded, DatabaseUnavailable, QueryTimeout: they could not be read.
        """

        async def work(connection: Connection) -> Electorate:
            rules = await self._rules(connection)
            pin = rules.pins.validators
            revoked = await ballot_box.revoked_keys(connection, _keyids(rules.validators))
            return Electorate(pin.version, pin.digest, rules.documents[VALIDATORS], revoked)

        return await self._database.read("validators_get", work, deadline=deadline)

    async def challenge(
        self, validator: str, public_key: str, *, principal: Principal, deadline: Deadline
    ) -> KeyChallenge:
        """Return what a new key has to sign.

        Raises:
            WeakKey: it may not be a validator's key.
            NotEligible: the validator is somebody else.
            NotFounded, DatabaseUnavailable, QueryTimeout: the rules could not be read.
        """
        raw = _raw(public_key)

        async def work(connection: Connection) -> tuple[Rules, datetime]:
            return await self._rules(connection), await clock(connection)

        rules, now = await self._database.read("key_challenge", work, deadline=deadline)
        _require_own(rules.validators, validator, principal)
        text, ends = self._challenges.issue(validator=validator, principal=principal, public_key=raw, now=now)
        payload = Possession(
            validator=validator,
            principal=principal,
            public_key=public_key,
            origin=rules.root.origin,
            challenge=text,
        ).encode()
        return KeyChallenge(text, ends, dsse.KEY_POSSESSION, keys.to_base64(payload))

    async def register(self, validator: str, body: bytes, *, principal: Principal, deadline: Deadline) -> RegisteredKey:
        """Keep a key whose holder proves to hold it; return its entry for a proposal.

        Raises:
            MalformedBody, BadSignature: the body is no envelope.
            WeakKey, ProofFailed, NotEligible: the key or the proof is refused.
            NotFounded, DatabaseUnavailable, QueryTimeout: nothing was done.
        """
        proof = dsse.decode(body).document()
        raw = _raw(_claimed_key(proof))

        async def work(connection: Connection) -> ProvenKey:
            rules, now = await self._rules(connection), await clock(connection)
            _require_own(rules.validators, validator, principal)
            said = possession.check(
                proof,
                raw,
                validator=validator,
                principal=principal,
                origin=rules.root.origin,
                verify=ed25519.verify,
            )
            self._challenges.require(said.challenge, validator=validator, principal=principal, public_key=raw, now=now)
            new = ProvenKey(
                keyid=keys.keyid(raw),
                validator=validator,
                principal=principal,
                public_key=raw,
                possession=dsse.from_value(proof).encode(),
                proven_at=now,
            )
            if await ballot_box.revoked_keys(connection, [new.keyid]):
                raise NotEligible("revoked")
            stored = await proven_keys.insert(connection, new)
            if (stored.validator, stored.principal) != (validator, principal):
                raise ProofFailed("held-by-another")
            return stored

        stored = await self._database.transact("key_register", work, deadline=deadline)
        entry = KeyEntry(
            public_key=keys.to_base64(stored.public_key),
            not_before=instants.to_text(stored.proven_at),
            not_after=None,
            possession=msgspec.json.decode(stored.possession),
        )
        return RegisteredKey(stored.keyid, validator, entry)

    async def revoke(
        self,
        validator: str,
        keyid: str,
        *,
        reason: str,
        principal: Principal,
        is_admin: bool,
        request: str,
        deadline: Deadline,
    ) -> RevokedKey:
        """End a key of the validator set, at once; approvals that rested on it are lost (transition 9).

        Raises:
            NotFound: the validator in force has no such key.
            Forbidden: somebody else's, and not asked by an admin.
            NotFounded, DatabaseUnavailable, QueryTimeout: nothing was done.
        """

        async def work(connection: Connection) -> RevokedKey:
            pins = await governance.lock_pins(connection, exclusive=True)
            rules = await self._documents.rules(connection, pins)
            found = rules.validators.by_keyid(keyid)
            if found is None or found[0].id != validator:
                raise NotFound
            if found[0].principal != principal and not is_admin:
                raise Forbidden
            earlier = await ballot_box.revoked_keys(connection, [keyid])
            if keyid in earlier:
                return RevokedKey(keyid, validator, earlier[keyid])
            draft = Draft(
                kind="key-revoked",
                principal=principal,
                body={"validator": validator, "keyid": keyid, "reason": reason},
                target=VALIDATORS,
                request=request,
            )
            event = await self._events.append(connection, draft)
            await ballot_box.revoke_key(
                connection, keyid=keyid, validator=validator, principal=principal, reason=reason, at=event.at
            )
            await self._count_again(connection, rules, keyid)
            return RevokedKey(keyid, validator, event.at)

        return await self._database.transact("key_revoke", work, deadline=deadline)

    async def _count_again(self, connection: Connection, rules: Rules, keyid: str) -> None:
        for proposal_id in await ballot_box.approved_with_key(connection, keyid, limit=RECOUNTED_MAX):
            proposal = await proposals.lock(connection, proposal_id)
            if proposal is None:
                continue
            try:
                poll = await quorum.open_poll(connection, rules, proposal)
            except BallotSuperseded:
                continue  # The janitor reopens it.
            tally = await quorum.recount(connection, poll, now=await clock(connection))
            await quorum.decide(connection, self._events, proposal, tally)

    async def _rules(self, connection: Connection) -> Rules:
        return await self._documents.rules(connection, await governance.read_pins(connection))


def _raw(public_key: str) -> bytes:
    try:
        raw = keys.from_base64(public_key)
    except ValueError:
        raise WeakKey("not-base64") from None
    check_public_key(raw)
    return raw


def _claimed_key(proof: dict[str, Any]) -> str:
    """Return the key that a proof claims to be for; `possession.check` finds out whether it is."""
    try:
        claimed = msgspec.json.decode(dsse.from_value(proof).peek(), type=Possession)
    except msgspec.MsgspecError:
        raise ProofFailed("not-canonical") from None
    return claimed.public_key


def _require_own(validators: ValidatorSet, validator: str, principal: Principal) -> None:
    """Refuse somebody else's entry; one that is not there yet may become anybody's who has none."""
    by_id, by_principal = validators.by_id(validator), validators.by_principal(principal)
    if by_id is not by_principal:
        raise NotEligible("other-principal")


def _keyids(validators: ValidatorSet) -> list[str]:
    return [key.keyid for one in validators.validators for key in one.keys]
