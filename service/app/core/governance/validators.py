"""The validator set: the document of the target `governance/validators`, and who in it may vote.

`parse` is strict and structural: unknown or missing fields, entries out of order, one id, person or key standing twice,
windows that end before they begin, machines in a human's role. It does not verify proofs of possession: that is the
constitution's, before a set comes into force (`core/simulation/constitution.py`).
"""

import functools
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import instants
from app.core.governed.shapes import InstantText, Key64, Misshapen, PrincipalName, Slug, convert, plain
from app.core.signing import keys
from app.errors import Flaw, InvalidDocument

VALIDATORS_MAX: Final = 256
KEYS_MAX: Final = 16
WEIGHT_MAX: Final = 1_000
MACHINE: Final = "machine"

Role = Literal["owner", "safety", "security", "machine"]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A public key, when it may sign, and the envelope with which its holder proved to have it.

    `dict`: what follows from the fields is worked out once, for a set judges thousands of votes.
    """

    public_key: Key64
    not_before: InstantText
    not_after: InstantText | None
    possession: dict[str, Any]

    @functools.cached_property
    def raw(self) -> bytes:
        """The 32 bytes."""
        return keys.from_base64(self.public_key)

    @functools.cached_property
    def keyid(self) -> str:
        """`sha256:...` of the 32 bytes."""
        return keys.keyid(self.raw)

    def is_valid_at(self, instant: datetime) -> bool:
        """Say whether the instant is in the window; its end is outside."""
        return self.window[0] <= instant and not self.has_ended_at(instant)

    def has_ended_at(self, instant: datetime) -> bool:
        """Say whether the key will never again be valid."""
        end = self.window[1]
        return end is not None and end <= instant

    @functools.cached_property
    def window(self) -> tuple[datetime, datetime | None]:
        """When it begins and when it ends, if it does."""
        end = None if self.not_after is None else instants.from_text(self.not_after)
        return instants.from_text(self.not_before), end


class Validator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One voter: a person, or a machine that recomputes."""

    id: Slug
    principal: PrincipalName
    kind: Literal["human", "machine"]
    role: Role
    org: Slug
    weight: Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]
    keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=KEYS_MAX)]

    @property
    def is_human(self) -> bool:
        """Whether the vote is a person's."""
        return self.kind == "human"

    def has_key_at(self, instant: datetime, *, revoked: Collection[str] = ()) -> bool:
        """Say whether a key that is not revoked is valid then."""
        return any(key.is_valid_at(instant) and not (revoked and key.keyid in revoked) for key in self.keys)

    def may_still_vote(self, instant: datetime, *, revoked: Collection[str] = ()) -> bool:
        """Say whether a key that is not revoked is valid then or later."""
        return any(not key.has_ended_at(instant) and not (revoked and key.keyid in revoked) for key in self.keys)


class ValidatorSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The whole document, sorted by id. `minimum`: fewer humans than this there may never be."""

    v: Literal[1]
    validators: Annotated[tuple[Validator, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]
    minimum: Annotated[int, msgspec.Meta(ge=1, le=VALIDATORS_MAX)]

    def document(self) -> dict[str, Any]:
        """Return the document as plain JSON values."""
        return plain(self)

    def by_id(self, validator: str) -> Validator | None:
        """Return the validator of an id."""
        return next((one for one in self.validators if one.id == validator), None)

    def by_principal(self, principal: str) -> Validator | None:
        """Return the validator of a principal."""
        return next((one for one in self.validators if one.principal == principal), None)

    def by_keyid(self, keyid: str) -> tuple[Validator, Key] | None:
        """Return the key of an identity and whose it is."""
        return self._by_keyid.get(keyid)

    @functools.cached_property
    def holders(self) -> Mapping[tuple[str, str], tuple[Validator, Key]]:
        """Who holds which key, by validator and keyid."""
        return {(one.id, key.keyid): (one, key) for one in self.validators for key in one.keys}

    @functools.cached_property
    def _by_keyid(self) -> Mapping[str, tuple[Validator, Key]]:
        # The first of a keyid, as when looking from the front: a set that was parsed has each once.
        return {key.keyid: (one, key) for one in reversed(self.validators) for key in reversed(one.keys)}

    @functools.cached_property
    def edges(self) -> frozenset[datetime]:
        """Every instant at which a key begins or ends."""
        windows = (key.window for one in self.validators for key in one.keys)
        return frozenset(edge for window in windows for edge in window if edge is not None)

    def humans(self) -> tuple[Validator, ...]:
        """Return the people."""
        return self._humans

    @functools.cached_property
    def _humans(self) -> tuple[Validator, ...]:
        return tuple(one for one in self.validators if one.is_human)

    @functools.cached_property
    def orgs(self) -> frozenset[str]:
        """The organisations that people are of."""
        return frozenset(one.org for one in self._humans)

    @functools.cached_property
    def weights_of_share(self) -> dict[tuple[int, int], Mapping[str, int]]:
        """Capped weights by share, kept here by `counting.capped_weights`: one for each rule that is counted by."""
        return {}

    def eligible(
        self, *, proposer: str | None, at: datetime, revoked_keys: Collection[str] = ()
    ) -> tuple[Validator, ...]:
        """Return who may vote then on a proposal of this principal."""
        return tuple(
            one for one in self.validators if one.principal != proposer and one.has_key_at(at, revoked=revoked_keys)
        )


def parse(document: Any) -> ValidatorSet:
    """Return the validator set of a decoded document.

    Raises:
        InvalidDocument: with the flaws, each with its JSON pointer.
    """
    try:
        validator_set = convert(document, ValidatorSet)
    except Misshapen as error:
        raise InvalidDocument([error.flaw]) from None
    flaws = [*_order_flaws(validator_set), *_identity_flaws(validator_set), *_key_flaws(validator_set)]
    if flaws:
        raise InvalidDocument(flaws)
    return validator_set


def _order_flaws(validator_set: ValidatorSet) -> Iterator[Flaw]:
    ids = [one.id for one in validator_set.validators]
    if ids != sorted(ids):
        yield Flaw("/validators", "not-sorted", "validators stand sorted by id")


def _identity_flaws(validator_set: ValidatorSet) -> Iterator[Flaw]:
    ids: set[str] = set()
    principals: set[str] = set()
    for index, one in enumerate(validator_set.validators):
        if one.id in ids:
            yield Flaw(f"/validators/{index}/id", "duplicate-id", "the id stands twice")
        if one.principal in principals:
            yield Flaw(f"/validators/{index}/principal", "duplicate-principal", "one person, one entry")
        if one.is_human == (one.role == MACHINE):
            yield Flaw(f"/validators/{index}/role", "role-of-kind", "machines, and only they, have the role machine")
        ids.add(one.id)
        principals.add(one.principal)


def _key_flaws(validator_set: ValidatorSet) -> Iterator[Flaw]:
    seen: set[str] = set()
    for index, one in enumerate(validator_set.validators):
        for place, key in enumerate(one.keys):
            pointer = f"/validators/{index}/keys/{place}"
            problem = _key_problem(key)
            if problem is not None:
                yield Flaw(f"{pointer}/{problem[0]}", problem[1], problem[2])
            elif key.public_key in seen:
                yield Flaw(f"{pointer}/public_key", "duplicate-key", "one key, one holder, one window")
            seen.add(key.public_key)


def _key_problem(key: Key) -> tuple[str, str, str] | None:
    try:
        reason = keys.weakness(key.raw)
    except ValueError:
        return "public_key", "base64", "not the canonical base64 of 32 bytes"
    if reason is not None:
        return "public_key", "weak-key", f"the key is refused: {reason}"
    try:
        begin = instants.from_text(key.not_before)
    except ValueError:
        return "not_before", "invalid-value", "no such instant"
    try:
        is_window = key.not_after is None or begin < instants.from_text(key.not_after)
    except ValueError:
        return "not_after", "invalid-value", "no such instant"
    return None if is_window else ("not_after", "empty-window", "the window ends before it begins")
