"""The rules: policies, validators and their keys, root (firewall.md section 4). They change by proposals only."""

import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter

from app.api import dependencies, facts
from app.api.operations import JSON, SMALL_BODY_BYTES_MAX, WRITE_PROBLEMS, problems, tagged, with_body
from app.api.proposals import HttpLimits
from app.core.documents.strict_json import NUMBER_MAX
from app.core.governance.policy_set import DEFAULT, PolicySet
from app.core.signing.envelope import Envelope
from app.errors import NotFound
from app.storage.governance import POLICIES, ROOT
from app.workflow import bodies
from app.workflow.rulebook import CheckedPolicies, GovernanceDocument, Rulebook
from app.workflow.validator_keys import Electorate, KeyChallenge, RegisteredKey, RevokedKey, ValidatorKeys

SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
KEYID: Final = re.compile(r"sha256:[0-9a-f]{64}")
NOT_MODIFIED: Final = ResponseSpec(None, description="It is what If-None-Match says.", generate_examples=False)
DOCUMENT: Final = ResponseSpec(GovernanceDocument, description="With its document.", generate_examples=False)
PROOF_EXAMPLE: Final = {
    "payload": "eyJfdHlwZSI6ImFtZ2Yva2V5LXBvc3Nlc3Npb24ifQ==",
    "payloadType": "application/vnd.amgf.key-possession+json",
    "signatures": [
        {
            "keyid": "sha256:04bda51a47de9a463619d921d1e332446b29d25a444a5e3913ea5927f9dfdb1a",
            "sig": f"{'A' * 86}==",
        }
    ],
}

ValidatorPath = Annotated[str, PathParameter(description="The validator's id.", max_length=64)]
KeyPath = Annotated[str, PathParameter(description="`sha256:` and 64 hex digits.", max_length=71)]
VersionPath = Annotated[int, PathParameter(ge=1, le=NUMBER_MAX, description="The version's number, from 1.")]

_encode: Final = msgspec.json.Encoder().encode


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that a validator wants to use."""

    public_key: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{43}=$", description="32 bytes in base64.")]


class KeyRevocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a key must not count any longer; the reason stands in the public log."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


BODIES: Final = (PolicySet, NewKey, KeyRevocation, Envelope)


class PoliciesController(Controller):
    """The policy set: what a change must satisfy, and who must agree."""

    path = "/api/v1/policies"
    tags = ("governance",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/",
        summary="Read the policies in force",
        responses={200: DOCUMENT, 304: NOT_MODIFIED, **problems()},
        roles={"viewer"},
    )
    async def current(self, request: Request[Any, Any, Any], rulebook: NamedDependency[Rulebook]) -> Response[bytes]:
        """Answer the policy set in force."""
        found = await rulebook.document(POLICIES, None, deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(found), found.digest)

    @get(
        "/{version:int}",
        summary="Read one version of the policies",
        responses={200: DOCUMENT, 304: NOT_MODIFIED, **problems(s404="There was never such a version.")},
        roles={"viewer"},
    )
    async def show(
        self, request: Request[Any, Any, Any], rulebook: NamedDependency[Rulebook], version: VersionPath
    ) -> Response[bytes]:
        """Answer a policy set that is or was in force."""
        found = await rulebook.document(POLICIES, version, deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(found), found.digest)

    @post(
        "/check",
        summary="Check a policy set",
        operation_class=with_body("PolicySet", DEFAULT.document()),
        status_code=200,
        responses={
            200: ResponseSpec(CheckedPolicies, description="It would do.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s422="It is no policy set, an expression does not compile (with rule, line and column), or the "
                "constitution does not allow it.",
            ),
        },
        roles={"editor", "validator"},
    )
    async def check(
        self, request: Request[Any, Any, Any], rulebook: NamedDependency[Rulebook], limits: NamedDependency[HttpLimits]
    ) -> Response[bytes]:
        """Answer whether it would do; nothing is stored, and only a proposal can bring it into force."""
        body = await dependencies.body_of(request, bytes_max=limits.body_bytes_max)
        checked = await rulebook.check(body, deadline=facts.of(request.scope).deadline)
        return Response(_encode(checked), media_type=JSON)


class RootController(Controller):
    """The root of trust."""

    path = "/api/v1/root"
    tags = ("governance",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get("/", summary="Read the root", responses={200: DOCUMENT, 304: NOT_MODIFIED, **problems()}, roles={"viewer"})
    async def current(self, request: Request[Any, Any, Any], rulebook: NamedDependency[Rulebook]) -> Response[bytes]:
        """Answer the root in force: the log's name, the keys of log and service. A verifier pins it and never asks."""
        found = await rulebook.document(ROOT, None, deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(found), found.digest)


class ValidatorsController(Controller):
    """Who votes, and with which keys."""

    path = "/api/v1/validators"
    tags = ("governance",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/",
        summary="Read the validators in force",
        responses={200: ResponseSpec(Electorate, description="The set.", generate_examples=False), **problems()},
        roles={"viewer"},
    )
    async def index(
        self, request: Request[Any, Any, Any], validator_keys: NamedDependency[ValidatorKeys]
    ) -> Response[bytes]:
        """Answer the validator set and which of its keys were revoked since it came into force."""
        found = await validator_keys.electorate(deadline=facts.of(request.scope).deadline)
        return Response(_encode(found), media_type=JSON)

    @post(
        "/{validator:str}/key-challenges",
        summary="Ask for a challenge",
        operation_class=with_body("NewKey", {"public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}),
        status_code=200,
        responses={
            200: ResponseSpec(KeyChallenge, description="What the new key is to sign.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s403="The validator is somebody else.",
                s404="No validator can have that id.",
                s422="The key is refused.",
            ),
        },
        roles={"validator"},
    )
    async def challenge(
        self,
        request: Request[Any, Any, Any],
        validator_keys: NamedDependency[ValidatorKeys],
        validator: ValidatorPath,
    ) -> Response[bytes]:
        """Answer a payload to sign with the new key within ten minutes; nothing is stored."""
        named = _matching(SLUG, validator)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        new = bodies.body_as(NewKey, body)
        found = await validator_keys.challenge(
            named,
            new.public_key,
            principal=dependencies.identity_of(request).principal,
            deadline=facts.of(request.scope).deadline,
        )
        return Response(_encode(found), media_type=JSON)

    @post(
        "/{validator:str}/keys",
        summary="Prove possession of a key",
        operation_class=with_body("Envelope", PROOF_EXAMPLE),
        responses={
            201: ResponseSpec(RegisteredKey, description="Proven, not yet in force.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s403="The validator is somebody else, or the key was revoked.",
                s404="No validator can have that id.",
                s422="The key is refused, or the proof does not hold.",
            ),
        },
        roles={"validator"},
    )
    async def register(
        self,
        request: Request[Any, Any, Any],
        validator_keys: NamedDependency[ValidatorKeys],
        validator: ValidatorPath,
    ) -> Response[bytes]:
        """Answer the entry to put into a proposal for governance/validators; only that brings the key into force."""
        named = _matching(SLUG, validator)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        made = await validator_keys.register(
            named,
            body,
            principal=dependencies.identity_of(request).principal,
            deadline=facts.of(request.scope).deadline,
        )
        return Response(_encode(made), status_code=201, media_type=JSON)

    @post(
        "/{validator:str}/keys/{keyid:str}/revocation",
        summary="Revoke a key",
        operation_class=with_body("KeyRevocation", {"reason": "the laptop was stolen"}),
        responses={
            201: ResponseSpec(RevokedKey, description="From this instant it counts nowhere.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s403="Not the role, or somebody else's key.",
                s404="The validators in force have no such key.",
                s422="The body gives no reason.",
            ),
        },
        roles={"validator", "admin"},
    )
    async def revoke(
        self,
        request: Request[Any, Any, Any],
        validator_keys: NamedDependency[ValidatorKeys],
        validator: ValidatorPath,
        keyid: KeyPath,
    ) -> Response[bytes]:
        """Answer when it stopped counting: also in votes that are open. By its holder, or by an admin."""
        named, key = _matching(SLUG, validator), _matching(KEYID, keyid)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        identity, known = dependencies.identity_of(request), facts.of(request.scope)
        done = await validator_keys.revoke(
            named,
            key,
            reason=bodies.body_as(KeyRevocation, body).reason,
            principal=identity.principal,
            is_admin="admin" in identity.roles,
            request=known.request_id,
            deadline=known.deadline,
        )
        return Response(_encode(done), status_code=201, media_type=JSON)


def _matching(pattern: re.Pattern[str], segment: str) -> str:
    """Return a segment of the path that names something of ours.

    Raises:
        NotFound: nothing can have that name.
    """
    if not pattern.fullmatch(segment):
        raise NotFound
    return segment
