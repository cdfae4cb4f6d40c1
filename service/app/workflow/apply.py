"""The fourth stage: apply (transition 14). One transaction, and nothing in it is recomputed from what may change.

Locks in one order: the rules in force, the target, the proposal. Then every condition is looked at again: the base is
current, the rules are those of the ballot, the votes of the log still meet them, the time-lock has passed, nobody froze
the target, the log is sound, the applier may. What is written is the very content that was simulated and signed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from app import log
from app.core.documents import canonical
from app.core.documents.identifiers import Principal, ProposalId
from app.core.documents.instants import to_text
from app.core.governance.policy_set import QuorumRule
from app.core.governed.lifecycle import Kind, State
from app.core.governed.target import Tier, from_record, is_governance
from app.core.log.events import SERVICE
from app.core.quorum.tally import Tally
from app.core.signing import statement
from app.core.signing.envelope import IN_TOTO
from app.core.signing.statement import Decision, DecisionPredicate
from app.core.simulation import constitution
from app.errors import (
    AlreadyApplying,
    ApplierNotAllowed,
    DatabaseUnavailable,
    FirewallError,
    InvalidDocument,
    LogLagging,
    LogQuarantined,
    NotApproved,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    QueryTimeout,
    SigningUnavailable,
    StaleBase,
    TargetFrozen,
    TimeLocked,
    UnknownTarget,
)
from app.resilience.deadline import Deadline
from app.security.signatures import PrivateKey, verify
from app.storage import applications, governance, log_quarantine, proposals, targets
from app.storage.applications import Application
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import Documents
from app.storage.proposals import Step, StoredProposal
from app.storage.targets import Snapshot, StoredTarget
from app.workflow import quorum
from app.workflow.attempts import Attempt, Attempts, Effect, Outcome
from app.workflow.log_state import LogState
from app.workflow.quorum import Poll

ACCEPTED: Final = 202
STALE_AT_ONCE_MAX: Final = 200
"""How many open proposals the winner makes stale itself; the janitor does the rest, none of which can be applied."""
DUE_AT_ONCE_MAX: Final = 16
AUTOMATIC: Final = "auto"
BEYOND: Final = frozenset({State.APPLYING, State.APPLIED, State.ROLLED_BACK})
"""What a proposal has become that was applied once; one that failed may have failed before it was ever approved."""

_encode: Final = msgspec.json.Encoder().encode


class ApplicationShown(msgspec.Struct, frozen=True, kw_only=True):
    """An application as it is answered; `decision` is signed by the service's key."""

    proposal: ProposalId
    target: str
    version: int
    digest: str
    state: applications.ApplicationState
    attempts: int
    observed_digest: str | None
    failure: str | None
    created_at: datetime
    settled_at: datetime | None
    decision: Any


@dataclass(frozen=True, slots=True)
class By:
    """Who applies (None: nobody, the rule lets it be), and which revision they mean (None: any)."""

    principal: Principal | None
    is_applier: bool = True
    revision: int | None = None
    request: str | None = None


class Applier:
    """Applies approved proposals, for an applier or by itself."""

    def __init__(
        self,
        database: Database,
        events: Events,
        documents: Documents,
        log: LogState,
        *,
        key: PrivateKey | None,
        applied: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._attempts = Attempts(database)
        self._events = events
        self._documents = documents
        self._log = log
        self._key = key
        self._applied = applied

    async def apply(
        self,
        proposal_id: ProposalId,
        attempt: Attempt,
        *,
        revision: int | None,
        is_applier: bool,
        deadline: Deadline,
    ) -> Outcome:
        """Apply an approved proposal by hand.

        `revision`: what If-Match names; None is any. `is_applier`: who is not one breaks the glass, and nothing else.

        Raises:
            NotFound: there is no such proposal.
            PreconditionFailed: it has another revision by now.
            NotApproved, AlreadyApplying, BallotSuperseded: it is not (or no longer) to be applied.
            StaleBase, TargetFrozen, TimeLocked, ApplierNotAllowed: not on this target, not yet, not by this one.
            LogQuarantined, LogLagging, SigningUnavailable: not while the log or the key is missing.
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: as everywhere.
        """

        async def work(connection: Connection, now: datetime) -> Effect:
            del now
            by = By(attempt.principal, is_applier=is_applier, revision=revision, request=attempt.request)
            made, envelope = await self._apply(connection, proposal_id, by)
            return Effect(ACCEPTED, _encode(shown(made, envelope)), attempt.route)

        outcome = await self._attempts.once("proposal_apply", attempt, work, deadline=deadline)
        self._applied()
        return outcome

    async def get(self, proposal_id: ProposalId, *, deadline: Deadline) -> ApplicationShown:
        """Return the application of a proposal.

        Raises:
            NotFound: it was not applied.
        """

        async def work(connection: Connection) -> tuple[Application, bytes] | None:
            return await applications.get(connection, proposal_id)

        found = await self._database.read("application_get", work, deadline=deadline)
        if found is None:
            raise NotFound
        return shown(*found)

    async def due(self, *, deadline: Deadline) -> list[ProposalId]:
        """Return some proposals that their rule lets apply by themselves, and that look ready for it."""

        async def work(connection: Connection) -> list[ProposalId]:
            return await applications.due(connection, limit=DUE_AT_ONCE_MAX)

        return await self._database.read("application_due", work, deadline=deadline) if self._key else []

    async def apply_itself(self, proposal_id: ProposalId, *, deadline: Deadline) -> None:
        """Apply one whose rule needs nobody for it.

        Raises:
            as `apply`.
        """

        async def work(connection: Connection) -> None:
            await self._apply(connection, proposal_id, By(None))

        await self._database.transact("proposal_apply", work, deadline=deadline)
        self._applied()

    async def _apply(
        self,
        connection: Connection,
        proposal_id: ProposalId,
        by: By,
    ) -> tuple[Application, bytes]:
        seen = await proposals.get(connection, proposal_id)
        if seen is None:
            raise NotFound
        pins = await governance.lock_pins(connection, exclusive=is_governance(seen.target))
        held = await targets.lock(connection, seen.target)
        proposal = await proposals.lock(connection, proposal_id)
        if held is None or proposal is None:
            raise UnknownTarget
        now = await clock(connection)
        _require_ready(held, proposal, revision=by.revision, now=now)
        await log_quarantine.require_none(connection)
        self._log.require_sound(is_high=_tier(proposal) >= Tier.HIGH)
        rules = await self._documents.rules(connection, pins)
        poll = await quorum.open_poll(connection, rules, proposal)
        tally = await quorum.recount(connection, poll, now=now)
        rule = rules.policies.quorum_of(_tier(proposal))
        _require_decided(proposal, tally, rule, now=now)
        _require_may_apply(held, proposal, rule, by)
        content = _content(poll)
        _require_constitution(poll, content, now=now)
        snapshot = await targets.advance(
            connection,
            held,
            digest=canonical.digest(content),
            content=content,
            proposal=proposal.id,
            now=now,
        )
        envelope = self._decide(poll, snapshot, tally, applier=by.principal)
        decision = applications.Decision(
            proposal_id=proposal.id,
            target=held.name,
            version=snapshot.version,
            envelope=envelope,
            digest=canonical.digest(envelope),
            tally=canonical.encode_value(tally.record()),
            at=now,
        )
        made = await applications.insert(connection, decision, result_digest=snapshot.digest)
        step = Step(
            proposal_id=proposal.id,
            state_from=State.APPROVED,
            state_to=State.APPLYING,
            principal=by.principal or SERVICE,
            body={"decision": msgspec.Raw(envelope), "snapshot": _told(snapshot)},
            at=now,
            request=by.request,
        )
        await proposals.move(connection, self._events, step)
        await self._make_stale(connection, proposal, snapshot)
        await self._take_back(connection, proposal, snapshot)
        return made, envelope

    def _decide(self, poll: Poll, snapshot: Snapshot, tally: Tally, *, applier: Principal | None) -> bytes:
        """Return the signed decision, canonical.

        Raises:
            SigningUnavailable: the service has no key.
        """
        if self._key is None:
            raise SigningUnavailable
        predicate = DecisionPredicate(
            **statement.fields(poll.ballot.predicate),
            version=snapshot.version,
            result_digest=snapshot.digest,
            tally=tally.record(),
            applier=applier,
            decided_at=to_text(tally.at),
        )
        payload = statement.encode(Decision(subject=poll.ballot.subject, predicate=predicate))
        return self._key.seal(payload, IN_TOTO).encode()

    async def _make_stale(self, connection: Connection, winner: StoredProposal, snapshot: Snapshot) -> None:
        """Close the other open proposals for the target: their base is the past (transition 11)."""
        for other in await proposals.lock_open_of(
            connection, winner.target, before_version=snapshot.version, limit=STALE_AT_ONCE_MAX
        ):
            step = Step(
                proposal_id=other.id,
                state_from=other.state,
                state_to=State.STALE,
                principal=SERVICE,
                body={"winner": str(winner.id), "version": snapshot.version},
            )
            await proposals.move(connection, self._events, step)

    async def _take_back(self, connection: Connection, winner: StoredProposal, snapshot: Snapshot) -> None:
        """Note which applied proposals a rollback undoes: those after the version it restores (transition 17)."""
        if winner.kind not in {Kind.ROLLBACK, Kind.BREAK_GLASS}:
            return
        restored = msgspec.json.decode(winner.content)["restores"]["version"]
        for undone in await proposals.lock_applied_after(connection, winner.target, restored):
            step = Step(
                proposal_id=undone.id,
                state_from=State.APPLIED,
                state_to=State.ROLLED_BACK,
                principal=SERVICE,
                body={"by": str(winner.id), "version": snapshot.version},
            )
            await proposals.move(connection, self._events, step)


def shown(application: Application, envelope: bytes) -> ApplicationShown:
    """Return an application as it is answered."""
    return ApplicationShown(
        proposal=application.proposal_id,
        target=application.target,
        version=application.version,
        digest=application.digest,
        state=application.state,
        attempts=application.attempts,
        observed_digest=application.observed_digest,
        failure=application.failure,
        created_at=application.created_at,
        settled_at=application.settled_at,
        decision=msgspec.Raw(envelope),
    )


def _require_ready(held: StoredTarget, proposal: StoredProposal, *, revision: int | None, now: datetime) -> None:
    """Refuse what is not approved, or not on top of what is current."""
    if proposal.state in BEYOND or (proposal.state is State.FAILED and proposal.approved_at is not None):
        raise AlreadyApplying
    if revision is not None and revision != proposal.revision:
        raise PreconditionFailed
    if proposal.state is not State.APPROVED or proposal.expires_at <= now:
        raise NotApproved
    if (held.version, held.digest) != (proposal.base_version, proposal.base_digest):
        raise StaleBase
    if held.state == "frozen":
        raise TargetFrozen


def _require_decided(proposal: StoredProposal, tally: Tally, rule: QuorumRule, *, now: datetime) -> None:
    """Refuse without a quorum, or before the time-lock has passed."""
    if not tally.met or proposal.approved_at is None:
        raise NotApproved
    opens_at = proposal.approved_at + timedelta(seconds=rule.time_lock_seconds)
    if now < opens_at:
        raise TimeLocked(retry_after_seconds=(opens_at - now).total_seconds())


def _require_may_apply(held: StoredTarget, proposal: StoredProposal, rule: QuorumRule, by: By) -> None:
    """Refuse the proposer where the tier or its rule says so, nobody where it must be somebody, and one for two."""
    is_high = _tier(proposal) >= Tier.HIGH
    if by.principal is None and (rule.apply != AUTOMATIC or is_high):
        raise ApplierNotAllowed
    if by.principal == proposal.principal and (rule.applier_not_proposer or is_high):
        raise ApplierNotAllowed
    if not by.is_applier and proposal.kind != Kind.BREAK_GLASS:
        raise ApplierNotAllowed
    if proposal.kind == Kind.BREAK_GLASS:
        restores = msgspec.json.decode(proposal.content)["restores"]["digest"]
        flaws = constitution.check_break_glass(
            target=held.name,
            action="rollback",
            minimum_tier=max(_tier(proposal), from_record(msgspec.json.decode(held.config)).minimum_tier),
            persons=[one for one in (proposal.principal, by.principal) if one is not None],
            digest=restores,
            attested=[restores],  # It was once applied, or the proposal would not have been made.
        )
        if flaws:
            raise ApplierNotAllowed


def _require_constitution(poll: Poll, content: bytes, *, now: datetime) -> None:
    """Look once more at a change of the rules themselves, whatever was simulated and voted.

    Raises:
        InvalidDocument: it breaks the constitution.
    """
    proposal, documents = poll.proposal, poll.rules.documents
    if not is_governance(proposal.target):
        return
    flaws = constitution.check(
        proposal.target,
        documents[proposal.target],
        msgspec.json.decode(content),
        verify=verify,
        policies=documents[governance.POLICIES],
        validators=documents[governance.VALIDATORS],
        at=now,
    )
    if flaws:
        raise InvalidDocument(flaws)


def _content(poll: Poll) -> bytes:
    """Return the content that was simulated and signed, unless it is not what its digest says.

    Raises:
        NotApproved: a rollback does not give what it restores.
    """
    simulation = poll.simulation
    if simulation.after is None or canonical.digest(simulation.after) != simulation.result_digest:
        raise AssertionError("a stored result has its digest")
    signed = {one.digest.sha256 for one in poll.ballot.subject if one.name == "snapshot"}
    if signed != {simulation.result_digest.removeprefix("sha256:")}:
        raise AssertionError("the ballot is about the stored result")
    restores = msgspec.json.decode(poll.proposal.content)["restores"]
    if restores is not None and restores["digest"] != simulation.result_digest:
        raise NotApproved
    return simulation.after


def _tier(proposal: StoredProposal) -> Tier:
    if proposal.tier is None:
        raise NotApproved
    return Tier(proposal.tier)


def _told(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "target": snapshot.target,
        "version": snapshot.version,
        "digest": snapshot.digest,
        "parent_digest": snapshot.parent_digest,
        "proposal": str(snapshot.proposal),
    }


async def apply_due(applier: Applier, deadline: Deadline) -> bool:
    """Apply what its rule lets apply by itself; True if anything was. One that is refused leaves the others theirs."""
    did = False
    for proposal_id in await applier.due(deadline=deadline):
        try:
            await applier.apply_itself(proposal_id, deadline=deadline)
        except (DatabaseUnavailable, OutcomeUnknown, QueryTimeout, LogQuarantined, LogLagging):
            raise
        except FirewallError as error:
            log.get().info("automatic_apply_refused", proposal=str(proposal_id), code=error.code)
        else:
            did = True
    return did
