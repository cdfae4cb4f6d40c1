"""Every error of the service, one tree. A class is something a caller does differently.

    FirewallError                     code                     status
    ├── InvalidRequest                (given)                  400
    │   └── InvalidCursor             invalid-cursor           400
    ├── MalformedBody                 malformed-body           400
    ├── ClientLeft                    client-left              400   nobody reads the answer
    ├── Unauthenticated               unauthenticated          401
    │   └── TokenExpired              token-expired            401   good in every other way (FM05)
    ├── Forbidden                     forbidden                403
    │   ├── ApplierNotAllowed         applier-not-allowed      403
    │   ├── NotEligible               not-eligible             403   has the role, and no say in this proposal
    │   └── ProposerCannotVote        proposer-cannot-vote     403
    ├── NotFound                      not-found                404
    │   └── UnknownTarget             unknown-target           404
    ├── RequestTimeout                request-timeout          408
    ├── IdempotencyInProgress         idempotency-in-progress  409
    ├── UnknownVersion                unknown-version          409   or 404 where it was to be read
    ├── TargetExists                  target-exists            409
    ├── TargetFrozen                  target-frozen            409
    ├── StaleBase                     stale-base               409
    ├── AlreadyCurrent                already-current          409
    ├── NotFrozen                     not-frozen               409
    ├── NotOpen                       not-open                 409
    ├── NotApproved                   not-approved             409
    ├── TimeLocked                    time-lock                409   and when it ends
    ├── PreconditionFailed            precondition-failed      412
    ├── PreconditionRequired          precondition-required    428
    ├── SigningUnavailable            signing-unavailable      503
    ├── DuplicateOpen                 duplicate-open           409
    ├── NotSimulated                  not-simulated            409   there is no plan or ballot yet
    ├── BallotClosed                  ballot-closed            409   decided, expired, or taken back
    ├── BallotSuperseded              ballot-superseded        409   an earlier epoch's, or other rules are in force
    ├── TooManyVotes                  too-many-votes           409
    ├── AlreadyApplying               already-applying         409
    ├── Overtaken                     overtaken                409   the proposal moved on while we looked
    ├── NotPublishedYet               not-published-yet        409   its entries are not all under a checkpoint
    ├── BodyErased                    body-erased              410   what it said cannot be proven any more
    ├── BodyTooLarge                  body-too-large           413
    ├── UnsupportedMediaType          unsupported-media-type   415
    ├── InvalidProposal               invalid-proposal         422
    ├── InvalidBody                   invalid-body             422
    ├── InvalidTarget                 invalid-target           422
    ├── InvalidPolicySet              invalid-policy-set       422
    ├── InvalidCorpus                 invalid-corpus           422
    ├── PatchFailed                   patch-failed             422
    ├── Unconstitutional              unconstitutional         422   whoever approved it
    ├── InvalidDocument               invalid-document         422   of validators, root or genesis
    ├── InvalidBundle                 invalid-bundle           422   what a stranger is to verify
    ├── BundleTooLarge                bundle-too-large         422   more entries than a verifier reads
    ├── BindingMismatch               binding-mismatch         422   signed well, but not what is on the ballot
    ├── BadSignature                  bad-signature            422   or an envelope that is none
    ├── WeakKey                       weak-key                 422
    ├── ProofFailed                   proof-failed             422   whoever registers a key does not hold it
    ├── IdempotencyKeyReused          idempotency-key-reused   422
    ├── RateLimited                   rate-limited             429   nothing was begun: safe to send again, later
    ├── SimulationBusy                simulation-busy          503   every worker is taken: nothing was begun
    ├── NotFounded                    not-founded              503   there is no genesis yet
    ├── NotAttested                   not-attested             503   no key to attest with
    ├── DatabaseUnavailable           database-unavailable     503   nothing was begun: safe to send again
    ├── OutcomeUnknown                outcome-unknown          503   COMMIT was sent, its answer never came
    │   └── OutcomeUnknownAtDeadline  outcome-unknown          504   the same, found out by our deadline
    ├── LogQuarantined                log-quarantined          503   a person has to look first (FM15)
    ├── LogLagging                    log-lagging              503   what was decided is not yet published
    └── QueryTimeout                  query-timeout            504   the database said no in time: nothing happened

    InvalidSettings · MigrationLocked · MigrationFailed: the process ends, with an exit code

`code` is stable and documented; `sentence` is public and holds no facts; facts are attributes. Only
`api/problems.py` turns these into HTTP.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with a body: where (JSON pointer), a stable code, a public sentence.

    Of an expression in a policy set also which rule, line and column (from 1; 0 is the expression as a whole).
    """

    pointer: str
    code: str
    message: str
    rule: str | None = None
    line: int | None = None
    column: int | None = None


class FirewallError(Exception):
    """Something the client is told about."""

    code: str = "internal-error"
    status: int = 500
    sentence: str = "The service made a mistake. It has been recorded."
    retry_after_seconds: int | None = None
    wait_seconds: float | None = None
    """The same, exactly."""
    flaws: Sequence[Flaw] = ()

    def __init__(self) -> None:
        super().__init__(self.sentence)


class InvalidRequest(FirewallError):
    """Something outside the body is not acceptable."""

    code = "invalid-request"
    status = 400
    sentence = "The request is not acceptable."

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__()
        self.sentence = sentence
        self.code = code or self.code


class InvalidCursor(InvalidRequest):
    """The cursor was altered, or belongs to another query."""

    code = "invalid-cursor"

    def __init__(self) -> None:
        super().__init__("The cursor is not one of ours for this query. Start again without it.")


class _FlawedBody(FirewallError):
    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__()
        self.flaws = tuple(flaws)


class MalformedBody(_FlawedBody):
    """The body is not strict JSON (firewall.md section 5)."""

    code = "malformed-body"
    status = 400
    sentence = "The body is not acceptable JSON."


class ClientLeft(FirewallError):
    """The client closed the connection before its body was complete."""

    code = "client-left"
    status = 400
    sentence = "The body is incomplete."


class InvalidProposal(_FlawedBody):
    """The body is JSON, but not a proposal."""

    code = "invalid-proposal"
    status = 422
    sentence = "The body is not a proposal."


class InvalidBody(_FlawedBody):
    """The body is JSON, but not what this address takes."""

    code = "invalid-body"
    status = 422
    sentence = "The body is not what this address takes."


class InvalidTarget(_FlawedBody):
    """The body is JSON, but not a target's configuration."""

    code = "invalid-target"
    status = 422
    sentence = "The body is not a target."


class InvalidPolicySet(_FlawedBody):
    """The document is JSON, but not a policy set."""

    code = "invalid-policy-set"
    status = 422
    sentence = "The document is not a policy set."


class InvalidCorpus(_FlawedBody):
    """The document is JSON, but not a corpus of recorded decisions."""

    code = "invalid-corpus"
    status = 422
    sentence = "The document is not a corpus."


class PatchFailed(FirewallError):
    """The operation at `index` cannot be applied; `cause` is a stable code, `pointer` a place in the document."""

    code = "patch-failed"
    status = 422
    sentence = "The patch cannot be applied to the document."

    def __init__(self, index: int, cause: str, pointer: str, message: str) -> None:
        super().__init__()
        self.index = index
        self.cause = cause
        self.pointer = pointer
        self.message = message
        self.flaws = (Flaw(f"/patch/{index}", cause, message),)


class Unauthenticated(FirewallError):
    """No credential, or not a good one: never says which."""

    code = "unauthenticated"
    status = 401
    sentence = "A valid API key (X-API-Key) or token (Authorization: Bearer) is required, and only one of them."


class TokenExpired(Unauthenticated):
    """The token is good in every other way: whoever holds it may know that it is only too old (FM05)."""

    code = "token-expired"
    sentence = "The token expired. Ask its issuer for a new one."


class Forbidden(FirewallError):
    """The principal is known and lacks the role."""

    code = "forbidden"
    status = 403
    sentence = "The API key's roles do not allow this."


class NotEligible(Forbidden):
    """The key or the person has no vote here. `reason`: not-a-validator, other-principal, outside-window, revoked."""

    code = "not-eligible"
    sentence = "This key has no vote on this proposal."

    def __init__(self, reason: str = "not-a-validator") -> None:
        super().__init__()
        self.reason = reason
        self.flaws = (Flaw("", reason, f"The key has no vote: {reason}."),)


class ProposerCannotVote(Forbidden):
    """Nobody votes on their own proposal: the constitution says so, no policy can say otherwise."""

    code = "proposer-cannot-vote"
    sentence = "Nobody votes on their own proposal."


class NotFound(FirewallError):
    """There is no such thing, or the principal may not know of it."""

    code = "not-found"
    status = 404
    sentence = "There is nothing at this address."


class RequestTimeout(FirewallError):
    """The client did not send its body within the request's deadline."""

    code = "request-timeout"
    status = 408
    sentence = "The body did not arrive in time."


class IdempotencyInProgress(FirewallError):
    """The first request with this key is still running."""

    code = "idempotency-in-progress"
    status = 409
    sentence = "A request with this Idempotency-Key is still running. Try again shortly."
    retry_after_seconds = 1


class UnknownTarget(NotFound):
    """There is no target of that name."""

    code = "unknown-target"
    sentence = "There is no target of that name."


class UnknownVersion(FirewallError):
    """There is no such version of the target: nothing to read (404), or nothing it could be (409)."""

    code = "unknown-version"
    status = 409
    sentence = "The target has no such version."

    def __init__(self, *, is_missing: bool = False) -> None:
        super().__init__()
        self.status = 404 if is_missing else self.status


class TargetExists(FirewallError):
    """The name is taken; a target's configuration never changes."""

    code = "target-exists"
    status = 409
    sentence = "There is a target of that name already."


class TargetFrozen(FirewallError):
    """Somebody froze the target: nothing is applied to it, and little proposed."""

    code = "target-frozen"
    status = 409
    sentence = "The target is frozen."


class StaleBase(FirewallError):
    """The version that the change starts from is not the target's current one."""

    code = "stale-base"
    status = 409
    sentence = "The proposal's base is not the target's current version. Read it again and propose on top of that."


class NotApproved(FirewallError):
    """The proposal has no quorum: not yet, not any more, or it never will."""

    code = "not-approved"
    status = 409
    sentence = "The proposal is not approved."


class TimeLocked(FirewallError):
    """The proposal is approved, and its tier makes everybody wait."""

    code = "time-lock"
    status = 409
    sentence = "The time-lock of the proposal's tier has not passed."

    def __init__(self, *, retry_after_seconds: float) -> None:
        super().__init__()
        self.retry_after_seconds = max(1, -int(-retry_after_seconds // 1))


class PreconditionRequired(FirewallError):
    """An application names the revision that it means."""

    code = "precondition-required"
    status = 428
    sentence = "The header If-Match is required: the ETag of the proposal."


class PreconditionFailed(FirewallError):
    """The proposal has another revision than the one that was meant."""

    code = "precondition-failed"
    status = 412
    sentence = "The proposal has changed. Read it again."


class ApplierNotAllowed(Forbidden):
    """Whoever proposed a change does not apply it, where the tier or its rule says so."""

    code = "applier-not-allowed"
    sentence = "The proposer does not apply this proposal; nor does nobody."


class SigningUnavailable(FirewallError):
    """The service was started without FIREWALL_SERVICE_KEY_FILE: it decides nothing."""

    code = "signing-unavailable"
    status = 503
    sentence = "This service has no key to sign decisions with. Nothing was done."
    retry_after_seconds = 60


class AlreadyCurrent(FirewallError):
    """There is nothing to go back to: the content is the current one."""

    code = "already-current"
    status = 409
    sentence = "That version's content is the current one."


class NotFrozen(FirewallError):
    """The target is not frozen."""

    code = "not-frozen"
    status = 409
    sentence = "The target is not frozen."


class NotOpen(FirewallError):
    """The proposal is decided already."""

    code = "not-open"
    status = 409
    sentence = "The proposal is not open any more."


class DuplicateOpen(FirewallError):
    """The same change of the same target is proposed already and not decided yet."""

    code = "duplicate-open"
    status = 409
    sentence = "An equal proposal for this target is still open."


class Overtaken(FirewallError):
    """The proposal is no longer in the state that the step begins in."""

    code = "overtaken"
    status = 409
    sentence = "The proposal has moved on meanwhile. Read it again."


class NotSimulated(FirewallError):
    """The proposal has no plan yet that one could look at or vote on."""

    code = "not-simulated"
    status = 409
    sentence = "The proposal has not been simulated yet."


class BallotClosed(FirewallError):
    """The vote comes too late: the proposal is decided or has expired, or the vote counts no longer anyway."""

    code = "ballot-closed"
    status = 409
    sentence = "The ballot is closed."


class BallotSuperseded(FirewallError):
    """The vote is for an earlier epoch: the rules changed, and every vote under the old ones is void."""

    code = "ballot-superseded"
    status = 409
    sentence = "The rules have changed since this ballot was opened. Read the new one when it is there."


class TooManyVotes(FirewallError):
    """A principal has changed its vote more often than anybody needs to."""

    code = "too-many-votes"
    status = 409
    sentence = "You have voted too often on this ballot."


class AlreadyApplying(FirewallError):
    """The change is on its way, or done: a rollback is what is left."""

    code = "already-applying"
    status = 409
    sentence = "The change is already being applied."


class BodyTooLarge(FirewallError):
    """The body exceeds `FIREWALL_BODY_BYTES_MAX`."""

    code = "body-too-large"
    status = 413
    sentence = "The body is larger than allowed."


class UnsupportedMediaType(FirewallError):
    """Only `application/json`, not encoded, is accepted."""

    code = "unsupported-media-type"
    status = 415
    sentence = "Send application/json in UTF-8, without a content encoding."


class NotPublishedYet(FirewallError):
    """Not all of the proposal's entries are under a checkpoint: a bundle would prove nothing."""

    code = "not-published-yet"
    status = 409
    sentence = "The log has not published everything about this proposal yet. Try again shortly."
    retry_after_seconds = 1


class BodyErased(FirewallError):
    """Something that the bundle would have to say was erased; the log itself is whole."""

    code = "body-erased"
    status = 410
    sentence = "Something that the bundle would say has been erased."


class BundleTooLarge(FirewallError):
    """More entries than a verifier reads."""

    code = "bundle-too-large"
    status = 422
    sentence = "The bundle would have more entries than a verifier reads. Replay the log instead."


class NotAttested(FirewallError):
    """This service has no key to attest with, or keeps no log."""

    code = "not-attested"
    status = 503
    sentence = "This service attests nothing."
    retry_after_seconds = 60


class InvalidBundle(_FlawedBody):
    """A bundle is not what a verifier can read."""

    code = "invalid-bundle"
    status = 422
    sentence = "The body is not a bundle."


class InvalidDocument(_FlawedBody):
    """A governing document (validators, root, genesis) is not what it must be."""

    code = "invalid-document"
    status = 422
    sentence = "The document is not acceptable."

    def __init__(self, flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(flaws)


class Unconstitutional(_FlawedBody):
    """The change of a governing document is one that nobody can allow."""

    code = "unconstitutional"
    status = 422
    sentence = "The constitution does not allow this change."


class BindingMismatch(_FlawedBody):
    """The signed bytes are not canonical, or do not say what the ballot says; each flaw is one difference."""

    code = "binding-mismatch"
    status = 422
    sentence = "What was signed is not what is to be decided."

    def __init__(self, flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(flaws)


class BadSignature(_FlawedBody):
    """The envelope is not one of ours, or its signature does not verify."""

    code = "bad-signature"
    status = 422
    sentence = "The envelope or its signature is not valid."

    def __init__(self, flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(flaws)


class WeakKey(FirewallError):
    """The public key is one for which anybody can sign, or has a second spelling."""

    code = "weak-key"
    status = 422
    sentence = "This public key is refused."

    def __init__(self, reason: str = "small-order") -> None:
        super().__init__()
        self.reason = reason
        self.flaws = (Flaw("/public_key", reason, f"The key is refused: {reason}."),)


class ProofFailed(FirewallError):
    """The proof of possession does not show that its sender holds the key."""

    code = "proof-failed"
    status = 422
    sentence = "The proof of possession does not hold."

    def __init__(self, reason: str = "bad-signature") -> None:
        super().__init__()
        self.reason = reason
        self.flaws = (Flaw("/possession", reason, f"The proof does not hold: {reason}."),)


class IdempotencyKeyReused(FirewallError):
    """The key was used for another body."""

    code = "idempotency-key-reused"
    status = 422
    sentence = "This Idempotency-Key was used with another body."


class RateLimited(FirewallError):
    """The client's bucket is empty (FM06). Whoever waits as long as it says finds a token."""

    code = "rate-limited"
    status = 429
    sentence = "Too many requests. Nothing was done. Send it again after the time given."

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds
        self.retry_after_seconds = max(1, math.ceil(wait_seconds))


class SimulationBusy(FirewallError):
    """Every simulation worker is taken and the queue before them is full."""

    code = "simulation-busy"
    status = 503
    sentence = "Too many simulations are running. Nothing was done."
    retry_after_seconds = 2


class NotFounded(FirewallError):
    """The genesis was not installed yet, so there are no rules by which anything could be decided."""

    code = "not-founded"
    status = 503
    sentence = "This firewall has not been founded yet. Nothing was done."
    retry_after_seconds = 30


class DatabaseUnavailable(FirewallError):
    """The database is gone and nothing was begun: the request may be sent again as it is (FM01)."""

    code = "database-unavailable"
    status = 503
    sentence = "The database is not available. Nothing was done."

    def __init__(self, *, retry_after_seconds: float, reason: str) -> None:
        super().__init__()
        self.retry_after_seconds = max(1, -int(-retry_after_seconds // 1))
        self.reason = reason


class OutcomeUnknown(FirewallError):
    """COMMIT was sent and its answer never came: repeat with the same Idempotency-Key to learn the outcome."""

    code = "outcome-unknown"
    status = 503
    sentence = "The outcome is not known. Repeat the request with the same Idempotency-Key."
    retry_after_seconds = 1


class OutcomeUnknownAtDeadline(OutcomeUnknown):
    """The same, found out by our own deadline."""

    status = 504


class QueryTimeout(FirewallError):
    """The database did not finish in time and has undone what it did (FM02)."""

    code = "query-timeout"
    status = 504
    sentence = "The database did not answer in time. Nothing was done."
    retry_after_seconds = 1


class LogQuarantined(FirewallError):
    """The log in the database does not extend what was published: a person has to look before anything is applied."""

    code = "log-quarantined"
    status = 503
    sentence = "The log is in quarantine. Nothing is applied until an operator has recovered it."
    retry_after_seconds = 60


class LogLagging(FirewallError):
    """No checkpoint covers what happened a while ago: changes of a high tier wait for it."""

    code = "log-lagging"
    status = 503
    sentence = "The log is behind. Changes of this tier are applied when it has caught up."
    retry_after_seconds = 5


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """What is wrong with one setting, in one line; never its value (FM16)."""

    name: str
    what: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; accepted: {self.accepted}"


class InvalidSettings(Exception):
    """The settings are not acceptable; every problem with them (FM16)."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        super().__init__(f"{len(problems)} problem(s)")
        self.problems = tuple(problems)


class MigrationLocked(Exception):
    """Another runner holds the migration lock (FM11)."""


class MigrationFailed(Exception):
    """A migration did not apply or roll back; the database is as it was before it (FM11)."""

    def __init__(self, migration: str, sqlstate: str | None) -> None:
        super().__init__(f"{migration} failed (SQLSTATE {sqlstate or 'unknown'})")
        self.migration = migration
        self.sqlstate = sqlstate
